//! Small records about a key: which output a plan had, what a binary showed. Unlike files they are not named by their
//! content, so each carries a digest over its place and its bytes: altered or moved, it is not read.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, fstat, fsync, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::error::{Error, Reason, Result};
use crate::record::ids::{Digest, Name};

use super::dir::{corrupt, key_name, make_dir, open_dir, step};
use super::layout::Store;
use super::{nar, scratch};

/// Records are read whole; none is near this size.
const LIMIT: u64 = 16 << 20;
/// The first line, before the digest.
const HEAD: &str = "admit.record/1 ";

impl Store {
    /// Writes the record `name` about `key` in `area`, over one that is there. At any moment a reader sees the old or
    /// the new one. Errors: `bad_argument` for an area or name that is not a [`Name`], `limit_hit` above 16 MiB.
    pub fn record_put(&self, area: &str, key: &Digest, name: &str, bytes: &[u8]) -> Result<()> {
        let (area, name) = (checked(area)?, checked(name)?);
        if bytes.len() as u64 > LIMIT {
            return Err(Error::new(Reason::LimitHit, "a record is larger than it may be")
                .expected(format!("at most {LIMIT} bytes"))
                .found(format!("{} bytes", bytes.len())));
        }
        let session = self.session("a record")?;
        let path = self.record_path(&area, key, &name);
        let temp = format!("record-{}", scratch::fresh_name());
        let done = || -> std::io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mut file = File::from(openat(session.dir(), &temp, flags, Mode::from(0o400))?);
            step("record: made");
            let head = format!("{HEAD}{}\n", seal(&area, key, &name, bytes));
            std::io::Write::write_all(&mut file, head.as_bytes())?;
            std::io::Write::write_all(&mut file, bytes)?;
            step("record: written");
            fsync(&file)?;
            step("record: synced");
            let mut dir = open_dir(self.top(), "records")?;
            for part in [area.as_str(), &key_name(key)] {
                make_dir(dir.as_fd(), part)?;
                dir = open_dir(dir.as_fd(), part)?;
            }
            renameat(session.dir(), &temp, &dir, name.as_str())?;
            step("record: renamed");
            Ok(())
        };
        done().map_err(|e| {
            let _ = unlinkat(session.dir(), &temp, rustix::fs::AtFlags::empty());
            Error::io("write record", path, e)
        })
    }

    /// The record `name` about `key` in `area`. `None`: there is none. Errors: `store_corrupt` where it is not what was
    /// written at this place; `io`.
    pub fn record_get(&self, area: &str, key: &Digest, name: &str) -> Result<Option<Vec<u8>>> {
        let (area, name) = (checked(area)?, checked(name)?);
        let path = self.record_path(&area, key, &name);
        let file = match self.open_record(&area, key, &name) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => {
                return Err(corrupt(&path, "a record", "a symbolic link or something else"));
            }
            Err(e) => return Err(Error::io("open record", &path, e.into())),
        };
        let stat = fstat(&file).map_err(|e| Error::io("examine record", &path, e.into()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(corrupt(&path, "a record", nar::describe(kind)));
        }
        let mut all = Vec::new();
        // One byte more than any record, with its head, can have.
        let most = LIMIT + 256;
        File::from(file)
            .take(most)
            .read_to_end(&mut all)
            .map_err(|e| Error::io("read record", &path, e))?;
        let parts = all.iter().position(|b| *b == b'\n').map(|at| (at, at + 1));
        let Some((head, body)) = parts.and_then(|(end, start)| {
            let head = std::str::from_utf8(&all[..end]).ok()?.strip_prefix(HEAD)?;
            Some((head, &all[start..]))
        }) else {
            return Err(corrupt(&path, "a record with its digest", "no digest"));
        };
        let sealed = seal(&area, key, &name, body).to_string();
        if sealed != head {
            return Err(corrupt(&path, head, sealed));
        }
        Ok(Some(body.to_vec()))
    }

    fn open_record(&self, area: &Name, key: &Digest, name: &Name) -> rustix::io::Result<OwnedFd> {
        let mut dir = open_dir(self.top(), "records")?;
        for part in [area.as_str(), &key_name(key)] {
            dir = open_dir(dir.as_fd(), part)?;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(&dir, name.as_str(), flags, Mode::empty())
    }

    fn record_path(&self, area: &Name, key: &Digest, name: &Name) -> PathBuf {
        self.path().join("records").join(area.as_str()).join(key_name(key)).join(name.as_str())
    }
}

/// The digest of a record at its place. The parts before the bytes hold no NUL.
fn seal(area: &Name, key: &Digest, name: &Name, bytes: &[u8]) -> Digest {
    let mut all = format!("{area}\0{key}\0{name}\0").into_bytes();
    all.extend_from_slice(bytes);
    Digest::blake3(&all)
}

fn checked(text: &str) -> Result<Name> {
    text.parse().map_err(|e: crate::record::ids::ParseError| {
        Error::new(Reason::BadArgument, "not the name of a record").caused_by(e)
    })
}
