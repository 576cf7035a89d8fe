//! `admit pull`: a build that somebody else made, by the word of a key that counts here.
//!
//! Everything is checked before anything is kept: the record is of the build that the lock here asks for, a key that was named
//! signed that record's provenance, and the output has the locked digest. The record here says `pulled`, from where, and by
//! whose word; the gate and verify hold the signature against the keys again each time.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

use super::artifact::{self, Parts};
use crate::attest::keys::Keys;
use crate::attest::{self, Demand, Held, Trusted};
use crate::build::{self, Stored};
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::host;
use crate::lock::{self, Locked, Spec};
use crate::record;
use crate::record::dsse::{self, Envelope};
use crate::record::ids::{Algorithm, Digest, Name};
use crate::record::lockfile::Output;
use crate::record::reference::{Reference, Which};
use crate::record::report::{BuildReport, Origin, Pulled, SignedBy};
use crate::record::signing::StatementKind;
use crate::registry::client::{FetchedManifest, Repository, altered};
use crate::registry::manifest::Manifest;

/// Builds of one output that are looked at, at most.
const MAX_BUILDS: usize = 64;
/// Statements about one build that are looked at, at most.
const MAX_STATEMENTS: usize = 256;

/// Whose word counts.
#[derive(Clone, Debug, clap::Args)]
pub struct Pull {
    /// The provider, or provider@commit; its lock here says which output is meant
    #[arg(value_name = "PROVIDER[@COMMIT]")]
    pub spec: Spec,
    /// The repository: oci://HOST/PATH, with :TAG or @sha256:… for one certain manifest
    #[arg(value_name = "REPOSITORY")]
    pub reference: Reference,
    /// The key that must have signed the build's provenance (admit key import)
    #[arg(long = "require-signed-by", value_name = "NAME")]
    pub signed_by: Option<Name>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PulledBuild {
    pub report: BuildReport,
    pub output: PathBuf,
    /// Where the record was put; absent where the build was made here before, so that nothing was pulled.
    pub recorded: Option<String>,
    /// Bytes of the output that came; 0 where it was in the store.
    pub received: u64,
}

/// A build in the registry that counts here, before its output is fetched.
struct Candidate {
    manifest: Digest,
    report: BuildReport,
    envelopes: Vec<Envelope>,
    held: Held,
}

/// Takes a build out of a registry and puts it on record.
///
/// # Errors
/// [`Reason::SignerUnknown`] where neither a key nor a policy says whose builds count; [`Reason::KeyUnusable`] for a key that
/// is not here; [`Reason::OutputNotLocked`]; [`Reason::NotInRegistry`]; those of signatures; [`Reason::DigestMismatch`] and the others of a
/// registry that does not give what it should.
pub fn pull(context: &Context, options: &Pull) -> Result<PulledBuild> {
    host::enough_tasks()?;
    let root = context.root()?;
    let locked = lock::resolve(&root, &options.spec)?;
    let demands = demands(context, options)?;
    let Some(expected) = locked.output() else {
        return Err(Error::new(
            Reason::OutputNotLocked,
            "the lock names no output, so nothing says which build is meant",
        )
        .at(locked.place.clone())
        .expected(format!("outputs.{}", locked.plan.platform))
        .hint("take the lock from where it was built"));
    };
    let store = context.store()?;
    let stored = Stored::of(&store, &locked);
    let name = &locked.lock.provider;
    if let Some(report) = stored.report()?
        && matches!(report.origin, Origin::Built | Origin::Published)
        && report.sha256 == expected.sha256
        && let Some(file) = store.file(expected.sha256.digest())?
    {
        let how = if report.origin == Origin::Built { "built" } else { "taken from its package" };
        context
            .progress
            .note(&format!("{name} was {how} here, which says more: nothing was pulled"));
        let output = file.path().to_path_buf();
        return Ok(PulledBuild { report, output, recorded: None, received: 0 });
    }
    let repository = context.registry(&options.reference)?;
    let mut pulled = take(context, &repository, &locked, &stored, &demands)?;
    if pulled.report.origin == Origin::Pulled {
        pulled.recorded = Some(record(context, &locked, &pulled.report)?);
    } else {
        let what = "was adopted here as it was there: nothing was pulled";
        context.progress.note(&format!("{name} {what}"));
    }
    Ok(pulled)
}

/// Takes the locked build into the store, if one is there that counts: its output and its report, whose origin is `pulled`
/// unless what is here says as much. Nothing is recorded.
pub(super) fn take(
    context: &Context,
    repository: &Repository<'_>,
    locked: &Locked,
    stored: &Stored<'_>,
    demands: &[Demand],
) -> Result<PulledBuild> {
    let Some(expected) = locked.output() else {
        return Err(Error::new(Reason::OutputNotLocked, "the lock names no output")
            .at(locked.place.clone()));
    };
    let candidate = find(context, repository, locked, expected, demands)?;
    if let Some(report) = stored.report()?
        && (report.origin, candidate.report.origin) == (Origin::Adopted, Origin::Adopted)
        && report.sha256 == expected.sha256
        && let Some(file) = context.store()?.file(expected.sha256.digest())?
    {
        let output = file.path().to_path_buf();
        return Ok(PulledBuild { report, output, recorded: None, received: 0 });
    }
    let (output, received) = fetch(context, repository, expected)?;
    let signed_by = candidate
        .held
        .by
        .iter()
        .map(|(name, key)| SignedBy { name: name.clone(), key: key.clone() });
    let mut report = candidate.report;
    let record_sha256 = Digest::sha256(&record::pretty(&report));
    let origin = std::mem::replace(&mut report.origin, Origin::Pulled);
    report.pulled = Some(Pulled {
        from: repository.reference.at(&candidate.manifest).to_string(),
        origin,
        at: context.clock.now(),
        store_path: output.display().to_string(),
        record_sha256,
        signed_by: signed_by.collect(),
    });
    let lines = candidate.envelopes.iter().map(|envelope| envelope.line() + "\n");
    stored.put_statements(lines.collect::<String>().as_bytes())?;
    stored.put(&report, None)?;
    Ok(PulledBuild { report, output, recorded: None, received })
}

/// Puts a build on record, and of one that was pulled the statements by which it counts.
///
/// # Errors
/// Those of [`build::record`]; [`Reason::BadEnvelope`] for a bundle of the root that is none.
pub fn record(context: &Context, locked: &Locked, report: &BuildReport) -> Result<String> {
    if report.origin == Origin::Pulled
        && let Some(bundle) = Stored::of(&*context.store()?, locked).statements()?
    {
        let envelopes = dsse::parse_bundle(&bundle).map_err(|err| {
            Error::new(Reason::BadEnvelope, "the statements in the store").caused_by(err)
        })?;
        attest::keep(context, report.sha256.digest(), &envelopes)?;
    }
    build::record(context, report)
}

/// Who must have signed: what the policy asks for, and the key that was named. One of them there must be.
fn demands(context: &Context, options: &Pull) -> Result<Vec<Demand>> {
    let root = context.root()?;
    let mut all: Vec<Demand> = Demand::of_root(&root, StatementKind::Build)?.into_iter().collect();
    if let Some(name) = &options.signed_by {
        let key = Keys::new(&context.host.data_dir()?).public(name)?;
        all.push(Demand::of_keys(vec![key]).within(&root));
    }
    if all.is_empty() {
        let (name, reference) = (&options.spec.provider, &options.reference);
        return Err(Error::new(Reason::SignerUnknown, "nothing says whose builds count here")
            .at(root.label())
            .expected("a key with --require-signed-by, or [require] build in admit.toml")
            .found("neither")
            .hint(format!("admit key import builder builder.pub && admit pull {name} {reference} --require-signed-by builder")));
    }
    Ok(all)
}

/// The first build of the locked output that counts. Where none does, the reason is the first one's.
fn find(
    context: &Context,
    repository: &Repository<'_>,
    locked: &Locked,
    expected: &Output,
    demands: &[Demand],
) -> Result<Candidate> {
    let reference = &repository.reference;
    context.progress.stage("pull", &format!("{} from {}", locked.lock.provider, reference));
    let wanted: Vec<Which> = match &reference.which {
        Which::Any => {
            let mut tags = repository.tags(&artifact::builds_of(&expected.sha256))?;
            tags.truncate(MAX_BUILDS);
            tags.into_iter().map(Which::Tag).collect()
        }
        one => vec![one.clone()],
    };
    let mut refused = None;
    for which in &wanted {
        let Some(found) = repository.manifest(which)? else { continue };
        match candidate(context, repository, &found, locked, expected, demands) {
            Ok(candidate) => return Ok(candidate),
            Err(err) => refused = Some(refused.unwrap_or(err)),
        }
    }
    Err(refused.unwrap_or_else(|| {
        let (name, repository) = (&locked.lock.provider, reference.repository());
        Error::new(Reason::NotInRegistry, "the registry has no such build")
            .at(reference.to_string())
            .expected(format!("a build of the output {}", expected.sha256))
            .found("none")
            .hint(format!("where it was built: admit push {name} {repository}"))
    }))
}

fn candidate(
    context: &Context,
    repository: &Repository<'_>,
    found: &FetchedManifest,
    locked: &Locked,
    expected: &Output,
    demands: &[Demand],
) -> Result<Candidate> {
    let place = repository.reference.at(&found.digest).to_string();
    let manifest = Manifest::parse(&found.bytes).map_err(|err| {
        Error::new(Reason::BadManifest, "what lies there is no manifest")
            .at(&*place)
            .found(err.to_string())
    })?;
    let Parts { output, record: listed } = artifact::parts(&manifest, &place)?;
    if output.digest != *expected.sha256.digest() || output.size != expected.size {
        return Err(Error::new(Reason::DigestMismatch, "what lies there is another build's output")
            .at(place)
            .expected(format!("{} {} bytes", expected.sha256.digest(), expected.size))
            .found(format!("{} {} bytes", output.digest, output.size))
            .hint("the lock here pins another build: name the repository alone, and the right one is looked for"));
    }
    let bytes = repository.small(&listed.digest, listed.size)?;
    let report: BuildReport = record::parse(&bytes).map_err(|err| {
        Error::new(Reason::BadManifest, "the record there cannot be read")
            .at(&*place)
            .found(err.to_string())
    })?;
    if report.origin == Origin::Pulled || record::pretty(&report) != bytes {
        return Err(Error::new(
            Reason::BadManifest,
            "the record there is not a first one that admit wrote",
        )
        .at(place)
        .expected("origin built, adopted or published, in the form that admit writes")
        .found(format!("origin {}", record::word(&report.origin))));
    }
    if let Some(differs) = build::difference(locked, &report, None) {
        return Err(Error::new(
            Reason::AttestedDiffers,
            "the build there is not the one that the lock here asks for",
        )
        .at(place)
        .expected(format!("{}: {}", differs.field, differs.expected))
        .found(format!("{}: {}", differs.field, differs.found))
        .hint("take lock and build from the same place"));
    }
    let now = context.clock.now();
    let root = context.root()?;
    let again = Demand::of_root(&root, StatementKind::Rebuild)?;
    let everyone: Vec<&Trusted> =
        demands.iter().chain(&again).flat_map(|demand| &demand.trusted).collect();
    let (envelopes, lost) = statements(repository, &found.digest, &everyone)?;
    let bundle: String = envelopes.iter().map(|envelope| envelope.line() + "\n").collect();
    let about = [attest::of_build(&report, &locked.lock, &now)];
    let mut held = Held { by: Default::default() };
    let rebuild = [attest::rebuild(&report, &locked.lock)];
    let asked = demands
        .iter()
        .map(|demand| (demand, &about))
        .chain(again.iter().map(|demand| (demand, &rebuild)));
    for (demand, about) in asked {
        match attest::check(Some(bundle.as_bytes()), about, demand, &now) {
            Ok(more) => held.by.extend(more.by),
            Err(no) if no.reason == Reason::SignatureMissing && !lost.is_empty() => {
                return Err(Error::new(
                    Reason::AttestationLost,
                    "the registry lists attestations that it does not give",
                )
                .at(place)
                .expected(no.expected)
                .found(format!("lost: {}", lost.join(", ")))
                .hint("push them again from where they were signed: admit push --help"));
            }
            Err(no) => {
                return Err(Error::new(no.reason, "the build there does not count here")
                    .at(place)
                    .expected(no.expected)
                    .found(no.found)
                    .hint(no.fix));
            }
        }
    }
    Ok(Candidate { manifest: found.digest.clone(), report, envelopes, held })
}

/// The statements about a build that a key of `trusted` signed, and the tags of those that the registry does not give. What
/// others put beside them is left aside: who may write to a registry is not who may sign.
fn statements(
    repository: &Repository<'_>,
    build: &Digest,
    trusted: &[&Trusted],
) -> Result<(Vec<Envelope>, Vec<String>)> {
    let mut tags = repository.tags(&artifact::statements_about(build))?;
    tags.truncate(MAX_STATEMENTS);
    let mut wanted: Vec<(String, Which)> =
        tags.into_iter().map(|tag| (tag.clone(), Which::Tag(tag))).collect();
    // Where the registry keeps the list itself, it may know of statements that another client pushed.
    let listed = repository.referrers(build)?.map(|index| index.manifests).unwrap_or_default();
    let listed =
        listed.into_iter().filter(|one| one.artifact_type.as_deref() == Some(artifact::ENVELOPE));
    wanted.extend(
        listed.take(MAX_STATEMENTS).map(|one| (one.digest.to_string(), Which::Digest(one.digest))),
    );
    let (mut seen, mut out, mut lost) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (name, which) in wanted {
        let Some(found) = repository.manifest(&which)? else {
            lost.push(name);
            continue;
        };
        let manifest = Manifest::parse(&found.bytes).ok();
        let layer = manifest.as_ref().and_then(|manifest| artifact::envelope(manifest, build));
        let Some(layer) = layer.filter(|layer| seen.insert(layer.digest.clone())) else { continue };
        let bytes = match repository.small(&layer.digest, layer.size) {
            Err(err) if err.reason() == Reason::NotInRegistry => {
                lost.push(name);
                continue;
            }
            other => other?,
        };
        let Ok(envelope) = Envelope::parse(&bytes) else { continue };
        let signed = envelope.signed_bytes();
        let mut signatures = envelope.signatures.iter();
        if signatures.any(|one| {
            trusted.iter().any(|by| by.is_named(&one.keyid) || by.key.verifies(&signed, &one.sig))
        }) {
            out.push(envelope);
        }
    }
    Ok((out, lost))
}

/// The output in the store, and how much of it came: it is hashed on its way beside it, and not in it before it is the
/// locked one.
fn fetch(
    context: &Context,
    repository: &Repository<'_>,
    expected: &Output,
) -> Result<(PathBuf, u64)> {
    let store = context.store()?;
    let digest = expected.sha256.digest();
    if let Some(file) = store.file(digest)? {
        return Ok((file.path().to_path_buf(), 0));
    }
    let open = || store.writer_with(&[Algorithm::Sha256, Algorithm::Blake3]);
    let progress = |done, total| context.progress.bytes(done, total);
    let writer = repository.blob((digest, expected.size), open, &progress)?;
    let mut pending = writer.pend(Algorithm::Sha256)?;
    let found = pending.file().digest().clone();
    if found != *digest {
        return Err(altered("blob", repository.blob_url(digest), digest, &found));
    }
    let file = pending.require(expected.blake3.digest())?.publish()?;
    Ok((file.path().to_path_buf(), expected.size))
}
