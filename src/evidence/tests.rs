use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::*;
use crate::host::FixedClock;
use crate::proxy::api;
use crate::proxy::probe::{self, Kept, Probe, ProbeOutcome};
use crate::record::admission::Api;
use crate::record::evidence::{
    Baseline, EvidenceClass, RequiredEvent, RunReport, RunStatus, WireRow,
};
use crate::record::failure::FailureClass;
use crate::record::finding::{Finding, State};
use crate::record::ids::{Digest, RelPath, Timestamp};
use crate::record::sealed::{
    Author, Excerpt, Freshness, Manifest, NoTargetProof, NonceSeen, Seal, Visible,
};
use crate::record::wire::{ExchangeKind, ProxyRecord, ReplyFacts, UpstreamKind, WireRecord};
use crate::record::{self, Record as _};
use crate::secrets::{Known, Secret};

mod changed;
mod disk;
mod failed;
mod hostile;
mod pages;

const REQUEST: &[u8] = b"POST [base]/chat/completions HTTP/1.1\r\n\r\n{}";
const REPLY: &[u8] = b"data: [DONE]";
const PATCH: &[u8] = b"diff --git a/s.py b/s.py\n--- a/s.py\n+++ b/s.py\n@@ -1 +1 @@\n-a\n+b\n";

fn path(text: &str) -> RelPath {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

pub(crate) fn begin(dir: &Path) -> Recording {
    begin_within(dir, EvidenceLimits::default())
}

fn begin_within(dir: &Path, limits: EvidenceLimits) -> Recording {
    let draft = RunReport::draft("toy", "fake", &now());
    let clock = Arc::new(FixedClock(now()));
    Recording::begin(dir, &"toy".parse().unwrap(), draft, clock, limits).unwrap()
}

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
        model_record_sha256: Some(record::digest(&admission())),
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
        gates: vec![Finding::ok("stage", "2", "2")],
        launch_digest: Some(Digest::sha256(b"launch")),
        baselines: vec![baseline("no_change", false), baseline("reference_patch", true)],
        limits: vec!["a limit".into()],
        wire: vec![WireRow {
            number: 1,
            monotonic_ns: 5,
            duration_ns: 7,
            request_line: "POST /v1/chat/completions".into(),
            status: Some(200),
            class: "complete".into(),
            request_file: "backend/wire/0001.request".into(),
            reply_file: "backend/wire/0001.reply".into(),
            request: Excerpt::of(REQUEST, 100),
            reply: Excerpt::of(REPLY, 100),
        }],
        ..RunReport::draft("toy", "case", &now())
    }
}

fn proof() -> NoTargetProof {
    NoTargetProof {
        schema: NoTargetProof::SCHEMA.to_string(),
        passed: true,
        visible: vec![Visible { path: "/work".into(), kind: "fixture".into(), digest: None }],
        bridge_requests: 1,
        probes_held: true,
        fixture_commits: 1,
        canary_searched: 3,
        does_not_prove: vec!["what the model remembers".into()],
        ..NoTargetProof::default()
    }
}

fn proxied() -> ProxyRecord {
    let exchange = WireRecord {
        exchange: 1,
        kind: ExchangeKind::Chat,
        started_ns: 10,
        ended_ns: 30,
        request_bytes: 11,
        forwarded_sha256: Some(Digest::sha256(b"{}")),
        stream: true,
        messages: 1,
        ..WireRecord::default()
    };
    ProxyRecord {
        exchanges: vec![exchange],
        request_bytes: 11,
        reply_bytes: 24,
        replies_without_usage: 1,
        duration_ns: 40,
        ..ProxyRecord::new("m".into(), UpstreamKind::Scripted, None, false)
    }
}

fn admission() -> serde_json::Value {
    json!({ "provider": "p", "model": "m" })
}

/// What a finished run's report is held against.
fn evidence(run: &Recording, report: &RunReport, probe: Option<&Probe>) {
    let gates = GateRecord {
        provider: "understudy".into(),
        admitted: true,
        probe: probe.cloned(),
        ..GateRecord::undecided(report)
    };
    run.record(names::GATE, "gates", &gates).unwrap();
    let binary = report.case_binary_sha256.as_ref().unwrap();
    let sandbox = json!({ "stable": { "verified": [{ "sha256": binary }] } });
    run.record(names::SANDBOX, "sandbox", &sandbox).unwrap();
    let judged = |passed: bool| json!([{ "passed": true }, { "passed": passed }]);
    run.record("backend/judgement.json", "judgement", &judged(true)).unwrap();
    run.record(names::MODEL_RECORD, "model_admission", &admission()).unwrap();
    run.record("baseline/no_change.json", "baseline", &judged(false)).unwrap();
    run.record("baseline/reference_patch.json", "baseline", &judged(true)).unwrap();
    run.record("backend/bridge.json", "bridge", &proxied()).unwrap();
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
    fill_with(run, &rehearsed(), None);
}

