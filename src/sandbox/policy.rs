//! What a sandbox is to be, as a plain value: the same value is asked for, built, and recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Reason, Result};
use crate::record::ids::{AbsPath, Digest};

/// The user and group id of the payload inside every sandbox.
pub const PAYLOAD_ID: u32 = 1000;

/// The host id that the payload maps to when admit runs as root. From the range that systemd's allocation table
/// (UIDS-GIDS) lists as unused, below 2^31, which some programs cannot go beyond. One id serves all sandboxes: they
/// cannot see each other.
pub const PAYLOAD_HOST_ID: u32 = 2_000_001_000;
/// Directories of the host that every sandbox for dynamically linked programs shows, read-only.
pub const HOST_PROGRAMS: [&str; 4] = ["/usr", "/bin", "/lib", "/lib64"];

/// Everything that decides what the payload can see and do. The order of `mounts` is the order of mounting: a mount
/// below another one comes after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The host name inside; a run puts its nonce there.
    pub hostname: String,
    /// What is visible, besides `/proc`, `/dev` and the generated `/etc`.
    pub mounts: Vec<Mount>,
    /// Bounds on what the payload may use.
    pub limits: Limits,
    /// A port on the sandbox's loopback whose listening socket comes out to admit. Without one, every socket is denied.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub listener: Option<u16>,
    /// A directory inside whose descriptor comes out to admit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handout: Option<AbsPath>,
    /// Seconds by which the clocks that count from the boot are ahead inside, by a time namespace. The time of day is the
    /// host's: Linux has one for all (time_namespaces(7)).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clock_ahead: Option<u32>,
    /// Protections left out, by tests alone: a sandbox with an entry here never becomes ready, because a probe notices, or
    /// because none did.
    #[doc(hidden)]
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub removed_by_test: BTreeSet<Protection>,
}

/// One thing that the payload can see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "kind")]
pub enum Mount {
    /// A host directory or file, read-only with its submounts. No part of `host` may be a symbolic link: the record
    /// must name what was really mounted. [`Mount::read_only`] resolves first.
    ReadOnly {
        host: PathBuf,
        /// Where the payload sees it.
        inside: AbsPath,
    },
    /// A scratch directory on disk. Started as root, its top is given to the payload.
    Writable {
        /// Where it is on the host; no symbolic links, as above.
        host: PathBuf,
        /// Where the payload sees it.
        inside: AbsPath,
    },
    /// An empty directory in memory, owned by the payload.
    Tmpfs {
        /// Where the payload sees it.
        inside: AbsPath,
        size: u64,
        /// Most files and directories.
        inodes: u64,
        /// Permission bits, such as 0o1777.
        mode: u32,
    },
    /// A generated read-only file.
    File {
        /// Where the payload sees it.
        inside: AbsPath,
        contents: Contents,
        mode: u32,
    },
    Symlink {
        inside: AbsPath,
        /// What it says; resolved inside.
        target: String,
    },
    /// A host file copied, while it is hashed, onto a read-only filesystem in memory that only this sandbox has, and
    /// hashed again there: what was verified is what runs. Its directory holds nothing but verified files.
    Verified {
        host: PathBuf,
        /// Where the payload sees it.
        inside: AbsPath,
        /// SHA-256 that its bytes must have.
        sha256: Digest,
        /// BLAKE3 that its bytes must have, when known; it is computed and recorded in any case.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        blake3: Option<Digest>,
        /// Permission bits, such as 0o555.
        mode: u32,
    },
}

impl Mount {
    /// A read-only mount of `host`, resolved to the real path first; `inside` keeps the name asked for.
    pub fn read_only(host: impl AsRef<Path>, inside: AbsPath) -> Result<Self> {
        let host = host.as_ref();
        let real = std::fs::canonicalize(host).map_err(|e| Error::io("resolve", host, e))?;
        Ok(Mount::ReadOnly { host: real, inside })
    }

    /// A host path at the same place inside, as a merged-usr system has it: a directory is mounted read-only, a
    /// symbolic link (`/lib64 -> usr/lib64`) stays a link. `None` where the host has no such path.
    pub fn same_place(path: &AbsPath) -> Result<Option<Self>> {
        let host: &Path = path.as_ref();
        let meta = match std::fs::symlink_metadata(host) {
            Ok(meta) => meta,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(Error::io("look at", host, err)),
        };
        if !meta.is_symlink() {
            return Self::read_only(host, path.clone()).map(Some);
        }
        let target = std::fs::read_link(host).map_err(|e| Error::io("read the link", host, e))?;
        let target = target.into_os_string().into_string().map_err(|_| {
            Error::new(Reason::BadArgument, "a link's target is not UTF-8").at(path.as_str())
        })?;
        Ok(Some(Mount::Symlink { inside: path.clone(), target }))
    }

    pub fn inside(&self) -> &AbsPath {
        match self {
            Mount::ReadOnly { inside, .. }
            | Mount::Writable { inside, .. }
            | Mount::Tmpfs { inside, .. }
            | Mount::File { inside, .. }
            | Mount::Symlink { inside, .. }
            | Mount::Verified { inside, .. } => inside,
        }
    }
}

/// The bytes of a generated file: as text in records where they are UTF-8, else as a list of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Contents {
    /// UTF-8 text.
    Text(String),
    Bytes(Vec<u8>),
}

impl Contents {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Contents::Text(text) => text.as_bytes(),
            Contents::Bytes(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Contents {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|e| Self::Bytes(e.into_bytes()), Self::Text)
    }
}

