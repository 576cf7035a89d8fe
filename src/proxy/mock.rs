//! A model server on this machine's loopback that plays a [`ScriptedModel`]: what `admit health` connects the bridge to.
//! It speaks to nobody but processes of this machine, and ends when it is dropped.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use super::http1::{MAX_HEAD, head_end, parse_request};
use super::request::check;
use super::upstream::{ScriptedModel, ScriptedReply};
use crate::error::{Error, Result};

/// Longest request in bytes: an agent's whole conversation is far below.
const MAX_REQUEST: usize = 16 << 20;
/// Longest wait for the rest of a request that has begun.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a waiting thread looks whether the server ends.
const TICK: Duration = Duration::from_millis(10);

pub struct StandIn {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// The model id that requests must name.
    model: String,
    /// The model ids that the list names.
    listed: Vec<String>,
    player: Mutex<Box<dyn ScriptedModel>>,
    chats: AtomicU32,
    stop: Arc<AtomicBool>,
}

impl StandIn {
    /// Listens on a free port of 127.0.0.1. `listed` is what the model list names; completions are answered by `player`
    /// whose exchange 0 is the first one asked for: the probe's.
    ///
    /// # Errors
    /// [`crate::error::Reason::Io`] where no port can be had.
    pub fn start(
        model: &str,
        listed: &[&str],
        player: impl ScriptedModel + 'static,
    ) -> Result<Self> {
        let io = |err| Error::io("listen on", "127.0.0.1", err);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io)?;
        let addr = listener.local_addr().map_err(io)?;
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            model: model.to_owned(),
            listed: listed.iter().map(|id| (*id).to_owned()).collect(),
            player: Mutex::new(Box::new(player)),
            chats: AtomicU32::new(0),
            stop: Arc::clone(&stop),
        });
        let thread = std::thread::Builder::new()
            .name("stand-in".into())
            .spawn(move || accept(&listener, &shared))
            .map_err(|err| Error::io("start", "the stand-in's thread", err))?;
        Ok(Self { addr, stop, thread: Some(thread) })
    }

    /// The base URL, as an endpoint is configured.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(self.addr));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The base URL of a port at which nobody listens.
///
/// # Errors
/// [`crate::error::Reason::Io`] where no port can be had.
pub fn nobody() -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let addr = listener.and_then(|l| l.local_addr());
    addr.map(|addr| format!("http://{addr}/v1"))
        .map_err(|err| Error::io("find a port of", "127.0.0.1", err))
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // The other side may hang up at any time; that is its right.
        threads.push(std::thread::spawn(move || drop(serve(stream, &shared))));
    }
    for thread in threads {
        drop(thread.join());
    }
}

/// One request, one reply.
fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some((head, body)) = request(&mut stream, shared)? else { return Ok(()) };
    let reply = match parse_request(&head) {
        Ok(head) if head.method == "GET" => {
            let ids: Vec<_> =
                shared.listed.iter().map(|id| json!({ "id": id, "object": "model" })).collect();
            ScriptedReply::json(200, &json!({ "object": "list", "data": ids }))
        }
        Ok(_) => match check(&body, &shared.model) {
            Ok(chat) => {
                let exchange = shared.chats.fetch_add(1, Ordering::SeqCst);
                let mut player = shared.player.lock().unwrap_or_else(PoisonError::into_inner);
                player.reply(exchange, &chat)
            }
            Err((_, what)) => ScriptedReply::json(400, &json!({ "error": { "message": what } })),
        },
        Err((_, what)) => ScriptedReply::json(400, &json!({ "error": { "message": what } })),
    };
    play(&mut stream, &reply, shared)
}

