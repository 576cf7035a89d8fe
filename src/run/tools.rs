//! Programs that a fixture needs: Python with a pinned pytest, git, the pinned Bun. Those of the host are mounted read-only at their
//! own absolute paths, since a Python found elsewhere loads the wrong library.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bun::{self, BunFacts, BunTool};
use super::pytest::{self, PYTEST_INSIDE};
use super::python::{Answer, Python, ask, clean, digest, missing, not_killed, tail};
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::host::Host;
use crate::record::fixture::{FixtureRecord, JudgeName, Tool};
use crate::record::ids::{AbsPath, Digest};
use crate::root::Root;
use crate::sandbox::{HOST_PROGRAMS, Mount, Policy};
use crate::stop;
use crate::store::{Store, StoredTree};

/// Where Python finds what admit mounts for it.
pub(super) const PYTHON_PATH: [&str; 1] = [PYTEST_INSIDE];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Git {
    /// The program itself, behind links and wrappers.
    pub executable: PathBuf,
    /// Where its other programs are (`git --exec-path`).
    pub prefix: PathBuf,
    /// SHA-256 of the program.
    pub sha256: Digest,
}

/// The programs of a fixture's sandboxes, those that it asks for.
#[derive(Debug)]
pub struct Tools {
    pub pytest: Option<Pytest>,
    pub git: Option<Git>,
    pub bun: Option<BunTool>,
    /// What the fixture's own commands start, by the name that they have there.
    pub programs: BTreeMap<String, Program>,
}

/// A program that a command of a fixture starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Where it is in the sandbox.
    pub executable: PathBuf,
    /// SHA-256 of the program, behind links.
    pub sha256: Digest,
}

/// Python with the pinned pytest.
#[derive(Debug)]
pub struct Pytest {
    pub python: Python,
    /// The pinned pytest in the store, verified.
    pub tree: StoredTree,
    /// SHA-256 of the lock that it was installed from.
    pub lock: Digest,
}

/// What a report says about the tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolFacts {
    /// The host's Python, where the fixture asks for it.
    pub python: Option<Python>,
    /// The host's git, where the fixture asks for it.
    pub git: Option<Git>,
    /// NAR hash of the pinned pytest.
    pub pytest_nar: Option<Digest>,
    /// SHA-256 of its lock.
    pub pytest_lock: Option<Digest>,
    /// The pinned Bun, where the fixture asks for it.
    pub bun: Option<BunFacts>,
    /// What the fixture's own commands start, by the name that they have there. A report of `admit.run-tools/2` has none.
    #[serde(default)]
    pub programs: BTreeMap<String, Program>,
}

/// [`tools`] for what a fixture says: what it lists, what its judge cannot do without, and what its commands start.
///
/// # Errors
/// Those of [`tools`]; [`Reason::NotFound`] for a command whose program is in no judge's sandbox.
pub fn of(context: &Context, root: &Root, store: &Store, record: &FixtureRecord) -> Result<Tools> {
    let mut wanted = record.tools.clone();
    wanted.push(record.judge.tool());
    let mut all = tools(context, root, store, &wanted)?;
    if record.judge == JudgeName::Command {
        for command in [&record.verification_command, &record.program] {
            if let Some(name) = command.first() {
                let program = all.program(name)?;
                all.programs.insert(name.clone(), program);
            }
        }
    }
    Ok(all)
}

