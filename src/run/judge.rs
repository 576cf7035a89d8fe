//! The judge: is what an agent left good? Decided from files that admit reads itself, by tests that it runs itself on a
//! copy that it makes itself, and by results that it compares itself.
//!
//! Tests alone can be forged from inside by one line (`os._exit(0)`, a patched runner, a `str` that equals everything):
//! whatever runs beside the patched code is in its hands. So two things must hold, twice, each time in a sandbox of its
//! own: the locked tests pass, and calls that the agent never saw print results which are compared out here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::calls;
use super::fixture::Fixture;
use super::patch::{self, Content, Files};
use super::snapshot::Snapshot;
use super::tests_run;
use super::tools::Tools;
use super::workspace;
use crate::error::{Error, Reason, Result};
use crate::record::ids::{AbsPath, Digest, RelPath};
use crate::sandbox::{self, Command, Finished, Launcher, Limits, Mount, Policy, Sandbox};

/// How often the tests and the calls are run.
pub const ROUNDS: u32 = 2;

/// Longest time of the tests and of the calls, each. Half a second is usual.
const WALL: Duration = Duration::from_secs(60);

/// Bytes of the judge's work directory.
const SPACE: u64 = 128 << 20;

/// Files that steer Python or pytest, wherever they stand: they come from the fixture, or not at all.
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeRow {
    pub id: String,
    pub passed: bool,
    /// What should have been found.
    pub expected: String,
    pub found: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// Whether every condition holds.
    pub passed: bool,
    pub rows: Vec<JudgeRow>,
    /// Whether the tests and the calls were right in every round, whatever else is wrong.
    pub tests_passed: bool,
    /// Whether every change lies within the allowed paths.
    pub allowed_writes_passed: bool,
    /// The difference to the fixture, as text; what is not UTF-8 is replaced in this copy.
    pub patch: String,
    /// SHA-256 of the difference's bytes; of nothing where there is none.
    pub patch_digest: Digest,
    /// What changed, in order.
    pub changed_files: Vec<String>,
    pub commit: Option<String>,
    /// What the tests and the calls printed.
    pub log: String,
}

impl Judgement {
    /// The conditions that do not hold, in one line; empty where all do.
    pub fn note(&self) -> String {
        let failed = self.rows.iter().filter(|row| !row.passed);
        failed.map(|row| format!("{}: {}", row.id, row.found)).collect::<Vec<_>>().join("; ")
    }
}

/// Everything that judging needs besides the work.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    /// Starts sandboxes; its scratch directory takes short-lived files.
    pub launcher: &'a Launcher,
    pub fixture: &'a Fixture,
    /// Python with the pinned pytest.
    pub tools: &'a Tools,
}

#[derive(Default)]
struct Rows(Vec<JudgeRow>);

impl Rows {
    fn add(&mut self, id: &str, passed: bool, expected: &str, found: impl Into<String>) {
        // What an agent wrote may be long; the row says what kind of thing it is.
        let found: String = found.into().chars().take(500).collect();
        let (id, expected) = (id.to_owned(), expected.to_owned());
        self.0.push(JudgeRow { id, passed, expected, found });
    }

    /// A condition that no path breaks.
    fn none(&mut self, id: &str, expected: &str, broken: &[String]) {
        let found = if broken.is_empty() { "none".to_owned() } else { broken.join(", ") };
        self.add(id, broken.is_empty(), expected, found);
    }
}

