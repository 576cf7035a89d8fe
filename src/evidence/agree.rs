//! Whether a finished run's report says what the other files of its directory say: the gates, the wire, the judge, the
//! baselines, the chain, the sandbox and the nonce.
//!
//! Sealing a run directory anew takes no key, so agreement proves nothing by itself. It does mean that no single field
//! can be embellished: to make a rehearsal read as a pass, all of it has to be forged.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fault::{Fault, FaultKind, fault};
use super::files::{MAX_RECORD, RunDir};
use super::gate::GateRecord;
use super::names;
use super::wire::{forwarded, probe_question, shown};
use crate::check::Check;
use crate::error::Error;
use crate::proxy::api;
use crate::proxy::http1::head_end;
use crate::proxy::probe::{self, Probe, ProbeOutcome};
use crate::record;
use crate::record::admission::ModelKind;
use crate::record::evidence::{
    EvidenceClass, ProviderOrigin, RunReport, RunStatus, evidence_class,
};
use crate::record::failure::FailureClass;
use crate::record::finding::State;
use crate::record::fixture::HeldOutRecord;
use crate::record::ids::Digest;
use crate::record::sealed::{Author, Excerpt, Freshness};
use crate::record::wire::ProxyRecord;

/// Where the report of a pass or a rehearsal and the files of `dir` differ; `kinds` are the events of the chain that
/// admit itself put there. A run that was blocked or failed claims nothing good, and may have ended before the rest was
/// written.
pub(super) fn differences(
    dir: &RunDir,
    report: &RunReport,
    kinds: &BTreeSet<String>,
) -> Vec<Fault> {
    let mut out = Differences { dir, report, faults: Vec::new() };
    if matches!(report.status, RunStatus::Pass | RunStatus::Rehearsed) {
        out.gates();
        out.events(kinds);
        out.judge();
        if report.evidence_class != EvidenceClass::Fake {
            out.wire();
            out.model();
            out.sandbox();
        }
    }
    out.faults
}

struct Differences<'a> {
    dir: &'a RunDir,
    report: &'a RunReport,
    faults: Vec<Fault>,
}

fn typed<T: DeserializeOwned>(dir: &RunDir, name: &str) -> Result<T, String> {
    let bytes = dir.read(name, MAX_RECORD).map_err(|err| err.to_string())?;
    let value = record::parse_value(&bytes).map_err(|err| err.to_string())?;
    serde_json::from_value(value).map_err(|err| err.to_string())
}

/// Head and body of a request as it is kept.
fn split(request: &[u8]) -> (&[u8], &[u8]) {
    request.split_at(head_end(request).unwrap_or(request.len()))
}

/// Puts words in the place of the run's sentinel, as the report has it.
fn cleaner(dir: &RunDir) -> impl Fn(&str) -> String + use<> {
    let nonce = typed::<Freshness>(dir, names::FRESHNESS).map(|fresh| fresh.nonce);
    let sentinel = nonce.ok().filter(|nonce| !nonce.is_empty()).map(|n| Freshness::sentinel(&n));
    move |text| match &sentinel {
        Some(sentinel) => text.replace(sentinel, "[sentinel]"),
        None => text.to_owned(),
    }
}

/// Whether every row of a judgement passed; an empty one did not.
fn all_passed(rows: &Value) -> bool {
    rows.as_array().is_some_and(|rows| {
        !rows.is_empty() && rows.iter().all(|row| row["passed"].as_bool() == Some(true))
    })
}

