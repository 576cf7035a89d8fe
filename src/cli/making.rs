//! How the stages of a build are put together, for every command that builds: lock, fetch, plan, build, report.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::app::App;
use super::circumstances::circumstances;
use crate::attest::record_path;
use crate::build::install::Packages;
use crate::build::{self, Inputs, Options};
use crate::error::{Error, Reason, Result};
use crate::fetch::inputs::Inputs as Fetched;
use crate::fetch::toolchain::Bun;
use crate::host::{Progress, Stopwatch, platform};
use crate::lock::plan::Plan;
use crate::lock::{self, Change, Locked, Resolved};
use crate::record;
use crate::record::ids::{AbsPath, Algorithm, Digest, RelPath};
use crate::record::lockfile::{BunToolchain, LockedPackage, Lockfile, Platform};
use crate::record::report::{BuildReport, Origin, OutputStatus, SourceAdmission};
use crate::report;
use crate::root::{Root, bad_record};
use crate::sandbox::Launcher;
use crate::store::{Pending, Store};

/// The area of the store that holds what builds gave, by plan.
const AREA: &str = "builds";

/// What is said while somebody else builds.
const WAITING: &str = "another build of the same plan is running: waiting for it";

/// How to build.
pub(super) struct How {
    /// Build although the output is in the store.
    pub(super) again: bool,
    /// Keep what a failed build leaves.
    pub(super) keep_failed: bool,
    /// A directory on disk to build in.
    pub(super) scratch: Option<PathBuf>,
    /// Deadline of each step.
    pub(super) step_wall: Duration,
    /// The directory inside, where the lock leaves it open.
    pub(super) open_path: Option<AbsPath>,
    /// Seconds by which the clocks that count from the boot are ahead inside.
    pub(super) clock_ahead: Option<u32>,
    /// Set to the SHA-256 of an output that came out and is not the one that the lock names.
    pub(super) differed: RefCell<Option<Digest>>,
}

impl Default for How {
    fn default() -> Self {
        Self {
            again: false,
            keep_failed: false,
            scratch: None,
            step_wall: build::STEP_WALL,
            open_path: None,
            clock_ahead: None,
            differed: RefCell::default(),
        }
    }
}

/// A finished build.
pub(super) struct Made {
    /// Its report.
    pub(super) report: BuildReport,
    /// The output in the store.
    pub(super) output: PathBuf,
    /// Whether it was built now.
    pub(super) fresh: bool,
}

/// The report of an earlier build of this lock here, if there is one.
pub(super) fn earlier(app: &App, locked: &Locked) -> Result<Option<BuildReport>> {
    let plan = Plan::new(&locked.lock, platform()?)?;
    saved(&*app.context.store()?, &plan.key())
}

/// The saved report of a plan.
pub(super) fn saved(store: &Store, key: &Digest) -> Result<Option<BuildReport>> {
    let Some(bytes) = store.record_get(AREA, key, "report.json")? else { return Ok(None) };
    record::parse(&bytes).map(Some).map_err(|err| bad_record("the store's build record", &err))
}

/// The saved package list of a plan.
pub(super) fn saved_packages(store: &Store, key: &Digest) -> Result<Option<Vec<LockedPackage>>> {
    let Some(bytes) = store.record_get(AREA, key, "packages.json")? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|err| bad_record("the store's package list", &err.into()))
}

/// The lock with what its last build here resolved, and what that changes.
///
/// # Errors
/// [`Reason::NotFound`] where it was not built here.
pub(super) fn resolved(app: &App, lock: &Lockfile) -> Result<(Lockfile, Vec<Change>)> {
    let key = Plan::new(lock, platform()?)?.key();
    let store = app.context.store()?;
    let Some(report) = saved(&store, &key)? else {
        return Err(Error::new(
            Reason::NotFound,
            "this lock was not built here, so there is nothing to fill in",
        )
        .at(lock.provider.to_string())
        .hint(format!("admit build {}", lock.provider)));
    };
    let packages = saved_packages(&store, &key)?;
    lock::update(lock, Resolved { report: &report, packages })
}

/// Looks up a version of Bun in the registry, for this platform or for all that admit knows.
pub(super) fn toolchain(app: &App, version: &str, all: bool) -> Result<BunToolchain> {
    let network = app.context.network()?;
    let fetcher = network.fetcher();
    let wanted = if all { Platform::ALL.to_vec() } else { vec![platform()?] };
    let mut platforms = BTreeMap::new();
    for platform in wanted {
        platforms.insert(platform, fetcher.pin_bun(version, platform)?);
    }
    Ok(BunToolchain { version: version.to_owned(), platforms })
}

