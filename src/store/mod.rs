//! The content-addressed store: every verified input and output, by digest.
//!
//! ```text
//! <root>/v1/                      mode 0700, this user's; another layout would get another name
//!   files/<alg>/<2 hex>/<hex>     one file, mode 0444; the name is the digest of its content
//!   trees/<hex>/                  a directory; the name is its NAR hash (SHA-256)
//!   records/<area>/<alg>-<hex>/<name>   a small record about a key (a plan), checked by a digest of its own
//!   locks/<alg>-<hex>             exists while somebody works on that key
//!   tmp/<owner>/, tmp/<owner>.lock    unfinished work; the lock is an flock, so it ends with its owner
//!   kept/                         scratch directories that a user asked to keep
//!   quarantine/                   entries that were not what their names say
//! ```
//!
//! Content is written below `tmp` (the same file system), hashed while it is written, synced, and renamed to its name:
//! an entry under its name is whole. A crash leaves only things below `tmp` and `locks`, which the next [`Store::open`]
//! removes.
//! Directories are not synced: after a power cut an entry may be missing, which costs a fetch and can mislead nobody.
//! Nothing is believed because of where it lies: **every read hashes the whole entry again** before anybody gets it.

mod file;
mod hash;
mod nar;
mod outside;
mod pending;
mod record;
pub mod sink;
mod scratch;
mod tree;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fstat, mkdirat, openat, renameat_with, statat,
};
use rustix::io::Errno;

use crate::error::{Error, Reason, Result};
use crate::record::ids::Digest;

pub use file::{FileWriter, StoredFile};
pub use hash::{Digests, Hashes, USUAL};
pub use nar::{Nar, nar_hash, nar_hash_excluding, nar_hash_path};
pub use outside::Outside;
pub use pending::Pending;
pub use scratch::{KeyLock, Scratch};
pub use tree::{StoredTree, TreeWriter};

use scratch::{Lease, OwnerLock};

/// The name of this layout below the root.
const LAYOUT: &str = "v1";
/// The directories of the layout.
const AREAS: [&str; 7] = ["files", "trees", "records", "locks", "tmp", "kept", "quarantine"];

/// The fix where the store cannot be written.
const WRITABLE: &str = "name a directory that you can write with --store";

