//! One run of an admitted provider: its sandbox, the proxy, the supervision, and what was left.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};

use cap_std::fs::Dir;
use serde_json::{Value, json};

use super::agent::Agent;
use super::agent::log::Claimed;
use super::classify;
use super::judge::{Bench, Judgement};
use super::phases::Began;
use super::proof::Marks;
use super::reader::{self, Reader};
use super::snapshot;
use super::supervise::{self, End, Look, Watch};
use super::{workdir, workspace};
use crate::check::launch::Launch;
use crate::error::{Error, Reason, Result};
use crate::evidence::{Recording, WireSink, names};
use crate::gate::Admitted;
use crate::host::{Clock, MemoryKills};
use crate::proxy::account::Unanswered;
use crate::proxy::server::{Proxy, ProxyConfig};
use crate::proxy::upstream::Upstream;
use crate::record::ids::{Digest, RelPath};
use crate::record::sealed::Author;
use crate::record::wire::ProxyRecord;
use crate::sandbox::{self, Command, Finished, Launcher, Sandbox, SandboxFacts, Stream};

/// Bytes of each of the provider's streams that are kept in memory; all of both go to the record, within its limits.
const STREAM_CAP: u64 = 1 << 20;

/// What a run works with beside what was admitted.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    pub run: &'a Arc<Recording>,
    pub agent: &'a dyn Agent,
    pub bench: Bench<'a>,
    pub launcher: &'a Launcher,
    pub marks: &'a Marks,
    pub signal: &'a AtomicUsize,
    /// What the kernel had ended for want of memory before the run.
    pub memory: &'a MemoryKills,
    pub clock: &'a dyn Clock,
}

pub struct Seen {
    pub end: End,
    pub finished: Finished,
    /// Who else ended it, in words.
    pub killed: Option<String>,
    pub wire: ProxyRecord,
    /// Why the credential helper, asked again, gave nothing, where that was its last answer.
    pub helper_failed: Option<Unanswered>,
    pub began: Began,
    pub facts: SandboxFacts,
    /// What the sandbox said its host name is.
    pub hostname: Option<String>,
    pub claimed: Claimed,
    /// What the judge says of what was left; absent for a run that was told to stop.
    pub judgement: Option<Judgement>,
    /// Commits in the workspace at the start.
    pub commits: u64,
    /// Whether the agent's last commit holds the change.
    pub committed: bool,
}

pub(super) fn rel(text: &str) -> Result<RelPath> {
    text.parse().map_err(|err| Error::new(Reason::Internal, "a path of a run").caused_by(err))
}

fn workdir(sandbox: &Sandbox) -> Result<&Dir> {
    let missing = || Error::new(Reason::Internal, "the working directory did not come out");
    sandbox.directory().ok_or_else(missing)
}

struct Watcher<'a> {
    around: &'a Around<'a>,
    /// The agent's standard output so far.
    said: Arc<Mutex<Vec<u8>>>,
    judgement: Option<(Digest, Judgement)>,
    reader: Reader,
    /// A look that was begun and is not done.
    looking: Option<mpsc::Receiver<reader::Seen>>,
}

impl Watcher<'_> {
    fn log(&self, workdir: &Dir) -> Option<Vec<u8>> {
        match self.around.agent.log_directory(self.around.bench.fixture) {
            Some(directory) => workdir::log(workdir, &directory),
            None => {
                let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
                (!said.is_empty()).then(|| said.clone())
            }
        }
    }

    fn judge(&self, work: &snapshot::Snapshot) -> Result<Judgement> {
        let since = self.around.run.elapsed_ns();
        let judgement = self.around.bench.judge(work)?;
        self.around.run.span("judge", since)?;
        Ok(judgement)
    }
}

impl Watch for Watcher<'_> {
    fn look(&mut self, workdir: &Dir) -> Option<Look> {
        if let Some(heard) = &self.looking {
            let seen = match heard.try_recv() {
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => None,
                Ok(seen) => Some(seen),
            };
            self.looking = None;
            let done = seen.filter(|(work, _)| work.committed_change(self.around.bench.fixture));
            return Some(Look { finished: done.map(|(_, digest)| digest) });
        }
        let agent = self.around.agent;
        let done = self.log(workdir).is_some_and(|log| agent.work_done(&agent.read(&log)));
        if !done {
            return Some(Look::default());
        }
        match self.reader.begin(workdir) {
            Ok(heard) => self.looking = Some(heard),
            Err(_) => return Some(Look::default()),
        }
        None
    }

    fn judge(&mut self, workdir: &Dir) -> Result<bool> {
        let work = self.reader.read(workdir)?;
        let judgement = Watcher::judge(self, &work)?;
        let good = judgement.passed;
        self.judgement = Some((work.digest(), judgement));
        Ok(good)
    }

    fn note(&mut self, kind: &str, data: Value) -> Result<()> {
        self.around.run.event(kind, Author::Admit, data)
    }
}

