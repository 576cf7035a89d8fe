//! What `admit lock` writes: what was asked for by flag, else what the lock has, else what the source says. What none of
//! them says is asked for, all of it at once, and nothing is written before it is whole.

mod ask;
mod moved;
mod propose;
mod source;
mod toolchain;
mod written;

use std::collections::BTreeMap;

use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::fetch::git;
use crate::lock::plan::Plan;
use crate::lock::{self, Change};
use crate::record::Record as _;
use crate::record::ids::{CommitId, Name, RelPath, Sri};
use crate::record::lockfile::{
    Build, BunToolchain, Dependencies, Download, Identity, License, LicenseStatus, Lockfile,
    Platform, ProviderKind, RunShape, Source, Toolchain,
};
use crate::root::Root;
pub use ask::{Ask, not_whole};
use ask::{Field, Rev, Wanted, missing, undecided};
pub use propose::Open;
use propose::{From, Proposal};
use source::Seen;
use toolchain::toolchain;
pub use written::{Basis, Written, write, write_each};

/// A lock that is whole, and how it came to be.
#[derive(Debug)]
pub struct Made {
    pub lock: Lockfile,
    /// Against the lock that was there.
    pub changes: Vec<Change>,
    /// Fields that the source itself said, with where.
    pub proposed: Vec<(String, String, String)>,
}

/// Makes a provider's lock or changes it.
///
/// # Errors
/// [`Reason::BadArgument`] naming every flag that is missing; those of the source, of [`propose`] and of the toolchain;
/// [`Reason::HostileLock`] for a value that is not safe.
pub fn lock(context: &Context, provider: &Name, ask: Ask) -> Result<Made> {
    let root = context.root()?;
    let old: Option<Lockfile> = root.record(&Lockfile::path_of(provider))?;
    let base = base(&root, provider, &old, &ask)?;
    let mut proposed = Vec::new();
    let mut lock = match base {
        Some(base) => {
            let (rev, version) = (base.source.rev.clone(), base.identity.version.clone());
            let mut lock = moved::moved(context, &root, provider, base, &ask, &mut proposed)?;
            // What another commit prints as its version, or whether it prints one, the pattern does not know.
            let same = lock.identity.version == version;
            if old.is_none()
                && same
                && lock.source.rev != rev
                && lock.identity.version.take().is_some()
            {
                let why = "not taken over from another commit; --version-text sets it";
                proposed.push(("identity.version".into(), "not asked".into(), why.into()));
            }
            lock
        }
        None => fresh(context, &root, provider, &ask, &mut proposed)?,
    };
    lock.schema = Lockfile::SCHEMA.to_string();
    lock.provider = provider.clone();
    apply(context, &root, &mut lock, ask)?;
    if let Some(old) = &old {
        keep_resolved(old, &mut lock);
    } else {
        lock.outputs.clear();
    }
    lock::check(&lock, provider, &Lockfile::path_of(provider))?;
    let changes = lock::compare(old.as_ref(), &lock);
    Ok(Made { lock, changes, proposed })
}

/// The programs that a source compiles, each with the provider that it is locked as: `provider` itself for the program of
/// its name, `provider-PROGRAM` for any other.
///
/// # Errors
/// [`Reason::BadArgument`] where there is none, and where the source or its commit is not given; those of the source.
fn outputs(context: &Context, provider: &Name, ask: &Ask) -> Result<Vec<(Name, Ask)>> {
    let (Some(url), Some(rev)) = (&ask.source, &ask.rev) else {
        return Err(Error::new(Reason::BadArgument, "whose outputs is not said")
            .at("--each-output")
            .expected("--source URL --rev COMMIT"));
    };
    let (rev, fetched) = source(context, url, rev, ask)?;
    let seen = Seen::of(&fetched.files)?;
    let path = propose::lockfile(&seen, ask.lockfile.as_ref())?
        .map_err(|open| missing(provider, &[open]))?;
    let said = propose::propose(&seen, path)?;
    if said.outputs.is_empty() {
        let why = "no script of the source says plainly what it compiles, and where to";
        let open = Open::new("--step 'COMMAND' --output PATH", why);
        return Err(missing(provider, &[open]));
    }
    let mut all: Vec<(Name, Ask)> = Vec::new();
    for (step, output) in said.outputs {
        let program = output.file_name();
        let name = match program == provider.as_str() {
            true => provider.clone(),
            false => format!("{provider}-{program}").parse().map_err(|err| {
                Error::new(Reason::BadArgument, "a program whose name no provider can have")
                    .at(output.to_string())
                    .caused_by(err)
                    .hint("lock it by itself: --step and --output")
            })?,
        };
        if let Some((_, other)) = all.iter().find(|(there, _)| *there == name) {
            let other = other.output.as_ref().map(RelPath::to_string).unwrap_or_default();
            return Err(Error::new(Reason::BadArgument, "two programs of one name")
                .expected("one lock each")
                .found(format!("{other}, {output}"))
                .hint("lock each by itself: --step and --output"));
        }
        let (steps, rev) = (Some(vec![step]), Some(Rev::Commit(rev.clone())));
        all.push((name, Ask { steps, output: Some(output), rev, ..ask.clone() }));
    }
    Ok(all)
}

