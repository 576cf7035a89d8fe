//! One build: inputs are fetched, the plan runs in a sandbox without network, at the locked path, and what it leaves is
//! proven. Nothing is looked up and nothing is recorded.

use serde_json::Value;

use super::abbreviation;
use super::options::{Options, STEP_WALL};
use super::output::{self, Proven};
use super::step::Steps;
use super::work::WorkDir;
use super::{keep, programs, project, source, space};
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::fetch::inputs::Inputs;
use crate::host::Timings;
use crate::lock::Locked;
use crate::record::ids::RelPath;
use crate::record::lockfile::Output;
use crate::sandbox::{self, Launcher, Sandbox, SandboxFacts};
use crate::store::{Pending, Store};

/// How a build ended that came to a proven output.
#[derive(Debug)]
pub enum Outcome {
    Built(Box<Built>),
    Differs(Box<Differs>),
}

/// What a build gave, its output in the store.
#[derive(Debug)]
pub struct Built {
    pub proven: Proven,
    pub inputs: Inputs,
    /// Every command that ran, install first.
    pub commands: Vec<Vec<String>>,
    /// Tracked files that the build changed, all of them expected.
    pub writes: Vec<RelPath>,
    pub sandbox: SandboxFacts,
    /// Where the files were: `memory` or `disk`.
    pub space: &'static str,
}

/// An output that is not the locked one and is not in the store.
#[derive(Debug)]
pub struct Differs {
    pub found: Output,
    /// The same for a command that can only refuse.
    pub error: Error,
}

/// # Errors
/// Those of [`Fetcher::inputs`](crate::fetch::Fetcher::inputs), of the steps, [`Reason::InstallMismatch`],
/// [`Reason::SourceMutated`], those of [`output`], and those of the sandbox.
pub fn build(
    context: &Context,
    locked: &Locked,
    options: &Options,
    timings: &mut Timings,
) -> Result<Outcome> {
    let plan = &locked.plan;
    plan.kind.require_provable(locked)?;
    let store = context.store()?;
    let mut inputs = context.network()?.fetcher().inputs(locked)?;
    timings.part("fetch");
    let open = match &options.open_path {
        Some(path) => path.clone(),
        None => format!("/tmp/admit-build-{}", std::process::id())
            .parse()
            .map_err(Error::internal("a build path"))?,
    };
    let work = WorkDir::new(&locked.plan, &open)?;
    // What a sandbox's start leaves when it is killed goes with the store's scratch.
    let scratch = store.scratch()?;
    let launcher = Launcher::own(scratch.path());
    let chosen = space::choose(&mut inputs, locked, options, scratch.path())?;
    let what = format!("{} at {} ({})", locked.plan.provider, work.source, chosen.word);
    context.progress.stage("build", &what);
    let mut found = locked.plan.kind.programs(&inputs)?;
    found.extend(programs::mounts(&locked.plan, &work)?);
    let mut policy = work.policy(found, &chosen.space)?;
    policy.clock_ahead = options.clock_ahead;
    let mut sandbox = sandbox::start(&launcher, &policy)?;
    timings.part("sandbox");
    let facts = sandbox.facts().clone();
    let inside = inside(context, locked, options, &work, &inputs, &mut sandbox, timings);
    let left = inside.map_err(|err| space::or_full(err, &sandbox, chosen.need));
    // Its memory is wanted for what comes now, unless what is in it is wanted.
    let sandbox = match &left {
        Ok(_) if !options.keep_failed => {
            sandbox.end();
            None
        }
        _ => Some(sandbox),
    };
    let proof = left.and_then(|left| {
        let (tool, progress) = (&mut inputs.bun, &*context.progress);
        let proof = output::prove(left.output, tool, locked, &launcher, progress)?;
        timings.part("proof");
        Ok((left.commands, left.writes, proof))
    });
    let (commands, writes, proof) = match proof {
        Ok(proof) => proof,
        Err(err) => return Err(end(sandbox, err, options, &work, &store)),
    };
    if !options.any_output
        && let Err(err) = output::status(locked, &proof.output)
    {
        let error = end(sandbox, err, options, &work, &store);
        return Ok(Outcome::Differs(Box::new(Differs { found: proof.output, error })));
    }
    sandbox.map(Sandbox::end);
    let proven = proof.publish()?;
    let space = chosen.word;
    Ok(Outcome::Built(Box::new(Built { proven, inputs, commands, writes, sandbox: facts, space })))
}

