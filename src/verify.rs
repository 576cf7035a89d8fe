//! Stage 6, verify: does everything on this machine still match the locked records? Reads only, runs nothing, asks
//! nobody.
//!
//! Every row starts as a no and becomes a yes by what was read. A row that is not a yes says what was expected, what was
//! found, and what to do.

mod row;

use serde::Serialize;

use crate::bun::lockfile::Lockfile as BunLock;
use crate::error::{Error, Kind, Reason, Result};
use crate::lock::Locked;
use crate::lock::plan::Plan;
use crate::record;
use crate::record::evidence::GateRow;
use crate::record::ids::{Algorithm, Digest};
use crate::record::lockfile::LicenseStatus;
use crate::record::report::{BuildReport, Origin, OutputStatus};
use crate::root::Root;
use crate::store::Store;

pub use row::{Row, Status};

/// The answer for one provider.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    pub provider: String,
    /// Every row, in the order of the stages.
    pub rows: Vec<Row>,
    /// Every gate of a run; none where the lock cannot be read.
    pub gates: Vec<GateRow>,
    /// What a gate that refuses means for the exit code.
    #[serde(skip)]
    pub refused: Option<Kind>,
    /// Why nothing could be compared, where that is so.
    #[serde(skip)]
    unreadable: Option<Kind>,
}

impl Verified {
    /// A provider whose lock cannot be read: nothing can be compared with it.
    pub fn unreadable(provider: &str, err: &Error) -> Self {
        let rows = vec![Row::from_error("lock", err)];
        let unreadable = Some(err.kind());
        Self { provider: provider.to_owned(), rows, gates: Vec::new(), refused: None, unreadable }
    }

    /// Whether every row is a yes (or not needed, and said so), and no gate refuses.
    pub fn holds(&self) -> bool {
        self.refused.is_none() && self.faults().next().is_none()
    }

    pub fn faults(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !matches!(row.status, Status::Pass | Status::NotNeeded))
    }

    /// The exit code: 0 for yes, 5 where a digest does not match, that of its kind for a lock that cannot be read, 3
    /// where the signatures alone do not do, 1 for any other no.
    pub fn exit_code(&self) -> u8 {
        let differs = |row: &Row| row.status == Status::Fail && row.kind == Some(Kind::Digest);
        if self.holds() {
            0
        } else if self.refused == Some(Kind::Digest) || self.rows.iter().any(differs) {
            Kind::Digest.exit_code()
        } else if self.refused.is_none()
            && self.faults().all(|row| row.kind == Some(Kind::Refused) && row.id == "signature")
        {
            Kind::Refused.exit_code()
        } else {
            self.unreadable.unwrap_or(Kind::No).exit_code()
        }
    }
}

/// Everything that verify looks at.
pub struct Subject<'a> {
    pub root: &'a Root,
    pub locked: &'a Locked,
    pub plan: &'a Plan,
    /// The store, if there is one.
    pub store: Option<&'a Store>,
    /// What the last build of the plan here said, if there was one.
    pub saved: Option<&'a BuildReport>,
}

/// Compares everything. Never fails: what cannot be found out is a row that says so.
pub fn verify(subject: &Subject<'_>) -> Verified {
    let (root, locked) = (subject.root, subject.locked);
    let rebuild = format!("admit build {} --rebuild", subject.plan.provider);
    let rows = vec![
        Row::pass("root", format!("{} {}", root.label(), root.digest())),
        Row::pass("lock", format!("{} {}", locked.place, locked.digest)),
        source(subject, &rebuild),
        toolchain(subject, &rebuild),
        packages(subject, &rebuild),
        output(subject, &rebuild),
        identity(subject, &rebuild),
        report(subject),
        licence(locked),
    ];
    let provider = subject.plan.provider.to_string();
    Verified { provider, rows, gates: Vec::new(), refused: None, unreadable: None }
}

/// What is known of the licence; the gate holds the stage to it.
fn licence(locked: &Locked) -> Row {
    let licence = &locked.lock.license;
    let status = match (licence.status, &licence.spdx) {
        (LicenseStatus::Resolved, Some(spdx)) => format!("resolved as {spdx}"),
        (LicenseStatus::Resolved, None) => "resolved".into(),
        (LicenseStatus::Unresolved, _) => "unresolved".into(),
    };
    let stages: Vec<String> = licence.allows.iter().map(ToString::to_string).collect();
    let allows = match stages.as_slice() {
        [] => "no stage".into(),
        [one] => format!("stage {one} only"),
        more => format!("stages {}", more.join(", ")),
    };
    Row::pass("licence", format!("{status}, allows {allows}"))
}

