use super::*;
use crate::error::{Kind, Reason};
use crate::record::admission::{AdmissionStatus, ModelPair, ModelStatus, RecordFile, status};
use crate::record::evidence::GateStatus;
use crate::record::failure::FailureClass;
use proptest::prelude::*;

const QWEN: &[u8] = include_bytes!("../../admissions/models/qwen-local--qwen3.6-35b-a3b.json");
const CODEX: &[u8] = include_bytes!("../../admissions/models/openai-codex--gpt-5.5.json");

fn model(bytes: &[u8], pair: &str) -> ModelStatus {
    let now = "2026-06-01".parse().unwrap();
    let pair: ModelPair = pair.parse().unwrap();
    status(&RecordFile::Bytes(bytes.to_vec()), Some(&pair), 2, &now, &|_| None)
}

fn policy() -> Policy {
    Policy { engine: Engine::Provider, contract: task::tests::contract(), skip_probe: false }
}

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn same<T: Clone>(value: T) -> Found<Compared<T>> {
    Found::Known(Compared { expected: value.clone(), found: value })
}

fn good() -> Facts {
    let pair: ModelPair = "qwen-local/qwen3.6-35b-a3b".parse().unwrap();
    let binary = digest("binary");
    let state = |vector: &AmbientVector| match vector.outcome {
        Outcome::Neutralised => AmbientState::Neutralised(vector.how.into()),
        Outcome::Refused => AmbientState::Clear,
    };
    Facts {
        root: Found::Known(RootFact { label: "embedded".into(), trusted: true }),
        lock: Found::Known(LockFact { place: "l".into(), digest: digest("lock"), faults: vec![] }),
        source_pin: same("7959ac917cdeb0983b4aaa20bb9f42021747fed8".parse().unwrap()),
        toolchain: same(digest("bun")),
        report: Found::Known(ReportFact {
            place: "r".into(),
            source_admitted: true,
            sha256: binary.clone(),
        }),
        build_signed: Found::Known(None),
        model_signed: Found::Known(None),
        locked_output: Found::Known(binary.clone()),
        binary: Found::Known(BinaryFact {
            place: "b".into(),
            regular: true,
            executable: true,
            sha256: binary.clone(),
        }),
        identity: Found::Known(IdentityFact { sha256: binary, faults: vec![] }),
        command: Found::Known(
            ["run", "--task", "x.task.json", "--mode", "unattended"].map(String::from).to_vec(),
        ),
        task: Found::Known(TaskFact {
            json: task::tests::json(),
            markdown: task::tests::MARKDOWN.into(),
        }),
        stage: Found::Known(2),
        licence: Found::Known(LicenceFact { status: "unresolved".into(), allows: vec![2] }),
        requested: Found::Known(vec![pair.clone()]),
        model: Found::Known(model(QWEN, "qwen-local/qwen3.6-35b-a3b")),
        credentials: Found::Known(CredentialFact {
            class: "pi-models-json-local-provider-no-secret".into(),
            available: true,
            source: "none needed".into(),
        }),
        bridge: Found::Known(BridgeFact { claimed: false, answered: Found::Unknown }),
        endpoint: Found::Known(EndpointOrigin::Environment),
        network: Found::Known(NetworkFact {
            addresses: vec!["100.64.0.7".parse().unwrap()],
            tls: false,
        }),
        probe: Found::Known(ProbeFact {
            listed: true,
            max_tokens: 1024,
            outcome: ProbeOutcome::Content,
        }),
        ambient: Found::Known(
            AMBIENT.iter().map(|v| AmbientFact { vector: v.id.into(), state: state(v) }).collect(),
        ),
        fixture: same(digest("fixture")),
        sandbox: Found::Known(SandboxFact { held: vec!["net".into()], failed: vec![] }),
    }
}

/// As [`good`] for the provider that needs an auth bridge.
fn good_codex() -> Facts {
    let mut facts = good();
    facts.requested = Found::Known(vec!["openai-codex/gpt-5.5".parse().unwrap()]);
    facts.model = Found::Known(model(CODEX, "openai-codex/gpt-5.5"));
    facts.bridge = Found::Known(BridgeFact { claimed: true, answered: Found::Known(true) });
    if let Found::Known(credentials) = &mut facts.credentials {
        credentials.class = "hermes-openai-codex-oauth-and-local-vllm-config".into();
    }
    facts
}

fn known<T>(found: &mut Found<T>) -> &mut T {
    match found {
        Found::Known(value) => value,
        _ => panic!("known"),
    }
}

