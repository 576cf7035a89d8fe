//! Where Bun's isolated linker puts each package, as 1.3.14 and 1.4.4 do it (both seen).
//!
//! Every package has a directory of its own, `node_modules/.bun/<entry>/node_modules/<name>`, in one entry for each set of
//! peers; what it needs are links beside it, and what a package of the source needs are links in its own `node_modules`.
//! `node_modules/.bun/node_modules` has a link to one copy of each, for what finds no other. As with the other linker the
//! needs are followed through the tree that is there, and every one must lead to the very package that the lock gives it.
//! One thing is weaker: which version of a peer an entry has decides the one who needs both, so any of the lock's counts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::lockfile::{BunLock, Needs, SourceKind};
use super::place::{Places, modules_of};
use super::tree::{Tree, TreeEntry, Unpacked};

const ENTRIES: &str = "node_modules/.bun/";

/// Most links that a path is followed through (path_resolution(7)).
const HOPS: usize = 40;

pub(super) type Commands = Vec<(String, String)>;

/// What an install with this linker must have left, as far as it is no file of a package.
#[derive(Debug, Default)]
pub(super) struct Isolated<'a> {
    pub(super) places: Places<'a>,
    /// Links that must be there, with the targets that each may have.
    pub(super) links: BTreeMap<String, BTreeSet<String>>,
    pub(super) commands: BTreeSet<String>,
}

/// Follows every need through `tree`. `commands` has those of each installed package by its key, `own` those of each
/// package of the source by its directory.
pub(super) fn isolated<'a>(
    lock: &'a BunLock,
    installed: &[Unpacked<'a>],
    tree: &Tree,
    commands: &BTreeMap<&str, Commands>,
    own: &BTreeMap<&str, Commands>,
) -> Isolated<'a> {
    let known: BTreeMap<&str, Unpacked<'a>> =
        installed.iter().map(|one| (one.package.key.as_str(), *one)).collect();
    let mut out = Isolated::default();
    // The directory, its modules, its key, its needs, and whether it is the source's own.
    let mut queue: VecDeque<(String, &str, &Needs, bool)> = VecDeque::new();
    for (path, workspace) in &lock.workspaces {
        let key = workspace.name.as_deref().filter(|_| !path.is_empty()).unwrap_or_default();
        queue.push_back((modules_of(path), key, &workspace.needs, true));
    }
    let mut seen: BTreeSet<(String, &str)> = BTreeSet::new();
    while let Some((modules, from, needs, source)) = queue.pop_front() {
        for name in needs.names(source) {
            let Some(package) = lock.resolve(from, name).filter(|one| !one.bundled) else {
                continue;
            };
            let link = format!("{modules}/{name}");
            if let Some(path) = package.linked() {
                out.source_link(tree, &link, path);
                continue;
            }
            let Some(one) = known.get(package.key.as_str()) else { continue };
            let real = target(tree, &link);
            // Of a peer the version that is there.
            let peer = needs.peer.contains_key(name) && !needs.normal.contains_key(name);
            let other = real.as_deref().filter(|_| peer).and_then(|dir| {
                let same = |one: &&Unpacked<'a>| named(one) == named_in(dir);
                known.values().filter(same_name(one)).find(same).copied()
            });
            let one = other.unwrap_or(*one);
            let Some(dir) = real.filter(|dir| is_entry(dir, &one)) else {
                let wanted = format!("{ENTRIES}{}/node_modules/{}", named(&one), one.package.name);
                out.links.insert(link.clone(), BTreeSet::from([relative(&link, &wanted)]));
                continue;
            };
            out.places.put(&dir, one);
            out.found(tree, &link);
            if source {
                for (command, file) in commands.get(one.package.key.as_str()).into_iter().flatten()
                {
                    let there = one.files.iter().any(|known| known.path == *file);
                    let link = format!("{modules}/.bin/{command}");
                    if there && !matches!(tree.get(&link), Some(TreeEntry::Link(_))) {
                        let wanted = BTreeSet::from([format!("../{name}/{file}")]);
                        out.links.entry(link).or_insert(wanted);
                    }
                }
            }
            let key = one.package.key.as_str();
            if seen.insert((dir.clone(), key))
                && let Some(modules) = modules_with(&dir)
            {
                queue.push_back((modules.to_owned(), key, &one.package.needs, false));
            }
        }
    }
    out.spare(lock, tree);
    out.lead(lock, tree, commands, own);
    out
}

