//! `admit attest …`: sign what admit itself checked, just now.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::app::App;
use super::{findings, key, model};
use crate::attest::{self, Expected};
use crate::build::rebuild::Answer;
use crate::build::{self, STEP_WALL, Stored, Wanted};
use crate::campaign::{Campaign, seal};
use crate::check::Check;
use crate::check::gather;
use crate::error::{Error, Kind, Reason, Result};
use crate::evidence;
use crate::host;
use crate::host::files::{self, Links};
use crate::lock::{self, Locked, Spec};
use crate::record;
use crate::record::admission::{AdmissionStatus, ModelPair};
use crate::record::dsse::Envelope;
use crate::record::finding::Finding;
use crate::record::ids::{Digest, Name};
use crate::record::lockfile::LockedPackage;
use crate::record::report::{BuildReport, Origin};
use crate::root::{self, Root, bad_record, write_atomic};
use crate::ui::Mark;
use crate::verify::{self, runs};

/// Sign a statement about a build, a verification, a run, a campaign, a model admission or a release, after checking it again
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to attest
    #[arg(value_enum)]
    what: What,
    /// build, rebuild, verdict: a provider; run: a directory, its name, or `latest`; plan, campaign: a campaign's directory;
    /// model: PROVIDER/MODEL; release: an archive
    target: String,
    /// The key that signs (admit key new)
    #[arg(long, value_name = "NAME", default_value = "default")]
    key: Name,
    /// Add the envelope to this bundle, one a line (default: print it)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Add it where the gate and admit verify look: to the root, for a run or a campaign beside its directory
    #[arg(long, conflicts_with = "out")]
    record: bool,
    /// The run's id as printed when it was sealed
    #[arg(long, value_name = "DIGEST")]
    id: Option<Digest>,
    /// The same archive, as a second build gave it
    #[arg(long, value_name = "FILE")]
    again: Option<PathBuf>,
    /// Name the signature a second time as in-toto's Python tools name the key
    #[arg(long, conflicts_with = "format")]
    in_toto_keyid: bool,
    /// The form that is printed, or written with --out
    #[arg(long, value_enum, value_name = "FORM", conflicts_with = "record")]
    format: Option<Form>,
}

/// The longest archive that is read, in bytes.
const MAX_ARCHIVE: u64 = 512 << 20;

/// What is attested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// A recorded build, as SLSA provenance
    Build,
    /// That a recorded build, made again just now, has the same outcome, as a statement of admit's own
    Rebuild,
    /// That admit verify holds for a provider, as a SLSA verification summary
    Verdict,
    /// A sealed run, as an in-toto test result
    Run,
    /// A campaign's plan, before the first run, as a statement of admit's own
    Plan,
    /// A campaign's count, as an in-toto test result
    Campaign,
    /// A model admission, as a statement of admit's own
    Model,
    /// An archive of admit itself that two builds gave, by the admit that is in it, as SLSA provenance
    Release,
}

/// The forms of a signed statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A DSSE envelope, one a line
    Dsse,
    /// A Sigstore bundle (v0.3) with a plain key: a file of its own
    Sigstore,
    /// build, rebuild: an in-toto link of a step called build, for a layout: a file of its own
    Link,
}

/// A statement that was checked, and the run's sidecar where it is about a run.
struct Checked {
    statement: Expected,
    beside: Option<PathBuf>,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    // A key that cannot sign is said before anything is looked at.
    let signing = key::keys(app)?.signing(&args.key)?;
    if args.id.is_some() && args.what != What::Run {
        return Err(Error::new(Reason::BadArgument, "--id belongs to a run"));
    }
    if args.again.is_some() != (args.what == What::Release) {
        return Err(Error::new(Reason::BadArgument, "a release and --again FILE belong together"));
    }
    if args.format == Some(Form::Link) && !matches!(args.what, What::Build | What::Rebuild) {
        let what = "a link says what a step took and gave: of a build or a rebuild";
        return Err(Error::new(Reason::BadArgument, what)
            .hint("--format sigstore and --format dsse are there for all"));
    }
    if args.what == What::Release && args.record {
        let what = "a release lies in no root: --out FILE writes what is said of it";
        return Err(Error::new(Reason::BadArgument, what));
    }
    let checked = match args.what {
        What::Build | What::Rebuild | What::Verdict => provider(app, args)?,
        What::Run => run(app, args)?,
        What::Plan | What::Campaign => campaign(app, args)?,
        What::Model => admission(app, args)?,
        What::Release => release(app, args)?,
    };
    let statement = &checked.statement.statement;
    let link = args.format == Some(Form::Link);
    let mut envelope = if link { attest::link(statement) } else { statement.envelope() };
    // A layout names its keys as in-toto does.
    signing.sign(&mut envelope, args.in_toto_keyid || link);
    match args.format {
        Some(Form::Sigstore) => {
            return alone(app, args, &envelope.sigstore(&signing.public().pem()));
        }
        Some(Form::Link) => return alone(app, args, &envelope.json()),
        Some(Form::Dsse) | None => {}
    }
    let place = match (&args.out, args.record) {
        (Some(file), _) => Some(add(app, &app.context.host.absolute(file), &envelope)?),
        (None, true) => Some(keep(app, &checked, &envelope)?),
        (None, false) => None,
    };
    let print = signing.public().fingerprint();
    app.ui.json(&json!({
        "schema": "admit.attested/1", "predicate_type": statement.predicate_type,
        "subject": statement.subject, "keyid": print, "key": args.key, "file": place,
        "envelope": envelope.json(),
    }));
    match &place {
        None => app.ui.line(&envelope.line()),
        Some(place) => {
            let what = format!("{} as {}", args.target, statement.predicate_type);
            app.ui.verdict(Mark::Good, "signed", &what);
            app.ui.value("by", &format!("{} ({print})", args.key));
            app.ui.verdict(Mark::Good, "signed", &place.display().to_string());
        }
    }
    Ok(0)
}

