//! What commands say to people, word for word: at 80 and 120 columns, with colour and, but for that the same, without.
//! `ADMIT_TEST_BLESS=1` writes what is said now to `tests/it/words/`; a reviewer reads the difference.

use std::path::PathBuf;

use regex::Regex;

use crate::build::variation;
use crate::files::{script, shipped, write};
use crate::util::{World, project, var};

/// The text without what differs from machine to machine and from run to run.
fn plain(text: &str, world: &World) -> String {
    let home = world.path().display().to_string();
    let store = crate::util::shared_store().display().to_string();
    let mut out = text.replace(&home, "[world]").replace(&store, "[store]");
    for (pattern, with) in [
        (r"[0-9a-f]{64}", "[digest]"),
        (r"[0-9a-f]{16}…", "[digest]…"),
        (r"\d{8}T\d{6}Z-r[12]-[a-z-]+-\d+", "[run]"),
        (r"admit \d+\.\d+\.\d+", "admit [version]"),
        (r"each of \d+ attempts", "each of [n] attempts"),
        (r"\d+ checks? held", "[n] checks held"),
        (r"\d+ not reached", "[n] not reached"),
    ] {
        out = Regex::new(pattern).unwrap().replace_all(&out, with).into_owned();
    }
    out
}

fn colourless(text: &str) -> String {
    Regex::new("(\u{1b}|<esc>)\\[[0-9;]*m").unwrap().replace_all(text, "").into_owned()
}

/// Rows of a terminal of `width` columns that `text` takes; what steers it takes none.
fn rows(text: &str, width: usize) -> usize {
    colourless(text).lines().map(|line| line.chars().count().max(1).div_ceil(width)).sum()
}

/// The widths and colours in which a command is run; the last two are those of one that takes seconds.
const WAYS: [(usize, &str); 4] = [(80, "always"), (120, "never"), (80, "never"), (120, "always")];

/// Runs a command in each of `ways`, and holds what it says against the words on file. Gives what it says at 80 columns
/// without colour.
fn said(world: &mut World, name: &str, args: &[&str], code: i32, ways: &[(usize, &str)]) -> String {
    let mut narrow = String::new();
    for &(width, colour) in ways {
        world.set("COLUMNS", width.to_string());
        let all = [args, &["--quiet", "--color", colour]].concat();
        // Whether its fixes work when they are typed is looked at elsewhere.
        let run = world.plain(&all).expect(code);
        let text = run.stdout() + &run.stderr();
        if (width, colour) == (80, "never") {
            narrow = text.clone();
        }
        let shown = plain(&text, world).replace('\u{1b}', "<esc>");
        // Where it is the same at 120 columns, there is one file.
        let at = |width| project().join(format!("tests/it/words/{name}-{width}.txt"));
        let file: PathBuf = at(width);
        let on_file = || {
            let text = std::fs::read_to_string(&file).or_else(|_| std::fs::read_to_string(at(80)));
            let text = text.unwrap_or_default();
            if colour == "always" { text } else { colourless(&text) }
        };
        if var("ADMIT_TEST_BLESS").is_some() && on_file() != shown {
            write(&file, &shown);
        }
        let expected = on_file();
        let file = file.display();
        assert!(expected == shown, "{file} says another thing:\n{shown}\nnot:\n{expected}");
        let wide = rows(&text, width) > text.lines().count();
        let path = text.lines().any(|line| line.contains("report ") || line.contains("://"));
        assert!(!wide || path, "a line of {name} is wider than {width}:\n{text}");
    }
    narrow
}

