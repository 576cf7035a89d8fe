use std::collections::BTreeMap;

use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::check::{Demand, Expected, Refused, Trusted, check};
use super::*;
use crate::error::Reason;
use crate::record::dsse::{Envelope, IN_TOTO, Signature};
use crate::record::ids::{Algorithm, Sri, Timestamp};
use crate::record::lockfile::LockedPackage;
use crate::record::signing::{KeyRef, Signer};
use crate::record::sshkey::PublicKey;
use crate::record::statement::Statement;

const NOW: &str = "2026-06-01T00:00:00Z";

fn signing(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn public(n: u8) -> PublicKey {
    PublicKey::from_bytes(signing(n).verifying_key().as_bytes()).unwrap()
}

fn trusted(n: u8) -> Trusted {
    let signer = Signer {
        name: format!("signer-{n}").parse().unwrap(),
        key: KeyRef::Public(public(n)),
        not_before: None,
        expires: None,
        revoked: None,
    };
    Trusted { signer, key: public(n) }
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
    let now: Timestamp = NOW.parse().unwrap();
    let expected = [Expected::from(statement())];
    let held = check(Some(lines.join("\n").as_bytes()), &expected, demand, &now)?;
    Ok(held.by.keys().map(ToString::to_string).collect())
}

#[track_caller]
fn refused(envelopes: &[Envelope], demand: &Demand, reason: Reason, code: u8) -> Refused {
    let no = ask(envelopes, demand).unwrap_err();
    assert_eq!((no.reason, no.reason.kind().exit_code()), (reason, code), "{no:?}");
    assert!(!no.expected.is_empty() && !no.found.is_empty() && !no.fix.is_empty(), "{no:?}");
    no
}

#[test]
fn enough_signatures_by_different_keys_hold() {
    let one = demand([trusted(1), trusted(2)], 1);
    let two = demand([trusted(1), trusted(2)], 2);
    assert_eq!(ask(&[signed(&statement(), &[1])], &one).unwrap(), ["signer-1"]);
    assert_eq!(ask(&[signed(&statement(), &[2, 1])], &two).unwrap().len(), 2);
    // One envelope each is the same as one envelope with both; statements of others do not matter.
    let apart = [signed(&statement(), &[1]), signed(&statement(), &[2])];
    assert_eq!(ask(&apart, &two).unwrap().len(), 2);
    let other = Statement { predicate_type: "urn:x:other".into(), ..statement() };
    let strangers = [signed(&other, &[9]), signed(&other, &[1]), signed(&statement(), &[9, 1])];
    assert_eq!(ask(&strangers, &one).unwrap(), ["signer-1"]);
}

#[test]
fn the_hint_at_the_key_decides_nothing() {
    let one = demand([trusted(1)], 1);
    for keyid in ["", "SHA256:x", &public(1).in_toto_keyid(), public(9).fingerprint().as_str()] {
        let mut envelope = signed(&statement(), &[1]);
        envelope.signatures[0].keyid = keyid.into();
        assert_eq!(ask(&[envelope], &one).unwrap(), ["signer-1"], "{keyid}");
    }
    // A stranger's signature under a trusted key's name is an altered one.
    let mut envelope = signed(&statement(), &[9]);
    envelope.signatures[0].keyid = public(1).in_toto_keyid();
    refused(&[envelope], &one, Reason::SignatureInvalid, 5);
}

#[test]
fn one_key_counts_once() {
    let two = demand([trusted(1), trusted(2)], 2);
    let mut twice = signed(&statement(), &[1, 1]);
    twice.signatures[1].keyid = public(1).in_toto_keyid();
    let no = refused(&[twice.clone()], &two, Reason::SignaturesTooFew, 3);
    assert_eq!(no.found, "1 of 2: signer-1");
    let apart = [twice, signed(&statement(), &[1]), signed(&statement(), &[1, 9])];
    refused(&apart, &two, Reason::SignaturesTooFew, 3);
}

#[test]
fn what_nobody_signed_who_counts_is_refused() {
    let one = demand([trusted(1)], 1);
    refused(&[], &one, Reason::SignatureMissing, 3);
    let other = Statement { predicate_type: "urn:x:other".into(), ..statement() };
    refused(&[signed(&other, &[1])], &one, Reason::SignatureMissing, 3);
    let no = refused(&[signed(&statement(), &[9])], &one, Reason::SignerUnknown, 3);
    assert!(no.found.contains(public(9).fingerprint().as_str()), "{no:?}");
    let expected = [Expected::from(statement())];
    let now = NOW.parse().unwrap();
    let none = check(None, &expected, &one, &now).unwrap_err();
    assert_eq!(none.reason, Reason::SignatureMissing);
    let bad = check(Some(b"{}"), &expected, &one, &now).unwrap_err();
    assert_eq!(bad.reason, Reason::BadEnvelope);
    // Nobody trusted: nothing holds.
    refused(&[signed(&statement(), &[1])], &demand([], 1), Reason::SignerUnknown, 3);
}

#[test]
fn keys_that_do_not_count_now_are_refused() {
    let with = |change: &dyn Fn(&mut Signer)| {
        let mut one = trusted(1);
        change(&mut one.signer);
        demand([one, trusted(2)], 1)
    };
    let bundle = [signed(&statement(), &[1])];
    let time = |text: &str| Some(text.parse().unwrap());
    refused(&bundle, &with(&|s| s.expires = time(NOW)), Reason::KeyExpired, 3);
    refused(&bundle, &with(&|s| s.not_before = time("2026-06-02")), Reason::KeyNotYetValid, 3);
    let revoked = with(&|s| s.revoked = Some("lost".into()));
    assert!(refused(&bundle, &revoked, Reason::KeyRevoked, 3).found.contains("lost"));
    // Another key's signature makes up for it.
    assert_eq!(ask(&[signed(&statement(), &[1, 2])], &revoked).unwrap(), ["signer-2"]);
}

#[test]
fn what_says_something_else_is_refused_although_it_is_signed() {
    let one = demand([trusted(1)], 1);
    let mut other = statement();
    other.subject[0].digest.insert("sha256".into(), "0".repeat(64));
    refused(&[signed(&other, &[1])], &one, Reason::AttestedOther, 5);
    for predicate in [json!({ "says": [1] }), json!({ "says": [1, 2], "more": 1 }), Value::Null] {
        let other = Statement { predicate, ..statement() };
        refused(&[signed(&other, &[1])], &one, Reason::AttestedDiffers, 5);
    }
    // A second subject would let one signature speak of two things.
    let mut two = statement();
    two.subject.push(crate::record::statement::Subject {
        name: "b".into(),
        digest: BTreeMap::from([("sha256".into(), "1".repeat(64))]),
    });
    refused(&[signed(&two, &[1])], &one, Reason::AttestedDiffers, 5);
    let not_a_statement = |payload_type: &str, payload: &[u8]| {
        let mut envelope = Envelope::new(payload_type, payload.to_vec());
        sign(&mut envelope, 1);
        envelope
    };
    let payload = statement().envelope().payload;
    refused(&[not_a_statement("text/plain", &payload)], &one, Reason::BadEnvelope, 5);
    refused(&[not_a_statement(IN_TOTO, b"{}")], &one, Reason::BadEnvelope, 5);
    let twice = br#"{"_type":"https://in-toto.io/Statement/v1","_type":"x"}"#;
    refused(&[not_a_statement(IN_TOTO, twice)], &one, Reason::BadEnvelope, 5);
    // A good one beside it still holds.
    let beside = [signed(&other, &[1]), signed(&statement(), &[1])];
    assert_eq!(ask(&beside, &one).unwrap(), ["signer-1"]);
}

#[test]
fn places_that_may_differ_may_and_no_others() {
    let now: Timestamp = NOW.parse().unwrap();
    let free = Expected { free: &["/predicate/when"], ..Expected::from(statement()) };
    let with = |predicate: Value| {
        let line = signed(&Statement { predicate, ..statement() }, &[1]).line();
        let demand = demand([trusted(1)], 1);
        check(Some(line.as_bytes()), std::slice::from_ref(&free), &demand, &now)
    };
    assert!(with(json!({ "says": [1, 2], "when": 3 })).is_ok());
    assert!(with(json!({ "says": [1, 2] })).is_ok());
    let no = with(json!({ "says": [1, 3], "when": 3 })).unwrap_err();
    assert_eq!(
        (no.expected.as_str(), no.found.as_str()),
        ("/predicate/says/1: 2", "/predicate/says/1: 3")
    );
}

proptest! {
    /// Every byte of what is signed, and of the signature, counts.
    #[test]
    fn a_flipped_byte_is_refused(part in 0..3_usize, at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let one = demand([trusted(1)], 1);
        let mut envelope = signed(&statement(), &[1]);
        let flip = |bytes: &mut [u8]| {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        };
        match part {
            0 => flip(&mut envelope.payload),
            1 => flip(&mut envelope.signatures[0].sig),
            _ => {
                let mut bytes = envelope.payload_type.clone().into_bytes();
                flip(&mut bytes);
                // Flipped to no UTF-8, it is no JSON text and so no envelope.
                let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
                envelope.payload_type = text;
            }
        }
        let no = ask(&[envelope], &one).unwrap_err();
        prop_assert_eq!(no.reason, Reason::SignatureInvalid);
    }

    /// Any byte of a bundle may be changed to any other: it is refused, or nothing that is signed was changed.
    #[test]
    fn a_changed_byte_of_a_bundle_never_changes_what_is_accepted(
        at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let envelope = signed(&statement(), &[1]);
        let mut line = envelope.line().into_bytes();
        let at = at.index(line.len());
        line[at] = byte;
        let now: Timestamp = NOW.parse().unwrap();
        let expected = [Expected::from(statement())];
        if check(Some(&line), &expected, &demand([trusted(1)], 1), &now).is_ok() {
            let read = Envelope::parse(&line).unwrap();
            prop_assert_eq!(read.signed_bytes(), envelope.signed_bytes());
            prop_assert_eq!(&read.signatures[0].sig, &envelope.signatures[0].sig);
        }
    }
}

/// A report of a build, as far as statements are made from it.
fn report(origin: &str) -> BuildReport {
    let hex = |c: &str| c.repeat(64);
    crate::record::parse(
        json!({
            "schema": "admit.build-report/1", "provider": "case", "platform": "linux-x64", "origin": origin,
            "source_url": "https://example.com/case.git",
            "pinned_commit": "7959ac917cdeb0983b4aaa20bb9f42021747fed8",
            "source_tree": "4b825dc642cb6eb9a060e54bf8d69288fbee4904", "nar_hash": null,
            "plan_digest": format!("sha256:{}", hex("1")), "lock_digest": format!("sha256:{}", hex("2")),
            "build_command": [["bun", "run", "build:binary"]], "build_path": "/tmp/workos-case",
            "output": "dist/ca", "sha256": hex("3"), "blake3": hex("4"), "size": 5,
            "bun_version": "1.3.14", "bun_sha256": hex("6"),
            "runtime": { "proven": true, "modules": 1, "graph_size": 1, "flags": 0,
                "autoload_bunfig": true, "autoload_dotenv": true, "exec_argv": "" },
            "package_count": 1, "packages_digest": format!("sha256:{}", hex("7")), "writes": [],
            "identity": { "help_first_line": "Usage: ca", "commands": ["run"], "version": "0.1.0",
                "help_sha256": hex("8") },
            "sandbox": {}, "verification": "locked", "source_admission_status": "admitted",
            "volatile": { "started": NOW, "finished": NOW, "build_timestamp": NOW, "store_path": "/s",
                "node_version": null, "host": "h", "admit_version": "0.1.0", "root": "r",
                "durations_ms": {}, "sandbox": {} }
        })
        .to_string()
        .as_bytes(),
    )
    .unwrap()
}

fn lock() -> Lockfile {
    let bytes = include_bytes!("../../lockfiles/case.lock.json");
    crate::record::parse(bytes).unwrap()
}

fn packages() -> Vec<LockedPackage> {
    let one = |key: &str, kind: &str, version: &str, byte: u8| {
        let integrity = Sri(Digest::from_bytes(Algorithm::Sha512, &[byte; 64]).unwrap());
        let kind = serde_json::from_value(kind.into()).unwrap();
        let name = key.rsplit_once("/node/").map_or(key, |(_, name)| name);
        LockedPackage {
            key: key.into(),
            name: name.into(),
            version: version.into(),
            kind,
            integrity,
        }
    };
    vec![
        one("@scope/a", "npm", "1.0.0-rc.1+x", 1),
        one("b", "github", "owner/b#1234567", 2),
        one("@scope/a/node/b", "npm", "2.0.0", 3),
    ]
}

#[test]
fn provenance_names_every_input_by_digest_and_the_record_by_its_file() {
    let (report, lock) = (report("built"), lock());
    let statement = provenance(&report, &lock, &packages());
    let again = provenance(&report, &lock, &packages());
    assert_eq!(statement.envelope().line(), again.envelope().line());
    let resolved = &statement.predicate["buildDefinition"]["resolvedDependencies"];
    let resolved = resolved.as_array().unwrap();
    assert_eq!(resolved.len(), 3 + 3);
    for input in resolved {
        let digests = input["digest"].as_object().unwrap();
        let hex = |d: &Value| d.as_str().unwrap().bytes().all(|b| b.is_ascii_hexdigit());
        assert!(!digests.is_empty() && digests.values().all(hex), "{input}");
    }
    // A scope's sign is encoded, and no address of a registry is in it.
    assert_eq!(resolved[3]["uri"], "pkg:npm/%40scope/a@1.0.0-rc.1+x");
    assert_eq!(
        (&resolved[4]["uri"], &resolved[4]["annotations"]["kind"]),
        (&Value::Null, &json!("github"))
    );
    assert_eq!(resolved[0]["digest"]["gitCommit"], report.pinned_commit.as_str());
    // What differs from one honest build to the next makes another record, and so another statement.
    let mut later = report.clone();
    later.volatile.host = "another".into();
    assert_ne!(provenance(&later, &lock, &packages()), statement);
}

#[test]
fn a_list_of_packages_is_checked_by_the_digest_that_the_record_has() {
    let (mut report, lock) = (report("built"), lock());
    report.packages_digest = Some(crate::record::digest(&packages()));
    let now: Timestamp = NOW.parse().unwrap();
    let with = |statement: &Statement| {
        let line = signed(statement, &[1]).line();
        let expected = [of_build(&report, &lock, &now)];
        check(Some(line.as_bytes()), &expected, &demand([trusted(1)], 1), &now)
            .map_err(|no| no.reason)
    };
    let good = provenance(&report, &lock, &packages());
    assert!(with(&good).is_ok());
    assert!(with(&provenance(&report, &lock, &[])).is_ok());
    let entries = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut statement = good.clone();
        let place = "/buildDefinition/resolvedDependencies";
        change(statement.predicate.pointer_mut(place).unwrap().as_array_mut().unwrap());
        with(&statement).err()
    };
    let differs = Some(Reason::AttestedDiffers);
    assert_eq!(entries(&|_| {}), None);
    assert_eq!(entries(&|e| drop(e.pop())), differs);
    assert_eq!(entries(&|e| e.swap(3, 4)), differs);
    assert_eq!(entries(&|e| e.push(e[3].clone())), differs);
    assert_eq!(entries(&|e| e[3]["digest"]["sha512"] = "00".repeat(64).into()), differs);
    assert_eq!(entries(&|e| e[3]["digest"]["sha1"] = "00".into()), differs);
    assert_eq!(entries(&|e| e[3]["uri"] = "pkg:npm/evil@1".into()), differs);
    assert_eq!(entries(&|e| e[4]["uri"] = "pkg:npm/b@1".into()), differs);
    assert_eq!(entries(&|e| e.push(json!({ "name": "package x" }))), differs);
    assert_eq!(entries(&|e| e.push(json!({ "name": "x" }))), differs);
    assert_eq!(entries(&|e| e[0]["digest"]["gitCommit"] = "0".into()), differs);
}

