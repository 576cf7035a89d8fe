//! Git objects and an index, written: for the sources inside admit and for the workspace of a run.

use std::collections::BTreeMap;

use sha1_checked::{Digest as _, Sha1};

use super::id::{ObjectKind, Oid};
use crate::error::{Error, Reason, Result};
use crate::record::ids::CommitId;

/// One file of a tree: its path, git's mode of it, its content.
pub type Row<'a> = (&'a str, &'static str, &'a [u8]);

#[derive(Clone, Default)]
pub struct ObjectSet(pub BTreeMap<Oid, (ObjectKind, Vec<u8>)>);

impl ObjectSet {
    fn add(&mut self, kind: ObjectKind, data: Vec<u8>) -> Oid {
        let id = Oid::of(kind, &data);
        self.0.insert(id, (kind, data));
        id
    }

    fn tree(&mut self, files: &[Row<'_>]) -> Result<Oid> {
        let mut dirs: BTreeMap<&str, Vec<Row<'_>>> = BTreeMap::new();
        let mut rows: BTreeMap<&str, (&str, Oid)> = BTreeMap::new();
        let twice =
            |path: &str| Error::new(Reason::Internal, "a path that is there twice").at(path);
        for (path, mode, data) in files {
            match path.split_once('/') {
                Some((dir, below)) => dirs.entry(dir).or_default().push((below, mode, data)),
                None => {
                    let id = self.add(ObjectKind::Blob, data.to_vec());
                    if rows.insert(path, (mode, id)).is_some() {
                        return Err(twice(path));
                    }
                }
            }
        }
        for (dir, below) in dirs {
            if rows.insert(dir, (TREE, self.tree(&below)?)).is_some() {
                return Err(twice(dir));
            }
        }
        let rows = rows.into_iter().map(|(name, (mode, id))| (mode, name.as_bytes().to_vec(), id));
        Ok(self.add(ObjectKind::Tree, tree(rows)))
    }

    /// Adds the commit of these files, with everything that it reaches except for `parent`. `who` is author and
    /// committer: `Name <mail> seconds zone`.
    ///
    /// # Errors
    /// [`Reason::Internal`] where a path is given twice or is also a directory.
    pub fn commit(
        &mut self,
        files: &[Row<'_>],
        parent: Option<&CommitId>,
        who: &str,
        message: &str,
    ) -> Result<CommitId> {
        let tree = self.tree(files)?;
        let parent = parent.map_or(String::new(), |parent| format!("parent {parent}\n"));
        let text = format!("tree {tree}\n{parent}author {who}\ncommitter {who}\n\n{message}\n");
        self.add(ObjectKind::Commit, text.into_bytes()).commit()
    }
}

/// Git's mode of a directory.
pub const TREE: &str = "40000";

pub fn tree<'a>(entries: impl IntoIterator<Item = (&'a str, Vec<u8>, Oid)>) -> Vec<u8> {
    // Git sorts a directory as if its name ended in a slash.
    let key = |mode: &str, name: &[u8]| [name, if mode == TREE { b"/" } else { b"" }].concat();
    let sorted: BTreeMap<_, _> = entries
        .into_iter()
        .map(|(mode, name, id)| {
            (key(mode, &name), [mode.as_bytes(), b" ", &name, b"\0", &id.0].concat())
        })
        .collect();
    sorted.into_values().flatten().collect()
}

/// The index (version 2, `gitformat-index`) of files that git has not looked at: without times and sizes, it compares
/// contents. `files` are in the order of their paths.
pub fn index(files: &[Row<'_>]) -> Vec<u8> {
    let mut out =
        [&b"DIRC\0\0\0\x02"[..], &u32::try_from(files.len()).unwrap_or(0).to_be_bytes()].concat();
    for (path, mode, data) in files {
        let begin = out.len();
        // Two times of two numbers, device, inode.
        out.extend([0; 24]);
        out.extend(u32::from_str_radix(mode, 8).unwrap_or(0).to_be_bytes());
        // Owner, group, size.
        out.extend([0; 12]);
        out.extend(Oid::of(ObjectKind::Blob, data).0);
        out.extend(u16::try_from(path.len().min(0xfff)).unwrap_or(0).to_be_bytes());
        out.extend(path.as_bytes());
        // One zero byte at least, and a length that eight divides.
        let len = (out.len() - begin + 8) / 8 * 8;
        out.resize(begin + len, 0);
    }
    let sum = Sha1::digest(&out);
    out.extend(sum);
    out
}
