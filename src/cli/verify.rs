//! `admit verify [NAME]`: does everything on this machine still match the locked records? `admit verify RUN`: is a run
//! directory what was sealed, and was it a pass? With a policy or a bundle also: who signed it?

use std::path::Path;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Value, json};

use super::app::App;
use super::campaign;
use super::findings::{self, Shown};
use crate::campaign::directory;
use crate::check::Check;
use crate::error::{Error, Reason, Result};
use crate::evidence::{Level, RunCheck};
use crate::lock::Spec;
use crate::record;
use crate::record::evidence::RunStatus;
use crate::record::ids::{Digest, Timestamp};
use crate::ui::{self, Mark};
use crate::verify::{self, Options, Signatures, Verified, runs};

/// Compare binary, source, toolchain and records with the lock; changes nothing, runs nothing, asks nobody
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A provider, or a run: its directory, its name, or `latest`; a campaign's directory, or FILE.json of a task of one that was
    /// shown alone (default: every provider built or recorded here)
    #[arg(value_name = "PROVIDER|RUN")]
    subject: Option<String>,
    /// The run's or the campaign's id as printed when it was sealed; of a task alone, the hash of the tree
    #[arg(long, value_name = "DIGEST", requires = "subject")]
    id: Option<Digest>,
    /// Also say yes to intact evidence of a run that ended so; without it only a pass is a yes
    #[arg(
        long, value_name = "STATUS,...", requires = "subject", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(RunStatus::ALL.map(RunStatus::as_str)).try_map(|text| record::of_word::<RunStatus>(&text))
    )]
    accept: Vec<RunStatus>,
    /// Say yes only to a run that began then or later: an earlier one, signed or not, is no run of now
    #[arg(long, value_name = "TIME", requires = "subject", value_parser = Timestamp::from_rfc3339)]
    since: Option<Timestamp>,
    /// Also run the output again, in a sandbox, to see that it shows the locked identity
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    signatures: Signatures,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let signatures = &args.signatures;
    let file = args.subject.as_deref().filter(|text| text.ends_with(".json"));
    if let Some(file) = file.map(|text| app.context.host.absolute(Path::new(text))) {
        return campaign::verify_proof(app, &file, args.id.as_ref(), signatures);
    }
    let provider = match &args.subject {
        None => None,
        Some(text) => match runs::named(&app.context, text)? {
            Some(_) if args.deep => {
                let what = "--deep runs a provider's binary, and this names a run";
                return Err(Error::new(Reason::BadArgument, what)
                    .hint("leave out --deep, or name the provider in place of the run"));
            }
            Some(dir) if dir.join(directory::PLAN).exists() => {
                return campaign::verify(app, &dir, args.id.as_ref(), signatures);
            }
            Some(dir) => return verify_run(app, &dir, args),
            None if args.id.is_some() || !args.accept.is_empty() || args.since.is_some() => {
                return Err(Error::new(
                    Reason::BadArgument,
                    "--id, --accept and --since are a run's, and this names a provider",
                )
                .found(text.clone())
                .hint("a run directory outside of this user's own is written as a path, such as ./run"));
            }
            None => {
                Some(text.parse::<Spec>().map_err(|what| Error::new(Reason::BadArgument, what))?)
            }
        },
    };
    let options = Options { provider, deep: args.deep, signatures: signatures.clone() };
    let all = verify::verify(&app.context, &options)?;
    match &all[..] {
        [one] => show_one(app, one, args.shown),
        all => show_all(app, all, args.shown),
    }
    let root = app.context.root()?;
    app.ui.json(&json!({
        "schema": "admit.verified/2", "root": root.label(), "root_digest": root.digest(),
        "holds": all.iter().all(Verified::holds), "providers": all,
    }));
    Ok(verify::exit_code(&all))
}

/// One provider: what it is where all holds, else the causes.
fn show_one(app: &App, verified: &Verified, shown: Shown) {
    let Verified { provider, findings, .. } = verified;
    let counts = findings::counts(findings);
    if !verified.holds() {
        app.ui.verdict(Mark::Bad, "fails", &format!("{provider} is not what the records name"));
        findings::show(&app.ui, findings, shown);
        app.ui.verdict(Mark::Bad, "fails", &format!("{provider}: {counts}"));
        return;
    }
    let matches = format!("{provider}: binary, source and records are what the lock names");
    app.ui.verdict(Mark::Good, "holds", &matches);
    findings::show(&app.ui, findings, shown);
    for (name, id) in [("binary", Check::BinaryDigest), ("source", Check::SourcePin)] {
        let found = findings.iter().find(|finding| finding.id == id.id());
        // The first of several digests tells it from every other.
        let first = found.and_then(|finding| finding.found.split_whitespace().next());
        first.iter().for_each(|found| app.ui.value(name, found));
    }
    let root = findings.iter().find(|finding| finding.id == Check::RootTrusted.id());
    let root = root.and_then(|finding| finding.found.split([',', '(']).next());
    root.iter().for_each(|root| app.ui.value("root", root.trim_end()));
    app.ui.verdict(Mark::Good, "holds", &format!("{provider}: {counts}"));
}

