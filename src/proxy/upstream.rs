//! The model's side: an endpoint over HTTP, or a mock model inside admit. Both give a stream of bytes that starts
//! with an HTTP/1.1 reply head, so everything behind treats them alike.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::api::{Request, WireApi};
use super::endpoint::{Credential, Endpoint};
use super::mock::Mock;
use crate::record::wire::{ConnectFault, UpstreamKind};
use crate::secrets::Secret;

/// What stands behind the proxy.
pub enum Upstream {
    /// An endpoint, with the key that is added on this side.
    Http {
        api: &'static dyn WireApi,
        endpoint: Endpoint,
        /// With which key; local servers often have none.
        credential: Option<Credential>,
    },
    /// A model inside admit.
    Local(Mutex<Mock>),
}

impl Upstream {
    pub fn local(model: Mock) -> Self {
        Self::Local(Mutex::new(model))
    }

    /// How the model is spoken to.
    pub(super) fn api(&self) -> &'static dyn WireApi {
        match self {
            Self::Http { api, .. } => *api,
            Self::Local(mock) => mock.lock().unwrap_or_else(PoisonError::into_inner).api,
        }
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
            Self::Http { endpoint, credential, .. } => {
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
    Chat(&'a Request),
    /// With these headers.
    Models(&'a [(&'static str, String)]),
}

impl Ask<'_> {
    pub(super) fn body(&self) -> &[u8] {
        match self {
            Ask::Chat(request) => &request.body,
            Ask::Models(_) => b"",
        }
    }

    fn headers(&self) -> &[(&'static str, String)] {
        match self {
            Ask::Chat(request) => &request.headers,
            Ask::Models(headers) => headers,
        }
    }

    /// The request's head. Nothing of the agent's head is in it.
    fn head(
        &self,
        api: &dyn WireApi,
        host: &str,
        path: impl Fn(&str) -> String,
        more: &BTreeMap<String, String>,
        key: Option<&[u8]>,
    ) -> Zeroizing<Vec<u8>> {
        let (method, tail, accept) = match self {
            Ask::Chat(request) if request.stream => ("POST", api.path(), "text/event-stream"),
            Ask::Chat(_) => ("POST", api.path(), "application/json"),
            Ask::Models(_) => ("GET", api.list(), "application/json"),
        };
        let mut out = Zeroizing::new(Vec::with_capacity(512 + key.map_or(0, <[u8]>::len)));
        let agent = concat!("admit/", env!("CARGO_PKG_VERSION"));
        out.extend_from_slice(
            format!(
                "{method} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: {accept}\r\nAccept-Encoding: identity\r\nConnection: close\r\n",
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
        // What the record says counts, whatever the agent says.
        let own = self.headers().iter().filter(|(name, _)| !more.contains_key(*name));
        let own = own.map(|(name, value)| (*name, value.as_str()));
        for (name, value) in own.chain(more.iter().map(|(n, v)| (n.as_str(), v.as_str()))) {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if let Some(key) = key {
            let header = match api.key_header() {
                "authorization" => "Authorization: Bearer ".to_owned(),
                name => format!("{name}: "),
            };
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// The head as it is recorded: endpoint and key replaced by words in brackets.
    pub(super) fn recorded_head(&self, upstream: &Upstream) -> Vec<u8> {
        let withheld: &[u8] = b"[withheld]";
        let none = BTreeMap::new();
        let (more, key) = match upstream {
            Upstream::Http { endpoint, credential, .. } => {
                (endpoint.headers(), credential.as_ref().map(|_| withheld))
            }
            Upstream::Local(_) => (&none, None),
        };
        let path = |tail: &str| format!("[base]{tail}");
        self.head(upstream.api(), "[endpoint]", path, more, key).to_vec()
    }
}

/// Connects, sends the request, and gives the connection from which the reply is to be read.
pub(super) async fn open(
    upstream: &Upstream,
    exchange: u32,
    ask: &Ask<'_>,
    connect: Duration,
) -> Result<Box<dyn Io>, ConnectFault> {
    match upstream {
        Upstream::Http { endpoint, credential, api } => {
            let mut conn = match tokio::time::timeout(connect, dial(endpoint)).await {
                Ok(conn) => conn?,
                Err(_) => return Err(ConnectFault::TimedOut),
            };
            let key = credential.as_ref().map(|c| c.secret().expose());
            let (host, version) = (endpoint.authority(), api.adds_version());
            let path = |tail: &str| endpoint.path(tail, version);
            let mut bytes = ask.head(*api, &host, path, endpoint.headers(), key);
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
        Upstream::Local(mock) => {
            let reply = {
                let mut mock = mock.lock().unwrap_or_else(PoisonError::into_inner);
                match ask {
                    Ask::Chat(request) => mock.reply(exchange, request.stream),
                    Ask::Models(_) => mock.models(),
                }
            };
            let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
            tokio::spawn(async move { reply.send(&mut theirs).await });
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
