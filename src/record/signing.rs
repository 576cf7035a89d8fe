//! Who must have signed what: `[[signer]]` and `[require]` of `admit.toml`.
//!
//! A signature carries no time that can be trusted, so a key's dates are held against the moment of the check: a
//! key that expired or was revoked counts for nothing, whatever its signatures say about when they were made.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, de};

use super::ids::{Name, Timestamp};
use super::sshkey::{Fingerprint, PublicKey};
use super::text::words;

/// A key in a policy: its line, or its fingerprint, and then the line is in the root's `admissions/keys/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyRef {
    Public(PublicKey),
    Fingerprint(Fingerprint),
}

impl KeyRef {
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            KeyRef::Public(key) => key.fingerprint(),
            KeyRef::Fingerprint(fingerprint) => fingerprint.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for KeyRef {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        match text.starts_with("SHA256:") {
            true => text.parse().map(KeyRef::Fingerprint).map_err(de::Error::custom),
            false => text.parse().map(KeyRef::Public).map_err(de::Error::custom),
        }
    }
}

/// One `[[signer]]`: a key that a rule may name.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// The name by which rules call it.
    pub name: Name,
    /// An Ed25519 key as OpenSSH writes it, or `SHA256:` and its fingerprint.
    #[schemars(with = "String")]
    pub key: KeyRef,
    /// The moment from which it counts.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// The moment from which it no longer counts.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// Why it was revoked. A revoked key counts for nothing.
    #[serde(default)]
    pub revoked: Option<String>,
}

/// Why a key does not count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Barred {
    Revoked(String),
    Expired(Timestamp),
    /// It counts from this moment only.
    NotYet(Timestamp),
}

impl Signer {
    /// Why the key does not count at the moment `now`; `None` where it does.
    pub fn barred(&self, now: &Timestamp) -> Option<Barred> {
        if let Some(why) = &self.revoked {
            return Some(Barred::Revoked(why.clone()));
        }
        if let Some(end) = self.expires.as_ref().filter(|end| end.unix() <= now.unix()) {
            return Some(Barred::Expired(end.clone()));
        }
        let start = self.not_before.as_ref().filter(|start| start.unix() > now.unix());
        start.map(|start| Barred::NotYet(start.clone()))
    }
}

words! {
    pub enum StatementKind {
        Build = "build",
        /// That a build was made again with the same outcome.
        Rebuild = "rebuild",
        Model = "model",
        Run = "run",
    }
}

/// One rule: who must have signed.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub signers: Vec<Name>,
    /// How many different ones of them must have signed. All of them where it is left out.
    #[serde(default)]
    pub signatures: Option<usize>,
}

impl Rule {
    /// How many different signers must have signed.
    pub fn need(&self) -> usize {
        self.signatures.unwrap_or(self.signers.len())
    }
}

/// `[require]`: a rule for each kind. No rule: no signature is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Require {
    /// A recorded build.
    #[serde(default)]
    pub build: Option<Rule>,
    /// That a recorded build was made again with the same outcome.
    #[serde(default)]
    pub rebuild: Option<Rule>,
    /// A model's admission.
    #[serde(default)]
    pub model: Option<Rule>,
    /// A run's evidence.
    #[serde(default)]
    pub run: Option<Rule>,
}

impl Require {
    pub fn of(&self, kind: StatementKind) -> Option<&Rule> {
        match kind {
            StatementKind::Build => self.build.as_ref(),
            StatementKind::Rebuild => self.rebuild.as_ref(),
            StatementKind::Model => self.model.as_ref(),
            StatementKind::Run => self.run.as_ref(),
        }
    }
}

/// What is wrong with a policy as a whole: a name or key twice, a rule that names no signer or cannot be met.
pub fn check(signers: &[Signer], require: &Require) -> Result<(), String> {
    let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for signer in signers {
        if !names.insert(&signer.name) {
            return Err(format!("two signers are called \"{}\"", signer.name));
        }
        if !keys.insert(signer.key.fingerprint()) {
            return Err(format!("the key of signer \"{}\" belongs to another, too", signer.name));
        }
        if signer.revoked.as_ref().is_some_and(|why| why.trim().is_empty()) {
            return Err(format!("\"revoked\" of signer \"{}\" does not say why", signer.name));
        }
    }
    for kind in StatementKind::ALL {
        let Some(rule) = require.of(kind) else { continue };
        check_rule(&format!("require.{}", kind.as_str()), rule, signers)?;
    }
    Ok(())
}

