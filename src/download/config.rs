//! How the network is reached: proxies, CA certificates, deadlines.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Reason, Result};

/// How the network is reached. Values come from the user's environment and configuration.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Proxy for `http://` addresses (`HTTP_PROXY`).
    pub http_proxy: Option<String>,
    /// Proxy for `https://` addresses (`HTTPS_PROXY`), reached with CONNECT.
    pub https_proxy: Option<String>,
    /// Hosts that are reached directly (`NO_PROXY`: names, suffixes, addresses and networks, comma-separated).
    pub no_proxy: Option<String>,
    /// A PEM file that replaces the system's CA certificates (`SSL_CERT_FILE`, as OpenSSL has it).
    pub ca_roots: Option<PathBuf>,
    /// PEM files with further CA certificates (`NODE_EXTRA_CA_CERTS`, npm's `cafile`).
    pub extra_ca: Vec<PathBuf>,
    pub user_agent: String,
    pub connect: Duration,
    /// Longest silence: from the request to the status line, and between two pieces of the body.
    pub stall: Duration,
    /// Longest time one attempt may take in all.
    pub deadline: Duration,
    /// After so much silence, and again after as much, the user is told.
    pub told_after: Duration,
    /// Attempts in all, at least one. Silence has two at most: who says nothing twice will not say anything.
    pub attempts: u32,
    /// Wait before the second attempt; doubles with each further one.
    pub backoff: Duration,
}

impl Default for NetConfig {
    /// Direct connections, the system's CA certificates, 10 s to connect, 25 s of silence, 20 min a file (the largest
    /// input of a provider is about 40 MB), four attempts that wait 0.3, 0.6 and 1.2 s. A server that says nothing is
    /// given up after 70 s at most, and after 10 s admit says what it waits for.
    fn default() -> Self {
        Self {
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            ca_roots: None,
            extra_ca: Vec::new(),
            user_agent: concat!("admit/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(25),
            told_after: Duration::from_secs(10),
            deadline: Duration::from_secs(20 * 60),
            attempts: 4,
            backoff: Duration::from_millis(300),
        }
    }
}

impl NetConfig {
    /// The same for a server that one can do without: 3 s to connect, 10 s of silence, two attempts.
    pub fn hurried(self) -> Self {
        let second = Duration::from_secs(1);
        Self {
            connect: second * 3,
            stall: second * 10,
            told_after: second * 3,
            attempts: 2,
            ..self
        }
    }

    /// The defaults with the proxies and CA files that these environment variables name: `HTTP_PROXY`, `HTTPS_PROXY`,
    /// `NO_PROXY` (lower case wins, as in curl), `SSL_CERT_FILE`, `NODE_EXTRA_CA_CERTS`.
    pub fn from_env(env: &BTreeMap<String, String>) -> Self {
        let get = |name: &str| {
            let lower = name.to_ascii_lowercase();
            env.get(&lower).or_else(|| env.get(name)).filter(|v| !v.is_empty()).cloned()
        };
        Self {
            http_proxy: get("HTTP_PROXY"),
            https_proxy: get("HTTPS_PROXY"),
            no_proxy: get("NO_PROXY"),
            ca_roots: get("SSL_CERT_FILE").map(PathBuf::from),
            extra_ca: get("NODE_EXTRA_CA_CERTS").map(PathBuf::from).into_iter().collect(),
            ..Self::default()
        }
    }
}

pub(crate) fn http_client(config: &NetConfig) -> Result<reqwest::Client> {
    let cannot = |err: reqwest::Error| {
        Error::new(Reason::BadArgument, "cannot set up the network client")
            .caused_by(err.without_url())
    };
    let mut builder = reqwest::Client::builder()
        .user_agent(&config.user_agent)
        .connect_timeout(config.connect)
        // One connection a download: over HTTP/2 all would share one, and with it one core's decryption.
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .use_preconfigured_tls(tls_config(config)?)
        .no_proxy();
    let direct = config.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
    for (address, make) in [
        (&config.http_proxy, reqwest::Proxy::http as fn(String) -> reqwest::Result<reqwest::Proxy>),
        (&config.https_proxy, reqwest::Proxy::https),
    ] {
        if let Some(address) = address {
            let proxy = make(address.clone()).map_err(|err| {
                Error::new(Reason::BadArgument, "the proxy address cannot be used")
                    .hint("check HTTP_PROXY and HTTPS_PROXY")
                    .caused_by(err.without_url())
            })?;
            builder = builder.proxy(proxy.no_proxy(direct.clone()));
        }
    }
    builder.build().map_err(cannot)
}

/// The TLS configuration: CA certificates from the named files, else from the system; always verified.
pub(crate) fn tls_config(config: &NetConfig) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(match &config.ca_roots {
        Some(file) => certificates(file)?,
        None => rustls_native_certs::load_native_certs().certs,
    });
    for file in &config.extra_ca {
        roots.add_parsable_certificates(certificates(file)?);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::internal("TLS without protocol versions"))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn certificates(file: &Path) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>> {
    let mut loaded = rustls_native_certs::load_certs_from_paths(Some(file), None);
    let fail = |what: &str| {
        Error::new(Reason::BadArgument, what)
            .at(file.display().to_string())
            .hint("check SSL_CERT_FILE, NODE_EXTRA_CA_CERTS and npm's cafile")
    };
    match loaded.errors.pop() {
        Some(err) => Err(fail("cannot read the CA file").caused_by(err)),
        None if loaded.certs.is_empty() => Err(fail("the CA file holds no certificate")),
        None => Ok(loaded.certs),
    }
}

/// Whether the TLS handshake said no; another attempt would end the same way.
pub(crate) fn caused_by_tls(err: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(err);
    while let Some(err) = next {
        if err.is::<rustls::Error>() {
            return true;
        }
        // The source of an `io::Error` is that of the error inside it, not that error.
        let inner = err.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => err.source(),
        };
    }
    false
}
