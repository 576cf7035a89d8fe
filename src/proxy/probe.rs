//! Asks an endpoint before a run whether it serves the admitted model in a form that an agent can use.
//!
//! Two requests: the model list, which must name the model, and one chat completion that must give content or a tool
//! call. The completion gets 1024 tokens: with a few dozen a reasoning model is cut off while it still thinks, and a
//! good endpoint would look like one that only ever reasons. Nobody looks at how long the answer takes, except for
//! the deadline.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use super::http1::{head_end, parse_reply};
use super::relay::{Relay, Stop};
use super::request::{ChatRequest, check};
use super::sse::classify;
use super::upstream::{Ask, Upstream, open};
use crate::error::{Error, Reason, Result};
use crate::record::wire::{
    ClosedBy, ConnectFault, CutReason, ReplyClass, ReplyFacts, ReplyVerdict,
};
use crate::secrets::Known;

/// Token budget of the one completion.
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
}

impl Probe {
    /// Whether a run may start.
    pub fn is_ready(&self) -> bool {
        self.outcome == ProbeOutcome::Ready
    }
}

/// How long a probe may take.
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

/// Probes `upstream` for `model`. A bad answer is a [`Probe`]; an `Err` means that nothing could be asked.
pub fn probe(upstream: &Upstream, model: &str, limits: ProbeLimits) -> Result<Probe> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| Error::io("start the probe", "tokio", err))?;
    let body = json!({
        "model": model,
        "messages": [{"role": "user", "content": "Reply with the single word: ready"}],
        "max_tokens": MAX_TOKENS,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    let chat = check(body.to_string().as_bytes(), model).map_err(|(_, what)| {
        Error::new(Reason::Internal, format!("the probe's request: {what}"))
    })?;
    Ok(runtime.block_on(both(upstream, model, limits, &chat)))
}

async fn both(upstream: &Upstream, model: &str, limits: ProbeLimits, chat: &ChatRequest) -> Probe {
    let mut out = Probe {
        model: model.to_owned(),
        outcome: ProbeOutcome::ListUnavailable,
        models_listed: 0,
        verdict: None,
        facts: None,
        secret_seen: None,
    };
    let known = Known::new(&upstream.secret_values());
    let list = ask(upstream, model, &Ask::Models, limits, &known).await;
    out.secret_seen = list.secret;
    let ids = match list.facts.status {
        Some(200) if list.facts.body_whole && out.secret_seen.is_none() => ids(&list.passed),
        _ => None,
    };
    let Some(ids) = ids else {
        out.verdict = Some(match list.facts.status {
            // Otherwise a list that is no list would be judged as a completion.
            Some(200) => {
                ReplyVerdict { class: ReplyClass::UpstreamError, detail: "no_model_list".into() }
            }
            _ => classify(&list.facts, model),
        });
        return out;
    };
    out.models_listed = ids.len() as u64;
    if !ids.contains(model) {
        out.outcome = ProbeOutcome::ModelNotListed;
        return out;
    }
    let reply = ask(upstream, model, &Ask::Chat(chat), limits, &known).await;
    let verdict = classify(&reply.facts, model);
    out.outcome = match verdict.class {
        ReplyClass::OkText | ReplyClass::OkTools if reply.secret.is_none() => ProbeOutcome::Ready,
        _ => ProbeOutcome::ReplyUnusable,
    };
    out.verdict = Some(verdict);
    out.facts = Some(reply.facts);
    out.secret_seen = reply.secret;
    out
}

/// The ids in the model list of a whole reply.
fn ids(reply: &[u8]) -> Option<BTreeSet<String>> {
    let (head, rest) = reply.split_at(head_end(reply)?);
    let head = parse_reply(head).ok().filter(|head| head.content_encoding.is_none())?;
    let (mut framing, mut body) = (head.body, Vec::new());
    framing.feed(rest, &mut body).ok()?;
    let value: Value = serde_json::from_slice(&body).ok()?;
    let data = value.get("data")?.as_array()?;
    data.iter().map(|model| model.get("id")?.as_str().map(str::to_owned)).collect()
}

/// One reply, read to its end.
struct Answer {
    facts: ReplyFacts,
    /// The reply as received, as far as it would have gone to an agent.
    passed: Vec<u8>,
    secret: Option<String>,
}

async fn ask(
    upstream: &Upstream,
    model: &str,
    ask: &Ask<'_>,
    limits: ProbeLimits,
    known: &Known,
) -> Answer {
    let begun = Instant::now();
    let mut relay = Relay::new(known);
    let mut answer = Answer { facts: ReplyFacts::default(), passed: Vec::new(), secret: None };
    let mut passed = Vec::new();
    let read = async {
        let mut conn =
            open(upstream, model, 0, ask, limits.connect).await.map_err(Ending::Fault)?;
        let mut buf = vec![0; 64 * 1024];
        loop {
            match conn.read(&mut buf).await {
                Ok(0) => return Ok(true),
                Err(_) => return Ok(false),
                Ok(n) => {
                    let released = relay.feed(&buf[..n]).map_err(Ending::Stop)?;
                    passed.extend_from_slice(&released.raw);
                    if passed.len() > MAX_REPLY {
                        let what = "longer than a probe's reply".to_owned();
                        return Err(Ending::Stop(Stop::Cut(CutReason::LimitHit, what)));
                    }
                    if relay.is_whole() {
                        return Ok(true);
                    }
                }
            }
        }
    };
    let ended = tokio::time::timeout(limits.reply, read).await;
    let eof = matches!(ended, Ok(Ok(true)));
    let (rest, facts, _) = relay.finish(eof);
    answer.facts = facts;
    let fault = match ended {
        Ok(Err(Ending::Fault(fault))) => Some(fault),
        Ok(Err(Ending::Stop(Stop::BadHead(_)))) => Some(ConnectFault::BadHead),
        Ok(Err(Ending::Stop(Stop::Cut(reason, what)))) => {
            answer.cut(reason, what);
            None
        }
        // Content that is merely late is fine; no end within the deadline is not.
        Err(_) => Some(ConnectFault::NoReply),
        Ok(Ok(_)) if answer.facts.status.is_none() => Some(ConnectFault::Closed),
        Ok(Ok(_)) => None,
    };
    answer.facts.connect_fault = fault;
    match rest {
        Ok(rest) => passed.extend_from_slice(&rest.raw),
        Err(Stop::Cut(reason, what)) => answer.cut(reason, what),
        Err(Stop::BadHead(_)) => answer.facts.connect_fault = Some(ConnectFault::BadHead),
    }
    answer.passed = passed;
    answer.facts.closed_by.get_or_insert(ClosedBy::Upstream);
    answer.facts.duration_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    answer
}

impl Answer {
    fn cut(&mut self, reason: CutReason, what: String) {
        match reason {
            // A redirect has a status of its own, which says more.
            CutReason::Redirect => {}
            CutReason::Secret => {
                self.secret = Some(what);
                self.facts.closed_by = Some(ClosedBy::Admit);
            }
            _ => self.facts.closed_by = Some(ClosedBy::Admit),
        }
    }
}

enum Ending {
    Fault(ConnectFault),
    Stop(Stop),
}
