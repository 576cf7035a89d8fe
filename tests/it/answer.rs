//! An answer that cannot be written is not a yes; a reader that went away is nobody's fault.

use std::fs::{File, OpenOptions};
use std::process::Stdio;

use crate::util::{Run, World};

fn onto(world: &World, args: &[&str], stdout: impl Into<Stdio>) -> Run {
    let mut command = world.command(args);
    world.run(&args.join(" "), command.stdout(stdout).stderr(Stdio::piped()))
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// One question of every kind of answer: words, data, raw bytes, help.
const QUESTIONS: [&[&str]; 6] = [
    &["stages"],
    &["stages", "--json"],
    &["lock", "case", "--show"],
    &["model", "list"],
    &["--help"],
    &["--version"],
];

#[test]
fn a_full_disk_takes_no_answer() {
    let world = World::new();
    for args in QUESTIONS {
        onto(&world, args, full()).refuse(9, "disk_full");
    }
    // A descriptor that cannot be written takes everything, if one asks the standard library.
    for args in &QUESTIONS[..4] {
        onto(&world, args, File::open("/dev/null").unwrap()).refuse(2, "io");
    }
}

#[test]
fn no_standard_output_takes_no_answer() {
    let world = World::new();
    for args in QUESTIONS {
        world.under("exec >&-", args).expect(2).told("error[io]: the answer could not be written");
        // Who asks for it to go nowhere gets what was asked for, whatever way it was opened.
        let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        onto(&world, args, null).expect(0);
    }
}

#[test]
fn a_no_stays_the_no_that_it_is() {
    let world = World::new();
    onto(&world, &["model", "check", "nobody/nothing"], full()).expect(3).told("error[disk_full]");
    onto(&world, &["lock", "nobody", "--show", "--json"], full()).refuse(2, "provider_not_locked");
}

#[test]
fn a_reader_that_went_away_has_what_it_wanted() {
    let world = World::new();
    for args in QUESTIONS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let run = onto(&world, args, writer).expect(0);
        assert_eq!(run.stderr(), "", "{run}");
    }
}

#[test]
fn what_was_typed_steers_no_terminal_and_no_reader() {
    let world = World::new();
    let typed = ["\u{202e}evil", "a\u{9b}31m", "a\u{200b}b", "x\rhidden", "x\nerror: y"];
    let asked: [&[&str]; 5] = [
        &["build"],
        &["run", "stage2", "--model"],
        &["lock", "case", "--expect-root"],
        &["runs", "--status"],
        &["config"],
    ];
    for args in asked {
        for word in typed {
            let run = world.admit(&[args, &[word]].concat()).expect(2);
            let said = run.stderr();
            let raw = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{200b}".contains(c);
            assert!(!said.contains(raw), "{said:?}");
            assert_eq!(said.matches("\nerror: ").count(), 0, "{said}");
        }
    }
}

#[test]
fn a_usage_error_is_whole_as_data() {
    let world = World::new();
    let said = |args: &[&str]| world.admit(&[&["--json"], args].concat()).expect(2).json();
    let missing = said(&["attest", "run"]);
    let what = "the following required arguments were not provided: <TARGET>";
    assert_eq!(missing["what"], what, "{missing:#}");
    assert_eq!(missing["expected"], "admit attest <WHAT> <TARGET>");
    assert_eq!(missing["fix"], serde_json::json!(["admit attest --help"]));
    let value = said(&["runs", "--status", "passed"]);
    assert_eq!(value["expected"], "one of: pass, rehearsed, fail, blocked", "{value:#}");
    assert_eq!(value["found"], "passed");
    assert_eq!(value["fix"][1], "admit runs --help");
    // A command without the one below it: not the help's first line.
    let config = said(&["config"]);
    assert_eq!(config["what"], "more is needed than this", "{config:#}");
    assert_eq!(config["expected"], "admit config [OPTIONS] <COMMAND>");
    let bare = world.admit(&["--json"]).expect(2);
    assert!(!bare.stderr().contains("rebuild-round"), "{bare}");
    assert!(bare.json()["expected"].as_str().unwrap().contains("adopt, attest, build"), "{bare}");
}

#[test]
fn a_bill_that_cannot_be_written_whole_leaves_the_one_that_is_there() {
    let world = crate::run::built();
    let asked = ["sbom", "understudy", "--out", "bill.json"];
    world.admit(&asked).expect(0);
    let bill = world.cwd().join("bill.json");
    let before = std::fs::read(&bill).unwrap();
    world.under("ulimit -f 1", &asked).refuse(9, "limit_hit").told("ulimit -f");
    assert_eq!(std::fs::read(&bill).unwrap(), before);
    let there = crate::files::below(&world.cwd());
    assert!(there.iter().eq([&bill]), "nothing half-written beside it: {there:?}");
    let nowhere = world.admit(&["sbom", "understudy", "--out", "no/where/bill.json"]);
    assert!(nowhere.refuse(2, "not_found").stderr().contains("mkdir -p"), "{bill:?}");
}
