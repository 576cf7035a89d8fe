//! The sandbox: every wall, every way a command can end, and hostile payloads.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::files::{mode, write};
use crate::processes::wait_for;
use crate::util;
use admit::error::Reason;
use admit::record::ids::{AbsPath, Digest};
use admit::sandbox::{
    Clock, Command, Exit, Launcher, Mount, Policy, Protection, Running, Sandbox, SandboxFacts,
    start,
};

/// The compiled program starts the sandbox's first process, as in real use.
pub fn launcher() -> (Launcher, tempfile::TempDir) {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    (Launcher { exe: util::admit(), scratch: scratch.path().into() }, scratch)
}

pub fn place(text: &str) -> AbsPath {
    text.parse().expect("an absolute path")
}

/// A policy with the host's programs and a writable `/work`.
pub fn policy() -> Policy {
    let mut policy = Policy::new("admit-test").with_host_programs().expect("host programs");
    policy.mounts.push(Mount::Tmpfs {
        inside: place("/work"),
        size: 64 << 20,
        inodes: 4096,
        mode: 0o700,
    });
    policy
}

pub fn begin(policy: &Policy) -> Sandbox {
    let (launcher, _scratch) = launcher();
    start(&launcher, policy)
        .unwrap_or_else(|e| panic!("{e} {:?} {:?}", e.causes(), e.found_value()))
}

pub fn sh(script: &str) -> Command {
    Command::new(["/bin/sh", "-c", script], place("/work"))
}

fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_command_runs_and_reports() {
    let mut sandbox = begin(&policy());
    let done = sandbox.run(&sh("id -u; id -g; pwd; echo oops >&2; exit 3")).expect("runs");
    assert_eq!(done.exit, Exit::Code(3));
    assert_eq!(done.stdout.text(), "1000\n1000\n/work\n");
    assert_eq!(done.stderr.text(), "oops\n");
    let done = sandbox.run(&sh("kill -9 $$")).expect("runs");
    assert_eq!(done.exit, Exit::Signal(9));
    let init = sandbox.facts().volatile.init_pid;
    assert!(alive(init));
    let ended = sandbox.end();
    assert!(!alive(init), "{ended:?}");
}

#[test]
fn the_tmpfs_belongs_to_the_payload_and_lasts_between_commands() {
    let mut sandbox = begin(&policy());
    let done = sandbox.run(&sh("stat -c '%u %g %a' /work; echo kept > /work/file")).expect("runs");
    assert_eq!((done.exit, done.stdout.text()), (Exit::Code(0), "1000 1000 700\n".into()));
    assert_eq!(sandbox.run(&sh("cat file")).expect("runs").stdout.text(), "kept\n");
}

#[test]
fn what_a_command_leaves_behind_is_killed_before_the_next() {
    let mut sandbox = begin(&policy());
    let begin = Instant::now();
    let done = sandbox
        .run(&sh("setsid sleep 1000 & setsid sh -c 'sleep 1000; :' & exit 0"))
        .expect("runs");
    assert_eq!(done.exit, Exit::Code(0));
    assert!(done.leftovers >= 2, "{done:?}");
    // Both held standard output open: the end is not decided by that.
    assert!(begin.elapsed() < Duration::from_secs(30));
    let done = sandbox.run(&sh("ls /proc | grep -c '^[0-9]'")).expect("runs");
    // init, sh, ls, grep
    assert_eq!(done.stdout.text(), "4\n");
}

#[test]
fn files_that_admit_hands_in_are_the_payloads_to_link() {
    use std::io::{Read, Write};
    let mut sandbox = begin(&Policy { handout: Some(place("/work")), ..policy() });
    {
        let _guard = sandbox.owner().enter().expect("act for the payload");
        let dir = sandbox.directory().expect("handed out");
        dir.create_dir("in").expect("mkdir");
        dir.create("in/a").expect("create").write_all(b"from outside").expect("write");
    }
    let done = sandbox.run(&sh("ln in/a b && echo more >> b && stat -c %u in/a b")).expect("runs");
    assert_eq!((done.exit, done.stdout.text()), (Exit::Code(0), "1000\n1000\n".into()));
    let mut text = String::new();
    let dir = sandbox.directory().expect("handed out");
    dir.open("b").expect("open").read_to_string(&mut text).expect("read");
    assert_eq!(text, "from outsidemore\n");
    sandbox.run(&sh("ln -s /etc/passwd out")).expect("runs");
    assert!(sandbox.directory().expect("handed out").open("out").is_err(), "a link led out");
}

