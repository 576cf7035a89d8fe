//! The table of faults: each on the wire and in the agent's work, alone and behind one that the agent recovers from, in runs
//! of a real provider against a scripted server that speaks one of the wire APIs. The class of each must be its cause, and
//! what was recovered from must be listed and not decide. With the stand-in always; with real Case where a mirror of it is
//! named, then every row over every API.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use admit::proxy::api::{End, Said, WireApi, list};
use admit::record::admission::Api;
use admit::record::fixture;
use admit::record::wire::ReasoningField;
use serde_json::{Value, json};

use crate::loopback::{Asked, Server};
use crate::trial::{Built, Left, PYTHON, QUICK, Trial, real_case, script, understudy};
use crate::upstream::{MODEL, raw, stream, with_a_list};
use crate::util::{faults, tell};

/// What the server does in place of the scripted turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    Status(u16),
    /// Closes without a reply.
    Closed,
    /// Ends the connection in the middle of a stream.
    Cut,
    /// Ends the stream before its last event.
    MissingDone,
    ErrorEvent,
    Refuses,
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
    BadTool, Closed, Cut, CutTool, Does, Empty, ErrorEvent, MissingDone, OtherModel, ReasoningOnly,
    Refuses, Says, SaysLate, Status, Thinks,
};

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
    detail: &'static str,
    /// What must be listed beside it.
    contributing: Vec<&'static str>,
}

const BROKEN: &str = "<<<AGENT_RESULT\n{\"status\": \nAGENT_RESULT>>>";
pub const FAILED: &str =
    "<<<AGENT_RESULT\n{\"status\": \"failed\", \"error\": \"no\"}\nAGENT_RESULT>>>";

/// Faults of a server without which the run would have gone on, each with its class and, where it has one, its detail.
fn of_the_server() -> Vec<(When, Fault, &'static str, &'static str)> {
    vec![
        (Turn(0), Status(400), "upstream_error", "http_4xx"),
        (Turn(0), Status(401), "auth_unavailable", "http_401"),
        (Turn(0), Status(403), "auth_unavailable", "http_403"),
        (Turn(0), Status(404), "upstream_error", "http_404"),
        (Turn(1), Status(429), "upstream_error", "http_429"),
        (Turn(1), Status(500), "upstream_error", "http_5xx"),
        (Turn(2), Status(502), "upstream_error", "http_5xx"),
        (Turn(2), Status(529), "upstream_error", "http_5xx"),
        (Turn(3), Closed, "stream_truncated", "no_reply_head"),
        (Turn(1), Cut, "stream_truncated", "cut"),
        (Turn(1), MissingDone, "stream_truncated", "missing_done"),
        (Turn(1), ErrorEvent, "upstream_error", "error_after_200"),
        (Turn(1), Refuses, "upstream_error", "refusal"),
        (Turn(1), ReasoningOnly, "response_shape_unavailable", "reasoning_only_no_close"),
        (Turn(1), Empty, "empty_reply", "empty"),
        (Turn(4), OtherModel, "model_mismatch", "other_model"),
        (Always, BadTool, "malformed_tool_call", "arguments_not_json"),
        (Always, CutTool, "malformed_tool_call", "cut_by_length"),
        (Turn(0), Says("All done."), "agent_protocol", ""),
        (Turn(4), Says("All done."), "agent_protocol", ""),
        (Turn(4), Says(BROKEN), "agent_protocol", ""),
        (Turn(4), Says(FAILED), "agent_protocol", ""),
    ]
}

/// Work that is not what this fixture asks for.
fn of_the_work(task: &str) -> Vec<(When, Fault, &'static str, &'static str)> {
    let (wrong, tests) = match task {
        QUICK => (
            "echo 'export const parse = () => 0, format = () => \"\"' > src/duration.ts; git commit -qam x",
            "echo > tests/duration.test.ts; git add -A; git commit -qm x",
        ),
        _ => (
            "echo 'def slugify(text): return text' > strings.py; git commit -qam x",
            "echo > tests/test_strings.py; git add -A; git commit -qm x",
        ),
    };
    let does = |command, class| (Turn(3), Does(command), class, "");
    vec![
        does("true", "judge_rejected"),
        does(wrong, "judge_rejected"),
        does("echo x > more.txt; git add -A; git commit -qm x", "writes_outside"),
        does(tests, "writes_outside"),
    ]
}

fn alone(all: Vec<(When, Fault, &'static str, &'static str)>) -> Vec<Row> {
    let row = |(when, fault, class, detail)| Row {
        faults: vec![(when, fault)],
        class: Some(class),
        detail,
        contributing: vec![],
    };
    all.into_iter().map(row).collect()
}

/// Faults that an agent recovers from, each with what it is listed as.
const RECOVERED: [(Fault, &str); 2] =
    [(Status(500), "upstream_error"), (Status(429), "upstream_error")];

