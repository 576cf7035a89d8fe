//! Python: a driver that makes the held-out calls and then starts pytest for the locked tests, in one process.
//!
//! One process is no weaker than two. The tests are in the hands of the code that they import, wherever they run; what no
//! code can forge are the results of the calls, which are compared outside.

use std::time::Duration;

use serde_json::{Value, json};

use super::held_out::{Asking, Draw, Drawn};
use super::sandboxed::{self, JudgeSandbox};
use super::{Judge, Round, Tests, pytest_output};
use crate::error::{Error, Reason, Result};
use crate::host::nonce;
use crate::record::ids::RelPath;
use crate::run::fixture::Fixture;
use crate::run::patch::{Content, Files};
use crate::run::tools::Tools;
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
        let mut sandbox = JudgeSandbox::open(self.launcher, self.policy()?)?;
        let name = nonce()?;
        sandbox.write(&name, files)?;
        let input = json!({
            "calls": [], "tests": options(fixture, &[]), "path": crate::run::tools::PYTHON_PATH,
        });
        let finished = self.run(&mut sandbox, ROUND, &name, &input)?;
        sandbox.end();
        let text = finished.stdout.text();
        let passed = |words: Vec<&str>| words == ["PASSED"];
        let found = pytest_output::seen(&text).unwrap_or_default().into_iter();
        let found = found.map(|(id, words)| (id.to_owned(), passed(words))).collect();
        Ok(Tests { found, log: super::note("tests", &finished) })
    }

    fn draw(&self, fixture: &Fixture, asking: &Asking) -> Result<Result<Drawn, String>> {
        let mut sandbox = JudgeSandbox::open(self.launcher, self.policy()?)?;
        let names = [nonce()?, nonce()?];
        sandbox.write(&names[0], &asking.solved)?;
        let mut input = asking.input.clone();
        input["generator"] = Value::Null;
        if let Some(text) = &fixture.generator {
            let name: RelPath = "generator.py".parse().map_err(sandboxed::internal)?;
            sandbox.write(&names[1], &Files::from([(name, Content::plain(text.as_bytes()))]))?;
            input["generator"] = sandboxed::inside(&format!("{}/generator.py", names[1])).into();
        }
        let finished = self.run(&mut sandbox, DRAW, &names[0], &input)?;
        sandbox.end();
        Ok(asking.read(&finished.not_killed(super::ENDED)?))
    }

    fn round(&self, fixture: &Fixture, draw: &Draw, round: u32, copy: &Files) -> Result<Round> {
        let mut sandbox = JudgeSandbox::open(self.launcher, self.policy()?)?;
        // A name that nothing inside can have prepared.
        let name = nonce()?;
        sandbox.write(&name, copy)?;
        let asked = draw.ask()?;
        let ids = &fixture.record.test_ids;
        let tests = options(fixture, ids);
        let path: Vec<&str> = crate::run::tools::PYTHON_PATH.to_vec();
        let input = json!({ "calls": asked.calls, "tests": tests, "path": path });
        let finished = self.run(&mut sandbox, ROUND, &name, &input)?;
        sandbox.end();
        let (called, tested) = (asked.compare(&finished), pytest_output::read(&finished, ids));
        let seen = Round::of(round, &called, super::TESTED, &tested);
        Ok(seen.ended(&format!("round {round}"), &finished))
    }
}

/// What pytest is asked: the fixture's own options and those that the judge needs, then the tests by id, all that it
/// finds where there are none.
fn options(fixture: &Fixture, ids: &[String]) -> Vec<String> {
    let own = fixture.record.verification_command.iter().skip(3).cloned();
    own.chain(pytest_output::OPTIONS.map(str::to_owned)).chain(ids.iter().cloned()).collect()
}

impl Python<'_> {
    fn run(
        &self,
        sandbox: &mut JudgeSandbox,
        driver: &str,
        name: &str,
        input: &Value,
    ) -> Result<Finished> {
        let python = self.tools.pytest.as_ref().and_then(|p| p.python.executable.to_str());
        let python =
            python.ok_or_else(|| Error::new(Reason::BadArgument, "python's path is not UTF-8"))?;
        let argv = [python.to_owned(), "-I".into(), "-c".into(), format!("{CALLS}{driver}")];
        let stdin = crate::record::canonical(input);
        sandbox.run(argv.to_vec(), name, self.tools.environment(), stdin, self.wall)
    }

    fn policy(&self) -> Result<Policy> {
        let mut policy = Policy::new("judge").with_host_programs()?;
        self.tools.mount(&mut policy)?;
        policy.limits = Limits { address_space: Some(4 << 30), ..policy.limits };
        Ok(policy)
    }
}
