//! Every check: what departs from good facts fails exactly it, what is not known fails it, what hangs on it is not reached.

use std::collections::BTreeSet;

use super::files::Files;
use super::launch::{Clocks, Launch, ProxyRules};
use super::*;
use crate::error::Kind;
use crate::lock::Locked;
use crate::record::admission::{AdmissionStatus, ModelPair, ModelStatus, RecordFile, status};
use crate::record::credential::Credential;
use crate::record::failure::FailureClass;
use crate::record::finding::VERIFY_ALONE;
use crate::record::ids::{Digest, Sha256};
use crate::record::lockfile::{AgentKind, Ambient, LicenseStatus};
use crate::record::network::Network;
use crate::record::report::{
    BuildReport, Linkage, Native, Origin, OutputStatus, Pulled, SourceAdmission,
};
use crate::record::run_shape::{CommandLimits, CommandRun, EndRule, ExitRule};
use crate::sandbox::{Mount, Policy as SandboxPolicy};
use std::time::Duration;

const QWEN: &[u8] = include_bytes!("../../admissions/models/qwen-local--qwen3.6-35b-a3b.json");
const CODEX_NETWORK: &str = "codex-oauth-hosted-model-plus-local-vllm-fallback";
const CODEX: &[u8] = include_bytes!("../../admissions/models/openai-codex--gpt-5.5.json");
const LOCK: &[u8] = include_bytes!("../../lockfiles/understudy.lock.json");
/// The build that the lock of the stand-in gives, as it stands on record.
const REPORT: &[u8] = include_bytes!("../../fixtures/fuzz/report/understudy.json");

fn model(bytes: &[u8], pair: &str) -> ModelStatus {
    let now = "2026-06-01".parse().unwrap();
    let pair: ModelPair = pair.parse().unwrap();
    status(&RecordFile::Bytes(bytes.to_vec()), Some(&pair), 2, &now, &|_| None)
}

pub(crate) fn policy() -> CheckPolicy {
    let purpose = Purpose::Run { engine: Engine::Provider, probe: true };
    CheckPolicy { purpose, contract: Some(task::tests::contract()) }
}

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

pub(super) fn locked() -> Locked {
    Locked::new(record::parse(LOCK).unwrap(), "lock".into()).unwrap()
}

pub(super) fn recorded() -> BuildReport {
    let mut report: BuildReport = record::parse(REPORT).unwrap();
    report.source_admission_status = SourceAdmission::Admitted;
    report
}

use crate::record;

/// A launch in which every way in is closed.
pub(crate) fn launch() -> Launch {
    let binary = locked().output().unwrap().sha256.digest().clone();
    let mut sandbox = SandboxPolicy::new("run-nonce");
    sandbox.handout = Some("/work".parse().unwrap());
    sandbox.mounts.push(Mount::Verified {
        host: "/store/ca".into(),
        inside: "/opt/case/bin/ca".parse().unwrap(),
        sha256: binary.clone(),
        blake3: None,
        mode: 0o555,
    });
    let args = ["/opt/case/bin/ca", "run", "--task", "x.task.json", "--mode", "unattended"];
    let env = [("TMPDIR", "/work/tmp"), ("BUN_OPTIONS", ambient::BUN_OPTIONS)];
    Launch {
        argv: args.map(String::from).to_vec(),
        directory: "/work/repo".parse().unwrap(),
        env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        directories: Vec::new(),
        files: BTreeMap::new(),
        fixture: digest("fixture"),
        workspace: Files::new(),
        sandbox,
        binary,
        agent: AgentKind::Case,
        refuse: Vec::new(),
        hardened: false,
        clocks: Clocks::default(),
        proxy: ProxyRules {
            model: "qwen3.6-35b-a3b".into(),
            network: "local-tailscale-vllm-spark1".into(),
            limits: crate::proxy::server::ProxyLimits::default(),
        },
        nonce: "nonce".into(),
    }
}

/// Facts that admit.
pub(crate) fn good() -> Facts {
    let pair: ModelPair = "qwen-local/qwen3.6-35b-a3b".parse().unwrap();
    let locked = locked();
    let output = locked.output().unwrap().clone();
    Facts {
        provider: "understudy".into(),
        request: Found::Known(()),
        root: Found::Known(RootFact { label: "embedded".into(), trusted: Some("its own") }),
        recorded: Found::Known(Recorded { place: "r".into(), report: recorded() }),
        saved: Found::Known(recorded()),
        build_signed: Found::Known(None),
        pulled_signed: Found::Known(None),
        binary: Found::Known(BinaryFact {
            place: "b".into(),
            irregular: None,
            executable: true,
            content: Some(Content {
                sha256: output.sha256.digest().clone(),
                blake3: output.blake3.digest().clone(),
                size: output.size,
            }),
        }),
        source_stored: Found::Known("source".into()),
        toolchain_stored: Found::Known(()),
        packages_stored: Found::Known(PackagesFact {
            all: 1,
            stored: 1,
            digest: recorded().packages_digest.unwrap(),
        }),
        identity_shown: Found::Known("Usage".into()),
        lock: Found::Known(locked),
        stage: Found::Known(2),
        requested: Found::Known(vec![pair]),
        model_fix: None,
        model: Found::Known(model(QWEN, "qwen-local/qwen3.6-35b-a3b")),
        model_signed: Found::Known(None),
        credentials: Found::Known(CredentialFact {
            class: "pi-models-json-local-provider-no-secret".into(),
            available: true,
            source: "none needed".into(),
        }),
        bridge_claimed: Found::Known(false),
        endpoint: Found::Known(EndpointOrigin::Environment),
        network: Found::Known(NetworkFact {
            network: Network::built_in("local-tailscale-vllm-spark1").unwrap(),
            addresses: vec!["100.64.0.7".parse().unwrap()],
            tls: false,
        }),
        probe: Found::Known(ProbeFact {
            listed: true,
            max_tokens: Some(1024),
            outcome: ProbeReply::Content,
        }),
        fixture: Found::Known(Compared { expected: digest("f"), found: digest("f") }),
        task: Found::Known(TaskFact {
            json: task::tests::json(),
            markdown: task::tests::MARKDOWN.into(),
        }),
        tools: Found::Known("Python".into()),
        launch: Found::Known(launch()),
        sandbox: Found::Known(SandboxFact { held: vec!["net".into()], failed: vec![] }),
    }
}

