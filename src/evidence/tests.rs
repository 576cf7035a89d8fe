use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::host::FixedClock;
use crate::record::evidence::{
    Baseline, EvidenceClass, GateRow, GateStatus, RequiredEvent, RunReport, RunStatus, WireRow,
};
use crate::record::failure::FailureClass;
use crate::record::ids::{Digest, RelPath, Timestamp};
use crate::record::sealed::{
    Author, Excerpt, Freshness, Manifest, NoTargetProof, NonceSeen, Seal, Visible,
};
use crate::record::wire::{ExchangeKind, ProxyRecord, UpstreamKind, WireRecord};
use crate::record::{self, Record as _};
use crate::recorder::Recorder;
use crate::secrets::{Known, Secret};

mod disk;

const PATCH: &[u8] = b"diff --git a/s.py b/s.py\n--- a/s.py\n+++ b/s.py\n@@ -1 +1 @@\n-a\n+b\n";

fn clock() -> FixedClock {
    FixedClock("2026-11-20T12:00:00Z".parse().unwrap())
}

fn path(text: &str) -> RelPath {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn begin(dir: &Path, clock: &FixedClock) -> Recording {
    let draft = RunReport::draft("toy", "fake", &now());
    Recording::begin(
        dir,
        &"toy".parse().unwrap(),
        draft,
        Arc::new(clock.clone()),
        Limits::default(),
    )
    .unwrap()
}

/// A report of a rehearsal that fulfils everything.
fn rehearsed() -> RunReport {
    let baseline = |name: &str, accept| Baseline {
        name: name.into(),
        expected_accept: accept,
        accepted: accept,
        patch_digest: Digest::sha256(name.as_bytes()),
        note: "as it must".into(),
    };
    RunReport {
        status: RunStatus::Rehearsed,
        evidence_class: EvidenceClass::Scripted,
        failure_class: None,
        failure_reason: None,
        backend: "case".into(),
        backend_exit_code: Some(0),
        case_process_started: true,
        case_model: Some("m".into()),
        case_binary_sha256: Some(Digest::sha256(b"b")),
        allowed_writes_passed: true,
        changed_files: vec!["s.py".into()],
        tests_passed: true,
        required_events_passed: true,
        required_events: vec![RequiredEvent {
            kind: "model_call".into(),
            seen: true,
            by: Author::Admit,
        }],
        gates: vec![GateRow {
            id: "stage".into(),
            status: GateStatus::Pass,
            expected: "2".into(),
            found: "2".into(),
            fix: String::new(),
        }],
        baselines: vec![baseline("no_change", false), baseline("reference_patch", true)],
        limits: vec!["a limit".into()],
        wire: vec![WireRow {
            number: 1,
            monotonic_ns: 5,
            duration_ns: 7,
            request_line: "POST /v1/chat/completions".into(),
            status: Some(200),
            class: "complete".into(),
            request_file: "backend/wire/1.request".into(),
            reply_file: "backend/wire/1.sse".into(),
            request: Excerpt::of(b"{}", 100),
            reply: Excerpt::of(b"data: [DONE]", 100),
        }],
        ..RunReport::draft("toy", "case", &now())
    }
}

fn proof() -> NoTargetProof {
    NoTargetProof {
        schema: NoTargetProof::SCHEMA.to_string(),
        passed: true,
        visible: vec![Visible { path: "/work".into(), kind: "fixture".into(), digest: None }],
        targets_visible: vec![],
        bridge_requests: 1,
        only_door: true,
        fixture_commits: 1,
        canary_searched: 3,
        canary_found: vec![],
        does_not_prove: vec!["what the model remembers".into()],
    }
}

/// The record of a bridge with one exchange.
fn bridge() -> ProxyRecord {
    ProxyRecord {
        model: "m".into(),
        upstream: UpstreamKind::Scripted,
        network_class: None,
        tls: false,
        exchanges: vec![WireRecord {
            exchange: 1,
            kind: ExchangeKind::Chat,
            started_ns: 10,
            ended_ns: 30,
            refused: None,
            refused_why: None,
            request_bytes: 11,
            forwarded_sha256: None,
            stream: true,
            messages: 1,
            tools: vec![],
            facts: None,
            verdict: None,
            agent_result: None,
            cut: None,
        }],
        silent_connections: 0,
        request_bytes: 11,
        reply_bytes: 24,
        tokens: 0,
        replies_without_usage: 1,
        limit_hit: None,
        secrets_seen: vec![],
        recorder_failure: None,
        duration_ns: 40,
    }
}

/// What a finished run's report is held against.
fn evidence(run: &Recording) {
    let report = rehearsed();
    let gates = json!({
        "admitted": true, "engine": "case", "provider": "understudy", "gates": report.gates,
    });
    run.record(names::GATE, "gates", &gates).unwrap();
    let binary = report.case_binary_sha256.as_ref().unwrap();
    let room = json!({ "stable": { "verified": [{ "sha256": binary }] } });
    run.record(names::SANDBOX, "sandbox", &room).unwrap();
    let judged = |passed: bool| json!([{ "passed": true }, { "passed": passed }]);
    run.record("backend/judgement.json", "judgement", &judged(true)).unwrap();
    run.record("baseline/no_change.json", "baseline", &judged(false)).unwrap();
    run.record("baseline/reference_patch.json", "baseline", &judged(true)).unwrap();
    run.record("backend/bridge.json", "bridge", &bridge()).unwrap();
    let fresh = Freshness {
        schema: Freshness::SCHEMA.to_string(),
        nonce: "n".into(),
        seen: vec![NonceSeen { place: "sentinel".into(), found: Some(true) }],
        directory_made_empty: true,
        boot_id: None,
        kernel: String::new(),
        started: now(),
        finished: now(),
        monotonic_span_ns: 1,
    };
    run.record(names::FRESHNESS, "freshness", &fresh).unwrap();
}

fn fill(run: &Recording) {
    evidence(run);
    run.event("model_call", Author::Admit, json!({ "n": 1 })).unwrap();
    run.event("phase_end", Author::Agent, json!({ "outcome": "completed" })).unwrap();
    run.artifact(&path("patch.diff"), "patch", Author::Agent, PATCH).unwrap();
    run.append(&path("backend/stdout.log"), "log", Author::Agent, b"one\n").unwrap();
    run.append(&path("backend/stdout.log"), "log", Author::Agent, b"two\n").unwrap();
    run.record(names::NO_TARGET, "no_target_inspection", &proof()).unwrap();
    run.trace("step", json!({ "ms": 1 })).unwrap();
}

fn sealed(dir: &Path) -> Sealed {
    let clock = clock();
    let run = begin(dir, &clock);
    fill(&run);
    run.seal(rehearsed()).unwrap()
}

/// Every file below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { out.extend(files(&path)) } else { out.push(path) }
    }
    out.sort();
    out
}

