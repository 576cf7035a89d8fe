//! The conversation of a run as turns, read from the sealed bytes of its requests and replies, for every wire API.
//!
//! An agent sends all that was said before with every request: only what a request adds is shown. Everything here was
//! written by the agent or the model's server: it is read within bounds, and what cannot be read is said to be so.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::proxy::api::list;
use crate::proxy::http1;
use crate::record::admission::Api;
use crate::record::evidence::WireRow;
use crate::record::ids::Digest;

/// A request or reply larger than this is not taken apart.
pub(super) const MOST_READ: u64 = 4 << 20;
/// Bytes of all requests and replies together that are taken apart.
const MOST_OF_ALL: u64 = 64 << 20;
/// Bytes of all texts together that are shown.
const MOST_SHOWN: usize = 1 << 20;
/// Bytes of one text that are shown.
const MOST_OF_ONE: usize = 12 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// What the agent tells the model to be.
    Instructions,
    Agent,
    /// What a tool gave, as the agent reports it.
    Tool,
    Model,
}

/// A text, and how many bytes of it are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    pub text: String,
    pub omitted: usize,
}

/// A piece of a turn: with its text as it is shown, or as it was written in whatever API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<T = Cut> {
    Text(T),
    Reasoning(T),
    Call {
        name: String,
        input: T,
    },
    Output(T),
    /// Something that is no text, such as a picture.
    Other(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub speaker: Speaker,
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// What the request adds to those before it.
    pub said: Vec<Turn>,
    /// What came back; `None` where nothing that can be read did.
    pub reply: Option<Turn>,
    /// Whether it takes up no earlier request: a part of the agent begins anew.
    pub fresh: bool,
    /// Tokens in and out, as the model's server counts them.
    pub tokens: Option<(u64, u64)>,
    /// Why nothing is shown, where that is so.
    pub unread: Option<String>,
}

