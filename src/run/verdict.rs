//! The report of a run: what was seen, put into its fields, and the rule for a pass.

use std::path::PathBuf;

use super::agent::log::Claimed;
use super::agent::{Agent, Required, fake};
use super::baseline::Baselines;
use super::classify::{self, Cause, RunEnd, Work};
use super::facts::{Gathered, Sources};
use super::judge::Judgement;
use super::judge::held_out::Draw;
use super::options::Options;
use super::phases::Phases;
use super::proof::{self, Marks};
use super::provider::{Seen, rel};
use super::supervise::End;
use super::tools::Tools;
use crate::check::launch::Launch;
use crate::check::{Check, Engine, Facts};
use crate::error::{Error, Kind, Reason, Result};
use crate::evidence::{GateRecord, Recording, names};
use crate::gate::{Admitted, Decision};
use crate::proxy::account::Unanswered;
use crate::proxy::probe::Probe;
use crate::record::admission::AdmissionStatus;
use crate::record::evidence::{
    BaselinesOf, EvidenceClass, ProviderOrigin, RequiredEvent, RootRow, RunReport, RunStatus,
    evidence_class,
};
use crate::record::failure::FailureClass;
use crate::record::finding::Finding;
use crate::record::ids::{Name, Timestamp};
use crate::record::report::SourceAdmission;
use crate::record::sealed::Author;
use crate::record::wire::ProxyRecord;
use crate::record::{self, Record as _};

/// The report as it is before anything was found out.
pub(super) fn draft(
    fixture: &Name,
    engine: Engine,
    options: &Options,
    now: &Timestamp,
) -> RunReport {
    let campaign = options.campaign.clone();
    RunReport { campaign, ..RunReport::draft(fixture.as_str(), backend(engine), now) }
}

/// Fills in everything that is known before the start.
pub(super) fn before(
    report: &mut RunReport,
    given: &Sources<'_>,
    gathered: &Gathered,
    decision: &Decision,
) {
    let Sources { root, fixture, .. } = given;
    let facts = &gathered.facts;
    if given.engine == Engine::Provider {
        report.provider = Some(given.options.provider.provider.to_string());
        report.agent = Some(given.agent.name().into());
    }
    report.root = RootRow { label: root.label(), digest: Some(root.digest()) };
    report.fixture_digest = Some(fixture.digest.clone());
    report.tests_command = fixture.verification();
    report.gates = decision.findings.clone();
    report.stage = facts.stage.known().copied().unwrap_or_default();
    report.case_source_pin = facts.lock.known().map(|locked| locked.lock.source.rev.clone());
    report.case_bin = facts.binary.known().map(|binary| binary.place.clone());
    let content = facts.binary.known().and_then(|binary| binary.content.as_ref());
    report.case_binary_sha256 = content.map(|content| content.sha256.clone());
    report.launch_digest = facts.launch.known().map(Launch::digest);
    let asked = facts.requested.known().and_then(|pairs| pairs.first());
    report.case_model_provider = asked.map(|pair| pair.provider.to_string());
    report.case_model = asked.map(|pair| pair.model.to_string());
    report.case_model_admission_file = gathered.model.admission_file.clone();
    report.model_record_sha256 = gathered.model.record_sha256.clone();
    if let Some(model) = facts.model.known() {
        report.wire_api = model.record.as_ref().map(|record| record.api().as_str().into());
        report.case_model_admission_status = model.status;
        let record = model.record.as_ref().filter(|_| model.status == AdmissionStatus::Admitted);
        report.case_runtime_model_provider =
            record.map(|record| record.runtime_provider.to_string());
    }
    let status = facts.recorded.known().map(|recorded| recorded.report.source_admission_status);
    report.source_admission_status = record::word(&status.unwrap_or(SourceAdmission::NotAdmitted));
}

