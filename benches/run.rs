//! Figures of the run: a dry run against SHA-256 of the binary by OpenSSL, the fake lane against the same number of
//! pytest runs by hand, and 32 runs at a time. `cargo bench --bench run`.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints figures and stops at the first fault"
)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Times each thing is done, in turns; the fastest counts, since everything else on the machine only adds.
const ROUNDS: usize = 5;

/// Runs at a time.
const MANY: usize = 32;

/// Pytest runs of one run of the fake lane: two baselines and the work itself, each judged twice.
const PYTESTS: usize = 6;

const MODEL: &str = "scripted/understudy-script";

struct Bench {
    dir: tempfile::TempDir,
    /// `PATH` with the directory of Python itself in front: where `python3` is a version manager's script, each question to it
    /// costs several shells, which are no part of what is compared.
    path: OsString,
}

#[expect(clippy::disallowed_methods, reason = "a bench reads its own surroundings")]
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn main() {
    let bench = Bench { dir: tempfile::tempdir().expect("a directory"), path: python_first() };
    // Builds, records and verifies the embedded stand-in, and installs the pinned pytest.
    bench.ok(&mut bench.admit(&["demo"]));
    dry(&bench);
    fake(&bench);
    added(&bench);
    many(&bench);
}

fn python_first() -> OsString {
    let ask = ["-I", "-c", "import os, sys; print(os.path.dirname(sys.executable), end='')"];
    let output = Command::new("python3").args(ask).output().expect("python3 starts");
    let directory = PathBuf::from(String::from_utf8(output.stdout).expect("a path"));
    let path = var("PATH").expect("PATH");
    let all = std::iter::once(directory).chain(std::env::split_paths(&path));
    std::env::join_paths(all).expect("a list of directories")
}

impl Bench {
    /// Python itself, and whatever `PATH` has by that name.
    fn pythons(&self) -> [(&'static str, OsString); 2] {
        let found = var("PATH").expect("PATH");
        [("itself", self.path.clone()), ("as PATH has it", found.into())]
    }

    fn admit(&self, args: &[&str]) -> Command {
        let mut admit = Command::new(env!("CARGO_BIN_EXE_admit"));
        admit.args(args).current_dir(self.dir.path()).env("HOME", self.dir.path());
        admit.env("PATH", &self.path);
        for (name, below) in [("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "state")] {
            admit.env(name, self.dir.path().join(below));
        }
        if let Some(home) = var("HOME") {
            admit.env("NPM_CONFIG_USERCONFIG", Path::new(&home).join(".npmrc"));
        }
        admit
    }

    fn stage2(&self, more: &[&str]) -> Command {
        let mut args = vec!["run", "stage2", "--provider", "understudy", "--model", MODEL];
        args.extend(more);
        self.admit(&args)
    }

    fn ok(&self, command: &mut Command) -> Duration {
        let start = Instant::now();
        let output = command.stdin(Stdio::null()).output().expect("a program starts");
        let took = start.elapsed();
        assert!(
            output.status.success(),
            "{command:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        took
    }

    /// The admitted binary in the store.
    fn binary(&self) -> PathBuf {
        let output = self.admit(&["build", "understudy", "--json"]).output().expect("admit starts");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        json["output"].as_str().expect("a path").into()
    }
}

/// Both sides in turns; the fastest of each.
fn compare(
    mut ours: impl FnMut() -> Duration,
    mut theirs: impl FnMut() -> Duration,
) -> [Duration; 2] {
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        best = [best[0].min(ours()), best[1].min(theirs())];
    }
    best
}

fn ratio(what: &str, [ours, theirs]: [Duration; 2], against: &str, goal: f64) {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!(
        "{what}: {ours:.3?}, {against}: {theirs:.3?}, ratio {ratio:.2} (goal: at most {goal})"
    );
}

fn dry(bench: &Bench) {
    let binary = bench.binary();
    let size = std::fs::metadata(&binary).expect("the binary").len() / 1_000_000;
    for (python, path) in bench.pythons() {
        let best = compare(
            || bench.ok(bench.stage2(&["--dry-run"]).env("PATH", &path)),
            || bench.ok(Command::new("openssl").args(["dgst", "-sha256"]).arg(&binary)),
        );
        let what = format!("dry run, {size} MB binary, python3 {python}");
        ratio(&what, best, "openssl dgst -sha256", 1.5);
    }
}

/// By hand: the fixture's workspace with the reference patch, and pytest as admit installed it.
fn fake(bench: &Bench) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/r1-string-slugify");
    let work = bench.dir.path().join("hand");
    let copy = format!(
        "cp -r {from}/workspace {to} && cd {to} && git apply {from}/reference.patch",
        from = fixture.display(),
        to = work.display()
    );
    bench.ok(Command::new("sh").args(["-c", &copy]));
    let found = Command::new("find")
        .arg(bench.dir.path().join("data"))
        .args(["-type", "d", "-name", "_pytest", "-print", "-quit"])
        .output()
        .expect("find starts");
    let package = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    let prefix = package.parent().expect("pytest's prefix").to_owned();
    for (python, path) in bench.pythons() {
        let by_hand = || {
            let mut pytest = Command::new("python3");
            pytest.env("PATH", &path).current_dir(&work);
            pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]);
            bench.ok(pytest.env("PYTHONPATH", &prefix).env("PYTHONDONTWRITEBYTECODE", "1"))
        };
        let best = compare(
            || bench.ok(bench.stage2(&["--engine", "fake"]).env("PATH", &path)),
            || (0..PYTESTS).map(|_| by_hand()).sum(),
        );
        let what = format!("fake lane with both baselines, python3 {python}");
        ratio(&what, best, &format!("{PYTESTS} pytest runs by hand"), 1.15);
    }
}

