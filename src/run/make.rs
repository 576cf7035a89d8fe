//! A fixture made from what a user has: a directory with the work that is to be done, and the same with it done. What
//! neither says is asked for by flag, all of it in one error; nothing is written before the whole is examined and holds.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde_json::Value;

use super::examine::{self, Examined};
use super::fixture;
use super::judge;
use super::patch::{self, Content, Files};
use super::tools;
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::host::open_regular;
use crate::look::{Open, not_whole};
use crate::record::fixture::{
    FixtureOrigin, FixtureRecord, HeldOut, HeldOutCase, JudgeName, Profile, ProgramCall, TaskHead,
    workspace,
};
use crate::record::ids::{CommitId, Name, RelPath};
use crate::record::lockfile::Source;
use crate::record::{self, Record as _};
use crate::root::Root;
use crate::sandbox::Launcher;

/// What no fixture holds: repositories, and what tools make.
const LEFT_OUT: [&str; 9] = [
    ".git",
    ".case",
    "node_modules",
    "__pycache__",
    ".pytest_cache",
    ".venv",
    ".mypy_cache",
    ".ruff_cache",
    ".DS_Store",
];

/// Most files of a workspace, and most bytes of all of them.
const FILES: usize = 2_000;
const BYTES: usize = 16 << 20;

/// Longest title that is made of the issue, in characters.
const TITLE: usize = 72;

/// What the user says.
#[derive(Clone, Debug, clap::Args)]
pub struct Ask {
    /// The files as an agent shall find them, or a repository with its commit (40 hex digits, or newest)
    #[arg(long, value_name = "DIR|URL@REV")]
    pub from: From,
    /// The same files with the work done, or a patch that does it
    #[arg(long, value_name = "DIR|PATCH")]
    pub solution: Option<PathBuf>,
    /// A file that draws calls of the solved functions, anew for every run
    #[arg(long, value_name = "FILE")]
    pub generator: Option<PathBuf>,
    /// A call that is made in every run, such as 'MODULE FUNCTION ["argument"]', or '[["word"], "standard input"]' of a
    /// program; may be repeated
    #[arg(long = "call", value_name = "CALL")]
    pub calls: Vec<String>,
    /// What the agent is asked to do, in a few sentences
    #[arg(long, value_name = "TEXT", conflicts_with = "issue_file")]
    pub issue: Option<String>,
    /// A file with what the agent is asked to do
    #[arg(long, value_name = "FILE")]
    pub issue_file: Option<PathBuf>,
    /// The task in a few words [default: the issue's first sentence]
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// Who judges [default: by the files]
    #[arg(long, value_name = "JUDGE", value_parser = PossibleValuesParser::new(JudgeName::ALL.map(JudgeName::as_str)).try_map(|text| record::of_word::<JudgeName>(&text)))]
    pub judge: Option<JudgeName>,
    /// A command that runs the tests, words separated by spaces; for a task in any language
    #[arg(long, value_name = "COMMAND", default_value = "", hide_default_value = true)]
    pub verify: String,
    /// The program that calls start beside --verify, words separated by spaces
    #[arg(long, value_name = "COMMAND", default_value = "", hide_default_value = true)]
    pub program: String,
    /// A file that may change [default: what the solution changes]; may be repeated
    #[arg(long, value_name = "PATH")]
    pub allow: Vec<RelPath>,
    /// A test that counts, as its runner names it [default: all that the runner finds]; may be repeated
    #[arg(long = "test", value_name = "ID")]
    pub tests: Vec<String>,
    /// Put it in place of the one of this name
    #[arg(long)]
    pub replace: bool,
    /// Longest time of the tests
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600), default_value = "60")]
    pub seconds: u64,
}

/// Where the work is.
#[derive(Clone, Debug)]
pub enum From {
    Directory(PathBuf),
    Commit {
        /// `https://…`, `http://…` or `file:///…`.
        url: String,
        /// The tip of the default branch where there is none.
        rev: Option<CommitId>,
    },
}

impl std::str::FromStr for From {
    type Err = String;

    /// A directory, or `URL@REV`, the latter a commit of 40 hex digits or `newest`.
    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            return Ok(From::Directory(text.into()));
        }
        let Some((url, rev)) = text.rsplit_once('@').filter(|(_, rev)| !rev.contains('/')) else {
            return Err(format!(
                "a repository is named with its commit: {text}@COMMIT, or @newest"
            ));
        };
        let rev = match rev {
            "newest" => None,
            rev => Some(rev.parse::<CommitId>().map_err(|err| err.to_string())?),
        };
        Ok(From::Commit { url: url.to_owned(), rev })
    }
}

