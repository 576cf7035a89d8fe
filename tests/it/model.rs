//! `admit model`: records of approvals, shown, added, revoked and decided; nothing half-written, no secret taken.

use serde_json::Value;

use crate::files::pipe_at;
use crate::util::{World, project};

const PAIR: &str = "qwen-local/qwen3.6-35b-a3b";

const BY: [&str; 4] =
    ["--approval-source", "the owner, in writing", "--review-trigger", "any change"];

/// Arguments that record an approval.
pub fn add_model<'a>(pair: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["model", "add", pair], &BY[..], more].concat()
}

/// The same of a served model.
fn add(pair: &str) -> Vec<&str> {
    add_model(pair, &["--credential", "none", "--network", "local-tailscale-vllm-spark1"])
}

#[test]
fn no_served_model_is_admitted_before_somebody_said_so() {
    let world = World::new();
    let list = world.admit(&["model", "list", "--json"]).expect(0).json();
    let models = list["models"].as_array().unwrap();
    assert_eq!(models.len(), 1, "{list}");
    assert_eq!(models[0]["record"]["kind"], "scripted");
    let missing = world.admit(&["model", "check", PAIR, "--json"]).expect(3).json();
    assert_eq!(missing["status"], "missing_admission");
    world.admit(&["model", "show", PAIR]).expect(2);
}

#[test]
fn a_record_is_imported_as_it_is() {
    let world = World::new();
    let file = world.path().join("record.json");
    let shipped = project().join("admissions/models/qwen-local--qwen3.6-35b-a3b.json");
    let bytes = std::fs::read(shipped).unwrap();
    std::fs::write(&file, &bytes).unwrap();
    let import = ["model", "import", file.to_str().unwrap()];
    let imported = world.admit(&[&import[..], &["--json"]].concat()).expect(0).json();
    assert_eq!((&imported["new"], &imported["pair"]), (&true.into(), &PAIR.into()));
    assert_eq!(world.admit(&["model", "show", PAIR]).expect(0).stdout().as_bytes(), bytes);
    // Nothing of a file that cannot be a record here is kept.
    let mut record: Value = serde_json::from_slice(&bytes).unwrap();
    record["model"] = "other".into();
    let key = format!("sk-{}", "a1B2c3D4".repeat(6));
    for (field, value, reason) in [
        ("status", "revoked", "bad_record"),
        ("admission_timestamp", "2999-01-01", "bad_record"),
        ("approval_source", key.as_str(), "bad_record"),
        ("more", "x", "bad_record"),
    ] {
        let mut record = record.clone();
        record[field] = value.into();
        std::fs::write(&file, record.to_string()).unwrap();
        let refused = world.admit(&import).refuse(2, reason);
        assert!(!refused.stderr().contains(&key), "{refused}");
        world.admit(&["model", "show", "qwen-local/other"]).expect(2);
    }
    world.admit(&["model", "import", "nowhere.json"]).refuse(2, "not_found");
    std::fs::remove_file(&file).unwrap();
    pipe_at(&file);
    world.admit(&import).refuse(2, "bad_argument");
}

#[test]
fn a_revoked_model_is_not_admitted_and_an_added_one_is() {
    let world = World::new();
    world.admit(&add(PAIR)).expect(0);
    world.admit(&["model", "revoke", PAIR]).expect(0);
    let checked = world.admit(&["model", "check", PAIR, "--json"]).expect(3).json();
    assert_eq!(checked["status"], "not_admitted");
    // The record is there already: replaced only when that is asked for.
    world.admit(&add(PAIR)).expect(2);
    world.admit(&["model", "check", PAIR]).expect(3);
    world.admit(&[&add(PAIR)[..], &["--replace"]].concat()).expect(0);
    world.admit(&["model", "check", PAIR]).expect(0);
    let expiring = [&add("qwen-local/Other/Model")[..], &["--expires", "2020-01-01"]].concat();
    world.admit(&expiring).expect(2);
    world.admit(&["model", "check", "qwen-local/Other/Model"]).expect(3);
}

#[test]
fn secrets_addresses_and_unknown_classes_are_not_recorded() {
    let world = World::new();
    let key = format!("sk-{}", "a1B2c3D4".repeat(6));
    for (flag, value) in [
        ("--approval-source", key.as_str()),
        ("--review-trigger", "when http://10.1.2.3:8000 changes"),
        ("--review-trigger", ""),
        ("--network", "anywhere"),
        ("--credential", "somehow"),
    ] {
        let mut args = add("qwen-local/new");
        let at = args.iter().position(|arg| *arg == flag).unwrap();
        args[at + 1] = value;
        world.admit(&args).expect(2);
        world.admit(&["model", "show", "qwen-local/new"]).expect(2);
    }
}

#[test]
fn decisions_are_recorded_once() {
    let world = World::new();
    let decide = |name: &str, source: &str| {
        let by = [source, BY[2], BY[3], "--effect", "openai-codex may be admitted", "--json"];
        let what = ["--status", "external_provider_approved", "--provider-class"];
        let start = [&["model", "decide", name], &what[..], &["external_openai_codex", BY[0]]];
        world.admit(&[&start.concat()[..], &by].concat())
    };
    let decided = decide("2026-05-31-codex", BY[1]).expect(0).json();
    assert_eq!(decided["record"]["decision_status"], "external_provider_approved");
    assert_eq!(decided["record"]["schema"], "admit.decision/1");
    decide("2026-05-31-codex", BY[1]).expect(2);
    decide("second", "").expect(2);
}
