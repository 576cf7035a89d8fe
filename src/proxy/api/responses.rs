//! OpenAI's Responses, as vLLM, LiteLLM and others serve them too.

use serde_json::{Value, json};

use super::shape::Shape::*;
use super::shape::{FUNCTION, Key, ObjectShape, may, must};
use super::{End, Finish, Said, WireApi, error_name, named_event, spent, text, usage};
use crate::proxy::reply::{Part, Reply};
use crate::proxy::sse::Event;
use crate::record::admission::Api;
use crate::record::json;
use crate::record::wire::ReasoningField;

#[derive(Debug)]
pub struct Responses;

/// What passes. `store: true`, `previous_response_id`, `conversation`, `prompt` and `background` would keep something
/// at the server or take something that is kept there; a tool that is neither a function nor custom would be run by it.
const KEYS: &[Key] = &[
    must("model", Text),
    must("input", Either(&[Text, List(&KindsOr(ITEMS))])),
    may("stream", Bool),
    may("stream_options", Object(&[may("include_obfuscation", Bool)])),
    may("store", Just("false")),
    may("instructions", Text),
    may("max_output_tokens", Number),
    may("tools", List(&Kinds(TOOLS))),
    may(
        "tool_choice",
        Either(&[
            Word(&["none", "auto", "required"]),
            Kinds(&[("function", &[must("name", Text)]), ("custom", &[must("name", Text)])]),
        ]),
    ),
    may("parallel_tool_calls", Bool),
    may("max_tool_calls", Number),
    may("include", List(&Word(&["reasoning.encrypted_content"]))),
    may(
        "reasoning",
        Object(&[may("effort", Text), may("summary", Text), may("generate_summary", Text)]),
    ),
    may(
        "text",
        Object(&[
            may("verbosity", Text),
            may(
                "format",
                Kinds(&[
                    ("text", &[]),
                    ("json_object", &[]),
                    (
                        "json_schema",
                        &[
                            must("name", Text),
                            may("description", Text),
                            must("schema", Map(&Any)),
                            may("strict", Bool),
                        ],
                    ),
                ]),
            ),
        ]),
    ),
    may("metadata", Map(&Text)),
    may("client_metadata", Map(&Text)),
    may("prompt_cache_key", Text),
    may("prompt_cache_retention", Text),
    may("safety_identifier", Text),
    may("service_tier", Text),
    may("temperature", Number),
    may("top_logprobs", Number),
    may("top_p", Number),
    may("truncation", Word(&["auto", "disabled"])),
    may("user", Text),
];

/// What a conversation is made of. An item that names another one would be taken from what the server keeps.
const ITEMS: &[ObjectShape] = &[
    (
        "message",
        &[
            must("role", Word(&["system", "developer", "user", "assistant"])),
            must("content", Either(&[Text, List(&Kinds(PARTS))])),
            may("id", Text),
            may("status", Text),
            may("phase", Text),
        ],
    ),
    (
        "function_call",
        &[
            must("call_id", Text),
            must("name", Text),
            must("arguments", Text),
            may("id", Text),
            may("status", Text),
        ],
    ),
    ("function_call_output", OUTPUT),
    (
        "custom_tool_call",
        &[
            must("call_id", Text),
            must("name", Text),
            must("input", Text),
            may("id", Text),
            may("status", Text),
        ],
    ),
    ("custom_tool_call_output", OUTPUT),
    (
        "reasoning",
        &[
            may("id", Text),
            may("summary", List(&Kinds(THOUGHTS))),
            may("content", List(&Kinds(THOUGHTS))),
            may("encrypted_content", Text),
            may("status", Text),
        ],
    ),
];

const OUTPUT: &[Key] = &[
    must("call_id", Text),
    must("output", Either(&[Text, List(&Kinds(PARTS))])),
    may("id", Text),
    may("name", Text),
    may("status", Text),
];

const PARTS: &[ObjectShape] = &[
    ("input_text", &[must("text", Text)]),
    (
        "output_text",
        &[
            must("text", Text),
            may("annotations", List(&Map(&Any))),
            may("logprobs", List(&Map(&Any))),
        ],
    ),
    ("refusal", &[must("refusal", Text)]),
];

