//! Executables looked at: a file or the output of a provider, and held against plain Buns, named or in the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bun::explain::{Explanation, KnownBun, claimed_version, diff};
use crate::bun::inspect::{self, Inspection, is_bun};
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::lock::{self, Spec};
use crate::store::Store;

/// Largest file that is read whole.
const LARGEST: u64 = 2 << 30;

/// What is in an executable, read without running it. The runtime inside is held against the plain Buns in `buns`; without any
/// against those of the locks that are in the store.
pub fn inspect(context: &Context, file: &Path, buns: &[PathBuf]) -> Result<Inspection> {
    let bytes = read(context, file)?;
    let buns = known(context, buns, &[&bytes])?;
    inspect::inspect(&bytes, &refer(&buns)).map_err(|err| err.at(file.display().to_string()))
}

/// How two files differ, and why; `buns` as for [`inspect()`].
pub fn explain(
    context: &Context,
    files: [&Path; 2],
    buns: &[PathBuf],
    hunks: usize,
) -> Result<Explanation> {
    let [a, b] = files.map(|file| read(context, file));
    let (a, b) = (a?, b?);
    let buns = known(context, buns, &[&a, &b])?;
    Ok(diff(&a, &b, &refer(&buns), hunks))
}

fn known(context: &Context, buns: &[PathBuf], of: &[&[u8]]) -> Result<Vec<(String, Vec<u8>)>> {
    if buns.is_empty() {
        return Ok(stored(context, of));
    }
    let one = |path: &PathBuf| Ok((path.display().to_string(), read(context, path)?));
    buns.iter().map(one).collect()
}

fn refer(buns: &[(String, Vec<u8>)]) -> Vec<KnownBun<'_>> {
    buns.iter().map(|(label, bytes)| KnownBun { label, bytes }).collect()
}

/// A regular file, whole. Where there is none of that name, the output of the provider that is called so.
fn read(context: &Context, path: &Path) -> Result<Vec<u8>> {
    let facts = std::fs::metadata(path).map_err(|err| match err.kind() {
        std::io::ErrorKind::NotFound => Error::new(Reason::NotFound, "no such file")
            .at(path.display().to_string())
            .expected("a file, or a provider whose output is in the store"),
        _ => Error::io("read", path, err),
    });
    let facts = match facts {
        Err(err) if err.reason() == Reason::NotFound => {
            return output_of(context, &path.to_string_lossy())?.ok_or(err);
        }
        facts => facts?,
    };
    if !facts.is_file() {
        return Err(
            Error::new(Reason::BadArgument, "not a regular file").at(path.display().to_string())
        );
    }
    std::fs::read(path).map_err(|err| Error::io("read", path, err))
}

/// The plain Buns in the store that the root's locks name and whose version one of `executables` claims: what to call
/// each, and its bytes. None where there is no store or no root that holds: a comparison is then not offered.
fn stored(context: &Context, executables: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
    let compiled = executables.iter().filter(|bytes| is_bun(bytes));
    let claimed: Vec<String> = compiled.filter_map(|bytes| claimed_version(bytes)).collect();
    let Some(store) = store(context).filter(|_| !claimed.is_empty()) else { return Vec::new() };
    let Ok(root) = context.root() else { return Vec::new() };
    let mut wanted = BTreeMap::new();
    for bun in lock::all(&root).filter_map(|(_, lock)| Some(lock.ok()?.toolchain.bun)) {
        if claimed.contains(&bun.version) {
            for package in bun.platforms.into_values() {
                let label = format!("{}@{}", package.package, bun.version);
                wanted.insert(package.binary_sha256.to_string(), (label, package.binary_sha256));
            }
        }
    }
    let read = |(label, sha256): (String, crate::record::ids::Sha256)| {
        let file = store.file(sha256.digest()).ok()??;
        Some((label, file.read_all(LARGEST).ok()?))
    };
    wanted.into_values().filter_map(read).collect()
}

/// The locked output of the provider that is called so, where it is in the store.
fn output_of(context: &Context, name: &str) -> Result<Option<Vec<u8>>> {
    let Ok(spec) = name.parse::<Spec>() else { return Ok(None) };
    let Ok(root) = context.root() else { return Ok(None) };
    let Ok(locked) = lock::resolve(&root, &spec) else { return Ok(None) };
    let (Some(output), Some(store)) = (locked.output(), store(context)) else { return Ok(None) };
    let file = store.file_checked(output.sha256.digest(), output.blake3.digest())?;
    file.map(|file| file.read_all(LARGEST)).transpose()
}

/// The store, where there is one: looking makes none.
fn store(context: &Context) -> Option<Arc<Store>> {
    context.store_dir().ok()?.is_dir().then(|| context.store().ok())?
}
