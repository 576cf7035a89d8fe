//! Run directories on the command line: verified, shown, counted; a changed, missing or added file told apart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use admit::evidence::{EvidenceLimits, Recording};
use admit::host::SystemClock;
use admit::record::evidence::{RunReport, RunStatus};
use admit::record::failure::FailureClass;
use admit::record::ids::Digest;
use admit::verify::runs::beside;
use serde_json::{Value, json};

use crate::files::copy;
use crate::util::World;

/// A sealed run that a gate blocked, among the runs of the world's user.
pub fn blocked(world: &World) -> (PathBuf, Digest) {
    sealed(world, RunStatus::Blocked)
}

fn sealed(world: &World, status: RunStatus) -> (PathBuf, Digest) {
    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    let mut report = RunReport::draft("toy", "case", &now);
    let (fixture, clock) = ("toy".parse().unwrap(), Arc::new(SystemClock));
    let run =
        Recording::begin(&world.runs(), &fixture, report.clone(), clock, EvidenceLimits::default());
    let run = run.unwrap();
    report.status = status;
    report.failure_class = None;
    report.fail(FailureClass::ModelNotAdmitted, "");
    report.blockers.push("model_admitted: \u{1b}[31mred".into());
    let sealed = run.seal(report).unwrap();
    (sealed.directory, sealed.id)
}

#[test]
fn intact_evidence_is_a_yes_only_of_what_is_accepted() {
    let world = World::new();
    for (status, own) in [(RunStatus::Blocked, "blocked"), (RunStatus::Fail, "fail")] {
        let (dir, _) = sealed(&world, status);
        let run = dir.to_str().unwrap();
        let asked = |accept: &[&str], code| {
            let args = [&["verify", run, "--json"], accept].concat();
            world.admit(&args).expect(code).json()
        };
        let no = asked(&[], 1);
        assert_eq!((&no["holds"], &no["accepts"]), (&json!(false), &json!(["pass"])), "{no}");
        assert_eq!(no["level"], "self-consistent");
        asked(&["--accept", "rehearsed"], 1);
        assert_eq!(asked(&["--accept", &format!("rehearsed,{own}")], 0)["holds"], true);
        let words = world.admit(&["verify", run]).expect(1);
        words.shows(&format!("admit verify {run} --accept {own}"));
        world.admit(&["verify", run, "--accept", "good"]).expect(2);
        std::fs::write(dir.join("report.md"), "").unwrap();
        assert_eq!(asked(&["--accept", own], 5)["holds"], false);
    }
    world.admit(&["verify", "understudy", "--accept", "fail"]).refuse(2, "bad_argument");
}

#[test]
fn a_run_is_verified_by_path_name_and_id() {
    let world = World::new();
    let (dir, id) = blocked(&world);
    let id = id.to_string();
    let name = dir.file_name().unwrap().to_str().unwrap();
    for run in [dir.to_str().unwrap(), name, "latest"] {
        let verify = ["verify", run, "--accept", "blocked", "--json"];
        let checked = world.admit(&verify).expect(0).json();
        assert_eq!(checked["level"], "self-consistent");
        assert_eq!(checked["id"], id);
        assert_eq!(checked["status"], "blocked");
    }
    let args = ["verify", "latest", "--accept", "blocked", "--id", &id];
    world.admit(&args).expect(0).shows("equal to the given id");
    let other = Digest::sha256(b"other").to_string();
    world.admit(&["verify", "latest", "--id", &other]).expect(5);
    world.admit(&["verify", "no-such-run"]).expect(2);
    // Enough of a name or of an id is one, and what begins two runs is none.
    for run in ["2", &id[..12]] {
        assert_eq!(world.admit(&["show", run, "--json"]).expect(0).json()["check"]["id"], id);
    }
    world.admit(&["show", "sha256:"]).expect(0);
    let (_, second) = blocked(&world);
    world.admit(&["show", "2"]).refuse(2, "bad_argument");
    let compared = ["runs", "compare", &id[..14], &second.to_string()[..14], "--json"];
    assert_eq!(world.admit(&compared).expect(0).json()["b"], second.to_string());
    // As a path it would be the directory that a person happens to be in.
    for args in [["show", ""], ["verify", ""]] {
        world.admit(&args).refuse(2, "bad_argument");
    }
}

#[test]
fn signatures_that_do_not_count_are_noted_and_refuse_where_they_are_asked_for() {
    let world = World::new();
    let (dir, _) = blocked(&world);
    let verify = |more: &[&str], code| {
        let args = [&["verify", "latest", "--accept", "blocked", "--json"], more].concat();
        world.admit(&args).expect(code).json()
    };
    assert_eq!(verify(&[], 0)["notes"], json!([]));
    let bundle = beside(&dir);
    std::fs::write(&bundle, "{}\n").unwrap();
    let noted = verify(&[], 0);
    let note = noted["notes"][0].as_str().unwrap();
    assert!(note.starts_with("its signatures do not count ("), "{note}");
    assert_eq!(noted["level"], "self-consistent");
    let refused = verify(&["--bundle", bundle.to_str().unwrap()], 5);
    assert_eq!((&refused["level"], &refused["notes"]), (&Value::Null, &json!([])));
}

