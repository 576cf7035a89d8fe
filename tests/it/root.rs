//! Which root holds: trust, change, the expected digest.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::files::{mode, pipe_at, write};
use crate::model::add_model;
use crate::processes::wait_for;
use crate::util::World;

fn with_root() -> World {
    let world = World::new();
    std::fs::create_dir_all(world.cwd().join("lockfiles")).unwrap();
    std::fs::write(world.cwd().join("admit.toml"), "").unwrap();
    world
}

#[test]
fn an_untrusted_root_is_refused_until_it_is_trusted() {
    let world = with_root();
    world.admit(&["lock", "case", "--show"]).refuse(3, "root_not_trusted");
    let trusted = world.admit(&["trust", ".", "--json"]).expect(0).json();
    // Trusted and empty: now the answer is that nothing is locked there.
    world.admit(&["lock", "other", "--show"]).refuse(2, "provider_not_locked");

    std::fs::write(world.cwd().join("lockfiles/case.lock.json"), "{}").unwrap();
    let run = world.admit(&["lock", "case", "--show", "--json"]).refuse(3, "root_not_trusted");
    assert_eq!(run.json()["expected"], trusted["digest"]);
    assert_eq!(run.json()["exit_code"], 3);
}

#[test]
fn a_pipeline_names_the_digest_that_it_expects() {
    let mut world = with_root();
    world.set("HOME", world.home().join("other").display().to_string());
    let trusted = world.admit(&["trust", ".", "--json"]).expect(0).json();
    let digest = trusted["digest"].as_str().unwrap();
    std::fs::remove_dir_all(world.home().join("other")).unwrap();
    let expected = world.admit(&["lock", "other", "--show", "--expect-root", digest]);
    expected.refuse(2, "provider_not_locked");
    let other = format!("sha256:{}", "0".repeat(64));
    world.admit(&["lock", "case", "--show", "--expect-root", &other]).refuse(3, "root_not_trusted");
    wait_for("the home to stay as it was", Duration::from_secs(1), || {
        !world.home().join("other").exists()
    });
}

#[test]
fn trust_refuses_a_directory_that_is_not_the_expected_one() {
    let world = with_root();
    let other = format!("sha256:{}", "0".repeat(64));
    let run = world.admit(&["trust", ".", "--expect-root", &other]).refuse(3, "root_not_trusted");
    assert!(!run.stdout().contains("trusted"), "{run}");
    world.admit(&["lock", "case", "--show"]).refuse(3, "root_not_trusted");
    let digest = world.admit(&["trust", ".", "--json"]).expect(0).json()["digest"].clone();
    world.admit(&["trust", ".", "--expect-root", digest.as_str().unwrap()]).expect(0);
}

fn mode_of(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn add() -> Vec<&'static str> {
    let credential = ["--credential-class", "pi-models-json-local-provider-no-secret"];
    add_model("p/m", &[&credential[..], &["--network-class", "loopback-test"]].concat())
}

#[test]
fn every_directory_of_this_user_is_private_whatever_the_umask() {
    for umask in ["002", "000"] {
        let world = World::new();
        for args in [&add()[..], &["key", "new", "mine"]] {
            world.under(&format!("umask {umask}"), args).expect(0);
        }
        let data = world.home().join(".local/share/admit");
        let mut pending = vec![data.clone()];
        let mut seen = 0;
        while let Some(dir) = pending.pop() {
            assert_eq!(mode_of(&dir), 0o700, "{} with umask {umask}", dir.display());
            seen += 1;
            let entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
            pending.extend(entries.filter(|path| path.is_dir()));
        }
        assert!(seen >= 4, "{seen} directories");
        // What admit made, it goes on to believe.
        world.admit(&["model", "list"]).expect(0);
    }
}

