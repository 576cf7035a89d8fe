//! An account at the model's server by way of a credential helper: everything that a helper can do wrong, before a run and in
//! the middle of one, and an `openai-codex` account whose token has to be refreshed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use admit::proxy::api::codex::Codex;
use admit::record;
use admit::record::admission::Api;
use admit::record::evidence::RunStatus;
use admit::record::finding::State;
use admit::record::ids::Digest;
use serde_json::{Value, json};

use crate::files::{mode, script};
use crate::loopback::{Asked, Reply, Server};
use crate::model::add_model;
use crate::trial::{Left, Trial};
use crate::upstream::{MODEL, Mock, stream};
use crate::util::{World, project};

pub const ACCOUNT: &str = "acct-0815-cafe";

/// The token of the n-th login; spelled apart, so that looking through this repository finds nothing.
pub fn token(n: usize) -> String {
    ["eyJhbGciOiJub25lIn0", ".eyJzdWIiOiJwZXJzb24ifQ.", "tokenOfLogin", &n.to_string()].concat()
}

/// A directory with a helper that counts how often it was started, and the helper.
pub fn helper(dir: &Path, rest: &str) -> PathBuf {
    mode(dir, 0o755);
    let (path, count) = (dir.join("login"), dir.join("count").display().to_string());
    let counts = format!("n=$(($(cat {count} 2>/dev/null || echo 0) + 1))\necho $n > {count}");
    script(&path, &format!("{counts}\n{rest}"));
    path
}

fn started(dir: &Path) -> usize {
    let count = std::fs::read_to_string(dir.join("count")).unwrap_or_default();
    count.trim().parse().unwrap_or(0)
}

/// What prints the token of the `$n`-th login.
pub fn prints(account: &str, more: &str) -> String {
    let base = token(0);
    let base = base.trim_end_matches('0');
    format!(
        "echo \"{{\\\"token\\\": \\\"{base}$n\\\", \\\"headers\\\": {{\\\"chatgpt-account-id\\\": \\\"{account}\\\"}}{more}}}\""
    )
}

fn credential(program: &Path, timeout: u16) -> Value {
    let sha256 = Digest::sha256(&std::fs::read(program).unwrap_or_default());
    json!({ "kind": "helper", "program": program, "sha256": sha256, "timeout_seconds": timeout })
}

/// The scripted server of an account: it takes the token of the login that `valid` names, for the one account, and speaks
/// as the real one was seen to.
pub fn server_of(
    model: &str,
    valid: Arc<Mutex<usize>>,
    on_answer: impl Fn(usize) + Send + Sync + 'static,
) -> Server {
    let path = project().join("fixtures/r1-string-slugify/script.json");
    let script = record::parse(&std::fs::read(path).unwrap()).unwrap();
    let played = Mutex::new((Mock::new(script, model).speaking(&Codex), 0));
    let no = |status, code: &str| {
        let error = json!({ "error": { "code": code, "message": "the account's own words" } });
        let kind = vec![("content-type".into(), "application/json".into())];
        Reply::Answer(status, kind, error.to_string().into())
    };
    Server::http(move |_, asked: &Asked| {
        if asked.method != "POST" || asked.target != "/backend-api/codex/responses" {
            return no(404, "not_found");
        }
        // The lowest login that still holds.
        let lowest = *valid.lock().unwrap();
        let bearer = asked.header("authorization").unwrap_or_default();
        if !(lowest..lowest + 50).any(|n| bearer == format!("Bearer {}", token(n))) {
            return no(401, "token_expired");
        }
        if asked.header("chatgpt-account-id") != Some(ACCOUNT) {
            return no(403, "account_unknown");
        }
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let wanted =
            body["store"] == false && body["stream"] == true && body["instructions"].is_string();
        if !wanted
            || body.get("max_output_tokens").is_some()
            || asked.header("openai-beta").is_none()
        {
            return no(400, "unsupported_parameter");
        }
        let (mock, number) = &mut *played.lock().unwrap();
        let reply = mock.reply(*number, true).body();
        on_answer(*number as usize);
        *number += 1;
        Reply::Raw(stream("", &reply))
    })
}

/// One for which the first login always holds.
fn server() -> Server {
    server_of(MODEL, Arc::new(Mutex::new(1)), |_| {})
}

/// One for which the first login holds until the third reply: then it waits so long, and takes none before `next`.
fn server_until(wait: Duration, next: usize) -> Server {
    let valid = Arc::new(Mutex::new(1));
    server_of(MODEL, Arc::clone(&valid), move |number| {
        if number == 2 {
            std::thread::sleep(wait);
            *valid.lock().unwrap() = next;
        }
    })
}

fn run(program: &Path, timeout: u16, server: &Server) -> Left {
    Trial::understudy()
        .speaking(Api::OpenaiCodexResponses)
        .with_credential(credential(program, timeout))
        .served_at(server.url("/backend-api"))
}

/// That no file of the run holds a token or the account.
#[track_caller]
fn shows_nothing(left: &Left) {
    for (path, bytes) in left.files() {
        for secret in [token(0).trim_end_matches('0'), ACCOUNT] {
            let there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!there, "{path} shows {secret}");
        }
    }
}

