//! `report.html`: one page, made from `report.json` and the sealed files. No script and no network: its own policy
//! forbids both. In order: the verdict and why, what ran, how far it can be believed, what to do, phases, the
//! conversation, the patch, what the tests printed; then, folded, what passed.
//!
//! Everything that came from outside is text: the templates escape each value that is put into them, and the page as a
//! whole goes through [`visible`].

use maud::{Markup, html};

use super::conversation::{self, Cut, Exchange, Part, Speaker, Turn, conversation};
use super::diff;
use super::frame::frame;
use super::names;
use super::render::{aside, facts, millis, state_word, visible};
use crate::explain;
use crate::record;
use crate::record::evidence::{PhaseOutcome, RunReport, RunStatus};
use crate::record::failure::FailureClass;
use crate::record::finding::{Finding, State};
use crate::record::sealed::{Excerpt, Freshness};

const STYLE: &str = include_str!("page.css");
/// Bytes of the tests' output that are shown.
const TESTS_SHOWN: usize = 64 << 10;
/// A text with more lines than this is folded.
const LINES_OPEN: usize = 24;

/// The bytes of a sealed file; `None` where there is none, or a larger one.
pub(super) type Read<'a> = &'a dyn Fn(&str, u64) -> Option<Vec<u8>>;

/// The report as one HTML page. A run in which a secret was found shows nothing of its files.
pub(super) fn page(report: &RunReport, read: Read<'_>) -> String {
    let nothing: Read<'_> = &|_, _| None;
    let read = if report.failure_class == Some(FailureClass::SecretFound) { nothing } else { read };
    let exchanges = conversation(&report.wire, &|name| read(name, conversation::MOST_READ));
    let tests = read(names::TEST_LOG, 64 << 20).unwrap_or_default();
    let tests = Excerpt::of(&tests, TESTS_SHOWN);
    let body = html! {
        (verdict(report))
        (ran(report, &exchanges))
        (belief(report))
        (now(report))
        (phases(report))
        (said(report, &exchanges))
        (patch(report))
        (printed(report, &tests))
        (passed(report))
    };
    let title = format!("{}: {}", report.fixture, report.status.as_str());
    let page = frame(&title, STYLE, &body);
    let page = visible(&page.into_string());
    // What the agent shows in place of a key is no secret, and has no place in a page either.
    let fresh = read(names::FRESHNESS, 1 << 20).and_then(|bytes| record::parse_value(&bytes).ok());
    match fresh.as_ref().and_then(|fresh| fresh["nonce"].as_str()) {
        Some(nonce) if !nonce.is_empty() => page.replace(&Freshness::sentinel(nonce), "[sentinel]"),
        _ => page,
    }
}

fn badge(class: &str, text: &str) -> Markup {
    html! { span class={ "badge " (class) } { (text) } }
}

fn yes_no(good: bool) -> Markup {
    if good { badge("good", "yes") } else { badge("bad", "no") }
}

fn omitted(count: u64, what: &str) -> Markup {
    html! { @if count > 0 { p .dim { (count) " " (what) "." } } }
}

