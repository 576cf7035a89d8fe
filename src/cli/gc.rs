//! `admit gc`: removes from the store what no lock, record, run or late build needs.

use std::path::Path;

use serde_json::json;

use super::app::App;
use crate::error::Result;
use crate::gc::{self, Amount, Options};
use crate::record;
use crate::store;
use crate::ui::{self, Mark};

/// Remove from the store what no lock, record, run or late build needs; sizes first
///
/// Waits until no other admit uses the store. What a removed build was made of is fetched again when it is built again;
/// everything on record still verifies.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: Options,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let Options { dry_run, .. } = args.options;
    let found = gc::collect(&app.context, args.options)?;
    let garbage = found.garbage();
    let word = if dry_run { "would free" } else { "freed" };
    let sizes = format!("{} of {}", ui::bytes(garbage.bytes), ui::bytes(found.before.bytes));
    app.ui.verdict(Mark::Note, word, &sizes);
    let row = |name: &str, one: Amount| {
        let what = ui::count(one.count, "entry", "entries");
        app.ui.row(Mark::Note, name, &format!("{what}, {}", ui::bytes(one.bytes)));
    };
    for (name, one) in [("files", found.files), ("trees", found.trees), ("records", found.records)]
    {
        if one.count > 0 {
            row(name, one);
        }
    }
    for (place, count, bytes) in &found.leftovers {
        let what = format!(
            "{}, {}: kept for you, or found wrong; remove it yourself: {}",
            ui::count(*count, "thing", "things"),
            ui::bytes(*bytes),
            store::removal(Path::new(place))
        );
        app.ui.row(Mark::Note, "left alone", &what);
    }
    let mut value = record::to_value(&found);
    value["schema"] = json!("admit.gc/1");
    app.ui.json(&value);
    let last = match (dry_run, garbage.count) {
        (_, 0) => "everything in the store is needed".to_owned(),
        (true, _) => "nothing was removed; admit gc removes it".to_owned(),
        (false, _) => {
            let left = found.before.bytes.saturating_sub(garbage.bytes);
            format!("{} are left; admit verify looks at what is on record", ui::bytes(left))
        }
    };
    app.ui.verdict(Mark::Note, word, &last);
    Ok(0)
}
