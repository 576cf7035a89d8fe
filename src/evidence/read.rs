//! Reading a run directory back, offline: what is missing, changed or too much, and how far it can be believed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::agree;
use super::chain::chain;
use super::fault::{Fault, FaultKind, fault};
use super::files::{MAX_RECORD, RunDir};
use super::render::{markdown, visible};
use super::{html, names};
use crate::error::{Error, Reason, Result};
use crate::record::evidence::{ChainEnd, RunReport, contradictions};
use crate::record::ids::Digest;
use crate::record::sealed::{Manifest, NoTargetProof, Seal};
use crate::record::{self, RecordError, words};

/// No run leaves as much as this (the recorder's own limits are far below), and its digests would take minutes.
const MAX_BYTES: u64 = 4 << 30;

words! {
    /// How far a run directory can be believed.
    pub enum Level {
        /// Everything fits together. Sealing it anew takes no key.
        SelfConsistent = "self-consistent",
        /// It is the run with the id that was given.
        EqualToId = "equal to the given id",
        /// Its id is signed by a key that was given.
        Signed = "signed",
    }
}

#[derive(Clone, Debug, Default)]
pub struct RunCheck {
    pub directory: PathBuf,
    /// The run's id, where the manifest could be read.
    pub id: Option<Digest>,
    /// The level reached; `None` where something is wrong.
    pub level: Option<Level>,
    /// What is wrong, the first bad file first.
    pub faults: Vec<Fault>,
    /// What was left unchecked, and why.
    pub notes: Vec<String>,
    /// Number of files in the manifest.
    pub files: usize,
    /// The report, where it is the sealed one.
    pub report: Option<RunReport>,
}

impl RunCheck {
    /// The first fault as an error, for the exit code; `None` where all is well.
    pub fn error(&self) -> Option<Error> {
        let fault = self.faults.first()?;
        let (reason, what) = fault.kind.told();
        let mut err = Error::new(reason, what)
            .at(self.directory.join(&fault.path).display().to_string())
            .expected(&fault.expected)
            .found(&fault.found);
        if self.faults.len() > 1 {
            err = err.hint(format!("{} more faults; --json lists them", self.faults.len() - 1));
        }
        Some(err)
    }

    /// The report of a run in which nothing is wrong.
    ///
    /// # Errors
    /// Those of [`RunCheck::error`]; [`Reason::Internal`] where nothing is wrong and nothing was read, which is no yes.
    pub fn sealed(&self) -> Result<&RunReport> {
        let unread = || Error::new(Reason::Internal, "a run that was not checked to the end");
        self.error().map_or_else(|| self.report.as_ref().ok_or_else(unread), Err)
    }
}

/// Checks the run directory at `path`; `expected` is an id that came by another way.
///
/// # Errors
/// Where the directory cannot be read at all. Everything else is a fault in the answer.
pub fn check(path: &Path, expected: Option<&Digest>) -> Result<RunCheck> {
    let dir = RunDir::open(path)?;
    let mut out = RunCheck { directory: path.to_owned(), ..RunCheck::default() };
    // A fault in either of them leaves nothing to compare files with.
    let (id, manifest) = match manifest(&dir) {
        Ok(read) => read,
        Err(fault) => {
            out.faults.push(fault);
            return Ok(out);
        }
    };
    out.files = manifest.files.len();
    out.check_files(&dir, &manifest)?;
    if out.faults.is_empty() {
        out.check_content(&dir, &manifest, expected.is_some());
    }
    if let Some(want) = expected
        && *want != id
    {
        out.faults.push(fault(FaultKind::OtherId, names::SEAL, want.to_string(), id.to_string()));
    }
    out.id = Some(id);
    if out.faults.is_empty() {
        out.level = Some(match expected {
            Some(_) => Level::EqualToId,
            None => Level::SelfConsistent,
        });
    } else {
        out.report = None;
    }
    Ok(out)
}

/// The run's id and its manifest, once the seal fits it.
fn manifest(dir: &RunDir) -> std::result::Result<(Digest, Manifest), Fault> {
    let changed = |name, want: &str, found: String| fault(FaultKind::Changed, name, want, found);
    let read = |name| match dir.read(name, MAX_RECORD) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(changed(name, "a readable record", err.to_string())),
    };
    let (seal_bytes, manifest_bytes) = match (read(names::SEAL)?, read(names::MANIFEST)?) {
        (Some(seal), Some(manifest)) => (seal, manifest),
        (None, None) => {
            let found = "no manifest and no seal";
            return Err(fault(FaultKind::NotSealed, names::SEAL, "a sealed run", found));
        }
        (None, _) => return Err(fault(FaultKind::Missing, names::SEAL, "the seal", "absent")),
        (_, None) => {
            return Err(fault(FaultKind::Missing, names::MANIFEST, "the manifest", "absent"));
        }
    };
    let bad = |name, want| move |err: RecordError| changed(name, want, err.to_string());
    let seal: Seal = record::parse(&seal_bytes).map_err(bad(names::SEAL, "a whole seal"))?;
    // Only the written form counts: a byte more is a changed file, whatever it means as JSON.
    if !seal.is_whole() || record::pretty(&seal) != seal_bytes {
        return Err(changed(names::SEAL, "a whole seal", "another form or check".into()));
    }
    let manifest: Manifest =
        record::parse(&manifest_bytes).map_err(bad(names::MANIFEST, "a manifest"))?;
    let id = record::digest(&manifest);
    if id != seal.id {
        return Err(changed(names::MANIFEST, &seal.id.to_string(), id.to_string()));
    }
    if record::pretty(&manifest) != manifest_bytes {
        return Err(changed(names::MANIFEST, "its written form", "another form".into()));
    }
    if !manifest.files.is_sorted_by(|a, b| a.path < b.path) {
        return Err(changed(names::MANIFEST, "each file once, sorted", "another order".into()));
    }
    Ok((id, manifest))
}

