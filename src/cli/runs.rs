//! Run directories on the command line: naming one, and saying what a check of it found.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::App;
use crate::error::{Error, Reason, Result};
use crate::evidence::{self, RunCheck};
use crate::model::ids::Digest;
use crate::ui::Mark;

/// `<state>/admit/runs`.
pub(super) fn dir(app: &App) -> Result<PathBuf> {
    Ok(app.state_dir()?.join("runs"))
}

/// The names of all run directories, oldest first; none where there is no such directory yet.
pub(super) fn all(app: &App) -> Result<Vec<PathBuf>> {
    let dir = dir(app)?;
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(Error::io("list the runs", &dir, err)),
    };
    let mut out = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|err| Error::io("list the runs", &dir, err))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            out.push(entry.path());
        }
    }
    out.sort();
    Ok(out)
}

/// The run directory that `text` names: a path, the name of one of this user's runs, or `latest`.
pub(super) fn find(app: &App, text: &str) -> Result<PathBuf> {
    if text == "latest" {
        return all(app)?.pop().ok_or_else(|| {
            Error::new(Reason::NotFound, "there are no runs yet").hint("admit run stage2")
        });
    }
    let plain = !text.contains('/') && !text.starts_with('.');
    let own = dir(app)?.join(text);
    Ok(if plain && own.is_dir() { own } else { app.host.absolute(Path::new(text)) })
}

/// Checks the run directory and says what was found. The exit code is 0, or that of the first fault.
pub(super) fn verify(app: &App, run: &Path, id: Option<&Digest>) -> Result<u8> {
    let checked = evidence::check(run, id)?;
    app.ui.json(&value(&checked));
    for fault in &checked.faults {
        app.ui.row(Mark::Bad, &fault.path, fault.kind.reason().as_str());
        app.ui.detail("expected", &fault.expected);
        app.ui.detail("found", &fault.found);
    }
    for note in &checked.notes {
        app.ui.remark(note);
    }
    match (checked.error(), checked.level, &checked.report) {
        (Some(err), ..) => {
            app.ui.remark(&format!("{}: {}", err.reason(), err.what()));
            return Ok(err.kind().exit_code());
        }
        (None, Some(level), Some(report)) => {
            let status = report.status.as_str();
            app.ui.row(Mark::Good, "files", &format!("{} as sealed", checked.files));
            app.ui.row(Mark::Good, "level", level.as_str());
            app.ui.row(Mark::Note, "status", status);
            if let Some(id) = &checked.id {
                app.ui.line(&id.to_string());
            }
        }
        _ => {}
    }
    Ok(0)
}

/// A check as data.
pub(super) fn value(checked: &RunCheck) -> Value {
    let faults: Vec<Value> = checked
        .faults
        .iter()
        .map(|fault| {
            json!({
                "reason": fault.kind.reason().as_str(), "path": fault.path,
                "expected": fault.expected, "found": fault.found,
            })
        })
        .collect();
    json!({
        "schema": "admit.run-check/1",
        "directory": checked.directory,
        "id": checked.id,
        "level": checked.level.map(evidence::Level::as_str),
        "files": checked.files,
        "faults": faults,
        "notes": checked.notes,
        "status": checked.report.as_ref().map(|report| report.status),
    })
}
