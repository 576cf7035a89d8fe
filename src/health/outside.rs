//! What comes from outside to a validator's run: tells admit to stop, as a scheduler does, or ends the agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::world::{Outsider, SLEEPS};
use crate::host::Progress;

/// How long the agent has to get as far as its sleep.
const PATIENCE: Duration = Duration::from_secs(120);

/// A run's listener that acts when the agent's turn comes, and shows nothing.
pub struct Interference {
    pub does: Outsider,
    pub stop: Arc<AtomicUsize>,
}

impl Progress for Interference {
    fn stage(&self, name: &str, _: &str) {
        match self.does {
            Outsider::Tells if name == "run" => {
                let signal = usize::try_from(libc::SIGTERM).unwrap_or_default();
                self.stop.store(signal, Ordering::SeqCst);
            }
            Outsider::Kills if name == "run" => drop(std::thread::spawn(kill)),
            _ => {}
        }
    }

    fn bytes(&self, _: u64, _: Option<u64>) {}

    fn note(&self, _: &str) {}
}

/// Waits until the agent's own child sleeps, and kills the agent.
fn kill() {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(agent) = agent() {
            // It may have ended meanwhile.
            let _ = kill_process(agent, Signal::KILL);
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The process of this program's sandbox under which something sleeps.
fn agent() -> Option<Pid> {
    let own = i32::try_from(std::process::id()).ok()?;
    let all = std::fs::read_dir("/proc").ok()?;
    let ids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let sleeps: Vec<u8> = SLEEPS.bytes().map(|b| if b == b' ' { 0 } else { b }).collect();
    for id in ids {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        if line.strip_suffix(b"\0") != Some(&sleeps) {
            continue;
        }
        // Up to the first process of the sandbox, whose child the agent is, and on to this program.
        let (mut at, mut agent) = (id, None);
        while let Some(parent) = parent(at).filter(|parent| *parent > 1) {
            if agent.is_none() && is_init(parent) {
                agent = Some(at);
            }
            if parent == own {
                return agent.and_then(Pid::from_raw);
            }
            at = parent;
        }
    }
    None
}

fn parent(id: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Whether it is the first process of a namespace below this one.
fn is_init(id: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    ids.len() > 1 && ids.last() == Some(&"1")
}
