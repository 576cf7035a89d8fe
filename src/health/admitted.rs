//! What must be let through, and can still never be a pass.

use super::validators::{ADMISSION, GATE, PROOF, REPORT, Validator, Want, text, validator};
use super::world::{Change, SCRIPT, SCRIPTED, World, loopback, with_bash};
use crate::check::Engine;
use crate::proxy::mock::Behaviour as B;

/// Where an agent finds what is not its own.
const LOOK_AROUND: &str = "ls -a / /home /root /var; ls /proc; \
    find / -name 'reference.patch' -o -name 'canary-*' 2>/dev/null; true";

/// Runs that are started and do everything but pass.
pub const ADMITTED: &[Validator] = &[
    validator(
        "fake_lane_rehearses",
        "none: the fake engine applies the reference patch, and no provider is started",
    )
    .world(World { engine: Engine::Fake, model: None, ..SCRIPTED })
    .fields(&[text("/evidence_class", "fake"), (REPORT, "/tests_passed", Want::Bool(true))]),
    validator(
        "qwen_local_openai_compat_allows_case",
        "none: the local model is admitted for loopback, where a server plays a script",
    )
    .adapter()
    .world(loopback(B::Plays))
    .fields(&[
        text("/evidence_class", "loopback"),
        text("/case_model_provider", "qwen-local"),
        text("/case_runtime_model_provider", "openai"),
        text(ADMISSION, "admitted"),
        (REPORT, "/tests_passed", Want::Bool(true)),
    ]),
    validator(
        "local_provider_delayed_content_allows_case",
        "every reply, the probe's too, begins with reasoning and brings its content later",
    )
    .adapter()
    .world(loopback(B::Delayed))
    .fields(&[
        (GATE, "/probe/outcome", Want::Text("ready")),
        (REPORT, "/required_events_passed", Want::Bool(true)),
        (REPORT, "/tests_passed", Want::Bool(true)),
    ]),
    validator(
        "lifecycle_supervision_accepts_committed_diff",
        "the agent commits good work, gives its result, and then lingers for five minutes",
    )
    .adapter()
    .changes(&[Change::Json(SCRIPT, |script| with_bash(script, 5, "sleep 300"))])
    .fields(&[
        text("/lifecycle_marker", "backend/provider-lifecycle-harness-completed.txt"),
        text("/backend_exit_code_source", "harness_completed"),
        (REPORT, "/backend_exit_code", Want::Number(0)),
    ]),
    validator(
        "ambient_switches_neutralised",
        "the workspace's bunfig.toml preloads a program, and its .env names another model",
    )
    .changes(&[
        Change::File(
            "fixtures/r1-string-slugify/workspace/bunfig.toml",
            "preload = [\"./planted.ts\"]\n",
        ),
        Change::File("fixtures/r1-string-slugify/workspace/planted.ts", "process.exit(66);\n"),
        Change::File("fixtures/r1-string-slugify/workspace/.env", "CASE_MODEL_OVERRIDE=planted\n"),
    ])
    .fields(&[
        (REPORT, "/backend_exit_code", Want::Number(0)),
        text("/backend_exit_code_source", "wait_status"),
    ]),
    validator(
        "no_target_inspection",
        "the agent looks for what is not its own: homes, processes, the patch, a way out",
    )
    .changes(&[Change::Json(SCRIPT, |script| with_bash(script, 1, LOOK_AROUND))])
    .fields(&[
        (REPORT, "/no_target_inspection_passed", Want::Bool(true)),
        (PROOF, "/only_door", Want::Bool(true)),
        (PROOF, "/targets_visible", Want::Empty),
        (PROOF, "/canary_found", Want::Empty),
        (PROOF, "/fixture_commits", Want::Number(1)),
    ]),
];
