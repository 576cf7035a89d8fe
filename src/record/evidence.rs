//! `report.json` of a run, as a type, and the rules that hold between its fields. The other files of a run directory
//! are in [`super::sealed`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::admission::AdmissionStatus;
use super::canonical::{Record, schema};
pub use super::evidence_class::{EvidenceClass, ProviderOrigin, evidence_class};
use super::failure::FailureClass;
use super::finding::{Finding, State, VERIFY_ALONE};
use super::ids::{CommitId, Digest, Timestamp};
use super::sealed::{Author, Excerpt};
use super::task::TaskOf;
use super::text::words;

words! {
    #[derive(Default)]
    pub enum RunStatus {
        /// A served model's work was judged good, with all the evidence.
        Pass = "pass",
        /// The run was started and did not pass.
        #[default]
        Fail = "fail",
        /// A gate said no; nothing was started.
        Blocked = "blocked",
        /// Everything but a served model: can never be a pass.
        Rehearsed = "rehearsed",
    }
}

/// The root of the records that held for a run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RootRow {
    pub label: String,
    /// Its digest; absent where it could not be read.
    pub digest: Option<Digest>,
}

/// One required event and whether it was seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequiredEvent {
    pub kind: String,
    pub seen: bool,
    /// Where it comes from: admit saw it, or the agent's side claims it and the wire agrees.
    pub by: Author,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// `no_change` or `reference_patch`.
    pub name: String,
    /// Whether the judge must accept it.
    pub expected_accept: bool,
    pub accepted: bool,
    /// Digest of the patch that was judged.
    pub patch_digest: Digest,
    /// What the judge said, in one line.
    pub note: String,
}

impl Baseline {
    pub fn held(&self) -> bool {
        self.expected_accept == self.accepted
    }
}

/// The run that made another run's baselines.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselinesOf {
    /// Its id.
    pub run: Digest,
    /// Its directory, in the same campaign.
    pub directory: String,
    /// How long before it was sealed, in seconds.
    pub seconds: u64,
}

impl BaselinesOf {
    /// How long baselines are those of other runs, in seconds.
    pub const LONGEST: u64 = 600;
}

/// One moment of the timeline in a report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimelineRow {
    /// The event's place in the chain.
    pub seq: u64,
    /// Nanoseconds since the run directory was made.
    pub monotonic_ns: u64,
    pub by: Author,
    pub kind: String,
    /// The event's data, cut.
    pub data: Excerpt,
}

/// One request and its reply on the wire, in a report.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WireRow {
    /// Counted from 1; 0 is what admit asked before the start.
    pub number: u32,
    /// Nanoseconds since the run directory was made, when the request was complete.
    pub monotonic_ns: u64,
    /// Nanoseconds until the reply's end.
    pub duration_ns: u64,
    /// `POST /v1/chat/completions`.
    pub request_line: String,
    /// HTTP status; absent where none came.
    pub status: Option<u16>,
    /// What the classifier made of the reply.
    pub class: String,
    /// The file with the request's bytes.
    pub request_file: String,
    /// The file with the reply's bytes.
    pub reply_file: String,
    /// The request, cut.
    pub request: Excerpt,
    /// The reply, cut.
    pub reply: Excerpt,
}

words! {
    /// How a phase of the agent's work ended.
    pub enum PhaseOutcome {
        Completed = "completed",
        Failed = "failed",
        /// It was planned and not needed.
        Skipped = "skipped",
        /// It began, and its end was not seen.
        Unfinished = "unfinished",
    }
}

/// One phase of the agent's work: name, end and times as its own log claims them; requests and tokens as admit saw them
/// on the wire between those times.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    pub name: String,
    pub outcome: PhaseOutcome,
    /// Nanoseconds since the run directory was made; absent where the log has no time.
    pub started: Option<u64>,
    /// The same; absent for one whose end was not seen.
    pub ended: Option<u64>,
    /// Requests to the model.
    pub requests: u32,
    /// Tokens of its requests, as the server counted them.
    pub input_tokens: u64,
    /// Tokens of its replies, as the server counted them.
    pub output_tokens: u64,
}

/// A fault that did not decide: the run went on after it, or would have failed without it all the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contributing {
    pub class: FailureClass,
    pub detail: String,
    /// The exchange in which it was seen; 0 is the probe's, absent for one that was not on the wire.
    pub exchange: Option<u32>,
}

/// How many events a chain has and where it ends.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainEnd {
    pub count: u64,
    /// Digest of the last line; of nothing where there is none.
    pub head: Digest,
}

