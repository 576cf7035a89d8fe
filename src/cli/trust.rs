//! `admit trust DIR`: this user has read a root's records and lets them decide.

use std::path::PathBuf;

use serde_json::json;

use super::app::App;
use crate::error::Result;
use crate::root::Root;
use crate::ui::{self, Mark};

/// Let the records of a directory decide what is built and run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directory with admit.toml, lockfiles/ and admissions/
    dir: PathBuf,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let root = Root::trust(&app.context.host, &args.dir, app.context.options.expect_root.as_ref())?;
    let files: Vec<&str> = root.paths().collect();
    app.ui.json(&json!({
        "schema": "admit.trusted/1",
        "root": root.label(),
        "digest": root.digest().to_string(),
        "files": files,
    }));
    let files = ui::count(files.len(), "file", "files");
    app.ui.verdict(Mark::Good, "trusted", &format!("{} ({files})", root.label()));
    app.ui.value("digest", &root.digest().to_string());
    let pipeline = format!("{}: in a pipeline, --expect-root with this digest", root.label());
    app.ui.verdict(Mark::Good, "trusted", &pipeline);
    Ok(0)
}
