//! Calls of the patched code that the agent never sees: how they are drawn, what goes in, and the comparison of what is
//! printed.
//!
//! They are other ones in every run: the fixture's generator draws them from a seed that admit makes for the run and
//! seals with it. What the results must be comes from the reference solution, in a sandbox of its own; it is compared out
//! here. Driver and patched code share a process, so nothing that the driver says is trusted; since neither the answers
//! nor a way to them is inside, a program that prints them has to compute them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Reason, Result};
use crate::host::nonce;
use crate::record::fixture::HeldOutRecord;
use crate::record::ids::Digest;
use crate::record::{self, Record as _};
use crate::run::fixture::Fixture;
use crate::run::patch::{self, Files};
use crate::sandbox::{Exit, Finished};

/// Most calls of a round.
const MOST: usize = 2_000;

/// By what the calls of a run are drawn.
#[derive(Clone, Debug)]
pub struct Seed {
    nonce: String,
    secret: String,
}

impl Seed {
    /// A new one for the run of this nonce. The nonce stands in the agent's sandbox, so a secret goes in besides.
    pub fn new(run: &str) -> Result<Self> {
        Ok(Self::again(run, &nonce()?))
    }

    /// That of a sealed run.
    pub fn again(nonce: &str, secret: &str) -> Self {
        Self { nonce: nonce.to_owned(), secret: secret.to_owned() }
    }

    fn digest(&self) -> Digest {
        let text = format!("{}\n{}\n{}\n", HeldOutRecord::SCHEMA, self.nonce, self.secret);
        Digest::sha256(text.as_bytes())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It gave a plain value of JSON. Of a program: its exit code and what it printed, `{"exit": 0, "stdout": "…"}`.
    Value(Value),
    /// It ended with an error of this name.
    Raised(String),
    /// It gave a value of this type, which is none of JSON's: never right.
    Odd(String),
}

impl Outcome {
    fn words(&self) -> String {
        match self {
            Self::Value(value) => format!("gave {value}"),
            Self::Raised(name) => format!("raised {name}"),
            Self::Odd(name) => format!("gave a {name}, which is no plain value"),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct Call {
    module: String,
    function: String,
    args: Vec<Value>,
    expected: Outcome,
}

impl Call {
    fn name(&self) -> String {
        if self.module.is_empty() {
            return Value::from(self.args.clone()).to_string();
        }
        format!("{}.{}{}", self.module, self.function, Value::from(self.args.clone()))
    }
}

pub struct Asking {
    /// What it reads: `seed`, `calls` (those that are always made), how many it may draw at `most`, and the `delimiter` that it prints before its answer.
    pub(super) input: Value,
    /// The workspace with the reference solution.
    pub(super) solved: Files,
}

impl Asking {
    pub(super) fn read(&self, finished: &Finished) -> Result<Drawn, String> {
        read(finished, self.input["delimiter"].as_str().unwrap_or_default())
    }
}

/// Calls that were drawn, and what the reference solution gave for them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drawn {
    pub(super) calls: Vec<(String, String, Vec<Value>)>,
    pub(super) results: Vec<Outcome>,
}

/// The calls of a run, with what they must give.
#[derive(Clone, Debug)]
pub struct Draw {
    pub record: HeldOutRecord,
    calls: Vec<Call>,
    /// Calls for which the fixture names another result than the reference solution gives.
    pub differing: Vec<String>,
}

/// Draws the calls of a run by `run`, which starts a language's driver.
pub(super) fn draw(
    fixture: &Fixture,
    seed: &Seed,
    run: impl FnOnce(&Asking) -> Result<Result<Drawn, String>>,
) -> Result<Draw> {
    let name = &fixture.record.name;
    let bad = |what: &str, found: String| {
        Error::new(Reason::BadRecord, format!("the held-out calls of {name} cannot be drawn: {what}"))
            .at(format!("fixtures/{name}/"))
            .expected("calls [module, function, [arguments]], or of a program [[word, …], stdin], that the reference solution answers with plain values")
            .found(found)
            .hint(format!("admit fixture {name}"))
    };
    let solved = patch::apply(&fixture.workspace, &fixture.reference_patch)
        .map_err(|what| bad("the reference patch does not apply", what))?;
    let fixed: Vec<_> = fixture
        .record
        .held_out
        .iter()
        .flat_map(|group| group.cases.iter().map(move |case| (group, case)))
        .collect();
    let delimiter = nonce()?;
    let calls: Vec<Value> = fixed
        .iter()
        .map(|(group, case)| json!([group.module, group.function, case.args]))
        .collect();
    let seeded = seed.digest().to_hex();
    let input = json!({ "seed": seeded, "calls": calls, "delimiter": delimiter, "most": MOST });
    let drawn = run(&Asking { input, solved })?;
    let drawn = drawn.map_err(|what| {
        let ended = what.starts_with("the process ended with signal");
        let error = bad("the driver says", what);
        match ended {
            true => {
                error.hint("where a limit did that (ulimit -v, ulimit -s, a cgroup): allow more")
            }
            false => error,
        }
    })?;
    let Drawn { calls, results } = drawn;
    if calls.len() != results.len() || calls.len() < fixed.len() || calls.is_empty() {
        return Err(bad("calls and results do not fit", format!("{} calls", calls.len())));
    }
    if calls.len() > MOST {
        return Err(bad("too many", format!("{} calls, at most {MOST}", calls.len())));
    }
    let mut differing = Vec::new();
    let mut all = Vec::new();
    for (at, ((module, function, args), result)) in calls.into_iter().zip(results).enumerate() {
        let mut call = Call { module, function, args, expected: result };
        if let Outcome::Odd(kind) = &call.expected {
            let found = format!("{} gives a {kind}", call.name());
            return Err(bad("a result that is no value of JSON", found));
        }
        let named = fixed.get(at).and_then(|(_, case)| case.expected.as_ref());
        if let Some(named) = named.map(|named| Outcome::Value(named.clone()))
            && named != call.expected
        {
            differing.push(format!("{} {}", call.name(), call.expected.words()));
            call.expected = named;
        }
        all.push(call);
    }
    Ok(Draw { differing, ..Draw::of(fixture, seed, all) })
}

/// The line in which a program says why it ended. Bun says it before the places and its own version.
fn last_line(finished: &Finished) -> String {
    let text = finished.stderr.text();
    let bun = text.lines().rfind(|line| line.starts_with("error: ") || line.contains("Error: "));
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    let line = if last.is_some_and(|line| line.starts_with("Bun v")) { bun.or(last) } else { last };
    line.unwrap_or_default().to_owned()
}

fn ended(finished: &Finished) -> String {
    let end = crate::build::exit_text(&finished.exit);
    format!("the process ended with {end}: {}", last_line(finished))
}

fn read(finished: &Finished, delimiter: &str) -> Result<Drawn, String> {
    if finished.exit != Exit::Code(0) {
        return Err(ended(finished));
    }
    if finished.stdout.truncated() {
        return Err("too much output".into());
    }
    let text = finished.stdout.text();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(delimiter)?.strip_prefix(' '));
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err("not one line of calls".into());
    };
    let value = record::parse_value(line.as_bytes()).map_err(|err| err.to_string())?;
    serde_json::from_value(value).map_err(|err| err.to_string())
}

/// The calls of one round: each with its delimiter, and the results that stay out here.
pub(super) struct Asked<'a> {
    /// For the driver: module, function, arguments and delimiter, each.
    pub(super) calls: Vec<Value>,
    expected: Vec<(String, &'a Call)>,
}

impl Draw {
    /// No calls, to see the tests alone.
    pub(in crate::run) fn none(fixture: &Fixture) -> Self {
        Self::of(fixture, &Seed::again("", ""), Vec::new())
    }

