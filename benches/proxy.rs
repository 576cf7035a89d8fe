//! Latency that the proxy adds to a chunk of a stream over each wire API, its memory over a large reply, and the speed of
//! looking for secrets.
//!
//! A loopback server writes one piece of text a millisecond, each with the time of its sending; the client notes when it
//! arrived. The same is done without and with the proxy between them, by turns, in one process and on one clock.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its figures")]

use std::hint::black_box;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use admit::download::config::NetConfig;
use admit::proxy::api::{End, Said, WireApi, list};
use admit::proxy::endpoint::{Endpoint, ModelKey};
use admit::proxy::server::{Part, Proxy, ProxyConfig, ProxyLimits, Recorder};
use admit::proxy::upstream::Upstream;
use admit::record::network::Network;
use admit::record::wire::ReasoningField;
use admit::secrets::{Known, Rules, Secret, look};

const CHUNKS: usize = 1000;
const ROUNDS: usize = 4;
/// Bytes of the large reply.
const LARGE: usize = 200_000_000;

/// Writes to a file, as a run does.
struct ToFile(std::fs::File);

impl Recorder for ToFile {
    fn bytes(&mut self, _: u32, _: Part, _: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}

/// An account's replies are those of Responses, and its requests need a login.
fn has_its_own_events(api: &&'static dyn WireApi) -> bool {
    api.name() != "openai-codex-responses"
}

/// What stands for the time in an event.
const TIME: &str = "@TIME@";

/// The events of a stream before its text, one with a piece of text, and those after it.
fn events(api: &dyn WireApi) -> (String, String, String) {
    let said = Said {
        model: "m",
        number: 1,
        reasoning: (ReasoningField::Reasoning, Vec::new()),
        text: Some(TIME),
        calls: Vec::new(),
        end: End::Reason,
    };
    let all = api.render(&said, true);
    let at = all.iter().position(|event| event.contains(TIME)).unwrap();
    (all[..at].concat(), all[at].clone(), all[at + 1..].concat().replace(TIME, ""))
}

fn serve(listener: TcpListener, epoch: Instant, api: &'static dyn WireApi) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        std::thread::spawn(move || {
            // The whole request: closing with unread bytes would reset the connection.
            let (mut request, mut buf) = (Vec::new(), [0; 4096]);
            while !request.ends_with(b"}") {
                let n = stream.read(&mut buf).unwrap();
                request.extend_from_slice(&buf[..n]);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                .unwrap();
            let mut send = |text: &str| {
                stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).unwrap();
            };
            let (before, piece, after) = events(api);
            send(&before);
            for _ in 0..CHUNKS {
                std::thread::sleep(Duration::from_millis(1));
                let sent = epoch.elapsed().as_nanos();
                send(&piece.replace(TIME, &format!("@{sent}@")));
            }
            send(&after);
            stream.write_all(b"0\r\n\r\n").unwrap();
        });
    }
}

/// A connection on which the model was asked.
fn ask(addr: SocketAddr, api: &dyn WireApi) -> TcpStream {
    let body = api.probe("m", 64).to_string();
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(
        stream,
        "POST /v1{} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bench-sentinel\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        api.path(),
        body.len()
    )
    .unwrap();
    stream
}

/// Latency of each chunk in nanoseconds.
fn measure(addr: SocketAddr, epoch: Instant, api: &dyn WireApi) -> Vec<u128> {
    let stream = ask(addr, api);
    let mut out = Vec::with_capacity(CHUNKS);
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        let now = epoch.elapsed().as_nanos();
        let Some(sent) = line.split('@').nth(1).and_then(|text| text.parse::<u128>().ok()) else {
            continue;
        };
        out.push(now - sent);
    }
    assert_eq!(out.len(), CHUNKS);
    out
}

fn at(sorted: &[u128], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize] as f64 / 1000.0
}

