//! The recorder: a chain of events, artifacts written once, logs that grow, all with an author and within limits.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use cap_std::fs::File;
use serde_json::{Value, json};

use super::files::RunDir;
use super::names;
use crate::error::{Error, Reason, Result};
use crate::host::Clock;
use crate::record;
use crate::record::evidence::{ChainEnd, RunReport, TimelineRow, WireRow};
use crate::record::ids::{Digest, Name, RelPath};
use crate::record::sealed::{Author, Event, Excerpt, Span};
use crate::secrets::{Known, Secret};

use sha2::Digest as _;

/// How much a run may leave behind. What goes beyond is counted, never kept, and shows in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvidenceLimits {
    pub file_bytes: u64,
    pub total_bytes: u64,
    pub files: usize,
    pub events: u64,
    pub event_bytes: usize,
}

impl Default for EvidenceLimits {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            total_bytes: 512 << 20,
            files: 20_000,
            events: 100_000,
            event_bytes: 64 << 10,
        }
    }
}

/// Events that a report's timeline shows at most: the first and the last so many.
const TIMELINE_HALF: usize = 200;
/// Bytes of an event's data in the timeline.
const TIMELINE_BYTES: usize = 400;
/// Events after which the chain is forced to disk: those that a killed run must not lose.
const SYNC_AFTER: [&str; 5] =
    ["run_started", "gates_admitted", "gates_refused", "case_process_started", "process_end"];

/// A file that was written, as the manifest will list it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) role: String,
    pub(super) author: Author,
    pub(super) bytes: u64,
    pub(super) omitted: u64,
    /// Over what was handed in, so that a file that changed meanwhile is not sealed as recorded.
    hash: sha2::Sha256,
}

/// The role of a file that could not be written, or is gone.
pub(super) const LOST: &str = "lost";

impl Kept {
    pub(super) fn new(role: impl Into<String>, author: Author) -> Self {
        Self { role: role.into(), author, bytes: 0, omitted: 0, hash: sha2::Sha256::new() }
    }

    pub(super) fn took(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// SHA-256 of all that was handed in and kept.
    pub(super) fn sha256(&self) -> Option<Digest> {
        let algorithm = record::ids::Algorithm::Sha256;
        Digest::from_bytes(algorithm, &self.hash.clone().finalize())
    }
}

/// Everything that changes while a run is recorded.
pub(super) struct State {
    pub(super) kept: BTreeMap<RelPath, Kept>,
    logs: BTreeMap<RelPath, File>,
    total: u64,
    events: u64,
    /// Of the events that admit itself put there.
    kinds: BTreeSet<String>,
    head: Digest,
    first: Vec<TimelineRow>,
    last: std::collections::VecDeque<TimelineRow>,
    /// The first thing that could not be recorded.
    pub(super) broken: Option<String>,
    /// What is sealed if the run ends without a report.
    pub(super) draft: RunReport,
    pub(super) sealed: bool,
}

impl State {
    /// Counts what of a file was written, and takes it into its digest.
    fn took(&mut self, path: &RelPath, bytes: &[u8]) {
        let Some(kept) = self.kept.get_mut(path) else { return };
        kept.took(bytes);
        // What admit itself writes has limits of its own.
        self.total += if kept.author == Author::Admit { 0 } else { bytes.len() as u64 };
    }
}

/// A run directory that is being written. Sealed as a failure when dropped unsealed.
///
/// All methods take `&self`, since the proxy, the supervisor and the sequence of the run record at the same time. After
/// a failed call the run has no whole evidence and ends as failed.
pub struct Recording {
    pub(super) dir: RunDir,
    pub(super) clock: Arc<dyn Clock + Send>,
    pub(super) known: Mutex<Known>,
    /// Noted and withheld, and no secret: it is worth nothing outside of this run.
    pub(super) sentinel: Mutex<Option<Secret>>,
    began: Instant,
    limits: EvidenceLimits,
    state: Mutex<State>,
}

impl Recording {
    /// Makes the run directory below `runs` (`<state>/admit/runs`) and begins the chain.
    ///
    /// `draft` is what the report says if the run ends without one: see [`RunReport::draft`].
    pub fn begin(
        runs: &Path,
        fixture: &Name,
        draft: RunReport,
        clock: Arc<dyn Clock + Send>,
        limits: EvidenceLimits,
    ) -> Result<Self> {
        let dir = RunDir::create(runs, fixture, &clock.now())?;
        Self::new(dir, draft, clock, limits)
    }

    /// The same in a directory that was made for it and is empty.
    pub fn begin_in(
        dir: &Path,
        draft: RunReport,
        clock: Arc<dyn Clock + Send>,
        limits: EvidenceLimits,
    ) -> Result<Self> {
        Self::new(RunDir::fresh(dir)?, draft, clock, limits)
    }

