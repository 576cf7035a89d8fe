//! The model's side: an endpoint over HTTP, or a scripted model inside admit. Both give a stream of bytes that starts
//! with an HTTP/1.1 reply head, so everything behind treats them alike.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::endpoint::{Credential, Endpoint};
use super::request::ChatRequest;
use crate::record::wire::{ConnectFault, ExchangeKind, UpstreamKind};
use crate::secrets::Secret;

/// What stands behind the bridge.
pub enum Upstream {
    /// An endpoint, with the key that is added on this side.
    Http {
        endpoint: Endpoint,
        /// With which key; local servers often have none.
        credential: Option<Credential>,
    },
    /// A model that answers from a script.
    Local(Mutex<Box<dyn ScriptedModel>>),
}

/// A model that answers without a network.
pub trait ScriptedModel: Send {
    /// The reply to the request with the number `exchange` (from 1, refused requests counted).
    fn reply(&mut self, exchange: u32, request: &ChatRequest) -> ScriptedReply;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptedReply {
    pub status: u16,
    pub content_type: String,
    /// The body, in the pieces in which it is sent.
    pub pieces: Vec<Vec<u8>>,
    /// Wait before each piece.
    pub pause: Duration,
    /// Ends as HTTP wants it; `false` cuts the connection after the last piece.
    pub whole: bool,
}

impl ScriptedReply {
    /// A stream of the given chunks followed by `[DONE]`.
    pub fn stream(chunks: impl IntoIterator<Item = Value>) -> Self {
        let mut pieces: Vec<Vec<u8>> =
            chunks.into_iter().map(|chunk| format!("data: {chunk}\n\n").into_bytes()).collect();
        pieces.push(b"data: [DONE]\n\n".to_vec());
        Self {
            status: 200,
            content_type: "text/event-stream".into(),
            pieces,
            pause: Duration::ZERO,
            whole: true,
        }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            content_type: "application/json".into(),
            pieces: vec![body.to_string().into_bytes()],
            pause: Duration::ZERO,
            whole: true,
        }
    }
}

impl Upstream {
    pub fn local(model: impl ScriptedModel + 'static) -> Self {
        Self::Local(Mutex::new(Box::new(model)))
    }

    /// The kind, for records.
    pub fn kind(&self) -> UpstreamKind {
        match self {
            Self::Http { .. } => UpstreamKind::Http,
            Self::Local(_) => UpstreamKind::Scripted,
        }
    }

    /// Everything of this upstream that must be in no reply and no artifact: the key, and the endpoint by all its
    /// names.
    pub fn secret_values(&self) -> Vec<(String, Secret)> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::Http { endpoint, credential } => {
                let key = credential.iter().map(|c| ("model_key".to_owned(), c.secret().clone()));
                key.chain(endpoint.secret_values()).collect()
            }
        }
    }
}

/// A connection in either direction.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// What is asked of the model.
pub(super) enum Ask<'a> {
    Chat(&'a ChatRequest),
    Models,
}

