//! A campaign's plan and its count as statements: the plan before the first run, so that the denominator cannot be chosen
//! afterwards, and the count as an in-toto test result (v0.1).

use serde_json::{Value, json};

use super::expected::Expected;
use super::run::TEST_RESULT;
use crate::record;
use crate::record::campaign::{CampaignPlan, CampaignRecord, Cell, Count, InclusionProof};
use crate::record::evidence::RunStatus;
use crate::record::ids::Digest;
use crate::record::statement::{Statement, digest_set};

pub const CAMPAIGN_PLAN: &str = "urn:admit:predicate:campaign-plan:1";

/// The statement that this plan was made: its subject is the plan's digest, its predicate the plan.
pub fn campaign_plan(plan: &CampaignPlan) -> Statement {
    let predicate = record::to_value(plan);
    Statement::about(plan.name.as_str(), &plan.digest(), CAMPAIGN_PLAN, predicate)
}

/// The count as a test result, a cell being a test. `PASSED`: every task has a score and passed. `WARNED`: every task has a
/// score, and some failed or were counted after an attempt that was not scored, or rehearsals were counted. `FAILED`: some task
/// has no score.
pub fn campaign_result(plan: &CampaignPlan, count: &CampaignRecord) -> Statement {
    let whole: fn(&Count) -> bool = |count| count.success == count.planned && count.repeated == 0;
    let rehearsal = plan.success.contains(&RunStatus::Rehearsed);
    let result = match (count.complete, whole(&count.total) && !rehearsal) {
        (false, _) => "FAILED",
        (true, false) => "WARNED",
        (true, true) => "PASSED",
    };
    let title = |cell: &Cell| format!("{} {} {}", cell.provider, cell.model, cell.fixture);
    let named = |wanted: fn(&Count) -> bool| -> Vec<String> {
        let cells = plan.cells.iter().zip(&count.cells);
        cells.filter(|(_, count)| wanted(count)).map(|(cell, _)| title(cell)).collect()
    };
    let predicate = json!({
        "result": result,
        "configuration": configuration(&count.plan, &count.root_hash),
        "passedTests": named(whole),
        "warnedTests": named(|count| {
            (count.success < count.planned || count.repeated > 0) && count.success + count.failure == count.planned
        }),
        "failedTests": named(|count| count.success + count.failure < count.planned),
    });
    Statement::about(plan.name.as_str(), &record::digest(count), TEST_RESULT, predicate)
}

fn configuration(plan: &Digest, tasks: &Digest) -> Value {
    json!([
        { "name": "plan", "digest": digest_set(plan) },
        { "name": "tasks", "digest": digest_set(tasks) },
    ])
}

/// What must be signed for one task of a count to be believed: that count, of that plan, over the tree that the task is in. What
/// the whole came to is not shown with it.
pub fn campaign_of(proof: &InclusionProof) -> Expected {
    let predicate = json!({ "configuration": configuration(&proof.plan, &proof.root_hash) });
    Expected {
        free: &[
            "/subject/0/name",
            "/predicate/result",
            "/predicate/passedTests",
            "/predicate/warnedTests",
            "/predicate/failedTests",
        ],
        ..Statement::about("", &proof.record, TEST_RESULT, predicate).into()
    }
}