const THOUGHTS: &[ObjectShape] = &[
    ("summary_text", &[must("text", Text)]),
    ("reasoning_text", &[must("text", Text)]),
    ("text", &[must("text", Text)]),
];

const TOOLS: &[ObjectShape] = &[
    ("function", FUNCTION),
    (
        "custom",
        &[
            must("name", Text),
            may("description", Text),
            may(
                "format",
                Kinds(&[
                    ("text", &[]),
                    ("grammar", &[must("syntax", Text), must("definition", Text)]),
                ]),
            ),
        ],
    ),
];

impl WireApi for Responses {
    fn api(&self) -> Api {
        Api::OpenaiResponses
    }

    fn path(&self) -> &'static str {
        "/responses"
    }

    fn keys(&self) -> &'static [Key] {
        KEYS
    }

    fn outline(&self, request: &Value) -> (u64, Vec<String>) {
        let items = request["input"].as_array().map_or(1, Vec::len);
        let tools = request["tools"].as_array().into_iter().flatten();
        let name = |tool: &Value| text(&tool["name"]).to_owned();
        (items as u64, tools.map(name).collect())
    }

    fn event(&self, event: Event<'_>, reply: &mut Reply) {
        // Some servers end the stream as one of chat completions.
        if event.data.trim_ascii() == b"[DONE]" {
            return;
        }
        match json::read(event.data) {
            // Clients read on after the last event.
            Ok(_) if reply.is_done() => reply.malformed(),
            Ok(value) if value.is_object() => read_event(event.name, &value, reply),
            _ => reply.malformed(),
        }
    }

    fn body(&self, value: &Value, reply: &mut Reply) {
        if !value["error"].is_null() {
            return reply.error(&error_name(&value["error"]));
        }
        if value["object"] != "response" {
            return reply.malformed();
        }
        for (at, item) in items(value).iter().enumerate() {
            whole_item(at as u64, item, reply);
        }
        ended(value, reply);
    }

    fn finish(&self, reason: &str) -> Finish {
        match reason {
            "completed" => Finish::Done,
            "max_output_tokens" => Finish::Length,
            "refusal" | "content_filter" => Finish::Refused,
            _ => Finish::Unknown,
        }
    }

    fn question(&self, model: &str, words: &str, max_tokens: u32) -> Value {
        let question = json!({"type": "input_text", "text": words});
        json!({
            "model": model,
            "input": [{"role": "user", "content": [question]}],
            "max_output_tokens": max_tokens,
            "store": false,
            "stream": true,
        })
    }

    fn as_for_one_that_reasons(&self, mut request: Value) -> Option<Value> {
        let system = json!({"role": "developer", "content": "You do what you are asked."});
        request["input"].as_array_mut()?.insert(0, system);
        request["reasoning"] = json!({"effort": "none"});
        Some(request)
    }

    fn tool(&self, name: &str, description: &str, parameters: Value) -> Value {
        json!({"type": "function", "name": name, "description": description,
            "parameters": parameters, "strict": false})
    }

    fn error(&self, kind: &str, message: &str) -> Value {
        json!({"error": {"message": message, "type": kind, "code": kind, "param": null}})
    }

    fn render(&self, said: &Said<'_>, stream: bool) -> Vec<String> {
        let response = |status: Option<&str>, output: Value| {
            json!({"id": format!("resp_{}", said.number), "object": "response", "created_at": 0,
                "model": said.model, "status": status, "output": output, "error": null,
                "incomplete_details": null})
        };
        let spent = spent(said);
        let usage = json!({"input_tokens": 1, "output_tokens": spent, "total_tokens": 1 + spent,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0}});
        let mut events = vec![
            json!({"type": "response.created", "response": response(Some("in_progress"), json!([]))}),
        ];
        let mut output: Vec<Value> = Vec::new();
        let added = |at: usize, item: &Value| json!({"type": "response.output_item.added", "output_index": at, "item": item});
        let ends = |at: usize, item: &Value| json!({"type": "response.output_item.done", "output_index": at, "item": item});
        if !said.reasoning.1.is_empty() {
            let id = format!("rs_{}", said.number);
            let mut item = json!({"type": "reasoning", "id": id, "summary": []});
            events.push(added(0, &item));
            for text in &said.reasoning.1 {
                events.push(json!({"type": "response.reasoning_text.delta", "output_index": 0,
                    "item_id": id, "content_index": 0, "delta": text}));
            }
            item["content"] =
                json!([{"type": "reasoning_text", "text": said.reasoning.1.concat()}]);
            events.push(ends(0, &item));
            output.push(item);
        }
        if let Some(text) = said.text {
            let (at, id) = (output.len(), format!("msg_{}", said.number));
            let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
            let mut item = json!({"type": "message", "id": id, "role": "assistant",
                "status": "in_progress", "content": []});
            events.push(added(at, &item));
            let place = |mut event: Value| {
                event["output_index"] = at.into();
                event["item_id"] = id.clone().into();
                event["content_index"] = 0.into();
                event
            };
            events.extend([
                place(json!({"type": "response.content_part.added", "part": part("")})),
                place(json!({"type": "response.output_text.delta", "delta": text})),
                place(json!({"type": "response.output_text.done", "text": text})),
                place(json!({"type": "response.content_part.done", "part": part(text)})),
            ]);
            item["status"] = "completed".into();
            item["content"] = json!([part(text)]);
            events.push(ends(at, &item));
            output.push(item);
        }
        let first = output.len();
        for (index, name, arguments) in &said.calls {
            let at = first + index;
            if !name.is_empty() {
                let item = json!({"type": "function_call", "id": format!("fc_{}_{index}", said.number),
                    "call_id": format!("call_{}_{index}", said.number), "name": name,
                    "arguments": "", "status": "in_progress"});
                events.push(added(at, &item));
                output.push(item);
            }
            let all = text(&output[at]["arguments"]).to_owned() + arguments;
            output[at]["arguments"] = all.into();
            events
                .push(json!({"type": "response.function_call_arguments.delta", "output_index": at,
                "item_id": output[at]["id"], "delta": arguments}));
        }
        for (at, item) in output.iter_mut().enumerate().skip(first) {
            item["status"] = "completed".into();
            events
                .push(json!({"type": "response.function_call_arguments.done", "output_index": at,
                "item_id": item["id"], "arguments": item["arguments"]}));
            events.push(ends(at, item));
        }
        let (status, why) = match said.end {
            End::Reason => (Some("completed"), None),
            End::Length => (Some("incomplete"), Some("max_output_tokens")),
            End::Refused => (Some("incomplete"), Some("content_filter")),
            End::Nothing | End::Error(_) => (None, None),
        };
        let mut whole = response(status, json!(output));
        whole["usage"] = usage;
        if let Some(why) = why {
            whole["incomplete_details"] = json!({"reason": why});
        }
        if !stream {
            return vec![whole.to_string()];
        }
        let last = if why.is_some() { "response.incomplete" } else { "response.completed" };
        events.push(match said.end {
            End::Error(kind) => json!({"type": "error", "code": kind, "message": "no"}),
            _ => json!({"type": last, "response": whole}),
        });
        let line = |(at, mut event): (usize, Value)| {
            event["sequence_number"] = at.into();
            named_event(&event)
        };
        events.into_iter().enumerate().map(line).collect()
    }
}

