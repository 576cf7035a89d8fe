//! Every failure class that a started provider can end in, each with its detail, marker and exit code, from a sealed run.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use admit::proxy::upstream::Upstream;
use admit::record::evidence::{EvidenceClass, RunStatus};
use admit::record::failure::FailureClass;
use admit::run::engine::scripted::Scripted;
use admit::run::tools::{Git, Tools};
use admit::store::Store;
use serde_json::json;

use crate::judge::{shown, the_tools};
use crate::trial::{ASKS_FOREVER, Trial};
use crate::upstream::{Fault, MODEL, Server};
use crate::util;

fn bash(command: &str) -> serde_json::Value {
    json!({ "tool_calls": [{ "name": "bash", "arguments": { "command": command } }] })
}

#[test]
fn faults_of_the_model_that_the_provider_hides() {
    // Class and detail; the wire's bytes prove each.
    let cases = [
        (Fault::Unauthorized, "auth_unavailable", "http_401", "401 Unauthorized"),
        (Fault::ServerError, "upstream_error", "http_5xx", "500 Internal Server Error"),
        (Fault::CutStream, "stream_truncated", "cut", "40\r\ndata: {\"mod"),
        (
            Fault::ReasoningContent,
            "response_shape_unavailable",
            "reasoning_only_no_close",
            "reasoning_content",
        ),
        (Fault::None, "agent_protocol", "", "hello"),
        (Fault::OtherModel, "model_mismatch", "other_model", "another-model"),
        (Fault::Gone, "connection_refused", "refused", ""),
        (Fault::BadToolArguments, "malformed_tool_call", "arguments_not_json", "{\\\"path\\\": "),
        (Fault::Empty, "empty_reply", "empty", "\" \\n\""),
    ];
    let mut seen = BTreeSet::new();
    for (fault, class, detail, wire) in cases {
        let server = match fault {
            Fault::Gone => None,
            // An agent may try such a call again for ever.
            Fault::BadToolArguments => Some(Server::once(fault)),
            fault => Some(Server::start(fault)),
        };
        let addr = server.as_ref().map_or_else(crate::upstream::nobody, |server| server.addr);
        let left = Trial::understudy().served(addr);
        left.ends(class, detail, 8);
        assert_eq!(left.report().evidence_class, EvidenceClass::Loopback);
        // What the provider itself says is the same whatever it was.
        let log = left.text("backend/events.jsonl") + &left.text("backend/stderr.log");
        assert!(log.contains("agent-protocol-error"), "{fault:?}: {log}");
        let reply = left.text("backend/wire/0001.reply");
        assert!(reply.contains(wire), "{fault:?}: {reply}");
        assert_eq!(reply.is_empty(), fault == Fault::Gone, "{fault:?}: {reply}");
        seen.insert((class, detail));
    }
    assert_eq!(seen.len(), cases.len());
}

#[test]
fn what_the_evidence_shows_rejects_the_run() {
    // The key in a reply: cut at the door, and in no file.
    let server = Server::start(Fault::EchoKeyInTwoWrites);
    let left = Trial::understudy().served(server.addr);
    left.ends("secret_found", "model_key", 8);
    let key = crate::upstream::key();
    assert!(left.files().values().all(|b| !b.windows(key.len()).any(|w| w == key.as_bytes())));

    // A directory of the host that is no tool's is mounted: visible, and so the proof is false.
    let mut trial = Trial::understudy();
    let target = ["/srv", "/mnt", "/media"].map(Path::new).into_iter().find(|dir| dir.is_dir());
    let target = target.unwrap().canonicalize().unwrap();
    let store = shown("store", Store::open(&util::shared_store()));
    let nar = the_tools().pytest.nar();
    trial.tools = Some(Tools {
        python: the_tools().python.clone(),
        git: the_tools().git.clone().map(|git| Git { prefix: target.clone(), ..git }),
        pytest: store.tree(nar).unwrap().unwrap(),
        lock: the_tools().lock.clone(),
    });
    let left = trial.scripted();
    left.ends("target_inspected", "", 8);
    assert!(!left.report().no_target_inspection_passed);
    let proof = left.json("stage2-no-target-inspection.json");
    assert_eq!(proof["targets_visible"], json!([target]));
    assert_eq!(proof["passed"], false);

    // A judge that takes no change for good tells nothing, however good the work.
    let mut trial = Trial::understudy();
    trial.baselines_held = false;
    let left = trial.scripted();
    left.ends("void_baseline", "", 8);
    assert!(left.report().tests_passed);

    let trial = Trial::understudy().turns(|turns| {
        turns[3] = bash("echo x > more.py && git add -A && git commit -q -m more");
    });
    let left = trial.scripted();
    left.ends("writes_outside", "", 8);
    assert!(!left.report().allowed_writes_passed);
    assert_eq!(left.report().changed_files, ["more.py", "strings.py"]);
}