/// What the checks said, for `gate.json`.
pub(super) fn gates(given: &Sources<'_>, gathered: &Gathered, decision: &Decision) -> GateRecord {
    let (engine, options) = (given.engine, given.options);
    let model = gathered.facts.model.known().and_then(|model| model.record.as_ref());
    GateRecord {
        schema: GateRecord::SCHEMA.to_string(),
        engine: backend(engine).into(),
        provider: options.provider.to_string(),
        provider_origin: origin(&gathered.facts),
        model_kind: model.map(|record| record.kind),
        admitted: decision.admitted.is_some(),
        model: options.request.flags.model.as_ref().map(ToString::to_string),
        runtime_model_provider: model.map(|record| record.runtime_provider.to_string()),
        gates: decision.findings.clone(),
        probe: gathered.probe.clone(),
    }
}

/// Puts what the model was asked before the start into the report.
pub fn probed(run: &Recording, report: &mut RunReport, probe: &Probe) -> Result<()> {
    report.wire = run.probed(probe)?;
    run.trace_exchanges(&report.wire)
}

pub fn blocked(run: &Recording, report: &mut RunReport, decision: &Decision) {
    if decision.refusals().iter().any(|refusal| refusal.check == Check::ResponseShape) {
        report.server_said = run.server_said(0);
    }
    report.status = RunStatus::Blocked;
    report.evidence_class = EvidenceClass::None;
    report.blockers = decision.refusals().iter().map(|refusal| refusal.blocker()).collect();
    if let Some(primary) = decision.primary() {
        report.failure_class = Some(primary.class());
        report.failure_reason = Some(primary.failure_reason());
    }
}

/// Takes over whether the provider was started, which the run itself knows first.
pub fn process_started(run: &Recording, report: &mut RunReport) {
    run.draft(|draft| report.case_process_started |= draft.case_process_started);
}

/// Makes `report` the one of a run that `err` ended.
pub fn broke_off(run: &Recording, report: &mut RunReport, err: &Error) {
    process_started(run, report);
    // What was refused between the gate and the start is refused, not failed: nothing ran.
    let refused = matches!(err.kind(), Kind::Refused | Kind::Digest | Kind::Sandbox | Kind::Limit);
    if refused && !report.case_process_started {
        return refused_late(report, err);
    }
    report.blockers.push(err.to_string());
    end(report, RunStatus::Fail, FailureClass::Unclassified, err.reason().as_str());
}

/// Sets how the run ended, whatever stood there before: [`RunReport::fail`] keeps the first cause.
fn end(report: &mut RunReport, status: RunStatus, class: FailureClass, detail: &str) {
    report.status = status;
    report.failure_class = Some(class);
    report.failure_reason = Some(class.failure_reason(detail));
}

/// Makes `report` the one of a run that was refused after the gate and before the start, for the error's reason.
fn refused_late(report: &mut RunReport, err: &Error) {
    let finding = Finding::from_error(err.reason().as_str(), err);
    let Finding { id, expected, found, .. } = &finding;
    report.blockers = vec![format!("{id}: expected {expected}, found {found}")];
    report.evidence_class = EvidenceClass::None;
    end(report, RunStatus::Blocked, FailureClass::GateRefused, id);
    report.gates.push(finding);
}

/// Makes `report` the one of a run that says nothing about the agent, whatever it was before: what a judge or a check
/// that was ended too has said is worth nothing.
pub fn stopped(report: &mut RunReport, class: FailureClass, detail: &str) {
    report.blockers = vec![format!("{}: {detail}", class.as_str())];
    end(report, RunStatus::Fail, class, detail);
}

/// The outputs of the stand-in's own lock, as admit ships it.
static STAND_IN: &str = include_str!("../../lockfiles/understudy.lock.json");

pub(super) fn origin(facts: &Facts) -> Option<ProviderOrigin> {
    let report = &facts.recorded.known()?.report;
    let lock = serde_json::from_str::<serde_json::Value>(STAND_IN).unwrap_or_default();
    let outputs = lock["outputs"].as_object().into_iter().flatten();
    let sha256 = report.sha256.to_string();
    let own = outputs.filter_map(|(_, output)| output["sha256"].as_str()).any(|own| own == sha256);
    // An embedded source is the stand-in's.
    Some(match own || report.source_url.starts_with("embedded:") {
        true => ProviderOrigin::StandIn,
        false => ProviderOrigin::Source,
    })
}

