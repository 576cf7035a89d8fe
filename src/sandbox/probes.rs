//! Canary probes: attempts at every wall, made from inside as the payload before any payload runs. Each has the one
//! answer that its wall gives; any other answer means that the wall is not there or not what admit believes.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{DumpableBehavior, Pid};

use super::facts::{Probe, StableFacts};
use super::failure::{Failure, Result};
use super::message::Setup;
use super::policy::{IdMap, Mount, PAYLOAD_ID};
use super::sys::{self, Named as _};
use super::{payload, seccomp};

/// An address of the documentation network (RFC 5737, TEST-NET-1), which nobody has.
pub const OUTSIDE: [u8; 4] = [192, 0, 2, 1];

/// The namespaces that a process may have of its own.
pub const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

/// The identities of the calling process's namespaces, in the order of `NAMESPACES`.
pub fn own_namespaces() -> Vec<String> {
    let read = |name: &&str| std::fs::read_link(format!("/proc/self/ns/{name}"));
    let text = |link: std::io::Result<std::path::PathBuf>| {
        link.map_or_else(|e| e.to_string(), |l| l.display().to_string())
    };
    NAMESPACES.iter().map(|name| text(read(name))).collect()
}

/// Forks a process that becomes the payload and makes every attempt; init reads what it saw.
pub fn run(setup: &Setup, facts: &StableFacts, own_program: &[String]) -> Result<Vec<Probe>> {
    let step = "probe the walls";
    // A host process whose number is also that of a probe would be found inside for another reason.
    for _ in 0..if setup.host_pid < 16 { 16 } else { 0 } {
        sys::fork(Box::new(|| 0)).and_then(sys::wait_for).map_err(Failure::of(step))?;
    }
    let (mut seen, report) =
        std::io::pipe().named("pipe2(O_CLOEXEC)").map_err(Failure::of(step))?;
    let null = |flags: OFlags| {
        rustix::fs::open("/dev/null", flags | OFlags::CLOEXEC, Mode::empty())
            .named("open(/dev/null)")
            .map_err(Failure::of(step))
    };
    let streams = [null(OFlags::RDONLY)?, OwnedFd::from(report), null(OFlags::WRONLY)?];
    let pid = sys::fork(Box::new(|| {
        let seen = payload::streams(&setup.policy, &streams)
            .and_then(|()| payload::become_payload(&setup.policy, setup.ids))
            .and_then(|()| attempts(setup, facts, own_program));
        let text = serde_json::to_vec(&seen).unwrap_or_default();
        u8::from(
            std::io::stdout().write_all(&text).and_then(|()| std::io::stdout().flush()).is_err(),
        )
    }))
    .map_err(Failure::of(step))?;
    drop(streams);
    let mut text = Vec::new();
    seen.read_to_end(&mut text).named("read(probe report)").map_err(Failure::of(step))?;
    let status = sys::wait_for(pid).map_err(Failure::of(step))?;
    let seen: std::result::Result<Result<Vec<Probe>>, _> = serde_json::from_slice(&text);
    match seen {
        Ok(seen) if status == 0 => seen,
        _ => Err(Failure::silent(step, "the probing process", status)),
    }
}

/// Reads a set-up and facts from standard input, makes every attempt with whatever rights this process has, and writes
/// what it saw to standard output.
pub fn here() -> u8 {
    let mut text = Vec::new();
    if std::io::stdin().read_to_end(&mut text).is_err() {
        return 70;
    }
    let Ok((setup, facts)) = serde_json::from_slice::<(Setup, StableFacts)>(&text) else {
        return 70;
    };
    let seen = serde_json::to_vec(&attempts(&setup, &facts, &[])).unwrap_or_default();
    let mut stdout = std::io::stdout();
    u8::from(stdout.write_all(&seen).and_then(|()| stdout.flush()).is_err())
}

struct Attempts {
    seen: Vec<Probe>,
}

impl Attempts {
    fn value(&mut self, name: impl Into<String>, expected: impl ToString, got: impl ToString) {
        let (expected, got) = (expected.to_string(), got.to_string());
        self.seen.push(Probe { name: name.into(), expected, got });
    }

