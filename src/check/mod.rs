//! The one list of checks, for `verify`, the gate and the reports: each a pure function of the facts, which were
//! gathered once, and each with the checks that it hangs on.
//!
//! A fact that is absent, unreadable or was never found out fails its check. What hangs on a check that is no yes is
//! `not_reached`: no yes and no cause. What the purpose does not ask for is `not_asked`, with the reason.

pub mod ambient;
mod facts;
pub mod gather;
pub mod launch;
mod model;
mod provider;
mod run;
mod store;
pub mod survey;
mod task;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use crate::attest::Outcome as Signed;
use crate::error::Reason;
use crate::record::finding::{Finding, State};

pub use facts::*;
pub use task::{SECTIONS, TaskContract, command_shape, task_faults};

/// Who works on the fixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// An admitted provider binary.
    Provider,
    /// The fake engine: applies a patch or nothing, and starts no provider.
    Fake,
}

/// What the checks are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Does everything on this machine still match the records? Starts nothing and asks no server.
    Verify {
        /// Run the output again to see its identity.
        deep: bool,
        /// Whether a model is named, so that its admission can be looked at.
        model: bool,
    },
    Run {
        engine: Engine,
        /// Whether the model is asked; a run that is not a dry run always asks.
        probe: bool,
    },
}

/// In which purposes a check has a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Both,
    /// Verify, and a run of a provider.
    Provider,
    Verify,
    /// Verify with a model named, and a run of a provider.
    Model,
    /// A run of a provider only.
    Launch,
    /// A run of either engine.
    Run,
}

/// Declares [`Check`]: name, stable id, scope, and the checks that it hangs on.
macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $scope:ident, [$($needs:ident),* $(,)?];)*) => {
        /// The checks, in the order in which they are made and reported.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            pub const ALL: &'static [Check] = &[$(Check::$name,)*];

            /// The stable id.
            pub fn id(self) -> &'static str {
                match self { $(Check::$name => $id,)* }
            }

            fn scope(self) -> Scope {
                match self { $(Check::$name => Scope::$scope,)* }
            }

            /// The checks that must hold before this one says anything.
            pub fn needs(self) -> &'static [Check] {
                match self { $(Check::$name => &[$(Check::$needs),*],)* }
            }
        }
    };
}

checks! {
    /// What was asked for is whole, and flags and variables agree.
    Request = "request", Run, [];
    /// Stage 2 was asked for. Nothing else matters for a stage that does not run.
    Stage = "stage", Run, [Request];
    /// The root of the records is this user's, or trusted.
    RootTrusted = "root_trusted", Both, [Request, Stage];
    /// The provider's lock is there and valid.
    LockValid = "lock_valid", Provider, [RootTrusted];
    /// The lock has the output's digest for this platform.
    OutputLocked = "output_locked", Provider, [LockValid];
    /// The binary is there, as a regular file.
    BinaryPresent = "binary_present", Provider, [OutputLocked];
    BinaryExecutable = "binary_executable", Provider, [BinaryPresent];
    /// The binary is the one that the lock names.
    BinaryDigest = "binary_digest", Provider, [BinaryPresent];
    /// The build is on record, and the source by it admitted.
    BuildRecorded = "build_report_recorded", Provider, [OutputLocked];
    /// The build was made here, or is one of those which count by the word of others: a pulled one by the signatures that it was
    /// pulled by, which must hold now.
    BuiltBy = "built_by", Provider, [BuildRecorded];
    /// The recorded build is of the locked commit.
    SourcePin = "source_pin", Provider, [BuildRecorded];
    /// The recorded build used the locked toolchain.
    ToolchainDigest = "toolchain_digest", Provider, [BuildRecorded];
    /// The locked identity was proven of this output.
    BinaryIdentity = "binary_identity", Provider, [BuildRecorded];
    /// Everything else that the recorded build says is what the lock asks for and what was built here.
    BuildMatches = "build_report_matches", Provider, [BuiltBy, SourcePin, ToolchainDigest, BinaryIdentity];
    /// The recorded build is signed by those whom the root's policy or the user names.
    BuildSigned = "build_signed", Provider, [BuildRecorded];
    /// The source that was built lies in the store.
    SourceStored = "source_stored", Verify, [BinaryPresent, BuildRecorded];
    /// The pinned toolchain lies in the store.
    ToolchainStored = "toolchain_stored", Verify, [BinaryPresent];
    /// The source's packages lie in the store.
    PackagesStored = "packages_stored", Verify, [SourceStored];
    /// The output shows the locked identity when it is run again.
    IdentityShown = "identity_shown", Verify, [BinaryDigest];
    /// The provider's licence allows the stage.
    Licence = "licence", Provider, [LockValid];
    /// One model was asked for.
    ModelRequested = "model_requested", Model, [RootTrusted];
    /// Its admission record admits it.
    ModelAdmitted = "model_admitted", Model, [ModelRequested];
    /// The admission record is signed by those whom the root's policy names.
    ModelSigned = "model_signed", Model, [ModelAdmitted];
    /// Its credentials are there.
    Credentials = "credentials", Model, [ModelSigned];
    /// The auth bridge is claimed, where one is needed.
    AuthBridge = "auth_bridge", Launch, [ModelSigned];
    /// The endpoint is configured, and not by an argument.
    Endpoint = "endpoint_configured", Launch, [ModelSigned];
    /// Every address of the endpoint is inside the record's network class.
    Network = "network_class", Launch, [Endpoint];
    /// The fixture is the recorded one.
    FixtureDigest = "fixture_digest", Run, [RootTrusted];
    /// The task keeps the fixture's contract.
    TaskContract = "task_contract", Run, [RootTrusted];
    /// The host's programs that the fixture asks for are there.
    Tools = "tools", Run, [RootTrusted];
    /// The one argument list.
    CommandShape = "command_shape", Launch, [BinaryDigest, BuildRecorded, ModelAdmitted, Tools];
    /// Every ambient vector is closed.
    Ambient = "ambient_inputs", Launch, [BinaryDigest, BuildRecorded, ModelAdmitted, Tools];
    /// The sandbox can be built here, and every probe of it held.
    Sandbox = "sandbox", Run, [Request, Stage];
    /// The model answers in a shape that the agent can use. It hangs on every other check that decides a start: to
    /// ask sends the key, and no key goes out for a run that is refused.
    ResponseShape = "response_shape", Launch, [
        BinaryExecutable, BuildMatches, BuiltBy, BuildSigned, Licence, Credentials, AuthBridge, Network, FixtureDigest,
        TaskContract, CommandShape, Ambient, Sandbox,
    ];
}

