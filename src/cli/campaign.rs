//! `admit campaign`: many runs as one claim, on one machine or a cluster.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::app::App;
use super::findings;
use crate::campaign::count::title;
use crate::campaign::plan::{self, Wanted};
use crate::campaign::seal::{self, Counted};
use crate::campaign::slurm::{self, Slurm};
use crate::campaign::task::{self, Done};
use crate::campaign::{Campaign, local, proof, scheduler, verify};
use crate::error::Result;
use crate::record;
use crate::record::campaign::{CampaignRecord, Count, TaskState};
use crate::record::ids::Digest;
use crate::stop;
use crate::ui::{self, Mark};
use crate::verify::Signatures;

/// Plan many runs, do them here or on a cluster, and count them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Plan(PlanArgs),
    Submit(SubmitArgs),
    Task(TaskArgs),
    /// Count what is there so far, and name every task without a score; writes nothing
    Status(DirArgs),
    /// Count every run that was sealed, and write the record and its page
    Seal(DirArgs),
    Show(ShowArgs),
}

/// Fix what will be run, how often, and how it will be counted, before the first run
#[derive(Debug, clap::Args)]
struct PlanArgs {
    #[command(flatten)]
    wanted: Wanted,
    /// The campaign's directory (default: one below the state directory, named after the plan)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A campaign's directory, and which plan must lie in it.
#[derive(Debug, clap::Args)]
struct DirArgs {
    /// The campaign's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The plan's digest, where it came by another way
    #[arg(long, value_name = "DIGEST")]
    plan: Option<Digest>,
}

impl DirArgs {
    fn open(&self, app: &App) -> Result<Campaign> {
        Campaign::open(&app.context.host.absolute(&self.dir), self.plan.as_ref())
    }
}

/// Do every task that has no score, here or on a cluster
#[derive(Debug, clap::Args)]
struct SubmitArgs {
    #[command(flatten)]
    of: DirArgs,
    /// Where the runs go
    #[arg(long, value_enum, default_value_t = EngineName::Local)]
    engine: EngineName,
    #[command(flatten)]
    slurm: Slurm,
    /// Print the scripts that would be submitted (slurm), and submit nothing
    #[arg(long)]
    print: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum EngineName {
    /// Processes of this machine
    Local,
    /// An array of jobs, and a collector behind it
    Slurm,
}

/// Do one task: the next attempt at one index of the plan
#[derive(Debug, clap::Args)]
struct TaskArgs {
    #[command(flatten)]
    of: DirArgs,
    /// Which one, counted from 0 (default: the array variable of the scheduler that started this process)
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// The engine of admit's own that started this process
    #[arg(long, value_name = "NAME", hide = true)]
    engine: Option<String>,
}

/// Show a campaign's count, or one task of it with the proof that it belongs to the count
#[derive(Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    of: DirArgs,
    /// One task alone
    #[arg(long, value_name = "N")]
    index: Option<u32>,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    match &args.what {
        What::Plan(args) => make_plan(app, args),
        What::Submit(args) => submit(app, args),
        What::Task(args) => one_task(app, args),
        What::Status(args) => {
            let campaign = args.open(app)?;
            let counted = seal::status(&app.context, &campaign)?;
            show(app, &campaign, &counted, "admit.campaign-status/2");
            Ok(0)
        }
        What::Seal(args) => seal_it(app, &args.open(app)?),
        What::Show(args) => show_record(app, args),
    }
}

fn make_plan(app: &App, args: &PlanArgs) -> Result<u8> {
    let plan = plan::make(&app.context, &args.wanted)?;
    let dir = match &args.out {
        Some(dir) => app.context.host.absolute(dir),
        None => plan::default_dir(&app.context, &plan)?,
    };
    let campaign = Campaign::create(&dir, plan)?;
    let (cells, tasks) = (campaign.plan.cells.len(), campaign.plan.tasks());
    let ui = &app.ui;
    let first = format!(
        "{}: {}, each {}",
        ui::count(tasks as usize, "task", "tasks"),
        ui::count(cells, "cell", "cells"),
        ui::count(args.wanted.repeats as usize, "time", "times")
    );
    ui.verdict(Mark::Good, "planned", &first);
    campaign.plan.cells.iter().for_each(|cell| ui.value("cell", &title(cell)));
    ui.value("place", &dir.display().to_string());
    ui.value("next", &format!("admit campaign submit {}", dir.display()));
    ui.verdict(Mark::Good, "planned", &campaign.digest.to_string());
    ui.json(&json!({
        "schema": "admit.campaign-planned/1", "plan": campaign.digest, "directory": dir,
        "tasks": tasks, "cells": campaign.plan.cells,
    }));
    Ok(0)
}

fn submit(app: &App, args: &SubmitArgs) -> Result<u8> {
    let campaign = args.of.open(app)?;
    if args.engine == EngineName::Local {
        // The runs are told, and take their time to be sealed.
        stop::note(&app.context.stop)?;
        local::run(&app.context, &campaign, args.slurm.jobs as usize)?;
        return seal_it(app, &campaign);
    }
    let mut admit = vec![crate::host::own_program()?.display().to_string()];
    for flag in app.context.flags()? {
        admit.push(flag.to_string_lossy().into_owned());
    }
    let scripts = slurm::scripts(&campaign, &args.slurm, &admit);
    if args.print {
        app.ui.line(&scripts.0);
        app.ui.line(&scripts.1);
        app.ui.json(&json!({
            "schema": "admit.campaign-submitted/1", "plan": campaign.digest,
            "array": scripts.0, "collector": scripts.1, "submitted": false,
        }));
        return Ok(0);
    }
    let (array, collector) = slurm::submit(&app.context, &campaign, &scripts)?;
    let tasks = campaign.plan.tasks();
    let tasks = ui::count(tasks as usize, "task", "tasks");
    app.ui.verdict(Mark::Good, "submitted", &format!("{tasks} as job {array}"));
    app.ui.value("next", &format!("admit campaign status {}", campaign.dir.display()));
    let last = format!("counted by job {collector}, when all have ended");
    app.ui.verdict(Mark::Good, "submitted", &last);
    app.ui.json(&json!({
        "schema": "admit.campaign-submitted/1", "plan": campaign.digest,
        "array": array, "collector": collector, "submitted": true,
    }));
    Ok(0)
}

fn one_task(app: &App, args: &TaskArgs) -> Result<u8> {
    let campaign = args.of.open(app)?;
    let asked = scheduler::asked(&app.context, args.index, args.engine.as_deref())?;
    app.heed_signals()?;
    let done = task::task(&app.context, &campaign, &asked)?;
    let ui = &app.ui;
    let (attempt, status) = match &done {
        Done::Before(one) => (one.attempt, one.status),
        Done::Ran(attempt, outcome) => {
            (*attempt, outcome.sealed.as_ref().map(|sealed| sealed.report.status))
        }
    };
    let dir = campaign.run_dir(asked.index, attempt);
    let word = status.map_or("unknown", |status| status.as_str());
    let before = matches!(done, Done::Before(_));
    let mark = if done.code() == 0 { Mark::Good } else { Mark::Bad };
    let text = match before {
        true => format!("{word}, in attempt {attempt} before this; nothing was started"),
        false => format!("{word}, in attempt {attempt}"),
    };
    ui.verdict(mark, &format!("task {}", asked.index), &text);
    ui.verdict(mark, &format!("task {}", asked.index), &dir.display().to_string());
    ui.json(&json!({
        "schema": "admit.campaign-task/1", "plan": campaign.digest, "index": asked.index,
        "attempt": attempt, "status": status, "before": before, "directory": dir,
        "exit_code": done.code(),
    }));
    Ok(done.code())
}

fn seal_it(app: &App, campaign: &Campaign) -> Result<u8> {
    let counted = seal::seal(&app.context, campaign)?;
    show(app, campaign, &counted, "admit.campaign-sealed/2");
    Ok(u8::from(!counted.record.complete))
}

fn show(app: &App, campaign: &Campaign, counted: &Counted, schema: &str) {
    lines(app, campaign, &counted.record);
    let (mark, word) = verdict(&counted.record);
    app.ui.verdict(mark, word, &counted.digest().to_string());
    for name in &counted.other {
        app.ui.remark(&format!("{name} lies in runs/ and is no attempt at a task"));
    }
    let record = &counted.record;
    app.ui.json(&json!({
        "schema": schema, "plan": record.plan, "digest": counted.digest(), "complete": record.complete,
        "total": record.total, "cells": record.cells, "other": counted.other,
        "directory": campaign.dir, "root_hash": record.root_hash,
    }));
}

/// The most tasks that are named one by one.
const NAMED: usize = 10;

fn verdict(record: &CampaignRecord) -> (Mark, &'static str) {
    match record.complete {
        true => (Mark::Good, "complete"),
        false => (Mark::Bad, "incomplete"),
    }
}

fn lines(app: &App, campaign: &Campaign, record: &CampaignRecord) {
    let ui = &app.ui;
    let total = &record.total;
    let (mark, word) = verdict(record);
    ui.verdict(mark, word, &numbers(total));
    for (cell, count) in campaign.plan.cells.iter().zip(&record.cells) {
        ui.row(Mark::Note, &title(cell), &numbers(count));
    }
    for (class, count) in &total.classes {
        ui.detail("failed", &format!("{count} x {class}"));
    }
    let open = |state| !matches!(state, TaskState::Success | TaskState::Failure);
    let tasks: Vec<_> = record.tasks.iter().filter(|task| open(task.state)).collect();
    for task in tasks.iter().take(NAMED) {
        let last = task.attempts.last().and_then(|one| one.why.as_deref()).unwrap_or("never begun");
        ui.detail(&format!("task {}", task.index), &format!("{}: {last}", task.state.as_str()));
    }
    if tasks.len() > NAMED {
        ui.detail(
            "and",
            &format!("{} more; --json of admit campaign show has all", tasks.len() - NAMED),
        );
    }
}

fn numbers(count: &Count) -> String {
    let scored = count.success + count.failure;
    let mut text = format!("{} of {scored} succeeded", count.success);
    if let Some(interval) = &count.interval {
        text += &format!(", 95 % [{}, {}]", short(&interval.low), short(&interval.high));
    }
    let open = count.planned - scored;
    let mut why = Vec::new();
    if open > 0 {
        why.push(format!("{open} of {} without a score", count.planned));
    }
    if count.repeated > 0 {
        why.push(format!("{} counted after an attempt that was not scored", count.repeated));
    }
    if !why.is_empty() {
        let (low, high) = (short(&count.bounds.low), short(&count.bounds.high));
        text += &format!("; {}, so the rate is in [{low}, {high}]", why.join(" and "));
    }
    text
}

/// A decimal with two digits.
fn short(decimal: &str) -> &str {
    decimal.get(..4).unwrap_or(decimal)
}

fn show_record(app: &App, args: &ShowArgs) -> Result<u8> {
    let campaign = args.of.open(app)?;
    let Some(index) = args.index else {
        let checked = seal::verify(&app.context, &campaign)?;
        lines(app, &campaign, &checked.record);
        let (mark, word) = verdict(&checked.record);
        app.ui.verdict(mark, word, &checked.digest.to_string());
        app.ui.json(&record::to_value(&checked.record));
        return Ok(0);
    };
    let proof = proof::of(&seal::counted(&campaign)?, index)?;
    app.ui.line(&format!("{:#}", record::to_value(&proof)));
    app.ui.json(&record::to_value(&proof));
    Ok(0)
}

/// `admit verify DIR` of a campaign.
pub(super) fn verify(
    app: &App,
    dir: &Path,
    id: Option<&Digest>,
    signatures: &Signatures,
) -> Result<u8> {
    let verified = verify::campaign(&app.context, dir, id, signatures)?;
    let (campaign, checked) = (&verified.campaign, &verified.checked);
    let (signed, good) = (&verified.signed, verified.is_of_the_runs());
    let (holds, done) = (verified.holds(), verified.succeeded());
    let ui = &app.ui;
    let tasks = ui::count(checked.record.tasks.len(), "task", "tasks");
    let all = checked.differences.len() + checked.other.len();
    let differences = ui::count(all, "difference", "differences");
    let (mark, word, first) = match (holds, good) {
        (true, _) if done => (Mark::Good, "holds", format!("{tasks}, counted as they ended")),
        (true, _) => {
            let what = format!("{tasks}, counted as they ended, and not all of them succeeded");
            (Mark::Bad, "no", what)
        }
        (false, true) => (Mark::Bad, "fails", "the signatures do not do".to_owned()),
        (false, false) => {
            (Mark::Bad, "fails", format!("{differences} between the count and the runs"))
        }
    };
    ui.verdict(mark, word, &first);
    match signed {
        None => {}
        Some(Ok(held)) => ui.value("signed", &format!("by {}", held.names())),
        Some(Err(no)) => findings::unsigned(ui, no),
    }
    if good {
        lines(app, campaign, &checked.record);
    } else {
        for one in &checked.differences {
            ui.row(Mark::Bad, &one.place, "");
            ui.detail("expected", &one.expected);
            ui.detail("found", &one.found);
        }
        for name in &checked.other {
            ui.row(Mark::Bad, name, "lies in runs/ and is no attempt at a task");
        }
    }
    let last = if holds { checked.digest.to_string() } else { first };
    ui.verdict(mark, word, &last);
    ui.json(&json!({
        "schema": "admit.campaign-check/2", "plan": campaign.digest, "digest": checked.digest,
        "holds": holds, "complete": checked.record.complete, "differences": checked.differences,
        "other": checked.other, "total": checked.record.total,
        "signature": findings::signature(signed.as_ref()),
    }));
    Ok(verified.exit_code())
}

/// `admit verify FILE` of a task that was shown alone.
pub(super) fn verify_proof(
    app: &App,
    file: &Path,
    id: Option<&Digest>,
    signatures: &Signatures,
) -> Result<u8> {
    let verified = verify::task(&app.context, file, id, signatures)?;
    let (shown, signed) = (&verified.shown, &verified.signed);
    let (task, holds) = (&shown.task, verified.holds());
    let ui = &app.ui;
    let name = format!("task {} of {}", task.index, shown.tree_size);
    let (mark, word) = match (holds, verified.succeeded()) {
        (false, _) => (Mark::Bad, "fails"),
        (true, true) => (Mark::Good, "holds"),
        (true, false) => (Mark::Bad, "no"),
    };
    ui.verdict(mark, word, &format!("{name}: {}", task.state.as_str()));
    let counted = task.attempts.iter().find(|one| Some(one.attempt) == task.counted);
    if let Some(run) = counted.and_then(|one| one.run.as_ref()) {
        ui.value("run", &run.to_string());
    }
    ui.value("plan", &shown.plan.to_string());
    ui.value("tree", &shown.root_hash.to_string());
    let proof = match (signed, id) {
        (Some(Ok(held)), _) => format!("signed by {}", held.names()),
        (Some(Err(no)), _) => format!("{}: expected {}, found {}", no.reason, no.expected, no.found),
        (None, Some(_)) => "equal to the given id".into(),
        (None, None) => {
            "the tree is the proof's own: --bundle of the count, or --id with the tree's hash, proves more"
                .into()
        }
    };
    ui.value("proof", &proof);
    ui.verdict(mark, word, &name);
    ui.json(&json!({
        "schema": "admit.campaign-proof-check/1", "holds": holds, "plan": shown.plan, "record": shown.record,
        "root_hash": shown.root_hash, "task": task,
        "signature": findings::signature(signed.as_ref()),
    }));
    Ok(verified.exit_code())
}
