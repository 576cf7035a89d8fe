//! What tarballs hold, and what stands in a tree that was installed from them.

use std::collections::BTreeMap;

use blake3::Hash;

use super::lockfile::Package;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub path: String,
    /// Whether anybody may execute it.
    pub executable: bool,
    /// BLAKE3 of the content.
    pub digest: Hash,
    /// BLAKE3 of the content without the `\r` at the end of its `#!` line, where it has one.
    pub unix: Option<Hash>,
}

#[derive(Clone, Copy, Debug)]
pub struct Unpacked<'a> {
    pub package: &'a Package,
    /// Its files, `.bun-tag` among them where Bun writes one.
    pub files: &'a [File],
    /// Links of a directory of the source; Bun 1.3 leaves them out, 1.4 makes them.
    pub links: &'a [(String, String)],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeEntry {
    File {
        /// BLAKE3 of the content.
        digest: Hash,
        /// Whether anybody may execute it.
        executable: bool,
    },
    /// A symbolic link with its target as written.
    Link(String),
    /// Anything else, or a file with set-user-id and the like.
    Other(&'static str),
}

/// Everything but directories, by path from the source's root.
pub type Tree = BTreeMap<String, TreeEntry>;

/// Whether any path of `map` lies below the directory `dir`.
pub(super) fn below<V>(map: &BTreeMap<String, V>, dir: &str) -> bool {
    let start = format!("{dir}/");
    map.range(start.clone()..).next().is_some_and(|(path, _)| path.starts_with(&start))
}