fn items(response: &Value) -> &[Value] {
    response["output"].as_array().map_or(&[], Vec::as_slice)
}

fn read_event(name: &[u8], value: &Value, reply: &mut Reply) {
    let Some(kind) = value["type"].as_str() else {
        match value.get("error").filter(|error| !error.is_null()) {
            Some(error) => reply.error(&error_name(error)),
            None => reply.malformed(),
        }
        return;
    };
    // Clients go by the one or by the other.
    if !name.is_empty() && name != kind.as_bytes() {
        return reply.malformed();
    }
    // Servers may leave the number out; then it is the item that began last.
    let index = value["output_index"].as_u64().or_else(|| reply.last_part()).unwrap_or(0);
    match kind {
        "error" => {
            reply.error(&error_name(value.get("error").filter(|e| e.is_object()).unwrap_or(value)))
        }
        "response.failed" => {
            let error = &value["response"]["error"];
            reply.error(&if error.is_null() { "failed".into() } else { error_name(error) });
        }
        "response.created" | "response.queued" | "response.in_progress" => {
            named(&value["response"], reply);
        }
        "response.output_item.added" => {
            let next = reply.last_part().map_or(0, |last| last + 1);
            open(value["output_index"].as_u64().unwrap_or(next), &value["item"], reply);
        }
        "response.output_item.done" => {
            let next = reply.last_part().map_or(0, |last| last + 1);
            let at = match value["output_index"].as_u64() {
                Some(at) => at,
                None if reply.part(index).is_none() => next,
                None => index,
            };
            whole_item(at, &value["item"], reply);
        }
        "response.output_text.delta" => match reply.part(index) {
            Some(Part::Text) => reply.content_of(index, text(&value["delta"])),
            _ => reply.malformed(),
        },
        "response.refusal.delta" => reply.refused(text(&value["delta"])),
        "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
            reply.reasoning(ReasoningField::Reasoning, text(&value["delta"]));
        }
        "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
            match reply.part(index) {
                Some(Part::Call) => reply.tool_call(index, "", value["delta"].as_str()),
                _ => reply.malformed(),
            }
        }
        "response.function_call_arguments.done" => {
            reply.close_call(index, value["arguments"].as_str());
        }
        "response.custom_tool_call_input.done" => reply.close_call(index, value["input"].as_str()),
        "response.completed" | "response.incomplete" | "response.done" => {
            ended(&value["response"], reply);
            reply.done();
        }
        _ => {}
    }
}

