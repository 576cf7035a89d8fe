//! What a build gave becomes the provider build report.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::output::Proven;
use super::sandboxed::Built;
use crate::context::Context;
use crate::host::{self, Timings, kernel};
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
    let Some(status) = host::wait_until(&mut child, Instant::now() + Duration::from_secs(2)) else {
        let _ = child.kill();
        let _ = child.wait();
        return None;
    };
    let mut text = String::new();
    child.stdout.take()?.take(64).read_to_string(&mut text).ok()?;
    status.success().then(|| text.trim().to_owned())
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::recorded::tests::{good, locked};
    use super::*;
    use crate::bun::lockfile::BunLock;
    use crate::fetch::git::Source;
    use crate::fetch::inputs::Inputs;
    use crate::host::Host;
    use crate::host::tests::program;
    use crate::record::ids::{Algorithm, Digest};
    use crate::record::lockfile::Output;
    use crate::sandbox::{IdMap, Policy, Probe, SandboxFacts, StableFacts, VolatileFacts};
    use crate::store::Store;

    const STORED: &str = "/store/files/output";

    #[test]
    fn the_hosts_node_says_its_version_and_what_fails_says_none() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::with([("PATH".to_owned(), dir.path().display().to_string())], "/");
        let context = Context::plain(host);
        assert_eq!(node_version(&context), None);
        for (script, want) in [("echo v22.1.0", Some("v22.1.0")), ("echo v22; exit 1", None)] {
            program(dir.path().join("node"), &format!("#!/bin/sh\n{script}\n"));
            assert_eq!(node_version(&context).as_deref(), want, "{script}");
        }
    }

    fn proven() -> Proven {
        let BuildReport { sha256, blake3, size, runtime, identity, .. } = good();
        Proven { output: Output { sha256, blake3, size }, path: STORED.into(), runtime, identity }
    }

    fn differing(one: &BuildReport, other: &BuildReport) -> Vec<String> {
        let (one, other) = (record::to_value(one), record::to_value(other));
        let both = [&one, &other].map(|report| report.as_object().unwrap());
        let names: BTreeSet<&String> = both.iter().flat_map(|report| report.keys()).collect();
        names.into_iter().filter(|name| one[*name] != other[*name]).cloned().collect()
    }

    #[test]
    fn the_report_of_a_binary_says_what_lock_and_proof_say_and_nothing_of_a_build() {
        let report = of_binary(&locked(), &proven(), good().volatile, Origin::Adopted);
        assert_eq!(
            differing(&report, &good()),
            [
                "build_command",
                "lock_digest",
                "origin",
                "package_count",
                "packages_digest",
                "sandbox",
                "source_admission_status",
                "volatile",
                "writes"
            ]
        );
        assert_eq!(report.origin, Origin::Adopted);
        assert_eq!(report.lock_digest, locked().digest);
        assert_eq!(report.source_admission_status, SourceAdmission::NotAdmitted);
        assert_eq!(report.volatile, Volatile { store_path: STORED.into(), ..good().volatile });
        assert!(report.build_command.is_empty() && report.writes.is_empty());
        assert_eq!((report.package_count, report.packages_digest), (None, None));
        let mut unlocked = locked();
        unlocked.lock.outputs.clear();
        let report = of_binary(&unlocked, &proven(), good().volatile, Origin::Adopted);
        assert_eq!(report.verification, OutputStatus::Unlocked);
    }

    fn sandbox() -> SandboxFacts {
        let words = |field: &str| -> Vec<String> {
            serde_json::from_value(good().sandbox[field].clone()).unwrap()
        };
        let probe = |name| Probe { name, expected: "EPERM".into(), got: "EPERM".into() };
        SandboxFacts {
            stable: StableFacts {
                policy: Policy::new("build"),
                limits_in_force: None,
                namespaces: words("namespaces"),
                ids: IdMap::OneLine,
                landlock_abi: 4,
                seccomp_instructions: 1,
                seccomp_sha256: Digest::sha256(b""),
                interfaces: words("interfaces"),
                submounts: Vec::new(),
                verified: Vec::new(),
                limits: Vec::new(),
            },
            // In the order in which they were made, which is not that of the record.
            probes: words("probes_held").into_iter().rev().map(probe).collect(),
            volatile: VolatileFacts { init_pid: 1, payload_uid: 1, payload_gid: 1, start_us: 1 },
        }
    }

    #[test]
    fn the_report_of_a_build_is_the_one_on_record_but_for_what_it_was_handed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let tree = store.tree_writer().unwrap();
        tree.dir().write("main.ts", "1").unwrap();
        let files = tree.finish(None).unwrap();
        let (locked, want) = (locked(), good());
        let bun_lock = include_bytes!("../../fixtures/understudy/bun.lock");
        let bun_lock = BunLock::parse(bun_lock, "bun.lock").unwrap();
        let tree = "0123456789012345678901234567890123456789".parse().unwrap();
        let nar = Sri(files.nar().clone());
        let built = Built {
            proven: proven(),
            inputs: Inputs {
                source: Source {
                    commit: want.pinned_commit.clone(),
                    tree,
                    time: 0,
                    files,
                    fetched: false,
                },
                bun: store.put(b"bun", Algorithm::Sha256).unwrap(),
                packages: bun_lock.locked_packages(&locked.accepted()).unwrap(),
                bun_lock,
                selected: Vec::new(),
                tarballs: BTreeMap::new(),
                local: Vec::new(),
                downloads: Vec::new(),
                patches: BTreeMap::new(),
            },
            commands: want.build_command.clone(),
            writes: want.writes.clone(),
            sandbox: sandbox(),
            space: "memory",
        };
        let report = of_build(&locked, &built, want.volatile.clone());
        // The source that was built from is another here; the count and digest of the packages are those of the record.
        assert_eq!(
            differing(&report, &want),
            ["lock_digest", "nar_hash", "source_admission_status", "source_tree", "volatile"]
        );
        assert_eq!(report.nar_hash, Some(nar));
        assert_eq!(
            report.source_tree.unwrap().as_str(),
            "0123456789012345678901234567890123456789"
        );
        assert_eq!(report.origin, Origin::Built);
    }
}
