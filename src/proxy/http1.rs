//! HTTP/1.1 heads and body framing, read strictly (RFC 9110, RFC 9112). Pure: bytes in, values out.
//!
//! Our own and not a crate, because the strictness is the point: a server library accepts what two readers may read
//! differently (bare LF, white space before the colon, a repeated `Content-Length`, chunk extensions), and the
//! proxy exists to refuse exactly that.

use crate::record::wire::RequestRefusal;

/// Longest head in bytes, request or reply.
pub const MAX_HEAD: usize = 32 * 1024;
/// Most header fields in one head.
const MAX_FIELDS: usize = 100;

/// A refused request: the reason and words that quote nothing but names.
pub type Refusal = (RequestRefusal, String);

/// The head of a request that may be served.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, as sent.
    pub method: String,
    /// The target, as sent.
    pub target: String,
    pub key: Option<Vec<u8>>,
    /// Header fields that are none of the connection's, the framing's or the key's; names in lower case.
    pub others: Vec<(String, String)>,
    pub body: Body,
    /// Media type without parameters, lower case.
    pub content_type: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyHead {
    pub status: u16,
    /// Media type without parameters, lower case.
    pub content_type: Option<String>,
    /// Content coding, lower case.
    pub content_encoding: Option<String>,
    pub body: Body,
}

/// How a body is framed, and how far it has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// This many bytes are still to come.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked(Chunked),
    /// Until the connection ends (replies only).
    UntilClose,
}

impl Body {
    /// Takes raw bytes and appends the body's bytes to `out`. `Err` where the framing is broken or bytes follow the
    /// end.
    pub fn feed(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Body::Length(left) => {
                if raw.len() as u64 > *left {
                    return Err("bytes after the body".into());
                }
                *left -= raw.len() as u64;
                out.extend_from_slice(raw);
                Ok(())
            }
            Body::Chunked(chunked) => chunked.feed(raw, out),
            Body::UntilClose => {
                out.extend_from_slice(raw);
                Ok(())
            }
        }
    }

    /// Whether nothing of the body itself may come any more.
    pub fn is_ending(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunked) => {
                matches!(chunked.state, ChunkState::LastCr | ChunkState::LastLf | ChunkState::End)
            }
            Body::UntilClose => false,
        }
    }

    /// Whether all has come; `eof` says that the other side ended the connection without an error.
    pub fn is_whole(&self, eof: bool) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunked) => chunked.state == ChunkState::End,
            Body::UntilClose => eof,
        }
    }
}

/// Decoder of the chunked transfer coding: lower- or upper-case hex size of at most 8 digits, CRLF, no extension, no
/// trailer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunked {
    state: ChunkState,
    size: u64,
    digits: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    LastCr,
    LastLf,
    End,
}

impl Chunked {
    fn feed(&mut self, mut raw: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        use ChunkState::*;
        while let Some(&byte) = raw.first() {
            if self.state == Data {
                let take = usize::try_from(self.size).unwrap_or(usize::MAX).min(raw.len());
                out.extend_from_slice(&raw[..take]);
                self.size -= take as u64;
                raw = &raw[take..];
                if self.size == 0 {
                    self.state = DataCr;
                }
                continue;
            }
            raw = &raw[1..];
            self.state = match (self.state, byte) {
                (Size, b'\r') if self.digits > 0 => SizeLf,
                (Size, _) if byte.is_ascii_hexdigit() && self.digits < 8 => {
                    let digit = char::from(byte).to_digit(16).unwrap_or(0);
                    self.size = self.size * 16 + u64::from(digit);
                    self.digits += 1;
                    Size
                }
                (SizeLf, b'\n') => {
                    self.digits = 0;
                    if self.size == 0 { LastCr } else { Data }
                }
                (DataCr, b'\r') => DataLf,
                (DataLf, b'\n') => Size,
                (LastCr, b'\r') => LastLf,
                (LastLf, b'\n') => End,
                (End, _) => return Err("bytes after the last chunk".into()),
                _ => return Err("bad chunk framing".into()),
            };
        }
        Ok(())
    }
}

/// Where the head in `buf` ends (after its empty line), if it is there.
pub fn head_end(buf: &[u8]) -> Option<usize> {
    buf.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

/// One header field: name in lower case, value without surrounding white space.
struct Field {
    name: String,
    value: String,
}

fn split(head: &[u8]) -> Result<(&str, Vec<Field>), String> {
    let text = std::str::from_utf8(head).map_err(|_| "the head is not ASCII")?;
    let text = text.strip_suffix("\r\n\r\n").ok_or("the head has no end")?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    if !first.bytes().all(|b| matches!(b, 0x20..=0x7e)) {
        return Err("a control or non-ASCII byte in the first line".into());
    }
    let mut fields = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            return Err("a folded header line".into());
        }
        let (name, value) = line.split_once(':').ok_or("a header line without a colon")?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err("a header name that is no token".into());
        }
        if !value.bytes().all(|b| b == b'\t' || matches!(b, 0x20..=0x7e)) {
            return Err("a control or non-ASCII byte in a header value".into());
        }
        if fields.len() == MAX_FIELDS {
            return Err("too many header lines".into());
        }
        fields.push(Field { name: name.to_ascii_lowercase(), value: value.trim().to_owned() });
    }
    Ok((first, fields))
}