/// Writes the launch's directories, the fixture's workspace and the launch's files; and copies of the files into the
/// record.
fn furnish(around: &Around<'_>, launch: &Launch, sandbox: &Sandbox) -> Result<()> {
    let (dir, owner) = (workdir(sandbox)?, sandbox.owner());
    let run = around.run;
    workdir::directories(dir, launch, owner)?;
    workspace::write(dir, workspace_place(launch)?, &launch.workspace, owner)?;
    workdir::files(dir, launch, owner)?;
    for (path, file) in &launch.files {
        let kept = match file.role {
            "task" => names::task(path.rsplit('/').next().unwrap_or(path)),
            _ => names::given(path),
        };
        run.artifact(&rel(&kept)?, file.role, Author::Admit, &file.bytes)?;
    }
    Ok(())
}

fn workspace_place(launch: &Launch) -> Result<&str> {
    let outside = || Error::new(Reason::Internal, "the workspace is outside of what is handed out");
    launch.workspace_place().ok_or_else(outside)
}

/// Reads the workspace back out of the sandbox: it holds the launch's files and the one commit that can be made of
/// them, whose id says that it has no parent. Gives the number of commits.
fn as_recorded(around: &Around<'_>, launch: &Launch, sandbox: &Sandbox) -> Result<u64> {
    let files = &launch.workspace;
    let there = snapshot::take(workdir(sandbox)?, workspace_place(launch)?, around.bench.fixture)?;
    let first = workspace::first_commit(files)?;
    let found = there.head.as_ref().map(|head| head.id.to_string());
    if there.files == *files && there.faults.is_empty() && found == Some(first.to_string()) {
        return Ok(there.commits());
    }
    Err(Error::new(Reason::DigestMismatch, "the workspace in the sandbox is not the fixture's")
        .expected(first.to_string())
        .found(found.unwrap_or_else(|| "no commit".into())))
}

/// Asks the sandbox itself for its host name, and what lies beside the program: nothing may.
fn hostname_and_program(
    around: &Around<'_>,
    program: &str,
    sandbox: &mut Sandbox,
) -> Result<Option<String>> {
    let (dir, name) = program.rsplit_once('/').unwrap_or(("/", program));
    let script = format!("uname -n && ls -A {dir}");
    let command = Command::new(["/bin/sh", "-c", &script], super::agent::path("/tmp")?);
    let asked = sandbox.run(&command)?;
    let asked = asked.not_killed("a program that admit asked in the sandbox was ended")?;
    let text = asked.stdout.text();
    let mut lines = text.lines();
    let hostname = lines.next().map(str::to_owned).filter(|name| !name.is_empty());
    let beside: Vec<&str> = lines.collect();
    let seen = json!({ "directory": dir, "names": beside });
    around.run.event("binary_alone", Author::Admit, seen)?;
    match beside == [name] {
        true => Ok(hostname),
        false => Err(Error::new(Reason::RequestRefused, "something lies beside the binary")
            .at(dir)
            .expected(name)
            .found(beside.join(" "))),
    }
}

