//! `gate.json`: what the checks said, beside the pair that was admitted and what the agent's configuration calls it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::proxy::probe::Probe;
use crate::record::admission::ModelKind;
use crate::record::evidence::{ProviderOrigin, RunReport};
use crate::record::finding::Finding;
use crate::record::{Record, Schema};

/// What the gates said (`admit.gate/3`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateRecord {
    /// Always `admit.gate/3`.
    pub schema: String,
    /// `case` or `fake`.
    pub engine: String,
    /// The provider as asked for, `NAME` or `NAME@REV`.
    pub provider: String,
    /// Where the recorded build came from; absent where there is none.
    pub provider_origin: Option<ProviderOrigin>,
    /// The kind of the model's record; absent where there is none that is valid.
    pub model_kind: Option<ModelKind>,
    /// Whether every gate let it through.
    pub admitted: bool,
    /// The one pair that was asked for.
    pub model: Option<String>,
    /// The provider's name in the agent's configuration; never the admission.
    pub runtime_model_provider: Option<String>,
    pub gates: Vec<Finding>,
    /// What the model was asked before.
    pub probe: Option<Probe>,
}

impl Record for GateRecord {
    const SCHEMA: Schema = Schema { name: "admit.gate", version: 3 };
}

impl GateRecord {
    /// That of a run which ended before its checks said anything.
    pub(super) fn undecided(report: &RunReport) -> Self {
        Self {
            schema: Self::SCHEMA.to_string(),
            engine: report.backend.clone(),
            provider: String::new(),
            provider_origin: None,
            model_kind: None,
            admitted: false,
            model: None,
            runtime_model_provider: None,
            gates: report.gates.clone(),
            probe: None,
        }
    }
}