/// What is wrong with a rule, which stands at `place`: it names no signer, one twice or an unknown one, or cannot be met.
pub fn check_rule(place: &str, rule: &Rule, signers: &[Signer]) -> Result<(), String> {
    let distinct: BTreeSet<_> = rule.signers.iter().collect();
    if rule.signers.is_empty() || distinct.len() != rule.signers.len() {
        return Err(format!("{place} names no signer, or one twice"));
    }
    let unknown = |name: &&Name| !signers.iter().any(|signer| signer.name == **name);
    if let Some(unknown) = rule.signers.iter().find(unknown) {
        return Err(format!("{place} names \"{unknown}\", and there is no such signer"));
    }
    if !(1..=rule.signers.len()).contains(&rule.need()) {
        return Err(format!(
            "{place} asks for {} signatures of {} signers",
            rule.need(),
            rule.signers.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        signer: Vec<Signer>,
        #[serde(default)]
        require: Require,
    }

    fn read(text: &str) -> Result<File, String> {
        let print = |n: u8| {
            let key = ed25519_dalek::SigningKey::from_bytes(&[n; 32]);
            PublicKey::from_bytes(key.verifying_key().as_bytes()).unwrap()
        };
        let text = text
            .replace("@A", &print(1).line("a"))
            .replace("@B", print(2).fingerprint().as_str())
            .replace("@C", &print(3).to_string());
        let file: File = toml::from_str(&text).map_err(|err| err.to_string())?;
        check(&file.signer, &file.require)?;
        Ok(file)
    }

    const TWO: &str = "[[signer]]\nname = 'a'\nkey = '@A'\n[[signer]]\nname = 'b'\nkey = '@B'\n";

    #[test]
    fn a_policy_names_signers_and_asks_for_all_of_them_by_default() {
        let file = read(&format!("{TWO}[require]\nbuild = {{ signers = ['a', 'b'] }}\n")).unwrap();
        assert_eq!(file.require.of(StatementKind::Build).unwrap().need(), 2);
        assert!(file.require.of(StatementKind::Run).is_none());
        assert!(matches!(file.signer[1].key, KeyRef::Fingerprint(_)));
    }

    #[test]
    fn a_policy_that_cannot_be_meant_is_refused() {
        for (more, what) in [
            ("[require]\nbuild = { signers = [] }", "no signer, or"),
            ("[require]\nbuild = { signers = ['a', 'a'] }", "twice"),
            ("[require]\nbuild = { signers = ['c'] }", "no such signer"),
            ("[require]\nrun = { signers = ['a'], signatures = 0 }", "0 signatures"),
            ("[require]\nrun = { signers = ['a'], signatures = 2 }", "2 signatures"),
            ("[require]\nruns = { signers = ['a'] }", "unknown field"),
            ("[require]\nrun = { signers = ['a'], threshold = 1 }", "unknown field"),
            ("[[signer]]\nname = 'a'\nkey = 'SHA256:x'", "fingerprint"),
            ("[[signer]]\nname = 'c'\nkey = '@B'", "belongs to another"),
            ("[[signer]]\nname = 'c'\nkey = 'ssh-rsa AAAA'", "public key"),
            ("[[signer]]\nname = 'c'\nkey = '@C'\nuntil = '2026-01-01'", "unknown field"),
        ] {
            let err = read(&format!("{TWO}{more}\n")).err().unwrap_or_default();
            assert!(err.contains(what), "{more}: {err}");
        }
        let err = read(&TWO.replace("'b'", "'a'")).err().unwrap();
        assert!(err.contains("two signers"), "{err}");
        let err = read(&TWO.replace("name = 'b'", "name = 'b'\nrevoked = ' '")).err().unwrap();
        assert!(err.contains("does not say why"), "{err}");
    }

    #[test]
    fn dates_are_held_against_the_moment_of_the_check() {
        let file = read(
            "[[signer]]\nname = 'a'\nkey = '@A'\nnot_before = '2026-01-01'\nexpires = '2026-02-01'\n",
        )
        .unwrap();
        let at = |text: &str| file.signer[0].barred(&text.parse().unwrap());
        assert!(matches!(at("2025-12-31T23:59:59Z"), Some(Barred::NotYet(_))));
        assert_eq!(at("2026-01-01T00:00:00Z"), None);
        assert_eq!(at("2026-01-31T23:59:59Z"), None);
        assert!(matches!(at("2026-02-01T00:00:00Z"), Some(Barred::Expired(_))));
        let revoked = Signer { revoked: Some("lost".into()), ..file.signer[0].clone() };
        let now = "2026-01-15".parse().unwrap();
        assert_eq!(revoked.barred(&now), Some(Barred::Revoked("lost".into())));
    }
}
