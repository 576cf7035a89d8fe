//! `admit lock NAME`: show a lock, make one for a commit, or fill what a build resolved.

use serde_json::json;

use super::app::App;
use crate::build;
use crate::error::{Error, Reason, Result};
use crate::host::platform;
use crate::lock::{self, Change, Request};
use crate::record;
use crate::record::ids::{AbsPath, CommitId, Name, RelPath};
use crate::record::lockfile::{Lockfile, Platform};
use crate::ui::{self, Mark};

/// Show a lock, make one for another commit, or fill what a build resolved
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The provider; its lock is lockfiles/PROVIDER.lock.json
    #[arg(value_name = "PROVIDER")]
    name: Name,
    /// Print the lock and change nothing
    #[arg(long, conflicts_with_all = ["update", "source", "rev"])]
    show: bool,
    /// Fill in what the last build of this lock resolved: tree, NAR hash, packages, output
    #[arg(long, conflicts_with_all = ["source", "rev"])]
    update: bool,
    /// Where the source is: https://…, file:///… or embedded:NAME
    #[arg(long, value_name = "URL")]
    source: Option<String>,
    /// The commit, all 40 hex digits
    #[arg(long, value_name = "COMMIT")]
    rev: Option<CommitId>,
    /// Take everything not given from the lock of this provider (default: the one with the same source)
    #[arg(long, value_name = "PROVIDER")]
    like: Option<Name>,
    /// Version of Bun; its packages are looked up in the registry of the npm configuration
    #[arg(long, value_name = "VERSION")]
    bun: Option<String>,
    /// Look that version up for every platform, not only for this one
    #[arg(long, requires = "bun")]
    all_platforms: bool,
    /// Directory inside the sandbox; part of the output's digest
    #[arg(long, value_name = "PATH")]
    build_path: Option<AbsPath>,
    /// Leave that directory open: every build has one of its own, and no output can be locked
    #[arg(long, conflicts_with = "build_path")]
    open_build_path: bool,
    /// A build step, words separated by spaces; may be repeated
    #[arg(long, value_name = "COMMAND")]
    step: Vec<String>,
    /// The file that the build leaves
    #[arg(long, value_name = "PATH")]
    output: Option<RelPath>,
    /// A tracked file that the build modifies; may be repeated
    #[arg(long, value_name = "PATH")]
    writes: Vec<RelPath>,
    /// A package whose lifecycle scripts run; may be repeated
    #[arg(long, value_name = "PACKAGE")]
    script: Vec<String>,
    /// First line that --help of the output must show
    #[arg(long, value_name = "TEXT")]
    help_line: Option<String>,
    /// A command that --help of the output must list; may be repeated
    #[arg(long, value_name = "NAME")]
    help_command: Vec<String>,
    /// What --version of the output must print (not asked where not given)
    #[arg(long, value_name = "TEXT")]
    version_text: Option<String>,
}

impl Args {
    /// Whether nothing was given that a lock could be made from.
    fn changes_nothing(&self) -> bool {
        let lists = [&self.step, &self.script, &self.help_command];
        let texts = [&self.source, &self.bun, &self.help_line, &self.version_text];
        !self.update
            && self.rev.is_none()
            && self.like.is_none()
            && self.build_path.is_none()
            && !self.open_build_path
            && self.output.is_none()
            && self.writes.is_empty()
            && lists.iter().all(|list| list.is_empty())
            && texts.iter().all(|text| text.is_none())
    }
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let root = app.context.root()?;
    let path = lock::path_of(&args.name);
    let old: Option<Lockfile> = root.record(&path)?;
    if args.show || (old.is_some() && args.changes_nothing()) {
        let locked = lock::resolve(&root, &lock::Spec { provider: args.name.clone(), rev: None })?;
        app.ui.raw(&record::pretty(&locked.lock));
        return Ok(0);
    }
    let (next, changes) = if args.update {
        let locked = lock::resolve(&root, &lock::Spec { provider: args.name.clone(), rev: None })?;
        build::resolved(&app.context, &locked)?
    } else {
        let template = template(&root, args)?;
        let bun = match &args.bun {
            Some(version) if *version != template.toolchain.bun.version => {
                let all = args.all_platforms.then_some(Platform::ALL.as_slice());
                let network = app.context.network()?;
                Some(network.fetcher().toolchain(version, all.unwrap_or(&[platform()?]))?)
            }
            _ => None,
        };
        let next = lock::create(&args.name, &template, request(args, bun))?;
        let changes = lock::compare(old.as_ref(), &next);
        (next, changes)
    };
    let relative =
        path.parse().map_err(|err| Error::new(Reason::BadArgument, "the name").caused_by(err))?;
    let place = if changes.is_empty() {
        root.place(&path).into()
    } else {
        app.context.write_root(|root| root.put(&relative, &record::pretty(&next)))?
    };
    report(app, &place.display().to_string(), &next, &changes);
    Ok(0)
}

/// The lock that a new one resembles.
fn template(root: &crate::root::Root, args: &Args) -> Result<Lockfile> {
    let get = |name: &str| -> Result<Option<Lockfile>> {
        root.record(&format!("lockfiles/{name}.lock.json"))
    };
    if args.source.is_none()
        && args.rev.is_none()
        && args.like.is_none()
        && get(args.name.as_str())?.is_none()
    {
        return Err(Error::new(Reason::BadArgument, "a new lock needs a source and a commit")
            .expected("--source URL --rev COMMIT")
            .hint("to see a lock: admit lock NAME --show"));
    }
    if let Some(like) = &args.like {
        return get(like.as_str())?.ok_or_else(|| {
            Error::new(Reason::ProviderNotLocked, format!("no lock for the provider \"{like}\""))
                .at("--like")
        });
    }
    // The provider's own lock first, then one with the same source; "case" is a Bun provider like most.
    let names = std::iter::once(args.name.to_string()).chain(lock::providers(root));
    let mut fallback = None;
    for name in names {
        let Some(lock) = get(&name)? else { continue };
        if args.source.as_ref().is_none_or(|url| *url == lock.source.url) {
            return Ok(lock);
        }
        fallback = fallback.or(Some(lock));
    }
    fallback.ok_or_else(|| {
        Error::new(Reason::ProviderNotLocked, "no lock to take the toolchain and the identity from")
            .hint("--like NAME")
    })
}

fn request(args: &Args, bun: Option<record::lockfile::BunToolchain>) -> Request {
    let steps =
        args.step.iter().map(|step| step.split_whitespace().map(str::to_owned).collect()).collect();
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    Request {
        source: args.source.clone(),
        rev: args.rev.clone(),
        bun,
        path: args.build_path.clone(),
        open_path: args.open_build_path,
        steps: (!args.step.is_empty()).then_some(steps),
        output: args.output.clone(),
        writes: (!args.writes.is_empty()).then(|| args.writes.clone()),
        scripts: some(&args.script),
        help_first_line: args.help_line.clone(),
        commands: some(&args.help_command),
        version: args.version_text.clone(),
    }
}

fn report(app: &App, place: &str, lock: &Lockfile, changes: &[Change]) {
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
    for change in changes {
        let before = change.before.as_deref().unwrap_or("absent");
        app.ui.line(&format!("{}: {before} -> {}", change.field, change.after));
    }
    let what = if changes.is_empty() { "unchanged" } else { "written" };
    app.ui.verdict(Mark::Good, what, place);
}
