//! Names of the files of a run directory: all of them, whoever writes them.

use crate::record::failure::FailureClass;

pub const REPORT: &str = "report.json";
pub const REPORT_MD: &str = "report.md";
pub const REPORT_HTML: &str = "report.html";
pub const EVENTS: &str = "events.normalized.jsonl";
/// What admit was doing.
pub const TRACE: &str = "trace.jsonl";
pub const GATE: &str = "gate.json";
pub const SANDBOX: &str = "sandbox.json";
pub const FRESHNESS: &str = "freshness.json";
/// By what the held-out calls can be drawn again.
pub const HELD_OUT: &str = "backend/held-out.json";
pub const NO_TARGET: &str = "stage2-no-target-inspection.json";
pub const PATCH: &str = "patch.diff";
pub const TEST_LOG: &str = "test.log";
pub const MANIFEST: &str = "manifest.json";
pub const SEAL: &str = "seal.json";
/// The admission of the model, byte for byte as it stands on record.
pub const MODEL_RECORD: &str = "backend/model-admission.json";
pub const LAUNCH: &str = "backend/launch.json";
/// The programs of the host, the pinned ones among them.
pub const TOOLS: &str = "backend/tools.json";
pub const JUDGEMENT: &str = "backend/judgement.json";
/// The proxy's record.
pub const BRIDGE: &str = "backend/bridge.json";
/// What the agent printed.
pub const STDOUT: &str = "backend/stdout.log";
pub const STDERR: &str = "backend/stderr.log";
/// The agent's own account, where it writes one into a file.
pub const AGENT_EVENTS: &str = "backend/events.jsonl";
/// The marker of good work that the agent did not end by itself.
pub const HARNESS_COMPLETED: &str = "backend/provider-lifecycle-harness-completed.txt";
/// The probe's list of models: request and reply.
pub const PROBE_LIST: (&str, &str) =
    ("backend/wire/0000-list.request", "backend/wire/0000-list.reply");

/// The marker of a failure class.
pub fn marker(class: FailureClass) -> String {
    format!("backend/{}", class.marker())
}

/// A part of an exchange with the model; the probe's question is exchange 0.
pub fn wire(exchange: u32, part: &str) -> String {
    format!("backend/wire/{exchange:04}.{part}")
}

/// The copy of a file that the agent was given, by its path below the working directory.
pub fn given(path: &str) -> String {
    format!("backend/{path}")
}

/// As [`given`], of a file of the task.
pub fn task(name: &str) -> String {
    format!("backend/task/{name}")
}

/// The rows of a baseline's judgement, and what was printed.
pub fn baseline(name: &str) -> [String; 2] {
    ["json", "log"].map(|suffix| format!("baseline/{name}.{suffix}"))
}
