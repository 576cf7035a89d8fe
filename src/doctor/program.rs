//! Asking a program of this machine for its version, with a deadline.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::host::Host;

/// More than any program's version needs; the rest is read and dropped.
const LIMIT: u64 = 64 << 10;
/// How often an answer is looked for.
const POLL: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) enum Ran {
    Ended {
        /// Whether its exit code was 0.
        success: bool,
        /// The start of what it wrote.
        stdout: String,
        /// The same for its errors.
        stderr: String,
    },
    /// It did not end in time, and was killed with its process group.
    TimedOut,
}

/// Runs `path` with the host's `PATH` and `HOME`, without input, in a process group of its own.
pub(super) fn run(host: &Host, path: &Path, args: &[&str], patience: Duration) -> io::Result<Ran> {
    let mut command = Command::new(path);
    // Python would leave compiled files where it may.
    command.args(args).env_clear().env("LC_ALL", "C").env("PYTHONDONTWRITEBYTECODE", "1");
    for name in ["PATH", "HOME"] {
        if let Some(value) = host.path_var(name) {
            command.env(name, value);
        }
    }
    let mut child = command
        // Python looks for modules in the working directory first, and nobody else writes here.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let end = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= end {
            break None;
        }
        std::thread::sleep(POLL);
    };
    if status.is_none() {
        if let Some(group) = group {
            // Gone already is fine.
            let _ = kill_process_group(group, Signal::KILL);
        }
        child.wait()?;
        return Ok(Ran::TimedOut);
    }
    // A child of it may hold the pipe open for ever; what came by then counts.
    let text = |from: Receiver<Vec<u8>>| {
        let rest = end.saturating_duration_since(Instant::now()).max(POLL);
        String::from_utf8_lossy(&from.recv_timeout(rest).unwrap_or_default()).into_owned()
    };
    let success = status.is_some_and(|s| s.success());
    Ok(Ran::Ended { success, stdout: text(stdout), stderr: text(stderr) })
}

/// Reads a pipe to its end in a thread of its own.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (give, take) = channel();
    std::thread::spawn(move || {
        let mut out = Vec::new();
        if let Some(mut pipe) = pipe {
            // An error ends the text there.
            let _ = pipe.by_ref().take(LIMIT).read_to_end(&mut out);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        // Nobody listens any more after a deadline.
        let _ = give.send(out);
    });
    take
}
