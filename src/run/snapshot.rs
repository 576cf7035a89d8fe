//! What an agent left: the work tree as files and its last commit as objects, read without following a link and without
//! starting anything. What cannot be read is a fault of the work, not an error.

use cap_std::fs::{Dir, PermissionsExt as _};
use serde::{Deserialize, Serialize};

use super::fixture::Fixture;
use super::patch::{Content, Files};
use super::repository::{self, Head, MAX_BYTES, MAX_DEPTH, MAX_ENTRIES, open_dir, read_plain};
use super::workspace;
use crate::error::Result;
use crate::record;
use crate::record::ids::{CommitId, Digest, RelPath};

/// What is looked at, and what of the fixture that needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The workspace's place in the directory.
    below: String,
    /// The fixture's commit.
    base: CommitId,
    /// Names that nobody judges.
    ignored: Vec<RelPath>,
}

impl Scope {
    /// # Errors
    /// Where the fixture has no commit.
    pub fn of(below: &str, fixture: &Fixture) -> Result<Self> {
        let base = workspace::first_commit(&fixture.workspace)?;
        Ok(Self { below: below.to_owned(), base, ignored: fixture.record.ignored.clone() })
    }

    fn ignores(&self, path: &RelPath) -> bool {
        path.parts().any(|part| self.ignored.iter().any(|name| name.as_str() == part))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The work tree, without `.git` and what the fixture ignores.
    pub files: Files,
    /// The last commit, where there is a readable one.
    pub head: Option<Head>,
    /// Why something could not be read.
    pub faults: Vec<String>,
    /// What in `.git` could make git run programs or read elsewhere, or is not as it was written.
    pub git_faults: Vec<String>,
}

impl Snapshot {
    /// Files as an agent leaves them that did all as it should: committed on the fixture's commit.
    pub fn committed(files: Files) -> Result<Self> {
        let id = workspace::first_commit(&files)?;
        let head = Head { id, on_base: true, commits: 2, files: files.clone() };
        Ok(Self { files, head: Some(head), ..Self::default() })
    }

    /// How many commits there are, counted from the fixture's.
    pub fn commits(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.commits)
    }

    /// A digest over everything in it, to see whether anything changed between two looks.
    pub fn digest(&self) -> Digest {
        let rows = |files: &Files| -> Vec<(String, &'static str, Digest)> {
            let row = |(path, content): (&RelPath, &Content)| {
                (path.to_string(), content.mode(), Digest::sha256(content.bytes()))
            };
            files.iter().map(row).collect()
        };
        let head = self.head.as_ref().map(|head| (head.id.as_str(), head.on_base));
        record::digest(&(rows(&self.files), head, &self.faults, &self.git_faults))
    }

    /// Whether there is a change, all of it is committed on top of the fixture's commit, and everything could be read.
    pub fn committed_change(&self, fixture: &Fixture) -> bool {
        self.faults.is_empty()
            && self.git_faults.is_empty()
            && self.files != fixture.workspace
            && self.head.as_ref().is_some_and(|head| head.on_base && head.files == self.files)
    }
}

/// Looks at the workspace at `below` in `dir`, in this process: at what admit wrote itself. What an agent may have written
/// is read by [`super::reader`].
pub fn take(dir: &Dir, below: &str, fixture: &Fixture) -> Result<Snapshot> {
    Ok(read(dir, &Scope::of(below, fixture)?))
}

pub(super) fn read(dir: &Dir, scope: &Scope) -> Snapshot {
    let mut look = Look { scope, files: Files::new(), faults: Vec::new(), entries: 0, bytes: 0 };
    let (mut head, mut git_faults) = (None, Vec::new());
    match open_dir(dir, &scope.below) {
        Err(err) => look.faults.push(format!("the workspace cannot be opened: {err}")),
        Ok(top) => {
            look.walk(&top, "", 0);
            git_faults = repository::steering(&top);
            match repository::head(&top, &scope.base) {
                Ok(found) => head = Some(found),
                Err(what) => look.faults.push(format!("the commit cannot be read: {what}")),
            }
        }
    }
    Snapshot { files: look.files, head, faults: look.faults, git_faults }
}

struct Look<'a> {
    scope: &'a Scope,
    files: Files,
    faults: Vec<String>,
    entries: usize,
    bytes: u64,
}

impl Look<'_> {
    fn fault(&mut self, place: &str, what: impl std::fmt::Display) {
        // A hostile tree could name a thousand; the first ones say enough.
        if self.faults.len() < 20 {
            self.faults.push(format!("{}: {what}", place.escape_debug()));
        }
    }

    fn walk(&mut self, dir: &Dir, place: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return self.fault(place, "too deep");
        }
        let entries = match dir.entries() {
            Ok(entries) => entries,
            Err(err) => return self.fault(place, err),
        };
        for entry in entries {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return self.fault(place, "too many files");
            }
            let name = match entry {
                Ok(entry) => entry.file_name(),
                Err(err) => return self.fault(place, err),
            };
            let Some(name) = name.to_str() else {
                self.fault(place, "a name that is not UTF-8");
                continue;
            };
            let text = if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") };
            let path: RelPath = match text.parse() {
                Ok(path) => path,
                Err(err) => {
                    self.fault(place, err);
                    continue;
                }
            };
            if text == ".git" || self.scope.ignores(&path) {
                continue;
            }
            match self.content(dir, name, &path, depth) {
                Ok(content) => self.files.extend(content.map(|content| (path, content))),
                Err(what) => self.fault(&text, what),
            }
        }
    }

    /// What stands at `name`; a directory is walked.
    fn content(
        &mut self,
        dir: &Dir,
        name: &str,
        path: &RelPath,
        depth: usize,
    ) -> std::result::Result<Option<Content>, String> {
        let meta = dir.symlink_metadata(name).map_err(|err| err.to_string())?;
        let mode = meta.permissions().mode();
        if meta.is_dir() {
            let below = dir.open_dir(name).map_err(|err| err.to_string())?;
            self.walk(&below, path.as_str(), depth + 1);
            return Ok(None);
        }
        if meta.is_symlink() {
            use std::os::unix::ffi::OsStringExt as _;
            let target = dir.read_link_contents(name).map_err(|err| err.to_string())?;
            return Ok(Some(Content::Link(target.into_os_string().into_vec())));
        }
        if !meta.is_file() {
            return Ok(Some(Content::Other(format!("a special file of mode {mode:o}"))));
        }
        if mode & 0o7000 != 0 {
            return Ok(Some(Content::Other(format!("a file of mode {mode:o}"))));
        }
        let bytes = read_plain(dir, name, MAX_BYTES - self.bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(Some(Content::File { bytes, executable: mode & 0o100 != 0 }))
    }
}
