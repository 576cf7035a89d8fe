//! Anthropic's Messages, as LiteLLM, vLLM and others serve them too.

use serde_json::{Value, json};

use super::shape::Shape::*;
use super::shape::{Key, ObjectShape, may, must};
use super::{End, Finish, Header, Said, WireApi, error_name, named_event, spent, text};
use crate::proxy::reply::{Part, Reply};
use crate::proxy::sse::Event;
use crate::record::admission::Api;
use crate::record::json;
use crate::record::wire::{ReasoningField, Usage};

#[derive(Debug)]
pub struct Messages;

/// What passes. `container` and `mcp_servers` would reach beyond the model, and a tool of a type other than `custom`
/// would be run by the server or have a schema of the server's.
const KEYS: &[Key] = &[
    must("model", Text),
    must(
        "messages",
        List(&Object(&[
            must("role", Word(&["user", "assistant", "system"])),
            must("content", Either(&[Text, List(&Kinds(BLOCKS))])),
        ])),
    ),
    must("max_tokens", Number),
    may("stream", Bool),
    may("system", Either(&[Text, List(&Kinds(TEXT))])),
    may("tools", List(&KindsOr(TOOLS))),
    may(
        "tool_choice",
        Kinds(&[
            ("auto", &[may("disable_parallel_tool_use", Bool)]),
            ("any", &[may("disable_parallel_tool_use", Bool)]),
            ("none", &[]),
            ("tool", &[must("name", Text), may("disable_parallel_tool_use", Bool)]),
        ]),
    ),
    may(
        "thinking",
        Kinds(&[
            ("disabled", &[]),
            ("enabled", &[must("budget_tokens", Number), may("display", Text)]),
            ("adaptive", &[may("display", Text)]),
        ]),
    ),
    may("output_config", Object(&[may("effort", Text)])),
    may("metadata", Object(&[may("user_id", Text)])),
    may("service_tier", Word(&["auto", "standard_only"])),
    may("stop_sequences", List(&Text)),
    may("temperature", Number),
    may("top_k", Number),
    may("top_p", Number),
    CACHE,
];

const CACHE: Key =
    may("cache_control", Kinds(&[("ephemeral", &[may("ttl", Word(&["5m", "1h"]))])]));

const TEXT: &[ObjectShape] = &[("text", TEXT_KEYS)];
/// Citations come back with the text that they stand in.
const TEXT_KEYS: &[Key] = &[must("text", Text), may("citations", List(&Map(&Any))), CACHE];

/// What a message is made of. An image or a document could be an address that the server fetches, or a file that it keeps.
const BLOCKS: &[ObjectShape] = &[
    ("text", TEXT_KEYS),
    ("tool_use", &[must("id", Text), must("name", Text), must("input", Map(&Any)), CACHE]),
    (
        "tool_result",
        &[
            must("tool_use_id", Text),
            may("content", Either(&[Text, List(&Kinds(TEXT))])),
            may("is_error", Bool),
            CACHE,
        ],
    ),
    ("thinking", &[must("thinking", Text), must("signature", Text)]),
    ("redacted_thinking", &[must("data", Text)]),
];

const TOOLS: &[ObjectShape] = &[(
    "custom",
    &[
        must("name", Text),
        may("description", Text),
        must("input_schema", Map(&Any)),
        may("eager_input_streaming", Bool),
        may("strict", Bool),
        CACHE,
    ],
)];

/// What `anthropic-beta` may ask for: how a reply is streamed, cached or thought out, and nothing by which the server
/// fetches, keeps or runs something.
const BETAS: [&str; 12] = [
    "claude-code-20250219",
    "context-1m-2025-08-07",
    "effort-2025-11-24",
    "extended-cache-ttl-2025-04-11",
    "fine-grained-tool-streaming-2025-05-14",
    "interleaved-thinking-2025-05-14",
    "max-tokens-3-5-sonnet-2024-07-15",
    "output-128k-2025-02-19",
    "prompt-caching-2024-07-31",
    "prompt-caching-scope-2026-01-05",
    "redact-thinking-2026-02-12",
    "token-efficient-tools-2025-02-19",
];