    fn errno(&mut self, name: impl Into<String>, expected: i32, got: i32) {
        self.value(name, errno_name(expected), errno_name(got));
    }

    fn open(
        &mut self,
        name: impl Into<String>,
        path: impl AsRef<Path>,
        flags: OFlags,
        expected: i32,
    ) {
        self.errno(name, expected, open(path.as_ref(), flags));
    }

    /// A read-only place must refuse a write for that reason and no other.
    fn write(&mut self, place: &str) {
        let path = Path::new(place);
        let dir = rustix::fs::lstat(path)
            .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
        let mut got = if dir {
            let new = path.join(".admit-probe");
            let got = open(&new, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY);
            if got == 0 {
                let _ = rustix::fs::unlink(&new);
            }
            got
        } else {
            open(path, OFlags::WRONLY)
        };
        // Behind a directory that the payload may not even enter, and of a program that runs, the kernel refuses before it
        // comes to the mount: ask the mount itself.
        if matches!(got, libc::EACCES | libc::ETXTBSY)
            && rustix::fs::statvfs(path)
                .is_ok_and(|v| v.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
        {
            got = libc::EROFS;
        }
        self.errno(format!("write {place}"), libc::EROFS, got);
    }
}

fn open(path: &Path, flags: OFlags) -> i32 {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).err().map_or(0, |e| e.raw_os_error())
}

/// Makes every attempt. Runs as the payload.
fn attempts(setup: &Setup, facts: &StableFacts, own_program: &[String]) -> Result<Vec<Probe>> {
    let mut all = Attempts { seen: Vec::new() };
    // As after an execve; the copied state of init would hide this process's own files from it.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
        .named("prctl(PR_SET_DUMPABLE, 1)")
        .map_err(Failure::of("probe the walls"))?;
    identity(&mut all, setup);
    files(&mut all, setup, facts);
    let seen = own_program.iter().find(|place| open(Path::new(place), OFlags::RDONLY) == 0);
    all.value("admit's own program", "hidden", seen.map_or("hidden", String::as_str));
    processes(&mut all, setup);
    calls(&mut all);
    network(&mut all, setup);
    for (name, resource, want) in payload::limits(&setup.policy) {
        if let Some(want) = want {
            let got = rustix::process::getrlimit(resource);
            let text = |v: Option<u64>| v.map_or("unlimited".into(), |v| v.to_string());
            let both = format!("{} {}", text(got.current), text(got.maximum));
            all.value(format!("limit {name}"), format!("{want} {want}"), both);
        }
    }
    Ok(all.seen)
}

fn identity(all: &mut Attempts, setup: &Setup) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.map_or("missing".into(), |v| v.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let id = format!("{PAYLOAD_ID} {PAYLOAD_ID} {PAYLOAD_ID} {PAYLOAD_ID}");
    all.value("user ids", &id, field("Uid"));
    all.value("group ids", &id, field("Gid"));
    for (file, want) in [("uid_map", setup.host_ids.0), ("gid_map", setup.host_ids.1)] {
        let map = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let outer = map.lines().find_map(|line| {
            let mut fields = line.split_whitespace();
            (fields.next()?.parse() == Ok(PAYLOAD_ID)).then(|| fields.next())?
        });
        all.value(format!("host id in {file}"), want, outer.unwrap_or("none"));
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        all.value(format!("capabilities {set}"), "0000000000000000", field(set));
    }
    all.value("no new privileges", "1", field("NoNewPrivs"));
    // 2: SECCOMP_MODE_FILTER.
    all.value("system call filter", "2", field("Seccomp"));
    let here = own_namespaces();
    for ((name, ours), host) in NAMESPACES.iter().zip(here).zip(&setup.host_namespaces) {
        all.value(
            format!("namespace {name}"),
            "own",
            if ours == *host { "the host's" } else { "own" },
        );
    }
    let host = rustix::system::uname();
    all.value("host name", &setup.policy.hostname, host.nodename().to_string_lossy());
    all.errno("sethostname", libc::EPERM, errno(rustix::system::sethostname(b"probe")));
    // With two lines 0 exists and may not be taken; with one line it does not exist.
    let to_root = if setup.ids == IdMap::TwoLines { libc::EPERM } else { libc::EINVAL };
    all.errno(
        "setuid 0",
        to_root,
        errno(rustix::thread::set_thread_uid(rustix::process::Uid::ROOT)),
    );
}

