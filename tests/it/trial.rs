//! One run of a provider as `admit run` makes it, with clocks, limits, records and a binary of the test's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use admit::bun::exe::Executable;
use admit::check::Engine;
use admit::check::launch::Clocks;
use admit::context::{self, Context};
use admit::error::Result;
use admit::evidence::{EvidenceLimits as Kept, RunCheck, Sealed, check};
use admit::gate::{Flags, from_old_variables};
use admit::host::{Host, Progress, SystemClock};
use admit::lock::Locked;
use admit::proxy::mock::Behaviour;
use admit::proxy::server::ProxyLimits;
use admit::record;
use admit::record::admission::Api;
use admit::record::evidence::RunReport;
use admit::record::fixture::Script;
use admit::record::ids::{Algorithm, Digest};
use admit::root::Root;
use admit::run::{self, Options, fixture};
use admit::store::{Hashes, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::files::{self, below, edit, shipped};
use crate::judge::{loaded, shown};
use crate::repo::{commit, mirror, on_mirror};
use crate::upstream::{MODEL, MockServer, key, serve_during};
use crate::util::{self, World};

/// Judged by Python.
pub const PYTHON: &str = "r1-string-slugify";
/// Judged by the pinned Bun, in less than half the time: for runs that are about something else.
pub const QUICK: &str = "r2-duration";

/// A binary, and the records that fit it. As JSON it is for a process of this test that has no network to build anything.
#[derive(Clone, Deserialize, Serialize)]
pub struct Built {
    pub binary: PathBuf,
    provider: String,
    /// By path in a root.
    records: BTreeMap<String, String>,
}

/// The digest of the Bun that the stand-in's lock pins.
pub fn pinned_bun() -> Digest {
    let lock = shipped("lockfiles/understudy.lock.json");
    sha256(&lock["toolchain"]["bun"]["platforms"][platform()]["binary_sha256"])
}

/// That Bun as a program at `to`.
pub fn bun(to: &Path) {
    understudy();
    let store = shown("store", Store::open(&util::shared_store()));
    files::program(store.file_path(&pinned_bun()), to);
}

fn platform() -> String {
    admit::host::platform().unwrap().to_string()
}

fn sha256(hex: &Value) -> Digest {
    format!("sha256:{}", hex.as_str().unwrap()).parse().unwrap()
}

/// What a test does when a stage of the run begins.
type Hook = Box<dyn Fn() + Send>;

type Change = Box<dyn FnOnce(&mut Value)>;

/// Everything of a run that a test may want otherwise than it is.
pub struct Trial {
    pub clocks: Clocks,
    pub proxy: ProxyLimits,
    pub kept: Kept,
    /// The file that the request names; none for the store's own.
    pub binary: Option<PathBuf>,
    /// Below it run directories are made.
    pub state: PathBuf,
    /// The fixture.
    task: &'static str,
    provider: String,
    api: Option<Api>,
    admission: Option<Change>,
    key: bool,
    credential: Option<Value>,
    world: World,
    at: Option<(&'static str, Hook)>,
    stop: Arc<AtomicUsize>,
}

pub struct Left {
    pub sealed: Sealed,
    pub check: RunCheck,
    /// The exit code of `admit run`.
    pub code: u8,
    _world: World,
}

/// The stand-in, built once a process.
pub fn understudy() -> Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let world = World::with_shared_store();
        world.admit(&["build", "understudy", "--record"]).expect(0);
        left_by_build(&world, "understudy")
    });
    built.clone()
}

/// A provider from a source of its own, built once a process: the stand-in's program with another version, in a repository
/// behind a mirror.
pub fn sourced() -> Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let world = World::with_shared_store();
        let name = "another";
        let files: Vec<(String, String)> = (files(&util::project().join("fixtures/understudy")))
            .into_iter()
            .map(|(path, bytes)| {
                let text = String::from_utf8(bytes).unwrap();
                (path, text.replace("\"version\": \"1.0.0\"", "\"version\": \"1.0.1\""))
            })
            .collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (&**p, &**t)).collect();
        let rev = commit(&mirror(&world).join(name), &files);
        let admit = |args: &[&str]| drop(on_mirror(&world, args).expect(0));
        let url = format!("https://provider.invalid/{name}.git");
        let from = ["--source", &url, "--rev", &rev, "--like", "understudy"];
        let own = ["--build-path", "/tmp/admit-another", "--version-text", "1.0.1"];
        admit(&[&["lock", name][..], &from, &own].concat());
        admit(&["build", name]);
        admit(&["lock", name, "--update"]);
        admit(&["build", name, "--record"]);
        left_by_build(&world, name)
    });
    built.clone()
}

