//! `admit verify` of a campaign, and of one task of it that was shown alone: is the count that of the runs, signed by whom, and
//! did all succeed?

use std::path::Path;

use super::directory::Campaign;
use super::proof;
use super::seal::{self, Checked, Difference};
use crate::attest::{self, Expected, Signed};
use crate::context::Context;
use crate::error::{Error, Kind as ErrorKind, Reason, Result};
use crate::record::campaign::{CampaignRecord, InclusionProof, TaskState};
use crate::record::ids::Digest;
use crate::record::signing::StatementKind;
use crate::verify::{Signatures, bundle, runs};

#[derive(Debug)]
pub struct Verified {
    pub campaign: Campaign,
    pub checked: Checked,
    /// `None` where nobody asks and nothing is there, and of a count that is not that of the runs.
    pub signed: Signed,
}

impl Verified {
    pub fn is_of_the_runs(&self) -> bool {
        self.checked.fault().is_none()
    }

    /// Whether the count is that of the runs, and is signed as was asked.
    pub fn holds(&self) -> bool {
        self.is_of_the_runs() && !matches!(self.signed, Some(Err(_)))
    }

    /// Whether every task has a score and succeeded.
    pub fn succeeded(&self) -> bool {
        self.checked.record.complete && self.checked.record.total.failure == 0
    }

    /// 0 where it holds and every task succeeded; 5 where anything differs; that of signatures that do not do; else 1.
    pub fn exit_code(&self) -> u8 {
        match self.is_of_the_runs() {
            true => code(&self.signed, self.succeeded()),
            false => ErrorKind::Digest.exit_code(),
        }
    }
}

fn code(signed: &Signed, succeeded: bool) -> u8 {
    match signed {
        Some(Err(no)) => no.reason.kind().exit_code(),
        _ => u8::from(!succeeded),
    }
}

/// Holds a campaign's count against its runs, the id under which it was sealed where that came by another way, and who
/// signed it.
pub fn campaign(
    context: &Context,
    dir: &Path,
    id: Option<&Digest>,
    signatures: &Signatures,
) -> Result<Verified> {
    let campaign = Campaign::open(dir, None)?;
    let mut checked = seal::verify(context, &campaign)?;
    if let Some(id) = id.filter(|id| **id != checked.digest) {
        checked.differences.push(Difference {
            place: "campaign.json".into(),
            expected: id.to_string(),
            found: checked.digest.to_string(),
        });
    }
    let signed = match checked.fault() {
        None => signed(context, &campaign, &checked.record, signatures)?,
        Some(_) => None,
    };
    Ok(Verified { campaign, checked, signed })
}

/// Who signed a campaign's count in the bundle that was given or lies beside its directory.
fn signed(
    context: &Context,
    campaign: &Campaign,
    record: &CampaignRecord,
    signatures: &Signatures,
) -> Result<Signed> {
    let found = match signatures.given(context)? {
        Some(given) => Some(given),
        None => bundle(&runs::beside(&campaign.dir))?,
    };
    let expected = attest::campaign_result(&campaign.plan, record).into();
    by_whom(context, found, expected, signatures)
}

fn by_whom(
    context: &Context,
    bundle: Option<Vec<u8>>,
    expected: Expected,
    signatures: &Signatures,
) -> Result<Signed> {
    let Some(bundle) = bundle else { return Ok(None) };
    let root = context.root()?;
    let demand = signatures.demand(context, &root, StatementKind::Run)?;
    Ok(Some(attest::check(Some(&bundle), &[expected], &demand, &context.clock.now())))
}

#[derive(Debug)]
pub struct TaskVerified {
    pub shown: InclusionProof,
    pub signed: Signed,
}

impl TaskVerified {
    pub fn holds(&self) -> bool {
        !matches!(self.signed, Some(Err(_)))
    }

    pub fn succeeded(&self) -> bool {
        self.shown.task.state == TaskState::Success
    }

    /// 0 where it holds and the task succeeded; that of signatures that do not do; else 1.
    pub fn exit_code(&self) -> u8 {
        code(&self.signed, self.succeeded())
    }
}

/// Whether a task that was shown alone belongs to the count that it names; [`Reason::CampaignDiffers`] where it does not. Whose
/// count that is, a signature says, or `id` with the tree's hash.
pub fn task(
    context: &Context,
    file: &Path,
    id: Option<&Digest>,
    signatures: &Signatures,
) -> Result<TaskVerified> {
    let shown = proof::read(file)?;
    let differs = |what: &str, expected: String, found: String| {
        let err = Error::new(Reason::CampaignDiffers, what).at(file.display().to_string());
        Err(err.expected(expected).found(found))
    };
    if !proof::proven(&shown) {
        let what = format!("task {} of {}", shown.leaf_index, shown.tree_size);
        let expected = format!("{what} in the tree {}", shown.root_hash);
        return differs("it proves nothing", expected, "another task, or another path".into());
    }
    if let Some(id) = id.filter(|id| **id != shown.root_hash) {
        return differs("it is of another count", id.to_string(), shown.root_hash.to_string());
    }
    let given = signatures.given(context)?;
    let signed = by_whom(context, given, attest::campaign_of(&shown), signatures)?;
    Ok(TaskVerified { shown, signed })
}
