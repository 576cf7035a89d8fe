//! The model's side: admission, credentials, endpoint, addresses, and what the probe gave.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::signed;
use crate::attest::{self, Expected, Signed};
use crate::check::{
    CredentialFact, EndpointOrigin, Facts, Found, NetworkFact, ProbeFact, ProbeReply,
};
use crate::download::config::NetConfig;
use crate::error::{Error, Reason, Result};
use crate::host;
use crate::host::files::{self, Links};
use crate::proxy::account::{Account, Helper};
use crate::proxy::api;
use crate::proxy::endpoint::{Endpoint, ModelKey};
use crate::proxy::mock::Mock;
use crate::proxy::probe::{self, Probe, ProbeLimits};
use crate::proxy::upstream::Upstream;
use crate::record;
use crate::record::admission::{
    self, AdmissionStatus, MAX_RECORD, ModelAdmission, ModelKind, ModelPair, ModelStatus,
    RecordFile,
};
use crate::record::credential::Credential as Wanted;
use crate::record::failure::FailureClass;
use crate::record::fixture::Script;
use crate::record::ids::{Digest, Timestamp};
use crate::record::network::Network;
use crate::record::signing::StatementKind;
use crate::root::Root;
use crate::secrets;

pub const KEY_VARIABLE: &str = "ADMIT_MODEL_KEY";
/// The variable that names a file of mode 0600 with the model's key.
pub const KEY_FILE_VARIABLE: &str = "ADMIT_MODEL_KEY_FILE";
pub const ENDPOINT_VARIABLE: &str = "CTO_HARNESS_CASE_LOCAL_BASE_URL";
/// The variable that names a file of mode 0600 with the endpoint's address.
pub const ENDPOINT_FILE_VARIABLE: &str = "ADMIT_MODEL_ENDPOINT_FILE";

pub struct Sources<'a> {
    pub root: &'a Root,
    pub now: &'a Timestamp,
    /// This user's environment, for keys and files that it names.
    pub vars: &'a BTreeMap<String, String>,
    pub net: &'a NetConfig,
    pub pair: Option<&'a ModelPair>,
    /// The admission record, where it is not the root's own.
    pub admission_file: Option<&'a str>,
    pub stage: u8,
    pub bridge_claimed: bool,
    /// The endpoint's address from the environment.
    pub endpoint: Option<&'a str>,
    pub script: Option<&'a Script>,
}

/// What a run needs of the model's side and no check looks at.
#[derive(Default)]
pub struct Side {
    pub admission_file: Option<String>,
    /// Its bytes, where it is a valid one that may say anything of the run.
    pub record: Option<Vec<u8>>,
    /// SHA-256 of the same record in canonical form.
    pub record_sha256: Option<Digest>,
    pub upstream: Option<Upstream>,
}

/// Where the record stands, its bytes, what it means, and what puts it on record where a file was named that is not.
fn record_file(sources: &Sources<'_>) -> (Option<String>, RecordFile, ModelStatus, Option<String>) {
    let Sources { pair, stage, now, .. } = *sources;
    let path = pair.map(ModelPair::path);
    let recorded = path.as_deref().and_then(|path| sources.root.get(path));
    if let Some(named) = sources.admission_file {
        let (file, unsafe_fix) = match files::read_own(Path::new(named), Links::Follow, MAX_RECORD)
        {
            Ok(bytes) => (RecordFile::Bytes(bytes), None),
            Err(err) if err.reason() == Reason::NotFound => (RecordFile::Absent, None),
            Err(err) => {
                let why = match err.found_value() {
                    Some(found) => format!("{} ({found})", err.what()),
                    None => err.to_string(),
                };
                (RecordFile::Unreadable(why), err.hints().first().cloned())
            }
        };
        let status = admission::requested(&file, recorded, pair, stage, now, &secrets::rule_of);
        // What admits nothing by itself is not taken over either.
        let itself = admission::status(&file, pair, stage, now, &secrets::rule_of);
        let unrecorded = status.status == AdmissionStatus::NotAdmitted
            && status.record.is_none()
            && itself.status == AdmissionStatus::Admitted;
        let replace = if recorded.is_some() { " --replace" } else { "" };
        let import = || format!("admit model import {}{replace}", host::quoted(named));
        return (Some(named.to_owned()), file, status, unsafe_fix.or(unrecorded.then(import)));
    }
    let place = path.as_deref().filter(|_| recorded.is_some()).map(|path| sources.root.place(path));
    let file = recorded.map_or(RecordFile::Absent, |bytes| RecordFile::Bytes(bytes.to_vec()));
    let status = admission::status(&file, pair, stage, now, &secrets::rule_of);
    (place, file, status, None)
}

