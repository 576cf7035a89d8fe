//! How a model is spoken to over HTTP: one file for each wire API, and everything that the proxy, the probe and the
//! mock model need to know of it. `docs/wire-apis.md` says how to add one.

pub mod chat;
pub mod shape;

use std::fmt;

use serde_json::Value;

use self::shape::{Key, check_keys};
use super::http1::Refusal;
use super::json;
use super::reply::Reply;
use crate::record::wire::{ReasoningField, RequestRefusal};

/// One way to speak to a model.
pub trait WireApi: fmt::Debug + Send + Sync {
    /// The one path that is served, below `/v1` at the proxy and below the endpoint's base URL.
    fn path(&self) -> &'static str;

    /// The header, in lower case, in which clients and servers of this API expect the key. `authorization` means a
    /// bearer token, which the proxy takes from the agent in every API.
    fn key_header(&self) -> &'static str;

    /// The keys of a request that pass on, each with the shape of its value. `model` and `stream` must be among them.
    fn keys(&self) -> &'static [Key];

    /// How many messages a request has, and the names of its tools.
    fn outline(&self, request: &Value) -> (u64, Vec<String>);

    /// Whether this event is the stream's own last one. It may come without the blank line that ends an event.
    fn ends_stream(&self, data: &[u8]) -> bool;

    /// Reads one event of a stream into `reply`.
    fn event(&self, data: &[u8], reply: &mut Reply);

    /// Reads a reply that is no stream into `reply`.
    fn body(&self, value: &Value, reply: &mut Reply);

    /// The `finish_reason` of a reply that the token budget ended.
    fn cut_short(&self) -> &'static str;

    /// The request that the probe makes: a short question, with this budget, as a stream with token counts.
    fn probe(&self, model: &str, max_tokens: u32) -> Value;

    /// An error object as this API's clients know it.
    fn error(&self, kind: &str, message: &str) -> Value;

    /// What a model said as the events of a stream, each with the blank line at its end, or as one body.
    fn render(&self, said: &Said<'_>, stream: bool) -> Vec<String>;
}

/// What a mock model says in one reply.
#[derive(Clone, Debug)]
pub struct Said<'a> {
    /// The model's name in the reply.
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
    /// With the reason.
    Reason,
    /// Without a reason.
    Nothing,
    /// With an error event of this kind in a stream.
    Error(&'static str),
}

/// A request that may be passed on.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The body as it is passed on.
    pub body: Vec<u8>,
    pub stream: bool,
    pub messages: u64,
    /// Names of the tools, sorted.
    pub tools: Vec<String>,
}

/// Reads a request's body strictly, for the one admitted model, and writes it anew.
pub fn read_request(
    api: &dyn WireApi,
    body: &[u8],
    admitted_model: &str,
) -> Result<Request, Refusal> {
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
    Ok(Request { body, stream: value["stream"] == true, messages, tools })
}