fn unsigned(reason: Reason) -> Found<crate::attest::Outcome> {
    let (expected, found, fix) = ("signed".into(), "not".into(), "sign".into());
    Found::Known(Some(Err(crate::attest::Refused { reason, expected, found, fix })))
}

fn refused(facts: &Facts) -> Vec<Gate> {
    decide(facts, &policy()).refusals().iter().map(|r| r.gate).collect()
}

#[test]
fn good_facts_admit_with_every_row_passed() {
    for facts in [good(), good_codex()] {
        let decision = decide(&facts, &policy());
        let Verdict::Admit(admitted) = &decision.verdict else {
            panic!("{:?}", decision.refusals());
        };
        assert_eq!(decision.rows.len(), Gate::ALL.len());
        assert!(decision.rows.iter().all(|row| row.status == GateStatus::Pass));
        assert_eq!(admitted.rows(), decision.rows);
        assert_eq!(admitted.binary(), Some(&digest("binary")));
        assert_eq!(admitted.task_file(), Some("x.task.json"));
        assert_eq!((decision.kind(), decision.primary()), (None, None));
    }
}

type Change = fn(&mut Facts);

/// One departure from good facts each, with the gate that it must run into.
fn departures() -> Vec<(Change, Gate, Kind, FailureClass)> {
    use FailureClass as C;
    use Gate as G;
    vec![
        (|f| known(&mut f.root).trusted = false, G::RootTrusted, Kind::Refused, C::GateRefused),
        (
            |f| f.build_signed = unsigned(Reason::SignatureMissing),
            G::BuildSigned,
            Kind::Refused,
            C::GateRefused,
        ),
        (
            |f| f.build_signed = unsigned(Reason::SignatureInvalid),
            G::BuildSigned,
            Kind::Digest,
            C::GateRefused,
        ),
        (
            |f| f.model_signed = unsigned(Reason::KeyRevoked),
            G::ModelSigned,
            Kind::Refused,
            C::ModelNotAdmitted,
        ),
        (
            |f| known(&mut f.lock).faults.push("x".into()),
            G::LockValid,
            Kind::Refused,
            C::GateRefused,
        ),
        (
            |f| {
                known(&mut f.source_pin).found =
                    "30b1fa12345678901234567890123456789012ab".parse().unwrap()
            },
            G::SourcePin,
            Kind::Digest,
            C::GateRefused,
        ),
        (
            |f| known(&mut f.toolchain).found = digest("x"),
            G::ToolchainDigest,
            Kind::Digest,
            C::GateRefused,
        ),
        (
            |f| known(&mut f.report).source_admitted = false,
            G::BuildReport,
            Kind::Refused,
            C::GateRefused,
        ),
        (
            |f| known(&mut f.report).sha256 = digest("x"),
            G::BinaryDigest,
            Kind::Digest,
            C::GateRefused,
        ),
        (
            |f| *known(&mut f.locked_output) = digest("x"),
            G::BinaryDigest,
            Kind::Digest,
            C::GateRefused,
        ),
        (
            |f| known(&mut f.binary).regular = false,
            G::BinaryPresent,
            Kind::Refused,
            C::ProviderUnavailable,
        ),
        (
            |f| known(&mut f.binary).executable = false,
            G::BinaryExecutable,
            Kind::Refused,
            C::ProviderUnavailable,
        ),
        (
            |f| known(&mut f.identity).sha256 = digest("x"),
            G::BinaryIdentity,
            Kind::Refused,
            C::GateRefused,
        ),
        (
            |f| known(&mut f.identity).faults.push("x".into()),
            G::BinaryIdentity,
            Kind::Refused,
            C::GateRefused,
        ),
        (
            |f| known(&mut f.command).push("--model".into()),
            G::CommandShape,
            Kind::Refused,
            C::GateRefused,
        ),
        (
            |f| known(&mut f.task).markdown.push_str("\n/etc"),
            G::TaskContract,
            Kind::Refused,
            C::GateRefused,
        ),
        (|f| known(&mut f.licence).allows.clear(), G::Licence, Kind::Refused, C::GateRefused),
        (
            |f| known(&mut f.model).status = AdmissionStatus::NotAdmitted,
            G::ModelAdmitted,
            Kind::Refused,
            C::ModelNotAdmitted,
        ),
        (
            |f| known(&mut f.credentials).available = false,
            G::Credentials,
            Kind::Refused,
            C::AuthUnavailable,
        ),
        (
            |f| known(&mut f.credentials).class = "x".into(),
            G::Credentials,
            Kind::Refused,
            C::AuthUnavailable,
        ),
        (
            |f| *known(&mut f.endpoint) = EndpointOrigin::Flag,
            G::Endpoint,
            Kind::Refused,
            C::LocalConfigUnavailable,
        ),
        (
            |f| *known(&mut f.endpoint) = EndpointOrigin::Embedded,
            G::Endpoint,
            Kind::Refused,
            C::LocalConfigUnavailable,
        ),
        (
            |f| known(&mut f.network).addresses.clear(),
            G::Network,
            Kind::Refused,
            C::ModelNotAdmitted,
        ),
        (
            |f| known(&mut f.network).addresses.push("127.0.0.1".parse().unwrap()),
            G::Network,
            Kind::Refused,
            C::ModelNotAdmitted,
        ),
        (
            |f| known(&mut f.probe).outcome = ProbeOutcome::ReasoningOnly,
            G::ResponseShape,
            Kind::Refused,
            C::ResponseShapeUnavailable,
        ),
        (
            |f| known(&mut f.probe).max_tokens = 32,
            G::ResponseShape,
            Kind::Refused,
            C::ResponseShapeUnavailable,
        ),
        (|f| known(&mut f.probe).listed = false, G::ResponseShape, Kind::Refused, C::ModelMismatch),
        (
            |f| known(&mut f.probe).outcome = ProbeOutcome::Failed(C::ConnectionRefused),
            G::ResponseShape,
            Kind::Refused,
            C::ConnectionRefused,
        ),
        (
            |f| known(&mut f.ambient)[0].state = AmbientState::Planted("x".into()),
            G::Ambient,
            Kind::Refused,
            C::GateRefused,
        ),
        (
            |f| known(&mut f.ambient)[0].state = AmbientState::Clear,
            G::Ambient,
            Kind::Refused,
            C::GateRefused,
        ),
        (|f| drop(known(&mut f.ambient).pop()), G::Ambient, Kind::Refused, C::GateRefused),
        (
            |f| {
                let twice = known(&mut f.ambient)[0].clone();
                known(&mut f.ambient).push(twice)
            },
            G::Ambient,
            Kind::Refused,
            C::GateRefused,
        ),
        (
            |f| known(&mut f.fixture).found = digest("x"),
            G::FixtureDigest,
            Kind::Digest,
            C::GateRefused,
        ),
        (
            |f| known(&mut f.sandbox).failed.push("net".into()),
            G::Sandbox,
            Kind::Sandbox,
            C::GateRefused,
        ),
        (|f| known(&mut f.sandbox).held.clear(), G::Sandbox, Kind::Sandbox, C::GateRefused),
    ]
}

