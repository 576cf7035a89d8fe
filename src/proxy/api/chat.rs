//! OpenAI's chat completions, as vLLM, llama.cpp, SGLang, OpenRouter and others serve them too.

use serde_json::{Value, json};

use super::shape::Shape::*;
use super::shape::{FUNCTION, Key, may, must};
use super::{End, Finish, Said, WireApi, error_name, spent, text, usage};
use crate::proxy::reply::Reply;
use crate::proxy::sse::Event;
use crate::record::admission::Api;
use crate::record::json;
use crate::record::wire::ReasoningField;

#[derive(Debug)]
pub struct Chat;

/// What passes. The first keys are those that Case sends; the others are parameters of sampling and output that cannot
/// reach outside the model. `store: true` would keep the conversation, an image's URL would be fetched by the server,
/// a tool that is no function would be run by it, and a chat template takes any variable that a request names.
const KEYS: &[Key] = &[
    must("model", Text),
    must("messages", List(&Object(MESSAGE))),
    may("stream", Bool),
    may("stream_options", Object(&[may("include_usage", Bool)])),
    may("store", Just("false")),
    may("max_completion_tokens", Number),
    may("tools", List(&Object(TOOL))),
    may(
        "chat_template_kwargs",
        Object(&[
            may("enable_thinking", Bool),
            may("preserve_thinking", Bool),
            may("thinking", Bool),
        ]),
    ),
    may("enable_thinking", Bool),
    may("frequency_penalty", Number),
    may("include_reasoning", Bool),
    may("logit_bias", Map(&Number)),
    may("logprobs", Bool),
    may("max_tokens", Number),
    may("min_p", Number),
    may("n", Just("1")),
    may("parallel_tool_calls", Bool),
    may("presence_penalty", Number),
    may("prompt_cache_key", Text),
    may("reasoning_effort", Text),
    may("repetition_penalty", Number),
    may(
        "response_format",
        Object(&[
            must("type", Word(&["text", "json_object", "json_schema"])),
            may(
                "json_schema",
                Object(&[
                    must("name", Text),
                    may("description", Text),
                    may("schema", Map(&Any)),
                    may("strict", Bool),
                ]),
            ),
        ]),
    ),
    may("seed", Number),
    may("stop", Either(&[Text, List(&Text)])),
    may("temperature", Number),
    may(
        "tool_choice",
        Either(&[
            Word(&["none", "auto", "required"]),
            Object(&[
                must("type", Word(&["function"])),
                must("function", Object(&[must("name", Text)])),
            ]),
        ]),
    ),
    may("top_k", Number),
    may("top_logprobs", Number),
    may("top_p", Number),
];

/// One message. Case sends reasoning back under the name that it came under, and its details as the server made them.
const MESSAGE: &[Key] = &[
    must("role", Word(&["system", "developer", "user", "assistant", "tool"])),
    may("content", Either(&[Text, List(&Object(PART))])),
    may("name", Text),
    may("refusal", Text),
    may(
        "tool_calls",
        List(&Object(&[
            may("index", Number),
            must("id", Text),
            must("type", Word(&["function"])),
            must("function", Object(&[must("name", Text), must("arguments", Text)])),
        ])),
    ),
    may("tool_call_id", Text),
    may("reasoning", Text),
    may("reasoning_content", Text),
    may("reasoning_details", List(&Map(&Any))),
];

const PART: &[Key] =
    &[must("type", Word(&["text", "refusal"])), may("text", Text), may("refusal", Text)];

const TOOL: &[Key] = &[must("type", Word(&["function"])), must("function", Object(FUNCTION))];

const REASONING: [(&str, ReasoningField); 3] = [
    ("reasoning", ReasoningField::Reasoning),
    ("reasoning_content", ReasoningField::ReasoningContent),
    ("reasoning_details", ReasoningField::ReasoningDetails),
];

impl WireApi for Chat {
    fn api(&self) -> Api {
        Api::OpenaiChat
    }

