//! Builds shared through an OCI registry: what a recorded build is there ([`mod@artifact`]), how it gets there ([`mod@push`]), and
//! how another machine takes it, by the word of a key that it trusts ([`mod@pull`]).

mod artifact;
mod pull;
mod push;

pub use pull::{Pull, PulledBuild, pull};
pub use push::{Pushed, push};
