//! Whether a fixture tells good work from bad: nothing is wrong with its record, no answer lies in the workspace, its calls
//! can be drawn and drawn again, what the agent finds is rejected, and the reference solution is accepted. Every fault is
//! named at once.

use std::time::Duration;

use super::fixture::{self, Fixture};
use super::judge::held_out::{Draw, Seed};
use super::judge::{self, Bench, Judge};
use super::patch::{self, Files};
use super::snapshot::Snapshot;
use super::tools;
use crate::context::Context;
use crate::error::{Reason, Result};
use crate::host::{self, nonce};
use crate::record::finding::{Finding, State};
use crate::record::fixture::JudgeName;
use crate::record::ids::Name;
use crate::root::Root;
use crate::sandbox::Launcher;

/// The findings of what a judge does.
const JUDGED: [&str; 8] = [
    "calls_drawn",
    "calls_repeatable",
    "cases_right",
    "unsolved_rejected",
    "calls_tell",
    "solution_accepted",
    "tests_named",
    "tests_end",
];

/// What was found, and what the tests printed where the reference solution was not accepted.
#[derive(Debug)]
pub struct Examined {
    pub findings: Vec<Finding>,
    pub log: String,
}

impl Examined {
    pub fn holds(&self) -> bool {
        self.findings.iter().all(|finding| finding.state == State::Ok)
    }
}

/// Examines the fixture `name` of `root`. A command of its judge may take as long as `wall`.
///
/// # Errors
/// Those of [`fixture::inspect`], of the tools and of the sandbox. What is wrong with the fixture is a finding.
pub fn examine(context: &Context, root: &Root, name: &Name, wall: Duration) -> Result<Examined> {
    host::enough_tasks()?;
    let (fixture, faults) = fixture::inspect(root, name)?;
    let mut findings: Vec<Finding> = faults
        .iter()
        .map(|fault| {
            let found = format!("{}: {}", fault.place, fault.what);
            failed("fixture_record", "nothing in it is wrong", found).fix(&fault.fix)
        })
        .collect();
    if findings.is_empty() {
        let found = format!(
            "{} files, {} tests, {} may change",
            fixture.workspace.len(),
            fixture.record.test_ids.len(),
            fixture.record.allowed_paths.len()
        );
        findings.push(Finding::ok("fixture_record", "nothing in it is wrong", found));
    }
    findings.push(hidden(&fixture));
    if fixture.record.judge == JudgeName::Command {
        let commands = [&fixture.record.verification_command, &fixture.record.program];
        if commands.iter().any(|command| command.is_empty()) {
            unreached(&mut findings, JUDGED, "fixture_record");
            return Ok(Examined { findings, log: String::new() });
        }
    }
    let store = context.store()?;
    let tools = tools::of(context, root, &store, &fixture.record)?;
    let scratch = store.scratch()?;
    let launcher = Launcher::own(scratch.path());
    let judge = judge::choose::of(&fixture, &launcher, &tools, wall)?;
    let solved = patch::apply(&fixture.workspace, &fixture.reference_patch).ok();
    let judged = Judged { judge: &*judge, fixture: &fixture, wall };
    let draw = judged.calls(&mut findings, solved.is_some())?;
    let log = judged.work(&mut findings, draw.as_ref(), solved)?;
    Ok(Examined { findings, log })
}

fn failed(id: &str, expected: &str, found: impl Into<String>) -> Finding {
    Finding::failed(id, Reason::BadRecord, expected, found)
}

/// A yes with what was found, or a no with what was found and what to do.
fn held(id: &str, expected: &str, found: Result<&str, (String, &str)>) -> Finding {
    match found {
        Ok(found) => Finding::ok(id, expected, found),
        Err((found, fix)) => failed(id, expected, found).fix(fix),
    }
}

/// What was not looked at, since `because` is no yes.
fn unreached<const N: usize>(findings: &mut Vec<Finding>, ids: [&str; N], because: &str) {
    findings.extend(ids.map(|id| Finding::not_reached(id, vec![because.into()])));
}