/// The exchanges of `rows`, in their order; `read` gives the bytes of a sealed file.
pub(super) fn conversation(
    rows: &[WireRow],
    read: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Vec<Exchange> {
    let mut known = Known { threads: Vec::new(), room: MOST_SHOWN, unread: MOST_OF_ALL };
    rows.iter().map(|row| known.exchange(row, read)).collect()
}

struct Known {
    /// The digests of the messages of the last request of each part of the agent.
    threads: Vec<Vec<Digest>>,
    /// Bytes that may still be shown.
    room: usize,
    /// Bytes that may still be read.
    unread: u64,
}

impl Known {
    fn exchange(&mut self, row: &WireRow, read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Exchange {
        let unread = |why: &str| Exchange { unread: Some(why.to_owned()), ..Exchange::default() };
        if !row.request_line.starts_with("POST") {
            return unread("asks for the list of models");
        }
        let Some(request) = self.within(read(&row.request_file)) else {
            return unread("the request was not sent on, or is too large to be shown");
        };
        let Some(body) = body(&request).and_then(|body| serde_json::from_slice(&body).ok()) else {
            return unread("the request cannot be read");
        };
        let body: Value = body;
        let api = spoken(&body, &row.request_line);
        let messages = messages(api, &body);
        let digests: Vec<Digest> =
            messages.iter().map(|message| Digest::sha256(message.key.as_bytes())).collect();
        // The longest history that this request goes on from; of several the first.
        let threads = self.threads.iter().map(Vec::as_slice).enumerate();
        let before = threads.filter(|(_, one)| !one.is_empty() && digests.starts_with(one));
        let best = before.map(|(number, one)| (number, one.len()));
        let best = best.reduce(|best, next| if next.1 > best.1 { next } else { best });
        let fresh = best.is_none();
        let mut new = &messages[best.map_or(0, |(_, length)| length)..];
        if !fresh {
            // The model's own words come back as history; they stand above as its reply.
            let own = new.iter().take_while(|message| message.speaker == Speaker::Model);
            new = &new[own.count()..];
        }
        match best {
            Some((number, _)) => self.threads[number] = digests,
            None => self.threads.push(digests),
        }
        let said = self.turns(new);
        let reply = self.within(read(&row.reply_file));
        let reply = reply.as_deref().and_then(self::body);
        let (message, tokens) = reply.map_or((None, None), |bytes| self::reply(api, &bytes));
        let reply = message.and_then(|message| self.turns(&[message]).pop());
        Exchange { said, reply, fresh, tokens, unread: None }
    }

    /// The bytes, where there are any and the budget has them.
    fn within(&mut self, bytes: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let bytes = bytes.filter(|bytes| !bytes.is_empty())?;
        self.unread = self.unread.checked_sub(bytes.len() as u64)?;
        Some(bytes)
    }

    /// Messages as turns; neighbours of one speaker are one turn.
    fn turns(&mut self, messages: &[Message]) -> Vec<Turn> {
        let mut out: Vec<Turn> = Vec::new();
        for message in messages {
            let parts: Vec<Part> = message.pieces.iter().map(|piece| self.part(piece)).collect();
            match out.last_mut().filter(|last| last.speaker == message.speaker) {
                Some(last) => last.parts.extend(parts),
                None => out.push(Turn { speaker: message.speaker, parts }),
            }
        }
        out.retain(|turn| !turn.parts.is_empty());
        out
    }

    fn part(&mut self, piece: &Piece) -> Part {
        match piece {
            Piece::Text(text) => Part::Text(self.cut(text)),
            Piece::Reasoning(text) => Part::Reasoning(self.cut(text)),
            Piece::Call { name, input } => {
                Part::Call { name: name.chars().take(200).collect(), input: self.cut(input) }
            }
            Piece::Output(text) => Part::Output(self.cut(text)),
            Piece::Other(what) => Part::Other(what.chars().take(200).collect()),
        }
    }

    fn cut(&mut self, text: &str) -> Cut {
        let end = text.floor_char_boundary(text.len().min(MOST_OF_ONE).min(self.room));
        self.room -= end;
        Cut { text: text[..end].to_owned(), omitted: text.len() - end }
    }
}

/// The body of an HTTP message; one that was cut off is as long as it is.
fn body(message: &[u8]) -> Option<Vec<u8>> {
    let end = http1::head_end(message)?;
    let (head, rest) = message.split_at(end);
    let mut out = Vec::new();
    // A request's body is as long as the file; a reply says how it is framed.
    match http1::parse_reply(head) {
        Ok(mut head) => {
            // What was read before the framing broke is still what came.
            let _ = head.body.feed(rest, &mut out);
        }
        Err(_) => out.extend_from_slice(rest),
    }
    Some(out)
}

type Piece = Part<String>;

struct Message {
    speaker: Speaker,
    pieces: Vec<Piece>,
    /// What tells it from every other message.
    key: String,
}

impl Message {
    fn new(speaker: Speaker, pieces: Vec<Piece>, key: &Value) -> Self {
        Self { speaker, pieces, key: key.to_string() }
    }
}

/// The API whose path a request went to; where it is none's, what its body says.
fn spoken(body: &Value, line: &str) -> Api {
    // One path can end as another does.
    let served = list::ALL.into_iter().filter(|api| line.ends_with(api.path()));
    match served.max_by_key(|api| api.path().len()) {
        Some(api) => api.api(),
        None if body.get("input").is_some() => Api::OpenaiResponses,
        None => Api::OpenaiChat,
    }
}

fn messages(api: Api, body: &Value) -> Vec<Message> {
    let list = |name: &str| body[name].as_array().cloned().unwrap_or_default();
    let mut out = Vec::new();
    match api {
        Api::OpenaiChat => out.extend(list("messages").iter().map(chat_message)),
        Api::AnthropicMessages => {
            if !body["system"].is_null() {
                let pieces = texts(&body["system"]);
                out.push(Message::new(Speaker::Instructions, pieces, &body["system"]));
            }
            list("messages").iter().for_each(|one| out.extend(messages_message(one)));
        }
        Api::OpenaiResponses | Api::OpenaiCodexResponses => {
            if let Some(text) = body["instructions"].as_str() {
                let pieces = vec![Piece::Text(text.to_owned())];
                out.push(Message::new(Speaker::Instructions, pieces, &body["instructions"]));
            }
            match &body["input"] {
                Value::String(text) => {
                    let pieces = vec![Piece::Text(text.clone())];
                    out.push(Message::new(Speaker::Agent, pieces, &body["input"]));
                }
                _ => out.extend(list("input").iter().map(responses_item)),
            }
        }
    }
    out
}

/// The model's message, and the tokens in and out.
fn reply(api: Api, body: &[u8]) -> (Option<Message>, Option<(u64, u64)>) {
    let text = String::from_utf8_lossy(body);
    let whole: Option<Value> = serde_json::from_str(&text).ok();
    let events: Vec<Value> = match &whole {
        Some(_) => Vec::new(),
        None => text
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .filter_map(|data| serde_json::from_str(data.trim()).ok())
            .collect(),
    };
    let (pieces, usage) = match api {
        Api::OpenaiChat => chat_reply(whole.as_ref(), &events),
        Api::OpenaiResponses | Api::OpenaiCodexResponses => {
            responses_reply(whole.as_ref(), &events)
        }
        Api::AnthropicMessages => messages_reply(whole.as_ref(), &events),
    };
    let message = (!pieces.is_empty()).then(|| Message::new(Speaker::Model, pieces, &Value::Null));
    (message, usage)
}

/// A field that is a string, or a list of parts with texts in them.
fn texts(value: &Value) -> Vec<Piece> {
    match value {
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![Piece::Text(text.clone())],
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part["text"].as_str().or(part["refusal"].as_str()) {
                Some(text) => Piece::Text(text.to_owned()),
                None => Piece::Other(part["type"].as_str().unwrap_or("something").to_owned()),
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The texts of a tool's output as one.
fn output(value: &Value) -> Piece {
    match value {
        Value::String(text) => Piece::Output(text.clone()),
        Value::Array(_) => {
            let pieces = texts(value);
            let said = pieces.iter().map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Other(what) => format!("[{what}]"),
                _ => String::new(),
            });
            Piece::Output(said.collect::<Vec<_>>().join("\n"))
        }
        Value::Null => Piece::Output(String::new()),
        other => Piece::Output(other.to_string()),
    }
}

fn field<'a>(value: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| value[*name].as_str()).filter(|text| !text.is_empty())
}

/// Arguments, laid out where they are JSON.
fn arguments(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let parsed = serde_json::from_str::<Value>(text);
            parsed.map_or_else(|_| text.clone(), |value| laid_out(&value))
        }
        Value::Null => String::new(),
        other => laid_out(other),
    }
}

