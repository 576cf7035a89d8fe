//! `admit doctor`: on this machine as it is, and with parts of it broken.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::util::{World, admit, project};

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

/// The row with this id.
#[track_caller]
fn row<'a>(report: &'a Value, id: &str) -> &'a Value {
    let rows = report["checks"].as_array().expect("rows");
    rows.iter().find(|r| r["id"] == id).unwrap_or_else(|| panic!("no row {id} in {report:#}"))
}

/// Answers the one request for the Bun that `lock` pins, as a registry would.
fn registry() -> (String, std::thread::JoinHandle<()>) {
    let lock = std::fs::read(project().join("lockfiles/case.lock.json")).expect("a lock");
    let lock: Value = serde_json::from_slice(&lock).expect("JSON");
    let platforms = lock["toolchain"]["bun"]["platforms"].clone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = format!("http://{}/", listener.local_addr().expect("an address"));
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("its head") == 1 {
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("ASCII").replace("%2f", "/");
        let asked = |p: &&Value| {
            head.starts_with(&format!("GET /{}/", p["package"].as_str().expect("a name")))
        };
        let all = platforms.as_object().expect("platforms");
        let package = all.values().find(asked).unwrap_or_else(|| panic!("asked for {head}"));
        let body = serde_json::json!({ "dist": { "integrity": package["integrity"] } }).to_string();
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .expect("the answer is taken");
    });
    (address, thread)
}

#[test]
fn a_machine_that_can_do_everything_is_ready() {
    let (address, thread) = registry();
    let world = world(&address);
    let run = world.admit(&["doctor", "--json"]);
    thread.join().expect("one request");
    let run = run.expect(0);
    let report = run.json();
    assert_eq!((&report["schema"], &report["ready"]), (&"admit.doctor/2".into(), &true.into()));
    for id in ["platform", "store", "python3", "pip", "npm_config", "registry", "seccomp"] {
        assert_eq!(row(&report, id)["state"], "ok", "{run}");
    }
    assert!(row(&report, "sandbox")["found"].as_str().expect("words").contains("user"), "{run}");
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
        let row = row(&report, id);
        assert_eq!(
            (&row["state"], &row["required"]),
            (&"failed".into(), &required.into()),
            "{run}"
        );
    }
    for row in report["checks"].as_array().expect("rows") {
        assert_eq!(row["fix"].is_string(), row["state"] == "failed", "{run}");
    }
    let words = world.admit(&["doctor"]).expect(1).stdout();
    assert!(
        words.contains("FAIL  python3") && words.contains("fix       install Python 3"),
        "{words}"
    );
    assert!(!words.contains('\u{1b}'), "no colour without a terminal");
}

#[test]
fn a_path_that_names_no_directory_breaks_nothing_else() {
    let mut world = offline();
    world.set("PATH", "/nowhere/at/all:relative::");
    let report = world.admit(&["doctor", "--json"]).expect(1).json();
    assert_eq!(row(&report, "git")["found"], "no git on PATH");
    assert_ne!(row(&report, "sandbox")["state"], "failed");
}

#[test]
fn without_user_namespaces_the_cause_and_the_fix_are_named() {
    let world = offline();
    let run = world.command(&["doctor", "--json"]);
    // A user namespace in which no further one may be made: the limit counts for it and below alone. Not as its root,
    // which admit would refuse for another reason, but with the capability that the limit asks for.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1000", "--map-group=1000", "--keep-caps"]);
    command.args(["sh", "-c", script, "sh"]).arg(admit());
    command.args(run.get_args()).current_dir(world.cwd()).env_clear();
    command.envs(run.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let out = command.output().expect("unshare is needed: apt-get install util-linux");
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{text} {}", String::from_utf8_lossy(&out.stderr));
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let sandbox = row(&report, "sandbox");
    assert_eq!(sandbox["state"], "failed", "{text}");
    assert!(
        sandbox["found"].as_str().expect("words").contains("max_user_namespaces = 0"),
        "{text}"
    );
    assert!(sandbox["fix"].as_str().expect("words").contains("sysctl"), "{text}");
    assert_eq!(row(&report, "namespace_user")["state"], "failed", "{text}");
    assert_ne!(row(&report, "seccomp")["state"], "ok", "not tried is not ok");
}
