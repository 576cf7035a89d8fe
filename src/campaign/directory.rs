//! A campaign's directory: `plan.json`, `runs/<index>.<attempt>/`, and once it is counted `campaign.json` and its page.
//!
//! It may lie on a file system that many machines share. Nothing in it is ever replaced or removed, and the one thing that
//! must not happen twice, beginning an attempt, is the making of a directory, which is atomic on all of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::count::{self, AttemptDir, Row, What};
use crate::error::{Error, Reason, Result};
use crate::evidence;
use crate::fetch::parallel::each;
use crate::host::files::{self, Links};
use crate::record::campaign::{Attempt, CampaignPlan, CampaignRecord};
use crate::record::ids::Digest;
use crate::record::{self, RecordError};
use crate::root::write_new;

pub const PLAN: &str = "plan.json";
pub const RECORD: &str = "campaign.json";
pub const PAGE: &str = "campaign.html";
pub const RUNS: &str = "runs";
/// What the runs of the local engine printed.
pub const LOGS: &str = "log";

/// Longest plan or record that is read: 100,000 tasks with their attempts.
const MAX_RECORD: u64 = 512 << 20;

/// Runs that are looked at at a time, at most: what a hostile one takes of memory is bounded for each.
const AT_A_TIME: usize = 8;

#[derive(Debug, Default)]
pub struct Listing {
    /// Every attempt at a task of the plan, with the task's index.
    pub attempts: Vec<(u32, Attempt)>,
    /// The names of all else.
    pub other: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Campaign {
    pub dir: PathBuf,
    pub plan: CampaignPlan,
    /// Digest of the plan.
    pub digest: Digest,
}

fn malformed(path: &Path, err: &RecordError) -> Error {
    Error::new(Reason::BadRecord, format!("it {err}")).at(path.display().to_string())
}

impl Campaign {
    /// Reads the plan in `dir`; `expected` is its digest where that came by another way, and any other [`Reason::PlanDiffers`].
    pub fn open(dir: &Path, expected: Option<&Digest>) -> Result<Self> {
        let path = dir.join(PLAN);
        let bytes =
            files::read(&path, Links::Follow, MAX_RECORD).map_err(|err| match err.reason() {
                Reason::NotFound => Error::new(Reason::NotFound, "there is no campaign")
                    .at(dir.display().to_string())
                    .expected("a directory with plan.json")
                    .hint("to make one: admit campaign plan --help"),
                _ => err,
            })?;
        let plan: CampaignPlan = record::parse(&bytes).map_err(|err| malformed(&path, &err))?;
        let faults = plan.faults();
        if !faults.is_empty() {
            return Err(
                Error::new(Reason::BadRecord, faults.join("; ")).at(path.display().to_string())
            );
        }
        if record::pretty(&plan) != bytes {
            return Err(Error::new(
                Reason::BadRecord,
                "it is not in the form in which it was written",
            )
            .at(path.display().to_string()));
        }
        let digest = plan.digest();
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(Error::new(Reason::PlanDiffers, "it is another plan")
                .at(path.display().to_string())
                .expected(expected.to_string())
                .found(digest.to_string())
                .hint("a plan that was changed is another campaign: make it in a directory of its own"));
        }
        Ok(Self { dir: dir.to_owned(), plan, digest })
    }

    /// Refuses a directory that has a plan already.
    pub fn create(dir: &Path, plan: CampaignPlan) -> Result<Self> {
        let runs = dir.join(RUNS);
        std::fs::create_dir_all(&runs).map_err(|err| Error::io("make", &runs, err))?;
        let path = dir.join(PLAN);
        if path.symlink_metadata().is_ok() {
            return Err(Error::new(Reason::BadArgument, "there is a campaign already")
                .at(path.display().to_string())
                .hint("name another directory with --out"));
        }
        write_new(&path, &record::pretty(&plan), 0o644)?;
        let digest = plan.digest();
        Ok(Self { dir: dir.to_owned(), plan, digest })
    }

    pub fn run_dir(&self, index: u32, attempt: u32) -> PathBuf {
        self.dir.join(RUNS).join(format!("{index:06}.{attempt}"))
    }