fn errno<T>(result: rustix::io::Result<T>) -> i32 {
    result.err().map_or(0, |e| e.raw_os_error())
}

fn files(all: &mut Attempts, setup: &Setup, facts: &StableFacts) {
    all.write("/");
    for mount in &setup.policy.mounts {
        match mount {
            Mount::ReadOnly { inside, .. } | Mount::Verified { inside, .. } => {
                all.write(inside.as_str());
            }
            _ => {}
        }
    }
    for place in &facts.submounts {
        all.write(place);
    }
    all.open("read a host file", &setup.secret, OFlags::RDONLY, libc::ENOENT);
    let pattern = "/proc/sys/kernel/core_pattern";
    all.open(format!("write {pattern}"), pattern, OFlags::WRONLY, libc::ENOENT);
    let score = "/proc/self/oom_score_adj";
    all.open(format!("write {score}"), score, OFlags::WRONLY, libc::EROFS);
    let writable = setup.policy.mounts.iter().find_map(|m| match m {
        Mount::Tmpfs { inside, .. } | Mount::Writable { inside, .. } => Some(inside),
        _ => None,
    });
    if let (Some(place), true) = (writable, payload::landlock_abi() > 0) {
        // A device node 0:0 needs no capability since Linux 5.8; only Landlock denies it.
        let path = format!("{place}/.admit-probe");
        let mode = Mode::RUSR | Mode::WUSR;
        let got = rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, mode, 0);
        if got.is_ok() {
            let _ = rustix::fs::unlink(&path);
        }
        all.errno("make a device node", libc::EACCES, errno(got));
    }
    let mut inherited = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten() {
        let info = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let flags = info.lines().find_map(|l| l.strip_prefix("flags:"));
        let flags = flags.and_then(|f| i32::from_str_radix(f.trim(), 8).ok());
        // The descriptor of this very listing is gone again, hence no flags.
        if flags.is_some_and(|f| f & libc::O_CLOEXEC == 0) {
            inherited.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    inherited.sort();
    all.value("inherited descriptors", "0 1 2", inherited.join(" "));
}

fn processes(all: &mut Attempts, setup: &Setup) {
    let parent = rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get());
    all.value("parent", "1", parent);
    if let Some(pid) = Pid::from_raw(setup.host_pid) {
        let got = errno(rustix::process::test_kill_process(pid));
        all.errno("signal a host process", libc::ESRCH, got);
    }
    all.open("read init's memory", "/proc/1/mem", OFlags::RDONLY, libc::EACCES);
    // The wall is the mount, so this process stands for any other, and access to it is never the question.
    let memory = format!("/proc/{}/mem", rustix::process::getpid().as_raw_nonzero());
    all.open("write a process's memory", memory, OFlags::RDWR, libc::EROFS);
}

fn calls(all: &mut Attempts) {
    // Before `unshare`, which would leave this process without the ids that the kernel asks for here.
    all.errno("clone a user namespace", libc::EPERM, sys::probe_clone(libc::CLONE_NEWUSER));
    for call in seccomp::DENIED {
        // Invalid everywhere, so that the call does nothing should it get through; 0 asks to be traced.
        let args = match call.number {
            libc::SYS_ptrace => [0; 6],
            libc::SYS_unshare => [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0, 0],
            _ => [usize::MAX; 6],
        };
        all.errno(format!("call {}", call.name), call.errno, sys::probe(call.number, args));
    }
    // Its own number, which without the filter is as good as 0.
    let me = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs() as usize;
    let limits = sys::probe(libc::SYS_prlimit64, [me, libc::RLIMIT_NOFILE as usize, 0, 0, 0, 0]);
    all.errno("prlimit of a process by number", libc::EPERM, limits);
    for (name, request) in [("TIOCSTI", libc::TIOCSTI), ("TIOCLINUX", libc::TIOCLINUX)] {
        let got = sys::probe(libc::SYS_ioctl, [0, request as usize, usize::MAX, 0, 0, 0]);
        all.errno(format!("ioctl {name}"), libc::EPERM, got);
    }
    if cfg!(target_arch = "x86_64") {
        let number = libc::c_long::from(seccomp::X32) | libc::SYS_getpid;
        all.errno("x32 call", libc::EPERM, sys::probe(number, [0; 6]));
    }
}

