//! Reads an agent's workspace in a process of its own, confined to that directory: what was made to be hard to read takes
//! neither admit's memory nor the time of its clocks, and no key is in reach of what parses it.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use cap_std::fs::Dir;
use serde::{Deserialize, Serialize};

use super::fixture::Fixture;
use super::repository::MAX_BYTES;
use super::snapshot::{self, Scope, Snapshot};
use crate::error::Result;
use crate::record;
use crate::record::ids::Digest;
use crate::sandbox::{self, Bounds, Launcher, Owner};
use crate::stop;

/// The hidden first argument of the reading process.
const CHILD_ARGUMENT: &str = "__read-workspace";
/// What it may use: the files once as they lie there and once as committed, and once more as its answer.
const BOUNDS: Bounds = Bounds { memory: 5 * MAX_BYTES, processor: 2 };
/// Its answer, in which bytes stand as base64.
const ANSWER: u64 = 3 * MAX_BYTES;
/// Behind the limit of the processor's time, for a machine that is busy otherwise.
const WALL: Duration = Duration::from_secs(8);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    scope: Scope,
    owner: (u32, u32),
}

#[derive(Clone, Debug)]
pub struct Reader {
    exe: PathBuf,
    ask: Ask,
}

pub type Seen = (Snapshot, Digest);

impl Reader {
    /// For the workspace at `below` in a sandbox's directory.
    pub fn new(launcher: &Launcher, below: &str, fixture: &Fixture, owner: Owner) -> Result<Self> {
        let scope = Scope::of(below, fixture)?;
        Ok(Self { exe: launcher.exe.clone(), ask: Ask { scope, owner: (owner.uid, owner.gid) } })
    }

    /// Reads the workspace. What could not be read within bounds is a fault of the work.
    ///
    /// # Errors
    /// [`crate::error::Reason::KilledFromOutside`] where somebody ended the reading process: that is none.
    pub fn read(&self, dir: &Dir) -> Result<Snapshot> {
        self.asked(dir).or_else(|no| match no {
            No::Killed(signal) => {
                Err(sandbox::killed("the process that reads the workspace was ended", signal))
            }
            No::Bounds(what) => {
                let what = format!("the workspace cannot be read within bounds: {what}");
                Ok(Snapshot { faults: vec![what], ..Snapshot::default() })
            }
        })
    }

    /// As [`Reader::read`], on a thread of its own.
    pub fn begin(&self, dir: &Dir) -> std::io::Result<mpsc::Receiver<Seen>> {
        let (this, dir) = (self.clone(), dir.try_clone()?);
        let (tell, heard) = mpsc::channel();
        std::thread::spawn(move || {
            // Without an answer it was not seen, and is looked at again.
            let Ok(seen) = this.read(&dir) else { return };
            let digest = seen.digest();
            // Who asked may have gone.
            let _ = tell.send((seen, digest));
        });
        Ok(heard)
    }

    fn asked(&self, dir: &Dir) -> Result<Snapshot, No> {
        let words = |err: std::io::Error| No::Bounds(err.to_string());
        let place: OwnedFd = dir.try_clone().map_err(words)?.into_std_file().into();
        let child = Command::new(&self.exe)
            .arg(CHILD_ARGUMENT)
            .arg(String::from_utf8_lossy(&record::canonical(&self.ask)).into_owned())
            .env_clear()
            .current_dir("/")
            .stdin(place)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(words)?;
        let mut child = Ends(child);
        let stdout =
            child.0.stdout.take().ok_or_else(|| No::Bounds("its answer cannot be heard".into()))?;
        let (tell, heard) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = stdout.take(ANSWER + 1).read_to_end(&mut bytes).map(|_| bytes);
            let _ = tell.send(read);
        });
        let answer = heard.recv_timeout(WALL);
        let answer = answer.map_err(|_| No::Bounds(format!("no answer in {WALL:?}")))?;
        let answer = answer.map_err(words)?;
        if answer.len() as u64 > ANSWER {
            return Err(No::Bounds("its answer is too long".into()));
        }
        let status = child.0.wait().map_err(words)?;
        // At its bounds the kernel refuses memory, and ends it by SIGXCPU.
        if let Some(signal) = status.signal().filter(|signal| stop::ends_others(*signal)) {
            return Err(No::Killed(signal));
        }
        if !status.success() {
            let said = String::from_utf8_lossy(&answer);
            let said = said.chars().take(400).collect::<String>();
            return Err(No::Bounds(format!("{status} {said}")));
        }
        serde_json::from_slice(&answer).map_err(|err| No::Bounds(err.to_string()))
    }
}

/// Why there is no answer.
enum No {
    /// It cannot be read within bounds, in words.
    Bounds(String),
    /// Somebody ended the process, by this signal.
    Killed(i32),
}

/// A process that ends with this value.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// If the arguments (with the program's name first) are those of a reading process, is that process and returns its exit
/// code. `main` calls it before anything else, while the process has one thread.
pub fn maybe_child(args: impl IntoIterator<Item = OsString>) -> Option<u8> {
    let mut args = args.into_iter().skip(1);
    if args.next()?.to_str()? != CHILD_ARGUMENT {
        return None;
    }
    let (ask, None) = (args.next()?, args.next()) else { return None };
    let said = child(ask.to_str()?);
    let (bytes, code) = match &said {
        Ok(bytes) => (bytes.as_slice(), 0),
        Err(what) => (what.as_bytes(), 70),
    };
    let mut left = bytes;
    while let Ok(n @ 1..) = rustix::io::write(rustix::stdio::stdout(), left) {
        left = &left[n..];
    }
    Some(if left.is_empty() { code } else { 70 })
}

fn child(ask: &str) -> Result<Vec<u8>, String> {
    let ask: Ask = serde_json::from_str(ask).map_err(|err| err.to_string())?;
    let place = || Ok(vec![rustix::stdio::stdin().try_clone_to_owned()?]);
    let dirs = sandbox::confine(place, Some(ask.owner), BOUNDS)
        .map_err(|failure| format!("{}: {}", failure.step, failure.call))?;
    let place = dirs.into_iter().next().ok_or("no directory")?;
    let dir = Dir::from_std_file(place.into());
    let seen = snapshot::read(&dir, &ask.scope);
    serde_json::to_vec(&seen).map_err(|err| err.to_string())
}
