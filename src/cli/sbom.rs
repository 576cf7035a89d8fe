//! `admit sbom NAME`: the bill of materials of a build.

use std::path::PathBuf;

use super::app::App;
use crate::build::Stored;
use crate::error::{Error, Reason, Result};
use crate::host::files::{self, Links};
use crate::lock::{self, Spec};
use crate::record;
use crate::record::report::BuildReport;
use crate::root::bad_record;
use crate::sbom::{bom, parts};
use crate::ui::Mark;

/// A longer report is not read, in bytes.
const MAX_REPORT: u64 = 16 << 20;

/// Print what went into a build as CycloneDX 1.6 JSON; the same build gives the same bytes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The provider, or provider@commit with the beginning of the locked commit
    #[arg(value_name = "PROVIDER[@COMMIT]", required_unless_present = "report")]
    spec: Option<Spec>,
    /// The report of a build, in place of the last build here
    #[arg(long, value_name = "FILE", conflicts_with = "spec")]
    report: Option<PathBuf>,
    /// Write to this file, not to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let given = match &args.report {
        Some(file) => {
            let bytes = files::read(&app.context.host.absolute(file), Links::Follow, MAX_REPORT)?;
            let report: BuildReport = record::parse(&bytes)
                .map_err(|err| bad_record(&file.display().to_string(), &err))?;
            Some(report)
        }
        None => None,
    };
    let spec = match (&args.spec, &given) {
        (Some(spec), _) => spec.clone(),
        (None, Some(report)) => Spec { provider: report.provider.clone(), rev: None },
        (None, None) => return Err(Error::new(Reason::BadArgument, "a provider or --report FILE")),
    };
    let out = args.out.as_ref().map(|file| app.context.host.absolute(file));
    match out.as_ref().map(|file| files::open(file, Links::Follow)) {
        Some(Err(err)) if err.reason() != Reason::NotFound => {
            return Err(err.hint("without --out it is printed"));
        }
        _ => {}
    }
    let locked = lock::resolve(&*app.context.root()?, &spec)?;
    let store = app.context.store()?;
    let report = match given {
        Some(report) => report,
        None => Stored::of(&store, &locked).report()?.ok_or_else(|| {
            Error::new(Reason::NotFound, "this lock was not built here")
                .at(locked.place.clone())
                .hint(format!("admit build {}", locked.lock.provider))
        })?,
    };
    let parts = parts::read(&store, &locked, report)?;
    let bytes = record::pretty(&bom(&parts));
    match &out {
        None => app.ui.raw(&bytes),
        Some(file) => {
            files::replace(file, &bytes)?;
            app.ui.verdict(Mark::Good, "written", &file.display().to_string());
        }
    }
    Ok(0)
}
