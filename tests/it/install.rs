//! Install: a seeded cache and a real Bun that has no network, and what the comparison says of the outcome.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use admit::build::work::WorkDir;
use admit::bun::lockfile::{BunLock, Required};
use admit::context::{Context, Options};
use admit::error::Reason;
use admit::fetch::packages::Tarball;
use admit::fetch::{Fetcher, installed, seed};
use admit::host::{Silent, SystemClock};
use admit::lock::plan::Plan;
use admit::record;
use admit::record::ids::{Algorithm, Digest};
use admit::record::lockfile::Linker;
use admit::record::lockfile::Platform;
use admit::store::Store;

use crate::files::tgz;
use crate::lock::packed;
use crate::trial::bun;
use crate::util::{self, World};

/// A source, its seeded cache and the pinned Bun, in a directory of their own.
struct Build {
    dir: tempfile::TempDir,
    lock: BunLock,
    seeded: installed::Seeded,
    plan: Plan,
}

/// What to install besides the packages: `package.json` and `bun.lock`.
struct Project {
    package: String,
    lock: String,
}

impl Build {
    /// The understudy, whose tarballs come from the registry; nothing is seeded for those in `except`.
    fn understudy(except: &[&str]) -> Self {
        let fixture = util::project().join("fixtures/understudy");
        let read = |file: &str| std::fs::read_to_string(fixture.join(file)).unwrap();
        let project = Project { package: read("package.json"), lock: read("bun.lock") };
        Self::new(&project, except, |fetcher, required| {
            let wanted: Vec<_> =
                required.iter().map(|one| (one.package.clone(), one.digest.clone())).collect();
            fetcher.packages(&wanted).unwrap().files
        })
    }

    /// Seeds a cache with what `tarballs` gives for the project's packages of this platform, without those in `except`.
    fn new(
        project: &Project,
        except: &[&str],
        tarballs: impl FnOnce(&Fetcher<'_>, &[Required<'_>]) -> BTreeMap<Digest, Tarball>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { store: Some(util::shared_store()), ..Options::default() };
        let world = World::new();
        let context = Context::new(world.host(), Arc::new(SystemClock), Arc::new(Silent), options);
        let network = context.network().unwrap();
        let fetcher = network.fetcher();
        let locked = std::fs::read(util::project().join("lockfiles/understudy.lock.json")).unwrap();
        let plan = Plan::new(&record::parse(&locked).unwrap(), Platform::LinuxX64).unwrap();
        for sub in ["bin", "source", "cache", "home", "tmp"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        bun(&dir.path().join("bin/bun"));
        std::fs::write(dir.path().join("source/package.json"), &project.package).unwrap();
        std::fs::write(dir.path().join("source/bun.lock"), &project.lock).unwrap();

        let lock = BunLock::parse(project.lock.as_bytes(), "bun.lock").unwrap();
        let mut required = required(&lock);
        let tarballs = tarballs(&fetcher, &required);
        required.retain(|one| !except.contains(&one.package.key.as_str()));
        let cache = File::open(dir.path().join("cache")).unwrap();
        let seeded = seed::seed(&cache, "cache", None, &required, &tarballs).unwrap();
        Self { dir, lock, seeded, plan }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Runs the plan's install command in the plan's environment, every request ending at a port where nobody listens.
    fn install(&self) -> (bool, String) {
        let text = |path: PathBuf| path.display().to_string();
        let work = WorkDir::new(&self.plan, &"/tmp/open".parse().unwrap()).unwrap();
        let mut env = self.plan.kind.environment(&self.plan, &work);
        for (name, path) in [
            ("HOME", "home"),
            ("TMPDIR", "tmp"),
            ("XDG_CONFIG_HOME", "home/.config"),
            ("BUN_INSTALL_CACHE_DIR", "cache"),
        ] {
            env.insert(name.to_owned(), text(self.at(path)));
        }
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            env.insert(name.to_owned(), "http://127.0.0.1:9/".to_owned());
        }
        let output = Command::new(self.at("bin/bun"))
            .args(&self.plan.kind.install_command(self.plan.linker)[1..])
            .current_dir(self.at("source"))
            .env_clear()
            .envs(env)
            .output()
            .unwrap();
        let words = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&words).into_owned())
    }

    fn differences(&self) -> Vec<String> {
        let source = File::open(self.at("source")).unwrap();
        let required = required(&self.lock);
        installed::differences(&source, "source", &self.lock, &required, &self.seeded, HOISTED)
            .unwrap()
            .iter()
            .map(|one| format!("{} {}", one.what.as_str(), one.path))
            .collect()
    }
}

