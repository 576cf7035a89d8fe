//! Fixtures of one's own: the guide as it is written, every fault at once, and what attacks come to.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::files::{copy, edit, json, write};
use crate::trial::{PYTHON, QUICK as TYPESCRIPT};
use crate::util::{World, project};

/// The tried attempts of a fixture: how many, and those that got through.
fn attacked(world: &World, name: &str, code: i32) -> (Value, Vec<String>) {
    let json = world.admit(&["fixture", "attack", name, "--json"]).expect(code).json();
    let tried = json["result"]["tried"].as_array().unwrap().iter();
    let through = tried.filter(|one| one["refused"] == false);
    let through = through.map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    (json, through)
}

#[test]
fn every_attempt_at_the_shipped_fixtures_is_refused() {
    let world = World::with_shared_store();
    for name in [PYTHON, TYPESCRIPT] {
        let (json, through) = attacked(&world, name, 0);
        assert_eq!(through, Vec::<String>::new(), "{name}");
        assert_eq!(json["refused"], json["attempts"]);
        assert!(json["attempts"].as_u64().unwrap() >= 30, "{json:#}");
        let classes = json["classes"].as_array().unwrap().iter();
        let classes: Vec<&str> = classes.filter_map(|c| c["class"].as_str()).collect();
        let all = [
            "nothing",
            "answers",
            "equality",
            "runner",
            "exit",
            "output",
            "resources",
            "tests",
            "steering",
            "outside",
            "commit",
        ];
        assert_eq!(classes, all);
        // What is said of them on record is what was seen now.
        let shown = world.admit(&["fixture", "show", name, "--json"]).expect(0).json();
        assert_eq!(shown["attack_stale"], false, "admit fixture attack {name} --record: {shown:#}");
        let recorded = &shown["attacked"];
        for count in ["refused", "attempts"] {
            assert_eq!(recorded[count], json[count], "{name} {count}");
        }
        for class in json["classes"].as_array().unwrap() {
            let of_class = &recorded["classes"][class["class"].as_str().unwrap()];
            assert_eq!(of_class["attempts"], class["tried"], "{name} {class}: {recorded:#}");
        }
    }
}

/// A copy of a shipped fixture among this user's own records, under the name `mine`.
fn mine(world: &World, of: &str) -> PathBuf {
    let to = world.root().join("fixtures/mine");
    drop(std::fs::remove_dir_all(&to));
    copy(&project().join("fixtures").join(of), &to);
    record(&to, |record| record["name"] = json!("mine"));
    to
}

fn record(fixture: &Path, change: impl FnOnce(&mut Value)) {
    edit(fixture.join("fixture.json"), change);
}

#[test]
fn calls_that_never_change_let_known_answers_through() {
    let world = World::with_shared_store();
    let fixture = mine(&world, TYPESCRIPT);
    record(&fixture, |record| drop(record.as_object_mut().unwrap().remove("generator")));
    let (json, through) = attacked(&world, "mine", 1);
    assert_eq!(through, ["the answers of an earlier run"]);
    assert_eq!(json["holds"], false);
    world.admit(&["fixture", "attack", "mine"]).expect(1).shows("accepted");
}

/// The checks that failed, with what was found.
fn failed(world: &World, more: &[&str]) -> Vec<(String, String)> {
    let args = [&["fixture", "check", "mine", "--json"], more].concat();
    let json = world.admit(&args).expect(1).json();
    assert_eq!(json["holds"], false);
    let findings = json["findings"].as_array().unwrap().iter();
    let failed = findings.filter(|finding| finding["state"] == "failed");
    let told = failed.map(|finding| {
        assert_ne!(finding["fix"].as_str().unwrap_or_default(), "", "{finding:#}");
        let text = |key: &str| finding[key].as_str().unwrap().to_owned();
        (text("id"), text("found"))
    });
    told.collect()
}