#[test]
fn every_wall_is_probed() {
    for listener in [None, Some(8080)] {
        let sandbox = begin(&Policy { listener, ..policy() });
        assert!(sandbox.facts().probes.len() > 80);
        assert_eq!(sandbox.facts().stable.interfaces, ["lo"]);
    }
}

/// A policy that shows `/dev` at another place, because every host has a writable file system mounted below it.
fn with_submounts() -> Policy {
    let mut policy = policy();
    policy.mounts.push(Mount::ReadOnly { host: "/dev".into(), inside: place("/host/dev") });
    policy
}

/// A policy with a verified copy of the host's shell.
fn with_copy() -> Policy {
    let mut policy = policy();
    let shell = std::fs::canonicalize("/bin/sh").expect("a shell");
    let sha256 = Digest::sha256(&std::fs::read(&shell).expect("readable"));
    policy.mounts.push(Mount::Verified {
        host: shell,
        inside: place("/opt/tool/bin/sh"),
        sha256,
        blake3: None,
        mode: 0o555,
    });
    policy
}

/// A prefix that holds a copy of admit under two names and one more file, a policy that shows it, and the launcher that
/// starts that copy.
fn with_admit_in_a_prefix() -> (tempfile::TempDir, Launcher, Policy) {
    let dir = tempfile::tempdir().expect("a directory");
    // Everybody may enter.
    mode(dir.path(), 0o755);
    let prefix = dir.path().join("prefix");
    std::fs::create_dir_all(prefix.join("bin")).expect("a directory");
    let exe = prefix.join("bin/admit");
    std::fs::copy(util::admit(), &exe).expect("a copy");
    std::fs::hard_link(&exe, prefix.join("bin/other-name")).expect("a second name");
    std::fs::write(prefix.join("bin/tool"), "a tool").expect("a file");
    let mut policy = policy();
    policy.mounts.push(Mount::ReadOnly { host: prefix, inside: place("/opt/prefix") });
    policy.mounts.push(Mount::ReadOnly { host: exe.clone(), inside: place("/opt/single") });
    let launcher = Launcher { exe, scratch: dir.path().into() };
    (dir, launcher, policy)
}

#[test]
fn admits_own_program_is_hidden_under_every_name_below_a_mounted_prefix() {
    let (_dir, launcher, mut policy) = with_admit_in_a_prefix();
    let mut sandbox = start(&launcher, &policy).unwrap_or_else(|e| panic!("{e} {:?}", e.causes()));
    let done =
        sandbox.run(&sh("cat /opt/prefix/bin/tool; ls /opt/prefix/bin | wc -l")).expect("runs");
    assert_eq!(done.stdout.text(), "a tool3\n");
    for name in ["/opt/prefix/bin/admit", "/opt/prefix/bin/other-name", "/opt/single"] {
        let done =
            sandbox.run(&sh(&format!("wc -c < {name} || exec {name} --version"))).expect("runs");
        assert_ne!(done.exit, Exit::Code(0), "{name}: {}", done.stdout.text());
        assert_eq!(done.stdout.text(), "", "{name}");
    }
    drop(sandbox);
    policy.removed_by_test.insert(Protection::OwnProgram);
    let error = start(&launcher, &policy).err().expect("the probe sees it");
    assert_eq!(error.reason(), Reason::SandboxProbeFailed);
    assert_eq!(error.expected_value(), Some("admit's own program=hidden"));
    assert_eq!(error.found_value(), Some("admit's own program=/opt/prefix/bin/admit"));
}

