//! Every command of every document is run, in the order in which it stands there, in a home that was empty before. What a
//! reader would put in is put in here (a model, a run, a file), and the stand-in provider takes the place of Case, whose
//! repository is not at hand. A command that does not end as its document says fails.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::files;
use crate::lock::{MAIN, PACKAGE, root_lock};
use crate::repo::{commit, mirror};
use crate::util::{World, project};

/// A document with what stands in for its names, and the lines that end otherwise than with 0.
struct Page {
    name: &'static str,
    stand_ins: &'static [(&'static str, &'static str)],
    ends: &'static [(&'static str, i32)],
}

/// Documents whose commands have a test of their own.
const ELSEWHERE: [(&str, &str); 4] = [
    ("docs/models.md", "network::the_page_of_models_is_followed_in_a_network_of_ones_own"),
    ("docs/own-fixture.md", "fixture::the_guide_for_ones_own_fixture_works_as_it_is_written"),
    ("docs/own-provider.md", "lock::the_guide_for_ones_own_provider_works_as_it_is_written"),
    ("docs/sharing.md", "share::the_page_about_sharing_works_as_it_is_written"),
];

const SCRIPTED: &str = "scripted/understudy-script --provider understudy";

/// All of them are run, each with what it must find, by the test module `health`.
const ONE_VALIDATOR: &str = "admit health --only wrong_work_rejected";

const PAGES: [Page; 6] = [
    Page {
        name: "README.md",
        stand_ins: &[("admit build case@7959ac9   #", "admit build case@7959ac9 --record #")],
        // No model is named.
        ends: &[("admit run stage2", 3)],
    },
    Page {
        name: "docs/attestations.md",
        // What was carried to the other machine.
        stand_ins: &[("builder.pub", "\"$HOME/.local/share/admit/keys/release.pub\"")],
        ends: &[],
    },
    Page {
        name: "docs/campaigns.md",
        stand_ins: &[
            (
                "--model qwen-local/qwen3.6-35b-a3b",
                "--model scripted/understudy-script --rehearsal",
            ),
            ("--repeats 20", "--repeats 2"),
        ],
        ends: &[],
    },
    Page {
        name: "docs/ci.md",
        stand_ins: &[("admit health", ONE_VALIDATOR), ("PROVIDER/MODEL", SCRIPTED)],
        // A rehearsal is no pass.
        ends: &[("admit run stage2 --model PROVIDER/MODEL --require pass", 1)],
    },
    Page {
        name: "docs/harness-evidence.md",
        stand_ins: &[],
        ends: &[("admit verify DIR   ", 1), ("admit verify DIR --id", 1)],
    },
    Page {
        name: "docs/operate.md",
        stand_ins: &[
            ("admit health", ONE_VALIDATOR),
            (
                "PROVIDER/MODEL --dry-run --probe",
                "scripted/understudy-script --provider understudy --dry-run",
            ),
            ("PROVIDER/MODEL", SCRIPTED),
        ],
        ends: &[("admit verify latest", 1)],
    },
];

/// The lines of the blocks of this kind of a document; a line that goes on is one.
pub fn lines(text: &str, kind: &str) -> Vec<String> {
    let blocks = text.split("```").skip(1).step_by(2);
    let shell = blocks.filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n'));
    shell
        .flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

pub fn documents() -> Vec<String> {
    let mut names: Vec<String> = vec!["README.md".into(), "CONTRIBUTING.md".into()];
    for name in files::names(project().join("docs")) {
        names.extend(name.ends_with(".md").then(|| format!("docs/{name}")));
    }
    names.sort();
    names
}

/// What a reader has before: a repository of a tool, a model's record.
pub fn prepare(world: &mut World) {
    let files = [("package.json", PACKAGE), ("bun.lock", &root_lock()), ("main.ts", MAIN)];
    commit(&mirror(world).join("you/tool"), &files);
    world.set("ADMIT_MIRROR", format!("https://example.com/=file://{}/", mirror(world).display()));
    let record = project().join("admissions/models/qwen-local--qwen3.6-35b-a3b.json");
    std::fs::copy(record, world.cwd().join("record.json")).unwrap();
}

/// Where the newest run lies, and its id.
fn latest(world: &World) -> (PathBuf, String) {
    let dir = world.runs().join(files::names(world.runs()).pop().unwrap());
    let seal = files::json(dir.join("seal.json"));
    (dir, format!("sha256:{}", seal["id"].as_str().unwrap().trim_start_matches("sha256:")))
}

fn filled_in(line: &str, page: &Page, world: &World) -> String {
    let mut line = line.to_owned();
    for (from, to) in page.stand_ins {
        line = line.replace(from, to);
    }
    let words: Vec<String> = line
        .split(' ')
        .map(|word| match word {
            "case@7959ac9" | "case" => "understudy".to_owned(),
            "DIR" => latest(world).0.display().to_string(),
            "RUN" => latest(world).0.file_name().unwrap().to_str().unwrap().to_owned(),
            "FILE" => "record.json".to_owned(),
            "sha256:..." => latest(world).1,
            _ => word.to_owned(),
        })
        .collect();
    words.join(" ")
}

#[test]
fn every_command_of_the_documents_does_what_it_says() {
    let mut world = World::new();
    prepare(&mut world);
    let mut read = BTreeSet::new();
    let mut faults = Vec::new();
    for page in &PAGES {
        let text = std::fs::read_to_string(project().join(page.name)).unwrap();
        let mut ends: BTreeSet<(&str, i32)> = BTreeSet::new();
        for line in lines(&text, "sh") {
            let say = |what: &str| {
                // The whole check lists what it ran; what a macro prints is shown of a failed test alone.
                writeln!(std::io::stdout().lock(), "{}: {line}{what}", page.name).unwrap();
            };
            if line.starts_with("cargo ") {
                say(" (run by the whole check)");
                continue;
            }
            let typed = filled_in(&line, page, &world);
            let end = page.ends.iter().find(|(start, _)| line.starts_with(start));
            ends.extend(end.copied());
            let run = world.shell(&typed);
            say(&format!(" -> {:?}", run.code()));
            let code = end.map_or(0, |(_, code)| *code);
            if run.code() != Some(code) {
                let what = format!("ended otherwise than with {code}");
                faults.push(format!("{}: {line}\n{what}\n{run}", page.name));
            }
        }
        assert_eq!(ends.len(), page.ends.len(), "{}: a line that is expected is gone", page.name);
        read.insert(page.name.to_owned());
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    for name in documents() {
        let text = std::fs::read_to_string(project().join(&name)).unwrap();
        let elsewhere = ELSEWHERE.iter().any(|(page, _)| *page == name);
        let none = lines(&text, "sh").iter().all(|line| !line.starts_with("admit "));
        assert!(read.contains(&name) || elsewhere || none, "{name} has commands that nothing runs");
    }
    for (page, test) in ELSEWHERE {
        let (file, name) = test.split_once("::").unwrap();
        let text = std::fs::read_to_string(project().join(format!("tests/it/{file}.rs"))).unwrap();
        assert!(text.contains(name) && text.contains(page), "{test} does not run {page}");
        assert!(Path::new(&project()).join(page).is_file());
    }
}
