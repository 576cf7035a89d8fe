//! The bridge against a loopback server that misbehaves in one way at a time, and against clients that try to get
//! more through the door than one chat completion.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admit::download::config::NetConfig;
use admit::proxy::endpoint::{Credential, Endpoint};
use admit::proxy::probe::{Probe, ProbeLimits, ProbeOutcome, probe};
use admit::proxy::request::ChatRequest;
use admit::proxy::server::{Limits, Part, Proxy, ProxyConfig, Recorder, WireEvent};
use admit::proxy::upstream::{ScriptedModel, ScriptedReply, Upstream};
use admit::record::wire::{
    ClosedBy, CutReason, Limit, ProxyRecord, ReasoningField, ReplyClass, RequestRefusal,
    UpstreamKind, WireRecord,
};
use admit::secrets::Secret;
use serde_json::json;

use crate::upstream::{Fault, MODEL, Server, TlsServer, chunk, key, nobody};

const SENTINEL: &str = "run-sentinel-4f1c";

type Written = Arc<Mutex<Vec<(u32, Part, Vec<u8>)>>>;

/// Keeps what is recorded; fails after `left` writes.
struct Memory {
    written: Written,
    left: usize,
}

impl Recorder for Memory {
    fn bytes(&mut self, exchange: u32, part: Part, _: u64, bytes: &[u8]) -> std::io::Result<()> {
        if self.left == 0 {
            return Err(std::io::Error::other("disk full"));
        }
        self.left -= 1;
        self.written.lock().unwrap().push((exchange, part, bytes.to_vec()));
        Ok(())
    }
}

/// A bridge under test.
struct Door {
    proxy: Proxy,
    addr: SocketAddr,
    written: Written,
    events: Receiver<WireEvent>,
}

/// Patient enough for a machine that does ten other things; the default waits longer than a test may.
fn quick() -> Limits {
    let wait = Duration::from_secs(20);
    Limits { silence: wait, request: wait, ..Limits::default() }
}

/// For what never goes on: the shorter, the sooner the test ends.
fn hasty() -> Limits {
    let wait = Duration::from_millis(800);
    Limits { silence: wait, request: wait, ..Limits::default() }
}

fn open(upstream: Upstream, limits: Limits, writes: usize) -> Door {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let written = Written::default();
    let (sender, events) = channel();
    let config = ProxyConfig {
        model: MODEL.into(),
        sentinel: Secret::new(SENTINEL.into()).unwrap(),
        upstream,
        limits,
        also_secret: Vec::new(),
        recorder: Box::new(Memory { written: Arc::clone(&written), left: writes }),
        events: Some(sender),
    };
    Door { proxy: Proxy::start(listener, config).unwrap(), addr, written, events }
}

fn http(addr: SocketAddr) -> Upstream {
    let url = format!("http://{addr}/v1");
    let endpoint = Endpoint::resolve(&url, "loopback-test", &NetConfig::default()).unwrap();
    let credential = Credential::from_value("KEY", key().into_bytes()).unwrap();
    Upstream::Http { endpoint, credential: Some(credential) }
}

fn request(extra: &[&str], body: &str) -> Vec<u8> {
    let mut head = vec![
        "POST /v1/chat/completions HTTP/1.1".to_owned(),
        "Host: 127.0.0.1:8080".into(),
        format!("Authorization: Bearer {SENTINEL}"),
        "Content-Type: application/json".into(),
        format!("Content-Length: {}", body.len()),
    ];
    head.extend(extra.iter().map(|line| (*line).to_owned()));
    format!("{}\r\n\r\n{body}", head.join("\r\n")).into_bytes()
}

fn body() -> String {
    json!({"model": MODEL, "stream": true, "messages": [{"role": "user", "content": "hi"}]})
        .to_string()
}

/// Sends `bytes` and reads to the end of the connection; `Err` where it was reset.
fn send(addr: SocketAddr, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut out = Vec::new();
    let clean = stream.read_to_end(&mut out).is_ok();
    (out, clean)
}

/// What came of one chat completion.
struct Outcome {
    reply: Vec<u8>,
    record: ProxyRecord,
    written: Vec<(u32, Part, Vec<u8>)>,
    requests: Vec<Vec<u8>>,
}

impl Outcome {
    fn one(&self) -> &WireRecord {
        assert_eq!(self.record.exchanges.len(), 1);
        &self.record.exchanges[0]
    }

