//! A model that answers from a fixture's script, inside admit: for rehearsals, which can never be a pass.

use serde_json::{Value, json};

use crate::proxy::request::ChatRequest;
use crate::proxy::upstream::{ScriptedModel, ScriptedReply};
use crate::record::fixture::{Script, Turn};

/// Plays a script: one turn a request, in order; the closing turn from then on.
pub struct Scripted {
    script: Script,
    model: String,
    next: usize,
}

impl Scripted {
    /// A model of this id at the script's beginning.
    pub fn new(script: Script, model: impl Into<String>) -> Self {
        Self { script, model: model.into(), next: 0 }
    }
}

impl ScriptedModel for Scripted {
    fn reply(&mut self, exchange: u32, request: &ChatRequest) -> ScriptedReply {
        // The probe asks with the number 0, before the run; it must not use up a turn.
        if exchange == 0 {
            return answer(&self.model, 0, &words("ready"), request.stream);
        }
        let turn = self.script.turns.get(self.next).unwrap_or(&self.script.closing);
        let reply = answer(&self.model, self.next, turn, request.stream);
        self.next += 1;
        reply
    }
}

fn words(text: &str) -> Turn {
    Turn { text: Some(text.to_owned()), tool_calls: Vec::new() }
}

/// A turn in the form of an OpenAI-compatible server.
fn answer(model: &str, number: usize, turn: &Turn, stream: bool) -> ScriptedReply {
    let calls: Vec<Value> = turn
        .tool_calls
        .iter()
        .enumerate()
        .map(|(index, call)| {
            json!({
                "index": index, "id": format!("call_{number}_{index}"), "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": Value::Object(call.arguments.clone()).to_string(),
                },
            })
        })
        .collect();
    let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
    // A script counts no tokens; the figures only keep clients going that need some.
    let usage = json!({ "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 });
    if !stream {
        let mut message = json!({ "role": "assistant", "content": turn.text });
        if !calls.is_empty() {
            message["tool_calls"] = Value::Array(calls);
        }
        let choice = json!({ "index": 0, "message": message, "finish_reason": finish });
        return ScriptedReply::json(
            200,
            &json!({
                "id": format!("scripted-{number}"), "object": "chat.completion", "created": 0,
                "model": model, "choices": [choice], "usage": usage,
            }),
        );
    }
    let chunk = |choices: Value| {
        json!({
            "id": format!("scripted-{number}"), "object": "chat.completion.chunk", "created": 0,
            "model": model, "choices": choices,
        })
    };
    let delta = |delta: Value, finish: Value| {
        chunk(json!([{ "index": 0, "delta": delta, "finish_reason": finish }]))
    };
    let mut chunks = vec![delta(json!({ "role": "assistant", "content": "" }), Value::Null)];
    if let Some(text) = &turn.text {
        chunks.push(delta(json!({ "content": text }), Value::Null));
    }
    if !calls.is_empty() {
        chunks.push(delta(json!({ "tool_calls": calls }), Value::Null));
    }
    chunks.push(delta(json!({}), finish.into()));
    let mut last = chunk(json!([]));
    last["usage"] = usage;
    chunks.push(last);
    ScriptedReply::stream(chunks)
}
