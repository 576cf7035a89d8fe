//! Holds what was observed of a run against what the validator expects. Reads the sealed run directory, and nothing else.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::validators::{End, REPORT, Validator};
use crate::error::{Error, Reason, Result};
use crate::evidence::{self, names};
use crate::gate::Decision;
use crate::record;
use crate::record::health::{HealthRow, ObservedField, Outcome};
use crate::record::ids::Digest;
use crate::record::sealed::Manifest;

pub struct SealedRun<'a> {
    pub directory: &'a Path,
    pub id: &'a Digest,
    pub code: u8,
    pub decision: &'a Decision,
}

pub enum Observed<'a> {
    Sealed(SealedRun<'a>),
    /// It was refused before it had a run directory.
    Early(&'a Error),
}

pub fn not_run(validator: &Validator, why: String, wall: Duration) -> HealthRow {
    let mut row = row(validator, wall);
    row.outcome = Outcome::NotRun;
    row.faults.push(why);
    row
}

/// A directory that is not as it was sealed is a fault, not an error; one that cannot be read is an error.
pub fn judge(validator: &Validator, observed: &Observed<'_>, wall: Duration) -> Result<HealthRow> {
    let mut row = row(validator, wall);
    match observed {
        Observed::Early(err) => early(validator, err, &mut row),
        Observed::Sealed(run) => sealed(validator, run, &mut row)?,
    }
    for field in &row.fields {
        if field.expected != field.found {
            row.faults.push(format!(
                "{}: expected {}, found {}",
                field.place, field.expected, field.found
            ));
        }
    }
    row.outcome = if row.faults.is_empty() { Outcome::Passed } else { Outcome::Failed };
    Ok(row)
}

fn row(validator: &Validator, wall: Duration) -> HealthRow {
    HealthRow {
        name: validator.name.into(),
        fault: validator.fault.into(),
        outcome: Outcome::NotRun,
        gate: validator.gate().map(|gate| gate.id().to_owned()),
        decided_by: Vec::new(),
        marker: None,
        fields: Vec::new(),
        faults: Vec::new(),
        wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
    }
}

fn field(place: String, expected: Value, found: Value) -> ObservedField {
    ObservedField { place, expected, found }
}

fn early(validator: &Validator, err: &Error, row: &mut HealthRow) {
    let expected = match validator.end {
        End::Early(reason) => reason.as_str().into(),
        _ => Value::Null,
    };
    row.fields.push(field("error#/reason".into(), expected, err.reason().as_str().into()));
    let code = err.kind().exit_code();
    row.fields.push(field("exit_code".into(), validator.exit.into(), code.into()));
}

fn sealed(validator: &Validator, run: &SealedRun<'_>, row: &mut HealthRow) -> Result<()> {
    let check = evidence::check(run.directory, Some(run.id))?;
    for fault in &check.faults {
        row.faults.push(format!("{}: {}", fault.path, fault.kind.reason()));
    }
    let (status, started) = match validator.end {
        End::Blocked(..) => ("blocked", false),
        End::Fails(_) => ("fail", true),
        // The fake engine starts no provider.
        End::Rehearsed => ("rehearsed", validator.world.model.is_some()),
        End::Early(_) => ("", false),
    };
    let class = validator.class().map_or(Value::Null, |class| class.as_str().into());
    let report = read(run.directory, REPORT)?;
    let mut want = |name: &str, expected: Value| {
        let found = report.get(name).cloned().unwrap_or_default();
        row.fields.push(field(format!("{REPORT}#/{name}"), expected, found));
    };
    want("status", status.into());
    want("failure_class", class);
    want("case_process_started", started.into());
    for (file, pointer, value) in validator.wanted() {
        let found = read(run.directory, file)?.pointer(pointer).cloned().unwrap_or_default();
        row.fields.push(field(format!("{file}#{pointer}"), value.value(), found));
    }
    row.fields.push(field("exit_code".into(), validator.exit.into(), run.code.into()));
    let markers = markers(run.directory)?;
    let expected: Vec<String> = validator.marker().into_iter().collect();
    if markers != expected {
        row.faults.push(format!("marker files: expected {expected:?}, found {markers:?}"));
    }
    row.marker = markers.into_iter().next();
    gates(validator, run.decision, row);
    Ok(())
}

/// Which checks refused, and whether it is the one that is meant and no other: what only hangs on it is no refusal.
fn gates(validator: &Validator, decision: &Decision, row: &mut HealthRow) {
    let refusals = decision.refusals();
    let Some(gate) = validator.gate() else {
        let refused =
            refusals.iter().map(|refusal| format!("a gate refused: {}", refusal.blocker()));
        row.faults.extend(refused);
        return;
    };
    row.decided_by = refusals.iter().map(|refusal| refusal.check.id().to_owned()).collect();
    if row.decided_by != [gate.id()] {
        let by = row.decided_by.join(", ");
        row.faults.push(format!("decided by {by}, and not by {} alone", gate.id()));
    }
}

fn read(directory: &Path, name: &str) -> Result<Value> {
    let path = directory.join(name);
    let bytes = std::fs::read(&path).map_err(|err| Error::io("read", &path, err))?;
    record::parse_value(&bytes).map_err(|err| crate::root::bad_record(name, &err))
}

/// The marker files that the manifest lists, all of which are there since the directory was checked.
fn markers(directory: &Path) -> Result<Vec<String>> {
    let path = directory.join(names::MANIFEST);
    let bytes = std::fs::read(&path).map_err(|err| Error::io("read", &path, err))?;
    let manifest: Manifest = record::parse(&bytes)
        .map_err(|err| Error::new(Reason::BadRecord, err.what).at(path.display().to_string()))?;
    let marker = |path: &str| {
        path.strip_prefix("backend/").is_some_and(|f| f.ends_with(".txt") && !f.contains('/'))
    };
    Ok(manifest
        .files
        .iter()
        .filter(|entry| entry.role == "marker" || marker(entry.path.as_str()))
        .map(|entry| entry.path.to_string())
        .collect())
}
