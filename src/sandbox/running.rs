//! A command that runs in a sandbox: waiting with a deadline, freezing, ending it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::capture::{Captured, Drain, Sink};
use super::explain::sentence;
use super::message::{End, FromInit, ToInit, receive, send};
use super::policy::Command;
use super::spawn::Sandbox;
use crate::error::{Error, Reason, Result};
use crate::stop;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    Wall,
    /// A clock of the caller's, who then called [`Running::terminate`].
    Caller,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// A clock ran out, and it was ended.
    TimedOut {
        which: Clock,
    },
    /// It went over a resource limit, named here.
    Limit {
        /// The limit, as in getrlimit(2).
        what: &'static str,
    },
}

/// A command that ended, with everything that it left running killed.
#[derive(Debug)]
pub struct Finished {
    pub exit: Exit,
    /// The raw wait status of its first process.
    pub wait_status: i32,
    pub stdout: Captured,
    pub stderr: Captured,
    /// Largest resident set of any of its processes, in KiB.
    pub max_rss_kib: u64,
    /// Processes that it left behind and that were killed.
    pub leftovers: u32,
}

impl Finished {
    /// The signal by which its first process was ended, where it is one that no process brings on itself. Who sent it the
    /// kernel does not say.
    pub fn killed(&self) -> Option<i32> {
        match self.exit {
            Exit::Signal(signal) if stop::ends_others(signal) => Some(signal),
            _ => None,
        }
    }

    /// Itself, unless such a signal ended it: for what admit asks, and what nobody had a reason to end.
    ///
    /// # Errors
    /// [`Reason::KilledFromOutside`].
    pub fn not_killed(self, what: &str) -> Result<Self> {
        match self.killed() {
            Some(signal) => Err(super::explain::killed_inside(what, signal)),
            None => Ok(self),
        }
    }
}

/// A command that runs. Dropped without [`Running::finish`], it is killed.
pub struct Running<'a> {
    sandbox: &'a mut Sandbox,
    drain: Option<Drain>,
    begin: Instant,
    grace: Duration,
    timed_out: Option<Clock>,
    end: Option<End>,
}

/// How long to read what is left in the pipes once no process is left that could write more.
const DRAIN: Duration = Duration::from_secs(2);

impl<'a> Running<'a> {
    pub fn sandbox(&self) -> &Sandbox {
        self.sandbox
    }

    /// Waits for the end of the command's first process for at most `patience`, for ever with `None`. The end of its
    /// output does not matter, nor do processes that it leaves: those are killed. `Some` when it ended: the raw wait
    /// status.
    pub fn wait(&mut self, patience: Option<Duration>) -> Result<Option<i32>> {
        if let Some(end) = self.end {
            return Ok(Some(end.status));
        }
        // A patience beyond what the clock can hold is no limit.
        let until = patience.and_then(|p| Instant::now().checked_add(p));
        loop {
            let left = until.map(|t| t.saturating_duration_since(Instant::now()));
            let timeout = left.map(|d| Timespec {
                tv_sec: d.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: d.subsec_nanos().into(),
            });
            let mut poll = [PollFd::new(&self.sandbox.control, PollFlags::IN)];
            match rustix::event::poll(&mut poll, timeout.as_ref()) {
                Ok(0) => return Ok(None),
                Ok(_) => return self.hear().map(Some),
                Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(Error::io("wait for", "the sandbox", err.into())),
            }
        }
    }

    fn hear(&mut self) -> Result<i32> {
        match self.receive()? {
            FromInit::Exited(end) => {
                self.end = Some(end);
                Ok(end.status)
            }
            other => Err(unexpected(other)),
        }
    }

    fn receive(&self) -> Result<FromInit> {
        match receive::<FromInit>(&self.sandbox.control) {
            Ok(Some((message, _))) => Ok(message),
            Ok(None) => Err(self.sandbox.gone(None)),
            Err(err) => Err(self.sandbox.gone(Some(err))),
        }
    }

    fn tell(&self, message: &ToInit) -> Result<()> {
        send(&self.sandbox.control, message, &[]).map_err(|err| self.sandbox.gone(Some(err)))
    }

    /// When the last byte of output came, or the start.
    pub fn last_output(&self) -> Instant {
        self.drain.as_ref().map_or(self.begin, Drain::last)
    }

    pub fn output(&self) -> Option<[Captured; 2]> {
        self.drain.as_ref().map(Drain::so_far)
    }

    pub fn signal(&self, signal: i32) -> Result<()> {
        self.tell(&ToInit::Signal(signal))
    }

    /// Stops every process inside but init, and returns when all of them stand still: how many there are. `None` when
    /// the command ended first.
    pub fn freeze(&mut self) -> Result<Option<u32>> {
        if self.end.is_some() {
            return Ok(None);
        }
        self.tell(&ToInit::Freeze)?;
        loop {
            match self.receive()? {
                FromInit::Frozen(count) => return Ok((self.end.is_none()).then_some(count)),
                // It ended while we asked; the answer to the question still comes.
                FromInit::Exited(end) => self.end = Some(end),
                other => return Err(unexpected(other)),
            }
        }
    }

