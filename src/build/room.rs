//! The room that a build happens in: which files of the host are in it, where things are, how large it is.
//!
//! Source, package cache, home and `TMPDIR` lie in one file system, the work directory, so that Bun can make hard links
//! from its cache. It is the top-level directory of the build path (`/tmp` for `/tmp/workos-case`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Reason, Result};
use crate::lock::plan::Plan;
use crate::record::ids::{AbsPath, Digest};
use crate::sandbox::{Mount, Policy};

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

/// What Bun and a shell load: glibc's own files and nothing else (case.md, "Needs in the build box").
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

/// Where things are inside.
#[derive(Clone, Debug)]
pub struct Room {
    /// The work directory: one file system.
    pub work: AbsPath,
    /// The source, at the locked build path.
    pub source: AbsPath,
    /// The source's path below the work directory.
    pub source_below: String,
}

impl Room {
    /// Names below the work directory that are admit's own.
    pub const CACHE: &'static str = ".admit/cache";
    pub const HOME: &'static str = ".admit/home";
    /// `TMPDIR` of the build.
    pub const TMP: &'static str = ".admit/tmp";

    /// The room of a plan. Where the lock leaves the path open, the build happens at `open`.
    pub fn new(plan: &Plan, open: &AbsPath) -> Result<Self> {
        let internal =
            |err| Error::new(Reason::Internal, "a path inside the sandbox").caused_by(err);
        let source = plan.path.as_ref().unwrap_or(open).clone();
        let (top, below) = source.relative().split_once('/').ok_or_else(|| {
            // The lock's own check names this first; a plan made by hand must not get here.
            Error::new(Reason::HostileLock, "the build path is a top-level directory")
                .found(source.to_string())
        })?;
        let work: AbsPath = format!("/{top}").parse().map_err(internal)?;
        let source_below = below.to_owned();
        Ok(Self { work, source, source_below })
    }

    fn inside(&self, below: &str) -> String {
        format!("{}/{below}", self.work)
    }

    /// The closed list of variables that a build sees. Real variables win over a project's `.env` and `bunfig.toml`,
    /// so every switch that could turn verification off or point elsewhere is set here (bun.md, sections B and F).
    pub fn environment(&self, plan: &Plan) -> BTreeMap<String, String> {
        let mut env = plan.environment();
        env.insert("HOME".into(), self.inside(Self::HOME));
        env.insert("XDG_CONFIG_HOME".into(), self.inside(".admit/home/.config"));
        env.insert("TMPDIR".into(), self.inside(Self::TMP));
        env.insert("BUN_INSTALL_CACHE_DIR".into(), self.inside(Self::CACHE));
        env
    }

    /// The policy: Bun as a verified copy, the C library's files, a shell, and the work directory, in memory of `size`
    /// bytes or on disk at `scratch`.
    pub fn policy(&self, bun: &Path, bun_sha256: &Digest, space: &Space) -> Result<Policy> {
        let mut policy = Policy::new("build");
        policy.mounts = c_library()?;
        policy.mounts.push(shell()?);
        policy.mounts.push(Mount::Verified {
            host: bun.to_path_buf(),
            inside: parse("/admit/bin/bun")?,
            sha256: bun_sha256.clone(),
            blake3: None,
            mode: 0o555,
        });
        policy.mounts.push(match space {
            Space::Memory { size } => Mount::Tmpfs {
                inside: self.work.clone(),
                size: *size,
                inodes: INODES,
                mode: 0o1777,
            },
            Space::Disk { scratch } => {
                Mount::Writable { host: scratch.clone(), inside: self.work.clone() }
            }
        });
        if self.work.as_str() != "/tmp" {
            policy.mounts.push(Mount::Tmpfs {
                inside: parse("/tmp")?,
                size: 64 << 20,
                inodes: 10_000,
                mode: 0o1777,
            });
        }
        policy.handout = Some(self.work.clone());
        Ok(policy)
    }
}

/// Where the work directory's bytes are.
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
/// identity check: nothing else of the host is in either room.
pub fn c_library() -> Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for interpreter in INTERPRETERS {
        if Path::new(interpreter).exists() {
            mounts.push(Mount::read_only(interpreter, parse(interpreter)?)?);
        }
    }
    let dir = LIBRARY_DIRS
        .iter()
        .find(|dir| Path::new(dir).join("libc.so.6").exists())
        .ok_or_else(|| {
            Error::new(Reason::SandboxUnavailable, "no GNU C library where programs look for it")
                .expected(format!("libc.so.6 in one of {}", LIBRARY_DIRS.join(", ")))
                .hint("admit builds on glibc systems so far")
        })?;
    for library in LIBRARIES {
        let path = format!("{dir}/{library}");
        if Path::new(&path).exists() {
            mounts.push(Mount::read_only(&path, parse(&path)?)?);
        }
    }
    Ok(mounts)
}

fn shell() -> Result<Mount> {
    Mount::read_only("/bin/sh", parse("/bin/sh")?)
}

fn parse(path: &str) -> Result<AbsPath> {
    path.parse()
        .map_err(|err| Error::new(Reason::Internal, "a path inside the sandbox").caused_by(err))
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
    fn every_place_that_a_project_could_move_is_named() {
        let lock = include_bytes!("../../lockfiles/case.lock.json");
        let lock = crate::record::parse(lock).unwrap();
        let plan = Plan::new(&lock, crate::record::lockfile::Platform::LinuxX64).unwrap();
        let env = Room::new(&plan, &"/tmp/x".parse().unwrap()).unwrap().environment(&plan);
        for name in ["BUN_INSTALL_CACHE_DIR", "HOME", "TMPDIR", "XDG_CONFIG_HOME"] {
            assert!(env[name].starts_with("/tmp/.admit/"), "{name}");
        }
    }

    #[test]
    fn the_c_library_of_this_machine_is_found() {
        assert!(c_library().unwrap().len() >= 2);
    }
}