#[test]
fn a_sealed_run_reads_back_and_knows_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let run = sealed(dir.path());
    assert_eq!(run.report.status, RunStatus::Rehearsed, "{:?}", run.report.blockers);
    assert_eq!(run.report.patch_digest, Digest::sha256(PATCH));
    let checked = check(&run.directory, None).unwrap();
    assert_eq!(checked.faults, []);
    assert_eq!(checked.level, Some(Level::SelfConsistent));
    assert_eq!(checked.id.as_ref(), Some(&run.id));
    assert_eq!(check(&run.directory, Some(&run.id)).unwrap().level, Some(Level::EqualToId));
    let other = check(&run.directory, Some(&Digest::sha256(b"x"))).unwrap();
    assert_eq!((other.level, other.faults[0].kind), (None, FaultKind::OtherId));
    // Moved elsewhere it is still the same run.
    let moved = dir.path().join("moved");
    std::fs::rename(&run.directory, &moved).unwrap();
    assert_eq!(check(&moved, Some(&run.id)).unwrap().faults, []);
}

#[test]
fn any_changed_byte_any_missing_and_any_added_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = sealed(dir.path());
    let all = files(&run.directory);
    assert!(all.len() >= 14, "{all:?}");
    for file in all {
        let name = file.strip_prefix(&run.directory).unwrap().to_str().unwrap().to_owned();
        let good = std::fs::read(&file).unwrap();
        for at in [0, good.len() / 2, good.len().saturating_sub(1)] {
            let mut bad = good.clone();
            match bad.get_mut(at) {
                Some(byte) => *byte ^= 1,
                None => bad.push(b'x'),
            }
            std::fs::write(&file, &bad).unwrap();
            let checked = check(&run.directory, None).unwrap();
            assert_eq!(checked.level, None, "{name} at {at}");
            assert_eq!(checked.faults[0].path, name, "{name} at {at}: {:?}", checked.faults);
            assert_eq!(checked.faults[0].kind, FaultKind::Changed, "{name} at {at}");
            assert_eq!(checked.error().unwrap().kind().exit_code(), 5);
        }
        std::fs::remove_file(&file).unwrap();
        let checked = check(&run.directory, None).unwrap();
        assert_eq!((checked.faults[0].kind, &checked.faults[0].path), (FaultKind::Missing, &name));
        std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
        assert_eq!(
            check(&run.directory, None).unwrap().faults[0].kind,
            FaultKind::Changed,
            "{name}"
        );
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, &good).unwrap();
    }
    assert_eq!(check(&run.directory, None).unwrap().faults, []);
    for extra in ["extra.txt", "backend/x", "backend/provider-timeout.txt"] {
        std::fs::write(run.directory.join(extra), "").unwrap();
        let checked = check(&run.directory, None).unwrap();
        assert_eq!(
            (checked.faults[0].kind, checked.faults[0].path.as_str()),
            (FaultKind::Extra, extra)
        );
        std::fs::remove_file(run.directory.join(extra)).unwrap();
    }
    std::fs::create_dir(run.directory.join("empty")).unwrap();
    assert_eq!(check(&run.directory, None).unwrap().faults[0].kind, FaultKind::Extra);
}

