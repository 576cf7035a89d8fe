//! The software bill of materials of a build, as CycloneDX 1.6 JSON: what went into the output, with digests.
//! [`parts`] reads what it is made of out of the store; the rest but [`make`] is pure.
//!
//! The bytes follow from the build alone: no serial number and no time stamp, everything sorted. Digests are of what
//! admit verified: a package's is its tarball's, in hex what the source's lock asks for. Whether a package that was
//! installed is also in the output is said only where the output itself shows it ([`parts::Part`]).
//!
//! Our own and no crate: `cyclonedx-bom` stops at version 1.5. Other people's verifiers check it
//! (`.ci/foreign-verifiers`).

pub mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use crate::build::Stored;
use crate::bun::lockfile::{Package, SourceKind};
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::host::files::{self, Links};
use crate::lock::{self, Spec};
use crate::record;
use crate::record::ids::{Algorithm, Digest, Sri};
use crate::record::lockfile::{BunPackage, LicenseStatus, PublishedFile};
use crate::record::purl;
use crate::record::report::BuildReport;
use crate::root::bad_record;
use parts::{Part, Parts};

/// A longer report is not read, in bytes.
const MAX_REPORT: u64 = 16 << 20;
/// The JSON Schema that the document follows.
const SCHEMA: &str = "http://cyclonedx.org/schema/bom-1.6.schema.json";
/// References of the components that are no packages.
const OUTPUT: &str = "output";
const SOURCE: &str = "source";

/// A component; the members are CycloneDX's.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    bom_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Property {
    name: &'static str,
    value: String,
}

/// Of which build, and where it goes.
#[derive(Clone, Debug, clap::Args)]
pub struct Wanted {
    /// The provider, or provider@commit with the beginning of the locked commit
    #[arg(value_name = "PROVIDER[@COMMIT]", required_unless_present = "report")]
    pub spec: Option<Spec>,
    /// The report of a build, in place of the last build here
    #[arg(long, value_name = "FILE", conflicts_with = "spec")]
    pub report: Option<PathBuf>,
    /// Write to this file, not to standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// The bytes of the bill of materials, and where they were written; `None` where they are to be printed.
///
/// # Errors
/// Those of the report, of the file to write and of [`parts::read`]; [`Reason::NotFound`] for what was not built here.
pub fn make(context: &Context, wanted: &Wanted) -> Result<(Vec<u8>, Option<PathBuf>)> {
    let given = wanted.report.as_ref().map(|file| {
        let bytes = files::read(&context.host.absolute(file), Links::Follow, MAX_REPORT)?;
        record::parse::<BuildReport>(&bytes)
            .map_err(|err| bad_record(&file.display().to_string(), &err))
    });
    let given = given.transpose()?;
    let spec = match (&wanted.spec, &given) {
        (Some(spec), _) => spec.clone(),
        (None, Some(report)) => Spec { provider: report.provider.clone(), rev: None },
        (None, None) => return Err(Error::new(Reason::BadArgument, "a provider or --report FILE")),
    };
    let out = wanted.out.as_ref().map(|file| context.host.absolute(file));
    match out.as_ref().map(|file| files::open(file, Links::Follow)) {
        Some(Err(err)) if err.reason() != Reason::NotFound => {
            return Err(err.hint("without --out it is printed"));
        }
        _ => {}
    }
    let locked = lock::resolve(&*context.root()?, &spec)?;
    let store = context.store()?;
    let report = match given {
        Some(report) => report,
        None => Stored::of(&store, &locked).report()?.ok_or_else(|| {
            Error::new(Reason::NotFound, "this lock was not built here")
                .at(locked.place.clone())
                .hint(format!("admit build {}", locked.lock.provider))
        })?,
    };
    let bytes = record::pretty(&bom(&parts::read(&store, &locked, report)?));
    if let Some(file) = &out {
        files::replace(file, &bytes)?;
    }
    Ok((bytes, out))
}

fn bom(parts: &Parts) -> Value {
    let mut components = BTreeMap::from([(SOURCE.to_owned(), source(parts))]);
    components.extend(parts.bun.as_ref().map(|package| {
        let bun = bun(parts, package);
        (bun.bom_ref.clone().unwrap_or_default(), bun)
    }));
    let given: Vec<String> = components.keys().cloned().collect();
    // One component for each package, wherever and under whatever names it is installed.
    let mut places: BTreeMap<String, Vec<&Part>> = BTreeMap::new();
    for part in &parts.packages {
        places.entry(purl(&part.package)).or_default().push(part);
    }
    components.extend(places.iter().map(|(purl, parts)| (purl.clone(), package(purl, parts))));
    let mut needs: BTreeMap<String, BTreeSet<String>> =
        components.keys().map(|name| (name.clone(), BTreeSet::new())).collect();
    let output = needs.entry(OUTPUT.to_owned()).or_default();
    output.extend(given);
    let by_key: BTreeMap<&str, String> = (parts.packages.iter())
        .map(|part| (part.package.key.as_str(), purl(&part.package)))
        .collect();
    for (from, to) in &parts.edges {
        // What a workspace of the source needs, the output needs.
        let from = by_key.get(from.as_str()).map_or(OUTPUT, String::as_str);
        if let (Some(needs), Some(to)) = (needs.get_mut(from), by_key.get(to.as_str()))
            && from != to
        {
            needs.insert(to.clone());
        }
    }
    let needs = needs.iter().map(|(of, needs)| json!({ "ref": of, "dependsOn": needs }));
    json!({
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{ "phase": "build" }],
            "tools": { "components": [tool()] },
            "component": output_component(parts),
            "properties": [property("cdx:reproducible", "true")],
        },
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": needs.collect::<Vec<_>>(),
    })
}

