//! Standard output and error of a command: read as fast as they come, so that no full pipe ever stops the payload;
//! counted and hashed in whole, kept up to a cap.

use std::io::Read;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::record::ids::{Algorithm, Digest};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// One stream of a finished command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The first bytes, up to the cap.
    pub kept: Vec<u8>,
    /// How many bytes came in all.
    pub total: u64,
    /// SHA-256 of all of them.
    pub sha256: Digest,
}

impl Captured {
    /// The kept bytes as text; what is not UTF-8 becomes the replacement character.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }

    pub fn truncated(&self) -> bool {
        self.total > self.kept.len() as u64
    }
}

/// What to do with each piece as it comes; called on the draining thread.
pub type Sink = Box<dyn FnMut(Stream, &[u8]) + Send>;

struct Tally {
    kept: Vec<u8>,
    cap: u64,
    total: u64,
    hash: sha2::Sha256,
}

impl Tally {
    fn new(cap: u64) -> Self {
        Self { kept: Vec::new(), cap, total: 0, hash: sha2::Sha256::new() }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.total += bytes.len() as u64;
        let left = self.cap.saturating_sub(self.kept.len() as u64);
        let keep = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..keep]);
    }

    fn done(&self) -> Captured {
        let sha256 = Digest::from_bytes(Algorithm::Sha256, &self.hash.clone().finalize());
        Captured {
            kept: self.kept.clone(),
            total: self.total,
            sha256: sha256.expect("SHA-256 has 32 bytes"),
        }
    }
}

struct Shared {
    streams: [Tally; 2],
    last: Instant,
    open: u8,
}

/// The thread that drains one command's streams.
pub struct Drain {
    shared: Arc<Mutex<Shared>>,
    thread: Option<std::thread::JoinHandle<()>>,
    stop: std::io::PipeWriter,
}

impl Drain {
    /// Starts draining; it ends when both pipes do, or with [`Drain::finish`].
    pub fn start(
        stdout: std::io::PipeReader,
        stderr: std::io::PipeReader,
        caps: [u64; 2],
        mut sink: Option<Sink>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared {
            streams: caps.map(Tally::new),
            last: Instant::now(),
            open: 2,
        }));
        let (stopped, stop) = std::io::pipe()?;
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("drain".into()).spawn(move || {
            let mut pipes = [Some(stdout), Some(stderr)];
            let mut buffer = vec![0; 1 << 16];
            while pipes.iter().any(Option::is_some) {
                let open: Vec<usize> = (0..2).filter(|i| pipes[*i].is_some()).collect();
                let mut poll = vec![PollFd::new(&stopped, PollFlags::IN)];
                poll.extend(open.iter().map(|i| {
                    let fd = pipes[*i].as_ref().expect("listed because it is open").as_fd();
                    PollFd::from_borrowed_fd(fd, PollFlags::IN)
                }));
                if rustix::event::poll(&mut poll, None).is_err() {
                    continue;
                }
                let ready: Vec<bool> = poll.iter().map(|p| !p.revents().is_empty()).collect();
                for (slot, i) in open.iter().enumerate() {
                    if !ready[slot + 1] {
                        continue;
                    }
                    let read = pipes[*i].as_mut().map(|pipe| pipe.read(&mut buffer));
                    let mut shared = theirs.lock().unwrap_or_else(PoisonError::into_inner);
                    match read {
                        Some(Ok(n)) if n > 0 => {
                            shared.streams[*i].take(&buffer[..n]);
                            shared.last = Instant::now();
                            drop(shared);
                            if let Some(sink) = &mut sink {
                                let which = if *i == 0 { Stream::Stdout } else { Stream::Stderr };
                                sink(which, &buffer[..n]);
                            }
                        }
                        Some(Err(err)) if err.kind() == std::io::ErrorKind::Interrupted => {}
                        _ => {
                            pipes[*i] = None;
                            shared.open -= 1;
                        }
                    }
                }
                // Told to stop: what was ready was read above.
                if ready[0] && ready[1..].iter().all(|r| !r) {
                    break;
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread), stop })
    }

    pub fn last(&self) -> Instant {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    pub fn so_far(&self) -> [Captured; 2] {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        [shared.streams[0].done(), shared.streams[1].done()]
    }

    /// Reads what is left for at most `patience` and returns both streams. The caller has killed everyone inside, so
    /// both pipes are at their end unless something is very wrong, and then waiting longer would not help.
    pub fn finish(mut self, patience: Duration) -> [Captured; 2] {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            let open = self.shared.lock().unwrap_or_else(PoisonError::into_inner).open;
            if open == 0 {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let captured = self.so_far();
        drop(self.stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        captured
    }
}
