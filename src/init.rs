//! A root of one's own: `admit.toml` with every key explained, and the locks and fixtures that are asked for.

use std::path::Path;

use crate::error::{Error, Reason, Result};
use crate::host::Host;
use crate::record::ids::Name;
use crate::record::lockfile::Lockfile;
use crate::root::{MARKER, Root, write_new};

/// What a new `admit.toml` says: everything commented out.
const TEMPLATE: &[u8] = include_bytes!("init/admit.toml");

/// What a new root holds beside its configuration.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Providers whose locks are copied.
    pub locks: Vec<Name>,
    /// Fixtures that are copied, each with its recorded digest.
    pub fixtures: Vec<Name>,
}

/// Makes a root of `dir`, with copies of what is wanted from this user's own records or admit's, and trusts it.
/// `admit.toml` is written last, so that a directory half made is no root.
///
/// # Errors
/// [`Reason::BadArgument`] where there is a root already; [`Reason::NotFound`] for what is wanted and not there; those
/// of writing. What was there is never written over.
pub fn init(host: &Host, dir: &Path, wanted: &Wanted) -> Result<Root> {
    let dir = host.absolute(dir);
    let marker = dir.join(MARKER);
    if std::fs::symlink_metadata(&marker).is_ok() {
        return Err(Error::new(Reason::BadArgument, "there is a root already")
            .at(marker.display().to_string())
            .hint(format!(
                "read it, then: admit trust {}",
                crate::host::quoted(&dir.display().to_string())
            )));
    }
    let from = Root::own(host)?;
    let mut files: Vec<(String, &[u8])> = Vec::new();
    let missing = |what: &str, name: &Name, known: Vec<&str>| {
        Error::new(Reason::NotFound, format!("no {what} of this name"))
            .expected(format!("one of: {}", known.join(", ")))
            .found(name.to_string())
    };
    for name in &wanted.locks {
        let path = Lockfile::path_of(name);
        let known = || {
            let all = from.below("lockfiles/").map(|(path, _)| path);
            all.filter_map(Lockfile::provider_of).collect()
        };
        let bytes = from.get(&path).ok_or_else(|| missing("lock", name, known()))?;
        files.push((path, bytes));
    }
    for name in &wanted.fixtures {
        let prefix = format!("fixtures/{name}/");
        let lock = format!("lockfiles/fixtures/{name}.json");
        let known = || {
            let all = from.below("lockfiles/fixtures/").map(|(path, _)| path);
            all.filter_map(|path| path.rsplit('/').next()?.strip_suffix(".json")).collect()
        };
        let recorded = from.get(&lock).ok_or_else(|| missing("fixture", name, known()))?;
        files.push((lock, recorded));
        let paths = from.paths().filter(|path| path.starts_with(&prefix));
        files.extend(paths.filter_map(|path| Some((path.to_owned(), from.get(path)?))));
    }
    for (path, _) in &files {
        let target = dir.join(path);
        if std::fs::symlink_metadata(&target).is_ok() {
            return Err(Error::new(Reason::BadArgument, "a file is there already")
                .at(target.display().to_string())
                .hint("name another directory, or move the file away"));
        }
    }
    for (path, bytes) in files {
        write_new(&dir.join(path), bytes, 0o644)?;
    }
    write_new(&marker, TEMPLATE, 0o644)?;
    Root::trust(host, &dir, None)
}