/// Several: a line each.
fn show_all(app: &App, all: &[Verified], shown: Shown) {
    let holding = all.iter().filter(|one| one.holds()).count();
    let (mark, word) =
        if holding == all.len() { (Mark::Good, "holds") } else { (Mark::Bad, "fails") };
    app.ui.verdict(mark, word, &format!("{holding} of {} providers hold", all.len()));
    for one in all {
        let faults: Vec<_> = one.faults().collect();
        match &faults[..] {
            [] => app.ui.row(Mark::Good, &one.provider, &findings::counts(&one.findings)),
            [first, rest @ ..] => {
                let reason = first.reason.as_deref().unwrap_or_default();
                let more = match rest.len() {
                    0 => String::new(),
                    more => format!(" (and {more} more)"),
                };
                app.ui.row(Mark::Bad, &one.provider, &format!("{}: {reason}{more}", first.id));
            }
        }
        if shown.all {
            findings::show(&app.ui, &one.findings, shown);
        }
    }
    let text = match holding == all.len() {
        true => format!("{holding} of {holding} providers are what their locks name"),
        false => "admit verify PROVIDER says what is wrong and what to do".to_owned(),
    };
    app.ui.verdict(mark, word, &text);
}

fn verify_run(app: &App, run: &Path, args: &Args) -> Result<u8> {
    let wanted = runs::Wanted {
        id: args.id.clone(),
        accept: args.accept.clone(),
        since: args.since.clone(),
        signatures: args.signatures.clone(),
    };
    let verified = runs::verify(&app.context, run, &wanted)?;
    let (checked, signed) = (&verified.check, &verified.signed);
    let (holds, code) = (verified.holds(), verified.exit_code());
    let mut answer = run_check(checked);
    answer["accepts"] = json!(verified.accepts);
    answer["holds"] = json!(holds);
    answer["signature"] = findings::signature(signed.as_ref());
    if let Some(Err(no)) = signed {
        answer["signature"]["fix"] = json!(no.fix);
    }
    app.ui.json(&answer);
    let name = checked.directory.file_name().unwrap_or_default().to_string_lossy();
    if let Some(err) = checked.error() {
        app.ui.verdict(Mark::Bad, "fails", &format!("{name}: {}", err.what()));
        for fault in &checked.faults {
            app.ui.row(Mark::Bad, &fault.path, fault.kind.reason().as_str());
            app.ui.detail("expected", &fault.expected);
            app.ui.detail("found", &fault.found);
        }
        checked.notes.iter().for_each(|note| app.ui.remark(note));
        let count = ui::count(checked.faults.len(), "fault", "faults");
        app.ui.verdict(Mark::Bad, "fails", &format!("{count} in {} files", checked.files));
        return Ok(code);
    }
    checked.notes.iter().for_each(|note| app.ui.remark(note));
    if let Some(Err(no)) = signed {
        app.ui.verdict(Mark::Bad, "fails", &format!("{name}: the signatures do not do"));
        findings::unsigned(&app.ui, no);
        let files = format!("all {} files are as they were sealed", checked.files);
        app.ui.verdict(Mark::Bad, "fails", &format!("{}; {files}", no.reason));
        return Ok(code);
    }
    // Without a report something is wrong, and was said.
    let Some(report) = &checked.report else { return Ok(code) };
    let status = report.status.as_str();
    let (mark, word) = if holds { (Mark::Good, "holds") } else { (Mark::Bad, "no") };
    let whole = format!("{name}: all {} files are as they were sealed", checked.files);
    app.ui.verdict(mark, word, &format!("{whole}; the run ended {status}"));
    let proof = match (checked.level, signed) {
        (_, Some(Ok(held))) => format!("signed by {}", held.names()),
        (Some(Level::EqualToId), _) => Level::EqualToId.as_str().to_owned(),
        _ => "self-consistent: who can write here could have sealed it anew; --id DIGEST or a signature proves more"
            .to_owned(),
    };
    app.ui.value("proof", &proof);
    app.ui.value("ran", &format!("{} to {}", report.started, report.finished));
    if let Some(id) = &checked.id {
        app.ui.value("id", &id.to_string());
    }
    if let Some(since) = args.since.as_ref().filter(|_| !verified.in_time) {
        app.ui.value("wanted", &format!("a run that began at {since} or later"));
    }
    if !verified.ended_so {
        let accepts: Vec<&str> = verified.accepts.iter().map(|status| status.as_str()).collect();
        let named = args.subject.as_deref().unwrap_or_default();
        app.ui.value("wanted", &format!("a run that ended {}", accepts.join(" or ")));
        app.ui.value("do", &format!("admit verify {named} --accept {status}, if that is enough"));
    }
    app.ui.verdict(mark, word, &format!("intact evidence of a run that ended {status}"));
    Ok(code)
}

pub(super) fn run_check(checked: &RunCheck) -> Value {
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
        "schema": "admit.run-check/3",
        "directory": checked.directory,
        "id": checked.id,
        "level": checked.level.map(Level::as_str),
        "files": checked.files,
        "faults": faults,
        "notes": checked.notes,
        "status": checked.report.as_ref().map(|report| report.status),
        "started": checked.report.as_ref().map(|report| &report.started),
        "finished": checked.report.as_ref().map(|report| &report.finished),
    })
}
