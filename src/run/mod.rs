//! Stage 8, run: an admitted binary works on a copied artificial fixture in a sandbox with one door, the bridge to the
//! admitted model; everything that is seen goes to a recorder.

// The fixture, its judge, and the lane without a provider.
pub mod patch;
pub mod fixture;
pub mod workspace;
mod repository;
pub mod snapshot;
mod pytest;
pub mod tools;
mod calls;
mod tests_run;
pub mod judge;
pub mod engine;
pub mod baseline;

// The gates' facts, the provider's process, and what its end means.
pub mod ambient;
pub mod classify;
pub mod facts;
pub mod proof;
pub mod provider;
pub mod planned;
pub mod room;
pub mod supervise;
pub mod verdict;
pub mod gated;