impl From<&str> for Contents {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// Bounds, each a resource limit of every payload process (getrlimit(2)) unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of address space a process may map; `None` leaves it open. Bun 1.3.14 installs, bundles, compiles and runs
    /// what it compiled within 4 GB (seen); JavaScript engines reserve more than they use, so leave room.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address_space: Option<u64>,
    /// Processes and threads at a time, counted inside this sandbox alone.
    pub processes: u64,
    /// Open descriptors of a process.
    pub open_files: u64,
    /// Largest file, in bytes.
    pub file_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { address_space: Some(16 << 30), processes: 512, open_files: 4096, file_size: 4 << 30 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program, an absolute path inside, and its arguments.
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// The working directory, inside.
    pub cwd: AbsPath,
    /// Bytes for standard input, which is otherwise empty.
    #[serde(default)]
    pub stdin: Vec<u8>,
    /// How long it may run.
    pub wall: Duration,
    /// How long it may take to end after SIGTERM before SIGKILL.
    pub grace: Duration,
    /// Bytes of standard output to keep; all of it is counted and hashed.
    pub stdout_cap: u64,
    /// Bytes of standard error to keep.
    pub stderr_cap: u64,
}

/// How the payload's ids are mapped (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdMap {
    /// Started by an ordinary user: one line, `1000 <user> 1`, for set-up and payload alike.
    OneLine,
    /// Started by root: 0 for the set-up, 1000 to an unprivileged host id for the payload.
    TwoLines,
}

/// A protection that a test can leave out, to show that the probes would notice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Wall")]
pub enum Protection {
    ReadOnlyMounts,
    ReadOnlySubmounts,
    ReadOnlyRoot,
    /// The host's file system is not visible.
    PrivateRoot,
    /// Admit's own program is not visible.
    OwnProgram,
    /// `/proc` is read-only.
    ReadOnlyProc,
    /// `/proc` shows processes only.
    ProcSubset,
    /// The sandbox's own process ids.
    PidNamespace,
    /// The sandbox's own network.
    NetworkNamespace,
    /// That network leads nowhere.
    NoRoute,
    /// The sandbox's own System V IPC objects.
    IpcNamespace,
    /// The sandbox's own host name.
    UtsNamespace,
    /// The sandbox's own view of cgroups.
    CgroupNamespace,
    /// The payload's ids are unprivileged on the host.
    IdMap,
    Capabilities,
    NoNewPrivileges,
    /// The system call filter's list of denied calls.
    DeniedCalls,
    /// The filter's look at socket families.
    DeniedSockets,
    /// The filter's refusal of the x32 call numbers.
    X32,
    Landlock,
    Limits,
    ClosedDescriptors,
    SealedCopies,
}

pub fn inside(path: &str) -> Result<AbsPath> {
    path.parse().map_err(Error::internal("a path inside the sandbox"))
}

impl Policy {
    /// A policy with nothing visible but a `/tmp`, no listener and default limits.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self { hostname: hostname.into(), ..Self::default() }
    }

    pub(super) fn has(&self, protection: Protection) -> bool {
        !self.removed_by_test.contains(&protection)
    }

    /// Whether a socket comes out, beside the listener, on which the payload's questions for host names come in.
    pub(super) fn answers_names(&self) -> bool {
        self.listener.is_some() && self.has(Protection::NetworkNamespace)
    }

    /// Adds [`HOST_PROGRAMS`] as the host has them.
    pub fn with_host_programs(mut self) -> Result<Self> {
        for path in HOST_PROGRAMS {
            self.mounts.extend(Mount::same_place(&inside(path)?)?);
        }
        Ok(self)
    }

    /// Refuses what no sandbox can be built from, before anything is started.
    pub(super) fn check(&self) -> Result<()> {
        let bad = |what: &str, found: &str| {
            Err(Error::new(Reason::BadArgument, format!("sandbox policy: {what}")).found(found))
        };
        // sethostname(2): at most 64 bytes; the rest is what RFC 1123 allows.
        let label = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if self.hostname.is_empty() || self.hostname.len() > 64 || !self.hostname.bytes().all(label)
        {
            return bad("not a host name", &self.hostname);
        }
        let mut seen: Vec<&AbsPath> = Vec::new();
        for mount in &self.mounts {
            let inside = mount.inside();
            for taken in ["/proc", "/dev", "/etc"] {
                // Single files below /etc may be given; /proc and /dev are the sandbox's own.
                let below = inside.as_str().starts_with(&format!("{taken}/")) && taken != "/etc";
                if inside.as_str() == taken || below {
                    return bad("a mount where the sandbox has its own", inside.as_str());
                }
            }
            if seen.contains(&inside) {
                return bad("two mounts at one place", inside.as_str());
            }
            seen.push(inside);
            if let Mount::Verified { inside, .. } = mount {
                let parent = inside.as_str().rsplit_once('/').map_or("", |(dir, _)| dir);
                let shared = self.mounts.iter().any(|other| {
                    !matches!(other, Mount::Verified { .. })
                        && (other.inside().as_str() == parent
                            || other.inside().as_str().starts_with(&format!("{parent}/")))
                });
                if parent.is_empty() || shared {
                    return bad("a verified file needs a directory of its own", inside.as_str());
                }
            }
        }
        Ok(())
    }
}

impl Command {
    /// A command with an empty environment, one minute, two seconds of grace, 1 MiB of each stream kept.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>, cwd: AbsPath) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            cwd,
            stdin: Vec::new(),
            wall: Duration::from_secs(60),
            grace: Duration::from_secs(2),
            stdout_cap: 1 << 20,
            stderr_cap: 1 << 20,
        }
    }
}
