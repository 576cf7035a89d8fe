//! `admit build` from the command line, with the real Bun and the embedded stand-in provider: what it gives, what it
//! refuses, and that nothing is left behind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::files::{mode, names, shipped};
use crate::lock::root_lock;
use crate::processes::{alive, wait_for};
use crate::repo::{commit, mirror, on_mirror};
use crate::run::row;
use crate::trial::{CASE, lock_case};
use crate::util::{Run, World};
use crate::verify::in_state;

/// A provider that is a variation of the stand-in: its lock lies in this world's own records.
pub fn variation(world: &World, name: &str, change: impl FnOnce(&mut Value)) {
    let mut lock = shipped("lockfiles/understudy.lock.json");
    lock["provider"] = name.into();
    change(&mut lock);
    world.put(&format!("lockfiles/{name}.lock.json"), admit::record::pretty(&lock));
}

const PACKAGE_JSON: &str = r#"{"name":"tool","private":true,"scripts":{"build:binary":"bun build.ts"},"dependencies":{"parse-ms":"4.0.0"}}"#;
const BUILD: &str = "await Bun.$`bun build --compile main.ts --outfile dist/ca`;";
const MAIN: &str = "console.log('Usage: ca <command> [options]\\n  run  runs');";

/// A provider of a few files, in a git repository of its own that stands behind a mirror.
pub fn provider(
    world: &World,
    name: &str,
    files: &[(&str, &str)],
    change: impl FnOnce(&mut Value),
) -> Run {
    let repo = mirror(world).join(name);
    let base = [
        ("package.json", PACKAGE_JSON),
        ("bun.lock", &root_lock()),
        ("build.ts", BUILD),
        ("main.ts", MAIN),
    ];
    let rev = commit(&repo, &[&base[..], files].concat());
    variation(world, name, |lock| {
        lock["source"] =
            json!({ "url": format!("https://provider.invalid/{name}.git"), "rev": rev });
        lock["identity"] =
            json!({ "help_first_line": "Usage: ca <command> [options]", "commands": ["run"] });
        lock["build"] = json!({
            "path": format!("/tmp/{name}"), "steps": [["bun", "run", "build:binary"]], "output": "dist/ca" });
        lock.as_object_mut().unwrap().remove("outputs");
        change(lock);
    });
    on_mirror(world, &["build", name, "--step-timeout", "60"])
}

fn plain(name: &str, files: &[(&str, &str)]) -> Run {
    let world = World::with_shared_store();
    provider(&world, name, files, |_| ())
}

/// The digest of the stand-in.
const STAND_IN: &str = "f83300d4c87850ab1cb7542e67ff02923a532b973ae3a2f76e1d00d108d837b7";

#[test]
fn the_stand_in_is_built_recorded_verified_and_found_again() {
    let world = World::with_own_store();
    let run = world.admit(&["demo"]).expect(0);
    assert!(run.stdout().starts_with("ok    build "), "{run}");
    assert!(run.stderr().contains("fetch Bun 1.3.14"), "{run}");
    let last = run.stdout().lines().next_back().unwrap_or_default().to_owned();
    assert!(last.starts_with("REHEARSED  "), "{run}");
    world.admit(&["verify", "latest", "--accept", "rehearsed"]).expect(0);

    let again = world.admit(&["build", "understudy", "--json"]).expect(0);
    assert!(!again.stderr().contains("fetch"), "nothing is downloaded\n{again}");
    let again = again.json();
    assert_eq!(again["fresh"], false);
    assert_eq!(again["report"]["source_admission_status"], "admitted");
    assert_eq!(again["report"]["verification"], "locked");
    assert_eq!(again["report"]["sha256"], STAND_IN);

    let list = listing(world.path());
    world.admit(&["verify"]).expect(0);
    assert_eq!(list, listing(world.path()), "verify changes nothing");

    // One byte of the output.
    let output = PathBuf::from(again["output"].as_str().unwrap());
    flip(&output);
    let run = world.admit(&["verify", "--json"]).expect(5);
    let findings = &run.json()["providers"][0]["findings"];
    assert_eq!(in_state(findings, "failed"), ["binary_digest"], "{run}");
    world.admit(&["build", "understudy"]).refuse(5, "store_corrupt");
}

/// Whether there is something with this name at most `depth` levels below `dir`, where others work meanwhile.
fn has(dir: &Path, name: &str, depth: usize) -> bool {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        entry.file_name() == name || (depth > 1 && has(&entry.path(), name, depth - 1))
    })
}