/// What every run that worked on the fixture has.
pub struct Worked<'a> {
    pub judgement: &'a Judgement,
    pub baselines: &'a Baselines,
    pub draw: &'a Draw,
    pub tools: &'a Tools,
    pub marks: &'a Marks,
    /// Host paths that belong in the sandbox.
    pub expected: &'a [PathBuf],
    pub now: Timestamp,
    pub origin: ProviderOrigin,
}

/// What of the judge and the tools goes into every report of a run that worked on the fixture.
fn judged(run: &Recording, report: &mut RunReport, worked: &Worked<'_>) -> Result<()> {
    let Worked { judgement, baselines, draw, tools, .. } = worked;
    report.allowed_writes_passed = judgement.allowed_writes_passed;
    report.changed_files = judgement.changed_files.clone();
    report.tests_passed = judgement.passed;
    run.artifact(&rel(names::PATCH)?, "patch", Author::Agent, &judgement.patch)?;
    run.artifact(&rel(names::TEST_LOG)?, "test_log", Author::Admit, judgement.log.as_bytes())?;
    run.record(names::JUDGEMENT, "judgement", &judgement.rows)?;
    run.record(names::TOOLS, "tools", &tools.facts())?;
    report.baselines = baselines.rows.clone();
    report.baselines_of.clone_from(&baselines.of);
    if let Some(BaselinesOf { directory, seconds, .. }) = &baselines.of {
        report.limits.push(format!(
            "the baselines are those of {directory} of the same campaign, {seconds} s before, on this node: judged by that run's calls, with the same fixture, sandbox, tools, kernel and boot"
        ));
    }
    for (row, judgement) in baselines.rows.iter().zip(&baselines.judgements) {
        let [rows, log] = names::baseline(&row.name);
        run.record(&rows, "baseline", &judgement.rows)?;
        run.artifact(&rel(&log)?, "baseline_log", Author::Admit, judgement.log.as_bytes())?;
    }
    if !draw.record.drawn {
        let fixed = "the fixture has no generator: its held-out calls are the same in every run";
        report.limits.push(fixed.into());
    }
    report.limits.extend(tools.limits());
    Ok(())
}

fn require(report: &mut RunReport, kind: &str, seen: bool, by: Author) {
    report.required_events.push(RequiredEvent { kind: kind.into(), seen, by });
    if !seen {
        report.blockers.push(format!("required event not seen: {kind}"));
    }
}

/// As [`require`], of an event that admit itself puts into the chain.
fn require_event(run: &Recording, report: &mut RunReport, kind: &str) {
    require(report, kind, run.has_event(kind), Author::Admit);
}

/// As [`require`], of something in whose place something else was seen.
fn require_or(report: &mut RunReport, kind: &str, seen: bool, by: Author, found: &str) {
    report.required_events.push(RequiredEvent { kind: kind.into(), seen, by });
    if !seen {
        report.blockers.push(format!("{kind}: {found}"));
    }
}

/// As [`require`], of every claim without which the agent's work is not whole: a claim that the wire does not bear out
/// was not made. `ended`: who ended the agent, and its exit code. Gives whether it ended well, by its own account.
fn require_claims(
    report: &mut RunReport,
    agent: &dyn Agent,
    claimed: &Claimed,
    borne_out: bool,
    ended: (End, i32),
) -> bool {
    let required = agent.required(claimed, (ended.0 == End::Exited).then_some(ended.1));
    let ended_well = !agent.ends_with_the_work() || required.iter().all(|claim| claim.made);
    for Required { kind, made, found } in required {
        match (made, found) {
            (true, _) => {
                let found = "claimed, in a log that the wire does not bear out";
                require_or(report, kind, borne_out, Author::Agent, found);
            }
            (false, Some(found)) => require_or(report, kind, false, Author::Agent, &found),
            (false, None) => require(report, kind, false, Author::Agent),
        }
    }
    ended_well
}

