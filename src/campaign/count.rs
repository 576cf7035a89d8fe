//! The counting rule, pure: what each attempt is, which one counts, and what a campaign came to.
//!
//! The rule is fixed in the plan before the first run: the lowest attempt that was scored counts, never the best; what says
//! nothing about the agent (the run was stopped, its machine was lost, a gate refused, the model's server failed) is not
//! scored and listed; what has no score at the end makes the campaign incomplete and its rate a range.
//!
//! Nobody can choose what is left out: an agent that has itself killed when it fails, or who cancels the runs that go badly,
//! gets another attempt and with it a range that holds the failure.

use std::collections::BTreeMap;

use super::statistics::{decimal, pass_k, rate, wilson};
use super::tree;
use crate::record::campaign::{
    Attempt, AttemptState, CampaignPlan, CampaignRecord, Cell, Count, Interval, Task, TaskState,
};
use crate::record::evidence::{BaselinesOf, RunReport, RunStatus};
use crate::record::failure::FailureClass;
use crate::record::ids::{Digest, Timestamp};
use crate::record::{self, Record as _};

#[derive(Clone, Debug)]
pub struct AttemptDir {
    /// Its name below `runs/`.
    pub directory: String,
    /// What its name says.
    pub index: u32,
    pub attempt: u32,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Unsealed,
    /// Sealed, and something is wrong: the first fault.
    Changed(String),
    Sealed(Digest, Box<RunReport>),
}

#[derive(Clone, Debug)]
pub struct Baselines {
    rows: Digest,
    of: Option<BaselinesOf>,
}

impl Baselines {
    /// The directory of the run that made them, where that is another one.
    pub fn lender(&self) -> Option<&str> {
        self.of.as_ref().map(|of| of.directory.as_str())
    }
}

impl What {
    pub fn baselines(&self) -> Option<Baselines> {
        let Self::Sealed(_, report) = self else { return None };
        let rows = record::digest(&report.baselines);
        Some(Baselines { rows, of: report.baselines_of.clone() })
    }
}

/// One attempt at a task, with what its run says of its baselines.
pub type Row = (u32, Attempt, Option<Baselines>);

/// Another run's baselines count where that run is there, was scored on the same node, and made them itself; an attempt with
/// any other is none of this campaign.
pub fn hold_baselines(found: Vec<Row>) -> Vec<(u32, Attempt)> {
    let made: BTreeMap<String, (Digest, Option<String>, Digest)> = found
        .iter()
        .filter(|(_, one, _)| one.state == AttemptState::Scored)
        .filter_map(|(_, one, baselines)| {
            let Some(Baselines { rows, of: None }) = baselines else { return None };
            let run = (one.run.clone()?, one.node.clone(), rows.clone());
            Some((one.directory.clone(), run))
        })
        .collect();
    let held = |(index, mut one, baselines): Row| {
        if let Some(Baselines { rows, of: Some(of) }) = baselines {
            let wanted = (of.run, one.node.clone(), rows);
            if made.get(&of.directory) != Some(&wanted) {
                one.state = AttemptState::Foreign;
                one.why = Some(format!(
                    "its baselines are those of {}, {}, which is no scored run of the campaign with these baselines",
                    of.directory, wanted.0
                ));
            }
        }
        (index, one)
    };
    found.into_iter().map(held).collect()
}

pub fn attempt(plan: &CampaignPlan, digest: &Digest, found: &AttemptDir) -> Attempt {
    let without =
        |state, why: &str| without_run(found.directory.clone(), found.attempt, state, why);
    let (id, report) = match &found.what {
        What::Unsealed => {
            let why = "it has no seal: it is going on, or its machine was lost";
            return without(AttemptState::Unsealed, why);
        }
        What::Changed(fault) => return without(AttemptState::Changed, fault),
        What::Sealed(id, report) => (id, report),
    };
    let mut row = without(AttemptState::NotScored, "");
    row.run = Some(id.clone());
    row.status = Some(report.status);
    row.class = report.failure_class;
    row.why = report.failure_reason.clone();
    row.seconds = u64::try_from(report.finished.unix() - report.started.unix()).ok();
    if let Some(task) = &report.campaign {
        row.scheduler = Some(task.scheduler.clone());
        row.job = task.job.clone();
        row.node = Some(task.node.clone());
    }
    if let Some(other) = foreign(plan, digest, found, report) {
        row.state = AttemptState::Foreign;
        row.why = Some(other);
        return row;
    }
    row.started = Some(report.case_process_started);
    let scored = match report.status {
        RunStatus::Blocked => false,
        RunStatus::Pass | RunStatus::Rehearsed => true,
        RunStatus::Fail => {
            report.failure_class.is_some_and(|class| !plan.not_scored.contains(&class))
        }
    };
    if scored {
        row.state = AttemptState::Scored;
    }
    row
}

