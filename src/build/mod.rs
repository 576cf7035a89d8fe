//! Stage 4, build: the plan runs in a sandbox without network, at the locked path, and what it leaves is proven.
//!
//! - [`room`]: what is in the sandbox and how large it is. [`source`]: the source in it, before and after.
//! - [`install`]: the package cache and the installed tree. [`output`]: the file that comes out.
//! - [`vary`]: what is around a build, changed on purpose, and which change the output follows.
//! - [`left`]: looking at what steps left. [`keep`]: what is kept for a person to look at when a build failed.

pub mod install;
pub mod keep;
pub mod left;
pub mod output;
pub mod room;
pub mod source;
mod space;
pub mod vary;

use std::path::{Path, PathBuf};
use std::time::Duration;

use cap_std::fs::Dir;
use serde::Serialize;

use crate::error::{Error, Reason, Result};
use crate::fetch::git::Source;
use crate::host::{Progress, Stopwatch};
use crate::lock::plan::Plan;
use crate::record::ids::{AbsPath, Algorithm, Blake3, Digest, RelPath, Sha256};
use crate::record::lockfile::Lockfile;
use crate::record::report::{IdentityProof, Runtime};
use crate::sandbox::{self, Command, Exit, Finished, Launcher, Sandbox};
use crate::store::{Pending, Store, StoredFile};

use install::Packages;
use room::Room;

/// Longest time a step may take. Case's slowest takes 2 s; a hang is what this is for.
pub const STEP_WALL: Duration = Duration::from_secs(15 * 60);

/// Bytes of each stream of a step that are kept for a failure's message.
const KEPT_OUTPUT: u64 = 256 << 10;

/// Everything that the build takes from the store, verified.
pub struct Inputs<'a> {
    pub source: &'a Source,
    pub bun: &'a mut StoredFile,
    /// What the source depends on.
    pub packages: &'a mut Packages,
}

pub struct Options<'a> {
    pub launcher: &'a Launcher,
    /// Where inputs come from and the output goes.
    pub store: &'a Store,
    /// A directory on disk for the build's files; without one, memory is used where it suffices.
    pub scratch: Option<&'a Path>,
    /// Keep what a failed build left.
    pub keep_failed: bool,
    pub step_wall: Duration,
    /// The directory inside, where the lock leaves it open; without one, a name that no other build here has now.
    pub open_path: Option<AbsPath>,
    /// Seconds by which the clocks that count from the boot are ahead inside.
    pub clock_ahead: Option<u32>,
    /// Whether a proven output is the one that was asked for: SHA-256, BLAKE3, bytes. What it refuses never comes into
    /// the store.
    pub accept: &'a dyn Fn(&Digest, &Digest, u64) -> Result<()>,
    pub progress: &'a dyn Progress,
}

/// A binary in the store and what was proven of it. Whether it is what the lock says is the caller's question.
#[derive(Debug)]
pub struct Proven {
    /// SHA-256 of the binary; it is in the store under it.
    pub sha256: Sha256,
    /// BLAKE3 of the binary.
    pub blake3: Blake3,
    /// Size of the binary in bytes.
    pub size: u64,
    /// Where it is in the store.
    pub path: PathBuf,
    pub runtime: Runtime,
    /// What it says of itself.
    pub identity: IdentityProof,
}

/// What a build gave.
#[derive(Debug)]
pub struct Built {
    pub proven: Proven,
    /// Every command that ran, install first.
    pub commands: Vec<Vec<String>>,
    /// The build path inside.
    pub room: Room,
    /// Tracked files that the build changed, all of them expected.
    pub writes: Vec<RelPath>,
    /// The walls that stood.
    pub sandbox: sandbox::SandboxFacts,
    /// Where the files were: `memory` or `disk`.
    pub space: &'static str,
}

/// How two builds of one plan compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verification")]
pub enum Verification {
    Reproduced,
    Differs {
        /// SHA-256 before.
        expected: Sha256,
        /// SHA-256 now.
        found: Sha256,
    },
    /// The second build did not come to an end, so nothing is known.
    NotRebuilt {
        why: String,
    },
}

