//! The objects of a source, read by a process of admit's own that is confined to them: packs are put together where
//! neither admit's files nor its memory are in reach, and the kernel ends what takes too much of either.
//!
//! Admit asks for one object after the other and hashes each answer again, so the process is not believed either.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use rustix::fs::{CWD, Mode, OFlags};

use super::dir::{ObjectDir, SOURCE, borrowed};
use super::id::{ObjectKind, Oid};
use super::object::{Objects, absent, verify};
use super::pack::Fault;
use crate::error::{Error, Reason, Result};
use crate::record::ids::CommitId;
use crate::sandbox::{self, Bounds};
use crate::stop;
use crate::store::Scratch;

/// The hidden first argument of the reading process.
const CHILD_ARGUMENT: &str = "__read-source";
/// What putting together takes: a base, its delta and the result, as often as deltas may wait for their base, and the
/// names of the objects. Each of a pack's objects has more bytes than its name takes here.
const MEMORY: u64 = 6 * SOURCE.object;
/// Seconds on a processor, and the bytes of a pack that give one more.
const PROCESSOR: u64 = 120;
const BYTES_A_SECOND: u64 = 4 << 20;
/// Longest explanation of a fault.
const WORDS: u64 = 4096;
/// Most commits that an abbreviation is told apart from.
const NAMED: u64 = 128;

/// How an answer begins; its length as eight bytes and so many bytes follow.
mod tag {
    pub const DATA: u8 = 0;
    pub const ABSENT: u8 = 1;
    pub const LIMIT: u8 = 2;
    pub const DAMAGED: u8 = 3;
    pub const UNCONFINED: u8 = 4;
}

/// What is asked: one byte of kind and forty of a name, which may be cut short with blanks.
const ASK: usize = 41;

/// The objects of a source, in the reach of a confined process that ends with this value.
pub struct Confined {
    child: RefCell<Running>,
    place: String,
    // After the process, so that its files are closed before they go.
    _scratch: Option<Scratch>,
}

struct Running {
    child: Child,
    ask: Option<ChildStdin>,
    answer: ChildStdout,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

enum Answer {
    Data(Vec<u8>),
    Absent,
}

impl Confined {
    /// The object directory `objects` of a repository, and those that it borrows from.
    ///
    /// # Errors
    /// [`Reason::Unreachable`] where it cannot be opened, [`Reason::SourceMismatch`] for packs that git did not write,
    /// [`Reason::SandboxUnavailable`] where no process can be confined here.
    pub fn open(exe: &Path, objects: &Path) -> Result<Self> {
        let place = objects.display().to_string();
        let dirs = borrowed(objects)?;
        Self::start(exe, "objects", &dirs, 0, place, None)
    }

    /// The objects of the pack in the file `pack`, which lies alone in `scratch`. All of it is checked.
    ///
    /// # Errors
    /// [`Reason::Truncated`] for a pack that is cut off or damaged, [`Reason::LimitHit`]; as [`Confined::open`].
    pub fn packed(exe: &Path, pack: &Path, place: &str, scratch: Scratch) -> Result<Self> {
        let len = pack.metadata().map_err(|err| Error::io("read", pack, err))?.len();
        let dirs = [scratch.path().to_owned()];
        Self::start(exe, "pack", &dirs, len, place.to_owned(), Some(scratch)).map_err(|err| {
            match err.reason() {
                Reason::SourceMismatch => {
                    Error::new(Reason::Truncated, "the pack is cut off or damaged")
                        .at(place)
                        .found(err.found_value().unwrap_or_default())
                }
                _ => err,
            }
        })
    }

    fn start(
        exe: &Path,
        what: &str,
        dirs: &[PathBuf],
        len: u64,
        place: String,
        scratch: Option<Scratch>,
    ) -> Result<Self> {
        let fail = |err| Error::io("start the reader of sources", exe, err);
        // As the owner of the objects, whatever user admit runs as: no more is needed to read them.
        let owner = dirs.first().and_then(|dir| dir.metadata().ok());
        let (uid, gid) = owner.map_or((0, 0), |meta| (meta.uid(), meta.gid()));
        let mut child = Command::new(exe)
            .arg(CHILD_ARGUMENT)
            .args([what, &uid.to_string(), &gid.to_string(), &len.to_string()])
            .args(dirs)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(fail)?;
        let (ask, answer) = (child.stdin.take(), child.stdout.take());
        let Some(answer) = answer else {
            return Err(Error::new(Reason::Internal, "a reader without pipes"));
        };
        let child = RefCell::new(Running { child, ask, answer });
        let this = Self { child, place, _scratch: scratch };
        this.hear(0)?;
        Ok(this)
    }

