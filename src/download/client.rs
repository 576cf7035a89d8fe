//! Downloads over HTTP: streamed, with deadlines, retries and caps, through the user's proxies and CA files.
//!
//! Nothing here decides whether bytes are right: every caller checks a digest. What this module guarantees is that a
//! fault has a name. A body that ends early is [`Reason::Truncated`], never a short success; a redirect to another
//! host is [`Reason::RedirectRefused`] unless the caller named that host; certificates are always checked.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, RANGE};
use url::Url;

use super::config::{NetConfig, http_client};
use super::fault::{
    Fault, cut_off, host, redirect, refused, shown, sink_error, stalled, too_large, too_long,
    transport_fault,
};
use crate::error::{Error, Reason, Result};
use crate::host::{self, Progress, Silent, open_regular};

#[derive(Clone)]
pub struct HttpRequest<'a> {
    /// `https://`, `http://` or `file://` (a local mirror).
    pub url: &'a str,
    /// A body to POST; without one it is a GET.
    pub post: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, String)>,
    /// The `Authorization` line, sent to the host of `url` only.
    pub authorization: Option<String>,
    /// Hosts that a redirect may lead to, besides the host of `url`.
    pub redirect_hosts: &'a [&'a str],
    /// Whether a redirect may lead to any other host over HTTPS: for content whose digest is known, and that carries no
    /// credentials there.
    pub redirect_anywhere: bool,
    /// Whether an attempt goes on where the last one ended: for content that no two answers differ in.
    pub resume: bool,
    /// Largest body taken, in bytes.
    pub max_bytes: u64,
    /// Told of silence and of further attempts.
    pub progress: &'a dyn Progress,
}

impl<'a> HttpRequest<'a> {
    pub fn get(url: &'a str, max_bytes: u64) -> Self {
        Self {
            url,
            post: None,
            headers: Vec::new(),
            authorization: None,
            redirect_hosts: &[],
            redirect_anywhere: false,
            resume: false,
            max_bytes,
            progress: &Silent,
        }
    }

    pub fn told(self, progress: &'a dyn Progress) -> Self {
        Self { progress, ..self }
    }
}

/// An attempt that brought so many bytes of a body that can be resumed was not in vain, and does not count.
const ENOUGH: u64 = 1 << 20;

/// Told of bytes received in this attempt and the expected total; starts anew at 0 with every attempt.
pub type OnBytes<'a> = &'a dyn Fn(u64, Option<u64>);

/// A downloader. Cheap to clone; connections are kept and shared. Threads may use it at the same time.
#[derive(Clone)]
pub struct Client {
    pub(super) config: Arc<NetConfig>,
    // Made at the first request, so that a run that finds everything in the store reads no certificates.
    engine: Arc<Mutex<Option<Arc<Engine>>>>,
    // When the user was told of silence last: many downloads at once wait for the same server.
    told: Arc<Mutex<Option<Instant>>>,
}

