//! What a source itself brings to an install: its directories that are packages (`file:`), and the patches of others.

use std::io::Read as _;

use cap_std::fs::{Dir, PermissionsExt as _};

use super::installed::{Local, Seeded};
use super::seed::digests;
use crate::bun::cache;
use crate::bun::lockfile::{Package, SourceKind};
use crate::bun::origin::join;
use crate::bun::patch::{self, Files, Patch};
use crate::bun::tree::File;
use crate::error::{Error, Reason, Result};
use crate::store::StoredTree;

/// Levels of directories that are listed.
const DEPTH: usize = 64;

/// The directories of `source` that `packages` are, as an install copies them. `project` is the directory of the lock,
/// `""` or ending in `/`.
///
/// # Errors
/// [`Reason::PackageKind`] for a directory with installed packages in it, of which versions of Bun make different things;
/// [`Reason::Io`].
pub fn directories<'a>(
    source: &StoredTree,
    project: &str,
    packages: impl IntoIterator<Item = &'a Package>,
) -> Result<Vec<Local>> {
    let tree = source.dir()?;
    let mut out = Vec::new();
    for package in packages.into_iter().filter(|package| package.kind == SourceKind::File) {
        let mut local = Local { package: package.clone(), files: Vec::new(), links: Vec::new() };
        let at = package.directory(project).unwrap_or_default();
        let dir = tree.open_dir(&at).map_err(|err| Error::io("open", &at, err))?;
        take(&dir, "", &mut local, 0)?;
        out.push(local);
    }
    Ok(out)
}

fn take(dir: &Dir, path: &str, local: &mut Local, depth: usize) -> Result<()> {
    let io = |err| Error::io("read the source's directory", path, err);
    if depth > DEPTH {
        return Err(Error::new(Reason::LimitHit, "directories nested deeper than any honest one")
            .at(path.to_owned()));
    }
    for entry in dir.entries().map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let at = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        let meta = entry.metadata().map_err(io)?;
        if name == "node_modules" {
            let what = format!(
                "package \"{}\" is a directory that holds installed packages",
                local.package.key
            );
            return Err(Error::new(Reason::PackageKind, what)
                .at(local.package.place.clone())
                .expected("a directory without node_modules")
                .found(at)
                .hint("take node_modules out of the repository"));
        }
        if meta.is_dir() {
            take(&entry.open_dir().map_err(io)?, &at, local, depth + 1)?;
        } else if meta.is_symlink() {
            let target = dir.read_link_contents(&name).map_err(io)?;
            local.links.push((at, target.to_string_lossy().into_owned()));
        } else {
            let (digest, unix) = digests(&mut entry.open().map_err(io)?).map_err(io)?;
            let executable = meta.permissions().mode() & 0o111 != 0;
            local.files.push(File { path: at, executable, digest, unix });
        }
    }
    Ok(())
}

/// The patch of `package` in `source`, as `path` names it from the project's directory.
///
/// # Errors
/// [`Reason::BadRecord`] for one that cannot be read.
pub fn patch(source: &StoredTree, project: &str, path: &str) -> Result<Patch> {
    let at = join(project, path).unwrap_or_default();
    let io = |err| Error::io("read the patch", &at, err);
    let mut bytes = Vec::new();
    let file = source.dir()?.open(&at).map_err(io)?;
    file.take(patch::LARGEST).read_to_end(&mut bytes).map_err(io)?;
    Patch::parse(&bytes, &at)
}

impl Seeded {
    /// Takes what `patch` makes of `package` for what an install of it leaves. `cache` is as it was seeded: Bun applies
    /// the patch to a copy of its own.
    ///
    /// # Errors
    /// [`Reason::PatchFailed`], [`Reason::Io`].
    pub fn patch(&mut self, cache: &Dir, package: &Package, patch: &Patch) -> Result<()> {
        let entry = cache::entry(package)?;
        let Some(files) = self.by_dir.get_mut(entry.dir.as_str()) else { return Ok(()) };
        let mut texts = Files::new();
        for file in files.iter().filter(|file| patch.reads(&file.path)) {
            let at = format!("{}/{}", entry.dir, file.path);
            let bytes = cache.read(&at).map_err(|err| Error::io("read", &at, err))?;
            texts.insert(file.path.clone(), (bytes, file.executable));
        }
        let gone = patch.apply(&package.name, &mut texts)?;
        files.retain(|file| !gone.contains(&file.path) && !texts.contains_key(&file.path));
        for (path, (bytes, executable)) in texts {
            let (digest, unix) =
                digests(&mut bytes.as_slice()).map_err(|err| Error::io("hash", &path, err))?;
            files.push(File { path, executable, digest, unix });
        }
        Ok(())
    }
}