/// What a rehearsal takes besides the agent's own time, and eight of them two at a time, with each judge.
fn added(bench: &Bench) {
    for (judge, fixture, goal) in
        [("Python", "r1-string-slugify", 1.2), ("Bun", "r2-duration", 0.5)]
    {
        let mut best = [Duration::MAX; 2];
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            let output = bench.stage2(&[fixture, "--json"]).output().expect("admit starts");
            let whole = begin.elapsed();
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let directory = json["directory"].as_str().expect("a run directory");
            let added = whole.saturating_sub(agents_own(Path::new(directory)));
            best = [best[0].min(added), best[1].min(whole)];
        }
        println!(
            "{judge} judge, one rehearsal: {:.2?}, of it not the agent's own {:.2?} (goal: at most {goal} s)",
            best[1], best[0]
        );
        let begin = Instant::now();
        let runs = |_| {
            let mut run = bench.stage2(&[fixture]);
            run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            run.spawn().expect("admit starts")
        };
        for _ in 0..4 {
            watch((0..2).map(runs).collect());
        }
        println!("{judge} judge, 8 rehearsals, 2 at a time: {:.2?}", begin.elapsed());
    }
}

/// From the start of the agent's process to its end, by the run's own events.
fn agents_own(run: &Path) -> Duration {
    let text = std::fs::read_to_string(run.join("events.normalized.jsonl")).expect("events");
    let at = |kind: &str| {
        let events = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let mut events = events.filter(|event: &serde_json::Value| event["kind"] == kind);
        let event = events.next().expect("an event of the run");
        Duration::from_nanos(event["monotonic_ns"].as_u64().expect("a time"))
    };
    at("process_end") - at("case_process_started")
}

/// The most memory that one of `children` had, in kB, and how long all of them took.
fn watch(mut children: Vec<Child>) -> (u64, Duration) {
    let (begin, mut peak) = (Instant::now(), 0);
    while !children.is_empty() {
        for child in &children {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
            let text = status.unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
            peak = peak.max(kb.unwrap_or(0));
        }
        children.retain_mut(|child| match child.try_wait().expect("admit is waited for") {
            None => true,
            Some(status) => {
                assert!(status.success(), "a run ended with {status}");
                false
            }
        });
        std::thread::sleep(Duration::from_millis(5));
    }
    (peak, begin.elapsed())
}

/// Processes of admit or of an agent that it started.
fn orphans() -> Vec<String> {
    let ours = [env!("CARGO_BIN_EXE_admit"), "--mode unattended"];
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| ours.iter().any(|ours| line.contains(ours)))
        .collect()
}

fn many(bench: &Bench) {
    let start = || {
        let mut run = bench.stage2(&[]);
        run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        run.spawn().expect("admit starts")
    };
    let (one, single) = watch(vec![start()]);
    let (all, took) = watch((0..MANY).map(|_| start()).collect());
    let left = orphans();
    println!("one run: {single:.2?}, peak memory of admit {} MB", one / 1000);
    println!(
        "{MANY} runs at a time: {took:.2?}, {:.2} x as long as {MANY} runs one after the other would take",
        took.as_secs_f64() / (single.as_secs_f64() * MANY as f64)
    );
    println!(
        "peak memory of one admit among {MANY}: {} MB, ratio {:.2} to a run alone (goal: flat)",
        all / 1000,
        all as f64 / one as f64
    );
    println!("processes left: {} {left:?} (goal: 0)", left.len());
}
