//! The statements that admit makes, and signed ones that say something else.

use super::*;
use crate::record::ids::{Algorithm, Sri};
use crate::record::lockfile::LockedPackage;

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
        more: BTreeMap::new(),
    });
    refused(&[signed(&two, &[1])], &one, Reason::AttestedDiffers, 5);
    let not_a_statement = |payload_type: &str, payload: &[u8]| {
        let mut envelope = Envelope::new(payload_type, payload.to_vec());
        sign(&mut envelope, 1);
        envelope
    };
    let payload = statement().envelope().payload;
    // Keys that admit never writes, in the statement and in its subject.
    for place in ["", "/subject/0"] {
        let mut value: Value = serde_json::from_slice(&payload).unwrap();
        value.pointer_mut(place).unwrap()["reviewed"] = json!(true);
        let envelope = not_a_statement(IN_TOTO, value.to_string().as_bytes());
        let no = refused(&[envelope], &one, Reason::AttestedDiffers, 5);
        assert_eq!(no.found, format!("{place}/reviewed: true"));
    }
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
    let free = Expected { free: &["/predicate/when"], ..Expected::from(statement()) };
    let with = |predicate: Value| {
        let line = signed(&Statement { predicate, ..statement() }, &[1]).line();
        held(Some(line.as_bytes()), free.clone(), &demand([trusted(1)], 1))
    };
    assert!(with(json!({ "says": [1, 2], "when": 3 })).is_ok());
    assert!(with(json!({ "says": [1, 2] })).is_ok());
    let no = with(json!({ "says": [1, 3], "when": 3 })).unwrap_err();
    assert_eq!(no.expected, "/predicate/says/1: 2");
    assert_eq!(no.found, "/predicate/says/1: 3");
}

/// The report that a build gave, with this origin.
fn report(origin: &str) -> BuildReport {
    let report = include_bytes!("../../../fixtures/fuzz/report/understudy.json");
    let mut report: BuildReport = crate::record::parse(report).unwrap();
    report.origin = crate::record::of_word(origin).unwrap();
    report
}

fn lock() -> Lockfile {
    let bytes = include_bytes!("../../../lockfiles/case.lock.json");
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
    // Scope and build metadata are encoded, and no address of a registry is in it.
    assert_eq!(resolved[3]["uri"], "pkg:npm/%40scope/a@1.0.0-rc.1%2Bx");
    assert_eq!(resolved[4]["uri"], Value::Null);
    assert_eq!(resolved[4]["annotations"]["kind"], "github");
    assert_eq!(resolved[0]["digest"]["gitCommit"], report.pinned_commit.as_str());
    // What differs from one honest build to the next makes another record, and so another statement.
    let mut later = report.clone();
    later.volatile.host = "another".into();
    assert_ne!(provenance(&later, &lock, &packages()), statement);
}

#[test]
fn a_link_has_the_inputs_and_the_output_of_the_provenance() {
    let statement = provenance(&report("built"), &lock(), &packages());
    let envelope = link(&statement);
    let payload: Value = serde_json::from_slice(&envelope.payload).unwrap();
    assert_eq!((&payload["_type"], &payload["name"]), (&json!("link"), &json!(STEP)));
    let inputs = &statement.predicate["buildDefinition"]["resolvedDependencies"];
    let inputs = inputs.as_array().unwrap();
    assert_eq!(payload["materials"].as_object().unwrap().len(), inputs.len());
    for input in inputs {
        assert_eq!(payload["materials"][input["name"].as_str().unwrap()], input["digest"]);
    }
    let subject = &statement.subject[0];
    assert_eq!(payload["products"], json!({ (subject.name.clone()): subject.digest }));
    // Another time, another machine: the same link.
    let mut later = report("built");
    later.volatile.host = "another".into();
    assert_eq!(link(&provenance(&later, &lock(), &packages())), envelope);
}

#[test]
fn a_list_of_packages_is_checked_by_the_digest_that_the_record_has() {
    let (mut report, lock) = (report("built"), lock());
    report.packages_digest = Some(crate::record::digest(&packages()));
    let now: Timestamp = NOW.parse().unwrap();
    let with = |statement: &Statement| {
        let line = signed(statement, &[1]).line();
        let expected = of_build(&report, &lock, &now);
        held(Some(line.as_bytes()), expected, &demand([trusted(1)], 1)).map_err(|no| no.reason)
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
    let bytes = include_bytes!("../../../admissions/models/qwen-local--qwen3.6-35b-a3b.json");
    let statement = model_admission(bytes).unwrap();
    assert_eq!(statement.sha256(), Some(Digest::sha256(bytes)));
    let predicate = statement.predicate.to_string();
    let read: ModelPredicate = crate::record::parse(predicate.as_bytes()).unwrap();
    assert_eq!(read.admission.pair().to_string(), "qwen-local/qwen3.6-35b-a3b");
    assert!(model_admission(b"{}").is_err());
}
