//! How a model is spoken to over HTTP: one file for each wire API, and everything that the proxy, the probe and the
//! mock model need to know of it. `docs/wire-apis.md` says how to add one.

pub mod chat;
pub mod codex;
pub mod list;
pub mod messages;
pub mod responses;
pub mod shape;

use std::fmt;

use serde_json::Value;

use self::shape::{Key, check_keys};
use super::http1::Refusal;
pub use super::reply::Finish;
use super::reply::Reply;
use super::sse::Event;
use crate::record::admission::Api;
use crate::record::json;
use crate::record::wire::{ReasoningField, RequestRefusal, Usage};

/// One way to speak to a model.
pub trait WireApi: fmt::Debug + Send + Sync {
    /// What a model's record calls it.
    fn api(&self) -> Api;

    /// The same in words.
    fn name(&self) -> &'static str {
        self.api().as_str()
    }

    /// The one path that is served, below `/v1` at the proxy and below the endpoint's base URL.
    fn path(&self) -> &'static str;

    /// The list of models, asked for by GET below the endpoint's base URL; `None` where servers of this API have none. Then
    /// the name in a reply alone says which model answers.
    fn list(&self) -> Option<&'static str> {
        Some("/models")
    }

    /// Whether clients of this API add `/v1` to a base URL by themselves, so that users write it without.
    fn adds_version(&self) -> bool {
        false
    }

    /// The header, in lower case, in which servers of this API expect the key. `authorization` means a bearer token.
    /// From the agent the run's key is taken in any header that clients use.
    fn key_header(&self) -> &'static str {
        "authorization"
    }

    /// What the agent is given as its key: the run's sentinel in the shape that clients of this API want.
    fn shown_key(&self, sentinel: &str) -> String {
        sentinel.to_owned()
    }

    /// The header in which clients name the account that they read from the key they are given, and its value there. It
    /// ends at the proxy.
    fn account_header(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// The headers that go on beside the key. All others of the agent's end at the proxy.
    fn headers(&self) -> &'static [Header] {
        &[]
    }

    /// The keys of a request that pass on, each with the shape of its value. `model` and `stream` must be among them.
    fn keys(&self) -> &'static [Key];

    /// How many messages a request has, and the names of its tools.
    fn outline(&self, request: &Value) -> (u64, Vec<String>);

    /// Whether this is the stream's own last event and counts without the blank line that ends an event.
    fn ends_stream(&self, _data: &[u8]) -> bool {
        false
    }

    /// Reads one event of a stream into `reply`.
    fn event(&self, event: Event<'_>, reply: &mut Reply);

    /// Reads a reply that is no stream into `reply`.
    fn body(&self, value: &Value, reply: &mut Reply);

    /// What a `finish_reason` of this API says.
    fn finish(&self, reason: &str) -> Finish;

    /// A request with these words of a user and this budget, as a stream with token counts.
    fn question(&self, model: &str, words: &str, max_tokens: u32) -> Value;

    /// The request that the probe makes.
    fn probe(&self, model: &str, max_tokens: u32) -> Value {
        self.question(model, "Reply with the single word: ready", max_tokens)
    }

    /// The same request as an agent writes it that was told that the model reasons: with a role and keys that some servers
    /// refuse. `None` where it was never seen how it is written.
    fn as_for_one_that_reasons(&self, request: Value) -> Option<Value>;

    /// A function as an entry of a request's `tools`; `parameters` is a JSON schema.
    fn tool(&self, name: &str, description: &str, parameters: Value) -> Value;

    /// An error object as this API's clients know it.
    fn error(&self, kind: &str, message: &str) -> Value;

    /// What a model said as the events of a stream, each with the blank line at its end, or as one body.
    fn render(&self, said: &Said<'_>, stream: bool) -> Vec<String>;
}

/// A header that goes on to the model.
pub struct Header {
    /// In lower case.
    pub name: &'static str,
    /// What a value must be.
    pub words: &'static str,
    pub takes: fn(&str) -> bool,
    /// Sent where the agent gives none.
    pub otherwise: Option<&'static str>,
}

/// Headers by which a client would choose an account.
const ACCOUNTS: [&str; 1] = ["chatgpt-account-id"];

/// The headers that go on of those that the agent sent (names in lower case), each once and with a value that the API
/// takes, and those that are sent anyway.
pub fn passed_headers(
    api: &dyn WireApi,
    sent: &[(String, String)],
) -> Result<Vec<(&'static str, String)>, Refusal> {
    let mut out = Vec::new();
    for (name, value) in sent.iter().filter(|(name, _)| ACCOUNTS.contains(&name.as_str())) {
        if api.account_header() != Some((name, value)) {
            let what = format!("the header {name} names an account of the agent's own");
            return Err((RequestRefusal::ClientCredentials, what));
        }
    }
    for header in api.headers() {
        let mut values = sent.iter().filter(|(name, _)| name == header.name);
        match (values.next(), values.next()) {
            (None, _) => out.extend(header.otherwise.map(|value| (header.name, value.to_owned()))),
            (Some((_, value)), None) if (header.takes)(value) => {
                out.push((header.name, value.clone()));
            }
            _ => {
                let what =
                    format!("the header {} is not one that holds {}", header.name, header.words);
                return Err((RequestRefusal::BadValue, what));
            }
        }
    }
    Ok(out)
}

/// What a mock counts as used: it counts no tokens; the figures only keep clients going that need some.
fn spent(said: &Said<'_>) -> u64 {
    let spoke = said.text.is_some_and(|text| !text.trim().is_empty());
    u64::from(spoke || !said.reasoning.1.is_empty() || !said.calls.is_empty())
}

/// An error's `code` and `type`, else its message.
fn error_name(error: &Value) -> String {
    let field = |key: &str| match error.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let names: Vec<String> = ["code", "type"].into_iter().filter_map(field).collect();
    match error.as_str() {
        Some(text) => text.to_owned(),
        None if names.is_empty() => field("message").unwrap_or_else(|| "unnamed".into()),
        None => names.join(" "),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Token counts by an API's names for what went in, what came out, and the details of that.
fn usage(value: &Value, [input, output, details]: [&str; 3]) -> Option<Usage> {
    let prompt_tokens = value[input].as_u64().unwrap_or(0);
    let completion_tokens = value[output].as_u64()?;
    let sum = prompt_tokens.saturating_add(completion_tokens);
    Some(Usage {
        prompt_tokens,
        completion_tokens,
        total_tokens: value["total_tokens"].as_u64().unwrap_or(0).max(sum),
        reasoning_tokens: value[details]["reasoning_tokens"].as_u64(),
    })
}

/// An event of a stream whose events have names: its type is its name.
fn named_event(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", text(&event["type"]))
}

/// What a mock model says in one reply.
#[derive(Clone, Debug)]
pub struct Said<'a> {
    pub model: &'a str,
    /// Number of the reply, for the ids in it.
    pub number: usize,
    /// Reasoning in pieces, under one name.
    pub reasoning: (ReasoningField, Vec<&'a str>),
    pub text: Option<&'a str>,
    /// Pieces of tool calls: the call's index, its name (empty after the first piece), and arguments.
    pub calls: Vec<(usize, &'a str, String)>,
    pub end: End,
}

/// How what a mock model says ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Reason,
    /// Because the token budget is used up.
    Length,
    /// Because the model or its server declines.
    Refused,
    /// Without a reason.
    Nothing,
    /// With an error event of this kind in a stream.
    Error(&'static str),
}

/// A request that may be passed on.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardedRequest {
    /// The body as it is passed on.
    pub body: Vec<u8>,
    pub stream: bool,
    pub messages: u64,
    /// Names of the tools, sorted.
    pub tools: Vec<String>,
    /// Headers that go on, names in lower case.
    pub headers: Vec<(&'static str, String)>,
}

/// Reads a request's body strictly, for the one admitted model, and writes it anew. Its headers are those that are sent
/// anyway.
pub fn read_request(
    api: &dyn WireApi,
    body: &[u8],
    admitted_model: &str,
) -> Result<ForwardedRequest, Refusal> {
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err((RequestRefusal::BadEncoding, "a byte-order mark".into()));
    }
    if std::str::from_utf8(body).is_err() {
        return Err((RequestRefusal::BadEncoding, "the body is not UTF-8".into()));
    }
    let (value, body) = json::read_anew(body).map_err(|what| (RequestRefusal::BadJson, what))?;
    if !value.is_object() {
        return Err((RequestRefusal::BadJson, "not a JSON object".into()));
    }
    let other = |what: &str| Err((RequestRefusal::OtherModel, what.to_owned()));
    match value.get("model").and_then(Value::as_str) {
        Some(model) if model == admitted_model => {}
        Some(_) => return other("another model than the admitted one"),
        None => return other("no model"),
    }
    check_keys(api.keys(), &value, "")?;
    let (messages, mut tools) = api.outline(&value);
    tools.sort();
    let headers = passed_headers(api, &[])?;
    Ok(ForwardedRequest { body, stream: value["stream"] == true, messages, tools, headers })
}
