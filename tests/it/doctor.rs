//! `admit doctor`: on this machine as it is, and with parts of it broken.

use serde_json::{Value, json};

use crate::files::shipped;
use crate::loopback::{Reply, Server};
use crate::run::row;
use crate::util::World;

/// A world that asks `registry` and no proxy.
fn world(registry: &str) -> World {
    let mut world = World::new();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        world.set(name, "");
    }
    world.set("npm_config_registry", registry).set("NPM_CONFIG_REGISTRY", registry);
    world
}

/// A world whose registry is a port that nothing listens on.
fn offline() -> World {
    world("http://127.0.0.1:1/")
}

/// Answers a request for the Bun that Case's lock pins, as a registry would.
fn registry() -> Server {
    let lock = shipped("lockfiles/case.lock.json");
    let platforms = lock["toolchain"]["bun"]["platforms"].as_object().expect("platforms").clone();
    Server::http(move |_, asked| {
        let target = asked.target.replace("%2f", "/");
        let named = |p: &&Value| {
            target.starts_with(&format!("/{}/", p["package"].as_str().expect("a name")))
        };
        let Some(package) = platforms.values().find(named) else { return Reply::status(404) };
        Reply::ok(json!({ "dist": { "integrity": package["integrity"] } }).to_string())
    })
}

#[test]
fn a_machine_that_can_do_everything_is_ready() {
    let registry = registry();
    let world = world(&registry.url("/"));
    let run = world.admit(&["doctor", "--json"]).expect(0);
    assert_eq!(registry.count(), 1, "one request");
    let report = run.json();
    assert_eq!((&report["schema"], &report["ready"]), (&"admit.doctor/2".into(), &true.into()));
    for id in ["platform", "store", "python3", "pip", "npm_config", "registry", "seccomp"] {
        assert_eq!(row(&report["checks"], id)["state"], "ok", "{run}");
    }
    let sandbox = row(&report["checks"], "sandbox")["found"].as_str().expect("words");
    assert!(sandbox.contains("user"), "{run}");
    // Nothing was made.
    for dir in [world.home(), world.cwd()] {
        assert_eq!(std::fs::read_dir(dir).expect("a directory").count(), 0, "{run}");
    }
}

#[test]
fn an_empty_path_is_not_ready_and_every_row_says_why() {
    let mut world = offline();
    let nothing = world.cwd().display().to_string();
    world.set("PATH", nothing);
    let run = world.admit(&["doctor", "--json"]).expect(1);
    let report = run.json();
    assert_eq!(report["ready"], false);
    for (id, required) in
        [("python3", true), ("pip", true), ("registry", true), ("git", false), ("gnu_gzip", false)]
    {
        let row = row(&report["checks"], id);
        assert_eq!(row["state"], "failed", "{run}");
        assert_eq!(row["required"], required, "{run}");
    }
    for row in report["checks"].as_array().expect("rows") {
        assert_eq!(row["fix"].is_string(), row["state"] == "failed", "{run}");
    }
    let words = world.admit(&["doctor"]).expect(1).stdout();
    assert!(words.contains("FAIL  python3"), "{words}");
    assert!(words.contains("fix       install Python 3"), "{words}");
    assert!(!words.contains('\u{1b}'), "no colour without a terminal");
}

#[test]
fn a_path_that_names_no_directory_breaks_nothing_else() {
    let mut world = offline();
    world.set("PATH", "/nowhere/at/all:relative::");
    let report = world.admit(&["doctor", "--json"]).expect(1).json();
    assert_eq!(row(&report["checks"], "git")["found"], "no git on PATH");
    assert_ne!(row(&report["checks"], "sandbox")["state"], "failed");
}

#[test]
fn without_user_namespaces_the_cause_and_the_fix_are_named() {
    let world = offline();
    // A user namespace in which no further one may be made: the limit counts for it and below alone. Not as its root,
    // which admit would refuse for another reason, but with the capability that the limit asks for.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let ids = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps"];
    let wrapper = [&ids[..], &["sh", "-c", script, "sh"]].concat();
    let run = world.run("doctor", &mut world.command_behind(&wrapper, &["doctor", "--json"]));
    let run = run.expect(1);
    let report = run.json();
    let sandbox = row(&report["checks"], "sandbox");
    assert_eq!(sandbox["state"], "failed", "{run}");
    let found = sandbox["found"].as_str().expect("words");
    assert!(found.contains("max_user_namespaces = 0"), "{run}");
    assert!(sandbox["fix"].as_str().expect("words").contains("sysctl"), "{run}");
    assert_eq!(row(&report["checks"], "namespace_user")["state"], "failed", "{run}");
    assert_ne!(row(&report["checks"], "seccomp")["state"], "ok", "not tried is not ok");
}
