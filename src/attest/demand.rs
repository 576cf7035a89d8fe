//! Who must have signed: what the policy of a root asks for, or the keys that a user names.

use super::keys::Named;
use crate::error::{Error, Reason, Result};
use crate::record::signing::{KeyRef, Rule, Signer, StatementKind};
use crate::record::sshkey::{Fingerprint, PublicKey};
use crate::root::Root;

/// Where a root keeps the lines of keys that its policy names by fingerprint.
const KEYS: &str = "admissions/keys/";

#[derive(Clone, Debug)]
pub struct Trusted {
    pub signer: Signer,
    pub key: PublicKey,
}

impl Trusted {
    /// Whether a signature says that it is this signer's: one that does not hold is then refused as an altered one.
    pub fn is_named(&self, keyid: &str) -> bool {
        keyid == self.key.fingerprint().as_str() || keyid == self.key.in_toto_keyid()
    }
}

#[derive(Clone, Debug)]
pub struct Demand {
    pub trusted: Vec<Trusted>,
    /// How many different ones are needed.
    pub need: usize,
    pub asked_by: String,
}

impl Demand {
    /// What the root's policy asks for; `None` where it asks for nothing.
    ///
    /// # Errors
    /// [`Reason::KeyUnusable`] where the line of a key is nowhere in the root.
    pub fn of_root(root: &Root, kind: StatementKind) -> Result<Option<Self>> {
        let Some(rule) = root.config().require.of(kind) else { return Ok(None) };
        Self::of_rule(root, rule, &format!("require.{}", kind.as_str())).map(Some)
    }

    /// What the root asks for of builds that come from its caches, beside its policy; `None` where it asks for nothing.
    pub fn of_cache(root: &Root) -> Result<Option<Self>> {
        let rule = root.config().cache.require.as_ref();
        rule.map(|rule| Self::of_rule(root, rule, "cache.require")).transpose()
    }

    fn of_rule(root: &Root, rule: &Rule, place: &str) -> Result<Self> {
        let mut trusted = Vec::new();
        let config = root.config();
        for signer in config.signer.iter().filter(|signer| rule.signers.contains(&signer.name)) {
            let key = match &signer.key {
                KeyRef::Public(key) => key.clone(),
                KeyRef::Fingerprint(print) => line_of(root, print)?,
            };
            trusted.push(Trusted { signer: signer.clone(), key });
        }
        let asked_by = format!("{place} of {}", root.label());
        Ok(Self { trusted, need: rule.need(), asked_by })
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

    /// The same, with the dates and revocations that the root has for any of the keys: what it takes back, no other list
    /// of keys gives again.
    pub fn within(mut self, root: &Root) -> Self {
        for trusted in &mut self.trusted {
            let print = trusted.key.fingerprint();
            let known = root.config().signer.iter().find(|one| one.key.fingerprint() == print);
            if let Some(known) = known {
                let name = trusted.signer.name.clone();
                trusted.signer = Signer { name, ..known.clone() };
            }
        }
        self
    }

    pub fn words(&self) -> String {
        let names: Vec<&str> = self.trusted.iter().map(|t| t.signer.name.as_str()).collect();
        let names = if names.is_empty() { "no signer".to_owned() } else { names.join(", ") };
        format!("{} of: {names} ({})", self.need, self.asked_by)
    }
}

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
