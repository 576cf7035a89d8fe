//! What a run must survive: a machine that lacks something, another run beside it, and its own death at any moment.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::processes::{Process, family, nobody_lives, wait_for};
use crate::run::{SCRIPTED, built, directory, reads_back, row, run};
use crate::util::{Run, World};
use crate::verify::in_state;

const FAKE: [&str; 3] = ["stage2", "--engine", "fake"];

#[test]
fn without_pip_or_python_nothing_starts() {
    let mut world = World::new();
    let bin = world.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let path = crate::util::var("PATH").unwrap();
    let git = path.split(':').map(|dir| Path::new(dir).join("git")).find(|git| git.is_file());
    std::os::unix::fs::symlink(git.unwrap().canonicalize().unwrap(), bin.join("git")).unwrap();
    // A Python as Debian has it without python3-pip.
    let venv = world.path().join("venv");
    let made = Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(&venv).output();
    assert!(made.unwrap().status.success());
    world.set("PATH", format!("{}:{}", venv.join("bin").display(), bin.display()));
    let tools = |outcome: &Value| {
        let report = &outcome["report"];
        assert_eq!(report["status"], "blocked");
        assert_eq!(report["failure_reason"], "gate refused: tools");
        assert_eq!(report["case_process_started"], false);
        assert_eq!(in_state(&report["gates"], "failed"), ["tools"]);
        row(&report["gates"], "tools")["found"].as_str().unwrap().to_owned()
    };
    let outcome = run(&world, &FAKE, 4);
    assert!(tools(&outcome).contains("pip"), "{outcome:#}");
    reads_back(&world, &outcome);
    world.set("PATH", bin.display().to_string());
    let outcome = run(&world, &FAKE, 3);
    assert!(tools(&outcome).contains("python3 is not on this machine"), "{outcome:#}");
    reads_back(&world, &outcome);
}

#[test]
fn a_limit_of_the_machine_is_named_and_speaks_against_nobody() {
    let world = built();
    let run = [&["run", "--json"][..], &SCRIPTED].concat();
    for (shell, found, fix) in [
        // The judge's Bun needs more, and would end by a signal as if the work had done that.
        ("ulimit -v 1500000", "RLIMIT_AS is 1536000000", "ulimit -v unlimited"),
        ("ulimit -v 100000", "RLIMIT_AS is 102400000", "ulimit -v unlimited"),
        ("ulimit -f 40000", "RLIMIT_FSIZE is 20480000", "ulimit -f unlimited"),
        // More than a payload has to have, and less than the provider's binary.
        ("ulimit -f 140000", "RLIMIT_FSIZE is 71680000", "ulimit -f unlimited"),
        ("ulimit -n 100", "RLIMIT_NOFILE is 100", "ulimit -n 4096"),
    ] {
        let run = world.under(shell, &run);
        let answer = run.json();
        let said =
            |at: &str| answer.pointer(at).unwrap_or_else(|| panic!("{at}: {run}")).to_string();
        if run.code() == Some(9) && answer["schema"] == "admit.run/2" {
            assert_eq!(in_state(&answer["report"]["gates"], "failed"), ["sandbox"], "{run}");
        } else {
            let said_no = (run.code(), answer["reason"].as_str());
            assert_eq!(said_no, (Some(9), Some("limit_hit")), "{run}");
            let (said, fixes) = (said("/found"), said("/fix"));
            assert!(said.contains(found) && fixes.contains(fix), "{found} {fix}: {said} {fixes}");
        }
        let shown = world.admit(&["show", "latest", "--json"]).expect(0).json();
        let report = &shown["report"];
        assert_eq!(report["status"], "blocked", "{shell}: {shown:#}");
        assert_eq!(report["case_process_started"], false, "{shell}");
        let blockers = report["blockers"].to_string();
        assert!(blockers.contains(found), "{shell}: {blockers}");
    }
}

/// Whatever builds says so before it begins, whichever command asked for it.
#[test]
fn a_limit_that_leaves_too_few_threads_is_named_before_anything_is_built() {
    let world = built();
    world.admit(&["key", "new", "release"]).expect(0);
    for args in [
        &["build", "understudy", "--rebuild", "--json"][..],
        &["attest", "rebuild", "understudy", "--key", "release", "--json"],
    ] {
        // With stacks of this size a few threads fit, and never as many as are tried.
        let limit = "export RUST_MIN_STACK=134217728; ulimit -v 2000000";
        let run = world.under(limit, args);
        let answer = run.json();
        assert_eq!((run.code(), answer["reason"].as_str()), (Some(9), Some("limit_hit")), "{run}");
        assert_eq!(answer["what"], "not enough threads can be started", "{run}");
    }
}

