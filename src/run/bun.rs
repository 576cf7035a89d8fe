//! The pinned Bun that fixtures are judged by: fetched as every locked input is, kept in the store as a program that can
//! be started.

use std::io::Write as _;

use cap_std::fs::{OpenOptions, OpenOptionsExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::host;
use crate::record::bunlock::BunLock;
use crate::record::ids::Digest;
use crate::root::Root;
use crate::sandbox::Mount;
use crate::store::{Store, StoredTree};

/// Where it is inside every sandbox.
pub(super) const DIRECTORY: &str = "/opt/admit/bun";
pub(super) const PROGRAM: &str = "/opt/admit/bun/bun";

const LOCK: &str = "lockfiles/bun.lock.json";

/// The area of the store's records that say which tree holds a program.
const AREA: &str = "bun";

#[derive(Debug)]
pub struct BunTool {
    facts: BunFacts,
    /// The program alone, verified.
    tree: StoredTree,
}

/// What a report says about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BunFacts {
    /// For example `1.3.14`.
    pub version: String,
    /// SHA-256 of the program.
    pub sha256: Digest,
}

/// Finds the pinned Bun in the store, or fetches it.
///
/// # Errors
/// [`Reason::NotFound`] where the root locks none, [`Reason::PlatformNotLocked`]; those of the fetch and of the store.
pub(super) fn find(context: &Context, root: &Root, store: &Store) -> Result<BunTool> {
    let lock = root.record::<BunLock>(LOCK)?;
    let lock = lock.ok_or_else(|| {
        Error::new(Reason::NotFound, "the root locks no Bun to judge with").at(root.place(LOCK))
    })?;
    let platform = host::platform()?;
    let pin = lock.bun.platforms.get(&platform).ok_or_else(|| {
        Error::new(Reason::PlatformNotLocked, "no Bun to judge with is locked for this platform")
            .at(root.place(LOCK))
            .found(platform.to_string())
    })?;
    let sha256 = pin.binary_sha256.digest().clone();
    let facts = BunFacts { version: lock.bun.version.clone(), sha256: sha256.clone() };
    let made = |tree| BunTool { facts, tree };
    let _lock = store.lock(&sha256, &mut || context.progress.note("waiting for another fetch"))?;
    if let Some(tree) = store.tree_of(AREA, &sha256)? {
        return Ok(made(tree));
    }
    let network = context.network()?;
    let mut program = network.fetcher().bun(pin, &lock.bun.version)?;
    let writer = store.tree_writer()?;
    let io = |err| Error::io("write", "bun", err);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o755);
    let mut file = writer.dir().open_with("bun", &options).map_err(io)?;
    std::io::copy(program.file(), &mut file).map_err(io)?;
    file.flush().map_err(io)?;
    drop(file);
    let tree = writer.finish(None)?;
    store.put_tree_of(AREA, &sha256, &tree)?;
    Ok(made(tree))
}

impl BunTool {
    pub(super) fn facts(&self) -> BunFacts {
        self.facts.clone()
    }

    pub(super) fn words(&self) -> String {
        format!("Bun {}", self.facts.version)
    }

    /// Its directory in the store.
    pub(super) fn place(&self) -> &std::path::Path {
        self.tree.path()
    }

    pub(super) fn mount(&self) -> Result<Mount> {
        Mount::read_only(self.tree.path(), super::agent::path(DIRECTORY)?)
    }
}
