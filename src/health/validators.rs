//! What a validator is, and the list of all.

use super::admitted::ADMITTED;
use super::failing::FAILING;
use super::models::MODELS;
use super::records::RECORDS;
use super::world::World;
use crate::error::Reason;
use crate::gate::Gate;
use crate::record::failure::FailureClass;

/// How a validator's run must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A gate refuses: with its class; nothing is started.
    Blocked(Gate, FailureClass),
    /// The run is started and fails, with this class.
    Fails(FailureClass),
    /// The run is started and does everything but pass, which it cannot.
    Rehearsed,
    /// Refused before there is a run directory, for this reason.
    Early(Reason),
}

/// A value that must stand in a file of the sealed run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Want {
    Text(&'static str),
    Number(i64),
    Bool(bool),
    Empty,
}

#[derive(Clone, Copy)]
pub struct Validator {
    pub name: &'static str,
    /// The fault, in words.
    pub fault: &'static str,
    /// Whether it is about how provider and model are connected: the set of `admit validate provider-adapter`.
    pub adapter: bool,
    pub world: World,
    pub end: End,
    pub exit: u8,
    /// Values that must stand in files: file, place in it (RFC 6901), value.
    pub fields: &'static [(&'static str, &'static str, Want)],
}

pub(super) const REPORT: &str = "report.json";
/// The gates' rows and the probe.
pub(super) const GATE: &str = "gate.json";
pub(super) const PROOF: &str = "stage2-no-target-inspection.json";
/// The status of the model's admission in the report.
pub(super) const ADMISSION: &str = "/case_model_admission_status";

/// Every validator, in the order in which they run: what must be let through, what a gate must refuse, what must fail.
pub fn all() -> impl Iterator<Item = &'static Validator> {
    ADMITTED.iter().chain(RECORDS).chain(MODELS).chain(FAILING)
}

impl Want {
    pub fn value(self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.into(),
            Self::Number(number) => number.into(),
            Self::Bool(yes) => yes.into(),
            Self::Empty => serde_json::Value::Array(Vec::new()),
        }
    }
}

impl Validator {
    /// The gate that must refuse, for a run that must be blocked.
    pub fn gate(&self) -> Option<Gate> {
        match self.end {
            End::Blocked(gate, _) => Some(gate),
            _ => None,
        }
    }

    /// The failure class that the report must have.
    pub fn class(&self) -> Option<FailureClass> {
        match self.end {
            End::Blocked(_, class) | End::Fails(class) => Some(class),
            _ => None,
        }
    }

    /// The marker file that must stand in `backend/`, and the only one.
    pub fn marker(&self) -> Option<String> {
        let text = |want: &(&str, &str, Want)| match *want {
            (_, "/lifecycle_marker", Want::Text(marker)) => Some(marker.to_owned()),
            _ => None,
        };
        let class = self.class().map(|class| format!("backend/{}", class.marker()));
        class.or_else(|| self.fields.iter().find_map(text))
    }
}
