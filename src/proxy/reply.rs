//! Reads a copy of a chat completion's reply, in pieces of any size, and collects [`ReplyFacts`].
//!
//! The bytes that the agent gets are never made from this reading.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::write::GzDecoder;
use serde_json::Value;

use super::http1::{Body, ReplyHead};
use super::sse::SseDecoder;
use crate::record::wire::{ReasoningField, ReplyFacts, ToolCallFacts, Usage};

/// Most bytes that a reply may have after decompression: more is an attack or a fault.
const MAX_DECODED: u64 = 256 * 1024 * 1024;
/// Tool calls of one reply that are kept apart; more are malformed. A model that works has a handful.
const MAX_TOOLS: usize = 256;
/// Longest reply that is not a stream, in bytes.
const MAX_JSON: usize = 16 * 1024 * 1024;
/// Longest text taken from a reply into a record, in characters.
const SHORT: usize = 200;

/// What became visible by one read.
#[derive(Default, Debug)]
pub struct Seen {
    /// Bytes of the body without transfer and content coding.
    pub decoded: Vec<u8>,
    /// Text of the model that became complete: content, reasoning and tool arguments, each as it was read.
    pub text: Vec<u8>,
}

enum Kind {
    Sse(SseDecoder),
    Json(Vec<u8>),
}

/// A tool call that is still being joined.
#[derive(Default)]
struct ToolCall {
    name: String,
    arguments: String,
    pieces: u64,
    /// Arguments came as something else than text.
    odd: bool,
}

pub struct ReplyReader {
    body: Body,
    gzip: Option<GzDecoder<Vec<u8>>>,
    decoded: u64,
    kind: Option<Kind>,
    facts: ReplyFacts,
    content: String,
    reasoning: String,
    tools: BTreeMap<u64, ToolCall>,
    /// What [`Seen::text`] is to get next.
    fresh: Vec<u8>,
}

impl ReplyReader {
    /// A reader for the body that follows `head`. `Err` names a content coding that cannot be read.
    pub fn new(head: &ReplyHead) -> Result<Self, String> {
        let gzip = match head.content_encoding.as_deref() {
            None | Some("identity") => None,
            Some("gzip" | "x-gzip") => Some(GzDecoder::new(Vec::new())),
            Some(other) => return Err(other.chars().take(SHORT).collect()),
        };
        let streamed = head.content_type.as_deref().is_some_and(|t| t == "text/event-stream");
        let kind = if streamed { Kind::Sse(SseDecoder::new()) } else { Kind::Json(Vec::new()) };
        let facts = ReplyFacts {
            status: Some(head.status),
            content_encoding: head.content_encoding.clone(),
            streamed,
            ..ReplyFacts::default()
        };
        Ok(Self {
            body: head.body.clone(),
            gzip,
            decoded: 0,
            kind: Some(kind),
            facts,
            content: String::new(),
            reasoning: String::new(),
            tools: BTreeMap::new(),
            fresh: Vec::new(),
        })
    }

    /// Takes the next bytes of the body as received. `Err` where they are not what the head announced; the reply
    /// cannot be read on then.
    pub fn feed(&mut self, raw: &[u8]) -> Result<Seen, String> {
        self.facts.body_bytes += raw.len() as u64;
        let mut plain = Vec::new();
        self.body.feed(raw, &mut plain)?;
        let decoded = match &mut self.gzip {
            None => plain,
            Some(gzip) => {
                for piece in plain.chunks(1024) {
                    gzip.write_all(piece).map_err(|err| format!("gzip: {err}"))?;
                    if gzip.get_ref().len() as u64 + self.decoded > MAX_DECODED {
                        return Err("gzip: more than the reader takes".into());
                    }
                }
                // The decoder keeps what it has until it is flushed.
                gzip.flush().map_err(|err| format!("gzip: {err}"))?;
                std::mem::take(gzip.get_mut())
            }
        };
        self.decoded += decoded.len() as u64;
        match self.kind.take() {
            Some(Kind::Sse(mut sse)) => {
                sse.feed(&decoded, |data| self.event(data));
                if sse.overflowed() {
                    return Err("an event longer than the reader takes".into());
                }
                self.kind = Some(Kind::Sse(sse));
            }
            Some(Kind::Json(mut json)) => {
                if json.len() + decoded.len() > MAX_JSON {
                    return Err("a body longer than the reader takes".into());
                }
                json.extend_from_slice(&decoded);
                self.kind = Some(Kind::Json(json));
            }
            None => {}
        }
        let text = std::mem::take(&mut self.fresh);
        Ok(Seen { decoded, text })
    }

