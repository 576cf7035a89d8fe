//! The box of a run as a policy: the host's programs, the room, and for a provider its verified binary and the door.

use std::path::{Path, PathBuf};

use super::engine::case;
use super::tools::Tools;
use crate::error::Result;
use crate::model::ids::Digest;
use crate::sandbox::{Mount, Policy};

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
