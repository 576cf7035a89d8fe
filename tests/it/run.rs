//! `admit run stage2` with the stand-in provider: what is refused before anything starts, and what a rehearsal leaves. How
//! each fault and each gate ends a run is held by the validators of `admit health`, all of which `health.rs` runs.

use std::path::PathBuf;

use admit::record::finding::VERIFY_ALONE;
use admit::record::wire::ReasoningField;
use serde_json::{Value, json};

use crate::files::{copy, edit, mode, shipped};
use crate::upstream::{Behaviour, MODEL, serve};
use crate::util::{World, project};
use crate::verify::{OF_THE_BINARY, in_state};

pub const SCRIPTED: [&str; 5] =
    ["stage2", "--provider", "understudy", "--model", "scripted/understudy-script"];

/// A world in which the stand-in is built and on record.
pub fn built() -> World {
    let world = World::with_shared_store();
    world.admit(&["build", "understudy", "--record"]).expect(0);
    world
}

pub fn run(world: &World, args: &[&str], code: i32) -> Value {
    world.admit(&[&["run", "--json"], args].concat()).expect(code).json()
}

/// The gate, check or other row with this id.
#[track_caller]
pub fn row<'v>(rows: &'v Value, id: &str) -> &'v Value {
    let all = rows.as_array().unwrap();
    all.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id} in {rows:#}"))
}

pub fn directory(outcome: &Value) -> PathBuf {
    PathBuf::from(outcome["directory"].as_str().unwrap())
}

/// Every sealed run can be read back, whatever its end.
#[track_caller]
pub fn reads_back(world: &World, outcome: &Value) {
    let dir = directory(outcome);
    let accept = ["--accept", "rehearsed,fail,blocked"];
    let verify = ["verify", dir.to_str().unwrap(), "--json", accept[0], accept[1]];
    let checked: Value = world.admit(&verify).expect(0).json();
    assert_eq!(checked["id"], outcome["id"]);
}

fn admission(change: impl FnOnce(&mut Value)) -> String {
    let mut record = shipped("admissions/models/scripted--understudy-script.json");
    change(&mut record);
    record.to_string()
}

/// Admits the model of the loopback server.
pub fn admit_loopback(world: &World) {
    let record = admission(|record| {
        record["provider"] = json!("test");
        record["model"] = json!(MODEL);
        record["kind"] = json!("served");
        record["credential_source_class"] = json!("pi-models-json-local-provider-no-secret");
    });
    world.put(&format!("admissions/models/test--{MODEL}.json"), record);
}

/// The fixture under another name with another script, on record as it stands then.
pub fn variant(world: &World, name: &str, change: impl FnOnce(&mut Vec<Value>)) {
    let to = world.root().join("fixtures").join(name);
    copy(&project().join("fixtures/r1-string-slugify"), &to);
    edit(to.join("fixture.json"), |fixture| fixture["name"] = json!(name));
    edit(to.join("script.json"), |script| change(script["turns"].as_array_mut().unwrap()));
    world.admit(&["fixture", name, "--record"]).expect(0);
}

pub fn bash(command: &str) -> Value {
    json!({ "tool_calls": [{ "name": "bash", "arguments": { "command": command } }] })
}

/// [`SCRIPTED`] at this fixture.
pub fn scripted(fixture: &str) -> Vec<&str> {
    [&["stage2", fixture], &SCRIPTED[1..]].concat()
}

pub fn play(world: &World, name: &str, more: &[&str], code: i32) -> Value {
    run(world, &[&scripted(name)[..], more].concat(), code)
}

