//! `admit build NAME[@REV]`: from the lock to a proven output in the store.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::app::App;
use crate::build::rebuild::{Answer, Rebuilt};
use crate::build::{self, Again, Build, Options, Rebuild, STEP_WALL};
use crate::error::Result;
use crate::lock::{self, Spec};
use crate::record;
use crate::record::report::OutputStatus;

/// Build a locked provider in a sandbox and prove what came out
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The provider, or provider@commit with the beginning of the locked commit
    spec: Spec,
    /// Put the build on record in admissions/builds/
    #[arg(long)]
    record: bool,
    /// Build again, although the output is in the store, and compare
    #[arg(long)]
    rebuild: bool,
    /// Keep the files that a failed build leaves, and say where
    #[arg(long)]
    keep_failed: bool,
    /// Build on disk below this directory, not in memory
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Deadline of each build step
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    step_timeout: Option<u64>,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let locked = lock::resolve(&*app.context.root()?, &args.spec)?;
    let options = Options {
        keep_failed: args.keep_failed,
        scratch: args.scratch.as_ref().map(|dir| app.context.host.absolute(dir)),
        step_wall: args.step_timeout.map_or(STEP_WALL, Duration::from_secs),
        ..Options::default()
    };
    if !args.rebuild {
        let build = build::make(&app.context, &locked, &options)?.required()?;
        show(app, &build, None, args.record)?;
        return Ok(0);
    }
    let Again { rebuild, build } = build::again(&app.context, &locked, &options)?;
    match &build {
        Ok(build) => show(app, build, rebuild.as_ref(), args.record)?,
        Err(err) => {
            app.ui.words(err);
            app.ui.json(&record::to_value(&rebuild));
        }
    }
    Ok(rebuild.map_or(0, |rebuild| rebuild.rebuilt.exit_code()))
}

/// Puts the build on record, where that is asked for, and says what it is.
pub(super) fn show(
    app: &App,
    build: &Build,
    rebuild: Option<&Rebuild>,
    record: bool,
) -> Result<()> {
    let report = &build.report;
    let recorded = record.then(|| build::record(&app.context, report)).transpose()?;
    app.ui.json(&json!({
        "schema": "admit.built/2",
        "report": record::to_value(report),
        "report_digest": report.core_digest(),
        "output": build.output,
        "fresh": build.fresh,
        "rebuilt": rebuild,
        "recorded": recorded,
    }));
    let line = |name: &str, value: &str| app.ui.line(&format!("{name:<13} {value}"));
    line("provider", &format!("{} at {}", report.provider, report.pinned_commit));
    line("output", &build.output.display().to_string());
    line("sha256", &report.sha256.to_string());
    line("blake3", &report.blake3.to_string());
    let verified = match report.verification {
        OutputStatus::Locked => "locked: this is the output that the lock names",
        OutputStatus::Unlocked => {
            "unlocked: nothing is locked for this platform yet (admit lock --update locks it)"
        }
    };
    line("verification", verified);
    line(
        "runtime",
        &format!("Bun {}, byte for byte; {} modules", report.bun_version, report.runtime.modules),
    );
    line("report", &report.core_digest().to_string());
    if let Some(Rebuild { rebuilt: Rebuilt { answer, expected: Some(before), .. }, .. }) = rebuild {
        match answer {
            Answer::Reproduced => line("rebuilt", "reproduced: the same bytes"),
            _ => {
                let before = before.sha256();
                line("rebuilt", &format!("differs: it was {before}, and that one stays on record"));
            }
        }
    }
    if !build.fresh {
        line("built", "earlier; found in the store and verified");
    }
    if let Some(place) = recorded {
        line("recorded", &place);
    }
    Ok(())
}
