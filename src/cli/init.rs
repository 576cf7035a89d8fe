//! `admit init [DIR]`: a root of one's own.

use std::path::PathBuf;

use serde_json::json;

use super::app::App;
use crate::error::Result;
use crate::init::{self, Wanted};
use crate::record::ids::Name;
use crate::root::MARKER;
use crate::ui::{self, Mark};

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
    let count = ui::count(files.len(), "file", "files");
    app.ui.verdict(Mark::Good, "made", &format!("{} ({count}), trusted as it is", root.label()));
    app.ui.value("digest", &root.digest().to_string());
    let next = "admit model add, or admit model import, puts a model on record";
    app.ui.value("next", next);
    app.ui.verdict(Mark::Good, "made", &format!("{MARKER} there explains every key"));
    Ok(0)
}
