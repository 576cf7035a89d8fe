//! `admit lock` from a source to a record: what it proposes, asks for and refuses, and that what it wrote builds. The
//! sources are small repositories made here, behind a mirror.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::files::{self, tgz, write};
use crate::guides::{lines, prepare};
use crate::loopback::{Reply, Server};
use crate::repo::{Repo, commit, from_mirror, mirror, on_mirror};
use crate::util::{Run, World, project};

/// A package of the registry that the sources depend on.
pub const PARSE_MS: &str = r#""parse-ms": ["parse-ms@4.0.0", "", {}, "sha512-TXfryirbmq34y8QBwgqCVLi+8oA3oWx2eAnSn62ITyEhEYaWRlVZ2DvMM9eZbMs/RfxPu/PK/aBLyGj4IrqMHw=="]"#;
pub const MAIN: &str = "import parseMs from 'parse-ms';\n\
    console.log('Usage: tool <command>\\n  run|r  runs for ' + parseMs(1).milliseconds);";
pub const PACKAGE: &str = r#"{"name": "tool", "license": "MIT",
    "scripts": {"build": "bun build --compile main.ts --outfile dist/tool"}, "dependencies": {"parse-ms": "4.0.0"}}"#;

pub fn bun_lock(workspaces: &str) -> String {
    format!(
        "{{\"lockfileVersion\": 1, \"configVersion\": 1, \"workspaces\": {{ {workspaces} }}, \"packages\": {{ {PARSE_MS}, }} }}\n"
    )
}

pub fn root_lock() -> String {
    bun_lock(r#""": {"name": "tool", "dependencies": {"parse-ms": "4.0.0"}}"#)
}

/// The lock of a tool with these needs, `rows` for them beside that of parse-ms, and `more` before.
pub fn tool_lock(needs: &str, more: &str, rows: &str) -> String {
    format!(
        r#"{{"lockfileVersion": 1, "configVersion": 1, "workspaces": {{"": {{"name": "tool", "dependencies": {{{needs}}}}}}},
        {more} "packages": {{ {rows}, {PARSE_MS} }} }}"#
    )
}

/// A source at `https://provider.invalid/NAME.git`.
pub struct Source<'a> {
    world: &'a World,
    pub name: String,
    pub rev: String,
}

impl<'a> Source<'a> {
    pub fn new(world: &'a World, name: &str, files: &[(&str, &str)]) -> Self {
        let rev = commit(&mirror(world).join(name), files);
        // The plan names the provider, and the store is shared with earlier runs of these tests.
        let name = format!("{name}-{}", std::process::id());
        let rename = mirror(world).join(&name);
        std::fs::rename(mirror(world).join(name.rsplit_once('-').unwrap().0), rename).unwrap();
        Self { world, name, rev }
    }

    fn plain(world: &'a World, name: &str) -> Self {
        let files = [("package.json", PACKAGE), ("bun.lock", &root_lock()), ("main.ts", MAIN)];
        Self::new(world, name, &files)
    }

    pub fn admit(&self, args: &[&str]) -> Run {
        on_mirror(self.world, args)
    }

    /// `admit lock` for what is there already.
    pub fn change(&self, flags: &[&str]) -> Run {
        self.admit(&[&["lock", &self.name], flags].concat())
    }

    pub fn build(&self, flags: &[&str]) -> Run {
        self.admit(&[&["build", &self.name], flags].concat())
    }

    pub fn url(&self) -> String {
        format!("https://provider.invalid/{}.git", self.name)
    }

    /// `admit lock` for the commit.
    pub fn lock(&self, flags: &[&str]) -> Run {
        let url = self.url();
        let start = ["lock", &self.name, "--source", &url, "--rev", &self.rev];
        self.admit(&[&start[..], flags].concat())
    }

