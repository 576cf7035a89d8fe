//! What goes wrong with a download, and whether another attempt may do better.

use std::io;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use url::Url;

use super::config::caused_by_tls;
use crate::error::{Error, Reason};

pub(super) enum Fault {
    /// Another attempt may do better, after at least this wait.
    Passing(Error, Duration),
    /// Nothing came. One more attempt may reach another machine behind the same name; a third would not.
    Silence(Error),
    /// It would end the same way.
    Lasting(Error),
}

/// Nothing came for `limit`, after `done` bytes.
pub(super) fn stalled(url: &Url, limit: Duration, done: u64) -> Fault {
    let err = Error::new(Reason::Truncated, "the other side went silent")
        .at(shown(url))
        .expected(format!("bytes within {} s", limit.as_secs_f32()))
        .found(format!("silence after {done} bytes"));
    Fault::Silence(err)
}

/// The whole of it took longer than `limit`.
pub(super) fn too_long(what: &str, url: &Url, limit: Duration) -> Fault {
    let err = Error::new(Reason::TimedOut, format!("the {what} took too long"))
        .at(shown(url))
        .expected(format!("an end within {} s", limit.as_secs()));
    Fault::Lasting(err)
}

/// The body ended after `done` bytes and before its end.
pub(super) fn cut_off(url: &Url, total: Option<u64>, done: u64, err: reqwest::Error) -> Fault {
    let err = Error::new(Reason::Truncated, "the answer ended early")
        .at(shown(url))
        .expected(total.map_or("a whole body".into(), |total| format!("{total} bytes")))
        .found(format!("{done} bytes"))
        .caused_by(err.without_url());
    Fault::Passing(err, Duration::ZERO)
}

/// An address as it may be printed: without user, password and query, which can be credentials.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // A scheme without a host refuses these; then there is nothing to hide.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Whom an address asks, for people.
pub(super) fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("the server")
}

pub(super) fn redirect(
    from: &Url,
    first: &Url,
    headers: &HeaderMap,
    hosts: &[&str],
    anywhere: bool,
) -> Result<Url, Fault> {
    let fail = |what: &str, to: &str| {
        let err = Error::new(Reason::RedirectRefused, what).at(shown(from)).found(to.to_owned());
        Fault::Lasting(err.hint("name the final address, or a mirror that answers itself"))
    };
    let target = headers.get(LOCATION).and_then(|v| v.to_str().ok());
    let target = target.ok_or_else(|| fail("a redirect without a target", "no Location"))?;
    let to = from.join(target).map_err(|_| fail("a redirect to no address", target))?;
    let downgrade = from.scheme() == "https" && to.scheme() != "https";
    let known = (anywhere && to.scheme() == "https")
        || to.origin() == first.origin()
        || to.host_str().is_some_and(|h| hosts.contains(&h));
    if downgrade || !known || !matches!(to.scheme(), "http" | "https") {
        return Err(fail("redirected to another host", &shown(&to)));
    }
    Ok(to)
}

pub(super) fn refused(url: &Url, status: StatusCode, headers: &HeaderMap) -> Fault {
    let err = Error::new(Reason::HttpStatus, "the server answered with an error")
        .at(shown(url))
        .expected("200")
        .found(status.to_string());
    let seconds = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            // A server may ask for hours; then failing now is kinder.
            Fault::Passing(err, Duration::from_secs(seconds.unwrap_or(0).min(20)))
        }
        s if s.is_server_error() => Fault::Passing(err, Duration::ZERO),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Fault::Lasting(
            err.hint("the server wants credentials, or an address on its allow list"),
        ),
        _ => Fault::Lasting(err),
    }
}

pub(super) fn transport_fault(url: &Url, err: reqwest::Error) -> Fault {
    let bad_certificate = caused_by_tls(&err);
    let (connecting, silent) = (err.is_connect() || err.is_timeout(), err.is_timeout());
    let error = Error::new(
        Reason::Unreachable,
        if connecting { "cannot reach the server" } else { "the server ended the connection" },
    )
    .at(shown(url))
    .caused_by(err.without_url());
    if bad_certificate {
        return Fault::Lasting(
            error.hint("name your CA file in SSL_CERT_FILE, NODE_EXTRA_CA_CERTS or npm's cafile"),
        );
    }
    let error = error.hint(
        "check the connection and HTTPS_PROXY, or name a local mirror in admit.toml or ADMIT_MIRROR",
    );
    if silent { Fault::Silence(error) } else { Fault::Passing(error, Duration::ZERO) }
}

pub(super) fn too_large(url: &Url, max: u64) -> Error {
    Error::new(Reason::LimitHit, "the answer is larger than any honest one")
        .at(shown(url))
        .expected(format!("at most {max} bytes"))
}

pub(super) fn sink_error(url: &Url, err: io::Error) -> Error {
    match err.downcast::<Error>() {
        Ok(own) => own,
        Err(err) => Error::io("store the download", shown(url), err),
    }
}
