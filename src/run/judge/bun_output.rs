//! The locked tests: what of the output of `bun test` counts.

use std::collections::BTreeMap;

use crate::sandbox::{Exit, Finished};

/// Whether `bun test` ended well and says of every locked test that it passed, and nothing else of it. `Ok` and `Err`
/// both say it in one line.
pub(super) fn read(finished: &Finished, ids: &[String]) -> Result<String, String> {
    if finished.exit != Exit::Code(0) {
        return Err(format!("bun test ended with {}", crate::build::exit_text(&finished.exit)));
    }
    if finished.stderr.truncated() {
        return Err("too much output".into());
    }
    results(&finished.stderr.text(), ids)
}

/// The tests that are said to have run, each with its file, and how.
pub(super) fn seen(text: &str) -> BTreeMap<String, Vec<&str>> {
    let mut seen: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut file = "";
    for line in text.lines() {
        let said = line.strip_prefix('(').and_then(|rest| rest.split_once(") "));
        if let Some((word @ ("pass" | "fail" | "skip" | "todo"), name)) = said {
            // The time that it took stands behind the name, unless it was too short to tell.
            let name = match name.rsplit_once(" [") {
                Some((name, time)) if time.ends_with("ms]") || time.ends_with("s]") => name,
                _ => name,
            };
            seen.entry(format!("{file}::{name}")).or_default().push(word);
        } else if let Some(name) = line.strip_suffix(':').filter(|name| !name.contains(' ')) {
            file = name;
        }
    }
    seen
}

fn results(text: &str, ids: &[String]) -> Result<String, String> {
    let mut seen = seen(text);
    for id in ids {
        match seen.remove(id).as_deref() {
            Some(["pass"]) => {}
            None => return Err(format!("{id} did not run")),
            Some(words) => return Err(format!("{id}: {}", words.join(", "))),
        }
    }
    match seen.first_key_value() {
        None => Ok(format!("{} passed", ids.len())),
        Some((id, words)) => Err(format!("{}: {id}", words.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_locked_test_must_pass_once() {
        let ids = ["tests/a.test.ts::x > one".to_owned(), "tests/a.test.ts::two".to_owned()];
        let good = "\ntests/a.test.ts:\n(pass) x > one [0.18ms]\n(pass) two\n\n 2 pass\n 0 fail\n";
        assert_eq!(results(good, &ids), Ok("2 passed".into()));
        for bad in [
            String::new(),
            good.replace("tests/a", "tests/b"),
            good.replace("(pass) two", "(skip) two"),
            good.replace("(pass) two", "(todo) two"),
            good.replace("(pass) two", "(fail) two"),
            good.replace("(pass) two\n", ""),
            good.replace("(pass) two\n", "(pass) two\n(pass) two\n"),
            good.replace("(pass) two\n", "(pass) two\n(fail) three\n"),
        ] {
            assert!(results(&bad, &ids).is_err(), "{bad}");
        }
    }
}
