//! A run that somebody stops: a whole group that is told to end, as schedulers do it, at any instant; an agent or its
//! sandbox that is killed from outside. It says nothing about the agent, and is sealed in time.

use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::files::script;
use crate::fuzz::Dice;
use crate::processes::{alive, family, marked, nobody_lives, send, stat, wait_for};
use crate::run::{SCRIPTED, built};
use crate::survive::runs;
use crate::trial::Trial;
use crate::util::{World, not_run, var};

#[test]
fn a_group_that_is_told_to_end_at_any_instant_is_interrupted_and_sealed_within_two_seconds() {
    let world = built();
    let args = [&["run", "--json"][..], &SCRIPTED].concat();
    let begin = Instant::now();
    world.admit(&args).expect(0);
    let whole = begin.elapsed();
    let mut dice = Dice(0x00AD_317B_0751);
    // What schedulers, shells and limits send, one in each round.
    let signals = [
        Signal::TERM,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::XCPU,
        Signal::HUP,
        Signal::ALARM,
        Signal::PROF,
        Signal::VTALARM,
        Signal::from_named_raw(libc::SIGIO).unwrap(),
    ];
    let (mut stopped, mut slowest) = (0, Duration::ZERO);
    while stopped < signals.len() {
        let signal = signals[stopped];
        let before = runs(&world);
        let child = world.start(&args);
        let pid = Pid::from_child(&child);
        let fresh = || runs(&world).difference(&before).next().cloned();
        wait_for("the run directory", Duration::from_secs(60), || fresh().is_some());
        std::thread::sleep(whole.mul_f64(dice.roll(900) as f64 / 1000.0));
        let dir = fresh().unwrap();
        let family = family(pid);
        // In any order: the agent may go first, or admit.
        let agents_first = dice.roll(2) == 0;
        // The file system's clock, which the seal's time is of.
        let written = |path: PathBuf| path.metadata().unwrap().modified().unwrap();
        let now = || {
            std::fs::write(world.path().join("now"), "").unwrap();
            written(world.path().join("now"))
        };
        let told = now();
        if !agents_first {
            send(pid, signal);
        }
        for (member, _) in family.iter().filter(|(member, _)| *member != pid) {
            send(*member, signal);
        }
        if agents_first {
            send(pid, signal);
        }
        let all_told = now();
        // And once more, as the shell of a job passes on what it was told itself.
        std::thread::sleep(Duration::from_millis(dice.roll(60) as u64));
        send(pid, signal);
        let ended = world.ended("stopped", child);
        nobody_lives(&family);
        let sealed = written(dir.join("seal.json"));
        // A run that was sealed before is what it was.
        if sealed <= all_told && ended.code() == Some(0) {
            continue;
        }
        let outcome = ended.expect(75).json();
        assert_eq!(outcome["report"]["failure_class"], "interrupted", "{signal:?}: {outcome:#}");
        assert!(dir.join("backend/run-interrupted.txt").is_file());
        world.admit(&["verify", dir.to_str().unwrap(), "--accept", "fail"]).expect(0);
        (stopped, slowest) = (stopped + 1, slowest.max(sealed.duration_since(told).unwrap()));
    }
    assert!(slowest < Duration::from_secs(2), "sealed after {slowest:?}");
}

#[test]
fn what_a_signal_ended_before_the_start_is_no_refusal() {
    let program = |name: &str, text: &str| {
        let mut world = World::new();
        let bin = world.path().join("bin");
        script(bin.join(name), text);
        let path = var("PATH").unwrap_or_default();
        world.set("PATH", format!("{}:{path}", bin.display()));
        world
    };
    // Who stops a group may come to admit after half a second.
    let late = "(sleep 0.5; kill -TERM $PPID) >/dev/null 2>&1 &";
    for (name, script, class) in [
        ("python3", "kill -TERM $$".to_owned(), "killed_from_outside"),
        ("git", "kill -KILL $$".to_owned(), "killed_from_outside"),
        ("python3", format!("{late}\nkill -TERM $$"), "interrupted"),
        // What ends by a fault of its own is a refusal as before.
        ("python3", "kill -SEGV $$".to_owned(), "gate_refused"),
    ] {
        let world = program(name, &script);
        let code = if class == "gate_refused" { 3 } else { 75 };
        let args = ["run", "--json", "stage2", "--engine", "fake"];
        let outcome = world.plain(&args).expect(code).json();
        assert_eq!(outcome["report"]["failure_class"], class, "{script}: {outcome:#}");
        assert_eq!(outcome["report"]["case_process_started"], false);
        let dir = outcome["directory"].as_str().unwrap();
        let accept = if code == 3 { "blocked" } else { "fail" };
        world.admit(&["verify", dir, "--accept", accept]).expect(0);
        let dry = world.plain(&[&args[..], &["--dry-run"]].concat()).expect(code);
        assert!(code == 3 || dry.json()["reason"] == class, "{dry}");
    }
}

