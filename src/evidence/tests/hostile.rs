//! What an agent writes: secrets, and text that would be markup.

use super::*;
use crate::evidence::html::page;

#[test]
fn a_secret_fails_the_run_and_is_withheld_everywhere() {
    const KEY: &[u8] = b"zq93-known-upstream-key-77";
    let dir = tempfile::tempdir().unwrap();
    for place in ["artifact", "event", "report", "patch", "name"] {
        let run = begin(dir.path());
        run.watch_for(Known::new(&[("upstream_key".into(), Secret::new(KEY.to_vec()).unwrap())]));
        let text = String::from_utf8(KEY.to_vec()).unwrap();
        let mut report = rehearsed();
        run.record(names::NO_TARGET, "no_target_inspection", &proof()).unwrap();
        let patch = if place == "patch" { [PATCH, KEY].concat() } else { PATCH.to_vec() };
        run.artifact(&path("patch.diff"), "patch", Author::Agent, &patch).unwrap();
        match place {
            "artifact" => {
                run.append(&path("backend/out"), "log", Author::Agent, &KEY[..9]).unwrap();
                run.append(&path("backend/out"), "log", Author::Agent, &KEY[9..])
                    .map(drop)
                    .unwrap();
            }
            "event" => run.event("x", Author::Agent, json!({ "said": text })).unwrap(),
            "report" => report.wire[0].reply.text = text.clone(),
            "name" => report.changed_files.push(text.clone()),
            _ => {}
        }
        let sealed = run.seal(report).unwrap();
        assert_eq!(sealed.report.status, RunStatus::Fail, "{place}");
        assert_eq!(sealed.report.failure_class, Some(FailureClass::SecretFound), "{place}");
        for file in files(&sealed.directory) {
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.windows(KEY.len()).any(|w| w == KEY), "{place}: {}", file.display());
        }
        assert_eq!(faults(&sealed.directory), [], "{place}");
    }
}

#[test]
fn where_the_runs_own_sentinel_stands_is_said_and_fails_nothing() {
    const SENTINEL: &str = "admit-sentinel-5bd7f1c06a";
    let dir = tempfile::tempdir().unwrap();
    for (text, stands) in [(SENTINEL, true), ("something else", false)] {
        let run = begin(dir.path());
        run.note_sentinel(Secret::new(SENTINEL.into()).unwrap());
        fill(&run);
        run.artifact(&path("backend/out"), "log", Author::Agent, text.as_bytes()).unwrap();
        let sealed = run.seal(rehearsed()).unwrap();
        assert_eq!(sealed.report.status, RunStatus::Rehearsed, "{:?}", sealed.report.blockers);
        let said = sealed.report.limits.iter().find(|line| line.contains("sentinel"));
        assert_eq!(said.is_some(), stands, "{said:?}");
        assert!(said.is_none_or(|line| line.ends_with(": backend/out")), "{said:?}");
    }
}

#[test]
fn hostile_text_stays_text() {
    const EVIL: &str = "</pre><script>alert(1)</script><img src=x onerror=\"a\">'&| `x` \u{202e}\u{1b}[2J\n# h\n|x|";
    let mut report = rehearsed();
    report.fixture = EVIL.into();
    report.failure_reason = Some(EVIL.into());
    report.failure_class = Some(FailureClass::Unclassified);
    report.blockers = vec![EVIL.into()];
    report.changed_files = vec![EVIL.into()];
    report.tests_command = EVIL.into();
    report.gates[0].id = EVIL.into();
    report.gates[0].found = EVIL.into();
    report.baselines[0].note = EVIL.into();
    report.diff = Excerpt::of(format!("@@ -1 +1 @@\n-{EVIL}\n").as_bytes(), 1000);
    report.wire[0].request_line = EVIL.into();
    report.wire[0].reply_file = EVIL.into();
    report.wire[0].reply = Excerpt::of(format!("```\n````\n{EVIL}").as_bytes(), 1000);
    report.limits = vec![EVIL.into()];
    let html = page(&report, &|_, _| None);
    for bad in
        ["<script", "<img", "\u{202e}", "\u{1b}", "onerror=\"", "http://", "https://", "url("]
    {
        assert!(!html.contains(bad), "{bad}");
    }
    let md = markdown(&report);
    assert!(!md.contains('\u{1b}') && !md.contains('\u{202e}'));
    let blocks: String = md.split("## Patch").next().unwrap().into();
    assert!(!blocks.contains("<script"), "outside of fences tags are escaped");
    assert!(!blocks.lines().any(|l| l == "# h" || l == "|x|"));
    assert!(md.contains("`````\n"), "the fence is longer than any in the text");
    // The same report gives the same pages.
    assert_eq!((html, md), (page(&report, &|_, _| None), markdown(&report)));
}
