//! The sandbox's side: the re-executed child that makes the namespaces, and the sandbox's own PID 1.
//!
//! Both have one thread. The first makes the namespaces, starts init as its sibling (so that admit itself can wait for
//! it) and ends. Init builds the walls, has them probed, and then starts what admit asks for, one command at a time.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit};

use super::explain::{NAMESPACES, explained};
use super::facts::StableFacts;
use super::failure::{Failure, Result};
use super::message::{End, FromInit, Setup, ToInit, receive, send};
use super::policy::{Command, IdMap, PAYLOAD_ID, Policy, Protection};
use super::sys::{self, Named as _};
use super::{freeze, mounts, payload, probes, seccomp};

/// The hidden first argument of the re-executed child.
pub const CHILD_ARGUMENT: &str = "__sandbox";

/// Another hidden argument: makes every attempt of the probes right here, whatever is protected. Tests run it in a sandbox
/// that another program made.
pub const PROBE_ARGUMENT: &str = "__sandbox-probe";

/// If the arguments (with the program's name first) are those of the sandbox's child, is that child and returns its
/// exit code. `main` calls it before anything else, while the process has one thread.
pub fn maybe_child(args: impl IntoIterator<Item = OsString>) -> Option<u8> {
    let mut args = args.into_iter().skip(1);
    let first = args.next()?;
    if args.next().is_some() {
        return None;
    }
    match first.to_str()? {
        CHILD_ARGUMENT => Some(child()),
        PROBE_ARGUMENT => Some(probes::here()),
        _ => None,
    }
}

/// The re-executed child. It has nowhere to print to: what goes wrong is said over the socket.
fn child() -> u8 {
    let Ok(stdin) = sys::adopt_fd(0) else { return 70 };
    let control = UnixStream::from(stdin);
    let outcome = match receive::<ToInit>(&control) {
        Ok(Some((ToInit::Setup(setup), _))) => prepare(&control, &setup),
        Ok(Some((ToInit::Try, _))) => say(&control, &FromInit::Tried(try_each())),
        _ => return 70,
    };
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            let _ = send(&control, &FromInit::Failed(explained(failure)), &[]);
            70
        }
    }
}

/// Every namespace: its name in `/proc/<pid>/ns`, its flag, and the wall that it is part of, if a test can leave it out.
const ALL: [(&str, i32, Option<Protection>); 7] = [
    ("user", libc::CLONE_NEWUSER, None),
    ("mnt", libc::CLONE_NEWNS, None),
    ("pid", libc::CLONE_NEWPID, Some(Protection::PidNamespace)),
    ("net", libc::CLONE_NEWNET, Some(Protection::NetworkNamespace)),
    ("ipc", libc::CLONE_NEWIPC, Some(Protection::IpcNamespace)),
    ("uts", libc::CLONE_NEWUTS, Some(Protection::UtsNamespace)),
    ("cgroup", libc::CLONE_NEWCGROUP, Some(Protection::CgroupNamespace)),
];

/// The flag of a time namespace, from linux/sched.h; the libc crate has it for some targets only.
const CLONE_NEWTIME: i32 = 0x80;

/// The namespaces that a policy asks for, as flags and by name.
pub fn namespaces(policy: &Policy) -> (i32, Vec<String>) {
    let built: Vec<_> =
        ALL.into_iter().filter(|(_, _, wall)| wall.is_none_or(|w| policy.has(w))).collect();
    (
        built.iter().fold(0, |flags, (_, flag, _)| flags | flag),
        built.iter().map(|(name, _, _)| (*name).to_owned()).collect(),
    )
}

/// Tries each namespace in a process of its own, beside the user namespace that it needs.
fn try_each() -> Vec<Option<Failure>> {
    let attempt = |flag: i32| {
        let outcome = sys::fork(Box::new(move || {
            // errnos are below 256, so the exit code can carry one.
            sys::unshare(libc::CLONE_NEWUSER | flag)
                .map_or_else(|failed| u8::try_from(failed.errno).unwrap_or(u8::MAX), |()| 0)
        }))
        .and_then(sys::wait_for)
        .map_err(Failure::of("try a namespace"));
        let errno = match outcome {
            Ok(status) if libc::WIFEXITED(status) => libc::WEXITSTATUS(status),
            Ok(status) => {
                return Some(Failure::silent("try a namespace", "the trying process", status));
            }
            Err(failure) => return Some(failure),
        };
        let call = format!("unshare({:#x})", libc::CLONE_NEWUSER | flag);
        (errno != 0).then(|| explained(Failure::of(NAMESPACES)(sys::Failed { call, errno })))
    };
    ALL.iter().map(|(_, flag, _)| attempt(*flag)).collect()
}

