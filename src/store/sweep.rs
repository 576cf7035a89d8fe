//! What lies in the store, entry by entry, and its removal: for `admit gc`, which decides what is needed.

use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FlockOperation, Mode, chmodat, flock, renameat, unlinkat};
use rustix::io::Errno;

use super::dir::open_dir;
use super::layout::Store;
use super::scratch::{self, bytes_below};
use crate::error::{Error, Result};
use crate::host::is_nothing;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    File,
    Tree,
    /// All records of one area about one key.
    Record,
}

#[derive(Clone, Debug)]
pub struct Lying {
    pub sort: Sort,
    /// The area of a record; empty for content.
    pub area: String,
    /// Its digest or key, in hex.
    pub hex: String,
    /// Its directories and its name below the layout.
    parts: Vec<String>,
    /// On disk.
    pub bytes: u64,
    /// When it was last written; of trees the store keeps no time.
    pub modified: SystemTime,
}

/// The right to remove entries: no other process has the store open. Let go of when dropped.
pub struct Alone<'a>(&'a Store);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // Back to one of many, as every open store is.
        let _ = flock(self.0.top(), FlockOperation::NonBlockingLockShared);
    }
}

impl Store {
    /// The right to remove entries, once no other admit has this store open; `on_wait` is called if one has.
    ///
    /// # Errors
    /// Where the file system has no locks, so that nobody could tell.
    pub fn alone(&self, on_wait: &mut dyn FnMut()) -> Result<Alone<'_>> {
        self.removing()?;
        let mut taken = flock(self.top(), FlockOperation::NonBlockingLockExclusive);
        if taken == Err(Errno::WOULDBLOCK) {
            on_wait();
            taken = Err(Errno::INTR);
        }
        while taken == Err(Errno::INTR) {
            taken = flock(self.top(), FlockOperation::LockExclusive);
        }
        match taken {
            Ok(()) => Ok(Alone(self)),
            Err(err) => Err(Error::io("lock the store", self.path(), err.into())),
        }
    }

    /// Everything that lies under a digest or a key, in no order.
    pub fn lying(&self) -> Result<Vec<Lying>> {
        let mut out = Vec::new();
        // The names below each of these are so many levels deep.
        for (sort, area, levels) in
            [(Sort::File, "files", 3), (Sort::Tree, "trees", 1), (Sort::Record, "records", 2)]
        {
            let mut all = vec![vec![area.to_owned()]];
            for _ in 0..levels {
                let mut below = Vec::new();
                for parts in &all {
                    let names = listed(&self.path().join(parts.join("/")))?;
                    below
                        .extend(names.into_iter().map(|name| [parts.as_slice(), &[name]].concat()));
                }
                all = below;
            }
            for parts in all {
                out.extend(self.one(sort, parts)?);
            }
        }
        Ok(out)
    }

    /// `None`: gone meanwhile, or nothing that a store makes.
    fn one(&self, sort: Sort, parts: Vec<String>) -> Result<Option<Lying>> {
        let path = self.path().join(parts.join("/"));
        let meta = match std::fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(Error::io("look at", &path, err)),
        };
        let name = parts.last().map(String::as_str).unwrap_or_default();
        let hex = name.rsplit('-').next().unwrap_or_default().to_owned();
        if hex.len() < 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        // stat(2) counts in units of 512 bytes.
        let own = meta.blocks().saturating_mul(512);
        let bytes = if meta.is_dir() { own.saturating_add(bytes_below(&path)) } else { own };
        let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let area = if sort == Sort::Record { parts[1].clone() } else { String::new() };
        Ok(Some(Lying { sort, area, hex, parts, bytes, modified }))
    }

    /// The names of the records of an entry of [`Sort::Record`], and where they lie.
    pub fn names_of(&self, one: &Lying) -> Result<Vec<(String, PathBuf)>> {
        let dir = self.path().join(one.parts.join("/"));
        let names = listed(&dir)?;
        Ok(names.into_iter().map(|name| (name.clone(), dir.join(name))).collect())
    }

    /// Removes an entry: under its name it is whole until it is gone.
    pub fn remove(&self, _: &Alone<'_>, one: &Lying) -> Result<()> {
        let session = self.removing()?;
        let place = self.path().join(one.parts.join("/"));
        let fail = |err: Errno| Error::io("remove", &place, err.into());
        let Some((name, dirs)) = one.parts.split_last() else { return Ok(()) };
        let mut dir = rustix::io::fcntl_dupfd_cloexec(self.top(), 0).map_err(fail)?;
        for part in dirs {
            dir = open_dir(dir.as_fd(), part).map_err(fail)?;
        }
        if one.sort == Sort::File {
            return match unlinkat(&dir, name.as_str(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(err) => Err(fail(err)),
            };
        }
        // A directory that moves to another parent must be writable itself.
        chmodat(&dir, name.as_str(), Mode::from(0o700), AtFlags::empty()).map_err(fail)?;
        let gone = format!("gone-{}", scratch::fresh_name());
        renameat(&dir, name.as_str(), session.dir(), &gone).map_err(fail)?;
        scratch::remove_tree(session.dir().as_fd(), &gone).map_err(fail)
    }
}

/// The names in a directory, sorted; none where it is not there.
fn listed(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) if is_nothing(&err) => return Ok(Vec::new()),
        Err(err) => return Err(Error::io("list", dir, err)),
    };
    let mut out = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|err| Error::io("list", dir, err))?;
        out.extend(entry.file_name().into_string());
    }
    out.sort();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ids::{Algorithm, Digest};

    #[test]
    fn what_lies_here_is_listed_and_removed_and_a_user_keeps_the_cleaner_out() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let file = store.put(b"one", Algorithm::Sha256).unwrap();
        let writer = store.tree_writer().unwrap();
        writer.dir().write("a", b"two").unwrap();
        let tree = writer.finish(None).unwrap();
        store.record_put("builds", &Digest::sha256(b"key"), "report.json", b"{}").unwrap();
        let all = store.lying().unwrap();
        let hexes: Vec<&str> = all.iter().map(|one| one.hex.as_str()).collect();
        let key = Digest::sha256(b"key").to_hex();
        let mut sorts: Vec<Sort> = all.iter().map(|one| one.sort).collect();
        sorts.sort();
        assert_eq!(sorts, [Sort::File, Sort::Tree, Sort::Record]);
        for hex in [file.digest().to_hex(), tree.nar().to_hex(), key] {
            assert!(hexes.contains(&hex.as_str()), "{hex} is not in {hexes:?}");
        }
        let (other, reader) =
            (Store::open(dir.path()).unwrap(), Store::open_read(dir.path()).unwrap());
        let (tell, told) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            // Those who have it open, if only to read, are waited for.
            told.recv().unwrap();
            drop(other);
            drop(reader);
        });
        let alone = store.alone(&mut || tell.send(()).unwrap()).unwrap();
        waiting.join().unwrap();
        all.iter().for_each(|one| store.remove(&alone, one).unwrap());
        assert!(store.lying().unwrap().is_empty());
        assert_eq!(store.file(&Digest::sha256(b"one")).unwrap().map(|file| file.size()), None);
        drop(alone);
        Store::open(dir.path()).unwrap();
    }
}