#[test]
fn an_account_does_the_work_and_is_seen_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let login = helper(dir.path(), &prints(ACCOUNT, ""));
    let left = run(&login, 30, &server());
    let report = left.report();
    // The loopback can lead to no pass.
    assert_eq!(report.status, RunStatus::Rehearsed, "{:#?}", report.blockers);
    assert_eq!(report.wire_api.as_deref(), Some("openai-codex-responses"));
    assert_eq!(left.event("credential_helper"), json!({ "given": 1, "failed": null }));
    assert_eq!(started(dir.path()), 1);
    shows_nothing(&left);
    // What the agent was given is the run's own, in the shape that its client reads an account from.
    let launch = left.json("backend/launch.json").to_string();
    assert!(launch.contains("admit-run-") && launch.contains(".x\""), "{launch}");
    let forwarded = left.text("backend/wire/0002.request");
    assert!(forwarded.contains("chatgpt-account-id: [withheld]"), "{forwarded}");
    // Each request was tried as a WebSocket first, and refused in the way that leads on.
    let bridge = left.json("backend/bridge.json");
    let refused = bridge["exchanges"].as_array().unwrap();
    let upgrades = refused.iter().filter(|x| x["refused"] == "protocol_switch").count();
    let asked = refused.iter().filter(|x| x["kind"] == "chat").count();
    assert!(upgrades >= 5 && asked >= 5, "{upgrades} {asked}");
}

#[test]
fn a_token_that_ends_in_the_middle_is_asked_for_again_once() {
    // By the server's word, and by the helper's own.
    for expires in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (more, wait) = match expires {
            false => ("", 0),
            true => (r#", \"expires\": \"$(date -u -d +2seconds +%Y-%m-%dT%H:%M:%SZ)\""#, 2500),
        };
        let login = helper(dir.path(), &prints(ACCOUNT, more));
        let left = run(&login, 30, &server_until(Duration::from_millis(wait), 2));
        let report = left.report();
        assert_eq!(report.status, RunStatus::Rehearsed, "{expires}: {:#?}", report.blockers);
        let given = left.event("credential_helper")["given"].as_u64().unwrap();
        assert!(given >= 2 && given as usize == started(dir.path()), "{expires}: {given}");
        assert!(expires || given == 2, "{given}");
        assert!(report.contributing.is_empty(), "{:#?}", report.contributing);
        shows_nothing(&left);
    }
}