    fn path(&self) -> &'static str {
        "/chat/completions"
    }

    fn keys(&self) -> &'static [Key] {
        KEYS
    }

    fn outline(&self, request: &Value) -> (u64, Vec<String>) {
        let list = |key: &str| request[key].as_array().into_iter().flatten();
        let name = |tool: &Value| text(&tool["function"]["name"]).to_owned();
        (list("messages").count() as u64, list("tools").map(name).collect())
    }

    fn ends_stream(&self, data: &[u8]) -> bool {
        data.trim_ascii() == b"[DONE]"
    }

    fn event(&self, event: Event<'_>, reply: &mut Reply) {
        if reply.is_done() {
            // Its clients read no further than `[DONE]`.
            return;
        }
        match json::read(event.data) {
            Ok(value) if value.is_object() => drop(object(&value, "delta", reply)),
            _ if self.ends_stream(event.data) => reply.done(),
            _ => reply.malformed(),
        }
    }

    fn body(&self, value: &Value, reply: &mut Reply) {
        if !object(value, "message", reply) {
            reply.malformed();
        }
    }

    fn finish(&self, reason: &str) -> Finish {
        match reason {
            "length" => Finish::Length,
            "content_filter" | "refusal" => Finish::Refused,
            // Servers have reasons of their own for a good end.
            _ => Finish::Done,
        }
    }

    fn question(&self, model: &str, words: &str, max_tokens: u32) -> Value {
        json!({
            "model": model,
            "messages": [{"role": "user", "content": words}],
            "max_tokens": max_tokens,
            "stream": true,
            "stream_options": {"include_usage": true},
        })
    }

    fn as_for_one_that_reasons(&self, mut request: Value) -> Option<Value> {
        let system = json!({"role": "developer", "content": "You do what you are asked."});
        request["messages"].as_array_mut()?.insert(0, system);
        Some(request)
    }

    fn tool(&self, name: &str, description: &str, parameters: Value) -> Value {
        json!({"type": "function", "function":
            {"name": name, "description": description, "parameters": parameters}})
    }

    fn error(&self, kind: &str, message: &str) -> Value {
        json!({"error": {"message": message, "type": kind, "code": kind}})
    }

    fn render(&self, said: &Said<'_>, stream: bool) -> Vec<String> {
        let id = format!("mock-{}", said.number);
        let finish = match said.end {
            End::Length => "length",
            End::Refused => "content_filter",
            _ if said.calls.is_empty() => "stop",
            _ => "tool_calls",
        };
        let (field, thoughts) = &said.reasoning;
        let spent = spent(said);
        let usage = json!({"prompt_tokens": 1, "completion_tokens": spent,
            "total_tokens": 1 + spent});
        let name = REASONING.iter().find(|(_, f)| f == field).map_or("reasoning", |(name, _)| name);
        let thought = |text: &str| match field {
            ReasoningField::ReasoningDetails => json!([{"type": "reasoning.text", "text": text}]),
            _ => text.into(),
        };
        let calls = said.calls.iter().map(|(index, name, arguments)| {
            let mut call = json!({"index": index, "function": {"arguments": arguments}});
            if !name.is_empty() {
                call["id"] = format!("call_{}_{index}", said.number).into();
                call["type"] = "function".into();
                call["function"]["name"] = (*name).into();
            }
            call
        });
        if !stream {
            let mut message = json!({"role": "assistant", "content": said.text});
            if !thoughts.is_empty() {
                message[name] = thought(&thoughts.concat());
            }
            if !said.calls.is_empty() {
                message["tool_calls"] = calls.collect();
            }
            let choice = json!({"index": 0, "message": message, "finish_reason": finish});
            let body = json!({"id": id, "object": "chat.completion", "created": 0,
                "model": said.model, "choices": [choice], "usage": usage});
            return vec![body.to_string()];
        }
        let chunk = |choices: Value| {
            json!({"id": id, "object": "chat.completion.chunk", "created": 0,
                "model": said.model, "choices": choices})
        };
        let delta = |delta: Value, finish: Value| {
            chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}]))
        };
        let mut chunks = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
        let thoughts = thoughts.iter().map(|text| json!({name: thought(text)}));
        let text = said.text.iter().map(|text| json!({"content": text}));
        let calls = calls.map(|call| json!({"tool_calls": [call]}));
        chunks.extend(thoughts.chain(text).chain(calls).map(|part| delta(part, Value::Null)));
        match said.end {
            End::Reason | End::Length | End::Refused => {
                chunks.push(delta(json!({}), finish.into()));
            }
            End::Nothing => {}
            End::Error(kind) => chunks.push(self.error(kind, "no")),
        }
        let mut last = chunk(json!([]));
        last["usage"] = usage;
        chunks.push(last);
        let data = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
        data.chain(["data: [DONE]\n\n".to_owned()]).collect()
    }
}

