//! What a lock was asked to hold, and what is asked back where that is not enough.

use std::collections::BTreeMap;

use super::propose::{Open, Proposal};
use crate::error::{Error, Reason};
use crate::record::ids::{AbsPath, CommitId, Name, RelPath, Sri};
use crate::record::lockfile::{Ambient, Lifecycle, Linker, Lockfile, RunShape};

/// Which commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rev {
    Commit(CommitId),
    /// The tip of the source's default branch.
    Newest,
}

/// What a lock was asked to hold. What is not given stays as it is, or comes from the source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ask {
    pub source: Option<String>,
    pub rev: Option<Rev>,
    /// Take what is not given from this provider's lock.
    pub like: Option<Name>,
    pub bun: Option<String>,
    /// Look that version up for every platform.
    pub all_platforms: bool,
    pub lockfile: Option<RelPath>,
    pub path: Option<AbsPath>,
    /// Leave the build path open.
    pub open_path: bool,
    pub steps: Option<Vec<Vec<String>>>,
    pub env: Option<BTreeMap<String, String>>,
    pub output: Option<RelPath>,
    /// Tracked files that the build modifies.
    pub writes: Option<Vec<RelPath>>,
    /// Packages whose lifecycle scripts run.
    pub scripts: Option<Vec<String>>,
    /// Trusted packages whose scripts do not run.
    pub skips: Option<Vec<String>>,
    pub lifecycle: Option<Lifecycle>,
    pub linker: Option<Linker>,
    pub git: Option<bool>,
    pub lfs_pointers: Option<Vec<RelPath>>,
    /// Downloads that are declared.
    pub downloads: Option<Vec<Wanted>>,
    /// Packages whose integrity the source's own lock does not have, by their keys in it; without one: that of the file
    /// as it is now.
    pub integrity: Option<Vec<(String, Option<Sri>)>>,
    /// Submodules that are left out.
    pub without: Option<Vec<RelPath>>,
    pub help_first_line: Option<String>,
    pub commands: Option<Vec<String>>,
    pub version: Option<String>,
    /// The whole `run` section; what else is given goes over it.
    pub run: Option<RunShape>,
    pub argv: Option<Vec<String>>,
    pub ambient: Option<Ambient>,
    pub license: Option<String>,
    pub stages: Option<Vec<u8>>,
    /// Fields to empty.
    pub clear: Vec<Field>,
}

impl Ask {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Ask::default()
    }
}

/// A download that is to be declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub url: String,
    /// Absent: that of the file as it is now.
    pub integrity: Option<Sri>,
    pub path: Option<RelPath>,
}

/// A field that a lock can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Env,
    Writes,
    Scripts,
    Skips,
    Lifecycle,
    LfsPointers,
    Without,
    Downloads,
    Integrity,
    HelpLine,
    HelpCommands,
    VersionText,
    RunArgs,
    License,
}

/// What the source leaves to whoever locks it, and neither a flag nor the lock that there is decides. Of flags that give a
/// whole list, what the lock has stands in the question too. A lock that does not name a package in `before`, which the
/// source trusted when it was made, has decided: no script of it runs.
pub(super) fn undecided(
    said: &Proposal,
    ask: &Ask,
    there: Option<&Lockfile>,
    before: &[String],
) -> Vec<Open> {
    fn given<'a, T>(flag: &'a Option<Vec<T>>, there: Option<&'a Vec<T>>) -> &'a [T] {
        flag.as_ref().or(there).map(Vec::as_slice).unwrap_or_default()
    }
    fn flags<T: ToString>(flag: &str, there: &[T], more: &T) -> String {
        let all = there.iter().chain([more]);
        all.map(|one| format!("{flag} {}", one.to_string())).collect::<Vec<_>>().join(" ")
    }
    let mut open = Vec::new();
    let scripts = given(&ask.scripts, there.map(|lock| &lock.build.scripts));
    let skips = given(&ask.skips, there.map(|lock| &lock.build.skips));
    let decided =
        |name: &String| scripts.contains(name) || skips.contains(name) || before.contains(name);
    for name in said.trusted.iter().filter(|name| !decided(name)) {
        let (run, skip) = (flags("--script", scripts, name), flags("--skip-script", skips, name));
        open.push(Open {
            flag: format!("{run}, or {skip}"),
            why: "the source trusts this package with scripts at install; they run in the sandbox, or not at all".into(),
        });
    }
    let accepted = given(&ask.lfs_pointers, there.map(|lock| &lock.build.lfs_pointers));
    for path in said.pointers.iter().filter(|path| !accepted.contains(path)) {
        open.push(Open {
            flag: flags("--lfs-pointer", accepted, path),
            why: "a git-lfs pointer lies in place of the file; only the pointer can be built with"
                .into(),
        });
    }
    let has = |key: &String| match (&ask.integrity, there) {
        (Some(given), _) => given.iter().any(|(one, _)| one == key),
        (None, there) => there.is_some_and(|lock| lock.dependencies.integrity.contains_key(key)),
    };
    // That of one package is asked for anew with those of all: the flag gives the whole list.
    let all: Vec<&String> = said.weak.keys().collect();
    if all.iter().any(|key| !has(key)) {
        for key in all {
            open.push(Open {
                flag: format!("--integrity {key}"),
                why: "the source's lock has no integrity for this package that can be used; that of the file as it is now is recorded, or the one that --integrity KEY=INTEGRITY names".into(),
            });
        }
    }
    open
}

/// Every flag that is missing, in one error.
pub(super) fn missing(provider: &Name, open: &[Open]) -> Error {
    let flags: Vec<&str> = open.iter().map(|one| one.flag.as_str()).collect();
    let what = match open.len() {
        1 => "the lock is not whole: one thing the source does not say".to_owned(),
        n => format!("the lock is not whole: {n} things the source does not say"),
    };
    let error = Error::new(Reason::BadArgument, what)
        .at(provider.to_string())
        .expected(flags.join("  "))
        .found("not given; nothing was written");
    open.iter().fold(error, |error, one| error.hint(format!("{}: {}", one.flag, one.why)))
}