#[test]
fn a_summary_claims_no_build_that_admit_did_not_see() {
    let now: Timestamp = NOW.parse().unwrap();
    let levels = |origin: &str| {
        let statement = summary(&report(origin), &lock(), &now).statement;
        assert_eq!(statement.predicate["verificationResult"], "PASSED");
        statement.predicate["verifiedLevels"].to_string()
    };
    assert!(levels("built").contains("SLSA_BUILD_LEVEL_1"));
    assert!(!levels("adopted").contains("SLSA") && !levels("adopted").contains("SOURCE"));
    for origin in ["built", "adopted"] {
        assert!(!levels(origin).contains("REBUILT") && !levels(origin).contains("REPRODUCED"));
    }
    let of = |origin: &str| of_build(&report(origin), &lock(), &now).statement.predicate_type;
    assert_eq!((of("built").as_str(), of("adopted").as_str()), (PROVENANCE, SUMMARY));
}

#[test]
fn only_a_pass_is_passed() {
    use crate::record::evidence::{RunReport, RunStatus};
    let mut run = RunReport::draft("f", "case", &NOW.parse().unwrap());
    run.run_directory = "/somewhere/runs/x".into();
    let id = Digest::sha256(b"manifest");
    for (status, result) in [
        (RunStatus::Pass, "PASSED"),
        (RunStatus::Rehearsed, "WARNED"),
        (RunStatus::Fail, "FAILED"),
        (RunStatus::Blocked, "FAILED"),
    ] {
        run.status = status;
        let statement = test_result(&id, &run);
        assert_eq!(statement.predicate["result"], result);
        assert_eq!(statement.sha256(), Some(id.clone()));
        assert_eq!(statement.subject[0].name, "x");
        let failed = statement.predicate["failedTests"].as_array().unwrap();
        assert!(failed.contains(&json!("judge")));
    }
}

#[test]
fn a_model_statement_is_about_the_file_and_holds_the_record() {
    let bytes = include_bytes!("../../admissions/models/qwen-local--qwen3.6-35b-a3b.json");
    let statement = model_admission(bytes).unwrap();
    assert_eq!(statement.sha256(), Some(Digest::sha256(bytes)));
    let predicate = statement.predicate.to_string();
    let read: ModelPredicate = crate::record::parse(predicate.as_bytes()).unwrap();
    assert_eq!(read.admission.pair().to_string(), "qwen-local/qwen3.6-35b-a3b");
    assert!(model_admission(b"{}").is_err());
}