/// The commit of real Case that the mirror of this project's tests has, and that the stand-in was recorded from.
pub const CASE: (&str, &str) = ("case-30b1fa1", "30b1fa1285a9d8f5a05f81377bcf95fbe250642c");

/// Locks a commit of real Case under a name, and gives the mirror; nothing, and said so, where none is named.
pub fn lock_case(world: &World, name: &str, rev: &str) -> Option<String> {
    let Some(mirror) = util::var("ADMIT_TEST_CASE_MIRROR") else {
        util::not_run("real Case: ADMIT_TEST_CASE_MIRROR names no mirror");
        return None;
    };
    let source = ["--source", "https://github.com/workos/case.git", "--rev", rev];
    let mirror = format!("https://github.com/=file://{mirror}/");
    let build = ["--bun", "1.3.14", "--build-path", "/tmp/workos-case"];
    // The commit that the embedded lock names does not trust it.
    let more = ["--skip-script", "@ast-grep/cli", "--mirror", &mirror];
    world.admit(&[&["lock", name][..], &source, &build, &more].concat()).expect(0);
    Some(mirror)
}

/// Locks, builds and records real Case in `world`; false where no mirror of it is named.
pub fn build_case(world: &World) -> bool {
    let (name, rev) = CASE;
    let Some(mirror) = lock_case(world, name, rev) else { return false };
    world.admit(&["build", name, "--mirror", &mirror]).expect(0);
    world.admit(&["lock", name, "--update"]).expect(0);
    world.admit(&["build", name, "--mirror", &mirror, "--record"]).expect(0);
    true
}

/// Real Case, built once a process; nothing where no mirror of it is named.
pub fn real_case() -> Option<Built> {
    static BUILT: OnceLock<Option<Built>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let world = World::with_shared_store();
        build_case(&world).then(|| left_by_build(&world, CASE.0))
    });
    built.clone()
}

/// The records that a build left in `world` beside the embedded ones, and the output that they name in the shared store.
fn left_by_build(world: &World, provider: &str) -> Built {
    let root = shown("root", Root::find(&world.host(), None, None));
    let lock = format!("lockfiles/{provider}.lock.json");
    let builds = format!("admissions/builds/{provider}--");
    let all = root.below("");
    let ours = all.filter(|(path, _)| *path == lock || path.starts_with(&builds));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let records: BTreeMap<_, _> =
        ours.map(|(path, bytes)| (path.to_owned(), text(bytes))).collect();
    let lock: Value = serde_json::from_str(&records[&lock]).unwrap();
    let output = sha256(&lock["outputs"][platform()]["sha256"]);
    let store = shown("store", Store::open(&util::shared_store()));
    Built { binary: store.file_path(&output), provider: provider.to_owned(), records }
}

/// What the scripted model says in a fixture that admit ships.
pub fn script(task: &str) -> Script {
    loaded(task).script
}

/// An agent that asks the model for ever, and says what it is told.
pub const ASKS_FOREVER: &str = "import json, os, urllib.request
body = json.dumps({'model': 'test-model', 'stream': True, 'messages': [{'role': 'user', 'content': 'x'}]})
head = {'Authorization': 'Bearer ' + os.environ['OPENAI_API_KEY'], 'Content-Type': 'application/json'}
url = 'http://127.0.0.1:8080/v1/chat/completions'
while True:
    try:
        urllib.request.urlopen(urllib.request.Request(url, body.encode(), head)).read()
    except Exception as refused:
        print(refused, flush=True)
";

/// A server that answers the probe, and misbehaves from the agent's first request on.
pub fn after_probe(fault: Behaviour) -> MockServer {
    serve_during(fault, 1..u32::MAX)
}

impl Trial {
    pub fn understudy() -> Self {
        Self::built(understudy())
    }

    pub fn built(built: Built) -> Self {
        let world = World::new();
        for (path, bytes) in &built.records {
            world.put(path, bytes);
        }
        Self::of(world, &built.provider, None)
    }