/// As [`good`] for the provider that needs an auth bridge.
pub(crate) fn good_codex() -> Facts {
    let mut facts = good();
    facts.requested = Found::Known(vec!["openai-codex/gpt-5.5".parse().unwrap()]);
    facts.model = Found::Known(model(CODEX, "openai-codex/gpt-5.5"));
    facts.bridge_claimed = Found::Known(true);
    known(&mut facts.credentials).class = "hermes-openai-codex-oauth-and-local-vllm-config".into();
    let rules = &mut known(&mut facts.launch).proxy;
    rules.model = "gpt-5.5".into();
    rules.network = CODEX_NETWORK.into();
    known(&mut facts.network).network = Network::built_in(CODEX_NETWORK).unwrap();
    facts
}

pub(crate) fn known<T>(found: &mut Found<T>) -> &mut T {
    match found {
        Found::Known(value) => value,
        _ => panic!("known"),
    }
}

fn unsigned(reason: Reason) -> Found<Signed> {
    let (expected, found, fix) = ("signed".into(), "not".into(), "sign".into());
    Found::Known(Some(Err(crate::attest::Refused { reason, expected, found, fix })))
}

fn failed(findings: &[Finding]) -> Vec<&str> {
    findings.iter().filter(|f| f.is_failed()).map(|f| f.id.as_str()).collect()
}

pub(crate) fn refused_with(facts: &Facts) -> Vec<String> {
    failed(&check(facts, &policy())).into_iter().map(str::to_owned).collect()
}

type Change = fn(&mut Facts);

fn report(facts: &mut Facts) -> &mut BuildReport {
    &mut known(&mut facts.recorded).report
}

fn content(facts: &mut Facts) -> &mut Content {
    known(&mut facts.binary).content.as_mut().unwrap()
}

fn status_of(facts: &mut Facts) -> &mut ModelStatus {
    known(&mut facts.model)
}

fn pulled(facts: &mut Facts, signed: Found<Signed>) {
    facts.pulled_signed = signed;
    let report = report(facts);
    let record_sha256 = Digest::sha256(&record::pretty(&*report));
    report.origin = Origin::Pulled;
    report.pulled = Some(Pulled {
        from: "oci://r.example/a".into(),
        at: report.volatile.finished.clone(),
        store_path: "b".into(),
        origin: Origin::Built,
        record_sha256,
        signed_by: Vec::new(),
    });
    facts.saved = Found::Known(report.clone());
}

#[test]
fn a_pulled_build_counts_by_its_signature_and_needs_nothing_of_a_build_here() {
    let mut facts = good();
    pulled(&mut facts, Found::Known(Some(Ok(held()))));
    assert_eq!(refused_with(&facts), Vec::<String>::new());
    (facts.source_stored, facts.packages_stored) = (Found::Absent, Found::Absent);
    (facts.toolchain_stored, facts.saved) = (Found::Absent, Found::Absent);
    assert_eq!(failed(&verify(&facts)), Vec::<&str>::new());
    // A record that is not word for word the signed one, or that was never pulled and says so.
    report(&mut facts).volatile.host = "another".into();
    assert_eq!(failed(&verify(&facts)), ["build_report_matches"]);
    pulled(&mut facts, Found::Known(None));
    report(&mut facts).origin = Origin::Built;
    assert!(failed(&verify(&facts)).contains(&"build_report_matches"));
    // What was built is not what somebody adopted or took from a package, and what is passed on is the first record.
    for origin in [Origin::Adopted, Origin::Published, Origin::Pulled] {
        let mut facts = good();
        pulled(&mut facts, Found::Known(Some(Ok(held()))));
        first(&mut facts, origin);
        assert!(failed(&verify(&facts)).contains(&"build_report_matches"), "{origin:?}");
    }
}

