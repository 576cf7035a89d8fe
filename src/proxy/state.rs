//! What all exchanges of one proxy share: its limits, its record, and where bytes and events go.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::upstream::Upstream;
use crate::record::wire::{CutReason, Limit, ProxyRecord, ReplyClass, RequestRefusal, WireRecord};
use crate::secrets::{Known, Secret};

/// What the proxy allows. Times are wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyLimits {
    /// Requests in all, refused ones included.
    pub requests: u32,
    /// Bytes of one request body.
    pub request_size: u64,
    /// Bytes of all request bodies.
    pub request_bytes: u64,
    pub reply_bytes: u64,
    /// Tokens in all, as the server counts them (`usage`). A reply is never cut for it; the next request is refused.
    pub tokens: u64,
    /// From the start of the proxy.
    pub wall: Duration,
    /// One reply, from the request to its end.
    pub reply: Duration,
    /// Silence of the model's side, before and within a reply.
    pub silence: Duration,
    /// One connection to the model's side.
    pub connect: Duration,
    /// One request, from its first byte to its last.
    pub request: Duration,
}

impl Default for ProxyLimits {
    /// Far above what a Stage 2 fixture needs (a whole run of the tiny profile makes below 100 requests), and far
    /// below what an agent in a loop would use up.
    fn default() -> Self {
        Self {
            requests: 500,
            request_size: 16 << 20,
            request_bytes: 512 << 20,
            reply_bytes: 512 << 20,
            tokens: 20_000_000,
            wall: Duration::from_secs(4 * 3600),
            reply: Duration::from_secs(1800),
            silence: Duration::from_secs(600),
            connect: Duration::from_secs(10),
            request: Duration::from_secs(30),
        }
    }
}

/// Which bytes of an exchange are given to the [`Recorder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The request as the agent sent it, with the value of `Authorization` replaced by `[withheld]`. Absent for a
    /// request whose head was refused, or that held a secret.
    Received,
    /// The request as passed on, with endpoint and key replaced by words in brackets.
    Forwarded,
    /// The reply as received, as far as it was passed on. Called once a piece.
    Reply,
    /// The assistant's content without reasoning, joined. Called once, at the end.
    Content,
}

/// Where the bytes of all exchanges go. Called before they go on to the other side, from the proxy's own thread; an
/// error stops the exchange and fails the run.
pub trait Recorder: Send {
    /// Writes `bytes` of `part` of the exchange; `at_ns` is nanoseconds since the proxy started.
    fn bytes(&mut self, exchange: u32, part: Part, at_ns: u64, bytes: &[u8]) -> io::Result<()>;
}

/// What passes, as it happens; for the clocks of the run. Times are nanoseconds since
/// the proxy started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireEvent {
    Request {
        exchange: u32,
        at_ns: u64,
    },
    Refused {
        exchange: u32,
        reason: RequestRefusal,
    },
    /// Bytes of a reply went to the agent.
    Bytes {
        exchange: u32,
        at_ns: u64,
        len: u64,
    },
    Cut {
        exchange: u32,
        reason: CutReason,
    },
    End {
        exchange: u32,
        at_ns: u64,
        /// What the reply amounts to, for a request to the model that was passed on.
        class: Option<ReplyClass>,
    },
}

pub(super) struct Shared {
    pub(super) model: String,
    /// The sentinel as the agent was given it.
    pub(super) shown_key: Secret,
    pub(super) upstream: Upstream,
    pub(super) limits: ProxyLimits,
    pub(super) known: Known,
    pub(super) started: Instant,
    /// Bytes that the exchanges under way hold.
    pub(super) held: AtomicU64,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) record: ProxyRecord,
    pub(super) next: u32,
    pub(super) recorder: Box<dyn Recorder>,
    pub(super) events: Option<Sender<WireEvent>>,
}

impl Shared {
    /// Nanoseconds since the proxy started.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that all exchanges under way may hold together: two of the largest requests.
pub(super) const MOST_HELD: u64 = 32 << 20;

/// What one exchange holds of its request or its reply, as long as this value is there.
pub(super) struct Held<'a> {
    pub(super) shared: &'a Shared,
    bytes: u64,
}

impl<'a> Held<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared, bytes: 0 }
    }

    /// Takes `more`, and says whether that is within the bound.
    pub(super) fn take(&mut self, more: u64) -> bool {
        self.bytes += more;
        self.shared.held.fetch_add(more, Ordering::Relaxed) + more <= MOST_HELD
    }

    /// Holds so much from now on, and says whether that is within the bound.
    pub(super) fn hold(&mut self, bytes: u64) -> bool {
        self.shared.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
        self.take(bytes)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.shared.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl State {
    /// Writes to the recorder; the first failure is kept and every later call fails too.
    pub(super) fn write(
        &mut self,
        exchange: u32,
        part: Part,
        at_ns: u64,
        bytes: &[u8],
    ) -> Result<(), ()> {
        if self.record.recorder_failure.is_some() {
            return Err(());
        }
        self.recorder.bytes(exchange, part, at_ns, bytes).map_err(|err| {
            self.record.recorder_failure = Some(err.to_string());
        })
    }

    pub(super) fn tell(&mut self, event: WireEvent) {
        if let Some(events) = &self.events {
            let _ = events.send(event);
        }
    }

    pub(super) fn hit_limit(&mut self, limit: Limit) {
        self.record.limit_hit.get_or_insert(limit);
    }

    pub(super) fn saw_secret(&mut self, id: &str) {
        if !self.record.secrets_seen.iter().any(|seen| seen == id) {
            self.record.secrets_seen.push(id.to_owned());
        }
    }

    pub(super) fn close(&mut self, exchange: WireRecord) {
        self.tell(WireEvent::End {
            exchange: exchange.exchange,
            at_ns: exchange.ended_ns,
            class: exchange.verdict.as_ref().map(|verdict| verdict.class),
        });
        self.record.exchanges.push(exchange);
    }
}
