//! The source in the room: copied in from the store, compared with the store's tree after the build.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, OpenOptions, OpenOptionsExt, PermissionsExt};

use super::left;
use crate::error::{Error, Reason, Result};
use crate::record::ids::{Digest, RelPath};
use crate::sandbox::Owner;
use crate::store::{Hashes, StoredTree};

/// One tracked thing of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    File {
        digest: Digest,
        executable: bool,
    },
    /// A symbolic link with its target.
    Link(PathBuf),
}

/// The tracked files as they were before the build.
#[derive(Debug)]
pub struct Tracked(BTreeMap<String, Entry>);

/// Copies the stored source into `room` at `below`, owned by the payload, and remembers every tracked file.
///
/// # Errors
/// [`Reason::Io`] or [`Reason::DiskFull`].
pub fn copy_in(tree: &StoredTree, room: &Dir, below: &str, owner: Owner) -> Result<Tracked> {
    let from = tree.dir()?;
    let mut files = Vec::new();
    // Opened as ourselves: the payload may not look into the store.
    collect(&from, "", &mut files)?;
    let _as_payload = owner.enter()?;
    let mut tracked = BTreeMap::new();
    let mut dir = DirBuilder::new();
    dir.mode(0o755).recursive(true);
    let io = |what: &'static str, path: &str| {
        let path = path.to_owned();
        move |err| Error::io(what, path, err)
    };
    room.create_dir_with(below, &dir).map_err(io("create the directory", below))?;
    for (path, source) in files {
        let target = format!("{below}/{path}");
        let entry = match source {
            Found::Dir => {
                room.create_dir_with(&target, &dir).map_err(io("create the directory", &target))?;
                continue;
            }
            Found::Link(to) => {
                room.symlink_contents(&to, &target).map_err(io("create the link", &target))?;
                Entry::Link(to)
            }
            Found::File { mut file, executable } => {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(if executable { 0o755 } else { 0o644 });
                let mut out = room.open_with(&target, &options).map_err(io("create", &target))?;
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(io("read", &path))?;
                out.write_all(&bytes).map_err(io("write", &target))?;
                Entry::File { digest: Digest::sha256(&bytes), executable }
            }
        };
        tracked.insert(path, entry);
    }
    Ok(Tracked(tracked))
}

enum Found {
    Dir,
    Link(PathBuf),
    File { file: cap_std::fs::File, executable: bool },
}

/// Everything below `dir`, parents before children.
fn collect(dir: &Dir, prefix: &str, out: &mut Vec<(String, Found)>) -> Result<()> {
    let io = |what: &'static str| {
        let prefix = prefix.to_owned();
        move |err| Error::io(what, prefix, err)
    };
    for entry in dir.entries().map_err(io("list the source"))? {
        let entry = entry.map_err(io("list the source"))?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| {
            Error::new(Reason::SourceMismatch, "the source has a file name that is not UTF-8")
                .at(prefix.to_owned())
        })?;
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let meta = entry.metadata().map_err(io("inspect the source"))?;
        if meta.is_dir() {
            out.push((path.clone(), Found::Dir));
            collect(&entry.open_dir().map_err(io("open the source"))?, &path, out)?;
        } else if meta.is_symlink() {
            out.push((
                path,
                Found::Link(dir.read_link_contents(name).map_err(io("read the link"))?),
            ));
        } else {
            let executable = meta.permissions().mode() & 0o100 != 0;
            out.push((
                path,
                Found::File { file: entry.open().map_err(io("open the source"))?, executable },
            ));
        }
    }
    Ok(())
}

impl Tracked {
    /// The tracked files that are not as they were, in order.
    ///
    /// # Errors
    /// [`Reason::Io`] where a file cannot be read; a file that is gone or has become something else is a change.
    pub fn changed(&self, room: &Dir, below: &str) -> Result<Vec<RelPath>> {
        let mut changed = Vec::new();
        for (path, before) in &self.0 {
            if now(room, &format!("{below}/{path}"))?.as_ref() != Some(before) {
                changed.push(path.parse().map_err(|err| {
                    Error::new(
                        Reason::SourceMismatch,
                        "the source has a path that admit does not accept",
                    )
                    .caused_by(err)
                })?);
            }
        }
        Ok(changed)
    }
}

/// What is at `path` now; `None` where it is neither a file nor a link. No link is followed on the way.
fn now(room: &Dir, path: &str) -> Result<Option<Entry>> {
    let io = |what: &'static str| move |err| Error::io(what, path, err);
    let (dir, name) = match left::parent(room, path) {
        Ok(found) => found,
        Err(err) if left::is_absent(&err) => return Ok(None),
        Err(err) => return Err(io("open the directory of")(err)),
    };
    let Ok(meta) = dir.symlink_metadata(name) else { return Ok(None) };
    if meta.is_symlink() {
        return Ok(dir.read_link_contents(name).ok().map(Entry::Link));
    }
    if !meta.is_file() {
        return Ok(None);
    }
    let mut file = left::file(&dir, name).map_err(io("open"))?;
    let digests =
        Hashes::read(&mut file, &[crate::record::ids::Algorithm::Sha256]).map_err(io("read"))?;
    let executable = meta.permissions().mode() & 0o100 != 0;
    Ok(digests
        .get(crate::record::ids::Algorithm::Sha256)
        .map(|d| Entry::File { digest: d.clone(), executable }))
}
