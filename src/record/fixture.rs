//! An artificial fixture, `fixtures/<name>/fixture.json` (`admit.fixture/1`): a small repository that is wrong, what an
//! agent is asked to do with it, and how the result is judged. And the script that stands in for a model
//! (`admit.script/1`).
//!
//! Only the workspace and the task's text ever reach an agent. The rest (reference patch, script, held-out cases) stays
//! with admit.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::canonical::schema;
use super::ids::{CommitId, Digest, Name, ObjectId, RelPath};
use super::text::words;

/// A fixture by digest, `lockfiles/fixtures/<name>.json` (`admit.fixture-lock/2`): what the gate holds a fixture against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixtureLock {
    /// Always `admit.fixture-lock/2`. One of `admit.fixture-lock/1`, which has no `attacked`, is read too.
    pub schema: String,
    pub fixture: Name,
    /// SHA-256 over the canonical list of every file's path and SHA-256.
    pub digest: Digest,
    /// What the last recorded `admit fixture attack` came to, perhaps of the fixture as it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attacked: Option<AttackResult>,
}

schema!(FixtureLock, "admit.fixture-lock", 2);

/// What attempts at a fixture came to that must not be accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttackResult {
    /// The fixture that was attacked.
    pub digest: Digest,
    pub admit_version: String,
    pub refused: u64,
    pub attempts: u64,
    /// Of each class.
    pub classes: BTreeMap<String, AttackCount>,
    /// Names of the attempts that were accepted.
    pub accepted: Vec<String>,
    /// Files that may change and in whose place nothing was tried.
    pub untried: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttackCount {
    pub refused: u64,
    pub attempts: u64,
}

/// The commit that a fixture's workspace was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixtureOrigin {
    /// `https://…`, `http://…` or `file:///…`.
    pub url: String,
    pub rev: CommitId,
    /// The commit's git tree. The workspace is this without what no fixture holds, with a `.gitignore` of the fixture's.
    pub tree: ObjectId,
}

/// `fixture.json`. Paths are below the fixture's directory or, where said so, below its workspace. Most fields have a
/// default, which is filled in when a fixture is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixtureRecord {
    /// Always `admit.fixture/3`. Those of `admit.fixture/2` and `/1` are read too: the former have no `program`, the latter
    /// leave nothing out besides.
    pub schema: String,
    /// The fixture's name, which is its directory's.
    pub name: Name,
    /// Who judges the work.
    #[serde(default)]
    pub judge: JudgeName,
    /// The repository's name in the agent's configuration. Default: the fixture's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<Name>,
    /// Which phases the agent runs: `tiny` or `standard` (case.md, "Running it").
    #[serde(default)]
    pub profile: Profile,
    pub task: TaskHead,
    /// Where the workspace is from, where that is a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<FixtureOrigin>,
    /// Paths in the workspace that may change.
    pub allowed_paths: Vec<RelPath>,
    /// What the task forbids, word for word. Default: touching tests, files of its own, the network, looking outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbidden_actions: Vec<String>,
    /// The command that verifies the work, as the task says it. Default: the judge's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verification_command: Vec<String>,
    /// The program that the held-out calls start, with its first arguments, where the judge is `command`; what a call has
    /// comes after these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub program: Vec<String>,
    /// The tests that must all run and pass, as the judge's runner names them: `path::test`. Where the judge is
    /// `command`, the files of the tests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test_ids: Vec<String>,
    /// Names of files and directories that tools make and nobody judges; the workspace's `.gitignore` lists each as
    /// `name/`. One path part each. Default: `.case` and what the judge's runner makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<RelPath>,
    /// A file that draws calls from a seed, anew for every run. Its language is the judge's, that of `command` TypeScript.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<RelPath>,
    /// Calls that are made in every run, beside those that are drawn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_out: Vec<HeldOut>,
    /// What the task says about evidence, word for word. Default: one commit, and a verification that passes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence_expectations: Vec<String>,
    /// The directory with the workspace's files.
    #[serde(default = "workspace")]
    pub workspace: RelPath,
    /// The task's text. Default: one that is made of the other fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_file: Option<RelPath>,
    /// A patch that solves the task. Default: what the directory `solution` puts over the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_patch: Option<RelPath>,
    /// The script of a scripted model. Default: one that writes what the reference solution changes and commits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<RelPath>,
    /// Programs that the agent needs. Default: git and what the judge's tests are run by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
}

/// Where the workspace is unless a fixture says so.
#[expect(clippy::expect_used, reason = "a constant path")]
pub fn workspace() -> RelPath {
    "workspace".parse().expect("a path")
}

impl FixtureRecord {
    /// The repository's name in the agent's configuration.
    pub fn repo(&self) -> &Name {
        self.repo.as_ref().unwrap_or(&self.name)
    }

    /// The task's id, which names its files.
    pub fn task_id(&self) -> String {
        self.task.id.as_ref().map_or_else(|| format!("{}-1", self.name), Name::to_string)
    }

    /// Whether the held-out calls are other ones in every run.
    pub fn draws(&self) -> bool {
        self.generator.is_some()
    }
}

words! {
    /// Who judges the work: `docs/judges.md`.
    #[derive(Default)]
    pub enum JudgeName {
        /// pytest and held-out calls, with the host's Python and the pinned pytest.
        #[default]
        Python = "python",
        /// `bun test` and held-out calls, with the pinned Bun and nothing of the host.
        Bun = "bun",
        /// A command of the fixture's own, and held-out calls of a program: what each prints and how it ends.
        Command = "command",
    }
}

