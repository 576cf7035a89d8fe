//! The programs of this machine that a fetch or a run starts, each asked for its version with a deadline.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::check::{Check, Need};
use crate::error::Reason;
use crate::fetch::github;
use crate::host::Host;

/// More than any program's version needs; the rest is read and dropped.
const LIMIT: u64 = 64 << 10;
const POLL: Duration = Duration::from_millis(5);

const GIT: Need<'_> = Need {
    id: "git",
    needed_for: "run (agents work in a git repository); builds need none",
    expected: "git on PATH",
    reason: Reason::GitMissing,
    required: false,
};
const PYTHON: Need<'_> = Need {
    id: "python3",
    needed_for: "run (the tests of a fixture)",
    expected: "Python 3 on PATH",
    reason: Reason::PythonMissing,
    required: true,
};
const PIP: Need<'_> = Need { id: "pip", expected: "pip for that Python", ..PYTHON };
const GZIP: Need<'_> = Need {
    id: "gnu_gzip",
    needed_for: "fetch (packages hosted on GitHub, taken from a local mirror)",
    expected: "GNU gzip on PATH",
    reason: Reason::GnuGzipMissing,
    required: false,
};

pub(super) fn programs(host: &Host, patience: Duration) -> Vec<Check> {
    let ask = |need: Need<'_>, fix, name, args: &[&str], accept: fn(&str) -> bool| {
        let found = version(host, patience, name, args, accept);
        found.map_or_else(|found| need.failed(found, fix), |found| need.ok(found))
    };
    vec![
        ask(GIT, "install git, and have it on PATH", "git", &["--version"], |out| {
            out.starts_with("git version ")
        }),
        ask(
            PYTHON,
            "install Python 3, and have python3 on PATH",
            "python3",
            &["--version"],
            |out| out.starts_with("Python 3."),
        ),
        ask(
            PIP,
            "install pip for that Python (python3-pip, or python3 -m ensurepip)",
            "python3",
            &["-m", "pip", "--version"],
            |out| out.starts_with("pip "),
        ),
        ask(
            GZIP,
            "install GNU gzip, and have it first on PATH",
            "gzip",
            &["--version"],
            github::is_gnu_gzip,
        ),
    ]
}

/// The first line that a program prints where `accept` says that it is the right one, with its path; else what is wrong.
fn version(
    host: &Host,
    patience: Duration,
    name: &str,
    args: &[&str],
    accept: fn(&str) -> bool,
) -> Result<String, String> {
    let path = host.program(name).ok_or_else(|| format!("no {name} on PATH"))?;
    let shown = path.display();
    match run(host, &path, args, patience) {
        Ok(Ran::Ended { success: true, stdout, .. }) if accept(&stdout) => {
            Ok(format!("{} ({shown})", words(stdout.trim().lines().next())))
        }
        Ok(Ran::Ended { success: true, stdout, .. }) => {
            Err(format!("{shown} says: {}", words(stdout.trim().lines().next())))
        }
        Ok(Ran::Ended { stdout, stderr, .. }) => {
            let text = if stderr.trim().is_empty() { stdout } else { stderr };
            Err(format!("{shown} {} failed: {}", args.join(" "), words(text.trim().lines().last())))
        }
        Ok(Ran::TimedOut) => Err(format!(
            "{shown} {} did not end within {} s",
            args.join(" "),
            patience.as_secs_f32()
        )),
        Err(e) => Err(format!("{shown} cannot be started: {e}")),
    }
}

/// A line of a foreign program, without control characters for the terminal.
fn words(line: Option<&str>) -> String {
    let line = line.unwrap_or_default().trim();
    let text: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    if text.is_empty() { "nothing".into() } else { text }
}

#[derive(Debug)]
pub(super) enum Ran {
    Ended {
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
        // The receiver is gone after a deadline.
        let _ = give.send(out);
    });
    take
}