    fn path(&self) -> PathBuf {
        self.world.root().join(format!("lockfiles/{}.lock.json", self.name))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    pub fn json(&self) -> Value {
        files::json(self.path())
    }

    /// Refused, with nothing written.
    pub fn refused(&self, flags: &[&str], code: i32, reason: &str) -> String {
        let run = self.lock(flags).refuse(code, reason);
        assert!(!self.path().exists(), "{run}");
        run.stderr()
    }

    /// From the lock to a verified record; gives the report.
    pub fn recorded(&self) -> Value {
        self.build(&[]).expect(0);
        self.change(&["--update"]).expect(0);
        let json = self.build(&["--record", "--json"]).expect(0).json();
        self.admit(&["verify", &self.name]).expect(0);
        json["report"].clone()
    }
}

#[test]
fn a_lock_is_proposed_asked_for_built_and_changed_without_another_build() {
    let world = World::with_shared_store();
    let source = Source::plain(&world, "plain");
    let said = source.refused(&[], 2, "bad_argument");
    assert!(said.contains("--bun VERSION") && said.contains("nothing was written"), "{said}");
    let run = source.lock(&["--bun", "1.3.14"]).expect(0);
    assert!((run.stderr() + &run.stdout()).contains("scripts.build"), "{run}");
    let lock = source.json();
    assert_eq!(lock["build"]["steps"], json!([["bun", "run", "build"]]));
    assert_eq!(lock["build"]["output"], "dist/tool");
    assert_eq!(lock["license"]["spdx"], "MIT");
    for other in ["ca\"", "workos", "--task", "create", "package-assets"] {
        assert!(!source.text().contains(other), "{other} is another provider's\n{}", source.text());
    }
    assert_eq!(source.recorded()["identity"]["help_first_line"], "Usage: tool <command>");
    assert_eq!(source.json()["identity"]["help_first_line"], "Usage: tool <command>");

    // What is left out stays; an alias is a name; nothing is built for another identity.
    source.change(&["--help-command", "r"]).expect(0);
    let lock = source.json();
    assert_eq!(lock["identity"]["commands"], json!(["r"]));
    assert_eq!(lock["identity"]["help_first_line"], "Usage: tool <command>");
    assert!(lock["outputs"]["linux-x64"].is_object());
    assert!(lock["dependencies"]["packages"].is_array());
    let run = source.build(&["--record", "--json"]).expect(0);
    assert_eq!(run.json()["fresh"], false, "{run}");
    source.admit(&["verify", &source.name, "--deep"]).expect(0);
    source.change(&["--help-line", "Usage: other", "--help-command", "gone"]).expect(0);
    let run = source.build(&[]).refuse(6, "wrong_provider_identity");
    let said = run.stderr();
    assert!(!said.contains("step "), "nothing is built: {said}");
    for words in [
        &*format!("admit lock {} --help-line 'Usage: tool <command>'", source.name),
        "also the commands in --help",
        "gone",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    source.change(&["--script", ""]).expect(2);
    source.change(&["--clear", "help-commands", "--help-line", "Usage: {version}"]).expect(0);
    assert_eq!(source.json()["identity"]["commands"], json!([]));
}

#[test]
fn locks_are_listed_compared_and_moved_to_the_newest_commit() {
    let world = World::with_shared_store();
    let source = Source::plain(&world, "moved");
    source.lock(&["--bun", "1.3.14"]).expect(0);
    source.admit(&["lock"]).expect(0).shows(&source.name).shows("understudy");
    let newer = commit(&mirror(&world).join(&source.name), &[("README", "x")]);
    assert_ne!(newer, source.rev);
    let run = source.change(&["--rev", "newest"]).expect(0);
    run.shows(&format!("source.rev: {} -> {newer}", source.rev));
    source.change(&["--rev", "newest"]).expect(0).shows("UNCHANGED");
    let run = source.admit(&["lock", "diff", &source.name, "understudy"]).expect(1);
    run.shows("build.output: dist/tool -> dist/ca");
    source.admit(&["lock", "diff", "understudy", "understudy"]).expect(0);
    source.admit(&["lock", "diff", "understudy", "nobody"]).refuse(2, "provider_not_locked");
    source.admit(&["lock", "new"]).refuse(2, "bad_argument");
}

#[test]
fn a_lock_that_moves_is_looked_at_anew() {
    let world = World::with_shared_store();
    let package = |version: &str, more: &str| {
        format!(
            r#"{{"name": "tool", "version": "{version}", "license": "MIT", "dependencies": {{"parse-ms": "4.0.0"}}, {more}}}"#
        )
    };
    let main = |version: &str| format!("console.log('tool {version}\\n  run');\n");
    let build = "bun build --compile --no-compile-autoload-bunfig --no-compile-autoload-dotenv main.ts --outfile";
    let first = package("1.0.0", &format!(r#""scripts": {{"build": "{build} dist/tool"}}"#));
    let files = [
        ("package.json", first.as_str()),
        ("bun.lock", &root_lock()),
        ("main.ts", &main("1.0.0")),
        (".bun-version", "1.3.14\n"),
    ];
    let source = Source::new(&world, "anew", &files);
    source.lock(&["--ambient", "hardened"]).expect(0);
    source.recorded();
    let before = source.text();
    assert!(before.contains("tool 1.0.0"), "{before}");

    let second = package(
        "1.1.0",
        r#""trustedDependencies": ["parse-ms"],
        "scripts": {"compile": "bun build --compile main.ts --outfile out/tool", "postinstall": "bun made.ts"}"#,
    );
    let made = "await Bun.write('made.json', '{}');";
    let files = [("package.json", second.as_str()), ("main.ts", &main("1.1.0")), ("made.ts", made)];
    let newer = commit(&mirror(&world).join(&source.name), &files);
    let run = source.change(&["--rev", "newest"]).refuse(2, "bad_argument");
    run.told("--script parse-ms, or --skip-script parse-ms");
    assert_eq!(source.text(), before, "nothing is written");
    source.change(&["--rev", "newest", "--skip-script", "parse-ms"]).expect(0);
    let lock = source.json();
    assert_eq!(lock["source"]["rev"], newer.as_str());
    assert_eq!(lock["build"]["steps"], json!([["bun", "run", "compile"]]));
    assert_eq!(lock["build"]["output"], "out/tool");
    assert_eq!(lock["build"]["lifecycle"], "run");
    assert_eq!(lock["identity"]["help_first_line"], "tool 1.1.0");

    // How it was compiled shows in the output alone: the refusal names the flag, and nothing is built twice.
    let fix = format!("admit lock {} --ambient neutralise", source.name);
    source.build(&[]).refuse(6, "wrong_provider_identity").told(&fix);
    source.change(&["--ambient", "neutralise"]).expect(0);
    source.recorded();
    source.admit(&["verify", &source.name]).expect(0);
    source.change(&["--ambient", "hardened"]).expect(0);
    let run = source.build(&[]).refuse(6, "wrong_provider_identity");
    assert!(run.stderr().contains(&fix) && !run.stderr().contains("step "), "{run}");

    // What was given by hand stays, and what the source says beside it is told.
    let by_hand = ["--step", "bun build --compile main.ts --outfile own", "--output", "own"];
    source.change(&by_hand).expect(0);
    let third = second.replace("out/tool", "bin/tool").replace("1.1.0", "1.2.0");
    commit(&mirror(&world).join(&source.name), &[("package.json", &third)]);
    let run = source.change(&["--rev", "newest"]).expect(0);
    let lock = source.json();
    assert_eq!(lock["build"]["output"], "own");
    assert_eq!(lock["build"]["skips"], json!(["parse-ms"]));
    assert!((run.stdout() + &run.stderr()).contains("--output bin/tool"), "{run}");
}

#[test]
fn a_workspace_with_commands_lifecycle_scripts_and_trust_is_built() {
    let world = World::with_shared_store();
    let root = r#"{"name": "root", "private": true, "workspaces": ["packages/*"], "packageManager": "bun@1.3.14"}"#;
    let cli = r#"{"name": "@x/cli", "version": "1.0.0", "bin": {"tool": "./main.ts"}, "trustedDependencies": ["parse-ms"],
        "scripts": {"compile": "bun build --compile ./main.ts --outfile dist/tool", "postinstall": "bun made.ts"},
        "dependencies": {"@x/lib": "workspace:*"}}"#;
    let lib = r#"{"name": "@x/lib", "version": "1.0.0", "main": "lib.ts", "dependencies": {"parse-ms": "4.0.0"}}"#;
    let lock = format!(
        r#"{{"lockfileVersion": 1, "configVersion": 1, "workspaces": {{
            "": {{"name": "root"}},
            "packages/cli": {{"name": "@x/cli", "version": "1.0.0", "bin": {{"tool": "./main.ts"}}, "dependencies": {{"@x/lib": "workspace:*"}}}},
            "packages/lib": {{"name": "@x/lib", "version": "1.0.0", "dependencies": {{"parse-ms": "4.0.0"}}}} }},
            "trustedDependencies": ["parse-ms"],
            "packages": {{ "@x/cli": ["@x/cli@workspace:packages/cli"], "@x/lib": ["@x/lib@workspace:packages/lib"], {PARSE_MS} }} }}"#
    );
    let files = [
        ("package.json", root),
        ("bun.lock", lock.as_str()),
        // A registry that is not there: it has no say in an install without network.
        (".npmrc", "registry=http://127.0.0.1:9/\n"),
        ("bunfig.toml", "[install]\nregistry = \"http://127.0.0.1:9/\"\n"),
        ("packages/cli/package.json", cli),
        (
            "packages/cli/main.ts",
            "#!/usr/bin/env bun\nimport { made } from './made.json';\nimport { ms } from '@x/lib';\nconsole.log('Usage: ' + made + ms);",
        ),
        (
            "packages/cli/made.ts",
            "await Bun.write('made.json', JSON.stringify({ made: 'made at install ' }));",
        ),
        ("packages/lib/package.json", lib),
        (
            "packages/lib/lib.ts",
            "import parseMs from 'parse-ms';\nexport const ms = parseMs(1).milliseconds;",
        ),
    ];
    let source = Source::new(&world, "workspace", &files);
    let said = source.refused(&[], 2, "bad_argument");
    assert!(said.contains("--script parse-ms, or --skip-script parse-ms"), "{said}");
    source.lock(&["--skip-script", "parse-ms"]).expect(0);
    let lock = source.json();
    assert_eq!(lock["toolchain"]["bun"]["version"], "1.3.14");
    assert_eq!(lock["build"]["lifecycle"], "run");
    assert_eq!(lock["build"]["output"], "packages/cli/dist/tool");
    assert_eq!(lock["build"]["linker"], "isolated", "as Bun takes it for this lock");
    let report = source.recorded();
    assert_eq!(report["identity"]["help_first_line"], "Usage: made at install 1");
    let ran = report["build_command"].to_string();
    assert!(ran.contains("--linker=isolated"), "{ran}");
    assert!(ran.contains("postinstall") && ran.contains("packages/cli"), "{ran}");

    // A lock that does not decide is refused by name, and with --lifecycle skip the file is not made.
    source.change(&["--clear", "lifecycle"]).expect(0);
    let run = source.build(&[]).refuse(3, "unsupported_source");
    run.told("packages/cli:postinstall").told("--lifecycle run");
    source.change(&["--lifecycle", "skip", "--linker", "hoisted"]).expect(0);
    source.build(&[]).refuse(6, "step_failed").told("asks for Bun's isolated linker");
}

