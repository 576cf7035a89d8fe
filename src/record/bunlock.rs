//! The Bun that fixtures are judged by, `lockfiles/bun.lock.json` (`admit.bun-lock/1`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::canonical::{Record, Schema};
use super::lockfile::BunToolchain;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BunLock {
    /// Always `admit.bun-lock/1`.
    pub schema: String,
    pub bun: BunToolchain,
}

impl Record for BunLock {
    const SCHEMA: Schema = Schema { name: "admit.bun-lock", version: 1 };
}
