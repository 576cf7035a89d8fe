//! `admit build NAME[@REV]`: from the lock to a proven output in the store.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::app::App;
use crate::build::rebuild::{Answer, Rebuilt};
use crate::build::{self, Again, Build, Options, Rebuild, STEP_WALL};
use crate::bun::native;
use crate::error::Result;
use crate::lock::{self, Spec};
use crate::record;
use crate::record::report::{BuildReport, Origin, OutputStatus};
use crate::ui::{self, Mark};

/// Build a locked provider in a sandbox and prove what came out
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The provider, or provider@commit with the beginning of the locked commit
    #[arg(value_name = "PROVIDER[@COMMIT]")]
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

fn runtime(report: &BuildReport) -> String {
    let runtime = &report.runtime;
    let Some(native) = &runtime.native else {
        let modules = ui::count(runtime.modules, "module", "modules");
        let mut out = format!("Bun {}, proven byte for byte; {modules}", report.bun_version);
        if !runtime.exec_argv.is_empty() {
            out.push_str(&format!("; compiled arguments {:?}", runtime.exec_argv));
        }
        if runtime.unexplained > 0 {
            out.push_str(&format!("; {} bytes of its graph are unexplained", runtime.unexplained));
        }
        return out;
    };
    let mut out = format!("native: {}", native::words(native));
    if let Some(why) = &runtime.not_proven {
        out.push_str(&format!("; not proven: {why}"));
    }
    out
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
    app.ui.finish();
    let (mark, word) = match (report.verification, rebuild) {
        (OutputStatus::Locked, _) if report.origin == Origin::Pulled => (Mark::Good, "pulled"),
        (_, Some(Rebuild { rebuilt, .. })) if rebuilt.answer == Answer::Differs => {
            (Mark::Bad, "differs")
        }
        (OutputStatus::Locked, _) if report.origin == Origin::Published => (Mark::Good, "taken"),
        (OutputStatus::Locked, _) => (Mark::Good, "built"),
        (OutputStatus::Unlocked, _) => (Mark::Note, "built"),
    };
    let fresh = if build.fresh { "" } else { " (earlier; found in the store and verified)" };
    let pin = report.pinned_commit.to_string();
    let pin = pin.get(..12).unwrap_or(&pin);
    app.ui.verdict(mark, word, &format!("{} at {pin}{fresh}", report.provider));
    app.ui.value("output", &build.output.display().to_string());
    app.ui.value("digest", &report.sha256.to_string());
    if let Some(words) = report.origin.not_built_here() {
        app.ui.value("origin", words);
    }
    app.ui.value("inside", &runtime(report));
    if let Some(Rebuild { rebuilt: Rebuilt { answer, expected: Some(before), .. }, .. }) = rebuild {
        let again = match answer {
            Answer::Reproduced => "reproduced: the same bytes".to_owned(),
            _ => {
                let before = before.sha256();
                format!("differs: it was {before}, and that one stays on record")
            }
        };
        app.ui.value("again", &again);
    }
    match (&recorded, report.verification) {
        (Some(place), _) => app.ui.value("record", place),
        (None, OutputStatus::Locked) => {
            app.ui.value("next", &format!("admit build {} --record", report.provider));
        }
        (None, OutputStatus::Unlocked) => {
            app.ui.value("next", &format!("admit lock {} --update", report.provider));
        }
    }
    let last = match report.verification {
        OutputStatus::Locked => "the output is the one that the lock names",
        OutputStatus::Unlocked => {
            "unlocked: the lock names no output for this platform yet, so there is nothing to compare it with"
        }
    };
    app.ui.verdict(mark, word, last);
    Ok(())
}