fn plural(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// A duration as people say it.
fn span(ns: u64) -> String {
    match ns / 1_000_000_000 {
        seconds if seconds >= 60 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        seconds => format!("{seconds}.{} s", ns / 100_000_000 % 10),
    }
}

/// A text of [`crate::explain`], in which commands and names stand in backticks.
fn prose(text: &str) -> Markup {
    html! {
        @for (number, part) in text.split('`').enumerate() {
            @if number % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn pair(name: &str, value: Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn table(heads: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        table {
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody {
                @for row in rows {
                    tr { @for (cell, head) in row.iter().zip(heads) { td data-label=(head) { (cell) } } }
                }
            }
        }
    }
}

/// A text as it was, folded where it is long.
fn block(what: &str, text: &str, left_out: u64) -> Markup {
    let lines = text.lines().count();
    let body = html! {
        pre { (text) }
        (omitted(left_out, "more bytes are in the file"))
    };
    html! {
        @if text.is_empty() { p .dim { (what) ": nothing" } }
        @else if lines > LINES_OPEN {
            details { summary { (what) ", " (plural(lines as u64, "line", "lines")) } (body) }
        } @else { (body) }
    }
}

fn status_class(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Pass => "good",
        RunStatus::Rehearsed => "even",
        RunStatus::Blocked | RunStatus::Fail => "bad",
    }
}

/// What the status means. A run that a signal ended came to none of its own.
fn lead(report: &RunReport) -> &'static str {
    match report.failure_class {
        Some(class) if class.says_nothing() => {
            "The run was ended by a signal before it came to an end of its own"
        }
        _ => explain::status(report.status),
    }
}

/// Of what the second part tells.
fn subject(report: &RunReport) -> &'static str {
    if report.case_process_started || report.backend == "fake" {
        "What ran"
    } else {
        "What was to run"
    }
}

fn verdict(report: &RunReport) -> Markup {
    let ran = subject(report).to_lowercase();
    let sections = [
        ("ran", ran.as_str()),
        ("belief", "how far to believe it"),
        ("now", "what to do"),
        ("phases", "phases"),
        ("said", "conversation"),
        ("patch", "patch"),
        ("printed", "tests"),
        ("passed", "what passed"),
    ];
    html! {
        header {
            h1 {
                (badge(status_class(report.status), report.status.as_str())) " " (report.fixture)
                @for said in aside(report) { " " (badge("even", &said)) }
            }
            p .lead { (lead(report)) "." }
            @if let Some(class) = report.failure_class {
                p .reason { (prose(explain::class(class).0)) "." }
                @if let Some(reason) = &report.failure_reason {
                    p .dim { "In the words of the report: " code { (reason) } " (" code { (class.as_str()) } ")" }
                }
            }
            @if let Some(words) = &report.server_said {
                p { "The model's server said:" }
                blockquote { (words) }
            }
            @if !report.blockers.is_empty() {
                h2 .small { "What stood in the way" }
                ul .blockers { @for blocker in &report.blockers { li { (blocker) } } }
            }
            @if !report.contributing.is_empty() {
                h2 .small { "What else went wrong, and did not decide" }
                ul {
                    @for one in &report.contributing {
                        li {
                            code { (one.class.as_str()) } ": " (one.detail)
                            @if let Some(number) = one.exchange { " (exchange " (number) ")" }
                        }
                    }
                }
            }
            @if !report.hosts_asked.is_empty() {
                h2 .small { "Other hosts that were asked for, and not reached" }
                ul { @for host in &report.hosts_asked { li { code { (host) } } } }
            }
            @if report.failure_class.is_some() {
                p { b { "Next: " } (prose(action(report))) ". " a href="#now" { "More" } }
            }
            nav aria-label="Sections" { ul { @for (id, text) in sections { li { a href={ "#" (id) } { (text) } } } } }
        }
    }
}

fn ran(report: &RunReport, exchanges: &[Exchange]) -> Markup {
    let none = || html! { span .dim { "none" } };
    let text = |value: Option<&str>| value.map_or_else(none, |text| html! { (text) });
    let code = |value: Option<String>| value.map_or_else(none, |text| html! { code { (text) } });
    let agent = match (&report.provider, &report.agent) {
        (Some(provider), Some(agent)) if provider != agent => {
            html! { (provider) " (run as " (agent) ")" }
        }
        (Some(provider), _) => html! { (provider) },
        (None, _) if report.backend == "fake" => html! { "none: the reference patch was applied" },
        (None, _) => html! { (report.backend) },
    };
    let model = match (&report.case_model_provider, &report.case_model) {
        (Some(provider), Some(model)) => html! { (provider) "/" (model) },
        _ => none(),
    };
    let agents = report.wire.iter().zip(exchanges).filter(|(row, _)| row.number > 0);
    let asked = agents.filter_map(|(_, exchange)| exchange.tokens);
    let (sent, got) = asked.fold((0, 0), |all: (u64, u64), one| {
        (all.0.saturating_add(one.0), all.1.saturating_add(one.1))
    });
    let took = report.timeline.iter().map(|row| row.monotonic_ns).max();
    html! {
        h2 #ran { (subject(report)) }
        dl {
            (pair("agent", agent))
            (pair("binary", code(report.case_bin.clone())))
            (pair("its digest", code(report.case_binary_sha256.as_ref().map(ToString::to_string))))
            (pair("source commit", code(report.case_source_pin.as_ref().map(ToString::to_string))))
            (pair("model", model))
            (pair("its record", html! {
                (report.case_model_admission_status.as_str())
                @if let Some(file) = &report.case_model_admission_file { ", " code { (file) } }
            }))
            @if let Some(digest) = &report.model_record_sha256 {
                (pair("the record's digest", html! { code { (digest) } }))
            }
            (pair("spoken to as", text(report.wire_api.as_deref())))
            (pair("task", html! {
                (report.fixture)
                @if let Some(digest) = &report.fixture_digest { ", " code { (digest) } }
            }))
            (pair("started", html! {
                (report.started) @if let Some(took) = took { ", took " (span(took)) }
            }))
            (pair("requests to the model", html! {
                (report.wire.iter().filter(|row| row.number > 0).count() as u64 + report.wire_omitted)
                @if sent + got > 0 { ", " (sent) " tokens in, " (got) " out" }
            }))
            (pair("records", html! {
                (report.root.label)
                @if let Some(digest) = &report.root.digest { ", " code { (digest) } }
            }))
        }
    }
}

fn belief(report: &RunReport) -> Markup {
    let name = report.run_directory.rsplit('/').next().unwrap_or_default();
    html! {
        h2 #belief { "How far to believe it" }
        @if report.failure_class.is_some_and(FailureClass::says_nothing) {
            p { "It proves nothing about the agent, for or against it: the run was ended by a signal." }
        } @else {
            p { (explain::evidence_class(report.evidence_class)) "." }
        }
        p {
            "admit made this page from " code { "report.json" } " and the files beside it. Whether every file is as it was "
            "sealed, and whether the page is what these files give, says:"
        }
        pre .command { "admit verify " (name) }
        p {
            "It prints the run's id. Who has that id, or a signature over it, from elsewhere (" code { "--id DIGEST" }
            ") knows that nothing was changed; without either, whoever can write the directory could have sealed it anew. "
            "What stays open in any case stands " a href="#limits" { "at the end" } "."
        }
    }
}

/// What to do first.
fn action(report: &RunReport) -> &'static str {
    match (report.status, report.failure_class) {
        (_, Some(class)) => explain::class(class).1,
        (RunStatus::Pass, None) => {
            "Nothing. To show it to others, sign it: `admit attest run latest --record`"
        }
        (_, None) => {
            "The set-up works. For evidence about an agent, run the real one: `admit run stage2 --model PROVIDER/MODEL`"
        }
    }
}

