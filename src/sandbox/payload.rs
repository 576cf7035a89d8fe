//! From init's fork to the payload: everything that is taken away before a program or a probe runs.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use super::failure::{Failure, Result};
use super::policy::{Command, IdMap, Limits, Mount, PAYLOAD_ID, Policy, Protection};
use super::sys::{self, Named as _};

/// The resource limits of a policy, each with its name in getrlimit(2).
pub fn limits(policy: &Policy) -> Vec<(&'static str, Resource, Option<u64>)> {
    let l = &policy.limits;
    vec![
        ("RLIMIT_AS", Resource::As, l.address_space),
        ("RLIMIT_NPROC", Resource::Nproc, Some(l.processes)),
        ("RLIMIT_NOFILE", Resource::Nofile, Some(l.open_files)),
        ("RLIMIT_FSIZE", Resource::Fsize, Some(l.file_size)),
        ("RLIMIT_CORE", Resource::Core, Some(0)),
    ]
}

/// The limits of a policy as they can bind here: no process may raise the hard limits that it was started with
/// (setrlimit(2)), so where this machine allows less, less it is. Each such limit is said in words, too.
pub fn in_force(policy: &Policy) -> (Limits, Vec<String>) {
    let mut limits = policy.limits.clone();
    let mut narrower = Vec::new();
    let mut bound = |name: &str, resource, want: &mut u64| {
        if let Some(hard) = rustix::process::getrlimit(resource).maximum
            && hard < *want
        {
            narrower.push(format!("{name} is {hard} here, where the policy has {want}"));
            *want = hard;
        }
    };
    if let Some(want) = &mut limits.address_space {
        bound("RLIMIT_AS", Resource::As, want);
    }
    bound("RLIMIT_NPROC", Resource::Nproc, &mut limits.processes);
    bound("RLIMIT_NOFILE", Resource::Nofile, &mut limits.open_files);
    bound("RLIMIT_FSIZE", Resource::Fsize, &mut limits.file_size);
    (limits, narrower)
}

/// Turns the calling process, a fresh fork of init, into the payload: ids, limits, capabilities, Landlock, filter, in
/// the order in which each step still has the right to be done. What can be read back is read back.
pub fn become_payload(policy: &Policy, ids: IdMap) -> Result<()> {
    let step = |text: &str| Failure::of(format!("give up rights: {text}"));
    rustix::process::setsid().named("setsid()").map_err(step("a session of its own"))?;
    sys::default_signals().map_err(step("signals"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if policy.has(Protection::Limits) {
        for (name, resource, value) in limits(policy) {
            if value.is_some() {
                let limit = Rlimit { current: value, maximum: value };
                rustix::process::setrlimit(resource, limit)
                    .named(format_args!("setrlimit({name}, {value:?})"))
                    .map_err(step("limits"))?;
            }
        }
    }
    let keep = !policy.has(Protection::Capabilities);
    if !keep {
        drop_bounding().map_err(step("capabilities"))?;
    }
    if ids == IdMap::TwoLines && (policy.has(Protection::IdMap)) {
        if keep {
            rustix::thread::set_keep_capabilities(true)
                .named("prctl(PR_SET_KEEPCAPS)")
                .map_err(step("ids"))?;
        }
        take_ids(PAYLOAD_ID, PAYLOAD_ID).map_err(step("ids"))?;
    }
    if keep {
        let mut sets =
            rustix::thread::capabilities(None).named("capget()").map_err(step("capabilities"))?;
        sets.effective = sets.permitted;
        rustix::thread::set_capabilities(None, sets)
            .named("capset()")
            .map_err(step("capabilities"))?;
    } else {
        drop_capabilities().map_err(step("capabilities"))?;
    }
    if policy.has(Protection::NoNewPrivileges) {
        rustix::thread::set_no_new_privs(true)
            .named("prctl(PR_SET_NO_NEW_PRIVS)")
            .map_err(step("new privileges"))?;
    }
    if policy.has(Protection::Landlock) {
        landlock(policy)?;
    }
    sys::seccomp(&super::seccomp::program(policy)).map_err(step("system call filter"))?;
    Ok(())
}

pub fn take_ids(uid: u32, gid: u32) -> sys::Result<()> {
    // Raw ids are per thread in the kernel; this process has one thread.
    rustix::thread::set_thread_groups(&[]).named("setgroups(0)")?;
    let id = rustix::process::Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(id, id, id).named(format_args!("setresgid({gid})"))?;
    let id = rustix::process::Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(id, id, id).named(format_args!("setresuid({uid})"))
}

/// Empties the bounding and ambient sets and locks the rules by which root would regain capabilities.
fn drop_bounding() -> sys::Result<()> {
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(one) {
            // The kernel knows no further capability.
            Err(rustix::io::Errno::INVAL) => break,
            other => other.named(format_args!("prctl(PR_CAPBSET_DROP, {bit})"))?,
        }
    }
    let ambient = rustix::thread::clear_ambient_capability_set();
    ambient.named("prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    let set = rustix::thread::set_capabilities_secure_bits(bits);
    set.named(format_args!("prctl(PR_SET_SECUREBITS, {:#x})", bits.bits()))
}

/// Empties the sets of the process and reads them back.
pub fn drop_capabilities() -> sys::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).named("capset(0, 0, 0)")?;
    let got = rustix::thread::capabilities(None).named("capget()")?;
    let clean = got.effective.is_empty() && got.permitted.is_empty() && got.inheritable.is_empty();
    if clean {
        return Ok(());
    }
    Err(sys::Failed { call: format!("capget() = {got:?} after capset(0)"), errno: libc::EPERM })
}

