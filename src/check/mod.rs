//! The one list of checks, for `verify`, the gate and the reports: each a pure function of the facts, which were
//! gathered once, and each with the checks that it hangs on.
//!
//! A fact that is absent, unreadable or was never found out fails its check. What hangs on a check that is no yes is
//! `not_reached`: no yes and no cause. What the purpose does not ask for is `not_asked`, with the reason.

pub mod ambient;
mod facts;
pub mod files;
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

use crate::attest::Signed;
use crate::error::Reason;
use crate::record::finding::{Finding, State};

pub use facts::*;
pub use task::{SECTIONS, TaskContract, command_shape, task_faults};

/// Who works on the fixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// The admitted provider
    #[value(name = "case")]
    Provider,
    // What `--engine` shows is below; it applies a patch or nothing, and starts no provider.
    /// The reference patch
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

/// Declares [`Check`]: name, stable id, scope, the checks that it hangs on, and what makes it.
macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $scope:ident, [$($needs:ident),* $(,)?], $make:expr;)*) => {
        /// The checks, in the order in which they are made and reported. When each holds: [`crate::explain::checks`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            pub const ALL: &'static [Check] = &[$(Check::$name,)*];

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

            fn make(self) -> fn(&Facts, &CheckPolicy) -> Finding {
                match self { $(Check::$name => $make,)* }
            }
        }
    };
}

checks! {
    Request = "request", Run, [], |f, _| run::request(f);
    /// Nothing else matters for a stage that does not run.
    Stage = "stage", Run, [Request], |f, _| run::stage(f);
    RootTrusted = "root_trusted", Both, [Request, Stage], |f, _| provider::root_trusted(f);
    LockValid = "lock_valid", Provider, [RootTrusted], |f, _| provider::lock_valid(f);
    OutputLocked = "output_locked", Provider, [LockValid], |f, _| provider::output_locked(f);
    BinaryPresent = "binary_present", Provider, [OutputLocked], |f, _| provider::binary_present(f);
    BinaryExecutable = "binary_executable", Provider, [BinaryPresent], |f, _| provider::binary_executable(f);
    BinaryDigest = "binary_digest", Provider, [BinaryPresent], |f, _| provider::binary_digest(f);
    BuildRecorded = "build_report_recorded", Provider, [OutputLocked], |f, _| provider::build_recorded(f);
    /// A pulled build counts by the signatures that it was pulled by, which must hold now.
    BuiltBy = "built_by", Provider, [BuildRecorded], |f, _| provider::built_by(f);
    SourcePin = "source_pin", Provider, [BuildRecorded], |f, _| provider::source_pin(f);
    ToolchainDigest = "toolchain_digest", Provider, [BuildRecorded], |f, _| provider::toolchain_digest(f);
    BinaryIdentity = "binary_identity", Provider, [BuildRecorded], |f, _| provider::binary_identity(f);
    /// Held against the lock, and against what was built here.
    BuildMatches = "build_report_matches", Provider, [BuiltBy, SourcePin, ToolchainDigest, BinaryIdentity],
        provider::build_matches;
    BuildSigned = "build_signed", Provider, [BuildRecorded], |f, _| signed(Check::BuildSigned, &f.build_signed);
    SourceStored = "source_stored", Verify, [BinaryPresent, BuildRecorded], |f, _| store::source_stored(f);
    ToolchainStored = "toolchain_stored", Verify, [BinaryPresent], |f, _| store::toolchain_stored(f);
    PackagesStored = "packages_stored", Verify, [SourceStored], |f, _| store::packages_stored(f);
    IdentityShown = "identity_shown", Verify, [BinaryDigest], |f, _| store::identity_shown(f);
    Licence = "licence", Provider, [LockValid], |f, _| provider::licence(f);
    ModelRequested = "model_requested", Model, [RootTrusted], |f, _| model::requested(f);
    ModelAdmitted = "model_admitted", Model, [ModelRequested], |f, _| model::admitted(f);
    ModelSigned = "model_signed", Model, [ModelAdmitted], |f, _| signed(Check::ModelSigned, &f.model_signed);
    Credentials = "credentials", Model, [ModelSigned], |f, _| model::credentials(f);
    AuthBridge = "auth_bridge", Launch, [ModelSigned], |f, _| model::auth_bridge(f);
    Endpoint = "endpoint_configured", Launch, [ModelSigned], |f, _| model::endpoint(f);
    Network = "network_class", Launch, [Endpoint], |f, _| model::network(f);
    FixtureDigest = "fixture_digest", Run, [RootTrusted], |f, _| run::fixture_digest(f);
    TaskContract = "task_contract", Run, [RootTrusted], run::task_contract;
    Tools = "tools", Run, [RootTrusted], |f, _| run::tools(f);
    CommandShape = "command_shape", Launch, [BinaryDigest, BuildRecorded, ModelAdmitted, Tools],
        |f, _| run::command_shape(f);
    Ambient = "ambient_inputs", Launch, [BinaryDigest, BuildRecorded, ModelAdmitted, Tools],
        |f, _| run::ambient_inputs(f);
    Sandbox = "sandbox", Run, [Request, Stage], |f, _| run::sandbox(f);
    /// It hangs on every other check that decides a start: to ask sends the key, and no key goes out for a run that is
    /// refused.
    ResponseShape = "response_shape", Launch, [
        BinaryExecutable, BuildMatches, BuiltBy, BuildSigned, Licence, Credentials, AuthBridge, Network, FixtureDigest,
        TaskContract, CommandShape, Ambient, Sandbox,
    ], |f, _| model::response_shape(f);
}

/// The provider whose credentials go through the auth bridge.
pub const BRIDGED_PROVIDER: &str = "openai-codex";

#[derive(Clone, Debug, PartialEq)]
pub struct CheckPolicy {
    pub purpose: Purpose,
    /// The fixture's contract; verify has none.
    pub contract: Option<TaskContract>,
}

impl CheckPolicy {
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
        let run = CheckPolicy { purpose: Purpose::Run { engine, probe: true }, contract: None };
        run.leaves_out(check).is_none()
    }
}

pub fn check(facts: &Facts, policy: &CheckPolicy) -> Vec<Finding> {
    check_but(None, facts, policy)
}

/// As [`check`], with one check switched off: for tests that show that each one is missed.
pub(crate) fn check_but(off: Option<Check>, facts: &Facts, policy: &CheckPolicy) -> Vec<Finding> {
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
            check.make()(facts, policy)
        };
        if matches!(finding.state, State::Failed | State::NotReached) {
            no.insert(check, finding.state);
        }
        out.push(finding);
    }
    out
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

fn ok_if(good: bool, reason: Reason, found: impl Into<String>) -> Result<String, (Reason, String)> {
    if good { Ok(found.into()) } else { Err((reason, found.into())) }
}

fn no_faults(
    reason: Reason,
    faults: &[String],
    found: impl FnOnce() -> String,
) -> Result<String, (Reason, String)> {
    if faults.is_empty() { Ok(found()) } else { Err((reason, faults.join("; "))) }
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
