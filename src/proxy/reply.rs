//! What a reply amounts to: facts and text as a wire API finds them in its events, and the class
//! that follows from the facts alone.
//!
//! A reply is gathered in one forward pass, and what is kept of it is capped: more text than any answer has ends the
//! reading, names are cut short, and lists have a length.

use std::collections::{BTreeMap, BTreeSet};

use super::json;
use crate::record::wire::{
    ClosedBy, ConnectFault, ReasoningField, ReplyClass, ReplyFacts, ReplyVerdict, ToolCallFacts,
    Usage,
};

/// Most text kept of one reply, in bytes: content, reasoning and arguments together. A budget of 32,000 tokens, the
/// most that Case asks for, is about 200 KB.
const MAX_TEXT: usize = 8 << 20;
/// Tool calls that are kept apart; more are malformed. A model that works has a handful.
const MAX_TOOLS: usize = 256;
/// Model names that are kept: the second one already makes the reply another model's.
const MAX_MODELS: usize = 8;
/// Longest name taken from a reply into a record, in characters.
const MAX_NAME: usize = 200;

/// A tool call that is still being joined.
#[derive(Default)]
struct ToolCall {
    name: String,
    arguments: String,
    pieces: u64,
    /// Arguments came as something else than text.
    odd: bool,
}

/// A reply as far as it has been read.
#[derive(Default)]
pub struct Reply {
    pub(super) facts: ReplyFacts,
    content: String,
    reasoning: String,
    models: BTreeSet<String>,
    reasoning_fields: BTreeSet<ReasoningField>,
    tools: BTreeMap<u64, ToolCall>,
    kept: usize,
    /// Text since it was last taken, for the look for secrets.
    fresh: Vec<u8>,
}

impl Reply {
    /// Text of the answer. Reasoning in it, between `<think>` and `</think>`, is told apart at the end.
    pub fn content(&mut self, text: &str) {
        if self.keep(text) {
            self.content.push_str(text);
        }
    }

    /// Reasoning under this name; no text where it was given under another name before.
    pub fn reasoning(&mut self, field: ReasoningField, text: &str) {
        self.reasoning_fields.insert(field);
        if self.keep(text) {
            self.reasoning.push_str(text);
        }
    }

    /// A piece of the tool call with this index: of its name, of its arguments, or of both. `None` are arguments that
    /// are no text.
    pub fn tool_call(&mut self, index: u64, name: &str, arguments: Option<&str>) {
        if self.tools.len() >= MAX_TOOLS && !self.tools.contains_key(&index) {
            self.facts.malformed += 1;
            return;
        }
        let fits = self.keep(arguments.unwrap_or_default());
        let call = self.tools.entry(index).or_default();
        call.pieces += 1;
        let left = MAX_NAME.saturating_sub(call.name.chars().count());
        call.name.extend(name.chars().take(left));
        match arguments {
            Some(text) if fits => call.arguments.push_str(text),
            Some(_) => {}
            None => call.odd = true,
        }
    }

    pub fn model(&mut self, name: &str) {
        if self.models.len() < MAX_MODELS {
            self.models.insert(short(name));
        }
    }

    pub fn usage(&mut self, usage: Usage) {
        self.facts.usage = Some(usage);
    }

    /// That the reply has a choice of this index. Only the text of choice 0 is to be given.
    pub fn choice(&mut self, index: u64) {
        self.facts.choices = self.facts.choices.max(index.saturating_add(1));
    }

    pub fn finish_reason(&mut self, reason: &str) {
        self.facts.finish_reason = Some(short(reason));
    }

    /// An error object, by its code or its message. The first one is kept.
    pub fn error(&mut self, name: &str) {
        self.facts.error.get_or_insert_with(|| short(name));
    }

    /// An event or a body that is not what it should be.
    pub fn malformed(&mut self) {
        self.facts.malformed += 1;
    }

    /// Counts `text` against what may be kept, and gives it to the look for secrets.
    fn keep(&mut self, text: &str) -> bool {
        self.kept = self.kept.saturating_add(text.len());
        let fits = self.kept <= MAX_TEXT;
        if fits {
            self.fresh.extend_from_slice(text.as_bytes());
        }
        fits
    }

