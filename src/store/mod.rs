//! The content-addressed store: every verified input and output, by digest.
//!
//! ```text
//! <root>/v1/                      mode 0700, this user's; another layout would get another name
//!   files/<alg>/<2 hex>/<hex>     one file, mode 0444; the name is the digest of its content
//!   trees/<hex>/                  a directory; the name is its NAR hash (SHA-256)
//!   records/<area>/<alg>-<hex>/<name>   a small record about a key (a plan), checked by a digest of its own
//!   locks/<alg>-<hex>             exists while a process works on that key
//!   tmp/<owner>/, tmp/<owner>.lock    unfinished work; the lock is an flock, so it ends with its owner
//!   kept/                         scratch directories that a user asked to keep
//!   quarantine/                   entries that were not what their names say
//! ```
//!
//! Content is written below `tmp` (the same file system), hashed while it is written, synced, and renamed to its name:
//! an entry under its name is whole. A crash leaves only things below `tmp` and `locks`, which the next [`Store::open`]
//! removes.
//! Directories are not synced: after a power cut an entry may be missing, which costs a fetch and misleads no reader.
//! Nothing is believed because of where it lies: **every read hashes the whole entry again** before the caller gets it.

mod dir;
mod file;
mod hash;
mod layout;
mod nar;
mod outside;
mod record;
mod scratch;
pub mod sink;
mod sweep;
mod tree;

use std::path::PathBuf;

use crate::error::{Reason, Result};

pub(crate) use dir::open_dir;
pub use dir::removal;
pub use file::{FileWriter, Pending, StoredFile};
pub(crate) use hash::Positioned;
pub use hash::{Digests, Hashes};
pub use layout::{Entry, Store};
pub use nar::{Nar, nar_hash};
pub use outside::Outside;
pub use scratch::{KeyLock, Scratch};
pub use sweep::{Alone, Lying, Sort};
pub use tree::{StoredTree, TreeWriter};

impl Store {
    /// What lies here only because a user kept it or a read found it wrong: the path of each such place, the number of
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

    /// Moves an entry that is not what its name says into quarantine and gives its new path. `None`: there is no such
    /// entry, or it is sound.
    pub fn remove_corrupt(&self, entry: Entry<'_>) -> Result<Option<PathBuf>> {
        self.removing()?;
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
}

#[cfg(test)]
pub(crate) mod tests;
