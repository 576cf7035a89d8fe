//! The stand-in and real Case, seen through admit, look alike: `fixtures/understudy-shape.json` is the list of what both
//! were seen to do, and what is seen here is held against it in both directions. The files that they leave in the box are
//! not looked at: nothing of a workspace's state goes into evidence.

use std::collections::{BTreeMap, BTreeSet};

use admit::record::evidence::RunStatus;
use admit::record::wire::ReasoningField;
use regex::Regex;
use serde_json::{Value, json};

use crate::files::shipped;
use crate::trial::{Built, Left, Trial, after_probe, real_case, understudy};
use crate::upstream::Behaviour;

fn keys(value: &Value) -> Vec<String> {
    let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    keys
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Everything that was seen, over all scenarios.
#[derive(Debug, Default)]
struct Seen {
    event_fields: BTreeMap<String, BTreeSet<Vec<String>>>,
    stderr_fields: BTreeMap<String, BTreeSet<Vec<String>>>,
    stdout_kinds: BTreeSet<String>,
    messages: BTreeSet<(String, String, Vec<String>)>,
    tools_by_agent: BTreeMap<String, Vec<String>>,
    results: BTreeSet<Vec<String>>,
    artifacts: BTreeSet<Vec<String>>,
}

fn play(built: &Built, scenario: &str) -> Left {
    let trial = Trial::built(built.clone());
    let served = |fault| Trial::built(built.clone()).served(&after_probe(fault));
    match scenario {
        "success" => trial.scripted(),
        "success_standard" => {
            let profile = |of: &str| format!("\"profile\": \"{of}\"");
            let change = |text: String| text.replace(&profile("tiny"), &profile("standard"));
            trial.fixture("fixture.json", change).scripted()
        }
        "broken_envelope" => {
            let broken = json!({ "text": "<<<AGENT_RESULT\n{\"status\": \nAGENT_RESULT>>>\n" });
            trial.turns(|turns| *turns = vec![broken; 3]).scripted()
        }
        "http_401" => served(Behaviour::Status(401)),
        "http_5xx" => served(Behaviour::Status(500)),
        "stream_cut" => served(Behaviour::Cut),
        "reasoning_only" => served(Behaviour::ReasoningOnly(ReasoningField::Reasoning)),
        "no_envelope" => served(Behaviour::Plays),
        "model_refused" => served(Behaviour::Status(404)),
        "connection_refused" => trial.deserted(),
        other => panic!("nobody plays {other}"),
    }
}

/// The events without those of tools, in the words of the list.
fn event_words(event: &Value) -> Option<String> {
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    Some(match text("event") {
        "tool_start" | "tool_end" => return None,
        "phase_start" => format!("phase_start {}", text("phase")),
        "phase_end" => format!("phase_end {} {}", text("phase"), text("outcome")),
        "status_changed" => format!("status_changed {}", text("to")),
        "pipeline_end" => format!("pipeline_end {}", text("outcome")),
        other => other.to_owned(),
    })
}

fn requests(left: &Left) -> Vec<(String, Value)> {
    let files = left.files();
    let received = files.iter().filter(|(path, _)| path.ends_with(".received"));
    received
        .map(|(_, bytes)| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            (head.to_owned(), serde_json::from_str(body).unwrap())
        })
        .collect()
}

