//! The gate: policy x facts -> admit or refuse, with every gate's row. Pure.
//!
//! All gates are evaluated and reported, in the order of [`Gate::ALL`]; one that does not pass is enough to refuse. A
//! fact that is absent, unreadable or was never found out does not pass. Only [`decide`] can make an [`Admitted`], and
//! nothing starts without one.

use crate::record::admission::ModelAdmission;
use crate::record::evidence::GateRow;
use crate::record::ids::Digest;
use crate::record::network::NetworkClass;

mod ambient;
mod answer;
mod check;
mod facts;
mod refuse;
mod request;
mod task;
#[cfg(test)]
mod tests;

pub use ambient::{AMBIENT, AmbientVector, Outcome};
use answer::Answer;
pub use facts::*;
pub use refuse::Refusal;
pub use request::{Engine, Flags, Request, VARIABLES, from_old_variables};
pub use task::{SECTIONS, TaskContract, command_shape, task_faults};

/// Declares [`Gate`]: name, stable id, and whether the gate holds for the fake engine, which starts no provider.
macro_rules! gates {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $fake:literal;)*) => {
        /// The gates, in the order in which they are reported.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Gate { $($(#[$doc])* $name,)* }

        impl Gate {
            /// Every gate, in order.
            pub const ALL: &'static [Gate] = &[$(Gate::$name,)*];

            pub fn id(self) -> &'static str {
                match self { $(Gate::$name => $id,)* }
            }

            /// Whether the gate holds for the fake engine too.
            pub fn holds_for_fake(self) -> bool {
                match self { $(Gate::$name => $fake,)* }
            }
        }
    };
}

gates! {
    /// The root of the records is this user's, or trusted.
    RootTrusted = "root_trusted", true;
    /// The provider's lock is there and valid.
    LockValid = "lock_valid", false;
    /// The recorded build is of the locked commit.
    SourcePin = "source_pin", false;
    /// The recorded build used the locked toolchain.
    ToolchainDigest = "toolchain_digest", false;
    /// The build report is recorded, and the source by it admitted.
    BuildReport = "build_report_recorded", false;
    /// The recorded build is signed by those whom the root's policy names.
    BuildSigned = "build_signed", false;
    /// The lock has the output's digest for this platform.
    OutputLocked = "output_locked", false;
    /// The binary is there, as a regular file.
    BinaryPresent = "binary_present", false;
    BinaryExecutable = "binary_executable", false;
    /// The binary has the locked and the recorded digest.
    BinaryDigest = "binary_digest", false;
    /// The locked identity was proven for this digest.
    BinaryIdentity = "binary_identity", false;
    /// The one argument list.
    CommandShape = "command_shape", false;
    /// The task keeps the fixture's contract.
    TaskContract = "task_contract", true;
    /// Stage 2 was asked for.
    Stage = "stage", true;
    /// The provider's licence allows the stage.
    Licence = "licence", false;
    ModelRequested = "model_requested", false;
    /// Its admission record admits it.
    ModelAdmitted = "model_admitted", false;
    /// The admission record is signed by those whom the root's policy names.
    ModelSigned = "model_signed", false;
    Credentials = "credentials", false;
    /// The auth bridge is claimed and answers, where one is needed.
    AuthBridge = "auth_bridge", false;
    /// The endpoint is configured, and not by an argument.
    Endpoint = "endpoint_configured", false;
    /// Every address of the endpoint is inside the record's network class.
    Network = "network_class", false;
    /// The model answers in a shape that the agent can use.
    ResponseShape = "response_shape", false;
    /// Every ambient vector is closed.
    Ambient = "ambient_inputs", true;
    /// The fixture is the recorded one.
    FixtureDigest = "fixture_digest", true;
    /// The sandbox's walls stand.
    Sandbox = "sandbox", true;
}

/// The token limit of the probe. Small limits make reasoning models look as if they answered nothing.
pub const PROBE_MAX_TOKENS: u32 = 1024;

/// The provider whose credentials go through the auth bridge.
pub const BRIDGED_PROVIDER: &str = "openai-codex";

