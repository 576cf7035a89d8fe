//! Who must have signed: what the policy of a root asks for, or the keys that a user names.

use super::keys::Named;
use crate::error::{Error, Reason, Result};
use crate::record::signing::{KeyRef, Kind, Signer};
use crate::record::sshkey::{Fingerprint, PublicKey};
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
        let names = if names.is_empty() { "no signer".to_owned() } else { names.join(", ") };
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