/// Path, size, mode and times of everything below `dir`.
fn listing(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut out = Vec::new();
    let mut stack = vec![dir.to_path_buf()];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            out.push(format!("{} {} {:o} {times:?}", path.display(), meta.len(), meta.mode()));
            if meta.is_dir() {
                stack.push(path);
            }
        }
    }
    out.sort();
    out
}

fn flip(path: &Path) {
    let before = std::fs::metadata(path).unwrap().permissions();
    mode(path, 0o644);
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, before).unwrap();
}

#[test]
fn another_bun_is_looked_up_and_gives_another_digest() {
    let world = World::with_shared_store();
    let args = ["lock", "older-bun", "--like", "understudy", "--bun", "1.3.13", "--json"];
    let changes = world.admit(&args).expect(0).json();
    let sha256 = "b29d78892abd5a9398e0700f0cb602f725089602ed1a5082d681c7257b2bf4d0";
    assert!(changes.to_string().contains(sha256), "{changes}");
    let json = world.admit(&["build", "older-bun", "--json"]).expect(0).json();
    assert_eq!(json["report"]["verification"], "unlocked");
    assert_ne!(json["report"]["sha256"], STAND_IN);
    let none = ["lock", "x", "--like", "understudy", "--bun", "0.0.0-none"];
    world.admit(&none).refuse(2, "not_found");
}

#[test]
fn two_builds_give_the_same_report_outside_volatile() {
    let world = World::with_shared_store();
    let report = |args: &[&str]| {
        let json = world.admit(args).expect(0).json();
        (json["report_digest"].clone(), json["rebuilt"].clone())
    };
    let (first, _) = report(&["build", "understudy", "--json"]);
    let (second, rebuilt) = report(&["build", "understudy", "--rebuild", "--json"]);
    assert_eq!(first, second);
    assert_eq!(rebuilt["answer"], "reproduced");
}

#[test]
fn an_unlocked_build_is_an_answer_that_cannot_be_recorded() {
    let world = World::with_shared_store();
    // The plan names the provider, and the store is shared with earlier runs of this test.
    let name = format!("fresh-{}", std::process::id());
    let name = name.as_str();
    variation(&world, name, |lock| drop(lock.as_object_mut().unwrap().remove("outputs")));
    world.admit(&["lock", name, "--update"]).refuse(2, "not_found");
    let run = world.admit(&["build", name, "--json"]).expect(0);
    assert_eq!(run.json()["report"]["verification"], "unlocked");
    world.admit(&["build", name, "--record"]).refuse(3, "output_not_locked");
    let changes = world.admit(&["lock", name, "--update", "--json"]).expect(0).json();
    let mut changed = changes["changes"].as_array().unwrap().iter();
    assert!(changed.any(|c| c["field"] == "outputs.linux-x64"), "{changes}");
    world.admit(&["build", name, "--record"]).expect(0);
    world.admit(&["verify", name, "--deep"]).expect(0);
}

#[test]
fn an_altered_record_is_not_the_build() {
    let world = World::with_shared_store();
    let json = world.admit(&["build", "understudy", "--record", "--json"]).expect(0).json();
    world.admit(&["verify", "understudy"]).expect(0);
    let path = PathBuf::from(json["recorded"].as_str().unwrap());
    let good = crate::files::json(&path);
    for (field, value, check) in [
        ("bun_sha256", json!("0".repeat(64)), "toolchain_digest"),
        ("pinned_commit", json!("0".repeat(40)), "source_pin"),
        ("verification", json!("unlocked"), "build_report_matches"),
        ("origin", json!("adopted"), "build_report_matches"),
        ("size", json!(1), "build_report_matches"),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        std::fs::write(&path, serde_json::to_vec(&bad).unwrap()).unwrap();
        let run = world.admit(&["verify", "understudy", "--json"]).expect(5);
        let findings = &run.json()["providers"][0]["findings"];
        assert_eq!(in_state(findings, "failed"), [check], "{field}\n{run}");
        // A check of one field is named after it, that of all others names the field.
        let named = check != "build_report_matches" || run.stdout().contains(field);
        assert!(named, "{field}\n{run}");
        let again = world.admit(&["build", "understudy", "--json"]).expect(0).json();
        if field != "verification" {
            assert_eq!(again["report"]["source_admission_status"], "not_admitted", "{field}");
        }
    }
}

