//! A sealed run as an in-toto test result (v0.1). Its subject is the run's id, the digest of the canonical manifest,
//! which lists every other file.

use serde_json::{Value, json};

use crate::record::evidence::{RunReport, RunStatus};
use crate::record::ids::Digest;
use crate::record::statement::{Statement, digest_set};

pub const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";

/// The result of the run with this report and id. Only a pass is `PASSED`: a rehearsal can never be one and is
/// `WARNED`; a run that failed or was refused is `FAILED`.
pub fn test_result(id: &Digest, report: &RunReport) -> Statement {
    let result = match report.status {
        RunStatus::Pass => "PASSED",
        RunStatus::Rehearsed => "WARNED",
        RunStatus::Fail | RunStatus::Blocked => "FAILED",
    };
    let baselines = report.baselines.len() >= 2 && report.baselines.iter().all(|b| b.held());
    let tests = [
        ("allowed_writes", report.allowed_writes_passed),
        ("baselines", baselines),
        ("judge", report.tests_passed),
        ("no_target_inspection", report.no_target_inspection_passed),
        ("required_events", report.required_events_passed),
    ];
    let named = |wanted: bool| -> Vec<&str> {
        tests.iter().filter(|(_, passed)| *passed == wanted).map(|(name, _)| *name).collect()
    };
    // A rehearsal is one because of what it ran with, so that stands beside its tests.
    let warned: Vec<String> = match report.status {
        RunStatus::Rehearsed => vec![format!("evidence_class {}", report.evidence_class.as_str())],
        _ => Vec::new(),
    };
    let predicate = json!({
        "result": result,
        "configuration": configuration(report),
        "passedTests": named(true),
        "warnedTests": warned,
        "failedTests": named(false),
    });
    // Where it was made, not where it lies now: a copy of a run is the same run.
    let name = report.run_directory.rsplit('/').next().unwrap_or_default();
    Statement::about(name, id, TEST_RESULT, predicate)
}

/// What the run was made with, as far as it is known by digest or name.
fn configuration(report: &RunReport) -> Vec<Value> {
    let named = |name: &str, digest: &Option<Digest>| {
        Some(json!({ "name": name, "digest": digest_set(digest.as_ref()?) }))
    };
    let commit = report.case_source_pin.as_ref();
    let model = report.case_model_provider.as_ref().zip(report.case_model.as_ref());
    let all = [
        named(&format!("fixture {}", report.fixture), &report.fixture_digest),
        named("binary", &report.case_binary_sha256),
        commit.map(|commit| json!({ "name": "source", "digest": { "gitCommit": commit } })),
        model.map(|(provider, model)| {
            json!({ "name": "model", "uri": format!("urn:admit:model:{provider}/{model}") })
        }),
        named("root", &report.root.digest),
    ];
    all.into_iter().flatten().collect()
}