/// Whether a model was called in the run itself: the probe, which is exchange 0, is admit's own.
fn model_called(wire: &ProxyRecord) -> bool {
    wire.exchanges.iter().any(|exchange| exchange.exchange > 0 && exchange.refused.is_none())
}

/// What the credential helper gave when it was asked again, where credentials are the cause.
fn asked_again(cause: Option<&Cause>, helper: Option<&Unanswered>) -> Option<String> {
    let class = cause?.class;
    let failed = helper.filter(|_| class == FailureClass::AuthUnavailable)?;
    Some(format!("asked again: {}", failed.why))
}

fn close_events(report: &mut RunReport) {
    report.required_events_passed = report.required_events.iter().all(|event| event.seen);
}

/// What every report of a provider that was started has, however it ended.
pub fn started(run: &Recording, report: &mut RunReport, seen: &Seen) -> Result<Phases> {
    let (wire, began) = (&seen.wire, seen.began);
    let (code, source) = classify::exit_code(seen.end, seen.finished.wait_status, wire.limit_hit);
    report.case_process_started = true;
    report.backend_exit_code = Some(code);
    report.backend_exit_code_source = Some(source.into());
    report.backend_wait_status = Some(classify::wait_words(seen.finished.wait_status));
    let verified = seen.facts.stable.verified.first();
    report.case_binary_sha256 = verified.map(|copy| copy.sha256.clone());
    report.limits.extend(seen.facts.stable.limits.iter().cloned());
    let rows = run.wire_rows(wire, began.run_ns);
    run.trace_exchanges(&rows)?;
    report.wire.extend(rows);
    run.record(names::BRIDGE, "bridge", wire)?;
    report.hosts_asked.clone_from(&wire.hosts_asked);
    let phases = Phases::of(&seen.claimed.phases(), wire, began);
    report.phases.clone_from(&phases.rows);
    Ok(phases)
}

pub fn provider(
    run: &Recording,
    report: &mut RunReport,
    admitted: &Admitted,
    agent: &dyn Agent,
    seen: &Seen,
    worked: &Worked<'_>,
) -> Result<()> {
    let Worked { judgement, baselines, marks, expected, now, .. } = worked;
    let wire = &seen.wire;
    let phases = started(run, report, seen)?;
    judged(run, report, worked)?;
    let missing = || Error::new(Reason::Internal, "no provider was admitted");
    let (launch, model) = admitted.provider().ok_or_else(missing)?;
    let network = Some(launch.proxy.network.as_str());
    report.evidence_class = evidence_class(worked.origin, model.kind, network, wire.upstream);

    let fresh = proof::freshness(
        marks,
        run.began_empty(),
        seen.hostname.as_deref(),
        Some(wire),
        &report.started,
        now.clone(),
        run.elapsed_ns(),
    );
    run.record(names::FRESHNESS, "freshness", &fresh)?;
    let canary = marks.search(run.path())?;
    let target = proof::no_target(&seen.facts, expected, Some(wire), seen.commits, canary);
    run.record(names::NO_TARGET, "no_target_inspection", &target)?;

    let claimed = &seen.claimed;
    let disagree = claimed.disagreements(wire);
    require_event(run, report, "gates_admitted");
    require_event(run, report, "case_process_started");
    require(report, "model_call", model_called(wire), Author::Admit);
    require(report, "workspace_commit", seen.committed, Author::Admit);
    require_event(run, report, "judge_finished");
    require_event(run, report, "process_end");
    let code = report.backend_exit_code.unwrap_or_default();
    let borne_out = claimed.faults.is_empty() && disagree.is_empty();
    let ended_well = require_claims(report, agent, claimed, borne_out, (seen.end, code));
    let result = classify::result_on_wire(wire, &phases);
    let found = classify::envelope(wire, &phases);
    require_or(report, "agent_result on the wire", result, Author::Model, &found);
    close_events(report);
    report.blockers.extend(disagree.into_iter().chain(claimed.faults.iter().cloned()));
    if !fresh.passed() {
        report.blockers.push("the run's nonce was not seen wherever it must stand".into());
    }
    let work = Work {
        baselines_held: baselines.held(),
        writes_allowed: judgement.allowed_writes_passed,
        accepted: judgement.passed,
        target_untouched: target.passed,
    };
    let helper = seen.helper_failed.as_ref();
    let ended = RunEnd {
        end: seen.end,
        exit_code: code,
        wait_status: seen.finished.wait_status,
        killed: seen.killed.clone(),
        helper_killed: helper.filter(|failed| failed.killed).map(|failed| failed.why.clone()),
        ended_well,
        wire,
        phases: &phases,
        work,
    };
    if seen.end == End::HarnessCompleted {
        let text = "completed by the harness: the diff was committed, stable and judged good\n";
        run.artifact(&rel(names::HARNESS_COMPLETED)?, "marker", Author::Admit, text.as_bytes())?;
        report.lifecycle_marker = Some(names::HARNESS_COMPLETED.into());
    }
    let cause = classify::classify(&ended);
    report.contributing = classify::contributing(&ended, cause.as_ref());
    if let Some(exchange) = cause.as_ref().and_then(|cause| cause.exchange) {
        report.server_said = run.server_said(exchange);
    }
    report.blockers.extend(asked_again(cause.as_ref(), helper));
    conclude(report, cause, judgement);
    Ok(())
}