impl JudgeName {
    /// The program without which it cannot judge or draw.
    pub fn tool(self) -> Tool {
        match self {
            Self::Python => Tool::Python3,
            Self::Bun | Self::Command => Tool::Bun,
        }
    }

    /// The command that verifies the work: how it begins, and what follows by default. A fixture's own where it is empty.
    pub fn verification(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Python => (&["python3", "-m", "pytest"], &["-q"]),
            Self::Bun => (&["bun", "test"], &[]),
            Self::Command => (&[], &[]),
        }
    }

    /// The directories that its runner leaves in a workspace.
    pub fn leavings(self) -> &'static [&'static str] {
        match self {
            Self::Python => &[".pytest_cache", "__pycache__"],
            Self::Bun => &["node_modules"],
            Self::Command => &[],
        }
    }

    /// How the files end that it judges; of none where its language is not known.
    pub fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Python => &[".py"],
            Self::Bun => &[".ts", ".tsx", ".js", ".mjs"],
            Self::Command => &[],
        }
    }

    /// The file with a fixture's generator.
    pub fn generator_name(self) -> &'static str {
        match self {
            Self::Python => "generator.py",
            Self::Bun | Self::Command => "generator.ts",
        }
    }

    /// How a held-out call is written where one is named by hand.
    pub fn call_form(self) -> &'static str {
        match self {
            Self::Python | Self::Bun => "MODULE FUNCTION [ARGUMENTS]",
            Self::Command => "[[\"WORD\"], \"STANDARD INPUT\"]",
        }
    }

    /// Language and package manager, in Case's words.
    pub fn case_words(self) -> (&'static str, &'static str) {
        match self {
            Self::Python => ("python", "pip"),
            Self::Bun => ("typescript", "bun"),
            Self::Command => ("other", "none"),
        }
    }
}

schema!(FixtureRecord, "admit.fixture", 3);

words! {
    /// Which phases an agent runs.
    #[derive(Default)]
    pub enum Profile {
        #[default]
        /// Implement, review, close, retrospective.
        Tiny = "tiny",
        /// Scout, implement, verify, review, close, retrospective.
        Standard = "standard",
    }
}

/// What is asked, in short; the text stands in `task_file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskHead {
    /// The task's id, which names its files. Default: the fixture's name with `-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Name>,
    pub title: String,
    /// The issue in a few sentences.
    pub issue: String,
}

/// Calls of one function; where the judge is `command`, of the fixture's program, and neither module nor function has a
/// name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// The module as its language names it: `package.module` in Python, a file of the workspace in TypeScript.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub module: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub function: String,
    pub cases: Vec<HeldOutCase>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldOutCase {
    /// The arguments. Where the judge is `command`: a list of words, what stands on standard input, and an object of files
    /// by path, each left out where there is none; `{files}` in a word is the directory of these.
    pub args: Vec<Value>,
    /// The result, of exactly the type that JSON says; where the judge is `command`, `{"exit": 0, "stdout": "…"}`.
    /// Default: what the reference solution gives.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub expected: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramCall {
    pub words: Vec<String>,
    pub stdin: String,
    pub files: BTreeMap<RelPath, String>,
}

impl ProgramCall {
    /// What in a word stands for the directory of the files.
    pub const FILES: &'static str = "{files}";

    /// Reads `[[word, …], stdin, {path: text}]`; what comes after the words may be left out.
    ///
    /// # Errors
    /// What is wrong, in a few words.
    pub fn of(args: &[Value]) -> Result<Self, String> {
        let shape = "a call is [[word, …], stdin, {path: text}]";
        let (words, rest) = args.split_first().ok_or(shape)?;
        let words: Vec<String> =
            Deserialize::deserialize(words).map_err(|err| format!("{shape}: {err}"))?;
        if words.iter().any(|word| word.contains('\0')) {
            return Err("a word holds a NUL, which no argument can".into());
        }
        let stdin = rest.first().map_or(Ok(""), |text| text.as_str().ok_or(shape))?.to_owned();
        let files = match rest.get(1) {
            None => BTreeMap::new(),
            Some(files) => {
                Deserialize::deserialize(files).map_err(|err| format!("{shape}: {err}"))?
            }
        };
        if rest.len() > 2 {
            return Err(shape.into());
        }
        Ok(Self { words, stdin, files })
    }
}

/// A value that is there, `null` too.
fn given<'de, D: serde::Deserializer<'de>>(de: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(de).map(Some)
}

/// `backend/held-out.json` of a run (`admit.held-out/1`): by what its held-out calls can be drawn again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldOutRecord {
    /// Always `admit.held-out/1`.
    pub schema: String,
    /// The run's nonce.
    pub nonce: String,
    /// Drawn by admit for this run, and in no sandbox before its end.
    pub secret: String,
    /// SHA-256 over `admit.held-out/1`, nonce and secret, with a newline after each: what the generator is seeded with,
    /// as hexadecimal text.
    pub seed: Digest,
    /// Whether the fixture has a generator; else its calls are the same in every run.
    pub drawn: bool,
    /// How many calls are made in each round.
    pub calls: u64,
    /// SHA-256 over the canonical list of the calls with their expected results.
    pub calls_sha256: Digest,
}

schema!(HeldOutRecord, "admit.held-out", 1);

/// A program that the agent needs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    Git,
    /// The pinned Bun.
    Bun,
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

schema!(Script, "admit.script", 1);

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
