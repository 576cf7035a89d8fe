//! What a run must survive: a machine that lacks something, another run beside it, and its own death at any moment.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::run::{SCRIPTED, built, directory, reads_back, run};
use crate::util::{Run, World, wait_for};

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
        let rows = report["gates"].as_array().unwrap();
        let failed = crate::verify::in_state(&report["gates"], "failed");
        assert_eq!(failed, ["tools"]);
        let tools = rows.iter().find(|row| row["id"] == "tools").unwrap();
        tools["found"].as_str().unwrap().to_owned()
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
        let script = format!("{shell}; exec \"$@\"");
        let output = world.command_behind(&["sh", "-c", &script, "sh"], &run).output().unwrap();
        let run = Run::of(shell, world.cwd(), output);
        let answer = run.json();
        let said =
            |at: &str| answer.pointer(at).unwrap_or_else(|| panic!("{at}: {run}")).to_string();
        if run.code() == Some(9) && answer["schema"] == "admit.run/2" {
            let failed = crate::verify::in_state(&answer["report"]["gates"], "failed");
            assert_eq!(failed, ["sandbox"], "{run}");
        } else {
            assert_eq!(
                (run.code(), answer["reason"].as_str()),
                (Some(9), Some("limit_hit")),
                "{run}"
            );
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

#[test]
fn a_place_for_evidence_that_cannot_be_written_is_named() {
    let world = World::with_shared_store();
    let file = world.path().join("file");
    std::fs::write(&file, "").unwrap();
    let state = file.join("state");
    let args = [&["--state", state.to_str().unwrap(), "run"][..], &FAKE].concat();
    let refused = world.admit(&args).refuse(2, "io");
    assert!(refused.stderr().contains(state.to_str().unwrap()), "{refused}");
}

#[test]
fn two_runs_at_once_know_nothing_of_each_other() {
    let world = World::with_shared_store();
    let args = [&["run", "--json"][..], &FAKE].concat();
    let start = || world.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let both = [start().unwrap(), start().unwrap()];
    let mut seen = BTreeSet::new();
    for child in both {
        let output = child.wait_with_output().unwrap();
        let outcome = Run::of("run", world.cwd(), output).expect(0).json();
        assert_eq!(outcome["report"]["status"], "rehearsed");
        reads_back(&world, &outcome);
        assert!(seen.insert((directory(&outcome), outcome["id"].to_string())));
    }
}

/// A process by its id and the time of its start, so that a new one of the same id is not taken for it.
pub type Process = (u32, String);

fn stat(pid: u32) -> Option<(u32, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; what follows its last bracket does not (proc_pid_stat(5)).
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // A process that ended and that nobody has waited for is not alive.
    (fields[0] != "Z").then(|| Some((fields[1].parse().ok()?, fields[19].to_owned())))?
}

/// Everything that descends from `root`, itself included.
pub fn family(root: u32) -> BTreeSet<Process> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some((parent, start)) = stat(pid) {
            all.push((pid, parent, start));
        }
    }
    let mut known = BTreeSet::from([root]);
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|(pid, parent, _)| known.contains(parent) && !known.contains(pid))
            .map(|(pid, ..)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        known.extend(more);
    }
    all.into_iter().filter(|(pid, ..)| known.contains(pid)).map(|(pid, _, s)| (pid, s)).collect()
}

fn lives((pid, start): &Process) -> bool {
    stat(*pid).is_some_and(|(_, now)| now == *start)
}

/// When a run is told to stop.
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
    let dir = world.home().join(".local/state/admit/runs");
    std::fs::read_dir(dir).map_or(BTreeSet::new(), |dir| dir.map(|e| e.unwrap().path()).collect())
}

/// Starts a run, waits for the moment, and sends the signal. Gives the run, its directory, and who lived before.
fn signalled(world: &World, moment: Moment, signal: Signal) -> (Run, PathBuf, BTreeSet<Process>) {
    let before = runs(world);
    let args = [&["run", "--json"][..], &SCRIPTED].concat();
    let mut child: Child =
        world.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
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
    let family = family(child.id());
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
    let dir = fresh().unwrap();
    std::thread::spawn(move || std::io::copy(&mut words, &mut std::io::sink()));
    let output = child.wait_with_output().unwrap();
    (Run::of("signalled", world.cwd(), output), dir, family)
}

#[track_caller]
pub fn nobody_lives(family: &BTreeSet<Process>) {
    wait_for("the end of all of it", Duration::from_secs(20), || !family.iter().any(lives));
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
