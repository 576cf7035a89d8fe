//! The sequence of a run: facts, gate, baselines, the provider, the judge, the seal.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::json;

use super::agent::case::Case;
use super::agent::{self, Agent, fake};
use super::baseline::{self, Baselines};
use super::earlier::Earlier;
use super::facts::{self, Gathered, Sources};
use super::fixture::{self, Fixture};
use super::judge::held_out::{Draw, Seed};
use super::judge::{self, Bench, Judge};
use super::launch;
use super::options::Options;
use super::proof::Marks;
use super::provider::{self, Around};
use super::supervise::{SETTLE, told_within};
use super::tools::Tools;
use super::verdict;
use crate::check::{CheckPolicy, Engine, Purpose};
use crate::context::Context;
use crate::error::{Error, Kind, Reason, Result};
use crate::evidence::{Recording, Sealed, names};
use crate::gate::{self, Admitted, Decision};
use crate::host::{self, MemoryKills};
use crate::lock;
use crate::record::evidence::{ProviderOrigin, RunReport, RunStatus};
use crate::record::failure::FailureClass;
use crate::record::finding::State;
use crate::record::lockfile::AgentKind;
use crate::record::sealed::Author;
use crate::sandbox::{Launcher, Policy as SandboxPolicy};
use crate::secrets::{Known, Secret};
use crate::stop;

/// How long admit's own signal is waited for once a signal ended what admit had started: who stops a whole group may be slow.
const OWN_SIGNAL: Duration = Duration::from_secs(1);

/// What a run came to.
pub struct Outcome {
    /// The exit code.
    pub code: u8,
    /// The evidence; none of a dry run.
    pub sealed: Option<Sealed>,
    pub decision: Decision,
}

/// What the parts of a run share.
struct Run<'a> {
    /// What the run was started with.
    given: Sources<'a>,
    /// As the run began.
    memory: MemoryKills,
    /// The baselines of a campaign's run, and where they are kept for those after it.
    made: OnceLock<(Earlier<'a>, Baselines)>,
}

/// Runs, or says why not.
///
/// # Errors
/// Where the run could not even begin (root, fixture), or what happened could not be found out; in the latter case the
/// run directory is sealed all the same.
pub fn run(context: &Context, options: &Options) -> Result<Outcome> {
    let root = context.root()?;
    let fixture = fixture::load(&root, &options.fixture)?;
    let prepared = host::enough_tasks().and_then(|()| context.store()).and_then(|store| {
        let scratch = store.scratch()?;
        let marks = Marks::make(scratch.path())?;
        Ok((store, scratch, marks))
    });
    let (store, scratch, marks) = match prepared {
        Ok(prepared) => prepared,
        Err(err) if options.dry_run => return Err(err),
        Err(err) => {
            let (recording, report) = begin(context, options, &fixture)?;
            return Err(sealed_with(context, &recording, report, err)?);
        }
    };
    let locked = lock::resolve(&root, &options.provider);
    let launcher = match &options.launcher {
        None => Launcher::own(scratch.path()),
        Some(exe) => Launcher { exe: exe.clone(), scratch: scratch.path().into() },
    };
    let shape = locked.as_ref().ok().map(|locked| &locked.lock.run);
    let agent: Box<dyn Agent> = match shape.map(|run| (run.agent, &run.command)) {
        Some((AgentKind::Command, Some(run))) => {
            Box::new(agent::command::Command { run: run.clone() })
        }
        // Without a lock, or with one that does not hold together, the gate refuses whatever the agent.
        None | Some((AgentKind::Case, _) | (AgentKind::Command, None)) => Box::new(Case),
    };
    let given = Sources {
        context,
        options,
        engine: engine(options),
        agent: &*agent,
        root: &root,
        store: &store,
        fixture: &fixture,
        locked: locked.as_ref(),
        launcher: &launcher,
        marks: &marks,
    };
    let run = Run { given, memory: MemoryKills::now(), made: OnceLock::new() };
    if options.dry_run {
        let (gathered, decision) = run.gate()?;
        let killed = gathered.killed();
        let patience = if killed.is_some() { OWN_SIGNAL } else { Duration::ZERO };
        if told_within(&context.stop, patience).is_some() {
            return Err(Error::new(
                Reason::Interrupted,
                "told to stop before every check was made",
            ));
        }
        if let Some(killed) = killed {
            return Err(killed);
        }
        let kind = decision.kind().filter(|_| !decision.holds_as_far_as_asked());
        let code = kind.map_or(0, Kind::exit_code);
        return Ok(Outcome { code, sealed: None, decision });
    }
    // A core file would hold the key.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)
        .map_err(|err| Error::io("forbid", "core files", err.into()))?;
    run.recorded()
}

