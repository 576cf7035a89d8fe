//! What this machine can do: each thing that a build or a run needs, what was found, and the fix.
//!
//! Nothing is changed on this machine, and nothing is taken for granted: what could not be found out is no "ok".

mod check;
mod limits;
mod program;
mod registry;
mod sandbox;
mod store;

use std::path::Path;
use std::time::Duration;

use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::host::{self, Host};
use crate::lock;
use crate::record::lockfile::BunPackage;
use crate::sandbox::Launcher;

pub use check::Check;
use check::Need;

#[derive(Clone, Copy, Debug)]
struct Setup<'a> {
    host: &'a Host,
    /// Where the store is or would be.
    store: &'a Path,
    /// The pinned Bun of this platform, whose metadata the registry is asked for: version and package.
    bun: Option<(&'a str, &'a BunPackage)>,
    /// The registry in place of the one that npm's configuration names.
    registry: Option<&'a str>,
    /// How a sandbox is started, since one is built to see whether it can be.
    launcher: &'a Launcher,
    /// Longest time for one program or for the registry's answer.
    patience: Duration,
}

/// Fails where not even a temporary directory can be made.
pub fn machine(context: &Context, patience: Duration) -> Result<Vec<Check>> {
    let scratch = tempfile::tempdir()
        .map_err(|e| Error::io("make", "a temporary directory", e).hint("set TMPDIR"))?;
    let launcher = Launcher::own(scratch.path());
    let store = context.store_dir()?;
    let bun = pinned_bun(context);
    Ok(examine(&Setup {
        host: &context.host,
        store: &store,
        bun: bun.as_ref().map(|(version, package)| (version.as_str(), package)),
        registry: context.options.registry.as_deref(),
        launcher: &launcher,
        patience,
    }))
}

/// The Bun that a lock of this root pins for this platform. Without one the registry is not asked, and the report
/// says so.
fn pinned_bun(context: &Context) -> Option<(String, BunPackage)> {
    let platform = host::platform().ok()?;
    let root = context.root().ok()?;
    lock::all(&root).find_map(|(_, lock)| {
        let bun = lock.ok()?.toolchain.bun;
        let package = bun.platforms.get(&platform)?.clone();
        Some((bun.version, package))
    })
}

/// Examines everything, in a fixed order. Takes at most a few times `patience`.
fn examine(setup: &Setup<'_>) -> Vec<Check> {
    let mut checks = vec![platform()];
    checks.extend(sandbox::sandbox(setup.launcher));
    checks.extend([
        limits::memory(host::memory_available()),
        limits::disk(setup.store),
        limits::of_processes(),
    ]);
    checks.extend(store::store(setup.store));
    checks.extend(program::programs(setup.host, setup.patience));
    checks.extend(registry::npm(setup.host, setup.registry, setup.bun, setup.patience));
    checks
}

fn platform() -> Check {
    let need = Need {
        id: "platform",
        needed_for: "build, run",
        expected: "Linux on x86-64 or ARM64",
        reason: Reason::PlatformNotLocked,
        required: true,
    };
    match host::platform() {
        Ok(platform) => need.ok(format!("{platform} ({})", host::kernel())),
        Err(e) => need.error(&e, "use a Linux machine with x86-64 or ARM64"),
    }
}

#[cfg(test)]
mod tests;
