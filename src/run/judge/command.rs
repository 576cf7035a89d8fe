//! Work in any language: a command of the fixture's own runs the tests, and held-out calls start the fixture's program.
//!
//! Nothing that runs beside the work says how it went. Admit starts the program once for each call, in a sandbox, and sees
//! itself what it prints and how it ends; what that must be comes from the reference solution, in a sandbox of its own. The
//! tests count by the exit status of their command, which whatever they start can bring about: they alone accept nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;

use super::bun::{self, Bun};
use super::held_out::{Asking, Draw, Drawn, Outcome};
use super::python;
use super::sandboxed::{self, JudgeSandbox};
use super::{Judge, Round, Tests};
use crate::error::{Error, Reason, Result};
use crate::host::nonce;
use crate::record::fixture::ProgramCall;
use crate::record::ids::RelPath;
use crate::run::bun::BunTool;
use crate::run::fixture::Fixture;
use crate::run::patch::{Content, Files};
use crate::run::tools::Tools;
use crate::sandbox::{self, Exit, Finished, Launcher, Policy};

/// Most bytes that one call may print.
const PRINTED: usize = 64 << 10;

/// What ends the driver that draws calls: those of the generator have no module and no function.
const SAY: &str = r#"
say(request.delimiter, { calls: calls.map((call) => (isArray(call[0]) ? ["", "", call] : call)), results: [] });
process.exit(0);
"#;

/// What [`Judge::steering`] says: files that what a command starts may read wherever they stand.
const STEERED: &[(&str, &str, &str)] = &[
    ("Python's own start", "sitecustomize.py", "import os\nos._exit(0)\n"),
    ("a preload of Bun", "bunfig.toml", "preload = [\"./never.ts\"]\n"),
    ("options in the environment", ".env", "BUN_OPTIONS=--preload=./never.ts\n"),
    (
        "a script of the package",
        "package.json",
        "{\"name\":\"x\",\"scripts\":{\"test\":\"true\"}}\n",
    ),
];

/// Judges by the fixture's own command and program.
#[derive(Clone, Copy)]
pub struct Command<'a> {
    pub launcher: &'a Launcher,
    pub tools: &'a Tools,
    /// Runs the generator.
    pub bun: &'a BunTool,
    /// Longest time of the tests, and of all calls of a round together.
    pub wall: Duration,
}

struct Called {
    /// In order; those that a clock left out are missing.
    seen: Vec<Outcome>,
    log: String,
    late: bool,
    killed: Option<i32>,
}

impl Judge for Command<'_> {
    fn steers(&self, path: &RelPath) -> bool {
        python::steers(path) || bun::steers(path)
    }

    fn locked_paths(&self, fixture: &Fixture) -> BTreeSet<RelPath> {
        fixture.record.test_ids.iter().filter_map(|path| path.parse().ok()).collect()
    }

    fn steering(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        STEERED
    }

    /// The files that the command names, and those of a directory for tests.
    fn tests(&self, fixture: &Fixture, files: &Files) -> Result<Tests> {
        let (record, finished) = (&fixture.record, self.run_tests(fixture, files)?);
        let named = |path: &RelPath| {
            let words = record.verification_command.iter();
            words.map(|word| word.strip_prefix("./").unwrap_or(word)).any(|w| w == path.as_str())
                || path.parts().any(|part| matches!(part, "test" | "tests"))
        };
        let listed = self.locked_paths(fixture);
        let paths = files.keys().filter(|path| {
            (named(path) || listed.contains(*path)) && !record.allowed_paths.contains(path)
        });
        let passed = finished.exit == Exit::Code(0);
        let found = paths.map(|path| (path.to_string(), passed)).collect();
        Ok(Tests { found, log: super::note("tests", &finished) })
    }

    fn draw(&self, fixture: &Fixture, asking: &Asking) -> Result<Result<Drawn, String>> {
        let bun = Bun { launcher: self.launcher, bun: self.bun, wall: self.wall };
        let made = bun.generate(fixture, asking, &asking.solved, SAY)?.not_killed(super::ENDED)?;
        let mut drawn = match asking.read(&made) {
            Ok(drawn) => drawn,
            Err(what) => return Ok(Err(what)),
        };
        let calls: Result<Vec<ProgramCall>, String> =
            drawn.calls.iter().map(|(_, _, args)| ProgramCall::of(args)).collect();
        let calls = match calls {
            Ok(calls) => calls,
            Err(what) => return Ok(Err(what)),
        };
        let called = self.calls(fixture, &calls, &asking.solved)?;
        if let Some(signal) = called.killed {
            return Err(sandbox::killed_inside(super::ENDED, signal));
        }
        if called.late {
            let seconds = self.wall.as_secs();
            return Ok(Err(format!("the solution does not answer all calls within {seconds} s")));
        }
        drawn.results = called.seen;
        Ok(Ok(drawn))
    }

    /// Calls and tests each in a sandbox of its own, as what the calls leave could steer the tests.
    fn round(&self, fixture: &Fixture, draw: &Draw, round: u32, copy: &Files) -> Result<Round> {
        let read = |args| ProgramCall::of(args).map_err(|what| Error::new(Reason::Internal, what));
        let calls = draw.given().map(read).collect::<Result<Vec<_>>>()?;
        let Called { seen, log, late, killed } = self.calls(fixture, &calls, copy)?;
        let tests = (!late).then(|| self.run_tests(fixture, copy)).transpose()?;
        let tested = match &tests {
            None => Err("not run: the calls did not end".to_owned()),
            Some(tests) if tests.exit == Exit::Code(0) => Ok(ended(tests)),
            Some(tests) => Err(ended(tests)),
        };
        let expected = "the test command of the fixture ends with exit 0";
        let called = Round {
            log,
            late,
            killed,
            ..Round::of(round, &draw.compare(&seen), expected, &tested)
        };
        Ok(match tests {
            None => called,
            Some(tests) => called.ended(&format!("round {round}, tests"), &tests),
        })
    }
}