/// One chunk or one whole completion; `part` is where its text stands. `false` where it is no completion at all.
fn object(value: &Value, part: &str, reply: &mut Reply) -> bool {
    // vLLM wrote the error at the top level before it wrapped it.
    let old_form = value.get("object").is_some_and(|o| o == "error").then_some(value);
    if let Some(error) = value.get("error").filter(|e| !e.is_null()).or(old_form) {
        reply.error(&error_name(error));
        return true;
    }
    if let Some(model) = value["model"].as_str() {
        reply.model(model);
    }
    let counts = ["prompt_tokens", "completion_tokens", "completion_tokens_details"];
    if let Some(usage) = usage(&value["usage"], counts) {
        reply.usage(usage);
    }
    let choices = value["choices"].as_array().map_or(&[][..], Vec::as_slice);
    for (at, choice) in choices.iter().enumerate() {
        let index = choice["index"].as_u64().unwrap_or(at as u64);
        reply.choice(index);
        if index == 0 {
            // Some servers send an empty one before the end.
            if let Some(reason) = choice["finish_reason"].as_str().filter(|text| !text.is_empty()) {
                reply.finish_reason(reason);
            }
            said(&choice[part], reply);
        }
    }
    !choices.is_empty()
}

fn said(part: &Value, reply: &mut Reply) {
    reply.content(&text_of(&part["content"]));
    if let Some(words) = part["refusal"].as_str().filter(|words| !words.is_empty()) {
        reply.refused(words);
    }
    let mut first = true;
    for (name, field) in REASONING {
        let text = text_of(&part[name]);
        if text.is_empty() {
            continue;
        }
        // The same thought under two names is one thought.
        reply.reasoning(field, if std::mem::take(&mut first) { &text } else { "" });
    }
    for (at, piece) in part["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let index = piece["index"].as_u64().unwrap_or(at as u64);
        let name = text(&piece["function"]["name"]);
        let arguments = match &piece["function"]["arguments"] {
            Value::Null => Some(""),
            other => other.as_str(),
        };
        reply.tool_call(index, name, arguments);
    }
}

/// Text that stands as a string, or as a list of parts with `text`, `summary` or `data`.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| {
                ["text", "summary", "data"].iter().find_map(|key| part.get(key)?.as_str())
            })
            .collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
