//! What follows from refusals: one primary failure class, its marker, the exit code and the report's blockers.

use super::Decision;
use crate::check::Check;
use crate::error::Kind;
use crate::record::failure::FailureClass;
use crate::record::finding::{self, Finding, State};

#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    pub check: Check,
    pub finding: &'a Finding,
}

impl Refusal<'_> {
    /// The failure class that it leads to: the finding's own where it is more exact than the check.
    pub fn class(&self) -> FailureClass {
        self.finding.class.unwrap_or(match self.check {
            Check::BinaryPresent | Check::BinaryExecutable => FailureClass::ProviderUnavailable,
            Check::ModelRequested | Check::ModelAdmitted | Check::ModelSigned => {
                FailureClass::ModelNotAdmitted
            }
            Check::Network => FailureClass::NetworkNotAllowed,
            Check::Credentials | Check::AuthBridge => FailureClass::AuthUnavailable,
            Check::Endpoint => FailureClass::LocalConfigUnavailable,
            Check::ResponseShape => FailureClass::ResponseShapeUnavailable,
            _ => FailureClass::GateRefused,
        })
    }

    pub fn failure_reason(&self) -> String {
        self.class().failure_reason(self.check.id())
    }

    pub fn blocker(&self) -> String {
        let Finding { id, expected, found, .. } = self.finding;
        format!("{id}: expected {expected}, found {found}")
    }
}

impl Decision {
    /// The checks that failed, in order: causes, and nothing that only hangs on one.
    pub fn refusals(&self) -> Vec<Refusal<'_>> {
        let all = Check::ALL.iter().zip(&self.findings);
        let failed = all.filter(|(_, finding)| finding.state == State::Failed);
        failed.map(|(check, finding)| Refusal { check: *check, finding }).collect()
    }

    /// The refusal that stands for all: a missing binary first, else the first in order.
    pub fn primary(&self) -> Option<Refusal<'_>> {
        let refusals = self.refusals();
        let missing = refusals.iter().find(|refusal| refusal.check == Check::BinaryPresent);
        missing.or(refusals.first()).copied()
    }

    /// Whether every check that was asked for holds: what a dry run without the probe can say at best.
    pub fn holds_as_far_as_asked(&self) -> bool {
        self.findings.iter().all(|finding| matches!(finding.state, State::Ok | State::NotAsked))
    }

    /// The kind for the exit code; `None` where the run is admitted.
    pub fn kind(&self) -> Option<Kind> {
        if self.admitted.is_some() {
            return None;
        }
        Some(finding::kind_of(&self.findings).unwrap_or(Kind::Refused))
    }
}