pub fn fake(
    run: &Recording,
    report: &mut RunReport,
    engine: &fake::Worked,
    committed: bool,
    worked: &Worked<'_>,
) -> Result<()> {
    let Worked { judgement, baselines, marks, expected, .. } = worked;
    report.evidence_class = EvidenceClass::Fake;
    judged(run, report, worked)?;
    run.record(names::SANDBOX, "sandbox", &engine.sandbox)?;
    let canary = marks.search(run.path())?;
    let target = proof::no_target(&engine.sandbox, expected, None, engine.commits, canary);
    run.record(names::NO_TARGET, "no_target_inspection", &target)?;
    require_event(run, report, "gates_admitted");
    require(report, "workspace_commit", committed, Author::Admit);
    require_event(run, report, "judge_finished");
    close_events(report);
    let class = rejected(baselines.held(), target.passed, judgement);
    conclude(report, class.map(|class| Cause::new(class, "")), judgement);
    Ok(())
}

/// Why a run without an agent does not count; a judge that is void decides before what it says.
fn rejected(
    baselines_held: bool,
    target_untouched: bool,
    judgement: &Judgement,
) -> Option<FailureClass> {
    match (baselines_held, target_untouched, judgement) {
        (false, ..) => Some(FailureClass::VoidBaseline),
        (_, false, _) => Some(FailureClass::TargetInspected),
        (_, _, j) if !j.allowed_writes_passed => Some(FailureClass::WritesOutside),
        (_, _, j) if !j.passed => Some(FailureClass::JudgeRejected),
        _ => None,
    }
}

/// Sets the status. Whatever it is, sealing computes it again and refuses what contradicts itself.
fn conclude(report: &mut RunReport, cause: Option<Cause>, judgement: &Judgement) {
    report.status = RunStatus::Fail;
    report.failure_class = None;
    report.failure_reason = None;
    if let Some(Cause { class, detail, .. }) = cause {
        if class.says_nothing() {
            return stopped(report, class, &detail);
        }
        if !detail.is_empty() {
            report.blockers.push(format!("{}: {detail}", class.as_str()));
        }
        if !judgement.passed {
            report.blockers.push(format!("the judge: {}", judgement.note()));
        }
        report.fail(class, &detail);
    } else if !report.blockers.is_empty() {
        let first = report.blockers[0].clone();
        report.fail(FailureClass::Unclassified, &first);
    } else if report.evidence_class.can_pass() {
        report.status = RunStatus::Pass;
    } else {
        report.status = RunStatus::Rehearsed;
        let class = report.evidence_class.as_str();
        report.limits.push(format!("no pass: evidence of class {class} can only be a rehearsal"));
    }
}

