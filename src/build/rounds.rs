//! `admit rebuild` and `admit build --rebuild`: builds that are compared with the lock or with an earlier build.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::make::{Build, Made, make};
use super::options::Options;
use super::rebuild::{
    Around, Blame, Expected, Failed, Machine, NotVaried, OPEN_PATH, Product, Rebuilt, RoundEnd,
    Variation, Varied, decide, possible,
};
use super::sandboxed::{self, Outcome};
use super::stored::Stored;
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::host::{self, Timings, cpus, time_namespaces};
use crate::lock::Locked;
use crate::record::ids::{CommitId, Digest, Name};

/// The schema word of the one object that a round's process prints.
pub const ROUND: &str = "admit.round/1";

/// What was built again, and what that says: the form of every rebuild.
#[derive(Clone, Debug, Serialize)]
pub struct Rebuild {
    pub schema: &'static str,
    pub provider: Name,
    pub pinned_commit: CommitId,
    pub lock_digest: Digest,
    pub not_varied: Vec<NotVaried>,
    pub diff: Option<Vec<String>>,
    #[serde(flatten)]
    pub rebuilt: Rebuilt,
}

impl Rebuild {
    fn new(locked: &Locked, rebuilt: Rebuilt, not_varied: Vec<NotVaried>) -> Self {
        let pair = rebuilt.blame.as_ref().and_then(Blame::pair);
        let diff = pair.and_then(|(a, b)| {
            let paths = [a.output.as_ref()?, b.output.as_ref()?];
            let paths = paths.map(|path| path.display().to_string());
            Some([["admit", "diff"].map(str::to_owned), paths].concat())
        });
        Self {
            schema: "admit.rebuild/2",
            provider: locked.lock.provider.clone(),
            pinned_commit: locked.lock.source.rev.clone(),
            lock_digest: locked.digest.clone(),
            not_varied,
            diff,
            rebuilt,
        }
    }
}

#[derive(Debug)]
pub struct Again {
    /// Absent where a build succeeded that there was nothing to compare with.
    pub rebuild: Option<Rebuild>,
    pub build: Result<Build>,
}

/// Builds once more with nothing varied, and compares with the locked output or, where none is locked, with the build
/// that is in the store. An output that differs and an input that was served with other bytes are told apart, since of
/// the second nothing was rebuilt.
pub fn again(context: &Context, locked: &Locked, options: &Options) -> Result<Again> {
    host::enough_tasks()?;
    let store = context.store()?;
    let earlier = Stored::of(&store, locked).report()?;
    let expected = match locked.output() {
        Some(output) => Some(Expected::Lock { sha256: output.sha256.clone() }),
        None => earlier.map(|report| {
            let path = store.file_path(report.sha256.digest());
            Expected::Build(Product::new(report.binary(), Some(path)))
        }),
    };
    let made = make(context, locked, &Options { again: true, ..options.clone() });
    let (product, build) = match made {
        Ok(Made::Build(build)) => {
            let product = Product::new(build.report.binary(), Some(build.output.clone()));
            (Some(product), Ok(*build))
        }
        Ok(Made::Differs(differs)) => (Some(Product::new(differs.found, None)), Err(differs.error)),
        Err(err) if err.reason() == Reason::DigestMismatch => (None, Err(input_refused(&err))),
        Err(err) => (None, Err(err)),
    };
    let failed = build.as_ref().err().map(Failed::new);
    let rebuild = (expected.is_some() || failed.is_some())
        .then(|| Rebuild::new(locked, Rebuilt::once(expected, product, failed), Vec::new()));
    Ok(Again { rebuild, build })
}

fn input_refused(err: &Error) -> Error {
    let what = "an input is not what the lock records, so nothing was rebuilt";
    let mut all = Error::new(Reason::InputRefused, what)
        .at(err.place().unwrap_or_default())
        .expected(err.expected_value().unwrap_or_default())
        .found(err.found_value().unwrap_or_default());
    for hint in err.hints() {
        all = all.hint(hint.clone());
    }
    all.caused_by(format!("{}: {}", err.reason(), err.what()))
}

#[derive(Clone, Debug)]
pub struct Wanted {
    pub rounds: usize,
    pub vary: Vec<Variation>,
    pub step_wall: Duration,
}