impl Differences<'_> {
    fn same<T: PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        field: &str,
        reported: T,
        there: T,
    ) {
        if reported != there {
            let expected = format!("{field} as in report.json: {reported:?}");
            self.add(name, expected, format!("{there:?}"));
        }
    }

    fn add(&mut self, name: &str, expected: String, found: String) {
        let short = |text: String| text.chars().take(300).collect::<String>();
        self.faults.push(fault(FaultKind::Report, name, short(expected), short(found)));
    }

    fn readable<T>(&mut self, name: &str, read: Result<T, impl ToString>) -> Option<T> {
        let expected = "a record that the report can be held against".to_owned();
        read.map_err(|why| self.add(name, expected, why.to_string())).ok()
    }

    /// The record of this name; where it cannot be read, that is what differs.
    fn record<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        self.readable(name, typed(self.dir, name))
    }

    /// The bytes of this name, likewise.
    fn bytes(&mut self, name: &str) -> Option<Vec<u8>> {
        self.readable(name, self.dir.read(name, MAX_RECORD))
    }

    fn gates(&mut self) {
        let Some(gates) = self.record::<GateRecord>(names::GATE) else { return };
        let report = self.report;
        if record::to_value(&report.gates) != record::to_value(&gates.gates) {
            let expected = format!("the {} gates of report.json", report.gates.len());
            self.add(names::GATE, expected, "other gates or answers".into());
        }
        self.same(names::GATE, "admitted", true, gates.admitted);
        self.same(names::GATE, "backend", report.backend.as_str(), gates.engine.as_str());
    }

    fn events(&mut self, kinds: &BTreeSet<String>) {
        for event in &self.report.required_events {
            if event.by == Author::Admit && event.seen && !kinds.contains(&event.kind) {
                let expected = format!("the required event {} in the chain", event.kind);
                self.add(names::EVENTS, expected, "no such event of admit's own".into());
            }
        }
    }

    fn judge(&mut self) {
        if let Some(rows) = self.record(names::JUDGEMENT) {
            self.same(
                names::JUDGEMENT,
                "tests_passed",
                self.report.tests_passed,
                all_passed(&rows),
            );
        }
        for row in &self.report.baselines {
            let [name, _] = names::baseline(&row.name);
            if let Some(rows) = self.record(&name) {
                self.same(&name, "accepted", row.accepted, all_passed(&rows));
            }
        }
    }

    fn wire(&mut self) {
        const PROXY: &str = names::BRIDGE;
        let Some(proxy) = self.record::<ProxyRecord>(PROXY) else { return };
        let report = self.report;
        let gates: Option<GateRecord> = typed(self.dir, names::GATE).ok();
        // What does not stand there is the one that can be less.
        let origin = gates.as_ref().and_then(|gates| gates.provider_origin);
        let kind = gates.as_ref().and_then(|gates| gates.model_kind);
        let (origin, kind) =
            (origin.unwrap_or(ProviderOrigin::StandIn), kind.unwrap_or(ModelKind::Scripted));
        let network = proxy.network_class.as_deref();
        let class = evidence_class(origin, kind, network, proxy.upstream);
        self.same(PROXY, "evidence_class", report.evidence_class, class);
        self.same(PROXY, "case_model", report.case_model.as_deref(), Some(proxy.model.as_str()));
        // Exchange 0 was before the proxy was there.
        let agents = report.wire.iter().filter(|row| row.number > 0).count();
        let reported = agents as u64 + report.wire_omitted;
        self.probe(gates.and_then(|gates| gates.probe).as_ref());
        self.same(PROXY, "exchanges", reported, proxy.exchanges.len() as u64);
        if !proxy.hosts_asked.is_empty() || !report.hosts_asked.is_empty() {
            let clean = cleaner(self.dir);
            let asked: Vec<String> = proxy.hosts_asked.iter().map(|name| clean(name)).collect();
            self.same(PROXY, "hosts_asked", &report.hosts_asked, &asked);
        }
        self.requests(&proxy);
        self.shown();
        let nothing: &[String] = &[];
        self.same(PROXY, "secrets seen", nothing, &proxy.secrets_seen);
        self.same(PROXY, "failure of the record", None, proxy.recorder_failure);
        // A limit that only a later phase reached decides nothing, and is told.
        let told = report
            .contributing
            .iter()
            .any(|row| matches!(row.class, FailureClass::LimitHit | FailureClass::Timeout));
        if !told {
            self.same(PROXY, "limit hit", None, proxy.limit_hit);
        }
    }

    /// What went on to the model is what the proxy counted. None of it is ever left out of the files.
    fn requests(&mut self, proxy: &ProxyRecord) {
        for exchange in &proxy.exchanges {
            let Some(digest) = &exchange.forwarded_sha256 else { continue };
            let name = forwarded(exchange.exchange);
            if let Some(bytes) = self.bytes(&name) {
                let body = Digest::sha256(split(&bytes).1);
                self.same(&name, "forwarded_sha256 of the proxy's record", digest, &body);
            }
        }
    }

    /// What the report shows of the wire is what the files hold, but for the run's sentinel.
    fn shown(&mut self) {
        let clean = cleaner(self.dir);
        let cleaned = |excerpt: Excerpt| Excerpt { text: clean(&excerpt.text), ..excerpt };
        for row in &self.report.wire {
            for (name, reported) in
                [(&row.request_file, &row.request), (&row.reply_file, &row.reply)]
            {
                if *reported != cleaned(shown(self.dir, name)) {
                    let expected = format!("exchange {} as report.json shows it", row.number);
                    self.add(name, expected, "something else".into());
                }
            }
        }
    }

    /// What the model was asked before the start: the requests are those that a probe makes, and the replies, read once
    /// more, are what the gate saw.
    fn probe(&mut self, probe: Option<&Probe>) {
        let report = self.report;
        let kept = report.wire.iter().filter(|row| row.number == 0).count();
        let asked = report
            .gates
            .iter()
            .any(|gate| gate.id == Check::ResponseShape.id() && gate.state == State::Ok);
        if kept == 0 {
            if asked || probe.is_some() {
                let found = "none in the report".to_owned();
                self.add(names::GATE, "the probe's exchange".into(), found);
            }
            return;
        }
        let api = report
            .wire_api
            .as_deref()
            .and_then(|api| serde_json::from_value(Value::from(api)).ok().map(api::list::of));
        let lists = api.is_none_or(|api| api.list().is_some());
        self.same(names::GATE, "requests of the probe", kept, if lists { 2 } else { 1 });
        let outcome = probe.map(|probe| probe.outcome);
        self.same(names::GATE, "probe/outcome", Some(ProbeOutcome::Ready), outcome);
        let (request, name) = probe_question();
        let model = report.case_model.as_deref().unwrap_or_default();
        let Some(reply) = self.bytes(&name) else { return };
        let Some(api) = self.readable(&name, api.ok_or("no wire API that is known")) else {
            return;
        };
        let again = probe::read_again(api, model, &reply);
        let verdict = probe.and_then(|probe| probe.verdict.as_ref());
        self.same(&name, "the probe's verdict", verdict, Some(&again));
        self.asked(&request, probe::asked(api, model, false));
        if lists {
            self.asked(names::PROBE_LIST.0, probe::asked(api, model, true));
            self.listed(model, probe);
        }
    }

    /// A request of the probe's is the one that is always made; further headers are the model's record's.
    fn asked(&mut self, name: &str, made: Result<(String, Vec<u8>), Error>) {
        let Some(bytes) = self.bytes(name) else { return };
        let Some((line, body)) = self.readable(name, made) else { return };
        let (head, sent) = split(&bytes);
        let first = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let made = (line, text(&body));
        if (text(first), text(sent)) != made {
            let expected = format!("the probe's request: {} {}", made.0, made.1);
            self.add(name, expected, format!("{} {}", text(first), text(sent)));
        }
    }

    /// The list of models that the probe was given names the model.
    fn listed(&mut self, model: &str, probe: Option<&Probe>) {
        let name = names::PROBE_LIST.1;
        let Some(reply) = self.bytes(name) else { return };
        let ids = probe::ids(&reply).unwrap_or_default();
        let listed = probe.map(|probe| probe.models_listed);
        self.same(name, "models_listed", listed, Some(ids.len() as u64));
        self.same(name, "that the model is listed", true, ids.contains(model));
    }

    fn model(&mut self) {
        let name = names::MODEL_RECORD;
        let Some(there) = self.record::<Value>(name) else { return };
        let report = self.report;
        let digest = Some(record::digest(&there));
        self.same(
            name,
            "model_record_sha256",
            report.model_record_sha256.as_ref(),
            digest.as_ref(),
        );
        self.same(name, "case_model", report.case_model.as_deref(), there["model"].as_str());
    }

    fn sandbox(&mut self) {
        if let Some(sandbox) = self.record::<Value>(names::SANDBOX) {
            let there = sandbox["stable"]["verified"][0]["sha256"].as_str();
            let reported = self.report.case_binary_sha256.as_ref().map(ToString::to_string);
            self.same(names::SANDBOX, "case_binary_sha256", reported.as_deref(), there);
        }
        let Some(fresh) = self.record::<Freshness>(names::FRESHNESS) else { return };
        self.same(names::FRESHNESS, "nonce seen", true, fresh.passed());
        // Runs of before had none.
        if let Ok(drawn) = typed::<HeldOutRecord>(self.dir, names::HELD_OUT) {
            self.same(names::HELD_OUT, "nonce", &fresh.nonce, &drawn.nonce);
        }
    }
}
