//! The model's side: what was asked for, its admission, its credentials, its endpoint, and what it answered.

use super::{BRIDGED_PROVIDER, Check, EndpointOrigin, Facts, Found, ProbeReply, hold, ok_if};
use crate::error::Reason;
use crate::proxy::probe::MAX_TOKENS;
use crate::record::admission::{AdmissionStatus, Api, ModelAdmission, ModelKind};
use crate::record::credential::Credential;
use crate::record::failure::FailureClass;
use crate::record::finding::{Finding, State};

fn record(facts: &Facts) -> Option<&ModelAdmission> {
    facts.model.known().and_then(|status| status.record.as_ref())
}

fn no(found: impl Into<String>) -> Result<String, (Reason, String)> {
    Err((Reason::GateRefused, found.into()))
}

pub(super) fn requested(facts: &Facts) -> Finding {
    let fix = "name one of admit model list with --model; there is no default and no fallback";
    hold(Check::ModelRequested, &facts.requested, "exactly one PROVIDER/MODEL", fix, |pairs| {
        match pairs.as_slice() {
            [pair] => Ok(pair.to_string()),
            [] => Err((Reason::ModelNotAdmitted, "none".into())),
            more => {
                let all = more.iter().map(ToString::to_string).collect::<Vec<_>>();
                Err((Reason::ModelNotAdmitted, all.join(", ")))
            }
        }
    })
}

pub(super) fn admitted(facts: &Facts) -> Finding {
    let asked = facts.requested.known().and_then(|pairs| pairs.first());
    let pair = asked.map_or("PROVIDER/MODEL".to_owned(), ToString::to_string);
    let expected = format!("an admission of {pair}");
    let missing = facts.model.known().is_none_or(|m| m.status == AdmissionStatus::MissingAdmission);
    let shown = match missing {
        true => "to record an approval: admit model add --help".to_owned(),
        false => format!("admit model show {pair}; to record an approval: admit model add --help"),
    };
    let fix = facts.model_fix.clone().unwrap_or(shown);
    hold(Check::ModelAdmitted, &facts.model, &expected, &fix, |model| {
        let found = format!("{}: {}", model.status.as_str(), model.reason);
        // The status was made for one pair and stage; hold both again, so that a status made for others is no use.
        let fits = model.record.as_ref().is_some_and(|record| {
            asked == Some(&record.pair())
                && facts.stage.known().is_some_and(|stage| record.stages.contains(stage))
        });
        match (model.status == AdmissionStatus::Admitted, fits) {
            (true, true) => Ok(found),
            (true, false) => {
                let what = "mismatch: the status is not of this pair and stage";
                Err((Reason::ModelNotAdmitted, what.into()))
            }
            (false, _) => Err((Reason::ModelNotAdmitted, found)),
        }
    })
}

pub(super) fn credentials(facts: &Facts) -> Finding {
    let class = record(facts).map(ModelAdmission::credential_words);
    let expected = class.as_ref().map_or("credentials of the record's class".into(), |class| {
        format!("credentials of class {class}")
    });
    let known = record(facts).is_some_and(|record| record.credential().is_some());
    let helper = record(facts).and_then(ModelAdmission::credential);
    let fix = match helper.as_deref() {
        Some(Credential::Helper { .. }) => {
            "start the record's credential helper by hand, and look at what it prints"
        }
        _ => "set ADMIT_MODEL_KEY, or ADMIT_MODEL_KEY_FILE to a file of mode 0600",
    };
    hold(Check::Credentials, &facts.credentials, &expected, fix, |credentials| {
        match class.as_deref() {
            None => no("no admission record says which"),
            Some(class) if !known => no(format!("unknown class {class}")),
            Some(class) if class != credentials.class => {
                no(format!("looked for class {}", credentials.class))
            }
            Some(_) => {
                ok_if(credentials.available, Reason::CredentialUnusable, &credentials.source)
            }
        }
    })
}

/// Whether one is claimed where one is needed; that it answers is for [`response_shape`] to show.
pub(super) fn auth_bridge(facts: &Facts) -> Finding {
    let bridged = record(facts).map(|record| record.provider.as_str() == BRIDGED_PROVIDER);
    let expected = match bridged {
        Some(false) => format!("none, {BRIDGED_PROVIDER} only"),
        _ => "a credential helper in the record, or a claimed bridge".to_owned(),
    };
    let helper = record(facts).is_some_and(|record| {
        matches!(record.credential().as_deref(), Some(Credential::Helper { .. }))
    });
    let fix = "record a credential helper (docs/models.md), or start an auth bridge and set CTO_HARNESS_CASE_OPENAI_CODEX_AUTH_BRIDGE=1";
    hold(Check::AuthBridge, &facts.bridge_claimed, &expected, fix, |claimed| {
        match (bridged, claimed) {
            (None, _) => no("no admission record says whether one is needed"),
            (Some(false), _) => Ok("none needed".into()),
            // That it gave something is for the credentials to show, and that this is taken for the probe.
            (Some(true), _) if helper => Ok("the record's credential helper".into()),
            (Some(true), true) => Ok("claimed".into()),
            (Some(true), false) => no("none is claimed"),
        }
    })
}

