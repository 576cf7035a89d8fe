//! How an agent is launched and read: the trait, and one file an implementation. `docs/agents.md` says what a new one
//! has to bring.

pub mod case;
pub mod command;
pub mod fake;
pub mod log;

use std::collections::BTreeMap;

use crate::check::ambient::BUN_OPTIONS;
use crate::check::launch::File;
use crate::error::Result;
use crate::record::admission::ModelAdmission;
use crate::record::ids::{AbsPath, Timestamp};
use crate::run::fixture::Fixture;
use log::Claimed;

/// The one writable place in the sandbox: a file system in memory with a limit, whose directory comes out to admit.
pub const WORKDIR: &str = "/work";
/// The proxy's port on the sandbox's loopback.
pub const PORT: u16 = 8080;

pub struct Parts<'a> {
    pub fixture: &'a Fixture,
    pub model: &'a ModelAdmission,
    /// The locked argument list, `{task}` where the task file's path belongs.
    pub shape: &'a [String],
    /// Stands where the key would; the real key never enters the sandbox.
    pub sentinel: &'a str,
    /// Whether the binary was built without autoloading.
    pub hardened: bool,
    /// The variables by which the host's programs work.
    pub tools: BTreeMap<String, String>,
    pub now: &'a Timestamp,
}

/// What an agent asks of its launch. Paths of files and directories are below [`WORKDIR`].
pub struct Prepared {
    /// Without the program.
    pub arguments: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// Parents first.
    pub directories: Vec<String>,
    pub files: BTreeMap<String, File>,
}

/// A claim without which the work is not whole.
pub struct Required {
    pub kind: &'static str,
    pub made: bool,
    /// What was claimed instead, where there was something.
    pub found: Option<String>,
}

/// How one kind of agent is launched and read.
pub trait Agent: Sync {
    /// The name in records: what a lock calls this way of running a provider.
    fn name(&self) -> &'static str;

    /// Where its binary is in the sandbox: alone in its directory, outside of [`WORKDIR`].
    fn program(&self) -> &'static str;

    /// The workspace's place below [`WORKDIR`].
    fn workspace(&self, fixture: &Fixture) -> String {
        // A prefix, so that no repository can be named like one of the directories beside it.
        format!("repo-{}", fixture.record.repo())
    }

    /// # Errors
    /// Where the fixture or the model cannot be expressed for this agent.
    fn prepare(&self, parts: &Parts<'_>) -> Result<Prepared>;

    /// The directory below [`WORKDIR`] in which the agent keeps the one log of the fixture's task; `None` where its
    /// standard output is its log.
    fn log_directory(&self, fixture: &Fixture) -> Option<String>;

    /// What a log claims. Written by the agent's side, so nothing in it is proof.
    fn read(&self, log: &[u8]) -> Claimed;

    /// Whether the log claims that the work itself is done, whatever the agent still does.
    fn work_done(&self, claimed: &Claimed) -> bool;

    /// The claims without which the work is not whole. Nothing that comes after the work is among them. `status`: how it
    /// ended where it ended by itself.
    fn required(&self, claimed: &Claimed, status: Option<i32>) -> Vec<Required>;

    /// Whether a required claim that was not made is the agent's own failure (`engine_failed`): where it has no work after
    /// the work, so that its end is the work's.
    fn ends_with_the_work(&self) -> bool {
        false
    }
}

/// The variables that every agent has, and those by which the host's programs work, which count first.
fn environment(hardened: bool, tools: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = [
        ("HOME", format!("{WORKDIR}/home")),
        ("TMPDIR", format!("{WORKDIR}/tmp")),
        ("PATH", "/usr/bin:/bin".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TZ", "UTC".to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ("PYTHONNOUSERSITE", "1".to_owned()),
        ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
        ("GIT_TERMINAL_PROMPT", "0".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if !hardened {
        env.insert("BUN_OPTIONS".into(), BUN_OPTIONS.into());
    }
    env.extend(tools.clone());
    env
}

pub(crate) fn path(text: &str) -> Result<AbsPath> {
    use crate::error::{Error, Reason};
    text.parse().map_err(|err| Error::new(Reason::Internal, "a path in the sandbox").caused_by(err))
}
