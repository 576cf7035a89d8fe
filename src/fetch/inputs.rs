//! Everything that one build needs: the source, then its packages and the toolchain side by side.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::Fetcher;
use super::archive::PACKAGE_BYTES;
use super::git::Source;
use super::installed::Local;
use super::packages::Tarball;
use super::within;
use crate::bun::lockfile::{BunLock, Package, Required, SourceKind};
use crate::bun::patch::Patch;
use crate::bun::select::Selection;
use crate::error::{Error, Reason, Result};
use crate::lock::Locked;
use crate::lock::plan::Plan;
use crate::record;
use crate::record::ids::{Algorithm, Digest, RelPath, Sri};
use crate::record::lockfile::{LockedPackage, Source as LockedSource};
use crate::store::{StoredFile, StoredTree};

/// A source's own lock is read up to this size; its parser refuses one long before.
const LOCK_BYTES: u64 = 64 << 20;

#[derive(Debug)]
pub struct Inputs {
    pub source: Source,
    pub bun: StoredFile,
    pub bun_lock: BunLock,
    /// Every package of the source's lock, for all platforms, sorted by key.
    pub packages: Vec<LockedPackage>,
    /// The packages of this platform, with the digest of each one's tarball.
    pub selected: Vec<(Package, Digest)>,
    /// The tarballs of this platform, by digest.
    pub tarballs: BTreeMap<Digest, Tarball>,
    /// Packages that are directories of the source.
    pub local: Vec<Local>,
    /// What the plan declares as downloads, in its order.
    pub downloads: Vec<StoredFile>,
    pub patches: BTreeMap<String, Patch>,
}

impl Inputs {
    /// Bytes of all tarballs unpacked, as gzip records it at each one's end (RFC 1952, ISIZE). An estimate: it is not
    /// checked, and nothing but the choice of memory or disk hangs on it.
    pub fn unpacked_size(&self) -> u64 {
        self.tarballs.values().map(|tarball| u64::from(tarball.unpacked())).sum()
    }

    pub fn required(&self) -> Vec<Required<'_>> {
        let all = self.selected.iter();
        all.map(|(package, digest)| Required { package, digest: digest.clone() }).collect()
    }
}