#[test]
fn a_check_names_every_fault_at_once() {
    let world = World::with_shared_store();
    for name in [PYTHON, TYPESCRIPT] {
        world.admit(&["fixture", "check", name]).expect(0);
    }
    let fixture = mine(&world, TYPESCRIPT);
    let solved = std::fs::read_to_string(fixture.join("solution/src/duration.ts")).unwrap();
    record(&fixture, |record| {
        record["allowed_paths"] = json!(["README.md", "tests/duration.test.ts"]);
        record["test_ids"].as_array_mut().unwrap().push(json!("tests/no.test.ts::x"));
        record["task_file"] = json!("task.md");
    });
    std::fs::write(fixture.join("workspace/.gitignore"), "").unwrap();
    std::fs::write(fixture.join("workspace/old.ts"), &solved).unwrap();
    std::fs::write(fixture.join("generator.ts"), "export const generate = () => [];").unwrap();
    for place in [".git", "lib/.git/refs"] {
        write(fixture.join("workspace").join(place).join("HEAD"), "x");
    }
    let found = failed(&world, &[]);
    for (id, part) in [
        ("fixture_record", "names a file that is not there: task.md"),
        ("fixture_record", "names a test that is not there: tests/no.test.ts::x"),
        ("fixture_record", "allows its own test to change"),
        ("fixture_record", "changes what it may not"),
        ("fixture_record", "node_modules/ in its .gitignore"),
        ("fixture_record", "a git repository in its workspace: .git"),
        ("fixture_record", "a git repository in its workspace: lib/.git"),
        ("answers_hidden", "old.ts"),
        ("calls_drawn", "no calls"),
        ("solution_accepted", "tests_1"),
    ] {
        assert!(found.iter().any(|(i, f)| i == id && f.contains(part)), "{id} {part}: {found:#?}");
    }
    let run = world.admit(&["fixture", "mine", "--record"]).refuse(2, "bad_record");
    run.told("a git repository in its workspace: .git");
}

#[test]
fn a_fixture_that_does_not_tell_good_from_bad_is_named() {
    let world = World::with_shared_store();
    let ids = |change: &dyn Fn(&Path), more: &[&str]| -> Vec<String> {
        change(&mine(&world, TYPESCRIPT));
        failed(&world, more).into_iter().map(|(id, _)| id).collect()
    };
    let write = |dir: &Path, file: &str, text: &str| write(dir.join(file), text);
    let text = |file: &str| {
        std::fs::read_to_string(project().join("fixtures").join(TYPESCRIPT).join(file)).unwrap()
    };
    let solved = text("solution/src/duration.ts");
    let random = "export const generate = () => [[\"src/duration.ts\", \"parse\", [String(Math.random())]]];";
    assert_eq!(ids(&|dir| write(dir, "generator.ts", random), &[]), ["calls_repeatable"]);
    let wrong = solved.replace("+ 0.5", "+ 2");
    let found = ids(&|dir| write(dir, "solution/src/duration.ts", &wrong), &[]);
    assert!(found.contains(&"solution_accepted".into()), "{found:?}");
    assert!(found.contains(&"cases_right".into()), "{found:?}");
    // Solved already but for a remark.
    let done = format!("// old\n{solved}");
    let found = ids(&|dir| write(dir, "workspace/src/duration.ts", &done), &[]);
    assert_eq!(found, ["answers_hidden", "unsolved_rejected", "calls_tell"]);
    let tests = "workspace/tests/duration.test.ts";
    let endless = text(tests) + "\nfor (;;) {}\n";
    let found = ids(&|dir| write(dir, tests, &endless), &["--seconds", "2"]);
    assert_eq!(found, ["solution_accepted", "tests_end"]);
}

#[test]
fn what_a_new_fixture_lacks_is_asked_for_in_one_error() {
    let world = World::with_shared_store();
    let work = world.cwd().join("work");
    write(work.join("a.txt"), "x");
    let run = world.admit(&["fixture", "new", "mine", "--from", "work"]).refuse(2, "bad_argument");
    for flag in ["--judge", "--solution", "--issue", "--generator"] {
        assert!(run.stderr().contains(flag), "{flag}: {run}");
    }
    assert!(!world.root().join("fixtures").exists());
    std::os::unix::fs::symlink("/etc/passwd", work.join("link")).unwrap();
    let run = world.admit(&["fixture", "new", "mine", "--from", "work"]).refuse(2, "bad_argument");
    run.told("link");
    std::fs::remove_file(work.join("link")).unwrap();
    // An embedded name is not covered up.
    world.admit(&["fixture", "new", PYTHON, "--from", "work"]).refuse(2, "bad_argument");
}

