//! A file that is whole and hashed and not in the store yet: what it is has to be shown first.

use super::file::{FileWriter, StoredFile, not_computed};
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
