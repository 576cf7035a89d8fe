//! Finds out what a run's checks ask for beside the records: the fixture and its task, the host's programs, the sandbox,
//! the model's side, and the launch that all of it gives.

use std::path::Path;

use super::agent::Agent;
use super::fixture::{self, Fixture};
use super::launch::{self, LaunchInputs};
use super::options::Options;
use super::proof::Marks;
use super::tools::{self, Tools};
use crate::check::gather::{self, model};
use crate::check::launch::Launch;
use crate::check::{
    self, Check, CheckPolicy, Compared, Engine, Facts, Failure, Found, SandboxFact, TaskFact,
};
use crate::context::Context;
use crate::download::config::NetConfig;
use crate::error::{Error, Kind, Reason, Result};
use crate::gate;
use crate::lock::Locked;
use crate::proxy::probe::Probe;
use crate::record::finding::State;
use crate::record::fixture::FixtureLock;
use crate::record::ids::Timestamp;
use crate::root::Root;
use crate::sandbox::{self, Launcher};
use crate::store::Store;

pub(super) struct Sources<'a> {
    pub(super) context: &'a Context,
    pub(super) options: &'a Options,
    pub(super) engine: Engine,
    pub(super) agent: &'a dyn Agent,
    pub(super) root: &'a Root,
    pub(super) store: &'a Store,
    pub(super) fixture: &'a Fixture,
    pub(super) locked: Result<&'a Locked, &'a Error>,
    pub(super) launcher: &'a Launcher,
    pub(super) marks: &'a Marks,
}

/// The facts, and what a run needs that no check looks at.
pub(super) struct Gathered {
    pub(super) facts: Facts,
    pub(super) model: model::Side,
    pub(super) tools: Option<Tools>,
    pub(super) probe: Option<Probe>,
}

impl Gathered {
    /// What somebody ended while it was found out, as an error: it says nothing about this machine.
    pub(super) fn killed(&self) -> Option<Error> {
        let Facts { tools, sandbox, credentials, .. } = &self.facts;
        let asked = [
            ("a program that was asked before the run", tools.failure()),
            ("the sandbox that was tried before the run", sandbox.failure()),
            ("the credential helper", credentials.failure()),
        ];
        asked.into_iter().find_map(|(what, failure)| {
            let failure = failure.filter(|one| one.reason == Reason::KilledFromOutside)?;
            let what = format!("{what} was ended by a signal");
            let killed = Error::new(Reason::KilledFromOutside, what).at(failure.found.clone());
            Some(killed.hint("try again"))
        })
    }
}

/// Finds everything out, once. The model is asked last, and only where nothing before it speaks against that.
pub(super) fn gather(sources: &Sources<'_>, now: &Timestamp, policy: &CheckPolicy) -> Gathered {
    let Sources { context, options, root, store, fixture, .. } = *sources;
    let request = &options.request;
    let provider = sources.engine == Engine::Provider;
    if let Some(malformed) = &options.malformed {
        // What cannot be understood is not looked into.
        let class = Some(gate::malformed_class(malformed));
        let failure = Failure { class, ..malformed.into() };
        let facts = Facts { request: Found::Failed(failure), ..Facts::default() };
        let model = model::Side::default();
        return Gathered { facts, model, tools: None, probe: None };
    }
    let mut facts = gather::records(root, sources.locked, Some(store));
    facts.request = Found::Known(());
    facts.provider = options.provider.provider.to_string();
    facts.build_signed = gather::build_signed(root, &facts, now);
    facts.pulled_signed = gather::pulled_signed(root, &context.host, &facts, now);
    facts.stage = request.flags.stage.map_or(Found::Absent, Found::Known);
    let task = fixture.task_files(now);
    facts.task = Found::Known(TaskFact { json: task.json, markdown: task.markdown });
    let name = &fixture.record.name;
    let found = fixture.digest.clone();
    let compared = |lock: FixtureLock| Compared { expected: lock.digest, found };
    facts.fixture = fixture::recorded(root, name).map(|lock| lock.map(compared)).into();
    let place = gather::binary_path(request.flags.binary.as_deref(), &facts, Some(store));
    // Hashing the binary takes the longest; programs and sandbox are found out beside it.
    let (binary, tools, sandbox) = std::thread::scope(|scope| {
        let tools = scope.spawn(|| {
            let tools = tools::of(context, root, store, &fixture.record)?;
            let run = options.directory.iter().try_for_each(|run| tools.keep_from(run));
            run.map(|()| tools)
        });
        let sandbox = scope.spawn(|| probes(sources.launcher));
        let binary = if provider { gather::binary(place.as_ref()) } else { Found::Unknown };
        (binary, tools.join(), sandbox.join())
    });
    facts.binary = binary;
    facts.sandbox = sandbox.unwrap_or_default();
    let panicked = |_| Err(Error::new(Reason::Internal, "looking for programs panicked"));
    let tools = tools.unwrap_or_else(panicked);
    facts.tools = match &tools {
        Ok(tools) => Found::Known(tools.words()),
        Err(err) => Found::Failed(err.into()),
    };
    let tools = tools.ok();
    let vars = context.host.vars();
    let net = NetConfig::from_env(&vars);
    let model = model::model(
        &model::Sources {
            root,
            now,
            vars: &vars,
            net: &net,
            pair: request.flags.model.as_ref(),
            admission_file: request.flags.admission_file.as_deref(),
            stage: request.flags.stage.unwrap_or_default(),
            bridge_claimed: request.bridge_claimed,
            endpoint: request.endpoint.as_ref().map(|endpoint| endpoint.reveal()),
            script: Some(&fixture.script),
        },
        &mut facts,
    );
    let path = place.as_ref().map(|place| place.path.as_path());
    facts.launch = launch(sources, now, &facts, path, tools.as_ref());
    let mut probe = None;
    if provider
        && let Some(upstream) = &model.upstream
        && asks_the_model(&facts, policy)
    {
        let id = request.flags.model.as_ref().map_or("", |pair| pair.model.as_str());
        probe = model::ask(upstream, id, &context.stop, &mut facts);
    }
    Gathered { facts, model, tools, probe }
}

