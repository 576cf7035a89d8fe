//! The box of a run as a policy: the host's programs, the room, and for a provider its verified binary and the door. And
//! what is read out of the room.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};

use super::engine::case::{self, Layout};
use super::tools::Tools;
use crate::error::Result;
use crate::record::ids::Digest;
use crate::sandbox::{Mount, Policy};

/// Longest event log that is read.
const MAX_EVENTS: u64 = 32 << 20;

/// The box without a provider, as the fake engine has it.
pub fn room(hostname: String, tools: &Tools) -> Result<Policy> {
    let mut policy = Policy::new(hostname).with_host_programs()?;
    tools.mount(&mut policy)?;
    let memory = |inside: &str, size, mode| -> Result<Mount> {
        Ok(Mount::Tmpfs { inside: case::path(inside)?, size, inodes: case::ROOM_INODES, mode })
    };
    policy.mounts.push(memory("/tmp", 64 << 20, 0o1777)?);
    policy.mounts.push(memory(case::ROOM, case::ROOM_BYTES, 0o700)?);
    policy.handout = Some(case::path(case::ROOM)?);
    Ok(policy)
}

/// The box of a provider.
pub fn policy(
    binary: &Path,
    sha256: &Digest,
    blake3: Option<Digest>,
    hostname: String,
    tools: &Tools,
) -> Result<Policy> {
    let mut policy = room(hostname, tools)?;
    policy.mounts.push(Mount::Verified {
        host: binary.to_path_buf(),
        inside: case::path(case::BINARY)?,
        sha256: sha256.clone(),
        blake3,
        mode: 0o555,
    });
    policy.listener = Some(case::PORT);
    Ok(policy)
}

/// Host paths that belong in the box beside the system's.
pub fn expected(tools: &Tools) -> Vec<PathBuf> {
    let git = tools.git.iter().map(|git| git.prefix.clone());
    let pytest = std::iter::once(tools.pytest.path().to_path_buf());
    let all = tools.python.prefixes.iter().cloned().chain(git).chain(pytest);
    all.filter_map(|path| path.canonicalize().ok()).collect()
}

/// Reads the event log of `task` out of the room, through no link.
pub fn events(room: &Dir, layout: &Layout, task: &str) -> Option<Vec<u8>> {
    let mut here = room.try_clone().ok()?;
    for part in layout.events(task).split('/') {
        if !here.symlink_metadata(part).ok()?.is_dir() {
            return None;
        }
        here = here.open_dir(part).ok()?;
    }
    let mut names: Vec<String> = here
        .entries()
        .ok()?
        .take(100)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("run-") && name.ends_with(".jsonl"))
        .collect();
    names.sort();
    // One run has one log; with more of them nobody knows which is this run's.
    let [name] = &names[..] else { return None };
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = here.open_with(name, &options).ok()?;
    file.metadata().ok().filter(|meta| meta.is_file())?;
    let mut bytes = Vec::new();
    file.take(MAX_EVENTS).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
