//! Findings for people: what holds, what failed with what to do, and in one line what was not reached for it. What was
//! not asked is in the JSON alone.

use crate::record::finding::{Finding, State};
use crate::ui::{Mark, Ui};

pub(super) fn show(ui: &Ui, findings: &[Finding]) {
    for finding in findings {
        match finding.state {
            State::Ok | State::Failed => one(ui, finding),
            State::NotReached | State::NotAsked => {}
        }
    }
    let not_reached = findings.iter().filter(|finding| finding.state == State::NotReached);
    let ids: Vec<&str> = not_reached.map(|finding| finding.id.as_str()).collect();
    if !ids.is_empty() {
        ui.row(Mark::Note, "not_reached", &ids.join(", "));
    }
}

pub(super) fn one(ui: &Ui, finding: &Finding) {
    match finding.state {
        State::Ok => ui.row(Mark::Good, &finding.id, &finding.found),
        State::NotAsked | State::NotReached => ui.row(Mark::Note, &finding.id, &finding.found),
        State::Failed => {
            ui.row(Mark::Bad, &finding.id, finding.reason.as_deref().unwrap_or_default());
            ui.detail("expected", &finding.expected);
            ui.detail("found", &finding.found);
            ui.detail("fix", &finding.fix);
        }
    }
}