/// Builds the plan once. Nothing is looked up and nothing is recorded.
///
/// # Errors
/// [`Reason::StepFailed`], [`Reason::TimedOut`], [`Reason::LimitHit`], [`Reason::InstallMismatch`],
/// [`Reason::SourceMutated`], those of [`output`], and those of the sandbox.
pub fn build(
    plan: &Plan,
    lock: &Lockfile,
    inputs: &mut Inputs<'_>,
    options: &Options<'_>,
    laps: &mut Stopwatch,
) -> Result<Built> {
    let open = match &options.open_path {
        Some(path) => path.clone(),
        None => format!("/tmp/admit-build-{}", std::process::id())
            .parse()
            .map_err(|err| Error::new(Reason::Internal, "a build path").caused_by(err))?,
    };
    let room = Room::new(plan, &open)?;
    let scratch = options.store.scratch()?;
    let chosen = space::choose(inputs, lock, options, scratch.path())?;
    let word = chosen.word;
    options.progress.stage("build", &format!("{} at {} ({word})", plan.provider, room.source));
    let mut policy = room.policy(inputs.bun.path(), inputs.bun.digest(), &chosen.space)?;
    policy.clock_ahead = options.clock_ahead;
    let mut sandbox = Some(sandbox::start(options.launcher, &policy)?);
    laps.lap("sandbox");
    let mut facts = None;
    let outcome = match &mut sandbox {
        None => Err(Error::new(Reason::Internal, "a sandbox that is none")),
        Some(sandbox) => {
            facts = Some(sandbox.facts().clone());
            let outcome = inside(plan, &room, inputs, options, sandbox, laps);
            outcome.map_err(|err| space::or_full(err, sandbox, chosen.need))
        }
    };
    // Its memory is wanted for what comes now, unless somebody wants to see what is in it.
    if outcome.is_ok() && !options.keep_failed {
        sandbox.take().map(Sandbox::end);
    }
    let outcome = outcome.and_then(|(commands, writes, output)| {
        let proven = prove(output, inputs.bun, lock, options)?;
        laps.lap("proof");
        Ok((commands, writes, proven))
    });
    let kept = match (&outcome, &sandbox) {
        (Err(_), Some(sandbox)) if options.keep_failed => {
            sandbox.directory().map(|dir| keep::keep(dir, &room, options.store))
        }
        _ => None,
    };
    sandbox.map(Sandbox::end);
    let (commands, writes, proven) = outcome.map_err(|err| match kept {
        Some(Ok(path)) => err.hint(format!("the failed build's files are in {}", path.display())),
        Some(Err(other)) => {
            err.hint(format!("the failed build's files could not be kept: {other}"))
        }
        None => err.hint("to look at what the build left, repeat it with --keep-failed"),
    })?;
    let sandbox = facts.ok_or_else(|| Error::new(Reason::Internal, "a sandbox without facts"))?;
    Ok(Built { proven, commands, room, writes, sandbox, space: word })
}

/// Proves a binary and puts it into the store: its runtime is the pinned Bun, byte for byte, it shows the locked
/// identity, and it is what `options` accepts.
///
/// # Errors
/// Those of [`install::runtime`], [`output::identity`] and [`Options::accept`]; nothing of it is in the store then.
pub fn prove(
    mut pending: Pending,
    bun: &mut StoredFile,
    lock: &Lockfile,
    options: &Options<'_>,
) -> Result<Proven> {
    let output = pending.file();
    let runtime = install::runtime(bun, output)?;
    let (sha256, blake3) = both(output.digests())?;
    options.progress.stage("identity", &format!("{} --help", lock.build.output.file_name()));
    let identity =
        output::identity(options.launcher, output.path(), output.digest(), &lock.identity)?;
    (options.accept)(sha256.digest(), blake3.digest(), output.size())?;
    let output = pending.publish()?;
    Ok(Proven {
        sha256,
        blake3,
        size: output.size(),
        path: output.path().to_path_buf(),
        runtime,
        identity,
    })
}

fn both(digests: &crate::store::Digests) -> Result<(Sha256, Blake3)> {
    let sha256 = digests.get(Algorithm::Sha256).and_then(Sha256::from_digest);
    let blake3 = digests.get(Algorithm::Blake3).and_then(Blake3::from_digest);
    sha256.zip(blake3).ok_or_else(|| Error::new(Reason::Internal, "the output was not hashed"))
}

type Inside = (Vec<Vec<String>>, Vec<RelPath>, Pending);

/// What happens in the box: seed, install, check, scripts, steps, check, take out.
fn inside(
    plan: &Plan,
    room: &Room,
    inputs: &mut Inputs<'_>,
    options: &Options<'_>,
    sandbox: &mut Sandbox,
    laps: &mut Stopwatch,
) -> Result<Inside> {
    let owner = sandbox.owner();
    let dir = directory(sandbox)?;
    prepare(&dir, owner)?;
    let tracked = source::copy_in(&inputs.source.files, &dir, &room.source_below, owner)?;
    let seeded = inputs.packages.seed(&dir, Room::CACHE, owner)?;
    laps.lap("seed");
    let env = room.environment(plan);
    let mut commands = Vec::new();
    let mut run = |sandbox: &mut Sandbox, argv: Vec<String>, cwd: AbsPath| -> Result<()> {
        options.progress.stage("step", &argv.join(" "));
        let mut command = Command::new(absolute(&argv), cwd);
        command.env = env.clone();
        command.wall = options.step_wall;
        command.stdout_cap = KEPT_OUTPUT;
        command.stderr_cap = KEPT_OUTPUT;
        let finished = sandbox.run(&command)?;
        step_result(&argv, &finished)?;
        commands.push(argv);
        Ok(())
    };
    same_version(sandbox, plan, room)?;
    run(sandbox, plan.install(), room.source.clone())?;
    laps.lap("install");
    inputs.packages.check(&dir, &room.source_below, &seeded)?;
    for (argv, cwd) in inputs.packages.scripts(&plan.scripts, &dir, room)? {
        run(sandbox, argv, cwd)?;
    }
    laps.lap("check");
    for step in &plan.steps {
        run(sandbox, step.clone(), room.source.clone())?;
    }
    laps.lap("steps");
    let changed = tracked.changed(&dir, &room.source_below)?;
    if let Some(path) = changed.iter().find(|path| !plan.writes.contains(path)) {
        return Err(Error::new(
            Reason::SourceMutated,
            "the build changed a tracked file that its lock does not name",
        )
        .at(path.to_string())
        .expected(format!("changes in: {}", list(&plan.writes)))
        .found(list(&changed))
        .hint("if the change is meant, add the file to build.writes in the lock"));
    }
    let output = output::take(&dir, &room.source_below, &plan.output, options.store)?;
    laps.lap("output");
    Ok((commands, changed, output))
}