const HOISTED: Linker = Linker::Hoisted;

fn required(lock: &BunLock) -> Vec<Required<'_>> {
    let selection = lock.for_platform("linux", "x64", None).unwrap();
    lock.require_strong(selection.packages.into_values(), &BTreeMap::new()).unwrap()
}

#[test]
fn bun_installs_from_a_seeded_cache_alone_and_the_tree_is_the_expected_one() {
    let build = Build::understudy(&[]);
    let (good, words) = build.install();
    assert!(good, "{words}");
    assert_eq!(build.differences(), [""; 0], "{words}");
    assert_eq!(build.seeded.unpacked(&required(&build.lock)).unwrap().len(), 6);

    // What somebody adds, takes away or changes afterwards is found, also through the hard link in the cache.
    let modules = build.at("source/node_modules");
    std::fs::create_dir(modules.join("extra")).unwrap();
    std::fs::write(modules.join("extra/index.js"), "x").unwrap();
    std::fs::remove_dir_all(modules.join("parse-ms")).unwrap();
    std::fs::write(build.at("cache/app-root-path@3.1.0@@@1/index.js"), "evil").unwrap();
    assert_eq!(
        build.differences(),
        [
            "missing package node_modules/parse-ms",
            "extra package node_modules/extra",
            "changed node_modules/app-root-path/index.js",
        ]
    );
    let source = File::open(build.at("source")).unwrap();
    let lock = &build.lock;
    let err = installed::require_equal(&source, "s", lock, &required(lock), &build.seeded, HOISTED);
    assert_eq!(err.unwrap_err().reason(), Reason::InstallMismatch);
}

#[test]
fn an_optional_package_that_bun_leaves_out_in_silence_is_found() {
    let build = Build::understudy(&["@node-rs/crc32-linux-x64-gnu"]);
    let (good, words) = build.install();
    assert!(good, "Bun ends well without it: {words}");
    // Nothing was seeded for it, so nothing of it is expected; its absence is, all the same.
    let found = build.differences();
    assert_eq!(found, ["missing package node_modules/@node-rs/crc32-linux-x64-gnu"], "{words}");
}

#[test]
fn another_registry_in_the_project_cannot_redirect_an_install() {
    let build = Build::understudy(&[]);
    let elsewhere = "http://127.0.0.1:9/";
    let names = ["BUN_CONFIG_REGISTRY", "NPM_CONFIG_REGISTRY", "npm_config_registry"];
    let env: String = names.iter().map(|name| format!("{name}={elsewhere}\n")).collect();
    let others = "BUN_INSTALL_CACHE_DIR=poison\nBUN_CONFIG_NO_VERIFY=0\nBUN_OPTIONS=--production\n";
    std::fs::write(build.at("source/.env"), env + others).unwrap();
    let (good, words) = build.install();
    assert!(good, "shadowed: {words}");
    assert_eq!(build.differences(), [""; 0]);

    std::fs::remove_dir_all(build.at("source/node_modules")).unwrap();
    std::fs::write(build.at("source/.npmrc"), format!("registry={elsewhere}\n")).unwrap();
    let (good, words) = build.install();
    assert!(!good, "{words}");
    assert!(!build.differences().is_empty());
}

