//! Where the model is and with which key: resolved once, checked against the admission's network, pinned.
//!
//! Neither the address nor the key is ever in an error, a record or a `Debug` text.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use url::Url;

use super::account::Account;
use crate::download::config::{NetConfig, tls_config};
use crate::error::{Error, Reason, Result};
use crate::record::network::Network;
use crate::secrets::{Secret, endpoint_values};

/// Longest key file in bytes: tokens of identity providers reach a few thousand.
const MAX_KEY: u64 = 16 * 1024;

/// Why an address may not be asked, without the address; `None` where it may.
fn outside(network: &Network, addr: IpAddr, tls: bool) -> Option<String> {
    if network.permits(addr, tls) {
        return None;
    }
    let addr = addr.to_canonical();
    let kind = match addr {
        _ if network.permits(addr, true) => "an address without TLS",
        _ if addr.is_unspecified() => "the unspecified address",
        _ if addr.is_multicast() => "a multicast address",
        _ if addr.is_loopback() => "a loopback address",
        _ => "an address",
    };
    Some(format!("{kind} outside the network \"{}\"", network.name()))
}

/// Whether the endpoint's host and **every** one of its addresses may be asked; why not, without naming one.
fn held(network: &Network, host: &str, addrs: &[IpAddr], tls: bool) -> Result<(), String> {
    if !network.permits_host(host) {
        return Err(format!("a host that the network \"{}\" does not name", network.name()));
    }
    let outside: Vec<_> = addrs.iter().filter_map(|addr| outside(network, *addr, tls)).collect();
    match (outside.first(), addrs.len()) {
        (None, _) => Ok(()),
        (Some(why), 1) => Err(why.clone()),
        (Some(why), all) => Err(format!("{why} ({} of its {all} addresses)", outside.len())),
    }
}

/// The key for the endpoint. Read once, kept in a buffer that is wiped, sent in one header and nowhere else.
#[derive(Clone, Debug)]
pub struct ModelKey(Secret);

impl ModelKey {
    /// A key from the value of an environment variable; `name` is for messages.
    pub fn from_value(name: &str, value: Vec<u8>) -> Result<Self> {
        Self::checked(value).map_err(|what| {
            Error::new(Reason::CredentialUnusable, what)
                .at(name.to_owned())
                .hint(format!("set {name} to the key alone, without quotes or line ends inside"))
        })
    }

    /// A key from a file that is regular, of this user, and readable by no other (mode 0600 or 0400). One line end
    /// at the end is not part of the key.
    pub fn from_file(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let fail = |what: &str| Error::new(Reason::CredentialUnusable, what).at(place.clone());
        // O_NONBLOCK: a pipe in the file's place must not hold us up.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(|err| Error::io("open the credential file", path, err))?;
        let meta =
            file.metadata().map_err(|err| Error::io("look at the credential file", path, err))?;
        if !meta.is_file() {
            return Err(fail("the credential file is no regular file"));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(fail("others may read the credential file")
                .expected("mode 0600")
                .found(format!("mode {:04o}", meta.mode() & 0o7777))
                .hint(format!("chmod 600 {place}")));
        }
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(fail("the credential file belongs to another user"));
        }
        let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(MAX_KEY as usize + 1));
        file.take(MAX_KEY + 1)
            .read_to_end(&mut bytes)
            .map_err(|err| Error::io("read the credential file", path, err))?;
        let end = bytes.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |at| at + 1);
        Self::checked(bytes[..end].to_vec()).map_err(&fail)
    }

    /// Visible ASCII only: anything else could end the header that the key is sent in.
    fn checked(value: Vec<u8>) -> Result<Self, &'static str> {
        let value = Secret::new(value).ok_or("the credential is empty")?;
        if value.expose().len() as u64 > MAX_KEY {
            return Err("the credential is longer than any key");
        }
        if !value.expose().iter().all(u8::is_ascii_graphic) {
            return Err("the credential holds white space or bytes that no key has");
        }
        Ok(Self(value))
    }

    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