#[test]
fn another_admit_that_is_installed_below_a_mounted_prefix_is_hidden_too() {
    let dir = tempfile::tempdir().expect("a directory");
    mode(dir.path(), 0o755);
    let prefix = dir.path().join("prefix");
    // Another version: neither the bytes nor the size are those of the program that runs.
    write(prefix.join("local/bin/admit"), "the answers");
    write(prefix.join("lib/admit/program"), "the answers");
    std::fs::create_dir(prefix.join("sbin")).expect("a directory");
    std::os::unix::fs::symlink("../lib/admit/program", prefix.join("sbin/admit")).expect("a link");
    std::fs::create_dir_all(prefix.join("other/admit")).expect("a directory of that name");
    let mut policy = policy();
    policy.mounts.push(Mount::ReadOnly { host: prefix, inside: place("/opt/prefix") });
    let mut sandbox = begin(&policy);
    for name in ["local/bin/admit", "lib/admit/program", "sbin/admit"] {
        let done = sandbox.run(&sh(&format!("cat /opt/prefix/{name}"))).expect("runs");
        assert_ne!(done.exit, Exit::Code(0), "{name}");
        assert_eq!(done.stdout.text(), "", "{name}");
    }
    drop(sandbox);
    let seen = noticed(&policy, &[Protection::OwnProgram]);
    assert_eq!(seen, ["admit's own program=/opt/prefix/lib/admit/program"]);
}

/// Leaves protections out, and returns the probes that failed because of it.
fn noticed(policy: &Policy, protections: &[Protection]) -> Vec<String> {
    let removed_by_test = protections.iter().copied().collect();
    let (launcher, _scratch) = launcher();
    let error = start(&launcher, &Policy { removed_by_test, ..policy.clone() }).err();
    let error = error.unwrap_or_else(|| panic!("a sandbox without {protections:?} became ready"));
    assert_eq!(error.reason(), Reason::SandboxProbeFailed, "{error} {:?}", error.causes());
    assert_eq!(error.kind().exit_code(), 7);
    error.found_value().unwrap_or_default().split(", ").map(str::to_owned).collect()
}

#[track_caller]
fn control(policy: &Policy, protections: &[Protection], probes: &[&str]) {
    let noticed = noticed(policy, protections);
    for probe in probes {
        let there = noticed.iter().any(|n| n.starts_with(&format!("{probe}=")));
        assert!(there, "{protections:?}: {probe} not in {noticed:?}");
    }
}

#[test]
fn without_a_wall_around_files_its_probe_fails() {
    use Protection::*;
    control(&policy(), &[ReadOnlyRoot], &["write /"]);
    control(&policy(), &[ReadOnlyMounts], &["write /usr"]);
    control(&with_submounts(), &[ReadOnlySubmounts], &["write /host/dev/shm"]);
    control(&policy(), &[PrivateRoot, Landlock], &["read a host file", "write /"]);
    control(
        &policy(),
        &[ReadOnlyProc],
        &["write /proc/self/oom_score_adj", "write a process's memory"],
    );
    control(&policy(), &[ProcSubset], &["write /proc/sys/kernel/core_pattern"]);
    control(&with_copy(), &[SealedCopies], &["write /opt/tool/bin/sh"]);
    if begin(&policy()).facts().stable.landlock_abi > 0 {
        control(&policy(), &[Landlock], &["make a device node"]);
    }
}

#[test]
fn without_a_namespace_its_probe_fails() {
    use Protection::*;
    control(&policy(), &[PidNamespace], &["namespace pid", "parent", "signal a host process"]);
    control(&policy(), &[NetworkNamespace], &["namespace net"]);
    control(&policy(), &[IpcNamespace], &["namespace ipc"]);
    control(&policy(), &[UtsNamespace], &["namespace uts", "host name"]);
    control(&policy(), &[CgroupNamespace], &["namespace cgroup"]);
    let open = Policy { listener: Some(0), ..policy() };
    control(&Policy { listener: Some(8080), ..open.clone() }, &[NoRoute], &["connect outside"]);
    // Port 0 lets the kernel choose, so that this cannot meet a port that the host uses.
    control(&open, &[NetworkNamespace, Landlock], &["connect to the host's loopback"]);
}

