//! `admit adopt NAME --binary PATH`: takes a binary that was built elsewhere, under the same checks.

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use super::app::App;
use super::build::{Around, show};
use crate::build;
use crate::error::{Error, Reason, Result};
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
    let path = app.context.host.absolute(&args.binary);
    // A pipe must not keep admit waiting for a writer.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(&path).map_err(|err| {
        let reason =
            if err.kind() == std::io::ErrorKind::NotFound { Reason::NotFound } else { Reason::Io };
        Error::new(reason, "the binary cannot be opened")
            .at(path.display().to_string())
            .caused_by(err)
    })?;
    let meta = file.metadata().map_err(|err| Error::io("inspect", &path, err))?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(Error::new(
            Reason::OutputNotExecutable,
            "the binary is not a regular executable file",
        )
        .at(path.display().to_string())
        .expected("a regular file with an execute bit")
        .found(if meta.is_file() { "no execute bit" } else { "not a regular file" })
        .hint("chmod +x it, if it is the binary"));
    }
    let adopted = build::adopt(&app.context, &locked, file)?;
    show(app, &locked, &adopted, &Around::default(), args.record)?;
    Ok(0)
}
