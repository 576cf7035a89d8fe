//! The place of the store: whether it can be used, and what lies there that nothing of admit needs.

use std::path::{Path, PathBuf};

use super::check::{Check, Need};
use super::limits::size;
use crate::error::{Error, Reason};
use crate::store::{self, Store};

const STORE: Need<'_> = Need {
    id: "store",
    needed_for: "fetch, build, verify",
    expected: "a directory of this user's own",
    reason: Reason::StoreUnsafe,
    required: true,
};

/// Whether the store can be used, without making or changing one.
pub(super) fn store(root: &Path) -> Vec<Check> {
    use rustix::fs::{Access, access};
    let fix = "name a directory of your own with --store";
    let there = match Store::open_read(root) {
        Ok(there) => there,
        Err(e) => return vec![STORE.error(&e, fix)],
    };
    let at = root.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let check = match access(at, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if at.is_dir() => STORE.ok(root.display()),
        Ok(()) => STORE.failed(format!("{} is not a directory", at.display()), fix),
        Err(e) => STORE.error(&Error::io("write to", at, e.into()), fix),
    };
    let mut checks = vec![check];
    checks.extend(there.iter().flat_map(Store::leftovers).map(leftover));
    checks
}

/// What only the user can say is of no more use.
fn leftover((path, things, bytes): (PathBuf, usize, u64)) -> Check {
    let (id, needed_for) = if path.ends_with("kept") {
        ("store_kept", "nothing but your own look at failed builds")
    } else {
        ("store_quarantine", "nothing but your own look at what had become wrong")
    };
    let need = Need { id, needed_for, expected: "empty", required: false, ..STORE };
    let found = format!("{things} in {}, {}", path.display(), size(bytes));
    need.failed(found, store::removal(&path))
}
