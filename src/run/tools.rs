//! Programs of the host that a fixture needs: Python with a pinned pytest, and git. They are mounted read-only at their
//! own absolute paths, since a Python found elsewhere loads the wrong library.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pytest;
use crate::error::{Error, Reason, Result};
use crate::host::{Host, Progress};
use crate::record::fixture::Tool;
use crate::record::ids::{AbsPath, Algorithm, Digest};
use crate::root::Root;
use crate::sandbox::{Mount, Policy};
use crate::store::{Digests, Hashes, Store, StoredTree};

/// Where the pinned pytest is inside every sandbox of a run.
pub const PYTEST_INSIDE: &str = "/opt/admit/pytest";

/// What Python says of itself. Isolated, so that nothing of the user's own is loaded.
const ASK: &str = "import json, sys, sysconfig\n\
    v = sysconfig.get_config_var\n\
    print(json.dumps({'executable': sys.executable, 'prefix': sys.prefix, 'base_prefix': sys.base_prefix,\n\
    'version': '%d.%d.%d' % sys.version_info[:3], 'minor': '%d.%d' % sys.version_info[:2],\n\
    'library': '/'.join((v('LIBDIR') or '', v('INSTSONAME') or v('LDLIBRARY') or ''))}))";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// The interpreter that `python3` really starts.
    pub executable: PathBuf,
    /// Its installation, and the one below it in a virtual environment.
    pub prefixes: Vec<PathBuf>,
    /// For example `3.11.7`.
    pub version: String,
    /// For example `3.11`.
    pub minor: String,
    /// SHA-256 of the interpreter.
    pub sha256: Digest,
    /// The shared library that it loads, where there is one, with its SHA-256.
    pub library: Option<(PathBuf, Digest)>,
}

/// The answer to [`ASK`].
#[derive(Deserialize)]
struct Answer {
    executable: PathBuf,
    prefix: PathBuf,
    base_prefix: PathBuf,
    version: String,
    minor: String,
    library: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Git {
    /// The program, links resolved.
    pub executable: PathBuf,
    pub prefix: PathBuf,
    /// SHA-256 of the program.
    pub sha256: Digest,
}

/// Everything that a fixture's sandboxes get of the host.
#[derive(Debug)]
pub struct Tools {
    pub python: Python,
    /// Git, where the fixture asks for it.
    pub git: Option<Git>,
    /// The pinned pytest in the store, verified.
    pub pytest: StoredTree,
    /// SHA-256 of the lock that it was installed from.
    pub lock: Digest,
}

/// What a report says about the tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolFacts {
    pub python: Python,
    /// Git, where the fixture asks for it.
    pub git: Option<Git>,
    /// NAR hash of the pinned pytest.
    pub pytest_nar: Digest,
    /// SHA-256 of its lock.
    pub pytest_lock: Digest,
}

/// Finds the host's programs and installs the pinned pytest, or finds it in the store.
///
/// # Errors
/// [`Reason::PythonMissing`], [`Reason::GitMissing`], [`Reason::PythonNotLocked`], [`Reason::PipFailed`], and those of the
/// store.
pub fn tools(
    host: &Host,
    root: &Root,
    store: &Store,
    wanted: &[Tool],
    progress: &dyn Progress,
) -> Result<Tools> {
    let python = python(host)?;
    let git = if wanted.contains(&Tool::Git) { Some(git(host)?) } else { None };
    let (pytest, lock) = pytest::install(host, root, store, &python, progress)?;
    Ok(Tools { python, git, pytest, lock })
}

fn missing(reason: Reason, name: &str) -> Error {
    Error::new(reason, format!("{name} is not on this machine"))
        .expected(format!("a program {name} on PATH"))
        .hint(format!("install {name}, or put its directory on PATH"))
}

/// Finds Python behind links and the shims of version managers, by asking it.
///
/// # Errors
/// [`Reason::PythonMissing`].
pub fn python(host: &Host) -> Result<Python> {
    let program =
        host.program("python3").ok_or_else(|| missing(Reason::PythonMissing, "python3"))?;
    let broken = |what: &str| {
        Error::new(Reason::PythonMissing, format!("python3 {what}"))
            .at(program.display().to_string())
            .hint("put a working python3 (3.10 to 3.13, with pip) first on PATH")
    };
    let output = clean(&program, host)
        .args(["-I", "-c", ASK])
        .output()
        .map_err(|err| broken("cannot be started").caused_by(err))?;
    if !output.status.success() {
        return Err(broken("does not run").caused_by(tail(&output)));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|err| broken("does not say where it is").caused_by(err))?;
    let real = |path: &Path| path.canonicalize().map_err(|err| Error::io("resolve", path, err));
    let mut prefixes = BTreeSet::new();
    for prefix in [&answer.prefix, &answer.base_prefix] {
        prefixes.insert(real(prefix)?);
    }
    let library = match answer.library.is_file() {
        true if answer.library.is_absolute() => {
            let path = real(&answer.library)?;
            let digest = digest(&path)?;
            Some((path, digest))
        }
        _ => None,
    };
    let interpreter = real(&answer.executable)?;
    Ok(Python {
        sha256: digest(&interpreter)?,
        executable: answer.executable,
        prefixes: prefixes.into_iter().collect(),
        version: answer.version,
        minor: answer.minor,
        library,
    })
}

