//! Admit's own program is visible in no sandbox: it holds what the payload is judged by. Where a mount would show it, a
//! device that cannot be opened lies over it.
//!
//! It is known by device and inode. It is looked for under its own path, and, where it has more than one name, in the
//! directories of programs: a whole `/usr` would take longer to search than the sandbox takes to start.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::attach::{NODEV, NOEXEC, NOSUID, RDONLY, attach, clone_tree, source};
use super::failure::{Failure, Result};
use super::policy::{Mount, Policy, Wall};
use super::sys::{self, named};

/// Directories of programs below a mounted one.
const PROGRAMS: [&str; 6] = ["", "bin", "sbin", "libexec", "local/bin", "local/sbin"];

/// Hides the program that runs here, below the new root, and gives the places inside at which it would be seen.
pub fn hide(policy: &Policy, root: BorrowedFd<'_>) -> Result<Vec<String>> {
    let step = |text: &str| Failure::of(format!("hide admit's own program: {text}"));
    let own = named(std::fs::metadata("/proc/self/exe"), || "stat(/proc/self/exe)".into())
        .map_err(step("look"))?;
    let mut hidden = Vec::new();
    for place in candidates(policy, &own) {
        let Some(target) = open(root, &place).map_err(step("look"))? else { continue };
        let seen =
            named(rustix::fs::fstat(&target), || "fstat(place)".into()).map_err(step("look"))?;
        if (seen.st_dev, seen.st_ino) != (own.dev(), own.ino()) {
            continue;
        }
        if policy.has(Wall::OwnProgram) {
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

/// Places inside at which the program may be seen.
fn candidates(policy: &Policy, own: &std::fs::Metadata) -> BTreeSet<String> {
    // Of a program that was removed since it started, the link names no path.
    let path = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let mut places = BTreeSet::new();
    for mount in &policy.mounts {
        let (Mount::ReadOnly { host, inside } | Mount::Writable { host, inside }) = mount else {
            continue;
        };
        let mut add = |below: &Path| {
            places.extend(Path::new(inside.as_str()).join(below).to_str().map(str::to_owned));
        };
        if host == &path {
            add(Path::new(""));
        } else if let Ok(below) = path.strip_prefix(host) {
            add(below);
        }
        if own.nlink() > 1 {
            for below in PROGRAMS {
                let names = std::fs::read_dir(host.join(below)).into_iter().flatten().flatten();
                for entry in names.filter(|entry| entry.ino() == own.ino()) {
                    add(&PathBuf::from(below).join(entry.file_name()));
                }
            }
        }
    }
    // A path that ends with a slash would ask for a directory.
    places.into_iter().map(|place| place.trim_end_matches('/').to_owned()).collect()
}

/// What lies at `place`, a link as itself; `None` where nothing does, or where no program in the sandbox can reach it. Any
/// other fault is one: a place that could not be looked at is not known to be free of the program.
fn open(root: BorrowedFd<'_>, place: &str) -> sys::Result<Option<OwnedFd>> {
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat2(root, place.trim_start_matches('/'), flags, Mode::empty(), how) {
        Ok(target) => Ok(Some(target)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        other => named(other, || format!("openat2({place})")).map(Some),
    }
}
