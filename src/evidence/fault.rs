//! What can be wrong with a run directory.

use crate::error::Reason;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// There is no seal: the run never came to its end, or is still going on.
    NotSealed,
    Missing,
    Changed,
    Extra,
    Chain,
    /// The report says what the other files do not, or contradicts itself.
    Report,
    /// It is another run than the one with the given id.
    OtherId,
}

impl FaultKind {
    /// The reason by which scripts tell faults apart.
    pub fn reason(self) -> Reason {
        self.told().0
    }

    /// That, and the fault in words.
    pub(super) fn told(self) -> (Reason, &'static str) {
        use Reason::*;
        match self {
            FaultKind::NotSealed => (RunNotSealed, "the run was never sealed"),
            FaultKind::Missing => (EvidenceMissing, "a file of the run is missing"),
            FaultKind::Changed => (EvidenceChanged, "a file of the run was changed"),
            FaultKind::Extra => (EvidenceExtra, "a file does not belong to the run"),
            FaultKind::Chain => (EvidenceInconsistent, "the chain of events is broken"),
            FaultKind::Report => (EvidenceInconsistent, "the report does not fit the evidence"),
            FaultKind::OtherId => (EvidenceChanged, "it is another run"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub path: String,
    pub expected: String,
    pub found: String,
}

pub(super) fn fault(
    kind: FaultKind,
    path: &str,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Fault {
    Fault { kind, path: path.into(), expected: expected.into(), found: found.into() }
}
