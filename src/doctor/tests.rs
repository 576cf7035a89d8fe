use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Instant;

use super::program::{Ran, run};
use super::*;
use crate::host::tests::program;
use crate::record::finding::State;
use crate::record::ids::{Digest, Sha256, Sri};

fn status(check: &Check) -> &'static str {
    match check.finding.state {
        State::Ok => "ok",
        _ if check.blocks() => "fail",
        _ => "warn",
    }
}

/// A machine made of scripts: a home, a `PATH` of one directory, and a store that is not there yet.
struct Machine {
    dir: tempfile::TempDir,
    env: BTreeMap<String, String>,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "home"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let at = |name: &str| dir.path().join(name).display().to_string();
        let env = [
            ("PATH".to_owned(), at("bin")),
            ("HOME".to_owned(), at("home")),
            // Nothing listens there: no test leaves this machine.
            ("NPM_CONFIG_REGISTRY".to_owned(), "http://127.0.0.1:1/".to_owned()),
        ];
        Self { env: env.into(), dir }
    }

    fn script(&self, name: &str, body: &str) {
        program(self.dir.path().join("bin").join(name), &format!("#!/bin/sh\n{body}\n"));
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("data/store")
    }

    fn examine(&self) -> BTreeMap<String, Check> {
        let package = package();
        self.examine_with(Some(("1.3.14", &package)))
    }

    fn examine_with(&self, bun: Option<(&str, &BunPackage)>) -> BTreeMap<String, Check> {
        let host = Host::with(self.env.clone(), "/");
        let store = self.store();
        let patience = Duration::from_secs(5);
        // Not admit: the sandbox is examined in the integration tests, where there is one.
        let launcher = Launcher { exe: "/nowhere/admit".into(), scratch: self.dir.path().into() };
        let launcher = &launcher;
        let setup = Setup { host: &host, store: &store, bun, registry: None, launcher, patience };
        let checks = examine(&setup);
        let count = checks.len();
        let by_id: BTreeMap<_, _> = checks.into_iter().map(|c| (c.finding.id.clone(), c)).collect();
        assert_eq!(by_id.len(), count, "each id once");
        for check in by_id.values() {
            let finding = &check.finding;
            assert_eq!(finding.fix.is_empty(), !finding.is_failed(), "{check:?}");
            assert!(!finding.found.is_empty() && !check.needed_for.is_empty(), "{check:?}");
            assert!(!finding.found.contains('\n'), "{check:?}");
        }
        by_id
    }
}

fn package() -> BunPackage {
    BunPackage {
        package: "@oven/bun-linux-x64".into(),
        integrity: Sri(Digest::sha256(b"the tarball")),
        binary_sha256: Digest::sha256(b"the binary").to_hex().parse::<Sha256>().unwrap(),
    }
}

#[test]
fn programs_are_shown_with_their_versions_and_what_is_wrong_is_told_apart() {
    let none: &[(&str, &str)] = &[];
    let good = [
        ("git", "echo git version 2.45.1"),
        ("gzip", "echo 'gzip 1.12'; echo 'Copyright Free Software Foundation, Inc.'"),
        ("python3", "case $1 in -m) echo pip 24.0 from x;; *) echo Python 3.12.1;; esac"),
    ];
    let broken = [
        ("git", "exit 3"),
        ("gzip", "echo 'BusyBox v1.36.1 multi-call binary.'"),
        ("python3", "case $1 in -m) echo No module named pip >&2; exit 1;; esac; echo Python 2.7"),
    ];
    // How what is found begins and ends.
    for (scripts, rows) in [
        (
            none,
            ["git warn", "gnu_gzip warn", "python3 fail", "pip fail"]
                .map(|row| (row, "no ", " on PATH")),
        ),
        (
            &good[..],
            [
                ("git ok", "git version 2.45.1 (", ""),
                ("gnu_gzip ok", "gzip 1.12 (", ""),
                ("python3 ok", "Python 3.12.1 (", ""),
                ("pip ok", "pip 24.0 from x (", ""),
            ],
        ),
        (
            &broken[..],
            [
                ("git warn", "", "--version failed: nothing"),
                ("gnu_gzip warn", "", "says: BusyBox v1.36.1 multi-call binary."),
                ("python3 fail", "", "says: Python 2.7"),
                ("pip fail", "", "failed: No module named pip"),
            ],
        ),
    ] {
        let machine = Machine::new();
        for (name, body) in scripts {
            machine.script(name, body);
        }
        let checks = machine.examine();
        for (row, begins, ends) in rows {
            let (id, want) = row.split_once(' ').unwrap();
            let (check, found) = (&checks[id], &checks[id].finding.found);
            assert_eq!(status(check), want, "{check:?}");
            assert!(found.starts_with(begins) && found.ends_with(ends), "{check:?}");
        }
    }
}

