//! An OCI registry, as far as admit shares builds in one: whose credentials are
//! sent there ([`credentials`]), what lies there ([`manifest`]), and how it is asked ([`client`]).
//!
//! A registry is believed in nothing. What comes from it has a digest that is known before, or one that a signature names.

pub mod client;
pub mod credentials;
pub mod manifest;