#[test]
fn each_departure_refuses_exactly_its_gate() {
    for (n, (change, gate, kind, class)) in departures().into_iter().enumerate() {
        let mut facts = good();
        change(&mut facts);
        let decision = decide(&facts, &policy());
        assert_eq!(refused(&facts), [gate], "case {n}");
        assert_eq!(decision.kind(), Some(kind), "case {n}");
        assert_eq!(decision.primary().unwrap().class, class, "case {n}");
        let row = &decision.primary().unwrap().row;
        assert!(![&row.expected, &row.found, &row.fix].iter().any(|t| t.is_empty()), "case {n}");
        assert_eq!(decision.rows.len(), Gate::ALL.len(), "case {n}");
    }
}

/// What the departures leave out, since these gates are not alone: another stage, no model, a bridge that is not there.
fn bad_in_company() -> Vec<(Facts, Gate)> {
    let mut stage = good();
    stage.stage = Found::Known(3);
    known(&mut stage.licence).allows.push(3);
    known(&mut stage.model).record.as_mut().unwrap().stages.push(3);
    let mut none = good();
    none.requested = Found::Known(Vec::new());
    let mut bridge = good_codex();
    bridge.bridge = Found::Known(BridgeFact { claimed: false, answered: Found::Unknown });
    let mut output = good();
    output.locked_output = Found::Absent;
    vec![
        (stage, Gate::Stage),
        (none, Gate::ModelRequested),
        (bridge, Gate::AuthBridge),
        (output, Gate::OutputLocked),
    ]
}

