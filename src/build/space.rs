//! Where a build's files are, how much space they need, and what it looks like when that was not enough.

use std::path::Path;

use super::options::Options;
use super::work::{self, Space};
use crate::error::{Error, Reason, Result};
use crate::fetch::inputs::Inputs;
use crate::host::memory_available;
use crate::lock::Locked;
use crate::sandbox::Sandbox;
use crate::store::Outside;

/// A step that failed for want of space: a limit, and no fault of the source. That it is full, or that less is left
/// than the build needs and the step said so: Bun removes what it could not write to its end.
pub fn or_full(err: Error, sandbox: &Sandbox, need: u64) -> Error {
    if err.reason() != Reason::StepFailed {
        return err;
    }
    let Some(Ok(space)) = sandbox.directory().map(rustix::fs::fstatvfs) else { return err };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let said = err.causes().iter().any(|cause| {
        ["ENOSPC", "EDQUOT", "No space left", "Disk quota"].iter().any(|word| cause.contains(word))
    });
    let full = free < 1 << 20 || (space.f_files > 0 && space.f_ffree == 0);
    if !(full || said && free < need) {
        return err;
    }
    Error::new(Reason::DiskFull, "the build needs more disk space than it has")
        .at(err.place().unwrap_or_default())
        .expected(format!("about {need} bytes"))
        .found(format!("{free} bytes free of {}", space.f_blocks.saturating_mul(space.f_frsize)))
        .hint("name a directory with more space with --scratch")
        .caused_by(err.causes().join("\n"))
}

pub struct Chosen {
    pub space: Space,
    /// `memory` or `disk`.
    pub word: &'static str,
    /// About how many bytes the build needs.
    pub need: u64,
    /// Removes a directory outside of the store when the build is over.
    _outside: Option<Outside>,
}

/// Memory where the build fits, else disk; a directory that is named is always used.
pub fn choose(
    inputs: &mut Inputs,
    locked: &Locked,
    options: &Options,
    own: &Path,
) -> Result<Chosen> {
    let largest = locked.lock.outputs.values().map(|output| output.size).max();
    let output = largest.unwrap_or_else(|| inputs.bun.size().saturating_add(32 << 20));
    let need = work::need(inputs.unpacked_size(), output);
    if let Some(dir) = &options.scratch {
        let dir = dir.canonicalize().map_err(|err| Error::io("use as scratch", dir, err))?;
        let made = Outside::create(&dir)?;
        let space = Space::Disk { scratch: made.path().to_path_buf() };
        return Ok(Chosen { space, word: "disk", need, _outside: Some(made) });
    }
    if work::fits_memory(need, memory_available()) {
        // Twice the need: the estimate decides where to build, it must not decide whether a build succeeds.
        let space = Space::Memory { size: need.saturating_mul(2) };
        return Ok(Chosen { space, word: "memory", need, _outside: None });
    }
    let scratch = own.join("work");
    std::fs::create_dir(&scratch).map_err(|err| Error::io("create", &scratch, err))?;
    Ok(Chosen { space: Space::Disk { scratch }, word: "disk", need, _outside: None })
}
