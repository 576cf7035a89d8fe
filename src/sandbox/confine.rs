//! A process of admit's own that reads what others wrote: it gives up everything but one directory, read-only, before it
//! looks at the first byte. No program is started in it, so admit's own is visible in no sandbox.

use std::os::fd::{AsFd as _, OwnedFd};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _,
};
use rustix::process::{Resource, Rlimit, Signal};

use super::failure::{Failure, Result};
use super::payload::{drop_capabilities, landlock_abi, take_ids};
use super::policy::Policy;
use super::sys::{self, Named as _};

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of address space beside those that the program itself takes.
    pub memory: u64,
    /// Seconds on a processor, after which the kernel ends it.
    pub processor: u64,
}

/// Confines the calling process, which has one thread and only descriptors that it needs below 3, to reading below the
/// directories that `open` gives, and returns them. It dies with the thread that started it.
///
/// `owner` are the host ids that it takes where it has root's: those whom the directory belongs to.
///
/// # Errors
/// Where one of the steps cannot be taken; then nothing may be read.
pub fn confine(
    open: impl FnOnce() -> std::io::Result<Vec<OwnedFd>>,
    owner: Option<(u32, u32)>,
    bounds: Bounds,
) -> Result<Vec<OwnedFd>> {
    let step = |text: &str| Failure::of(format!("confine a reader: {text}"));
    sys::close_range(3, false).map_err(step("descriptors"))?;
    let dirs = open().named("open").map_err(step("directories"))?;
    if let (0, Some((uid, gid))) = (rustix::process::geteuid().as_raw(), owner) {
        take_ids(uid, gid).map_err(step("ids"))?;
    }
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let statm =
        std::fs::read_to_string("/proc/self/statm").named("read(statm)").map_err(step("memory"))?;
    let own = statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    let own = own.ok_or_else(|| Failure::plain("confine a reader: memory", "no size in statm"))?;
    for (name, resource, value) in [
        ("RLIMIT_AS", Resource::As, own.saturating_mul(page).saturating_add(bounds.memory)),
        ("RLIMIT_CPU", Resource::Cpu, bounds.processor),
        ("RLIMIT_FSIZE", Resource::Fsize, 0),
        ("RLIMIT_CORE", Resource::Core, 0),
        ("RLIMIT_NPROC", Resource::Nproc, 0),
    ] {
        // A hard limit below it stays the one that binds.
        let hard = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        // At the hard limit of time the kernel sends SIGKILL, as somebody outside would; before it SIGXCPU.
        let above = u64::from(resource == Resource::Cpu);
        let maximum = Some(value.saturating_add(above).min(hard));
        let limit = Rlimit { current: Some(value.min(hard)), maximum };
        rustix::process::setrlimit(resource, limit)
            .named(format_args!("setrlimit({name})"))
            .map_err(step("limits"))?;
    }
    // Another user namespace, in which this process owns nothing, and networks, System V objects and names of its own.
    let apart = libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    sys::unshare(apart).map_err(step("namespaces"))?;
    rustix::thread::set_no_new_privs(true)
        .named("prctl(PR_SET_NO_NEW_PRIVS)")
        .map_err(step("new privileges"))?;
    drop_capabilities().map_err(step("capabilities"))?;
    // After the changes of identity, which would undo it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .named("prctl(PR_SET_PDEATHSIG)")
        .map_err(step("its end"))?;
    only(&dirs)?;
    sys::seccomp(&super::seccomp::program(&Policy::new("reader")))
        .map_err(step("system call filter"))?;
    Ok(dirs)
}

/// Leaves of all files those below `dirs`, to be read; nothing where the kernel has no Landlock.
fn only(dirs: &[OwnedFd]) -> Result<()> {
    let abi = landlock_abi();
    if abi == 0 {
        return Ok(());
    }
    let version = ABI::from(abi.cast_signed());
    let ruled = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(version))
        .and_then(Ruleset::create)
        .and_then(|rules| {
            let read = AccessFs::ReadFile | AccessFs::ReadDir;
            dirs.iter()
                .try_fold(rules, |rules, dir| rules.add_rule(PathBeneath::new(dir.as_fd(), read)))
        })
        .and_then(|rules| rules.no_new_privs(false).restrict_self());
    ruled.map(drop).map_err(|e| Failure::plain("confine a reader: Landlock", e.to_string()))?;
    // As every protection, seen from inside before it is relied upon.
    match std::fs::read_dir("/") {
        Err(err) if err.raw_os_error() == Some(libc::EACCES) => Ok(()),
        other => {
            let found = format!("read_dir(/) = {:?}", other.map(drop));
            Err(Failure::plain("confine a reader: other files can be read", found))
        }
    }
}
