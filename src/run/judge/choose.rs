//! Which judge a fixture has.

use std::time::Duration;

pub use super::sandboxed::WALL;
use super::{Judge, bun, command, python};
use crate::error::{Error, Reason, Result};
use crate::record::fixture::JudgeName;
use crate::run::fixture::Fixture;
use crate::run::tools::Tools;
use crate::sandbox::Launcher;

/// The judge of a fixture, whose commands may take as long as `wall`: [`WALL`] in a run.
///
/// # Errors
/// [`Reason::Internal`] where a program that it needs was not looked for.
pub fn of<'a>(
    fixture: &Fixture,
    launcher: &'a Launcher,
    tools: &'a Tools,
    wall: Duration,
) -> Result<Box<dyn Judge + 'a>> {
    let missing = || Error::new(Reason::Internal, "a judge without its program");
    Ok(match fixture.record.judge {
        JudgeName::Python => Box::new(python::Python { launcher, tools, wall }),
        JudgeName::Bun => {
            let bun = tools.bun.as_ref().ok_or_else(missing)?;
            Box::new(bun::Bun { launcher, bun, wall })
        }
        JudgeName::Command => {
            let bun = tools.bun.as_ref().ok_or_else(missing)?;
            Box::new(command::Command { launcher, tools, bun, wall })
        }
    })
}
