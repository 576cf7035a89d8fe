//! `admit health` and `admit validate`: does every gate and every failure class still say no where it must, and do the
//! good things still go through?
//!
//! A validator makes one thing wrong in a small world of its own and starts the run that any user would start. It
//! passes only if the sealed run directory, read back from disk and checked, holds exactly what must come of that fault:
//! status, failure class, marker file, fields, exit code; and, of a run that is blocked, if exactly the gate that is
//! meant decided it. What could not be run is never a pass.

mod admitted;
mod failing;
mod judge;
pub mod model;
mod models;
mod records;
#[cfg(test)]
mod tests;
mod validators;
pub mod world;

pub use judge::{Observed, SealedRun, judge, not_run};
pub use validators::{End, Validator, Want, all};