/// One departure from good facts each, with the check that it must fail, and what that means.
pub(crate) fn departures() -> Vec<(Facts, Check, Kind, Option<FailureClass>)> {
    use Check as C;
    let refused: &[(Change, Check)] = &[
        (|f| f.request = Found::Absent, C::Request),
        (|f| known(&mut f.root).trusted = None, C::RootTrusted),
        (|f| known(&mut f.lock).lock.outputs.clear(), C::OutputLocked),
        (|f| known(&mut f.binary).irregular = Some("a device".into()), C::BinaryPresent),
        (|f| f.binary = Found::Absent, C::BinaryPresent),
        (|f| known(&mut f.binary).executable = false, C::BinaryExecutable),
        (|f| f.recorded = Found::Absent, C::BuildRecorded),
        (|f| report(f).source_admission_status = SourceAdmission::NotAdmitted, C::BuildRecorded),
        (|f| f.build_signed = unsigned(Reason::SignatureMissing), C::BuildSigned),
        (|f| pulled(f, unsigned(Reason::SignerUnknown)), C::BuiltBy),
        (|f| pulled(f, Found::Known(None)), C::BuiltBy),
        (|f| f.model_signed = unsigned(Reason::KeyRevoked), C::ModelSigned),
        (|f| known(&mut f.lock).lock.license.allows.clear(), C::Licence),
        (|f| f.requested = Found::Known(Vec::new()), C::ModelRequested),
        (|f| status_of(f).status = AdmissionStatus::NotAdmitted, C::ModelAdmitted),
        (|f| status_of(f).record.as_mut().unwrap().stages.clear(), C::ModelAdmitted),
        (|f| known(&mut f.requested)[0] = "a/b".parse().unwrap(), C::ModelAdmitted),
        (|f| known(&mut f.credentials).available = false, C::Credentials),
        (|f| known(&mut f.credentials).class = "x".into(), C::Credentials),
        (|f| *known(&mut f.endpoint) = EndpointOrigin::Embedded, C::Endpoint),
        (|f| known(&mut f.network).addresses.clear(), C::Network),
        (|f| known(&mut f.network).addresses.push("127.0.0.1".parse().unwrap()), C::Network),
        (|f| known(&mut f.probe).outcome = ProbeReply::ReasoningOnly, C::ResponseShape),
        (|f| known(&mut f.probe).max_tokens = Some(32), C::ResponseShape),
        (|f| known(&mut f.probe).max_tokens = None, C::ResponseShape),
        (|f| known(&mut f.task).markdown.push_str("\n/etc"), C::TaskContract),
        (|f| f.tools = Found::Absent, C::Tools),
        (|f| known(&mut f.launch).argv.push("more".into()), C::CommandShape),
        (|f| known(&mut f.launch).argv[2] = "--tasks".into(), C::CommandShape),
        (|f| drop(known(&mut f.launch).env.remove("BUN_OPTIONS")), C::Ambient),
        (|f| *known(&mut f.stage) = 3, C::Stage),
    ];
    let digest_wrong: &[(Change, Check)] = &[
        (|f| content(f).sha256 = digest("x"), C::BinaryDigest),
        (|f| content(f).blake3 = digest("x"), C::BinaryDigest),
        (|f| content(f).size += 1, C::BinaryDigest),
        (
            |f| {
                report(f).pinned_commit =
                    "30b1fa12345678901234567890123456789012ab".parse().unwrap()
            },
            C::SourcePin,
        ),
        (|f| report(f).bun_sha256 = Some(other_sha256()), C::ToolchainDigest),
        (|f| known(&mut f.fixture).found = digest("x"), C::FixtureDigest),
        (|f| f.build_signed = unsigned(Reason::SignatureInvalid), C::BuildSigned),
        (|f| pulled(f, unsigned(Reason::SignatureInvalid)), C::BuiltBy),
    ];
    let mut all = Vec::new();
    let mut add = |change: Change, check, kind, class| {
        let mut facts = good();
        change(&mut facts);
        // A stage that its own gate must refuse, with nothing else against it.
        if let (Check::Stage, Some(stage)) = (check, facts.stage.known().copied()) {
            known(&mut facts.lock).lock.license.allows.push(stage);
            status_of(&mut facts).record.as_mut().unwrap().stages.push(stage);
        }
        all.push((facts, check, kind, class));
    };
    refused.iter().for_each(|(change, check)| add(*change, *check, Kind::Refused, None));
    digest_wrong.iter().for_each(|(change, check)| add(*change, *check, Kind::Digest, None));
    for change in RECORDED {
        add(*change, C::BuildMatches, Kind::Digest, None);
    }
    for change in IDENTITY {
        add(*change, C::BinaryIdentity, Kind::Refused, None);
    }
    let path: Change = |f| known(&mut f.lock).lock.build.path = Some("/etc/x".parse().unwrap());
    let gone: Change = |f| known(&mut f.probe).outcome = ProbeReply::Failed(GONE);
    add(path, C::LockValid, Kind::Refused, None);
    add(|f| known(&mut f.sandbox).failed.push("net".into()), C::Sandbox, Kind::Sandbox, None);
    add(|f| known(&mut f.sandbox).held.clear(), C::Sandbox, Kind::Sandbox, None);
    let other = Some(FailureClass::ModelMismatch);
    add(|f| known(&mut f.probe).listed = false, C::ResponseShape, Kind::Refused, other);
    add(gone, C::ResponseShape, Kind::Refused, Some(GONE));
    let mut bridge = good_codex();
    bridge.bridge_claimed = Found::Known(false);
    all.push((bridge, C::AuthBridge, Kind::Refused, None));
    all
}

