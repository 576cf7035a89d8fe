//! Knowing that everyone stands still.

use std::time::Duration;

use super::failure::{Failure, Result};
use super::sys::{self, Named as _};

/// Waits until every process but this one is stopped or dead, and counts the stopped ones.
///
/// A process that started another by vfork(2) sleeps uninterruptibly until that one calls execve or ends; when that one
/// is stopped before it could, the parent cannot go on either, nor can it stop. So a process in that state with a
/// stopped child stands still too, once it was seen so for a while: a disk would have answered by then.
pub fn standstill() -> Result<u32> {
    let step = "freeze";
    let mut blocked_for = 0;
    for _ in 0..20_000 {
        let all = processes().map_err(Failure::of(step))?;
        let stopped = |p: &&Process| matches!(p.state, 'T' | 't');
        let waits = |p: &Process| {
            p.state == 'D' && all.iter().any(|child| child.parent == p.pid && stopped(&child))
        };
        let moving =
            all.iter().filter(|p| !stopped(p) && !matches!(p.state, 'Z' | 'X')).collect::<Vec<_>>();
        blocked_for = if moving.iter().all(|p| waits(p)) { blocked_for + 1 } else { 0 };
        if moving.is_empty() || blocked_for > 100 {
            let count = all.iter().filter(stopped).count() + moving.len();
            return Ok(u32::try_from(count).unwrap_or(u32::MAX));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Err(Failure::plain(step, "a process did not stop within two seconds"))
}

struct Process {
    pid: i32,
    parent: i32,
    state: char,
}

/// Every process inside but this one.
fn processes() -> sys::Result<Vec<Process>> {
    let list = std::fs::read_dir("/proc").named("readdir(/proc)")?;
    let pids = list.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    Ok(pids
        .filter(|pid| *pid != 1)
        .filter_map(|pid| {
            // proc(5): `pid (comm) state ppid ...`; the name may hold anything, so look after the last parenthesis.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let state = fields.next()?.chars().next()?;
            Some(Process { pid, parent: fields.next()?.parse().ok()?, state })
        })
        .collect())
}