/// A package of our own as a tarball: `package.json` with name, version and `more`, and a file that says which it is.
fn plain_tarball(name: &str, version: &str, more: &str) -> Vec<u8> {
    let manifest = format!(r#"{{"name": "{name}", "version": "{version}"{more}}}"#);
    packed(&manifest, &format!("module.exports = '{name}@{version}';\n"))
}

#[test]
fn packages_that_bun_hoists_anew_for_this_platform_are_the_expected_ones() {
    let mut build = Build::understudy(&[]);
    let store = Store::open(&build.at("store")).unwrap();
    let mut tarballs = BTreeMap::new();
    let mut sri = |name: &str, version: &str, more: &str| {
        let file = store.put(&plain_tarball(name, version, more), Algorithm::Sha512).unwrap();
        let digest = file.digest().clone();
        tarballs.insert(digest.clone(), Tarball::open(file).unwrap());
        digest.to_sri()
    };
    // In the lock, `shared@2` has the place at the top, for a package that Linux does not get.
    let lock = format!(
        r#"{{"lockfileVersion": 1, "configVersion": 1,
        "workspaces": {{"": {{"name": "source", "dependencies": {{"linux-needs": "1.0.0"}},
            "optionalDependencies": {{"darwin-needs": "1.0.0"}}}}}},
        "packages": {{
            "darwin-needs": ["darwin-needs@1.0.0", "", {{"dependencies": {{"shared": "2.0.0"}}, "os": "darwin"}}, "{}"],
            "linux-needs": ["linux-needs@1.0.0", "", {{"dependencies": {{"shared": "1.0.0"}}}}, "{}"],
            "shared": ["shared@2.0.0", "", {{}}, "{}"],
            "linux-needs/shared": ["shared@1.0.0", "", {{}}, "{}"]}}}}"#,
        sri("darwin-needs", "1.0.0", ""),
        sri("linux-needs", "1.0.0", r#", "dependencies": {"shared": "1.0.0"}"#),
        sri("shared", "2.0.0", ""),
        sri("shared", "1.0.0", ""),
    );
    let manifest = r#"{"name": "source", "dependencies": {"linux-needs": "1.0.0"},
        "optionalDependencies": {"darwin-needs": "1.0.0"}}"#;
    std::fs::write(build.at("source/bun.lock"), &lock).unwrap();
    std::fs::write(build.at("source/package.json"), manifest).unwrap();
    build.lock = BunLock::parse(lock.as_bytes(), "bun.lock").unwrap();
    let cache = File::open(build.at("cache")).unwrap();
    build.seeded = seed::seed(&cache, "cache", None, &required(&build.lock), &tarballs).unwrap();

    let (good, words) = build.install();
    assert!(good, "{words}");
    // What Bun 1.3.14 does; should it stop, the comparison must hold all the same.
    assert!(build.at("source/node_modules/shared").is_dir(), "{words}");
    assert_eq!(build.differences(), [""; 0], "{words}");

    // The other version in that place is not what is needed.
    let index = build.at("source/node_modules/shared/index.js");
    std::fs::remove_file(&index).unwrap();
    std::fs::write(&index, "module.exports = 'shared@2.0.0';\n").unwrap();
    assert_eq!(build.differences(), ["changed node_modules/shared/index.js"]);
}

/// Packages made here, each with the files of its tarball; `package.json` is added. Bun reads all of it from the cache.
struct Made<'a> {
    row: &'a str,
    info: &'a str,
    top: &'a str,
    files: &'a [(&'a str, u32, &'a str)],
}

/// One of a registry, whose row has its key and what it resolves to.
fn made<'a>(row: &'a str, info: &'a str, files: &'a [(&'a str, u32, &'a str)]) -> Made<'a> {
    Made { row, info, top: "package", files }
}

fn tarball(one: &Made<'_>) -> Vec<u8> {
    // `"key": ["name@version", …`: the tarball is the package of its row, whatever it is installed as.
    let row = one.row.split('"').nth(3).expect("a row with a name");
    let at = row[1..].find('@').map(|at| at + 1).expect("a resolution");
    let own = serde_json::json!({ "name": row[..at], "version": row[at + 1..], "from": one.row });
    let own = own.to_string();
    let own = [("package.json", 0o644, own.as_str())];
    let files = one.files.iter().chain(&own);
    let files: Vec<(String, u32, &[u8])> = files
        .map(|(path, mode, text)| (format!("{}/{path}", one.top), *mode, text.as_bytes()))
        .collect();
    tgz(&files)
}

