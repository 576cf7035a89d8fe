//! Campaigns with the stand-in provider: planned, done, counted, checked, and lied to.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::files::{self, copy};
use crate::run::built;
use crate::util::{Run, World};

/// Plans `repeats` rehearsals in `name` and gives the campaign's directory.
fn planned(world: &World, name: &str, repeats: &str, more: &[&str]) -> PathBuf {
    let dir = world.path().join(name);
    let args = ["campaign", "plan", name, "--provider", "understudy", "--rehearsal"];
    let model = ["--model", "scripted/understudy-script", "--repeats", repeats];
    let out = ["--json", "--out", dir.to_str().unwrap()];
    let plan = world.admit(&[&args[..], &model, &out, more].concat()).expect(0).json();
    assert_eq!(plan["schema"], "admit.campaign-planned/1");
    dir
}

fn campaign(world: &World, what: &str, dir: &Path, more: &[&str]) -> Run {
    world.admit(&[&["campaign", what, dir.to_str().unwrap(), "--json"], more].concat())
}

fn verify(world: &World, dir: &Path) -> Run {
    world.admit(&["verify", dir.to_str().unwrap(), "--json"])
}

fn places(check: &Value) -> Vec<&str> {
    let rows = check["differences"].as_array().unwrap().iter();
    rows.map(|one| one["place"].as_str().unwrap()).collect()
}

/// The words in which a check says what it found at a place.
fn found<'a>(check: &'a Value, place: &str) -> &'a str {
    let rows = check["differences"].as_array().unwrap();
    rows.iter().find(|one| one["place"] == place).unwrap()["found"].as_str().unwrap()
}

/// What verify says of a campaign while this file of it is otherwise.
fn changed(world: &World, dir: &Path, file: &str, change: impl FnOnce(String) -> String) -> Value {
    let path = dir.join(file);
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, change(whole.clone())).unwrap();
    let check = verify(world, dir).expect(5).json();
    std::fs::write(&path, &whole).unwrap();
    check
}

