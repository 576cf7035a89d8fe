//! `admit attest`: signs a statement about what admit itself checked, just now. What it cannot verify it does not sign.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::attest::keys::Keys;
use crate::attest::{self, Expected};
use crate::build::rebuild::RebuildAnswer;
use crate::build::{self, STEP_WALL, Stored, Wanted};
use crate::campaign::{Campaign, seal};
use crate::check::{Check, gather};
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::evidence;
use crate::host;
use crate::host::files::{self, Links};
use crate::lock::{self, Locked, Spec};
use crate::model;
use crate::record;
use crate::record::admission::{AdmissionStatus, ModelPair};
use crate::record::dsse::Envelope;
use crate::record::ids::{Digest, Name};
use crate::record::lockfile::LockedPackage;
use crate::record::report::{BuildReport, Origin};
use crate::record::sshkey::Fingerprint;
use crate::record::statement::Statement;
use crate::root::{self, Root, bad_record, write_atomic};
use crate::verify::{self, Unverified, runs};

/// What is signed, with which key, and where it goes.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What to attest
    #[arg(value_enum)]
    pub what: What,
    /// build, rebuild, verdict: a provider; run: a directory, its name, or `latest`; plan, campaign: a campaign's directory;
    /// model: PROVIDER/MODEL; release: an archive
    pub target: String,
    /// The key that signs (admit key new)
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub key: Name,
    /// Add the envelope to this bundle, one a line (default: print it)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Add it where the gate and admit verify look: to the root, for a run or a campaign beside its directory
    #[arg(long, conflicts_with = "out")]
    pub record: bool,
    /// The run's id as printed when it was sealed
    #[arg(long, value_name = "DIGEST")]
    pub id: Option<Digest>,
    /// The same archive, as a second build gave it
    #[arg(long, value_name = "FILE")]
    pub again: Option<PathBuf>,
    /// Name the signature a second time as in-toto's Python tools name the key
    #[arg(long, conflicts_with = "format")]
    pub in_toto_keyid: bool,
    /// The form that is printed, or written with --out
    #[arg(long, value_enum, value_name = "FORM", conflicts_with = "record")]
    pub format: Option<Form>,
}

/// The longest archive that is read, in bytes.
const MAX_ARCHIVE: u64 = 512 << 20;

/// What is attested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
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
pub enum Form {
    /// A DSSE envelope, one a line
    Dsse,
    /// A Sigstore bundle (v0.3) with a plain key: a file of its own
    Sigstore,
    /// build, rebuild: an in-toto link of a step called build, for a layout: a file of its own
    Link,
}

#[derive(Debug)]
pub struct Attested {
    pub statement: Statement,
    pub envelope: Envelope,
    pub key: Fingerprint,
    /// The signed statement in a form that is no line of a bundle.
    pub alone: Option<Value>,
    /// Where it was written; `None` where it is to be printed.
    pub place: Option<PathBuf>,
}

