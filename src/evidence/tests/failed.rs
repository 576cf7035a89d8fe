//! Runs that end as failures: without their evidence, without a report, with more in the directory than was recorded.

use super::*;

#[test]
fn no_rehearsal_can_be_sealed_as_a_pass() {
    for class in [
        EvidenceClass::Scripted,
        EvidenceClass::Understudy,
        EvidenceClass::Loopback,
        EvidenceClass::Fake,
        EvidenceClass::None,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let run = filled(dir.path());
        let mut report = rehearsed();
        report.status = RunStatus::Pass;
        report.evidence_class = class;
        report.case_binary_sha256 = Some(Digest::sha256(b"b"));
        report.source_admission_status = "admitted".into();
        report.case_model_admission_status = record::admission::AdmissionStatus::Admitted;
        let sealed = run.seal(report.clone()).unwrap();
        assert_eq!(sealed.report.status, RunStatus::Fail);
        assert_eq!(faults(&sealed.directory), []);
        drop(run);
        // The same report as a served model's is a pass: nothing but the class stood in the way.
        let run = filled(dir.path());
        report.evidence_class = EvidenceClass::ServedModel;
        assert_eq!(run.seal(report).unwrap().report.status, RunStatus::Pass);
    }
}

#[test]
fn what_comes_while_the_files_are_written_decides_still() {
    let dir = tempfile::tempdir().unwrap();
    // A good run, and one whose own class left a marker that must not stay.
    for good in [true, false] {
        let run = filled(dir.path());
        let mut report = rehearsed();
        if !good {
            report.fail(FailureClass::AgentProtocol, "no_result");
        }
        let told = |report: &RunReport| {
            assert!(!run.dir.path().join("seal.json").exists());
            let mut report = report.clone();
            let class = FailureClass::Interrupted;
            report.status = RunStatus::Fail;
            report.failure_class = Some(class);
            report.failure_reason = Some(class.failure_reason("signal 15"));
            Some(report)
        };
        let sealed = run.seal_unless(report, &told).unwrap();
        assert_eq!(sealed.report.status, RunStatus::Fail);
        assert_eq!(sealed.report.failure_class, Some(FailureClass::Interrupted));
        assert_eq!(sealed.report.protocol_marker, None);
        let checked = check(&sealed.directory, Some(&sealed.id)).unwrap();
        assert_eq!((checked.faults, checked.level), (vec![], Some(Level::EqualToId)));
    }
}

