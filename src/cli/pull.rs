//! `admit pull NAME oci://…`: a build that somebody else made, by the word of a key that is trusted here.

use serde_json::json;

use super::app::App;
use crate::error::Result;
use crate::record;
use crate::record::report::Origin;
use crate::share::{self, Pull};
use crate::ui::Mark;

/// Take a build that somebody else made and signed from an OCI registry, and put it on record as pulled
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    wanted: Pull,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let pulled = share::pull(&app.context, &args.wanted)?;
    let report = &pulled.report;
    app.ui.json(&json!({
        "schema": "admit.pulled/1",
        "report": record::to_value(report),
        "report_digest": report.core_digest(),
        "output": pulled.output,
        "recorded": pulled.recorded,
        "received": pulled.received,
    }));
    app.ui.finish();
    let (name, pin) = (&report.provider, report.pinned_commit.short());
    let Some((recorded, by)) = pulled.recorded.as_ref().zip(report.pulled.as_ref()) else {
        let how = record::word(&report.origin);
        app.ui.verdict(
            Mark::Good,
            &how,
            &format!("{name} at {pin} (here, earlier; nothing was pulled)"),
        );
        let verify = format!("admit verify {name}");
        let next = match report.origin {
            Origin::Built => format!("admit build {name} --record"),
            _ => verify,
        };
        app.ui.value("next", &next);
        app.ui.verdict(Mark::Good, &how, "what is here says no less than what others say");
        return Ok(0);
    };
    app.ui.verdict(Mark::Good, "pulled", &format!("{name} at {pin}"));
    app.ui.value("output", &pulled.output.display().to_string());
    app.ui.value("digest", &report.sha256.to_string());
    app.ui.value("from", &by.from);
    let signers: Vec<String> =
        by.signed_by.iter().map(|one| format!("{} ({})", one.name, one.key)).collect();
    app.ui.value("signed", &signers.join(", "));
    if let Some(words) = by.origin.not_built_here() {
        app.ui.value("origin", &format!("there it was {words}"));
    }
    app.ui.value("record", recorded);
    app.ui.value("next", &format!("admit verify {name}"));
    app.ui.verdict(
        Mark::Good,
        "pulled",
        "by their word, not built here: admit build --rebuild --record makes it yours",
    );
    Ok(0)
}
