//! `admit health`: every validator, each with one fault of its own; passes only if the real path said what it must.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use serde_json::Value;

use super::app::App;
use super::findings::Shown;
use crate::error::{Kind, Result};
use crate::evidence;
use crate::health::{self, Validator};
use crate::record;
use crate::record::health::{HealthRow, Outcome};
use crate::record::ids::Name;
use crate::root::write_atomic;
use crate::ui::Mark;

/// Inject every fault that admit knows, one at a time, and see that each ends as it must
///
/// The stand-in provider, or the one that is named, and the fake engine work on the embedded fixture; model servers are admit's own, on this machine's
/// loopback. Run directories and records are made in a scratch directory that is removed; the store is used as by any
/// build. Exit code: 0 if every validator passed, 1 if one did not, and where one could not be run the code that says
/// why.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose runs: a provider whose build is on record and whose agent is `case`; the stand-in where it is left out
    #[arg(long, value_name = "NAME")]
    provider: Option<Name>,
    /// Only this validator; may be given more than once
    #[arg(long, value_name = "VALIDATOR", hide_possible_values = true)]
    #[arg(value_parser = PossibleValuesParser::new(health::all().map(|one| one.name)))]
    only: Vec<String>,
    #[command(flatten)]
    shown: Shown,
    /// Also write the answer as JUnit's XML, a case for each validator
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let only = &args.only;
    let chosen: Vec<&Validator> =
        health::all().filter(|one| only.is_empty() || only.iter().any(|n| n == one.name)).collect();
    let set = if only.is_empty() { "health" } else { "chosen" };
    show(app, (set, &chosen), args.provider.as_ref(), args.shown, args.junit.as_deref())
}

pub(super) fn show(
    app: &App,
    (set, validators): (&str, &[&Validator]),
    provider: Option<&Name>,
    shown: Shown,
    junit: Option<&Path>,
) -> Result<u8> {
    app.heed_signals()?;
    let health::Health { report, hindered } =
        health::health(&app.context, set, validators, provider)?;
    if let Some(file) = junit {
        let text = evidence::junit_of_health(&report);
        write_atomic(&app.context.host.absolute(file), text.as_bytes(), 0o644)?;
    }
    let counts = report.counts;
    let (mark, word) = match (report.passed, counts.failed) {
        (true, _) => (Mark::Good, "healthy"),
        (false, 0) => (Mark::Note, "not known"),
        (false, _) => (Mark::Bad, "not healthy"),
    };
    let first = match (report.passed, counts.failed) {
        (true, _) => "every fault that was injected was answered as it must be",
        (false, 0) => "some validators could not be run, and what was not run is no yes",
        (false, _) => "a fault was not answered as it must be: count no runs of this machine",
    };
    app.ui.verdict(mark, word, first);
    let wanted = |row: &&HealthRow| shown.all || row.outcome != Outcome::Passed;
    for row in report.validators.iter().filter(wanted) {
        let name = format!("{:<45}", row.name);
        match row.outcome {
            Outcome::Passed => app.ui.row(Mark::Good, &name, &said(row)),
            Outcome::Failed => app.ui.row(Mark::Bad, &name, "something else was observed"),
            Outcome::NotRun => app.ui.row(Mark::Note, &name, "not run"),
        }
        if row.outcome != Outcome::Passed {
            app.ui.detail("fault", &row.fault);
            for fault in &row.faults {
                app.ui.detail("found", fault);
            }
        }
    }
    let all = report.validators.len();
    let (passed, failed, not_run) = (counts.passed, counts.failed, counts.not_run);
    let of = &report.provider;
    let last =
        format!("{passed} of {all} validators passed, {failed} failed, {not_run} not run ({of})");
    app.ui.verdict(mark, word, &last);
    app.ui.json(&record::to_value(&report));
    Ok(match (report.passed, counts.failed, hindered) {
        (true, ..) => 0,
        (_, 0, Some(code)) => code,
        _ => Kind::No.exit_code(),
    })
}

/// What was observed, in a few words: the marker, the gate, and the values that were read back.
fn said(row: &HealthRow) -> String {
    let value = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    let marker = row.marker.iter().map(|marker| marker.trim_start_matches("backend/").to_owned());
    let gate = row.gate.iter().map(|gate| format!("gate={gate}"));
    let fields = row.fields.iter().filter(|field| !field.found.is_null()).map(|field| {
        let name = field.place.rsplit('/').next().unwrap_or(&field.place);
        format!("{name}={}", value(&field.found))
    });
    marker.chain(gate).chain(fields).collect::<Vec<_>>().join(" ")
}