#[test]
fn without_a_wall_around_rights_its_probe_fails() {
    use Protection::*;
    control(&policy(), &[IdMap], &["host id in uid_map", "host id in gid_map"]);
    control(
        &policy(),
        &[Capabilities],
        &["capabilities CapEff", "capabilities CapPrm", "capabilities CapBnd", "sethostname"],
    );
    control(&policy(), &[Capabilities, NoNewPrivileges], &["no new privileges"]);
    control(&policy(), &[Capabilities, IdMap], &["setuid 0"]);
    control(&policy(), &[Limits], &["limit RLIMIT_NPROC", "limit RLIMIT_AS", "limit RLIMIT_FSIZE"]);
    control(
        &policy(),
        &[DeniedSockets, Capabilities],
        &[
            "socket AF_UNIX",
            "socket AF_NETLINK",
            "socket AF_INET",
            "socket AF_INET6",
            "socket AF_PACKET",
            "pair of datagram sockets",
        ],
    );
    let open = Policy { listener: Some(8080), ..policy() };
    control(&open, &[DeniedSockets, Capabilities], &["socket AF_UNIX", "socket AF_INET raw"]);
    control(&policy(), &[DeniedCalls, Capabilities], &["prlimit of a process by number"]);
    if cfg!(target_arch = "x86_64") {
        control(&policy(), &[X32], &["x32 call"]);
    }
}

#[test]
fn without_the_call_filter_every_call_on_its_list_gets_through_to_the_kernel() {
    let noticed = noticed(&policy(), &[Protection::DeniedCalls, Protection::Capabilities]);
    let sandbox = begin(&policy());
    let listed = sandbox.facts().probes.iter().map(|p| &p.name);
    let missed: Vec<_> = listed
        .filter(|n| n.starts_with("call ") || n.starts_with("ioctl ") || n.starts_with("clone "))
        .filter(|name| !noticed.iter().any(|n| n.starts_with(&format!("{name}="))))
        .collect();
    // A kernel without the call answers as the filter does. These are the ones that kernels are built without.
    let optional = ["kcmp", "keyctl", "add_key", "request_key", "userfaultfd", "quotactl", "acct"]
        .into_iter()
        .chain(["kexec_load", "fanotify_init", "memfd_secret", "swapon", "swapoff", "quotactl_fd"])
        .chain(["init_module", "finit_module", "delete_module", "bpf", "perf_event_open"])
        .chain(["open_tree_attr", "statmount", "listmount", "process_vm_readv"])
        .chain(["process_vm_writev", "name_to_handle_at", "open_by_handle_at"])
        .chain(["io_uring_setup", "io_uring_enter", "io_uring_register"]);
    let optional: Vec<_> = optional.map(|n| format!("call {n}")).collect();
    assert!(missed.iter().all(|m| optional.contains(m)), "{missed:?}");
}

#[test]
fn an_inherited_descriptor_is_closed_and_without_that_the_probe_fails() {
    // Not close-on-exec: as a caller's open log file may be.
    let (leak, _other) = std::io::pipe().expect("a pipe");
    let leak = rustix::io::dup(&leak).expect("a plain duplicate");
    control(&policy(), &[Protection::ClosedDescriptors], &["inherited descriptors"]);
    begin(&policy());
    drop(leak);
}

#[test]
fn a_wall_left_out_that_no_probe_misses_is_refused_too() {
    // Nothing verified, so nothing to miss.
    assert_eq!(noticed(&policy(), &[Protection::SealedCopies]), [""]);
}