    fn of(fixture: &Fixture, seed: &Seed, calls: Vec<Call>) -> Self {
        let record = HeldOutRecord {
            schema: HeldOutRecord::SCHEMA.to_string(),
            nonce: seed.nonce.clone(),
            secret: seed.secret.clone(),
            seed: seed.digest(),
            drawn: fixture.record.draws(),
            calls: calls.len() as u64,
            calls_sha256: record::digest(&calls),
        };
        Self { record, calls, differing: Vec::new() }
    }

    /// Every call with its outcome: `[module, function, arguments, outcome]`.
    pub(in crate::run) fn answers(&self) -> Value {
        let row = |call: &Call| json!([call.module, call.function, call.args, call.expected]);
        self.calls.iter().map(row).collect::<Vec<_>>().into()
    }

    /// What each call gives to the one who makes it, in order.
    pub(super) fn given(&self) -> impl Iterator<Item = &[Value]> {
        self.calls.iter().map(|call| call.args.as_slice())
    }

    /// Compares what was seen of each call in order. `Ok` and `Err` both say it in one line.
    pub(super) fn compare(&self, seen: &[Outcome]) -> Result<String, String> {
        let seen = seen.iter().cloned().map(Ok).chain(std::iter::repeat(Err("not made")));
        compare(self.calls.iter().zip(seen))
    }

    /// New delimiters for all calls.
    pub(super) fn ask(&self) -> Result<Asked<'_>> {
        let mut asked = Asked { calls: Vec::new(), expected: Vec::new() };
        for call in &self.calls {
            let delimiter = nonce()?;
            asked.calls.push(json!([call.module, call.function, call.args, delimiter]));
            asked.expected.push((delimiter, call));
        }
        Ok(asked)
    }
}

impl Asked<'_> {
    /// Compares what was printed. `Ok` and `Err` both say it in one line. How the process ended does not matter: what it
    /// printed is right or not.
    pub(super) fn compare(&self, finished: &Finished) -> Result<String, String> {
        if finished.stdout.truncated() {
            return Err("too much output".into());
        }
        let text = finished.stdout.text();
        let mut printed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (delimiter, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
            printed.entry(delimiter).or_default().push(rest);
        }
        let found = |delimiter: &str| match printed.get(delimiter).map(Vec::as_slice) {
            Some([one]) => record::parse_value(one.as_bytes())
                .ok()
                .and_then(|value| serde_json::from_value(value).ok())
                .ok_or("no JSON"),
            Some(_) => Err("two results"),
            None => Err("no result"),
        };
        match compare(self.expected.iter().map(|(delimiter, call)| (*call, found(delimiter)))) {
            Err(_) if printed.is_empty() => Err(ended(finished)),
            compared => compared,
        }
    }
}

/// Compares what each call came to, where that is known. How a case failed goes into the log of a finished run, never back
/// to an agent.
fn compare<'c>(
    found: impl Iterator<Item = (&'c Call, Result<Outcome, &'static str>)>,
) -> Result<String, String> {
    let (mut all, mut wrong) = (0, Vec::new());
    for (call, found) in found {
        all += 1;
        match found {
            Ok(found) if found == call.expected && !matches!(found, Outcome::Odd(_)) => {}
            Ok(found) => wrong.push(format!("{} {}", call.name(), found.words())),
            Err(what) => wrong.push(format!("{}: {what}", call.name())),
        }
    }
    match wrong.first() {
        None => Ok(format!("{all} of {all} right")),
        Some(first) => Err(format!("{} of {all} wrong, first: {first}", wrong.len())),
    }
}
