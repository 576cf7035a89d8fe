//! `admit lock`: list the locks, show one, make one from what a source says, change it, compare two, or fill in what a
//! build resolved.

use std::collections::BTreeMap;

use serde_json::json;

use super::app::App;
use crate::build;
use crate::bun::names::is_name;
use crate::error::{Error, Reason, Result};
use crate::host::platform;
use crate::lock::{self, Change};
use crate::look::{self, Ask, Field, Rev, Wanted};
use crate::record;
use crate::record::ids::{AbsPath, CommitId, Digest, Name, RelPath, Sri};
use crate::record::lockfile::{Ambient, Lifecycle, Linker, Lockfile, RunShape};
use crate::ui::{self, Mark};

/// List the locks, show one, make one from what a source says, or change it
///
/// A new lock is proposed from the source at that commit; what it does not say is asked for by flag, all at once, and
/// nothing is written before the lock is whole. For an existing lock a flag that is left out keeps what is there.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The provider; its lock is lockfiles/PROVIDER.lock.json. Absent: list all. `diff A B` compares two
    #[arg(value_name = "PROVIDER")]
    name: Option<Name>,
    #[arg(hide = true)]
    others: Vec<Name>,
    /// Print the lock and change nothing
    #[arg(long, conflicts_with_all = ["update", "source", "rev"])]
    show: bool,
    /// Fill in what the last build of this lock resolved: tree, NAR hash, packages, identity, output
    #[arg(long, conflicts_with_all = ["source", "rev"])]
    update: bool,
    /// Where the source is: https://…, file:///… or embedded:NAME
    #[arg(long, value_name = "URL")]
    source: Option<String>,
    /// The commit, all 40 hex digits, or `newest`: the tip of the default branch
    #[arg(long, value_name = "COMMIT", value_parser = rev)]
    rev: Option<Rev>,
    /// Take everything not given from the lock of this provider (default: one with the same source)
    #[arg(long, value_name = "PROVIDER")]
    like: Option<Name>,
    /// A published package with the program in it, or PACKAGE@VERSION: nothing is built, and no script of it runs
    #[arg(long, value_name = "PACKAGE", conflicts_with_all = ["update", "source", "rev", "like", "build_path", "open_build_path", "step", "output", "writes", "script", "show"])]
    package: Option<String>,
    /// The program in that package, below its top directory (default: the only one)
    #[arg(long, value_name = "PATH", requires = "package")]
    path: Option<RelPath>,
    /// Lock that program by its digest alone, whatever compiled it
    #[arg(long, requires = "package", conflicts_with = "bun")]
    native: bool,
    /// How the program is run: a file with the lock's `run` section (docs/agents.md)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["update", "show"])]
    run: Option<std::path::PathBuf>,
    /// Version of Bun; its packages are looked up in the registry of the npm configuration
    #[arg(long, value_name = "VERSION")]
    bun: Option<String>,
    /// Look that version up for every platform, not only for this one
    #[arg(long, requires = "bun")]
    all_platforms: bool,
    /// The source's own lock, from its root; Bun installs and steps run in its directory
    #[arg(long, value_name = "PATH")]
    lockfile: Option<RelPath>,
    /// Directory inside the sandbox; part of the output's digest
    #[arg(long, value_name = "PATH")]
    build_path: Option<AbsPath>,
    /// Leave that directory open: every build has one of its own, and no output can be locked
    #[arg(long, conflicts_with = "build_path")]
    open_build_path: bool,
    /// Lock every program that the source compiles: NAME for the one of that name, NAME-PROGRAM for each other
    #[arg(long, requires = "source", requires = "rev", conflicts_with_all = ["update", "show", "step", "output", "package"])]
    each_output: bool,
    /// A build step, words separated by spaces; may be repeated
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    step: Vec<Words>,
    /// A variable of the build; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// The file that the build leaves, from the source's root
    #[arg(long, value_name = "PATH")]
    output: Option<RelPath>,
    /// A tracked file that the build modifies; may be repeated
    #[arg(long, value_name = "PATH")]
    writes: Vec<RelPath>,
    /// A package whose lifecycle scripts run in the sandbox; may be repeated
    #[arg(long, value_name = "PACKAGE", value_parser = package)]
    script: Vec<String>,
    /// A package that the source trusts with scripts, and whose scripts do not run; may be repeated
    #[arg(long, value_name = "PACKAGE", value_parser = package)]
    skip_script: Vec<String>,
    /// What becomes of the lifecycle scripts of the source's own packages
    #[arg(long, value_name = "run|skip", value_parser = lifecycle)]
    lifecycle: Option<Lifecycle>,
    /// How Bun lays packages out [default: as the source has it]
    #[arg(long, value_name = "hoisted|isolated", value_parser = linker)]
    linker: Option<Linker>,
    /// Whether steps find a `git` that answers from the pin
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    git: Option<bool>,
    /// A git-lfs pointer of the source to build with as it is; may be repeated
    #[arg(long, value_name = "PATH")]
    lfs_pointer: Vec<RelPath>,
    /// A file from elsewhere that steps need, as [PATH=]URL[#INTEGRITY]: admit fetches it, and steps find it at PATH or by
    /// `curl` and `wget`; may be repeated. Without an integrity: that of the file as it is now
    #[arg(long, value_name = "[PATH=]URL", value_parser = download)]
    download: Vec<Wanted>,
    /// A package for which the source's lock has no integrity that can be used, by its key there, as KEY[=INTEGRITY]; may be
    /// repeated. Without an integrity: that of the file as it is now
    #[arg(long, value_name = "KEY[=INTEGRITY]", value_parser = integrity)]
    integrity: Vec<(String, Option<Sri>)>,
    /// A submodule to leave out, as a directory that is empty; may be repeated
    #[arg(long, value_name = "PATH")]
    without: Vec<RelPath>,
    /// First line that --help of the output must show; `{version}` stands for a version
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    help_line: Option<String>,
    /// A command that --help of the output must list; may be repeated
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    help_command: Vec<String>,
    /// What --version of the output must print; `{version}` stands for a version (not asked where not given)
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    version_text: Option<String>,
    /// A word of the argument list with which a run starts the output, {task} for the task file; may be repeated
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    run_arg: Vec<String>,
    /// How autoloaded files are kept from the output: switched off from outside, or by how it was built
    #[arg(long, value_name = "neutralise|hardened", value_parser = ambient)]
    ambient: Option<Ambient>,
    /// The licence as an SPDX expression, settled
    #[arg(long, value_name = "SPDX")]
    license: Option<String>,
    /// A stage that the licence allows, 2 to 7; may be repeated
    #[arg(long, value_name = "STAGE", value_parser = clap::value_parser!(u8).range(2..=7))]
    allow_stage: Vec<u8>,
    /// Empty a field: env, writes, scripts, skip-scripts, lifecycle, lfs-pointers, without, downloads, integrity, help-line, help-commands,
    /// version-text, run-args, license; may be repeated
    #[arg(long, value_name = "FIELD", value_parser = field)]
    clear: Vec<Field>,
}

