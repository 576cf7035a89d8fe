//! Files in the store: written while hashed, read only after being hashed again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fchmod, fstat, fsync, openat, renameat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{Error, Reason, Result};
use crate::record::ids::{Algorithm, Digest};

use super::dir::{corrupt, make_dir, open_dir, parts, step};
use super::hash::{Digests, Hashes, read_some};
use super::layout::{Entry, Store};
use super::{nar, scratch};

/// A file of the store whose whole content has just been hashed.
#[derive(Debug)]
pub struct StoredFile {
    path: PathBuf,
    digest: Digest,
    digests: Digests,
    file: File,
}

impl StoredFile {
    /// Where the file is. Another read of this path is not covered by the check.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Every digest that was computed in the same read.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    pub fn size(&self) -> u64 {
        self.digests.size()
    }

    /// The very file that was hashed, open for reading, at position 0.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// The same file for reads at given positions, which several threads may make at once.
    pub fn shared(&self) -> &File {
        &self.file
    }

    /// The whole content, for small files. Errors: `limit_hit` above `limit` bytes, `io`.
    pub fn read_all(mut self, limit: u64) -> Result<Vec<u8>> {
        if self.size() > limit {
            return Err(Error::new(Reason::LimitHit, "a file is larger than it may be")
                .at(self.path.display().to_string())
                .expected(format!("at most {limit} bytes"))
                .found(format!("{} bytes", self.size())));
        }
        let mut out = Vec::with_capacity(self.size() as usize);
        self.file.read_to_end(&mut out).map_err(|e| Error::io("read", &self.path, e))?;
        Ok(out)
    }
}

/// A file that is being written. Nothing of it is in the store before [`FileWriter::finish`]; dropped, it is gone.
pub struct FileWriter {
    store: Store,
    name: String,
    path: PathBuf,
    file: Option<File>,
    hashes: Option<Hashes>,
    /// The first write that failed: what is there is not what was to be written, whatever its digest.
    failed: Option<(io::ErrorKind, Option<i32>)>,
    published: bool,
}

impl Store {
    pub fn writer_with(&self, algorithms: &[Algorithm]) -> Result<FileWriter> {
        let session = self.session("a writer")?;
        let name = format!("file-{}", scratch::fresh_name());
        let path = session.path().join(&name);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(session.dir(), &name, flags, Mode::from(0o600))
            .map_err(|e| Error::io("make temporary file", &path, e.into()))?;
        step("file: made");
        Ok(FileWriter {
            store: self.clone(),
            name,
            path,
            file: Some(File::from(file)),
            hashes: Some(Hashes::new(algorithms)),
            failed: None,
            published: false,
        })
    }

    pub fn put(&self, bytes: &[u8], algorithm: Algorithm) -> Result<StoredFile> {
        let mut writer = self.writer_with(&[algorithm])?;
        writer.append(bytes)?;
        writer.finish_as(None, algorithm)
    }

    /// The file with this digest, after all of it has been hashed. `None`: it is not in the store.
    /// Errors: `store_corrupt` with what was found; `io`.
    pub fn file(&self, digest: &Digest) -> Result<Option<StoredFile>> {
        self.file_checked(digest, digest)
    }

    /// Like [`Store::file`], proven by another digest of the same content that the caller has from a sealed record:
    /// BLAKE3 is several times faster than SHA-256. Errors: `store_corrupt` where the content has not digest `check`.
    pub fn file_checked(&self, digest: &Digest, check: &Digest) -> Result<Option<StoredFile>> {
        let path = self.file_path(digest);
        let Some(dir) = self.file_parent(digest)? else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match openat(&dir, digest.to_hex(), flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(corrupt(&path, digest.to_string(), "a symbolic link"));
            }
            Err(Errno::NXIO) => return Err(corrupt(&path, digest.to_string(), "a socket")),
            Err(e) => return Err(Error::io("open store entry", &path, e.into())),
        };
        let stat = fstat(&fd).map_err(|e| Error::io("examine store entry", &path, e.into()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(corrupt(&path, digest.to_string(), nar::describe(kind)));
        }
        let file = File::from(fd);
        let digests = Hashes::of_file(&file, &[check.algorithm()])
            .map_err(|e| Error::io("read store entry", &path, e))?;
        let found = digests.get(check.algorithm());
        if found != Some(check) {
            let found = found.map_or_else(String::new, Digest::to_string);
            return Err(corrupt(&path, check.to_string(), found));
        }
        Ok(Some(StoredFile { path, digest: digest.clone(), digests, file }))
    }

