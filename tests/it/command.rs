//! `agent: command`: an agent that is data in its lock. How its end is read, what ends it from outside, what it may find in
//! the workspace.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::trial::{Left, Trial, after_probe};
use crate::upstream::Behaviour;
use crate::util::project;

pub fn run(change: impl FnOnce(&mut Value)) -> Value {
    let mut run = json!({
        "agent": "command", "argv": ["go", "{prompt}", "--model", "{model}"], "ambient": "hardened",
        "command": {
            "env": { "DOOR_KEY": "{key}", "DOOR": "{door}/v1", "OWN": "{env:DOOR_KEY} {unknown}" },
            "files": { "{home}/.tool/config": "url={door}/v1 model={model} work={work} {own}" },
            "wire_apis": ["openai-chat"],
            "end": { "types": ["end", "error"], "pointer": "/steps/-/reason", "equals": "stop", "exit": "zero" },
            "refuse": [".tool"], "closed": ["AGENTS.md"],
        }
    });
    change(&mut run);
    run
}

/// An agent that asks until it is told a result, has the reference patch at hand, and ends as `end` says.
fn agent(end: &str) -> Trial {
    let patch = project().join("fixtures/r1-string-slugify/reference.patch");
    let patch = std::fs::read_to_string(patch).unwrap();
    Trial::python(&format!(
        "import json, os, subprocess, sys, urllib.request
PATCH = {patch:?}
home = os.environ['HOME']
config = open(home + '/.tool/config').read()
assert config == 'url=http://127.0.0.1:8080/v1 model=test-model work=' + os.getcwd() + ' {{own}}', config
assert os.environ['OWN'] == '{{env:DOOR_KEY}} {{unknown}}'
def ask():
    body = json.dumps({{'model': 'test-model', 'stream': True, 'messages': [{{'role': 'user', 'content': 'slugify'}}]}})
    head = {{'Authorization': 'Bearer ' + os.environ['DOOR_KEY'], 'Content-Type': 'application/json'}}
    url = os.environ['DOOR'] + '/chat/completions'
    return urllib.request.urlopen(urllib.request.Request(url, body.encode(), head)).read().decode()
def line(**what):
    print(json.dumps(what), flush=True)
line(type='start')
{end}"
    ))
}

const WORKS: &str = "
while 'AGENT_RESULT' not in ask():
    pass
subprocess.run(['git', 'apply'], input=PATCH.encode(), check=True)
subprocess.run(['git', '-c', 'user.name=a', '-c', 'user.email=a@localhost', 'commit', '-qam', 'x'], check=True)
print('no json')
";

#[test]
fn the_last_event_the_status_the_wire_the_commit_and_the_judge_must_agree() {
    let end = "line(type='end', steps=[{'reason': 'tool'}, {'reason': 'stop'}])\n";
    let good = agent(&format!("{WORKS}{end}")).run_as(run(|_| ())).scripted();
    let report = good.report();
    assert_eq!((good.code, report.failure_class), (0, None), "{:#?}", report.blockers);
    let config = good.text("backend/home/.tool/config");
    assert!(config.starts_with("url=http://127.0.0.1:8080/v1 model=test-model"), "{config}");
    assert!(good.text("gate.json").contains("by the agent's own switches: AGENTS.md"));
    // A status other than 0, unless it is known to say nothing.
    let status = format!("{WORKS}{end}sys.exit(3)\n");
    agent(&status).run_as(run(|_| ())).scripted().ends("engine_failed", "3", 8);
    let any = run(|run| run["command"]["end"]["exit"] = json!("any"));
    assert_eq!(agent(&status).run_as(any).scripted().code, 0);
    // A bad last event, none, and one after the good one: 0 proves nothing.
    for bad in [
        "line(type='end', steps=[{'reason': 'stop'}, {'reason': 'error'}])\n",
        "line(type='other', steps=[{'reason': 'stop'}])\n",
        "line(type='end', steps=[{'reason': 'stop'}])\nline(type='error')\n",
        "print('{\"type\":\"end\",\"steps\":[{\"reason\":\"stop\"}]}', end='', flush=True)\n",
    ] {
        let left = agent(&format!("{WORKS}{bad}")).run_as(run(|_| ())).scripted();
        left.ends("engine_failed", "0", 8);
    }
    // A good event and nothing done.
    let left = agent(&format!("ask()\n{end}")).run_as(run(|_| ())).scripted();
    left.ends("agent_protocol", "", 8);
}

