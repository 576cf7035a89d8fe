//! Models put on record: what a person approved, what a record means now, and what was decided about classes of providers.

mod approval;
mod decision;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::attest::{self, Held, Refused};
use crate::context::Context;
use crate::error::{Error, Kind, Reason, Result};
use crate::host;
use crate::host::files::{self, Links};
use crate::record;
use crate::record::admission::{
    self, AdmissionStatus, MAX_RECORD, ModelAdmission, ModelPair, ModelStatus, RecordFile,
};
use crate::record::finding::Finding;
use crate::record::ids::{Digest, RelPath, Timestamp};
use crate::record::signing::StatementKind;
use crate::root::{Root, bad_record};
use crate::secrets;
use crate::verify::Signatures;

pub use approval::{Add, Added, Probed, add, probe};
pub use decision::{Decide, Decided, decide};

/// The stage that an approval is for: the one that runs.
const STAGE: u8 = 2;

/// What a record means now for a run that asks for `pair`.
fn means(record: Option<&[u8]>, pair: &ModelPair, now: &Timestamp) -> ModelStatus {
    let file = record.map_or(RecordFile::Absent, |bytes| RecordFile::Bytes(bytes.to_vec()));
    admission::status(&file, Some(pair), STAGE, now, &secrets::rule_of)
}

/// What is put on record must admit its pair.
fn must_admit(record: &[u8], pair: &ModelPair, now: &Timestamp) -> Result<()> {
    let found = means(Some(record), pair, now);
    if found.status == AdmissionStatus::Admitted {
        return Ok(());
    }
    Err(Error::new(Reason::BadRecord, "the record would not admit the pair")
        .expected("admitted")
        .found(format!("{}: {}", found.status.as_str(), found.reason)))
}

pub fn status(root: &Root, pair: &ModelPair, now: &Timestamp) -> ModelStatus {
    means(root.get(&pair.path()), pair, now)
}

#[derive(Debug, Serialize)]
pub struct Listed {
    pub file: String,
    /// The pair that it names; its path where it names none.
    pub pair: String,
    pub status: AdmissionStatus,
    pub reason: String,
    pub record: Option<ModelAdmission>,
}

pub fn list(context: &Context) -> Result<Vec<Listed>> {
    let (root, now) = (context.root()?, context.clock.now());
    let records = root.below(ModelPair::DIR).filter(|(path, _)| path.ends_with(".json"));
    let listed = records.map(|(path, bytes)| {
        // A record is asked for by the pair that it names: what a run with that pair would be told.
        let pair = admission::parse(bytes).ok().map(|record| record.pair());
        let mut found = match &pair {
            Some(pair) => means(Some(bytes), pair, &now),
            None => ModelStatus {
                status: AdmissionStatus::InvalidAdmission,
                reason: "no valid record; admit model check names the fault".into(),
                record: None,
            },
        };
        if pair.as_ref().is_some_and(|pair| pair.path() != path) {
            found.status = AdmissionStatus::Mismatch;
            found.reason = "its file has another name than its pair".into();
        }
        let pair = pair.map_or_else(|| path.to_owned(), |pair| pair.to_string());
        let ModelStatus { status, reason, record } = found;
        Listed { file: root.place(path), pair, status, reason, record }
    });
    Ok(listed.collect())
}

/// For printing: a record that holds a secret is [`Reason::BadRecord`].
pub fn read(context: &Context, pair: &ModelPair) -> Result<Vec<u8>> {
    let (root, path) = (context.root()?, pair.path());
    let bytes = root.get(&path).ok_or_else(|| missing(pair))?;
    // Printing a record that holds a secret would spread it.
    if let Some(rule) = secrets::rule_of(bytes) {
        return Err(Error::new(Reason::BadRecord, "the record holds a secret")
            .at(root.place(&path))
            .found(rule));
    }
    Ok(bytes.to_vec())
}

fn missing(pair: &ModelPair) -> Error {
    Error::new(Reason::NotFound, "no admission record for this pair")
        .found(pair.to_string())
        .hint("to see the records: admit model list; to record an approval: admit model add --help")
}

