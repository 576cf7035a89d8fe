//! One thing that doctor examined: a finding, and what it means when it failed.

use std::fmt::Display;

use serde::Serialize;

use crate::error::{Error, Reason};
use crate::record::finding::Finding;

#[derive(Clone, Debug, Serialize)]
pub struct Check {
    #[serde(flatten)]
    pub finding: Finding,
    pub needed_for: &'static str,
    /// Whether a failure means that something will be refused or will fail here; else it is slower, or a feature that
    /// many do not need is missing.
    pub required: bool,
}

impl Check {
    /// Whether this machine is not ready because of it.
    pub fn blocks(&self) -> bool {
        self.required && self.finding.is_failed()
    }
}

/// What is examined, before the answer is known.
#[derive(Clone, Copy)]
pub(super) struct Need<'a> {
    pub id: &'a str,
    pub needed_for: &'static str,
    pub expected: &'static str,
    pub reason: Reason,
    pub required: bool,
}

impl Need<'_> {
    pub fn with(&self, finding: Finding) -> Check {
        Check { finding, needed_for: self.needed_for, required: self.required }
    }

    pub fn ok(&self, found: impl Display) -> Check {
        self.with(Finding::ok(self.id, self.expected, found.to_string()))
    }

    pub fn failed(&self, found: impl Display, fix: impl Display) -> Check {
        let found = found.to_string();
        self.with(Finding::failed(self.id, self.reason, self.expected, found).fix(fix.to_string()))
    }

    /// The error's own words with its cause; its hints are the fix where it has any.
    pub fn error(&self, error: &Error, fix: &str) -> Check {
        let mut finding = Finding::from_error(self.id, error);
        self.expected.clone_into(&mut finding.expected);
        finding.found = match (error.found_value(), error.causes().last()) {
            (Some(found), _) => format!("{error}: {found}"),
            (None, Some(cause)) => format!("{error}: {cause}"),
            (None, None) => error.to_string(),
        };
        if finding.fix.is_empty() {
            fix.clone_into(&mut finding.fix);
        }
        self.with(finding)
    }
}
