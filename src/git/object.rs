//! Git objects, read strictly: every object is hashed again, and a tree comes out only if no honest repository would
//! be refused for it. Nothing of a repository's configuration, attributes or hooks is used; blobs are taken exactly as
//! stored. Why no crate: libgit2's checkout and archive heed attributes, and its checks are switches of the process.

use std::collections::HashSet;

use super::id::{ObjectKind, Oid};
use crate::error::{Error, Reason, Result};
use crate::record::ids::{CommitId, ObjectId, RelPath};
use crate::store::sink::{DirSink, Sink as _};

/// Deepest directory taken; the Linux kernel has 10 levels.
const DEPTH: usize = 64;
/// Most entries taken in one tree with all below it. Chromium, the largest source known, has fewer.
const ENTRIES: u64 = 400_000;
/// Largest sum of all files, in bytes,
const BYTES: u64 = 4 << 30;
/// of all trees, which are held while what is below them is read,
const TREES: u64 = 32 << 20;
/// and of all paths, which are held to look at a source.
const PATHS: u64 = 48 << 20;

pub trait Objects {
    /// The content of object `id`, which is of this kind and hashes to `id`.
    ///
    /// # Errors
    /// [`Reason::RevNotInRemote`] where it is not there, [`Reason::SourceMismatch`] where it is something else.
    fn read(&self, id: Oid, kind: ObjectKind) -> Result<Vec<u8>>;
}

pub(crate) fn verify(
    id: Oid,
    want: ObjectKind,
    kind: ObjectKind,
    data: &[u8],
    place: &str,
) -> Result<()> {
    let hash = Oid::of(kind, data);
    if hash == id && kind == want {
        return Ok(());
    }
    Err(Error::new(Reason::SourceMismatch, "an object is not what its id says")
        .at(place)
        .expected(format!("{want} {id}"))
        .found(format!("{kind} {hash}")))
}

pub(super) fn absent(place: &str, what: String) -> Error {
    Error::new(Reason::RevNotInRemote, "an object is not in the remote")
        .at(place)
        .expected(what)
        .hint("a shallow or partial clone cannot serve as a mirror for this commit")
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub tree: ObjectId,
    /// When it was committed, in seconds since 1970.
    pub time: i64,
}

/// Reads a commit's tree and time.
///
/// # Errors
/// As [`Objects::read`]; [`Reason::SourceMismatch`] for a commit that cannot be parsed.
pub fn commit(objects: &dyn Objects, id: &CommitId) -> Result<Commit> {
    parse_commit(&objects.read(Oid::parse(id.as_str())?, ObjectKind::Commit)?).ok_or_else(|| {
        Error::new(Reason::SourceMismatch, "a commit that cannot be read").found(id.to_string())
    })
}

pub(crate) fn parse_commit(data: &[u8]) -> Option<Commit> {
    let head = data.split(|b| *b == b'\n').take_while(|line| !line.is_empty());
    let mut lines = head.map(|line| std::str::from_utf8(line).unwrap_or_default());
    let tree = lines.next()?.strip_prefix("tree ")?.parse().ok()?;
    // `committer Name <mail> 1700000000 +0100`; a name may hold anything but a line break.
    let committer = data.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"committer "))?;
    let tail = committer.rsplit(|b| *b == b'>').next()?;
    let time = std::str::from_utf8(tail).ok()?.split_whitespace().next()?.parse().ok()?;
    Some(Commit { tree, time })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Tree,
    /// A file, executable or not.
    File {
        executable: bool,
    },
    /// A symbolic link; the blob is its target.
    Link,
    /// A commit of another repository: a submodule.
    Commit,
}

#[derive(Clone, Debug)]
pub struct TreeEntry {
    pub mode: Mode,
    /// Its name, one path component.
    pub name: String,
    pub id: Oid,
}

/// Reads one tree object and refuses what no honest repository holds.
///
/// # Errors
/// As [`Objects::read`]; [`Reason::HostileArchive`] for hostile names.
pub fn tree(objects: &dyn Objects, id: Oid, place: &str) -> Result<Vec<TreeEntry>> {
    parsed(objects, id, place, TREES).map(|(entries, _)| entries)
}

/// The entries of a tree of at most `most` bytes, and its size.
fn parsed(objects: &dyn Objects, id: Oid, place: &str, most: u64) -> Result<(Vec<TreeEntry>, u64)> {
    let data = objects.read(id, ObjectKind::Tree)?;
    if data.len() as u64 > most {
        return Err(Error::new(Reason::LimitHit, "the source has directories that are too large")
            .at(place.to_owned())
            .expected(format!("at most {TREES} bytes of git trees in all")));
    }
    let bad = |what: &str, name: &str| {
        Error::new(
            Reason::HostileArchive,
            format!("the source holds what no honest repository has: {what}"),
        )
        .at(if place.is_empty() { "/" } else { place }.to_owned())
        .found(name.escape_debug().to_string())
    };
    let mut entries = Vec::new();
    let mut names = HashSet::new();
    let mut rest = data.as_slice();
    while !rest.is_empty() {
        let broken = || bad("a broken tree", &id.to_string());
        let space = rest.iter().position(|b| *b == b' ').ok_or_else(broken)?;
        let end = rest.iter().position(|b| *b == 0).filter(|e| *e > space).ok_or_else(broken)?;
        let (raw, after) = rest[end + 1..].split_first_chunk().ok_or_else(broken)?;
        let lossy = String::from_utf8_lossy(&rest[space + 1..end]).into_owned();
        let name = std::str::from_utf8(&rest[space + 1..end])
            .map_err(|_| bad("a name that is not UTF-8", &lossy))?;
        if name.contains('/') || name.parse::<RelPath>().is_err() || is_dot_git(name) {
            return Err(bad("a hostile name", name));
        }
        if !names.insert(name.to_owned()) {
            return Err(bad("the same name twice", name));
        }
        let mode = match &rest[..space] {
            b"40000" | b"040000" => Mode::Tree,
            b"100644" | b"100664" => Mode::File { executable: false },
            b"100755" => Mode::File { executable: true },
            b"120000" => Mode::Link,
            b"160000" => Mode::Commit,
            _ => return Err(bad("an entry of no known type", name)),
        };
        entries.push(TreeEntry { mode, name: name.to_owned(), id: Oid(*raw) });
        rest = after;
    }
    Ok((entries, data.len() as u64))
}

