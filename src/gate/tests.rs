//! The gate's decision: what admits, what refuses, and what it comes to for the exit code and the report.

use super::*;
use crate::check::tests::{
    departures, good, good_codex, known, policy, refused_with, told, with_hole,
};
use crate::check::{BinaryFact, Check, Content, Failure, Found};
use crate::error::{Error, Kind, Reason};
use crate::record::failure::FailureClass;
use crate::record::ids::Digest;
use proptest::prelude::*;

#[test]
fn good_facts_admit_with_every_check_held() {
    for facts in [good(), good_codex()] {
        let decision = decide(&facts, &policy());
        let Some(admitted) = &decision.admitted else { panic!("{:?}", decision.refusals()) };
        let (launch, model) = admitted.provider().unwrap();
        assert_eq!(Some(launch), facts.launch.known());
        assert_eq!(Some(model), facts.model.known().unwrap().record.as_ref());
        assert_eq!(decision.findings.len(), Check::ALL.len());
        assert!(decision.refusals().is_empty());
        assert!(decision.kind().is_none() && decision.primary().is_none());
    }
}

#[test]
fn each_check_that_decides_a_start_is_missed_when_it_is_switched_off() {
    for (facts, check, kind, _) in departures() {
        let decision = decide(&facts, &policy());
        assert!(decision.admitted.is_none(), "{}", check.id());
        assert_eq!(decision.kind(), Some(kind), "{}", check.id());
        let off = decide_but(Some(check), &facts, &policy());
        assert!(!off.refusals().iter().any(|refusal| refusal.check == check), "{}", check.id());
        // Where a check of the same fact hangs on it, that may say the same no. The probe hangs on all and shares none.
        let needed = |other: &&Check| other.needs().contains(&check);
        if Check::ALL.iter().find(needed).is_none_or(|first| *first == Check::ResponseShape) {
            assert!(off.refusals().is_empty(), "{}: {:?}", check.id(), off.refusals());
        }
        for other in Check::ALL.iter().copied().filter(|other| *other != check) {
            let still = decide_but(Some(other), &facts, &policy());
            assert!(still.admitted.is_none(), "{} with {} off", check.id(), other.id());
        }
    }
}

#[test]
fn what_is_started_is_what_was_compared() {
    let mut facts = good();
    known(&mut facts.launch).binary = Digest::sha256(b"another");
    assert!(decide_but(Some(Check::Ambient), &facts, &policy()).admitted.is_none());
    let mut facts = good();
    known(&mut facts.launch).proxy.model = "another".into();
    assert!(decide(&facts, &policy()).admitted.is_none());
}

#[test]
fn a_missing_binary_stands_for_all_and_a_digest_wins() {
    let mut facts = good();
    facts.binary = Found::Absent;
    facts.requested = Found::Known(Vec::new());
    let decision = decide(&facts, &policy());
    assert_eq!(decision.primary().unwrap().class(), FailureClass::ProviderUnavailable);
    assert_eq!(decision.kind(), Some(Kind::Refused));
    known(&mut facts.fixture).found = Digest::sha256(b"x");
    assert_eq!(decide(&facts, &policy()).kind(), Some(Kind::Digest));
}

#[test]
fn the_kind_is_that_of_the_only_cause() {
    let pip = Some(Reason::PipFailed);
    for (sandbox, tools, kind) in [
        (Some(Reason::SandboxUnavailable), None, Kind::Sandbox),
        (Some(Reason::LimitHit), None, Kind::Limit),
        (Some(Reason::KilledFromOutside), None, Kind::Stopped),
        (None, pip, Kind::Fetch),
        (Some(Reason::SandboxUnavailable), pip, Kind::Refused),
    ] {
        let mut facts = good();
        let failed = |reason| Failure::from(&Error::new(reason, "x"));
        sandbox.iter().for_each(|why| facts.sandbox = Found::Failed(failed(*why)));
        tools.iter().for_each(|why| facts.tools = Found::Failed(failed(*why)));
        assert_eq!(decide(&facts, &policy()).kind(), Some(kind), "{sandbox:?} {tools:?}");
    }
}

