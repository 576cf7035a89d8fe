//! One task: the next attempt at one index of the plan, in a directory that says which.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::directory::Campaign;
use super::plan;
use super::scheduler::Asked;
use crate::check::Engine;
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::gate::Flags;
use crate::lock::Spec;
use crate::record::campaign::{Attempt, AttemptState};
use crate::record::task::TaskOf;
use crate::run::{self, Options};

pub enum Done {
    /// An earlier attempt was scored; nothing was started.
    Before(Attempt),
    /// This attempt, and the run.
    Ran(u32, Box<run::Outcome>),
}

impl Done {
    /// 0 where there was a score already, else the run's.
    pub fn code(&self) -> u8 {
        match self {
            Self::Before(_) => 0,
            Self::Ran(_, outcome) => outcome.code,
        }
    }
}

/// # Errors
/// [`Reason::BadArgument`] for an index that the plan does not have; [`Reason::PlanDiffers`] where this machine's records are
/// not the planned ones, and [`Reason::LimitHit`] where all attempts were made: then nothing is started.
pub fn task(context: &Context, campaign: &Campaign, asked: &Asked) -> Result<Done> {
    let plan = &campaign.plan;
    let Some((_, cell)) = plan.cell(asked.index) else {
        return Err(Error::new(Reason::BadArgument, "the plan has no such task")
            .at(campaign.dir.display().to_string())
            .expected(format!("an index from 0 to {}", plan.tasks().saturating_sub(1)))
            .found(asked.index.to_string()));
    };
    plan::still(&*context.root()?, cell)?;
    let vars = context.host.vars();
    let flags = Flags {
        stage: Some(2),
        provider: Some(cell.provider.clone()),
        engine: Some(Engine::Provider),
        model: Some(cell.model.clone()),
        timeout: plan.timeout_seconds.map(Duration::from_secs),
        ..Flags::default()
    };
    let scored = |one: &Attempt| one.state == AttemptState::Scored;
    if let Some(one) = campaign.attempts(asked.index)?.into_iter().find(scored) {
        return Ok(Done::Before(one));
    }
    let (attempt, directory) = claim(campaign, asked.index)?;
    let spec = Spec { provider: cell.provider.clone(), rev: None };
    let outcome = run::run(
        context,
        &Options {
            directory: Some(directory),
            campaign: Some(TaskOf {
                plan: campaign.digest.clone(),
                index: asked.index,
                attempt,
                scheduler: asked.scheduler.clone(),
                job: asked.job.clone(),
                node: asked.node.clone(),
            }),
            ..Options::asked(&vars, flags, spec, cell.fixture.clone())
        },
    )?;
    Ok(Done::Ran(attempt, Box::new(outcome)))
}

/// Takes the lowest attempt that nobody has taken, by making its directory.
fn claim(campaign: &Campaign, index: u32) -> Result<(u32, PathBuf)> {
    for attempt in 1..=campaign.plan.attempts {
        let dir = campaign.run_dir(index, attempt);
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok((attempt, dir)),
            Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(err) => return Err(Error::io("make the run directory", &dir, err)),
        }
    }
    let attempts = campaign.plan.attempts;
    Err(Error::new(Reason::LimitHit, "every attempt at the task was made")
        .at(campaign.run_dir(index, attempts).display().to_string())
        .expected(format!("at most {attempts} attempts, as planned"))
        .found(format!("{attempts} attempts, and none says anything about the agent"))
        .hint(format!("admit campaign status {}", campaign.dir.display())))
}
