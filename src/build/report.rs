//! What a build gave becomes the provider build report.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::output::Proven;
use super::sandboxed::Built;
use crate::context::Context;
use crate::host::{Timings, kernel};
use crate::lock::Locked;
use crate::record;
use crate::record::Record as _;
use crate::record::ids::{Sri, Timestamp};
use crate::record::report::{BuildReport, Origin, OutputStatus, SourceAdmission, Volatile};
use crate::root::Root;

/// What differs from build to build and from machine to machine, with what the sandbox was on this one.
pub fn volatile(
    context: &Context,
    root: &Root,
    started: Timestamp,
    timings: Timings,
    sandbox: Value,
) -> Volatile {
    let finished = context.clock.now();
    Volatile {
        build_timestamp: finished.clone(),
        started,
        finished,
        store_path: String::new(),
        node_version: node_version(context),
        host: kernel(),
        admit_version: env!("CARGO_PKG_VERSION").to_owned(),
        root: root.label(),
        durations_ms: timings.finish(),
        sandbox,
    }
}

/// Node's version on the host: information only, and nothing waits for it longer than two seconds.
fn node_version(context: &Context) -> Option<String> {
    let node = context.host.program("node")?;
    let mut child = std::process::Command::new(node)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    for _ in 0..200 {
        if let Ok(Some(status)) = child.try_wait() {
            let mut text = String::new();
            child.stdout.take()?.take(64).read_to_string(&mut text).ok()?;
            return status.success().then(|| text.trim().to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

pub fn of_build(locked: &Locked, built: &Built, volatile: Volatile) -> BuildReport {
    let inputs = &built.inputs;
    BuildReport {
        source_tree: Some(inputs.source.tree.clone()),
        nar_hash: Some(Sri(inputs.source.files.nar().clone())),
        build_command: built.commands.clone(),
        package_count: Some(inputs.packages.len()),
        packages_digest: Some(record::digest(&inputs.packages)),
        writes: built.writes.clone(),
        sandbox: stable_sandbox(built),
        ..of_binary(locked, &built.proven, volatile, Origin::Built)
    }
}

/// The report of a binary that was built elsewhere: what admit did not see is absent.
pub fn of_binary(
    locked: &Locked,
    proven: &Proven,
    volatile: Volatile,
    origin: Origin,
) -> BuildReport {
    let (lock, plan) = (&locked.lock, &locked.plan);
    let packages = lock.dependencies.packages.as_ref();
    BuildReport {
        schema: BuildReport::SCHEMA.to_string(),
        provider: plan.provider.clone(),
        platform: plan.platform,
        origin,
        source_url: lock.source.url.clone(),
        pinned_commit: plan.rev.clone(),
        source_tree: lock.source.tree.clone(),
        nar_hash: lock.source.nar_hash.clone(),
        plan_digest: plan.digest(),
        lock_digest: locked.digest.clone(),
        build_command: Vec::new(),
        build_path: plan.path.clone(),
        output: plan.output.clone(),
        sha256: proven.output.sha256.clone(),
        blake3: proven.output.blake3.clone(),
        size: proven.output.size,
        bun_version: plan.bun_version.clone(),
        bun_sha256: plan.bun.as_ref().map(|bun| bun.binary_sha256.clone()),
        runtime: proven.runtime.clone(),
        package_count: packages.map(Vec::len),
        packages_digest: packages.map(record::digest),
        writes: Vec::new(),
        identity: proven.identity.clone(),
        sandbox: Value::Null,
        verification: match locked.output() {
            Some(_) => OutputStatus::Locked,
            None => OutputStatus::Unlocked,
        },
        source_admission_status: SourceAdmission::NotAdmitted,
        pulled: None,
        volatile: Volatile { store_path: proven.path.display().to_string(), ..volatile },
    }
}

/// What the sandbox of every build of a plan is, on every kernel that admit runs on and as any user; the rest (id maps,
/// Landlock level, host paths) stands in `volatile`.
fn stable_sandbox(built: &Built) -> Value {
    // Names only: what an id map must answer differs between root and an ordinary user.
    let probes: BTreeSet<&str> = built.sandbox.probes.iter().map(|p| p.name.as_str()).collect();
    json!({
        "namespaces": built.sandbox.stable.namespaces,
        "network": "none",
        "sockets": "denied",
        "interfaces": built.sandbox.stable.interfaces,
        "probes_held": probes,
    })
}