#[derive(Debug)]
pub struct Made {
    pub record: FixtureRecord,
    pub examined: Examined,
    /// What was found out, and from what.
    pub proposed: Vec<(&'static str, String)>,
    /// Where it was written; nowhere where it does not hold.
    pub written: Option<PathBuf>,
}

/// Makes the fixture `name`, examines it, and writes it if it holds.
///
/// # Errors
/// [`Reason::BadArgument`] naming every flag that is missing or wrong, and where there is one of that name; those of
/// reading and of [`examine::examine`].
pub fn make(context: &Context, name: &Name, ask: &Ask) -> Result<Made> {
    let host = &context.host;
    let issue = match ask.issue_file.as_ref().map(|path| host.absolute(path)) {
        None => ask.issue.clone(),
        Some(path) => {
            Some(std::fs::read_to_string(&path).map_err(|err| Error::io("read", &path, err))?)
        }
    };
    let root = context.root()?;
    let below = format!("fixtures/{name}");
    let below: RelPath =
        below.parse().map_err(|err| Error::new(Reason::BadArgument, "the name").caused_by(err))?;
    if !ask.replace && root.below(&format!("{below}/")).next().is_some() {
        return Err(Error::new(Reason::BadArgument, "there is a fixture of this name already")
            .at(root.place(below.as_str()))
            .hint(format!("take another name, or look at it: admit fixture show {name}")));
    }
    let mut open = Vec::new();
    let mut proposed = Vec::new();
    let (mut files, origin) = match &ask.from {
        From::Directory(dir) => {
            let dir = host.absolute(dir);
            (read(&dir, &dir.display().to_string())?, None)
        }
        From::Commit { url, rev } => {
            let (files, origin) = commit(context, url, rev.as_ref())?;
            proposed.push(("origin", format!("{url} at {}", origin.rev)));
            (files, Some(origin))
        }
    };
    let [verify, program] = [&ask.verify, &ask.program]
        .map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let own = !verify.is_empty() || !program.is_empty();
    let judge = ask.judge.or_else(|| {
        if own {
            return Some(JudgeName::Command);
        }
        let judge = language(&files)?;
        proposed.push(("judge", format!("{}, by its files", judge.as_str())));
        Some(judge)
    });
    if judge.is_none() {
        let [others @ .., last] = JudgeName::ALL.map(JudgeName::as_str);
        let others = others.join(", ");
        let why = format!("the files do not say whose tests these are: {others} or {last}");
        open.push(Open::new("--judge", why));
    }
    let judge = judge.unwrap_or_default();
    let command = judge == JudgeName::Command;
    for (flag, given, why) in [
        ("--verify", &verify, "the command that runs the tests, such as 'sh tests/run.sh'"),
        ("--program", &program, "the program that calls start, such as 'sh main.sh'"),
    ] {
        match (command, given.is_empty()) {
            (true, true) => open.push(Open::new(flag, why)),
            (false, false) => {
                let why = format!("the judge {} has its own: leave it out", judge.as_str());
                open.push(Open::new(flag, why));
            }
            _ => {}
        }
    }
    let mut record = FixtureRecord {
        schema: FixtureRecord::SCHEMA.to_string(),
        name: name.clone(),
        judge,
        repo: None,
        profile: Profile::default(),
        origin,
        task: TaskHead { id: None, title: String::new(), issue: String::new() },
        allowed_paths: ask.allow.clone(),
        forbidden_actions: Vec::new(),
        verification_command: verify,
        program,
        test_ids: ask.tests.clone(),
        ignored: Vec::new(),
        generator: None,
        held_out: calls(&ask.calls, command, &mut open),
        evidence_expectations: Vec::new(),
        workspace: workspace(),
        task_file: None,
        reference_patch: None,
        script: None,
        tools: Vec::new(),
    };
    fixture::fill(&mut record);
    if ignore(&mut files, &record)? {
        proposed.push((".gitignore", "lists what tools make".into()));
    }
    let solved = match &ask.solution {
        None => {
            let why = "a directory with the same files solved, or a patch that solves them";
            open.push(Open::new("--solution", why));
            None
        }
        Some(path) => solution(&host.absolute(path), &files, &mut open)?,
    };
    let changed = solved.as_ref().map(|solved| patch::changed(&files, solved)).unwrap_or_default();
    if solved.is_some() && changed.is_empty() {
        open.push(Open::new("--solution", "it changes nothing"));
    }
    if record.allowed_paths.is_empty() && !changed.is_empty() {
        record.allowed_paths = changed;
        let paths: Vec<&str> = record.allowed_paths.iter().map(RelPath::as_str).collect();
        proposed.push(("allowed_paths", format!("{}, by the solution", paths.join(", "))));
    }
    task(&mut record, ask, issue, &mut open, &mut proposed);
    let generator = generator(context, &mut record, ask, &mut open)?;
    if !open.is_empty() {
        let missing = ["thing is missing", "things are missing"];
        return Err(not_whole(name, "the fixture", missing, &open));
    }
    let solved = solved.unwrap_or_default();
    let mut all = BTreeMap::new();
    put(&mut all, record.workspace.as_str(), &files)?;
    // A file that is gone cannot be put over another; a patch says it.
    if files.keys().all(|path| solved.contains_key(path)) {
        let changed = patch::changed(&files, &solved);
        let over =
            changed.iter().filter_map(|path| Some((path.clone(), solved.get(path)?.clone())));
        put(&mut all, fixture::SOLUTION, &over.collect())?;
    } else {
        let path: RelPath = at("reference.patch")?;
        all.insert(path.clone(), patch::make(&files, &solved));
        record.reference_patch = Some(path);
    }
    if let (Some(path), Some(bytes)) = (&record.generator, generator) {
        all.insert(path.clone(), bytes);
    }
    let wall = Duration::from_secs(ask.seconds);
    let mut supposed = suppose(&root, &below, &mut all, &record)?;
    if record.test_ids.is_empty() {
        context.progress.stage("tests", "which the runner finds");
        record.test_ids = found(context, &supposed, name, &solved, wall)?;
        proposed.push(("test_ids", format!("{} tests, by running them", record.test_ids.len())));
        supposed = suppose(&root, &below, &mut all, &record)?;
    }
    context.progress.stage("check", name.as_str());
    let examined = examine::examine(context, &supposed, name, wall)?;
    let written = match examined.holds() {
        false => None,
        true => Some(context.write_root(|root| root.put_directory(&below, &all, ask.replace))?),
    };
    Ok(Made { record, examined, proposed, written })
}

/// The root as it would be with the fixture.
fn suppose(
    root: &Root,
    below: &RelPath,
    all: &mut BTreeMap<RelPath, Vec<u8>>,
    record: &FixtureRecord,
) -> Result<Root> {
    // What has a default is left out.
    let own = record.judge == JudgeName::Command;
    let short = FixtureRecord {
        verification_command: if own { record.verification_command.clone() } else { Vec::new() },
        ignored: Vec::new(),
        tools: Vec::new(),
        forbidden_actions: Vec::new(),
        evidence_expectations: Vec::new(),
        ..record.clone()
    };
    all.insert(at("fixture.json")?, record::pretty(&short));
    Ok(root.supposing(below, all))
}

fn at(path: &str) -> Result<RelPath> {
    path.parse().map_err(|err| Error::new(Reason::BadArgument, "a path").at(path).caused_by(err))
}

fn put(all: &mut BTreeMap<RelPath, Vec<u8>>, below: &str, files: &Files) -> Result<()> {
    for (path, content) in files {
        all.insert(at(&format!("{below}/{path}"))?, content.bytes().to_vec());
    }
    Ok(())
}

/// The tests that pass with the solution, by running all that the runner finds.
fn found(
    context: &Context,
    supposed: &Root,
    name: &Name,
    solved: &Files,
    wall: Duration,
) -> Result<Vec<String>> {
    let (fixture, _) = fixture::inspect(supposed, name)?;
    let store = context.store()?;
    let tools = tools::of(context, supposed, &store, &fixture.record)?;
    let scratch = store.scratch()?;
    let launcher = Launcher::own(scratch.path());
    let judge = judge::choose::of(&fixture, &launcher, &tools, wall)?;
    let tests = judge.tests(&fixture, solved)?;
    let failed: Vec<&str> =
        tests.found.iter().filter(|(_, passed)| !**passed).map(|(id, _)| id.as_str()).collect();
    let bad = |what: &str, found: String| {
        let lines: Vec<&str> = tests.log.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(15)..].join("\n");
        Error::new(Reason::BadArgument, what)
            .expected("tests that all pass with the solution")
            .found(found)
            .caused_by(last)
            .hint("correct the solution or the tests, or name those that count with --test")
    };
    if tests.found.is_empty() {
        return Err(bad("the runner finds no tests", "none".into()));
    }
    if !failed.is_empty() {
        return Err(bad("tests fail with the solution", failed.join(", ")));
    }
    Ok(tests.found.into_keys().collect())
}