    /// Whether the body is complete, so that nothing more may come.
    pub fn is_whole(&self) -> bool {
        self.body.is_whole(false)
    }

    /// Whether what has come so far ends with a complete event. Nobody can use a part of an event, and its text is not
    /// known before its end; for a reply that is no stream the whole body is one event.
    pub fn at_boundary(&self) -> bool {
        match &self.kind {
            Some(Kind::Sse(sse)) => sse.at_boundary(),
            _ => self.is_whole(),
        }
    }

    /// Ends the reply. `eof`: the other side closed its end, without an error. Gives the facts, the content without
    /// reasoning, and the text that only became complete now (see [`Seen::text`]).
    pub fn finish(mut self, eof: bool) -> (ReplyFacts, String, Vec<u8>) {
        self.facts.body_whole = self.body.is_whole(eof);
        match self.kind.take() {
            Some(Kind::Sse(sse)) => sse.finish(|data| self.event(data)),
            Some(Kind::Json(json)) if self.facts.body_whole => self.whole_json(&json),
            _ => {}
        }
        let (content, thought) = split_thinking(&self.content);
        if !thought.trim().is_empty() || content.len() != self.content.len() {
            self.saw_reasoning(ReasoningField::ThinkTag);
            self.reasoning.push_str(&thought);
        }
        let facts = &mut self.facts;
        facts.content_chars = visible(&content);
        facts.reasoning_chars = visible(&self.reasoning);
        facts.content_has_tool_markup = has_tool_markup(&content);
        facts.reasoning_has_tool_markup = has_tool_markup(&self.reasoning);
        facts.reasoning_fields.sort();
        facts.models.sort();
        facts.tool_calls = self
            .tools
            .into_iter()
            .map(|(index, call)| ToolCallFacts {
                index,
                name: short(&call.name),
                pieces: call.pieces,
                argument_bytes: call.arguments.len() as u64,
                arguments_ok: !call.odd
                    && serde_json::from_str::<serde_json::Map<String, Value>>(&call.arguments)
                        .is_ok(),
            })
            .collect();
        (self.facts, content, self.fresh)
    }

    fn event(&mut self, data: &[u8]) {
        self.facts.events += 1;
        if self.facts.saw_done {
            self.facts.after_done += 1;
            return;
        }
        if data.trim_ascii() == b"[DONE]" {
            self.facts.saw_done = true;
            return;
        }
        match serde_json::from_slice::<Value>(data) {
            Ok(value) if value.is_object() => self.object(&value, "delta"),
            _ => self.facts.malformed += 1,
        }
    }

    fn whole_json(&mut self, json: &[u8]) {
        match serde_json::from_slice::<Value>(json) {
            Ok(value) if value.is_object() => {
                self.object(&value, "message");
                if self.facts.status == Some(200)
                    && self.facts.error.is_none()
                    && self.facts.choices == 0
                {
                    self.facts.malformed += 1;
                }
            }
            _ => self.facts.malformed += 1,
        }
    }