    fn verdict(&self) -> (ReplyClass, &str) {
        let verdict = self.one().verdict.as_ref().unwrap();
        (verdict.class, verdict.detail.as_str())
    }

    fn part(&self, part: Part) -> Vec<u8> {
        self.written.iter().filter(|w| w.1 == part).flat_map(|w| w.2.clone()).collect()
    }

    /// Neither key, nor sentinel, nor endpoint anywhere in what is kept or sent.
    fn holds_no_secret(&self, server: Option<SocketAddr>) {
        let kept: Vec<u8> = self.written.iter().flat_map(|w| w.2.clone()).collect();
        let record = serde_json::to_vec(&self.record).unwrap();
        for bytes in [&kept, &record, &self.reply] {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains(&key()[..8]), "{text}");
            assert!(!text.contains(SENTINEL), "{text}");
            if let Some(addr) = server {
                assert!(!text.contains(&addr.to_string()), "{text}");
            }
        }
    }
}

fn run_with(fault: Fault, limits: Limits) -> Outcome {
    let server = Server::start(fault);
    let door = open(http(server.addr), limits, usize::MAX);
    let (reply, _) = send(door.addr, &request(&[], &body()));
    let record = door.proxy.stop().unwrap();
    let written = door.written.lock().unwrap().clone();
    let requests = server.requests.lock().unwrap().clone();
    let outcome = Outcome { reply, record, written, requests };
    outcome.holds_no_secret(Some(server.addr));
    outcome
}

fn run(fault: Fault) -> Outcome {
    run_with(fault, if matches!(fault, Fault::Hang) { hasty() } else { quick() })
}

#[test]
fn each_fault_of_the_model_has_its_class_and_detail() {
    use ReplyClass::*;
    let cases = [
        (Fault::None, OkText, "text"),
        (Fault::PlainJson, OkText, "text"),
        (Fault::OneByteWrites, OkText, "text"),
        (Fault::Gzip, OkText, "text"),
        (Fault::DelayedContent, OkText, "text"),
        (Fault::Unauthorized, AuthUnavailable, "http_401"),
        (Fault::Forbidden, AuthUnavailable, "http_403"),
        (Fault::ModelNotFound, UpstreamError, "model_not_found"),
        (Fault::TooManyRequests, UpstreamError, "http_429"),
        (Fault::ServerError, UpstreamError, "http_5xx"),
        (Fault::ErrorAfter200, UpstreamError, "error_after_200"),
        (Fault::CutStream, StreamTruncated, "cut"),
        (Fault::CutBeforeHead, StreamTruncated, "no_reply_head"),
        (Fault::BadHead, UpstreamError, "bad_reply_head"),
        (Fault::MissingDone, StreamTruncated, "missing_done"),
        (Fault::MissingFinishReason, StreamTruncated, "missing_finish_reason"),
        (Fault::Reasoning, ResponseShapeUnavailable, "reasoning_only_no_close"),
        (Fault::ReasoningContent, ResponseShapeUnavailable, "reasoning_only_no_close"),
        (Fault::ReasoningDetails, ResponseShapeUnavailable, "reasoning_only_no_close"),
        (Fault::ThinkOnly, ResponseShapeUnavailable, "reasoning_only_no_close"),
        (Fault::ReasoningOnlyJson, ResponseShapeUnavailable, "reasoning_only_length"),
        (Fault::Empty, EmptyReply, "empty"),
        (Fault::OtherModel, ModelMismatch, "other_model"),
        (Fault::BadToolArguments, MalformedToolCall, "arguments_not_json"),
        (Fault::ToolsInPieces, OkTools, "tools"),
        (Fault::ToolsInterleaved, OkTools, "tools"),
        (Fault::Hang, UpstreamError, "no_reply"),
    ];
    std::thread::scope(|scope| {
        for (fault, class, detail) in cases {
            scope.spawn(move || {
                let got = run(fault);
                assert_eq!(got.verdict(), (class, detail), "{fault:?}: {:?}", got.one());
                assert_eq!(got.one().cut, None, "{fault:?}");
                assert!(got.record.secrets_seen.is_empty(), "{fault:?}");
            });
        }
    });
}

