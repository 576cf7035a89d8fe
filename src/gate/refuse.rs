//! What follows from refusals: one primary failure class, its marker, the exit code and the report's blockers.

use crate::error::Kind;
use crate::record::evidence::{GateRow, GateStatus};
use crate::record::failure::FailureClass;

use super::{Decision, Gate, Verdict, answer};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub gate: Gate,
    pub row: GateRow,
    /// What it means for the exit code.
    pub kind: Kind,
    /// The failure class that it leads to.
    pub class: FailureClass,
}

impl Refusal {
    /// A refusal of `gate`; `class` where the finding is more exact than the gate.
    pub(super) fn new(gate: Gate, row: GateRow, kind: Kind, class: Option<FailureClass>) -> Self {
        let class = class.unwrap_or(match gate {
            Gate::BinaryPresent | Gate::BinaryExecutable => FailureClass::ProviderUnavailable,
            Gate::ModelRequested | Gate::ModelAdmitted | Gate::ModelSigned | Gate::Network => {
                FailureClass::ModelNotAdmitted
            }
            Gate::Credentials | Gate::AuthBridge => FailureClass::AuthUnavailable,
            Gate::Endpoint => FailureClass::LocalConfigUnavailable,
            Gate::ResponseShape => FailureClass::ResponseShapeUnavailable,
            _ => FailureClass::GateRefused,
        });
        Self { gate, row, kind, class }
    }

    /// The `failure_reason` of a report.
    pub fn failure_reason(&self) -> String {
        self.class.failure_reason(self.gate.id())
    }

    /// One line for a report's `blockers`.
    pub fn blocker(&self) -> String {
        format!("{}: expected {}, found {}", self.gate.id(), self.row.expected, self.row.found)
    }
}

impl Decision {
    /// The refusals, in the order of the gates; empty where the run is admitted.
    pub fn refusals(&self) -> &[Refusal] {
        match &self.verdict {
            Verdict::Admit(_) => &[],
            Verdict::Refuse(refusals) => refusals,
        }
    }

    /// The refusal that stands for all: no binary first, since most gates fail without one; else the first in order.
    /// A gate that was left out on request never stands for one that failed, nor a binary that nobody came to look for
    /// (a lock that cannot be read names none) for one that is missing.
    pub fn primary(&self) -> Option<&Refusal> {
        primary_of(|| self.refusals().iter())
    }

    /// The class that the other gates lead to, were `gate` left out; `None` where nothing else refuses. Says what one
    /// gate alone decides, and gives no right to start anything.
    pub fn without(&self, gate: Gate) -> Option<FailureClass> {
        let others = || self.refusals().iter().filter(|refusal| refusal.gate != gate);
        primary_of(others).map(|refusal| refusal.class)
    }

    /// Whether every gate that was checked holds: what a dry run without the probe can say at best.
    pub fn holds_as_far_as_checked(&self) -> bool {
        self.rows.iter().all(|row| row.status != GateStatus::Fail)
    }

    /// The kind for the exit code: a digest that does not match wins, then an unavailable sandbox, then the refusal.
    pub fn kind(&self) -> Option<Kind> {
        let refusals = self.refusals();
        let has = |kind| refusals.iter().any(|refusal| refusal.kind == kind).then_some(kind);
        // A sandbox that is not available is the answer only where nothing else refuses.
        let only_sandbox = refusals.iter().all(|refusal| refusal.kind == Kind::Sandbox);
        has(Kind::Digest)
            .or_else(|| has(Kind::Sandbox).filter(|_| only_sandbox))
            .or_else(|| (!refusals.is_empty()).then_some(Kind::Refused))
    }
}

fn primary_of<'a, I: Iterator<Item = &'a Refusal>>(all: impl Fn() -> I) -> Option<&'a Refusal> {
    let failed = || all().filter(|refusal| refusal.row.status == GateStatus::Fail);
    let missing =
        |r: &&Refusal| r.gate == Gate::BinaryPresent && r.row.found != answer::NOT_FOUND_OUT;
    failed().find(missing).or_else(|| failed().next()).or_else(|| all().next())
}
