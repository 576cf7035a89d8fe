//! The locked tests: how pytest is asked, and what of its output counts.

use std::collections::BTreeMap;

use crate::sandbox::{Exit, Finished};

/// What is added to the fixture's own command: no cache in the work tree, and one line for each test at the end.
pub(super) const OPTIONS: [&str; 6] =
    ["-p", "no:cacheprovider", "-rA", "--color=no", "--tb=short", "--verbosity=0"];

/// What pytest prints over the list of results.
const SUMMARY: &str = " short test summary info ";

/// Whether pytest ended well and says of every locked test that it passed, and nothing else of it. `Ok` and `Err` both say
/// it in one line.
pub(super) fn read(finished: &Finished, ids: &[String]) -> Result<String, String> {
    if finished.exit != Exit::Code(0) {
        return Err(format!("pytest ended with {}", crate::build::exit_text(&finished.exit)));
    }
    if finished.stdout.truncated() {
        return Err("too much output".into());
    }
    results(&finished.stdout.text(), ids)
}

/// The tests that the last summary names, and how each ended; `None` where there is no summary.
pub(super) fn seen(text: &str) -> Option<BTreeMap<&str, Vec<&str>>> {
    let lines: Vec<&str> = text.lines().collect();
    let begin = lines.iter().rposition(|line| line.starts_with('=') && line.contains(SUMMARY))?;
    let mut seen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &lines[begin + 1..] {
        let Some((word, rest)) = line.split_once(' ') else { continue };
        if matches!(word, "PASSED" | "FAILED" | "ERROR" | "SKIPPED" | "XFAIL" | "XPASS") {
            let id = rest.split(" - ").next().unwrap_or(rest).trim();
            seen.entry(id).or_default().push(word);
        }
    }
    Some(seen)
}

fn results(text: &str, ids: &[String]) -> Result<String, String> {
    let mut seen = seen(text).ok_or("pytest printed no summary")?;
    for id in ids {
        match seen.remove(id.as_str()).as_deref() {
            Some(["PASSED"]) => {}
            None => return Err(format!("{id} did not run")),
            Some(words) => return Err(format!("{id}: {}", words.join(", ").to_lowercase())),
        }
    }
    match seen.first_key_value() {
        None => Ok(format!("{} passed", ids.len())),
        Some((id, words)) => Err(format!("{}: {id}", words.join(", ").to_lowercase())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_locked_test_must_pass_once() {
        let ids = ["t.py::a".to_owned(), "t.py::b".to_owned()];
        let head = "==== short test summary info ====\n";
        let good = format!("..\n{head}PASSED t.py::a\nPASSED t.py::b\n2 passed in 0.01s\n");
        assert_eq!(results(&good, &ids), Ok("2 passed".into()));
        for bad in [
            String::new(),
            "PASSED t.py::a\nPASSED t.py::b\n".into(),
            format!("{head}PASSED t.py::a\n"),
            good.replace("PASSED t.py::b", "SKIPPED [1] t.py:3: no"),
            good.replace("PASSED t.py::b", "FAILED t.py::b - x"),
            good.replace("PASSED t.py::b", "XPASS t.py::b"),
            good.replace("PASSED t.py::b\n", "PASSED t.py::b\nERROR t.py\n"),
            format!("{good}{head}"),
        ] {
            assert!(results(&bad, &ids).is_err(), "{bad}");
        }
    }
}
