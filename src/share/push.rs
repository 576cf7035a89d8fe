//! `admit push`: a recorded build for which every check of verify holds, its record, and what was signed about it, into a
//! registry. What is there already is not sent again.

use serde::Serialize;

use super::artifact;
use crate::attest::keys::Keys;
use crate::attest::{self, Demand};
use crate::check::gather;
use crate::context::Context;
use crate::download::exchange::Sent;
use crate::error::{Error, Reason, Result};
use crate::lock::{self, Spec};
use crate::record;
use crate::record::dsse;
use crate::record::ids::Digest;
use crate::record::reference::{Reference, Which};
use crate::record::report::Origin;
use crate::record::signing::StatementKind;
use crate::registry::client::Repository;
use crate::registry::manifest::{Descriptor, INDEX, Index, MANIFEST, NOTHING};
use crate::verify;

#[derive(Clone, Debug, Serialize)]
pub struct Pushed {
    pub provider: String,
    /// `oci://HOST/REPOSITORY@DIGEST`.
    pub reference: String,
    /// The build's tag, and the one that was asked for.
    pub tags: Vec<String>,
    /// SHA-256 of the output: the address of its blob.
    pub output: Digest,
    pub statements: Vec<String>,
    /// Bytes that were sent; what was there already was not.
    pub sent: u64,
}

/// Pushes the recorded build of a provider with every statement about it that the root holds.
///
/// # Errors
/// [`Reason::AttestRefused`] or [`Reason::DigestMismatch`] for a build that `admit verify` does not hold with; [`Reason::SignatureMissing`] where nobody signed it, since nobody could pull it then; those of the registry.
pub fn push(context: &Context, spec: &Spec, reference: &Reference) -> Result<Pushed> {
    let root = context.root()?;
    let locked = lock::resolve(&root, spec)?;
    let name = locked.lock.provider.to_string();
    if let Which::Digest(_) = reference.which {
        return Err(Error::new(Reason::BadArgument, "a push gets its digest from what is pushed")
            .at(reference.to_string())
            .hint(format!("admit push {name} {}", reference.repository())));
    }
    // Others would take it for good.
    verify::require_holds(context, spec, &[], "share")?.map_err(|unverified| unverified.error)?;
    let recorded = gather::recorded(&root, &locked)?
        .ok_or_else(|| Error::new(Reason::NotRecorded, "the build is not on record").at(&*name))?;
    let report = recorded.report.as_built();
    let bytes = record::pretty(&report);
    let envelopes = signed(context, &locked, &report)?;

    let repository = context.registry(reference)?;
    let store = context.store()?;
    let output = store.file(report.sha256.digest())?.ok_or_else(|| {
        Error::new(Reason::NotFound, "the output is not in the store")
            .at(name.clone())
            .hint(format!("admit build {name} --record"))
    })?;
    let progress = &*context.progress;
    progress.stage("push", &format!("{name} to {}", reference.repository()));
    let mut sent = 0;
    let mut put = |digest: &Digest, body: Sent<'_>, size: u64| -> Result<()> {
        sent += if repository.upload(digest, body)? { size } else { 0 };
        Ok(())
    };
    put(report.sha256.digest(), Sent::File(output.shared(), report.size), report.size)?;
    put(&Digest::sha256(&bytes), Sent::Bytes(&bytes), bytes.len() as u64)?;
    put(&Digest::sha256(NOTHING), Sent::Bytes(NOTHING), NOTHING.len() as u64)?;
    let manifest = artifact::build(&report, &bytes).bytes();
    let mut subject = Descriptor::of(MANIFEST, &manifest);
    let tag = artifact::build_tag(&report.sha256, &subject.digest);
    let mut statements = Vec::new();
    // The statements first: who finds the build finds what was signed about it.
    repository.put(&subject.digest.to_string(), MANIFEST, &manifest)?;
    let mut listed = Vec::new();
    for envelope in &envelopes {
        let line = envelope.line().into_bytes();
        put(&Digest::sha256(&line), Sent::Bytes(&line), line.len() as u64)?;
        let about = artifact::statement(envelope, &line, &subject);
        let bytes = about.bytes();
        let tag = artifact::statement_tag(&subject.digest, &Digest::sha256(&line));
        let kept = repository.put(&tag, MANIFEST, &bytes)?;
        if !kept {
            let mut one = Descriptor::of(MANIFEST, &bytes);
            (one.artifact_type, one.annotations) = (about.artifact_type, about.annotations);
            listed.push(one);
        }
        statements.push(tag);
    }
    list(&repository, &subject.digest, listed)?;
    let mut tags = vec![tag];
    if let Which::Tag(asked) = &reference.which {
        tags.push(asked.clone());
    }
    for tag in &tags {
        repository.put(tag, MANIFEST, &manifest)?;
    }
    subject.annotations.clear();
    Ok(Pushed {
        provider: name,
        reference: reference.at(&subject.digest).to_string(),
        tags,
        output: report.sha256.digest().clone(),
        statements,
        sent,
    })
}

/// Every envelope that the root holds about the build, where one of them is a signature on its provenance that counts here.
fn signed(
    context: &Context,
    locked: &lock::Locked,
    report: &record::report::BuildReport,
) -> Result<Vec<dsse::Envelope>> {
    let root = context.root()?;
    let now = context.clock.now();
    let bundle = root.get(&attest::bundle_path(report.sha256.digest()));
    let demand = match Demand::of_root(&root, StatementKind::Build)? {
        Some(policy) => policy,
        None => Demand::of_keys(Keys::new(&context.host.data_dir()?).all()?),
    };
    let about = attest::of_build(report, &locked.lock, &now);
    let name = &report.provider;
    if let Err(refused) = attest::check(bundle, std::slice::from_ref(&about), &demand, &now) {
        // Of what admit did not see made it signs that its verification held.
        let (signed, command) = match report.origin {
            Origin::Adopted => ("verdict", "verdict"),
            _ => ("provenance", "build"),
        };
        let what = format!("nobody could pull it: no signature on its {signed} counts here");
        return Err(Error::new(refused.reason, what)
            .at(name.to_string())
            .expected(refused.expected)
            .found(refused.found)
            .hint(format!("admit attest {command} {name} --record")));
    }
    dsse::parse_bundle(bundle.unwrap_or_default())
        .map_err(|err| Error::new(Reason::BadEnvelope, "the bundle").caused_by(err))
}

/// Adds to the list that clients of registries without a referrers interface read. Whoever writes it at the same time may
/// take something out again: admit itself finds statements by their tags.
fn list(repository: &Repository<'_>, subject: &Digest, new: Vec<Descriptor>) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let tag = artifact::list_tag(subject);
    let there = repository.manifest(&Which::Tag(tag.clone()))?;
    let there = there.and_then(|found| Index::parse(&found.bytes).ok());
    let mut all = there.map(|index| index.manifests).unwrap_or_default();
    all.extend(new);
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|one| seen.insert(one.digest.clone()));
    repository.put(&tag, INDEX, &Index::new(all).bytes()).map(drop)
}