fn now(report: &RunReport) -> Markup {
    let failed: Vec<&Finding> = report.gates.iter().filter(|row| row.is_failed()).collect();
    html! {
        h2 #now { "What to do now" }
        p { (prose(action(report))) "." }
        @if !failed.is_empty() {
            p { (plural(failed.len() as u64, "check", "checks")) " said no:" }
            @for row in failed { (no(row)) }
        }
    }
}

fn no(row: &Finding) -> Markup {
    let holds = explain::checks().find(|(id, _)| *id == row.id);
    html! {
        section .no {
            h3 { code { (row.id) } @if let Some(reason) = &row.reason { " " span .dim { (reason) } } }
            @if let Some((_, holds)) = holds { p { "It holds when " (prose(holds)) "." } }
            dl {
                (pair("expected", html! { (row.expected) }))
                (pair("found", html! { (row.found) }))
                @if !row.fix.is_empty() { (pair("what to do", html! { (row.fix) })) }
            }
        }
    }
}

fn phases(report: &RunReport) -> Markup {
    let word = |outcome| match outcome {
        PhaseOutcome::Completed => badge("good", "completed"),
        PhaseOutcome::Failed => badge("bad", "failed"),
        PhaseOutcome::Skipped => badge("even", "skipped"),
        PhaseOutcome::Unfinished => badge("even", "unfinished"),
    };
    let row = |phase: &record::evidence::Phase| {
        let took = phase.started.zip(phase.ended).map(|(from, to)| span(to.saturating_sub(from)));
        vec![
            html! { (phase.name) },
            word(phase.outcome),
            html! { (took.unwrap_or_else(|| "not known".into())) },
            html! { (phase.requests) },
            html! { (phase.input_tokens) " in, " (phase.output_tokens) " out" },
        ]
    };
    let rows: Vec<_> = report.phases.iter().map(row).collect();
    html! {
        h2 #phases { "Phases" }
        @if rows.is_empty() { p .dim { "The agent told of none." } }
        @else {
            (table(&["phase", "ended", "time", "requests", "tokens"], &rows))
            p .dim {
                "Names, ends and times are what the agent's own log claims; requests and tokens are what admit saw. "
                "Only the work decides, never a phase."
            }
        }
    }
}

