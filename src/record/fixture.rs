//! An artificial fixture, `fixtures/<name>/fixture.json` (`admit.fixture/1`): a small repository that is wrong, what an
//! agent is asked to do with it, and how the result is judged. And the script that stands in for a model
//! (`admit.script/1`).
//!
//! Only the workspace and the task's text ever reach an agent. The rest (reference patch, script, held-out cases) stays
//! with admit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::canonical::{Record, Schema};
use super::ids::{Digest, Name, RelPath};

/// A fixture by digest, `lockfiles/fixtures/<name>.json` (`admit.fixture-lock/1`): what the gate holds a fixture against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixtureLock {
    /// Always `admit.fixture-lock/1`.
    pub schema: String,
    pub fixture: Name,
    /// SHA-256 over the canonical list of every file's path and SHA-256.
    pub digest: Digest,
}

impl Record for FixtureLock {
    const SCHEMA: Schema = Schema { name: "admit.fixture-lock", version: 1 };
}

/// `fixture.json`. Paths are below the fixture's directory or, where said so, below its workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixtureRecord {
    /// Always `admit.fixture/1`.
    pub schema: String,
    /// The fixture's name, which is its directory's.
    pub name: Name,
    /// The repository's name in the agent's configuration.
    pub repo: Name,
    /// Which phases the agent runs: `tiny` or `standard` (case.md, "Running it").
    pub profile: Profile,
    pub task: TaskHead,
    /// Paths in the workspace that may change.
    pub allowed_paths: Vec<RelPath>,
    /// What the task forbids, word for word.
    pub forbidden_actions: Vec<String>,
    /// The command that verifies the work; its first word is one of `tools`.
    pub verification_command: Vec<String>,
    /// The tests that must all run and pass, as pytest names them: `path::test`.
    pub test_ids: Vec<String>,
    /// Names of files and directories that tools make and nobody judges; the workspace's `.gitignore` lists each as
    /// `name/`. One path part each.
    pub ignored: Vec<RelPath>,
    /// Calls whose results an agent never sees.
    pub held_out: Vec<HeldOut>,
    /// What the task says about evidence, word for word.
    pub evidence_expectations: Vec<String>,
    /// The directory with the workspace's files.
    pub workspace: RelPath,
    pub task_file: RelPath,
    /// A patch that solves the task.
    pub reference_patch: RelPath,
    /// The script of a scripted model.
    pub script: RelPath,
    /// Programs of the host that the agent needs.
    pub tools: Vec<Tool>,
}

impl Record for FixtureRecord {
    const SCHEMA: Schema = Schema { name: "admit.fixture", version: 1 };
}

/// Which phases an agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Implement, review, close, retrospective.
    Tiny,
    /// Scout, implement, verify, review, close, retrospective.
    Standard,
}

impl Profile {
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Tiny => "tiny",
            Profile::Standard => "standard",
        }
    }
}

/// What is asked, in short; the text stands in `task_file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskHead {
    /// The task's id, which names its files.
    pub id: Name,
    pub title: String,
    /// The issue in a few sentences.
    pub issue: String,
}

/// Calls of one function with the results that they must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    pub module: Name,
    pub function: String,
    pub cases: Vec<HeldOutCase>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldOutCase {
    pub args: Vec<Value>,
    /// The result, of exactly the type that JSON says.
    pub expected: Value,
}

/// A program of the host.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    Git,
    /// CPython with the pinned pytest.
    Python3,
}

/// `script.json`: what a scripted model answers (`admit.script/1`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Always `admit.script/1`.
    pub schema: String,
    /// The answers, in order.
    pub turns: Vec<Turn>,
    /// The answer to everything after the last turn.
    pub closing: Turn,
}

impl Record for Script {
    const SCHEMA: Schema = Schema { name: "admit.script", version: 1 };
}

/// One answer of the model: text, tool calls, or both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// `read`, `write`, `edit` or `bash`.
    pub name: String,
    pub arguments: Map<String, Value>,
}
