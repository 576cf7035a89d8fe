//! Making mounts and attaching them: the few calls that every mount of a sandbox is made of.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use super::failure::{Failure, Result};
use super::sys::{self, Named as _};

pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

pub fn open(path: impl rustix::path::Arg + std::fmt::Debug, flags: OFlags) -> sys::Result<OwnedFd> {
    let text = format!("{path:?}");
    let how = flags | OFlags::CLOEXEC;
    rustix::fs::open(path, how, Mode::empty()).named(format_args!("open({text}, {how:?})"))
}

/// A new tmpfs, not attached yet; `owner` owns its top directory.
pub fn tmpfs(size: u64, inodes: u64, mode: u32, owner: Option<u32>) -> sys::Result<OwnedFd> {
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).named("fsopen(tmpfs)")?;
    let mut options = vec![
        ("size", size.to_string()),
        ("nr_inodes", inodes.to_string()),
        ("mode", format!("{mode:o}")),
    ];
    if let Some(id) = owner {
        options.extend([("uid", id.to_string()), ("gid", id.to_string())]);
    }
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&fs, key, &*value)
            .named(format_args!("fsconfig(tmpfs, {key}={value})"))?;
    }
    rustix::mount::fsconfig_create(&fs).named("fsconfig(tmpfs, CREATE)")?;
    let attr = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attr).named("fsmount(tmpfs)")
}

pub fn attach(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> sys::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", place, "", flags).named("move_mount(tree, place)")
}

/// Walks to the directory `place` below `root` and makes what is missing. No symbolic link is followed, so neither a
/// host tree nor a `Symlink` of the policy can lead out of the new root.
pub fn walk(root: BorrowedFd<'_>, relative: &str, whole: &str) -> Result<OwnedFd> {
    let fail = |at: &str| Failure::of(format!("make the place {whole}: {at}"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(root, ".", flags, Mode::empty())
        .named("openat(.)")
        .map_err(fail("."))?;
    for part in relative.split('/').filter(|p| !p.is_empty()) {
        match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // A read-only host tree: the directory may still be there.
            Err(Errno::ROFS | Errno::ACCESS) => {}
            Err(err) => {
                return Err(fail(part)(sys::Failed {
                    call: format!("mkdirat(_, {part})"),
                    errno: err.raw_os_error(),
                }));
            }
        }
        at = rustix::fs::openat(&at, part, flags, Mode::empty())
            .named(format_args!("openat(_, {part}, O_DIRECTORY|O_NOFOLLOW)"))
            .map_err(fail(part))?;
    }
    Ok(at)
}

/// Opens a host path without following any symbolic link, so that what the policy names is what is mounted.
pub fn source(host: &Path) -> sys::Result<OwnedFd> {
    host_path(host, OFlags::PATH, "O_PATH")
}

/// The same to read what is there.
pub fn readable(host: &Path) -> sys::Result<OwnedFd> {
    host_path(host, OFlags::RDONLY, "O_RDONLY")
}

fn host_path(host: &Path, flags: OFlags, text: &str) -> sys::Result<OwnedFd> {
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(rustix::fs::CWD, host, flags | OFlags::CLOEXEC, Mode::empty(), how)
        .named(format_args!("openat2({}, {text}, {how:?})", host.display()))
}

pub fn clone_tree(from: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(from, "", flags).named(format_args!("open_tree(source, {flags:?})"))
}