#[test]
fn every_program_of_a_source_gets_a_lock_of_its_own() {
    let world = World::with_shared_store();
    let package = r#"{"name": "x", "dependencies": {"parse-ms": "4.0.0"}, "scripts": {
        "a": "bun build --compile a.ts --outfile dist/helper", "b": "bun build --compile b.ts --outfile dist/pair"}}"#;
    let lock = format!(
        r#"{{"lockfileVersion": 1, "workspaces": {{"": {{"name": "x", "dependencies": {{"parse-ms": "4.0.0"}}}}}}, "packages": {{ {PARSE_MS} }} }}"#
    );
    let files = [
        ("package.json", package),
        ("bun.lock", &lock),
        ("a.ts", "console.log('Usage: helper')"),
        ("b.ts", "console.log('Usage: pair')"),
    ];
    let source = Source::new(&world, "pair", &files);
    let said = source.refused(&["--bun", "1.3.14"], 2, "bad_argument");
    assert!(said.contains("--each-output"), "{said}");
    let url = source.url();
    let start = ["lock", "pair", "--source", &url, "--rev", &source.rev, "--bun", "1.3.14"];
    let json = source.admit(&[&start[..], &["--each-output", "--json"]].concat()).expect(0).json();
    assert_eq!(json["locks"][0]["provider"], "pair-helper");
    assert_eq!(json["locks"][1]["output"], "dist/pair");
    for (name, line) in [("pair", "Usage: pair"), ("pair-helper", "Usage: helper")] {
        let json = source.admit(&["build", name, "--json"]).expect(0).json();
        assert_eq!(json["report"]["identity"]["help_first_line"], line);
    }
}