    fn new(
        dir: RunDir,
        mut draft: RunReport,
        clock: Arc<dyn Clock + Send>,
        limits: EvidenceLimits,
    ) -> Result<Self> {
        draft.run_directory = dir.path().display().to_string();
        let state = State {
            kept: BTreeMap::new(),
            logs: BTreeMap::new(),
            total: 0,
            events: 0,
            kinds: BTreeSet::new(),
            head: Digest::sha256(b""),
            first: Vec::new(),
            last: std::collections::VecDeque::new(),
            broken: None,
            draft,
            sealed: false,
        };
        let this = Self {
            dir,
            clock,
            known: Mutex::new(Known::none()),
            sentinel: Mutex::new(None),
            began: Instant::now(),
            limits,
            state: Mutex::new(state),
        };
        this.event("run_started", Author::Admit, json!({ "directory_empty": this.began_empty() }))?;
        Ok(this)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn began_empty(&self) -> bool {
        self.dir.was_empty
    }

    /// Whether admit has put an event of this kind into the chain.
    pub fn has_event(&self, kind: &str) -> bool {
        self.state().kinds.contains(kind)
    }

    /// Sets the values that may stand in no artifact; the reviewed rules hold in any case.
    pub fn watch_for(&self, known: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Sets what the agent shows in place of a key: where it stands in an artifact is said, and it is in no report.
    pub fn note_sentinel(&self, sentinel: Secret) {
        *self.sentinel.lock().unwrap_or_else(PoisonError::into_inner) = Some(sentinel);
    }

    /// Changes what is sealed if the run ends without a report.
    pub fn draft(&self, change: impl FnOnce(&mut RunReport)) {
        change(&mut self.state().draft);
    }

    pub fn is_sealed(&self) -> bool {
        self.state().sealed
    }

    pub fn drafted(&self) -> RunReport {
        self.state().draft.clone()
    }

    /// One event of the chain. `by` is [`Author::Admit`] for what admit did or saw itself.
    pub fn event(&self, kind: &str, by: Author, data: Value) -> Result<()> {
        self.noted(|state| self.event_locked(state, kind, by, data))
    }

    /// A whole file, written at once; a path is written once only.
    pub fn artifact(&self, path: &RelPath, role: &str, by: Author, bytes: &[u8]) -> Result<()> {
        self.noted(|state| {
            if state.kept.contains_key(path) {
                return Err(
                    Error::new(Reason::Internal, "a file was written before").at(path.to_string())
                );
            }
            let kept = self.grant(state, path, role, by, bytes)?;
            let written = self.dir.write(path.as_str(), kept, false);
            match (&written, state.kept.get_mut(path)) {
                (Ok(()), _) => state.took(path, kept),
                // It stays listed: what stands in its place says that it is lost.
                (Err(_), Some(entry)) => {
                    (entry.role, entry.bytes) = (LOST.into(), kept.len() as u64)
                }
                (Err(_), None) => {}
            }
            written
        })
    }

    /// More bytes of a growing file (a log, a reply as it streams in). Gives the offset at which they begin, or `None`
    /// where the file has reached its limit and they were counted but not kept.
    pub fn append(
        &self,
        path: &RelPath,
        role: &str,
        by: Author,
        bytes: &[u8],
    ) -> Result<Option<u64>> {
        self.noted(|state| self.append_locked(state, path, role, by, bytes))
    }

    /// One line of the trace: what admit did from `started_ns` until now.
    pub fn span(&self, name: &str, started_ns: u64) -> Result<()> {
        let ended_ns = self.elapsed_ns();
        self.trace(&Span { name: name.into(), started_ns, ended_ns, exchange: None })
    }

    fn trace(&self, span: &Span) -> Result<()> {
        let mut line = record::canonical(span);
        line.push(b'\n');
        self.append(&rel(names::TRACE)?, "trace", Author::Admit, &line).map(drop)
    }

    pub fn trace_exchanges(&self, rows: &[WireRow]) -> Result<()> {
        rows.iter().try_for_each(|row| {
            self.trace(&Span {
                name: "exchange".into(),
                started_ns: row.monotonic_ns,
                ended_ns: row.monotonic_ns.saturating_add(row.duration_ns),
                exchange: Some(row.number),
            })
        })
    }

    pub fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A thread that panicked while recording leaves a state that is whole enough to seal as a failure.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work`; the first failure is remembered, so that the run cannot be sealed as good.
    fn noted<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.state();
        if state.sealed {
            return Err(Error::new(Reason::Internal, "the run is sealed already"));
        }
        let result = work(&mut state);
        if let Err(err) = &result
            && state.broken.is_none()
        {
            state.broken = Some(err.to_string());
        }
        result
    }

    /// Those of further bytes of `path` that may be kept; counts the rest as left out. Once they are written they are
    /// [`State::took`].
    fn grant<'a>(
        &self,
        state: &mut State,
        path: &RelPath,
        role: &str,
        by: Author,
        bytes: &'a [u8],
    ) -> Result<&'a [u8]> {
        let more = bytes.len() as u64;
        let files = state.kept.len();
        if !state.kept.contains_key(path) && files >= self.limits.files {
            return Err(Error::new(Reason::LimitHit, "too many files in a run directory")
                .at(path.to_string())
                .expected(format!("at most {}", self.limits.files)));
        }
        // A flood from inside the sandbox must not silence admit itself.
        let left = match by {
            Author::Admit => u64::MAX,
            _ => self.limits.total_bytes.saturating_sub(state.total),
        };
        let entry = state.kept.entry(path.clone()).or_insert_with(|| Kept::new(role, by));
        if entry.author != by {
            return Err(
                Error::new(Reason::Internal, "two authors for one file").at(path.to_string())
            );
        }
        let keep = more.min(left).min(self.limits.file_bytes.saturating_sub(entry.bytes));
        if keep < more && by == Author::Admit {
            return Err(Error::new(Reason::LimitHit, "a record of admit's own is too large")
                .at(path.to_string())
                .expected(format!("at most {} bytes", self.limits.file_bytes)));
        }
        // Once something is left out, nothing after it is kept: a log with a hole would read as a whole one.
        let keep = if entry.omitted > 0 { 0 } else { keep };
        entry.omitted += more - keep;
        Ok(&bytes[..usize::try_from(keep).unwrap_or(bytes.len())])
    }

    fn append_locked(
        &self,
        state: &mut State,
        path: &RelPath,
        role: &str,
        by: Author,
        bytes: &[u8],
    ) -> Result<Option<u64>> {
        if !state.logs.contains_key(path) {
            if state.kept.contains_key(path) {
                return Err(
                    Error::new(Reason::Internal, "a whole file cannot grow").at(path.to_string())
                );
            }
            let file = self.dir.create_log(path.as_str())?;
            state.logs.insert(path.clone(), file);
        }
        let offset = state.kept.get(path).map_or(0, |kept| kept.bytes);
        let kept = self.grant(state, path, role, by, bytes)?;
        if let Some(file) = state.logs.get_mut(path)
            && let Err(err) = file.write_all(kept)
        {
            // What is half written was not recorded: without it the file is what it was.
            let _ = file.set_len(offset);
            // A later piece may fit again, and is not kept either. The chain of admit's own events goes on without this one.
            if let Some(entry) = state.kept.get_mut(path).filter(|_| by != Author::Admit) {
                entry.omitted += kept.len() as u64;
            }
            return Err(self.dir.io("write", path.as_str(), err));
        }
        state.took(path, kept);
        Ok((kept.len() == bytes.len()).then_some(offset))
    }

    /// Forces every log to disk, and gives the chain's end.
    pub(super) fn finish_logs(&self, state: &mut State) -> Result<ChainEnd> {
        for (path, file) in &state.logs {
            file.sync_all().map_err(|err| self.dir.io("write", path.as_str(), err))?;
        }
        state.logs.clear();
        Ok(ChainEnd { count: state.events, head: state.head.clone() })
    }

    /// The timeline as far as the report shows it, and how many events it leaves out.
    pub(super) fn timeline(state: &State) -> (Vec<TimelineRow>, u64) {
        let rows: Vec<_> = state.first.iter().chain(&state.last).cloned().collect();
        let omitted = state.events - rows.len() as u64;
        (rows, omitted)
    }

    fn event_locked(
        &self,
        state: &mut State,
        kind: &str,
        by: Author,
        mut data: Value,
    ) -> Result<()> {
        if state.events >= self.limits.events {
            return Err(Error::new(Reason::LimitHit, "too many events")
                .expected(format!("at most {}", self.limits.events)));
        }
        let text = data.to_string();
        if text.len() > self.limits.event_bytes {
            let cut = Excerpt::of(text.as_bytes(), self.limits.event_bytes);
            data = json!({ "cut": cut.text, "omitted_bytes": cut.omitted_bytes });
        }
        let event = Event {
            seq: state.events,
            monotonic_ns: self.elapsed_ns(),
            wall: self.clock.now(),
            prev: state.head.clone(),
            by,
            kind: kind.to_owned(),
            data,
        };
        let mut line = record::canonical(&event);
        let head = Digest::sha256(&line);
        line.push(b'\n');
        let path = rel(names::EVENTS)?;
        if self.append_locked(state, &path, "events", Author::Admit, &line)?.is_none() {
            return Err(Error::new(Reason::LimitHit, "the events do not fit").at(names::EVENTS));
        }
        if SYNC_AFTER.contains(&kind)
            && let Some(file) = state.logs.get(&path)
        {
            file.sync_data().map_err(|err| self.dir.io("write", names::EVENTS, err))?;
        }
        state.events += 1;
        state.head = head;
        if by == Author::Admit {
            state.kinds.insert(kind.to_owned());
        }
        let row = TimelineRow {
            seq: event.seq,
            monotonic_ns: event.monotonic_ns,
            by,
            kind: event.kind,
            data: Excerpt::of(event.data.to_string().as_bytes(), TIMELINE_BYTES),
        };
        if state.first.len() < TIMELINE_HALF {
            state.first.push(row);
        } else {
            if state.last.len() == TIMELINE_HALF {
                state.last.pop_front();
            }
            state.last.push_back(row);
        }
        Ok(())
    }
}

pub(super) fn rel(text: &str) -> Result<RelPath> {
    text.parse().map_err(|err: record::ids::ParseError| {
        Error::new(Reason::Internal, "no path for a run directory").caused_by(err)
    })
}