#[test]
fn a_verified_copy_is_what_runs_and_other_bytes_are_refused() {
    let mut sandbox = begin(&with_copy());
    let copies = sandbox.facts().stable.verified.clone();
    assert_eq!(copies.len(), 1);
    let script = "exec 2>&1; /opt/tool/bin/sh -c 'echo runs'; echo x > /opt/tool/bin/sh; rm /opt/tool/bin/sh; ls /opt/tool/bin";
    let done = sandbox.run(&sh(script)).expect("runs");
    let said = done.stdout.text();
    assert!(said.starts_with("runs\n") && said.ends_with("\nsh\n"), "{done:?}");

    let mut policy = with_copy();
    if let Some(Mount::Verified { sha256, .. }) = policy.mounts.last_mut() {
        *sha256 = Digest::sha256(b"something else");
    }
    let (launcher, _scratch) = launcher();
    let error = start(&launcher, &policy).err().expect("refused");
    assert_eq!((error.reason(), error.kind().exit_code()), (Reason::DigestMismatch, 5));
    assert!(error.found_value().is_some_and(|v| v.starts_with("sha256:")));
}

#[test]
fn host_paths_are_not_followed_through_links() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().canonicalize().expect("its real path");
    std::fs::create_dir(dir.join("real")).expect("mkdir");
    std::os::unix::fs::symlink("real", dir.join("link")).expect("symlink");
    let mut policy = policy();
    policy.mounts.push(Mount::ReadOnly { host: dir.join("link"), inside: place("/data") });
    let (launcher, _scratch) = launcher();
    let error = start(&launcher, &policy).err().expect("refused");
    assert!(error.causes().join(" ").contains("openat2"), "{:?}", error.causes());
    let resolved = Mount::read_only(dir.join("link"), place("/data")).expect("resolves");
    assert_eq!(resolved, Mount::ReadOnly { host: dir.join("real"), inside: place("/data") });
}

#[test]
fn impossible_policies_are_refused_before_anything_starts() {
    let (launcher, _scratch) = launcher();
    let file =
        |inside: &str| Mount::File { inside: place(inside), contents: "x".into(), mode: 0o444 };
    let bad = [
        Policy::new("not a host name"),
        Policy { mounts: vec![file("/proc/self/x")], ..Policy::new("t") },
        Policy { mounts: vec![file("/dev/null")], ..Policy::new("t") },
        Policy { mounts: vec![file("/a"), file("/a")], ..Policy::new("t") },
    ];
    for policy in bad {
        let error = start(&launcher, &policy).err().expect("refused");
        assert_eq!(error.reason(), Reason::BadArgument, "{policy:?}");
    }
}

#[test]
fn the_payload_sees_only_what_the_policy_names() {
    let mut policy = policy();
    let contents = "generated\n".into();
    policy.mounts.push(Mount::File { inside: place("/etc/admit/note"), contents, mode: 0o444 });
    let mut sandbox = begin(&policy);
    let script = "ls /; echo --; ls /dev /etc; echo --; cat /etc/admit/note /etc/passwd; ls -A /home /root /run /var 2>/dev/null; id; hostname; cat /proc/self/cgroup | head -1";
    let text = sandbox.run(&sh(script)).expect("runs").stdout.text();
    let mut parts = text.split("--\n");
    let root: Vec<_> = parts.next().unwrap_or_default().lines().collect();
    let known = ["bin", "dev", "etc", "lib", "lib64", "proc", "usr", "work"];
    assert!(root.iter().all(|n| known.contains(n)), "{text}");
    assert!(text.contains("generated\nroot:x:0:0"), "{text}");
    assert!(text.contains("uid=1000(admit) gid=1000(admit)"), "{text}");
    assert!(text.contains("\nadmit-test\n"), "{text}");
}

