//! The sandbox, examined by building one with every probe, as for a real build; where none can be built, each namespace
//! by itself.

use super::check::{Check, Need};
use crate::error::Reason;
use crate::record::finding::Finding;
use crate::sandbox::{self, LANDLOCK_SCOPES, Launcher, Policy, landlock_abi, namespaces};

const SANDBOX: Need<'_> = Need {
    id: "sandbox",
    needed_for: "build, run, verify --deep",
    expected: "a sandbox can be built and every probe is stopped",
    reason: Reason::SandboxUnavailable,
    required: true,
};
/// The one part that may be missing.
const LANDLOCK: Need<'_> = Need {
    id: "landlock",
    expected: "Landlock with scopes (Linux 6.12)",
    required: false,
    ..SANDBOX
};
const SECCOMP: Need<'_> =
    Need { id: "seccomp", expected: "a system call filter in force", required: false, ..SANDBOX };

/// Builds a sandbox with nothing in it, and takes it down again.
pub(super) fn sandbox(launcher: &Launcher) -> Vec<Check> {
    let mut checks = Vec::new();
    match sandbox::start(launcher, &Policy::new("admit-doctor")) {
        Ok(sandbox) => {
            let facts = sandbox.facts();
            checks.push(SANDBOX.ok(format!(
                "{} probes stopped, in {} ms; new namespaces: {}",
                facts.probes.len(),
                facts.volatile.start_us.div_ceil(1000),
                facts.stable.namespaces.join(", ")
            )));
            let count = facts.stable.seccomp_instructions;
            checks.push(SECCOMP.ok(format!("a filter of {count} instructions is in force")));
            sandbox.end();
        }
        Err(err) => {
            checks
                .push(SANDBOX.error(&err, "remove the cause: without a sandbox nothing is built"));
            checks.extend(each_namespace(launcher));
            checks.push(SECCOMP.with(Finding::not_reached(SECCOMP.id, vec![SANDBOX.id.into()])));
        }
    }
    let fix = "boot a newer kernel with landlock in its lsm= list; the other limits hold meanwhile";
    checks.push(match landlock_abi() {
        0 => LANDLOCK.failed("not in this kernel: files are limited by the mounts alone", fix),
        abi if abi < LANDLOCK_SCOPES => {
            LANDLOCK.failed(format!("ABI {abi}: no scopes for signals and abstract sockets"), fix)
        }
        abi => LANDLOCK.ok(format!("ABI {abi}")),
    });
    checks
}

fn each_namespace(launcher: &Launcher) -> Vec<Check> {
    let one = |(name, refused)| {
        let id = &format!("namespace_{name}");
        let need = Need { id, expected: "can be made", ..SANDBOX };
        match refused {
            None => need.ok("can be made"),
            Some(err) => need.error(&err, "see the row of the sandbox"),
        }
    };
    // That the child cannot even be started is what the sandbox's own row says.
    namespaces(launcher).unwrap_or_default().into_iter().map(one).collect()
}