/// Checks what is asked for again, signs the statement about it, and puts it where the options say. `Err` inside of the
/// answer where a provider is not what the records name.
///
/// # Errors
/// [`Reason::BadArgument`] for options that do not go together; [`Reason::AttestRefused`], or that of what differs, where a
/// check does not hold; those of keys, records and files.
pub fn attest(
    context: &Context,
    options: &Options,
) -> Result<std::result::Result<Attested, Unverified>> {
    // A key that cannot sign is said before anything is looked at.
    let signing = Keys::new(&context.host.data_dir()?).signing(&options.key)?;
    let Options { what, format, .. } = *options;
    if options.id.is_some() && what != What::Run {
        return Err(Error::new(Reason::BadArgument, "--id belongs to a run").hint("leave out --id"));
    }
    if options.again.is_some() != (what == What::Release) {
        return Err(Error::new(Reason::BadArgument, "a release and --again FILE belong together")
            .hint("a release names the archive, and with --again the same one as a second build gave it; nothing else has --again"));
    }
    if format == Some(Form::Link) && !matches!(what, What::Build | What::Rebuild) {
        let what = "a link says what a step took and gave: of a build or a rebuild";
        return Err(Error::new(Reason::BadArgument, what)
            .hint("--format sigstore and --format dsse are there for all"));
    }
    if what == What::Release && options.record {
        let what = "a release lies in no root: --out FILE writes what is said of it";
        return Err(Error::new(Reason::BadArgument, what));
    }
    let checked = match what {
        What::Build | What::Rebuild | What::Verdict => match provider(context, options)? {
            Ok(checked) => checked,
            Err(unverified) => return Ok(Err(unverified)),
        },
        What::Run => run(context, options)?,
        What::Plan | What::Campaign => campaign(context, options)?,
        What::Model => admission(context, &options.target)?,
        What::Release => release(context, options)?,
    };
    let statement = &checked.statement.statement;
    let link = format == Some(Form::Link);
    let mut envelope = if link { attest::link(statement) } else { statement.envelope() };
    // A layout names its keys as in-toto does.
    signing.sign(&mut envelope, options.in_toto_keyid || link);
    let alone = match format {
        Some(Form::Sigstore) => Some(envelope.sigstore(&signing.public().pem())),
        Some(Form::Link) => Some(envelope.json()),
        Some(Form::Dsse) | None => None,
    };
    let out = options.out.as_ref().map(|file| context.host.absolute(file));
    let place = match (out, &alone) {
        (Some(file), Some(alone)) => {
            root::write_new(&file, &record::pretty(alone), 0o644)?;
            Some(file)
        }
        (Some(file), None) => Some(add(context, &file, &envelope)?),
        (None, _) if options.record => Some(keep(context, &checked, &envelope)?),
        (None, _) => None,
    };
    let (statement, key) = (checked.statement.statement, signing.public().fingerprint());
    Ok(Ok(Attested { statement, envelope, key, alone, place }))
}

/// A statement that was checked, and the run's sidecar where it is about a run.
struct Checked {
    statement: Expected,
    beside: Option<PathBuf>,
}

fn provider(
    context: &Context,
    options: &Options,
) -> Result<std::result::Result<Checked, Unverified>> {
    let root = context.root()?;
    let target = &*options.target;
    let spec: Spec = target.parse().map_err(|what| Error::new(Reason::BadArgument, what))?;
    let locked = lock::resolve(&root, &spec)?;
    let own = own_check(&root, &locked, options.what);
    if let Err(unverified) = verify::require_holds(context, &spec, own, "attest")? {
        return Ok(Err(unverified));
    }
    let recorded = gather::recorded(&root, &locked)?.ok_or_else(|| {
        Error::new(Reason::AttestRefused, "the build is not on record").at(target)
    })?;
    let report = recorded.report;
    if options.what == What::Rebuild {
        rebuilt(context, target, &locked)?;
    }
    let statement = match options.what {
        What::Build if matches!(report.origin, Origin::Adopted | Origin::Pulled) => {
            return Err(Error::new(Reason::AttestRefused, "admit did not build this binary")
                .at(target)
                .expected("a build by admit")
                .found(format!("origin {}", record::word(&report.origin)))
                .hint(format!(
                    "admit build {target} --rebuild --record, or admit attest verdict {target}"
                )));
        }
        What::Rebuild if options.format != Some(Form::Link) => {
            attest::rebuild(&report, &locked.lock)
        }
        What::Build | What::Rebuild => {
            let packages = match report.origin {
                Origin::Published => Vec::new(),
                _ => packages(context, &locked, &report)?,
            };
            attest::provenance(&report, &locked.lock, &packages).into()
        }
        _ => attest::summary(&report, &locked.lock, &context.clock.now()),
    };
    Ok(Ok(Checked { statement, beside: None }))
}

/// The check that waits for the very signature that is made here, so that it cannot be asked for first: that of a build and
/// of a rebuild, and the verdict on a binary that admit did not build. Any other verdict says that all of `admit verify`
/// holds, the signatures that the root asks for among it.
fn own_check(root: &Root, locked: &Locked, what: What) -> &'static [Check] {
    let adopted = || {
        let recorded = gather::recorded(root, locked);
        matches!(recorded, Ok(Some(recorded)) if recorded.report.origin == Origin::Adopted)
    };
    if what != What::Verdict || adopted() { &[Check::BuildSigned] } else { &[] }
}

