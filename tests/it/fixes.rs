//! Every fix that admit prints in these tests can be typed as it is printed: its commands are commands of admit, with values
//! in them and no word that stands for one, and files that are named are there. Those that are harmless are typed, in the
//! same home, and change the answer.
//!
//! [`World`](crate::util::World) hands over each answer as it comes, and looks at the end whether what was typed helped.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::util::World;

/// What stands before a command in a fix, and what may stand behind it.
const BEFORE: [&str; 8] = [": ", "; ", ", or ", ", then ", ", and ", "(", "or ", "&& "];

/// The fixes in an answer: of a person's, and of a script's.
pub fn of(stdout: &str, stderr: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for line in stdout.lines().chain(stderr.lines()) {
        let line = line.trim_start();
        let text = line.strip_prefix("fix:").or(line.strip_prefix("fix  "));
        out.extend(text.map(|text| text.trim().to_owned()));
    }
    if let Ok(value) = serde_json::from_str::<Value>(stdout) {
        within(&value, &mut out);
    }
    out.remove("");
    out
}

fn within(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Array(all) => all.iter().for_each(|value| within(value, out)),
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("fix", Value::String(text)) => drop(out.insert(text.clone())),
                    ("fix", Value::Array(all)) => {
                        out.extend(all.iter().filter_map(|text| text.as_str().map(str::to_owned)));
                    }
                    _ => within(value, out),
                }
            }
        }
        _ => {}
    }
}

/// The commands of admit in a fix: from `admit` at its beginning or behind a break, to the next break.
pub fn commands(fix: &str) -> Vec<&str> {
    let starts = fix
        .match_indices("admit ")
        .filter(|(at, _)| *at == 0 || BEFORE.iter().any(|before| fix[..*at].ends_with(before)));
    starts
        .map(|(at, _)| {
            let rest = &fix[at..];
            let ends = ["; ", ", ", ") ", ": ", " (", "` ", " && "]
                .iter()
                .filter_map(|end| rest.find(end));
            let end = ends.min().unwrap_or(rest.len());
            rest[..end].trim_end_matches([')', '.', '`'])
        })
        .collect()
}

/// A line of a shell as words.
fn words(line: &str) -> Vec<String> {
    let (mut out, mut quote) = (vec![String::new()], None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => out.push(String::new()),
            (_, c) => out.last_mut().unwrap().push(c),
        }
    }
    out.retain(|word| !word.is_empty());
    out
}

/// What keeps a fix from being typed as it is printed.
pub fn wrong(fix: &str) -> Option<String> {
    for command in commands(fix) {
        let all = words(command);
        if let Err(err) = admit::cli::parses(&all) {
            return Some(format!(
                "`{command}` is no command: {}",
                err.lines().next().unwrap_or("")
            ));
        }
        let stands_for = |word: &&String| {
            word.len() > 1
                && word.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c == '/')
                && !Path::new(word).exists()
        };
        if let Some(word) = all.iter().find(stands_for) {
            return Some(format!("`{command}` has {word} where a value belongs"));
        }
    }
    // A file that a command of the system is to change.
    let first = words(fix).into_iter().next().unwrap_or_default();
    if ["chmod", "chown", "mv"].contains(&first.as_str()) {
        let named = words(fix).into_iter().filter(|word| word.starts_with('/'));
        for path in named {
            let path = path.trim_end_matches([',', ';']);
            if !Path::new(path).exists() {
                return Some(format!("{path} is not there"));
            }
        }
    }
    None
}

/// Whether it may be typed in a test's home: it changes nothing elsewhere, and takes no time.
pub fn harmless(fix: &str, world: &Path) -> bool {
    let all = commands(fix);
    let starts = |words: &[&str]| {
        all.first().is_some_and(|command| words.iter().any(|word| command.starts_with(word)))
    };
    let mine = fix.contains(&world.display().to_string());
    (fix.starts_with("admit ") && all.first().is_some_and(|command| *command == fix))
        && starts(&["admit trust", "admit model import", "admit key new"])
        || fix.starts_with("chmod ") && mine && !fix.contains(", ") && !fix.contains("; ")
}

/// Whether nobody asked for this one yet, with the world's own names taken out.
pub fn first(what: &str, world: &Path) -> bool {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let what = what.replace(&world.display().to_string(), "");
    let what: String = what.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(what)
}

#[test]
fn the_fix_of_a_missing_build_works_as_it_is_typed() {
    let world = World::with_shared_store();
    let run = world.admit(&["verify", "understudy"]);
    assert_ne!(run.code(), Some(0), "{run}");
    let fixes = of(&run.stdout(), &run.stderr());
    let fix = fixes.iter().find(|fix| fix.starts_with("admit build understudy"));
    world.shell(fix.unwrap_or_else(|| panic!("{fixes:?}\n{run}"))).expect(0);
    world.admit(&["verify", "understudy"]).expect(0);
}

#[test]
fn a_fix_that_cannot_be_typed_is_seen() {
    for good in [
        "admit doctor",
        "admit model import 'a b.json'; admit doctor",
        "build it: admit build case",
        "admit builds on glibc systems so far: see there",
        "name another directory",
    ] {
        let builds = good.starts_with("admit builds");
        assert_eq!(wrong(good).is_some(), builds, "{good}: {:?}", wrong(good));
    }
    for bad in [
        "admit build PROVIDER --record",
        "admit build case --recorded",
        "build it, or admit adopt FILE --record",
        "admit key new makes one",
        "chmod 600 /not/there",
    ] {
        assert!(wrong(bad).is_some(), "{bad}");
    }
    assert_eq!(commands("read it, then: admit trust '/x y'"), ["admit trust '/x y'"]);
}
