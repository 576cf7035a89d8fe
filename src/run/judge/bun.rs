//! TypeScript and JavaScript: `bun test` for the locked tests and a driver for the held-out calls, both with the pinned
//! Bun, and of the host nothing but the C library that it is linked against.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::held_out::{Asking, Draw, Drawn};
use super::sandboxed::{self, JudgeSandbox};
use super::tested::BUN;
use super::{Judge, Round, Tests};
use crate::build::work::c_library;
use crate::error::Result;
use crate::host::nonce;
use crate::record::ids::RelPath;
use crate::run::bun::{self, BunTool};
use crate::run::fixture::Fixture;
use crate::run::patch::{Content, Files};
use crate::sandbox::{Finished, Launcher, Policy};

/// Files that steer Bun, its test runner, or how a name is resolved.
const STEERING: [&str; 12] = [
    "bunfig.toml",
    ".bunfig.toml",
    "package.json",
    "tsconfig.json",
    "jsconfig.json",
    "bun.lock",
    "bun.lockb",
    "package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    ".npmrc",
    "node_modules",
];

/// What [`Judge::steering`] says: each would make every test pass.
const STEERED: &[(&str, &str, &str)] = &[
    ("a preload for the tests", "bunfig.toml", "[test]\npreload = [\"./never.ts\"]\n"),
    (
        "another test runner",
        "node_modules/bun/test.ts",
        "export const test = () => {}; export const expect = test;\n",
    ),
    (
        "other paths of modules",
        "tsconfig.json",
        "{\"compilerOptions\":{\"paths\":{\"*\":[\"./never.ts\"]}}}\n",
    ),
    ("options in the environment", ".env", "BUN_OPTIONS=--preload=./never.ts\n"),
    (
        "a script of the package",
        "package.json",
        "{\"name\":\"x\",\"scripts\":{\"test\":\"true\"}}\n",
    ),
];

/// What `bun test` takes for a test: `x.test.ts`, `x_test.ts`, `x.spec.ts`, `x_spec.ts` and so on.
fn is_test(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    ["test", "spec"].iter().any(|kind| {
        stem.strip_suffix(kind).is_some_and(|rest| rest.ends_with('.') || rest.ends_with('_'))
    })
}

/// Whether a file of this path steers Bun wherever it stands.
pub(super) fn steers(path: &RelPath) -> bool {
    let environment = |part: &str| part == ".env" || part.starts_with(".env.");
    path.parts().any(|part| STEERING.contains(&part) || environment(part))
        || is_test(path.file_name())
}

/// What both drivers begin with. What prints a result is taken before anything else is loaded. A result of any type but
/// JSON's own is no result.
const CALLS: &str = r#"
import { readFileSync, writeSync } from "node:fs";
const { parse, stringify } = JSON;
const { getPrototypeOf, keys } = Object;
const { isArray } = Array;
const { isFinite } = Number;
const root = process.cwd();

const plain = (value) => {
  if (value === null || typeof value === "boolean" || typeof value === "string") return true;
  if (typeof value === "number") return isFinite(value);
  if (typeof value !== "object") return false;
  const prototype = getPrototypeOf(value);
  if (isArray(value)) return prototype === Array.prototype && value.every(plain);
  return prototype === Object.prototype && keys(value).every((key) => plain(value[key]));
};

const outcome = async (module, name, args) => {
  try {
    const result = await (await import(`${root}/${module}`))[name](...args);
    return plain(result) ? { value: result } : { odd: typeof result };
  } catch (error) {
    return { raised: error instanceof Error ? error.name : typeof error };
  }
};

const say = (delimiter, what) => {
  let left = Buffer.from(`\n${delimiter} ${stringify(what)}\n`);
  while (left.length > 0) left = left.subarray(writeSync(1, left));
};

const request = parse(readFileSync(0, "utf-8"));
"#;

/// Draws calls. The generator's `random` is sfc32.
const GENERATE: &str = r#"
const seeded = (hex) => {
  let [a, b, c, d] = [0, 8, 16, 24].map((at) => parseInt(hex.slice(at, at + 8), 16) | 0);
  return () => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t | 0;
    return (t >>> 0) / 4294967296;
  };
};
const calls = request.calls;
if (request.generator) {
  const { generate } = await import(request.generator);
  let made = 0;
  for (const call of generate(seeded(request.seed))) {
    calls.push(parse(stringify(call)));
    if (++made > request.most) break;
  }
  if (made === 0) throw new Error("the generator gives no calls");
}
"#;

/// Answers them, beside the reference solution.
const ANSWER: &str = r#"
const results = [];
for (const [module, name, args] of calls) results.push(await outcome(module, name, parse(stringify(args))));
say(request.delimiter, { calls, results });
process.exit(0);
"#;

/// Makes the calls of a round, and prints each result behind its own delimiter.
const ROUND: &str = r#"
for (const [module, name, args, delimiter] of request.calls) say(delimiter, await outcome(module, name, args));
process.exit(0);
"#;

/// Judges TypeScript and JavaScript.
#[derive(Clone, Copy)]
pub struct Bun<'a> {
    pub launcher: &'a Launcher,
    pub bun: &'a BunTool,
    /// Longest time of a command.
    pub wall: Duration,
}

