//! What admit knows of Bun's formats. Pure: values in, values out.
//!
//! - [`lockfile`]: `bun.lock`, read strictly; [`select`]: which of its packages one platform gets.
//! - [`cache`]: the names in Bun's package cache.
//! - [`install`]: what an install must leave, and how a [`tree`] differs from it.
//! - [`origin`]: packages that are a directory of the source or a commit; [`patch`]: what a patch makes of a package.
//! - [`manifest`]: whether a tarball is the package that its row names.
//! - [`exe`]: a compiled executable (from [`elf`] and [`graph`]); [`inject`]: the proof of the runtime in it.
//! - [`native`]: what an executable that is no Bun loads.
//! - [`inspect`]: all that an executable shows of itself, as a value.
//! - [`explain`]: why two executables, or any two files, differ.

pub mod cache;
pub mod elf;
pub mod exe;
pub mod explain;
pub mod graph;
pub mod inject;
pub mod inspect;
pub mod install;
mod isolated;
mod jsonc;
#[cfg(test)]
mod lab;
pub mod lockfile;
pub mod manifest;
pub mod names;
pub mod native;
pub mod origin;
pub mod patch;
mod place;
mod rows;
#[cfg(test)]
mod sample;
pub mod select;
#[cfg(test)]
mod tests;
pub mod tree;
mod wyhash;