fn adopted(subject: &Subject<'_>) -> bool {
    subject.saved.is_some_and(|saved| saved.origin == Origin::Adopted)
}

fn not_needed(id: &'static str) -> Row {
    let mut row = Row::pass(id, "the binary was adopted: it was not built here");
    row.status = Status::NotNeeded;
    row
}

fn source(subject: &Subject<'_>, rebuild: &str) -> Row {
    let lock = &subject.locked.lock;
    if adopted(subject) {
        return not_needed("source");
    }
    let nar = lock
        .source
        .nar_hash
        .as_ref()
        .or_else(|| subject.saved.and_then(|saved| saved.nar_hash.as_ref()));
    let expected =
        format!("{} {}", lock.source.rev, nar.map(ToString::to_string).unwrap_or_default());
    let (Some(nar), Some(store), Some(saved)) = (nar, subject.store, subject.saved) else {
        return Row::missing("source", expected)
            .fix(format!("admit build {}", subject.plan.provider));
    };
    if saved.pinned_commit != lock.source.rev || saved.nar_hash.as_ref() != Some(nar) {
        let found = format!(
            "{} {}",
            saved.pinned_commit,
            saved.nar_hash.as_ref().map(ToString::to_string).unwrap_or_default()
        );
        return Row::no("source", Status::Fail, Reason::SourceMismatch, expected, found)
            .fix(rebuild);
    }
    if let Some(tree) = &lock.source.tree
        && saved.source_tree.as_ref() != Some(tree)
    {
        let found = saved.source_tree.as_ref().map_or("absent", |t| t.as_str());
        return Row::no("source", Status::Fail, Reason::SourceMismatch, tree.as_str(), found)
            .fix(rebuild);
    }
    match store.tree(&nar.0) {
        Ok(Some(_)) => Row::pass("source", expected),
        Ok(None) => Row::missing("source", expected).fix(rebuild),
        Err(err) => Row::from_error("source", &err),
    }
}