fn table(task: &str) -> Vec<Row> {
    let decisive = || [of_the_server(), of_the_work(task)].concat();
    let mut rows = alone(decisive());
    let row = |faults, class, detail, contributing| Row { faults, class, detail, contributing };
    // After the work nothing decides.
    for fault in
        [Status(401), Status(500), Cut, Empty, Says("All done."), Says(BROKEN), Says(FAILED)]
    {
        rows.push(row(vec![(Later, fault)], None, "", vec![]));
    }
    for (fault, listed) in RECOVERED {
        rows.push(row(vec![(Once(0), fault)], None, "", vec![listed]));
    }
    // The agent sees that the reply was cut, and asks again.
    rows.push(row(vec![(Once(1), BadTool)], None, "", vec!["malformed_tool_call"]));
    // First one that is recovered from, then one that decides.
    for (n, (when, fault, class, detail)) in decisive().into_iter().enumerate() {
        let (first, listed) = RECOVERED[n % 2];
        let turn = match when {
            Turn(0) | Always => continue,
            _ => Once(0),
        };
        rows.push(row(vec![(turn, first), (when, fault)], Some(class), detail, vec![listed]));
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
        let row =
            |faults, contributing| Row { faults, class: Some(class), detail: "", contributing };
        rows.push(row(vec![(when, fault)], vec![]));
        rows.push(row(vec![(Once(0), Status(500)), (when, fault)], vec!["upstream_error"]));
    }
    rows
}

/// Hangs, before the work is committed and after it: each of them lasts as long as the clock.
fn hangs() -> Vec<Row> {
    let row =
        |faults, class, contributing| Row { faults, class: Some(class), detail: "", contributing };
    let late = SaysLate(120, "All done.");
    vec![
        row(vec![(Turn(1), late)], "timeout", vec![]),
        row(vec![(Turn(4), late)], "lifecycle_timeout", vec![]),
        row(vec![(Once(0), Status(429)), (Turn(1), late)], "timeout", vec!["upstream_error"]),
        row(vec![(Turn(1), Does("sleep 120"))], "timeout", vec![]),
        row(vec![(Turn(4), Does("sleep 120"))], "lifecycle_timeout", vec![]),
    ]
}

/// What is said in the reply with this number, before anything is.
pub fn silence(number: usize) -> Said<'static> {
    let reasoning = (ReasoningField::ReasoningContent, Vec::new());
    Said { model: MODEL, number, reasoning, text: None, calls: Vec::new(), end: End::Reason }
}

/// As a stream whose end is the connection's: what some clients would take for an end however it comes.
fn streamed(events: &[String]) -> Vec<u8> {
    stream("", events.concat().as_bytes())
}

/// The reply with this number, over this API.
fn faulty(api: &dyn WireApi, number: usize, fault: Fault) -> Vec<u8> {
    let plain = silence(number);
    let says = |text| Said { text: Some(text), ..plain.clone() };
    let calls = |name, arguments| Said { calls: vec![(0, name, arguments)], ..plain.clone() };
    let half = || calls("read", "{\"path\": ".to_owned());
    let said = match fault {
        Status(status) => {
            let body = api.error("x", "the server's own words").to_string();
            let length = body.len();
            return format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes();
        }
        Closed => return Vec::new(),
        Cut => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
            let first = &api.render(&says("All done."), true)[0];
            return format!("{head}{:x}\r\n{first}\r\n40\r\ndata: {{\"mod", first.len())
                .into_bytes();
        }
        MissingDone => {
            let mut events = api.render(&says("All done."), true);
            events.pop();
            return streamed(&events);
        }
        ErrorEvent => Said { end: End::Error("overloaded"), ..plain },
        Refuses => Said { end: End::Refused, ..says("I cannot help with that.") },
        ReasoningOnly => Said { reasoning: (plain.reasoning.0, vec!["hm"]), ..plain },
        Empty => says(" \n"),
        OtherModel => Said { model: "another-model", ..says("x") },
        BadTool => half(),
        CutTool => Said { end: End::Length, ..half() },
        Says(text) => says(text),
        SaysLate(seconds, text) => {
            std::thread::sleep(Duration::from_secs(seconds));
            says(text)
        }
        Thinks(text) => Said { reasoning: (plain.reasoning.0, vec![text]), ..says("All done.") },
        Does(command) => calls("bash", json!({ "command": command }).to_string()),
    };
    streamed(&api.render(&said, true))
}

fn scripted(api: &dyn WireApi, number: usize, turn: &fixture::Turn) -> Vec<u8> {
    let calls = turn.tool_calls.iter().enumerate().map(|(at, call)| {
        (at, call.name.as_str(), Value::Object(call.arguments.clone()).to_string())
    });
    let said = Said { text: turn.text.as_deref(), calls: calls.collect(), ..silence(number) };
    streamed(&api.render(&said, true))
}

/// How many turns of the model's a request tells of: each is what it said between two words of the agent.
fn turns(request: &Value) -> usize {
    let all = request.get("messages").or(request.get("input")).unwrap().as_array().unwrap();
    let of_model = |item: &Value| {
        item["role"] == "assistant"
            || ["function_call", "reasoning"].iter().any(|kind| item["type"] == *kind)
    };
    let all: Vec<bool> = all.iter().map(of_model).collect();
    all.iter().enumerate().filter(|(at, model)| **model && (*at == 0 || !all[at - 1])).count()
}

