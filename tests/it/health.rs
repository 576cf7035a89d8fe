//! `admit health` and `admit validate`: every fault ends as it must, each gate alone decides what it is watched for, and
//! what cannot be run is no pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::build::variation;
use crate::files::names;
use crate::processes::wait_for;
use crate::schemas::validate_value;
use crate::stop::told;
use crate::util::World;

/// A world whose temporary files have a directory of their own.
fn world() -> (World, PathBuf) {
    let mut world = World::with_shared_store();
    let temp = world.path().join("tmp");
    std::fs::create_dir(&temp).unwrap();
    world.set("TMPDIR", temp.display().to_string());
    (world, temp)
}

#[track_caller]
fn empty(dir: &Path) {
    assert_eq!(names(dir), [""; 0], "left behind");
}

#[test]
fn every_fault_ends_as_it_must_and_each_gate_alone_decides_its_own() {
    let (mut world, temp) = world();
    // What the user's own runs are configured by reaches no validator.
    world.set("CTO_HARNESS_CASE_STAGE", "7");
    world.set("ADMIT_MODEL_KEY", "k");
    let run = world.admit(&["health", "--json", "--quiet"]);
    assert_eq!(run.code(), Some(0), "{}", faults(&run.json()));
    let report = run.json();
    assert_eq!(report["passed"], true);
    assert_eq!(report["counts"]["not_run"], 0);
    validate_value(&report, "admit.health.v2.schema.json");
    // Switch off one gate after the other: exactly the validators of that gate answer otherwise.
    let [mut watch, mut decides] = [BTreeMap::<&str, BTreeSet<&str>>::new(), BTreeMap::new()];
    for row in report["validators"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        if let Some(gate) = row["gate"].as_str() {
            watch.entry(gate).or_default().insert(name);
        }
        for gate in row["decided_by"].as_array().unwrap() {
            decides.entry(gate.as_str().unwrap()).or_default().insert(name);
        }
    }
    assert_eq!(watch, decides);
    assert!(watch.len() >= 20, "{watch:?}");
    // Nothing of it is a run of the user's, and nothing is left.
    assert!(!world.home().join(".local/state/admit").exists());
    assert!(!world.root().exists());
    empty(&temp);
}

fn faults(report: &Value) -> String {
    let rows = report["validators"].as_array().unwrap().iter();
    let bad: Vec<_> = rows.filter(|row| row["outcome"] != "passed").collect();
    format!("{bad:#?}")
}

#[test]
fn what_could_not_be_run_is_no_pass() {
    let (mut world, temp) = world();
    // No toolchain in the store, and nobody at the registry: the stand-in cannot be built.
    world.set("ADMIT_STORE", world.store().display().to_string());
    let args =
        ["validate", "provider-adapter", "--json", "--quiet", "--registry", "http://127.0.0.1:9/"];
    let run = world.admit(&args).expect(4);
    let report = run.json();
    assert_eq!(report["set"], "provider-adapter");
    assert_eq!(report["passed"], false);
    let rows = report["validators"].as_array().unwrap();
    assert!(rows.len() > 20 && rows.iter().all(|row| row["outcome"] == "not_run"), "{report:#}");
    assert!(rows.iter().all(|row| row["name"] != "fake_lane_rehearses"));
    empty(&temp);
}

#[test]
fn told_to_stop_it_says_so_and_leaves_nothing() {
    let (world, temp) = world();
    // The first world stands: the validators have begun.
    let below = |dir: PathBuf| {
        std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path())
    };
    let begun = |own: PathBuf| own.join("work/fake_lane_rehearses").exists();
    let ready = || {
        let all = || below(temp.clone()).flat_map(below);
        wait_for("a validator", Duration::from_secs(300), || all().any(begun));
    };
    told(&world, &["health"], Signal::TERM, ready).refuse(75, "interrupted");
    empty(&temp);
}

#[test]
fn a_provider_on_record_is_held_to_the_same() {
    let (world, temp) = world();
    let junit = world.path().join("health.xml");
    let only = [
        "lock_invalid_blocks",
        "altered_build_record_blocks",
        "binary_digest_mismatch_blocks",
        "qwen_local_openai_compat_allows_case",
        "wrong_work_rejected",
    ];
    let health = |name: &str| {
        let args = ["health", "--provider", name, "--json", "--quiet", "--junit"];
        let chosen: Vec<&str> = only.iter().flat_map(|one| ["--only", one]).collect();
        world.admit(&[&args[..], &[junit.to_str().unwrap()], &chosen].concat())
    };
    // The stand-in's program under another name, which no lock and no record inside admit has.
    variation(&world, "another", |_| {});
    health("another").refuse(3, "not_recorded").told("admit build another --record");
    let built = world.admit(&["build", "another", "--record", "--json"]).expect(0).json();
    let path = built["recorded"].as_str().unwrap();
    let good = std::fs::read(path).unwrap();
    // A record of something else is none of it.
    let mut bad = crate::files::json(Path::new(path));
    bad["bun_sha256"] = "0".repeat(64).into();
    std::fs::write(path, bad.to_string()).unwrap();
    health("another").refuse(3, "not_recorded").told("bun_sha256");
    std::fs::write(path, good).unwrap();
    let ran = health("another");
    assert_eq!(ran.code(), Some(0), "{}", faults(&ran.json()));
    let report = ran.json();
    assert_eq!((&report["provider"], &report["set"]), (&"another".into(), &"chosen".into()));
    let names: BTreeSet<&str> = (report["validators"].as_array().unwrap().iter())
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, BTreeSet::from(only));
    let suite = std::fs::read_to_string(&junit).unwrap();
    assert!(suite.contains("admit.health.another"), "{suite}");
    // One whose agent is another than Case, and one that no lock names.
    variation(&world, "else", |lock| {
        lock["run"] = crate::command::run(|_| {});
    });
    drop(health("nobody").refuse(2, "provider_not_locked"));
    drop(health("else").refuse(2, "bad_argument"));
    empty(&temp);
}