    /// The path that a file with this digest has, whether it is there or not.
    pub fn file_path(&self, digest: &Digest) -> PathBuf {
        let mut path = self.path().join("files");
        path.extend(parts(digest));
        path
    }

    fn file_parent(&self, digest: &Digest) -> Result<Option<OwnedFd>> {
        let mut dir =
            self.top().try_clone_to_owned().map_err(|e| Error::io("open", self.path(), e))?;
        let mut path = self.path().to_owned();
        let parts = parts(digest);
        for part in ["files", &parts[0], &parts[1]] {
            path.push(part);
            dir = match open_dir(dir.as_fd(), part) {
                Ok(dir) => dir,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(corrupt(&path, "a directory", "something else"));
                }
                Err(e) => return Err(Error::io("open store directory", &path, e.into())),
            };
        }
        Ok(Some(dir))
    }
}

impl FileWriter {
    fn name_it(&mut self, digest: &Digest) -> Result<PathBuf> {
        let session = self.store.session("a writer")?;
        let path = self.store.file_path(digest);
        let parts = parts(digest);
        for retry in [true, false] {
            match self.rename(session.dir(), &parts) {
                Ok(()) => break,
                // Something that no store makes is in the way: out with it, once.
                Err(Errno::ISDIR | Errno::NOTDIR | Errno::LOOP) if retry => {
                    self.store.quarantine(Entry::File(digest))?;
                }
                Err(e) => return Err(Error::io("store file as", &path, e.into())),
            }
        }
        self.published = true;
        step("file: renamed");
        Ok(path)
    }

    /// Gives the file its name. Over one of the same name: the content is the same, or the other is corrupt.
    fn rename(&self, from: &OwnedFd, parts: &[String]) -> rustix::io::Result<()> {
        let [algorithm, short, name] = parts else { return Err(Errno::INVAL) };
        let mut dir = open_dir(self.store.top(), "files")?;
        for part in [algorithm, short] {
            dir = match open_dir(dir.as_fd(), part) {
                Err(Errno::NOENT) => {
                    make_dir(dir.as_fd(), part)?;
                    step("file: directory made");
                    open_dir(dir.as_fd(), part)?
                }
                other => other?,
            };
        }
        renameat(from, &self.name, &dir, name)
    }

