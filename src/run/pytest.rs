//! The pinned pytest: wheels by digest, installed by the host's pip with the user's own configuration into the store.

use std::path::Path;
use std::process::Output;

use super::python::{Answer, clean, not_killed, tail};
use crate::error::{Error, Reason, Result};
use crate::host::{Host, Progress};
use crate::record;
use crate::record::ids::Digest;
use crate::record::piplock::PipLock;
use crate::root::Root;
use crate::stop;
use crate::store::{Store, StoredTree};

/// Where the pinned pytest is inside every sandbox of a run.
pub(super) const PYTEST_INSIDE: &str = "/opt/admit/pytest";

const LOCK: &str = "lockfiles/pytest.lock.json";

/// The area of the store's records that say which tree a lock gave.
const AREA: &str = "pip";

/// The pinned pytest for this Python, from the store or by the host's pip.
pub(super) fn install(
    host: &Host,
    root: &Root,
    store: &Store,
    python: &Answer,
    progress: &dyn Progress,
) -> Result<(StoredTree, Digest)> {
    let lock = root.record::<PipLock>(LOCK)?.ok_or_else(|| {
        Error::new(Reason::NotFound, "the root locks no pytest").at(root.place(LOCK))
    })?;
    let digest = record::digest(&lock);
    let wheels = lock.python.get(&python.minor).ok_or_else(|| {
        let known: Vec<&str> = lock.python.keys().map(String::as_str).collect();
        Error::new(Reason::PythonNotLocked, "no pytest is locked for this Python")
            .at(root.place(LOCK))
            .expected(format!("Python {}", known.join(", ")))
            .found(format!("Python {} ({})", python.version, python.executable.display()))
            .hint("put one of these versions first on PATH")
    })?;
    let key = record::digest(&("admit.pip/1", &digest, &python.minor));
    let _lock = store.lock(&key, &mut || progress.note("waiting for another pip"))?;
    if let Some(tree) = store.tree_of(AREA, &key)? {
        return Ok((tree, digest));
    }
    progress.stage("pip", &format!("{} wheels for Python {}", wheels.len(), python.minor));
    let failed = |what: &str, output: &Output| {
        Error::new(Reason::PipFailed, what)
            .at(format!("{} -m pip", python.executable.display()))
            .caused_by(tail(output))
            .hint("pip uses your own configuration; try: python3 -m pip download pytest")
    };
    let scratch = store.scratch()?;
    let requirements: String = wheels
        .iter()
        .map(|wheel| {
            let sha256 = wheel.sha256.digest().to_hex();
            format!("{}=={} --hash=sha256:{sha256}\n", wheel.name, wheel.version)
        })
        .collect();
    let list = scratch.path().join("requirements.txt");
    std::fs::write(&list, requirements).map_err(|err| Error::io("write", &list, err))?;
    let writer = store.tree_writer()?;
    let run = |args: &[&str], more: &[&Path]| -> Result<Output> {
        let output = stop::output(clean(&python.executable, host).args(args).args(more))
            .map_err(|err| Error::io("start", &python.executable, err))?;
        not_killed(&python.executable, output)
    };
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "--no-compile",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--no-input",
        "--requirement",
    ];
    let output = run(&install, &[&list, Path::new("--target"), writer.path()])?;
    if !output.status.success() {
        return Err(failed("pip could not install the locked packages", &output));
    }
    // Scripts name the interpreter; nothing here starts them.
    match writer.dir().remove_dir_all("bin") {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", "bin", err));
        }
        _ => {}
    }
    // Compiled once, for the place where it will be, so that no start has to. The store sets all times to one moment, so the
    // compiled files must not depend on them (PEP 552).
    let compile = [
        "-I",
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
        "-p",
        PYTEST_INSIDE,
        "-s",
    ];
    let output = run(&compile, &[writer.path(), writer.path()])?;
    if !output.status.success() {
        return Err(failed("the packages cannot be compiled", &output));
    }
    let tree = writer.finish(None)?;
    store.put_tree_of(AREA, &key, &tree)?;
    Ok((tree, digest))
}
