//! Run: an admitted binary works on a copied artificial fixture in a sandbox whose one way out is the proxy to the admitted
//! model; everything that is seen goes to the evidence.
//!
//! [`run`] is the sequence: facts, gate, baselines, the provider, the judge, the seal.

// The fixture, its judge, and the lane without a provider.
pub mod patch;
pub mod fixture;
pub mod workspace;
mod repository;
pub mod snapshot;
pub mod reader;
mod bun;
mod pytest;
pub mod python;
pub mod tools;
pub mod judge;
pub mod agent;
pub mod baseline;
pub mod examine;
pub mod attack;
pub mod recorded;
pub mod make;

// The launch, the provider's process, and what its end means.
pub mod classify;
mod earlier;
mod options;
mod facts;
pub mod launch;
mod phases;
pub mod proof;

pub mod provider;
mod sequence;
pub mod supervise;
pub mod verdict;
mod workdir;

pub use options::Options;
pub use sequence::{Outcome, answer, run};
