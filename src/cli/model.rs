//! `admit model …`: which models may answer an agent, and on whose word.

use std::path::PathBuf;

use serde_json::json;

use super::App;
use super::findings::{self, Shown};
use crate::error::Result;
use crate::model::{self, Add, Decide};
use crate::proxy::survey::Offer;
use crate::record;
use crate::record::admission::{AdmissionStatus, ModelId, ModelPair};
use crate::record::wire::ReplyClass;
use crate::ui::{self, Mark};
use crate::verify::Signatures;

/// Show, record and revoke model admissions
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

impl Args {
    /// Whether it asks a server, and so ends what it began where it is told to stop.
    pub(super) fn asks(&self) -> bool {
        matches!(&self.command, Command::Add(add) if add.probe)
    }
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Record an approval
    Add(Box<Add>),
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
    Decide(Box<Decide>),
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
    file: PathBuf,
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
        Command::Add(args) if args.probe => probe(app, args),
        Command::Add(args) => add(app, args),
        Command::List => list(app),
        Command::Show(one) => {
            app.ui.raw(&model::read(&app.context, &one.pair)?);
            Ok(0)
        }
        Command::Check(args) => check(app, args),
        Command::Import(args) => import(app, args),
        Command::Revoke(one) => revoke(app, &one.pair),
        Command::Decide(args) => decide(app, args),
    }
}

fn add(app: &App, args: &Add) -> Result<u8> {
    let added = model::add(&app.context, args)?;
    let pair = &args.pair;
    let first = format!("{pair}, in the network {}", args.network);
    app.ui.verdict(Mark::Good, "admitted", &first);
    app.ui.value("record", &added.place.display().to_string());
    app.ui.verdict(Mark::Good, "admitted", &format!("admit model check {pair}, or run with it"));
    app.ui.json(&json!({
        "schema": "admit.model-added/1", "file": added.place, "record": added.record,
    }));
    Ok(0)
}

fn probe(app: &App, args: &Add) -> Result<u8> {
    app.heed_signals()?;
    let probed = model::probe(&app.context, args)?;
    app.ui.finish();
    let (found, proposal) = (&probed.found, &probed.proposal);
    let best = found.best();
    let first = match best {
        Some(offer) => format!("{} over {}; nothing is recorded", args.pair, offer.api.as_str()),
        None if found.offers.is_empty() => "nothing was sent, and nothing is recorded".into(),
        None => format!("{} over none of these; nothing is recorded", args.pair),
    };
    let (mark, word) = match best {
        Some(_) => (Mark::Good, "answers"),
        None if found.offers.is_empty() => (Mark::Bad, "not asked"),
        None => (Mark::Bad, "does not answer"),
    };
    app.ui.verdict(mark, word, &first);
    findings::show(&app.ui, &found.checks, Shown::default());
    for offer in &found.offers {
        let mark = if offer.answers() { Mark::Good } else { Mark::Note };
        app.ui.row(mark, offer.api.as_str(), &words(offer));
    }
    // Not broken at the width, so that it can be copied.
    proposal.iter().for_each(|command| app.ui.line(&format!("  {command}")));
    let last = match best {
        Some(_) => {
            "to record it, put in who approved it and what voids that, and type the command above"
        }
        None if found.offers.is_empty() => "mend what failed, and ask again",
        None => "look at the model's server, or name another API: --api",
    };
    app.ui.verdict(mark, word, last);
    let code = probed.exit_code();
    app.ui.json(&json!({
        "schema": "admit.model-probe/2", "pair": args.pair.to_string(), "checks": found.checks,
        "apis": found.offers, "proposal": proposal, "exit_code": code,
    }));
    Ok(code)
}

