//! What `node_modules` must hold after an install, and how a tree differs from it.
//!
//! Bun's exit code does not say it (all seen with 1.3.14): an optional package that is missing, and a GitHub tarball with
//! another top directory, end in 0 with nothing installed. So the tree is compared with what the lock and the verified
//! tarballs make it, file by file.
//!
//! Rules of the hoisted linker, as seen (where packages go stands in `place.rs`, for the isolated one in `isolated.rs`):
//! commands are relative links in the `.bin` beside the package; one whose file is missing gets no link; of two with one
//! name either may win. Their files become executable, and where the first line is `#!…\r\n` the `\r` is removed, in a
//! file of its own.

use std::collections::{BTreeMap, BTreeSet};

use blake3::Hash;

use super::isolated::{Commands, isolated};
use super::lockfile::{Bin, BunLock, SourceKind};
use super::origin::plain;
use super::place::{Places, places};
use super::tree::{File, Tree, TreeEntry, Unpacked, below};
use crate::record::lockfile::Linker;
use crate::record::words;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub what: What,
    /// A path from the source's root: of a package for the first two kinds, of a file or link for the others.
    pub path: String,
    /// What should be there, in words.
    pub expected: String,
    pub found: String,
}

words! {
    pub enum What {
        /// Nothing of a package is there.
        MissingPackage = "missing package",
        /// A directory that no row stands for.
        ExtraPackage = "extra package",
        /// A file or link of a package is not there.
        Missing = "missing",
        /// A file or link that no package has.
        Extra = "extra",
        /// Another content, mode, kind or target.
        Changed = "changed",
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.what.as_str(), self.path)?;
        match self.what {
            What::Changed => write!(f, ": {}, expected {}", self.found, self.expected),
            _ => Ok(()),
        }
    }
}

enum Want<'a> {
    File {
        file: &'a File,
        role: Role,
    },
    Link(BTreeSet<String>),
    /// Nothing, with which Bun marks a package that it patched.
    Mark,
}

/// What Bun makes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Plain,
    /// A command, if its link wins over another of the same name.
    Perhaps,
    /// A command: executable, and its `#!` line without `\r`.
    Command,
}

/// How the file is called with which Bun marks a package that it patched, before 16 digits of a hash of the patch.
const MARK: &str = ".bun-tag-";