/// `report.json`: everything a reader needs, and all that `report.md` and `report.html` are made from.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunReport {
    /// `admit.run-report/3`.
    pub schema: String,
    /// The version of admit that wrote it.
    pub admit_version: String,
    pub status: RunStatus,
    /// What kind of evidence it can be.
    pub evidence_class: EvidenceClass,
    /// The one reason for not passing.
    pub failure_class: Option<FailureClass>,
    /// The same in the words that users search for.
    pub failure_reason: Option<String>,
    /// Everything that stood in the way, a line each.
    pub blockers: Vec<String>,
    /// Faults that did not decide, in the order in which they were seen.
    pub contributing: Vec<Contributing>,
    /// The server's own words in the reply that decided, cut; absent where it said none, or where they hold a secret.
    pub server_said: Option<String>,
    /// Host names that the agent, or what it ran, asked a resolver for, in lower case, each once and the first 32. None was
    /// given an address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts_asked: Vec<String>,
    /// What the agent did one after the other, as far as its log tells.
    pub phases: Vec<Phase>,
    pub fixture: String,
    /// Digest of the fixture as copied.
    pub fixture_digest: Option<Digest>,
    pub stage: u8,
    pub started: Timestamp,
    pub finished: Timestamp,
    /// The engine: `case` or `fake`.
    pub backend: String,
    /// The provider's name in its lock; absent for the fake engine.
    pub provider: Option<String>,
    /// How the provider is launched and read: `case`, or `command`.
    pub agent: Option<String>,
    /// How the model was spoken to: `openai-chat`. Absent where nothing says.
    pub wire_api: Option<String>,
    /// 124 when a clock fired, 128+n on a signal, 0 when completed by the harness, else the waited status.
    pub backend_exit_code: Option<i32>,
    /// The status as waited for: `exited 0`, `killed by signal 9`.
    pub backend_wait_status: Option<String>,
    /// Which of those rules gave the exit code.
    pub backend_exit_code_source: Option<String>,
    /// Whether the provider's process was started.
    pub case_process_started: bool,
    /// Where the binary lay.
    pub case_bin: Option<String>,
    /// Its digest: of the copy inside the sandbox where one was started, else of the file as it lay there.
    pub case_binary_sha256: Option<Digest>,
    pub case_source_pin: Option<CommitId>,
    pub case_model_provider: Option<String>,
    pub case_model: Option<String>,
    /// What the admission record said.
    pub case_model_admission_status: AdmissionStatus,
    /// Where the record stands.
    pub case_model_admission_file: Option<String>,
    /// SHA-256 of that record in canonical form; absent where there was none that could be read.
    pub model_record_sha256: Option<Digest>,
    /// The provider's name in the agent's configuration; never the admission.
    pub case_runtime_model_provider: Option<String>,
    /// `admitted` or `not_admitted`.
    pub source_admission_status: String,
    /// Whether all changes lie within the allowed paths.
    pub allowed_writes_passed: bool,
    pub changed_files: Vec<String>,
    pub patch_artifact: String,
    /// Its digest; that of the empty file for an empty patch.
    pub patch_digest: Digest,
    /// The command that verifies the work.
    pub tests_command: String,
    /// Whether the judge accepted the patch, both times.
    pub tests_passed: bool,
    /// Whether every required event was seen.
    pub required_events_passed: bool,
    pub required_events: Vec<RequiredEvent>,
    /// The file that shows that no target was inspected.
    pub no_target_inspection_proof: String,
    pub no_target_inspection_passed: bool,
    /// The marker of a failed agent protocol.
    pub protocol_marker: Option<String>,
    /// The marker of a lifecycle that the harness ended.
    pub lifecycle_marker: Option<String>,
    pub run_directory: String,
    /// The task of a campaign that the run is.
    pub campaign: Option<TaskOf>,
    /// What every check before the start found.
    pub gates: Vec<Finding>,
    /// Digest of the launch, which `backend/launch.json` holds: all that decided what was started. Absent where none
    /// could be made.
    pub launch_digest: Option<Digest>,
    pub root: RootRow,
    /// The baselines of the same run, or of an earlier one of the same campaign on the same node.
    pub baselines: Vec<Baseline>,
    /// That earlier run; absent where the run made its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baselines_of: Option<BaselinesOf>,
    pub limits: Vec<String>,
    pub events: ChainEnd,
    /// The timeline, cut.
    pub timeline: Vec<TimelineRow>,
    /// Events that the timeline leaves out.
    pub timeline_omitted: u64,
    /// The patch, cut.
    pub diff: Excerpt,
    /// The wire record, cut.
    pub wire: Vec<WireRow>,
    /// Exchanges that `wire` leaves out.
    pub wire_omitted: u64,
}

schema!(RunReport, "admit.run-report", 3);

