//! Every wire API with a list of models at the proxy, each by the same table: every fault of a model, what goes on and in which headers,
//! and that a stream which the proxy stops never looks like one that ended.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use admit::download::config::NetConfig;
use admit::proxy::api::{End, Said, WireApi};
use admit::proxy::probe::{ProbeLimits, ProbeOutcome, probe};
use admit::proxy::server::{Part, ProxyLimits, Recorder};
use admit::record::wire::{CutReason, Limit, ReasoningField, ReplyClass, RequestRefusal};
use serde_json::{Value, json};

use crate::faults::silence;
use crate::loopback::{Reply, Server};
use crate::processes::{peak, this_test};
use crate::proxy::{
    Outcome, SENTINEL, asked, at, hasty, open, open_with, probed, quick, send, speaking,
};
use crate::upstream::{Behaviour, MODEL, Mock, MockServer, key, raw, stream, whole, with_a_list};
use crate::util::{tell, var};

type Api = &'static dyn WireApi;

/// A model server that speaks `api`, says hello, and misbehaves.
fn serve(api: Api, behaviour: Behaviour) -> MockServer {
    let mock = Mock::saying("hello", MODEL).speaking(api).misbehaving(behaviour);
    MockServer::start(mock).unwrap()
}

fn hello(api: Api) -> Vec<u8> {
    stream("", &Mock::saying("hello", MODEL).speaking(api).reply(1, true).body())
}

/// A question as the clients of `api` ask it.
fn question(api: Api) -> Value {
    api.probe(MODEL, 64)
}

fn with_key(api: Api, key: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST /v1{} HTTP/1.1\r\nHost: x\r\n{key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        api.path(),
        body.len()
    )
    .into_bytes()
}

fn request(api: Api, body: &Value) -> Vec<u8> {
    with_key(api, &format!("Authorization: Bearer {SENTINEL}"), body)
}

fn ask(api: Api, addr: SocketAddr, limits: ProxyLimits) -> Outcome {
    asked(speaking(addr, api), limits, &request(api, &question(api)))
}

#[test]
fn each_fault_of_a_model_has_its_class_in_every_api() {
    use Behaviour as B;
    use ReplyClass::*;
    let (thinks, no_close) = (B::ReasoningOnly, "reasoning_only_no_close");
    let cases: [(B, ReplyClass, &str); 25] = [
        (B::Plays, OkText, "text"),
        (B::PlainJson, OkText, "text"),
        (B::Slivers, OkText, "text"),
        (B::Delayed, OkText, "text"),
        (B::OutOfTokens, OkText, "length"),
        (B::ToolsInPieces, OkTools, "tools"),
        (B::Status(401), AuthUnavailable, "http_401"),
        (B::Status(403), AuthUnavailable, "http_403"),
        (B::Status(404), UpstreamError, "model_not_found"),
        (B::Status(400), UpstreamError, "http_4xx"),
        (B::Status(429), UpstreamError, "http_429"),
        (B::Status(500), UpstreamError, "http_5xx"),
        (B::Status(529), UpstreamError, "http_5xx"),
        (B::ErrorAfter200, UpstreamError, "error_after_200"),
        (B::Refuses, UpstreamError, "refusal"),
        (B::Cut, StreamTruncated, "cut"),
        (B::MissingDone, StreamTruncated, "missing_done"),
        (B::MissingFinishReason, StreamTruncated, "missing_finish_reason"),
        (thinks(ReasoningField::Reasoning), ResponseShapeUnavailable, no_close),
        (thinks(ReasoningField::ThinkTag), ResponseShapeUnavailable, no_close),
        (B::Empty, EmptyReply, "empty"),
        (B::OtherModel, ModelMismatch, "other_model"),
        (B::BadTool, MalformedToolCall, "arguments_not_json"),
        (B::CutTool, MalformedToolCall, "cut_by_length"),
        (B::Gone, ConnectionRefused, "refused"),
    ];
    std::thread::scope(|scope| {
        for api in with_a_list() {
            scope.spawn(move || {
                for (behaviour, class, detail) in cases {
                    let name = format!("{} {behaviour:?}", api.name());
                    let server = serve(api, behaviour);
                    let got = ask(api, server.addr, quick());
                    assert_eq!(got.verdict(), (class, detail), "{name}: {:?}", got.one());
                    let half = (class == MalformedToolCall).then_some(CutReason::HalfToolCall);
                    assert_eq!((got.cut(), got.one().refused), (half, None), "{name}");
                    assert_eq!(got.text().starts_with("HTTP/1.1 502 "), behaviour == B::Gone);
                    assert!(got.record.secrets_seen.is_empty(), "{name}");
                    got.holds_no_secret(Some(server.addr));
                    let probed = probed(server.addr, api, ProbeLimits::default().reply);
                    let want = match class {
                        OkText | OkTools => ProbeOutcome::Ready,
                        ConnectionRefused => ProbeOutcome::ListUnavailable,
                        _ => ProbeOutcome::ReplyUnusable,
                    };
                    assert_eq!(probed.outcome, want, "{name}: {probed:?}");
                    assert_eq!(probed.verdict.unwrap().detail, detail, "{name}");
                }
                let silent = Mock::saying("hello", MODEL).speaking(api).misbehaving(B::Silent);
                let silent = MockServer::start(silent.during(0..u32::MAX)).unwrap();
                let got = ask(api, silent.addr, hasty());
                assert_eq!(got.verdict(), (UpstreamError, "no_reply"), "{}", api.name());
            });
        }
    });
}

