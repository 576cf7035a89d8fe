//! Ambient inputs: everything around a binary that could change what it does although its digest is right.
//!
//! Each vector has one fixed outcome. *Neutralised*: whatever is planted cannot reach the program (the environment is
//! built from a closed list, autoloading is off, the binary stands alone, `TMPDIR` is private). *Refused*: the place
//! is scanned, and a find refuses the run.

use super::{AmbientFact, AmbientState};

/// The one outcome of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Cannot reach the program.
    Neutralised,
    /// Is looked for; there, it refuses the run.
    Refused,
}

/// One way in, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmbientVector {
    pub id: &'static str,
    pub outcome: Outcome,
    pub how: &'static str,
}

const fn neutralised(id: &'static str, how: &'static str) -> AmbientVector {
    AmbientVector { id, outcome: Outcome::Neutralised, how }
}

const fn refused(id: &'static str, how: &'static str) -> AmbientVector {
    AmbientVector { id, outcome: Outcome::Refused, how }
}

const CLOSED_LIST: &str = "the environment is built from a closed list";

/// The table: every vector and its outcome.
pub const AMBIENT: &[AmbientVector] = &[
    neutralised(
        "workspace_bunfig",
        "BUN_OPTIONS=--config=/dev/null, or a build without autoloading",
    ),
    neutralised(
        "workspace_dotenv",
        "BUN_OPTIONS=--env-file=/dev/null, or a build without autoloading",
    ),
    neutralised("env_bun_options", CLOSED_LIST),
    neutralised("env_bun_be_bun", CLOSED_LIST),
    neutralised("env_bun_inspect", CLOSED_LIST),
    neutralised("env_node_options", CLOSED_LIST),
    neutralised("env_ld_preload", CLOSED_LIST),
    neutralised("env_case_model_override", CLOSED_LIST),
    neutralised("env_case_package_root", CLOSED_LIST),
    neutralised("env_pi_package_dir", CLOSED_LIST),
    refused(
        "case_package_upward",
        "the workspace and its parents are scanned for a package.json named case with agents/",
    ),
    neutralised(
        "file_beside_binary",
        "the binary is copied alone to a fixed path inside the sandbox",
    ),
    neutralised("planted_native_addon", "TMPDIR is private to the run"),
    refused("model_argument", "the argument list is compared with the one that is admitted"),
];

/// What is wrong with what was found: a vector without exactly one fact, with another outcome, or planted.
pub(super) fn faults(found: &[AmbientFact]) -> Vec<String> {
    let mut out = Vec::new();
    for vector in AMBIENT {
        let mut states = found.iter().filter(|fact| fact.vector == vector.id).map(|f| &f.state);
        match (states.next(), states.next()) {
            (None, _) => out.push(format!("{}: not found out", vector.id)),
            (_, Some(_)) => out.push(format!("{}: found out twice", vector.id)),
            (Some(AmbientState::Planted(place)), _) => out.push(format!("{}: {place}", vector.id)),
            (Some(AmbientState::Neutralised(_)), _) if vector.outcome == Outcome::Neutralised => {}
            (Some(AmbientState::Clear), _) if vector.outcome == Outcome::Refused => {}
            (Some(_), _) => out.push(format!("{}: not closed in its fixed way", vector.id)),
        }
    }
    for fact in found.iter().filter(|fact| AMBIENT.iter().all(|v| v.id != fact.vector)) {
        out.push(format!("{}: unknown vector", fact.vector));
    }
    out
}