pub(super) struct Engine {
    pub(super) http: reqwest::Client,
    pub(super) runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A name lookup that hangs must not keep the process from ending.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Client {
    /// A client for this configuration; nothing is read or opened yet.
    pub fn new(config: &NetConfig) -> Self {
        Self { config: Arc::new(config.clone()), engine: Arc::default(), told: Arc::default() }
    }

    /// Fetches `request` into a writer that `open` makes anew for each attempt, and gives back the writer that took
    /// the whole body. A writer that fails ends the request; an [`Error`] inside its `io::Error` comes out as it is.
    ///
    /// # Errors
    /// [`Reason::Unreachable`], [`Reason::HttpStatus`], [`Reason::RedirectRefused`], [`Reason::Truncated`] (also for
    /// silence), [`Reason::TimedOut`], [`Reason::LimitHit`], [`Reason::BadArgument`] for addresses and CA files that
    /// cannot be used, and whatever `open` or the writer fails with.
    pub fn fetch<W: Write>(
        &self,
        request: &HttpRequest<'_>,
        mut open: impl FnMut() -> Result<W>,
        on_bytes: OnBytes<'_>,
    ) -> Result<W> {
        let url = parse_url(request.url)?;
        if url.scheme() == "file" {
            let mut sink = open()?;
            copy_file(&url, request.max_bytes, &mut sink, on_bytes)?;
            return Ok(sink);
        }
        let engine = self.engine()?;
        let runtime = engine.runtime.as_ref().ok_or_else(|| bug("the client has ended"))?;
        let mut wait = self.config.backoff;
        let (mut attempt, mut silences) = (1, 0);
        let mut begun: Option<(W, u64)> = None;
        loop {
            let (mut sink, from) = match begun.take() {
                Some(begun) => begun,
                None => (open()?, 0),
            };
            let mut done = from;
            let once = self.once(&engine.http, request, &url, (&mut sink, &mut done), on_bytes);
            let outcome = runtime.block_on(async {
                let limit = self.config.deadline;
                let outcome = tokio::time::timeout(limit, once).await;
                outcome.unwrap_or_else(|_| Err(too_long("download", &url, limit)))
            });
            let (err, at_least) = match outcome {
                Ok(()) => return Ok(sink),
                Err(Fault::Lasting(err)) => return Err(err),
                Err(Fault::Passing(err, at_least)) => (err, at_least),
                Err(Fault::Silence(err)) => {
                    silences += 1;
                    (err, Duration::ZERO)
                }
            };
            if request.resume && done > 0 {
                // A long body over a bad connection comes in as many pieces as it takes.
                if done - from >= ENOUGH {
                    (attempt, silences) = (1, 0);
                    wait = self.config.backoff;
                }
                begun = Some((sink, done));
            }
            if attempt >= self.config.attempts || silences >= 2 {
                // Told as it went on; the last try's fault is the cause.
                self.tell(request, &format!("{}: given up after {attempt} attempts", host(&url)));
                return Err(err);
            }
            attempt += 1;
            self.tell(request, &format!("{}: {}; attempt {attempt}", host(&url), err.what()));
            std::thread::sleep(wait.max(at_least));
            wait *= 2;
        }
    }

    pub fn fetch_bytes(&self, request: &HttpRequest<'_>) -> Result<Vec<u8>> {
        self.fetch(request, || Ok(Vec::new()), &|_, _| {})
    }

    pub(super) fn engine(&self) -> Result<Arc<Engine>> {
        let mut slot = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*slot {
            return Ok(engine.clone());
        }
        // Where one of its threads cannot be started, tokio waits for the others for ever.
        host::can_start(4)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("net")
            .enable_all()
            .build()
            .map_err(|err| Error::io("start the network threads", "tokio", err))?;
        let engine = Arc::new(Engine { http: http_client(&self.config)?, runtime: Some(runtime) });
        *slot = Some(engine.clone());
        Ok(engine)
    }

    async fn once<W: Write>(
        &self,
        http: &reqwest::Client,
        request: &HttpRequest<'_>,
        first: &Url,
        (sink, done): (&mut W, &mut u64),
        on_bytes: OnBytes<'_>,
    ) -> Result<(), Fault> {
        let from = *done;
        let mut url = first.clone();
        // Registries and GitHub redirect once; five is what curl's documentation suggests as a sane bound.
        for _ in 0..=5 {
            let response = self.send(http, request, &url, first, from).await?;
            if response.status().is_redirection() {
                let anywhere = request.redirect_anywhere;
                let hosts = request.redirect_hosts;
                url = redirect(&url, first, response.headers(), hosts, anywhere)?;
                continue;
            }
            // What was there already is sent again by a server that knows no ranges, and is passed over.
            let again = match response.status() {
                StatusCode::OK => from,
                StatusCode::PARTIAL_CONTENT if from > 0 => 0,
                status => return Err(refused(&url, status, response.headers())),
            };
            return self.body(response, &url, request, (sink, done, again), on_bytes).await;
        }
        Err(Fault::Lasting(
            Error::new(Reason::RedirectRefused, "more than five redirects").at(shown(first)),
        ))
    }

    async fn send(
        &self,
        http: &reqwest::Client,
        request: &HttpRequest<'_>,
        url: &Url,
        first: &Url,
        from: u64,
    ) -> Result<reqwest::Response, Fault> {
        let mut builder = match &request.post {
            Some(body) => http.post(url.clone()).body(body.clone()),
            None => http.get(url.clone()),
        };
        if from > 0 {
            builder = builder.header(RANGE, format!("bytes={from}-"));
        }
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(value) = &request.authorization
            && url.origin() == first.origin()
        {
            builder = builder.header(AUTHORIZATION, value);
        }
        let limit = self.config.connect + self.config.stall;
        match self.patiently(request, url, limit, builder.send()).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(err)) => Err(transport_fault(url, err)),
            None => Err(stalled(url, self.config.connect + self.config.stall, 0)),
        }
    }

    /// Waits for `work`, but not longer than `limit`, and says what it waits for.
    async fn patiently<T>(
        &self,
        request: &HttpRequest<'_>,
        url: &Url,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut waited = Duration::ZERO;
        while waited < limit {
            let step = self.config.told_after.min(limit - waited);
            if let Ok(done) = tokio::time::timeout(step, work.as_mut()).await {
                return Some(done);
            }
            waited += step;
            if waited < limit {
                let (waited, limit) = (waited.as_secs(), limit.as_secs());
                let text = format!("nothing from {} for {waited} s, of {limit}", host(url));
                self.tell(request, &text);
            }
        }
        None
    }

    /// Tells the user, unless there was a note a moment ago.
    fn tell(&self, request: &HttpRequest<'_>, text: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|last| last.elapsed() >= self.config.told_after / 2) {
            *told = Some(Instant::now());
            request.progress.note(text);
        }
    }

    async fn body<W: Write>(
        &self,
        mut response: reqwest::Response,
        url: &Url,
        request: &HttpRequest<'_>,
        (sink, done, mut again): (&mut W, &mut u64, u64),
        on_bytes: OnBytes<'_>,
    ) -> Result<(), Fault> {
        let max = request.max_bytes;
        let total = response.content_length().map(|length| length + *done - again);
        if total.is_some_and(|t| t > max) {
            return Err(Fault::Lasting(too_large(url, max)));
        }
        on_bytes(*done, total);
        loop {
            let next = self.patiently(request, url, self.config.stall, response.chunk()).await;
            let chunk = match next {
                Some(Ok(Some(chunk))) => chunk,
                Some(Ok(None)) => break,
                Some(Err(err)) => return Err(cut_off(url, total, *done, err)),
                None => return Err(stalled(url, self.config.stall, *done)),
            };
            let known = usize::try_from(again).unwrap_or(usize::MAX).min(chunk.len());
            again -= known as u64;
            let chunk = &chunk[known..];
            if *done + chunk.len() as u64 > max {
                return Err(Fault::Lasting(too_large(url, max)));
            }
            sink.write_all(chunk).map_err(|err| Fault::Lasting(sink_error(url, err)))?;
            *done += chunk.len() as u64;
            on_bytes(*done, total);
        }
        sink.flush().map_err(|err| Fault::Lasting(sink_error(url, err)))
    }
}