    /// A run of a shell script in the provider's place, with a lock and a recorded build that fit it.
    pub fn script(text: &str) -> Self {
        let world = World::new();
        let binary = world.path().join("ca");
        files::script(&binary, text);
        put_records(&world, "trial", &binary);
        Self::of(world, "trial", Some(binary))
    }

    /// A run of an executable that Bun compiled, with a recorded build that says how.
    pub fn executable(binary: &Path, run: Value) -> Self {
        let world = World::new();
        put_records(&world, "trial", binary);
        let bytes = std::fs::read(binary).unwrap();
        let runtime = shown("executable", Executable::read(&bytes)).runtime(None);
        let trial = Self::of(world, "trial", Some(binary.to_owned()));
        trial.run_as(run).built_as(|report| {
            report["runtime"]["modules"] = json!(runtime.modules);
            report["runtime"]["flags"] = json!(runtime.flags);
            report["runtime"]["autoload_bunfig"] = json!(runtime.autoload_bunfig);
            report["runtime"]["autoload_dotenv"] = json!(runtime.autoload_dotenv);
        })
    }

    fn built_as(self, change: impl FnOnce(&mut Value)) -> Self {
        edit(&below(&self.world.root().join("admissions/builds"))[0], change);
        self
    }

    /// A run of a Python program in the provider's place.
    pub fn python(text: &str) -> Self {
        Self::script(&format!("exec python3 - <<'PYTHON'\n{text}PYTHON"))
    }

    /// Another `run` section in the lock, with the record that fits it.
    pub fn run_as(self, run: Value) -> Self {
        let place = self.world.root().join(format!("lockfiles/{}.lock.json", self.provider));
        edit(&place, |lock| lock["run"] = run);
        let lock = record::parse(&std::fs::read(&place).unwrap()).unwrap();
        let locked = shown("lock", Locked::new(lock, "a trial's".into()));
        self.built_as(|report| {
            report["lock_digest"] = json!(locked.digest);
            // A script, which loads nothing by itself.
            report["runtime"]["autoload_bunfig"] = json!(false);
            report["runtime"]["autoload_dotenv"] = json!(false);
        })
    }

    /// A further file in the fixture's workspace.
    pub fn planted(self, path: &str, text: &str) -> Self {
        self.world.put(&format!("fixtures/{}/workspace/{path}", self.task), text);
        self
    }

    fn of(world: World, provider: &str, binary: Option<PathBuf>) -> Self {
        let minute = Duration::from_secs(60);
        Self {
            // Far away; a test sets the one that it is about.
            clocks: Clocks {
                start: minute,
                first_call: minute,
                idle: minute,
                wall: minute * 2,
                stable: Duration::from_secs(3),
                ..Clocks::default()
            },
            proxy: ProxyLimits::default(),
            kept: Kept::default(),
            binary,
            state: world.path().join("state"),
            provider: provider.to_owned(),
            api: None,
            admission: None,
            key: true,
            credential: None,
            world,
            task: PYTHON,
            at: None,
            stop: Arc::default(),
        }
    }

    /// Another fixture of those that admit ships.
    pub fn task(mut self, name: &'static str) -> Self {
        self.task = name;
        self
    }

    /// What happens when the run's stage of this name begins.
    pub fn at(mut self, stage: &'static str, hook: impl Fn() + Send + 'static) -> Self {
        self.at = Some((stage, Box::new(hook)));
        self
    }

    /// Tells admit to stop when the provider's turn comes.
    pub fn stopped(self, signal: usize) -> Self {
        let stop = Arc::clone(&self.stop);
        self.at("run", move || stop.store(signal, Ordering::SeqCst))
    }

    /// A file of the fixture, changed. The digest of the whole is recorded before the run.
    pub fn fixture(self, file: &str, change: impl FnOnce(String) -> String) -> Self {
        let path = format!("fixtures/{}/{file}", self.task);
        let text = std::fs::read_to_string(util::project().join(&path)).unwrap();
        self.world.put(&path, change(text));
        self
    }

    /// The script of the fixture's model, changed.
    pub fn turns(self, change: impl FnOnce(&mut Vec<Value>)) -> Self {
        self.fixture("script.json", |text| {
            let mut script: Value = serde_json::from_str(&text).unwrap();
            change(script["turns"].as_array_mut().unwrap());
            script.to_string()
        })
    }

