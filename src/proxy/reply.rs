//! What a reply amounts to: facts and text as a wire API finds them in its events, and the class
//! that follows from the facts alone.
//!
//! A reply is gathered in one forward pass, and what is kept of it is capped: more text than any answer has ends the
//! reading, names are cut short, and lists have a length.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::json;
use crate::record::wire::{
    ClosedBy, ConnectFault, ReasoningField, ReplyClass, ReplyFacts, ReplyVerdict, ToolCallFacts,
    Usage,
};

/// Most text kept of one reply, in bytes: content, reasoning and arguments together. A budget of 32,000 tokens, the
/// most that Case asks for, is about 200 KB.
const MAX_TEXT: usize = 8 << 20;
/// Tool calls that are kept apart; more are malformed. A model that works has a handful.
const MAX_TOOLS: usize = 256;
/// Parts of a reply that are kept apart where an API numbers them.
const MAX_PARTS: usize = 1024;
/// Model names that are kept: the second one already makes the reply another model's.
const MAX_MODELS: usize = 8;
/// How often tool calls are looked at anew where a reply says more than once that they ended: a look costs as much as they
/// are long.
const MAX_LOOKS: u32 = 16;
/// Longest name taken from a reply into a record, in characters.
const MAX_NAME: usize = 200;

/// How a reply says that it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model was done, or wants a tool.
    Done,
    /// The token budget ended it.
    Length,
    /// The model or its server declined to answer.
    Refused,
    /// A reason that is not known.
    Unknown,
}

/// A tool call that is still being joined.
#[derive(Default)]
struct ToolCall {
    name: String,
    arguments: String,
    pieces: u64,
    /// Arguments came as something else than text.
    odd: bool,
    /// The API says where a call ends, and has not said so.
    open: bool,
    /// Its input is any text.
    free: bool,
    /// How often it ended.
    ends: u32,
    /// What came so far ends like an object, so that a client which tries it after each piece may take it as whole.
    closes: bool,
}

impl ToolCall {
    fn is_whole(&self) -> bool {
        let object = || json::read(self.arguments.as_bytes()).is_ok_and(|value| value.is_object());
        !self.odd && !self.open && (self.free || object())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Text,
    Thought,
    Call,
    /// Something that no agent asked for.
    Other,
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
    /// Parts by number, and the text of those that have some.
    parts: BTreeMap<u64, (Part, String)>,
    /// The model declined, in a field that is made for it.
    refused: bool,
    /// A tool call is known not to be whole.
    half_call: bool,
    /// Something of a tool call came since the calls were looked at.
    unseen: bool,
    looks: u32,
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
        self.unseen = true;
        let fits = self.keep(arguments.unwrap_or_default());
        let call = self.tools.entry(index).or_default();
        call.pieces += 1;
        let left = MAX_NAME.saturating_sub(call.name.chars().count());
        call.name.extend(name.chars().take(left));
        match arguments {
            Some(text) if fits => {
                call.arguments.push_str(text);
                // White space leaves it as it was.
                if let Some(last) = text.trim_end().chars().next_back() {
                    call.closes = last == '}';
                }
            }
            Some(_) => {}
            None => call.odd = true,
        }
    }

    /// Begins the part with this number; a number that stands twice is a fault.
    pub fn open(&mut self, number: u64, part: Part) {
        if self.parts.len() >= MAX_PARTS || self.parts.contains_key(&number) {
            self.facts.malformed += 1;
            return;
        }
        self.parts.insert(number, (part, String::new()));
    }

    pub fn part(&self, number: u64) -> Option<Part> {
        self.parts.get(&number).map(|(part, _)| *part)
    }

    /// The part that was begun last, in an API whose servers may leave the number out.
    pub fn last_part(&self) -> Option<u64> {
        self.parts.last_key_value().map(|(number, _)| *number)
    }

    /// Text of the answer within a part.
    pub fn content_of(&mut self, number: u64, text: &str) {
        if self.keep(text) {
            self.content.push_str(text);
            if let Some((_, whole)) = self.parts.get_mut(&number) {
                whole.push_str(text);
            }
        }
    }

    /// The whole text of a part, after its pieces or instead of them. Pieces that say something else are a fault:
    /// clients take the one or the other.
    pub fn whole_content_of(&mut self, number: u64, text: &str) {
        match self.parts.get(&number) {
            Some((_, pieces)) if pieces == text => self.look_at(text),
            Some((_, pieces)) if pieces.is_empty() => self.content_of(number, text),
            _ => {
                self.look_at(text);
                self.malformed();
            }
        }
    }

