//! What kind of evidence a run can be, and the one kind that can pass.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::admission::ModelKind;
use super::network::NetworkClass;
use super::wire::UpstreamKind;

/// What kind of evidence a run can be, whatever its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceClass {
    /// Provider `case`, engine `case`, a served model in its network class: the only one that can pass.
    ServedModel,
    Scripted,
    Understudy,
    /// A model on this machine's loopback.
    Loopback,
    Fake,
    None,
}

impl EvidenceClass {
    /// Whether a run of this class can be a pass at all.
    pub fn can_pass(self) -> bool {
        self == Self::ServedModel
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServedModel => "served_model",
            Self::Scripted => "scripted",
            Self::Understudy => "understudy",
            Self::Loopback => "loopback",
            Self::Fake => "fake",
            Self::None => "none",
        }
    }
}

/// The one provider whose run can be a pass.
pub const PASSING_PROVIDER: &str = "case";

/// What a run of this provider, model and upstream can be at best. `kind` is absent where only the wire is known.
pub fn evidence_class(
    provider: &str,
    kind: Option<ModelKind>,
    network: Option<NetworkClass>,
    upstream: UpstreamKind,
) -> EvidenceClass {
    let scripted = kind == Some(ModelKind::Scripted);
    if upstream == UpstreamKind::Scripted || scripted && network.is_none() {
        return EvidenceClass::Scripted;
    }
    match network {
        None | Some(NetworkClass::LoopbackTest) => EvidenceClass::Loopback,
        // Another provider stands in for the one that is meant.
        Some(_) if provider != PASSING_PROVIDER => EvidenceClass::Understudy,
        Some(_) if scripted => EvidenceClass::Scripted,
        Some(_) => EvidenceClass::ServedModel,
    }
}
