//! Reading a run directory back, offline: what is missing, changed or too much, and how far it can be believed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::agree;
use super::chain::chain;
use super::files::RunDir;
use super::{html, names, render, visible};
use crate::error::{Error, Reason, Result};
use crate::record;
use crate::record::evidence::RunReport;
use crate::record::ids::Digest;
use crate::record::sealed::{Manifest, NoTargetProof, Seal, contradictions};

/// A manifest, report or proof larger than this is not read.
const MAX_RECORD: u64 = 64 << 20;
/// No run leaves a file as large as this (the recorder's own limits are far below), and nobody waits for its digest.
const MAX_FILE: u64 = 4 << 30;

/// How far a run directory can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything fits together. Anybody could have sealed it anew.
    SelfConsistent,
    /// It is the run with the id that was given.
    EqualToId,
    /// Its id is signed by a key that was given.
    Signed,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::SelfConsistent => "self-consistent",
            Level::EqualToId => "equal to the given id",
            Level::Signed => "signed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// There is no seal: the run never came to its end, or is still going on.
    NotSealed,
    /// A listed file is not there.
    Missing,
    /// A file's bytes are not the listed ones.
    Changed,
    /// A file that is not listed.
    Extra,
    /// The chain of events does not hold.
    Chain,
    /// The report says what the other files do not, or contradicts itself.
    Report,
    /// It is another run than the one with the given id.
    OtherId,
}

impl FaultKind {
    /// The reason by which scripts tell faults apart.
    pub fn reason(self) -> Reason {
        match self {
            FaultKind::NotSealed => Reason::RunNotSealed,
            FaultKind::Missing => Reason::EvidenceMissing,
            FaultKind::Changed | FaultKind::OtherId => Reason::EvidenceChanged,
            FaultKind::Extra => Reason::EvidenceExtra,
            FaultKind::Chain | FaultKind::Report => Reason::EvidenceInconsistent,
        }
    }
}

/// One thing that is wrong with a run directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub path: String,
    /// What should be there.
    pub expected: String,
    pub found: String,
}

/// What came out of a check.
#[derive(Clone, Debug)]
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
        let what = match fault.kind {
            FaultKind::NotSealed => "the run was never sealed",
            FaultKind::Missing => "a file of the run is missing",
            FaultKind::Changed => "a file of the run was changed",
            FaultKind::Extra => "a file does not belong to the run",
            FaultKind::Chain => "the chain of events is broken",
            FaultKind::Report => "the report does not fit the evidence",
            FaultKind::OtherId => "it is another run",
        };
        let mut err = Error::new(fault.kind.reason(), what)
            .at(self.directory.join(&fault.path).display().to_string())
            .expected(&fault.expected)
            .found(&fault.found);
        if self.faults.len() > 1 {
            err = err.hint(format!("{} more faults; --json lists them", self.faults.len() - 1));
        }
        Some(err)
    }
}

