//! `report.html`: one page, made from `report.json` alone. No script and no network: its own policy forbids both.
//!
//! Everything that came from outside is text: the templates escape each value that is put into them, and the page as a
//! whole goes through [`visible`].

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::diff;
use super::render::{aside, contributed, facts, millis, state_word, took, visible, worker};
use crate::record::evidence::{RunReport, RunStatus};
use crate::record::finding::State;
use crate::record::sealed::Excerpt;

const STYLE: &str = include_str!("page.css");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The report as one HTML page.
pub fn page(report: &RunReport) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (report.fixture) ": " (report.status.as_str()) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(report))
                    (gates(report))
                    (baselines(report))
                    (events(report))
                    (timeline(report))
                    (patch(report))
                    (wire(report))
                    h2 #limits { "What stays open" }
                    ul { @for limit in &report.limits { li { (limit) } } }
                    p .dim {
                        "Made from report.json alone. " code { "admit verify" }
                        " of the run directory checks every file and prints the run's id."
                    }
                }
            }
        }
    };
    visible(&page.into_string())
}

fn badge(class: &str, text: &str) -> Markup {
    html! { span class={ "badge " (class) } { (text) } }
}

fn yes_no(good: bool) -> Markup {
    if good { badge("good", "yes") } else { badge("bad", "no") }
}

fn table(heads: &[&str], rows: Markup) -> Markup {
    html! {
        div .scroll {
            table {
                thead { tr { @for head in heads { th { (head) } } } }
                tbody { (rows) }
            }
        }
    }
}

fn omitted(count: u64, what: &str) -> Markup {
    html! { @if count > 0 { p .dim { (count) " " (what) "." } } }
}

fn head(report: &RunReport) -> Markup {
    let status = match report.status {
        RunStatus::Pass => "good",
        RunStatus::Rehearsed => "even",
        RunStatus::Blocked | RunStatus::Fail => "bad",
    };
    let sections = [
        ("facts", "facts"),
        ("gates", "gates"),
        ("baselines", "baselines"),
        ("events", "required events"),
        ("timeline", "timeline"),
        ("patch", "patch"),
        ("wire", "wire"),
        ("limits", "limits"),
    ];
    let rows = html! {
        @for (name, value) in facts(report) { tr { td { code { (name) } } td { (value) } } }
    };
    html! {
        header {
            h1 {
                (report.fixture) " " (badge(status, report.status.as_str()))
                @for said in aside(report) { " " (badge("even", &said)) }
            }
            p .dim {
                "stage " (report.stage) " · " (worker(report)) " · "
                (report.started) " to " (report.finished)
            }
            @if let Some(reason) = &report.failure_reason { p .reason { (reason) } }
            @if !report.blockers.is_empty() {
                ul .blockers { @for blocker in &report.blockers { li { (blocker) } } }
            }
            @if let Some(said) = &report.server_said { p { "the server said: " (said) } }
            @if !report.contributing.is_empty() {
                p .dim { "before, and not decisive:" }
                ul .dim { @for fault in &report.contributing { li { (contributed(fault)) } } }
            }
            nav { @for (id, text) in sections { a href={ "#" (id) } { (text) } " " } }
        }
        h2 #facts { "Facts" }
        (table(&["name", "value"], rows))
        (phases(report))
    }
}

fn phases(report: &RunReport) -> Markup {
    let rows = html! {
        @for phase in &report.phases {
            tr {
                td { (phase.name) }
                td { (phase.outcome.as_str()) }
                td { span .n { (took(phase)) } }
                td { (phase.requests) }
                td { (phase.input_tokens) }
                td { (phase.output_tokens) }
            }
        }
    };
    html! {
        @if !report.phases.is_empty() {
            h2 #phases { "Phases" }
            p .dim { "Names, ends and times are the agent's own words; requests and tokens were seen on the wire." }
            (table(&["phase", "ended", "ms", "requests", "input tokens", "output tokens"], rows))
        }
    }
}

