//! Python: a driver that makes the held-out calls and then starts pytest for the locked tests, in one process.
//!
//! One process is no weaker than two. The tests are in the hands of the code that they import, wherever they run; what no
//! code can forge are the results of the calls, which are compared outside.

use std::time::Duration;

use serde_json::{Value, json};

use super::held_out::{Asking, Draw, Drawn};
use super::sandboxed::{self, JudgeSandbox};
use super::tested::{OPTIONS, PYTEST};
use super::{Judge, Round, Tests};
use crate::error::{Error, Reason, Result};
use crate::host::nonce;
use crate::record::ids::RelPath;
use crate::run::fixture::Fixture;
use crate::run::patch::{Content, Files};
use crate::run::tools::{PYTHON_PATH, Tools};
use crate::sandbox::{Finished, Launcher, Limits, Policy};

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

/// What [`Judge::steering`] says: each would make every test pass.
const STEERED: &[(&str, &str, &str)] = &[
    (
        "a conftest that runs nothing",
        "conftest.py",
        "def pytest_pyfunc_call(pyfuncitem):\n    return True\n",
    ),
    ("options of pytest", "pytest.ini", "[pytest]\naddopts = --collect-only\n"),
    ("Python's own start", "sitecustomize.py", "import os\nos._exit(0)\n"),
    ("a path file", "x.pth", "import os; os._exit(0)\n"),
];

/// Whether a file of this path steers Python or pytest wherever it stands.
pub(super) fn steers(path: &RelPath) -> bool {
    STEERING.contains(&path.file_name()) || path.as_str().ends_with(".pth")
}

/// What both drivers begin with. A result of any type but JSON's own is no result: a subclass of `str` may say what it
/// likes about itself. Nor is a whole number beyond 64 bits, which readers of JSON round: another one would equal it.
const CALLS: &str = r#"
import importlib, importlib.util, itertools, json, os, random, sys
sys.dont_write_bytecode = True

def plain(value):
    kind = type(value)
    if kind is int:
        return -(2**63) <= value < 2**64
    if value is None or kind in (bool, float, str):
        return True
    if kind is list:
        return all(plain(item) for item in value)
    if kind is dict:
        return all(type(key) is str and plain(item) for key, item in value.items())
    return False

def outcome(module, function, args):
    try:
        result = getattr(importlib.import_module(module), function)(*args)
    except Exception as err:
        return {"raised": type(err).__name__}
    return {"value": result} if plain(result) else {"odd": type(result).__name__}

request = json.loads(sys.stdin.read())
"#;

/// Draws calls and answers them, beside the reference solution.
const DRAW: &str = r#"
calls = request["calls"]
if request["generator"]:
    spec = importlib.util.spec_from_file_location("generator", request["generator"])
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    made = list(itertools.islice(generator.generate(random.Random(request["seed"])), request["most"] + 1))
    if not made:
        sys.exit("the generator gives no calls")
    calls = calls + json.loads(json.dumps(made))
for call in calls:
    if not plain(call):
        sys.exit("a call with what is no value of JSON, or a whole number beyond 64 bits: " + repr(call)[:200])
sys.path.insert(0, os.getcwd())
results = [outcome(call[0], call[1], json.loads(json.dumps(call[2]))) for call in calls]
sys.stdout.write("\n" + request["delimiter"] + " " + json.dumps({"calls": calls, "results": results}) + "\n")
"#;

/// Makes the calls of a round, prints each result behind its own delimiter, and then runs the tests.
const ROUND: &str = r#"
sys.path.insert(0, os.getcwd())
for module, function, args, delimiter in request["calls"]:
    sys.stdout.write("\n" + delimiter + " " + json.dumps(outcome(module, function, args)) + "\n")
sys.stdout.flush()
sys.path[1:1] = request["path"]
import pytest
sys.exit(pytest.main(request["tests"]))
"#;

