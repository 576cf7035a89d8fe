//! Where an install puts each package.
//!
//! The keys of a `bun.lock` are install paths for *all* platforms together. Bun 1.4 installs a package at its key. Bun
//! 1.3 leaves out the packages of other platforms first and hoists what remains anew: with `mac` (macOS only, needs
//! `x@2`) and `z` (needs `x@1`), the keys are `x` and `z/x`, and on Linux `x@1` goes to `node_modules/x` (both seen).
//! What counts is what a program finds: every need must lead, from the directory of the one who needs, to the very
//! package that the lock gives it. So the needs are followed through the tree that is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::lockfile::{BunLock, Needs, SourceKind};
use super::names::split_key;
use super::tree::{Tree, Unpacked, below};

#[derive(Debug, Default)]
pub(super) struct Places<'a> {
    /// Directory (from the source's root) to package.
    pub(super) by_dir: BTreeMap<String, Unpacked<'a>>,
    pub(super) by_key: BTreeMap<&'a str, BTreeSet<String>>,
    /// Needs that lead to another package than the lock's: the directory, and the key that should be there.
    pub(super) clashes: BTreeSet<(String, &'a str)>,
}

impl BunLock {
    /// The `node_modules` directories that an install may fill, from the source's root: the root's and one for each
    /// package of the source.
    pub fn module_dirs(&self) -> Vec<String> {
        self.workspaces.keys().map(|path| modules_of(path)).collect()
    }

    /// The directory of the package at `key`, from the source's root; `None` where it is not an install path.
    pub fn dir_of(&self, key: &str) -> Option<String> {
        let mut dir = String::new();
        let mut at = String::new();
        for (depth, name) in split_key(key)?.into_iter().enumerate() {
            if depth > 0 {
                at.push('/');
                dir.push('/');
            }
            at.push_str(name);
            // A package of the source is only linked: what lies below its key lies in its own directory.
            let own = self.packages.get(&at).filter(|_| at != key).map(|package| &package.kind);
            match own {
                Some(SourceKind::Workspace(path)) => dir.clone_from(path),
                _ => dir.push_str(&format!("node_modules/{name}")),
            }
        }
        Some(dir)
    }
}

pub(super) fn modules_of(dir: &str) -> String {
    match dir {
        "" => "node_modules".to_owned(),
        dir => format!("{dir}/node_modules"),
    }
}