/// The pinned binary is told by its digest; that it is the version that the lock claims, it says itself.
fn same_version(sandbox: &mut Sandbox, plan: &Plan, room: &Room) -> Result<()> {
    let mut command = Command::new(["/admit/bin/bun", "--version"], room.work.clone());
    command.env = room.environment(plan);
    let finished = sandbox.run(&command)?;
    let found = finished.stdout.text().trim().to_owned();
    if finished.exit == Exit::Code(0) && found == plan.bun_version {
        return Ok(());
    }
    Err(Error::new(
        Reason::RuntimeMismatch,
        "the pinned Bun is not the version that the lock names",
    )
    .at("toolchain.bun.version")
    .expected(plan.bun_version.clone())
    .found(if found.is_empty() { exit_text(&finished.exit) } else { found })
    .hint("make the lock again: admit lock NAME --bun VERSION"))
}

fn list(paths: &[RelPath]) -> String {
    if paths.is_empty() {
        "none".into()
    } else {
        paths.iter().map(RelPath::as_str).collect::<Vec<_>>().join(", ")
    }
}

fn directory(sandbox: &Sandbox) -> Result<Dir> {
    let dir = sandbox
        .directory()
        .ok_or_else(|| Error::new(Reason::Internal, "no directory came out of the sandbox"))?;
    dir.try_clone().map_err(|err| Error::io("keep the directory of", "the sandbox", err))
}

/// The directories that a build finds besides its source.
fn prepare(dir: &Dir, owner: sandbox::Owner) -> Result<()> {
    let _as_payload = owner.enter()?;
    for below in [Room::CACHE, Room::HOME, Room::TMP] {
        dir.create_dir_all(below).map_err(|err| Error::io("create the directory", below, err))?;
    }
    Ok(())
}

/// The command with its program's place inside; the lock's check allows these two.
fn absolute(argv: &[String]) -> Vec<String> {
    let mut argv = argv.to_vec();
    if let Some(first) = argv.first_mut() {
        *first = if first == "sh" { "/bin/sh".into() } else { format!("/admit/bin/{first}") };
    }
    argv
}

pub(crate) fn exit_text(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::TimedOut { .. } => "stopped at its deadline".into(),
        Exit::Limit { what } => format!("over the limit {what}"),
    }
}

fn step_result(argv: &[String], finished: &Finished) -> Result<()> {
    let (reason, what) = match finished.exit {
        Exit::Code(0) => return Ok(()),
        Exit::TimedOut { .. } => (Reason::TimedOut, "a build step did not end in time"),
        Exit::Limit { .. } => (Reason::LimitHit, "a build step went over a limit"),
        _ => (Reason::StepFailed, "a build step failed"),
    };
    let tail = |text: String| -> String {
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    };
    let said = format!("{}\n{}", tail(finished.stdout.text()), tail(finished.stderr.text()));
    let mut error = Error::new(reason, what)
        .at(argv.join(" "))
        .expected("exit code 0")
        .found(exit_text(&finished.exit))
        .caused_by(format!("it printed:\n{}", said.trim()));
    if matches!(finished.exit, Exit::Limit { .. }) {
        error = error
            .hint("where this machine's hard limit is below admit's own, raise it: ulimit -H -a");
    }
    if asked_for_network(&said) {
        error = error.hint("the step asked for the network: the source's lock is out of date, or the build downloads");
    }
    Err(error)
}

/// Words by which Bun reports that it wanted something from outside. Only a hint hangs on them, never a verdict.
fn asked_for_network(said: &str) -> bool {
    [
        "ConnectionRefused",
        "FailedToOpenSocket",
        "failed to resolve",
        "Unable to connect",
        "GET http",
    ]
    .iter()
    .any(|word| said.contains(word))
}
