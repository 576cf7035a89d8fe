//! `admit schemas`: the JSON Schemas of the files that admit writes.

use std::path::PathBuf;

use serde_json::Value;

use super::app::App;
use crate::error::Result;
use crate::record;
use crate::root::write_atomic;
use crate::schemas;
use crate::ui::{self, Mark};

/// Print the JSON Schemas of the files that admit reads and writes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write them into this directory instead, one file each
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let all = schemas::all();
    if let Some(dir) = &args.write {
        let dir = app.context.host.absolute(dir);
        for (name, schema) in &all {
            write_atomic(&dir.join(name), &record::pretty(schema), 0o644)?;
        }
        let files = ui::count(all.len(), "schema", "schemas");
        app.ui.verdict(Mark::Good, "written", &format!("{files} in {}", dir.display()));
        return Ok(0);
    }
    let whole: serde_json::Map<String, Value> = all.into_iter().collect();
    app.ui.raw(&record::pretty(&whole));
    Ok(0)
}
