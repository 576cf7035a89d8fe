//! Proof for others: what admit checked, as signed in-toto statements that others can check without admit; and the
//! check of such statements against the things themselves and the policy of a root.
//!
//! | what | predicate type | subject |
//! |---|---|---|
//! | a recorded build | SLSA provenance v1 | the output |
//! | a rebuild with the same outcome | `urn:admit:predicate:rebuild:1` | the output |
//! | a verification that held | SLSA verification summary v1 | the output |
//! | a sealed run | in-toto test result v0.1 | the run's id |
//! | a campaign's plan | `urn:admit:predicate:campaign-plan:1` | the plan |
//! | a campaign's count | in-toto test result v0.1 | the count |
//! | a model admission | `urn:admit:predicate:model-admission:1` | the record's file |
//! | a release of admit itself | SLSA provenance v1 | the archive |
//!
//! A statement is made from records alone, so it is the same bytes each time; a verifier makes it again from the
//! records at hand and compares. URIs that begin with `urn:admit:` are admit's own names: they are registered
//! nowhere, lead nowhere, and claim no one's domain.

mod bundle;
mod campaign;
mod check;
mod demand;
mod expected;
pub mod keys;
mod link;
mod model;
mod provenance;
mod rebuild;
mod release;
mod run;
mod summary;
#[cfg(test)]
mod tests;

pub use bundle::{keep, with};
pub use campaign::{CAMPAIGN_PLAN, campaign_of, campaign_plan, campaign_result};
pub use check::{Held, Refused, Signed, both, bundle_path, check, demanded};
pub use demand::{Demand, Trusted};
pub use expected::Expected;
pub use link::{STEP, link};
pub use model::{MODEL_ADMISSION, ModelPredicate, model_admission};
pub use provenance::{BUILD_TYPE, BUILDER, PROVENANCE, provenance};
pub use rebuild::{REBUILD, rebuild};
pub use release::{Release, own_commit, release};
pub use run::{TEST_RESULT, test_result};
pub use summary::{SUMMARY, VERIFIER, summary};

use crate::record::ids::Timestamp;
use crate::record::lockfile::Lockfile;
use crate::record::report::{BuildReport, Origin};

/// The statement by which a recorded build is signed: its provenance; for a binary that admit did not build, that its
/// verification held.
pub fn of_build(report: &BuildReport, lock: &Lockfile, now: &Timestamp) -> Expected {
    match report.origin {
        Origin::Built | Origin::Published => provenance::expected(report, lock),
        // What was pulled was signed as what it was before; a record that says it was pulled twice is no build's.
        Origin::Pulled => match report.as_built() {
            first if first.origin == Origin::Adopted => summary(&first, lock, now),
            first => provenance::expected(&first, lock),
        },
        Origin::Adopted => summary(report, lock, now),
    }
}
