//! The fake engine: puts a patch into the workspace and commits it, as an agent would. It shows that fixture, sandbox and
//! judge work, and that the judge tells right from wrong; it can never be a pass.

use crate::error::{Error, Reason, Result};
use crate::run::fixture::Fixture;
use crate::run::reader::Reader;
use crate::run::snapshot::{self, Snapshot};
use crate::run::{patch, workspace};
use crate::sandbox::{self, Launcher, Policy, SandboxFacts};

#[derive(Debug)]
pub struct Worked {
    pub snapshot: Snapshot,
    /// Commits in the workspace at the start.
    pub commits: u64,
    pub sandbox: SandboxFacts,
}

/// Builds a sandbox of `policy`, writes the fixture's workspace at `below` in the directory that the policy hands out,
/// applies and commits `change`, and takes out what is there. An empty change is no commit.
///
/// # Errors
/// Those of the sandbox; [`Reason::BadArgument`] for a change that does not apply or a policy that hands out nothing.
pub fn work(
    launcher: &Launcher,
    policy: &Policy,
    below: &str,
    fixture: &Fixture,
    change: &[u8],
) -> Result<Worked> {
    let files = patch::apply(&fixture.workspace, change).map_err(|what| {
        Error::new(Reason::BadArgument, "the change does not apply to the fixture").found(what)
    })?;
    let sandbox = sandbox::start(launcher, policy)?;
    let dir = sandbox.directory().ok_or_else(|| {
        Error::new(Reason::BadArgument, "a policy for a run hands out a directory")
    })?;
    let owner = sandbox.owner();
    let first = workspace::write(dir, below, &fixture.workspace, owner)?;
    let commits = snapshot::take(dir, below, fixture)?.commits();
    if files != fixture.workspace {
        let before = &fixture.workspace;
        workspace::commit(dir, below, before, &files, &first, owner)?;
    }
    let snapshot = Reader::new(launcher, below, fixture, owner)?.read(dir)?;
    let facts = sandbox.facts().clone();
    sandbox.end();
    Ok(Worked { snapshot, commits, sandbox: facts })
}
