//! `docs/threat-model.md` claims nothing without a test: each row names some, and all of them exist.

use std::collections::BTreeSet;

use crate::layering::sources_in;
use crate::util::project;

/// The names of all tests: of functions with the attribute, and of those that a table of attempts makes.
fn tests() -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (_, text) in ["src", "tests"].into_iter().flat_map(sources_in) {
        let mut of_a_test = false;
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("fn ") {
                if of_a_test {
                    out.extend(rest.split(['(', '<']).next().map(str::to_owned));
                }
                of_a_test = false;
            }
            of_a_test |= line.starts_with("#[test]");
            if let Some((name, value)) = line.split_once(" = ")
                && value.starts_with('"')
                && value.ends_with("\",")
            {
                out.insert(name.to_owned());
            }
        }
    }
    out
}

#[test]
fn every_claim_of_the_threat_model_names_its_tests() {
    let text = std::fs::read_to_string(project().join("docs/threat-model.md")).unwrap();
    let tests = tests();
    let mut rows = 0;
    for line in
        text.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| Shown by |"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [what, _, shown] = cells.as_slice() else { panic!("three cells: {line}") };
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test shows: {what}");
        for name in named {
            assert!(tests.contains(name), "{what}: there is no test {name}");
        }
        rows += 1;
    }
    assert!(rows > 30, "{rows} rows were read");
}