fn named(response: &Value, reply: &mut Reply) {
    if let Some(model) = response["model"].as_str() {
        reply.model(model);
    }
}

/// What an item's `type` says that it is.
fn part(item: &Value) -> Part {
    match text(&item["type"]) {
        "message" => Part::Text,
        "reasoning" => Part::Thought,
        "function_call" | "custom_tool_call" => Part::Call,
        _ => Part::Other,
    }
}

fn open(at: u64, item: &Value, reply: &mut Reply) {
    reply.open(at, part(item));
    match part(item) {
        Part::Call => {
            let free = item["type"] == "custom_tool_call";
            reply.open_call(at, text(&item["name"]), free);
        }
        // Hidden reasoning has an item without a text.
        Part::Thought => reply.reasoning(ReasoningField::Reasoning, ""),
        Part::Text | Part::Other => {}
    }
}

/// An item as a whole: the end of one that had begun, or all of it at once.
fn whole_item(at: u64, item: &Value, reply: &mut Reply) {
    let begun = reply.part(at);
    match begun {
        None => open(at, item, reply),
        Some(begun) if begun != part(item) => return reply.malformed(),
        Some(_) => {}
    }
    let texts = |key: &str| {
        let parts = item[key].as_array().into_iter().flatten();
        parts.map(|part| text(&part["text"])).collect::<String>()
    };
    match part(item) {
        Part::Text => {
            let parts = item["content"].as_array().into_iter().flatten();
            for words in parts.filter_map(|part| part["refusal"].as_str()) {
                reply.refused(words);
            }
            reply.whole_content_of(at, &texts("content"));
        }
        Part::Thought if begun.is_none() => {
            reply.reasoning(ReasoningField::Reasoning, &(texts("summary") + &texts("content")));
        }
        Part::Call => {
            let input = if item["type"] == "custom_tool_call" { "input" } else { "arguments" };
            reply.close_call(at, item[input].as_str());
            if item["status"] == "incomplete" {
                reply.cut_call(at);
            }
        }
        Part::Thought | Part::Other => {}
    }
}