#[test]
fn a_lock_in_a_subdirectory_and_a_step_that_asks_git() {
    let world = World::with_shared_store();
    let package = r#"{"name": "tool", "scripts": {"build":
        "bun build --compile main.ts --outfile dist/tool --define REV='\"'$(git rev-parse HEAD)'\"'"}, "dependencies": {"parse-ms": "4.0.0"}}"#;
    let main =
        "import parseMs from 'parse-ms';\nconsole.log('Usage: ' + REV + parseMs(1).milliseconds);";
    let files = [
        ("app/package.json", package),
        ("app/bun.lock", &root_lock()),
        ("app/main.ts", main),
        ("app/.bun-version", "1.3.14\n"),
        ("README", "x"),
    ];
    let source = Source::new(&world, "below", &files);
    source.lock(&[]).expect(0);
    let lock = source.json();
    assert_eq!(lock["dependencies"]["lockfile"], "app/bun.lock");
    assert_eq!(lock["build"]["git"], true);
    assert_eq!(lock["build"]["output"], "app/dist/tool");
    assert_eq!(source.recorded()["identity"]["help_first_line"], format!("Usage: {}1", source.rev));
    source.change(&["--git", "false"]).expect(0);
    let run = source.build(&[]);
    assert_ne!(run.code(), Some(0), "{run}");
    let fix = format!("one that answers from the pin: admit lock {} --git true", source.name);
    assert!(run.stderr().contains(&format!("git rev-parse HEAD. {fix}")), "{run}");
    let script = "V=$(git --no-optional-locks log -1 '--format=%cs %h')\ngit tag\nbun build --compile main.ts --outfile dist/tool --define \"REV='$V'\"\n";
    let files = [&files[..], &[("app/build.sh", script)]].concat();
    let source = Source::new(&world, "format", &files);
    let step = ["--step", "sh build.sh", "--output", "app/dist/tool", "--git", "true"];
    source.lock(&step).expect(0);
    source.build(&[]).expect(0).told("went on: git tag. the git of a build");
    let report = &source.build(&["--json"]).expect(0).json()["report"];
    // The day on which `Repo` commits.
    let said = format!("Usage: 2023-11-14 {}1", &source.rev[..7]);
    assert_eq!(report["identity"]["help_first_line"], said.as_str());
}

