//! Finds out what lies on disk: records, the store, the binary. Starts nothing but, where it is asked, the output in a
//! sandbox to see its identity.

pub mod model;
#[cfg(test)]
mod tests;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{BinaryFact, Content, Facts, Failure, Found, PackagesFact, Recorded, RootFact};
use crate::attest::keys::{Keys, Named};
use crate::attest::{self, Demand, Expected, Refused, Signed};
use crate::build::{Stored, output};
use crate::error::{Error, Reason, Result};
use crate::fetch::inputs;
use crate::host::Host;
use crate::host::files::{self, Links};
use crate::lock::Locked;
use crate::record;
use crate::record::ids::{Algorithm, Digest, Timestamp};
use crate::record::report::BuildReport;
use crate::record::signing::StatementKind;
use crate::root::Root;
use crate::sandbox::Launcher;
use crate::store::{Hashes, Store};

/// A larger binary is not read; Case's is 106 MB.
const MAX_BINARY: u64 = 1 << 30;

/// Root, lock, the build on record and the one made here.
pub fn records(root: &Root, locked: Result<&Locked, &Error>, store: Option<&Store>) -> Facts {
    let label = format!("{} {}", root.label(), root.digest());
    let mut facts = Facts {
        root: Found::Known(RootFact { label, trusted: root.trusted() }),
        ..Facts::default()
    };
    let locked = match locked {
        Ok(locked) => locked,
        Err(err) if err.reason() == Reason::ProviderNotLocked => {
            facts.lock = Found::Absent;
            return facts;
        }
        Err(err) => {
            facts.lock = Found::Failed(err.into());
            return facts;
        }
    };
    facts.provider = locked.lock.provider.to_string();
    facts.lock = Found::Known(locked.clone());
    facts.recorded = recorded(root, locked).into();
    facts.saved = match store {
        None => Found::Absent,
        Some(store) => Stored::of(store, locked).report().into(),
    };
    facts
}

/// The build of the locked output on record; `None` where there is none, or no locked output.
pub fn recorded(root: &Root, locked: &Locked) -> Result<Option<Recorded>> {
    let Some(output) = locked.output() else { return Ok(None) };
    let path = BuildReport::path_of(&locked.lock.provider, &output.sha256);
    let report = root.record::<BuildReport>(&path)?;
    Ok(report.map(|report| Recorded { place: root.place(&path), report }))
}

/// What the root's policy says of a thing's signatures. Nothing is asked where there is no policy; where there is one
/// and the thing is not there, nothing can have been signed.
pub fn signed(
    root: &Root,
    kind: StatementKind,
    about: Option<&Expected>,
    now: &Timestamp,
) -> Found<Signed> {
    match about {
        _ if root.config().require.of(kind).is_none() => Found::Known(None),
        None => Found::Absent,
        Some(about) => Found::Known(attest::demanded(root, kind, about, now)),
    }
}

/// The statement that a signature on the recorded build is about.
pub fn build_statement(facts: &Facts, now: &Timestamp) -> Option<Expected> {
    let (recorded, locked) = (facts.recorded.known()?, facts.lock.known()?);
    Some(attest::of_build(&recorded.report, &locked.lock, now))
}

/// Who signed the recorded build, and who that it was built again with the same outcome, as the root's policy asks.
pub fn build_signed(root: &Root, facts: &Facts, now: &Timestamp) -> Found<Signed> {
    let build = signed(root, StatementKind::Build, build_statement(facts, now).as_ref(), now);
    let again = rebuild_signed(root, facts, now);
    match (build, again) {
        (Found::Known(build), Found::Known(again)) => Found::Known(attest::both(build, again)),
        (Found::Known(_), other) | (other, _) => other,
    }
}

/// Who signed that the recorded build was made again with the same outcome.
pub fn rebuild_signed(root: &Root, facts: &Facts, now: &Timestamp) -> Found<Signed> {
    let about = match (facts.recorded.known(), facts.lock.known()) {
        (Some(recorded), Some(locked)) => Some(attest::rebuild(&recorded.report, &locked.lock)),
        _ => None,
    };
    signed(root, StatementKind::Rebuild, about.as_ref(), now)
}

/// What the signatures by which a build was pulled say now: by the root's policy, else by what it asks for of its caches,
/// or by this user's, which the record names. Who takes a key back takes back what was pulled by it.
pub fn pulled_signed(root: &Root, host: &Host, facts: &Facts, now: &Timestamp) -> Found<Signed> {
    let (Some(recorded), Some(locked)) = (facts.recorded.known(), facts.lock.known()) else {
        return Found::Absent;
    };
    let Some(pulled) = &recorded.report.pulled else { return Found::Known(None) };
    let about = attest::of_build(&recorded.report, &locked.lock, now);
    if root.config().require.of(StatementKind::Build).is_some() {
        return Found::Known(attest::demanded(root, StatementKind::Build, &about, now));
    }
    let keys = host.data_dir().and_then(|dir| Keys::new(&dir).all());
    let (cache, keys) = match (Demand::of_cache(root), keys) {
        (Ok(cache), Ok(keys)) => (cache, keys),
        (Err(err), _) | (_, Err(err)) => return Found::Failed((&err).into()),
    };
    let bundle = root.get(&attest::bundle_path(recorded.report.sha256.digest()));
    let check = |demand: &Demand| attest::check(bundle, std::slice::from_ref(&about), demand, now);
    let cached = cache.as_ref().map(check);
    if let Some(Ok(held)) = cached {
        return Found::Known(Some(Ok(held)));
    }
    let named = |key: &Named| pulled.signed_by.iter().any(|by| by.key == key.key.fingerprint());
    let counting: Vec<Named> = keys.into_iter().filter(named).collect();
    if let Some(Err(refused)) = cached.filter(|_| counting.is_empty()) {
        return Found::Known(Some(Err(refused)));
    }
    if counting.is_empty() {
        let names: Vec<String> =
            pulled.signed_by.iter().map(|by| format!("{} ({})", by.name, by.key)).collect();
        return Found::Known(Some(Err(Refused {
            reason: Reason::SignerUnknown,
            expected: format!("the key of {}", names.join(" or ")),
            found: "it is not among this user's keys".into(),
            fix: "import it again, if it is still to be trusted: admit key import --help".into(),
        })));
    }
    Found::Known(Some(check(&Demand::of_keys(counting).within(root))))
}

