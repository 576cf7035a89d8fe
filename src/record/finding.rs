//! What one check found: the one form in which `verify`, the gate, `doctor`, `health` and a run's report say it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::failure::FailureClass;
use crate::error::{Error, Kind, Reason};

/// The checks that `admit verify` makes and no run needs.
pub const VERIFY_ALONE: [&str; 4] =
    ["source_stored", "toolchain_stored", "packages_stored", "identity_shown"];

/// How a check ended. Only [`State::Ok`] is a yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ok,
    Failed,
    /// A check that this one depends on did not hold, so this one was not made: neither a yes nor a cause.
    NotReached,
    /// The caller did not ask for it, or it has no meaning for what was asked.
    NotAsked,
}

/// One check's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Stable name of the check.
    pub id: String,
    pub state: State,
    /// The checks whose failure kept this one from being made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
    /// Stable word for why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub expected: String,
    pub found: String,
    /// What to type, or to do where typing does not help; empty where nothing failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// What a failure means for the exit code.
    #[serde(skip)]
    pub kind: Option<Kind>,
    /// What a failure means for a run, where that is more exact than the check.
    #[serde(skip)]
    pub class: Option<FailureClass>,
}

impl Finding {
    fn new(id: &str, state: State, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            id: id.to_owned(),
            state,
            because: Vec::new(),
            reason: None,
            expected: expected.into(),
            found: found.into(),
            fix: String::new(),
            kind: None,
            class: None,
        }
    }

    pub fn ok(id: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(id, State::Ok, expected, found)
    }

    pub fn failed(
        id: &str,
        reason: Reason,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let mut failed = Self::new(id, State::Failed, expected, found);
        failed.reason = Some(reason.as_str().to_owned());
        failed.kind = Some(reason.kind());
        failed
    }

    /// A check that could not be made because of `because`, none of which is a yes.
    pub fn not_reached(id: &str, because: Vec<String>) -> Self {
        let found = format!("not reached: {}", because.join(", "));
        Self { because, ..Self::new(id, State::NotReached, "", found) }
    }

    pub fn not_asked(id: &str, why: impl Into<String>) -> Self {
        Self::new(id, State::NotAsked, "", why)
    }

    /// A check that an error ended: what it compared where it compared, else its words.
    pub fn from_error(id: &str, err: &Error) -> Self {
        let place = err.place().map(|place| format!(" ({place})")).unwrap_or_default();
        let found =
            err.found_value().map_or_else(|| err.to_string(), |found| format!("{found}{place}"));
        let expected = err.expected_value().unwrap_or("readable");
        Self::failed(id, err.reason(), expected, found).fix(err.hints().join("; "))
    }

    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    #[must_use]
    pub fn class(mut self, class: FailureClass) -> Self {
        self.class = Some(class);
        self
    }

    pub fn is_failed(&self) -> bool {
        self.state == State::Failed
    }
}

/// The kind for the exit code of the failures among these: a digest that does not match wins; else the one kind that all
/// have where admit could not look (no sandbox, nothing to fetch, a limit, a process that was ended). `None` is a plain no.
pub fn kind_of<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Option<Kind> {
    let failed = findings.into_iter().filter(|finding| finding.is_failed());
    let kinds: Vec<Option<Kind>> = failed.map(|finding| finding.kind).collect();
    if kinds.contains(&Some(Kind::Digest)) {
        return Some(Kind::Digest);
    }
    [Kind::Sandbox, Kind::Fetch, Kind::Limit, Kind::Stopped]
        .into_iter()
        .find(|kind| !kinds.is_empty() && kinds.iter().all(|found| *found == Some(*kind)))
}