#[test]
fn a_lock_that_asks_for_more_is_not_answered_by_an_earlier_build() {
    let world = World::with_shared_store();
    world.admit(&["build", "understudy"]).expect(0);
    variation(&world, "understudy", |lock| {
        lock["identity"]["help_first_line"] = "Usage: evil".into()
    });
    world.admit(&["build", "understudy"]).refuse(6, "wrong_provider_identity");
    // Without flags a lock is shown, not made anew.
    world.admit(&["lock", "understudy"]).expect(0).shows("Usage: evil");
}

#[test]
fn bad_requests_have_their_codes() {
    let mut world = World::with_own_store();
    world.admit(&["build", "nobody"]).refuse(2, "provider_not_locked");
    let run = world.admit(&["build", "case@deadbee"]).refuse(2, "rev_not_locked");
    run.told("7959ac917cdeb0983b4aaa20bb9f42021747fed8");
    // No mirror and no way to the remote: one message, and nothing is left.
    world.set("HTTPS_PROXY", "http://127.0.0.1:9").set("https_proxy", "http://127.0.0.1:9");
    world.admit(&["build", "case@7959ac9"]).refuse(4, "unreachable");
    assert_eq!(names(world.store().join("v1/files")), [""; 0], "nothing was stored");
}

#[test]
fn a_step_that_fails_hangs_or_floods() {
    plain("fails", &[("build.ts", "console.error('no such thing'); process.exit(3);")])
        .refuse(6, "step_failed");
    let world = World::with_shared_store();
    let hang = [("build.ts", "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000);")];
    provider(&world, "hangs", &hang, |_| ());
    on_mirror(&world, &["build", "hangs", "--step-timeout", "2"]).refuse(9, "timed_out");
    let flood = "const line = 'x'.repeat(65536); for (let i = 0; i < 4000; i++) console.log(line); process.exit(4);";
    let run = plain("floods", &[("build.ts", flood)]).refuse(6, "step_failed");
    let said = run.stderr();
    assert!(said.contains("exit code 4"), "{run}");
    assert!(said.len() < 4 << 20, "the flood is not repeated: {} bytes", said.len());
}

#[test]
fn what_a_build_may_not_leave() {
    let mutated = "await Bun.write('package.json', '{}'); await Bun.$`bun build --compile main.ts --outfile dist/ca`;";
    plain("mutates", &[("build.ts", mutated)]).refuse(6, "source_mutated").told("package.json");
    plain("leaves-nothing", &[("build.ts", "")]).refuse(6, "output_missing");
    let text = "await Bun.$`mkdir -p dist`; await Bun.write('dist/ca', 'not executable');";
    plain("leaves-text", &[("build.ts", text)]).refuse(6, "output_not_executable");
    let link = "await Bun.$`mkdir -p dist`; require('fs').symlinkSync('/bin/sh', 'dist/ca');";
    plain("leaves-a-link", &[("build.ts", link)]).refuse(6, "output_not_executable");
    let script = "await Bun.$`mkdir -p dist`; await Bun.write('dist/ca', '#!/bin/sh\\necho'); \
                  require('fs').chmodSync('dist/ca', 0o755);";
    plain("leaves-a-script", &[("build.ts", script)]).refuse(5, "runtime_mismatch");
    plain("is-ended", &[("main.ts", "process.kill(process.pid, 'SIGKILL');")])
        .refuse(75, "killed_from_outside");
    plain("somebody-else", &[("main.ts", "console.log('a string library');")])
        .refuse(6, "wrong_provider_identity");
    // Larger than anything admit takes, and no room at all: a file with a hole.
    let sparse = "await Bun.$`mkdir -p dist`; const fs = require('fs'); const f = fs.openSync('dist/ca', 'w', 0o755); \
                  fs.ftruncateSync(f, 3 * 1024 ** 3);";
    plain("leaves-a-hole", &[("build.ts", sparse)]).refuse(9, "limit_hit");
}

#[test]
fn a_link_in_the_place_of_a_directory_is_not_followed() {
    // The whole of it elsewhere in the room, so that a path through the link would find just what it should.
    let moved = |what: &str| {
        format!(
            "await Bun.$`bun build --compile main.ts --outfile dist/ca`; const fs = require('fs'); \
             fs.cpSync('{what}', '/tmp/elsewhere', {{ recursive: true }}); fs.rmSync('{what}', {{ recursive: true }}); \
             fs.symlinkSync('../elsewhere', '{what}');"
        )
    };
    let output = plain("moves-dist", &[("build.ts", &moved("dist"))]);
    output.refuse(6, "output_missing");
    let files = [("build.ts", moved("sub")), ("sub/tracked.ts", "1".into())];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    plain("moves-source", &files).refuse(6, "source_mutated").told("sub/tracked.ts");
}

