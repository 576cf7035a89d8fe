//! What of a reply may be passed on, and when: the reply is looked through before the agent gets it. Pure.
//!
//! Three streams are looked through for the known secrets: the bytes as received, the body without its transfer and
//! content coding, and the model's text joined over the events. An unfinished event is held back (it is of no use to a
//! client), and so are bytes that may be the beginning of a secret, until the next ones show what they are. From the event on
//! that shows a tool call not to be whole nothing goes on any more: the reply is read to its end for the record alone. An
//! event that says of a call that it is whole, and all after it, waits for the one that says how the reply ends.

use super::api::{Finish, WireApi};
use super::http1::{Body, MAX_HEAD, head_end, parse_reply, reply_head_for_client};
use super::reader::{MAX_BODY, ReplyReader};
use crate::record::wire::{ConnectFault, CutReason, ReplyFacts};
use crate::secrets::{Known, Rules, Scanner};

/// Bytes are held back where they could begin a secret and are at least this many. Fewer give nothing away, and
/// holding them would delay a stream whenever a piece ends in the secret's first letter.
const HOLD: usize = 4;

/// Most bytes held back: what one reply that is no stream may have, with its framing.
const MAX_HELD: usize = MAX_BODY + (1 << 20);

/// What may go on now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// For the agent: as received, with `Connection: close` in the head. A body that only the connection's end ends goes on
    /// in chunks: Bun's client, for one, takes a reset for the end of such a body, and does not without its last chunk.
    pub to_client: Vec<u8>,
    /// The same as received, for the record.
    pub raw: Vec<u8>,
}

impl Released {
    fn add(&mut self, more: &Self) {
        self.to_client.extend_from_slice(&more.to_client);
        self.raw.extend_from_slice(&more.raw);
    }
}

/// Why a reply ends here.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// Cut: the reason, and the name of the secret or fault.
    Cut(CutReason, String),
    /// There is no reply that could be passed on.
    Fault(ConnectFault),
}

pub struct Relay {
    api: &'static dyn WireApi,
    raw: Scanner,
    decoded: Scanner,
    text: Scanner,
    head: Vec<u8>,
    reader: Option<ReplyReader>,
    /// Held back, as received.
    held: Vec<u8>,
    /// How much of it is head, and that head for the agent.
    held_head: (usize, Vec<u8>),
    /// The body is framed or compressed, so the decoded bytes differ from the raw ones.
    coded: bool,
    /// Once its head is there.
    pub(super) status: Option<u16>,
    frames_itself: bool,
    /// Whether a half tool call stops what goes on.
    guards: bool,
    /// A tool call is not whole, and nothing goes on any more.
    withheld: bool,
}

impl Relay {
    pub fn new(api: &'static dyn WireApi, known: &Known) -> Self {
        let scanner = || Scanner::new(known.clone(), Rules::Off);
        Self {
            api,
            raw: scanner(),
            decoded: scanner(),
            text: scanner(),
            head: Vec::new(),
            reader: None,
            held: Vec::new(),
            held_head: (0, Vec::new()),
            coded: false,
            status: None,
            frames_itself: true,
            guards: true,
            withheld: false,
        }
    }

    /// For a reply that no agent gets: one with a half tool call is kept whole.
    #[must_use]
    pub fn for_the_record(self) -> Self {
        Self { guards: false, ..self }
    }

