//! The judge: is what an agent left good? Decided from files that admit reads itself, by tests that it runs itself on a
//! copy that it makes itself, and by results that it compares itself.
//!
//! Tests alone can be forged from inside by one line (`os._exit(0)`, a patched runner, a `str` that equals everything):
//! whatever runs beside the patched code is in its hands. So two things must hold, twice, each time in a sandbox of its
//! own: the locked tests pass, and calls that the agent never saw print results which are compared out here.
//!
//! What is the same for every language stands here; [`Judge`] is what a language brings, one file each.
//! `docs/judges.md` says how to add one.

pub mod bun;
pub mod choose;
pub mod command;
pub mod held_out;
pub mod python;
mod sandboxed;
mod tested;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fixture::Fixture;
use super::patch::{self, Content, Files};
use super::snapshot::Snapshot;
use crate::error::{Error, Reason, Result};
use crate::record::ids::{Digest, RelPath};
use crate::sandbox::{self, Exit, Finished};
use held_out::{Asking, Draw, Drawn, Seed};

/// How often the tests and the calls are run.
pub const ROUNDS: u32 = 2;

/// How work in one language is tested.
pub trait Judge: Sync {
    /// Whether a file of this path steers the language or its test runner wherever it stands: such a file comes from the
    /// fixture, or not at all.
    fn steers(&self, path: &RelPath) -> bool;

    /// The files of the locked tests, whose ids are `FILE::TEST`.
    fn locked_paths(&self, fixture: &Fixture) -> BTreeSet<RelPath> {
        let ids = fixture.record.test_ids.iter();
        ids.filter_map(|id| id.split("::").next()?.parse().ok()).collect()
    }

    /// Files by which an agent would try to steer the language or its test runner: what each would do, its path, its text.
    fn steering(&self) -> &'static [(&'static str, &'static str, &'static str)];

    /// The tests that the runner finds in `files` by itself.
    fn tests(&self, fixture: &Fixture, files: &Files) -> Result<Tests>;

    /// Runs the fixture's generator and the reference solution, in a sandbox of their own: calls and what they came to,
    /// or why there are none.
    ///
    /// # Errors
    /// Those of the sandbox, and [`Reason::KilledFromOutside`].
    fn draw(&self, fixture: &Fixture, asking: &Asking) -> Result<Result<Drawn, String>>;

    /// Makes the drawn calls and runs the tests once on `copy`, in a sandbox of its own, with a row for each.
    ///
    /// # Errors
    /// Where the judge itself cannot work. Whatever the work does is a row.
    fn round(&self, fixture: &Fixture, draw: &Draw, round: u32, copy: &Files) -> Result<Round>;
}

#[derive(Debug)]
pub struct Tests {
    /// By the name that `test_ids` has for it: whether it passed.
    pub found: BTreeMap<String, bool>,
    pub log: String,
}

pub struct Round {
    pub rows: Rows,
    pub log: String,
    /// Whether calls and tests were right.
    pub passed: bool,
    /// Whether a clock ended one of them.
    pub late: bool,
    /// The signal by which one of them was ended, where it is one that others send.
    pub killed: Option<i32>,
}

impl Round {
    /// One whose calls and tests came to this, with nothing said yet of how they ended.
    fn of(
        round: u32,
        called: &Result<String, String>,
        tests: &str,
        tested: &Result<String, String>,
    ) -> Self {
        let mut rows = Rows::default();
        let calls = "every call prints the result that only admit knows";
        rows.held(&format!("held_out_{round}"), calls, called);
        rows.held(&format!("tests_{round}"), tests, tested);
        let passed = called.is_ok() && tested.is_ok();
        Self { rows, log: String::new(), passed, late: false, killed: None }
    }

    /// Adds how what was started for it ended.
    fn ended(mut self, what: &str, finished: &Finished) -> Self {
        self.log.push_str(&note(what, finished));
        self.late |= is_late(finished);
        self.killed = self.killed.or(finished.killed());
        self
    }
}

/// Of what the fixture alone has in it, and no agent.
const ENDED: &str = "what the judge started was ended, and again when it was started anew";

fn is_late(finished: &Finished) -> bool {
    matches!(finished.exit, Exit::TimedOut { .. })
}

const TESTED: &str = "every locked test ran and passed, none skipped";

