//! One line of the answer: what was compared, how it turned out, what to do.

use serde::Serialize;

use crate::attest::{Held, Refused};
use crate::error::{Error, Kind, Reason, Result};

/// How a row turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pass,
    /// It is there and does not match.
    Fail,
    Missing,
    /// It could not be read.
    Unreadable,
    /// Nothing of this kind belongs to this build, and the row says why.
    NotNeeded,
}

/// One thing that was compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Stable name: `root`, `lock`, `source`, `toolchain`, `packages`, `output`, `identity`, `report`, `licence`;
    /// `signature` where a policy or the user asks for one.
    pub id: &'static str,
    pub status: Status,
    /// Why not, as a stable word; empty for a yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What the records say.
    pub expected: String,
    pub found: String,
    /// What to do; empty for a yes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
    #[serde(skip)]
    pub(super) kind: Option<Kind>,
}

impl Row {
    pub(super) fn pass(id: &'static str, found: impl Into<String>) -> Self {
        let found = found.into();
        Self {
            id,
            status: Status::Pass,
            reason: None,
            expected: found.clone(),
            found,
            fix: String::new(),
            kind: None,
        }
    }

    pub(super) fn no(
        id: &'static str,
        status: Status,
        reason: Reason,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            id,
            status,
            reason: Some(reason.as_str()),
            expected: expected.into(),
            found: found.into(),
            fix: String::new(),
            kind: Some(reason.kind()),
        }
    }

    pub(super) fn missing(id: &'static str, expected: impl Into<String>) -> Self {
        Self::no(id, Status::Missing, Reason::NotFound, expected, "not here")
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    /// A failed read: a digest that does not match is a no, everything else means that nothing could be found out.
    pub(super) fn from_error(id: &'static str, err: &Error) -> Self {
        let status = if err.kind() == Kind::Digest { Status::Fail } else { Status::Unreadable };
        let place = err.place().map(|p| format!(" ({p})")).unwrap_or_default();
        let expected = err.expected_value().unwrap_or("readable").to_owned();
        let found =
            err.found_value().map_or_else(|| err.to_string(), |found| format!("{found}{place}"));
        Self::no(id, status, err.reason(), expected, found).fix(err.hints().join("; "))
    }
}

impl Row {
    /// The row of a build record that cannot be read.
    pub fn unreadable_record(err: &Error) -> Self {
        Self::from_error("build-record", err)
    }

    /// The row of the signatures that were asked for.
    pub fn signature(outcome: &Result<Held, Refused>) -> Self {
        match outcome {
            Ok(held) => Self::pass("signature", format!("signed by {}", held.names())),
            Err(no) => {
                let status = match no.reason {
                    Reason::SignatureMissing => Status::Missing,
                    _ => Status::Fail,
                };
                Self::no("signature", status, no.reason, &no.expected, &no.found).fix(&no.fix)
            }
        }
    }

    /// The row of an identity that was run again.
    pub fn shown(again: Result<String>) -> Self {
        match again {
            Ok(line) => Self::pass("identity-run", line),
            Err(err) => Self::from_error("identity-run", &err),
        }
    }
}