#[test]
fn a_clock_that_runs_out_ends_the_command() {
    let mut sandbox = begin(&policy());
    let wall = Duration::from_secs(1);
    let done = sandbox.run(&Command { wall, ..sh("echo begun; sleep 1000") }).expect("runs");
    assert_eq!(done.exit, Exit::TimedOut { which: Clock::Wall });
    assert_eq!(done.stdout.text(), "begun\n");
    // One that ignores SIGTERM, with a child that does so too, after its grace.
    let stubborn = "trap '' TERM; (while :; do sleep 1; done) & while :; do sleep 1; done";
    let grace = Duration::from_millis(100);
    let done = sandbox.run(&Command { wall, grace, ..sh(stubborn) }).expect("runs");
    assert_eq!((done.exit, done.wait_status), (Exit::TimedOut { which: Clock::Wall }, 9));
    // One that uses its grace.
    let polite = "trap 'echo bye; exit 7' TERM; while :; do sleep 0.01; done";
    let done = sandbox.run(&Command { wall, ..sh(polite) }).expect("runs");
    assert_eq!((done.exit, done.wait_status), (Exit::TimedOut { which: Clock::Wall }, 7 << 8));
    assert_eq!(done.stdout.text(), "bye\n");
}

#[test]
fn frozen_processes_stand_still_until_they_are_thawed() {
    let mut sandbox = begin(&Policy { handout: Some(place("/work")), ..policy() });
    let count = "n=0; while :; do n=$((n+1)); echo $n > n.tmp; mv n.tmp n; done";
    let mut running = sandbox.spawn(&sh(&format!("({count}) & {count}")), None).expect("starts");
    let read = |running: &Running<'_>| {
        running.sandbox().directory().and_then(|d| d.read_to_string("n").ok())
    };
    wait_for("the counter", Duration::from_secs(20), || read(&running).is_some());
    let frozen = running.freeze().expect("freezes").expect("still there");
    assert!(frozen >= 2, "{frozen}");
    let before = read(&running);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(read(&running), before);
    running.thaw().expect("thaws");
    wait_for("the counter", Duration::from_secs(20), || read(&running) != before);
    running.freeze().expect("freezes");
    running.terminate(Clock::Caller).expect("ends, although frozen");
    let done = running.finish().expect("finishes");
    assert_eq!(done.exit, Exit::TimedOut { which: Clock::Caller });
}

#[test]
fn endless_output_is_counted_hashed_and_cut() {
    let mut sandbox = begin(&policy());
    let script = "head -c 3000000 /dev/zero; printf end >&2";
    let done = sandbox.run(&Command { stdout_cap: 10, ..sh(script) }).expect("runs");
    assert_eq!((done.exit, done.stdout.total), (Exit::Code(0), 3_000_000));
    assert_eq!(done.stdout.kept, [0; 10]);
    assert_eq!(done.stdout.sha256, Digest::sha256(&vec![0; 3_000_000]));
    assert!(done.stdout.truncated() && !done.stderr.truncated());
    let wall = Duration::from_secs(2);
    let done = sandbox.run(&Command { stdout_cap: 1 << 10, wall, ..sh("yes") }).expect("runs");
    assert_eq!(done.exit, Exit::TimedOut { which: Clock::Wall });
    assert!(done.stdout.total > 1 << 20);
}

#[test]
fn hostile_payloads_stay_inside() {
    let mut sandbox = begin(&policy());
    // What is written and what is left running: the probes, and what a command leaves behind. Nothing inside can end or stop
    // init.
    let kills =
        "kill -9 1 2>/dev/null; kill -STOP 1 2>/dev/null; kill -TERM -1 2>/dev/null; echo alive";
    for (script, said) in [(kills, "alive\n"), ("echo still here", "still here\n")] {
        assert_eq!(sandbox.run(&sh(script)).expect("runs").stdout.text(), said);
    }
}