/// What one API's model says is no answer of another's.
#[test]
fn a_model_that_answers_in_the_form_of_another_api_is_found_out() {
    for api in with_a_list() {
        for other in with_a_list().filter(|other| other.name() != api.name()) {
            for whole in [false, true] {
                let mut mock = Mock::saying("hello", MODEL).speaking(other);
                let body = mock.reply(1, !whole).body();
                let bytes = match whole {
                    false => stream("", &body),
                    true => self::whole(std::str::from_utf8(&body).unwrap()),
                };
                let server = raw(move |_| bytes.clone());
                let got = ask(api, server.addr(), quick());
                let no = [ReplyClass::UpstreamError, ReplyClass::StreamTruncated];
                let named = format!("{} for {}: {:?}", other.name(), api.name(), got.one());
                assert!(no.contains(&got.verdict().0), "{named}");
            }
        }
    }
}

#[test]
fn the_request_goes_on_with_the_real_key_and_the_headers_of_its_api() {
    for api in with_a_list() {
        let server = raw(move |_| hello(api));
        let running = open(speaking(server.addr(), api), quick(), usize::MAX);
        let headers = [
            &format!("X-Api-Key: {SENTINEL}"),
            "anthropic-version: 2024-01-02",
            "anthropic-beta: interleaved-thinking-2025-05-14",
            "anthropic-dangerous-direct-browser-access: true",
            "User-Agent: someone",
            "X-Stainless-OS: Linux",
        ];
        let (reply, clean) =
            send(running.addr, &with_key(api, &headers.join("\r\n"), &question(api)));
        assert!(clean && String::from_utf8_lossy(&reply).contains("hello"), "{}", api.name());
        let list = format!(
            "GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SENTINEL}\r\n\r\n"
        );
        let (reply, _) = send(running.addr, list.as_bytes());
        assert!(String::from_utf8_lossy(&reply).contains(MODEL));
        running.proxy.stop().unwrap();
        let asked = server.asked();
        let messages = api.name() == "anthropic-messages";
        assert_eq!(asked[0].target, format!("/v1{}", api.path()));
        for one in &asked {
            let (bearer, plain) = (one.header("authorization"), one.header("x-api-key"));
            let bearers = format!("Bearer {}", key());
            match messages {
                true => assert_eq!((bearer, plain), (None, Some(&*key()))),
                false => assert_eq!((bearer, plain), (Some(&*bearers), None)),
            }
            let agent = concat!("admit/", env!("CARGO_PKG_VERSION"));
            assert_eq!(one.header("user-agent"), Some(agent));
            let foreign = |(name, value): &(String, String)| {
                name.starts_with("x-stainless")
                    || name.contains("danger")
                    || value.contains(SENTINEL)
            };
            assert!(!one.headers.iter().any(foreign));
            assert_eq!(one.header("anthropic-version").is_some(), messages);
        }
        if messages {
            assert_eq!(asked[0].header("anthropic-version"), Some("2024-01-02"));
            assert_eq!(asked[0].header("anthropic-beta"), Some("interleaved-thinking-2025-05-14"));
            assert_eq!(asked[1].header("anthropic-version"), Some("2023-06-01"));
            assert_eq!(asked[1].target, "/v1/models?limit=1000");
        }
        assert_eq!(serde_json::from_slice::<Value>(&asked[0].body).unwrap(), question(api));
    }
}

