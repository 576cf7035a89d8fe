//! The engine for one machine: every task in a process of its own, so many at a time.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::directory::{Campaign, LOGS};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::host;

/// How often the engine looks whether it was told to stop.
const TICK: Duration = Duration::from_millis(50);

/// Does every task that has no score, `jobs` at a time; an attempt that ended 75 is followed by another while there are any.
/// Told to stop, it tells the runs, waits until they are sealed and starts no more.
///
/// # Errors
/// Where a process cannot be started at all. How a run ends is no error.
pub fn run(context: &Context, campaign: &Campaign, jobs: usize) -> Result<()> {
    host::enough_tasks()?;
    let logs = campaign.dir.join(LOGS);
    std::fs::create_dir_all(&logs).map_err(|err| Error::io("make", &logs, err))?;
    let todo: Mutex<VecDeque<u32>> = Mutex::new((0..campaign.plan.tasks()).collect());
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let next = || todo.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let done = std::sync::atomic::AtomicU32::new(0);
    let total = campaign.plan.tasks();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(index) = next() {
                    if stopped(context) {
                        return;
                    }
                    if let Err(err) = task(context, campaign, index, &logs) {
                        let mut first = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        first.get_or_insert(err);
                        todo.lock().unwrap_or_else(PoisonError::into_inner).clear();
                        return;
                    }
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    context.progress.stage("campaign", &format!("{done} of {total} tasks"));
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn stopped(context: &Context) -> bool {
    context.stop.load(Ordering::SeqCst) != 0
}

fn task(context: &Context, campaign: &Campaign, index: u32, logs: &Path) -> Result<()> {
    for _ in 0..campaign.plan.attempts {
        if stopped(context) {
            return Ok(());
        }
        let again = Some(i32::from(Kind::Stopped.exit_code()));
        if attempt(context, campaign, index, logs)? != again {
            return Ok(());
        }
    }
    Ok(())
}

/// One attempt in a process of its own: its exit code, `None` where a signal ended it.
fn attempt(context: &Context, campaign: &Campaign, index: u32, logs: &Path) -> Result<Option<i32>> {
    let path = logs.join(format!("{index:06}.txt"));
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    let log = log.map_err(|err| Error::io("write", &path, err))?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["campaign", "task"])
        .arg(&campaign.dir)
        .args(["--index", &index.to_string(), "--engine", "local"])
        .args(["--plan", &campaign.digest.to_string()])
        .arg("--quiet")
        .args(context.flags()?)
        .args(["--state".into(), state(context)?])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let mut child = command.spawn().map_err(|err| Error::io("start", "admit itself", err))?;
    let mut told = false;
    loop {
        match child.try_wait().map_err(|err| Error::io("wait for", "a task", err))? {
            Some(status) => return Ok(status.code()),
            None if stopped(context) && !told => {
                told = true;
                host::terminate(&child);
            }
            None => {}
        }
        std::thread::sleep(TICK);
    }
}

fn state(context: &Context) -> Result<std::ffi::OsString> {
    let runs = context.runs_dir()?;
    Ok(runs.parent().unwrap_or(&runs).as_os_str().to_owned())
}