/// Finds what is wanted of the host's programs, and brings the pinned pytest and Bun into the store.
///
/// # Errors
/// [`Reason::PythonMissing`], [`Reason::GitMissing`], [`Reason::PythonNotLocked`], [`Reason::PipFailed`], those of the
/// fetch and of the store.
pub fn tools(context: &Context, root: &Root, store: &Store, wanted: &[Tool]) -> Result<Tools> {
    let host = &context.host;
    // Each answers after several processes where it is a version manager's script.
    let (git, python) = both(
        || wanted.contains(&Tool::Git).then(|| git(host)).transpose(),
        || wanted.contains(&Tool::Python3).then(|| ask(host)).transpose(),
    );
    let (python, git) = (python?, git?);
    let prefixes = python.as_ref().map(Answer::prefixes).transpose()?.unwrap_or_default();
    let private = Private::of(context, root, store)?;
    let system = HOST_PROGRAMS.iter().map(PathBuf::from);
    for place in system.chain(places(&prefixes, git.as_ref())) {
        private.keep_from(&place)?;
    }
    let pytest = python.map(|python| {
        let progress = &*context.progress;
        let (digested, installed) = both(
            || python.digested(prefixes),
            || pytest::install(host, root, store, &python, progress),
        );
        let (python, (tree, lock)) = (digested?, installed?);
        Ok(Pytest { python, tree, lock })
    });
    let bun = wanted.contains(&Tool::Bun).then(|| bun::find(context, root, store));
    let (pytest, bun) = (pytest.transpose()?, bun.transpose()?);
    Ok(Tools { pytest, git, bun, programs: BTreeMap::new() })
}

/// Does one thing beside another.
fn both<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), other)
    })
}

/// Finds git behind links and wrappers, by asking it where its programs are.
pub fn git(host: &Host) -> Result<Git> {
    let program = host.program("git").ok_or_else(|| missing(Reason::GitMissing, "git"))?;
    let broken = |what: &str| {
        Error::new(Reason::GitMissing, format!("git {what}"))
            .at(program.display().to_string())
            .hint("put a working git first on PATH")
    };
    let output = stop::output(clean(&program, host).arg("--exec-path"))
        .map_err(|err| broken("cannot be started").caused_by(err))?;
    let output = not_killed(&program, output)?;
    let prefix = Path::new(std::str::from_utf8(&output.stdout).unwrap_or_default().trim_end());
    if !output.status.success() || !prefix.is_absolute() {
        return Err(broken("does not say where its programs are").caused_by(tail(&output)));
    }
    let real = |path: &Path| path.canonicalize().map_err(|err| Error::io("resolve", path, err));
    let (prefix, inner, named) = (real(prefix)?, real(&prefix.join("git"))?, real(&program)?);
    // Often the program on PATH is a second name of it; a wrapper is not.
    let id = |path: &Path| {
        let meta = path.metadata().map_err(|err| Error::io("inspect", path, err))?;
        Ok((meta.dev(), meta.ino()))
    };
    let executable = if id(&named)? == id(&inner)? { named } else { inner };
    Ok(Git { sha256: digest(&executable)?, prefix, executable })
}

/// What is mounted for these programs beside what every sandbox has.
fn places(python: &[PathBuf], git: Option<&Git>) -> Vec<PathBuf> {
    let git = git.iter().flat_map(|git| [&git.prefix, &git.executable]);
    // In order, what holds another place comes before it.
    let all: BTreeSet<&PathBuf> = python.iter().chain(git).collect();
    let mut out: Vec<PathBuf> = Vec::new();
    for place in all {
        if !HOST_PROGRAMS.iter().any(|there| place.starts_with(there))
            && !out.iter().any(|there| place.starts_with(there))
        {
            out.push(place.clone());
        }
    }
    out
}

/// What no sandbox may show: it holds keys, records, answers, or what a run's calls are drawn from.
struct Private {
    /// Nothing of these, and nothing in them.
    whole: Vec<PathBuf>,
    /// Not these; what is installed in them may be shown.
    itself: Vec<PathBuf>,
}

impl Private {
    fn of(context: &Context, root: &Root, store: &Store) -> Result<Self> {
        let host = &context.host;
        let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
        let whole = [host.data_dir()?, context.runs_dir()?, store.path().to_path_buf()];
        let files = ["ADMIT_MODEL_KEY_FILE", "ADMIT_MODEL_ENDPOINT_FILE"];
        let itself = [host.home(), root.directory().map(Path::to_path_buf)]
            .into_iter()
            .chain(files.map(|name| host.path_var(name).map(|path| host.absolute(&path))));
        Ok(Self { whole: whole.map(real).to_vec(), itself: itself.flatten().map(real).collect() })
    }

