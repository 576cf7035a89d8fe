//! The documents say what the code does: variables, failure classes, exit codes, and what a run directory holds.

use admit::evidence::names;
use admit::explain;
use admit::gate::VARIABLES;
use admit::record::failure::FailureClass;
use std::collections::BTreeSet;

use regex::Regex;

use crate::files::{self, json, shipped};
use crate::fixes::words;
use crate::guides::{documents, lines};
use crate::layering::order;
use crate::run::{SCRIPTED, built, directory, run};
use crate::util::{World, project};

fn document(name: &str) -> String {
    std::fs::read_to_string(project().join("docs").join(name)).unwrap()
}

/// The cells of every row of the table whose head begins with `head`.
fn table(text: &str, head: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| !line.starts_with(&format!("| {head} |")));
    let rows: Vec<Vec<String>> = lines
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.trim_matches('|').split('|').map(|c| c.trim().trim_matches('`').into()).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "no table {head}");
    rows
}

fn first(rows: &[Vec<String>]) -> BTreeSet<&str> {
    let names: BTreeSet<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names.len(), rows.len(), "a row stands there twice");
    names
}

#[test]
fn the_operators_tables_are_the_codes() {
    let text = document("operate.md");
    let variables = table(&text, "variable");
    assert_eq!(first(&variables), VARIABLES.iter().map(|(name, _)| *name).collect());
    for name in admit::host::VARIABLES {
        assert!(text.contains(&format!("| `{name}` |")), "{name} is read and stands in no table");
    }
    assert!(VARIABLES.iter().all(|(name, _)| admit::host::VARIABLES.contains(name)));
    let classes = table(&text, "class");
    assert_eq!(first(&classes), FailureClass::ALL.iter().map(|c| c.as_str()).collect());
    for row in &classes {
        let class = FailureClass::ALL.into_iter().find(|c| c.as_str() == row[0]).unwrap();
        let (meaning, action) = explain::class(class);
        let said = [class.marker(), meaning, action].map(|text| text.trim_matches('`'));
        assert_eq!(row[1..], said, "{}", row[0]);
    }
    // The codes of all errors, of a yes and of a run that failed.
    let codes = explain::all().into_iter().filter(|topic| topic.sort == explain::Sort::ExitCode);
    let codes =
        codes.map(|code| vec![code.word, code.meaning, code.action.trim_matches('`').into()]);
    assert_eq!(table(&text, "code"), codes.collect::<Vec<_>>());
    for old in [
        "run-case.sh",
        "case-qwen-loop.sh",
        "run-all-fake",
        "health.sh",
        "validate-case-provider-adapter.py",
        "validate_cto_child.py",
    ] {
        assert!(first(&table(&text, "then")).contains(old), "{old}");
    }
}

#[test]
fn the_architecture_has_every_failure_class_with_its_marker() {
    let rows = table(&document("architecture.md"), "class");
    let listed = rows.iter().flat_map(|row| row[0].split(", ").map(|class| (class, &*row[3])));
    let known = FailureClass::ALL.map(|class| (class.as_str(), class.marker()));
    assert_eq!(listed.collect::<BTreeSet<_>>(), BTreeSet::from(known));
}

#[test]
fn every_field_of_a_report_is_documented() {
    let schema = shipped("schemas/admit.run-report.v3.schema.json");
    let fields = schema["properties"].as_object().unwrap();
    let text = document("harness-evidence.md");
    let documented = table(&text, "field");
    assert_eq!(first(&documented), fields.keys().map(String::as_str).collect());
    assert!(documented.iter().all(|row| row.len() == 4 && row.iter().all(|c| !c.is_empty())));
}

/// Whether `path` is one that `pattern` means: a `*` stands for anything within one directory.
fn means(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((before, after)) => path
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|middle| !middle.contains('/')),
    }
}

#[test]
fn a_real_run_holds_what_is_documented_and_nothing_else() {
    let text = document("harness-evidence.md");
    let files = table(&text, "file");
    let world = built();
    let dir = directory(&run(&world, &SCRIPTED, 0));
    let manifest = json(dir.join(names::MANIFEST));
    let mut seen: BTreeSet<&str> = [names::MANIFEST, names::SEAL].into();
    for entry in manifest["files"].as_array().unwrap() {
        let path = entry["path"].as_str().unwrap();
        let rows: Vec<_> = files.iter().filter(|row| means(&row[0], path)).collect();
        let [row] = rows.as_slice() else { panic!("{path} is meant by {rows:?}") };
        assert_eq!(row[1], entry["author"].as_str().unwrap(), "{path}");
        seen.insert(&row[0]);
    }
    // A rehearsal that succeeds has no marker.
    let all = first(&files);
    let unseen: Vec<_> = all.difference(&seen).copied().collect();
    assert_eq!(unseen, ["backend/*.txt"]);
}

