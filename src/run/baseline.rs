//! Same-run baselines: under the same policy no change must be rejected by tests and calls, and the reference patch must be
//! accepted. Where one of them does not hold, the judge tells nothing, and the run is void whatever the agent did.

use super::agent::fake;
use super::judge::{Bench, Judgement};
use crate::error::Result;
use crate::record::evidence::{Baseline, BaselinesOf};
use crate::sandbox::{Launcher, Policy};

/// Both baselines with what the judge said.
#[derive(Clone, Debug)]
pub struct Baselines {
    /// For the report: `no_change`, then `reference_patch`.
    pub rows: Vec<Baseline>,
    /// The judgements, in the same order.
    pub judgements: Vec<Judgement>,
    /// The run that made them, where it was another.
    pub of: Option<BaselinesOf>,
}

impl Baselines {
    pub fn held(&self) -> bool {
        self.rows.len() == 2 && self.rows.iter().all(Baseline::held)
    }
}

/// Runs both with the fake engine in sandboxes of the run's own policy. `below` is the workspace's place in the directory
/// that the policy hands out.
///
/// # Errors
/// Where sandbox or judge cannot work. A baseline that does not hold is a value.
pub fn baselines(
    launcher: &Launcher,
    bench: Bench<'_>,
    policy: &Policy,
    below: &str,
) -> Result<Baselines> {
    let fixture = bench.fixture;
    let mut all = Baselines { rows: Vec::new(), judgements: Vec::new(), of: None };
    let cases: [(&str, bool, &[u8]); 2] =
        [("no_change", false, b""), ("reference_patch", true, &fixture.reference_patch)];
    for (name, expected_accept, change) in cases {
        let worked = fake::work(launcher, policy, below, fixture, change)?;
        let judgement = bench.judge_own(&worked.snapshot)?;
        // An empty change is rejected for being empty too: what must be seen is that the tests reject it.
        let accepted = if expected_accept { judgement.passed } else { judgement.tests_passed };
        all.rows.push(Baseline {
            name: name.to_owned(),
            expected_accept,
            accepted,
            patch_digest: judgement.patch_digest.clone(),
            note: if judgement.passed { "accepted".into() } else { judgement.note() },
        });
        all.judgements.push(judgement);
    }
    Ok(all)
}
