//! The place of the store: whether it can be used, and what lies there that nothing of admit needs.

use std::path::{Path, PathBuf};

use super::{Check, Status, size};
use crate::error::Error;
use crate::store::Store;

/// Whether the store can be used, without making or changing one.
pub(super) fn store(root: &Path) -> Vec<Check> {
    use rustix::fs::{Access, access};
    let (id, needed) = ("store", "fetch, build, verify");
    let fix = "name a directory of your own with --store";
    let there = match Store::open_read(root) {
        Ok(there) => there,
        Err(e) => return vec![Check::of_error(Status::Fail, id, needed, &e, fix)],
    };
    let at = root.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let check = match access(at, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if at.is_dir() => Check::ok(id, needed, root.display()),
        Ok(()) => {
            let found = format!("{} is not a directory", at.display());
            Check::not_ok(Status::Fail, id, needed, found, fix)
        }
        Err(e) => {
            let e = Error::io("write to", at, e.into());
            Check::of_error(Status::Fail, id, needed, &e, fix)
        }
    };
    let mut checks = vec![check];
    checks.extend(there.iter().flat_map(Store::leftovers).map(leftover));
    checks
}

/// What nobody but the user can say is of no more use.
fn leftover((path, things, bytes): (PathBuf, usize, u64)) -> Check {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let needed = match name.as_str() {
        "kept" => "nothing but your own look at failed builds",
        _ => "nothing but your own look at what had become wrong",
    };
    let found = format!("{things} in {}, {}", path.display(), size(bytes));
    let fix = format!("chmod -R u+w '{0}' && rm -rf '{0}'", path.display());
    Check::not_ok(Status::Warn, &format!("store_{name}"), needed, found, fix)
}