/// Every spelling that some file system takes for `.git`: other case, NTFS's short name and trailing dots and spaces,
/// characters that HFS+ ignores, an NTFS stream.
fn is_dot_git(name: &str) -> bool {
    let ignored = |c: char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let plain: String = name.chars().filter(|c| !ignored(*c)).collect::<String>().to_lowercase();
    let plain = plain.split(':').next().unwrap_or_default();
    matches!(plain.trim_end_matches(['.', ' ']), ".git" | "git~1")
}

pub(crate) enum Item<'a> {
    /// A directory, before what is in it.
    Dir,
    /// A submodule; the id is that of its commit.
    Submodule,
    Leaf(Mode, &'a [u8]),
}

/// Visits everything below `root` in git's own order.
pub(crate) fn walk(
    objects: &dyn Objects,
    root: &ObjectId,
    visit: &mut dyn FnMut(&RelPath, Oid, Item<'_>) -> Result<()>,
) -> Result<()> {
    let mut left = Budget { entries: ENTRIES, bytes: BYTES, trees: TREES, paths: PATHS };
    walk_below(objects, Oid::parse(root.as_str())?, "", 0, &mut left, visit)
}

struct Budget {
    entries: u64,
    bytes: u64,
    trees: u64,
    paths: u64,
}

fn walk_below(
    objects: &dyn Objects,
    id: Oid,
    place: &str,
    depth: usize,
    left: &mut Budget,
    visit: &mut dyn FnMut(&RelPath, Oid, Item<'_>) -> Result<()>,
) -> Result<()> {
    let limit = |what: &str| {
        Error::new(Reason::LimitHit, format!("the source has {what}")).at(place.to_owned())
    };
    if depth > DEPTH {
        return Err(limit("directories nested deeper than any honest one"));
    }
    let (entries, size) = parsed(objects, id, place, left.trees)?;
    left.trees -= size;
    // Before any is looked at: those of every level are held at once.
    let count = entries.len() as u64;
    left.entries = left.entries.checked_sub(count).ok_or_else(|| limit("too many files"))?;
    for entry in entries {
        let text = join(place, &entry.name);
        let longer = left.paths.checked_sub(text.len() as u64);
        left.paths = longer.ok_or_else(|| limit("paths that are too long"))?;
        let path: RelPath = text.parse().map_err(|err| {
            Error::new(Reason::HostileArchive, "the source holds a path that cannot be used")
                .caused_by(err)
        })?;
        if entry.mode == Mode::Tree {
            visit(&path, entry.id, Item::Dir)?;
            walk_below(objects, entry.id, &text, depth + 1, left, visit)?;
        } else if entry.mode == Mode::Commit {
            visit(&path, entry.id, Item::Submodule)?;
        } else {
            let data = objects.read(entry.id, ObjectKind::Blob)?;
            left.bytes =
                left.bytes.checked_sub(data.len() as u64).ok_or_else(|| limit("too many bytes"))?;
            visit(&path, entry.id, Item::Leaf(entry.mode, &data))?;
        }
    }
    Ok(())
}

/// Writes the tree `root` through `sink`, and gives its submodules: the path and the commit of each, as a directory that
/// is empty.
pub fn export(
    objects: &dyn Objects,
    root: &ObjectId,
    sink: &mut DirSink<'_>,
) -> Result<Vec<(RelPath, CommitId)>> {
    let mut submodules = Vec::new();
    walk(objects, root, &mut |path, id, item| match item {
        // Git keeps no empty directories; those of files are made with them.
        Item::Dir => Ok(()),
        Item::Submodule => {
            let commit = id.to_string().parse().map_err(Error::internal("the id of a commit"))?;
            submodules.push((path.clone(), commit));
            sink.dir(path)
        }
        Item::Leaf(Mode::Link, target) => {
            if target.is_empty() || target.contains(&0) || target.len() > 4095 {
                let what = "the source holds a link without a usable target";
                return Err(Error::new(Reason::HostileArchive, what).at(path.as_str()));
            }
            sink.symlink(path, target)
        }
        Item::Leaf(mode, mut data) => {
            let bits = if mode == (Mode::File { executable: true }) { 0o755 } else { 0o644 };
            sink.file(path, bits, data.len() as u64, &mut data)
        }
    })?;
    Ok(submodules)
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") }
}
