//! Findings for people: what failed, with why it matters and what to type; all else is a count, unless all is asked for.

use crate::explain;
use crate::record::finding::{Finding, State};
use crate::ui::{Mark, Ui};

/// Whether what passed is shown, or counted.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct Shown {
    /// Show what passed and what was not asked, too
    #[arg(long)]
    pub(super) all: bool,
}

pub(super) fn show(ui: &Ui, findings: &[Finding], shown: Shown) {
    let wanted = |finding: &&Finding| shown.all || finding.is_failed();
    findings.iter().filter(wanted).for_each(|finding| one(ui, finding));
}

pub(super) fn one(ui: &Ui, finding: &Finding) {
    match finding.state {
        State::Ok => ui.row(Mark::Good, &finding.id, &finding.found),
        State::NotAsked | State::NotReached => ui.row(Mark::Note, &finding.id, &finding.found),
        State::Failed => {
            let holds = explain::CHECKS.iter().find(|(id, _)| *id == finding.id);
            let reason = finding.reason.as_deref().unwrap_or_default();
            let why = holds.map_or(reason.to_owned(), |(_, holds)| format!("must hold: {holds}"));
            ui.row(Mark::Bad, &finding.id, &why);
            let (expected, found) = (&finding.expected, &finding.found);
            let both = format!("{expected}; found: {found}");
            // On one line where they fit: what is compared stands side by side.
            match ui.width().map(|width| width.saturating_sub(18)) {
                Some(room) if both.chars().count() <= room => ui.detail("expected", &both),
                _ => {
                    ui.detail("expected", expected);
                    ui.detail("found", found);
                }
            }
            if !finding.fix.is_empty() {
                ui.detail("fix", &finding.fix);
            }
        }
    }
}

/// How many checks ended how: `17 checks held, 2 failed, 9 not reached`. What was not asked is not counted.
pub(super) fn counts(findings: &[Finding]) -> String {
    let of = |state| findings.iter().filter(|finding| finding.state == state).count();
    let held = crate::ui::count(of(State::Ok), "check", "checks");
    let mut out = format!("{held} held");
    for (state, word) in [(State::Failed, "failed"), (State::NotReached, "not reached")] {
        match of(state) {
            0 => {}
            number => out.push_str(&format!(", {number} {word}")),
        }
    }
    out
}
