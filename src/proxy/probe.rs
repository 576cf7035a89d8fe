//! Asks an endpoint before a run whether it serves the admitted model in a form that an agent can use.
//!
//! Two requests: the model list, which must name the model (where the API has one), and one question that must give content or a tool call. The
//! answer gets 1024 tokens: with a few dozen a reasoning model is cut off while it still thinks, and a
//! good endpoint would look like one that only ever reasons. How long the answer takes does not matter, except for
//! the deadline.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use super::api::{ForwardedRequest, WireApi, read_request};
use super::http1::{head_end, parse_reply};
use super::relay::{Relay, Stop};
use super::reply::classify;
use super::upstream::{Ask, Upstream, open};
use crate::error::{Error, Reason, Result};
use crate::record::json;
use crate::record::wire::{
    ClosedBy, ConnectFault, CutReason, ReplyClass, ReplyFacts, ReplyVerdict,
};
use crate::secrets::Known;

/// Token budget of the one answer.
pub const MAX_TOKENS: u32 = 1024;
/// Longest reply that is read, in bytes.
const MAX_REPLY: usize = 4 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// The model is listed and answers with content or a tool call.
    Ready,
    /// The model list was read and does not name the model.
    ModelNotListed,
    /// No model list could be read; the verdict says why.
    ListUnavailable,
    /// The completion is of a class other than text or tools; the verdict names it.
    ReplyUnusable,
}

/// One of the probe's two requests with its reply, as bytes for the record. Holds neither address nor key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The list of models; else the question.
    pub list: bool,
    pub begun: Instant,
    /// As sent, with endpoint and key replaced by words in brackets.
    pub request: Vec<u8>,
    /// As received, as far as it would have gone to an agent.
    pub reply: Vec<u8>,
    pub facts: ReplyFacts,
}

/// A probe's result. Holds neither address nor key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The model that was asked for.
    pub model: String,
    pub outcome: ProbeOutcome,
    /// How many models the list names.
    pub models_listed: u64,
    /// The class of the reply that decided; absent where the list alone did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<ReplyVerdict>,
    /// Facts of the completion, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ReplyFacts>,
    /// The name of a known secret that a reply held. The reply is not read on then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_seen: Option<String>,
    /// The token limit that the question had; absent where none was asked, or for an API whose requests have none.
    #[serde(skip)]
    pub max_tokens: Option<u64>,
    /// What was sent and received, in its order; files of their own keep it.
    #[serde(skip)]
    pub kept: Vec<Kept>,
}

impl Probe {
    /// Whether a run may start.
    pub fn is_ready(&self) -> bool {
        self.outcome == ProbeOutcome::Ready
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeLimits {
    pub connect: Duration,
    /// One reply. A large model that has to be loaded first may need minutes.
    pub reply: Duration,
}

impl Default for ProbeLimits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), reply: Duration::from_secs(180) }
    }
}

/// Probes `upstream` for `model`. A bad answer is a [`Probe`]; an `Err` means that nothing could be asked, or that `stop`
/// was set meanwhile.
pub fn probe(
    upstream: &Upstream,
    model: &str,
    limits: ProbeLimits,
    stop: &AtomicUsize,
) -> Result<Probe> {
    let chat = question(upstream.api(), model)?;
    unless_told(stop, both(upstream, model, limits, chat))
}

pub(super) fn unless_told<T>(stop: &AtomicUsize, work: impl Future<Output = T>) -> Result<T> {
    let runtime = super::runtime().map_err(|err| Error::io("start the probe", "tokio", err))?;
    runtime.block_on(async {
        tokio::select! {
            answer = work => Ok(answer),
            () = told(stop) => Err(Error::new(Reason::Interrupted, "told to stop while the model was asked")),
        }
    })
}

/// A request of admit's own, as one of an agent's would be passed on.
pub(super) fn request(api: &dyn WireApi, model: &str, body: &Value) -> Result<ForwardedRequest> {
    read_request(api, body.to_string().as_bytes(), model)
        .map_err(|(_, what)| Error::new(Reason::Internal, format!("the probe's request: {what}")))
}

