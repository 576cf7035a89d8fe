//! Mutated input for every parser, and one changed bit in what was admitted.
//!
//! The seeds are in `fixtures/fuzz/TARGET/`; the mutations follow from a constant, so that a failure comes again. They
//! run in a process of their own with little memory and a deadline. `ADMIT_FUZZ_ROUNDS` asks for more of them.
//!
//! The mutations are made by hand and not by an engine that follows coverage: those need a nightly compiler and a build of
//! their own, and these are part of every `cargo test`.

mod one_bit;
mod targets;

use std::process::Command;
use std::time::{Duration, Instant};

use crate::files::gzip;
use crate::inspect::sample;
use crate::processes::this_test;
use crate::util::{project, tell, var};
use targets::{TARGETS, Target};

/// Mutations of each target in a test of the usual length.
const ROUNDS: usize = 400;
/// Address space of the process that runs them. No input is longer than a few kilobytes.
const MEMORY: u64 = 1 << 30;
/// No input may keep a parser longer than this.
const SLOW: Duration = Duration::from_secs(10);
const CHILD: &str = "ADMIT_FUZZ_CHILD";

/// Pieces that mean something to one of the parsers.
const WORDS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "null",
    "true",
    "1e999",
    "-0",
    "99999999999999999999",
    "0",
    "..",
    "/",
    "../../x",
    "sha512-",
    "sha1-AAAA",
    "data:",
    "data: [DONE]\n\n",
    "\n\n",
    "\r\n\r\n",
    "\r",
    "0\r\n\r\n",
    "ffffffff\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 5\r\n",
    "<<<AGENT_RESULT",
    "AGENT_RESULT>>>",
    "\"status\":\"completed\"",
    "@@ -1,2 +1,2 @@\n",
    "--- a/a.txt\n",
    "+++ b/../x\n",
    "\0",
    "\u{ff}",
    "\n---- Bun! ----\n",
];

/// Numbers that follow from a seed (xorshift64*).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % below.max(1)
    }

    /// One to four changes.
    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut out = seeds[self.roll(seeds.len())].clone();
        for _ in 0..=self.roll(4) {
            let at = self.roll(out.len() + 1);
            let to = (at + self.roll(32)).min(out.len());
            match self.roll(8) {
                0 if at < out.len() => out[at] ^= 1 << self.roll(8),
                1 if at < out.len() => out[at] = [0, 0xff, 0x7f, 0x80, b' ', b'9'][self.roll(6)],
                2 => drop(out.drain(at..to)),
                3 => drop(out.splice(at..at, out[at..to].to_vec())),
                4 => out.truncate(at),
                5 => {
                    let other = &seeds[self.roll(seeds.len())];
                    let from = self.roll(other.len() + 1);
                    let end = (from + self.roll(200)).min(other.len());
                    drop(out.splice(at..to, other[from..end].iter().copied()));
                }
                6 => {
                    let piece = out[at..to].repeat(1 + self.roll(40));
                    drop(out.splice(at..to, piece));
                }
                _ => drop(out.splice(at..to, WORDS[self.roll(WORDS.len())].bytes())),
            }
            out.truncate(256 << 10);
        }
        out
    }
}

/// A tarball with what an archive can hold.
fn tar_seed() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, data: &[u8], target: Option<&str>| {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(kind);
        match target {
            None => tar.append_data(&mut header, name, data).unwrap(),
            Some(target) => tar.append_link(&mut header, name, target).unwrap(),
        }
    };
    add("package/package.json", tar::EntryType::Regular, b"{\"name\":\"x\"}", None);
    add("package/lib/", tar::EntryType::Directory, b"", None);
    add("package/lib/a.js", tar::EntryType::Regular, b"module.exports = 1;\n", None);
    add("package/link", tar::EntryType::Symlink, b"", Some("lib/a.js"));
    add(&format!("package/{}x", "long/".repeat(30)), tar::EntryType::Regular, b"x", None);
    tar.into_inner().unwrap()
}

