//! What one gate found, and the two ways of holding a fact against an expectation.

use crate::error::Kind;
use crate::record::evidence::{GateRow, GateStatus};
use crate::record::failure::FailureClass;

use super::{Compared, Found, Gate, Refusal};

/// What a row says of a fact that nobody looked for.
pub(super) const NOT_FOUND_OUT: &str = "not found out";

/// What one gate found.
pub(super) enum Answer {
    Pass {
        expected: String,
        found: String,
    },
    Fail {
        expected: String,
        found: String,
        fix: String,
        kind: Kind,
        class: Option<FailureClass>,
    },
    /// It was left out on request.
    NotChecked(&'static str),
    /// It means nothing for this engine.
    NotApplicable(&'static str),
}

impl Answer {
    /// A failure with the reason's name before what was found.
    pub(super) fn prefixed(mut self, name: &str) -> Self {
        if let Answer::Fail { found, .. } = &mut self {
            found.insert_str(0, &format!("{name}: "));
        }
        self
    }

    pub(super) fn into_row(self, gate: Gate) -> (GateRow, Option<Refusal>) {
        let row = |status, expected, found, fix| GateRow {
            id: gate.id().into(),
            status,
            expected,
            found,
            fix,
        };
        match self {
            Answer::Pass { expected, found } => {
                (row(GateStatus::Pass, expected, found, String::new()), None)
            }
            Answer::Fail { expected, found, fix, kind, class } => {
                let row = row(GateStatus::Fail, expected, found, fix);
                let refusal = Refusal::new(gate, row.clone(), kind, class);
                (row, Some(refusal))
            }
            Answer::NotChecked(why) => {
                let fix = "leave out the option that skips it".to_owned();
                let row = row(GateStatus::NotChecked, "checked".into(), why.into(), fix);
                let refusal = Refusal::new(gate, row.clone(), Kind::Refused, None);
                (row, Some(refusal))
            }
            Answer::NotApplicable(why) => {
                (row(GateStatus::NotApplicable, String::new(), why.into(), String::new()), None)
            }
        }
    }
}

/// Holds one fact against `test`. `Ok` is what was found where it passes, `Err` where it does not.
pub(super) fn hold<T>(
    fact: &Found<T>,
    expected: &str,
    fix: &str,
    test: impl FnOnce(&T) -> Result<String, String>,
) -> Answer {
    let fail = |found: String| Answer::Fail {
        expected: expected.into(),
        found,
        fix: fix.into(),
        kind: Kind::Refused,
        class: None,
    };
    match fact {
        Found::Known(value) => match test(value) {
            Ok(found) => Answer::Pass { expected: expected.into(), found },
            Err(found) => fail(found),
        },
        Found::Absent => fail("absent".into()),
        Found::Unreadable(why) => fail(format!("unreadable: {why}")),
        Found::Unknown => fail(NOT_FOUND_OUT.into()),
    }
}

/// As [`hold`] for two values that must be equal; two known values that differ are a digest mismatch.
pub(super) fn same<T: PartialEq + ToString>(fact: &Found<Compared<T>>, fix: &str) -> Answer {
    let expected = fact.known().map_or("a locked value".into(), |c| c.expected.to_string());
    let differs = fact.known().is_some_and(|c| c.expected != c.found);
    let answer = hold(fact, &expected, fix, |c| match c.expected == c.found {
        true => Ok(c.found.to_string()),
        false => Err(c.found.to_string()),
    });
    if differs { with_kind(answer, Kind::Digest) } else { answer }
}

pub(super) fn with_kind(mut answer: Answer, to: Kind) -> Answer {
    if let Answer::Fail { kind, .. } = &mut answer {
        *kind = to;
    }
    answer
}

pub(super) fn with_class(mut answer: Answer, to: FailureClass) -> Answer {
    if let Answer::Fail { class, .. } = &mut answer {
        *class = Some(to);
    }
    answer
}
