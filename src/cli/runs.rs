//! Run directories on the command line: naming one, and saying what a check of it found.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::App;
use super::verify::{Signatures, bundle};
use crate::attest::{self, Held, Refused};
use crate::error::{Error, Reason, Result};
use crate::evidence::{self, Level, RunCheck};
use crate::record::ids::Digest;
use crate::record::signing::Kind;
use crate::root::Root;
use crate::ui::Mark;

/// `<state>/admit/runs`.
pub(super) fn dir(app: &App) -> Result<PathBuf> {
    app.context.runs_dir()
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
        let meta = entry.metadata().map_err(|err| Error::io("look at", entry.path(), err))?;
        let stamp = entry.file_name().to_str().and_then(stamp).map(str::to_owned);
        if let (true, Some(stamp)) = (meta.is_dir(), stamp) {
            // Within a second the process ids say nothing; the directory was last written when it was sealed.
            out.push((stamp, meta.modified().ok(), entry.path()));
        }
    }
    out.sort();
    Ok(out.into_iter().map(|(.., path)| path).collect())
}

/// The time in a run directory's name (`20261120T120000Z-<fixture>-<pid>`); nothing else is a run's name.
fn stamp(name: &str) -> Option<&str> {
    let (stamp, rest) = name.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (day, time) = stamp.strip_suffix('Z')?.split_once('T')?;
    let number = rest.rsplit_once('-').is_some_and(|(_, last)| digits(last));
    (day.len() == 8 && time.len() == 6 && digits(day) && digits(time) && number).then_some(stamp)
}

/// The directory of this user's own run of that name, sealed or not.
pub(super) fn own(app: &App, name: &str) -> Result<Option<PathBuf>> {
    let dir = dir(app)?.join(name);
    Ok((stamp(name).is_some() && dir.is_dir()).then_some(dir))
}

/// The run directory that `text` names: a path, the name of one of this user's runs, or `latest`.
pub(super) fn find(app: &App, text: &str) -> Result<PathBuf> {
    if text == "latest" {
        return all(app)?.pop().ok_or_else(|| {
            Error::new(Reason::NotFound, "there are no runs yet").hint("admit run stage2")
        });
    }
    let own = own(app, text)?;
    Ok(own.unwrap_or_else(|| app.context.host.absolute(Path::new(text))))
}

/// The bundle beside a run's directory: nothing is added to what was sealed.
pub(super) fn beside(run: &Path) -> PathBuf {
    let mut name = run.file_name().unwrap_or_default().to_owned();
    name.push(".intoto.jsonl");
    run.with_file_name(name)
}

/// Checks the run directory and its signatures: who signed it, `None` where nobody asks and nothing is there. A run that
/// is not whole is not looked at further.
pub(super) fn check(
    app: &App,
    root: &Root,
    run: &Path,
    id: Option<&Digest>,
    signatures: &Signatures,
) -> Result<(RunCheck, Option<Result<Held, Refused>>)> {
    let mut checked = evidence::check(run, id)?;
    let (Some(_), Some(id), Some(report)) = (checked.level, &checked.id, &checked.report) else {
        return Ok((checked, None));
    };
    let policy = root.config().require.of(Kind::Run).is_some();
    let given = signatures.given(app)?;
    let asked = policy || given.is_some();
    let found = match given {
        Some(given) => Some(given),
        None => {
            bundle(&beside(run))?.or_else(|| root.get(&attest::bundle_path(id)).map(<[u8]>::to_vec))
        }
    };
    if !asked && found.is_none() {
        return Ok((checked, None));
    }
    let demand = signatures.demand(app, root, Kind::Run)?;
    let expected = [attest::test_result(id, report).into()];
    let outcome = attest::check(found.as_deref(), &expected, &demand, &app.context.clock.now());
    match &outcome {
        Ok(_) => checked.level = Some(Level::Signed),
        Err(no) if !asked => {
            let note = format!("its signatures do not count ({}: {})", no.reason, no.found);
            checked.notes.push(note);
            return Ok((checked, None));
        }
        Err(_) => checked.level = None,
    }
    Ok((checked, Some(outcome)))
}

/// Checks the run directory and says what was found. The exit code is 0, or that of the first fault.
pub(super) fn verify(
    app: &App,
    run: &Path,
    id: Option<&Digest>,
    signatures: &Signatures,
) -> Result<u8> {
    let root = app.context.root()?;
    let (checked, signed) = check(app, &root, run, id, signatures)?;
    let mut answer = value(&checked);
    answer["signature"] = match &signed {
        None => Value::Null,
        Some(Ok(held)) => json!({ "signed_by": held.by }),
        Some(Err(no)) => json!({
            "reason": no.reason.as_str(), "expected": no.expected, "found": no.found, "fix": no.fix,
        }),
    };
    app.ui.json(&answer);
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
        _ if let Some(Err(no)) = &signed => {
            app.ui.row(Mark::Good, "files", &format!("{} as sealed", checked.files));
            app.ui.row(Mark::Bad, "signature", no.reason.as_str());
            app.ui.detail("expected", &no.expected);
            app.ui.detail("found", &no.found);
            app.ui.detail("fix", &no.fix);
            return Ok(no.reason.kind().exit_code());
        }
        (None, Some(level), Some(report)) => {
            let status = report.status.as_str();
            app.ui.row(Mark::Good, "files", &format!("{} as sealed", checked.files));
            let by = match &signed {
                Some(Ok(held)) => format!(" by {}", held.names()),
                _ => String::new(),
            };
            app.ui.row(Mark::Good, "level", &format!("{}{by}", level.as_str()));
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
        "level": checked.level.map(Level::as_str),
        "files": checked.files,
        "faults": faults,
        "notes": checked.notes,
        "status": checked.report.as_ref().map(|report| report.status),
    })
}