/// Admission, credentials, endpoint and network. Asks no server but the resolver of names.
pub fn model(sources: &Sources<'_>, facts: &mut Facts) -> Side {
    let mut side = Side::default();
    let (place, file, status, fix) = record_file(sources);
    side.admission_file = place;
    facts.requested = Found::Known(sources.pair.into_iter().cloned().collect());
    facts.model_fix = fix;
    let record = status.record.clone();
    facts.model = Found::Known(status);
    if let (RecordFile::Bytes(bytes), Some(_)) = (&file, &record) {
        side.record_sha256 = record::parse_value(bytes).ok().map(|value| record::digest(&value));
        side.record = Some(bytes.clone());
    }
    let about = match &file {
        RecordFile::Bytes(bytes) if record.is_some() => attest::model_admission(bytes).ok(),
        _ => None,
    };
    let about = about.map(Expected::from);
    facts.model_signed = signed(sources.root, StatementKind::Model, about.as_ref(), sources.now);
    facts.bridge_claimed = Found::Known(sources.bridge_claimed);
    // Without a valid record that those signed who must, nothing says which key may go where, so none is read.
    let Some(record) = record.filter(|_| may_be_used(&facts.model_signed)) else { return side };
    side.upstream = reach(sources, &record, facts);
    side
}

/// What a record would be asked with, and where: credentials, endpoint and network. `None` where one of them is missing;
/// the facts say which.
pub fn reach(
    sources: &Sources<'_>,
    record: &ModelAdmission,
    facts: &mut Facts,
) -> Option<Upstream> {
    let (credential, fact) = credentials(record, sources);
    facts.credentials = fact;
    upstream(sources, record, credential, facts)
}

/// Asks the model whether it answers in a shape that an agent can use.
pub fn ask(
    upstream: &Upstream,
    model: &str,
    stop: &AtomicUsize,
    facts: &mut Facts,
) -> Option<Probe> {
    let asked: Result<Probe> = probe::probe(upstream, model, ProbeLimits::default(), stop);
    facts.probe = match &asked {
        Err(err) => Found::Failed(err.into()),
        Ok(probe) => Found::Known(probe_fact(probe)),
    };
    asked.ok()
}

fn may_be_used(signed: &Found<Signed>) -> bool {
    matches!(signed, Found::Known(None | Some(Ok(_))))
}

#[derive(Default)]
struct Asked {
    key: Option<ModelKey>,
    account: Option<Arc<Account>>,
}

fn credentials(record: &ModelAdmission, sources: &Sources<'_>) -> (Asked, Found<CredentialFact>) {
    let vars = sources.vars;
    let none = Asked::default;
    let fact = |available, source: String| {
        let class = record.credential_words();
        Found::Known(CredentialFact { class, available, source })
    };
    match record.credential().as_deref() {
        Some(Wanted::None {}) => return (none(), fact(true, "none needed".into())),
        Some(Wanted::Key {}) => {}
        Some(helper @ Wanted::Helper { .. }) => {
            let Some(helper) = Helper::of(helper, vars) else { return (none(), Found::Absent) };
            return match Account::open(helper, sources.now) {
                Ok(account) => {
                    let asked = Asked { key: None, account: Some(Arc::new(account)) };
                    (asked, fact(true, "the record's credential helper".into()))
                }
                Err(err) => (none(), Found::Failed((&err).into())),
            };
        }
        None => return (none(), fact(false, "an unknown class".into())),
    }
    let set = |name: &str| vars.get(name).filter(|value| !value.is_empty());
    let (found, source) = match (set(KEY_VARIABLE), set(KEY_FILE_VARIABLE)) {
        (Some(_), Some(_)) => {
            let what = format!("{KEY_VARIABLE} and {KEY_FILE_VARIABLE} are both set");
            return (none(), fact(false, what));
        }
        (Some(value), None) => (
            ModelKey::from_value(KEY_VARIABLE, value.clone().into_bytes()),
            format!("environment variable {KEY_VARIABLE}"),
        ),
        (None, Some(path)) => {
            (ModelKey::from_file(Path::new(path)), "file of mode 0600".to_owned())
        }
        (None, None) => {
            let what = format!("neither {KEY_VARIABLE} nor {KEY_FILE_VARIABLE} is set");
            return (none(), fact(false, what));
        }
    };
    match found {
        Ok(key) => (Asked { key: Some(key), account: None }, fact(true, source)),
        Err(err) => (none(), Found::Failed((&err).into())),
    }
}

