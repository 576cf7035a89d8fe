//! The package cache of one build and the tree that Bun installs from it.
//!
//! Bun checks nothing that is already in its cache, so the cache is made anew for every build from verified tarballs,
//! and its exit code is not enough, so the installed tree is compared with what must be there (bun.md, section B).

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use cap_std::fs::Dir;

use super::left;
use super::room::Room;
use crate::bun::exe::Executable;
use crate::bun::inject::prove_runtime_while;
use crate::bun::lockfile::{Lockfile, Package, Required};
use crate::error::{Error, Reason, Result};
use crate::fetch::installed;
use crate::fetch::seed::{self, Seeded};
use crate::record::ids::{AbsPath, Digest, RelPath};
use crate::record::report::Runtime;
use crate::sandbox::{Mapped, Owner};
use crate::store::StoredFile;

/// The packages of one platform with their verified tarballs.
#[derive(Debug)]
pub struct Packages {
    /// The source's own lock.
    pub lock: Lockfile,
    /// Each package with the digest of its tarball.
    pub selected: Vec<(Package, Digest)>,
    pub tarballs: BTreeMap<Digest, StoredFile>,
}

impl Packages {
    /// Bytes of all tarballs unpacked, as gzip records it at each one's end (RFC 1952, ISIZE). An estimate: nobody
    /// checks it, and nothing but the choice of memory or disk hangs on it.
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

    /// Unpacks every tarball into the cache at `below`.
    pub fn seed(&self, dir: &Dir, below: &str, owner: Owner) -> Result<Seeded> {
        let root = dir.open_dir(below).map_err(|err| Error::io("open", below, err))?;
        seed::seed(&root, below, Some(owner), &self.required(), &self.tarballs)
    }

    /// Compares the installed tree with what must be there.
    pub fn check(&self, dir: &Dir, source: &str, seeded: &Seeded) -> Result<()> {
        let root = left::directory(dir, source).map_err(|err| Error::io("open", source, err))?;
        installed::require_equal(&root, source, &self.lock, &self.required(), seeded)
    }

    fn required(&self) -> Vec<Required<'_>> {
        let all = self.selected.iter();
        all.map(|(package, digest)| Required { package, digest: digest.clone() }).collect()
    }

    /// The lifecycle scripts that the lock names, as commands in the order in which npm runs them.
    ///
    /// # Errors
    /// [`Reason::InstallMismatch`] where a named package is not installed.
    pub fn scripts(
        &self,
        names: &[String],
        dir: &Dir,
        room: &Room,
    ) -> Result<Vec<(Vec<String>, AbsPath)>> {
        let mut commands = Vec::new();
        for name in names {
            let below: RelPath = format!("node_modules/{name}").parse().map_err(|err| {
                Error::new(Reason::HostileLock, "build.scripts names no package")
                    .found(name.clone())
                    .caused_by(err)
            })?;
            let manifest = format!("{}/{below}/package.json", room.source_below);
            let missing = |what: &str| {
                Error::new(
                    Reason::InstallMismatch,
                    format!("build.scripts names a package that {what}"),
                )
                .at(name.clone())
            };
            let mut text = Vec::new();
            let file = left::file(dir, &manifest)
                .map_err(|err| missing("is not installed").caused_by(err))?;
            file.take(1 << 20)
                .read_to_end(&mut text)
                .map_err(|err| Error::io("read", &manifest, err))?;
            let parsed: serde_json::Value = serde_json::from_slice(&text)
                .map_err(|err| missing("has no readable package.json").caused_by(err))?;
            let cwd = room.source.join(&below);
            for script in ["preinstall", "install", "postinstall"] {
                if parsed["scripts"][script].is_string() {
                    commands
                        .push((["bun", "run", script].map(str::to_owned).to_vec(), cwd.clone()));
                }
            }
        }
        Ok(commands)
    }
}

/// Proves that the output is the pinned Bun with a module graph injected, byte for byte, and reads the graph.
///
/// # Errors
/// [`Reason::RuntimeMismatch`] with the first difference; [`Reason::BadExecutable`].
pub fn runtime(bun: &mut StoredFile, output: &mut StoredFile) -> Result<Runtime> {
    let io = |err| Error::io("map", "a file of the store", err);
    let (base, compiled) =
        (Mapped::new(bun.file()).map_err(io)?, Mapped::new(output.file()).map_err(io)?);
    let mut release = || {
        base.release();
        compiled.release();
    };
    prove_runtime_while(base.bytes(), compiled.bytes(), &mut release)
        .map_err(|mismatch| mismatch.into_error())?;
    let executable = Executable::read_on(base.bytes(), compiled.bytes())?;
    if executable.graph.unexplained > 0 {
        return Err(Error::new(
            Reason::RuntimeMismatch,
            "the output's payload holds bytes that belong to no module",
        )
        .expected("0 bytes")
        .found(format!("{} bytes", executable.graph.unexplained)));
    }
    Ok(Runtime { proven: true, ..executable.runtime(None) })
}