/// Whether an agent finds an answer in the workspace.
fn hidden(fixture: &Fixture) -> Finding {
    let id = "answers_hidden";
    let expected =
        "no file of the workspace holds the generator, the held-out calls or the solution";
    let told = told(fixture);
    let Some(first) = told.first() else { return Finding::ok(id, expected, "none") };
    failed(id, expected, told.join(", "))
        .fix(format!("take it out: rm {}/{first}", fixture.record.workspace))
}

/// Files of the workspace in which an agent finds what it must not see.
fn told(fixture: &Fixture) -> Vec<String> {
    let mut needles: Vec<Vec<u8>> = Vec::new();
    needles.extend(fixture.generator.as_ref().map(|text| text.trim().as_bytes().to_vec()));
    needles.push(fixture.reference_patch.trim_ascii().to_vec());
    if let Ok(solved) = patch::apply(&fixture.workspace, &fixture.reference_patch) {
        let changed = patch::changed(&fixture.workspace, &solved);
        let files = changed.iter().filter_map(|path| solved.get(path));
        needles.extend(files.map(|file| file.bytes().trim_ascii().to_vec()));
    }
    needles.retain(|needle| !needle.is_empty());
    let has = |bytes: &[u8], needle: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
    let holds = |bytes: &[u8]| {
        let listed = !fixture.record.held_out.is_empty() && has(bytes, b"\"held_out\"");
        listed || needles.iter().any(|needle| has(bytes, needle))
    };
    let files = fixture.workspace.iter().filter(|(_, file)| holds(file.bytes()));
    files.map(|(path, _)| path.to_string()).collect()
}

struct Judged<'a> {
    judge: &'a dyn Judge,
    fixture: &'a Fixture,
    wall: Duration,
}

