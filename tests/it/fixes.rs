//! Every fix that admit prints in these tests can be typed as it is printed: its commands are commands of admit, with values
//! in them and no word that stands for one, and files that are named are there. Those that are harmless are typed, in the
//! same home, and change the answer.
//!
//! [`World`](crate::util::World) hands over each answer as it comes, and looks at the end whether what was typed helped.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use regex::{Captures, Regex};
use serde_json::Value;

use crate::layering;
use crate::util::{World, project};

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

/// A line of a shell as words: quotes are read, and one of `ends` outside of them is its end, such as a pipe; a `#` is one
/// where a word begins.
pub fn words(line: &str, ends: &str) -> Vec<String> {
    let (mut out, mut quote) = (vec![String::new()], None);
    for c in line.chars() {
        let begins = out.last().is_some_and(String::is_empty);
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => out.push(String::new()),
            (None, c) if ends.contains(c) && (c != '#' || begins) => break,
            (_, c) => out.last_mut().unwrap().push(c),
        }
    }
    out.retain(|word| !word.is_empty());
    out
}

/// What keeps a fix from being typed as it is printed.
pub fn wrong(fix: &str) -> Option<String> {
    for command in commands(fix) {
        if command.contains("  ") {
            return Some(format!("`{command}` has a hole where a value belongs"));
        }
        let all = words(command, "");
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
    let first = words(fix, "").into_iter().next().unwrap_or_default();
    if ["chmod", "chown", "mv"].contains(&first.as_str()) {
        let named = words(fix, "").into_iter().filter(|word| word.starts_with('/'));
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
fn the_fix_of_a_lock_that_cannot_be_read_is_about_that_file() {
    let world = World::new();
    world.put("lockfiles/understudy.lock.json", "{");
    let run = world.admit(&["verify"]).expect(2);
    let fixes = of(&run.stdout(), &run.stderr());
    let fix = "correct it there, or put back a copy that is whole";
    assert!(fixes.contains(fix), "{fixes:?}\n{run}");
    assert!(!fixes.iter().any(|fix| fix.contains("its source and commit")), "{fixes:?}");
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
        "admit lock  --help",
        "chmod 600 /not/there",
    ] {
        assert!(wrong(bad).is_some(), "{bad}");
    }
    assert_eq!(commands("read it, then: admit trust '/x y'"), ["admit trust '/x y'"]);
}

/// The texts between the quotes in a piece of Rust, up to the bracket, comma or semicolon that ends the expression.
fn literals(code: &str) -> Vec<String> {
    let escape = Regex::new(r"\\(\n\s*|.)").unwrap();
    let (mut out, mut depth) = (Vec::new(), 0);
    for piece in layering::PIECES.find_iter(code).map(|piece| piece.as_str()) {
        match piece {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" | ";" | "," if depth == 0 => break,
            ")" | "]" | "}" => depth -= 1,
            raw if raw.starts_with(r##"r#""##) => out.push(raw[3..raw.len() - 2].to_owned()),
            raw if raw.starts_with("r\"") => out.push(raw[2..raw.len() - 1].to_owned()),
            text if text.starts_with('"') => {
                let read = |found: &Captures<'_>| match &found[1] {
                    "n" => "\n".to_owned(),
                    other => other.trim_start().to_owned(),
                };
                out.push(escape.replace_all(&text[1..text.len() - 1], read).into_owned());
            }
            _ => {}
        }
    }
    out
}

/// Every text of the sources that becomes a fix, with its file and line.
fn in_the_sources() -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (path, text) in layering::sources() {
        let code = layering::code(&text).join("\n");
        if path.to_string_lossy().contains("/tests") {
            continue;
        }
        for begins in [".hint(", ".fix(", "let fix =", "fix: "] {
            for (at, _) in code.match_indices(begins) {
                // A word in a text, and no field.
                if begins == "fix: " && !code[..at].ends_with([' ', '{']) {
                    continue;
                }
                let line = code[..at].matches('\n').count() + 1;
                let place = path.strip_prefix(project()).unwrap().display();
                let all = literals(&code[at + begins.len()..]);
                out.extend(all.into_iter().map(|text| (format!("{place}:{line}"), text)));
            }
        }
    }
    out
}

/// A text with a value in each of its holes: each way to fill them with one of these.
fn filled(text: &str) -> Vec<String> {
    let values = [
        "case",
        "",
        "1",
        "build",
        "7959ac9",
        "--git true",
        "mine/some-model",
        "oci://example.com/a/b",
    ];
    let mut all = vec![text.to_owned()];
    while let Some(from) = all[0].find('{') {
        let to = all[0][from..].find('}').unwrap_or_else(|| panic!("an open hole in: {text}"));
        let name = all[0][from..=from + to].to_owned();
        // The same name is the same value.
        let one = |value: &str, text: &String| match name.as_str() {
            "{}" => text.replacen("{}", value, 1),
            name => text.replace(name, value),
        };
        all = values.iter().flat_map(|value| all.iter().map(|text| one(value, text))).collect();
    }
    all
}

/// Words in capitals that stand for themselves.
const OTHERS: [&str; 15] = [
    "API",
    "CA",
    "GNU",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "MARKER",
    "NODE_EXTRA_CA_CERTS",
    "PATH",
    "REGISTRY_AUTH_FILE",
    "SSL_CERT_FILE",
    "TMPDIR",
    "UTF",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
];

/// What a test of literals can tell: no word in capitals stands where a value belongs, and every command of admit is one,
/// whatever fills its holes.
#[test]
fn every_fix_of_the_sources_can_be_typed() {
    let (mut faults, mut seen) = (Vec::new(), 0);
    for (place, text) in in_the_sources() {
        let parts = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let stands_for = |word: &&str| {
            let capitals = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            word.len() > 1
                && word.starts_with(|c: char| c.is_ascii_uppercase())
                && word.chars().all(capitals)
                && !OTHERS.contains(word)
                && !admit::host::VARIABLES.contains(word)
        };
        faults.extend(parts.filter(stands_for).map(|word| format!("{place}: {word} in: {text}")));
        if text.contains(['<', '\u{2026}']) || text.contains("  ") {
            faults.push(format!("{place}: a hole in: {text}"));
        }
        let ways = filled(&text);
        let typed = |text: &String| {
            commands(text).iter().all(|command| admit::cli::parses(&words(command, "")).is_ok())
        };
        if !ways.iter().any(typed) {
            faults.push(format!("{place}: no command: {text}"));
        }
        seen += commands(&ways[0]).len();
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(seen > 60, "{seen} commands were seen");
}