fn fill_with(run: &Recording, report: &RunReport, probe: Option<&Probe>) {
    evidence(run, report, probe);
    run.artifact(&path("backend/wire/0001.request"), "request", Author::Admit, REQUEST).unwrap();
    run.artifact(&path("backend/wire/0001.reply"), "reply", Author::Model, REPLY).unwrap();
    run.event("model_call", Author::Admit, json!({ "n": 1 })).unwrap();
    run.event("phase_end", Author::Agent, json!({ "outcome": "completed" })).unwrap();
    run.artifact(&path("patch.diff"), "patch", Author::Agent, PATCH).unwrap();
    run.append(&path("backend/stdout.log"), "log", Author::Agent, b"one\n").unwrap();
    run.append(&path("backend/stdout.log"), "log", Author::Agent, b"two\n").unwrap();
    run.record(names::NO_TARGET, "no_target_inspection", &proof()).unwrap();
    run.span("gate", 0).unwrap();
}

fn filled(dir: &Path) -> Recording {
    let run = begin(dir);
    fill(&run);
    run
}

fn sealed(dir: &Path) -> Sealed {
    filled(dir).seal(rehearsed()).unwrap()
}

fn probed(dir: &Path) -> Sealed {
    let (run, probe) = (begin(dir), probe());
    let mut report = rehearsed();
    report.wire_api = Some("openai-chat".into());
    report.gates.push(Finding::ok("response_shape", "an answer", "an answer"));
    report.wire.splice(0..0, run.probed(&probe).unwrap());
    fill_with(&run, &report, Some(&probe));
    run.seal(report).unwrap()
}

fn probe() -> Probe {
    let api = api::list::of(Api::OpenaiChat);
    let kept = |list: bool, reply: String| {
        let (line, body) = probe::asked(api, "m", list).unwrap();
        let head =
            format!("{line}\r\nHost: [endpoint]\r\nAuthorization: Bearer [withheld]\r\n\r\n");
        Kept {
            list,
            begun: Instant::now(),
            request: [head.as_bytes(), &body].concat(),
            reply: reply.into_bytes(),
            facts: ReplyFacts { status: Some(200), ..ReplyFacts::default() },
        }
    };
    let reply = |kind: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let event = json!({ "model": "m", "choices": [
        { "index": 0, "delta": { "content": "ready" }, "finish_reason": "stop" }] });
    let events = format!("data: {event}\n\ndata: [DONE]\n\n");
    let list = json!({ "object": "list", "data": [{ "id": "m" }, { "id": "n" }] }).to_string();
    let answer = reply("text/event-stream", &events);
    Probe {
        model: "m".into(),
        outcome: ProbeOutcome::Ready,
        models_listed: 2,
        verdict: Some(probe::read_again(api, "m", answer.as_bytes())),
        facts: None,
        secret_seen: None,
        max_tokens: Some(1024),
        kept: vec![kept(true, reply("application/json", &list)), kept(false, answer)],
    }
}

fn alone<T>(make: fn(&Path) -> T) -> (tempfile::TempDir, T) {
    let dir = tempfile::tempdir().unwrap();
    let run = make(dir.path());
    (dir, run)
}

fn faults(dir: &Path) -> Vec<Fault> {
    check(dir, None).unwrap().faults
}

/// What is wrong first with a run directory.
#[track_caller]
fn wrong(dir: &Path) -> (FaultKind, String) {
    let checked = check(dir, None).unwrap();
    assert_eq!(checked.level, None);
    (checked.faults[0].kind, checked.faults[0].path.clone())
}

fn parsed<T: record::Record + serde::de::DeserializeOwned>(dir: &Path, name: &str) -> T {
    record::parse(&std::fs::read(dir.join(name)).unwrap()).unwrap()
}

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
fn two_runs_in_one_second_have_two_directories() {
    let dir = tempfile::tempdir().unwrap();
    assert_ne!(sealed(dir.path()).directory, sealed(dir.path()).directory);
}

#[test]
fn the_ladder_counts_verified_passes_only() {
    let (_dir, run) = alone(sealed);
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
fn the_bytes_of_the_wire_become_files_and_rows() {
    use crate::proxy::server::{Part, Recorder as _};
    let dir = tempfile::tempdir().unwrap();
    let run = Arc::new(begin(dir.path()));
    let mut sink = WireSink::new(Arc::clone(&run));
    sink.bytes(1, Part::Received, 0, b"POST").unwrap();
    sink.bytes(1, Part::Forwarded, 0, b"{\"model\":1}").unwrap();
    sink.bytes(1, Part::Reply, 5, b"data: a\n\n").unwrap();
    sink.bytes(1, Part::Reply, 6, b"data: [DONE]\n\n").unwrap();
    let record = proxied();
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
    assert_eq!(faults(&sealed.directory), []);
}
