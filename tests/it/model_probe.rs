//! `admit model add --probe`: the endpoint is asked over each wire API, nothing is recorded, and what is proposed is a command
//! that can be typed as it stands.

use std::sync::Mutex;

use admit::proxy::api::{WireApi, list};
use admit::record::Record as _;
use admit::record::admission::Api;
use admit::record::fixture::{Script, ToolCall, Turn};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::loopback::{Reply, Server};
use crate::run::row;
use crate::stop::{asked, silent, told};
use crate::upstream::{Behaviour, MODEL, Mock, key, stream, with_a_list};
use crate::util::{Run, World};

const PAIR: &str = "lab/test-model";

/// A model that says ready, and then calls the tool that it is offered.
fn model(api: Api) -> Mock {
    let arguments = json!({ "word": "ready" }).as_object().unwrap().clone();
    let call = ToolCall { name: "say".into(), arguments };
    let turns = vec![Turn { text: None, tool_calls: vec![call] }];
    let closing = Turn { text: Some("ready".into()), tool_calls: Vec::new() };
    let script = Script { schema: Script::SCHEMA.to_string(), turns, closing };
    Mock::new(script, MODEL).speaking(list::of(api))
}

/// A server that has `listed` in its list and serves these APIs, each at its path.
fn server(listed: &'static str, mocks: Vec<(Api, Mock)>) -> Server {
    let mocks: Vec<_> = mocks.into_iter().map(|(api, mock)| (api, Mutex::new((mock, 0)))).collect();
    Server::http(move |_, asked| {
        if asked.method == "GET" {
            let entry = json!({ "id": listed, "object": "model", "max_model_len": 40_960 });
            return Reply::ok(json!({ "object": "list", "data": [entry] }).to_string());
        }
        let path = |api: &Api| asked.target == format!("/v1{}", list::of(*api).path());
        let Some((_, mock)) = mocks.iter().find(|(api, _)| path(api)) else {
            let error = json!({ "error": { "message": "no such path", "type": "not_found" } });
            return Reply::Answer(404, Vec::new(), error.to_string().into());
        };
        let (mock, number) = &mut *mock.lock().unwrap();
        *number += 1;
        Reply::Raw(stream("", &mock.reply(*number - 1, true).body()))
    })
}

fn world(server: &Server) -> World {
    let mut world = World::new();
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", server.url("/v1"));
    world
}

fn probe(world: &World, more: &[&str]) -> Run {
    let args = ["model", "add", PAIR, "--probe", "--network", "this-machine", "--json"];
    let credential = ["--credential", "none"];
    let credential = if more.contains(&"--credential") { &[][..] } else { &credential };
    let run = world.admit(&[&args[..], credential, more].concat());
    // Whatever it finds, it approves nothing.
    world.admit(&["model", "show", PAIR]).expect(2);
    run
}

fn offer<'a>(found: &'a Value, api: &str) -> &'a Value {
    found["apis"].as_array().unwrap().iter().find(|offer| offer["api"] == api).unwrap()
}

#[test]
fn what_an_endpoint_offers_is_proposed_as_a_command_that_can_be_typed() {
    let all: Vec<Api> = with_a_list().map(WireApi::api).collect();
    for &only in &all {
        let server = server(MODEL, vec![(only, model(only))]);
        let world = world(&server);
        let found = probe(&world, &["--max-tokens", "2048"]).expect(0).json();
        assert_eq!(found["apis"].as_array().unwrap().len(), all.len(), "{found:#}");
        for &api in &all {
            let offer = offer(&found, api.as_str());
            let class = if api == only { "ok_text" } else { "upstream_error" };
            assert_eq!(offer["answer"]["class"], class, "{offer:#}");
            assert_eq!(offer["listed"], true);
            assert_eq!(offer["context_window"], 40_960);
            let tools = if api == only { json!("ok_tools") } else { Value::Null };
            assert_eq!(offer["tools"]["class"], tools, "{offer:#}");
        }
        let command = found["proposal"].as_str().unwrap();
        world.shell(command).expect(0);
        let record = world.admit(&["model", "show", PAIR]).expect(0).json();
        assert_eq!(record["api"], only.as_str());
        assert_eq!(record["context_window"], 40_960);
        assert_eq!(record["max_tokens"], 2048);
        world.admit(&["model", "check", PAIR]).expect(0);
        // Once more, beside the record that is there: the proposal replaces it.
        let again = ["model", "add", PAIR, "--probe", "--network", "this-machine"];
        let again = world.admit(&[&again[..], &["--credential", "none"]].concat()).expect(0);
        assert!(again.stdout().contains("--replace"), "{again}");
        // The script is over: the tool is not called any more.
        assert!(again.stdout().contains("content; a tool was offered"), "{again}");
        assert_eq!(world.admit(&["model", "show", PAIR]).expect(0).json(), record);
    }
}