const GONE: FailureClass = FailureClass::ConnectionRefused;

fn other_sha256() -> Sha256 {
    Sha256::from_digest(&digest("x")).unwrap()
}

/// Every field that the one rule holds a recorded build to.
const RECORDED: &[Change] = &[
    |f| report(f).provider = "another".parse().unwrap(),
    |f| report(f).plan_digest = digest("x"),
    |f| report(f).verification = OutputStatus::Unlocked,
    |f| report(f).sha256 = other_sha256(),
    |f| report(f).size += 1,
    |f| report(f).source_url.push('x'),
    |f| report(f).bun_version.push('x'),
    |f| report(f).output = "dist/x".parse().unwrap(),
    |f| report(f).build_path = Some("/tmp/elsewhere".parse().unwrap()),
    |f| report(f).source_tree = None,
    |f| report(f).nar_hash = None,
    |f| report(f).packages_digest = Some(digest("x")),
    |f| report(f).package_count = Some(1),
    |f| report(f).build_command[0].push("--force".into()),
    |f| drop(report(f).build_command.pop()),
    // What no lock says is held against the build that was made here.
    |f| report(f).sandbox = serde_json::json!({ "network": "all" }),
    |f| report(f).writes.push("package.json".parse().unwrap()),
];

const IDENTITY: &[Change] = &[
    |f| report(f).identity.help_first_line.push('x'),
    |f| report(f).identity.commands.push("x".into()),
    |f| report(f).identity.version = Some("9".into()),
    |f| report(f).runtime.proven = false,
    |f| report(f).runtime.exec_argv = "--smol".into(),
];

fn held() -> crate::attest::Held {
    crate::attest::Held { by: BTreeMap::new() }
}

fn failed_with<T>(reason: Reason) -> Found<T> {
    Found::Failed((&crate::error::Error::new(reason, "it").found("this")).into())
}

fn addresses(all: &[&str]) -> Vec<std::net::IpAddr> {
    all.iter().map(|one| one.parse().unwrap()).collect()
}

/// Keys come from a program of the record.
fn helper(facts: &mut Facts) {
    let record = status_of(facts).record.as_mut().unwrap();
    let program = "/usr/bin/helper".parse().unwrap();
    let (sha256, arguments, timeout_seconds) = (digest("x"), Vec::new(), None);
    record.credential = Some(Credential::Helper { program, sha256, arguments, timeout_seconds });
    known(&mut facts.credentials).class = "helper".into();
}

fn hardened(facts: &mut Facts) {
    known(&mut facts.lock).lock.run.ambient = Ambient::Hardened;
}

fn autoload_neither(facts: &mut Facts) {
    let runtime = &mut report(facts).runtime;
    (runtime.autoload_bunfig, runtime.autoload_dotenv) = (false, false);
}

/// A native program that its makers published.
fn published(facts: &mut Facts) {
    let report = report(facts);
    report.origin = Origin::Published;
    report.runtime.native = Some(Native {
        machine: "x86-64".into(),
        linkage: Linkage::Static,
        interpreter: None,
        needed: Vec::new(),
    });
}

/// The build that was pulled was `origin` where it was first recorded.
fn first(facts: &mut Facts, origin: Origin) {
    report(facts).pulled.as_mut().unwrap().origin = origin;
}

fn closes_by_itself(facts: &mut Facts) {
    let run = &mut known(&mut facts.lock).lock.run;
    (run.agent, run.argv) = (AgentKind::Command, vec!["{prompt}".into(), "{model}".into()]);
    run.command = Some(CommandRun {
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        wire_apis: vec!["openai-chat".into()],
        end: EndRule {
            types: vec!["end".into()],
            pointer: "/good".into(),
            equals: true.into(),
            exit: ExitRule::Any,
        },
        refuse: Vec::new(),
        closed: vec!["rules.md".into(), "AGENTS.md".into()],
        limits: CommandLimits::default(),
    });
}