#[test]
fn each_gate_is_missed_when_it_is_switched_off() {
    let mut watched = std::collections::BTreeSet::new();
    for (n, (change, gate, ..)) in departures().into_iter().enumerate() {
        let mut facts = good();
        change(&mut facts);
        for off in Gate::ALL.iter().copied() {
            // A value that an admitted run consists of is looked at once more by whoever makes one.
            let decision = decide_but(Some(off), &facts, &policy());
            assert_eq!(decision.refusals().is_empty(), off == gate, "case {n}, {} off", off.id());
        }
        assert_eq!(decide(&facts, &policy()).without(gate), None, "case {n}");
        watched.insert(gate);
    }
    for (facts, gate) in bad_in_company() {
        let refuses = |decision: &Decision| decision.refusals().iter().any(|r| r.gate == gate);
        let decision = decide(&facts, &policy());
        assert!(refuses(&decision), "{}", gate.id());
        assert!(!refuses(&decide_but(Some(gate), &facts, &policy())), "{}", gate.id());
        let without = decide_but(Some(gate), &facts, &policy());
        assert_eq!(decision.without(gate), without.primary().map(|r| r.class), "{}", gate.id());
        watched.insert(gate);
    }
    let unwatched: Vec<_> = Gate::ALL.iter().filter(|gate| !watched.contains(gate)).collect();
    assert!(unwatched.is_empty(), "no case is refused by {unwatched:?}");
}

#[test]
fn a_binary_that_nobody_looked_for_is_not_a_missing_one() {
    let facts = Facts { lock: Found::Unreadable("no JSON".into()), ..Facts::default() };
    let decision = decide(&facts, &Policy { ..policy() });
    assert_eq!(decision.primary().unwrap().gate, Gate::RootTrusted);
    let facts = Facts { root: good().root, ..facts };
    let decision = decide(&facts, &policy());
    assert_eq!(decision.primary().unwrap().failure_reason(), "gate refused: lock_valid");
}

#[test]
fn a_bridge_must_be_claimed_and_answer() {
    for (claimed, answered) in [
        (false, Found::Known(true)),
        (true, Found::Known(false)),
        (true, Found::Unknown),
        (true, Found::Absent),
    ] {
        let mut facts = good_codex();
        facts.bridge = Found::Known(BridgeFact { claimed, answered });
        assert_eq!(refused(&facts), [Gate::AuthBridge]);
    }
}

#[test]
fn other_stages_are_refused_with_what_is_missing() {
    for stage in [0, 1, 3, 4, 5, 6, 7, 255] {
        let mut facts = good();
        facts.stage = Found::Known(stage);
        known(&mut facts.licence).allows.push(stage);
        known(&mut facts.model).record.as_mut().unwrap().stages.push(stage);
        let decision = decide(&facts, &policy());
        assert_eq!(refused(&facts), [Gate::Stage], "{stage}");
        let fix = &decision.primary().unwrap().row.fix;
        assert_eq!(fix.contains("missing evidence"), (3..=7).contains(&stage), "{fix}");
    }
}

#[test]
fn one_pair_a_run_and_none_chosen() {
    let pair: ModelPair = "qwen-local/qwen3.6-35b-a3b".parse().unwrap();
    for pairs in [vec![], vec![pair.clone(), pair.clone()]] {
        let mut facts = good();
        facts.requested = Found::Known(pairs);
        assert_eq!(refused(&facts), [Gate::ModelRequested, Gate::ModelAdmitted]);
        assert_eq!(
            decide(&facts, &policy()).primary().unwrap().class,
            FailureClass::ModelNotAdmitted
        );
    }
    // A status that was made for another pair is no use.
    let mut facts = good();
    facts.requested = Found::Known(vec!["openai-codex/gpt-5.5".parse().unwrap()]);
    assert_eq!(refused(&facts), [Gate::ModelAdmitted]);
}

#[test]
fn without_the_probe_nothing_is_admitted() {
    let skip = Policy { skip_probe: true, ..policy() };
    let mut facts = good();
    facts.probe = Found::Unknown;
    let decision = decide(&facts, &skip);
    assert!(decision.holds_as_far_as_checked());
    assert!(matches!(decision.verdict, Verdict::Refuse(_)));
    assert_eq!(decision.rows[22].status, GateStatus::NotChecked);
}

#[test]
fn no_binary_is_provider_unavailable_whatever_else_fails() {
    let decision = decide(&Facts { binary: Found::Absent, ..Facts::default() }, &policy());
    assert_eq!(decision.refusals().len(), Gate::ALL.len());
    assert_eq!(decision.primary().unwrap().class, FailureClass::ProviderUnavailable);
    assert_eq!(decision.kind(), Some(Kind::Refused));
    assert!(decision.rows[6].found.starts_with("output_not_locked"));
}