/// What a command printed, with its end, for the log.
fn note(what: &str, finished: &Finished) -> String {
    let end = crate::build::exit_text(&finished.exit);
    let (out, err) = (finished.stdout.text(), finished.stderr.text());
    let mut log = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(log, "== {what}: {end}\n{}\n{}", out.trim_end(), err.trim_end());
    log
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeRow {
    pub id: String,
    pub passed: bool,
    /// What should have been found.
    pub expected: String,
    pub found: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// Whether every condition holds.
    pub passed: bool,
    pub rows: Vec<JudgeRow>,
    /// Whether the tests and the calls were right in every round, whatever else is wrong.
    pub tests_passed: bool,
    /// Whether every change lies within the allowed paths.
    pub allowed_writes_passed: bool,
    /// The difference to the fixture, byte for byte: work need not be UTF-8.
    pub patch: Vec<u8>,
    /// SHA-256 of the difference's bytes; of nothing where there is none.
    pub patch_digest: Digest,
    /// What changed, in order.
    pub changed_files: Vec<String>,
    pub commit: Option<String>,
    /// What the tests and the calls printed.
    pub log: String,
    /// The signal by which a round was ended, each time that it was made, where it is one that others send.
    #[serde(skip)]
    pub killed: Option<i32>,
}

impl Judgement {
    /// Of work that nobody looked at, and why.
    pub fn not_made(why: &str) -> Self {
        let (id, expected, found) = ("judged".into(), "a judged patch".into(), why.into());
        Self {
            passed: false,
            rows: vec![JudgeRow { id, passed: false, expected, found }],
            tests_passed: false,
            allowed_writes_passed: false,
            patch: Vec::new(),
            patch_digest: Digest::sha256(b""),
            changed_files: Vec::new(),
            commit: None,
            log: String::new(),
            killed: None,
        }
    }

    /// The conditions that do not hold, in one line; empty where all do.
    pub fn note(&self) -> String {
        let failed = self.rows.iter().filter(|row| !row.passed);
        failed.map(|row| format!("{}: {}", row.id, row.found)).collect::<Vec<_>>().join("; ")
    }
}

#[derive(Default)]
pub struct Rows(Vec<JudgeRow>);

impl Rows {
    pub fn add(&mut self, id: &str, passed: bool, expected: &str, found: impl Into<String>) {
        // What an agent wrote may be long; the row says what kind of thing it is.
        let found: String = found.into().chars().take(500).collect();
        let (id, expected) = (id.to_owned(), expected.to_owned());
        self.0.push(JudgeRow { id, passed, expected, found });
    }

    pub fn done(self) -> Vec<JudgeRow> {
        self.0
    }

    /// A condition that was found to hold, or not to.
    fn held(&mut self, id: &str, expected: &str, found: &Result<String, String>) {
        let (Ok(words) | Err(words)) = found;
        self.add(id, found.is_ok(), expected, words.clone());
    }

    /// A condition that no path breaks.
    fn none(&mut self, id: &str, expected: &str, broken: &[String]) {
        let found = if broken.is_empty() { "none".to_owned() } else { broken.join(", ") };
        self.add(id, broken.is_empty(), expected, found);
    }
}

/// Draws the calls of a run, and has the reference solution answer them.
///
/// # Errors
/// [`Reason::BadRecord`] for a generator or a reference solution that gives no calls or no plain results; those of the
/// sandbox.
pub fn draw(judge: &dyn Judge, fixture: &Fixture, seed: &Seed) -> Result<Draw> {
    held_out::draw(fixture, seed, |asking| match judge.draw(fixture, asking) {
        Err(err) if err.reason() == Reason::KilledFromOutside => judge.draw(fixture, asking),
        drawn => drawn,
    })
}

#[derive(Clone, Copy)]
pub struct Bench<'a> {
    pub judge: &'a dyn Judge,
    pub fixture: &'a Fixture,
    pub draw: &'a Draw,
}

