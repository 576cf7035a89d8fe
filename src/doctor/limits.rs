//! Memory and disk, against what a build takes.

use std::path::Path;

use rustix::process::Resource;

use super::check::{Check, Need};
use crate::error::{Error, Reason};
use crate::sandbox::BOUNDS;

/// `bun build` of Case takes 630 MB of memory (measured), and with less it is killed.
const MEMORY_LEAST: u64 = 630 << 20;
/// The same, and about 500 MB on a tmpfs, which a build takes only where that is at most half of the memory.
pub(super) const MEMORY_GOOD: u64 = MEMORY_LEAST + (500 << 20);
/// Tarballs (60 MB), Bun (40 and 100 MB), output (106 MB), and the build itself where it is on disk (500 MB).
const DISK_GOOD: u64 = 2 << 30;
const DISK_LEAST: u64 = 1 << 30;

pub(super) fn memory(available: Option<u64>) -> Check {
    let need = |required| Need {
        id: "memory",
        needed_for: "build",
        expected: "1130 MiB free",
        reason: Reason::LimitHit,
        required,
    };
    let fix = format!("have {} free, or raise the memory cgroup's limit", size(MEMORY_GOOD));
    match available {
        Some(n) if n >= MEMORY_GOOD => need(true).ok(format!("{} free", size(n))),
        Some(n) if n >= MEMORY_LEAST => need(false)
            .failed(format!("{} free; builds will be on disk, which is slower", size(n)), fix),
        Some(n) => need(true).failed(format!("{} free", size(n)), fix),
        None => need(false).failed(
            "unknown: /proc/meminfo does not say",
            "mount /proc; until then builds will be on disk",
        ),
    }
}

pub(super) fn disk(store: &Path) -> Check {
    let need = |required| Need {
        id: "disk",
        needed_for: "fetch, build",
        expected: "2048 MiB free",
        reason: Reason::DiskFull,
        required,
    };
    // The store may not be there yet; what will hold it is.
    let at = store.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let space = match rustix::fs::statvfs(at) {
        Ok(s) => s.f_bavail.saturating_mul(s.f_frsize),
        Err(e) => {
            let err = Error::io("examine the file system of", at, e.into());
            return need(true).error(&err, "name another with --store");
        }
    };
    let found = format!("{} free for {}", size(space), store.display());
    if space >= DISK_GOOD {
        return need(true).ok(found);
    }
    let fix = format!("free {} there, or name another place with --store", size(DISK_GOOD));
    need(space < DISK_LEAST).failed(found, fix)
}

/// The resource limits under which admit was started (getrlimit(2)); of open files the hard one, to which admit raises its own.
pub(super) fn of_processes() -> Check {
    processes(|resource| {
        let limit = rustix::process::getrlimit(resource);
        if resource == Resource::Nofile { limit.maximum } else { limit.current }
    })
}

/// `None`: no limit.
fn processes(limit: impl Fn(Resource) -> Option<u64>) -> Check {
    let need = Need {
        id: "process_limits",
        needed_for: "build, run",
        expected: "128 open files, files of 256 MiB, an address space of 2,000,000 KiB",
        reason: Reason::LimitHit,
        required: true,
    };
    let low = BOUNDS.iter().filter_map(|bound| {
        let found = limit(bound.resource).filter(|found| *found < bound.build)?;
        Some((format!("{} is {found}, {} needed", bound.name, bound.build), bound.fix))
    });
    let (found, fixes): (Vec<String>, Vec<&str>) = low.unzip();
    if found.is_empty() {
        return need.ok("no limit is lower");
    }
    let fix = format!("in the shell or service that starts admit: {}", fixes.join("; "));
    need.failed(found.join("; "), fix)
}

pub(super) fn size(bytes: u64) -> String {
    if bytes >= 10 << 30 { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_limit_that_is_too_low_is_named_with_both_values() {
        assert!(!processes(|_| None).blocks());
        assert!(!processes(|_| Some(u64::MAX)).blocks());
        let low = processes(|one| (one == Resource::Fsize).then_some(1 << 20));
        assert!(low.blocks());
        assert_eq!(low.finding.found, "RLIMIT_FSIZE is 1048576, 268435456 needed");
        assert!(low.finding.fix.contains("ulimit -f unlimited"), "{}", low.finding.fix);
    }

    #[test]
    fn memory_is_judged_by_what_a_build_needs() {
        let judged = |n| {
            let check = memory(n);
            (check.finding.is_failed(), check.blocks())
        };
        assert_eq!(judged(Some(24 << 30)), (false, false));
        assert_eq!(judged(Some(MEMORY_GOOD - 1)), (true, false));
        assert_eq!(judged(Some(MEMORY_LEAST - 1)), (true, true));
        assert_eq!(judged(None), (true, false));
        assert_eq!(memory(None).finding.expected, format!("{} free", size(MEMORY_GOOD)));
    }
}
