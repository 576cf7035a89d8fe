//! Admit's own program is visible in no sandbox: it holds what the payload is judged by. Where a mount would show it, a
//! device that cannot be opened lies over it.
//!
//! It is known by device and inode. It is looked for under its own path, and, where it has more than one name, in the
//! directories of programs: a whole `/usr` would take longer to search than the sandbox takes to start. Another admit that
//! is installed there, of whatever version, holds the same, and is known by its name.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::attach::{NODEV, NOEXEC, NOSUID, RDONLY, attach, clone_tree, source};
use super::failure::{Failure, Result};
use super::policy::{Mount, Policy, Protection};
use super::sys::{self, Named as _};
use crate::record::ids::AbsPath;

/// Directories of programs below a mounted one.
const PROGRAMS: [&str; 6] = ["", "bin", "sbin", "libexec", "local/bin", "local/sbin"];

/// The name under which admit is installed.
const NAME: &str = "admit";

/// A program to hide, known by device and inode, and the place inside at which it may be seen.
type Candidate = (String, (u64, u64));

/// Hides the program that runs here and every other admit, below the new root, and gives the places inside at which it would be seen.
pub fn hide(policy: &Policy, root: BorrowedFd<'_>) -> Result<Vec<String>> {
    let step = |text: &str| Failure::of(format!("hide admit's own program: {text}"));
    let own =
        std::fs::metadata("/proc/self/exe").named("stat(/proc/self/exe)").map_err(step("look"))?;
    let mut hidden = Vec::new();
    for (place, id) in candidates(policy, &own) {
        let Some(target) = open(root, &place).map_err(step("look"))? else { continue };
        let seen = rustix::fs::fstat(&target).named("fstat(place)").map_err(step("look"))?;
        if (seen.st_dev, seen.st_ino) != id {
            continue;
        }
        if policy.has(Protection::OwnProgram) {
            let null = source(Path::new("/dev/null")).map_err(step("open"))?;
            let cover = clone_tree(null.as_fd()).map_err(step("copy the mount"))?;
            sys::mount_setattr(cover.as_fd(), false, NOSUID | NODEV | NOEXEC | RDONLY)
                .map_err(step("attributes"))?;
            attach(cover.as_fd(), target.as_fd()).map_err(step("attach"))?;
        }
        hidden.push(place);
    }
    Ok(hidden)
}

fn candidates(policy: &Policy, own: &std::fs::Metadata) -> BTreeSet<Candidate> {
    // Of a program that was removed since it started, the link names no path.
    let path = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let hosts: Vec<(&PathBuf, &AbsPath)> = policy.mounts.iter().filter_map(shown).collect();
    let mut programs = BTreeSet::from([(path, (own.dev(), own.ino()))]);
    for (host, _) in &hosts {
        for below in PROGRAMS {
            let dir = host.join(below);
            let installed = dir.join(NAME);
            // Behind a link is the program.
            if let (Ok(real), Ok(meta)) = (installed.canonicalize(), installed.metadata())
                && meta.is_file()
            {
                programs.insert((real, (meta.dev(), meta.ino())));
            }
            if own.nlink() > 1 {
                let names = std::fs::read_dir(&dir).into_iter().flatten().flatten();
                for entry in names.filter(|entry| entry.ino() == own.ino()) {
                    programs.insert((entry.path(), (own.dev(), own.ino())));
                }
            }
        }
    }
    let mut places = BTreeSet::new();
    for (program, id) in programs {
        for (host, inside) in &hosts {
            let Ok(below) = program.strip_prefix(host) else { continue };
            // A path that ends with a slash would ask for a directory.
            let place = Path::new(inside.as_str()).join(below);
            places.extend(place.to_str().map(|place| (place.trim_end_matches('/').to_owned(), id)));
        }
    }
    places
}

fn shown(mount: &Mount) -> Option<(&PathBuf, &AbsPath)> {
    match mount {
        Mount::ReadOnly { host, inside } | Mount::Writable { host, inside } => Some((host, inside)),
        _ => None,
    }
}

/// What lies at `place`, a link as itself; `None` where nothing does, or where no program in the sandbox can reach it. Any
/// other fault is one: a place that could not be looked at is not known to be free of the program.
fn open(root: BorrowedFd<'_>, place: &str) -> sys::Result<Option<OwnedFd>> {
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat2(root, place.trim_start_matches('/'), flags, Mode::empty(), how) {
        Ok(target) => Ok(Some(target)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        other => other.named(format_args!("openat2({place})")).map(Some),
    }
}