    /// Begins a tool call of an API that says where a call ends.
    pub fn open_call(&mut self, index: u64, name: &str, free: bool) {
        self.tool_call(index, name, Some(""));
        if let Some(call) = self.tools.get_mut(&index) {
            (call.open, call.free) = (true, free);
        }
    }

    /// Ends a tool call; `whole` are all of its arguments where they are said once more, and pieces that say something
    /// else are a fault.
    pub fn close_call(&mut self, index: u64, whole: Option<&str>) {
        let Some(call) = self.tools.get_mut(&index) else {
            self.facts.malformed += 1;
            return;
        };
        call.open = false;
        match whole {
            Some(whole) if call.arguments.is_empty() && !whole.is_empty() => {
                self.tool_call(index, "", Some(whole));
            }
            Some(whole) => {
                let same = call.arguments == whole;
                self.look_at(whole);
                self.facts.malformed += u64::from(!same);
            }
            None => {}
        }
        let Some(call) = self.tools.get_mut(&index) else { return };
        call.ends += 1;
        let too_often = call.ends > MAX_LOOKS;
        self.half_call |= too_often || !call.is_whole();
        self.facts.malformed += u64::from(too_often);
    }

    /// A tool call of which the reply says itself that it is not whole.
    pub fn cut_call(&mut self, index: u64) {
        if let Some(call) = self.tools.get_mut(&index) {
            call.odd = true;
            self.half_call = true;
        }
    }

    /// Looks at the tool calls once the reply has said that it ended, and how.
    pub(super) fn settle(&mut self, finish: impl Fn(&str) -> Finish) {
        let ended = self.facts.saw_done || self.facts.finish_reason.is_some();
        if self.half_call || !ended || !self.unseen {
            return;
        }
        (self.unseen, self.looks) = (false, self.looks + 1);
        let reason = self.facts.finish_reason.as_deref();
        self.half_call = reason.is_some_and(|reason| finish(reason) == Finish::Length)
            || self.looks > MAX_LOOKS
            || !self.tools.values().all(ToolCall::is_whole);
        self.facts.malformed += u64::from(self.looks > MAX_LOOKS);
    }

    /// Whether a tool call is known not to be whole; `ended`: nothing more comes.
    pub(super) fn has_half_call(&self, ended: bool) -> bool {
        self.half_call || (ended && !self.tools.values().all(ToolCall::is_whole))
    }

    /// Whether a call was said to be whole by an event of its own, or can be taken as whole, and the reply has not said yet
    /// how it ends. With the token budget, that call is one that some servers completed; clients run it before they know
    /// (opencode as soon as the arguments are an object, seen).
    pub(super) fn awaits_end(&self) -> bool {
        let told = self.facts.finish_reason.is_some() || self.facts.error.is_some();
        !told && self.tools.values().any(|call| call.ends > 0 || call.closes)
    }

    /// The arguments of a call that has none at all.
    pub fn no_arguments(&mut self, index: u64) {
        if let Some(call) = self.tools.get_mut(&index).filter(|call| call.arguments.is_empty()) {
            call.arguments.push_str("{}");
        }
    }

    pub fn refused(&mut self, words: &str) {
        self.refused = true;
        self.keep(words);
    }

    /// The stream's own last event came.
    pub fn done(&mut self) {
        self.facts.saw_done = true;
    }

    pub fn is_done(&self) -> bool {
        self.facts.saw_done
    }

    pub fn model(&mut self, name: &str) {
        if self.models.len() < MAX_MODELS {
            self.models.insert(short(name));
        }
    }