/// Whose tests these are, where the files leave no doubt.
fn language(files: &Files) -> Option<JudgeName> {
    let there = |judge: &JudgeName| {
        let its = |path: &RelPath| judge.suffixes().iter().any(|end| path.as_str().ends_with(end));
        files.keys().any(its)
    };
    let mut judges = JudgeName::ALL.into_iter().filter(there);
    judges.next().filter(|_| judges.next().is_none())
}

/// Adds to the workspace's `.gitignore` what a judge wants to see there; whether that was needed.
fn ignore(files: &mut Files, record: &FixtureRecord) -> Result<bool> {
    let path = at(".gitignore")?;
    let mut text = files.get(&path).map_or(Vec::new(), |file| file.bytes().to_vec());
    let before = text.len();
    for name in &record.ignored {
        let line = format!("{name}/");
        if !text.split(|byte| *byte == b'\n').any(|there| there == line.as_bytes()) {
            if !text.is_empty() && !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            text.extend([line.as_bytes(), b"\n"].concat());
        }
    }
    let changed = text.len() > before;
    files.insert(path, Content::plain(text));
    Ok(changed)
}

/// The workspace with the solution: a directory is put over it, a patch applied.
fn solution(path: &Path, files: &Files, open: &mut Vec<Open>) -> Result<Option<Files>> {
    if !path.is_dir() {
        let bytes = std::fs::read(path).map_err(|err| Error::io("read", path, err))?;
        return Ok(match patch::apply(files, &bytes) {
            Ok(solved) => Some(solved),
            Err(what) => {
                let why = format!("the patch does not apply ({what}): make it with git diff");
                open.push(Open::new("--solution", why));
                None
            }
        });
    }
    let mut solved = files.clone();
    let mut over = read(path, &path.display().to_string())?;
    over.remove(&at(".gitignore")?);
    solved.extend(over);
    Ok(Some(solved))
}