impl Ask<'_> {
    pub(super) fn kind(&self) -> ExchangeKind {
        match self {
            Ask::Chat(_) => ExchangeKind::Chat,
            Ask::Models => ExchangeKind::Models,
        }
    }

    pub(super) fn body(&self) -> &[u8] {
        match self {
            Ask::Chat(request) => &request.body,
            Ask::Models => b"",
        }
    }

    /// The request's head. Nothing of the agent's head is in it.
    fn head(
        &self,
        host: &str,
        path: impl Fn(&str) -> String,
        key: Option<&[u8]>,
    ) -> Zeroizing<Vec<u8>> {
        let (line, accept) = match self {
            Ask::Chat(request) if request.stream => ("POST", "text/event-stream"),
            Ask::Chat(_) => ("POST", "application/json"),
            Ask::Models => ("GET", "application/json"),
        };
        let tail = match self {
            Ask::Chat(_) => "/chat/completions",
            Ask::Models => "/models",
        };
        let mut out = Zeroizing::new(Vec::with_capacity(512 + key.map_or(0, <[u8]>::len)));
        let agent = concat!("admit/", env!("CARGO_PKG_VERSION"));
        out.extend_from_slice(
            format!(
                "{line} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: {accept}\r\nAccept-Encoding: identity\r\nConnection: close\r\n",
                path(tail)
            )
            .as_bytes(),
        );
        if let Ask::Chat(request) = self {
            let length = request.body.len();
            out.extend_from_slice(
                format!("Content-Type: application/json\r\nContent-Length: {length}\r\n")
                    .as_bytes(),
            );
        }
        if let Some(key) = key {
            out.extend_from_slice(b"Authorization: Bearer ");
            out.extend_from_slice(key);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// The head as it is recorded: endpoint and key replaced by words in brackets.
    pub(super) fn recorded_head(&self, upstream: &Upstream) -> Vec<u8> {
        let withheld: &[u8] = b"[withheld]";
        let key = match upstream {
            Upstream::Http { credential: Some(_), .. } => Some(withheld),
            _ => None,
        };
        self.head("[endpoint]", |tail| format!("[base]{tail}"), key).to_vec()
    }
}

/// Connects, sends the request, and gives the connection from which the reply is to be read.
pub(super) async fn open(
    upstream: &Upstream,
    model: &str,
    exchange: u32,
    ask: &Ask<'_>,
    connect: Duration,
) -> Result<Box<dyn Io>, ConnectFault> {
    match upstream {
        Upstream::Http { endpoint, credential } => {
            let mut conn = match tokio::time::timeout(connect, dial(endpoint)).await {
                Ok(conn) => conn?,
                Err(_) => return Err(ConnectFault::TimedOut),
            };
            let key = credential.as_ref().map(|c| c.secret().expose());
            let mut bytes = ask.head(&endpoint.authority(), |tail| endpoint.path(tail), key);
            bytes.extend_from_slice(ask.body());
            let send = async {
                conn.write_all(&bytes).await?;
                conn.flush().await
            };
            // A server may answer and close before it has read everything; its answer is still to be read then.
            match tokio::time::timeout(connect.max(Duration::from_secs(30)), send).await {
                Ok(Ok(())) => Ok(conn),
                Ok(Err(err)) if err.kind() == io::ErrorKind::BrokenPipe => Ok(conn),
                Ok(Err(_)) => Err(ConnectFault::Closed),
                Err(_) => Err(ConnectFault::NoReply),
            }
        }
        Upstream::Local(script) => {
            let reply = match ask {
                Ask::Chat(request) => {
                    let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
                    script.reply(exchange, request)
                }
                Ask::Models => ScriptedReply::json(
                    200,
                    &serde_json::json!({"object": "list", "data": [{"id": model, "object": "model"}]}),
                ),
            };
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            tokio::spawn(play(reply, theirs));
            Ok(Box::new(ours))
        }
    }
}

async fn dial(endpoint: &Endpoint) -> Result<Box<dyn Io>, ConnectFault> {
    let stream = TcpStream::connect(endpoint.pinned()).await.map_err(|err| match err.kind() {
        io::ErrorKind::ConnectionRefused => ConnectFault::Refused,
        io::ErrorKind::TimedOut => ConnectFault::TimedOut,
        _ => ConnectFault::Unreachable,
    })?;
    // A small piece must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &endpoint.tls else { return Ok(Box::new(stream)) };
    let name = rustls::pki_types::ServerName::try_from(endpoint.host().to_owned())
        .map_err(|_| ConnectFault::Tls)?;
    let connector = tokio_rustls::TlsConnector::from(tls.clone());
    match connector.connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(_) => Err(ConnectFault::Tls),
    }
}

/// Sends a scripted reply, chunked, over an in-process pipe.
async fn play(reply: ScriptedReply, mut pipe: tokio::io::DuplexStream) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {} Scripted\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        reply.status, reply.content_type
    );
    pipe.write_all(head.as_bytes()).await?;
    for piece in reply.pieces.iter().filter(|piece| !piece.is_empty()) {
        if !reply.pause.is_zero() {
            tokio::time::sleep(reply.pause).await;
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        pipe.write_all(&chunk).await?;
    }
    if reply.whole {
        pipe.write_all(b"0\r\n\r\n").await?;
    }
    pipe.shutdown().await
}
