//! Whether what decides in this user's name is really this user's.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::error::{Error, Reason, Result};

/// Refuses what another user owns or could write: it would decide in this user's name. `top` is the directory that the
/// fix is to mend, with all that may be wrong in it.
pub(super) fn own(path: &Path, meta: &Metadata, top: &Path) -> Result<()> {
    let me = rustix::process::geteuid().as_raw();
    let error = || {
        Error::new(Reason::RootNotTrusted, "another user owns or can write this user's records")
            .at(path.display().to_string())
            .expected(format!("owned by uid {me}, not writable by group or others"))
            .found(format!("uid {}, mode {:o}", meta.uid(), meta.mode() & 0o7777))
    };
    let top = top.display();
    if meta.uid() != me {
        return Err(error().hint(format!("look at what lies there, then: chown -R {me} '{top}'")));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(error().hint(format!("chmod -R go-w '{top}'")));
    }
    Ok(())
}

/// [`own`] for a path that may be absent; a link there is looked at itself.
pub(super) fn own_path(path: &Path, top: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => own(path, &meta, top),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(Error::io("inspect", path, err)),
    }
}