/// A package as npm packs it.
fn tarball(name: &str, code: &str) -> Vec<u8> {
    packed(&format!(r#"{{"name": "{name}", "version": "1.0.0", "main": "index.js"}}"#), code)
}

pub fn packed(manifest: &str, code: &str) -> Vec<u8> {
    let files = [("package/package.json", manifest), ("package/index.js", code)];
    tgz(&files.map(|(path, text)| (path, 0o644, text.as_bytes())))
}

#[test]
fn tarballs_catalogs_overrides_and_a_private_registry() {
    let world = World::with_shared_store();
    let sri = |bytes: &[u8]| crate::fetch::sha512(bytes).to_sri();
    let (near, far, own) = (
        tarball("near", "export const near = 'near ';"),
        tarball("far", "export const far = 'far ';"),
        tarball("@own/it", "export const own = 'own ';"),
    );
    let (near_sri, far_sri, own_sri) = (sri(&near), sri(&far), sri(&own));
    let server = Server::http(move |_, asked| match asked.target.as_str() {
        "/far.tgz" => Reply::ok(far.clone()),
        "/npm/@own/it/-/it-1.0.0.tgz" => Reply::ok(own.clone()),
        _ => Reply::status(404),
    });
    let (url, registry) = (server.url("/far.tgz"), server.url("/npm/"));
    let needs = format!(
        r#""near": "./near.tgz", "far": "{url}", "@own/it": "1.0.0", "parse-ms": "catalog:", "debug": "4.4.1""#
    );
    let package = format!(
        r#"{{"name": "tool", "workspaces": {{"packages": [], "catalog": {{"parse-ms": "4.0.0"}}}}, "overrides": {{"ms": "2.1.3"}},
        "packageManager": "bun@1.3.14", "scripts": {{"build": "bun build --compile main.ts --outfile dist/tool"}}, "dependencies": {{{needs}}}}}"#
    );
    let more = r#""overrides": {"ms": "2.1.3"}, "catalog": {"parse-ms": "4.0.0"},"#;
    let rows = format!(
        r#""@own/it": ["@own/it@1.0.0", "{registry}@own/it/-/it-1.0.0.tgz", {{}}, "{own_sri}"],
        "debug": ["debug@4.4.1", "", {{"dependencies": {{"ms": "^2.1.3"}}, "peerDependencies": {{"supports-color": "*"}}, "optionalPeers": ["supports-color"]}}, "sha512-KcKCqiftBJcZr++7ykoDIEwSa3XWowTfNPo92BYxjXiyYEVrUQh2aLyhxBCwww+heortUFxEJYcRzosstTEBYQ=="],
        "far": ["far@{url}", {{}}, "{far_sri}"],
        "ms": ["ms@2.1.3", "", {{}}, "sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA=="],
        "near": ["near@./near.tgz", {{}}, "{near_sri}"]"#
    );
    let lock = tool_lock(&needs, more, &rows);
    let main = "import { near } from 'near';\nimport { far } from 'far';\nimport { own } from '@own/it';\n\
        import debug from 'debug';\nimport parseMs from 'parse-ms';\n\
        console.log('Usage: ' + near + far + own + typeof debug + parseMs(1).milliseconds);";
    let files = [
        ("package.json", package.as_str()),
        ("bun.lock", &lock),
        ("main.ts", main),
        (".npmrc", &format!("@own:registry={registry}\n")),
    ];
    write(mirror(&world).join("kinds/near.tgz"), &near);
    let source = Source::new(&world, "kinds", &files);
    source.lock(&[]).expect(0);
    assert_eq!(source.recorded()["identity"]["help_first_line"], "Usage: near far own function1");
    let kinds = source.json()["dependencies"]["packages"].to_string();
    assert_eq!(kinds.matches("\"tarball\"").count(), 2, "{kinds}");
    source.change(&["--bun", "1.4.4"]).expect(0);
    source.build(&[]).refuse(3, "package_kind").told("--bun 1.3.14");
}

