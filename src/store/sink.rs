//! Where unpacked and exported files go.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{Mode, OFlags};

use super::dir::open_dir;
use super::hash::read_some;
use crate::error::{Error, Reason, Result};
use crate::record::ids::RelPath;

/// Where files go. Directories are implied by the files in them.
pub trait Sink {
    /// Takes one file. `mode` has permission bits only: those of the archive with `0644` added and without setuid,
    /// setgid, sticky and the write bits of group and others (umask 022). `data` ends after `size` bytes.
    fn file(&mut self, path: &RelPath, mode: u32, size: u64, data: &mut dyn Read) -> Result<()>;

    /// A name that was given before comes again: whether size, mode and content are those of the first time. `false`
    /// refuses the archive.
    fn again(&mut self, _: &RelPath, _: u32, _: u64, _: &mut dyn Read) -> Result<bool> {
        Ok(false)
    }
}

/// Only lists: path to size and permission bits. A file that is there twice counts as the same by these two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing(pub BTreeMap<String, (u64, u32)>);

impl Sink for Listing {
    fn file(&mut self, path: &RelPath, mode: u32, size: u64, _: &mut dyn Read) -> Result<()> {
        self.0.insert(path.as_str().to_owned(), (size, mode));
        Ok(())
    }

    fn again(&mut self, path: &RelPath, mode: u32, size: u64, _: &mut dyn Read) -> Result<bool> {
        Ok(self.0.get(path.as_str()) == Some(&(size, mode)))
    }
}

/// Writes files below one directory, each by its name in its own directory's descriptor: no path is resolved twice and
/// no link is followed. Existing files are never overwritten.
pub struct DirSink<'a> {
    root: BorrowedFd<'a>,
    place: String,
    // The directories of the last file, outermost first.
    open: Vec<(String, OwnedFd)>,
    buf: Vec<u8>,
}

impl<'a> DirSink<'a> {
    /// A sink below `root`. `place` names the directory in errors.
    pub fn new(root: &'a impl AsFd, place: impl Into<String>) -> Self {
        Self { root: root.as_fd(), place: place.into(), open: Vec::new(), buf: vec![0; 128 << 10] }
    }

    /// Makes a symbolic link with the given target.
    ///
    /// # Errors
    /// [`Reason::Io`], [`Reason::DiskFull`].
    pub fn symlink(&mut self, path: &RelPath, target: &[u8]) -> Result<()> {
        let place = format!("{}/{path}", self.place);
        let dir = self.parent(path)?;
        rustix::fs::symlinkat(target, dir, path.file_name())
            .map_err(|err| Error::io("make a link", place, err.into()))
    }

    /// Makes a directory and those above it; one that is there already is fine.
    ///
    /// # Errors
    /// [`Reason::Io`], [`Reason::DiskFull`].
    pub fn dir(&mut self, path: &RelPath) -> Result<()> {
        let below = format!("{path}/_").parse();
        let below: RelPath = below.map_err(|_| {
            Error::new(Reason::Internal, "a directory name too long").at(path.as_str())
        })?;
        self.parent(&below).map(|_| ())
    }

    fn parent(&mut self, path: &RelPath) -> Result<BorrowedFd<'_>> {
        let text = path.as_str();
        let dirs: Vec<&str> = match text.rsplit_once('/') {
            Some((parent, _)) => parent.split('/').collect(),
            None => Vec::new(),
        };
        let same =
            self.open.iter().zip(&dirs).take_while(|((open, _), want)| open == *want).count();
        self.open.truncate(same);
        for name in &dirs[same..] {
            let above = self.open.last().map_or(self.root, |(_, fd)| fd.as_fd());
            let fd = make_dir(above, name).map_err(|err| {
                Error::io("make a directory", format!("{}/{text}", self.place), err.into())
            })?;
            self.open.push(((*name).to_owned(), fd));
        }
        Ok(self.open.last().map_or(self.root, |(_, fd)| fd.as_fd()))
    }
}

fn make_dir(above: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, rustix::io::Errno> {
    let made = match rustix::fs::mkdirat(above, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => true,
        Err(rustix::io::Errno::EXIST) => false,
        Err(err) => return Err(err),
    };
    let fd = open_dir(above, name)?;
    if made {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
    }
    Ok(fd)
}

impl Sink for DirSink<'_> {
    fn file(&mut self, path: &RelPath, mode: u32, _: u64, data: &mut dyn Read) -> Result<()> {
        let place = format!("{}/{path}", self.place);
        let mut buf = std::mem::take(&mut self.buf);
        let dir = self.parent(path)?;
        let fail = |err: io::Error| Error::io("write a file", &place, err);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, path.file_name(), flags, Mode::from_raw_mode(mode))
            .map_err(|err| fail(err.into()))?;
        // The process's umask may be narrower than 022.
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(|err| fail(err.into()))?;
        loop {
            let n = read_some(data, &mut buf).map_err(|err| source_error(&place, err))?;
            if n == 0 {
                break;
            }
            let mut rest = &buf[..n];
            while !rest.is_empty() {
                let n = rustix::io::write(&fd, rest).map_err(|err| fail(err.into()))?;
                rest = &rest[n..];
            }
        }
        self.buf = buf;
        Ok(())
    }

    fn again(&mut self, path: &RelPath, mode: u32, size: u64, data: &mut dyn Read) -> Result<bool> {
        let place = format!("{}/{path}", self.place);
        let dir = self.parent(path)?;
        let fail = |err: io::Error| Error::io("compare a file", &place, err);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, path.file_name(), flags, Mode::empty())
            .map_err(|err| fail(err.into()))?;
        let file = std::fs::File::from(fd);
        let meta = file.metadata().map_err(fail)?;
        if meta.len() != size || meta.mode() & 0o7777 != mode {
            return Ok(false);
        }
        let mut first = io::BufReader::new(file).bytes();
        for byte in io::BufReader::new(data).bytes() {
            let byte = byte.map_err(|err| source_error(&place, err))?;
            if first.next().transpose().map_err(fail)? != Some(byte) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A fault of the bytes' source, as far as it can be told from one of the disk.
pub(crate) fn source_error(place: &str, err: io::Error) -> Error {
    match err.downcast::<Error>() {
        Ok(own) => own,
        Err(err) => Error::new(Reason::Truncated, "a file's bytes ended early or are damaged")
            .at(place)
            .caused_by(err),
    }
}