/// What a run with a pair would be told now.
#[derive(Debug)]
pub struct Checked {
    /// Where the record stands, or would.
    pub file: String,
    pub recorded: bool,
    pub status: AdmissionStatus,
    pub reason: String,
    /// What its signatures say; `None` where it admits nothing, or neither the policy nor the user asks.
    pub signature: Option<Finding>,
}

impl Checked {
    pub fn admits(&self) -> bool {
        let unsigned = self.signature.as_ref().is_some_and(Finding::is_failed);
        self.status == AdmissionStatus::Admitted && !unsigned
    }

    /// 0 for yes, that of the signatures where they do not do, else that of a refusal.
    pub fn exit_code(&self) -> u8 {
        let unsigned = self.signature.as_ref().and_then(|finding| finding.kind);
        if self.admits() { 0 } else { unsigned.unwrap_or(Kind::Refused).exit_code() }
    }
}

/// Whether the root's record of `pair` admits it now and is signed as the policy or `signatures` ask.
pub fn check(context: &Context, pair: &ModelPair, signatures: &Signatures) -> Result<Checked> {
    let (root, path) = (context.root()?, pair.path());
    let found = status(&root, pair, &context.clock.now());
    Ok(Checked {
        file: root.place(&path),
        recorded: root.get(&path).is_some(),
        status: found.status,
        reason: found.reason,
        signature: signed(context, &root, pair, signatures)?.as_ref().map(signature),
    })
}

fn signed(
    context: &Context,
    root: &Root,
    pair: &ModelPair,
    signatures: &Signatures,
) -> Result<Option<Result<Held, Refused>>> {
    let bytes = root.get(&pair.path());
    let given = signatures.given(context)?;
    let Some(statement) = bytes.and_then(|bytes| attest::model_admission(bytes).ok()) else {
        return Ok(None);
    };
    if root.config().require.of(StatementKind::Model).is_none() && given.is_none() {
        return Ok(None);
    }
    let demand = signatures.demand(context, root, StatementKind::Model)?;
    let subject = Digest::sha256(bytes.unwrap_or_default());
    let recorded = root.get(&attest::bundle_path(&subject));
    let bundle = given.as_deref().or(recorded);
    Ok(Some(attest::check(bundle, &[statement.into()], &demand, &context.clock.now())))
}

fn signature(outcome: &Result<Held, Refused>) -> Finding {
    let expected = "the signatures that are asked for";
    match outcome {
        Ok(held) => Finding::ok("signature", expected, format!("signed by {}", held.names())),
        Err(no) => Finding::failed("signature", no.reason, &no.expected, &no.found).fix(&no.fix),
    }
}

/// Marks the root's record of `pair` as revoked: where it stands.
pub fn revoke(context: &Context, pair: &ModelPair) -> Result<PathBuf> {
    let (root, path) = (context.root()?, pair.path());
    let bytes = root.get(&path).ok_or_else(|| missing(pair))?;
    let mut record = admission::parse(bytes).map_err(|err| bad_record(&root.place(&path), &err))?;
    record.status = admission::REVOKED.into();
    context.put(&path, &record::pretty(&record.in_present_form()))
}

fn word<T: DeserializeOwned>(text: &str) -> Result<T> {
    record::of_word(text).map_err(|err| {
        Error::new(Reason::BadArgument, "an unknown word").found(text).caused_by(err)
    })
}

#[derive(Debug)]
pub struct Imported {
    pub place: PathBuf,
    pub record: ModelAdmission,
    pub new: bool,
}