#[test]
fn a_campaign_is_counted_and_every_lie_about_it_is_named() {
    let world = built();
    let dir = planned(&world, "three", "3", &[]);
    let sealed = campaign(&world, "submit", &dir, &["--jobs", "2"]).expect(0).json();
    assert_eq!(sealed["complete"], true);
    assert_eq!(sealed["total"]["success"], 3);
    assert_eq!(sealed["total"]["bounds"], json!({ "low": "1.000000", "high": "1.000000" }));
    assert_eq!(sealed["total"]["interval"], json!({ "low": "0.438503", "high": "1.000000" }));
    assert!(dir.join("campaign.html").is_file());
    let check = verify(&world, &dir).expect(0).json();
    assert_eq!((check["holds"].clone(), places(&check).len()), (json!(true), 0));
    // Once more: nothing is started, and the count is the one that is there.
    let again = campaign(&world, "submit", &dir, &[]).expect(0).json();
    assert_eq!(again["digest"], sealed["digest"]);
    assert_eq!(std::fs::read_dir(dir.join("runs")).unwrap().count(), 3);

    // One task alone, with what proves that it belongs to the count.
    let proof = campaign(&world, "show", &dir, &["--index", "1"]).expect(0).json();
    assert_eq!((&proof["leaf_index"], &proof["root_hash"]), (&json!(1), &sealed["root_hash"]));
    let proof: admit::record::campaign::InclusionProof = serde_json::from_value(proof).unwrap();
    assert!(admit::campaign::proof::proven(&proof));
    let mut lie = proof.clone();
    lie.task.attempts[0].seconds = Some(1_000_000);
    assert!(!admit::campaign::proof::proven(&lie));
    // For somebody else, who has the proof and the signed count and nothing more.
    let bundle = world.path().join("count.jsonl");
    world.admit(&["key", "new"]).expect(0);
    let to = ["attest", "campaign", dir.to_str().unwrap(), "--out", bundle.to_str().unwrap()];
    world.admit(&to).expect(0);
    let put = |name: &str, proof: &admit::record::campaign::InclusionProof| {
        let file = world.path().join(name);
        std::fs::write(&file, admit::record::pretty(proof)).unwrap();
        file.display().to_string()
    };
    let (alone, lie) = (put("task.json", &proof), put("lie.json", &lie));
    let bundle = ["--bundle", bundle.to_str().unwrap(), "--json"];
    let check = world.admit(&[&["verify", &alone], &bundle[..]].concat()).expect(0).json();
    assert_eq!(check["signature"]["signed_by"].as_object().unwrap().len(), 1);
    assert_eq!(check["task"]["state"], "success");
    let root = proof.root_hash.to_string();
    world.admit(&["verify", &alone, "--id", &root]).expect(0);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let no = world.admit(&["verify", &alone, "--id", &wrong, "--json"]).expect(5).json();
    assert_eq!(no["reason"], "campaign_differs");
    let no = world.admit(&["verify", &lie, "--json"]).expect(5).json();
    assert_eq!(no["reason"], "campaign_differs");
    // A tree of the liar's own is whole, and nobody signed it.
    let mut own = proof.clone();
    (own.path, own.tree_size, own.leaf_index, own.task.index) = (Vec::new(), 1, 0, 0);
    own.root_hash = admit::campaign::tree::root(&[admit::record::canonical(&own.task)]);
    assert!(admit::campaign::proof::proven(&own));
    let no = world.admit(&[&["verify", &put("own.json", &own)], &bundle[..]].concat()).expect(5);
    assert_eq!(no.json()["signature"]["reason"], "attested_differs");
    // A count that is not signed by whom it must be signed by does not hold, in words and in JSON.
    world.admit(&["key", "new", "other"]).expect(0);
    let whole = ["verify", dir.to_str().unwrap()];
    let check = world.admit(&[&whole, &bundle[..]].concat()).expect(0).json();
    assert_eq!(check["holds"], true);
    let check = world.admit(&[&whole, &bundle[..], &["--key", "other"]].concat()).expect(3).json();
    assert_eq!(check["holds"], false, "{check:#}");
    assert_eq!(check["signature"]["reason"], "signer_unknown");

    // One byte of one run.
    let check =
        changed(&world, &dir, "runs/000001.1/patch.diff", |text| text.replacen('d', "e", 1));
    assert!(places(&check).contains(&"task 1") && !places(&check).contains(&"task 0"));
    assert!(found(&check, "task 1").contains("patch.diff"), "{check:#}");

    // The record.
    let less = |text: String| text.replace("\"success\": 3", "\"success\": 2");
    assert_eq!(places(&changed(&world, &dir, "campaign.json", less)), ["counts"]);

    // A run of another campaign in the place of one of its own, and one of another task.
    let other = planned(&world, "other", "1", &[]);
    campaign(&world, "submit", &other, &[]).expect(0);
    let (own, kept) = (dir.join("runs/000002.1"), world.path().join("kept"));
    std::fs::rename(&own, &kept).unwrap();
    copy(&other.join("runs/000000.1"), &own);
    let check = verify(&world, &dir).expect(5).json();
    assert!(found(&check, "task 2").contains("plan: expected"), "{check:#}");
    std::fs::remove_dir_all(&own).unwrap();
    copy(&dir.join("runs/000000.1"), &own);
    let check = verify(&world, &dir).expect(5).json();
    assert!(found(&check, "task 2").contains("task: expected 2, found 0"), "{check:#}");
    std::fs::remove_dir_all(&own).unwrap();
    std::fs::rename(&kept, &own).unwrap();

    // A run that is sealed twice, and a file that is no run.
    copy(&own, &dir.join("runs/000002.2"));
    let check = verify(&world, &dir).expect(5).json();
    assert!(found(&check, "task 2").contains("attempt: expected 2, found 1"), "{check:#}");
    let no = campaign(&world, "seal", &dir, &[]).expect(5).json();
    assert_eq!(no["reason"], "campaign_differs");
    std::fs::remove_dir_all(dir.join("runs/000002.2")).unwrap();
    std::fs::write(dir.join("runs/notes.txt"), "x").unwrap();
    let check = verify(&world, &dir).expect(5).json();
    assert_eq!(check["other"], json!(["notes.txt"]));
    std::fs::remove_file(dir.join("runs/notes.txt")).unwrap();

    // The plan, after the first run.
    let fewer = |text: String| text.replace("\"attempts\": 3", "\"attempts\": 2");
    let check = changed(&world, &dir, "plan.json", fewer);
    assert!(places(&check).contains(&"plan"), "{check:#}");
    assert!(found(&check, "task 0").contains("plan: expected"), "{check:#}");
    verify(&world, &dir).expect(0);
}