#[test]
fn what_is_no_current_bun_project_is_refused_by_name_and_leaves_nothing() {
    let world = World::with_shared_store();
    let bun = ["--bun", "1.3.14"];
    let no = |name: &str, files: &[(&str, &str)], code: i32, reason: &str, words: &[&str]| {
        let source = Source::new(&world, name, files);
        let said = source.refused(&bun, code, reason);
        for words in words {
            assert!(said.contains(words), "{name}: {words}\n{said}");
        }
    };
    let lock = root_lock();
    let package = ("package.json", PACKAGE);
    let rust = ["no package.json, but Cargo.toml"];
    no("rust", &[("Cargo.toml", "")], 3, "unsupported_source", &rust);
    let npm = ["package-lock.json (npm's lock)", "bun install --save-text-lockfile"];
    no("npm", &[package, ("package-lock.json", "{}")], 3, "unsupported_source", &npm);
    no("old", &[package, ("bun.lockb", "x")], 3, "unsupported_source", &["Bun's old binary lock"]);
    let two = ["--lockfile bun.lock", "yarn.lock (Yarn's lock)"];
    no("two", &[package, ("bun.lock", &lock), ("yarn.lock", "x")], 2, "bad_argument", &two);
    let apart = [
        ("a/bun.lock", lock.as_str()),
        ("b/bun.lock", &lock),
        ("a/package.json", PACKAGE),
        ("b/package.json", PACKAGE),
    ];
    no("apart", &apart, 2, "bad_argument", &["--lockfile PATH", "a/bun.lock, b/bun.lock"]);
    let newer = PACKAGE.replace("4.0.0", "4.1.0");
    let stale =
        ["out of date", "parse-ms 4.1.0", "parse-ms 4.0.0", "bun install, and commit bun.lock"];
    no("stale", &[("package.json", &newer), ("bun.lock", &lock)], 2, "bad_record", &stale);
    let gone = bun_lock(
        r#""": {"name": "tool", "dependencies": {"parse-ms": "4.0.0"}}, "packages/x": {"name": "x"}"#,
    );
    let missing = ["no manifest in the source", "packages/x/package.json"];
    no("gone", &[package, ("bun.lock", &gone)], 2, "bad_record", &missing);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n";
    let files = [package, ("bun.lock", &lock), ("main.ts", MAIN), ("a.wasm", pointer)];
    no("lfs", &files, 2, "bad_argument", &["--lfs-pointer a.wasm"]);
    let source = Source::new(&world, "pointer", &files);
    source.lock(&[&bun[..], &["--lfs-pointer", "a.wasm"]].concat()).expect(0);
    source.change(&["--clear", "lfs-pointers"]).expect(0);
    source.build(&[]).refuse(3, "unsupported_source").told("--lfs-pointer a.wasm");
}

