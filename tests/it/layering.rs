//! The shape of the project: a module uses only modules listed above it, one place for each privilege.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use crate::files::{below, names};
use crate::util;

pub fn sources() -> Vec<(PathBuf, String)> {
    sources_in("src")
}

/// Every file of Rust below a directory of the project.
pub fn sources_in(dir: &str) -> Vec<(PathBuf, String)> {
    let all = below(&util::project().join(dir)).into_iter();
    let ours = all.filter(|path| path.extension().is_some_and(|end| end == "rs"));
    ours.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The pieces of Rust: remarks, texts, characters and lifetimes, and, caught, words and signs.
pub static PIECES: LazyLock<Regex> = LazyLock::new(|| {
    let texts = r##"r"[^"]*"|r#"[\s\S]*?"#|"(?:\\[\s\S]|[^"\\])*"|'(?:\\.[^']*|[^'\\])'|'\w+"##;
    Regex::new(&format!(r"//[^\n]*|{texts}|(\w+|::|[{{}}\[\](),;*.<])")).unwrap()
});

/// The lines before the tests.
pub fn code(text: &str) -> Vec<&str> {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).collect()
}

/// The modules of `src/lib.rs` in their order.
pub fn order() -> Vec<String> {
    let lib = std::fs::read_to_string(util::project().join("src/lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| {
            let name = line.strip_prefix("pub mod ").or(line.strip_prefix("pub(crate) mod "))?;
            name.strip_suffix(';').map(str::to_owned)
        })
        .collect()
}

/// The top-level module that a file belongs to.
fn module(path: &Path) -> String {
    let rel = path.strip_prefix(util::project().join("src")).unwrap().to_path_buf();
    let first = rel.components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
    first.strip_suffix(".rs").map(str::to_owned).unwrap_or(first)
}

#[test]
fn a_module_uses_only_modules_listed_above_it() {
    let order = order();
    assert!(order.len() > 5, "lib.rs lists the modules: {order:?}");
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let me = module(&path);
        if me == "lib" || me == "main" {
            continue;
        }
        let Some(mine) = order.iter().position(|m| *m == me) else {
            faults.push(format!("{} is not listed in lib.rs", path.display()));
            continue;
        };
        for (i, line) in code(&text).iter().enumerate() {
            let line = line.split("//").next().unwrap_or("");
            for used in line.split("crate::").skip(1) {
                let names: Vec<&str> = match used.strip_prefix('{') {
                    Some(group) => group.split(',').map(str::trim).collect(),
                    None => vec![used],
                };
                for name in names {
                    let name: String =
                        name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if let Some(theirs) = order.iter().position(|m| *m == name)
                        && theirs > mine
                    {
                        faults.push(format!("{}:{}: {me} uses {name}", path.display(), i + 1));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_privilege_has_one_place() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let name = path.strip_prefix(util::project().join("src")).unwrap().display().to_string();
        let code = code(&text);
        let mut only = |needle: &str, places: &[&str]| {
            let found =
                code.iter().any(|l| !l.trim_start().starts_with("//") && l.contains(needle));
            if found && !places.iter().any(|place| name.starts_with(place)) {
                faults.push(format!("{name} has {needle}, which belongs to {places:?}"));
            }
        };
        only("unsafe {", &["sandbox/sys.rs"]);
        only("unsafe fn", &["sandbox/sys.rs"]);
        only("println!", &["ui.rs"]);
        only("eprintln!", &["ui.rs"]);
        only("env::var", &["host.rs"]);
        only("async fn", &["download/", "proxy/"]);
        only("tokio::", &["download/", "proxy/"]);
        // Where programs of others are started: a provider's in a run of its launch, and where a build asks its output.
        let asks = ["build/output.rs", "build/sandboxed.rs"];
        let runs = ["run/provider.rs", "run/agent/fake.rs", "run/judge/sandboxed.rs"];
        let tries = ["run/facts.rs", "doctor/sandbox.rs"];
        only("sandbox::start(", &[&asks[..], &runs, &tries].concat());
        only("Asked::start(", &["build/output.rs", "build/published.rs"]);
        let makes = ["build/output.rs", "build/kind.rs", "run/launch.rs"];
        let reads = ["run/proof.rs", "check/launch.rs", "check/tests.rs", "sandbox/"];
        only("Mount::Verified {", &[&makes[..], &reads].concat());
        // And what a run starts is its launch, of which it makes no part itself.
        if name == "run/provider.rs" {
            for part in ["agent.workspace(", "fixture.workspace", "Duration::from"] {
                only(part, &[]);
            }
        }
        let mut imports = text.split("use crate::sandbox").skip(1);
        if imports.any(|names| names.split(';').next().unwrap().contains("start")) {
            faults.push(format!("{name} imports start: written sandbox::start( it is found"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A build is found again by a key that holds the code which decides it (`build.rs`). What this code uses is in the key,
/// too, or is known to decide nothing of a build beside what the lock and its digests do.
#[test]
fn the_code_that_decides_a_build_is_in_its_key() {
    let rules = std::fs::read_to_string(util::project().join("build.rs")).unwrap();
    let decides = |module: &str| rules.contains(&format!("\"src/{module}\""));
    let outside = ["context", "download", "error", "host", "record", "root", "secrets", "stop"];
    let mut seen = 0;
    for (path, text) in sources() {
        if !decides(&module(&path)) {
            continue;
        }
        for used in code(&text).iter().flat_map(|line| line.split("crate::").skip(1)) {
            let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            assert!(decides(used) || outside.contains(&used), "{} uses {used}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen} uses");
    assert!(rules.contains("\"Cargo.lock\""), "the crates are in the key");
}

#[test]
fn nothing_is_unfinished_or_skipped() {
    let tests =
        sources_in("tests/it").into_iter().filter(|(path, _)| !path.ends_with("layering.rs"));
    for (path, text) in sources().into_iter().chain(tests) {
        for needle in ["#[ignore", "todo!(", "unimplemented!("] {
            assert!(!text.contains(needle), "{} has {needle}", path.display());
        }
    }
}

/// Tests are also run without optimisation, and users build a release: what only one of both compiles is not tested.
#[test]
fn tests_and_releases_compile_the_same_code() {
    for (path, text) in sources() {
        let attribute = text.lines().find(|line| {
            line.trim_start().starts_with("#[cfg") && line.contains("debug_assertions")
        });
        assert_eq!(attribute, None, "{}: cfg!(debug_assertions) is an expression", path.display());
    }
}

#[test]
fn every_test_file_is_registered() {
    let main = std::fs::read_to_string(util::project().join("tests/it/main.rs")).unwrap();
    for name in names(util::project().join("tests/it")) {
        let module = name.trim_end_matches(".rs").to_owned();
        let named = module == "main" || main.contains(&format!("mod {module};"));
        assert!(named, "tests/it/main.rs does not name {module}");
    }
}
