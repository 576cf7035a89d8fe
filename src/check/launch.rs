//! The launch: everything that decides what a provider's process is. Made in one place (`run::launch`), judged by the
//! checks, carried by [`crate::gate::Admitted`], executed as it stands.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::Files;
use crate::proxy::server::ProxyLimits;
use crate::record::ids::{AbsPath, Digest};
use crate::record::lockfile::AgentKind;
use crate::record::{self, Record, Schema};
use crate::sandbox::{Mount, Policy};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Until the provider's process shows any sign: output, a request, or its end.
    pub start: Duration,
    /// Until the first request to the model.
    pub first_call: Duration,
    /// Between two signs of life: bytes at the proxy or of output.
    pub idle: Duration,
    /// In all.
    pub wall: Duration,
    /// How long a finished diff must stand still before the provider counts as lingering.
    pub stable: Duration,
    /// How long an agent may go on after a reply that it cannot use; absent for one that is known to end or to recover.
    pub fault: Option<Duration>,
    /// Requests within one second; more end the run.
    pub rate: Option<u32>,
    /// Between the signal that asks a process to end and the one that ends it.
    pub grace: Duration,
}

impl Default for Clocks {
    /// Case itself waits 600 s a phase for a silent model (case.md, "What it hides"): a shorter idle clock would end
    /// what it still waits for.
    fn default() -> Self {
        Self {
            start: Duration::from_secs(60),
            first_call: Duration::from_secs(120),
            idle: Duration::from_secs(660),
            wall: Duration::from_secs(1800),
            stable: Duration::from_secs(3),
            fault: None,
            rate: None,
            grace: Duration::from_secs(2),
        }
    }
}

