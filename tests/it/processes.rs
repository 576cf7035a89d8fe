//! Processes of this machine: those of a test, waited for, signalled, and gone.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::util::project;

/// Waits until `done` or fails; for processes that end by themselves.
#[track_caller]
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < end, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn all() -> impl Iterator<Item = Pid> {
    let names = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| Pid::from_raw(name.to_str()?.parse().ok()?))
}

/// The processes that have `marker` in this file of theirs, such as `cmdline`.
pub fn marked_in(file: &str, marker: &str) -> impl Iterator<Item = Pid> {
    all().filter(move |pid| {
        let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        text.windows(marker.len()).any(|w| w == marker.as_bytes())
    })
}

/// The processes that have `marker` in their arguments.
pub fn marked(marker: &str) -> impl Iterator<Item = Pid> {
    marked_in("cmdline", marker)
}

/// Whether a process has `marker` in its arguments.
pub fn alive(marker: &str) -> bool {
    marked(marker).next().is_some()
}

/// Sends a signal to each process that has `marker` in its arguments: one that only this test uses.
pub fn kill_marked(marker: &str, signal: Signal) {
    marked(marker).for_each(|pid| send(pid, signal));
}

/// Sends a signal to a process, which may have ended meanwhile.
pub fn send(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}

/// A process by its id and the time of its start, so that a new one of the same id is not taken for it.
pub type Process = (Pid, String);

/// Parent and start of a process that is not merely waited for.
pub fn stat(pid: Pid) -> Option<(Option<Pid>, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; what follows its last bracket does not (proc_pid_stat(5)).
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let parent = Pid::from_raw(fields[1].parse().ok()?);
    (fields[0] != "Z" && fields[0] != "X").then(|| (parent, fields[19].to_owned()))
}

/// Everything that descends from `root`, itself included.
pub fn family(root: Pid) -> Vec<Process> {
    let all: Vec<_> = all().filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let mut pids = vec![root];
    let mut at = 0;
    while let Some(of) = pids.get(at).copied() {
        pids.extend(all.iter().filter(|(_, (parent, _))| *parent == Some(of)).map(|(pid, _)| *pid));
        at += 1;
    }
    all.into_iter().filter(|(pid, _)| pids.contains(pid)).map(|(pid, (_, s))| (pid, s)).collect()
}

#[track_caller]
pub fn nobody_lives(family: &[Process]) {
    let lives = |(pid, start): &Process| stat(*pid).is_some_and(|(_, now)| now == *start);
    wait_for("the end of all of it", Duration::from_secs(60), || !family.iter().any(lives));
}

/// Most memory that a process ever had, in KiB. The kernel keeps the number in parts, one a processor, and reads it without
/// adding them up exactly, so that a later answer can be a little below an earlier one.
pub fn peak(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// This test program once more, with one test: in a process of its own.
pub fn this_test(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env("CARGO_MANIFEST_DIR", project());
    command
}
