//! One run of a provider without its gates and baselines: from an admitted value to a sealed directory, with clocks, limits
//! and a binary of the test's own. What `admit run` does before and after is in `run.rs`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use admit::download::config::NetConfig;
use admit::error::Result;
use admit::evidence::{Limits as Kept, Recording, RunCheck, Sealed, check};
use admit::gate::{
    self, AMBIENT, Admitted, AmbientFact, AmbientState, BinaryFact, BridgeFact, Compared,
    CredentialFact, EndpointOrigin, Engine, Facts, Found, IdentityFact, LicenceFact, LockFact,
    NetworkFact, Outcome, Policy, ProbeFact, ProbeOutcome, ReportFact, RootFact, SandboxFact,
    TaskFact, Verdict,
};
use admit::host::SystemClock;
use admit::proxy::endpoint::{Credential, Endpoint};
use admit::proxy::server::Limits as Door;
use admit::proxy::upstream::Upstream;
use admit::record::Record as _;
use admit::record::admission::{ModelPair, RecordFile, status};
use admit::record::evidence::{Baseline, RunReport};
use admit::record::ids::{Digest, Timestamp};
use admit::record::sealed::Author;
use admit::recorder::Recorder as _;
use admit::root::Root;
use admit::run::baseline::Baselines;
use admit::run::engine::case::{self, Layout};
use admit::run::engine::scripted::Scripted;
use admit::run::fixture::{self, Fixture};
use admit::run::gated::GateRecord;
use admit::run::judge::{JudgeRow, Judgement};
use admit::run::proof::Marks;
use admit::run::provider::{self, Start};
use admit::run::room;
use admit::run::supervise::Clocks;
use admit::run::tools::Tools;
use admit::run::verdict::{self, Proofs};
use admit::sandbox::Launcher;
use admit::secrets::Known;
use admit::store::Store;
use serde_json::{Value, json};

use crate::judge::{host, shown, the_tools};
use crate::upstream::{MODEL, key};
use crate::util::{self, World};

/// Everything of a run that a test may want otherwise than it is.
pub struct Trial {
    pub fixture: Fixture,
    pub clocks: Clocks,
    pub door: Door,
    pub kept: Kept,
    pub tools: Option<Tools>,
    pub baselines_held: bool,
    /// Where the run directory is made.
    pub runs: PathBuf,
    /// The signal that admit got before.
    pub signal: usize,
    /// The provider's name on record.
    pub provider: String,
    pub binary: PathBuf,
    pub sha256: Digest,
    world: World,
}

/// What is left of it.
pub struct Left {
    pub sealed: Sealed,
    pub check: RunCheck,
    /// The exit code of `admit run`.
    pub code: u8,
    _world: World,
}

/// The stand-in, built once a process.
pub fn understudy() -> (PathBuf, Digest) {
    static BUILT: OnceLock<(PathBuf, Digest)> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let world = World::with_shared_store();
        world.admit(&["build", "understudy"]).expect(0);
        output(&util::project().join("lockfiles/understudy.lock.json"))
    });
    built.clone()
}

/// The commit of real Case that the mirror of this project's tests has, and that the stand-in was recorded from.
pub const CASE: (&str, &str) = ("case-30b1fa1", "30b1fa1285a9d8f5a05f81377bcf95fbe250642c");

/// Locks, builds and records real Case in `world`; false, and said so, where no mirror of it is named.
pub fn build_case(world: &World) -> bool {
    let Some(mirror) = util::var("ADMIT_TEST_CASE_MIRROR") else {
        util::not_run("real Case: ADMIT_TEST_CASE_MIRROR names no mirror");
        return false;
    };
    let (name, rev) = CASE;
    let source = ["--source", "https://github.com/workos/case.git", "--rev", rev];
    let build = ["--bun", "1.3.14", "--build-path", "/tmp/workos-case"];
    world.admit(&[&["lock", name][..], &source, &build].concat()).expect(0);
    let mirror = format!("https://github.com/=file://{mirror}/");
    world.admit(&["build", name, "--mirror", &mirror]).expect(0);
    world.admit(&["lock", name, "--update"]).expect(0);
    world.admit(&["build", name, "--mirror", &mirror, "--record"]).expect(0);
    true
}