    /// The attempts at a task that are there, up to the first that is not. As in the count, one that was judged with an
    /// earlier run's baselines is held against that run, which is looked at too.
    pub fn attempts(&self, index: u32) -> Result<Vec<Attempt>> {
        let mut rows = Vec::new();
        for attempt in 1..=self.plan.attempts {
            let dir = self.run_dir(index, attempt);
            if dir.symlink_metadata().is_err() {
                break;
            }
            rows.push(self.look(&dir, index, attempt)?);
        }
        let own = rows.len();
        let lent = |(_, _, baselines): &Row| numbers(baselines.as_ref()?.lender()?);
        let lenders: BTreeSet<(u32, u32)> =
            rows.iter().filter_map(lent).filter(|(index, _)| *index < self.plan.tasks()).collect();
        for (index, attempt) in lenders {
            let dir = self.run_dir(index, attempt);
            if dir.is_dir() {
                rows.push(self.look(&dir, index, attempt)?);
            }
        }
        Ok(count::hold_baselines(rows).into_iter().take(own).map(|(_, attempt)| attempt).collect())
    }

    fn look(&self, dir: &Path, index: u32, attempt: u32) -> Result<Row> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let what = look(dir)?;
        let found = AttemptDir { directory: name, index, attempt, what };
        let row = count::attempt(&self.plan, &self.digest, &found);
        Ok((index, row, found.what.baselines()))
    }

    pub fn all(&self) -> Result<Listing> {
        let runs = self.dir.join(RUNS);
        let mut out = Listing::default();
        let mut named = Vec::new();
        let entries = std::fs::read_dir(&runs).map_err(|err| Error::io("list", &runs, err))?;
        for entry in entries {
            let entry = entry.map_err(|err| Error::io("list", &runs, err))?;
            let name = entry.file_name();
            match name.to_str().and_then(numbers) {
                Some((index, attempt)) if index < self.plan.tasks() && entry.path().is_dir() => {
                    named.push((entry.path(), index, attempt));
                }
                _ => out.other.push(name.to_string_lossy().into_owned()),
            }
        }
        named.sort_by_key(|(_, index, attempt)| (*index, *attempt));
        out.attempts = count::hold_baselines(self.look_at(&named)?);
        out.other.sort();
        Ok(out)
    }

    /// What lies in each of these directories, in their order: as many at a time as there are processors, and no more than
    /// [`AT_A_TIME`].
    fn look_at(&self, named: &[(PathBuf, u32, u32)]) -> Result<Vec<Row>> {
        let many = std::thread::available_parallelism().map_or(1, usize::from).min(AT_A_TIME);
        each(many, named, || Ok(()), |(dir, index, attempt)| self.look(dir, *index, *attempt))
    }

    /// The record of a campaign that was counted; `None` where it was not yet.
    pub fn record(&self) -> Result<Option<CampaignRecord>> {
        let path = self.dir.join(RECORD);
        match files::read(&path, Links::Follow, MAX_RECORD) {
            Ok(bytes) => record::parse(&bytes).map(Some).map_err(|err| malformed(&path, &err)),
            Err(err) if err.reason() == Reason::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }
}

/// The numbers in a directory's name, `000012.1`: written in no other way.
fn numbers(name: &str) -> Option<(u32, u32)> {
    let (index, attempt) = name.split_once('.')?;
    let read = |text: &str| text.parse::<u32>().ok();
    let (index, attempt) = (read(index)?, read(attempt)?);
    (attempt > 0 && format!("{index:06}.{attempt}") == name).then_some((index, attempt))
}

/// Checks the run in `dir`, as `admit verify` does.
fn look(dir: &Path) -> Result<What> {
    let checked = evidence::check(dir, None)?;
    if let Some(fault) = checked.faults.first() {
        return Ok(match fault.kind {
            evidence::FaultKind::NotSealed => What::Unsealed,
            _ => What::Changed(format!(
                "{}: {}: expected {}, found {}",
                fault.kind.reason(),
                fault.path,
                fault.expected,
                fault.found
            )),
        });
    }
    match (checked.id, checked.report) {
        (Some(id), Some(report)) => Ok(What::Sealed(id, Box::new(report))),
        _ => Ok(What::Changed("it has no report".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_name() {
        assert_eq!(numbers("000012.1"), Some((12, 1)));
        assert_eq!(numbers("1000000.20"), Some((1_000_000, 20)));
        for name in
            ["12.1", "000012.0", "000012.01", "000012", "000012.1.2", "000012.1~", "+00012.1"]
        {
            assert_eq!(numbers(name), None, "{name}");
        }
    }
}