fn engine(options: &Options) -> Engine {
    options.request.flags.engine.unwrap_or(Engine::Provider)
}

/// The run directory with its first event, and the report as it is before anything was found out.
fn begin(
    context: &Context,
    options: &Options,
    fixture: &Fixture,
) -> Result<(Arc<Recording>, RunReport)> {
    let name = &fixture.record.name;
    let draft = verdict::draft(name, engine(options), options, &context.clock.now());
    let (clock, limits) = (Arc::clone(&context.clock), options.evidence);
    let recording = match &options.directory {
        Some(dir) => Recording::begin_in(dir, draft.clone(), clock, limits)?,
        None => Recording::begin(&context.runs_dir()?, name, draft.clone(), clock, limits)?,
    };
    Ok((Arc::new(recording), draft))
}

/// Seals the run that `err` ended, and gives the error back: what could not be found out is a failed run with evidence,
/// and the error all the same.
fn sealed_with(
    context: &Context,
    recording: &Recording,
    mut report: RunReport,
    err: Error,
) -> Result<Error> {
    verdict::broke_off(recording, &mut report, &err);
    let sealed = own(recording, recording.seal(report))?;
    context.progress.note(&format!("evidence: {}", sealed.directory.display()));
    Ok(err)
}

/// Seals what is known of a run that does not come to an end of its own; `None` where it is being sealed already.
fn interrupted(recording: &Recording, signal: usize) -> Option<stop::Done> {
    let mut report = recording.drafted();
    verdict::stopped(&mut report, FailureClass::Interrupted, &format!("signal {signal}"));
    let sealed = recording.seal(report).ok()?;
    Some(stop::Done { code: verdict::exit_code(&sealed.report), answer: Some(answer(&sealed)) })
}

/// What the run's own sealing gave. Where [`interrupted`] came before it, the answer is given there, and not twice.
fn own<T>(recording: &Recording, sealed: Result<T>) -> Result<T> {
    if sealed.is_err() && recording.is_sealed() {
        stop::give_way();
    }
    sealed
}

/// What a run came to, as data (`admit.run/2`).
pub fn answer(sealed: &Sealed) -> serde_json::Value {
    json!({
        "schema": "admit.run/2", "id": sealed.id, "directory": sealed.directory,
        "report": sealed.report,
    })
}

