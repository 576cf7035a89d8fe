//! `admit verify`: every check that starts nothing, the licence, and one bad lock among good ones.

use admit::check::Check;
use serde_json::{Value, json};

use crate::build::variation;
use crate::run::{built, row};
use crate::util::World;

/// The checks that hang on a binary that is there.
pub const OF_THE_BINARY: [&str; 9] = [
    "binary_executable",
    "binary_digest",
    "build_report_recorded",
    "built_by",
    "source_pin",
    "toolchain_digest",
    "binary_identity",
    "build_report_matches",
    "build_signed",
];
/// And those that look at its inputs.
const STORED: [&str; 3] = ["source_stored", "toolchain_stored", "packages_stored"];

fn finding<'v>(provider: &'v Value, id: &str) -> &'v Value {
    row(&provider["findings"], id)
}

pub fn in_state<'v>(findings: &'v Value, state: &str) -> Vec<&'v str> {
    let all = findings.as_array().unwrap().iter().filter(|finding| finding["state"] == state);
    all.map(|finding| finding["id"].as_str().unwrap()).collect()
}

#[test]
fn every_check_is_shown_and_none_starts_anything() {
    let mut world = built();
    let answer = world.admit(&["verify", "understudy", "--json"]).expect(0).json();
    let provider = &answer["providers"][0];
    assert_eq!(answer["schema"], "admit.verified/2");
    let ids = provider["findings"].as_array().unwrap().iter().map(|found| &found["id"]);
    assert!(ids.eq(Check::ALL.iter().map(|check| check.id())), "{provider:#}");
    let first = ["root_trusted", "lock_valid", "output_locked", "binary_present"];
    let holds = [&first[..], &OF_THE_BINARY, &STORED, &["licence"]].concat();
    assert_eq!(in_state(&provider["findings"], "ok"), holds);
    assert_eq!(in_state(&provider["findings"], "not_asked").len(), Check::ALL.len() - holds.len());
    for id in ["identity_shown", "model_requested", "command_shape", "response_shape", "sandbox"] {
        let found = finding(provider, id)["found"].as_str().unwrap();
        assert!(found.contains("admit "), "{id} says what to type: {found}");
    }
    let licence = &finding(provider, "licence")["found"];
    assert_eq!(*licence, "resolved as MIT OR Apache-2.0; the lock allows stage 2 only");
    world.admit(&["verify", "understudy", "--all"]).expect(0).shows("licence");
    // The model that the variables ask for is looked up; no server is asked.
    world.set("CTO_HARNESS_CASE_MODEL_PROVIDER", "nobody");
    world.set("CTO_HARNESS_CASE_MODEL", "nothing");
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", "http://model.invalid/v1");
    let answer = world.admit(&["verify", "understudy", "--json"]).expect(1).json();
    let provider = &answer["providers"][0];
    assert_eq!(answer["holds"], false);
    assert_eq!(finding(provider, "model_requested")["state"], "ok");
    assert_eq!(in_state(&provider["findings"], "failed"), ["model_admitted"]);
    assert_eq!(in_state(&provider["findings"], "not_reached"), ["model_signed", "credentials"]);
    assert_eq!(finding(provider, "endpoint_configured")["state"], "not_asked");
}

#[test]
fn a_check_that_fails_is_a_no() {
    let mut world = built();
    variation(&world, "understudy", |lock| lock["license"]["allows"] = json!([]));
    // Another program in the binary's place is a digest that does not match.
    let other = world.path().join("ca");
    std::fs::copy("/bin/true", &other).unwrap();
    world.set("CTO_HARNESS_CASE_BIN", other.to_str().unwrap());
    let answer = world.admit(&["verify", "understudy", "--json"]).expect(5).json();
    let provider = &answer["providers"][0];
    assert_eq!(in_state(&provider["findings"], "failed"), ["binary_digest", "licence"]);
    assert!(finding(provider, "licence")["found"].as_str().unwrap().ends_with("no stage"));
}

#[test]
fn one_bad_lock_does_not_hide_the_others() {
    let world = built();
    world.put("lockfiles/case.lock.json", "{ \"schema\": \"admit.lock/1\", ");
    let answer = world.admit(&["verify", "--json"]).expect(2).json();
    assert_eq!(answer["holds"], false);
    let providers = answer["providers"].as_array().unwrap();
    let named = |name: &str| providers.iter().find(|p| p["provider"] == name).unwrap();
    assert_eq!(in_state(&named("case")["findings"], "failed"), ["lock_valid"]);
    assert_eq!(finding(named("case"), "lock_valid")["reason"], "bad_record");
    assert_eq!(in_state(&named("understudy")["findings"], "failed"), [""; 0]);
    assert_eq!(finding(named("understudy"), "binary_digest")["state"], "ok");
    world.admit(&["verify", "case"]).refuse(2, "bad_record");
    world.admit(&["verify", "understudy"]).expect(0);
}

#[test]
fn without_a_build_the_missing_binary_is_the_one_cause() {
    let answer = World::new().admit(&["verify", "case", "--json"]).expect(1).json();
    let findings = &answer["providers"][0]["findings"];
    assert_eq!(in_state(findings, "failed"), ["binary_present"]);
    let held = ["root_trusted", "lock_valid", "output_locked", "licence"];
    assert_eq!(in_state(findings, "ok"), held);
    assert_eq!(in_state(findings, "not_reached"), [&OF_THE_BINARY[..], &STORED].concat());
    for found in findings.as_array().unwrap().iter().filter(|f| f["state"] == "not_reached") {
        assert!(!found["because"].as_array().unwrap().is_empty(), "{found:#}");
    }
}