/// The response as its last event or its body has it.
fn ended(response: &Value, reply: &mut Reply) {
    named(response, reply);
    if !response["error"].is_null() {
        reply.error(&error_name(&response["error"]));
    }
    let counts = ["input_tokens", "output_tokens", "output_tokens_details"];
    if let Some(usage) = usage(&response["usage"], counts) {
        reply.usage(usage);
    }
    match response["status"].as_str() {
        Some("incomplete") => {
            let why = response["incomplete_details"]["reason"].as_str();
            reply.finish_reason(why.unwrap_or("incomplete"));
        }
        Some(status) => reply.finish_reason(status),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::api::list::tests::{
        Read, check, is_all_of_it, read_stream, refused, stream, streams, wholes,
    };
    use crate::record::wire::{ReplyClass, RequestRefusal};

    fn read(events: &[Value]) -> Read {
        read_stream(&Responses, &stream(events))
    }

    fn created() -> Value {
        json!({"type": "response.created", "response": {"model": "m", "status": "in_progress"}})
    }

    fn completed() -> Value {
        json!({"type": "response.completed", "response": {"model": "m", "status": "completed",
            "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7,
                "output_tokens_details": {"reasoning_tokens": 2}}}})
    }

    fn incomplete(reason: &str) -> Value {
        json!({"type": "response.incomplete", "response": {"model": "m", "status": "incomplete",
            "incomplete_details": {"reason": reason}}})
    }

    fn added(at: u64, item: Value) -> Value {
        json!({"type": "response.output_item.added", "output_index": at, "item": item})
    }

    fn ends(at: u64, item: Value) -> Value {
        json!({"type": "response.output_item.done", "output_index": at, "item": item})
    }

    fn delta(kind: &str, at: u64, text: &str) -> Value {
        json!({"type": format!("response.{kind}.delta"), "output_index": at, "delta": text})
    }

    fn message(text: &str) -> Value {
        json!({"type": "message", "content": [{"type": "output_text", "text": text}]})
    }

    fn call(arguments: &str) -> Value {
        json!({"type": "function_call", "call_id": "c", "name": "read", "arguments": arguments})
    }

    fn saying(text: &str) -> Vec<Value> {
        vec![
            created(),
            added(0, message("")),
            delta("output_text", 0, text),
            ends(0, message(text)),
        ]
    }

    fn with(mut events: Vec<Value>, more: &[Value]) -> Vec<Value> {
        events.extend_from_slice(more);
        events
    }

    fn calling(arguments: &str) -> Vec<Value> {
        vec![
            created(),
            added(0, call("")),
            delta("function_call_arguments", 0, arguments),
            json!({"type": "response.function_call_arguments.done", "output_index": 0, "arguments": arguments}),
            ends(0, call(arguments)),
        ]
    }

    #[test]
    fn what_was_said_is_read_and_counted() {
        let thought = json!({"type": "reasoning", "id": "rs", "summary": []});
        let events = [
            created(),
            added(0, thought.clone()),
            delta("reasoning_summary_text", 0, "hm ä"),
            ends(0, thought),
            added(1, message("")),
            delta("output_text", 1, "two\n"),
            delta("output_text", 1, "lines"),
            json!({"type": "response.output_text.done", "output_index": 1, "text": "two\nlines"}),
            ends(1, message("two\nlines")),
            added(2, call("")),
            delta("function_call_arguments", 2, "{\"a\""),
            delta("function_call_arguments", 2, ":1}"),
            json!({"type": "response.function_call_arguments.done", "output_index": 2, "arguments": "{\"a\":1}"}),
            ends(2, call("{\"a\":1}")),
            completed(),
        ];
        let got = read(&events);
        is_all_of_it(&got, 2, (3, 4));
        assert_eq!(got.facts.usage.unwrap().reasoning_tokens, Some(2));
        // As one server leaves out names, numbers and the start, and another ends as chat completions end.
        let bare = [
            json!({"type": "response.output_item.added", "item": call("")}),
            json!({"type": "response.output_item.done", "item": call("{}")}),
            completed(),
        ];
        let lines: String = bare.iter().map(|value| format!("data: {value}\n\n")).collect();
        let got = read_stream(&Responses, &(lines + "data: [DONE]\n\n"));
        assert_eq!((got.class, got.facts.malformed), (ReplyClass::OkTools, 0), "{got:?}");
        // Items that come whole.
        let got = read(&[ends(0, message("hi")), ends(1, call("{}")), completed()]);
        assert_eq!((got.class, &*got.content), (ReplyClass::OkTools, "hi"), "{got:?}");
    }

    #[test]
    fn every_fault_has_its_class() {
        use ReplyClass::*;
        let begun = |item: Value, more: &[Value]| [&[created(), added(0, item)], more].concat();
        let thinks = |end: &Value| {
            begun(json!({"type": "reasoning"}), &[delta("reasoning_text", 0, "hm"), end.clone()])
        };
        let named = |name: &str| json!({"type": "response.completed", "response": {"model": name, "status": "completed"}});
        let status = |status: Value| json!({"type": "response.completed", "response": {"model": "m", "status": status}});
        let hi = |end: Value| with(saying("hi"), &[end]);
        // A call that its item says is incomplete is half, whatever it looks like.
        let told = |status: &str| {
            let mut item = call("{\"command\":\"ls\"}");
            item["status"] = status.into();
            vec![created(), ends(0, item), completed()]
        };
        let called = |arguments: &str| with(calling(arguments), &[completed()]);
        let cut = || incomplete("max_output_tokens");
        let declines =
            json!({"type": "message", "content": [{"type": "refusal", "refusal": "no"}]});
        let declined = [delta("refusal", 0, "I cannot"), ends(0, declines), completed()];
        let error = json!({"type": "error", "code": "server_error", "message": "no"});
        let failed = json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error"}}});
        let encrypted = json!({"type": "reasoning", "encrypted_content": "x"});
        let unnamed = json!({"type": "response.completed", "response": {"status": "completed"}});
        let refusals = vec![hi(incomplete("content_filter")), begun(message(""), &declined)];
        let errors = vec![hi(error), hi(failed), vec![json!({"error": {"message": "no"}})]];
        let hidden = vec![ends(0, encrypted), named("m")];
        let arguments = delta("function_call_arguments", 0, "{}");
        let cases: [(ReplyClass, &str, Vec<Vec<Value>>); 17] = [
            (OkText, "text", vec![hi(completed())]),
            (OkTools, "tools", vec![told("completed")]),
            (OkText, "length", vec![hi(cut())]),
            (MalformedToolCall, "cut_by_length", vec![with(calling("{\"a\":"), &[cut()])]),
            (
                MalformedToolCall,
                "arguments_not_json",
                vec![
                    called("{\"a\":"),
                    called(""),
                    called("[1]"),
                    told("incomplete"),
                    // Begun and never ended.
                    vec![added(0, call("")), arguments.clone(), completed()],
                ],
            ),
            (StreamTruncated, "missing_done", vec![saying("hi"), calling("{}")]),
            (StreamTruncated, "missing_finish_reason", vec![hi(status(Value::Null))]),
            (UpstreamError, "unknown_finish_reason", vec![hi(status("odd".into()))]),
            (UpstreamError, "refusal", refusals),
            (UpstreamError, "error_after_200", errors),
            (ResponseShapeUnavailable, "reasoning_only_no_close", vec![thinks(&completed())]),
            (ResponseShapeUnavailable, "reasoning_only_length", vec![thinks(&cut())]),
            (ResponseShapeUnavailable, "hidden_reasoning", vec![hidden]),
            (EmptyReply, "empty", vec![vec![created(), named("m")]]),
            (ModelMismatch, "other_model", vec![hi(named("n"))]),
            (ModelMismatch, "model_not_named", vec![vec![ends(0, message("hi")), unnamed]]),
            // Pieces and wholes that say different things, and text of nothing that began.
            (
                UpstreamError,
                "malformed_reply",
                vec![
                    vec![
                        added(0, message("")),
                        delta("output_text", 0, "a"),
                        ends(0, message("b")),
                        completed(),
                    ],
                    vec![added(0, call("")), arguments, ends(0, call("{\"a\":1}")), completed()],
                    vec![delta("output_text", 0, "a"), completed()],
                    vec![added(0, call("")), ends(0, message("x")), completed()],
                    with(hi(completed()), &[delta("output_text", 0, "more")]),
                    with(saying("hi"), &[json!(1), completed()]),
                ],
            ),
        ];
        for (class, detail, replies) in cases {
            streams(&Responses, class, detail, replies.iter().map(|events| stream(events)));
        }
        let lied = "event: response.completed\ndata: {\"type\":\"response.output_text.delta\"}\n\n";
        assert_eq!(read_stream(&Responses, lied).facts.malformed, 1);
    }

    #[test]
    fn a_reply_that_is_no_stream_has_the_same_classes() {
        use ReplyClass::*;
        let whole = |output: Value| {
            json!({"object": "response", "model": "m", "status": "completed", "output": output, "error": null,
                "usage": {"input_tokens": 1, "output_tokens": 1}})
        };
        let thought =
            json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]});
        let only = whole(json!([thought]));
        let cases = [
            (200, whole(json!([message("hi")])), OkText, "text"),
            (200, whole(json!([thought, call("{}")])), OkTools, "tools"),
            (200, whole(json!([call("{")])), MalformedToolCall, "arguments_not_json"),
            (200, only, ResponseShapeUnavailable, "reasoning_only_no_close"),
            (200, json!({"object": "chat.completion"}), UpstreamError, "malformed_reply"),
            (200, json!({"error": {"code": "x"}}), UpstreamError, "error_after_200"),
            (404, json!({"error": {"code": "model_not_found"}}), UpstreamError, "model_not_found"),
        ];
        wholes(&Responses, cases);
    }

    /// A conversation as Case and codex send it, reasoning included.
    fn of_agents() -> Value {
        let parameters = json!({"type": "object", "properties": {"command": {"type": "string"}}});
        json!({
            "model": "m",
            "input": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}],
                    "encrypted_content": "x"},
                {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "bash",
                    "arguments": "{\"command\":\"ls\"}"},
                {"type": "function_call_output", "call_id": "call_1", "output": "strings.py"},
                {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
                    "content": [{"type": "output_text", "text": "so", "annotations": []}]},
                {"type": "custom_tool_call", "call_id": "call_2", "name": "apply_patch", "input": "*** x"},
                {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "ok"}]},
            ],
            "stream": true,
            "store": false,
            "max_output_tokens": 4096,
            "instructions": "i",
            "tools": [
                {"type": "function", "name": "bash", "description": "d", "parameters": parameters, "strict": null},
                {"type": "custom", "name": "apply_patch", "description": "d",
                    "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
            ],
            "tool_choice": "auto",
            "parallel_tool_calls": true,
            "reasoning": {"effort": "low", "summary": "auto"},
            "text": {"verbosity": "low"},
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": "k",
        })
    }

    #[test]
    fn what_agents_send_passes_and_every_other_key_is_refused_by_name() {
        use RequestRefusal::*;
        let taken = check(&Responses, &of_agents()).unwrap();
        assert_eq!(taken.messages, 8);
        assert_eq!(taken.tools, ["apply_patch", "bash"]);
        assert!(check(&Responses, &json!({"model": "m", "input": "hi"})).is_ok());
        let (part, tool) = ("/input/1/content/0/type", "/tools/0/type");
        let mcp = json!({"type": "mcp", "server_label": "x"});
        let changes = [
            ("/store", json!(true), BadValue, "store is not false"),
            ("/previous_response_id", json!("r"), UnknownKey, "previous_response_id"),
            ("/background", json!(true), UnknownKey, "background"),
            ("/prompt", json!({"id": "p"}), UnknownKey, "prompt"),
            ("/conversation", json!("c"), UnknownKey, "conversation"),
            ("/input", json!(1), BadValue, "input is not a text or a list"),
            ("/include", json!(["file_search_call.results"]), BadValue, "include[0]"),
            ("/input/0/type", json!("item_reference"), BadValue, "input[0].type is not message or"),
            (part, json!("input_image"), BadValue, "content[0].type"),
            (part, json!("input_file"), BadValue, "content[0].type"),
            ("/input/1/content/0/file_id", json!("f"), UnknownKey, "content[0].file_id"),
            ("/input/3/server_label", json!("x"), UnknownKey, "input[3].server_label"),
            (tool, json!("web_search"), BadValue, "tools[0].type is not function or custom"),
            (tool, json!("mcp"), BadValue, "tools[0].type"),
            ("/tools/0/server_url", json!("http://x"), UnknownKey, "tools[0].server_url"),
            ("/tools/1/format/url", json!("x"), UnknownKey, "tools[1].format.url"),
            ("/reasoning/x", json!(1), UnknownKey, "reasoning.x"),
            ("/tool_choice", mcp, BadValue, "tool_choice.type"),
        ];
        refused(&Responses, &of_agents(), changes);
    }
}
