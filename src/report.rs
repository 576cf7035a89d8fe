//! Stage 5, report: what a build gave becomes the provider build report. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::build::{Built, Proven};
use crate::error::{Error, Reason, Result};
use crate::fetch::inputs::Inputs;
use crate::lock::Locked;
use crate::lock::plan::Plan;
use crate::record::ids::{Digest, Sri, Timestamp};
use crate::record::report::{BuildReport, Origin, OutputStatus, SourceAdmission, Volatile};
use crate::record::{self, Record};

/// What differs from build to build and from machine to machine.
#[derive(Clone, Debug)]
pub struct Circumstances {
    pub started: Timestamp,
    pub finished: Timestamp,
    /// Node's version on the host, for information.
    pub node_version: Option<String>,
    pub host: String,
    /// Which root the lock came from.
    pub root: String,
    /// Milliseconds by part.
    pub durations_ms: BTreeMap<String, u64>,
}

pub fn report(
    locked: &Locked,
    plan: &Plan,
    inputs: &Inputs,
    built: &Built,
    around: Circumstances,
) -> BuildReport {
    let walls = json!({ "facts": record::to_value(&built.sandbox), "space": built.space });
    BuildReport {
        source_tree: Some(inputs.source.tree.clone()),
        nar_hash: Some(Sri(inputs.source.files.nar().clone())),
        build_command: built.commands.clone(),
        package_count: Some(inputs.locked.len()),
        packages_digest: Some(record::digest(&inputs.locked)),
        writes: built.writes.clone(),
        sandbox: stable_walls(built),
        ..adopted(locked, plan, &built.proven, around, walls, Origin::Built)
    }
}

/// The report of a binary that was built elsewhere: what admit did not see is absent.
pub fn adopted(
    locked: &Locked,
    plan: &Plan,
    proven: &Proven,
    around: Circumstances,
    walls: serde_json::Value,
    origin: Origin,
) -> BuildReport {
    BuildReport {
        schema: BuildReport::SCHEMA.to_string(),
        provider: plan.provider.clone(),
        platform: plan.platform,
        origin,
        source_url: locked.lock.source.url.clone(),
        pinned_commit: plan.rev.clone(),
        source_tree: locked.lock.source.tree.clone(),
        nar_hash: locked.lock.source.nar_hash.clone(),
        plan_digest: plan.key(),
        lock_digest: locked.digest.clone(),
        build_command: Vec::new(),
        build_path: plan.path.clone(),
        output: plan.output.clone(),
        sha256: proven.sha256.clone(),
        blake3: proven.blake3.clone(),
        size: proven.size,
        bun_version: plan.bun_version.clone(),
        bun_sha256: plan.bun.binary_sha256.clone(),
        runtime: proven.runtime.clone(),
        package_count: locked.lock.dependencies.packages.as_ref().map(Vec::len),
        packages_digest: locked.lock.dependencies.packages.as_ref().map(record::digest),
        writes: Vec::new(),
        identity: proven.identity.clone(),
        sandbox: serde_json::Value::Null,
        verification: status(locked, plan),
        source_admission_status: SourceAdmission::NotAdmitted,
        volatile: Volatile {
            build_timestamp: around.finished.clone(),
            started: around.started,
            finished: around.finished,
            store_path: proven.path.display().to_string(),
            node_version: around.node_version,
            host: around.host,
            admit_version: env!("CARGO_PKG_VERSION").to_owned(),
            root: around.root,
            durations_ms: around.durations_ms,
            sandbox: walls,
        },
    }
}

fn status(locked: &Locked, plan: &Plan) -> OutputStatus {
    match locked.lock.outputs.contains_key(&plan.platform) {
        true => OutputStatus::Locked,
        false => OutputStatus::Unlocked,
    }
}

/// The walls that are the same for every build of the plan, on every kernel that admit runs on and as any user; the
/// rest (id maps, Landlock level, host paths) stands in `volatile`.
fn stable_walls(built: &Built) -> serde_json::Value {
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

/// Whether `built` is what the lock says.
///
/// # Errors
/// [`Reason::DigestMismatch`] with both digests.
pub fn compare(
    locked: &Locked,
    plan: &Plan,
    sha256: &Digest,
    blake3: &Digest,
    size: u64,
) -> Result<OutputStatus> {
    let Some(expected) = locked.lock.outputs.get(&plan.platform) else {
        return Ok(OutputStatus::Unlocked);
    };
    let same = expected.sha256.digest() == sha256 && expected.blake3.digest() == blake3;
    if same && expected.size == size {
        return Ok(OutputStatus::Locked);
    }
    Err(Error::new(Reason::DigestMismatch, "the output is not the locked one")
        .at(format!("{}: outputs.{}", locked.place, plan.platform))
        .expected(format!("{} {} ({} bytes)", expected.sha256.digest(), expected.blake3.digest(), expected.size))
        .found(format!("{sha256} {blake3} ({size} bytes)"))
        .hint("the build path, the Bun version and every package are part of the digest: compare the lock with the one that gave the expected digest"))
}

/// Whether an earlier report still says everything that the lock asks for: identity, source and packages. An output that
/// differs is for [`compare`] to say.
pub fn still_holds(locked: &Locked, report: &BuildReport) -> bool {
    let lock = &locked.lock;
    let (want, shown) = (&lock.identity, &report.identity);
    let identity = shown.help_first_line == want.help_first_line
        && shown.commands == want.commands
        && shown.version == want.version;
    let packages = lock.dependencies.packages.as_ref().map(record::digest);
    // What the lock leaves open holds whatever was found.
    identity
        && report.runtime.proven
        && (lock.source.tree.is_none() || lock.source.tree == report.source_tree)
        && (lock.source.nar_hash.is_none() || lock.source.nar_hash == report.nar_hash)
        && (packages.is_none() || packages == report.packages_digest)
}