/// Puts the admission record in `file` on record in the root that holds, byte for byte as it is. One that is there for the
/// same pair and says something else stays, unless `replace`.
///
/// # Errors
/// Those of [`files::read_own`] and of a root's writers; [`Reason::BadRecord`] for a file that is no record, holds a secret
/// or would admit nothing; [`Reason::BadArgument`] where there is another record.
pub fn import(context: &Context, file: &Path, replace: bool) -> Result<Imported> {
    let place = file.display().to_string();
    let bytes = files::read_own(&context.host.absolute(file), Links::Follow, MAX_RECORD)?;
    // Before parsing: a parser's message may quote what it choked on.
    if let Some(rule) = secrets::rule_of(&bytes) {
        return Err(Error::new(Reason::BadRecord, "the record holds a secret")
            .at(place)
            .found(rule)
            .hint("a record names where a key comes from, never the key: take it out, and change the key"));
    }
    let record = admission::parse(&bytes).map_err(|err| bad_record(&place, &err))?;
    let pair = record.pair();
    must_admit(&bytes, &pair, &context.clock.now()).map_err(|err| err.at(place.clone()))?;
    let path: RelPath = pair
        .path()
        .parse()
        .map_err(|err| Error::new(Reason::BadArgument, "the pair's name").caused_by(err))?;
    let mut new = true;
    let stands = context.write_root(|root| {
        let there = root.place(path.as_str());
        root.update(&path, |now| match now {
            Some(now) if admission::same(now, &bytes) => {
                new = false;
                Ok(None)
            }
            Some(now) if !replace => {
                let word = admission::parse(now).map_or("unreadable".to_owned(), |old| old.status);
                Err(Error::new(Reason::BadArgument, "there is another record for this pair")
                    .at(there)
                    .found(format!("its status is \"{}\"", word.escape_debug()))
                    .hint(format!(
                        "to see it: admit model show {pair}; if yours is to hold instead: admit model import {} --replace",
                        host::quoted(&place)
                    )))
            }
            _ => Ok(Some(bytes.clone())),
        })
    })?;
    Ok(Imported { place: stands, record, new })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: &str = "2026-11-20T12:00:00Z";

    /// The stand-in's record with one field changed.
    fn record(field: &str, value: Value) -> Vec<u8> {
        let bytes = include_bytes!("../../admissions/models/scripted--understudy-script.json");
        let mut record: Value = serde_json::from_slice(bytes).unwrap();
        record[field] = value;
        record::pretty(&record)
    }

    #[test]
    fn only_a_record_that_admits_its_pair_now_is_put_on_record() {
        let (pair, now) = ("scripted/understudy-script".parse().unwrap(), NOW.parse().unwrap());
        let good = record("expires", json!("2026-11-21T12:00:00Z"));
        must_admit(&good, &pair, &now).unwrap();
        assert_eq!(means(None, &pair, &now).status, AdmissionStatus::MissingAdmission);
        let other = "scripted/another".parse().unwrap();
        let secret = format!("ghp_{}", "a".repeat(36));
        for (bytes, pair) in [
            (good.clone(), &other),
            (record("expires", json!("2026-11-19T12:00:00Z")), &pair),
            (record("status", json!(admission::REVOKED)), &pair),
            (record("stages", json!([3])), &pair),
            (record("approval_source", json!(secret)), &pair),
            (b"{}".to_vec(), &pair),
        ] {
            let said = must_admit(&bytes, pair, &now).unwrap_err();
            assert_eq!(said.reason(), Reason::BadRecord);
            assert!(!said.found_value().unwrap().contains(&secret), "{said:?}");
        }
    }

    #[test]
    fn a_pair_is_admitted_by_its_record_and_the_signatures_that_are_asked_for() {
        let signed = Finding::ok("signature", "", "");
        let unsigned = |reason| Some(Finding::failed("signature", reason, "", ""));
        let (yes, no) = (AdmissionStatus::Admitted, AdmissionStatus::NotAdmitted);
        for (status, signature, code) in [
            (yes, None, 0),
            (yes, Some(signed.clone()), 0),
            (yes, unsigned(Reason::SignatureMissing), 3),
            (yes, unsigned(Reason::SignatureInvalid), 5),
            (no, None, 3),
            (no, Some(signed), 3),
            (no, unsigned(Reason::SignatureInvalid), 5),
        ] {
            let (file, reason, recorded) = (String::new(), String::new(), true);
            let checked = Checked { file, recorded, status, reason, signature };
            assert_eq!(checked.exit_code(), code, "{checked:?}");
            assert_eq!(checked.admits(), code == 0);
        }
    }
}