/// Seals the directory anew after an attack, as anybody could.
fn reseal(dir: &Path) -> Digest {
    let mut manifest: Manifest =
        record::parse(&std::fs::read(dir.join(names::MANIFEST)).unwrap()).unwrap();
    for entry in &mut manifest.files {
        let bytes = std::fs::read(dir.join(entry.path.as_str())).unwrap();
        entry.size = bytes.len() as u64;
        entry.sha256 = Digest::sha256(&bytes);
    }
    std::fs::write(dir.join(names::MANIFEST), record::pretty(&manifest)).unwrap();
    let seal = Seal::of(&manifest);
    std::fs::write(dir.join(names::SEAL), record::pretty(&seal)).unwrap();
    seal.id
}

#[test]
fn sealing_anew_hides_neither_a_cut_chain_nor_a_made_up_pass() {
    let dir = tempfile::tempdir().unwrap();
    let run = sealed(dir.path());
    let events = run.directory.join(names::EVENTS);
    let text = std::fs::read_to_string(&events).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let attacks = [
        lines[..lines.len() - 1].join("\n") + "\n",
        [lines[0], lines[2], lines[1]].join("\n") + "\n",
        text.replace("completed", "failed"),
        text.trim_end().to_owned(),
        text.clone() + "{}\n",
    ];
    for attack in attacks {
        std::fs::write(&events, attack).unwrap();
        reseal(&run.directory);
        let checked = check(&run.directory, None).unwrap();
        assert_eq!(checked.faults[0].kind, FaultKind::Chain, "{:?}", checked.faults);
        assert!(check(&run.directory, Some(&run.id)).unwrap().level.is_none());
    }
    std::fs::write(&events, &text).unwrap();
    let mut report = run.report.clone();
    report.status = RunStatus::Pass;
    report.evidence_class = EvidenceClass::ServedModel;
    for (name, bytes) in [
        (names::REPORT, record::pretty(&report)),
        (names::REPORT_MD, markdown(&report).into_bytes()),
        (names::REPORT_HTML, page(&report).into_bytes()),
    ] {
        std::fs::write(run.directory.join(name), bytes).unwrap();
    }
    reseal(&run.directory);
    let checked = check(&run.directory, None).unwrap();
    assert!(checked.faults.iter().any(|f| f.found.contains("model that is not admitted")));
    // And a page that says something else than the report.
    let dir = tempfile::tempdir().unwrap();
    let run = sealed(dir.path());
    std::fs::write(run.directory.join(names::REPORT_HTML), "<p>pass</p>").unwrap();
    reseal(&run.directory);
    let checked = check(&run.directory, None).unwrap();
    assert_eq!(checked.faults[0].path, names::REPORT_HTML);
}

