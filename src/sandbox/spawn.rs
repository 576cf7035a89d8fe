//! Admit's side: starts the sandbox, asks it to run commands, and takes it down.

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus};

use super::facts::{SandboxFacts, VolatileFacts};
use super::ids::{Owner, ids, write_maps};
use super::init::CHILD_ARGUMENT;
use super::message::{FromInit, Setup, ToInit, receive, send};
use super::policy::{IdMap, Mount, Policy};
use crate::error::{Error, Reason, Result};
use crate::stop;

/// How a sandbox's first process is started, and where its start-up may leave short-lived files.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The admit program: `/proc/self/exe` in admit itself; tests name the compiled binary.
    pub exe: PathBuf,
    /// An existing host directory that no policy mounts.
    pub scratch: PathBuf,
}

impl Launcher {
    /// The running program itself; `main` must have called [`super::maybe_child`].
    pub fn own(scratch: impl Into<PathBuf>) -> Self {
        Self { exe: "/proc/self/exe".into(), scratch: scratch.into() }
    }
}

#[derive(Debug)]
pub struct Ended {
    /// From the decision to the proof that no process is left: the kernel reports the end of a namespace's init only
    /// after every process in it was reaped (pid_namespaces(7)).
    pub took: Duration,
}

/// The processes of a sandbox as admit sees them. Dropping it kills and reaps them all.
struct Tree {
    child: std::process::Child,
    init: Option<OwnedFd>,
}

impl Tree {
    fn kill(&mut self) -> Duration {
        let begin = Instant::now();
        if let Some(init) = self.init.take() {
            // Both fail only when init is gone already.
            let _ = rustix::process::pidfd_send_signal(&init, Signal::KILL);
            let wait =
                || rustix::process::waitid(WaitId::PidFd(init.as_fd()), WaitIdOptions::EXITED);
            while let Err(rustix::io::Errno::INTR) = wait() {}
        }
        let took = begin.elapsed();
        let _ = self.child.kill();
        let _ = self.child.wait();
        took
    }
}

/// How long the end of a process can come after the end of its socket, on a machine with more work than it can do. Where
/// the socket has not ended, a moment is enough: whoever has it may well go on.
const LAST_MOMENTS: Duration = Duration::from_secs(5);
const LAST_MOMENT: Duration = Duration::from_millis(100);

