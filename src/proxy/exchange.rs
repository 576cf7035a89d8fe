//! One connection of the agent: its request in, checked, on to the model, and the reply back.

use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::answer::{READ, answer, tell_client};
use super::api::{ForwardedRequest, WireApi, passed_headers, read_request};
use super::http1::{Body, KEYS, Refusal, RequestHead, parse_request};
use super::request::{read_body, read_head};
use super::state::{Held, MOST_HELD, Part, Shared, WireEvent};
use super::upstream::Ask;
use crate::record::ids::Digest;
use crate::record::wire::{ExchangeKind, Limit, RequestRefusal, WireRecord};
use crate::secrets::{Rules, look};

pub(super) async fn serve(
    mut client: TcpStream,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let _ = client.set_nodelay(true);
    let mut buf = Vec::with_capacity(READ);
    let first = tokio::select! {
        _ = stop.changed() => return,
        // A client may open a connection ahead of its need; it has this long to use it.
        _ = tokio::time::sleep(shared.limits.silence) => Ok(0),
        got = client.read_buf(&mut buf) => got,
    };
    if !matches!(first, Ok(n) if n > 0) {
        shared.state().record.silent_connections += 1;
        return;
    }
    let mut record = begin(&shared);
    let mut held = Held::new(&shared);
    let done = tokio::select! {
        _ = stop.changed() => Err((RequestRefusal::Slow, "the run ended".to_owned())),
        got = tokio::time::timeout(shared.limits.request, receive(&mut client, &mut buf, &mut held, &mut record)) => {
            got.unwrap_or_else(|_| Err((RequestRefusal::Slow, "the request did not arrive in time".into())))
        }
    };
    match done {
        Ok(ask) => match forward(&ask, &shared, &mut record) {
            Err(refusal) => refuse(&mut client, &shared, &mut record, refusal).await,
            Ok(()) => answer(&mut client, &shared, &mut record, &ask, &mut stop).await,
        },
        Err(refusal) => refuse(&mut client, &shared, &mut record, refusal).await,
    }
    record.ended_ns = shared.now_ns();
    shared.state().close(record);
}

fn begin(shared: &Shared) -> WireRecord {
    let started_ns = shared.now_ns();
    let mut state = shared.state();
    let exchange = state.next;
    state.next += 1;
    WireRecord { exchange, started_ns, ended_ns: started_ns, ..WireRecord::default() }
}

async fn receive(
    client: &mut TcpStream,
    buf: &mut Vec<u8>,
    held: &mut Held<'_>,
    record: &mut WireRecord,
) -> Result<Ask, Refusal> {
    let shared = held.shared;
    // Before anything else: what is refused for whatever reason is counted, recorded and told, and takes memory for it.
    if record.exchange > shared.limits.requests {
        return Err(over(shared, Limit::Requests));
    }
    let api = shared.upstream.api();
    let end = read_head(client, buf).await?;
    let head = parse_request(&buf[..end])?;
    if head.method == "CONNECT" {
        let what = "no tunnel: the proxy is the model itself and leads nowhere else";
        return Err((RequestRefusal::NotServed, what.into()));
    }
    if !head.key.as_deref().is_some_and(|key| shared.shown_key.matches(key)) {
        return Err((RequestRefusal::BadSentinel, "not the key of this run".into()));
    }
    record.kind = route(api, &head)?;
    let headers = passed_headers(api, &head.others)?;
    within_limits(shared)?;
    let (rest, most) = (buf.split_off(end), shared.limits.request_size);
    let take = |more: usize| match held.take(more as u64) {
        true => Ok(()),
        false => {
            let what = format!("more than {MOST_HELD} bytes of requests and replies at a time");
            Err((RequestRefusal::TooLarge, what))
        }
    };
    let body = read_body(client, rest, head.body, most, take).await?;
    record.request_bytes = body.len() as u64;
    let mut whole = std::mem::take(buf);
    whole.extend_from_slice(&body);
    if let Some(hit) = look(&whole, &shared.known, Rules::Off).first() {
        shared.state().saw_secret(&hit.id);
        return Err((RequestRefusal::SecretInRequest, format!("the request holds {}", hit.id)));
    }
    let received = withhold_key(&whole, end);
    let at_ns = shared.now_ns();
    shared
        .state()
        .write(record.exchange, Part::Received, at_ns, &received)
        .map_err(|()| recorder_failed())?;
    if record.kind == ExchangeKind::Models {
        return Ok(Ask::Models(headers));
    }
    let request = ForwardedRequest { headers, ..read_request(api, &body, &shared.model)? };
    record.stream = request.stream;
    record.messages = request.messages;
    record.tools = request.tools.clone();
    Ok(Ask::Chat(request))
}

