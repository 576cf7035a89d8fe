//! Names of git objects: SHA-1 over kind, size and content. Collisions as they are known (SHAttered) are found and give
//! another name, as in git itself; `sha1-checked` is the one crate that does so without `unsafe` here.

use std::fmt;

use sha1_checked::{Digest as _, Sha1};

use crate::error::{Error, Reason, Result};
use crate::record::ids::CommitId;
use crate::record::words;

words! {
    pub enum ObjectKind {
        Commit = "commit",
        Tree = "tree",
        Blob = "blob",
        Tag = "tag",
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(pub(super) [u8; 20]);

impl Oid {
    pub fn of(kind: ObjectKind, data: &[u8]) -> Self {
        let mut hash = Sha1::new();
        hash.update(format!("{kind} {}\0", data.len()));
        hash.update(data);
        Self(hash.finalize().into())
    }

    /// The name given as 40 hex digits.
    ///
    /// # Errors
    /// [`Reason::Internal`] for other text.
    pub fn parse(text: &str) -> Result<Self> {
        let mut raw = [0; 20];
        hex::decode_to_slice(text, &mut raw).map_err(|err| {
            Error::new(Reason::Internal, "not a git object id")
                .found(text.to_owned())
                .caused_by(err)
        })?;
        Ok(Self(raw))
    }

    pub fn commit(self) -> Result<CommitId> {
        let id = self.to_string().parse();
        id.map_err(Error::internal("not a commit id"))
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