#[test]
fn a_program_that_hangs_or_cannot_start_is_no_ok() {
    let machine = Machine::new();
    let path = machine.dir.path().join("bin/slow");
    machine.script("slow", "while :; do :; done");
    let host = Host::with(machine.env.clone(), "/");
    let before = Instant::now();
    let got = run(&host, &path, &[], Duration::from_millis(200)).unwrap();
    assert!(matches!(got, Ran::TimedOut), "{got:?}");
    // It would run for ever; any end shows that the deadline works.
    assert!(before.elapsed() >= Duration::from_millis(200));

    program(machine.dir.path().join("bin/git"), "not a program");
    let git = &machine.examine()["git"];
    assert!(git.finding.found.contains("cannot be started"), "{git:?}");
}

#[test]
fn words_of_programs_cannot_steer_a_terminal() {
    let machine = Machine::new();
    // More than a pipe holds, too: it must be able to end.
    let much = "i=0; while [ $i -lt 3000 ]; do echo $i and a hundred bytes or so for the pipe, \
                which holds 65536 of them by default; i=$((i+1)); done";
    machine.script("git", &format!("printf '\\033[2Jgone\\n'; {much}"));
    let found = &machine.examine()["git"].finding.found;
    assert!(found.ends_with("says: [2Jgone") && !found.contains('\x1b'), "{found:?}");
}

#[test]
fn nothing_is_made_and_a_store_of_others_is_refused() {
    let machine = Machine::new();
    let checks = machine.examine();
    assert_eq!(status(&checks["store"]), "ok", "{:?}", checks["store"]);
    assert!(!machine.store().exists() && !machine.dir.path().join("data").exists());
    assert!(checks["disk"].finding.found.contains("free for"), "{:?}", checks["disk"]);

    let layout = machine.store().join("v1");
    fs::create_dir_all(&layout).unwrap();
    fs::set_permissions(&layout, fs::Permissions::from_mode(0o777)).unwrap();
    let check = &machine.examine()["store"];
    assert_eq!(status(check), "fail");
    assert!(check.finding.fix.contains("--store"), "{check:?}");

    fs::remove_dir_all(machine.store()).unwrap();
    fs::write(machine.store(), "a file").unwrap();
    let check = &machine.examine()["store"];
    assert_eq!(status(check), "fail", "{check:?}");
}

#[test]
fn npm_configuration_that_cannot_be_used_is_named() {
    for (name, value, words) in [
        ("NPM_CONFIG_REGISTRY", "not an address", ""),
        ("NPM_CONFIG_CAFILE", "/nowhere/ca.pem", "/nowhere/ca.pem"),
    ] {
        let mut machine = Machine::new();
        machine.env.insert(name.into(), value.into());
        let checks = machine.examine();
        let check = &checks["npm_config"];
        assert!(status(check) == "fail" && check.finding.found.contains(words), "{check:?}");
        assert!(!checks.contains_key("registry"), "{name}");
    }
}

/// Answers one request with `reply`, and gives the request's head.
fn serve(reply: String) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/npm/", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        stream.write_all(reply.as_bytes()).unwrap();
        String::from_utf8(head).unwrap()
    });
    (address, thread)
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn the_registry_is_asked_for_the_pinned_bun() {
    let good = format!(r#"{{"dist":{{"integrity":"{}"}}}}"#, package().integrity);
    let other = r#"{"dist":{"integrity":"sha512-AAAA"}}"#;
    for (reply, expected, words) in [
        (answer("200 OK", &good), "ok", "as locked"),
        (answer("200 OK", other), "fail", "sha512-AAAA"),
        (answer("200 OK", "<html>a portal"), "fail", "absent"),
        (answer("404 Not Found", "{}"), "fail", "404"),
        (answer("503 Busy", ""), "fail", "503"),
    ] {
        let (address, thread) = serve(reply);
        let mut machine = Machine::new();
        machine.env.insert("NPM_CONFIG_REGISTRY".into(), address);
        let check = machine.examine()["registry"].clone();
        let head = thread.join().unwrap();
        assert!(head.starts_with("GET /npm/@oven%2fbun-linux-x64/1.3.14 HTTP/1.1\r\n"), "{head}");
        assert!(status(&check) == expected && check.finding.found.contains(words), "{check:?}");
    }
}

#[test]
fn a_registry_out_of_reach_is_a_fail_and_no_lock_a_warning() {
    let machine = Machine::new();
    let checks = machine.examine();
    assert_eq!(status(&checks["npm_config"]), "ok");
    assert_eq!(status(&checks["registry"]), "fail", "{:?}", checks["registry"]);
    assert_eq!(status(&machine.examine_with(None)["registry"]), "warn");
}

#[test]
fn a_sandbox_that_cannot_be_built_is_a_fail() {
    let checks = Machine::new().examine();
    assert_eq!(status(&checks["sandbox"]), "fail", "{:?}", checks["sandbox"]);
    assert!(checks.contains_key("landlock"));
    assert_eq!(status(&checks["seccomp"]), "warn");
}