fn source(context: &Context, url: &str, rev: &Rev, ask: &Ask) -> Result<(CommitId, git::Source)> {
    let network = context.network()?;
    let fetcher = network.fetcher();
    let rev = match rev {
        Rev::Commit(rev) => rev.clone(),
        Rev::Newest => fetcher.newest(url)?,
    };
    let without = ask.without.clone().unwrap_or_default();
    let locked = Source { without, ..Source::at(url, &rev) };
    let fetched = fetcher.source(&locked)?;
    Ok((rev, fetched))
}

/// The lock that what is not given comes from: the provider's own, one that was named, or one of the same source.
fn base(
    root: &Root,
    provider: &Name,
    old: &Option<Lockfile>,
    ask: &Ask,
) -> Result<Option<Lockfile>> {
    if let Some(like) = &ask.like {
        let named = root.record(&Lockfile::path_of(like))?;
        return named.map(Some).ok_or_else(|| {
            Error::new(Reason::ProviderNotLocked, format!("no lock for the provider \"{like}\""))
                .at("--like")
                .expected(format!("one of: {}", lock::providers(root).join(", ")))
        });
    }
    if let Some(old) =
        old.clone().filter(|old| ask.source.as_ref().is_none_or(|url| *url == old.source.url))
    {
        return Ok(Some(old));
    }
    // A lock that cannot be read is no pattern for another; whoever asks for it is told.
    let mut others = lock::all(root).filter(|(name, _)| name != provider.as_str());
    let of_source = |lock: &Lockfile| ask.source.as_ref() == Some(&lock.source.url);
    Ok(others.find_map(|(_, lock)| lock.ok().filter(of_source)))
}

fn fresh(
    context: &Context,
    root: &Root,
    provider: &Name,
    ask: &Ask,
    proposed: &mut Vec<(String, String, String)>,
) -> Result<Lockfile> {
    let mut open: Vec<Open> = Vec::new();
    let (Some(url), Some(rev)) = (&ask.source, &ask.rev) else {
        if ask.source.is_none() {
            open.push(Open::new("--source URL", "where the repository is: https://… or file:///…"));
        }
        if ask.rev.is_none() {
            open.push(Open::new("--rev COMMIT", "the commit, 40 hex digits, or newest"));
        }
        return Err(missing(provider, &open));
    };
    let (rev, fetched) = source(context, url, rev, ask)?;
    context.progress.stage("look", &format!("{url} at {}", rev.short()));
    let seen = Seen::of(&fetched.files)?;
    let path = match propose::lockfile(&seen, ask.lockfile.as_ref())? {
        Ok(path) => path,
        Err(first) => {
            // The rest of the questions hangs on this one; they are asked for a guess all the same.
            open.push(first);
            let guess = seen.files.iter().find(|path| path.ends_with("bun.lock")).cloned();
            match guess.and_then(|path| path.parse().ok()) {
                Some(path) => path,
                None => return Err(missing(provider, &open)),
            }
        }
    };
    let said = propose::propose(&seen, path)?;
    let lock = whole(provider, url, &rev, &fetched, said, ask, &mut open, proposed)?;
    if !open.is_empty() {
        return Err(missing(provider, &open));
    }
    let bun = lock.toolchain.bun.version.clone();
    Ok(Lockfile { toolchain: toolchain(context, root, &bun, ask.all_platforms)?, ..lock })
}

