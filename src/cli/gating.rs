//! The gates as `admit verify` shows them: the same ones as of a run, without starting anything or asking anybody.

use super::app::App;
use crate::download::config::NetConfig;
use crate::error::{Kind, Result};
use crate::gate::{self, Engine, Flags, Gate, Policy, Request, from_old_variables};
use crate::lock::Locked;
use crate::record::evidence::{GateRow, GateStatus};
use crate::record::ids::Name;
use crate::root::Root;
use crate::run::facts::{self, ENDPOINT_FILE_VARIABLE, Sources};
use crate::run::{fixture, planned};
use crate::store::Store;

/// The fixture that a run takes where none is named.
const FIXTURE: &str = "r1-string-slugify";

/// Why verify cannot say what the gate would; `None` where it can.
fn left_out(gate: Gate, model_asked: bool) -> Option<&'static str> {
    match gate {
        Gate::ModelRequested | Gate::ModelAdmitted | Gate::ModelSigned | Gate::Credentials
            if !model_asked =>
        {
            Some("no model is asked for: admit run stage2 --model PROVIDER/MODEL --dry-run")
        }
        Gate::AuthBridge | Gate::Endpoint | Gate::Network | Gate::ResponseShape => {
            Some("verify asks nobody: admit run stage2 --model PROVIDER/MODEL --dry-run --probe")
        }
        Gate::Sandbox => Some("verify starts nothing: admit doctor"),
        _ => None,
    }
}

/// Every gate's row, and what a refusal among those that were checked means for the exit code.
///
/// # Errors
/// Where there is no fixture to hold the gates to, or the old set-up's variables contradict themselves.
pub(super) fn rows(
    app: &App,
    root: &Root,
    locked: &Locked,
    store: Option<&Store>,
) -> Result<(Vec<GateRow>, Option<Kind>)> {
    let name: Name = FIXTURE.parse().map_err(|err| {
        crate::error::Error::new(crate::error::Reason::Internal, "a constant name").caused_by(err)
    })?;
    let fixture = fixture::load(root, &name)?;
    let mut vars = app.context.host.vars();
    let provider = Some(locked.lock.provider.clone());
    let flags = Flags { stage: Some(2), provider, ..Flags::default() };
    // Where the endpoint is, is not looked at: its name would have to be resolved.
    let request = Request { endpoint: None, ..from_old_variables(&vars, flags)? };
    vars.remove(ENDPOINT_FILE_VARIABLE);
    let now = app.context.clock.now();
    let plan = planned::planned(root, &fixture, Some(locked), "sentinel", &now);
    let gathered = facts::gather(
        &Sources {
            root,
            request: &request,
            locked: Ok(locked),
            store,
            vars: &vars,
            net: &NetConfig::from_env(&vars),
            now,
            launcher: None,
            script: &fixture.script,
            probe: false,
        },
        Some(plan),
    );
    let contract = planned::contract(&fixture)?;
    let policy = Policy { engine: Engine::Provider, contract, skip_probe: true };
    let decision = gate::decide(&gathered.facts, &policy);
    let asked = request.model.is_some();
    // Of signatures verify has a row of its own, with an exit code of its own.
    let checked = |gate: Gate| {
        !matches!(gate, Gate::BuildSigned | Gate::ModelSigned) && left_out(gate, asked).is_none()
    };
    let kinds: Vec<Kind> =
        decision.refusals().iter().filter(|r| checked(r.gate)).map(|r| r.kind).collect();
    let kind = match kinds.contains(&Kind::Digest) {
        true => Some(Kind::Digest),
        false => (!kinds.is_empty()).then_some(Kind::No),
    };
    let row = |(gate, row): (&Gate, GateRow)| match left_out(*gate, asked) {
        None => row,
        Some(why) => {
            GateRow { status: GateStatus::NotChecked, found: why.into(), fix: String::new(), ..row }
        }
    };
    Ok((Gate::ALL.iter().zip(decision.rows).map(row).collect(), kind))
}