/// Prints a Sigstore bundle or a link, or writes it into a file of its own, which must not be there yet.
fn alone(app: &App, args: &Args, value: &serde_json::Value) -> Result<u8> {
    let mut bytes = format!("{value:#}").into_bytes();
    bytes.push(b'\n');
    match &args.out {
        None => app.ui.raw(&bytes),
        Some(file) => {
            let file = app.context.host.absolute(file);
            root::write_new(&file, &bytes, 0o644)?;
            app.ui.verdict(Mark::Good, "signed", &args.target);
            app.ui.verdict(Mark::Good, "signed", &file.display().to_string());
        }
    }
    app.ui.json(value);
    Ok(0)
}

/// The lock and the recorded report of a provider for which every row of verify holds.
fn holding(app: &App, root: &Root, target: &str) -> Result<(Locked, BuildReport)> {
    let spec: Spec = target.parse().map_err(|what| Error::new(Reason::BadArgument, what))?;
    let locked = lock::resolve(root, &spec)?;
    let options = verify::Options { provider: Some(spec), ..verify::Options::default() };
    let verified = verify::verify(&app.context, &options)?;
    let [verified] = &verified[..] else {
        return Err(Error::new(Reason::Internal, "one provider has one answer"));
    };
    // What must have signed the build is for others to see; this makes the signature.
    let others = |finding: &&Finding| finding.id != Check::BuildSigned.id();
    let bad: Vec<&Finding> = verified.faults().filter(others).collect();
    if !bad.is_empty() {
        bad.iter().for_each(|finding| findings::one(&app.ui, finding));
        let differs = bad.iter().any(|finding| finding.kind == Some(Kind::Digest));
        let reason = if differs { Reason::DigestMismatch } else { Reason::AttestRefused };
        let bad: Vec<&str> = bad.iter().map(|finding| finding.id.as_str()).collect();
        return Err(Error::new(reason, "what admit cannot verify it does not attest")
            .at(target)
            .expected("every check of admit verify")
            .found(format!("not: {}", bad.join(", ")))
            .hint(format!("to see what to do: admit verify {target}")));
    }
    let recorded = gather::recorded(root, &locked)?.ok_or_else(|| {
        Error::new(Reason::AttestRefused, "the build is not on record").at(target)
    })?;
    Ok((locked, recorded.report))
}

fn provider(app: &App, args: &Args) -> Result<Checked> {
    let root = app.context.root()?;
    let (locked, report) = holding(app, &root, &args.target)?;
    if args.what == What::Rebuild {
        rebuilt(app, args, &locked)?;
    }
    let statement = match args.what {
        What::Build if matches!(report.origin, Origin::Adopted | Origin::Pulled) => {
            return Err(Error::new(Reason::AttestRefused, "admit did not build this binary")
                .at(args.target.clone())
                .expected("a build by admit")
                .found(format!("origin {}", record::word(&report.origin)))
                .hint(format!(
                    "admit build {0} --rebuild --record, or admit attest verdict {0}",
                    args.target
                )));
        }
        What::Rebuild if args.format != Some(Form::Link) => attest::rebuild(&report, &locked.lock),
        What::Build | What::Rebuild => {
            let packages = match report.origin {
                Origin::Published => Vec::new(),
                _ => packages(app, &locked, &report)?,
            };
            attest::provenance(&report, &locked.lock, &packages).into()
        }
        _ => attest::summary(&report, &locked.lock, &app.context.clock.now()),
    };
    Ok(Checked { statement, beside: None })
}

/// Builds it again, with everything around the sandbox as it is: signed is what admit itself saw.
fn rebuilt(app: &App, args: &Args, locked: &Locked) -> Result<()> {
    let wanted = Wanted { rounds: 1, vary: Vec::new(), step_wall: STEP_WALL };
    let rebuild = build::rebuild(&app.context, locked, &wanted)?;
    if rebuild.rebuilt.answer == Answer::Reproduced {
        return Ok(());
    }
    let round = rebuild.rebuilt.rounds.first();
    let found = match round.and_then(|round| round.product.as_ref()) {
        Some(product) => product.sha256.to_string(),
        None => "nothing was rebuilt".into(),
    };
    let expected = locked.output().map(|output| output.sha256.to_string());
    Err(Error::new(Reason::AttestRefused, "the build was made again, and its outcome is another")
        .at(args.target.clone())
        .expected(expected.unwrap_or_default())
        .found(found)
        .hint(format!("to see what differs: admit rebuild {}", locked.lock.provider)))
}