/// RFC 9110 section 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Header fields in which clients show a key as it is; beside them stands the bearer token.
pub const KEYS: [&str; 2] = ["x-api-key", "api-key"];
/// Header fields by which a client would bring credentials or an account of its own.
const CREDENTIALS: &[&str] = &[
    "cookie",
    "proxy-authorization",
    "openai-organization",
    "openai-project",
    "x-goog-api-key",
    "x-amz-security-token",
    "x-auth-token",
];
/// Header fields that ask for a change of protocol or of the hop, or that other readers use to find the target.
const SWITCHES: &[&str] = &[
    "expect",
    "upgrade",
    "http2-settings",
    "trailer",
    "te",
    "proxy-connection",
    "x-http-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Reads a request's head. The key may be a bearer token or stand in one of [`KEYS`]; where it stands in several, as some
/// clients send it, all must be the same.
pub fn parse_request(head: &[u8]) -> Result<RequestHead, Refusal> {
    let bad = |what: &str| (RequestRefusal::BadHttp, what.to_owned());
    let (first, fields) = split(head).map_err(|what| (RequestRefusal::BadHttp, what))?;
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad("the request line is not METHOD TARGET HTTP/1.1"));
    };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(bad("the method is no token"));
    }
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), Vec::new());
    let (mut keys, mut content_type, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for Field { name, value } in &fields {
        match name.as_str() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value.as_str()),
            "transfer-encoding" => codings.push(value.as_str()),
            "authorization" => {
                let token = value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer "));
                let what = "an Authorization other than Bearer";
                let token = token.ok_or((RequestRefusal::ClientCredentials, what.to_owned()))?;
                keys.push((name, token));
            }
            _ if KEYS.contains(&name.as_str()) => keys.push((name, value.as_str())),
            "content-type" => content_type.push(value.as_str()),
            "content-encoding" => {
                return Err((RequestRefusal::BadEncoding, "a content coding".into()));
            }
            "connection" => {
                for option in value.split(',').map(str::trim) {
                    if !option.eq_ignore_ascii_case("close")
                        && !option.eq_ignore_ascii_case("keep-alive")
                    {
                        let what = "a Connection option other than close and keep-alive";
                        return Err((RequestRefusal::ProtocolSwitch, what.into()));
                    }
                }
            }
            _ if CREDENTIALS.contains(&name.as_str()) => {
                return Err((RequestRefusal::ClientCredentials, format!("the header {name}")));
            }
            _ if SWITCHES.contains(&name.as_str()) => {
                return Err((RequestRefusal::ProtocolSwitch, format!("the header {name}")));
            }
            // `Content_Length` and its like: some readers take them for the real field.
            _ if matches!(
                name.replace('_', "-").as_str(),
                "content-length" | "transfer-encoding"
            ) =>
            {
                let what = "a header that looks like a framing header";
                return Err((RequestRefusal::AmbiguousFraming, what.into()));
            }
            _ => others.push((name.clone(), value.clone())),
        }
    }
    if hosts != 1 {
        return Err(bad("not exactly one Host"));
    }
    let body = request_body(&lengths, &codings)?;
    let twice = |at: usize| keys[..at].iter().any(|(name, _)| *name == keys[at].0);
    if (0..keys.len()).any(twice) || keys.windows(2).any(|two| two[0].1 != two[1].1) {
        return Err((RequestRefusal::ClientCredentials, "more than one key".into()));
    }
    let key = keys.first().map(|(_, key)| key.as_bytes().to_vec());
    let content_type = match content_type.as_slice() {
        [] => None,
        [one] => Some(media_type(one).map_err(|what| (RequestRefusal::BadEncoding, what))?),
        _ => return Err((RequestRefusal::BadEncoding, "more than one Content-Type".into())),
    };
    Ok(RequestHead {
        method: method.to_owned(),
        target: target.to_owned(),
        key,
        others,
        body,
        content_type,
    })
}

fn request_body(lengths: &[&str], codings: &[&str]) -> Result<Body, Refusal> {
    let ambiguous = |what: &str| Err((RequestRefusal::AmbiguousFraming, what.to_owned()));
    match (lengths, codings) {
        ([], []) => Ok(Body::Length(0)),
        ([one], []) => match length(one) {
            Some(n) => Ok(Body::Length(n)),
            None => ambiguous("a Content-Length that is no plain number"),
        },
        ([], ["chunked"]) => Ok(Body::Chunked(Chunked::default())),
        ([], _) => ambiguous("a Transfer-Encoding other than one chunked"),
        (_, []) => ambiguous("more than one Content-Length"),
        _ => ambiguous("both Content-Length and Transfer-Encoding"),
    }
}