/// The words of one step.
#[derive(Clone, Debug)]
struct Words(Vec<String>);

fn words(text: &str) -> Result<Words, String> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() { Err("a step has at least one word".into()) } else { Ok(Words(words)) }
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
    match crate::bun::names::split_key(key) {
        Some(_) => Ok((key.to_owned(), given)),
        None => Err("not a package's key in a bun.lock".into()),
    }
}

fn lifecycle(text: &str) -> Result<Lifecycle, String> {
    match text {
        "run" => Ok(Lifecycle::Run),
        "skip" => Ok(Lifecycle::Skip),
        _ => Err("expected run or skip".into()),
    }
}

fn linker(text: &str) -> Result<Linker, String> {
    match text {
        "hoisted" => Ok(Linker::Hoisted),
        "isolated" => Ok(Linker::Isolated),
        _ => Err("expected hoisted or isolated".into()),
    }
}

fn ambient(text: &str) -> Result<Ambient, String> {
    match text {
        "neutralise" => Ok(Ambient::Neutralise),
        "hardened" => Ok(Ambient::Hardened),
        _ => Err("expected neutralise or hardened".into()),
    }
}

fn field(text: &str) -> Result<Field, String> {
    Ok(match text {
        "env" => Field::Env,
        "writes" => Field::Writes,
        "scripts" => Field::Scripts,
        "skip-scripts" => Field::Skips,
        "lifecycle" => Field::Lifecycle,
        "lfs-pointers" => Field::LfsPointers,
        "without" => Field::Without,
        "downloads" => Field::Downloads,
        "integrity" => Field::Integrity,
        "help-line" => Field::HelpLine,
        "help-commands" => Field::HelpCommands,
        "version-text" => Field::VersionText,
        "run-args" => Field::RunArgs,
        "license" => Field::License,
        _ => return Err("not a field that can be empty".into()),
    })
}

