//! npm's configuration as this user has it, and whether the registry that it names has the pinned Bun.

use std::path::Path;
use std::time::Duration;

use super::check::{Check, Need};
use crate::download::client::{Client, HttpRequest};
use crate::download::config::NetConfig;
use crate::download::npmrc::{NpmConfig, Sources};
use crate::error::{Error, Reason};
use crate::host::Host;
use crate::record::finding::Finding;
use crate::record::lockfile::BunPackage;

/// The metadata of one version of one package; a few KB are usual.
const METADATA: u64 = 4 << 20;

const CONFIG: Need<'_> = Need {
    id: "npm_config",
    needed_for: "fetch",
    expected: "a configuration that can be read",
    reason: Reason::BadRecord,
    required: true,
};
const REGISTRY: Need<'_> = Need {
    id: "registry",
    needed_for: "fetch; not needed for what is in the store already",
    expected: "the locked Bun",
    reason: Reason::DigestMismatch,
    required: true,
};

/// `named` is the registry of a flag or its variable, in place of the configuration's.
pub(super) fn npm(
    host: &Host,
    named: Option<&str>,
    bun: Option<(&str, &BunPackage)>,
    patience: Duration,
) -> Vec<Check> {
    let fix = "correct npm's configuration (npm config list), or name a registry";
    let sources = Sources { flag: named, env: host.vars(), home: host.home() };
    let config = match NpmConfig::load(&sources) {
        Ok(config) => config,
        Err(e) => return vec![CONFIG.error(&e, fix)],
    };
    let mut found = String::from(if config.has_custom_registry() {
        "a registry of your own"
    } else {
        "npm's default registry"
    });
    if let Some(file) = config.cafile() {
        if let Err(e) = std::fs::read(file) {
            let e = Error::io("read the CA file that npm's configuration names", file, e);
            return vec![CONFIG.error(&e, fix)];
        }
        found.push_str(&format!(", CA file {}", file.display()));
    }
    let registry = match bun {
        Some((version, package)) => registry(host, &config, version, package, patience),
        None => REGISTRY.with(Finding::not_asked(
            REGISTRY.id,
            "not asked: no lock names a Bun for this platform",
        )),
    };
    vec![CONFIG.ok(found), registry]
}

/// Asks the registry for the pinned Bun, once and not for long.
fn registry(
    host: &Host,
    config: &NpmConfig,
    version: &str,
    package: &BunPackage,
    patience: Duration,
) -> Check {
    let fix = "check the connection, the proxy variables and npm's configuration";
    let name = &package.package;
    // A scoped name is one part of the path, as npm asks for it.
    let rest = format!("{}/{version}", name.replace('/', "%2f"));
    let url = match config.registry_for(name).join(&rest) {
        Ok(url) => url.to_string(),
        Err(e) => {
            let what = format!("the registry's address cannot be joined with {rest}");
            return REGISTRY.error(&Error::new(Reason::BadArgument, what).caused_by(e), fix);
        }
    };
    let mut net = NetConfig {
        connect: patience,
        stall: patience,
        deadline: patience,
        attempts: 1,
        ..NetConfig::from_env(&host.vars())
    };
    net.extra_ca.extend(config.cafile().map(Path::to_owned));
    let request = HttpRequest {
        authorization: config.authorization(&url),
        ..HttpRequest::get(&url, METADATA)
    };
    let answer = match Client::new(&net).fetch_bytes(&request) {
        Ok(answer) => answer,
        Err(e) => return REGISTRY.error(&e, fix),
    };
    let metadata: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
    match metadata["dist"]["integrity"].as_str() {
        Some(found) if found == package.integrity.to_string() => {
            REGISTRY.ok(format!("answers, and has {name} {version} as locked"))
        }
        found => REGISTRY.failed(
            format!(
                "answers, but not with the locked {name} {version}: integrity {}",
                found.unwrap_or("absent")
            ),
            "name the registry that the lock was made from, or look at what changed there",
        ),
    }
}
