//! The proxy against models that misbehave in one way at a time, and against clients that try to get more through it
//! than one question to the model.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admit::download::config::NetConfig;
use admit::proxy::api::WireApi;
use admit::proxy::api::chat::Chat;
use admit::proxy::endpoint::{Endpoint, ModelKey};
use admit::proxy::http1::{Body, Chunked};
use admit::proxy::probe::{Probe, ProbeLimits, ProbeOutcome, probe};
use admit::proxy::server::{Part, Proxy, ProxyConfig, ProxyLimits, Recorder, WireEvent};
use admit::proxy::upstream::Upstream;
use admit::record::network::Network;
use admit::record::wire::{
    ClosedBy, CutReason, Limit, ProxyRecord, ReasoningField, ReplyClass, RequestRefusal,
    UpstreamKind, WireRecord,
};
use admit::secrets::Secret;
use serde_json::json;

use crate::files::gzip;
use crate::loopback::Asked;
use crate::processes::wait_for;
use crate::upstream::{
    Behaviour, MODEL, Mock, MockServer, Model, key, raw, raw_tls, said, serve, stream,
};

pub const SENTINEL: &str = "run-sentinel-4f1c";

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

pub struct Running {
    pub proxy: Proxy,
    pub addr: SocketAddr,
    written: Written,
    events: Receiver<WireEvent>,
}

/// Patient enough for a machine that does ten other things; the default waits longer than a test may.
pub fn quick() -> ProxyLimits {
    let wait = Duration::from_secs(20);
    ProxyLimits { silence: wait, request: wait, ..ProxyLimits::default() }
}

/// For what never goes on: the shorter, the sooner the test ends.
pub fn hasty() -> ProxyLimits {
    let wait = Duration::from_millis(800);
    ProxyLimits { silence: wait, request: wait, ..ProxyLimits::default() }
}

pub fn open(upstream: Upstream, limits: ProxyLimits, writes: usize) -> Running {
    let written = Written::default();
    let recorder = Memory { written: Arc::clone(&written), left: writes };
    Running { written, ..open_with(upstream, limits, Box::new(recorder)) }
}

/// The same with another recorder.
pub fn open_with(upstream: Upstream, limits: ProxyLimits, recorder: Box<dyn Recorder>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, events) = channel();
    let config = ProxyConfig {
        model: MODEL.into(),
        sentinel: Secret::new(SENTINEL.into()).unwrap(),
        upstream,
        names: None,
        limits,
        recorder,
        events: Some(sender),
    };
    let proxy = Proxy::start(listener, config).unwrap();
    Running { proxy, addr, written: Written::default(), events }
}

fn http(addr: SocketAddr) -> Upstream {
    speaking(addr, &Chat)
}

/// An endpoint of this API, with a key.
pub fn speaking(addr: SocketAddr, api: &'static dyn WireApi) -> Upstream {
    at(&format!("http://{addr}/v1"), api, &NetConfig::default())
}

