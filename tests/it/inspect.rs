//! `admit inspect` and `admit diff` on executables in the layouts that Bun writes.

use crate::util::World;

#[path = "../../src/bun/sample.rs"]
pub mod sample;

const APP: &str = "/$bunfs/root/app";

fn graph(text: &str) -> Vec<u8> {
    sample::payload(&[(APP, text.as_bytes(), b"")], "", 0xf)
}

fn at(dir: &str) -> String {
    format!("// node_modules/figlet/lib/i.js\nvar __dirname = \"{dir}/node_modules/figlet/lib\";\n")
}

fn put(world: &World, name: &str, bytes: &[u8]) {
    std::fs::write(world.cwd().join(name), bytes).unwrap();
}

/// A world with a plain Bun, one executable in each layout, and a second one from another directory.
fn world() -> World {
    let world = World::new();
    let base = sample::plain(1);
    put(&world, "bun", &base);
    put(&world, "other-bun", &sample::plain(2));
    put(&world, "one", &sample::expanded(&base, &graph(&at("/tmp/one"))));
    put(&world, "two", &sample::expanded(&base, &graph(&at("/srv/the/second"))));
    put(&world, "appended", &sample::appended(&base, &graph(&at("/tmp/one"))));
    world
}

#[test]
fn inspect_shows_modules_and_proves_the_runtime() {
    let world = world();
    for (file, layout) in [("one", "expanded"), ("appended", "appended")] {
        let shown = world.admit(&["inspect", file, "--bun", "other-bun", "--bun", "bun", "--json"]);
        let shown = shown.expect(0).json();
        assert_eq!(shown["schema"], "admit.inspection/2");
        assert_eq!(shown["runtime"]["proven"], "bun");
        assert_eq!(shown["runtime"]["layout"], layout);
        assert_eq!(shown["runtime"]["mismatches"][0]["bun"], "other-bun");
        assert_eq!(shown["runtime"]["mismatches"][0]["offset"], sample::CODE);
        let graph = &shown["graph"];
        assert_eq!((&graph["unexplained"], &graph["flags"]), (&0.into(), &15.into()));
        assert_eq!(shown["graph"]["autoload_bunfig"], false);
        assert_eq!(shown["modules"][0]["name"], APP);
        assert_eq!(shown["modules"][0]["regions"][0]["size"], at("/tmp/one").len());
    }
    let run = world.admit(&["inspect", "one", "--bun", "bun"]).expect(0);
    run.shows("bun, byte for byte").shows(APP);
    // Without a Bun to compare with nothing is claimed; with the wrong one the answer is no.
    world.admit(&["inspect", "one"]).expect(0).shows("not proven");
    world.admit(&["inspect", "one", "--bun", "other-bun"]).expect(1);
}

#[test]
fn what_cannot_be_inspected_says_why() {
    let world = world();
    world.admit(&["inspect", "absent"]).refuse(2, "not_found");
    world.admit(&["inspect", "."]).refuse(2, "bad_argument");
    world.admit(&["inspect", "bun"]).refuse(2, "bad_executable");
    put(&world, "text", b"#!/bin/sh\n");
    world.admit(&["inspect", "text"]).refuse(2, "bad_executable");
    // A native program has an answer of its own, and it is none of the given Buns.
    put(&world, "native", &sample::native(Some("/lib64/ld-linux-x86-64.so.2"), &["libc.so.6"]));
    let shown = world.admit(&["inspect", "native", "--json"]).expect(0).json();
    assert_eq!((&shown["format"], &shown["linkage"]), (&"native".into(), &"dynamic".into()));
    assert_eq!(shown["needed"][0], "libc.so.6");
    put(&world, "static", &sample::native(None, &[]));
    world.admit(&["inspect", "static"]).expect(0).shows("x86-64, static");
    world.admit(&["inspect", "static", "--bun", "bun"]).expect(1);
    // A graph for readers, another for the runtime.
    let mut decoy = std::fs::read(world.cwd().join("one")).unwrap();
    decoy[sample::WORD..sample::WORD + 8].fill(0);
    put(&world, "decoy", &decoy);
    world.admit(&["inspect", "decoy"]).refuse(5, "runtime_mismatch");
}

#[test]
fn diff_names_the_package_the_paths_and_the_line() {
    let world = world();
    let found = world.admit(&["diff", "one", "two", "--bun", "bun", "--json"]).expect(1).json();
    assert_eq!(found["schema"], "admit.difference/1");
    assert_eq!((&found["same"], &found["runtime"]["same"]), (&false.into(), &true.into()));
    assert_eq!(found["runtime"]["proven"]["b"], "bun");
    let cause = &found["causes"][0];
    assert_eq!((&cause["kind"], &cause["package"]), (&"build_path".into(), &"figlet".into()));
    assert_eq!(cause["directory"]["a"], "/tmp/one");
    assert_eq!(cause["directory"]["b"], "/srv/the/second");
    assert_eq!(cause["line"]["a"], 2);

    let text = world.admit(&["diff", "one", "two"]).expect(1).stdout();
    for part in ["package figlet", "/tmp/one", "/srv/the/second", "@@ -2 +2 @@", "runtime  same"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let same = world.admit(&["diff", "one", "one"]).expect(0).stdout();
    assert!(same.starts_with("SAME  sha256:"), "{same}");
    world.admit(&["diff", "one", "absent"]).refuse(2, "not_found");
    let found = world.admit(&["diff", "bun", "other-bun", "--json"]).expect(1).json();
    assert_eq!(found["format"], "elf");
}
