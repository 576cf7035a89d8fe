//! The page of a run of every status. `.ci/pages` has a browser draw what this test leaves in the target directory.

use serde_json::json;

use super::*;
use crate::error::Reason;
use crate::evidence::html;
use crate::record::admission::AdmissionStatus;
use crate::record::evidence::{ChainEnd, Contributing, Phase, PhaseOutcome, RootRow, TimelineRow};

const DIFF: &str = "diff --git a/strings.py b/strings.py\n--- a/strings.py\n+++ b/strings.py\n@@ -1,3 +1,5 @@\n import re\n \n-def slugify(text): return text\n+def slugify(text):\n+    text = re.sub(r'[^a-z0-9]+', '-', text.lower())\n+    return text.strip('-')\n";

fn row(number: u32) -> WireRow {
    WireRow {
        number,
        monotonic_ns: u64::from(number) * 1_700_000_000,
        duration_ns: 940_000_000,
        request_line: "POST /v1/chat/completions".into(),
        status: Some(200),
        class: "ok_tools".into(),
        request_file: format!("backend/wire/{number:04}.request"),
        reply_file: format!("backend/wire/{number:04}.reply"),
        ..WireRow::default()
    }
}

/// What was said in each exchange: the agent's request grows, the model answers with words and a call.
fn wire(name: &str) -> Option<Vec<u8>> {
    let (number, part) = name.strip_prefix("backend/wire/")?.split_once('.')?;
    let number: usize = number.parse().ok()?;
    let call = |n: usize| {
        json!([{ "id": format!("c{n}"), "type": "function", "function": { "name": "bash",
            "arguments": json!({ "command": format!("cat strings.py && python3 -m pytest -q  # {n}") }).to_string() } }])
    };
    let mut messages = vec![
        json!({ "role": "system", "content": "# Implementer\n\nChange the repository so that the task is done." }),
        json!({ "role": "user", "content": "Make slugify() return what tests/test_strings.py asks for." }),
    ];
    for n in 1..number {
        messages.push(json!({ "role": "assistant", "content": "I look.", "tool_calls": call(n) }));
        let output = "tests/test_strings.py::test_slugify FAILED\n".repeat(30);
        messages
            .push(json!({ "role": "tool", "tool_call_id": format!("c{n}"), "content": output }));
    }
    let body = match part {
        "request" => json!({ "model": "m", "messages": messages }),
        _ => json!({ "choices": [{ "message": {
            "reasoning": "The function keeps what it is given. It has to lower the case first.",
            "content": "I read the rules and the function first, then I run the tests.", "tool_calls": call(number) } }],
            "usage": { "prompt_tokens": 4210, "completion_tokens": 317 } }),
    };
    let head =
        if part == "request" { "POST /v1/chat/completions HTTP/1.1" } else { "HTTP/1.1 200 OK" };
    Some(format!("{head}\r\nConnection: close\r\n\r\n{body}").into_bytes())
}

fn read(name: &str, limit: u64) -> Option<Vec<u8>> {
    let bytes = match name {
        names::TEST_LOG => Some(
            "== round 1, tests: exit code 0\n\n..............  [100%]\n14 passed in 0.05s\n".into(),
        ),
        name => wire(name),
    };
    bytes.filter(|bytes| bytes.len() as u64 <= limit)
}

fn nothing(_: &str, _: u64) -> Option<Vec<u8>> {
    None
}

