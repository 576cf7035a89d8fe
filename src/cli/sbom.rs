//! `admit sbom NAME`: the bill of materials of a build.

use super::app::App;
use crate::error::Result;
use crate::sbom::{self, Wanted};
use crate::ui::Mark;

/// Print what went into a build as CycloneDX 1.6 JSON; the same build gives the same bytes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    wanted: Wanted,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    match sbom::make(&app.context, &args.wanted)? {
        (bytes, None) => app.ui.raw(&bytes),
        (_, Some(file)) => app.ui.verdict(Mark::Good, "written", &file.display().to_string()),
    }
    Ok(0)
}
