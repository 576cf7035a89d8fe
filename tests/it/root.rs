//! Which root holds: trust, change, the expected digest.

use std::time::Duration;

use crate::util::{World, wait_for};

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
