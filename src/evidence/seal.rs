//! Sealing: the last look at everything that was recorded, then report, manifest and seal, in that order.

use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::PoisonError;

use serde::Serialize;
use serde_json::json;

use super::gate::GateRecord;
use super::names;
use super::recorder::{Kept, LOST, Recording, State, rel};
use super::texts::{clean_texts, ids, withhold};
use crate::error::{Error, Reason, Result};
use crate::record::evidence::{ChainEnd, RunReport, RunStatus, contradictions};
use crate::record::failure::FailureClass;
use crate::record::ids::{Digest, RelPath};
use crate::record::sealed::{
    Author, Event, Excerpt, Freshness, Manifest, ManifestEntry, NoTargetProof, Seal,
};
use crate::record::{self, Record};
use crate::secrets::{Known, Rules, Scanner, Secret};

/// The role of a file that was not recorded.
const UNEXPECTED: &str = "unexpected";
/// The role of the file that names a failure.
const MARKER: &str = "marker";
/// Bytes of the patch that a report shows.
const DIFF_BYTES: usize = 256 << 10;
/// Exchanges that a report shows.
const WIRE_ROWS: usize = 200;
/// So many seconds the clock and the time that passed may differ: both are rounded, and clocks are set right in small steps.
const JUMP: i64 = 5;
/// Bytes of a proof that is read back while sealing.
const PROOF_BYTES: u64 = 16 << 20;

#[derive(Clone, Debug)]
pub struct Sealed {
    /// The run's id: SHA-256 of the canonical manifest.
    pub id: Digest,
    /// The report as written, which may be worse than the one that was handed in.
    pub report: RunReport,
    pub directory: PathBuf,
}

enum Written {
    Sealed(Sealed),
    /// All but the seal is there, and is to be written anew for this report.
    Instead(RunReport),
}

impl Recording {
    pub fn record<T: Serialize>(&self, name: &str, role: &str, value: &T) -> Result<()> {
        self.artifact(&rel(name)?, role, Author::Admit, &record::pretty(value))
    }

    /// What can be computed from the directory is computed, whatever `report` says: chain, timeline, patch and its
    /// digest, the no-target proof. A report that contradicts itself, an artifact with a secret, a file that was
    /// not recorded or a failed recording turns a good end into a failure.
    ///
    /// # Errors
    /// Where the files cannot be written, or the run is sealed already.
    pub fn seal(&self, report: RunReport) -> Result<Sealed> {
        self.seal_unless(report, &|_| None)
    }

    /// As [`Recording::seal`], with what `instead` makes of `report` where it makes something of it: asked once all is
    /// written but the seal, so that nothing that comes before the seal comes too late.
    pub fn seal_unless(
        &self,
        report: RunReport,
        instead: &dyn Fn(&RunReport) -> Option<RunReport>,
    ) -> Result<Sealed> {
        self.dir.release();
        let mut state = self.state();
        if state.sealed {
            return Err(Error::new(Reason::Internal, "the run is sealed already"));
        }
        let (mut report, mut asked, mut full) = (report, false, false);
        loop {
            let other = || if asked { None } else { instead(&report) };
            match self.seal_locked(&mut state, report.clone(), &other) {
                Ok(Written::Sealed(sealed)) => {
                    state.sealed = true;
                    return Ok(sealed);
                }
                Ok(Written::Instead(other)) => (report, asked) = (other, true),
                // No space for all of it: what decides fits into much less.
                Err(err) if err.reason() == Reason::DiskFull && !full => {
                    full = true;
                    report.fail(FailureClass::Unclassified, "the disk is full");
                    report.blockers.push(err.to_string());
                    report.wire.clear();
                    state.broken.get_or_insert(err.to_string());
                }
                Err(err) => return Err(err),
            }
        }
    }

    fn seal_draft(&self) -> Result<Sealed> {
        let mut report = self.state().draft.clone();
        if report.status != RunStatus::Blocked {
            report.status = RunStatus::Fail;
        }
        if report.failure_class.is_none() {
            report.fail(FailureClass::Unclassified, "the run ended without a report");
        }
        self.seal(report)
    }