pub(super) fn parse_url(text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|err| {
        Error::new(Reason::BadArgument, "not an address").found(text.to_owned()).caused_by(err)
    })?;
    match url.scheme() {
        "https" | "http" | "file" => Ok(url),
        other => Err(Error::new(Reason::BadArgument, "an address that admit cannot fetch")
            .at(shown(&url))
            .expected("https://, http:// or file://")
            .found(format!("{other}:"))),
    }
}

fn copy_file(url: &Url, max: u64, sink: &mut impl Write, on_bytes: OnBytes<'_>) -> Result<()> {
    let path = url.to_file_path().map_err(|()| {
        Error::new(Reason::BadArgument, "a file address names an absolute path").at(url.to_string())
    })?;
    let missing = |err: io::Error| {
        let reason = match err.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::Other => Reason::Unreachable,
            _ => Reason::Io,
        };
        Error::new(reason, "cannot read the mirrored file")
            .at(path.display().to_string())
            .caused_by(err)
    };
    // A mirror may link to its files.
    let real = path.canonicalize().map_err(missing)?;
    let mut file = open_regular(rustix::fs::CWD, &real).map_err(missing)?;
    let meta = file.metadata().map_err(missing)?;
    if meta.len() > max {
        return Err(too_large(url, max));
    }
    // The file may grow while it is read; the cap holds all the same.
    let copied =
        io::copy(&mut io::Read::take(&mut file, max), sink).map_err(|e| sink_error(url, e))?;
    sink.flush().map_err(|e| sink_error(url, e))?;
    on_bytes(copied, Some(copied));
    Ok(())
}

pub(super) fn bug(what: &str) -> Error {
    Error::new(Reason::Internal, what)
}