fn gates(report: &RunReport) -> Markup {
    let class = |status| match status {
        State::Ok => "good",
        State::Failed => "bad",
        State::NotReached | State::NotAsked => "even",
    };
    let rows = html! {
        @for row in &report.gates {
            tr {
                td { code { (row.id) } }
                td { (badge(class(row.state), state_word(row.state))) }
                td { (row.expected) }
                td { (row.found) }
                td { (row.fix) }
            }
        }
    };
    html! {
        h2 #gates { "Gates" }
        (table(&["gate", "status", "expected", "found", "fix"], rows))
    }
}

fn baselines(report: &RunReport) -> Markup {
    let word = |accepted: bool| if accepted { "accepted" } else { "rejected" };
    let rows = html! {
        @for row in &report.baselines {
            tr {
                td { (row.name) }
                td { (word(row.expected_accept)) }
                td { (word(row.accepted)) }
                td { (yes_no(row.held())) }
                td { (row.note) }
            }
        }
    };
    html! {
        h2 #baselines { "Baselines of the same run" }
        (table(&["name", "must be", "was", "held", "note"], rows))
    }
}

fn events(report: &RunReport) -> Markup {
    let rows = html! {
        @for row in &report.required_events {
            tr { td { code { (row.kind) } } td { (yes_no(row.seen)) } td { (row.by.as_str()) } }
        }
    };
    html! {
        h2 #events { "Required events" }
        (table(&["event", "seen", "by"], rows))
    }
}

fn timeline(report: &RunReport) -> Markup {
    let end = report.timeline.iter().map(|row| row.monotonic_ns).max().unwrap_or(0).max(1);
    // Thousandths of the whole span: integers, so that the page is the same everywhere.
    let place = |ns: u64| {
        let at = u128::from(ns) * 1000 / u128::from(end);
        format!("left:{}.{}%", at / 10, at % 10)
    };
    let rows = html! {
        @for row in &report.timeline {
            tr {
                td { span .n { (millis(row.monotonic_ns)) } }
                td { span .track { i style=(place(row.monotonic_ns)) {} } }
                td { span class={ "by " (row.by.as_str()) } { (row.by.as_str()) } }
                td { code { (row.kind) } }
                td { code .data { (row.data.text) } }
            }
        }
    };
    html! {
        h2 #timeline { "Timeline" }
        p .dim { (report.events.count) " events; the chain ends in " code { (report.events.head) } }
        (table(&["ms", "", "by", "event", "data"], rows))
        (omitted(report.timeline_omitted, "events in between are left out"))
    }
}

fn patch(report: &RunReport) -> Markup {
    html! {
        h2 #patch { "Patch" }
        p .dim { code { (report.patch_artifact) } " " (report.patch_digest) }
        pre .diff {
            @for (kind, line) in diff::lines(&report.diff.text) {
                span class=(kind.class()) { (line) } "\n"
            }
        }
        (omitted(report.diff.omitted_bytes, "more bytes are in the file"))
    }
}

fn wire(report: &RunReport) -> Markup {
    let excerpt = |title: &str, file: &str, text: &Excerpt| {
        html! {
            p { (title) " " code { (file) } }
            pre { (text.text) }
            (omitted(text.omitted_bytes, "more bytes are in the file"))
        }
    };
    html! {
        h2 #wire { "Wire" }
        @for row in &report.wire {
            details {
                summary {
                    (row.number) ". " (row.request_line) " · status "
                    (row.status.map_or("none".to_owned(), |status| status.to_string()))
                    " · " (row.class) " · at " (millis(row.monotonic_ns)) " ms, "
                    (millis(row.duration_ns)) " ms"
                }
                (excerpt("request", &row.request_file, &row.request))
                (excerpt("reply", &row.reply_file, &row.reply))
            }
        }
        (omitted(report.wire_omitted, "exchanges are left out"))
    }
}
