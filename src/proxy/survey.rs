//! What an endpoint makes of one wire API, found out before anybody approves it: whether the model is listed, whether it
//! answers with content or with reasoning alone, and whether a call of a tool arrives whole.

use std::sync::atomic::AtomicUsize;

use serde::Serialize;
use serde_json::{Value, json};

use super::probe::{self, MAX_TOKENS, Probe, ProbeLimits, ProbeOutcome};
use super::reply::classify;
use super::upstream::{Ask, Upstream};
use crate::error::Result;
use crate::record::admission::{Api, ModelId};
use crate::record::wire::{ReasoningField, ReplyClass, ReplyFacts, ReplyVerdict};

/// Models of the list that are named where the one that was asked for is not there.
const MAX_NAMED: usize = 5;
/// Under which names servers say in their list how many tokens prompt and reply may have together.
const WINDOWS: [&str; 5] =
    ["max_model_len", "context_window", "context_length", "max_context_length", "max_input_tokens"];
/// No model has more tokens; a larger number is a slip.
const MOST_TOKENS: u64 = 1_000_000_000;

/// What one wire API gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offer {
    pub api: Api,
    /// Whether the list names the model; absent where the API has no list or none could be read.
    pub listed: Option<bool>,
    /// Some of what is listed, where the model is not.
    pub others: Vec<ModelId>,
    /// Tokens that prompt and reply may have together, where the list says so.
    pub context_window: Option<u32>,
    /// What a short question came to; where it was not asked, what the list came to.
    pub answer: Option<ReplyVerdict>,
    /// Under which names reasoning came.
    pub reasoning: Vec<ReasoningField>,
    /// What the wish for a call of a tool came to; absent where the short question came to nothing.
    pub tools: Option<ReplyVerdict>,
    /// What a request came to that is written as for a model that reasons; absent where no reasoning was seen, or the
    /// wish for a call came to nothing.
    pub as_reasoning: Option<ReplyVerdict>,
    /// The name of a secret that a reply held.
    pub secret_seen: Option<String>,
}

impl Offer {
    /// Whether a run's own probe would find it ready.
    pub fn answers(&self) -> bool {
        self.secret_seen.is_none() && self.answer.as_ref().is_some_and(is_good)
    }

    /// Whether it reasons, and takes what an agent writes that is told so.
    pub fn reasons(&self) -> bool {
        self.answers() && self.as_reasoning.as_ref().is_some_and(is_good)
    }

    /// Whether a call of a tool came, and came whole.
    pub fn calls(&self) -> bool {
        self.tools.as_ref().is_some_and(|tools| tools.class == ReplyClass::OkTools)
    }
}

fn is_good(verdict: &ReplyVerdict) -> bool {
    matches!(verdict.class, ReplyClass::OkText | ReplyClass::OkTools)
}

/// Asks `upstream` for `model`, in its API: the probe's two requests, one that offers a tool, and, where it reasons, one that is
/// written as for such a model.
///
/// # Errors
/// Where nothing could be asked, or `stop` was set meanwhile.
pub fn survey(
    upstream: &Upstream,
    model: &str,
    limits: ProbeLimits,
    stop: &AtomicUsize,
) -> Result<Offer> {
    let api = upstream.api();
    let probe = probe::probe(upstream, model, limits, stop)?;
    let mut offer = Offer {
        api: api.api(),
        listed: match probe.outcome {
            ProbeOutcome::ListUnavailable => None,
            ProbeOutcome::ModelNotListed => Some(false),
            ProbeOutcome::Ready | ProbeOutcome::ReplyUnusable => api.list().map(|_| true),
        },
        others: Vec::new(),
        context_window: None,
        answer: probe.verdict.clone(),
        reasoning: probe.facts.as_ref().map_or(Vec::new(), |facts| facts.reasoning_fields.clone()),
        tools: None,
        as_reasoning: None,
        secret_seen: probe.secret_seen.clone(),
    };
    read_list(&probe, model, &mut offer);
    if !probe.is_ready() {
        return Ok(offer);
    }
    let mut body = api.question(model, "Call the tool say with the word: ready", MAX_TOKENS);
    let word =
        json!({"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]});
    body["tools"] = json!([api.tool("say", "Says a word.", word)]);
    let known = upstream.known(Vec::new());
    let ask = |body: &Value| {
        let wish = Ask::Chat(probe::request(api, model, body)?);
        probe::unless_told(stop, probe::ask(upstream, &wish, limits, &known))
    };
    let (reply, secret) = ask(&body)?;
    let verdict = |facts: &ReplyFacts| classify(facts, model, |reason| api.finish(reason));
    offer.tools = Some(verdict(&reply.facts));
    offer.reasoning.extend(reply.facts.reasoning_fields);
    offer.reasoning.sort();
    offer.reasoning.dedup();
    offer.secret_seen = offer.secret_seen.or(secret);
    if !offer.reasoning.is_empty()
        && let Some(body) = api.as_for_one_that_reasons(api.probe(model, MAX_TOKENS))
    {
        let (reply, secret) = ask(&body)?;
        offer.as_reasoning = Some(verdict(&reply.facts));
        offer.secret_seen = offer.secret_seen.or(secret);
    }
    Ok(offer)
}

/// What the list says of the model, or what else it names.
fn read_list(probe: &Probe, model: &str, offer: &mut Offer) {
    let list = probe.kept.iter().find(|kept| kept.list);
    let models = list.and_then(|kept| probe::models(&kept.reply)).unwrap_or_default();
    let id = |entry: &Value| entry["id"].as_str().map(str::to_owned);
    if let Some(entry) = models.iter().find(|entry| id(entry).as_deref() == Some(model)) {
        // llama.cpp has it one level down.
        let counts =
            WINDOWS.iter().map(|name| &entry[*name]).chain([&entry["meta"]["n_ctx_train"]]);
        let count = counts.filter_map(Value::as_u64).find(|n| (1..=MOST_TOKENS).contains(n));
        offer.context_window = count.and_then(|n| u32::try_from(n).ok());
    } else if offer.listed == Some(false) {
        let ids = models.iter().filter_map(id).filter_map(|id| id.parse().ok());
        offer.others = ids.take(MAX_NAMED).collect();
    }
}
