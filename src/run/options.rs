//! What is asked of a run, and its clocks and limits.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::check::launch::Clocks;
use crate::error::Error;
use crate::evidence::EvidenceLimits;
use crate::gate::{Flags, RunRequest, from_old_variables};
use crate::lock::Spec;
use crate::proxy::server::ProxyLimits;
use crate::record::ids::Name;
use crate::record::task::TaskOf;

pub struct Options {
    /// Flags and variables.
    pub request: RunRequest,
    /// Why flags and variables could not be made one request; then `request` is the flags alone, and the run blocked.
    pub malformed: Option<Error>,
    pub provider: Spec,
    pub fixture: Name,
    /// Stop after the gate.
    pub dry_run: bool,
    /// Ask the model in a dry run too; a run that is none always asks.
    pub probe: bool,
    /// A rehearsal is a no.
    pub require_pass: bool,
    /// Another program than admit itself to build the sandbox with: `admit health` names one that cannot.
    pub launcher: Option<PathBuf>,
    pub clocks: Clocks,
    /// What the proxy allows. Its clock is set behind the run's.
    pub proxy: ProxyLimits,
    /// The run directory, made and empty; absent where one is made below the directory of runs.
    pub directory: Option<PathBuf>,
    /// The task of a campaign that the run is.
    pub campaign: Option<TaskOf>,
    /// What the evidence keeps.
    pub evidence: EvidenceLimits,
}

impl Options {
    /// What flags and the variables in `vars` ask for. Where they cannot be made one request, the run is that of the
    /// flags alone, and will be blocked.
    pub fn asked(
        vars: &BTreeMap<String, String>,
        flags: Flags,
        provider: Spec,
        fixture: Name,
    ) -> Self {
        let (request, malformed) = match from_old_variables(vars, flags.clone()) {
            Ok(request) => (request, None),
            Err(err) => (RunRequest { flags, ..RunRequest::default() }, Some(err)),
        };
        Self { malformed, ..Self::new(request, provider, fixture) }
    }

    /// A run with the usual clocks and limits.
    pub fn new(request: RunRequest, provider: Spec, fixture: Name) -> Self {
        Self {
            request,
            malformed: None,
            provider,
            fixture,
            dry_run: false,
            probe: true,
            require_pass: false,
            launcher: None,
            directory: None,
            campaign: None,
            clocks: Clocks::default(),
            proxy: ProxyLimits::default(),
            evidence: EvidenceLimits::default(),
        }
    }
}
