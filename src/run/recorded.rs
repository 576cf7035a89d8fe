//! A fixture beside its record, and what is put into that: the digest that the gates expect, and what attacks came to.

use std::path::PathBuf;

use super::attack::Attacked;
use super::fixture::{self, Fixture};
use crate::context::Context;
use crate::error::{Reason, Result};
use crate::record;
use crate::record::fixture::{AttackResult, FixtureLock};
use crate::record::ids::{Digest, Name};

#[derive(Debug)]
pub struct Shown {
    pub fixture: Fixture,
    pub recorded: Option<Digest>,
    /// Where the record stands.
    pub place: Option<String>,
    pub attacked: Option<AttackResult>,
}

impl Shown {
    pub fn same(&self) -> bool {
        self.recorded.as_ref() == Some(&self.fixture.digest)
    }

    /// Whether it is not the one that was attacked; `None` where none was.
    pub fn stale(&self) -> Option<bool> {
        self.attacked.as_ref().map(|result| result.digest != self.fixture.digest)
    }

    pub fn exit_code(&self) -> u8 {
        let reason = match self.recorded {
            Some(_) => Reason::DigestMismatch,
            None => Reason::NotFound,
        };
        if self.same() { 0 } else { reason.kind().exit_code() }
    }
}

/// Reads the fixture `name` and its record, after the digest of what is there now was recorded where `record` says so.
pub fn show(context: &Context, name: &Name, record: bool) -> Result<Shown> {
    let (fixture, path) = (fixture::load(&*context.root()?, name)?, fixture::lock_path(name));
    if record {
        let before = fixture::recorded(&*context.root()?, name)?.and_then(|lock| lock.attacked);
        context.put(&path, &record::pretty(&fixture.lock(before)))?;
    }
    let root = context.root()?;
    let (recorded, attacked) = match fixture::recorded(&root, name)? {
        Some(lock) => (Some(lock.digest), lock.attacked),
        None => (None, None),
    };
    let place = recorded.as_ref().map(|_| root.place(&path));
    Ok(Shown { fixture, recorded, place, attacked })
}

/// Puts what attacks came to into the fixture's record, and its digest where nothing was accepted: where that was written.
pub fn keep(context: &Context, name: &Name, attacked: &Attacked) -> Result<Option<PathBuf>> {
    let root = context.root()?;
    let fixture = fixture::load(&root, name)?;
    let result = Some(attacked.result());
    let lock = match fixture::recorded(&root, name)? {
        _ if attacked.held() && fixture.digest == attacked.digest => fixture.lock(result),
        Some(old) => FixtureLock { attacked: result, ..old },
        None => return Ok(None),
    };
    context.put(&fixture::lock_path(name), &record::pretty(&lock)).map(Some)
}
