//! The agent's repository: its last commit, read from its objects alone, and what in it git would act on.

use std::io::Read as _;

use cap_std::fs::Dir;
use serde::{Deserialize, Serialize};

use super::patch::{Content, Files};
use super::workspace;
use crate::error::{Error, Reason, Result};
use crate::git::dir::ObjectDir;
use crate::git::id::{ObjectKind, Oid};
use crate::git::object::{self, Mode, Objects};
use crate::git::pack::PackLimits;
use crate::host::open_regular;
use crate::record::ids::{CommitId, RelPath};

/// Most files and directories taken out, most bytes of all of them, deepest directory. A fixture is a small repository.
pub(super) const MAX_ENTRIES: usize = 20_000;
pub(super) const MAX_BYTES: u64 = 24 << 20;
pub(super) const MAX_DEPTH: usize = 32;

/// Most commits looked at between the agent's last one and the fixture's.
const MAX_COMMITS: usize = 100;

/// The commit that is checked out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub id: CommitId,
    /// Whether the fixture's commit is its ancestor, or it is that commit.
    pub on_base: bool,
    /// From the first one, or the fixture's, to this one.
    pub commits: u64,
    pub files: Files,
}

/// Opens a directory below `dir`, part by part, through no link.
pub(super) fn open_dir(dir: &Dir, path: &str) -> std::io::Result<Dir> {
    let mut here = dir.try_clone()?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if !here.symlink_metadata(part)?.is_dir() {
            return Err(std::io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        here = here.open_dir(part)?;
    }
    Ok(here)
}

/// Reads a regular file of at most `limit` bytes, through no link.
pub(super) fn read_plain(dir: &Dir, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let file = open_regular(dir, name).map_err(|err| format!("{name}: {err}"))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|err| format!("{name}: {err}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("{name}: more than {limit} bytes"));
    }
    Ok(bytes)
}

/// What git would act on in a repository that an agent prepared. Nothing here acts on it; that it is there says
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

/// What reading the objects may take: the bytes of a loose object count once packed and once unpacked. Hashing as much
/// takes a second at most, whatever an agent left.
const LIMITS: PackLimits = PackLimits { object: MAX_BYTES, work: 2 * MAX_BYTES, per_byte: 0 };

/// The commit that `.git/HEAD` names in the work tree `top`; or why there is none that can be read. The objects are read
/// where they lie, and from nowhere that they point to (`info/alternates`).
pub(super) fn head(top: &Dir, base: &CommitId) -> Result<Head, String> {
    let git = open_dir(top, ".git").map_err(|err| err.to_string())?;
    let id = head_id(&git)?;
    let objects = open_dir(&git, "objects").map_err(|err| format!("objects: {err}"))?;
    let objects = objects.into_std_file().into();
    let read = ObjectDir::alone(objects, "the workspace", LIMITS)
        .and_then(|objects| read_head(&objects, base, id));
    read.map_err(|err| describe(&err))
}

fn read_head(objects: &dyn Objects, base: &CommitId, id: CommitId) -> Result<Head> {
    let tree = object::commit(objects, &id)?.tree;
    let mut files = Files::new();
    let mut left = MAX_ENTRIES;
    read_tree(objects, Oid::parse(tree.as_str())?, "", 0, &mut left, &mut files)?;
    let mut at = id.clone();
    let (mut on_base, mut commits) = (at == *base, 1);
    for _ in 0..MAX_COMMITS {
        if on_base {
            break;
        }
        let Some(parent) = first_parent(objects, &at)? else { break };
        at = parent;
        commits += 1;
        on_base = at == *base;
    }
    Ok(Head { id, on_base, commits, files })
}

fn describe(err: &Error) -> String {
    let found = err.found_value().map_or(String::new(), |found| format!(" ({found})"));
    format!("{err}{found}")
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
                Content::File { bytes: objects.read(entry.id, ObjectKind::Blob)?, executable }
            }
            Mode::Link => Content::Link(objects.read(entry.id, ObjectKind::Blob)?),
            Mode::Commit => {
                return Err(Error::new(Reason::UnsupportedSource, "the commit has a submodule")
                    .at(text)
                    .expected("every file in one commit")
                    .found(format!("a link to the commit {} of another repository", entry.id)));
            }
        };
        let path =
            text.parse().map_err(|err| limit("a path that cannot be used").caused_by(err))?;
        files.insert(path, content);
    }
    Ok(())
}

fn first_parent(objects: &dyn Objects, id: &CommitId) -> Result<Option<CommitId>> {
    let data = objects.read(Oid::parse(id.as_str())?, ObjectKind::Commit)?;
    let mut head = data.split(|b| *b == b'\n').take_while(|line| !line.is_empty());
    let line = head.nth(1).and_then(|line| std::str::from_utf8(line).ok());
    Ok(line.and_then(|line| line.strip_prefix("parent ")).and_then(|id| id.parse().ok()))
}