fn network(all: &mut Attempts, setup: &Setup) {
    let table = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let names = table.lines().skip(2).filter_map(|l| l.split_once(':')).map(|(n, _)| n.trim());
    all.value("network interfaces", "lo", names.collect::<Vec<_>>().join(" "));
    let families = [
        ("AF_UNIX", libc::AF_UNIX),
        ("AF_NETLINK", libc::AF_NETLINK),
        ("AF_VSOCK", libc::AF_VSOCK),
        ("AF_PACKET", libc::AF_PACKET),
        ("AF_ALG", libc::AF_ALG),
    ];
    for (name, family) in families {
        let kind = if family == libc::AF_ALG { libc::SOCK_SEQPACKET } else { libc::SOCK_DGRAM };
        let args = [family as usize, kind as usize, 0, 0, 0, 0];
        all.errno(format!("socket {name}"), libc::EPERM, sys::probe(libc::SYS_socket, args));
    }
    let pair = [libc::AF_UNIX as usize, libc::SOCK_DGRAM as usize, 0, usize::MAX, 0, 0];
    all.errno("pair of datagram sockets", libc::EPERM, sys::probe(libc::SYS_socketpair, pair));
    let Some(port) = setup.policy.listener else {
        for (name, family) in [("AF_INET", libc::AF_INET), ("AF_INET6", libc::AF_INET6)] {
            let args = [family as usize, libc::SOCK_STREAM as usize, 0, 0, 0, 0];
            all.errno(format!("socket {name}"), libc::EPERM, sys::probe(libc::SYS_socket, args));
        }
        return;
    };
    let raw = [libc::AF_INET as usize, libc::SOCK_RAW as usize, 1, 0, 0, 0];
    all.errno("socket AF_INET raw", libc::EPERM, sys::probe(libc::SYS_socket, raw));
    // The port is the one that Landlock lets through, so that the answer is the network's.
    all.errno("connect outside", libc::ENETUNREACH, connect((OUTSIDE, port)));
    let denied = if payload::landlock_abi() >= 4 { libc::EACCES } else { libc::ECONNREFUSED };
    all.errno("connect to the host's loopback", denied, connect(([127, 0, 0, 1], setup.host_port)));
}

fn connect(to: ([u8; 4], u16)) -> i32 {
    let address = std::net::SocketAddr::from(to);
    let timeout = std::time::Duration::from_millis(500);
    match std::net::TcpStream::connect_timeout(&address, timeout) {
        Ok(_) => 0,
        Err(err) => err.raw_os_error().unwrap_or(libc::ETIMEDOUT),
    }
}

/// The name of an errno, as in errno(3); numbers for those that no wall gives.
pub fn errno_name(errno: i32) -> String {
    let known = [
        (0, "done"),
        (libc::EACCES, "EACCES"),
        (libc::EBADF, "EBADF"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::EFAULT, "EFAULT"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENETUNREACH, "ENETUNREACH"),
        (libc::ENOENT, "ENOENT"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::EPERM, "EPERM"),
        (libc::EROFS, "EROFS"),
        (libc::ESRCH, "ESRCH"),
    ];
    known
        .iter()
        .find(|(number, _)| *number == errno)
        .map_or_else(|| format!("errno {errno}"), |(_, name)| (*name).to_owned())
}
