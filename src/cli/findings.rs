//! Findings for people: what failed, with why it matters and what to type; all else is a count, unless all is asked for.

use serde_json::{Value, json};

use crate::attest::{Held, Refused};
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
            let holds = explain::checks().find(|(id, _)| *id == finding.id);
            let reason = finding.reason.as_deref().unwrap_or_default();
            let why = holds.map_or(reason.to_owned(), |(_, holds)| format!("must hold: {holds}"));
            ui.row(Mark::Bad, &finding.id, &why);
            let room = ui.width().map(|width| width.saturating_sub(18));
            let (expected, found) = compared(&finding.expected, &finding.found, room);
            let both = format!("{expected}; found: {found}");
            // On one line where they fit: what is compared stands side by side.
            match room {
                Some(room) if both.chars().count() <= room => ui.detail("expected", &both),
                _ => {
                    ui.detail("expected", &expected);
                    ui.detail("found", &found);
                }
            }
            if !finding.fix.is_empty() {
                ui.detail("fix", &finding.fix);
            }
        }
    }
}

pub(super) fn unsigned(ui: &Ui, no: &Refused) {
    ui.row(Mark::Bad, "signature", no.reason.as_str());
    ui.detail("expected", &no.expected);
    ui.detail("found", &no.found);
    ui.detail("fix", &no.fix);
}

pub(super) fn signature(signed: Option<&Result<Held, Refused>>) -> Value {
    match signed {
        None => Value::Null,
        Some(Ok(held)) => json!({ "signed_by": held.by }),
        Some(Err(no)) => {
            json!({ "reason": no.reason.as_str(), "expected": no.expected, "found": no.found })
        }
    }
}

/// Digits of a digest that tell two of them apart, where a line has no room for more.
const DIGITS: usize = 16;

/// What is compared, for people: of several digests of one thing the first, which tells it from every other, and its
/// beginning where a line has no room for all of it. `--json` and the report have them whole.
fn compared(expected: &str, found: &str, room: Option<usize>) -> (String, String) {
    let first = |text: &str| {
        let word = text.split_whitespace().next()?;
        let hex = word.strip_prefix("sha256:")?;
        (hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())).then(|| word.to_owned())
    };
    let (Some(a), Some(b)) = (first(expected), first(found)) else {
        return (expected.to_owned(), found.to_owned());
    };
    let length = "sha256:".len() + DIGITS;
    if a[..length] == b[..length] {
        return (expected.to_owned(), found.to_owned());
    }
    match room.is_some_and(|room| a.len() > room) {
        true => (format!("{}…", &a[..length]), format!("{}…", &b[..length])),
        false => (a, b),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_compared_by_what_tells_them_apart() {
        let [one, two] = ["a", "b"].map(|c| format!("sha256:{}", c.repeat(64)));
        let long = format!("{one} blake3:{} 7 bytes", "c".repeat(64));
        assert_eq!(compared(&long, &two, None), (one.clone(), two.clone()));
        let short = |c: &str| format!("sha256:{}…", c.repeat(16));
        assert_eq!(compared(&long, &two, Some(62)), (short("a"), short("b")));
        // Where the first digests agree, what differs comes after them.
        assert_eq!(compared(&long, &one, Some(62)), (long.clone(), one.clone()));
        assert_eq!(compared(&one, "absent", Some(10)), (one.clone(), "absent".to_owned()));
    }
}