/// The token limit of the probe. Small limits make reasoning models look as if they answered nothing.
pub const PROBE_MAX_TOKENS: u32 = 1024;

/// The provider whose credentials go through the auth bridge.
pub const BRIDGED_PROVIDER: &str = "openai-codex";

/// What the facts are held against.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub purpose: Purpose,
    /// The fixture's contract; verify has none.
    pub contract: Option<TaskContract>,
}

impl Policy {
    /// Why `check` is not asked; `None` where it is.
    fn leaves_out(&self, check: Check) -> Option<&'static str> {
        const FAKE: &str = "the fake engine starts no provider";
        const STARTS_NOTHING: &str = "verify starts nothing: admit run stage2 --dry-run";
        match (self.purpose, check.scope()) {
            (_, Scope::Both) => None,
            (Purpose::Verify { deep: false, .. }, _) if check == Check::IdentityShown => {
                Some("runs the output: admit verify --deep")
            }
            (Purpose::Verify { .. }, Scope::Provider | Scope::Verify) => None,
            (Purpose::Verify { model: true, .. }, Scope::Model) => None,
            (Purpose::Verify { .. }, Scope::Model) => {
                Some("no model is named: admit run stage2 --model PROVIDER/MODEL --dry-run")
            }
            (Purpose::Verify { .. }, Scope::Launch | Scope::Run) => Some(STARTS_NOTHING),
            (Purpose::Run { .. }, Scope::Verify) => {
                Some("a run needs the output only: admit verify")
            }
            (Purpose::Run { .. }, Scope::Run) => None,
            (Purpose::Run { engine: Engine::Fake, .. }, _) => Some(FAKE),
            (Purpose::Run { probe: false, .. }, _) if check == Check::ResponseShape => {
                Some("the probe was left out: admit run stage2 --dry-run --probe")
            }
            (Purpose::Run { .. }, _) => None,
        }
    }

    /// Whether a start hangs on `check`, asked for or not.
    pub fn decides_a_start(&self, check: Check) -> bool {
        let engine = match self.purpose {
            Purpose::Run { engine, .. } => engine,
            Purpose::Verify { .. } => Engine::Provider,
        };
        let run = Policy { purpose: Purpose::Run { engine, probe: true }, contract: None };
        run.leaves_out(check).is_none()
    }
}

/// Makes every check, in order.
pub fn check(facts: &Facts, policy: &Policy) -> Vec<Finding> {
    check_but(None, facts, policy)
}

