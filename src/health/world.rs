//! The small worlds that validators run in, as values: what is asked for, and what of the records is made wrong.

use serde_json::Value;

use crate::check::Engine;
use crate::proxy::mock::Behaviour;

/// One change to the records of a world, which lie over those embedded in admit.
#[derive(Clone, Copy)]
pub enum Change {
    /// A JSON record, edited.
    Json(&'static str, fn(&mut Value)),
    /// A text, edited.
    Text(&'static str, fn(&str) -> String),
    File(&'static str, &'static str),
    /// The recorded build, edited.
    Build(fn(&mut Value)),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// The built one, in the store.
    Stored,
    /// None: the store is empty.
    None,
    /// The variable of the old set-up names a copy that nobody may execute.
    NotExecutable,
    /// The variable of the old set-up names the built one itself.
    Named,
    /// The variable of the old set-up names another program.
    Another,
}

#[derive(Clone, Copy)]
pub struct World {
    pub engine: Engine,
    pub stage: u8,
    pub model: Option<&'static str>,
    /// Variables on top of the user's own, of which those of admit and of the old set-up are left out.
    pub vars: &'static [(&'static str, &'static str)],
    /// The wall clock, in seconds.
    pub timeout: Option<u64>,
    /// The model server on the loopback, to which the endpoint variable then leads.
    pub server: Option<Behaviour>,
    /// What of the records is made wrong.
    pub changes: &'static [Change],
    pub binary: Binary,
    /// Whether the fixture's digest is recorded anew after the changes.
    pub fixture_recorded: bool,
    /// Whether the program that builds the sandbox can.
    pub sandbox_starts: bool,
    /// Whether the working directory is a root that nobody trusts.
    pub strange_root: bool,
    /// How many requests the proxy lets through, where not as many as in any run.
    pub requests: Option<u32>,
    pub outside: Outsider,
}

/// What somebody else does while the agent is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outsider {
    Nothing,
    /// Tells admit to stop.
    Tells,
    /// Kills the agent, as soon as its [`SLEEPS`] runs.
    Kills,
}

/// A command of the agent's that ends with it.
pub const SLEEPS: &str = "sleep 86399";

pub const FIXTURE: &str = "r1-string-slugify";
/// The provider of every world: the embedded stand-in.
pub const PROVIDER: &str = "understudy";
/// The model whose replies were written beforehand.
pub const SCRIPTED_MODEL: &str = "scripted/understudy-script";
/// The admitted local model.
pub const QWEN: &str = "qwen-local/qwen3.6-35b-a3b";
pub const QWEN_RECORD: &str = "admissions/models/qwen-local--qwen3.6-35b-a3b.json";
/// A record's path, and what makes it.
type Served = (&'static str, fn() -> Value);

/// The served models of every world. No such admission is inside admit: these are the worlds' own.
pub const SERVED: [Served; 2] = [
    (QWEN_RECORD, || {
        served("qwen-local", "qwen3.6-35b-a3b", "local-tailscale-vllm-spark1", "none")
    }),
    ("admissions/models/openai-codex--gpt-5.5.json", || {
        let network = "codex-oauth-hosted-model-plus-local-vllm-fallback";
        served("openai-codex", "gpt-5.5", network, "key")
    }),
];

fn served(provider: &str, model: &str, network: &str, credential: &str) -> Value {
    serde_json::json!({
        "schema": "admit.model-admission/2", "status": "admitted", "provider": provider, "model": model,
        "kind": "served", "runtime_provider": "openai", "network": network,
        "credential": { "kind": credential }, "approval_source": "admit health, for its own worlds",
        "admission_timestamp": "2026-01-01", "review_trigger": "none: it is never left there",
        "evidence_expectations": [], "stages": [2], "expires": null,
    })
}

pub const SCRIPTED_RECORD: &str = "admissions/models/scripted--understudy-script.json";
pub const LOCK: &str = "lockfiles/understudy.lock.json";
/// A policy that asks for a signature of a key that signed nothing, on builds or on models.
macro_rules! policy {
    ($kind:literal) => {
        concat!(
            "[[signer]]\nname = \"nobody\"\n",
            "key = \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA32V4Zy6QhjXoTi54bJB4iWf5s9L4W/+4ecZrZqtpJX nobody\"\n",
            "[require]\n",
            $kind,
            " = { signers = [\"nobody\"] }\n"
        )
    };
}
pub const BUILD_POLICY: Change = Change::File("admit.toml", policy!("build"));
pub const MODEL_POLICY: Change = Change::File("admit.toml", policy!("model"));
pub const REFERENCE: &str = "fixtures/r1-string-slugify/reference.patch";
pub const FIXTURE_RECORD: &str = "fixtures/r1-string-slugify/fixture.json";
pub const SCRIPT: &str = "fixtures/r1-string-slugify/script.json";
pub const TASK: &str = "fixtures/r1-string-slugify/task.md";

/// The stand-in with the scripted model inside admit: a rehearsal that succeeds.
pub const SCRIPTED: World = World {
    engine: Engine::Provider,
    stage: 2,
    model: Some(SCRIPTED_MODEL),
    vars: &[],
    timeout: None,
    server: None,
    changes: &[],
    binary: Binary::Stored,
    fixture_recorded: true,
    sandbox_starts: true,
    strange_root: false,
    requests: None,
    outside: Outsider::Nothing,
};

/// The record of the local model as it is, but for the network class: the class of the admission that ships with admit
/// refuses this machine's loopback, and `loopback-test` can never be a pass.
pub const LOOPBACK: Change =
    Change::Json(QWEN_RECORD, |record| record["network"] = "loopback-test".into());

/// The stand-in with the local model's admission and a server on the loopback that behaves so.
pub const fn loopback(server: Behaviour) -> World {
    World { model: Some(QWEN), server: Some(server), changes: &[LOOPBACK], ..SCRIPTED }
}

/// A script with one call of `bash` more, after `after` turns.
pub fn with_bash(script: &mut Value, after: usize, command: &str) {
    let turn = serde_json::json!({
        "tool_calls": [{ "name": "bash", "arguments": { "command": command } }],
    });
    if let Some(turns) = script["turns"].as_array_mut() {
        turns.insert(after.min(turns.len()), turn);
    }
}
