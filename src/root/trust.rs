//! Which directories this user trusts, and whether this user's own records are really this user's.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::files::bad_record;
use super::owner::own_path;
use crate::error::{Error, Reason, Result};
use crate::host;
use crate::record::ids::Digest;
use crate::record::{self, Record, Schema};

/// The directories that this user trusts (`admit.trust/1`), by absolute path.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trust {
    schema: String,
    pub(super) roots: BTreeMap<String, Digest>,
    /// What a directory will be once the record that is being written stands there: a writer that is killed in between
    /// leaves a directory that is one or the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) coming: BTreeMap<String, Digest>,
}

impl Record for Trust {
    const SCHEMA: Schema = Schema { name: "admit.trust", version: 1 };
}

/// The key of a directory in the list.
pub(super) fn trust_key(dir: &Path) -> Result<String> {
    dir.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(Reason::RootNotTrusted, "the root's path is not UTF-8")
            .at(dir.display().to_string())
    })
}

/// The list as it is on disk; empty where there is none.
pub(super) fn load_trust(path: &Path) -> Result<Trust> {
    let data = path.parent().unwrap_or(path);
    own_path(data, data)?;
    own_path(path, data)?;
    match std::fs::read(path) {
        Ok(bytes) => {
            record::parse(&bytes).map_err(|err| bad_record(&path.display().to_string(), &err))
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(Trust {
            schema: Trust::SCHEMA.to_string(),
            roots: BTreeMap::new(),
            coming: BTreeMap::new(),
        }),
        Err(err) => Err(Error::io("read the trusted roots", path, err)),
    }
}

/// The right to change the list and the records that it stands for; let go of when dropped, and by the kernel when the
/// process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] File);

/// Waits until nobody else writes this user's records or trust. Readers share, so that none of them sees a record
/// without the trust that goes with it. `None`: nobody has written yet, and this call only reads.
///
/// The lock lies beside the list and is never removed.
pub(super) fn lock(trust_file: &Path, write: bool) -> Result<Option<Lock>> {
    let path = trust_file.with_extension("lock");
    let io = |err| Error::io("lock this user's records with", &path, err);
    if write && let Some(dir) = path.parent() {
        host::make_private(dir)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(write).create(write).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = match options.open(&path) {
        Ok(file) => file,
        Err(err) if !write && err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(io(err)),
    };
    let how = if write { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
    loop {
        match flock(&file, how) {
            Ok(()) => return Ok(Some(Lock(file))),
            Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(io(err.into())),
        }
    }
}