/// Finds the build in the store, or makes it. The output is compared with the lock either way.
pub(super) fn make(app: &App, root: &Root, locked: &Locked, how: &How) -> Result<Made> {
    let plan = Plan::new(&locked.lock, platform()?)?;
    let store = app.context.store()?;
    let key = plan.key();
    if !how.again
        && let Some(made) = find(&store, root, locked, &plan)?
    {
        return Ok(made);
    }
    let _lock = store.lock(&key, &mut || app.ui.note(WAITING))?;
    // Whoever held the lock may have built it.
    if !how.again
        && let Some(made) = find(&store, root, locked, &plan)?
    {
        return Ok(made);
    }
    let started = app.context.clock.now();
    let mut laps = Stopwatch::start();
    let same = accept(locked, &plan);
    let accept = |sha256: &Digest, blake3: &Digest, size| {
        same(sha256, blake3, size).inspect_err(|_| {
            how.differed.replace(Some(sha256.clone()));
        })
    };
    let (built, inputs) = once(app, locked, &plan, how, &accept, &mut laps)?;
    let around = circumstances(app, root, started, laps);
    let mut report = report::report(locked, &plan, &inputs, &built, around);
    if !contradicts(&store, &key, &report) {
        store.record_put(AREA, &key, "packages.json", &record::canonical(&inputs.locked))?;
        store.record_put(AREA, &key, "report.json", &record::pretty(&report))?;
    }
    report.source_admission_status = admission(root, &report)?;
    Ok(Made { output: built.proven.path, report, fresh: true })
}

/// Whether an output is the one that was asked for: SHA-256, BLAKE3, bytes.
pub(super) type Accept<'a> = dyn Fn(&Digest, &Digest, u64) -> Result<()> + 'a;

/// Fetches and builds, whatever is in the store. What comes out is proven, and in the store if `accept` takes it.
pub(super) fn once(
    app: &App,
    locked: &Locked,
    plan: &Plan,
    how: &How,
    accept: &Accept<'_>,
    laps: &mut Stopwatch,
) -> Result<(build::Built, Fetched)> {
    let store = app.context.store()?;
    let network = app.context.network()?;
    let fetcher = network.fetcher();
    let mut inputs = fetcher.inputs(&locked.lock, plan)?;
    laps.lap("fetch");
    let tarballs = std::mem::take(&mut inputs.tarballs);
    let mut packages =
        Packages { lock: inputs.bun_lock.clone(), selected: inputs.selected.clone(), tarballs };
    // What a sandbox's start leaves when it is killed goes with the store's scratch.
    let scratch = store.scratch()?;
    let launcher = Launcher::own(scratch.path());
    let options = options(app, &store, &launcher, how, accept);
    let mut given =
        Inputs { source: &inputs.source, bun: &mut inputs.bun, packages: &mut packages };
    let built = build::build(plan, &locked.lock, &mut given, &options, laps)?;
    Ok((built, inputs))
}

/// What is refused where the lock names another output.
fn accept<'a>(
    locked: &'a Locked,
    plan: &'a Plan,
) -> impl Fn(&Digest, &Digest, u64) -> Result<()> + 'a {
    |sha256, blake3, size| report::compare(locked, plan, sha256, blake3, size).map(drop)
}

/// Whether an earlier build of the same plan gave something else, where no lock says which of them it should be. Then
/// the first stays on record, as long as its output is there: the later is an answer and not the new truth.
fn contradicts(store: &Store, key: &Digest, report: &BuildReport) -> bool {
    let Ok(Some(earlier)) = saved(store, key) else { return false };
    let (sha256, blake3) = (earlier.sha256.digest(), earlier.blake3.digest());
    report.verification == OutputStatus::Unlocked
        && earlier.sha256 != report.sha256
        && matches!(store.file_checked(sha256, blake3), Ok(Some(_)))
}