#[test]
fn a_rehearsal_is_sealed_reads_back_and_is_no_pass() {
    let world = built();
    let outcome = run(&world, &SCRIPTED, 0);
    let report = &outcome["report"];
    assert_eq!(report["status"], "rehearsed");
    assert_eq!(report["evidence_class"], "scripted");
    assert_eq!(report["case_process_started"], true);
    assert_eq!(report["backend_exit_code"], 0);
    assert_eq!(report["changed_files"], json!(["strings.py"]));
    assert_eq!(report["required_events_passed"], true);
    assert_eq!(report["no_target_inspection_passed"], true);
    assert_eq!(report["case_runtime_model_provider"], "openai");
    assert_eq!(report["case_model_provider"], "scripted");
    assert_eq!(report["blockers"], json!([]));
    let baselines = report["baselines"].as_array().unwrap();
    assert_eq!(baselines.len(), 2);
    assert!(baselines.iter().all(|b| b["expected_accept"] == b["accepted"]));
    reads_back(&world, &outcome);
    let dir = directory(&outcome);
    world.admit(&["verify", dir.to_str().unwrap()]).expect(1);
    let fresh = crate::files::json(dir.join("freshness.json"));
    let seen = fresh["seen"].as_array().unwrap();
    assert!(seen.len() == 3 && seen.iter().all(|s| s["found"] == true), "{fresh:#}");
    for (file, schema) in [
        ("gate.json", "admit.gate.v3"),
        ("report.json", "admit.run-report.v3"),
        ("sandbox.json", "admit.run-sandbox.v1"),
        ("backend/bridge.json", "admit.run-bridge.v2"),
        ("backend/judgement.json", "admit.run-judgement.v1"),
        ("backend/launch.json", "admit.launch.v1"),
        ("backend/tools.json", "admit.run-tools.v3"),
        ("baseline/no_change.json", "admit.run-judgement.v1"),
    ] {
        let record = crate::files::json(dir.join(file));
        crate::schemas::validate_value(&record, &format!("{schema}.schema.json"));
    }
    // What admit did and when, in the order of its end.
    let spans = std::fs::read_to_string(dir.join("trace.jsonl")).unwrap();
    let spans: Vec<Value> = spans.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: std::collections::BTreeSet<&str> =
        spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    let all = ["agent", "baselines", "exchange", "gate", "held_out", "judge", "sandbox"];
    assert!(names.iter().eq(&all), "{names:?}");
    let schema = "admit.run-span.v1.schema.json";
    spans.iter().for_each(|span| crate::schemas::validate_value(span, schema));
    let exchanges = spans.iter().filter(|span| span["name"] == "exchange").count();
    assert_eq!(exchanges, report["wire"].as_array().unwrap().len());
    assert!(spans.iter().all(|span| span["started_ns"].as_u64() <= span["ended_ns"].as_u64()));
    // As many checks are said to have held as held, and none that was not asked.
    let events = std::fs::read_to_string(dir.join("events.normalized.jsonl")).unwrap();
    let mut events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let admitted = events.find(|event| event["kind"] == "gates_admitted").unwrap();
    assert_eq!(admitted["data"]["gates"], in_state(&report["gates"], "ok").len(), "{admitted:#}");
    // One changed byte of any file is told.
    let victim = dir.join("backend/wire/0001.reply");
    let mut bytes = std::fs::read(&victim).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&victim, bytes).unwrap();
    world.admit(&["verify", dir.to_str().unwrap()]).expect(5);
}

#[test]
fn the_fake_lane_rehearses_without_a_provider() {
    let world = World::with_shared_store();
    // Where a pass is required, a rehearsal is a no.
    let outcome = run(&world, &["stage2", "--engine", "fake", "--require", "pass"], 1);
    assert_eq!(outcome["report"]["status"], "rehearsed");
    assert_eq!(outcome["report"]["evidence_class"], "fake");
    assert_eq!(outcome["report"]["case_process_started"], false);
    // This fixture draws its calls anew.
    assert!(!outcome["report"]["limits"].to_string().contains("no generator"), "{outcome:#}");
    reads_back(&world, &outcome);
    // The patch in colours where they are asked for, and in none where nobody looks.
    world.admit(&["show", "--color", "always"]).expect(0).shows("\u{1b}[32m+").shows("\u{1b}[31m-");
    assert!(!world.admit(&["show"]).expect(0).stdout().contains('\u{1b}'));
}

#[test]
fn a_dry_run_starts_nothing_and_leaves_nothing() {
    let world = built();
    let dry = |more: &[&str]| run(&world, &[&SCRIPTED[..], &["--dry-run"], more].concat(), 0);
    assert_eq!(dry(&[])["holds"], true);
    assert_eq!(dry(&["--probe"])["probed"], true);
    assert!(!world.runs().exists());
}

#[track_caller]
pub fn is_blocked(world: &World, outcome: &Value, gate: &str, class: &str, marker: &str) {
    let report = &outcome["report"];
    assert_eq!(report["status"], "blocked", "{report:#}");
    assert_eq!(report["case_process_started"], false);
    assert_eq!(report["failure_class"], class, "{gate}: {}", report["blockers"]);
    let row = row(&report["gates"], gate);
    assert_eq!(row["state"], "failed", "{gate}: {row:#}");
    let dir = directory(outcome);
    assert!(dir.join("backend").join(marker).is_file(), "{marker}");
    assert!(!dir.join("backend/stdout.log").exists());
    reads_back(world, outcome);
}