#[test]
fn without_the_probe_nothing_is_admitted() {
    let mut facts = good();
    facts.probe = Found::Unknown;
    let purpose = Purpose::Run { engine: Engine::Provider, probe: false };
    let decision = decide(&facts, &CheckPolicy { purpose, ..policy() });
    assert!(decision.holds_as_far_as_asked());
    assert!(decision.admitted.is_none());
    assert_eq!(decision.kind(), Some(Kind::Refused));
    // It is the one check that is left out.
    for (facts, check, ..) in departures() {
        let decision = decide(&facts, &CheckPolicy { purpose, ..policy() });
        let left_out = check == Check::ResponseShape;
        assert_eq!(decision.holds_as_far_as_asked(), left_out, "{check:?}");
    }
}

#[test]
fn the_fake_engine_needs_its_own_checks_only() {
    let purpose = Purpose::Run { engine: Engine::Fake, probe: true };
    let policy = CheckPolicy { purpose, ..policy() };
    let full = good();
    let facts = Facts {
        request: full.request,
        root: full.root,
        task: full.task,
        stage: full.stage,
        fixture: full.fixture,
        tools: full.tools,
        sandbox: full.sandbox,
        ..Facts::default()
    };
    let decision = decide(&facts, &policy);
    assert!(decision.admitted.unwrap().provider().is_none());
    let nothing = decide(&Facts::default(), &policy);
    assert_eq!(nothing.refusals().len(), 1, "the rest hangs on the request");
}

#[test]
fn verify_admits_nothing() {
    let purpose = Purpose::Verify { deep: false, model: true };
    assert!(decide(&good(), &CheckPolicy { purpose, contract: None }).admitted.is_none());
}

#[test]
fn a_link_in_the_binarys_place_has_no_digest_to_compare() {
    let mut facts = good();
    let content: Option<Content> = None;
    let irregular = Some("a symbolic link".to_owned());
    facts.binary =
        Found::Known(BinaryFact { irregular, content, ..known(&mut facts.binary).clone() });
    let decision = decide(&facts, &policy());
    assert_eq!(refused_with(&facts), ["binary_present"]);
    assert_eq!(decision.primary().unwrap().class(), FailureClass::ProviderUnavailable);
}

proptest! {
    #[test]
    fn no_facts_with_a_hole_are_admitted(
        holes in prop::collection::vec((0usize..19, 0usize..3), 1..19),
        codex in any::<bool>(),
    ) {
        let mut facts = if codex { good_codex() } else { good() };
        for (field, kind) in holes {
            facts = with_hole(facts, field, kind).unwrap();
        }
        let decision = decide(&facts, &policy());
        prop_assert!(decision.admitted.is_none());
        prop_assert!(!decision.refusals().is_empty());
        prop_assert_eq!(decision.findings.len(), Check::ALL.len());
    }
}

/// Every check as a person reads it, where it departs from good facts and where they say more. Each line hangs on a rule
/// of `check` or of [`Refusal`]; where one is meant to change, so is the line.
#[test]
fn each_check_is_told_in_these_words() {
    let departures = departures().into_iter().map(|(facts, check, ..)| (facts, check));
    let mut lines = String::new();
    for (facts, check) in departures.chain(told()) {
        let verify =
            CheckPolicy { purpose: Purpose::Verify { deep: true, model: true }, contract: None };
        let policy = if policy().decides_a_start(check) { policy() } else { verify };
        let decision = decide(&facts, &policy);
        let at = Check::ALL.iter().position(|other| *other == check).unwrap();
        let Finding { id, state, expected, found, fix, .. } = &decision.findings[at];
        let line = match decision.refusals().into_iter().find(|refusal| refusal.check == check) {
            Some(refusal) => {
                format!("{}; {}; fix: {fix}", refusal.blocker(), refusal.failure_reason())
            }
            None => format!("{id}: {state:?}: {found} ({expected})"),
        };
        // Digests and sizes are the stand-in's, and change with it.
        let words = line.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        lines.extend(words.map(|word| if word.len() > 32 { &word[..6] } else { word }));
        lines.push('\n');
    }
    assert!(lines == include_str!("told.txt"), "what is told now:\n{lines}");
}
