//! What the checks decide on: everything that was found out, each value able to say that it was not.

use std::net::IpAddr;

use super::launch::Launch;
use crate::attest::Signed;
use crate::error::{Error, Reason};
use crate::lock::Locked;
use crate::record::admission::{ModelPair, ModelStatus};
use crate::record::failure::FailureClass;
use crate::record::ids::Digest;
use crate::record::network::Network;
use crate::record::report::BuildReport;

/// Something that was looked for. Only [`Found::Known`] can pass a check.
#[derive(Clone, Debug, Default)]
pub enum Found<T> {
    Known(T),
    Absent,
    /// It is there and could not be read, or is not what it must be.
    Failed(Failure),
    /// It was not looked for.
    #[default]
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    pub expected: Option<String>,
    pub found: String,
    pub fix: String,
    /// What it means for a run, where that is more exact than the check.
    pub class: Option<FailureClass>,
}

impl From<&Error> for Failure {
    fn from(err: &Error) -> Self {
        let place = err.place().map(|place| format!(" ({place})")).unwrap_or_default();
        Self {
            reason: err.reason(),
            expected: err.expected_value().map(str::to_owned),
            found: err
                .found_value()
                .map_or_else(|| format!("unreadable: {err}"), |found| format!("{found}{place}")),
            fix: err.hints().join("; "),
            class: None,
        }
    }
}

impl<T> Found<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Found::Known(value) => Some(value),
            _ => None,
        }
    }

    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Found::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    pub fn unreadable(why: impl Into<String>) -> Self {
        let found = format!("unreadable: {}", why.into());
        let (expected, fix, class) = (None, String::new(), None);
        Found::Failed(Failure { reason: Reason::Io, expected, found, fix, class })
    }
}

impl<T> From<Result<Option<T>, Error>> for Found<T> {
    fn from(result: Result<Option<T>, Error>) -> Self {
        match result {
            Ok(Some(value)) => Found::Known(value),
            Ok(None) => Found::Absent,
            Err(err) => Found::Failed((&err).into()),
        }
    }
}

impl<T> From<Result<T, Error>> for Found<T> {
    fn from(result: Result<T, Error>) -> Self {
        result.map(Some).into()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Compared<T> {
    pub expected: T,
    pub found: T,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RootFact {
    /// Which one, with its digest.
    pub label: String,
    /// Why its records count; `None` where nothing says that they do.
    pub trusted: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Recorded {
    pub place: String,
    pub report: BuildReport,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BinaryFact {
    pub place: String,
    /// What it is, where it is no regular file.
    pub irregular: Option<String>,
    pub executable: bool,
    /// SHA-256, BLAKE3 and size of its bytes; absent where it is no regular file.
    pub content: Option<Content>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub sha256: Digest,
    pub blake3: Digest,
    pub size: u64,
}

/// The task as the agent will read it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskFact {
    /// The parsed `<slug>.task.json`.
    pub json: serde_json::Value,
    /// The text of `<slug>.md`.
    pub markdown: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CredentialFact {
    /// The class that they were looked for under, as the record names it.
    pub class: String,
    /// Whether they are there. Where the class needs none: true.
    pub available: bool,
    /// Where they come from, never what they are: `environment variable NAME`, `file of mode 0600`, `none needed`.
    pub source: String,
}

/// Where the endpoint's address came from. The address itself is no fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointOrigin {
    Environment,
    /// A file that this user named.
    File,
    /// The scripted model inside admit.
    Embedded,
}

/// The addresses that the endpoint's name resolved to, once.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkFact {
    /// The network of the model's record, as the root has it.
    pub network: Network,
    pub addresses: Vec<IpAddr>,
    /// Whether the endpoint is spoken to over TLS with a checked certificate.
    pub tls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeReply {
    Content,
    ToolCall,
    ReasoningOnly,
    Failed(FailureClass),
}

/// The probe: the model list and one completion.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeFact {
    /// Whether the model list has the admitted id.
    pub listed: bool,
    /// The token limit of the request, where its API has one.
    pub max_tokens: Option<u64>,
    pub outcome: ProbeReply,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxFact {
    /// Probes that got the answer they must get.
    pub held: Vec<String>,
    pub failed: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackagesFact {
    /// Of the source's own lock.
    pub all: usize,
    /// For this platform, each there with its digest.
    pub stored: usize,
    /// Of the list of all.
    pub digest: Digest,
}

/// Everything that was found out. The default is that nothing was.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The provider's name, for fixes that can be typed.
    pub provider: String,
    /// Flags and variables could be read and do not contradict each other.
    pub request: Found<()>,
    pub root: Found<RootFact>,
    pub lock: Found<Locked>,
    pub recorded: Found<Recorded>,
    /// What was built here, as the store has it.
    pub saved: Found<BuildReport>,
    /// Who signed the recorded build, where that is asked.
    pub build_signed: Found<Signed>,
    /// What the signatures by which the build was pulled say now; known and nothing where it was not pulled.
    pub pulled_signed: Found<Signed>,
    pub binary: Found<BinaryFact>,
    /// The locked commit and the NAR hash of its tree in the store.
    pub source_stored: Found<String>,
    pub toolchain_stored: Found<()>,
    pub packages_stored: Found<PackagesFact>,
    /// The first line of the output's help, run again.
    pub identity_shown: Found<String>,
    pub stage: Found<u8>,
    pub requested: Found<Vec<ModelPair>>,
    pub model: Found<ModelStatus>,
    /// What puts it on record, where a file was named that is not.
    pub model_fix: Option<String>,
    /// Who signed that record, where the root's policy asks.
    pub model_signed: Found<Signed>,
    pub credentials: Found<CredentialFact>,
    pub bridge_claimed: Found<bool>,
    pub endpoint: Found<EndpointOrigin>,
    pub network: Found<NetworkFact>,
    pub probe: Found<ProbeFact>,
    /// The fixture's digest on record and as copied.
    pub fixture: Found<Compared<Digest>>,
    pub task: Found<TaskFact>,
    /// The host's programs that the fixture asks for, in words.
    pub tools: Found<String>,
    pub launch: Found<Launch>,
    pub sandbox: Found<SandboxFact>,
}
