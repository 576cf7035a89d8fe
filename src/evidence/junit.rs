//! A run and a health report for pipelines: JUnit's XML, a summary of at most 20 lines, annotations of a change request.
//! Pure. What came from outside is escaped for the form that it stands in.

use std::fmt::Write as _;

use super::render::visible;
use crate::explain;
use crate::record::evidence::{RunReport, RunStatus};
use crate::record::finding::State;
use crate::record::health::{HealthReport, Outcome};
use crate::record::ids::Digest;

enum End {
    Passed,
    /// A message and a text.
    Failed(String, String),
    Skipped(String),
}

type Case = (String, End);

/// Text inside an element or an attribute. XML 1.0 has no form for most control characters at all.
fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn suite(name: &str, class: &str, cases: &[Case]) -> String {
    let failed = cases.iter().filter(|case| matches!(case.1, End::Failed(..))).count();
    let skipped = cases.iter().filter(|case| matches!(case.1, End::Skipped(_))).count();
    let counts = format!(
        "tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\"",
        cases.len()
    );
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let _ = writeln!(out, "<testsuites {counts}>\n  <testsuite name=\"{}\" {counts}>", xml(name));
    for (name, end) in cases {
        let _ = write!(out, "    <testcase classname=\"{}\" name=\"{}\"", xml(class), xml(name));
        let _ = match end {
            End::Passed => writeln!(out, "/>"),
            End::Failed(message, text) => writeln!(
                out,
                ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                xml(message),
                xml(text)
            ),
            End::Skipped(why) => {
                writeln!(out, ">\n      <skipped message=\"{}\"/>\n    </testcase>", xml(why))
            }
        };
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

/// A run as JUnit: a case for the run itself, one for each check, each baseline and the judge. A rehearsal is no failure
/// unless a pass is `required`.
pub fn junit(report: &RunReport, required: bool) -> String {
    let why = || {
        let reason = report.failure_reason.clone();
        reason.unwrap_or_else(|| explain::status(report.status).to_owned())
    };
    let run = match report.status {
        RunStatus::Pass => End::Passed,
        RunStatus::Rehearsed if !required => End::Passed,
        status => {
            End::Failed(format!("{}: {}", status.as_str(), why()), report.blockers.join("\n"))
        }
    };
    let mut cases = vec![("run".to_owned(), run)];
    for row in &report.gates {
        let end = match row.state {
            State::Ok => End::Passed,
            State::Failed => End::Failed(
                row.reason.clone().unwrap_or_default(),
                format!("expected: {}\nfound: {}\nfix: {}", row.expected, row.found, row.fix),
            ),
            State::NotReached | State::NotAsked => End::Skipped(row.found.clone()),
        };
        cases.push((format!("check {}", row.id), end));
    }
    for row in &report.baselines {
        let end = if row.held() {
            End::Passed
        } else {
            End::Failed("ended wrong".into(), row.note.clone())
        };
        cases.push((format!("baseline {}", row.name), end));
    }
    let judge = match (report.case_process_started || report.tests_passed, report.tests_passed) {
        (_, true) => End::Passed,
        (true, false) => End::Failed("the judge did not accept the patch".into(), why()),
        (false, false) => End::Skipped("nothing was started".into()),
    };
    cases.push(("judge".to_owned(), judge));
    suite(&report.fixture, "admit.run", &cases)
}

/// A health report as JUnit: a case for each validator.
pub fn junit_of_health(report: &HealthReport) -> String {
    let case = |row: &crate::record::health::HealthRow| {
        let failed = |message: String| End::Failed(message, row.faults.join("\n"));
        let end = match row.outcome {
            Outcome::Passed => End::Passed,
            Outcome::Failed => failed(row.fault.clone()),
            // What was not run is no yes.
            Outcome::NotRun => failed(format!("not run: {}", row.fault)),
        };
        (row.name.clone(), end)
    };
    let cases: Vec<Case> = report.validators.iter().map(case).collect();
    let of = &report.provider;
    suite(&format!("admit health {of}"), &format!("admit.health.{of}"), &cases)
}

/// A run in at most 20 lines of Markdown, for the page of a job.
pub fn summary(report: &RunReport, id: Option<&Digest>) -> String {
    let inline = |text: &str| {
        let text = visible(text).replace(['\n', '\t'], " ");
        let mut out = String::new();
        for c in text.chars().take(300) {
            if "\\`*_[]|<>#&".contains(c) {
                out.push('\\');
            }
            out.push(c);
        }
        out
    };
    let mut lines =
        vec![format!("### {}: {}", report.status.as_str().to_uppercase(), inline(&report.fixture))];
    lines.push(String::new());
    lines.push(format!("{}.", explain::status(report.status)));
    if let Some(class) = report.failure_class {
        let (meaning, action) = explain::class(class);
        lines.push(format!("**{meaning}** ({}). {action}.", class.as_str()));
    }
    let shown = 4;
    lines.push(String::new());
    lines
        .extend(report.blockers.iter().take(shown).map(|blocker| format!("- {}", inline(blocker))));
    if report.blockers.len() > shown {
        lines.push(format!("- and {} more", report.blockers.len() - shown));
    }
    let pair = report.case_model_provider.as_deref().zip(report.case_model.as_deref());
    let rows = [
        ("agent", report.provider.clone()),
        ("source commit", report.case_source_pin.as_ref().map(ToString::to_string)),
        ("model", pair.map(|(provider, model)| format!("{provider}/{model}"))),
        ("evidence", Some(report.evidence_class.as_str().to_owned())),
        ("run", report.run_directory.rsplit('/').next().map(str::to_owned)),
        ("id", id.map(ToString::to_string)),
    ];
    lines.push(String::new());
    lines.push("| | |\n|---|---|".into());
    for (name, value) in rows {
        lines.extend(value.map(|value| format!("| {name} | {} |", inline(&value))));
    }
    lines.join("\n") + "\n"
}

/// A run as workflow commands, which a service shows beside the change: one for the run, one for each check that failed.
/// `required` as of [`junit`].
pub fn annotations(report: &RunReport, required: bool) -> String {
    // What ends a command or a property stands in the service's own escapes.
    let data =
        |text: &str| visible(text).replace('%', "%25").replace('\n', "%0A").replace('\r', "%0D");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let level = match report.status {
        RunStatus::Pass => "notice",
        RunStatus::Rehearsed if !required => "notice",
        _ => "error",
    };
    let reason = report.failure_reason.as_deref().unwrap_or(explain::status(report.status));
    let title = format!("admit {}: {}", report.status.as_str(), report.fixture);
    let mut out = format!("::{level} title={}::{}\n", property(&title), data(reason));
    for row in report.gates.iter().filter(|row| row.is_failed()) {
        let text = format!("expected: {}\nfound: {}\nfix: {}", row.expected, row.found, row.fix);
        let _ = writeln!(
            out,
            "::error title={}::{}",
            property(&format!("check {}", row.id)),
            data(&text)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;
    use crate::record::failure::FailureClass;
    use crate::record::finding::Finding;

    fn blocked() -> RunReport {
        let mut report = RunReport::draft("toy", "case", &"2026-11-20T12:00:00Z".parse().unwrap());
        report.status = RunStatus::Blocked;
        report.failure_class = Some(FailureClass::ModelNotAdmitted);
        report.failure_reason = Some(FailureClass::ModelNotAdmitted.failure_reason(""));
        let hostile = "a <b> & \"c\"\n::error::x\u{1b}[31m%";
        report.gates = vec![
            Finding::ok("stage", "2", "2"),
            Finding::failed("model_admitted", Reason::ModelNotAdmitted, "an admission", hostile),
            Finding::not_reached("credentials", vec!["model_admitted".into()]),
        ];
        report.blockers = vec![hostile.into(); 9];
        report
    }

    #[test]
    fn junit_counts_and_escapes() {
        let text = junit(&blocked(), false);
        assert!(text.contains("tests=\"5\" failures=\"2\" errors=\"0\" skipped=\"2\""), "{text}");
        assert!(text.contains("a &lt;b&gt; &amp; &quot;c&quot;&#10;"), "{text}");
        assert!(!text.contains('\u{1b}'));
        let mut rehearsed = blocked();
        rehearsed.status = RunStatus::Rehearsed;
        assert!(junit(&rehearsed, true).contains("failure message=\"rehearsed"));
        assert!(!junit(&rehearsed, false).contains("failure message=\"rehearsed"));
    }

    #[test]
    fn a_summary_is_short_and_annotations_are_a_line_each() {
        let text = summary(&blocked(), Some(&Digest::sha256(b"")));
        assert!(text.lines().count() <= 20, "{text}");
        assert!(text.starts_with("### BLOCKED: toy\n") && text.contains("and 5 more"), "{text}");
        assert!(!text.contains("<b>"), "{text}");
        let mut rehearsed = blocked();
        rehearsed.status = RunStatus::Rehearsed;
        assert!(annotations(&rehearsed, false).starts_with("::notice "));
        assert!(annotations(&rehearsed, true).starts_with("::error "));
        let text = annotations(&blocked(), false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines.iter().all(|line| line.starts_with("::error title=")), "{text}");
        assert!(lines[1].contains("%0A::error::x") && lines[1].ends_with("%25%0Afix: "), "{text}");
    }
}
