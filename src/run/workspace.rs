//! The workspace in the sandbox, written as a repository of one commit. [`super::snapshot`] takes it out again.
//!
//! No git is started and no repository opened: what lies in an agent's `.git` can make git run programs (hooks, filters,
//! fsmonitor, sshCommand), so objects are written and read as objects and files as files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _, PermissionsExt as _};
use git2::{ObjectType, Oid};

use super::patch::{Content, Files};
use crate::error::{Error, Reason, Result};
use crate::record::ids::CommitId;
use crate::sandbox::Owner;

/// The moment of the first commit, 1980-01-01T00:00:00Z: its id is the same in every run.
const EPOCH: i64 = crate::lock::plan::SOURCE_DATE_EPOCH;

/// The workspace's own git configuration: an identity for the agent's commits, no reflog, nothing that starts by itself.
pub(super) const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = false\n\
                      [user]\n\tname = Fixture\n\temail = fixture@localhost\n[gc]\n\tauto = 0\n[commit]\n\tgpgsign = false\n";

/// Git objects by id, before they are written.
#[derive(Default)]
struct ObjectSet(BTreeMap<Oid, (ObjectType, Vec<u8>)>);

impl ObjectSet {
    fn add(&mut self, kind: ObjectType, data: Vec<u8>) -> Result<Oid> {
        let id = Oid::hash_object(kind, &data).map_err(|err| {
            Error::new(Reason::Internal, "cannot hash a git object").caused_by(err)
        })?;
        self.0.insert(id, (kind, data));
        Ok(id)
    }

    /// The tree of `files`, with everything in it.
    fn tree(&mut self, files: &Files) -> Result<Oid> {
        let list: Vec<(&str, &Content)> = files.iter().map(|(p, c)| (p.as_str(), c)).collect();
        self.tree_of(&list)
    }

    fn tree_of(&mut self, files: &[(&str, &Content)]) -> Result<Oid> {
        let mut dirs: BTreeMap<&str, Vec<(&str, &Content)>> = BTreeMap::new();
        // Git sorts a directory as if its name ended with a slash.
        let mut rows: BTreeMap<Vec<u8>, (String, Oid)> = BTreeMap::new();
        for (path, content) in files {
            match path.split_once('/') {
                Some((dir, below)) => dirs.entry(dir).or_default().push((below, content)),
                None => {
                    let id = self.add(ObjectType::Blob, content.bytes().to_vec())?;
                    rows.insert(
                        path.as_bytes().to_vec(),
                        (format!("{} {path}\0", content.mode()), id),
                    );
                }
            }
        }
        for (dir, below) in dirs {
            let id = self.tree_of(&below)?;
            rows.insert(format!("{dir}/").into_bytes(), (format!("40000 {dir}\0"), id));
        }
        let mut data = Vec::new();
        for (head, id) in rows.values() {
            data.extend_from_slice(head.as_bytes());
            data.extend_from_slice(id.as_bytes());
        }
        self.add(ObjectType::Tree, data)
    }

    fn commit(&mut self, files: &Files, parent: Option<&CommitId>, message: &str) -> Result<Oid> {
        let tree = self.tree(files)?;
        let parent = parent.map_or(String::new(), |parent| format!("parent {parent}\n"));
        let who = format!("Fixture <fixture@localhost> {EPOCH} +0000");
        let text = format!("tree {tree}\n{parent}author {who}\ncommitter {who}\n\n{message}\n");
        self.add(ObjectType::Commit, text.into_bytes())
    }
}

/// The index of a work tree that nobody has looked at: without times and sizes, git compares contents.
fn index(files: &Files, scratch: &Path) -> Result<Vec<u8>> {
    let fail = |err| Error::new(Reason::Internal, "cannot make a git index").caused_by(err);
    let dir = tempfile::tempdir_in(scratch)
        .map_err(|err| Error::io("make a directory in", scratch, err))?;
    let path = dir.path().join("index");
    let mut index = git2::Index::open(&path).map_err(fail)?;
    let zero = git2::IndexTime::new(0, 0);
    for (path, content) in files {
        let id = Oid::hash_object(ObjectType::Blob, content.bytes()).map_err(fail)?;
        let mode = if content.mode() == "100755" { 0o100_755 } else { 0o100_644 };
        let entry = git2::IndexEntry {
            ctime: zero,
            mtime: zero,
            dev: 0,
            ino: 0,
            mode,
            uid: 0,
            gid: 0,
            file_size: 0,
            id,
            flags: 0,
            flags_extended: 0,
            path: path.as_str().into(),
        };
        index.add(&entry).map_err(fail)?;
    }
    index.write().map_err(fail)?;
    std::fs::read(&path).map_err(|err| Error::io("read", &path, err))
}

/// Writes files and objects through a directory, as the payload.
struct Writer<'a> {
    dir: &'a Dir,
    below: &'a str,
}