/// Finds git.
///
/// # Errors
/// [`Reason::GitMissing`].
pub fn git(host: &Host) -> Result<Git> {
    let program = host.program("git").ok_or_else(|| missing(Reason::GitMissing, "git"))?;
    let executable = program.canonicalize().map_err(|err| Error::io("resolve", &program, err))?;
    let prefix = executable.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    let (prefix, sha256) = (prefix.to_path_buf(), digest(&executable)?);
    Ok(Git { executable, prefix, sha256 })
}

fn digest(path: &Path) -> Result<Digest> {
    let file = std::fs::File::open(path).map_err(|err| Error::io("open", path, err))?;
    let digests: Digests =
        Hashes::of_file(&file, &[Algorithm::Sha256]).map_err(|err| Error::io("read", path, err))?;
    let digest = digests.get(Algorithm::Sha256).cloned();
    digest.ok_or_else(|| Error::new(Reason::Internal, "a file that was not hashed"))
}

/// A host program without the variables that make Python load something else, and without what only admit needs to
/// know: the model's key and endpoint.
pub(super) fn clean(program: &Path, host: &Host) -> Command {
    let mut command = Command::new(program);
    let withheld = ["PYTHON", "ADMIT_", "CTO_HARNESS_", "OPENAI_"];
    let kept = host.vars().into_iter();
    let kept = kept.filter(|(name, _)| !withheld.iter().any(|start| name.starts_with(start)));
    command.env_clear().envs(kept).stdin(Stdio::null()).current_dir("/");
    command
}

/// The last lines that a program printed.
pub(super) fn tail(output: &Output) -> String {
    let text = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

impl Tools {
    /// What a report says.
    pub fn facts(&self) -> ToolFacts {
        ToolFacts {
            python: self.python.clone(),
            git: self.git.clone(),
            pytest_nar: self.pytest.nar().clone(),
            pytest_lock: self.lock.clone(),
        }
    }

    /// Adds the programs to a policy that has the host's `/usr` already ([`Policy::with_host_programs`]).
    ///
    /// # Errors
    /// [`Reason::BadArgument`] for a path that a sandbox cannot have.
    pub fn mount(&self, policy: &mut Policy) -> Result<()> {
        let git = self.git.iter().map(|git| &git.prefix);
        let places: BTreeSet<&PathBuf> = self.python.prefixes.iter().chain(git).collect();
        let mut mounted: Vec<&Path> = vec![Path::new("/usr"), Path::new("/bin"), Path::new("/lib")];
        for place in places {
            if mounted.iter().any(|there| place.starts_with(there)) {
                continue;
            }
            policy.mounts.push(Mount::read_only(place, absolute(place)?)?);
            mounted.push(place);
        }
        let inside = absolute(Path::new(PYTEST_INSIDE))?;
        policy.mounts.push(Mount::read_only(self.pytest.path(), inside)?);
        Ok(())
    }

    /// The variables that make the programs work, and only what was mounted load: `PATH` and `PYTHON…`.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut path: Vec<String> = Vec::new();
        let programs = std::iter::once(&self.python.executable);
        for program in programs.chain(self.git.iter().map(|git| &git.executable)) {
            if let Some(dir) = program.parent() {
                path.push(dir.display().to_string());
            }
        }
        path.extend(["/usr/bin".to_owned(), "/bin".to_owned()]);
        let mut seen = BTreeSet::new();
        path.retain(|dir| seen.insert(dir.clone()));
        let path = path.join(":");
        [
            ("PATH", path.as_str()),
            ("PYTHONPATH", PYTEST_INSIDE),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONNOUSERSITE", "1"),
            ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// What is weaker than it could be, for a report's `limits`.
    pub fn limits(&self) -> Vec<String> {
        let mut limits = vec![format!(
            "Python {} is the host's: its interpreter and library are digested, its standard library is not",
            self.python.version
        )];
        if self.git.is_some() {
            limits.push("git is the host's: its program is digested, what it starts is not".into());
        }
        limits
    }
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

    #[test]
    fn pip_and_python_get_neither_key_nor_endpoint() {
        let vars = [
            ("ADMIT_MODEL_KEY", "k"),
            ("CTO_HARNESS_CASE_LOCAL_BASE_URL", "http://h"),
            ("OPENAI_API_KEY", "k"),
            ("PYTHONPATH", "/x"),
            ("PIP_INDEX_URL", "i"),
        ];
        let host = Host::with(vars.map(|(k, v)| (k.to_owned(), v.to_owned())), "/");
        let command = clean(Path::new("python3"), &host);
        let given: Vec<_> =
            command.get_envs().filter_map(|(name, value)| value.map(|_| name)).collect();
        assert_eq!(given, ["PIP_INDEX_URL"]);
    }
}