    /// The one commit whose id starts with `prefix` (4 to 40 lower-case hex digits).
    ///
    /// # Errors
    /// [`Reason::RevNotInRemote`] where there is none or more than one.
    pub fn resolve(&self, prefix: &str) -> Result<CommitId> {
        let fail = |what: &str| {
            Error::new(Reason::RevNotInRemote, what)
                .at(self.place.clone())
                .expected(prefix.to_owned())
        };
        let hex = (4..=40).contains(&prefix.len())
            && prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hex {
            return Err(fail("not an abbreviated commit"));
        }
        let Answer::Data(named) = self.ask(b'?', prefix, 20 * NAMED)? else {
            return Err(fail("the commit is not in the remote"));
        };
        let mut commits: Vec<_> = named.as_chunks().0.iter().map(|raw| Oid(*raw)).collect();
        commits.sort_unstable();
        commits.dedup();
        match commits.as_slice() {
            [one] if one.to_string().starts_with(prefix) => one.commit(),
            [] => Err(fail("the commit is not in the remote")),
            _ => Err(fail("more than one commit starts like this")),
        }
    }

    fn ask(&self, kind: u8, name: &str, most: u64) -> Result<Answer> {
        let line = format!("{}{name:<40}", char::from(kind));
        // Where it has ended, its answer says so.
        if let Some(pipe) = &mut self.child.borrow_mut().ask {
            let _ = pipe.write_all(line.as_bytes());
        }
        self.hear(most)
    }

    fn hear(&self, most: u64) -> Result<Answer> {
        let mut running = self.child.borrow_mut();
        let (tag, bytes) = match heard(&mut running.answer, most) {
            Ok(heard) => heard,
            Err(err) => {
                running.ask = None;
                // Without the end of what it says, it may have to be ended here.
                let ended = err.kind() == io::ErrorKind::UnexpectedEof;
                let _ = running.child.kill();
                let status = running.child.wait();
                let signal = status.as_ref().ok().and_then(ExitStatus::signal);
                if let Some(signal) = signal.filter(|signal| ended && stop::ends_others(*signal)) {
                    let what = "the process that reads the source was ended";
                    return Err(sandbox::killed(what, signal).at(self.place.clone()));
                }
                let status = status.map_or_else(|err| err.to_string(), |status| status.to_string());
                return Err(Error::new(
                    Reason::LimitHit,
                    "the objects cannot be read within the bounds of memory and time",
                )
                .at(self.place.clone())
                .found(format!("the process that read them ended: {status}"))
                .caused_by(err));
            }
        };
        let words = || String::from_utf8_lossy(&bytes).into_owned();
        match tag {
            tag::DATA => Ok(Answer::Data(bytes)),
            tag::ABSENT => Ok(Answer::Absent),
            tag::LIMIT => Err(Error::new(Reason::LimitHit, words()).at(self.place.clone())),
            tag::UNCONFINED => Err(Error::new(
                Reason::SandboxUnavailable,
                "no process that reads a source can be confined here",
            )
            .found(words())
            .hint("admit doctor")),
            _ => Err(Error::new(Reason::SourceMismatch, "an object cannot be read")
                .at(self.place.clone())
                .found(words())),
        }
    }
}

impl Objects for Confined {
    fn read(&self, id: Oid, kind: ObjectKind) -> Result<Vec<u8>> {
        let what = || format!("{kind} {id}");
        let answer = self.ask(letter(kind), &id.to_string(), SOURCE.object);
        match answer.map_err(|err| err.expected(what()))? {
            Answer::Data(data) => {
                verify(id, kind, kind, &data, &self.place)?;
                Ok(data)
            }
            Answer::Absent => Err(absent(&self.place, what())),
        }
    }
}

fn letter(kind: ObjectKind) -> u8 {
    match kind {
        ObjectKind::Commit => b'c',
        ObjectKind::Tree => b't',
        ObjectKind::Blob => b'b',
        ObjectKind::Tag => b'g',
    }
}

fn heard(from: &mut impl Read, most: u64) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    from.read_exact(&mut head)?;
    let [tag, len @ ..] = head;
    let len = u64::from_le_bytes(len);
    let limit = if tag == tag::DATA { most } else { WORDS };
    if len > limit {
        return Err(io::Error::other("an answer that is too long"));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    from.read_exact(&mut bytes)?;
    Ok((tag, bytes))
}

/// If the arguments (with the program's name first) are those of a reading process, is that process and returns its exit
/// code. `main` calls it before anything else, while the process has one thread.
pub fn maybe_child(args: impl IntoIterator<Item = OsString>) -> Option<u8> {
    let mut args = args.into_iter().skip(1);
    if args.next()?.to_str()? != CHILD_ARGUMENT {
        return None;
    }
    let args: Vec<OsString> = args.collect();
    let mut out = Out;
    Some(match serve(&args, &mut out) {
        Ok(()) => 0,
        // Its parent sees that it ended, and has no use for why.
        Err(_) => 70,
    })
}

/// Standard output, without a lock or buffer.
struct Out;

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tell(out: &mut impl Write, tag: u8, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&[tag])?;
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)
}