/// The packages that the build was made from: the list whose digest the report has.
fn packages(app: &App, locked: &Locked, report: &BuildReport) -> Result<Vec<LockedPackage>> {
    let saved = Stored::of(&*app.context.store()?, locked).packages()?.unwrap_or_default();
    let found = record::digest(&saved);
    if report.packages_digest.as_ref() == Some(&found) {
        return Ok(saved);
    }
    let expected = report.packages_digest.as_ref().map(ToString::to_string);
    Err(Error::new(Reason::DigestMismatch, "the store has another list of packages")
        .at(locked.place.clone())
        .expected(expected.unwrap_or_default())
        .found(found.to_string())
        .hint(format!("admit build {} --rebuild", report.provider)))
}

fn run(app: &App, args: &Args) -> Result<Checked> {
    let dir = runs::find(&app.context, &args.target)?;
    let checked = evidence::check(&dir, args.id.as_ref())?;
    if let Some(err) = checked.error() {
        return Err(err.hint("what admit cannot verify it does not attest"));
    }
    let (Some(id), Some(report)) = (&checked.id, &checked.report) else {
        return Err(Error::new(Reason::AttestRefused, "the run has no id").at(args.target.clone()));
    };
    let statement = attest::test_result(id, report).into();
    Ok(Checked { statement, beside: Some(runs::beside(&dir)) })
}

fn campaign(app: &App, args: &Args) -> Result<Checked> {
    let dir = app.context.host.absolute(Path::new(&args.target));
    let campaign = Campaign::open(&dir, None)?;
    let statement = match args.what {
        What::Plan => attest::campaign_plan(&campaign.plan),
        _ => {
            let checked = seal::verify(&app.context, &campaign)?;
            if let Some(one) = checked.fault() {
                return Err(Error::new(
                    Reason::CampaignDiffers,
                    "the count is not that of the runs",
                )
                .at(dir.display().to_string())
                .expected(one.expected)
                .found(format!("{}: {}", one.place, one.found))
                .hint("what admit cannot verify it does not attest"));
            }
            attest::campaign_result(&campaign.plan, &checked.record)
        }
    };
    Ok(Checked { statement: statement.into(), beside: Some(runs::beside(&dir)) })
}

fn admission(app: &App, args: &Args) -> Result<Checked> {
    let pair: ModelPair =
        args.target.parse().map_err(|what: String| Error::new(Reason::BadArgument, what))?;
    let root = app.context.root()?;
    let found = model::status(app, &root, &pair);
    if found.status != AdmissionStatus::Admitted {
        return Err(Error::new(Reason::AttestRefused, "the record does not admit the model")
            .at(pair.to_string())
            .expected("admitted")
            .found(format!("{}: {}", found.status.as_str(), found.reason))
            .hint("to record an approval: admit model add --help"));
    }
    let path = pair.path();
    let bytes = root.get(&path).unwrap_or_default();
    let statement =
        attest::model_admission(bytes).map_err(|err| bad_record(&root.place(&path), &err))?;
    Ok(Checked { statement: statement.into(), beside: None })
}

fn release(app: &App, args: &Args) -> Result<Checked> {
    let host = &app.context.host;
    let read = |path: &Path| files::read(path, Links::Follow, MAX_ARCHIVE);
    let path = host.absolute(Path::new(&args.target));
    let again = host.absolute(args.again.as_deref().unwrap_or(&path));
    if std::fs::canonicalize(&path).ok() == std::fs::canonicalize(&again).ok() {
        return Err(Error::new(Reason::BadArgument, "one archive cannot stand for two builds")
            .at(args.target.clone()));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let own = host::own_program()?;
    let statement = attest::release(&attest::Release {
        name: &name,
        archive: &read(&path)?,
        again: &read(&again)?,
        own: &read(&own)?,
        commit: attest::own_commit(),
    })?;
    Ok(Checked { statement: statement.into(), beside: None })
}

/// Puts the envelope where it is looked for.
fn keep(app: &App, checked: &Checked, envelope: &Envelope) -> Result<PathBuf> {
    if let Some(path) = &checked.beside {
        return add(app, path, envelope);
    }
    let subject = checked.statement.statement.sha256();
    let subject = subject.ok_or_else(|| Error::new(Reason::Internal, "no subject"))?;
    attest::keep(&app.context, &subject, std::slice::from_ref(envelope))
}

/// Adds a line to a bundle on disk, while no other call of admit does.
fn add(app: &App, path: &Path, envelope: &Envelope) -> Result<PathBuf> {
    let _lock = root::lock_writers(&app.context.host.data_dir()?)?;
    let old = verify::bundle(path)?.unwrap_or_default();
    let place = path.display().to_string();
    write_atomic(path, &attest::with(&old, std::slice::from_ref(envelope), &place)?, 0o644)?;
    Ok(path.to_owned())
}
