//! The tamper corpus: every directory of `fixtures/hostile/tamper` is one change to a good set of files, and its name
//! carries the refusal that the real command must give. `fixtures/hostile/elsewhere` says which test provokes a reason
//! that no changed file can. `fixtures/hostile/README.md` has the form.

mod change;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use admit::build::Stored;
use admit::error::Reason;
use admit::lock::Locked;
use admit::record;
use admit::record::ids::Digest;
use admit::store::Store;
use serde_json::Value;

use crate::files::{below, mode, names, program, shipped};
use crate::util::{Run, World, faults, project, shared_store, tell};
use change::{Mutation, Op, put};

const LOCK: &str = "lockfiles/understudy.lock.json";
const MODEL: &str = "admissions/models/scripted--understudy-script.json";
/// Where a user's own records and the evidence are, below a home.
const DATA: &str = ".local/share/admit";
const RUNS: &str = ".local/state/admit/runs";

/// A set of files that admit accepts: a store with one build, the user's records of it, a root directory, a sealed run.
pub struct Good {
    pub world: World,
    /// The named files of the store, below its layout.
    pub store: BTreeMap<&'static str, String>,
    /// The name of the build's record.
    record: String,
    /// The name of the run.
    run: String,
}

/// Copies a directory by hard links, where the file system has them: a change to a copy replaces the file.
pub fn link(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            link(&entry.path(), &to.join(entry.file_name()));
        }
        return;
    }
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).unwrap();
    }
}

/// Copies a store without what running programs write there and take away: commands of other cases use the good one.
fn copy_store(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        if name != "tmp" && name != "locks" {
            link(&from.join(&name), &to.join(&name));
        }
    }
    mode(to, 0o700);
}

/// The place of a file in a store.
fn file_of(digest: &Digest) -> String {
    let hex = digest.to_hex();
    format!("files/{}/{}/{hex}", digest.algorithm(), &hex[..2])
}

/// The named places in the store of the stand-in's build.
fn places(report: &Value) -> BTreeMap<&'static str, String> {
    let lock = shipped(LOCK);
    let bun = &lock["toolchain"]["bun"]["platforms"]["linux-x64"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let hex = |value: &Value| file_of(&format!("sha256:{}", text(value)).parse().unwrap());
    let sri = |value: &Value| Digest::from_sri(&text(value)).unwrap();
    let packages = packages();
    let nar = sri(&report["nar_hash"]).to_hex();
    let bytes = std::fs::read(project().join(LOCK)).unwrap();
    let locked = Locked::new(record::parse(&bytes).unwrap(), LOCK.into()).unwrap();
    let store = Store::open(&shared_store()).unwrap();
    let plan = Stored::of(&store, &locked).key.to_string().replace(':', "-");
    BTreeMap::from([
        ("output", hex(&report["sha256"])),
        ("bun", hex(&bun["binary_sha256"])),
        ("bun-archive", file_of(&sri(&bun["integrity"]))),
        ("package", packages[0].clone()),
        ("other-package", packages[1].clone()),
        ("source", format!("trees/{nar}")),
        ("report", format!("records/builds/{plan}/report.json")),
        ("packages", format!("records/builds/{plan}/packages.json")),
        ("commit", format!("records/source/sha256-{nar}/commit")),
    ])
}

/// The places of the stand-in's packages that are for this platform.
fn packages() -> Vec<String> {
    let text = std::fs::read_to_string(project().join("fixtures/understudy/bun.lock")).unwrap();
    let listed = text.split('"').filter(|part| part.starts_with("sha512-"));
    let places = listed.map(|part| file_of(&Digest::from_sri(part).unwrap()));
    places.filter(|place| shared_store().join("v1").join(place).exists()).collect()
}

