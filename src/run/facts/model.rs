//! The model's side of the facts: admission, credentials, endpoint, addresses, and what the probe gave.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{ENDPOINT_FILE_VARIABLE, Gathered, KEY_FILE_VARIABLE, KEY_VARIABLE, Sources, signed};
use crate::attest::{self, Expected, Outcome};
use crate::gate::{
    BRIDGED_PROVIDER, BridgeFact, CredentialFact, EndpointOrigin, Found, NetworkFact, ProbeFact,
    ProbeOutcome,
};
use crate::proxy::endpoint::{Credential, Endpoint};
use crate::proxy::probe::{self, MAX_TOKENS, Probe, ProbeLimits};
use crate::proxy::upstream::Upstream;
use crate::record::admission::{self, CredentialClass, ModelAdmission, ModelKind, RecordFile};
use crate::record::failure::FailureClass;
use crate::record::signing::Kind;
use crate::run::classify;
use crate::run::engine::scripted::Scripted;
use crate::secrets::{Known, Rules, Scanner};

/// Longest admission record that is read.
const MAX_RECORD: u64 = 1 << 20;

/// The rule by which `bytes` hold a secret.
fn secret(bytes: &[u8]) -> Option<String> {
    let mut scanner = Scanner::new(Known::none(), Rules::On);
    let mut hits = scanner.feed(bytes);
    hits.extend(scanner.finish());
    hits.first().map(|hit| hit.id.clone())
}

