//! Collects what the gate decides on from this machine. Everything starts as not found out; what cannot be read says
//! so. Starts nothing but an empty sandbox, whose walls are a fact of their own, and asks nobody but, where the probe
//! is wanted, the model.

mod model;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::attest::{self, Expected, Outcome};
use crate::download::config::NetConfig;
use crate::error::{Error, Reason};
use crate::gate::{
    AmbientFact, BinaryFact, Compared, Facts, Found, IdentityFact, LicenceFact, LockFact,
    ReportFact, Request, RootFact, SandboxFact, TaskFact,
};
use crate::host::platform;
use crate::lock::Locked;
use crate::lock::plan::Plan;
use crate::proxy::probe::Probe;
use crate::proxy::upstream::Upstream;
use crate::record::fixture::Script;
use crate::record::ids::{Algorithm, Digest, Name, Timestamp};
use crate::record::lockfile::{Ambient, LicenseStatus};
use crate::record::report::{BuildReport, OutputStatus, SourceAdmission};
use crate::record::signing::Kind;
use crate::root::Root;
use crate::run::fixture;
use crate::sandbox::{self, Launcher, Policy};
use crate::store::{Hashes, Store};

/// The variable that holds the model's key.
pub const KEY_VARIABLE: &str = "ADMIT_MODEL_KEY";
/// The variable that names a file of mode 0600 with the model's key.
pub const KEY_FILE_VARIABLE: &str = "ADMIT_MODEL_KEY_FILE";
/// The variable that names a file of mode 0600 with the endpoint's address.
pub const ENDPOINT_FILE_VARIABLE: &str = "ADMIT_MODEL_ENDPOINT_FILE";

pub struct Sources<'a> {
    pub root: &'a Root,
    pub request: &'a Request,
    /// The provider's lock, or why there is none.
    pub locked: Result<&'a Locked, &'a Error>,
    /// The store, where there is one.
    pub store: Option<&'a Store>,
    /// This user's environment, for keys and files that it names.
    pub vars: &'a BTreeMap<String, String>,
    /// How TLS is checked.
    pub net: &'a NetConfig,
    pub now: Timestamp,
    /// Starts the sandbox whose walls are looked at; nobody finds out where there is none.
    pub launcher: Option<&'a Launcher>,
    /// The script of the fixture, for a scripted model.
    pub script: &'a Script,
    /// Whether the model is asked.
    pub probe: bool,
}

/// What the provider would get, as far as the fixture and the engine decide it.
pub struct Planned {
    /// The arguments, without the program.
    pub args: Vec<String>,
    pub task: TaskFact,
    pub ambient: Vec<AmbientFact>,
    /// The fixture's digest as read, of which the copy is made.
    pub fixture: (Name, Digest),
}

/// What was found, with the values that a run needs and that are no facts of the gate.
#[derive(Default)]
pub struct Gathered {
    pub facts: Facts,
    pub binary: Option<PathBuf>,
    pub blake3: Option<Digest>,
    pub report: Option<BuildReport>,
    /// What stands behind the bridge.
    pub upstream: Option<Upstream>,
    /// Where the admission record stands.
    pub admission_file: Option<String>,
    pub probe: Option<Probe>,
}

/// Whether the binary was built without autoloading, by its lock and its recorded build.
pub fn hardened(locked: &Locked, report: Option<&BuildReport>) -> bool {
    locked.lock.run.ambient == Ambient::Hardened
        && report.is_some_and(|r| !r.runtime.autoload_bunfig && !r.runtime.autoload_dotenv)
}

/// The recorded build of the locked output.
pub fn recorded(root: &Root, locked: &Locked) -> (String, Result<Option<BuildReport>, Error>) {
    let output = platform().map(|platform| locked.lock.outputs.get(&platform));
    match output {
        Ok(Some(output)) => {
            let path =
                format!("admissions/builds/{}--{}.json", locked.lock.provider, output.sha256);
            let found = root.record::<BuildReport>(&path);
            (root.place(&path), found)
        }
        Ok(None) => (String::new(), Ok(None)),
        Err(err) => (String::new(), Err(err)),
    }
}

