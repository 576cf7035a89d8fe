//! Servers on the loopback interface: HTTP with any misbehaviour, TLS, a proxy, and git's own smart server.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    /// Path and query, or what else stands in the request line.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

pub enum Reply {
    /// A whole answer: status, further header lines, body.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// These bytes, then the connection ends.
    Raw(Vec<u8>),
    /// These bytes, then silence until the client leaves.
    Stall(Vec<u8>),
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Reply::Answer(200, Vec::new(), body.into())
    }

    pub fn status(status: u16) -> Self {
        Reply::Answer(status, Vec::new(), b"no".to_vec())
    }

    pub fn redirect(to: impl Into<String>) -> Self {
        Reply::Answer(302, vec![("location".into(), to.into())], Vec::new())
    }

    fn send(self, stream: &mut (impl Read + Write)) {
        let stall = matches!(self, Reply::Stall(_));
        let bytes = match self {
            Reply::Raw(bytes) | Reply::Stall(bytes) => bytes,
            Reply::Answer(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                [head.as_bytes(), b"connection: close\r\n\r\n", &body].concat()
            }
        };
        // A client that leaves early is what some tests are about.
        let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
        if stall {
            let _ = stream.read(&mut [0; 16]);
        }
    }
}

/// A server; its threads end with the test process.
#[derive(Clone)]
pub struct Server {
    addr: SocketAddr,
    scheme: &'static str,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// A plain HTTP server. The handler gets the number of the request, from 0.
    pub fn http(handle: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start("http", handle, |stream, serve| serve(&mut &*stream))
    }

    /// An HTTPS server for `127.0.0.1`, and the PEM of the CA that signed its certificate.
    pub fn https(
        handle: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
    ) -> (Self, String) {
        let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let pem = key.cert.pem();
        let der =
            rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], der)
            .unwrap();
        let config = Arc::new(config);
        let server = Self::start("https", handle, move |stream, serve| {
            let tls = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut tls = rustls::StreamOwned::new(tls, stream.try_clone().unwrap());
            serve(&mut tls);
            tls.conn.send_close_notify();
            let _ = tls.flush();
        });
        (server, pem)
    }

    fn start(
        scheme: &'static str,
        handle: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
        wrap: impl Fn(&TcpStream, &mut dyn FnMut(&mut dyn Stream)) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (seen, shared) = (asked.clone(), Arc::new((handle, wrap)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, shared) = (seen.clone(), shared.clone());
                std::thread::spawn(move || {
                    (shared.1)(&stream, &mut |mut io| {
                        let Some(one) = read_request(&mut io) else { return };
                        let number = {
                            let mut seen = seen.lock().unwrap();
                            seen.push(one.clone());
                            seen.len() - 1
                        };
                        (shared.0)(number, &one).send(&mut io);
                    });
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { addr, scheme, asked }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.addr)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.asked().len()
    }
}

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn read_request(stream: &mut impl Read) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let mut asked = Asked {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        ..Asked::default()
    };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = asked.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut asked.body).ok()?;
    Some(asked)
}

/// A proxy that tunnels every CONNECT to `target`, whatever name was asked for. Gives its address and the names.
pub fn tunnel(target: SocketAddr) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let names: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = names.clone();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || {
                // Byte by byte: what follows the head belongs to the tunnel.
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    if !matches!(client.read(&mut byte), Ok(1)) {
                        return;
                    }
                    head.push(byte[0]);
                }
                seen.lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&head).lines().next().unwrap().into());
                let server = TcpStream::connect(target).unwrap();
                client.write_all(b"HTTP/1.1 200 ok\r\n\r\n").unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
                let _ = std::io::copy(&mut &server, &mut client);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    (url, names)
}

/// Git's own smart HTTP server for the repositories below `root`, with or without protocol version 2. `alter` may
/// change what it answers to a fetch.
pub fn git_http(
    root: PathBuf,
    version2: bool,
    alter: impl Fn(Vec<u8>) -> Reply + Send + Sync + 'static,
) -> Server {
    Server::http(move |_, asked| {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let mut command = Command::new("git");
        command
            .arg("http-backend")
            .env_clear()
            .envs([
                ("PATH", "/usr/local/bin:/usr/bin:/bin"),
                ("GIT_HTTP_EXPORT_ALL", "1"),
                ("REQUEST_METHOD", &asked.method),
                ("PATH_INFO", path),
                ("QUERY_STRING", query),
                ("CONTENT_TYPE", asked.header("content-type").unwrap_or_default()),
                ("CONTENT_LENGTH", &asked.body.len().to_string()),
                ("REMOTE_ADDR", "127.0.0.1"),
                // The tests make the repositories; their owner is not in question here.
                ("GIT_CONFIG_COUNT", "1"),
                ("GIT_CONFIG_KEY_0", "safe.directory"),
                ("GIT_CONFIG_VALUE_0", "*"),
            ])
            .env("GIT_PROJECT_ROOT", &root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if version2 && let Some(version) = asked.header("git-protocol") {
            command.env("GIT_PROTOCOL", version);
        }
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let body = asked.body.clone();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
        let out = child.wait_with_output().unwrap().stdout;
        writer.join().unwrap();
        let end = out.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(out.len() - 4);
        let head = String::from_utf8_lossy(&out[..end]).into_owned();
        let status = head.lines().find_map(|l| l.strip_prefix("Status: ")?.get(..3)?.parse().ok());
        let body = out[end + 4..].to_vec();
        match status {
            Some(status) => Reply::Answer(status, Vec::new(), body),
            None if asked.method == "POST" => alter(body),
            None => Reply::ok(body),
        }
    })
}
