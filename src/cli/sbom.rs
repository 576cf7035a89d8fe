//! `admit sbom NAME`: the bill of materials of a build.

use std::path::PathBuf;

use super::app::App;
use super::inspect::read;
use super::making::saved;
use crate::error::{Error, Reason, Result};
use crate::host::platform;
use crate::lock::plan::Plan;
use crate::lock::{self, Spec};
use crate::record;
use crate::record::report::BuildReport;
use crate::sbom::{bom, parts};

/// Print what went into a build as CycloneDX 1.6 JSON; the same build gives the same bytes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The provider, or provider@commit with the beginning of the locked commit
    #[arg(required_unless_present = "report")]
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
            let report: BuildReport = record::parse(&read(file)?)
                .map_err(|err| crate::root::bad_record(&file.display().to_string(), &err))?;
            Some(report)
        }
        None => None,
    };
    let spec = match (&args.spec, &given) {
        (Some(spec), _) => spec.clone(),
        (None, Some(report)) => Spec { provider: report.provider.clone(), rev: None },
        (None, None) => return Err(Error::new(Reason::BadArgument, "a provider or --report FILE")),
    };
    let locked = lock::resolve(&*app.context.root()?, &spec)?;
    let plan = Plan::new(&locked.lock, platform()?)?;
    let store = app.context.store()?;
    let report = match given {
        Some(report) => report,
        None => saved(&store, &plan.key())?.ok_or_else(|| {
            Error::new(Reason::NotFound, "this lock was not built here")
                .at(locked.place.clone())
                .hint(format!("admit build {}", plan.provider))
        })?,
    };
    let parts = parts::read(&store, &locked, &plan, report)?;
    let bytes = record::pretty(&bom(&parts));
    match &args.out {
        None => app.ui.raw(&bytes),
        Some(file) => {
            std::fs::write(app.context.host.absolute(file), &bytes)
                .map_err(|err| Error::io("write", file, err))?;
            app.ui.remark(&format!("written {}", file.display()));
        }
    }
    Ok(0)
}