#[test]
fn what_people_read_is_short_and_word_for_word_this() {
    let mut world = World::with_shared_store();
    // The first time something is built, the words say so.
    world.admit(&["build", "understudy"]).expect(0);
    let demo = said(&mut world, "demo", &["demo"], 0, &WAYS[2..]);
    assert!(rows(&demo, 80) <= 25, "{demo}");
    assert!(demo.lines().last().unwrap().starts_with("REHEARSED  "), "{demo}");
    let verified = said(&mut world, "verify", &["verify", "understudy"], 0, &WAYS);
    assert_eq!(verified.lines().count(), 5, "{verified}");
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", "http://127.0.0.1:9/v1");
    let model = "--model=nobody/nothing";
    let args = ["run", "stage2", "r2-duration", "--provider", "understudy", model];
    let one = said(&mut world, "refused", &args, 3, &WAYS);
    assert!(rows(&one, 80) <= 12, "{one}");
    let other = world.cwd().join("other");
    script(&other, "");
    let binary = format!("--binary={}", other.display());
    let two = said(&mut world, "refused-two", &[&args[..], &[&binary]].concat(), 5, &WAYS);
    assert_eq!(two.lines().filter(|line| line.starts_with("FAIL  ")).count(), 2, "{two}");
    assert!(rows(&two, 80) <= 12, "{two}");
    for (name, args, code) in [
        ("explain", &["explain", "rehearsed"][..], 0),
        ("error", &["explain", "rehersed"], 2),
        ("typo", &["bild"], 2),
    ] {
        said(&mut world, name, args, code, &WAYS);
    }
    for (name, args, code) in [
        ("locks", &["lock"][..], 0),
        ("models", &["model", "list"], 0),
        ("model", &["model", "check", "nobody/nothing"], 3),
        ("keys", &["key", "show"], 0),
        ("stages", &["stages"], 0),
        ("no-runs", &["runs", "--status", "pass"], 0),
        ("fixture", &["fixture", "r2-duration"], 0),
    ] {
        let said = said(&mut world, name, args, code, &WAYS);
        let word =
            |line: Option<&str>| line.unwrap_or_default().split("  ").next().map(str::to_owned);
        let last = said.lines().rfind(|line| !line.starts_with(' '));
        assert_eq!(word(said.lines().next()), word(last), "{said}");
    }
    let help = said(&mut world, "help", &["build", "--help"], 0, &WAYS);
    assert!(help.contains("PROVIDER") && help.contains("Examples:"), "{help}");
}

#[test]
fn twenty_providers_are_a_line_each_and_a_verdict() {
    let mut world = World::new();
    let mut report = shipped("fixtures/fuzz/report/understudy.json");
    let sha256 = report["sha256"].as_str().unwrap().to_owned();
    for number in 0..20 {
        let name = format!("other{number}");
        variation(&world, &name, |_| {});
        report["provider"] = name.clone().into();
        world.put(&format!("admissions/builds/{name}--{sha256}.json"), report.to_string());
    }
    let text = said(&mut world, "verify-all", &["verify"], 5, &WAYS);
    assert_eq!(text.lines().count(), 22, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("FAILS  ") && lines[21].starts_with("FAILS  "), "{text}");
}

#[test]
fn a_hidden_command_is_nobodys_meaning() {
    let typo = World::new().admit(&["rebuild-roun"]).expect(2).stderr();
    assert!(!typo.contains("'rebuild-round'"), "{typo}");
}

#[test]
fn completions_and_pages_know_every_command_and_none_that_is_hidden() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = world.admit(&["completions", shell]).expect(0).stdout();
        assert!(text.contains("verify") && text.contains("expect-root"), "{shell}");
        assert!(!text.contains("rebuild-round"), "{shell}");
    }
    let run = world.admit(&["man", "--out", "man", "--json"]).expect(0).json();
    let pages: Vec<&str> =
        run["pages"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    assert!(pages.contains(&"admit.1") && pages.contains(&"admit-model-add.1"), "{pages:?}");
    assert!(pages.iter().all(|page| !page.contains("round")));
    for page in pages {
        let text = std::fs::read_to_string(world.cwd().join("man").join(page)).unwrap();
        assert!(text.contains(".TH ") && text.contains("Example"), "{page}");
        let typed = page.trim_end_matches(".1").replace('-', " ");
        assert!(text.contains(&format!("\n\\fB{typed}\\fR")), "{page}: {text}");
    }
}