fn prepare(control: &UnixStream, setup: &Setup) -> Result<()> {
    let step = |text: &str| Failure::of(text.to_owned());
    if setup.policy.has(Protection::ClosedDescriptors) {
        sys::close_range(3, false).map_err(step("close inherited descriptors"))?;
        // The control socket lives on as descriptor 0.
    }
    rustix::process::umask(rustix::fs::Mode::empty());
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)
        .named("setrlimit(RLIMIT_CORE, 0)")
        .map_err(step("no core files"))?;
    // When memory runs out, the kernel shall take the sandbox and not the user's other work.
    std::fs::write("/proc/self/oom_score_adj", "1000")
        .named("write(/proc/self/oom_score_adj, 1000)")
        .map_err(step("be the first to go when memory runs out"))?;
    let (flags, _) = namespaces(&setup.policy);
    // Before the new user namespace: afterwards the ids read as nobody's.
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::unshare(flags).map_err(step(NAMESPACES))?;
    match setup.ids {
        IdMap::OneLine => {
            let inner = if setup.policy.has(Protection::IdMap) { PAYLOAD_ID } else { 0 };
            for (file, text) in [
                ("setgroups", "deny".to_owned()),
                ("uid_map", format!("{inner} {uid} 1")),
                ("gid_map", format!("{inner} {gid} 1")),
            ] {
                std::fs::write(format!("/proc/self/{file}"), &text)
                    .named(format_args!("write(/proc/self/{file}, {text:?})"))
                    .map_err(step("id maps"))?;
            }
        }
        IdMap::TwoLines => {
            say(control, &FromInit::Unshared)?;
            go(control)?;
        }
    }
    if let Some(seconds) = setup.policy.clock_ahead {
        // For the processes that this one starts, and before the first of them (time_namespaces(7)).
        sys::unshare(CLONE_NEWTIME).map_err(step("a time namespace"))?;
        let text = format!("monotonic {seconds} 0\nboottime {seconds} 0\n");
        std::fs::write("/proc/self/timens_offsets", &text)
            .named(format_args!("write(/proc/self/timens_offsets, {text:?})"))
            .map_err(step("move the clocks"))?;
    }
    let (introduced, introduce) =
        std::io::pipe().named("pipe2(O_CLOEXEC)").map_err(step(INTRODUCE))?;
    let introduce = Cell::new(Some(introduce));
    let pid = sys::clone_sibling(Box::new(|| {
        // Its copy of this end, so that the other one shows the end of who introduces it.
        drop(introduce.take());
        match (&introduced).read_exact(&mut [0]) {
            Ok(()) => init(control, setup),
            Err(_) => 70,
        }
    }))
    .map_err(step("start the sandbox's init"))?;
    introduce_init(control, pid)?;
    // From here on the socket is init's; this process only ends.
    introduce.take().map_or(Ok(()), |mut pipe| {
        pipe.write_all(&[1]).named("write(init)").map_err(step(INTRODUCE))
    })
}

const INTRODUCE: &str = "introduce init to admit";

/// Gives admit its handle on init, by which it kills and waits for everything inside. Before init does anything: who ends
/// it at whatever moment, admit sees that end.
fn introduce_init(control: &UnixStream, init: Pid) -> Result<()> {
    let pidfd = rustix::process::pidfd_open(init, rustix::process::PidfdFlags::empty());
    let pidfd =
        pidfd.named(format_args!("pidfd_open({init:?})")).map_err(Failure::of(INTRODUCE))?;
    send(control, &FromInit::Init, &[pidfd.as_fd()])
        .named("sendmsg(init)")
        .map_err(Failure::of(INTRODUCE))
}

fn say(control: &UnixStream, message: &FromInit) -> Result<()> {
    send(control, message, &[]).named("sendmsg(control)").map_err(Failure::of("tell admit"))
}

fn go(control: &UnixStream) -> Result<()> {
    match receive::<ToInit>(control) {
        Ok(Some((ToInit::Go, _))) => Ok(()),
        other => Err(Failure::plain("wait for admit", format!("{:?}", other.map(|o| o.is_some())))),
    }
}