#[test]
fn a_bettered_report_does_not_agree_with_the_other_files() {
    let dir = tempfile::tempdir().unwrap();
    type Change = fn(&mut serde_json::Value);
    let changes: [(&str, Change); 12] = [
        (names::GATE, |v| v["gates"][0]["status"] = json!("fail")),
        (names::GATE, |v| v["admitted"] = json!(false)),
        (names::GATE, |v| v["engine"] = json!("fake")),
        ("backend/judgement.json", |v| v[1]["passed"] = json!(false)),
        ("backend/judgement.json", |v| *v = json!([])),
        ("baseline/no_change.json", |v| v[1]["passed"] = json!(true)),
        ("backend/bridge.json", |v| v["model"] = json!("other")),
        ("backend/bridge.json", |v| v["upstream"] = json!("http")),
        ("backend/bridge.json", |v| v["exchanges"] = json!([])),
        ("backend/bridge.json", |v| v["secrets_seen"] = json!(["model_key"])),
        (names::SANDBOX, |v| v["stable"]["verified"][0]["sha256"] = json!("sha256:00")),
        (names::FRESHNESS, |v| v["seen"][0]["found"] = json!(false)),
    ];
    for (name, change) in changes {
        let run = sealed(dir.path());
        let file = run.directory.join(name);
        let mut value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(&file, record::pretty(&value)).unwrap();
        reseal(&run.directory);
        let checked = check(&run.directory, None).unwrap();
        assert!(checked.level.is_none(), "{name}");
        let fault = &checked.faults[0];
        assert_eq!((fault.kind, fault.path.as_str()), (FaultKind::Report, name), "{fault:?}");
    }
    // An event that is only in the report, and pages that this version cannot make again.
    type Better = fn(&mut RunReport);
    let changes: [(&str, Better); 2] = [
        (names::EVENTS, |r| r.required_events[0].kind = "judge_finished".into()),
        (names::REPORT, |r| r.admit_version = "0.0.9".into()),
    ];
    for (path, change) in changes {
        let run = sealed(dir.path());
        let mut report = run.report.clone();
        change(&mut report);
        for (name, bytes) in [
            (names::REPORT, record::pretty(&report)),
            (names::REPORT_MD, markdown(&report).into_bytes()),
            (names::REPORT_HTML, page(&report).into_bytes()),
        ] {
            std::fs::write(run.directory.join(name), bytes).unwrap();
        }
        let id = reseal(&run.directory);
        let checked = check(&run.directory, None).unwrap();
        assert_eq!(checked.faults[0].path, path, "{:?}", checked.faults);
        let by_id = check(&run.directory, Some(&id)).unwrap();
        assert_eq!(by_id.level.is_some(), path == names::REPORT);
    }
}

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
        let clock = clock();
        let run = begin(dir.path(), &clock);
        fill(&run);
        let mut report = rehearsed();
        report.status = RunStatus::Pass;
        report.evidence_class = class;
        report.case_binary_sha256 = Some(Digest::sha256(b"b"));
        report.source_admission_status = "admitted".into();
        report.case_model_admission_status = record::admission::AdmissionStatus::Admitted;
        let sealed = run.seal(report.clone()).unwrap();
        assert_eq!(sealed.report.status, RunStatus::Fail);
        assert_eq!(check(&sealed.directory, None).unwrap().faults, []);
        drop(run);
        // The same report as a served model's is a pass: nothing but the class stood in the way.
        let run = begin(dir.path(), &clock);
        fill(&run);
        report.evidence_class = EvidenceClass::ServedModel;
        assert_eq!(run.seal(report).unwrap().report.status, RunStatus::Pass);
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
        |r| r.gates[0].status = GateStatus::NotChecked,
        |r| r.gates.clear(),
    ];
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    for (n, change) in changes.into_iter().enumerate() {
        let run = begin(dir.path(), &clock);
        fill(&run);
        let mut report = rehearsed();
        change(&mut report);
        assert_eq!(run.seal(report).unwrap().report.status, RunStatus::Fail, "change {n}");
    }
    // Without a proof that no target was inspected.
    let run = begin(dir.path(), &clock);
    run.artifact(&path("patch.diff"), "patch", Author::Agent, PATCH).unwrap();
    let sealed = run.seal(rehearsed()).unwrap();
    assert_eq!(sealed.report.failure_class, Some(FailureClass::TargetInspected));
}