impl Command<'_> {
    /// The words that start a command of the fixture: its program by its place in the sandbox.
    fn argv(&self, words: &[String]) -> Result<Vec<String>> {
        let missing = || Error::new(Reason::NotFound, "a command without its program");
        let (name, rest) = words.split_first().ok_or_else(missing)?;
        let program = self.tools.programs.get(name).ok_or_else(missing)?;
        let program = program.executable.to_str().ok_or_else(missing)?.to_owned();
        Ok(std::iter::once(program).chain(rest.iter().cloned()).collect())
    }

    fn policy(&self) -> Result<Policy> {
        let mut policy = Policy::new("judge").with_host_programs()?;
        self.tools.mount(&mut policy)?;
        Ok(policy)
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let mut all = self.tools.environment();
        let fixed = [("NO_COLOR", "1"), ("BUN_OPTIONS", ""), ("DO_NOT_TRACK", "1")];
        all.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
        all.insert("BUN_RUNTIME_TRANSPILER_CACHE_PATH".into(), "0".into());
        all
    }

    /// Starts the program for each call, one after the other, on one copy: what one leaves, the next finds, but no process
    /// (`sandbox::Running`). Everything is written before the first starts, so nothing inside can be in its way.
    fn calls(&self, fixture: &Fixture, calls: &[ProgramCall], copy: &Files) -> Result<Called> {
        let mut called = Called { seen: Vec::new(), log: String::new(), late: false, killed: None };
        if calls.is_empty() {
            return Ok(called);
        }
        let program = self.argv(&fixture.record.program)?;
        let mut sandbox = JudgeSandbox::open(self.launcher, self.policy()?, copy)?;
        let mut places = Vec::new();
        for call in calls {
            let place = nonce()?;
            if !call.files.is_empty() {
                let file = |(path, text): (&RelPath, &String)| {
                    (path.clone(), Content::plain(text.as_bytes()))
                };
                sandbox.write(&place, &call.files.iter().map(file).collect())?;
            }
            places.push(sandboxed::inside(&place));
        }
        let until = Instant::now() + self.wall;
        for (call, place) in calls.iter().zip(&places) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                called.late = true;
                break;
            }
            let words = call.words.iter().map(|word| word.replace(ProgramCall::FILES, place));
            let argv: Vec<String> = program.iter().cloned().chain(words).collect();
            let stdin = call.stdin.clone().into_bytes();
            let finished = match sandbox.run(argv, self.environment(), stdin, left) {
                Ok(finished) => finished,
                // What an earlier call did to the copy, such as removing it.
                Err(err) if err.reason() == Reason::StepFailed => {
                    called.seen.push(Outcome::Odd(err.what().to_owned()));
                    continue;
                }
                Err(err) => return Err(err),
            };
            if super::is_late(&finished) {
                called.late = true;
                called.log.push_str(&super::note("a call", &finished));
                break;
            }
            called.killed = called.killed.or(finished.killed());
            let outcome = outcome(&finished);
            if matches!(outcome, Outcome::Odd(_)) && called.log.is_empty() {
                called.log.push_str(&super::note("a call", &finished));
            }
            called.seen.push(outcome);
        }
        sandbox.end();
        Ok(called)
    }

    fn run_tests(&self, fixture: &Fixture, copy: &Files) -> Result<Finished> {
        let argv = self.argv(&fixture.record.verification_command)?;
        let mut sandbox = JudgeSandbox::open(self.launcher, self.policy()?, copy)?;
        let finished = sandbox.run(argv, self.environment(), Vec::new(), self.wall)?;
        sandbox.end();
        Ok(finished)
    }
}

/// What a program did in one call. Text is compared byte for byte, so what is no text is no outcome.
fn outcome(finished: &Finished) -> Outcome {
    let Exit::Code(code) = finished.exit else {
        return Outcome::Odd(format!("process that ended with {}", ended(finished)));
    };
    if finished.stdout.truncated() || finished.stdout.kept.len() > PRINTED {
        return Outcome::Odd(format!("text of more than {} KiB", PRINTED >> 10));
    }
    match std::str::from_utf8(&finished.stdout.kept) {
        Ok(text) => Outcome::Value(json!({ "exit": code, "stdout": text })),
        Err(_) => Outcome::Odd("text that is not UTF-8".into()),
    }
}

fn ended(finished: &Finished) -> String {
    crate::build::exit_text(&finished.exit)
}