/// One entry of the store, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A file, by the digest of its content.
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
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store below `root`, making what is missing, and removes what dead writers left.
    /// Errors: `io` or `disk_full` where it cannot be written, `store_unsafe` where others could have written it.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join(LAYOUT);
        let fail = |what: &str, e: std::io::Error| Error::io(what, &path, e).hint(WRITABLE);
        std::fs::create_dir_all(root).map_err(|e| fail("make store directory", e))?;
        match rustix::fs::mkdir(&path, Mode::from(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(fail("make store directory", e.into())),
        }
        let top = rustix::fs::open(&path, DIRECTORY, Mode::empty())
            .map_err(|e| fail("open store", e.into()))?;
        check_owner(&top, &path)?;
        for area in AREAS {
            make_dir(top.as_fd(), area).map_err(|e| fail("make store directory", e.into()))?;
        }
        let tmp = open_dir(top.as_fd(), "tmp").map_err(|e| fail("open store", e.into()))?;
        scratch::sweep(&tmp, &path.join("tmp"))?;
        let locks = open_dir(top.as_fd(), "locks").map_err(|e| fail("open store", e.into()))?;
        scratch::sweep_locks(&locks, &path.join("locks"))?;
        let lease = Lease::create(&tmp, &path.join("tmp"));
        let session = Some(lease.map_err(|e| match e.reason() {
            Reason::Io => e.hint(WRITABLE),
            _ => e,
        })?);
        Ok(Self { inner: Arc::new(Inner { path, top, session }) })
    }

    /// Opens a store for reading: nothing is written or made, not even a lock. `None`: there is no store.
    pub fn open_read(root: &Path) -> Result<Option<Self>> {
        let path = root.join(LAYOUT);
        let top = match rustix::fs::open(&path, DIRECTORY, Mode::empty()) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::io("open store", &path, e.into())),
        };
        check_owner(&top, &path)?;
        Ok(Some(Self { inner: Arc::new(Inner { path, top, session: None }) }))
    }

    /// The directory of this layout (`<root>/v1`).
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What lies here only because somebody kept it or found it wrong: the path of each such place, the number of
    /// things in it, and the bytes that they take on disk. Nothing of admit reads them.
    pub fn leftovers(&self) -> Vec<(PathBuf, usize, u64)> {
        let places = ["kept", "quarantine"].map(|area| self.path().join(area));
        let all = places.into_iter().map(|place| {
            let things = std::fs::read_dir(&place).map_or(0, |entries| entries.count());
            let bytes = scratch::bytes_below(&place);
            (place, things, bytes)
        });
        all.filter(|(_, things, _)| *things > 0).collect()
    }

    /// A temporary directory inside the store.
    pub fn scratch(&self) -> Result<Scratch> {
        self.session("a scratch directory")?;
        let (tmp, tmp_path) = self.area("tmp")?;
        let (kept, kept_path) = self.area("kept")?;
        Ok(Scratch::new(Lease::create(&tmp, &tmp_path)?, kept, kept_path))
    }

    /// An exclusive lock on `key`, waiting as long as it takes; `on_wait` is called once if somebody else has it.
    pub fn lock(&self, key: &Digest, on_wait: &mut dyn FnMut()) -> Result<KeyLock> {
        self.session("a lock")?;
        let (locks, place) = self.area("locks")?;
        OwnerLock::wait(&locks, &place, &key_name(key), on_wait).map(KeyLock)
    }

    /// Moves an entry that is not what its name says into quarantine and gives its new path. `None`: there is no such
    /// entry, or it is sound.
    pub fn remove_corrupt(&self, entry: Entry<'_>) -> Result<Option<PathBuf>> {
        self.session("a removal")?;
        let read = match entry {
            Entry::File(digest) => self.file(digest).map(|_| ()),
            Entry::Tree(nar) => self.tree(nar).map(|_| ()),
        };
        match read {
            Ok(()) => Ok(None),
            Err(e) if e.reason() == Reason::StoreCorrupt => self.quarantine(entry).map(Some),
            Err(e) => Err(e),
        }
    }

    /// Moves an entry away under a new name.
    fn quarantine(&self, entry: Entry<'_>) -> Result<PathBuf> {
        let (area, parts, digest) = match entry {
            Entry::File(digest) => ("files", file::parts(digest), digest),
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
        renameat_with(&parent, from, &quarantine, &name, RenameFlags::NOREPLACE).map_err(fail)?;
        Ok(to)
    }

    /// Where this process writes.
    fn session(&self, what: &str) -> Result<&Lease> {
        self.inner.session.as_ref().ok_or_else(|| scratch::reading_only(what))
    }

    /// One of the layout's directories, with its path.
    fn area(&self, name: &str) -> Result<(OwnedFd, PathBuf)> {
        let path = self.inner.path.join(name);
        let dir = open_dir(self.inner.top.as_fd(), name)
            .map_err(|e| Error::io("open store directory", &path, e.into()))?;
        Ok((dir, path))
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory and follows no link.
fn open_dir(parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<OwnedFd> {
    openat(parent, name, DIRECTORY, Mode::empty())
}

/// Makes a directory with mode 0700 unless it is there.
fn make_dir(parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    match mkdirat(parent, name, Mode::from(0o700)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

/// The type of what is at `name`, if anything.
fn kind_at(parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<Option<FileType>> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A digest as one file name.
fn key_name(key: &Digest) -> String {
    format!("{}-{}", key.algorithm().name(), key.to_hex())
}

/// Records say which output a plan has, so a store that others could have written is not used.
fn check_owner(top: &OwnedFd, path: &Path) -> Result<()> {
    let stat = fstat(top).map_err(|e| Error::io("examine store", path, e.into()))?;
    let me = rustix::process::geteuid().as_raw();
    if stat.st_uid == me && stat.st_mode & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::new(Reason::StoreUnsafe, "somebody else could have written this store")
        .at(path.display().to_string())
        .expected(format!("owner {me}, writable by the owner only"))
        .found(format!("owner {}, mode {:04o}", stat.st_uid, stat.st_mode & 0o7777))
        .hint("name a directory of your own with --store, or run as its owner"))
}

/// The error for an entry that is not what its name says.
fn corrupt(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::new(Reason::StoreCorrupt, "a store entry is not what its name says")
        .at(path.display().to_string())
        .expected(expected)
        .found(found)
        .hint(format!(
            "remove it (chmod -R u+w '{0}'; rm -rf '{0}'); the next build fetches or builds it again",
            path.display()
        ))
}

/// A point between two steps of writing. Tests end the process at each of them.
#[cfg(not(test))]
#[inline(always)]
fn step(_name: &str) {}

#[cfg(test)]
use tests::step;

#[cfg(test)]
mod tests;
