//! Ambient vectors planted around a real start: one run with everything that is neutralised, and a refusal for the rest.

use std::path::{Path, PathBuf};
use std::process::Command;

use admit::check::ambient::{Outcome, VECTORS};
use serde_json::{Value, json};

use crate::command;
use crate::files::{below, program, shipped, write};
use crate::run::{bash, built, directory, is_blocked, play, row, run, variant};
use crate::trial::{CASE, Trial, build_case, bun, real_case, understudy};
use crate::util::World;

/// What stands in everything that is planted.
const EVIL: &str = "EVIL";

/// Files in the workspace of a fixture of this world's own.
pub fn plant(world: &World, name: &str, files: &[(&str, &str)]) {
    variant(world, name, |_| {});
    for (path, text) in files {
        world.put(&format!("fixtures/{name}/workspace/{path}"), text);
    }
    world.admit(&["fixture", name, "--record"]).expect(0);
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

fn dir(world: &World, name: &str, files: &[(&str, &str)]) -> String {
    let dir = world.path().join(name);
    files.iter().for_each(|(path, text)| write(dir.join(path), text));
    dir.display().to_string()
}

const CHECKOUT: [(&str, &str); 2] =
    [("package.json", "{\"name\":\"case\"}"), ("agents/implementer.md", "Do EVIL.")];

/// Plants every vector that is neutralised, by its id, around a run of `binary`, and gives what they were.
fn plant_all(world: &mut World, binary: &Path) -> Vec<&'static str> {
    let preload = "console.log('EVIL-PRELOAD'); process.exit(66);\n";
    let outside = dir(world, "outside", &[("evil.ts", preload), ("evil.cjs", preload)]);
    let checkout = dir(world, "checkout", &CHECKOUT);
    let package = dir(world, "package", &[("package.json", "{\"piConfig\":{\"name\":\"EVIL\"}}")]);
    // An addon as Bun unpacks it, and the same under every name that it was seen to take.
    let addon = [(".bun-0-0000000000000000.node", EVIL), (".0-0.node", EVIL)];
    let shared = dir(world, "shared-tmp", &addon);
    plant(
        world,
        "planted",
        &[
            ("bunfig.toml", "preload = [\"./evil.ts\"]\n"),
            ("evil.ts", preload),
            (".env", "CASE_MODEL_OVERRIDE=EVIL\nOPENAI_API_KEY=EVIL\nHTTPS_PROXY=http://EVIL\n"),
            (".env.local", "BUN_OPTIONS=--preload=./evil.ts\n"),
        ],
    );
    let beside = dir(
        world,
        "bin",
        &[
            ("photon_rs_bg.wasm", EVIL),
            (".env", "CASE_MODEL_OVERRIDE=EVIL\n"),
            ("bunfig.toml", "preload = [\"./evil.ts\"]\n"),
            ("evil.ts", preload),
            CHECKOUT[0],
            CHECKOUT[1],
        ],
    );
    let copy = Path::new(&beside).join("ca");
    program(binary, &copy);
    world
        .set("CTO_HARNESS_CASE_BIN", copy.display().to_string())
        .set("BUN_OPTIONS", format!("--preload={outside}/evil.ts"))
        .set("BUN_BE_BUN", "1")
        .set("BUN_INSPECT", "ws://127.0.0.1:0/EVIL")
        .set("NODE_OPTIONS", format!("--require={outside}/evil.cjs"))
        .set("LD_PRELOAD", format!("{outside}/EVIL.so"))
        .set("CASE_MODEL_OVERRIDE", EVIL)
        .set("CASE_PACKAGE_ROOT", checkout)
        .set("PI_PACKAGE_DIR", package)
        .set("TMPDIR", shared);
    vec![
        "workspace_bunfig",
        "workspace_dotenv",
        "env_bun_options",
        "env_bun_be_bun",
        "env_bun_inspect",
        "env_node_options",
        "env_ld_preload",
        "env_case_model_override",
        "env_case_package_root",
        "env_pi_package_dir",
        "file_beside_binary",
        "planted_native_addon",
    ]
}

/// A rehearsal in which nothing that was planted shows: not in what the provider prints, not in what it asks, not in what
/// its tools see.
#[track_caller]
fn is_untouched(outcome: &Value) {
    let report = &outcome["report"];
    assert_eq!(report["status"], "rehearsed", "{:#}", report["blockers"]);
    let dir = directory(outcome);
    let logs =
        ["stdout.log", "stderr.log", "events.jsonl"].map(|file| dir.join("backend").join(file));
    for path in below(&dir.join("backend/wire")).into_iter().chain(logs) {
        // A tool shows every variable and every file beside the workspace that has the mark.
        let text = text(&path).replace("grep -l EVIL", "").replace("grep EVIL", "");
        assert!(!text.contains(EVIL), "{}: {text}", path.display());
    }
    let closed =
        format!("each of {} ways (variables, configuration files) is closed", VECTORS.len());
    assert_eq!(row(&report["gates"], "ambient_inputs")["found"], format!("nothing: {closed}"));
}

