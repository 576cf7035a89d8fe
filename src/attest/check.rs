//! Is a statement about a thing signed by those who must have signed it, and does it say what admit finds?
//!
//! A statement counts for a signer where its signature holds over payload and payload type, it is about this thing, and
//! it is word for word the statement that admit makes of the thing now. Different signers may have signed different
//! envelopes. What does not count is reported only where too few signatures do: a bundle may hold statements of others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::demand::{Demand, Trusted};
use super::expected::Expected;
use super::provenance::without_packages;
use crate::error::Reason;
use crate::record;
use crate::record::dsse::{self, Envelope, IN_TOTO};
use crate::record::ids::{Digest, Name, Timestamp};
use crate::record::signing::{Barred, StatementKind};
use crate::record::sshkey::Fingerprint;
use crate::record::statement::Statement;
use crate::root::Root;

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
pub type Signed = Option<Result<Held, Refused>>;

/// Two demands as one: a refusal of either refuses, and what holds is signed by the signers of both.
pub fn both(one: Signed, other: Signed) -> Signed {
    match (one, other) {
        (None, outcome) | (outcome, None) => outcome,
        (Some(Err(refused)), _) | (_, Some(Err(refused))) => Some(Err(refused)),
        (Some(Ok(mut held)), Some(Ok(more))) => {
            held.by.extend(more.by);
            Some(Ok(held))
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub reason: Reason,
    pub expected: String,
    pub found: String,
    pub fix: String,
}

impl Refused {
    fn new(reason: Reason, expected: impl Into<String>, found: impl Into<String>) -> Self {
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

/// Where a root keeps the bundle about the thing with this digest.
pub fn bundle_path(subject: &Digest) -> String {
    format!("admissions/attestations/{}.intoto.jsonl", subject.to_hex())
}

/// What the root's policy says about a thing, by the bundle that the root holds for it; `None` where the policy asks
/// for nothing.
pub fn demanded(root: &Root, kind: StatementKind, expected: &Expected, now: &Timestamp) -> Signed {
    let demand = match Demand::of_root(root, kind) {
        Ok(None) => return None,
        Ok(Some(demand)) => demand,
        Err(err) => {
            let value = |v: Option<&str>| v.unwrap_or_default().to_owned();
            let (want, found) = (value(err.expected_value()), value(err.found_value()));
            return Some(Err(Refused::new(err.reason(), want, found)));
        }
    };
    let bundle = expected.statement.sha256().and_then(|digest| root.get(&bundle_path(&digest)));
    Some(check(bundle, std::slice::from_ref(expected), &demand, now))
}

/// Checks a bundle: whether enough trusted keys signed one of the `expected` statements.
pub fn check(
    bundle: Option<&[u8]>,
    expected: &[Expected],
    demand: &Demand,
    now: &Timestamp,
) -> Result<Held, Refused> {
    let want = demand.words();
    let Some(bundle) = bundle else {
        return Err(Refused::new(Reason::SignatureMissing, want, "no bundle"));
    };
    let envelopes = dsse::parse_bundle(bundle).map_err(|err| {
        Refused::new(Reason::BadEnvelope, "one signed envelope a line", err.to_string())
    })?;
    let mut found = Findings::default();
    for envelope in &envelopes {
        found.envelope(envelope, expected, demand, now);
    }
    if found.by.len() >= demand.need {
        return Ok(Held { by: found.by });
    }
    Err(found.refused(want, demand.need))
}

#[derive(Default)]
struct Findings {
    by: BTreeMap<Name, Fingerprint>,
    issues: Vec<Refused>,
    unknown: BTreeSet<String>,
}

impl Findings {
    fn issue(&mut self, reason: Reason, expected: impl Into<String>, found: impl Into<String>) {
        self.issues.push(Refused::new(reason, expected, found));
    }

    fn envelope(
        &mut self,
        envelope: &Envelope,
        expected: &[Expected],
        demand: &Demand,
        now: &Timestamp,
    ) {
        let signers = self.signers(envelope, demand);
        // Without a trusted signature its content does not matter.
        if signers.is_empty() {
            return;
        }
        let faults = self.issues.len();
        if envelope.payload_type != IN_TOTO {
            self.issue(Reason::BadEnvelope, IN_TOTO, &envelope.payload_type);
        } else {
            match Statement::parse(&envelope.payload) {
                Err(err) => self.issue(Reason::BadEnvelope, "a statement", err.to_string()),
                Ok(statement) => match fits(&statement, expected) {
                    None => return,
                    Some(Ok(())) => {}
                    Some(Err(refused)) => self.issues.push(refused),
                },
            }
        }
        if self.issues.len() > faults {
            return;
        }
        for trusted in signers {
            let name = &trusted.signer.name;
            let at = format!(" at {now}");
            let (reason, at, why) = match trusted.signer.barred(now) {
                None => {
                    self.by.insert(name.clone(), trusted.key.fingerprint());
                    continue;
                }
                Some(Barred::Revoked(why)) => (Reason::KeyRevoked, "", format!("revoked: {why}")),
                Some(Barred::Expired(end)) => {
                    (Reason::KeyExpired, &*at, format!("expired at {end}"))
                }
                Some(Barred::NotYet(start)) => {
                    (Reason::KeyNotYetValid, &*at, format!("which counts from {start}"))
                }
            };
            let expected = format!("a key that counts{at}");
            self.issue(reason, expected, format!("signed by {name}, {why}"));
        }
    }

    /// Those whose signature holds, each once. The `keyid` is a hint that is not signed: it decides only whether a
    /// signature that does not hold is an altered one or an unknown key's.
    fn signers<'d>(&mut self, envelope: &Envelope, demand: &'d Demand) -> Vec<&'d Trusted> {
        let bytes = envelope.signed_bytes();
        let mut out: Vec<&Trusted> = Vec::new();
        for signature in &envelope.signatures {
            let holds = demand.trusted.iter().find(|t| t.key.verifies(&bytes, &signature.sig));
            let named = demand.trusted.iter().find(|t| t.is_named(&signature.keyid));
            match (holds, named) {
                (Some(trusted), _) => {
                    if !out.iter().any(|known| known.key == trusted.key) {
                        out.push(trusted);
                    }
                }
                (None, Some(trusted)) => self.issue(
                    Reason::SignatureInvalid,
                    format!("the signature of {} over this payload", trusted.signer.name),
                    "a signature over something else",
                ),
                (None, None) => {
                    self.unknown.insert(match signature.keyid.as_str() {
                        "" => "a key without a name".to_owned(),
                        keyid => keyid.chars().take(80).collect(),
                    });
                }
            }
        }
        out
    }

    /// The gravest of what stands in the way: altered before barred before too few before none.
    fn refused(mut self, want: String, need: usize) -> Refused {
        const GRAVE: [Reason; 7] = [
            Reason::SignatureInvalid,
            Reason::BadEnvelope,
            Reason::AttestedOther,
            Reason::AttestedDiffers,
            Reason::KeyRevoked,
            Reason::KeyExpired,
            Reason::KeyNotYetValid,
        ];
        for reason in GRAVE {
            if let Some(at) = self.issues.iter().position(|issue| issue.reason == reason) {
                return self.issues.swap_remove(at);
            }
        }
        if !self.by.is_empty() {
            let names: Vec<&str> = self.by.keys().map(Name::as_str).collect();
            let found = format!("{} of {need}: {}", names.len(), names.join(", "));
            return Refused::new(Reason::SignaturesTooFew, want, found);
        }
        if !self.unknown.is_empty() {
            let keys: Vec<String> = self.unknown.into_iter().collect();
            let found = format!("signed by {}", keys.join(", "));
            return Refused::new(Reason::SignerUnknown, want, found);
        }
        Refused::new(Reason::SignatureMissing, want, "no statement of this kind about it")
    }
}

/// Whether a statement is one of the expected; `None` where it is of another kind.
fn fits(statement: &Statement, expected: &[Expected]) -> Option<Result<(), Refused>> {
    let mut of_kind =
        expected.iter().filter(|e| e.statement.predicate_type == statement.predicate_type);
    let want = of_kind.next()?;
    let about = |s: &Statement| {
        let digests: Vec<_> =
            s.subject.iter().flat_map(|s| &s.digest).map(|(a, d)| format!("{a}:{d}")).collect();
        digests.join(", ")
    };
    let same = statement
        .subject
        .iter()
        .any(|s| want.statement.subject.iter().any(|ours| s.digest == ours.digest));
    if !same {
        let (want, found) = (about(&want.statement), about(statement));
        return Some(Err(Refused::new(Reason::AttestedOther, want, found)));
    }
    let short = want.listed.as_ref().map(|listed| without_packages(statement, listed));
    let statement = short.as_ref().unwrap_or(statement);
    let (ours, theirs) = (record::to_value(&want.statement), record::to_value(statement));
    let differs = first_difference("", &ours, &theirs, want.free);
    Some(differs.map_or(Ok(()), |(place, ours, theirs)| {
        let (want, found) = (format!("{place}: {ours}"), format!("{place}: {theirs}"));
        Err(Refused::new(Reason::AttestedDiffers, want, found))
    }))
}

/// The first place in which two values differ, with both, each cut to a line.
fn first_difference(
    at: &str,
    ours: &Value,
    theirs: &Value,
    free: &[&str],
) -> Option<(String, String, String)> {
    if ours == theirs || free.contains(&at) {
        return None;
    }
    let below = |key: String, ours: Option<&Value>, theirs: Option<&Value>| {
        let place = format!("{at}/{key}");
        let null = Value::Null;
        match (ours, theirs) {
            (Some(a), Some(b)) => first_difference(&place, a, b, free),
            _ if free.contains(&place.as_str()) => None,
            (a, b) => Some((place, cut(a.unwrap_or(&null)), cut(b.unwrap_or(&null)))),
        }
    };
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| below(key.clone(), a.get(key), b.get(key)))
        }
        (Value::Array(a), Value::Array(b)) => {
            (0..a.len().max(b.len())).find_map(|i| below(i.to_string(), a.get(i), b.get(i)))
        }
        _ => Some((at.to_owned(), cut(ours), cut(theirs))),
    }
}

fn cut(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}
