//! From a failed system call to what a person can do about it.

use rustix::process::{Resource, getrlimit};

use super::failure::Failure;
use super::policy::Policy;
use crate::error::{
    Error, LARGER_FILES, MORE_ADDRESS_SPACE, MORE_OPEN_FILES, MORE_PROCESSES, Reason, Result,
};
use crate::host::ADDRESS_SPACE;

/// The step in which namespaces are made.
pub const NAMESPACES: &str = "new namespaces";

pub fn sentence(failure: &Failure) -> String {
    if failure.errno == 0 {
        return format!("{}: {}", failure.step, failure.call);
    }
    let errno = std::io::Error::from_raw_os_error(failure.errno);
    format!("{}: {}: {errno}", failure.step, failure.call)
}

pub fn killed_while_built(signal: i32) -> Error {
    killed("the sandbox was ended while it was being built", signal)
}

/// A process that no other of its sandbox can reach, and that a signal ended which admit did not send: it says nothing, not
/// of itself, not of this machine.
pub fn killed(what: &str, signal: i32) -> Error {
    ended_by(what, &format!("signal {signal}, sent from outside or by the kernel"))
}

/// The same of a process that shares its sandbox with others.
pub fn killed_inside(what: &str, signal: i32) -> Error {
    ended_by(what, &unknown_sender(signal))
}

/// Who may have sent a signal to a process of a sandbox, if admit did not. The kernel does not say.
pub fn unknown_sender(signal: i32) -> String {
    format!(
        "signal {signal}, sent by the kernel, from outside or by another process of its own sandbox"
    )
}

fn ended_by(what: &str, found: &str) -> Error {
    Error::new(Reason::KilledFromOutside, what)
        .expected("an end of its own")
        .found(found)
        .hint("try again")
}

/// The refusal for a wall that could not be built: the step, and the cause as far as this machine shows it.
pub fn refusal(failure: &Failure) -> Error {
    if let Some(signal) = failure.killed {
        return killed_while_built(signal);
    }
    if let Some((expected, found)) = failure.digest.as_deref() {
        return Error::new(Reason::DigestMismatch, failure.call.clone())
            .at(failure.step.clone())
            .expected(expected.clone())
            .found(found.clone());
    }
    if let Some((found, fix)) = limit(failure) {
        let what = format!("a limit of this machine ended a sandbox: {}", failure.step);
        return Error::new(Reason::LimitHit, what)
            .expected("a limit that leaves room for it")
            .found(found)
            .hint(fix)
            .caused_by(sentence(failure));
    }
    let error = Error::new(
        Reason::SandboxUnavailable,
        format!("the sandbox cannot be built on this machine: {}", failure.step),
    )
    .caused_by(sentence(failure));
    match explained(failure.clone()).cause.as_deref() {
        Some((cause, fix)) => error.found(cause).hint(fix),
        None => error.hint("run `admit doctor` to see what this machine allows"),
    }
}

/// A limit that a shell, a service manager or a container may set lower than what runs in a sandbox needs.
pub struct Bound {
    /// As in getrlimit(2).
    pub name: &'static str,
    pub resource: Resource,
    /// The least that a payload gets, where its policy does not set less.
    pub least: u64,
    /// The least with which a build was seen to work.
    pub build: u64,
    pub fix: &'static str,
}

/// With 64 open files a first build was refused, and with 128 build and run of the built-in provider were seen to work. An
/// output of 106 MB and the compiled Bun in it are written whole.
pub const BOUNDS: [Bound; 3] = [
    Bound {
        name: "RLIMIT_NOFILE",
        resource: Resource::Nofile,
        least: 128,
        build: 128,
        fix: MORE_OPEN_FILES,
    },
    Bound {
        name: "RLIMIT_FSIZE",
        resource: Resource::Fsize,
        least: 64 << 20,
        build: 256 << 20,
        fix: LARGER_FILES,
    },
    Bound {
        name: "RLIMIT_AS",
        resource: Resource::As,
        least: ADDRESS_SPACE,
        build: ADDRESS_SPACE,
        fix: MORE_ADDRESS_SPACE,
    },
];

/// Whether this machine's limits let a payload do what it is there for.
///
/// # Errors
/// [`Reason::LimitHit`].
pub fn room(policy: &Policy) -> Result<()> {
    let wanted = &policy.limits;
    let wanted = [wanted.open_files, wanted.file_size, wanted.address_space.unwrap_or(u64::MAX)];
    for (Bound { name, resource, least, fix, .. }, wanted) in BOUNDS.into_iter().zip(wanted) {
        let hard = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let least = least.min(wanted);
        if hard < least {
            let what = "a limit of this machine is below what runs in a sandbox needs";
            return Err(Error::new(Reason::LimitHit, what)
                .expected(format!("{name} of at least {least}"))
                .found(format!("{name} is {hard}"))
                .hint(fix));
        }
    }
    Ok(())
}