fn said(report: &RunReport, exchanges: &[Exchange]) -> Markup {
    html! {
        h2 #said { "The conversation" }
        @if report.wire.is_empty() {
            p .dim {
                @if report.case_process_started { "Nothing of it is shown." } @else { "There was none: nothing was started." }
            }
        }
        @for (row, exchange) in report.wire.iter().zip(exchanges) {
            section .exchange {
                h3 {
                    @if row.number == 0 { "Before the start, by admit" } @else { "Request " (row.number) }
                    " " span .dim {
                        "at " (span(row.monotonic_ns)) ", " (span(row.duration_ns)) ", "
                        @match row.status { Some(status) => { "status " (status) } None => { "no answer" } }
                        ", " (row.class)
                        @if let Some((sent, got)) = exchange.tokens { ", " (sent) " tokens in, " (got) " out" }
                    }
                }
                @if let Some(why) = &exchange.unread { p .dim { (why) } }
                @else {
                    @if exchange.fresh && row.number > 1 { p .dim { "Takes up nothing that was said before." } }
                    @for turn in &exchange.said { (self::turn(turn)) }
                    @match &exchange.reply {
                        Some(turn) => (self::turn(turn)),
                        None => p .dim { "Nothing that can be read came back." },
                    }
                }
            }
        }
        (omitted(report.wire_omitted, "exchanges are left out"))
    }
}

fn turn(turn: &Turn) -> Markup {
    let (class, who) = match turn.speaker {
        Speaker::Instructions => ("instructions", "instructions"),
        Speaker::Agent => ("agent", "agent"),
        Speaker::Tool => ("tool", "tool output"),
        Speaker::Model => ("model", "model"),
    };
    let folded = turn.speaker == Speaker::Instructions;
    let parts = html! { @for part in &turn.parts { (self::part(part)) } };
    html! {
        div class={ "turn " (class) } {
            @if folded { details { summary { (who) } (parts) } }
            @else { p .who { (who) } (parts) }
        }
    }
}

fn part(part: &Part) -> Markup {
    let more = |cut: &Cut| omitted(cut.omitted as u64, "more bytes are in the file");
    match part {
        Part::Text(cut) => {
            html! { @if cut.text.lines().count() > LINES_OPEN { (block("text", &cut.text, cut.omitted as u64)) }
            @else { p .text { (cut.text) } (more(cut)) } }
        }
        Part::Reasoning(cut) => {
            html! { details { summary { "reasoning" } p .text { (cut.text) } (more(cut)) } }
        }
        Part::Call { name, input } => {
            html! { p { "calls " code { (name) } } (block("arguments", &input.text, input.omitted as u64)) }
        }
        Part::Output(cut) => block("output", &cut.text, cut.omitted as u64),
        Part::Other(what) => html! { p .dim { "(" (what) ", not shown)" } },
    }
}

fn patch(report: &RunReport) -> Markup {
    html! {
        h2 #patch { "The patch" }
        @if report.diff.text.is_empty() && report.diff.omitted_bytes == 0 {
            p .dim { "Nothing was changed." }
        } @else {
            p .dim { code { (report.patch_artifact) } ", " code { (report.patch_digest) } }
            div .diff {
                @for (kind, line) in diff::lines(&report.diff.text) {
                    div class=(kind.class()) { @if line.is_empty() { " " } @else { (line) } }
                }
            }
            (omitted(report.diff.omitted_bytes, "more bytes are in the file"))
        }
    }
}