/// One line a field, and texts as they are: a command is read as a command.
fn laid_out(value: &Value) -> String {
    let Some(fields) = value.as_object() else { return format!("{value:#}") };
    let line = |(name, value): (&String, &Value)| match value {
        Value::String(text) if text.contains('\n') => format!("{name}:\n{text}"),
        Value::String(text) => format!("{name}: {text}"),
        other => format!("{name}: {other:#}"),
    };
    fields.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn called(name: &Value, input: &Value) -> Piece {
    Piece::Call { name: name.as_str().unwrap_or("?").to_owned(), input: arguments(input) }
}

fn chat_message(message: &Value) -> Message {
    let speaker = match message["role"].as_str() {
        Some("system" | "developer") => Speaker::Instructions,
        Some("assistant") => Speaker::Model,
        Some("tool" | "function") => Speaker::Tool,
        _ => Speaker::Agent,
    };
    let pieces = match speaker {
        Speaker::Tool => vec![output(&message["content"])],
        _ => chat_pieces(message),
    };
    Message::new(speaker, pieces, message)
}

fn chat_pieces(message: &Value) -> Vec<Piece> {
    let reasoning = field(message, &["reasoning", "reasoning_content"]);
    let mut out: Vec<Piece> =
        reasoning.iter().map(|text| Piece::Reasoning((*text).to_owned())).collect();
    out.extend(texts(&message["content"]));
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        out.push(called(&call["function"]["name"], &call["function"]["arguments"]));
    }
    out
}

