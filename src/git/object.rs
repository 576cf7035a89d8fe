//! Git objects, read strictly: every object is hashed again, and a tree comes out only if no honest repository would
//! be refused for it. Nothing of a repository's configuration, attributes or hooks is used; blobs are taken exactly as
//! stored.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Odb, Oid};

use crate::error::{Error, Reason, Result};
use crate::record::ids::{CommitId, ObjectId, RelPath};
use crate::store::Scratch;
use crate::store::sink::{DirSink, Sink as _};

/// Deepest directory taken; the Linux kernel has 10 levels.
const DEPTH: usize = 64;
/// Most entries taken in one tree with all below it.
const ENTRIES: u64 = 1_000_000;
/// Largest single object and largest sum of all files, in bytes.
const BYTES: u64 = 4 << 30;

pub trait Objects {
    /// The content of object `id`, which is of this kind and hashes to `id`.
    ///
    /// # Errors
    /// [`Reason::RevNotInRemote`] where it is not there, [`Reason::SourceMismatch`] where it is something else.
    fn read(&self, id: Oid, kind: ObjectType) -> Result<Vec<u8>>;
}

/// The object directory of a repository, without the repository: libgit2 would neither open one that another user owns
/// nor fetch with a depth from a local path, and an object directory has no configuration that could run anything.
pub struct ObjectDir {
    odb: Odb<'static>,
    pub(crate) place: String,
    // After `odb`, so that it is closed before its files go.
    _scratch: Option<Scratch>,
}

impl ObjectDir {
    /// Opens an object directory and its alternates, to read from. A scratch directory that it lies in ends with it.
    ///
    /// # Errors
    /// [`Reason::Unreachable`] where it cannot be opened.
    pub fn open(
        objects: &Path,
        place: impl Into<String>,
        scratch: Option<Scratch>,
    ) -> Result<Self> {
        let place = place.into();
        let fail = |err: git2::Error| {
            Error::new(Reason::Unreachable, "cannot open the repository's objects")
                .at(place.clone())
                .caused_by(err)
        };
        let text = objects.to_str().ok_or_else(|| {
            Error::new(Reason::BadArgument, "a repository path that is not UTF-8").at(place.clone())
        })?;
        let odb = Odb::new().map_err(fail)?;
        odb.add_disk_alternate(text).map_err(fail)?;
        Ok(Self { odb, place, _scratch: scratch })
    }

    /// The one commit whose id starts with `prefix` (4 to 40 lower-case hex digits).
    ///
    /// # Errors
    /// [`Reason::RevNotInRemote`] where there is none or more than one.
    pub fn resolve(&self, prefix: &str) -> Result<CommitId> {
        let fail = |what: &str| {
            Error::new(Reason::RevNotInRemote, what)
                .at(self.place.clone())
                .expected(prefix.to_owned())
        };
        let hex = (4..=40).contains(&prefix.len())
            && prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hex {
            return Err(fail("not an abbreviated commit"));
        }
        let mut found = Vec::new();
        let listed = self.odb.foreach(|id| {
            let is_commit = || matches!(self.odb.read_header(*id), Ok((_, ObjectType::Commit)));
            if id.to_string().starts_with(prefix) && !found.contains(id) && is_commit() {
                found.push(*id);
            }
            true
        });
        listed.map_err(|err| fail("cannot list the repository's objects").caused_by(err))?;
        match found.as_slice() {
            [one] => one.to_string().parse().map_err(|_| fail("not a commit id")),
            [] => Err(fail("the commit is not in the remote")),
            _ => Err(fail("more than one commit starts like this")),
        }
    }

    /// The size that the object's header says.
    pub(crate) fn size(&self, id: Oid) -> Result<u64> {
        let header = self.odb.read_header(id);
        let (size, _) = header.map_err(|err| {
            Error::new(Reason::SourceMismatch, "an object cannot be read")
                .at(self.place.clone())
                .expected(id.to_string())
                .caused_by(err)
        })?;
        Ok(size as u64)
    }

    /// Whether the object is there at all.
    pub fn has(&self, commit: &CommitId) -> bool {
        Oid::from_str(commit.as_str()).is_ok_and(|id| self.odb.exists(id))
    }
}

impl Objects for ObjectDir {
    fn read(&self, id: Oid, kind: ObjectType) -> Result<Vec<u8>> {
        let fail = |reason, what: &str| {
            Error::new(reason, what).at(self.place.clone()).expected(format!("{kind} {id}"))
        };
        let read = |err: git2::Error| match err.code() {
            git2::ErrorCode::NotFound => {
                fail(Reason::RevNotInRemote, "an object is not in the remote")
                    .hint("a shallow or partial clone cannot serve as a mirror for this commit")
            }
            git2::ErrorCode::HashsumMismatch => {
                fail(Reason::SourceMismatch, "an object is not what its id says").caused_by(err)
            }
            _ => fail(Reason::SourceMismatch, "an object cannot be read").caused_by(err),
        };
        let (size, _) = self.odb.read_header(id).map_err(read)?;
        if size as u64 > BYTES {
            return Err(fail(Reason::LimitHit, "an object is larger than any honest one"));
        }
        let object = self.odb.read(id).map_err(read)?;
        verify(id, kind, object.kind(), object.data(), &self.place)?;
        Ok(object.data().to_vec())
    }
}