#[test]
fn what_a_helper_does_wrong_has_a_reason_of_its_own_before_anything_starts() {
    let leak = format!("echo {}1 >&2", token(0).trim_end_matches('0'));
    let good = prints(ACCOUNT, "");
    for (rest, reason, found) in [
        ("sleep 60".to_owned(), "helper_timed_out", "still running"),
        ("exec 1>&- 2>&-; sleep 60".to_owned(), "helper_timed_out", "still running"),
        ("echo no login; exit 3".to_owned(), "helper_failed", "exit status: 3"),
        ("kill -11 $$".to_owned(), "helper_failed", "signal: 11"),
        ("echo garbage".to_owned(), "helper_malformed", "8 bytes, withheld"),
        ("echo '{}'".to_owned(), "helper_malformed", ""),
        (format!("echo '{{\"token\": \"short\"}}'; # {good}"), "helper_malformed", ""),
        ("echo '{\"token\": \"0123456789\", \"more\": 1}'".to_owned(), "helper_malformed", ""),
        ("echo '{\"headers\": {\"host\": \"0123456789\"}}'".to_owned(), "helper_malformed", ""),
        ("head -c 100000 /dev/zero".to_owned(), "helper_malformed", ""),
        (format!("{leak}; {good}"), "helper_leaked", ""),
        (
            prints(ACCOUNT, r#", \"expires\": \"2020-01-01T00:00:00Z\""#),
            "credential_expired",
            "2020-01-01T00:00:00Z",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let login = helper(dir.path(), &rest);
        let server = server();
        let begun = Instant::now();
        let left = run(&login, 1, &server);
        assert!(begun.elapsed() < Duration::from_secs(20), "{rest}");
        refused(&left, reason, found);
        assert_eq!((started(dir.path()), server.count()), (1, 0), "{rest}");
        shows_nothing(&left);
    }
    // One that is not there, that is another program, and that others could have written.
    let dir = tempfile::tempdir().unwrap();
    let server = server();
    refused(&run(&dir.path().join("none"), 1, &server), "helper_missing", "");
    let login = helper(dir.path(), &good);
    let trial = || Trial::understudy().speaking(Api::OpenaiCodexResponses);
    let mut other = credential(&login, 1);
    other["sha256"] = json!(Digest::sha256(b"another"));
    let left = trial().with_credential(other).served_at(server.url("/backend-api"));
    refused(&left, "digest_mismatch", "sha256:");
    mode(&login, 0o777);
    refused(&run(&login, 1, &server), "credential_unusable", "mode");
    mode(&login, 0o644);
    refused(&run(&login, 1, &server), "helper_missing", "");
    assert_eq!((started(dir.path()), server.count()), (0, 0));
}

/// That the run was blocked for the credentials alone, for this reason.
#[track_caller]
fn refused(left: &Left, reason: &str, found: &str) {
    let report = left.report();
    assert_eq!(report.status, RunStatus::Blocked, "{reason}: {:#?}", report.blockers);
    assert!(!report.case_process_started);
    let failed: Vec<_> = report.gates.iter().filter(|one| one.state == State::Failed).collect();
    let [one] = failed[..] else { panic!("{reason}: {failed:#?}") };
    assert_eq!((one.id.as_str(), one.reason.as_deref()), ("credentials", Some(reason)), "{one:#?}");
    assert!(one.found.contains(found) && !one.fix.is_empty(), "{reason}: {one:#?}");
    assert_eq!(report.failure_class.map(|class| class.as_str()), Some("auth_unavailable"));
}

#[test]
fn what_the_server_does_not_take_is_told_apart_before_and_after_the_start() {
    // Another account: the probe is refused, and nothing starts.
    let dir = tempfile::tempdir().unwrap();
    let login = helper(dir.path(), &prints("acct-of-another", ""));
    let left = run(&login, 30, &server());
    let report = left.report();
    assert_eq!(report.status, RunStatus::Blocked, "{:#?}", report.blockers);
    assert_eq!(report.failure_class.map(|class| class.as_str()), Some("auth_unavailable"));
    let gate = report.gates.iter().find(|one| one.id == "response_shape").unwrap();
    assert_eq!(gate.state, State::Failed, "{gate:#?}");

    // A login that ends in the middle, with a helper that has nothing new, and one that fails from then on.
    for (rest, told) in [
        (prints(ACCOUNT, "").replace("$n", "1"), ""),
        (format!("[ $n = 1 ] || exit 7; {}", prints(ACCOUNT, "")), "exit status: 7"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let left = run(&helper(dir.path(), &rest), 30, &server_until(Duration::ZERO, 99));
        left.ends("auth_unavailable", "http_401", 8);
        let report = left.report();
        assert!(report.case_process_started);
        assert_eq!(report.server_said.as_deref(), Some("the account's own words"));
        let failed = left.event("credential_helper")["failed"].to_string();
        assert!(failed.contains(told), "{failed}");
        let blockers = report.blockers.join("\n");
        assert!(blockers.contains(told), "{blockers}");
        // An agent that tries again and again does not start it each time.
        assert!((2..=8).contains(&started(dir.path())), "{}", started(dir.path()));
        shows_nothing(&left);
    }
}

#[test]
fn a_helper_that_is_killed_says_nothing_of_login_or_agent() {
    // Before the start, where the run came to nothing else.
    let dir = tempfile::tempdir().unwrap();
    let asked = server();
    let left = run(&helper(dir.path(), "kill -9 $$"), 30, &asked);
    left.ends("killed_from_outside", "the credential helper was ended by a signal", 75);
    assert!(!left.report().case_process_started);
    assert_eq!((started(dir.path()), asked.count()), (1, 0));

    // In the middle of a run, where the login it would have renewed ends: the server's 401 is no fault of its own.
    let dir = tempfile::tempdir().unwrap();
    let login = helper(dir.path(), &format!("[ $n = 1 ] || kill -9 $$; {}", prints(ACCOUNT, "")));
    let left = run(&login, 30, &server_until(Duration::ZERO, 99));
    left.ends("killed_from_outside", "the credential helper was ended by a signal", 75);
    let report = left.report();
    assert!(report.case_process_started);
    let before: Vec<_> = report.contributing.iter().map(|row| row.class.as_str()).collect();
    assert!(before.contains(&"auth_unavailable"), "{before:?}");
    shows_nothing(&left);
}

#[test]
fn a_helper_is_recorded_with_its_digest_or_not_at_all() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let login = helper(dir.path(), "exit 1");
    let path = login.to_str().unwrap();
    let add = |more: &[&str]| {
        let api = ["--network", "public-tls", "--api", "openai-codex-responses"];
        world.admit(&add_model("openai-codex/gpt-5.5", &[&api, more].concat()))
    };
    add(&["--credential", "helper"]).refuse(2, "bad_argument");
    add(&["--credential", "key", "--helper", path]).refuse(2, "bad_argument");
    add(&["--credential", "helper", "--helper", "/nowhere/login"]).refuse(3, "helper_missing");
    add(&["--credential", "helper", "--helper", path, "--helper-timeout", "9999"]).expect(2);
    world.admit(&["model", "show", "openai-codex/gpt-5.5"]).expect(2);
    let more = ["--helper-arg", "--json", "--helper-timeout", "5", "--json"];
    let added = add(&[&["--credential", "helper", "--helper", path][..], &more].concat()).expect(0);
    let credential = &added.json()["record"]["credential"];
    let sha256 = Digest::sha256(&std::fs::read(&login).unwrap());
    assert_eq!(
        *credential,
        json!({ "kind": "helper", "program": path, "sha256": sha256, "arguments": ["--json"], "timeout_seconds": 5 })
    );
    // Recording starts nothing.
    assert_eq!(started(dir.path()), 0);
}
