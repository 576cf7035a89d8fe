//! The records of a campaign: the plan, which is fixed before the first run, and the count, which is made after the last.
//!
//! `plan.json` (`admit.campaign-plan/1`) says what will be run, how often, and how it will be counted; its digest is the
//! campaign's name. `campaign.json` (`admit.campaign/2`) says what came of every task. Both hold integers and texts only:
//! a rate is a decimal of six digits, so that the same count always has the same bytes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::admission::ModelPair;
use super::canonical::{self, Record, Schema, schema};
use super::evidence::RunStatus;
use super::failure::FailureClass;
use super::ids::{Digest, Name, Timestamp};
use super::text::words;

/// What a campaign can have at most: as many tasks as a scheduler's array usually takes.
pub const MAX_TASKS: u32 = 100_000;
pub const MAX_ATTEMPTS: u32 = 20;

/// The one way of counting that exists: the lowest attempt that was scored counts, never the best one; where an attempt
/// before it was started and not scored, the task widens the bounds of the rate.
pub const COUNTING: &str = "lowest-scored-attempt/2";
/// The one interval that exists: Wilson's score interval, 95 % on both sides, without continuity correction.
pub const INTERVAL: &str = "wilson-95/1";

/// One combination that is run: everything in it by digest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    pub provider: Name,
    /// Digest of the provider's lock.
    pub lock: Digest,
    /// The locked output for the platform that the plan was made on.
    pub binary_sha256: Digest,
    pub model: ModelPair,
    /// Digest of the model's admission record.
    pub model_record: Digest,
    pub fixture: Name,
    /// Digest of the fixture as recorded.
    pub fixture_digest: Digest,
}

/// `plan.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CampaignPlan {
    /// `admit.campaign-plan/1`.
    pub schema: String,
    /// What people call it; two campaigns may have the same.
    pub name: Name,
    /// The version of admit that made it.
    pub admit_version: String,
    pub cells: Vec<Cell>,
    /// How often each cell is run.
    pub repeats: u32,
    /// How many attempts at one task there are at most. Only an attempt that says nothing about the agent is followed by
    /// another.
    pub attempts: u32,
    /// The wall clock of a run, in seconds; absent where the usual one holds.
    pub timeout_seconds: Option<u64>,
    /// The statuses that are a success: `pass`, or for a rehearsal of the whole also `rehearsed`.
    pub success: Vec<RunStatus>,
    /// Of those that can be another's doing than the agent's: an attempt that ends so is not scored, and is followed by another.
    pub not_scored: Vec<FailureClass>,
    /// [`COUNTING`].
    pub counting: String,
    /// [`INTERVAL`].
    pub interval: String,
    /// For which k the chance that k runs of a cell all succeed is estimated.
    pub pass_k: Vec<u32>,
}

schema!(CampaignPlan, "admit.campaign-plan", 1);

impl CampaignPlan {
    /// How many tasks there are. Task `i` is repeat `i / cells` of cell `i % cells`, so that what was run when a campaign
    /// stops early is spread over all cells.
    pub fn tasks(&self) -> u32 {
        u32::try_from(self.cells.len()).unwrap_or(u32::MAX).saturating_mul(self.repeats)
    }

    /// The cell of a task, with its place in the list; `None` for an index that the plan does not have.
    pub fn cell(&self, index: u32) -> Option<(usize, &Cell)> {
        if index >= self.tasks() {
            return None;
        }
        let place = index as usize % self.cells.len();
        self.cells.get(place).map(|cell| (place, cell))
    }

    /// The campaign's name for machines.
    pub fn digest(&self) -> Digest {
        canonical::digest(self)
    }

    /// What keeps it from being a plan; empty for one that is.
    pub fn faults(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut fault = |broken: bool, what: &str| {
            if broken {
                out.push(what.to_owned());
            }
        };
        fault(self.cells.is_empty(), "it has no cell");
        let twice = self.cells.iter().enumerate().any(|(n, cell)| self.cells[..n].contains(cell));
        fault(twice, "it has the same cell twice");
        fault(self.repeats == 0, "it repeats nothing");
        fault(self.tasks() > MAX_TASKS, "it has more than 100000 tasks");
        fault(!(1..=MAX_ATTEMPTS).contains(&self.attempts), "attempts is not from 1 to 20");
        fault(
            self.timeout_seconds.is_some_and(|s| !(1..=86_400).contains(&s)),
            "timeout_seconds is not from 1 to 86400",
        );
        let good = |status: &RunStatus| matches!(status, RunStatus::Pass | RunStatus::Rehearsed);
        fault(
            self.success.is_empty() || !self.success.iter().all(good),
            "success is not a list of pass and rehearsed",
        );
        fault(
            self.not_scored.iter().any(|class| !class.may_be_unscored()),
            "not_scored has a class of the agent's own",
        );
        fault(self.counting != COUNTING, "counting is not lowest-scored-attempt/2");
        fault(self.interval != INTERVAL, "interval is not wilson-95/1");
        fault(
            self.pass_k.iter().any(|k| *k == 0 || *k > self.repeats)
                || !self.pass_k.is_sorted_by(|a, b| a < b),
            "pass_k is not a rising list of numbers from 1 to repeats",
        );
        out
    }
}

