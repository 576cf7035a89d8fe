//! `kind: package`: a program that somebody published, from a loopback registry: locked, taken, recorded, verified; and
//! what is no such program.

use std::collections::BTreeMap;
use std::sync::Arc;

use admit::record::ids::{Digest, Sri};
use serde_json::{Value, json};

use crate::files::{self, shipped, tgz};
use crate::loopback::{Reply, Server};
use crate::util::World;

/// A program of this machine that needs the C library alone and tells its name and version.
pub fn program() -> Vec<u8> {
    std::fs::read("/bin/cat").unwrap()
}

fn tarball(files: &[(&str, &[u8])]) -> Vec<u8> {
    let files = files.iter().map(|(path, bytes)| (format!("package/{path}"), 0o755, *bytes));
    tgz(&files.collect::<Vec<_>>())
}

/// A registry with packages of version 1.2.3. A name that ends in `-changed` is served with another byte than its
/// metadata says.
pub fn registry(packages: &[(&str, Vec<u8>)]) -> Server {
    registry_beside(packages, Value::Null)
}

/// The same, and the metadata of further packages, whose tarballs are not asked for.
fn registry_beside(packages: &[(&str, Vec<u8>)], known: Value) -> Server {
    let packages: BTreeMap<String, Arc<Vec<u8>>> =
        packages.iter().map(|(n, b)| ((*n).to_owned(), Arc::new(b.clone()))).collect();
    Server::http(move |_, asked| {
        let target = asked.target.trim_start_matches("/npm/").to_owned();
        if let Some(name) = target.split("/-/").next().filter(|_| target.contains("/-/")) {
            let mut bytes = packages[name].as_ref().clone();
            if name.ends_with("-changed") {
                *bytes.last_mut().unwrap() ^= 1;
            }
            return Reply::ok(bytes);
        }
        let name = target.replace("%2f", "/");
        if known.get(&name).is_some() {
            return Reply::ok(known[&name].to_string());
        }
        let Some(bytes) = packages.get(&name) else { return Reply::status(404) };
        let integrity = Sri(crate::fetch::sha512(bytes)).to_string();
        let version = json!({ "license": "MIT", "dist": { "integrity": integrity } });
        let all = json!({ "dist-tags": { "latest": "1.2.3" }, "versions": { "1.2.3": version } });
        Reply::ok(all.to_string())
    })
}

const MANIFEST: &[u8] =
    br#"{"name":"tool","scripts":{"postinstall":"touch /tmp/admit-package-script-ran"}}"#;

pub fn packages() -> Vec<(&'static str, Vec<u8>)> {
    let mut other = program();
    // e_machine: AArch64 on x86-64, and the other way round.
    other[0x12] = if other[0x12] == 62 { 183 } else { 62 };
    let program = program();
    vec![
        ("@me/tool", tarball(&[("package.json", MANIFEST), ("lib/vendor/tool", &program)])),
        ("several", tarball(&[("bin/a", &program), ("bin/b", &program)])),
        ("none", tarball(&[("bin/tool.js", b"#!/usr/bin/env node\n")])),
        ("elsewhere", tarball(&[("bin/tool", &other)])),
        ("tool-changed", tarball(&[("bin/tool", &program)])),
    ]
}

#[test]
fn a_published_program_is_locked_taken_recorded_and_verified() {
    let server = registry(&packages());
    let url = server.url("/npm/");
    let world = World::new();
    let on = |args: &[&str]| world.admit(&[args, &["--registry", &url]].concat());
    let locked = on(&["lock", "tool", "--package", "@me/tool@1.2.3", "--license", "MIT"]).expect(0);
    assert!(!std::path::Path::new("/tmp/admit-package-script-ran").exists());
    let lock = world.admit(&["lock", "tool", "--show"]).expect(0).json();
    assert_eq!(lock["kind"], "package", "{}", locked.stdout());
    assert_eq!(lock["package"]["form"], "native");
    assert_eq!(lock["source"]["url"], "npm:@me/tool@1.2.3");
    assert_eq!(lock["build"]["output"], "lib/vendor/tool");

    let built = on(&["build", "tool", "--record", "--json"]).expect(0).json();
    assert_eq!(built["report"]["origin"], "published");
    assert_eq!(built["report"]["runtime"]["native"]["linkage"], "dynamic");
    assert_eq!(built["report"]["sha256"], Digest::sha256(&program()).to_hex());
    // Found again without the registry, and verified without it.
    let again = world.admit(&["build", "tool", "--json"]).expect(0).json();
    assert_eq!(again["fresh"], false);
    world.admit(&["build", "tool"]).expect(0).shows("published, not built here").shows("dynamic");
    world.admit(&["verify", "tool"]).expect(0);
    world.admit(&["verify", "tool", "--deep"]).expect(0);
    let run = world.admit(&["sbom", "tool"]).expect(0);
    run.shows("published, not built here").shows("pkg:npm/%40me/tool@1.2.3");
    let shown = world.admit(&["inspect", "tool", "--json"]).expect(0).json();
    assert_eq!((&shown["format"], &shown["linkage"]), (&"native".into(), &"dynamic".into()));
    // Nothing of it is built, so nothing of it is built again with something varied.
    world.admit(&["rebuild", "tool"]).refuse(2, "bad_argument");
}

