//! A mock model: it plays a fixture's script, and misbehaves in exactly one named way where it is told to. It answers
//! behind the proxy without a network, or as a server on this machine's loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::set_socket_reuseport;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::api::chat::Chat;
use super::api::{End, ForwardedRequest, Said, WireApi, read_request};
use super::http1::{Refusal, parse_request};
use super::request::{read_body, read_head};
use crate::error::{Error, Result};
use crate::record::Record as _;
use crate::record::fixture::{Script, Turn};
use crate::record::wire::ReasoningField;

/// Longest request in bytes: an agent's whole conversation is far below.
const MAX_REQUEST: u64 = 16 << 20;
/// Pause before each piece of a delayed reply.
const DELAY: Duration = Duration::from_millis(25);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Plays,
    /// Begins each reply with reasoning and takes its time before each piece.
    Delayed,
    /// Never answers in a stream.
    PlainJson,
    /// Sends each byte of a body by itself.
    Slivers,
    /// Answers the probe, and then never again.
    Silent,
    /// Answers the probe, and then stops in the middle of a reply and keeps the connection.
    SilentMidway,
    /// Answers the probe, and then with text that holds no result.
    NoResult,
    /// Answers with reasoning under this name and nothing else.
    ReasoningOnly(ReasoningField),
    /// Answers with this HTTP status and an error.
    Status(u16),
    ErrorAfter200,
    /// Ends the connection in the middle of a stream.
    Cut,
    MissingDone,
    MissingFinishReason,
    /// Answers with text that the token budget ends.
    OutOfTokens,
    Refuses,
    /// Answers with white space.
    Empty,
    OtherModel,
    /// Answers with a tool call whose arguments are no JSON.
    BadTool,
    /// The same, because the token budget ends it there.
    CutTool,
    /// Answers with two tool calls whose pieces alternate.
    ToolsInPieces,
    ListsAnother,
    /// As a server: the port is closed.
    Gone,
}

pub struct Mock {
    pub(super) api: &'static dyn WireApi,
    script: Script,
    /// What the probe is told; it uses up no turn.
    probe: Turn,
    model: String,
    next: usize,
    behaviour: Behaviour,
    /// The exchanges in which it misbehaves.
    faulty: Range<u32>,
}

impl Mock {
    /// A model that plays `script`: one turn a request, in order; the closing turn from then on.
    pub fn new(script: Script, model: impl Into<String>) -> Self {
        let model = model.into();
        let (behaviour, faulty) = (Behaviour::Plays, 0..u32::MAX);
        Self { api: &Chat, script, probe: words("ready"), model, next: 0, behaviour, faulty }
    }

    /// Speaks this API instead of chat completions.
    #[must_use]
    pub fn speaking(self, api: &'static dyn WireApi) -> Self {
        Self { api, ..self }
    }

    /// A model that gives the same answer to everything.
    pub fn saying(text: &str, model: impl Into<String>) -> Self {
        let (schema, closing) = (Script::SCHEMA.to_string(), words(text));
        let mock = Self::new(Script { schema, turns: Vec::new(), closing }, model);
        Self { probe: words(text), ..mock }
    }

    #[must_use]
    pub fn misbehaving(mut self, behaviour: Behaviour) -> Self {
        use Behaviour::{NoResult, Silent, SilentMidway};
        let after_probe = matches!(behaviour, Silent | SilentMidway | NoResult);
        self.behaviour = behaviour;
        self.during(u32::from(after_probe)..u32::MAX)
    }

    /// Misbehaves in these exchanges only; 0 is the probe's.
    #[must_use]
    pub fn during(mut self, exchanges: Range<u32>) -> Self {
        self.faulty = exchanges;
        self
    }

    /// The reply to the request with the number `exchange`; the probe's is 0.
    pub fn reply(&mut self, exchange: u32, stream: bool) -> MockReply {
        let behaviour = match self.faulty.contains(&exchange) {
            true => self.behaviour,
            false => Behaviour::Plays,
        };
        if let Behaviour::Status(status) = behaviour {
            let kind = match status {
                401 => "invalid_api_key",
                404 => "model_not_found",
                429 => "rate_limit",
                _ => "internal_error",
            };
            return MockReply::json(status, &self.api.error(kind, "no"));
        }
        let turn = match exchange {
            0 => &self.probe,
            _ => self.script.turns.get(self.next).unwrap_or(&self.script.closing),
        };
        let stream = stream && behaviour != Behaviour::PlainJson;
        let pieces = self.api.render(&said(behaviour, turn, &self.model, self.next), stream);
        self.next += usize::from(exchange > 0);
        let content_type = if stream { "text/event-stream" } else { "application/json" };
        let pieces = pieces.into_iter().map(String::into_bytes).collect();
        let mut reply = MockReply::new(200, content_type, pieces);
        let keep = |reply: &mut MockReply, pieces, ending| {
            reply.pieces.truncate(pieces);
            reply.ending = ending;
        };
        match behaviour {
            Behaviour::Delayed => reply.pause = DELAY,
            Behaviour::Slivers => {
                reply.pieces = reply.pieces.concat().chunks(1).map(<[u8]>::to_vec).collect();
            }
            Behaviour::Silent => keep(&mut reply, 0, Ending::Silence),
            Behaviour::SilentMidway => keep(&mut reply, 1, Ending::Silence),
            Behaviour::Cut => keep(&mut reply, 2, Ending::Cut),
            Behaviour::MissingDone => drop(reply.pieces.pop()),
            _ => {}
        }
        reply
    }