/// Digits only, no sign, no list, at most twelve of them.
fn length(text: &str) -> Option<u64> {
    let ok = (1..=12).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| text.parse().ok())?
}

/// The media type in lower case; the only parameter let through is `charset=utf-8`.
fn media_type(value: &str) -> Result<String, String> {
    let mut parts = value.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    for part in parts {
        let part = part.to_ascii_lowercase().replace('"', "");
        if part != "charset=utf-8" && part != "charset=utf8" {
            return Err("a Content-Type parameter other than charset=utf-8".into());
        }
    }
    Ok(name)
}

pub fn parse_reply(head: &[u8]) -> Result<ReplyHead, String> {
    let (first, fields) = split(head)?;
    let version = first.get(..9).unwrap_or_default();
    if version != "HTTP/1.1 " && version != "HTTP/1.0 " {
        return Err("the status line is not HTTP/1.1".into());
    }
    let code = first.get(9..12).unwrap_or_default();
    let rest = first.get(12..).unwrap_or_default();
    let status: u16 = code.parse().map_err(|_| "the status is no number")?;
    if !(100..=599).contains(&status) || !(rest.is_empty() || rest.starts_with(' ')) {
        return Err("the status line is malformed".into());
    }
    if status < 200 {
        return Err("an interim reply that was not asked for".into());
    }
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|f| f.name == name).map(|f| f.value.as_str()).collect()
    };
    let body = match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
        _ if status == 204 || status == 304 => Body::Length(0),
        ([], []) => Body::UntilClose,
        ([one], []) => Body::Length(length(one).ok_or("Content-Length is no plain number")?),
        ([], [one]) if one.eq_ignore_ascii_case("chunked") => Body::Chunked(Chunked::default()),
        _ => return Err("two ways to read where the body ends".into()),
    };
    let content_type = match values("content-type").as_slice() {
        [] => None,
        [one, ..] => one.split(';').next().map(|t| t.trim().to_ascii_lowercase()),
    };
    let content_encoding = match values("content-encoding").as_slice() {
        [] => None,
        several => Some(several.join(", ").to_ascii_lowercase()),
    };
    Ok(ReplyHead { status, content_type, content_encoding, body })
}

/// Longest wait that an agent is told to keep before it asks again. What clients take for reasonable (OpenAI's and
/// Anthropic's own for Python); others wait as long as they are told, and would sit through a run.
const LONGEST_WAIT: f64 = 60.0;

/// Whether this header line asks for a longer wait, or for one until a date.
fn asks_for_long_wait(name: &[u8], line: &[u8]) -> bool {
    let unit = match () {
        () if name.eq_ignore_ascii_case(b"retry-after") => 1.0,
        () if name.eq_ignore_ascii_case(b"retry-after-ms") => 1000.0,
        () => return false,
    };
    let value = std::str::from_utf8(line.get(name.len() + 1..).unwrap_or_default());
    let wait = value.ok().and_then(|value| value.trim().parse::<f64>().ok());
    !wait.is_some_and(|wait| (0.0..=LONGEST_WAIT * unit).contains(&wait))
}

/// The version that replies go on with.
const VERSION: &[u8] = b"HTTP/1.1";