pub fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let mut world = World::with_shared_store();
        let built = world.admit(&["build", "understudy", "--record", "--json"]).expect(0).json();
        let ran = world.admit(&["run", "stage2", "--engine", "fake", "--json"]).expect(0).json();
        let store = places(&built["report"]);
        // What this build needs of the store that all tests share.
        let (shared, own) = (shared_store().join("v1"), world.path().join("store/v1"));
        for place in store.values().chain(&packages()).collect::<BTreeSet<_>>() {
            link(&shared.join(place), &own.join(place));
        }
        mode(&own, 0o700);
        world.set("ADMIT_STORE", world.store().display().to_string());
        let root = world.root();
        for place in [LOCK, MODEL] {
            put(&root.join(place), &std::fs::read(project().join(place)).unwrap());
        }
        let fixture = "fixtures/r1-string-slugify";
        link(&project().join(fixture), &root.join(fixture));
        put(&root.join("admit.toml"), b"");
        let policy = policy(&world);
        // A root such as a cloned repository brings, and single files that a person names.
        for part in ["admit.toml", "lockfiles", "admissions"] {
            link(&root.join(part), &world.cwd().join("dir").join(part));
        }
        put(&root.join("admit.toml"), policy.as_bytes());
        link(&root.join(MODEL), &world.cwd().join("admission.json"));
        let binary = world.cwd().join("ca");
        program(own.join(&store["output"]), &binary);
        let name = |path: &Value| {
            Path::new(path.as_str().unwrap()).file_name().unwrap().to_str().unwrap().to_owned()
        };
        Good { record: name(&built["recorded"]), run: name(&ran["directory"]), world, store }
    })
}

/// Two keys, the build attested by the first, and a policy that asks for its signature.
fn policy(world: &World) -> String {
    let mut text = String::new();
    for name in ["release", "second"] {
        let made = world.admit(&["key", "new", name, "--json"]).expect(0).json();
        let line = made["keys"][0]["public"].as_str().unwrap().to_owned();
        text += &format!("[[signer]]\nname = \"{name}\"\nkey = \"{line}\"\n\n");
    }
    drop(world.admit(&["attest", "build", "understudy", "--key", "release", "--record"]).expect(0));
    text + "[require.build]\nsigners = [\"release\"]\n"
}

/// A copy of the good set.
pub struct Copy {
    pub world: World,
}

impl Copy {
    /// The store is copied only where it will be changed or written, and either the records or the run.
    pub fn new(own_store: bool, run: bool) -> Self {
        let (good, mut world) = (&good().world, World::new());
        let store = match own_store {
            true => {
                copy_store(&good.path().join("store/v1"), &world.path().join("store/v1"));
                world.path().join("store")
            }
            false => good.path().join("store"),
        };
        world.set("ADMIT_STORE", store.display().to_string());
        let area = if run { RUNS } else { DATA };
        link(&good.home().join(area), &world.home().join(area));
        if !run {
            link(&good.cwd(), &world.cwd());
        }
        Self { world }
    }

    /// The path of a file by its name in `mutation.json`.
    pub fn find(&self, name: &str) -> PathBuf {
        let (area, rest) = name.split_once('/').unwrap_or((name, ""));
        let store = self.world.path().join("store/v1");
        match area {
            "store" if rest.is_empty() => store,
            "store" => {
                let (named, below) = rest.split_once('/').unwrap_or((rest, ""));
                let place = good().store.get(named).unwrap_or_else(|| panic!("no store/{named}"));
                if below.is_empty() { store.join(place) } else { store.join(place).join(below) }
            }
            "data" => self.world.home().join(DATA).join(rest),
            "root" if rest == "build-record" => {
                self.world.root().join("admissions/builds").join(&good().record)
            }
            "root" if rest == "attestation" => {
                let output = Path::new(&good().store["output"]).file_name().unwrap();
                let dir = self.world.root().join("admissions/attestations");
                dir.join(output).with_extension("intoto.jsonl")
            }
            "root" => self.world.root().join(rest),
            "run" => self.world.home().join(RUNS).join(&good().run).join(rest),
            "cwd" => self.world.cwd().join(rest),
            _ => panic!("no {name} in the good set"),
        }
    }

