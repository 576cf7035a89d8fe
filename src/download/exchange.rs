//! One exchange with a server that is more than a download: any method, a body that may be a file, and an answer whose
//! status and header lines the caller reads. No redirect is followed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
pub use reqwest::Method;
use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;
use url::Url;

use super::client::{Client, bug, parse_url};
use super::fault::{Fault, cut_off, host, refused, stalled, too_large, too_long, transport_fault};
use crate::error::{Error, Result};
use crate::host::Progress;

#[derive(Clone, Copy)]
pub enum Sent<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// A file from its beginning, and its size.
    File(&'a File, u64),
}

pub struct Exchange<'a> {
    pub method: Method,
    /// `https://` or `http://`.
    pub url: &'a str,
    pub headers: Vec<(&'static str, String)>,
    pub authorization: Option<&'a str>,
    pub sent: Sent<'a>,
    /// Largest body taken, in bytes.
    pub max_bytes: u64,
    /// Whether it may be tried again: not where the first try, though its answer was lost, may have changed something.
    pub again: bool,
    pub progress: &'a dyn Progress,
}

#[derive(Debug)]
pub struct HttpResponse {
    pub status: u16,
    headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// A header line by its name; `None` where there is none, or it is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }
}

impl Client {
    /// Sends and waits for the whole answer. Statuses that say "try again" are tried again; every other is an answer.
    ///
    /// # Errors
    /// As [`Client::fetch`], without those of redirects.
    pub fn exchange(&self, exchange: &Exchange<'_>) -> Result<HttpResponse> {
        let url = parse_url(exchange.url)?;
        let engine = self.engine()?;
        let runtime = engine.runtime.as_ref().ok_or_else(|| bug("the client has ended"))?;
        let mut wait = self.config.backoff;
        let (mut attempt, mut silences) = (1, 0);
        loop {
            let (err, at_least) = match runtime.block_on(self.try_once(exchange, &url)) {
                Ok(answer) => return Ok(answer),
                Err(Fault::Lasting(err)) => return Err(err),
                Err(Fault::Passing(err, at_least)) => (err, at_least),
                Err(Fault::Silence(err)) => {
                    silences += 1;
                    (err, Duration::ZERO)
                }
            };
            if !exchange.again || attempt >= self.config.attempts || silences >= 2 {
                return Err(err);
            }
            attempt += 1;
            let text = format!("{}: {}; attempt {attempt}", host(&url), err.what());
            exchange.progress.note(&text);
            std::thread::sleep(wait.max(at_least));
            wait *= 2;
        }
    }

    async fn try_once(&self, exchange: &Exchange<'_>, url: &Url) -> Result<HttpResponse, Fault> {
        let engine = self.engine().map_err(Fault::Lasting)?;
        let method = &exchange.method;
        let mut builder = engine.http.request(method.clone(), url.clone());
        for (name, value) in &exchange.headers {
            builder = builder.header(*name, value);
        }
        if let Some(value) = exchange.authorization {
            builder = builder.header(AUTHORIZATION, value);
        }
        let sent = Arc::new(AtomicU64::new(0));
        builder = match &exchange.sent {
            // A length of nothing is said too: some servers insist.
            Sent::Nothing if matches!(*method, Method::POST | Method::PUT) => {
                builder.body(Vec::new())
            }
            Sent::Nothing => builder,
            Sent::Bytes(bytes) => builder.body(bytes.to_vec()),
            Sent::File(file, size) => {
                let unreadable = |err| Fault::Lasting(Error::io("read", "what is sent", err));
                let file = file.try_clone().map_err(unreadable)?;
                let body = FileBody { file, at: 0, size: *size, sent: Arc::clone(&sent) };
                builder.body(reqwest::Body::wrap(body))
            }
        };
        let whole = self.finish(exchange, url, builder, &sent);
        let limit = self.config.deadline;
        let outcome = tokio::time::timeout(limit, whole).await;
        outcome.unwrap_or_else(|_| Err(too_long("exchange", url, limit)))
    }

    async fn finish(
        &self,
        exchange: &Exchange<'_>,
        url: &Url,
        builder: reqwest::RequestBuilder,
        sent: &AtomicU64,
    ) -> Result<HttpResponse, Fault> {
        let silence = self.config.connect + self.config.stall;
        let mut work = std::pin::pin!(builder.send());
        let mut response = loop {
            let before = sent.load(Ordering::Relaxed);
            match tokio::time::timeout(silence, work.as_mut()).await {
                Ok(Ok(response)) => break response,
                Ok(Err(err)) => return Err(transport_fault(url, err)),
                Err(_) if sent.load(Ordering::Relaxed) > before => {}
                Err(_) => return Err(stalled(url, silence, 0)),
            }
        };
        let status = response.status();
        let passing = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        if passing {
            return Err(refused(url, status, response.headers()));
        }
        let headers = response.headers().clone();
        let mut body = Vec::new();
        loop {
            match tokio::time::timeout(self.config.stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                Ok(Ok(None)) => break,
                Ok(Err(err)) => return Err(cut_off(url, None, body.len() as u64, err)),
                Err(_) => return Err(stalled(url, self.config.stall, body.len() as u64)),
            }
            if body.len() as u64 > exchange.max_bytes {
                return Err(Fault::Lasting(too_large(url, exchange.max_bytes)));
            }
        }
        Ok(HttpResponse { status: status.as_u16(), headers, body })
    }
}

/// A file as it is read, piece by piece, by position: another attempt begins at its beginning.
struct FileBody {
    file: File,
    at: u64,
    size: u64,
    sent: Arc<AtomicU64>,
}

/// What is read at once, in bytes.
const PIECE: u64 = 256 << 10;

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        let left = self.size - self.at;
        if left == 0 {
            return Poll::Ready(None);
        }
        let mut piece = vec![0; usize::try_from(left.min(PIECE)).unwrap_or_default()];
        let read = self.file.read_exact_at(&mut piece, self.at);
        self.at += piece.len() as u64;
        self.sent.store(self.at, Ordering::Relaxed);
        Poll::Ready(Some(read.map(|()| http_body::Frame::data(piece.into()))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.size - self.at)
    }
}
