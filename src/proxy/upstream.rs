//! The model's side: an endpoint over HTTP, or a mock model inside admit. Both give a stream of bytes that starts
//! with an HTTP/1.1 reply head, so everything behind treats them alike.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::account::Account;
use super::api::{ForwardedRequest, WireApi};
use super::endpoint::{Endpoint, ModelKey};
use super::mock::Mock;
use crate::record::wire::{ConnectFault, UpstreamKind};
use crate::secrets::{Known, Secret};

pub enum Upstream {
    /// An endpoint, with the key that is added on this side.
    Http {
        api: &'static dyn WireApi,
        endpoint: Endpoint,
        /// With which key; local servers often have none.
        credential: Option<ModelKey>,
    },
    /// A model inside admit.
    Local(Mutex<Mock>),
}

impl Upstream {
    pub fn local(model: Mock) -> Self {
        Self::Local(Mutex::new(model))
    }

    /// The same endpoint and key, spoken to in this way; `None` for a model inside admit.
    #[must_use]
    pub fn speaking(&self, api: &'static dyn WireApi) -> Option<Self> {
        match self {
            Self::Http { endpoint, credential, .. } => {
                Some(Self::Http { api, endpoint: endpoint.clone(), credential: credential.clone() })
            }
            Self::Local(_) => None,
        }
    }

    pub(super) fn api(&self) -> &'static dyn WireApi {
        match self {
            Self::Http { api, .. } => *api,
            Self::Local(mock) => mock.lock().unwrap_or_else(PoisonError::into_inner).api,
        }
    }

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
                let account = self.account().map_or(Vec::new(), |account| account.secret_values());
                key.chain(account).chain(endpoint.secret_values()).collect()
            }
        }
    }

    /// The account that it is asked with, where a credential helper gives one.
    pub fn account(&self) -> Option<&Arc<Account>> {
        match self {
            Self::Http { endpoint, .. } => endpoint.account.as_ref(),
            Self::Local(_) => None,
        }
    }

    /// Everything of this upstream that may not be written, and whatever its account becomes during the run.
    pub fn known(&self, more: Vec<(String, Secret)>) -> Known {
        let known = Known::new(&[self.secret_values(), more].concat());
        if let Some(account) = self.account() {
            account.teach(&known);
        }
        known
    }
}

/// What a request is sent with beside what the agent's side said: headers that are no secret, the key, and what an
/// account's helper gave.
struct With<'a> {
    headers: &'a BTreeMap<String, String>,
    key: Option<&'a [u8]>,
    account: Vec<(&'a str, &'a [u8])>,
}

pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub(super) enum Ask {
    Chat(ForwardedRequest),
    /// The list of models, with these headers.
    Models(Vec<(&'static str, String)>),
}

impl Ask {
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
        with: &With<'_>,
    ) -> Zeroizing<Vec<u8>> {
        let With { headers: more, key, account } = with;
        let (method, tail, accept) = match self {
            Ask::Chat(request) if request.stream => ("POST", api.path(), "text/event-stream"),
            Ask::Chat(_) => ("POST", api.path(), "application/json"),
            Ask::Models(_) => ("GET", api.list().unwrap_or_default(), "application/json"),
        };
        let secret: usize = account.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        // Grown, it would leave a copy of the secrets behind.
        let room = 2048 + more.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let room = room + secret + key.map_or(0, <[u8]>::len);
        let mut out = Zeroizing::new(Vec::with_capacity(room + self.body().len()));
        let agent = concat!("admit/", env!("CARGO_PKG_VERSION"));
        let mut put = |line: &[&[u8]]| line.iter().for_each(|part| out.extend_from_slice(part));
        let head = format!(
            "{method} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: {accept}\r\nAccept-Encoding: identity\r\nConnection: close\r\n",
            path(tail)
        );
        put(&[head.as_bytes()]);
        if let Ask::Chat(request) = self {
            let length = request.body.len();
            let body = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
            put(&[body.as_bytes()]);
        }
        // What the helper gives counts, then what the record says, then what the agent says.
        let given = |name: &str| account.iter().any(|(other, _)| *other == name);
        let own = self.headers().iter().filter(|(name, _)| !more.contains_key(*name));
        let own = own.map(|(name, value)| (*name, value.as_str()));
        let all = own.chain(more.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        for (name, value) in all.filter(|(name, _)| !given(name)) {
            put(&[name.as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
        for (name, value) in account {
            put(&[name.as_bytes(), b": ", value, b"\r\n"]);
        }
        if let Some(key) = key {
            let header = match api.key_header() {
                "authorization" => "Authorization: Bearer ".to_owned(),
                name => format!("{name}: "),
            };
            put(&[header.as_bytes(), key, b"\r\n"]);
        }
        put(&[b"\r\n"]);
        out
    }

    /// The head as it is recorded: endpoint and key replaced by words in brackets.
    pub(super) fn recorded_head(&self, upstream: &Upstream) -> Vec<u8> {
        let withheld: &[u8] = b"[withheld]";
        let none = BTreeMap::new();
        let (headers, credential) = match upstream {
            Upstream::Http { endpoint, credential, .. } => {
                (&endpoint.headers, credential.is_some())
            }
            Upstream::Local(_) => (&none, false),
        };
        let held = upstream.account().map(|account| account.held());
        let token = held.as_ref().is_some_and(|held| held.token.is_some());
        let given = held.iter().flat_map(|held| &held.headers);
        let key = (credential || token).then_some(withheld);
        let account = given.map(|(name, _)| (name.as_str(), withheld)).collect();
        let path = |tail: &str| format!("[base]{tail}");
        self.head(upstream.api(), "[endpoint]", path, &With { headers, key, account }).to_vec()
    }
}

/// A connection from which a reply is to be read.
pub(super) struct Opened {
    pub(super) conn: Box<dyn Io>,
    /// Which of all that the account's helper gave was sent.
    pub(super) given: Option<u32>,
}

/// Connects, sends the request, and gives the connection from which the reply is to be read.
pub(super) async fn open(
    upstream: &Upstream,
    exchange: u32,
    ask: &Ask,
    connect: Duration,
) -> Result<Opened, ConnectFault> {
    match upstream {
        Upstream::Http { endpoint, credential, api } => {
            let current = match endpoint.account.clone() {
                None => None,
                // The helper may take its time, and other replies go on meanwhile.
                Some(account) => tokio::task::spawn_blocking(move || account.current()).await.ok(),
            };
            let conn = tokio::time::timeout(connect, dial(endpoint)).await;
            let mut conn = conn.map_err(|_| ConnectFault::TimedOut)??;
            let token = current.as_ref().and_then(|current| current.token.as_ref());
            let headers = current.iter().flat_map(|current| &current.headers);
            let with = With {
                headers: &endpoint.headers,
                key: token.or(credential.as_ref().map(ModelKey::secret)).map(Secret::expose),
                account: headers.map(|(name, value)| (name.as_str(), value.expose())).collect(),
            };
            let (host, version) = (endpoint.authority(), api.adds_version());
            let path = |tail: &str| endpoint.path(tail, version);
            let mut bytes = ask.head(*api, &host, path, &with);
            bytes.extend_from_slice(ask.body());
            let send = async {
                conn.write_all(&bytes).await?;
                conn.flush().await
            };
            // A server may answer and close before it has read everything; its answer is still to be read then.
            let sent = tokio::time::timeout(connect.max(Duration::from_secs(30)), send).await;
            let given = current.map(|current| current.number);
            match sent {
                Err(_) => Err(ConnectFault::NoReply),
                Ok(Err(err)) if err.kind() != io::ErrorKind::BrokenPipe => {
                    Err(ConnectFault::Closed)
                }
                Ok(_) => Ok(Opened { conn, given }),
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
            Ok(Opened { conn: Box::new(ours), given: None })
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
    let stream = connector.connect(name, stream).await.map_err(|_| ConnectFault::Tls)?;
    Ok(Box::new(stream))
}
