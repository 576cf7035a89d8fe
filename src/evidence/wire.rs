//! What went over the wire as files of the run directory, and the proxy's record as rows of the report.

use std::io;
use std::sync::{Arc, PoisonError};

use super::files::RunDir;
use super::names;
use super::recorder::{Recording, rel};
use crate::error::Result;
use crate::proxy::probe::{Kept, Probe};
use crate::proxy::server::{self, Part};
use crate::record;
use crate::record::evidence::WireRow;
use crate::record::sealed::{Author, Excerpt};
use crate::record::wire::{ExchangeKind, ProxyRecord, WireRecord};
use crate::secrets::{Rules, look};

/// Bytes of a request or reply that a report shows.
const SHOWN: usize = 4 << 10;
/// A file larger than this is not read back for the report.
const READ_BACK: u64 = 64 << 20;

/// Writes what the proxy sees to `backend/wire/NNNN.<part>`: every byte before it goes on.
pub struct WireSink(Arc<Recording>);

impl WireSink {
    pub fn new(run: Arc<Recording>) -> Self {
        Self(run)
    }
}

/// The files of the probe's question: request and reply.
pub(super) fn probe_question() -> (String, String) {
    (forwarded(0), file(0, Part::Reply))
}

/// The file with the request of an exchange as it went on.
pub(super) fn forwarded(exchange: u32) -> String {
    file(exchange, Part::Forwarded)
}

/// What a report shows of a file. A refused request has none, and nothing to show.
pub(super) fn shown(dir: &RunDir, name: &str) -> Excerpt {
    Excerpt::of(&dir.read(name, READ_BACK).unwrap_or_default(), SHOWN)
}

fn file(exchange: u32, part: Part) -> String {
    names::wire(exchange, kept(part).0)
}

/// A part's ending, its role, and whose it is.
fn kept(part: Part) -> (&'static str, &'static str, Author) {
    match part {
        Part::Received => ("received", "request_received", Author::Agent),
        Part::Forwarded => ("request", "request_forwarded", Author::Admit),
        Part::Reply => ("reply", "reply", Author::Model),
        Part::Content => ("content", "reply_content", Author::Model),
    }
}

impl server::Recorder for WireSink {
    fn bytes(&mut self, exchange: u32, part: Part, _: u64, bytes: &[u8]) -> io::Result<()> {
        let (_, role, by) = kept(part);
        // Beyond the limit the bytes are counted and not kept; the manifest says so.
        let written = rel(&file(exchange, part))
            .and_then(|path| self.0.append(&path, role, by, bytes).map(drop));
        written.map_err(|err| io::Error::other(err.to_string()))
    }
}

impl Recording {
    /// The report's rows of a proxy's record. `started_ns` is when the proxy started, on the recording's clock.
    pub fn wire_rows(&self, record: &ProxyRecord, started_ns: u64) -> Vec<WireRow> {
        record.exchanges.iter().map(|exchange| self.wire_row(exchange, started_ns)).collect()
    }

    /// Keeps what the model was asked before the start, as exchange 0, and gives its rows: the list of models and the
    /// question.
    pub fn probed(&self, probe: &Probe) -> Result<Vec<WireRow>> {
        probe.kept.iter().map(|kept| self.probe_row(probe, kept)).collect()
    }

