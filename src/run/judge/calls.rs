//! Calls of the patched code that the agent never sees: what goes in, and the comparison of what is printed.
//!
//! The driver and the patched code share a process, so nothing that the driver says is trusted. The expected results are
//! never inside: a program that prints them has to compute them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::error::Result;
use crate::host::nonce;
use crate::record;
use crate::record::fixture::HeldOut;
use crate::sandbox::{Exit, Finished};

/// Reads the calls from standard input, makes them in one process, and prints each result behind its own delimiter.
/// A result of any type but JSON's own is no result: a subclass of `str` may say what it likes about itself.
pub(super) const DRIVER: &str = r#"
import importlib, json, os, sys

def plain(value):
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return True
    if kind is list:
        return all(plain(item) for item in value)
    if kind is dict:
        return all(type(key) is str and plain(item) for key, item in value.items())
    return False

calls = json.loads(sys.stdin.read())
sys.path.insert(0, os.getcwd())
for call in calls:
    function = getattr(importlib.import_module(call["module"]), call["function"])
    result = function(*call["args"])
    if not plain(result):
        sys.exit("a result of type " + type(result).__name__)
    sys.stdout.write("\n" + call["delimiter"] + " " + json.dumps(result) + "\n")
sys.stdout.flush()
"#;

/// The calls of one round: each with its delimiter, and the results that stay out here.
pub(super) struct Asked {
    input: Vec<u8>,
    expected: Vec<(String, String, Value)>,
}

impl Asked {
    /// New delimiters for all cases.
    pub(super) fn new(held_out: &[HeldOut]) -> Result<Self> {
        let (mut calls, mut expected) = (Vec::new(), Vec::new());
        for group in held_out {
            for case in &group.cases {
                let delimiter = nonce()?;
                calls.push(json!({
                    "module": group.module, "function": group.function,
                    "args": case.args, "delimiter": delimiter,
                }));
                let name = format!(
                    "{}.{}{}",
                    group.module,
                    group.function,
                    Value::from(case.args.clone())
                );
                expected.push((delimiter, name, case.expected.clone()));
            }
        }
        Ok(Self { input: record::canonical(&calls), expected })
    }

    /// What the driver reads.
    pub(super) fn input(&self) -> Vec<u8> {
        self.input.clone()
    }

    /// Compares what was printed. `Ok` and `Err` both say it in one line.
    pub(super) fn compare(&self, finished: &Finished) -> Result<String, String> {
        if finished.exit != Exit::Code(0) {
            let last = finished.stderr.text();
            let last = last.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            let end = crate::build::exit_text(&finished.exit);
            return Err(format!("the process ended with {end}: {last}"));
        }
        if finished.stdout.truncated() {
            return Err("too much output".into());
        }
        let text = finished.stdout.text();
        let mut printed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (delimiter, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
            printed.entry(delimiter).or_default().push(rest);
        }
        let mut wrong = Vec::new();
        for (delimiter, name, expected) in &self.expected {
            let found = match printed.get(delimiter.as_str()).map(Vec::as_slice) {
                Some([one]) => record::parse_value(one.as_bytes()).map_err(|_| "no JSON"),
                Some(_) => Err("two results"),
                None => Err("no result"),
            };
            match found {
                Ok(found) if found == *expected => {}
                Ok(found) => wrong.push(format!("{name} gave {found}")),
                Err(what) => wrong.push(format!("{name}: {what}")),
            }
        }
        match wrong.first() {
            None => Ok(format!("{} of {} right", self.expected.len(), self.expected.len())),
            // How a case failed goes into the log of a finished run, never back to an agent.
            Some(first) => {
                Err(format!("{} of {} wrong, first: {first}", wrong.len(), self.expected.len()))
            }
        }
    }
}