#[test]
fn what_others_could_have_written_is_refused_with_a_fix_that_mends_all_of_it() {
    let world = World::new();
    world.admit(&add()).expect(0);
    let data = world.home().join(".local/share/admit");
    let record = data.join("root/admissions/models/p--m.json");
    for path in [&data, &data.join("root"), &data.join("root/admissions"), &record] {
        mode(path, 0o777);
    }
    let run = world.admit(&["model", "list", "--json"]).refuse(3, "root_not_trusted");
    let fix = run.json()["fix"][0].as_str().unwrap().to_owned();
    assert!(Command::new("sh").args(["-c", &fix]).status().unwrap().success(), "{fix}");
    world.admit(&["model", "list"]).expect(0);
    for path in [&data, &data.join("root/admissions"), &record] {
        let before = mode_of(path);
        mode(path, before | 0o020);
        world.admit(&["model", "list"]).refuse(3, "root_not_trusted");
        mode(path, before);
        // Only root can give a file away.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(path, Some(65534), None).unwrap();
            world.admit(&["model", "list"]).refuse(3, "root_not_trusted").told("uid 65534");
            std::os::unix::fs::chown(path, Some(0), None).unwrap();
        }
    }
    world.admit(&["model", "list"]).expect(0);
}

#[test]
fn links_and_pipes_in_the_users_own_root_are_refused_by_name() {
    let world = World::new();
    world.admit(&add()).expect(0);
    let root = world.root();
    let elsewhere = world.path().join("elsewhere");
    std::os::unix::fs::symlink("/nowhere", root.join("admit.toml")).unwrap();
    world.admit(&["model", "list"]).refuse(2, "bad_record").told("root/admit.toml");
    std::fs::remove_file(root.join("admit.toml")).unwrap();
    std::fs::rename(root.join("admissions"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, root.join("admissions")).unwrap();
    world.admit(&["model", "list"]).refuse(2, "bad_record").told("root/admissions");
    world.admit(&add()).refuse(2, "bad_record");
    std::fs::remove_file(root.join("admissions")).unwrap();
    std::fs::create_dir(root.join("admissions")).unwrap();
    pipe_at(root.join("admissions/x.json"));
    world.admit(&["model", "list"]).refuse(2, "bad_record");
}

#[test]
fn nothing_is_lost_when_many_write_at_once() {
    const EACH: usize = 12;
    let world = with_root();
    world.admit(&["trust", "."]).expect(0);
    let other = |n: usize| world.path().join(format!("other-{n}"));
    let mut running = Vec::new();
    for n in 0..EACH {
        write(other(n).join("admit.toml"), "");
        let pair = format!("p{n}/m");
        let class = ["--credential-class", "scripted-no-secret", "--network-class"];
        let add = add_model(&pair, &[&class[..], &["loopback-test", "--scripted"]].concat());
        for args in [add, vec!["trust", other(n).to_str().unwrap()], vec!["trust", "."]] {
            running.push((args.join(" "), world.start(&args)));
        }
    }
    for (line, child) in running {
        world.ended(&line, child).expect(0);
    }
    let list = world.admit(&["model", "list", "--json"]).expect(0).json();
    assert_eq!(list["models"].as_array().unwrap().len(), EACH, "{list}");
    for n in 0..EACH {
        let dir = other(n);
        let args = ["lock", "other", "--show", "--root", dir.to_str().unwrap()];
        world.admit(&args).refuse(2, "provider_not_locked");
    }
}

#[test]
fn a_root_of_ones_own_is_made_explained_and_used() {
    let world = World::new();
    let init = ["init", "records", "--lock", "case", "--fixture", "r1-string-slugify", "--json"];
    let made = world.admit(&init).expect(0).json();
    let files: Vec<&str> =
        made["files"].as_array().unwrap().iter().filter_map(|f| f.as_str()).collect();
    for path in
        ["admit.toml", "lockfiles/case.lock.json", "lockfiles/fixtures/r1-string-slugify.json"]
    {
        assert!(files.contains(&path), "{files:?}");
    }
    let root = world.cwd().join("records");
    let at = |args: &[&str]| world.admit(&[args, &["--root", "records"]].concat());
    at(&["lock", "case", "--show"]).expect(0);
    // No admission comes with it: nothing may be run before somebody says so.
    let models = at(&["model", "list", "--json"]).expect(0).json();
    assert_eq!(models["models"], serde_json::json!([]));
    world.admit(&["init", "records"]).refuse(2, "bad_argument");
    world.admit(&["init", "other", "--lock", "nothing"]).refuse(2, "not_found");
    assert!(!world.cwd().join("other").exists(), "nothing half made");
    // Every value of the configuration with its origin; the template's own examples are valid.
    let template = std::fs::read_to_string(root.join("admit.toml")).unwrap();
    let examples = template.lines().filter_map(|line| line.strip_prefix("# "));
    let examples: Vec<&str> = examples
        .skip_while(|line| !line.starts_with("[["))
        .filter(|line| {
            line.starts_with('[')
                || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
        })
        .collect();
    world.admit(&["key", "new", "release"]).expect(0);
    let keys = world.admit(&["key", "show", "--json"]).expect(0).json();
    let public = keys["keys"][0]["public"].as_str().unwrap();
    let text = examples.join("\n").replace("ssh-ed25519 AAAA... release", public);
    std::fs::write(root.join("admit.toml"), text).unwrap();
    at(&["config", "show"]).refuse(3, "root_not_trusted");
    world.admit(&["trust", "records"]).expect(0);
    let shown = at(&["config", "show", "--json"]).expect(0).json();
    let value = |key: &str| {
        let all = shown["values"].as_array().unwrap();
        all.iter().find(|value| value["key"] == key).unwrap_or_else(|| panic!("{key} in {shown:#}"))
    };
    assert_eq!(value("network.lab")["value"], "192.168.7.0/24; hosts: llm.lab.example");
    assert_eq!(value("network.private")["from"], "built in");
    assert_eq!(value("require.model")["value"], "1 of release");
    assert_eq!(value("mirror")["value"], "https://github.com/ -> file:///srv/git/");
    assert!(value("mirror")["from"].as_str().unwrap().ends_with("records/admit.toml"));
}

#[test]
fn a_marker_that_is_none_is_named_as_what_it_is() {
    let world = World::new();
    let dir = world.path().join("odd");
    let marker = dir.join("admit.toml");
    std::fs::create_dir_all(&marker).unwrap();
    let trust = || world.admit(&["trust", dir.to_str().unwrap()]);
    let fix = format!("or: rm -r {}", marker.display());
    trust().refuse(2, "bad_record").told("found:    a directory").told(&fix);
    std::fs::remove_dir(&marker).unwrap();
    std::fs::write(&marker, [b"# fine\n\xff".as_slice(), &[b'['; 50_000]].concat()).unwrap();
    trust().refuse(2, "bad_record").told("not UTF-8: line 2").told("fix:");
    // A line of any length is not printed whole.
    std::fs::write(&marker, format!("a = {}", "[".repeat(50_000))).unwrap();
    let run = trust().refuse(2, "bad_record");
    assert!(run.stderr().len() < 2_000, "{} bytes", run.stderr().len());
}

#[test]
fn what_is_shown_is_what_holds_and_a_look_makes_nothing() {
    let mut world = World::new();
    world.admit(&["--mirror", "nonsense", "config", "show"]).refuse(2, "bad_argument");
    let shown = |world: &World, args: &[&str]| {
        let args = [args, &["config", "show", "--json"]].concat();
        let values = world.admit(&args).expect(0).json()["values"].clone();
        values.as_array().unwrap().iter().find(|v| v["key"] == "registry").unwrap().clone()
    };
    let value = shown(&world, &["--registry", "http://me:secret@127.0.0.1:9/npm"]);
    assert_eq!(value["value"], "http://127.0.0.1:9/npm/");
    assert_eq!(value["from"], "--registry");
    world.set("npm_config_registry", "http://127.0.0.1:8/");
    let value = shown(&world, &[]);
    assert_eq!(value["value"], "http://127.0.0.1:8/");
    assert_eq!(value["from"], "npm's configuration");
    world.set("ADMIT_REGISTRY", "http://127.0.0.1:7/");
    assert_eq!(shown(&world, &[])["from"], "ADMIT_REGISTRY");
    assert_eq!(shown(&world, &["--registry", "http://127.0.0.1:6/"])["from"], "--registry");
    let store = world.path().join("nowhere");
    world.admit(&["--store", store.to_str().unwrap(), "gc", "--dry-run"]).expect(0);
    assert!(!store.exists());
}
