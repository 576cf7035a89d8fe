//! `[cache]`: a build that somebody else made is taken where the root says from where and whose word counts, and made here
//! where it is not.
//!
//! A cache saves time and decides nothing. What comes from one passes every check of a pull; what does not is named, with its
//! reason, and the build is made here as if there were no cache: an answer of one's own is worth more than what another says,
//! and a cache that is broken or lies must not be able to keep anybody from building.

use std::time::Duration;

use serde::Serialize;

use super::pull::{self, PulledBuild};
use crate::attest::Demand;
use crate::build::{self, Build, Options, Stored};
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::lock::Locked;
use crate::record::reference::Reference;
use crate::record::signing::StatementKind;

/// Longest time that one cache may take: what is built takes a minute or two.
const WITHIN: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Pulled,
    Absent,
    /// It could not be asked, or did not answer whole and in time.
    Away,
    /// What it has there does not count, or is not what it should be.
    Refused,
}

#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    pub from: String,
    pub outcome: Outcome,
    pub error: Option<serde_json::Value>,
    #[serde(skip)]
    pub words: String,
}

#[derive(Debug)]
pub struct Obtained {
    pub build: Build,
    /// In the order they were asked; none where the build was in the store.
    pub cache: Vec<Tried>,
}

/// Finds the build in the store, else takes it from a cache of the root, else makes it.
///
/// # Errors
/// Those of [`build::make`], and of this machine's own files; no fault of a cache is one.
pub fn obtain(context: &Context, locked: &Locked, options: &Options) -> Result<Obtained> {
    let mut tried = Vec::new();
    let made = build::make_or(context, locked, options, &mut |stored| {
        through(context, locked, stored, &mut tried)
    })?;
    Ok(Obtained { build: made.required()?, cache: tried })
}

fn through(
    context: &Context,
    locked: &Locked,
    stored: &Stored<'_>,
    tried: &mut Vec<Tried>,
) -> Result<bool> {
    let root = context.root()?;
    let from = &root.config().cache.from;
    // What no lock names cannot be asked for.
    if from.is_empty() || locked.output().is_none() {
        return Ok(false);
    }
    let mut demands: Vec<Demand> =
        Demand::of_root(&root, StatementKind::Build)?.into_iter().collect();
    demands.extend(Demand::of_cache(&root)?);
    for reference in from {
        let (outcome, error) = match take(context, locked, stored, reference, &demands) {
            Ok(_) => (Outcome::Pulled, None),
            Err(err) => match outcome(&err) {
                Some(outcome) => (outcome, Some(err)),
                None => return Err(err),
            },
        };
        let words =
            error.as_ref().map_or(String::new(), |err| format!("{}: {}", err.reason(), err.what()));
        let from = reference.to_string();
        if outcome == Outcome::Refused {
            context.progress.note(&format!("the cache {from} is not believed: {words}"));
        } else if outcome != Outcome::Pulled {
            context.progress.note(&format!("the cache {from} did not help: {words}"));
        }
        tried.push(Tried { from, outcome, error: error.map(|err| err.to_json()), words });
        if outcome == Outcome::Pulled {
            return Ok(true);
        }
    }
    Ok(false)
}

fn take(
    context: &Context,
    locked: &Locked,
    stored: &Stored<'_>,
    reference: &Reference,
    demands: &[Demand],
) -> Result<PulledBuild> {
    // Such a configuration is refused when it is read; without a demand, any signature would do.
    if demands.is_empty() {
        return Err(Error::new(Reason::SignerUnknown, "nothing says whose builds count here"));
    }
    let repository = context.cache(reference, WITHIN)?;
    pull::take(context, &repository, locked, stored, demands)
}

/// What an error says of a cache; `None` where it is a fault of this machine.
fn outcome(err: &Error) -> Option<Outcome> {
    match err.reason() {
        Reason::NotInRegistry => Some(Outcome::Absent),
        Reason::Unreachable
        | Reason::HttpStatus
        | Reason::RedirectRefused
        | Reason::Truncated
        | Reason::TimedOut
        | Reason::RegistryDenied => Some(Outcome::Away),
        Reason::DigestMismatch
        | Reason::BadManifest
        | Reason::LimitHit
        | Reason::AttestedDiffers
        | Reason::AttestedOther
        | Reason::AttestationLost
        | Reason::BadEnvelope
        | Reason::SignatureInvalid
        | Reason::SignatureMissing
        | Reason::SignaturesTooFew
        | Reason::SignerUnknown
        | Reason::KeyExpired
        | Reason::KeyNotYetValid
        | Reason::KeyRevoked => Some(Outcome::Refused),
        _ => None,
    }
}