fn same_name<'b, 'a: 'b>(one: &'b Unpacked<'a>) -> impl Fn(&&Unpacked<'a>) -> bool + 'b {
    move |other| other.package.name == one.package.name
}

impl Isolated<'_> {
    fn found(&mut self, tree: &Tree, link: &str) {
        if let Some(TreeEntry::Link(text)) = tree.get(link) {
            self.links.entry(link.to_owned()).or_default().insert(text.clone());
        }
    }

    fn source_link(&mut self, tree: &Tree, link: &str, path: &str) {
        match target(tree, link).as_deref() == Some(path) {
            true => self.found(tree, link),
            false => {
                let wanted = BTreeSet::from([relative(link, path)]);
                self.links.insert(link.to_owned(), wanted);
            }
        }
    }

    fn spare(&mut self, lock: &BunLock, tree: &Tree) {
        let start = format!("{ENTRIES}node_modules/");
        let links = tree.range(start.clone()..).map(|(path, _)| path);
        let links: Vec<&String> = links.take_while(|path| path.starts_with(&start)).collect();
        for link in links.into_iter().filter(|link| !link.contains("/.bin/")) {
            let Some(dir) = target(tree, link) else { continue };
            let workspace = lock.workspaces.contains_key(&dir);
            if workspace || self.places.by_dir.contains_key(&dir) {
                self.found(tree, link);
            }
        }
    }

    /// The commands: a link in `.bin` must lead to a file that a package names as the command of that name.
    fn lead(
        &mut self,
        lock: &BunLock,
        tree: &Tree,
        commands: &BTreeMap<&str, Commands>,
        own: &BTreeMap<&str, Commands>,
    ) {
        // For some packages (esbuild) Bun links the program of the platform's own package instead, by the same path.
        let any: BTreeSet<(&str, &str)> = commands
            .values()
            .flatten()
            .map(|(name, file)| (name.as_str(), file.as_str()))
            .collect();
        for (link, found) in tree {
            let (TreeEntry::Link(_), Some((_, name))) = (found, link.rsplit_once("/.bin/")) else {
                continue;
            };
            let Some(file) = target(tree, link) else { continue };
            let in_package = self.places.by_dir.iter().find_map(|(dir, one)| {
                let below = file.strip_prefix(dir.as_str())?.strip_prefix('/')?;
                let there = one.files.iter().any(|known| known.path == below);
                there.then_some((one.package.kind == SourceKind::File, below))
            });
            if let Some((of_source, below)) = in_package {
                if any.contains(&(name, below)) {
                    self.found(tree, link);
                    // A file of the source is as the source has it again, after Bun made it executable.
                    if !of_source {
                        self.commands.insert(file);
                    }
                }
                continue;
            }
            let of_source = lock.workspaces.keys().any(|path| {
                let start = if path.is_empty() { String::new() } else { format!("{path}/") };
                let commands = own.get(path.as_str()).into_iter().flatten();
                file.strip_prefix(&start).is_some_and(|below| {
                    commands.into_iter().any(|(known, at)| known == name && at == below)
                })
            });
            if of_source {
                self.found(tree, link);
            }
        }
    }
}

/// How an entry of a package begins: its name and its version, `/` as `+`.
fn named(one: &Unpacked<'_>) -> String {
    let package = one.package;
    format!("{}@{}", package.name.replace('/', "+"), package.resolution)
}