/// As [`check`], with one check switched off: for tests that show that each one is missed.
pub(crate) fn check_but(off: Option<Check>, facts: &Facts, policy: &Policy) -> Vec<Finding> {
    let mut out = Vec::with_capacity(Check::ALL.len());
    let mut no: BTreeMap<Check, State> = BTreeMap::new();
    for check in Check::ALL.iter().copied() {
        let mut needed = check.needs().iter().filter(|needed| no.contains_key(needed));
        let finding = if off == Some(check) {
            Finding::not_asked(check.id(), "switched off")
        } else if let Some(why) = policy.leaves_out(check) {
            Finding::not_asked(check.id(), why)
        } else if let Some(first) = needed.next() {
            let more = needed.map(|check| check.id().to_owned());
            let because = std::iter::once(first.id().to_owned()).chain(more).collect();
            Finding::not_reached(check.id(), because)
        } else {
            make(check, facts, policy)
        };
        if matches!(finding.state, State::Failed | State::NotReached) {
            no.insert(check, finding.state);
        }
        out.push(finding);
    }
    out
}

fn make(check: Check, facts: &Facts, policy: &Policy) -> Finding {
    match check {
        Check::Request => run::request(facts),
        Check::Stage => run::stage(facts),
        Check::RootTrusted => provider::root_trusted(facts),
        Check::LockValid => provider::lock_valid(facts),
        Check::OutputLocked => provider::output_locked(facts),
        Check::BinaryPresent => provider::binary_present(facts),
        Check::BinaryExecutable => provider::binary_executable(facts),
        Check::BinaryDigest => provider::binary_digest(facts),
        Check::BuildRecorded => provider::build_recorded(facts),
        Check::SourcePin => provider::source_pin(facts),
        Check::ToolchainDigest => provider::toolchain_digest(facts),
        Check::BinaryIdentity => provider::binary_identity(facts),
        Check::BuildMatches => provider::build_matches(facts, policy),
        Check::BuiltBy => provider::built_by(facts),
        Check::BuildSigned => signed(check, &facts.build_signed),
        Check::SourceStored => store::source_stored(facts),
        Check::ToolchainStored => store::toolchain_stored(facts),
        Check::PackagesStored => store::packages_stored(facts),
        Check::IdentityShown => store::identity_shown(facts),
        Check::Licence => provider::licence(facts),
        Check::ModelRequested => model::requested(facts),
        Check::ModelAdmitted => model::admitted(facts),
        Check::ModelSigned => signed(check, &facts.model_signed),
        Check::Credentials => model::credentials(facts),
        Check::AuthBridge => model::auth_bridge(facts),
        Check::Endpoint => model::endpoint(facts),
        Check::Network => model::network(facts),
        Check::FixtureDigest => run::fixture_digest(facts),
        Check::TaskContract => run::task_contract(facts, policy),
        Check::Tools => run::tools(facts),
        Check::CommandShape => run::command_shape(facts),
        Check::Ambient => run::ambient_inputs(facts),
        Check::Sandbox => run::sandbox(facts),
        Check::ResponseShape => model::response_shape(facts),
    }
}

/// Holds one fact against `test`. `Ok` is what was found where it passes, `Err` where it does not. A fact that is no
/// known value fails with the word for it.
fn hold<T>(
    check: Check,
    fact: &Found<T>,
    expected: &str,
    fix: &str,
    test: impl FnOnce(&T) -> Result<String, (Reason, String)>,
) -> Finding {
    let failed =
        |reason, found: String| Finding::failed(check.id(), reason, expected, found).fix(fix);
    match fact {
        Found::Known(value) => match test(value) {
            Ok(found) => Finding::ok(check.id(), expected, found),
            Err((reason, found)) => failed(reason, found),
        },
        Found::Absent => failed(Reason::NotFound, "absent".into()),
        Found::Failed(failure) => Finding {
            class: failure.class,
            ..Finding::failed(
                check.id(),
                failure.reason,
                failure.expected.as_deref().unwrap_or(expected),
                &failure.found,
            )
            .fix(if failure.fix.is_empty() { fix } else { &failure.fix })
        },
        Found::Unknown => failed(Reason::NotFound, NOT_FOUND_OUT.into()),
    }
}

/// What a finding says of a fact that nothing looked for.
const NOT_FOUND_OUT: &str = "could not be found out";

/// A yes, or a no for `reason`.
fn ok_if(good: bool, reason: Reason, found: impl Into<String>) -> Result<String, (Reason, String)> {
    if good { Ok(found.into()) } else { Err((reason, found.into())) }
}

fn signed(check: Check, fact: &Found<Signed>) -> Finding {
    let no = match fact.known() {
        Some(Some(Err(no))) => Some(no),
        _ => None,
    };
    let expected = no.map_or("the signatures that the root's policy asks for", |no| &no.expected);
    let command = match check {
        Check::ModelSigned => "admit attest model --help".to_owned(),
        _ => "admit attest build --help".to_owned(),
    };
    let fix = no.map_or(command.as_str(), |no| &no.fix);
    hold(check, fact, expected, fix, |signed| match signed {
        None => Ok("the root's policy asks for none".into()),
        Some(Ok(held)) => Ok(format!("signed by {}", held.names())),
        Some(Err(no)) => Err((no.reason, format!("{}: {}", no.reason, no.found))),
    })
}