/// The exit code of a finished run: 0 for a pass and a rehearsal, 75 where it says nothing about the agent, 9 where a
/// clock or limit ended it, else 8.
pub fn exit_code(report: &RunReport) -> u8 {
    let kind = match (report.status, report.failure_class) {
        (RunStatus::Pass | RunStatus::Rehearsed, _) => return 0,
        (RunStatus::Blocked, _) => Kind::Refused,
        (_, class) => class.map_or(Kind::Run, FailureClass::kind),
    };
    kind.exit_code()
}

/// What the report calls the engine.
fn backend(engine: Engine) -> &'static str {
    match engine {
        Engine::Provider => "case",
        Engine::Fake => "fake",
    }
}

#[cfg(test)]
mod tests {
    use super::super::agent;
    use super::*;
    use crate::record::admission::ModelKind;
    use crate::record::ids::Digest;
    use crate::record::wire::{RequestRefusal, UpstreamKind, WireRecord};

    #[test]
    fn a_report_names_the_engine() {
        assert_eq!([Engine::Provider, Engine::Fake].map(backend), ["case", "fake"]);
    }

    #[test]
    fn the_stand_in_is_known_by_its_source_and_by_its_bytes_whatever_its_name() {
        let mut facts = crate::check::tests::good();
        let report = &mut crate::check::tests::known(&mut facts.recorded).report;
        report.source_url = "https://example.org/case.git".into();
        report.sha256 = "0".repeat(64).parse().unwrap();
        assert_eq!(origin(&facts), Some(ProviderOrigin::Source));
        let lock: serde_json::Value = serde_json::from_str(STAND_IN).unwrap();
        let report = &mut crate::check::tests::known(&mut facts.recorded).report;
        report.sha256 = lock["outputs"]["linux-x64"]["sha256"].as_str().unwrap().parse().unwrap();
        assert_eq!(origin(&facts), Some(ProviderOrigin::StandIn));
        let mut facts = crate::check::tests::good();
        let report = &mut crate::check::tests::known(&mut facts.recorded).report;
        report.provider = "case".parse().unwrap();
        report.source_url = "embedded:understudy".into();
        assert_eq!(origin(&facts), Some(ProviderOrigin::StandIn));
        facts.recorded = crate::check::Found::Absent;
        assert_eq!(origin(&facts), None);
    }

    fn judgement() -> Judgement {
        Judgement {
            passed: true,
            rows: Vec::new(),
            tests_passed: true,
            allowed_writes_passed: true,
            patch: b"x".to_vec(),
            patch_digest: Digest::sha256(b"x"),
            changed_files: vec!["x".into()],
            commit: None,
            log: String::new(),
            killed: None,
        }
    }

    #[test]
    fn a_run_without_an_agent_names_the_first_thing_that_makes_it_count_for_nothing() {
        use FailureClass::{JudgeRejected, TargetInspected, VoidBaseline, WritesOutside};
        let good = judgement();
        let no = Judgement { passed: false, ..judgement() };
        let outside = Judgement { allowed_writes_passed: false, passed: false, ..judgement() };
        for (held, untouched, judgement, class) in [
            (true, true, &good, None),
            (true, true, &no, Some(JudgeRejected)),
            (true, true, &outside, Some(WritesOutside)),
            (true, false, &outside, Some(TargetInspected)),
            (true, false, &good, Some(TargetInspected)),
            (false, false, &outside, Some(VoidBaseline)),
            (false, true, &good, Some(VoidBaseline)),
        ] {
            assert_eq!(rejected(held, untouched, judgement), class, "{held} {untouched}");
        }
    }

    fn draft() -> RunReport {
        RunReport::draft("toy", backend(Engine::Provider), &Timestamp::from_unix(0))
    }