#[test]
fn a_published_bun_executable_is_proven_and_compared_with_a_build_of_its_source() {
    let built = crate::trial::understudy();
    let own = std::fs::read(&built.binary).unwrap();
    // As somebody publishes it who changed one word of it.
    let (word, other) = (b"is not part of the understudy", b"is a secret of the understudy");
    let mut changed = own.clone();
    let there = changed.windows(word.len()).enumerate().filter(|(_, w)| w == word);
    let places: Vec<usize> = there.map(|(at, _)| at).collect();
    let [at] = places[..] else { panic!("the word is there {} times", places.len()) };
    changed[at..at + word.len()].copy_from_slice(other);
    let lock = shipped("lockfiles/understudy.lock.json");
    let bun = &lock["toolchain"]["bun"];
    let platform = admit::host::platform().unwrap().to_string();
    let pinned = &bun["platforms"][platform];
    let version = bun["version"].as_str().unwrap();
    let known = json!({ pinned["package"].as_str().unwrap(): {
        "versions": { version: { "dist": { "integrity": pinned["integrity"] } } },
    } });
    let packages = [
        ("as-built", tarball(&[("bin/ca", &own)])),
        ("as-altered", tarball(&[("bin/ca", &changed)])),
    ];
    let server = registry_beside(&packages, known);
    let world = World::with_shared_store();
    world.admit(&["build", "understudy", "--record"]).expect(0);
    let url = server.url("/npm/");
    for name in ["as-built", "as-altered"] {
        let lock = ["lock", name, "--package", name, "--license", "MIT", "--registry", &url];
        world.admit(&lock).expect(0);
        let shown = world.admit(&["lock", name, "--show"]).expect(0).json();
        assert_eq!(shown["package"]["form"], "bun");
        world.admit(&["build", name, "--record", "--registry", &url]).expect(0);
        world.admit(&["verify", name]).expect(0);
    }
    let same = world.admit(&["diff", "as-built", "understudy"]).expect(0).stdout();
    assert!(same.starts_with("SAME  sha256:"), "{same}");
    let found = world.admit(&["diff", "as-altered", "understudy", "--json"]).expect(1).json();
    assert_eq!((&found["format"], &found["runtime"]["same"]), (&"bun".into(), &true.into()));
    for side in ["a", "b"] {
        assert!(found["runtime"]["proven"][side].is_string(), "{side}: {}", found["runtime"]);
    }
    let text = world.admit(&["diff", "as-altered", "understudy"]).expect(1).stdout();
    for part in ["runtime  same", "is a secret of the", "is not part of the"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn a_package_that_is_not_what_it_must_be_is_refused_by_name() {
    let server = registry(&packages());
    let url = server.url("/npm/");
    let world = World::new();
    let lock = |package: &str, more: &[&str]| {
        let args = [&["lock", "x", "--package", package, "--registry", &url], more].concat();
        world.admit(&args)
    };
    lock("several", &[]).refuse(2, "bad_argument").told("bin/a, bin/b");
    lock("several", &["--path", "bin/c"]).refuse(6, "output_missing");
    lock("none", &[]).refuse(6, "output_missing");
    lock("elsewhere", &[]).refuse(2, "platform_not_locked");
    lock("tool-changed", &[]).refuse(5, "digest_mismatch");
    lock("absent", &[]).refuse(4, "http_status");
    lock("@me/tool@9.9.9", &[]).refuse(2, "not_found");
    // Nothing of it is written.
    world.admit(&["lock", "x", "--show"]).refuse(2, "provider_not_locked");
    // A lock that was altered by hand: another path, another pin, a step.
    lock("@me/tool", &[]).expect(0);
    let path = world.root().join("lockfiles/x.lock.json");
    let good = files::json(&path);
    for (place, value) in [
        ("/source/rev", json!("0".repeat(40))),
        ("/source/url", json!("npm:other@1.2.3")),
        ("/build/steps", json!([["sh", "-c", "true"]])),
        ("/package", Value::Null),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = value;
        std::fs::write(&path, bad.to_string()).unwrap();
        world.admit(&["build", "x", "--registry", &url]).refuse(2, "hostile_lock");
    }
}
