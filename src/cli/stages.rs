//! `admit stages`: the ladder, and what stands where from this user's verified runs.

use serde_json::json;

use super::App;
use crate::error::Result;
use crate::ui::Mark;
use crate::verify::runs::{self, Ladder};

/// Print the ladder of stages, and what stands where from verified runs
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn exec(app: &App, _: &Args) -> Result<u8> {
    let Ladder { rows, signed, unverified } = runs::ladder(&app.context)?;
    let running = rows.iter().filter(|row| row.runs).count();
    let passed: usize = rows.iter().map(|row| row.passed.len()).sum();
    let first = format!("{running} of {} run; {passed} passes verify here", rows.len());
    app.ui.verdict(Mark::Note, "stages", &first);
    for row in &rows {
        let mark = match (row.runs, row.passed.is_empty()) {
            (true, false) if signed => Mark::Good,
            (true, _) => Mark::Note,
            (false, _) => Mark::Note,
        };
        let passed = row.passed.len();
        let text = match row.runs {
            true if passed > 0 && !signed => format!(
                "runs; {passed} passed, {} others; not all signed: who writes here could have sealed them anew",
                row.others
            ),
            true => format!("runs; {passed} passed, {} others", row.others),
            false => "does not run".to_owned(),
        };
        app.ui.row(mark, &format!("{} {}", row.number, row.title), &text);
        for line in &row.missing {
            app.ui.detail("missing", line);
        }
    }
    for dir in &unverified {
        app.ui.remark(&format!("not counted, does not verify: {}", dir.display()));
    }
    app.ui.verdict(Mark::Note, "stages", "admit run stage2 is the one that runs");
    app.ui.json(&json!({ "schema": "admit.stages/1", "stages": rows, "unverified": unverified }));
    Ok(0)
}
