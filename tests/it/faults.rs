//! The table of faults: each on the wire and in the agent's work, alone and behind one that the agent recovers from, in runs
//! of a real provider against a scripted server. The class of each must be its cause, and what was recovered from must be
//! listed and not decide. With the stand-in always; with real Case where a mirror of it is named.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::loopback::{Asked, Server};
use crate::trial::{Built, Left, Trial, real_case, understudy};
use crate::upstream::{MODEL, raw, stream};
use crate::util::project;

/// What the server does in place of the scripted turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    Status(u16),
    /// Closes without a reply.
    Closed,
    Cut,
    ErrorEvent,
    ReasoningOnly,
    Empty,
    OtherModel,
    BadTool,
    /// The same, because the token budget ends it there.
    CutTool,
    /// A whole reply with this text.
    Says(&'static str),
    /// The same after so many seconds.
    SaysLate(u64, &'static str),
    /// Reasoning with this text, and other words as the reply.
    Thinks(&'static str),
    /// A tool call of `bash` with this command.
    Does(&'static str),
}
use Fault::{
    BadTool, Closed, Cut, CutTool, Does, Empty, ErrorEvent, OtherModel, ReasoningOnly, Says,
    SaysLate, Status, Thinks,
};

/// In which requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// In the one before the run.
    Probe,
    /// The first one that asks for this turn of the implementer.
    Once(usize),
    /// Every one that asks for this turn of the implementer.
    Turn(usize),
    /// Every one of the implementer.
    Always,
    /// Every one of whoever comes after the implementer.
    Later,
}
use When::{Always, Later, Once, Probe, Turn};

struct Row {
    faults: Vec<(When, Fault)>,
    /// None for a rehearsal that holds.
    class: Option<&'static str>,
    /// What must be listed beside it.
    contributing: Vec<&'static str>,
}

const BROKEN: &str = "<<<AGENT_RESULT\n{\"status\": \nAGENT_RESULT>>>";
pub const FAILED: &str =
    "<<<AGENT_RESULT\n{\"status\": \"failed\", \"error\": \"no\"}\nAGENT_RESULT>>>";

/// Faults without which the run would have gone on, each with its class.
fn decisive() -> Vec<(When, Fault, &'static str)> {
    vec![
        (Turn(0), Status(400), "upstream_error"),
        (Turn(0), Status(401), "auth_unavailable"),
        (Turn(0), Status(403), "auth_unavailable"),
        (Turn(0), Status(404), "upstream_error"),
        (Turn(1), Status(429), "upstream_error"),
        (Turn(1), Status(500), "upstream_error"),
        (Turn(2), Status(502), "upstream_error"),
        (Turn(2), Status(529), "upstream_error"),
        (Turn(3), Closed, "stream_truncated"),
        (Turn(1), Cut, "stream_truncated"),
        (Turn(1), ErrorEvent, "upstream_error"),
        (Turn(1), ReasoningOnly, "response_shape_unavailable"),
        (Turn(1), Empty, "empty_reply"),
        (Turn(4), OtherModel, "model_mismatch"),
        (Always, BadTool, "malformed_tool_call"),
        (Always, CutTool, "malformed_tool_call"),
        (Turn(0), Says("All done."), "agent_protocol"),
        (Turn(4), Says("All done."), "agent_protocol"),
        (Turn(4), Says(BROKEN), "agent_protocol"),
        (Turn(4), Says(FAILED), "agent_protocol"),
        (Turn(3), Does("true"), "judge_rejected"),
        (
            Turn(3),
            Does("echo 'def slugify(text): return text' > strings.py; git commit -qam x"),
            "judge_rejected",
        ),
        (Turn(3), Does("echo x > more.py; git add -A; git commit -qm x"), "writes_outside"),
        (
            Turn(3),
            Does("echo > tests/test_strings.py; git add -A; git commit -qm x"),
            "writes_outside",
        ),
    ]
}

/// Faults that an agent recovers from, each with what it is listed as.
const RECOVERED: [(Fault, &str); 2] =
    [(Status(500), "upstream_error"), (Status(429), "upstream_error")];

fn table() -> Vec<Row> {
    let mut rows = Vec::new();
    let row = |faults, class, contributing| Row { faults, class, contributing };
    for (when, fault, class) in decisive() {
        rows.push(row(vec![(when, fault)], Some(class), vec![]));
    }
    // After the work nothing decides.
    for fault in
        [Status(401), Status(500), Cut, Empty, Says("All done."), Says(BROKEN), Says(FAILED)]
    {
        rows.push(row(vec![(Later, fault)], None, vec![]));
    }
    for (fault, listed) in RECOVERED {
        rows.push(row(vec![(Once(0), fault)], None, vec![listed]));
    }
    // The agent sees that the reply was cut, and asks again.
    rows.push(row(vec![(Once(1), BadTool)], None, vec!["malformed_tool_call"]));
    // First one that is recovered from, then one that decides.
    for (n, (when, fault, class)) in decisive().into_iter().enumerate() {
        let (first, listed) = RECOVERED[n % 2];
        let turn = match when {
            Turn(0) | Always => continue,
            _ => Once(0),
        };
        rows.push(row(vec![(turn, first), (when, fault)], Some(class), vec![listed]));
    }
    rows
}

/// Ends of the agent itself, and of a limit, alone and behind a fault that the agent recovers from.
fn ends() -> Vec<Row> {
    let all = [
        (Turn(3), Does("kill -KILL $PPID; sleep 9"), "killed_from_outside"),
        // The work is committed, and its result was never given.
        (Turn(4), Does("kill -KILL $PPID; sleep 9"), "killed_from_outside"),
        (Turn(2), Does("kill -SEGV $PPID; sleep 9"), "engine_failed"),
        (Always, Does("true"), "limit_hit"),
    ];
    let mut rows = Vec::new();
    for (when, fault, class) in all {
        let row = |faults, contributing| Row { faults, class: Some(class), contributing };
        rows.push(row(vec![(when, fault)], vec![]));
        rows.push(row(vec![(Once(0), Status(500)), (when, fault)], vec!["upstream_error"]));
    }
    rows
}

/// Hangs, before the work is committed and after it: each of them lasts as long as the clock.
fn hangs() -> Vec<Row> {
    let row = |faults, class, contributing| Row { faults, class: Some(class), contributing };
    let late = SaysLate(120, "All done.");
    vec![
        row(vec![(Turn(1), late)], "timeout", vec![]),
        row(vec![(Turn(4), late)], "lifecycle_timeout", vec![]),
        row(vec![(Once(0), Status(429)), (Turn(1), late)], "timeout", vec!["upstream_error"]),
        row(vec![(Turn(1), Does("sleep 120"))], "timeout", vec![]),
        row(vec![(Turn(4), Does("sleep 120"))], "lifecycle_timeout", vec![]),
    ]
}

/// A reply as a stream.
fn events(model: &str, deltas: &[Value], reason: Option<&str>) -> Vec<u8> {
    let mut body = String::new();
    let mut event = |value: &Value| body.push_str(&format!("data: {value}\n\n"));
    for delta in deltas {
        event(&json!({ "model": model, "choices": [{ "index": 0, "delta": delta }] }));
    }
    if let Some(reason) = reason {
        event(
            &json!({ "model": model, "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }],
            "usage": { "prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16 } }),
        );
        body.push_str("data: [DONE]\n\n");
    }
    stream("", body.as_bytes())
}

fn says(text: &str) -> Vec<u8> {
    events(MODEL, &[json!({ "content": text })], Some("stop"))
}

fn calls(all: &[(String, String)]) -> Vec<u8> {
    let call = |(at, (name, arguments)): (usize, &(String, String))| {
        json!({ "index": at, "id": format!("call_{at}"), "type": "function",
            "function": { "name": name, "arguments": arguments } })
    };
    let all: Vec<Value> = all.iter().enumerate().map(call).collect();
    events(MODEL, &[json!({ "tool_calls": all })], Some("tool_calls"))
}

fn faulty(fault: Fault) -> Vec<u8> {
    match fault {
        Status(status) => {
            let body = json!({ "error": { "message": "the server's own words", "type": "x" } })
                .to_string();
            let length = body.len();
            format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
        }
        Closed => Vec::new(),
        Cut => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
            format!("{head}40\r\ndata: {{\"mod").into_bytes()
        }
        ErrorEvent => {
            stream("", b"data: {\"error\":{\"message\":\"no\",\"code\":\"overloaded\"}}\n\n")
        }
        ReasoningOnly => events(MODEL, &[json!({ "reasoning_content": "hm" })], Some("stop")),
        // With tokens and without text it would be reasoning that is not shown.
        Empty => {
            let body = String::from_utf8(says(" \n")).unwrap();
            body.replace("\"completion_tokens\":5", "\"completion_tokens\":0").into_bytes()
        }
        OtherModel => events("another-model", &[json!({ "content": "x" })], Some("stop")),
        BadTool => calls(&[("read".into(), "{\"path\": ".into())]),
        CutTool => {
            let body = String::from_utf8(faulty(BadTool)).unwrap();
            body.replace("\"tool_calls\"}", "\"length\"}").into_bytes()
        }
        Says(text) => says(text),
        SaysLate(seconds, text) => {
            std::thread::sleep(Duration::from_secs(seconds));
            says(text)
        }
        Thinks(text) => {
            let all = [json!({ "reasoning_content": text }), json!({ "content": "All done." })];
            events(MODEL, &all, Some("stop"))
        }
        Does(command) => calls(&[("bash".into(), json!({ "command": command }).to_string())]),
    }
}

/// The fixture's own turns, and who comes after the implementer.
fn scripted(turn: usize, script: &Value) -> Vec<u8> {
    let turn = script["turns"].get(turn).unwrap_or(&script["closing"]);
    match turn["tool_calls"].as_array() {
        Some(all) => {
            let all = all.iter().map(|call| {
                (call["name"].as_str().unwrap().to_owned(), call["arguments"].to_string())
            });
            calls(&all.collect::<Vec<_>>())
        }
        None => says(turn["text"].as_str().unwrap()),
    }
}

/// A run with these faults.
fn run(built: &Built, faults: Vec<(When, Fault)>) -> Left {
    let faults_hang =
        faults.iter().any(|(_, fault)| matches!(fault, SaysLate(..) | Does("sleep 120")));
    let server = player(faults);
    let mut trial = Trial::built(built.clone());
    // An agent that is answered the same for ever is ended by a limit.
    trial.proxy.requests = 40;
    if faults_hang {
        trial.clocks.idle = Duration::from_secs(25);
    }
    trial.served_at(server.url("/v1"))
}

/// A server that plays the fixture's script for one run, with these faults.
pub fn player(faults: Vec<(When, Fault)>) -> Server {
    let path = project().join("fixtures/r1-string-slugify/script.json");
    let script: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (asked, implementer) = (AtomicU32::new(0), Mutex::new(Vec::<usize>::new()));
    raw(move |request: &Asked| {
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            let fault = faults.iter().find(|(when, _)| *when == Probe);
            return fault.map_or_else(|| says("ready"), |(_, fault)| faulty(*fault));
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let said = body["messages"].as_array().unwrap().iter();
        let turn = said.filter(|message| message["role"] == "assistant").count();
        // The retrospective has the implementer's tools, and comes when the five turns are over.
        let writes = body["tools"].to_string().contains("\"write\"");
        let mut seen = implementer.lock().unwrap();
        let works = writes && !seen.contains(&usize::MAX);
        if !works {
            seen.push(usize::MAX);
            let fault = faults.iter().find(|(when, _)| *when == Later);
            return fault
                .map_or_else(|| scripted(usize::MAX, &script), |(_, fault)| faulty(*fault));
        }
        let first = !seen.contains(&turn);
        seen.push(turn);
        let hit = |(when, _): &&(When, Fault)| match when {
            Once(at) => first && *at == turn,
            Turn(at) => *at == turn,
            Always => true,
            Later | Probe => false,
        };
        faults.iter().find(hit).map_or_else(|| scripted(turn, &script), |(_, fault)| faulty(*fault))
    })
}

/// What is wrong with a row's run.
fn wrong(row: &Row, left: &Left) -> Option<String> {
    let report = left.report();
    let class = report.failure_class.map(|class| class.as_str());
    let listed: Vec<&str> = report.contributing.iter().map(|c| c.class.as_str()).collect();
    let missing = row.contributing.iter().any(|class| !listed.contains(class));
    let status = if row.class.is_none() { "rehearsed" } else { "fail" };
    let said = !matches!(row.faults[..], [(Turn(_), Status(_))])
        || report.server_said.as_deref() == Some("the server's own words");
    (class != row.class || missing || report.status.as_str() != status || !said).then(|| {
        format!(
            "{:?}: expected {:?} beside {:?}, found {class:?} beside {listed:?}, the server said {:?}: {:#?}",
            row.faults, row.class, row.contributing, report.server_said, report.blockers
        )
    })
}

#[expect(clippy::print_stderr, reason = "the figure must be seen")]
fn all_right(name: &str, built: &Built, rows: &[Row]) {
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let left = run(built, row.faults.clone());
                    faults.lock().unwrap().extend(wrong(row, &left));
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    eprintln!("{name}: {} of {} causes right", rows.len() - faults.len(), rows.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_fault_of_the_table_is_the_cause_with_the_stand_in() {
    all_right(
        "stand-in",
        &understudy(),
        &[table(), ends()].into_iter().flatten().collect::<Vec<_>>(),
    );
}

#[test]
fn every_fault_of_the_table_is_the_cause_with_real_case() {
    let Some(built) = real_case() else { return };
    all_right(
        "real Case",
        &built,
        &[table(), ends(), hangs()].into_iter().flatten().collect::<Vec<_>>(),
    );
}