/// The entry of a directory, without the hash of its peers.
fn named_in(dir: &str) -> String {
    let entry = dir.strip_prefix(ENTRIES).and_then(|rest| rest.split('/').next());
    let entry = entry.unwrap_or_default();
    let hash = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match entry.rsplit_once('+') {
        Some((name, peers)) if hash(peers) => name.to_owned(),
        _ => entry.to_owned(),
    }
}

/// Whether `dir` is one that a package can have: in an entry, under its own name or the one that it is needed by.
fn is_entry(dir: &str, one: &Unpacked<'_>) -> bool {
    let Some((entry, name)) =
        dir.strip_prefix(ENTRIES).and_then(|rest| rest.split_once("/node_modules/"))
    else {
        return false;
    };
    !entry.contains('/') && (name == one.package.name || Some(name) == one.package.alias())
}

/// The `node_modules` that a package's directory lies in.
fn modules_with(dir: &str) -> Option<&str> {
    dir.rfind("/node_modules/").map(|at| &dir[..at + "/node_modules".len()])
}

/// What the link at `link` leads to, other links on the way followed; `None` where there is no link, and where it leaves
/// the source.
fn target(tree: &Tree, link: &str) -> Option<String> {
    matches!(tree.get(link), Some(TreeEntry::Link(_))).then_some(())?;
    let mut left: Vec<String> = link.split('/').rev().map(str::to_owned).collect();
    let mut done: Vec<String> = Vec::new();
    let mut hops = 0;
    while let Some(part) = left.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                done.pop()?;
                continue;
            }
            _ => done.push(part),
        }
        if let Some(TreeEntry::Link(text)) = tree.get(&done.join("/")) {
            hops += 1;
            if hops > HOPS || text.starts_with('/') {
                return None;
            }
            done.pop();
            left.extend(text.split('/').rev().map(str::to_owned));
        }
    }
    Some(done.join("/"))
}