    /// Appends all of `bytes`. The same as `write_all`, with an error that says where and why.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.path.clone();
        self.write_all(bytes).map_err(|e| Error::io("write", path, e))
    }

    /// Appends what an archive holds under `member`, to its end.
    /// Errors: `truncated` where the archive breaks off; those of [`Self::append`].
    pub fn append_member(&mut self, member: &str, data: &mut dyn Read) -> Result<()> {
        let mut buf = vec![0; 256 << 10];
        loop {
            match read_some(data, &mut buf) {
                Ok(0) => return Ok(()),
                Ok(n) => self.append(&buf[..n])?,
                Err(err) => {
                    return Err(Error::new(Reason::Truncated, "the archive is cut off or damaged")
                        .at(member)
                        .caused_by(err));
                }
            }
        }
    }

    /// Ends the file: it is stored under `expected`, or, where its content has another digest, removed.
    /// Errors: `digest_mismatch`, `disk_full`, `io`; a write that failed before fails here too.
    pub fn finish(self, expected: &Digest) -> Result<StoredFile> {
        self.pending(expected.algorithm(), Some(expected))?.publish()
    }

    /// Ends the file under the digest that is expected, or else under its own by `algorithm`.
    pub fn finish_as(self, expected: Option<&Digest>, algorithm: Algorithm) -> Result<StoredFile> {
        let algorithm = expected.map_or(algorithm, Digest::algorithm);
        self.pending(algorithm, expected)?.publish()
    }

    /// Ends the file, which will be stored under its own digest by `algorithm`.
    pub fn pend(self, algorithm: Algorithm) -> Result<Pending> {
        self.pending(algorithm, None)
    }

    fn pending(mut self, algorithm: Algorithm, expected: Option<&Digest>) -> Result<Pending> {
        let digests = self.close()?;
        let digest = digests.get(algorithm).cloned().ok_or_else(|| {
            Error::new(Reason::Internal, "a digest that was not computed while writing")
                .expected(algorithm.as_str())
        })?;
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(other_digest(expected, &digest.to_string()));
        }
        let file = self.seal()?;
        let file = StoredFile { path: self.path.clone(), digest, digests, file };
        Ok(Pending { writer: self, file })
    }

    /// The digests of what was written, unless a write failed.
    fn close(&mut self) -> Result<Digests> {
        if let Some((kind, errno)) = self.failed {
            let e = errno.map_or_else(|| io::Error::from(kind), io::Error::from_raw_os_error);
            return Err(Error::io("write", &self.path, e));
        }
        let hashes = self.hashes.take();
        hashes.map(Hashes::finish).ok_or_else(finished_twice)
    }

    /// Ends the writing: mode, sync, and the same file for reading.
    fn seal(&mut self) -> Result<File> {
        let fail = |what: &str, e: Errno| Error::io(what, &self.path, e.into());
        let session = self.store.session("a writer")?;
        let Some(file) = self.file.take() else { return Err(finished_twice()) };
        step("file: written");
        fchmod(&file, Mode::from(0o444)).map_err(|e| fail("set mode of", e))?;
        step("file: mode set");
        fsync(&file).map_err(|e| fail("sync", e))?;
        step("file: synced");
        // The caller can read the file and no more; and a file that is open for writing cannot be run.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let reader =
            openat(session.dir(), &self.name, flags, Mode::empty()).map_err(|e| fail("open", e))?;
        let same =
            |a: rustix::fs::Stat, b: rustix::fs::Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        if !same(
            fstat(&file).map_err(|e| fail("examine", e))?,
            fstat(&reader).map_err(|e| fail("examine", e))?,
        ) {
            return Err(corrupt(&self.path, "the file that was written", "another file"));
        }
        Ok(File::from(reader))
    }
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (Some(file), Some(hashes)) = (&mut self.file, &mut self.hashes) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        match file.write(bytes) {
            Ok(n) => {
                hashes.update(&bytes[..n]);
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                self.failed.get_or_insert((e.kind(), e.raw_os_error()));
                Err(e)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.published
            && let Ok(session) = self.store.session("a writer")
        {
            let _ = unlinkat(session.dir(), &self.name, AtFlags::empty());
        }
    }
}

/// A file that is whole and hashed and not in the store yet: what it is has to be shown first. Dropped, it is gone, and
/// the store is as if it had never been.
pub struct Pending {
    writer: FileWriter,
    file: StoredFile,
}

impl Pending {
    /// The file, at the path that it has until it is published.
    pub fn file(&mut self) -> &mut StoredFile {
        &mut self.file
    }

    /// Refuses a file with another digest.
    ///
    /// # Errors
    /// [`Reason::DigestMismatch`].
    pub fn require(self, expected: &Digest) -> Result<Self> {
        let found = self.file.digests.get(expected.algorithm());
        if found == Some(expected) {
            return Ok(self);
        }
        Err(other_digest(expected, &found.map_or_else(String::new, ToString::to_string)))
    }

    pub fn publish(mut self) -> Result<StoredFile> {
        let path = self.writer.name_it(&self.file.digest)?;
        Ok(StoredFile { path, ..self.file })
    }
}

fn other_digest(expected: &Digest, found: &str) -> Error {
    Error::new(Reason::DigestMismatch, "content has another digest")
        .expected(expected.to_string())
        .found(found)
}

fn finished_twice() -> Error {
    Error::new(Reason::Internal, "a file was finished twice")
}
