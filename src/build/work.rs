//! A build's work directory and the sandbox around it: which files of the host are there, where things are.
//!
//! Source, package cache, home and `TMPDIR` lie in one file system, the work directory, so that Bun can make hard links
//! from its cache. It is the top-level directory of the build path (`/tmp` for `/tmp/workos-case`).

use std::path::{Path, PathBuf};

use crate::error::{Error, Reason, Result};
use crate::lock::plan::Plan;
use crate::record::ids::AbsPath;
use crate::sandbox::{Mount, Policy, inside};

/// Where the libraries of the C library may be, in the order in which loaders look.
const LIBRARY_DIRS: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// What Bun and a shell load: glibc's own files and nothing else (case.md, "Needs in the build sandbox").
const LIBRARIES: [&str; 8] = [
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libresolv.so.2",
    "libnss_files.so.2",
    "libnss_dns.so.2",
];

/// The program interpreters of the platforms that admit builds on.
const INTERPRETERS: [&str; 2] = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];

/// Inodes of the work directory in memory: Case has 16,500 files twice (cache and hard links share theirs).
const INODES: u64 = 400_000;

#[derive(Clone, Debug)]
pub struct WorkDir {
    /// The directory itself: one file system.
    pub top: AbsPath,
    /// The source, at the locked build path.
    pub source: AbsPath,
    /// The source's path below the work directory.
    pub source_below: String,
}

impl WorkDir {
    /// Names below it that are admit's own.
    pub const HOME: &'static str = ".admit/home";
    pub const BIN: &'static str = ".admit/bin";
    /// `TMPDIR` of the build.
    pub const TMP: &'static str = ".admit/tmp";

    /// The directory of a plan. Where the lock leaves the path open, the build happens at `open`.
    pub fn new(plan: &Plan, open: &AbsPath) -> Result<Self> {
        let source = plan.path.as_ref().unwrap_or(open).clone();
        let (top, below) = source.relative().split_once('/').ok_or_else(|| {
            // The lock's own check names this first; a plan made by hand must not get here.
            Error::new(Reason::HostileLock, "the build path is a top-level directory")
                .found(source.to_string())
        })?;
        let (top, source_below) = (inside(&format!("/{top}"))?, below.to_owned());
        Ok(Self { top, source, source_below })
    }

    pub fn inside(&self, below: &str) -> String {
        format!("{}/{below}", self.top)
    }

    pub fn environment(&self) -> [(String, String); 3] {
        [
            ("HOME".into(), self.inside(Self::HOME)),
            ("XDG_CONFIG_HOME".into(), self.inside(".admit/home/.config")),
            ("TMPDIR".into(), self.inside(Self::TMP)),
        ]
    }

    /// The policy: the toolchain's `programs`, the C library's files, a shell, and the work directory in its `space`.
    pub fn policy(&self, programs: Vec<Mount>, space: &Space) -> Result<Policy> {
        let mut policy = Policy::new("build");
        policy.mounts = c_library()?;
        policy.mounts.push(shell()?);
        policy.mounts.extend(programs);
        policy.mounts.push(match space {
            Space::Memory { size } => {
                Mount::Tmpfs { inside: self.top.clone(), size: *size, inodes: INODES, mode: 0o1777 }
            }
            Space::Disk { scratch } => {
                Mount::Writable { host: scratch.clone(), inside: self.top.clone() }
            }
        });
        if self.top.as_str() != "/tmp" {
            policy.mounts.push(Mount::Tmpfs {
                inside: inside("/tmp")?,
                size: 64 << 20,
                inodes: 10_000,
                mode: 0o1777,
            });
        }
        policy.handout = Some(self.top.clone());
        Ok(policy)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Space {
    /// In memory, with this capacity in bytes.
    Memory {
        size: u64,
    },
    Disk {
        scratch: PathBuf,
    },
}

/// Bytes that a build needs: the unpacked packages, the output twice (Bun writes a copy first), and a fifth more.
pub fn need(unpacked: u64, output: u64) -> u64 {
    let plain = unpacked.saturating_add(output.saturating_mul(2));
    plain.saturating_add(plain / 5)
}

/// In memory where the need is at most half of what is available to us: small-file disk writes are what limits an
/// install (bun.md, section G).
pub fn fits_memory(need: u64, available: Option<u64>) -> bool {
    available.is_some_and(|available| need <= available / 2)
}

/// Read-only mounts of the host's C library, each at the place where its loader looks. Shared by builds and by the
/// identity check: nothing else of the host is in either sandbox.
pub fn c_library() -> Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for interpreter in INTERPRETERS {
        if Path::new(interpreter).exists() {
            mounts.push(Mount::read_only(interpreter, inside(interpreter)?)?);
        }
    }
    let dir = LIBRARY_DIRS
        .iter()
        .find(|dir| Path::new(dir).join("libc.so.6").exists())
        .ok_or_else(|| {
            Error::new(Reason::SandboxUnavailable, "no GNU C library where programs look for it")
                .expected(format!("libc.so.6 in one of {}", LIBRARY_DIRS.join(", ")))
                .hint("build on a system with glibc, the only kind so far")
        })?;
    for library in LIBRARIES {
        let path = format!("{dir}/{library}");
        if Path::new(&path).exists() {
            mounts.push(Mount::read_only(&path, inside(&path)?)?);
        }
    }
    Ok(mounts)
}

fn shell() -> Result<Mount> {
    Mount::read_only("/bin/sh", inside("/bin/sh")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_when_the_need_is_at_most_half() {
        assert_eq!(need(100, 50), 240);
        assert!(fits_memory(240, Some(480)));
        assert!(!fits_memory(240, Some(479)));
        assert!(!fits_memory(0, None), "unknown is no");
    }

    #[test]
    fn the_c_library_of_this_machine_is_found() {
        assert!(c_library().unwrap().len() >= 2);
    }
}
