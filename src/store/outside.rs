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

use crate::error::{Error, Reason, Result};

use super::dir::{DIRECTORY, make_dir, open_dir};
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
    /// [`Reason::StoreUnsafe`] where another user has this user's name there; [`Reason::Io`], [`Reason::DiskFull`].
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
            own(&base, &path)?;
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

/// A directory of another user, or one that others can write, could be anything by the time that a build is in it.
fn own(base: &OwnedFd, path: &Path) -> Result<()> {
    let stat = fstat(base).map_err(|e| Error::io("examine", path, e.into()))?;
    let me = rustix::process::geteuid().as_raw();
    if stat.st_uid == me && stat.st_mode & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::new(Reason::StoreUnsafe, "other users could write the scratch directory")
        .at(path.display().to_string())
        .expected(format!("owner {me}, writable by the owner only"))
        .found(format!("owner {}, mode {:04o}", stat.st_uid, stat.st_mode & 0o7777))
        .hint("name a directory of your own with --scratch"))
}
