//! A pass, from end to end: a provider from a source of its own and a served model in a private network, which is one of a
//! namespace that the test makes. And each condition of a pass, switched off once: none may be missing.

use std::time::Duration;

use admit::proxy::api::WireApi;
use admit::record::admission::Api;
use admit::record::evidence::{RunReport, RunStatus, contradictions};
use admit::record::finding::State;
use serde_json::{Value, json};

use crate::faults::Fault::{Cut, Does, ReasoningOnly, Says, SaysLate, Thinks};
use crate::faults::When::{Later, Probe, Turn};
use crate::faults::{FAILED, Fault, When, player};
use crate::files::{self, script};
use crate::namespace::{entered_with, lead};
use crate::trial::{Built, Left, PYTHON, Trial, real_case, sourced, understudy};
use crate::upstream::with_a_list;
use crate::util::{World, faults, tell, var};

/// Where a test in its namespace finds what was built outside.
const BUILT: &str = "ADMIT_TEST_BUILT";
const ADDRESS: &str = "10.23.0.9";
const COMPLETED: &str =
    "<<<AGENT_RESULT\n{\"status\": \"completed\", \"error\": null}\nAGENT_RESULT>>>";
/// The work as it must be.
const RIGHT: &str = "\"\"\"Small functions on text.\"\"\"

import re
import unicodedata