    pub fn thaw(&self) -> Result<()> {
        self.tell(&ToInit::Thaw)
    }

    /// Ends the command because the clock `which` ran out: SIGTERM to everyone (and SIGCONT, should they be frozen), the
    /// command's grace, then SIGKILL.
    pub fn terminate(&mut self, which: Clock) -> Result<()> {
        self.terminate_within(which, self.grace)
    }

    /// The same, with another grace than the command's.
    pub fn terminate_within(&mut self, which: Clock, grace: Duration) -> Result<()> {
        if self.end.is_some() {
            return Ok(());
        }
        self.timed_out = Some(which);
        self.signal(libc::SIGTERM)?;
        self.signal(libc::SIGCONT)?;
        if self.wait(Some(grace))?.is_none() {
            self.kill()?;
        }
        Ok(())
    }

    /// SIGKILL to everyone inside but init, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        if self.end.is_none() {
            self.signal(libc::SIGKILL)?;
            self.wait(None)?;
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Finished> {
        let wait_status = match self.wait(None)? {
            Some(status) => status,
            None => return Err(self.sandbox.gone(None)),
        };
        let (Some(end), Some(drain)) = (self.end, self.drain.take()) else {
            return Err(Error::new(Reason::Internal, "a command that ended without its output"));
        };
        let [stdout, stderr] = drain.finish(DRAIN);
        Ok(Finished {
            exit: self.timed_out.map_or(exit(wait_status), |which| Exit::TimedOut { which }),
            wait_status,
            stdout,
            stderr,
            max_rss_kib: end.max_rss_kib,
            leftovers: end.leftovers,
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // The sandbox may be used again, so nothing of this command may be left. Where that fails, init is gone.
        let _ = self.kill();
    }
}

impl Sandbox {
    /// Starts a command. Only one runs at a time; the next one finds everything that files keep, and no process.
    ///
    /// # Errors
    /// [`Reason::StepFailed`] where the program could not be started.
    pub fn spawn(&mut self, command: &Command, sink: Option<Sink>) -> Result<Running<'_>> {
        let io = |what: &'static str| move |e| Error::io(what, "the sandbox", e);
        let stdin = stdin(&command.stdin).map_err(io("make standard input for"))?;
        let (out_read, out_write) = std::io::pipe().map_err(io("make a pipe for"))?;
        let (err_read, err_write) = std::io::pipe().map_err(io("make a pipe for"))?;
        let message = ToInit::Spawn(command.clone());
        send(&self.control, &message, &[stdin.as_fd(), out_write.as_fd(), err_write.as_fd()])
            .map_err(|err| self.gone(Some(err)))?;
        drop((stdin, out_write, err_write));
        match receive::<FromInit>(&self.control).map_err(|err| self.gone(Some(err)))? {
            Some((FromInit::Started, _)) => {}
            Some((FromInit::NotStarted(failure), _)) => {
                return Err(Error::new(Reason::StepFailed, "a command could not be started")
                    .at(command.argv.join(" "))
                    .caused_by(sentence(&failure)));
            }
            Some((other, _)) => return Err(unexpected(other)),
            None => return Err(self.gone(None)),
        }
        let caps = [command.stdout_cap, command.stderr_cap];
        let drain = Drain::start(out_read, err_read, caps, sink).map_err(io("drain"))?;
        Ok(Running {
            sandbox: self,
            drain: Some(drain),
            begin: Instant::now(),
            grace: command.grace,
            timed_out: None,
            end: None,
        })
    }

    /// Runs a command to its end, or to the end of its wall time: then SIGTERM, its grace, SIGKILL.
    pub fn run(&mut self, command: &Command) -> Result<Finished> {
        let mut running = self.spawn(command, None)?;
        if running.wait(Some(command.wall))?.is_none() {
            running.terminate(Clock::Wall)?;
        }
        running.finish()
    }
}

fn unexpected(message: FromInit) -> Error {
    match message {
        FromInit::Failed(failure) => {
            Error::new(Reason::Internal, "the sandbox's init failed").caused_by(sentence(&failure))
        }
        other => Error::new(Reason::Internal, format!("the sandbox said {other:?}")),
    }
}

/// An anonymous file holding `bytes`, at its start.
fn stdin(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    use std::io::{Seek, Write};
    if bytes.is_empty() {
        return Ok(std::fs::File::open("/dev/null")?.into());
    }
    let fd = rustix::fs::memfd_create("stdin", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// Reads a wait status (wait(2)).
fn exit(status: i32) -> Exit {
    if libc::WIFEXITED(status) {
        return Exit::Code(libc::WEXITSTATUS(status));
    }
    match libc::WTERMSIG(status) {
        libc::SIGXFSZ => Exit::Limit { what: "RLIMIT_FSIZE" },
        libc::SIGXCPU => Exit::Limit { what: "RLIMIT_CPU" },
        signal => Exit::Signal(signal),
    }
}