/// The files below `src/` that the architecture's layout draws; its top entries.
fn layout(text: &str) -> (Vec<String>, Vec<String>) {
    let drawn = text.split("```text").nth(1).unwrap().split("```").next().unwrap();
    let (mut files, mut tops, mut dir) = (Vec::new(), Vec::new(), String::new());
    for line in drawn.lines().skip_while(|line| *line != "src/").skip(1) {
        let mut words = line.split([' ', '(', ')', ',', ':']).filter(|word| !word.is_empty());
        // An entry stands two columns in; a line that stands further in goes on with the last one.
        if line.starts_with("  ") && !line.starts_with("   ") {
            let top = words.next().unwrap();
            tops.push(top.trim_end_matches('/').trim_end_matches(".rs").to_owned());
            files.push(top.to_owned());
            dir = if top.ends_with('/') { top.to_owned() } else { String::new() };
        }
        let named = words.filter(|word| word.ends_with(".rs") || word.ends_with('/'));
        let named = named.filter(|word| *word != "schemas/");
        files.extend(named.map(|word| format!("{dir}{word}")));
    }
    (files, tops)
}

#[test]
fn the_layout_of_the_architecture_is_what_is_there() {
    let (files, tops) = layout(&document("architecture.md"));
    let missing: Vec<_> =
        files.iter().filter(|file| !project().join("src").join(file).exists()).collect();
    assert!(missing.is_empty(), "the layout draws {missing:?}, which are not there");
    assert!(files.len() > 100, "{} files were read", files.len());
    let modules = [vec!["main".to_owned(), "lib".to_owned()], order()].concat();
    assert_eq!(tops, modules, "the layout has the modules of src/lib.rs in their order");
}

/// The sources by their path below the project, without remarks; those of the tests in front of their own name.
fn code() -> Vec<(String, String)> {
    let all = ["src", "tests"].into_iter().flat_map(crate::layering::sources_in);
    all.map(|(path, text)| {
        let path = path.strip_prefix(project()).unwrap().display().to_string();
        let lines = text.lines().map(|line| line.split("//").next().unwrap_or(""));
        (path, lines.collect::<Vec<_>>().join("\n"))
    })
    .collect()
}

/// Whether the code defines a thing of this name, or a type has a variant of it: the whole word, not only its beginning.
fn defines(code: &str, name: &str) -> bool {
    let thing = format!(r"\b(fn|struct|enum|trait|const|static|mod|type) {name}\b");
    let variant = format!(r"(?m)^    {name}\b[^=]*,$");
    let is = |pattern: &str| Regex::new(pattern).unwrap().is_match(code);
    is(&thing) || name.starts_with(|first: char| first.is_ascii_uppercase()) && is(&variant)
}

/// Whether `path` names what is there: a function of a module where the module has it, of a type beside the type's own code.
fn resolves(code: &[(String, String)], path: &str) -> bool {
    let Some((owner, name)) = path.rsplit_once("::") else {
        return code.iter().any(|(_, text)| defines(text, path));
    };
    if owner.starts_with(|first: char| first.is_ascii_uppercase()) {
        let own = format!(r"\b(struct|enum|trait) {owner}\b|\bimpl\b[^\n]*\b{owner}\b[^\n]*\{{");
        let own = Regex::new(&own).unwrap();
        return code.iter().any(|(_, text)| own.is_match(text) && defines(text, name));
    }
    let dir = format!("src/{}", owner.replace("::", "/"));
    let module = [format!("{dir}.rs"), format!("{dir}/mod.rs")];
    let Some((_, text)) = code.iter().find(|(file, _)| module.contains(file)) else { return false };
    // What a module hands on lies in a file of its own.
    let handed_on = Regex::new(&format!(r"\bpub use [^;]*\b{name}\b")).unwrap().is_match(text);
    let below = |file: &str| file.starts_with(&format!("{dir}/"));
    let mut inside = code.iter().filter(|(file, _)| below(file));
    defines(text, name) || handed_on && inside.any(|(_, text)| defines(text, name))
}

#[test]
fn a_name_is_found_where_it_is_and_nowhere_else() {
    let code = code();
    for there in
        ["gate::decide", "build::difference", "Lockfile::check", "run::run", "run::sequence::run"]
    {
        assert!(resolves(&code, there), "{there}");
    }
    // The beginning of a name, another module's, another type's, no module.
    for gone in [
        "gate::decid",
        "run::difference",
        "Lockfile::disagreements",
        "sequence::run",
        "module_lookup",
    ] {
        assert!(!resolves(&code, gone), "{gone}");
    }
}

/// Words in backticks that are no name of ours: what may not be there, and a package of the tests.
const FOREIGN: [&str; 2] = ["helpers", "esprima"];

