//! Init's view of the file system: a private root in memory, what the policy names mounted into it, then the old root
//! let go.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, UnmountFlags,
};

use super::attach::{NODEV, NOEXEC, NOSUID, RDONLY, attach, clone_tree, open, source, tmpfs, walk};
use super::facts::VerifiedCopy;
use super::failure::{Failure, Result};
use super::own;
use super::policy::{Mount, PAYLOAD_ID, Policy, Protection};
use super::sys::{self, Named as _};
use super::verified::{seal, verify};
use crate::record::ids::AbsPath;

/// The device files that every program may expect; each is the host's own, mounted by itself.
pub const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

pub struct Built {
    /// The verified copies, in the policy's order.
    pub verified: Vec<VerifiedCopy>,
    /// Submounts of read-only mounts, by place inside.
    pub submounts: Vec<String>,
    /// Where admit's own program would be seen.
    pub own_program: Vec<String>,
}

/// Builds the whole view and makes it the root of this process.
pub fn build(policy: &Policy) -> Result<Built> {
    let step = |text: &str| Failure::of(format!("build the root: {text}"));
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)
        .named("mount(/, MS_REC|MS_PRIVATE)")
        .map_err(step("no propagation"))?;
    let root = tmpfs(root_size(policy), 4096, 0o755, None).map_err(step("tmpfs"))?;
    let here = open("/", OFlags::PATH | OFlags::DIRECTORY).map_err(step("old root"))?;
    // Stacked on the old root: the one place that is sure to exist. Paths still resolve below the old one.
    attach(root.as_fd(), here.as_fd()).map_err(step("attach"))?;

    // A test's other map may not know the id.
    let owner = policy.has(Protection::IdMap).then_some(PAYLOAD_ID);
    devices(root.as_fd())?;
    proc(policy, root.as_fd())?;
    let mut copies: Vec<(String, OwnedFd)> = Vec::new();
    let mut verified = Vec::new();
    for (place, contents) in etc(policy) {
        file(root.as_fd(), &place, contents.as_bytes(), 0o444)?;
    }
    for mount in &policy.mounts {
        let place = mount.inside();
        let step = |text: &str| Failure::of(format!("mount {place}: {text}"));
        match mount {
            Mount::ReadOnly { host, .. } => bind(policy, root.as_fd(), host, place, false)?,
            Mount::Writable { host, .. } => bind(policy, root.as_fd(), host, place, true)?,
            Mount::Tmpfs { size, inodes, mode, .. } => {
                let fs = tmpfs(*size, *inodes, *mode, owner).map_err(step("tmpfs"))?;
                attach(fs.as_fd(), dir(root.as_fd(), place)?.as_fd()).map_err(step("attach"))?;
            }
            Mount::File { contents, mode, .. } => {
                file(root.as_fd(), place.as_str(), contents.as_bytes(), *mode)?;
            }
            Mount::Symlink { target, .. } => {
                let (parent, name) = parent(root.as_fd(), place.as_str())?;
                rustix::fs::symlinkat(target, &parent, &*name)
                    .named(format_args!("symlinkat({target}, {place})"))
                    .map_err(step("symlink"))?;
            }
            Mount::Verified { .. } => verified.push(verify(root.as_fd(), mount, &mut copies)?),
        }
    }
    let submounts = submounts(policy)?;
    let own_program = own::hide(policy, root.as_fd())?;
    if policy.has(Protection::PrivateRoot) {
        pivot(root.as_fd())?;
    } else {
        // A test's hole: the host's files at their own places, under a probe's nose.
        rustix::process::chdir("/").named("chdir(/)").map_err(step("stay"))?;
        return Ok(Built { verified, submounts, own_program });
    }
    seal(policy, root.as_fd(), &copies, &mut verified)?;
    Ok(Built { verified, submounts, own_program })
}

/// Room for the generated files and some directories.
fn root_size(policy: &Policy) -> u64 {
    let files = policy.mounts.iter().map(|m| match m {
        // Whole pages, and one for the inode's sake.
        Mount::File { contents, .. } => contents.as_bytes().len() as u64 + 8192,
        _ => 8192,
    });
    (1 << 20) + files.sum::<u64>()
}

