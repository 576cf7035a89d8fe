//! A loopback model server that misbehaves in exactly one named way.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

/// The model id that the tests admit.
pub const MODEL: &str = "test-model";

/// The key that the bridge adds; spelled apart, so that looking through this repository finds nothing.
pub fn key() -> String {
    ["Wq7f", "Key", "0815", "xyzzyPlugh"].concat()
}

/// What the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    PlainJson,
    OneByteWrites,
    Gzip,
    DelayedContent,
    Unauthorized,
    Forbidden,
    ModelNotFound,
    TooManyRequests,
    ServerError,
    ErrorAfter200,
    CutStream,
    CutBeforeHead,
    BadHead,
    MissingDone,
    MissingFinishReason,
    Reasoning,
    ReasoningContent,
    ReasoningDetails,
    ThinkOnly,
    ReasoningOnlyJson,
    Empty,
    OtherModel,
    BadToolArguments,
    ToolsInPieces,
    ToolsInterleaved,
    Hang,
    HangMidway,
    Redirect,
    EchoKeyInTwoWrites,
    EchoKeyInTwoFrames,
    EchoEndpoint,
    UnknownCoding,
    Huge,
    Lists(&'static str),
    Envelope,
    /// Nobody listens any more.
    Gone,
}

/// A running server; ends when dropped.
pub struct Server {
    pub addr: SocketAddr,
    /// Every request as received, in order.
    pub requests: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How many chat completions were asked for.
fn chats(seen: &Mutex<Vec<Vec<u8>>>) -> usize {
    seen.lock().unwrap().iter().filter(|request| request.starts_with(b"POST ")).count()
}

impl Server {
    pub fn start(fault: Fault) -> Self {
        Self::after(0, fault)
    }

    /// Answers `good` chat completions as it should, and misbehaves from then on.
    pub fn after(good: usize, fault: Fault) -> Self {
        Self::plan(good, fault, usize::MAX)
    }

    /// Misbehaves for one chat completion, and then answers as it should.
    pub fn once(fault: Fault) -> Self {
        Self::plan(0, fault, 1)
    }

    /// `good` chat completions as it should, `bad` others, and the rest as it should again.
    fn plan(good: usize, fault: Fault, bad: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut served = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (all, stopped) = (Arc::clone(&seen), Arc::clone(&stopped));
                let stream = stream.unwrap();
                let before = chats(&seen);
                let faulty = (good..good.saturating_add(bad)).contains(&before);
                let now = if faulty { fault } else { Fault::None };
                let one = std::thread::spawn(move || serve(stream, now, addr, &all, &stopped));
                if fault == Fault::Gone {
                    one.join().unwrap();
                    if chats(&seen) >= good {
                        break;
                    }
                } else {
                    served.push(one);
                }
            }
            for thread in served {
                thread.join().unwrap();
            }
        });
        Self { addr, requests, stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An address at which nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// One chunk of a stream.
pub fn chunk(delta: Value, finish: Option<&str>) -> Value {
    json!({
        "id": "c1", "object": "chat.completion.chunk", "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    })
}

fn frame(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn usage(completion: u64) -> Value {
    json!({"model": MODEL, "choices": [], "usage":
        {"prompt_tokens": 10, "completion_tokens": completion, "total_tokens": 10 + completion}})
}

/// The frames of an ordinary answer.
fn answer(text: &str) -> Vec<String> {
    vec![
        frame(&chunk(json!({"role": "assistant", "content": ""}), None)),
        frame(&chunk(json!({"content": text}), None)),
        frame(&chunk(json!({}), Some("stop"))),
        frame(&usage(5)),
        "data: [DONE]\n\n".into(),
    ]
}

fn one(delta: Value, finish: &str) -> Vec<String> {
    vec![
        frame(&chunk(delta, None)),
        frame(&chunk(json!({}), Some(finish))),
        "data: [DONE]\n\n".into(),
    ]
}

fn tool(index: u32, name: &str, arguments: &str) -> String {
    frame(&chunk(
        json!({"tool_calls": [{"index": index, "id": format!("t{index}"), "type": "function",
            "function": {"name": name, "arguments": arguments}}]}),
        None,
    ))
}

fn end_tools() -> Vec<String> {
    vec![frame(&chunk(json!({}), Some("tool_calls"))), "data: [DONE]\n\n".into()]
}

fn serve(
    mut stream: TcpStream,
    fault: Fault,
    addr: SocketAddr,
    seen: &Mutex<Vec<Vec<u8>>>,
    stop: &AtomicBool,
) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let Some(request) = read_request(&mut stream) else { return };
    let models = request.starts_with(b"GET ");
    seen.lock().unwrap().push(request);
    if models {
        let id = match fault {
            Fault::Lists(id) => id,
            _ => MODEL,
        };
        let list = json!({"object": "list", "data": [{"id": id, "object": "model"}]});
        whole(&mut stream, "200 OK", &list.to_string());
        return;
    }
    // The other side may hang up at any time; that is its right.
    let _ = reply(&mut stream, fault, addr, stop);
}

fn read_request(stream: &mut impl std::io::Read) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut buf = [0; 4096];
    loop {
        let n = stream.read(&mut buf).ok().filter(|n| *n > 0)?;
        out.extend_from_slice(&buf[..n]);
        let Some(end) = out.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&out[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |l| l.parse().unwrap());
        if out.len() >= end + 4 + length {
            return Some(out);
        }
    }
}

fn whole(stream: &mut TcpStream, status: &str, body: &str) {
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\r\n{body}",
        body.len()
    );
}

fn start_stream(stream: &mut TcpStream, extra: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nServer: test\r\nContent-Type: text/event-stream; charset=utf-8\r\n{extra}Transfer-Encoding: chunked\r\n\r\n"
    )
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
    stream.write_all(bytes)?;
    stream.write_all(b"\r\n")
}

