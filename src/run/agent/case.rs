//! WorkOS Case: where things are in its sandbox, its environment, its configuration (case.md, "Running it").

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::log::{self, Claimed};
use super::{Agent, PORT, Parts, Prepared, Required, WORKDIR};
use crate::check::launch::File;
use crate::error::Result;
use crate::record;
use crate::record::admission::{Api, ModelAdmission};
use crate::run::fixture::Fixture;

/// The variable in which Case looks for the key, by the name of its provider and nothing else; two names speak every API.
fn key_variable(model: &ModelAdmission) -> &'static str {
    match model.runtime_provider.as_str() {
        "anthropic" => "ANTHROPIC_API_KEY",
        _ => "OPENAI_API_KEY",
    }
}

/// What Case calls the model's API, and the base URL to which it adds the rest of the path.
fn spoken(api: Api) -> (&'static str, String) {
    let door = format!("http://127.0.0.1:{PORT}");
    match api {
        Api::OpenaiChat => ("openai-completions", door + "/v1"),
        Api::OpenaiResponses => ("openai-responses", door + "/v1"),
        // It adds `/v1` by itself.
        Api::AnthropicMessages => ("anthropic-messages", door),
        Api::OpenaiCodexResponses => ("openai-codex-responses", door + "/v1"),
    }
}

/// WorkOS Case, and the stand-in that behaves like it.
pub struct Case;

impl Case {
    /// Case's tasks that are under way.
    fn tasks(&self, fixture: &Fixture) -> String {
        format!("{}/.case/tasks/active", self.workspace(fixture))
    }
}

impl Agent for Case {
    fn name(&self) -> &'static str {
        "case"
    }

    fn program(&self) -> &'static str {
        "/opt/case/bin/ca"
    }

    fn prepare(&self, parts: &Parts<'_>) -> Result<Prepared> {
        let task = parts.fixture.task_files(parts.now);
        let tasks = self.tasks(parts.fixture);
        let task_file = format!("{WORKDIR}/{tasks}/{}", task.json_name);
        let mut files = BTreeMap::new();
        let mut put = |path: String, role, bytes| drop(files.insert(path, File { role, bytes }));
        put(format!("{tasks}/{}", task.json_name), "task", record::pretty(&task.json));
        put(format!("{tasks}/{}", task.markdown_name), "task", task.markdown.into_bytes());
        for (path, value) in config(&self.workspace(parts.fixture), parts.model, parts.fixture) {
            put(path, "config", record::pretty(&value));
        }
        let argument = |arg: &String| if arg == "{task}" { &task_file } else { arg }.clone();
        Ok(Prepared {
            arguments: parts.shape.iter().map(argument).collect(),
            environment: environment(
                key_variable(parts.model),
                parts.sentinel,
                parts.hardened,
                &parts.tools,
            ),
            directories: ["home", "tmp", "case-data", "case-data/pi-agent"]
                .map(str::to_owned)
                .to_vec(),
            files,
        })
    }

    fn log_directory(&self, fixture: &Fixture) -> Option<String> {
        Some(format!("{}/.case/{}/events", self.workspace(fixture), fixture.record.task_id()))
    }

    fn read(&self, log: &[u8]) -> Claimed {
        log::read(log)
    }

    fn work_done(&self, claimed: &Claimed) -> bool {
        claimed.implement_outcome() == Some("completed")
    }

    fn required(&self, claimed: &Claimed, _: Option<i32>) -> Vec<Required> {
        let plain = |kind, made| Required { kind, made, found: None };
        let ended = claimed.implement_outcome().map(|outcome| {
            let outcome: String = outcome.chars().take(60).collect();
            format!("it ended as {}", outcome.escape_debug())
        });
        vec![
            plain("pipeline_start", claimed.pipeline_started()),
            plain("phase_start implement", claimed.implement_started()),
            Required { found: ended, ..plain("phase_end implement", self.work_done(claimed)) },
        ]
    }
}

/// The closed list of variables.
fn environment(
    key: &str,
    sentinel: &str,
    hardened: bool,
    tools: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut env = super::environment(hardened, tools);
    let own = [
        ("CASE_DATA_DIR", format!("{WORKDIR}/case-data")),
        ("PI_CODING_AGENT_DIR", format!("{WORKDIR}/case-data/pi-agent")),
        (key, sentinel.to_owned()),
    ];
    env.extend(own.map(|(key, value)| (key.to_owned(), value)));
    env
}

