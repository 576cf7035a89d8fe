//! The sandbox seen from the host: the death of admit, a machine that does not allow it, and the same probes in a sandbox
//! that somebody else made.

use std::io::{BufRead, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::sandbox::{begin, launcher, place, policy, sh};
use crate::util;
use admit::error::Reason;
use admit::sandbox::{Launcher, Mount, Policy, Probe, diagnose, oracle, start};

/// Whether any process of this machine has `word` in its arguments.
fn running(word: &str) -> bool {
    let list = std::fs::read_dir("/proc").expect("/proc");
    list.flatten()
        .filter(|e| e.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
        .any(|e| {
            let line = std::fs::read(e.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).split('\0').any(|arg| arg == word)
        })
}

/// This test starts itself again as the admit that is to be killed.
#[test]
fn when_admit_is_killed_nothing_of_the_sandbox_survives() {
    if let Some(word) = util::var("ADMIT_TEST_HOLD") {
        let mut sandbox = begin(&policy());
        let script =
            format!("(trap '' TERM HUP; setsid sleep {word} & sleep {word} & wait) & sleep {word}");
        let _running = sandbox.spawn(&sh(&script), None).expect("starts");
        std::io::stdout().write_all(b"\nholding\n").expect("written");
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    // A number of seconds that nobody else sleeps.
    let word = format!("{}.{}", 100_000 + std::process::id(), std::process::id());
    let mut holder = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "sandbox_host::when_admit_is_killed_nothing_of_the_sandbox_survives"])
        .args(["--nocapture", "--test-threads=1"])
        .env("ADMIT_TEST_HOLD", &word)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = std::io::BufReader::new(holder.stdout.take().expect("piped")).lines();
    let held = lines.map_while(Result::ok).any(|line| line == "holding");
    assert!(held, "the holder ended");
    util::wait_for("the payload", Duration::from_secs(10), || running(&word));
    holder.kill().expect("SIGKILL");
    holder.wait().expect("reaped");
    util::wait_for("everything to end", Duration::from_secs(10), || !running(&word));
}

/// A program to start the sandbox's child with: a script that ends in it.
fn wrapped(dir: &Path, script: &str) -> Launcher {
    let exe = dir.join("wrapped");
    let text =
        format!("#!/bin/sh\n{script}\n").replace("ADMIT", &util::admit().display().to_string());
    std::fs::write(&exe, text).expect("a script");
    std::fs::set_permissions(&exe, std::fs::Permissions::from_mode(0o755)).expect("executable");
    Launcher { exe, scratch: dir.into() }
}

#[test]
fn no_user_namespaces_is_refused_with_cause_and_fix() {
    let dir = tempfile::tempdir().expect("a directory");
    // In a user namespace of its own, in which the limit is the test's to set.
    let script = "exec unshare --user --map-root-user sh -c 'echo 0 > /proc/sys/user/max_user_namespaces && exec ADMIT \"$@\"' sh \"$@\"";
    let launcher = wrapped(dir.path(), script);
    let error = start(&launcher, &policy()).err().expect("refused");
    assert_eq!((error.reason(), error.kind().exit_code()), (Reason::SandboxUnavailable, 7));
    assert_eq!(error.found_value(), Some("user.max_user_namespaces = 0"), "{:?}", error.causes());
    assert!(error.hints()[0].contains("sysctl -w user.max_user_namespaces"), "{:?}", error.hints());
    let checks = diagnose(&launcher);
    let user = checks.iter().find(|c| c.name == "namespace user").expect("tried");
    assert!(!user.ok && user.fix.is_some(), "{user:?}");
    assert!(checks.iter().any(|c| c.name == "sandbox" && !c.ok), "{checks:?}");
}

#[test]
fn one_missing_namespace_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = "exec unshare --user --map-root-user sh -c 'echo 0 > /proc/sys/user/max_net_namespaces && exec ADMIT \"$@\"' sh \"$@\"";
    let launcher = wrapped(dir.path(), script);
    let error = start(&launcher, &policy()).err().expect("refused");
    assert_eq!(error.reason(), Reason::SandboxUnavailable);
    assert_eq!(error.found_value(), Some("user.max_net_namespaces = 0"), "{:?}", error.causes());
    for check in diagnose(&launcher).iter().filter(|c| c.name.starts_with("namespace ")) {
        assert_eq!(check.ok, check.name != "namespace net", "{check:?}");
    }
}

#[test]
fn a_hard_limit_below_the_policys_is_the_one_that_binds() {
    let dir = tempfile::tempdir().expect("a directory");
    // A limit that is set by number alone is set hard and soft (ulimit(1)); file sizes count in 512 bytes.
    let launcher = wrapped(
        dir.path(),
        "ulimit -n 200; ulimit -f 2000000; ulimit -v 4000000; exec ADMIT \"$@\"",
    );
    let asked = policy();
    let mut sandbox = start(&launcher, &asked).expect("starts");
    let done = sandbox.run(&sh("ulimit -n; ulimit -f; ulimit -v; ulimit -p")).expect("runs");
    assert_eq!(done.stdout.text(), format!("200\n2000000\n4000000\n{}\n", asked.limits.processes));
    let facts = &sandbox.facts().stable;
    assert_eq!(facts.policy, asked, "what was asked for stays on record");
    let in_force = facts.limits_in_force.clone().expect("recorded");
    assert_eq!((in_force.open_files, in_force.file_size), (200, 1_024_000_000));
    assert_eq!(in_force.address_space, Some(4_096_000_000));
    assert_eq!(in_force.processes, asked.limits.processes, "never larger than the policy's");
    let words = "RLIMIT_NOFILE is 200 here, where the policy has 4096".to_owned();
    assert!(facts.limits.contains(&words), "{:?}", facts.limits);
}