impl Args {
    /// All but the file that `--run` names.
    fn ask(&self) -> Ask {
        fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
            (!list.is_empty()).then(|| list.to_vec())
        }
        let steps: Vec<Vec<String>> = self.step.iter().map(|step| step.0.clone()).collect();
        let env: BTreeMap<String, String> = self.env.iter().cloned().collect();
        Ask {
            source: self.source.clone(),
            rev: self.rev.clone(),
            like: self.like.clone(),
            bun: self.bun.clone(),
            all_platforms: self.all_platforms,
            lockfile: self.lockfile.clone(),
            path: self.build_path.clone(),
            open_path: self.open_build_path,
            steps: some(&steps),
            env: (!env.is_empty()).then_some(env),
            output: self.output.clone(),
            writes: some(&self.writes),
            scripts: some(&self.script),
            skips: some(&self.skip_script),
            lifecycle: self.lifecycle,
            linker: self.linker,
            git: self.git,
            lfs_pointers: some(&self.lfs_pointer),
            downloads: some(&self.download),
            integrity: some(&self.integrity),
            without: some(&self.without),
            help_first_line: self.help_line.clone(),
            commands: some(&self.help_command),
            version: self.version_text.clone(),
            run: None,
            argv: some(&self.run_arg),
            ambient: self.ambient,
            license: self.license.clone(),
            stages: some(&self.allow_stage),
            clear: self.clear.clone(),
        }
    }
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let (name, others) = match (&args.name, args.others.as_slice()) {
        (None, _) if args.ask().is_empty() && args.run.is_none() && !args.update && !args.show => {
            return list(app);
        }
        (None, _) => {
            return Err(Error::new(Reason::BadArgument, "a lock needs the name of its provider")
                .expected("admit lock NAME …"));
        }
        (Some(name), others) => (name, others),
    };
    match others {
        [] => {}
        [a, b] if name.as_str() == "diff" => return diff(app, a, b),
        _ => {
            return Err(Error::new(Reason::BadArgument, "one lock at a time")
                .expected("admit lock NAME, or admit lock diff A B"));
        }
    }
    let root = app.context.root()?;
    let path = lock::path_of(name);
    let ask = Ask { run: run_section(app, args)?, ..args.ask() };
    if args.each_output {
        return each(app, name, &ask);
    }
    let there = root.get(&path).is_some();
    if args.show || (there && ask.is_empty() && !args.update && args.package.is_none()) {
        app.ui.raw(&record::pretty(&read(app, name)?));
        return Ok(0);
    }
    let (next, changes, proposed) = if args.update {
        let locked = lock::resolve(&root, &lock::Spec { provider: name.clone(), rev: None })?;
        let (next, changes) = build::resolved(&app.context, &locked)?;
        (next, changes, Vec::new())
    } else if let Some(package) = &args.package {
        let (next, notes) = build::propose(&app.context, name, &wanted(args, &ask, package))?;
        notes.iter().for_each(|note| app.context.progress.note(note));
        let changes = lock::compare(root.record(&path)?.as_ref(), &next);
        (next, changes, Vec::new())
    } else {
        let made = look::lock(&app.context, name, ask)?;
        (made.lock, made.changes, made.proposed)
    };
    let place = match changes.is_empty() {
        true => root.place(&path).into(),
        false => app.context.put(&path, &record::pretty(&next))?,
    };
    for (field, value, from) in &proposed {
        app.ui.remark(&format!("{field}: {value}   ({from})"));
    }
    // All of a new lock is new: what was proposed says more.
    let shown = if there { changes.as_slice() } else { &[] };
    report(app, &place.display().to_string(), &next, &changes, shown);
    if !there {
        app.ui.remark(&format!("next: admit build {name} && admit lock {name} --update"));
    }
    Ok(0)
}