fn dir(root: BorrowedFd<'_>, place: &AbsPath) -> Result<OwnedFd> {
    walk(root, place.relative(), place.as_str())
}

/// The directory that holds `place`, made where missing, and the last part of its name.
fn parent(root: BorrowedFd<'_>, place: &str) -> Result<(OwnedFd, String)> {
    let (dir, name) = place.rsplit_once('/').unwrap_or(("", place));
    Ok((walk(root, dir, place)?, name.to_owned()))
}

/// Writes a generated file, which the payload may read and not change.
fn file(root: BorrowedFd<'_>, place: &str, contents: &[u8], mode: u32) -> Result<()> {
    let (parent, name) = parent(root, place)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&parent, &*name, flags, Mode::RUSR | Mode::WUSR)
        .named(format_args!("openat(_, {name}, O_CREAT|O_EXCL)"))
        .map_err(Failure::of(format!("make the file {place}")))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(contents)
        .named(format_args!("write({place}, {} bytes)", contents.len()))
        .map_err(Failure::of(format!("make the file {place}")))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
        .named(format_args!("fchmod({mode:o})"))
        .map_err(Failure::of(format!("make the file {place}")))
}

/// An empty file to mount a single file on.
fn placeholder(root: BorrowedFd<'_>, place: &str) -> Result<OwnedFd> {
    let (parent, name) = parent(root, place)?;
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&parent, &*name, flags, Mode::RUSR)
        .named(format_args!("openat(_, {name}, O_CREAT)"))
        .map_err(Failure::of(format!("make the place {place}")))
}

fn is_dir(fd: BorrowedFd<'_>) -> sys::Result<bool> {
    let stat = rustix::fs::fstat(fd).named("fstat(source)")?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory)
}

fn bind(
    policy: &Policy,
    root: BorrowedFd<'_>,
    host: &Path,
    place: &AbsPath,
    writable: bool,
) -> Result<()> {
    let step = |text: &str| Failure::of(format!("mount {} at {place}: {text}", host.display()));
    let from = source(host).map_err(step("open"))?;
    let target = if is_dir(from.as_fd()).map_err(step("look"))? {
        dir(root, place)?
    } else {
        placeholder(root, place.as_str())?
    };
    let mut attributes = NOSUID | NODEV;
    if !writable && policy.has(Protection::ReadOnlyMounts) {
        attributes |= RDONLY;
    }
    let tree = clone_tree(from.as_fd()).map_err(step("copy the mount"))?;
    let deep = writable || policy.has(Protection::ReadOnlySubmounts);
    sys::mount_setattr(tree.as_fd(), deep, attributes).map_err(step("make read-only"))?;
    attach(tree.as_fd(), target.as_fd()).map_err(step("attach"))
}

fn devices(root: BorrowedFd<'_>) -> Result<()> {
    for name in DEVICES {
        let place = format!("/dev/{name}");
        let step = |text: &str| Failure::of(format!("mount {place}: {text}"));
        let from = source(Path::new(&place)).map_err(step("open"))?;
        let target = placeholder(root, &place)?;
        let tree = clone_tree(from.as_fd()).map_err(step("copy the mount"))?;
        sys::mount_setattr(tree.as_fd(), false, NOSUID | NOEXEC).map_err(step("attributes"))?;
        attach(tree.as_fd(), target.as_fd()).map_err(step("attach"))?;
    }
    let links = [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")];
    for (name, target) in
        links.into_iter().chain([("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")])
    {
        let (parent, name) = parent(root, &format!("/dev/{name}"))?;
        rustix::fs::symlinkat(target, &parent, &*name)
            .named(format_args!("symlinkat({target})"))
            .map_err(Failure::of(format!("make /dev/{name}")))?;
    }
    Ok(())
}

/// `/proc` of the new pid namespace. Made while the old root is still there: the kernel allows a new proc only to
/// those who can see a whole one already.
fn proc(policy: &Policy, root: BorrowedFd<'_>) -> Result<()> {
    let step = |text: &str| Failure::of(format!("mount /proc: {text}"));
    let target = walk(root, "proc", "/proc")?;
    if !policy.has(Protection::PidNamespace) {
        // A test's hole: no proc of our own can be had in the host's pid namespace, so show the host's.
        let from = source(Path::new("/proc")).map_err(step("open"))?;
        let tree = clone_tree(from.as_fd()).map_err(step("copy the mount"))?;
        return attach(tree.as_fd(), target.as_fd()).map_err(step("attach"));
    }
    let fs = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)
        .named("fsopen(proc)")
        .map_err(step("open"))?;
    if policy.has(Protection::ProcSubset) {
        rustix::mount::fsconfig_set_string(&fs, "subset", "pid")
            .named("fsconfig(proc, subset=pid)")
            .map_err(step("subset"))?;
    }
    rustix::mount::fsconfig_create(&fs).named("fsconfig(proc, CREATE)").map_err(step("create"))?;
    let mut attr = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    if policy.has(Protection::ReadOnlyProc) {
        attr |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let tree = rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attr)
        .named("fsmount(proc)")
        .map_err(step("mount"))?;
    attach(tree.as_fd(), target.as_fd()).map_err(step("attach"))
}

