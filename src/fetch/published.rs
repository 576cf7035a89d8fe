//! A package that somebody published with an executable in it: its tarball by integrity, and one file out of it. No
//! script of it runs.

use std::io::Read;

use super::Fetcher;
use super::archive::{self, ArchiveLimits, PACKAGE_BYTES, Top};
use crate::error::{Error, Reason, Result};
use crate::record::ids::{Algorithm, RelPath, Sri};
use crate::record::lockfile::PublishedFile;
use crate::store::sink::Sink;
use crate::store::{Pending, Store, StoredFile};

/// Most paths that an error lists.
const LISTED: usize = 12;

impl Fetcher<'_> {
    /// The tarball of a package, out of the store or from the registry.
    ///
    /// # Errors
    /// [`Reason::DigestMismatch`], those of [`crate::download::client::Client::fetch`] and of the store.
    pub fn published_tarball(
        &self,
        package: &str,
        version: &str,
        integrity: &Sri,
    ) -> Result<StoredFile> {
        if let Some(tarball) = self.store.file(&integrity.0)? {
            return Ok(tarball);
        }
        let url = self.npm.tarball_url(package, version)?;
        self.progress.stage("fetch", &format!("{package} {version}"));
        let on_bytes = |done, total| self.progress.bytes(done, total);
        self.download(&url, Some(&integrity.0), PACKAGE_BYTES, &on_bytes)
    }

    /// The locked file of a package, beside the store.
    ///
    /// # Errors
    /// As [`Fetcher::published_tarball`]; [`Reason::HostileArchive`]; [`Reason::OutputMissing`] where the tarball has no
    /// such file.
    pub fn published(&self, file: &PublishedFile) -> Result<Pending> {
        let mut tarball = self.published_tarball(&file.package, &file.version, &file.integrity)?;
        let mut sink =
            Taken { store: self.store, path: &file.path, taken: None, programs: Vec::new() };
        unpack(&mut tarball, &file.package, &mut sink)?;
        sink.taken.ok_or_else(|| {
            let programs = listed(&sink.programs);
            Error::new(Reason::OutputMissing, "the package has no such file")
                .at(format!("{}@{}", file.package, file.version))
                .expected(file.path.to_string())
                .found(programs)
                .hint("make the lock again with another --path: admit lock --help")
        })
    }

    /// The one program of a package.
    ///
    /// # Errors
    /// [`Reason::OutputMissing`] where there is none, [`Reason::BadArgument`] where there are several.
    pub fn only_program(&self, package: &str, tarball: &mut StoredFile) -> Result<RelPath> {
        let mut sink = Programs::default();
        unpack(tarball, package, &mut sink)?;
        match sink.0.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(Error::new(Reason::OutputMissing, "the package has no program in it")
                .at(package.to_owned())
                .expected("an ELF executable")
                .found("none")
                .hint("such a package names one package a platform (optionalDependencies): lock that one")),
            several => Err(Error::new(Reason::BadArgument, "the package has several programs")
                .at(package.to_owned())
                .expected("--path PATH")
                .found(listed(several))),
        }
    }
}

pub(crate) fn unpack(tarball: &mut StoredFile, place: &str, sink: &mut dyn Sink) -> Result<u64> {
    let size = tarball.size();
    archive::unpack(tarball.file(), size, Top::Any, ArchiveLimits::default(), place, sink)
}

fn listed(paths: &[RelPath]) -> String {
    let mut out: Vec<&str> = paths.iter().take(LISTED).map(RelPath::as_str).collect();
    if paths.len() > LISTED {
        out.push("…");
    }
    if out.is_empty() { "no program at all".to_owned() } else { out.join(", ") }
}

const ELF: &[u8] = b"\x7fELF";

/// Lists programs: files that begin as ELF does and are no shared library by name.
#[derive(Default)]
struct Programs(Vec<RelPath>);

impl Sink for Programs {
    fn file(&mut self, path: &RelPath, _: u32, _: u64, data: &mut dyn Read) -> Result<()> {
        let mut head = Vec::new();
        let io = |err| Error::io("read", path.as_str(), err);
        let library = path.as_str().ends_with(".so") || path.as_str().ends_with(".node");
        data.take(ELF.len() as u64).read_to_end(&mut head).map_err(io)?;
        if head == ELF && !library {
            self.0.push(path.clone());
        }
        Ok(())
    }
}

/// Takes one file, and lists the programs.
struct Taken<'a> {
    store: &'a Store,
    path: &'a RelPath,
    taken: Option<Pending>,
    programs: Vec<RelPath>,
}

impl Sink for Taken<'_> {
    fn file(&mut self, path: &RelPath, mode: u32, size: u64, data: &mut dyn Read) -> Result<()> {
        if path != self.path {
            let mut programs = Programs::default();
            programs.file(path, mode, size, data)?;
            self.programs.extend(programs.0);
            return Ok(());
        }
        let mut writer = self.store.writer_with(&[Algorithm::Sha256, Algorithm::Blake3])?;
        writer.append_member(path.as_str(), data)?;
        self.taken = Some(writer.pend(Algorithm::Sha256)?);
        Ok(())
    }
}