impl Judged<'_> {
    /// The calls of a run of this fixture, where they can be drawn.
    fn calls(&self, findings: &mut Vec<Finding>, applies: bool) -> Result<Option<Draw>> {
        let drawn =
            ("calls_drawn", "calls that the reference solution answers with values of JSON");
        let again = ("calls_repeatable", "the same seed gives the same calls and results");
        let right = ("cases_right", "the reference solution gives what held_out[].expected says");
        if !applies {
            unreached(findings, [drawn.0, again.0, right.0], "fixture_record");
            return Ok(None);
        }
        let seed = Seed::new(&nonce()?)?;
        let draw = match judge::draw(self.judge, self.fixture, &seed) {
            Err(err) if err.reason() == Reason::BadRecord => {
                let found = format!("{}: {}", err.what(), err.found_value().unwrap_or_default());
                let fix = "the generator's `generate` gives [module, function, [arguments]] each, for functions of the \
                           solution that answer with plain values: docs/own-fixture.md";
                findings.push(failed(drawn.0, drawn.1, found).fix(fix));
                unreached(findings, [again.0, right.0], drawn.0);
                return Ok(None);
            }
            other => other?,
        };
        let count = format!("{} calls", draw.record.calls);
        findings.push(Finding::ok(drawn.0, drawn.1, count));
        let same = match judge::draw(self.judge, self.fixture, &seed) {
            Err(err) if err.reason() == Reason::BadRecord => false,
            other => other?.record == draw.record,
        };
        let fix = "let the generator draw from the random that it is given, and the solution from nothing else";
        let same = if same { Ok("the same") } else { Err(("others".into(), fix)) };
        findings.push(held(again.0, again.1, same));
        let fix = "correct held_out[].expected in fixture.json, or the solution";
        let others = draw.differing.join("; ");
        let does = if others.is_empty() { Ok("it does") } else { Err((others, fix)) };
        findings.push(held(right.0, right.1, does));
        Ok(Some(draw))
    }

    /// What the judge says of the workspace as it is and of the reference solution; and what the tests of the latter
    /// printed, where it was not accepted.
    fn work(
        &self,
        findings: &mut Vec<Finding>,
        draw: Option<&Draw>,
        solved: Option<Files>,
    ) -> Result<String> {
        let (judge, fixture) = (self.judge, self.fixture);
        let none = Draw::none(fixture);
        let calls = draw.unwrap_or(&none);
        let unsolved = judge.round(fixture, calls, 1, &fixture.workspace)?;
        let mut late: Vec<&str> = Vec::new();
        late.extend(unsolved.late.then_some("without a change"));
        let (id, expected) =
            ("unsolved_rejected", "tests or calls reject the workspace as an agent finds it");
        findings.push(match (unsolved.passed, draw) {
            (false, _) => Finding::ok(id, expected, "rejected"),
            (true, None) => Finding::not_reached(id, vec!["calls_drawn".into()]),
            (true, Some(_)) => failed(id, expected, "accepted: there is nothing to do")
                .fix("take the solution out of the workspace, or ask for what it lacks"),
        });
        let (id, expected) =
            ("calls_tell", "held-out calls reject the workspace as an agent finds it");
        let right = unsolved.rows.done().iter().any(|row| row.id == "held_out_1" && row.passed);
        findings.push(match (draw, right) {
            (None, _) => Finding::not_reached(id, vec!["calls_drawn".into()]),
            (Some(_), false) => Finding::ok(id, expected, "rejected"),
            (Some(_), true) => failed(id, expected, "every call is right without a change")
                .fix("draw calls whose results the solution changes: tests alone can be forged"),
        });
        let log = match solved {
            None => {
                unreached(findings, ["solution_accepted", "tests_named"], "fixture_record");
                String::new()
            }
            Some(solved) => {
                let (log, slow) = self.solution(findings, calls, &solved)?;
                late.extend(slow.then_some("with the solution"));
                log
            }
        };
        let (id, seconds) = ("tests_end", self.wall.as_secs());
        let expected = format!("tests and calls end within {seconds} s each");
        let fix = "let the tests wait for nothing: they have no network, and only what the workspace holds";
        findings.push(match late.is_empty() {
            true => Finding::ok(id, expected, "they do"),
            false => failed(id, &expected, format!("they do not: {}", late.join(", "))).fix(fix),
        });
        Ok(log)
    }

    /// What the judge says of the reference solution: what the tests printed where it was not accepted, and whether a
    /// clock ended them.
    fn solution(
        &self,
        findings: &mut Vec<Finding>,
        calls: &Draw,
        solved: &Files,
    ) -> Result<(String, bool)> {
        let (judge, fixture) = (self.judge, self.fixture);
        let (id, expected) =
            ("solution_accepted", "every condition holds for the reference solution");
        let fix = "correct the solution or the tests";
        let round = judge.round(fixture, calls, 1, solved)?;
        if round.late {
            findings.push(failed(id, expected, "not judged: a clock ended the tests").fix(fix));
            unreached(findings, ["tests_named"], "tests_end");
            return Ok((round.log, true));
        }
        let bench = Bench { judge, fixture, draw: calls };
        let judgement = bench.judge_own(&Snapshot::committed(solved.clone())?)?;
        let accepted = if judgement.passed { Ok("accepted") } else { Err((judgement.note(), fix)) };
        findings.push(held(id, expected, accepted));
        findings.push(self.named(solved)?);
        Ok((if judgement.passed { String::new() } else { round.log }, false))
    }

    /// Whether the tests that the record names are among those that the runner finds.
    fn named(&self, solved: &Files) -> Result<Finding> {
        let (id, expected) = ("tests_named", "the runner finds every test that test_ids names");
        let found = self.judge.tests(self.fixture, solved)?.found;
        let ids = &self.fixture.record.test_ids;
        let missing: Vec<&str> =
            ids.iter().filter(|id| !found.contains_key(*id)).map(String::as_str).collect();
        let others = found.len().saturating_sub(ids.len() - missing.len());
        if missing.is_empty() {
            let more = match others {
                0 => String::new(),
                others => format!("; {others} more do not count"),
            };
            return Ok(Finding::ok(id, expected, format!("{} tests{more}", ids.len())));
        }
        let names: Vec<&str> = found.keys().map(String::as_str).take(20).collect();
        Ok(failed(id, expected, format!("not found: {}", missing.join(", ")))
            .fix(format!("name them as the runner does: {}", names.join(", "))))
    }
}
