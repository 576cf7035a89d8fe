//! The Bun that fixtures are judged by, `lockfiles/bun.lock.json` (`admit.bun-lock/1`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::canonical::schema;
use super::lockfile::BunToolchain;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BunLock {
    /// Always `admit.bun-lock/1`.
    pub schema: String,
    pub bun: BunToolchain,
}

schema!(BunLock, "admit.bun-lock", 1);
