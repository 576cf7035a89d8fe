//! `admit verify [NAME]`: does everything on this machine still match the locked records? `admit verify RUN`: is a run
//! directory what was sealed?

use std::path::PathBuf;

use serde_json::json;

use super::app::App;
use super::{making, runs};
use crate::build::output;
use crate::error::{Error, Kind, Reason, Result};
use crate::host::platform;
use crate::lock::{self, Locked, Spec};
use crate::model::ids::{Digest, Name};
use crate::plan::Plan;
use crate::root::Root;
use crate::sandbox::Launcher;
use crate::store::Store;
use crate::ui::Mark;
use crate::verify::{self, Row, Status, Subject, Verified};

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
}

impl Args {
    /// `admit verify NAME`.
    pub(super) fn of(name: &str) -> Self {
        Self { subject: Some(name.to_owned()), id: None, deep: false }
    }
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let spec = match &args.subject {
        None => None,
        Some(text) => match run_directory(app, text)? {
            Some(dir) => return runs::verify(app, &dir, args.id.as_ref()),
            None => {
                Some(text.parse::<Spec>().map_err(|what| Error::new(Reason::BadArgument, what))?)
            }
        },
    };
    let root = app.root()?;
    let store = Store::open_read(&app.store_dir()?)?;
    let locks = match &spec {
        Some(spec) => vec![lock::resolve(&root, spec)?],
        None => known(&root, store.as_ref())?,
    };
    if locks.is_empty() {
        return Err(Error::new(
            Reason::NotFound,
            "nothing was built or recorded here, so there is nothing to verify",
        )
        .at(root.label())
        .hint("admit build case@7959ac9"));
    }
    let mut all = Vec::new();
    for locked in &locks {
        let mut verified = one(&root, locked, store.as_ref())?;
        if args.deep {
            deep(locked, store.as_ref(), &mut verified);
        }
        all.push(verified);
    }
    for verified in &all {
        show(app, verified);
    }
    let holds = all.iter().all(Verified::holds);
    app.ui.json(
        &json!({ "schema": "admit.verified/1", "root": root.label(), "root_digest": root.digest(),
        "holds": holds, "providers": all }),
    );
    // A digest that does not match wins over every other no.
    let codes = all.iter().map(Verified::exit_code);
    Ok(codes
        .max_by_key(|code| (*code == Kind::Digest.exit_code(), *code))
        .unwrap_or(Kind::No.exit_code()))
}

/// The run that a text means: what looks like a path, `latest`, and what is a sealed directory; anything else is a
/// provider.
fn run_directory(app: &App, text: &str) -> Result<Option<PathBuf>> {
    let found = runs::find(app, text);
    if text.contains('/') || text.starts_with('.') || text == "latest" {
        return found.map(Some);
    }
    Ok(found.ok().filter(|dir| dir.join("manifest.json").exists()))
}

/// The locks whose plan was built here, or whose output is on record.
fn known(root: &Root, store: Option<&Store>) -> Result<Vec<Locked>> {
    let mut out = Vec::new();
    for name in lock::providers(root) {
        let provider: Name = name
            .parse()
            .map_err(|err| Error::new(Reason::BadRecord, "a lock's name").caused_by(err))?;
        let locked = lock::resolve(root, &Spec { provider, rev: None })?;
        let prefix = format!("admissions/builds/{name}--");
        let recorded = root.below(&prefix).next().is_some();
        let built = match (store, Plan::new(&locked.lock, platform()?)) {
            // A record that cannot be read is something to verify, too.
            (Some(store), Ok(plan)) => !matches!(making::saved(store, &plan.key()), Ok(None)),
            _ => false,
        };
        if recorded || built {
            out.push(locked);
        }
    }
    Ok(out)
}

fn one(root: &Root, locked: &Locked, store: Option<&Store>) -> Result<Verified> {
    let plan = Plan::new(&locked.lock, platform()?)?;
    let saved = store.map_or(Ok(None), |store| making::saved(store, &plan.key()));
    let (saved, unreadable) = match saved {
        Ok(saved) => (saved, None),
        Err(err) => (None, Some(Row::unreadable_record(&err))),
    };
    let mut verified =
        verify::verify(&Subject { root, locked, plan: &plan, store, saved: saved.as_ref() });
    verified.rows.extend(unreadable);
    Ok(verified)
}

/// Runs the identity again. It counts only where the output itself passed.
fn deep(locked: &Locked, store: Option<&Store>, verified: &mut Verified) {
    let passed = verified.rows.iter().any(|row| row.id == "output" && row.status == Status::Pass);
    let row = match (store, platform().ok().and_then(|p| locked.lock.outputs.get(&p)), passed) {
        (Some(store), Some(out), true) => {
            let path = store.file_path(out.sha256.digest());
            let again = tempfile::tempdir()
                .map_err(|err| Error::io("make", "a temporary directory", err))
                .and_then(|dir| {
                    output::identity(
                        &Launcher::own(dir.path()),
                        &path,
                        out.sha256.digest(),
                        &locked.lock.identity,
                    )
                });
            Row::shown(again.map(|proof| proof.help_first_line))
        }
        _ => Row::shown(Err(Error::new(
            Reason::NotFound,
            "the output did not pass, so it was not run",
        ))),
    };
    verified.rows.push(row);
}

fn show(app: &App, verified: &Verified) {
    app.ui.line(&verified.provider);
    for row in &verified.rows {
        let mark = match row.status {
            Status::Pass => Mark::Good,
            Status::NotNeeded => Mark::Note,
            _ => Mark::Bad,
        };
        if matches!(row.status, Status::Pass | Status::NotNeeded) {
            app.ui.row(mark, row.id, &row.found);
        } else {
            app.ui.row(mark, row.id, row.reason.unwrap_or_default());
            app.ui.detail("expected", &row.expected);
            app.ui.detail("found", &row.found);
            app.ui.detail("fix", &row.fix);
        }
    }
}
