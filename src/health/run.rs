//! Runs validators: a scratch directory, the stand-in or a provider on record, one world a validator, the run that any user would start,
//! and what was observed of it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::judge::{Observed, SealedRun, judge, not_run};
use super::outside::Interference;
use super::validators::{End, Validator};
use super::world::{
    Binary, Change, FIXTURE, LOCK, Outsider, PROVIDER, QWEN, SCRIPTED, SERVED, World,
};
use crate::build::{self, Build};
use crate::check::{Check, Engine};
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::gate::Flags;
use crate::host::{self, Host};
use crate::lock::{self, Locked, Spec};
use crate::proxy::mock::{Mock, MockServer};
use crate::record;
use crate::record::health::{HealthReport, HealthRow};
use crate::record::ids::Name;
use crate::record::lockfile::Lockfile;
use crate::record::report::{BuildReport, Difference, SourceAdmission};
use crate::root::{self, Root};
use crate::run::{self, Options, Outcome, fixture, tools};
use crate::stop;
use crate::store::Outside;

pub struct Health {
    pub report: HealthReport,
    /// The exit code that says why the first one that was not run could not be.
    pub hindered: Option<u8>,
}

/// What all worlds share.
struct Stage<'a> {
    context: &'a Context,
    provider: Name,
    /// Of a provider that is on record with the user; none for the stand-in.
    lock: Option<Vec<u8>>,
    scratch: PathBuf,
    made: Result<Build>,
    /// Why the fixture's programs are not to be had, if they are not.
    tools: Option<Error>,
}

/// Runs the validators of `set`, one after the other: with the stand-in, or with `provider`, which must be on record.
///
/// # Errors
/// Where not even a scratch directory can be had; [`Reason::NotRecorded`], [`Reason::OutputNotLocked`] or
/// [`Reason::BadArgument`] for a provider that cannot be held against the validators; [`Reason::Interrupted`].
pub fn health(
    context: &Context,
    set: &str,
    validators: &[&Validator],
    provider: Option<&Name>,
) -> Result<Health> {
    host::enough_tasks()?;
    let temp = tempfile::env::temp_dir();
    let temp = temp
        .canonicalize()
        .map_err(|err| Error::io("use as scratch", &temp, err).hint("set TMPDIR"))?;
    // The worlds have stores of their own, with directories that are read-only.
    let scratch = Outside::create(&temp)?;
    let path = scratch.path().to_path_buf();
    // Removed at the end, or when admit is told to stop and a validator does not end.
    let scratch = Arc::new(Mutex::new(Some(scratch)));
    let _told_to_stop = stop::at_last({
        let scratch = Arc::clone(&scratch);
        move |_| {
            drop(scratch.lock().unwrap_or_else(PoisonError::into_inner).take());
            Some(stop::Done { code: Reason::Interrupted.kind().exit_code(), answer: None })
        }
    });
    let stage = Stage::set(context, path, provider)?;
    let (mut rows, mut hindered) = (Vec::new(), None);
    for validator in validators {
        if context.stop.load(Ordering::SeqCst) != 0 {
            return Err(Error::new(
                Reason::Interrupted,
                "told to stop before every validator had run",
            ));
        }
        context.progress.stage("validate", validator.name);
        let begin = Instant::now();
        rows.push(match stage.observe(validator, begin) {
            Ok(row) => row,
            Err(err) => {
                hindered = hindered.or(Some(err.kind().exit_code()));
                not_run(validator, err.to_string(), begin.elapsed())
            }
        });
    }
    let report = HealthReport::of(set, stage.provider.as_str(), rows);
    Ok(Health { report, hindered })
}

