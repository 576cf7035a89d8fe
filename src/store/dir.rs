//! What every part of the store does with directories, and how it names things.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, statat,
};
use rustix::io::Errno;

use crate::error::{Error, Reason, Result};
use crate::host::quoted;
use crate::record::ids::Digest;

pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory and follows no link.
pub fn open_dir(parent: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(parent, name, DIRECTORY, Mode::empty())
}

/// Makes a directory with mode 0700 unless it is there.
pub(super) fn make_dir(parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    match mkdirat(parent, name, Mode::from(0o700)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Says that a store is in use, as long as `top` is open; waits where one is just being cleaned. On a file system
/// without locks work goes on as well: there, nothing is ever removed.
pub(super) fn in_use(top: &OwnedFd) {
    while let Err(Errno::INTR) = flock(top, FlockOperation::LockShared) {}
}

/// Refuses a directory that is another user's, or that others can write.
pub(super) fn check_owner(dir: &OwnedFd, path: &Path, what: &str, fix: &str) -> Result<()> {
    let stat = fstat(dir).map_err(|e| Error::io("examine", path, e.into()))?;
    let me = rustix::process::geteuid().as_raw();
    if stat.st_uid == me && stat.st_mode & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::new(Reason::StoreUnsafe, what)
        .at(path.display().to_string())
        .expected(format!("owner {me}, writable by the owner only"))
        .found(format!("owner {}, mode {:04o}", stat.st_uid, stat.st_mode & 0o7777))
        .hint(fix))
}

pub(super) fn kind_at(parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<Option<FileType>> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) fn key_name(key: &Digest) -> String {
    format!("{}-{}", key.algorithm(), key.to_hex())
}

/// The parts of a file's path below `files`.
pub(super) fn parts(digest: &Digest) -> Vec<String> {
    let hex = digest.to_hex();
    vec![digest.algorithm().to_string(), hex[..2].to_owned(), hex]
}

/// The error for an entry that is not what its name says.
pub(super) fn corrupt(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::new(Reason::StoreCorrupt, "a store entry is not what its name says")
        .at(path.display().to_string())
        .expected(expected)
        .found(found)
        .hint(format!("remove it: {}; the next build fetches or builds it again", removal(path)))
}

/// What removes something of the store, as it is typed: a tree there may not be written, even by its owner.
pub fn removal(path: &Path) -> String {
    let path = quoted(&path.display().to_string());
    format!("chmod -R u+w {path} && rm -rf {path}")
}

/// A point between two steps of writing. Tests end the process at each of them.
#[cfg(not(test))]
#[inline(always)]
pub(super) fn step(_name: &str) {}

#[cfg(test)]
pub(super) use super::tests::step;
