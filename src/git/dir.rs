//! The object directory of a repository: loose objects, packs and, for a source, what it borrows from others.
//!
//! Without the repository: no configuration, attribute or hook has a say, another user may own it, and every file is
//! opened without waiting and without following a link. What may be read is bounded as [`super::pack`] says.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use flate2::bufread::ZlibDecoder;
use rustix::fs::{CWD, Dir, Mode, OFlags};

use super::id::{ObjectKind, Oid};
use super::object::{Objects, absent, verify};
use super::pack::{Budget, Fault, Pack, PackLimits, whole};
use crate::error::{Error, Reason, Result};
use crate::host::open_regular;
use crate::record::ids::CommitId;
use crate::store::open_dir;

/// Of a source: GitHub takes no file above 100 MB, and the objects of a real one are some 20 times as large as its packs.
pub(super) const SOURCE: PackLimits =
    PackLimits { object: 100 << 20, work: 256 << 20, per_byte: 256 };
/// Most object directories that borrow from each other, packs in one, and names looked at in a directory.
const BORROWED: usize = 16;
const PACKS: usize = 256;
const NAMES: usize = 100_000;
/// Name of a pack that came over the network, in a directory of its own.
pub(super) const PACK: &str = "pack";

pub struct ObjectDir {
    dirs: Vec<OwnedFd>,
    packs: Vec<Pack>,
    budget: Budget,
    place: String,
}

impl ObjectDir {
    /// The object directories of a source.
    pub(super) fn source(dirs: Vec<OwnedFd>) -> std::result::Result<Self, Fault> {
        Self::of(dirs, String::new(), SOURCE)
    }

    /// Opens one object directory that borrows from none.
    ///
    /// # Errors
    /// [`Reason::SourceMismatch`] for packs that git did not write.
    pub fn alone(objects: OwnedFd, place: impl Into<String>, limits: PackLimits) -> Result<Self> {
        let place = place.into();
        Self::of(vec![objects], place.clone(), limits).map_err(|fault| unreadable(&place, fault))
    }

    /// The objects of the one pack in `dir`, which has no index; all of it is checked.
    pub(super) fn packed(dir: &OwnedFd) -> std::result::Result<Self, Fault> {
        let pack = Pack::index(open_regular(dir, PACK)?, SOURCE)?;
        let budget = Budget::new(SOURCE);
        budget.grant(pack.len());
        Ok(Self { dirs: Vec::new(), packs: vec![pack], budget, place: String::new() })
    }

    fn of(
        dirs: Vec<OwnedFd>,
        place: String,
        limits: PackLimits,
    ) -> std::result::Result<Self, Fault> {
        let budget = Budget::new(limits);
        let mut packs = Vec::new();
        for dir in &dirs {
            let found = packs_in(dir)?;
            found.iter().for_each(|pack| budget.grant(pack.len()));
            packs.extend(found);
        }
        Ok(Self { dirs, packs, budget, place })
    }

    /// The commits whose ids start with `prefix` (4 to 40 lower-case hex digits), 64 a pack at most.
    pub(super) fn commits(&self, prefix: &str) -> std::result::Result<Vec<Oid>, Fault> {
        let mut commits = Vec::new();
        for id in self.named(prefix)? {
            let commit =
                commits.len() < 2 && matches!(self.find(id)?, Some((ObjectKind::Commit, _)));
            if commit && !commits.contains(&id) {
                commits.push(id);
            }
        }
        Ok(commits)
    }

    fn named(&self, prefix: &str) -> std::result::Result<Vec<Oid>, Fault> {
        let mut found = Vec::new();
        for pack in &self.packs {
            found.extend(pack.named(prefix, 64)?);
        }
        for dir in &self.dirs {
            let Some(below) = subdir(dir, &prefix[..2])? else { continue };
            for name in names(&below)? {
                let id = Oid::parse(&format!("{}{name}", &prefix[..2]));
                found.extend(id.ok().filter(|id| id.to_string().starts_with(prefix)));
            }
        }
        Ok(found)
    }

