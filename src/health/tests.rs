use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::judge::{Observed, SealedRun, judge, not_run};
use super::validators::{ADMISSION, End, Field, Want};
use super::*;
use crate::check::tests::{good, known, policy};
use crate::check::{Check, Found};
use crate::error::{Error, Reason};
use crate::evidence::{EvidenceLimits, Recording, Sealed, names};
use crate::gate::{self, Decision};
use crate::host::SystemClock;
use crate::record::admission::AdmissionStatus;
use crate::record::evidence::{RunReport, RunStatus};
use crate::record::failure::FailureClass;
use crate::record::health::Outcome;

/// Checks that no run can be brought to, since what they hold is refused before, or that only verify makes. The cases of
/// `check::tests` watch them, as they watch every other.
const UNIT_ONLY: [Check; 6] = [
    Check::SourceStored,
    Check::ToolchainStored,
    Check::PackagesStored,
    Check::IdentityShown,
    // An untrusted root is refused when it is read (`untrusted_root_refused`).
    Check::RootTrusted,
    // A task out of its contract is refused when the fixture is read (`task_contract_refused`).
    Check::TaskContract,
];

/// Classes that no validator brings about, each with why.
const ELSEWHERE: [FailureClass; 2] = [
    // Would need a launch that mounts a target, and the gate admits none (tests of proof.rs and of the seal).
    FailureClass::TargetInspected,
    // What is known to bring it about would be a class (tests/it/classes.rs has one that is not foreseen).
    FailureClass::Unclassified,
];

#[test]
fn the_names_that_users_know_are_there_and_distinct() {
    let names: BTreeSet<&str> = all().map(|validator| validator.name).collect();
    assert_eq!(names.len(), all().count());
    for name in [
        "provider_timeout_fail_closed",
        "model_provider_gate_blocks",
        "qwen_local_openai_compat_allows_case",
        "local_provider_delayed_content_allows_case",
        "lifecycle_supervision_accepts_committed_diff",
        "provider_unavailable_fails_closed",
        "reasoning_only_blocks",
        "auth_gap_blocks",
        "source_not_admitted_blocks",
        "ambient_inputs_closed",
        "no_target_inspection",
    ] {
        assert!(names.contains(name), "{name}");
    }
    assert!(all().any(|v| v.adapter) && all().any(|v| !v.adapter));
}

#[test]
fn every_gate_and_every_class_is_watched() {
    for gate in Check::ALL {
        let watched = all().any(|validator| validator.gate() == Some(*gate));
        assert_eq!(watched, !UNIT_ONLY.contains(gate), "{}", gate.id());
    }
    for class in FailureClass::ALL {
        let watched = all().any(|validator| validator.class() == Some(class));
        assert_eq!(watched, !ELSEWHERE.contains(&class), "{}", class.as_str());
    }
}

#[test]
fn every_status_is_watched_but_the_one_that_no_validator_may_have() {
    let expects = |place: &str, text: &'static str| {
        let want = |field: &Field| field.1 == place && field.2 == Want::Text(text);
        all().any(|validator| validator.fields.iter().any(want))
    };
    for status in AdmissionStatus::ALL {
        assert!(expects(ADMISSION, status.as_str()), "{}", status.as_str());
    }
    for status in RunStatus::ALL {
        let watched = all().any(|validator| match validator.end {
            End::Blocked(..) => status == RunStatus::Blocked,
            End::Fails(_) => status == RunStatus::Fail,
            End::Rehearsed => status == RunStatus::Rehearsed,
            End::Early(_) => false,
        });
        // A pass needs a served model, and a validator's servers are this machine's own.
        assert_eq!(watched, status != RunStatus::Pass, "{}", status.as_str());
    }
}

#[test]
fn what_a_validator_expects_can_be() {
    for validator in all() {
        // Nothing that a validator starts may ever count as a pass.
        assert!(!matches!(validator.end, End::Rehearsed) || validator.exit == 0);
        assert_eq!(validator.exit == 0, validator.end == End::Rehearsed, "{}", validator.name);
        assert!(!validator.fault.is_empty());
        if let End::Early(reason) = validator.end {
            assert_eq!(reason.kind().exit_code(), validator.exit, "{}", validator.name);
        }
        assert_eq!(
            validator.class().is_some(),
            validator.marker().is_some() && validator.exit != 0
        );
    }
}

/// What the gate says where nothing but the binary is missing.
fn no_binary() -> Decision {
    let mut facts = good();
    facts.binary = Found::Absent;
    gate::decide(&facts, &policy())
}

/// A sealed run that a missing binary blocked.
fn blocked(dir: &std::path::Path, decision: &Decision) -> Sealed {
    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    let mut report = RunReport::draft("toy", "case", &now);
    let fixture = "toy".parse().unwrap();
    let clock = Arc::new(SystemClock);
    let run =
        Recording::begin(dir, &fixture, report.clone(), clock, EvidenceLimits::default()).unwrap();
    report.status = RunStatus::Blocked;
    report.failure_class = None;
    report.gates = decision.findings.clone();
    report.fail(FailureClass::ProviderUnavailable, "");
    run.seal(report).unwrap()
}

fn named(name: &str) -> &'static Validator {
    all().find(|validator| validator.name == name).unwrap()
}

fn judged(name: &str, sealed: &Sealed, code: u8, decision: &Decision) -> Outcome {
    let run = SealedRun { directory: &sealed.directory, id: &sealed.id, code, decision };
    judge(named(name), &Observed::Sealed(run), Duration::ZERO).unwrap().outcome
}

#[test]
fn exactly_what_is_expected_passes_and_anything_else_fails() {
    let dir = tempfile::tempdir().unwrap();
    let decision = no_binary();
    let sealed = blocked(dir.path(), &decision);
    let name = "provider_unavailable_fails_closed";
    assert_eq!(judged(name, &sealed, 3, &decision), Outcome::Passed);
    // Another exit code; another validator; gates that did not decide it.
    assert_eq!(judged(name, &sealed, 0, &decision), Outcome::Failed);
    assert_eq!(judged("reasoning_only_blocks", &sealed, 3, &decision), Outcome::Failed);
    let mut facts = good();
    known(&mut facts.binary).executable = false;
    let nothing = gate::decide(&facts, &policy());
    assert_eq!(judged(name, &sealed, 3, &nothing), Outcome::Failed);
    // Another run than the one that was sealed.
    let other = Sealed { id: crate::record::ids::Digest::sha256(b"other"), ..sealed.clone() };
    assert_eq!(judged(name, &other, 3, &decision), Outcome::Failed);
    // A marker whose bytes changed since.
    let marker = sealed.directory.join("backend/provider-unavailable.txt");
    std::fs::write(&marker, "provider available\n").unwrap();
    assert_eq!(judged(name, &sealed, 3, &decision), Outcome::Failed);
    assert!(sealed.directory.join(names::REPORT).is_file());
}

#[test]
fn an_early_refusal_passes_for_its_reason_only() {
    let validator = named("untrusted_root_refused");
    let outcome = |reason| {
        let err = Error::new(reason, "x");
        judge(validator, &Observed::Early(&err), Duration::ZERO).unwrap().outcome
    };
    assert_eq!(outcome(Reason::RootNotTrusted), Outcome::Passed);
    assert_eq!(outcome(Reason::RequestRefused), Outcome::Failed);
    let row = not_run(validator, "no sandbox".into(), Duration::ZERO);
    assert_eq!(row.outcome, Outcome::NotRun);
}
