//! A recorded build as an OCI artifact: the output, uncompressed, so that the blob's address is the digest that the lock
//! names; its record; and each signed statement about it as an artifact of its own, whose subject is the build.
//!
//! | tag | what |
//! |---|---|
//! | `build-OUTPUT-MANIFEST` | a build: the first 12 digits of the output's digest and of the manifest's |
//! | `att-MANIFEST-ENVELOPE` | a statement about the build with that manifest |
//! | `sha256-MANIFEST` | the list that clients without a referrers interface look for; written for them, never relied on |
//!
//! No tag is ever given to two things, so nothing that many push at once is lost: a registry has no writes that depend on
//! what is there, and a list that all of them write keeps what the last one saw.

use crate::error::{Error, Reason, Result};
use crate::record::dsse::{Envelope, MAX_ENVELOPE};
use crate::record::ids::{Digest, Sha256};
use crate::record::report::BuildReport;
use crate::record::statement::Statement;
use crate::registry::manifest::{Descriptor, Manifest};

pub const BUILD: &str = "application/vnd.admit.build.v1";
const OUTPUT: &str = "application/octet-stream";
const RECORD: &str = "application/vnd.admit.build-report.v1+json";
/// The artifact type of a statement, and the media type of its envelope.
pub const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// Where BuildKit and others say which kind of statement it is.
pub const PREDICATE: &str = "in-toto.io/predicate-type";
/// Larger records are not read, in bytes.
const MAX_RECORD: u64 = 4 << 20;

/// How the tags of builds with this output begin.
pub fn builds_of(output: &Sha256) -> String {
    format!("build-{}-", short(output.digest()))
}

pub fn build_tag(output: &Sha256, manifest: &Digest) -> String {
    format!("{}{}", builds_of(output), short(manifest))
}

/// How the tags of statements about the build with this manifest begin.
pub fn statements_about(manifest: &Digest) -> String {
    format!("att-{}-", short(manifest))
}

pub fn statement_tag(manifest: &Digest, envelope: &Digest) -> String {
    format!("{}{}", statements_about(manifest), short(envelope))
}

/// The tag of the list that the specification has for registries without a referrers interface.
pub fn list_tag(manifest: &Digest) -> String {
    format!("sha256-{}", manifest.to_hex())
}

fn short(digest: &Digest) -> String {
    digest.to_hex().chars().take(12).collect()
}

/// The manifest of a build, the same each time that the same record is pushed.
pub fn build(report: &BuildReport, record: &[u8]) -> Manifest {
    let output = Descriptor::new(OUTPUT, report.sha256.digest().clone(), report.size);
    let path = report.path();
    let name = path.rsplit('/').next().unwrap_or(&path);
    let layers =
        vec![output.titled(report.output.file_name()), Descriptor::of(RECORD, record).titled(name)];
    let mut manifest = Manifest::artifact(BUILD, layers);
    let mut note = |key: &str, value: String| {
        manifest.annotations.insert(format!("org.opencontainers.image.{key}"), value);
    };
    note("title", report.provider.to_string());
    note("created", report.volatile.finished.to_string());
    note("revision", report.pinned_commit.to_string());
    note("source", report.source_url.clone());
    manifest
}

/// What a build's manifest names: the output and the record.
pub struct Parts {
    pub output: Descriptor,
    pub record: Descriptor,
}

/// # Errors
/// [`Reason::BadManifest`] where it is not the manifest of a build.
pub fn parts(manifest: &Manifest, place: &str) -> Result<Parts> {
    let no = |found: String| {
        Error::new(Reason::BadManifest, "what lies there is not a build that admit pushed")
            .at(place)
            .expected(format!("a manifest of type {BUILD} with an output and a record"))
            .found(found)
    };
    if manifest.artifact_type.as_deref() != Some(BUILD) {
        return Err(no(manifest
            .artifact_type
            .clone()
            .unwrap_or_else(|| "no artifact type".into())));
    }
    match &manifest.layers[..] {
        [output, record] if record.media_type == RECORD && record.size <= MAX_RECORD => {
            Ok(Parts { output: output.clone(), record: record.clone() })
        }
        layers => Err(no(format!("{} layers", layers.len()))),
    }
}

pub fn statement(envelope: &Envelope, line: &[u8], subject: &Descriptor) -> Manifest {
    let layer = Descriptor::of(ENVELOPE, line).titled("statement.intoto.jsonl");
    let mut manifest = Manifest::artifact(ENVELOPE, vec![layer]);
    manifest.subject = Some(subject.clone());
    if let Ok(statement) = Statement::parse(&envelope.payload) {
        manifest.annotations.insert(PREDICATE.into(), statement.predicate_type);
    }
    manifest
}

/// The envelope that a statement's manifest names; `None` where it is of another kind, or about another build.
pub fn envelope<'a>(manifest: &'a Manifest, about: &Digest) -> Option<&'a Descriptor> {
    let subject = manifest.subject.as_ref()?;
    match &manifest.layers[..] {
        [layer] if subject.digest == *about && layer.media_type == ENVELOPE => {
            (layer.size <= MAX_ENVELOPE as u64).then_some(layer)
        }
        _ => None,
    }
}
