//! The store where its file system takes no writes.

use crate::util::{self, World};

const RUN: [&str; 6] =
    ["run", "stage2", "--provider", "understudy", "--model", "scripted/understudy-script"];

#[test]
fn a_read_only_store_serves_a_run_and_takes_nothing() {
    if !rustix::process::geteuid().is_root() {
        return util::not_run(
            "a read-only store: only root can mount one and start a sandbox there",
        );
    }
    let world = World::new();
    world.admit(&["build", "understudy", "--record"]).expect(0);
    // The first run installs pytest.
    world.admit(&RUN).expect(0);
    let store = world.home().join(".local/share/admit/store");
    let script = format!(
        "mount --bind '{0}' '{0}' && mount -o remount,bind,ro '{0}' && ! touch '{0}/x' && exec \"$@\"",
        store.display()
    );
    let behind = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let run = |args: &[&str]| world.command_behind(&behind, args).output().unwrap();
    let ran = run(&RUN);
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    let built = run(&["build", "understudy", "--rebuild"]);
    let words = String::from_utf8_lossy(&built.stderr);
    assert!(words.contains("read-only") && words.contains("--store"), "{words}");
    assert_ne!(built.status.code(), Some(0));
    // Another store has nothing to remove.
    let gc = run(&["gc"]);
    let words = String::from_utf8_lossy(&gc.stderr);
    assert!(words.contains("mounted writable") && !words.contains("--store"), "{words}");
    let store = store.display().to_string();
    let ran = run(&[&RUN[..], &["--state", &store]].concat());
    let words = String::from_utf8_lossy(&ran.stderr);
    assert!(
        words.contains("fix:      name a directory that you can write with --state"),
        "{words}"
    );
    assert_eq!(ran.status.code(), Some(2));
}