/// Builds it again, with everything around the sandbox as it is: signed is what admit itself saw.
fn rebuilt(context: &Context, target: &str, locked: &Locked) -> Result<()> {
    let wanted = Wanted { rounds: 1, vary: Vec::new(), step_wall: STEP_WALL };
    let rebuild = build::rebuild(context, locked, &wanted)?;
    if rebuild.rebuilt.answer == RebuildAnswer::Reproduced {
        return Ok(());
    }
    let round = rebuild.rebuilt.rounds.first();
    let found = match round.and_then(|round| round.product.as_ref()) {
        Some(product) => product.sha256.to_string(),
        None => "nothing was rebuilt".into(),
    };
    let expected = locked.output().map(|output| output.sha256.to_string());
    Err(Error::new(Reason::AttestRefused, "the build was made again, and its outcome is another")
        .at(target)
        .expected(expected.unwrap_or_default())
        .found(found)
        .hint(format!("to see what differs: admit rebuild {}", locked.lock.provider)))
}

/// The packages that the build was made from: the list whose digest the report has.
fn packages(
    context: &Context,
    locked: &Locked,
    report: &BuildReport,
) -> Result<Vec<LockedPackage>> {
    let saved = Stored::of(&*context.store()?, locked).packages()?.unwrap_or_default();
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

fn run(context: &Context, options: &Options) -> Result<Checked> {
    let dir = runs::find(context, &options.target)?;
    let checked = evidence::check(&dir, options.id.as_ref())?;
    if let Some(err) = checked.error() {
        return Err(err.hint("what admit cannot verify it does not attest"));
    }
    let (Some(id), Some(report)) = (&checked.id, &checked.report) else {
        return Err(
            Error::new(Reason::AttestRefused, "the run has no id").at(options.target.clone())
        );
    };
    let statement = attest::test_result(id, report).into();
    Ok(Checked { statement, beside: Some(runs::beside(&dir)) })
}

fn campaign(context: &Context, options: &Options) -> Result<Checked> {
    let dir = context.host.absolute(Path::new(&options.target));
    let campaign = Campaign::open(&dir, None)?;
    let statement = match options.what {
        What::Plan => attest::campaign_plan(&campaign.plan),
        _ => {
            let checked = seal::verify(context, &campaign)?;
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

fn admission(context: &Context, target: &str) -> Result<Checked> {
    let pair: ModelPair =
        target.parse().map_err(|what: String| Error::new(Reason::BadArgument, what))?;
    let root = context.root()?;
    let found = model::status(&root, &pair, &context.clock.now());
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

fn release(context: &Context, options: &Options) -> Result<Checked> {
    let host = &context.host;
    let read = |path: &Path| files::read(path, Links::Follow, MAX_ARCHIVE);
    let path = host.absolute(Path::new(&options.target));
    let again = host.absolute(options.again.as_deref().unwrap_or(&path));
    if std::fs::canonicalize(&path).ok() == std::fs::canonicalize(&again).ok() {
        return Err(Error::new(Reason::BadArgument, "one archive cannot stand for two builds")
            .at(options.target.clone()));
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
fn keep(context: &Context, checked: &Checked, envelope: &Envelope) -> Result<PathBuf> {
    if let Some(path) = &checked.beside {
        return add(context, path, envelope);
    }
    let subject = checked.statement.statement.sha256();
    let subject = subject.ok_or_else(|| Error::new(Reason::Internal, "no subject"))?;
    attest::keep(context, &subject, std::slice::from_ref(envelope))
}

/// Adds a line to a bundle on disk, while no other call of admit does.
fn add(context: &Context, path: &Path, envelope: &Envelope) -> Result<PathBuf> {
    let _lock = root::lock_writers(&context.host.data_dir()?)?;
    let old = verify::bundle(path)?.unwrap_or_default();
    let place = path.display().to_string();
    write_atomic(path, &attest::with(&old, std::slice::from_ref(envelope), &place)?, 0o644)?;
    Ok(path.to_owned())
}