#[test]
fn a_place_for_evidence_that_cannot_be_written_is_named() {
    let world = World::with_shared_store();
    let file = world.path().join("file");
    std::fs::write(&file, "").unwrap();
    let state = file.join("state");
    let args = [&["--state", state.to_str().unwrap(), "run"][..], &FAKE].concat();
    world.admit(&args).refuse(2, "io").told(state.to_str().unwrap());
}

#[test]
fn two_runs_at_once_know_nothing_of_each_other() {
    let world = World::with_shared_store();
    let args = [&["run", "--json"][..], &FAKE].concat();
    let both = [(); 2].map(|()| world.start(&args));
    let mut seen = BTreeSet::new();
    for child in both {
        let outcome = world.ended("run", child).expect(0).json();
        assert_eq!(outcome["report"]["status"], "rehearsed");
        reads_back(&world, &outcome);
        assert!(seen.insert((directory(&outcome), outcome["id"].to_string())));
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// Its directory is there, and the gates are being looked at.
    Gates,
    /// The baselines are under way, with the provider beside them where there is more than one processor.
    Baseline,
    /// The provider is about to start, or at work.
    Provider,
}

pub fn runs(world: &World) -> BTreeSet<PathBuf> {
    let dir = std::fs::read_dir(world.runs());
    dir.map_or(BTreeSet::new(), |dir| dir.map(|e| e.unwrap().path()).collect())
}

/// Starts a run, waits for the moment, and sends the signal. Gives the run, its directory, and who lived before.
fn signalled(world: &World, moment: Moment, signal: Signal) -> (Run, PathBuf, Vec<Process>) {
    let before = runs(world);
    let args = [&["run", "--json"][..], &SCRIPTED].concat();
    let mut child = world.start(&args);
    let fresh = || runs(world).difference(&before).next().cloned();
    wait_for("the run directory", Duration::from_secs(60), || fresh().is_some());
    let mut words = BufReader::new(child.stderr.take().unwrap());
    let stage = match moment {
        Moment::Gates => None,
        Moment::Baseline => Some("baseline"),
        Moment::Provider => Some("run"),
    };
    let mut line = String::new();
    while stage.is_some_and(|stage| line.trim_start().split(' ').next() != Some(stage)) {
        line.clear();
        assert!(words.read_line(&mut line).unwrap() > 0, "it ended before {moment:?}");
    }
    let family = family(Pid::from_child(&child));
    kill_process(Pid::from_child(&child), signal).unwrap();
    let dir = fresh().unwrap();
    std::thread::spawn(move || std::io::copy(&mut words, &mut std::io::sink()));
    (world.ended("signalled", child), dir, family)
}

#[test]
fn told_to_stop_at_any_moment_it_says_so_and_starts_nothing_more() {
    let world = built();
    for moment in [Moment::Gates, Moment::Baseline, Moment::Provider] {
        let (ended, dir, family) = signalled(&world, moment, Signal::TERM);
        let outcome = ended.expect(75).json();
        let report = &outcome["report"];
        assert_eq!(report["failure_class"], "interrupted", "{moment:?}: {report:#}");
        if moment == Moment::Gates {
            assert_eq!(report["case_process_started"], false, "{moment:?}");
        }
        assert!(dir.join("backend/run-interrupted.txt").is_file(), "{moment:?}");
        reads_back(&world, &outcome);
        nobody_lives(&family);
    }
}

#[test]
fn killed_at_any_moment_it_leaves_nobody_and_no_seal() {
    let world = built();
    for moment in [Moment::Gates, Moment::Baseline, Moment::Provider] {
        let (_, dir, family) = signalled(&world, moment, Signal::KILL);
        nobody_lives(&family);
        let checked = world.admit(&["verify", dir.to_str().unwrap(), "--json"]).expect(1).json();
        assert_eq!(checked["faults"][0]["reason"], "run_not_sealed", "{moment:?}");
        assert!(!Path::new(&dir).join("seal.json").exists());
    }
    // The next run starts clean.
    assert_eq!(run(&world, &FAKE, 0)["report"]["status"], "rehearsed");
}
