//! One command after the other in a build's sandbox.

use std::collections::BTreeMap;
use std::time::Duration;

use cap_std::fs::Dir;

use super::programs;
use super::work::WorkDir;
use crate::error::{Error, Reason, Result};
use crate::host::Progress;
use crate::record::ids::{AbsPath, Name};
use crate::sandbox::{Command, Exit, Finished, Owner, Sandbox};

/// Bytes of each stream of a step that are kept for a failure's message.
const KEPT_OUTPUT: u64 = 256 << 10;

/// What helps where a program went over a limit.
pub const RAISE_LIMITS: &str =
    "where this machine's hard limit is below admit's own, raise it: ulimit -H -a";

pub struct Steps<'a> {
    sandbox: &'a mut Sandbox,
    pub work: &'a WorkDir,
    /// The work directory, from outside.
    pub dir: Dir,
    pub owner: Owner,
    env: BTreeMap<String, String>,
    wall: Duration,
    provider: &'a Name,
    progress: &'a dyn Progress,
    pub commands: Vec<Vec<String>>,
}

impl<'a> Steps<'a> {
    pub fn new(
        sandbox: &'a mut Sandbox,
        work: &'a WorkDir,
        env: BTreeMap<String, String>,
        wall: Duration,
        provider: &'a Name,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let dir = sandbox
            .directory()
            .ok_or_else(|| Error::new(Reason::Internal, "no directory came out of the sandbox"))?
            .try_clone()
            .map_err(|err| Error::io("keep the directory of", "the sandbox", err))?;
        let owner = sandbox.owner();
        Ok(Self { sandbox, work, dir, owner, env, wall, provider, progress, commands: Vec::new() })
    }

    /// Runs a step, which must succeed.
    ///
    /// # Errors
    /// [`Reason::StepFailed`], [`Reason::TimedOut`], [`Reason::LimitHit`], those of the sandbox.
    pub fn run(&mut self, argv: Vec<String>, cwd: AbsPath) -> Result<()> {
        self.progress.stage("step", &argv.join(" "));
        let mut command = Command::new(absolute(&argv), cwd);
        command.env = self.env.clone();
        command.wall = self.wall;
        command.stdout_cap = KEPT_OUTPUT;
        command.stderr_cap = KEPT_OUTPUT;
        step_result(&argv, &self.sandbox.run(&command)?, self.provider)?;
        self.commands.push(argv);
        Ok(())
    }

    /// Puts a program of admit's own where steps find it.
    pub fn program(&mut self, name: &str, text: &str) -> Result<()> {
        use cap_std::fs::{OpenOptions, OpenOptionsExt as _};
        use std::io::Write as _;
        let _as_payload = self.owner.enter()?;
        let io = |err| Error::io("write the program", name, err);
        self.dir.create_dir_all(WorkDir::BIN).map_err(io)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o755);
        let path = format!("{}/{name}", WorkDir::BIN);
        let mut file = self.dir.open_with(path, &options).map_err(io)?;
        file.write_all(text.as_bytes()).map_err(io)?;
        let path = self.env.entry("PATH".into()).or_default();
        *path = format!("{path}:{}", self.work.inside(WorkDir::BIN));
        Ok(())
    }

    /// What a program says, which is no step of the build.
    pub fn ask(&mut self, argv: &[&str], cwd: &AbsPath) -> Result<Finished> {
        let mut command = Command::new(argv.iter().copied(), cwd.clone());
        command.env = self.env.clone();
        self.sandbox.run(&command)
    }

    /// What the user of a build should know and nothing hangs on.
    pub fn note(&self, text: &str) {
        self.progress.note(text);
    }
}

/// The command with its program's place inside; the lock's check allows these two.
fn absolute(argv: &[String]) -> Vec<String> {
    let mut argv = argv.to_vec();
    if let Some(first) = argv.first_mut() {
        *first = if first == "sh" { "/bin/sh".into() } else { format!("/admit/bin/{first}") };
    }
    argv
}

pub fn exit_text(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::TimedOut { .. } => "stopped at its deadline".into(),
        Exit::Limit { what } => format!("over the limit {what}"),
    }
}

fn step_result(argv: &[String], finished: &Finished, provider: &Name) -> Result<()> {
    let (reason, what) = match finished.exit {
        Exit::Code(0) => return Ok(()),
        // Or the kernel, for want of memory: neither says that the step is at fault.
        _ if finished.killed().is_some() => (
            Reason::KilledFromOutside,
            "a build step was ended by a signal that admit did not send",
        ),
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
    if finished.killed().is_some() {
        error = error.hint("try again; the kernel sends signal 9 too, for want of memory");
    }
    if matches!(finished.exit, Exit::Limit { .. }) {
        error = error.hint(RAISE_LIMITS);
    }
    if finished.exit == Exit::Code(127) || said.contains("command not found") {
        let found = programs::found();
        error = error.hint(format!("a step finds what the source installs, and of the rest: {found}; no program of the host. A step of your own: admit lock {provider} --step 'bun build --compile main.ts' --output main"));
    }
    if ["git: not found", "git: command not found", "exec: \"git\""]
        .iter()
        .any(|it| said.contains(it))
    {
        error = error.hint(format!(
            "to let steps ask a git that answers from the pin: admit lock {provider} --git true"
        ));
    }
    if asked_for_network(&said) {
        error = error.hint(format!("the step asked for the network: the source's lock is out of date, or the build downloads; what it needs can be declared: admit lock {provider} --download https://example.com/file"));
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
