//! Small locks and trees for tests.

use super::install::{Difference, compare};
use super::lockfile::BunLock;
use super::tree::{File, TreeEntry, Unpacked};
use crate::record::lockfile::Linker;

pub fn lock(root: &str, packages: &str) -> BunLock {
    let text = format!(
        r#"{{"lockfileVersion": 1, "workspaces": {{"": {root}}}, "packages": {{{packages}}}}}"#
    );
    BunLock::parse(text.as_bytes(), "bun.lock").unwrap()
}

/// How a tree differs from what `lock` makes on `os`, where each package has one file, `x.js`, that holds its key. The
/// tree is given as paths, each with what its file holds or `-> ` and the target of its link.
pub fn differences<'t>(
    lock: &str,
    os: &str,
    linker: Linker,
    tree: impl IntoIterator<Item = (&'t str, &'t str)>,
) -> Vec<String> {
    let lock = BunLock::parse(lock.as_bytes(), "bun.lock").unwrap();
    let selection = lock.for_platform(os, "x64", None).unwrap();
    let file = |key: &&str| {
        let digest = blake3::hash(key.as_bytes());
        [File { path: "x.js".to_owned(), executable: false, digest, unix: None }]
    };
    let files: Vec<_> = selection.packages.keys().map(file).collect();
    let packages = selection.packages.values().zip(&files);
    let unpacked: Vec<_> =
        packages.map(|(package, files)| Unpacked { package, files, links: &[] }).collect();
    let found = |(path, what): (&str, &str)| {
        let digest = blake3::hash(what.as_bytes());
        let found = match what.strip_prefix("-> ") {
            Some(target) => TreeEntry::Link(target.to_owned()),
            None => TreeEntry::File { digest, executable: path.ends_with("/x/x.js") },
        };
        (path.to_owned(), found)
    };
    let tree = tree.into_iter().map(found).collect();
    let short = |one: Difference| format!("{} {}", one.what.as_str(), one.path);
    compare(&lock, &unpacked, &tree, linker).into_iter().map(short).collect()
}