/// The text of a link at `link` that leads to `path`.
fn relative(link: &str, path: &str) -> String {
    let (from, to): (Vec<&str>, Vec<&str>) = (link.split('/').collect(), path.split('/').collect());
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let same = same.min(from.len() - 1);
    format!("{}{}", "../".repeat(from.len() - 1 - same), to[same..].join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::lab;
    use super::*;
    use crate::record::lockfile::Linker;

    /// As Bun writes it for two packages of the source, one of which needs the other.
    const LOCK: &str = r#"{"lockfileVersion": 1, "configVersion": 1,
        "workspaces": {
            "": {"dependencies": {"x": "2"}},
            "packages/a": {"name": "a", "dependencies": {"b": "workspace:*", "x": "1", "y": "1"}},
            "packages/b": {"name": "b", "bin": {"bee": "bee.js"}}},
        "packages": {
            "a": ["a@workspace:packages/a"],
            "b": ["b@workspace:packages/b"],
            "x": ["x@2.0.0", "", {"bin": "x.js"}, ""],
            "y": ["y@1.0.0", "", {"dependencies": {"x": "2"}, "peerDependencies": {"z": "*"}}, ""],
            "z": ["z@1.0.0", "", {}, ""],
            "a/x": ["x@1.0.0", "", {"bin": "x.js"}, ""]}}"#;

    const TREE: &[(&str, &str)] = &[
        ("node_modules/x", "-> .bun/x@2.0.0/node_modules/x"),
        ("node_modules/.bin/x", "-> ../x/x.js"),
        ("node_modules/.bun/x@2.0.0/node_modules/x/x.js", "x"),
        ("node_modules/.bun/x@2.0.0/node_modules/.bin/x", "-> ../x/x.js"),
        ("node_modules/.bun/x@1.0.0/node_modules/x/x.js", "a/x"),
        ("node_modules/.bun/z@1.0.0/node_modules/z/x.js", "z"),
        ("node_modules/.bun/y@1.0.0+0123456789abcdef/node_modules/y/x.js", "y"),
        (
            "node_modules/.bun/y@1.0.0+0123456789abcdef/node_modules/x",
            "-> ../../x@2.0.0/node_modules/x",
        ),
        (
            "node_modules/.bun/y@1.0.0+0123456789abcdef/node_modules/z",
            "-> ../../z@1.0.0/node_modules/z",
        ),
        ("node_modules/.bun/node_modules/x", "-> ../x@2.0.0/node_modules/x"),
        ("node_modules/.bun/node_modules/b", "-> ../../../packages/b"),
        ("packages/a/node_modules/b", "-> ../../b"),
        ("packages/a/node_modules/.bin/bee", "-> ../b/bee.js"),
        ("packages/a/node_modules/x", "-> ../../../node_modules/.bun/x@1.0.0/node_modules/x"),
        ("packages/a/node_modules/.bin/x", "-> ../x/x.js"),
        (
            "packages/a/node_modules/y",
            "-> ../../../node_modules/.bun/y@1.0.0+0123456789abcdef/node_modules/y",
        ),
    ];

    fn differences<'a>(change: impl Fn(&mut BTreeMap<&'a str, &'a str>)) -> Vec<String> {
        let mut tree: BTreeMap<&str, &str> = TREE.iter().copied().collect();
        change(&mut tree);
        lab::differences(LOCK, "linux", Linker::Isolated, tree)
    }

    #[test]
    fn what_bun_leaves_is_what_must_be_there() {
        assert_eq!(differences(|_| ()), [""; 0]);
    }

    #[test]
    fn every_other_tree_is_told() {
        let set = |path: &'static str, what: &'static str| {
            differences(|tree| _ = tree.insert(path, what))
        };
        let without = |path: &'static str| differences(|tree| _ = tree.remove(path));
        // Another version in the place of the right one.
        let other = "-> ../../../node_modules/.bun/x@2.0.0/node_modules/x";
        assert!(!set("packages/a/node_modules/x", other).is_empty());
        // Out of the source, and to what is no package.
        for target in ["-> ../../../../out", "-> ../../../packages/b", "-> /etc", "-> x"] {
            assert!(!set("packages/a/node_modules/y", target).is_empty(), "{target}");
        }
        for (path, what) in [
            ("node_modules/.bun/x@1.0.0/node_modules/x/x.js", "evil"),
            ("node_modules/.bun/x@1.0.0/node_modules/x/more.js", "evil"),
            ("node_modules/.bun/evil@1.0.0/node_modules/evil/x.js", "evil"),
            ("node_modules/.bun/node_modules/evil", "-> ../evil@1.0.0/node_modules/evil"),
            ("node_modules/.bun/node_modules/x", "-> ../../../packages/evil"),
            ("node_modules/evil/x.js", "evil"),
            ("node_modules/.bin/evil", "-> ../x/x.js"),
            ("node_modules/.bin/x", "-> ../../packages/a/x.js"),
            ("packages/b/node_modules/x", "-> ../../../node_modules/.bun/x@1.0.0/node_modules/x"),
        ] {
            assert_eq!(set(path, what).len(), 1, "{path} {what}: {:?}", set(path, what));
        }
        for path in [
            "node_modules/x",
            "node_modules/.bin/x",
            "packages/a/node_modules/b",
            "packages/a/node_modules/y",
            "node_modules/.bun/z@1.0.0/node_modules/z/x.js",
            "node_modules/.bun/y@1.0.0+0123456789abcdef/node_modules/z",
        ] {
            assert!(!without(path).is_empty(), "{path}");
        }
    }

    #[test]
    fn links_are_followed_within_the_source() {
        let tree: Tree = [("a/b", "../c"), ("c", "d/e"), ("o", "../x"), ("l", "l")]
            .map(|(path, to)| (path.to_owned(), TreeEntry::Link(to.to_owned())))
            .into();
        assert_eq!(target(&tree, "a/b").as_deref(), Some("d/e"));
        for path in ["o", "l", "d"] {
            assert_eq!(target(&tree, path), None, "{path}");
        }
        assert_eq!(relative("a/node_modules/b", "c/d"), "../../c/d");
        assert_eq!(relative("node_modules/x", "node_modules/.bun/x"), ".bun/x");
    }
}