/// What the facts are held against.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Who will work: decides which gates hold.
    pub engine: Engine,
    pub contract: TaskContract,
    /// Whether the response shape may be left out: a dry run without the probe. It then cannot admit.
    pub skip_probe: bool,
}

/// The right to start one run. Made by [`decide`] only.
#[derive(Clone, Debug)]
pub struct Admitted {
    engine: Engine,
    stage: u8,
    rows: Vec<GateRow>,
    provider: Option<AdmittedProvider>,
}

/// The provider's side of an admitted run.
#[derive(Clone, Debug)]
struct AdmittedProvider {
    binary: Digest,
    task_file: String,
    model: ModelAdmission,
    endpoint: EndpointOrigin,
    network: NetworkClass,
}

impl Admitted {
    pub fn engine(&self) -> Engine {
        self.engine
    }

    pub fn stage(&self) -> u8 {
        self.stage
    }

    pub fn rows(&self) -> &[GateRow] {
        &self.rows
    }

    /// SHA-256 of the binary; `None` for the fake engine.
    pub fn binary(&self) -> Option<&Digest> {
        self.provider.as_ref().map(|p| &p.binary)
    }

    /// The task file of the argument list.
    pub fn task_file(&self) -> Option<&str> {
        self.provider.as_ref().map(|p| p.task_file.as_str())
    }

    /// The admission record of the model.
    pub fn model(&self) -> Option<&ModelAdmission> {
        self.provider.as_ref().map(|p| &p.model)
    }

    pub fn endpoint(&self) -> Option<EndpointOrigin> {
        self.provider.as_ref().map(|p| p.endpoint)
    }

    /// The network class that the bridge enforces.
    pub fn network(&self) -> Option<NetworkClass> {
        self.provider.as_ref().map(|p| p.network)
    }
}

/// Start, or not.
#[derive(Clone, Debug)]
pub enum Verdict {
    Admit(Box<Admitted>),
    /// Something does not; never empty.
    Refuse(Vec<Refusal>),
}

/// The verdict with every gate's row.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Start, or not.
    pub verdict: Verdict,
    /// One row a gate, in order.
    pub rows: Vec<GateRow>,
}

/// Decides. Pure: the same facts and policy give the same decision.
pub fn decide(facts: &Facts, policy: &Policy) -> Decision {
    decide_but(None, facts, policy)
}

/// As [`decide`], with one gate switched off: for the tests of this module, which show that each gate is missed. Nothing
/// outside can ask for it.
fn decide_but(off: Option<Gate>, facts: &Facts, policy: &Policy) -> Decision {
    let mut rows = Vec::with_capacity(Gate::ALL.len());
    let mut refusals = Vec::new();
    for gate in Gate::ALL.iter().copied() {
        let answer = match gate {
            _ if off == Some(gate) => Answer::NotApplicable("switched off"),
            _ if policy.engine == Engine::Fake && !gate.holds_for_fake() => {
                Answer::NotApplicable("the fake engine starts no provider")
            }
            Gate::ResponseShape if policy.skip_probe => {
                Answer::NotChecked("the probe was left out")
            }
            _ => check::check(gate, facts, policy),
        };
        let (row, refusal) = answer.into_row(gate);
        rows.push(row);
        refusals.extend(refusal);
    }
    let verdict = match admitted(facts, policy, &rows) {
        Some(admitted) if refusals.is_empty() => Verdict::Admit(Box::new(admitted)),
        _ => Verdict::Refuse(refusals),
    };
    Decision { verdict, rows }
}

/// The admitted run, if every value that it consists of is known.
fn admitted(facts: &Facts, policy: &Policy, rows: &[GateRow]) -> Option<Admitted> {
    let provider = match policy.engine {
        Engine::Fake => None,
        Engine::Provider => {
            let model = facts.model.known()?.record.clone()?;
            Some(AdmittedProvider {
                binary: facts.binary.known()?.sha256.clone(),
                task_file: command_shape(facts.command.known()?).ok()?.to_owned(),
                network: NetworkClass::from_text(&model.allowed_network_class)?,
                endpoint: *facts.endpoint.known()?,
                model,
            })
        }
    };
    let stage = *facts.stage.known()?;
    Some(Admitted { engine: policy.engine, stage, rows: rows.to_vec(), provider })
}
