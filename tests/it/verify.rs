//! `admit verify`: the gates of a run without a run, the licence, and one bad lock among good ones.

use serde_json::Value;

use crate::util::World;

/// A world in which the stand-in is built and on record.
fn built() -> World {
    let world = World::with_shared_store();
    world.admit(&["build", "understudy", "--record"]).expect(0);
    world
}

/// Changes the stand-in's lock for this world's user.
fn edit_lock(world: &World, change: impl FnOnce(&mut Value)) {
    let bytes =
        std::fs::read(crate::util::project().join("lockfiles/understudy.lock.json")).unwrap();
    let mut lock: Value = serde_json::from_slice(&bytes).unwrap();
    change(&mut lock);
    write_lock(world, "understudy", &serde_json::to_string_pretty(&lock).unwrap());
}

fn write_lock(world: &World, name: &str, text: &str) {
    let dir = world.home().join(".local/share/admit/root/lockfiles");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(format!("{name}.lock.json")), text).unwrap();
}

/// The row `id` among the provider's `rows` or `gates`.
fn row<'v>(provider: &'v Value, list: &str, id: &str) -> &'v Value {
    let rows = provider[list].as_array().unwrap();
    rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id}: {provider:#}"))
}

#[test]
fn the_gates_of_a_run_are_shown_without_a_run() {
    let mut world = built();
    let answer = world.admit(&["verify", "understudy", "--json"]).expect(0).json();
    let provider = &answer["providers"][0];
    let gates = provider["gates"].as_array().unwrap();
    assert_eq!(gates.len(), admit::gate::Gate::ALL.len());
    for id in ["binary_digest", "binary_identity", "command_shape", "licence", "ambient_inputs"] {
        assert_eq!(row(provider, "gates", id)["status"], "pass", "{id}");
    }
    for id in ["model_requested", "network_class", "response_shape", "sandbox"] {
        assert_eq!(row(provider, "gates", id)["status"], "not_checked", "{id}");
    }
    assert_eq!(
        row(provider, "rows", "licence")["found"],
        "resolved as MIT OR Apache-2.0, allows stage 2 only"
    );
    let shown = world.admit(&["verify", "understudy"]).expect(0).stdout();
    assert!(shown.contains("gates of a run") && shown.contains("licence"), "{shown}");
    // A model that the variables ask for is looked up; nobody is asked.
    world.set("CTO_HARNESS_CASE_MODEL_PROVIDER", "nobody");
    world.set("CTO_HARNESS_CASE_MODEL", "nothing");
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", "http://model.invalid/v1");
    let answer = world.admit(&["verify", "understudy", "--json"]).expect(1).json();
    let provider = &answer["providers"][0];
    assert_eq!(answer["holds"], false);
    assert_eq!(row(provider, "gates", "model_requested")["status"], "pass");
    assert_eq!(row(provider, "gates", "model_admitted")["status"], "fail");
    assert_eq!(row(provider, "gates", "endpoint_configured")["status"], "not_checked");
}

#[test]
fn a_gate_that_refuses_is_a_no() {
    let mut world = built();
    edit_lock(&world, |lock| lock["license"]["allows"] = serde_json::json!([]));
    let answer = world.admit(&["verify", "understudy", "--json"]).expect(1).json();
    let provider = &answer["providers"][0];
    assert_eq!(row(provider, "gates", "licence")["status"], "fail");
    assert!(row(provider, "rows", "licence")["found"].as_str().unwrap().ends_with("no stage"));
    // Another program in the binary's place is a digest that does not match.
    world.set("CTO_HARNESS_CASE_BIN", "/bin/sh");
    world.admit(&["verify", "understudy"]).expect(5);
}

#[test]
fn one_bad_lock_does_not_hide_the_others() {
    let world = built();
    write_lock(&world, "case", "{ \"schema\": \"admit.lock/1\", ");
    let answer = world.admit(&["verify", "--json"]).expect(2).json();
    assert_eq!(answer["holds"], false);
    let providers = answer["providers"].as_array().unwrap();
    let named = |name: &str| providers.iter().find(|p| p["provider"] == name).unwrap();
    let bad = row(named("case"), "rows", "lock");
    assert_eq!((&bad["status"], &bad["reason"]), (&"unreadable".into(), &"bad_record".into()));
    assert_eq!(row(named("understudy"), "rows", "output")["status"], "pass");
    assert_eq!(row(named("understudy"), "gates", "binary_digest")["status"], "pass");
    world.admit(&["verify", "case"]).refuse(2, "bad_record");
    world.admit(&["verify", "understudy"]).expect(0);
}
