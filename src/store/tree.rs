//! Trees in the store: directories under the name of their NAR hash.
//!
//! A stored tree is normal: files 0444, or 0555 where their owner may execute them; directories 0555; every time one
//! second after 1970 (as Nix has it: 0 reads as "never" to some programs). Only what the NAR hash covers is verified.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, Timespec, Timestamps, chmodat, fchmod, futimens, mkdirat, statat,
    syncfs, utimensat,
};
use rustix::io::Errno;

use crate::error::{Error, Reason, Result};
use crate::host::rename_new;
use crate::record::ids::{Algorithm, Digest};

use super::dir::{DIRECTORY, corrupt, kind_at, open_dir, step};
use super::layout::{Entry, Store};
use super::nar::{self, Nar, below, names_in, nar_hash};
use super::scratch;

/// The time of everything in a stored tree.
const WHEN: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
const TIMES: Timestamps = Timestamps { last_access: WHEN, last_modification: WHEN };

/// A tree of the store whose whole content has just been hashed.
#[derive(Debug)]
pub struct StoredTree {
    path: PathBuf,
    nar: Nar,
    dir: OwnedFd,
}

impl StoredTree {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its NAR hash (SHA-256), by which it is stored.
    pub fn nar(&self) -> &Digest {
        &self.nar.digest
    }

    /// The very directory that was hashed, as a capability.
    pub fn dir(&self) -> Result<cap_std::fs::Dir> {
        let fd = self.dir.try_clone().map_err(|e| Error::io("open", &self.path, e))?;
        Ok(cap_std::fs::Dir::from(fd))
    }
}

/// A tree that is being written. Nothing of it is in the store before [`TreeWriter::finish`]; dropped, it is gone.
#[derive(Debug)]
pub struct TreeWriter {
    store: Store,
    name: String,
    path: PathBuf,
    dir: cap_std::fs::Dir,
    published: bool,
}

impl Store {
    pub fn tree_writer(&self) -> Result<TreeWriter> {
        let session = self.session("a tree writer")?;
        let name = format!("tree-{}", scratch::fresh_name());
        let path = session.path().join(&name);
        let fail = |e: Errno| Error::io("make temporary directory", &path, e.into());
        mkdirat(session.dir(), &name, Mode::from(0o700)).map_err(fail)?;
        let dir = open_dir(session.dir().as_fd(), &name).map_err(fail)?;
        step("tree: made");
        let dir = cap_std::fs::Dir::from(dir);
        Ok(TreeWriter { store: self.clone(), name, path, dir, published: false })
    }

    /// Remembers that `key` gave this tree, under `area`.
    pub fn put_tree_of(&self, area: &str, key: &Digest, tree: &StoredTree) -> Result<()> {
        self.record_put(area, key, "tree", tree.nar().to_string().as_bytes())
    }

    /// The tree that `key` gave before, after all of it has been hashed; a corrupt one is put away. `None`: it has to be
    /// made.
    ///
    /// # Errors
    /// Those of [`Store::record_get`] and [`Store::tree`], but `store_corrupt`.
    pub fn tree_of(&self, area: &str, key: &Digest) -> Result<Option<StoredTree>> {
        let Some(bytes) = self.record_get(area, key, "tree")? else { return Ok(None) };
        let nar = String::from_utf8(bytes).ok().and_then(|text| text.parse::<Digest>().ok());
        let Some(nar) = nar else { return Ok(None) };
        match self.tree(&nar) {
            Err(err) if err.reason() == Reason::StoreCorrupt => {
                self.remove_corrupt(Entry::Tree(&nar))?;
                Ok(None)
            }
            other => other,
        }
    }

    /// The tree with this NAR hash, after all of it has been hashed. `None`: it is not in the store.
    /// Errors: `store_corrupt` with what was found; `bad_argument` for a hash that is not SHA-256; `io`.
    pub fn tree(&self, nar: &Digest) -> Result<Option<StoredTree>> {
        let path = self.tree_path(nar)?;
        let trees = match open_dir(self.top(), "trees") {
            Ok(trees) => trees,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::io("open store directory", self.path(), e.into())),
        };
        let dir = match open_dir(trees.as_fd(), nar.to_hex()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let kind = kind_at(trees.as_fd(), &nar.to_hex()).ok().flatten();
                let found = nar::describe(kind.unwrap_or(FileType::Unknown));
                return Err(corrupt(&path, nar.to_string(), found));
            }
            Err(e) => return Err(Error::io("open store entry", &path, e.into())),
        };
        let found = match nar_hash(&dir, &path) {
            Ok(found) => found,
            // A store makes no such tree. What the machine refused (a descriptor too many) says nothing about the tree,
            // and must not send a sound one into quarantine.
            Err(e)
                if matches!(e.reason(), Reason::HostileArchive | Reason::LimitHit)
                    && std::error::Error::source(&e).is_none() =>
            {
                let found = e.found_value().unwrap_or("a tree that no store holds").to_owned();
                return Err(corrupt(&path, nar.to_string(), found).caused_by(e));
            }
            Err(e) => return Err(e),
        };
        if found.digest != *nar {
            return Err(corrupt(&path, nar.to_string(), found.digest.to_string()));
        }
        Ok(Some(StoredTree { path, nar: found, dir }))
    }

    /// The path that a tree with this NAR hash has, whether it is there or not.
    pub fn tree_path(&self, nar: &Digest) -> Result<PathBuf> {
        if nar.algorithm() != Algorithm::Sha256 {
            return Err(Error::new(Reason::BadArgument, "a NAR hash is SHA-256 here")
                .found(nar.to_string()));
        }
        Ok(self.path().join("trees").join(nar.to_hex()))
    }
}

