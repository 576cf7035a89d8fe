//! What is asked of a run, and its clocks and limits.

use std::path::PathBuf;

use crate::check::launch::Clocks;
use crate::evidence::Limits;
use crate::gate::Request;
use crate::lock::Spec;
use crate::proxy::server::Limits as ProxyLimits;
use crate::record::ids::Name;

pub struct Options {
    /// Flags and variables.
    pub request: Request,
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
    /// What the evidence keeps.
    pub evidence: Limits,
}

impl Options {
    /// A run with the usual clocks and limits.
    pub fn new(request: Request, provider: Spec, fixture: Name) -> Self {
        Self {
            request,
            provider,
            fixture,
            dry_run: false,
            probe: true,
            require_pass: false,
            launcher: None,
            clocks: Clocks::default(),
            proxy: ProxyLimits::default(),
            evidence: Limits::default(),
        }
    }
}
