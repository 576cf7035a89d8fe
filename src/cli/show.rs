//! `admit show RUN`: a run in the terminal.

use serde_json::json;

use super::findings::{self, Shown};
use super::verify::run_check;
use super::{App, run};
use crate::error::{Error, Reason, Result};
use crate::evidence;
use crate::explain;
use crate::record;
use crate::record::evidence::RunReport;
use crate::ui::Mark;
use crate::verify::runs;

/// Show a run: its end, gates, baselines, timeline and patch
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A run directory, the name of one of your runs, or `latest`
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    #[command(flatten)]
    shown: Shown,
    /// Print report.md instead
    #[arg(long)]
    markdown: bool,
    /// Print it in a form for a pipeline instead
    #[arg(long, value_enum, conflicts_with = "markdown")]
    format: Option<Format>,
    /// What `admit run` was asked for: a rehearsal is a failure in that form, too
    #[arg(long, value_name = "STATUS", value_parser = ["pass"], requires = "format")]
    require: Option<String>,
}

/// A form for a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// JUnit's XML: a case for the run, each check, each baseline and the judge
    Junit,
    /// Markdown of at most 20 lines, for the page of a job
    Summary,
    /// Workflow commands, which a service shows beside the change
    Annotations,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    if (args.markdown || args.format.is_some()) && app.ui.is_json() {
        let what = "--json and another form are asked for at once";
        return Err(Error::new(Reason::BadArgument, what));
    }
    let dir = runs::find(&app.context, &args.run)?;
    let checked = evidence::check(&dir, None)?;
    // What was changed is not shown as if it were the run.
    let report = checked.sealed()?;
    if args.markdown {
        app.ui.raw(evidence::markdown(report).as_bytes());
        return Ok(0);
    }
    if let Some(format) = args.format {
        let text = match format {
            Format::Junit => evidence::junit(report, args.require.is_some()),
            Format::Summary => evidence::summary(report, checked.id.as_ref()),
            Format::Annotations => evidence::annotations(report, args.require.is_some()),
        };
        app.ui.raw(text.as_bytes());
        return Ok(0);
    }
    app.ui.json(&json!({
        "schema": "admit.run-shown/1",
        "check": run_check(&checked),
        "report": record::to_value(report),
    }));
    text(app, report, args.shown);
    let level = checked.level.map_or("", evidence::Level::as_str);
    let id = checked.id.as_ref().map_or(String::new(), ToString::to_string);
    app.ui.value("id", &id);
    app.ui.value("report", &dir.join(evidence::names::REPORT_HTML).display().to_string());
    let mark = run::mark(report.status);
    app.ui.verdict(mark, report.status.as_str(), &format!("the files are {level}"));
    Ok(0)
}

fn text(app: &App, report: &RunReport, shown: Shown) {
    let show = |text: &str| evidence::visible(text).replace(['\n', '\t'], " ");
    let reason = report.failure_reason.as_deref().unwrap_or(explain::status(report.status));
    let what = format!("{}: {}", show(&report.fixture), show(reason));
    app.ui.verdict(run::mark(report.status), report.status.as_str(), &what);
    for blocker in &report.blockers {
        app.ui.value("why", &show(blocker));
    }
    if let Some(class) = report.failure_class {
        app.ui.value("do", explain::class(class).1);
    }
    if shown.all {
        app.ui.line("\nfacts");
        for (name, value) in evidence::facts(report) {
            app.ui.line(&format!("  {name:<28} {}", show(&value)));
        }
    }
    app.ui.line(&format!("\nchecks: {}", findings::counts(&report.gates)));
    let mut gates = report.gates.clone();
    for gate in &mut gates {
        for text in [&mut gate.id, &mut gate.expected, &mut gate.found, &mut gate.fix] {
            *text = show(text);
        }
    }
    findings::show(&app.ui, &gates, shown);
    match &report.baselines_of {
        None => app.ui.line("\nbaselines"),
        Some(of) => {
            app.ui.line(&format!("\nbaselines, of {} of the same campaign", show(&of.directory)));
        }
    }
    for row in &report.baselines {
        let mark = if row.held() { Mark::Good } else { Mark::Bad };
        app.ui.row(mark, &show(&row.name), &show(&row.note));
    }
    app.ui.line(&format!("\ntimeline (ms): {} events", report.events.count));
    // The ends say most; the page and --all have every row.
    let (rows, shortened) = (&report.timeline, !shown.all && report.timeline.len() > 24);
    for (number, row) in rows.iter().enumerate() {
        if shortened && (12..rows.len() - 12).contains(&number) {
            if number == 12 {
                app.ui.line(&format!("  {} more; --all shows them", rows.len() - 24));
            }
            continue;
        }
        let (at, by) = (evidence::millis(row.monotonic_ns), row.by.as_str());
        app.ui.line(&format!(
            "  {at:>12}  {by:<5}  {:<24} {}",
            show(&row.kind),
            show(&row.data.text)
        ));
    }
    if !report.diff.text.is_empty() {
        app.ui.line("\npatch");
        app.ui.diff(&report.diff.text);
    }
    app.ui.line("\nwire");
    for row in &report.wire {
        let status = row.status.map_or("none".into(), |status| status.to_string());
        app.ui.line(&format!(
            "  {:>3}  {status}  {:<20} {}",
            row.number,
            show(&row.class),
            show(&row.request_line)
        ));
    }
    app.ui.line("\nwhat stays open");
    for limit in &report.limits {
        app.ui.line(&format!("  {}", show(limit)));
    }
}
