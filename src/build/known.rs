//! What of a root's locks is in the store, for commands that look at executables: plain Buns, and outputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bun::explain::claimed_version;
use crate::bun::inspect::is_bun;
use crate::context::Context;
use crate::error::Result;
use crate::lock::{self, Spec};
use crate::record::lockfile::Lockfile;
use crate::store::Store;

/// Largest file that is read whole.
const LARGEST: u64 = 2 << 30;

/// The plain Buns in the store that the root's locks name and whose version one of `executables` claims: what to call
/// each, and its bytes. None where there is no store or no root that holds: a comparison is then not offered.
pub fn buns(context: &Context, executables: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
    let compiled = executables.iter().filter(|bytes| is_bun(bytes));
    let claimed: Vec<String> = compiled.filter_map(|bytes| claimed_version(bytes)).collect();
    let Some(store) = store(context).filter(|_| !claimed.is_empty()) else { return Vec::new() };
    let Ok(root) = context.root() else { return Vec::new() };
    let mut wanted = BTreeMap::new();
    for name in lock::providers(&root) {
        let lock = root.record::<Lockfile>(&format!("lockfiles/{name}.lock.json"));
        let Ok(Some(lock)) = lock else { continue };
        let bun = lock.toolchain.bun;
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
///
/// # Errors
/// Those of a store that cannot be read.
pub fn output_of(context: &Context, name: &str) -> Result<Option<Vec<u8>>> {
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