/// Whether the probe is asked for, and every other check of a start holds: no key goes out for a run that is refused.
fn asks_the_model(facts: &Facts, policy: &CheckPolicy) -> bool {
    let findings = check::check(facts, policy);
    let shape = Check::ALL.iter().position(|check| *check == Check::ResponseShape);
    shape.is_some_and(|at| findings[at].state == State::Failed)
}

fn launch(
    sources: &Sources<'_>,
    now: &Timestamp,
    facts: &Facts,
    binary: Option<&Path>,
    tools: Option<&Tools>,
) -> Found<Launch> {
    let parts = (|| {
        let content = facts.binary.known()?.content.as_ref()?;
        let model = facts.model.known()?.record.as_ref()?;
        Some((facts.lock.known()?, facts.recorded.known()?, content, model, binary?, tools?))
    })();
    let Some((locked, recorded, content, model, binary, tools)) = parts else {
        return Found::Unknown;
    };
    let options = sources.options;
    launch::make(&LaunchInputs {
        agent: sources.agent,
        fixture: sources.fixture,
        locked,
        report: &recorded.report,
        binary: (binary, content),
        model,
        tools,
        marks: sources.marks,
        clocks: match options.request.flags.timeout {
            Some(wall) => options.clocks.with_wall(wall),
            None => options.clocks,
        },
        proxy: options.proxy,
        now,
    })
    .into()
}

/// Builds a sandbox with nothing in it, and gives what its probes found.
fn probes(launcher: &Launcher) -> Found<SandboxFact> {
    match sandbox::start(launcher, &sandbox::Policy::new("admit-gate")) {
        Err(err) => Found::Failed(unbuilt(&err)),
        Ok(sandbox) => {
            let probes = &sandbox.facts().probes;
            let names = |held: bool| -> Vec<String> {
                probes.iter().filter(|p| p.held() == held).map(|p| p.name.clone()).collect()
            };
            let fact = SandboxFact { held: names(true), failed: names(false) };
            sandbox.end();
            Found::Known(fact)
        }
    }
}

/// Whatever keeps a sandbox from being built, without one this machine can run nothing; a limit, and a signal from
/// outside, say nothing about it.
fn unbuilt(err: &Error) -> Failure {
    match err.kind() {
        Kind::Sandbox | Kind::Stopped | Kind::Limit => err.into(),
        _ => Failure {
            reason: Reason::SandboxUnavailable,
            expected: None,
            found: err.to_string(),
            fix: err.hints().join("; "),
            class: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::{good, policy};

    fn failure<T>(reason: Reason) -> Found<T> {
        Found::Failed((&Error::new(reason, "no")).into())
    }

    #[test]
    fn what_somebody_ended_says_nothing_about_this_machine() {
        for (change, want) in [
            ((|_| ()) as fn(&mut Facts), ""),
            (|facts| facts.tools = failure(Reason::PythonMissing), ""),
            (|facts| facts.sandbox = failure(Reason::SandboxUnavailable), ""),
            (|facts| facts.tools = failure(Reason::KilledFromOutside), "a program"),
            (|facts| facts.sandbox = failure(Reason::KilledFromOutside), "the sandbox"),
            (|facts| facts.credentials = failure(Reason::KilledFromOutside), "the credential"),
        ] {
            let mut facts = good();
            change(&mut facts);
            let model = model::Side::default();
            let found = Gathered { facts, model, tools: None, probe: None }.killed();
            let found = found.map(|err| err.what().to_owned()).unwrap_or_default();
            let same = found.starts_with(want) && found.is_empty() == want.is_empty();
            assert!(same, "{found:?} in place of {want:?}");
        }
    }

    #[test]
    fn a_sandbox_that_cannot_be_built_is_unavailable_unless_the_fault_is_anothers() {
        use Reason::{BadRecord, KilledFromOutside, LimitHit, NotFound, SandboxUnavailable};
        for reason in [SandboxUnavailable, KilledFromOutside, LimitHit, NotFound, BadRecord] {
            let failure = unbuilt(&Error::new(reason, "no").hint("do this"));
            let want = match reason {
                NotFound | BadRecord => SandboxUnavailable,
                own => own,
            };
            assert_eq!((failure.reason, failure.fix.as_str()), (want, "do this"), "{reason:?}");
        }
    }

    #[test]
    fn the_model_is_asked_where_nothing_else_speaks_against_the_run_and_only_once() {
        for (change, asked) in [
            ((|facts| facts.probe = Found::Unknown) as fn(&mut Facts), true),
            // It answered already.
            (|_| (), false),
            (|facts| (facts.probe, facts.lock) = (Found::Unknown, Found::Absent), false),
            (|facts| (facts.probe, facts.sandbox) = (Found::Unknown, Found::Absent), false),
            (|facts| (facts.probe, facts.credentials) = (Found::Unknown, Found::Absent), false),
        ] {
            let mut facts = good();
            change(&mut facts);
            assert_eq!(asks_the_model(&facts, &policy()), asked, "{:?}", facts.probe);
        }
    }
}