#[test]
fn aliases_of_reasoning_are_named() {
    use ReasoningField::*;
    for (fault, field) in [
        (Fault::Reasoning, Reasoning),
        (Fault::ReasoningContent, ReasoningContent),
        (Fault::ReasoningDetails, ReasoningDetails),
        (Fault::ThinkOnly, ThinkTag),
        (Fault::ReasoningOnlyJson, Reasoning),
    ] {
        let got = run(fault);
        let facts = got.one().facts.clone().unwrap();
        assert_eq!((facts.reasoning_fields, facts.reasoning_chars), (vec![field], 2), "{fault:?}");
        assert_eq!(facts.content_chars, 0);
    }
}

#[test]
fn a_refused_connection_is_its_own_class() {
    let addr = nobody();
    let door = open(http(addr), quick(), usize::MAX);
    let (reply, _) = send(door.addr, &request(&[], &body()));
    assert!(reply.starts_with(b"HTTP/1.1 502 "));
    let record = door.proxy.stop().unwrap();
    let written = door.written.lock().unwrap().clone();
    let got = Outcome { reply, record, written, requests: Vec::new() };
    got.holds_no_secret(Some(addr));
    assert_eq!(got.verdict(), (ReplyClass::ConnectionRefused, "refused"));
}

#[test]
fn replies_pass_byte_for_byte_and_are_kept_as_received() {
    for fault in [Fault::None, Fault::Gzip, Fault::OneByteWrites, Fault::ToolsInterleaved] {
        let server = Server::start(fault);
        let mut direct = TcpStream::connect(server.addr).unwrap();
        direct.write_all(&request(&[], &body())).unwrap();
        let mut want = Vec::new();
        direct.read_to_end(&mut want).unwrap();
        drop(server);
        let got = run(fault);
        assert_eq!(got.part(Part::Reply), want, "{fault:?}");
        let split = |bytes: &[u8]| {
            let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
            (String::from_utf8(bytes[..end].to_vec()).unwrap(), bytes[end..].to_vec())
        };
        let (head, body) = split(&got.reply);
        let (want_head, want_body) = split(&want);
        assert_eq!(body, want_body, "{fault:?}");
        assert_eq!(head, format!("{want_head}\r\nConnection: close"), "{fault:?}");
        assert_eq!(got.record.reply_bytes, got.reply.len() as u64);
    }
}

