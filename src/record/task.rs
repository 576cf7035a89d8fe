//! Which task of which campaign a run is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::Digest;

/// Which run of which campaign a run is; part of the run's report, so that it cannot be counted elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskOf {
    /// Digest of the plan.
    pub plan: Digest,
    pub index: u32,
    /// Counted from 1.
    pub attempt: u32,
    /// Who gave the index: `slurm`, `kubernetes`, `pbs`, `sge`, `aws-batch`, `local`, or `none` where it was typed.
    pub scheduler: String,
    /// The scheduler's name of the job, where it gave one.
    pub job: Option<String>,
    /// The machine, as it calls itself.
    pub node: String,
}