impl Fetcher<'_> {
    /// Fetches what the build of `locked` needs and compares it with everything that the lock records.
    ///
    /// # Errors
    /// Those of [`Fetcher::source`], [`Fetcher::bun`], [`Fetcher::packages`]; [`Reason::DigestMismatch`] where the
    /// package list is not the locked one; [`Reason::BadRecord`] for the source's own lock.
    pub fn inputs(&self, locked: &Locked) -> Result<Inputs> {
        let (lock, plan) = (&locked.lock, &locked.plan);
        // The source first: where it cannot be had, nothing else is downloaded and nothing is left behind.
        let source = self.source(&lock.source)?;
        let bun_lock = stored_lock(&source.files, &plan.lockfile)?;
        let project = plan.prefix();
        let tree = source.files.dir()?;
        let has = |path: &str| tree.symlink_metadata(path).is_ok_and(|meta| meta.is_file());
        bun_lock.check_origins(&project, &has)?;
        let accepted = self.commits(&bun_lock, locked.accepted())?;
        let packages = bun_lock.locked_packages(&accepted).map_err(|err| {
            let weak = bun_lock.weak(&accepted);
            let flags: Vec<String> =
                weak.iter().map(|one| format!("--integrity {}", one.key)).collect();
            match err.reason() {
                Reason::WeakIntegrity => err.hint(format!(
                    "or record what the registry has now: admit lock {} {}",
                    plan.provider,
                    flags.join(" ")
                )),
                _ => err,
            }
        })?;
        if let Some(expected) = &lock.dependencies.packages
            && *expected != packages
        {
            return Err(Error::new(
                Reason::DigestMismatch,
                "the source's packages are not the locked ones",
            )
            .at(plan.lockfile.to_string())
            .expected(record::digest(expected).to_string())
            .found(record::digest(&packages).to_string()));
        }
        let selected = selected(&bun_lock, plan, &accepted)?;
        let rows = selection(&bun_lock, plan)?.packages;
        no_links(plan, rows.values().copied())?;
        let local = within::directories(&source.files, &project, rows.values().copied())?;
        let mut patches = BTreeMap::new();
        for (package, _) in &selected {
            if let Some(path) = bun_lock.patch_of(package) {
                let patch = within::patch(&source.files, &project, path)?;
                patches.insert(package.key.clone(), patch);
            }
        }
        self.tarballs_of_the_source(&source, plan, &selected)?;
        let downloads =
            plan.downloads.iter().map(|one| self.declared(&one.url, Some(&one.integrity.0)));
        let downloads = downloads.collect::<Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            // The toolchain is the largest download: beside the packages, not before them.
            let bun = scope.spawn(|| self.bun(plan.bun()?, &plan.bun_version));
            let tarballs = self.packages(&selected);
            let bun = bun
                .join()
                .map_err(|_| Error::new(Reason::Internal, "the toolchain's thread ended badly"))?;
            let (tarballs, bun) = (tarballs?.files, bun?);
            Ok(Inputs {
                source,
                bun,
                bun_lock,
                packages,
                selected,
                tarballs,
                local,
                patches,
                downloads,
            })
        })
    }

    /// The integrities of `wanted` packages of the source's lock at `path`; one that is not given is that of the file as it
    /// is now, by SHA-512.
    ///
    /// # Errors
    /// [`Reason::NotFound`] where the lock has no such package or binds it itself; those of a source and of a download.
    pub fn integrities(
        &self,
        source: &LockedSource,
        path: &RelPath,
        wanted: Vec<(String, Option<Sri>)>,
    ) -> Result<BTreeMap<String, Sri>> {
        let source = self.source(source)?;
        let lock = stored_lock(&source.files, path)?;
        let project = path.as_str().strip_suffix(path.file_name()).unwrap_or_default();
        let mut out = BTreeMap::new();
        for (key, given) in wanted {
            let weak = lock.weak(&BTreeMap::new());
            let Some(package) = weak.iter().find(|one| one.key == key) else {
                let names: Vec<&str> = weak.iter().map(|one| one.key.as_str()).collect();
                return Err(Error::new(
                    Reason::NotFound,
                    "the source's lock has no such package without an integrity",
                )
                .at("--integrity")
                .expected(if names.is_empty() {
                    "none: every package has one".to_owned()
                } else {
                    names.join(", ")
                })
                .found(key));
            };
            let integrity = match given {
                Some(integrity) => integrity,
                None => {
                    let own =
                        package.kind == SourceKind::Tarball && !is_address(&package.resolution);
                    let file = match own {
                        true => self.tarball_of_the_source(&source, project, package, None)?,
                        false => self.as_it_is(package)?,
                    };
                    Sri(file.digest().clone())
                }
            };
            out.insert(key, integrity);
        }
        Ok(out)
    }

    /// What the lock records of integrities, and for each commit that it has none for that of its files: they are
    /// fetched for it.
    fn commits(
        &self,
        lock: &BunLock,
        mut accepted: BTreeMap<String, Sri>,
    ) -> Result<BTreeMap<String, Sri>> {
        for package in lock.packages.values().filter(|one| one.kind == SourceKind::Git) {
            let Some((url, commit)) = package.commit() else { continue };
            if accepted.contains_key(&package.key) {
                continue;
            }
            self.progress
                .stage("fetch", &format!("{} {} from {url}", package.name, commit.short()));
            let file = self.commit(&url, &commit).map_err(|err| {
                err.wanted_for(format!("the package {} ({})", package.name, package.place))
            })?;
            accepted.insert(package.key.clone(), Sri(file.digest().clone()));
        }
        Ok(accepted)
    }
}

/// # Errors
/// [`Reason::PackageKind`] where a package is a link and Bun cannot make it.
fn no_links<'a>(plan: &Plan, mut rows: impl Iterator<Item = &'a Package>) -> Result<()> {
    let old = plan.bun_version.starts_with("1.3.");
    let Some(package) = rows.find(|package| old && package.kind == SourceKind::Link) else {
        return Ok(());
    };
    let what = format!("Bun 1.3 makes no link for the package \"{}\"", package.key);
    Err(Error::new(Reason::PackageKind, what)
        .at(package.place.clone())
        .expected("Bun 1.4 or later, or file:")
        .found(format!("{} and Bun {}", package.resolution, plan.bun_version))
        .hint(format!("admit lock {} --bun 1.4.4", plan.provider)))
}