    /// Refuses a place, mounted in every sandbox of a fixture, that would show the agent something of these.
    fn keep_from(&self, place: &Path) -> Result<()> {
        let place = &place.canonicalize().unwrap_or_else(|_| place.to_path_buf());
        let shown = |own: &&PathBuf| own.starts_with(place);
        let within = self.whole.iter().find(|own| shown(own) || place.starts_with(own));
        match within.or_else(|| self.itself.iter().find(shown)) {
            None => Ok(()),
            Some(own) if HOST_PROGRAMS.iter().any(|system| place.starts_with(system)) => {
                let what =
                    "every sandbox shows this directory, and this user's own files are in it";
                Err(Error::new(Reason::RequestRefused, what)
                    .at(place.display().to_string())
                    .expected("what the system's packages install")
                    .found(own.display().to_string())
                    .hint("move it to where no sandbox looks, such as below your home"))
            }
            Some(own) => {
                let what = "a program's directory would show this user's own files in the sandbox";
                Err(Error::new(Reason::RequestRefused, what)
                    .at(place.display().to_string())
                    .expected("a directory that holds the program alone")
                    .found(format!("it is, holds or lies in {}", own.display()))
                    .hint("put a python3 and a git that are installed elsewhere first on PATH, such as PATH=/usr/bin:$PATH"))
            }
        }
    }
}

impl Tools {
    /// Finds a program of this name, or at this place, in what a judge's sandbox holds: the pinned Bun, Python and git
    /// where the fixture asks for them, and the host's system directories.
    fn program(&self, name: &str) -> Result<Program> {
        let path = self.environment().remove("PATH").unwrap_or_default();
        let refused = |found: &str| {
            let what = "a command of the fixture starts what no judge's sandbox holds";
            Error::new(Reason::NotFound, what)
                .expected(format!("a program in one of {path}"))
                .found(format!("{name}: {found}"))
                .hint("install it there, or have it started by an interpreter that is there, as in: sh script.sh")
        };
        if name == "bun"
            && let Some(bun) = &self.bun
        {
            let facts = bun.facts();
            return Ok(Program { executable: bun::PROGRAM.into(), sha256: facts.sha256 });
        }
        let places: Vec<PathBuf> = match name.contains('/') {
            true => vec![name.into()],
            false => path.split(':').map(|dir| Path::new(dir).join(name)).collect(),
        };
        let Some(executable) = places.into_iter().find(|place| place.is_file()) else {
            return Err(refused("not there"));
        };
        let real =
            executable.canonicalize().map_err(|err| Error::io("resolve", &executable, err))?;
        let own = places_of(self);
        let mounted = |place: &Path| {
            let system = HOST_PROGRAMS.iter().map(Path::new);
            system.chain(own.iter().map(PathBuf::as_path)).any(|dir| place.starts_with(dir))
        };
        if !executable.is_absolute() || !mounted(&executable) || !mounted(&real) {
            return Err(refused(&format!("at {}", real.display())));
        }
        // A link by way of a directory that is not mounted leads nowhere in the sandbox; else the name stays, by which a
        // program may tell what it is to do.
        let mut hop = executable.clone();
        let mut whole = true;
        while let (true, Ok(next)) = (whole, std::fs::read_link(&hop)) {
            hop = hop.parent().unwrap_or(Path::new("/")).join(next);
            whole = mounted(&hop);
        }
        Ok(Program { sha256: digest(&real)?, executable: if whole { executable } else { real } })
    }

    fn python(&self) -> Option<&Python> {
        self.pytest.as_ref().map(|pytest| &pytest.python)
    }

    /// Refuses a run directory that a sandbox of these programs would show.
    pub fn keep_from(&self, run: &Path) -> Result<()> {
        let private = Private { whole: Vec::new(), itself: vec![run.to_path_buf()] };
        let system = HOST_PROGRAMS.iter().map(PathBuf::from);
        system.chain(places_of(self)).try_for_each(|place| private.keep_from(&place))
    }