def slugify(text):
    ascii_text = unicodedata.normalize(\"NFKD\", text).encode(\"ascii\", \"ignore\").decode(\"ascii\")
    return re.sub(r\"[^a-z0-9]+\", \"-\", ascii_text.lower()).strip(\"-\")


def shorten(text, limit):
    if len(text) <= limit:
        return text
    return text[: max(limit - 3, 0)] + \"...\"[:limit]
";
/// A patch that applies before this line and changes nothing of what the tests see.
fn idle(before: &str) -> String {
    let head =
        "diff --git a/strings.py b/strings.py\n--- a/strings.py\n+++ b/strings.py\n@@ -1,3 +1,4 @@";
    format!("{head}\n \"\"\"Small functions on text.\"\"\"\n \n+# As it was.\n {before}\n")
}

/// Where the model is.
#[derive(Clone, Copy, PartialEq)]
enum Network {
    Private,
    Loopback,
}

/// One run: what is otherwise than in a pass, and what must come of it.
struct Row {
    what: &'static str,
    trial: Box<dyn Fn(Trial) -> Trial + Send + Sync>,
    faults: Vec<(When, Fault)>,
    api: Api,
    at: Network,
    /// The tables of the stand-in have it too: it is run with real Case alone.
    elsewhere: bool,
    status: &'static str,
    /// The class of a failure, the check of a refusal, the class of the evidence.
    because: &'static str,
}

impl Row {
    fn of(what: &'static str, status: &'static str, because: &'static str) -> Self {
        let trial = Box::new(|trial| trial);
        Self {
            what,
            trial,
            faults: Vec::new(),
            api: Api::OpenaiChat,
            at: Network::Private,
            elsewhere: false,
            status,
            because,
        }
    }

    fn trial(self, change: impl Fn(Trial) -> Trial + Send + Sync + 'static) -> Self {
        Self { trial: Box::new(change), ..self }
    }

    fn fault(self, when: When, fault: Fault) -> Self {
        Self { faults: vec![(when, fault)], ..self }
    }

    fn elsewhere(self) -> Self {
        Self { elsewhere: true, ..self }
    }

    fn run(&self, built: &Built) -> Left {
        let server = player(PYTHON, self.api, self.faults.clone());
        let trial = Trial::built(built.clone()).speaking(self.api).admission(private);
        let mut trial = (self.trial)(trial);
        trial.proxy.requests = trial.proxy.requests.min(40);
        let address = match self.at {
            Network::Private => lead(&format!("{ADDRESS}:0"), server.addr()),
            Network::Loopback => server.addr(),
        };
        trial.served_at(format!("http://{address}/v1"))
    }

    fn wrong(&self, built: &Built) -> Option<String> {
        let left = self.run(built);
        let report = left.report();
        let failed: Vec<&str> = (report.gates.iter())
            .filter(|gate| gate.state == State::Failed)
            .map(|gate| gate.id.as_str())
            .collect();
        let because = match report.status {
            RunStatus::Blocked => failed.join(" "),
            RunStatus::Fail => report.failure_class.unwrap().as_str().to_owned(),
            RunStatus::Pass | RunStatus::Rehearsed => report.evidence_class.as_str().to_owned(),
        };
        let found = (report.status.as_str(), because.as_str());
        (found != (self.status, self.because) || !left.check.faults.is_empty()).then(|| {
            let what = self.what;
            format!("{what}: {found:?} {:?} {:?}", report.blockers, left.check.faults)
        })
    }
}

/// A served model in a private network.
fn private(record: &mut Value) {
    let fields = record.as_object_mut().unwrap();
    fields.remove("credential_source_class");
    fields.remove("allowed_network_class");
    fields.insert("schema".into(), json!("admit.model-admission/2"));
    fields.insert("kind".into(), json!("served"));
    fields.insert("network".into(), json!("private"));
    fields.insert("credential".into(), json!({ "kind": "key" }));
}

fn with(field: &'static str, value: &'static str) -> impl Fn(Trial) -> Trial + Send + Sync {
    move |trial| {
        trial.admission(move |record| {
            private(record);
            record[field] = json!(value);
        })
    }
}

/// With a judge that takes nothing for good: without drawn calls, whose results the wrong reference would compute.
pub fn void_baseline(trial: Trial) -> Trial {
    let trial = trial.fixture("reference.patch", |_| idle(""));
    trial.fixture("fixture.json", |text| {
        let mut fixture: Value = serde_json::from_str(&text).unwrap();
        fixture.as_object_mut().unwrap().remove("generator");
        fixture.to_string()
    })
}

/// Every condition of a pass that a run can miss, switched off.
fn table() -> Vec<Row> {
    let does = |what, because, command: &'static str| {
        Row::of(what, "fail", because).fault(Turn(3), Does(command))
    };
    let key: &'static str = Box::leak(crate::upstream::key().into_boxed_str());
    let other = |mut trial: Trial| {
        let binary = trial.state.parent().unwrap().join("other");
        script(&binary, "");
        trial.binary = Some(binary);
        trial
    };
    vec![
        // The gate.
        Row::of("the model's record is revoked", "blocked", "model_admitted")
            .trial(with("status", "revoked")),
        Row::of("the endpoint is outside of the network", "blocked", "network_class")
            .trial(with("network", "this-machine")),
        Row::of("no key", "blocked", "credentials").trial(Trial::without_key),
        Row::of("the build is not on record", "blocked", "build_report_recorded")
            .trial(Trial::without_build),
        Row::of("another binary", "blocked", "binary_digest").trial(other),
        Row::of("the model only reasons", "blocked", "response_shape").fault(Probe, ReasoningOnly),
        // What kind of evidence it can be.
        Row { at: Network::Loopback, ..Row::of("a network of tests", "rehearsed", "loopback") }
            .trial(with("network", "loopback-test")),
        Row::of("a scripted model", "rehearsed", "scripted").trial(with("kind", "scripted")),
        // The work.
        does(
            "work that the tests reject",
            "judge_rejected",
            "echo 'def slugify(t): return t' > strings.py; git commit -qam x",
        )
        .elsewhere(),
        does(
            "work that only the held-out calls reject",
            "judge_rejected",
            "sed -i 's/a-z0-9/a-z/' strings.py; git commit -qam x",
        ),
        does("nothing committed", "judge_rejected", "true").elsewhere(),
        does(
            "no change",
            "judge_rejected",
            "git checkout -q strings.py; git commit -q --allow-empty -m x",
        )
        .elsewhere(),
        does("another file", "writes_outside", "echo x > more.py; git add -A; git commit -qm x")
            .elsewhere(),
        // The agent's result, on the wire.
        Row::of("no result", "fail", "agent_protocol")
            .fault(Turn(4), Says("All done."))
            .elsewhere(),
        Row::of("a result of failure", "fail", "agent_protocol")
            .fault(Turn(4), Says(FAILED))
            .elsewhere(),
        Row::of("a result in thoughts only", "fail", "agent_protocol")
            .fault(Turn(4), Thinks(COMPLETED)),
        Row::of("a result that is cut", "fail", "stream_truncated").fault(Turn(4), Cut).elsewhere(),
        // Its process, its log, its time.
        Row::of("the agent crashed", "fail", "engine_failed")
            .fault(Turn(3), Does("kill -ABRT $PPID; sleep 9"))
            .elsewhere(),
        does(
            "the agent's log is forged",
            "unclassified",
            "git commit -qam x; for log in $(find . -name 'run-*.jsonl'); do echo forged >> $log; done",
        ),
        Row::of("out of time", "fail", "timeout")
            .fault(Turn(2), Does("sleep 300"))
            .trial(|mut trial| {
                trial.clocks.wall = Duration::from_secs(4);
                trial
            })
            .elsewhere(),
        Row::of("a limit", "fail", "limit_hit")
            .trial(|mut trial| {
                trial.proxy.requests = 3;
                trial
            })
            .elsewhere(),
        Row::of("told to stop", "fail", "interrupted").trial(|trial| trial.stopped(15)).elsewhere(),
        // The evidence.
        Row::of("the key in a reply", "fail", "secret_found").fault(Turn(4), Says(key)).elsewhere(),
        Row::of("a judge that takes nothing for good", "fail", "void_baseline")
            .trial(void_baseline)
            .elsewhere(),
        Row::of("a judge that takes no change for good", "fail", "void_baseline").trial(|trial| {
            let trial = trial.fixture("workspace/strings.py", |_| RIGHT.to_owned());
            trial.fixture("reference.patch", |_| idle("import re"))
        }),
        // What comes after the work decides nothing, however fast it is.
        Row::of("a reviewer who refuses at once", "pass", "served_model")
            .fault(Later, Says(FAILED)),
        Row::of("a reviewer who refuses after 5 s", "pass", "served_model")
            .fault(Later, SaysLate(5, FAILED)),
    ]
}

/// A whole pass over each wire API, which `admit verify` believes; and no field of its report may be otherwise.
fn passes(name: &str, built: &Built) {
    for api in with_a_list().map(WireApi::api) {
        passes_over(api, built);
        tell(&format!("{name} over {}: a pass that admit verify believes", api.as_str()));
    }
}

fn passes_over(api: Api, built: &Built) {
    let row = Row::of("nothing is otherwise", "pass", "served_model");
    let left = Row { api, ..row }.run(built);
    let report = left.report();
    assert_eq!(report.wire_api.as_deref(), Some(api.as_str()));
    assert!(report.hosts_asked.is_empty(), "{:?}", report.hosts_asked);
    assert_eq!(report.status, RunStatus::Pass, "{:#?}", report.blockers);
    assert_eq!(report.evidence_class.as_str(), "served_model");
    assert_eq!((left.code, &report.blockers[..]), (0, &[][..]));
    assert!(left.check.faults.is_empty(), "{:?}", left.check.faults);
    let bridge = left.json("backend/bridge.json");
    assert_eq!(bridge["network_class"], "private");
    assert_eq!(bridge["upstream"], "http");
    // The address is in nothing that is kept.
    let holds = |bytes: &Vec<u8>| bytes.windows(ADDRESS.len()).any(|w| w == ADDRESS.as_bytes());
    let named: Vec<_> = left.files().into_iter().filter(|(_, bytes)| holds(bytes)).collect();
    assert!(named.is_empty(), "{:?}", named.first());
    let world = World::new();
    let dir = left.sealed.directory.to_str().unwrap();
    let verified = world.admit(&["verify", dir, "--json"]).expect(0).json();
    assert_eq!(verified["id"], json!(left.sealed.id));
    let status = verified["report"]["status"].as_str().or(verified["status"].as_str());
    assert_eq!(status, Some("pass"), "{verified:#}");

    // Every check of the gate, and every other condition that the report shows.
    let mut tried = 0;
    let mut must_turn = |what: &str, change: &dyn Fn(&mut RunReport)| {
        let mut other = report.clone();
        change(&mut other);
        assert!(!contradictions(&other).is_empty(), "a pass all the same: {what}");
        tried += 1;
    };
    for (at, gate) in report.gates.iter().enumerate().filter(|(_, gate)| gate.state == State::Ok) {
        for state in [State::Failed, State::NotReached, State::NotAsked] {
            must_turn(&format!("{} {state:?}", gate.id), &|report| report.gates[at].state = state);
        }
    }
    for (at, event) in report.required_events.iter().enumerate() {
        must_turn(&event.kind, &|report| report.required_events[at].seen = false);
    }
    for (at, baseline) in report.baselines.iter().enumerate() {
        must_turn(&baseline.name, &|report| {
            report.baselines[at].accepted = !report.baselines[at].accepted;
        });
    }
    let fields: [(&str, Value); 16] = [
        ("failure_class", json!("judge_rejected")),
        ("blockers", json!(["x"])),
        ("gates", json!([])),
        ("allowed_writes_passed", json!(false)),
        ("changed_files", json!([])),
        ("patch_digest", json!(admit::record::ids::Digest::sha256(b""))),
        ("tests_passed", json!(false)),
        ("required_events_passed", json!(false)),
        ("required_events", json!([])),
        ("no_target_inspection_passed", json!(false)),
        ("baselines", json!([])),
        ("backend", json!("fake")),
        ("case_process_started", json!(false)),
        ("case_binary_sha256", json!(null)),
        ("launch_digest", json!(null)),
        ("wire", json!([])),
    ];
    let words = [
        ("source_admission_status", json!("not_admitted")),
        ("case_model_admission_status", json!("not_admitted")),
        ("evidence_class", json!("loopback")),
        ("evidence_class", json!("scripted")),
        ("evidence_class", json!("understudy")),
        ("evidence_class", json!("fake")),
        ("evidence_class", json!("none")),
    ];
    for (field, value) in fields.into_iter().chain(words) {
        must_turn(field, &|report| {
            let mut all = serde_json::to_value(&*report).unwrap();
            all[field] = value.clone();
            *report = serde_json::from_value(all).unwrap();
        });
    }
    assert!(tried > 100, "{tried}");
}

fn every_condition(name: &str, built: &Built, all: bool) {
    let rows: Vec<Row> = table().into_iter().filter(|row| all || !row.elsewhere).collect();
    let faults = faults(&rows, |row| row.wrong(built));
    let right = rows.len() - faults.len();
    tell(&format!("{name}: {right} of {} conditions of a pass hold", rows.len()));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Runs the rest of this test in a network namespace: gives what was built, there. What needs the network is made before.
fn inside(test: &str, build: impl FnOnce() -> Option<Built>) -> Option<Built> {
    let path = match var(BUILT) {
        Some(path) => path,
        None => {
            let built = build()?;
            // The packages of the judge.
            World::with_shared_store()
                .admit(&["run", "stage2", "--engine", "fake", "--dry-run"])
                .expect(0);
            drop(understudy());
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), json!(built).to_string()).unwrap();
            let path = file.path().to_str().unwrap();
            assert!(!entered_with(test, &[&format!("{ADDRESS}/8")], &[(BUILT, path)]));
            return None;
        }
    };
    assert!(entered_with(test, &[&format!("{ADDRESS}/8")], &[(BUILT, &path)]));
    Some(serde_json::from_value(files::json(path)).unwrap())
}

#[test]
fn a_provider_of_its_own_source_passes_and_every_condition_of_it_is_needed() {
    let test = "served::a_provider_of_its_own_source_passes_and_every_condition_of_it_is_needed";
    let Some(built) = inside(test, || Some(sourced())) else { return };
    passes("a provider of its own source", &built);
    every_condition("a provider of its own source", &built, false);
}

#[test]
fn real_case_passes_and_every_condition_of_it_is_needed() {
    let test = "served::real_case_passes_and_every_condition_of_it_is_needed";
    let Some(built) = inside(test, real_case) else { return };
    passes("real Case", &built);
    every_condition("real Case", &built, true);
}

#[test]
fn the_stand_in_itself_is_only_a_rehearsal() {
    let test = "served::the_stand_in_itself_is_only_a_rehearsal";
    let Some(built) = inside(test, || Some(understudy())) else { return };
    let wrong = Row::of("the stand-in", "rehearsed", "understudy").wrong(&built);
    assert!(wrong.is_none(), "{wrong:?}");
}