#[test]
fn an_agent_that_asks_again_after_a_fault_is_ended() {
    let forever = "
while True:
    try:
        ask()
    except Exception as fault:
        line(type='retry', fault=str(fault))
    import time; time.sleep(0.2)
";
    for (behaviour, class) in [
        (Behaviour::MissingFinishReason, "stream_truncated"),
        (Behaviour::Status(500), "upstream_error"),
    ] {
        let began = Instant::now();
        let left = agent(forever).run_as(run(|_| ())).served(&after_probe(behaviour));
        left.ends(class, "", 8);
        assert_eq!(left.report().backend_exit_code_source.as_deref(), Some("ended_after_fault"));
        assert!(left.event("ended_after_fault")["after_ms"].as_u64().unwrap() < 10_000);
        assert!(began.elapsed() < Duration::from_secs(60));
    }
    // The same at once and without a fault: faster than any agent that works.
    let left =
        agent("while True: ask()\n").run_as(run(|_| ())).served(&after_probe(Behaviour::Plays));
    left.ends("limit_hit", "requests_per_second", 9);
}

#[test]
fn what_it_would_load_from_the_workspace_and_a_model_it_cannot_speak_to_refuse_the_run() {
    let plant = |path: &str| agent("pass").run_as(run(|_| ())).planted(path, "x").scripted();
    let refused = |left: &Left, told: &str| {
        left.ends("gate_refused", "", 3);
        let blockers = &left.report().blockers;
        assert!(blockers.iter().any(|line| line.contains(told)), "no {told}: {blockers:#?}");
    };
    for path in [".tool/plugin.js", "deep/.tool/x"] {
        refused(&plant(path), &format!("{path} is in the workspace, and the agent loads .tool"));
    }
    let other = run(|run| run["command"]["wire_apis"] = json!(["openai-responses"]));
    refused(
        &agent("pass").run_as(other).scripted(),
        "expected openai-responses, found openai-chat",
    );
}

/// What an agent does that goes its own way: calls home past its configuration, over addresses and by name; updates itself;
/// opens a browser; asks a person.
const OWN_WAY: &str = "
import shutil, socket
def tries(what, do):
    try:
        line(type='went', what=what, how=repr(do()))
    except (OSError, EOFError, subprocess.SubprocessError):
        line(type='refused', what=what)
for where in (('203.0.113.1', 443), ('2001:db8::1', 443), ('home.example', 443), ('127.0.0.1', 22)):
    tries(where[0], lambda: socket.create_connection(where, 2))
    if where[0] != 'home.example':
        family = socket.AF_INET6 if ':' in where[0] else socket.AF_INET
        if not where[0].startswith('127.'):
            tries(where[0] + ' udp', lambda: socket.socket(family, socket.SOCK_DGRAM).sendto(b'x', where))
program = '/opt/agent/bin/agent'
tries('update', lambda: open(program, 'ab').write(b'x'))
tries('update by another file', lambda: os.replace(shutil.copy(program, home + '/new'), program))
tries('update beside it', lambda: open(program + '.new', 'wb'))
tries('browser', lambda: subprocess.run(['xdg-open', 'https://home.example/login'], check=True))
if any(name in os.environ for name in ('DISPLAY', 'WAYLAND_DISPLAY', 'DBUS_SESSION_BUS_ADDRESS', 'BROWSER')):
    line(type='went', what='desktop')
tries('terminal', lambda: open('/dev/tty'))
tries('approval', lambda: input('May I? [y/N] '))
";

#[test]
fn an_agent_that_goes_its_own_way_gets_nowhere_and_one_that_asks_no_model_fails() {
    let end = "print()\nline(type='end', steps=[{'reason': 'stop'}])\n";
    let left = agent(&format!("{OWN_WAY}{end}")).run_as(run(|_| ())).scripted();
    left.ends("engine_failed", "", 8);
    let blockers = left.report().blockers.join("\n");
    assert!(blockers.contains("required event not seen: model_call"), "{blockers}");
    let said = left.text("backend/stdout.log").replace("May I? [y/N] ", "");
    let said = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let said: Vec<Value> = said.filter(|line| line["what"].is_string()).collect();
    let went: Vec<_> = said.iter().filter(|line| line["type"] != "refused").collect();
    assert!(went.is_empty() && said.len() == 12, "{said:#?}");
    // By name, which was asked for and not given; and on every page.
    assert_eq!(left.report().hosts_asked, ["home.example"]);
    for page in ["report.md", "report.html"] {
        assert!(left.text(page).contains("home.example"), "{page}");
    }
}