/// Follows every need through `tree`. A need that leads nowhere is placed where the lock has it, so that it is missed
/// there.
pub(super) fn places<'a>(lock: &'a BunLock, installed: &[Unpacked<'a>], tree: &Tree) -> Places<'a> {
    let known: BTreeMap<&str, Unpacked<'a>> =
        installed.iter().map(|one| (one.package.key.as_str(), *one)).collect();
    let mut out = Places::default();
    let mut queue: VecDeque<(String, &str, &Needs, bool)> = VecDeque::new();
    for (path, workspace) in &lock.workspaces {
        let key = workspace.name.as_deref().filter(|_| !path.is_empty()).unwrap_or_default();
        queue.push_back((path.clone(), key, &workspace.needs, true));
    }
    let mut seen: BTreeSet<(String, &str)> = BTreeSet::new();
    while let Some((dir, from, needs, dev)) = queue.pop_front() {
        for name in needs.names(dev) {
            let Some(package) = lock.resolve(from, name) else { continue };
            let key = package.key.as_str();
            let at = if package.bundled {
                format!("{}/{name}", modules_of(&dir))
            } else if let Some(one) = known.get(key) {
                let locked = lock.dir_of(key);
                let found = find(&out, tree, &dir, name)
                    .filter(|at| out.takes(at, one) || !out.misses(tree, locked.as_deref()));
                let Some(at) = found.or(locked) else { continue };
                out.put(&at, *one);
                at
            } else {
                continue;
            };
            if seen.insert((at.clone(), key)) {
                queue.push_back((at, key, &package.needs, false));
            }
        }
    }
    // What no package needs: where the lock has it.
    for (key, one) in known {
        let placed =
            out.by_key.contains_key(key) || out.clashes.iter().any(|(_, clash)| *clash == key);
        if let Some(dir) = lock.dir_of(key).filter(|_| !placed) {
            out.put(&dir, one);
        }
    }
    out
}

impl<'a> Places<'a> {
    /// Whether `one` can be at `dir` as far as others need it.
    fn takes(&self, dir: &str, one: &Unpacked<'a>) -> bool {
        self.by_dir.get(dir).is_none_or(|there| {
            let (a, b) = (there.package, one.package);
            (&a.name, &a.resolution) == (&b.name, &b.resolution)
        })
    }

    /// Whether a package placed at `dir` is sure to be missed: nothing is there, and no other package is to be.
    fn misses(&self, tree: &Tree, dir: Option<&str>) -> bool {
        dir.is_some_and(|dir| !holds(tree, dir) && !self.by_dir.contains_key(dir))
    }

    pub(super) fn put(&mut self, dir: &str, one: Unpacked<'a>) {
        let key = one.package.key.as_str();
        if self.takes(dir, &one) {
            self.by_dir.entry(dir.to_owned()).or_insert(one);
            self.by_key.entry(key).or_default().insert(dir.to_owned());
        } else {
            self.clashes.insert((dir.to_owned(), key));
        }
    }
}

/// The innermost `node_modules` from `dir` upward that holds `name`, as Node and Bun look for it.
fn find(places: &Places<'_>, tree: &Tree, dir: &str, name: &str) -> Option<String> {
    let mut dir = dir;
    loop {
        // What a package brings in a node_modules of its own is its own, not an installed package.
        let brought = places.by_dir.get(dir).is_some_and(|one| {
            let start = format!("node_modules/{name}/");
            one.files.iter().any(|file| file.path.starts_with(&start))
        });
        let at = format!("{}/{name}", modules_of(dir));
        if !brought && !dir.ends_with("node_modules") && holds(tree, &at) {
            return Some(at);
        }
        if dir.is_empty() {
            return None;
        }
        dir = dir.rsplit_once('/').map_or("", |(above, _)| above);
    }
}

fn holds(tree: &Tree, path: &str) -> bool {
    tree.contains_key(path) || below(tree, path)
}

#[cfg(test)]
mod tests {
    use super::super::lab;
    use super::*;
    use crate::record::lockfile::Linker;

    /// `mac` is for macOS and needs `x@2`, which the lock has at the top; `z` needs `x@1`.
    const LOCK: &str = r#"{"lockfileVersion": 1,
        "workspaces": {"": {"dependencies": {"z": "1"}, "optionalDependencies": {"mac": "1"}}},
        "packages": {
            "mac": ["mac@1.0.0", "", {"os": "darwin", "dependencies": {"x": "2"}}, ""],
            "x": ["x@2.0.0", "", {"bin": "x.js"}, ""],
            "z": ["z@1.0.0", "", {"dependencies": {"x": "1"}}, ""],
            "z/x": ["x@1.0.0", "", {"bin": "x.js"}, ""]}}"#;

    fn differences(os: &str, tree: &[(&str, &str)]) -> Vec<String> {
        let tree: Vec<_> =
            tree.iter().map(|(path, what)| (format!("node_modules/{path}"), *what)).collect();
        let tree = tree.iter().map(|(path, what)| (path.as_str(), *what));
        lab::differences(LOCK, os, Linker::Hoisted, tree)
    }

    #[test]
    fn a_package_may_be_hoisted_to_where_an_excluded_one_would_be() {
        // As Bun 1.3.14 and as Bun 1.4.4 install it on Linux.
        let hoisted = [("z/x.js", "z"), ("x/x.js", "z/x"), (".bin/x", "-> ../x/x.js")];
        assert_eq!(differences("linux", &hoisted), [""; 0]);
        let nested = [
            ("z/x.js", "z"),
            ("z/node_modules/x/x.js", "z/x"),
            ("z/node_modules/.bin/x", "-> ../x/x.js"),
        ];
        assert_eq!(differences("linux", &nested), [""; 0]);
    }

    #[test]
    fn what_a_need_finds_must_be_the_locks_package() {
        // The other version in the place of the right one.
        let other = [("z/x.js", "z"), ("x/x.js", "x"), (".bin/x", "-> ../x/x.js")];
        assert_eq!(differences("linux", &other), ["changed node_modules/x/x.js"]);
        // A nested copy shadows the right one.
        let shadowed = [
            ("z/x.js", "z"),
            ("x/x.js", "z/x"),
            (".bin/x", "-> ../x/x.js"),
            ("z/node_modules/x/x.js", "evil"),
        ];
        let found = differences("linux", &shadowed);
        assert!(found.contains(&"changed node_modules/z/node_modules/x/x.js".to_owned()));
        assert!(found.contains(&"extra package node_modules/x".to_owned()), "{found:?}");
        assert_eq!(
            differences("linux", &[("z/x.js", "z")])[0],
            "missing package node_modules/z/node_modules/x"
        );
    }

    #[test]
    fn two_versions_cannot_be_at_one_place() {
        let one =
            [("mac/x.js", "mac"), ("z/x.js", "z"), ("x/x.js", "x"), (".bin/x", "-> ../x/x.js")];
        let found = differences("darwin", &one);
        assert_eq!(found, ["missing package node_modules/x", "changed node_modules/x/x.js"]);
        let both = [
            one.as_slice(),
            &[("z/node_modules/x/x.js", "z/x"), ("z/node_modules/.bin/x", "-> ../x/x.js")],
        ];
        assert_eq!(differences("darwin", &both.concat()), [""; 0]);
    }

    #[test]
    fn keys_have_one_directory() {
        let lock = BunLock::parse(LOCK.as_bytes(), "bun.lock").unwrap();
        assert_eq!(lock.dir_of("z/x").as_deref(), Some("node_modules/z/node_modules/x"));
        assert_eq!(lock.dir_of("@s/a/b").as_deref(), Some("node_modules/@s/a/node_modules/b"));
        assert_eq!(lock.dir_of("../x"), None);
    }
}