pub(in crate::proxy) mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::proxy::api::list::tests::{
        check, head, is_all_of_it, read, read_stream, refused, streams, wholes,
    };
    use crate::proxy::api::read_request;
    use crate::proxy::http1::ReplyHead;
    use crate::proxy::reader::ReplyReader;
    use crate::record::wire::{ReplyClass, RequestRefusal};

    pub(in crate::proxy) fn chunk(delta: &str, finish: &str) -> String {
        let finish = if finish.is_empty() { "null".into() } else { format!("\"{finish}\"") };
        format!(
            "data: {{\"id\":\"x\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    }

    const DONE: &str = "data: [DONE]\n\n";

    #[test]
    fn any_cut_of_the_bytes_gives_the_same_facts() {
        let body = [
            ": keep-alive\n\n",
            &chunk(r#"{"role":"assistant","content":""}"#, ""),
            &chunk(r#"{"reasoning":"hm ä"}"#, ""),
            &chunk(r#"{"content":"two\nlines"}"#, ""),
            &chunk(r#"{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"read","arguments":""}}]}"#, ""),
            &chunk(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}"#, ""),
            &chunk(r#"{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}"#, ""),
            &chunk("{}", "tool_calls"),
            r#"data: {"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
            "\n\n",
            DONE,
        ]
        .concat();
        let got = read_stream(&Chat, &body);
        is_all_of_it(&got, 0, (3, 4));
        assert_eq!((got.facts.events, got.facts.tool_calls[0].pieces), (9, 3));
    }

    #[test]
    fn chunked_and_gzip_are_read_through() {
        let body = [&chunk(r#"{"content":"hi"}"#, "stop"), DONE].concat();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(body.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut framed = Vec::new();
        for piece in gzip.chunks(9) {
            framed.extend(format!("{:X}\r\n", piece.len()).into_bytes());
            framed.extend_from_slice(piece);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\n\r\n");
        let head = head("Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n");
        for step in [1, 4, 1000] {
            let got = read(&Chat, &head, &framed, step);
            assert!(got.facts.body_whole && got.facts.saw_done);
            assert_eq!(got.content, "hi");
        }
        assert!(!read(&Chat, &head, &framed[..framed.len() - 3], 5).facts.body_whole);
        let br = ReplyHead { content_encoding: Some("br".into()), ..head };
        assert_eq!(ReplyReader::new(&Chat, &br).err().as_deref(), Some("br"));
    }

    #[test]
    fn endings_are_told_apart() {
        use ReplyClass::*;
        let some = chunk(r#"{"content":"hi"}"#, "");
        let stop = chunk("{}", "stop");
        let whole = [&*some, &stop].concat();
        let ends = [DONE, "data: [DONE]", "data: [DONE]\n", "data:[DONE]\r\n"];
        streams(&Chat, OkText, "text", ends.map(|done| [&whole, done].concat()));
        let cut = [&whole, "", &*[&some, "data: {\"err"].concat()];
        streams(&Chat, StreamTruncated, "missing_done", cut);
        streams(&Chat, StreamTruncated, "missing_finish_reason", [[&some, DONE].concat()]);
        let error = "data: {\"error\":{\"message\":\"boom\",\"type\":\"InternalServerError\",\"code\":500}}\n\n";
        streams(&Chat, UpstreamError, "error_after_200", [[&some, error, DONE].concat()]);
        let junk = [&whole, "data: nonsense\n\n", DONE].concat();
        streams(&Chat, UpstreamError, "malformed_reply", [junk]);
        let other = some.replace("\"m\"", "\"n\"");
        streams(&Chat, ModelMismatch, "other_model", [[&some, &other, &stop, DONE].concat()]);
        let none = whole.replace("\"model\":\"m\",", "");
        streams(&Chat, ModelMismatch, "model_not_named", [[&none, DONE].concat()]);
        // What comes after the end is not part of the reply.
        let got = read_stream(&Chat, &[&stop, DONE, &some].concat());
        assert_eq!((got.facts.after_done, got.content.as_str()), (1, ""));
    }

    #[test]
    fn reasoning_under_every_name_is_no_answer() {
        use ReplyClass::*;
        for (delta, field) in [
            (r#"{"reasoning":"hm"}"#, ReasoningField::Reasoning),
            (r#"{"reasoning_content":"hm","content":null}"#, ReasoningField::ReasoningContent),
            (
                r#"{"reasoning_details":[{"type":"t","text":"hm"}]}"#,
                ReasoningField::ReasoningDetails,
            ),
            (r#"{"content":"<think>hm</think>\n "}"#, ReasoningField::ThinkTag),
            (r#"{"content":"<think>hm"}"#, ReasoningField::ThinkTag),
            (r#"{"content":"hm</think>"}"#, ReasoningField::ThinkTag),
        ] {
            let got = read_stream(&Chat, &[&chunk(delta, "stop"), DONE].concat());
            assert_eq!(got.facts.reasoning_fields, [field], "{delta}");
            assert_eq!((got.facts.reasoning_chars, got.content.trim()), (2, ""), "{delta}");
            let class = (ResponseShapeUnavailable, "reasoning_only_no_close");
            assert_eq!((got.class, &*got.detail), class, "{delta}");
        }
        let unavailable = |detail: &str, body: &str| {
            streams(&Chat, ResponseShapeUnavailable, detail, [[body, DONE].concat()]);
        };
        let think = |text: &str, finish: &str| {
            chunk(&format!("{{\"reasoning\":\"{text}\",\"content\":\"  \"}}"), finish)
        };
        unavailable("reasoning_only_length", &think("hm", "length"));
        unavailable("reasoning_only_tool_in_think", &think("<tool_call>", "stop"));
        let stop = chunk("{}", "stop");
        let used = |n: u32| {
            let usage = json!({"prompt_tokens": 1, "completion_tokens": n});
            format!("{stop}data: {}\n\n", json!({"model": "m", "choices": [], "usage": usage}))
        };
        unavailable("hidden_reasoning", &used(9));
        let empty = [used(0), stop.clone()].map(|body| body + DONE);
        streams(&Chat, EmptyReply, "empty", empty);
    }

    #[test]
    fn both_names_of_one_thought_count_once_and_may_change_midway() {
        let body = [
            chunk(r#"{"reasoning":"ab","reasoning_content":"ab"}"#, ""),
            chunk(r#"{"reasoning_content":"cd"}"#, ""),
            chunk(r#"{"content":"x\n<think>e</think>y"}"#, "stop"),
            DONE.into(),
        ]
        .concat();
        let got = read_stream(&Chat, &body);
        assert_eq!((got.facts.reasoning_chars, got.content.as_str()), (5, "x\ny"));
        assert_eq!((got.facts.reasoning_fields.len(), got.class), (3, ReplyClass::OkText));
    }

    #[test]
    fn tool_calls_are_joined_by_index() {
        let piece = |index: u32, name: &str, arguments: &str| {
            let function = json!({"name": name, "arguments": arguments});
            let call = json!({"index": index, "function": function});
            chunk(&json!({ "tool_calls": [call] }).to_string(), "")
        };
        let end = [chunk("{}", "tool_calls"), DONE.into()].concat();
        let two = [
            piece(0, "read", "{\"a\":"),
            piece(1, "bash", "{"),
            piece(0, "", "1}"),
            piece(1, "", "}"),
            end.clone(),
        ]
        .concat();
        let got = read_stream(&Chat, &two);
        let calls = got.facts.tool_calls.iter().map(|call| (call.name.as_str(), call.arguments_ok));
        assert_eq!(calls.collect::<Vec<_>>(), [("read", true), ("bash", true)]);
        let malformed = ReplyClass::MalformedToolCall;
        let bad = ["{\"a\":", "", "[1]", "{} x"].map(|bad| piece(0, "read", bad) + &end);
        streams(&Chat, malformed, "arguments_not_json", bad);
        let markup = chunk(r#"{"content":"<tool_call>\n{}","tool_calls":[]}"#, "stop") + DONE;
        streams(&Chat, malformed, "tool_markup_in_content", [markup]);
    }

    #[test]
    fn a_reply_that_is_no_stream_has_the_same_classes() {
        use ReplyClass::*;
        let ok = r#"{"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"},{"index":1,"message":{"content":"no"}}]}"#;
        let only = ok.replace("\"content\":\"hi\"", "\"content\":null,\"reasoning\":\"x\"");
        let gone = r#"{"error":{"message":"no such model","type":"NotFoundError","code":404}}"#;
        let old = r#"{"object":"error","message":"The model x does not exist.","type":"NotFoundError","code":404}"#;
        let cases = [
            (200, ok, OkText, "text"),
            (200, &*only, ResponseShapeUnavailable, "reasoning_only_no_close"),
            (200, "{}", UpstreamError, "malformed_reply"),
            (200, "<html>", UpstreamError, "malformed_reply"),
            (200, r#"{"error":"no"}"#, UpstreamError, "error_after_200"),
            (401, "{}", AuthUnavailable, "http_401"),
            (403, "", AuthUnavailable, "http_403"),
            (404, gone, UpstreamError, "model_not_found"),
            (404, old, UpstreamError, "model_not_found"),
            (404, r#"{"detail":"Not Found"}"#, UpstreamError, "http_404"),
            (429, "", UpstreamError, "http_429"),
            (302, "", UpstreamError, "redirect"),
            (503, "", UpstreamError, "http_5xx"),
        ];
        wholes(&Chat, cases);
    }

    #[test]
    fn a_request_is_written_anew_in_its_own_order() {
        let body = r#" { "model" : "m", "stream":true, "messages":[ {"role":"user","content":"\u0061\/"} , {"role":"user","content":[{"type":"text","text":""}]} ],
            "tools":[{"type":"function","function":{"name":"read","parameters":{"z":1,"a":[1.50,-2,[],{}]}}}],"temperature":0.10 } "#;
        let got = read_request(&Chat, body.as_bytes(), "m").unwrap();
        assert_eq!(
            String::from_utf8(got.body).unwrap(),
            r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"a/"},{"role":"user","content":[{"type":"text","text":""}]}],"tools":[{"type":"function","function":{"name":"read","parameters":{"z":1,"a":[1.5,-2,[],{}]}}}],"temperature":0.1}"#
        );
        assert_eq!((got.stream, got.messages, got.tools), (true, 2, vec!["read".to_owned()]));
    }

    #[test]
    fn everything_outside_the_policy_is_refused() {
        use RequestRefusal::*;
        let with = |extra: &str| {
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{extra}}}"#)
        };
        for good in ["", r#","store":false,"n":1,"tools":null"#] {
            assert!(read_request(&Chat, with(good).as_bytes(), "m").is_ok(), "{good}");
        }
        let twice = r#","tools":[{"type":"function","function":{"name":"a","name":"b"}}]"#;
        let wide: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let image = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]}"#;
        let deep = "[".repeat(90) + &"]".repeat(90);
        for (body, want) in [
            (with(r#","model":"m""#).as_bytes(), BadJson),
            (with(r#","model":"n""#).as_bytes(), BadJson),
            (with(twice).as_bytes(), BadJson),
            (with(r#","web_search_options":{}"#).as_bytes(), UnknownKey),
            (with(r#","Model":"m""#).as_bytes(), UnknownKey),
            (with(r#","store":true"#).as_bytes(), BadValue),
            (with(r#","n":2"#).as_bytes(), BadValue),
            (with(r#","stream":"yes""#).as_bytes(), BadValue),
            (with(r#","tools":[{"type":"web_search"}]"#).as_bytes(), BadValue),
            (with(r#","tools":{}"#).as_bytes(), BadValue),
            (with("").replace("\"m\"", "\"n\"").as_bytes(), OtherModel),
            (br#"{"messages":[]}"#, OtherModel),
            (br#"{"model":["m"],"messages":[]}"#, OtherModel),
            (br#"{"model":"m"}"#, BadValue),
            (image.as_bytes(), BadValue),
            ("\u{feff}{}".as_bytes(), BadEncoding),
            (b"{\"model\":\"\xff\"}", BadEncoding),
            (&wide, BadJson),
            (b"", BadJson),
            (b"[]", BadJson),
            (b"{} {}", BadJson),
            (b"{\"a\":1e999}", BadJson),
            (b"{'a':1}", BadJson),
            (b"{\"a\":NaN}", BadJson),
            (b"{\"a\":\"\\ud800\"}", BadJson),
            (deep.as_bytes(), BadJson),
        ] {
            let refusal = read_request(&Chat, body, "m").unwrap_err().0;
            assert_eq!(refusal, want, "{}", String::from_utf8_lossy(body));
        }
    }

    /// A conversation as Case sends it, reasoning included.
    fn of_case() -> Value {
        let parameters = json!({"type": "object", "properties": {"command": {"type": "string"}}});
        json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {"role": "assistant", "content": null, "reasoning_content": "hm",
                    "tool_calls": [{"id": "call_1", "type": "function",
                        "function": {"name": "bash", "arguments": "{\"command\":\"ls\"}"}}]},
                {"role": "tool", "content": "strings.py", "tool_call_id": "call_1"},
                {"role": "developer", "content": "d"},
            ],
            "stream": true,
            "stream_options": {"include_usage": true},
            "store": false,
            "max_completion_tokens": 4096,
            "tools": [{"type": "function", "function":
                {"name": "bash", "description": "d", "parameters": parameters, "strict": false}}],
            "reasoning_effort": "minimal",
            "enable_thinking": false,
            "chat_template_kwargs": {"enable_thinking": false, "preserve_thinking": true},
        })
    }

    #[test]
    fn what_case_sends_passes_and_every_other_key_is_refused_by_name() {
        use RequestRefusal::*;
        let taken = check(&Chat, &of_case()).unwrap();
        assert_eq!((taken.messages, taken.tools), (5, vec!["bash".to_owned()]));
        let mcp = json!({"type": "mcp", "function": {"name": "x"}});
        let changes = [
            ("/chat_template_kwargs/chat_template", json!("{{x}}"), UnknownKey, "template"),
            ("/chat_template_kwargs/enable_thinking", json!("no"), BadValue, "true or false"),
            ("/stream_options/x", json!(1), UnknownKey, "stream_options.x"),
            ("/messages/2/cache_control", json!({}), UnknownKey, "messages[2].cache_control"),
            ("/messages/2/reasoning_content", json!(["hm"]), BadValue, "messages[2].reasoning_"),
            ("/messages/2/role", json!("root"), BadValue, "messages[2].role"),
            ("/messages/1/content/0/cache_control", json!({}), UnknownKey, "content[0].cache"),
            ("/messages/1/content/0/type", json!("input_audio"), BadValue, "text or refusal"),
            ("/messages/2/tool_calls/0/function/url", json!("x"), UnknownKey, "function.url"),
            ("/tools/0/server_url", json!("http://x"), UnknownKey, "tools[0].server_url"),
            ("/tools/0/function/parameters", json!("x"), BadValue, "parameters is not an obj"),
            ("/tool_choice", mcp, BadValue, "type"),
            ("/temperature", json!("hot"), BadValue, "temperature is not a number"),
            ("/logit_bias", json!({"17": "x"}), BadValue, "logit_bias.*"),
            ("/response_format", json!({"type": "structural_tag"}), BadValue, "json_schema"),
            ("/messages", Value::Null, BadValue, "messages is not a list"),
        ];
        refused(&Chat, &of_case(), changes);
    }

    #[test]
    fn a_hostile_reply_costs_one_pass_and_bounded_memory() {
        let begun = std::time::Instant::now();
        let thought = chunk(&json!({"content": "x<think>".repeat(4000)}).to_string(), "");
        let got = read(&Chat, &head(""), thought.repeat(125).as_bytes(), 8192);
        assert_eq!((got.facts.events, got.content.len()), (125, 4_000_000));
        // As many names as events.
        let models = (0..80_000).map(|n| format!("data: {{\"model\":\"model-{n}\"}}\n\n"));
        let facts = read(&Chat, &head(""), models.collect::<String>().as_bytes(), 8192).facts;
        assert!(facts.models.len() == 8 && facts.events == 80_000, "{:?}", facts.models);
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());

        let fails = |body: &str, fault: &str| {
            let mut reader = ReplyReader::new(&Chat, &head("")).unwrap();
            let mut fed = body.as_bytes().chunks(8192).map(|piece| reader.feed(piece));
            let err = fed.find_map(Result::err).expect(fault);
            assert!(err.contains(fault), "{err}");
        };
        fails(&format!("data: {}", "[".repeat(8 << 20)), "an event longer");
        fails(&"data: [\n".repeat(4 << 20), "an event longer");
        fails(&chunk(&json!({"content": "a".repeat(1 << 20)}).to_string(), "").repeat(9), "text");
        // Names are cut short, and what is nested too deeply is no event.
        let long = json!({"tool_calls": [{"function": {"name": "n".repeat(1 << 20)}}]});
        let deep = format!("data: {}\n\n", "[".repeat(1 << 20));
        let body = [chunk(&long.to_string(), ""), deep].concat();
        let facts = read(&Chat, &head(""), body.as_bytes(), 8192).facts;
        assert_eq!((facts.tool_calls[0].name.len(), facts.malformed), (200, 1));
        let nested = format!("{{\"a\":{}0{}}}", "[".repeat(1000), "]".repeat(1000));
        let call = json!({"tool_calls": [{"function": {"name": "n", "arguments": nested}}]});
        let facts = read(&Chat, &head(""), chunk(&call.to_string(), "").as_bytes(), 8192).facts;
        assert!(!facts.tool_calls[0].arguments_ok);
    }
}
