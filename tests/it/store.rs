//! The store where its file system takes no writes.

use crate::run::SCRIPTED;
use crate::util::{self, World};

#[test]
fn a_read_only_store_serves_a_run_and_takes_nothing() {
    if !rustix::process::geteuid().is_root() {
        return util::not_run(
            "a read-only store: only root can mount one and start a sandbox there",
        );
    }
    let world = World::new();
    world.admit(&["build", "understudy", "--record"]).expect(0);
    let args = [&["run"], &SCRIPTED[..]].concat();
    // The first run installs pytest.
    world.admit(&args).expect(0);
    let store = world.home().join(".local/share/admit/store").display().to_string();
    let script = format!(
        "mount --bind '{store}' '{store}' && mount -o remount,bind,ro '{store}' && ! touch '{store}/x' && exec \"$@\""
    );
    let behind = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let run = |args: &[&str]| world.run(&args.join(" "), &mut world.command_behind(&behind, args));
    run(&args).expect(0);
    let built = run(&["build", "understudy", "--rebuild"]);
    let words = built.stderr();
    assert!(words.contains("read-only") && words.contains("--store"), "{built}");
    assert_ne!(built.code(), Some(0));
    // Another store has nothing to remove.
    let words = run(&["gc"]).stderr();
    assert!(words.contains("mounted writable") && !words.contains("--store"), "{words}");
    let words = run(&[&args[..], &["--state", &store]].concat()).expect(2).stderr();
    let fix = "fix:      name a directory that you can write with --state";
    assert!(words.contains(fix), "{words}");
}
