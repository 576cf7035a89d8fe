//! Told to stop, admit is gone in two seconds wherever it is, and a run is sealed: the probe of a silent endpoint, pip, the
//! judge, a download, a build, `health`. What is waited for takes half a minute or more, so a bound of a few seconds on a
//! busy machine tells one from the other; the time that it took is printed.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use admit::error::Reason;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::files::{self, script};
use crate::loopback::{Reply, Server};
use crate::model::add_model;
use crate::processes::{alive, kill_marked, wait_for};
use crate::run::{admit_loopback, bash, built, reads_back, scripted, variant};
use crate::upstream::MODEL;
use crate::util::{Run, World, tell};

pub fn silent() -> Server {
    Server::http(|_, _| Reply::Stall(Vec::new()))
}

/// Waits until a server was asked more than so often.
pub fn asked(server: &Server, before: usize) {
    wait_for("the question", Duration::from_secs(120), || server.count() > before);
}

/// Starts admit, waits until it is where it is to be stopped, sends `signal`, and gives what it left.
pub fn told(world: &World, args: &[&str], signal: Signal, ready: impl FnOnce()) -> Run {
    let child = world.start(args);
    ready();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let begin = Instant::now();
    let line = args.join(" ");
    let run = world.ended(&line, child);
    let took = begin.elapsed();
    tell(&format!("told to stop: admit {line} was gone after {} ms", took.as_millis()));
    assert!(took < Duration::from_secs(5), "{took:?}: {run}");
    let own = world.path().to_str().unwrap();
    wait_for("everything that it started", Duration::from_secs(5), || !alive(own));
    run
}

#[test]
fn killed_while_the_agents_own_tool_is_at_work_it_leaves_nobody() {
    let world = built();
    // A number that no other test sleeps for.
    let sleeps = || alive("sleep\x0086244");
    variant(&world, "killed", |turns| turns.insert(1, bash("sleep 86244")));
    let ready = || wait_for("the sleep", Duration::from_secs(120), sleeps);
    told(&world, &[&["run"][..], &scripted("killed")].concat(), Signal::KILL, ready);
    wait_for("the end of the sleep", Duration::from_secs(10), || !sleeps());
}

fn is_sealed(world: &World, run: Run) {
    assert!(run.stderr().contains("stopping: what is done so far is kept"), "{run}");
    let outcome = run.expect(i32::from(Reason::Interrupted.kind().exit_code())).json();
    let dirs = std::fs::read_dir(world.runs()).unwrap();
    let dirs: Vec<PathBuf> =
        dirs.map(|entry| entry.unwrap().path()).filter(|p| p.is_dir()).collect();
    let [dir] = &dirs[..] else { panic!("{dirs:?}") };
    let report = files::json(dir.join("report.json"));
    assert_eq!(report["failure_class"], "interrupted", "{report:#}");
    assert!(dir.join("backend/run-interrupted.txt").is_file());
    let seal = files::json(dir.join("seal.json"));
    reads_back(world, &json!({ "directory": dir, "id": seal["id"] }));
    assert_eq!((&outcome["schema"], &outcome["id"]), (&json!("admit.run/2"), &seal["id"]));
}

#[test]
fn while_the_model_is_asked() {
    let mut world = built();
    admit_loopback(&world);
    let server = silent();
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", server.url("/v1"));
    let model = format!("test/{MODEL}");
    let args = ["run", "--json", "stage2", "--provider", "understudy", "--model", &model];
    let run = told(&world, &args, Signal::TERM, || asked(&server, 0));
    is_sealed(&world, run);
    // A dry run leaves no directory, and says so too.
    let dry = [&args[..], &["--dry-run", "--probe"]].concat();
    let before = server.count();
    let run = told(&world, &dry, Signal::INT, || asked(&server, before));
    assert_eq!(run.json()["reason"], "interrupted");
}

