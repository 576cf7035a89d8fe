//! The agent's repository: its last commit, read from a copy of the objects alone, and what in it git would act on.

use std::path::Path;

use cap_std::fs::Dir;
use git2::{ObjectType, Oid};

use super::fixture::Fixture;
use super::patch::{Content, Files};
use super::snapshot::{Head, MAX_BYTES, MAX_DEPTH, MAX_ENTRIES, open_dir, read_plain};
use super::workspace;
use crate::error::{Error, Reason, Result};
use crate::git::bounded::Bounded;
use crate::git::object::{self, Mode, ObjectDir, Objects};
use crate::record::ids::{CommitId, RelPath};

/// Most commits looked at between the agent's last one and the fixture's.
const MAX_COMMITS: usize = 100;

/// What git would act on in a repository that somebody else prepared. Nothing here acts on it; that it is there says
/// enough about the work.
pub(super) fn steering(top: &Dir) -> Vec<String> {
    let git = match open_dir(top, ".git") {
        Ok(git) => git,
        Err(err) => return vec![format!(".git: {err}")],
    };
    let mut faults = Vec::new();
    if read_plain(&git, "config", 1 << 20).ok().as_deref() != Some(workspace::CONFIG.as_bytes()) {
        faults.push(".git/config is not as it was written".to_owned());
    }
    for name in [
        "info/attributes",
        "objects/info/alternates",
        "modules",
        "worktrees",
        "config.worktree",
        "commondir",
    ] {
        if git.symlink_metadata(name).is_ok() {
            faults.push(format!(".git/{name} is there"));
        }
    }
    let hooks = git.read_dir("hooks").into_iter().flatten();
    if hooks.count() > 0 {
        faults.push(".git/hooks is not empty".into());
    }
    faults
}

/// The commit that is checked out in the repository of the work tree `top`; the inner error says why there is none that
/// can be read. `bytes` were read already.
///
/// # Errors
/// [`Reason::Io`] where `scratch` cannot be written.
pub(super) fn head(
    top: &Dir,
    fixture: &Fixture,
    bytes: u64,
    scratch: &Path,
) -> Result<Result<Head, String>> {
    Reader { fixture, entries: 0, bytes }.read(top, scratch)
}

struct Reader<'a> {
    fixture: &'a Fixture,
    entries: usize,
    bytes: u64,
}

impl Reader<'_> {
    /// The commit that `.git/HEAD` names, from a copy of the objects alone.
    fn read(&mut self, top: &Dir, scratch: &Path) -> Result<Result<Head, String>> {
        let id =
            match open_dir(top, ".git").map_err(|e| e.to_string()).and_then(|git| head_id(&git)) {
                Ok(id) => id,
                Err(what) => return Ok(Err(what)),
            };
        let copy = tempfile::tempdir_in(scratch)
            .map_err(|err| Error::io("make a directory in", scratch, err))?;
        if let Err(what) = self.copy_objects(top, copy.path())? {
            return Ok(Err(what));
        }
        let objects = match ObjectDir::open(copy.path(), "the workspace", None) {
            Ok(objects) => objects,
            Err(err) => return Ok(Err(err.to_string())),
        };
        let objects = Bounded::new(&objects, MAX_BYTES);
        Ok(self.read_head(&objects, id).map_err(|err| describe(&err)))
    }

    /// Copies loose objects and packs, and nothing that could point elsewhere (`info/alternates`).
    fn copy_objects(&mut self, top: &Dir, to: &Path) -> Result<Result<(), String>> {
        let objects = match open_dir(top, ".git/objects") {
            Ok(objects) => objects,
            Err(err) => return Ok(Err(format!("objects: {err}"))),
        };
        let list = |dir: &Dir| -> Result<Vec<String>, String> {
            let entries = dir.entries().map_err(|err| err.to_string())?;
            let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
            Ok(names.take(MAX_ENTRIES).collect())
        };
        let hex = |name: &str| name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let dirs = match list(&objects) {
            Ok(dirs) => dirs,
            Err(what) => return Ok(Err(what)),
        };
        for dir in dirs {
            let loose = dir.len() == 2 && hex(&dir);
            if !loose && dir != "pack" {
                continue;
            }
            let names = match open_dir(&objects, &dir)
                .map_err(|e| e.to_string())
                .and_then(|d| Ok((list(&d)?, d)))
            {
                Ok(names) => names,
                Err(what) => return Ok(Err(what)),
            };
            let target = to.join(&dir);
            std::fs::create_dir_all(&target).map_err(|err| Error::io("make", &target, err))?;
            for name in names.0 {
                let pack = name
                    .strip_prefix("pack-")
                    .and_then(|n| n.strip_suffix(".pack").or(n.strip_suffix(".idx")));
                let wanted =
                    if loose { name.len() == 38 && hex(&name) } else { pack.is_some_and(hex) };
                if !wanted {
                    continue;
                }
                self.entries += 1;
                if self.entries > MAX_ENTRIES {
                    return Ok(Err("too many objects".into()));
                }
                let bytes = match read_plain(&names.1, &name, MAX_BYTES - self.bytes) {
                    Ok(bytes) => bytes,
                    Err(what) => return Ok(Err(what)),
                };
                self.bytes += bytes.len() as u64;
                let target = target.join(&name);
                std::fs::write(&target, bytes).map_err(|err| Error::io("write", &target, err))?;
            }
        }
        Ok(Ok(()))
    }

    fn read_head(&self, objects: &dyn Objects, id: CommitId) -> Result<Head> {
        let base = workspace::first_commit(&self.fixture.workspace)?;
        let tree = object::commit(objects, &id)?.tree;
        let mut files = Files::new();
        let mut left = MAX_ENTRIES;
        read_tree(objects, oid(tree.as_str())?, "", 0, &mut left, &mut files)?;
        let mut at = id.clone();
        let mut on_base = at == base;
        for _ in 0..MAX_COMMITS {
            if on_base {
                break;
            }
            let Some(parent) = first_parent(objects, &at)? else { break };
            at = parent;
            on_base = at == base;
        }
        Ok(Head { id, on_base, files })
    }
}

