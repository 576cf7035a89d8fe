//! A temporary directory outside of the store, where a user wants it (`--scratch`), owned and cleaned up like the
//! store's own: what a dead owner left goes with the next one that is made in the same place.
//!
//! ```text
//! <dir>/admit-<uid>/                        mode 0700, this user's; exists while it is in use
//!   <owner>/work/, <owner>.lock             as below the store's tmp
//! ```

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, fstat, unlinkat};
use rustix::io::Errno;

use crate::error::{Error, Result};

use super::dir::{DIRECTORY, check_owner, make_dir, open_dir};
use super::scratch::{Lease, sweep};

/// See the module. Removed when dropped.
#[derive(Debug)]
pub struct Outside {
    lease: Option<Lease>,
    parent: OwnedFd,
    name: String,
    work: PathBuf,
}

impl Outside {
    /// Makes an empty directory below `dir`, whose path has no symbolic links, and removes what dead owners left there.
    ///
    /// # Errors
    /// [`crate::error::Reason::StoreUnsafe`] where another user has this user's name there; [`crate::error::Reason::Io`], [`crate::error::Reason::DiskFull`].
    pub fn create(dir: &Path) -> Result<Self> {
        use std::os::fd::AsFd as _;
        let name = format!("admit-{}", rustix::process::geteuid().as_raw());
        let path = dir.join(&name);
        let fail = |e: Errno| Error::io("make a scratch directory in", dir, e.into());
        let parent = rustix::fs::open(dir, DIRECTORY, Mode::empty()).map_err(fail)?;
        loop {
            make_dir(parent.as_fd(), &name).map_err(fail)?;
            let base = match open_dir(parent.as_fd(), &name) {
                Ok(base) => base,
                // Its last owner removed it meanwhile.
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(fail(e)),
            };
            // A directory of another user, or one that others can write, could be anything by the time that a build is in it.
            let what = "other users could write the scratch directory";
            check_owner(&base, &path, what, "name a directory of your own with --scratch")?;
            sweep(&base, &path)?;
            let lease = match Lease::create(&base, &path) {
                Err(_) if fstat(&base).is_ok_and(|stat| stat.st_nlink == 0) => continue,
                other => other?,
            };
            let work = lease.path().join("work");
            rustix::fs::mkdirat(lease.dir(), "work", Mode::from(0o700)).map_err(fail)?;
            return Ok(Self { lease: Some(lease), parent, name, work });
        }
    }

    pub fn path(&self) -> &Path {
        &self.work
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.lease.take());
        // Only where no other process is in it.
        let _ = unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR);
    }
}
