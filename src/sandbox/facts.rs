//! What was built and seen, for reports: what is the same in every sandbox of one policy on one machine apart from what
//! is not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::{IdMap, Limits, Policy};
use crate::record::ids::Digest;

/// Everything admit knows about one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxFacts {
    /// Equal between two sandboxes of the same policy on the same machine.
    pub stable: StableFacts,
    /// Every probe with what it had to see; all were right, else the sandbox would not exist.
    pub probes: Vec<Probe>,
    pub volatile: VolatileFacts,
}

/// The protections as built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StableFacts {
    pub policy: Policy,
    /// Its limits as they bind: where this machine allows less, less. Absent in records older than this field.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limits_in_force: Option<Limits>,
    /// New namespaces, by their names in `/proc/<pid>/ns`.
    pub namespaces: Vec<String>,
    pub ids: IdMap,
    /// Landlock ABI in force; 0 where the kernel has none.
    pub landlock_abi: u32,
    /// Number of instructions of the system call filter, and its SHA-256.
    pub seccomp_instructions: u32,
    /// SHA-256 of the filter's instructions.
    pub seccomp_sha256: Digest,
    pub interfaces: Vec<String>,
    /// Submounts of read-only mounts, by their place inside.
    pub submounts: Vec<String>,
    /// Verified copies, in the policy's order.
    pub verified: Vec<VerifiedCopy>,
    /// What is weaker or narrower here than it could be, in words.
    pub limits: Vec<String>,
}

/// One verified copy, hashed while it was copied and again through the sealed mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifiedCopy {
    pub inside: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 while copying.
    pub sha256: Digest,
    /// BLAKE3 while copying, and again at its place.
    pub blake3: Digest,
}

/// One attempt to get past a protection, made as the payload before any payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    pub name: String,
    /// What the protection answers: an errno's name, or a value.
    pub expected: String,
    pub got: String,
}

impl Probe {
    pub fn held(&self) -> bool {
        self.expected == self.got
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolatileFacts {
    /// Host process id of the sandbox's init.
    pub init_pid: i32,
    /// Host user id that the payload maps to.
    pub payload_uid: u32,
    /// Host group id that the payload maps to.
    pub payload_gid: u32,
    /// From the start to the last probe, in microseconds.
    pub start_us: u64,
}
