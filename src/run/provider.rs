//! One run of an admitted provider: its box, its configuration, the door, the supervision, and what was left.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::time::Duration;

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, OpenOptions, OpenOptionsExt as _};
use serde_json::{Value, json};

use super::engine::case::{self, Layout, Project};
use super::engine::events::{self, Claimed};
use super::fixture::Fixture;
use super::judge::{Judge, Judgement};
use super::proof::Marks;
use super::room;
use super::snapshot;
use super::supervise::{self, Clocks, End, Look, Watch};
use super::tools::Tools;
use super::workspace;
use crate::error::{Error, Reason, Result};
use crate::evidence::{Recording, WireSink};
use crate::gate::Admitted;
use crate::proxy::server::{Limits as ProxyLimits, Proxy, ProxyConfig};
use crate::proxy::upstream::Upstream;
use crate::record;
use crate::record::ids::{Digest, RelPath, Timestamp};
use crate::record::sealed::Author;
use crate::record::wire::ProxyRecord;
use crate::recorder::Recorder as _;
use crate::sandbox::{self, Command, Finished, Launcher, Owner, Sandbox, SandboxFacts, Stream};

/// Bytes of each of the provider's streams that are kept in memory; all of both go to the record, within its limits.
const STREAM_CAP: u64 = 1 << 20;

/// How much later than the supervision's clock those fire that stand behind it.
const BEHIND: Duration = Duration::from_secs(60);

/// What the door allows a run with these clocks.
pub fn door(clocks: &Clocks) -> ProxyLimits {
    ProxyLimits { wall: clocks.wall + BEHIND, ..ProxyLimits::default() }
}

/// Everything that a run needs.
pub struct Start<'a> {
    /// Takes down what happens.
    pub run: &'a Arc<Recording>,
    pub admitted: &'a Admitted,
    pub binary: &'a Path,
    /// Its BLAKE3, as the gate saw it.
    pub blake3: Option<Digest>,
    /// Whether it was built without autoloading.
    pub hardened: bool,
    /// The locked argument list.
    pub shape: &'a [String],
    pub fixture: &'a Fixture,
    /// Programs of the host.
    pub tools: &'a Tools,
    pub launcher: &'a Launcher,
    /// Nonce, sentinel, canary.
    pub marks: &'a Marks,
    pub clocks: Clocks,
    /// What the door allows. Its clock stands behind the supervision's.
    pub door: ProxyLimits,
    /// The signal that admit got.
    pub signal: &'a AtomicUsize,
    /// When the run began.
    pub started: Timestamp,
}

pub struct Seen {
    pub end: End,
    /// How the process ended.
    pub finished: Finished,
    /// What went over the wire, and when the bridge started on the recording's clock.
    pub wire: (ProxyRecord, u64),
    pub facts: SandboxFacts,
    /// What the box said its host name is.
    pub hostname: Option<String>,
    pub claimed: Claimed,
    /// What the judge says of what was left.
    pub judgement: Judgement,
    /// Commits in the workspace at the start.
    pub commits: u64,
    /// Whether the agent's last commit holds the change.
    pub committed: bool,
}

/// The task file's path in the box.
pub fn task_file(layout: &Layout, fixture: &Fixture, now: &Timestamp) -> String {
    format!("{}/{}/{}", case::ROOM, layout.tasks(), fixture.task_files(now).json_name)
}

fn rel(text: &str) -> Result<RelPath> {
    text.parse().map_err(|err| Error::new(Reason::Internal, "a path of a run").caused_by(err))
}

/// Writes into the room as the payload.
fn put(room: &Dir, path: &str, bytes: &[u8], owner: Owner) -> Result<()> {
    let _as_payload = owner.enter()?;
    let io = |err| Error::io("write into the box", path, err);
    if let Some((parent, _)) = path.rsplit_once('/') {
        let mut dir = DirBuilder::new();
        dir.mode(0o700).recursive(true);
        room.create_dir_with(parent, &dir).map_err(io)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = room.open_with(path, &options).map_err(io)?;
    std::io::Write::write_all(&mut file, bytes).map_err(io)
}

/// Looks after the work while the provider is at it.
struct Watcher<'a> {
    start: &'a Start<'a>,
    layout: &'a Layout,
    task: &'a str,
    judgement: Option<(Digest, Judgement)>,
}

impl Watcher<'_> {
    fn judge(&self, work: &snapshot::Snapshot) -> Result<Judgement> {
        let Start { launcher, fixture, tools, .. } = *self.start;
        Judge { launcher, fixture, tools }.judge(work)
    }

    fn take(&self, room: &Dir) -> Result<snapshot::Snapshot> {
        let scratch = &self.start.launcher.scratch;
        snapshot::take(room, &self.layout.workspace, self.start.fixture, scratch)
    }
}