/// The first Landlock ABI with scopes for signals and abstract sockets (landlock(7)): the last that adds something here.
pub const LANDLOCK_SCOPES: u32 = 6;

/// The Landlock ABI that this kernel offers, as far as admit knows it.
pub fn landlock_abi() -> u32 {
    // LANDLOCK_CREATE_RULESET_VERSION with no attributes: answers the version or fails.
    let fd = sys::landlock_version();
    fd.min(ABI::V7 as u32)
}

/// The second wall around files, connections and signals; nothing where the kernel has none.
fn landlock(policy: &Policy) -> Result<()> {
    let abi = landlock_abi();
    if abi == 0 {
        return Ok(());
    }
    let fail = |e: &dyn std::fmt::Display| {
        Failure::plain("give up rights: Landlock", format!("landlock ABI {abi}: {e}"))
    };
    let version = ABI::from(abi.cast_signed());
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(version))
        .map_err(|e| fail(&e))?;
    if abi >= 4 {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp).map_err(|e| fail(&e))?;
    }
    if abi >= LANDLOCK_SCOPES {
        ruleset = ruleset.scope(Scope::AbstractUnixSocket | Scope::Signal).map_err(|e| fail(&e))?;
    }
    let mut created = ruleset.create().map_err(|e| fail(&e))?;
    let nodes = AccessFs::MakeChar | AccessFs::MakeBlock;
    let mut rules = vec![("/".to_owned(), AccessFs::from_read(version))];
    for mount in &policy.mounts {
        if let Mount::Writable { inside, .. } | Mount::Tmpfs { inside, .. } = mount {
            rules.push((inside.as_str().to_owned(), AccessFs::from_all(version) & !nodes));
        }
    }
    let file = AccessFs::from_file(version);
    rules.extend(super::mounts::DEVICES.iter().map(|d| (format!("/dev/{d}"), file)));
    for (path, access) in rules {
        let fd = PathFd::new(&path).map_err(|e| fail(&e))?;
        created = created.add_rule(PathBeneath::new(fd, access)).map_err(|e| fail(&e))?;
    }
    if let (Some(port), true) = (policy.listener, abi >= 4) {
        let rule = NetPort::new(port, AccessNet::ConnectTcp);
        created = created.add_rule(rule).map_err(|e| fail(&e))?;
    }
    created.no_new_privs(false).restrict_self().map_err(|e| fail(&e))?;
    Ok(())
}

/// Runs in the fork: becomes the payload and the program. Returns only when that failed.
pub fn exec(policy: &Policy, ids: IdMap, command: &Command, streams: &[OwnedFd]) -> Failure {
    match prepare(policy, ids, command, streams) {
        Err(failure) => failure,
        Ok((path, argv, env)) => {
            let failed = sys::execve(&path, &argv, &env);
            Failure::of(format!("start {}", command.argv[0]))(failed)
        }
    }
}

type Image = (CString, Vec<CString>, Vec<CString>);

fn prepare(policy: &Policy, ids: IdMap, command: &Command, streams: &[OwnedFd]) -> Result<Image> {
    let bad = |what: &str| Failure::plain("start a command", what);
    let text = |s: &str| CString::new(s).map_err(|_| bad("a NUL in an argument or variable"));
    let argv = command.argv.iter().map(|a| text(a)).collect::<Result<Vec<_>>>()?;
    let path = argv.first().cloned().ok_or_else(|| bad("an empty argument list"))?;
    let env = command.env.iter().map(|(k, v)| text(&format!("{k}={v}"))).collect::<Result<_>>()?;
    self::streams(policy, streams)?;
    become_payload(policy, ids)?;
    rustix::process::chdir(command.cwd.as_str())
        .named(format_args!("chdir({})", command.cwd))
        .map_err(Failure::of("start a command: working directory"))?;
    Ok((path, argv, env))
}

/// Puts the three streams in their places and has everything else closed on exec, not at once: the pipe that reports a
/// failed start is still needed.
pub fn streams(policy: &Policy, streams: &[OwnedFd]) -> Result<()> {
    let [stdin, stdout, stderr] = streams else {
        return Err(Failure::plain("standard streams", "three have to come with a command"));
    };
    let step = || Failure::of("standard streams");
    rustix::stdio::dup2_stdin(stdin.as_fd()).named("dup2(_, 0)").map_err(step())?;
    rustix::stdio::dup2_stdout(stdout.as_fd()).named("dup2(_, 1)").map_err(step())?;
    rustix::stdio::dup2_stderr(stderr.as_fd()).named("dup2(_, 2)").map_err(step())?;
    if policy.has(Protection::ClosedDescriptors) {
        sys::close_range(3, true).map_err(step())?;
    }
    Ok(())
}