fn frames(stream: &mut TcpStream, frames: &[String]) -> std::io::Result<()> {
    start_stream(stream, "")?;
    for frame in frames {
        send(stream, frame.as_bytes())?;
    }
    stream.write_all(b"0\r\n\r\n")
}

/// Waits until the other side hangs up or the server is stopped.
fn hang(stream: &mut TcpStream, stop: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buf = [0; 64];
    while !stop.load(Ordering::SeqCst) {
        match stream.read(&mut buf) {
            Ok(0) => return,
            Ok(_) => {}
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn reply(
    stream: &mut TcpStream,
    fault: Fault,
    addr: SocketAddr,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let error =
        |kind: &str| json!({"error": {"message": "no", "type": kind, "code": kind}}).to_string();
    match fault {
        Fault::None | Fault::Gone | Fault::Lists(_) => frames(stream, &answer("hello"))?,
        Fault::Envelope => frames(
            stream,
            &answer("Done.\n<<<AGENT_RESULT\n{\"status\":\"completed\"}\nAGENT_RESULT>>>\n"),
        )?,
        Fault::PlainJson => whole(
            stream,
            "200 OK",
            &json!({"model": MODEL, "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": "hello"}}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
            .to_string(),
        ),
        Fault::OneByteWrites => {
            start_stream(stream, "")?;
            let mut bytes = Vec::new();
            for frame in answer("hello").concat().replace('\n', "\r\n").as_bytes().chunks(7) {
                bytes.extend(format!("{:x}\r\n", frame.len()).bytes());
                bytes.extend_from_slice(frame);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            for byte in bytes.chunks(1) {
                stream.write_all(byte)?;
            }
        }
        Fault::Gzip => {
            start_stream(stream, "Content-Encoding: gzip\r\n")?;
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(answer("hello").concat().as_bytes())?;
            for piece in gzip.finish()?.chunks(20) {
                send(stream, piece)?;
            }
            stream.write_all(b"0\r\n\r\n")?;
        }
        Fault::DelayedContent => {
            start_stream(stream, "")?;
            for n in 0..10 {
                send(stream, b": keep-alive\n\n")?;
                send(
                    stream,
                    frame(&chunk(json!({"reasoning": format!("step {n}")}), None)).as_bytes(),
                )?;
                std::thread::sleep(Duration::from_millis(5));
            }
            for frame in answer("hello") {
                send(stream, frame.as_bytes())?;
            }
            stream.write_all(b"0\r\n\r\n")?;
        }
        Fault::Unauthorized => whole(stream, "401 Unauthorized", &error("invalid_api_key")),
        Fault::Forbidden => whole(stream, "403 Forbidden", &error("forbidden")),
        Fault::ModelNotFound => whole(stream, "404 Not Found", &error("model_not_found")),
        Fault::TooManyRequests => whole(stream, "429 Too Many Requests", &error("rate_limit")),
        Fault::ServerError => whole(stream, "500 Internal Server Error", "oops"),
        Fault::ErrorAfter200 => {
            let mut all = answer("hel");
            all.truncate(2);
            all.push(format!("data: {}\n\n", error("InternalServerError")));
            all.push("data: [DONE]\n\n".into());
            frames(stream, &all)?;
        }
        Fault::CutStream => {
            start_stream(stream, "")?;
            for frame in &answer("hello")[..2] {
                send(stream, frame.as_bytes())?;
            }
            stream.write_all(b"40\r\ndata: {\"mod")?;
        }
        Fault::CutBeforeHead => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-")?,
        Fault::BadHead => stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        )?,
        Fault::MissingDone => frames(stream, &answer("hello")[..4])?,
        Fault::MissingFinishReason => {
            let mut all = answer("hello");
            all.remove(2);
            frames(stream, &all)?;
        }
        Fault::Reasoning => frames(stream, &one(json!({"reasoning": "hm"}), "stop"))?,
        Fault::ReasoningContent => {
            frames(stream, &one(json!({"reasoning_content": "hm"}), "stop"))?
        }
        Fault::ReasoningDetails => frames(
            stream,
            &one(json!({"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}), "stop"),
        )?,
        Fault::ThinkOnly => frames(stream, &one(json!({"content": "<think>hm</think>"}), "stop"))?,
        Fault::ReasoningOnlyJson => whole(
            stream,
            "200 OK",
            &json!({"model": MODEL, "choices": [{"index": 0, "finish_reason": "length",
                "message": {"role": "assistant", "content": null, "reasoning": "hm"}}]})
            .to_string(),
        ),
        Fault::Empty => frames(stream, &one(json!({"content": " \n"}), "stop"))?,
        Fault::OtherModel => {
            frames(stream, &answer("hello").map_model())?;
        }
        Fault::BadToolArguments => {
            frames(stream, &[vec![tool(0, "read", "{\"path\": ")], end_tools()].concat())?;
        }
        Fault::ToolsInPieces => {
            let pieces =
                vec![tool(0, "read", ""), tool(0, "", "{\"pa"), tool(0, "", "th\":\"x\"}")];
            frames(stream, &[pieces, end_tools()].concat())?;
        }
        Fault::ToolsInterleaved => {
            let pieces = vec![
                tool(0, "read", "{"),
                tool(1, "bash", "{\"c"),
                tool(0, "", "}"),
                tool(1, "", "\":1}"),
            ];
            frames(stream, &[pieces, end_tools()].concat())?;
        }
        Fault::Hang => hang(stream, stop),
        Fault::HangMidway => {
            start_stream(stream, "")?;
            send(stream, answer("hello")[0].as_bytes())?;
            hang(stream, stop);
        }
        Fault::Redirect => write!(
            stream,
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{addr}/v1/elsewhere\r\nContent-Length: 0\r\n\r\n"
        )?,
        Fault::EchoKeyInTwoWrites => {
            let text = frame(&chunk(json!({"content": format!("it is {}", key())}), None));
            let middle = text.find(&key()).unwrap() + key().len() / 2;
            start_stream(stream, "")?;
            send(stream, &text.as_bytes()[..middle])?;
            std::thread::sleep(Duration::from_millis(30));
            send(stream, &text.as_bytes()[middle..])?;
            stream.write_all(b"0\r\n\r\n")?;
        }
        Fault::EchoKeyInTwoFrames => {
            let (left, right) = (key()[..9].to_owned(), key()[9..].to_owned());
            start_stream(stream, "")?;
            send(stream, frame(&chunk(json!({"content": left}), None)).as_bytes())?;
            std::thread::sleep(Duration::from_millis(30));
            send(stream, frame(&chunk(json!({"content": right}), None)).as_bytes())?;
            stream.write_all(b"0\r\n\r\n")?;
        }
        Fault::EchoEndpoint => frames(stream, &answer(&format!("I live at {addr}")))?,
        Fault::UnknownCoding => {
            start_stream(stream, "Content-Encoding: br\r\n")?;
            send(stream, b"whatever")?;
        }
        Fault::Huge => {
            start_stream(stream, "")?;
            let text = frame(&chunk(json!({"content": "a".repeat(4000)}), None));
            while !stop.load(Ordering::SeqCst) {
                send(stream, text.as_bytes())?;
            }
        }
    }
    Ok(())
}

trait MapModel {
    /// The same frames under another model's name.
    fn map_model(self) -> Vec<String>;
}

impl MapModel for Vec<String> {
    fn map_model(self) -> Vec<String> {
        self.into_iter().map(|frame| frame.replace(MODEL, "another-model")).collect()
    }
}

/// A TLS server for `127.0.0.1` with a certificate of its own making; answers one request and ends.
pub struct TlsServer {
    pub addr: SocketAddr,
    /// The certificate that a client must trust, PEM.
    pub certificate: String,
    /// The request, or `None` where the client did not like the certificate.
    pub thread: JoinHandle<Option<Vec<u8>>>,
}

impl TlsServer {
    pub fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key =
            rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, socket);
            let request = read_request(&mut stream)?;
            let body = answer("hello").concat();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
            write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            stream.conn.send_close_notify();
            let _ = stream.flush();
            Some(request)
        });
        Self { addr, certificate: made.cert.pem(), thread }
    }
}