#[test]
fn a_dropped_recording_is_sealed_as_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let run = begin(dir.path(), &clock);
    run.event("case_process_started", Author::Admit, json!({})).unwrap();
    run.draft(|report| report.case_process_started = true);
    let at = run.path().to_owned();
    assert_eq!(check(&at, None).unwrap().faults[0].kind, FaultKind::NotSealed);
    drop(run);
    let checked = check(&at, None).unwrap();
    assert_eq!(checked.faults, []);
    let report = checked.report.unwrap();
    assert_eq!(report.status, RunStatus::Fail);
    assert!(report.case_process_started);
    assert!(at.join("backend/provider-unclassified.txt").is_file());
    assert!(!at.join(".reserve").exists());
}

#[test]
fn a_blocked_run_leaves_its_marker() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let run = begin(dir.path(), &clock);
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
    assert_eq!(check(&sealed.directory, None).unwrap().faults, []);
}

#[test]
fn a_secret_fails_the_run_and_is_withheld_everywhere() {
    const KEY: &[u8] = b"zq93-known-upstream-key-77";
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    for place in ["artifact", "event", "report", "patch", "name"] {
        let run = begin(dir.path(), &clock);
        run.watch_for(Known::new(&[("upstream_key".into(), Secret::new(KEY.to_vec()).unwrap())]));
        let text = String::from_utf8(KEY.to_vec()).unwrap();
        let mut report = rehearsed();
        run.record(names::NO_TARGET, "no_target_inspection", &proof()).unwrap();
        let patch = if place == "patch" { [PATCH, KEY].concat() } else { PATCH.to_vec() };
        run.artifact(&path("patch.diff"), "patch", Author::Agent, &patch).unwrap();
        match place {
            "artifact" => {
                run.append(&path("backend/out"), "log", Author::Agent, &KEY[..9]).unwrap();
                run.append(&path("backend/out"), "log", Author::Agent, &KEY[9..])
                    .map(drop)
                    .unwrap();
            }
            "event" => run.event("x", Author::Agent, json!({ "said": text })).unwrap(),
            "report" => report.wire[0].reply.text = text.clone(),
            "name" => report.changed_files.push(text.clone()),
            _ => {}
        }
        let sealed = run.seal(report).unwrap();
        assert_eq!(sealed.report.status, RunStatus::Fail, "{place}");
        assert_eq!(sealed.report.failure_class, Some(FailureClass::SecretFound), "{place}");
        for file in files(&sealed.directory) {
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.windows(KEY.len()).any(|w| w == KEY), "{place}: {}", file.display());
        }
        assert_eq!(check(&sealed.directory, None).unwrap().faults, [], "{place}");
    }
}

