//! Counting a campaign, once and for all, and holding a count against the runs it was made from.

use std::time::Duration;

use serde::Serialize;

use super::directory::{Campaign, PAGE, RECORD};
use super::{count, page};
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::record;
use crate::record::campaign::{CampaignRecord, Task};
use crate::record::ids::Digest;
use crate::root::{write_atomic, write_new};

/// How long another collector has to write what it counted, and how often that is looked for.
const OTHER: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Counted {
    pub record: CampaignRecord,
    /// What lies in `runs/` and is no attempt at a task of the plan.
    pub other: Vec<String>,
}

impl Counted {
    /// Digest of the record: what is signed.
    pub fn digest(&self) -> Digest {
        record::digest(&self.record)
    }
}

/// Counts what is there, and writes nothing.
pub fn status(context: &Context, campaign: &Campaign) -> Result<Counted> {
    let found = campaign.all()?;
    let record = count::record(&campaign.plan, found.attempts, &context.clock.now());
    Ok(Counted { record, other: found.other })
}

/// Counts the campaign and writes `campaign.json` and its page. A complete count is final: it is given back where the runs
/// still say the same. An incomplete one may be followed by another when more tasks were done; it stays beside it as
/// `campaign.<digest>.json`.
///
/// # Errors
/// [`Reason::CampaignDiffers`] where the runs say something else than the count that is there.
pub fn seal(context: &Context, campaign: &Campaign) -> Result<Counted> {
    let mut now = status(context, campaign)?;
    let path = campaign.dir.join(RECORD);
    // Two collectors may come at once: one writes, the other finds what it would have written.
    if campaign.record()?.is_none() {
        match write_new(&path, &record::pretty(&now.record), 0o644) {
            Ok(()) => {}
            Err(_) if path.symlink_metadata().is_ok() => {}
            Err(err) => return Err(err),
        }
    }
    let Some(there) = campaign.record()? else {
        return Err(Error::new(Reason::Internal, "the record that was written is not there")
            .at(path.display().to_string()));
    };
    if let Some(fault) = differences(&there, &now.record).into_iter().next() {
        if there.complete || !continues(&there, &now.record) {
            let what = "the campaign was counted before, and differs now";
            return Err(Error::new(Reason::CampaignDiffers, what)
                .at(path.display().to_string())
                .expected(fault.expected)
                .found(format!("{}: {}", fault.place, fault.found))
                .hint(format!(
                    "to see every difference: admit verify {}",
                    crate::host::quoted(&campaign.dir.display().to_string())
                )));
        }
        let hex = record::digest(&there).to_hex();
        let kept = campaign.dir.join(format!("campaign.{}.json", hex.get(..12).unwrap_or(&hex)));
        // Of two collectors, the one that keeps the earlier count writes the new one.
        let first = match write_new(&kept, &record::pretty(&there), 0o644) {
            Ok(()) => true,
            Err(_) if kept.symlink_metadata().is_ok() => false,
            Err(err) => return Err(err),
        };
        let other = if first { None } else { of_another(campaign, &now.record)? };
        match other {
            Some(there) => now.record = there,
            None => write_atomic(&path, &record::pretty(&now.record), 0o644)?,
        }
    } else {
        now.record = there;
    }
    let page = page::html(&campaign.plan, &now.record);
    write_atomic(&campaign.dir.join(PAGE), page.as_bytes(), 0o644)?;
    Ok(now)
}

/// The same count as another collector writes it just now; `None` where none comes, so that it must have been ended before
/// it wrote.
fn of_another(campaign: &Campaign, now: &CampaignRecord) -> Result<Option<CampaignRecord>> {
    for _ in 0..OTHER.as_millis() / TICK.as_millis() {
        if let Some(there) = campaign.record()?.filter(|there| differences(there, now).is_empty()) {
            return Ok(Some(there));
        }
        std::thread::sleep(TICK);
    }
    Ok(None)
}

