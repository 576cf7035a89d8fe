//! Ends at random instants and machines that fail: nothing is lost, nothing half-written is believed, nobody is left.
//!
//! A few rounds run always; `ADMIT_KILL_ROUNDS` asks for more. The instants follow from a constant and from how long
//! the same command takes here.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use admit::evidence::{EvidenceLimits, Level, Recording, check};
use admit::host::Clock;
use admit::record::evidence::{RunReport, RunStatus};
use admit::record::failure::FailureClass;
use admit::record::ids::Timestamp;
use rustix::process::Pid;
use serde_json::Value;

use crate::files::names;
use crate::fuzz::Dice;
use crate::processes::{family, nobody_lives};
use crate::tamper::{Copy, good, link};
use crate::util::{World, tell, var};

fn rounds() -> usize {
    var("ADMIT_KILL_ROUNDS").map_or(3, |n| n.parse().unwrap())
}

/// Starts admit, kills it after `delay`, and waits until everything that it had started is gone. Gives how many there were;
/// none where it had ended by then.
fn killed(world: &World, args: &[&str], delay: Duration) -> Option<usize> {
    let mut command = world.command(args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    let ended = child.try_wait().unwrap().is_some();
    let family = family(Pid::from_child(&child));
    if !ended {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    nobody_lives(&family);
    (!ended).then_some(family.len())
}

/// Once nobody works on a store, nothing of their work is there.
#[track_caller]
fn nothing_left(copy: &Copy) {
    for area in ["tmp", "locks", "kept", "quarantine"] {
        assert_eq!(names(copy.find("store").join(area)), [""; 0], "{area}");
    }
}

/// What `admit verify` says of the stand-in: whether it holds; what is there and wrong fails the test.
#[track_caller]
fn holds(world: &World) -> bool {
    let run = world.admit(&["verify", "understudy", "--json"]);
    let findings = run.json()["providers"][0]["findings"].as_array().unwrap().clone();
    // What is not there yet was not found; anything else that fails is there and wrong.
    let wrong = |found: &Value| found["state"] == "failed" && found["reason"] != "not_found";
    assert!(!findings.iter().any(wrong), "something half-written is there\n{run}");
    run.code() == Some(0)
}

#[test]
fn a_killed_build_loses_nothing_and_leaves_nothing() {
    let copy = Copy::new(true, false);
    let world = &copy.world;
    let forget = || {
        for name in ["store/output", "store/report", "store/packages"] {
            let _ = std::fs::remove_file(copy.find(name));
        }
    };
    forget();
    let start = Instant::now();
    world.admit(&["build", "understudy"]).expect(0);
    let whole = start.elapsed();
    let mut dice = Dice(0x00AD_317B_0115);
    let (mut kills, mut there, mut most) = (0, 0, 0);
    let rounds = rounds().max(8);
    for round in 0..rounds {
        let delay = whole.mul_f64(dice.roll(1000) as f64 / 1000.0);
        // In turns: the first build, of which nothing may be there before it is whole; and another one of what is
        // there, which may not be lost.
        let first = round % 2 == 0;
        if first {
            forget();
        } else {
            for name in ["output", "report", "packages"] {
                let place = copy.find(&format!("store/{name}"));
                let _ = std::fs::remove_file(&place);
                let good = good().world.path().join("store/v1").join(&good().store[name]);
                link(&good, &place);
            }
        }
        let args: &[&str] =
            if first { &["build", "understudy"] } else { &["build", "understudy", "--rebuild"] };
        let killed = killed(world, args, delay);
        let (was_killed, holds) = (killed.is_some(), holds(world));
        most = most.max(killed.unwrap_or(0));
        assert!(holds || first, "a build was lost: round {round}, after {delay:?} of {whole:?}");
        assert!(holds || was_killed, "round {round} ended without a build");
        kills += usize::from(was_killed);
        there += usize::from(holds);
    }
    assert!(most > 1, "no build was killed with something that it had started");
    world.admit(&["build", "understudy"]).expect(0);
    assert!(holds(world));
    nothing_left(&copy);
    tell(&format!(
        "kill: {kills} of {rounds} builds killed within {whole:?}; the build there afterwards {there} times, half of \
         one never; nothing left"
    ));
}

#[test]
fn a_killed_run_is_never_taken_for_a_whole_one() {
    let world = World::with_shared_store();
    let args = ["run", "stage2", "--engine", "fake", "--json"];
    let start = Instant::now();
    world.admit(&args).expect(0);
    let whole = start.elapsed();
    let mut dice = Dice(0x00AD_317B_0116);
    let mut kills = 0;
    for _ in 0..rounds() {
        let delay = whole.mul_f64(dice.roll(1000) as f64 / 1000.0);
        kills += usize::from(killed(&world, &args, delay).is_some());
    }
    let (mut sealed, mut unsealed) = (0, 0);
    for name in names(world.runs()) {
        let dir = world.runs().join(name);
        let run =
            world.admit(&["verify", dir.to_str().unwrap(), "--accept", "rehearsed", "--json"]);
        let checked = run.json();
        if run.code() == Some(0) {
            assert_eq!(checked["status"], "rehearsed", "{run}");
            sealed += 1;
            continue;
        }
        // Killed before the seal: no seal, and so no answer but that.
        assert_eq!(checked["level"], Value::Null, "{run}");
        assert_eq!(checked["faults"][0]["path"], "seal.json", "{run}");
        assert!(!dir.join("seal.json").exists(), "{run}");
        unsealed += 1;
    }
    let stages = world.admit(&["stages", "--json"]).expect(0).json();
    assert_eq!(stages["stages"][0]["others"], sealed, "only whole runs count: {stages}");
    // One killed after its seal is whole, too.
    assert!(sealed > rounds() - kills, "a run that was not killed is whole");
    tell(&format!(
        "kill: {kills} of {} runs killed within {whole:?}: {unsealed} without a seal and refused, {sealed} whole; \
         nobody left",
        rounds()
    ));
}

/// An answer under a failing machine is a yes, or a refusal with its reason; afterwards everything is as it was.
#[track_caller]
fn bears(copy: &Copy, what: &str) -> Option<i32> {
    let run = copy.world.under(what, &REBUILD);
    let code = run.code();
    assert!(code.is_some_and(|code| code < 70), "{what}\n{run}");
    if code != Some(0) {
        let answer = run.json();
        let places = ["/reason", "/error/reason", "/rounds/0/failed/error/reason"];
        let reason = places.into_iter().find_map(|place| answer.pointer(place)?.as_str());
        assert!(reason.is_some_and(|reason| reason != "internal"), "{what}\n{run}");
    }
    assert!(holds(&copy.world), "{what}: the earlier build is not there\n{run}");
    code
}

const REBUILD: [&str; 4] = ["build", "understudy", "--rebuild", "--json"];

#[test]
fn too_few_descriptors_and_too_small_files_are_refusals() {
    let copy = Copy::new(true, false);
    let mut dice = Dice(0x00AD_317B_0117);
    let mut ends = BTreeMap::<_, usize>::new();
    for round in 0..rounds().min(100) {
        // Numbers around what a build needs, and sizes below that of its output.
        let limit = match round % 2 {
            0 => format!("ulimit -n {}", 6 + dice.roll(60)),
            _ => format!("trap '' XFSZ; ulimit -f {}", dice.roll(150_000)),
        };
        *ends.entry(bears(&copy, &limit)).or_default() += 1;
    }
    // Who has no descriptor left cannot even clean up: the next build does.
    copy.world.admit(&["build", "understudy"]).expect(0);
    nothing_left(&copy);
    tell(&format!(
        "faults: rebuilds with few descriptors or small files, by exit code: {ends:?}; nothing lost"
    ));
}

/// A system call filter in the kernel's form: `fsync`, `fdatasync` and `syncfs` fail with EIO.
#[cfg(feature = "oracles")]
fn failing_sync() -> Vec<u8> {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    let calls = [libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_syncfs];
    let mut program = vec![(LOAD, 0, 0, 0)];
    for (i, call) in calls.iter().enumerate() {
        let to_the_end = u8::try_from(calls.len() - i).unwrap();
        program.push((EQUAL, to_the_end, 0, u32::try_from(*call).unwrap()));
    }
    program.push((RETURN, 0, 0, ALLOW));
    program.push((RETURN, 0, 0, ERRNO | libc::EIO as u32));
    let bytes = |(code, yes, no, value): (u16, u8, u8, u32)| {
        let mut out = code.to_ne_bytes().to_vec();
        out.extend([yes, no]);
        out.extend(value.to_ne_bytes());
        out
    };
    program.into_iter().flat_map(bytes).collect()
}

#[cfg(feature = "oracles")]
#[test]
fn a_disk_that_cannot_sync_is_an_error_and_nothing_is_published() {
    let copy = Copy::new(true, false);
    for name in ["store/output", "store/report", "store/packages"] {
        std::fs::remove_file(copy.find(name)).unwrap();
    }
    let filter = copy.world.path().join("filter");
    std::fs::write(&filter, failing_sync()).unwrap();
    let file = std::fs::File::open(&filter).unwrap();
    assert!(std::os::fd::AsRawFd::as_raw_fd(&file) > 2);
    let script =
        format!("exec 9< '{}'; exec bwrap --seccomp 9 --dev-bind / / \"$@\"", filter.display());
    // Only what needs no sandbox of its own: a record is written, and a source is put into the store.
    let behind = |args: &[&str]| {
        let mut command = copy.world.command_behind(&["sh", "-c", &script, "sh"], args);
        copy.world.run("without fsync", &mut command)
    };
    let record = copy.find("root/admissions/models/scripted--understudy-script.json");
    let before = std::fs::read(&record).unwrap();
    behind(&["model", "revoke", "scripted/understudy-script", "--json"]).refuse(2, "io");
    assert_eq!(std::fs::read(&record).unwrap(), before);
    std::fs::remove_dir_all(copy.find("store/source")).unwrap();
    behind(&["build", "understudy", "--json"]).refuse(2, "io");
    assert!(!copy.find("store/source").exists() && !copy.find("store/output").exists());
    // The same without the filter.
    copy.world.admit(&["build", "understudy"]).expect(0);
    copy.world.admit(&["model", "revoke", "scripted/understudy-script"]).expect(0);
    nothing_left(&copy);
}

/// A clock that jumps ten years back and forth with every look at it. It is the one that admit is given: no namespace
/// shifts the wall clock of a process.
struct Jumping(AtomicUsize);

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        let year = [2026, 2036, 2016][self.0.fetch_add(1, Ordering::Relaxed) % 3];
        format!("{year}-11-20T12:00:00Z").parse().unwrap()
    }
}

#[test]
fn a_clock_that_jumps_breaks_no_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let now = Jumping(AtomicUsize::new(0)).now();
    let fixture = "toy".parse().unwrap();
    let seen = Cell::new(0);
    for start in 0..3 {
        let clock = Arc::new(Jumping(AtomicUsize::new(start)));
        let draft = RunReport::draft("toy", "case", &now);
        let run =
            Recording::begin(dir.path(), &fixture, draft.clone(), clock, EvidenceLimits::default())
                .unwrap();
        let mut report = draft;
        report.status = RunStatus::Blocked;
        report.failure_class = None;
        report.fail(FailureClass::ModelNotAdmitted, "");
        let sealed = run.seal(report).unwrap();
        let checked = check(&sealed.directory, Some(&sealed.id)).unwrap();
        assert_eq!(checked.level, Some(Level::EqualToId), "{:?}", checked.faults);
        let said = sealed.report.limits.iter().any(|limit| limit.contains("clock was set by"));
        assert_eq!(said, sealed.report.finished != sealed.report.started, "{:?}", sealed.report);
        seen.set(seen.get() + 1);
    }
    assert_eq!(seen.get(), 3, "each run has a directory of its own, whatever its clock says");
}
