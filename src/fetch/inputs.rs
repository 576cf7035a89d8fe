//! Everything that one build needs: the source, then its packages and the toolchain side by side.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::Fetcher;
use super::archive::PACKAGE_BYTES;
use super::git::{self, Source};
use super::github::Hosted;
use super::packages::{Origin, Tarball, Wanted};
use super::toolchain::Bun;
use crate::bun::lockfile::{Kind, Lockfile as BunLock, Package, Required};
use crate::bun::select::Selection;
use crate::error::{Error, Reason, Result};
use crate::lock::Locked;
use crate::lock::plan::Plan;
use crate::record;
use crate::record::ids::{Digest, RelPath};
use crate::record::lockfile::LockedPackage;
use crate::store::StoredFile;

/// A source's own lock is read up to this size.
const LOCK_BYTES: u64 = 64 << 20;

/// The verified inputs of one build.
#[derive(Debug)]
pub struct Inputs {
    pub source: Source,
    pub bun: StoredFile,
    /// The source's own lock.
    pub bun_lock: BunLock,
    /// Every package of the source's lock, for all platforms, sorted by key.
    pub packages: Vec<LockedPackage>,
    /// The packages of this platform, with the digest of each one's tarball.
    pub selected: Vec<(Package, Digest)>,
    /// The tarballs of this platform, by digest.
    pub tarballs: BTreeMap<Digest, Tarball>,
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
        let source = self.source(&git::Locked {
            url: &lock.source.url,
            rev: &lock.source.rev,
            tree: lock.source.tree.as_ref(),
            nar_hash: lock.source.nar_hash.as_ref().map(|sri| &sri.0),
        })?;
        let bun_lock = read_lock(&source, plan)?;
        let packages = locked_packages(&bun_lock, locked)?;
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
        let selected = select(&bun_lock, locked)?;
        self.tarballs_of_the_source(&source, plan, &selected)?;
        let wanted: Vec<Wanted> =
            selected.iter().map(|(package, digest)| wanted(package, digest)).collect();
        std::thread::scope(|scope| {
            // The toolchain is the largest download: beside the packages, not before them.
            let bun = scope.spawn(|| self.bun(&Bun::of(plan)?));
            let tarballs = self.packages(&wanted);
            let bun = bun
                .join()
                .map_err(|_| Error::new(Reason::Internal, "the toolchain's thread ended badly"))?;
            let (tarballs, (bun, _)) = (tarballs?.files, bun?);
            Ok(Inputs { source, bun, bun_lock, packages, selected, tarballs })
        })
    }
}

impl Fetcher<'_> {
    /// Puts the tarballs that lie in the source itself into the store, where they are found like those that are fetched.
    fn tarballs_of_the_source(
        &self,
        source: &Source,
        plan: &Plan,
        selected: &[(Package, Digest)],
    ) -> Result<()> {
        for (package, digest) in selected.iter().filter(|(one, _)| one.kind == Kind::Tarball) {
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
            let path = package.resolution.strip_prefix("./").unwrap_or(&package.resolution);
            let path: RelPath = path.parse().map_err(|err| {
                Error::new(Reason::PackageKind, "a tarball that does not lie in the project")
                    .at(package.place.clone())
                    .found(package.resolution.clone())
                    .caused_by(err)
            })?;
            let path =
                plan.project().map_or_else(|| path.to_string(), |dir| format!("{dir}/{path}"));
            let io = |err| Error::io("read the tarball of the source", &path, err);
            let mut file = source.files.dir()?.open(&path).map_err(io)?.take(PACKAGE_BYTES);
            let mut writer = self.store.writer_with(&[digest.algorithm()])?;
            std::io::copy(&mut file, &mut writer).map_err(io)?;
            writer.finish(digest).map_err(|err| err.at(path.clone()))?;
        }
        Ok(())
    }
}

fn is_address(resolution: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| resolution.starts_with(scheme))
}

/// The source's own lock, from the verified tree.
fn read_lock(source: &Source, plan: &Plan) -> Result<BunLock> {
    let path = plan.lockfile.as_str();
    let missing = |err: std::io::Error| {
        Error::new(Reason::BadRecord, "the source has no such lock")
            .at(path.to_owned())
            .caused_by(err)
    };
    let file = source.files.dir()?.open(path).map_err(missing)?;
    let mut bytes = Vec::new();
    file.take(LOCK_BYTES).read_to_end(&mut bytes).map_err(|err| Error::io("read", path, err))?;
    BunLock::parse(&bytes, path)
}

/// The packages of the plan's platform, each with the digest of its tarball.
///
/// # Errors
/// As [`locked_packages`].
pub fn select(bun_lock: &BunLock, locked: &Locked) -> Result<Vec<(Package, Digest)>> {
    let packages = selection(bun_lock, &locked.plan)?.packages;
    let required = bun_lock.require_strong(packages.values().copied(), &locked.accepted())?;
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

/// Every fetched package of every platform, sorted by key.
///
/// # Errors
/// [`Reason::WeakIntegrity`] and [`Reason::PackageKind`], naming the row.
pub fn locked_packages(bun_lock: &BunLock, locked: &Locked) -> Result<Vec<LockedPackage>> {
    bun_lock.locked_packages(&locked.accepted())
}

/// What to fetch for a package whose tarball must have this digest.
pub fn wanted(package: &Package, integrity: &Digest) -> Wanted {
    let origin = match (&package.kind, &package.registry_url) {
        (Kind::Github { owner, repo, reference }, _) => Origin::Github(Hosted {
            owner: owner.clone(),
            repository: repo.clone(),
            reference: reference.clone(),
            tag: package.bun_tag.clone().unwrap_or_default(),
        }),
        (Kind::Tarball, _) => Origin::Url(package.resolution.clone()),
        (_, Some(url)) => Origin::Url(url.clone()),
        _ => Origin::Registry,
    };
    Wanted {
        name: package.name.clone(),
        version: package.resolution.clone(),
        origin,
        integrity: integrity.clone(),
    }
}
