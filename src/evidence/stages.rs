//! What stands where on the ladder of stages, from verified runs. Pure.

use serde::Serialize;

use super::read::RunCheck;
use crate::record::evidence::RunStatus;
use crate::record::failure::Stage;
use crate::record::ids::Digest;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageRow {
    /// Its number, 2 to 7.
    #[serde(rename = "stage")]
    pub number: u8,
    pub title: &'static str,
    pub runs: bool,
    /// Verified runs of it with status `pass`, by id: the only ones that count.
    pub passed: Vec<Digest>,
    /// Verified runs of it that do not count: failed, blocked, rehearsed.
    pub others: usize,
    /// The evidence that is missing before it could run, or before the next step can be asked for.
    pub missing: Vec<String>,
}

/// The ladder. Runs that did not verify count for nothing.
pub fn ladder(runs: &[RunCheck]) -> Vec<StageRow> {
    let verified = || {
        runs.iter()
            .filter(|run| run.level.is_some() && run.faults.is_empty())
            .filter_map(|run| Some((run.id.clone()?, run.report.as_ref()?)))
    };
    Stage::ALL
        .into_iter()
        .map(|stage| {
            let of_stage = || verified().filter(|(_, report)| report.stage == stage.number);
            let mut passed: Vec<Digest> = of_stage()
                .filter(|(_, report)| report.status == RunStatus::Pass)
                .map(|(id, _)| id)
                .collect();
            // The same run copied to two places is one run.
            passed.sort_by_key(ToString::to_string);
            passed.dedup();
            let mut missing: Vec<String> =
                stage.missing.iter().map(|line| (*line).to_owned()).collect();
            if stage.runs() && passed.is_empty() {
                missing.push("a verified run with status pass".into());
            }
            StageRow {
                number: stage.number,
                title: stage.title,
                runs: stage.runs(),
                others: of_stage().filter(|(_, r)| r.status != RunStatus::Pass).count(),
                passed,
                missing,
            }
        })
        .collect()
}
