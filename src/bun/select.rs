//! Which packages of a `bun.lock` one platform gets.
//!
//! Bun walks from the workspaces along what each package needs and leaves out every package whose `os` or `cpu` does
//! not match, optional or not, and with it what only that package needs (seen with 1.3.14 and 1.4.4). A name resolves
//! to the innermost key: `a/b` needs `c`: `a/b/c`, then `a/c`, then `c`.

use std::collections::{BTreeMap, BTreeSet};

use super::lockfile::{BunLock, Needs, Package, SourceKind};
use super::names::split_key;
use crate::error::{Error, Reason, Result};

#[derive(Clone, Debug, Default)]
pub struct Selection<'a> {
    pub packages: BTreeMap<&'a str, &'a Package>,
    /// Every resolved need: the one who needs (`""` is the root), the name it asks for, the key it gets.
    pub edges: BTreeSet<(&'a str, &'a str, &'a str)>,
}

impl BunLock {
    /// The packages that Bun installs on a platform, in npm's words: `linux`, `x64`, and the C library (`glibc`,
    /// `musl`) where Bun looks at it: 1.4 does, 1.3 does not (pass `None`).
    ///
    /// # Errors
    /// [`Reason::BadRecord`] where a name that is needed has no row.
    pub fn for_platform(&self, os: &str, cpu: &str, libc: Option<&str>) -> Result<Selection<'_>> {
        let fits = |package: &Package| {
            matches(&package.os, os, OS)
                && matches(&package.cpu, cpu, CPU)
                && libc.is_none_or(|libc| matches(&package.libc, libc, LIBC))
        };
        let mut out = Selection::default();
        let mut queue: Vec<(&str, &Needs, bool)> = Vec::new();
        for workspace in self.workspaces.values() {
            // A workspace is installed under its name; the root is the tree itself.
            let key = match workspace.name.as_deref() {
                Some(name) if self.is_workspace(name) => name,
                _ => "",
            };
            queue.push((key, &workspace.needs, true));
        }
        while let Some((from, needs, dev)) = queue.pop() {
            let groups = [(&needs.normal, false), (&needs.optional, true), (&needs.peer, false)];
            let dev = dev.then_some((&needs.dev, false));
            for (group, optional) in groups.into_iter().chain(dev) {
                for name in group.keys() {
                    let optional = optional
                        || needs.optional.contains_key(name)
                        || needs.optional_peers.contains(name);
                    let Some(package) = self.resolve(from, name) else {
                        if optional {
                            continue;
                        }
                        return Err(self.unresolved(from, name));
                    };
                    if !fits(package) {
                        continue;
                    }
                    out.edges.insert((from, name, &package.key));
                    if out.packages.insert(&package.key, package).is_none() {
                        queue.push((&package.key, &package.needs, false));
                    }
                }
            }
        }
        Ok(out)
    }

    fn is_workspace(&self, name: &str) -> bool {
        self.packages.get(name).is_some_and(|p| matches!(p.kind, SourceKind::Workspace(_)))
    }

    /// The row that `name` means for the package at key `from` (`""`: the root).
    pub fn resolve(&self, from: &str, name: &str) -> Option<&Package> {
        let mut names = if from.is_empty() { Vec::new() } else { split_key(from)? };
        loop {
            let key = match names.is_empty() {
                true => name.to_owned(),
                false => format!("{}/{name}", names.join("/")),
            };
            if let Some(package) = self.packages.get(&key) {
                return Some(package);
            }
            names.pop()?;
        }
    }

    fn unresolved(&self, from: &str, name: &str) -> Error {
        let who = if from.is_empty() { "the root" } else { from };
        let place = match self.packages.get(from) {
            Some(package) => package.place.clone(),
            None => self.place().to_owned(),
        };
        Error::new(Reason::BadRecord, format!("{who} needs \"{name}\", which has no row"))
            .at(place)
            .hint("write the lock anew with bun install")
    }
}

