//! `admit model …`: which models may answer an agent, and on whose word.

use serde_json::json;

use super::App;
use super::findings;
use crate::attest::{self, Held, Refused};
use crate::error::{Error, Reason, Result};
use crate::record;
use crate::record::admission::{self, AdmissionStatus, ModelPair, ModelStatus, RecordFile};
use crate::record::finding::Finding;
use crate::record::ids::Digest;
use crate::record::signing::Kind as Signed;
use crate::root::Root;
use crate::secrets;
use crate::ui::{self, Mark};
use crate::verify::Signatures;

/// Show, record and revoke model admissions
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Record an approval
    Add(Box<super::model_write::Add>),
    /// List every record with what it means now
    List,
    /// Print a record
    Show(One),
    /// Say what a record means for a run now; exits 3 unless it admits and is signed as the root's policy asks
    Check(Check),
    /// Put a record that somebody has, in any of its forms, on record here as it is
    Import(Import),
    /// Mark a record as revoked
    Revoke(One),
    /// Record what was decided about a class of providers
    Decide(Box<super::model_write::Decide>),
}

/// One pair.
#[derive(Debug, clap::Args)]
struct One {
    /// The pair, for example qwen-local/qwen3.6-35b-a3b
    #[arg(value_name = "PROVIDER/MODEL")]
    pair: ModelPair,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// The record
    file: std::path::PathBuf,
    /// Replace another record of the same pair
    #[arg(long)]
    replace: bool,
}

/// What to check.
#[derive(Debug, clap::Args)]
struct Check {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    signatures: Signatures,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    match &args.command {
        Command::Add(add) => super::model_write::add(app, add),
        Command::List => list(app),
        Command::Show(one) => show(app, &one.pair),
        Command::Check(args) => check(app, args),
        Command::Import(args) => import(app, args),
        Command::Revoke(one) => revoke(app, &one.pair),
        Command::Decide(decide) => super::model_write::decide(app, decide),
    }
}

/// What the root's record of `pair` means now, for stage 2.
pub(super) fn status(app: &App, root: &Root, pair: &ModelPair) -> ModelStatus {
    let file = match root.get(&pair.path()) {
        Some(bytes) => RecordFile::Bytes(bytes.to_vec()),
        None => RecordFile::Absent,
    };
    admission::status(&file, Some(pair), 2, &app.context.clock.now(), &secrets::rule_of)
}

pub(super) fn mark(status: AdmissionStatus) -> Mark {
    match status {
        AdmissionStatus::Admitted => Mark::Good,
        AdmissionStatus::NotAdmitted => Mark::Note,
        _ => Mark::Bad,
    }
}