/// Clients of Messages add `/v1` themselves: users write the base URL without it.
#[test]
fn a_base_url_has_its_version_once() {
    for api in with_a_list() {
        for (base, want) in
            [("", "/v1"), ("/v1", "/v1"), ("/v1/", "/v1"), ("/anthropic", "/anthropic/v1")]
        {
            let server = raw(move |_| hello(api));
            let upstream = at(&server.url(base), api, &NetConfig::default());
            let got = probe(&upstream, MODEL, ProbeLimits::default(), &AtomicUsize::new(0));
            assert!(got.as_ref().unwrap().is_ready(), "{} {base}: {got:?}", api.name());
            let want = match api.name() {
                "anthropic-messages" => want,
                _ => base.trim_end_matches('/'),
            };
            assert_eq!(server.asked()[1].target, format!("{want}{}", api.path()));
        }
    }
}

#[test]
fn the_key_of_the_run_is_taken_wherever_clients_show_it() {
    for api in with_a_list() {
        let server = serve(api, Behaviour::Plays);
        let running = open(speaking(server.addr, api), quick(), usize::MAX);
        let bearer = format!("Authorization: Bearer {SENTINEL}");
        let plain = format!("X-Api-Key: {SENTINEL}");
        for (shown, want) in [
            (bearer.clone(), Ok(())),
            (plain.clone(), Ok(())),
            (format!("api-key: {SENTINEL}"), Ok(())),
            (format!("{bearer}\r\n{plain}"), Ok(())),
            (format!("{bearer}\r\nX-Api-Key: mine"), Err(RequestRefusal::ClientCredentials)),
            (format!("{bearer}\r\n{bearer}"), Err(RequestRefusal::ClientCredentials)),
            ("X-Api-Key: mine".into(), Err(RequestRefusal::BadSentinel)),
            (format!("x-goog-api-key: {SENTINEL}"), Err(RequestRefusal::ClientCredentials)),
            ("X-Nothing: at-all".into(), Err(RequestRefusal::BadSentinel)),
        ] {
            let (reply, _) = send(running.addr, &with_key(api, &shown, &question(api)));
            let passed = reply.starts_with(b"HTTP/1.1 200 ");
            assert_eq!(passed, want.is_ok(), "{} {shown}", api.name());
            assert!(!String::from_utf8_lossy(&reply).contains(SENTINEL));
        }
        let record = running.proxy.stop().unwrap();
        let refused: Vec<_> = record.exchanges.iter().filter_map(|one| one.refused).collect();
        assert_eq!(refused.len(), 5);
    }
}

/// The reply of a chunked stream: a call whose arguments end in the middle, and then nothing for ever.
fn half_call(api: Api) -> Vec<u8> {
    let mut mock = Mock::saying("x", MODEL).speaking(api).misbehaving(Behaviour::BadTool);
    let body = String::from_utf8(mock.reply(1, true).body()).unwrap();
    // Up to the first event with arguments; what would end the call is left out.
    let at = body.find("\\\"path\\\"").unwrap();
    let kept = &body[..at + body[at..].find("\n\n").unwrap() + 2];
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
    format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{kept}\r\n", kept.len()).into_bytes()
}

/// What an agent would take for the proper end of the model's reply.
fn ends_cleanly(reply: &[u8], clean: bool) -> bool {
    let text = String::from_utf8_lossy(reply);
    if text.starts_with("HTTP/1.1 502 ") && !text.contains("event-stream") {
        return false;
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let head = head.to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        return clean && body.ends_with("0\r\n\r\n");
    }
    match head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()) {
        Some(length) => clean && body.len() == length.trim().parse::<usize>().unwrap(),
        None => clean,
    }
}