#[test]
fn a_task_is_one_integer_and_what_is_missing_makes_the_rate_a_range() {
    let mut world = built();
    let dir = planned(&world, "few", "4", &["--attempts", "2"]);
    let plan = files::json(dir.join("plan.json"));
    assert_eq!((plan["repeats"].clone(), plan["pass_k"].clone()), (json!(4), json!([1, 2, 4])));
    campaign(&world, "task", &dir, &[]).expect(2);
    let out = campaign(&world, "task", &dir, &["--index", "4"]).expect(2).json();
    assert_eq!(out["expected"], "an index from 0 to 3");
    let wrong = format!("sha256:{}", "0".repeat(64));
    let no = campaign(&world, "task", &dir, &["--index", "0", "--plan", &wrong]).expect(3).json();
    assert_eq!(no["reason"], "plan_differs");

    world
        .set("SLURM_ARRAY_TASK_ID", "2")
        .set("SLURM_ARRAY_JOB_ID", "17")
        .set("SLURMD_NODENAME", "n1");
    let done = campaign(&world, "task", &dir, &[]).expect(0).json();
    assert_eq!((done["index"].clone(), done["attempt"].clone()), (json!(2), json!(1)));
    let report = files::json(dir.join("runs/000002.1/report.json"));
    let of = &report["campaign"];
    assert_eq!((of["scheduler"].as_str(), of["job"].as_str()), (Some("slurm"), Some("17")));
    assert_eq!((of["node"].as_str(), of["index"].clone()), (Some("n1"), json!(2)));
    // The same task again: it has its score, and nothing is started.
    let again = campaign(&world, "task", &dir, &[]).expect(0).json();
    assert_eq!(again["before"], true);

    // A machine that was lost left a directory without a seal: the next attempt goes on beside it.
    std::fs::create_dir(dir.join("runs/000001.1")).unwrap();
    world.set("SLURM_ARRAY_TASK_ID", "1");
    let done = campaign(&world, "task", &dir, &[]).expect(0).json();
    assert_eq!(done["attempt"], 2);
    // All attempts gone without a score.
    for attempt in ["1", "2"] {
        std::fs::create_dir(dir.join(format!("runs/000003.{attempt}"))).unwrap();
    }
    let no = campaign(&world, "task", &dir, &["--index", "3"]).expect(9).json();
    assert_eq!(no["reason"], "limit_hit");

    let status = campaign(&world, "status", &dir, &[]).expect(0).json();
    assert!(!dir.join("campaign.json").exists());
    let total = &status["total"];
    assert_eq!((total["success"].clone(), total["missing"].clone()), (json!(2), json!(1)));
    assert_eq!((total["lost"].clone(), status["complete"].clone()), (json!(1), json!(false)));
    // One of the two successes came after an attempt that was lost: it may have been a failure.
    assert_eq!(total["repeated"], 1);
    assert_eq!(total["bounds"], json!({ "low": "0.250000", "high": "1.000000" }));
    let sealed = campaign(&world, "seal", &dir, &[]).expect(1).json();
    assert_eq!(sealed["complete"], false);
    verify(&world, &dir).expect(1);
    // What is missing can be done later: the earlier count stays.
    campaign(&world, "task", &dir, &["--index", "0"]).expect(0);
    // Two collectors at once say the same; one of them writes it.
    let seal = || world.admit(&["campaign", "seal", dir.to_str().unwrap(), "--json"]).expect(1);
    let [later, other] = std::thread::scope(|scope| {
        [scope.spawn(seal), scope.spawn(seal)].map(|one| one.join().unwrap().json())
    });
    assert_eq!(later["digest"], other["digest"]);
    assert_eq!(later["total"]["success"], 3);
    let earlier = sealed["digest"].as_str().unwrap().trim_start_matches("sha256:")[..12].to_owned();
    assert!(dir.join(format!("campaign.{earlier}.json")).is_file());
    // And a run that was counted may not change meanwhile.
    std::fs::remove_dir_all(dir.join("runs/000002.1")).unwrap();
    let no = campaign(&world, "seal", &dir, &[]).expect(5).json();
    assert_eq!(no["reason"], "campaign_differs");

    // Another lock than the planned one: nothing is started.
    let other = planned(&world, "moved", "1", &[]);
    let plan = other.join("plan.json");
    let text = std::fs::read_to_string(&plan).unwrap();
    let lock = files::json(&plan)["cells"][0]["lock"].clone();
    std::fs::write(&plan, text.replace(lock.as_str().unwrap(), &wrong)).unwrap();
    let no = campaign(&world, "task", &other, &["--index", "0"]).expect(3).json();
    assert_eq!(no["reason"], "plan_differs");
    assert_eq!(std::fs::read_dir(other.join("runs")).unwrap().count(), 0);
}