/// A model endpoint that may be connected to.
#[derive(Clone)]
pub struct Endpoint {
    url: Secret,
    host: String,
    port: u16,
    base_path: String,
    addrs: Vec<IpAddr>,
    network: Network,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) account: Option<Arc<Account>>,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
}

impl Endpoint {
    /// Resolves the base URL (`http://host:port/v1`), checks its host and **every** address that the name has against
    /// `network`, and pins the first address. TLS trusts what `net` names; its proxies are never used.
    pub fn resolve(base_url: &str, network: &Network, net: &NetConfig) -> Result<Self> {
        let refuse = |what: String| {
            Error::new(Reason::EndpointRefused, what).hint(
                "the endpoint comes from CTO_HARNESS_CASE_LOCAL_BASE_URL or the configuration file",
            )
        };
        let url =
            Url::parse(base_url).map_err(|_| refuse("the model endpoint is not a URL".into()))?;
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(refuse("the model endpoint is neither http nor https".into())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("the model endpoint's URL holds a user name or password".into()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("the model endpoint's URL has a query or fragment".into()));
        }
        let host = url.host_str().ok_or_else(|| refuse("the model endpoint has no host".into()))?;
        let port = url
            .port_or_known_default()
            .ok_or_else(|| refuse("the model endpoint has no port".into()))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addrs: Vec<IpAddr> = (bare, port)
            .to_socket_addrs()
            .map_err(|_| refuse("the model endpoint's host does not resolve".into()))?
            .map(|addr| addr.ip())
            .collect();
        if addrs.is_empty() {
            return Err(refuse("the model endpoint's host has no address".into()));
        }
        let refused = |why: String| {
            Error::new(Reason::NetworkNotAllowed, format!("the model endpoint is {why}"))
                .expected(format!("every address inside {}: {}", network.name(), network.words()))
                .found(why)
                .hint("use an endpoint there, or have another network approved for the model")
        };
        held(network, host, &addrs, secure).map_err(refused)?;
        let tls = match secure {
            true => Some(Arc::new(tls_config(net)?)),
            false => None,
        };
        let url_secret = Secret::new(base_url.as_bytes().to_vec())
            .ok_or_else(|| refuse("the model endpoint is empty".into()))?;
        Ok(Self {
            host: host.to_owned(),
            port,
            base_path: url.path().trim_end_matches('/').to_owned(),
            addrs,
            network: network.clone(),
            headers: BTreeMap::new(),
            account: None,
            tls,
            url: url_secret,
        })
    }

    /// The same, with headers that every request to it has beside admit's own; none of them is a secret.
    #[must_use]
    pub fn asked_with(
        self,
        headers: BTreeMap<String, String>,
        account: Option<Arc<Account>>,
    ) -> Self {
        Self { headers, account, ..self }
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Every address that the name resolved to, all inside the network; the first one is used.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addrs
    }

    /// Every value by which the endpoint could be recognised, to be looked for in replies and artifacts.
    pub fn secret_values(&self) -> Vec<(String, Secret)> {
        let url = String::from_utf8_lossy(self.url.expose());
        endpoint_values(&url, &self.host, self.port, &self.addrs)
    }

    pub(super) fn pinned(&self) -> SocketAddr {
        SocketAddr::new(self.addrs[0], self.port)
    }