impl Watch for Watcher<'_> {
    fn look(&mut self, room: &Dir) -> Look {
        let implemented = room::events(room, self.layout, self.task)
            .is_some_and(|log| events::read(&log).implement_outcome() == Some("completed"));
        if !implemented {
            return Look::default();
        }
        let work = self.take(room).ok().filter(|w| w.committed_change(self.start.fixture));
        Look { finished: work.map(|work| work.digest()) }
    }

    fn judge(&mut self, room: &Dir) -> Result<bool> {
        let work = self.take(room)?;
        let judgement = Watcher::judge(self, &work)?;
        let good = judgement.passed;
        self.judgement = Some((work.digest(), judgement));
        Ok(good)
    }

    fn note(&mut self, kind: &str, data: Value) -> Result<()> {
        self.start.run.event(kind, Author::Admit, data)
    }
}

/// Writes fixture, task and configuration into the room, and copies of the configuration into the record.
fn furnish(start: &Start<'_>, layout: &Layout, sandbox: &Sandbox) -> Result<()> {
    let room = sandbox
        .directory()
        .ok_or_else(|| Error::new(Reason::Internal, "the room was not handed out"))?;
    let owner = sandbox.owner();
    let scratch = &start.launcher.scratch;
    {
        let _as_payload = owner.enter()?;
        let mut dir = DirBuilder::new();
        dir.mode(0o700).recursive(true);
        for name in Layout::DIRS {
            room.create_dir_with(name, &dir).map_err(|err| Error::io("make", name, err))?;
        }
    }
    workspace::write(room, &layout.workspace, &start.fixture.workspace, owner, scratch)?;
    let task = start.fixture.task_files(&start.started);
    let json = record::pretty(&task.json);
    let files = [(&task.json_name, &json[..]), (&task.markdown_name, task.markdown.as_bytes())];
    for (name, bytes) in files {
        put(room, &format!("{}/{name}", layout.tasks()), bytes, owner)?;
        start.run.artifact(&rel(&format!("backend/task/{name}"))?, "task", Author::Admit, bytes)?;
    }
    let model = start
        .admitted
        .model()
        .ok_or_else(|| Error::new(Reason::Internal, "an admitted provider without a model"))?;
    let test = start.fixture.verification();
    let project = Project {
        name: start.fixture.record.repo.as_str(),
        description: &start.fixture.record.task.title,
        test: &test,
    };
    for (path, value) in case::config(layout, model, &project) {
        let bytes = record::pretty(&value);
        put(room, &path, &bytes, owner)?;
        start.run.artifact(&rel(&format!("backend/{path}"))?, "config", Author::Admit, &bytes)?;
    }
    Ok(())
}

/// Reads the workspace back out of the box: it holds the fixture's files and the one commit that can be made of them,
/// whose id says that it has no parent.
fn as_recorded(start: &Start<'_>, layout: &Layout, sandbox: &Sandbox) -> Result<()> {
    let room = sandbox
        .directory()
        .ok_or_else(|| Error::new(Reason::Internal, "the room was not handed out"))?;
    let files = &start.fixture.workspace;
    let there = snapshot::take(room, &layout.workspace, start.fixture, &start.launcher.scratch)?;
    let first = workspace::first_commit(files)?;
    let found = there.head.as_ref().map(|head| head.id.to_string());
    if there.files == *files && there.faults.is_empty() && found == Some(first.to_string()) {
        return Ok(());
    }
    Err(Error::new(Reason::DigestMismatch, "the workspace in the box is not the fixture's")
        .expected(first.to_string())
        .found(found.unwrap_or_else(|| "no commit".into())))
}

/// Asks the box itself for its host name, and what lies beside the binary: nothing may.
fn hostname_and_binary(start: &Start<'_>, sandbox: &mut Sandbox) -> Result<Option<String>> {
    let dir = case::BINARY.rsplit_once('/').map_or("/", |(dir, _)| dir);
    let name = case::BINARY.rsplit_once('/').map_or(case::BINARY, |(_, name)| name);
    let script = format!("uname -n && ls -A {dir}");
    let asked = sandbox.run(&Command::new(["/bin/sh", "-c", &script], case::path("/tmp")?))?;
    let text = asked.stdout.text();
    let mut lines = text.lines();
    let hostname = lines.next().map(str::to_owned).filter(|name| !name.is_empty());
    let beside: Vec<&str> = lines.collect();
    start.run.event("binary_alone", Author::Admit, json!({ "directory": dir, "names": beside }))?;
    match beside == [name] {
        true => Ok(hostname),
        false => Err(Error::new(Reason::RequestRefused, "something lies beside the binary")
            .at(dir)
            .expected(name)
            .found(beside.join(" "))),
    }
}

