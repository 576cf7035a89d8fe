//! `admit config show`: every value that holds, and where it comes from.

use serde_json::json;

use super::app::App;
use crate::error::Result;
use crate::ui::Mark;

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
    for value in &values {
        app.ui.row(Mark::Note, &value.key, &format!("{} ({})", value.value, value.from));
    }
    app.ui.json(&json!({ "schema": "admit.config/1", "values": values }));
    Ok(0)
}