fn words(offer: &Offer) -> String {
    let mut out = Vec::new();
    match offer.listed {
        Some(true) => out.push("listed".to_owned()),
        Some(false) if offer.others.is_empty() => out.push("not listed".into()),
        Some(false) => {
            let others: Vec<&str> = offer.others.iter().map(ModelId::as_str).collect();
            out.push(format!("not listed; it lists {}", others.join(", ")));
        }
        None => {}
    }
    if let Some(name) = &offer.secret_seen {
        out.push(format!("a reply held a secret: {name}"));
    }
    match &offer.answer {
        Some(answer) if offer.answers() => {
            out.push(
                if answer.class == ReplyClass::OkTools { "a tool call" } else { "content" }.into(),
            );
        }
        Some(answer) => out.push(format!("{}: {}", record::word(&answer.class), answer.detail)),
        None => {}
    }
    if !offer.reasoning.is_empty() {
        let fields: Vec<String> = offer.reasoning.iter().map(record::word).collect();
        out.push(format!("reasons ({})", fields.join(", ")));
    }
    if let Some(verdict) = offer.as_reasoning.as_ref().filter(|_| !offer.reasons()) {
        let (class, detail) = (record::word(&verdict.class), &verdict.detail);
        out.push(format!("asked as a model that reasons, {class}: {detail}"));
    }
    match &offer.tools {
        Some(_) if offer.calls() => out.push("tool calls whole".into()),
        Some(tools) if tools.class == ReplyClass::OkText => {
            out.push("a tool was offered, and it answered in text".into());
        }
        Some(tools) => {
            out.push(format!("offered a tool, {}: {}", record::word(&tools.class), tools.detail));
        }
        None => {}
    }
    if let Some(tokens) = offer.context_window {
        out.push(format!("{tokens} tokens of context"));
    }
    out.join("; ")
}

fn mark(status: AdmissionStatus) -> Mark {
    match status {
        AdmissionStatus::Admitted => Mark::Good,
        AdmissionStatus::NotAdmitted => Mark::Note,
        _ => Mark::Bad,
    }
}

fn list(app: &App) -> Result<u8> {
    let rows = model::list(&app.context)?;
    let root = app.context.root()?;
    app.ui.json(&json!({ "schema": "admit.model-list/1", "root": root.label(), "models": rows }));
    let word = ui::count(rows.len(), "model", "models");
    let admitting = rows.iter().filter(|row| row.status == AdmissionStatus::Admitted).count();
    app.ui.verdict(Mark::Note, &word, &format!("{admitting} admitted now"));
    for row in &rows {
        let text = format!("{} ({})", row.status.as_str(), row.reason);
        app.ui.row(mark(row.status), &row.pair, &text);
    }
    let next = match rows.is_empty() {
        true => "admit model add or admit model import puts one on record",
        false => "admit model check PROVIDER/MODEL says what a run would be told",
    };
    app.ui.verdict(Mark::Note, &word, next);
    Ok(0)
}

fn check(app: &App, args: &Check) -> Result<u8> {
    let pair = &args.one.pair;
    let checked = model::check(&app.context, pair, &args.signatures)?;
    let good = checked.admits();
    let (mark, word, last) = match good {
        true => {
            (Mark::Good, "admitted", "a run may use it; its address and key are not looked at here")
        }
        false => (Mark::Bad, "not admitted", "a run with it would be refused"),
    };
    let (status, reason) = (checked.status, &checked.reason);
    app.ui.verdict(mark, word, &format!("{pair}: {}: {reason}", status.as_str()));
    checked.signature.iter().for_each(|row| findings::one(&app.ui, row));
    let next = match checked.recorded {
        _ if good => String::new(),
        true => format!("; admit model show {pair}"),
        false => "; admit model add --help, or admit model import --help".to_owned(),
    };
    app.ui.verdict(mark, word, &format!("{last}{next}"));
    app.ui.json(&json!({
        "schema": "admit.model-check/1", "pair": pair.to_string(), "status": status,
        "reason": reason, "file": checked.file, "signature": checked.signature,
    }));
    Ok(checked.exit_code())
}

fn import(app: &App, args: &Import) -> Result<u8> {
    let imported = model::import(&app.context, &args.file, args.replace)?;
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
    let place = model::revoke(&app.context, pair)?;
    app.ui.verdict(Mark::Good, "revoked", &format!("{pair}: no run may use it any more"));
    app.ui.verdict(Mark::Good, "revoked", &place.display().to_string());
    app.ui.json(
        &json!({ "schema": "admit.model-revoked/1", "pair": pair.to_string(), "file": place }),
    );
    Ok(0)
}

fn decide(app: &App, args: &Decide) -> Result<u8> {
    let decided = model::decide(&app.context, args)?;
    app.ui.verdict(Mark::Good, "recorded", &format!("{}: {}", args.id, args.status));
    app.ui.verdict(Mark::Good, "recorded", &decided.place.display().to_string());
    app.ui.json(&json!({
        "schema": "admit.decided/1", "file": decided.place, "record": decided.record,
    }));
    Ok(0)
}