/// The proposal as a lock, where flags count first. What neither says is added to `open`.
#[expect(clippy::too_many_arguments, reason = "the parts of one lock, each from another place")]
fn whole(
    provider: &Name,
    url: &str,
    rev: &CommitId,
    fetched: &git::Source,
    said: Proposal,
    ask: &Ask,
    open: &mut Vec<Open>,
    proposed: &mut Vec<(String, String, String)>,
) -> Result<Lockfile> {
    let internal = Error::internal("a value of a new lock");
    let mut note = |field: &str, value: String, place: &str| {
        proposed.push((field.to_owned(), value, place.to_owned()));
    };
    note("dependencies.lockfile", said.lockfile.to_string(), "the source");
    let bun = pick(ask.bun.clone(), said.bun.clone(), open, |it| {
        note("toolchain.bun", it.value.clone(), &it.place)
    });
    let steps = pick(ask.steps.clone(), said.steps.clone(), open, |it| {
        let words: Vec<String> = it.value.iter().map(|step| step.join(" ")).collect();
        note("build.steps", words.join("; "), &it.place);
    });
    // A step of one's own leaves what it leaves.
    let output = match (&ask.steps, &ask.output) {
        (Some(_), None) => Err(Open::new("--output PATH", "the file that the steps leave")),
        _ => said.output.clone(),
    };
    let output = pick(ask.output.clone(), output, open, |it| {
        note("build.output", it.value.to_string(), &it.place)
    });
    let lifecycle = said.what_becomes_of_lifecycle();
    if ask.lifecycle.is_none() && lifecycle.is_some() {
        let all = said.lifecycle.join(", ");
        let (word, place) = match said.hooks {
            true => ("skip", format!("{all}: nothing but hooks of a git repository")),
            false => ("run", format!("it has {all}")),
        };
        note("build.lifecycle", word.into(), &place);
    }
    let lifecycle = ask.lifecycle.or(lifecycle);
    open.extend(undecided(&said, ask, None, &[]));
    if let Some(place) = said.git.as_ref().filter(|_| ask.git.is_none()) {
        note("build.git", "answers from the pin".into(), place);
    }
    if let Some(place) = said.isolated.as_ref().filter(|_| ask.linker.is_none()) {
        note("build.linker", "isolated".into(), place);
    }
    let linker = said.linker();
    let license = match said.license() {
        Some(spdx) => {
            note("license.spdx", spdx.clone(), "package.json: license");
            License { status: LicenseStatus::Resolved, spdx: Some(spdx.clone()), allows: vec![2] }
        }
        _ => License { status: LicenseStatus::Unresolved, spdx: None, allows: vec![2] },
    };
    let path = format!("/tmp/{provider}").parse().map_err(&internal)?;
    Ok(Lockfile {
        schema: Lockfile::SCHEMA.to_string(),
        provider: provider.clone(),
        kind: ProviderKind::Bun,
        source: Source {
            url: url.to_owned(),
            rev: rev.clone(),
            tree: Some(fetched.tree.clone()),
            nar_hash: Some(Sri(fetched.files.nar().clone())),
            without: ask.without.clone().unwrap_or_default(),
        },
        toolchain: Toolchain {
            bun: BunToolchain { version: bun.unwrap_or_default(), platforms: BTreeMap::new() },
        },
        dependencies: Dependencies {
            lockfile: said.lockfile,
            packages: None,
            integrity: BTreeMap::new(),
        },
        build: Build {
            path: Some(path),
            steps: steps.unwrap_or_default(),
            lifecycle,
            linker,
            git: said.git.is_some(),
            ..Build::of(match output {
                Some(output) => output,
                None => "absent".parse().map_err(&internal)?,
            })
        },
        outputs: BTreeMap::new(),
        identity: Identity { help_first_line: None, commands: Vec::new(), version: None },
        run: RunShape::default(),
        package: None,
        license,
    })
}

/// What a flag says, else what the source says; `None` and a question where neither does.
fn pick<T: Clone>(
    flag: Option<T>,
    said: Result<From<T>, Open>,
    open: &mut Vec<Open>,
    note: impl FnOnce(&From<T>),
) -> Option<T> {
    match (flag, said) {
        (Some(value), _) => Some(value),
        (None, Ok(said)) => {
            note(&said);
            Some(said.value)
        }
        (None, Err(question)) => {
            open.push(question);
            None
        }
    }
}

