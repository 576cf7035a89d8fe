//! The source in the work directory: copied in from the store, compared with the store's tree after the build.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::PathBuf;

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, OpenOptions, OpenOptionsExt, PermissionsExt};

use super::left;
use crate::error::{Error, Reason, Result};
use crate::record::ids::{Algorithm, Digest, RelPath};
use crate::sandbox::Owner;
use crate::store::{Hashes, StoredTree};

/// One tracked thing of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    File { digest: Digest, executable: bool },
    Link(PathBuf),
}

/// The tracked files as they were before the build.
#[derive(Debug)]
pub struct Tracked(BTreeMap<String, Entry>);

/// Copies the stored source into `dir` at `below`, owned by the payload, and remembers every tracked file; also gives
/// those that are git-lfs pointers in place of the file that is meant.
///
/// # Errors
/// [`Reason::Io`] or [`Reason::DiskFull`].
pub fn copy_in(
    tree: &StoredTree,
    dir: &Dir,
    below: &str,
    owner: Owner,
) -> Result<(Tracked, Vec<RelPath>)> {
    let mut copy = Copy { to: dir, below, owner, tracked: BTreeMap::new(), pointers: Vec::new() };
    copy.dir(&tree.dir()?, "")?;
    Ok((Tracked(copy.tracked), copy.pointers))
}

/// How a git-lfs pointer begins (git-lfs, spec.md); it has at most 1,023 bytes.
pub const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// What is read is opened as ourselves, since the payload may not look into the store; what is made is the payload's.
struct Copy<'a> {
    to: &'a Dir,
    below: &'a str,
    owner: Owner,
    tracked: BTreeMap<String, Entry>,
    pointers: Vec<RelPath>,
}

impl Copy<'_> {
    /// Everything in `from`, which is at `path` in the source.
    fn dir(&mut self, from: &Dir, path: &str) -> Result<()> {
        let io = |what: &'static str| move |err| Error::io(what, path, err);
        let target = match path {
            "" => self.below.to_owned(),
            path => format!("{}/{path}", self.below),
        };
        {
            let _as_payload = self.owner.enter()?;
            let mut builder = DirBuilder::new();
            builder.mode(0o755).recursive(true);
            self.to.create_dir_with(&target, &builder).map_err(io("create the directory"))?;
        }
        for entry in from.entries().map_err(io("list the source"))? {
            let entry = entry.map_err(io("list the source"))?;
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| {
                Error::new(Reason::SourceMismatch, "the source has a file name that is not UTF-8")
                    .at(path)
            })?;
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let io = |what: &'static str| move |err| Error::io(what, name, err);
            let meta = entry.metadata().map_err(io("inspect the source"))?;
            if meta.is_dir() {
                self.dir(&entry.open_dir().map_err(io("open the source"))?, &path)?;
                continue;
            }
            let tracked = if meta.is_symlink() {
                let to = from.read_link_contents(name).map_err(io("read the link"))?;
                let _as_payload = self.owner.enter()?;
                let target = format!("{}/{path}", self.below);
                self.to.symlink_contents(&to, &target).map_err(io("create the link"))?;
                Entry::Link(to)
            } else {
                let mut bytes = Vec::new();
                let mut file = entry.open().map_err(io("open the source"))?;
                file.read_to_end(&mut bytes).map_err(io("read"))?;
                if bytes.len() < 1024 && bytes.starts_with(LFS) {
                    self.pointers.extend(path.parse::<RelPath>());
                }
                self.file(&path, &bytes, meta.permissions().mode() & 0o100 != 0)?
            };
            self.tracked.insert(path, tracked);
        }
        Ok(())
    }

    fn file(&self, path: &str, bytes: &[u8], executable: bool) -> Result<Entry> {
        let io = |what: &'static str| move |err| Error::io(what, path, err);
        let _as_payload = self.owner.enter()?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(if executable { 0o755 } else { 0o644 });
        let target = format!("{}/{path}", self.below);
        let mut out = self.to.open_with(&target, &options).map_err(io("create"))?;
        out.write_all(bytes).map_err(io("write"))?;
        Ok(Entry::File { digest: Digest::sha256(bytes), executable })
    }
}

impl Tracked {
    /// The tracked files that are not as they were, in order. That one of `commands` is executable is the install's work.
    ///
    /// # Errors
    /// [`Reason::Io`] where a file cannot be read; a file that is gone or has become something else is a change.
    pub fn changed(
        &self,
        dir: &Dir,
        below: &str,
        commands: &BTreeSet<String>,
    ) -> Result<Vec<RelPath>> {
        let mut changed = Vec::new();
        for (path, before) in &self.0 {
            let mut now = now(dir, &format!("{below}/{path}"))?;
            if let (Some(Entry::File { executable, .. }), Entry::File { executable: was, .. }) =
                (&mut now, before)
                && commands.contains(path)
            {
                *executable = *was;
            }
            if now.as_ref() != Some(before) {
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

/// Most executables that a message names.
const NAMED: usize = 4;

impl Tracked {
    /// Executable files that the build made, outside of `modules`, for a message: where an output may be.
    pub fn made(&self, dir: &Dir, below: &str, modules: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        let mut queue = vec![String::new()];
        while let Some(path) = queue.pop().filter(|_| found.len() < NAMED) {
            let place = if path.is_empty() { below.to_owned() } else { format!("{below}/{path}") };
            let Ok(entries) = left::directory(dir, &place).and_then(|dir| dir.entries()) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let at = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() && name != "node_modules" && !modules.contains(&at) {
                    queue.push(at);
                } else if meta.is_file()
                    && meta.permissions().mode() & 0o111 != 0
                    && !self.0.contains_key(&at)
                {
                    found.push(at);
                }
            }
        }
        found.sort();
        found
    }
}

/// What is at `path` now; `None` where it is neither a file nor a link. No link is followed on the way.
fn now(dir: &Dir, path: &str) -> Result<Option<Entry>> {
    let io = |what: &'static str| move |err| Error::io(what, path, err);
    let (dir, name) = match left::parent(dir, path) {
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
    let digests = Hashes::read(&mut file, &[Algorithm::Sha256]).map_err(io("read"))?;
    let executable = meta.permissions().mode() & 0o100 != 0;
    Ok(digests.get(Algorithm::Sha256).map(|d| Entry::File { digest: d.clone(), executable }))
}