    pub fn admission(self, change: impl FnOnce(&mut Value) + 'static) -> Self {
        Self { admission: Some(Box::new(change)), ..self }
    }

    pub fn without_key(self) -> Self {
        Self { key: false, ..self }
    }

    pub fn without_build(self) -> Self {
        std::fs::remove_dir_all(self.world.root().join("admissions/builds")).unwrap();
        self
    }

    pub fn speaking(self, api: Api) -> Self {
        Self { api: Some(api), ..self }
    }

    /// With this credential in the model's record, which names an API.
    pub fn with_credential(self, credential: Value) -> Self {
        Self { credential: Some(credential), ..self }
    }

    #[track_caller]
    pub fn scripted(self) -> Left {
        shown("run", self.try_scripted())
    }

    /// As [`Trial::scripted`]; an error where it could not be found out how it went.
    pub fn try_scripted(self) -> Result<Left> {
        self.run(None)
    }

    /// With a server on the loopback as the model. It must answer the probe, else the run is blocked.
    #[track_caller]
    pub fn served(self, server: &MockServer) -> Left {
        self.served_at(server.base_url())
    }

    /// With whatever answers at this base URL on the loopback.
    #[track_caller]
    pub fn served_at(self, url: String) -> Left {
        shown("run", self.run(Some(url)))
    }

    /// With a server on the loopback that answers the probe and is gone before the provider starts.
    #[track_caller]
    pub fn deserted(self) -> Left {
        let server = after_probe(Behaviour::Plays);
        let url = server.base_url();
        let server = Mutex::new(server);
        self.at("baseline", move || server.lock().unwrap().leave()).served_at(url)
    }

    /// With the model at this base URL, else with the script.
    fn run(self, url: Option<String>) -> Result<Left> {
        let (kind, class, credential) = match url {
            None => ("scripted", "scripted-no-secret", "none"),
            Some(_) => ("served", "api-key-from-environment-or-file", "key"),
        };
        let mut admission = shipped("admissions/models/scripted--understudy-script.json");
        admission["provider"] = json!("test");
        admission["model"] = json!(MODEL);
        admission["kind"] = json!(kind);
        admission["credential_source_class"] = json!(class);
        if let Some(api) = self.api {
            let fields = admission.as_object_mut().unwrap();
            fields.remove("credential_source_class");
            fields.remove("allowed_network_class");
            fields.insert("schema".into(), json!("admit.model-admission/2"));
            fields.insert("network".into(), json!("loopback-test"));
            let credential = self.credential.unwrap_or(json!({ "kind": credential }));
            fields.insert("credential".into(), credential);
            fields.insert("api".into(), json!(api));
        }
        if let Some(change) = self.admission {
            change(&mut admission);
        }
        let file = format!("admissions/models/test--{MODEL}.json");
        self.world.put(&file, record::pretty(&admission));
        let mut vars = self.world.host().vars();
        if self.key {
            vars.insert("ADMIT_MODEL_KEY".into(), key());
        }
        vars.extend(url.map(|url| ("CTO_HARNESS_CASE_LOCAL_BASE_URL".to_owned(), url)));
        let flags = Flags {
            stage: Some(2),
            provider: Some(self.provider.parse().unwrap()),
            engine: Some(Engine::Provider),
            model: Some(format!("test/{MODEL}").parse().unwrap()),
            binary: self.binary.as_ref().map(|path| path.display().to_string()),
            ..Flags::default()
        };
        let options = Options {
            launcher: Some(util::admit()),
            clocks: self.clocks,
            proxy: self.proxy,
            evidence: self.kept,
            ..Options::new(
                from_old_variables(&vars, flags)?,
                self.provider.parse().unwrap(),
                self.task.parse().unwrap(),
            )
        };
        let mut context = Context::new(
            Host::with(vars, self.world.home()),
            Arc::new(SystemClock),
            Arc::new(Stages(Mutex::new(self.at))),
            context::Options {
                store: Some(util::shared_store()),
                state: Some(self.state),
                ..context::Options::default()
            },
        );
        context.stop = self.stop;
        // The fixture as it now is, is the recorded one.
        let root = shown("root", Root::find(&context.host, None, None));
        let fixture = shown("fixture", fixture::load(&root, &options.fixture));
        let lock = record::pretty(&fixture.lock(None));
        self.world.put(&fixture::lock_path(&options.fixture), &lock);
        let outcome = run::run(&context, &options)?;
        let sealed = outcome.sealed.unwrap();
        let check = check(&sealed.directory, Some(&sealed.id))?;
        Ok(Left { sealed, check, code: outcome.code, _world: self.world })
    }
}