impl Fetcher<'_> {
    /// Puts the tarballs that lie in the source itself into the store, where they are found like those that are fetched.
    fn tarballs_of_the_source(
        &self,
        source: &Source,
        plan: &Plan,
        selected: &[(Package, Digest)],
    ) -> Result<()> {
        for (package, digest) in selected.iter().filter(|(one, _)| one.kind == SourceKind::Tarball)
        {
            if !plan.bun_version.starts_with("1.3.") {
                return Err(Error::new(
                    Reason::PackageKind,
                    "admit installs packages that are tarballs with Bun 1.3 alone",
                )
                .at(package.place.clone())
                .expected("Bun 1.3")
                .found(format!("Bun {}", plan.bun_version))
                .hint(format!(
                    "admit lock {} --bun 1.3.14, or depend on a published version",
                    plan.provider
                )));
            }
            if is_address(&package.resolution) {
                continue;
            }
            let project = plan.prefix();
            self.tarball_of_the_source(source, &project, package, Some(digest))?;
        }
        Ok(())
    }

    fn tarball_of_the_source(
        &self,
        source: &Source,
        project: &str,
        package: &Package,
        digest: Option<&Digest>,
    ) -> Result<StoredFile> {
        let path = package.resolution.strip_prefix("./").unwrap_or(&package.resolution);
        let path: RelPath = path.parse().map_err(|err| {
            Error::new(Reason::PackageKind, "a tarball that does not lie in the project")
                .at(package.place.clone())
                .found(package.resolution.clone())
                .caused_by(err)
        })?;
        let path = format!("{project}{path}");
        let io = |err| Error::io("read the tarball of the source", &path, err);
        let mut file = source.files.dir()?.open(&path).map_err(io)?.take(PACKAGE_BYTES);
        let algorithm = digest.map_or(Algorithm::Sha512, Digest::algorithm);
        let mut writer = self.store.writer_with(&[algorithm])?;
        std::io::copy(&mut file, &mut writer).map_err(io)?;
        writer.finish_as(digest, algorithm).map_err(|err| err.at(path.clone()))
    }
}

fn is_address(resolution: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| resolution.starts_with(scheme))
}

/// The source's own lock at `path`.
///
/// # Errors
/// [`Reason::BadRecord`] where there is none, it is too large or it is no such lock; [`Reason::Io`] where it cannot be read.
pub fn stored_lock(source: &StoredTree, path: &RelPath) -> Result<BunLock> {
    let path = path.as_str();
    let missing = |err: std::io::Error| {
        Error::new(Reason::BadRecord, "the source has no such lock")
            .at(path.to_owned())
            .caused_by(err)
    };
    let file = source.dir()?.open(path).map_err(missing)?;
    let mut bytes = Vec::new();
    file.take(LOCK_BYTES).read_to_end(&mut bytes).map_err(|err| Error::io("read", path, err))?;
    BunLock::parse(&bytes, path)
}

/// The packages of the plan's platform, each with the digest of its tarball.
///
/// # Errors
/// [`Reason::WeakIntegrity`] and [`Reason::PackageKind`], naming the row.
pub fn selected(
    bun_lock: &BunLock,
    plan: &Plan,
    accepted: &BTreeMap<String, Sri>,
) -> Result<Vec<(Package, Digest)>> {
    let packages = selection(bun_lock, plan)?.packages;
    let required = bun_lock.require_strong(packages.values().copied(), accepted)?;
    Ok(required.into_iter().map(|required| (required.package.clone(), required.digest)).collect())
}

/// The rows of the plan's platform, and who needs whom.
///
/// # Errors
/// [`Reason::BadRecord`] where a name that is needed has no row.
pub fn selection<'a>(bun_lock: &'a BunLock, plan: &Plan) -> Result<Selection<'a>> {
    // Bun 1.3 does not look at the C library (bun.md, section A); the pinned version decides.
    let (os, cpu, libc) = plan.platform.npm();
    let libc = libc.filter(|_| !plan.bun_version.starts_with("1.3."));
    bun_lock.for_platform(os, cpu, libc)
}
