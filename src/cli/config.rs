//! `admit config show`: every value that holds, and where it comes from.

use serde_json::json;

use super::app::App;
use crate::error::Result;
use crate::ui::{self, Mark};

/// What holds here, and where each value comes from
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Each value with its origin
    Show,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let Command::Show = args.command;
    let values = app.context.settings()?;
    let word = ui::count(values.len(), "value", "values");
    app.ui.verdict(Mark::Note, &word, "what holds here, and where each comes from");
    for value in &values {
        app.ui.row(Mark::Note, &value.key, &format!("{} ({})", value.value, value.from));
    }
    let next = "a flag wins over its variable, a variable over admit.toml: docs/config.md";
    app.ui.verdict(Mark::Note, &word, next);
    app.ui.json(&json!({ "schema": "admit.config/1", "values": values }));
    Ok(0)
}