/// This test starts itself again as root of a user namespace.
#[test]
fn root_of_a_user_namespace_without_a_second_id_is_refused() {
    if util::var("ADMIT_TEST_INNER").is_some() {
        let (launcher, _scratch) = launcher();
        let error = start(&launcher, &policy()).err().expect("refused");
        assert_eq!(error.reason(), Reason::SandboxUnavailable);
        assert!(error.what().contains("no second user id"), "{error}");
        return;
    }
    let name = "sandbox_host::root_of_a_user_namespace_without_a_second_id_is_refused";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", name])
        .env("ADMIT_TEST_INNER", "1")
        .output()
        .expect("util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}

#[test]
fn this_machine_allows_all_of_it() {
    let (launcher, _scratch) = launcher();
    for check in diagnose(&launcher) {
        assert!(check.ok || check.name == "landlock", "{check:?}");
    }
}

/// What bubblewrap 0.8 does otherwise, each with the reason why that is no contradiction.
fn differs(name: &str) -> Option<&'static str> {
    let root = rustix::process::geteuid().is_root();
    match name {
        "write /proc/sys/kernel/core_pattern"
        | "write /proc/self/oom_score_adj"
        | "write a process's memory" => Some("its /proc is whole and writable"),
        "make a device node" => Some("it has no Landlock"),
        "host id in uid_map" | "host id in gid_map" => {
            Some("it maps in two steps, and root to root")
        }
        "inherited descriptors" => Some("it hands its own on"),
        "setuid 0" if root => Some("it has one line in its map"),
        "read init's memory" => Some("its init has the payload's rights"),
        _ if name.starts_with("limit ") => Some("it sets no limits"),
        _ => None,
    }
}

#[test]
fn bubblewrap_gives_the_same_answers() {
    let mut policy = Policy::new("admit-test").with_host_programs().expect("host programs");
    policy.mounts.push(Mount::ReadOnly { host: "/dev".into(), inside: place("/host/dev") });
    let sandbox = begin(&policy);
    let (secret, port) = (tempfile::NamedTempFile::new().expect("a secret"), 1);
    let facts = sandbox.facts();
    let setup = oracle::Setup {
        policy: policy.clone(),
        ids: facts.stable.ids,
        secret: secret.path().into(),
        host_pid: i32::try_from(std::process::id()).expect("a pid"),
        host_ids: (facts.volatile.payload_uid, facts.volatile.payload_gid),
        host_namespaces: oracle::own_namespaces(),
        host_port: port,
    };
    let mut input = tempfile::tempfile().expect("a file");
    serde_json::to_writer(&input, &(&setup, &facts.stable)).expect("writes");
    std::io::Seek::rewind(&mut input).expect("rewinds");
    // bubblewrap reads the filter from a descriptor; the shell opens it.
    let mut filter = tempfile::NamedTempFile::new().expect("a file");
    filter.write_all(&oracle::filter(&policy)).expect("writes");
    let script = format!("exec 9< '{}'; exec bwrap --seccomp 9 \"$@\"", filter.path().display());
    let mut bwrap = Command::new("/bin/sh");
    bwrap.args(["-c", &script, "sh", "--unshare-all", "--uid", "1000", "--gid", "1000"]);
    bwrap.args([
        "--hostname",
        "admit-test",
        "--cap-drop",
        "ALL",
        "--new-session",
        "--die-with-parent",
    ]);
    bwrap.args(["--proc", "/proc", "--dev", "/dev", "--ro-bind", "/dev", "/host/dev"]);
    for mount in &policy.mounts {
        match mount {
            Mount::ReadOnly { host, inside } if inside.as_str() != "/host/dev" => {
                bwrap.arg("--ro-bind").arg(host).arg(inside.as_str());
            }
            Mount::Symlink { inside, target } => {
                bwrap.args(["--symlink", target, inside.as_str()]);
            }
            _ => {}
        }
    }
    bwrap.arg("--ro-bind").arg(util::admit()).arg("/admit").args(["--remount-ro", "/"]);
    bwrap.args(["/admit", oracle::PROBE_ARGUMENT]).stdin(input);
    let output = bwrap.output().expect("bubblewrap is installed");
    let seen: Result<Vec<Probe>, serde_json::Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let seen = seen.expect("probes ran");
    assert_eq!(seen.len(), facts.probes.len());
    for (theirs, ours) in seen.iter().zip(&facts.probes) {
        assert_eq!(theirs.name, ours.name);
        if differs(&theirs.name).is_none() {
            assert_eq!(theirs.got, ours.got, "{}", theirs.name);
        }
    }
}
