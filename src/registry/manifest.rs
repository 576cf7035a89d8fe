//! Manifests of the OCI image specification (1.1), as far as admit reads and writes them.
//!
//! Keys that are not used are left aside, as the specification asks; what is used is read strictly.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::ids::{Algorithm, Digest};
use crate::record::{self, RecordError};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A config that says nothing.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Its bytes.
pub const NOTHING: &[u8] = b"{}";

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }

    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let (artifact_type, annotations) = (None, BTreeMap::new());
        Self { media_type: media_type.to_owned(), digest, size, artifact_type, annotations }
    }

    /// The same with the name of a file, which clients give to what they pull.
    pub fn titled(mut self, name: &str) -> Self {
        self.annotations.insert("org.opencontainers.image.title".into(), name.to_owned());
        self
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

impl Manifest {
    /// A manifest of something that is no image.
    pub fn artifact(artifact_type: &str, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            artifact_type: Some(artifact_type.to_owned()),
            config: Descriptor::of(EMPTY, NOTHING),
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The bytes, the same each time.
    pub fn bytes(&self) -> Vec<u8> {
        record::canonical(self)
    }

    /// # Errors
    /// Where it is none of these, or names something by another digest than SHA-256.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let this: Self = read(bytes, MANIFEST)?;
        let all = this.layers.iter().chain([&this.config]).chain(&this.subject);
        all_sha256(all)?;
        Ok(this)
    }
}

impl Index {
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: Some(INDEX.to_owned()), manifests }
    }

    pub fn bytes(&self) -> Vec<u8> {
        record::canonical(self)
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let this: Self = read(bytes, INDEX)?;
        all_sha256(this.manifests.iter())?;
        Ok(this)
    }
}

fn read<T: for<'de> Deserialize<'de>>(bytes: &[u8], media_type: &str) -> Result<T, RecordError> {
    let value = record::parse_value(bytes)?;
    if value["schemaVersion"] != 2 {
        return Err(RecordError::new("\"schemaVersion\" is not 2"));
    }
    if let Some(other) = value["mediaType"].as_str().filter(|found| *found != media_type) {
        return Err(RecordError::new(format!("\"mediaType\" is {other} and not {media_type}")));
    }
    Ok(serde_json::from_value(value)?)
}

fn all_sha256<'a>(mut all: impl Iterator<Item = &'a Descriptor>) -> Result<(), RecordError> {
    match all.find(|one| one.digest.algorithm() != Algorithm::Sha256) {
        None => Ok(()),
        Some(one) => Err(RecordError::new(format!("{} is no SHA-256", one.digest))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_back_and_a_loose_one_does_not() {
        let layer = Descriptor::of("text/plain", b"x").titled("x.txt");
        let mut manifest = Manifest::artifact("application/vnd.test", vec![layer]);
        manifest.subject = Some(Descriptor::of(MANIFEST, b"y"));
        assert_eq!(Manifest::parse(&manifest.bytes()).unwrap(), manifest);
        let text = String::from_utf8(manifest.bytes()).unwrap();
        assert!(Manifest::parse(text.replace("{\"", "{\"more\":1,\"").as_bytes()).is_err());
        let more = text.replacen("{\"", "{\"more\":1,\"", 1);
        assert!(Manifest::parse(more.as_bytes()).is_ok());
        for (from, to) in [
            ("\"schemaVersion\":2", "\"schemaVersion\":1"),
            ("image.manifest.v1", "image.index.v1"),
            ("\"digest\":\"sha256:", "\"digest\":\"sha512:"),
            ("\"config\":", "\"configs\":"),
        ] {
            assert_ne!(text.replace(from, to), text, "{from}");
            assert!(Manifest::parse(text.replace(from, to).as_bytes()).is_err(), "{from}");
        }
        let index = Index::new(vec![Descriptor::of(MANIFEST, b"z")]);
        assert_eq!(Index::parse(&index.bytes()).unwrap(), index);
        assert!(Index::parse(&manifest.bytes()).is_err());
    }
}