/// A memory cgroup of the test's own, removed at the end.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Nothing where this user may make none.
    fn of(limit: &str) -> Option<Self> {
        let name = format!("admit-test-{}", std::process::id());
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let all = groups.lines().filter_map(|line| {
            // Hierarchy, controllers, path (cgroups(7)).
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            match controllers {
                "" => Some(("/sys/fs/cgroup", path, "memory.max")),
                "memory" => Some(("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes")),
                _ => None,
            }
        });
        let mut places = all.flat_map(|(mount, path, file)| {
            [format!("{mount}{path}/{name}"), format!("{mount}/{name}")].map(|dir| (dir, file))
        });
        places.find_map(|(dir, file)| {
            let group = std::fs::create_dir(&dir).ok().map(|()| Self(dir.into()))?;
            std::fs::write(group.0.join(file), limit).ok().map(|()| group)
        })
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_run_in_a_small_memory_cgroup_is_killed_from_outside_and_the_counter_is_the_detail() {
    let Some(group) = MemoryGroup::of("120M") else {
        return not_run("a memory cgroup: this user may make none");
    };
    let world = built();
    let enter = format!("echo $$ > {}/cgroup.procs || exit", group.0.display());
    let args = [&["run", "--json"][..], &SCRIPTED].concat();
    let outcome = world.under(&enter, &args).expect(75).json();
    let report = &outcome["report"];
    assert_eq!(report["failure_class"], "killed_from_outside", "{report:#}");
    let why = report["blockers"][0].as_str().unwrap();
    assert!(why.contains("memory.") && why.contains(" oom_kill 0 to "), "{why}");
    let dir = outcome["directory"].as_str().unwrap();
    world.admit(&["verify", dir, "--accept", "fail"]).expect(0);
}

#[test]
fn a_sandbox_whose_init_somebody_killed_says_nothing_about_the_agent() {
    let sleeping = "sleep\086271";
    let killer = std::thread::spawn(move || {
        wait_for("the agent's sleep", Duration::from_secs(120), || alive(sleeping));
        let agent = marked(sleeping).next().unwrap();
        send(stat(agent).unwrap().0.unwrap(), Signal::KILL);
    });
    let left = Trial::script("exec sleep 86271").scripted();
    killer.join().unwrap();
    left.ends("killed_from_outside", "", 75);
}

/// Kills the first process that has `marker` in its arguments and descends from `admit`; whether there was one.
fn kill_one(admit: &mut Child, marker: &str) -> bool {
    while admit.try_wait().unwrap().is_none() {
        let family = family(Pid::from_child(admit));
        if let Some(pid) = marked(marker).find(|pid| family.iter().any(|(one, _)| one == pid)) {
            send(pid, Signal::KILL);
            return true;
        }
    }
    false
}

#[test]
fn no_process_of_the_judge_that_somebody_killed_speaks_against_the_agent() {
    let world = built();
    let args = ["run", "--json", "stage2", "r2-duration", "--engine", "fake"];
    for marker in ["bun\0test\0./tests/", "driver.mjs"] {
        let mut killed = false;
        // It may have ended by itself between the look and the signal, or before any look.
        for _ in 0..5 {
            let mut child = world.start(&args);
            killed = kill_one(&mut child, marker);
            // A judge's process is started anew.
            let report = world.ended(marker, child).expect(0).json()["report"].clone();
            assert!(report["failure_class"].is_null(), "{marker}: {report:#}");
            if killed {
                break;
            }
        }
        assert!(killed, "{marker}: no such process was caught");
    }
}
