//! What shows that the evidence is of this run, and that no target was inspected: a nonce and a canary made before the
//! start, and the list of all that was visible.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::{kernel, nonce};
use crate::record::Record as _;
use crate::record::ids::{Digest, Timestamp};
use crate::record::sealed::{Freshness, NoTargetProof, NonceSeen, Visible};
use crate::record::wire::{ProxyRecord, RequestRefusal};
use crate::sandbox::{HOST_PROGRAMS, Mount, SandboxFacts};
use crate::secrets::Secret;

const NOT_PROVEN: [&str; 3] = [
    "what the model's server knew before or keeps from the requests",
    "which process inside the sandbox did what after the first tool call",
    "anything against this machine's administrator",
];

pub struct Marks {
    /// In the host name, the sentinel, and by it in every request.
    pub nonce: String,
    /// What the agent shows the proxy in place of a key.
    pub sentinel: Secret,
    /// Stands in a host file that nothing inside can see.
    canary: String,
    file: tempfile::NamedTempFile,
}

impl Marks {
    /// Makes them, and plants the canary in `scratch`.
    pub fn make(scratch: &Path) -> Result<Self> {
        let (nonce, canary) = (nonce()?, nonce()?);
        let io = |err| Error::io("plant a canary in", scratch, err);
        let file = tempfile::Builder::new().prefix("canary-").tempfile_in(scratch).map_err(io)?;
        std::fs::write(file.path(), format!("canary {canary}\n")).map_err(io)?;
        let sentinel = Secret::new(Freshness::sentinel(&nonce).into_bytes())
            .ok_or_else(|| Error::new(crate::error::Reason::Internal, "an empty sentinel"))?;
        Ok(Self { nonce, sentinel, canary, file })
    }

    pub fn hostname(&self) -> String {
        format!("run-{}", self.nonce)
    }

    pub fn canary_file(&self) -> &Path {
        self.file.path()
    }

    /// Looks for the canary in every file of the run directory: how many, and where it stands.
    pub fn search(&self, run: &Path) -> Result<(u64, Vec<String>)> {
        let (mut searched, mut found) = (0, Vec::new());
        let mut dirs: Vec<PathBuf> = vec![run.to_path_buf()];
        while let Some(dir) = dirs.pop() {
            let io = |err| Error::io("look through", &dir, err);
            for entry in std::fs::read_dir(&dir).map_err(io)? {
                let entry = entry.map_err(io)?;
                let kind = entry.file_type().map_err(io)?;
                let path = entry.path();
                if kind.is_dir() {
                    dirs.push(path);
                } else if kind.is_file() {
                    searched += 1;
                    let bytes = std::fs::read(&path).map_err(io)?;
                    let needle = self.canary.as_bytes();
                    if bytes.windows(needle.len()).any(|window| window == needle) {
                        let path = path.strip_prefix(run).unwrap_or(&path);
                        found.push(path.display().to_string());
                    }
                }
            }
        }
        Ok((searched, found))
    }
}

/// Where the nonce was seen. `hostname` is what the sandbox itself answered.
pub fn freshness<'a>(
    marks: &Marks,
    began_empty: bool,
    hostname: Option<&str>,
    wire: Option<&'a ProxyRecord>,
    started: &Timestamp,
    finished: Timestamp,
    span_ns: u64,
) -> Freshness {
    let seen = |place: &str, found: Option<bool>| NonceSeen { place: place.into(), found };
    let sentinel = std::str::from_utf8(marks.sentinel.expose()).unwrap_or_default();
    // The proxy lets nothing through without the sentinel, so a first request that was not refused for it had it.
    // What was refused for its protocol was not asked for it yet.
    let asked = |wire: &'a ProxyRecord| {
        let switch = Some(RequestRefusal::ProtocolSwitch);
        wire.exchanges.iter().find(move |exchange| exchange.refused != switch)
    };
    let first = wire.and_then(asked);
    let in_request = first.map(|exchange| exchange.refused != Some(RequestRefusal::BadSentinel));
    Freshness {
        schema: Freshness::SCHEMA.to_string(),
        nonce: marks.nonce.clone(),
        seen: vec![
            seen("sandbox_hostname", hostname.map(|name| name.contains(&marks.nonce))),
            seen("sentinel", Some(sentinel.contains(&marks.nonce))),
            seen("first_request", in_request),
        ],
        directory_made_empty: began_empty,
        boot_id: boot_id(),
        kernel: kernel(),
        started: started.clone(),
        finished,
        monotonic_span_ns: span_ns,
    }
}

pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// All that was visible, and whether a target was among it. `expected` are the host paths that belong in the sandbox.
fn visible(mounts: &[Mount], expected: &[PathBuf]) -> (Vec<Visible>, Vec<String>) {
    let (mut out, mut targets) = (Vec::new(), Vec::new());
    for mount in mounts {
        let path = mount.inside().to_string();
        let mut digest: Option<Digest> = None;
        let kind = match mount {
            Mount::Verified { sha256, .. } => {
                digest = Some(sha256.clone());
                "binary"
            }
            Mount::Tmpfs { .. } => "fixture",
            Mount::File { .. } => "config",
            Mount::Symlink { .. } => "system",
            Mount::ReadOnly { host, .. } | Mount::Writable { host, .. } => {
                if HOST_PROGRAMS.iter().any(|dir| host.starts_with(dir)) {
                    "system"
                } else if expected.iter().any(|tool| tool == host) {
                    "tool"
                } else {
                    targets.push(path.clone());
                    "target"
                }
            }
        };
        out.push(Visible { path, kind: kind.into(), digest });
    }
    (out, targets)
}

/// The proof as far as the facts carry it.
pub fn no_target(
    facts: &SandboxFacts,
    expected: &[PathBuf],
    wire: Option<&ProxyRecord>,
    fixture_commits: u64,
    canary: (u64, Vec<String>),
) -> NoTargetProof {
    let (visible, targets_visible) = visible(&facts.stable.policy.mounts, expected);
    let mut proof = NoTargetProof {
        schema: NoTargetProof::SCHEMA.to_string(),
        passed: false,
        visible,
        targets_visible,
        bridge_requests: wire.map_or(0, |wire| wire.exchanges.len() as u64),
        probes_held: !facts.probes.is_empty() && facts.probes.iter().all(|probe| probe.held()),
        fixture_commits,
        canary_searched: canary.0,
        canary_found: canary.1,
        does_not_prove: NOT_PROVEN.map(str::to_owned).to_vec(),
    };
    proof.passed = proof.holds();
    proof
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_is_no_tool_is_a_target_and_ends_the_proof() {
        let read_only =
            |host: &str| Mount::ReadOnly { host: host.into(), inside: host.parse().unwrap() };
        let mounts = [read_only("/usr"), read_only("/opt/python"), read_only("/srv")];
        let tool = PathBuf::from("/opt/python");
        let proof = |expected: &[PathBuf]| {
            let (visible, targets_visible) = visible(&mounts, expected);
            let (bridge_requests, fixture_commits, canary_searched) = (1, 1, 1);
            NoTargetProof {
                visible,
                targets_visible,
                bridge_requests,
                probes_held: true,
                fixture_commits,
                canary_searched,
                ..NoTargetProof::default()
            }
        };
        let found = proof(std::slice::from_ref(&tool));
        let kinds: Vec<&str> = found.visible.iter().map(|seen| seen.kind.as_str()).collect();
        assert_eq!(kinds, ["system", "tool", "target"]);
        assert_eq!(found.targets_visible, ["/srv"]);
        assert!(!found.holds());
        assert!(proof(&[tool, "/srv".into()]).holds());
    }

    #[test]
    fn a_canary_in_an_artifact_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::make(dir.path()).unwrap();
        let run = tempfile::tempdir().unwrap();
        std::fs::create_dir(run.path().join("backend")).unwrap();
        std::fs::write(run.path().join("backend/a"), "nothing").unwrap();
        assert_eq!(marks.search(run.path()).unwrap(), (1, vec![]));
        let text = std::fs::read(marks.canary_file()).unwrap();
        std::fs::write(run.path().join("backend/b"), text).unwrap();
        assert_eq!(marks.search(run.path()).unwrap(), (2, vec!["backend/b".to_owned()]));
    }
}
