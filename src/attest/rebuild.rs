//! That somebody built it again and got the same bytes. One such statement shows little; those of several who share neither
//! machine nor key show that the output follows from the lock.

use serde_json::json;

use super::expected::Expected;
use crate::build::BUILDER;
use crate::record::lockfile::Lockfile;
use crate::record::report::BuildReport;
use crate::record::statement::{Statement, digest_set};

pub const REBUILD: &str = "urn:admit:predicate:rebuild:1";

/// The statement that the output of `report` was built again from this lock with the same outcome. The revision of admit's
/// build code may differ in one that was signed: that another one gives the same bytes is no less.
pub fn rebuild(report: &BuildReport, lock: &Lockfile) -> Expected {
    let predicate = json!({
        "result": "reproduced",
        "lock": { "uri": format!("urn:admit:lock:{}", lock.provider), "digest": digest_set(&lock.digest()) },
        "source": { "digest": { "gitCommit": report.pinned_commit } },
        "builder": { "digest": { "sha256": BUILDER }, "version": env!("CARGO_PKG_VERSION") },
    });
    let (output, sha256) = (report.output.as_str(), report.sha256.digest());
    Expected {
        free: &["/predicate/builder"],
        ..Statement::about(output, sha256, REBUILD, predicate).into()
    }
}
