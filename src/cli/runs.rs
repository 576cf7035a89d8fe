//! `admit runs`: this user's runs listed and filtered; `compare` holds two side by side, `prune` removes old ones.

use serde_json::json;

use super::app::App;
use super::findings::Shown;
use super::run::mark;
use crate::error::Result;
use crate::ui::{self, Mark};
use crate::verify::history::{self, Filter, Prune, Row, STATUSES};

/// List your runs, compare two, or remove old ones
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    filter: Filter,
    /// At most so many, the newest first
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Hold two runs side by side: what differs
    Compare(Compare),
    /// Remove runs; passes stay unless they are asked for
    Prune(Prune),
}

#[derive(Debug, clap::Args)]
struct Compare {
    /// A run: its directory, its name, or `latest`
    #[arg(value_name = "RUN")]
    a: String,
    /// Another
    #[arg(value_name = "RUN")]
    b: String,
    #[command(flatten)]
    shown: Shown,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    match &args.command {
        None => list(app, args),
        Some(Command::Compare(args)) => compare(app, args),
        Some(Command::Prune(args)) => prune(app, args),
    }
}

fn line(app: &App, run: &Row) {
    let (mark, status) = match run.status {
        Some(status) => (mark(status), status.as_str()),
        None => (Mark::Bad, "unknown"),
    };
    let class = run.failure_class.map(|class| class.as_str()).or(run.fault);
    let model = run.model.as_deref().or(run.agent.as_deref());
    // One line a run: where there is no room, what says most.
    let room = if app.ui.width().is_some_and(|width| width < 120) { 1 } else { 2 };
    let more: Vec<&str> = [class, model].into_iter().flatten().take(room).collect();
    app.ui.row(mark, &run.name, &format!("{status:<9} {}", more.join("  ")));
}

fn list(app: &App, args: &Args) -> Result<u8> {
    let rows = history::list(&app.context, &args.filter)?;
    let shown = &rows[..rows.len().min(args.limit)];
    let runs = ui::count(rows.len(), "run", "runs");
    let counts = STATUSES.iter().map(|status| {
        let is = |row: &&Row| row.status == Some(*status) && row.fault.is_none();
        let count = rows.iter().filter(is).count();
        format!("{count} {}", status.as_str())
    });
    let counts = counts.collect::<Vec<_>>().join(", ");
    app.ui.verdict(Mark::Note, &runs, &counts);
    shown.iter().for_each(|run| line(app, run));
    app.ui.json(&json!({ "schema": "admit.runs/1", "total": rows.len(), "runs": shown }));
    if !rows.is_empty() {
        let next = "admit show RUN; admit verify RUN checks its files, which this list does not";
        app.ui.verdict(Mark::Note, &format!("{} shown", shown.len()), next);
    }
    Ok(0)
}

fn compare(app: &App, args: &Compare) -> Result<u8> {
    let found = history::compare(&app.context, &args.a, &args.b)?;
    let differing = found.fields.iter().filter(|side| side.a != side.b);
    let differing: Vec<_> = differing.collect();
    let status = |run: &crate::evidence::RunCheck| {
        run.report.as_ref().map_or("unknown", |report| report.status.as_str())
    };
    let (a, b) = (status(&found.a), status(&found.b));
    let (mark, word) = if a == b { (Mark::Note, "same status") } else { (Mark::Bad, "differ") };
    app.ui.verdict(mark, word, &format!("{a} and {b}"));
    for side in &found.fields {
        if args.shown.all || side.a != side.b {
            app.ui.line(side.field);
            app.ui.value("a", &side.a);
            app.ui.value("b", &side.b);
        }
    }
    app.ui.json(&json!({
        "schema": "admit.runs-compared/1", "a": found.a.id, "b": found.b.id, "fields": found.fields,
    }));
    let fields = ui::count(differing.len(), "field differs", "fields differ");
    app.ui.verdict(mark, word, &format!("{fields} of {}", found.fields.len()));
    Ok(0)
}

fn prune(app: &App, args: &Prune) -> Result<u8> {
    let gone = history::prune(&app.context, args)?;
    let bytes: u64 = gone.iter().map(|one| one.bytes).sum();
    let word = if args.dry_run { "would remove" } else { "removed" };
    let what = format!("{}, {}", ui::count(gone.len(), "run", "runs"), ui::bytes(bytes));
    app.ui.verdict(Mark::Note, word, &what);
    gone.iter().for_each(|one| line(app, &one.run));
    app.ui.json(&json!({
        "schema": "admit.runs-pruned/1", "dry_run": args.dry_run, "bytes": bytes, "runs": gone,
    }));
    if !gone.is_empty() {
        app.ui.verdict(Mark::Note, word, &what);
    }
    Ok(0)
}
