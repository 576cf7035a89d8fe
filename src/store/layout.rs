//! The store on disk: its directories, who writes in it, and where an entry goes that is not what its name says.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;

use super::dir::{DIRECTORY, check_owner, in_use, key_name, make_dir, open_dir, parts};
use super::scratch::{self, KeyLock, Lease, OwnerLock, Scratch};
use crate::error::{Error, Reason, Result};
use crate::host::{make_private, rename_new};
use crate::record::ids::Digest;

const LAYOUT: &str = "v1";
const AREAS: [&str; 7] = ["files", "trees", "records", "locks", "tmp", "kept", "quarantine"];

/// The fix where the store cannot be written.
const WRITABLE: &str = "name a directory that you can write with --store";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    File(&'a Digest),
    /// A tree, by its NAR hash.
    Tree(&'a Digest),
}

/// A store on disk. Cheap to clone; may be used from many threads and many processes at once.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    top: OwnedFd,
    /// Where this process writes; `None` in a store opened for reading.
    session: Option<Lease>,
    /// Where locks and scratch directories are while the store's own file system is read-only.
    beside: Option<(OwnedFd, PathBuf)>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store below `root`, making what is missing, and removes what dead writers left. One on a read-only
    /// file system serves what it has; locks and scratch directories are below the directory for temporary files then.
    /// Errors: `io` or `disk_full` where it cannot be written, `store_unsafe` where others could have written it.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join(LAYOUT);
        let fail = |what: &str, e: std::io::Error| Error::io(what, &path, e).hint(WRITABLE);
        make_private(root).map_err(|e| e.hint(WRITABLE))?;
        match rustix::fs::mkdir(&path, Mode::from(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(fail("make store directory", e.into())),
        }
        let top = rustix::fs::open(&path, DIRECTORY, Mode::empty())
            .map_err(|e| fail("open store", e.into()))?;
        own(&top, &path)?;
        in_use(&top);
        let flags = fstatvfs(&top).map_err(|e| fail("examine store", e.into()))?.f_flag;
        if flags.contains(StatVfsMountFlags::RDONLY) {
            let name = format!("admit-store-{}", rustix::process::geteuid().as_raw());
            let place = tempfile::env::temp_dir().join(name);
            make_private(&place)?;
            let dir = rustix::fs::open(&place, DIRECTORY, Mode::empty())
                .map_err(|e| Error::io("open", &place, e.into()))?;
            own(&dir, &place)?;
            prepare(&dir, &place)?;
            let beside = Some((dir, place));
            return Ok(Self { inner: Arc::new(Inner { path, top, session: None, beside }) });
        }
        let tmp = prepare(&top, &path)?;
        let lease = Lease::create(&tmp, &path.join("tmp"));
        let session = Some(lease.map_err(|e| match e.reason() {
            Reason::Io => e.hint(WRITABLE),
            _ => e,
        })?);
        Ok(Self { inner: Arc::new(Inner { path, top, session, beside: None }) })
    }

    /// Opens a store for reading: nothing is written or made, not even a lock. `None`: there is no store.
    pub fn open_read(root: &Path) -> Result<Option<Self>> {
        let path = root.join(LAYOUT);
        let top = match rustix::fs::open(&path, DIRECTORY, Mode::empty()) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::io("open store", &path, e.into())),
        };
        own(&top, &path)?;
        in_use(&top);
        Ok(Some(Self { inner: Arc::new(Inner { path, top, session: None, beside: None }) }))
    }

    /// The directory of this layout (`<root>/v1`).
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    pub fn scratch(&self) -> Result<Scratch> {
        let (tmp, tmp_path) = self.work("a scratch directory", "tmp")?;
        let (kept, kept_path) = self.work("a scratch directory", "kept")?;
        Ok(Scratch::new(Lease::create(&tmp, &tmp_path)?, kept, kept_path))
    }

    /// An exclusive lock on `key`, waiting as long as it takes; `on_wait` is called once if another process has it.
    pub fn lock(&self, key: &Digest, on_wait: &mut dyn FnMut()) -> Result<KeyLock> {
        let (locks, place) = self.work("a lock", "locks")?;
        OwnerLock::wait(&locks, &place, &key_name(key), on_wait).map(KeyLock)
    }

    pub(super) fn quarantine(&self, entry: Entry<'_>) -> Result<PathBuf> {
        let (area, parts, digest) = match entry {
            Entry::File(digest) => ("files", parts(digest), digest),
            Entry::Tree(nar) => ("trees", vec![nar.to_hex()], nar),
        };
        let (quarantine, place) = self.area("quarantine")?;
        let name = format!("{}-{}", key_name(digest), scratch::fresh_name());
        let to = place.join(&name);
        let fail = |e: Errno| Error::io("move corrupt entry to", &to, e.into());
        let (mut parent, _) = self.area(area)?;
        let mut rest = parts.as_slice();
        // A directory on the way that is no directory is what is corrupt.
        while let [dir, more @ ..] = rest
            && !more.is_empty()
        {
            match open_dir(parent.as_fd(), dir) {
                Ok(next) => parent = next,
                Err(_) => break,
            }
            rest = more;
        }
        let [from, ..] = rest else { return Err(fail(Errno::INVAL)) };
        if matches!(entry, Entry::Tree(_)) {
            // A directory can only change its parent while it is writable; a link is left alone.
            if let Ok(dir) = open_dir(parent.as_fd(), from) {
                rustix::fs::fchmod(&dir, Mode::from(0o700)).map_err(fail)?;
            }
        }
        rename_new(&parent, from, &quarantine, &name).map_err(fail)?;
        Ok(to)
    }

    pub(super) fn top(&self) -> BorrowedFd<'_> {
        self.inner.top.as_fd()
    }

    /// Where this process writes.
    pub(super) fn session(&self, what: &str) -> Result<&Lease> {
        self.session_or(what, WRITABLE)
    }

    /// The same where something is removed: in another store there is nothing to remove.
    pub(super) fn removing(&self) -> Result<&Lease> {
        self.session_or("a removal", "nothing can be removed from here: run admit gc where this file system is mounted writable")
    }

    fn session_or(&self, what: &str, fix: &str) -> Result<&Lease> {
        self.inner.session.as_ref().ok_or_else(|| match self.inner.beside {
            Some(_) => Error::new(Reason::Io, "the store is on a read-only file system")
                .at(self.inner.path.display().to_string())
                .expected(format!("a place to write {what}"))
                .hint(fix),
            None => scratch::reading_only(what),
        })
    }

    /// A directory of the layout for unfinished work or locks.
    fn work(&self, what: &str, name: &str) -> Result<(OwnedFd, PathBuf)> {
        let Some((dir, place)) = &self.inner.beside else {
            self.session(what)?;
            return self.area(name);
        };
        let path = place.join(name);
        let dir = open_dir(dir.as_fd(), name).map_err(|e| Error::io("open", &path, e.into()))?;
        Ok((dir, path))
    }

    pub(super) fn area(&self, name: &str) -> Result<(OwnedFd, PathBuf)> {
        let path = self.inner.path.join(name);
        let dir = open_dir(self.top(), name)
            .map_err(|e| Error::io("open store directory", &path, e.into()))?;
        Ok((dir, path))
    }
}

/// Makes the directories of the layout in `top` and removes what dead writers left there. Gives the one for unfinished
/// work.
fn prepare(top: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let fail = |what: &str, e: Errno| Error::io(what, path, e.into()).hint(WRITABLE);
    for area in AREAS {
        make_dir(top.as_fd(), area).map_err(|e| fail("make store directory", e))?;
    }
    let tmp = open_dir(top.as_fd(), "tmp").map_err(|e| fail("open store", e))?;
    scratch::sweep(&tmp, &path.join("tmp"))?;
    let locks = open_dir(top.as_fd(), "locks").map_err(|e| fail("open store", e))?;
    scratch::sweep_locks(&locks, &path.join("locks"))?;
    Ok(tmp)
}

/// Records say which output a plan has, so a store that others could have written is not used.
fn own(top: &OwnedFd, path: &Path) -> Result<()> {
    let what = "other users could have written this store";
    check_owner(top, path, what, "name a directory of your own with --store, or run as its owner")
}
