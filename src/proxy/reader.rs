//! Reads a copy of a reply as it comes, in pieces of any size: framing, compression, events, and what they say.
//!
//! The bytes that the agent gets are never made from this reading.

use std::io::Write as _;

use flate2::write::GzDecoder;

use super::api::WireApi;
use super::http1::{Body, ReplyHead};
use super::reply::Reply;
use super::sse::{Event, SseDecoder};
use crate::record::json;
use crate::record::wire::ReplyFacts;

/// Most bytes that a reply may have after decompression: more is an attack or a fault.
const MAX_DECODED: u64 = 256 << 20;
/// Longest reply that is not a stream, in bytes.
pub(super) const MAX_BODY: usize = 8 << 20;
/// Longest content coding that is named, in characters.
const MAX_CODING: usize = 200;

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
    Whole(Vec<u8>),
    Read,
}

pub struct ReplyReader {
    api: &'static dyn WireApi,
    body: Body,
    gzip: Option<GzDecoder<Vec<u8>>>,
    decoded: u64,
    kind: Kind,
    pub(super) reply: Reply,
}

impl ReplyReader {
    /// A reader for the body that follows `head`. `Err` names a content coding that cannot be read.
    pub fn new(api: &'static dyn WireApi, head: &ReplyHead) -> Result<Self, String> {
        let gzip = match head.content_encoding.as_deref() {
            None | Some("identity") => None,
            Some("gzip" | "x-gzip") => Some(GzDecoder::new(Vec::new())),
            Some(other) => return Err(other.chars().take(MAX_CODING).collect()),
        };
        let streamed = head.content_type.as_deref().is_some_and(|t| t == "text/event-stream");
        let kind = if streamed { Kind::Sse(SseDecoder::new()) } else { Kind::Whole(Vec::new()) };
        let mut reply = Reply::default();
        reply.facts.status = Some(head.status);
        reply.facts.content_encoding.clone_from(&head.content_encoding);
        reply.facts.streamed = streamed;
        Ok(Self { api, body: head.body.clone(), gzip, decoded: 0, kind, reply })
    }

    /// Takes the next bytes of the body as received. `Err` where they are not what the head announced or more than is
    /// read; the reply cannot be read on then.
    pub fn feed(&mut self, raw: &[u8]) -> Result<Seen, String> {
        self.reply.facts.body_bytes += raw.len() as u64;
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
        match &mut self.kind {
            Kind::Sse(sse) => {
                sse.feed(&decoded, |one| event(self.api, one, &mut self.reply));
                if sse.overflowed() {
                    return Err("an event longer than the reader takes".into());
                }
            }
            Kind::Whole(body) => {
                if body.len() + decoded.len() > MAX_BODY {
                    return Err("a body longer than the reader takes".into());
                }
                body.extend_from_slice(&decoded);
                // Read before it may go on: what stands in it is looked through as text too.
                if self.body.is_whole(false) {
                    let body = std::mem::take(body);
                    self.kind = Kind::Read;
                    whole(self.api, &body, &mut self.reply);
                }
            }
            Kind::Read => {}
        }
        if self.reply.overflowed() {
            return Err("more text than the reader takes".into());
        }
        Ok(Seen { decoded, text: self.reply.take_fresh() })
    }

    /// Bytes that are kept: what no event is made of yet, and the text.
    pub fn kept(&self) -> usize {
        let raw = match &self.kind {
            Kind::Sse(sse) => sse.kept(),
            Kind::Whole(body) => body.len(),
            Kind::Read => 0,
        };
        raw + self.reply.kept()
    }

    /// Whether the body is complete, so that nothing more may come.
    pub fn is_whole(&self) -> bool {
        self.body.is_whole(false)
    }

    /// Whether a tool call in what has come is not whole: by the words of the reply, or because this is where it ends.
    pub fn has_half_call(&self) -> bool {
        self.reply.has_half_call(self.body.is_ending())
    }

    /// Whether what has come so far ends with a complete event. A part of an event is of no use to a client, and its
    /// text is not known before its end; for a reply that is no stream the whole body is one event.
    pub fn at_boundary(&self) -> bool {
        match &self.kind {
            Kind::Sse(sse) => sse.at_boundary(),
            Kind::Whole(_) | Kind::Read => self.is_whole(),
        }
    }

    /// Ends the reply. `eof`: the other side closed its end, without an error. Gives the facts, the content without
    /// reasoning, and the text that only became complete now (see [`Seen::text`]).
    pub fn finish(mut self, eof: bool) -> (ReplyFacts, String, Vec<u8>) {
        self.reply.facts.body_whole = self.body.is_whole(eof);
        match self.kind {
            // An unfinished event counts for nothing, except the last one, which some servers send without a line end.
            Kind::Sse(sse) => {
                if let Some(data) = sse.finish().filter(|data| self.api.ends_stream(data)) {
                    event(self.api, Event { name: b"", data: &data }, &mut self.reply);
                }
            }
            Kind::Whole(body) if self.reply.facts.body_whole => {
                whole(self.api, &body, &mut self.reply);
            }
            Kind::Whole(_) | Kind::Read => {}
        }
        let text = self.reply.take_fresh();
        let (facts, content) = self.reply.finish();
        (facts, content, text)
    }
}

fn event(api: &dyn WireApi, event: Event<'_>, reply: &mut Reply) {
    reply.facts.events += 1;
    if reply.facts.saw_done {
        reply.facts.after_done += 1;
    }
    api.event(event, reply);
    reply.settle(|reason| api.finish(reason));
}

fn whole(api: &dyn WireApi, body: &[u8], reply: &mut Reply) {
    match json::read(body) {
        Ok(value) if value.is_object() => api.body(&value, reply),
        _ => reply.malformed(),
    }
    reply.settle(|reason| api.finish(reason));
}