fn record_file(sources: &Sources<'_>) -> (Option<String>, RecordFile) {
    if let Some(path) = &sources.request.admission_file {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            let flags = libc::O_NONBLOCK;
            let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
            file.take(MAX_RECORD + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let file = match read() {
            Ok(bytes) if bytes.len() as u64 <= MAX_RECORD => RecordFile::Bytes(bytes),
            Ok(_) => RecordFile::Unreadable("longer than any record".into()),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => RecordFile::Absent,
            Err(err) => RecordFile::Unreadable(err.to_string()),
        };
        return (Some(path.clone()), file);
    }
    let Some(pair) = &sources.request.model else { return (None, RecordFile::Absent) };
    let path = format!("admissions/models/{}", pair.file_name());
    match sources.root.get(&path) {
        Some(bytes) => (Some(sources.root.place(&path)), RecordFile::Bytes(bytes.to_vec())),
        None => (None, RecordFile::Absent),
    }
}

/// Admission, credentials, endpoint, network, probe.
pub(super) fn model(sources: &Sources<'_>, out: &mut Gathered) {
    let request = sources.request;
    let (place, file) = record_file(sources);
    out.admission_file = place;
    let stage = request.stage.unwrap_or_default();
    let status = admission::status(&file, request.model.as_ref(), stage, &sources.now, &secret);
    let record = status.record.clone();
    out.facts.model = Found::Known(status);
    let about = match &file {
        RecordFile::Bytes(bytes) if record.is_some() => attest::model_admission(bytes).ok(),
        _ => None,
    };
    let about = about.map(Expected::from);
    out.facts.model_signed = signed(sources.root, Kind::Model, about.as_ref(), &sources.now);
    let bridge = BridgeFact { claimed: request.bridge_claimed, answered: Found::Unknown };
    out.facts.bridge = Found::Known(bridge);
    // Without a valid record that those signed who must, nobody knows which key may go where, so none is read.
    let Some(record) = record.filter(|_| may_be_used(&out.facts.model_signed)) else { return };
    let (credential, fact) = credentials(&record, sources.vars);
    out.facts.credentials = fact;
    upstream(sources, &record, credential, out);
    let Some(upstream) = out.upstream.as_ref().filter(|_| sources.probe) else { return };
    match probe::probe(upstream, record.model.as_str(), ProbeLimits::default()) {
        Err(err) => out.facts.probe = Found::Unreadable(err.to_string()),
        Ok(probe) => {
            out.facts.probe = Found::Known(probe_fact(&probe));
            if record.provider.as_str() == BRIDGED_PROVIDER {
                let answered = Found::Known(probe.is_ready());
                let claimed = request.bridge_claimed;
                out.facts.bridge = Found::Known(BridgeFact { claimed, answered });
            }
            out.probe = Some(probe);
        }
    }
}

fn may_be_used(signed: &Found<Outcome>) -> bool {
    matches!(signed, Found::Known(None | Some(Ok(_))))
}

type Credentials = (Option<Credential>, Found<CredentialFact>);

fn credentials(record: &ModelAdmission, vars: &BTreeMap<String, String>) -> Credentials {
    let class = record.credential_source_class.clone();
    let needs = CredentialClass::from_text(&class).is_none_or(CredentialClass::needs_secret);
    let fact = |available, source: String| {
        Found::Known(CredentialFact { class: class.clone(), available, source })
    };
    if !needs {
        return (None, fact(true, "none needed".into()));
    }
    let set = |name: &str| vars.get(name).filter(|value| !value.is_empty());
    let (found, source) = match (set(KEY_VARIABLE), set(KEY_FILE_VARIABLE)) {
        (Some(_), Some(_)) => {
            let what = format!("{KEY_VARIABLE} and {KEY_FILE_VARIABLE} are both set");
            return (None, fact(false, what));
        }
        (Some(value), None) => (
            Credential::from_value(KEY_VARIABLE, value.clone().into_bytes()),
            format!("environment variable {KEY_VARIABLE}"),
        ),
        (None, Some(path)) => {
            (Credential::from_file(Path::new(path)), "file of mode 0600".to_owned())
        }
        (None, None) => {
            let what = format!("neither {KEY_VARIABLE} nor {KEY_FILE_VARIABLE} is set");
            return (None, fact(false, what));
        }
    };
    match found {
        Ok(credential) => (Some(credential), fact(true, source)),
        Err(err) => (None, Found::Unreadable(err.to_string())),
    }
}

/// The endpoint: from the environment, else from a file that the environment names, else, for a scripted model, the one
/// inside admit.
fn upstream(
    sources: &Sources<'_>,
    record: &ModelAdmission,
    credential: Option<Credential>,
    out: &mut Gathered,
) {
    let file = sources.vars.get(ENDPOINT_FILE_VARIABLE).filter(|path| !path.is_empty());
    let address = match (&sources.request.endpoint, file) {
        (Some(endpoint), _) => {
            out.facts.endpoint = Found::Known(EndpointOrigin::Environment);
            endpoint.reveal().to_owned()
        }
        // The same rules as for a key: regular, this user's, readable by nobody else.
        (None, Some(path)) => match Credential::from_file(Path::new(path)) {
            Ok(text) => {
                out.facts.endpoint = Found::Known(EndpointOrigin::File);
                String::from_utf8_lossy(text.secret().expose()).into_owned()
            }
            Err(err) => {
                out.facts.endpoint = Found::Unreadable(err.to_string());
                return;
            }
        },
        (None, None) if record.kind == ModelKind::Scripted => {
            out.facts.endpoint = Found::Known(EndpointOrigin::Embedded);
            // It has no address; what the agent talks to is the box's own loopback.
            let addresses = vec![std::net::Ipv4Addr::LOCALHOST.into()];
            out.facts.network = Found::Known(NetworkFact { addresses, tls: false });
            let model = Scripted::new(sources.script.clone(), record.model.as_str());
            out.upstream = Some(Upstream::local(model));
            return;
        }
        (None, None) => {
            out.facts.endpoint = Found::Absent;
            out.facts.network = Found::Absent;
            return;
        }
    };
    match Endpoint::resolve(&address, &record.allowed_network_class, sources.net) {
        Err(err) => out.facts.network = Found::Unreadable(err.what().to_owned()),
        Ok(endpoint) => {
            let addresses = endpoint.addresses().to_vec();
            let tls = endpoint.is_tls();
            out.facts.network = Found::Known(NetworkFact { addresses, tls });
            // A key that is needed and missing must not let an unauthenticated request out.
            if matches!(&out.facts.credentials, Found::Known(found) if found.available) {
                out.upstream = Some(Upstream::Http { endpoint, credential });
            }
        }
    }
}

fn probe_fact(probe: &Probe) -> ProbeFact {
    use crate::proxy::probe::ProbeOutcome as P;
    use crate::record::wire::ReplyClass;
    let class = probe.verdict.as_ref().map(|verdict| verdict.class);
    let failed = || {
        let class = class.and_then(classify::of_reply).unwrap_or(FailureClass::Unclassified);
        match class {
            FailureClass::ResponseShapeUnavailable => ProbeOutcome::ReasoningOnly,
            other => ProbeOutcome::Failed(other),
        }
    };
    let outcome = match probe.outcome {
        _ if probe.secret_seen.is_some() => ProbeOutcome::Failed(FailureClass::SecretFound),
        P::Ready if class == Some(ReplyClass::OkTools) => ProbeOutcome::ToolCall,
        P::Ready | P::ModelNotListed => ProbeOutcome::Content,
        P::ListUnavailable | P::ReplyUnusable => failed(),
    };
    let listed = matches!(probe.outcome, P::Ready | P::ReplyUnusable);
    ProbeFact { listed, max_tokens: MAX_TOKENS, outcome }
}
