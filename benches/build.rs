//! Figures of the build, each a ratio against a named command that runs beside it: a cold build, a rebuild, a build that
//! is already there, `--help`, and the peak memory of admit itself.
//!
//! With `ADMIT_TEST_CASE_MIRROR` naming a directory that holds a clone at `workos/case`, real Case is measured; else the
//! embedded stand-in, whose by-hand side copies its sources instead of cloning.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints figures and stops at the first fault"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Times each thing is done; the fastest counts, since everything else on the machine only adds.
const ROUNDS: usize = 3;

struct Bench {
    dir: tempfile::TempDir,
    provider: &'static str,
    source: PathBuf,
    build_path: &'static str,
    flags: Vec<String>,
}

#[expect(clippy::disallowed_methods, reason = "a bench reads its own surroundings")]
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let bench = match var("ADMIT_TEST_CASE_MIRROR") {
        Some(mirror) => Bench {
            dir,
            provider: "case-30b1fa1",
            source: Path::new(&mirror).join("workos/case"),
            build_path: "/tmp/workos-case",
            flags: vec!["--mirror".into(), format!("https://github.com/=file://{mirror}/")],
        },
        None => Bench {
            dir,
            provider: "understudy",
            source: Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/understudy"),
            build_path: "/tmp/admit-understudy",
            flags: Vec::new(),
        },
    };
    if bench.provider != "understudy" {
        bench.ok(bench
            .admit("lock")
            .args([bench.provider, "--source", "https://github.com/workos/case.git"])
            .args(["--rev", "30b1fa1285a9d8f5a05f81377bcf95fbe250642c", "--bun", "1.3.14"])
            // The commit that the embedded lock names does not trust it.
            .args(["--build-path", bench.build_path, "--skip-script", "@ast-grep/cli"])
            .args(&bench.flags));
    }
    println!("provider {}, fastest of {ROUNDS}", bench.provider);
    cold(&bench);
    warm(&bench);
    again(&bench);
    help(&bench);
    println!(
        "peak memory of admit in a whole cold build: {} MB (goal: below 200)",
        peak(&bench) / 1000
    );
}

impl Bench {
    fn admit(&self, command: &str) -> Command {
        let mut admit = Command::new(env!("CARGO_BIN_EXE_admit"));
        admit.arg(command).current_dir(self.dir.path());
        admit.env("HOME", self.dir.path()).env("ADMIT_STORE", self.dir.path().join("store"));
        if let Some(home) = var("HOME") {
            admit.env("NPM_CONFIG_USERCONFIG", Path::new(&home).join(".npmrc"));
        }
        admit
    }

    fn build(&self) -> Command {
        let mut build = self.admit("build");
        build.arg(self.provider).args(&self.flags);
        build
    }

    fn ok(&self, command: &mut Command) -> Duration {
        let start = Instant::now();
        let output = command.stdin(Stdio::null()).output().expect("a program starts");
        let took = start.elapsed();
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        took
    }

    fn forget(&self, what: &str) {
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(self.dir.path().join(what)).output();
        let _ = std::fs::remove_dir_all(self.dir.path().join(what));
    }

    /// The commands that a person types. `warm` keeps Bun and its cache.
    fn by_hand(&self, warm: bool) -> Command {
        let work = self.dir.path().join("hand");
        let script = format!(
            "set -e; mkdir -p {work}; cd {work}; rm -rf {path}
             if [ ! -x node_modules/@oven/bun-linux-x64/bin/bun ]; then npm install --silent --prefix . @oven/bun-linux-x64@1.3.14; fi
             {get}
             cd {path}; export PATH={work}/node_modules/@oven/bun-linux-x64/bin:$PATH BUN_INSTALL_CACHE_DIR={work}/cache
             bun install --frozen-lockfile; bun run build:binary; sha256sum dist/ca; dist/ca --help",
            work = work.display(),
            path = self.build_path,
            get = match self.source.join("HEAD").exists() || self.source.join(".git").exists() {
                true => format!(
                    "git clone -q {} {path}; git -C {path} checkout -q 30b1fa1285a9d8f5a05f81377bcf95fbe250642c",
                    self.source.display(),
                    path = self.build_path
                ),
                false => format!("cp -r {} {}", self.source.display(), self.build_path),
            },
        );
        if !warm {
            self.forget("hand");
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]);
        shell
    }
}

fn fastest(mut once: impl FnMut() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| once()).min().unwrap_or_default()
}

fn ratio(what: &str, ours: Duration, theirs: Duration, against: &str, goal: f64) {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!(
        "{what}: {ours:.3?}, {against}: {theirs:.3?}, ratio {ratio:.2} (goal: at most {goal})"
    );
}

fn cold(bench: &Bench) {
    let ours = fastest(|| {
        bench.forget("store");
        bench.ok(&mut bench.build())
    });
    let theirs = fastest(|| bench.ok(&mut bench.by_hand(false)));
    ratio("cold build", ours, theirs, "by hand", 0.8);
}

fn warm(bench: &Bench) {
    let ours = fastest(|| bench.ok(bench.build().arg("--rebuild")));
    let theirs = fastest(|| bench.ok(&mut bench.by_hand(true)));
    ratio("rebuild, inputs in the store", ours, theirs, "by hand with a warm cache", 1.5);
}

fn again(bench: &Bench) {
    let json = bench.build().arg("--json").output().expect("admit starts");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let output = json["output"].as_str().expect("a path").to_owned();
    let ours = fastest(|| bench.ok(&mut bench.build()));
    let theirs = fastest(|| {
        let start = bench.ok(bench.admit("--version").env_remove("ADMIT_STORE"));
        let begin = Instant::now();
        let bytes = std::fs::read(&output).expect("the output");
        std::hint::black_box(blake3::hash(&bytes));
        start + begin.elapsed()
    });
    ratio("already built", ours, theirs, "process start and BLAKE3 of the output", 1.3);
}

fn help(bench: &Bench) {
    let took = fastest(|| bench.ok(&mut bench.admit("--help")));
    println!("admit --help: {took:.3?} (goal: below 5 ms)");
}

/// The largest resident set of admit's own process, in kB, seen while it builds.
fn peak(bench: &Bench) -> u64 {
    bench.forget("store");
    let mut child =
        bench.build().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("admit starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("admit is waited for").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        peak = peak.max(kb.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    peak
}
