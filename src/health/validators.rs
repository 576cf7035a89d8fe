//! What a validator is, and the list of all.

use super::world::{Change, SCRIPTED, World};
use crate::check::Check;
use crate::error::Reason;
use crate::evidence::names;
pub(super) use crate::evidence::names::{GATE, NO_TARGET as PROOF, REPORT};
use crate::record::failure::FailureClass;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A gate refuses: with its class; nothing is started.
    Blocked(Check, FailureClass),
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

/// A file, a place in it (RFC 6901), and the value that must stand there.
pub type Field = (&'static str, &'static str, Want);

#[derive(Clone, Copy)]
pub struct Validator {
    pub name: &'static str,
    pub fault: &'static str,
    /// Whether it is about how provider and model are connected: the set of `admit validate provider-adapter`.
    pub adapter: bool,
    pub world: World,
    pub end: End,
    pub exit: u8,
    pub fields: &'static [Field],
    /// The `failure_reason` that the report must have, where it is looked at.
    reason: Option<&'static str>,
}

/// The status of the model's admission in the report.
pub(super) const ADMISSION: &str = "/case_model_admission_status";

pub(super) const fn text(place: &'static str, text: &'static str) -> Field {
    (REPORT, place, Want::Text(text))
}

/// One that is let through in the scripted world, until more is said of it.
pub(super) const fn validator(name: &'static str, fault: &'static str) -> Validator {
    let (world, end, fields, reason) = (SCRIPTED, End::Rehearsed, &[], None);
    Validator { name, fault, adapter: false, world, end, exit: 0, fields, reason }
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
    pub(super) const fn adapter(self) -> Self {
        Self { adapter: true, ..self }
    }

    pub(super) const fn world(self, world: World) -> Self {
        Self { world, ..self }
    }

    pub(super) const fn changes(self, changes: &'static [Change]) -> Self {
        self.world(World { changes, ..SCRIPTED })
    }

    pub(super) const fn blocked(self, gate: Check, class: FailureClass, exit: u8) -> Self {
        Self { end: End::Blocked(gate, class), exit, ..self }
    }

    pub(super) const fn fails(self, class: FailureClass, exit: u8) -> Self {
        Self { end: End::Fails(class), exit, ..self }
    }

    pub(super) const fn early(self, reason: Reason, exit: u8) -> Self {
        Self { end: End::Early(reason), exit, ..self }
    }

    pub(super) const fn fields(self, fields: &'static [Field]) -> Self {
        Self { fields, ..self }
    }

    /// Blocked for no more exact class than a gate's refusal.
    pub(super) const fn refused(self, gate: Check, exit: u8, reason: &'static str) -> Self {
        self.blocked(gate, FailureClass::GateRefused, exit).says(reason)
    }

    pub(super) const fn says(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// Every value that must stand in the sealed run, beside status, class and marker.
    pub fn wanted(&self) -> impl Iterator<Item = Field> + '_ {
        let reason = self.reason.map(|reason| text("/failure_reason", reason));
        self.fields.iter().copied().chain(reason)
    }

    /// The gate that must refuse, for a run that must be blocked.
    pub fn gate(&self) -> Option<Check> {
        match self.end {
            End::Blocked(gate, _) => Some(gate),
            _ => None,
        }
    }

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
        let class = self.class().map(names::marker);
        class.or_else(|| self.fields.iter().find_map(text))
    }
}