#[test]
fn baselines_are_made_once_a_node_and_held_against_the_run_that_made_them() {
    let mut world = built();
    let dir = planned(&world, "once", "4", &[]);
    let done = |world: &World, index: &str| -> (String, Value) {
        campaign(world, "task", &dir, &["--index", index]).expect(0);
        let run = dir.join(format!("runs/{index:0>6}.1"));
        world.admit(&["verify", run.to_str().unwrap(), "--accept", "rehearsed"]).expect(0);
        let id = files::json(run.join("seal.json"))["id"].as_str().unwrap().to_owned();
        (id, files::json(run.join("report.json")))
    };
    world.set("SLURMD_NODENAME", "n1");
    let (first, made) = done(&world, "0");
    assert_eq!(made["baselines_of"], Value::Null);
    let (_, second) = done(&world, "1");
    let of = &second["baselines_of"];
    assert_eq!((of["run"].as_str(), of["directory"].as_str()), (Some(&*first), Some("000000.1")));
    assert_eq!(second["baselines"], made["baselines"]);
    let said = second["limits"].as_array().unwrap().iter().filter_map(Value::as_str);
    assert_eq!(said.filter(|limit| limit.contains("those of 000000.1")).count(), 1);
    for name in ["no_change.json", "no_change.log", "reference_patch.json"] {
        let [one, two] = ["000000.1", "000001.1"]
            .map(|run| std::fs::read(dir.join("runs").join(run).join("baseline").join(name)));
        assert_eq!(one.unwrap(), two.unwrap(), "{name}");
    }
    // The third has them of the one that made them, and another node makes its own.
    let (_, third) = done(&world, "2");
    assert_eq!(third["baselines_of"]["run"], first.as_str());
    world.set("SLURMD_NODENAME", "n2");
    assert_eq!(done(&world, "3").1["baselines_of"], Value::Null);
    let sealed = campaign(&world, "seal", &dir, &[]).expect(0).json();
    assert_eq!(sealed["total"]["success"], 4);

    // Without that run nothing shows them.
    std::fs::rename(dir.join("runs/000000.1"), world.path().join("away")).unwrap();
    let check = verify(&world, &dir).expect(5).json();
    assert_eq!(places(&check)[..3], ["task 0", "task 1", "task 2"]);
    assert!(!places(&check).contains(&"task 3"));
    assert!(found(&check, "task 1").contains("its baselines are those of 000000.1"), "{check:#}");
    // One that is begun now looks for it, and makes its own.
    std::fs::rename(dir.join("runs/000001.1"), world.path().join("again")).unwrap();
    world.set("SLURMD_NODENAME", "n1");
    assert_eq!(done(&world, "1").1["baselines_of"], Value::Null);
    // And what the count does not score is no score for the task either: it gets its next attempt.
    let again = campaign(&world, "task", &dir, &["--index", "2"]).expect(0).json();
    assert_eq!((&again["before"], &again["attempt"]), (&json!(false), &json!(2)), "{again:#}");
}

#[test]
fn a_cluster_gets_an_array_and_a_collector_and_a_refusal_is_told() {
    let mut world = built();
    let dir = planned(&world, "array", "5", &[]);
    let print = campaign(&world, "submit", &dir, &["--engine", "slurm", "--jobs", "2", "--print"]);
    let print = print.expect(0).json();
    let script = print["array"].as_str().unwrap();
    for line in ["#SBATCH --array=0-4%2", "#SBATCH --signal=B:TERM@45", "#SBATCH --requeue"] {
        assert!(script.contains(line), "{script}");
    }
    // A machine without a scheduler, one whose scheduler takes the array and the collector, and one whose takes nothing.
    let bin = world.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let path = crate::util::var("PATH").unwrap_or_default();
    world.set("PATH", bin.display().to_string());
    campaign(&world, "submit", &dir, &["--engine", "slurm"]).expect(2);
    let sbatch = bin.join("sbatch");
    files::script(&sbatch, "cat > \"$0.$#\"\necho 42");
    world.set("PATH", format!("{}:{path}", bin.display()));
    let done = campaign(&world, "submit", &dir, &["--engine", "slurm"]).expect(0).json();
    assert_eq!(done["array"], "42");
    assert!(std::fs::read_to_string(bin.join("sbatch.2")).unwrap().contains("campaign seal"));
    files::script(&sbatch, "echo 'Batch job submission failed: Invalid account' >&2\nexit 1");
    let no = campaign(&world, "submit", &dir, &["--engine", "slurm"]).expect(1).json();
    assert_eq!(no["reason"], "submit_failed");
    assert!(no["found"].as_str().unwrap().contains("Invalid account"));
}