#[test]
fn a_source_of_20_000_files_is_built_with_1_024_descriptors() {
    let world = World::with_shared_store();
    let mut source = Source::plain(&world, "many");
    let repo = Repo(mirror(&world).join(&source.name));
    let blob = repo.git_with(&["hash-object", "-w", "--stdin"], b"x");
    let tree = |entries: usize, kind: &str, id: &str| {
        let rows: String = (0..entries).map(|n| format!("{kind} {id}\t{n}\n")).collect();
        repo.git_with(&["mktree"], rows.as_bytes())
    };
    let data = tree(100, "040000 tree", &tree(200, "100644 blob", &blob));
    let rows = repo.git(&["ls-tree", "HEAD"]) + &format!("\n040000 tree {data}\tdata\n");
    let root = repo.git_with(&["mktree"], rows.as_bytes());
    source.rev = repo.git(&["commit-tree", "-p", "HEAD", "-m", "x", &root]);
    repo.git(&["update-ref", "HEAD", &source.rev]);
    let mirror = from_mirror(&world);
    let few = |args: &[&str]| {
        world.under("ulimit -n 1024", &[args, &["--mirror", &mirror]].concat()).expect(0)
    };
    let url = source.url();
    few(&["lock", &source.name, "--source", &url, "--rev", &source.rev, "--bun", "1.3.14"]);
    few(&["build", &source.name]);
    // A limit that may be raised is.
    let again = ["build", &source.name, "--rebuild", "--mirror", &mirror];
    world.under("ulimit -S -n 256", &again).expect(0);
}

#[test]
fn the_guide_for_ones_own_provider_works_as_it_is_written() {
    let mut world = World::with_own_store();
    prepare(&mut world);
    write(mirror(&world).join("data/words.txt"), "words");
    let guide = std::fs::read_to_string(project().join("docs/own-provider.md")).unwrap();
    let lines = lines(&guide, "sh");
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        assert!(line.starts_with("admit "), "no command of admit: {line}");
        world.shell(&line).expect(0);
    }
}
