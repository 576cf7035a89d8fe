use std::collections::BTreeMap;

use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

use super::keys::Named;
use super::*;
use crate::error::Reason;
use crate::record::dsse::{Envelope, IN_TOTO, Signature};
use crate::record::ids::{Digest, Timestamp};
use crate::record::signing::Signer;
use crate::record::sshkey::PublicKey;
use crate::record::statement::Statement;

mod signers;
mod statements;

const NOW: &str = "2026-06-01T00:00:00Z";

fn signing(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn public(n: u8) -> PublicKey {
    PublicKey::from_bytes(signing(n).verifying_key().as_bytes()).unwrap()
}

fn trusted(n: u8) -> Trusted {
    let name = format!("signer-{n}").parse().unwrap();
    Demand::of_keys(vec![Named { name, key: public(n), own: false }]).trusted.remove(0)
}

fn demand(signers: impl IntoIterator<Item = Trusted>, need: usize) -> Demand {
    Demand { trusted: signers.into_iter().collect(), need, asked_by: "a policy".into() }
}

fn statement() -> Statement {
    Statement::about("a", &Digest::sha256(b"thing"), "urn:admit:test:1", json!({ "says": [1, 2] }))
}

fn sign(envelope: &mut Envelope, n: u8) {
    let sig = signing(n).sign(&envelope.signed_bytes()).to_bytes().to_vec();
    envelope.signatures.push(Signature { keyid: public(n).fingerprint().to_string(), sig });
}

fn signed(statement: &Statement, by: &[u8]) -> Envelope {
    let mut envelope = statement.envelope();
    by.iter().for_each(|n| sign(&mut envelope, *n));
    envelope
}

/// The answer for a bundle of these envelopes: names of signers, or the refusal.
fn ask(envelopes: &[Envelope], demand: &Demand) -> Result<Vec<String>, Refused> {
    let lines: Vec<String> = envelopes.iter().map(Envelope::line).collect();
    let held = held(Some(lines.join("\n").as_bytes()), statement(), demand)?;
    Ok(held.by.keys().map(ToString::to_string).collect())
}

fn held(
    bundle: Option<&[u8]>,
    expected: impl Into<Expected>,
    demand: &Demand,
) -> Result<Held, Refused> {
    check(bundle, &[expected.into()], demand, &NOW.parse().unwrap())
}

#[track_caller]
fn refused(envelopes: &[Envelope], demand: &Demand, reason: Reason, code: u8) -> Refused {
    let no = ask(envelopes, demand).unwrap_err();
    assert_eq!((no.reason, no.reason.kind().exit_code()), (reason, code), "{no:?}");
    assert!(!no.expected.is_empty() && !no.found.is_empty() && !no.fix.is_empty(), "{no:?}");
    no
}