/// Facts that say more than [`departures`] do, each with the check that tells it; most of them hold.
pub(crate) fn told() -> Vec<(Facts, Check)> {
    use Check as C;
    let codex: &[(Change, Check)] = &[
        (|_| {}, C::AuthBridge),
        (|f| f.bridge_claimed = Found::Known(false), C::AuthBridge),
        (|f| f.bridge_claimed = Found::Unknown, C::AuthBridge),
        (helper, C::AuthBridge),
        (|f| (helper(f), f.bridge_claimed = Found::Known(false)).0, C::AuthBridge),
        (|f| (helper(f), known(&mut f.credentials).available = false).0, C::Credentials),
    ];
    let plain: &[(Change, Check)] = &[
        (|f| f.requested = Found::Known(vec!["a/b".parse().unwrap(); 2]), C::ModelRequested),
        (|f| f.model_signed = unsigned(Reason::KeyRevoked), C::ModelSigned),
        (|f| f.model_signed = Found::Known(Some(Ok(held()))), C::ModelSigned),
        (|f| f.model_signed = Found::Absent, C::ModelSigned),
        (|f| f.build_signed = Found::Absent, C::BuildSigned),
        (|f| f.bridge_claimed = Found::Absent, C::AuthBridge),
        (
            |f| status_of(f).record.as_mut().unwrap().credential_source_class = Some("x".into()),
            C::Credentials,
        ),
        (|f| f.network = failed_with(Reason::NetworkNotAllowed), C::Network),
        (|f| f.network = failed_with(Reason::Io), C::Network),
        (|f| known(&mut f.network).network = Network::built_in(CODEX_NETWORK).unwrap(), C::Network),
        (|f| f.network = Found::Absent, C::Network),
        (|f| known(&mut f.network).addresses = addresses(&["100.64.0.7"; 3]), C::Network),
        (|f| known(&mut f.network).addresses = addresses(&["9.9.9.9"; 3]), C::Network),
        (|f| known(&mut f.probe).outcome = ProbeReply::ToolCall, C::ResponseShape),
        (|f| f.probe = failed_with(Reason::Io), C::ResponseShape),
        (|f| known(&mut f.saved).sha256 = other_sha256(), C::OutputLocked),
        (|f| f.saved = Found::Absent, C::OutputLocked),
        (|f| (hardened(f), report(f).runtime.autoload_bunfig = true).0, C::BinaryIdentity),
        (|f| (hardened(f), report(f).runtime.autoload_dotenv = true).0, C::BinaryIdentity),
        (|f| (hardened(f), autoload_neither(f)).0, C::BinaryIdentity),
        (
            |f| (hardened(f), autoload_neither(f), report(f).runtime.proven = false).0,
            C::BinaryIdentity,
        ),
        (|f| (published(f), report(f).runtime.exec_argv = "--smol".into()).0, C::BinaryIdentity),
        (
            |f| (published(f), report(f).runtime.not_proven = Some("stripped".into())).0,
            C::BinaryIdentity,
        ),
        (|f| (published(f), report(f).runtime.proven = false).0, C::BinaryIdentity),
        (|f| report(f).origin = Origin::Adopted, C::BuiltBy),
        (|f| pulled(f, Found::Known(Some(Ok(held())))), C::BuiltBy),
        (|f| (pulled(f, Found::Known(Some(Ok(held())))), first(f, Origin::Adopted)).0, C::BuiltBy),
        (
            |f| (pulled(f, Found::Known(Some(Ok(held())))), first(f, Origin::Published)).0,
            C::BuiltBy,
        ),
        (|f| pulled(f, Found::Absent), C::BuiltBy),
        (|f| f.stage = Found::Known(1), C::Stage),
        (|f| f.stage = Found::Known(2), C::Stage),
        (|f| f.stage = Found::Known(7), C::Stage),
        (|f| f.stage = Found::Known(9), C::Stage),
        (|_| {}, C::Ambient),
        (closes_by_itself, C::Ambient),
        (|f| f.source_stored = Found::Absent, C::SourceStored),
        (|f| report(f).origin = Origin::Published, C::SourceStored),
        (|f| known(&mut f.packages_stored).all = 12, C::PackagesStored),
        (|f| f.packages_stored = Found::Absent, C::PackagesStored),
        (|f| f.toolchain_stored = Found::Absent, C::ToolchainStored),
        (|f| known(&mut f.lock).lock.license.status = LicenseStatus::Unresolved, C::Licence),
        (|f| known(&mut f.lock).lock.license.allows = vec![2, 3], C::Licence),
    ];
    let of = |start: Facts, changes: &[(Change, Check)]| {
        let one = |(change, check): &(Change, Check)| {
            let mut facts = start.clone();
            change(&mut facts);
            (facts, *check)
        };
        changes.iter().map(one).collect::<Vec<_>>()
    };
    [of(good_codex(), codex), of(good(), plain)].concat()
}

#[test]
fn each_departure_fails_exactly_its_check() {
    for (n, (facts, want, kind, class)) in departures().into_iter().enumerate() {
        let findings = check(&facts, &policy());
        assert_eq!(failed(&findings), [want.id()], "case {n}");
        let finding = findings.iter().find(|finding| finding.is_failed()).unwrap();
        assert!(kind == Kind::Refused || finding.kind == Some(kind), "case {n}: {finding:?}");
        assert_eq!(finding.class, class, "case {n}");
        let told = [&finding.expected, &finding.found, &finding.fix];
        assert!(!told.iter().any(|text| text.is_empty()), "case {n}: {finding:?}");
        // The model is not asked for a run that is refused.
        let probe = findings.iter().find(|finding| finding.id == Check::ResponseShape.id());
        let state = if want == Check::ResponseShape { State::Failed } else { State::NotReached };
        assert_eq!(probe.map(|finding| finding.state), Some(state), "case {n}");
        for finding in &findings {
            let hangs = finding.because.iter().all(|id| {
                findings
                    .iter()
                    .any(|f| f.id == *id && matches!(f.state, State::Failed | State::NotReached))
            });
            assert!(hangs, "case {n}: {finding:?}");
            assert_eq!(finding.state == State::NotReached, !finding.because.is_empty());
        }
    }
}