#[test]
fn a_fixture_of_a_commit_and_its_attack_are_on_record() {
    let world = World::with_shared_store();
    let work = project().join("fixtures").join(TYPESCRIPT);
    let text = |path: &str| std::fs::read_to_string(work.join(path)).unwrap();
    let (code, tests) =
        (text("workspace/src/duration.ts"), text("workspace/tests/duration.test.ts"));
    let repo = world.path().join("repo");
    let files = [("src/duration.ts", code.as_str()), ("tests/duration.test.ts", tests.as_str())];
    let rev = crate::repo::commit(&repo, &files);
    let from = |rev: &str| format!("file://{}@{rev}", repo.display());
    let (solution, generator) = (work.join("solution"), work.join("generator.ts"));
    let new = |from: &str| {
        let solution = solution.to_str().unwrap();
        let args = ["fixture", "new", "mine", "--from", from, "--solution", solution];
        let more = ["--generator", generator.to_str().unwrap(), "--issue", "Read durations."];
        world.admit(&[&args[..], &more].concat())
    };
    new(&from("main")).expect(2);
    new(&from(&"0".repeat(40))).refuse(4, "rev_not_in_remote");
    new(&from("newest")).expect(0).shows(&rev);
    let fixture = world.root().join("fixtures/mine");
    assert_eq!(json(fixture.join("fixture.json"))["origin"]["rev"], rev.as_str());
    world.admit(&["fixture", "attack", "mine", "--record"]).expect(0);
    let shown = |code| world.admit(&["fixture", "show", "mine", "--json"]).expect(code).json();
    let json = shown(0);
    assert_eq!(json["attack_stale"], false, "{json:#}");
    assert_eq!(json["attacked"]["refused"], json["attacked"]["attempts"]);
    assert_eq!(json["attacked"]["classes"]["steering"]["attempts"], 10);
    // What was attacked is no longer what is there, also where that is recorded.
    record(&fixture, |record| record["task"]["title"] = json!("Another title"));
    assert_eq!(shown(5)["attack_stale"], true);
    world.admit(&["fixture", "mine", "--record"]).expect(0).shows("stale");
}

#[test]
fn a_program_that_calls_start_is_one_of_the_judges() {
    let world = World::with_shared_store();
    let write = |path: &str, text: &str| write(world.cwd().join(path), text);
    write("work/double.sh", "cat\n");
    write("work/tests/run.sh", "test \"$(echo a | sh double.sh)\" = aa\n");
    write("solved/double.sh", "read -r line; echo \"$line$line\"; cat \"$@\"\n");
    let new = |name: &str, more: &[&str]| {
        let args = ["fixture", "new", name, "--from", "work", "--solution", "solved"];
        world.admit(&[&args[..], &["--issue", "Double the line."], more].concat())
    };
    let run = new("bad", &["--verify", "sh tests/run.sh", "--call", "[\"x\"]"]);
    run.refuse(2, "bad_argument").told("--program").told("--call");
    let call = ["--call", "[[\"{files}/more\"], \"x\\n\", {\"more\": \"y\"}]"];
    let verify = [&["--verify", "sh tests/run.sh"][..], &call].concat();
    for program in ["no-such-program double.sh", "./double.sh", "/etc/passwd"] {
        let run = new("bad", &[&verify[..], &["--program", program]].concat());
        run.refuse(2, "not_found").told(program.split(' ').next().unwrap());
    }
    new("mine", &[&verify[..], &["--program", "sh double.sh"]].concat()).expect(0);
    let json = world.admit(&["fixture", "show", "mine", "--json"]).expect(2).json();
    assert_eq!(json["tests"], json!(["tests/run.sh"]));
    // The right exit status of the tests is not enough: what the program prints is seen from outside.
    let fixture = world.root().join("fixtures/mine");
    std::fs::write(fixture.join("solution/double.sh"), "echo aa; cat \"$@\"\n").unwrap();
    record(&fixture, |record| {
        record["held_out"][0]["cases"][0]["expected"] = json!({"exit": 0, "stdout": "xx\ny"});
    });
    let failed: Vec<String> = failed(&world, &[]).into_iter().map(|(id, _)| id).collect();
    assert_eq!(failed, ["cases_right", "solution_accepted"]);
    record(&fixture, |record| drop(record.as_object_mut().unwrap().remove("program")));
    let failed = self::failed(&world, &[]);
    assert!(failed.len() == 1 && failed[0].1.contains("names no program"), "{failed:?}");
}

#[test]
fn the_guide_for_ones_own_fixture_works_as_it_is_written() {
    let world = World::with_shared_store();
    let guide = std::fs::read_to_string(project().join("docs/own-fixture.md")).unwrap();
    let blocks = guide.split("```").skip(1).step_by(2);
    let blocks: Vec<&str> = blocks.filter_map(|block| block.strip_prefix("sh\n")).collect();
    assert!(blocks.len() >= 5, "{blocks:?}");
    for block in blocks {
        world.shell(block).expect(0);
    }
    // A fixture that is there is not written over, and made anew where that is asked for.
    let new = ["fixture", "new", "money", "--from", "work", "--solution", "solved", "--call"];
    let what = ["money cents [\"7.25\"]", "--issue", "Make cents read 12.50 too."];
    let again = [&new[..], &what].concat();
    world.admit(&again).refuse(2, "bad_argument");
    world.admit(&[&again[..], &["--replace"]].concat()).expect(0).shows("MADE");
    let own = world.root().join("fixtures/money");
    assert!(own.join("fixture.json").exists() && !own.join("generator.py").exists());
    // The gate knows that it is another one now.
    world.admit(&["fixture", "show", "money"]).expect(5);
}