impl Clocks {
    /// The same with another wall clock; no clock is longer than it.
    #[must_use]
    pub fn with_wall(self, wall: Duration) -> Self {
        Self {
            start: self.start.min(wall),
            first_call: self.first_call.min(wall),
            idle: self.idle.min(wall),
            wall,
            ..self
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyRules {
    pub model: String,
    /// The network class that the endpoint's addresses must lie in.
    pub network: String,
    pub limits: ProxyLimits,
}

/// A file in the sandbox's working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// `task` or `config`.
    pub role: &'static str,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// With the program, which the policy's verified mount holds.
    pub argv: Vec<String>,
    pub directory: AbsPath,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Directories made in the working directory, parents first.
    pub directories: Vec<String>,
    /// Files written into the working directory before the start, by path below it.
    pub files: BTreeMap<String, File>,
    /// Digest of the fixture whose workspace is copied in.
    pub fixture: Digest,
    pub workspace: Files,
    pub sandbox: Policy,
    /// SHA-256 of the binary that is mounted.
    pub binary: Digest,
    /// Whether the binary was built without autoloading.
    pub hardened: bool,
    pub agent: AgentKind,
    /// Names in the workspace that the agent would load and that nothing switches off.
    pub refuse: Vec<String>,
    pub clocks: Clocks,
    pub proxy: ProxyRules,
    /// The run's own nonce, which stands in the host name and in what the agent shows in place of a key.
    pub nonce: String,
}

/// What a run directory keeps of a launch (`admit.launch/1`). The run's nonce is replaced by `{nonce}`, so two runs of
/// the same thing on one machine have launches of the same digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LaunchRecord {
    /// Always `admit.launch/1`.
    pub schema: String,
    pub argv: Vec<String>,
    pub directory: AbsPath,
    pub env: BTreeMap<String, String>,
    /// Directories that were made in the working directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<String>,
    /// SHA-256 of each file that was written, by path below the working directory.
    pub files: BTreeMap<String, Digest>,
    pub fixture: Digest,
    pub sandbox: Policy,
    pub binary: Digest,
    /// Names that refuse a workspace which has them: the agent would load them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refuse: Vec<String>,
    /// Milliseconds.
    pub clocks_ms: BTreeMap<String, u64>,
    pub model: String,
    pub network: String,
    /// Times in milliseconds.
    pub proxy_limits: BTreeMap<String, u64>,
}

impl Record for LaunchRecord {
    const SCHEMA: Schema = Schema { name: "admit.launch", version: 1 };
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Launch {
    pub fn record(&self) -> LaunchRecord {
        let unmarked = |text: &String| text.replace(&self.nonce, "{nonce}");
        let (clocks, limits) = (&self.clocks, &self.proxy.limits);
        let mut sandbox = self.sandbox.clone();
        sandbox.hostname = unmarked(&sandbox.hostname);
        let more = [
            ("fault", clocks.fault.map(millis)),
            ("requests_per_second", clocks.rate.map(u64::from)),
        ];
        let more = more.map(|(name, value)| Some((name.to_owned(), value?)));
        let [fault, rate] = more;
        LaunchRecord {
            schema: LaunchRecord::SCHEMA.to_string(),
            argv: self.argv.clone(),
            directory: self.directory.clone(),
            directories: self.directories.clone(),
            env: self.env.iter().map(|(k, v)| (k.clone(), unmarked(v))).collect(),
            files: self.files.iter().map(|(p, f)| (p.clone(), Digest::sha256(&f.bytes))).collect(),
            fixture: self.fixture.clone(),
            sandbox,
            binary: self.binary.clone(),
            clocks_ms: [
                ("start", clocks.start),
                ("first_call", clocks.first_call),
                ("idle", clocks.idle),
                ("wall", clocks.wall),
                ("stable", clocks.stable),
                ("grace", clocks.grace),
            ]
            .map(|(name, time)| (name.to_owned(), millis(time)))
            .into_iter()
            .chain(fault)
            .collect(),
            refuse: self.refuse.clone(),
            model: self.proxy.model.clone(),
            network: self.proxy.network.clone(),
            proxy_limits: [
                ("requests", limits.requests.into()),
                ("request_size", limits.request_size),
                ("request_bytes", limits.request_bytes),
                ("reply_bytes", limits.reply_bytes),
                ("tokens", limits.tokens),
                ("wall_ms", millis(limits.wall)),
                ("reply_ms", millis(limits.reply)),
                ("silence_ms", millis(limits.silence)),
                ("connect_ms", millis(limits.connect)),
                ("request_ms", millis(limits.request)),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .chain(rate)
            .collect(),
        }
    }

    /// Where the workspace lies in the working directory.
    pub fn workspace_place(&self) -> Option<&str> {
        let handout = self.sandbox.handout.as_ref()?;
        self.directory.as_str().strip_prefix(handout.as_str())?.strip_prefix('/')
    }

    /// Whether the policy mounts this launch's binary at `program`, and nothing else into that directory.
    pub fn mounts_alone(&self, program: &str) -> bool {
        let directory = program.rsplit_once('/').map_or("", |(directory, _)| directory);
        let below = |path: &str| {
            path == directory || path.strip_prefix(directory).is_some_and(|p| p.starts_with('/'))
        };
        let mut inside = self.sandbox.mounts.iter().filter(|mount| below(mount.inside().as_str()));
        let first = inside.next().is_some_and(|mount| match mount {
            Mount::Verified { inside, sha256, .. } => {
                inside.as_str() == program && *sha256 == self.binary
            }
            _ => false,
        });
        first && inside.next().is_none()
    }

    /// The digest of its record.
    pub fn digest(&self) -> Digest {
        record::digest(&self.record())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::launch;
    use super::*;

    #[test]
    fn what_decides_the_process_is_in_the_digest() {
        let good = launch();
        assert_eq!(good.workspace_place(), Some("repo"));
        let changes: [fn(&mut Launch); 5] = [
            |launch| launch.directories.push("tmp".into()),
            |launch| launch.clocks.grace += Duration::from_millis(1),
            |launch| launch.clocks.wall += Duration::from_millis(1),
            |launch| launch.proxy.limits.wall += Duration::from_millis(1),
            |launch| launch.directory = "/work/other".parse().unwrap(),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut launch = launch();
            change(&mut launch);
            assert_ne!(launch.digest(), good.digest(), "{at}");
        }
    }
}
