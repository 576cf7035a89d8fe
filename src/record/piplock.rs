//! Python packages by digest, `lockfiles/<name>.lock.json` (`admit.pip-lock/1`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::canonical::schema;
use super::ids::{Name, Sha256};

/// A closed set of wheels for each minor version of Python. Only wheels for every platform are locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipLock {
    /// Always `admit.pip-lock/1`.
    pub schema: String,
    pub name: Name,
    /// The wheels by minor version (`3.11`), sorted by name.
    pub python: BTreeMap<String, Vec<Wheel>>,
}

schema!(PipLock, "admit.pip-lock", 1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    pub name: Name,
    pub version: String,
    /// SHA-256 of the wheel.
    pub sha256: Sha256,
}