#[test]
fn while_the_credential_helper_is_asked() {
    let mut world = built();
    let server = silent();
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", server.url("/v1"));
    // It waits by a program of its own, which bears the marker of this world as well.
    let asleep = world.path().join("asleep");
    std::os::unix::fs::symlink("/bin/sleep", &asleep).unwrap();
    let (begun, login) = (world.path().join("begun"), world.path().join("login"));
    script(&login, &format!(": > {}\n{} 86263 &\nwait", begun.display(), asleep.display()));
    let model = format!("test/{MODEL}");
    let helper = ["--network", "this-machine", "--credential", "helper", "--helper-timeout", "300"];
    let program = ["--helper", login.to_str().unwrap()];
    world.admit(&add_model(&model, &[&helper[..], &program].concat())).expect(0);
    let args = ["run", "--json", "stage2", "--provider", "understudy", "--model", &model];
    let ready = || {
        wait_for("the helper", Duration::from_secs(60), || begun.exists());
    };
    let run = told(&world, &args, Signal::TERM, ready);
    is_sealed(&world, run);
    // Killed, admit takes what it started itself with it.
    std::fs::remove_file(&begun).unwrap();
    let mut command = world.command(&args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    ready();
    let own = login.to_str().unwrap();
    assert!(alive(own));
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    wait_for("the helper's end", Duration::from_secs(5), || !alive(own));
    kill_marked(asleep.to_str().unwrap(), Signal::KILL);
    assert_eq!(server.count(), 0, "nothing is asked without a credential");
}

#[test]
fn while_pip_is_at_work() {
    let mut world = World::new();
    let server = silent();
    world.set("PIP_INDEX_URL", server.url("/simple"));
    world.set("PIP_CONFIG_FILE", "/dev/null").set("PIP_RETRIES", "20");
    let args = ["run", "--json", "stage2", "--engine", "fake"];
    let run = told(&world, &args, Signal::TERM, || asked(&server, 0));
    is_sealed(&world, run);
}

#[test]
fn while_the_judge_waits_for_the_tests() {
    let world = built();
    variant(&world, "sleeper", |_| {});
    let root = world.root().join("fixtures/sleeper");
    let test = std::fs::read_dir(root.join("workspace/tests")).unwrap().next().unwrap().unwrap();
    let text = std::fs::read_to_string(test.path()).unwrap();
    std::fs::write(test.path(), format!("import time\ntime.sleep(86247)\n{text}")).unwrap();
    world.admit(&["fixture", "sleeper", "--record"]).expect(0);
    let args = [&["run", "--json"], &scripted("sleeper")[..]].concat();
    let runs = world.runs();
    let run = told(&world, &args, Signal::TERM, || {
        wait_for("the gates", Duration::from_secs(120), || {
            let dirs = std::fs::read_dir(&runs).into_iter().flatten().flatten();
            let mut events = dirs.map(|dir| dir.path().join("events.normalized.jsonl"));
            events.any(|path| {
                std::fs::read_to_string(path).is_ok_and(|text| text.contains("gates_admitted"))
            })
        });
        std::thread::sleep(Duration::from_secs(1));
    });
    assert!(run.stderr().contains(runs.to_str().unwrap()), "where it was sealed, in words: {run}");
    is_sealed(&world, run);
}

#[test]
fn while_something_is_downloaded_or_built() {
    let mut world = World::new();
    let server = silent();
    let registry = server.url("/");
    let build = ["build", "understudy", "--json", "--registry", &registry];
    let run = told(&world, &build, Signal::TERM, || asked(&server, 0));
    assert_eq!(run.code(), None, "ended by the signal: {run}");
    let answer = run.json();
    assert_eq!((&answer["reason"], &answer["exit_code"]), (&json!("interrupted"), &json!(143)));
    // `health` builds too, and takes its scratch directory with it.
    let temp = world.path().join("tmp");
    std::fs::create_dir(&temp).unwrap();
    world.set("TMPDIR", temp.display().to_string());
    let server = silent();
    let registry = server.url("/");
    let health = ["health", "--registry", &registry];
    let run = told(&world, &health, Signal::TERM, || asked(&server, 0));
    run.refuse(i32::from(Reason::Interrupted.kind().exit_code()), "interrupted");
    assert_eq!(std::fs::read_dir(&temp).unwrap().count(), 0);
    // In the midst of a build: the sandbox ends with admit.
    let world = World::with_shared_store();
    let rebuild = ["build", "understudy", "--rebuild"];
    let run =
        told(&world, &rebuild, Signal::TERM, || std::thread::sleep(Duration::from_millis(1500)));
    assert!(run.code().is_none_or(|code| code == 0), "{run}");
}