#[test]
fn a_stream_that_is_stopped_never_ends_cleanly() {
    for api in with_a_list() {
        let half = half_call(api);
        let unframed = {
            let text = String::from_utf8(half.clone()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let head = head.replace("\r\nTransfer-Encoding: chunked", "");
            let body = body.split_once("\r\n").unwrap().1;
            format!("{head}\r\n\r\n{body}").into_bytes()
        };
        let leak = |framed: bool| {
            let words = format!("data: {{\"leak\":\"{}\"}}\n\n", key());
            match framed {
                true => format!("{:x}\r\n{words}\r\n0\r\n\r\n", words.len()),
                false => words,
            }
        };
        for framed in [true, false] {
            let base = if framed { half.clone() } else { unframed.clone() };
            let name = format!("{} framed {framed}", api.name());
            // A secret that follows, a limit of bytes, the time, the run's own end.
            let reply = [&*base, leak(framed).as_bytes()].concat();
            let server = raw(move |_| reply.clone());
            let got = ask(api, server.addr(), quick());
            assert_eq!(got.cut(), Some(CutReason::Secret), "{name}");
            assert!(!ends_cleanly(&got.reply, got.clean), "{name}: {}", got.text());
            assert!(!got.text().contains(&key()), "{name}");

            let stalled = base.clone();
            let server = Server::http(move |_, _| Reply::Stall(stalled.clone()));
            let got = ask(api, server.addr(), hasty());
            assert_eq!(got.record.limit_hit, Some(Limit::ReplyTime), "{name}");
            assert!(got.text().contains("path"), "{name}: {}", got.text());
            assert!(!ends_cleanly(&got.reply, got.clean), "{name}: {}", got.text());

            let running = open(speaking(server.addr(), api), quick(), usize::MAX);
            let mut client = TcpStream::connect(running.addr).unwrap();
            client.write_all(&request(api, &question(api))).unwrap();
            let mut reply = vec![0; 64 << 10];
            let n = client.read(&mut reply).unwrap();
            reply.truncate(n);
            let record = running.proxy.stop().unwrap();
            let clean = client.read_to_end(&mut reply).is_ok();
            let one = &record.exchanges[0];
            assert_eq!(one.cut.as_ref().unwrap().reason, CutReason::Stopped);
            assert!(!ends_cleanly(&reply, clean), "{name}");
            assert_eq!(one.verdict.as_ref().unwrap().class, ReplyClass::CutByAdmit, "{name}");
        }
        let cap = half.len() as u64 + 20_000;
        let filler = format!(": {}\n\n", "x".repeat(997));
        let filler = format!("{:x}\r\n{filler}\r\n", filler.len()).repeat(40);
        let server = raw(move |_| [&*half, filler.as_bytes(), b"0\r\n\r\n"].concat());
        let got = ask(api, server.addr(), ProxyLimits { reply_bytes: cap, ..quick() });
        assert!(got.text().contains("path"), "{}", api.name());
        assert_eq!(got.record.limit_hit, Some(Limit::ReplyBytes), "{}", api.name());
        assert!(!ends_cleanly(&got.reply, got.clean), "{}: {}", api.name(), got.text());
    }
}

/// A reply of these events, in each way in which HTTP frames a body.
fn framed(pieces: &[String], kind: &str) -> [Vec<u8>; 3] {
    let body = pieces.concat();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n");
    let chunks = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len()));
    let chunks: String = chunks.collect();
    [
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"),
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
        format!("{head}\r\n{body}"),
    ]
    .map(String::into_bytes)
}