#[test]
fn what_is_refused_is_not_in_the_store_and_what_failed_is_kept_on_demand() {
    let mut world = World::with_shared_store();
    let shared = crate::util::shared_store();
    let stored = |digest: &str| shared.join("v1/files/sha256").join(&digest[..2]).join(digest);
    // The path is part of the digest, and this one nobody else has.
    let path = format!("/tmp/refused-{}", std::process::id());
    variation(&world, "refused", |lock| lock["build"]["path"] = path.as_str().into());
    let run =
        world.admit(&["build", "refused", "--keep-failed", "--json"]).refuse(5, "digest_mismatch");
    let found = run.json()["found"].as_str().unwrap().to_owned();
    let digest = found.strip_prefix("sha256:").unwrap().split(' ').next().unwrap().to_owned();
    assert!(!stored(&digest).exists(), "{run}");
    let fix = run.json()["fix"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    let kept = PathBuf::from(fix.strip_prefix("the failed build's files are in ").unwrap());
    let sha256 = admit::record::ids::Digest::sha256(&std::fs::read(kept.join("dist/ca")).unwrap());
    assert_eq!(sha256.to_hex(), digest, "what was refused can be looked at");

    world.set("ADMIT_STORE", shared.display().to_string());
    let doctor = world.admit(&["doctor", "--json"]).json();
    let check = row(&doctor["checks"], "store_kept");
    assert!(check["fix"].as_str().unwrap().contains("rm -rf"), "{check}");
    std::fs::remove_dir_all(kept).unwrap();
}

#[test]
fn a_differing_rebuild_is_an_answer_and_not_the_new_truth() {
    let world = World::with_shared_store();
    let name = format!("wavers-{}", std::process::id());
    let random = "await Bun.write('main.ts', `console.log('Usage: ca <command> [options]\\\\n  run  ${Math.random()}');`); \
                  await Bun.$`bun build --compile main.ts --outfile dist/ca`;";
    let writes = |lock: &mut Value| lock["build"]["writes"] = json!(["main.ts"]);
    provider(&world, &name, &[("build.ts", random)], writes).expect(0);
    let build = |more: &[&str]| on_mirror(&world, &[&["build", &name, "--json"], more].concat());
    let first = build(&[]).expect(0).json();
    let again = build(&["--rebuild"]).expect(1).json();
    assert_eq!(again["rebuilt"]["answer"], "differs", "{again}");
    assert_ne!(again["report"]["sha256"], first["report"]["sha256"]);
    let now = build(&[]).expect(0).json();
    assert_eq!(now["fresh"], false);
    assert_eq!(now["report"]["sha256"], first["report"]["sha256"], "the first stays on record");
}

#[test]
fn what_could_not_be_rebuilt_is_not_what_differs() {
    let world = World::with_shared_store();
    variation(&world, "differs", |lock| lock["build"]["path"] = "/tmp/differs".into());
    let run =
        world.admit(&["build", "differs", "--rebuild", "--json"]).refuse(5, "digest_mismatch");
    let json = run.json();
    assert_eq!((&json["schema"], &json["answer"]), (&"admit.rebuild/2".into(), &"differs".into()));
    let round = &json["rounds"][0];
    assert_ne!(round["product"]["sha256"], json["expected"]["sha256"], "{run}");
    assert_eq!(round["failed"]["error"]["reason"], "digest_mismatch", "{run}");

    let registry = crate::loopback::Server::http(|_, _| crate::loopback::Reply::ok("other bytes"));
    let world = World::with_own_store();
    let args = ["--json", "--registry", &registry.url("/")];
    let build = |more: &[&str]| world.admit(&[&["build", "understudy"], more, &args].concat());
    let run = build(&["--rebuild"]).refuse(4, "input_refused");
    assert_eq!(run.json()["answer"], "not_rebuilt", "{run}");
    assert_eq!(run.json()["rounds"][0]["failed"]["exit_code"], 4);
    build(&[]).refuse(5, "digest_mismatch");
}

#[test]
fn a_full_room_is_a_limit() {
    let fill = "const fs = require('fs'); const f = fs.openSync('filler', 'w'); const b = Buffer.alloc(8 << 20, 1); \
                for (;;) fs.writeSync(f, b);";
    plain("fills", &[("build.ts", fill)]).refuse(9, "disk_full").told("--scratch");
    // Words alone are no fact.
    let claims = "console.error('ENOSPC: No space left on device'); process.exit(1);";
    plain("claims", &[("build.ts", claims)]).refuse(6, "step_failed");
}

#[test]
fn a_build_has_no_network_and_no_way_out() {
    // A server of this test's on the host's loopback: nothing may reach it.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let port = server.local_addr().unwrap().port();
    let net = format!(
        "try {{ await fetch('http://127.0.0.1:{port}/'); console.error('REACHED'); }} catch (e) {{}} \
         const s = require('net').connect({port}, '127.0.0.1'); s.on('connect', () => console.error('REACHED')); \
         s.on('error', () => process.exit(5));"
    );
    let run = plain("networks", &[("build.ts", net.as_str())]).refuse(6, "step_failed");
    assert!(run.stderr().contains("exit code 5") && !run.stderr().contains("REACHED"), "{run}");
    assert_eq!(server.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let out = "const fs = require('fs'); for (const p of ['/usr/x', '/etc/x', '/admit/bin/x', '/proc/sys/kernel/hostname']) { \
               try { fs.writeFileSync(p, 'x'); console.error('WROTE ' + p); } catch (e) {} } process.exit(6);";
    let run = plain("writes-outside", &[("build.ts", out)]).refuse(6, "step_failed");
    assert!(run.stderr().contains("exit code 6"), "{run}");
    assert!(!run.stderr().contains("WROTE"), "{run}");
}

#[test]
fn a_daemon_ends_with_its_build() {
    let marker = format!("admit-daemon-{}", std::process::id());
    let daemon = format!(
        "Bun.spawn(['/bin/sh', '-c', 'exec -a {marker} sleep 600 || sleep 600'], {{ detached: true, stdio: ['ignore','ignore','ignore'] }}).unref(); \
         Bun.spawn(['/admit/bin/bun', '-e', 'setInterval(()=>{{}},1000)//{marker}'], {{ detached: true, stdio: ['ignore','ignore','ignore'] }}).unref(); \
         await Bun.$`bun build --compile main.ts --outfile dist/ca`;"
    );
    plain("daemons", &[("build.ts", daemon.as_str())]).expect(0);
    wait_for("the daemon's end", Duration::from_secs(10), || !alive(&marker));
}

#[test]
fn a_projects_own_files_cannot_turn_verification_off() {
    // Each of these decides what a plain `bun install` or `bun build` does (bun.md, sections B, D and F).
    let files = [
        (
            ".env",
            "BUN_CONFIG_NO_VERIFY=0\nBUN_INSTALL_CACHE_DIR=/tmp/poisoned\nNODE_ENV=planted\nBUN_OPTIONS=--minify\n",
        ),
        (
            "main.ts",
            "console.log('Usage: ca <command> [options]\\n  run  ' + process.env.NODE_ENV);",
        ),
    ];
    let world = World::with_shared_store();
    provider(&world, "planted", &files, |_| ()).expect(0).shows("unlocked");
    // Another registry has other names in the cache: the project's own is away while Bun installs.
    plain("redirected", &[(".npmrc", "registry=http://127.0.0.1:1/\n")]).expect(0);
    // The same from outside.
    let mut world = World::with_shared_store();
    world
        .set("NODE_ENV", "planted")
        .set("BUN_OPTIONS", "--minify")
        .set("BUN_CONFIG_NO_VERIFY", "1");
    world
        .set("BUN_INSTALL_CACHE_DIR", "/tmp/poisoned")
        .set("BUN_BE_BUN", "1")
        .set("LD_PRELOAD", "/nonexistent.so");
    let json = world.admit(&["build", "understudy", "--rebuild", "--json"]).expect(0).json();
    assert_eq!(json["report"]["verification"], "locked");
}

#[test]
fn a_foreign_target_needs_a_runtime_that_nobody_verified() {
    let world = World::with_shared_store();
    let planted = ("bun-linux-x64-baseline-v1.3.14", "planted");
    let step = "bun build --compile --target=bun-linux-x64-baseline main.ts --outfile dist/ca";
    let words: Vec<&str> = step.split(' ').collect();
    let run = provider(&world, "crosses", &[planted], |lock| {
        lock["build"]["steps"] = json!([words]);
    });
    run.refuse(2, "hostile_lock");
    // Hidden in a script it still ends as a runtime that is not the pinned one.
    let hidden = format!("await Bun.$`{step}`;");
    plain("crosses-hidden", &[("build.ts", &hidden), planted]).refuse(6, "step_failed");
}

#[test]
fn every_altered_field_of_a_lock_is_noticed() {
    let world = World::with_shared_store();
    let sri = format!("sha256-{}=", "A".repeat(43));
    let zeros_64 = "0".repeat(64);
    // A commit, a tree, a Bun, packages, an output, a help and a form that are others: the corpus of `tamper`.
    for (name, place, value, code) in [
        ("x-nar", "/source/nar_hash", json!(sri), 5),
        ("x-bun-version", "/toolchain/bun/version", json!("9.9.9"), 5),
        ("x-blake3", "/outputs/linux-x64/blake3", json!(zeros_64), 5),
        ("x-version", "/identity/version", json!("9.9.9"), 6),
        ("x-writes", "/build/writes", json!([]), 6),
    ] {
        variation(&world, name, |lock| {
            let (above, field) = place.rsplit_once('/').unwrap();
            lock.pointer_mut(above).unwrap()[field] = value;
        });
        let run = world.admit(&["build", name]);
        assert_eq!(run.code(), Some(code), "{name}\n{run}");
    }
}

#[test]
fn two_builds_at_once_build_once() {
    let world = World::with_own_store();
    let both = [(); 2].map(|()| world.start(&["build", "understudy", "--json"]));
    let fresh = |child| world.ended("build", child).expect(0).json()["fresh"].as_bool().unwrap();
    let [one, two] = both.map(fresh);
    assert!(one != two, "{one} and {two}");
}

#[test]
fn what_a_killed_build_left_on_disk_goes_with_the_next() {
    let world = World::with_own_store();
    let scratch = world.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let place = scratch.display().to_string();
    let args = ["build", "understudy", "--rebuild", "--scratch", &place];
    let mut child = world.command(&args).spawn().unwrap();
    let store = world.store().join("v1");
    wait_for("the build to be in the middle", Duration::from_secs(120), || {
        has(&scratch, "node_modules", 6) || child.try_wait().unwrap().is_some()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!names(&scratch).is_empty() && !names(store.join("locks")).is_empty(), "it was killed");
    // What is dying may still write while the first one cleans up; then the second one gets it.
    wait_for("nothing to be left", Duration::from_secs(120), || {
        world.admit(&args).expect(0);
        names(&scratch).is_empty()
    });
    assert_eq!(names(store.join("locks")), [""; 0]);
    assert_eq!(names(&store), ["files", "kept", "locks", "quarantine", "records", "tmp", "trees"]);
}

#[test]
fn a_binary_can_be_adopted_by_its_digest() {
    let world = World::with_shared_store();
    let built = world.admit(&["build", "understudy", "--json"]).expect(0).json();
    let copy = world.path().join("ca");
    std::fs::copy(built["output"].as_str().unwrap(), &copy).unwrap();
    let path = copy.display().to_string();
    mode(&copy, 0o644);
    world.admit(&["adopt", "understudy", "--binary", &path]).refuse(6, "output_not_executable");
    mode(&copy, 0o755);

    let other = World::new();
    let adopt = ["adopt", "understudy", "--binary", &path, "--record", "--json"];
    assert_eq!(other.admit(&adopt).expect(0).json()["report"]["origin"], "adopted");
    other.admit(&["verify", "understudy"]).expect(0);
    flip(&copy);
    let world = World::new();
    world.admit(&["adopt", "understudy", "--binary", &path]).refuse(5, "digest_mismatch");
}

#[test]
fn real_case_has_the_digests_that_it_has_by_hand() {
    let world = World::with_shared_store();
    let newer = ("case-fecfdf4", "fecfdf4354ad68f0e14a93a96df8dba859259098");
    for ((name, rev), sha256) in [
        (CASE, "79b438c69ba2d4671441759504a859f2c33db821cbaf14bed94b24b4804490a4"),
        (newer, "0b4d4fe585ad41bfd5a838f52a43394b5c29fe614ae72d89a5b86326ab795396"),
    ] {
        let Some(mirror) = lock_case(&world, name, rev) else { return };
        let build = ["build", name, "--mirror", &mirror, "--rebuild", "--json"];
        assert_eq!(world.admit(&build).expect(0).json()["report"]["sha256"], sha256);
    }
}