    pub(super) fn models(&self) -> MockReply {
        let id = match self.behaviour {
            Behaviour::ListsAnother => "another",
            _ => &self.model,
        };
        let model = json!({ "id": id, "object": "model", "type": "model" });
        MockReply::json(200, &json!({ "object": "list", "data": [model] }))
    }
}

fn words(text: &str) -> Turn {
    Turn { text: Some(text.to_owned()), tool_calls: Vec::new() }
}

/// What is said in one turn, as far as the behaviour leaves it.
fn said<'a>(behaviour: Behaviour, turn: &'a Turn, model: &'a str, number: usize) -> Said<'a> {
    let calls = turn.tool_calls.iter().enumerate().map(|(index, call)| {
        (index, call.name.as_str(), Value::Object(call.arguments.clone()).to_string())
    });
    let plain = Said {
        model,
        number,
        reasoning: (ReasoningField::Reasoning, Vec::new()),
        text: turn.text.as_deref(),
        calls: calls.collect(),
        end: End::Reason,
    };
    let text = |text| Said { text: Some(text), calls: Vec::new(), ..plain.clone() };
    let calls = |pieces: &[(usize, &'static str, &str)]| Said {
        text: None,
        calls: pieces.iter().map(|(at, name, text)| (*at, *name, (*text).to_owned())).collect(),
        ..plain.clone()
    };
    match behaviour {
        Behaviour::Delayed => {
            Said { reasoning: (ReasoningField::Reasoning, vec!["let me think. "; 4]), ..plain }
        }
        Behaviour::NoResult => text("All done."),
        Behaviour::Empty => text(" \n"),
        Behaviour::ReasoningOnly(ReasoningField::ThinkTag) => text("<think>hm</think>"),
        Behaviour::ReasoningOnly(field) => {
            Said { text: None, calls: Vec::new(), reasoning: (field, vec!["hm"]), ..plain }
        }
        Behaviour::BadTool => calls(&[(0, "read", "{\"path\": ")]),
        Behaviour::CutTool => Said { end: End::Length, ..calls(&[(0, "read", "{\"path\": ")]) },
        Behaviour::ToolsInPieces => calls(&[
            (0, "read", ""),
            (0, "", "{\"pa"),
            (1, "bash", "{\"c"),
            (0, "", "th\":\"x\"}"),
            (1, "", "\":1}"),
        ]),
        Behaviour::OtherModel => Said { model: "another-model", ..plain },
        Behaviour::OutOfTokens => Said { end: End::Length, ..text("It is") },
        Behaviour::Refuses => Said { end: End::Refused, ..text("I cannot help with that.") },
        Behaviour::MissingFinishReason => Said { end: End::Nothing, ..plain },
        Behaviour::ErrorAfter200 => Said { end: End::Error("internal_error"), ..plain },
        _ => plain,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Whole,
    /// The connection ends in the middle of a piece.
    Cut,
    /// Nothing more comes, and the connection stays; without any piece there is no head either.
    Silence,
}

#[derive(Clone, Debug)]
pub struct MockReply {
    status: u16,
    content_type: &'static str,
    pieces: Vec<Vec<u8>>,
    pause: Duration,
    ending: Ending,
}

impl MockReply {
    fn new(status: u16, content_type: &'static str, pieces: Vec<Vec<u8>>) -> Self {
        Self { status, content_type, pieces, pause: Duration::ZERO, ending: Ending::Whole }
    }

    fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", vec![body.to_string().into_bytes()])
    }

    pub fn body(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    /// Sends the reply, each piece as a chunk.
    pub(super) async fn send(self, out: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if self.ending == Ending::Silence && self.pieces.is_empty() {
            std::future::pending::<()>().await;
        }
        let (status, content_type) = (self.status, self.content_type);
        let head = format!(
            "HTTP/1.1 {status} Mock\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        out.write_all(head.as_bytes()).await?;
        for piece in &self.pieces {
            if !self.pause.is_zero() {
                tokio::time::sleep(self.pause).await;
            }
            let size = format!("{:x}\r\n", piece.len());
            out.write_all(&[size.as_bytes(), piece, b"\r\n"].concat()).await?;
        }
        match self.ending {
            Ending::Whole => out.write_all(b"0\r\n\r\n").await?,
            Ending::Cut => out.write_all(b"40\r\ndata: {\"mod").await?,
            Ending::Silence => std::future::pending().await,
        }
        out.shutdown().await
    }
}

/// A mock model on a port of this machine's loopback, until it is dropped.
pub struct MockServer {
    pub addr: SocketAddr,
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// Bound to the same port and never listening: once nothing listens there, a connection is refused, and no other
    /// server of this machine is given the port.
    _port: OwnedFd,
}

/// A socket on this address that others of this user may share.
fn bound(at: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseport(&socket, true)?;
    bind(&socket, &at)?;
    Ok(socket)
}

impl MockServer {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(mock: Mock) -> Result<Self> {
        let fail = |what: &'static str| move |err| Error::io(what, "127.0.0.1", err);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bound = |at| bound(at).map_err(|err| fail("listen on")(err.into()));
        let port = bound(any)?;
        let addr = getsockname(&port).and_then(SocketAddr::try_from);
        let addr = addr.map_err(|err| fail("listen on")(err.into()))?;
        if mock.behaviour == Behaviour::Gone {
            return Ok(Self { addr, serving: None, _port: port });
        }
        let listener = bound(addr)?;
        listen(&listener, 128).map_err(|err| fail("listen on")(err.into()))?;
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true).map_err(fail("listen on"))?;
        let runtime = super::runtime().map_err(fail("serve on"))?;
        let (stop, stopped) = oneshot::channel();
        // Replies that are still under way end with the runtime.
        let thread = std::thread::Builder::new()
            .name("mock".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = stopped => {}
                        _ = accept(listener, mock) => {}
                    }
                });
            })
            .map_err(fail("serve on"))?;
        Ok(Self { addr, serving: Some((stop, thread)), _port: port })
    }

    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// Stops answering, and keeps the port: a connection to it is refused.
    pub fn leave(&mut self) {
        if let Some((stop, thread)) = self.serving.take() {
            drop(stop);
            drop(thread.join());
        }
    }
}