/// The same at this base URL, reached so.
pub fn at(url: &str, api: &'static dyn WireApi, net: &NetConfig) -> Upstream {
    let network = Network::built_in("loopback-test").unwrap();
    let endpoint = Endpoint::resolve(url, &network, net).unwrap();
    let credential = ModelKey::from_value("KEY", key().into_bytes()).unwrap();
    Upstream::Http { api, endpoint, credential: Some(credential) }
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
pub fn send(addr: SocketAddr, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut out = Vec::new();
    let clean = stream.read_to_end(&mut out).is_ok();
    (out, clean)
}

pub struct Outcome {
    pub reply: Vec<u8>,
    /// The reply's end was not one of a cut connection.
    pub clean: bool,
    pub record: ProxyRecord,
    written: Vec<(u32, Part, Vec<u8>)>,
}

impl Outcome {
    pub fn one(&self) -> &WireRecord {
        assert_eq!(self.record.exchanges.len(), 1);
        &self.record.exchanges[0]
    }

    pub fn verdict(&self) -> (ReplyClass, &str) {
        let verdict = self.one().verdict.as_ref().unwrap();
        (verdict.class, verdict.detail.as_str())
    }

    pub fn cut(&self) -> Option<CutReason> {
        self.one().cut.as_ref().map(|cut| cut.reason)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.reply).into_owned()
    }

    fn part(&self, part: Part) -> Vec<u8> {
        self.written.iter().filter(|w| w.1 == part).flat_map(|w| w.2.clone()).collect()
    }

    /// Neither key, nor sentinel, nor endpoint anywhere in what is kept or sent.
    pub fn holds_no_secret(&self, server: Option<SocketAddr>) {
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

/// What comes of these bytes at a proxy before this upstream.
pub fn asked(upstream: Upstream, limits: ProxyLimits, bytes: &[u8]) -> Outcome {
    let running = open(upstream, limits, usize::MAX);
    let (reply, clean) = send(running.addr, bytes);
    let record = running.proxy.stop().unwrap();
    let written = running.written.lock().unwrap().clone();
    Outcome { reply, clean, record, written }
}

fn run_with(model: &Model, limits: ProxyLimits) -> Outcome {
    let outcome = asked(http(model.addr()), limits, &request(&[], &body()));
    outcome.holds_no_secret(Some(model.addr()));
    outcome
}

fn run(model: impl Into<Model>) -> Outcome {
    run_with(&model.into(), quick())
}

fn packed(body: &[u8]) -> Vec<u8> {
    stream("Content-Encoding: gzip\r\n", &gzip(body))
}

fn only_reasons() -> Vec<u8> {
    let message = json!({"role": "assistant", "content": null, "reasoning": "hm"});
    let choice = json!({"index": 0, "finish_reason": "length", "message": message});
    let body = json!({"model": MODEL, "choices": [choice]}).to_string();
    // And no header says what kind of body it is.
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Those of chat completions alone, and of HTTP; `wire.rs` has what every API has.
#[test]
fn each_fault_of_the_model_has_its_class_and_detail() {
    use ReplyClass::*;
    let both = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello";
    let no_close = "reasoning_only_no_close";
    let thinks = |field| Behaviour::ReasoningOnly(field).into();
    let cases: [(Model, ReplyClass, &str); 7] = [
        (Model::raw(packed(&said("hello"))), OkText, "text"),
        (Behaviour::NoResult.into(), OkText, "text"),
        (Model::raw(b"HTTP/1.1 200 OK\r\nContent-".to_vec()), StreamTruncated, "no_reply_head"),
        (Model::raw(both.to_vec()), UpstreamError, "bad_reply_head"),
        (thinks(ReasoningField::ReasoningContent), ResponseShapeUnavailable, no_close),
        (thinks(ReasoningField::ReasoningDetails), ResponseShapeUnavailable, no_close),
        (Model::raw(only_reasons()), ResponseShapeUnavailable, "reasoning_only_length"),
    ];
    for (model, class, detail) in cases {
        let got = run(model);
        assert_eq!((got.verdict(), got.cut()), ((class, detail), None), "{:?}", got.one());
        assert!(got.record.secrets_seen.is_empty(), "{detail}");
        let answered = !detail.contains("head");
        assert_eq!(answered, !got.reply.starts_with(b"HTTP/1.1 502 "), "{detail}");
    }
}

#[test]
fn replies_pass_byte_for_byte_and_are_kept_as_received() {
    let packed = packed(&said("hello"));
    let models: [fn(&[u8]) -> Model; 4] = [
        |_| Behaviour::Plays.into(),
        |_| Behaviour::Slivers.into(),
        |_| Behaviour::ToolsInPieces.into(),
        |packed| Model::raw(packed.to_vec()),
    ];
    for model in models {
        let (want, _) = {
            let served = model(&packed);
            send(served.addr(), &request(&[], &body()))
        };
        let got = run(model(&packed));
        assert_eq!(got.part(Part::Reply), want);
        let split = |bytes: &[u8]| {
            let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
            (String::from_utf8(bytes[..end].to_vec()).unwrap(), bytes[end..].to_vec())
        };
        let (head, body) = split(&got.reply);
        let (want_head, want_body) = split(&want);
        let mut want_head = want_head.replace("\r\nConnection: close", "");
        if want_head.contains("chunked") {
            assert_eq!(body, want_body);
        } else {
            want_head += "\r\nTransfer-Encoding: chunked";
            let (mut framing, mut out) = (Body::Chunked(Chunked::default()), Vec::new());
            framing.feed(&body[4..], &mut out).unwrap();
            assert!(framing.is_whole(true));
            assert_eq!(out, want_body[4..]);
        }
        assert_eq!(head, format!("{want_head}\r\nConnection: close"));
        assert_eq!(got.record.reply_bytes, got.reply.len() as u64);
    }
}

#[test]
fn the_request_goes_on_written_anew_with_the_real_key() {
    let server = raw(|_| stream("", &said("hello")));
    let got = run_with(&Model::Raw(server.clone()), quick());
    let sent = &server.asked()[0];
    assert_eq!((&*sent.method, &*sent.target), ("POST", "/v1/chat/completions"));
    assert_eq!(sent.header("authorization"), Some(&*format!("Bearer {}", key())));
    let headers = format!("{:?}", sent.headers);
    assert!(!headers.contains(SENTINEL) && !headers.contains("8080"));
    let received = String::from_utf8(got.part(Part::Received)).unwrap();
    assert!(received.contains("Authorization: [withheld]\r\n"), "{received}");
    let forwarded = String::from_utf8(got.part(Part::Forwarded)).unwrap();
    assert!(forwarded.starts_with("POST [base]/chat/completions HTTP/1.1\r\nHost: [endpoint]\r\n"));
    assert!(forwarded.contains("Authorization: Bearer [withheld]\r\n"));
    assert!(forwarded.as_bytes().ends_with(&sent.body));
    let one = got.one();
    assert_eq!(one.forwarded_sha256, Some(admit::record::ids::Digest::sha256(&sent.body)));
    assert!(one.stream && one.messages == 1);
    let facts = one.facts.as_ref().unwrap();
    assert!(facts.saw_done && facts.body_whole && facts.first_byte_ns.is_some());
    assert_eq!((facts.closed_by, facts.usage.unwrap().total_tokens), (Some(ClosedBy::Upstream), 2));
    assert_eq!((got.record.tokens, got.record.upstream), (2, UpstreamKind::Http));
    assert_eq!(got.record.network_class.as_deref(), Some("loopback-test"));
    assert_eq!(got.part(Part::Content), b"hello");
}

#[test]
fn a_result_envelope_is_found_on_the_wire() {
    let text = "Done.\n<<<AGENT_RESULT\n{\"status\":\"completed\"}\nAGENT_RESULT>>>\n";
    let got = run(Model::raw(stream("", &said(text))));
    let envelope = got.one().agent_result.as_ref().unwrap();
    assert!(envelope.complete && envelope.start == 6);
    assert_eq!(run(Behaviour::Plays).one().agent_result, None);
}

#[test]
fn an_echoed_key_or_address_is_cut_before_it_gets_through() {
    let echo = |behaviour| {
        let mock = Mock::saying(&format!("it is {}", key()), MODEL).misbehaving(behaviour);
        Model::Mock(MockServer::start(mock).unwrap())
    };
    let (left, right) = (key()[..9].to_owned(), key()[9..].to_owned());
    let in_two = [left, right].map(|text| {
        let delta = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
        format!("data: {delta}\n\n")
    });
    let address = |asked: &Asked| {
        stream("", &said(&format!("I live at {}", asked.header("host").unwrap_or_default())))
    };
    for (model, id) in [
        (echo(Behaviour::Plays), "model_key"),
        (echo(Behaviour::Slivers), "model_key"),
        (Model::raw(stream("", in_two.concat().as_bytes())), "model_key"),
        (Model::Raw(raw(address)), "endpoint_"),
    ] {
        let got = run(model);
        assert_eq!(got.cut(), Some(CutReason::Secret));
        let cut = got.one().cut.as_ref().unwrap();
        assert!(cut.what.starts_with(id), "{id}: {}", cut.what);
        assert_eq!(got.verdict().0, ReplyClass::CutByAdmit);
        assert_eq!(got.record.secrets_seen.len(), 1);
        assert!(!got.reply.ends_with(b"0\r\n\r\n"), "the agent must see that it was cut");
        assert!(got.part(Part::Content).is_empty());
    }
}

#[test]
fn what_cannot_be_looked_through_or_leads_elsewhere_is_cut() {
    let unreadable = stream("Content-Encoding: br\r\n", b"whatever");
    for (reply, reason) in [(unreadable, CutReason::NotReadable), (redirect(), CutReason::Redirect)]
    {
        let server = raw(move |_| reply.clone());
        let got = run_with(&Model::Raw(server.clone()), quick());
        assert_eq!(got.cut(), Some(reason));
        assert!(got.reply.starts_with(b"HTTP/1.1 502 "));
        assert_eq!(server.count(), 1, "no redirect is followed");
    }
}

fn redirect() -> Vec<u8> {
    let head = "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/v1/elsewhere\r\n";
    format!("{head}Content-Length: 0\r\n\r\n").into_bytes()
}

#[test]
fn limits_cut_or_refuse() {
    let huge = |bytes: usize| {
        let events = format!(": {}\n\n", "a".repeat(4000)).repeat(bytes / 4000);
        Model::raw(stream("", events.as_bytes()))
    };
    let got = run_with(&huge(1 << 20), ProxyLimits { reply_bytes: 300_000, ..quick() });
    assert_eq!(got.cut(), Some(CutReason::LimitHit));
    assert_eq!(got.record.limit_hit, Some(Limit::ReplyBytes));
    assert!(got.record.reply_bytes <= 300_000);

    let got = run_with(&Behaviour::SilentMidway.into(), hasty());
    assert_eq!(got.one().cut.as_ref().unwrap().what, "silence");
    // Always readable: no wait for the next bytes ever ends by the clock.
    let endless = ProxyLimits { reply: Duration::from_millis(100), ..quick() };
    let got = run_with(&huge(64 << 20), endless);
    assert_eq!(got.record.limit_hit, Some(Limit::ReplyTime));

    let server = serve(Behaviour::Plays);
    for (limits, want, after) in [
        (ProxyLimits { requests: 1, ..quick() }, Limit::Requests, 1),
        (ProxyLimits { tokens: 2, ..quick() }, Limit::Tokens, 1),
        (ProxyLimits { request_bytes: 10, ..quick() }, Limit::RequestBytes, 1),
        (ProxyLimits { wall: Duration::ZERO, ..quick() }, Limit::Wall, 0),
    ] {
        let running = open(http(server.addr), limits, usize::MAX);
        for n in 0..=after {
            let (reply, _) = send(running.addr, &request(&[], &body()));
            let status: &[u8] = if n < after { b"HTTP/1.1 200 " } else { b"HTTP/1.1 403 " };
            assert!(reply.starts_with(status), "{want:?} {n}");
        }
        let record = running.proxy.stop().unwrap();
        assert_eq!(record.limit_hit, Some(want));
        assert_eq!(record.exchanges.last().unwrap().refused, Some(RequestRefusal::LimitHit));
    }
    let running = open(http(server.addr), ProxyLimits { request_size: 20, ..quick() }, usize::MAX);
    send(running.addr, &request(&[], &body()));
    let record = running.proxy.stop().unwrap();
    assert_eq!(record.exchanges[0].refused, Some(RequestRefusal::TooLarge));
}

#[test]
fn what_is_refused_counts_as_a_request() {
    let server = serve(Behaviour::Plays);
    let running = open(http(server.addr), ProxyLimits { requests: 2, ..quick() }, usize::MAX);
    for _ in 0..3 {
        send(running.addr, b"GET / HTTP/1.1\r\n\r\n");
    }
    let record = running.proxy.stop().unwrap();
    let refused: Vec<_> = record.exchanges.iter().filter_map(|one| one.refused).collect();
    use RequestRefusal::{BadHttp, LimitHit};
    assert_eq!(refused, [BadHttp, BadHttp, LimitHit]);
    assert_eq!(record.limit_hit, Some(Limit::Requests));
}

#[test]
fn requests_at_the_same_time_have_one_bound_together() {
    let server = serve(Behaviour::Plays);
    let running = open(http(server.addr), quick(), usize::MAX);
    let large = request(&[], &"x".repeat(15 << 20));
    let begin = |_| {
        let stream = TcpStream::connect(running.addr).unwrap();
        let (mut to, all) = (stream.try_clone().unwrap(), large.clone());
        // One that is refused is not read to its end.
        std::thread::spawn(move || to.write_all(&all[..all.len() - 1]));
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        stream
    };
    let three: Vec<TcpStream> = (0..3).map(begin).collect();
    let mut said = [0; 12];
    wait_for("the refusal of one", Duration::from_secs(20), || {
        three.iter().any(|stream| matches!(stream.peek(&mut said), Ok(12)))
    });
    assert_eq!(&said, b"HTTP/1.1 413");
    drop(three);
    // What is gone takes nothing any more.
    wait_for("room for another", Duration::from_secs(20), || {
        send(running.addr, &request(&[], &body())).0.starts_with(b"HTTP/1.1 200 ")
    });
    let record = running.proxy.stop().unwrap();
    let mut exchanges = record.exchanges.iter();
    assert!(exchanges.any(|one| one.refused == Some(RequestRefusal::TooLarge)));
}

#[test]
fn without_a_record_nothing_goes_on() {
    let server = raw(|_| stream("", &said("hello")));
    for writes in 0..3 {
        let running = open(http(server.addr()), quick(), writes);
        let (reply, _) = send(running.addr, &request(&[], &body()));
        let record = running.proxy.stop().unwrap();
        assert_eq!(record.recorder_failure.as_deref(), Some("disk full"));
        assert!(!reply.windows(5).any(|w| w == b"hello"), "{writes}");
        let one = &record.exchanges[0];
        if writes < 2 {
            assert_eq!(one.refused, Some(RequestRefusal::RecorderFailed));
        } else {
            assert_eq!(one.cut.as_ref().unwrap().reason, CutReason::RecorderFailed);
        }
    }
    assert_eq!(server.count(), 1);
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
    let length = format!("Content-Length: {}", good.len());
    let another_key = format!("Authorization: Bearer {SENTINEL}");
    let the_key = format!("X-Note: {}", key());
    let mut cases: Vec<(String, Vec<u8>, RequestRefusal)> = Vec::new();
    // Header lines beside those of an honest request.
    for (lines, want) in [
        (&["Transfer-Encoding: chunked"][..], AmbiguousFraming),
        (&[&length], AmbiguousFraming),
        (&["Content-Length: 3"], AmbiguousFraming),
        (&["Content_Length: 1"], AmbiguousFraming),
        (&["Content-Length : 1"], BadHttp),
        (&["X-A: b", "\tfolded"], BadHttp),
        (&["X-A: b", " folded"], BadHttp),
        (&["X-A"], BadHttp),
        (&[": x"], BadHttp),
        (&["X-A: b\nContent-Length: 1"], BadHttp),
        (&["X-A: a\rb"], BadHttp),
        (&["X-A: \u{0}"], BadHttp),
        (&["X-A: \u{e4}"], BadHttp),
        (&["Host: two"], BadHttp),
        (&["Expect: 100-continue"], ProtocolSwitch),
        (&["Connection: upgrade", "Upgrade: h2c"], ProtocolSwitch),
        (&["Upgrade: h2c"], ProtocolSwitch),
        (&["Connection: keep-alive, X-A"], ProtocolSwitch),
        (&["Cookie: a=b"], ClientCredentials),
        (&["X-Api-Key: mine"], ClientCredentials),
        (&["OpenAI-Organization: o"], ClientCredentials),
        (&[&another_key], ClientCredentials),
        (&["Content-Encoding: gzip"], BadEncoding),
        (&[&the_key], SecretInRequest),
    ] {
        cases.push((lines.join(", "), request(lines, &good), want));
    }
    // Something else in the place of something in an honest request.
    for (from, to, want) in [
        (&*length, "Content-Length: +1", AmbiguousFraming),
        (&length, "Content-Length: 1, 1", AmbiguousFraming),
        (&length, "Content-Length: 0x1", AmbiguousFraming),
        (&length, "Content-Length:", AmbiguousFraming),
        (&length, "Content-Length: 9999999999999", AmbiguousFraming),
        (&length, "Transfer-Encoding: gzip, chunked", AmbiguousFraming),
        (&length, "Transfer-Encoding: Chunked", AmbiguousFraming),
        (&length, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", AmbiguousFraming),
        ("Host:", "Host :", BadHttp),
        ("Host: 127.0.0.1:8080\r\n", "", BadHttp),
        ("HTTP/1.1", "HTTP/1.0", BadHttp),
        ("HTTP/1.1", "HTTP/2.0", BadHttp),
        ("HTTP/1.1", "HTTP/1.1 ", BadHttp),
        ("POST ", "POST  ", BadHttp),
        ("POST ", "P\u{7f} ", BadHttp),
        ("POST /v1/chat/completions HTTP/1.1", "PRI * HTTP/2.0", BadHttp),
        ("POST /v1/chat/completions HTTP/1.1", "POST", BadHttp),
        ("POST /v1/chat/completions HTTP/1.1", "", BadHttp),
        ("/v1/chat", "http://x/v1/chat", NotServed),
        ("completions HTTP", "completions?x=1 HTTP", NotServed),
        ("/v1/chat", "/v1/./chat", NotServed),
        ("/v1/chat", "/v1/v1/chat", NotServed),
        ("chat/completions", "embeddings", NotServed),
        ("POST", "PUT", NotServed),
        ("Bearer", "Basic", ClientCredentials),
        (SENTINEL, "run-sentinel-4f1d", BadSentinel),
        (&format!("{another_key}\r\n"), "", BadSentinel),
        ("application/json", "text/plain", BadEncoding),
        ("application/json", "application/json; charset=utf-7", BadEncoding),
    ] {
        cases.push((format!("{from} -> {to}"), replace(from, to), want));
    }
    for tail in [
        "2;a=b\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}}\r\n0\r\n\r\n",
        "2\r\n{}\r\n0\r\nX-A: b\r\n\r\n",
        "2\r\n{}\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
    ] {
        cases.push((tail.into(), chunked(tail), AmbiguousFraming));
    }
    for (body, want) in [
        (good.replace("{\"me", "{\"model\":\"x\",\"me"), BadJson),
        (format!("{good}{good}"), BadJson),
        (good.replace("\"stream\"", "\"web_search_options\""), UnknownKey),
        (good.replace(MODEL, "bigger-model"), OtherModel),
        (good.replace("hi", &key()), SecretInRequest),
    ] {
        cases.push((body.clone(), request(&[], &body), want));
    }
    let mut pipelined = request(&[], &good);
    pipelined.extend_from_slice(b"GET /v1/models HTTP/1.1\r\n\r\n");
    cases.push(("a second request".into(), pipelined, AmbiguousFraming));
    cases.push(("half a request".into(), request(&[], &good)[..60].to_vec(), Slow));
    let server = raw(|_| stream("", &said("hello")));
    // One of them never ends.
    let limits = ProxyLimits { request: Duration::from_secs(3), ..quick() };
    let running = open(http(server.addr()), limits, usize::MAX);
    for (name, bytes, _) in &cases {
        let (reply, _) = send(running.addr, bytes);
        assert!(reply.starts_with(b"HTTP/1.1 4"), "{name}: {}", String::from_utf8_lossy(&reply));
    }
    // The same proxy still serves an honest request, chunked or not.
    let chunked = chunked(&format!("{:x}\r\n{good}\r\n0\r\n\r\n", good.len()));
    assert!(send(running.addr, &chunked).0.starts_with(b"HTTP/1.1 200 "));
    let record = running.proxy.stop().unwrap();
    for ((name, _, want), one) in cases.iter().zip(&record.exchanges) {
        assert_eq!(one.refused, Some(*want), "{name}: {one:?}");
        assert_eq!(one.facts, None, "{name}");
    }
    assert_eq!(server.count(), 1, "only the honest one");
    assert_eq!(record.secrets_seen, ["model_key"]);
    let written = running.written.lock().unwrap().clone();
    Outcome { reply: Vec::new(), clean: true, record, written }.holds_no_secret(None);
}

#[test]
fn the_model_list_passes_and_silent_connections_are_counted() {
    let server = serve(Behaviour::Plays);
    let running = open(http(server.addr), quick(), usize::MAX);
    drop(TcpStream::connect(running.addr).unwrap());
    let get =
        format!("GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SENTINEL}\r\n\r\n");
    let (reply, _) = send(running.addr, get.as_bytes());
    assert!(String::from_utf8(reply).unwrap().contains(MODEL));
    let record = running.proxy.stop().unwrap();
    assert_eq!(record.silent_connections, 1);
    assert_eq!(record.exchanges[0].verdict, None);
}

#[test]
fn a_client_that_hangs_up_is_told_apart_and_the_stop_ends_what_is_under_way() {
    let server = serve(Behaviour::SilentMidway);
    let running = open(http(server.addr), ProxyLimits::default(), usize::MAX);
    let mut client = TcpStream::connect(running.addr).unwrap();
    client.write_all(&request(&[], &body())).unwrap();
    let bytes = |event: WireEvent| matches!(event, WireEvent::Bytes { .. });
    while !bytes(running.events.recv_timeout(Duration::from_secs(10)).unwrap()) {}
    drop(client);
    let ended = |event: WireEvent| matches!(event, WireEvent::End { .. });
    while !ended(running.events.recv_timeout(Duration::from_secs(10)).unwrap()) {}
    let mut second = TcpStream::connect(running.addr).unwrap();
    second.write_all(&request(&[], &body())).unwrap();
    while !bytes(running.events.recv_timeout(Duration::from_secs(10)).unwrap()) {}
    let record = running.proxy.stop().unwrap();
    let classes: Vec<_> =
        record.exchanges.iter().map(|e| e.verdict.as_ref().unwrap().class).collect();
    assert_eq!(classes, [ReplyClass::ClientClosed, ReplyClass::CutByAdmit]);
    assert_eq!(record.exchanges[1].cut.as_ref().unwrap().reason, CutReason::Stopped);
}

#[test]
fn a_mock_inside_goes_the_same_way() {
    let running = open(Upstream::local(Mock::saying("hello", MODEL)), quick(), usize::MAX);
    for _ in 0..3 {
        let (reply, clean) = send(running.addr, &request(&[], &body()));
        assert!(clean && String::from_utf8(reply).unwrap().contains("hello"));
    }
    let record = running.proxy.stop().unwrap();
    assert_eq!((record.upstream, record.network_class), (UpstreamKind::Scripted, None));
    assert_eq!((record.exchanges.len(), record.tokens), (3, 6));
    assert!(
        record.exchanges.iter().all(|e| e.verdict.as_ref().unwrap().class == ReplyClass::OkText)
    );
}

/// What a probe of this server finds, which shows neither the key nor the address.
pub fn probed(addr: SocketAddr, api: &'static dyn WireApi, patience: Duration) -> Probe {
    let limits = ProbeLimits { reply: patience, ..ProbeLimits::default() };
    let got = probe(&speaking(addr, api), MODEL, limits, &AtomicUsize::new(0)).unwrap();
    let text = serde_json::to_string(&got).unwrap();
    assert!(!text.contains(&key()) && !text.contains(&addr.to_string()), "{text}");
    let shape = got.verdict.as_ref();
    let shape = shape.is_some_and(|v| v.class == ReplyClass::ResponseShapeUnavailable);
    let detail = got.verdict.as_ref().map_or("", |v| &v.detail);
    assert_eq!(shape, detail.starts_with("reasoning_only"), "{detail}");
    got
}

fn probed_chat(model: impl Into<Model>, patience: Duration) -> Probe {
    let model = model.into();
    let got = probed(model.addr(), &Chat, patience);
    if let Model::Raw(server) = &model {
        let asked = server.asked();
        assert_eq!(asked.len(), 2);
        assert!(String::from_utf8_lossy(&asked[1].body).contains("\"max_tokens\":1024"));
    }
    got
}

#[test]
fn the_probe_wants_the_model_listed_and_an_answer_of_use() {
    use ProbeOutcome::*;
    let long = Duration::from_secs(20);
    let echo = stream("", &said(&key()));
    let cases: [(Model, ProbeOutcome, Option<&str>); 5] = [
        (Model::raw(stream("", &said("hello"))), Ready, Some("text")),
        (Behaviour::ListsAnother.into(), ModelNotListed, None),
        (Model::raw(only_reasons()), ReplyUnusable, Some("reasoning_only_length")),
        (Model::raw(redirect()), ReplyUnusable, Some("redirect")),
        (Model::raw(echo.clone()), ReplyUnusable, Some("cut_by_admit")),
    ];
    for (model, outcome, detail) in cases {
        let got = probed_chat(model, long);
        assert_eq!(got.outcome, outcome, "{got:?}");
        assert_eq!(got.verdict.as_ref().map(|v| v.detail.as_str()), detail, "{got:?}");
    }
    let silent = probed_chat(Behaviour::Silent, Duration::from_millis(800));
    assert_eq!(silent.outcome, ReplyUnusable);
    assert_eq!(silent.verdict.unwrap().detail, "no_reply");
    assert_eq!(probed_chat(Model::raw(echo), long).secret_seen.as_deref(), Some("model_key"));
    let inside = Upstream::local(Mock::saying("hello", MODEL));
    assert!(
        probe(&inside, MODEL, ProbeLimits::default(), &AtomicUsize::new(0)).unwrap().is_ready()
    );
}

#[test]
fn tls_is_checked_before_the_key_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    for trusted in [true, false] {
        let (server, certificate) = raw_tls(|_| stream("", &said("hello")));
        // Another certificate for the same address.
        let other = || raw_tls(|_| Vec::new()).1;
        let shown = if trusted { certificate } else { other() };
        let file = dir.path().join(format!("{trusted}.pem"));
        std::fs::write(&file, shown).unwrap();
        let net = NetConfig { ca_roots: Some(file), ..NetConfig::default() };
        let upstream = at(&server.url("/v1"), &Chat, &net);
        let got = asked(upstream, quick(), &request(&[], &body()));
        assert!(got.record.tls);
        if trusted {
            assert_eq!(got.verdict().0, ReplyClass::OkText);
            let sent = &server.asked()[0];
            assert_eq!(sent.header("authorization"), Some(&*format!("Bearer {}", key())));
        } else {
            assert_eq!(got.verdict(), (ReplyClass::UpstreamError, "tls"));
            assert_eq!(server.count(), 0);
        }
    }
}