/// Takes a binary that was built elsewhere: it must have the locked digest, the pinned runtime and the locked identity.
///
/// # Errors
/// [`Reason::OutputNotLocked`]; [`Reason::DigestMismatch`], and then nothing of it is kept; those of [`build::prove`].
pub(super) fn adopt(
    app: &App,
    root: &Root,
    locked: &Locked,
    binary: std::fs::File,
) -> Result<Made> {
    let plan = Plan::new(&locked.lock, platform()?)?;
    let Some(expected) = locked.lock.outputs.get(&plan.platform) else {
        return Err(Error::new(
            Reason::OutputNotLocked,
            "the lock names no output, so there is nothing to adopt by",
        )
        .at(locked.place.clone())
        .expected(format!("outputs.{}", plan.platform))
        .hint("build it here instead: admit build"));
    };
    let started = app.context.clock.now();
    let mut laps = Stopwatch::start();
    let store = app.context.store()?;
    let _lock = store.lock(&plan.key(), &mut || app.ui.note(WAITING))?;
    let output = take(&store, binary, expected.sha256.digest())
        .map_err(|err| err.at(locked.place.clone()))?;
    let network = app.context.network()?;
    let fetcher = network.fetcher();
    let (mut bun, _) = fetcher.bun(&Bun {
        package: &plan.bun.package,
        version: &plan.bun_version,
        integrity: &plan.bun.integrity.0,
        binary_sha256: plan.bun.binary_sha256.digest(),
    })?;
    laps.lap("fetch");
    let scratch = store.scratch()?;
    let launcher = Launcher::own(scratch.path());
    let (how, accept) = (How::default(), accept(locked, &plan));
    let options = options(app, &store, &launcher, &how, &accept);
    let proven = build::prove(output, &mut bun, &locked.lock, &options)?;
    laps.lap("proof");
    let around = circumstances(app, root, started, laps);
    let mut report =
        report::adopted(locked, &plan, &proven, around, serde_json::Value::Null, Origin::Adopted);
    // What admit built here says more than what it was handed.
    match saved(&store, &plan.key())? {
        Some(built) if built.origin == Origin::Built && built.sha256 == report.sha256 => {
            report = built
        }
        _ => store.record_put(AREA, &plan.key(), "report.json", &record::pretty(&report))?,
    }
    report.source_admission_status = admission(root, &report)?;
    Ok(Made { output: proven.path, report, fresh: true })
}

/// Copies a file beside the store, if it has this digest.
fn take(store: &Store, mut file: std::fs::File, expected: &Digest) -> Result<Pending> {
    let mut writer = store.writer_with(&[Algorithm::Sha256, Algorithm::Blake3])?;
    std::io::copy(&mut file, &mut writer).map_err(|err| Error::io("copy", "the binary", err))?;
    writer.pend(Algorithm::Sha256)?.require(expected)
}

fn options<'a>(
    app: &'a App,
    store: &'a Store,
    launcher: &'a Launcher,
    how: &'a How,
    accept: &'a dyn Fn(&Digest, &Digest, u64) -> Result<()>,
) -> Options<'a> {
    Options {
        launcher,
        store,
        scratch: how.scratch.as_deref(),
        keep_failed: how.keep_failed,
        step_wall: how.step_wall,
        accept,
        open_path: how.open_path.clone(),
        clock_ahead: how.clock_ahead,
        progress: &*app.ui,
    }
}

/// An earlier build whose output is in the store and is what its report and the lock say.
fn find(store: &Store, root: &Root, locked: &Locked, plan: &Plan) -> Result<Option<Made>> {
    let Some(mut report) = saved(store, &plan.key())? else { return Ok(None) };
    let Some(output) = store.file_checked(report.sha256.digest(), report.blake3.digest())? else {
        return Ok(None);
    };
    let (sha256, blake3) = (report.sha256.digest(), report.blake3.digest());
    report.verification = report::compare(locked, plan, sha256, blake3, report.size)?;
    // A lock that asks for something else than was proven then is not answered by that build.
    if !report::still_holds(locked, &report) {
        return Ok(None);
    }
    report.lock_digest = locked.digest.clone();
    report.source_admission_status = admission(root, &report)?;
    Ok(Some(Made { output: output.path().to_path_buf(), report, fresh: false }))
}

/// Whether this very build is on record: same output, same plan, same proofs.
pub(super) fn admission(root: &Root, report: &BuildReport) -> Result<SourceAdmission> {
    let recorded: Option<BuildReport> = root.record(&record_path(report))?;
    let same = recorded.is_some_and(|recorded| recorded.same_build(report));
    Ok(if same { SourceAdmission::Admitted } else { SourceAdmission::NotAdmitted })
}

/// Puts a build on record and says where.
///
/// # Errors
/// [`Reason::OutputNotLocked`] where the lock does not name the output.
pub(super) fn put_on_record(app: &App, report: &BuildReport) -> Result<String> {
    if report.verification == OutputStatus::Unlocked {
        return Err(Error::new(
            Reason::OutputNotLocked,
            "the lock names no output, so the build cannot be recorded",
        )
        .at(report.provider.to_string())
        .expected(format!("outputs.{} in the lock", report.platform))
        .found("absent")
        .hint(format!("admit lock {} --update", report.provider)));
    }
    let path: RelPath = record_path(report)
        .parse()
        .map_err(|err| Error::new(Reason::Internal, "the name of a record").caused_by(err))?;
    let mut report = report.clone();
    report.source_admission_status = SourceAdmission::Admitted;
    // A record that says the same is left as it is: recording twice, or two at once, changes nothing.
    app.context.write_root(|root| {
        root.update(&path, |now| {
            let old = now.map(record::parse::<BuildReport>).transpose();
            let old = old.map_err(|err| bad_record(path.as_str(), &err))?;
            let same = old.is_some_and(|old| old.core_digest() == report.core_digest());
            Ok((!same).then(|| record::pretty(&report)))
        })?;
        Ok(root.place(path.as_str()))
    })
}
