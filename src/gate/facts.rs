//! What the gate decides on: everything that was found out, each value able to say that it was not.

use std::net::IpAddr;

use crate::attest::Outcome as Signed;
use crate::error::Error;
use crate::record::admission::{ModelPair, ModelStatus};
use crate::record::failure::FailureClass;
use crate::record::ids::{CommitId, Digest};

/// Something that was looked for. Only [`Found::Known`] can pass a gate.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Found<T> {
    /// It is there, and this is it.
    Known(T),
    Absent,
    /// It is there and could not be read, and why.
    Unreadable(String),
    #[default]
    Unknown,
}

impl<T> Found<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Found::Known(value) => Some(value),
            _ => None,
        }
    }

    /// A look-up that may fail, as a fact: an error becomes [`Found::Unreadable`] with its words, nothing [`Found::Absent`].
    pub fn from_result(result: Result<Option<T>, Error>) -> Self {
        match result {
            Ok(Some(value)) => Found::Known(value),
            Ok(None) => Found::Absent,
            Err(err) => Found::Unreadable(err.to_string()),
        }
    }
}

/// Two values that must be equal.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared<T> {
    /// From the locked record.
    pub expected: T,
    pub found: T,
}

/// The root that records come from.
#[derive(Clone, Debug, PartialEq)]
pub struct RootFact {
    /// Which one, for people.
    pub label: String,
    /// Whether it is embedded, trusted by this user, or what a pipeline expects.
    pub trusted: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LockFact {
    pub place: String,
    pub digest: Digest,
    /// What is wrong with it; empty for a valid lock.
    pub faults: Vec<String>,
}

/// The recorded build report.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportFact {
    pub place: String,
    /// Whether its `source_admission_status` is `admitted`.
    pub source_admitted: bool,
    /// SHA-256 of the output that it reports.
    pub sha256: Digest,
}

/// The binary as it lies on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct BinaryFact {
    pub place: String,
    /// Whether it is a regular file (not a link, directory or device).
    pub regular: bool,
    pub executable: bool,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
}

/// The recorded proof that a digest shows the locked identity.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityFact {
    /// The digest it was proven for.
    pub sha256: Digest,
    /// What does not fit; empty where all of it does.
    pub faults: Vec<String>,
}

/// The task as the agent will read it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskFact {
    /// The parsed `<slug>.task.json`.
    pub json: serde_json::Value,
    /// The text of `<slug>.md`.
    pub markdown: String,
}

/// What the provider's licence allows.
#[derive(Clone, Debug, PartialEq)]
pub struct LicenceFact {
    /// As far as it is known.
    pub status: String,
    /// Stages that may run under it.
    pub allows: Vec<u8>,
}

/// The credentials that were looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct CredentialFact {
    /// The class that they were looked for under, as the record names it.
    pub class: String,
    /// Whether they are there. Where the class needs none: true.
    pub available: bool,
    /// Where they come from, never what they are: `environment variable NAME`, `file of mode 0600`, `none needed`.
    pub source: String,
}

/// The auth bridge on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct BridgeFact {
    pub claimed: bool,
    /// Whether a probe was answered through it. Read only where a bridge is needed.
    pub answered: Found<bool>,
}

/// Where the endpoint's address came from. The address itself is no fact of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointOrigin {
    Environment,
    /// A file that this user named.
    File,
    /// The scripted server inside admit.
    Embedded,
    /// An argument: visible to every process on the machine, so it is refused.
    Flag,
}

/// The addresses that the endpoint's name resolved to, once.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkFact {
    pub addresses: Vec<IpAddr>,
    /// Whether the endpoint is spoken to over TLS with a checked certificate.
    pub tls: bool,
}

/// What the probe's reply held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    Content,
    ToolCall,
    /// Reasoning and nothing else.
    ReasoningOnly,
    Failed(FailureClass),
}

/// The probe: the model list and one chat completion.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeFact {
    /// Whether `/v1/models` lists the admitted id.
    pub listed: bool,
    /// The `max_tokens` of the request.
    pub max_tokens: u32,
    pub outcome: ProbeOutcome,
}

/// How one ambient vector was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AmbientState {
    /// Whatever is planted cannot reach the program, and why.
    Neutralised(String),
    /// It was looked for and is not there.
    Clear,
    /// It is there, and where.
    Planted(String),
}

/// One ambient vector and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmbientFact {
    /// The vector's id in [`super::AMBIENT`].
    pub vector: String,
    pub state: AmbientState,
}

/// The sandbox as its own canaries found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxFact {
    /// Probes that got the answer they must get.
    pub held: Vec<String>,
    /// Probes that did not, or walls that cannot be built.
    pub failed: Vec<String>,
}

/// Everything that was found out before a run. The default is that nothing was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub root: Found<RootFact>,
    pub lock: Found<LockFact>,
    /// The locked commit and the one of the recorded build.
    pub source_pin: Found<Compared<CommitId>>,
    /// The locked toolchain's digest and the one of the recorded build.
    pub toolchain: Found<Compared<Digest>>,
    /// The recorded build report.
    pub report: Found<ReportFact>,
    /// Who signed it, where the root's policy asks.
    pub build_signed: Found<Signed>,
    /// SHA-256 of the output as locked for this platform.
    pub locked_output: Found<Digest>,
    pub binary: Found<BinaryFact>,
    pub identity: Found<IdentityFact>,
    /// The arguments that the program would get, without the program.
    pub command: Found<Vec<String>>,
    pub task: Found<TaskFact>,
    /// The stage that was asked for.
    pub stage: Found<u8>,
    pub licence: Found<LicenceFact>,
    /// The pairs that were asked for.
    pub requested: Found<Vec<ModelPair>>,
    /// What the admission record says.
    pub model: Found<ModelStatus>,
    /// Who signed that record, where the root's policy asks.
    pub model_signed: Found<Signed>,
    pub credentials: Found<CredentialFact>,
    pub bridge: Found<BridgeFact>,
    pub endpoint: Found<EndpointOrigin>,
    pub network: Found<NetworkFact>,
    pub probe: Found<ProbeFact>,
    pub ambient: Found<Vec<AmbientFact>>,
    /// The fixture's digest on record and as copied.
    pub fixture: Found<Compared<Digest>>,
    pub sandbox: Found<SandboxFact>,
}