/// PID 1. Its end is the end of everything inside.
fn init(control: &UnixStream, setup: &Setup) -> u8 {
    if let Err(failure) = serve(control, setup) {
        let _ = send(control, &FromInit::Failed(explained(failure)), &[]);
        return 70;
    }
    0
}

fn serve(control: &UnixStream, setup: &Setup) -> Result<()> {
    let signals = sys::child_signals().map_err(Failure::of("watch children"))?;
    let (facts, own_program, fds) = build(setup)?;
    // From here on the limits that bind are the policy's.
    let mut setup = setup.clone();
    if let Some(limits) = &facts.limits_in_force {
        setup.policy.limits.clone_from(limits);
    }
    let (setup, policy) = (&setup, &setup.policy);
    // From here on no process inside may look into this one, whatever its user id is.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .named("prctl(PR_SET_DUMPABLE, 0)")
        .map_err(Failure::of("close init to others"))?;
    let probes = probes::run(setup, &facts, &own_program)?;
    let ready = FromInit::Ready { facts: Box::new(facts), probes };
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    send(control, &ready, &borrowed).named("sendmsg(ready)").map_err(Failure::of("tell admit"))?;
    drop(fds);
    let mut running: Option<Pid> = None;
    loop {
        let mut poll = [PollFd::new(control, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        match rustix::event::poll(&mut poll, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(Failure::plain("wait", err.to_string())),
        }
        let [control_ready, child_ended] = poll.map(|p| !p.revents().is_empty());
        if child_ended {
            running = reap(control, &signals, running)?;
        }
        if control_ready {
            // The end of the stream: admit is gone, and so is everything here when this process ends.
            let Ok(Some((message, fds))) = receive::<ToInit>(control) else { return Ok(()) };
            match message {
                ToInit::Spawn(command) if running.is_none() => {
                    running = spawn(control, policy, setup.ids, &command, &fds)?;
                }
                ToInit::Signal(signal) => everyone(signal)?,
                ToInit::Freeze => {
                    everyone(libc::SIGSTOP)?;
                    say(control, &FromInit::Frozen(freeze::standstill()?))?;
                }
                ToInit::Thaw => everyone(libc::SIGCONT)?,
                other => return Err(Failure::plain("unexpected message", format!("{other:?}"))),
            }
        }
    }
}

/// Signals every process but this one; that there is none is fine.
fn everyone(signal: i32) -> Result<()> {
    match sys::kill_everyone(signal) {
        Err(failed) if failed.errno != libc::ESRCH => Err(Failure::of("signal everyone")(failed)),
        _ => Ok(()),
    }
}

/// Builds all walls that init itself builds, and returns where admit's own program would be seen and what goes out to
/// admit: listener, socket for host names, directory.
fn build(setup: &Setup) -> Result<(StableFacts, Vec<String>, Vec<OwnedFd>)> {
    let policy = &setup.policy;
    let mut fds = Vec::new();
    if policy.has(Protection::NetworkNamespace) {
        sys::interface_up("lo").map_err(Failure::of("bring loopback up"))?;
        if !policy.has(Protection::NoRoute) {
            // A test's hole: an address of the documentation network (RFC 5737) that answers.
            sys::interface_address("lo:0", probes::OUTSIDE).map_err(Failure::of("open a route"))?;
        }
    }
    if let Some(port) = policy.listener {
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port));
        let listener = listener
            .named(format_args!("bind(127.0.0.1:{port})"))
            .map_err(Failure::of("open the listener"))?;
        fds.push(listener.into());
        if policy.answers_names() {
            let names = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 53));
            let names = names
                .named("bind(127.0.0.1:53)")
                .map_err(Failure::of("open the socket for host names"))?;
            fds.push(names.into());
        }
    }
    if policy.has(Protection::UtsNamespace) {
        rustix::system::sethostname(policy.hostname.as_bytes())
            .named(format_args!("sethostname({})", policy.hostname))
            .map_err(Failure::of("set the host name"))?;
    }
    let interfaces = interfaces()?;
    let built = mounts::build(policy)?;
    if let Some(place) = &policy.handout {
        fds.push(mounts::handout(place)?);
    }
    let program = seccomp::program(policy);
    let landlock_abi = if policy.has(Protection::Landlock) { payload::landlock_abi() } else { 0 };
    let (in_force, mut limits) = payload::in_force(policy);
    if landlock_abi == 0 {
        limits.push("the kernel has no Landlock: files have one wall, the mounts".to_owned());
    } else if landlock_abi < payload::LANDLOCK_SCOPES {
        limits.push(format!(
            "Landlock ABI {landlock_abi}: no scopes for signals and abstract sockets"
        ));
    }
    let groups = rustix::process::getgroups().unwrap_or_default();
    if setup.ids == IdMap::OneLine && groups.iter().any(|g| g.as_raw() != PAYLOAD_ID) {
        limits.push("the user's further groups stay with the payload, which cannot name them: a file that such a group may read is readable where it is mounted".to_owned());
    }
    limits.push("memory is bounded by the size of the memory file systems and by the kernel's out-of-memory killer, which takes the sandbox first; there is no memory cgroup".to_owned());
    let facts = StableFacts {
        policy: policy.clone(),
        limits_in_force: Some(in_force),
        namespaces: namespaces(policy).1,
        ids: setup.ids,
        landlock_abi,
        seccomp_instructions: u32::try_from(program.len()).unwrap_or(u32::MAX),
        seccomp_sha256: seccomp::digest(&program),
        interfaces,
        submounts: built.submounts,
        verified: built.verified,
        limits,
    };
    Ok((facts, built.own_program, fds))
}