impl Tree {
    /// Whether a signal that admit did not send ended a process of the sandbox before it was built.
    fn killed(&mut self, control: &UnixStream) -> Option<Error> {
        let until = Instant::now() + patience(control);
        loop {
            let init = self.init_ended();
            let child = self.child.try_wait().ok().flatten();
            // The first process ends well as soon as init is introduced, and before it is there is no other.
            let signals = [
                init.as_ref().and_then(|i| i.terminating_signal()),
                child.and_then(|c| c.signal()),
            ];
            let mut signals = signals.into_iter().flatten();
            if let Some(signal) = signals.find(|signal| stop::ends_others(*signal)) {
                return Some(super::explain::killed_while_built(signal));
            }
            let over = init.is_some() || child.is_some_and(|c| !c.success() || self.init.is_none());
            if over || Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn init_ended(&self) -> Option<WaitIdStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        rustix::process::waitid(WaitId::PidFd(self.init.as_ref()?.as_fd()), options).ok()?
    }
}

fn patience(control: &UnixStream) -> Duration {
    let mut poll = [PollFd::new(control, PollFlags::IN)];
    let _ = rustix::event::poll(&mut poll, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    if poll[0].revents().contains(PollFlags::HUP) { LAST_MOMENTS } else { LAST_MOMENT }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running sandbox. Dropping it takes it down.
pub struct Sandbox {
    pub(super) control: UnixStream,
    tree: Tree,
    facts: SandboxFacts,
    listener: Option<TcpListener>,
    names: Option<UdpSocket>,
    directory: Option<cap_std::fs::Dir>,
}

/// Longest time for the walls to be built, beside copying verified files.
const START: Duration = Duration::from_secs(30);

/// Builds the sandbox, has every wall probed from inside, and leaves it waiting for commands.
///
/// # Errors
/// [`Reason::SandboxUnavailable`] where a wall cannot be built, with the cause as far as it can be known;
/// [`Reason::SandboxProbeFailed`] where a probe got something else than its wall's answer;
/// [`Reason::DigestMismatch`] where a verified file differs; [`Reason::BadArgument`] for an impossible policy;
/// [`Reason::LimitHit`] where this machine's limits are too low for what would run.
pub fn start(launcher: &Launcher, policy: &Policy) -> Result<Sandbox> {
    policy.check()?;
    super::explain::room(policy)?;
    let begin = Instant::now();
    let (ids, owner) = ids()?;
    for mount in &policy.mounts {
        if let (Mount::Writable { host, .. }, IdMap::TwoLines) = (mount, ids) {
            std::os::unix::fs::lchown(host, Some(owner.uid), Some(owner.gid))
                .map_err(|e| Error::io("give to the sandbox", host, e))?;
        }
    }
    let secret = tempfile::Builder::new()
        .prefix("host-secret-")
        .tempfile_in(&launcher.scratch)
        .map_err(|e| Error::io("plant a file in", &launcher.scratch, e))?;
    rustix::fs::fchmod(secret.as_file(), rustix::fs::Mode::from_raw_mode(0o644))
        .map_err(|e| Error::io("make readable", secret.path(), e.into()))?;
    let host_listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .map_err(|e| Error::io("listen on", "127.0.0.1", e))?;
    let host_port = host_listener
        .local_addr()
        .map_err(|e| Error::io("read the port of", "127.0.0.1", e))?
        .port();
    let (control, theirs) =
        UnixStream::pair().map_err(|e| Error::io("make", "a socket pair", e))?;
    control.set_read_timeout(Some(START)).map_err(|e| Error::io("set", "a time limit", e))?;
    let child = std::process::Command::new(&launcher.exe)
        .arg(CHILD_ARGUMENT)
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .map_err(|e| Error::io("start", &launcher.exe, e))?;
    let mut tree = Tree { child, init: None };
    let setup = Setup {
        policy: policy.clone(),
        ids,
        secret: secret.path().to_owned(),
        // Its number stays taken until admit reaps it, which it does at the sandbox's end.
        host_pid: i32::try_from(tree.child.id()).unwrap_or(i32::MAX),
        host_ids: (owner.uid, owner.gid),
        host_namespaces: super::probes::own_namespaces(),
        host_port,
    };
    let io = |e| Error::io("talk to", "the sandbox", e);
    let answer = send(&control, &ToInit::Setup(Box::new(setup)), &[])
        .map_err(io)
        .and_then(|()| handshake(&control, &mut tree, owner, policy));
    let (stable, probes, mut fds) = match answer {
        Ok(ready) => ready,
        Err(error) => {
            let error = tree.killed(&control).unwrap_or(error);
            return Err(with_stderr(error, &mut tree));
        }
    };
    refuse_open_walls(policy, &probes)?;
    let mut take = || if fds.is_empty() { None } else { Some(fds.remove(0)) };
    let listener = policy.listener.and_then(|_| take()).map(TcpListener::from);
    let names = policy.answers_names().then(&mut take).flatten().map(UdpSocket::from);
    let directory = policy
        .handout
        .as_ref()
        .and_then(|_| take())
        .map(|fd| cap_std::fs::Dir::from_std_file(fd.into()));
    control.set_read_timeout(None).map_err(|e| Error::io("set", "a time limit", e))?;
    let init_pid = tree.init.as_ref().map_or(0, |fd| pid_of(fd).unwrap_or(0));
    let facts = SandboxFacts {
        stable,
        probes,
        volatile: VolatileFacts {
            init_pid,
            payload_uid: owner.uid,
            payload_gid: owner.gid,
            start_us: u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX),
        },
    };
    Ok(Sandbox { control, tree, facts, listener, names, directory })
}

type Ready = (super::facts::StableFacts, Vec<super::facts::Probe>, Vec<OwnedFd>);

/// Accompanies the child up to `Ready`.
fn handshake(
    control: &UnixStream,
    tree: &mut Tree,
    owner: Owner,
    policy: &Policy,
) -> Result<Ready> {
    loop {
        let (message, mut fds) = match receive::<FromInit>(control) {
            Ok(Some(message)) => message,
            Ok(None) => {
                return Err(Error::new(
                    Reason::SandboxUnavailable,
                    "the sandbox ended while it was being built",
                ));
            }
            Err(err) => {
                return Err(Error::new(
                    Reason::SandboxUnavailable,
                    "the sandbox did not answer while it was being built",
                )
                .caused_by(err));
            }
        };
        let go =
            || send(control, &ToInit::Go, &[]).map_err(|e| Error::io("talk to", "the sandbox", e));
        match message {
            FromInit::Unshared => {
                write_maps(tree.child.id(), owner, policy)?;
                go()?;
            }
            FromInit::Init => tree.init = fds.pop(),
            FromInit::Ready { facts, probes } => return Ok((*facts, probes, fds)),
            FromInit::Failed(failure) => return Err(super::explain::refusal(&failure)),
            other => {
                return Err(Error::new(
                    Reason::Internal,
                    format!("the sandbox said {other:?} while it was being built"),
                ));
            }
        }
    }
}

/// A wall through which a probe came, or a wall left out that no probe missed: both end here.
fn refuse_open_walls(policy: &Policy, probes: &[super::facts::Probe]) -> Result<()> {
    let open: Vec<_> = probes.iter().filter(|p| !p.held()).collect();
    if open.is_empty() && policy.removed_by_test.is_empty() {
        return Ok(());
    }
    let list = |f: fn(&super::facts::Probe) -> String| {
        open.iter().map(|p| f(p)).collect::<Vec<_>>().join(", ")
    };
    Err(Error::new(
        Reason::SandboxProbeFailed,
        "the sandbox is not tight; nothing was started in it",
    )
    .expected(list(|p| format!("{}={}", p.name, p.expected)))
    .found(list(|p| format!("{}={}", p.name, p.got)))
    .hint("run `admit doctor`; please report this with its output"))
}

/// Adds what the child printed, which it does only when it panics.
fn with_stderr(error: Error, tree: &mut Tree) -> Error {
    tree.kill();
    let mut text = String::new();
    if let Some(stderr) = tree.child.stderr.take() {
        let _ = stderr.take(4096).read_to_string(&mut text);
    }
    if text.trim().is_empty() { error } else { error.caused_by(text.trim().to_owned()) }
}

/// The process id behind a pidfd, as seen here.
fn pid_of(fd: &OwnedFd) -> Option<i32> {
    use std::os::fd::AsRawFd;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}

impl Sandbox {
    pub fn facts(&self) -> &SandboxFacts {
        &self.facts
    }

    pub fn owner(&self) -> Owner {
        Owner { uid: self.facts.volatile.payload_uid, gid: self.facts.volatile.payload_gid }
    }

    /// The directory that the policy hands out. Reading and writing through it follows no link out of it.
    pub fn directory(&self) -> Option<&cap_std::fs::Dir> {
        self.directory.as_ref()
    }

    /// The socket that listens on the sandbox's loopback: what the payload connects to, admit accepts here.
    pub fn listener(&self) -> Option<TcpListener> {
        self.listener.as_ref().and_then(|l| l.try_clone().ok())
    }

    /// The socket on which the payload's questions for host names come in.
    pub fn names(&self) -> Option<UdpSocket> {
        self.names.as_ref().and_then(|socket| socket.try_clone().ok())
    }

    /// Why it does not answer, `said` being how that showed: nothing inside can reach its init, and admit did not end it.
    pub(super) fn gone(&self, said: Option<std::io::Error>) -> Error {
        let until = Instant::now() + patience(&self.control);
        let ended = loop {
            match self.tree.init_ended() {
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                ended => break ended,
            }
        };
        let signal = ended.as_ref().and_then(|ended| ended.terminating_signal());
        if let Some(signal) = signal.filter(|signal| stop::ends_others(*signal)) {
            return super::explain::killed("the sandbox's init was ended", signal);
        }
        let error = Error::new(Reason::Internal, "the sandbox's init does not answer")
            .found(format!("its end: {ended:?}"));
        match said {
            Some(err) => error.caused_by(err),
            None => error,
        }
    }

    /// Kills everything inside and proves that nothing is left.
    pub fn end(mut self) -> Ended {
        Ended { took: self.tree.kill() }
    }
}