    /// Takes the next bytes as received and gives what may go on. After an `Err` nothing more may go on.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Released, Stop> {
        if self.reader.is_some() {
            return self.body(bytes);
        }
        // The end may have begun in what came before.
        let from = self.head.len().saturating_sub(3);
        self.head.extend_from_slice(bytes);
        let Some(end) = head_end(&self.head[from..]).map(|end| from + end) else {
            return match self.head.len() > MAX_HEAD {
                true => Err(Stop::Fault(ConnectFault::BadHead)),
                false => Ok(Released::default()),
            };
        };
        let all = std::mem::take(&mut self.head);
        let (head, rest) = all.split_at(end);
        let parsed = parse_reply(head).map_err(|_| Stop::Fault(ConnectFault::BadHead))?;
        self.status = Some(parsed.status);
        if (300..=399).contains(&parsed.status) {
            return Err(Stop::Cut(CutReason::Redirect, format!("status {}", parsed.status)));
        }
        no_secret(&self.raw.feed(head))?;
        self.frames_itself = parsed.body != Body::UntilClose;
        self.coded = parsed.content_encoding.is_some() || matches!(parsed.body, Body::Chunked(_));
        self.reader =
            Some(ReplyReader::new(self.api, &parsed).map_err(|_| {
                Stop::Cut(CutReason::NotReadable, "an unknown content coding".into())
            })?);
        self.held.extend_from_slice(head);
        self.held_head = (head.len(), reply_head_for_client(head, self.frames_itself));
        let mut out = self.release();
        out.add(&self.body(rest)?);
        Ok(out)
    }

    /// Line by line, since one read may end in the middle of an event and everything before that is to go on.
    fn body(&mut self, bytes: &[u8]) -> Result<Released, Stop> {
        let mut out = Released::default();
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let Some(reader) = &mut self.reader else { break };
            let seen = reader.feed(line).map_err(|what| Stop::Cut(CutReason::NotReadable, what))?;
            no_secret(&self.raw.feed(line))?;
            if self.coded {
                no_secret(&self.decoded.feed(&seen.decoded))?;
            }
            no_secret(&self.text.feed(&seen.text))?;
            self.withheld |= self.guards && reader.has_half_call();
            if self.withheld {
                drop(self.take_held());
                continue;
            }
            self.held.extend_from_slice(line);
            if self.held.len() > MAX_HELD {
                let what = "more held back than any event needs".to_owned();
                return Err(Stop::Cut(CutReason::NotReadable, what));
            }
            out.add(&self.release());
        }
        Ok(out)
    }

    fn release(&mut self) -> Released {
        let pending = [&self.raw, &self.decoded, &self.text].map(Scanner::pending);
        let reader = self.reader.as_ref();
        let ready = |reader: &ReplyReader| {
            reader.at_boundary() && !(self.guards && reader.reply.awaits_end())
        };
        if !reader.is_some_and(ready) || pending.into_iter().any(|n| n >= HOLD) {
            return Released::default();
        }
        self.take_held()
    }

    fn take_held(&mut self) -> Released {
        let raw = std::mem::take(&mut self.held);
        let (head, mut to_client) = std::mem::take(&mut self.held_head);
        let body = &raw[head..];
        if self.frames_itself || body.is_empty() {
            to_client.extend_from_slice(body);
        } else {
            to_client.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
            to_client.extend_from_slice(body);
            to_client.extend_from_slice(b"\r\n");
        }
        Released { to_client, raw }
    }

    pub fn kept(&self) -> usize {
        self.held.len() + self.reader.as_ref().map_or(0, ReplyReader::kept)
    }

    /// Whether the reply is complete: by its own framing, or, where only the end of the connection is its end and nothing
    /// goes on any more, by its last event.
    pub fn is_whole(&self) -> bool {
        let unframed = self.withheld && !self.frames_itself;
        let done = |reader: &ReplyReader| unframed && reader.reply.is_done();
        self.reader.as_ref().is_some_and(|reader| reader.is_whole() || done(reader))
    }

    /// Ends the reply. `eof`: the other side closed its end properly. Gives the rest that may go on, the facts, and
    /// the assistant's content without reasoning; what was not released before a cut counts in the facts all the same.
    /// A reply that ends in the middle of a secret is released with that beginning; one with a half tool call is not, nor is
    /// the end of a call in a reply that never said how it ends.
    pub fn finish(mut self, eof: bool) -> (Result<Released, Stop>, ReplyFacts, String) {
        let mut rest = self.take_held();
        if eof && !self.frames_itself {
            rest.to_client.extend_from_slice(b"0\r\n\r\n");
        }
        let awaits = self.reader.as_ref().is_some_and(|reader| reader.reply.awaits_end());
        let (facts, content, text) = match self.reader {
            Some(reader) => reader.finish(eof),
            None => {
                let facts = ReplyFacts { status: self.status, ..ReplyFacts::default() };
                (facts, String::new(), Vec::new())
            }
        };
        let mut hits = self.text.feed(&text);
        hits.extend([self.raw, self.decoded, self.text].map(Scanner::finish).concat());
        let reason = facts.finish_reason.as_deref().map(|reason| self.api.finish(reason));
        let by_length = reason == Some(Finish::Length) && !facts.tool_calls.is_empty();
        let half = by_length || facts.tool_calls.iter().any(|call| !call.arguments_ok);
        let rest = if self.withheld || (self.guards && (awaits || (eof && half))) {
            Err(Stop::Cut(CutReason::HalfToolCall, "a tool call is not whole".to_owned()))
        } else {
            Ok(rest)
        };
        (no_secret(&hits).and(rest), facts, content)
    }
}