#[test]
fn floods_are_cut_counted_and_do_not_silence_admit() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let limits =
        Limits { file_bytes: 5000, total_bytes: 6000, files: 12, events: 50, event_bytes: 64 };
    let draft = RunReport::draft("toy", "fake", &now());
    let run = Recording::begin(dir.path(), &"toy".parse().unwrap(), draft, Arc::new(clock), limits)
        .unwrap();
    let log = path("backend/stdout");
    assert_eq!(run.append(&log, "log", Author::Agent, &[b'a'; 4000]).unwrap(), Some(0));
    assert_eq!(run.append(&log, "log", Author::Agent, &[b'b'; 4000]).unwrap(), None);
    assert_eq!(run.append(&log, "log", Author::Agent, b"c").unwrap(), None);
    run.artifact(&path("agent.bin"), "copy", Author::Agent, &[0; 3000]).unwrap();
    run.event("still_here", Author::Admit, json!({ "long": "x".repeat(500) })).unwrap();
    let sealed = run.seal(RunReport::draft("toy", "fake", &now())).unwrap();
    let bytes = std::fs::read(sealed.directory.join(names::MANIFEST)).unwrap();
    let manifest: Manifest = record::parse(&bytes).unwrap();
    let of = |name: &str| manifest.files.iter().find(|e| e.path.as_str() == name).unwrap();
    assert_eq!((of("backend/stdout").size, of("backend/stdout").omitted_bytes), (5000, 3001));
    assert_eq!((of("agent.bin").size, of("agent.bin").omitted_bytes), (1000, 2000));
    assert_eq!(check(&sealed.directory, None).unwrap().faults, []);
}

#[test]
fn a_failed_recording_cannot_be_sealed_as_good() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let run = begin(dir.path(), &clock);
    fill(&run);
    assert!(run.artifact(&path("patch.diff"), "patch", Author::Agent, b"again").is_err());
    let sealed = run.seal(rehearsed()).unwrap();
    assert_eq!(sealed.report.status, RunStatus::Fail);
    assert!(sealed.report.blockers[0].contains("not whole"));
    assert!(run.event("late", Author::Admit, json!({})).is_err());
    assert!(run.seal(rehearsed()).is_err());
}

#[test]
fn strangers_in_the_directory_fail_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let run = begin(dir.path(), &clock);
    fill(&run);
    std::fs::write(run.path().join("backend/provider-timeout.txt"), "mine").unwrap();
    std::os::unix::fs::symlink("/etc", run.path().join("link")).unwrap();
    let sealed = run.seal(rehearsed()).unwrap();
    assert_eq!(sealed.report.status, RunStatus::Fail);
    assert_eq!(sealed.report.blockers.len(), 2, "{:?}", sealed.report.blockers);
    assert_eq!(check(&sealed.directory, None).unwrap().faults, []);
}

#[test]
fn what_is_changed_behind_the_recorders_back_fails_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
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
        let run = begin(dir.path(), &clock);
        fill(&run);
        attack(run.path());
        let sealed = run.seal(rehearsed()).unwrap();
        assert_eq!(sealed.report.status, RunStatus::Fail, "attack {n}");
        assert!(sealed.directory.join(names::SEAL).is_file(), "attack {n}");
    }
}

#[test]
fn two_runs_in_one_second_have_two_directories() {
    let dir = tempfile::tempdir().unwrap();
    assert_ne!(sealed(dir.path()).directory, sealed(dir.path()).directory);
}