/// A lock for every program that the source compiles. None is written before all are whole.
fn each(app: &App, name: &Name, ask: &Ask) -> Result<u8> {
    let root = app.context.root()?;
    let mut all = Vec::new();
    for (name, ask) in look::outputs(&app.context, name, ask)? {
        let there = root.get(&lock::path_of(&name)).is_some();
        let made = look::lock(&app.context, &name, ask)?;
        all.push((name, made, there));
    }
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    for (name, made, there) in &all {
        let path = lock::path_of(name);
        let place = match made.changes.is_empty() {
            true => root.place(&path).into(),
            false => app.context.put(&path, &record::pretty(&made.lock))?,
        };
        let word = match (there, made.changes.is_empty()) {
            (false, _) => "locked",
            (true, true) => "unchanged",
            (true, false) => "changed",
        };
        rows.push(json!({
            "provider": name, "output": made.lock.build.output, "path": place, "changes": made.changes,
        }));
        lines.push((name.as_str(), format!("{word}: {}", made.lock.build.output)));
    }
    let names: Vec<&str> = all.iter().map(|(name, ..)| name.as_str()).collect();
    let count = ui::count(all.len(), "program", "programs");
    app.ui.verdict(Mark::Good, "locked", &count);
    lines.iter().for_each(|(name, text)| app.ui.row(Mark::Good, name, text));
    app.ui.verdict(Mark::Good, "locked", &names.join(", "));
    let next: Vec<String> = names
        .iter()
        .map(|name| format!("admit build {name} && admit lock {name} --update"))
        .collect();
    app.ui.remark(&format!("next: {}", next.join(" && ")));
    app.ui.json(&json!({ "schema": "admit.locks-made/1", "locks": rows }));
    Ok(0)
}

/// The `run` section in the file that `--run` names.
fn run_section(app: &App, args: &Args) -> Result<Option<RunShape>> {
    let Some(path) = &args.run else { return Ok(None) };
    let path = app.context.host.absolute(path);
    let bytes = std::fs::read(&path).map_err(|err| Error::io("read", &path, err))?;
    let bad = || {
        Error::new(Reason::BadRecord, "not a lock's `run` section").at(path.display().to_string())
    };
    let value = record::parse_value(&bytes).map_err(|err| bad().caused_by(err))?;
    Ok(Some(serde_json::from_value(value).map_err(|err| bad().caused_by(err))?))
}

/// What a published package's lock is made from.
fn wanted(args: &Args, ask: &Ask, package: &str) -> build::WantedPackage {
    // A scope begins with an @ too.
    let at = package.char_indices().skip(1).find(|(_, c)| *c == '@').map(|(at, _)| at);
    let (name, version) = match at {
        Some(at) => (&package[..at], Some(package[at + 1..].to_owned())),
        None => (package, None),
    };
    build::WantedPackage {
        package: name.to_owned(),
        version,
        path: args.path.clone(),
        bun: args.bun.clone(),
        native: args.native,
        help_first_line: args.help_line.clone(),
        commands: args.help_command.clone(),
        version_text: args.version_text.clone(),
        license: args.license.clone(),
        stages: args.allow_stage.clone(),
        run: ask.run.clone(),
    }
}

