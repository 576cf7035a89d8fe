//! Making a plan: what will be run, everything by digest, before the first run.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::lock::{self, Spec};
use crate::record::admission::ModelPair;
use crate::record::campaign::{COUNTING, CampaignPlan, Cell, INTERVAL, MAX_ATTEMPTS};
use crate::record::evidence::RunStatus;
use crate::record::failure::FailureClass;
use crate::record::ids::Name;
use crate::record::{self, Record as _};
use crate::root::Root;
use crate::run::fixture;

/// What is asked of a campaign: every provider with every model on every fixture.
#[derive(Clone, Debug, clap::Args)]
pub struct Wanted {
    /// What people will call it
    pub name: Name,
    /// A provider, as locked; may be given again
    #[arg(long = "provider", value_name = "PROVIDER", required = true)]
    pub providers: Vec<Spec>,
    /// A model; may be given again
    #[arg(long = "model", value_name = "PROVIDER/MODEL", required = true)]
    pub models: Vec<ModelPair>,
    /// A fixture; may be given again
    #[arg(long = "fixture", value_name = "FIXTURE", default_value = "r1-string-slugify")]
    pub fixtures: Vec<Name>,
    /// Runs of each combination
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeats: u32,
    /// Attempts at each run, at most: only one that says nothing about the agent is followed by another
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ATTEMPTS)))]
    pub attempts: u32,
    /// The wall clock of a run
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: Option<u64>,
    /// Failure classes to count as the agent's, although they may be another's doing: killed_from_outside, interrupted, …
    #[arg(
        long, value_name = "CLASS,...", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(FailureClass::unscored().map(|class| class.as_str())).try_map(|text| record::of_word::<FailureClass>(&text))
    )]
    pub scored: Vec<FailureClass>,
    /// Count a rehearsal as a success: for a campaign with a scripted model
    #[arg(long)]
    pub rehearsal: bool,
}

/// # Errors
/// [`Reason::BadArgument`] with all that makes it no plan.
pub fn make(context: &Context, wanted: &Wanted) -> Result<CampaignPlan> {
    let root = context.root()?;
    let mut cells = Vec::new();
    for provider in &wanted.providers {
        for model in &wanted.models {
            for fixture in &wanted.fixtures {
                cells.push(cell(&root, provider, model, fixture)?);
            }
        }
    }
    let success = match wanted.rehearsal {
        true => vec![RunStatus::Pass, RunStatus::Rehearsed],
        false => vec![RunStatus::Pass],
    };
    let left_out = |class: &FailureClass| !wanted.scored.contains(class);
    let not_scored = FailureClass::unscored().filter(left_out).collect();
    let doubling = std::iter::successors(Some(1_u32), |k| k.checked_mul(2));
    let plan = CampaignPlan {
        schema: CampaignPlan::SCHEMA.to_string(),
        name: wanted.name.clone(),
        admit_version: env!("CARGO_PKG_VERSION").into(),
        cells,
        repeats: wanted.repeats,
        attempts: wanted.attempts,
        timeout_seconds: wanted.timeout,
        success,
        not_scored,
        counting: COUNTING.into(),
        interval: INTERVAL.into(),
        pass_k: doubling.take_while(|k| *k <= wanted.repeats).collect(),
    };
    let faults = plan.faults();
    match faults.is_empty() {
        true => Ok(plan),
        false => Err(Error::new(Reason::BadArgument, format!("no plan: {}", faults.join("; ")))
            .at(wanted.name.to_string())),
    }
}

/// The combination as the root has it now.
///
/// # Errors
/// Where the root has no such lock, record or fixture, and where the lock names no output for this platform.
pub fn cell(root: &Root, spec: &Spec, model: &ModelPair, name: &Name) -> Result<Cell> {
    let locked = lock::resolve(root, spec)?;
    let output = locked.output().ok_or_else(|| {
        Error::new(Reason::OutputNotLocked, "the lock names no output for this platform")
            .at(locked.place.clone())
            .hint(format!("admit build {0}, then admit lock {0} --update", spec.provider))
    })?;
    let path = model.path();
    let bytes = root.get(&path).ok_or_else(|| {
        Error::new(Reason::ModelNotAdmitted, "there is no admission of the model")
            .at(root.label())
            .expected(format!("a record of {model}"))
            .found("none")
            .hint("to see the records: admit model list; to record an approval: admit model add --help")
    })?;
    let model_record = record::parse_value(bytes)
        .map(|value| record::digest(&value))
        .map_err(|err| crate::root::bad_record(&root.place(&path), &err))?;
    let fixture = fixture::load(root, name)?;
    Ok(Cell {
        provider: spec.provider.clone(),
        lock: locked.digest.clone(),
        binary_sha256: output.sha256.digest().clone(),
        model: model.clone(),
        model_record,
        fixture: name.clone(),
        fixture_digest: fixture.digest,
    })
}

/// What of a planned cell this machine's records say otherwise: the first difference as an error.
pub fn still(root: &Root, planned: &Cell) -> Result<()> {
    let spec = Spec { provider: planned.provider.clone(), rev: None };
    let now = cell(root, &spec, &planned.model, &planned.fixture)?;
    let rows = [
        ("lock", &planned.lock, &now.lock),
        ("binary", &planned.binary_sha256, &now.binary_sha256),
        ("model record", &planned.model_record, &now.model_record),
        ("fixture", &planned.fixture_digest, &now.fixture_digest),
    ];
    match rows.into_iter().find(|(_, planned, now)| planned != now) {
        None => Ok(()),
        Some((what, planned, now)) => {
            Err(Error::new(Reason::PlanDiffers, format!("the {what} is not the planned one"))
                .at(root.label())
                .expected(planned.to_string())
                .found(now.to_string())
                .hint(
                    "use the root that the plan was made with, or make a plan of what is there now",
                ))
        }
    }
}

/// Where a campaign of this plan lies unless another place is named.
pub fn default_dir(context: &Context, plan: &CampaignPlan) -> Result<PathBuf> {
    let runs = context.runs_dir()?;
    let state = runs.parent().unwrap_or(&runs).to_owned();
    let digest = plan.digest().to_hex();
    let short = digest.get(..12).unwrap_or(&digest);
    Ok(state.join("campaigns").join(format!("{}-{short}", plan.name)))
}