#[test]
fn a_half_tool_call_never_comes_to_a_clean_end() {
    let (half, whole) = ("{\"command\": \"echo half > half.txt; rm -rf ", "{\"command\": \"ls\"}");
    // Arguments, how the reply ends, whether what ends it is there, and what the reply amounts to.
    let cases = [
        (half, End::Reason, true, ReplyClass::MalformedToolCall, "arguments_not_json"),
        (half, End::Length, true, ReplyClass::MalformedToolCall, "cut_by_length"),
        // Some servers complete what the budget cut.
        (whole, End::Length, true, ReplyClass::MalformedToolCall, "cut_by_length"),
        (half, End::Reason, false, ReplyClass::StreamTruncated, "missing_done"),
        (whole, End::Reason, true, ReplyClass::OkTools, "tools"),
    ];
    // What clients take a reply for ended by.
    let last = ["[DONE]", "message_stop", "response.completed", "response.incomplete"];
    for (api, (arguments, end, ends, class, detail)) in
        with_a_list().flat_map(|api| cases.map(|case| (api, case)))
    {
        let said = Said { calls: vec![(0, "bash", arguments.to_owned())], end, ..silence(1) };
        let mut pieces = api.render(&said, true);
        if !ends {
            // Up to the last piece of the arguments.
            let at = pieces.iter().position(|piece| piece.contains("rm -rf")).unwrap();
            pieces.truncate(at + 1);
        }
        let streams = framed(&pieces, "text/event-stream");
        let bodies = framed(&api.render(&said, false), "application/json");
        let all = streams.into_iter().chain(bodies.into_iter().filter(|_| ends));
        for (at, reply) in all.enumerate() {
            let name = format!("{} {detail} {arguments} {at}", api.name());
            let server = raw(move |_| reply.clone());
            let got = ask(api, server.addr(), quick());
            assert_eq!(got.verdict(), (class, detail), "{name}");
            let (text, good) = (got.text(), class == ReplyClass::OkTools);
            assert_eq!(ends_cleanly(&got.reply, got.clean), good, "{name}: {text}");
            assert_eq!(got.cut(), (!good).then_some(CutReason::HalfToolCall), "{name}");
            let seen = last.iter().any(|word| text.contains(word));
            assert!(good || !seen, "{name}: {text}");
        }
    }
}

/// Some clients run a call as soon as an event of its own says that it is whole, and some servers complete what the token
/// budget cut: what is whole is known when the reply has ended.
#[test]
fn no_call_is_said_to_be_whole_before_the_reply_says_how_it_ends() {
    for api in with_a_list() {
        // Chat completions have no event for it: clients try whether the arguments are an object.
        let ends_call = match api.name() {
            "openai-chat" => &["ls\\\"}\""][..],
            _ => &["function_call_arguments.done", "output_item.done", "content_block_stop"],
        };
        for (end, kept, passes) in [
            (End::Reason, true, true),
            (End::Length, true, false),
            // Broken off behind the call.
            (End::Reason, false, false),
        ] {
            let calls = vec![(0, "bash", "{\"command\": \"ls\"}".to_owned())];
            let said = Said { calls, end, ..silence(1) };
            let mut pieces = api.render(&said, true);
            let is_end = |piece: &String| ends_call.iter().any(|word| piece.contains(word));
            let last = pieces.iter().rposition(is_end).unwrap();
            pieces.truncate(if kept { pieces.len() } else { last + 1 });
            let all = framed(&pieces, "text/event-stream");
            let reset = all[0][..all[0].len() - 5].to_vec();
            for (reply, is_reset) in
                all.map(|reply| (reply, false)).into_iter().chain([(reset, true)])
            {
                let name = format!("{} {}", api.name(), String::from_utf8_lossy(&reply));
                let server = raw(move |_| reply.clone());
                let got = ask(api, server.addr(), quick());
                let text = got.text();
                // There the name and all arguments stand in one event.
                let named = passes || api.name() != "openai-chat";
                assert_eq!(text.contains("bash"), named, "{name}: {text}");
                let whole = ends_call.iter().any(|word| text.contains(word));
                assert_eq!(whole, passes, "{name}: {text}");
                assert_eq!(got.cut(), (!passes).then_some(CutReason::HalfToolCall), "{name}");
                assert!(passes || !ends_cleanly(&got.reply, got.clean), "{name}: {text}");
                let class = match kept && !is_reset {
                    true if passes => ReplyClass::OkTools,
                    true => ReplyClass::MalformedToolCall,
                    false => ReplyClass::StreamTruncated,
                };
                assert_eq!(got.verdict().0, class, "{name}");
            }
        }
    }
}