/// Libgit2 checks hashes by itself, by a process-wide switch; this check has no switch.
pub(crate) fn verify(
    id: Oid,
    want: ObjectType,
    kind: ObjectType,
    data: &[u8],
    place: &str,
) -> Result<()> {
    let hash = Oid::hash_object(kind, data).map_err(|err| {
        Error::new(Reason::Internal, "cannot hash an object").at(place).caused_by(err)
    })?;
    if hash == id && kind == want {
        return Ok(());
    }
    Err(Error::new(Reason::SourceMismatch, "an object is not what its id says")
        .at(place)
        .expected(format!("{want} {id}"))
        .found(format!("{kind} {hash}")))
}

/// The object directory of the repository at `path`: a work tree, a bare repository, or a linked work tree; with and
/// without `.git` at the end of its name.
pub fn object_dir(path: &Path) -> Option<PathBuf> {
    let text = path.to_str()?.trim_end_matches('/');
    let other = text.strip_suffix(".git").map_or_else(|| format!("{text}.git"), str::to_owned);
    [text, other.trim_end_matches('/')].iter().map(Path::new).find_map(|dir| {
        let dot_git = dir.join(".git");
        let git = match std::fs::read_to_string(&dot_git) {
            // A linked work tree or submodule: a file that names the directory.
            Ok(link) => dir.join(link.strip_prefix("gitdir:")?.trim()),
            Err(_) if dot_git.is_dir() => dot_git,
            Err(_) => dir.to_owned(),
        };
        let common = std::fs::read_to_string(git.join("commondir"));
        let git = common.map_or(git.clone(), |common| git.join(common.trim()));
        let objects = git.join("objects");
        (objects.is_dir() && git.join("HEAD").exists()).then_some(objects)
    })
}

/// What admit needs of a commit.
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
    parse_commit(&objects.read(oid(id.as_str())?, ObjectType::Commit)?).ok_or_else(|| {
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

/// How git knows an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Tree,
    /// A file, executable or not.
    File {
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link; the blob is its target.
    Link,
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
/// As [`Objects::read`]; [`Reason::HostileArchive`] for hostile names, [`Reason::UnsupportedSource`] for submodules.
pub fn tree(objects: &dyn Objects, id: Oid, place: &str) -> Result<Vec<TreeEntry>> {
    let data = objects.read(id, ObjectType::Tree)?;
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
        let id_end = end + 21;
        let raw = rest.get(end + 1..id_end).ok_or_else(broken)?;
        let id = Oid::from_bytes(raw).map_err(|_| broken())?;
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
            b"160000" => {
                return Err(Error::new(Reason::UnsupportedSource, "the source has a submodule")
                    .at(join(place, name))
                    .hint("admit builds only what one commit holds"));
            }
            _ => return Err(bad("an entry of no known type", name)),
        };
        entries.push(TreeEntry { mode, name: name.to_owned(), id });
        rest = &rest[id_end..];
    }
    Ok(entries)
}

/// Every spelling that some file system takes for `.git`: other case, NTFS's short name and trailing dots and spaces,
/// characters that HFS+ ignores, an NTFS stream.
fn is_dot_git(name: &str) -> bool {
    let ignored = |c: char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let plain: String = name.chars().filter(|c| !ignored(*c)).collect::<String>().to_lowercase();
    let plain = plain.split(':').next().unwrap_or_default();
    matches!(plain.trim_end_matches(['.', ' ']), ".git" | "git~1")
}

/// One leaf of a tree with its path.
pub(crate) enum Item<'a> {
    /// A directory, before what is in it.
    Dir,
    /// A file or link with its content.
    Leaf(Mode, &'a [u8]),
}

/// Visits everything below `root` in git's own order.
pub(crate) fn walk(
    objects: &dyn Objects,
    root: &ObjectId,
    visit: &mut dyn FnMut(&RelPath, Oid, Item<'_>) -> Result<()>,
) -> Result<()> {
    let mut left = Budget { entries: ENTRIES, bytes: BYTES };
    walk_below(objects, oid(root.as_str())?, "", 0, &mut left, visit)
}

struct Budget {
    entries: u64,
    bytes: u64,
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
    for entry in tree(objects, id, place)? {
        left.entries = left.entries.checked_sub(1).ok_or_else(|| limit("too many files"))?;
        let text = join(place, &entry.name);
        let path: RelPath = text.parse().map_err(|err| {
            Error::new(Reason::HostileArchive, "the source holds a path that cannot be used")
                .caused_by(err)
        })?;
        if entry.mode == Mode::Tree {
            visit(&path, entry.id, Item::Dir)?;
            walk_below(objects, entry.id, &text, depth + 1, left, visit)?;
        } else {
            let data = objects.read(entry.id, ObjectType::Blob)?;
            left.bytes =
                left.bytes.checked_sub(data.len() as u64).ok_or_else(|| limit("too many bytes"))?;
            visit(&path, entry.id, Item::Leaf(entry.mode, &data))?;
        }
    }
    Ok(())
}

/// Writes the tree `root` through `sink`.
///
/// # Errors
/// As [`tree`], and what the sink fails with.
pub fn export(objects: &dyn Objects, root: &ObjectId, sink: &mut DirSink<'_>) -> Result<()> {
    walk(objects, root, &mut |path, _, item| match item {
        // Git keeps no empty directories; those of files are made with them.
        Item::Dir => Ok(()),
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
    })
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") }
}

pub(crate) fn oid(text: &str) -> Result<Oid> {
    Oid::from_str(text).map_err(|err| {
        Error::new(Reason::Internal, "not a git object id").found(text.to_owned()).caused_by(err)
    })
}