/// Judges Python with the host's interpreter and the pinned pytest.
#[derive(Clone, Copy)]
pub struct Python<'a> {
    /// Starts sandboxes; its scratch directory takes short-lived files.
    pub launcher: &'a Launcher,
    pub tools: &'a Tools,
    /// Longest time of a command.
    pub wall: Duration,
}

impl Judge for Python<'_> {
    fn steers(&self, path: &RelPath) -> bool {
        steers(path)
    }

    fn steering(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        STEERED
    }

    fn tests(&self, fixture: &Fixture, files: &Files) -> Result<Tests> {
        let finished = self.run_round(fixture, files, &[], &[])?;
        let found = PYTEST.found(&finished.stdout.text());
        Ok(Tests { found, log: super::note("tests", &finished) })
    }

    fn draw(&self, fixture: &Fixture, asking: &Asking) -> Result<Result<Drawn, String>> {
        let sandbox = JudgeSandbox::open(self.launcher, self.policy()?, &asking.solved)?;
        let mut input = asking.input.clone();
        input["generator"] = Value::Null;
        if let Some(text) = &fixture.generator {
            let name: RelPath = "generator.py".parse().map_err(sandboxed::internal)?;
            let beside = nonce()?;
            sandbox.write(&beside, &Files::from([(name, Content::plain(text.as_bytes()))]))?;
            input["generator"] = sandboxed::inside(&format!("{beside}/generator.py")).into();
        }
        let finished = self.run(sandbox, DRAW, &input)?;
        Ok(asking.read(&finished.not_killed(super::ENDED)?))
    }

    fn round(&self, fixture: &Fixture, draw: &Draw, round: u32, copy: &Files) -> Result<Round> {
        let (asked, ids) = (draw.ask()?, &fixture.record.test_ids);
        let finished = self.run_round(fixture, copy, &asked.calls, ids)?;
        let called = asked.compare(&finished);
        let tested = PYTEST.read(&finished, &finished.stdout, ids);
        let seen = Round::of(round, &called, super::TESTED, &tested);
        Ok(seen.ended(&format!("round {round}"), &finished))
    }
}

/// What pytest is asked: the fixture's own options and those that the judge needs, then the tests by id, all that it
/// finds where there are none.
fn options(fixture: &Fixture, ids: &[String]) -> Vec<String> {
    let own = fixture.record.verification_command.iter().skip(3).cloned();
    own.chain(OPTIONS.map(str::to_owned)).chain(ids.iter().cloned()).collect()
}

impl Python<'_> {
    /// Makes calls on a copy and runs these tests, all that pytest finds where there are none.
    fn run_round(
        &self,
        fixture: &Fixture,
        copy: &Files,
        calls: &[Value],
        ids: &[String],
    ) -> Result<Finished> {
        let sandbox = JudgeSandbox::open(self.launcher, self.policy()?, copy)?;
        let tests = options(fixture, ids);
        let input = json!({ "calls": calls, "tests": tests, "path": PYTHON_PATH });
        self.run(sandbox, ROUND, &input)
    }

    fn run(&self, mut sandbox: JudgeSandbox, driver: &str, input: &Value) -> Result<Finished> {
        let python = self.tools.pytest.as_ref().and_then(|p| p.python.executable.to_str());
        let python =
            python.ok_or_else(|| Error::new(Reason::BadArgument, "python's path is not UTF-8"))?;
        let argv = [python.to_owned(), "-I".into(), "-c".into(), format!("{CALLS}{driver}")];
        let stdin = crate::record::canonical(input);
        let finished = sandbox.run(argv.to_vec(), self.tools.environment(), stdin, self.wall)?;
        sandbox.end();
        Ok(finished)
    }

    fn policy(&self) -> Result<Policy> {
        let mut policy = Policy::new("judge").with_host_programs()?;
        self.tools.mount(&mut policy)?;
        policy.limits = Limits { address_space: Some(4 << 30), ..policy.limits };
        Ok(policy)
    }
}
