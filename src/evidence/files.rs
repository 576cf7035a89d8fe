//! The run directory itself: made fresh, proven empty, written without ever following a link or replacing a file.

use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::OpenOptionsExt as _;
use cap_std::fs::{Dir, DirEntry, File, OpenOptions};

use crate::error::{Error, Reason, Result};
use crate::host::files::bounded;
use crate::host::rename_new;
use crate::record::ids::{Digest, Name, RelPath, Timestamp};

/// Bytes put aside when the directory is made, so that a full disk cannot keep a run from being sealed.
const RESERVE: u64 = 4 << 20;
/// The file that holds them until then.
const RESERVE_NAME: &str = ".reserve";
/// A manifest, report, proof or other record larger than this is not read.
pub(super) const MAX_RECORD: u64 = 64 << 20;
/// How many runs of one fixture one process can begin in one second.
const MAX_SAME_SECOND: u32 = 1000;
/// More entries than this are not listed: no run directory has them.
const MAX_ENTRIES: usize = 100_000;

pub(super) struct RunDir {
    dir: Dir,
    path: PathBuf,
    pub(super) was_empty: bool,
}

impl RunDir {
    /// Makes `<runs>/<UTC>-<fixture>-<pid>`, with `-2`, `-3` and so on behind it where that is taken.
    pub(super) fn create(runs: &Path, fixture: &Name, now: &Timestamp) -> Result<Self> {
        let io = |path: &Path, err| {
            Error::io("make the run directory", path, err)
                .expected("a directory that can be written")
                .hint("name a directory that you can write with --state")
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(runs)
            .map_err(|err| io(runs, err))?;
        let stamp: String = now.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let base = format!("{stamp}-{fixture}-{}", std::process::id());
        for n in 1..=MAX_SAME_SECOND {
            let name = if n == 1 { base.clone() } else { format!("{base}-{n}") };
            let path = runs.join(name);
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(err) => return Err(io(&path, err)),
            }
            return Self::fresh(&path);
        }
        Err(Error::new(Reason::LimitHit, "too many runs began in one second").at(base))
    }

    /// Takes a directory that was made for one run; one that is not empty is an error.
    pub(super) fn fresh(path: &Path) -> Result<Self> {
        let dir = Dir::open_ambient_dir(path, ambient_authority())
            .map_err(|err| Error::io("open the run directory", path, err))?;
        let mut this = Self { dir, path: path.to_owned(), was_empty: false };
        this.was_empty = this.list()?.is_empty();
        if !this.was_empty {
            return Err(Error::new(Reason::Internal, "a fresh run directory is not empty")
                .at(this.path.display().to_string()));
        }
        this.reserve();
        Ok(this)
    }

    pub(super) fn open(path: &Path) -> Result<Self> {
        let dir =
            Dir::open_ambient_dir(path, ambient_authority()).map_err(|err| match err.kind() {
                std::io::ErrorKind::NotFound => {
                    Error::new(Reason::NotFound, "there is no such run directory")
                        .at(path.display().to_string())
                }
                _ => Error::io("open the run directory", path, err),
            })?;
        Ok(Self { dir, path: path.to_owned(), was_empty: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Best effort: a file system that cannot reserve still takes the run.
    fn reserve(&self) {
        if let Ok(file) = self.new_file(RESERVE_NAME) {
            let flags = rustix::fs::FallocateFlags::empty();
            let _ = rustix::fs::fallocate(&file, flags, 0, RESERVE);
        }
    }

    fn new_file(&self, path: &str) -> std::io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        self.dir.open_with(path, &options)
    }

    /// Gives the reserved bytes back, right before sealing.
    pub(super) fn release(&self) {
        drop(self.dir.remove_file(RESERVE_NAME));
    }

    pub(super) fn io(&self, what: &str, path: &str, err: std::io::Error) -> Error {
        Error::io(what, self.path.join(path), err)
    }

    fn parents(&self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => {
                self.dir.create_dir_all(parent).map_err(|err| self.io("make", parent, err))
            }
            None => Ok(()),
        }
    }

    /// A new file for appending; refused if it is there.
    pub(super) fn create_log(&self, path: &str) -> Result<File> {
        self.parents(path)?;
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        self.dir.open_with(path, &options).map_err(|err| self.io("create", path, err))
    }

    /// Writes a whole file: temporary name, fsync, rename. `replace` is for sealing only.
    pub(super) fn write(&self, path: &str, bytes: &[u8], replace: bool) -> Result<()> {
        self.parents(path)?;
        // A name that is taken, whatever by, must not keep a run from being sealed.
        let free = |n: u32| format!("{path}.part{n}");
        let taken = |temp: &String| self.dir.symlink_metadata(temp).is_ok();
        let temp = (0..100).map(free).find(|temp| !taken(temp)).unwrap_or_else(|| free(100));
        let attempt = || -> std::io::Result<()> {
            let mut file = self.new_file(&temp)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            if replace {
                return Ok(rustix::fs::renameat(&self.dir, &temp, &self.dir, path)?);
            }
            Ok(rename_new(&self.dir, &temp, &self.dir, path)?)
        };
        attempt().map_err(|err| {
            drop(self.dir.remove_file(&temp));
            self.io("write", path, err)
        })
    }

    /// Makes the names durable.
    pub(super) fn sync(&self) -> Result<()> {
        let whole = |dir: &Dir| dir.open(".").and_then(|d| d.sync_all());
        whole(&self.dir).map_err(|err| self.io("write", "", err))
    }

    /// Opens a regular file to read it; a link, directory or device is an error.
    pub(super) fn open_file(&self, path: &str) -> std::io::Result<File> {
        let mut options = OpenOptions::new();
        // Not blocking, so that a planted pipe cannot hold the reader up.
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = self.dir.open_with(path, &options)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(std::io::Error::other("not a regular file")),
        }
    }

