//! The same probes in a sandbox that bubblewrap makes.

use std::io::Write;
use std::process::Command;

use crate::sandbox::{begin, place};
use crate::util;
use admit::sandbox::{Mount, Policy, Probe, oracle};

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
