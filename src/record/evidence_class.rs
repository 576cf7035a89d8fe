//! What kind of evidence a run can be, and the one kind that can pass.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::admission::ModelKind;
use super::network::LOOPBACK_TEST;
use super::text::words;
use super::wire::UpstreamKind;

words! {
    /// What kind of evidence a run can be, whatever its end.
    #[derive(Default)]
    pub enum EvidenceClass {
        /// A provider from a source of its own, with a served model in its network: the only one that can pass.
        ServedModel = "served_model",
        Scripted = "scripted",
        Understudy = "understudy",
        /// A model on this machine's loopback.
        Loopback = "loopback",
        Fake = "fake",
        #[default]
        None = "none",
    }
}

impl EvidenceClass {
    /// Whether a run of this class can be a pass at all.
    pub fn can_pass(self) -> bool {
        self == Self::ServedModel
    }
}

/// Where a provider came from, as the build on record has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderOrigin {
    /// From a source of its own.
    Source,
    /// The stand-in inside admit, whatever its lock calls it: by its source, or by its very bytes.
    StandIn,
}

/// What a run can be at best: by where the provider came from, the kind of the model's record, the network that was used, by
/// the name under which the gate held the endpoint to it (none for a model inside admit), and what stood behind the proxy. Never by a name.
pub fn evidence_class(
    origin: ProviderOrigin,
    kind: ModelKind,
    network: Option<&str>,
    upstream: UpstreamKind,
) -> EvidenceClass {
    let scripted = kind == ModelKind::Scripted;
    if upstream == UpstreamKind::Scripted {
        return EvidenceClass::Scripted;
    }
    match network {
        None | Some(LOOPBACK_TEST) => EvidenceClass::Loopback,
        Some(_) if origin == ProviderOrigin::StandIn => EvidenceClass::Understudy,
        Some(_) if scripted => EvidenceClass::Scripted,
        Some(_) => EvidenceClass::ServedModel,
    }
}