fn mismatch(id: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Row {
    Row::no(id, Status::Fail, Reason::DigestMismatch, expected, found)
}

fn toolchain(subject: &Subject<'_>, rebuild: &str) -> Row {
    let plan = subject.plan;
    let expected = format!("Bun {} sha256:{}", plan.bun_version, plan.bun.binary_sha256);
    let Some(store) = subject.store else {
        return Row::missing("toolchain", expected).fix(rebuild);
    };
    match store.file(plan.bun.binary_sha256.digest()) {
        Ok(Some(_)) => Row::pass("toolchain", expected),
        Ok(None) => Row::no("toolchain", Status::Missing, Reason::BunMissing, expected, "not here")
            .fix(rebuild),
        Err(err) => Row::from_error("toolchain", &err),
    }
}

fn packages(subject: &Subject<'_>, rebuild: &str) -> Row {
    if adopted(subject) {
        return not_needed("packages");
    }
    match compare_packages(subject) {
        Ok(Some(found)) => Row::pass("packages", found),
        Ok(None) => Row::missing("packages", "every package of the source's lock").fix(rebuild),
        Err(err) => Row::from_error("packages", &err),
    }
}

/// Reads the source's own lock out of the verified tree and every tarball of this platform.
fn compare_packages(subject: &Subject<'_>) -> Result<Option<String>> {
    let (Some(store), Some(saved)) = (subject.store, subject.saved) else { return Ok(None) };
    let Some(nar) = &saved.nar_hash else { return Ok(None) };
    let Some(tree) = store.tree(&nar.0)? else { return Ok(None) };
    let path = subject.plan.lockfile.as_str();
    let bytes = tree.dir()?.read(path).map_err(|err| Error::io("read", path, err))?;
    let bun_lock = BunLock::parse(&bytes, path)?;
    let locked = crate::fetch::inputs::locked_packages(&bun_lock, subject.plan)?;
    let digest = record::digest(&locked);
    let expected = subject.locked.lock.dependencies.packages.as_ref().map(record::digest);
    for expected in [expected.as_ref(), saved.packages_digest.as_ref()].into_iter().flatten() {
        if *expected != digest {
            return Err(Error::new(Reason::DigestMismatch, "another package list")
                .expected(expected.to_string())
                .found(digest.to_string()));
        }
    }
    let selected = crate::fetch::inputs::select(&bun_lock, subject.plan)?;
    for (package, digest) in &selected {
        if store.file(digest)?.is_none() {
            return Err(Error::new(Reason::NotFound, "a package is not in the store")
                .at(package.key.clone())
                .expected(digest.to_string())
                .found(format!("no tarball of {}", package.key)));
        }
    }
    Ok(Some(format!("{} packages, {} for this platform, {digest}", locked.len(), selected.len())))
}

fn output(subject: &Subject<'_>, rebuild: &str) -> Row {
    let locked = subject.locked.lock.outputs.get(&subject.plan.platform);
    let (Some(store), Some(saved)) = (subject.store, subject.saved) else {
        let expected = locked.map_or("an output".to_owned(), |o| format!("sha256:{}", o.sha256));
        return Row::missing("output", expected)
            .fix(format!("admit build {}", subject.plan.provider));
    };
    let Some(locked) = locked else {
        return Row::no(
            "output",
            Status::Missing,
            Reason::OutputNotLocked,
            "a locked output",
            "the lock names none",
        )
        .fix(format!("admit lock {} --update", subject.plan.provider));
    };
    let expected =
        format!("sha256:{} blake3:{} {} bytes", locked.sha256, locked.blake3, locked.size);
    let found =
        |sha256: &Digest, blake3: &Digest, size: u64| format!("{sha256} {blake3} {size} bytes");
    if saved.sha256 != locked.sha256 {
        let found = found(saved.sha256.digest(), saved.blake3.digest(), saved.size);
        return mismatch("output", expected, found).fix(rebuild);
    }
    // Both digests come from one read of the file.
    match store.file_with(locked.sha256.digest(), &[Algorithm::Blake3]) {
        Ok(None) => Row::missing("output", expected).fix(rebuild),
        Err(err) => Row::from_error("output", &err).fix(rebuild),
        Ok(Some(file)) => {
            let blake3 = file.digests().get(Algorithm::Blake3);
            if blake3 == Some(locked.blake3.digest()) && file.size() == locked.size {
                return Row::pass("output", expected);
            }
            let blake3 = blake3.map(ToString::to_string).unwrap_or_default();
            let found = format!("{} {blake3} {} bytes", file.digest(), file.size());
            mismatch("output", expected, found).fix(rebuild)
        }
    }
}

fn identity(subject: &Subject<'_>, rebuild: &str) -> Row {
    let want = &subject.locked.lock.identity;
    let expected = format!(
        "{:?}, version {}",
        want.help_first_line,
        want.version.as_deref().unwrap_or("not asked")
    );
    let Some(saved) = subject.saved else { return Row::missing("identity", expected).fix(rebuild) };
    let proof = &saved.identity;
    let found = format!(
        "{:?}, version {}",
        proof.help_first_line,
        proof.version.as_deref().unwrap_or("not asked")
    );
    let same = proof.help_first_line == want.help_first_line
        && proof.version == want.version
        && proof.commands == want.commands
        && saved.runtime.proven;
    match same {
        true => Row::pass("identity", found),
        false => {
            Row::no("identity", Status::Fail, Reason::WrongIdentity, expected, found).fix(rebuild)
        }
    }
}

fn report(subject: &Subject<'_>) -> Row {
    let fix = format!("admit build {} --record", subject.plan.provider);
    let Some(output) = subject.locked.lock.outputs.get(&subject.plan.platform) else {
        return Row::no(
            "report",
            Status::Missing,
            Reason::OutputNotLocked,
            "a recorded build",
            "the lock names no output",
        )
        .fix(format!("admit lock {} --update", subject.plan.provider));
    };
    let path = format!("admissions/builds/{}--{}.json", subject.plan.provider, output.sha256);
    let recorded = match subject.root.record::<BuildReport>(&path) {
        Ok(Some(recorded)) => recorded,
        Ok(None) => return Row::missing("report", path).fix(fix),
        Err(err) => return Row::from_error("report", &err).fix(fix),
    };
    let Some(saved) = subject.saved else {
        return Row::missing("report", "a build here that the record can be compared with")
            .fix(fix);
    };
    if recorded.verification != OutputStatus::Locked || !recorded.same_build(saved) {
        let (expected, found) = first_difference(saved, &recorded);
        return mismatch("report", expected, found).fix(fix);
    }
    Row::pass("report", format!("{} {}", subject.root.place(&path), recorded.core_digest()))
}

/// The first field in which a record is not the build's own report, with both values.
fn first_difference(saved: &BuildReport, recorded: &BuildReport) -> (String, String) {
    let (ours, theirs) = (record::to_value(saved), record::to_value(recorded));
    let skipped = ["volatile", "source_admission_status", "lock_digest", "verification"];
    let fields = ours.as_object().into_iter().flatten();
    let different = fields
        .filter(|(key, value)| !skipped.contains(&key.as_str()) && theirs.get(key) != Some(value));
    different
        .map(|(key, value)| (format!("{key}: {value}"), format!("{key}: {}", theirs[key])))
        .next()
        .unwrap_or_else(|| {
            (
                "verification: locked".to_owned(),
                format!("verification: {:?}", recorded.verification),
            )
        })
}