impl<'a> Stage<'a> {
    fn set(context: &'a Context, scratch: PathBuf, named: Option<&Name>) -> Result<Self> {
        let made = Err(Error::new(Reason::Internal, "the provider was not built"));
        let provider = named.cloned().map_or_else(|| name(PROVIDER), Ok)?;
        let mut stage = Self { context, provider, lock: None, scratch, made, tools: None };
        let bare = stage.surroundings("stage", &SCRIPTED, &[])?;
        let root = bare.root()?;
        // A provider on record is the user's own; the stand-in is admit's.
        let (whose, records) = match named {
            Some(_) => (context, context.root()?),
            None => (&bare, Arc::clone(&root)),
        };
        let locked = lock::resolve(&records, &stage.spec())?;
        if named.is_some() {
            on_record(&records, &locked)?;
            stage.lock = Some(record::pretty(&locked.lock));
        }
        stage.made = build::make(whose, &locked, &build::Options::default())
            .and_then(|made| made.required());
        // Installed once, so that no validator's clock waits for pip.
        let programs = fixture::load(&root, &name(FIXTURE)?).and_then(|fixture| {
            let store = context.store()?;
            tools::of(context, &root, &store, &fixture.record)
        });
        stage.tools = programs.err();
        Ok(stage)
    }

    fn spec(&self) -> Spec {
        Spec { provider: self.provider.clone(), rev: None }
    }