fn tool() -> Component {
    Component {
        kind: "application",
        name: "admit".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Component::default()
    }
}

fn output_component(parts: &Parts) -> Component {
    let (report, lock) = (&parts.report, &parts.lock);
    let spdx = lock.license.spdx.iter().filter(|_| lock.license.status == LicenseStatus::Resolved);
    Component {
        kind: "application",
        bom_ref: Some(OUTPUT.to_owned()),
        name: report.provider.to_string(),
        version: report.pinned_commit.to_string(),
        hashes: [report.sha256.digest(), report.blake3.digest()].map(hash).into(),
        licenses: spdx.map(|text| license(text, "concluded")).collect(),
        properties: vec![
            property("admit:build-report", parts.report.core_digest().to_string()),
            property("admit:file", report.output.as_str()),
            property("admit:lock", report.lock_digest.to_string()),
            property("admit:plan", report.plan_digest.to_string()),
            property("admit:platform", report.platform.as_str()),
            property("admit:size", report.size.to_string()),
        ],
        ..Component::default()
    }
}

fn published(parts: &Parts, file: &PublishedFile) -> Component {
    Component {
        kind: "application",
        bom_ref: Some(SOURCE.to_owned()),
        properties: vec![
            property("admit:from", "published, not built here: what is in it, its publisher knows"),
            property("admit:path", parts.report.output.as_str()),
        ],
        ..from_npm(&file.package, &file.version, &file.integrity)
    }
}

/// A package of npm's, whatever it is of the build.
fn from_npm(package: &str, version: &str, integrity: &Sri) -> Component {
    let (group, name) = split(package);
    let purl = purl::npm(package, version);
    Component {
        bom_ref: Some(purl.clone()),
        group,
        name,
        version: version.to_owned(),
        hashes: vec![hash(&integrity.0)],
        purl: Some(purl),
        ..Component::default()
    }
}

fn source(parts: &Parts) -> Component {
    let report = &parts.report;
    let package = parts.lock.package.as_ref();
    if let Some(file) = package.and_then(|package| package.platforms.get(&report.platform)) {
        return published(parts, file);
    }
    let mut properties = vec![property("admit:git-commit", report.pinned_commit.to_string())];
    let tree = report.source_tree.as_ref().map(|tree| tree.as_str().to_owned());
    properties.extend(tree.map(|tree| property("admit:git-tree", tree)));
    let nar = report.nar_hash.as_ref().map(ToString::to_string);
    properties.extend(nar.map(|nar| property("admit:nar-hash", nar)));
    Component {
        kind: "application",
        bom_ref: Some(SOURCE.to_owned()),
        name: format!("{} source", report.provider),
        version: report.pinned_commit.to_string(),
        purl: github_purl(&report.source_url, report.pinned_commit.as_str()),
        external_references: vec![json!({ "type": "vcs", "url": report.source_url })],
        properties,
        ..Component::default()
    }
}

fn bun(parts: &Parts, package: &BunPackage) -> Component {
    Component {
        kind: "platform",
        properties: vec![property("admit:executable", package.binary_sha256.digest().to_string())],
        ..from_npm(&package.package, &parts.lock.toolchain.bun.version, &package.integrity)
    }
}

