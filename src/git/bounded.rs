//! Objects of a repository that nobody trusts to be small.

use git2::{ObjectType, Oid};

use super::object::{ObjectDir, Objects};
use crate::error::{Error, Reason, Result};

/// Another source of objects, of which only so many bytes are taken in all. For repositories that an agent made: one
/// blob of zeros is tiny on disk, and a tree may name it a million times.
pub struct Bounded<'a> {
    objects: &'a ObjectDir,
    left: std::cell::Cell<u64>,
}

impl<'a> Bounded<'a> {
    /// `bytes`: of all objects together, each time they are read.
    pub fn new(objects: &'a ObjectDir, bytes: u64) -> Self {
        Self { objects, left: bytes.into() }
    }
}

impl Objects for Bounded<'_> {
    fn read(&self, id: Oid, kind: ObjectType) -> Result<Vec<u8>> {
        let size = self.objects.size(id)?;
        let Some(left) = self.left.get().checked_sub(size) else {
            return Err(Error::new(Reason::LimitHit, "the objects are larger than allowed")
                .at(self.objects.place.clone()));
        };
        self.left.set(left);
        self.objects.read(id, kind)
    }
}