/// Builds again and again with what is around the sandbox varied, each time in a process of its own, and finds out what
/// the output follows where it differs.
///
/// # Errors
/// What a build could not even begin with; a build that failed is an answer.
pub fn rebuild(context: &Context, locked: &Locked, wanted: &Wanted) -> Result<Rebuild> {
    host::enough_tasks()?;
    locked.plan.kind.require_built()?;
    let machine = Machine { cpus: cpus()?, time_namespaces: time_namespaces() };
    let (can, cannot) = possible(&wanted.vary, &machine);
    let path_locked = locked.lock.build.path.is_some();
    let rounds: Vec<Around> = (0..wanted.rounds)
        .map(|round| Around::of_round(round, &can, &machine, path_locked))
        .collect();
    let scratch = context.store()?.scratch()?;
    let mut builds = 0;
    let rebuilt = decide(locked.output().map(|output| &output.sha256), &rounds, &mut |around| {
        builds += 1;
        let what: Vec<_> = around.0.keys().map(|variation| variation.as_str()).collect();
        let what = if what.is_empty() { "nothing".to_owned() } else { what.join(", ") };
        context.progress.stage("rebuild", &format!("build {builds}, varied: {what}"));
        process(context, locked, wanted.step_wall, scratch.path(), around)
    })?;
    Ok(Rebuild::new(locked, rebuilt, cannot))
}

/// One build, in a process of its own with these surroundings.
fn process(
    context: &Context,
    locked: &Locked,
    step_wall: Duration,
    scratch: &Path,
    around: &Around,
) -> Result<RoundEnd> {
    let below = |name: &str| -> Result<_> {
        let dir = scratch.join(name);
        std::fs::create_dir_all(&dir).map_err(|err| Error::io("create", &dir, err))?;
        Ok(dir)
    };
    let mut command = Command::new("/proc/self/exe");
    command.args(context.flags()?).args(["--json", "--quiet", "rebuild-round"]);
    command.args(["--step-timeout", &step_wall.as_secs().to_string()]);
    let mut open_path = OPEN_PATH;
    for (varied, _) in around.0.values() {
        match varied {
            Varied::Path { scratch, inside } => {
                open_path = inside;
                command.arg("--scratch").arg(below(scratch)?)
            }
            Varied::Clock(seconds) => command.args(["--clock-ahead", &seconds.to_string()]),
            Varied::Umask(mask) => command.args(["--umask", &mask.to_string()]),
            Varied::Cpu(cpu) => command.args(["--cpu", &cpu.to_string()]),
            Varied::Env(variables) => command.envs(variables.iter().copied()),
            Varied::Home(home) => command.env("HOME", below(home)?).envs(context.home_kept()?),
        };
    }
    command.args(["--open-path", open_path]);
    let spec = format!("{}@{}", locked.lock.provider, locked.lock.source.rev);
    command.arg("--").arg(spec).stdin(Stdio::null());
    let output = command.output().map_err(|err| Error::io("start", "admit", err))?;
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let code = output.status.code().and_then(|code| u8::try_from(code).ok());
    let product = (said["schema"] == ROUND).then(|| said["product"].clone());
    match (code, product.map(serde_json::from_value)) {
        (Some(0), Some(Ok(product))) => Ok(Ok(product)),
        (Some(exit_code), None) if exit_code != 0 && said["schema"] == "admit.error/1" => {
            Ok(Err(Failed { exit_code, error: said }))
        }
        _ => Err(Error::new(Reason::Internal, "a round ended without an answer")
            .found(output.status.to_string())
            .caused_by(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// One build of `admit rebuild`. Its output is kept whatever it is, to be looked at, and nothing is recorded.
pub fn round(context: &Context, locked: &Locked, options: &Options) -> Result<Product> {
    let store = context.store()?;
    let _lock = store.lock(&Stored::of(&store, locked).key, &mut || ())?;
    let options = Options { any_output: true, ..options.clone() };
    match sandboxed::build(context, locked, &options, &mut Timings::start())? {
        Outcome::Built(built) => Ok(Product::new(built.proven.output, Some(built.proven.path))),
        Outcome::Differs(differs) => Err(differs.error),
    }
}