const HEADERS: &[Header] = &[
    Header {
        name: "anthropic-version",
        words: "one date, as 2023-06-01",
        takes: is_date,
        otherwise: Some("2023-06-01"),
    },
    Header {
        name: "anthropic-beta",
        words: "one list of betas that are passed on (docs/wire-apis.md)",
        takes: |value| value.split(',').all(|beta| BETAS.contains(&beta.trim())),
        otherwise: None,
    },
];

fn is_date(value: &str) -> bool {
    let is = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    value.len() == 10 && value.bytes().enumerate().all(is)
}

impl WireApi for Messages {
    fn api(&self) -> Api {
        Api::AnthropicMessages
    }

    fn path(&self) -> &'static str {
        "/messages"
    }

    fn list(&self) -> Option<&'static str> {
        // Otherwise the list comes in pages of twenty.
        Some("/models?limit=1000")
    }

    fn adds_version(&self) -> bool {
        true
    }

    fn key_header(&self) -> &'static str {
        "x-api-key"
    }

    fn headers(&self) -> &'static [Header] {
        HEADERS
    }

    fn keys(&self) -> &'static [Key] {
        KEYS
    }

    fn outline(&self, request: &Value) -> (u64, Vec<String>) {
        let list = |key: &str| request[key].as_array().into_iter().flatten();
        let name = |tool: &Value| text(&tool["name"]).to_owned();
        (list("messages").count() as u64, list("tools").map(name).collect())
    }

    fn event(&self, event: Event<'_>, reply: &mut Reply) {
        let value = match json::read(event.data) {
            Ok(value) if value.is_object() => value,
            _ => return reply.malformed(),
        };
        let kind = text(&value["type"]);
        // Clients go by the name of the event and pass over one that has none.
        if event.name != kind.as_bytes() {
            return reply.malformed();
        }
        match kind {
            "ping" => {}
            // Clients read on after the last event.
            _ if reply.is_done() => reply.malformed(),
            "error" => reply.error(&named_error(&value["error"])),
            _ => read_event(kind, &value, reply),
        }
    }

    fn body(&self, value: &Value, reply: &mut Reply) {
        if !value["error"].is_null() {
            return reply.error(&named_error(&value["error"]));
        }
        if value["type"] != "message" {
            return reply.malformed();
        }
        started(value, reply);
        for (at, block) in value["content"].as_array().into_iter().flatten().enumerate() {
            let at = at as u64;
            begin(at, block, reply);
            if block["type"] == "tool_use" {
                reply.tool_call(at, "", Some(&block["input"].to_string()));
                reply.close_call(at, None);
            }
        }
        if let Some(reason) = value["stop_reason"].as_str() {
            reply.finish_reason(reason);
        }
    }

    fn finish(&self, reason: &str) -> Finish {
        match reason {
            "end_turn" | "tool_use" | "stop_sequence" => Finish::Done,
            "max_tokens" | "model_context_window_exceeded" => Finish::Length,
            "refusal" => Finish::Refused,
            _ => Finish::Unknown,
        }
    }

    fn question(&self, model: &str, words: &str, max_tokens: u32) -> Value {
        json!({
            "model": model,
            "messages": [{"role": "user", "content": words}],
            "max_tokens": max_tokens,
            "stream": true,
        })
    }

    fn as_for_one_that_reasons(&self, mut request: Value) -> Option<Value> {
        request["thinking"] = json!({"type": "disabled"});
        Some(request)
    }

    fn tool(&self, name: &str, description: &str, parameters: Value) -> Value {
        json!({"name": name, "description": description, "input_schema": parameters})
    }

    fn error(&self, kind: &str, message: &str) -> Value {
        json!({"type": "error", "error": {"type": kind, "message": message}})
    }

    fn render(&self, said: &Said<'_>, stream: bool) -> Vec<String> {
        let spent = spent(said);
        let reason = match said.end {
            End::Nothing => None,
            End::Length => Some("max_tokens"),
            End::Refused => Some("refusal"),
            _ if said.calls.is_empty() => Some("end_turn"),
            _ => Some("tool_use"),
        };
        let mut message = json!({"type": "message", "id": format!("msg_{}", said.number),
            "role": "assistant", "model": said.model, "content": [], "stop_reason": null,
            "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 0}});
        let mut events = vec![json!({"type": "message_start", "message": message})];
        let mut blocks: Vec<Value> = Vec::new();
        let begins = |at: usize, block: &Value| json!({"type": "content_block_start", "index": at, "content_block": block});
        let delta = |at: usize, delta: Value| json!({"type": "content_block_delta", "index": at, "delta": delta});
        let ends = |at: usize| json!({"type": "content_block_stop", "index": at});
        if !said.reasoning.1.is_empty() {
            events.push(begins(0, &json!({"type": "thinking", "thinking": "", "signature": ""})));
            for text in &said.reasoning.1 {
                events.push(delta(0, json!({"type": "thinking_delta", "thinking": text})));
            }
            events.push(delta(0, json!({"type": "signature_delta", "signature": "mock"})));
            events.push(ends(0));
            let thought = said.reasoning.1.concat();
            blocks.push(json!({"type": "thinking", "thinking": thought, "signature": "mock"}));
        }
        if let Some(text) = said.text {
            let at = blocks.len();
            events.push(begins(at, &json!({"type": "text", "text": ""})));
            events.push(delta(at, json!({"type": "text_delta", "text": text})));
            events.push(ends(at));
            blocks.push(json!({"type": "text", "text": text}));
        }
        let first = blocks.len();
        let mut joined: Vec<String> = Vec::new();
        for (index, name, arguments) in &said.calls {
            let at = first + index;
            if !name.is_empty() {
                let block = json!({"type": "tool_use", "id": format!("toolu_{}_{index}", said.number),
                    "name": name, "input": {}});
                events.push(begins(at, &block));
                blocks.push(block);
                joined.push(String::new());
            }
            joined[*index].push_str(arguments);
            events.push(delta(at, json!({"type": "input_json_delta", "partial_json": arguments})));
        }
        events.extend((first..blocks.len()).map(ends));
        let usage = json!({"input_tokens": 1, "output_tokens": spent});
        if !stream {
            for (block, arguments) in blocks[first..].iter_mut().zip(&joined) {
                // Arguments that are no JSON cannot be said in this form.
                block["input"] = serde_json::from_str(arguments).unwrap_or(Value::Null);
            }
            message["content"] = blocks.into();
            (message["stop_reason"], message["usage"]) = (reason.into(), usage);
            return vec![message.to_string()];
        }
        match said.end {
            End::Error(kind) => events.push(self.error(kind, "no")),
            _ => events.push(json!({"type": "message_delta", "usage": usage,
                "delta": {"stop_reason": reason, "stop_sequence": null}})),
        }
        events.push(json!({"type": "message_stop"}));
        events.iter().map(named_event).collect()
    }
}

/// An error's type; the API has one for what does not exist, and says in words whether that is the model.
fn named_error(error: &Value) -> String {
    match text(&error["message"]).starts_with("model") {
        true if error["type"] == "not_found_error" => "model_not_found_error".into(),
        _ => error_name(error),
    }
}

fn read_event(kind: &str, value: &Value, reply: &mut Reply) {
    let index = value["index"].as_u64();
    match (kind, index) {
        ("message_start", _) => started(&value["message"], reply),
        ("content_block_start", Some(at)) => {
            let block = &value["content_block"];
            // Some clients take the arguments from here, and others only from the pieces.
            if block["type"] == "tool_use"
                && block["input"].as_object().is_some_and(|o| !o.is_empty())
            {
                reply.malformed();
            }
            begin(at, block, reply);
        }
        ("content_block_delta", Some(at)) => piece(at, &value["delta"], reply),
        ("content_block_stop", Some(at)) => match reply.part(at) {
            Some(Part::Call) => {
                reply.no_arguments(at);
                reply.close_call(at, None);
            }
            Some(_) => {}
            None => reply.malformed(),
        },
        ("message_delta", _) => {
            counted(&value["usage"], reply);
            if let Some(reason) = value["delta"]["stop_reason"].as_str() {
                reply.finish_reason(reason);
            }
        }
        ("message_stop", _) => reply.done(),
        ("content_block_start" | "content_block_delta" | "content_block_stop", None) => {
            reply.malformed();
        }
        _ => {}
    }
}

fn started(message: &Value, reply: &mut Reply) {
    if let Some(model) = message["model"].as_str() {
        reply.model(model);
    }
    counted(&message["usage"], reply);
}

fn begin(at: u64, block: &Value, reply: &mut Reply) {
    let part = match text(&block["type"]) {
        "text" => Part::Text,
        "thinking" | "redacted_thinking" => Part::Thought,
        "tool_use" => Part::Call,
        _ => Part::Other,
    };
    reply.open(at, part);
    match part {
        Part::Text => reply.content(text(&block["text"])),
        // Hidden reasoning has a block without a text.
        Part::Thought => reply.reasoning(ReasoningField::Reasoning, text(&block["thinking"])),
        Part::Call => reply.open_call(at, text(&block["name"]), false),
        Part::Other => {}
    }
}

fn piece(at: u64, delta: &Value, reply: &mut Reply) {
    match (text(&delta["type"]), reply.part(at)) {
        ("text_delta", Some(Part::Text)) => reply.content(text(&delta["text"])),
        ("thinking_delta", Some(Part::Thought)) => {
            reply.reasoning(ReasoningField::Reasoning, text(&delta["thinking"]));
        }
        ("input_json_delta", Some(Part::Call)) => {
            reply.tool_call(at, "", delta["partial_json"].as_str());
        }
        // Of a block that did not begin, or that is of another kind: clients pass it over.
        ("text_delta" | "thinking_delta" | "input_json_delta", part)
            if part != Some(Part::Other) =>
        {
            reply.malformed();
        }
        _ => {}
    }
}

/// Counts come at the start and again at the end; what was read from a cache or written to one stands beside the input.
fn counted(value: &Value, reply: &mut Reply) {
    let count = |key: &str| value[key].as_u64();
    let before = reply.used();
    if before.is_none() && count("output_tokens").is_none() {
        return;
    }
    let before = before.unwrap_or_default();
    let input = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
    let prompt_tokens = input.into_iter().filter_map(count).fold(0, u64::saturating_add);
    let prompt_tokens = prompt_tokens.max(before.prompt_tokens);
    let completion_tokens = count("output_tokens").unwrap_or(before.completion_tokens);
    reply.usage(Usage {
        prompt_tokens,
        completion_tokens,
        total_tokens: prompt_tokens.saturating_add(completion_tokens),
        reasoning_tokens: None,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::api::list::tests::{
        Read, check, is_all_of_it, read_stream, refused, stream, streams, wholes,
    };
    use crate::proxy::api::passed_headers;
    use crate::record::wire::{ReplyClass, RequestRefusal};

    fn read(events: &[Value]) -> Read {
        read_stream(&Messages, &stream(events))
    }

    fn start() -> Value {
        json!({"type": "message_start", "message": {"type": "message", "role": "assistant", "model": "m",
            "usage": {"input_tokens": 3, "cache_read_input_tokens": 10, "output_tokens": 1}}})
    }

    fn begins(at: u64, block: Value) -> Value {
        json!({"type": "content_block_start", "index": at, "content_block": block})
    }

    fn delta(at: u64, kind: &str, key: &str, text: &str) -> Value {
        json!({"type": "content_block_delta", "index": at, "delta": {"type": kind, key: text}})
    }

    fn said(at: u64, text: &str) -> Value {
        delta(at, "text_delta", "text", text)
    }

    fn part(at: u64, json: &str) -> Value {
        delta(at, "input_json_delta", "partial_json", json)
    }

    fn ends(at: u64) -> Value {
        json!({"type": "content_block_stop", "index": at})
    }

    fn reason(reason: Value) -> Value {
        json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 4}})
    }

    fn stop() -> Value {
        json!({"type": "message_stop"})
    }

    fn tool() -> Value {
        json!({"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}})
    }

    fn words() -> Value {
        json!({"type": "text", "text": ""})
    }

    fn saying(end: &str) -> Vec<Value> {
        vec![start(), begins(0, words()), said(0, "hi"), ends(0), reason(end.into()), stop()]
    }

    fn calling(pieces: &[&str], end: &str) -> Vec<Value> {
        let mut events = vec![start(), begins(0, tool())];
        events.extend(pieces.iter().map(|piece| part(0, piece)));
        events.extend([ends(0), reason(end.into()), stop()]);
        events
    }

    #[test]
    fn what_was_said_is_read_and_counted() {
        let events = [
            start(),
            begins(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, "thinking_delta", "thinking", "hm ä"),
            delta(0, "signature_delta", "signature", "s"),
            ends(0),
            json!({"type": "ping"}),
            begins(1, words()),
            said(1, "two\n"),
            said(1, "lines"),
            ends(1),
            begins(2, tool()),
            part(2, ""),
            part(2, "{\"a\""),
            part(2, ":1}"),
            ends(2),
            begins(3, json!({"type": "something_new"})),
            ends(3),
            reason("tool_use".into()),
            stop(),
            json!({"type": "ping"}),
        ];
        is_all_of_it(&read(&events), 2, (13, 4));
        // No arguments at all are an empty object.
        assert_eq!(read(&calling(&[], "tool_use")).class, ReplyClass::OkTools);
        // Without counts the reply is one without counts.
        let mut bare = saying("end_turn");
        bare[0]["message"]["usage"] = json!({});
        bare[4]["usage"] = json!({});
        let got = read(&bare);
        assert_eq!((got.class, got.facts.usage), (ReplyClass::OkText, None));
    }

    #[test]
    fn every_fault_has_its_class() {
        use ReplyClass::*;
        let changed = |change: &dyn Fn(&mut Vec<Value>)| {
            let mut events = saying("end_turn");
            change(&mut events);
            events
        };
        let without = |at: usize| changed(&|events| drop(events.remove(at)));
        let with = |at: usize, event: Value| changed(&|events| events.insert(at, event.clone()));
        let replaced = |at: usize, event: Value| changed(&|events| events[at] = event.clone());
        // A reply of these events between its start and its end.
        let around = |events: Vec<Value>, end: &str| {
            [vec![start()], events, vec![reason(end.into()), stop()]].concat()
        };
        let thinks = |end: &str| {
            let begins = begins(0, json!({"type": "thinking", "thinking": ""}));
            around(vec![begins, delta(0, "thinking_delta", "thinking", "hm"), ends(0)], end)
        };
        let error =
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "no"}});
        let other = json!({"type": "message_start", "message": {"model": "n", "usage": {}}});
        let unnamed = json!({"type": "message_start", "message": {"usage": {}}});
        let nameless = begins(0, json!({"type": "tool_use", "input": {}}));
        let twice = begins(0, json!({"type": "tool_use", "name": "read", "input": {"a": 1}}));
        let redacted = json!({"type": "redacted_thinking", "data": "x"});
        let silent = json!({"type": "message_start", "message": {"model": "m", "usage": {}}});
        let uncounted =
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}});
        let hidden = vec![silent.clone(), begins(0, redacted), ends(0), uncounted.clone(), stop()];
        let unreasoned = vec![without(4), replaced(4, reason(Value::Null))];
        let cases: [(ReplyClass, &str, Vec<Vec<Value>>); 16] = [
            (OkText, "text", vec![saying("end_turn"), saying("stop_sequence")]),
            (OkText, "length", vec![saying("max_tokens"), saying("model_context_window_exceeded")]),
            (UpstreamError, "refusal", vec![saying("refusal")]),
            (UpstreamError, "unknown_finish_reason", vec![saying("pause_turn")]),
            (MalformedToolCall, "cut_by_length", vec![calling(&["{\"a\":"], "max_tokens")]),
            (
                MalformedToolCall,
                "arguments_not_json",
                vec![
                    calling(&["{\"a\":"], "tool_use"),
                    calling(&["[1]"], "tool_use"),
                    around(vec![begins(0, tool()), part(0, "{}")], "tool_use"),
                ],
            ),
            (MalformedToolCall, "no_name", vec![around(vec![nameless, ends(0)], "tool_use")]),
            (StreamTruncated, "missing_done", vec![without(5)]),
            (StreamTruncated, "missing_finish_reason", unreasoned),
            (UpstreamError, "error_after_200", vec![with(4, error.clone()), vec![error]]),
            (ResponseShapeUnavailable, "reasoning_only_no_close", vec![thinks("end_turn")]),
            (ResponseShapeUnavailable, "reasoning_only_length", vec![thinks("max_tokens")]),
            (ResponseShapeUnavailable, "hidden_reasoning", vec![hidden]),
            (EmptyReply, "empty", vec![vec![silent, uncounted, stop()]]),
            (ModelMismatch, "other_model", vec![replaced(0, other)]),
            (ModelMismatch, "model_not_named", vec![replaced(0, unnamed)]),
        ];
        for (class, detail, replies) in cases {
            streams(&Messages, class, detail, replies.iter().map(|events| stream(events)));
        }
        // What clients pass over or take in two ways.
        let malformed = [
            without(1),
            with(2, begins(0, words())),
            with(3, part(0, "{}")),
            with(6, said(0, "more")),
            with(3, json!({"type": "content_block_stop"})),
            around(vec![twice, ends(0)], "tool_use"),
        ];
        let malformed = malformed.map(|events| stream(&events));
        streams(&Messages, UpstreamError, "malformed_reply", malformed);
        // An event without its name, or with another one.
        for name in ["", "event: ping\n"] {
            let body = format!("{name}data: {}\n\n", start());
            assert_eq!(read_stream(&Messages, &body).facts.malformed, 1, "{name}");
        }
        let done = "data: [DONE]\n\n";
        assert_eq!(read_stream(&Messages, done).facts.malformed, 1);
    }

    #[test]
    fn a_reply_that_is_no_stream_has_the_same_classes() {
        use ReplyClass::*;
        let whole = |content: Value, reason: &str| {
            json!({"type": "message", "model": "m", "content": content, "stop_reason": reason,
                "usage": {"input_tokens": 1, "output_tokens": 1}})
        };
        let words = json!({"type": "text", "text": "hi"});
        let thought = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
        let tool = json!({"type": "tool_use", "id": "t", "name": "read", "input": {"a": 1}});
        let odd = json!({"type": "tool_use", "id": "t", "name": "read", "input": "a"});
        let error = |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}});
        let only = whole(json!([thought]), "end_turn");
        let cases = [
            (200, whole(json!([words]), "end_turn"), OkText, "text"),
            (200, whole(json!([thought, tool]), "tool_use"), OkTools, "tools"),
            (200, whole(json!([odd]), "tool_use"), MalformedToolCall, "arguments_not_json"),
            (200, only, ResponseShapeUnavailable, "reasoning_only_no_close"),
            (200, json!({"object": "response"}), UpstreamError, "malformed_reply"),
            (200, error("overloaded_error", "x"), UpstreamError, "error_after_200"),
            (404, error("not_found_error", "model: x"), UpstreamError, "model_not_found"),
            (404, error("not_found_error", "Not Found"), UpstreamError, "http_404"),
            (529, error("overloaded_error", "Overloaded"), UpstreamError, "http_5xx"),
        ];
        wholes(&Messages, cases);
    }

    /// A conversation as Case sends it, reasoning included.
    fn of_case() -> Value {
        let schema = json!({"type": "object", "properties": {"command": {"type": "string"}}});
        let cache = json!({"type": "ephemeral", "ttl": "1h"});
        json!({
            "model": "m",
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": cache}]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "text", "text": "so"},
                    {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": {"command": "ls"}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "strings.py"}], "is_error": false, "cache_control": cache}]},
            ],
            "max_tokens": 4096,
            "stream": true,
            "system": [{"type": "text", "text": "s", "cache_control": cache}],
            "tools": [{"name": "bash", "description": "d", "input_schema": schema,
                "eager_input_streaming": true, "cache_control": cache}],
            "thinking": {"type": "disabled"},
        })
    }

    #[test]
    fn what_case_sends_passes_and_every_other_key_is_refused_by_name() {
        use RequestRefusal::*;
        let taken = check(&Messages, &of_case()).unwrap();
        assert_eq!((taken.messages, taken.tools), (3, vec!["bash".to_owned()]));
        assert_eq!(taken.headers, [("anthropic-version", "2023-06-01".to_owned())]);
        let source = json!({"type": "url", "url": "http://x"});
        let kind = "/messages/0/content/0/type";
        let inner = "/messages/2/content/0/content/0/type";
        let cached = "/messages/0/content/0/cache_control/type";
        let tool = "/tools/0/type";
        let changes = [
            ("/mcp_servers", json!([]), UnknownKey, "mcp_servers"),
            ("/container", json!("c"), UnknownKey, "container"),
            ("/max_tokens", Value::Null, BadValue, "max_tokens is not a number"),
            ("/thinking", json!({"type": "other"}), BadValue, "thinking.type"),
            ("/metadata", json!({"x": 1}), UnknownKey, "metadata.x"),
            ("/messages/0/role", json!("tool"), BadValue, "messages[0].role"),
            (kind, json!("image"), BadValue, "content[0].type is not text or"),
            (kind, json!("document"), BadValue, "content[0].type"),
            (kind, json!("container_upload"), BadValue, "content[0].type"),
            ("/messages/0/content/0/source", source, UnknownKey, "content[0].source"),
            (cached, json!("persistent"), BadValue, "cache_control.type"),
            (inner, json!("image"), BadValue, "content[0].type is not text"),
            (tool, json!("web_search_20250305"), BadValue, "tools[0].type is not custom"),
            (tool, json!("bash_20250124"), BadValue, "tools[0].type"),
            ("/tools/0/url", json!("http://x"), UnknownKey, "tools[0].url"),
            ("/tool_choice", json!({"type": "tool"}), BadValue, "tool_choice.name is missing"),
        ];
        refused(&Messages, &of_case(), changes);
    }

    #[test]
    fn its_headers_pass_with_known_values_and_no_others() {
        let pass = |sent: &[(&str, &str)]| {
            let sent: Vec<_> =
                sent.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            passed_headers(&Messages, &sent).map_err(|refusal| refusal.1)
        };
        let two = "interleaved-thinking-2025-05-14, fine-grained-tool-streaming-2025-05-14";
        let got = pass(&[
            ("anthropic-version", "2026-10-21"),
            ("anthropic-beta", two),
            ("anthropic-dangerous-direct-browser-access", "true"),
            ("user-agent", "x"),
        ]);
        let want = [("anthropic-version", "2026-10-21"), ("anthropic-beta", two)];
        assert_eq!(got, Ok(want.map(|(name, value)| (name, value.to_owned())).to_vec()));
        for (name, value) in [
            ("anthropic-version", "latest"),
            ("anthropic-version", "2023-06-01\t"),
            ("anthropic-beta", "mcp-client-2025-04-04"),
            ("anthropic-beta", "code-execution-2025-05-22,interleaved-thinking-2025-05-14"),
            ("anthropic-beta", "oauth-2025-04-20"),
            ("anthropic-beta", ""),
        ] {
            let why = pass(&[(name, value)]).unwrap_err();
            assert!(why.contains(name), "{why}");
        }
        assert!(pass(&[("anthropic-beta", two), ("anthropic-beta", two)]).is_err());
    }
}