/// Starts what was admitted and accompanies it to its end. Nothing of it is alive when this returns, or fails.
pub fn work(around: &Around<'_>, admitted: &Admitted, upstream: Upstream) -> Result<Seen> {
    let Around { run, agent, bench: Bench { fixture, .. }, launcher, marks, .. } = *around;
    let missing = |what: &'static str| move || Error::new(Reason::Internal, what);
    let (launch, _) = admitted.provider().ok_or_else(missing("no provider was admitted"))?;
    let since = run.elapsed_ns();
    let mut sandbox = sandbox::start(launcher, &launch.sandbox)?;
    run.record(names::SANDBOX, "sandbox", sandbox.facts())?;
    furnish(around, launch, &sandbox)?;
    let commits = as_recorded(around, launch, &sandbox)?;
    let program = launch.argv.first().ok_or_else(missing("a launch without a program"))?;
    let hostname = hostname_and_program(around, program, &mut sandbox)?;

    run.span("sandbox", since)?;

    let listener = sandbox.listener().ok_or_else(missing("the listener did not come out"))?;
    let (events, heard) = mpsc::channel();
    let account = upstream.account().cloned();
    let proxy = Proxy::start(
        listener,
        ProxyConfig {
            model: launch.proxy.model.clone(),
            sentinel: marks.sentinel.clone(),
            upstream,
            names: sandbox.names(),
            limits: launch.proxy.limits,
            recorder: Box::new(WireSink::new(Arc::clone(run))),
            events: Some(events),
        },
    )?;

    let since = proxy.started().elapsed();
    let began = Began {
        unix_ns: around.clock.unix_ns() - i128::try_from(since.as_nanos()).unwrap_or_default(),
        run_ns: run.elapsed_ns() - u64::try_from(since.as_nanos()).unwrap_or_default(),
    };

    let command = command(launch);
    let facts = sandbox.facts().clone();
    let reader = Reader::new(launcher, workspace_place(launch)?, fixture, sandbox.owner())?;
    let said = Arc::<Mutex<Vec<u8>>>::default();
    let kept = agent.log_directory(fixture).is_none().then(|| Arc::clone(&said));
    let mut watcher = Watcher { around, said, judgement: None, reader, looking: None };
    run.draft(|draft| draft.case_process_started = true);
    let since = run.elapsed_ns();
    let mut running = sandbox.spawn(&command, Some(sink(run, kept)))?;
    let place = json!({ "binary": program, "sha256": launch.binary, "argv": launch.argv });
    run.event("case_process_started", Author::Admit, place)?;
    let clocks = &launch.clocks;
    let end = supervise::supervise(&mut running, &heard, clocks, around.signal, &mut watcher);
    // Whatever went wrong, the tree is dead before anything else is looked at.
    let end = end.inspect_err(|_| drop(running.kill()))?;
    let finished = running.finish()?;
    run.span("agent", since)?;
    let wire = proxy.stop()?;
    let mut helper_failed = None;
    if let Some(account) = account {
        // An error's words hold nothing that the helper printed.
        let (given, failed) = account.asked();
        let why = failed.as_ref().map(|failed| &failed.why);
        let data = json!({ "given": given, "failed": why });
        run.event("credential_helper", Author::Admit, data)?;
        helper_failed = failed;
    }
    let killed = classify::foreign_signal(end, finished.wait_status).map(|signal| {
        let memory = around.memory.risen().filter(|_| signal == libc::SIGKILL);
        match memory {
            Some(memory) => format!("signal {signal}: {memory}"),
            None => sandbox::unknown_sender(signal),
        }
    });
    let ended = json!({
        "end": format!("{end:?}"), "wait_status": finished.wait_status,
        "leftovers_killed": finished.leftovers, "stdout_bytes": finished.stdout.total,
        "stderr_bytes": finished.stderr.total, "max_rss_kib": finished.max_rss_kib,
    });
    run.event("process_end", Author::Admit, ended)?;
    let workdir = workdir(&sandbox)?;
    let claimed = match watcher.log(workdir) {
        None => Claimed::default(),
        Some(bytes) => {
            // Its output is kept as such already.
            if agent.log_directory(fixture).is_some() {
                run.artifact(&rel(names::AGENT_EVENTS)?, "event_log", Author::Agent, &bytes)?;
            }
            agent.read(&bytes)
        }
    };
    let seen = |judgement, committed| Seen {
        end,
        finished,
        killed,
        wire,
        helper_failed,
        began,
        facts,
        hostname,
        claimed,
        judgement,
        commits,
        committed,
    };
    // Told to stop, admit judges nothing more: the seal has to be there within two seconds.
    if matches!(end, End::Interrupted(_)) {
        sandbox.end();
        return Ok(seen(None, false));
    }
    let work = watcher.reader.read(workdir)?;
    let committed = work.committed_change(fixture);
    if let Some(head) = work.head.as_ref().filter(|_| committed) {
        run.event("workspace_commit", Author::Admit, json!({ "commit": head.id }))?;
    }
    // What was judged while everyone stood still is judged anew where it changed since.
    let judgement = match watcher.judgement.take() {
        // Nothing is found out any more that could wait.
        _ if around.signal.load(Ordering::SeqCst) != 0 => Judgement::not_made("told to stop"),
        Some((digest, judgement)) if digest == work.digest() => judgement,
        _ => watcher.judge(&work)?,
    };
    let data = json!({ "accepted": judgement.passed, "note": judgement.note() });
    run.event("judge_finished", Author::Admit, data)?;
    sandbox.end();
    Ok(seen(Some(judgement), committed))
}

fn command(launch: &Launch) -> Command {
    let mut command = Command::new(launch.argv.clone(), launch.directory.clone());
    command.env = launch.env.clone();
    // The supervision has clocks of its own; this one only stands behind them, as the proxy's does.
    command.wall = launch.proxy.limits.wall;
    command.grace = launch.clocks.grace;
    // Of what is kept in memory. All of both streams goes to the record.
    command.stdout_cap = STREAM_CAP;
    command.stderr_cap = STREAM_CAP;
    command
}

/// Sends both streams to the record as they come, and standard output to `said` where it is the agent's log.
fn sink(run: &Arc<Recording>, said: Option<Arc<Mutex<Vec<u8>>>>) -> sandbox::Sink {
    let run = Arc::clone(run);
    Box::new(move |stream, bytes| {
        if let (Stream::Stdout, Some(said)) = (stream, &said) {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            // An agent that prints more than a log may hold claims nothing: its last line is never seen.
            let room = workdir::MAX_LOG as usize - said.len();
            said.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        let name = match stream {
            Stream::Stdout => names::STDOUT,
            Stream::Stderr => names::STDERR,
        };
        // A failure is remembered by the recording and fails the run when it is sealed.
        if let Ok(path) = rel(name) {
            drop(run.append(&path, "stream", Author::Agent, bytes));
        }
    })
}
