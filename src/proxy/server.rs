//! The one way from the agent to its model.
//!
//! Serves the one path of the model's wire API and `GET /v1/models` on a listener that belongs to the sandbox. One
//! model id is let through; the agent shows a sentinel made for this run, and the real key is added here. Requests are
//! parsed and written anew, replies pass byte for byte after a look for secrets, and all is recorded before it goes on.
//!
//! One request a connection, and one thread for all of it: what the proxy adds to a chunk is a scan and a copy.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use super::state::{Part, ProxyLimits, Recorder, WireEvent};
use super::state::{Shared, State};
use super::upstream::Upstream;
use super::{exchange, names};
use crate::error::{Error, Reason, Result};
use crate::record::wire::ProxyRecord;
use crate::secrets::Secret;

/// Most connections served at a time; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// How long exchanges may take to end after a stop.
const DRAIN: Duration = Duration::from_secs(2);

pub struct ProxyConfig {
    /// The one model id that is let through.
    pub model: String,
    /// What the agent must show as its key.
    pub sentinel: Secret,
    pub upstream: Upstream,
    /// Where the sandbox's programs ask for host names.
    pub names: Option<UdpSocket>,
    pub limits: ProxyLimits,
    pub recorder: Box<dyn Recorder>,
    /// Where events go; a receiver that is gone is no fault.
    pub events: Option<Sender<WireEvent>>,
}

pub struct Proxy {
    started: Instant,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<ProxyRecord>>,
}

impl Proxy {
    /// Starts to serve `listener`. Returns as soon as the thread runs; the listener accepts from the start.
    pub fn start(listener: TcpListener, config: ProxyConfig) -> Result<Self> {
        let fail = |what: &'static str| move |err: io::Error| Error::io(what, "proxy", err);
        listener.set_nonblocking(true).map_err(fail("set up the listener"))?;
        let runtime = super::runtime().map_err(fail("start the proxy"))?;
        let (stop, stopped) = watch::channel(false);
        let (network_class, tls) = match &config.upstream {
            Upstream::Http { endpoint, .. } => {
                (Some(endpoint.network().name().to_owned()), endpoint.is_tls())
            }
            Upstream::Local(_) => (None, false),
        };
        let sentinel = String::from_utf8_lossy(config.sentinel.expose());
        let shown_key = Secret::new(config.upstream.api().shown_key(&sentinel).into_bytes());
        let shown_key = shown_key
            .ok_or_else(|| Error::new(Reason::Internal, "an agent without a key of the run"))?;
        let shared = Arc::new(Shared {
            known: config.upstream.known(Vec::new()),
            shown_key,
            limits: config.limits,
            started: Instant::now(),
            held: AtomicU64::new(0),
            state: Mutex::new(State {
                record: ProxyRecord::new(
                    config.model.clone(),
                    config.upstream.kind(),
                    network_class,
                    tls,
                ),
                next: 1,
                recorder: config.recorder,
                events: config.events,
            }),
            model: config.model,
            upstream: config.upstream,
        });
        let (started, names) = (shared.started, config.names);
        let thread = std::thread::Builder::new()
            .name("proxy".into())
            .spawn(move || {
                runtime.block_on(serve(listener, names, Arc::clone(&shared), stopped));
                // Tasks that outlived the drain end here; what they held of `shared` goes with them.
                drop(runtime);
                let mut state = shared.state();
                state.record.duration_ns = shared.now_ns();
                state.record.exchanges.sort_by_key(|exchange| exchange.exchange);
                state.record.clone()
            })
            .map_err(fail("start the proxy"))?;
        Ok(Self { started, stop, thread: Some(thread) })
    }

    /// The moment from which the times in its record are counted.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Stops serving, ends what is under way, and gives the record.
    pub fn stop(mut self) -> Result<ProxyRecord> {
        let _ = self.stop.send(true);
        let thread = self.thread.take().map(JoinHandle::join);
        match thread {
            Some(Ok(record)) => Ok(record),
            _ => Err(Error::new(Reason::Internal, "the proxy's thread panicked")),
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

async fn serve(
    listener: TcpListener,
    asked: Option<UdpSocket>,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut tasks = JoinSet::new();
    let stopped = stop.clone();
    let mut asked = std::pin::pin!(names::serve(asked, &shared));
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            () = &mut asked => {}
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