fn read(app: &App, name: &Name) -> Result<Lockfile> {
    let spec = lock::Spec { provider: name.clone(), rev: None };
    Ok(lock::resolve(&*app.context.root()?, &spec)?.lock)
}

fn list(app: &App) -> Result<u8> {
    let root = app.context.root()?;
    let here = platform()?;
    let (mut rows, mut lines, mut locked) = (Vec::new(), Vec::new(), 0);
    for name in lock::providers(&root) {
        let row = match root.record::<Lockfile>(&format!("lockfiles/{name}.lock.json")) {
            Ok(Some(lock)) => {
                let output = lock.outputs.get(&here).map(|output| output.sha256.to_string());
                let word = if output.is_some() { "output locked" } else { "no output locked yet" };
                let (url, rev, bun) =
                    (&lock.source.url, &lock.source.rev, &lock.toolchain.bun.version);
                locked += usize::from(output.is_some());
                let mark = if output.is_some() { Mark::Good } else { Mark::Note };
                lines.push((
                    mark,
                    name.clone(),
                    format!("{} {word}, Bun {bun}, {url}", rev.short()),
                ));
                json!({ "provider": name, "source": url, "rev": rev, "bun": bun, "output": output })
            }
            Ok(None) => continue,
            // One that cannot be read is listed, so that it is missed.
            Err(err) => {
                lines.push((Mark::Bad, name.clone(), err.to_string()));
                json!({ "provider": name, "error": err.to_json() })
            }
        };
        rows.push(row);
    }
    let word = ui::count(rows.len(), "lock", "locks");
    app.ui.verdict(Mark::Note, &word, &format!("{locked} with a locked output"));
    lines.iter().for_each(|(mark, name, text)| app.ui.row(*mark, name, text));
    app.ui.verdict(
        Mark::Note,
        &word,
        "admit lock NAME shows one; admit lock NAME --source URL --rev COMMIT makes one",
    );
    app.ui.json(&json!({ "schema": "admit.locks/1", "root": root.label(), "locks": rows }));
    Ok(0)
}

/// Exit 1 where they differ.
fn diff(app: &App, a: &Name, b: &Name) -> Result<u8> {
    let (old, new) = (read(app, a)?, read(app, b)?);
    let changes = lock::compare(Some(&old), &new);
    app.ui
        .json(&json!({ "schema": "admit.lock-difference/1", "a": a, "b": b, "changes": changes }));
    let (mark, word) = match changes.is_empty() {
        true => (Mark::Good, "same"),
        false => (Mark::Bad, "differ"),
    };
    let fields = ui::count(changes.len(), "field differs", "fields differ");
    app.ui.verdict(mark, word, &format!("the locks of {a} and {b}"));
    show(app, &changes);
    app.ui.verdict(mark, word, &fields);
    Ok(u8::from(!changes.is_empty()))
}

fn show(app: &App, changes: &[Change]) {
    for change in changes {
        let before = change.before.as_deref().unwrap_or("absent");
        app.ui.line(&format!("{}: {before} -> {}", change.field, change.after));
    }
}

fn report(app: &App, place: &str, lock: &Lockfile, changes: &[Change], shown: &[Change]) {
    app.ui.json(&json!({
        "schema": "admit.locked/1",
        "lock": place,
        "provider": lock.provider,
        "digest": lock.digest(),
        "changes": changes,
    }));
    if !changes.is_empty() {
        let fields = ui::count(changes.len(), "field", "fields");
        app.ui.verdict(Mark::Good, "locked", &format!("{}: {fields} changed", lock.provider));
    }
    show(app, shown);
    let what = if changes.is_empty() { "unchanged" } else { "written" };
    app.ui.verdict(Mark::Good, what, place);
}