async fn told(stop: &AtomicUsize) {
    while stop.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn both(
    upstream: &Upstream,
    model: &str,
    limits: ProbeLimits,
    chat: ForwardedRequest,
) -> Probe {
    let mut out = Probe {
        model: model.to_owned(),
        outcome: ProbeOutcome::ListUnavailable,
        models_listed: 0,
        verdict: None,
        facts: None,
        secret_seen: None,
        max_tokens: None,
        kept: Vec::new(),
    };
    let known = upstream.known(Vec::new());
    let api = upstream.api();
    if api.list().is_some() {
        let (list, secret) =
            ask(upstream, &Ask::Models(chat.headers.clone()), limits, &known).await;
        out.secret_seen = secret;
        let ids = match list.facts.status {
            Some(200) if list.facts.body_whole && out.secret_seen.is_none() => ids(&list.reply),
            _ => None,
        };
        out.kept.push(list.clone());
        let Some(ids) = ids else {
            out.verdict = Some(match list.facts.status {
                // Otherwise a list that is no list would be judged as a completion.
                Some(200) => ReplyVerdict {
                    class: ReplyClass::UpstreamError,
                    detail: "no_model_list".into(),
                },
                _ => classify(&list.facts, model, |reason| api.finish(reason)),
            });
            return out;
        };
        out.models_listed = ids.len() as u64;
        if !ids.contains(model) {
            out.outcome = ProbeOutcome::ModelNotListed;
            return out;
        }
    }
    out.max_tokens = budget(&chat.body);
    let (reply, secret) = ask(upstream, &Ask::Chat(chat), limits, &known).await;
    let verdict = classify(&reply.facts, model, |reason| api.finish(reason));
    out.outcome = match verdict.class {
        ReplyClass::OkText | ReplyClass::OkTools if secret.is_none() => ProbeOutcome::Ready,
        _ => ProbeOutcome::ReplyUnusable,
    };
    out.verdict = Some(verdict);
    out.facts = Some(reply.facts.clone());
    out.secret_seen = secret;
    out.kept.push(reply);
    out
}

/// What stands in the record of a request of the probe's: its first line, and its body.
pub fn asked(api: &'static dyn WireApi, model: &str, list: bool) -> Result<(String, Vec<u8>)> {
    if list {
        let path = api.list().unwrap_or_default();
        return Ok((format!("GET [base]{path} HTTP/1.1"), Vec::new()));
    }
    Ok((format!("POST [base]{} HTTP/1.1", api.path()), question(api, model)?.body))
}

fn question(api: &dyn WireApi, model: &str) -> Result<ForwardedRequest> {
    request(api, model, &api.probe(model, MAX_TOKENS))
}

/// The token limit in the body of a request.
fn budget(body: &[u8]) -> Option<u64> {
    let body = json::read(body).ok()?;
    let names = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    names.iter().find_map(|name| body.get(name)?.as_u64())
}

/// What the bytes of a reply that was kept amount to, read once more.
pub fn read_again(api: &'static dyn WireApi, model: &str, reply: &[u8]) -> ReplyVerdict {
    let mut relay = Relay::new(api, &Known::none()).for_the_record();
    // What stops it shows in the facts.
    let fed = relay.feed(reply).is_ok();
    let (_, mut facts, _) = relay.finish(fed);
    facts.closed_by = Some(ClosedBy::Upstream);
    classify(&facts, model, |reason| api.finish(reason))
}

/// The ids in the model list of a whole reply.
pub fn ids(reply: &[u8]) -> Option<BTreeSet<String>> {
    let models = models(reply)?;
    models.iter().map(|model| model.get("id")?.as_str().map(str::to_owned)).collect()
}

/// The entries of the model list of a whole reply.
pub(super) fn models(reply: &[u8]) -> Option<Vec<Value>> {
    let (head, rest) = reply.split_at(head_end(reply)?);
    let head = parse_reply(head).ok().filter(|head| head.content_encoding.is_none())?;
    let (mut framing, mut body) = (head.body, Vec::new());
    framing.feed(rest, &mut body).ok()?;
    let value = json::read(&body).ok()?;
    value.get("data")?.as_array().cloned()
}

/// One request and its reply, read to its end; and the name of a secret in it.
pub(super) async fn ask(
    upstream: &Upstream,
    ask: &Ask,
    limits: ProbeLimits,
    known: &Known,
) -> (Kept, Option<String>) {
    let begun = Instant::now();
    let mut relay = Relay::new(upstream.api(), known).for_the_record();
    let mut passed = Vec::new();
    let read = async {
        let opened = open(upstream, 0, ask, limits.connect).await.map_err(Stop::Fault)?;
        let mut conn = opened.conn;
        let mut buf = vec![0; 64 * 1024];
        loop {
            match conn.read(&mut buf).await {
                Ok(0) => return Ok(true),
                Err(_) => return Ok(false),
                Ok(n) => {
                    let released = relay.feed(&buf[..n])?;
                    passed.extend_from_slice(&released.raw);
                    if passed.len() > MAX_REPLY {
                        let what = "longer than a probe's reply".to_owned();
                        return Err(Stop::Cut(CutReason::LimitHit, what));
                    }
                    if relay.is_whole() {
                        return Ok(true);
                    }
                }
            }
        }
    };
    // Content that is merely late is fine; no end within the deadline is not.
    let ended = tokio::time::timeout(limits.reply, read).await;
    let ended = ended.unwrap_or(Err(Stop::Fault(ConnectFault::NoReply)));
    let (rest, mut facts, _) = relay.finish(matches!(ended, Ok(true)));
    facts.closed_by = Some(ClosedBy::Upstream);
    if ended.is_ok() && facts.status.is_none() {
        facts.connect_fault = Some(ConnectFault::Closed);
    }
    let mut secret = None;
    let rest = rest.map(|rest| passed.extend_from_slice(&rest.raw));
    for stop in [ended.err(), rest.err()].into_iter().flatten() {
        match stop {
            Stop::Fault(fault) => facts.connect_fault = Some(fault),
            // A redirect has a status of its own, which says more.
            Stop::Cut(CutReason::Redirect, _) => {}
            Stop::Cut(reason, what) => {
                facts.closed_by = Some(ClosedBy::Admit);
                secret = secret.or((reason == CutReason::Secret).then_some(what));
            }
        }
    }
    facts.duration_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut request = ask.recorded_head(upstream);
    request.extend_from_slice(ask.body());
    let list = matches!(ask, Ask::Models(_));
    (Kept { list, begun, request, reply: passed, facts }, secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::api::list;
    use crate::record::admission::Api;

    #[test]
    fn the_limit_of_a_question_is_read_from_what_is_sent() {
        for api in Api::ALL {
            let sent = question(list::of(api), "m").unwrap();
            // Codex takes none.
            let limit = (api != Api::OpenaiCodexResponses).then_some(u64::from(MAX_TOKENS));
            assert_eq!(budget(&sent.body), limit, "{api:?}");
        }
    }
}