fn tell_fault(out: &mut impl Write, fault: &Fault) -> io::Result<()> {
    match fault {
        Fault::Limit(what) => tell(out, tag::LIMIT, what.as_bytes()),
        Fault::Damaged(why) => {
            let why: String = why.chars().take(400).collect();
            tell(out, tag::DAMAGED, why.as_bytes())
        }
    }
}

/// Confines itself to the directories, opens them, and answers until the questions end.
fn serve(args: &[OsString], out: &mut impl Write) -> io::Result<()> {
    let usage = || io::Error::other("not the arguments of a reader");
    let [what, uid, gid, len, dirs @ ..] = args else { return Err(usage()) };
    let number = |text: &OsStr| text.to_str().and_then(|text| text.parse().ok()).ok_or_else(usage);
    let id = |text: &OsStr| u32::try_from(number(text)?).map_err(io::Error::other);
    let (owner, len) = ((id(uid)?, id(gid)?), number(len)?);
    let bounds = Bounds {
        memory: MEMORY.saturating_add(len),
        processor: PROCESSOR.saturating_add(len / BYTES_A_SECOND),
    };
    let open = || -> io::Result<Vec<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        dirs.iter().map(|dir| Ok(rustix::fs::openat(CWD, dir, flags, Mode::empty())?)).collect()
    };
    let dirs = match sandbox::confine(open, Some(owner), bounds) {
        Ok(dirs) => dirs,
        Err(failure) => {
            let words = format!("{}: {}", failure.step, failure.call);
            return tell(out, tag::UNCONFINED, words.as_bytes());
        }
    };
    let opened = match what.as_encoded_bytes() {
        b"pack" => match dirs.first() {
            Some(dir) => ObjectDir::packed(dir),
            None => return Err(usage()),
        },
        _ => ObjectDir::source(dirs),
    };
    let objects = match opened {
        Ok(objects) => objects,
        Err(fault) => return tell_fault(out, &fault),
    };
    tell(out, tag::DATA, b"")?;
    let mut from = File::from(rustix::stdio::stdin().try_clone_to_owned()?);
    loop {
        let mut ask = [0; ASK];
        match from.read_exact(&mut ask) {
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let name = std::str::from_utf8(&ask[1..]).map_err(io::Error::other)?.trim_end();
        if ask[0] == b'?' {
            match objects.commits(name) {
                Ok(found) => {
                    let raw: Vec<u8> = found.iter().flat_map(|id| id.0).collect();
                    tell(out, tag::DATA, &raw)?;
                }
                Err(fault) => tell_fault(out, &fault)?,
            }
            continue;
        }
        let id = Oid::parse(name).map_err(io::Error::other)?;
        match objects.find(id) {
            Ok(Some((kind, data))) if letter(kind) == ask[0] => tell(out, tag::DATA, &data)?,
            Ok(Some((kind, _))) => {
                tell_fault(out, &Fault::Damaged(format!("it is a {kind}")))?;
            }
            Ok(None) => tell(out, tag::ABSENT, b"")?,
            Err(fault) => tell_fault(out, &fault)?,
        }
    }
}