/// An escaped key in a body that is no stream: only who reads the JSON finds it.
#[test]
fn a_body_is_looked_through_before_its_last_byte_goes_on() {
    let escaped: String = key().bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    for api in with_a_list() {
        let mut mock = Mock::saying("HERE", MODEL).speaking(api);
        let body = String::from_utf8(mock.reply(1, false).body()).unwrap();
        let body = body.replace("HERE", &escaped);
        let server = raw(move |_| whole(&body));
        let got = ask(api, server.addr(), quick());
        assert_eq!(got.cut(), Some(CutReason::Secret));
        assert!(!got.text().contains(&escaped), "{}", api.name());
    }
}

#[test]
fn what_would_lead_elsewhere_or_hold_a_run_up_has_one_answer() {
    for api in with_a_list() {
        let name = api.name();
        let reply = |head: &str| format!("HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\n{{}}");
        let (elsewhere, no) =
            ("Location: http://127.0.0.1:1/v1/elsewhere", "x-should-retry: false");
        for (head, want, not) in [
            (&*format!("307 Temporary Redirect\r\n{elsewhere}"), no, "elsewhere"),
            ("429 Too Many\r\nRetry-After: 86400", no, "86400"),
            ("503 Busy\r\nRetry-After: 9999\r\nx-should-retry: true", no, "true"),
            ("429 Too Many\r\nRetry-After: 2", "Retry-After: 2", "x-should-retry"),
        ] {
            let bytes = reply(head);
            let server = raw(move |_| bytes.clone().into_bytes());
            let got = ask(api, server.addr(), quick());
            assert!(got.text().contains(want), "{name}: {}", got.text());
            assert!(!got.text().contains(not), "{name}: {}", got.text());
            assert_eq!(server.count(), 1, "{name}: nothing is followed");
        }
        let server = serve(api, Behaviour::Plays);
        let running = open(speaking(server.addr, api), quick(), usize::MAX);
        let socket = format!(
            "GET /v1{} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SENTINEL}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
            api.path()
        );
        let (got, _) = send(running.addr, socket.as_bytes());
        assert!(got.starts_with(b"HTTP/1.1 426 "), "{name}: {}", String::from_utf8_lossy(&got));
        for head in ["CONNECT example.com:443 HTTP/1.1", "CONNECT 127.0.0.1:8080 HTTP/1.1"] {
            let (got, _) = send(running.addr, format!("{head}\r\nHost: x\r\n\r\n").as_bytes());
            assert!(got.starts_with(b"HTTP/1.1 404 "), "{name}: {}", String::from_utf8_lossy(&got));
        }
        // The other APIs' paths are not served: one model is spoken to in one way.
        for other in with_a_list().filter(|other| other.name() != name) {
            let (got, _) = send(running.addr, &request(other, &question(other)));
            assert!(got.starts_with(b"HTTP/1.1 404 "), "{name}");
        }
        let record = running.proxy.stop().unwrap();
        use RequestRefusal::{NotServed, ProtocolSwitch};
        let refused: Vec<_> = record.exchanges.iter().map(|one| one.refused.unwrap()).collect();
        let others = with_a_list().count() - 1;
        assert_eq!(refused, [&[ProtocolSwitch][..], &vec![NotServed; 2 + others]].concat());
    }
}

#[test]
fn refusals_are_errors_as_the_clients_of_the_api_know_them() {
    for api in with_a_list() {
        let server = serve(api, Behaviour::Plays);
        let running = open(speaking(server.addr, api), quick(), usize::MAX);
        let mut body = question(api);
        body["model"] = "bigger".into();
        let (reply, _) = send(running.addr, &request(api, &body));
        running.proxy.stop().unwrap();
        let text = String::from_utf8(reply).unwrap();
        let error: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
        assert_eq!(error["error"]["type"], "other_model");
        let outer = if api.name() == "anthropic-messages" { json!("error") } else { Value::Null };
        assert_eq!(error["type"], outer);
        assert!(error["error"]["message"].as_str().unwrap().starts_with("admit: another model"));
    }
}