#[test]
fn the_request_goes_on_written_anew_with_the_real_key() {
    let got = run(Fault::None);
    let sent = String::from_utf8(got.requests[0].clone()).unwrap();
    assert!(sent.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains(&format!("\r\nAuthorization: Bearer {}\r\n", key())));
    assert!(!sent.contains(SENTINEL) && !sent.contains("8080"));
    let received = String::from_utf8(got.part(Part::Received)).unwrap();
    assert!(received.contains("Authorization: [withheld]\r\n"), "{received}");
    let forwarded = String::from_utf8(got.part(Part::Forwarded)).unwrap();
    assert!(forwarded.starts_with("POST [base]/chat/completions HTTP/1.1\r\nHost: [endpoint]\r\n"));
    assert!(forwarded.contains("Authorization: Bearer [withheld]\r\n"));
    let (_, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(forwarded.ends_with(body));
    let one = got.one();
    assert_eq!(one.forwarded_sha256, Some(admit::record::ids::Digest::sha256(body.as_bytes())));
    assert!(one.stream && one.messages == 1);
    let facts = one.facts.as_ref().unwrap();
    assert!(facts.saw_done && facts.body_whole && facts.first_byte_ns.is_some());
    assert_eq!(
        (facts.closed_by, facts.usage.unwrap().total_tokens),
        (Some(ClosedBy::Upstream), 15)
    );
    assert_eq!((got.record.tokens, got.record.upstream), (15, UpstreamKind::Http));
    assert_eq!(got.record.network_class.as_deref(), Some("loopback-test"));
    assert_eq!(got.part(Part::Content), b"hello");
}

#[test]
fn a_result_envelope_is_found_on_the_wire() {
    let got = run(Fault::Envelope);
    let envelope = got.one().agent_result.as_ref().unwrap();
    assert!(envelope.complete && envelope.start == 6);
    assert_eq!(run(Fault::None).one().agent_result, None);
}

#[test]
fn an_echoed_key_or_address_is_cut_before_it_gets_through() {
    for (fault, id) in [
        (Fault::EchoKeyInTwoWrites, "model_key"),
        (Fault::EchoKeyInTwoFrames, "model_key"),
        (Fault::EchoEndpoint, "endpoint_"),
    ] {
        let got = run(fault);
        let cut = got.one().cut.as_ref().unwrap();
        assert_eq!(cut.reason, CutReason::Secret, "{fault:?}");
        assert!(cut.what.starts_with(id), "{fault:?}: {}", cut.what);
        assert_eq!(got.verdict().0, ReplyClass::CutByAdmit);
        assert_eq!(got.record.secrets_seen.len(), 1);
        assert!(!got.reply.ends_with(b"0\r\n\r\n"), "the agent must see that it was cut");
        assert!(got.part(Part::Content).is_empty());
    }
}

#[test]
fn what_cannot_be_looked_through_or_leads_elsewhere_is_cut() {
    let got = run(Fault::UnknownCoding);
    assert_eq!(got.one().cut.as_ref().unwrap().reason, CutReason::NotReadable);
    assert!(got.reply.starts_with(b"HTTP/1.1 502 "));
    let got = run(Fault::Redirect);
    assert_eq!(got.one().cut.as_ref().unwrap().reason, CutReason::Redirect);
    assert!(got.reply.starts_with(b"HTTP/1.1 502 "));
    assert_eq!(got.requests.len(), 1, "nobody follows a redirect");
}

#[test]
fn limits_cut_or_refuse() {
    let got = run_with(Fault::Huge, Limits { reply_bytes: 300_000, ..quick() });
    assert_eq!(got.one().cut.as_ref().unwrap().reason, CutReason::LimitHit);
    assert_eq!(got.record.limit_hit, Some(Limit::ReplyBytes));
    assert!(got.record.reply_bytes <= 300_000);

    let got = run_with(Fault::HangMidway, hasty());
    assert_eq!(got.one().cut.as_ref().unwrap().what, "silence");
    let endless = Limits { reply: Duration::from_millis(200), reply_bytes: u64::MAX, ..quick() };
    let got = run_with(Fault::Huge, endless);
    assert_eq!(got.record.limit_hit, Some(Limit::ReplyTime));

    let server = Server::start(Fault::None);
    for (limits, want, after) in [
        (Limits { requests: 1, ..quick() }, Limit::Requests, 1),
        (Limits { tokens: 15, ..quick() }, Limit::Tokens, 1),
        (Limits { request_bytes: 10, ..quick() }, Limit::RequestBytes, 1),
        (Limits { wall: Duration::ZERO, ..quick() }, Limit::Wall, 0),
    ] {
        let door = open(http(server.addr), limits, usize::MAX);
        for n in 0..=after {
            let (reply, _) = send(door.addr, &request(&[], &body()));
            let status: &[u8] = if n < after { b"HTTP/1.1 200 " } else { b"HTTP/1.1 403 " };
            assert!(reply.starts_with(status), "{want:?} {n}");
        }
        let record = door.proxy.stop().unwrap();
        assert_eq!(record.limit_hit, Some(want));
        assert_eq!(record.exchanges.last().unwrap().refused, Some(RequestRefusal::LimitHit));
    }
    let door = open(http(server.addr), Limits { request_size: 20, ..quick() }, usize::MAX);
    send(door.addr, &request(&[], &body()));
    let record = door.proxy.stop().unwrap();
    assert_eq!(record.exchanges[0].refused, Some(RequestRefusal::TooLarge));
}

#[test]
fn without_a_record_nothing_goes_on() {
    let server = Server::start(Fault::None);
    for writes in 0..3 {
        let door = open(http(server.addr), quick(), writes);
        let (reply, _) = send(door.addr, &request(&[], &body()));
        let record = door.proxy.stop().unwrap();
        assert_eq!(record.recorder_failure.as_deref(), Some("disk full"));
        assert!(!reply.windows(5).any(|w| w == b"hello"), "{writes}");
        let one = &record.exchanges[0];
        if writes < 2 {
            assert_eq!(one.refused, Some(RequestRefusal::RecorderFailed));
        } else {
            assert_eq!(one.cut.as_ref().unwrap().reason, CutReason::RecorderFailed);
        }
    }
    assert_eq!(server.requests.lock().unwrap().len(), 1);
}

#[test]
fn smuggling_and_foreign_requests_never_reach_the_model() {
    use RequestRefusal::*;
    let good = body();
    let replace = |from: &str, to: &str| {
        String::from_utf8(request(&[], &good)).unwrap().replacen(from, to, 1).into_bytes()
    };
    let chunked = |tail: &str| {
        let head = String::from_utf8(request(&[], "")).unwrap();
        let head = head.replace("Content-Length: 0", "Transfer-Encoding: chunked");
        format!("{head}{tail}").into_bytes()
    };
    let with_body = |body: &str| request(&[], body);
    let length = format!("Content-Length: {}", good.len());
    let mut pipelined = request(&[], &good);
    pipelined.extend_from_slice(b"GET /v1/models HTTP/1.1\r\n\r\n");
    let cases: Vec<(&str, Vec<u8>, RequestRefusal)> = vec![
        ("length and chunked", request(&["Transfer-Encoding: chunked"], &good), AmbiguousFraming),
        ("two lengths", request(&[&length], &good), AmbiguousFraming),
        ("two lengths, different", request(&["Content-Length: 3"], &good), AmbiguousFraming),
        ("signed length", replace("Content-Length: ", "Content-Length: +"), AmbiguousFraming),
        ("coding list", replace(&length, "Transfer-Encoding: gzip, chunked"), AmbiguousFraming),
        ("folded line", request(&["X-A: b", "\tc"], &good), BadHttp),
        ("space before colon", replace("Host:", "Host :"), BadHttp),
        ("bare line feed", request(&["X-A: b\nContent-Length: 1"], &good), BadHttp),
        ("chunk extension", chunked("2;a=b\r\n{}\r\n0\r\n\r\n"), AmbiguousFraming),
        ("chunk size lie", chunked("2\r\n{}}\r\n0\r\n\r\n"), AmbiguousFraming),
        ("chunk trailer", chunked("2\r\n{}\r\n0\r\nX-A: b\r\n\r\n"), AmbiguousFraming),
        (
            "bytes after the chunks",
            chunked("2\r\n{}\r\n0\r\n\r\nGET / HTTP/1.1\r\n"),
            AmbiguousFraming,
        ),
        ("pipelined request", pipelined, AmbiguousFraming),
        ("http/1.0", replace("HTTP/1.1", "HTTP/1.0"), BadHttp),
        ("absolute target", replace("/v1/chat", "http://x/v1/chat"), NotServed),
        ("query", replace("completions HTTP", "completions?x=1 HTTP"), NotServed),
        ("dotted path", replace("/v1/chat", "/v1/./chat"), NotServed),
        ("another path", replace("chat/completions", "embeddings"), NotServed),
        ("another method", replace("POST", "PUT"), NotServed),
        ("expect", request(&["Expect: 100-continue"], &good), ProtocolSwitch),
        ("upgrade", request(&["Connection: upgrade", "Upgrade: h2c"], &good), ProtocolSwitch),
        ("cookie", request(&["Cookie: a=b"], &good), ClientCredentials),
        ("own key", request(&["X-Api-Key: mine"], &good), ClientCredentials),
        (
            "two bearers",
            request(&[&format!("Authorization: Bearer {SENTINEL}")], &good),
            ClientCredentials,
        ),
        ("wrong sentinel", replace(SENTINEL, "run-sentinel-4f1d"), BadSentinel),
        ("no sentinel", replace(&format!("Authorization: Bearer {SENTINEL}\r\n"), ""), BadSentinel),
        ("not json", replace("application/json", "text/plain"), BadEncoding),
        ("utf-16", replace("application/json", "application/json; charset=utf-16"), BadEncoding),
        ("compressed", request(&["Content-Encoding: gzip"], &good), BadEncoding),
        ("duplicate key", with_body(&good.replace("{\"me", "{\"model\":\"x\",\"me")), BadJson),
        ("two values", with_body(&format!("{good}{good}")), BadJson),
        (
            "unknown key",
            with_body(&good.replace("\"stream\"", "\"web_search_options\"")),
            UnknownKey,
        ),
        ("another model", with_body(&good.replace(MODEL, "bigger-model")), OtherModel),
        ("the key itself", with_body(&good.replace("hi", &key())), SecretInRequest),
        ("the key in a header", request(&[&format!("X-Note: {}", key())], &good), SecretInRequest),
        ("half a request", request(&[], &good)[..60].to_vec(), Slow),
    ];
    let server = Server::start(Fault::None);
    // One of them never ends.
    let limits = Limits { request: Duration::from_secs(3), ..quick() };
    let door = open(http(server.addr), limits, usize::MAX);
    for (name, bytes, _) in &cases {
        let (reply, _) = send(door.addr, bytes);
        assert!(reply.starts_with(b"HTTP/1.1 4"), "{name}: {}", String::from_utf8_lossy(&reply));
    }
    // The same door still serves an honest request, chunked or not.
    let chunked = chunked(&format!("{:x}\r\n{good}\r\n0\r\n\r\n", good.len()));
    assert!(send(door.addr, &chunked).0.starts_with(b"HTTP/1.1 200 "));
    let record = door.proxy.stop().unwrap();
    for ((name, _, want), one) in cases.iter().zip(&record.exchanges) {
        assert_eq!(one.refused, Some(*want), "{name}: {one:?}");
        assert_eq!(one.facts, None, "{name}");
    }
    assert_eq!(server.requests.lock().unwrap().len(), 1, "only the honest one");
    assert_eq!(record.secrets_seen, ["model_key"]);
    let written = door.written.lock().unwrap().clone();
    Outcome { reply: Vec::new(), record, written, requests: Vec::new() }.holds_no_secret(None);
}

#[test]
fn the_model_list_passes_and_silent_connections_are_counted() {
    let server = Server::start(Fault::None);
    let door = open(http(server.addr), quick(), usize::MAX);
    drop(TcpStream::connect(door.addr).unwrap());
    let get =
        format!("GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SENTINEL}\r\n\r\n");
    let (reply, _) = send(door.addr, get.as_bytes());
    assert!(String::from_utf8(reply).unwrap().contains(MODEL));
    let record = door.proxy.stop().unwrap();
    assert_eq!(record.silent_connections, 1);
    assert_eq!(record.exchanges[0].verdict, None);
}

#[test]
fn a_client_that_hangs_up_is_told_apart_and_the_stop_ends_what_is_under_way() {
    let server = Server::start(Fault::HangMidway);
    let door = open(http(server.addr), Limits::default(), usize::MAX);
    let mut client = TcpStream::connect(door.addr).unwrap();
    client.write_all(&request(&[], &body())).unwrap();
    let bytes = |event: WireEvent| matches!(event, WireEvent::Bytes { .. });
    while !bytes(door.events.recv_timeout(Duration::from_secs(10)).unwrap()) {}
    drop(client);
    let ended = |event: WireEvent| matches!(event, WireEvent::End { .. });
    while !ended(door.events.recv_timeout(Duration::from_secs(10)).unwrap()) {}
    let mut second = TcpStream::connect(door.addr).unwrap();
    second.write_all(&request(&[], &body())).unwrap();
    while !bytes(door.events.recv_timeout(Duration::from_secs(10)).unwrap()) {}
    let record = door.proxy.stop().unwrap();
    let classes: Vec<_> =
        record.exchanges.iter().map(|e| e.verdict.as_ref().unwrap().class).collect();
    assert_eq!(classes, [ReplyClass::ClientClosed, ReplyClass::CutByAdmit]);
    assert_eq!(record.exchanges[1].cut.as_ref().unwrap().reason, CutReason::Stopped);
}

/// Answers with the number of the exchange.
struct Script;

impl ScriptedModel for Script {
    fn reply(&mut self, exchange: u32, request: &ChatRequest) -> ScriptedReply {
        let text = format!("{exchange} of {}", request.messages);
        ScriptedReply::stream([
            chunk(json!({"content": text}), None),
            chunk(json!({}), Some("stop")),
        ])
    }
}

#[test]
fn a_scripted_model_goes_the_same_way() {
    let door = open(Upstream::local(Script), quick(), usize::MAX);
    for n in 1..=3 {
        let (reply, clean) = send(door.addr, &request(&[], &body()));
        assert!(clean && String::from_utf8(reply).unwrap().contains(&format!("{n} of 1")));
    }
    let record = door.proxy.stop().unwrap();
    assert_eq!((record.upstream, record.network_class), (UpstreamKind::Scripted, None));
    assert_eq!(record.exchanges.len(), 3);
    assert_eq!(record.replies_without_usage, 3);
    assert!(
        record.exchanges.iter().all(|e| e.verdict.as_ref().unwrap().class == ReplyClass::OkText)
    );
}

fn probed(fault: Fault) -> Probe {
    let server = Server::start(fault);
    let patience = Duration::from_millis(if fault == Fault::Hang { 800 } else { 20_000 });
    let limits = ProbeLimits { reply: patience, ..ProbeLimits::default() };
    let got = probe(&http(server.addr), MODEL, limits).unwrap();
    let text = serde_json::to_string(&got).unwrap();
    assert!(!text.contains(&key()) && !text.contains(&server.addr.to_string()), "{text}");
    for request in server.requests.lock().unwrap().iter().filter(|r| r.starts_with(b"POST")) {
        assert!(String::from_utf8_lossy(request).contains("\"max_tokens\":1024"));
    }
    got
}

#[test]
fn the_probe_wants_the_model_listed_and_an_answer_of_use() {
    use ProbeOutcome::*;
    for (fault, outcome, detail) in [
        (Fault::None, Ready, Some("text")),
        (Fault::PlainJson, Ready, Some("text")),
        (Fault::DelayedContent, Ready, Some("text")),
        (Fault::ToolsInPieces, Ready, Some("tools")),
        (Fault::Lists("other"), ModelNotListed, None),
        (Fault::Reasoning, ReplyUnusable, Some("reasoning_only_no_close")),
        (Fault::ReasoningOnlyJson, ReplyUnusable, Some("reasoning_only_length")),
        (Fault::ThinkOnly, ReplyUnusable, Some("reasoning_only_no_close")),
        (Fault::Unauthorized, ReplyUnusable, Some("http_401")),
        (Fault::OtherModel, ReplyUnusable, Some("other_model")),
        (Fault::MissingDone, ReplyUnusable, Some("missing_done")),
        (Fault::Hang, ReplyUnusable, Some("no_reply")),
        (Fault::Redirect, ReplyUnusable, Some("redirect")),
        (Fault::EchoKeyInTwoWrites, ReplyUnusable, Some("cut_by_admit")),
    ] {
        let got = probed(fault);
        assert_eq!(got.outcome, outcome, "{fault:?}: {got:?}");
        assert_eq!(got.verdict.as_ref().map(|v| v.detail.as_str()), detail, "{fault:?}");
        let shape = got.verdict.is_some_and(|v| v.class == ReplyClass::ResponseShapeUnavailable);
        assert_eq!(shape, detail.is_some_and(|d| d.starts_with("reasoning_only")), "{fault:?}");
    }
    assert_eq!(probed(Fault::EchoKeyInTwoFrames).secret_seen.as_deref(), Some("model_key"));
    let got = probe(&http(nobody()), MODEL, ProbeLimits::default()).unwrap();
    assert_eq!(got.outcome, ListUnavailable);
    assert_eq!(got.verdict.unwrap().class, ReplyClass::ConnectionRefused);
    assert!(probe(&Upstream::local(Script), MODEL, ProbeLimits::default()).unwrap().is_ready());
}

#[test]
fn tls_is_checked_before_the_key_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    for trusted in [true, false] {
        let server = TlsServer::start();
        let shown = match trusted {
            true => server.certificate.clone(),
            // Another certificate for the same address.
            false => {
                rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem()
            }
        };
        let file = dir.path().join(format!("{trusted}.pem"));
        std::fs::write(&file, shown).unwrap();
        let net = NetConfig { ca_roots: Some(file), ..NetConfig::default() };
        let url = format!("https://{}/v1", server.addr);
        let endpoint = Endpoint::resolve(&url, "loopback-test", &net).unwrap();
        let credential = Some(Credential::from_value("KEY", key().into_bytes()).unwrap());
        let door = open(Upstream::Http { endpoint, credential }, quick(), usize::MAX);
        send(door.addr, &request(&[], &body()));
        let record = door.proxy.stop().unwrap();
        let request = server.thread.join().unwrap();
        let verdict = record.exchanges[0].verdict.clone().unwrap();
        assert!(record.tls);
        if trusted {
            assert_eq!(verdict.class, ReplyClass::OkText);
            assert!(String::from_utf8(request.unwrap()).unwrap().contains(&key()));
        } else {
            assert_eq!(
                (verdict.class, verdict.detail.as_str()),
                (ReplyClass::UpstreamError, "tls")
            );
            assert_eq!(request, None);
        }
    }
}