    /// The user's surroundings with records, evidence and a working directory of this world's own, and without what
    /// the user's own runs are configured by.
    fn surroundings(&self, name: &str, world: &World, more: &[(&str, String)]) -> Result<Context> {
        let dir = self.scratch.join(name);
        let (data, state, cwd) = (dir.join("data"), dir.join("state"), dir.join("cwd"));
        for dir in [&data, &state, &cwd] {
            std::fs::create_dir_all(dir).map_err(|err| Error::io("make", dir, err))?;
        }
        let mut env = self.context.host.vars();
        env.retain(|key, _| !key.starts_with("CTO_HARNESS_") && !key.starts_with("ADMIT_"));
        env.insert("XDG_DATA_HOME".into(), data.display().to_string());
        env.insert("XDG_STATE_HOME".into(), state.display().to_string());
        env.extend(world.vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        env.extend(more.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        let store = match world.binary {
            Binary::None => dir.join("store"),
            _ => self.context.store_dir()?,
        };
        Ok(self.context.elsewhere(Host::with(env, cwd), store, state))
    }

    /// Runs one validator and holds what it left against what it expects.
    fn observe(&self, validator: &Validator, begin: Instant) -> Result<HealthRow> {
        let world = &validator.world;
        let provider = world.engine == Engine::Provider;
        if let (true, Err(err)) = (provider, &self.made) {
            return Err(again(err));
        }
        let starts = !matches!(validator.end, End::Blocked(..) | End::Early(_));
        if let (true, Some(err)) = (starts, &self.tools) {
            return Err(again(err));
        }
        let bare = self.surroundings(validator.name, world, &[])?;
        let data = bare.host.data_dir()?.join("root");
        bare.write_root(|embedded| self.records(world, embedded, &data))?;
        if world.fixture_recorded
            // One that cannot be read is what this world is about.
            && let Ok(fixture) = fixture::load(&*bare.root()?, &name(FIXTURE)?)
        {
            let path = data.join(fixture::lock_path(&fixture.record.name));
            root::write_atomic(&path, &record::pretty(&fixture.lock(None)), 0o600)?;
        }
        if world.strange_root {
            root::write_atomic(&bare.host.cwd().join(root::MARKER), b"", 0o600)?;
        }
        let server = self.server(world, &bare)?;
        let mut vars: Vec<(&str, String)> = Vec::new();
        let url = server.as_ref().map(MockServer::base_url);
        vars.extend(url.map(|url| ("CTO_HARNESS_CASE_LOCAL_BASE_URL", url)));
        let binary = self.binary(world.binary, &data)?;
        vars.extend(binary.map(|path| ("CTO_HARNESS_CASE_BIN", path.display().to_string())));
        let mut context = self.surroundings(validator.name, world, &vars)?;
        if world.outside != Outsider::Nothing {
            // What is told is this run alone.
            context.stop = Arc::default();
            let stop = Arc::clone(&context.stop);
            context.progress = Arc::new(Interference { does: world.outside, stop });
        }
        let ended = self.options(world, &context.host.vars()).and_then(|o| run::run(&context, &o));
        // Nothing of a refused run may have reached the directory of runs.
        let left = context.runs_dir()?.exists();
        drop(server);
        match (ended, validator.end) {
            (Ok(ended), _) => self.sealed(validator, &ended, begin.elapsed()),
            (Err(err), End::Early(_)) if !left => {
                judge(validator, &Observed::Early(&err), begin.elapsed())
            }
            (Err(err), _) => Err(err),
        }
    }

    fn sealed(&self, validator: &Validator, ended: &Outcome, wall: Duration) -> Result<HealthRow> {
        let sealed = ended.sealed.as_ref();
        let sealed =
            sealed.ok_or_else(|| Error::new(Reason::Internal, "a run that left no evidence"))?;
        // A machine that cannot build the sandbox cannot show anything but that gate.
        let refusals = ended.decision.refusals();
        let sandbox = refusals.iter().find(|refusal| refusal.check == Check::Sandbox);
        if let (Some(refusal), true) = (sandbox, validator.world.sandbox_starts) {
            let found = refusal.finding.found.clone();
            return Err(Error::new(Reason::SandboxUnavailable, found).hint("admit doctor"));
        }
        let run = SealedRun {
            directory: &sealed.directory,
            id: &sealed.id,
            code: ended.code,
            decision: &ended.decision,
        };
        judge(validator, &Observed::Sealed(run), wall)
    }

    /// Writes the world's records over the embedded ones: the recorded build, and what is made wrong.
    fn records(&self, world: &World, embedded: &Root, data: &Path) -> Result<()> {
        // What is said of the stand-in's lock is meant of the provider's.
        let own = Lockfile::path_of(&self.provider);
        let put = |path: &str, bytes: &[u8]| {
            let path = if path == LOCK { &own } else { path };
            root::write_atomic(&data.join(path), bytes, 0o600)
        };
        if let Some(lock) = &self.lock {
            put(LOCK, lock)?;
        }
        let served: BTreeMap<&str, Vec<u8>> =
            SERVED.iter().map(|(path, made)| (*path, record::pretty(&made()))).collect();
        for (path, bytes) in &served {
            put(path, bytes)?;
        }
        let get = |path: &str| {
            let lock = self.lock.as_deref().filter(|_| path == LOCK);
            let own = lock.or_else(|| served.get(path).map(Vec::as_slice));
            own.or_else(|| embedded.get(path))
                .ok_or_else(|| Error::new(Reason::Internal, "no such record").at(path.to_owned()))
        };
        if let Ok(made) = &self.made {
            let mut report = made.report.clone();
            report.source_admission_status = SourceAdmission::Admitted;
            let mut value = record::to_value(&report);
            for change in world.changes {
                if let Change::Build(edit) = change {
                    edit(&mut value);
                }
            }
            put(&report.path(), &record::pretty(&value))?;
        }
        let mut edited: BTreeMap<&str, Value> = BTreeMap::new();
        for change in world.changes {
            match change {
                Change::Build(_) => {}
                Change::File(path, text) => put(path, text.as_bytes())?,
                Change::Text(path, edit) => {
                    put(path, edit(&String::from_utf8_lossy(get(path)?)).as_bytes())?;
                }
                Change::Json(path, edit) => {
                    let value = match edited.remove(path) {
                        Some(value) => value,
                        None => record::parse_value(get(path)?)
                            .map_err(|err| root::bad_record(path, &err))?,
                    };
                    edit(edited.entry(path).or_insert(value));
                }
            }
        }
        for (path, value) in edited {
            put(path, &record::pretty(&value))?;
        }
        Ok(())
    }

    fn server(&self, world: &World, context: &Context) -> Result<Option<MockServer>> {
        let Some(behaviour) = world.server else { return Ok(None) };
        let model = QWEN.rsplit('/').next().unwrap_or(QWEN);
        let script = fixture::load(&*context.root()?, &name(FIXTURE)?)?.script;
        MockServer::start(Mock::new(script, model).misbehaving(behaviour)).map(Some)
    }

    /// The file that the old set-up's variable names, where the world has one.
    fn binary(&self, which: Binary, data: &Path) -> Result<Option<PathBuf>> {
        let Ok(made) = &self.made else { return Ok(None) };
        let path = data.with_file_name("ca");
        let write = |mode: u32, put: &dyn Fn(&Path) -> std::io::Result<()>| {
            let mode = std::fs::Permissions::from_mode(mode);
            put(&path)
                .and_then(|()| std::fs::set_permissions(&path, mode))
                .map_err(|err| Error::io("write", &path, err))
                .map(|()| Some(path.clone()))
        };
        match which {
            Binary::Stored | Binary::None => Ok(None),
            // The store keeps no modes: only a copy can be executed from outside of it.
            Binary::Named => write(0o755, &|to| std::fs::copy(&made.output, to).map(drop)),
            Binary::NotExecutable => write(0o644, &|to| std::fs::copy(&made.output, to).map(drop)),
            Binary::Another => write(0o755, &|to| std::fs::write(to, "#!/bin/sh\nexit 0\n")),
        }
    }
}

/// Refuses a provider whose runs cannot be compared with what the validators expect: its locked output must be on record,
/// and its agent must be one that speaks as Case does.
fn on_record(records: &Root, locked: &Locked) -> Result<()> {
    let name = &locked.lock.provider;
    if locked.lock.run.command.is_some() {
        return Err(Error::new(
            Reason::BadArgument,
            "health knows what must come of the agent case",
        )
        .at(locked.place.clone())
        .expected("run.agent case")
        .found("run.agent command")
        .hint("admit health"));
    }
    let output = locked.output().ok_or_else(|| {
        Error::new(Reason::OutputNotLocked, "the lock names no output")
            .at(locked.place.clone())
            .expected(format!("outputs.{}", locked.plan.platform))
            .hint(format!("admit build {name} && admit lock {name} --update"))
    })?;
    let path = BuildReport::path_of(name, &output.sha256);
    let record = format!("admit build {name} --record");
    let Some(report) = records.record::<BuildReport>(&path)? else {
        return Err(Error::new(Reason::NotRecorded, "no build of the provider is on record")
            .at(records.label())
            .expected(path)
            .found("none")
            .hint(record));
    };
    match build::difference(locked, &report, None) {
        None => Ok(()),
        Some(Difference { field, expected, found }) => {
            let what = format!("the build on record is not what the lock names: {field}");
            Err(Error::new(Reason::NotRecorded, what)
                .at(records.place(&path))
                .expected(expected)
                .found(found)
                .hint(record))
        }
    }
}

impl Stage<'_> {
    /// What the world asks for, by the same way as any user's request.
    fn options(&self, world: &World, vars: &BTreeMap<String, String>) -> Result<Options> {
        let model = world.model.map(|text| {
            text.parse()
                .map_err(|what: String| Error::new(Reason::Internal, what).at(text.to_owned()))
        });
        let flags = Flags {
            stage: Some(world.stage),
            provider: Some(self.provider.clone()),
            engine: Some(world.engine),
            model: model.transpose()?,
            timeout: world.timeout.map(Duration::from_secs),
            ..Flags::default()
        };
        let mut options = Options {
            launcher: (!world.sandbox_starts).then(|| PathBuf::from("/bin/false")),
            ..Options::asked(vars, flags, self.spec(), name(FIXTURE)?)
        };
        options.proxy.requests = world.requests.unwrap_or(options.proxy.requests);
        Ok(options)
    }
}

fn name(text: &str) -> Result<Name> {
    text.parse().map_err(|err| Error::new(Reason::Internal, "a constant name").caused_by(err))
}

/// An error once more, for each validator that it hinders.
fn again(err: &Error) -> Error {
    let mut again = Error::new(err.reason(), err.to_string());
    for hint in err.hints() {
        again = again.hint(hint.clone());
    }
    again
}
