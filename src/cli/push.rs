//! `admit push NAME oci://…`: a recorded build and what was signed about it, into a registry.

use super::app::App;
use crate::error::Result;
use crate::lock::Spec;
use crate::record;
use crate::record::reference::Reference;
use crate::share;
use crate::ui::Mark;

/// Share a recorded build, with its record and what was signed about it, in an OCI registry
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The provider, or provider@commit
    #[arg(value_name = "PROVIDER[@COMMIT]")]
    spec: Spec,
    /// The repository: oci://HOST/PATH, with :TAG for a further tag
    #[arg(value_name = "REPOSITORY")]
    reference: Reference,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let pushed = share::push(&app.context, &args.spec, &args.reference)?;
    let mut value = record::to_value(&pushed);
    value["schema"] = "admit.pushed/1".into();
    app.ui.json(&value);
    app.ui.finish();
    let name = &pushed.provider;
    app.ui.verdict(Mark::Good, "pushed", &format!("{name} as {}", pushed.reference));
    app.ui.value("output", &format!("{} ({} bytes sent)", pushed.output, pushed.sent));
    app.ui.value("tags", &pushed.tags.join(", "));
    app.ui.value("signed", &format!("{} statements", pushed.statements.len()));
    let repository = args.reference.repository();
    app.ui.value("next", &format!("admit pull {name} {repository} --require-signed-by NAME"));
    app.ui.verdict(Mark::Good, "pushed", "whoever trusts a key that signed it can pull it");
    Ok(0)
}
