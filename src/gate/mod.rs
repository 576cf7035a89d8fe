//! The gate: facts -> admit or refuse, with every check's finding. Pure.
//!
//! Only [`decide`] can make an [`Admitted`], which carries the one [`Launch`] that was judged; no run of a provider starts
//! without one. What a binary shows of itself is asked without (`build/output.rs`): in a sandbox with it alone and no socket.

mod refuse;
mod request;
#[cfg(test)]
mod tests;

pub use refuse::Refusal;
pub use request::{Flags, RunRequest, VARIABLES, from_old_variables, malformed_class};

use crate::check::launch::Launch;
use crate::check::{self, Check, CheckPolicy, Engine, Facts, Purpose};
use crate::record::admission::ModelAdmission;
use crate::record::finding::{Finding, State};

/// The right to start one run. Made by [`decide`] only.
#[derive(Clone, Debug)]
pub struct Admitted {
    provider: Option<(Launch, ModelAdmission)>,
}

impl Admitted {
    /// What is started, and the admission of its model; `None` for the fake engine.
    pub fn provider(&self) -> Option<(&Launch, &ModelAdmission)> {
        self.provider.as_ref().map(|(launch, model)| (launch, model))
    }
}

#[derive(Clone, Debug)]
pub struct Decision {
    /// The right to start; `None` where a check said no.
    pub admitted: Option<Box<Admitted>>,
    /// One finding a check, in order.
    pub findings: Vec<Finding>,
}

/// Decides. Pure: the same facts and policy give the same decision.
pub fn decide(facts: &Facts, policy: &CheckPolicy) -> Decision {
    decide_but(None, facts, policy)
}

/// As [`decide`], with one check switched off: for the tests of this module, which show that each one is missed.
fn decide_but(off: Option<Check>, facts: &Facts, policy: &CheckPolicy) -> Decision {
    let findings = check::check_but(off, facts, policy);
    let holds = |(check, finding): (&Check, &Finding)| match finding.state {
        State::Ok => true,
        State::NotAsked => off == Some(*check) || !policy.decides_a_start(*check),
        State::Failed | State::NotReached => false,
    };
    let all = Check::ALL.iter().zip(&findings).all(holds);
    let admitted = all.then(|| admitted(facts, policy)).flatten().map(Box::new);
    Decision { admitted, findings }
}

/// The admitted run, if every value that it consists of is known.
fn admitted(facts: &Facts, policy: &CheckPolicy) -> Option<Admitted> {
    match policy.purpose {
        Purpose::Verify { .. } => None,
        Purpose::Run { engine: Engine::Fake, .. } => Some(Admitted { provider: None }),
        Purpose::Run { engine: Engine::Provider, .. } => {
            let model = facts.model.known()?.record.clone()?;
            let launch = facts.launch.known()?.clone();
            // The values that are started are the ones that were compared.
            let binary = facts.binary.known()?.content.as_ref()?;
            (binary.sha256 == launch.binary && model.model.as_str() == launch.proxy.model)
                .then_some(Admitted { provider: Some((launch, model)) })
        }
    }
}