    pub fn facts(&self) -> ToolFacts {
        ToolFacts {
            python: self.python().cloned(),
            git: self.git.clone(),
            pytest_nar: self.pytest.as_ref().map(|pytest| pytest.tree.nar().clone()),
            pytest_lock: self.pytest.as_ref().map(|pytest| pytest.lock.clone()),
            bun: self.bun.as_ref().map(BunTool::facts),
            programs: self.programs.clone(),
        }
    }

    /// The programs with their versions, in one line.
    pub fn words(&self) -> String {
        let python = self.python().map(|python| format!("Python {}", python.version));
        let bun = self.bun.as_ref().map(BunTool::words);
        let git = self.git.as_ref().map(|git| format!("git {}", git.sha256));
        let own = self.programs.iter().map(|(name, program)| format!("{name} {}", program.sha256));
        [python, bun, git].into_iter().flatten().chain(own).collect::<Vec<_>>().join(", ")
    }

    /// The host paths that are mounted, besides what every sandbox has.
    pub fn places(&self) -> Vec<PathBuf> {
        let mut places = places_of(self);
        places.extend(self.pytest.as_ref().map(|pytest| pytest.tree.path().to_path_buf()));
        places.extend(self.bun.as_ref().map(|bun| bun.place().to_path_buf()));
        places
    }

    /// Adds the programs to a policy that has the host's `/usr` already ([`Policy::with_host_programs`]).
    ///
    /// # Errors
    /// [`Reason::BadArgument`] for a path that a sandbox cannot have.
    pub fn mount(&self, policy: &mut Policy) -> Result<()> {
        for place in places_of(self) {
            policy.mounts.push(Mount::read_only(&place, absolute(&place)?)?);
        }
        if let Some(pytest) = &self.pytest {
            let inside = absolute(Path::new(PYTEST_INSIDE))?;
            policy.mounts.push(Mount::read_only(pytest.tree.path(), inside)?);
        }
        if let Some(bun) = &self.bun {
            policy.mounts.push(bun.mount()?);
        }
        Ok(())
    }

    /// The variables that make the programs work, and only what was mounted load: `PATH` and `PYTHON…`.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let bun = self.bun.iter().map(|_| Path::new(bun::DIRECTORY));
        let python = self.python().into_iter().map(|python| &python.executable);
        let programs = python.chain(self.git.iter().map(|git| &git.executable));
        let own = bun.chain(programs.filter_map(|program| program.parent()));
        let mut path: Vec<_> = own.map(|dir| dir.display().to_string()).collect();
        path.extend(["/usr/bin".to_owned(), "/bin".to_owned()]);
        let mut seen = BTreeSet::new();
        path.retain(|dir| seen.insert(dir.clone()));
        let mut all = BTreeMap::from([("PATH".to_owned(), path.join(":"))]);
        if self.pytest.is_some() {
            let python = [
                ("PYTHONPATH", PYTEST_INSIDE),
                ("PYTHONDONTWRITEBYTECODE", "1"),
                ("PYTHONNOUSERSITE", "1"),
                ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),
            ];
            all.extend(python.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        all
    }

    /// What is weaker than it could be, for a report's `limits`.
    pub fn limits(&self) -> Vec<String> {
        let mut limits: Vec<String> = self.python().map(|python| format!(
            "Python {} is the host's: its interpreter and library are digested, its standard library is not",
            python.version
        )).into_iter().collect();
        if self.git.is_some() {
            limits.push("git is the host's: its program is digested, what it starts is not".into());
        }
        for (name, program) in &self.programs {
            if program.executable != Path::new(bun::PROGRAM) {
                limits.push(format!(
                    "{name} is the host's: its program is digested, what it loads and starts is not"
                ));
            }
        }
        limits
    }
}

fn places_of(tools: &Tools) -> Vec<PathBuf> {
    let prefixes = tools.python().map_or(&[][..], |python| &python.prefixes);
    places(prefixes, tools.git.as_ref())
}

