//! A repository of a registry, by the distribution specification (1.1): manifests, blobs, tags, referrers, and the login that
//! a registry asks for.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use url::Url;

use super::credentials::Secret;
use super::manifest::{INDEX, Index, MANIFEST};
use crate::download::client::{Client, HttpRequest, OnBytes};
use crate::download::exchange::{Exchange, HttpResponse, Method, Sent};
use crate::error::{Error, Reason, Result};
use crate::host::Progress;
use crate::record::ids::Digest;
use crate::record::reference::{Reference, Which};

/// Larger manifests are not read, in bytes: what registries themselves take at most.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Pages of tags that are read at most, and tags in all.
const MAX_PAGES: usize = 200;
const MAX_TAGS: usize = 100_000;
/// Longest answer of who gives tokens, in bytes.
const MAX_TOKEN: u64 = 1 << 20;
/// How often an upload is begun anew.
const UPLOADS: usize = 3;

pub struct Repository<'a> {
    client: Client,
    pub reference: Reference,
    secret: Option<Secret>,
    progress: &'a dyn Progress,
    /// The `Authorization` line that the registry took last, or that is tried first.
    line: Mutex<Option<String>>,
    /// Nothing more is asked after this.
    until: Option<Instant>,
}

#[derive(Debug)]
pub struct FetchedManifest {
    pub digest: Digest,
    pub bytes: Vec<u8>,
}

impl<'a> Repository<'a> {
    pub fn new(
        client: Client,
        reference: Reference,
        secret: Option<Secret>,
        progress: &'a dyn Progress,
    ) -> Self {
        Self { client, reference, secret, progress, line: Mutex::default(), until: None }
    }

    /// Asks nothing more after `until`, where waiting would cost more than what lies there is worth.
    pub fn until(self, until: Instant) -> Self {
        Self { until: Some(until), ..self }
    }

    fn in_time(&self) -> Result<()> {
        match self.until.is_some_and(|until| Instant::now() >= until) {
            false => Ok(()),
            true => Err(Error::new(Reason::TimedOut, "the registry took too long in all")
                .at(self.reference.to_string())),
        }
    }

    fn url(&self, below: &str) -> String {
        format!("{}{}/{below}", self.reference.base(), self.reference.repository)
    }

    pub fn blob_url(&self, digest: &Digest) -> String {
        self.url(&format!("blobs/{digest}"))
    }

    /// The manifest with this tag or digest; `None` where there is none.
    ///
    /// # Errors
    /// [`Reason::DigestMismatch`] where it is another one than was asked for, or than the registry says; those of the
    /// network; [`Reason::RegistryDenied`].
    pub fn manifest(&self, which: &Which) -> Result<Option<FetchedManifest>> {
        let name = match which {
            Which::Any => return Ok(None),
            Which::Tag(tag) => tag.clone(),
            Which::Digest(digest) => digest.to_string(),
        };
        let url = self.url(&format!("manifests/{name}"));
        let accept = vec![("accept", format!("{MANIFEST}, {INDEX}"))];
        let answer = self.ask(Method::GET, &url, accept, Sent::Nothing, MAX_MANIFEST)?;
        if answer.status == 404 {
            return Ok(None);
        }
        let answer = expect(&url, answer, &[200])?;
        let digest = Digest::sha256(&answer.body);
        let said = answer.header("docker-content-digest").and_then(|text| text.parse().ok());
        let want = match which {
            Which::Digest(digest) => Some(digest.clone()),
            _ => said.filter(|said: &Digest| said.algorithm() == digest.algorithm()),
        };
        if let Some(want) = want.filter(|want| *want != digest) {
            return Err(altered("manifest", url, &want, &digest));
        }
        Ok(Some(FetchedManifest { digest, bytes: answer.body }))
    }

    /// The tags that begin so, in the registry's order.
    ///
    /// # Errors
    /// [`Reason::LimitHit`] for more than any honest repository has; those of the network.
    pub fn tags(&self, prefix: &str) -> Result<Vec<String>> {
        let mut url = self.url("tags/list?n=1000");
        let first = address(&url)?;
        let (mut out, mut seen) = (Vec::new(), 0);
        for _ in 0..MAX_PAGES {
            let answer = self.ask(Method::GET, &url, Vec::new(), Sent::Nothing, MAX_MANIFEST)?;
            // A repository that nobody pushed to yet has no tags.
            if answer.status == 404 {
                return Ok(out);
            }
            let answer = expect(&url, answer, &[200])?;
            let list = serde_json::from_slice::<serde_json::Value>(&answer.body)
                .map_err(|_| bad_answer(&url, "a list of tags that is no JSON"))?;
            let tags = list["tags"].as_array().into_iter().flatten().filter_map(|tag| tag.as_str());
            for tag in tags {
                seen += 1;
                if tag.starts_with(prefix) {
                    out.push(tag.to_owned());
                }
            }
            let next = answer.header("link").and_then(next_page);
            let Some(next) = next.filter(|_| seen <= MAX_TAGS) else { break };
            let next = first.join(next).map_err(|err| bad_answer(&url, &err.to_string()))?;
            if next.origin() != first.origin() {
                return Err(moved(&url, next.as_str()));
            }
            url = next.to_string();
        }
        if seen > MAX_TAGS {
            return Err(Error::new(Reason::LimitHit, "the repository has too many tags")
                .at(self.reference.to_string())
                .expected(format!("at most {MAX_TAGS}"))
                .hint(format!(
                    "name the one that is meant by its digest: {}@sha256: and 64 hex digits",
                    self.reference.repository()
                )));
        }
        Ok(out)
    }

