//! `gate.json`: what the gates said, beside the pair that was admitted and what the agent's configuration calls it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::facts::Gathered;
use super::verdict;
use crate::gate::{Decision, Engine, Verdict};
use crate::lock::Spec;
use crate::proxy::probe::Probe;
use crate::record::admission::ModelPair;
use crate::record::evidence::GateRow;
use crate::record::{Record, Schema};

/// What the gates said (`admit.gate/1`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateRecord {
    /// Always `admit.gate/1`.
    pub schema: String,
    /// `case` or `fake`.
    pub engine: String,
    /// The provider as asked for, `NAME` or `NAME@REV`.
    pub provider: String,
    /// Whether every gate let it through.
    pub admitted: bool,
    /// The one pair that was asked for.
    pub model: Option<String>,
    /// The provider's name in the agent's configuration; never the admission.
    pub runtime_model_provider: Option<String>,
    pub gates: Vec<GateRow>,
    /// What the model was asked before.
    pub probe: Option<Probe>,
}

impl Record for GateRecord {
    const SCHEMA: Schema = Schema { name: "admit.gate", version: 1 };
}

impl GateRecord {
    pub fn of(
        engine: Engine,
        provider: &Spec,
        model: Option<&ModelPair>,
        gathered: &Gathered,
        decision: &Decision,
    ) -> Self {
        let record = gathered.facts.model.known().and_then(|model| model.record.as_ref());
        Self {
            schema: Self::SCHEMA.to_string(),
            engine: verdict::backend(engine).into(),
            provider: provider.to_string(),
            admitted: matches!(decision.verdict, Verdict::Admit(_)),
            model: model.map(ToString::to_string),
            runtime_model_provider: record.map(|record| record.runtime_provider.to_string()),
            gates: decision.rows.clone(),
            probe: gathered.probe.clone(),
        }
    }
}
