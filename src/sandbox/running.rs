//! A command that runs in a sandbox: waiting with a deadline, freezing, ending it.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::capture::{Captured, Drain};
use super::message::{FromBox, ToBox, receive, send};
use super::spawn::{Sandbox, unexpected};
use crate::error::{Error, Result};

/// Which clock ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The command's wall time.
    Wall,
    /// A clock of the caller's, who then called [`Running::terminate`].
    Caller,
}

/// How a command ended.
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
    /// From the start to the end.
    pub duration: Duration,
    /// Largest resident set of any of its processes, in KiB.
    pub max_rss_kib: u64,
    /// Processor time of all its processes.
    pub cpu: Duration,
    /// Processes that it left behind and that were killed.
    pub leftovers: u32,
}

/// The bare end of a command: wait status, leftovers, largest resident set in KiB, processor time in microseconds.
#[derive(Debug, Clone, Copy)]
struct End {
    status: i32,
    leftovers: u32,
    max_rss_kib: u64,
    cpu_us: u64,
    after: Duration,
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

/// How long to read what is left in the pipes once nobody is alive to write more.
const DRAIN: Duration = Duration::from_secs(2);

impl<'a> Running<'a> {
    pub(super) fn new(sandbox: &'a mut Sandbox, drain: Drain, grace: Duration) -> Self {
        Self {
            sandbox,
            drain: Some(drain),
            begin: Instant::now(),
            grace,
            timed_out: None,
            end: None,
        }
    }

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

    /// Reads the one message that ends a command.
    fn hear(&mut self) -> Result<i32> {
        match self.receive()? {
            FromBox::Exited { status, leftovers, max_rss_kib, cpu_us } => {
                let after = self.begin.elapsed();
                self.end = Some(End { status, leftovers, max_rss_kib, cpu_us, after });
                Ok(status)
            }
            other => Err(unexpected(Some(other))),
        }
    }

    fn receive(&self) -> Result<FromBox> {
        match receive::<FromBox>(&self.sandbox.control) {
            Ok(Some((message, _))) => Ok(message),
            Ok(None) => Err(unexpected(None)),
            Err(err) => Err(Error::io("hear from", "the sandbox", err)),
        }
    }

    fn tell(&self, message: &ToBox) -> Result<()> {
        send(&self.sandbox.control, message, &[])
            .map_err(|e| Error::io("talk to", "the sandbox", e))
    }

    /// When the last byte of output came, or the start.
    pub fn last_output(&self) -> Instant {
        self.drain.as_ref().map_or(self.begin, Drain::last)
    }

    /// Standard output and error so far.
    pub fn output(&self) -> Option<[Captured; 2]> {
        self.drain.as_ref().map(Drain::so_far)
    }

    /// Sends a signal to every process inside but init.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.tell(&ToBox::Signal(signal))
    }

    /// Stops every process inside but init, and returns when all of them stand still: how many there are. `None` when
    /// the command ended first.
    pub fn freeze(&mut self) -> Result<Option<u32>> {
        if self.end.is_some() {
            return Ok(None);
        }
        self.tell(&ToBox::Freeze)?;
        loop {
            match self.receive()? {
                FromBox::Frozen(count) => return Ok((self.end.is_none()).then_some(count)),
                // It ended while we asked; the answer to the question still comes.
                FromBox::Exited { status, leftovers, max_rss_kib, cpu_us } => {
                    let after = self.begin.elapsed();
                    self.end = Some(End { status, leftovers, max_rss_kib, cpu_us, after });
                }
                other => return Err(unexpected(Some(other))),
            }
        }
    }

    /// Lets everyone go on after [`Running::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.tell(&ToBox::Thaw)
    }

    /// Ends the command because the clock `which` ran out: SIGTERM to everyone (and SIGCONT, should they be frozen), the
    /// command's grace, then SIGKILL.
    pub fn terminate(&mut self, which: Clock) -> Result<()> {
        if self.end.is_some() {
            return Ok(());
        }
        self.timed_out = Some(which);
        self.signal(libc::SIGTERM)?;
        self.signal(libc::SIGCONT)?;
        if self.wait(Some(self.grace))?.is_none() {
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

    /// Waits for the end and returns everything about the command.
    pub fn finish(mut self) -> Result<Finished> {
        let wait_status = match self.wait(None)? {
            Some(status) => status,
            None => return Err(unexpected(None)),
        };
        let (Some(end), Some(drain)) = (self.end, self.drain.take()) else {
            return Err(unexpected(None));
        };
        let [stdout, stderr] = drain.finish(DRAIN);
        Ok(Finished {
            exit: self.timed_out.map_or(exit(wait_status), |which| Exit::TimedOut { which }),
            wait_status,
            stdout,
            stderr,
            duration: end.after,
            max_rss_kib: end.max_rss_kib,
            cpu: Duration::from_micros(end.cpu_us),
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
