//! Packages: every tarball that the source's lock names for this platform, fetched in parallel, checked while it
//! streams.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Fetcher;
use super::archive::PACKAGE_BYTES;
use super::mirror::local_path;
use super::parallel::each;
use crate::bun::lockfile::{Package, SourceKind};
use crate::download::client::{HttpRequest, OnBytes};
use crate::error::{Error, Reason, Result};
use crate::host;
use crate::record::ids::{Algorithm, Digest};
use crate::store::{Store, StoredFile};

/// Downloads at a time. Bun uses up to 64 connections and is no faster with them: small-file writes are its limit.
const CONNECTIONS: usize = 16;

/// Where a download of a release is sent on to. The digest decides what is taken.
const RELEASE_HOSTS: [&str; 3] = [
    "objects.githubusercontent.com",
    "release-assets.githubusercontent.com",
    "codeload.github.com",
];

/// A verified tarball of the store. Where there are more of them than files that this process may open, it is closed
/// again, and verified anew when it is read.
#[derive(Debug)]
pub struct Tarball {
    digest: Digest,
    size: u64,
    /// Bytes unpacked, as gzip records them at the end (RFC 1952, ISIZE).
    unpacked: u32,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Open(StoredFile),
    In(Store),
}

impl Tarball {
    pub fn open(file: StoredFile) -> Result<Self> {
        let mut unpacked = [0; 4];
        let io = |err| Error::io("read", "a tarball", err);
        if let Some(end) = file.size().checked_sub(4) {
            file.shared().read_exact_at(&mut unpacked, end).map_err(io)?;
        }
        let unpacked = u32::from_le_bytes(unpacked);
        let (digest, size) = (file.digest().clone(), file.size());
        Ok(Self { digest, size, unpacked, kept: Kept::Open(file) })
    }

    fn close(self, store: &Store) -> Self {
        Self { kept: Kept::In(store.clone()), ..self }
    }

    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn unpacked(&self) -> u32 {
        self.unpacked
    }

    /// Lets `read` have the very file that was verified.
    ///
    /// # Errors
    /// Those of `read`; [`Reason::StoreCorrupt`] where the file is no longer what it was.
    pub fn read<T>(&self, read: impl FnOnce(&File) -> Result<T>) -> Result<T> {
        match &self.kept {
            Kept::Open(file) => read(file.shared()),
            Kept::In(store) => match store.file(&self.digest)? {
                Some(file) => read(file.shared()),
                None => {
                    Err(Error::new(Reason::StoreCorrupt, "a tarball is no longer in the store")
                        .at(self.digest.to_string()))
                }
            },
        }
    }
}

#[derive(Debug)]
pub struct Packages {
    /// Every wanted tarball, just verified.
    pub files: BTreeMap<Digest, Tarball>,
    /// Tarballs that were not in the store.
    pub downloaded: u64,
    /// Bytes received for them.
    pub bytes: u64,
}