/// Puts everything that a flag gives into the lock, after emptying what is to be empty.
fn apply(context: &Context, root: &Root, lock: &mut Lockfile, ask: Ask) -> Result<()> {
    for field in ask.clear {
        match field {
            Field::Env => lock.build.env.clear(),
            Field::Writes => lock.build.writes.clear(),
            Field::Scripts => lock.build.scripts.clear(),
            Field::Skips => lock.build.skips.clear(),
            Field::Lifecycle => lock.build.lifecycle = None,
            Field::LfsPointers => lock.build.lfs_pointers.clear(),
            Field::Downloads => lock.build.downloads.clear(),
            Field::Integrity => lock.dependencies.integrity.clear(),
            Field::Without => {
                let source = &mut lock.source;
                source.without.clear();
                (source.tree, source.nar_hash) = (None, None);
            }
            Field::HelpLine => lock.identity.help_first_line = None,
            Field::HelpCommands => lock.identity.commands.clear(),
            Field::VersionText => lock.identity.version = None,
            Field::RunArgs => lock.run.argv.clear(),
            Field::License => {
                lock.license.status = LicenseStatus::Unresolved;
                lock.license.spdx = None;
            }
        }
    }
    if let Some(version) = ask.bun
        && (version != lock.toolchain.bun.version || ask.all_platforms)
    {
        lock.toolchain = toolchain(context, root, &version, ask.all_platforms)?;
    }
    if let Some(wanted) = ask.downloads {
        let mut all = Vec::new();
        for Wanted { url, integrity, path } in wanted {
            let integrity = match integrity {
                Some(integrity) => integrity,
                None => Sri(context.network()?.fetcher().declared(&url, None)?.digest().clone()),
            };
            all.push(Download { url, integrity, path });
        }
        lock.build.downloads = all;
    }
    if let Some(wanted) = ask.integrity {
        let network = context.network()?;
        lock.dependencies.integrity =
            network.fetcher().integrities(&lock.source, &lock.dependencies.lockfile, wanted)?;
    }
    let build = &mut lock.build;
    fn set<T>(slot: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *slot = value;
        }
    }
    set(&mut lock.dependencies.lockfile, ask.lockfile);
    if ask.path.is_some() || ask.open_path {
        build.path = ask.path;
    }
    set(&mut build.steps, ask.steps);
    set(&mut build.env, ask.env.map(|all| all.into_iter().collect()));
    set(&mut build.output, ask.output);
    set(&mut build.writes, ask.writes);
    set(&mut build.scripts, ask.scripts);
    set(&mut build.skips, ask.skips);
    build.lifecycle = ask.lifecycle.or(build.lifecycle);
    set(&mut build.git, ask.git);
    set(&mut build.linker, ask.linker);
    set(&mut build.lfs_pointers, ask.lfs_pointers);
    let identity = &mut lock.identity;
    identity.help_first_line = ask.help_first_line.or(identity.help_first_line.take());
    set(&mut identity.commands, ask.commands);
    identity.version = ask.version.or(identity.version.take());
    set(&mut lock.run, ask.run);
    set(&mut lock.run.argv, ask.argv);
    set(&mut lock.run.ambient, ask.ambient);
    if let Some(spdx) = ask.license {
        lock.license.spdx = Some(spdx);
        lock.license.status = LicenseStatus::Resolved;
    }
    set(&mut lock.license.allows, ask.stages);
    Ok(())
}

/// Keeps what a build resolved for as long as nothing that decides it has changed.
fn keep_resolved(old: &Lockfile, new: &mut Lockfile) {
    let same = |platform: &Platform| {
        let digest = |lock: &Lockfile| Plan::new(lock, *platform).map(|plan| plan.digest()).ok();
        digest(old).is_some() && digest(old) == digest(new)
    };
    new.outputs = old
        .outputs
        .iter()
        .filter(|(platform, _)| same(platform))
        .map(|(k, v)| (*k, v.clone()))
        .collect();
    let same = |lock: &Lockfile| {
        let Dependencies { lockfile, integrity, .. } = &lock.dependencies;
        (lock.source.rev.clone(), lockfile.clone(), integrity.clone())
    };
    new.dependencies.packages = match same(old) == same(new) {
        true => old.dependencies.packages.clone(),
        false => None,
    };
}
