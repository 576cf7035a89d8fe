//! The host's Python, as it says of itself.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Reason, Result};
use crate::host::Host;
use crate::record::ids::{Algorithm, Digest};
use crate::stop;
use crate::store::Hashes;

/// What Python says of itself. Isolated, so that nothing of the user's own is loaded, and without `site`, which runs what the
/// installation's packages want to have run at each start. `site` is also what tells a virtual environment, so its file is
/// looked for here, where PEP 405 has it.
const ASK: &str = "import json, os, sys, sysconfig\n\
    v = sysconfig.get_config_var\n\
    bin = os.path.dirname(sys.executable)\n\
    env = [d for d in (bin, os.path.dirname(bin)) if os.path.isfile(os.path.join(d, 'pyvenv.cfg'))]\n\
    print(json.dumps({'executable': sys.executable, 'prefix': (env + [sys.prefix])[0], 'base_prefix': sys.base_prefix,\n\
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
pub struct Answer {
    pub(super) executable: PathBuf,
    prefix: PathBuf,
    base_prefix: PathBuf,
    pub(super) version: String,
    pub(super) minor: String,
    library: PathBuf,
}

pub(super) fn missing(reason: Reason, name: &str) -> Error {
    Error::new(reason, format!("{name} is not on this machine"))
        .expected(format!("a program {name} on PATH"))
        .hint(format!("install {name}, or put its directory on PATH"))
}

/// Finds Python behind links and the shims of version managers, by asking it.
pub fn ask(host: &Host) -> Result<Answer> {
    let program =
        host.program("python3").ok_or_else(|| missing(Reason::PythonMissing, "python3"))?;
    let broken = |what: &str| {
        Error::new(Reason::PythonMissing, format!("python3 {what}"))
            .at(program.display().to_string())
            .hint("put a working python3 (3.10 to 3.13, with pip) first on PATH")
    };
    let output = stop::output(clean(&program, host).args(["-I", "-S", "-c", ASK]))
        .map_err(|err| broken("cannot be started").caused_by(err))?;
    let output = not_killed(&program, output)?;
    if !output.status.success() {
        return Err(broken("does not run").caused_by(tail(&output)));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|err| broken("does not say where it is").caused_by(err))
}

fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|err| Error::io("resolve", path, err))
}

impl Answer {
    /// The installation, and the one below it in a virtual environment.
    pub(super) fn prefixes(&self) -> Result<Vec<PathBuf>> {
        let prefixes = BTreeSet::from([real(&self.prefix)?, real(&self.base_prefix)?]);
        Ok(prefixes.into_iter().collect())
    }

    /// Reads the interpreter and its library, which are some tens of megabytes. `prefixes`: those that were looked at, so that
    /// no others are mounted.
    pub(super) fn digested(&self, prefixes: Vec<PathBuf>) -> Result<Python> {
        let library = match self.library.is_file() {
            true if self.library.is_absolute() => {
                let path = real(&self.library)?;
                let digest = digest(&path)?;
                Some((path, digest))
            }
            _ => None,
        };
        Ok(Python {
            sha256: digest(&real(&self.executable)?)?,
            executable: self.executable.clone(),
            prefixes,
            version: self.version.clone(),
            minor: self.minor.clone(),
            library,
        })
    }
}

pub(super) fn digest(path: &Path) -> Result<Digest> {
    let file = std::fs::File::open(path).map_err(|err| Error::io("open", path, err))?;
    let digests =
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

/// A program that a signal ended says nothing, of itself or of this machine.
pub(super) fn not_killed(program: &Path, output: Output) -> Result<Output> {
    match output.status.signal() {
        Some(signal) if stop::ends_others(signal) => {
            Err(Error::new(Reason::KilledFromOutside, "a program that admit asked was ended")
                .at(program.display().to_string())
                .expected("an end of its own")
                .found(format!("signal {signal}, sent from outside or by the kernel"))
                .hint("try again"))
        }
        _ => Ok(output),
    }
}

pub(super) fn tail(output: &Output) -> String {
    let text = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
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