impl RunCheck {
    fn fault(
        &mut self,
        kind: FaultKind,
        path: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.faults.push(fault(kind, path, expected, found));
    }

    fn check_files(&mut self, dir: &RunDir, manifest: &Manifest) -> Result<()> {
        let present = dir.list()?;
        let names: BTreeSet<&str> = present.iter().map(|listed| listed.name.as_str()).collect();
        let mut left = MAX_BYTES;
        for entry in &manifest.files {
            let path = entry.path.as_str();
            let want = format!("{} bytes, {}", entry.size, entry.sha256);
            if !names.contains(path) {
                self.fault(FaultKind::Missing, path, want, "absent");
                continue;
            }
            let Some(rest) = left.checked_sub(entry.size) else {
                let found = format!("{} bytes, and others before it", entry.size);
                self.fault(FaultKind::Changed, path, "files as large as a run's", found);
                continue;
            };
            left = rest;
            // Of a file that is too long, one byte too many is read and no more.
            let found = match dir.digest(path, entry.size + 1, |_| {}) {
                Ok((size, digest)) if size == entry.size && digest == entry.sha256 => continue,
                Ok((size, _)) if size > entry.size => format!("more than {} bytes", entry.size),
                Ok((size, digest)) => format!("{size} bytes, {digest}"),
                Err(err) => err.to_string(),
            };
            self.fault(FaultKind::Changed, path, want, found);
        }
        let known: BTreeSet<&str> =
            manifest.files.iter().map(|entry| entry.path.as_str()).collect();
        for listed in &present {
            let path = listed.name.as_str();
            if ![names::MANIFEST, names::SEAL].contains(&path) && !known.contains(path) {
                let what = if listed.path.is_some() { "a file" } else { "no regular file" };
                self.fault(FaultKind::Extra, path, "nothing", what);
            }
        }
        for name in
            [names::REPORT, names::REPORT_MD, names::REPORT_HTML, names::EVENTS, names::PATCH]
        {
            if !known.contains(name) {
                self.fault(FaultKind::Missing, name, "listed in the manifest", "not listed");
            }
        }
        Ok(())
    }

    /// The files are the sealed ones; now they must also agree with each other.
    fn check_content(&mut self, dir: &RunDir, manifest: &Manifest, by_id: bool) {
        let report = dir
            .read(names::REPORT, MAX_RECORD)
            .map_err(|err| err.to_string())
            .and_then(|bytes| record::parse::<RunReport>(&bytes).map_err(|err| err.to_string()));
        let report = match report {
            Ok(report) => report,
            Err(why) => return self.fault(FaultKind::Report, names::REPORT, "a report", why),
        };
        let end = |end: &ChainEnd| format!("{} events, {}", end.count, end.head);
        match chain(dir) {
            Ok((found, kinds)) if found == report.events => {
                self.faults.extend(agree::differences(dir, &report, &kinds));
            }
            Ok((found, _)) => {
                self.fault(FaultKind::Chain, names::EVENTS, end(&report.events), end(&found));
            }
            Err(why) => self.fault(FaultKind::Chain, names::EVENTS, "a whole chain", why),
        }
        for what in contradictions(&report) {
            let found = format!("with {what}");
            self.fault(FaultKind::Report, names::REPORT, report.status.as_str(), found);
        }
        let digest = |name: &str| {
            manifest.files.iter().find(|entry| entry.path.as_str() == name).map(|e| &e.sha256)
        };
        let mut agree = |name: &str, good: bool, what: &str| {
            if !good {
                self.fault(FaultKind::Report, name, what, "something else");
            }
        };
        agree(names::PATCH, digest(names::PATCH) == Some(&report.patch_digest), "patch_digest");
        let proof = dir.read(names::NO_TARGET, MAX_RECORD).ok();
        let proof = proof.and_then(|bytes| record::parse::<NoTargetProof>(&bytes).ok());
        let proven = proof.is_some_and(|proof| proof.passed && proof.holds());
        let proven = proven || !report.no_target_inspection_passed;
        agree(names::NO_TARGET, proven, "a proof that holds");
        let ours = env!("CARGO_PKG_VERSION");
        if report.admit_version == ours {
            let page = html::page(&report, &|name, limit| dir.read(name, limit).ok());
            for (name, text) in [(names::REPORT_MD, markdown(&report)), (names::REPORT_HTML, page)]
            {
                let same = digest(name) == Some(&Digest::sha256(text.as_bytes()));
                agree(name, same, "made from report.json and the sealed files");
            }
        } else if by_id {
            self.notes.push(format!(
                "report.md and report.html were not made again: written by admit {}, this is {ours}",
                report.admit_version
            ));
        } else {
            // Nothing but the seal vouches for the two pages then, and making a seal takes no key.
            let want = format!(
                "a run of admit {ours}, whose pages can be made again; or its id, with --id"
            );
            let found = format!("a run of admit {}", visible(&report.admit_version));
            self.fault(FaultKind::Report, names::REPORT, want, found);
        }
        self.report = Some(report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_which_nothing_was_read_is_no_yes() {
        assert_eq!(RunCheck::default().sealed().unwrap_err().reason(), Reason::Internal);
    }
}
