//! The model's side in the tests: the mock model, and servers that answer with bytes of a test's own.

use std::net::SocketAddr;
use std::ops::Range;

use admit::proxy::api::{WireApi, list};
use serde_json::json;

use crate::loopback::{Asked, Reply, Server};

pub use admit::proxy::mock::{Behaviour, Mock, MockServer};

/// The model id that the tests admit.
pub const MODEL: &str = "test-model";

/// The wire APIs with a list of models, whose servers take a key; how an account is served is in `account.rs`.
pub fn with_a_list() -> impl Iterator<Item = &'static dyn WireApi> {
    list::ALL.into_iter().filter(|api| api.list().is_some())
}

/// The key that the proxy adds; spelled apart, so that looking through this repository finds nothing.
pub fn key() -> String {
    ["Wq7f", "Key", "0815", "xyzzyPlugh"].concat()
}

/// A model server that says hello, or misbehaves from the first request on.
pub fn serve(behaviour: Behaviour) -> MockServer {
    serve_during(behaviour, 0..u32::MAX)
}

/// A model server that says hello and misbehaves in these exchanges, counted from 0.
pub fn serve_during(behaviour: Behaviour, exchanges: Range<u32>) -> MockServer {
    let mock = Mock::saying("hello", MODEL).misbehaving(behaviour).during(exchanges);
    MockServer::start(mock).unwrap()
}

/// The body of a stream in which the model says `text`.
pub fn said(text: &str) -> Vec<u8> {
    Mock::saying(text, MODEL).reply(0, true).body()
}

/// A server with a list of models that answers everything else with these bytes.
pub fn raw(reply: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Server {
    Server::http(move |_, asked| answer(asked, &reply))
}

/// The same over TLS, and its certificate.
pub fn raw_tls(reply: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> (Server, String) {
    Server::https(move |_, asked| answer(asked, &reply))
}

fn answer(asked: &Asked, reply: &impl Fn(&Asked) -> Vec<u8>) -> Reply {
    match asked.method.as_str() {
        "GET" => {
            let list = json!({"object": "list", "data": [{"id": MODEL, "object": "model"}]});
            Reply::ok(list.to_string())
        }
        _ => Reply::Raw(reply(asked)),
    }
}

/// A reply with this body as a stream that ends with the connection.
pub fn stream(extra: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: test\r\nContent-Type: text/event-stream\r\n{extra}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// A reply with this body as JSON.
pub fn whole(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Either kind of server.
pub enum Model {
    Mock(MockServer),
    Raw(Server),
}

impl Model {
    pub fn raw(reply: Vec<u8>) -> Self {
        Self::Raw(raw(move |_| reply.clone()))
    }

    pub fn addr(&self) -> SocketAddr {
        match self {
            Self::Mock(server) => server.addr,
            Self::Raw(server) => server.addr(),
        }
    }
}

impl From<Behaviour> for Model {
    fn from(behaviour: Behaviour) -> Self {
        Self::Mock(serve(behaviour))
    }
}
