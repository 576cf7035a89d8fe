//! `admit lock`: list the locks, show one, make one from what a source says, change it, compare two, or fill in what a
//! build resolved.

use serde_json::json;

use super::app::App;
use crate::build;
use crate::error::{Error, Reason, Result};
use crate::host::platform;
use crate::lock::{self, Change};
use crate::look::{self, Ask, Basis, Written};
use crate::record;
use crate::record::ids::{Name, RelPath};
use crate::record::lockfile::{Lockfile, RunShape};
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
    #[command(flatten)]
    ask: Ask,
    // In the help these stand behind --like.
    /// A published package with the program in it, or PACKAGE@VERSION: nothing is built, and no script of it runs
    #[arg(long, value_name = "PACKAGE", display_order = 4, conflicts_with_all = ["update", "source", "rev", "like", "path", "open_path", "steps", "output", "writes", "scripts", "show"])]
    package: Option<String>,
    /// The program in that package, below its top directory (default: the only one)
    #[arg(long = "path", value_name = "PATH", requires = "package", display_order = 4)]
    program: Option<RelPath>,
    /// Lock that program by its digest alone, whatever compiled it
    #[arg(long, requires = "package", conflicts_with = "bun", display_order = 4)]
    native: bool,
    /// How the program is run: a file with the lock's `run` section (docs/agents.md)
    #[arg(long, value_name = "FILE", display_order = 4, conflicts_with_all = ["update", "show"])]
    run: Option<std::path::PathBuf>,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let (name, others) = match (&args.name, args.others.as_slice()) {
        (None, _) if args.ask.is_empty() && args.run.is_none() && !args.update && !args.show => {
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
    let ask = Ask { run: run_section(app, args)?, ..args.ask.clone() };
    if ask.each_output {
        return each(app, name, &ask);
    }
    let there = app.context.root()?.get(&Lockfile::path_of(name)).is_some();
    if args.show || (there && ask.is_empty() && !args.update && args.package.is_none()) {
        app.ui.raw(&record::pretty(&read(app, name)?));
        return Ok(0);
    }
    let basis = match &args.package {
        _ if args.update => Basis::Build,
        Some(package) => Basis::Package(Box::new(wanted(args, &ask, package))),
        None => Basis::Source(Box::new(ask)),
    };
    let written = look::write(&app.context, name, basis)?;
    for (field, value, from) in &written.made.proposed {
        app.ui.remark(&format!("{field}: {value}   ({from})"));
    }
    report(app, &written);
    if written.new {
        app.ui.remark(&format!("next: admit build {name} && admit lock {name} --update"));
    }
    Ok(0)
}

/// A lock for every program that the source compiles.
fn each(app: &App, name: &Name, ask: &Ask) -> Result<u8> {
    let all = look::write_each(&app.context, name, ask)?;
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    for written in &all {
        let (lock, changes) = (&written.made.lock, &written.made.changes);
        let word = match (written.new, changes.is_empty()) {
            (true, _) => "locked",
            (false, true) => "unchanged",
            (false, false) => "changed",
        };
        rows.push(json!({
            "provider": lock.provider, "output": lock.build.output, "path": written.place,
            "changes": changes,
        }));
        lines.push((lock.provider.as_str(), format!("{word}: {}", lock.build.output)));
    }
    let names: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
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
        path: args.program.clone(),
        bun: ask.bun.clone(),
        native: args.native,
        help_first_line: ask.help_first_line.clone(),
        commands: ask.commands.clone().unwrap_or_default(),
        version_text: ask.version.clone(),
        license: ask.license.clone(),
        stages: ask.stages.clone().unwrap_or_default(),
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
    for (name, lock) in lock::all(&root) {
        let row = match lock {
            Ok(lock) => {
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

fn report(app: &App, written: &Written) {
    let (lock, changes) = (&written.made.lock, &written.made.changes);
    let place = written.place.display().to_string();
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
    show(app, written.changed());
    let what = if changes.is_empty() { "unchanged" } else { "written" };
    app.ui.verdict(Mark::Good, what, &place);
}