    /// A small file's bytes; more than `limit` is an error.
    pub(super) fn read(&self, path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
        bounded(self.open_file(path)?, limit)
    }

    /// Size and SHA-256 of the first `limit` bytes of a regular file, each piece of which is given to `see`.
    pub(super) fn digest(
        &self,
        path: &str,
        limit: u64,
        mut see: impl FnMut(&[u8]),
    ) -> std::io::Result<(u64, Digest)> {
        use sha2::Digest as _;
        let mut file = self.open_file(path)?.take(limit);
        let mut hash = sha2::Sha256::new();
        let mut size = 0u64;
        // Most files are a few hundred bytes: no more memory than a file can fill.
        let most = usize::try_from(limit).unwrap_or(usize::MAX).clamp(1, 256 * 1024);
        let mut buffer = vec![0; most];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            see(&buffer[..n]);
            size += n as u64;
        }
        let digest = Digest::from_bytes(crate::record::ids::Algorithm::Sha256, &hash.finalize());
        digest.map(|digest| (size, digest)).ok_or_else(|| std::io::Error::other("no digest"))
    }

    /// Every name below the directory that is not a directory with something in it, sorted. Names that are no
    /// [`RelPath`] are given escaped, so that they can be shown.
    pub(super) fn list(&self) -> Result<Vec<Listed>> {
        let mut out = Vec::new();
        self.list_into(&self.dir, "", 0, &mut out).map_err(|err| self.io("list", "", err))?;
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    fn list_into(
        &self,
        dir: &Dir,
        prefix: &str,
        depth: usize,
        out: &mut Vec<Listed>,
    ) -> std::io::Result<()> {
        for entry in dir.entries()? {
            let entry: DirEntry = entry?;
            let raw = entry.file_name();
            let name = match raw.to_str() {
                Some(text) => format!("{prefix}{text}"),
                None => format!("{prefix}{}", raw.to_string_lossy().escape_debug()),
            };
            if out.len() >= MAX_ENTRIES {
                return Err(std::io::Error::other("too many files"));
            }
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < 16 && raw.to_str().is_some() {
                let before = out.len();
                self.list_into(&entry.open_dir()?, &format!("{name}/"), depth + 1, out)?;
                if out.len() > before {
                    continue;
                }
            }
            let path =
                (kind.is_file() && raw.to_str().is_some()).then(|| name.parse().ok()).flatten();
            out.push(Listed { name, path });
        }
        Ok(())
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, path: &str) {
        drop(self.dir.remove_file(path));
    }
}

pub(super) struct Listed {
    /// The name, for people.
    pub(super) name: String,
    /// The path, if it is a regular file that a manifest could list.
    pub(super) path: Option<RelPath>,
}

/// Copies the run directory `from` to `to`, which must not be there: the same files, and nothing but files.
///
/// # Errors
/// Where something cannot be read or written; what was copied by then is removed.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let source = RunDir::open(from)?;
    let made = std::fs::DirBuilder::new().mode(0o700).create(to);
    made.map_err(|err| Error::io("make", to, err).hint("its parent has to be there"))?;
    let dir =
        Dir::open_ambient_dir(to, ambient_authority()).map_err(|err| Error::io("open", to, err))?;
    let copy = RunDir { dir, path: to.to_owned(), was_empty: false };
    let all = || -> Result<()> {
        for listed in source.list()? {
            let name = listed.name;
            let mut file = source.open_file(&name).map_err(|err| source.io("read", &name, err))?;
            copy.parents(&name)?;
            let done = copy.new_file(&name).and_then(|mut out| std::io::copy(&mut file, &mut out));
            done.map_err(|err| copy.io("write", &name, err))?;
        }
        Ok(())
    };
    all().inspect_err(|_| drop(std::fs::remove_dir_all(to)))
}