    fn run(&self, command: &[String]) -> Run {
        let cwd = self.world.cwd().display().to_string();
        let args: Vec<String> = command.iter().map(|arg| arg.replace("@CWD@", &cwd)).collect();
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.push("--json");
        self.world.admit(&args)
    }

    fn apply(&self, change: &change::Change, target: &str) {
        match change.op {
            Op::Trust => {
                let dir = self.find(target);
                drop(self.world.admit(&["trust", dir.to_str().unwrap()]).expect(0));
            }
            _ => change.op.apply(&self.find(target), &|name| self.find(name)),
        }
    }
}

/// The stable words of an answer: reasons, states, and the checks that failed.
fn words(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| words(value, out)),
        Value::Object(map) => {
            let no = map.get("state").is_some_and(|state| state == "failed");
            for key in ["reason", "status", "failure_class", "case_model_admission_status"] {
                out.extend(map.get(key).and_then(Value::as_str).map(str::to_owned));
            }
            if no {
                out.extend(map.get("id").and_then(Value::as_str).map(str::to_owned));
            }
            map.values().for_each(|value| words(value, out));
        }
        _ => {}
    }
}

/// Every target that `name` stands for.
fn targets(name: &str) -> Vec<String> {
    let run = good().world.runs().join(&good().run);
    let named = |path: &Path| format!("run/{}", path.strip_prefix(&run).unwrap().display());
    let files = below(&run);
    // No directory of a run is empty.
    let above =
        |file: &'_ PathBuf| file.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>();
    let dirs: BTreeSet<PathBuf> =
        files.iter().flat_map(above).filter(|dir| dir.starts_with(&run)).collect();
    match name {
        "run/*" => files.iter().map(|file| named(file)).collect(),
        "run/**" => dirs.iter().map(|dir| named(&dir.join("planted.txt"))).collect(),
        one => vec![one.to_owned()],
    }
}

/// One change, and the refusal that it must meet.
struct Case {
    name: String,
    target: Option<String>,
}

/// What lies in an area of `fixtures/hostile`, by name.
pub fn directories(area: &str) -> BTreeMap<String, PathBuf> {
    let dir = project().join("fixtures/hostile").join(area);
    let names = names(&dir).into_iter().filter(|name| name != "README.md");
    names.map(|name| (name.clone(), dir.join(name))).collect()
}

fn mutations() -> BTreeMap<String, Mutation> {
    let read = |(name, dir): (String, PathBuf)| {
        let mutation = crate::files::json(dir.join("mutation.json"));
        let mutation: Mutation =
            serde_json::from_value(mutation).unwrap_or_else(|err| panic!("{name}: {err}"));
        assert!(!mutation.what.is_empty() && !mutation.change.is_empty(), "{name}");
        assert_eq!(name.split("--").count(), 3, "{name}: expected LAYER--CHANGE--REFUSAL");
        (name, mutation)
    };
    directories("tamper").into_iter().map(read).collect()
}

/// What is wrong with the answer to one change; `None` where it was refused as its name says.
fn fault(case: &Case, mutation: &Mutation) -> Option<String> {
    let refusal = case.name.rsplit("--").next().unwrap();
    let own_store = mutation.change.iter().any(|change| change.target.starts_with("store"))
        || !matches!(mutation.command[0].as_str(), "verify" | "model" | "run" | "show");
    let of_run = mutation.change.iter().any(|change| change.target.starts_with("run"));
    let copy = Copy::new(own_store, of_run);
    for change in &mutation.change {
        let target = if change.target.contains('*') { case.target.as_ref() } else { None };
        copy.apply(change, target.unwrap_or(&change.target));
    }
    let run = copy.run(&mutation.command);
    let reason = Reason::ALL.iter().find(|reason| reason.as_str() == refusal);
    let expected = mutation.exit.or_else(|| Some(i32::from(reason?.kind().exit_code())));
    let mut found = BTreeSet::new();
    match serde_json::from_str::<Value>(&run.stdout()) {
        Ok(answer) => words(&answer, &mut found),
        Err(err) => return Some(format!("no answer as data: {err}\n{run}")),
    }
    let what = match run.code() {
        Some(0) => "was ADMITTED".to_owned(),
        code if expected.is_none() => format!("names no exit code; it was {code:?}"),
        code if code != expected => format!("expected exit code {expected:?}"),
        _ if !found.contains(refusal) => format!("found {found:?}"),
        _ if !mutation.says.as_ref().is_none_or(|says| run.stdout().contains(says.as_str())) => {
            format!("does not say {:?}", mutation.says)
        }
        _ => return None,
    };
    Some(format!("{} {}: {what}\n{run}", case.name, case.target.as_deref().unwrap_or_default()))
}