    fn probe_row(&self, probe: &Probe, kept: &Kept) -> Result<WireRow> {
        let (request_file, reply_file) = match kept.list {
            true => (names::PROBE_LIST.0.to_owned(), names::PROBE_LIST.1.to_owned()),
            false => probe_question(),
        };
        self.artifact(&rel(&request_file)?, "probe_request", Author::Admit, &kept.request)?;
        self.artifact(&rel(&reply_file)?, "probe_reply", Author::Model, &kept.reply)?;
        let line = String::from_utf8_lossy(&kept.request);
        let line = line.split_once(" HTTP/1.1\r\n").map_or("the model", |(line, _)| line);
        let ago = u64::try_from(kept.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let decided = probe.kept.last() == Some(kept);
        let verdict = probe.verdict.as_ref().filter(|_| decided);
        Ok(WireRow {
            number: 0,
            monotonic_ns: self.elapsed_ns().saturating_sub(ago),
            duration_ns: kept.facts.duration_ns,
            request_line: line.replace("[base]", "/v1"),
            status: kept.facts.status,
            class: verdict.map_or("passed".into(), |verdict| record::word(&verdict.class)),
            request: Excerpt::of(&kept.request, SHOWN),
            reply: Excerpt::of(&kept.reply, SHOWN),
            request_file,
            reply_file,
        })
    }

    /// What the server itself said in this exchange's reply, where it said something was wrong.
    pub fn server_said(&self, exchange: u32) -> Option<String> {
        let read = |name: &str| self.dir.read(name, READ_BACK).ok();
        let reply = read(&file(exchange, Part::Reply));
        // Where the model was not asked, the list is what the probe has.
        let reply = reply.or_else(|| (exchange == 0).then(|| read(names::PROBE_LIST.1))?)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        said(&reply).filter(|words| look(words.as_bytes(), &known, Rules::On).is_empty())
    }

    fn wire_row(&self, exchange: &WireRecord, started_ns: u64) -> WireRow {
        let (request_file, reply_file) =
            (file(exchange.exchange, Part::Forwarded), file(exchange.exchange, Part::Reply));
        let read = |name: &str| shown(&self.dir, name);
        WireRow {
            number: exchange.exchange,
            monotonic_ns: started_ns.saturating_add(exchange.started_ns),
            duration_ns: exchange.ended_ns.saturating_sub(exchange.started_ns),
            request_line: match exchange.kind {
                ExchangeKind::Chat => {
                    let received = read(&file(exchange.exchange, Part::Received));
                    let line = received.text.split_once(" HTTP/1.1\r\n").map(|(line, _)| line);
                    line.unwrap_or("the model").to_owned()
                }
                ExchangeKind::Models => "GET /v1/models".into(),
                ExchangeKind::Unknown => "refused before its kind was known".into(),
            },
            status: exchange.facts.as_ref().and_then(|facts| facts.status),
            class: class(exchange),
            request: read(&request_file),
            reply: read(&reply_file),
            request_file,
            reply_file,
        }
    }
}

/// Characters of a server's words that a report shows.
const WORDS: usize = 400;

/// The message of an error in a reply: of a body that is one, or of an event of a stream; else the beginning of a body
/// that is no stream, where the status says that it is an error.
fn said(reply: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(reply);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let cut = |text: &str| {
        let text = text.trim();
        (!text.is_empty()).then(|| text.chars().take(WORDS).collect::<String>())
    };
    let message = |line: &str| -> Option<String> {
        let value: serde_json::Value = serde_json::from_str(line.trim()).ok()?;
        // An event of Responses is an error itself, or has it in the response that failed.
        let error = ["/error", "/response/error", "/detail"];
        let error = error.iter().find_map(|at| value.pointer(at).filter(|error| !error.is_null()));
        let error = error.or_else(|| (value["type"] == "error").then_some(&value))?;
        let words = error.get("message").unwrap_or(error);
        cut(words.as_str().map_or_else(|| words.to_string(), str::to_owned).as_str())
    };
    // Chunk sizes stand on lines of their own.
    let mut lines = body.lines().map(|line| line.strip_prefix("data:").unwrap_or(line));
    let whole = || cut(body.lines().find(|line| line.trim().len() > 8).unwrap_or_default());
    let error = head.split(' ').nth(1).is_some_and(|status| status >= "400");
    lines.find_map(message).or_else(|| message(body)).or_else(|| error.then(whole).flatten())
}

/// What became of an exchange, in a word or two.
fn class(exchange: &WireRecord) -> String {
    if let Some(refused) = &exchange.refused {
        return format!("refused: {}", record::word(refused));
    }
    if let Some(cut) = &exchange.cut {
        return format!("cut: {}", record::word(&cut.reason));
    }
    exchange.verdict.as_ref().map_or("passed".into(), |verdict| record::word(&verdict.class))
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn a_servers_words_are_found_in_each_form_of_an_error() {
        let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        let failed = r#"{"error": {"message": "no room", "type": "server_error"}}"#;
        let created = r#"data: {"type":"response.created","response":{"error":null}}"#;
        for body in [
            format!("data: {failed}\n\ndata: [DONE]\n\n"),
            format!("event: error\ndata: {}\n\n", failed.replacen('{', r#"{"type": "error", "#, 1)),
            format!(
                "{created}\n\nevent: error\ndata: {{\"type\":\"error\",\"code\":\"e\",\"message\":\"no room\"}}\n\n"
            ),
            format!(
                "{created}\n\ndata: {{\"type\":\"response.failed\",\"response\":{failed}}}\n\n"
            ),
        ] {
            assert_eq!(
                said(format!("{stream}{body}").as_bytes()).as_deref(),
                Some("no room"),
                "{body}"
            );
        }
        for body in
            [failed, r#"{"detail": "no room"}"#, r#"{"error": "no room"}"#, "no room at all"]
        {
            let reply = format!("HTTP/1.1 503 X\r\n\r\n{body}");
            assert!(said(reply.as_bytes()).unwrap().starts_with("no room"), "{body}");
        }
        // What went well says no word of an error.
        let whole = r#"{"object":"response","error":null,"status":"completed"}"#;
        for reply in [format!("{stream}{created}\n\n"), format!("HTTP/1.1 200 OK\r\n\r\n{whole}")] {
            assert_eq!(said(reply.as_bytes()), None, "{reply}");
        }
    }
}
