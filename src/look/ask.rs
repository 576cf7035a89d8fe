//! What a lock was asked to hold, and what is asked back where that is not enough.

use clap::builder::NonEmptyStringValueParser;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::propose::{Open, Proposal};
use crate::bun::names::{is_name, split_key};
use crate::error::{Error, Reason};
use crate::record;
use crate::record::ids::{AbsPath, CommitId, Digest, Name, RelPath, Sri};
use crate::record::lockfile::{Ambient, Lifecycle, Linker, Lockfile, RunShape};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rev {
    Commit(CommitId),
    /// The tip of the source's default branch.
    Newest,
}

/// What a lock was asked to hold. What is not given stays as it is, or comes from the source.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct Ask {
    /// Where the source is: https://…, file:///… or embedded:NAME
    #[arg(long, value_name = "URL")]
    pub source: Option<String>,
    /// The commit, all 40 hex digits, or `newest`: the tip of the default branch
    #[arg(long, value_name = "COMMIT", value_parser = rev)]
    pub rev: Option<Rev>,
    /// Take everything not given from the lock of this provider (default: one with the same source)
    #[arg(long, value_name = "PROVIDER")]
    pub like: Option<Name>,
    /// Version of Bun; its packages are looked up in the registry of the npm configuration
    #[arg(long, value_name = "VERSION")]
    pub bun: Option<String>,
    /// Look that version up for every platform, not only for this one
    #[arg(long, requires = "bun")]
    pub all_platforms: bool,
    /// The source's own lock, from its root; Bun installs and steps run in its directory
    #[arg(long, value_name = "PATH")]
    pub lockfile: Option<RelPath>,
    /// Directory inside the sandbox; part of the output's digest
    #[arg(long = "build-path", value_name = "PATH")]
    pub path: Option<AbsPath>,
    /// Leave that directory open: every build has one of its own, and no output can be locked
    #[arg(long = "open-build-path", conflicts_with = "path")]
    pub open_path: bool,
    /// Lock every program that the source compiles: NAME for the one of that name, NAME-PROGRAM for each other
    #[arg(long, requires = "source", requires = "rev", conflicts_with_all = ["update", "show", "steps", "output", "package"])]
    pub each_output: bool,
    /// A build step, words separated by spaces; may be repeated
    #[arg(long = "step", value_name = "COMMAND", value_parser = words)]
    pub steps: Option<Vec<Words>>,
    /// A variable of the build; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Option<Vec<(String, String)>>,
    /// The file that the build leaves, from the source's root
    #[arg(long, value_name = "PATH")]
    pub output: Option<RelPath>,
    /// A tracked file that the build modifies; may be repeated
    #[arg(long, value_name = "PATH")]
    pub writes: Option<Vec<RelPath>>,
    /// A package whose lifecycle scripts run in the sandbox; may be repeated
    #[arg(long = "script", value_name = "PACKAGE", value_parser = package)]
    pub scripts: Option<Vec<String>>,
    /// A package that the source trusts with scripts, and whose scripts do not run; may be repeated
    #[arg(long = "skip-script", value_name = "PACKAGE", value_parser = package)]
    pub skips: Option<Vec<String>>,
    /// What becomes of the lifecycle scripts of the source's own packages
    #[arg(long, value_name = "run|skip", value_parser = |text: &str| one_of::<Lifecycle>(text, "expected run or skip"))]
    pub lifecycle: Option<Lifecycle>,
    /// How Bun lays packages out [default: as the source has it]
    #[arg(long, value_name = "hoisted|isolated", value_parser = |text: &str| one_of::<Linker>(text, "expected hoisted or isolated"))]
    pub linker: Option<Linker>,
    /// Whether steps find a `git` that answers from the pin
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    pub git: Option<bool>,
    /// A git-lfs pointer of the source to build with as it is; may be repeated
    #[arg(long = "lfs-pointer", value_name = "PATH")]
    pub lfs_pointers: Option<Vec<RelPath>>,
    /// A file from elsewhere that steps need, as [PATH=]URL[#INTEGRITY]: admit fetches it, and steps find it at PATH or by
    /// `curl` and `wget`; may be repeated. Without an integrity: that of the file as it is now
    #[arg(long = "download", value_name = "[PATH=]URL", value_parser = download)]
    pub downloads: Option<Vec<Wanted>>,
    /// A package for which the source's lock has no integrity that can be used, by its key there, as KEY[=INTEGRITY]; may be
    /// repeated. Without an integrity: that of the file as it is now
    #[arg(long, value_name = "KEY[=INTEGRITY]", value_parser = integrity)]
    pub integrity: Option<Vec<(String, Option<Sri>)>>,
    /// A submodule to leave out, as a directory that is empty; may be repeated
    #[arg(long, value_name = "PATH")]
    pub without: Option<Vec<RelPath>>,
    /// First line that --help of the output must show; `{version}` stands for a version
    #[arg(long = "help-line", value_name = "TEXT", allow_hyphen_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub help_first_line: Option<String>,
    /// A command that --help of the output must list; may be repeated
    #[arg(long = "help-command", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub commands: Option<Vec<String>>,
    /// What --version of the output must print; `{version}` stands for a version (not asked where not given)
    #[arg(long = "version-text", value_name = "TEXT", allow_hyphen_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub version: Option<String>,
    /// The whole `run` section; what else is given goes over it.
    #[arg(skip)]
    pub run: Option<RunShape>,
    /// A word of the argument list with which a run starts the output, {task} for the task file; may be repeated
    #[arg(long = "run-arg", value_name = "WORD", allow_hyphen_values = true)]
    pub argv: Option<Vec<String>>,
    /// How autoloaded files are kept from the output: switched off from outside, or by how it was built
    #[arg(long, value_name = "neutralise|hardened", value_parser = |text: &str| one_of::<Ambient>(text, "expected neutralise or hardened"))]
    pub ambient: Option<Ambient>,
    /// The licence as an SPDX expression, settled
    #[arg(long, value_name = "SPDX")]
    pub license: Option<String>,
    /// A stage that the licence allows, 2 to 7; may be repeated
    #[arg(long = "allow-stage", value_name = "STAGE", value_parser = clap::value_parser!(u8).range(2..=7))]
    pub stages: Option<Vec<u8>>,
    /// Empty a field: env, writes, scripts, skip-scripts, lifecycle, lfs-pointers, without, downloads, integrity, help-line, help-commands,
    /// version-text, run-args, license; may be repeated
    #[arg(long, value_name = "FIELD", value_parser = |text: &str| one_of::<Field>(text, "not a field that can be empty"))]
    pub clear: Vec<Field>,
}