#[test]
fn every_tampered_set_is_refused_with_its_reason() {
    let mutations = mutations();
    // Without a change each of the commands says yes: otherwise a refusal would show nothing.
    let commands: BTreeSet<&Vec<String>> = mutations.values().map(|m| &m.command).collect();
    for command in commands {
        let of_run = command.iter().any(|word| word == "latest");
        let copy = Copy::new(true, of_run);
        if command[0] == "--root" {
            drop(copy.world.admit(&["trust", "dir"]).expect(0));
        }
        drop(copy.run(command).expect(0));
    }
    let mut cases = Vec::new();
    for (name, mutation) in &mutations {
        let each = mutation.change.iter().find(|change| change.target.contains('*'));
        match each {
            Some(change) => {
                let each = targets(&change.target).into_iter();
                cases.extend(each.map(|target| Case { name: name.clone(), target: Some(target) }));
            }
            None => cases.push(Case { name: name.clone(), target: None }),
        }
    }
    let faults = faults(&cases, |case| {
        let one = || fault(case, &mutations[&case.name]);
        let found = std::panic::catch_unwind(AssertUnwindSafe(one));
        found.unwrap_or_else(|_| Some(format!("{}: cannot be applied", case.name)))
    });
    let refused = cases.len() - faults.len();
    assert!(faults.is_empty(), "{refused} of {} refused\n\n{}", cases.len(), faults.join("\n\n"));
    tell(&format!(
        "tamper corpus: {refused} of {} refused, none admitted ({} kinds of change)",
        cases.len(),
        mutations.len()
    ));
}

/// The body of a test: what stands between its name and the end of the function.
fn body<'a>(text: &'a str, test: &str) -> Option<&'a str> {
    let start = text.find(&format!("fn {test}("))?;
    let line = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let end = format!("\n{}}}", &text[line..start]);
    let length = text[start..].find(&end)?;
    Some(&text[start..start + length])
}

#[test]
fn every_reason_is_provoked() {
    let mut provoked: BTreeSet<String> =
        mutations().keys().map(|name| name.rsplit("--").next().unwrap().to_owned()).collect();
    for (name, dir) in directories("elsewhere") {
        let reason = Reason::ALL.iter().find(|reason| reason.as_str() == name);
        let reason = reason.unwrap_or_else(|| panic!("{name} is no reason"));
        assert!(
            !provoked.contains(&name),
            "{name} is provoked by a changed file: leave {name} out"
        );
        let by = std::fs::read_to_string(dir.join("provoked-by")).unwrap();
        let (file, test) =
            by.trim().split_once("::").unwrap_or_else(|| panic!("{name}: FILE::TEST"));
        let text = std::fs::read_to_string(project().join(file))
            .unwrap_or_else(|err| panic!("{file}: {err}"));
        let body = body(&text, test).unwrap_or_else(|| panic!("{name}: {file} has no test {test}"));
        let told = [format!("Reason::{reason:?}"), format!("\"{name}\"")];
        assert!(told.iter().any(|told| body.contains(told)), "{name}: {test} does not name it");
        provoked.insert(name);
    }
    let missing: Vec<_> =
        Reason::ALL.iter().map(|r| r.as_str()).filter(|name| !provoked.contains(*name)).collect();
    assert!(missing.is_empty(), "no directory of fixtures/hostile provokes {}", missing.join(", "));
}
