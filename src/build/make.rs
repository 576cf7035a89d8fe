//! `admit build`, `admit adopt`, and what a build resolved for its lock: found in the store or made, compared with the
//! lock, saved.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::options::Options;
use super::sandboxed::{self, Differs, Outcome};
use super::stored::Stored;
use super::{output, published, recorded, report};
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::host::{self, Timings};
use crate::lock::{self, Change, Locked, Resolved};
use crate::record::ids::{Algorithm, Digest};
use crate::record::lockfile::Lockfile;
use crate::record::report::{BuildReport, Origin, OutputStatus};
use crate::root::Root;
use crate::sandbox::Launcher;
use crate::store::{Pending, Store};

/// What is said while another process builds.
const WAITING: &str = "another build of the same plan is running: waiting for it";

#[derive(Debug)]
pub struct Build {
    pub report: BuildReport,
    pub output: PathBuf,
    /// Whether it was built now, or taken now from elsewhere.
    pub fresh: bool,
}

#[derive(Debug)]
pub enum Made {
    Build(Box<Build>),
    /// The output is not the one that the lock names; what was in the store before is there still.
    Differs(Box<Differs>),
}

impl Made {
    /// The build, where an output that differs is an error.
    pub fn required(self) -> Result<Build> {
        match self {
            Made::Build(build) => Ok(*build),
            Made::Differs(differs) => Err(differs.error),
        }
    }
}

/// Finds the build in the store, or makes it. The output is compared with the lock either way.
pub fn make(context: &Context, locked: &Locked, options: &Options) -> Result<Made> {
    make_or(context, locked, options, &mut |_| Ok(false))
}