fn describe(err: &Error) -> String {
    let found = err.found_value().map_or(String::new(), |found| format!(" ({found})"));
    format!("{err}{found}")
}

fn oid(text: &str) -> Result<Oid> {
    Oid::from_str(text)
        .map_err(|err| Error::new(Reason::Internal, "not a git object id").caused_by(err))
}

/// What `HEAD` says, through one reference.
fn head_id(git: &Dir) -> Result<CommitId, String> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned());
    let head = text(read_plain(git, "HEAD", 4096)?)?;
    let head = head.trim_end();
    let Some(name) = head.strip_prefix("ref: ") else {
        return head.parse().map_err(|err| format!("{err}"));
    };
    let path: RelPath = name.parse().map_err(|err| format!("{err}"))?;
    if !name.starts_with("refs/") {
        return Err(format!("HEAD names {}", name.escape_debug()));
    }
    let (parent, file) = path.as_str().rsplit_once('/').unwrap_or(("", path.as_str()));
    if let Ok(bytes) =
        open_dir(git, parent).map_err(|e| e.to_string()).and_then(|d| read_plain(&d, file, 4096))
    {
        return text(bytes)?.trim_end().parse().map_err(|err| format!("{err}"));
    }
    let packed = text(read_plain(git, "packed-refs", 1 << 20)?)?;
    let line = packed.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' '));
    line.ok_or("HEAD names a branch without commits")?.parse().map_err(|err| format!("{err}"))
}

fn read_tree(
    objects: &dyn Objects,
    id: Oid,
    place: &str,
    depth: usize,
    left: &mut usize,
    files: &mut Files,
) -> Result<()> {
    let limit = |what: &str| Error::new(Reason::LimitHit, format!("the commit has {what}"));
    if depth > MAX_DEPTH {
        return Err(limit("directories nested too deep"));
    }
    for entry in object::tree(objects, id, place)? {
        *left = left.checked_sub(1).ok_or_else(|| limit("too many files"))?;
        let text =
            if place.is_empty() { entry.name.clone() } else { format!("{place}/{}", entry.name) };
        let content = match entry.mode {
            Mode::Tree => {
                read_tree(objects, entry.id, &text, depth + 1, left, files)?;
                continue;
            }
            Mode::File { executable } => {
                Content::File { bytes: objects.read(entry.id, ObjectType::Blob)?, executable }
            }
            Mode::Link => Content::Link(objects.read(entry.id, ObjectType::Blob)?),
        };
        let path =
            text.parse().map_err(|err| limit("a path that cannot be used").caused_by(err))?;
        files.insert(path, content);
    }
    Ok(())
}

fn first_parent(objects: &dyn Objects, id: &CommitId) -> Result<Option<CommitId>> {
    let data = objects.read(oid(id.as_str())?, ObjectType::Commit)?;
    let mut head = data.split(|b| *b == b'\n').take_while(|line| !line.is_empty());
    let line = head.nth(1).and_then(|line| std::str::from_utf8(line).ok());
    Ok(line.and_then(|line| line.strip_prefix("parent ")).and_then(|id| id.parse().ok()))
}