/// The latency of chunks without and with the proxy between client and server.
fn latency(api: &'static dyn WireApi, key: &[u8]) {
    let epoch = Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let direct = listener.local_addr().unwrap();
    std::thread::spawn(move || serve(listener, epoch, api));

    let (proxy, through) = proxy(api, direct, key);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.extend(measure(direct, epoch, api));
        with.extend(measure(through, epoch, api));
    }
    proxy.stop().unwrap();
    without.sort_unstable();
    with.sort_unstable();
    println!("{}: latency of a chunk, {} chunks each, microseconds", api.name(), without.len());
    println!("{:<10} {:>8} {:>8} {:>8}", "", "p50", "p99", "max");
    for (name, sorted) in [("direct", &without), ("proxy", &with)] {
        let (p50, p99, max) = (at(sorted, 0.5), at(sorted, 0.99), at(sorted, 1.0));
        println!("{name:<10} {p50:>8.0} {p99:>8.0} {max:>8.0}");
    }
    println!(
        "{:<10} {:>8.0} {:>8.0}   goal: at most 1000 at the 99th percentile",
        "added",
        at(&with, 0.5) - at(&without, 0.5),
        at(&with, 0.99) - at(&without, 0.99)
    );
}

/// Starts a proxy before a server of `api`, and gives where it listens.
fn proxy(api: &'static dyn WireApi, server: SocketAddr, key: &[u8]) -> (Proxy, SocketAddr) {
    let network = Network::built_in("loopback-test").unwrap();
    let url = format!("http://{server}/v1");
    let endpoint = Endpoint::resolve(&url, &network, &NetConfig::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let through = listener.local_addr().unwrap();
    let config = ProxyConfig {
        model: "m".into(),
        sentinel: Secret::new(b"bench-sentinel".to_vec()).unwrap(),
        upstream: Upstream::Http {
            api,
            endpoint,
            credential: Some(ModelKey::from_value("KEY", key.to_vec()).unwrap()),
        },
        names: None,
        limits: ProxyLimits { reply_bytes: 1 << 30, ..ProxyLimits::default() },
        recorder: Box::new(ToFile(tempfile::tempfile().unwrap())),
        events: None,
    };
    (Proxy::start(listener, config).unwrap(), through)
}

/// Most memory that this process ever had, in KB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The memory of this process over a reply of 200 MB in events that say nothing.
fn memory(api: &'static dyn WireApi, key: &[u8]) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let pad = "x".repeat(64 << 10);
        let name = if api.path() == "/chat/completions" { "" } else { "event: ping\n" };
        let event =
            format!("{name}data: {{\"type\":\"ping\",\"choices\":[],\"pad\":\"{pad}\"}}\n\n");
        for _ in 0..LARGE / event.len() {
            stream.write_all(event.as_bytes()).unwrap();
        }
        let (before, piece, after) = events(api);
        stream.write_all((before + &piece + &after).as_bytes()).unwrap();
    });
    let (proxy, through) = proxy(api, addr, key);
    let mut client = ask(through, api);
    let (mut buf, mut came, mut before) = (vec![0; 64 << 10], 0, 0);
    while let Ok(n @ 1..) = client.read(&mut buf) {
        came += n;
        // What the first megabyte needs is what every reply needs.
        if before == 0 && came > 1 << 20 {
            before = peak();
        }
    }
    assert!(came > LARGE - (1 << 20), "{came}");
    proxy.stop().unwrap();
    println!(
        "{}: {} KB more at the peak over a reply of {} MB",
        api.name(),
        peak().saturating_sub(before),
        came / 1_000_000
    );
}

fn main() {
    let key = ["bench", "Key", "0123456789abcdefghij"].concat().into_bytes();
    for api in list::ALL.into_iter().filter(has_its_own_events) {
        memory(api, &key);
    }
    for api in list::ALL.into_iter().filter(has_its_own_events) {
        latency(api, &key);
    }

    let known = Known::new(&[("key".into(), Secret::new(key).unwrap())]);
    // Text of the kind that evidence is: JSON lines with words and numbers.
    let text: Vec<u8> = (0..200_000u32)
        .flat_map(|n| {
            format!(
                "{{\"event\":\"tool_end\",\"seq\":{n},\"text\":\"def slugify(s): return s\"}}\n"
            )
            .into_bytes()
        })
        .collect();
    let begun = Instant::now();
    black_box(look(&text, &known, Rules::On));
    let rate = text.len() as f64 / 1e6 / begun.elapsed().as_secs_f64();
    println!(
        "secrets, known values and rules: {rate:.0} MB/s over {} MB   goal: at least 20",
        text.len() / 1_000_000
    );
}
