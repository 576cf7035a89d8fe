//! The NAR hash of a directory: SHA-256 over Nix's archive format (Nix manual, "Nix Archive (NAR) format"), computed
//! while reading, without making the archive. Names, contents, symbolic link targets and the owner's execute bit
//! count; times, owners and other mode bits do not.
//!
//! Why no crate: those for NAR walk paths. Here each entry is opened from its directory's descriptor and no link is
//! followed, so a tree that changes while it is read cannot lead out of itself.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::error::{Error, Reason, Result};
use crate::record::ids::{Algorithm, Digest};

use super::dir::open_dir;
use super::hash::{Hashes, read_some};

/// Directories within directories that are followed. One descriptor is open for each, and 1024 is a usual limit.
pub(super) const DEPTH: usize = 256;
/// Contents are read this many bytes at a time.
const BUFFER: usize = 256 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nar {
    /// SHA-256 of the archive; its SRI form is what `nix hash path` prints.
    pub digest: Digest,
    /// Length of the archive in bytes.
    pub size: u64,
    pub files: u64,
}

/// The NAR hash of the directory `dir`. `place` is its path, for messages. Errors: `hostile_archive` for an entry that
/// is not a file, directory or symbolic link, `limit_hit` for more than 256 levels, `io` for the rest.
pub fn nar_hash(dir: impl AsFd, place: &Path) -> Result<Nar> {
    Walk::run(dir.as_fd(), place)
}

/// The names in a directory, sorted bytewise, without `.` and `..`.
pub(super) fn names(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut out = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            out.push(name);
        }
    }
    out.sort();
    Ok(out)
}

/// [`names`], with an error that says of which directory.
pub(super) fn names_in(dir: BorrowedFd<'_>, place: &Path) -> Result<Vec<CString>> {
    names(dir).map_err(|e| Error::io("list directory", place, e.into()))
}

/// `place/name`, for messages.
pub(super) fn below(place: &Path, name: &CString) -> PathBuf {
    place.join(std::ffi::OsStr::from_bytes(name.as_bytes()))
}

struct Walk {
    hash: Hashes,
    buffer: Vec<u8>,
    files: u64,
}

impl Walk {
    fn run(dir: BorrowedFd<'_>, place: &Path) -> Result<Nar> {
        let hash = Hashes::new(&[Algorithm::Sha256]);
        let mut walk = Self { hash, buffer: vec![0; BUFFER], files: 0 };
        walk.text(b"nix-archive-1");
        walk.directory(dir, place, 0)?;
        let digests = walk.hash.finish();
        let digest = digests.get(Algorithm::Sha256).cloned();
        let digest = digest.ok_or_else(|| Error::new(Reason::Internal, "no NAR digest"))?;
        Ok(Nar { digest, size: digests.size(), files: walk.files })
    }

    /// A string of the format: length as 64 bits little-endian, the bytes, zeros up to a multiple of 8.
    fn text(&mut self, bytes: &[u8]) {
        self.hash.update(&(bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
        self.pad(bytes.len() as u64);
    }

    fn texts(&mut self, list: &[&[u8]]) {
        // Structure words are short: one update for all of them.
        let mut out = Vec::with_capacity(list.len() * 24);
        for bytes in list {
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
            out.resize(out.len().next_multiple_of(8), 0);
        }
        self.hash.update(&out);
    }

    fn pad(&mut self, length: u64) {
        let rest = (length.next_multiple_of(8) - length) as usize;
        self.hash.update(&[0; 8][..rest]);
    }

    fn directory(&mut self, dir: BorrowedFd<'_>, place: &Path, depth: usize) -> Result<()> {
        if depth >= DEPTH {
            return Err(Error::new(Reason::LimitHit, "directories are nested too deeply")
                .at(place.display().to_string())
                .expected(format!("at most {DEPTH} levels")));
        }
        self.texts(&[b"(", b"type", b"directory"]);
        for name in names_in(dir, place)? {
            self.texts(&[b"entry", b"(", b"name", name.as_bytes(), b"node"]);
            self.entry(dir, &name, &below(place, &name), depth)?;
            self.texts(&[b")"]);
        }
        self.texts(&[b")"]);
        Ok(())
    }

    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CString,
        place: &Path,
        depth: usize,
    ) -> Result<()> {
        let fail = |what: &str, e: Errno| Error::io(what, place, e.into());
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| fail("examine", e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let sub = open_dir(dir, name).map_err(|e| fail("open", e))?;
                self.directory(sub.as_fd(), place, depth + 1)
            }
            FileType::Symlink => {
                let target = readlinkat(dir, name, Vec::new()).map_err(|e| fail("read link", e))?;
                self.texts(&[b"(", b"type", b"symlink", b"target", target.as_bytes(), b")"]);
                Ok(())
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = openat(dir, name, flags, Mode::empty()).map_err(|e| fail("open", e))?;
                self.file(file, place)
            }
            other => Err(special(other, place)),
        }
    }

    fn file(&mut self, file: OwnedFd, place: &Path) -> Result<()> {
        // The descriptor decides, not the name that was looked at before.
        let stat = fstat(&file).map_err(|e| Error::io("examine", place, e.into()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(special(kind, place));
        }
        self.texts(&[b"(", b"type", b"regular"]);
        if stat.st_mode & 0o100 != 0 {
            self.texts(&[b"executable", b""]);
        }
        let size = stat.st_size as u64;
        self.texts(&[b"contents"]);
        self.hash.update(&size.to_le_bytes());
        let mut file = File::from(file);
        let mut seen = 0;
        while seen <= size {
            let n = read_some(&mut file, &mut self.buffer);
            let n = n.map_err(|e| Error::io("read", place, e))?;
            if n == 0 {
                break;
            }
            self.hash.update(&self.buffer[..n]);
            seen += n as u64;
        }
        // The length went into the hash before the bytes: another count would make an archive that says two things.
        if seen != size {
            return Err(Error::new(Reason::Io, "a file changed while it was read")
                .at(place.display().to_string())
                .expected(format!("{size} bytes"))
                .found(format!("{seen} bytes or more")));
        }
        self.pad(size);
        self.texts(&[b")"]);
        self.files += 1;
        Ok(())
    }
}

pub(super) fn special(kind: FileType, place: &Path) -> Error {
    Error::new(Reason::HostileArchive, "a tree may hold files, directories and symbolic links only")
        .at(place.display().to_string())
        .found(describe(kind))
}

pub(super) fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "something unknown",
    }
}
