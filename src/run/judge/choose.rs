//! Which judge a fixture has.

use super::{Judge, bun, python};
use crate::error::{Error, Reason, Result};
use crate::record::fixture::JudgeName;
use crate::run::fixture::Fixture;
use crate::run::tools::Tools;
use crate::sandbox::Launcher;

/// The judge of a fixture.
///
/// # Errors
/// [`Reason::Internal`] where a program that it needs was not looked for.
pub fn of<'a>(
    fixture: &Fixture,
    launcher: &'a Launcher,
    tools: &'a Tools,
) -> Result<Box<dyn Judge + 'a>> {
    let missing = || Error::new(Reason::Internal, "a judge without its program");
    Ok(match fixture.record.judge {
        JudgeName::Python => Box::new(python::Python { launcher, tools }),
        JudgeName::Bun => {
            Box::new(bun::Bun { launcher, bun: tools.bun.as_ref().ok_or_else(missing)? })
        }
    })
}
