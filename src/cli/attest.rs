//! `admit attest …`: sign what admit itself checked, just now.

use serde_json::json;

use super::app::App;
use super::findings;
use crate::error::Result;
use crate::sign::{self, Options};
use crate::ui::Mark;

/// Sign a statement about a build, a verification, a run, a campaign, a model admission or a release, after checking it again
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: Options,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let options = &args.options;
    let signed = match sign::attest(&app.context, options)? {
        Ok(signed) => signed,
        Err(unverified) => {
            unverified.faults.iter().for_each(|finding| findings::one(&app.ui, finding));
            return Err(unverified.error);
        }
    };
    let place = &signed.place;
    match &signed.alone {
        Some(alone) => app.ui.json(alone),
        None => app.ui.json(&json!({
            "schema": "admit.attested/1", "predicate_type": signed.statement.predicate_type,
            "subject": signed.statement.subject, "keyid": signed.key, "key": options.key,
            "file": place, "envelope": signed.envelope.json(),
        })),
    }
    match (place, &signed.alone) {
        (None, Some(alone)) => app.ui.line(&format!("{alone:#}")),
        (None, None) => app.ui.line(&signed.envelope.line()),
        (Some(place), alone) => {
            let (target, form) = (&options.target, &signed.statement.predicate_type);
            let what = match alone {
                Some(_) => target.clone(),
                None => format!("{target} as {form}"),
            };
            app.ui.verdict(Mark::Good, "signed", &what);
            if alone.is_none() {
                app.ui.value("by", &format!("{} ({})", options.key, signed.key));
            }
            app.ui.verdict(Mark::Good, "signed", &place.display().to_string());
        }
    }
    Ok(0)
}
