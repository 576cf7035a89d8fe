//! Evidence: everything seen, sealed under one root digest. A run without evidence is a failed run.
//!
//! ```text
//! <state>/admit/runs/<UTC>-<fixture>-<pid>/
//!   report.json report.md report.html    what a reader needs; report.md is made from the first alone, the page also
//!                                        from the sealed files
//!   events.normalized.jsonl              hash-chained: each line names the digest of the line before
//!   trace.jsonl                          what admit did, and when
//!   gate.json sandbox.json freshness.json stage2-no-target-inspection.json
//!   patch.diff test.log
//!   backend/                             stdout, stderr, event log, every request and reply, marker files, config
//!   baseline/                            the same run's baselines
//!   manifest.json                        every other file with size, SHA-256 and author; its digest is the run's id
//!   seal.json                            the id, written last
//! ```
//!
//! [`Recording`] makes the directory fresh and proves it empty, takes down events and artifacts, and is sealed on every
//! way out: by [`Recording::seal`], or by its drop as a failure. [`check`] reads a run directory back offline.

mod agree;
mod chain;
mod conversation;
mod diff;
mod fault;
mod files;
mod frame;
mod gate;
mod glance;
mod html;
mod junit;
pub mod names;
mod read;
mod recorder;
mod render;
mod seal;
mod stages;
mod texts;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

pub use diff::{LineKind, lines as diff_lines};
pub use fault::{Fault, FaultKind};
pub use files::copy;
pub use frame::frame;
pub use gate::GateRecord;
pub use glance::{Glance, glance};
pub use junit::{annotations, junit, junit_of_health, summary};
pub use read::{Level, RunCheck, check};
pub use recorder::{EvidenceLimits, Recording};
pub use render::{aside, facts, markdown, millis, visible};
pub use seal::Sealed;
pub use stages::{StageRow, ladder};
pub use wire::WireSink;