impl Bench<'_> {
    /// Judges what an agent left.
    ///
    /// # Errors
    /// Where the judge itself cannot work: no sandbox, no space, no interpreter. Whatever the work does is a judgement.
    pub fn judge(&self, work: &Snapshot) -> Result<Judgement> {
        self.judge_in(work, ROUNDS)
    }

    /// The same in as many rounds as the caller says: what one round rejects, no run accepts.
    pub fn judge_in(&self, work: &Snapshot, count: u32) -> Result<Judgement> {
        let base = &self.fixture.workspace;
        let mut rows = Rows::default();
        let changed = patch::changed(base, &work.files);
        let text = patch::make(base, &work.files);
        let allowed = self.structure(work, &changed, &mut rows);
        let applied = patch::apply(base, &text);
        let same = match &applied {
            Ok(files) if *files == work.files => "it applies and gives the work tree".to_owned(),
            Ok(_) => "it applies and gives something else".to_owned(),
            Err(what) => what.clone(),
        };
        let fits = applied.as_ref().is_ok_and(|files| *files == work.files);
        rows.add("patch_applies", fits, "the patch applies strictly to the fixture", same);
        let mut log = String::new();
        let (mut tests_passed, mut killed) = (fits, None);
        if let Ok(files) = applied {
            let copy = self.restored(&files);
            for round in self.rounds(&copy, count) {
                let round = round?;
                tests_passed &= round.passed;
                killed = killed.or(round.killed);
                rows.0.extend(round.rows.0);
                log.push_str(&round.log);
            }
        } else {
            rows.add("tests", false, "the locked tests pass", "not run: there is nothing to run");
        }
        let rows = rows.0;
        Ok(Judgement {
            passed: rows.iter().all(|row| row.passed),
            tests_passed,
            allowed_writes_passed: allowed,
            patch_digest: Digest::sha256(&text),
            patch: text,
            changed_files: changed.iter().map(RelPath::to_string).collect(),
            commit: work.head.as_ref().map(|head| head.id.to_string()),
            log,
            rows,
            killed,
        })
    }

    /// As [`Bench::judge`], of work that no agent had a hand in: what ends there, somebody else ended.
    ///
    /// # Errors
    /// Those of [`Bench::judge`], and [`Reason::KilledFromOutside`].
    pub fn judge_own(&self, work: &Snapshot) -> Result<Judgement> {
        let judgement = self.judge(work)?;
        match judgement.killed {
            Some(signal) => Err(sandbox::killed_inside(ENDED, signal)),
            None => Ok(judgement),
        }
    }

    /// Makes a round, and makes it anew where a process of it was ended as others end one: what ends itself ends again and is
    /// judged by that, and whom somebody else ended is not.
    fn made(&self, round: u32, copy: &Files) -> Result<Round> {
        let Self { judge, fixture, draw } = *self;
        let first = judge.round(fixture, draw, round, copy)?;
        if first.killed.is_none() {
            return Ok(first);
        }
        let mut again = judge.round(fixture, draw, round, copy)?;
        again.log.insert_str(0, &first.log);
        Ok(again)
    }

    /// The rounds, beside each other: each has a sandbox of its own.
    fn rounds(&self, copy: &Files, count: u32) -> Vec<Result<Round>> {
        let panicked = |_| Err(Error::new(Reason::Internal, "a round of the judge panicked"));
        std::thread::scope(|scope| {
            let start = |round| scope.spawn(move || self.made(round, copy));
            let started: Vec<_> = (1..=count).map(start).collect();
            started.into_iter().map(|round| round.join().unwrap_or_else(panicked)).collect()
        })
    }

    /// What can be said without running anything. Gives whether every change is allowed.
    fn structure(&self, work: &Snapshot, changed: &[RelPath], rows: &mut Rows) -> bool {
        let Self { judge, fixture, .. } = *self;
        let (base, record) = (&fixture.workspace, &fixture.record);
        rows.none("readable", "everything in the workspace can be read", &work.faults);
        rows.none("git_untouched", "a .git that nobody prepared", &work.git_faults);
        rows.add("change", !changed.is_empty(), "a change", format!("{} files", changed.len()));
        let list = |broken: &dyn Fn(&RelPath) -> bool| -> Vec<String> {
            changed.iter().filter(|path| broken(path)).map(RelPath::to_string).collect()
        };
        let special =
            list(&|path| work.files.get(path).is_some_and(|c| !matches!(c, Content::File { .. })));
        rows.none("regular_files", "no links and no special files", &special);
        let modes = list(&|path| match (base.get(path), work.files.get(path)) {
            (Some(before), Some(after)) => before.mode() != after.mode(),
            (None, Some(after)) => after.mode() == "100755",
            _ => false,
        });
        rows.none("modes", "no file with another mode", &modes);
        let outside = list(&|path| !record.allowed_paths.contains(path));
        rows.none("allowed_paths", "no change outside of the allowed paths", &outside);
        let tests = judge.locked_paths(fixture);
        let touched = list(&|path| tests.contains(path) || judge.steers(path));
        rows.none("tests_untouched", "no change to tests and their configuration", &touched);
        let (on_base, equal) = match &work.head {
            None => (false, "there is no readable commit".to_owned()),
            Some(head) => {
                let differing = patch::changed(&head.files, &work.files);
                let names: Vec<&str> = differing.iter().map(RelPath::as_str).collect();
                let equal = if names.is_empty() {
                    "equal".to_owned()
                } else {
                    format!("differs in {}", names.join(", "))
                };
                (head.on_base, equal)
            }
        };
        let found = if on_base { "it does" } else { "it does not" };
        rows.add("commit_on_base", on_base, "the commit follows the fixture's", found);
        rows.add("commit_is_worktree", equal == "equal", "the commit equals the work tree", equal);
        special.is_empty() && outside.is_empty() && work.faults.is_empty()
    }

    /// The copy that is judged: of the work only what it was allowed to change; tests and configuration from the fixture.
    fn restored(&self, work: &Files) -> Files {
        let Self { judge, fixture, .. } = *self;
        let mut copy = fixture.workspace.clone();
        let tests = judge.locked_paths(fixture);
        for path in &fixture.record.allowed_paths {
            if tests.contains(path) || judge.steers(path) {
                continue;
            }
            match work.get(path) {
                Some(content) => copy.insert(path.clone(), content.clone()),
                None => copy.remove(path),
            };
        }
        copy
    }
}