/// Where the provider's binary is: the file that was named, else the store's.
pub fn binary_path(named: Option<&str>, facts: &Facts, store: Option<&Store>) -> Option<Place> {
    if let Some(path) = named {
        return Some(Place { path: path.into(), of_store: false });
    }
    let output = facts.lock.known()?.output()?;
    Some(Place { path: store?.file_path(output.sha256.digest()), of_store: true })
}

/// A binary's place. The store keeps no modes: what it holds as an output was executable when it was taken, and its copy
/// in the sandbox is.
pub struct Place {
    pub path: PathBuf,
    pub of_store: bool,
}

/// Opens the binary once, looks at it and hashes it. What runs is copied and hashed anew by the sandbox.
pub fn binary(place: Option<&Place>) -> Found<BinaryFact> {
    let Some(Place { path, of_store }) = place else { return Found::Absent };
    let place = path.display().to_string();
    let file = match files::open(path, Links::Refuse) {
        Ok(file) => file,
        Err(err) if err.reason() == Reason::NotFound => return Found::Absent,
        // The store holds regular files only.
        Err(err) if *of_store && err.reason() == Reason::BadArgument => {
            let failure = Failure::from(&err);
            return Found::Failed(Failure { reason: Reason::StoreCorrupt, ..failure });
        }
        Err(err) if err.reason() == Reason::BadArgument => {
            let irregular = err.found_value().map(str::to_owned);
            return Found::Known(BinaryFact { place, irregular, executable: false, content: None });
        }
        Err(err) => return Found::unreadable(err.to_string()),
    };
    let meta = match file.metadata() {
        Ok(meta) => meta,
        Err(err) => return Found::unreadable(err.to_string()),
    };
    // A sparse file of any length costs nothing to make and hours to hash.
    if meta.len() > MAX_BINARY {
        return Found::unreadable(format!("{} bytes, larger than any program", meta.len()));
    }
    let digests = match Hashes::of_file(&file, &[Algorithm::Sha256, Algorithm::Blake3]) {
        Ok(digests) => digests,
        Err(err) => return Found::unreadable(err.to_string()),
    };
    let (sha256, blake3) = (digests.get(Algorithm::Sha256), digests.get(Algorithm::Blake3));
    let content = sha256.cloned().zip(blake3.cloned());
    Found::Known(BinaryFact {
        place,
        irregular: None,
        executable: *of_store || meta.mode() & 0o111 != 0,
        content: content.map(|(sha256, blake3)| Content { sha256, blake3, size: meta.len() }),
    })
}

/// Source, toolchain and packages as the store has them.
pub fn store(facts: &mut Facts, store: Option<&Store>) {
    let (Some(store), Some(locked)) = (store, facts.lock.known()) else {
        facts.source_stored = Found::Absent;
        facts.toolchain_stored = Found::Absent;
        facts.packages_stored = Found::Absent;
        return;
    };
    let toolchain_stored = match &locked.plan.bun {
        None => Found::Absent,
        Some(bun) => store.file(bun.binary_sha256.digest()).map(|file| file.map(drop)).into(),
    };
    let nar = facts.recorded.known().and_then(|recorded| recorded.report.nar_hash.clone());
    let (source_stored, packages_stored) = match nar {
        Some(nar) => {
            let found = store.tree(&nar.0);
            let packages = packages(store, locked, &nar.0);
            (found.map(|tree| tree.map(|_| nar.to_string())).into(), packages.into())
        }
        None => (Found::Absent, Found::Absent),
    };
    facts.toolchain_stored = toolchain_stored;
    facts.source_stored = source_stored;
    facts.packages_stored = packages_stored;
}

/// Reads the source's own lock out of the verified tree and every tarball of this platform.
fn packages(store: &Store, locked: &Locked, nar: &Digest) -> Result<Option<PackagesFact>> {
    let Some(tree) = store.tree(nar)? else { return Ok(None) };
    let bun_lock = inputs::stored_lock(&tree, &locked.plan.lockfile)?;
    let all = bun_lock.locked_packages(&locked.accepted())?;
    let selected = inputs::selected(&bun_lock, &locked.plan, &locked.accepted())?;
    for (package, digest) in &selected {
        if store.file(digest)?.is_none() {
            return Err(Error::new(Reason::NotFound, "a package is not in the store")
                .at(package.key.clone())
                .expected(digest.to_string())
                .found(format!("no tarball of {}", package.key)));
        }
    }
    let digest = record::digest(&all);
    Ok(Some(PackagesFact { all: all.len(), stored: selected.len(), digest }))
}

/// Runs the output in a sandbox to see its identity.
pub fn identity_shown(locked: &Locked, binary: &Path, launcher: &Launcher) -> Found<String> {
    let Some(output) = locked.output() else { return Found::Absent };
    let shown = output::identity(
        launcher,
        binary,
        output.sha256.digest(),
        &locked.lock.provider,
        &locked.lock.identity,
    );
    shown.map(|proof| proof.help_first_line).into()
}
