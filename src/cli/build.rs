//! `admit build NAME[@REV]`: from the lock to a proven output in the store.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::app::App;
use crate::build::rebuild::{RebuildAnswer, Rebuilt};
use crate::build::{self, Again, Build, Options, Rebuild};
use crate::bun::native;
use crate::error::Result;
use crate::lock::{self, Locked, Spec};
use crate::record;
use crate::record::report::{BuildReport, Origin, OutputStatus};
use crate::share::{self, Outcome, Tried};
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
    /// Ask no cache of the root: build what is not in the store
    #[arg(long)]
    no_cache: bool,
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
        step_wall: args.step_timeout.map(Duration::from_secs),
        ..Options::default()
    };
    if !args.rebuild {
        let (build, cache) = match args.no_cache {
            true => (build::make(&app.context, &locked, &options)?.required()?, Vec::new()),
            false => {
                let obtained = share::obtain(&app.context, &locked, &options)?;
                (obtained.build, obtained.cache)
            }
        };
        show(app, &locked, &build, &Around { cache: &cache, rebuild: None }, args.record)?;
        return Ok(0);
    }
    let Again { rebuild, build } = build::again(&app.context, &locked, &options)?;
    match &build {
        Ok(build) => {
            let around = Around { cache: &[], rebuild: rebuild.as_ref() };
            show(app, &locked, build, &around, args.record)?;
        }
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

#[derive(Default)]
pub(super) struct Around<'a> {
    /// The caches that were asked for it.
    cache: &'a [Tried],
    rebuild: Option<&'a Rebuild>,
}

/// Puts the build on record, where that is asked for, and says what it is.
pub(super) fn show(
    app: &App,
    locked: &Locked,
    build: &Build,
    &Around { cache, rebuild }: &Around<'_>,
    record: bool,
) -> Result<()> {
    let report = &build.report;
    let recorded = record.then(|| share::record(&app.context, locked, report)).transpose()?;
    app.ui.json(&json!({
        "schema": "admit.built/3",
        "report": record::to_value(report),
        "report_digest": report.core_digest(),
        "output": build.output,
        "fresh": build.fresh,
        "rebuilt": rebuild,
        "cache": cache,
        "recorded": recorded,
    }));
    app.ui.finish();
    let (mark, word) = match (report.verification, rebuild) {
        (OutputStatus::Locked, _) if report.origin == Origin::Pulled => (Mark::Good, "pulled"),
        (_, Some(Rebuild { rebuilt, .. })) if rebuilt.answer == RebuildAnswer::Differs => {
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
        let first = report.first_origin().not_built_here();
        let first = first.filter(|_| report.origin == Origin::Pulled);
        let first = first.map_or(String::new(), |words| format!("; there it was {words}"));
        app.ui.value("origin", &format!("{words}{first}"));
    }
    for tried in cache {
        let words = match tried.outcome {
            Outcome::Pulled => "taken from here".to_owned(),
            Outcome::Absent => "has no such build".to_owned(),
            Outcome::Away => format!("away ({})", tried.words),
            Outcome::Refused => format!("not believed ({})", tried.words),
        };
        app.ui.value("cache", &format!("{}: {words}", tried.from));
    }
    if let Some(pulled) = &report.pulled {
        let signers: Vec<&str> = pulled.signed_by.iter().map(|one| one.name.as_str()).collect();
        app.ui.value("signed", &signers.join(", "));
    }
    app.ui.value("inside", &runtime(report));
    if let Some(Rebuild { rebuilt: Rebuilt { answer, expected: Some(before), .. }, .. }) = rebuild {
        let again = match answer {
            RebuildAnswer::Reproduced => "reproduced: the same bytes".to_owned(),
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
