//! Many runs as one claim: a plan that is fixed before the first run, tasks that any scheduler can start by one integer, and
//! a count that a stranger can make again.
//!
//! `docs/campaigns.md` is the guide. The files of a campaign are in [`crate::record::campaign`].

pub mod count;
pub mod directory;
pub mod local;
pub mod page;
pub mod plan;
pub mod proof;
pub mod scheduler;
pub mod seal;
pub mod slurm;
pub mod statistics;
pub mod task;
pub mod tree;
pub mod verify;

pub use directory::Campaign;