fn fault(
    kind: FaultKind,
    path: &str,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Fault {
    Fault { kind, path: path.into(), expected: expected.into(), found: found.into() }
}

/// Checks the run directory at `path`; `expected` is an id that came by another way.
///
/// # Errors
/// Where the directory cannot be read at all. Everything else is a fault in the answer.
pub fn check(path: &Path, expected: Option<&Digest>) -> Result<RunCheck> {
    let dir = RunDir::open(path)?;
    let mut out = RunCheck {
        directory: path.to_owned(),
        id: None,
        level: None,
        faults: Vec::new(),
        notes: Vec::new(),
        files: 0,
        report: None,
    };
    let Some(manifest) = out.take_manifest(&dir) else { return Ok(out) };
    out.files = manifest.files.len();
    out.check_files(&dir, &manifest)?;
    if out.faults.is_empty() {
        out.check_content(&dir, &manifest, expected.is_some());
    }
    if let (Some(want), Some(id)) = (expected, &out.id)
        && want != id
    {
        let other = fault(FaultKind::OtherId, names::SEAL, want.to_string(), id.to_string());
        out.faults.push(other);
    }
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

impl RunCheck {
    /// Reads seal and manifest; a fault in either leaves nothing to compare files with.
    fn take_manifest(&mut self, dir: &RunDir) -> Option<Manifest> {
        use FaultKind::{Changed, Missing, NotSealed};
        let mut stop = |fault| {
            self.faults.push(fault);
            None::<Manifest>
        };
        let read = |name| match dir.read(name, MAX_RECORD) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err.to_string()),
        };
        let (seal_bytes, manifest_bytes) = match (read(names::SEAL), read(names::MANIFEST)) {
            (Ok(Some(seal)), Ok(Some(manifest))) => (seal, manifest),
            (Ok(None), Ok(None)) => {
                return stop(fault(
                    NotSealed,
                    names::SEAL,
                    "a sealed run",
                    "no manifest and no seal",
                ));
            }
            (Ok(None), _) => return stop(fault(Missing, names::SEAL, "the seal", "absent")),
            (_, Ok(None)) => {
                return stop(fault(Missing, names::MANIFEST, "the manifest", "absent"));
            }
            (Err(why), _) => return stop(fault(Changed, names::SEAL, "a readable seal", why)),
            (_, Err(why)) => {
                return stop(fault(Changed, names::MANIFEST, "a readable manifest", why));
            }
        };
        // Only the written form counts: a byte more is a changed file, whatever it means as JSON.
        let seal = match record::parse::<Seal>(&seal_bytes) {
            Ok(seal) if seal.is_whole() && record::pretty(&seal) == seal_bytes => seal,
            Ok(_) => {
                return stop(fault(Changed, names::SEAL, "a whole seal", "another form or check"));
            }
            Err(err) => return stop(fault(Changed, names::SEAL, "a whole seal", err.to_string())),
        };
        let manifest = match record::parse::<Manifest>(&manifest_bytes) {
            Ok(manifest) => manifest,
            Err(err) => {
                return stop(fault(Changed, names::MANIFEST, "a manifest", err.to_string()));
            }
        };
        let id = record::digest(&manifest);
        if id != seal.id {
            let (want, found) = (seal.id.to_string(), id.to_string());
            return stop(fault(Changed, names::MANIFEST, want, found));
        }
        if record::pretty(&manifest) != manifest_bytes {
            return stop(fault(Changed, names::MANIFEST, "its written form", "another form"));
        }
        let mut sorted = manifest.files.windows(2);
        if !sorted.all(|pair| pair[0].path < pair[1].path) {
            return stop(fault(
                Changed,
                names::MANIFEST,
                "each file once, sorted",
                "another order",
            ));
        }
        self.id = Some(id);
        Some(manifest)
    }

    fn check_files(&mut self, dir: &RunDir, manifest: &Manifest) -> Result<()> {
        let present: Vec<_> = dir.list()?;
        let names: BTreeSet<&str> = present.iter().map(|listed| listed.name.as_str()).collect();
        for entry in &manifest.files {
            let path = entry.path.as_str();
            if !names.contains(path) {
                let want = format!("{} bytes, {}", entry.size, entry.sha256);
                self.faults.push(fault(FaultKind::Missing, path, want, "absent"));
                continue;
            }
            let want = format!("{} bytes, {}", entry.size, entry.sha256);
            if entry.size > MAX_FILE {
                let found = format!("{} bytes", entry.size);
                self.faults.push(fault(FaultKind::Changed, path, "a file of a run", found));
                continue;
            }
            // Of a file that is too long, one byte too many is read and no more.
            let found = match dir.digest_up_to(path, entry.size + 1, |_| {}) {
                Ok((size, digest)) if size == entry.size && digest == entry.sha256 => continue,
                Ok((size, _)) if size > entry.size => format!("more than {} bytes", entry.size),
                Ok((size, digest)) => format!("{size} bytes, {digest}"),
                Err(err) => err.to_string(),
            };
            self.faults.push(fault(FaultKind::Changed, path, want, found));
        }
        let known: BTreeSet<&str> =
            manifest.files.iter().map(|entry| entry.path.as_str()).collect();
        for listed in &present {
            let path = listed.name.as_str();
            let own = [names::MANIFEST, names::SEAL].contains(&path);
            if !own && !known.contains(path) {
                let what = if listed.path.is_some() { "a file" } else { "no regular file" };
                self.faults.push(fault(FaultKind::Extra, path, "nothing", what));
            }
        }
        for name in
            [names::REPORT, names::REPORT_MD, names::REPORT_HTML, names::EVENTS, names::PATCH]
        {
            if !known.contains(name) {
                self.faults.push(fault(
                    FaultKind::Missing,
                    name,
                    "listed in the manifest",
                    "not listed",
                ));
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
            Err(why) => {
                return self.faults.push(fault(FaultKind::Report, names::REPORT, "a report", why));
            }
        };
        match chain(dir) {
            Ok((end, kinds)) if end == report.events => {
                self.faults.extend(agree::differences(dir, &report, &kinds));
            }
            Ok((end, _)) => self.faults.push(fault(
                FaultKind::Chain,
                names::EVENTS,
                format!("{} events, {}", report.events.count, report.events.head),
                format!("{} events, {}", end.count, end.head),
            )),
            Err(why) => {
                self.faults.push(fault(FaultKind::Chain, names::EVENTS, "a whole chain", why))
            }
        }
        for what in contradictions(&report) {
            let status = report.status.as_str();
            self.faults.push(fault(
                FaultKind::Report,
                names::REPORT,
                status,
                format!("with {what}"),
            ));
        }
        let digest = |name: &str| {
            manifest.files.iter().find(|entry| entry.path.as_str() == name).map(|e| &e.sha256)
        };
        let mut agree = |name: &str, good: bool, what: &str| {
            if !good {
                self.faults.push(fault(FaultKind::Report, name, what, "something else"));
            }
        };
        agree(names::PATCH, digest(names::PATCH) == Some(&report.patch_digest), "patch_digest");
        let proof = dir.read(names::NO_TARGET, MAX_RECORD).ok();
        let proof = proof.and_then(|bytes| record::parse::<NoTargetProof>(&bytes).ok());
        let proven = proof.is_some_and(|proof| proof.passed && proof.holds());
        agree(
            names::NO_TARGET,
            proven || !report.no_target_inspection_passed,
            "a proof that holds",
        );
        let ours = env!("CARGO_PKG_VERSION");
        if report.admit_version == ours {
            let markdown = Digest::sha256(render::markdown(&report).as_bytes());
            let page = Digest::sha256(html::page(&report).as_bytes());
            agree(
                names::REPORT_MD,
                digest(names::REPORT_MD) == Some(&markdown),
                "made from report.json",
            );
            agree(
                names::REPORT_HTML,
                digest(names::REPORT_HTML) == Some(&page),
                "made from report.json",
            );
        } else if by_id {
            self.notes.push(format!(
                "report.md and report.html were not made again: written by admit {}, this is {ours}",
                report.admit_version
            ));
        } else {
            // Nothing but the seal speaks for the two pages then, and anybody can make a seal.
            self.faults.push(fault(
                FaultKind::Report,
                names::REPORT,
                format!(
                    "a run of admit {ours}, whose pages can be made again; or its id, with --id"
                ),
                format!("a run of admit {}", visible(&report.admit_version)),
            ));
        }
        self.report = Some(report);
    }
}
