//! `admit adopt NAME --binary PATH`: takes a binary that was built elsewhere, under the same checks.

use std::path::PathBuf;

use super::app::App;
use super::build::{Around, show};
use crate::build;
use crate::error::Result;
use crate::lock::{self, Spec};

/// Take a binary that was built elsewhere: same digest, runtime and identity checks
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The provider, or provider@commit
    #[arg(value_name = "PROVIDER[@COMMIT]")]
    spec: Spec,
    /// The binary
    #[arg(long, value_name = "PATH")]
    binary: PathBuf,
    /// Put it on record in admissions/builds/
    #[arg(long)]
    record: bool,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let locked = lock::resolve(&*app.context.root()?, &args.spec)?;
    let adopted = build::adopt(&app.context, &locked, &args.binary)?;
    show(app, &locked, &adopted, &Around::default(), args.record)?;
    Ok(0)
}