/// The head and the body of one request; `None` where the other side or the server ended before it was whole.
fn request(stream: &mut TcpStream, shared: &Shared) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let begin = Instant::now();
    let mut all = Vec::new();
    let mut buf = [0; 16 * 1024];
    loop {
        match stream.read(&mut buf) {
            Ok(0) => return Ok(None),
            Ok(n) => all.extend_from_slice(&buf[..n]),
            Err(err) if waits(&err) => {}
            Err(err) => return Err(err),
        }
        let ended = shared.stop.load(Ordering::SeqCst) || begin.elapsed() > PATIENCE;
        if ended || all.len() > MAX_REQUEST {
            return Ok(None);
        }
        let Some(end) = head_end(&all) else {
            if all.len() > MAX_HEAD {
                return Ok(None);
            }
            continue;
        };
        let Ok(mut framing) = parse_request(&all[..end]).map(|head| head.body) else {
            return Ok(Some((all[..end].to_vec(), Vec::new())));
        };
        let mut body = Vec::new();
        if framing.feed(&all[end..], &mut body).is_err() {
            return Ok(None);
        }
        if framing.is_whole(false) {
            return Ok(Some((all[..end].to_vec(), body)));
        }
    }
}

fn waits(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn play(stream: &mut TcpStream, reply: &ScriptedReply, shared: &Shared) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {} Scripted\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        reply.status, reply.content_type
    )?;
    for piece in reply.pieces.iter().filter(|piece| !piece.is_empty()) {
        if !pause(stream, reply.pause, shared)? {
            return Ok(());
        }
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
        stream.write_all(piece)?;
        stream.write_all(b"\r\n")?;
    }
    if reply.whole {
        stream.write_all(b"0\r\n\r\n")?;
    }
    stream.flush()
}

/// Waits; `false` where the server or the other side ended meanwhile.
fn pause(stream: &mut TcpStream, time: Duration, shared: &Shared) -> io::Result<bool> {
    let end = Instant::now() + time;
    let mut buf = [0; 64];
    while Instant::now() < end {
        if shared.stop.load(Ordering::SeqCst) {
            return Ok(false);
        }
        // Waits for at most a tick, and sees at once that the other side hung up.
        match stream.read(&mut buf) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(err) if waits(&err) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::download::config::NetConfig;
    use crate::proxy::endpoint::Endpoint;
    use crate::proxy::probe::{ProbeLimits, ProbeOutcome, probe};
    use crate::proxy::request::ChatRequest;
    use crate::proxy::upstream::Upstream;

    struct Says(&'static str, Duration);

    impl ScriptedModel for Says {
        fn reply(&mut self, exchange: u32, _: &ChatRequest) -> ScriptedReply {
            assert_eq!(exchange, 0);
            let delta = json!({ "content": self.0 });
            let chunk = |delta, finish: Option<&str>| {
                json!({ "id": "c", "object": "chat.completion.chunk", "model": "m",
                    "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] })
            };
            let chunks = [chunk(delta, None), chunk(json!({}), Some("stop"))];
            ScriptedReply { pause: self.1, ..ScriptedReply::stream(chunks) }
        }
    }

    fn ask(url: &str, reply: Duration) -> crate::proxy::probe::Probe {
        let endpoint = Endpoint::resolve(url, "loopback-test", &NetConfig::default()).unwrap();
        let upstream = Upstream::Http { endpoint, credential: None };
        let limits = ProbeLimits { connect: Duration::from_secs(20), reply };
        probe(&upstream, "m", limits).unwrap()
    }

    #[test]
    fn the_probe_reads_what_it_plays() {
        let long = Duration::from_secs(60);
        let server = StandIn::start("m", &["m"], Says("ready", Duration::ZERO)).unwrap();
        assert_eq!(ask(&server.base_url(), long).outcome, ProbeOutcome::Ready);
        let server = StandIn::start("m", &["other"], Says("ready", Duration::ZERO)).unwrap();
        assert_eq!(ask(&server.base_url(), long).outcome, ProbeOutcome::ModelNotListed);
        assert_eq!(ask(&nobody().unwrap(), long).outcome, ProbeOutcome::ListUnavailable);
    }

    #[test]
    fn it_ends_although_a_reply_is_still_to_come() {
        let server = StandIn::start("m", &["m"], Says("late", Duration::from_secs(3600))).unwrap();
        let probe = ask(&server.base_url(), Duration::from_millis(200));
        assert_eq!(probe.outcome, ProbeOutcome::ReplyUnusable);
        // Dropping joins every thread: were one left, this test would not end.
        drop(server);
    }
}
