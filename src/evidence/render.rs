//! `report.md`, made from `report.json` alone, and what both renderings share.

use std::fmt::Write as _;

use crate::record::evidence::{Contributing, Phase, PhaseOutcome, RunReport};
use crate::record::failure::FailureClass;
use crate::record::finding::State;

/// A row of the facts table: what users of older reports look for, under the names they know.
pub fn facts(report: &RunReport) -> Vec<(&'static str, String)> {
    vec![
        ("status", report.status.as_str().into()),
        ("evidence_class", report.evidence_class.as_str().into()),
        ("failure_class", shown(&report.failure_class.map(FailureClass::as_str))),
        ("failure_reason", shown(&report.failure_reason)),
        ("fixture", report.fixture.clone()),
        ("fixture_digest", shown(&report.fixture_digest)),
        ("stage", report.stage.to_string()),
        ("started", report.started.to_string()),
        ("finished", report.finished.to_string()),
        ("backend", report.backend.clone()),
        ("provider", shown(&report.provider)),
        ("agent", shown(&report.agent)),
        ("wire_api", shown(&report.wire_api)),
        ("backend_exit_code", shown(&report.backend_exit_code)),
        ("backend_wait_status", shown(&report.backend_wait_status)),
        ("backend_exit_code_source", shown(&report.backend_exit_code_source)),
        ("case_process_started", report.case_process_started.to_string()),
        ("case_bin", shown(&report.case_bin)),
        ("case_binary_sha256", shown(&report.case_binary_sha256)),
        ("case_source_pin", shown(&report.case_source_pin)),
        ("source_admission_status", report.source_admission_status.clone()),
        ("case_model_provider", shown(&report.case_model_provider)),
        ("case_model", shown(&report.case_model)),
        ("case_model_admission_status", report.case_model_admission_status.as_str().into()),
        ("case_model_admission_file", shown(&report.case_model_admission_file)),
        ("model_record_sha256", shown(&report.model_record_sha256)),
        ("case_runtime_model_provider", shown(&report.case_runtime_model_provider)),
        ("allowed_writes_passed", report.allowed_writes_passed.to_string()),
        ("changed_files", report.changed_files.join(", ")),
        ("patch_artifact", report.patch_artifact.clone()),
        ("patch_digest", report.patch_digest.to_string()),
        ("tests_command", report.tests_command.clone()),
        ("tests_passed", report.tests_passed.to_string()),
        ("required_events_passed", report.required_events_passed.to_string()),
        ("no_target_inspection_proof", report.no_target_inspection_proof.clone()),
        ("no_target_inspection_passed", report.no_target_inspection_passed.to_string()),
        ("protocol_marker", shown(&report.protocol_marker)),
        ("lifecycle_marker", shown(&report.lifecycle_marker)),
        ("root", report.root.label.clone()),
        ("root_digest", shown(&report.root.digest)),
        ("run_directory", report.run_directory.clone()),
        ("admit_version", report.admit_version.clone()),
    ]
}

fn shown(value: &Option<impl ToString>) -> String {
    value.as_ref().map_or("none".into(), ToString::to_string)
}

/// Who worked: the provider by its name, else the engine.
pub(super) fn worker(report: &RunReport) -> &str {
    report.provider.as_deref().unwrap_or(&report.backend)
}

/// What stands beside the status: each phase that ended as failed, whatever the status is.
pub fn aside(report: &RunReport) -> Vec<String> {
    let failed = report.phases.iter().filter(|phase| phase.outcome == PhaseOutcome::Failed);
    failed.map(|phase| format!("{} said failed", phase.name)).collect()
}

/// A fault that did not decide, in a line.
pub(super) fn contributed(fault: &Contributing) -> String {
    let place = fault.exchange.map_or(String::new(), |n| format!(" in exchange {n}"));
    format!("{}: {}{place}", fault.class.as_str(), fault.detail)
}

/// How long a phase took, in milliseconds; nothing where its times were not seen.
pub(super) fn took(phase: &Phase) -> String {
    match (phase.started, phase.ended) {
        (Some(from), Some(to)) => millis(to.saturating_sub(from)),
        _ => String::new(),
    }
}

pub(super) fn state_word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Failed => "failed",
        State::NotReached => "not reached",
        State::NotAsked => "not asked",
    }
}

/// Milliseconds with three places, from nanoseconds.
pub fn millis(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000, ns / 1_000 % 1_000)
}