fn absolute(path: &Path) -> Result<AbsPath> {
    let bad = || {
        Error::new(Reason::BadArgument, "a host program at a path that a sandbox cannot have")
            .at(path.display().to_string())
    };
    path.to_str().ok_or_else(bad)?.parse().map_err(|err| bad().caused_by(err))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::program;

    #[test]
    fn a_program_in_a_directory_that_holds_private_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap().join("home");
        std::fs::create_dir_all(home.join("tools/python")).unwrap();
        let (context, root, store) = at(&home, dir.path());
        let private = Private::of(&context, &root, &store).unwrap();
        let judge = |place: &Path| private.keep_from(place).map_err(|e| e.reason());
        for place in [&home, home.parent().unwrap(), &home.join(".local/share/admit/keys")] {
            assert_eq!(judge(place), Err(Reason::RequestRefused), "{}", place.display());
        }
        assert_eq!(judge(store.path()), Err(Reason::RequestRefused));
        assert_eq!(judge(&home.join("tools/python")), Ok(()));
    }

    /// A user with this home, whose root and store lie in `dir`.
    fn at(home: &Path, dir: &Path) -> (Context, Root, Store) {
        let (records, store) = (dir.join("records"), dir.join("store"));
        std::fs::create_dir_all(&records).unwrap();
        std::fs::write(records.join(crate::root::MARKER), "").unwrap();
        let host = Host::with([("HOME".to_owned(), home.display().to_string())], "/");
        let root = Root::read_untrusted(&host, &records).unwrap();
        let mut context = Context::plain(host);
        context.options.state = Some(dir.join("state"));
        (context, root, Store::open(&store).unwrap())
    }

    #[test]
    fn what_is_the_users_own_lies_in_no_directory_that_every_sandbox_shows() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let home = dir.join("home");
        std::fs::create_dir_all(&home).unwrap();
        let (context, root, store) = at(&home, &dir);
        let private = Private::of(&context, &root, &store).unwrap();
        for system in HOST_PROGRAMS {
            assert!(private.keep_from(Path::new(system)).is_ok(), "{system}");
        }
        // Of a directory of records, of runs and of keys, wherever a fixture's programs lie.
        let mounted = dir.join("mounted");
        let own = ["records", "state/runs", "home/.local/share/admit", "home"];
        for own in own.map(|own| dir.join(own)).into_iter().chain([store.path().to_path_buf()]) {
            let shown = Private { whole: Vec::new(), itself: vec![own.clone()] };
            assert!(shown.keep_from(own.parent().unwrap()).is_err(), "{}", own.display());
            assert!(shown.keep_from(&mounted).is_ok());
            let all = private.whole.iter().chain(&private.itself);
            assert!(all.into_iter().any(|known| *known == own), "{}", own.display());
        }
        // A Python of its own in the directory of records is no reason to refuse.
        assert!(private.keep_from(&dir.join("records/.venv")).is_ok());
        let below = Private { whole: Vec::new(), itself: vec!["/usr/src/app".into()] };
        let error = below.keep_from(Path::new("/usr")).unwrap_err();
        assert_eq!(error.reason(), Reason::RequestRefused);
        assert_eq!(error.found_value(), Some("/usr/src/app"));
    }

    #[test]
    fn a_wrapper_of_git_in_the_home_mounts_nothing_of_the_home() {
        let dir = tempfile::tempdir().unwrap();
        let (home, bin) = (dir.path().join("home"), dir.path().join("home/bin"));
        let exec = dir.path().join("opt/git/libexec/git-core");
        std::fs::create_dir_all(&exec).unwrap();
        program(bin.join("git"), &format!("#!/bin/sh\necho {}\n", exec.display()));
        program(dir.path().join("opt/git/git"), "the program");
        std::os::unix::fs::symlink("../../git", exec.join("git")).unwrap();
        let vars = [("PATH", &bin), ("HOME", &home)];
        let host = Host::with(vars.map(|(k, v)| (k.to_owned(), v.display().to_string())), "/");
        let git = git(&host).unwrap();
        let real = dir.path().canonicalize().unwrap().join("opt/git");
        assert_eq!(git.executable, real.join("git"));
        assert_eq!(git.sha256, Digest::sha256(b"the program"));
        let all = places(&["/usr".into()], Some(&git));
        assert_eq!(all, [real.join("git"), real.join("libexec/git-core")]);
    }
}
