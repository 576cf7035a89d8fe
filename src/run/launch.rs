//! Makes the one launch value of a run: argv, environment, files, mounts, limits, the proxy's rules, the binary. Nothing
//! else makes any part of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::agent::{self, Agent, PORT, Parts, WORKDIR};
use super::fixture::Fixture;
use super::proof::Marks;
use super::tools::Tools;
use crate::check::Content;
use crate::check::ambient::module_lookups;
use crate::check::launch::{Clocks, Launch, ProxyRules};
use crate::error::Result;
use crate::lock::Locked;
use crate::proxy::api;
use crate::proxy::server::ProxyLimits;
use crate::record::admission::ModelAdmission;
use crate::record::ids::Timestamp;
use crate::record::lockfile::Ambient;
use crate::record::report::{BuildReport, Runtime};
use crate::record::run_shape::{FAULT_GRACE, REQUESTS_PER_SECOND};
use crate::sandbox::{Mount, Policy};

/// Capacity of the working directory in bytes: a fixture, its state and what Bun unpacks are a few megabytes.
const WORKDIR_BYTES: u64 = 512 << 20;
/// Most files in the working directory.
const WORKDIR_INODES: u64 = 100_000;

/// How much later than the supervision's clock those fire that stand behind it.
const BEHIND: Duration = Duration::from_secs(60);

pub struct LaunchInputs<'a> {
    pub agent: &'a dyn Agent,
    pub fixture: &'a Fixture,
    pub locked: &'a Locked,
    pub report: &'a BuildReport,
    /// The binary on the host, and what was found in it.
    pub binary: (&'a Path, &'a Content),
    pub model: &'a ModelAdmission,
    pub tools: &'a Tools,
    pub marks: &'a Marks,
    pub clocks: Clocks,
    /// What the proxy allows; its clock stands behind the supervision's.
    pub proxy: ProxyLimits,
    pub now: &'a Timestamp,
}

/// # Errors
/// Where a path cannot be had in a sandbox, or the agent cannot express fixture or model.
pub fn make(inputs: &LaunchInputs<'_>) -> Result<Launch> {
    let LaunchInputs { agent, fixture, locked, report, tools, marks, .. } = *inputs;
    let runtime = &report.runtime;
    let hardened = locked.lock.run.ambient == Ambient::Hardened
        && !runtime.autoload_bunfig
        && !runtime.autoload_dotenv;
    let sentinel = String::from_utf8_lossy(marks.sentinel.expose());
    let shown = api::list::of(inputs.model.api()).shown_key(&sentinel);
    let prepared = agent.prepare(&Parts {
        fixture,
        model: inputs.model,
        shape: &locked.lock.run.argv,
        sentinel: &shown,
        hardened,
        tools: tools.environment(),
        now: inputs.now,
    })?;
    let mut argv = vec![agent.program().to_owned()];
    argv.extend(prepared.arguments);
    let (path, content) = inputs.binary;
    let mut sandbox = sandbox(marks.hostname(), tools)?;
    sandbox.mounts.push(Mount::Verified {
        host: path.to_path_buf(),
        inside: agent::path(agent.program())?,
        sha256: content.sha256.clone(),
        blake3: Some(content.blake3.clone()),
        mode: 0o555,
    });
    sandbox.listener = Some(PORT);
    let command = locked.lock.run.command.as_ref();
    let limits = command.map(|command| command.limits).unwrap_or_default();
    if limits.address_space.is_some() {
        sandbox.limits.address_space = limits.address_space;
    }
    let mut clocks = inputs.clocks;
    if command.is_some() {
        let grace = limits.fault_grace.unwrap_or(FAULT_GRACE);
        clocks.fault = Some(Duration::from_secs(grace.into()));
        clocks.rate = Some(limits.requests_per_second.unwrap_or(REQUESTS_PER_SECOND));
    }
    let requests = inputs.proxy.requests.min(limits.requests.unwrap_or(u32::MAX));
    Ok(Launch {
        argv,
        directory: agent::path(&format!("{WORKDIR}/{}", agent.workspace(fixture)))?,
        env: prepared.environment,
        directories: prepared.directories,
        files: prepared.files,
        fixture: fixture.digest.clone(),
        workspace: fixture.workspace.clone(),
        sandbox,
        binary: content.sha256.clone(),
        hardened,
        agent: locked.lock.run.agent,
        refuse: refused(command.map_or(&[], |command| &command.refuse), runtime),
        clocks,
        proxy: ProxyRules {
            model: inputs.model.model.to_string(),
            network: inputs.model.network().to_owned(),
            limits: ProxyLimits { wall: clocks.wall + BEHIND, requests, ..inputs.proxy },
        },
        nonce: marks.nonce.clone(),
    })
}

/// Names that refuse a workspace: those of the lock, and where the program looks for modules by how it was compiled.
fn refused(of_the_lock: &[String], runtime: &Runtime) -> Vec<String> {
    let mut names = of_the_lock.to_vec();
    if runtime.modules > 0 {
        for name in module_lookups(runtime.flags) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// The sandbox of a run without a provider: the host's programs (`sandbox::HOST_PROGRAMS`), the tools ([`Tools::mount`])
/// and the working directory. A provider's run adds to it what [`make`] says. Every sandbox has a `/dev`, a `/proc` and an
/// `/etc` of its own besides (`sandbox/mounts.rs`).
pub fn sandbox(hostname: String, tools: &Tools) -> Result<Policy> {
    let mut policy = Policy::new(hostname).with_host_programs()?;
    tools.mount(&mut policy)?;
    let memory = |inside: &str, size, mode| -> Result<Mount> {
        Ok(Mount::Tmpfs { inside: agent::path(inside)?, size, inodes: WORKDIR_INODES, mode })
    };
    policy.mounts.push(memory("/tmp", 64 << 20, 0o1777)?);
    policy.mounts.push(memory(WORKDIR, WORKDIR_BYTES, 0o700)?);
    policy.handout = Some(agent::path(WORKDIR)?);
    Ok(policy)
}

/// Host paths that belong in the sandbox beside the system's.
pub fn expected(tools: &Tools) -> Vec<PathBuf> {
    tools.places().into_iter().filter_map(|path| path.canonicalize().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_was_compiled_to_look_up_refuses_a_workspace_that_has_it() {
        let mut facts = crate::check::tests::good();
        let mut runtime = crate::check::tests::known(&mut facts.recorded).report.runtime.clone();
        let own = [".tool".to_owned(), "tsconfig.json".to_owned()];
        runtime.flags = 0xf;
        assert_eq!(refused(&own, &runtime), [".tool", "tsconfig.json", "node_modules"]);
        runtime.flags = 0xb;
        let names = [".tool", "tsconfig.json", "node_modules", "jsconfig.json"];
        assert_eq!(refused(&own, &runtime), names, "each once");
        // No Bun is in there.
        runtime.modules = 0;
        assert_eq!(refused(&own, &runtime), own);
    }
}
