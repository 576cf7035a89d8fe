//! The workspace in the sandbox, written as a repository of one commit. [`super::snapshot`] takes it out again.
//!
//! No git is started and no repository opened: what lies in an agent's `.git` can make git run programs (hooks, filters,
//! fsmonitor, sshCommand), so objects are written and read as objects and files as files.

use std::io::Write as _;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _, PermissionsExt as _};

use super::patch::{Content, Files};
use crate::error::{Error, Reason, Result};
use crate::git::write::{self, ObjectSet, Row};
use crate::record::ids::CommitId;
use crate::sandbox::Owner;

/// The moment of the first commit, 1980-01-01T00:00:00Z: its id is the same in every run.
const EPOCH: i64 = crate::lock::plan::SOURCE_DATE_EPOCH;

/// The workspace's own git configuration: an identity for the agent's commits, no reflog, nothing that starts by itself.
pub(super) const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = false\n\
                      [user]\n\tname = Fixture\n\temail = fixture@localhost\n[gc]\n\tauto = 0\n[commit]\n\tgpgsign = false\n";

/// Author and committer of what is written here.
const WHO: &str = "Fixture <fixture@localhost>";

fn rows(files: &Files) -> Vec<Row<'_>> {
    files.iter().map(|(path, content)| (path.as_str(), content.mode(), content.bytes())).collect()
}

fn commit_of(files: &Files, parent: Option<&CommitId>) -> Result<(ObjectSet, CommitId)> {
    let what = if parent.is_some() { "The change" } else { "The fixture as it is" };
    let mut objects = ObjectSet::default();
    let id = objects.commit(&rows(files), parent, &format!("{WHO} {EPOCH} +0000"), what)?;
    Ok((objects, id))
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
            let head = format!("{} {}\0", kind, data.len());
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
    commit_of(files, None).map(|(_, id)| id)
}

/// Writes the fixture's workspace at `below` in `dir` as a repository of one commit without parent, remote or reflog.
/// Everything belongs to the payload.
pub fn write(dir: &Dir, below: &str, files: &Files, owner: Owner) -> Result<CommitId> {
    publish(dir, below, files, None, owner)
}

/// Turns the work tree `from` into `to` and commits it on top of `parent`, as an agent would.
pub fn commit(
    dir: &Dir,
    below: &str,
    from: &Files,
    to: &Files,
    parent: &CommitId,
    owner: Owner,
) -> Result<CommitId> {
    {
        let _as_payload = owner.enter()?;
        for path in from.keys().filter(|path| !to.contains_key(*path)) {
            let target = format!("{below}/{path}");
            dir.remove_file(&target).map_err(|err| Error::io("remove", target, err))?;
        }
    }
    publish(dir, below, to, Some(parent), owner)
}

fn publish(
    dir: &Dir,
    below: &str,
    files: &Files,
    parent: Option<&CommitId>,
    owner: Owner,
) -> Result<CommitId> {
    let (objects, id) = commit_of(files, parent)?;
    let _as_payload = owner.enter()?;
    let writer = Writer { dir, below };
    writer.files(files)?;
    if parent.is_none() {
        writer.put(".git/HEAD", b"ref: refs/heads/main\n", 0o644)?;
        writer.put(".git/config", CONFIG.as_bytes(), 0o644)?;
    }
    writer.objects(&objects)?;
    writer.put(".git/index", &write::index(&rows(files)), 0o644)?;
    writer.put(".git/refs/heads/main", format!("{id}\n").as_bytes(), 0o644)?;
    Ok(id)
}

/// Writes plain files without a repository, as the payload.
pub fn write_plain(dir: &Dir, below: &str, files: &Files, owner: Owner) -> Result<()> {
    let _as_payload = owner.enter()?;
    Writer { dir, below }.files(files)
}