/// The reply's head as the agent gets it: byte for byte, except that the fields which belong to one connection only
/// (`Connection`, `Keep-Alive`, RFC 9110 section 7.6.1) are ours: the proxy serves one request a connection. And a wait
/// that no run can spend is taken out, and the client told not to ask again. `frames_itself`: the reply says where its body
/// ends; one that does not goes on in chunks, which only HTTP/1.1 has.
pub fn reply_head_for_client(head: &[u8], frames_itself: bool) -> Vec<u8> {
    let body = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
    let mut out = Vec::with_capacity(head.len() + 48);
    let lines = || {
        let lines = body.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
        lines.map(|line| (line.split(|b| *b == b':').next().unwrap_or_default(), line))
    };
    let long = lines().any(|(name, line)| asks_for_long_wait(name, line));
    for (name, line) in lines() {
        let is = |names: &[&[u8]]| names.iter().any(|own| name.eq_ignore_ascii_case(own));
        let waits = is(&[b"retry-after", b"retry-after-ms", b"x-should-retry"]);
        let ours = is(&[b"connection", b"keep-alive", b"proxy-connection"]) || (long && waits);
        if !ours {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
    }
    if !frames_itself {
        // `parse_reply` has seen a version of this length.
        out.splice(..VERSION.len(), VERSION.iter().copied());
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if long {
        out.extend_from_slice(b"x-should-retry: false\r\n");
    }
    out.extend_from_slice(b"Connection: close\r\n\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<RequestHead, RequestRefusal> {
        let text = format!("{}\r\n\r\n", lines.join("\r\n"));
        parse_request(text.as_bytes()).map_err(|(reason, _)| reason)
    }

    const POST: &str = "POST /v1/chat/completions HTTP/1.1";

    #[test]
    fn a_plain_request_is_read() {
        let head = parse(&[
            POST,
            "Host: 127.0.0.1:8080",
            "Authorization: Bearer abc",
            "Content-Type: application/json; charset=\"UTF-8\"",
            "Content-Length: 12",
            "Connection: keep-alive",
            "X-Stainless-Lang: js",
        ])
        .unwrap();
        assert_eq!(head.key.as_deref(), Some(b"abc".as_slice()));
        assert_eq!(head.body, Body::Length(12));
        assert_eq!(head.content_type.as_deref(), Some("application/json"));
    }

    #[test]
    fn there_is_one_key_wherever_clients_show_it() {
        let key = |fields: &str| {
            let head = format!("{POST}\r\nHost: x\r\n{fields}\r\n\r\n");
            parse_request(head.as_bytes()).map(|head| head.key).map_err(|refusal| refusal.0)
        };
        for one in
            ["X-Api-Key: k", "Authorization: Bearer k", "Api-Key: k", "x-api-key: k\r\nApi-Key: k"]
        {
            assert_eq!(key(one), Ok(Some(b"k".to_vec())), "{one}");
        }
        for several in [
            "X-Api-Key: k\r\nAuthorization: Bearer K",
            "X-Api-Key: k\r\nX-Api-Key: k",
            "Api-Key: \r\nX-Api-Key: k",
        ] {
            assert_eq!(key(several), Err(RequestRefusal::ClientCredentials), "{several}");
        }
        assert_eq!(head_end(b"GET / HTTP/1.1\nHost: x\n\n"), None);
    }

    #[test]
    fn chunks_are_read_strictly() {
        let read = |raw: &[u8]| {
            let mut body = Body::Chunked(Chunked::default());
            let mut out = Vec::new();
            for byte in raw.chunks(1) {
                body.feed(byte, &mut out)?;
            }
            Ok::<_, String>((out, body.is_whole(true)))
        };
        assert_eq!(read(b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"), Ok((b"abcd".to_vec(), true)));
        assert_eq!(read(b"3\r\nabc\r\n"), Ok((b"abc".to_vec(), false)));
        for bad in [
            b"3;x=y\r\nabc\r\n".as_slice(),
            b"3\nabc",
            b"0x3\r\nabc",
            b" 3\r\nabc",
            b"\r\n",
            b"3\r\nabcd\r\n",
            b"123456789\r\n",
            b"-1\r\n",
            b"0\r\nTrailer: x\r\n\r\n",
            b"0\r\n\r\nGET / HTTP/1.1",
        ] {
            assert!(read(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert!(Body::Length(2).feed(b"abc", &mut Vec::new()).is_err());
    }

    #[test]
    fn reply_heads_are_read_and_made_to_close() {
        let raw = b"HTTP/1.1 200 OK\r\nServer:  x\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\ncontent-length: 3\r\n\r\n";
        assert_eq!(parse_reply(raw).unwrap().body, Body::Length(3));
        assert_eq!(
            reply_head_for_client(raw, true),
            b"HTTP/1.1 200 OK\r\nServer:  x\r\ncontent-length: 3\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            reply_head_for_client(b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\n", false),
            b"HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        let wait = |fields: &str| {
            let head = format!("HTTP/1.1 429 X\r\n{fields}\r\nServer: x\r\n\r\n");
            String::from_utf8(reply_head_for_client(head.as_bytes(), true)).unwrap()
        };
        for short in ["Retry-After: 60", "retry-after: 0.5", "Retry-After-Ms: 60000"] {
            let head =
                format!("HTTP/1.1 429 X\r\n{short}\r\nServer: x\r\nConnection: close\r\n\r\n");
            assert_eq!(wait(short), head);
        }
        for long in [
            "Retry-After: 61",
            "RETRY-AFTER:1e9",
            "Retry-After: -1",
            "Retry-After: Fri, 31 Dec 2999 23:59:59 GMT",
            "retry-after-ms: 60001",
            "Retry-After: 1\r\nretry-after-ms: 90000\r\nX-Should-Retry: true",
        ] {
            let head =
                "HTTP/1.1 429 X\r\nServer: x\r\nx-should-retry: false\r\nConnection: close\r\n\r\n";
            assert_eq!(wait(long), head, "{long}");
        }
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "garbage\r\n\r\n",
        ] {
            assert!(parse_reply(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