/// Lock and recorded build of a provider whose binary has these bytes: those of the stand-in, with another output.
fn put_records(world: &World, provider: &str, binary: &Path) {
    let wanted = [Algorithm::Sha256, Algorithm::Blake3];
    let file = std::fs::File::open(binary).unwrap();
    let digests = Hashes::of_file(&file, &wanted).unwrap();
    let [sha256, blake3] = wanted.map(|algorithm| digests.get(algorithm).unwrap().to_hex());
    let size = file.metadata().unwrap().len();
    let output = json!({ "sha256": sha256, "blake3": blake3, "size": size });
    let platform = platform();
    let mut lock = shipped("lockfiles/understudy.lock.json");
    lock["provider"] = json!(provider);
    // So that it is another plan than the stand-in's, whose build the shared store has.
    lock["build"]["path"] = json!("/tmp/admit-trial");
    lock["outputs"] = json!({ platform.as_str(): output });
    let bytes = record::pretty(&lock);
    let locked = shown("lock", Locked::new(record::parse(&bytes).unwrap(), "a trial's".into()));
    world.put(&format!("lockfiles/{provider}.lock.json"), &bytes);
    let mut report = shipped("fixtures/fuzz/report/understudy.json");
    for (field, value) in [
        ("provider", json!(provider)),
        ("platform", json!(platform)),
        ("build_path", lock["build"]["path"].clone()),
        ("sha256", output["sha256"].clone()),
        ("blake3", output["blake3"].clone()),
        ("size", output["size"].clone()),
        ("plan_digest", json!(locked.plan.digest())),
        ("lock_digest", json!(locked.digest)),
        ("bun_sha256", json!(locked.plan.bun().unwrap().binary_sha256)),
        ("source_admission_status", json!("admitted")),
    ] {
        report[field] = value;
    }
    world.put(&format!("admissions/builds/{provider}--{sha256}.json"), record::pretty(&report));
}

/// Calls a test's hook when the stage of its name begins.
struct Stages(Mutex<Option<(&'static str, Hook)>>);

impl Progress for Stages {
    fn stage(&self, name: &str, _: &str) {
        let hook = self.0.lock().unwrap();
        if let Some((stage, hook)) = &*hook
            && *stage == name
        {
            hook();
        }
    }

    fn bytes(&self, _: u64, _: Option<u64>) {}

    fn note(&self, _: &str) {}
}

impl Left {
    pub fn report(&self) -> &RunReport {
        &self.sealed.report
    }

    /// Class, detail as the report has it, exit code.
    #[track_caller]
    pub fn ends(&self, class: &str, detail: &str, code: u8) -> &Self {
        let report = self.report();
        let (found, blockers) = (report.failure_class.map(|one| one.as_str()), &report.blockers);
        assert_eq!(found, Some(class), "{blockers:#?}\n{}", self.text("backend/stdout.log"));
        if !detail.is_empty() {
            let told = format!("{class}: {detail}");
            let told = blockers.iter().any(|line| line.starts_with(&told));
            assert!(told, "no detail {detail}: {blockers:#?}");
        }
        assert_eq!(self.code, code, "{class}");
        let marker = report.failure_class.unwrap().marker();
        let text = self.text(&format!("backend/{marker}"));
        assert!(text.starts_with(report.failure_reason.as_ref().unwrap()), "{marker}: {text}");
        assert!(self.check.faults.is_empty(), "{:?}", self.check.faults);
        self
    }

    /// A file of the run directory; empty where there is none.
    pub fn text(&self, file: &str) -> String {
        let bytes = std::fs::read(self.sealed.directory.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn json(&self, file: &str) -> Value {
        serde_json::from_str(&self.text(file)).unwrap()
    }

    /// The data of the one event of this kind.
    pub fn event(&self, kind: &str) -> Value {
        let all = self.text("events.normalized.jsonl");
        let mut events = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let found = events.find(|event| event["kind"] == kind);
        found.unwrap_or_else(|| panic!("no {kind}: {all}"))["data"].clone()
    }

    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.sealed.directory)
    }
}

/// Every file below a directory by its path there.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &PathBuf| path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
    below(dir).iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}