fn timeline(events: u64) -> Vec<TimelineRow> {
    let row = |seq: u64| TimelineRow {
        seq,
        monotonic_ns: seq * 931_000_000,
        by: if seq.is_multiple_of(3) { Author::Agent } else { Author::Admit },
        kind: "model_call".into(),
        data: Excerpt::of(br#"{"exchange":4,"class":"ok_tools","bytes":12345}"#, 400),
    };
    (0..events).map(row).collect()
}

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn full(status: RunStatus) -> RunReport {
    let phase = |name: &str, outcome| Phase {
        name: name.into(),
        outcome,
        started: Some(1_000_000_000),
        ended: Some(9_400_000_000),
        requests: 3,
        input_tokens: 12_630,
        output_tokens: 951,
    };
    RunReport {
        status,
        evidence_class: EvidenceClass::ServedModel,
        provider: Some("case".into()),
        agent: Some("case".into()),
        wire_api: Some("openai-chat".into()),
        model_record_sha256: Some(digest("record")),
        phases: vec![
            phase("implement", PhaseOutcome::Completed),
            phase("review", PhaseOutcome::Failed),
        ],
        fixture: "r1-string-slugify".into(),
        fixture_digest: Some(digest("fixture")),
        case_bin: Some("/opt/case/bin/ca".into()),
        case_model_provider: Some("qwen-local".into()),
        case_model: Some("qwen3.6-35b-a3b".into()),
        case_model_admission_status: AdmissionStatus::Admitted,
        case_model_admission_file: Some("admissions/models/qwen-local--qwen3.6-35b-a3b.json".into()),
        root: RootRow { label: "embedded in admit".into(), digest: Some(digest("root")) },
        case_source_pin: Some("7959ac917cdeb0983b4aaa20bb9f42021747fed8".parse().unwrap()),
        run_directory: "/state/admit/runs/20261120T120000Z-r1-string-slugify-4711".into(),
        tests_command: "python3 -m pytest -q tests/test_strings.py".into(),
        gates: vec![
            Finding::ok("root_trusted", "a root", "embedded in admit (this user's own)"),
            Finding::ok("binary_digest", digest("b").to_string(), digest("b").to_string()),
            Finding::not_asked("identity_shown", "a run needs the output only: admit verify"),
        ],
        diff: Excerpt::of(DIFF.as_bytes(), 1 << 20),
        patch_digest: digest(DIFF),
        wire: (1..=3).map(row).collect(),
        timeline: timeline(12),
        events: ChainEnd { count: 12, head: digest("chain") },
        limits: vec!["After the first tool call nothing inside the sandbox can be attributed to the agent alone.".into()],
        ..rehearsed()
    }
}

fn failed(class: FailureClass, detail: &str) -> RunReport {
    RunReport {
        failure_class: Some(class),
        failure_reason: Some(class.failure_reason(detail)),
        ..full(RunStatus::Fail)
    }
}

/// A report of each kind that people meet, by name.
fn all() -> Vec<(&'static str, RunReport)> {
    let no = Finding::failed(
        "model_admitted",
        Reason::ModelNotAdmitted,
        "an admission of mine/some-model",
        "not_admitted: its status is \"revoked\"",
    );
    let no =
        no.fix("admit model show mine/some-model; to record an approval: admit model add --help");
    let blocked = RunReport {
        status: RunStatus::Blocked,
        case_process_started: false,
        evidence_class: EvidenceClass::None,
        tests_passed: false,
        model_record_sha256: None,
        case_model_admission_status: AdmissionStatus::NotAdmitted,
        gates: vec![
            Finding::ok("root_trusted", "a root", "embedded in admit"),
            no,
            Finding::not_reached("credentials", vec!["model_admitted".into()]),
        ],
        phases: vec![],
        wire: vec![],
        baselines: vec![],
        required_events: vec![],
        diff: Excerpt::default(),
        blockers: vec![
            "model_admitted: expected an admission of mine/some-model, found not_admitted".into(),
        ],
        ..failed(FailureClass::ModelNotAdmitted, "")
    };
    let mut fail = failed(FailureClass::AgentProtocol, "");
    fail.server_said = Some("This model's maximum context length is 4096 tokens.".into());
    fail.contributing = vec![Contributing {
        class: FailureClass::EmptyReply,
        detail: "a reply with nothing in it".into(),
        exchange: Some(2),
    }];
    fail.blockers = vec!["no complete AGENT_RESULT on the wire".into()];
    let mut big = full(RunStatus::Rehearsed);
    big.evidence_class = EvidenceClass::Scripted;
    big.wire = (1..=200).map(row).collect();
    big.timeline = timeline(400);
    big.timeline_omitted = 9_600;
    big.events.count = 10_000;
    let mut rehearsed = full(RunStatus::Rehearsed);
    rehearsed.evidence_class = EvidenceClass::Scripted;
    vec![
        ("blocked", blocked),
        ("failed", fail),
        ("rehearsed", rehearsed),
        ("passed", full(RunStatus::Pass)),
        ("interrupted", failed(FailureClass::Interrupted, "SIGTERM")),
        ("big", big),
    ]
}

#[test]
fn a_page_answers_in_this_order_and_needs_no_script() {
    // Beside what was compiled; a test binary that was copied elsewhere leaves none.
    let here = std::env::current_exe().unwrap();
    let out = here.ancestors().nth(3).map(|target| target.join("pages"));
    for (name, report) in all() {
        let read =
            if report.case_process_started { &read } else { &nothing as &dyn Fn(&str, u64) -> _ };
        let page = html::page(&report, read);
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{name} has no {text}"));
        let order = [
            "<h1>",
            "id=\"ran\"",
            "id=\"belief\"",
            "id=\"now\"",
            "id=\"phases\"",
            "id=\"said\"",
            "id=\"patch\"",
            "id=\"printed\"",
            "id=\"passed\"",
            "id=\"limits\"",
        ];
        let places: Vec<usize> = order.iter().map(|text| at(text)).collect();
        assert!(places.is_sorted(), "{name}: {places:?}");
        assert!(!page.contains("<script") && page.contains("default-src 'none'"), "{name}");
        assert!(at("admit verify 20261120T120000Z-r1-string-slugify-4711") > 0);
        // Before the first line that a person has to scroll to: what to do, and no word of a thing that did not happen.
        if report.failure_class.is_some() {
            assert!(at("<b>Next: </b>") < at("<nav"), "{name}");
        }
        let ran = page.contains(">What ran</h2>");
        assert_eq!(ran, report.case_process_started, "{name}");
        let nothing = report.failure_class.is_some_and(FailureClass::says_nothing);
        assert_eq!(page.contains("before it came to an end of its own"), nothing, "{name}");
        assert!(!(nothing && page.contains("Only this kind can be a pass")), "{name}");
        assert_eq!(page, html::page(&report, read), "{name} is made of what is sealed alone");
        if let Some(out) = &out {
            let _ = std::fs::create_dir_all(out);
            let _ = std::fs::write(out.join(format!("{name}.html")), &page);
        }
    }
}

#[test]
fn a_page_shows_the_conversation_and_the_tests_and_a_secret_hides_them() {
    let page = html::page(&full(RunStatus::Pass), &read);
    for text in [
        "I read the rules and the function first",
        "test_slugify FAILED",
        "14 passed in 0.05s",
        "4210 tokens in",
    ] {
        assert!(page.contains(text), "{text}");
    }
    let said = page.matches("Change the repository so that the task is done");
    assert_eq!(said.count(), 1, "said once");
    let hidden = html::page(&failed(FailureClass::SecretFound, ""), &read);
    assert!(!hidden.contains("I read the rules") && !hidden.contains("14 passed"));
    let hostile = |_: &str, _: u64| Some(b"<script>alert(1)</script>\x1b[31m".to_vec());
    let page = html::page(&full(RunStatus::Fail), &hostile);
    assert!(!page.contains("<script") && !page.contains('\u{1b}'));
}

#[test]
fn what_the_page_is_made_from_is_sealed_and_a_change_of_it_is_seen() {
    let (_dir, run) = alone(filled);
    run.append(&path(names::TEST_LOG), "test_log", Author::Admit, b"14 passed\n").unwrap();
    let sealed = run.seal(rehearsed()).unwrap();
    let page = std::fs::read_to_string(sealed.directory.join(names::REPORT_HTML)).unwrap();
    assert!(page.contains("14 passed"), "{page}");
    assert_eq!(faults(&sealed.directory), []);
}
