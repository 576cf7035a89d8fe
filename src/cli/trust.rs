//! `admit trust DIR`: this user has read a root's records and lets them decide.

use std::path::PathBuf;

use serde_json::json;

use super::app::App;
use crate::error::Result;
use crate::root::Root;

/// Let the records of a directory decide what is built and run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directory with admit.toml, lockfiles/ and admissions/
    dir: PathBuf,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let root = Root::trust(&app.context.host, &args.dir, app.context.options.expect_root.as_ref())?;
    let files: Vec<&str> = root.below("").map(|(path, _)| path).collect();
    app.ui.json(&json!({
        "schema": "admit.trusted/1",
        "root": root.label(),
        "digest": root.digest().to_string(),
        "files": files,
    }));
    app.ui.line(&format!("trusted {} ({} files)", root.label(), files.len()));
    app.ui.line(&format!("digest  {}", root.digest()));
    Ok(0)
}