/// Holds one run against its scenario, and takes down what was seen.
fn hold(name: &str, left: &Left, list: &Value, seen: &mut Seen) {
    let want = &list["scenarios"][name];
    let report = left.report();
    assert_eq!(json!(report.backend_exit_code), want["exit_code"], "{name}");
    let events = lines(&left.text("backend/events.jsonl"));
    let told: Vec<String> = events.iter().filter_map(event_words).collect();
    assert_eq!(told, words(&want["events"]), "{name}");
    for event in &events {
        let kind = event["event"].as_str().unwrap().to_owned();
        seen.event_fields.entry(kind).or_default().insert(keys(event));
        if let Some(result) = event.get("result").filter(|result| result.is_object()) {
            seen.results.insert(keys(result).into_iter().filter(|k| k != "rawOutput").collect());
            if result["artifacts"].is_object() {
                seen.artifacts.insert(keys(&result["artifacts"]));
            }
        }
    }
    // Heartbeats are a matter of time; what kinds there are is not.
    let kinds: Vec<(String, Regex)> = list["stdout_kinds"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(kind, pattern)| (kind.clone(), Regex::new(pattern.as_str().unwrap()).unwrap()))
        .collect();
    let stdout = left.text("backend/stdout.log");
    let mut told = Vec::new();
    for line in stdout.lines().filter(|line| !line.trim().is_empty()) {
        let kind = kinds.iter().find(|(_, pattern)| pattern.is_match(line));
        if let Some((kind, _)) = kind {
            seen.stdout_kinds.insert(kind.clone());
            told.push(kind.clone());
        }
    }
    told.retain(|kind| kind != "heartbeat");
    let mut wanted = words(&want["stdout"]);
    wanted.retain(|kind| kind != "heartbeat");
    assert_eq!(told, wanted, "{name}: {stdout}");
    let stderr = lines(&left.text("backend/stderr.log"));
    let told: Vec<String> = stderr
        .iter()
        .map(|line| {
            let msg = line["msg"].as_str().unwrap();
            match line["status"].as_str().filter(|_| msg.starts_with("phase:")) {
                Some(status) => format!("{msg} {status}"),
                None => msg.to_owned(),
            }
        })
        .collect();
    assert_eq!(told, words(&want["stderr"]), "{name}");
    for line in &stderr {
        let msg = line["msg"].as_str().unwrap().to_owned();
        seen.stderr_fields.entry(msg).or_default().insert(keys(line));
    }
    let agents: Vec<&str> = stderr
        .iter()
        .filter(|line| line["msg"] == "spawning agent")
        .map(|line| line["agent"].as_str().unwrap())
        .collect();
    assert_eq!(json!(agents.len()), want["agents_started"], "{name}");
    let text = left.text("backend/events.jsonl") + &left.text("backend/stderr.log");
    for error in words(&want["result_errors"]) {
        assert!(text.contains(&error), "{name}: no \"{error}\" in {text}");
    }
    if let Some(class) = want["failure_class"].as_str() {
        assert!(text.contains(class), "{name}: no {class}");
    }
    let asked = requests(left);
    // What is tried again is tried up to three times; a try can fail before it comes to the door. Where nobody listens
    // the door answers 502, and a stream that is cut at once looks like no answer at all: both may be tried again.
    let count = want["requests"].as_u64().unwrap_or(asked.len() as u64);
    let wanted = match name {
        "http_5xx" => count - 3..=count,
        "connection_refused" => 6..=9,
        "stream_cut" => count..=count * 3,
        _ => count..=count,
    };
    assert!(wanted.contains(&(asked.len() as u64)), "{name}: {} requests", asked.len());
    hold_requests(name, &asked, &agents, &list["request"], seen);
}