#[test]
fn every_check_has_a_departure() {
    let mut watched: BTreeSet<Check> = departures().iter().map(|(_, check, ..)| *check).collect();
    // What only verify looks at has tests of its own.
    watched.extend([Check::SourceStored, Check::ToolchainStored, Check::PackagesStored]);
    watched.insert(Check::IdentityShown);
    let missing: Vec<_> = Check::ALL.iter().filter(|check| !watched.contains(check)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_check_needs_only_checks_above_it() {
    for (at, check) in Check::ALL.iter().enumerate() {
        for needed in check.needs() {
            let above = Check::ALL.iter().position(|c| c == needed).unwrap();
            assert!(above < at, "{} needs {}", check.id(), needed.id());
        }
    }
    let ids: BTreeSet<_> = Check::ALL.iter().map(|check| check.id()).collect();
    assert_eq!(ids.len(), Check::ALL.len());
}

#[test]
fn a_run_leaves_out_what_verify_alone_asks() {
    let findings = check(&good(), &policy());
    let left_out = findings.iter().filter(|finding| finding.state == State::NotAsked);
    let ids: Vec<&str> = left_out.map(|finding| finding.id.as_str()).collect();
    assert_eq!(ids, VERIFY_ALONE);
}

#[test]
fn nothing_built_and_no_model_are_two_causes_each_once() {
    let mut facts = good();
    (facts.binary, facts.recorded, facts.saved) = (Found::Absent, Found::Absent, Found::Absent);
    (facts.requested, facts.launch) = (Found::Known(Vec::new()), Found::Unknown);
    assert_eq!(refused_with(&facts), ["binary_present", "model_requested"]);
    let purpose = Purpose::Verify { deep: true, model: true };
    let verify = check(&facts, &CheckPolicy { purpose, contract: None });
    assert_eq!(failed(&verify), ["binary_present", "model_requested"]);
}

fn verify(facts: &Facts) -> Vec<Finding> {
    let purpose = Purpose::Verify { deep: true, model: false };
    check(facts, &CheckPolicy { purpose, contract: None })
}

#[test]
fn verify_looks_into_the_store_and_asks_for_no_model() {
    let findings = verify(&good());
    assert_eq!(failed(&findings), Vec::<&str>::new());
    let state = |check: Check| {
        findings.iter().find(|finding| finding.id == check.id()).map(|finding| finding.state)
    };
    assert_eq!(state(Check::PackagesStored), Some(State::Ok));
    assert_eq!(state(Check::ModelRequested), Some(State::NotAsked));
    assert_eq!(state(Check::Ambient), Some(State::NotAsked));
    // What fails, and why, as exactly as it is known.
    let changes: [(Change, &str, &str); 10] = [
        (|f| f.source_stored = Found::Absent, "source_stored", "not_found"),
        (|f| f.toolchain_stored = Found::Absent, "toolchain_stored", "bun_missing"),
        (|f| f.packages_stored = Found::Absent, "packages_stored", "not_found"),
        (
            |f| known(&mut f.packages_stored).digest = digest("x"),
            "packages_stored",
            "digest_mismatch",
        ),
        (|f| f.identity_shown = Found::Absent, "identity_shown", "not_found"),
        (|f| known(&mut f.saved).size += 1, "build_report_matches", "digest_mismatch"),
        (|f| f.saved = Found::Absent, "build_report_matches", "not_found"),
        (|f| f.saved = Found::unreadable("x"), "build_report_matches", "io"),
        (|f| known(&mut f.saved).sha256 = other_sha256(), "output_locked", "digest_mismatch"),
        (
            |f| report(f).source_url = "https://other".into(),
            "build_report_matches",
            "source_mismatch",
        ),
    ];
    for (change, check, reason) in changes {
        let mut facts = good();
        change(&mut facts);
        let findings = verify(&facts);
        assert_eq!(failed(&findings), [check]);
        let found = findings.into_iter().find(Finding::is_failed).unwrap();
        assert_eq!(found.reason.as_deref(), Some(reason), "{check}");
    }
}

#[test]
fn an_adopted_binary_has_neither_source_nor_packages_here() {
    let mut facts = good();
    for report in [&mut known(&mut facts.recorded).report, known(&mut facts.saved)] {
        report.origin = Origin::Adopted;
        (report.sandbox, report.writes) = (serde_json::Value::Null, Vec::new());
        report.build_command.clear();
    }
    (facts.source_stored, facts.packages_stored) = (Found::Absent, Found::Absent);
    assert_eq!(failed(&verify(&facts)), Vec::<&str>::new());
}

#[test]
fn a_record_holds_where_nothing_was_built_here() {
    let mut facts = good();
    facts.saved = Found::Absent;
    assert_eq!(refused_with(&facts), Vec::<String>::new());
    facts.saved = Found::unreadable("no JSON");
    assert_eq!(refused_with(&facts), ["build_report_matches"]);
}

#[test]
fn either_autoloading_is_too_much_where_it_is_locked_off_and_only_the_published_may_be_native() {
    let only: [fn(&mut Facts); 2] = [
        |f| report(f).runtime.autoload_bunfig = true,
        |f| report(f).runtime.autoload_dotenv = true,
    ];
    for on in only {
        let mut facts = good();
        hardened(&mut facts);
        autoload_neither(&mut facts);
        on(&mut facts);
        let identity = identity(&facts);
        assert!(identity.found.contains("autoloading is on"), "{}", identity.found);
        assert!(identity.fix.contains("--ambient neutralise"), "{}", identity.fix);
    }
    let proven = |change: fn(&mut Facts)| {
        let mut facts = good();
        published(&mut facts);
        report(&mut facts).runtime.proven = false;
        change(&mut facts);
        !identity(&facts).found.contains("the runtime inside is not proven")
    };
    let as_it_is: fn(&mut Facts) = |_| ();
    let built: fn(&mut Facts) = |f| report(f).origin = Origin::Built;
    let no_program: fn(&mut Facts) = |f| report(f).runtime.native = None;
    assert_eq!([as_it_is, built, no_program].map(proven), [true, false, false]);
}

fn identity(facts: &Facts) -> Finding {
    let mut findings = check(facts, &policy()).into_iter();
    findings.find(|one| one.id == Check::BinaryIdentity.id()).unwrap()
}

#[test]
fn other_stages_are_refused_with_what_is_missing() {
    for stage in [0, 1, 3, 4, 5, 6, 7, 255] {
        let mut facts = good();
        facts.stage = Found::Known(stage);
        if (2..=7).contains(&stage) {
            known(&mut facts.lock).lock.license.allows.push(stage);
        }
        status_of(&mut facts).record.as_mut().unwrap().stages.push(stage);
        let findings = check(&facts, &policy());
        // Nothing else is a cause, whatever it would say of that stage.
        assert_eq!(failed(&findings), ["stage"], "{stage}");
        let fix = &findings.iter().find(|finding| finding.is_failed()).unwrap().fix;
        let missing = format!("admit explain stage{stage}");
        assert_eq!(fix.contains(&missing), (3..=7).contains(&stage), "{fix}");
    }
}

#[test]
fn no_clock_is_longer_than_the_wall() {
    let (short, long) = (Duration::from_secs(90), Duration::from_secs(3600));
    let clocks = Clocks::default();
    assert_eq!(clocks.with_wall(long), Clocks { wall: long, ..clocks });
    let start = clocks.start;
    let all = Clocks { start, first_call: short, idle: short, wall: short, ..clocks };
    assert_eq!(clocks.with_wall(short), all);
    let all = Clocks { start: Duration::from_secs(9), first_call: Duration::from_secs(9), ..all };
    let nine = Duration::from_secs(9);
    assert_eq!(clocks.with_wall(nine), Clocks { idle: nine, wall: nine, ..all });
}

#[test]
fn a_launch_stands_on_record_with_all_that_its_digest_covers() {
    let record = launch().record();
    assert_eq!((record.clocks_ms["start"], record.clocks_ms["wall"]), (60_000, 1_800_000));
    assert_eq!(launch().digest(), record::digest(&record));
    let mut other = launch();
    other.clocks.stable = Duration::from_millis(3001);
    assert_ne!(other.digest(), launch().digest());
}

#[test]
fn the_binary_is_alone_where_it_is_mounted() {
    let alone = |change: &dyn Fn(&mut Vec<Mount>)| {
        let mut launch = launch();
        change(&mut launch.sandbox.mounts);
        launch.mounts_alone("/opt/case/bin/ca")
    };
    let beside = |mounts: &mut Vec<Mount>, inside: &str| {
        let mut another = mounts[0].clone();
        if let Mount::Verified { inside: at, .. } = &mut another {
            *at = inside.parse().unwrap();
        }
        mounts.push(another);
    };
    assert!(alone(&|_| {}));
    assert!(alone(&|mounts| beside(mounts, "/opt/case/binary")));
    assert!(!alone(&|mounts| beside(mounts, "/opt/case/bin")));
    assert!(!alone(&|mounts| beside(mounts, "/opt/case/bin/other")));
    assert!(!alone(&Vec::clear));
    assert!(!alone(&|mounts| {
        beside(mounts, "/opt/case/bin/other");
        mounts.remove(0);
    }));
    assert!(!alone(&|mounts| match &mut mounts[0] {
        Mount::Verified { sha256, .. } => *sha256 = digest("x"),
        _ => unreachable!(),
    }));
}

#[test]
fn what_could_be_read_is_known_and_what_could_not_says_why() {
    let from = |result: crate::error::Result<Option<u8>>| Found::from(result);
    assert!(matches!(from(Ok(Some(1))), Found::Known(1)));
    assert!(matches!(from(Ok(None)), Found::Absent));
    let failed = from(Err(crate::error::Error::new(Reason::Io, "it")));
    assert_eq!(failed.failure().map(|failure| failure.reason), Some(Reason::Io));
    assert_eq!(from(Ok(None)).failure(), None);
    assert!(matches!(Found::from(crate::error::Result::Ok(1)), Found::Known(1)));
}

#[test]
fn the_class_of_a_fact_that_failed_is_the_findings() {
    let mut facts = good();
    let failure = crate::error::Error::new(Reason::Io, "it");
    let class = Some(FailureClass::AgentProtocol);
    facts.stage = Found::Failed(Failure { class, ..(&failure).into() });
    let findings = check(&facts, &policy());
    assert_eq!(findings.iter().find(|finding| finding.is_failed()).unwrap().class, class);
}

#[test]
fn addresses_stand_in_no_finding() {
    let mut facts = good();
    known(&mut facts.network).addresses = vec!["198.18.77.66".parse().unwrap()];
    assert!(!format!("{:?}", check(&facts, &policy())).contains("198.18"));
}

#[test]
fn a_shallow_verify_looks_at_all_but_what_the_output_shows_when_it_is_run() {
    let states = |deep| {
        let purpose = Purpose::Verify { deep, model: true };
        let findings = check(&good(), &CheckPolicy { purpose, contract: None });
        findings.into_iter().map(|found| (found.id, found.state)).collect::<BTreeMap<_, _>>()
    };
    let (mut shallow, deep) = (states(false), states(true));
    assert_eq!(shallow.insert("identity_shown".into(), State::Ok), Some(State::NotAsked));
    assert_eq!(shallow, deep);
}

#[test]
fn the_arguments_of_a_commands_agent_are_those_of_the_lock_with_the_names_filled_in() {
    let mut facts = good();
    let run = &mut known(&mut facts.lock).lock.run;
    run.argv = ["do", "--in={prompt}/src", "{model}"].map(String::from).to_vec();
    let launch = known(&mut facts.launch);
    launch.agent = AgentKind::Command;
    let argv = |args: &[&str]| {
        let mut facts = facts.clone();
        let all = ["/opt/case/bin/ca"].iter().chain(args);
        known(&mut facts.launch).argv = all.map(|arg| (*arg).to_owned()).collect();
        let findings = check(&facts, &policy());
        let found = findings.into_iter().find(|f| f.id == Check::CommandShape.id()).unwrap();
        assert_eq!(found.expected, "do --in={prompt}/src {model}");
        (found.state == State::Ok, found.found)
    };
    let good = argv(&["do", "--in=/work/repo/src", "a task"]);
    assert_eq!(good, (true, "do --in={prompt}/src {model}".into()));
    for (bad, said) in [
        (&["do", "--in=/work/repo/src"][..], "2 arguments instead of 3"),
        (&["do", "--in=/work/repo/src", "t", "--yes"], "4 arguments instead of 3"),
        (&["dont", "--in=/work/repo/src", "t"], "\"dont\" instead of \"do\""),
        (&["do", "--out=/work/repo/src", "t"], "instead of \"--in={prompt}/src\""),
        (&["do", "--in=/work/repo", "t"], "instead of \"--in={prompt}/src\""),
    ] {
        let (ok, found) = argv(bad);
        assert!(!ok && found.contains(said), "{found}");
    }
}

/// Makes hole number `kind` in fact number `field`; `None` beyond the last fact that a run's checks look at.
pub(crate) fn with_hole(mut facts: Facts, field: usize, kind: usize) -> Option<Facts> {
    fn hole<T>(kind: usize) -> Found<T> {
        match kind {
            0 => Found::Absent,
            1 => Found::unreadable("denied"),
            _ => Found::Unknown,
        }
    }
    match field {
        0 => facts.root = hole(kind),
        1 => facts.lock = hole(kind),
        2 => facts.recorded = hole(kind),
        3 => facts.build_signed = hole(kind),
        4 => facts.binary = hole(kind),
        5 => facts.stage = hole(kind),
        6 => facts.requested = hole(kind),
        7 => facts.model = hole(kind),
        8 => facts.model_signed = hole(kind),
        9 => facts.credentials = hole(kind),
        10 => facts.bridge_claimed = hole(kind),
        11 => facts.endpoint = hole(kind),
        12 => facts.network = hole(kind),
        13 => facts.probe = hole(kind),
        14 => facts.fixture = hole(kind),
        15 => facts.task = hole(kind),
        16 => facts.tools = hole(kind),
        17 => facts.launch = hole(kind),
        18 => facts.sandbox = hole(kind),
        19 => facts.request = hole(kind),
        20 => pulled(&mut facts, hole(kind)),
        _ => return None,
    }
    Some(facts)
}

#[test]
fn every_single_hole_fails_with_its_words() {
    for field in 0..21 {
        for (kind, word) in
            [(0, "absent"), (1, "unreadable: denied"), (2, "could not be found out")]
        {
            let facts = with_hole(good(), field, kind).unwrap();
            let findings = check(&facts, &policy());
            let told = findings.iter().any(|f| f.is_failed() && f.found.contains(word));
            assert!(told, "field {field}: {:?}", failed(&findings));
        }
    }
    assert!(with_hole(good(), 21, 0).is_none());
}

#[test]
fn every_check_is_explained_in_its_order() {
    let explained: Vec<&str> = crate::explain::checks().map(|(id, _)| id).collect();
    let ids: Vec<&str> = Check::ALL.iter().map(|check| check.id()).chain(["signature"]).collect();
    assert_eq!(explained, ids);
}