/// Real Case, built once a process; nothing where no mirror of it is named.
pub fn real_case() -> Option<(PathBuf, Digest)> {
    static BUILT: OnceLock<Option<(PathBuf, Digest)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let world = World::with_shared_store();
        build_case(&world).then(|| {
            let root = world.home().join(".local/share/admit/root");
            output(&root.join(format!("lockfiles/{}.lock.json", CASE.0)))
        })
    });
    built.clone()
}

/// The output that a lock names, in the shared store.
fn output(lock: &std::path::Path) -> (PathBuf, Digest) {
    let lock: Value = serde_json::from_slice(&std::fs::read(lock).unwrap()).unwrap();
    let platform = admit::host::platform().unwrap().to_string();
    let sha256 = lock["outputs"][platform]["sha256"].as_str().unwrap();
    let sha256: Digest = format!("sha256:{sha256}").parse().unwrap();
    let store = shown("store", Store::open(&util::shared_store()));
    (store.file_path(&sha256), sha256)
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

impl Trial {
    /// A run of the stand-in.
    pub fn understudy() -> Self {
        Self::built(understudy())
    }

    /// A run of a binary that was built.
    pub fn built((binary, sha256): (PathBuf, Digest)) -> Self {
        Self::of(World::new(), binary, sha256)
    }

    /// A run of a shell script in the provider's place.
    pub fn script(text: &str) -> Self {
        let world = World::new();
        let binary = world.path().join("ca");
        let text = format!("#!/bin/sh\n{text}\n");
        std::fs::write(&binary, &text).unwrap();
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self::of(world, binary, Digest::sha256(text.as_bytes()))
    }

    /// A run of a Python program in the provider's place.
    pub fn python(text: &str) -> Self {
        Self::script(&format!("exec python3 - <<'PYTHON'\n{text}PYTHON"))
    }

    fn of(world: World, binary: PathBuf, sha256: Digest) -> Self {
        let root = shown("root", Root::find(&host(&world.home()), None, None));
        let name = "r1-string-slugify".parse().unwrap();
        let minute = Duration::from_secs(60);
        Self {
            fixture: shown("fixture", fixture::load(&root, &name)),
            // Far away; a test sets the one that it is about.
            clocks: Clocks {
                start: minute,
                first_call: minute,
                idle: minute,
                wall: minute * 2,
                stable: Duration::from_secs(3),
            },
            door: Door::default(),
            kept: Kept::default(),
            tools: None,
            baselines_held: true,
            runs: world.path().join("runs"),
            signal: 0,
            provider: "understudy".into(),
            binary,
            sha256,
            world,
        }
    }

    /// The script of the fixture's model, changed.
    pub fn turns(mut self, change: impl FnOnce(&mut Vec<Value>)) -> Self {
        let mut script = serde_json::to_value(&self.fixture.script).unwrap();
        change(script["turns"].as_array_mut().unwrap());
        self.fixture.script = serde_json::from_value(script).unwrap();
        self
    }

    /// With the script as the model.
    pub fn scripted(self) -> Left {
        let model = Scripted::new(self.fixture.script.clone(), MODEL);
        shown("run", self.run(Upstream::local(model)))
    }

    /// With a server on the loopback as the model.
    pub fn served(self, addr: std::net::SocketAddr) -> Left {
        let url = format!("http://{addr}/v1");
        let endpoint = Endpoint::resolve(&url, "loopback-test", &NetConfig::default()).unwrap();
        let credential = Credential::from_value("KEY", key().into_bytes()).unwrap();
        shown("run", self.run(Upstream::Http { endpoint, credential: Some(credential) }))
    }

    /// The gate's word. Everything but the fixture, the task and the binary is made up: a rehearsal at best.
    fn admitted(&self, layout: &Layout, now: &Timestamp) -> Box<Admitted> {
        let same = |value: Digest| Found::Known(Compared { expected: value.clone(), found: value });
        let commit = || "641e7316faee6a4e6119ba16a29fc1eccc9d5522".parse().unwrap();
        let path = util::project().join("admissions/models/scripted--understudy-script.json");
        let mut record: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        record["provider"] = json!("test");
        record["model"] = json!(MODEL);
        record["kind"] = json!("served");
        record["credential_source_class"] = json!("pi-models-json-local-provider-no-secret");
        let pair: ModelPair = format!("test/{MODEL}").parse().unwrap();
        let file = RecordFile::Bytes(serde_json::to_vec(&record).unwrap());
        let task = self.fixture.task_files(now);
        let shape = ["run", "--task", "{task}", "--mode", "unattended"].map(String::from);
        let state = |outcome| match outcome {
            Outcome::Neutralised => AmbientState::Neutralised("made up".into()),
            Outcome::Refused => AmbientState::Clear,
        };
        let facts = Facts {
            root: Found::Known(RootFact { label: "a test's".into(), trusted: true }),
            lock: Found::Known(LockFact {
                place: "l".into(),
                digest: Digest::sha256(b"l"),
                faults: vec![],
            }),
            source_pin: Found::Known(Compared { expected: commit(), found: commit() }),
            toolchain: same(Digest::sha256(b"bun")),
            report: Found::Known(ReportFact {
                place: "r".into(),
                source_admitted: true,
                sha256: self.sha256.clone(),
            }),
            build_signed: Found::Known(None),
            model_signed: Found::Known(None),
            locked_output: Found::Known(self.sha256.clone()),
            binary: Found::Known(BinaryFact {
                place: "b".into(),
                regular: true,
                executable: true,
                sha256: self.sha256.clone(),
            }),
            identity: Found::Known(IdentityFact { sha256: self.sha256.clone(), faults: vec![] }),
            command: Found::Known(case::arguments(
                &shape,
                &provider::task_file(layout, &self.fixture, now),
            )),
            task: Found::Known(TaskFact { json: task.json, markdown: task.markdown }),
            stage: Found::Known(2),
            licence: Found::Known(LicenceFact { status: "resolved".into(), allows: vec![2] }),
            requested: Found::Known(vec![pair.clone()]),
            model: Found::Known(status(&file, Some(&pair), 2, now, &|_| None)),
            credentials: Found::Known(CredentialFact {
                class: "pi-models-json-local-provider-no-secret".into(),
                available: true,
                source: "none needed".into(),
            }),
            bridge: Found::Known(BridgeFact { claimed: false, answered: Found::Unknown }),
            endpoint: Found::Known(EndpointOrigin::Environment),
            network: Found::Known(NetworkFact {
                addresses: vec!["127.0.0.1".parse().unwrap()],
                tls: false,
            }),
            probe: Found::Known(ProbeFact {
                listed: true,
                max_tokens: 1024,
                outcome: ProbeOutcome::Content,
            }),
            ambient: Found::Known(
                AMBIENT
                    .iter()
                    .map(|v| AmbientFact { vector: v.id.into(), state: state(v.outcome) })
                    .collect(),
            ),
            fixture: same(self.fixture.digest.clone()),
            sandbox: Found::Known(SandboxFact { held: vec!["net".into()], failed: vec![] }),
        };
        let contract = self.fixture.contract(&layout.workspace().unwrap());
        let policy = Policy { engine: Engine::Provider, contract, skip_probe: false };
        match gate::decide(&facts, &policy).verdict {
            Verdict::Admit(admitted) => admitted,
            Verdict::Refuse(refusals) => panic!("{refusals:#?}"),
        }
    }

    /// Baselines that were not run; what they say is made up, as the gates are.
    fn baselines(&self) -> Baselines {
        let row = |name: &str, expected_accept, accepted| Baseline {
            name: name.into(),
            expected_accept,
            accepted,
            patch_digest: Digest::sha256(name.as_bytes()),
            note: "made up".into(),
        };
        let rows =
            vec![row("no_change", false, !self.baselines_held), row("reference_patch", true, true)];
        let judgement = |passed| Judgement {
            passed,
            rows: vec![JudgeRow {
                id: "made_up".into(),
                passed,
                expected: "x".into(),
                found: "x".into(),
            }],
            tests_passed: passed,
            allowed_writes_passed: true,
            patch: String::new(),
            patch_digest: Digest::sha256(b""),
            changed_files: Vec::new(),
            commit: None,
            log: String::new(),
        };
        let judgements = rows.iter().map(|row| judgement(row.accepted)).collect();
        Baselines { rows, judgements }
    }

    /// Runs it; an error where it could not be found out how it went.
    pub fn run(self, upstream: Upstream) -> Result<Left> {
        let now: Timestamp = admit::host::Clock::now(&SystemClock);
        let scratch = self.world.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let launcher = Launcher { exe: util::admit(), scratch: scratch.clone() };
        let layout = Layout::new(self.fixture.record.repo.as_str());
        let marks = Marks::make(&scratch)?;
        let admitted = self.admitted(&layout, &now);
        let draft = RunReport::draft(self.fixture.record.name.as_str(), "case", &now);
        let name = &self.fixture.record.name;
        let run =
            Recording::begin(&self.runs, name, draft.clone(), Arc::new(SystemClock), self.kept)?;
        let run = Arc::new(run);
        let mut known = upstream.secret_values();
        known.push(("sentinel".into(), marks.sentinel.clone()));
        run.watch_for(Known::new(&known));
        run.event("gates_admitted", Author::Admit, json!({ "gates": admitted.rows().len() }))?;
        let tools = self.tools.as_ref().unwrap_or_else(|| the_tools());
        let signal = AtomicUsize::new(self.signal);
        let shape = ["run", "--task", "{task}", "--mode", "unattended"].map(String::from);
        let start = Start {
            run: &run,
            admitted: &admitted,
            binary: &self.binary,
            blake3: None,
            hardened: false,
            shape: &shape,
            fixture: &self.fixture,
            tools,
            launcher: &launcher,
            marks: &marks,
            clocks: self.clocks,
            door: self.door,
            signal: &signal,
            started: now.clone(),
        };
        let mut report = draft;
        report.gates = admitted.rows().to_vec();
        report.case_model = Some(MODEL.into());
        let gates = GateRecord {
            schema: GateRecord::SCHEMA.to_string(),
            engine: "case".into(),
            provider: self.provider.clone(),
            admitted: true,
            model: Some(format!("test/{MODEL}")),
            runtime_model_provider: Some("openai".into()),
            gates: admitted.rows().to_vec(),
            probe: None,
        };
        run.record("gate.json", "gates", &gates)?;
        let seen = provider::run(&start, upstream)?;
        let expected = room::expected(the_tools());
        let proofs = Proofs { marks: &marks, expected: &expected, now };
        let baselines = self.baselines();
        verdict::provider(
            &run,
            &mut report,
            &admitted,
            &self.provider,
            &seen,
            &baselines,
            tools,
            &proofs,
        )?;
        let sealed = run.seal(report)?;
        let code = verdict::exit_code(&sealed.report);
        let check = check(&sealed.directory, Some(&sealed.id))?;
        Ok(Left { sealed, check, code, _world: self.world })
    }
}

impl Left {
    pub fn report(&self) -> &RunReport {
        &self.sealed.report
    }

    /// Class, detail as the report has it, exit code.
    #[track_caller]
    pub fn ends(&self, class: &str, detail: &str, code: u8) -> &Self {
        let report = self.report();
        let found = report.failure_class.map(|class| class.as_str());
        assert_eq!(
            found,
            Some(class),
            "{:#?}\n{}",
            report.blockers,
            self.text("backend/stdout.log")
        );
        if !detail.is_empty() {
            let told =
                report.blockers.iter().any(|line| line.starts_with(&format!("{class}: {detail}")));
            assert!(told, "no detail {detail}: {:#?}", report.blockers);
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
        let mut found = all
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|event| event["kind"] == kind);
        found.next().unwrap_or_else(|| panic!("no {kind}: {all}"))["data"].clone()
    }

    /// Every file of the run directory by its path.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        fn walk(dir: &std::path::Path, prefix: &str, out: &mut BTreeMap<String, Vec<u8>>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), &format!("{name}/"), out),
                    false => drop(out.insert(name, std::fs::read(entry.path()).unwrap())),
                }
            }
        }
        let mut out = BTreeMap::new();
        walk(&self.sealed.directory, "", &mut out);
        out
    }
}