#[test]
fn with_nothing_built_and_no_model_two_causes_are_named_and_what_hangs_on_them_is_not_reached() {
    let world = World::new();
    let outcome = run(&world, &["stage2"], 3);
    let marker = "provider-unavailable.txt";
    is_blocked(&world, &outcome, "binary_present", "provider_unavailable", marker);
    let gates = &outcome["report"]["gates"];
    assert_eq!(in_state(gates, "failed"), ["binary_present", "model_requested"]);
    let held = [
        "request",
        "stage",
        "root_trusted",
        "lock_valid",
        "output_locked",
        "licence",
        "fixture_digest",
        "task_contract",
        "tools",
        "sandbox",
    ];
    assert_eq!(in_state(gates, "ok"), held);
    assert_eq!(in_state(gates, "not_asked"), VERIFY_ALONE);
    let hangs = [
        "model_admitted",
        "model_signed",
        "credentials",
        "auth_bridge",
        "endpoint_configured",
        "network_class",
        "command_shape",
        "ambient_inputs",
        "response_shape",
    ];
    assert_eq!(in_state(gates, "not_reached"), [&OF_THE_BINARY[..], &hangs].concat());
    // Each cause is told once, and with what to type.
    let blockers = outcome["report"]["blockers"].as_array().unwrap();
    let causes = blockers.iter().map(|line| line.as_str().unwrap().split(':').next().unwrap());
    assert!(causes.eq(["binary_present", "model_requested"]), "{blockers:?}");
    for (cause, reason) in
        [("binary_present", "not_found"), ("model_requested", "model_not_admitted")]
    {
        let cause = row(gates, cause);
        assert_eq!(cause["reason"], reason);
        assert!(cause["fix"].as_str().unwrap().contains("admit "), "{cause:#}");
    }
}

#[test]
fn a_malformed_request_and_a_store_that_cannot_be_used_leave_a_blocked_run() {
    // What a run of it leaves, `admit health` looks at; what each variable cannot mean, the unit tests of requests.
    let mut world = World::new();
    world.set("CTO_HARNESS_ALLOW_CASE", "yes");
    let dry = run(&world, &["stage2", "--dry-run"], 3);
    assert_eq!(in_state(&dry["gates"], "failed"), ["request"]);
    let dry = run(&built(), &[&["stage3"], &SCRIPTED[1..], &["--dry-run"]].concat(), 3);
    assert_eq!(in_state(&dry["gates"], "failed"), ["stage"]);
    // A misspelt variable is a wish that nobody would hear.
    let mut world = World::new();
    world.set("CTO_HARNESS_CASE_MODLE", "m");
    let run = world.admit(&["run", "stage2"]).refuse(2, "bad_argument");
    run.told("did you mean CTO_HARNESS_CASE_MODEL?");
    // A store that others could have written: refused by the store's own words, with evidence.
    let world = World::with_own_store();
    std::fs::create_dir_all(world.store().join("v1")).unwrap();
    mode(world.store().join("v1"), 0o777);
    world.admit(&["run", "stage2"]).refuse(3, "store_unsafe");
    world.admit(&["show", "latest"]).expect(0).shows("store_unsafe").shows("BLOCKED");
    world.admit(&["verify", "latest", "--accept", "blocked"]).expect(0);
}

/// The fix of the one check that failed.
fn fix(outcome: &Value) -> String {
    let gates = &outcome["report"]["gates"];
    let failed = in_state(gates, "failed");
    assert_eq!(failed.len(), 1, "{failed:?}");
    row(gates, failed[0])["fix"].as_str().unwrap().to_owned()
}