#[test]
fn a_rehearsal_without_its_evidence_is_a_failure() {
    type Change = fn(&mut RunReport);
    let changes: [Change; 8] = [
        |r| r.tests_passed = false,
        |r| r.allowed_writes_passed = false,
        |r| r.changed_files.clear(),
        |r| r.required_events_passed = false,
        |r| r.baselines[0].accepted = true,
        |r| drop(r.baselines.pop()),
        |r| r.gates[0].state = State::NotReached,
        |r| r.gates.clear(),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (n, change) in changes.into_iter().enumerate() {
        let run = filled(dir.path());
        let mut report = rehearsed();
        change(&mut report);
        assert_eq!(run.seal(report).unwrap().report.status, RunStatus::Fail, "change {n}");
    }
    // Without a proof that no target was inspected.
    let run = begin(dir.path());
    run.artifact(&path("patch.diff"), "patch", Author::Agent, PATCH).unwrap();
    let sealed = run.seal(rehearsed()).unwrap();
    assert_eq!(sealed.report.failure_class, Some(FailureClass::TargetInspected));
}

#[test]
fn a_run_without_a_proof_says_that_it_proves_nothing() {
    let (_dir, run) = alone(begin);
    let at = run.path().to_owned();
    drop(run);
    let proof: NoTargetProof = parsed(&at, names::NO_TARGET);
    assert!(!proof.passed && proof.does_not_prove.len() == 1, "{proof:?}");
}

#[test]
fn a_broken_protocol_and_a_clock_name_their_markers() {
    let dir = tempfile::tempdir().unwrap();
    let markers = |class: FailureClass| {
        let run = begin(dir.path());
        run.draft(|report| report.fail(class, ""));
        let report = dropped(run);
        (report.protocol_marker, report.lifecycle_marker)
    };
    let name = |class: FailureClass| Some(format!("backend/{}", class.marker()));
    use FailureClass as F;
    assert_eq!(markers(F::AgentProtocol), (name(F::AgentProtocol), None));
    assert_eq!(markers(F::LifecycleTimeout), (None, name(F::LifecycleTimeout)));
    assert_eq!(markers(F::Timeout), (None, None));
}

#[test]
fn rows_of_the_wire_that_a_report_leaves_out_are_counted() {
    let (_dir, run) = alone(begin);
    run.draft(|report| {
        let row = rehearsed().wire.remove(0);
        (report.wire, report.wire_omitted) = (vec![row; 203], 4);
    });
    let at = run.path().to_owned();
    drop(run);
    let report: RunReport = parsed(&at, names::REPORT);
    assert_eq!((report.wire.len(), report.wire_omitted), (200, 7));
}

/// The report with which a recording is sealed when it is dropped.
fn dropped(run: Recording) -> RunReport {
    let at = run.path().to_owned();
    drop(run);
    let checked = check(&at, None).unwrap();
    assert_eq!(checked.faults, []);
    checked.report.unwrap()
}

#[test]
fn a_dropped_recording_is_sealed_as_a_failure() {
    let (_dir, run) = alone(begin);
    run.event("case_process_started", Author::Admit, json!({})).unwrap();
    run.draft(|report| report.case_process_started = true);
    let at = run.path().to_owned();
    assert_eq!(wrong(&at).0, FaultKind::NotSealed);
    let report = dropped(run);
    assert_eq!(report.status, RunStatus::Fail);
    assert!(report.case_process_started);
    assert!(at.join("backend/provider-unclassified.txt").is_file());
    assert!(!at.join(".reserve").exists());
}

#[test]
fn a_dropped_recording_keeps_what_was_decided_before() {
    let dir = tempfile::tempdir().unwrap();
    let drafted = |change: fn(&mut RunReport)| {
        let run = begin(dir.path());
        run.draft(change);
        let report = dropped(run);
        (report.status, report.failure_class, report.failure_reason)
    };
    let (status, class, _) = drafted(|report| {
        report.status = RunStatus::Blocked;
        report.fail(FailureClass::ModelNotAdmitted, "");
    });
    assert_eq!((status, class), (RunStatus::Blocked, Some(FailureClass::ModelNotAdmitted)));
    let (status, class, _) = drafted(|report| report.fail(FailureClass::Timeout, "600 s"));
    assert_eq!((status, class), (RunStatus::Fail, Some(FailureClass::Timeout)));
    // A good end that was never sealed as one is none.
    let (status, class, reason) = drafted(|report| {
        report.status = RunStatus::Pass;
        report.failure_class = None;
        report.failure_reason = None;
    });
    assert_eq!((status, class), (RunStatus::Fail, Some(FailureClass::Unclassified)));
    assert!(reason.unwrap().contains("ended without a report"));
}

#[test]
fn a_blocked_run_leaves_its_marker() {
    let (_dir, run) = alone(begin);
    let mut report = RunReport::draft("toy", "case", &now());
    report.failure_class = None;
    report.status = RunStatus::Blocked;
    report.fail(FailureClass::ModelNotAdmitted, "");
    report.blockers.push("model_admitted: missing_admission".into());
    let sealed = run.seal(report).unwrap();
    assert_eq!(sealed.report.status, RunStatus::Blocked);
    assert_eq!(sealed.report.failure_reason.as_deref(), Some("model provider not admitted"));
    let marker = sealed.directory.join("backend/provider-model-not-admitted.txt");
    assert!(std::fs::read_to_string(marker).unwrap().contains("missing_admission"));
    assert_eq!(faults(&sealed.directory), []);
}

#[test]
fn floods_are_cut_counted_and_do_not_silence_admit() {
    let dir = tempfile::tempdir().unwrap();
    let limits = EvidenceLimits {
        file_bytes: 5000,
        total_bytes: 6000,
        files: 12,
        events: 50,
        event_bytes: 64,
    };
    let run = begin_within(dir.path(), limits);
    let log = path("backend/stdout");
    assert_eq!(run.append(&log, "log", Author::Agent, &[b'a'; 4000]).unwrap(), Some(0));
    assert_eq!(run.append(&log, "log", Author::Agent, &[b'b'; 4000]).unwrap(), None);
    assert_eq!(run.append(&log, "log", Author::Agent, b"c").unwrap(), None);
    run.artifact(&path("agent.bin"), "copy", Author::Agent, &[0; 3000]).unwrap();
    run.event("still_here", Author::Admit, json!({ "long": "x".repeat(500) })).unwrap();
    let sealed = run.seal(RunReport::draft("toy", "fake", &now())).unwrap();
    let manifest: Manifest = parsed(&sealed.directory, names::MANIFEST);
    let of = |name: &str| manifest.files.iter().find(|e| e.path.as_str() == name).unwrap();
    assert_eq!((of("backend/stdout").size, of("backend/stdout").omitted_bytes), (5000, 3001));
    assert_eq!((of("agent.bin").size, of("agent.bin").omitted_bytes), (1000, 2000));
    assert_eq!(faults(&sealed.directory), []);
}

#[test]
fn a_failed_recording_cannot_be_sealed_as_good() {
    let (_dir, run) = alone(filled);
    assert!(run.artifact(&path("patch.diff"), "patch", Author::Agent, b"again").is_err());
    let sealed = run.seal(rehearsed()).unwrap();
    assert_eq!(sealed.report.status, RunStatus::Fail);
    assert!(sealed.report.blockers[0].contains("not whole"));
    assert!(run.event("late", Author::Admit, json!({})).is_err());
    assert!(run.seal(rehearsed()).is_err());
}

#[test]
fn unrecorded_files_fail_the_run() {
    let (_dir, run) = alone(filled);
    std::fs::write(run.path().join("backend/provider-timeout.txt"), "mine").unwrap();
    std::os::unix::fs::symlink("/etc", run.path().join("link")).unwrap();
    let sealed = run.seal(rehearsed()).unwrap();
    assert_eq!(sealed.report.status, RunStatus::Fail);
    assert_eq!(sealed.report.blockers.len(), 2, "{:?}", sealed.report.blockers);
    assert_eq!(faults(&sealed.directory), []);
}

#[test]
fn what_is_changed_behind_the_recorders_back_fails_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let attacks: [fn(&Path); 6] = [
        |run| std::fs::write(run.join("backend/stdout.log"), "other").unwrap(),
        // Of the same length.
        |run| std::fs::write(run.join("backend/stdout.log"), "one\ntwO\n").unwrap(),
        |run| {
            let file = run.join(names::GATE);
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(file, text.replace("understudy", "overstudyy")).unwrap();
        },
        |run| std::fs::remove_file(run.join(names::SANDBOX)).unwrap(),
        |run| {
            std::fs::remove_file(run.join(names::GATE)).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", run.join(names::GATE)).unwrap();
        },
        |run| std::fs::create_dir(run.join("report.json.part0")).unwrap(),
    ];
    for (n, attack) in attacks.into_iter().enumerate() {
        let run = filled(dir.path());
        attack(run.path());
        let sealed = run.seal(rehearsed()).unwrap();
        assert_eq!(sealed.report.status, RunStatus::Fail, "attack {n}");
        assert!(sealed.directory.join(names::SEAL).is_file(), "attack {n}");
    }
}