fn recorder_failed() -> Refusal {
    (RequestRefusal::RecorderFailed, "the evidence could not be written".into())
}

fn route(api: &dyn WireApi, head: &RequestHead) -> Result<ExchangeKind, Refusal> {
    let path = api.path();
    match (head.method.as_str(), head.target.strip_prefix("/v1")) {
        ("POST", Some(asked)) if asked == path => {
            if head.content_type.as_deref() != Some("application/json") {
                let what = "a Content-Type other than application/json";
                return Err((RequestRefusal::BadEncoding, what.into()));
            }
            Ok(ExchangeKind::Chat)
        }
        ("GET", Some("/models")) if head.body == Body::Length(0) && api.list().is_some() => {
            Ok(ExchangeKind::Models)
        }
        _ => {
            let list = if api.list().is_some() { " and GET /v1/models are" } else { " is" };
            let what = format!("only POST /v1{path}{list} served");
            Err((RequestRefusal::NotServed, what))
        }
    }
}

fn within_limits(shared: &Shared) -> Result<(), Refusal> {
    let limits = &shared.limits;
    let state = shared.state();
    let record = &state.record;
    let reached = [
        (record.request_bytes >= limits.request_bytes, Limit::RequestBytes),
        (record.reply_bytes >= limits.reply_bytes, Limit::ReplyBytes),
        (record.tokens >= limits.tokens, Limit::Tokens),
        (shared.started.elapsed() >= limits.wall, Limit::Wall),
    ];
    drop(state);
    let first = reached.into_iter().find(|(reached, _)| *reached);
    first.map_or(Ok(()), |(_, limit)| Err(over(shared, limit)))
}

fn over(shared: &Shared, limit: Limit) -> Refusal {
    shared.state().hit_limit(limit);
    (RequestRefusal::LimitHit, format!("the limit of the run is reached: {limit:?}"))
}

/// The request with the value of every header that carries a key replaced.
fn withhold_key(whole: &[u8], head_end: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(whole.len());
    for line in whole[..head_end].split_inclusive(|b| *b == b'\n') {
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        if KEYS
            .iter()
            .chain(&["authorization"])
            .any(|key| name.eq_ignore_ascii_case(key.as_bytes()))
        {
            out.extend_from_slice(name);
            out.extend_from_slice(b": [withheld]\r\n");
        } else {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(&whole[head_end..]);
    out
}

/// Records what is about to be passed on, and counts it.
fn forward(ask: &Ask, shared: &Shared, record: &mut WireRecord) -> Result<(), Refusal> {
    let mut bytes = ask.recorded_head(&shared.upstream);
    bytes.extend_from_slice(ask.body());
    let at_ns = shared.now_ns();
    let mut state = shared.state();
    state.write(record.exchange, Part::Forwarded, at_ns, &bytes).map_err(|()| recorder_failed())?;
    state.record.request_bytes += ask.body().len() as u64;
    state.tell(WireEvent::Request { exchange: record.exchange, at_ns });
    record.forwarded_sha256 = Some(Digest::sha256(ask.body()));
    Ok(())
}

/// Tells the agent that its request was refused, and ends the connection so that the words arrive.
async fn refuse(
    client: &mut TcpStream,
    shared: &Shared,
    record: &mut WireRecord,
    (reason, what): Refusal,
) {
    shared.state().tell(WireEvent::Refused { exchange: record.exchange, reason });
    let status = match reason {
        RequestRefusal::BadSentinel => "401 Unauthorized",
        RequestRefusal::NotServed => "404 Not Found",
        RequestRefusal::TooLarge => "413 Content Too Large",
        RequestRefusal::Slow => "408 Request Timeout",
        // What tells clients that try a WebSocket first to ask in the ordinary way.
        RequestRefusal::ProtocolSwitch => "426 Upgrade Required",
        RequestRefusal::OtherModel | RequestRefusal::LimitHit | RequestRefusal::RecorderFailed => {
            "403 Forbidden"
        }
        _ => "400 Bad Request",
    };
    tell_client(client, shared.upstream.api(), status, false, &reason, &what).await;
    record.refused = Some(reason);
    record.refused_why = Some(what);
}