fn printed(report: &RunReport, tests: &Excerpt) -> Markup {
    html! {
        h2 #printed { "What the tests printed" }
        @if tests.text.is_empty() { p .dim { "Nothing: no test was run." } }
        @else {
            p {
                "The judge " @if report.tests_passed { "accepted" } @else { "did not accept" } " the patch. "
                @if !report.tests_command.is_empty() { "Its command: " code { (report.tests_command) } }
            }
            (block("output", &tests.text, tests.omitted_bytes))
        }
    }
}

/// What passed, and everything that is there for those who look closer.
fn passed(report: &RunReport) -> Markup {
    let held = report.gates.iter().filter(|row| row.state == State::Ok).count() as u64;
    let others: Vec<&Finding> = report
        .gates
        .iter()
        .filter(|row| matches!(row.state, State::NotAsked | State::NotReached))
        .collect();
    let check = |row: &Finding| {
        pair(
            &row.id,
            html! {
                @if row.state != State::Ok { span .dim { (state_word(row.state)) ": " } }
                (row.found)
            },
        )
    };
    let baseline = |row: &record::evidence::Baseline| {
        let word = |accepted: bool| if accepted { "accepted" } else { "rejected" };
        vec![
            html! { (row.name) },
            html! { (word(row.expected_accept)) },
            html! { (word(row.accepted)) },
            yes_no(row.held()),
            html! { (row.note) },
        ]
    };
    let baselines: Vec<_> = report.baselines.iter().map(baseline).collect();
    let whose = match &report.baselines_of {
        None => "the same run".to_owned(),
        Some(of) => format!("{} of the same campaign", of.directory),
    };
    html! {
        h2 #passed { "What passed, and the rest" }
        details {
            summary { (plural(held, "check", "checks")) " held before the start" }
            dl { @for row in report.gates.iter().filter(|row| row.state == State::Ok) { (check(row)) } }
        }
        @if !others.is_empty() {
            details {
                summary { (plural(others.len() as u64, "check was", "checks were")) " not made" }
                dl { @for row in others { (check(row)) } }
            }
        }
        @if !baselines.is_empty() {
            details {
                summary { (plural(baselines.len() as u64, "baseline", "baselines")) " of " (whose) }
                (table(&["patch", "must be", "was", "held", "note"], &baselines))
            }
        }
        @if !report.required_events.is_empty() {
            details {
                summary { (plural(report.required_events.len() as u64, "required event", "required events")) }
                dl { @for row in &report.required_events {
                    (pair(&row.kind, html! { (yes_no(row.seen)) " " span .dim { "by " (row.by.as_str()) } }))
                } }
            }
        }
        details {
            summary { (plural(report.events.count, "event", "events")) " in order" }
            p .dim { "The chain ends in " code { (report.events.head) } "." }
            ol .timeline {
                @for row in &report.timeline {
                    li {
                        span .at { (millis(row.monotonic_ns)) " ms" }
                        span class={ "by " (row.by.as_str()) } { (row.by.as_str()) }
                        code { (row.kind) }
                        span .data { (row.data.text) }
                    }
                }
            }
            (omitted(report.timeline_omitted, "events in between are left out"))
        }
        @if !report.wire.is_empty() {
            details {
                summary { (plural(report.wire.len() as u64, "exchange", "exchanges")) " as bytes" }
                dl { @for row in &report.wire {
                    (pair(&match row.number { 0 => "before the start".to_owned(), number => number.to_string() }, html! { code { (row.request_file) } ", " code { (row.reply_file) } }))
                } }
            }
        }
        details {
            summary { "every field of the report" }
            dl { @for (name, value) in facts(report) { (pair(name, html! { (value) })) } }
        }
        h2 #limits { "What stays open" }
        ul { @for limit in &report.limits { li { (limit) } } }
    }
}