#[test]
fn limits_bind() {
    let mut policy = policy();
    policy.limits.processes = 40;
    policy.limits.file_size = 1 << 20;
    let mut sandbox = begin(&policy);
    let bomb = "bomb() { bomb | bomb & }; bomb; sleep 0.3; ls /proc | grep -c '^[0-9]'";
    let done = sandbox.run(&Command { wall: Duration::from_secs(10), ..sh(bomb) }).expect("runs");
    assert!(done.leftovers < 60, "{done:?}");
    let done = sandbox.run(&sh("exec head -c 2000000 /dev/zero > big")).expect("runs");
    assert_eq!(done.exit, Exit::Limit { what: "RLIMIT_FSIZE" });
    // The memory file system is full before the host's memory is.
    let fill =
        "i=0; while [ $i -lt 100 ]; do head -c 1000000 /dev/zero > f$i || exit 9; i=$((i+1)); done";
    assert_eq!(sandbox.run(&sh(fill)).expect("runs").exit, Exit::Code(9));
}

#[test]
fn the_listener_comes_out_and_is_the_only_door() {
    use std::io::{Read, Write};
    let mut sandbox = begin(&Policy { listener: Some(8080), ..policy() });
    let listener = sandbox.listener().expect("handed out");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut text = [0; 5];
        stream.read_exact(&mut text).expect("reads");
        stream.write_all(b"pong\n").expect("writes");
        text
    });
    let asks = "exec 3<>/dev/tcp/127.0.0.1/8080; echo ping >&3; cat <&3";
    let asks = Command::new(["/usr/bin/bash", "-c", asks], place("/work"));
    let done = sandbox.run(&asks).expect("runs");
    assert_eq!(done.stdout.text(), "pong\n", "{done:?}");
    assert_eq!(&server.join().expect("served"), b"ping\n");
    assert!(begin(&policy()).listener().is_none());
}

#[test]
fn a_question_for_a_host_comes_out_and_is_answered_by_nobody_else() {
    let mut sandbox = begin(&Policy { listener: Some(8080), ..policy() });
    let names = sandbox.names().expect("handed out");
    names.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let asks = "import socket\nsocket.getaddrinfo('home.example', 443)\n";
    let server = std::thread::spawn(move || {
        let mut question = [0; 512];
        let (length, from) = names.recv_from(&mut question).expect("a question");
        // No such name.
        question[2..4].copy_from_slice(&[0x81, 0x83]);
        names.send_to(&question[..length], from).expect("answered");
        question[12..length].to_vec()
    });
    let done =
        sandbox.run(&Command::new(["/usr/bin/python3", "-c", asks], place("/work"))).expect("runs");
    assert_eq!(done.exit, Exit::Code(1), "{done:?}");
    let asked = server.join().expect("answered");
    assert!(asked.starts_with(b"\x04home\x07example\0"), "{asked:?}");
    assert!(begin(&policy()).names().is_none());
}

#[test]
fn a_program_that_cannot_start_says_why() {
    let mut sandbox = begin(&policy());
    let error = sandbox.run(&Command::new(["/no/such"], place("/work"))).expect_err("refused");
    assert_eq!(error.reason(), Reason::StepFailed);
    assert!(error.causes().join(" ").contains("execve"), "{:?}", error.causes());
    let error = sandbox.run(&Command::new(["/bin/sh"], place("/no/dir"))).expect_err("refused");
    assert!(error.causes().join(" ").contains("chdir(/no/dir)"), "{:?}", error.causes());
    assert_eq!(sandbox.run(&sh("exit 4")).expect("runs").exit, Exit::Code(4));
}

#[test]
fn standard_input_is_what_was_given() {
    let mut sandbox = begin(&policy());
    let done = sandbox
        .run(&Command { stdin: b"given\n".to_vec(), ..sh("cat; cat /proc/1/comm >/dev/null") });
    assert_eq!(done.expect("runs").stdout.text(), "given\n");
    assert_eq!(sandbox.run(&sh("cat")).expect("runs").stdout.total, 0);
}

#[test]
fn stable_facts_are_stable() {
    let (one, two) = (begin(&with_copy()), begin(&with_copy()));
    assert_eq!(one.facts().stable, two.facts().stable);
    assert_eq!(one.facts().probes, two.facts().probes);
    let text = serde_json::to_string(one.facts()).expect("serialises");
    let back: SandboxFacts = serde_json::from_str(&text).expect("reads back");
    assert_eq!(&back, one.facts());
}