#[test]
fn hostile_text_stays_text() {
    const EVIL: &str = "</pre><script>alert(1)</script><img src=x onerror=\"a\">'&| `x` \u{202e}\u{1b}[2J\n# h\n|x|";
    let mut report = rehearsed();
    report.fixture = EVIL.into();
    report.failure_reason = Some(EVIL.into());
    report.failure_class = Some(FailureClass::Unclassified);
    report.blockers = vec![EVIL.into()];
    report.changed_files = vec![EVIL.into()];
    report.tests_command = EVIL.into();
    report.gates[0].id = EVIL.into();
    report.gates[0].found = EVIL.into();
    report.baselines[0].note = EVIL.into();
    report.diff = Excerpt::of(format!("@@ -1 +1 @@\n-{EVIL}\n").as_bytes(), 1000);
    report.wire[0].request_line = EVIL.into();
    report.wire[0].reply_file = EVIL.into();
    report.wire[0].reply = Excerpt::of(format!("```\n````\n{EVIL}").as_bytes(), 1000);
    report.limits = vec![EVIL.into()];
    let html = page(&report);
    for bad in
        ["<script", "<img", "\u{202e}", "\u{1b}", "onerror=\"", "http://", "https://", "url("]
    {
        assert!(!html.contains(bad), "{bad}");
    }
    let md = markdown(&report);
    assert!(!md.contains('\u{1b}') && !md.contains('\u{202e}'));
    let blocks: String = md.split("## Patch").next().unwrap().into();
    assert!(!blocks.contains("<script"), "outside of fences tags are escaped");
    assert!(!blocks.lines().any(|l| l == "# h" || l == "|x|"));
    assert!(md.contains("`````\n"), "the fence is longer than any in the text");
    // The same report gives the same pages.
    assert_eq!((html, md), (page(&report), markdown(&report)));
}

#[test]
fn the_ladder_counts_verified_passes_only() {
    let dir = tempfile::tempdir().unwrap();
    let run = sealed(dir.path());
    let rows = ladder(&[check(&run.directory, None).unwrap()]);
    assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
    assert_eq!((rows[0].passed.len(), rows[0].others), (0, 1));
    assert!(rows.iter().all(|row| !row.missing.is_empty()));
    let mut made_up = check(&run.directory, None).unwrap();
    made_up.report.as_mut().unwrap().status = RunStatus::Pass;
    assert_eq!(ladder(&[made_up.clone(), made_up.clone()])[0].passed.len(), 1);
    made_up.level = None;
    assert_eq!(ladder(&[made_up])[0].passed.len(), 0);
}

#[test]
fn the_bridges_bytes_become_files_and_rows() {
    use crate::proxy::server::{Part, Recorder as _};
    let dir = tempfile::tempdir().unwrap();
    let run = Arc::new(begin(dir.path(), &clock()));
    let mut sink = WireSink::new(Arc::clone(&run));
    sink.bytes(1, Part::Received, 0, b"POST").unwrap();
    sink.bytes(1, Part::Forwarded, 0, b"{\"model\":1}").unwrap();
    sink.bytes(1, Part::Reply, 5, b"data: a\n\n").unwrap();
    sink.bytes(1, Part::Reply, 6, b"data: [DONE]\n\n").unwrap();
    let record = bridge();
    let rows = run.wire_rows(&record, 100);
    assert_eq!((rows[0].monotonic_ns, rows[0].duration_ns), (110, 20));
    assert_eq!(rows[0].request.text, "{\"model\":1}");
    assert_eq!(rows[0].reply.text, "data: a\n\ndata: [DONE]\n\n");
    assert_eq!(rows[0].reply_file, "backend/wire/0001.reply");
    let mut report = rehearsed();
    report.wire = rows;
    drop(sink);
    let sealed = run.seal(report).unwrap();
    assert!(sealed.directory.join("backend/wire/0001.received").is_file());
    assert_eq!(check(&sealed.directory, None).unwrap().faults, []);
}