fn list(app: &App) -> Result<u8> {
    let root = app.context.root()?;
    let mut rows = Vec::new();
    let (mut lines, mut admitting) = (Vec::new(), 0);
    for (path, bytes) in root.below(ModelPair::DIR).filter(|(path, _)| path.ends_with(".json")) {
        // A record is asked for by the pair that it names: what a run with that pair would be told.
        let pair = admission::parse(bytes).ok().map(|record| record.pair());
        let file = RecordFile::Bytes(bytes.to_vec());
        let mut found = match &pair {
            Some(pair) => {
                admission::status(&file, Some(pair), 2, &app.context.clock.now(), &secrets::rule_of)
            }
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
        let name = pair.map_or_else(|| path.to_owned(), |pair| pair.to_string());
        let text = format!("{} ({})", found.status.as_str(), found.reason);
        admitting += usize::from(found.status == AdmissionStatus::Admitted);
        lines.push((mark(found.status), name.clone(), text));
        rows.push(json!({
            "file": root.place(path), "pair": name, "status": found.status, "reason": found.reason,
            "record": found.record,
        }));
    }
    app.ui.json(&json!({ "schema": "admit.model-list/1", "root": root.label(), "models": rows }));
    let word = ui::count(lines.len(), "model", "models");
    app.ui.verdict(Mark::Note, &word, &format!("{admitting} admitted now"));
    lines.iter().for_each(|(mark, name, text)| app.ui.row(*mark, name, text));
    let next = match lines.is_empty() {
        true => "admit model add or admit model import puts one on record",
        false => "admit model check PROVIDER/MODEL says what a run would be told",
    };
    app.ui.verdict(Mark::Note, &word, next);
    Ok(0)
}

fn show(app: &App, pair: &ModelPair) -> Result<u8> {
    let root = app.context.root()?;
    let path = pair.path();
    let bytes = root.get(&path).ok_or_else(|| missing(pair))?;
    // Printing a record that holds a secret would spread it.
    if let Some(rule) = secrets::rule_of(bytes) {
        return Err(Error::new(Reason::BadRecord, "the record holds a secret")
            .at(root.place(&path))
            .found(rule));
    }
    app.ui.raw(bytes);
    Ok(0)
}

fn missing(pair: &ModelPair) -> Error {
    Error::new(Reason::NotFound, "no admission record for this pair")
        .found(pair.to_string())
        .hint("to see the records: admit model list; to record an approval: admit model add --help")
}

/// What the signatures of the record say; `None` where it admits nothing, or neither the policy nor the user asks.
fn signed(
    app: &App,
    root: &Root,
    pair: &ModelPair,
    signatures: &Signatures,
) -> Result<Option<Result<Held, Refused>>> {
    let bytes = root.get(&pair.path());
    let given = signatures.given(&app.context)?;
    let Some(statement) = bytes.and_then(|bytes| attest::model_admission(bytes).ok()) else {
        return Ok(None);
    };
    if root.config().require.of(Signed::Model).is_none() && given.is_none() {
        return Ok(None);
    }
    let demand = signatures.demand(&app.context, root, Signed::Model)?;
    let subject = Digest::sha256(bytes.unwrap_or_default());
    let recorded = root.get(&attest::bundle_path(&subject));
    let bundle = given.as_deref().or(recorded);
    Ok(Some(attest::check(bundle, &[statement.into()], &demand, &app.context.clock.now())))
}

/// What the signatures say, as a finding.
fn signature(outcome: &Result<Held, Refused>) -> Finding {
    let expected = "the signatures that are asked for";
    match outcome {
        Ok(held) => Finding::ok("signature", expected, format!("signed by {}", held.names())),
        Err(no) => Finding::failed("signature", no.reason, &no.expected, &no.found).fix(&no.fix),
    }
}

fn check(app: &App, args: &Check) -> Result<u8> {
    let root = app.context.root()?;
    let pair = &args.one.pair;
    let found = status(app, &root, pair);
    let signed = signed(app, &root, pair, &args.signatures)?;
    let row = signed.as_ref().map(signature);
    let good = found.status == AdmissionStatus::Admitted
        && row.as_ref().is_none_or(|row| !row.is_failed());
    let (mark, word, last) = match good {
        true => {
            (Mark::Good, "admitted", "a run may use it; its address and key are not looked at here")
        }
        false => (Mark::Bad, "not admitted", "a run with it would be refused"),
    };
    app.ui.verdict(mark, word, &format!("{pair}: {}: {}", found.status.as_str(), found.reason));
    if let Some(row) = &row {
        findings::one(&app.ui, row);
    }
    let next = match root.get(&pair.path()).is_some() {
        _ if good => String::new(),
        true => format!("; admit model show {pair}"),
        false => "; admit model add --help, or admit model import --help".to_owned(),
    };
    app.ui.verdict(mark, word, &format!("{last}{next}"));
    app.ui.json(&json!({
        "schema": "admit.model-check/1", "pair": pair.to_string(), "status": found.status,
        "reason": found.reason, "file": root.place(&pair.path()),
        "signature": row,
    }));
    Ok(match (found.status, &signed) {
        (_, Some(Err(no))) => no.reason.kind().exit_code(),
        (AdmissionStatus::Admitted, _) => 0,
        _ => crate::error::Kind::Refused.exit_code(),
    })
}

fn import(app: &App, args: &Import) -> Result<u8> {
    let imported = crate::model::import(&app.context, &args.file, args.replace)?;
    let (pair, place) = (imported.record.pair(), imported.place.display());
    let already = if imported.new { "" } else { " (on record already)" };
    app.ui.verdict(Mark::Good, "admitted", &format!("{pair}{already}"));
    app.ui.value("word of", &imported.record.approval_source);
    app.ui.verdict(Mark::Good, "admitted", &place.to_string());
    app.ui.json(&json!({
        "schema": "admit.model-imported/1", "pair": pair.to_string(), "file": imported.place,
        "new": imported.new, "record": imported.record,
    }));
    Ok(0)
}

fn revoke(app: &App, pair: &ModelPair) -> Result<u8> {
    let root = app.context.root()?;
    let path = pair.path();
    let bytes = root.get(&path).ok_or_else(|| missing(pair))?;
    let mut record =
        admission::parse(bytes).map_err(|err| crate::root::bad_record(&root.place(&path), &err))?;
    record.status = admission::REVOKED.into();
    let record = record.in_present_form();
    let place = app.context.put(&path, &record::pretty(&record))?;
    app.ui.verdict(Mark::Good, "revoked", &format!("{pair}: no run may use it any more"));
    app.ui.verdict(Mark::Good, "revoked", &place.display().to_string());
    app.ui.json(
        &json!({ "schema": "admit.model-revoked/1", "pair": pair.to_string(), "file": place }),
    );
    Ok(0)
}
