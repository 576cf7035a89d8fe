//! The models of the validators: each plays the fixture's script, and misbehaves in exactly one named way.

use std::time::Duration;

use serde_json::{Value, json};

use crate::proxy::request::ChatRequest;
use crate::proxy::upstream::{ScriptedModel, ScriptedReply};
use crate::record::fixture::Script;
use crate::run::engine::scripted::Scripted;

/// How a stand-in for a model server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Plays,
    /// Plays the script; each reply begins with reasoning and takes its time before the content.
    Delayed,
    /// Answers the probe, and then never again.
    Silent,
    /// Answers with reasoning and nothing else.
    ReasoningOnly,
    /// Answers with HTTP 401.
    Unauthorized,
    /// Answers with HTTP 500.
    ServerError,
    /// Ends the stream half-way.
    Cut,
    /// Answers with white space.
    Empty,
    /// Answers with a tool call whose arguments are no JSON.
    BadTool,
    ListsAnother,
    /// Answers the probe, and then with text that holds no result.
    NoResult,
    Gone,
}

/// Pause before each piece of a delayed reply.
const DELAY: Duration = Duration::from_millis(25);
/// Pieces of reasoning before a delayed reply's content.
const THOUGHTS: usize = 4;

pub struct Misbehaving {
    plays: Scripted,
    model: String,
    behaviour: Behaviour,
}

impl Misbehaving {
    /// One that plays `script` under the id `model` as far as its behaviour lets it.
    pub fn new(behaviour: Behaviour, script: Script, model: &str) -> Self {
        Self { plays: Scripted::new(script, model), model: model.to_owned(), behaviour }
    }

    fn chunk(&self, delta: Value, finish: Option<&str>) -> Value {
        json!({
            "id": "stand-in", "object": "chat.completion.chunk", "created": 0, "model": self.model,
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        })
    }

    /// A whole stream of one delta.
    fn one(&self, delta: Value, finish: &str) -> ScriptedReply {
        ScriptedReply::stream([self.chunk(delta, None), self.chunk(json!({}), Some(finish))])
    }
}

impl ScriptedModel for Misbehaving {
    fn reply(&mut self, exchange: u32, request: &ChatRequest) -> ScriptedReply {
        let error = |kind: &str| json!({ "error": { "message": "no", "type": kind } });
        match self.behaviour {
            Behaviour::Plays | Behaviour::ListsAnother | Behaviour::Gone => {
                self.plays.reply(exchange, request)
            }
            Behaviour::Delayed => {
                let mut reply = self.plays.reply(exchange, request);
                let thought = self.chunk(json!({ "reasoning": "let me think. " }), None);
                let thought = format!("data: {thought}\n\n").into_bytes();
                reply.pieces.splice(0..0, std::iter::repeat_n(thought, THOUGHTS));
                reply.pause = DELAY;
                reply
            }
            Behaviour::Silent | Behaviour::NoResult if exchange == 0 => {
                self.plays.reply(exchange, request)
            }
            Behaviour::Silent => {
                let hour = Duration::from_secs(3600);
                ScriptedReply { pause: hour, ..self.plays.reply(exchange, request) }
            }
            Behaviour::NoResult => self.one(json!({ "content": "All done." }), "stop"),
            Behaviour::ReasoningOnly => self.one(json!({ "reasoning": "let me think" }), "stop"),
            Behaviour::Unauthorized => ScriptedReply::json(401, &error("invalid_api_key")),
            Behaviour::ServerError => ScriptedReply::json(500, &error("internal_error")),
            Behaviour::Cut => {
                let mut reply = self.one(json!({ "content": "I begin" }), "stop");
                reply.pieces.truncate(1);
                reply.whole = false;
                reply
            }
            Behaviour::Empty => self.one(json!({ "content": " \n" }), "stop"),
            Behaviour::BadTool => {
                let call = json!({ "index": 0, "id": "t0", "type": "function",
                    "function": { "name": "read", "arguments": "{\"path\": " } });
                self.one(json!({ "tool_calls": [call] }), "tool_calls")
            }
        }
    }
}
