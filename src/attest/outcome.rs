//! The answer to a demand for signatures: whose hold, or why they do not do.

use std::collections::BTreeMap;

use crate::error::Reason;
use crate::record::ids::Name;
use crate::record::sshkey::Fingerprint;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Whose, each once.
    pub by: BTreeMap<Name, Fingerprint>,
}

impl Held {
    /// `release (SHA256:…), owner (SHA256:…)`.
    pub fn names(&self) -> String {
        let one = |(name, print): (&Name, &Fingerprint)| format!("{name} ({print})");
        self.by.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// What a policy says of a thing; `None` where it asks for no signature.
pub type Outcome = Option<Result<Held, Refused>>;

/// Two demands as one: a refusal of either refuses, and what holds is signed by the signers of both.
pub fn both(one: Outcome, other: Outcome) -> Outcome {
    match (one, other) {
        (None, outcome) | (outcome, None) => outcome,
        (Some(Err(refused)), _) | (_, Some(Err(refused))) => Some(Err(refused)),
        (Some(Ok(mut held)), Some(Ok(more))) => {
            held.by.extend(more.by);
            Some(Ok(held))
        }
    }
}

/// Why the signatures do not do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub reason: Reason,
    pub expected: String,
    pub found: String,
    pub fix: String,
}

impl Refused {
    pub(super) fn new(
        reason: Reason,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let fix = match reason {
            Reason::SignatureMissing | Reason::SignaturesTooFew => {
                "have it signed and the signature recorded: admit attest --help"
            }
            Reason::KeyExpired | Reason::KeyRevoked | Reason::KeyNotYetValid => {
                "have it signed with a key that counts now: admit attest --help"
            }
            Reason::SignerUnknown => {
                "have it signed by a named signer, or add the key to the policy and trust the root again"
            }
            Reason::KeyUnusable => "put the key's line into admissions/keys/ or into admit.toml",
            _ => "take the bundle from where it was made, or sign again: admit attest --help",
        };
        Self { reason, expected: expected.into(), found: found.into(), fix: fix.into() }
    }
}
