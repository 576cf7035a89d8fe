//! What `admit health` and `admit validate` found (`admit.health/2`): one row a validator, each with the fault that was
//! injected and what was observed of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canonical::{Record, schema};

/// How a validator ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Exactly what was expected was observed.
    Passed,
    /// Something else was observed.
    Failed,
    /// It could not be run. Never a pass.
    NotRun,
}

/// One value that was read back from the sealed run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservedField {
    /// The file and the place in it: `report.json#/status`; of a refusal before there is a run, `error#/reason`.
    pub place: String,
    /// What had to stand there.
    pub expected: Value,
    /// What stood there; null where nothing did.
    pub found: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthRow {
    pub name: String,
    /// What was made wrong on purpose, or the good thing that must be let through.
    pub fault: String,
    pub outcome: Outcome,
    /// The gate that must refuse; absent where the run must start, or ends before the gates.
    pub gate: Option<String>,
    /// The gates of which each alone decides this answer: were one of them left out, the answer would be another.
    pub decided_by: Vec<String>,
    /// The marker file that was observed in the sealed run; absent where none belongs there.
    pub marker: Option<String>,
    /// The values that were read back.
    pub fields: Vec<ObservedField>,
    /// Everything that was not as expected, or why it was not run; empty for a pass.
    pub faults: Vec<String>,
    /// How long it took, in milliseconds.
    pub wall_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthReport {
    /// Always `admit.health/2`.
    pub schema: String,
    pub admit_version: String,
    /// Which set: `health`, `provider-adapter`, or `chosen`.
    pub set: String,
    /// Whose runs were made: the stand-in's, or those of a provider on record.
    pub provider: String,
    pub passed: bool,
    /// How many passed, failed, and were not run.
    pub counts: Counts,
    pub validators: Vec<HealthRow>,
}

/// How many validators ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
    pub not_run: usize,
}

schema!(HealthReport, "admit.health", 2);

impl HealthReport {
    /// The answer from its rows. Without a row nothing passed.
    pub fn of(set: &str, provider: &str, validators: Vec<HealthRow>) -> Self {
        let count = |outcome| validators.iter().filter(|row| row.outcome == outcome).count();
        let counts = Counts {
            passed: count(Outcome::Passed),
            failed: count(Outcome::Failed),
            not_run: count(Outcome::NotRun),
        };
        Self {
            schema: Self::SCHEMA.to_string(),
            admit_version: env!("CARGO_PKG_VERSION").into(),
            set: set.into(),
            provider: provider.into(),
            passed: counts.passed == validators.len() && !validators.is_empty(),
            counts,
            validators,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: Outcome) -> HealthRow {
        HealthRow {
            name: "x".into(),
            fault: "y".into(),
            outcome,
            gate: None,
            decided_by: Vec::new(),
            marker: None,
            fields: Vec::new(),
            faults: Vec::new(),
            wall_ms: 0,
        }
    }

    #[test]
    fn only_passes_are_a_pass() {
        use Outcome::{Failed, NotRun, Passed};
        for (rows, passed) in [
            (vec![Passed, Passed], true),
            (vec![Passed, Failed], false),
            (vec![Passed, NotRun], false),
            (vec![], false),
        ] {
            let report =
                HealthReport::of("health", "understudy", rows.iter().map(|o| row(*o)).collect());
            assert_eq!(report.passed, passed, "{rows:?}");
            assert_eq!(
                report.counts.passed + report.counts.failed + report.counts.not_run,
                rows.len()
            );
        }
    }
}