fn no_secret(hits: &[crate::secrets::Hit]) -> Result<(), Stop> {
    hits.first().map_or(Ok(()), |hit| Err(Stop::Cut(CutReason::Secret, hit.id.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::api::chat::tests::chunk;
    use crate::secrets::Secret;

    const KEY: &str = "Zq81-hidden-Key-77";

    fn relay() -> Relay {
        let secret = Secret::new(KEY.as_bytes().to_vec()).unwrap();
        Relay::new(&crate::proxy::api::chat::Chat, &Known::new(&[("key".into(), secret)]))
    }

    /// Feeds `reply` in pieces of `step`; gives what came through, as received, and whether it was cut. What the agent gets
    /// is the same, and ends cleanly only where nothing was cut.
    fn pass(reply: &[u8], step: usize) -> (Vec<u8>, Option<Stop>) {
        let mut relay = relay();
        let mut all = Released::default();
        let fed =
            reply.chunks(step).try_for_each(|piece| relay.feed(piece).map(|more| all.add(&more)));
        let rest = fed.and_then(|()| relay.finish(true).0.map(|more| all.add(&more)));
        let (Released { raw, to_client }, stop) = (all, rest.err());
        if raw.starts_with(HEAD.as_bytes()) {
            let end = head_end(&to_client).unwrap();
            let head = parse_reply(&to_client[..end]).unwrap();
            let Body::Chunked(_) = head.body else { panic!("{:?}", head.body) };
            let mut body = head.body;
            let mut out = Vec::new();
            body.feed(&to_client[end..], &mut out).unwrap();
            assert_eq!(out, raw[HEAD.len()..]);
            assert_eq!(body.is_whole(true), stop.is_none());
        }
        (raw, stop)
    }

    const HEAD: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

    fn frame(text: &str) -> String {
        chunk(&format!("{{\"content\":\"{text}\"}}"), "")
    }

    #[test]
    fn an_innocent_reply_comes_through_byte_for_byte() {
        let reply = format!("{HEAD}{}{}data: [DONE]\n\n", frame("Zq8"), frame("Zq81-hidden?"));
        for step in [1, 2, 7, 50, 5000] {
            let (out, stop) = pass(reply.as_bytes(), step);
            assert_eq!((out, stop), (reply.clone().into_bytes(), None), "{step}");
        }
    }

    #[test]
    fn a_half_tool_call_goes_on_up_to_the_event_that_shows_it() {
        let call = |arguments: &str| {
            chunk(
                &format!(
                    "{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"name\":\"bash\",\"arguments\":\"{arguments}\"}}}}]}}"
                ),
                "",
            )
        };
        let half = format!("{HEAD}{}", call("{\\\"command\\\": "));
        let rest = chunk("{}", "tool_calls") + "data: [DONE]\n\n";
        let end = format!("{}data: [DONE]\n\n", chunk("{}", "length"));
        let whole = format!("{HEAD}{}", call("{}"));
        let head = HEAD.to_owned();
        for (reply, rest, goes_on, good) in [
            (&half, rest.as_str(), &half, false),
            (&half, end.as_str(), &half, false),
            (&half, "", &half, false),
            // What could be taken as a whole call waits for how the reply ends.
            (&whole, end.as_str(), &head, false),
            (&whole, "", &head, false),
            (&whole, rest.as_str(), &whole, true),
        ] {
            let all = format!("{reply}{rest}");
            for step in [1, 7, 5000] {
                let (out, stop) = pass(all.as_bytes(), step);
                let passed = if good { &all } else { goes_on };
                assert_eq!(String::from_utf8(out).unwrap(), *passed, "{rest} {step}");
                let half = matches!(stop, Some(Stop::Cut(CutReason::HalfToolCall, _)));
                assert!(half != good, "{rest} {step}: {stop:?}");
            }
        }
        // Kept whole where no agent gets it.
        let mut kept = relay().for_the_record();
        let all = format!("{half}{rest}");
        assert_eq!(kept.feed(all.as_bytes()).unwrap().raw.len(), all.len());
        assert!(kept.finish(true).0.is_ok());
    }

    #[test]
    fn no_cut_of_the_bytes_lets_the_key_through() {
        let (left, right) = KEY.split_at(9);
        let chunked = |pieces: &[&str]| {
            let mut out = String::from(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            );
            for piece in pieces {
                out.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
            }
            out + "0\r\n\r\n"
        };
        let replies = [
            // Whole, in the head, over two chunks of the framing, over two frames.
            format!("{HEAD}{}", frame(KEY)),
            format!("HTTP/1.1 200 OK\r\nX-Echo: {KEY}\r\n\r\n"),
            chunked(&[&format!("data: {left}"), &format!("{right}\n\n")]),
            format!("{HEAD}{}{}", frame(left), frame(right)),
        ];
        for reply in &replies {
            for step in [1, 3, 8, 64, 5000] {
                let (out, stop) = pass(reply.as_bytes(), step);
                let cut = Stop::Cut(CutReason::Secret, "key".into());
                assert_eq!(stop, Some(cut), "{reply} {step}");
                let out = String::from_utf8(out).unwrap();
                assert!(!out.contains(&KEY[..HOLD + 1]), "{out}");
            }
        }
    }

    #[test]
    fn a_compressed_key_is_cut_too() {
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(frame(KEY).as_bytes()).unwrap();
        let mut reply =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n"
                .to_vec();
        reply.extend(gzip.finish().unwrap());
        assert_eq!(pass(&reply, 20).1, Some(Stop::Cut(CutReason::Secret, "key".into())));
        let br = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n";
        assert!(matches!(pass(br, 9).1, Some(Stop::Cut(CutReason::NotReadable, _))));
    }

    #[test]
    fn redirects_and_odd_heads_stop_before_anything_goes_on() {
        let (out, stop) = pass(b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", 5);
        let redirect = Stop::Cut(CutReason::Redirect, "status 302".into());
        assert_eq!((out.len(), stop), (0, Some(redirect)));
        for odd in [b"SSH-2.0-x\r\n\r\n".to_vec(), vec![b'a'; 40_000]] {
            let stop = pass(&odd, 999).1;
            assert_eq!(stop, Some(Stop::Fault(ConnectFault::BadHead)), "{} bytes", odd.len());
        }
    }
}