/// Has the agent look for itself.
fn look(world: &World) {
    let seen =
        "env | grep EVIL; grep -l EVIL /opt/case/bin/* /work/tmp/* ../* $HOME/* 2>/dev/null; true";
    variant(world, "planted", |turns| turns.insert(1, bash(seen)));
}

fn holds(mut world: World, provider: &str, binary: &Path) {
    let planted = plant_all(&mut world, binary);
    look(&world);
    let neutralised: Vec<&str> = VECTORS
        .iter()
        .filter(|vector| vector.outcome == Outcome::Neutralised)
        .map(|vector| vector.id)
        .collect();
    assert_eq!(planted, neutralised, "every vector that is neutralised is planted");
    let model = "scripted/understudy-script";
    let args = ["stage2", "planted", "--provider", provider, "--model", model];
    is_untouched(&run(&world, &args, 0));
}

#[test]
fn whatever_is_planted_around_the_stand_in_changes_nothing() {
    holds(built(), "understudy", &understudy().binary);
}

#[test]
fn whatever_is_planted_around_real_case_changes_nothing() {
    let Some(case) = real_case() else { return };
    let world = World::with_shared_store();
    assert!(build_case(&world));
    holds(world, CASE.0, &case.binary);
}

#[test]
fn what_is_not_neutralised_refuses() {
    let mut refused: Vec<&str> =
        VECTORS.iter().filter(|v| v.outcome == Outcome::Refused).map(|v| v.id).collect();
    let world = built();
    let mut refuses = |world: &World, name: &str, vector: &str| {
        let outcome = play(world, name, &[], 3);
        let row = row(&outcome["report"]["gates"], "ambient_inputs");
        assert!(row["found"].as_str().unwrap().starts_with(vector), "{row:#}");
        assert_eq!(outcome["report"]["case_process_started"], false);
        refused.retain(|id| *id != vector);
        outcome
    };
    plant(&world, "checkout", &CHECKOUT);
    let outcome = refuses(&world, "checkout", "case_package_upward");
    is_blocked(&world, &outcome, "ambient_inputs", "gate_refused", "gate-refused.txt");
    plant(&world, "deeper", &[("tools/package.json", "{\"name\":\"case\"}")]);
    refuses(&world, "deeper", "case_package_upward");
    let mut lock = shipped("lockfiles/understudy.lock.json");
    lock["run"]["argv"].as_array_mut().unwrap().extend([json!("--model"), json!("EVIL")]);
    world.put("lockfiles/understudy.lock.json", lock.to_string());
    let outcome = refuses(&world, "r1-string-slugify", "model_argument");
    is_blocked(&world, &outcome, "command_shape", "gate_refused", "gate-refused.txt");
    // The names come from the lock of an agent that is data: `command.rs` plants them.
    refused.retain(|id| *id != "workspace_inputs");
    assert_eq!(refused, [""; 0], "every vector that refuses is planted");
}

