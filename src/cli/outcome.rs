//! What people and scripts see of a run.

use serde_json::json;

use crate::evidence::{Sealed, names};
use crate::record::evidence::{GateRow, GateStatus, RunStatus};
use crate::ui::{Mark, Ui};

/// Every gate, and of one that does not pass what was expected and what to do.
pub(super) fn rows(ui: &Ui, rows: &[GateRow]) {
    for row in rows {
        match row.status {
            GateStatus::Pass => ui.row(Mark::Good, &row.id, &row.found),
            GateStatus::NotApplicable => ui.row(Mark::Note, &row.id, &row.found),
            GateStatus::NotChecked => ui.row(Mark::Note, &row.id, &row.found),
            GateStatus::Fail => {
                ui.row(Mark::Bad, &row.id, &row.found);
                ui.detail("expected", &row.expected);
                ui.detail("fix", &row.fix);
            }
        }
    }
}

/// The answer of a run, its id last.
pub(super) fn show(ui: &Ui, sealed: &Sealed) {
    let report = &sealed.report;
    let mark = match report.status {
        RunStatus::Pass => Mark::Good,
        RunStatus::Rehearsed => Mark::Note,
        _ => Mark::Bad,
    };
    let status = report.status.as_str();
    ui.row(mark, "status", report.failure_reason.as_deref().map_or(status, |reason| reason));
    if report.failure_class.is_some() {
        ui.detail("status", status);
    }
    for blocker in &report.blockers {
        ui.detail("blocker", blocker);
    }
    ui.row(Mark::Note, "evidence", &sealed.directory.display().to_string());
    ui.row(Mark::Note, "report", &sealed.directory.join(names::REPORT_HTML).display().to_string());
    ui.line(&sealed.id.to_string());
    ui.json(&json!({
        "schema": "admit.run/1", "id": sealed.id, "directory": sealed.directory,
        "report": report,
    }));
}
