//! Rootless Linux namespaces by hand: a [`Policy`] becomes a [`Sandbox`] in which commands run, or a named refusal.
//!
//! There is no fallback: where a wall cannot be built, [`start`] says which, why, and what to do about it.

mod attach;
mod capture;
mod confine;
mod diagnose;
mod explain;
mod facts;
mod failure;
mod freeze;
mod ids;
mod init;
mod message;
mod mounts;
mod own;
mod payload;
mod policy;
mod probes;
mod running;
mod seccomp;
mod spawn;
mod sys;
mod verified;

pub use capture::{Captured, Sink, Stream};
pub use confine::{Bounds, confine};
pub use diagnose::namespaces;
pub use explain::{BOUNDS, killed, killed_inside, unknown_sender};
pub use facts::{Probe, SandboxFacts, StableFacts, VerifiedCopy, VolatileFacts};
pub use ids::{AsOwner, Owner};
pub use init::maybe_child;
pub use policy::{
    Command, Contents, HOST_PROGRAMS, IdMap, Limits, Mount, PAYLOAD_HOST_ID, PAYLOAD_ID, Policy,
    Protection, inside,
};
/// For tests, which compare this filter and these probes with a sandbox that somebody else makes.
#[doc(hidden)]
pub mod oracle {
    pub use super::init::PROBE_ARGUMENT;
    pub use super::message::Setup;
    pub use super::probes::own_namespaces;

    pub fn filter(policy: &super::Policy) -> Vec<u8> {
        super::seccomp::bytes(&super::seccomp::program(policy))
    }
}

pub use payload::{LANDLOCK_SCOPES, landlock_abi};
pub use running::{Clock, Exit, Finished, Running};
pub use spawn::{Ended, Launcher, Sandbox, start};
pub use sys::{Mapped, end_with_thread, stdout_was_closed};
