//! `admit init [DIR]`: a root of one's own.

use std::path::PathBuf;

use serde_json::json;

use super::app::App;
use crate::error::Result;
use crate::init::{self, Wanted};
use crate::record::ids::Name;
use crate::root::MARKER;

/// Make a root of your own: a directory whose records decide what is built and run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Copy the lock of this provider into it; may be repeated
    #[arg(long = "lock", value_name = "PROVIDER")]
    locks: Vec<Name>,
    /// Copy this fixture and its recorded digest into it; may be repeated
    #[arg(long = "fixture", value_name = "NAME")]
    fixtures: Vec<Name>,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let wanted = Wanted { locks: args.locks.clone(), fixtures: args.fixtures.clone() };
    let root = init::init(&app.context.host, &args.dir, &wanted)?;
    let files: Vec<&str> = root.paths().collect();
    app.ui.json(&json!({
        "schema": "admit.trusted/1", "root": root.label(), "digest": root.digest().to_string(),
        "files": files,
    }));
    app.ui.line(&format!("made and trusted {} ({} files)", root.label(), files.len()));
    app.ui.line(&format!("digest  {}", root.digest()));
    app.ui.detail(
        "next",
        &format!(
            "{MARKER} there explains every key; admit model import or add puts models on record"
        ),
    );
    Ok(0)
}