/// A project whose packages have every shape that the comparison has a rule for.
#[test]
fn every_rule_of_the_comparison_is_what_a_real_bun_does() {
    let made = [
        made(
            r#""a": ["a@1.0.0", "", {INFO}, "SRI"]"#,
            r#""dependencies": {"b": "2", "c": "1"}, "bin": {"a": "./bin/a.js", "deep": "bin/../bin/lf.js",
                "gone": "nothing.js", "both": "bin/a.js"}"#,
            &[
                ("bin/a.js", 0o644, "#!/usr/bin/env bun\r\n1\r\n"),
                ("bin/lf.js", 0o644, "#!/usr/bin/env bun\n2\r\n"),
                ("other.js", 0o644, "#!/usr/bin/env bun\r\nno command\r\n"),
                ("tool.sh", 0o755, "#!/bin/sh\n"),
            ],
        ),
        Made {
            row: r#""a/b": ["b@2.0.0-rc.1+build.7", "", {INFO}, "SRI"]"#,
            info: r#""bin": "b.js""#,
            top: "anything",
            files: &[("b.js", 0o644, "b2"), ("node_modules/in/x.js", 0o644, "inside")],
        },
        made(
            r#""alias": ["@s/real@1.0.0", "", {INFO}, "SRI"]"#,
            r#""bin": "r.js""#,
            &[("r.js", 0o644, "r")],
        ),
        made(
            r#""b": ["b@1.0.0", "", {INFO}, "SRI"]"#,
            r#""bin": {"b": "b.js", "both": "b.js"}, "peerDependencies": {"p": "1", "q": "1"}, "optionalPeers": ["q"]"#,
            &[("b.js", 0o644, "b1"), ("old.js", 0o644, "")],
        ),
        made(
            r#""c": ["c@1.0.0", "", {INFO}, "SRI"]"#,
            r#""binDir": "bins", "optionalDependencies": {"mac": "1", "lin": "1"}"#,
            &[("bins/one", 0o644, "1"), ("bins/sub/two", 0o644, "2")],
        ),
        made(
            r#""d": ["d@1.0.0", "", {INFO}, "SRI"]"#,
            r#""dependencies": {"e": "1"}"#,
            &[("index.js", 0o644, "d"), ("node_modules/e/index.js", 0o644, "bundled")],
        ),
        made(r#""d/e": ["e@1.0.0", "", {INFO}, "SRI"]"#, r#""bundled": true"#, &[]),
        Made {
            row: r#""g": ["g@github:o/r#abc1234", {INFO}, "o-r-abc1234", "SRI"]"#,
            info: "",
            top: "o-r-abc1234",
            files: &[("index.js", 0o644, "g")],
        },
        made(
            r#""lin": ["lin@1.0.0", "", {INFO}, "SRI"]"#,
            r#""os": ["!win32"], "cpu": "x64""#,
            &[("l.node", 0o755, "l")],
        ),
        made(
            r#""mac": ["mac@1.0.0", "", {INFO}, "SRI"]"#,
            r#""os": "darwin", "dependencies": {"only": "1"}"#,
            &[],
        ),
        made(r#""only": ["only@1.0.0", "", {INFO}, "SRI"]"#, "", &[]),
        made(r#""p": ["p@1.0.0", "", {INFO}, "SRI"]"#, "", &[]),
    ];
    let store = Store::open(&util::shared_store()).unwrap();
    let mut files = BTreeMap::new();
    let mut rows = String::new();
    for one in &made {
        let file = store.put(&tarball(one), Algorithm::Sha512).unwrap();
        let row = one.row.replace("INFO", one.info).replace("SRI", &file.digest().to_sri());
        rows.push_str(&format!("{row},\n"));
        files.insert(file.digest().clone(), Tarball::open(file).unwrap());
    }
    let wants = r#""dependencies": {"a": "1", "alias": "npm:@s/real@1", "b": "1", "d": "1", "g": "github:o/r#abc1234"}"#;
    let project = Project {
        package: format!("{{\"name\": \"source\", {wants}}}"),
        lock: format!(
            "{{\"lockfileVersion\": 1, \"configVersion\": 1, \"workspaces\": {{\"\": {{\"name\": \"source\", {wants}}}}},\n\
             \"packages\": {{\n{rows}}}}}"
        ),
    };
    let build = Build::new(&project, &[], |_, _| files);
    let (good, words) = build.install();
    assert!(good, "{words}");
    assert_eq!(build.differences(), [""; 0], "{words}");
    // The rules that this depends on were at work.
    let modules = build.at("source/node_modules");
    for there in
        [".bin/both", ".bin/one", ".bin/alias", "a/node_modules/.bin/b", "g/.bun-tag", "lin", "p"]
    {
        assert!(modules.join(there).exists(), "{there}");
    }
    for away in [".bin/gone", "mac", "only", "d/node_modules/e/package.json"] {
        assert!(!modules.join(away).exists(), "{away}");
    }
    let rewritten = std::fs::read_to_string(modules.join("a/bin/a.js")).unwrap();
    assert_eq!(rewritten, "#!/usr/bin/env bun\n1\r\n");
}
