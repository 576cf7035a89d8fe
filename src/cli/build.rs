//! `admit build NAME[@REV]`: from the lock to a proven output in the store.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::app::App;
use super::making::{self, Made};
use crate::build::{STEP_WALL, Verification};
use crate::error::{Error, Kind, Reason, Result};
use crate::host::platform;
use crate::lock::{self, Locked, Spec};
use crate::record;
use crate::record::ids::Sha256;
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
    let root = app.context.root()?;
    let locked = lock::resolve(&root, &args.spec)?;
    let how = making::How {
        again: args.rebuild,
        keep_failed: args.keep_failed,
        scratch: args.scratch.as_ref().map(|dir| app.context.host.absolute(dir)),
        step_wall: args.step_timeout.map_or(STEP_WALL, Duration::from_secs),
        ..making::How::default()
    };
    let before = args.rebuild.then(|| making::earlier(app, &locked)).transpose()?.flatten();
    let made = match making::make(app, &root, &locked, &how) {
        Err(err) if args.rebuild => return not_the_same(app, &locked, &how, err),
        other => other?,
    };
    let verification = before.map(|before| match before.sha256 == made.report.sha256 {
        true => Verification::Reproduced,
        false => {
            Verification::Differs { expected: before.sha256, found: made.report.sha256.clone() }
        }
    });
    let recorded = if args.record { Some(making::put_on_record(app, &made.report)?) } else { None };
    show(app, &made, verification.as_ref(), recorded.as_deref());
    Ok(match verification {
        Some(Verification::Differs { .. }) => Kind::No.exit_code(),
        _ => 0,
    })
}

/// A rebuild that gave no output, or another one than the lock names. The two are told apart by data and by exit code:
/// an output that differs ends with 5, and an input that was served with other bytes with 4, since then nothing was
/// rebuilt.
fn not_the_same(app: &App, locked: &Locked, how: &making::How, err: Error) -> Result<u8> {
    let found = how.differed.take().as_ref().and_then(Sha256::from_digest);
    let expected = locked.lock.outputs.get(&platform()?).map(|output| output.sha256.clone());
    let (answer, err) = match expected.zip(found) {
        Some((expected, found)) => (Verification::Differs { expected, found }, err),
        None => {
            let served = err.reason() == Reason::DigestMismatch;
            let err = if served { input_refused(err) } else { err };
            (Verification::NotRebuilt { why: err.to_string() }, err)
        }
    };
    app.ui.words(&err);
    app.ui.json(&json!({
        "schema": "admit.rebuilt/1", "result": answer, "error": crate::ui::error_json(&err),
    }));
    Ok(err.kind().exit_code())
}

fn input_refused(err: Error) -> Error {
    let what = "an input is not what the lock records, so nothing was rebuilt";
    let mut all = Error::new(Reason::InputRefused, what)
        .at(err.place().unwrap_or_default())
        .expected(err.expected_value().unwrap_or_default())
        .found(err.found_value().unwrap_or_default());
    for hint in err.hints() {
        all = all.hint(hint.clone());
    }
    all.caused_by(format!("{}: {}", err.reason(), err.what()))
}

pub(super) fn show(
    app: &App,
    made: &Made,
    verification: Option<&Verification>,
    recorded: Option<&str>,
) {
    let report = &made.report;
    app.ui.json(&json!({
        "schema": "admit.built/1",
        "report": record::to_value(report),
        "report_digest": report.core_digest(),
        "output": made.output,
        "fresh": made.fresh,
        "rebuilt": verification,
        "recorded": recorded,
    }));
    let line = |name: &str, value: &str| app.ui.line(&format!("{name:<13} {value}"));
    line("provider", &format!("{} at {}", report.provider, report.pinned_commit));
    line("output", &made.output.display().to_string());
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
    match verification {
        Some(Verification::Reproduced) => line("rebuilt", "reproduced: the same bytes"),
        Some(Verification::Differs { expected, .. }) => {
            line("rebuilt", &format!("differs: it was {expected}, and that one stays on record"))
        }
        _ => {}
    }
    if !made.fresh {
        line("built", "earlier; found in the store and verified");
    }
    if let Some(place) = recorded {
        line("recorded", place);
    }
}