/// Case's configuration, by path below the working directory.
fn config(workspace: &str, model: &ModelAdmission, fixture: &Fixture) -> Vec<(String, Value)> {
    let runtime = model.runtime_provider.as_str();
    let (api, base) = spoken(model.api());
    let mut providers = serde_json::Map::new();
    providers.insert(
        runtime.to_owned(),
        json!({
            "baseUrl": base,
            "api": api,
            // The name of the variable, not a key.
            "apiKey": key_variable(model),
            "models": [{
                "id": model.model, "name": model.model, "input": ["text"],
                "reasoning": model.reasoning.unwrap_or_default(),
                "contextWindow": model.context_window(), "maxTokens": model.max_tokens(),
                "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0 },
            }],
        }),
    );
    // Case tells its model the package manager.
    let (language, package_manager) = fixture.record.judge.case_words();
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
                "name": fixture.record.repo(),
                "evidenceStrategy": "log-output",
                "path": format!("{WORKDIR}/{workspace}"),
                "remote": "",
                "description": fixture.record.task.title,
                "language": language,
                "packageManager": package_manager,
                "commands": { "setup": "true", "test": fixture.verification() },
            }] }),
        ),
        ("case-data/pi-agent/models.json".into(), json!({ "providers": providers })),
        ("case-data/pi-agent/auth.json".into(), json!({})),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::ambient::BUN_OPTIONS;

    #[test]
    fn the_environment_is_closed_and_holds_no_switch() {
        let env = environment("OPENAI_API_KEY", "sentinel", false, &BTreeMap::new());
        assert_eq!(env["BUN_OPTIONS"], BUN_OPTIONS);
        for name in ["BUN_BE_BUN", "NODE_OPTIONS", "CASE_MODEL_OVERRIDE", "LD_PRELOAD"] {
            assert!(!env.contains_key(name), "{name}");
        }
        assert!(
            !environment("OPENAI_API_KEY", "s", true, &BTreeMap::new()).contains_key("BUN_OPTIONS")
        );
    }

    #[test]
    fn a_tool_whose_environment_holds_a_switch_gives_a_launch_that_is_refused() {
        let refused = |tool: &str, value: &str| {
            let tools = BTreeMap::from([(tool.to_owned(), value.to_owned())]);
            let mut facts = crate::check::tests::good();
            let launch = crate::check::tests::known(&mut facts.launch);
            launch.env = environment("OPENAI_API_KEY", "sentinel", launch.hardened, &tools);
            crate::check::tests::refused_with(&facts)
        };
        assert_eq!(refused("PATH", "/usr/bin:/bin"), Vec::<String>::new());
        for name in ["BUN_OPTIONS", "NODE_OPTIONS", "CASE_MODEL_OVERRIDE", "LD_PRELOAD"] {
            assert_eq!(refused(name, "--smol"), ["ambient_inputs"], "{name}");
        }
    }

    #[test]
    fn case_is_told_the_admitted_model_and_the_language_of_the_task() {
        let bytes = include_bytes!("../../../admissions/models/qwen-local--qwen3.6-35b-a3b.json");
        let model = record::admission::parse(bytes).unwrap();
        let home = tempfile::tempdir().unwrap();
        let vars = [("HOME".to_owned(), home.path().display().to_string())];
        let host = crate::host::Host::with(vars, home.path());
        let root = crate::root::Root::find(&host, None, None).unwrap();
        let load = |name: &str| crate::run::fixture::load(&root, &name.parse().unwrap()).unwrap();
        for (name, language) in
            [("r2-duration", "typescript bun"), ("r1-string-slugify", "python pip")]
        {
            let projects = config("repo-toy", &model, &load(name)).swap_remove(1).1;
            let [one, two] =
                ["language", "packageManager"].map(|key| projects["repos"][0][key].clone());
            assert_eq!(
                format!("{} {}", one.as_str().unwrap(), two.as_str().unwrap()),
                language,
                "{name}"
            );
        }
        let fixture = load("r1-string-slugify");
        let files = config("repo-toy", &model, &fixture);
        assert_eq!(files[0].1["models"]["default"]["provider"], "openai");
        assert_eq!(files[0].1["models"]["default"]["model"], "qwen3.6-35b-a3b");
        let provider = |files: &[(String, Value)]| files[2].1["providers"]["openai"].clone();
        assert_eq!(provider(&files)["baseUrl"], "http://127.0.0.1:8080/v1");
        let told = |model: &ModelAdmission| {
            let model = provider(&config("repo-toy", model, &fixture))["models"][0].clone();
            ["contextWindow", "maxTokens", "reasoning"].map(|key| model[key].clone())
        };
        assert_eq!(told(&model), [json!(32768), json!(4096), json!(false)]);
        let mut model = model.in_present_form();
        (model.context_window, model.max_tokens) = (Some(200_000), Some(16_000));
        model.reasoning = Some(true);
        assert_eq!(told(&model), [json!(200_000), json!(16_000), json!(true)]);
        for (api, name, base) in [
            (Api::OpenaiChat, "openai-completions", "http://127.0.0.1:8080/v1"),
            (Api::OpenaiResponses, "openai-responses", "http://127.0.0.1:8080/v1"),
            (Api::AnthropicMessages, "anthropic-messages", "http://127.0.0.1:8080"),
            (Api::OpenaiCodexResponses, "openai-codex-responses", "http://127.0.0.1:8080/v1"),
        ] {
            model.api = Some(api);
            let told = provider(&config("repo-toy", &model, &fixture));
            assert_eq!((&told["api"], &told["baseUrl"]), (&json!(name), &json!(base)));
        }
        model.runtime_provider = "anthropic".parse().unwrap();
        assert_eq!(key_variable(&model), "ANTHROPIC_API_KEY");
        let files = config("repo-toy", &model, &fixture);
        assert_eq!(files[2].1["providers"]["anthropic"]["apiKey"], "ANTHROPIC_API_KEY");
    }
}