    /// One chunk or one whole completion; `part` is where its text stands.
    fn object(&mut self, value: &Value, part: &str) {
        // vLLM wrote the error at the top level before it wrapped it.
        let old_form = value.get("object").is_some_and(|o| o == "error").then_some(value);
        if let Some(error) = value.get("error").filter(|e| !e.is_null()).or(old_form) {
            self.facts.error.get_or_insert_with(|| error_name(error));
            return;
        }
        if let Some(model) = value.get("model").and_then(Value::as_str) {
            let model = short(model);
            if !self.facts.models.contains(&model) {
                self.facts.models.push(model);
            }
        }
        if let Some(usage) = value.get("usage").and_then(usage) {
            self.facts.usage = Some(usage);
        }
        for (at, choice) in
            value.get("choices").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
            self.facts.choices = self.facts.choices.max(index.saturating_add(1));
            if index != 0 {
                continue;
            }
            if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
                self.facts.finish_reason = Some(short(reason));
            }
            if let Some(part) = choice.get(part) {
                self.part(part);
            }
        }
    }

    fn part(&mut self, part: &Value) {
        let text = text_of(part.get("content"));
        self.fresh.extend_from_slice(text.as_bytes());
        self.content.push_str(&text);
        let aliases = [
            ("reasoning", ReasoningField::Reasoning),
            ("reasoning_content", ReasoningField::ReasoningContent),
            ("reasoning_details", ReasoningField::ReasoningDetails),
        ];
        let mut first = true;
        for (name, field) in aliases {
            let text = text_of(part.get(name));
            if text.is_empty() {
                continue;
            }
            self.saw_reasoning(field);
            // The same thought under two names is one thought.
            if std::mem::take(&mut first) {
                self.fresh.extend_from_slice(text.as_bytes());
                self.reasoning.push_str(&text);
            }
        }
        let calls = part.get("tool_calls").and_then(Value::as_array);
        for (at, piece) in calls.into_iter().flatten().enumerate() {
            let index = piece.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
            if self.tools.len() >= MAX_TOOLS && !self.tools.contains_key(&index) {
                self.facts.malformed += 1;
                continue;
            }
            let call = self.tools.entry(index).or_default();
            call.pieces += 1;
            let Some(function) = piece.get("function") else { continue };
            if let Some(name) = function.get("name").and_then(Value::as_str) {
                call.name.push_str(name);
            }
            match function.get("arguments") {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => {
                    call.arguments.push_str(text);
                    self.fresh.extend_from_slice(text.as_bytes());
                }
                Some(_) => call.odd = true,
            }
        }
    }

    fn saw_reasoning(&mut self, field: ReasoningField) {
        if !self.facts.reasoning_fields.contains(&field) {
            self.facts.reasoning_fields.push(field);
        }
    }
}

/// Text that stands as a string, or as a list of parts with `text`, `summary` or `data`.
fn text_of(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts
            .iter()
            .filter_map(|part| {
                ["text", "summary", "data"].iter().find_map(|key| part.get(key)?.as_str())
            })
            .collect(),
        _ => String::new(),
    }
}

fn usage(value: &Value) -> Option<Usage> {
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64);
    let prompt_tokens = number(value, "prompt_tokens").unwrap_or(0);
    let completion_tokens = number(value, "completion_tokens")?;
    let details = value.get("completion_tokens_details");
    Some(Usage {
        prompt_tokens,
        completion_tokens,
        total_tokens: number(value, "total_tokens")
            .unwrap_or(0)
            .max(prompt_tokens.saturating_add(completion_tokens)),
        reasoning_tokens: details.and_then(|d| number(d, "reasoning_tokens")),
    })
}

/// An error's `code` and `type`, else its message, cut short.
fn error_name(error: &Value) -> String {
    let field = |key: &str| match error.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let names: Vec<String> = ["code", "type"].into_iter().filter_map(field).collect();
    match (names.is_empty(), error.as_str()) {
        (false, _) => short(&names.join(" ")),
        (true, Some(text)) => short(text),
        (true, None) => short(&field("message").unwrap_or_else(|| "unnamed".into())),
    }
}

fn short(text: &str) -> String {
    text.chars().take(SHORT).collect()
}

