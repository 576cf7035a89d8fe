//! `admit verify [NAME]`: does everything on this machine still match the locked records? `admit verify RUN`: is a run
//! directory what was sealed? With a policy or a bundle also: who signed it?

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::app::App;
use super::findings;
use crate::error::{Error, Reason, Result};
use crate::evidence::{Level, RunCheck};
use crate::lock::Spec;
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
    /// Also run the output again, in a sandbox, to see that it shows the locked identity
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    signatures: SignatureArgs,
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
            Some(dir) => return verify_run(app, &dir, args.id.as_ref(), &signatures),
            None if args.id.is_some() => {
                return Err(Error::new(
                    Reason::BadArgument,
                    "--id is a run's, and this names a provider",
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

/// Checks the run directory and says what was found. The exit code is 0, or that of the first fault.
fn verify_run(app: &App, run: &Path, id: Option<&Digest>, signatures: &Signatures) -> Result<u8> {
    let root = app.context.root()?;
    let (checked, signed) = runs::check(&app.context, &root, run, id, signatures)?;
    let mut answer = run_check(&checked);
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