fn package(purl: &str, parts: &[&Part]) -> Component {
    let first = parts[0];
    let (group, name) = split(&first.package.name);
    let mut properties = BTreeSet::new();
    for part in parts {
        properties.insert(property("admit:install-path", part.package.key.as_str()));
        if part.package.bundled {
            properties.insert(property("admit:from", "the tarball of the package above it"));
        }
    }
    let sum = |count: fn(&Part) -> usize| parts.iter().map(|part| count(part)).max().unwrap_or(0);
    let seen = [
        ("admit:embedded-files", sum(|part| part.embedded)),
        ("admit:module-comments", sum(|part| part.comments)),
    ];
    for (name, count) in seen.into_iter().filter(|(_, count)| *count > 0) {
        properties.insert(property(name, count.to_string()));
    }
    Component {
        kind: "library",
        bom_ref: Some(purl.to_owned()),
        group,
        name,
        version: version(&first.package).to_owned(),
        hashes: first.digest.iter().map(hash).collect(),
        licenses: first.license.iter().map(|text| license(text, "declared")).collect(),
        purl: Some(purl.to_owned()),
        properties: properties.into_iter().collect(),
        ..Component::default()
    }
}

fn version(package: &Package) -> &str {
    match &package.kind {
        SourceKind::Github { reference, .. } => reference,
        _ => &package.resolution,
    }
}

fn property(name: &'static str, value: impl Into<String>) -> Property {
    Property { name, value: value.into() }
}

fn hash(digest: &Digest) -> Value {
    let alg = match digest.algorithm() {
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Sha384 => "SHA-384",
        Algorithm::Sha512 => "SHA-512",
        Algorithm::Blake3 => "BLAKE3",
    };
    json!({ "alg": alg, "content": digest.to_hex() })
}

/// `text` as one SPDX identifier, as an SPDX expression, or, where it is neither, as a name.
fn license(text: &str, acknowledgement: &str) -> Value {
    if spdx::license_id(text).is_some_and(|id| id.name == text) {
        return json!({ "license": { "id": text, "acknowledgement": acknowledgement } });
    }
    match spdx::Expression::parse(text) {
        Ok(_) => json!({ "expression": text, "acknowledgement": acknowledgement }),
        Err(_) => json!({ "license": { "name": text, "acknowledgement": acknowledgement } }),
    }
}

/// Group and name of a package: `@scope/name` is both.
fn split(name: &str) -> (Option<String>, String) {
    match name.split_once('/') {
        Some((scope, name)) => (Some(scope.to_owned()), name.to_owned()),
        None => (None, name.to_owned()),
    }
}

fn purl(package: &Package) -> String {
    match &package.kind {
        SourceKind::Github { owner, repo, reference } => purl::github(owner, repo, reference),
        _ => purl::npm(&package.name, &package.resolution),
    }
}

fn github_purl(url: &str, commit: &str) -> Option<String> {
    let (owner, repo) = url.strip_prefix("https://github.com/")?.split_once('/')?;
    let repo = repo.trim_end_matches('/').trim_end_matches(".git");
    (!repo.contains('/')).then(|| purl::github(owner, repo, commit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bun::lockfile::BunLock;

    #[test]
    fn a_licence_is_an_identifier_an_expression_or_a_name() {
        let declared = "declared";
        for id in ["MIT", "Apache-2.0", "0BSD", "CC0-1.0"] {
            let stated = json!({ "id": id, "acknowledgement": declared });
            assert_eq!(license(id, declared), json!({ "license": stated }));
        }
        for expression in [
            "MIT OR Apache-2.0",
            "(MIT AND CC-BY-3.0)",
            "GPL-2.0-only WITH Classpath-exception-2.0",
        ] {
            let expected = json!({ "expression": expression, "acknowledgement": declared });
            assert_eq!(license(expression, declared), expected);
        }
        for name in ["Apache 2.0", "mit", "SEE LICENSE IN LICENSE.md", "UNLICENSED", "(MIT"] {
            let stated = json!({ "name": name, "acknowledgement": declared });
            assert_eq!(license(name, declared), json!({ "license": stated }), "{name}");
        }
    }

    #[test]
    fn package_urls_are_those_of_the_specification() {
        let text = r#"{ "lockfileVersion": 1, "workspaces": { "": {} }, "packages": {
            "a": ["a@github:WorkOS/Thing#0123abc", {}, "WorkOS-Thing-0123abc"] } }"#;
        let lock = BunLock::parse(text.as_bytes(), "bun.lock").unwrap();
        assert_eq!(purl(&lock.packages["a"]), "pkg:github/workos/thing@0123abc");
        assert_eq!(
            github_purl("https://github.com/WorkOS/case.git", "abc").unwrap(),
            "pkg:github/workos/case@abc"
        );
        assert_eq!(github_purl("embedded:understudy", "abc"), None);
    }

    #[test]
    fn digests_are_hex_of_what_the_lock_asks_for() {
        let sri: Sri = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=".parse().unwrap();
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(&sri.0), json!({ "alg": "SHA-256", "content": hex }));
    }
}