/// Characters that are not white space.
fn visible(text: &str) -> u64 {
    text.chars().filter(|c| !c.is_whitespace()).count() as u64
}

/// Tool calls written as text: a parser on the server did not do its work. Only at the start of a line, since a text
/// may speak of such markup.
fn has_tool_markup(text: &str) -> bool {
    text.lines()
        .map(str::trim_start)
        .any(|line| line.starts_with("<tool_call>") || line.starts_with("<function="))
}

/// Splits content into answer and thought. `<think>` at the start of a line opens a thought up to `</think>` or, where
/// that is missing, up to the end. A `</think>` before any `<think>` closes a thought that began before the text (the
/// server's template had opened it).
fn split_thinking(text: &str) -> (String, String) {
    const OPEN: &str = "<think>";
    const CLOSE: &str = "</think>";
    let (mut answer, mut thought) = (String::new(), String::new());
    let mut rest = text;
    let opens_at = |rest: &str| {
        rest.match_indices(OPEN).map(|(at, _)| at).find(|&at| {
            rest[..at].lines().next_back().is_none_or(|line| line.trim().is_empty())
                || rest[..at].ends_with('\n')
        })
    };
    if let Some(close) = rest.find(CLOSE)
        && rest.find(OPEN).is_none_or(|open| open > close)
    {
        thought.push_str(&rest[..close]);
        rest = &rest[close + CLOSE.len()..];
    }
    while let Some(open) = opens_at(rest) {
        answer.push_str(&rest[..open]);
        let inner = &rest[open + OPEN.len()..];
        let close = inner.find(CLOSE);
        thought.push_str(&inner[..close.unwrap_or(inner.len())]);
        rest = close.map_or("", |at| &inner[at + CLOSE.len()..]);
    }
    answer.push_str(rest);
    (answer, thought)
}

#[cfg(test)]
mod tests {
    use super::super::sse::classify;
    use super::*;
    use crate::record::wire::ReplyClass;

    fn head(extra: &str) -> ReplyHead {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{extra}\r\n");
        super::super::http1::parse_reply(text.as_bytes()).unwrap()
    }

    /// Reads `body` in pieces of `step` bytes.
    fn read(head: &ReplyHead, body: &[u8], step: usize) -> (ReplyFacts, String, String) {
        let mut reader = ReplyReader::new(head).unwrap();
        let mut text = Vec::new();
        for piece in body.chunks(step) {
            text.extend(reader.feed(piece).unwrap().text);
        }
        let (facts, content, last) = reader.finish(true);
        text.extend(last);
        (facts, content, String::from_utf8(text).unwrap())
    }

