//! How many digits git gives to the short name of a commit.
//!
//! Git takes as many as it expects to tell the repository's objects apart by, so the number grows with them (git-config(1),
//! `core.abbrev`). A pin has no history: what it stands for is a clone that holds the one commit, as `git clone --depth 1`
//! and the checkouts of most pipelines have it.

use std::collections::BTreeSet;

use cap_std::fs::Dir;

use crate::error::{Error, Result};

/// The fewest digits that git takes by itself.
const LEAST: usize = 7;

/// The number of objects from which on there are more: below it half of the bits of their number are too few.
const MANY: usize = 1 << 14;

/// The digits for a clone of `objects` objects (seen with git 2.47 for 16,383 and 16,384 of them).
pub fn digits(objects: usize) -> usize {
    let bits = objects.checked_ilog2().map_or(1, |top| top as usize + 1);
    bits.div_ceil(2).max(LEAST)
}

/// The objects of a clone that holds the commit of this checkout alone: the commit, its directories and the contents of
/// its files, each once. Submodules are counted as directories.
pub fn objects(checkout: &Dir) -> Result<usize> {
    let entries = count(checkout)?;
    // So few can be no more by being told apart.
    if entries < MANY {
        return Ok(entries + 2);
    }
    let mut seen = BTreeSet::new();
    tree(checkout, &mut seen)?;
    Ok(seen.len() + 1)
}

fn count(dir: &Dir) -> Result<usize> {
    let mut all = 0;
    for entry in dir.entries().map_err(listing)? {
        let entry = entry.map_err(listing)?;
        all += 1;
        if entry.file_type().map_err(listing)?.is_dir() {
            all += count(&entry.open_dir().map_err(listing)?)?;
        }
    }
    Ok(all)
}

/// Adds what is below, and gives what stands for the directory itself.
fn tree(dir: &Dir, seen: &mut BTreeSet<[u8; 32]>) -> Result<[u8; 32]> {
    let mut rows = Vec::new();
    for entry in dir.entries().map_err(listing)? {
        let entry = entry.map_err(listing)?;
        let (name, kind) = (entry.file_name(), entry.file_type().map_err(listing)?);
        let (word, id) = if kind.is_dir() {
            ("tree", tree(&entry.open_dir().map_err(listing)?, seen)?)
        } else if kind.is_symlink() {
            let target = dir.read_link_contents(&name).map_err(listing)?;
            ("link", *blake3::hash(target.as_os_str().as_encoded_bytes()).as_bytes())
        } else {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(entry.open().map_err(listing)?).map_err(listing)?;
            ("file", *hasher.finalize().as_bytes())
        };
        seen.insert(id);
        rows.push((name, word, id));
    }
    rows.sort();
    let mut hasher = blake3::Hasher::new();
    for (name, word, id) in rows {
        let name = name.as_encoded_bytes();
        hasher.update(&name.len().to_le_bytes()).update(name).update(word.as_bytes()).update(&id);
    }
    let id = *hasher.finalize().as_bytes();
    seen.insert(id);
    Ok(id)
}

fn listing(err: std::io::Error) -> Error {
    Error::io("count the objects of", "the source", err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_those_of_git() {
        for (objects, expected) in
            [(0, 7), (3, 7), (16_383, 7), (16_384, 8), (65_535, 8), (65_536, 9), (262_144, 10)]
        {
            assert_eq!(digits(objects), expected, "{objects}");
        }
    }

    #[test]
    fn contents_are_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [("a/x", "1"), ("b/x", "1"), ("c/x", "2"), ("y", "1")] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let open = Dir::open_ambient_dir(dir.path(), cap_std::ambient_authority()).unwrap();
        let mut seen = BTreeSet::new();
        tree(&open, &mut seen).unwrap();
        // Two contents, two directories that differ, and the root.
        assert_eq!((seen.len(), count(&open).unwrap()), (5, 7));
    }
}