#[test]
fn a_run_is_shown_without_its_control_characters() {
    let world = World::new();
    blocked(&world);
    let shown = world.admit(&["show", "--all"]).expect(0).stdout();
    for text in ["blocked", "model provider not admitted", "case_process_started", "run_started"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert!(!shown.contains('\u{1b}'));
    let shown = world.admit(&["show", "--json"]).expect(0).json();
    assert_eq!(shown["report"]["case_process_started"], false);
    let shown = world.admit(&["show", "latest", "--markdown"]).expect(0).stdout();
    assert!(shown.starts_with("# toy: blocked"), "{shown}");
}

#[test]
fn the_ladder_counts_what_verifies() {
    let world = World::new();
    let none = world.admit(&["stages", "--json"]).expect(0).json();
    assert_eq!(none["stages"].as_array().unwrap().len(), 6);
    let (dir, _) = blocked(&world);
    let one = world.admit(&["stages", "--json"]).expect(0).json();
    assert_eq!(one["stages"][0]["others"], 1);
    assert_eq!(one["stages"][0]["passed"], serde_json::json!([]));
    std::fs::write(dir.join("gate.json"), "[]").unwrap();
    let bad = world.admit(&["stages", "--json"]).expect(0).json();
    assert_eq!(bad["stages"][0]["others"], 0);
    assert_eq!(bad["unverified"].as_array().unwrap().len(), 1);
    let missing = &bad["stages"][1]["missing"];
    assert!(missing[0].as_str().unwrap().contains("Stage 2"), "{missing}");
    assert!(Path::new(&dir).is_dir());
}

#[test]
fn nothing_answers_for_what_was_not_asked() {
    let world = World::new();
    let (dir, id) = blocked(&world);
    let name = dir.file_name().unwrap().to_str().unwrap();
    // A sealed directory with a provider's name, as a cloned repository could bring it.
    let planted = world.cwd().join("understudy");
    copy(&dir, &planted);
    let asked = world.admit(&["verify", "understudy", "--json"]).json();
    assert_eq!(asked["schema"], "admit.verified/2");
    world.admit(&["verify", "./understudy", "--accept", "blocked"]).expect(0);
    // A flag of the other kind is not left unread.
    world.admit(&["verify", "understudy", "--id", &id.to_string()]).refuse(2, "bad_argument");
    world.admit(&["verify", name, "--deep"]).refuse(2, "bad_argument");
    world.admit(&["show", "--json", "--markdown"]).refuse(2, "bad_argument");
    // Another directory among the runs is no run, and not the latest.
    std::fs::create_dir(dir.with_file_name("zzz")).unwrap();
    world.admit(&["verify", "latest", "--accept", "blocked"]).expect(0);
    // A file whose name steers a terminal, in a run that was never sealed.
    std::fs::write(dir.join("a\u{1b}]0;pwned\u{7}\u{202e}"), "").unwrap();
    let shown = world.admit(&["verify", name]).expect(5).stdout();
    assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown}");
    std::fs::remove_file(dir.join("seal.json")).unwrap();
    std::fs::remove_file(dir.join("manifest.json")).unwrap();
    world.admit(&["verify", name, "--json"]).expect(1);
}

#[test]
fn a_steering_variable_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::new();
    for name in ["CTO_HARNESS_ALLOW_CASE", "CTO_HARNESS_CASE_BIN", "ADMIT_MIRROR"] {
        let mut command = world.command(&["model", "list", "--json"]);
        let run = world.run(name, command.env(name, std::ffi::OsStr::from_bytes(b"/\xff")));
        assert!(run.expect(2).stdout().contains("not UTF-8"), "{name}");
    }
}

#[test]
fn an_earlier_run_is_no_run_of_now_whatever_it_is_called() {
    let world = World::new();
    let (dir, _) = sealed(&world, RunStatus::Fail);
    let run = dir.to_str().unwrap();
    let accept = ["--json", "--accept", "fail"];
    let verify =
        |run: &str, more: &[&str]| world.plain(&[&["verify", run][..], &accept, more].concat());
    let answer = verify("latest", &[]).expect(0).json();
    assert_eq!(answer["started"], "2026-11-20T12:00:00Z");
    assert_eq!(answer["notes"], json!([]));
    for (since, code, holds) in
        [("2026-11-20T14:00:00+02:00", 0, true), ("2026-11-20T12:00:01Z", 1, false)]
    {
        assert_eq!(verify(run, &["--since", since]).expect(code).json()["holds"], holds);
    }
    verify(run, &["--since", "yesterday"]).expect(2);
    verify("understudy", &["--since", "2026-11-20"]).refuse(2, "bad_argument");
    // Once more, as if it were of today: whole, and not the latest.
    let again = dir.with_file_name("20991231T235959Z-toy-1");
    copy(&dir, &again);
    let run = verify("latest", &[]).refuse(5, "evidence_inconsistent");
    run.told(&format!("admit verify {}", again.display()));
    let whole = verify(again.to_str().unwrap(), &[]).expect(0).json();
    assert!(whole["notes"][0].as_str().unwrap().contains("an earlier run"), "{whole}");
    world.admit(&["runs"]).expect(0).shows("1 fail");
    let rows = world.admit(&["runs", "--json"]).expect(0).json();
    assert_eq!(rows["runs"][0]["fault"], "sealed under another name");
    assert_eq!(rows["runs"][1]["fault"], Value::Null);
}
