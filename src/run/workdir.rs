//! The sandbox's working directory from outside: files written into it before the start, and the agent's log read out of
//! it, through no link.

use std::io::Read as _;

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, OpenOptions, OpenOptionsExt as _};

use super::repository::open_dir;
use crate::check::launch::Launch;
use crate::error::{Error, Result};
use crate::host::open_regular;
use crate::sandbox::Owner;

/// Longest log that is read.
pub const MAX_LOG: u64 = 32 << 20;

/// Makes the launch's directories, as the payload.
pub fn directories(workdir: &Dir, launch: &Launch, owner: Owner) -> Result<()> {
    let _as_payload = owner.enter()?;
    let mut dir = DirBuilder::new();
    dir.mode(0o700).recursive(true);
    for name in &launch.directories {
        workdir.create_dir_with(name, &dir).map_err(|err| Error::io("make", name, err))?;
    }
    Ok(())
}

/// Writes the launch's files, as the payload.
pub fn files(workdir: &Dir, launch: &Launch, owner: Owner) -> Result<()> {
    let _as_payload = owner.enter()?;
    for (path, file) in &launch.files {
        let io = |err| Error::io("write into the sandbox", path, err);
        if let Some((parent, _)) = path.rsplit_once('/') {
            let mut dir = DirBuilder::new();
            dir.mode(0o700).recursive(true);
            workdir.create_dir_with(parent, &dir).map_err(io)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut out = workdir.open_with(path, &options).map_err(io)?;
        std::io::Write::write_all(&mut out, &file.bytes).map_err(io)?;
    }
    Ok(())
}

/// The one log in `directory` below the working directory; `None` where there is none, or more than one.
pub fn log(workdir: &Dir, directory: &str) -> Option<Vec<u8>> {
    let here = open_dir(workdir, directory).ok()?;
    let mut names: Vec<String> = here
        .entries()
        .ok()?
        .take(100)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("run-") && name.ends_with(".jsonl"))
        .collect();
    names.sort();
    // One run has one log; with more of them it is not known which is this run's.
    let [name] = &names[..] else { return None };
    let file = open_regular(&here, name).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