    fn seal_locked(
        &self,
        state: &mut State,
        mut report: RunReport,
        instead: &dyn Fn() -> Option<RunReport>,
    ) -> Result<Written> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let chain = self.finish_logs(state)?;
        self.fill_in(state, &report)?;
        report.run_directory = self.dir.path().display().to_string();
        report.admit_version = env!("CARGO_PKG_VERSION").into();
        report.finished = self.clock.now();
        report.limits.extend(jump(&report, self.elapsed_ns()));
        report.events = chain;
        (report.timeline, report.timeline_omitted) = Self::timeline(state);
        report.wire_omitted += report.wire.len().saturating_sub(WIRE_ROWS) as u64;
        report.wire.truncate(WIRE_ROWS);
        if let Some(broken) = &state.broken {
            report.blockers.push(format!("the evidence is not whole: {broken}"));
            report.fail(FailureClass::Unclassified, "the evidence is not whole");
        }
        self.find_unrecorded(state, &mut report)?;
        let sentinel = self.sentinel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut entries = self.scan(state, &known, sentinel.as_ref(), &mut report)?;
        let patch = self.dir.read(names::PATCH, u64::MAX);
        let patch = patch.map_err(|err| self.dir.io("read", names::PATCH, err))?;
        report.patch_digest = Digest::sha256(&patch);
        report.diff = Excerpt::of(&patch, DIFF_BYTES);
        report.no_target_inspection_passed = self.target_proof_holds();
        let contradictions = contradictions(&report);
        if matches!(report.status, RunStatus::Pass | RunStatus::Rehearsed)
            && !contradictions.is_empty()
        {
            let what = contradictions.join(", ");
            report.blockers.push(format!("{} with: {what}", report.status.as_str()));
            let class = match report.no_target_inspection_passed {
                true => FailureClass::Unclassified,
                false => FailureClass::TargetInspected,
            };
            report.fail(class, &what);
        }
        self.write_marker(&mut report, &mut entries)?;
        if let Some(sentinel) = &sentinel {
            withhold(&mut report, sentinel);
        }
        let texts = clean_texts(&mut report, &self.dir, &known)?;
        for (name, role, media_type, bytes) in texts {
            self.dir.write(name, &bytes, true)?;
            entries.push(entry(name, role, media_type, &bytes)?);
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        let manifest = Manifest { schema: Manifest::SCHEMA.to_string(), files: entries };
        let seal = Seal::of(&manifest);
        self.dir.write(names::MANIFEST, &record::pretty(&manifest), true)?;
        if let Some(other) = instead() {
            for marker in manifest.files.iter().filter(|entry| entry.role == MARKER) {
                self.dir.remove(marker.path.as_str());
            }
            return Ok(Written::Instead(other));
        }
        self.dir.write(names::SEAL, &record::pretty(&seal), true)?;
        self.dir.sync()?;
        Ok(Written::Sealed(Sealed { id: seal.id, report, directory: self.dir.path().to_owned() }))
    }

    /// Writes every file that a run directory has and that the run did not come to write.
    fn fill_in(&self, state: &mut State, report: &RunReport) -> Result<()> {
        let now = self.clock.now();
        let freshness = Freshness {
            schema: Freshness::SCHEMA.to_string(),
            nonce: String::new(),
            seen: Vec::new(),
            directory_made_empty: self.began_empty(),
            boot_id: None,
            kernel: String::new(),
            started: report.started.clone(),
            finished: now,
            monotonic_span_ns: self.elapsed_ns(),
        };
        let proof = NoTargetProof {
            schema: NoTargetProof::SCHEMA.to_string(),
            does_not_prove: vec!["anything: the run ended before a proof was made".into()],
            ..NoTargetProof::default()
        };
        let missing = [
            (names::GATE, "gates", record::pretty(&GateRecord::undecided(report))),
            (names::SANDBOX, "sandbox", record::pretty(&json!({ "started": false }))),
            (names::FRESHNESS, "freshness", record::pretty(&freshness)),
            (names::NO_TARGET, "no_target_inspection", record::pretty(&proof)),
            (names::PATCH, "patch", Vec::new()),
            (names::TEST_LOG, "test_log", Vec::new()),
            (names::TRACE, "trace", Vec::new()),
        ];
        for (name, role, bytes) in missing {
            if let Entry::Vacant(place) = state.kept.entry(rel(name)?) {
                self.dir.write(name, &bytes, true)?;
                let kept = place.insert(Kept::new(role, Author::Admit));
                kept.took(&bytes);
            }
        }
        Ok(())
    }