fn is_mark(path: &str) -> bool {
    let digits = path.rsplit_once(MARK).map_or("", |(_, digits)| digits);
    digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Compares `tree` with what `installed` (every selected package that is fetched) and the source's own packages make of
/// it. Empty means equal. Sorted.
pub fn compare(
    lock: &BunLock,
    installed: &[Unpacked<'_>],
    tree: &Tree,
    linker: Linker,
) -> Vec<Difference> {
    let mut want: BTreeMap<String, Want<'_>> = BTreeMap::new();
    let mut dirs: BTreeMap<String, &str> = BTreeMap::new();
    let (places, isolated) = match linker {
        Linker::Hoisted => (places(lock, installed, tree), None),
        Linker::Isolated => {
            let commands =
                installed.iter().map(|one| (one.package.key.as_str(), bins(one))).collect();
            let all = isolated(lock, installed, tree, &commands, &own_bins(lock));
            (all.places, Some((all.links, all.commands)))
        }
    };
    for (dir, one) in &places.by_dir {
        for file in one.files {
            let path = format!("{dir}/{}", file.path);
            want.insert(path, Want::File { file, role: Role::Plain });
        }
        for (path, target) in one.links {
            let path = format!("{dir}/{path}");
            if tree.contains_key(&path) {
                want.insert(path, Want::Link([target.clone()].into()));
            }
        }
        if lock.patch_of(one.package).is_some() {
            let marks = tree.range(format!("{dir}/{MARK}")..).map(|(path, _)| path);
            let marks = marks.take_while(|path| path.starts_with(&format!("{dir}/{MARK}")));
            want.extend(marks.filter(|path| is_mark(path)).map(|path| (path.clone(), Want::Mark)));
        }
        dirs.insert(dir.clone(), &one.package.key);
    }
    if let Some((links, commands)) = isolated {
        for (dir, one) in &places.by_dir {
            // Bun makes one file of all copies of it, so it may be executable for the sake of another.
            for (_, file) in bins(one) {
                if let Some(Want::File { role, .. }) = want.get_mut(&format!("{dir}/{file}")) {
                    *role = Role::Perhaps;
                }
            }
        }
        for path in commands {
            if let Some(Want::File { role, .. }) = want.get_mut(&path) {
                *role = Role::Command;
            }
        }
        want.extend(links.into_iter().map(|(link, targets)| (link, Want::Link(targets))));
        return finished(&want, &dirs, &places, tree);
    }
    for package in lock.packages.values() {
        if let (Some(path), Some(dir)) = (package.linked(), lock.dir_of(&package.key)) {
            let up = "../".repeat(dir.matches('/').count());
            want.insert(dir, Want::Link([format!("{up}{path}")].into()));
        }
    }
    let mut links: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (dir, one) in &places.by_dir {
        commands(lock, &places, dir, one, &want, &mut links);
    }
    let own = own_commands(lock);
    for (link, files) in links {
        // A file of the source is as the source has it again, after Bun made it executable.
        let own_file = |path: &String| {
            let one = package_of(path).and_then(|dir| places.by_dir.get(dir));
            one.is_some_and(|one| one.package.kind == SourceKind::File)
        };
        let one = files.len() == 1 && !files.iter().any(own_file);
        let role = if one { Role::Command } else { Role::Perhaps };
        let modules = link.rsplit_once(".bin/").map_or("", |(modules, _)| modules);
        let mut targets = BTreeSet::new();
        for path in &files {
            if let Some(Want::File { role: old, .. }) = want.get_mut(path) {
                *old = role.max(*old);
            }
            targets.extend(path.strip_prefix(modules).map(|path| format!("../{path}")));
        }
        targets.extend(own.get(&link).into_iter().flatten().cloned());
        want.entry(link).or_insert(Want::Link(targets));
    }
    // The file of a command may be one that a step makes, and then Bun makes no link: what is there must lead to it.
    for (link, targets) in own {
        if tree.contains_key(&link) {
            want.entry(link).or_insert(Want::Link(targets));
        }
    }
    finished(&want, &dirs, &places, tree)
}

fn finished(
    want: &BTreeMap<String, Want<'_>>,
    dirs: &BTreeMap<String, &str>,
    places: &Places<'_>,
    tree: &Tree,
) -> Vec<Difference> {
    let mut out = judge(want, dirs, tree);
    out.extend(places.clashes.iter().map(|(dir, key)| {
        let there = places.by_dir.get(dir).map_or("", |one| &one.package.resolution);
        difference(What::MissingPackage, dir, key, &format!("{there} in its place"))
    }));
    out.sort();
    out
}

/// Adds the links in `.bin`, each with the files that it may lead to.
fn commands(
    lock: &BunLock,
    places: &Places<'_>,
    dir: &str,
    one: &Unpacked<'_>,
    want: &BTreeMap<String, Want<'_>>,
    links: &mut BTreeMap<String, BTreeSet<String>>,
) {
    let alias = one.package.alias();
    let Some(modules) = alias.and_then(|alias| dir.strip_suffix(alias)) else { return };
    for (name, file) in bins(one) {
        let mut files = BTreeSet::from([format!("{dir}/{file}")]);
        // For some packages (esbuild) Bun links the program of the platform's own package instead.
        let own = one.package.needs.optional.keys().filter_map(|need| {
            places.by_key.get(lock.resolve(&one.package.key, need)?.key.as_str())
        });
        let own = own.flatten().filter(|dir| dir.starts_with(modules));
        files.extend(own.map(|dir| format!("{dir}/{file}")));
        files.retain(|path| matches!(want.get(path), Some(Want::File { .. })));
        if !files.is_empty() {
            links.entry(format!("{modules}.bin/{name}")).or_default().extend(files);
        }
    }
}

/// The links that Bun makes for the commands of the source's own packages, with the targets that each may have.
fn own_commands(lock: &BunLock) -> BTreeMap<String, BTreeSet<String>> {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let own = own_bins(lock);
    for package in lock.packages.values() {
        let (SourceKind::Workspace(path), Some(dir)) = (&package.kind, lock.dir_of(&package.key))
        else {
            continue;
        };
        let Some(alias) = package.alias() else { continue };
        let Some(modules) = dir.strip_suffix(alias) else { continue };
        for (name, file) in own.get(path.as_str()).into_iter().flatten() {
            let link = out.entry(format!("{modules}.bin/{name}")).or_default();
            link.insert(format!("../{alias}/{file}"));
        }
    }
    out
}

/// Names and files of the commands of the source's own packages, by their directories.
fn own_bins(lock: &BunLock) -> BTreeMap<&str, Commands> {
    let all = lock.workspaces.iter().filter_map(|(path, workspace)| match &workspace.bin {
        Bin::Files(files) => Some((path.as_str(), plain_names(files))),
        _ => None,
    });
    all.collect()
}

/// Commands with their paths made plain. `@scope/name` as a command's name is linked as `name`.
fn plain_names(files: &BTreeMap<String, String>) -> Commands {
    let name = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    files.iter().filter_map(|(command, file)| Some((name(command), plain(file)?))).collect()
}

/// Names and files of a package's commands, the paths made plain.
fn bins(one: &Unpacked<'_>) -> Commands {
    match &one.package.bin {
        Bin::None => Vec::new(),
        Bin::Files(files) => plain_names(files),
        Bin::Dir(dir) => {
            let Some(dir) = plain(dir) else { return Vec::new() };
            let direct = |file: &File| {
                let name = file.path.strip_prefix(&dir)?.strip_prefix('/')?;
                (!name.contains('/')).then(|| (name.to_owned(), file.path.clone()))
            };
            one.files.iter().filter_map(direct).collect()
        }
    }
}

fn judge(
    want: &BTreeMap<String, Want<'_>>,
    dirs: &BTreeMap<String, &str>,
    tree: &Tree,
) -> Vec<Difference> {
    let mut out = BTreeSet::new();
    let mut there: BTreeSet<&str> = BTreeSet::new();
    for path in tree.keys().filter(|path| want.contains_key(*path)) {
        there.extend(package_of(path));
    }
    // A package of which nothing is known cannot be there as it must be.
    for (dir, key) in dirs.iter().filter(|(dir, _)| !below(want, dir)) {
        out.insert(difference(What::MissingPackage, dir, key, "nothing was unpacked for it"));
    }
    for (path, want) in want {
        let package = package_of(path).filter(|dir| dirs.contains_key(*dir));
        match tree.get(path) {
            Some(found) => out.extend(differs(path, want, found)),
            None => match package {
                Some(dir) if !there.contains(dir) => {
                    let key = dirs.get(dir).copied().unwrap_or_default();
                    out.insert(difference(What::MissingPackage, dir, key, "nothing"));
                }
                _ => drop(out.insert(difference(What::Missing, path, &want.words(), "nothing"))),
            },
        }
    }
    for (path, found) in tree.iter().filter(|(path, _)| !want.contains_key(*path)) {
        match package_of(path).filter(|dir| !dirs.contains_key(*dir)) {
            // Files that a package brings in a node_modules of its own belong to it.
            Some(dir) if !below(want, dir) => {
                out.insert(difference(What::ExtraPackage, dir, "nothing", "a package"));
            }
            _ => drop(out.insert(difference(What::Extra, path, "nothing", &found.words()))),
        }
    }
    out.into_iter().collect()
}

/// The innermost package directory that `path` lies in or is: up to one name, or a scope and one, after the last
/// `node_modules/`. `None` for links in `.bin` and loose files.
fn package_of(path: &str) -> Option<&str> {
    let start = match path.rfind("/node_modules/") {
        Some(at) => at + "/node_modules/".len(),
        None => "node_modules/".len(),
    };
    let rest = path.get(start..)?;
    let names = if rest.starts_with('@') { 2 } else { 1 };
    let end = rest.match_indices('/').nth(names - 1).map_or(path.len(), |(at, _)| start + at);
    (!rest.starts_with('.')).then(|| &path[..end])
}

fn differs(path: &str, want: &Want<'_>, found: &TreeEntry) -> Option<Difference> {
    let same = match (want, found) {
        (Want::Link(targets), TreeEntry::Link(target)) => targets.contains(target),
        (Want::Mark, TreeEntry::File { digest, .. }) => *digest == blake3::hash(b""),
        (Want::File { file, role }, TreeEntry::File { digest, executable }) => {
            let plain = &file.digest == digest && file.executable == *executable;
            let command = file.unix.as_ref().unwrap_or(&file.digest) == digest && *executable;
            match role {
                Role::Plain => plain,
                Role::Perhaps => plain || command,
                Role::Command => command,
            }
        }
        _ => false,
    };
    (!same).then(|| difference(What::Changed, path, &want.words(), &found.words()))
}

fn difference(what: What, path: &str, expected: &str, found: &str) -> Difference {
    let (path, expected, found) = (path.to_owned(), expected.to_owned(), found.to_owned());
    Difference { what, path, expected, found }
}

fn file_words(digest: &Hash, executable: bool) -> String {
    format!("blake3:{}{}", digest.to_hex(), if executable { ", executable" } else { "" })
}

impl Want<'_> {
    fn words(&self) -> String {
        match self {
            Want::File { file, role: Role::Plain } => file_words(&file.digest, file.executable),
            Want::File { file, .. } => file_words(file.unix.as_ref().unwrap_or(&file.digest), true),
            Want::Link(targets) => {
                let all: Vec<&str> = targets.iter().map(String::as_str).collect();
                format!("a link to {}", all.join(" or "))
            }
            Want::Mark => "an empty file".into(),
        }
    }
}

impl TreeEntry {
    fn words(&self) -> String {
        match self {
            TreeEntry::File { digest, executable } => file_words(digest, *executable),
            TreeEntry::Link(target) => format!("a link to {}", super::names::show(target)),
            TreeEntry::Other(what) => (*what).to_owned(),
        }
    }
}
