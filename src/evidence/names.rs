//! Names of the files of a run directory.

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