fn without_run(directory: String, attempt: u32, state: AttemptState, why: &str) -> Attempt {
    Attempt {
        directory,
        attempt,
        state,
        started: None,
        run: None,
        status: None,
        class: None,
        why: Some(why.to_owned()),
        seconds: None,
        scheduler: None,
        job: None,
        node: None,
    }
}

/// What makes it the run of something else; `None` where it is the planned one.
fn foreign(
    plan: &CampaignPlan,
    digest: &Digest,
    found: &AttemptDir,
    report: &RunReport,
) -> Option<String> {
    let differs = |what: &str, expected: String, got: String| {
        (expected != got).then(|| format!("{what}: expected {expected}, found {got}"))
    };
    let Some(task) = &report.campaign else {
        return Some("the run belongs to no campaign".into());
    };
    let Some((_, cell)) = plan.cell(found.index) else {
        return Some(format!("the plan has no task {}", found.index));
    };
    if found.attempt > plan.attempts {
        let (most, attempt) = (plan.attempts, found.attempt);
        return Some(format!("attempt: expected at most {most}, found {attempt}"));
    }
    // A run that was refused may not have come so far as to know its digests.
    let digest_differs = |what: &str, expected: &Digest, got: &Option<Digest>| {
        let text = got.as_ref().map_or("none".into(), Digest::to_string);
        let known = report.case_process_started || got.is_some();
        known.then(|| differs(what, expected.to_string(), text)).flatten()
    };
    let of = |provider: &Option<String>, model: &Option<String>| match (provider, model) {
        (Some(provider), Some(model)) => format!("{provider}/{model}"),
        _ => "none".into(),
    };
    let provider = report.provider.clone().unwrap_or_else(|| "none".into());
    differs("plan", digest.to_string(), task.plan.to_string())
        .or_else(|| differs("task", found.index.to_string(), task.index.to_string()))
        .or_else(|| differs("attempt", found.attempt.to_string(), task.attempt.to_string()))
        .or_else(|| differs("provider", cell.provider.to_string(), provider))
        .or_else(|| differs("fixture", cell.fixture.to_string(), report.fixture.clone()))
        .or_else(|| {
            let found = of(&report.case_model_provider, &report.case_model);
            differs("model", cell.model.to_string(), found)
        })
        .or_else(|| {
            digest_differs("fixture's digest", &cell.fixture_digest, &report.fixture_digest)
        })
        .or_else(|| digest_differs("model record", &cell.model_record, &report.model_record_sha256))
        .or_else(|| digest_differs("binary", &cell.binary_sha256, &report.case_binary_sha256))
}

