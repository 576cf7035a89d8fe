//! The sandbox, examined by building one: every wall, and every probe against it, as for a real build.

use std::path::Path;

use crate::sandbox::{Launcher, Policy, SandboxFacts, diagnose, start};

use super::{Check, Status};

const NEEDED: &str = "build, run, verify --deep";
/// The highest level that admit uses is ABI 6 (scopes), which came with Linux 6.12 (landlock(7)).
const LANDLOCK_FIX: &str =
    "boot a newer kernel with landlock in its lsm= list; other walls stand meanwhile";

/// Builds a sandbox with nothing in it, and takes it down again.
pub(super) fn walls(launcher: &Launcher) -> Vec<Check> {
    match start(launcher, &Policy::new("admit-doctor")) {
        Ok(sandbox) => {
            let checks = standing(sandbox.facts());
            sandbox.end();
            checks
        }
        Err(e) => {
            let fix = "see the cause; admit has no way around a wall that cannot be built";
            let mut checks = vec![Check::of_error(Status::Fail, "sandbox", NEEDED, &e, fix)];
            checks.extend(one_by_one(launcher));
            checks.push(unknown("seccomp", Path::new("/proc/sys/kernel/seccomp/actions_avail")));
            checks
        }
    }
}

/// Each namespace and Landlock by itself, where a whole sandbox could not be built.
fn one_by_one(launcher: &Launcher) -> impl Iterator<Item = Check> {
    diagnose(launcher).into_iter().filter_map(|tried| {
        let (id, otherwise) = match tried.name.strip_prefix("namespace ") {
            Some(kind) => (format!("namespace_{kind}"), Status::Fail),
            // The one wall that may be missing.
            None if tried.name == "landlock" => (tried.name, Status::Warn),
            // The whole sandbox has its row already.
            None => return None,
        };
        Some(if tried.ok {
            Check::ok(&id, NEEDED, tried.found)
        } else {
            let fix = tried.fix.unwrap_or_else(|| "see the row of the sandbox".to_owned());
            Check::not_ok(otherwise, &id, NEEDED, tried.found, fix)
        })
    })
}

/// What a sandbox that stands shows of this machine.
fn standing(facts: &SandboxFacts) -> Vec<Check> {
    let stable = &facts.stable;
    let (held, all) = (facts.probes.iter().filter(|p| p.held()).count(), facts.probes.len());
    let found = format!(
        "{held} of {all} probes stopped by a wall, in {} ms; new namespaces: {}",
        facts.volatile.start_us.div_ceil(1000),
        stable.namespaces.join(", ")
    );
    let sandbox = if held == all && all > 0 {
        Check::ok("sandbox", NEEDED, found)
    } else {
        // Walls that nothing was thrown at are no proof.
        let status = if held == all { Status::Warn } else { Status::Fail };
        Check::not_ok(status, "sandbox", NEEDED, found, "report this kernel with admit's version")
    };
    // The sandbox says which level it misses something below.
    let weaker = stable.limits.iter().find(|l| l.contains("Landlock"));
    let landlock = match weaker {
        None => Check::ok("landlock", NEEDED, format!("ABI {}", stable.landlock_abi)),
        Some(words) => Check::not_ok(Status::Warn, "landlock", NEEDED, words, LANDLOCK_FIX),
    };
    let seccomp = Check::ok(
        "seccomp",
        NEEDED,
        format!("a filter of {} instructions is in force", stable.seccomp_instructions),
    );
    vec![sandbox, landlock, seccomp]
}

/// Without a sandbox, whether the kernel shows a sign of it; never an "ok", since nothing was tried.
fn unknown(id: &str, sign: &Path) -> Check {
    let found = if sign.exists() {
        "the kernel has it; not tried, since no sandbox could be built"
    } else {
        "not tried, since no sandbox could be built"
    };
    Check::not_ok(Status::Warn, id, NEEDED, found, "first make the sandbox possible (see above)")
}