#[test]
fn a_named_admission_file_admits_once_it_is_on_record_and_no_longer_when_it_is_revoked() {
    let mut world = built();
    let not_admitted = "provider-model-not-admitted.txt";
    world.admit(&["model", "check", "qwen-local/qwen3.6-35b-a3b"]).expect(3);
    world.set("CTO_HARNESS_ALLOW_CASE", "1").set("CTO_HARNESS_CASE_STAGE", "2");
    // This project's own two records, and one in the oldest form, as somebody has them.
    let oldest = json!({
        "status": "admitted", "provider": "qwen-local", "model": "oldest",
        "credential_source_class": "pi-models-json-local-provider-no-secret",
        "allowed_network_class": "local-tailscale-vllm-spark1", "approval_source": "chat",
        "admission_timestamp": "2026-05-31T21:50:00.123456-04:00", "review_trigger": "any change",
        "evidence_expectations": ["a sealed run directory"],
    });
    let shipped =
        |name: &str| std::fs::read(project().join("admissions/models").join(name)).unwrap();
    let config = (
        "endpoint_configured",
        "local_config_unavailable",
        "provider-local-config-unavailable.txt",
    );
    let auth = ("auth_bridge", "auth_unavailable", "provider-auth-unavailable.txt");
    for (provider, model, bytes, (check, class, marker)) in [
        ("qwen-local", "qwen3.6-35b-a3b", shipped("qwen-local--qwen3.6-35b-a3b.json"), config),
        ("openai-codex", "gpt-5.5", shipped("openai-codex--gpt-5.5.json"), auth),
        ("qwen-local", "oldest", oldest.to_string().into_bytes(), config),
    ] {
        let file = world.path().join(format!("{model} of ours.json"));
        std::fs::write(&file, &bytes).unwrap();
        world.set("CTO_HARNESS_CASE_MODEL_PROVIDER", provider).set("CTO_HARNESS_CASE_MODEL", model);
        world.set("CTO_HARNESS_CASE_MODEL_ADMISSION_FILE", file.to_str().unwrap());
        let asked = ["stage2", "--provider", "understudy"];
        let outcome = run(&world, &asked, 3);
        is_blocked(&world, &outcome, "model_admitted", "model_not_admitted", not_admitted);
        assert_eq!(outcome["report"]["case_model_admission_status"], "not_admitted");
        // The fix as it is printed, typed into a shell.
        let typed = fix(&outcome);
        let expected = format!("admit model import '{}'", file.display());
        assert_eq!(typed, expected);
        world.shell(&typed).expect(0);
        let outcome = run(&world, &asked, 3);
        is_blocked(&world, &outcome, check, class, marker);
        assert_eq!(outcome["report"]["case_model_admission_status"], "admitted");
        let sealed = directory(&outcome).join("backend/model-admission.json");
        assert_eq!(std::fs::read(sealed).unwrap(), bytes, "as it is on record");
        // A second import changes nothing.
        let again = world.admit(&["model", "import", file.to_str().unwrap(), "--json"]).expect(0);
        assert_eq!(again.json()["new"], false);
        let pair = format!("{provider}/{model}");
        world.admit(&["model", "revoke", &pair]).expect(0);
        let outcome = run(&world, &asked, 3);
        is_blocked(&world, &outcome, "model_admitted", "model_not_admitted", not_admitted);
        assert_eq!(outcome["report"]["case_model_admission_status"], "not_admitted");
        // What was revoked comes back only where that is said.
        world.admit(&["model", "import", file.to_str().unwrap()]).expect(2);
        let typed = fix(&outcome);
        assert_eq!(typed, format!("{expected} --replace"));
        world.shell(&typed).expect(0);
        run(&world, &asked, 3);
        world.admit(&["model", "check", &pair]).expect(0);
    }
    // A file that another could have written is not read, whatever stands on record.
    let file = world.path().join("oldest of ours.json");
    mode(&file, 0o666);
    let outcome = run(&world, &["stage2", "--provider", "understudy"], 3);
    assert_eq!(outcome["report"]["case_model_admission_status"], "invalid_admission");
    world.shell(&fix(&outcome)).expect(0);
    let outcome = run(&world, &["stage2", "--provider", "understudy"], 3);
    assert_eq!(outcome["report"]["case_model_admission_status"], "admitted");
}

#[test]
fn endpoints_are_refused_outside_of_the_network_and_shown_nowhere() {
    let mut world = built();
    let record = "admissions/models/qwen-local--qwen3.6-35b-a3b.json";
    world.put(record, std::fs::read(project().join(record)).unwrap());
    let args = [&SCRIPTED[..3], &["--model", "qwen-local/qwen3.6-35b-a3b"]].concat();
    // This machine's loopback is outside of the class; its address is in no artifact.
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", "http://127.0.0.1:45678/v1");
    let outcome = run(&world, &args, 3);
    let marker = "provider-network-not-allowed.txt";
    is_blocked(&world, &outcome, "network_class", "network_not_allowed", marker);
    assert!(!outcome.to_string().contains("45678"));
    let gate = row(&outcome["report"]["gates"], "network_class");
    assert!(gate["expected"].as_str().unwrap().contains("100.64.0.0/10"), "{gate:#}");
    // A name that does not resolve says nothing of the model or of a network.
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", "http://no-such-host.invalid/v1");
    let marker = "provider-local-config-unavailable.txt";
    let outcome = run(&world, &args, 3);
    is_blocked(&world, &outcome, "network_class", "local_config_unavailable", marker);
}