/// What the root's policy says of a thing's signatures. Nothing is asked where there is no policy; where there is one
/// and the thing is not there, nobody can have signed it.
fn signed(root: &Root, kind: Kind, about: Option<&Expected>, now: &Timestamp) -> Found<Outcome> {
    match about {
        _ if root.config().require.of(kind).is_none() => Found::Known(None),
        None => Found::Absent,
        Some(about) => Found::Known(attest::demanded(root, kind, about, now)),
    }
}

pub fn gather(sources: &Sources<'_>, planned: Option<Planned>) -> Gathered {
    let mut out = Gathered::default();
    let request = sources.request;
    let root = sources.root;
    // An untrusted root is refused when it is read, so one that is here is trusted.
    let label = format!("{} {}", root.label(), root.digest());
    out.facts.root = Found::Known(RootFact { label, trusted: true });
    out.facts.stage = request.stage.map_or(Found::Absent, Found::Known);
    out.facts.requested = Found::Known(request.model.iter().cloned().collect());
    match sources.locked {
        Ok(locked) => provider(sources, locked, &mut out),
        Err(err) if err.reason() == Reason::ProviderNotLocked => out.facts.lock = Found::Absent,
        Err(err) => out.facts.lock = Found::Unreadable(err.to_string()),
    }
    if let Some(planned) = planned {
        out.facts.command = Found::Known(planned.args);
        out.facts.task = Found::Known(planned.task);
        out.facts.ambient = Found::Known(planned.ambient);
        let (name, found) = planned.fixture;
        out.facts.fixture = Found::from_result(
            fixture::locked(root, &name)
                .map(|locked| locked.map(|expected| Compared { expected, found })),
        );
    }
    model::model(sources, &mut out);
    out.facts.sandbox = sources.launcher.map_or(Found::Unknown, walls);
    out
}

/// Lock, source, toolchain, report, binary, identity, licence.
fn provider(sources: &Sources<'_>, locked: &Locked, out: &mut Gathered) {
    let lock = &locked.lock;
    out.facts.lock = Found::Known(LockFact {
        place: locked.place.clone(),
        digest: locked.digest.clone(),
        faults: Vec::new(),
    });
    out.facts.licence = Found::Known(LicenceFact {
        status: match (lock.license.status, &lock.license.spdx) {
            (LicenseStatus::Resolved, Some(spdx)) => format!("resolved as {spdx}"),
            (LicenseStatus::Resolved, None) => "resolved".into(),
            (LicenseStatus::Unresolved, _) => "unresolved".into(),
        },
        allows: lock.license.allows.clone(),
    });
    let platform = match platform() {
        Ok(platform) => platform,
        Err(err) => {
            out.facts.locked_output = Found::Unreadable(err.to_string());
            return;
        }
    };
    let output = lock.outputs.get(&platform);
    out.facts.locked_output =
        output.map_or(Found::Absent, |output| Found::Known(output.sha256.digest().clone()));
    let (place, report) = recorded(sources.root, locked);
    let about = report.as_ref().ok().and_then(Option::as_ref);
    let about = about.map(|report| attest::of_build(report, lock, &sources.now));
    out.facts.build_signed = signed(sources.root, Kind::Build, about.as_ref(), &sources.now);
    match report {
        Ok(Some(report)) => {
            out.facts.report = Found::Known(ReportFact {
                place,
                // A lock that says now how something else is built is not answered by this build.
                source_admitted: report.source_admission_status == SourceAdmission::Admitted
                    && report.verification == OutputStatus::Locked
                    && report.provider == lock.provider
                    && Plan::new(lock, platform).is_ok_and(|plan| plan.key() == report.plan_digest),
                sha256: report.sha256.digest().clone(),
            });
            out.facts.source_pin = Found::Known(Compared {
                expected: lock.source.rev.clone(),
                found: report.pinned_commit.clone(),
            });
            let bun = lock.toolchain.bun.platforms.get(&platform);
            out.facts.toolchain = bun.map_or(Found::Absent, |bun| {
                Found::Known(Compared {
                    expected: bun.binary_sha256.digest().clone(),
                    found: report.bun_sha256.digest().clone(),
                })
            });
            out.facts.identity = Found::Known(identity(locked, &report));
            out.report = Some(report);
        }
        Ok(None) => {
            out.facts.report = Found::Absent;
            out.facts.source_pin = Found::Absent;
            out.facts.toolchain = Found::Absent;
            out.facts.identity = Found::Absent;
        }
        Err(err) => out.facts.report = Found::Unreadable(err.to_string()),
    }
    let stored = || {
        let digest = output?.sha256.digest();
        Some((sources.store?.file_path(digest), true))
    };
    let named = sources.request.binary.as_ref().map(|path| (PathBuf::from(path), false));
    match named.or_else(stored) {
        None => out.facts.binary = Found::Absent,
        Some((path, of_store)) => binary(&path, of_store, out),
    }
}