/// The seeds of a target: its directory, and what the project has of that kind.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let project = project();
    let read = |path: &str| std::fs::read(project.join(path)).unwrap();
    let mut out = match name {
        "lock" => ["case", "understudy"].map(|n| read(&format!("lockfiles/{n}.lock.json"))).into(),
        "admission" => vec![read("admissions/models/scripted--understudy-script.json")],
        "records" => vec![
            read("lockfiles/pytest.lock.json"),
            read("fixtures/r1-string-slugify/fixture.json"),
            read("fixtures/r1-string-slugify/script.json"),
        ],
        "json" => vec![read("lockfiles/understudy.lock.json")],
        "bun-lock" => vec![read("fixtures/understudy/bun.lock")],
        "archive" => vec![tar_seed()],
        "archive-packed" => {
            let whole = gzip(&tar_seed());
            let twice = whole.repeat(2);
            vec![whole, twice]
        }
        "bun-executable" => {
            let graph = sample::payload(
                &[("/$bunfs/root/app", b"console.log(1)", b"map"), ("/$bunfs/root/a", b"x", b"")],
                "--smol",
                12,
            );
            let base = sample::plain(1);
            vec![sample::expanded(&base, &graph), sample::appended(&base, &graph)]
        }
        _ => Vec::new(),
    };
    if let Ok(dir) = std::fs::read_dir(project.join("fixtures/fuzz").join(name)) {
        let mut paths: Vec<_> = dir.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        out.extend(paths.into_iter().map(|path| std::fs::read(path).unwrap()));
    }
    assert!(!out.is_empty(), "{name} has no seed");
    out
}

/// Runs a target over its seeds and `rounds` mutations, and says how many inputs there were and how many it took.
fn exercise(name: &str, target: Target, rounds: usize) -> (usize, usize) {
    let seeds = seeds(name);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut taken = 0;
    for round in 0..seeds.len() + rounds {
        let input = match seeds.get(round) {
            Some(seed) => seed.clone(),
            None => dice.mutate(&seeds),
        };
        let start = Instant::now();
        let run = std::panic::catch_unwind(|| target(&input));
        let took = start.elapsed();
        let text = String::from_utf8_lossy(&input);
        let took_it = run.unwrap_or_else(|_| panic!("{name}: round {round} panics on\n{text:?}"));
        assert!(took < SLOW, "{name}: round {round} took {took:?} on\n{text:?}");
        assert!(round > 0 || took_it, "{name} does not take its first seed");
        taken += usize::from(took_it);
    }
    (seeds.len() + rounds, taken)
}

/// What the process of its own does. Started by the test harness itself it has nothing to do.
#[test]
fn child() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let Some(rounds) = var(CHILD) else { return };
    let rounds = rounds.parse().unwrap();
    setrlimit(Resource::As, Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) }).unwrap();
    let mut all = 0;
    for (name, target) in TARGETS {
        let (inputs, taken) = exercise(name, target, rounds);
        assert!(taken < inputs, "{name} takes everything");
        all += inputs;
        tell(&format!("fuzz {name}: {inputs} inputs, {taken} taken, no panic"));
    }
    tell(&format!("fuzz: {all} inputs to {} parsers", TARGETS.len()));
}

#[test]
fn every_parser_stands_up_to_mutated_input() {
    let rounds = var("ADMIT_FUZZ_ROUNDS").unwrap_or_else(|| ROUNDS.to_string());
    let child = this_test("fuzz::child");
    // A hang is ended: no target may be slower than ten seconds at one input, and none is slow.
    let seconds = 120 + rounds.parse::<u64>().unwrap() / 10;
    let mut bounded = Command::new("timeout");
    bounded.args(["--signal=KILL", &seconds.to_string()]).arg(child.get_program());
    bounded.args(child.get_args()).env("CARGO_MANIFEST_DIR", project());
    let done = bounded.env(CHILD, &rounds).env("RUST_BACKTRACE", "0").output().unwrap();
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{:?}\n{words}", done.status);
    let counts = words.lines().filter(|line| line.starts_with("fuzz"));
    assert_eq!(counts.clone().count(), TARGETS.len() + 1, "{words}");
    counts.for_each(tell);
}