impl Writer<'_> {
    fn put(&self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let target = format!("{}/{path}", self.below);
        let io = |what: &'static str| {
            let target = target.clone();
            move |err| Error::io(what, target, err)
        };
        if let Some((parent, _)) = target.rsplit_once('/') {
            self.dir.create_dir_all(parent).map_err(io("make the directories of"))?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        options.custom_flags(libc::O_NOFOLLOW);
        let mut file = self.dir.open_with(&target, &options).map_err(io("create"))?;
        file.write_all(bytes).map_err(io("write"))?;
        let mode = cap_std::fs::Permissions::from_mode(mode);
        file.set_permissions(mode).map_err(io("set the mode of"))
    }

    fn files(&self, files: &Files) -> Result<()> {
        for (path, content) in files {
            match content {
                Content::File { bytes, executable } => {
                    self.put(path.as_str(), bytes, if *executable { 0o755 } else { 0o644 })?;
                }
                // A fixture's workspace and a patch that applies hold regular files only.
                _ => {
                    return Err(
                        Error::new(Reason::Internal, "not a regular file").at(path.as_str())
                    );
                }
            }
        }
        Ok(())
    }

    fn objects(&self, objects: &ObjectSet) -> Result<()> {
        for (id, (kind, data)) in &objects.0 {
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            let head = format!("{} {}\0", kind.str(), data.len());
            let packed = zlib
                .write_all(head.as_bytes())
                .and_then(|()| zlib.write_all(data))
                .and_then(|()| zlib.finish())
                .map_err(|err| Error::io("compress", "a git object", err))?;
            let id = id.to_string();
            let path = format!(".git/objects/{}/{}", &id[..2], &id[2..]);
            // An object that is there already is the same, and read-only.
            if self.dir.symlink_metadata(format!("{}/{path}", self.below)).is_err() {
                self.put(&path, &packed, 0o444)?;
            }
        }
        Ok(())
    }
}

/// The id of the commit that [`write()`] makes of these files.
///
/// # Errors
/// [`Reason::Internal`] where a file cannot be hashed.
pub fn first_commit(files: &Files) -> Result<CommitId> {
    let id = ObjectSet::default().commit(files, None, FIRST)?;
    id.to_string().parse().map_err(|err| Error::new(Reason::Internal, "a commit id").caused_by(err))
}

const FIRST: &str = "The fixture as it is";

/// Writes the fixture's workspace at `below` in `dir` as a repository of one commit without parent, remote or reflog.
/// Everything belongs to the payload. `scratch` is a host directory for short-lived files.
///
/// # Errors
/// [`Reason::Io`], [`Reason::DiskFull`].
pub fn write(
    dir: &Dir,
    below: &str,
    files: &Files,
    owner: Owner,
    scratch: &Path,
) -> Result<CommitId> {
    publish(dir, below, files, None, owner, scratch)
}

/// Turns the work tree `from` into `to` and commits it on top of `parent`, as an agent would.
///
/// # Errors
/// [`Reason::Io`], [`Reason::DiskFull`].
pub fn commit(
    dir: &Dir,
    below: &str,
    from: &Files,
    to: &Files,
    parent: &CommitId,
    owner: Owner,
    scratch: &Path,
) -> Result<CommitId> {
    {
        let _as_payload = owner.enter()?;
        for path in from.keys().filter(|path| !to.contains_key(*path)) {
            let target = format!("{below}/{path}");
            dir.remove_file(&target).map_err(|err| Error::io("remove", target, err))?;
        }
    }
    publish(dir, below, to, Some(parent), owner, scratch)
}

fn publish(
    dir: &Dir,
    below: &str,
    files: &Files,
    parent: Option<&CommitId>,
    owner: Owner,
    scratch: &Path,
) -> Result<CommitId> {
    // The index is made as ourselves and before: the payload may not use our scratch directory.
    let index = index(files, scratch)?;
    let mut objects = ObjectSet::default();
    let what = if parent.is_some() { "The change" } else { FIRST };
    let id = objects.commit(files, parent, what)?.to_string();
    let _as_payload = owner.enter()?;
    let writer = Writer { dir, below };
    writer.files(files)?;
    if parent.is_none() {
        writer.put(".git/HEAD", b"ref: refs/heads/main\n", 0o644)?;
        writer.put(".git/config", CONFIG.as_bytes(), 0o644)?;
    }
    writer.objects(&objects)?;
    writer.put(".git/index", &index, 0o644)?;
    writer.put(".git/refs/heads/main", format!("{id}\n").as_bytes(), 0o644)?;
    id.parse().map_err(|err| Error::new(Reason::Internal, "a commit id").caused_by(err))
}

/// Writes plain files without a repository, as the payload.
///
/// # Errors
/// [`Reason::Io`], [`Reason::DiskFull`].
pub fn write_plain(dir: &Dir, below: &str, files: &Files, owner: Owner) -> Result<()> {
    let _as_payload = owner.enter()?;
    Writer { dir, below }.files(files)
}

/// Removes everything in `dir`, as the payload; the inner error says what cannot be removed.
///
/// # Errors
/// Where acting for the payload is not possible.
pub(super) fn empty(dir: &Dir, owner: Owner) -> Result<Result<(), String>> {
    let _as_payload = owner.enter()?;
    let remove = || -> std::io::Result<()> {
        for entry in dir.entries()? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dir.remove_dir_all(entry.file_name())?;
            } else {
                dir.remove_file(entry.file_name())?;
            }
        }
        Ok(())
    };
    Ok(remove().map_err(|err| err.to_string()))
}