type Words = Vec<String>;

fn words(text: &str) -> Result<Words, String> {
    let words: Words = text.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() { Err("a step has at least one word".into()) } else { Ok(words) }
}

fn one_of<T: DeserializeOwned>(text: &str, expected: &str) -> Result<T, String> {
    record::of_word(text).map_err(|_| expected.to_owned())
}

fn rev(text: &str) -> Result<Rev, String> {
    match text {
        "newest" => Ok(Rev::Newest),
        text => text.parse::<CommitId>().map(Rev::Commit).map_err(|err| err.to_string()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn package(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err("not the name of a package".into()) }
}

fn download(text: &str) -> Result<Wanted, String> {
    let (text, integrity) = match text.rsplit_once('#') {
        Some((text, sri)) => {
            let integrity = Digest::from_sri(sri).map_err(|err| err.to_string())?;
            (text, Some(Sri(integrity)))
        }
        None => (text, None),
    };
    let (path, url) = match text.split_once('=') {
        Some((path, url)) if !path.contains("://") => (
            Some(path.parse().map_err(|_| format!("\"{path}\" is not a path in the source"))?),
            url,
        ),
        _ => (None, text),
    };
    if !url.contains("://") {
        return Err("expected [PATH=]URL[#INTEGRITY]".into());
    }
    Ok(Wanted { url: url.to_owned(), integrity, path })
}

fn integrity(text: &str) -> Result<(String, Option<Sri>), String> {
    let (key, given) = match text.split_once('=') {
        Some((key, sri)) => (key, Some(Sri(Digest::from_sri(sri).map_err(|err| err.to_string())?))),
        None => (text, None),
    };
    match split_key(key) {
        Some(_) => Ok((key.to_owned(), given)),
        None => Err("not a package's key in a bun.lock".into()),
    }
}

impl Ask {
    pub fn is_empty(&self) -> bool {
        *self == Ask::default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub url: String,
    /// Absent: that of the file as it is now.
    pub integrity: Option<Sri>,
    pub path: Option<RelPath>,
}

/// A field that a lock can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    Env,
    Writes,
    Scripts,
    #[serde(rename = "skip-scripts")]
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
        let why = "the source trusts this package with scripts at install; they run in the sandbox, or not at all";
        open.push(Open::new(format!("{run}, or {skip}"), why));
    }
    let accepted = given(&ask.lfs_pointers, there.map(|lock| &lock.build.lfs_pointers));
    for path in said.pointers.iter().filter(|path| !accepted.contains(path)) {
        let why = "a git-lfs pointer lies in place of the file; only the pointer can be built with";
        open.push(Open::new(flags("--lfs-pointer", accepted, path), why));
    }
    let has = |key: &String| match (&ask.integrity, there) {
        (Some(given), _) => given.iter().any(|(one, _)| one == key),
        (None, there) => there.is_some_and(|lock| lock.dependencies.integrity.contains_key(key)),
    };
    // That of one package is asked for anew with those of all: the flag gives the whole list.
    let all: Vec<&String> = said.weak.keys().collect();
    if all.iter().any(|key| !has(key)) {
        for key in all {
            let why = "the source's lock has no integrity for this package that can be used; that of the file as it is now is recorded, or the one that --integrity KEY=INTEGRITY names";
            open.push(Open::new(format!("--integrity {key}"), why));
        }
    }
    open
}

pub(super) fn missing(provider: &Name, open: &[Open]) -> Error {
    let said = ["thing the source does not say", "things the source does not say"];
    not_whole(provider, "the lock", said, open)
}

/// Every flag that is missing, in one error: of one, and of more than one, it says that.
pub fn not_whole(name: &Name, what: &str, [one, more]: [&str; 2], open: &[Open]) -> Error {
    let flags: Vec<&str> = open.iter().map(|one| one.flag.as_str()).collect();
    let count = match open.len() {
        1 => format!("one {one}"),
        n => format!("{n} {more}"),
    };
    let error = Error::new(Reason::BadArgument, format!("{what} is not whole: {count}"))
        .at(name.to_string())
        .expected(flags.join("  "))
        .found("not given; nothing was written");
    open.iter().fold(error, |error, one| error.hint(format!("{}: {}", one.flag, one.why)))
}