impl TreeWriter {
    pub fn dir(&self) -> &cap_std::fs::Dir {
        &self.dir
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the tree: it is made normal, hashed and stored; where it has another hash than `expected`, it is removed.
    /// Errors: `digest_mismatch`, `hostile_archive` for a device, socket or pipe in it, `disk_full`, `io`.
    pub fn finish(mut self, expected: Option<&Digest>) -> Result<StoredTree> {
        step("tree: filled");
        normalise(self.dir.as_fd(), &self.path, 0)?;
        step("tree: normal");
        let nar = nar_hash(self.dir.as_fd(), &self.path)?;
        if let Some(expected) = expected
            && *expected != nar.digest
        {
            return Err(Error::new(Reason::DigestMismatch, "a tree has another NAR hash")
                .expected(expected.to_sri())
                .found(nar.digest.to_sri()));
        }
        step("tree: hashed");
        // One call for all files: a source tree has thousands, and each fsync would wait for the disk by itself.
        syncfs(self.dir.as_fd()).map_err(|e| Error::io("sync", &self.path, e.into()))?;
        step("tree: synced");
        let path = self.store.tree_path(&nar.digest)?;
        let name = nar.digest.to_hex();
        let (trees, _) = self.store.area("trees")?;
        let session = self.store.session("a tree writer")?;
        for retry in [true, false] {
            match rename_new(session.dir(), &self.name, &trees, &name) {
                Ok(()) => break,
                Err(Errno::EXIST | Errno::NOTEMPTY) if retry => {
                    match self.store.tree(&nar.digest) {
                        // Another process stored the same; ours is removed when dropped.
                        Ok(Some(there)) => return Ok(there),
                        Ok(None) => {}
                        Err(e) if e.reason() == Reason::StoreCorrupt => {
                            self.store.quarantine(Entry::Tree(&nar.digest))?;
                        }
                        Err(e) => return Err(e),
                    }
                }
                Err(e) => return Err(Error::io("store tree as", &path, e.into())),
            }
        }
        self.published = true;
        step("tree: renamed");
        // Only now: a directory that may not be written cannot move to another parent.
        let fail = |e: Errno| Error::io("set mode of", &path, e.into());
        let dir = open_dir(trees.as_fd(), &name).map_err(fail)?;
        fchmod(&dir, Mode::from(0o555)).map_err(fail)?;
        futimens(&dir, &TIMES).map_err(fail)?;
        Ok(StoredTree { path, nar, dir })
    }
}

impl Drop for TreeWriter {
    fn drop(&mut self) {
        if !self.published
            && let Ok(session) = self.store.session("a tree writer")
        {
            let _ = scratch::remove_tree(session.dir().as_fd(), &self.name);
        }
    }
}

/// Gives everything below `dir` the modes and times of a stored tree. The top keeps its mode.
fn normalise(dir: BorrowedFd<'_>, place: &Path, depth: usize) -> Result<()> {
    for name in names_in(dir, place)? {
        let place = below(place, &name);
        let fail = |e: Errno| Error::io("set mode of", &place, e.into());
        let stat = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth < nar::DEPTH => {
                chmodat(dir, &name, Mode::from(0o700), AtFlags::empty()).map_err(fail)?;
                let sub = rustix::fs::openat(dir, &name, DIRECTORY, Mode::empty()).map_err(fail)?;
                normalise(sub.as_fd(), &place, depth + 1)?;
                fchmod(&sub, Mode::from(0o555)).map_err(fail)?;
            }
            FileType::RegularFile => {
                let mode = if stat.st_mode & 0o100 != 0 { 0o555 } else { 0o444 };
                chmodat(dir, &name, Mode::from(mode), AtFlags::empty()).map_err(fail)?;
            }
            FileType::Symlink => {}
            // Too deep: the hash that comes next says so.
            FileType::Directory => {}
            other => return Err(nar::special(other, &place)),
        }
        utimensat(dir, &name, &TIMES, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    }
    Ok(())
}
