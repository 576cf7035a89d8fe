//! What piles up and how it goes: runs listed, compared and removed, the store's garbage; and one run in a pipeline.

use std::path::PathBuf;
use std::process::Command;

use admit::record::ids::Algorithm;
use admit::store::Store;
use serde_json::Value;

use crate::files::mode;
use crate::util::{World, admit, project, shared_store};

const REFUSED: [&str; 6] =
    ["run", "stage2", "--provider", "understudy", "--model", "nobody/nothing"];

#[test]
fn runs_are_listed_filtered_compared_and_removed() {
    let world = World::new();
    world.admit(&["runs"]).expect(0);
    for _ in 0..3 {
        world.admit(&REFUSED).expect(3);
    }
    let list = |args: &[&str]| world.admit(&[&["runs", "--json"], args].concat()).expect(0).json();
    let all = list(&[]);
    assert_eq!(all["total"], 3);
    let first = &all["runs"][0];
    assert_eq!(first["status"], "blocked");
    assert_eq!(first["fixture"], "r1-string-slugify");
    let class = first["failure_class"].as_str().unwrap().to_owned();
    assert_eq!(list(&["--status", "pass"])["total"], 0);
    assert_eq!(list(&["--class", &class, "--model", "nobody"])["total"], 3);
    world.admit(&["runs", "--status", "great"]).expect(2);

    let name = all["runs"][2]["name"].as_str().unwrap();
    let compared = world.admit(&["runs", "compare", "latest", name, "--json"]).expect(0).json();
    let field = |name: &str| {
        let fields = compared["fields"].as_array().unwrap();
        fields.iter().find(|field| field["field"] == name).unwrap().clone()
    };
    assert_eq!(field("status")["a"], field("status")["b"]);
    assert_ne!(field("run_directory")["a"], field("run_directory")["b"]);

    world.admit(&["runs", "prune"]).refuse(2, "bad_argument");
    let would =
        world.admit(&["runs", "prune", "--keep", "1", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(would["runs"].as_array().unwrap().len(), 2);
    assert_eq!(list(&[])["total"], 3, "a dry run removes nothing");
    let gone = world.admit(&["runs", "prune", "--keep", "1", "--json"]).expect(0).json();
    assert_eq!(gone["runs"], would["runs"]);
    assert_eq!(list(&[])["runs"][0]["name"], first["name"], "the newest stays");
    // One that was changed is listed as what it is, and never compared.
    std::fs::write(crate::run::directory(first).join("report.json"), "{}").unwrap();
    let changed = list(&[]);
    assert_eq!(changed["runs"][0]["status"], Value::Null);
    assert!(changed["runs"][0]["fault"].as_str().unwrap().contains("not the sealed one"));
    world.admit(&["runs", "compare", "latest", "latest"]).expect(5);
}

#[test]
fn garbage_goes_and_everything_on_record_still_verifies() {
    let world = World::with_own_store();
    let store = world.store();
    // What other tests have built and fetched: garbage here, and Bun need not be downloaded again.
    std::fs::create_dir_all(store.join("v1")).unwrap();
    for area in ["files", "trees"] {
        let from = shared_store().join("v1").join(area);
        if from.is_dir() {
            // A store on another file system cannot be linked to.
            let copied = ["-al", "-a"].into_iter().any(|how| {
                let to = store.join("v1");
                Command::new("cp").arg(how).arg(&from).arg(to).status().unwrap().success()
            });
            assert!(copied);
        }
    }
    mode(&store, 0o700);
    mode(store.join("v1"), 0o700);
    world.admit(&["build", "understudy", "--record"]).expect(0);
    // One lock that changed again and again: each build has another output and the same Bun, which no build is kept for.
    world.admit(&["lock", "moved", "--like", "understudy"]).expect(0);
    let mut outputs: Vec<PathBuf> = Vec::new();
    for round in 0..3 {
        let place = format!("/tmp/admit-moved-{round}");
        world.admit(&["lock", "moved", "--build-path", &place]).expect(0);
        let built = world.admit(&["build", "moved", "--json"]).expect(0).json();
        outputs.push(built["output"].as_str().unwrap().into());
    }
    let there = || outputs.iter().map(|output| output.exists()).collect::<Vec<_>>();
    let junk =
        Store::open(&store).unwrap().put(b"junk", Algorithm::Sha256).unwrap().path().to_owned();

    let would = world.admit(&["gc", "--dry-run", "--json"]).expect(0).json();
    assert!(would["files"]["count"].as_u64().unwrap() >= 1, "{would}");
    assert!(junk.exists(), "a dry run removes nothing");
    world.admit(&["gc"]).expect(0);
    assert_eq!(there(), [false, true, true], "the last two builds stay");
    let run = world.admit(&["gc", "--keep-builds", "0", "--json"]).expect(0).json();
    assert!(run["before"]["bytes"].as_u64() > run["files"]["bytes"].as_u64(), "{run}");
    assert_eq!(there(), [false, false, true], "the one that its lock names stays");
    assert!(!junk.exists());
    world.admit(&["verify", "understudy"]).expect(0);
    let again = world.admit(&["build", "understudy", "--json"]).expect(0);
    assert!(!again.stderr().contains("fetch"), "nothing that is needed is gone\n{again}");
    assert_eq!(again.json()["fresh"], false);
    let nothing = world.admit(&["gc", "--keep-builds", "0", "--json"]).expect(0).json();
    for what in ["files", "trees", "records"] {
        assert_eq!(nothing[what]["count"], 0, "{what}: {nothing}");
    }
}

/// The script of the composite action's step.
fn step() -> String {
    let text = std::fs::read_to_string(project().join("action.yml")).unwrap();
    let script = text.split("      run: |\n").nth(1).expect("a step with a script");
    script
        .lines()
        .map(|line| line.strip_prefix("        ").unwrap_or(line).to_owned() + "\n")
        .collect()
}

#[test]
fn a_pipeline_gets_junit_a_summary_and_annotations_and_the_exit_code() {
    let world = World::new();
    let dir = admit();
    let path = format!("{}:{}", dir.parent().unwrap().display(), crate::util::var("PATH").unwrap());
    let mut command = world.command_behind(&["bash", "-c", &step()], &[]);
    command
        .env("PATH", path)
        .env("ARGUMENTS", REFUSED[1..].join(" ") + " --require pass")
        .env("EXPECT_ROOT", "")
        .env("ACTION_PATH", project())
        .env("GITHUB_STEP_SUMMARY", world.cwd().join("page.md"));
    let run = world.run("action.yml", &mut command).expect(3);
    let read = |name: &str| std::fs::read_to_string(world.cwd().join(name)).unwrap();
    let page = read("page.md");
    assert!(page.starts_with("### BLOCKED: r1-string-slugify\n"), "{page}");
    assert!(page.lines().count() <= 20, "{page}");
    let junit = read("admit-junit.xml");
    let case = "<testcase classname=\"admit.run\" name=\"check model_admitted\">";
    assert!(junit.contains(case), "{junit}");
    assert!(run.stdout().contains("\n::error title=admit blocked%3A r1-string-slugify::"), "{run}");
    // The copy is the run.
    world.admit(&["verify", "./admit-evidence", "--accept", "blocked"]).expect(0);
    world.admit(&[&REFUSED[..], &["--out", "admit-evidence"]].concat()).refuse(2, "bad_argument");
    let python = "import sys, xml.etree.ElementTree as t; t.parse(sys.argv[1])";
    let file = world.cwd().join("admit-junit.xml");
    let parsed = Command::new("python3").args(["-c", python]).arg(file).output();
    assert!(parsed.unwrap().status.success(), "{junit}");
}