const DOOR: &str = "ADMIT_WIRE_DOOR";

/// The proxy for clients that nobody here wrote (`.ci/agents`), before a model of the kind that is asked for, until its
/// standard input ends. Started by the test harness itself it has nothing to do.
#[test]
fn door() {
    let Some(name) = var(DOOR) else { return };
    let api = with_a_list().find(|api| api.name() == name).unwrap();
    let mock = |behaviour| Ok(serve(api, behaviour));
    let behaviour = var("ADMIT_WIRE_BEHAVIOUR").unwrap();
    let server: Result<MockServer, Server> = match behaviour.as_str() {
        "plays" => mock(Behaviour::Plays),
        "tools" => mock(Behaviour::ToolsInPieces),
        "error" => mock(Behaviour::ErrorAfter200),
        "half" => {
            let half = half_call(api);
            Err(Server::http(move |_, _| Reply::Stall(half.clone())))
        }
        status => mock(Behaviour::Status(status.parse().unwrap())),
    };
    let addr = match &server {
        Ok(mock) => mock.addr,
        Err(server) => server.addr(),
    };
    let limits = if behaviour == "half" { hasty() } else { quick() };
    let running = open(speaking(addr, api), limits, usize::MAX);
    tell(&format!("door {}", running.addr.port()));
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    running.proxy.stop().unwrap();
}

struct Nowhere;

impl Recorder for Nowhere {
    fn bytes(&mut self, _: u32, _: Part, _: u64, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

/// How large the reply of the test below is, in bytes.
const LARGE: usize = 12 << 20;
/// By how much the process may grow meanwhile, in KB.
const GROWTH: u64 = 4 << 10;
const CHILD: &str = "ADMIT_WIRE_CHILD";

/// One event of a stream with 64 KB that say nothing, as it comes before the first of `api` that says something.
fn padding(api: Api) -> String {
    let data = json!({"type": "ping", "model": MODEL, "choices": [], "pad": "x".repeat(64 << 10)});
    match api.name() {
        "openai-chat" => format!("data: {data}\n\n"),
        _ => format!("event: ping\ndata: {data}\n\n"),
    }
}

/// What the process of its own does. Started by the test harness itself it has nothing to do.
#[test]
fn child() {
    let Some(name) = var(CHILD) else { return };
    let api = with_a_list().find(|api| api.name() == name).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let body = Mock::saying("hello", MODEL).speaking(api).reply(1, true).body();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let event = padding(api);
        for _ in 0..LARGE / event.len() {
            stream.write_all(event.as_bytes()).unwrap();
        }
        stream.write_all(&body).unwrap();
    });
    let limits = ProxyLimits { silence: Duration::from_secs(60), ..ProxyLimits::default() };
    let running = open_with(speaking(addr, api), limits, Box::new(Nowhere));
    let mut client = TcpStream::connect(running.addr).unwrap();
    client.write_all(&request(api, &question(api))).unwrap();
    let (mut buf, mut came, mut before) = (vec![0; 64 << 10], 0, 0);
    while let Ok(n @ 1..) = client.read(&mut buf) {
        came += n;
        // What the first megabyte needs is what every reply needs.
        if before == 0 && came > 1 << 20 {
            before = peak("self").unwrap();
        }
    }
    assert_ne!(before, 0, "no more than {came} bytes came");
    let grown = peak("self").unwrap().saturating_sub(before);
    let record = running.proxy.stop().unwrap();
    let one = &record.exchanges[0];
    assert_eq!(one.verdict.as_ref().unwrap().class, ReplyClass::OkText, "{one:?}");
    assert!(came > LARGE - (1 << 20), "{came}");
    assert!(grown < GROWTH, "{grown} KB more over {came} bytes");
}

#[test]
fn memory_stays_flat_over_a_large_reply() {
    let children: Vec<_> = with_a_list()
        .map(|api| {
            let mut child = this_test("wire::child");
            child.env(CHILD, api.name()).stdout(Stdio::null()).stderr(Stdio::piped());
            (api, child.spawn().unwrap())
        })
        .collect();
    for (api, child) in children {
        let done = child.wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{}: {words}", api.name());
    }
}
