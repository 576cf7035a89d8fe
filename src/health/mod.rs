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
mod models;
mod outside;
mod records;
mod run;
#[cfg(test)]
mod tests;
mod validators;
pub mod world;

pub use run::{Health, health};
pub use validators::Validator;

/// Every validator, in the order in which they run: what must be let through, what a gate must refuse, what must fail.
pub fn all() -> impl Iterator<Item = &'static Validator> {
    let lists = [admitted::ADMITTED, records::RECORDS, models::MODELS, failing::FAILING];
    lists.into_iter().flatten()
}