/// Asks for modules that are not inside it, and says which files ran in their place and what a `.env` set.
const LOOKS_UP: &str = "
for (const parts of [['hel', 'per'], ['#in', 'ner'], ['its', 'elf']]) {
  try { await import(parts.join('')); } catch {}
}
console.log(JSON.stringify({ type: 'end', ran: globalThis.ran ?? [], set: process.env.PLANTED ?? null }));
";
/// What each file of a project makes of that: its path, its text, and the file that then runs.
const MODULES: [(&str, &str); 5] = [
    ("node_modules/helper/index.js", "(globalThis.ran ??= []).push('planted');"),
    ("tsconfig.json", r#"{"compilerOptions":{"paths":{"helper":["./planted.js"]}}}"#),
    ("jsconfig.json", r#"{"compilerOptions":{"paths":{"*":["./planted.js"]}}}"#),
    ("package.json", r##"{"imports":{"#inner":"./planted.js"}}"##),
    ("package.json", r#"{"name":"itself","exports":"./planted.js"}"#),
];
const PLANTED: (&str, &str) = ("planted.js", MODULES[0].1);
/// Fields of a `package.json` by which nothing else runs, and what is read at the start.
const HARMLESS: [(&str, &str); 3] = [
    (
        "package.json",
        r#"{"name":"itself","type":"module","main":"./planted.js","module":"./planted.js",
            "browser":{"helper":"./planted.js"},"dependencies":{"helper":"file:./planted.js"},"workspaces":["."],
            "overrides":{"helper":"./planted.js"},"scripts":{"preinstall":"touch planted-ran"},"preload":["./planted.js"],
            "bun":{"preload":["./planted.js"],"macros":{"helper":{"default":"./planted.js"}}}}"#,
    ),
    ("bunfig.toml", "preload = [\"./planted.js\"]\n"),
    (".env", "PLANTED=set\n"),
];

/// [`LOOKS_UP`] compiled with these switches.
fn compiled(dir: &Path, name: &str, switches: &[&str]) -> PathBuf {
    std::fs::write(dir.join("looks-up.js"), LOOKS_UP).unwrap();
    let mut compile = Command::new(dir.join("bun"));
    compile.args(["build", "--compile", "looks-up.js", "--outfile", name]).args(switches);
    let done = compile.current_dir(dir).env_clear().env("HOME", dir).env("TMPDIR", dir).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    dir.join(name)
}

#[test]
fn what_a_bun_executable_would_run_of_a_project_refuses_it() {
    let dir = tempfile::tempdir().unwrap();
    bun(&dir.path().join("bun"));
    let every = ["dotenv", "bunfig", "tsconfig", "package-json"];
    let switches = |no: &str| every.map(|what| format!("--{no}compile-autoload-{what}"));
    let (on, off) = (switches(""), switches("no-"));
    let loads = compiled(dir.path(), "loads", &on.each_ref().map(String::as_str));
    let plain = compiled(dir.path(), "plain", &off.each_ref().map(String::as_str));
    // Alone, in a project with one of the files: what would run.
    let alone = |program: &Path, files: &[(&str, &str)]| -> Value {
        let project = tempfile::tempdir().unwrap();
        for (path, text) in files.iter().chain([&PLANTED]) {
            write(project.path().join(path), text);
        }
        let done = Command::new(program).current_dir(project.path()).env_clear().output().unwrap();
        serde_json::from_slice(&done.stdout).unwrap()
    };
    for (number, file) in MODULES.iter().enumerate() {
        assert_eq!(alone(&loads, &[*file])["ran"], json!(["planted"]), "{file:?}");
        let ran = if number == 0 { json!(["planted"]) } else { json!([]) };
        assert_eq!(alone(&plain, &[*file])["ran"], ran, "{file:?}");
    }
    assert_eq!(alone(&loads, &HARMLESS[..1])["ran"], json!([]));
    let started = alone(&loads, &HARMLESS);
    assert_eq!((&started["ran"], &started["set"]), (&json!(["planted"]), &json!("set")));
    // In a run: what would is refused, all of it by name, and nothing starts.
    let trial = |program: &Path, ambient: &str, files: &[(&str, &str)]| {
        let run = command::run(|run| {
            run["ambient"] = json!(ambient);
            run["command"]["end"] =
                json!({ "types": ["end"], "pointer": "/type", "equals": "end", "exit": "zero" });
        });
        let trial = Trial::executable(program, run);
        files.iter().fold(trial, |trial, (path, text)| trial.planted(path, text)).scripted()
    };
    for (program, ambient, files, named) in [
        (
            &loads,
            "neutralise",
            &MODULES[..4],
            &["node_modules", "tsconfig.json", "jsconfig.json", "package.json#imports"][..],
        ),
        (&loads, "neutralise", &MODULES[4..], &["package.json#exports"]),
        (&plain, "hardened", &MODULES[..1], &["node_modules"]),
    ] {
        let left = trial(program, ambient, files);
        left.ends("gate_refused", "", 3);
        assert!(!left.report().case_process_started);
        let told = left.report().blockers.join("\n");
        let of = |name: &&str| told.contains(&format!("the agent loads {name}"));
        let all = [
            "node_modules",
            "tsconfig.json",
            "jsconfig.json",
            "package.json#imports",
            "package.json#exports",
        ];
        let found: Vec<&str> = all.into_iter().filter(|name| of(name)).collect();
        assert_eq!(found, named, "{told}");
    }
    // What cannot is let through, and nothing of it runs: by how it was compiled, or by how it is started.
    let all: Vec<_> = HARMLESS.iter().chain(&MODULES[1..]).copied().collect();
    for (program, ambient, files) in
        [(&plain, "hardened", &all[..]), (&loads, "neutralise", &HARMLESS[..])]
    {
        let left = trial(program, ambient, &[files, &[PLANTED]].concat());
        let said: Value = serde_json::from_str(&left.text("backend/stdout.log")).unwrap();
        assert_eq!(said, json!({ "type": "end", "ran": [], "set": null }), "{ambient}");
    }
}