/// What an attempt's directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// Whole, of this plan, and it says something about the agent.
    Scored,
    /// Whole and of this plan; it says nothing about the agent.
    NotScored,
    /// Without a seal: the run is still going on, or its machine was lost.
    Unsealed,
    /// Sealed, and changed since.
    Changed,
    /// The run of another plan, task, binary, model or fixture, an attempt that the plan does not have, or one whose
    /// baselines are said to be those of a run that is not here.
    Foreign,
    /// Without a directory, although a later attempt has one: it was taken away.
    Absent,
}

/// One attempt at a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// The directory below `runs/`.
    pub directory: String,
    pub attempt: u32,
    pub state: AttemptState,
    /// Whether the agent was started; absent where no report that can be believed says so.
    pub started: Option<bool>,
    /// The run's id, where it is whole.
    pub run: Option<Digest>,
    pub status: Option<RunStatus>,
    pub class: Option<FailureClass>,
    /// What is wrong with it, or why it ended as it did.
    pub why: Option<String>,
    /// From the first event to the seal.
    pub seconds: Option<u64>,
    /// What the run says of where it ran.
    pub scheduler: Option<String>,
    pub job: Option<String>,
    pub node: Option<String>,
}

words! {
    /// What came of a task.
    pub enum TaskState {
        Success = "success",
        Failure = "failure",
        /// Attempts were made, and none says anything about the agent.
        NotScored = "not_scored",
        /// No attempt that can be read: all unsealed, changed or foreign.
        Lost = "lost",
        /// Nothing was ever begun.
        Missing = "missing",
    }
}

/// One task with all its attempts: a leaf of the tree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    pub index: u32,
    /// The cell's place in the plan.
    pub cell: u32,
    pub state: TaskState,
    /// The attempt that counts.
    pub counted: Option<u32>,
    /// Whether an attempt before that one was not scored although the agent may have been started: whoever could end it, the
    /// agent or who runs the campaign, could have taken a failure out of the count.
    pub repeated: bool,
    /// In order; more than one scored attempt is a task that was run twice, and the later ones do not count.
    pub attempts: Vec<Attempt>,
}

/// A rate's interval, from 0 to 1, each a decimal with six digits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    pub low: String,
    pub high: String,
}

/// The estimated chance that k runs all succeed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PassK {
    pub k: u32,
    /// A decimal with six digits; absent where fewer than k runs were scored.
    pub estimate: Option<String>,
}

/// What came of a cell, or of all cells.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Tasks of the plan.
    pub planned: u32,
    pub success: u32,
    pub failure: u32,
    pub not_scored: u32,
    pub lost: u32,
    pub missing: u32,
    /// Of the scored: counted by an attempt after one that was not scored although the agent may have been started.
    pub repeated: u32,
    /// Successes of the scored; absent where nothing was scored.
    pub rate: Option<String>,
    /// Of that rate; absent where nothing was scored.
    pub interval: Option<Interval>,
    /// The rate if all attempts that were not scored, but for those in which no agent was started, had failed, and if they had
    /// succeeded: equal in a complete campaign in which nothing was repeated.
    pub bounds: Interval,
    pub pass_k: Vec<PassK>,
    /// How many counted failures each class has.
    pub classes: BTreeMap<String, u32>,
}

/// `campaign.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CampaignRecord {
    /// `admit.campaign/2`.
    pub schema: String,
    /// Digest of the plan.
    pub plan: Digest,
    pub admit_version: String,
    pub sealed: Timestamp,
    /// Whether every task of the plan has a score.
    pub complete: bool,
    pub total: Count,
    /// In the plan's order.
    pub cells: Vec<Count>,
    /// In order of their index; the leaves of the tree are their canonical bytes.
    pub tasks: Vec<Task>,
    /// The RFC 9162 tree hash over `tasks`, so that one task can be shown alone.
    pub root_hash: Digest,
}

impl Record for CampaignRecord {
    const SCHEMA: Schema = Schema { name: "admit.campaign", version: 2 };
    /// A task has six, and each of its attempts up to fourteen.
    const MAX_VALUES: usize = MAX_TASKS as usize * (6 + 14 * MAX_ATTEMPTS as usize);
}

/// One task shown alone, with what proves that it belongs to the campaign.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InclusionProof {
    /// `admit.campaign-proof/2`.
    pub schema: String,
    pub plan: Digest,
    /// Digest of the campaign's record: what is signed.
    pub record: Digest,
    pub root_hash: Digest,
    pub tree_size: u64,
    pub leaf_index: u64,
    /// The inclusion path of RFC 9162, section 2.1.3, from the leaf upward.
    pub path: Vec<Digest>,
    pub task: Task,
}

schema!(InclusionProof, "admit.campaign-proof", 2);