impl Fetcher<'_> {
    /// Brings the tarballs of all `wanted` packages into the store, each with what its bytes must hash to. One that is there
    /// is verified and not fetched again; one that is wanted twice is fetched once. The first fault ends the rest.
    ///
    /// # Errors
    /// [`Reason::DigestMismatch`] with the package's name, those of [`crate::download::client::Client::fetch`],
    /// [`Reason::GnuGzipMissing`], those of the store.
    pub fn packages(&self, wanted: &[(Package, Digest)]) -> Result<Packages> {
        let mut unique: BTreeMap<&Digest, &Package> = BTreeMap::new();
        for (package, integrity) in wanted {
            unique.entry(integrity).or_insert(package);
        }
        let jobs: Vec<(&Digest, &Package)> = unique.into_iter().collect();
        // A build opens other files too.
        let keep = host::open_files().is_none_or(|most| jobs.len() as u64 <= most / 2);
        self.progress.stage("fetch", &format!("{} packages", jobs.len()));
        let (total, downloaded) = (AtomicU64::new(0), AtomicU64::new(0));
        let files = each(
            CONNECTIONS,
            &jobs,
            || Ok(()),
            |(integrity, package)| {
                let file = Tarball::open(self.package(package, integrity, &total, &downloaded)?)?;
                Ok(if keep { file } else { file.close(self.store) })
            },
        )?;
        let files = jobs.iter().map(|(integrity, _)| (*integrity).clone()).zip(files).collect();
        Ok(Packages { files, downloaded: downloaded.into_inner(), bytes: total.into_inner() })
    }

    fn package(
        &self,
        package: &Package,
        integrity: &Digest,
        total: &AtomicU64,
        downloaded: &AtomicU64,
    ) -> Result<StoredFile> {
        if let Some(file) = self.store.file(integrity)? {
            return Ok(file);
        }
        // An attempt that failed counts its bytes: they were received.
        let last = AtomicU64::new(0);
        let on_bytes = |done: u64, _: Option<u64>| {
            let before = last.swap(done, Ordering::Relaxed);
            let sum = total.fetch_add(done.saturating_sub(before), Ordering::Relaxed);
            self.progress.bytes(sum + done.saturating_sub(before), None);
        };
        let file = self.of(package, Some(integrity), &on_bytes);
        downloaded.fetch_add(1, Ordering::Relaxed);
        file
    }

    /// A package's file as it is now, by SHA-512.
    pub(super) fn as_it_is(&self, package: &Package) -> Result<StoredFile> {
        self.progress.stage("fetch", &format!("{} {}", package.name, package.resolution));
        let on_bytes = |done: u64, of: Option<u64>| self.progress.bytes(done, of);
        self.of(package, None, &on_bytes)
    }

    fn of(
        &self,
        package: &Package,
        integrity: Option<&Digest>,
        on_bytes: OnBytes<'_>,
    ) -> Result<StoredFile> {
        let Package { name, resolution, .. } = package;
        let at = |url: &str| self.download(url, integrity, PACKAGE_BYTES, on_bytes);
        let file = match (&package.kind, package.commit(), &package.registry_url) {
            (SourceKind::Github { .. }, ..) => self.github(package, integrity, on_bytes),
            (SourceKind::Git, Some((url, commit)), _) => {
                self.commit(&url, &commit).and_then(|file| match integrity {
                    Some(integrity) if file.digest() != integrity => Err(Error::new(
                        Reason::DigestMismatch,
                        "the commit has other files than the lock records",
                    )
                    .at(format!("{url} at {commit}"))
                    .expected(integrity.to_string())
                    .found(file.digest().to_string())),
                    _ => Ok(file),
                })
            }
            // A commit that is none was refused before; no registry has it.
            (SourceKind::Git | SourceKind::Tarball, ..) => at(resolution),
            (_, _, Some(url)) => at(url),
            _ => at(&self.npm.tarball_url(name, resolution)?),
        };
        file.map_err(|err| err.wanted_for(format!("the package {name} {resolution}")))
    }

    /// A file that a lock declares. Without a digest it will have the one that it has, by SHA-256.
    ///
    /// # Errors
    /// Those of [`Client::fetch`](crate::download::client::Client::fetch) and of the store; [`Reason::DigestMismatch`].
    pub fn declared(&self, url: &str, integrity: Option<&Digest>) -> Result<StoredFile> {
        if let Some(file) = integrity.map(|digest| self.store.file(digest)).transpose()?.flatten() {
            return Ok(file);
        }
        self.progress.stage("fetch", url);
        let place = self.mirrors.apply(url);
        let algorithm = [integrity.map_or(Algorithm::Sha256, Digest::algorithm)];
        let writer = if let Some(path) = local_path(&place)? {
            let io = |err| Error::io("read the download", &path, err);
            let mut file = File::open(&path).map_err(io)?;
            let mut writer = self.store.writer_with(&algorithm)?;
            std::io::copy(&mut std::io::Read::take(&mut file, PACKAGE_BYTES), &mut writer)
                .map_err(io)?;
            writer
        } else {
            let mut request = HttpRequest::get(&place, PACKAGE_BYTES).told(self.progress);
            request.redirect_hosts = &RELEASE_HOSTS;
            let on_bytes = |done: u64, of: Option<u64>| self.progress.bytes(done, of);
            self.client.fetch(&request, || self.store.writer_with(&algorithm), &on_bytes)?
        };
        writer.finish_as(integrity, Algorithm::Sha256).map_err(|err| {
            err.at(url.to_owned()).hint("the lock's digest is of another file: where the new one is meant, --download takes it")
        })
    }

    /// A file from a registry or its mirror, checked while it streams; without an integrity it has the one that it has.
    pub(super) fn download(
        &self,
        url: &str,
        integrity: Option<&Digest>,
        max_bytes: u64,
        on_bytes: OnBytes<'_>,
    ) -> Result<StoredFile> {
        let place = self.mirrors.apply(url);
        let mut request = HttpRequest::get(&place, max_bytes).told(self.progress);
        request.authorization = self.npm.authorization(&place);
        let algorithm = [integrity.map_or(Algorithm::Sha512, Digest::algorithm)];
        let writer =
            self.client.fetch(&request, || self.store.writer_with(&algorithm), on_bytes)?;
        writer.finish_as(integrity, Algorithm::Sha512).map_err(|err| match err.reason() {
            Reason::DigestMismatch => Error::new(Reason::DigestMismatch, "the download has another digest")
                .at(place.clone())
                .expected(err.expected_value().unwrap_or_default())
                .found(err.found_value().unwrap_or_default())
                .hint("the registry serves another file than the lock records, or it was changed on the way"),
            _ => err,
        })
    }
}
