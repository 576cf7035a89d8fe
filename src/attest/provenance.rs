//! A build report as SLSA provenance (v1).
//!
//! Everything in it is taken from the recorded report and the lock, both of which admit compared with what is on this
//! machine before it signs, and from the list of packages whose digest the report has; so a verifier can make it again. It
//! claims what a build on one's own machine can claim: Build L1. The key lies on the same machine as the build.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::expected::Expected;
use crate::record;
use crate::record::ids::{Digest, ObjectId, Sri};
use crate::record::lockfile::{LockedPackage, Lockfile, PackageKind, PublishedFile};
use crate::record::purl;
use crate::record::report::{BuildReport, Origin};
use crate::record::statement::{Statement, digest_set};

pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// How `admit` builds: fetch by lock, install and compile in a sandbox without network. The number rises when the
/// meaning of a parameter changes.
pub const BUILD_TYPE: &str = "urn:admit:build-type:bun-compile:1";
/// How `admit` takes an executable out of a published package, which builds nothing.
pub const PUBLISHED_TYPE: &str = "urn:admit:build-type:published-package:1";
/// `admit` on its user's machine, in its own sandbox.
pub const BUILDER: &str = "urn:admit:builder:local-sandbox:1";

/// Where the source comes from, as SLSA's resource URIs have it.
pub(super) fn source_uri(lock: &Lockfile) -> String {
    let url = &lock.source.url;
    match url {
        url if url.starts_with("embedded:") => format!("urn:admit:{url}"),
        url if url.starts_with("npm:") => format!("urn:{url}"),
        url => format!("git+{url}"),
    }
}

/// How the entries of packages are called, before the package's place.
const PACKAGE: &str = "package ";

fn package(package: &LockedPackage) -> Value {
    let mut entry = json!({
        "name": format!("{PACKAGE}{}", package.key),
        "digest": digest_set(&package.integrity.0),
        "annotations": {
            "kind": package.kind, "package": package.name, "version": package.version,
        },
    });
    // The lock names the others by where they come from; the digest is of the tarball all the same.
    if package.kind == PackageKind::Npm {
        entry["uri"] = purl::npm(&package.name, &package.version).into();
    }
    entry
}

/// The package that an entry names, where the entry is exactly how [`package`] writes it.
fn read_package(entry: &Value) -> Option<LockedPackage> {
    let (algorithm, hex) = entry["digest"].as_object()?.iter().next()?;
    let digest: Digest = format!("{algorithm}:{}", hex.as_str()?).parse().ok()?;
    let note = &entry["annotations"];
    let read = LockedPackage {
        key: entry["name"].as_str()?.strip_prefix(PACKAGE)?.to_owned(),
        name: note["package"].as_str()?.to_owned(),
        version: note["version"].as_str()?.to_owned(),
        kind: serde_json::from_value(note["kind"].clone()).ok()?,
        integrity: Sri(digest),
    };
    (package(&read) == *entry).then_some(read)
}

/// The statement without its package list, where that is the list with the digest `listed`; else as it is. So the
/// record alone is enough to check every line of the list.
pub(super) fn without_packages(statement: &Statement, listed: &Digest) -> Statement {
    let mut out = statement.clone();
    let place = "/buildDefinition/resolvedDependencies";
    let Some(entries) = out.predicate.pointer_mut(place).and_then(Value::as_array_mut) else {
        return out;
    };
    let is_package = |e: &Value| e["name"].as_str().is_some_and(|n| n.starts_with(PACKAGE));
    let start = entries.iter().position(is_package).unwrap_or(entries.len());
    let read: Option<Vec<_>> = entries[start..].iter().map(read_package).collect();
    if read.is_some_and(|list| record::digest(&list) == *listed) {
        entries.truncate(start);
    }
    out
}

/// The provenance of a recorded build as it must be, with or without the list of packages, whose digest the record has.
pub fn expected(report: &BuildReport, lock: &Lockfile) -> Expected {
    Expected { listed: report.packages_digest.clone(), ..provenance(report, lock, &[]).into() }
}

fn bun(report: &BuildReport, lock: &Lockfile) -> Option<Value> {
    let pin = lock.toolchain.bun.platforms.get(&report.platform)?;
    Some(json!({
        "name": "bun",
        "uri": purl::npm(&pin.package, &report.bun_version),
        "digest": digest_set(&pin.integrity.0),
        "annotations": { "executableSha256": report.bun_sha256 },
    }))
}

/// Where a published executable comes from: a file of a package, taken out of it and looked at. Who built it and how,
/// nothing here says.
fn published(report: &BuildReport, lock: &Lockfile, file: &PublishedFile) -> Statement {
    let mut resolved = vec![json!({
        "name": "published package",
        "uri": purl::npm(&file.package, &file.version),
        "digest": digest_set(&file.integrity.0),
    })];
    resolved.extend(bun(report, lock));
    let definition = json!({
        "buildType": PUBLISHED_TYPE,
        "externalParameters": {
            "provider": report.provider,
            "platform": report.platform,
            "origin": report.origin.not_built_here(),
            "package": file.package,
            "version": file.version,
            "output": report.output,
            "lock": report.lock_digest,
        },
        "internalParameters": { "plan": report.plan_digest, "runtime": report.runtime },
        "resolvedDependencies": resolved,
    });
    told(report, definition)
}

/// The statement about a recorded build that was defined so.
fn told(report: &BuildReport, definition: Value) -> Statement {
    let volatile = &report.volatile;
    let predicate = json!({
        "buildDefinition": definition,
        "runDetails": {
            "builder": { "id": BUILDER, "version": { "admit": volatile.admit_version } },
            "metadata": { "startedOn": volatile.started, "finishedOn": volatile.finished },
            "byproducts": [{
                "name": report.path(),
                "digest": digest_set(&Digest::sha256(&record::pretty(report))),
                "mediaType": "application/json",
                "annotations": { "core": report.core_digest() },
            }],
        },
    });
    Statement::about(report.output.as_str(), report.sha256.digest(), PROVENANCE, predicate)
}

/// The provenance of a recorded build, with each of `packages`.
pub fn provenance(report: &BuildReport, lock: &Lockfile, packages: &[LockedPackage]) -> Statement {
    let package = lock.package.as_ref().and_then(|p| p.platforms.get(&report.platform));
    if let Some(file) = package.filter(|_| report.origin == Origin::Published) {
        return published(report, lock, file);
    }
    let source = source_uri(lock);
    let mut commit: BTreeMap<&str, &str> = BTreeMap::new();
    commit.insert("gitCommit", report.pinned_commit.as_str());
    if let Some(tree) = &report.source_tree {
        commit.insert("gitTree", ObjectId::as_str(tree));
    }
    let mut resolved = vec![json!({
        "name": "source",
        "uri": format!("{source}@{}", report.pinned_commit),
        "digest": commit,
        "annotations": { "narHash": report.nar_hash },
    })];
    resolved.extend(bun(report, lock));
    if let Some(digest) = &report.packages_digest {
        resolved.push(json!({
            "name": "list of packages",
            "digest": digest_set(digest),
            "annotations": { "count": report.package_count },
        }));
    }
    resolved.extend(packages.iter().map(self::package));
    let definition = json!({
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "provider": report.provider,
            "platform": report.platform,
            "source": source,
            "commit": report.pinned_commit,
            "output": report.output,
            "lock": report.lock_digest,
        },
        "internalParameters": {
            "buildPath": report.build_path,
            "commands": report.build_command,
            "plan": report.plan_digest,
            "sandbox": report.sandbox,
        },
        "resolvedDependencies": resolved,
    });
    told(report, definition)
}