/// Starts the provider and accompanies it to its end. Nothing of it is alive when this returns, or fails.
pub fn run(start: &Start<'_>, upstream: Upstream) -> Result<Seen> {
    let layout = Layout::new(start.fixture.record.repo.as_str());
    let sha256 = start
        .admitted
        .binary()
        .ok_or_else(|| Error::new(Reason::Internal, "an admitted provider without a binary"))?;
    let hostname = start.marks.hostname();
    let policy = room::policy(start.binary, sha256, start.blake3.clone(), hostname, start.tools)?;
    let mut sandbox = sandbox::start(start.launcher, &policy)?;
    start.run.record("sandbox.json", "sandbox", sandbox.facts())?;
    furnish(start, &layout, &sandbox)?;
    as_recorded(start, &layout, &sandbox)?;
    let hostname = hostname_and_binary(start, &mut sandbox)?;

    let listener = sandbox
        .listener()
        .ok_or_else(|| Error::new(Reason::Internal, "the door's socket did not come out"))?;
    let (events, heard) = mpsc::channel();
    let proxy_ns = start.run.elapsed_ns();
    let model = start.admitted.model().map(|model| model.model.to_string()).unwrap_or_default();
    let proxy = Proxy::start(
        listener,
        ProxyConfig {
            model,
            sentinel: start.marks.sentinel.clone(),
            upstream,
            limits: start.door,
            also_secret: Vec::new(),
            recorder: Box::new(WireSink::new(Arc::clone(start.run))),
            events: Some(events),
        },
    )?;

    let task = start.fixture.record.task.id.as_str();
    let command = command(start, &layout)?;
    let facts = sandbox.facts().clone();
    let mut watcher = Watcher { start, layout: &layout, task, judgement: None };
    start.run.draft(|draft| draft.case_process_started = true);
    let mut running = sandbox.spawn(&command, Some(sink(start.run)))?;
    let place = json!({ "binary": case::BINARY, "sha256": sha256, "argv": command.argv });
    start.run.event("case_process_started", Author::Admit, place)?;
    let end = supervise::supervise(&mut running, &heard, &start.clocks, start.signal, &mut watcher);
    // Whatever went wrong, the tree is dead before anything else is looked at.
    let end = match end {
        Ok(end) => end,
        Err(err) => {
            drop(running.kill());
            return Err(err);
        }
    };
    let finished = running.finish()?;
    let wire = proxy.stop()?;
    let ended = json!({
        "end": format!("{end:?}"), "wait_status": finished.wait_status,
        "leftovers_killed": finished.leftovers, "stdout_bytes": finished.stdout.total,
        "stderr_bytes": finished.stderr.total, "max_rss_kib": finished.max_rss_kib,
    });
    start.run.event("process_end", Author::Admit, ended)?;
    let room = sandbox
        .directory()
        .ok_or_else(|| Error::new(Reason::Internal, "the room was not handed out"))?;
    let claimed = match room::events(room, &layout, task) {
        None => Claimed::default(),
        Some(bytes) => {
            let path = rel("backend/events.jsonl")?;
            start.run.artifact(&path, "event_log", Author::Agent, &bytes)?;
            events::read(&bytes)
        }
    };
    let work = watcher.take(room)?;
    let committed = work.committed_change(start.fixture);
    if let Some(head) = work.head.as_ref().filter(|_| committed) {
        let data = json!({ "commit": head.id });
        start.run.event("workspace_commit", Author::Admit, data)?;
    }
    // What was judged while everyone stood still is judged anew where it changed since.
    let judgement = match watcher.judgement.take() {
        Some((digest, judgement)) if digest == work.digest() => judgement,
        _ => watcher.judge(&work)?,
    };
    let data = json!({ "accepted": judgement.passed, "note": judgement.note() });
    start.run.event("judge_finished", Author::Admit, data)?;
    sandbox.end();
    Ok(Seen {
        end,
        finished,
        wire: (wire, proxy_ns),
        facts,
        hostname,
        claimed,
        judgement,
        // As read back before the start.
        commits: 1,
        committed,
    })
}

fn command(start: &Start<'_>, layout: &Layout) -> Result<Command> {
    let file = start
        .admitted
        .task_file()
        .ok_or_else(|| Error::new(Reason::Internal, "an admitted provider without a task"))?;
    let mut argv = vec![case::BINARY.to_owned()];
    argv.extend(case::arguments(start.shape, file));
    let mut command = Command::new(argv, layout.workspace()?);
    command.env = environment(start.marks, start.hardened, start.tools);
    // The supervision has clocks of its own; this one only stands behind them.
    command.wall = start.clocks.wall + BEHIND;
    command.grace = Duration::from_secs(2);
    command.stdout_cap = STREAM_CAP;
    command.stderr_cap = STREAM_CAP;
    Ok(command)
}

/// The whole environment of the provider.
pub fn environment(marks: &Marks, hardened: bool, tools: &Tools) -> BTreeMap<String, String> {
    let sentinel = String::from_utf8_lossy(marks.sentinel.expose());
    case::environment(&sentinel, hardened, &tools.environment())
}

/// Sends both streams to the record as they come.
fn sink(run: &Arc<Recording>) -> sandbox::Sink {
    let run = Arc::clone(run);
    Box::new(move |stream, bytes| {
        let name = match stream {
            Stream::Stdout => "backend/stdout.log",
            Stream::Stderr => "backend/stderr.log",
        };
        // A failure is remembered by the recording and fails the run when it is sealed.
        if let Ok(path) = rel(name) {
            drop(run.append(&path, "stream", Author::Agent, bytes));
        }
    })
}