fn task(plan: &CampaignPlan, index: u32, mut attempts: Vec<Attempt>) -> Task {
    let planned = |attempt: u32| attempt <= plan.attempts;
    let last = attempts.iter().map(|one| one.attempt).filter(|attempt| planned(*attempt)).max();
    for attempt in 1..last.unwrap_or(0) {
        if attempts.iter().all(|one| one.attempt != attempt) {
            let why = "its directory is not there, and that of a later attempt is";
            let directory = format!("{index:06}.{attempt}");
            attempts.push(without_run(directory, attempt, AttemptState::Absent, why));
        }
    }
    attempts.sort_by(|a, b| (a.attempt, &a.directory).cmp(&(b.attempt, &b.directory)));
    let counted = attempts.iter().find(|attempt| attempt.state == AttemptState::Scored);
    let state = match counted {
        Some(one) if one.status.is_some_and(|status| plan.success.contains(&status)) => {
            TaskState::Success
        }
        Some(_) => TaskState::Failure,
        None if attempts.is_empty() => TaskState::Missing,
        None if attempts.iter().any(|one| one.state == AttemptState::NotScored) => {
            TaskState::NotScored
        }
        None => TaskState::Lost,
    };
    let counted = counted.map(|one| one.attempt);
    let mut before =
        attempts.iter().filter(|one| counted.is_some_and(|counted| one.attempt < counted));
    let repeated = before.any(|one| one.started != Some(false));
    let cell = plan.cell(index).map_or(0, |(place, _)| u32::try_from(place).unwrap_or(u32::MAX));
    Task { index, cell, state, counted, repeated, attempts }
}

fn count<'a>(plan: &CampaignPlan, tasks: impl Iterator<Item = &'a Task>) -> Count {
    let (mut states, mut classes) = (BTreeMap::<TaskState, u32>::new(), BTreeMap::new());
    let (mut planned, mut repeated) = (0, 0);
    // What no other attempt could have changed.
    let (mut succeeded, mut failed) = (0, 0);
    for task in tasks {
        planned += 1;
        match (task.repeated, task.state) {
            (true, _) => repeated += 1,
            (false, TaskState::Success) => succeeded += 1,
            (false, TaskState::Failure) => failed += 1,
            (false, _) => {}
        }
        *states.entry(task.state).or_default() += 1;
        let counted = task.attempts.iter().find(|one| Some(one.attempt) == task.counted);
        if let (TaskState::Failure, Some(one)) = (task.state, counted) {
            let class = one.class.map_or("rehearsed", FailureClass::as_str);
            *classes.entry(class.to_owned()).or_insert(0) += 1;
        }
    }
    let of = |state| states.get(&state).copied().unwrap_or(0);
    let (success, failure) = (of(TaskState::Success), of(TaskState::Failure));
    let scored = success + failure;
    let share = |part: u32| match planned {
        0 => decimal(0.0),
        _ => decimal(f64::from(part) / f64::from(planned)),
    };
    Count {
        planned,
        success,
        failure,
        not_scored: of(TaskState::NotScored),
        lost: of(TaskState::Lost),
        missing: of(TaskState::Missing),
        repeated,
        rate: rate(success, scored),
        interval: wilson(success, scored),
        bounds: Interval { low: share(succeeded), high: share(planned - failed) },
        pass_k: plan.pass_k.iter().map(|k| pass_k(success, scored, *k)).collect(),
        classes,
    }
}

/// What the campaign came to, from every attempt that was found, in any order.
pub fn record(
    plan: &CampaignPlan,
    found: impl IntoIterator<Item = (u32, Attempt)>,
    now: &Timestamp,
) -> CampaignRecord {
    let mut by_task: BTreeMap<u32, Vec<Attempt>> = BTreeMap::new();
    for (index, attempt) in found {
        by_task.entry(index).or_default().push(attempt);
    }
    let tasks: Vec<Task> = (0..plan.tasks())
        .map(|index| task(plan, index, by_task.remove(&index).unwrap_or_default()))
        .collect();
    let cells = (0..plan.cells.len())
        .map(|place| count(plan, tasks.iter().filter(|task| task.cell as usize == place)))
        .collect();
    let leaves: Vec<Vec<u8>> = tasks.iter().map(record::canonical).collect();
    CampaignRecord {
        schema: CampaignRecord::SCHEMA.to_string(),
        plan: plan.digest(),
        admit_version: env!("CARGO_PKG_VERSION").into(),
        sealed: now.clone(),
        complete: tasks
            .iter()
            .all(|task| matches!(task.state, TaskState::Success | TaskState::Failure)),
        total: count(plan, tasks.iter()),
        cells,
        root_hash: tree::root(&leaves),
        tasks,
    }
}

pub fn title(cell: &Cell) -> String {
    format!("{} · {} · {}", cell.provider, cell.model, cell.fixture)
}

#[cfg(test)]
mod tests;
