//! Who owns what is unfinished. A lock file with an exclusive `flock` says that its owner lives; the kernel lets go of
//! it when the owner ends, however it ends, and the next `Store::open` then removes what is left.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, mkdirat, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{Error, Reason, Result};

use super::dir::open_dir;
use super::nar::{names, names_in};

/// Makes names that no other thread of this process uses; another process is told apart by its id and `O_EXCL`.
static COUNTER: AtomicU64 = AtomicU64::new(0);

pub(super) fn fresh_name() -> String {
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{}-{n}", rustix::process::getpid().as_raw_nonzero())
}

/// An exclusive `flock` on a file that exists only while it is held.
#[derive(Debug)]
pub(super) struct OwnerLock {
    dir: OwnedFd,
    name: String,
    file: OwnedFd,
}

impl OwnerLock {
    /// Waits for the lock `name` in `dir`; `on_wait` is called once if another process has it.
    pub(super) fn wait(
        dir: &OwnedFd,
        place: &Path,
        name: &str,
        on_wait: &mut dyn FnMut(),
    ) -> Result<Self> {
        let fail = |e: Errno| Error::io("lock", place.join(name), e.into());
        let mut told = false;
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(dir, name, flags, Mode::from(0o600)).map_err(fail)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    if !told {
                        on_wait();
                        told = true;
                    }
                    while let Err(e) = flock(&file, FlockOperation::LockExclusive) {
                        if e != Errno::INTR {
                            return Err(fail(e));
                        }
                    }
                }
                Err(Errno::INTR) => continue,
                Err(e) => return Err(fail(e)),
            }
            // The last owner removes the file before it lets go: a lock on a removed file locks nothing.
            if is_linked(dir.as_fd(), name, &file).map_err(fail)? {
                let dir = dir.try_clone().map_err(|e| Error::io("open", place, e))?;
                return Ok(Self { dir, name: name.to_owned(), file });
            }
        }
    }

    /// Takes the lock on a file that must be new. `None`: the name is taken.
    fn create(dir: &OwnedFd, name: &str) -> rustix::io::Result<Option<Self>> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(dir, name, flags, Mode::from(0o600)) {
            Ok(file) => file,
            Err(Errno::EXIST) => return Ok(None),
            Err(e) => return Err(e),
        };
        Self::claim(dir, name, file)
    }

    /// Takes the lock of an owner that ended. `None`: the owner lives, or the file is gone.
    fn inherit(dir: &OwnedFd, name: &str) -> rustix::io::Result<Option<Self>> {
        match openat(dir, name, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => Self::claim(dir, name, file),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn claim(dir: &OwnedFd, name: &str, file: OwnedFd) -> rustix::io::Result<Option<Self>> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(e),
        }
        if !is_linked(dir.as_fd(), name, &file)? {
            return Ok(None);
        }
        let dir = rustix::io::fcntl_dupfd_cloexec(dir, 0)?;
        Ok(Some(Self { dir, name: name.to_owned(), file }))
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // Closing the file lets go of the lock; only then may the next owner go on, and it makes a new file.
        let _ = unlinkat(&self.dir, &self.name, AtFlags::empty());
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Whether `name` in `dir` is still this very file.
fn is_linked(dir: BorrowedFd<'_>, name: &str, file: &OwnedFd) -> rustix::io::Result<bool> {
    let mine = fstat(file)?;
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// An exclusive lock on one key of the store; let go of when dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct KeyLock(#[expect(dead_code, reason = "held for its drop")] pub(super) OwnerLock);

/// A temporary directory with a living owner: `<name>` beside `<name>.lock`. The lock is there before the directory
/// and is removed after it, so a directory without a lock has no owner.
#[derive(Debug)]
pub(super) struct Lease {
    parent: OwnedFd,
    name: String,
    path: PathBuf,
    dir: OwnedFd,
    kept: bool,
    // After `drop` has removed the directory, this removes the lock.
    _lock: OwnerLock,
}

impl Lease {
    /// Makes a directory with mode 0700 below `parent`, whose path is `place`.
    pub(super) fn create(parent: &OwnedFd, place: &Path) -> Result<Self> {
        let fail = |e: Errno| Error::io("make temporary directory", place, e.into());
        loop {
            let name = fresh_name();
            let Some(lock) = OwnerLock::create(parent, &lock_name(&name)).map_err(fail)? else {
                continue;
            };
            match mkdirat(parent, &name, Mode::from(0o700)) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(e) => return Err(fail(e)),
            }
            let dir = open_dir(parent.as_fd(), &name).map_err(fail)?;
            // A umask may have taken bits away.
            fchmod(&dir, Mode::from(0o700)).map_err(fail)?;
            let path = place.join(&name);
            let parent = rustix::io::fcntl_dupfd_cloexec(parent, 0).map_err(fail)?;
            return Ok(Self { parent, name, path, dir, kept: false, _lock: lock });
        }
    }

    pub(super) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Work that is ended from outside of it may still make something in a directory that is being emptied.
        for _ in 0..20 {
            if self.kept || remove_tree(self.parent.as_fd(), &self.name).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

fn lock_name(name: &str) -> String {
    format!("{name}.lock")
}

/// A temporary directory inside the store, so on the same file system. Removed when dropped, or by the next
/// `Store::open` when its owner ended without dropping it.
#[derive(Debug)]
pub struct Scratch {
    lease: Lease,
    kept: OwnedFd,
    kept_path: PathBuf,
}

impl Scratch {
    pub(super) fn new(lease: Lease, kept: OwnedFd, kept_path: PathBuf) -> Self {
        Self { lease, kept, kept_path }
    }

    pub fn path(&self) -> &Path {
        self.lease.path()
    }

    /// The directory as a capability: names in it cannot lead out of it.
    pub fn dir(&self) -> Result<cap_std::fs::Dir> {
        let fd = self.lease.dir().try_clone().map_err(|e| Error::io("open", self.path(), e))?;
        Ok(cap_std::fs::Dir::from(fd))
    }

    /// Moves the directory out of reach of any cleaning and gives its new path; it is the user's from then on.
    pub fn keep(mut self) -> Result<PathBuf> {
        let to = self.kept_path.join(&self.lease.name);
        renameat(&self.lease.parent, &self.lease.name, &self.kept, &self.lease.name)
            .map_err(|e| Error::io("keep scratch directory as", &to, e.into()))?;
        self.lease.kept = true;
        Ok(to)
    }
}

/// Removes everything in `tmp` whose owner ended. What cannot be removed stays for the next time and disturbs nothing.
pub(super) fn sweep(tmp: &OwnedFd, place: &Path) -> Result<()> {
    for entry in names_in(tmp.as_fd(), place)? {
        let Ok(name) = entry.to_str() else { continue };
        let (stem, lock) = match name.strip_suffix(".lock") {
            Some(stem) => (stem, OwnerLock::inherit(tmp, name)),
            // Made under a lock of its own, so that the name is not taken meanwhile. With a lock file there, the
            // other arm decides.
            None => (name, OwnerLock::create(tmp, &lock_name(name))),
        };
        if let Ok(Some(lock)) = lock {
            if remove_tree(tmp.as_fd(), stem).is_err() {
                // Without its lock file it is tried again, as a directory without an owner.
                continue;
            }
            drop(lock);
        }
    }
    Ok(())
}

/// Bytes on disk of everything below `dir`, as far as it can be seen. Links are not followed.
pub(super) fn bytes_below(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let (mut total, mut todo) = (0_u64, vec![dir.to_path_buf()]);
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            // stat(2) counts in units of 512 bytes.
            total = total.saturating_add(meta.blocks().saturating_mul(512));
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    total
}

/// Removes the locks in `locks` whose holder ended. A process that waits for one makes it anew.
pub(super) fn sweep_locks(locks: &OwnedFd, place: &Path) -> Result<()> {
    for entry in names_in(locks.as_fd(), place)? {
        if let Ok(name) = entry.to_str() {
            drop(OwnerLock::inherit(locks, name));
        }
    }
    Ok(())
}

/// Levels that are entered before a directory is moved up to the top and taken from there, so that a tree of any
/// depth needs few descriptors.
const LEVELS: usize = 64;

/// Removes `name` in `parent`, whatever it is, with all below it; directories without write permission included.
/// Symbolic links are removed, never followed. Nothing there is no error.
pub(super) fn remove_tree(parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    match unlinkat(parent, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    let Some(top) = enter(parent, &name)? else { return Ok(()) };
    while empty(top.as_fd(), top.as_fd(), 0)? {}
    remove_dir(parent, &name)
}

/// Opens a directory so that it can be emptied. `None`: gone.
fn enter(parent: BorrowedFd<'_>, name: &CString) -> rustix::io::Result<Option<OwnedFd>> {
    let dir = match open_dir(parent, name) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::from(0o700), AtFlags::empty())?;
            open_dir(parent, name)
        }
        other => other,
    };
    match dir {
        Ok(dir) => {
            fchmod(&dir, Mode::from(0o700))?;
            Ok(Some(dir))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

fn remove_dir(parent: BorrowedFd<'_>, name: &CString) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Empties a directory. `true`: something deep was moved up to `top` and is still there.
fn empty(dir: BorrowedFd<'_>, top: BorrowedFd<'_>, level: usize) -> rustix::io::Result<bool> {
    let mut moved = false;
    for name in names(dir)? {
        let stat = match statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            match unlinkat(dir, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(e) => return Err(e),
            }
        }
        if level >= LEVELS {
            // A directory that moves to another parent must be writable itself (its `..` changes).
            rustix::fs::chmodat(dir, &name, Mode::from(0o700), AtFlags::empty())?;
            while let Err(e) = renameat(dir, &name, top, format!(".deep-{}", fresh_name())) {
                if !matches!(e, Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) {
                    return Err(e);
                }
            }
            moved = true;
            continue;
        }
        let Some(sub) = enter(dir, &name)? else { continue };
        moved |= empty(sub.as_fd(), top, level + 1)?;
        drop(sub);
        remove_dir(dir, &name)?;
    }
    Ok(moved)
}

/// A store that was opened for reading cannot be asked for this.
pub(super) fn reading_only(what: &str) -> Error {
    Error::new(Reason::Internal, format!("{what} in a store that was opened for reading"))
}
