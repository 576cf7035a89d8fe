//! A campaign's plan and its count as statements: the plan before the first run, so that the denominator cannot be chosen
//! afterwards, and the count as an in-toto test result (v0.1).

use serde_json::json;

use super::run::TEST_RESULT;
use crate::record;
use crate::record::campaign::{CampaignPlan, CampaignRecord, Cell, Count};
use crate::record::evidence::RunStatus;
use crate::record::statement::{Statement, digest_set};

/// The predicate type of a plan: admit's own.
pub const CAMPAIGN_PLAN: &str = "urn:admit:predicate:campaign-plan:1";

/// The statement that this plan was made: its subject is the plan's digest, its predicate the plan.
pub fn campaign_plan(plan: &CampaignPlan) -> Statement {
    let predicate = record::to_value(plan);
    Statement::about(plan.name.as_str(), &plan.digest(), CAMPAIGN_PLAN, predicate)
}

/// The count as a test result, a cell being a test. `PASSED`: every task has a score and passed. `WARNED`: every task has a
/// score, and some failed, or rehearsals were counted. `FAILED`: some task has no score.
pub fn campaign_result(plan: &CampaignPlan, count: &CampaignRecord) -> Statement {
    let whole = |count: &Count| count.success == count.planned;
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
        "configuration": [
            { "name": "plan", "digest": digest_set(&count.plan) },
            { "name": "tasks", "digest": digest_set(&count.root_hash) },
        ],
        "passedTests": named(|count| count.success == count.planned),
        "warnedTests": named(|count| {
            count.success < count.planned && count.success + count.failure == count.planned
        }),
        "failedTests": named(|count| count.success + count.failure < count.planned),
    });
    Statement::about(plan.name.as_str(), &record::digest(count), TEST_RESULT, predicate)
}