#[test]
fn a_model_that_only_reasons_blocks_before_the_start() {
    let mut world = built();
    admit_loopback(&world);
    let pair = format!("test/{MODEL}");
    let args = ["stage2", "--provider", "understudy", "--model", &pair];
    for (fault, class) in [
        (Behaviour::ReasoningOnly(ReasoningField::Reasoning), "response_shape_unavailable"),
        (Behaviour::Status(401), "auth_unavailable"),
        (Behaviour::ListsAnother, "model_mismatch"),
    ] {
        let server = serve(fault);
        world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", format!("http://{}/v1", server.addr));
        let outcome = run(&world, &args, 3);
        assert_eq!(outcome["report"]["status"], "blocked");
        let report = &outcome["report"];
        assert_eq!(report["failure_class"], class, "{fault:?}");
        assert!(!outcome.to_string().contains(&server.addr.to_string()));
        // What was asked is kept as exchange 0: the list, and the question where it came so far.
        let wire = report["wire"].as_array().unwrap();
        let asked = if matches!(fault, Behaviour::ListsAnother) { 1 } else { 2 };
        assert_eq!(wire.len(), asked, "{report:#}");
        assert!(wire.iter().all(|row| row["number"] == 0), "{report:#}");
        for (row, line) in wire.iter().zip(["GET /v1/models", "POST /v1/chat/completions"]) {
            assert_eq!(row["request_line"], line);
            let read = |field: &str| {
                let file = directory(&outcome).join(row[field].as_str().unwrap());
                String::from_utf8(std::fs::read(file).unwrap()).unwrap()
            };
            assert!(read("request_file").starts_with(&line.replace("/v1", "[base]")));
            assert!(read("reply_file").starts_with("HTTP/1.1 "));
        }
        let said = report["server_said"].as_str();
        assert_eq!(said.is_some(), class == "auth_unavailable", "{fault:?} {said:?}");
        reads_back(&world, &outcome);
    }
}

#[test]
fn a_fixture_is_the_recorded_one_to_the_byte() {
    let world = World::with_shared_store();
    // What is embedded is on record.
    world.admit(&["fixture"]).expect(0);
    let args = ["stage2", "--engine", "fake"];
    let path = "fixtures/r1-string-slugify/workspace/README.md";
    let mut text = std::fs::read(project().join(path)).unwrap();
    text[3] ^= 1;
    world.put(path, &text);
    let outcome = run(&world, &args, 5);
    is_blocked(&world, &outcome, "fixture_digest", "gate_refused", "gate-refused.txt");
    world.admit(&["fixture"]).expect(5);
    // Whoever changes it says so, and the gate then expects that.
    world.admit(&["fixture", "--record"]).expect(0);
    run(&world, &[&args[..], &["--dry-run"]].concat(), 0);
    // A fixture that nobody recorded is none to start on.
    variant(&world, "unrecorded", |_| {});
    let records = world.root().join("lockfiles/fixtures");
    std::fs::remove_file(records.join("unrecorded.json")).unwrap();
    let outcome = run(&world, &["stage2", "unrecorded", "--engine", "fake"], 3);
    is_blocked(&world, &outcome, "fixture_digest", "gate_refused", "gate-refused.txt");
    world.admit(&["fixture", "unrecorded"]).expect(2);
    // A record of another fixture is no record of this one.
    let other = records.join("r1-string-slugify.json");
    std::fs::copy(other, records.join("unrecorded.json")).unwrap();
    let outcome = run(&world, &["stage2", "unrecorded", "--engine", "fake"], 3);
    let row = row(&outcome["report"]["gates"], "fixture_digest");
    assert_eq!((&row["reason"], &row["expected"]), (&json!("bad_record"), &json!("unrecorded")));
    assert!(row["found"].as_str().unwrap().starts_with("r1-string-slugify ("), "{row:#}");
}
