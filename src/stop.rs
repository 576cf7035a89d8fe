//! Being told to stop: every signal that would end admit, and that can be taken, sets a flag, which the work looks at, so
//! that it comes to an end of its own and what it knows is sealed. What stands where no flag is looked at (a name that does
//! not resolve, a file system that does not answer) is ended from here: what was left to do is done, and the process goes.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, Reason, Result};

/// How long the work has for an end of its own. Schedulers wait half a minute and more, people do not.
const GRACE: Duration = Duration::from_millis(1200);
/// How long after a signal the same one still comes by another way.
const ECHO: Duration = Duration::from_millis(300);
/// How long an end that has begun may still take.
const ENDING: Duration = Duration::from_secs(5);

/// The signals whose default ends a process (signal(7)) and by which somebody, or a limit of time, ends one. Schedulers let
/// their users choose. Not here: SIGKILL, which nobody can take, faults of a process itself, and SIGPIPE and SIGXFSZ: a
/// reader that went away and a file that may not grow are failed writes.
const NAMED: [i32; 13] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGXCPU,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
];
/// Those of [`NAMED`] that a process brings on itself, by a timer or a limit.
const OWN: [i32; 4] = [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF, libc::SIGXCPU];

/// Every signal by which admit is told to stop. A real-time signal ends a process as well, where nobody takes it.
pub fn signals() -> impl Iterator<Item = i32> {
    NAMED.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

/// What was left to do is done.
pub struct Done {
    pub code: u8,
    /// The command's answer, where there is one.
    pub answer: Option<serde_json::Value>,
}

/// Does what is left to do, given the signal's number; `None` where the work is at it itself.
type Last = Box<dyn FnOnce(usize) -> Option<Done> + Send>;

/// Signals come to the process, and so does this belong to the process.
static LEFT: Mutex<Left> = Mutex::new(Left {
    next: 0,
    last: BTreeMap::new(),
    groups: BTreeMap::new(),
    ending: false,
    ended: false,
});

#[derive(Default)]
struct Left {
    next: u64,
    last: BTreeMap<u64, Last>,
    /// Process groups of programs that were started and have not ended.
    groups: BTreeMap<u64, Pid>,
    /// The groups that were there are ended; what comes now is too late.
    ending: bool,
    /// Work came to an end of its own after that: its answer is still to be given.
    ended: bool,
}

impl Left {
    fn remove(&mut self, id: u64) -> Option<Last> {
        self.groups.remove(&id);
        let work = self.last.remove(&id);
        self.ended |= self.ending && work.is_some();
        work
    }

    /// What is left to do, in the order in which it was begun. Work that has ended by itself gives its own answer.
    fn take(&mut self) -> Vec<Last> {
        let work: Vec<Last> = std::mem::take(&mut self.last).into_values().collect();
        match work.is_empty() && self.ended {
            true => vec![Box::new(|_| None)],
            false => work,
        }
    }
}

fn left() -> MutexGuard<'static, Left> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that is left to do as long as this value lives.
pub struct Pending(u64);

impl Drop for Pending {
    fn drop(&mut self) {
        // Dropped after the lock is let go: it may hold what registers itself here.
        let work = left().remove(self.0);
        drop(work);
    }
}

/// Has `work` done before the process goes, should it be told to stop and the work not end by itself.
pub fn at_last(work: impl FnOnce(usize) -> Option<Done> + Send + 'static) -> Pending {
    let mut left = left();
    left.next += 1;
    let id = left.next;
    left.last.insert(id, Box::new(work));
    Pending(id)
}

/// Runs a program to its end, in a process group of its own, which ends at once when admit is told to stop.
pub fn output(command: &mut Command) -> std::io::Result<Output> {
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn()?;
    let _pending = group(child.id());
    child.wait_with_output()
}

/// Whether `signal` is one by which somebody, or the machine, ends a process: none that a process brings on itself.
pub fn ends_others(signal: i32) -> bool {
    signal == libc::SIGKILL || signals().any(|other| other == signal) && !OWN.contains(&signal)
}

/// Has the process group of this leader end at once when admit is told to stop, as long as what this gives lives.
pub fn group(leader: u32) -> Option<Pending> {
    let group = i32::try_from(leader).ok().and_then(Pid::from_raw)?;
    let mut left = left();
    left.next += 1;
    let id = left.next;
    left.groups.insert(id, group);
    if left.ending {
        let _ = kill_process_group(group, Signal::KILL);
    }
    Some(Pending(id))
}

/// Has the signals set `flag` to their number. A second SIGINT, from a person who will not wait, ends the process at once; a
/// second SIGTERM is the same one: schedulers tell every process of a job, and the job's shell passes it on.
pub fn note(flag: &Arc<AtomicUsize>) -> Result<()> {
    let once = Arc::new(AtomicBool::new(false));
    watch(flag, &once)?;
    // After what looks at it: the first signal finds the switch off.
    signal_hook::flag::register(libc::SIGINT, once).map_err(failed)?;
    Ok(())
}

/// `once` is the switch that has a SIGINT end the process.
fn watch(flag: &Arc<AtomicUsize>, once: &Arc<AtomicBool>) -> Result<()> {
    signal_hook::flag::register_conditional_default(libc::SIGINT, Arc::clone(once))
        .map_err(failed)?;
    for signal in signals() {
        let value = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_usize(signal, Arc::clone(flag), value).map_err(failed)?;
    }
    Ok(())
}

/// As [`note`]; `hear` is called at the first signal. Where the process has not ended in time after it, what is left to do
/// is done, and `say` is told the signal's number and the answer before the process goes.
pub fn heed(
    flag: &Arc<AtomicUsize>,
    hear: impl FnOnce() + Send + 'static,
    say: impl FnOnce(usize, Option<serde_json::Value>) + Send + 'static,
) -> Result<()> {
    let once = Arc::new(AtomicBool::new(false));
    watch(flag, &once)?;
    // After the flag was set, since actions are taken in the order in which they were asked for. One socket for all of them:
    // a process may have few descriptors.
    let mut heard = signal_hook::iterator::Signals::new(signals()).map_err(failed)?;
    let flag = Arc::clone(flag);
    #[expect(clippy::disallowed_methods, reason = "main is what does not come to its end")]
    std::thread::spawn(move || {
        if heard.forever().next().is_some() {
            let signal = flag.load(Ordering::SeqCst);
            // Whoever reads what it says may have stopped reading, and the end must not wait for that.
            std::thread::spawn(hear);
            let done = end(signal, &once);
            say(signal, done.answer);
            std::process::exit(i32::from(done.code));
        }
    });
    Ok(())
}

fn failed(err: std::io::Error) -> Error {
    Error::io("watch for", "signals", err)
}

/// For work that finds out that what was left to do has been done in its place: the answer comes from there, and the process
/// goes with it. Returns only where that takes longer than any end may.
pub fn give_way() {
    std::thread::sleep(ENDING);
}

/// Waits for the work's own end, then does what is left to do. `once` is the switch for the second SIGINT.
fn end(signal: usize, once: &AtomicBool) -> Done {
    {
        let mut left = left();
        left.ending = true;
        for group in left.groups.values() {
            // One that has ended meanwhile is none to end.
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }
    // A terminal tells every process of a group, and who passes signals on tells admit again.
    std::thread::sleep(ECHO);
    once.store(true, Ordering::SeqCst);
    std::thread::sleep(GRACE - ECHO);
    let work = left().take();
    let mut done = Done { code: Reason::Interrupted.kind().exit_code(), answer: None };
    // The last that was begun goes first.
    for last in work.into_iter().rev() {
        match last(signal) {
            Some(own) => done = own,
            None => std::thread::sleep(ENDING),
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_heard_to_its_end_and_work_that_is_done_is_not_left() {
        let output = output(Command::new("/bin/sh").args(["-c", "echo out; echo err >&2; exit 3"]));
        let output = output.unwrap();
        assert_eq!((output.stdout, output.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
        assert_eq!(output.status.code(), Some(3));
        let (told, heard) = std::sync::mpsc::channel();
        drop(at_last(move |signal| {
            told.send(signal).unwrap();
            None
        }));
        assert!(heard.recv().is_err(), "dropped, and never called");
    }

    #[test]
    fn work_that_ends_by_itself_after_the_signal_gives_its_own_answer() {
        let of = |ending| {
            let mut left = Left { ending, ..Left::default() };
            left.last.insert(1, Box::new(|_| None));
            drop(left.remove(1));
            left.take().len()
        };
        assert_eq!(of(false), 0, "what ended before it was told to stop is not waited for");
        assert_eq!(of(true), 1, "the process does not go before the answer was given");
    }
}
