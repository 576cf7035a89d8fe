//! `admit rebuild`: the same bytes whatever is varied around the sandbox, and the variation that changes them where one
//! does. Each build takes about a second.

use serde_json::Value;

use crate::build::provider;
use crate::repo::on_mirror;
use crate::util::{Run, World};

const ALL: [&str; 8] = ["path", "time", "env", "locale", "timezone", "umask", "cpus", "home"];

/// The answer of a rebuild of a provider that [`provider`] made.
fn rebuild(world: &World, name: &str, more: &[&str]) -> Run {
    on_mirror(world, &[&["rebuild", name, "--json", "--rounds", "1"], more].concat())
}

#[test]
fn the_stand_in_is_the_same_whatever_is_around_it() {
    let world = World::with_shared_store();
    let json = world.admit(&["rebuild", "understudy", "--rounds", "2", "--json"]).expect(0).json();
    assert_eq!(json["answer"], "reproduced");
    assert_eq!(json["identical"], 2);
    assert_eq!(json["expected"]["from"], "lock");
    let left_out: Vec<_> = json["not_varied"].as_array().unwrap().iter().collect();
    for round in json["rounds"].as_array().unwrap() {
        assert_eq!(round["product"]["sha256"], json["expected"]["sha256"]);
        for name in ALL {
            let varied = round["varied"][name].is_string();
            assert!(varied || left_out.iter().any(|one| one["variation"] == name), "{name}");
        }
    }
    let values = |name: &str| [0, 1].map(|i| json["rounds"][i]["varied"][name].clone());
    for name in ["path", "env", "locale", "timezone", "umask", "home"] {
        let [first, second] = values(name);
        assert_ne!(first, second, "{name}");
    }
    // A build of the plan that is in the store stays what is known of it.
    let json = world.admit(&["build", "understudy", "--json"]).expect(0).json();
    assert_eq!(json["report"]["verification"], "locked");
}

#[test]
fn an_open_build_path_is_blamed_down_to_the_line() {
    let world = World::with_shared_store();
    let lock = ["lock", "open", "--like", "understudy", "--open-build-path"];
    world.admit(&lock).expect(0);
    let args = ["rebuild", "open", "--rounds", "2", "--vary", "umask,path", "--json"];
    let json = world.admit(&args).expect(1).json();
    assert_eq!((&json["answer"], &json["identical"]), (&"differs".into(), &0.into()));
    assert_eq!(json["blame"]["kind"], "variation");
    assert_eq!(json["blame"]["variation"], "path");
    let command: Vec<String> = serde_json::from_value(json["diff"].clone()).unwrap();
    let [admit, diff, a, b] = command.as_slice() else { panic!("{command:?}") };
    assert_eq!((admit.as_str(), diff.as_str()), ("admit", "diff"));
    let found = world.admit(&["diff", a, b, "--json"]).expect(1).json();
    let cause = &found["causes"][0];
    assert_eq!(cause["kind"], "build_path");
    assert_eq!(cause["module"], "/$bunfs/root/ca");
    assert_eq!(cause["source"], "node_modules/app-root-path/index.js");
    assert!(cause["line"]["a"].is_u64(), "{cause}");

    // What is built at a place of its own choice can be neither locked nor recorded.
    let json = world.admit(&["build", "open", "--json"]).expect(0).json();
    assert_eq!(json["report"]["verification"], "unlocked");
    assert_eq!(json["report"]["build_path"], Value::Null);
    world.admit(&["build", "open", "--record"]).refuse(3, "output_not_locked");
    world.admit(&["lock", "open", "--update"]).refuse(3, "output_not_locked").told("build.path");
}

#[test]
fn a_moved_clock_is_seen_inside_and_blamed() {
    let world = World::with_shared_store();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split('.').next().unwrap().parse().unwrap();
    // The first round's clock is a day ahead.
    let build = format!(
        "const late = require('os').uptime() > {}; \
         await Bun.$`bun build --compile main.ts --define LATE=${{late}} --outfile dist/ca`;",
        uptime + 43_200.0
    );
    let main = "console.log('Usage: ca <command> [options]\\n  run  runs ' + LATE);";
    let name = format!("clock-{}", std::process::id());
    let files = [("build.ts", build.as_str()), ("main.ts", main)];
    provider(&world, &name, &files, |_| ()).expect(0);
    let json = rebuild(&world, &name, &["--vary", "time,env"]);
    let left_out = json.json()["not_varied"].to_string();
    if left_out.contains("time") {
        // No time namespaces here: said, and nothing else changes the output.
        json.expect(0);
        return;
    }
    let json = json.expect(1).json();
    assert_eq!(json["blame"]["variation"], "time", "{json:#}");
    assert!(json["expected"]["from"] == "build", "{json:#}");
}

#[test]
fn what_differs_by_itself_and_what_does_not_build_are_told_apart() {
    let world = World::with_shared_store();
    let pid = std::process::id();
    let main = "console.log('Usage: ca <command> [options]\\n  run  runs ' + STAMP);";
    let build = "const stamp = crypto.randomUUID(); \
                 await Bun.$`bun build --compile main.ts --define STAMP='\"'${stamp}'\"' --outfile dist/ca`;";
    let name = format!("random-{pid}");
    provider(&world, &name, &[("build.ts", build), ("main.ts", main)], |_| ()).expect(0);
    let json = rebuild(&world, &name, &["--vary", "umask"]).expect(1).json();
    assert_eq!(json["blame"]["kind"], "itself", "{json:#}");
    assert!(json["diff"].is_array());

    let name = format!("broken-{pid}");
    provider(&world, &name, &[("build.ts", "process.exit(3);")], |_| ()).refuse(6, "step_failed");
    let json = rebuild(&world, &name, &["--vary", "umask"]).expect(6).json();
    assert_eq!(json["answer"], "not_rebuilt");
    assert_eq!(json["rounds"][0]["failed"]["error"]["reason"], "step_failed");
}

#[test]
fn what_cannot_be_asked_for_is_usage() {
    let world = World::with_shared_store();
    world.admit(&["rebuild", "understudy", "--vary", "path,moon"]).expect(2).told("timezone");
    world.admit(&["rebuild", "understudy", "--rounds", "0"]).expect(2);
    world.admit(&["rebuild", "nobody"]).refuse(2, "provider_not_locked");
}
