//! What an install left: every `node_modules` below a source is listed, its links not followed, each file's content
//! known because it is one that [`super::seed`] wrote and that was not written to since, or because it is read.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use blake3::Hash;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::bun::cache;
use crate::bun::install::{Difference, compare};
use crate::bun::lockfile::{BunLock, Package, Required};
use crate::bun::tree::{File, Tree, TreeEntry, Unpacked};
use crate::error::{Error, Reason, Result};
use crate::record::lockfile::Linker;
use crate::store::open_dir;

/// Levels of directories that are listed. Paths end at 4,096 bytes, and npm's own trees stay below 40.
const DEPTH: usize = 128;
/// Files that are listed; the largest provider seen has 16,500.
const FILES: usize = 2_000_000;

/// What identifies a file that was not written since: device, inode, size, time of the last write (seconds,
/// nanoseconds). Nothing in a build has a reason to set that time back; what runs scripts is checked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Untouched {
    device: u64,
    inode: u64,
    bytes: u64,
    written: (i64, i64),
}

impl Untouched {
    pub(super) fn of(stat: &Stat) -> Self {
        // The types of these fields differ between architectures.
        let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            written: (stat.st_mtime, nanoseconds),
        }
    }
}

#[derive(Debug, Default)]
pub struct Seeded {
    pub(super) by_dir: BTreeMap<String, Vec<File>>,
    /// Content of each file, as long as it is not written to.
    pub(super) known: HashMap<Untouched, Hash>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Packages that are directories of the source, and are in no cache.
    pub local: Vec<Local>,
}

/// A package that is a directory of the source.
#[derive(Clone, Debug)]
pub struct Local {
    pub package: Package,
    pub files: Vec<File>,
    pub links: Vec<(String, String)>,
}

impl Seeded {
    /// The files of each of `packages`, and of those that lie in the source; a package that was not seeded has none, and
    /// then counts as missing.
    pub fn unpacked<'a>(&'a self, packages: &[Required<'a>]) -> Result<Vec<Unpacked<'a>>> {
        let one = |required: &Required<'a>| {
            let entry = cache::entry(required.package)?;
            let files = self.by_dir.get(entry.dir.as_str()).map_or(&[][..], Vec::as_slice);
            Ok(Unpacked { package: required.package, files, links: &[] })
        };
        let local = self.local.iter().map(|local| {
            let Local { package, files, links } = local;
            Ok(Unpacked { package, files, links })
        });
        packages.iter().map(one).chain(local).collect()
    }

    /// The file system's clock ticks every few milliseconds, so a write that follows at once can leave the time of the
    /// last file as it is, but not that of an older one. The last files are read again instead.
    pub(super) fn doubt_the_last(&mut self) {
        let last = self.known.keys().map(|known| known.written).max();
        self.known.retain(|known, _| Some(known.written) != last);
    }
}

/// How the `node_modules` below `source` differ from what `packages` (all that were selected and are fetched) must
/// give. Empty means equal. `place` names the source in errors.
///
/// # Errors
/// [`Reason::Io`]; [`Reason::LimitHit`] for a tree without end.
pub fn differences(
    source: &impl AsFd,
    place: &str,
    lock: &BunLock,
    packages: &[Required<'_>],
    seeded: &Seeded,
    linker: Linker,
) -> Result<Vec<Difference>> {
    let tree = list(source, place, &lock.module_dirs(), seeded)?;
    Ok(compare(lock, &seeded.unpacked(packages)?, &tree, linker))
}

/// [`differences`] as an error: the first of them as expected and found, the others as hints.
///
/// # Errors
/// [`Reason::InstallMismatch`], and those of [`differences`].
pub fn require_equal(
    source: &impl AsFd,
    place: &str,
    lock: &BunLock,
    packages: &[Required<'_>],
    seeded: &Seeded,
    linker: Linker,
) -> Result<()> {
    let all = differences(source, place, lock, packages, seeded, linker)?;
    let Some(first) = all.first() else { return Ok(()) };
    let what = match all.len() {
        1 => "the installed packages are not those of the lock".to_owned(),
        n => format!("the installed packages are not those of the lock, in {n} places"),
    };
    let error = Error::new(Reason::InstallMismatch, what)
        .at(format!("{place}/{}", first.path))
        .expected(first.expected.as_str())
        .found(format!("{}: {}", first.what.as_str(), first.found));
    Err(all.iter().skip(1).take(8).fold(error, |error, one| error.hint(format!("also {one}"))))
}

/// Lists `dirs` (paths below `source`); one that is not there has nothing in it.
///
/// # Errors
/// [`Reason::Io`], [`Reason::LimitHit`].
pub fn list(source: &impl AsFd, place: &str, dirs: &[String], seeded: &Seeded) -> Result<Tree> {
    let mut walk = Walk { known: &seeded.known, place, tree: Tree::new(), path: String::new() };
    'dirs: for dir in dirs {
        let mut at: Option<OwnedFd> = None;
        walk.path.clear();
        for part in dir.split('/') {
            let above = at.as_ref().map_or(source.as_fd(), AsFd::as_fd);
            if !walk.path.is_empty() {
                walk.path.push('/');
            }
            walk.path.push_str(part);
            match open_dir(above, part) {
                Ok(fd) => at = Some(fd),
                Err(Errno::NOENT) => continue 'dirs,
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    walk.tree.insert(walk.path.clone(), TreeEntry::Other("not a directory"));
                    continue 'dirs;
                }
                Err(err) => return Err(walk.fail("open", err)),
            }
        }
        if let Some(fd) = at {
            walk.directory(fd, 0)?;
        }
    }
    Ok(walk.tree)
}

