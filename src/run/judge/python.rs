//! Python: pytest for the locked tests, and a driver that makes the held-out calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::{Judge, Rows, calls, pytest_output};
use crate::error::{Error, Reason, Result};
use crate::host::nonce;
use crate::record::ids::{AbsPath, RelPath};
use crate::run::fixture::Fixture;
use crate::run::patch::Files;
use crate::run::tools::Tools;
use crate::run::workspace;
use crate::sandbox::{self, Command, Finished, Launcher, Limits, Mount, Policy, Sandbox};

/// Longest time of the tests and of the calls, each. Half a second is usual.
const WALL: Duration = Duration::from_secs(60);

/// Bytes of the judge's work directory.
const SPACE: u64 = 128 << 20;

/// Files that steer Python or pytest.
const STEERING: [&str; 8] = [
    "conftest.py",
    "pytest.ini",
    ".pytest.ini",
    "pyproject.toml",
    "tox.ini",
    "setup.cfg",
    "sitecustomize.py",
    "usercustomize.py",
];

/// Judges Python with the host's interpreter and the pinned pytest.
#[derive(Clone, Copy)]
pub struct Python<'a> {
    /// Starts sandboxes; its scratch directory takes short-lived files.
    pub launcher: &'a Launcher,
    pub tools: &'a Tools,
}

impl Judge for Python<'_> {
    fn steers(&self, path: &RelPath) -> bool {
        STEERING.contains(&path.file_name()) || path.as_str().ends_with(".pth")
    }

    fn locked_paths(&self, fixture: &Fixture) -> BTreeSet<RelPath> {
        let ids = fixture.record.test_ids.iter();
        ids.filter_map(|id| id.split("::").next()?.parse().ok()).collect()
    }

    /// The calls first, then the tests on a second copy.
    fn round(
        &self,
        fixture: &Fixture,
        round: u32,
        copy: &Files,
        rows: &mut Rows,
        log: &mut String,
    ) -> Result<bool> {
        let mut sandbox = sandbox::start(self.launcher, &self.policy()?)?;
        let owner = sandbox.owner();
        let dir = sandbox
            .directory()
            .ok_or_else(|| Error::new(Reason::Internal, "no directory came out of the sandbox"))?
            .try_clone()
            .map_err(|err| Error::io("keep the directory of", "the sandbox", err))?;

        // Names that nothing inside can have prepared.
        let names = [nonce()?, nonce()?];
        workspace::write_plain(&dir, &names[0], copy, owner)?;
        let asked = calls::Asked::new(&fixture.record.held_out)?;
        let argv = [self.python()?, "-I".into(), "-c".into(), calls::DRIVER.into()];
        let finished = self.run(&mut sandbox, argv.to_vec(), &names[0], asked.input())?;
        note(log, &format!("round {round}, calls"), &finished);
        let called = asked.compare(&finished);
        let id = format!("held_out_{round}");
        let expected = "every call prints the result that only admit knows";
        rows.add(&id, called.is_ok(), expected, called.clone().unwrap_or_else(|what| what));

        // What the calls left beside their copy could steer the tests: pytest looks for its configuration upward.
        if let Err(what) = workspace::empty(&dir, owner)? {
            rows.add(&format!("tests_{round}"), false, "the calls can be cleared away", what);
            return Ok(false);
        }
        workspace::write_plain(&dir, &names[1], copy, owner)?;
        let ids = &fixture.record.test_ids;
        let mut argv = vec![self.python()?];
        argv.extend(fixture.record.verification_command.iter().skip(1).cloned());
        argv.extend(pytest_output::OPTIONS.map(str::to_owned));
        argv.extend(ids.iter().cloned());
        let finished = self.run(&mut sandbox, argv, &names[1], Vec::new())?;
        note(log, &format!("round {round}, tests"), &finished);
        let tested = pytest_output::read(&finished, ids);
        let id = format!("tests_{round}");
        let expected = "every locked test ran and passed, none skipped";
        rows.add(&id, tested.is_ok(), expected, tested.clone().unwrap_or_else(|what| what));
        sandbox.end();
        Ok(called.is_ok() && tested.is_ok())
    }
}

impl Python<'_> {
    fn python(&self) -> Result<String> {
        let path = self.tools.python.executable.to_str().map(str::to_owned);
        path.ok_or_else(|| Error::new(Reason::BadArgument, "python's path is not UTF-8"))
    }

    fn run(
        &self,
        sandbox: &mut Sandbox,
        argv: Vec<String>,
        name: &str,
        stdin: Vec<u8>,
    ) -> Result<Finished> {
        let place: AbsPath = format!("{INSIDE}/{name}").parse().map_err(internal)?;
        let mut env: BTreeMap<String, String> = self.tools.environment();
        for (name, value) in
            [("HOME", INSIDE), ("TMPDIR", INSIDE), ("LANG", "C.UTF-8"), ("TZ", "UTC")]
        {
            env.insert(name.into(), value.into());
        }
        let mut command = Command::new(argv, place);
        (command.env, command.stdin, command.wall) = (env, stdin, WALL);
        sandbox.run(&command)
    }

    /// No socket, no network, nothing of the host but its programs.
    fn policy(&self) -> Result<Policy> {
        let mut policy = Policy::new("judge").with_host_programs()?;
        self.tools.mount(&mut policy)?;
        let inside: AbsPath = INSIDE.parse().map_err(internal)?;
        policy.mounts.push(Mount::Tmpfs {
            inside: inside.clone(),
            size: SPACE,
            inodes: 20_000,
            mode: 0o700,
        });
        policy.handout = Some(inside);
        policy.limits = Limits {
            address_space: Some(4 << 30),
            processes: 64,
            open_files: 256,
            file_size: SPACE,
        };
        Ok(policy)
    }
}

/// The judge's work directory in its sandbox.
const INSIDE: &str = "/judge";

fn internal(err: crate::record::ids::ParseError) -> Error {
    Error::new(Reason::Internal, "a path inside the sandbox").caused_by(err)
}

/// Adds what a command printed to the log, with its end.
fn note(log: &mut String, what: &str, finished: &Finished) {
    let end = crate::build::exit_text(&finished.exit);
    let (out, err) = (finished.stdout.text(), finished.stderr.text());
    // Writing to a String cannot fail.
    let _ = writeln!(log, "== {what}: {end}\n{}\n{}", out.trim_end(), err.trim_end());
}
