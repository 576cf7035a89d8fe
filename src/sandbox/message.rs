//! What admit and the sandbox's processes say to each other: frames of JSON over a Unix stream socket, file
//! descriptors attached to a frame's head.
//!
//! The socket is the child's standard input, so nothing of the policy ever stands in an argument list. It is also the
//! death pipe: when admit is gone, for whatever reason, init reads the end of the stream and takes everything down.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::facts::{Probe, StableFacts};
use super::failure::Failure;
use super::policy::{Command, Policy};

/// No honest message is larger: 64 MiB holds a policy with generous generated files.
const MAX_FRAME: u32 = 64 << 20;
/// Most descriptors that one message carries.
const MAX_FDS: usize = 4;

#[derive(Debug, Serialize, Deserialize)]
pub enum ToInit {
    Setup(Box<Setup>),
    /// The id maps are written; go on.
    Go,
    /// Start this command; carries standard input, output and error.
    Spawn(Command),
    /// Instead of a set-up: try each namespace by itself.
    Try,
    /// Send a signal to every process but init.
    Signal(i32),
    /// Stop every process but init, and answer when all stand still.
    Freeze,
    /// Let them go on.
    Thaw,
}

/// The policy with what only admit knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    pub policy: Policy,
    pub ids: super::policy::IdMap,
    /// A host file that the payload must not be able to read.
    pub secret: std::path::PathBuf,
    /// A process id that the host uses and the payload must not find.
    pub host_pid: i32,
    /// User and group id that the payload is to have on the host.
    pub host_ids: (u32, u32),
    /// The identities of the host's namespaces, in the order of `probes::NAMESPACES`.
    pub host_namespaces: Vec<String>,
    /// A loopback port on which the host listens and which the payload must not reach.
    pub host_port: u16,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct End {
    /// Raw wait status of its first process.
    pub status: i32,
    /// How many processes it had left running.
    pub leftovers: u32,
    /// Largest resident set, KiB.
    pub max_rss_kib: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum FromInit {
    /// The namespaces exist; the id maps are admit's to write.
    Unshared,
    /// Init exists; carries its pidfd.
    Init,
    /// Every wall stands and was probed; carries the listener and the directory, as far as the policy asks for them.
    Ready {
        facts: Box<StableFacts>,
        probes: Vec<Probe>,
    },
    /// A wall could not be built.
    Failed(Failure),
    Started,
    NotStarted(Failure),
    /// The command's first process ended and everything it left behind was killed and reaped.
    Exited(End),
    /// Everyone stands still: this many processes.
    Frozen(u32),
    /// What became of the attempt at each namespace, in the order of `probes::NAMESPACES`.
    Tried(Vec<Option<Failure>>),
}

pub fn send<T: Serialize>(
    socket: &UnixStream,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> std::io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let size = u32::try_from(body.len()).ok().filter(|n| *n <= MAX_FRAME);
    let head = size.ok_or(std::io::ErrorKind::InvalidInput)?.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    // SIGPIPE would end admit; a broken pipe is an answer.
    let sent =
        rustix::net::sendmsg(socket, &[IoSlice::new(&head)], &mut control, SendFlags::NOSIGNAL)?;
    if sent != head.len() {
        return Err(std::io::ErrorKind::WriteZero.into());
    }
    let mut rest = &body[..];
    while !rest.is_empty() {
        match rustix::net::send(socket, rest, SendFlags::NOSIGNAL) {
            Ok(n) => rest = &rest[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
    (&*socket).flush()
}

/// Receives one message with its descriptors; `None` when the other side is gone.
pub fn receive<T: DeserializeOwned>(
    mut socket: &UnixStream,
) -> std::io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut head = [0u8; 4];
    let mut fds = Vec::new();
    let mut have = 0;
    while have < head.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut head[have..])];
        let got =
            match rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(list) = message {
                fds.extend(list);
            }
        }
        match (got.bytes, have) {
            (0, 0) => return Ok(None),
            (0, _) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            (n, _) => have += n,
        }
    }
    let size = u32::from_le_bytes(head);
    if size > MAX_FRAME {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; size as usize];
    socket.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, fds)))
}