    pub(super) fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn authority(&self) -> String {
        let default = if self.is_tls() { 443 } else { 80 };
        if self.port == default {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// `version`: `/v1` belongs between the base URL and `tail`, unless the base URL has it.
    pub(super) fn path(&self, tail: &str, version: bool) -> String {
        let version = if version && !self.base_path.ends_with("/v1") { "/v1" } else { "" };
        format!("{}{version}{tail}", self.base_path)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("network", &self.network.name()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::network::NetworkRecord;
    use std::os::unix::fs::PermissionsExt as _;

    fn network(name: &str) -> Network {
        Network::built_in(name).unwrap()
    }

    fn reason(url: &str, name: &str) -> (Reason, String) {
        let err = Endpoint::resolve(url, &network(name), &NetConfig::default()).unwrap_err();
        (err.reason(), err.what().to_owned())
    }

    #[test]
    fn only_addresses_of_the_class_are_let_through() {
        let class = network("loopback-test");
        assert!(Endpoint::resolve("http://127.0.0.1:9/v1", &class, &NetConfig::default()).is_ok());
        for url in [
            "http://10.0.0.1:9/v1",
            "http://0.0.0.0:9/v1",
            "http://169.254.169.254/v1",
            "http://224.0.0.1/v1",
            "http://[::1]:9/v1",
        ] {
            let err = Endpoint::resolve(url, &class, &NetConfig::default()).unwrap_err();
            assert_eq!(err.reason(), Reason::NetworkNotAllowed, "{url}");
            assert!(err.expected_value().unwrap().contains("127.0.0.0/8"), "{err:?}");
            assert!(!err.what().contains("10.0") && !err.what().contains("169.254"), "{err}");
        }
        for url in [
            "http://no-such-host.invalid/v1",
            "http://user@127.0.0.1:9/v1",
            "http://127.0.0.1:9/v1?x",
            "ftp://127.0.0.1/",
            "nonsense",
            "",
        ] {
            assert_eq!(reason(url, "loopback-test").0, Reason::EndpointRefused, "{url}");
        }
        assert!(
            reason("http://127.0.0.1:9/v1", "local-tailscale-vllm-spark1").1.contains("loopback")
        );
        let hosted = network("codex-oauth-hosted-model-plus-local-vllm-fallback");
        let why = |network: &Network, addr: &str, tls| outside(network, addr.parse().unwrap(), tls);
        assert!(why(&hosted, "8.8.8.8", false).unwrap().contains("TLS"));
        assert_eq!(why(&hosted, "8.8.8.8", true), None);
        assert_eq!(why(&class, "::ffff:127.0.0.1", false), None);
        assert!(why(&hosted, "::ffff:127.0.0.1", true).is_some());
    }

    #[test]
    fn a_host_is_asked_only_where_the_network_names_it_and_has_all_its_addresses() {
        let own = |addresses: &[&str], hosts: &[&str]| {
            let record = NetworkRecord {
                name: "own".parse().unwrap(),
                addresses: addresses.iter().map(|range| range.parse().unwrap()).collect(),
                hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
                tls: false,
            };
            Network::named("own", &[record]).unwrap()
        };
        let all = |addrs: &[&str]| -> Vec<IpAddr> {
            addrs.iter().map(|addr| addr.parse().unwrap()).collect()
        };
        let network = own(&["192.168.7.0/24"], &["llm.home.arpa"]);
        let inside = ["192.168.7.2", "192.168.7.3"];
        assert_eq!(held(&network, "LLM.home.arpa", &all(&inside), false), Ok(()));
        let why = held(&network, "other.home.arpa", &all(&inside), false).unwrap_err();
        assert!(why.contains("does not name"), "{why}");
        let mixed = all(&["192.168.7.2", "8.8.8.8", "192.168.7.3"]);
        let why = held(&network, "llm.home.arpa", &mixed, true).unwrap_err();
        assert!(why.ends_with("(1 of its 3 addresses)"), "{why}");
        let net = NetConfig::default();
        let only = own(&["127.0.0.1"], &["other"]);
        let err = Endpoint::resolve("http://127.0.0.1:9/v1", &only, &net).unwrap_err();
        assert_eq!(err.reason(), Reason::NetworkNotAllowed);
    }

    #[test]
    fn a_credential_file_must_be_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "abc-123\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        for open in [0o644, 0o640, 0o604, 0o660] {
            mode(open).unwrap();
            let err = ModelKey::from_file(&path).unwrap_err();
            assert_eq!(err.reason(), Reason::CredentialUnusable);
        }
        mode(0o600).unwrap();
        let key = ModelKey::from_file(&path).unwrap();
        assert_eq!(key.secret().expose(), b"abc-123");
        assert!(!format!("{key:?}").contains("abc"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(ModelKey::from_file(&link).is_err());
        assert!(ModelKey::from_file(dir.path()).is_err());
        for bad in ["", "a b", "a\r\nX: y", "\u{e4}"] {
            assert!(ModelKey::from_value("KEY", bad.as_bytes().to_vec()).is_err(), "{bad}");
        }
    }
}