/// The endpoint: from the environment, else from a file that the environment names, else, for a scripted model, the one
/// inside admit.
fn upstream(
    sources: &Sources<'_>,
    record: &ModelAdmission,
    asked: Asked,
    facts: &mut Facts,
) -> Option<Upstream> {
    let api = api::list::of(record.api());
    let named = Network::named(record.network(), &sources.root.config().network);
    let network =
        named.ok_or_else(|| undefined(Reason::NetworkNotAllowed, record.network(), sources.root));
    let file = sources.vars.get(ENDPOINT_FILE_VARIABLE).filter(|path| !path.is_empty());
    let address = match (sources.endpoint, file) {
        (Some(endpoint), _) => {
            facts.endpoint = Found::Known(EndpointOrigin::Environment);
            endpoint.to_owned()
        }
        // The same rules as for a key: regular, this user's, readable by this user only.
        (None, Some(path)) => match ModelKey::from_file(Path::new(path)) {
            Ok(text) => {
                facts.endpoint = Found::Known(EndpointOrigin::File);
                String::from_utf8_lossy(text.secret().expose()).into_owned()
            }
            Err(err) => {
                facts.endpoint = Found::Failed((&err).into());
                return None;
            }
        },
        (None, None) if record.kind == ModelKind::Scripted => {
            facts.endpoint = Found::Known(EndpointOrigin::Embedded);
            // It has no address; what the agent talks to is the sandbox's own loopback.
            let addresses = vec![std::net::Ipv4Addr::LOCALHOST.into()];
            let fact = network.map(|network| NetworkFact { network, addresses, tls: false });
            facts.network = fact.into();
            let script = sources.script?.clone();
            let mock = Mock::new(script, record.model.as_str()).speaking(api);
            return Some(Upstream::local(mock));
        }
        (None, None) => {
            facts.endpoint = Found::Absent;
            facts.network = Found::Absent;
            return None;
        }
    };
    let resolved = network.and_then(|network| Endpoint::resolve(&address, &network, sources.net));
    match resolved {
        Err(err) => {
            facts.network = Found::Failed((&err).into());
            None
        }
        Ok(endpoint) => {
            let addresses = endpoint.addresses().to_vec();
            let tls = endpoint.is_tls();
            let fact = NetworkFact { network: endpoint.network().clone(), addresses, tls };
            facts.network = Found::Known(fact);
            // A key that is needed and missing must not let an unauthenticated request out.
            let available = facts.credentials.known().is_some_and(|found| found.available);
            let endpoint = endpoint.asked_with(record.headers.clone(), asked.account);
            available.then_some(Upstream::Http { api, endpoint, credential: asked.key })
        }
    }
}

/// The network of a model's record that this root does not define.
pub fn undefined(reason: Reason, name: &str, root: &Root) -> Error {
    let own = root.config().network.iter().map(|network| network.name.as_str());
    let all: Vec<_> = Network::BUILT_IN.into_iter().chain(own).collect();
    Error::new(reason, "no network of this name is defined")
        .expected(format!("one of {}", all.join(", ")))
        .found(format!("\"{}\"", name.escape_debug()))
        .hint(format!(
            "define it as a [[network]] with name and addresses in {} (docs/config.md)",
            root.place(crate::root::MARKER)
        ))
}

fn probe_fact(probe: &Probe) -> ProbeFact {
    use crate::proxy::probe::ProbeOutcome as P;
    use crate::record::wire::ReplyClass;
    let class = probe.verdict.as_ref().map(|verdict| verdict.class);
    let failed = || {
        let class = class.and_then(FailureClass::of_reply).unwrap_or(FailureClass::Unclassified);
        match class {
            FailureClass::ResponseShapeUnavailable => ProbeReply::ReasoningOnly,
            other => ProbeReply::Failed(other),
        }
    };
    let outcome = match probe.outcome {
        _ if probe.secret_seen.is_some() => ProbeReply::Failed(FailureClass::SecretFound),
        P::Ready if class == Some(ReplyClass::OkTools) => ProbeReply::ToolCall,
        P::Ready | P::ModelNotListed => ProbeReply::Content,
        P::ListUnavailable | P::ReplyUnusable => failed(),
    };
    let listed = matches!(probe.outcome, P::Ready | P::ReplyUnusable);
    ProbeFact { listed, max_tokens: probe.max_tokens, outcome }
}
