//! A file that is whole and hashed and not in the store yet: what it is has to be shown first.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::renameat;
use rustix::io::Errno;

use super::file::{FileWriter, StoredFile, not_computed, parts};
use super::{Entry, make_dir, open_dir, step};
use crate::error::{Error, Reason, Result};
use crate::record::ids::{Algorithm, Digest};

/// See the module. Dropped, it is gone, and the store is as if it had never been.
pub struct Pending {
    writer: FileWriter,
    file: StoredFile,
}

impl FileWriter {
    /// Ends the file, which will be stored under its own digest by `algorithm`.
    pub fn pend(mut self, algorithm: Algorithm) -> Result<Pending> {
        let digests = self.close()?;
        let digest = digests.get(algorithm).cloned();
        let digest = digest.ok_or_else(|| not_computed(algorithm.name()))?;
        let file = self.seal()?;
        let file = StoredFile { path: self.path.clone(), digest, digests, file };
        Ok(Pending { writer: self, file })
    }

    /// Puts the sealed file where files with this digest are.
    pub(super) fn name_it(&mut self, digest: &Digest) -> Result<PathBuf> {
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
        let mut dir = open_dir(self.store.inner.top.as_fd(), "files")?;
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
        Err(Error::new(Reason::DigestMismatch, "content has another digest")
            .expected(expected.to_string())
            .found(found.map_or_else(String::new, ToString::to_string)))
    }

    /// Puts the file into the store.
    pub fn publish(mut self) -> Result<StoredFile> {
        let path = self.writer.name_it(&self.file.digest)?;
        Ok(StoredFile { path, ..self.file })
    }
}
