//! Locks written into the root that holds, whatever they are made from.

use std::path::PathBuf;

use super::{Ask, Made, lock, outputs};
use crate::build::{self, WantedPackage};
use crate::context::Context;
use crate::error::Result;
use crate::host;
use crate::lock::{self as locks, Change, Spec};
use crate::record;
use crate::record::ids::Name;
use crate::record::lockfile::Lockfile;

#[derive(Debug)]
pub enum Basis {
    /// What its last build here resolved.
    Build,
    /// A published package with the program in it.
    Package(Box<WantedPackage>),
    Source(Box<Ask>),
}

#[derive(Debug)]
pub struct Written {
    pub made: Made,
    pub place: PathBuf,
    pub new: bool,
}

impl Written {
    /// What differs from the lock that was there. All of a new one is new.
    pub fn changed(&self) -> &[Change] {
        if self.new { &[] } else { &self.made.changes }
    }
}

/// Makes the lock of `provider` and writes it where it changes.
pub fn write(context: &Context, provider: &Name, basis: Basis) -> Result<Written> {
    host::enough_tasks()?;
    let root = context.root()?;
    let made = match basis {
        Basis::Build => {
            let locked = locks::resolve(&root, &Spec { provider: provider.clone(), rev: None })?;
            let (lock, changes) = build::resolved(context, &locked)?;
            Made { lock, changes, proposed: Vec::new() }
        }
        Basis::Package(wanted) => {
            let (lock, notes) = build::propose(context, provider, &wanted)?;
            notes.iter().for_each(|note| context.progress.note(note));
            let old = root.record(&Lockfile::path_of(provider))?;
            let changes = locks::compare(old.as_ref(), &lock);
            Made { lock, changes, proposed: Vec::new() }
        }
        Basis::Source(ask) => lock(context, provider, *ask)?,
    };
    put(context, made)
}

/// A lock for every program that the source compiles. None is written before all are whole.
pub fn write_each(context: &Context, provider: &Name, ask: &Ask) -> Result<Vec<Written>> {
    host::enough_tasks()?;
    let each = outputs(context, provider, ask)?.into_iter();
    let all: Result<Vec<Made>> = each.map(|(name, ask)| lock(context, &name, ask)).collect();
    all?.into_iter().map(|made| put(context, made)).collect()
}

fn put(context: &Context, made: Made) -> Result<Written> {
    let (root, path) = (context.root()?, Lockfile::path_of(&made.lock.provider));
    let place = match made.changes.is_empty() {
        true => root.place(&path).into(),
        false => context.put(&path, &record::pretty(&made.lock))?,
    };
    Ok(Written { made, place, new: root.get(&path).is_none() })
}