/// A larger binary is not read; Case's is 106 MB.
const MAX_BINARY: u64 = 1 << 30;

/// Opens the binary once, looks at it and hashes it. What runs is copied and hashed anew by the sandbox.
fn binary(path: &Path, of_store: bool, out: &mut Gathered) {
    let place = path.display().to_string();
    let nothing = || Digest::sha256(b"");
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let irregular = BinaryFact {
        place: format!("{place}, which is no regular file"),
        regular: false,
        executable: false,
        sha256: nothing(),
    };
    let file = match file {
        Ok(file) => file,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            out.facts.binary = Found::Absent;
            return;
        }
        // O_NOFOLLOW on a link (open(2)).
        Err(err) if err.raw_os_error() == Some(libc::ELOOP) => {
            out.facts.binary = Found::Known(irregular);
            return;
        }
        Err(err) => {
            out.facts.binary = Found::Unreadable(err.to_string());
            return;
        }
    };
    let Ok(meta) = file.metadata() else {
        out.facts.binary = Found::Unreadable("it cannot be looked at".into());
        return;
    };
    if !meta.is_file() {
        out.facts.binary = Found::Known(irregular);
        return;
    }
    // A sparse file of any length costs nothing to make and hours to hash.
    if meta.len() > MAX_BINARY {
        let what = format!("{} bytes, larger than any program", meta.len());
        out.facts.binary = Found::Unreadable(what);
        return;
    }
    match Hashes::of_file(&file, &[Algorithm::Sha256, Algorithm::Blake3]) {
        Err(err) => out.facts.binary = Found::Unreadable(err.to_string()),
        Ok(digests) => {
            let sha256 = digests.get(Algorithm::Sha256).cloned().unwrap_or_else(nothing);
            out.blake3 = digests.get(Algorithm::Blake3).cloned();
            // The store keeps no modes: what it holds as an output was executable when it was taken, and its copy in
            // the sandbox is.
            let executable = of_store || meta.mode() & 0o111 != 0;
            out.facts.binary =
                Found::Known(BinaryFact { place, regular: true, executable, sha256 });
            out.binary = Some(path.to_path_buf());
        }
    }
}

/// Holds the recorded proof against the lock.
fn identity(locked: &Locked, report: &BuildReport) -> IdentityFact {
    let (want, proof) = (&locked.lock.identity, &report.identity);
    let mut faults = Vec::new();
    let mut need = |good: bool, what: &str| {
        if !good {
            faults.push(what.to_owned());
        }
    };
    need(proof.help_first_line == want.help_first_line, "another first line of --help");
    need(proof.commands == want.commands, "other commands");
    need(proof.version == want.version, "another version");
    need(report.runtime.proven, "the runtime inside is not proven");
    need(report.runtime.exec_argv.is_empty(), "arguments are compiled in");
    if locked.lock.run.ambient == Ambient::Hardened {
        let off = !report.runtime.autoload_bunfig && !report.runtime.autoload_dotenv;
        need(off, "locked as hardened, and autoloading is on");
    }
    IdentityFact { sha256: report.sha256.digest().clone(), faults }
}

/// Builds a sandbox with nothing in it.
fn walls(launcher: &Launcher) -> Found<SandboxFact> {
    match sandbox::start(launcher, &Policy::new("admit-gate")) {
        Err(err) => Found::Known(SandboxFact { held: Vec::new(), failed: vec![err.to_string()] }),
        Ok(sandbox) => {
            let probes = &sandbox.facts().probes;
            let names = |held: bool| -> Vec<String> {
                probes.iter().filter(|p| p.held() == held).map(|p| p.name.clone()).collect()
            };
            let fact = SandboxFact { held: names(true), failed: names(false) };
            sandbox.end();
            Found::Known(fact)
        }
    }
}
