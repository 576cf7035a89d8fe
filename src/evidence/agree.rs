//! Whether a finished run's report says what the other files of its directory say: the gates, the wire, the judge, the
//! baselines, the chain, the sandbox and the nonce.
//!
//! Sealing a run directory anew takes no key, so agreement proves nothing by itself. It does mean that no single field
//! can be embellished: to make a rehearsal read as a pass, all of it has to be forged.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fault::{Fault, FaultKind, fault};
use super::files::RunDir;
use super::names;
use super::wire::probe_reply;
use crate::proxy::{api, probe};
use crate::record;
use crate::record::admission::ModelKind;
use crate::record::evidence::{
    EvidenceClass, ProviderOrigin, RunReport, RunStatus, evidence_class,
};
use crate::record::failure::FailureClass;
use crate::record::fixture::HeldOutRecord;
use crate::record::sealed::{Author, Freshness};
use crate::record::wire::ProxyRecord;

/// A record larger than this is not read.
const MAX_RECORD: u64 = 64 << 20;

/// Where the report of a pass or a rehearsal and the files of `dir` differ; `kinds` are the events of the chain that
/// admit itself put there. A run that was blocked or failed claims nothing good, and may have ended before the rest was
/// written.
pub(super) fn differences(
    dir: &RunDir,
    report: &RunReport,
    kinds: &BTreeSet<String>,
) -> Vec<Fault> {
    let mut out = Differences { faults: Vec::new() };
    if matches!(report.status, RunStatus::Pass | RunStatus::Rehearsed) {
        out.gates(dir, report);
        out.events(report, kinds);
        out.judge(dir, report);
        if report.evidence_class != EvidenceClass::Fake {
            out.wire(dir, report);
            out.model(dir, report);
            out.sandbox(dir, report);
        }
    }
    out.faults
}

struct Differences {
    faults: Vec<Fault>,
}

fn value(dir: &RunDir, name: &str) -> Result<Value, String> {
    let bytes = dir.read(name, MAX_RECORD).map_err(|err| err.to_string())?;
    record::parse_value(&bytes).map_err(|err| err.to_string())
}

fn typed<T: serde::de::DeserializeOwned>(dir: &RunDir, name: &str) -> Result<T, String> {
    serde_json::from_value(value(dir, name)?).map_err(|err| err.to_string())
}

/// Whether every row of a judgement passed; an empty one did not.
fn all_passed(rows: &Value) -> bool {
    rows.as_array().is_some_and(|rows| {
        !rows.is_empty() && rows.iter().all(|row| row["passed"].as_bool() == Some(true))
    })
}

impl Differences {
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

    fn unreadable(&mut self, name: &str, why: String) {
        self.add(name, "a record that the report can be held against".into(), why);
    }

    fn gates(&mut self, dir: &RunDir, report: &RunReport) {
        let gates = match value(dir, names::GATE) {
            Ok(gates) => gates,
            Err(why) => return self.unreadable(names::GATE, why),
        };
        if serde_json::to_value(&report.gates).ok().as_ref() != Some(&gates["gates"]) {
            let expected = format!("the {} gates of report.json", report.gates.len());
            self.add(names::GATE, expected, "other gates or answers".into());
        }
        self.same(names::GATE, "admitted", Some(true), gates["admitted"].as_bool());
        self.same(names::GATE, "backend", Some(report.backend.as_str()), gates["engine"].as_str());
    }

    fn events(&mut self, report: &RunReport, kinds: &BTreeSet<String>) {
        for event in &report.required_events {
            if event.by == Author::Admit && event.seen && !kinds.contains(&event.kind) {
                let expected = format!("the required event {} in the chain", event.kind);
                self.add(names::EVENTS, expected, "no such event of admit's own".into());
            }
        }
    }

    fn judge(&mut self, dir: &RunDir, report: &RunReport) {
        const JUDGEMENT: &str = "backend/judgement.json";
        match value(dir, JUDGEMENT) {
            Ok(rows) => {
                self.same(JUDGEMENT, "tests_passed", report.tests_passed, all_passed(&rows))
            }
            Err(why) => self.unreadable(JUDGEMENT, why),
        }
        for row in &report.baselines {
            let name = format!("baseline/{}.json", row.name);
            match value(dir, &name) {
                Ok(rows) => self.same(&name, "accepted", row.accepted, all_passed(&rows)),
                Err(why) => self.unreadable(&name, why),
            }
        }
    }