fn hold_requests(
    name: &str,
    asked: &[(String, Value)],
    agents: &[&str],
    want: &Value,
    seen: &mut Seen,
) {
    let line =
        format!("{} {} HTTP/1.1", want["method"].as_str().unwrap(), want["path"].as_str().unwrap());
    let mut agents = agents.iter();
    let mut agent = "";
    let mut last = Value::Null;
    for (head, body) in asked {
        assert_eq!(head.lines().next(), Some(line.as_str()), "{name}");
        let headers: BTreeSet<String> = head
            .lines()
            .skip(1)
            .map(|line| line.split(':').next().unwrap().to_ascii_lowercase())
            .collect();
        for header in words(&want["headers"]) {
            assert!(headers.contains(&header), "{name}: no {header} in {headers:?}");
        }
        assert_eq!(keys(body), words(&want["keys"]), "{name}");
        let messages = body["messages"].as_array().unwrap();
        // The same request again is another try, a request without an answer in it another agent.
        if *body != last && messages.iter().all(|message| message["role"] != "assistant") {
            agent = agents.next().unwrap_or(&agent);
        }
        last = body.clone();
        for message in messages {
            let content = match &message["content"] {
                Value::Null => "null",
                Value::String(_) => "string",
                Value::Array(_) => "parts",
                other => panic!("{name}: {other}"),
            };
            let role = message["role"].as_str().unwrap().to_owned();
            seen.messages.insert((role, content.to_owned(), keys(message)));
        }
        let mut tools = Vec::new();
        for tool in body["tools"].as_array().unwrap() {
            assert_eq!(keys(tool), words(&want["tool_fields"]), "{name}");
            assert_eq!(keys(&tool["function"]), words(&want["function_fields"]), "{name}");
            tools.push(tool["function"]["name"].as_str().unwrap().to_owned());
        }
        let known = seen.tools_by_agent.entry(agent.to_owned()).or_insert_with(|| tools.clone());
        assert_eq!(*known, tools, "{name}: {agent}");
    }
}

fn lists(value: &Value) -> BTreeMap<String, BTreeSet<Vec<String>>> {
    let list = |(name, lists): (&String, &Value)| {
        (name.clone(), lists.as_array().unwrap().iter().map(words).collect())
    };
    value.as_object().unwrap().iter().map(list).collect()
}

/// Plays every scenario with what was built; nothing may be seen that is not listed, or be listed and not seen.
fn holds(built: &Built) {
    let list = shipped("fixtures/understudy-shape.json");
    let mut seen = Seen::default();
    let mut pairs = BTreeSet::new();
    for name in keys(&list["scenarios"]) {
        let left = play(built, &name);
        hold(&name, &left, &list, &mut seen);
        assert!(left.check.faults.is_empty(), "{name}: {:?}", left.check.faults);
        let report = left.report();
        let success = name.starts_with("success");
        let status = if success { RunStatus::Rehearsed } else { RunStatus::Fail };
        assert_eq!(report.status, status, "{name}: {:#?}", report.blockers);
        if let Some(class) = report.failure_class {
            let told = format!("{}: ", class.as_str());
            let detail = report.blockers.iter().find_map(|line| line.strip_prefix(&told));
            let detail = detail.unwrap().split(" in exchange").next().unwrap().to_owned();
            pairs.insert((class.as_str(), detail));
        }
    }
    // To the provider seven of the eight are one and the same; to whoever watches the wire no two are.
    assert_eq!(pairs.len(), 8, "{pairs:#?}");
    assert_eq!(seen.event_fields, lists(&list["event_fields"]));
    assert_eq!(seen.stderr_fields, lists(&list["stderr_fields"]));
    assert_eq!(seen.stdout_kinds.into_iter().collect::<Vec<_>>(), keys(&list["stdout_kinds"]));
    let rows = list["request"]["messages"].as_array().unwrap().iter();
    let messages: BTreeSet<(String, String, Vec<String>)> = rows
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            (text("role"), text("content"), words(&row["fields"]))
        })
        .collect();
    assert_eq!(seen.messages, messages);
    let tools: BTreeMap<String, Vec<String>> = list["request"]["tools_by_agent"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(agent, tools)| (agent.clone(), words(tools)))
        .collect();
    assert_eq!(seen.tools_by_agent, tools);
    let set = |value: &Value| value.as_array().unwrap().iter().map(words).collect::<BTreeSet<_>>();
    assert_eq!(seen.results, set(&list["agent_result_fields"]));
    assert_eq!(seen.artifacts, set(&list["artifact_fields"]));
}

#[test]
fn the_stand_in_is_as_it_was_recorded() {
    holds(&understudy());
}

#[test]
fn real_case_is_as_it_was_recorded() {
    if let Some(case) = real_case() {
        holds(&case);
    }
}
