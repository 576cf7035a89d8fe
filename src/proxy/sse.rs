//! Server-sent events, incrementally (WHATWG HTML, section "Server-sent events"), and the class of a reply.

use crate::record::wire::{ClosedBy, ConnectFault, ReplyClass, ReplyFacts, ReplyVerdict};

/// Longest line in bytes. A chat completion's frame is far below; a server that never ends a line must not fill memory.
const MAX_LINE: usize = 8 * 1024 * 1024;

/// Splits a stream of bytes into the data of its events.
#[derive(Default)]
pub struct SseDecoder {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    started: bool,
    overflow: bool,
}

impl SseDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and calls `event` with the data of each event that became complete. Lines may end in LF,
    /// CR or both; the `data` lines of one event are joined by LF; comments and other fields are left out.
    pub fn feed(&mut self, bytes: &[u8], mut event: impl FnMut(&[u8])) {
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => self.end_line(&mut event),
                _ if self.line.len() >= MAX_LINE => self.overflow = true,
                _ => self.line.push(byte),
            }
        }
    }

    fn end_line(&mut self, event: &mut impl FnMut(&[u8])) {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.started, true) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                event(&std::mem::take(&mut self.data));
            }
        } else if let Some(value) = data_of(&line) {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            if self.data.len() + value.len() > MAX_LINE {
                self.overflow = true;
            } else {
                self.data.extend_from_slice(value);
            }
        }
        line.clear();
        self.line = line;
    }

    /// Ends the stream. An unfinished event counts for nothing, except `[DONE]`, which some servers send without the
    /// blank line or even without a line end.
    pub fn finish(mut self, mut event: impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            self.end_line(&mut |_: &[u8]| {});
        }
        if self.has_data && self.data.trim_ascii() == b"[DONE]" {
            event(b"[DONE]");
        }
    }

    /// Whether nothing of an unfinished event or line is kept.
    pub fn at_boundary(&self) -> bool {
        self.line.is_empty() && !self.has_data
    }

    /// A line or event was longer than this decoder takes; what it gave is not the whole stream.
    pub fn overflowed(&self) -> bool {
        self.overflow
    }
}

/// The value of a `data` field; one space after the colon is not part of it.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    if line == b"data" {
        return Some(b"");
    }
    let value = line.strip_prefix(b"data:")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// The class of a reply, from its facts alone. The first rule that fits decides; the order puts causes before their
/// consequences (an error frame also lacks a `finish_reason`).
pub fn classify(facts: &ReplyFacts, admitted_model: &str) -> ReplyVerdict {
    let (class, detail) = first_match(facts, admitted_model);
    ReplyVerdict { class, detail: detail.to_owned() }
}

fn first_match(facts: &ReplyFacts, admitted_model: &str) -> (ReplyClass, &'static str) {
    use ReplyClass::*;
    if facts.closed_by == Some(ClosedBy::Admit) {
        return (CutByAdmit, "cut_by_admit");
    }
    match facts.connect_fault {
        Some(ConnectFault::Refused) => return (ConnectionRefused, "refused"),
        Some(ConnectFault::TimedOut) => return (ConnectionRefused, "connect_timed_out"),
        Some(ConnectFault::Unreachable) => return (ConnectionRefused, "unreachable"),
        Some(ConnectFault::Tls) => return (UpstreamError, "tls"),
        Some(ConnectFault::Closed) => return (StreamTruncated, "no_reply_head"),
        Some(ConnectFault::NoReply) => return (UpstreamError, "no_reply"),
        Some(ConnectFault::BadHead) => return (UpstreamError, "bad_reply_head"),
        None => {}
    }
    match facts.status {
        None if facts.closed_by == Some(ClosedBy::Client) => return (ClientClosed, "before_reply"),
        None => return (StreamTruncated, "no_reply_head"),
        Some(200) => {}
        Some(401) => return (AuthUnavailable, "http_401"),
        Some(403) => return (AuthUnavailable, "http_403"),
        Some(404) if names_model(facts) => return (UpstreamError, "model_not_found"),
        Some(404) => return (UpstreamError, "http_404"),
        Some(429) => return (UpstreamError, "http_429"),
        Some(300..=399) => return (UpstreamError, "redirect"),
        Some(400..=499) => return (UpstreamError, "http_4xx"),
        Some(500..=599) => return (UpstreamError, "http_5xx"),
        Some(_) => return (UpstreamError, "unexpected_status"),
    }
    if facts.error.is_some() {
        return (UpstreamError, "error_after_200");
    }
    let whole = facts.body_whole && facts.finish_reason.is_some();
    if facts.closed_by == Some(ClosedBy::Client) && !(whole && (facts.saw_done || !facts.streamed))
    {
        return (ClientClosed, "during_reply");
    }
    if !facts.body_whole {
        return (StreamTruncated, "cut");
    }
    if facts.malformed > 0 {
        return (UpstreamError, "malformed_reply");
    }
    if facts.streamed && !facts.saw_done {
        return (StreamTruncated, "missing_done");
    }
    if facts.finish_reason.is_none() {
        return (StreamTruncated, "missing_finish_reason");
    }
    if facts.models.is_empty() {
        return (ModelMismatch, "model_not_named");
    }
    if facts.models.iter().any(|model| model != admitted_model) {
        return (ModelMismatch, "other_model");
    }
    of_content(facts)
}

/// The class of a whole reply of the right model.
fn of_content(facts: &ReplyFacts) -> (ReplyClass, &'static str) {
    use ReplyClass::*;
    if facts.tool_calls.iter().any(|call| !call.arguments_ok) {
        return (MalformedToolCall, "arguments_not_json");
    }
    if facts.tool_calls.iter().any(|call| call.name.is_empty()) {
        return (MalformedToolCall, "no_name");
    }
    if facts.content_has_tool_markup && facts.tool_calls.is_empty() {
        return (MalformedToolCall, "tool_markup_in_content");
    }
    if !facts.tool_calls.is_empty() {
        return (OkTools, "tools");
    }
    let by_length = facts.finish_reason.as_deref() == Some("length");
    if facts.content_chars > 0 {
        return (OkText, if by_length { "length" } else { "text" });
    }
    if facts.reasoning_chars > 0 {
        return if by_length {
            (ResponseShapeUnavailable, "reasoning_only_length")
        } else if facts.reasoning_has_tool_markup {
            (ResponseShapeUnavailable, "reasoning_only_tool_in_think")
        } else {
            (ResponseShapeUnavailable, "reasoning_only_no_close")
        };
    }
    let spent = facts.usage.is_some_and(|usage| {
        usage.completion_tokens > 0 || usage.reasoning_tokens.is_some_and(|n| n > 0)
    });
    if spent || !facts.reasoning_fields.is_empty() {
        return (ResponseShapeUnavailable, "hidden_reasoning");
    }
    (EmptyReply, "empty")
}

/// Whether a 404 speaks of the model and not of the path. The codes are vLLM's and the OpenAI API's.
fn names_model(facts: &ReplyFacts) -> bool {
    let Some(error) = &facts.error else { return false };
    let error = error.to_ascii_lowercase();
    error.contains("model") || error.contains("notfounderror")
}
