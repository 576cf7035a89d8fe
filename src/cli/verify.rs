//! `admit verify [NAME]`: does everything on this machine still match the locked records? `admit verify RUN`: is a run
//! directory what was sealed? With a policy or a bundle also: who signed it?

use std::path::{Path, PathBuf};

use serde_json::json;

use super::app::App;
use super::{gating, key, making, outcome, runs};
use crate::attest::{self, Demand, Held, Refused};
use crate::build::output;
use crate::error::{Error, Kind, Reason, Result};
use crate::host::platform;
use crate::lock::plan::Plan;
use crate::lock::{self, Locked, Spec};
use crate::record::dsse::MAX_BUNDLE;
use crate::record::ids::{Digest, Name};
use crate::record::signing::Kind as Signed;
use crate::root::Root;
use crate::run::facts;
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
    #[command(flatten)]
    signatures: Signatures,
}

/// Where signatures are, and whose count.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Signatures {
    /// Check the signatures in this bundle, in place of the recorded one
    #[arg(long, value_name = "FILE")]
    pub(super) bundle: Option<PathBuf>,
    /// Count only this key's; without it and without a policy, all of `admit key show` count
    #[arg(long, value_name = "NAME", requires = "bundle")]
    pub(super) key: Option<Name>,
}

impl Args {
    /// `admit verify NAME`.
    pub(super) fn of(name: &str) -> Self {
        Self {
            subject: Some(name.to_owned()),
            id: None,
            deep: false,
            signatures: Signatures::default(),
        }
    }
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let spec = match &args.subject {
        None => None,
        Some(text) => match run_directory(app, text)? {
            Some(_) if args.deep => {
                let what = "--deep runs a provider's binary, and this names a run";
                return Err(Error::new(Reason::BadArgument, what));
            }
            Some(dir) => return runs::verify(app, &dir, args.id.as_ref(), &args.signatures),
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
    if spec.is_none() && args.signatures.bundle.is_some() {
        return Err(Error::new(Reason::BadArgument, "a bundle needs the name of what it is about"));
    }
    let root = app.context.root()?;
    let store = Store::open_read(&app.context.store_dir()?)?;
    let locks = match &spec {
        Some(spec) => vec![(spec.provider.to_string(), Ok(lock::resolve(&root, spec)?))],
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
    for (name, locked) in &locks {
        let locked = match locked {
            Ok(locked) => locked,
            Err(err) => {
                all.push(Verified::unreadable(name, err));
                continue;
            }
        };
        let mut verified = unsigned(&root, locked, store.as_ref())?;
        match gating::rows(app, &root, locked, store.as_ref()) {
            Ok((gates, refused)) => (verified.gates, verified.refused) = (gates, refused),
            // A root without the fixture has builds to verify all the same.
            Err(err) => app.ui.remark(&format!("the gates of a run are not shown: {err}")),
        }
        let outcome = signed(app, &root, locked, &args.signatures)?;
        verified.rows.extend(outcome.as_ref().map(Row::signature));
        if args.deep {
            deep(locked, store.as_ref(), &mut verified);
        }
        all.push(verified);
    }
    for verified in &all {
        rows(app, verified);
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

/// The run that a text means: what looks like a path, `latest`, and the name of one of this user's runs. Any other word is
/// a provider: a directory that happens to have its name must not answer for it.
fn run_directory(app: &App, text: &str) -> Result<Option<PathBuf>> {
    if text.contains('/') || text.starts_with('.') || text == "latest" {
        return runs::find(app, text).map(Some);
    }
    runs::own(app, text)
}

/// The locks whose plan was built here, or whose output is on record; and those that cannot be read, since nobody can
/// say that of them. One bad lock does not hide the others.
fn known(root: &Root, store: Option<&Store>) -> Result<Vec<(String, Result<Locked>)>> {
    let mut out = Vec::new();
    for name in lock::providers(root) {
        let provider = name
            .parse::<Name>()
            .map_err(|err| Error::new(Reason::BadRecord, "a lock's name").caused_by(err));
        let resolve = |provider| lock::resolve(root, &Spec { provider, rev: None });
        let locked = match provider.and_then(resolve) {
            Ok(locked) => locked,
            Err(err) => {
                out.push((name, Err(err)));
                continue;
            }
        };
        let prefix = format!("admissions/builds/{name}--");
        let recorded = root.below(&prefix).next().is_some();
        let built = match (store, Plan::new(&locked.lock, platform()?)) {
            // A record that cannot be read is something to verify, too.
            (Some(store), Ok(plan)) => !matches!(making::saved(store, &plan.key()), Ok(None)),
            _ => false,
        };
        if recorded || built {
            out.push((name, Ok(locked)));
        }
    }
    Ok(out)
}

/// Every row but that of the signatures.
pub(super) fn unsigned(root: &Root, locked: &Locked, store: Option<&Store>) -> Result<Verified> {
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

/// The bytes of a bundle; `None` where there is no such file.
pub(super) fn bundle(path: &Path) -> Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let io = |err| Error::io("read the bundle", path, err);
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(io(err)),
    };
    let mut bytes = Vec::new();
    // One byte more than is read as a bundle, so that a longer one is seen to be longer.
    file.take(MAX_BUNDLE as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok(Some(bytes))
}

impl Signatures {
    /// The bundle that the user names.
    pub(super) fn given(&self, app: &App) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.bundle.as_ref().map(|path| app.context.host.absolute(path)) else {
            return Ok(None);
        };
        bundle(&path)?.map(Some).ok_or_else(|| {
            Error::new(Reason::NotFound, "there is no such bundle").at(path.display().to_string())
        })
    }

    /// Whose signatures count: what the root's policy says, else this user's keys.
    pub(super) fn demand(&self, app: &App, root: &Root, kind: Signed) -> Result<Demand> {
        match (Demand::of_root(root, kind)?, &self.key) {
            (Some(policy), None) => Ok(policy),
            (Some(policy), Some(_)) => Err(Error::new(
                Reason::BadArgument,
                "--key, and the root has a policy that decides",
            )
            .found(policy.words())
            .hint("leave out --key")),
            (None, Some(name)) => Ok(Demand::of_keys(vec![key::keys(app)?.public(name)?])),
            (None, None) => Ok(Demand::of_keys(key::keys(app)?.all()?)),
        }
    }
}

/// What the signatures of a recorded build say; `None` where neither the policy nor the user asks.
fn signed(
    app: &App,
    root: &Root,
    locked: &Locked,
    signatures: &Signatures,
) -> Result<Option<Result<Held, Refused>>> {
    let policy = root.config().require.of(Signed::Build).is_some();
    let given = signatures.given(app)?;
    if !policy && given.is_none() {
        return Ok(None);
    }
    let demand = signatures.demand(app, root, Signed::Build)?;
    // A record that is absent or cannot be read has its own row; here it means that nothing signed fits.
    let Ok(Some(report)) = facts::recorded(root, locked).1 else {
        return Ok(Some(attest::check(None, &[], &demand, &app.context.clock.now())));
    };
    let now = app.context.clock.now();
    let mut expected = vec![attest::of_build(&report, &locked.lock, &now)];
    if !policy {
        expected.push(attest::summary(&report, &locked.lock, &now));
    }
    let recorded = root.get(&attest::bundle_path(report.sha256.digest()));
    let bundle = given.as_deref().or(recorded);
    Ok(Some(attest::check(bundle, &expected, &demand, &now)))
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

pub(super) fn rows(app: &App, verified: &Verified) {
    app.ui.line(&verified.provider);
    for one in &verified.rows {
        row(app, one);
    }
    if !verified.gates.is_empty() {
        app.ui.line("gates of a run");
        outcome::rows(&app.ui, &verified.gates);
    }
}

/// One row, and of one that is a no what was expected, what was found and what to do.
pub(super) fn row(app: &App, row: &Row) {
    match row.status {
        Status::Pass => app.ui.row(Mark::Good, row.id, &row.found),
        Status::NotNeeded => app.ui.row(Mark::Note, row.id, &row.found),
        _ => {
            app.ui.row(Mark::Bad, row.id, row.reason.unwrap_or_default());
            app.ui.detail("expected", &row.expected);
            app.ui.detail("found", &row.found);
            app.ui.detail("fix", &row.fix);
        }
    }
}