fn run(built: &Built, task: &'static str, api: Api, faults: Vec<(When, Fault)>) -> Left {
    let faults_hang =
        faults.iter().any(|(_, fault)| matches!(fault, SaysLate(..) | Does("sleep 120")));
    let server = player(task, api, faults);
    let mut trial = Trial::built(built.clone()).task(task).speaking(api);
    // An agent that is answered the same for ever is ended by a limit.
    trial.proxy.requests = 40;
    if faults_hang {
        trial.clocks.idle = Duration::from_secs(25);
    }
    trial.served_at(server.url("/v1"))
}

/// A server that speaks this API and plays this fixture's script for one run, with these faults.
pub fn player(task: &str, api: Api, faults: Vec<(When, Fault)>) -> Server {
    let (api, script) = (list::of(api), script(task));
    let (asked, implementer) = (AtomicU32::new(0), Mutex::new(Vec::<usize>::new()));
    raw(move |request: &Asked| {
        let probed = asked.fetch_add(1, Ordering::SeqCst) > 0;
        if !probed {
            let fault = faults.iter().find(|(when, _)| *when == Probe);
            return faulty(api, 0, fault.map_or(Says("ready"), |(_, fault)| *fault));
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let turn = turns(&body);
        // The retrospective has the implementer's tools, and comes when the five turns are over.
        let writes = api.outline(&body).1.iter().any(|tool| tool == "write");
        let mut seen = implementer.lock().unwrap();
        let works = writes && !seen.contains(&usize::MAX);
        let first = works && !seen.contains(&turn);
        seen.push(if works { turn } else { usize::MAX });
        let hit = |(when, _): &&(When, Fault)| match when {
            Once(at) => first && *at == turn,
            Turn(at) => works && *at == turn,
            Always => works,
            Later => !works,
            Probe => false,
        };
        match faults.iter().find(hit) {
            Some((_, fault)) => faulty(api, turn, *fault),
            None => {
                let own = script.turns.get(turn).filter(|_| works);
                scripted(api, turn, own.unwrap_or(&script.closing))
            }
        }
    })
}

fn wrong(row: &Row, left: &Left) -> Option<String> {
    let report = left.report();
    let class = report.failure_class.map(|class| class.as_str());
    let listed: Vec<&str> = report.contributing.iter().map(|c| c.class.as_str()).collect();
    let missing = row.contributing.iter().any(|class| !listed.contains(class));
    let status = if row.class.is_none() { "rehearsed" } else { "fail" };
    let said = !matches!(row.faults[..], [(Turn(_), Status(_))])
        || report.server_said.as_deref() == Some("the server's own words");
    let told = row.class.filter(|_| !row.detail.is_empty()).is_none_or(|class| {
        let told = format!("{class}: {}", row.detail);
        left.code == 8 && report.blockers.iter().any(|line| line.starts_with(&told))
    });
    // The sealed run reads back, and its marker says why it failed.
    let marked = report.failure_class.is_none_or(|class| {
        let marker = left.text(&format!("backend/{}", class.marker()));
        marker.starts_with(report.failure_reason.as_deref().unwrap_or("?"))
    });
    let whole = left.check.faults.is_empty() && marked && report.status.as_str() == status;
    let right = class == row.class && !missing && whole && said && told;
    (!right).then(|| {
        format!(
            "{:?}: expected {:?} {} beside {:?}, found {class:?} beside {listed:?}, exit code {}, the server said {:?}: {:#?}",
            row.faults,
            row.class,
            row.detail,
            row.contributing,
            left.code,
            report.server_said,
            report.blockers
        )
    })
}

/// The API and the row of each run whose cause is wrong.
fn wrong_causes(
    name: &str,
    built: &Built,
    task: &'static str,
    api: Api,
    rows: &[Row],
) -> Vec<String> {
    let faults = faults(rows, |row| {
        let left = run(built, task, api, row.faults.clone());
        wrong(row, &left).map(|what| format!("{}: {what}", api.as_str()))
    });
    let (right, all) = (rows.len() - faults.len(), rows.len());
    tell(&format!("{name} over {}: {right} of {all} causes right", api.as_str()));
    faults
}

#[test]
fn every_fault_of_the_table_is_the_cause_with_the_stand_in() {
    let built = understudy();
    let rows: Vec<Row> = table(QUICK).into_iter().chain(ends()).collect();
    let mut wrong = wrong_causes("stand-in", &built, QUICK, Api::OpenaiChat, &rows);
    for api in with_a_list().map(WireApi::api).filter(|api| *api != Api::OpenaiChat) {
        wrong.extend(wrong_causes("stand-in", &built, QUICK, api, &alone(of_the_server())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_fault_of_the_table_is_the_cause_with_real_case() {
    let Some(built) = real_case() else { return };
    let rows: Vec<Row> = table(PYTHON).into_iter().chain(ends()).chain(hangs()).collect();
    let mut wrong = Vec::new();
    for api in with_a_list().map(WireApi::api) {
        wrong.extend(wrong_causes("real Case", &built, PYTHON, api, &rows));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
