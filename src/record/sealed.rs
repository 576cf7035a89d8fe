//! The files of a run directory beside `report.json`: events, manifest, seal, freshness, the no-target proof.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canonical::{self as record, Record, schema};
use super::ids::{Digest, RelPath, Timestamp};
use super::text::words;

words! {
    /// Who made a file or says that an event happened.
    pub enum Author {
        /// admit itself did or saw it.
        Admit = "admit",
        /// The agent's side wrote it: a claim.
        Agent = "agent",
        /// The model's server sent it.
        Model = "model",
    }
}

/// A text cut to a limit, with what was left out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Excerpt {
    /// The beginning of the text; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Bytes left out at the end.
    pub omitted_bytes: u64,
}

impl Excerpt {
    /// The first `limit` bytes of `bytes`, cut at a character.
    pub fn of(bytes: &[u8], limit: usize) -> Self {
        let mut end = bytes.len().min(limit);
        while end > 0 && end < bytes.len() && bytes[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        Self {
            text: String::from_utf8_lossy(&bytes[..end]).into_owned(),
            omitted_bytes: (bytes.len() - end) as u64,
        }
    }
}

/// One line of `events.normalized.jsonl`: compact JSON with sorted keys.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Counted from 0.
    pub seq: u64,
    /// Nanoseconds since the run directory was made.
    pub monotonic_ns: u64,
    /// The wall clock, to the second.
    pub wall: Timestamp,
    /// SHA-256 of the line before, without its newline; of nothing for the first.
    pub prev: Digest,
    pub by: Author,
    pub kind: String,
    pub data: Value,
}

/// One line of `trace.jsonl`: what admit did, and when, in nanoseconds since the run directory was made. In the order in
/// which it ended; what was under way when the run was stopped, and the seal itself, have no line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// `gate`, `held_out`, `baselines`, `sandbox`, `agent`, `exchange` or `judge`.
    pub name: String,
    pub started_ns: u64,
    pub ended_ns: u64,
    /// Which exchange; 0 is the probe's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<u32>,
}

/// One file of a run directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestEntry {
    /// Where, below the run directory.
    pub path: RelPath,
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    pub author: Author,
    /// Media type (RFC 6838).
    pub media_type: String,
    pub role: String,
    /// Bytes that a size limit left out.
    pub omitted_bytes: u64,
}

/// `manifest.json`: every file but itself and the seal, by path. The digest of its canonical form is the run's id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `admit.run-manifest/1`.
    pub schema: String,
    /// The files, sorted by path.
    pub files: Vec<ManifestEntry>,
}

schema!(Manifest, "admit.run-manifest", 1);

/// `seal.json`: the run's id, so that a changed manifest can be told from a changed file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// `admit.run-seal/1`.
    pub schema: String,
    /// SHA-256 of the canonical manifest.
    pub id: Digest,
    /// SHA-256 of the id's text: tells a damaged seal from a damaged manifest.
    pub check: Digest,
}

schema!(Seal, "admit.run-seal", 1);

impl Seal {
    pub fn of(manifest: &Manifest) -> Self {
        let id = record::digest(manifest);
        let check = Digest::sha256(id.to_string().as_bytes());
        Self { schema: Self::SCHEMA.to_string(), id, check }
    }

    pub fn is_whole(&self) -> bool {
        self.check == Digest::sha256(self.id.to_string().as_bytes())
    }
}

/// One place where the run's nonce must stand.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NonceSeen {
    /// The place: `sandbox_hostname`, `sentinel`, `first_request`.
    pub place: String,
    /// Whether it stood there; absent where the run never came to it.
    pub found: Option<bool>,
}

/// `freshness.json`: that the evidence is of this run and no other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freshness {
    /// `admit.run-freshness/1`.
    pub schema: String,
    /// Random, made before the start.
    pub nonce: String,
    pub seen: Vec<NonceSeen>,
    /// Whether the run directory was made by this run and empty.
    pub directory_made_empty: bool,
    /// The kernel's boot id.
    pub boot_id: Option<String>,
    pub kernel: String,
    /// Start and end on the wall clock.
    pub started: Timestamp,
    /// End on the wall clock.
    pub finished: Timestamp,
    /// The span between them on the monotonic clock, in nanoseconds.
    pub monotonic_span_ns: u64,
}

schema!(Freshness, "admit.run-freshness", 1);

impl Freshness {
    /// What the agent of the run with this nonce shows in place of a key.
    pub fn sentinel(nonce: &str) -> String {
        format!("admit-run-{nonce}")
    }

    /// Whether the nonce stood wherever it must, and the directory was fresh.
    pub fn passed(&self) -> bool {
        self.directory_made_empty
            && !self.seen.is_empty()
            && self.seen.iter().all(|seen| seen.found == Some(true))
    }
}

/// Something that was visible inside the sandbox.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Visible {
    pub path: String,
    /// What it is: `system`, `tool`, `fixture`, `binary`, `config`, `target`.
    pub kind: String,
    /// Its digest, where one was taken.
    pub digest: Option<Digest>,
}

/// `stage2-no-target-inspection.json`: a negative, shown by the bounds of what could be seen.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoTargetProof {
    /// `admit.no-target-inspection/1`.
    pub schema: String,
    /// Whether nothing speaks against it ([`NoTargetProof::holds`]).
    pub passed: bool,
    pub visible: Vec<Visible>,
    /// Targets that were visible: reference patch, script, held-out cases, other repositories.
    pub targets_visible: Vec<String>,
    /// Requests through the proxy, the only way in or out.
    pub bridge_requests: u64,
    /// Whether the sandbox was probed and every probe held, so that the proxy was the only way out.
    #[serde(rename = "only_door")]
    pub probes_held: bool,
    /// Commits in the workspace's history at the start; a fixture has one.
    pub fixture_commits: u64,
    /// Requests and artifacts in which the canary string was looked for.
    pub canary_searched: u64,
    pub canary_found: Vec<String>,
    pub does_not_prove: Vec<String>,
}

schema!(NoTargetProof, "admit.no-target-inspection", 1);

impl NoTargetProof {
    pub fn holds(&self) -> bool {
        self.probes_held
            && self.fixture_commits == 1
            && self.targets_visible.is_empty()
            && self.canary_found.is_empty()
            && self.canary_searched > 0
            && self.visible.iter().all(|seen| seen.kind != "target")
    }
}