/// As [`make`]; `elsewhere` is asked before anything is built, while no other process builds it, and says whether it put a
/// build into the store. What it put there is found as every other build is, or it counts for nothing.
pub fn make_or(
    context: &Context,
    locked: &Locked,
    options: &Options,
    elsewhere: &mut dyn FnMut(&Stored<'_>) -> Result<bool>,
) -> Result<Made> {
    host::enough_tasks()?;
    let (root, store) = (context.root()?, context.store()?);
    let stored = Stored::of(&store, locked);
    let find = || match options.again {
        true => Ok(None),
        false => find(context, &store, &root, locked, &stored),
    };
    if let Some(build) = find()? {
        return Ok(Made::Build(Box::new(build)));
    }
    let _lock = store.lock(&stored.key, &mut || context.progress.note(WAITING))?;
    // The process that held the lock may have built it.
    if let Some(build) = find()? {
        return Ok(Made::Build(Box::new(build)));
    }
    if !options.again
        && elsewhere(&stored)?
        && let Some(build) = find()?
    {
        return Ok(Made::Build(Box::new(Build { fresh: true, ..build })));
    }
    let (started, mut timings) = (context.clock.now(), Timings::start());
    if !locked.plan.kind.is_built() {
        let proven = published::take(context, locked, &mut timings)?;
        let volatile = report::volatile(context, &root, started, timings, Value::Null);
        let mut report = report::of_binary(locked, &proven, volatile, Origin::Published);
        stored.put(&report, None)?;
        report.source_admission_status = recorded::admission(&root, locked, &report)?;
        return Ok(Made::Build(Box::new(Build { output: proven.path, report, fresh: true })));
    }
    let built = match sandboxed::build(context, locked, options, &mut timings)? {
        Outcome::Built(built) => built,
        Outcome::Differs(differs) => return Ok(Made::Differs(differs)),
    };
    let volatile = report::volatile(context, &root, started, timings, built.facts());
    let mut report = report::of_build(locked, &built, volatile);
    if !contradicts(&store, &stored, &report) {
        stored.put(&report, Some(&built.inputs.packages))?;
    }
    report.source_admission_status = recorded::admission(&root, locked, &report)?;
    Ok(Made::Build(Box::new(Build { output: built.proven.path, report, fresh: true })))
}

/// An earlier build whose output is in the store and is what its report and the lock say.
fn find(
    context: &Context,
    store: &Store,
    root: &Root,
    locked: &Locked,
    stored: &Stored<'_>,
) -> Result<Option<Build>> {
    let Some(mut report) = stored.report()? else { return Ok(None) };
    let Some(file) = store.file_checked(report.sha256.digest(), report.blake3.digest())? else {
        return Ok(None);
    };
    report.verification = output::status(locked, &report.binary())?;
    output::compiled(locked, &report.runtime)?;
    // A lock that asks for something else than was proven then is not answered by that build.
    match recorded::asked(locked, &report) {
        Ok(()) => {}
        // The output is at hand: what it says of itself is asked again, and nothing is built.
        Err(other) if other.field.starts_with("identity.") => {
            context
                .progress
                .stage("identity", &format!("{} --help", locked.plan.output.file_name()));
            let scratch = store.scratch()?;
            let launcher = Launcher::own(scratch.path());
            let want = &locked.lock.identity;
            report.identity = output::identity(
                &launcher,
                file.path(),
                report.sha256.digest(),
                &locked.lock.provider,
                want,
            )?;
            if recorded::asked(locked, &report).is_err() {
                return Ok(None);
            }
            report.lock_digest = locked.digest.clone();
            stored.put(&report, None)?;
        }
        Err(_) => return Ok(None),
    }
    // What was pulled stays as its builder signed it.
    if report.origin != Origin::Pulled {
        report.lock_digest = locked.digest.clone();
    }
    report.source_admission_status = recorded::admission(root, locked, &report)?;
    Ok(Some(Build { output: file.path().to_path_buf(), report, fresh: false }))
}

/// Whether an earlier build of the same plan gave something else, where no lock says which of them it should be. Then
/// the first stays on record, as long as its output is there: the later is an answer and not the new truth.
fn contradicts(store: &Store, stored: &Stored<'_>, report: &BuildReport) -> bool {
    let Ok(Some(earlier)) = stored.report() else { return false };
    let (sha256, blake3) = (earlier.sha256.digest(), earlier.blake3.digest());
    report.verification == OutputStatus::Unlocked
        && earlier.sha256 != report.sha256
        && matches!(store.file_checked(sha256, blake3), Ok(Some(_)))
}

/// Takes a binary that was built elsewhere: it must have the locked digest, the pinned runtime and the locked identity.
///
/// # Errors
/// [`Reason::OutputNotExecutable`]; [`Reason::OutputNotLocked`]; [`Reason::DigestMismatch`], and then nothing of it is kept;
/// those of [`output::prove`].
pub fn adopt(context: &Context, locked: &Locked, binary: &Path) -> Result<Build> {
    host::enough_tasks()?;
    let binary = executable(&context.host.absolute(binary))?;
    locked.plan.kind.require_built()?;
    let Some(expected) = locked.output() else {
        return Err(Error::new(
            Reason::OutputNotLocked,
            "the lock names no output, so there is nothing to adopt by",
        )
        .at(locked.place.clone())
        .expected(format!("outputs.{}", locked.plan.platform))
        .hint(format!("build it here instead: admit build {}", locked.lock.provider)));
    };
    let (started, mut timings) = (context.clock.now(), Timings::start());
    let (root, store) = (context.root()?, context.store()?);
    let stored = Stored::of(&store, locked);
    let _lock = store.lock(&stored.key, &mut || context.progress.note(WAITING))?;
    let pending = take(&store, binary, expected.sha256.digest())
        .map_err(|err| err.at(locked.place.clone()))?;
    let mut tool =
        context.network()?.fetcher().bun(locked.plan.bun()?, &locked.plan.bun_version)?;
    timings.part("fetch");
    let scratch = store.scratch()?;
    let launcher = Launcher::own(scratch.path());
    let proof = output::prove(pending, &mut tool, locked, &launcher, &*context.progress)?;
    output::status(locked, &proof.output)?;
    let proven = proof.publish()?;
    timings.part("proof");
    let volatile = report::volatile(context, &root, started, timings, Value::Null);
    let mut report = report::of_binary(locked, &proven, volatile, Origin::Adopted);
    // What admit built here says more than what it was handed.
    match stored.report()? {
        Some(built) if built.origin == Origin::Built && built.sha256 == report.sha256 => {
            report = built;
        }
        _ => stored.put(&report, None)?,
    }
    report.source_admission_status = recorded::admission(&root, locked, &report)?;
    Ok(Build { output: proven.path, report, fresh: true })
}

fn executable(path: &Path) -> Result<File> {
    // A pipe must not keep admit waiting for a writer.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(path).map_err(|err| {
        let reason =
            if err.kind() == std::io::ErrorKind::NotFound { Reason::NotFound } else { Reason::Io };
        Error::new(reason, "the binary cannot be opened")
            .at(path.display().to_string())
            .caused_by(err)
    })?;
    let meta = file.metadata().map_err(|err| Error::io("inspect", path, err))?;
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
    Ok(file)
}

/// Copies a file beside the store, if it has this digest.
fn take(store: &Store, mut file: File, expected: &Digest) -> Result<Pending> {
    let mut writer = store.writer_with(&[Algorithm::Sha256, Algorithm::Blake3])?;
    std::io::copy(&mut file, &mut writer).map_err(|err| Error::io("copy", "the binary", err))?;
    writer.pend(Algorithm::Sha256)?.require(expected)
}

/// The lock with what its last build here resolved, and what that changes.
///
/// # Errors
/// [`Reason::NotFound`] where it was not built here.
pub fn resolved(context: &Context, locked: &Locked) -> Result<(Lockfile, Vec<Change>)> {
    let store = context.store()?;
    let stored = Stored::of(&store, locked);
    let Some(report) = stored.report()? else {
        return Err(Error::new(
            Reason::NotFound,
            "this lock was not built here, so there is nothing to fill in",
        )
        .at(locked.lock.provider.to_string())
        .hint(format!("admit build {}", locked.lock.provider)));
    };
    lock::update(&locked.lock, Resolved { report: &report, packages: stored.packages()? })
}