    /// More text came than is kept: what was gathered is not the whole reply.
    pub(super) fn overflowed(&self) -> bool {
        self.kept > MAX_TEXT
    }

    pub(super) fn take_fresh(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.fresh)
    }

    /// The facts, and the content without reasoning.
    pub(super) fn finish(mut self) -> (ReplyFacts, String) {
        let (content, thought) = split_thinking(&self.content);
        if !thought.trim().is_empty() || content.len() != self.content.len() {
            self.reasoning_fields.insert(ReasoningField::ThinkTag);
            self.reasoning.push_str(&thought);
        }
        let mut facts = self.facts;
        facts.content_chars = visible(&content);
        facts.reasoning_chars = visible(&self.reasoning);
        facts.content_has_tool_markup = has_tool_markup(&content);
        facts.reasoning_has_tool_markup = has_tool_markup(&self.reasoning);
        facts.reasoning_fields = self.reasoning_fields.into_iter().collect();
        facts.models = self.models.into_iter().collect();
        let calls = self.tools.into_iter().map(|(index, call)| ToolCallFacts {
            index,
            name: call.name,
            pieces: call.pieces,
            argument_bytes: call.arguments.len() as u64,
            arguments_ok: !call.odd
                && json::read(call.arguments.as_bytes()).is_ok_and(|value| value.is_object()),
        });
        facts.tool_calls = calls.collect();
        (facts, content)
    }
}

fn short(text: &str) -> String {
    text.chars().take(MAX_NAME).collect()
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
    let (mut inside, mut saw_tag) = (false, false);
    // Nothing but white space since the line began or a thought ended.
    let mut blank = true;
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        if inside { &mut thought } else { &mut answer }.push_str(before);
        blank = match before.rsplit_once('\n') {
            Some((_, line)) => line.trim().is_empty(),
            None => blank && before.trim().is_empty(),
        };
        let opens = tag.starts_with(OPEN);
        let closes = tag.starts_with(CLOSE);
        rest = if opens && blank && !inside {
            inside = true;
            &tag[OPEN.len()..]
        } else if closes && inside {
            (inside, blank) = (false, true);
            &tag[CLOSE.len()..]
        } else if closes && !saw_tag {
            thought = std::mem::take(&mut answer);
            blank = true;
            &tag[CLOSE.len()..]
        } else {
            if inside { &mut thought } else { &mut answer }.push('<');
            blank = false;
            &tag[1..]
        };
        saw_tag |= opens || closes;
    }
    if inside { &mut thought } else { &mut answer }.push_str(rest);
    (answer, thought)
}

/// The class of a reply, from its facts alone. The first rule that fits decides; the order puts causes before their
/// consequences (an error event also lacks a `finish_reason`). `cut_short` is the API's `finish_reason` of a reply that
/// the token budget ended.
pub fn classify(facts: &ReplyFacts, admitted_model: &str, cut_short: &str) -> ReplyVerdict {
    let (class, detail) = first_match(facts, admitted_model, cut_short);
    ReplyVerdict { class, detail: detail.to_owned() }
}

fn first_match(
    facts: &ReplyFacts,
    admitted_model: &str,
    cut_short: &str,
) -> (ReplyClass, &'static str) {
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
    of_content(facts, cut_short)
}

/// The class of a whole reply of the right model.
fn of_content(facts: &ReplyFacts, cut_short: &str) -> (ReplyClass, &'static str) {
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
    let by_length = facts.finish_reason.as_deref() == Some(cut_short);
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

#[cfg(test)]
mod tests {
    use super::split_thinking;

    #[test]
    fn a_thought_is_told_from_speaking_of_the_tag() {
        for (text, answer, thought) in [
            ("Use the <think> tag.", "Use the <think> tag.", ""),
            ("Use the <think> tag.</think>", "Use the <think> tag.</think>", ""),
            ("a\n <think>b<think>c</think>d", "a\n d", "b<think>c"),
            ("a</think>b</think>c", "b</think>c", "a"),
            ("a</think><think>b</think>c", "c", "ab"),
            ("<think>a", "", "a"),
            ("a < b\n<think>c < d</think>", "a < b\n", "c < d"),
        ] {
            let got = split_thinking(text);
            assert_eq!(got, (answer.to_owned(), thought.to_owned()), "{text}");
        }
    }
}
