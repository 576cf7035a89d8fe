//! One answer a gate: the fact, held against what the policy and the other facts expect.

use crate::attest::Outcome as Signed;
use crate::error::Kind;
use crate::record::admission::{AdmissionStatus, CredentialClass, ModelAdmission, ModelKind};
use crate::record::failure::{FailureClass, Stage};
use crate::record::network::NetworkClass;

use super::answer::{Answer, hold, same, with_class, with_kind};
use super::{
    AMBIENT, BRIDGED_PROVIDER, EndpointOrigin, Facts, Found, Gate, PROBE_MAX_TOKENS, Policy,
    ProbeOutcome, ambient, command_shape, task_faults,
};

fn none_of(faults: &[String], good: String) -> Result<String, String> {
    if faults.is_empty() { Ok(good) } else { Err(faults.join("; ")) }
}

fn ok_if(good: bool, found: impl Into<String>) -> Result<String, String> {
    if good { Ok(found.into()) } else { Err(found.into()) }
}

/// The model's admission record, if it is a valid one.
fn record(facts: &Facts) -> Option<&ModelAdmission> {
    facts.model.known().and_then(|status| status.record.as_ref())
}

/// Holds the facts against one gate.
pub(super) fn check(gate: Gate, facts: &Facts, policy: &Policy) -> Answer {
    match gate {
        Gate::RootTrusted => hold(
            &facts.root,
            "a root that this user trusts",
            "read its lockfiles and admissions, then: admit trust DIR",
            |root| ok_if(root.trusted, &root.label),
        ),
        Gate::LockValid => {
            hold(&facts.lock, "a valid lock of the provider", "admit lock PROVIDER", |lock| {
                none_of(&lock.faults, format!("{} {}", lock.place, lock.digest))
            })
        }
        Gate::SourcePin => {
            same(&facts.source_pin, "build the locked commit: admit build PROVIDER --record")
        }
        Gate::ToolchainDigest => {
            same(&facts.toolchain, "build with the locked toolchain: admit build PROVIDER --record")
        }
        Gate::BuildReport => hold(
            &facts.report,
            "a recorded build report with source_admission_status admitted",
            "admit build PROVIDER --record, or admit adopt FILE --record",
            |report| match report.source_admitted {
                true => Ok(format!("{} admitted", report.place)),
                false => Err(format!("{} not_admitted", report.place)),
            },
        ),
        Gate::BuildSigned => signed(&facts.build_signed),
        Gate::ModelSigned => signed(&facts.model_signed),
        Gate::OutputLocked => hold(
            &facts.locked_output,
            "the output's digest in the lock, for this platform",
            "admit lock PROVIDER --update",
            |digest| Ok(digest.to_string()),
        )
        .prefixed("output_not_locked"),
        Gate::BinaryPresent => {
            let fix = "admit build PROVIDER --record";
            hold(&facts.binary, "the provider's binary, a regular file", fix, |binary| {
                ok_if(binary.regular, &binary.place)
            })
        }
        Gate::BinaryExecutable => {
            let fix = "make the file executable, or build it anew";
            hold(&facts.binary, "executable", fix, |binary| match binary.executable {
                true => Ok("executable".into()),
                false => Err("not executable".into()),
            })
        }
        Gate::BinaryDigest => binary_digest(facts),
        Gate::BinaryIdentity => binary_identity(facts),
        Gate::CommandShape => hold(
            &facts.command,
            "run --task <slug>.task.json --mode unattended",
            "leave the argument list to admit",
            |args| command_shape(args).map(|_| args.join(" ")),
        ),
        Gate::TaskContract => hold(
            &facts.task,
            "a task within the fixture's contract",
            "restore the fixture's task",
            |task| {
                let faults = task_faults(&task.json, &task.markdown, &policy.contract);
                none_of(&faults, "within the contract".into())
            },
        ),
        Gate::Stage => check_stage(facts),
        Gate::Licence => {
            let stage = facts.stage.known().copied();
            let expected = format!(
                "a licence that allows stage {}",
                stage.map_or("?".into(), |s| s.to_string())
            );
            hold(&facts.licence, &expected, "settle the licence in the lock", |licence| {
                let found = format!("{}, allows {:?}", licence.status, licence.allows);
                ok_if(stage.is_some_and(|s| licence.allows.contains(&s)), found)
            })
        }
        Gate::ModelRequested => hold(
            &facts.requested,
            "exactly one PROVIDER/MODEL",
            "name it: --model PROVIDER/MODEL; there is no default and no fallback",
            |pairs| match pairs.as_slice() {
                [pair] => Ok(pair.to_string()),
                [] => Err("none".into()),
                more => Err(more.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            },
        ),
        Gate::ModelAdmitted => check_model(facts),
        Gate::Credentials => check_credentials(facts),
        Gate::AuthBridge => check_bridge(facts),
        Gate::Endpoint => check_endpoint(facts),
        Gate::Network => check_network(facts),
        Gate::ResponseShape => check_probe(facts),
        Gate::Ambient => hold(
            &facts.ambient,
            "every ambient vector closed",
            "remove what is named, or run from a clean directory",
            |found| none_of(&ambient::faults(found), format!("{} vectors closed", AMBIENT.len())),
        ),
        Gate::FixtureDigest => {
            same(&facts.fixture, "restore the fixture, or record it: admit fixture NAME --record")
        }
        Gate::Sandbox => with_kind(
            hold(&facts.sandbox, "every wall up and every probe held", "admit doctor", |sandbox| {
                match (&sandbox.failed[..], sandbox.held.len()) {
                    ([], 0) => Err("no probe ran".into()),
                    ([], held) => Ok(format!("{held} probes held")),
                    (failed, _) => Err(failed.join("; ")),
                }
            }),
            Kind::Sandbox,
        ),
    }
}

fn signed(fact: &Found<Signed>) -> Answer {
    let no = match fact.known() {
        Some(Some(Err(no))) => Some(no),
        _ => None,
    };
    let expected = no.map_or("the signatures that the root's policy asks for", |no| &no.expected);
    let fix = no.map_or("admit attest build|model … --key NAME --record", |no| &no.fix);
    let answer = hold(fact, expected, fix, |signed| match signed {
        None => Ok("the root's policy asks for none".into()),
        Some(Ok(held)) => Ok(format!("signed by {}", held.names())),
        Some(Err(no)) => Err(format!("{}: {}", no.reason, no.found)),
    });
    match no {
        Some(no) => with_kind(answer, no.reason.kind()),
        None => answer,
    }
}

fn binary_digest(facts: &Facts) -> Answer {
    let locked = facts.locked_output.known();
    let reported = facts.report.known().map(|report| &report.sha256);
    let expected = locked.map_or("the locked digest".into(), ToString::to_string);
    let fix = "admit build PROVIDER --record, or admit adopt FILE --record";
    let answer = hold(&facts.binary, &expected, fix, |binary| {
        let good = locked == Some(&binary.sha256) && reported == Some(&binary.sha256);
        let note =
            if locked == Some(&binary.sha256) && !good { ", not the recorded one" } else { "" };
        ok_if(good, format!("{}{note}", binary.sha256))
    });
    let differs = facts.binary.known().is_some_and(|binary| {
        [locked, reported].into_iter().flatten().any(|want| *want != binary.sha256)
    });
    if differs { with_kind(answer, Kind::Digest) } else { answer }
}

fn binary_identity(facts: &Facts) -> Answer {
    let digest = facts.binary.known().map(|binary| &binary.sha256);
    let fix = "admit build PROVIDER --record proves it again";
    hold(&facts.identity, "the locked identity, proven for this digest", fix, |identity| {
        if digest != Some(&identity.sha256) {
            return Err(format!("wrong provider identity: proven for {}", identity.sha256));
        }
        none_of(&identity.faults, "proven".into())
            .map_err(|faults| format!("wrong provider identity: {faults}"))
    })
}

fn check_stage(facts: &Facts) -> Answer {
    let fix = match facts.stage.known().map(|number| Stage::from_number(*number)) {
        Some(Some(stage)) if !stage.runs() => {
            format!("missing evidence: {}", stage.missing_evidence().join("; "))
        }
        _ => "ask for stage 2: admit run stage2".into(),
    };
    hold(&facts.stage, "stage 2, the only one that runs", &fix, |number| {
        let stage = Stage::from_number(*number);
        let title = stage.map_or("no stage of the ladder", Stage::title);
        ok_if(stage.is_some_and(Stage::runs), format!("stage {number}: {title}"))
    })
}

fn check_model(facts: &Facts) -> Answer {
    let asked = facts.requested.known().filter(|pairs| pairs.len() == 1).and_then(|p| p.first());
    let expected = asked.map_or("a record that admits the requested model".into(), |pair| {
        format!("an admission of {pair}")
    });
    let fix = "admit model show PROVIDER/MODEL; admit model add records an approval";
    hold(&facts.model, &expected, fix, |model| {
        let found = format!("{}: {}", model.status.as_str(), model.reason);
        // The status was made for one pair and stage; hold both again, so that a status made for others is no use.
        let fits = model.record.as_ref().is_some_and(|record| {
            asked == Some(&record.pair())
                && facts.stage.known().is_some_and(|stage| record.stages.contains(stage))
        });
        match (model.status == AdmissionStatus::Admitted, fits) {
            (true, true) => Ok(found),
            (true, false) => Err("mismatch: the status is not of this pair and stage".into()),
            (false, _) => Err(found),
        }
    })
}

fn check_credentials(facts: &Facts) -> Answer {
    let class = record(facts).map(|record| record.credential_source_class.as_str());
    let expected = class.map_or("credentials of the record's class".into(), |class| {
        format!("credentials of class {class}")
    });
    let fix = "put the key into the named environment variable, or a file of mode 0600";
    hold(&facts.credentials, &expected, fix, |credentials| {
        match class.map(|class| (class, CredentialClass::from_text(class))) {
            None => Err("no admission record says which".into()),
            Some((class, None)) => Err(format!("unknown class {class}")),
            Some((class, Some(_))) if class != credentials.class => {
                Err(format!("looked for class {}", credentials.class))
            }
            Some(_) => ok_if(credentials.available, &credentials.source),
        }
    })
}

fn check_bridge(facts: &Facts) -> Answer {
    let provider = record(facts).map(|record| record.provider.as_str());
    if provider.is_some_and(|provider| provider != BRIDGED_PROVIDER) {
        let expected = format!("none, {BRIDGED_PROVIDER} only");
        return hold(&facts.bridge, &expected, "find out whether one is claimed", |_| {
            Ok("none needed".into())
        });
    }
    let fix = "start the auth bridge and set CTO_HARNESS_CASE_OPENAI_CODEX_AUTH_BRIDGE=1";
    hold(&facts.bridge, "a claimed bridge that answers", fix, |bridge| {
        match (provider.is_some(), bridge.claimed, &bridge.answered) {
            (false, ..) => Err("no admission record says whether one is needed".into()),
            (_, false, _) => Err("none is claimed".into()),
            (_, _, Found::Known(true)) => Ok("claimed, and it answered".into()),
            (_, _, Found::Known(false)) => Err("claimed, and it did not answer".into()),
            _ => Err("claimed, and nobody found out whether it answers".into()),
        }
    })
}

fn check_endpoint(facts: &Facts) -> Answer {
    let scripted = record(facts).map(|record| record.kind == ModelKind::Scripted);
    let fix =
        "set CTO_HARNESS_CASE_LOCAL_BASE_URL, or name a file; an address is never an argument";
    hold(&facts.endpoint, "an endpoint from the environment or a file", fix, |origin| {
        match (origin, scripted) {
            (EndpointOrigin::Environment, _) => Ok("from the environment".into()),
            (EndpointOrigin::File, _) => Ok("from a file".into()),
            (EndpointOrigin::Embedded, Some(true)) => Ok("the embedded scripted server".into()),
            // Replies written beforehand must not stand in for a served model.
            (EndpointOrigin::Embedded, _) => Err("the embedded scripted server".into()),
            (EndpointOrigin::Flag, _) => Err("from an argument".into()),
        }
    })
}

/// Counts addresses and never shows one: an endpoint's address is in no report.
fn check_network(facts: &Facts) -> Answer {
    let class = record(facts).map(|record| record.allowed_network_class.as_str());
    let expected = class.map_or("addresses inside the record's network class".into(), |class| {
        format!("every address inside {class}")
    });
    let fix = "use an endpoint of the admitted class, or have another class approved";
    hold(&facts.network, &expected, fix, |network| {
        let Some(class) = class else {
            return Err("no admission record names a class".into());
        };
        let Some(rule) = NetworkClass::from_text(class) else {
            return Err(format!("unknown class {class}"));
        };
        let all = network.addresses.len();
        let inside = network.addresses.iter().filter(|ip| rule.permits(**ip, network.tls)).count();
        ok_if(all > 0 && inside == all, format!("{inside} of {all} addresses inside"))
    })
}

fn check_probe(facts: &Facts) -> Answer {
    let fix = "look at the model's server; admit run --dry-run probes it again";
    let answer = hold(
        &facts.probe,
        "the model listed, and content or a tool call to a chat completion",
        fix,
        |probe| match probe {
            probe if probe.max_tokens != PROBE_MAX_TOKENS => {
                Err(format!("probed with max_tokens {}, not {PROBE_MAX_TOKENS}", probe.max_tokens))
            }
            probe => match probe.outcome {
                ProbeOutcome::Failed(class) => Err(class.failure_reason("probe")),
                _ if !probe.listed => Err("the model is not listed".into()),
                ProbeOutcome::Content => Ok("content".into()),
                ProbeOutcome::ToolCall => Ok("a tool call".into()),
                ProbeOutcome::ReasoningOnly => Err("reasoning only".into()),
            },
        },
    );
    match facts.probe.known() {
        Some(probe) => match probe.outcome {
            ProbeOutcome::Failed(class) => with_class(answer, class),
            _ if !probe.listed => with_class(answer, FailureClass::ModelMismatch),
            _ => answer,
        },
        None => answer,
    }
}