    fn wire(&mut self, dir: &RunDir, report: &RunReport) {
        const PROXY: &str = "backend/bridge.json";
        let proxy: ProxyRecord = match typed(dir, PROXY) {
            Ok(proxy) => proxy,
            Err(why) => return self.unreadable(PROXY, why),
        };
        let gates = value(dir, names::GATE).unwrap_or_default();
        // What does not stand there is the one that can be less.
        let origin = serde_json::from_value(gates["provider_origin"].clone());
        let kind = serde_json::from_value(gates["model_kind"].clone());
        let (origin, kind) =
            (origin.unwrap_or(ProviderOrigin::StandIn), kind.unwrap_or(ModelKind::Scripted));
        let network = proxy.network_class.as_deref();
        let class = evidence_class(origin, kind, network, proxy.upstream);
        self.same(PROXY, "evidence_class", report.evidence_class, class);
        self.same(PROXY, "case_model", report.case_model.as_deref(), Some(proxy.model.as_str()));
        // Exchange 0 was before the proxy was there.
        let agents = report.wire.iter().filter(|row| row.number > 0).count();
        let reported = agents as u64 + report.wire_omitted;
        self.probe(dir, report, &gates);
        self.same(PROXY, "exchanges", reported, proxy.exchanges.len() as u64);
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

    /// What the model was asked before the start: its reply, read once more, is what the gate saw.
    fn probe(&mut self, dir: &RunDir, report: &RunReport, gates: &Value) {
        let verdict = &gates["probe"]["verdict"];
        if !report.wire.iter().any(|row| row.number == 0) {
            if !gates["probe"].is_null() {
                let found = "none in the report".to_owned();
                self.add(names::GATE, "the probe's exchange".into(), found);
            }
            return;
        }
        let name = probe_reply();
        let api = report
            .wire_api
            .as_deref()
            .and_then(|api| serde_json::from_value(Value::from(api)).ok().map(api::list::of));
        let model = report.case_model.as_deref().unwrap_or_default();
        match (dir.read(&name, MAX_RECORD), api) {
            (Ok(reply), Some(api)) => {
                let again = probe::read_again(api, model, &reply);
                let again = serde_json::to_value(&again).unwrap_or_default();
                self.same(&name, "the probe's verdict", verdict, &again);
            }
            (Err(err), _) => self.unreadable(&name, err.to_string()),
            (_, None) => self.unreadable(&name, "no wire API that is known".into()),
        }
    }

    fn model(&mut self, dir: &RunDir, report: &RunReport) {
        match value(dir, names::MODEL_RECORD) {
            Ok(there) => {
                let digest = Some(record::digest(&there));
                self.same(
                    names::MODEL_RECORD,
                    "model_record_sha256",
                    report.model_record_sha256.clone(),
                    digest,
                );
                self.same(
                    names::MODEL_RECORD,
                    "case_model",
                    report.case_model.as_deref(),
                    there["model"].as_str(),
                );
            }
            Err(why) => self.unreadable(names::MODEL_RECORD, why),
        }
    }

    fn sandbox(&mut self, dir: &RunDir, report: &RunReport) {
        match value(dir, names::SANDBOX) {
            Ok(sandbox) => {
                let there = sandbox["stable"]["verified"][0]["sha256"].as_str();
                let reported = report.case_binary_sha256.as_ref().map(ToString::to_string);
                self.same(names::SANDBOX, "case_binary_sha256", reported.as_deref(), there);
            }
            Err(why) => self.unreadable(names::SANDBOX, why),
        }
        match typed::<Freshness>(dir, names::FRESHNESS) {
            Ok(fresh) => {
                self.same(names::FRESHNESS, "nonce seen", true, fresh.passed());
                // Runs of before had none.
                if let Ok(drawn) = typed::<HeldOutRecord>(dir, names::HELD_OUT) {
                    self.same(names::HELD_OUT, "nonce", &fresh.nonce, &drawn.nonce);
                }
            }
            Err(why) => self.unreadable(names::FRESHNESS, why),
        }
    }
}
