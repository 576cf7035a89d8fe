//! Attacks on a fixture: work that must not be accepted, of every class that agents were seen to try, judged as a run's
//! work is. Where one attempt gets through, the fixture says nothing about who passes it.

mod attempt;
mod code;
mod command;
mod program;
mod python;
mod typescript;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::fixture;
use super::judge::choose::WALL;
use super::judge::held_out::Seed;
use super::judge::{self, Bench};
use super::patch;
use super::tools;
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::fetch::parallel::each;
use crate::host::{self, nonce};
use crate::record::fixture::{AttackCount, AttackResult};
use crate::record::ids::{Digest, Name};
use crate::sandbox::Launcher;
use attempt::{Attempt, Ground};

/// Shortest time that a command of the judge has.
const SHORTEST: Duration = Duration::from_secs(5);

/// How much longer than the reference solution an attempt may take: what is slower would be refused by a run's judge later.
const PATIENCE: u32 = 10;

/// The classes of attempts, and what each is about.
pub const CLASSES: [(&str, &str); 11] = [
    ("nothing", "work that was not done"),
    ("answers", "answers that are known, found or guessed"),
    ("equality", "values that pass for any other"),
    ("runner", "a changed test runner or driver"),
    ("exit", "a process that ends well before it was asked"),
    ("output", "results that are only printed"),
    ("resources", "time, disk, memory, processes and output without end"),
    ("tests", "tests edited, emptied or removed"),
    ("steering", "files that steer the language or the test runner"),
    ("outside", "files that were not to be touched, links and modes"),
    ("commit", "work that is not committed on the fixture's commit"),
];

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    pub class: &'static str,
    pub name: String,
    /// Whether the condition that is meant for it did not hold.
    pub refused: bool,
    /// Beginnings of the names of the conditions that are meant for it.
    pub meant: &'static [&'static str],
    /// The conditions that did not hold.
    pub by: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attacked {
    pub digest: Digest,
    /// Files that may change and are of no language that attempts are written in: nothing was tried in their place.
    pub untried: Vec<String>,
    pub tried: Vec<Tried>,
}

impl Attacked {
    pub fn held(&self) -> bool {
        !self.tried.is_empty() && self.tried.iter().all(|one| one.refused)
    }

    /// What a record keeps of it.
    pub fn result(&self) -> AttackResult {
        let count = |(class, refused, tried): (&str, usize, usize)| {
            (class.to_owned(), AttackCount { refused: refused as u64, attempts: tried as u64 })
        };
        let accepted = self.tried.iter().filter(|one| !one.refused);
        let accepted: Vec<String> = accepted.map(|one| one.name.clone()).collect();
        AttackResult {
            digest: self.digest.clone(),
            admit_version: env!("CARGO_PKG_VERSION").into(),
            refused: (self.tried.len() - accepted.len()) as u64,
            attempts: self.tried.len() as u64,
            classes: self.by_class().into_iter().map(count).collect(),
            accepted,
            untried: self.untried.clone(),
        }
    }

    /// Refused and tried of each class, in the order of [`CLASSES`].
    pub fn by_class(&self) -> Vec<(&'static str, usize, usize)> {
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for one in &self.tried {
            let count = counts.entry(one.class).or_default();
            *count = (count.0 + usize::from(one.refused), count.1 + 1);
        }
        let row = |(class, _): (&'static str, _)| {
            counts.get(class).map(|(refused, tried)| (class, *refused, *tried))
        };
        CLASSES.into_iter().filter_map(row).collect()
    }
}

/// Attacks the fixture `name`. The seed is a new one, so the calls are those of no run.
///
/// # Errors
/// Those of [`fixture::load`], of the tools and of the sandbox; [`Reason::BadRecord`] where the judge does not accept the
/// reference solution: then its refusals say nothing.
pub fn attack(context: &Context, name: &Name) -> Result<Attacked> {
    host::enough_tasks()?;
    let (root, store) = (context.root()?, context.store()?);
    let fixture = fixture::load(&root, name)?;
    let tools = tools::of(context, &root, &store, &fixture.record)?;
    let scratch = store.scratch()?;
    let launcher = Launcher::own(scratch.path());
    let judge = judge::choose::of(&fixture, &launcher, &tools, WALL)?;
    let draw = judge::draw(&*judge, &fixture, &Seed::new(&nonce()?)?)?;
    let earlier = judge::draw(&*judge, &fixture, &Seed::new(&nonce()?)?)?;
    let solved = patch::apply(&fixture.workspace, &fixture.reference_patch).map_err(|what| {
        Error::new(Reason::BadRecord, "the reference patch does not apply").found(what)
    })?;
    let ground = Ground { fixture: &fixture, judge: &*judge, earlier: &earlier, solved };
    let begin = Instant::now();
    let bench = Bench { judge: &*judge, fixture: &fixture, draw: &draw };
    let reference = bench.judge_own(&ground.reference()?)?;
    if !reference.passed {
        return Err(Error::new(
            Reason::BadRecord,
            "the judge does not accept the reference solution",
        )
        .at(format!("fixtures/{name}/"))
        .expected("every condition holds")
        .found(reference.note())
        .hint(format!("admit fixture check {name}")));
    }
    let wall = SHORTEST.max(begin.elapsed() * PATIENCE);
    let quick = judge::choose::of(&fixture, &launcher, &tools, wall)?;
    let attempts = ground.all()?;
    Ok(Attacked {
        digest: fixture.digest.clone(),
        untried: ground.untried(),
        tried: judged(Bench { judge: &*quick, ..bench }, &attempts)?,
    })
}

/// Judges all of them, as many at a time as the machine has processors.
fn judged(bench: Bench<'_>, attempts: &[Attempt]) -> Result<Vec<Tried>> {
    let at_once = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    each(
        at_once,
        attempts,
        || Ok(()),
        |attempt| {
            // What the structure of the work has to refuse needs no round, and what one round refuses no second one.
            let runs = attempt.refused_by == attempt::CALLS;
            let judgement = bench.judge_in(&attempt.work, u32::from(runs))?;
            let failed = judgement.rows.iter().filter(|row| !row.passed);
            let by: Vec<String> = failed.map(|row| row.id.clone()).collect();
            let meant = |row: &String| attempt.refused_by.iter().any(|id| row.starts_with(id));
            Ok(Tried {
                class: attempt.class,
                name: attempt.name.clone(),
                refused: !judgement.passed && by.iter().any(meant),
                meant: attempt.refused_by,
                by,
            })
        },
    )
}