/// The limit that a failed call ran into, and what raises it.
fn limit(failure: &Failure) -> Option<(String, &'static str)> {
    let is = |name: &str, resource| match getrlimit(resource).maximum {
        Some(most) => format!("{name} is {most}"),
        None => format!("{name} is unlimited here"),
    };
    match failure.errno {
        libc::EFBIG => Some((is("RLIMIT_FSIZE", Resource::Fsize), LARGER_FILES)),
        libc::EAGAIN if ["fork(", "clone"].iter().any(|it| failure.call.starts_with(it)) => {
            Some((is("RLIMIT_NPROC", Resource::Nproc), MORE_PROCESSES))
        }
        libc::EMFILE | libc::ENFILE => {
            Some((is("RLIMIT_NOFILE", Resource::Nofile), MORE_OPEN_FILES))
        }
        libc::ENOMEM if getrlimit(Resource::As).maximum.is_some() => {
            Some((is("RLIMIT_AS", Resource::As), MORE_ADDRESS_SPACE))
        }
        _ => None,
    }
}

fn setting(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|t| t.trim().to_owned())
}

/// Looks for the cause where it happened: kernel settings differ between namespaces.
pub fn explained(mut failure: Failure) -> Failure {
    if failure.cause.is_none() {
        failure.cause = cause(&failure).map(|(cause, fix)| Box::new((cause, fix.to_owned())));
    }
    failure
}

/// The named causes, and the one line that removes each.
fn cause(failure: &Failure) -> Option<(String, &'static str)> {
    let namespaces = failure.step == NAMESPACES;
    if namespaces && matches!(failure.errno, libc::ENOSPC | libc::EUSERS | libc::EPERM) {
        for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            if setting(&format!("user/max_{kind}_namespaces")).as_deref() == Some("0") {
                return Some((
                    format!("user.max_{kind}_namespaces = 0"),
                    "allow namespaces: sysctl -w user.max_user_namespaces=15000 (and the other user.max_*_namespaces that are 0)",
                ));
            }
        }
    }
    if namespaces && matches!(failure.errno, libc::ENOSPC | libc::EUSERS) {
        return Some((
            "a limit on namespaces is used up, here or in an outer namespace".into(),
            "raise user.max_user_namespaces where admit's user namespace was made, or end other sandboxes",
        ));
    }
    if failure.errno == libc::EACCES && failure.call.starts_with("openat2(") {
        return Some((
            "a directory on the way belongs to another user and lets nobody else in; root of the sandbox is no exception".into(),
            "use a place that everybody may enter, or run admit as the user who owns it",
        ));
    }
    if failure.errno == libc::ELOOP && failure.call.starts_with("openat2(") {
        return Some((
            "a part of the path is a symbolic link, and the record must name what is mounted"
                .into(),
            "name the real path",
        ));
    }
    if failure.errno == libc::EPERM || failure.errno == libc::EACCES {
        if setting("kernel/unprivileged_userns_clone").as_deref() == Some("0") {
            return Some((
                "kernel.unprivileged_userns_clone = 0".into(),
                "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1",
            ));
        }
        if setting("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
            return Some((
                "kernel.apparmor_restrict_unprivileged_userns = 1 (AppArmor)".into(),
                "give admit an AppArmor profile with `userns,`, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ));
        }
    }
    if namespaces && failure.errno == libc::EPERM {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if status.lines().any(|l| l.starts_with("Seccomp:") && !l.ends_with("\t0")) {
            return Some((
                "a seccomp filter around admit denies new namespaces (a container's default profile does)".into(),
                "run the container with a seccomp profile that allows unshare, such as --security-opt seccomp=unconfined",
            ));
        }
        return Some((
            "the kernel denies new user namespaces to this process (a chroot, or a security module)".into(),
            "run admit outside of the chroot or container",
        ));
    }
    if failure.step == "id maps" && failure.errno == libc::EPERM {
        return Some((
            "admit may not write the id maps: root without CAP_SETUID, CAP_SETGID or CAP_SETFCAP"
                .into(),
            "run admit as an ordinary user, or give the container these capabilities",
        ));
    }
    if failure.step.starts_with("mount /proc") {
        return Some((
            "a part of /proc is covered here, as containers do, and the kernel then allows no new one".into(),
            "run the container with an uncovered /proc, such as --security-opt systempaths=unconfined",
        ));
    }
    if failure.errno == libc::ENOSYS {
        return Some((
            "the kernel lacks this call: Linux 5.12 is the oldest that has them all".into(),
            "run admit on a newer kernel",
        ));
    }
    None
}