#[test]
fn an_api_over_which_tool_calls_come_whole_is_proposed_before_one_that_only_answers() {
    let chat = model(Api::OpenaiChat).misbehaving(Behaviour::CutTool).during(1..9);
    let thinks = Behaviour::ReasoningOnly(admit::record::wire::ReasoningField::Reasoning);
    let late = model(Api::AnthropicMessages).misbehaving(Behaviour::Delayed).during(0..1);
    let mocks = vec![
        (Api::OpenaiChat, chat),
        (Api::OpenaiResponses, model(Api::OpenaiResponses).misbehaving(thinks)),
        (Api::AnthropicMessages, late),
    ];
    let server = server(MODEL, mocks);
    let found = probe(&world(&server), &[]).expect(0).json();
    let chat = offer(&found, "openai-chat");
    assert_eq!(chat["answer"]["class"], "ok_text");
    assert_eq!(chat["tools"]["detail"], "cut_by_length");
    let responses = offer(&found, "openai-responses");
    assert_eq!(responses["answer"]["class"], "response_shape_unavailable");
    assert_eq!(responses["reasoning"], json!(["reasoning"]));
    assert_eq!(responses["tools"], Value::Null);
    assert_eq!(offer(&found, "anthropic-messages")["reasoning"], json!(["reasoning"]));
    let command = found["proposal"].as_str().unwrap();
    assert!(command.contains("--api anthropic-messages"), "{command}");
}

#[test]
fn a_model_is_proposed_as_one_that_reasons_where_it_takes_to_be_asked_so() {
    // What of a request says that an agent was told so.
    let written = ["\"role\":\"developer\"", "\"effort\":\"none\"", "\"type\":\"disabled\""];
    for api in with_a_list().map(WireApi::api) {
        for (reasons, takes) in [(true, true), (true, false), (false, true)] {
            let thinks = Mutex::new((model(api).misbehaving(Behaviour::Delayed).during(0..1), 0));
            let plain = Mutex::new((model(api), 0));
            let server = Server::http(move |_, asked| {
                if asked.method == "GET" {
                    return Reply::ok(json!({ "data": [{ "id": MODEL }] }).to_string());
                }
                let body = String::from_utf8_lossy(&asked.body);
                if !takes && written.iter().any(|words| body.contains(words)) {
                    let error = json!({ "error": { "message": "no such role", "type": "x" } });
                    return Reply::Answer(400, Vec::new(), error.to_string().into());
                }
                let (mock, number) = &mut *if reasons { &thinks } else { &plain }.lock().unwrap();
                *number += 1;
                Reply::Raw(stream("", &mock.reply(*number - 1, true).body()))
            });
            let name = format!("{api:?} {reasons} {takes}");
            let run = probe(&world(&server), &["--api", api.as_str()]).expect(0);
            let found = run.json();
            let offer = offer(&found, api.as_str());
            let class = match (reasons, takes) {
                (false, _) => Value::Null,
                (true, true) => json!("ok_text"),
                (true, false) => json!("upstream_error"),
            };
            assert_eq!(offer["as_reasoning"]["class"], class, "{name}: {offer:#}");
            let proposed = found["proposal"].as_str().unwrap().contains("--reasoning");
            assert_eq!(proposed, reasons && takes, "{name}: {found:#}");
            // The list, the short question, the tool, and the form where it reasons.
            assert_eq!(server.count(), 3 + usize::from(reasons), "{name}");
        }
    }
}

#[test]
fn where_nothing_fits_nothing_is_proposed() {
    // Another model is listed: its name is said.
    let other = server("another-model", vec![(Api::OpenaiChat, model(Api::OpenaiChat))]);
    let found = probe(&world(&other), &["--api", "openai-chat"]).expect(3).json();
    assert_eq!(found["proposal"], Value::Null);
    let chat = offer(&found, "openai-chat");
    assert_eq!((&chat["listed"], &chat["others"]), (&json!(false), &json!(["another-model"])));
    // The server has the path of none.
    let none = server(MODEL, Vec::new());
    assert_eq!(probe(&world(&none), &[]).expect(3).json()["proposal"], Value::Null);
    // A key that is not there, and an endpoint outside of the network: nothing is sent.
    let good = server(MODEL, vec![(Api::OpenaiChat, model(Api::OpenaiChat))]);
    let mut world = world(&good);
    let found = probe(&world, &["--credential", "key"]).expect(3).json();
    let failed = |found: &Value, id: &str| {
        assert_eq!(row(&found["checks"], id)["state"], "failed", "{found:#}");
    };
    failed(&found, "credentials");
    let outside = ["model", "add", PAIR, "--probe", "--network", "private", "--credential", "none"];
    let found = world.admit(&[&outside[..], &["--json"]].concat()).expect(3).json();
    failed(&found, "network_class");
    assert_eq!((good.count(), &found["apis"]), (0, &json!([])));
    // A key that the server says back: neither shown nor good for anything.
    world.set("ADMIT_MODEL_KEY", key());
    let leaks = Server::http(|_, _| Reply::ok(json!({ "data": [{ "id": key() }] }).to_string()));
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", leaks.url("/v1"));
    let run = probe(&world, &["--credential", "key"]).expect(3);
    assert!(!run.stdout().contains(&key()), "{run}");
    assert_eq!(offer(&run.json(), "openai-chat")["secret_seen"], "model_key", "{run}");
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", "");
    failed(&probe(&world, &["--credential", "key"]).expect(3).json(), "endpoint_configured");
}

/// It is told once, says so once, and ends as every command does that was stopped before its end.
#[test]
fn a_look_that_is_told_to_stop_ends_by_itself_with_one_answer() {
    let server = silent();
    let world = world(&server);
    for json in [&["--json"][..], &[]] {
        let args =
            ["model", "add", PAIR, "--probe", "--network", "this-machine", "--credential", "none"];
        let (args, before) = ([&args[..], json].concat(), server.count());
        let ended = told(&world, &args, Signal::TERM, || asked(&server, before)).expect(75);
        if json.is_empty() {
            assert_eq!(ended.stderr().matches("told to stop").count(), 1, "{ended}");
        } else {
            assert_eq!(ended.json()["reason"], "interrupted", "{ended}");
        }
    }
}
