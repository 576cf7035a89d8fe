//! The one door between the agent and its model.
//!
//! Serves `POST /v1/chat/completions` and `GET /v1/models` on a listener that belongs to the sandbox. One model id is
//! let through; the agent shows a sentinel made for this run, and the real key is added here. Requests are parsed and
//! written anew, replies pass byte for byte after a look for secrets, and everything is recorded before it goes on.
//!
//! One request a connection, and one thread for all of it: what the bridge adds to a chunk is a scan and a copy.

use std::io;
use std::net::TcpListener;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::exchange;
use super::upstream::Upstream;
use crate::error::{Error, Reason, Result};
use crate::record::wire::{CutReason, Limit, ProxyRecord, ReplyClass, RequestRefusal, WireRecord};
use crate::secrets::{Known, Secret};

/// Most connections served at a time; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// How long exchanges may take to end after a stop.
const DRAIN: Duration = Duration::from_secs(2);

/// What the bridge allows. Times are wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in all, refused ones included.
    pub requests: u32,
    /// Bytes of one request body.
    pub request_size: u64,
    /// Bytes of all request bodies.
    pub request_bytes: u64,
    pub reply_bytes: u64,
    /// Tokens in all, as the server counts them (`usage`). A reply is never cut for it; the next request is refused.
    pub tokens: u64,
    /// From the start of the bridge.
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

impl Default for Limits {
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

/// Where the bytes of all exchanges go. Called before they go on to the other side, from the bridge's own thread; an
/// error stops the exchange and fails the run.
pub trait Recorder: Send {
    /// Writes `bytes` of `part` of the exchange; `at_ns` is nanoseconds since the bridge started.
    fn bytes(&mut self, exchange: u32, part: Part, at_ns: u64, bytes: &[u8]) -> io::Result<()>;
}

/// What happens at the door, as it happens; for the clocks of whoever supervises the run. Times are nanoseconds since
/// the bridge started.
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
        /// What the reply amounts to, for a chat completion that was passed on.
        class: Option<ReplyClass>,
    },
}

/// Everything a bridge needs.
pub struct ProxyConfig {
    /// The one model id that is let through.
    pub model: String,
    /// What the agent must show as its bearer token.
    pub sentinel: Secret,
    pub upstream: Upstream,
    pub limits: Limits,
    /// Values beside the upstream's own that no request and no reply may hold.
    pub also_secret: Vec<(String, Secret)>,
    /// Where the bytes go.
    pub recorder: Box<dyn Recorder>,
    /// Where events go; a receiver that is gone is no fault.
    pub events: Option<Sender<WireEvent>>,
}

pub(super) struct Shared {
    pub(super) model: String,
    pub(super) sentinel: Secret,
    pub(super) upstream: Upstream,
    pub(super) limits: Limits,
    pub(super) known: Known,
    pub(super) started: Instant,
    state: Mutex<State>,
}

/// What changes while the bridge runs.
pub(super) struct State {
    pub(super) record: ProxyRecord,
    pub(super) next: u32,
    recorder: Box<dyn Recorder>,
    events: Option<Sender<WireEvent>>,
}

impl Shared {
    /// Nanoseconds since the bridge started.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Puts a finished exchange into the record.
    pub(super) fn close(&mut self, exchange: WireRecord) {
        self.tell(WireEvent::End {
            exchange: exchange.exchange,
            at_ns: exchange.ended_ns,
            class: exchange.verdict.as_ref().map(|verdict| verdict.class),
        });
        self.record.exchanges.push(exchange);
    }
}

pub struct Proxy {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<ProxyRecord>>,
}

impl Proxy {
    /// Starts to serve `listener`. Returns as soon as the thread runs; the listener accepts from the start.
    pub fn start(listener: TcpListener, config: ProxyConfig) -> Result<Self> {
        let fail = |what: &'static str| move |err: io::Error| Error::io(what, "bridge", err);
        listener.set_nonblocking(true).map_err(fail("set up the listener"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(fail("start the bridge"))?;
        let (stop, stopped) = watch::channel(false);
        let mut values = config.upstream.secret_values();
        values.extend(config.also_secret);
        let (network_class, tls) = match &config.upstream {
            Upstream::Http { endpoint, .. } => {
                (Some(endpoint.class().as_str().to_owned()), endpoint.is_tls())
            }
            Upstream::Local(_) => (None, false),
        };
        let shared = Arc::new(Shared {
            known: Known::new(&values),
            sentinel: config.sentinel,
            limits: config.limits,
            started: Instant::now(),
            state: Mutex::new(State {
                record: ProxyRecord {
                    model: config.model.clone(),
                    upstream: config.upstream.kind(),
                    network_class,
                    tls,
                    exchanges: Vec::new(),
                    silent_connections: 0,
                    request_bytes: 0,
                    reply_bytes: 0,
                    tokens: 0,
                    replies_without_usage: 0,
                    limit_hit: None,
                    secrets_seen: Vec::new(),
                    recorder_failure: None,
                    duration_ns: 0,
                },
                next: 1,
                recorder: config.recorder,
                events: config.events,
            }),
            model: config.model,
            upstream: config.upstream,
        });
        let thread = std::thread::Builder::new()
            .name("bridge".into())
            .spawn(move || {
                runtime.block_on(serve(listener, Arc::clone(&shared), stopped));
                // Tasks that outlived the drain end here; what they held of `shared` goes with them.
                drop(runtime);
                let mut state = shared.state();
                state.record.duration_ns = shared.now_ns();
                state.record.exchanges.sort_by_key(|exchange| exchange.exchange);
                state.record.clone()
            })
            .map_err(fail("start the bridge"))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops serving, ends what is under way, and gives the record.
    pub fn stop(mut self) -> Result<ProxyRecord> {
        let _ = self.stop.send(true);
        let thread = self.thread.take().map(JoinHandle::join);
        match thread {
            Some(Ok(record)) => Ok(record),
            _ => Err(Error::new(Reason::Internal, "the bridge's thread panicked")),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut tasks = JoinSet::new();
    let stopped = stop.clone();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            accepted = listener.accept(), if tasks.len() < MAX_CONNECTIONS => match accepted {
                Ok((client, _)) => {
                    tasks.spawn(exchange::serve(client, Arc::clone(&shared), stopped.clone()));
                }
                // Out of descriptors, or a connection that ended while it was accepted.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
}
