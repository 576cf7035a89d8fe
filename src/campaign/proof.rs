//! One task of a counted campaign shown alone: what proves that it belongs to the count, for those whom nothing else is shown.

use std::path::Path;

use super::tree;
use crate::error::{Error, Reason, Result};
use crate::host::files::{self, Links};
use crate::record::campaign::{CampaignRecord, InclusionProof};
use crate::record::{self, Record as _};

/// The longest proof that is read, in bytes: 20 attempts, each with a reason.
const MAX_PROOF: u64 = 1 << 20;

/// [`Reason::BadArgument`] for an index that the count does not have.
pub fn of(count: &CampaignRecord, index: u32) -> Result<InclusionProof> {
    let leaves: Vec<Vec<u8>> = count.tasks.iter().map(record::canonical).collect();
    let path = tree::path(&leaves, index as usize);
    let (Some(task), Some(path)) = (count.tasks.get(index as usize), path) else {
        return Err(Error::new(Reason::BadArgument, "the campaign has no such task")
            .expected(format!("an index below {}", count.tasks.len()))
            .found(index.to_string()));
    };
    Ok(InclusionProof {
        schema: InclusionProof::SCHEMA.to_string(),
        plan: count.plan.clone(),
        record: record::digest(count),
        root_hash: count.root_hash.clone(),
        tree_size: leaves.len() as u64,
        leaf_index: index.into(),
        path,
        task: task.clone(),
    })
}

pub fn read(path: &Path) -> Result<InclusionProof> {
    let bytes = files::read(path, Links::Follow, MAX_PROOF)?;
    record::parse(&bytes).map_err(|err| {
        Error::new(Reason::BadRecord, format!("it {err}")).at(path.display().to_string())
    })
}

/// Whether a proof is one: its task is a leaf of the tree with its hash.
pub fn proven(proof: &InclusionProof) -> bool {
    let leaf = record::canonical(&proof.task);
    let same = u64::from(proof.task.index) == proof.leaf_index;
    same && tree::included(&leaf, proof.leaf_index, proof.tree_size, &proof.path, &proof.root_hash)
}