#[test]
fn each_clock_ends_the_run_with_its_name() {
    let soon = Duration::from_secs(1);
    let sleeps = "exec sleep 300";
    let server = Server::start(Fault::Hang);
    let mut start = Trial::script(sleeps);
    start.clocks.start = soon;
    let mut first = Trial::script("echo a sign of life; exec sleep 300");
    first.clocks.first_call = soon;
    let mut idle = Trial::script(sleeps);
    idle.clocks.idle = soon;
    let mut wall = Trial::script("while :; do echo busy; sleep 0.05; done");
    wall.clocks.wall = soon;
    for (trial, clock) in
        [(start, "start"), (first, "first_model_call"), (idle, "idle"), (wall, "wall")]
    {
        let left = trial.served(server.addr);
        left.ends("timeout", clock, 9);
        assert_eq!(left.report().backend_exit_code, Some(124), "{clock}");
        assert_eq!(left.report().backend_exit_code_source.as_deref(), Some("clock"));
        assert_eq!(left.event("clock_expired"), json!({ "clock": clock }));
    }
}

#[test]
fn a_limit_of_the_door_ends_the_run_as_a_limit() {
    let server = Server::start(Fault::None);
    type Change = fn(&mut admit::proxy::server::Limits);
    let cases: [(&str, Change); 4] = [
        ("requests", |door| door.requests = 2),
        ("tokens", |door| door.tokens = 20),
        ("request_bytes", |door| door.request_bytes = 200),
        ("reply_bytes", |door| door.reply_bytes = 1500),
    ];
    for (limit, change) in cases {
        let mut trial = Trial::python(ASKS_FOREVER);
        change(&mut trial.door);
        let left = trial.served(server.addr);
        left.ends("limit_hit", limit, 9);
        assert_eq!(left.report().backend_exit_code_source.as_deref(), Some("limit"));
        let reason = left.report().failure_reason.clone().unwrap();
        assert_eq!(reason, format!("provider limit hit: {limit}"));
        assert_eq!(left.json("backend/bridge.json")["limit_hit"], limit);
    }
}

#[test]
fn the_engines_own_end_and_a_signal_to_admit() {
    let left = Trial::script("echo nothing to do; exit 3").scripted();
    left.ends("engine_failed", "3", 8);
    assert_eq!(
        left.report().failure_reason.as_deref(),
        Some("case engine failed with exit code 3")
    );
    let left = Trial::script("kill -SEGV $$").scripted();
    left.ends("engine_failed", "139", 8);
    assert_eq!(left.report().backend_exit_code_source.as_deref(), Some("signal"));
    // What no fact explains stays without a class, and fails.
    let other =
        ASKS_FOREVER.replace("test-model", "other-model").replace("while True", "for _ in 'x'");
    let left = Trial::python(&other).scripted();
    left.ends("unclassified", "the bridge refused a request: OtherModel", 8);
    let mut trial = Trial::script("exec sleep 300");
    trial.signal = 15;
    let left = trial.scripted();
    left.ends("interrupted", "signal 15", 8);
    assert_eq!(left.report().backend_exit_code, Some(143));
}

#[test]
fn the_binary_that_the_gate_saw_is_the_one_that_starts() {
    let mut trial = Trial::script("echo the admitted one");
    let mut bytes = std::fs::read(&trial.binary).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&trial.binary, bytes).unwrap();
    let model = Scripted::new(trial.fixture.script.clone(), MODEL);
    let runs = tempfile::tempdir().unwrap();
    trial.runs = runs.path().to_path_buf();
    let Err(err) = trial.run(Upstream::local(model)) else { panic!("another binary was started") };
    assert_eq!(err.reason().as_str(), "digest_mismatch", "{err}");
    assert!(err.expected_value().is_some() && err.found_value().is_some(), "{err:?}");
    // The recording that was dropped is sealed, and says that nothing was started.
    let dir = std::fs::read_dir(runs.path()).unwrap().next().unwrap().unwrap().path();
    let report = admit::evidence::check(&dir, None).unwrap().report.unwrap();
    assert!(!report.case_process_started);
    assert_eq!(report.status, RunStatus::Fail);
}

#[test]
fn every_class_has_a_run_that_ends_in_it() {
    // Classes of a gate are in `run.rs`; unclassified is what no fact explains.
    let by_gate =
        ["provider_unavailable", "model_not_admitted", "local_config_unavailable", "gate_refused"];
    let elsewhere = ["judge_rejected", "lifecycle_timeout"];
    let here = include_str!("classes.rs");
    for class in FailureClass::ALL {
        let name = class.as_str();
        let known = by_gate.contains(&name) || elsewhere.contains(&name);
        let tests = if known { include_str!("run.rs").to_owned() } else { here.to_owned() };
        let agents = include_str!("agents.rs");
        let told =
            tests.contains(&format!("\"{name}\"")) || agents.contains(&format!("\"{name}\""));
        assert!(told, "no run ends in {name}");
    }
}
