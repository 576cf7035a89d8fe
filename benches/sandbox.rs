//! Sandbox start against bubblewrap with the same walls, and how long a whole tree takes to die; measured in turns, in
//! one run. `cargo bench --bench sandbox`.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a bench prints its figures")]

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use admit::sandbox::{Command, Launcher, Mount, Policy, oracle, start};

/// Starts of each kind; the median is reported.
const ROUNDS: usize = 100;

fn main() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let launcher =
        Launcher { exe: env!("CARGO_BIN_EXE_admit").into(), scratch: scratch.path().into() };
    let mut policy = Policy::new("bench").with_host_programs().expect("host programs");
    let work = "/work".parse().expect("a path");
    policy.mounts.push(Mount::Tmpfs { inside: work, size: 64 << 20, inodes: 4096, mode: 0o700 });
    let mut filter = tempfile::NamedTempFile::new().expect("a file");
    filter.write_all(&oracle::filter(&policy)).expect("written");

    let (mut ready, mut whole, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let mut sandbox = start(&launcher, &policy).expect("a sandbox");
        ready.push(begin.elapsed());
        let command = Command::new(["/bin/true"], "/work".parse().expect("a path"));
        sandbox.run(&command).expect("runs");
        sandbox.end();
        whole.push(begin.elapsed());
        theirs.push(bubblewrap(&policy, filter.path()));
    }
    let (ready, whole, theirs) = (median(ready), median(whole), median(theirs));
    println!("admit: ready, all walls probed      {ready:?}");
    println!("admit: started, /bin/true, dead     {whole:?}");
    println!("bubblewrap: started, /bin/true      {theirs:?}");
    println!("ready / bubblewrap                  {:.2} (goal 0.5)", ratio(ready, theirs));
    println!("whole / bubblewrap                  {:.2}", ratio(whole, theirs));

    let mut dead = Vec::new();
    for _ in 0..ROUNDS / 4 {
        let mut sandbox = start(&launcher, &policy).expect("a sandbox");
        let script = "for i in 1 2 3 4 5 6 7 8; do setsid sleep 1000 & done; echo up; sleep 1000";
        let command = Command::new(["/bin/sh", "-c", script], "/work".parse().expect("a path"));
        let running = sandbox.spawn(&command, None).expect("starts");
        while running.output().is_some_and(|[out, _]| out.total == 0) {
            std::thread::sleep(Duration::from_micros(200));
        }
        // The command is not waited for: the sandbox is to end under it.
        std::mem::forget(running);
        dead.push(sandbox.end().took);
    }
    dead.sort();
    println!("whole tree dead, 8 daemons: median  {:?} (goal 5 ms)", dead[dead.len() / 2]);
    println!("                            worst   {:?}", dead[dead.len() - 1]);
}

/// One start of bubblewrap with the same namespaces, mounts, filter and capabilities.
fn bubblewrap(policy: &Policy, filter: &std::path::Path) -> Duration {
    let mut bwrap = std::process::Command::new("/bin/sh");
    let script = format!("exec 9< '{}'; exec bwrap --seccomp 9 \"$@\"", filter.display());
    bwrap.args(["-c", &script, "sh", "--unshare-all", "--uid", "1000", "--gid", "1000"]);
    bwrap.args(["--hostname", "bench", "--cap-drop", "ALL", "--new-session", "--die-with-parent"]);
    bwrap.args(["--proc", "/proc", "--dev", "/dev"]);
    for mount in &policy.mounts {
        let inside = mount.inside().as_str();
        match mount {
            Mount::ReadOnly { host, .. } => bwrap.arg("--ro-bind").arg(host).arg(inside),
            Mount::Symlink { target, .. } => bwrap.args(["--symlink", target, inside]),
            Mount::Tmpfs { .. } => bwrap.args(["--tmpfs", inside]),
            _ => continue,
        };
    }
    bwrap.arg("/bin/true").stdout(Stdio::null());
    let begin = Instant::now();
    let status = bwrap.status().expect("bubblewrap is installed");
    assert!(status.success(), "{status}");
    begin.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ratio(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64()
}