/// Whether every run that was counted before is still there as it was, so that only more was done since.
fn continues(before: &CampaignRecord, now: &CampaignRecord) -> bool {
    let runs = |task: &Task| -> Vec<_> {
        task.attempts.iter().filter(|one| one.run.is_some()).cloned().collect()
    };
    before.plan == now.plan
        && before.tasks.len() == now.tasks.len()
        && before.tasks.iter().zip(&now.tasks).all(|(before, now)| {
            let now = runs(now);
            runs(before).iter().all(|one| now.contains(one))
        })
}

/// Something of a count that the runs do not say.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// `task 12`, `root_hash`.
    pub place: String,
    /// From the record.
    pub expected: String,
    /// From the runs.
    pub found: String,
}

fn summary(task: &Task) -> String {
    let attempts: Vec<String> = task
        .attempts
        .iter()
        .map(|one| {
            let id = one.run.as_ref().map_or_else(String::new, |id| format!(" {id}"));
            let why = one.why.as_deref().map_or_else(String::new, |why| format!(" ({why})"));
            format!("{} {}{id}{why}", one.directory, record::word(&one.state))
        })
        .collect();
    let attempts = if attempts.is_empty() { "no attempt".into() } else { attempts.join("; ") };
    format!("{}: {attempts}", task.state.as_str())
}

/// What of `record` differs from `now`, tasks first; nothing of when it was counted.
fn differences(record: &CampaignRecord, now: &CampaignRecord) -> Vec<Difference> {
    let mut out = Vec::new();
    let mut differs = |place: String, expected: String, found: String| {
        if expected != found {
            out.push(Difference { place, expected, found });
        }
    };
    differs("plan".into(), record.plan.to_string(), now.plan.to_string());
    differs("tasks".into(), record.tasks.len().to_string(), now.tasks.len().to_string());
    for (then, now) in record.tasks.iter().zip(&now.tasks) {
        if then != now {
            let (mut expected, found) = (summary(then), summary(now));
            if expected == found {
                expected.push_str(" (another field differs)");
            }
            differs(format!("task {}", now.index), expected, found);
        }
    }
    let text = |digest: &Digest| digest.to_string();
    differs("root_hash".into(), text(&record.root_hash), text(&now.root_hash));
    differs("complete".into(), record.complete.to_string(), now.complete.to_string());
    let counts =
        |record: &CampaignRecord| record::digest(&(&record.total, &record.cells)).to_string();
    differs("counts".into(), counts(record), counts(now));
    out
}

#[derive(Debug)]
pub struct Checked {
    pub record: CampaignRecord,
    /// Digest of the record.
    pub digest: Digest,
    pub differences: Vec<Difference>,
    pub other: Vec<String>,
}

impl Checked {
    /// The first thing that is wrong; `None` where the count is that of the runs.
    pub fn fault(&self) -> Option<Difference> {
        let other = || {
            self.other.first().map(|name| Difference {
                place: name.clone(),
                expected: "attempts at tasks of the plan, and nothing else".into(),
                found: "it is none".into(),
            })
        };
        self.differences.first().cloned().or_else(other)
    }
}

/// [`Reason::RunNotSealed`] for a campaign that was not counted.
pub fn counted(campaign: &Campaign) -> Result<CampaignRecord> {
    campaign.record()?.ok_or_else(|| {
        Error::new(Reason::RunNotSealed, "the campaign was not counted")
            .at(campaign.dir.join(RECORD).display().to_string())
            .expected("campaign.json")
            .found("none")
            .hint(format!("admit campaign seal {}", campaign.dir.display()))
    })
}

/// Makes the count again from the runs and compares: every run is checked as `admit verify` does.
pub fn verify(context: &Context, campaign: &Campaign) -> Result<Checked> {
    let record = counted(campaign)?;
    let now = status(context, campaign)?;
    let differences = differences(&record, &now.record);
    Ok(Checked { digest: record::digest(&record), record, differences, other: now.other })
}
