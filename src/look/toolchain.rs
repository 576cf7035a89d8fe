//! The Bun of a lock: its packages, by digest.

use crate::context::Context;
use crate::error::Result;
use crate::host::platform;
use crate::lock;
use crate::record::lockfile::{BunToolchain, Platform, Toolchain};
use crate::root::Root;

/// Bun `version` as some lock of this root has it, else as the registry has it.
pub(super) fn toolchain(
    context: &Context,
    root: &Root,
    version: &str,
    all: bool,
) -> Result<Toolchain> {
    let here = platform()?;
    if !all {
        let mut known = lock::all(root).filter_map(|(_, lock)| Some(lock.ok()?.toolchain.bun));
        let same = |bun: &BunToolchain| bun.version == version && bun.platforms.contains_key(&here);
        if let Some(bun) = known.find(same) {
            return Ok(Toolchain { bun });
        }
    }
    let platforms = if all { Platform::ALL.as_slice() } else { &[here] };
    let bun = context.network()?.fetcher().toolchain(version, platforms)?;
    Ok(Toolchain { bun })
}
