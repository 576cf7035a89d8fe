//! Fetch: every locked input lands in the store, its digest checked while it streams. The network ends here.
//!
//! - [`mirror`]: addresses are rewritten to the user's mirrors.
//! - [`git`], [`embedded`]: the source at one commit, from a remote, a local mirror or admit itself, with its submodules.
//! - [`toolchain`]: the pinned Bun. [`packages`], [`github`]: what the source depends on.
//! - [`published`]: a package with an executable in it. [`archive`]: strict unpacking.
//! - [`seed`]: a package cache for one build; [`within`]: what the source itself brings; [`installed`]: what an install
//!   made of it.
//!
//! A mirror needs no trust: whatever it serves, the digest in the lock decides.

pub mod archive;
pub mod embedded;
pub mod git;
pub mod github;
pub mod inputs;
pub mod installed;
pub mod mirror;
pub mod packages;
pub mod parallel;
pub mod pin;
pub mod published;
pub mod seed;
mod submodules;
pub mod toolchain;
pub mod within;

use std::path::Path;

use crate::download::client::Client;
use crate::download::npmrc::NpmConfig;
use crate::host::Progress;
use crate::store::Store;

use embedded::Embedded;
use mirror::Mirrors;

#[derive(Clone, Copy)]
pub struct Fetcher<'a> {
    pub store: &'a Store,
    pub client: &'a Client,
    pub npm: &'a NpmConfig,
    pub mirrors: &'a Mirrors,
    /// GNU gzip on this host, if there is one; makes a GitHub tarball from a git mirror.
    pub gzip: Option<&'a Path>,
    /// Sources inside admit, for addresses `embedded:<name>`.
    pub embedded: &'a [Embedded],
    /// The admit program, which reads sources in a process of its own.
    pub exe: &'a Path,
    pub progress: &'a dyn Progress,
}
