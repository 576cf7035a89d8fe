//! Every failure class that a started provider can end in, each with its detail, marker and exit code, from a sealed run.

use std::time::Duration;

use admit::record::Record as _;
use admit::record::evidence::{EvidenceClass, RunStatus};
use admit::record::failure::FailureClass;
use admit::record::fixture::{Script, Turn};
use rustix::process::Signal;
use serde_json::json;

use crate::processes::{alive, kill_marked, wait_for};
use crate::served::void_baseline;
use crate::trial::{ASKS_FOREVER, Trial, after_probe};
use crate::upstream::{Behaviour, MODEL, Mock, MockServer, serve};

/// What else a model can do wrong is in the table of `faults.rs`; what the provider says of it, the same whatever it was, in
/// `shape.rs`.
#[test]
fn a_model_that_is_gone_leaves_no_reply() {
    let left = Trial::understudy().deserted();
    left.ends("connection_refused", "refused", 8);
    assert_eq!(left.report().evidence_class, EvidenceClass::Loopback);
    assert_eq!(left.text("backend/wire/0001.reply"), "");
    // What came stands there as it came.
    for (fault, bytes) in [
        (Behaviour::Status(401), "HTTP/1.1 401 "),
        (Behaviour::Cut, "40\r\ndata: {\"mod"),
        (Behaviour::OtherModel, "another-model"),
    ] {
        let left = Trial::understudy().served(&after_probe(fault));
        let reply = left.text("backend/wire/0001.reply");
        assert!(reply.contains(bytes), "{fault:?}: {reply}");
    }
}

#[test]
fn what_the_evidence_shows_rejects_the_run() {
    // The key in a reply: cut by the proxy, and in no file.
    let closing = Turn { text: Some(crate::upstream::key()), tool_calls: Vec::new() };
    let script = Script { schema: Script::SCHEMA.to_string(), turns: Vec::new(), closing };
    let server = MockServer::start(Mock::new(script, MODEL)).unwrap();
    let left = Trial::understudy().served(&server);
    left.ends("secret_found", "model_key", 8);
    let key = crate::upstream::key();
    assert!(left.files().values().all(|b| !b.windows(key.len()).any(|w| w == key.as_bytes())));

    // A judge that takes no change for good tells nothing, however good the work.
    let left = void_baseline(Trial::understudy()).scripted();
    left.ends("void_baseline", "", 8);
    assert!(left.report().tests_passed);
    let held: Vec<bool> =
        left.report().baselines.iter().map(|row| row.expected_accept == row.accepted).collect();
    assert_eq!(held, [true, false]);
}

#[test]
fn each_clock_ends_the_run_with_its_name() {
    let soon = Duration::from_secs(1);
    let sleeps = "exec sleep 300";
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
        // One server a run: only the first question to each is the probe.
        let left = trial.served(&after_probe(Behaviour::Silent));
        left.ends("timeout", clock, 9);
        assert_eq!(left.report().backend_exit_code, Some(124), "{clock}");
        assert_eq!(left.report().backend_exit_code_source.as_deref(), Some("clock"));
        assert_eq!(left.event("clock_expired"), json!({ "clock": clock }));
    }
}

#[test]
fn a_limit_of_the_proxy_ends_the_run_as_a_limit() {
    let server = serve(Behaviour::Plays);
    type Change = fn(&mut admit::proxy::server::ProxyLimits);
    let cases: [(&str, Change); 4] = [
        ("requests", |proxy| proxy.requests = 2),
        ("tokens", |proxy| proxy.tokens = 20),
        ("request_bytes", |proxy| proxy.request_bytes = 200),
        ("reply_bytes", |proxy| proxy.reply_bytes = 1500),
    ];
    for (limit, change) in cases {
        let mut trial = Trial::python(ASKS_FOREVER);
        change(&mut trial.proxy);
        let left = trial.served(&server);
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
    let reason = left.report().failure_reason.as_deref();
    assert_eq!(reason, Some("case engine failed with exit code 3"));
    let left = Trial::script("kill -SEGV $$").scripted();
    left.ends("engine_failed", "139", 8);
    assert_eq!(left.report().backend_exit_code_source.as_deref(), Some("signal"));
    // What no fact explains stays without a class, and fails.
    let other =
        ASKS_FOREVER.replace("test-model", "other-model").replace("while True", "for _ in 'x'");
    let left = Trial::python(&other).scripted();
    left.ends("unclassified", "the bridge refused a request: OtherModel", 8);
    let left = Trial::script("exec sleep 300").stopped(15).scripted();
    left.ends("interrupted", "signal 15", 75);
    assert_eq!(left.report().backend_exit_code, Some(143));
}

#[test]
fn an_agent_that_somebody_else_killed_says_nothing_about_itself() {
    for (signal, word) in [(Signal::KILL, "9"), (Signal::TERM, "15")] {
        let marker = format!("86{word}51");
        let sleeping = format!("sleep\0{marker}");
        let killer = std::thread::spawn(move || {
            wait_for("the agent's sleep", Duration::from_secs(120), || alive(&sleeping));
            kill_marked(&sleeping, signal);
        });
        let left = Trial::script(&format!("exec sleep {marker}")).scripted();
        killer.join().unwrap();
        left.ends("killed_from_outside", &format!("signal {word}"), 75);
        assert_eq!(left.report().backend_exit_code_source.as_deref(), Some("signal"));
    }
}

#[test]
fn the_binary_that_the_gate_saw_is_the_one_that_starts() {
    let mut trial = Trial::script("echo the admitted one");
    let state = tempfile::tempdir().unwrap();
    trial.state = state.path().to_path_buf();
    let binary = trial.binary.clone().unwrap();
    // Another program of the same length, written after the gate.
    let trial = trial.at("run", move || {
        let mut bytes = std::fs::read(&binary).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        std::fs::write(&binary, bytes).unwrap();
    });
    let Err(err) = trial.try_scripted() else { panic!("another binary was started") };
    assert_eq!(err.reason().as_str(), "digest_mismatch", "{err}");
    assert!(err.expected_value().is_some() && err.found_value().is_some(), "{err:?}");
    // The recording is sealed, and says that nothing was started.
    let dir = std::fs::read_dir(state.path().join("runs")).unwrap().next().unwrap().unwrap().path();
    let report = admit::evidence::check(&dir, None).unwrap().report.unwrap();
    assert!(!report.case_process_started);
    assert_eq!(report.status, RunStatus::Blocked);
    assert_eq!(report.failure_reason.as_deref(), Some("gate refused: digest_mismatch"));
}

#[test]
fn every_class_has_a_run_that_ends_in_it() {
    // Classes of a gate are in `run.rs`; unclassified is what no fact explains.
    let by_gate = [
        "provider_unavailable",
        "model_not_admitted",
        "local_config_unavailable",
        "network_not_allowed",
        "gate_refused",
    ];
    // No mount of a launch is a target's, so no run ends so: `run::proof` and `run::classify` show what would.
    let by_unit = ["target_inspected"];
    let here = [include_str!("classes.rs"), include_str!("agents.rs"), include_str!("faults.rs")];
    let health = include_str!("../../src/health/failing.rs");
    for class in FailureClass::ALL.iter().filter(|class| !by_unit.contains(&class.as_str())) {
        let name = class.as_str();
        let by_gate = by_gate.contains(&name);
        let tests = if by_gate { &[include_str!("run.rs")] } else { &here[..] };
        let told = tests.iter().any(|text| text.contains(&format!("\"{name}\"")));
        let watched = !by_gate && health.contains(&format!("C::{class:?},"));
        assert!(told || watched, "no run ends in {name}");
    }
}
