//! Addresses of repositories: `oci://HOST[:PORT]/PATH[:TAG|@sha256:…]`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, de};
use url::Url;

use super::ids::{Algorithm, Digest};

/// Which of a repository's manifests is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// Whichever fits.
    Any,
    Tag(String),
    Digest(Digest),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// Whether it is asked over TLS: always but for this machine's loopback, where `https://` in place of `oci://` asks
    /// for it.
    tls: bool,
    /// With its port, where it has one.
    pub host: String,
    /// The path below the host.
    pub repository: String,
    pub which: Which,
}

impl Reference {
    /// The address below which the registry's interface lies.
    pub fn base(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}/v2/", self.host)
    }

    pub fn repository(&self) -> Self {
        Self { which: Which::Any, ..self.clone() }
    }

    pub fn at(&self, digest: &Digest) -> Self {
        Self { which: Which::Digest(digest.clone()), ..self.clone() }
    }
}

/// Whether a host is this machine's loopback, by what it is called.
fn loopback(host: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{host}/")) else { return false };
    match url.host() {
        Some(url::Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(url::Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn host(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
    plain && !text.is_empty() && Url::parse(&format!("https://{text}/")).is_ok()
}

/// The distribution specification's rule for the parts of a repository's name.
fn part(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(|b| plain(*b)) && bytes.last().is_some_and(|b| plain(*b));
    let known = bytes.iter().all(|b| plain(*b) || b"._-".contains(b));
    let apart = !["..", "._", "_.", "-.", ".-", "-_", "_-", "___"].iter().any(|p| text.contains(p));
    ends && known && apart
}

/// The specification's rule for tags.
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let rest = |b: u8| word(b) || b".-".contains(&b);
    text.len() <= 128 && text.bytes().next().is_some_and(word) && text.bytes().all(rest)
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no = |what: &str| {
            Err(format!("{what}: oci://HOST/PATH, with :TAG or @sha256:… where one is meant"))
        };
        let (secure, rest) = match (text.strip_prefix("oci://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return no("not the address of a registry"),
        };
        let Some((name, path)) = rest.split_once('/') else {
            return no("an address without a repository");
        };
        if !host(name) {
            return no("not the name of a host");
        }
        let (path, which) = match path.split_once('@') {
            Some((path, digest)) => match digest.parse::<Digest>() {
                Ok(digest) if digest.algorithm() == Algorithm::Sha256 => {
                    (path, Which::Digest(digest))
                }
                _ => return no("not a SHA-256 after the @"),
            },
            None => match path.split_once(':') {
                Some((path, tag)) if is_tag(tag) => (path, Which::Tag(tag.to_owned())),
                Some(_) => return no("not a tag after the colon"),
                None => (path, Which::Any),
            },
        };
        if path.len() > 255 || !path.split('/').all(part) {
            return no("not the name of a repository (lower-case letters and digits)");
        }
        let (host, repository) = (name.to_ascii_lowercase(), path.to_owned());
        Ok(Self { tls: secure || !loopback(&host), host, repository, which })
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: de::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.host, self.repository)?;
        match &self.which {
            Which::Any => Ok(()),
            Which::Tag(tag) => write!(f, ":{tag}"),
            Which::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_specification_has_them() {
        let read = |text: &str| text.parse::<Reference>();
        let one = read("oci://registry.example:5000/team/agents:v1").unwrap();
        assert_eq!(one.base(), "https://registry.example:5000/v2/");
        assert_eq!(
            (one.repository.as_str(), one.to_string().as_str()),
            ("team/agents", "oci://registry.example:5000/team/agents:v1")
        );
        assert_eq!(one.which, Which::Tag("v1".into()));
        let digest = Digest::sha256(b"");
        let by = read(&format!("oci://h/a@{digest}")).unwrap();
        assert_eq!(by.which, Which::Digest(digest));
        assert_eq!(by.repository().to_string(), "oci://h/a");
        // Without TLS on the loopback alone.
        for host in ["127.0.0.1:5000", "localhost", "[::1]:5000", "127.9.9.9"] {
            assert_eq!(
                read(&format!("oci://{host}/a")).unwrap().base(),
                format!("http://{host}/v2/")
            );
            let secure = read(&format!("https://{host}/a")).unwrap();
            assert_eq!(secure.base(), format!("https://{host}/v2/"));
        }
        for host in ["localhost.example", "127.0.0.1.example", "10.0.0.1"] {
            assert!(read(&format!("oci://{host}/a")).unwrap().base().starts_with("https://"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "registry.example/a",
            "http://registry.example/a",
            "oci://registry.example",
            "oci:///a",
            "oci://registry.example/",
            "oci://registry.example/A",
            "oci://registry.example/a//b",
            "oci://registry.example/../a",
            "oci://registry.example/a?x",
            "oci://user:secret@registry.example/a",
            "oci://registry.example/a:",
            "oci://registry.example/a:-x",
            "oci://registry.example/a@sha256:1",
            "oci://registry.example/a@v1",
            "oci://registry example/a",
        ] {
            let err = bad.parse::<Reference>().unwrap_err();
            assert!(!err.contains("secret"), "{err}");
        }
    }
}