impl Judge<'_> {
    /// Judges what an agent left.
    ///
    /// # Errors
    /// Where the judge itself cannot work: no sandbox, no space, no interpreter. Whatever the work does is a judgement.
    pub fn judge(&self, work: &Snapshot) -> Result<Judgement> {
        let base = &self.fixture.workspace;
        let mut rows = Rows::default();
        let changed = patch::changed(base, &work.files);
        let text = patch::make(base, &work.files)?;
        let allowed = self.structure(work, &changed, &mut rows);
        let applied = patch::apply(base, &text);
        let same = match &applied {
            Ok(files) if *files == work.files => "it applies and gives the work tree".to_owned(),
            Ok(_) => "it applies and gives something else".to_owned(),
            Err(what) => what.clone(),
        };
        let fits = applied.as_ref().is_ok_and(|files| *files == work.files);
        rows.add("patch_applies", fits, "the patch applies strictly to the fixture", same);
        let mut log = String::new();
        let mut tests_passed = fits;
        if let Ok(files) = applied {
            let copy = self.restored(&files);
            for round in 1..=ROUNDS {
                tests_passed &= self.round(round, &copy, &mut rows, &mut log)?;
            }
        } else {
            rows.add("tests", false, "the locked tests pass", "not run: there is nothing to run");
        }
        let rows = rows.0;
        Ok(Judgement {
            passed: rows.iter().all(|row| row.passed),
            tests_passed,
            allowed_writes_passed: allowed,
            patch: String::from_utf8_lossy(&text).into_owned(),
            patch_digest: Digest::sha256(&text),
            changed_files: changed.iter().map(RelPath::to_string).collect(),
            commit: work.head.as_ref().map(|head| head.id.to_string()),
            log,
            rows,
        })
    }

    /// What can be said without running anything. Gives whether every change is allowed.
    fn structure(&self, work: &Snapshot, changed: &[RelPath], rows: &mut Rows) -> bool {
        let (base, record) = (&self.fixture.workspace, &self.fixture.record);
        rows.none("readable", "everything in the workspace can be read", &work.faults);
        rows.none("git_untouched", "a .git that nobody prepared", &work.git_faults);
        rows.add("change", !changed.is_empty(), "a change", format!("{} files", changed.len()));
        let list = |broken: &dyn Fn(&RelPath) -> bool| -> Vec<String> {
            changed.iter().filter(|path| broken(path)).map(RelPath::to_string).collect()
        };
        let special =
            list(&|path| work.files.get(path).is_some_and(|c| !matches!(c, Content::File { .. })));
        rows.none("regular_files", "no links and no special files", &special);
        let modes = list(&|path| match (base.get(path), work.files.get(path)) {
            (Some(before), Some(after)) => before.mode() != after.mode(),
            (None, Some(after)) => after.mode() == "100755",
            _ => false,
        });
        rows.none("modes", "no file with another mode", &modes);
        let outside = list(&|path| !record.allowed_paths.contains(path));
        rows.none("allowed_paths", "no change outside of the allowed paths", &outside);
        let tests = self.locked_paths();
        let touched = list(&|path| tests.contains(path) || steers(path));
        rows.none("tests_untouched", "no change to tests and their configuration", &touched);
        let (on_base, equal) = match &work.head {
            None => (false, "there is no readable commit".to_owned()),
            Some(head) => {
                let differing = patch::changed(&head.files, &work.files);
                let names: Vec<&str> = differing.iter().map(RelPath::as_str).collect();
                let equal = if names.is_empty() {
                    "equal".to_owned()
                } else {
                    format!("differs in {}", names.join(", "))
                };
                (head.on_base, equal)
            }
        };
        let found = if on_base { "it does" } else { "it does not" };
        rows.add("commit_on_base", on_base, "the commit follows the fixture's", found);
        rows.add("commit_is_worktree", equal == "equal", "the commit equals the work tree", equal);
        special.is_empty() && outside.is_empty() && work.faults.is_empty()
    }

    /// The files of the locked tests.
    fn locked_paths(&self) -> BTreeSet<RelPath> {
        let ids = self.fixture.record.test_ids.iter();
        ids.filter_map(|id| id.split("::").next()?.parse().ok()).collect()
    }

    /// The copy that is judged: of the work only what it was allowed to change; tests and configuration from the fixture.
    fn restored(&self, work: &Files) -> Files {
        let mut copy = self.fixture.workspace.clone();
        let tests = self.locked_paths();
        for path in &self.fixture.record.allowed_paths {
            if tests.contains(path) || steers(path) {
                continue;
            }
            match work.get(path) {
                Some(content) => copy.insert(path.clone(), content.clone()),
                None => copy.remove(path),
            };
        }
        copy
    }

    /// One round in a sandbox of its own: the calls first, then the tests on a second copy.
    fn round(&self, round: u32, copy: &Files, rows: &mut Rows, log: &mut String) -> Result<bool> {
        let mut sandbox = sandbox::start(self.launcher, &self.policy()?)?;
        let owner = sandbox.owner();
        let dir = sandbox
            .directory()
            .ok_or_else(|| Error::new(Reason::Internal, "no directory came out of the sandbox"))?
            .try_clone()
            .map_err(|err| Error::io("keep the directory of", "the sandbox", err))?;

        // Names that nothing inside can have prepared.
        let names = [calls::nonce()?, calls::nonce()?];
        workspace::write_plain(&dir, &names[0], copy, owner)?;
        let asked = calls::Asked::new(&self.fixture.record.held_out)?;
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
        let ids = &self.fixture.record.test_ids;
        let mut argv = vec![self.python()?];
        argv.extend(self.fixture.record.verification_command.iter().skip(1).cloned());
        argv.extend(tests_run::OPTIONS.map(str::to_owned));
        argv.extend(ids.iter().cloned());
        let finished = self.run(&mut sandbox, argv, &names[1], Vec::new())?;
        note(log, &format!("round {round}, tests"), &finished);
        let tested = tests_run::read(&finished, ids);
        let id = format!("tests_{round}");
        let expected = "every locked test ran and passed, none skipped";
        rows.add(&id, tested.is_ok(), expected, tested.clone().unwrap_or_else(|what| what));
        sandbox.end();
        Ok(called.is_ok() && tested.is_ok())
    }

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

/// Whether a file of this name steers Python or pytest.
fn steers(path: &RelPath) -> bool {
    STEERING.contains(&path.file_name()) || path.as_str().ends_with(".pth")
}

/// Adds what a command printed to the log, with its end.
fn note(log: &mut String, what: &str, finished: &Finished) {
    let end = crate::build::exit_text(&finished.exit);
    let (out, err) = (finished.stdout.text(), finished.stderr.text());
    // Writing to a String cannot fail.
    let _ = writeln!(log, "== {what}: {end}\n{}\n{}", out.trim_end(), err.trim_end());
}