    /// Only the recorder writes here: any other file fails the run, and stays to be seen.
    fn find_unrecorded(&self, state: &mut State, report: &mut RunReport) -> Result<()> {
        let marker = report.failure_class.map(names::marker);
        for listed in self.dir.list()? {
            let ours = |path: &RelPath| {
                let sealing = [
                    names::REPORT,
                    names::REPORT_MD,
                    names::REPORT_HTML,
                    names::MANIFEST,
                    names::SEAL,
                ];
                state.kept.contains_key(path)
                    || sealing.contains(&path.as_str())
                    || marker.as_deref() == Some(path.as_str())
            };
            match listed.path {
                Some(path) if ours(&path) => {}
                Some(path) => {
                    report.blockers.push(format!("a file that was not recorded: {path}"));
                    report.fail(FailureClass::Unclassified, "a file that was not recorded");
                    state.kept.insert(path, Kept::new(UNEXPECTED, Author::Agent));
                }
                None => {
                    self.dir.remove(&listed.name);
                    let name = listed.name.escape_debug();
                    report.blockers.push(format!("something that is no file was removed: {name}"));
                    report.fail(FailureClass::Unclassified, "something that is no file");
                }
            }
        }
        Ok(())
    }

    /// Digests every recorded file and looks for secrets in it; what holds one is withheld.
    fn scan(
        &self,
        state: &mut State,
        known: &Known,
        sentinel: Option<&Secret>,
        report: &mut RunReport,
    ) -> Result<Vec<ManifestEntry>> {
        let mut out = Vec::new();
        let own: Vec<_> = sentinel.iter().map(|s| ("sentinel".to_owned(), (*s).clone())).collect();
        let (own, mut noted) = (Known::new(&own), Vec::new());
        for (path, kept) in &mut state.kept {
            let mut scanner = Scanner::new(known.clone(), Rules::On);
            let mut hits = scanner.feed(format!("{path}\n").as_bytes());
            let mut sentinels = Scanner::new(own.clone(), Rules::Off);
            let mut seen = Vec::new();
            let there = self.dir.digest(path.as_str(), u64::MAX, |bytes| {
                hits.extend(scanner.feed(bytes));
                seen.extend(sentinels.feed(bytes));
            });
            seen.extend(sentinels.finish());
            if !seen.is_empty() {
                noted.push(path.to_string());
            }
            hits.extend(scanner.finish());
            let (mut size, mut sha256) = match there {
                Ok(there) => there,
                // Gone, or no file any more: a notice stands in its place, and the run has failed.
                Err(err) => {
                    let what = match kept.role == LOST {
                        true => format!("{path} could not be written"),
                        false => format!("{path} was recorded and cannot be read: {err}"),
                    };
                    report.blockers.push(what);
                    report.fail(FailureClass::Unclassified, "a recorded file cannot be read");
                    let notice = record::pretty(&json!({ "lost": { "bytes": kept.bytes } }));
                    self.dir.remove(path.as_str());
                    self.dir.write(path.as_str(), &notice, true)?;
                    kept.role = LOST.into();
                    (notice.len() as u64, Digest::sha256(&notice))
                }
            };
            let recorded = ![UNEXPECTED, LOST, "withheld"].contains(&kept.role.as_str());
            if recorded && kept.sha256().as_ref() != Some(&sha256) {
                report.blockers.push(format!("{path} was changed after it was recorded"));
                report.fail(FailureClass::Unclassified, "a recorded file was changed");
            }
            if !hits.is_empty() {
                let rules = ids(&hits);
                report.blockers.push(format!("a secret ({rules}) in an artifact: {path}"));
                report.reject(FailureClass::SecretFound);
                let notice = withheld(path, size, &rules, &mut report.events)?;
                self.dir.write(path.as_str(), &notice, true)?;
                (size, sha256) = (notice.len() as u64, Digest::sha256(&notice));
                kept.role = "withheld".into();
                kept.bytes = size;
                // The report shows parts of these files.
                report.timeline.clear();
                report.wire.clear();
            }
            out.push(ManifestEntry {
                media_type: media_type(path.as_str()).into(),
                path: path.clone(),
                size,
                sha256,
                author: kept.author,
                role: kept.role.clone(),
                omitted_bytes: kept.omitted,
            });
        }
        if !noted.is_empty() {
            let places = noted.join(", ");
            report.limits.push(format!(
                "the run's own sentinel, which is worth nothing outside of it, stands in: {places}"
            ));
        }
        Ok(out)
    }

    fn target_proof_holds(&self) -> bool {
        self.dir
            .read(names::NO_TARGET, PROOF_BYTES)
            .ok()
            .and_then(|bytes| record::parse::<NoTargetProof>(&bytes).ok())
            .is_some_and(|proof| proof.passed && proof.holds())
    }

