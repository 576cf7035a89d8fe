//! How the stages of a run are put together: gates, baselines, the engine, the report, the seal.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::app::App;
use super::outcome;
use crate::download::config::NetConfig;
use crate::error::{Error, Kind, Result};
use crate::evidence::{Limits, Recording, Sealed, names};
use crate::gate::{self, Admitted, Decision, Engine, Policy, Request, Verdict};
use crate::host::Progress as _;
use crate::lock::{self, Locked, Spec};
use crate::record::evidence::{RunReport, RunStatus};
use crate::record::failure::FailureClass;
use crate::record::ids::Name;
use crate::record::sealed::Author;
use crate::recorder::Recorder as _;
use crate::root::Root;
use crate::run::baseline::{self, Baselines};
use crate::run::engine::case::Layout;
use crate::run::engine::fake;
use crate::run::facts::{self, Gathered, Sources};
use crate::run::fixture::{self, Fixture};
use crate::run::gated::GateRecord;
use crate::run::judge::Judge;
use crate::run::planned;
use crate::run::proof::Marks;
use crate::run::provider::{self, Start};
use crate::run::room;
use crate::run::supervise::{self, Clocks};
use crate::run::tools::{self, Tools};
use crate::run::verdict::{self, Proofs};
use crate::sandbox::{self, Launcher};
use crate::secrets::{Known, Secret};
use crate::store::Store;

/// What was asked for.
pub(super) struct Asked {
    /// Flags and variables.
    pub(super) request: Request,
    /// The provider.
    pub(super) provider: Spec,
    /// The fixture.
    pub(super) fixture: Name,
    /// Stop after the gates.
    pub(super) dry_run: bool,
    /// Ask the model before.
    pub(super) probe: bool,
    /// Another program than admit itself to build the sandbox with: no command line names one; `admit health` names
    /// one that cannot.
    pub(super) launcher: Option<PathBuf>,
}

/// What a run came to.
pub(super) struct Ended {
    /// The exit code.
    pub(super) code: u8,
    /// The evidence; none of a dry run.
    pub(super) sealed: Option<Sealed>,
    /// What the gates said.
    pub(super) decision: Decision,
}

/// What a run works with.
struct Context<'a> {
    app: &'a App,
    asked: &'a Asked,
    engine: Engine,
    root: &'a Root,
    fixture: &'a Fixture,
    locked: Result<&'a Locked, &'a Error>,
    store: &'a Store,
    launcher: &'a Launcher,
    layout: Layout,
    marks: Marks,
}

/// Runs, or says why not. Gives the exit code.
pub(super) fn run(app: &App, asked: &Asked) -> Result<u8> {
    let ended = carry_out(app, asked)?;
    if let Some(sealed) = &ended.sealed {
        outcome::show(&app.ui, sealed);
    }
    Ok(ended.code)
}

/// As [`run`], without the last word to people.
pub(super) fn carry_out(app: &App, asked: &Asked) -> Result<Ended> {
    let root = app.context.root()?;
    let fixture = fixture::load(&root, &asked.fixture)?;
    let locked = lock::resolve(&root, &asked.provider);
    let store = app.context.store()?;
    let scratch = store.scratch()?;
    let launcher = match &asked.launcher {
        None => Launcher::own(scratch.path()),
        Some(exe) => Launcher { exe: exe.clone(), scratch: scratch.path().into() },
    };
    let engine = asked.request.engine.unwrap_or(Engine::Provider);
    let context = Context {
        app,
        asked,
        engine,
        root: &root,
        fixture: &fixture,
        locked: locked.as_ref(),
        store: &store,
        launcher: &launcher,
        layout: Layout::new(fixture.record.repo.as_str()),
        marks: Marks::make(scratch.path())?,
    };
    let now = app.context.clock.now();
    let draft = RunReport::draft(fixture.record.name.as_str(), verdict::backend(engine), &now);
    if asked.dry_run {
        let (_, decision) = context.gates()?;
        return Ok(Ended { code: context.dry(&decision), sealed: None, decision });
    }
    let signal = supervise::heed_signals()?;
    // A core file would hold the key.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)
        .map_err(|err| Error::io("forbid", "core files", err.into()))?;
    let runs = app.context.runs_dir()?;
    let clock = Arc::clone(&app.context.clock);
    let name = &fixture.record.name;
    let run = Recording::begin(&runs, name, draft.clone(), clock, Limits::default())?;
    let run = Arc::new(run);
    let mut report = draft;
    match context.all(&run, &signal, &mut report) {
        Ok((code, decision)) => {
            // Whoever said stop, at whatever moment, gets no yes.
            if matches!(report.status, RunStatus::Pass | RunStatus::Rehearsed) {
                context.stopped(&signal, &mut report);
            }
            let sealed = run.seal(report)?;
            let code = code.unwrap_or_else(|| verdict::exit_code(&sealed.report));
            Ok(Ended { code, sealed: Some(sealed), decision })
        }
        // What could not be found out is a failed run with evidence, and the error all the same.
        Err(err) => {
            report.case_process_started |= started(&run);
            // What was refused between the gates and the start is refused, not failed: nothing ran.
            let refused = matches!(err.kind(), Kind::Refused | Kind::Digest | Kind::Sandbox);
            if refused && !report.case_process_started {
                verdict::refused_late(&mut report, err.reason().as_str(), &err);
            } else {
                let class = FailureClass::Unclassified;
                report.blockers.push(err.to_string());
                report.status = RunStatus::Fail;
                report.failure_class = Some(class);
                report.failure_reason = Some(class.failure_reason(err.reason().as_str()));
            }
            let sealed = run.seal(report)?;
            app.ui.remark(&format!("evidence: {}", sealed.directory.display()));
            Err(err)
        }
    }
}