fn task(
    record: &mut FixtureRecord,
    ask: &Ask,
    issue: Option<String>,
    open: &mut Vec<Open>,
    proposed: &mut Vec<(&'static str, String)>,
) {
    let Some(issue) = issue.as_deref().map(str::trim).filter(|issue| !issue.is_empty()) else {
        let why = "what an agent is asked to do, in a few sentences; or --issue-file";
        return open.push(Open::new("--issue", why));
    };
    record.task.issue = issue.to_owned();
    record.task.title = ask.title.clone().unwrap_or_else(|| {
        let line = issue.lines().next().unwrap_or(issue);
        let first = line.split(". ").next().unwrap_or(line).trim_end_matches('.');
        let title: String = first.chars().take(TITLE).collect();
        proposed.push(("title", format!("{title}, by the issue")));
        title
    });
}

fn generator(
    context: &Context,
    record: &mut FixtureRecord,
    ask: &Ask,
    open: &mut Vec<Open>,
) -> Result<Option<Vec<u8>>> {
    let Some(path) = &ask.generator else {
        if record.held_out.is_empty() && !open.iter().any(|one| one.flag == "--call") {
            let call = record.judge.call_form();
            let why = "a file that draws calls anew for every run (docs/own-fixture.md); or fixed ones: --call";
            open.push(Open::new("--generator", format!("{why} '{call}'")));
        }
        return Ok(None);
    };
    let path = context.host.absolute(path);
    record.generator = Some(at(record.judge.generator_name())?);
    std::fs::read(&path).map(Some).map_err(|err| Error::io("read", &path, err))
}

/// The calls that are made in every run, by module and function; of a program those that a `command` judge makes.
fn calls(texts: &[String], command: bool, open: &mut Vec<Open>) -> Vec<HeldOut> {
    let mut groups: Vec<HeldOut> = Vec::new();
    for text in texts {
        let (module, function, args) = match if command { started(text) } else { called(text) } {
            Ok(call) => call,
            Err(why) => {
                open.push(Open::new("--call", format!("{text:?} is not: {why}")));
                continue;
            }
        };
        let case = HeldOutCase { args, expected: None };
        match groups.iter_mut().find(|one| one.module == module && one.function == function) {
            Some(group) => group.cases.push(case),
            None => groups.push(HeldOut {
                module: module.into(),
                function: function.into(),
                cases: vec![case],
            }),
        }
    }
    groups
}

/// Module, function and arguments.
type Call<'a> = (&'a str, &'a str, Vec<Value>);

/// The call of a program, which has no module and no function.
fn started(text: &str) -> Result<Call<'_>, String> {
    let args = serde_json::from_str::<Vec<Value>>(text).map_err(|err| err.to_string());
    let args = args.and_then(|args| ProgramCall::of(&args).map(|_| args));
    let args = args.map_err(|what| format!("[[\"word\"], \"standard input\"]: {what}"))?;
    Ok(("", "", args))
}