/// Operating systems that Bun knows; any other word in a list makes it match nothing of its own.
const OS: &[&str] = &["aix", "darwin", "freebsd", "linux", "openbsd", "sunos", "win32", "android"];
/// Processors that Bun knows.
const CPU: &[&str] =
    &["arm", "arm64", "ia32", "mips", "mipsel", "ppc", "ppc64", "s390", "s390x", "x32", "x64"];
/// C libraries that Bun knows.
const LIBC: &[&str] = &["glibc", "musl"];

/// Whether `have` is among `list`: nothing listed, all; only words with `!`, all but those; else those listed and not
/// excluded. A list of only unknown words matches nothing.
fn matches(list: &[String], have: &str, known: &[&str]) -> bool {
    let (mut added, mut removed, mut unknown, mut any) = (Vec::new(), Vec::new(), false, false);
    for word in list {
        match word.strip_prefix('!') {
            Some(word) if known.contains(&word) => removed.push(word),
            Some(_) => {}
            None if word.is_empty() => {}
            None if word == "any" => any = true,
            None if known.contains(&word.as_str()) => added.push(word.as_str()),
            None => unknown = true,
        }
    }
    let excluded = removed.contains(&have);
    match (added.is_empty(), removed.is_empty()) {
        _ if any => !excluded,
        (true, true) => !unknown,
        (true, false) => !excluded,
        (false, _) => added.contains(&have) && !excluded,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lab::lock;
    use super::*;

    fn keys(lock: &BunLock, os: &str, cpu: &str) -> String {
        let selection = lock.for_platform(os, cpu, None).unwrap();
        selection.packages.keys().copied().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_only_an_excluded_package_needs_is_excluded_too() {
        let lock = lock(
            r#"{"optionalDependencies": {"w": "1", "l": "1"}, "dependencies": {"a": "1"}}"#,
            r#""a": ["a@1.0.0", "", {}, ""],
               "l": ["l@1.0.0", "", {"os": "linux", "cpu": ["x64", "arm64"], "dependencies": {"d": "2"}}, ""],
               "w": ["w@1.0.0", "", {"os": "win32", "dependencies": {"d": "1", "only": "1"}}, ""],
               "d": ["d@1.0.0", "", {}, ""],
               "l/d": ["d@2.0.0", "", {}, ""],
               "only": ["only@1.0.0", "", {}, ""]"#,
        );
        assert_eq!(keys(&lock, "linux", "x64"), "a l l/d");
        assert_eq!(keys(&lock, "win32", "x64"), "a d only w");
        assert_eq!(keys(&lock, "linux", "ia32"), "a");
    }

    #[test]
    fn a_need_without_a_row_is_a_fault_unless_optional() {
        let rows = r#""a": ["a@1.0.0", "", {"peerDependencies": {"p": "1"}, "optionalPeers": ["p"],
            "optionalDependencies": {"o": "1"}, "devDependencies": {"never": "1"}}, ""]"#;
        assert_eq!(keys(&lock(r#"{"devDependencies": {"a": "1"}}"#, rows), "linux", "x64"), "a");
        let broken = lock(r#"{"dependencies": {"zz": "1"}}"#, rows);
        let err = broken.for_platform("linux", "x64", None).unwrap_err();
        assert_eq!(err.reason(), Reason::BadRecord);
        assert!(err.what().contains("\"zz\""));
    }

    #[test]
    fn lists_of_platforms_mean_what_bun_takes_them_for() {
        let is = |list: &[&str], have| {
            let list: Vec<String> = list.iter().map(|s| (*s).to_owned()).collect();
            matches(&list, have, CPU)
        };
        assert!(is(&[], "x64") && is(&["any"], "x64") && is(&["!arm64"], "x64"));
        assert!(is(&["arm64", "x64"], "x64") && is(&["riscv64", "x64"], "x64"));
        assert!(!is(&["none"], "x64") && !is(&["riscv64"], "x64") && !is(&["!x64"], "x64"));
        assert!(!is(&["x64", "!x64"], "x64") && !is(&["arm64"], "x64"));
        assert!(is(&["!riscv64"], "x64"));
    }
}
