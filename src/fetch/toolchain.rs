//! The toolchain: Bun from the npm package of one platform. Never a global install, never a `bun` from `PATH`.

use std::io::Read;

use super::Fetcher;
use super::archive::PACKAGE_BYTES;
use super::published::unpack;
use crate::error::{Error, Reason, Result};
use crate::record::ids::{Algorithm, Digest, RelPath};
use crate::record::lockfile::BunPackage;
use crate::store::sink::Sink;
use crate::store::{Store, StoredFile};

/// The program's place in the tarball, below the stripped top directory.
const PROGRAM: &str = "bin/bun";

impl Fetcher<'_> {
    /// Brings the program of a pinned Bun into the store and gives the verified file. Its mode there is 0444: who runs it
    /// makes an executable copy.
    ///
    /// # Errors
    /// [`Reason::DigestMismatch`] where the tarball or the program is not the locked one, [`Reason::HostileArchive`],
    /// those of [`crate::download::client::Client::fetch`] and of the store.
    pub fn bun(&self, pin: &BunPackage, version: &str) -> Result<StoredFile> {
        let (want, integrity) = (pin.binary_sha256.digest(), &pin.integrity.0);
        if let Some(program) = self.store.file(want)? {
            return Ok(program);
        }
        self.progress.stage("fetch", &format!("Bun {version} ({})", pin.package));
        let url = self.npm.tarball_url(&pin.package, version)?;
        let mut tarball = match self.store.file(integrity)? {
            Some(tarball) => tarball,
            None => {
                let on_bytes = |done, total| self.progress.bytes(done, total);
                self.download(&url, Some(integrity), PACKAGE_BYTES, &on_bytes)?
            }
        };
        let mut sink = ProgramSink { store: self.store, want, program: None };
        unpack(&mut tarball, &url, &mut sink)?;
        sink.program.ok_or_else(|| {
            Error::new(Reason::HostileArchive, "the package holds no Bun")
                .at(url)
                .expected(PROGRAM)
                .found("no such file")
        })
    }
}

struct ProgramSink<'a> {
    store: &'a Store,
    want: &'a Digest,
    program: Option<StoredFile>,
}

impl Sink for ProgramSink<'_> {
    fn file(&mut self, path: &RelPath, _: u32, _: u64, data: &mut dyn Read) -> Result<()> {
        if path.as_str() != PROGRAM {
            return Ok(());
        }
        let mut writer = self.store.writer_with(&[Algorithm::Sha256])?;
        writer.append_member(path.as_str(), data)?;
        let program = writer
            .finish(self.want)
            .map_err(|err| err.at(format!("{PROGRAM} in the Bun package")))?;
        self.program = Some(program);
        Ok(())
    }
}
