//! Which root holds: trust, change, the expected digest.

use std::process::Stdio;
use std::time::Duration;

use crate::util::{Run, World, wait_for};

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
    world.admit(&["lock", "case", "--show"]).refuse(2, "provider_not_locked");

    std::fs::write(world.cwd().join("lockfiles/case.lock.json"), "{}").unwrap();
    let run = world.admit(&["lock", "case", "--show", "--json"]).refuse(3, "root_not_trusted");
    assert_eq!(run.json()["expected"], trusted["digest"]);
    assert_eq!(run.json()["exit_code"], 3);
}

#[test]
fn a_pipeline_names_the_digest_that_it_expects() {
    let mut world = with_root();
    world.set("HOME", world.home().join("other").display().to_string());
    let digest = world.admit(&["trust", ".", "--json"]).expect(0).json()["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    std::fs::remove_dir_all(world.home().join("other")).unwrap();
    world
        .admit(&["lock", "case", "--show", "--expect-root", &digest])
        .refuse(2, "provider_not_locked");
    let other = format!("sha256:{}", "0".repeat(64));
    world.admit(&["lock", "case", "--show", "--expect-root", &other]).refuse(3, "root_not_trusted");
    wait_for("the home to stay as it was", Duration::from_secs(1), || {
        !world.home().join("other").exists()
    });
}

#[test]
fn nothing_is_lost_when_many_write_at_once() {
    const EACH: usize = 12;
    let world = with_root();
    world.admit(&["trust", "."]).expect(0);
    let other = |n: usize| world.path().join(format!("other-{n}"));
    let mut running = Vec::new();
    for n in 0..EACH {
        std::fs::create_dir(other(n)).unwrap();
        std::fs::write(other(n).join("admit.toml"), "").unwrap();
        let add =
            ["model", "add", &format!("p{n}/m"), "--approval-source", "a", "--review-trigger", "r"];
        let add = [
            &add[..],
            &[
                "--credential-class",
                "scripted-no-secret",
                "--scripted",
                "--network-class",
                "loopback-test",
            ],
        ]
        .concat();
        for args in [add, vec!["trust", other(n).to_str().unwrap()], vec!["trust", "."]] {
            let mut command = world.command(&args);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            running.push((args.join(" "), command.spawn().unwrap()));
        }
    }
    for (line, child) in running {
        let output = child.wait_with_output().unwrap();
        Run::of(&format!("admit {line}"), world.cwd(), output).expect(0);
    }
    let list = world.admit(&["model", "list", "--json"]).expect(0).json();
    assert_eq!(list["models"].as_array().unwrap().len(), EACH, "{list}");
    for n in 0..EACH {
        let dir = other(n);
        let args = ["lock", "case", "--show", "--root", dir.to_str().unwrap()];
        world.admit(&args).refuse(2, "provider_not_locked");
    }
}
