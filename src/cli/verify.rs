//! `admit verify [NAME]`: does everything on this machine still match the locked records? `admit verify RUN`: is a run
//! directory what was sealed, and was it a pass? With a policy or a bundle also: who signed it?

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Value, json};

use super::app::App;
use super::findings;
use crate::error::{Error, Kind, Reason, Result};
use crate::evidence::{Level, RunCheck};
use crate::lock::Spec;
use crate::record::evidence::{RunReport, RunStatus};
use crate::record::ids::{Digest, Name};
use crate::ui::Mark;
use crate::verify::{self, Options, Signatures, Verified, runs};

/// Compare binary, source, toolchain and records with the lock; changes nothing, runs nothing, asks nobody
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A provider, or a run: its directory, its name, or `latest` (default: every provider built or recorded here)
    #[arg(value_name = "NAME|RUN")]
    subject: Option<String>,
    /// The run's id as printed when it was sealed
    #[arg(long, value_name = "DIGEST", requires = "subject")]
    id: Option<Digest>,
    /// Also say yes to intact evidence of a run that ended so; without it only a pass is a yes
    #[arg(
        long, value_name = "STATUS,...", requires = "subject", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(RunStatus::ALL.map(RunStatus::as_str)).map(status)
    )]
    accept: Vec<RunStatus>,
    /// Also run the output again, in a sandbox, to see that it shows the locked identity
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    signatures: SignatureArgs,
}

/// The status of that name, of which the parser let no other through.
fn status(text: String) -> RunStatus {
    let named = RunStatus::ALL.into_iter().find(|status| status.as_str() == text);
    named.unwrap_or(RunStatus::Pass)
}

/// Where signatures are, and whose count.
#[derive(Debug, Default, clap::Args)]
pub(super) struct SignatureArgs {
    /// Check the signatures in this bundle, in place of the recorded one
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Count only this key's; without it and without a policy, all of `admit key show` count
    #[arg(long, value_name = "NAME", requires = "bundle")]
    key: Option<Name>,
}

impl SignatureArgs {
    pub(super) fn options(&self) -> Signatures {
        Signatures { bundle: self.bundle.clone(), key: self.key.clone() }
    }
}

impl Args {
    /// `admit verify NAME`.
    pub(super) fn of(name: &str) -> Self {
        Self {
            subject: Some(name.to_owned()),
            id: None,
            accept: Vec::new(),
            deep: false,
            signatures: SignatureArgs::default(),
        }
    }
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let signatures = args.signatures.options();
    let provider = match &args.subject {
        None => None,
        Some(text) => match runs::named(&app.context, text)? {
            Some(_) if args.deep => {
                let what = "--deep runs a provider's binary, and this names a run";
                return Err(Error::new(Reason::BadArgument, what));
            }
            Some(dir) => return verify_run(app, &dir, args, &signatures),
            None if args.id.is_some() || !args.accept.is_empty() => {
                return Err(Error::new(
                    Reason::BadArgument,
                    "--id and --accept are a run's, and this names a provider",
                )
                .found(text.clone())
                .hint("a run directory outside of this user's own is written as a path: ./NAME"));
            }
            None => {
                Some(text.parse::<Spec>().map_err(|what| Error::new(Reason::BadArgument, what))?)
            }
        },
    };
    let all = verify::verify(&app.context, &Options { provider, deep: args.deep, signatures })?;
    for verified in &all {
        app.ui.line(&verified.provider);
        findings::show(&app.ui, &verified.findings);
    }
    let root = app.context.root()?;
    app.ui.json(&json!({
        "schema": "admit.verified/2", "root": root.label(), "root_digest": root.digest(),
        "holds": all.iter().all(Verified::holds), "providers": all,
    }));
    Ok(verify::exit_code(&all))
}

/// Checks the run directory and says what was found. The exit code is 0, that of the first fault, or 1 for intact
/// evidence of a run that is not accepted.
fn verify_run(app: &App, run: &Path, args: &Args, signatures: &Signatures) -> Result<u8> {
    let root = app.context.root()?;
    let id = args.id.as_ref();
    let (checked, signed) = runs::check(&app.context, &root, run, id, signatures)?;
    let accepted = |report: &RunReport| runs::accepts(report.status, &args.accept);
    let accepts: Vec<RunStatus> =
        RunStatus::ALL.into_iter().filter(|status| runs::accepts(*status, &args.accept)).collect();
    let mut answer = run_check(&checked);
    answer["accepts"] = json!(accepts);
    answer["holds"] =
        json!(checked.level.is_some() && checked.report.as_ref().is_some_and(accepted));
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
            Ok(err.kind().exit_code())
        }
        _ if let Some(Err(no)) = &signed => {
            app.ui.row(Mark::Good, "files", &format!("{} as sealed", checked.files));
            app.ui.row(Mark::Bad, "signature", no.reason.as_str());
            app.ui.detail("expected", &no.expected);
            app.ui.detail("found", &no.found);
            app.ui.detail("fix", &no.fix);
            Ok(no.reason.kind().exit_code())
        }
        (None, Some(level), Some(report)) => {
            let status = report.status.as_str();
            app.ui.row(Mark::Good, "files", &format!("{} as sealed", checked.files));
            let by = match &signed {
                Some(Ok(held)) => format!(" by {}", held.names()),
                _ => String::new(),
            };
            app.ui.row(Mark::Good, "level", &format!("{}{by}", level.as_str()));
            let holds = accepted(report);
            app.ui.row(if holds { Mark::Good } else { Mark::Bad }, "status", status);
            if !holds {
                let accepts: Vec<&str> = accepts.iter().map(|status| status.as_str()).collect();
                app.ui.detail("expected", &accepts.join(" or "));
                app.ui.detail("found", &format!("intact evidence of a run that ended {status}"));
                let named = args.subject.as_deref().unwrap_or_default();
                let fix = format!("admit verify {named} --accept {status}, if that is enough");
                app.ui.detail("fix", &fix);
            }
            if let Some(id) = &checked.id {
                app.ui.line(&id.to_string());
            }
            Ok(if holds { 0 } else { Kind::No.exit_code() })
        }
        // No fault, no level and no refused signature: there is no such answer of a check.
        (None, ..) => Err(Error::new(Reason::Internal, "a run that was not checked to the end")),
    }
}

/// A check as data.
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
        "schema": "admit.run-check/2",
        "directory": checked.directory,
        "id": checked.id,
        "level": checked.level.map(Level::as_str),
        "files": checked.files,
        "faults": faults,
        "notes": checked.notes,
        "status": checked.report.as_ref().map(|report| report.status),
    })
}