    #[test]
    fn a_required_event_that_was_not_seen_blocks_and_one_that_was_does_not() {
        let mut report = draft();
        require(&mut report, "a", true, Author::Admit);
        require_or(&mut report, "b", true, Author::Agent, "no b");
        close_events(&mut report);
        assert!(report.required_events_passed);
        assert_eq!(report.blockers, Vec::<String>::new());
        require(&mut report, "c", false, Author::Admit);
        require_or(&mut report, "d", false, Author::Agent, "no d");
        close_events(&mut report);
        assert!(!report.required_events_passed);
        assert_eq!(report.blockers, ["required event not seen: c", "d: no d"]);
    }

    #[test]
    fn an_event_of_admits_own_is_seen_where_the_chain_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let run = crate::evidence::tests::begin(dir.path());
        run.event("judge_finished", Author::Admit, serde_json::Value::Null).unwrap();
        run.event("process_end", Author::Agent, serde_json::Value::Null).unwrap();
        let mut report = draft();
        for kind in ["judge_finished", "process_end"] {
            require_event(&run, &mut report, kind);
        }
        let seen: Vec<bool> = report.required_events.iter().map(|event| event.seen).collect();
        assert_eq!(seen, [true, false]);
        assert_eq!(report.blockers, ["required event not seen: process_end"]);
    }

    #[test]
    fn a_claim_counts_where_the_wire_bears_it_out_and_an_end_where_it_is_the_works() {
        let run = serde_json::json!({
            "wire_apis": ["openai-chat"],
            "end": { "types": ["end"], "pointer": "/reason", "equals": "stop", "exit": "zero" },
        });
        let command = agent::command::Command { run: serde_json::from_value(run).unwrap() };
        let good = command.read(b"{\"type\":\"end\",\"reason\":\"stop\"}\n");
        let bad = command.read(b"{\"type\":\"end\",\"reason\":\"x\"}\n");
        let unsupported = "claimed, in a log that the wire does not bear out";
        let failed = "last event: it says that it failed";
        let by_admit = "exit status 0: ended by admit";
        for (claimed, borne_out, ended, well, blockers) in [
            (&good, true, (End::Exited, 0), true, &[][..]),
            (&good, true, (End::Exited, 3), false, &["exit status 0: 3"]),
            (&good, true, (End::HarnessCompleted, 0), false, &[by_admit]),
            (&good, false, (End::HarnessCompleted, 0), false, &[unsupported, by_admit]),
            (&bad, true, (End::Exited, 0), false, &[failed]),
            (&Claimed::default(), true, (End::Exited, 0), false, &["not seen: last event"]),
        ] {
            let mut report = draft();
            let found = require_claims(&mut report, &command, claimed, borne_out, ended);
            assert_eq!(found, well, "{ended:?} {blockers:?}");
            assert_eq!(report.blockers.len(), blockers.len(), "{:?}", report.blockers);
            let told = report.blockers.iter().zip(blockers).all(|(all, end)| all.ends_with(end));
            assert!(told, "{:?} in place of {blockers:?}", report.blockers);
        }
        // What goes on after the work ends as it likes, whatever it did not claim.
        let mut report = draft();
        let nothing = Claimed::default();
        assert!(require_claims(&mut report, &agent::case::Case, &nothing, true, (End::Exited, 1)));
        assert!(!report.blockers.is_empty());
    }

    #[test]
    fn a_model_was_called_where_a_request_of_the_run_itself_was_let_through() {
        let refused = Some(RequestRefusal::ProtocolSwitch);
        for (exchange, refused, called) in
            [(1, None, true), (0, None, false), (1, refused, false), (0, refused, false)]
        {
            let mut wire = ProxyRecord::new("m".into(), UpstreamKind::Scripted, None, false);
            assert!(!model_called(&wire));
            wire.exchanges = vec![WireRecord { exchange, refused, ..WireRecord::default() }];
            assert_eq!(model_called(&wire), called, "{exchange} {refused:?}");
        }
    }

    #[test]
    fn what_the_helper_said_is_told_where_credentials_are_the_cause() {
        let helper = Unanswered { why: "it printed nothing".into(), killed: false };
        for class in FailureClass::ALL {
            let told = asked_again(Some(&Cause::new(class, "")), Some(&helper));
            let want = (class == FailureClass::AuthUnavailable)
                .then(|| "asked again: it printed nothing".to_owned());
            assert_eq!(told, want, "{class:?}");
        }
        assert_eq!(asked_again(None, Some(&helper)), None);
    }

    #[test]
    fn the_exit_code_says_what_a_caller_can_do() {
        let of = |status, class| exit_code(&RunReport { status, failure_class: class, ..draft() });
        assert_eq!(of(RunStatus::Pass, None), 0);
        assert_eq!(of(RunStatus::Rehearsed, None), 0);
        assert_eq!(of(RunStatus::Blocked, Some(FailureClass::GateRefused)), 3);
        for class in FailureClass::ALL {
            let limits =
                [FailureClass::Timeout, FailureClass::LifecycleTimeout, FailureClass::LimitHit];
            let want = match class.says_nothing() {
                true => 75,
                false if limits.contains(&class) => 9,
                false => 8,
            };
            assert_eq!(of(RunStatus::Fail, Some(class)), want, "{class:?}");
        }
    }

    #[test]
    fn what_a_judge_says_of_a_run_that_was_ended_from_outside_is_left_out() {
        let mut report = draft();
        report.blockers.push("the work was rejected".into());
        let no = Judgement { passed: false, ..judgement() };
        let cause = Cause::new(FailureClass::Interrupted, "stopped by SIGTERM");
        conclude(&mut report, Some(cause), &no);
        assert_eq!(report.blockers, ["interrupted: stopped by SIGTERM"]);
        assert_eq!(report.failure_class, Some(FailureClass::Interrupted));
        let cause = Cause::new(FailureClass::WritesOutside, "a.txt");
        let mut report = draft();
        conclude(&mut report, Some(cause), &no);
        assert_eq!(report.blockers[0], "writes_outside: a.txt");
        assert!(report.blockers[1].starts_with("the judge: "), "{:?}", report.blockers);
    }

    #[test]
    fn nothing_but_a_faultless_run_of_a_providers_own_source_with_a_served_model_passes() {
        use ModelKind::{Scripted, Served};
        use ProviderOrigin::{Source, StandIn};
        use UpstreamKind::Http;
        let real = [Some("this-machine"), Some("home"), Some("public-tls")];
        let (mut classes, mut ends) = (vec![(EvidenceClass::Fake, false)], vec![None]);
        for network in real.into_iter().chain([None, Some("loopback-test")]) {
            for (origin, kind) in
                [(Source, Served), (Source, Scripted), (StandIn, Served), (StandIn, Scripted)]
            {
                for upstream in [Http, UpstreamKind::Scripted] {
                    let can = (origin, kind, upstream) == (Source, Served, Http)
                        && real.contains(&network);
                    let class = evidence_class(origin, kind, network, upstream);
                    assert_eq!(class.can_pass(), can, "{origin:?} {kind:?} {network:?}");
                    classes.push((class, can));
                }
            }
        }
        ends.extend(FailureClass::ALL.map(Some));
        for ((evidence, real), end) in
            classes.iter().flat_map(|class| ends.iter().map(move |end| (*class, *end)))
        {
            for blockers in [Vec::new(), vec!["x".to_owned()]] {
                let want = match (end.is_none() && blockers.is_empty(), real) {
                    (false, _) => RunStatus::Fail,
                    (true, false) => RunStatus::Rehearsed,
                    (true, true) => RunStatus::Pass,
                };
                let mut report = RunReport { evidence_class: evidence, blockers, ..draft() };
                conclude(&mut report, end.map(|class| Cause::new(class, "")), &judgement());
                assert_eq!(report.status, want, "{evidence:?} {end:?}");
                assert_eq!(report.failure_class.is_some(), want == RunStatus::Fail);
                // A "pass" that was written by hand is named too.
                report.status = RunStatus::Pass;
                let no = record::evidence::contradictions(&report);
                assert_eq!(no.contains(&"evidence of a class that cannot pass"), !real);
            }
        }
    }
}