    /// Whether a blob with this digest lies there. Also logs in, where the registry wants that.
    ///
    /// # Errors
    /// Those of the network; [`Reason::RegistryDenied`].
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        let url = self.blob_url(digest);
        let answer = self.ask(Method::HEAD, &url, Vec::new(), Sent::Nothing, 0)?;
        match answer.status {
            404 => Ok(false),
            // Where it is kept elsewhere, the download is sent there.
            301 | 302 | 303 | 307 | 308 => Ok(true),
            _ => expect(&url, answer, &[200]).map(|_| true),
        }
    }

    /// Fetches a blob of at most `size` bytes into what `open` makes; a broken connection goes on where it ended. The
    /// digest is the caller's to check.
    ///
    /// # Errors
    /// Those of [`Client::fetch`]; [`Reason::NotInRegistry`].
    pub fn blob<W: Write>(
        &self,
        (digest, size): (&Digest, u64),
        open: impl FnMut() -> Result<W>,
        on_bytes: OnBytes<'_>,
    ) -> Result<W> {
        let url = self.blob_url(digest);
        if !self.has(digest)? {
            return Err(Error::new(Reason::NotInRegistry, "the registry has no such blob")
                .at(url)
                .expected(digest.to_string())
                .found("404 Not Found")
                .hint("push it again from where it was built"));
        }
        let request = HttpRequest {
            authorization: self.line(),
            redirect_anywhere: true,
            resume: true,
            ..HttpRequest::get(&url, size).told(self.progress)
        };
        self.client.fetch(&request, open, on_bytes)
    }

    /// A small blob, checked.
    ///
    /// # Errors
    /// As [`Repository::blob`]; [`Reason::DigestMismatch`].
    pub fn small(&self, digest: &Digest, size: u64) -> Result<Vec<u8>> {
        let bytes = self.blob((digest, size), || Ok(Vec::new()), &|_, _| {})?;
        let found = Digest::sha256(&bytes);
        match found == *digest {
            true => Ok(bytes),
            false => Err(altered("blob", self.blob_url(digest), digest, &found)),
        }
    }

    /// Puts a blob there, unless it is there; says whether it was sent.
    ///
    /// # Errors
    /// Those of the network; [`Reason::RegistryDenied`]; [`Reason::HttpStatus`] where the registry does not take it.
    pub fn upload(&self, digest: &Digest, body: Sent<'_>) -> Result<bool> {
        if self.has(digest)? {
            return Ok(false);
        }
        let passing = [Reason::Unreachable, Reason::Truncated, Reason::HttpStatus];
        for attempt in 2..=UPLOADS {
            match self.upload_once(digest, body) {
                Err(err) if passing.contains(&err.reason()) => {
                    let text =
                        format!("{}: {}; attempt {attempt}", self.reference.host, err.what());
                    self.progress.note(&text);
                }
                done => return done.map(|()| true),
            }
        }
        self.upload_once(digest, body).map(|()| true)
    }

    fn upload_once(&self, digest: &Digest, body: Sent<'_>) -> Result<()> {
        let url = self.url("blobs/uploads/");
        let answer = self.ask(Method::POST, &url, Vec::new(), Sent::Nothing, MAX_MANIFEST)?;
        let answer = expect(&url, answer, &[202, 201])?;
        let place = answer.header("location").ok_or_else(|| bad_answer(&url, "no Location"))?;
        let first = address(&url)?;
        let mut place = first.join(place).map_err(|err| bad_answer(&url, &err.to_string()))?;
        // What is sent is told to nobody but the registry that was asked; some answer with their plain address.
        if place.host_str() != first.host_str() || place.port() != first.port() {
            return Err(moved(&url, place.host_str().unwrap_or_default()));
        }
        if place.set_scheme(first.scheme()).is_err() {
            return Err(moved(&url, place.scheme()));
        }
        place.query_pairs_mut().append_pair("digest", &digest.to_string());
        let headers = vec![("content-type", "application/octet-stream".to_owned())];
        let answer = self.ask(Method::PUT, place.as_str(), headers, body, MAX_MANIFEST)?;
        expect(&url, answer, &[201, 202, 204]).map(drop)
    }

    /// Puts a manifest there, under a tag or its digest; says whether the registry keeps the list of what is about what.
    pub fn put(&self, name: &str, media_type: &str, bytes: &[u8]) -> Result<bool> {
        let url = self.url(&format!("manifests/{name}"));
        let headers = vec![("content-type", media_type.to_owned())];
        let answer = self.ask(Method::PUT, &url, headers, Sent::Bytes(bytes), MAX_MANIFEST)?;
        let answer = expect(&url, answer, &[201, 200, 202])?;
        Ok(answer.header("oci-subject").is_some())
    }

    /// What says that it is about the manifest with this digest; `None` where the registry keeps no such list.
    ///
    /// # Errors
    /// Those of the network; [`Reason::BadManifest`].
    pub fn referrers(&self, digest: &Digest) -> Result<Option<Index>> {
        let url = self.url(&format!("referrers/{digest}"));
        let accept = vec![("accept", INDEX.to_owned())];
        let answer = self.ask(Method::GET, &url, accept, Sent::Nothing, MAX_MANIFEST)?;
        // A registry that does not know the interface answers as it likes.
        if answer.status != 200 {
            return Ok(None);
        }
        Index::parse(&answer.body).map(Some).map_err(|err| bad_answer(&url, &err.to_string()))
    }

    fn line(&self) -> Option<String> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One exchange, and, where the registry wants a login, one more after it.
    fn ask(
        &self,
        method: Method,
        url: &str,
        headers: Vec<(&'static str, String)>,
        sent: Sent<'_>,
        max_bytes: u64,
    ) -> Result<HttpResponse> {
        self.in_time()?;
        let exchange = |line: Option<String>| {
            self.client.exchange(&Exchange {
                method: method.clone(),
                url,
                headers: headers.clone(),
                authorization: line.as_deref(),
                sent,
                max_bytes,
                again: !matches!(sent, Sent::File(..)),
                progress: self.progress,
            })
        };
        let answer = exchange(self.line())?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let line = self.login(url, &answer)?;
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some(line.clone());
        exchange(Some(line))
    }

    /// The line that the registry's challenge asks for.
    fn login(&self, url: &str, answer: &HttpResponse) -> Result<String> {
        let mut schemes = Vec::new();
        for challenge in answer.headers("www-authenticate") {
            let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
            schemes.push(scheme.to_owned());
            if scheme.eq_ignore_ascii_case("bearer") {
                return match &self.secret {
                    Some(Secret::Bearer(token)) => Ok(format!("Bearer {}", **token)),
                    secret => self.token(url, rest, secret.as_ref()),
                };
            }
            if scheme.eq_ignore_ascii_case("basic") {
                return self.secret.as_ref().and_then(Secret::basic).ok_or_else(|| {
                    denied(
                        url,
                        "credentials",
                        "none for it in this user's configuration",
                        &self.reference,
                    )
                });
            }
        }
        let found =
            if schemes.is_empty() { "no way to log in".to_owned() } else { schemes.join(", ") };
        Err(denied(url, "a challenge that asks for Bearer or Basic", &found, &self.reference))
    }

    /// A token from where the registry sends us. It may be another host: whoever has the registry could have asked for
    /// the password itself; but never one without TLS where the registry has it.
    fn token(&self, url: &str, challenge: &str, secret: Option<&Secret>) -> Result<String> {
        let part = |name: &str| parameter(challenge, name);
        let realm = part("realm").unwrap_or_default();
        let mut place = Url::parse(&realm)
            .map_err(|_| bad_answer(url, "a challenge without the address of who gives tokens"))?;
        let first = address(url)?;
        if place.scheme() != "https" && place.origin() != first.origin() {
            return Err(moved(url, place.host_str().unwrap_or("another address")));
        }
        let asked = ["service", "scope"].into_iter().filter_map(|name| Some((name, part(name)?)));
        let asked: Vec<(&str, String)> = asked.collect();
        let form;
        let (method, headers, line, sent) = if let Some(Secret::Identity(token)) = secret {
            let mut text = url::form_urlencoded::Serializer::new(String::new());
            text.append_pair("grant_type", "refresh_token").append_pair("client_id", "admit");
            form = text.extend_pairs(asked).append_pair("refresh_token", token).finish();
            let kind = "application/x-www-form-urlencoded".to_owned();
            (Method::POST, vec![("content-type", kind)], None, Sent::Bytes(form.as_bytes()))
        } else {
            for (name, value) in &asked {
                place.query_pairs_mut().append_pair(name, value);
            }
            (Method::GET, Vec::new(), secret.and_then(Secret::basic), Sent::Nothing)
        };
        let answer = self.client.exchange(&Exchange {
            method,
            url: place.as_str(),
            headers,
            authorization: line.as_deref(),
            sent,
            max_bytes: MAX_TOKEN,
            again: true,
            progress: self.progress,
        })?;
        let token = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
        let token = token.as_ref().and_then(|t| t["token"].as_str().or(t["access_token"].as_str()));
        match (answer.status, token) {
            (200, Some(token)) => Ok(format!("Bearer {token}")),
            (200, None) => Err(bad_answer(&realm, "an answer without a token")),
            (status, _) => {
                let found = match secret {
                    Some(_) => format!(
                        "{status}: the credentials of this user's configuration were refused"
                    ),
                    None => format!("{status}, and none for it in this user's configuration"),
                };
                Err(denied(url, "credentials that may do this", &found, &self.reference))
            }
        }
    }
}