    /// The marker of the failure class, where the older set-up's users look for it.
    fn write_marker(&self, report: &mut RunReport, entries: &mut Vec<ManifestEntry>) -> Result<()> {
        let (Some(class), Some(reason)) = (report.failure_class, &report.failure_reason) else {
            return Ok(());
        };
        let name = names::marker(class);
        if entries.iter().any(|entry| entry.path.as_str() == name) {
            return Ok(());
        }
        let mut text = format!("{reason}\nclass: {}\n", class.as_str());
        for blocker in &report.blockers {
            text.push_str(&format!("blocker: {blocker}\n"));
        }
        self.dir.write(&name, text.as_bytes(), true)?;
        entries.push(entry(&name, MARKER, "text/plain", text.as_bytes())?);
        let slot = match class {
            FailureClass::AgentProtocol => &mut report.protocol_marker,
            FailureClass::LifecycleTimeout => &mut report.lifecycle_marker,
            _ => return Ok(()),
        };
        slot.get_or_insert(name);
        Ok(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.state().sealed {
            // The error has no receiver; a directory without a seal says the same.
            drop(self.seal_draft());
        }
    }
}

/// What the machine's clock did beside going on, if it did.
fn jump(report: &RunReport, elapsed_ns: u64) -> Option<String> {
    let by_the_clock = report.finished.unix().saturating_sub(report.started.unix());
    let took = i64::try_from(elapsed_ns / 1_000_000_000).unwrap_or(i64::MAX);
    let jumped = by_the_clock.saturating_sub(took);
    (jumped.saturating_abs() > JUMP).then(|| {
        format!(
            "the machine's clock was set by {jumped:+} s while the run took {took} s (or the machine slept): no time in this report is to be relied on"
        )
    })
}

/// What stands in place of a file that held a secret: that it was there, how long it was, and which rule withheld it.
fn withheld(path: &RelPath, size: u64, rules: &str, chain: &mut ChainEnd) -> Result<Vec<u8>> {
    let notice = json!({ "withheld": { "bytes": size, "rules": rules } });
    if path.as_str() != names::EVENTS {
        return Ok(record::pretty(&notice));
    }
    // The chain begins anew, so that what is there can still be checked.
    let event = Event {
        seq: 0,
        monotonic_ns: 0,
        wall: record::ids::Timestamp::from_unix(0),
        prev: Digest::sha256(b""),
        by: Author::Admit,
        kind: "events_withheld".into(),
        data: notice,
    };
    let mut line = record::canonical(&event);
    *chain = ChainEnd { count: 1, head: Digest::sha256(&line) };
    line.push(b'\n');
    Ok(line)
}

fn entry(name: &str, role: &str, media_type: &str, bytes: &[u8]) -> Result<ManifestEntry> {
    Ok(ManifestEntry {
        path: rel(name)?,
        size: bytes.len() as u64,
        sha256: Digest::sha256(bytes),
        author: Author::Admit,
        media_type: media_type.into(),
        role: role.into(),
        omitted_bytes: 0,
    })
}

/// By the ending: the recorder names every file itself.
fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("json") => "application/json",
        Some("jsonl") => "application/jsonl",
        Some("diff" | "patch") => "text/x-diff",
        Some("md") => "text/markdown",
        Some("txt" | "log") => "text/plain",
        Some("html") => "text/html",
        Some("sse") => "text/event-stream",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ids::Timestamp;

    #[test]
    fn a_clock_that_was_set_during_the_run_is_told() {
        let told = |finished: i64, seconds: u64| {
            let mut report = RunReport::draft("toy", "case", &Timestamp::from_unix(1000));
            report.finished = Timestamp::from_unix(finished);
            jump(&report, seconds * 1_000_000_000)
        };
        assert_eq!(told(1030, 30), None);
        assert_eq!((told(1035, 30), told(1025, 30)), (None, None));
        let (ahead, back) = (told(1036, 30).unwrap(), told(24, 30).unwrap());
        assert!(ahead.contains("set by +6 s while the run took 30 s"), "{ahead}");
        assert!(back.contains("set by -1006 s while the run took 30 s"), "{back}");
    }

    #[test]
    fn each_file_of_a_run_has_the_type_of_its_ending() {
        let types = [
            ("a.json", "application/json"),
            ("a.jsonl", "application/jsonl"),
            ("a.diff", "text/x-diff"),
            ("a.patch", "text/x-diff"),
            ("a.md", "text/markdown"),
            ("a.txt", "text/plain"),
            ("b/a.log", "text/plain"),
            ("a.html", "text/html"),
            ("a.sse", "text/event-stream"),
            ("b.json/0001", "application/octet-stream"),
            ("a", "application/octet-stream"),
        ];
        for (name, wanted) in types {
            assert_eq!(media_type(name), wanted, "{name}");
        }
    }
}