struct Walk<'a> {
    known: &'a HashMap<Untouched, Hash>,
    place: &'a str,
    tree: Tree,
    path: String,
}

impl Walk<'_> {
    fn directory(&mut self, dir: OwnedFd, depth: usize) -> Result<()> {
        if depth >= DEPTH || self.tree.len() > FILES {
            return Err(Error::new(Reason::LimitHit, "the installed packages have no end")
                .at(format!("{}/{}", self.place, self.path))
                .expected(format!("at most {DEPTH} levels and {FILES} files")));
        }
        let length = self.path.len();
        let entries = rustix::fs::Dir::read_from(&dir).map_err(|err| self.fail("list", err))?;
        for entry in entries {
            let entry = entry.map_err(|err| self.fail("list", err))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.path.push('/');
            // A name that is not UTF-8 cannot be an expected one; replaced characters keep it different from all.
            self.path.push_str(&String::from_utf8_lossy(name.to_bytes()));
            if entry.file_type() == FileType::Directory {
                let below = open_dir(dir.as_fd(), name).map_err(|err| self.fail("open", err))?;
                self.directory(below, depth + 1)?;
            } else {
                self.entry(dir.as_fd(), name, depth)?;
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &std::ffi::CStr, depth: usize) -> Result<()> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|err| self.fail("look at", err))?;
        let found = match FileType::from_raw_mode(stat.st_mode) {
            // Some file systems do not say in the listing.
            FileType::Directory => {
                let below = open_dir(dir, name).map_err(|err| self.fail("open", err))?;
                return self.directory(below, depth + 1);
            }
            FileType::RegularFile => self.file(dir, name, &stat)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())
                    .map_err(|err| self.fail("read a link", err))?;
                TreeEntry::Link(String::from_utf8_lossy(target.to_bytes()).into_owned())
            }
            _ => TreeEntry::Other("neither file, directory nor link"),
        };
        self.tree.insert(self.path.clone(), found);
        Ok(())
    }

    fn file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        stat: &Stat,
    ) -> Result<TreeEntry> {
        if stat.st_mode & 0o7000 != 0 {
            return Ok(TreeEntry::Other("a file with set-user-id, set-group-id or sticky bit"));
        }
        let executable = stat.st_mode & 0o111 != 0;
        if let Some(digest) = self.known.get(&Untouched::of(stat)) {
            return Ok(TreeEntry::File { digest: *digest, executable });
        }
        // Not waiting: it may have become a pipe since.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty())
            .map_err(|err| self.fail("open", err))?;
        let now = rustix::fs::fstat(&fd).map_err(|err| self.fail("look at", err))?;
        if Untouched::of(&now) != Untouched::of(stat) {
            return Ok(TreeEntry::Other("a file that changes while it is read"));
        }
        let mut hasher = blake3::Hasher::new();
        hasher
            .update_reader(std::fs::File::from(fd))
            .map_err(|err| Error::io("read", format!("{}/{}", self.place, self.path), err))?;
        Ok(TreeEntry::File { digest: hasher.finalize(), executable })
    }

    fn fail(&self, what: &str, err: Errno) -> Error {
        Error::io(what, format!("{}/{}", self.place, self.path), err.into())
    }
}