impl Run<'_> {
    /// The run with its evidence, from the first event to the seal.
    fn recorded(&self) -> Result<Outcome> {
        let (recording, mut report) =
            begin(self.given.context, self.given.options, self.given.fixture)?;
        let _told_to_stop = stop::at_last({
            let recording = Arc::clone(&recording);
            move |signal| interrupted(&recording, signal)
        });
        let ended = self.all(&recording, &mut report);
        if let Some((class, detail)) = self.ended_by_others(&ended, &report) {
            verdict::process_started(&recording, &mut report);
            verdict::stopped(&mut report, class, &detail);
            let decision = match ended {
                Ok((_, decision)) => decision,
                Err(_) => Decision { admitted: None, findings: report.gates.clone() },
            };
            let sealed = own(&recording, recording.seal(report))?;
            let code = verdict::exit_code(&sealed.report);
            return Ok(Outcome { code, sealed: Some(sealed), decision });
        }
        match ended {
            Ok((code, decision)) => {
                let sealed = recording.seal_unless(report, &|report| {
                    let mut report = report.clone();
                    self.stopped(&mut report).then_some(report)
                });
                let sealed = own(&recording, sealed)?;
                self.keep(&sealed);
                let code = match (code, &sealed.report) {
                    (Some(code), report)
                        if report.failure_class != Some(FailureClass::Interrupted) =>
                    {
                        code
                    }
                    (None, report)
                        if self.given.options.require_pass
                            && report.status == RunStatus::Rehearsed =>
                    {
                        Kind::No.exit_code()
                    }
                    (_, report) => verdict::exit_code(report),
                };
                Ok(Outcome { code, sealed: Some(sealed), decision })
            }
            Err(err) => Err(sealed_with(self.given.context, &recording, report, err)?),
        }
    }

    /// Keeps the baselines of a run that ended well for those after it. Without them those make their own.
    fn keep(&self, sealed: &Sealed) {
        let good = matches!(sealed.report.status, RunStatus::Pass | RunStatus::Rehearsed);
        if let Some((earlier, made)) = self.made.get().filter(|_| good)
            && let Err(err) = earlier.keep(made.clone(), &sealed.id, &sealed.directory)
        {
            self.given.context.progress.note(&format!("the baselines are not kept: {err}"));
        }
    }

    /// Whether somebody else ended the run, whatever it came to: admit was told to stop, or the machine took what it had
    /// started. Where something died, admit's own signal may come a moment later.
    fn ended_by_others(
        &self,
        ended: &Result<(Option<u8>, Decision)>,
        report: &RunReport,
    ) -> Option<(FailureClass, String)> {
        let good = matches!(report.status, RunStatus::Pass | RunStatus::Rehearsed);
        let killed = matches!(ended, Err(err) if err.reason() == Reason::KilledFromOutside);
        let patience = match (killed, ended.is_ok() && good) {
            (true, _) => OWN_SIGNAL,
            (_, true) => Duration::ZERO,
            _ => SETTLE,
        };
        if let Some(signal) = told_within(&self.given.context.stop, patience) {
            return Some((FailureClass::Interrupted, format!("signal {signal}")));
        }
        match (ended, report.failure_class) {
            (Err(err), _) if err.reason() == Reason::KilledFromOutside => {
                let why = self.memory.risen().unwrap_or_else(|| err.to_string());
                Some((FailureClass::KilledFromOutside, why))
            }
            // A sandbox that could not be built, or a judge that fell: for want of memory, if the counter says so.
            (Err(err), _) if matches!(err.kind(), Kind::Sandbox | Kind::Bug) => {
                Some((FailureClass::KilledFromOutside, self.memory.risen()?))
            }
            (Ok(_), Some(FailureClass::VoidBaseline)) => {
                Some((FailureClass::KilledFromOutside, self.memory.risen()?))
            }
            _ => None,
        }
    }

    /// What was found out, and what the gate says of it.
    fn gate(&self) -> Result<(Gathered, Decision)> {
        let probe = self.given.options.probe || !self.given.options.dry_run;
        let workspace =
            format!("{}/{}", agent::WORKDIR, self.given.agent.workspace(self.given.fixture));
        let policy = CheckPolicy {
            purpose: Purpose::Run { engine: self.given.engine, probe },
            contract: Some(self.given.fixture.contract(&agent::path(&workspace)?)),
        };
        let now = self.given.context.clock.now();
        let gathered = facts::gather(&self.given, &now, &policy);
        let decision = gate::decide(&gathered.facts, &policy);
        Ok((gathered, decision))
    }

    /// Everything between the first event and the seal. `Some` exit code where the report does not decide it.
    fn all(&self, run: &Arc<Recording>, report: &mut RunReport) -> Result<(Option<u8>, Decision)> {
        let since = run.elapsed_ns();
        let (gathered, decision) = self.gate()?;
        run.span("gate", since)?;
        verdict::before(report, &self.given, &gathered, &decision);
        run.draft(|draft| *draft = report.clone());
        let gates = verdict::gates(&self.given, &gathered, &decision);
        run.record(names::GATE, "gates", &gates)?;
        if let Some(record) = &gathered.model.record {
            let path = provider::rel(names::MODEL_RECORD)?;
            run.artifact(&path, "model_admission", Author::Admit, record)?;
        }
        if let Some(launch) = gathered.facts.launch.known() {
            run.record(names::LAUNCH, "launch", &launch.record())?;
        }
        // Also where it was refused, and so is no upstream.
        let endpoint = self.given.options.request.endpoint.as_ref();
        let endpoint = endpoint.and_then(|e| Secret::new(e.reveal().as_bytes().to_vec()));
        let endpoint: Vec<_> =
            endpoint.map(|url| ("endpoint_url".to_owned(), url)).into_iter().collect();
        run.watch_for(match &gathered.model.upstream {
            Some(upstream) => upstream.known(endpoint),
            None => Known::new(&endpoint),
        });
        run.note_sentinel(self.given.marks.sentinel.clone());
        if let Some(probe) = &gathered.probe {
            verdict::probed(run, report, probe)?;
            run.draft(|draft| draft.wire.clone_from(&report.wire));
        }
        if self.stopped(report) {
            return Ok((None, decision));
        }
        if let Some(killed) = gathered.killed() {
            return Err(killed);
        }
        let Some(admitted) = &decision.admitted else {
            let ids: Vec<&str> = decision.refusals().iter().map(|r| r.check.id()).collect();
            run.event("gates_refused", Author::Admit, json!({ "gates": ids }))?;
            verdict::blocked(run, report, &decision);
            let kind = decision.kind().unwrap_or(Kind::Refused);
            return Ok((Some(kind.exit_code()), decision));
        };
        let held = decision.findings.iter().filter(|finding| finding.state == State::Ok).count();
        run.event("gates_admitted", Author::Admit, json!({ "gates": held }))?;
        let tools = gathered.tools.as_ref();
        let tools = tools.ok_or_else(|| Error::new(Reason::Internal, "a run without its tools"))?;
        match self.given.engine {
            Engine::Fake => self.fake(run, report, tools)?,
            Engine::Provider => {
                let origin = verdict::origin(&gathered.facts).unwrap_or(ProviderOrigin::StandIn);
                let upstream = gathered.model.upstream;
                let missing = || Error::new(Reason::Internal, "a run without its model");
                let upstream = upstream.ok_or_else(missing)?;
                self.provider(run, report, (admitted, origin), upstream, tools)?;
            }
        }
        Ok((None, decision))
    }

    /// Whether admit was told to stop; then the report says so, and nothing more is started.
    fn stopped(&self, report: &mut RunReport) -> bool {
        let got = told_within(&self.given.context.stop, Duration::ZERO);
        if let Some(signal) = got {
            verdict::stopped(report, FailureClass::Interrupted, &format!("signal {signal}"));
        }
        got.is_some()
    }

    fn judge<'t>(&'t self, tools: &'t Tools) -> Result<Box<dyn Judge + 't>> {
        judge::choose::of(self.given.fixture, self.given.launcher, tools, judge::choose::WALL)
    }

    /// The held-out calls of this run, on record before anything is judged by them.
    fn draw(&self, run: &Recording, judge: &dyn Judge) -> Result<Draw> {
        let since = run.elapsed_ns();
        let draw = judge::draw(judge, self.given.fixture, &Seed::new(&self.given.marks.nonce)?)?;
        run.span("held_out", since)?;
        run.record(names::HELD_OUT, "held_out", &draw.record)?;
        Ok(draw)
    }

    /// Those of an earlier run where there is one of the same campaign on this node, else this run's own.
    fn baselines(
        &self,
        run: &Recording,
        bench: Bench<'_>,
        policy: &SandboxPolicy,
        earlier: Option<&Earlier<'_>>,
    ) -> Result<Baselines> {
        let below = self.given.agent.workspace(self.given.fixture);
        let since = run.elapsed_ns();
        let own = || baseline::baselines(self.given.launcher, bench, policy, &below);
        let baselines = earlier.and_then(Earlier::get).map_or_else(own, Ok)?;
        run.span("baselines", since)?;
        let rows: Vec<_> = baselines
            .rows
            .iter()
            .map(|row| json!({ "name": row.name, "held": row.held() }))
            .chain(baselines.of.iter().map(|of| json!({ "of": of })))
            .collect();
        run.event("baselines", Author::Admit, json!(rows))?;
        Ok(baselines)
    }

    fn provider(
        &self,
        run: &Arc<Recording>,
        report: &mut RunReport,
        (admitted, origin): (&Admitted, ProviderOrigin),
        upstream: crate::proxy::upstream::Upstream,
        tools: &Tools,
    ) -> Result<()> {
        let judge = self.judge(tools)?;
        let judge = &*judge;
        let progress = &self.given.context.progress;
        let Some((launch, _)) = admitted.provider() else {
            return Err(Error::new(Reason::Internal, "no provider was admitted"));
        };
        let draw = self.draw(run, judge)?;
        let bench = Bench { judge, fixture: self.given.fixture, draw: &draw };
        let task = self.given.options.campaign.as_ref();
        let earlier = task.and_then(|task| {
            Earlier::of(self.given.store, task, run.path(), &launch.record(), tools)
        });
        let baselines = || {
            progress.stage("baseline", "no change, and the reference patch");
            self.baselines(run, bench, &launch.sandbox, earlier.as_ref())
        };
        // One processor does one thing at a time: there they would only disturb the agent's clocks.
        let alone = std::thread::available_parallelism().is_ok_and(|count| count.get() == 1);
        let before = if alone { Some(baselines()?) } else { None };
        if self.stopped(report) {
            return Ok(());
        }
        progress.stage("run", self.given.fixture.record.name.as_str());
        let around = Around {
            run,
            agent: self.given.agent,
            bench,
            launcher: self.given.launcher,
            marks: self.given.marks,
            signal: &self.given.context.stop,
            memory: &self.memory,
            clock: &*self.given.context.clock,
        };
        // Beside the agent: the verdict needs them, the agent does not. What they share is nothing but the policy.
        let (seen, baselines) = std::thread::scope(|scope| {
            let beside = before.is_none().then(|| scope.spawn(baselines));
            let seen = provider::work(&around, admitted, upstream);
            let panicked = |_| Err(Error::new(Reason::Internal, "the baselines panicked"));
            (seen, beside.map(|thread| thread.join().unwrap_or_else(panicked)))
        });
        let seen = seen?;
        let Some(judgement) = &seen.judgement else {
            return verdict::started(run, report, &seen).map(drop);
        };
        let missing = || Error::new(Reason::Internal, "a run without baselines");
        let baselines = baselines.transpose()?.or(before).ok_or_else(missing)?;
        let worked = verdict::Worked {
            judgement,
            baselines: &baselines,
            draw: &draw,
            tools,
            marks: self.given.marks,
            expected: &launch::expected(tools),
            now: self.given.context.clock.now(),
            origin,
        };
        verdict::provider(run, report, admitted, self.given.agent, &seen, &worked)?;
        if let Some(earlier) = earlier {
            let _ = self.made.set((earlier, baselines));
        }
        Ok(())
    }

    fn fake(&self, run: &Recording, report: &mut RunReport, tools: &Tools) -> Result<()> {
        let judge = self.judge(tools)?;
        let judge = &*judge;
        let policy = launch::sandbox(self.given.marks.hostname(), tools)?;
        let draw = self.draw(run, judge)?;
        let bench = Bench { judge, fixture: self.given.fixture, draw: &draw };
        let baselines = self.baselines(run, bench, &policy, None)?;
        if self.stopped(report) {
            return Ok(());
        }
        let (fixture, below) = (self.given.fixture, self.given.agent.workspace(self.given.fixture));
        let change = &fixture.reference_patch;
        let worked = fake::work(self.given.launcher, &policy, &below, fixture, change)?;
        let committed = worked.snapshot.committed_change(fixture);
        run.event("workspace_commit", Author::Admit, json!({ "committed": committed }))?;
        let since = run.elapsed_ns();
        let judgement = bench.judge_own(&worked.snapshot)?;
        run.span("judge", since)?;
        let data = json!({ "accepted": judgement.passed, "note": judgement.note() });
        run.event("judge_finished", Author::Admit, data)?;
        let done = verdict::Worked {
            judgement: &judgement,
            baselines: &baselines,
            draw: &draw,
            tools,
            marks: self.given.marks,
            expected: &launch::expected(tools),
            now: self.given.context.clock.now(),
            origin: ProviderOrigin::StandIn,
        };
        verdict::fake(run, report, &worked, committed, &done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::tests::begin;

    #[test]
    fn a_run_has_one_answer_whoever_seals_it() {
        let dir = tempfile::tempdir().unwrap();
        let recording = begin(dir.path());
        assert!(own(&recording, recording.seal(recording.drafted())).is_ok());
        assert!(interrupted(&recording, 15).is_none(), "the run itself was first, and answers");

        let recording = begin(dir.path());
        assert!(interrupted(&recording, 15).unwrap().answer.is_some());
        let (told, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            told.send(own(&recording, recording.seal(recording.drafted())).is_ok())
        });
        let waits = heard.recv_timeout(Duration::from_millis(500));
        assert!(waits.is_err(), "the process goes with the other answer: {waits:?}");
    }
}