pub fn altered(what: &str, place: String, expected: &Digest, found: &Digest) -> Error {
    Error::new(Reason::DigestMismatch, format!("the registry's {what} has another digest"))
        .at(place)
        .expected(expected.to_string())
        .found(found.to_string())
        .hint("what lies in the registry was changed: push it again from where it was built")
}

fn denied(url: &str, expected: &str, found: &str, reference: &Reference) -> Error {
    Error::new(Reason::RegistryDenied, "the registry wants other credentials")
        .at(plain(url))
        .expected(expected)
        .found(found)
        .hint(format!("log in, for example: docker login {0}, or skopeo login {0}", reference.host))
}

fn address(url: &str) -> Result<Url> {
    Url::parse(url).map_err(|err| bad_answer(url, &err.to_string()))
}

fn bad_answer(url: &str, found: &str) -> Error {
    Error::new(Reason::BadManifest, "the registry's answer is not what its interface says")
        .at(plain(url))
        .found(found)
}

fn moved(url: &str, to: &str) -> Error {
    Error::new(Reason::RedirectRefused, "redirected to another host")
        .at(plain(url))
        .found(to)
        .hint("name the registry by its final address")
}

/// Without a query: it can hold what nobody else should see.
fn plain(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

fn expect(url: &str, answer: HttpResponse, good: &[u16]) -> Result<HttpResponse> {
    let status = answer.status;
    if good.contains(&status) {
        return Ok(answer);
    }
    if (300..400).contains(&status) {
        return Err(moved(
            url,
            answer
                .header("location")
                .map_or("no Location", |to| to.split('?').next().unwrap_or_default()),
        ));
    }
    let good: Vec<String> = good.iter().map(u16::to_string).collect();
    let denied = matches!(status, 401 | 403);
    let (reason, what) = match denied {
        true => (Reason::RegistryDenied, "the registry refuses this user"),
        false => (Reason::HttpStatus, "the registry answered with an error"),
    };
    let err =
        Error::new(reason, what).at(plain(url)).expected(good.join(" or ")).found(said(&answer));
    Err(match denied {
        true => err.hint("log in with an account that may do this"),
        false => err,
    })
}

/// The status with the registry's own words, where it has some.
fn said(answer: &HttpResponse) -> String {
    let body = serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap_or_default();
    let first = &body["errors"][0];
    let words = [first["code"].as_str(), first["message"].as_str()];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    let words: String = words.join(": ").chars().filter(|c| !c.is_control()).take(200).collect();
    match words.is_empty() {
        true => answer.status.to_string(),
        false => format!("{}: {words}", answer.status),
    }
}

/// The target of `<…>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("rel=\"next\"").then_some(target)
}

/// A parameter of a challenge: `name="value"`, in any order, with commas inside values.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_matches([' ', ',']);
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.trim().to_owned());
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_and_links_are_read_as_registries_write_them() {
        let text = r#"realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#;
        let get = |name| parameter(text, name);
        assert_eq!(get("realm").unwrap(), "https://auth.example/token");
        assert_eq!(get("SCOPE").unwrap(), "repository:a/b:pull,push");
        assert_eq!(get("error"), None);
        assert_eq!(parameter("realm=a, service=b", "service").unwrap(), "b");
        assert_eq!(parameter("", "realm"), None);
        assert_eq!(
            next_page("</v2/a/tags/list?last=x&n=1>; rel=\"next\""),
            Some("/v2/a/tags/list?last=x&n=1")
        );
        assert_eq!(next_page("</v2/a>; rel=\"last\""), None);
    }
}