/// The interfaces of this network namespace, from proc while it is whole.
fn interfaces() -> Result<Vec<String>> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev")
        .named("read(/proc/thread-self/net/dev)")
        .map_err(Failure::of("list the network interfaces"))?;
    // Two lines of headings, then `name: counters`.
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    Ok(names.map(|(name, _)| name.trim().to_owned()).collect::<BTreeSet<_>>().into_iter().collect())
}

/// Starts a command; answers `Started` or `NotStarted`.
fn spawn(
    control: &UnixStream,
    policy: &Policy,
    ids: IdMap,
    command: &Command,
    streams: &[OwnedFd],
) -> Result<Option<Pid>> {
    let step = "start a command";
    let (mut failed, report) =
        std::io::pipe().named("pipe2(O_CLOEXEC)").map_err(Failure::of(step))?;
    let pid = sys::fork(Box::new(|| {
        let failure = payload::exec(policy, ids, command, streams);
        let text = serde_json::to_vec(&failure).unwrap_or_default();
        let _ = (&report).write_all(&text);
        127
    }))
    .map_err(Failure::of(step))?;
    drop(report);
    let mut text = Vec::new();
    // The end comes with a successful execve, which closes the other end, or with the child's death.
    failed.read_to_end(&mut text).named("read(start report)").map_err(Failure::of(step))?;
    if text.is_empty() {
        say(control, &FromInit::Started)?;
        return Ok(Some(pid));
    }
    let failure = serde_json::from_slice(&text)
        .unwrap_or_else(|_| Failure::plain(step, String::from_utf8_lossy(&text).into_owned()));
    sys::wait_for(pid).map_err(Failure::of(step))?;
    say(control, &FromInit::NotStarted(failure))?;
    Ok(None)
}

/// Reaps. When the command's own process ended, kills and reaps what it left, and says so.
fn reap(control: &UnixStream, signals: &OwnedFd, running: Option<Pid>) -> Result<Option<Pid>> {
    clear(signals);
    while let Ok(Some(ended)) = sys::reap() {
        if Some(ended.pid) != running {
            continue;
        }
        everyone(libc::SIGKILL)?;
        let (mut leftovers, mut max_rss_kib) = (0, ended.max_rss_kib);
        loop {
            match sys::reap() {
                Ok(Some(other)) => {
                    leftovers += 1;
                    max_rss_kib = max_rss_kib.max(other.max_rss_kib);
                }
                Ok(None) => {
                    let mut poll = [PollFd::new(signals, PollFlags::IN)];
                    let _ = rustix::event::poll(&mut poll, None);
                    clear(signals);
                }
                // ECHILD: no process is left.
                Err(_) => break,
            }
        }
        say(control, &FromInit::Exited(End { status: ended.status, leftovers, max_rss_kib }))?;
        return Ok(None);
    }
    Ok(running)
}

fn clear(signals: &OwnedFd) {
    // The record of which child it was is not needed: wait4 tells.
    let mut buffer = [0u8; 128 * 8];
    let _ = rustix::io::read(signals, &mut buffer);
}