/// The generated `/etc`: names for the ids, the host's own name, no resolver; where admit hears what is asked, it is at the
/// address that an empty `resolv.conf` stands for. A policy's own file wins.
fn etc(policy: &Policy) -> Vec<(String, String)> {
    let host = &policy.hostname;
    let hosts = if policy.answers_names() { "files dns" } else { "files" };
    let all = [
        ("passwd", "root:x:0:0::/:/sbin/nologin\nadmit:x:1000:1000::/home/admit:/bin/sh\nnobody:x:65534:65534::/:/sbin/nologin\n".to_owned()),
        ("group", "root:x:0:\nadmit:x:1000:\nnogroup:x:65534:\n".to_owned()),
        ("hosts", format!("127.0.0.1 localhost {host}\n::1 localhost\n")),
        ("nsswitch.conf", format!("passwd: files\ngroup: files\nhosts: {hosts}\n")),
        ("resolv.conf", String::new()),
    ];
    all.into_iter()
        .map(|(name, text)| (format!("/etc/{name}"), text))
        .filter(|(place, _)| policy.mounts.iter().all(|m| m.inside().as_str() != place))
        .collect()
}

/// Submounts of the read-only mounts, by place inside, from the mount table before the old root goes.
fn submounts(policy: &Policy) -> Result<Vec<String>> {
    let step = Failure::of("read the mount table");
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo")
        .named("read(/proc/thread-self/mountinfo)")
        .map_err(step)?;
    let mut out: Vec<String> = table
        .lines()
        // proc(5): the fifth field is the mount point below the process's root, with octal escapes.
        .filter_map(|line| line.split(' ').nth(4))
        .map(|place| {
            place
                .replace("\\040", " ")
                .replace("\\011", "\t")
                .replace("\\012", "\n")
                .replace("\\134", "\\")
        })
        .filter(|place| {
            policy.mounts.iter().any(|m| match m {
                Mount::ReadOnly { inside, .. } => {
                    place.strip_prefix(inside.as_str()).is_some_and(|rest| rest.starts_with('/'))
                }
                _ => false,
            })
        })
        .filter(|place| policy.mounts.iter().all(|m| m.inside().as_str() != place))
        .collect();
    out.sort();
    out.dedup();
    Ok(out)
}

/// Makes the new root the root and lets the old one go.
fn pivot(root: BorrowedFd<'_>) -> Result<()> {
    let step = |text: &str| Failure::of(format!("change the root: {text}"));
    rustix::process::fchdir(root).named("fchdir(new root)").map_err(step("enter"))?;
    rustix::process::pivot_root(".", ".").named("pivot_root(., .)").map_err(step("pivot"))?;
    // The old root now lies on top of the new one, and the working directory is still the new one.
    rustix::mount::unmount(".", UnmountFlags::DETACH)
        .named("umount2(., MNT_DETACH)")
        .map_err(step("let the old root go"))?;
    rustix::process::chdir("/").named("chdir(/)").map_err(step("enter"))
}

/// Opens the directory that comes out to admit.
pub fn handout(place: &AbsPath) -> Result<OwnedFd> {
    open(place.as_str(), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
        .map_err(Failure::of(format!("hand out {place}")))
}
