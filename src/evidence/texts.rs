//! The report's three forms, without a secret in any.

use super::files::RunDir;
use super::{html, names, render};
use crate::error::{Error, Reason, Result};
use crate::record;
use crate::record::evidence::RunReport;
use crate::record::failure::FailureClass;
use crate::record::sealed::Excerpt;
use crate::secrets::{Hit, Known, Rules, Secret, look};

/// The rules that hit, each once.
pub(super) fn ids(hits: &[Hit]) -> String {
    let ids: std::collections::BTreeSet<_> = hits.iter().map(|hit| hit.id.as_str()).collect();
    ids.into_iter().collect::<Vec<_>>().join(", ")
}

/// Name, role, media type, bytes.
pub(super) type Text = (&'static str, &'static str, &'static str, Vec<u8>);

fn texts(report: &RunReport, dir: &RunDir) -> [Text; 3] {
    let page = html::page(report, &|name, limit| dir.read(name, limit).ok());
    [
        (names::REPORT, "report", "application/json", record::pretty(report)),
        (names::REPORT_MD, "report", "text/markdown", render::markdown(report).into_bytes()),
        (names::REPORT_HTML, "report", "text/html", page.into_bytes()),
    ]
}

/// Replaces the sentinel in every part of the report that comes from outside.
pub(super) fn withhold(report: &mut RunReport, sentinel: &Secret) {
    let Ok(sentinel) = std::str::from_utf8(sentinel.expose()) else { return };
    let clean = |text: &mut String| {
        if text.contains(sentinel) {
            *text = text.replace(sentinel, "[sentinel]");
        }
    };
    report.blockers.iter_mut().for_each(clean);
    report.failure_reason.iter_mut().for_each(clean);
    report.server_said.iter_mut().for_each(clean);
    report.hosts_asked.iter_mut().for_each(clean);
    report.timeline.iter_mut().for_each(|row| clean(&mut row.data.text));
    report.baselines.iter_mut().for_each(|row| clean(&mut row.note));
    clean(&mut report.diff.text);
    for row in &mut report.wire {
        clean(&mut row.request.text);
        clean(&mut row.reply.text);
    }
}

/// The report's three forms without a secret in any: first the parts that come from outside go, then all but the end.
pub(super) fn clean_texts(
    report: &mut RunReport,
    dir: &RunDir,
    known: &Known,
) -> Result<[Text; 3]> {
    for attempt in 0..3 {
        let texts = texts(report, dir);
        let look = |(.., bytes): &Text| look(bytes, known, Rules::On);
        let hits: Vec<_> = texts.iter().flat_map(look).collect();
        if hits.is_empty() {
            return Ok(texts);
        }
        report.reject(FailureClass::SecretFound);
        let line = format!("a secret ({}) in the report, which was cut for it", ids(&hits));
        match attempt {
            0 => {
                report.timeline.clear();
                report.wire.clear();
                report.server_said = None;
                report.hosts_asked.clear();
                report.diff =
                    Excerpt { text: String::new(), omitted_bytes: report.diff.text.len() as u64 };
                report.blockers.push(line);
            }
            _ => {
                let mut bare = RunReport::draft("withheld", &report.backend, &report.started);
                bare.fail(FailureClass::SecretFound, "");
                bare.finished = report.finished.clone();
                bare.case_process_started = report.case_process_started;
                bare.events = report.events.clone();
                bare.patch_digest = report.patch_digest.clone();
                bare.blockers.push(line);
                *report = bare;
            }
        }
    }
    Err(Error::new(Reason::Internal, "no report can be written without a secret in it"))
}