/// Whether the record says that the provider was started.
fn started(run: &Recording) -> bool {
    let mut started = false;
    run.draft(|draft| started = draft.case_process_started);
    started
}

impl Context<'_> {
    /// Host programs, as far as they are there; a refusal of its own where they are not.
    fn tools(&self) -> Result<Tools> {
        let wanted = &self.fixture.record.tools;
        tools::tools(&self.app.context.host, self.root, self.store, wanted, &*self.app.ui)
    }

    /// What the provider would get, and what the gate says of it.
    fn gates(&self) -> Result<(Gathered, Decision)> {
        let request = &self.asked.request;
        let now = self.app.context.clock.now();
        let sentinel = String::from_utf8_lossy(self.marks.sentinel.expose());
        let locked = self.locked.ok();
        let planned = planned::planned(self.root, self.fixture, locked, &sentinel, &now);
        let vars = self.app.context.host.vars();
        let gathered = facts::gather(
            &Sources {
                root: self.root,
                request,
                locked: self.locked,
                store: Some(self.store),
                vars: &vars,
                net: &NetConfig::from_env(&vars),
                now,
                launcher: Some(self.launcher),
                script: &self.fixture.script,
                probe: self.asked.probe && self.engine == Engine::Provider,
            },
            Some(planned),
        );
        let contract = planned::contract(self.fixture)?;
        let policy = Policy { engine: self.engine, contract, skip_probe: !self.asked.probe };
        let decision = gate::decide(&gathered.facts, &policy);
        Ok((gathered, decision))
    }

    /// Everything between the first event and the seal. `Some` exit code where the report does not decide it.
    fn all(
        &self,
        run: &Arc<Recording>,
        signal: &AtomicUsize,
        report: &mut RunReport,
    ) -> Result<(Option<u8>, Decision)> {
        let (mut gathered, decision) = self.gates()?;
        let locked = self.locked.ok();
        verdict::before(report, self.root, self.fixture, locked, &gathered, &decision);
        run.draft(|draft| *draft = report.clone());
        let (spec, model) = (&self.asked.provider, self.asked.request.model.as_ref());
        let gates = GateRecord::of(self.engine, spec, model, &gathered, &decision);
        run.record(names::GATE, "gates", &gates)?;
        outcome::rows(&self.app.ui, &decision.rows);
        let mut known = gathered.upstream.as_ref().map_or(Vec::new(), |u| u.secret_values());
        known.push(("sentinel".into(), self.marks.sentinel.clone()));
        // Also where it was refused, and so is no upstream.
        let asked = self.asked.request.endpoint.as_ref().map(|e| e.reveal().as_bytes().to_vec());
        known.extend(asked.and_then(Secret::new).map(|url| ("endpoint_url".to_owned(), url)));
        run.watch_for(Known::new(&known));
        let admitted = match &decision.verdict {
            Verdict::Admit(admitted) => admitted,
            Verdict::Refuse(refusals) => {
                let ids: Vec<&str> = refusals.iter().map(|r| r.gate.id()).collect();
                run.event("gates_refused", Author::Admit, json!({ "gates": ids }))?;
                verdict::blocked(report, &decision);
                let kind = decision.kind().unwrap_or(Kind::Refused);
                return Ok((Some(kind.exit_code()), decision));
            }
        };
        let tools = match self.tools() {
            Ok(tools) => tools,
            Err(err) if matches!(err.kind(), Kind::Refused | Kind::Fetch) => {
                run.event("gates_refused", Author::Admit, json!({ "gates": ["tools"] }))?;
                verdict::refused_late(report, "tools", &err);
                // The sealed run is the one object on stdout.
                self.app.ui.words(&err);
                return Ok((Some(err.kind().exit_code()), decision));
            }
            Err(err) => return Err(err),
        };
        run.event("gates_admitted", Author::Admit, json!({ "gates": decision.rows.len() }))?;
        if self.stopped(signal, report) {
            return Ok((None, decision));
        }
        match self.engine {
            Engine::Fake => self.fake(run, signal, report, &tools)?,
            Engine::Provider => {
                self.provider(run, signal, report, admitted, &mut gathered, &tools)?;
            }
        }
        Ok((None, decision))
    }

    /// Whether admit was told to stop; then the report says so, and nothing more is started.
    fn stopped(&self, signal: &AtomicUsize, report: &mut RunReport) -> bool {
        let got = signal.load(Ordering::SeqCst);
        if got != 0 {
            verdict::interrupted(report, got);
        }
        got != 0
    }

    fn baselines(
        &self,
        run: &Recording,
        tools: &Tools,
        policy: &sandbox::Policy,
    ) -> Result<Baselines> {
        let judge = Judge { launcher: self.launcher, fixture: self.fixture, tools };
        let baselines = baseline::baselines(&judge, policy, &self.layout.workspace)?;
        let rows: Vec<_> = baselines
            .rows
            .iter()
            .map(|row| json!({ "name": row.name, "held": row.held() }))
            .collect();
        run.event("baselines", Author::Admit, json!(rows))?;
        Ok(baselines)
    }

    fn proofs<'p>(&'p self, expected: &'p [PathBuf]) -> Proofs<'p> {
        Proofs { marks: &self.marks, expected, now: self.app.context.clock.now() }
    }

    fn provider(
        &self,
        run: &Arc<Recording>,
        signal: &AtomicUsize,
        report: &mut RunReport,
        admitted: &Admitted,
        gathered: &mut Gathered,
        tools: &Tools,
    ) -> Result<()> {
        let missing = || Error::new(crate::error::Reason::Internal, "an admitted run lacks a part");
        let locked = self.locked.map_err(|_| missing())?;
        let binary = gathered.binary.as_deref().ok_or_else(missing)?;
        let upstream = gathered.upstream.take().ok_or_else(missing)?;
        let sha256 = admitted.binary().ok_or_else(missing)?;
        let policy =
            room::policy(binary, sha256, gathered.blake3.clone(), self.marks.hostname(), tools)?;
        self.app.ui.stage("baseline", "no change, and the reference patch");
        let baselines = self.baselines(run, tools, &policy)?;
        if self.stopped(signal, report) {
            return Ok(());
        }
        let clocks = match self.asked.request.timeout {
            Some(wall) => Clocks::default().with_wall(wall),
            None => Clocks::default(),
        };
        self.app.ui.stage("run", self.fixture.record.name.as_str());
        let start = Start {
            run,
            admitted,
            binary,
            blake3: gathered.blake3.clone(),
            hardened: facts::hardened(locked, gathered.report.as_ref()),
            shape: &locked.lock.run.argv,
            fixture: self.fixture,
            tools,
            launcher: self.launcher,
            marks: &self.marks,
            clocks,
            door: provider::door(&clocks),
            signal,
            started: report.started.clone(),
        };
        let seen = provider::run(&start, upstream)?;
        let expected = room::expected(tools);
        let name = self.asked.provider.provider.as_str();
        let proofs = self.proofs(&expected);
        verdict::provider(run, report, admitted, name, &seen, &baselines, tools, &proofs)
    }

    fn fake(
        &self,
        run: &Recording,
        signal: &AtomicUsize,
        report: &mut RunReport,
        tools: &Tools,
    ) -> Result<()> {
        let policy = room::room(self.marks.hostname(), tools)?;
        let baselines = self.baselines(run, tools, &policy)?;
        if self.stopped(signal, report) {
            return Ok(());
        }
        let change = &self.fixture.reference_patch;
        let below = &self.layout.workspace;
        let worked = fake::work(self.launcher, &policy, below, self.fixture, change)?;
        let committed = worked.snapshot.committed_change(self.fixture);
        run.event("workspace_commit", Author::Admit, json!({ "committed": committed }))?;
        let judge = Judge { launcher: self.launcher, fixture: self.fixture, tools };
        let judgement = judge.judge(&worked.snapshot)?;
        let data = json!({ "accepted": judgement.passed, "note": judgement.note() });
        run.event("judge_finished", Author::Admit, data)?;
        let expected = room::expected(tools);
        let proofs = self.proofs(&expected);
        let facts = &worked.sandbox;
        verdict::fake(run, report, &judgement, committed, facts, &baselines, tools, &proofs)
    }

    /// The answer of a dry run.
    fn dry(&self, decision: &Decision) -> u8 {
        outcome::rows(&self.app.ui, &decision.rows);
        let holds = decision.holds_as_far_as_checked();
        let code = match decision.kind() {
            _ if holds => 0,
            Some(kind) => kind.exit_code(),
            None => 0,
        };
        self.app.ui.json(&json!({
            "schema": "admit.dry-run/1", "holds": holds, "case_process_started": false,
            "probed": self.asked.probe, "gates": decision.rows, "exit_code": code,
        }));
        code
    }
}
