//! Is a statement about a thing signed by those who must have signed it, and does it say what admit finds?
//!
//! A statement counts for a signer where its signature holds over payload and payload type, it is about this thing, and
//! it is word for word the statement that admit makes of the thing now. Different signers may have signed different
//! envelopes. What does not count is reported only where too few signatures do: a bundle may hold statements of others.

use std::collections::{BTreeMap, BTreeSet};

use super::bundle_path;
use super::compare::fits;
use super::keys::Named;
use crate::error::{Error, Reason, Result};
use crate::record::dsse::{self, Envelope, IN_TOTO};
use crate::record::ids::{Digest, Name, Timestamp};
use crate::record::signing::{Barred, KeyRef, Kind, Signer};
use crate::record::sshkey::{Fingerprint, PublicKey};
use crate::record::statement::Statement;
use crate::root::Root;

/// Where a root keeps the lines of keys that its policy names by fingerprint.
const KEYS: &str = "admissions/keys/";

/// A signer with its key.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// Name, dates, revocation.
    pub signer: Signer,
    pub key: PublicKey,
}

/// Who must have signed.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Those whose signatures count.
    pub trusted: Vec<Trusted>,
    /// How many different ones are needed.
    pub need: usize,
    /// Who asks for it, for messages.
    pub asked_by: String,
}

/// A statement as admit makes it now, and the places (JSON pointers) in which a signed one may differ.
#[derive(Clone, Debug)]
pub struct Expected {
    pub statement: Statement,
    /// What depends on the moment and the program that made it.
    pub free: &'static [&'static str],
    /// Digest of the list of packages that a signed one may spell out.
    pub listed: Option<Digest>,
}

impl From<Statement> for Expected {
    fn from(statement: Statement) -> Self {
        Self { statement, free: &[], listed: None }
    }
}

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

/// Why the signatures do not do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The reason, and by it the exit code.
    pub reason: Reason,
    /// What should be there.
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
                "have it signed: admit attest … --key NAME --record"
            }
            Reason::KeyExpired | Reason::KeyRevoked | Reason::KeyNotYetValid => {
                "have it signed with a key that counts now: admit attest … --key NAME --record"
            }
            Reason::SignerUnknown => {
                "have it signed by a named signer, or add the key to the policy and trust the root again"
            }
            Reason::KeyUnusable => "put the key's line into admissions/keys/ or into admit.toml",
            _ => {
                "take the bundle from where it was made, or sign again: admit attest … --key NAME --record"
            }
        };
        Self { reason, expected: expected.into(), found: found.into(), fix: fix.into() }
    }

    /// As an error, where nothing else is answered.
    pub fn error(&self, what: &str, place: &str) -> Error {
        Error::new(self.reason, what)
            .at(place)
            .expected(&self.expected)
            .found(&self.found)
            .hint(&self.fix)
    }
}

impl Demand {
    /// What the root's policy asks for; `None` where it asks for nothing.
    ///
    /// # Errors
    /// [`Reason::KeyUnusable`] where the line of a key is nowhere in the root.
    pub fn of_root(root: &Root, kind: Kind) -> Result<Option<Self>> {
        let config = root.config();
        let Some(rule) = config.require.of(kind) else { return Ok(None) };
        let mut trusted = Vec::new();
        for signer in config.signer.iter().filter(|signer| rule.signers.contains(&signer.name)) {
            let key = match &signer.key {
                KeyRef::Public(key) => key.clone(),
                KeyRef::Fingerprint(print) => line_of(root, print)?,
            };
            trusted.push(Trusted { signer: signer.clone(), key });
        }
        let asked_by = format!("require.{} of {}", kind.as_str(), root.label());
        Ok(Some(Self { trusted, need: rule.need(), asked_by }))
    }

    /// One signature by any of these keys, where no policy says otherwise.
    pub fn of_keys(keys: Vec<Named>) -> Self {
        let trusted = keys
            .into_iter()
            .map(|named| Trusted {
                signer: Signer {
                    name: named.name,
                    key: KeyRef::Public(named.key.clone()),
                    not_before: None,
                    expires: None,
                    revoked: None,
                },
                key: named.key,
            })
            .collect();
        Self { trusted, need: 1, asked_by: "this user's keys".into() }
    }

    /// What is asked for, for messages.
    pub fn words(&self) -> String {
        let names: Vec<&str> = self.trusted.iter().map(|t| t.signer.name.as_str()).collect();
        let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        format!("{} of: {names} ({})", self.need, self.asked_by)
    }
}

/// The line of a key that the policy names by its fingerprint.
fn line_of(root: &Root, print: &Fingerprint) -> Result<PublicKey> {
    let lines = root.below(KEYS).filter_map(|(_, bytes)| std::str::from_utf8(bytes).ok());
    let mut keys = lines.filter_map(|line| line.parse::<PublicKey>().ok());
    keys.find(|key| key.fingerprint() == *print).ok_or_else(|| {
        Error::new(Reason::KeyUnusable, "the policy names a key whose line is not in the root")
            .at(root.place(KEYS))
            .expected(print.to_string())
            .found("no file with that key")
            .hint("put the key's .pub file there, or its line into admit.toml, and trust the root again")
    })
}

/// What the root's policy says about a thing, by the bundle that the root holds for it; `None` where the policy asks
/// for nothing.
pub fn demanded(root: &Root, kind: Kind, expected: &Expected, now: &Timestamp) -> Outcome {
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
        // What nobody signed whose word counts says nothing, whatever it says.
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
            match trusted.signer.barred(now) {
                None => {
                    self.by.insert(name.clone(), trusted.key.fingerprint());
                }
                Some(Barred::Revoked(why)) => self.issue(
                    Reason::KeyRevoked,
                    "a key that counts",
                    format!("signed by {name}, revoked: {why}"),
                ),
                Some(Barred::Expired(end)) => self.issue(
                    Reason::KeyExpired,
                    format!("a key that counts at {now}"),
                    format!("signed by {name}, expired at {end}"),
                ),
                Some(Barred::NotYet(start)) => self.issue(
                    Reason::KeyNotYetValid,
                    format!("a key that counts at {now}"),
                    format!("signed by {name}, which counts from {start}"),
                ),
            }
        }
    }

    /// Those whose signature holds, each once. The `keyid` is a hint that nobody signed: it decides only whether a
    /// signature that does not hold is an altered one or a stranger's.
    fn signers<'d>(&mut self, envelope: &Envelope, demand: &'d Demand) -> Vec<&'d Trusted> {
        let bytes = envelope.signed_bytes();
        let mut out: Vec<&Trusted> = Vec::new();
        for signature in &envelope.signatures {
            let holds = demand.trusted.iter().find(|t| t.key.verifies(&bytes, &signature.sig));
            let named = demand.trusted.iter().find(|t| {
                signature.keyid == t.key.fingerprint().as_str()
                    || signature.keyid == t.key.in_toto_keyid()
            });
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
