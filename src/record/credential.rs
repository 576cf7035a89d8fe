//! With which key or account an admitted model is asked: nothing, a key, or what a program on this machine gives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::{AbsPath, Digest};

/// What a model record says of the credential. The secret itself is never in a record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Credential {
    /// Its server asks for none.
    None {},
    /// A key from `ADMIT_MODEL_KEY`, or from the file that `ADMIT_MODEL_KEY_FILE` names.
    Key {},
    /// Headers from a program that is started on this machine, outside of any sandbox, before a run and when the server
    /// answers 401.
    Helper {
        program: AbsPath,
        /// SHA-256 of the program; another one is not started.
        sha256: Digest,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        arguments: Vec<String>,
        /// Seconds in which it must have answered; absent means 30.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 600))]
        timeout_seconds: Option<u16>,
    },
}

impl Credential {
    /// The word in records.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None {} => "none",
            Self::Key {} => "key",
            Self::Helper { .. } => "helper",
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let Self::Helper { arguments, timeout_seconds, .. } = self else { return Ok(()) };
        if timeout_seconds.is_some_and(|seconds| !(1..=600).contains(&seconds)) {
            return Err("\"timeout_seconds\" must be 1 to 600".into());
        }
        let long = arguments.iter().any(|arg| arg.len() > 4096 || arg.contains('\0'));
        if arguments.len() > 64 || long {
            return Err("\"arguments\" are more than 64, or one is longer than 4096 bytes".into());
        }
        Ok(())
    }
}