/// Ends the sandbox of a failed build, and says where what it left was kept, or how to have it kept.
fn end(
    sandbox: Option<Sandbox>,
    err: Error,
    options: &Options,
    work: &WorkDir,
    store: &Store,
) -> Error {
    let kept = match &sandbox {
        Some(sandbox) if options.keep_failed => {
            sandbox.directory().map(|dir| keep::keep(dir, work, store))
        }
        _ => None,
    };
    sandbox.map(Sandbox::end);
    match kept {
        Some(Ok(path)) => err.hint(format!("the failed build's files are in {}", path.display())),
        Some(Err(other)) => {
            err.hint(format!("the failed build's files could not be kept: {other}"))
        }
        None => err.hint("to look at what the build left, repeat it with --keep-failed"),
    }
}

struct Left {
    commands: Vec<Vec<String>>,
    writes: Vec<RelPath>,
    output: Pending,
}

/// What happens in the sandbox: source, install, steps, comparison, output.
fn inside(
    context: &Context,
    locked: &Locked,
    options: &Options,
    work: &WorkDir,
    inputs: &Inputs,
    sandbox: &mut Sandbox,
    timings: &mut Timings,
) -> Result<Left> {
    let plan = &locked.plan;
    let env = plan.kind.environment(plan, work);
    let progress = &*context.progress;
    let wall = options.step_wall.unwrap_or(STEP_WALL);
    let mut steps = Steps::new(sandbox, work, env, wall, &plan.provider, progress)?;
    {
        let _as_payload = steps.owner.enter()?;
        for below in [WorkDir::HOME, WorkDir::TMP] {
            let io = |err| Error::io("create the directory", below, err);
            steps.dir.create_dir_all(below).map_err(io)?;
        }
    }
    let below = &work.source_below;
    let (tracked, pointers) =
        source::copy_in(&inputs.source.files, &steps.dir, below, steps.owner)?;
    project::decided(&locked.lock, plan, inputs, &pointers)?;
    programs::place(plan, inputs, work, &steps.dir, steps.owner)?;
    let digits = match plan.git {
        true => abbreviation::digits(abbreviation::objects(&inputs.source.files.dir()?)?),
        false => 7,
    };
    steps.program("git", &project::git(plan, work, inputs.source.time, digits))?;
    plan.kind.install(locked, inputs, &mut steps, timings)?;
    for step in &plan.steps {
        steps.run(step.clone(), project::directory(plan, &work.source))?;
    }
    timings.part("steps");
    if let Some(words) = project::unanswered(plan, &steps) {
        context.progress.note(&words);
    }
    let writes = tracked.changed(&steps.dir, below, &project::commands(plan, &inputs.bun_lock))?;
    let output = output::take(&steps.dir, below, &plan.output, &*context.store()?);
    if let Some(path) = writes.iter().find(|path| !plan.writes.contains(path)) {
        let flags: Vec<String> = writes.iter().map(|path| format!("--writes {path}")).collect();
        let fix =
            format!("if the changes are meant: admit lock {} {}", plan.provider, flags.join(" "));
        let error = Error::new(
            Reason::SourceMutated,
            "the build changed a tracked file that its lock does not name",
        )
        .at(path.to_string())
        .expected(format!("changes in: {}", list(&plan.writes)))
        .found(list(&writes))
        .hint(fix);
        // One try, all faults.
        return Err(match output.err() {
            Some(other) => other
                .hints()
                .iter()
                .fold(error.hint(format!("also: {other}")), |error, hint| error.hint(hint.clone())),
            None => error,
        });
    }
    let output = output.map_err(|err| match err.reason() {
        Reason::OutputMissing => tracked
            .made(&steps.dir, below, &inputs.bun_lock.module_dirs())
            .iter()
            .fold(err, |err, path| {
                err.hint(format!("the build left an executable: --output {path}"))
            }),
        _ => err,
    })?;
    let others = tracked.made(&steps.dir, below, &inputs.bun_lock.module_dirs());
    for path in others.iter().filter(|path| *path != plan.output.as_str()) {
        let (name, stem) = (&plan.provider, path.rsplit('/').next().unwrap_or(path));
        let fix = format!(
            "a lock of its own takes it: admit lock {name}-{stem} --like {name} --output {path}"
        );
        context.progress.stage("also", &format!("the build left {path}; {fix}"));
    }
    timings.part("output");
    Ok(Left { commands: steps.commands, writes, output })
}

fn list(paths: &[RelPath]) -> String {
    if paths.is_empty() {
        "none".into()
    } else {
        paths.iter().map(RelPath::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl Built {
    pub fn facts(&self) -> Value {
        serde_json::json!({
            "facts": crate::record::to_value(&self.sandbox),
            "space": self.space,
        })
    }
}