fn tokens(usage: &Value) -> Option<(u64, u64)> {
    let of = |names: [&str; 2]| names.iter().find_map(|name| usage[*name].as_u64());
    Some((of(["prompt_tokens", "input_tokens"])?, of(["completion_tokens", "output_tokens"])?))
}

type Reply = (Vec<Piece>, Option<(u64, u64)>);

fn chat_reply(whole: Option<&Value>, events: &[Value]) -> Reply {
    if let Some(whole) = whole {
        return (chat_pieces(&whole["choices"][0]["message"]), tokens(&whole["usage"]));
    }
    let (mut reasoning, mut text, mut usage) = (String::new(), String::new(), None);
    let mut calls: BTreeMap<u64, (String, String)> = BTreeMap::new();
    for event in events {
        usage = tokens(&event["usage"]).or(usage);
        let delta = &event["choices"][0]["delta"];
        reasoning.push_str(field(delta, &["reasoning", "reasoning_content"]).unwrap_or_default());
        text.push_str(delta["content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let entry = calls.entry(call["index"].as_u64().unwrap_or(0)).or_default();
            entry.0.push_str(call["function"]["name"].as_str().unwrap_or_default());
            entry.1.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
    }
    let call = |(name, arguments)| json!({ "function": { "name": name, "arguments": arguments } });
    let calls: Vec<Value> = calls.into_values().map(call).collect();
    let message = json!({ "reasoning": reasoning, "content": text, "tool_calls": calls });
    (chat_pieces(&message), usage)
}

fn responses_item(item: &Value) -> Message {
    let speaker = match (item["type"].as_str(), item["role"].as_str()) {
        (Some("reasoning"), _) => Speaker::Model,
        (Some(kind), _) if kind.ends_with("_output") => Speaker::Tool,
        (Some(kind), _) if kind.ends_with("_call") => Speaker::Model,
        (_, Some("system" | "developer")) => Speaker::Instructions,
        (_, Some("assistant")) => Speaker::Model,
        _ => Speaker::Agent,
    };
    Message::new(speaker, responses_pieces(item), item)
}

fn responses_pieces(item: &Value) -> Vec<Piece> {
    match item["type"].as_str() {
        Some("reasoning") => {
            let parts = ["summary", "content"].map(|name| texts(&item[name]));
            let said = parts.into_iter().flatten().filter_map(|piece| match piece {
                Piece::Text(text) => Some(Piece::Reasoning(text)),
                _ => None,
            });
            said.collect()
        }
        Some(kind) if kind.ends_with("_output") => vec![output(&item["output"])],
        Some(kind) if kind.ends_with("_call") => {
            let name = item["name"].as_str().unwrap_or(kind).to_owned();
            let input = ["arguments", "input", "action"].map(|name| &item[name]);
            let input = input.into_iter().find(|value| !value.is_null()).unwrap_or(&Value::Null);
            vec![Piece::Call { name, input: arguments(input) }]
        }
        _ => texts(&item["content"]),
    }
}

fn responses_reply(whole: Option<&Value>, events: &[Value]) -> Reply {
    let last = events.iter().rev().find(|event| event["response"]["output"].is_array());
    let done = whole.or(last.map(|event| &event["response"]));
    let usage = done.and_then(|done| tokens(&done["usage"]));
    let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let finished = done.map(|done| items(&done["output"])).filter(|items| !items.is_empty());
    let of_events = || {
        let done = |event: &&Value| event["type"] == "response.output_item.done";
        events.iter().filter(done).map(|event| event["item"].clone()).collect()
    };
    let items: Vec<Value> = finished.unwrap_or_else(of_events);
    let mut pieces: Vec<Piece> = items.iter().flat_map(responses_pieces).collect();
    if pieces.is_empty() {
        // Cut off: what had come of the text.
        let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
        let text: String = deltas.filter_map(|event| event["delta"].as_str()).collect();
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
    }
    (pieces, usage)
}

/// A message of the Messages API: a tool's results stand in one of the agent's.
fn messages_message(message: &Value) -> Vec<Message> {
    let speaker = match message["role"].as_str() {
        Some("assistant") => Speaker::Model,
        _ => Speaker::Agent,
    };
    let Some(blocks) = message["content"].as_array() else {
        return vec![Message::new(speaker, texts(&message["content"]), message)];
    };
    let one = |block: &Value| {
        let speaker = match block["type"].as_str() {
            Some("tool_result") => Speaker::Tool,
            _ => speaker,
        };
        // A mark for the server's cache moves from message to message and changes nothing that is said.
        let mut key = block.clone();
        key.as_object_mut().map(|fields| fields.remove("cache_control"));
        Message::new(speaker, block_piece(block).into_iter().collect(), &key)
    };
    blocks.iter().map(one).collect()
}

fn block_piece(block: &Value) -> Option<Piece> {
    let text = |name: &str| block[name].as_str().map(str::to_owned);
    match block["type"].as_str() {
        Some("text") => text("text").filter(|text| !text.is_empty()).map(Piece::Text),
        Some("thinking") => text("thinking").map(Piece::Reasoning),
        Some("tool_use") => Some(called(&block["name"], &block["input"])),
        Some("tool_result") => Some(output(&block["content"])),
        other => Some(Piece::Other(other.unwrap_or("something").to_owned())),
    }
}

fn messages_reply(whole: Option<&Value>, events: &[Value]) -> Reply {
    if let Some(whole) = whole {
        let blocks = whole["content"].as_array().into_iter().flatten();
        return (blocks.filter_map(block_piece).collect(), tokens(&whole["usage"]));
    }
    let mut blocks: BTreeMap<u64, (Value, String)> = BTreeMap::new();
    let (mut input, mut output) = (None, None);
    for event in events {
        let index = event["index"].as_u64().unwrap_or(0);
        let delta = &event["delta"];
        match event["type"].as_str() {
            Some("message_start") => input = event["message"]["usage"]["input_tokens"].as_u64(),
            Some("message_delta") => output = event["usage"]["output_tokens"].as_u64().or(output),
            Some("content_block_start") => {
                let block = event["content_block"].clone();
                let first = field(&block, &["text", "thinking"]).unwrap_or_default().to_owned();
                blocks.insert(index, (block, first));
            }
            Some("content_block_delta") => {
                if let Some((_, text)) = blocks.get_mut(&index) {
                    let more = field(delta, &["text", "partial_json", "thinking"]);
                    text.push_str(more.unwrap_or_default());
                }
            }
            _ => {}
        }
    }
    let pieces = blocks.into_values().filter_map(|(mut block, text)| {
        let key = match block["type"].as_str() {
            Some("tool_use") => "input",
            Some("thinking") => "thinking",
            Some("text") => "text",
            _ => return block_piece(&block),
        };
        block[key] = text.into();
        block_piece(&block)
    });
    (pieces.collect(), input.zip(output))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u32, path: &str) -> WireRow {
        WireRow {
            number,
            request_line: format!("POST {path}"),
            status: Some(200),
            class: "ok_text".into(),
            request_file: format!("{number}.request"),
            reply_file: format!("{number}.reply"),
            ..WireRow::default()
        }
    }

    /// The exchanges of requests and replies; a reply that is no object is a stream.
    fn read(path: &str, pairs: &[(Value, String)]) -> Vec<Exchange> {
        let rows: Vec<WireRow> = (1..).zip(pairs).map(|(number, _)| row(number, path)).collect();
        let read = |name: &str| {
            let (number, part) = name.split_once('.')?;
            let (request, reply) = pairs.get(number.parse::<usize>().ok()? - 1)?;
            let text = match part {
                "request" => format!("POST {path} HTTP/1.1\r\nHost: x\r\n\r\n{request}"),
                _ => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{reply}"),
            };
            Some(text.into_bytes())
        };
        conversation(&rows, &read)
    }

    fn stream(events: &[Value]) -> String {
        events.iter().map(|event| format!("data: {event}\n\n")).collect()
    }

    fn said(turns: &[Turn]) -> String {
        let part = |part: &Part| match part {
            Part::Text(cut) => cut.text.clone(),
            Part::Reasoning(cut) => format!("({})", cut.text),
            Part::Call { name, input } => format!("{name}[{}]", input.text),
            Part::Output(cut) => format!("={}", cut.text),
            Part::Other(what) => format!("<{what}>"),
        };
        let one = |turn: &Turn| {
            let parts: Vec<String> = turn.parts.iter().map(part).collect();
            format!("{:?}: {}", turn.speaker, parts.join(" "))
        };
        turns.iter().map(one).collect::<Vec<_>>().join(" | ")
    }

    /// Each exchange in a line: what was said, what came back, and the tokens.
    fn told(all: &[Exchange]) -> Vec<String> {
        let reply = |one: &Exchange| said(one.reply.as_slice());
        let line =
            |one: &Exchange| format!("{} => {} {:?}", said(&one.said), reply(one), one.tokens);
        all.iter().map(line).collect()
    }

    #[test]
    fn the_api_is_that_of_the_path() {
        for api in list::ALL {
            let line = format!("POST /v1{}", api.path());
            assert_eq!(spoken(&json!({ "input": [] }), &line), api.api());
        }
        assert_eq!(spoken(&json!({ "input": [] }), "POST /v1/else"), Api::OpenaiResponses);
        assert_eq!(spoken(&json!({}), "POST /v1/else"), Api::OpenaiChat);
    }

    #[test]
    fn chat_completions_are_turns_that_are_said_once() {
        let first =
            json!([{ "role": "system", "content": "be" }, { "role": "user", "content": "do" }]);
        let call = json!({ "id": "c", "type": "function",
            "function": { "name": "bash", "arguments": "{\"command\":\"ls\"}" } });
        let second = json!([first[0], first[1],
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c", "content": "a b" }]);
        let delta = |delta: Value| json!({ "choices": [{ "delta": delta }] });
        let streamed = stream(&[
            delta(json!({ "reasoning": "hm" })),
            delta(
                json!({ "tool_calls": [{ "index": 0, "function": { "name": "bash", "arguments": "{\"comm" } }] }),
            ),
            delta(
                json!({ "tool_calls": [{ "index": 0, "function": { "arguments": "and\":\"ls\"}" } }] }),
            ),
            json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": 3 } }),
        ]);
        let whole = json!({ "choices": [{ "message": { "content": "done" } }] }).to_string();
        let all = read(
            "/v1/chat/completions",
            &[
                (json!({ "messages": first }), streamed),
                (json!({ "messages": second }), whole.clone()),
                (json!({ "messages": [{ "role": "user", "content": "review" }] }), whole),
            ],
        );
        let want = [
            "Instructions: be | Agent: do => Model: (hm) bash[command: ls] Some((7, 3))",
            // What was said before is not said again.
            "Tool: =a b => Model: done None",
            "Agent: review => Model: done None",
        ];
        assert_eq!(told(&all), want);
        assert_eq!([all[0].fresh, all[1].fresh, all[2].fresh], [true, false, true]);
    }

    #[test]
    fn responses_are_turns() {
        let user = json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "do" }] });
        let call = json!({ "type": "function_call", "call_id": "c", "name": "shell", "arguments": "{\"cmd\":\"ls\"}" });
        let message = json!({ "type": "message", "role": "assistant",
            "content": [{ "type": "output_text", "text": "done" }] });
        let thought =
            json!({ "type": "reasoning", "summary": [{ "type": "summary_text", "text": "hm" }] });
        let output = json!({ "type": "function_call_output", "call_id": "c", "output": "a b" });
        let usage = json!({ "input_tokens": 5, "output_tokens": 2 });
        let done = |items: Value| {
            stream(&[json!({ "type": "response.completed",
            "response": { "output": items, "usage": usage } })])
        };
        let all = read(
            "/v1/responses",
            &[
                (json!({ "instructions": "be", "input": [user] }), done(json!([thought, call]))),
                (
                    json!({ "instructions": "be", "input": [user, thought, call, output] }),
                    stream(&[json!({ "type": "response.output_item.done", "item": message })]),
                ),
                (
                    json!({ "input": "alone" }),
                    stream(&[json!({ "type": "response.output_text.delta", "delta": "cut" })]),
                ),
            ],
        );
        let want = [
            "Instructions: be | Agent: do => Model: (hm) shell[cmd: ls] Some((5, 2))",
            "Tool: =a b => Model: done None",
            "Agent: alone => Model: cut None",
        ];
        assert_eq!(told(&all), want);
    }

    #[test]
    fn messages_are_turns() {
        let user = |cache: bool| {
            let mut block = json!({ "type": "text", "text": "do" });
            if cache {
                block["cache_control"] = json!({ "type": "ephemeral" });
            }
            json!({ "role": "user", "content": [block] })
        };
        let answer = json!({ "role": "assistant", "content": [
            { "type": "text", "text": "I look" }, { "type": "tool_use", "id": "t", "name": "bash", "input": { "command": "ls" } }] });
        let result = json!({ "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "text", "text": "a b" }] }] });
        let streamed = stream(&[
            json!({ "type": "message_start", "message": { "usage": { "input_tokens": 9 } } }),
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "I look" } }),
            json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "tool_use", "name": "bash", "input": {} } }),
            json!({ "type": "content_block_delta", "index": 1, "delta": { "type": "input_json_delta", "partial_json": "{\"command\":\"ls\"}" } }),
            json!({ "type": "message_delta", "usage": { "output_tokens": 4 } }),
        ]);
        let whole = json!({ "content": [{ "type": "text", "text": "done" }], "usage": { "input_tokens": 1, "output_tokens": 1 } });
        let all = read(
            "/v1/messages",
            &[
                (json!({ "system": "be", "messages": [user(true)] }), streamed),
                (
                    json!({ "system": "be", "messages": [user(false), answer, result] }),
                    whole.to_string(),
                ),
            ],
        );
        let want = [
            "Instructions: be | Agent: do => Model: I look bash[command: ls] Some((9, 4))",
            "Tool: =a b => Model: done Some((1, 1))",
        ];
        assert_eq!(told(&all), want);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_long_texts_are_cut() {
        let long = "x".repeat(MOST_OF_ONE + 5);
        let request = json!({ "messages": [{ "role": "user", "content": long }] });
        let all = read(
            "/v1/chat/completions",
            &[(request, "not a reply".into()), (json!(1), "{}".into())],
        );
        let Part::Text(cut) = &all[0].said[0].parts[0] else { panic!("{:?}", all[0]) };
        assert_eq!((cut.text.len(), cut.omitted), (MOST_OF_ONE, 5));
        assert_eq!(all[0].reply, None);
        assert!(all[1].said.is_empty() && all[1].reply.is_none());
        let none = conversation(&[row(1, "/v1/chat/completions")], &|_| None);
        assert!(none[0].unread.is_some());
    }
}