impl Judge for Bun<'_> {
    fn steers(&self, path: &RelPath) -> bool {
        steers(path)
    }

    fn steering(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        STEERED
    }

    fn tests(&self, fixture: &Fixture, files: &Files) -> Result<Tests> {
        let finished = self.run_tests(fixture, files, &BTreeSet::new())?;
        let found = BUN.found(&finished.stderr.text());
        Ok(Tests { found, log: super::note("tests", &finished) })
    }

    fn draw(&self, fixture: &Fixture, asking: &Asking) -> Result<Result<Drawn, String>> {
        let made = self.generate(fixture, asking, &asking.solved, ANSWER)?;
        Ok(asking.read(&made.not_killed(super::ENDED)?))
    }

    /// Calls and tests each in a sandbox of its own: what the calls leave in the home could steer the tests, and what
    /// either fills could keep the other from being written.
    fn round(&self, fixture: &Fixture, draw: &Draw, round: u32, copy: &Files) -> Result<Round> {
        let asked = draw.ask()?;
        let calls = self.calls(copy, ROUND, &nonce()?, &[], &json!({ "calls": asked.calls }))?;
        let tests = self.run_tests(fixture, copy, &self.locked_paths(fixture))?;
        let tested = BUN.read(&tests, &tests.stderr, &fixture.record.test_ids);
        let called = asked.compare(&calls);
        let seen = Round::of(round, &called, super::TESTED, &tested);
        let seen = seen.ended(&format!("round {round}, calls"), &calls);
        Ok(seen.ended(&format!("round {round}, tests"), &tests))
    }
}

impl Bun<'_> {
    /// Draws the calls of a fixture beside `files`, and ends the driver with `tail`: what it printed.
    pub(super) fn generate(
        &self,
        fixture: &Fixture,
        asking: &Asking,
        files: &Files,
        tail: &str,
    ) -> Result<Finished> {
        let mut input = asking.input.clone();
        let mut beside = Vec::new();
        input["generator"] = Value::Null;
        let place = nonce()?;
        if let Some(text) = &fixture.generator {
            beside.push(("generator.ts", text.as_str()));
            input["generator"] = sandboxed::inside(&format!("{place}/generator.ts")).into();
        }
        self.calls(files, &format!("{GENERATE}{tail}"), &place, &beside, &input)
    }

    /// Runs a driver on a copy, from the directory `place` with what lies `beside` it.
    fn calls(
        &self,
        copy: &Files,
        driver: &str,
        place: &str,
        beside: &[(&str, &str)],
        input: &Value,
    ) -> Result<Finished> {
        let mut sandbox = JudgeSandbox::open(self.launcher, self.policy()?, copy)?;
        let driver = format!("{CALLS}{driver}");
        let mut files = Files::new();
        for (name, text) in beside.iter().chain([&("driver.mjs", driver.as_str())]) {
            let path: RelPath = name.parse().map_err(sandboxed::internal)?;
            files.insert(path, Content::plain(text.as_bytes()));
        }
        sandbox.write(place, &files)?;
        let driver = sandboxed::inside(&format!("{place}/driver.mjs"));
        let argv = [bun::PROGRAM, "--no-install", "--env-file=/dev/null", "run", &driver];
        let argv = argv.map(str::to_owned).to_vec();
        let stdin = crate::record::canonical(input);
        let finished = sandbox.run(argv, environment(), stdin, self.wall)?;
        sandbox.end();
        Ok(finished)
    }

    /// Runs the tests of `paths`; all that the runner finds where there are none.
    fn run_tests(
        &self,
        fixture: &Fixture,
        copy: &Files,
        paths: &BTreeSet<RelPath>,
    ) -> Result<Finished> {
        let mut sandbox = JudgeSandbox::open(self.launcher, self.policy()?, copy)?;
        let mut argv = vec![bun::PROGRAM.to_owned()];
        argv.extend(fixture.record.verification_command.iter().skip(1).cloned());
        // A path with a dot before it is a file, and no pattern.
        argv.extend(paths.iter().map(|path| format!("./{path}")));
        let finished = sandbox.run(argv, environment(), Vec::new(), self.wall)?;
        sandbox.end();
        Ok(finished)
    }

    fn policy(&self) -> Result<Policy> {
        let mut policy = Policy::new("judge");
        policy.mounts = c_library()?;
        policy.mounts.push(self.bun.mount()?);
        Ok(policy)
    }
}

/// The closed list of variables. Bun changes what it prints where it takes its reader for a terminal or an agent.
fn environment() -> BTreeMap<String, String> {
    [
        ("PATH", bun::DIRECTORY),
        ("NO_COLOR", "1"),
        ("BUN_OPTIONS", ""),
        ("BUN_RUNTIME_TRANSPILER_CACHE_PATH", "0"),
        ("DO_NOT_TRACK", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_tests_are_known() {
        for name in ["a.test.ts", "a_test.js", "a.spec.tsx", "a_spec.mjs"] {
            assert!(is_test(name), "{name}");
        }
        for name in ["test.ts", "latest.ts", "a.ts", "contest.js"] {
            assert!(!is_test(name), "{name}");
        }
    }
}
