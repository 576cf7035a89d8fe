//! Everything that one build needs: the source, then its packages and the toolchain side by side.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};

use super::Fetcher;
use super::git::{self, Source};
use super::github::Hosted;
use super::packages::{Origin, Wanted};
use super::toolchain::Bun;
use crate::bun::lockfile::{Kind, Lockfile as BunLock, Package, Required};
use crate::bun::select::Selection;
use crate::error::{Error, Reason, Result};
use crate::lock::Locked;
use crate::lock::plan::Plan;
use crate::record;
use crate::record::ids::Digest;
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
    pub tarballs: BTreeMap<Digest, StoredFile>,
}

impl Inputs {
    /// Bytes of all tarballs unpacked, as gzip records it at each one's end (RFC 1952, ISIZE). An estimate: it is not
    /// checked, and nothing but the choice of memory or disk hangs on it.
    pub fn unpacked_size(&mut self) -> Result<u64> {
        let mut total = 0;
        for file in self.tarballs.values_mut() {
            let io = |err| Error::io("read", "a tarball", err);
            let mut size = [0; 4];
            file.file().seek(SeekFrom::End(-4)).map_err(io)?;
            file.file().read_exact(&mut size).map_err(io)?;
            file.file().rewind().map_err(io)?;
            total += u64::from(u32::from_le_bytes(size));
        }
        Ok(total)
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
        let wanted: Vec<Wanted> =
            selected.iter().map(|(package, digest)| wanted(package, digest)).collect();
        std::thread::scope(|scope| {
            // The toolchain is the largest download: beside the packages, not before them.
            let bun = scope.spawn(|| self.bun(&Bun::of(plan)));
            let tarballs = self.packages(&wanted);
            let bun = bun
                .join()
                .map_err(|_| Error::new(Reason::Internal, "the toolchain's thread ended badly"))?;
            let (tarballs, (bun, _)) = (tarballs?.files, bun?);
            Ok(Inputs { source, bun, bun_lock, packages, selected, tarballs })
        })
    }
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
