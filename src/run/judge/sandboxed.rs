//! The sandbox of one judging: a directory in memory that admit writes into, and commands that run there. No socket, no
//! network, nothing of the host but what the language's policy mounts.

use std::collections::BTreeMap;
use std::time::Duration;

use cap_std::fs::Dir;

use crate::error::{Error, Reason, Result};
use crate::host::nonce;
use crate::record::ids::{AbsPath, ParseError};
use crate::run::patch::Files;
use crate::run::workspace;
use crate::sandbox::{self, Command, Finished, Launcher, Limits, Mount, Owner, Policy, Sandbox};

/// The judge's directory in its sandbox.
const INSIDE: &str = "/judge";

/// Bytes of that directory.
const SPACE: u64 = 128 << 20;

/// Longest time of a command of a run's judge. Half a second is usual.
pub const WALL: Duration = Duration::from_secs(60);

pub(super) struct JudgeSandbox {
    sandbox: Sandbox,
    dir: Dir,
    owner: Owner,
    /// The place of the copy that is judged, which nothing inside can have prepared.
    copy: String,
}

pub(super) fn internal(err: ParseError) -> Error {
    Error::new(Reason::Internal, "a path inside the sandbox").caused_by(err)
}

/// The place of `name` in every sandbox of a judge.
pub(super) fn inside(name: &str) -> String {
    format!("{INSIDE}/{name}")
}

impl JudgeSandbox {
    /// Builds the sandbox of `policy` with the judge's directory and limits added, and `copy` in it.
    pub(super) fn open(launcher: &Launcher, mut policy: Policy, copy: &Files) -> Result<Self> {
        let inside: AbsPath = INSIDE.parse().map_err(internal)?;
        policy.mounts.push(Mount::Tmpfs {
            inside: inside.clone(),
            size: SPACE,
            inodes: 20_000,
            mode: 0o700,
        });
        policy.handout = Some(inside);
        policy.limits =
            Limits { processes: 64, open_files: 256, file_size: SPACE, ..policy.limits };
        let sandbox = sandbox::start(launcher, &policy)?;
        let owner = sandbox.owner();
        let dir = sandbox
            .directory()
            .ok_or_else(|| Error::new(Reason::Internal, "no directory came out of the sandbox"))?
            .try_clone()
            .map_err(|err| Error::io("keep the directory of", "the sandbox", err))?;
        let opened = Self { sandbox, dir, owner, copy: nonce()? };
        opened.write(&opened.copy, copy)?;
        Ok(opened)
    }

    pub(super) fn write(&self, name: &str, files: &Files) -> Result<()> {
        workspace::write_plain(&self.dir, name, files, self.owner)
    }

    /// Runs a command in the copy; the environment has what every judge sets besides.
    pub(super) fn run(
        &mut self,
        argv: Vec<String>,
        mut env: BTreeMap<String, String>,
        stdin: Vec<u8>,
        wall: Duration,
    ) -> Result<Finished> {
        let place: AbsPath = inside(&self.copy).parse().map_err(internal)?;
        for (name, value) in
            [("HOME", INSIDE), ("TMPDIR", INSIDE), ("LANG", "C.UTF-8"), ("TZ", "UTC")]
        {
            env.insert(name.into(), value.into());
        }
        let mut command = Command::new(argv, place);
        (command.env, command.stdin, command.wall) = (env, stdin, wall);
        self.sandbox.run(&command)
    }

    pub(super) fn end(self) {
        self.sandbox.end();
    }
}
