//! Builds shared through an OCI registry: what a recorded build is there ([`mod@artifact`]), how it gets there ([`mod@push`]), how
//! another machine takes it, by the word of a key that it trusts ([`mod@pull`]), and takes it in place of building
//! ([`mod@cache`]).

mod artifact;
mod cache;
mod pull;
mod push;

pub use cache::{Obtained, Outcome, Tried, obtain};
pub use pull::{Pull, PulledBuild, pull, record};
pub use push::{Pushed, push};
