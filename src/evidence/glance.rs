//! A look at a run directory without reading all of it: which run it is and what its report says.

use std::path::Path;

use super::files::{MAX_RECORD, RunDir};
use super::names;
use crate::error::Result;
use crate::record;
use crate::record::evidence::RunReport;
use crate::record::ids::Digest;
use crate::record::sealed::{Manifest, Seal};

/// What a look gave. The report is the sealed one; the other files were not read, so this says nothing about them.
#[derive(Clone, Debug, Default)]
pub struct Glance {
    pub id: Option<Digest>,
    pub report: Option<RunReport>,
    /// Why there is no report: never sealed, or not what was sealed.
    pub fault: Option<&'static str>,
}

pub fn glance(path: &Path) -> Result<Glance> {
    let dir = RunDir::open(path)?;
    let no = |fault| Ok(Glance { fault: Some(fault), ..Glance::default() });
    let Ok(seal) = dir.read(names::SEAL, MAX_RECORD) else { return no("never sealed") };
    let Ok(seal) = record::parse::<Seal>(&seal) else { return no("its seal cannot be read") };
    let manifest = dir.read(names::MANIFEST, MAX_RECORD).ok();
    let Some(manifest) = manifest.and_then(|bytes| record::parse::<Manifest>(&bytes).ok()) else {
        return no("its manifest cannot be read");
    };
    if !seal.is_whole() || record::digest(&manifest) != seal.id {
        return no("its manifest is not the sealed one");
    }
    let Ok(bytes) = dir.read(names::REPORT, MAX_RECORD) else { return no("its report is missing") };
    let digest = Digest::sha256(&bytes);
    let sealed = manifest.files.iter().find(|entry| entry.path.as_str() == names::REPORT);
    if sealed.is_none_or(|entry| entry.sha256 != digest) {
        return no("its report is not the sealed one");
    }
    match record::parse::<RunReport>(&bytes) {
        Ok(report) => Ok(Glance { id: Some(seal.id), report: Some(report), fault: None }),
        Err(_) => no("its report has a form that this version does not read"),
    }
}