/// Files, modules, types, functions and fields that the documents about the code name in backticks are there.
#[test]
fn what_the_documents_name_is_there() {
    let code = code();
    let here = |(file, _): &&(String, String)| file != "tests/it/docs.rs";
    let all: BTreeSet<&str> = code
        .iter()
        .filter(here)
        .flat_map(|(_, text)| text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        .collect();
    for page in ["architecture", "agents", "judges", "providers", "wire-apis"] {
        let text = document(&format!("{page}.md"));
        let prose: String = text.split("```").step_by(2).collect();
        let mut named = 0;
        for name in prose.split('`').skip(1).step_by(2) {
            let name = ["enum ", "impl ", "struct ", "trait "]
                .iter()
                .find_map(|kind| name.strip_prefix(kind))
                .unwrap_or(name);
            let below = ["src/", "docs/", "tests/", "fixtures/", "benches/", ".ci/"];
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            // What is no name, a pattern, what a reader is to write, what a build of Case writes, `.rs` itself.
            if name.contains([' ', '(', '<', '*'])
                || name.contains("NAME")
                || name == "src/generated/package-assets.ts"
            {
                continue;
            }
            let is_there = if below.iter().any(|dir| name.starts_with(dir)) {
                project().join(name).exists()
            } else if name.ends_with(".rs") {
                project().join("src").join(name).exists()
            } else if !name.starts_with(|c: char| c.is_ascii_alphabetic())
                || !name.chars().all(word)
            {
                continue;
            } else if name.contains("::")
                || name.starts_with(|first: char| first.is_ascii_uppercase())
                    && name.contains(|c: char| c.is_ascii_lowercase())
            {
                resolves(&code, name)
            } else {
                all.contains(name.trim_end_matches(':')) || FOREIGN.contains(&name)
            };
            assert!(is_there, "docs/{page}.md names `{name}`, which is not there");
            named += 1;
        }
        assert!(named >= 3, "{named} names were read in docs/{page}.md");
    }
}

#[test]
fn a_name_with_its_file_is_in_that_file() {
    let code = code();
    let pair = Regex::new(r"`(\w+)` in `((?:src|tests)/[^`]+\.rs)`").unwrap();
    let mut count = 0;
    for page in documents() {
        let text = std::fs::read_to_string(project().join(&page)).unwrap();
        for (_, [name, file]) in pair.captures_iter(&text).map(|found| found.extract()) {
            let is_there = code.iter().any(|(path, text)| path == file && defines(text, name));
            assert!(is_there, "{page} names `{name}` in {file}, where it is not");
            count += 1;
        }
    }
    assert!(count >= 9, "{count} names with a file were read");
}

/// What stands for a word that a reader is to write.
fn filled_in(word: &str) -> String {
    let known = [
        ("PROVIDER/MODEL", "mine/some-model"),
        ("DIGEST", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("COMMIT", "7959ac917cdeb0983b4aaa20bb9f42021747fed8"),
        ("REV", "7959ac917cdeb0983b4aaa20bb9f42021747fed8"),
        ("SHA", "7959ac917cdeb0983b4aaa20bb9f42021747fed8"),
        ("sha256:...", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("DAYS", "1"),
        ("COUNT", "1"),
        ("SECONDS", "1"),
        ("N", "1"),
        ("LIST", "all"),
    ];
    if let Some((_, with)) = known.iter().find(|(name, _)| *name == word) {
        return (*with).to_owned();
    }
    match word.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
        true => word.to_lowercase(),
        false => word.to_owned(),
    }
}

/// Prints which document has which command.
#[test]
fn every_command_of_the_documents_is_one() {
    let (mut faults, mut count) = (Vec::new(), 0);
    for name in documents() {
        let text = std::fs::read_to_string(project().join(&name)).unwrap();
        for line in [lines(&text, "sh"), lines(&text, "console")].concat() {
            let line = line.trim_start_matches("$ ").replace("cargo run --release -- ", "admit ");
            let all = words(&line, "#|>;&");
            // Variables before a command are the shell's.
            let from = all.iter().position(|word| !word.contains('=')).unwrap_or(0);
            if all.get(from).is_none_or(|word| word != "admit") || line.contains(['\u{2026}', '<'])
            {
                continue;
            }
            let args: Vec<String> = all[from..].iter().map(|word| filled_in(word)).collect();
            #[expect(clippy::print_stdout, reason = "the whole check lists what it looked at")]
            {
                println!("{name}: {line}");
            }
            count += 1;
            if let Err(err) = admit::cli::parses(&args) {
                faults.push(format!("{name}: {line}\n{err}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 30, "{count} commands were read");
}

#[test]
fn every_page_stands_in_the_index() {
    let index = document("README.md");
    for name in files::names(project().join("docs")) {
        let linked =
            index.contains(&format!("]({name})")) || index.contains(&format!("]({name}/)"));
        assert!(name == "README.md" || linked, "docs/README.md does not name {name}");
    }
}

#[test]
fn the_version_says_what_this_program_is() {
    let world = World::new();
    let found = world.admit(&["--version", "--json"]).expect(0).json();
    assert_eq!(found["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(found["build_rules"].as_str().unwrap().len(), 64, "{found}");
    assert!(world.admit(&["--version"]).expect(0).stdout().starts_with("admit "));
}
