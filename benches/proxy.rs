//! Latency that the proxy adds to a chunk of a stream, and the speed of looking for secrets.
//!
//! A loopback server writes one chunk a millisecond, each with the time of its sending; the client notes when it
//! arrived. The same is done without and with the proxy between them, by turns, in one process and on one clock.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its figures")]

use std::hint::black_box;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use admit::download::config::NetConfig;
use admit::proxy::api::chat::Chat;
use admit::proxy::endpoint::{Credential, Endpoint};
use admit::proxy::server::{Limits, Part, Proxy, ProxyConfig, Recorder};
use admit::proxy::upstream::Upstream;
use admit::record::network::Network;
use admit::secrets::{Known, Rules, Secret, look};

const CHUNKS: usize = 1000;
const ROUNDS: usize = 4;

/// Writes to a file, as a run does.
struct ToFile(std::fs::File);

impl Recorder for ToFile {
    fn bytes(&mut self, _: u32, _: Part, _: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}

fn serve(listener: TcpListener, epoch: Instant) {
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
            let mut send = |text: String| {
                stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).unwrap();
            };
            for _ in 0..CHUNKS {
                std::thread::sleep(Duration::from_millis(1));
                let sent = epoch.elapsed().as_nanos();
                send(format!(
                    "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{sent}\"}},\"finish_reason\":null}}]}}\n\n"
                ));
            }
            send("data: [DONE]\n\n".into());
            stream.write_all(b"0\r\n\r\n").unwrap();
        });
    }
}

/// Latency of each chunk in nanoseconds.
fn measure(addr: SocketAddr, epoch: Instant) -> Vec<u128> {
    let body = r#"{"model":"m","stream":true,"messages":[]}"#;
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bench-sentinel\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut out = Vec::with_capacity(CHUNKS);
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        let now = epoch.elapsed().as_nanos();
        let Some((_, rest)) = line.split_once("\"content\":\"") else { continue };
        let sent: u128 = rest.split('"').next().unwrap().parse().unwrap();
        out.push(now - sent);
    }
    assert_eq!(out.len(), CHUNKS);
    out
}

fn at(sorted: &[u128], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize] as f64 / 1000.0
}

fn main() {
    let epoch = Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let direct = listener.local_addr().unwrap();
    std::thread::spawn(move || serve(listener, epoch));

    let url = format!("http://{direct}/v1");
    let endpoint = Endpoint::resolve(
        &url,
        &Network::built_in("loopback-test").unwrap(),
        &NetConfig::default(),
    )
    .unwrap();
    let key = ["bench", "Key", "0123456789abcdefghij"].concat().into_bytes();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let through = listener.local_addr().unwrap();
    let config = ProxyConfig {
        model: "m".into(),
        sentinel: Secret::new(b"bench-sentinel".to_vec()).unwrap(),
        upstream: Upstream::Http {
            api: &Chat,
            endpoint,
            credential: Some(Credential::from_value("KEY", key.clone()).unwrap()),
        },
        limits: Limits::default(),
        also_secret: Vec::new(),
        recorder: Box::new(ToFile(tempfile::tempfile().unwrap())),
        events: None,
    };
    let proxy = Proxy::start(listener, config).unwrap();

    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.extend(measure(direct, epoch));
        with.extend(measure(through, epoch));
    }
    proxy.stop().unwrap();
    without.sort_unstable();
    with.sort_unstable();
    println!("latency of a chunk, {} chunks each, microseconds", without.len());
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