impl RunReport {
    /// A report of a run that has done nothing yet: it fails, until something says otherwise.
    pub fn draft(fixture: &str, backend: &str, now: &Timestamp) -> Self {
        Self {
            schema: Self::SCHEMA.to_string(),
            admit_version: env!("CARGO_PKG_VERSION").into(),
            status: RunStatus::Fail,
            failure_class: Some(FailureClass::Unclassified),
            failure_reason: Some(FailureClass::Unclassified.failure_reason("the run did not end")),
            fixture: fixture.into(),
            stage: 2,
            started: now.clone(),
            finished: now.clone(),
            backend: backend.into(),
            source_admission_status: "not_admitted".into(),
            patch_artifact: "patch.diff".into(),
            no_target_inspection_proof: "stage2-no-target-inspection.json".into(),
            root: RootRow { label: "not found out".into(), digest: None },
            ..Self::default()
        }
    }

    /// Makes it a failure of `class` whatever it was before: the evidence itself cannot be used. A blocked run keeps the
    /// class of its gate, since nothing was started.
    pub fn reject(&mut self, class: FailureClass) {
        if self.status != RunStatus::Blocked {
            self.failure_class = None;
        }
        self.fail(class, "");
    }

    /// Makes it a failure of `class`, unless it is one already: the first cause stays.
    pub fn fail(&mut self, class: FailureClass, detail: &str) {
        if self.status != RunStatus::Blocked {
            self.status = RunStatus::Fail;
        }
        if self.failure_class.is_none() || self.failure_class == Some(FailureClass::Unclassified) {
            self.failure_class = Some(class);
            self.failure_reason = Some(class.failure_reason(detail));
        }
    }
}

/// Whether every check of a run is a yes. Only those of `admit verify` alone are not asked of a run.
fn every_check_held(gates: &[Finding]) -> bool {
    gates.iter().all(|finding| match finding.state {
        State::Ok => true,
        State::NotAsked => VERIFY_ALONE.contains(&finding.id.as_str()),
        State::Failed | State::NotReached => false,
    })
}

/// What contradicts itself in a report; empty for one that can be right. A pass needs all the
/// evidence that a report can show, so that no rehearsal can be sealed or read back as a pass.
pub fn contradictions(report: &RunReport) -> Vec<&'static str> {
    let gates_pass = !report.gates.is_empty()
        && report.gates.iter().all(|row| matches!(row.state, State::Ok | State::NotAsked));
    let finished_work = [
        (report.failure_class.is_some(), "a failure class"),
        (!report.blockers.is_empty(), "blockers"),
        (!gates_pass, "a gate that did not pass"),
        (!report.allowed_writes_passed, "writes outside the allowed paths"),
        (report.changed_files.is_empty(), "no changed file"),
        (report.patch_digest == Digest::sha256(b""), "an empty patch"),
        (!report.tests_passed, "a patch that the judge did not accept"),
        (!report.required_events_passed, "a required event that was not seen"),
        (report.required_events.iter().any(|event| !event.seen), "a required event not seen"),
        (report.required_events.is_empty(), "no required events"),
        (!report.no_target_inspection_passed, "no proof that no target was inspected"),
        (report.baselines.len() < 2, "fewer than two baselines"),
        (report.baselines.iter().any(|b| !b.held()), "a baseline that ended wrong"),
        (
            report.baselines_of.is_some() && report.campaign.is_none(),
            "baselines of another run, and no campaign",
        ),
        (
            report.baselines_of.as_ref().is_some_and(|of| of.seconds > BaselinesOf::LONGEST),
            "baselines of a run too long before",
        ),
    ];
    let pass_only = [
        (!report.evidence_class.can_pass(), "evidence of a class that cannot pass"),
        (report.backend == "fake", "the fake engine"),
        (!report.case_process_started, "no provider process"),
        (report.case_binary_sha256.is_none(), "no binary digest"),
        (report.source_admission_status != "admitted", "a source that is not admitted"),
        (
            report.case_model_admission_status != AdmissionStatus::Admitted,
            "a model that is not admitted",
        ),
        (report.launch_digest.is_none(), "no launch"),
        (!every_check_held(&report.gates), "a check that did not hold"),
        (!report.wire.iter().any(|row| row.number > 0), "no wire record"),
    ];
    let blocked = [
        (report.case_process_started, "a started process"),
        (report.failure_class.is_none(), "no failure class"),
        (gates_pass, "gates that all passed"),
    ];
    let failed = [(report.failure_class.is_none(), "no failure class")];
    let of = |rules: &[(bool, &'static str)]| {
        rules.iter().filter(|(broken, _)| *broken).map(|(_, what)| *what).collect::<Vec<_>>()
    };
    let mut out = match report.status {
        RunStatus::Pass => {
            let mut out = of(&finished_work);
            out.extend(of(&pass_only));
            out
        }
        RunStatus::Rehearsed => of(&finished_work),
        RunStatus::Blocked => of(&blocked),
        RunStatus::Fail => of(&failed),
    };
    if report.failure_class.is_some() != report.failure_reason.is_some() {
        out.push("a failure class and a failure reason that do not go together");
    }
    out
}