    fn chunk(delta: &str, finish: &str) -> String {
        let finish = if finish.is_empty() { "null".into() } else { format!("\"{finish}\"") };
        format!(
            "data: {{\"id\":\"x\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    }

    fn verdict(body: &str) -> (ReplyClass, String) {
        let (facts, _, _) = read(&head(""), body.as_bytes(), 7);
        let verdict = classify(&facts, "m");
        (verdict.class, verdict.detail)
    }

    fn text(class: ReplyClass, detail: &str) -> (ReplyClass, String) {
        (class, detail.to_owned())
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
        let whole = read(&head(""), body.as_bytes(), body.len());
        assert_eq!(whole.0.events, 9);
        assert_eq!((whole.0.content_chars, whole.0.reasoning_chars), (8, 3));
        assert_eq!(whole.0.usage.unwrap().total_tokens, 7);
        let call = &whole.0.tool_calls[0];
        assert_eq!((call.name.as_str(), call.pieces, call.arguments_ok), ("read", 3, true));
        assert_eq!(whole.1, "two\nlines");
        for step in [1, 2, 3, 5, 64] {
            assert_eq!(read(&head(""), body.as_bytes(), step), whole, "step {step}");
            let crlf = body.replace('\n', "\r\n");
            let mut got = read(&head(""), crlf.as_bytes(), step);
            got.0.body_bytes = whole.0.body_bytes;
            assert_eq!(got, whole, "crlf, step {step}");
        }
        assert_eq!(classify(&whole.0, "m").class, ReplyClass::OkTools);
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
            let (facts, content, _) = read(&head, &framed, step);
            assert!(facts.body_whole && facts.saw_done);
            assert_eq!(content, "hi");
        }
        let (facts, _, _) = read(&head, &framed[..framed.len() - 3], 5);
        assert!(!facts.body_whole);
        let br = ReplyHead { content_encoding: Some("br".into()), ..head };
        assert_eq!(ReplyReader::new(&br).err().as_deref(), Some("br"));
    }

    #[test]
    fn endings_are_told_apart() {
        use ReplyClass::*;
        let some = chunk(r#"{"content":"hi"}"#, "");
        let stop = chunk("{}", "stop");
        assert_eq!(verdict(&[&some, &stop, DONE].concat()), text(OkText, "text"));
        for done in ["data: [DONE]", "data: [DONE]\n", "data:[DONE]\r\n"] {
            assert_eq!(verdict(&[&some, &stop, done].concat()), text(OkText, "text"), "{done}");
        }
        assert_eq!(
            verdict(&[some.as_str(), &stop].concat()),
            text(StreamTruncated, "missing_done")
        );
        assert_eq!(
            verdict(&[&some, DONE].concat()),
            text(StreamTruncated, "missing_finish_reason")
        );
        assert_eq!(
            verdict(&[&some, "data: {\"err"].concat()),
            text(StreamTruncated, "missing_done")
        );
        assert_eq!(verdict(""), text(StreamTruncated, "missing_done"));
        let error = "data: {\"error\":{\"message\":\"boom\",\"type\":\"InternalServerError\",\"code\":500}}\n\n";
        assert_eq!(verdict(&[&some, error, DONE].concat()), text(UpstreamError, "error_after_200"));
        let junk = "data: nonsense\n\n";
        assert_eq!(
            verdict(&[&some, &stop, junk, DONE].concat()),
            text(UpstreamError, "malformed_reply")
        );
        let other = some.replace("\"m\"", "\"n\"");
        assert_eq!(
            verdict(&[&some, &other, &stop, DONE].concat()),
            text(ModelMismatch, "other_model")
        );
        let none = [&some, &stop].map(|s| s.replace("\"model\":\"m\",", "")).concat();
        assert_eq!(verdict(&[&none, DONE].concat()), text(ModelMismatch, "model_not_named"));
        // What comes after the end is not part of the reply.
        let (facts, content, _) = read(&head(""), [&stop, DONE, &some].concat().as_bytes(), 9);
        assert_eq!((facts.after_done, content.as_str()), (1, ""));
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
            let (facts, content, _) =
                read(&head(""), [&chunk(delta, "stop"), DONE].concat().as_bytes(), 3);
            assert_eq!(facts.reasoning_fields, [field], "{delta}");
            assert_eq!((facts.reasoning_chars, content.trim()), (2, ""), "{delta}");
            let got = classify(&facts, "m");
            assert_eq!(got.class, ResponseShapeUnavailable);
            assert_eq!(got.detail, "reasoning_only_no_close");
        }
        let think = |text: &str, finish: &str| {
            verdict(
                &[
                    &chunk(&format!("{{\"reasoning\":\"{text}\",\"content\":\"  \"}}"), finish),
                    DONE,
                ]
                .concat(),
            )
        };
        assert_eq!(think("hm", "length"), text(ResponseShapeUnavailable, "reasoning_only_length"));
        assert_eq!(
            think("<tool_call>", "stop"),
            text(ResponseShapeUnavailable, "reasoning_only_tool_in_think")
        );
        let usage = |n: u32| {
            format!(
                "data: {{\"model\":\"m\",\"choices\":[],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":{n}}}}}\n\n"
            )
        };
        let stop = chunk("{}", "stop");
        assert_eq!(
            verdict(&[&stop, &usage(9), DONE].concat()),
            text(ResponseShapeUnavailable, "hidden_reasoning")
        );
        assert_eq!(verdict(&[&stop, &usage(0), DONE].concat()), text(EmptyReply, "empty"));
        assert_eq!(verdict(&[&stop, DONE].concat()), text(EmptyReply, "empty"));
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
        let (facts, content, _) = read(&head(""), body.as_bytes(), 11);
        assert_eq!((facts.reasoning_chars, content.as_str()), (5, "x\ny"));
        assert_eq!(facts.reasoning_fields.len(), 3);
        assert_eq!(classify(&facts, "m").class, ReplyClass::OkText);
        // Speaking of the tag is not thinking.
        let (answer, thought) = split_thinking("Use the <think> tag.");
        assert_eq!((answer.as_str(), thought.as_str()), ("Use the <think> tag.", ""));
    }

    #[test]
    fn tool_calls_are_joined_by_index() {
        use ReplyClass::*;
        let piece = |index: u32, name: &str, arguments: &str| {
            let arguments = Value::from(arguments);
            chunk(
                &format!(
                    r#"{{"tool_calls":[{{"index":{index},"function":{{"name":"{name}","arguments":{arguments}}}}}]}}"#
                ),
                "",
            )
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
        let (facts, _, _) = read(&head(""), two.as_bytes(), 13);
        let names: Vec<_> =
            facts.tool_calls.iter().map(|c| (c.name.as_str(), c.arguments_ok)).collect();
        assert_eq!(names, [("read", true), ("bash", true)]);
        for arguments in ["{\"a\":", "", "[1]", "{} x"] {
            let body = [piece(0, "read", arguments), end.clone()].concat();
            assert_eq!(
                verdict(&body),
                text(MalformedToolCall, "arguments_not_json"),
                "{arguments}"
            );
        }
        let body = [chunk(r#"{"content":"<tool_call>\n{}","tool_calls":[]}"#, "stop"), DONE.into()];
        assert_eq!(verdict(&body.concat()), text(MalformedToolCall, "tool_markup_in_content"));
    }

    #[test]
    fn a_reply_that_is_no_stream_has_the_same_classes() {
        use ReplyClass::*;
        let get = |status: u16, body: &str| {
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let head = super::super::http1::parse_reply(head.as_bytes()).unwrap();
            let verdict = classify(&read(&head, body.as_bytes(), 10).0, "m");
            (verdict.class, verdict.detail)
        };
        let ok = r#"{"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"},{"index":1,"message":{"content":"no"}}]}"#;
        assert_eq!(get(200, ok), text(OkText, "text"));
        let only = ok.replace("\"content\":\"hi\"", "\"content\":null,\"reasoning\":\"x\"");
        assert_eq!(get(200, &only).0, ResponseShapeUnavailable);
        assert_eq!(get(200, "{}"), text(UpstreamError, "malformed_reply"));
        assert_eq!(get(200, "<html>"), text(UpstreamError, "malformed_reply"));
        assert_eq!(get(200, r#"{"error":"no"}"#), text(UpstreamError, "error_after_200"));
        assert_eq!(get(401, "{}"), text(AuthUnavailable, "http_401"));
        assert_eq!(get(403, ""), text(AuthUnavailable, "http_403"));
        let gone = r#"{"error":{"message":"no such model","type":"NotFoundError","code":404}}"#;
        assert_eq!(get(404, gone), text(UpstreamError, "model_not_found"));
        let old = r#"{"object":"error","message":"The model x does not exist.","type":"NotFoundError","code":404}"#;
        assert_eq!(get(404, old), text(UpstreamError, "model_not_found"));
        assert_eq!(get(404, r#"{"detail":"Not Found"}"#), text(UpstreamError, "http_404"));
        assert_eq!(get(429, ""), text(UpstreamError, "http_429"));
        assert_eq!(get(302, ""), text(UpstreamError, "redirect"));
        assert_eq!(get(503, ""), text(UpstreamError, "http_5xx"));
    }
}