/// `text` with everything made visible that a terminal or a reader's eye could be fooled by: control characters
/// (line ends and tabs stay) and the marks that turn or hide text.
pub fn visible(text: &str) -> String {
    // As nearly all text is: nothing to hide.
    if text.bytes().all(|b| matches!(b, b'\n' | b'\t' | b' '..=b'~')) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
        if hidden || (c.is_control() && !matches!(c, '\n' | '\t')) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Text inside a line or a table's cell.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for c in visible(text).chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// A short name as code: what would end the code or the cell is shown as a quote.
fn code(text: &str) -> String {
    format!("`{}`", visible(text).replace(['`', '|', '<', '>', '\n', '\t'], "'"))
}

/// A fenced block whose fence is longer than any in the text.
fn fenced(out: &mut String, language: &str, text: &str, omitted: u64) {
    let text = visible(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{fence}{language}\n{text}{end}{fence}");
    if omitted > 0 {
        let _ = writeln!(out, "\n{omitted} more bytes are in the file.");
    }
}

pub fn markdown(report: &RunReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let beside: String = aside(report).iter().map(|said| format!(" ({})", inline(said))).collect();
    line(format!("# {}: {}{beside}\n", inline(&report.fixture), report.status.as_str()));
    line(format!("stage {}, {}\n", report.stage, inline(worker(report))));
    if let Some(reason) = &report.failure_reason {
        line(format!("**{}**\n", inline(reason)));
    }
    for blocker in &report.blockers {
        line(format!("- {}", inline(blocker)));
    }
    if let Some(said) = &report.server_said {
        line(format!("\nThe server said: {}", inline(said)));
    }
    if !report.contributing.is_empty() {
        line("\nBefore, and not decisive:\n".into());
    }
    for fault in &report.contributing {
        line(format!("- {}", inline(&contributed(fault))));
    }
    if !report.hosts_asked.is_empty() {
        line(format!(
            "\nOther hosts that were asked for, and not reached: {}",
            inline(&report.hosts_asked.join(", "))
        ));
    }
    line("\n## Facts\n\n| name | value |\n|---|---|".into());
    for (name, value) in facts(report) {
        line(format!("| `{name}` | {} |", inline(&value)));
    }
    if !report.phases.is_empty() {
        line("\n## Phases\n\n| phase | ended | ms | requests | input tokens | output tokens |\n|---|---|---:|---:|---:|---:|".into());
    }
    for row in &report.phases {
        line(format!(
            "| {} | {} | {} | {} | {} | {} |",
            inline(&row.name),
            row.outcome.as_str(),
            took(row),
            row.requests,
            row.input_tokens,
            row.output_tokens
        ));
    }
    line("\n## Gates\n\n| gate | status | expected | found | fix |\n|---|---|---|---|---|".into());
    for row in &report.gates {
        let cells = [&row.expected, &row.found, &row.fix].map(|text| inline(text));
        let [expected, found, fix] = cells;
        let (id, word) = (code(&row.id), state_word(row.state));
        line(format!("| {id} | {word} | {expected} | {found} | {fix} |"));
    }
    line("\n## Baselines\n".into());
    if let Some(of) = &report.baselines_of {
        let (directory, run) = (code(&of.directory), code(&of.run.to_string()));
        line(format!(
            "Those of {directory} of the same campaign, {run}, {} s before.\n",
            of.seconds
        ));
    }
    line("| name | must be accepted | was accepted | held | note |\n|---|---|---|---|---|".into());
    for row in &report.baselines {
        line(format!(
            "| {} | {} | {} | {} | {} |",
            inline(&row.name),
            row.expected_accept,
            row.accepted,
            row.held(),
            inline(&row.note)
        ));
    }
    line("\n## Required events\n\n| event | seen | by |\n|---|---|---|".into());
    for row in &report.required_events {
        line(format!("| {} | {} | {} |", code(&row.kind), row.seen, row.by.as_str()));
    }
    line(format!(
        "\n## Timeline\n\n{} events, chain ends in `{}`\n\n| ms | by | event | data |\n|---:|---|---|---|",
        report.events.count, report.events.head
    ));
    for row in &report.timeline {
        let at = millis(row.monotonic_ns);
        let (kind, data) = (inline(&row.kind), inline(&row.data.text));
        line(format!("| {at} | {} | {kind} | {data} |", row.by.as_str()));
    }
    if report.timeline_omitted > 0 {
        line(format!("\n{} events in between are left out.", report.timeline_omitted));
    }
    out.push_str("\n## Patch\n\n");
    fenced(&mut out, "diff", &report.diff.text, report.diff.omitted_bytes);
    out.push_str("\n## Wire\n");
    for row in &report.wire {
        let status = row.status.map_or("none".into(), |status| status.to_string());
        let _ = writeln!(
            out,
            "\n### {}. {}: status {status}, {}\n\nat {} ms, took {} ms; {}, {}\n",
            match row.number {
                0 => "Before the start".into(),
                number => number.to_string(),
            },
            inline(&row.request_line),
            inline(&row.class),
            millis(row.monotonic_ns),
            millis(row.duration_ns),
            code(&row.request_file),
            code(&row.reply_file),
        );
        fenced(&mut out, "", &row.request.text, row.request.omitted_bytes);
        out.push('\n');
        fenced(&mut out, "", &row.reply.text, row.reply.omitted_bytes);
    }
    if report.wire_omitted > 0 {
        let _ = writeln!(out, "\n{} exchanges are left out.", report.wire_omitted);
    }
    out.push_str("\n## Limits\n\n");
    for limit in &report.limits {
        let _ = writeln!(out, "- {}", inline(limit));
    }
    out
}