#[test]
fn addresses_stand_in_no_row() {
    let mut facts = good();
    known(&mut facts.network).addresses = vec!["198.18.77.66".parse().unwrap()];
    let decision = decide(&facts, &policy());
    assert!(!format!("{:?}", decision.rows).contains("198.18"));
}

#[test]
fn the_fake_engine_needs_its_own_gates_only() {
    let policy = Policy { engine: Engine::Fake, ..policy() };
    let full = good();
    let facts = Facts {
        root: full.root,
        task: full.task,
        stage: full.stage,
        ambient: full.ambient,
        fixture: full.fixture,
        sandbox: full.sandbox,
        ..Facts::default()
    };
    let decision = decide(&facts, &policy);
    let Verdict::Admit(admitted) = decision.verdict else { panic!("refused") };
    assert_eq!(
        (admitted.engine(), admitted.binary(), admitted.model()),
        (Engine::Fake, None, None)
    );
    let none = decide(&Facts::default(), &policy);
    assert_eq!(none.refusals().len(), 6);
}

/// Makes hole number `kind` in fact number `field`; `None` beyond the last fact. A new fact breaks this on purpose.
fn with_hole(facts: Facts, field: usize, kind: usize) -> Option<Facts> {
    fn hole<T>(kind: usize) -> Found<T> {
        match kind {
            0 => Found::Absent,
            1 => Found::Unreadable("denied".into()),
            _ => Found::Unknown,
        }
    }
    let Facts {
        mut root,
        mut lock,
        mut source_pin,
        mut toolchain,
        mut report,
        mut locked_output,
        mut binary,
        mut identity,
        mut command,
        mut task,
        mut stage,
        mut licence,
        mut requested,
        mut model,
        mut credentials,
        mut bridge,
        mut endpoint,
        mut network,
        mut probe,
        mut ambient,
        mut fixture,
        mut sandbox,
        mut build_signed,
        mut model_signed,
    } = facts;
    match field {
        0 => root = hole(kind),
        1 => lock = hole(kind),
        2 => source_pin = hole(kind),
        3 => toolchain = hole(kind),
        4 => report = hole(kind),
        5 => locked_output = hole(kind),
        6 => binary = hole(kind),
        7 => identity = hole(kind),
        8 => command = hole(kind),
        9 => task = hole(kind),
        10 => stage = hole(kind),
        11 => licence = hole(kind),
        12 => requested = hole(kind),
        13 => model = hole(kind),
        14 => credentials = hole(kind),
        15 => bridge = hole(kind),
        16 => endpoint = hole(kind),
        17 => network = hole(kind),
        18 => probe = hole(kind),
        19 => ambient = hole(kind),
        20 => fixture = hole(kind),
        21 => sandbox = hole(kind),
        22 => build_signed = hole(kind),
        23 => model_signed = hole(kind),
        _ => return None,
    }
    Some(Facts {
        root,
        lock,
        source_pin,
        toolchain,
        report,
        locked_output,
        binary,
        identity,
        command,
        task,
        stage,
        licence,
        requested,
        model,
        credentials,
        bridge,
        endpoint,
        network,
        probe,
        ambient,
        fixture,
        sandbox,
        build_signed,
        model_signed,
    })
}

proptest! {
    #[test]
    fn no_facts_with_a_hole_are_admitted(
        holes in prop::collection::vec((0usize..24, 0usize..3), 1..24),
        codex in any::<bool>(),
    ) {
        let mut facts = if codex { good_codex() } else { good() };
        for (field, kind) in holes {
            facts = with_hole(facts, field, kind).unwrap();
        }
        let decision = decide(&facts, &policy());
        prop_assert!(matches!(decision.verdict, Verdict::Refuse(_)));
        prop_assert!(!decision.refusals().is_empty());
        prop_assert_eq!(decision.rows.len(), Gate::ALL.len());
    }
}

#[test]
fn every_single_hole_refuses_with_its_words() {
    for field in 0..24 {
        for (kind, word) in [(0, "absent"), (1, "unreadable: denied"), (2, "not found out")] {
            let facts = with_hole(good(), field, kind).unwrap();
            let decision = decide(&facts, &policy());
            assert!(!decision.refusals().is_empty(), "field {field}");
            assert!(
                decision.refusals().iter().any(|r| r.row.found.contains(word)),
                "field {field}: {:?}",
                decision.refusals()
            );
        }
    }
    assert!(with_hole(good(), 24, 0).is_none());
}