impl Drop for MockServer {
    fn drop(&mut self) {
        self.leave();
    }
}

async fn accept(listener: TcpListener, mock: Mock) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let shared = Arc::new(Mutex::new((mock, 0)));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or a connection that ended while it was accepted.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        // The other side may hang up at any time; that is its right.
        tokio::spawn(async move { drop(serve(stream, &shared).await) });
    }
}

/// One request, one reply.
async fn serve(mut stream: TcpStream, shared: &Mutex<(Mock, u32)>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let (api, model) = {
        let (mock, _) = &*lock();
        (mock.api, mock.model.clone())
    };
    let reply = match receive(&mut stream, api, &model).await {
        Ok(None) => lock().0.models(),
        Ok(Some(request)) => {
            let (mock, chats) = &mut *lock();
            *chats += 1;
            mock.reply(*chats - 1, request.stream)
        }
        Err((_, what)) => MockReply::json(400, &api.error("invalid_request", &what)),
    };
    reply.send(&mut stream).await
}

/// Reads a request; `None` asks for the list of models.
async fn receive(
    stream: &mut TcpStream,
    api: &dyn WireApi,
    model: &str,
) -> Result<Option<ForwardedRequest>, Refusal> {
    let mut head = Vec::new();
    let end = read_head(stream, &mut head).await?;
    let rest = head.split_off(end);
    let head = parse_request(&head)?;
    let body = read_body(stream, rest, head.body, MAX_REQUEST, |_| Ok(())).await?;
    match head.method.as_str() {
        "GET" => Ok(None),
        _ => read_request(api, &body, model).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_played_in_order_and_the_probe_uses_up_no_turn() {
        let mut script = Mock::saying("end", "m").script;
        script.turns = vec![words("one"), words("two")];
        let mut mock = Mock::new(script, "m").misbehaving(Behaviour::NoResult).during(3..4);
        let mut says = |exchange| String::from_utf8(mock.reply(exchange, true).body()).unwrap();
        for (exchange, text) in [(0, "ready"), (1, "one"), (2, "two"), (3, "All done."), (4, "end")]
        {
            assert!(says(exchange).contains(&format!("\"content\":\"{text}\"")), "{exchange}");
        }
    }
}
