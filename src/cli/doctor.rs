//! `admit doctor`: what this machine can do.

use std::time::Duration;

use serde_json::json;

use super::app::App;
use super::findings::Shown;
use crate::doctor;
use crate::error::Result;
use crate::record::finding::State;
use crate::ui::Mark;

/// Examine what this machine can do, each with the fix; changes nothing
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Seconds to wait for each program and for the registry
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    patience: u64,
    #[command(flatten)]
    shown: Shown,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let checks = doctor::machine(&app.context, Duration::from_secs(args.patience))?;
    let ready = !checks.iter().any(doctor::Check::blocks);
    let good = checks.iter().filter(|check| check.finding.state == State::Ok).count();
    let (mark, word, first) = match ready {
        true => (Mark::Good, "ready", "this machine can build and run"),
        false => (Mark::Bad, "not ready", "something that a build or a run needs is not here"),
    };
    app.ui.verdict(mark, word, first);
    for check in checks.iter().filter(|c| args.shown.all || c.finding.state != State::Ok) {
        let finding = &check.finding;
        let mark = match finding.state {
            State::Ok => Mark::Good,
            _ if check.blocks() => Mark::Bad,
            _ => Mark::Note,
        };
        app.ui.row(mark, &finding.id, &finding.found);
        if finding.is_failed() {
            app.ui.detail("needed for", check.needed_for);
            app.ui.detail("fix", &finding.fix);
        }
    }
    let all = checks.len();
    let last = format!("{good} of {all} examined things are as they should be; --all shows them");
    app.ui.verdict(mark, word, &last);
    app.ui.json(&json!({ "schema": "admit.doctor/2", "ready": ready, "checks": checks }));
    Ok(if ready { 0 } else { 1 })
}
