//! `report.html`: one page, made from `report.json` alone. No script, no network (its own policy forbids both), and
//! everything that came from outside is escaped text.

use std::fmt::Write as _;

use super::diff;
use super::render::{facts, gate_word, millis, visible};
use crate::record::evidence::{GateStatus, RunReport, RunStatus};
use crate::record::sealed::Excerpt;

const STYLE: &str = include_str!("page.css");

/// Text for element content and double-quoted attributes.
fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn status_class(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Pass => "good",
        RunStatus::Rehearsed => "even",
        RunStatus::Blocked | RunStatus::Fail => "bad",
    }
}

fn gate_class(status: GateStatus) -> &'static str {
    match status {
        GateStatus::Pass => "good",
        GateStatus::Fail => "bad",
        GateStatus::NotChecked | GateStatus::NotApplicable => "even",
    }
}

fn badge(class: &str, text: &str) -> String {
    format!("<span class=\"badge {class}\">{}</span>", esc(text))
}

fn yes_no(good: bool) -> String {
    if good { badge("good", "yes") } else { badge("bad", "no") }
}

fn table(out: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    out.push_str("<div class=\"scroll\"><table><thead><tr>");
    for head in heads {
        let _ = write!(out, "<th>{head}</th>");
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{cell}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

fn excerpt(out: &mut String, title: &str, file: &str, text: &Excerpt) {
    let _ =
        writeln!(out, "<p>{title} <code>{}</code></p><pre>{}</pre>", esc(file), esc(&text.text));
    omitted(out, text.omitted_bytes, "more bytes are in the file");
}

fn omitted(out: &mut String, count: u64, what: &str) {
    if count > 0 {
        let _ = writeln!(out, "<p class=\"dim\">{count} {what}.</p>");
    }
}

/// The report as one HTML page.
pub fn page(report: &RunReport) -> String {
    let mut out = String::new();
    let title = format!("{}: {}", esc(&report.fixture), report.status.as_str());
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style></head><body><main>\n"
    );
    head(&mut out, report);
    out.push_str("<h2 id=\"gates\">Gates</h2>\n");
    let gates = report.gates.iter().map(|row| {
        vec![
            format!("<code>{}</code>", esc(&row.id)),
            badge(gate_class(row.status), gate_word(row.status)),
            esc(&row.expected),
            esc(&row.found),
            esc(&row.fix),
        ]
    });
    table(&mut out, &["gate", "status", "expected", "found", "fix"], gates);
    out.push_str("<h2 id=\"baselines\">Baselines of the same run</h2>\n");
    let baselines = report.baselines.iter().map(|row| {
        let word = |accepted: bool| (if accepted { "accepted" } else { "rejected" }).to_owned();
        vec![
            esc(&row.name),
            word(row.expected_accept),
            word(row.accepted),
            yes_no(row.held()),
            esc(&row.note),
        ]
    });
    table(&mut out, &["name", "must be", "was", "held", "note"], baselines);
    out.push_str("<h2 id=\"events\">Required events</h2>\n");
    let events = report.required_events.iter().map(|row| {
        vec![format!("<code>{}</code>", esc(&row.kind)), yes_no(row.seen), row.by.as_str().into()]
    });
    table(&mut out, &["event", "seen", "by"], events);
    timeline(&mut out, report);
    patch(&mut out, report);
    wire(&mut out, report);
    out.push_str("<h2 id=\"limits\">What stays open</h2>\n<ul>\n");
    for limit in &report.limits {
        let _ = writeln!(out, "<li>{}</li>", esc(limit));
    }
    out.push_str("</ul>\n<p class=\"dim\">Made from report.json alone. ");
    out.push_str("<code>admit verify</code> of the run directory checks every file and prints the run's id.</p>\n");
    out.push_str("</main></body></html>\n");
    out
}

fn head(out: &mut String, report: &RunReport) {
    let status = report.status.as_str();
    let _ = writeln!(
        out,
        "<header><h1>{} {}</h1>\n<p class=\"dim\">stage {} · {} · {} to {}</p>",
        esc(&report.fixture),
        badge(status_class(report.status), status),
        report.stage,
        esc(&report.backend),
        esc(&report.started.to_string()),
        esc(&report.finished.to_string()),
    );
    if let Some(reason) = &report.failure_reason {
        let _ = writeln!(out, "<p class=\"reason\">{}</p>", esc(reason));
    }
    if !report.blockers.is_empty() {
        out.push_str("<ul class=\"blockers\">\n");
        for blocker in &report.blockers {
            let _ = writeln!(out, "<li>{}</li>", esc(blocker));
        }
        out.push_str("</ul>\n");
    }
    out.push_str("<nav>");
    for (id, text) in [
        ("facts", "facts"),
        ("gates", "gates"),
        ("baselines", "baselines"),
        ("events", "required events"),
        ("timeline", "timeline"),
        ("patch", "patch"),
        ("wire", "wire"),
        ("limits", "limits"),
    ] {
        let _ = write!(out, "<a href=\"#{id}\">{text}</a> ");
    }
    out.push_str("</nav></header>\n<h2 id=\"facts\">Facts</h2>\n");
    let rows = facts(report);
    let rows = rows.iter().map(|(name, value)| vec![format!("<code>{name}</code>"), esc(value)]);
    table(out, &["name", "value"], rows);
}

fn timeline(out: &mut String, report: &RunReport) {
    let _ = writeln!(
        out,
        "<h2 id=\"timeline\">Timeline</h2>\n<p class=\"dim\">{} events; the chain ends in <code>{}</code></p>",
        report.events.count, report.events.head
    );
    let end = report.timeline.iter().map(|row| row.monotonic_ns).max().unwrap_or(0).max(1);
    let rows = report.timeline.iter().map(|row| {
        // Thousandths of the whole span: integers, so that the page is the same everywhere.
        let at = u128::from(row.monotonic_ns) * 1000 / u128::from(end);
        vec![
            format!("<span class=\"n\">{}</span>", millis(row.monotonic_ns)),
            format!("<span class=\"track\"><i style=\"left:{}.{}%\"></i></span>", at / 10, at % 10),
            format!("<span class=\"by {0}\">{0}</span>", row.by.as_str()),
            format!("<code>{}</code>", esc(&row.kind)),
            format!("<code class=\"data\">{}</code>", esc(&row.data.text)),
        ]
    });
    table(out, &["ms", "", "by", "event", "data"], rows);
    omitted(out, report.timeline_omitted, "events in between are left out");
}

fn patch(out: &mut String, report: &RunReport) {
    let _ = writeln!(
        out,
        "<h2 id=\"patch\">Patch</h2>\n<p class=\"dim\"><code>{}</code> {}</p>\n<pre class=\"diff\">",
        esc(&report.patch_artifact),
        report.patch_digest
    );
    for (kind, line) in diff::lines(&report.diff.text) {
        let _ = writeln!(out, "<span class=\"{}\">{}</span>", kind.class(), esc(line));
    }
    out.push_str("</pre>\n");
    omitted(out, report.diff.omitted_bytes, "more bytes are in the file");
}

fn wire(out: &mut String, report: &RunReport) {
    out.push_str("<h2 id=\"wire\">Wire</h2>\n");
    for row in &report.wire {
        let status = row.status.map_or("none".into(), |status| status.to_string());
        let _ = writeln!(
            out,
            "<details><summary>{}. {} · status {status} · {} · at {} ms, {} ms</summary>",
            row.number,
            esc(&row.request_line),
            esc(&row.class),
            millis(row.monotonic_ns),
            millis(row.duration_ns),
        );
        excerpt(out, "request", &row.request_file, &row.request);
        excerpt(out, "reply", &row.reply_file, &row.reply);
        out.push_str("</details>\n");
    }
    omitted(out, report.wire_omitted, "exchanges are left out");
}