    pub fn used(&self) -> Option<Usage> {
        self.facts.usage
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

    /// Text that was said before and is not kept again; only looked through for secrets.
    fn look_at(&mut self, text: &str) {
        self.fresh.extend_from_slice(text.as_bytes());
    }

    /// More text came than is kept: what was gathered is not the whole reply.
    pub(super) fn overflowed(&self) -> bool {
        self.kept > MAX_TEXT
    }

    /// Bytes of text that are kept.
    pub(super) fn kept(&self) -> usize {
        self.kept.min(MAX_TEXT)
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
        if self.refused && facts.finish_reason.is_some() {
            facts.finish_reason = Some("refusal".into());
        }
        facts.models = self.models.into_iter().collect();
        let calls = self.tools.into_iter().map(|(index, call)| ToolCallFacts {
            index,
            pieces: call.pieces,
            argument_bytes: call.arguments.len() as u64,
            arguments_ok: call.is_whole(),
            name: call.name,
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
/// consequences (an error event also lacks a `finish_reason`). `finish` is what the API makes of a `finish_reason`.
pub fn classify(
    facts: &ReplyFacts,
    admitted_model: &str,
    finish: impl Fn(&str) -> Finish,
) -> ReplyVerdict {
    let finish = facts.finish_reason.as_deref().map(finish);
    let (class, detail) = first_match(facts, admitted_model, finish);
    ReplyVerdict { class, detail: detail.to_owned() }
}

fn first_match(
    facts: &ReplyFacts,
    admitted_model: &str,
    finish: Option<Finish>,
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
    let Some(finish) = finish else {
        return (StreamTruncated, "missing_finish_reason");
    };
    if facts.models.is_empty() {
        return (ModelMismatch, "model_not_named");
    }
    if facts.models.iter().any(|model| model != admitted_model) {
        return (ModelMismatch, "other_model");
    }
    match finish {
        Finish::Refused => (UpstreamError, "refusal"),
        Finish::Unknown => (UpstreamError, "unknown_finish_reason"),
        Finish::Length => of_content(facts, true),
        Finish::Done => of_content(facts, false),
    }
}

/// The class of a whole reply of the right model.
fn of_content(facts: &ReplyFacts, by_length: bool) -> (ReplyClass, &'static str) {
    use ReplyClass::*;
    // Also one that is whole JSON: some servers complete what the budget cut.
    if by_length && !facts.tool_calls.is_empty() {
        return (MalformedToolCall, "cut_by_length");
    }
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
    use super::{Finish, Reply, split_thinking};

    #[test]
    fn calls_are_looked_at_a_bounded_number_of_times() {
        let mut reply = Reply::default();
        reply.finish_reason("stop");
        for index in 0..100 {
            reply.tool_call(index, "bash", Some("{}"));
            reply.settle(|_| Finish::Done);
            assert_eq!(reply.has_half_call(false), index >= 16, "{index}");
        }
        let mut reply = Reply::default();
        reply.open_call(0, "bash", false);
        (0..100).for_each(|_| reply.close_call(0, Some("{}")));
        assert!(reply.has_half_call(false) && reply.finish().0.malformed > 0);
    }

    #[test]
    fn a_call_is_half_as_soon_as_the_reply_shows_it() {
        // What the calls are, how the reply says that it ended, whether one of them is half then, and at the body's end.
        for (calls, finish, half, at_end) in [
            (&["{}"][..], Some(Finish::Done), false, false),
            (&["{}", "{\"a\""], None, false, true),
            (&["{}", "{\"a\""], Some(Finish::Done), true, true),
            (&["{}", "[]"], Some(Finish::Done), true, true),
            (&["{}"], Some(Finish::Length), true, true),
            (&[], Some(Finish::Length), false, false),
        ] {
            let mut reply = Reply::default();
            (0..).zip(calls).for_each(|(at, text)| reply.tool_call(at, "bash", Some(text)));
            finish.iter().for_each(|_| reply.finish_reason("x"));
            reply.settle(|_| finish.unwrap_or(Finish::Done));
            let got = (reply.has_half_call(false), reply.has_half_call(true));
            assert_eq!(got, (half, at_end), "{calls:?} {finish:?}");
        }
    }

    #[test]
    fn what_a_client_may_take_as_a_whole_call_waits_for_how_the_reply_ends() {
        for (pieces, awaits) in [
            (&["{\"a\": \"", "}"][..], true),
            (&["{\"a\": {}"], true),
            (&["{\"a\": {}", ", \"b\": "], false),
            (&["{\"a\": {}", " \n"], true),
            (&["{}", ""], true),
            (&["{\"a\": 1"], false),
            (&[""], false),
        ] {
            let mut reply = Reply::default();
            pieces.iter().for_each(|piece| reply.tool_call(0, "bash", Some(piece)));
            assert_eq!(reply.awaits_end(), awaits, "{pieces:?}");
            // The next call does not make the first one less whole.
            reply.tool_call(1, "bash", Some("{\"a"));
            assert_eq!(reply.awaits_end(), awaits, "{pieces:?}");
            reply.finish_reason("x");
            assert!(!reply.awaits_end(), "{pieces:?}");
        }
    }

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