fn called(text: &str) -> Result<Call<'_>, String> {
    let mut words = text.trim().splitn(3, ' ');
    let parts = (words.next(), words.next(), words.next());
    let args = parts.2.and_then(|args| serde_json::from_str::<Vec<Value>>(args).ok());
    match (parts.0, parts.1, args) {
        (Some(module), Some(function), Some(args)) => Ok((module, function, args)),
        _ => Err("MODULE FUNCTION [ARGUMENTS], the last a list in JSON".into()),
    }
}

/// The files of a directory, without what no fixture holds.
///
/// # Errors
/// [`Reason::BadArgument`] for what a fixture cannot hold: links, special files, names that are not UTF-8, too much.
fn read(dir: &Path, place: &str) -> Result<Files> {
    let top = Dir::open_ambient_dir(dir, ambient_authority())
        .map_err(|err| Error::io("open", dir, err))?;
    let mut reader = Reader { top: place, files: Files::new(), bytes: 0 };
    reader.directory(&top, "")?;
    Ok(reader.files)
}

/// The files of a commit, and where they are from. A submodule is a part of it.
fn commit(context: &Context, url: &str, rev: Option<&CommitId>) -> Result<(Files, FixtureOrigin)> {
    let network = context.network()?;
    let fetcher = network.fetcher();
    let rev = match rev {
        Some(rev) => rev.clone(),
        None => fetcher.newest(url)?,
    };
    let source = fetcher.source(&Source::at(url, &rev))?;
    let files = read(source.files.path(), &format!("{url}@{rev}"))?;
    let origin = FixtureOrigin { url: url.to_owned(), rev, tree: source.tree };
    Ok((files, origin))
}

struct Reader<'a> {
    /// What is read, for errors.
    top: &'a str,
    files: Files,
    bytes: usize,
}

impl Reader<'_> {
    fn refused(&self, path: &str, what: &str) -> Error {
        Error::new(Reason::BadArgument, what)
            .at(format!("{}: {path}", self.top))
            .expected(format!("regular files, at most {FILES} with {} MiB in all", BYTES >> 20))
            .hint("copy what the task needs into a directory of its own, and name that one")
    }

    fn directory(&mut self, dir: &Dir, below: &str) -> Result<()> {
        let io = |err| Error::io("read", format!("{}/{below}", self.top), err);
        let mut entries =
            dir.entries().map_err(io)?.collect::<std::io::Result<Vec<_>>>().map_err(io)?;
        entries.sort_by_key(cap_std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_str();
            let name = name.ok_or_else(|| self.refused(below, "a file name is not UTF-8"))?;
            if LEFT_OUT.contains(&name) || name.ends_with(".pyc") {
                continue;
            }
            let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            let io = |err| Error::io("read", format!("{}/{path}", self.top), err);
            let kind = entry.file_type().map_err(io)?;
            if kind.is_dir() {
                let dir = entry.open_dir().map_err(io)?;
                self.directory(&dir, &path)?;
                continue;
            }
            if !kind.is_file() {
                return Err(
                    self.refused(&path, "a link or a special file has no place in a fixture")
                );
            }
            let mut bytes = Vec::new();
            let room = (BYTES + 1 - self.bytes) as u64;
            let file = open_regular(dir, name).map_err(io)?;
            file.take(room).read_to_end(&mut bytes).map_err(io)?;
            self.bytes += bytes.len();
            if self.bytes > BYTES || self.files.len() >= FILES {
                return Err(self.refused(&path, "too much for a fixture"));
            }
            self.files.insert(at(&path)?, Content::plain(bytes));
        }
        Ok(())
    }
}
