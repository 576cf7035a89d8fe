//! The locked tests: how pytest is asked, and what of a runner's output counts.

use std::collections::BTreeMap;

use crate::sandbox::{Captured, Exit, Finished};

/// What is added to the fixture's own command of pytest: no cache in the work tree, and one line for each test at the end.
pub(super) const OPTIONS: [&str; 6] =
    ["-p", "no:cacheprovider", "-rA", "--color=no", "--tb=short", "--verbosity=0"];

/// What pytest prints over the list of results.
const SUMMARY: &str = " short test summary info ";

/// The tests that are said to have run, and how each ended, in the words of the runner.
type Seen = BTreeMap<String, Vec<String>>;

pub(super) struct Runner {
    name: &'static str,
    /// Its word for a test that passed.
    passed: &'static str,
    /// What its output names; `None` where it came to no end.
    seen: fn(&str) -> Option<Seen>,
}

pub(super) const PYTEST: Runner = Runner { name: "pytest", passed: "PASSED", seen: of_pytest };
pub(super) const BUN: Runner = Runner { name: "bun test", passed: "pass", seen: of_bun };

impl Runner {
    /// Whether it ended well and says of every locked test that it passed, and nothing else of it. `Ok` and `Err` both say
    /// it in one line.
    pub(super) fn read(
        &self,
        finished: &Finished,
        printed: &Captured,
        ids: &[String],
    ) -> Result<String, String> {
        if finished.exit != Exit::Code(0) {
            let end = crate::build::exit_text(&finished.exit);
            return Err(format!("{} ended with {end}", self.name));
        }
        if printed.truncated() {
            return Err("too much output".into());
        }
        self.results(&printed.text(), ids)
    }

    /// The tests that it found, and whether each passed.
    pub(super) fn found(&self, text: &str) -> BTreeMap<String, bool> {
        let seen = (self.seen)(text).unwrap_or_default().into_iter();
        seen.map(|(id, words)| (id, words == [self.passed])).collect()
    }

    fn results(&self, text: &str, ids: &[String]) -> Result<String, String> {
        let seen = (self.seen)(text);
        let mut seen = seen.ok_or_else(|| format!("{} printed no summary", self.name))?;
        let said = |words: &[String]| words.join(", ").to_lowercase();
        for id in ids {
            match seen.remove(id) {
                Some(words) if words == [self.passed] => {}
                None => return Err(format!("{id} did not run")),
                Some(words) => return Err(format!("{id}: {}", said(&words))),
            }
        }
        match seen.first_key_value() {
            None => Ok(format!("{} passed", ids.len())),
            Some((id, words)) => Err(format!("{}: {id}", said(words))),
        }
    }
}

/// Of pytest the tests that the last summary names; none where there is no summary.
fn of_pytest(text: &str) -> Option<Seen> {
    let lines: Vec<&str> = text.lines().collect();
    let begin = lines.iter().rposition(|line| line.starts_with('=') && line.contains(SUMMARY))?;
    let mut seen = Seen::new();
    for line in &lines[begin + 1..] {
        let Some((word, rest)) = line.split_once(' ') else { continue };
        if matches!(word, "PASSED" | "FAILED" | "ERROR" | "SKIPPED" | "XFAIL" | "XPASS") {
            let id = rest.split(" - ").next().unwrap_or(rest).trim();
            seen.entry(id.to_owned()).or_default().push(word.to_owned());
        }
    }
    Some(seen)
}

/// Of `bun test` each test with its file.
fn of_bun(text: &str) -> Option<Seen> {
    let (mut seen, mut file) = (Seen::new(), "");
    for line in text.lines() {
        let said = line.strip_prefix('(').and_then(|rest| rest.split_once(") "));
        if let Some((word @ ("pass" | "fail" | "skip" | "todo"), name)) = said {
            // The time that it took stands behind the name, unless it was too short to tell.
            let name = match name.rsplit_once(" [") {
                Some((name, time)) if time.ends_with("ms]") || time.ends_with("s]") => name,
                _ => name,
            };
            seen.entry(format!("{file}::{name}")).or_default().push(word.to_owned());
        } else if let Some(name) = line.strip_suffix(':').filter(|name| !name.contains(' ')) {
            file = name;
        }
    }
    Some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_locked_test_must_pass_once() {
        let head = "==== short test summary info ====\n";
        let python = format!("..\n{head}PASSED t.py::a\nPASSED t.py::b\n2 passed in 0.01s\n");
        let bun = "\ntests/a.test.ts:\n(pass) x > one [0.18ms]\n(pass) two\n\n 2 pass\n 0 fail\n";
        for (runner, ids, good, bad) in [
            (
                PYTEST,
                ["t.py::a", "t.py::b"],
                python.as_str(),
                vec![
                    String::new(),
                    "PASSED t.py::a\nPASSED t.py::b\n".into(),
                    format!("{head}PASSED t.py::a\n"),
                    python.replace("PASSED t.py::b", "SKIPPED [1] t.py:3: no"),
                    python.replace("PASSED t.py::b", "FAILED t.py::b - x"),
                    python.replace("PASSED t.py::b", "XPASS t.py::b"),
                    python.replace("PASSED t.py::b\n", "PASSED t.py::b\nERROR t.py\n"),
                    format!("{python}{head}"),
                ],
            ),
            (
                BUN,
                ["tests/a.test.ts::x > one", "tests/a.test.ts::two"],
                bun,
                vec![
                    String::new(),
                    bun.replace("tests/a", "tests/b"),
                    bun.replace("(pass) two", "(skip) two"),
                    bun.replace("(pass) two", "(todo) two"),
                    bun.replace("(pass) two", "(fail) two"),
                    bun.replace("(pass) two\n", ""),
                    bun.replace("(pass) two\n", "(pass) two\n(pass) two\n"),
                    bun.replace("(pass) two\n", "(pass) two\n(fail) three\n"),
                ],
            ),
        ] {
            let ids = ids.map(str::to_owned);
            assert_eq!(runner.results(good, &ids), Ok("2 passed".into()));
            for bad in bad {
                assert!(runner.results(&bad, &ids).is_err(), "{}: {bad}", runner.name);
            }
        }
    }
}