pub(super) fn endpoint(facts: &Facts) -> Finding {
    let scripted = record(facts).map(|record| record.kind == ModelKind::Scripted);
    let expected = "an endpoint from the environment or a file";
    let fix = "set CTO_HARNESS_CASE_LOCAL_BASE_URL, or ADMIT_MODEL_ENDPOINT_FILE to a file of mode 0600; an address is never an argument";
    hold(Check::Endpoint, &facts.endpoint, expected, fix, |origin| match (origin, scripted) {
        (EndpointOrigin::Environment, _) => Ok("from the environment".into()),
        (EndpointOrigin::File, _) => Ok("from a file".into()),
        (EndpointOrigin::Embedded, Some(true)) => Ok("the embedded scripted model".into()),
        // Replies written beforehand must not stand in for a served model.
        (EndpointOrigin::Embedded, _) => no("the embedded scripted model"),
    })
}

/// Counts addresses and never shows one: an endpoint's address is in no report.
pub(super) fn network(facts: &Facts) -> Finding {
    let name = record(facts).map(|record| record.network());
    let rule = facts.network.known().map(|found| &found.network);
    let expected = match (name, rule) {
        (Some(name), Some(rule)) => format!("every address inside {name}: {}", rule.words()),
        (Some(name), None) => format!("every address inside {name}"),
        (None, _) => "addresses inside the record's network".to_owned(),
    };
    let fix = "use an endpoint of the admitted network, or have another network approved";
    let outside = match &facts.network {
        Found::Failed(failure) => failure.reason == Reason::NetworkNotAllowed,
        _ => true,
    };
    let finding = hold(Check::Network, &facts.network, &expected, fix, |found| {
        let rule = &found.network;
        match name {
            None => return no("no admission record names a network"),
            // The fact was made for one record; one made for another is no use.
            Some(name) if name != rule.name() => {
                return no(format!("looked at for the network {}", rule.name()));
            }
            Some(_) => {}
        }
        let all = found.addresses.len();
        let inside = found.addresses.iter().filter(|ip| rule.permits(**ip, found.tls)).count();
        let good = all > 0 && inside == all;
        let found = match (all, all - inside) {
            (0, _) => "no address".to_owned(),
            (1, 0) => format!("its address lies in {}", rule.name()),
            (_, 0) => format!("all {all} addresses lie in {}", rule.name()),
            (1, _) => format!("its address lies outside of {}", rule.name()),
            (_, outside) => {
                format!("{outside} of its {all} addresses lie outside of {}", rule.name())
            }
        };
        ok_if(good, Reason::NetworkNotAllowed, found)
    });
    // What does not even resolve is a fault of the configuration, and no word on the model.
    match (finding.state, outside) {
        (State::Failed, false) => finding.class(FailureClass::LocalConfigUnavailable),
        _ => finding,
    }
}

pub(super) fn response_shape(facts: &Facts) -> Finding {
    let expected = "the model listed, and content or a tool call to a completion";
    let fix = "look at the model's server, and ask it again: admit run stage2 --dry-run --probe";
    let outcome = facts.probe.known().map(|probe| (probe.outcome, probe.listed));
    // The requests of this API alone have no limit.
    let limited = record(facts).is_none_or(|record| record.api() != Api::OpenaiCodexResponses);
    let budget = limited.then_some(u64::from(MAX_TOKENS));
    let finding =
        hold(Check::ResponseShape, &facts.probe, expected, fix, |probe| match probe.outcome {
            ProbeReply::Failed(class) => no(class.failure_reason("probe")),
            _ if !probe.listed => no("the model is not listed"),
            _ if probe.max_tokens != budget => {
                let words = |tokens: Option<u64>| tokens.map_or("none".into(), |n| n.to_string());
                let (asked, wanted): (String, String) = (words(probe.max_tokens), words(budget));
                no(format!("probed with max_tokens {asked}, not {wanted}"))
            }
            ProbeReply::Content => Ok("content".into()),
            ProbeReply::ToolCall => Ok("a tool call".into()),
            ProbeReply::ReasoningOnly => no("reasoning only"),
        });
    match outcome {
        Some((ProbeReply::Failed(class), _)) => finding.class(class),
        Some((_, false)) => finding.class(FailureClass::ModelMismatch),
        _ => finding,
    }
}
