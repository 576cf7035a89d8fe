//! How Case is started: where things are in its box, its environment, its configuration (case.md, "Running it").

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::error::{Error, Reason, Result};
use crate::record::admission::ModelAdmission;
use crate::record::ids::AbsPath;
use crate::run::ambient::BUN_OPTIONS;

/// The verified copy of the binary: alone in its directory, outside of any checkout.
pub const BINARY: &str = "/opt/case/bin/ca";
/// The one writable place: a file system in memory with a limit, handed out to admit.
pub const ROOM: &str = "/work";
/// The door's port on the box's loopback.
pub const PORT: u16 = 8080;
/// The variable in which Case looks for the key of its provider `openai`.
pub const KEY: &str = "OPENAI_API_KEY";
/// Capacity of the room in bytes: a fixture, its state and what Bun unpacks are a few megabytes.
pub const ROOM_BYTES: u64 = 512 << 20;
/// Most files in the room.
pub const ROOM_INODES: u64 = 100_000;

/// Where things are, below [`ROOM`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The workspace's name: the repository's.
    pub workspace: String,
}

impl Layout {
    /// Directories of the room, parents first.
    pub const DIRS: [&str; 4] = ["home", "tmp", "case-data", "case-data/pi-agent"];

    /// The layout for a repository of this name.
    pub fn new(repo: &str) -> Self {
        // A prefix, so that no repository can be named like one of the directories beside it.
        Self { workspace: format!("repo-{repo}") }
    }

    /// The workspace's path in the box.
    pub fn workspace(&self) -> Result<AbsPath> {
        path(&format!("{ROOM}/{}", self.workspace))
    }

    /// Case's tasks that are under way, below the room.
    pub fn tasks(&self) -> String {
        format!("{}/.case/tasks/active", self.workspace)
    }

    /// The events of a task, below the room.
    pub fn events(&self, task: &str) -> String {
        format!("{}/.case/{task}/events", self.workspace)
    }
}

/// A constant path as a value.
pub fn path(text: &str) -> Result<AbsPath> {
    text.parse().map_err(|err| Error::new(Reason::Internal, "a path in the box").caused_by(err))
}

/// The locked argument list with the task file in its place.
pub fn arguments(shape: &[String], task_file: &str) -> Vec<String> {
    shape
        .iter()
        .map(|arg| if arg == "{task}" { task_file.to_owned() } else { arg.clone() })
        .collect()
}

/// The closed list of variables. `sentinel` stands where the key would; the real key never enters the box.
pub fn environment(
    sentinel: &str,
    hardened: bool,
    tools: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = [
        ("HOME", format!("{ROOM}/home")),
        ("TMPDIR", format!("{ROOM}/tmp")),
        ("PATH", "/usr/bin:/bin".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TZ", "UTC".to_owned()),
        ("CASE_DATA_DIR", format!("{ROOM}/case-data")),
        ("PI_CODING_AGENT_DIR", format!("{ROOM}/case-data/pi-agent")),
        (KEY, sentinel.to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ("PYTHONNOUSERSITE", "1".to_owned()),
        ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
        ("GIT_TERMINAL_PROMPT", "0".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if !hardened {
        env.insert("BUN_OPTIONS".into(), BUN_OPTIONS.into());
    }
    for (key, value) in tools {
        env.insert(key.clone(), value.clone());
    }
    env
}

/// What a repository is called and how it is tested.
#[derive(Clone, Debug)]
pub struct Project<'a> {
    pub name: &'a str,
    /// One line about it.
    pub description: &'a str,
    /// The command that verifies the work.
    pub test: &'a str,
}

/// The configuration, by path below the room.
pub fn config(
    layout: &Layout,
    model: &ModelAdmission,
    project: &Project<'_>,
) -> Vec<(String, Value)> {
    let runtime = model.runtime_provider.as_str();
    let mut providers = serde_json::Map::new();
    providers.insert(
        runtime.to_owned(),
        json!({
            "baseUrl": format!("http://127.0.0.1:{PORT}/v1"),
            "api": "openai-completions",
            // The name of the variable, not a key.
            "apiKey": KEY,
            "models": [{
                "id": model.model, "name": model.model, "reasoning": false, "input": ["text"],
                "contextWindow": 32768, "maxTokens": 4096,
                "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0 },
            }],
        }),
    );
    vec![
        (
            "case-data/config.json".into(),
            // Without a default Case takes one of its own, silently.
            json!({
                "models": { "default": { "provider": runtime, "model": model.model } },
                "projects": "projects.json",
            }),
        ),
        (
            "case-data/projects.json".into(),
            json!({ "repos": [{
                "name": project.name,
                "evidenceStrategy": "log-output",
                "path": format!("{ROOM}/{}", layout.workspace),
                "remote": "",
                "description": project.description,
                "language": "python",
                "packageManager": "pip",
                "commands": { "setup": "true", "test": project.test },
            }] }),
        ),
        ("case-data/pi-agent/models.json".into(), json!({ "providers": providers })),
        ("case-data/pi-agent/auth.json".into(), json!({})),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_closed_and_holds_no_switch() {
        let env = environment("sentinel", false, &BTreeMap::new());
        assert_eq!(env["BUN_OPTIONS"], BUN_OPTIONS);
        for name in ["BUN_BE_BUN", "NODE_OPTIONS", "CASE_MODEL_OVERRIDE", "LD_PRELOAD"] {
            assert!(!env.contains_key(name), "{name}");
        }
        assert!(!environment("s", true, &BTreeMap::new()).contains_key("BUN_OPTIONS"));
    }

    #[test]
    fn the_default_model_is_the_admitted_one_under_its_runtime_provider() {
        let bytes = include_bytes!("../../../admissions/models/qwen-local--qwen3.6-35b-a3b.json");
        let model = crate::record::admission::parse(bytes).unwrap();
        let project = Project { name: "toy", description: "a toy", test: "true" };
        let files = config(&Layout::new("toy"), &model, &project);
        assert_eq!(files[0].1["models"]["default"]["provider"], "openai");
        assert_eq!(files[0].1["models"]["default"]["model"], "qwen3.6-35b-a3b");
        assert_eq!(files[2].1["providers"]["openai"]["baseUrl"], "http://127.0.0.1:8080/v1");
    }
}