    pub(super) fn find(
        &self,
        id: Oid,
    ) -> std::result::Result<Option<(ObjectKind, Vec<u8>)>, Fault> {
        for pack in &self.packs {
            if let Some(at) = pack.find(id, &self.budget)? {
                return pack.read(at, &self.budget).map(Some);
            }
        }
        let text = id.to_string();
        for dir in &self.dirs {
            let Some(below) = subdir(dir, &text[..2])? else { continue };
            match open_regular(&below, &text[2..]) {
                Ok(file) => return self.loose(file).map(Some),
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok(None)
    }

    /// A loose object: `<kind> <size>`, a zero byte and the content, in one zlib stream.
    fn loose(&self, file: File) -> std::result::Result<(ObjectKind, Vec<u8>), Fault> {
        let len = file.metadata()?.len();
        self.budget.grant(len);
        // Its bytes count too: a stream may be long and give little.
        self.budget.charge(len)?;
        let mut stream = BufReader::new(ZlibDecoder::new(BufReader::new(file.take(len))));
        let mut head = Vec::new();
        stream.by_ref().take(32).read_until(0, &mut head)?;
        let broken = || Fault::Damaged("not a loose object".into());
        let text = std::str::from_utf8(&head).map_err(|_| broken())?;
        let (kind, size) = text.trim_end_matches('\0').split_once(' ').ok_or_else(broken)?;
        let kind = ObjectKind::from_text(kind).ok_or_else(broken)?;
        let size = size.parse().map_err(|_| broken())?;
        Ok((kind, whole(&mut stream, size, &self.budget)?))
    }
}

impl Objects for ObjectDir {
    fn read(&self, id: Oid, kind: ObjectKind) -> Result<Vec<u8>> {
        let what = || format!("{kind} {id}");
        match self.find(id) {
            Ok(Some((found, data))) => {
                verify(id, kind, found, &data, &self.place)?;
                Ok(data)
            }
            Ok(None) => Err(absent(&self.place, what())),
            Err(fault) => Err(unreadable(&self.place, fault).expected(what())),
        }
    }
}

fn unreadable(place: &str, fault: Fault) -> Error {
    match fault {
        Fault::Limit(what) => Error::new(Reason::LimitHit, what),
        Fault::Damaged(why) => {
            Error::new(Reason::SourceMismatch, "an object cannot be read").found(why)
        }
    }
    .at(place)
}

/// The object directory of a source, and those that it borrows from.
///
/// # Errors
/// [`Reason::Unreachable`] where one cannot be opened.
pub(super) fn borrowed(objects: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = vec![objects.to_owned()];
    let mut seen = 0;
    while let Some(path) = paths.get(seen).cloned() {
        seen += 1;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty()).map_err(|err| {
            Error::new(Reason::Unreachable, "cannot open the repository's objects")
                .at(path.display().to_string())
                .caused_by(err)
        })?;
        let borrowed = read_text(&path.join("info/alternates"), 1 << 20).unwrap_or_default();
        for line in borrowed.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let other = path.join(line);
            if paths.len() < BORROWED && !paths.contains(&other) {
                paths.push(other);
            }
        }
    }
    Ok(paths)
}

/// Every pack that has its index beside it.
fn packs_in(objects: &OwnedFd) -> std::result::Result<Vec<Pack>, Fault> {
    let Some(dir) = subdir(objects, "pack")? else { return Ok(Vec::new()) };
    let mut packs = Vec::new();
    for name in names(&dir)? {
        let Some(stem) = name.strip_suffix(".idx") else { continue };
        if packs.len() == PACKS {
            return Err(Fault::Limit("the repository has too many packs"));
        }
        match open_regular(&dir, format!("{stem}.pack")) {
            Ok(pack) => packs.push(Pack::open(pack, open_regular(&dir, &name)?)?),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(packs)
}

fn subdir(dir: impl AsFd, name: &str) -> io::Result<Option<OwnedFd>> {
    match open_dir(dir, name) {
        Ok(dir) => Ok(Some(dir)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// The names in a directory, as far as they are UTF-8: git's own are.
fn names(dir: &OwnedFd) -> io::Result<Vec<String>> {
    let mut out = Vec::new();
    for entry in Dir::read_from(dir)?.take(NAMES) {
        out.extend(entry?.file_name().to_str().map(str::to_owned).ok());
    }
    Ok(out)
}

fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    open_regular(CWD, path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

/// The commit that the repository at `path` has checked out, or, where it is bare, offers first.
pub fn head(path: &Path) -> Option<CommitId> {
    let objects = object_dir(path)?;
    let git = objects.parent()?;
    let mut name = "HEAD".to_owned();
    // A reference names another a few times at most.
    for _ in 0..5 {
        let text = match read_text(&git.join(&name), 4096) {
            Ok(text) => text,
            Err(_) => {
                let packed = read_text(&git.join("packed-refs"), 64 << 20).ok()?;
                let line = packed
                    .lines()
                    .find(|line| line.split_once(' ').is_some_and(|(_, to)| to == name))?;
                line.split_once(' ')?.0.to_owned()
            }
        };
        match text.trim().strip_prefix("ref: ") {
            Some(other) if other.starts_with("refs/") && !other.contains("..") => {
                other.clone_into(&mut name)
            }
            Some(_) => return None,
            None => return text.trim().parse().ok(),
        }
    }
    None
}

/// The object directory of the repository at `path`: a work tree, a bare repository, or a linked work tree; with and
/// without `.git` at the end of its name.
pub fn object_dir(path: &Path) -> Option<PathBuf> {
    let text = path.to_str()?.trim_end_matches('/');
    let other = text.strip_suffix(".git").map_or_else(|| format!("{text}.git"), str::to_owned);
    [text, other.trim_end_matches('/')].iter().map(Path::new).find_map(|dir| {
        let dot_git = dir.join(".git");
        let git = match read_text(&dot_git, 4096) {
            // A linked work tree or submodule: a file that names the directory.
            Ok(link) => dir.join(link.strip_prefix("gitdir:")?.trim()),
            Err(_) if dot_git.is_dir() => dot_git,
            Err(_) => dir.to_owned(),
        };
        let common = read_text(&git.join("commondir"), 4096);
        let git = common.map_or(git.clone(), |common| git.join(common.trim()));
        let objects = git.join("objects");
        (objects.is_dir() && git.join("HEAD").exists()).then_some(objects)
    })
}
