//! The files of a root, read into memory once: those of a directory, or those inside admit with this user's over them.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use include_dir::{Dir, include_dir};

use super::owner::{own, own_path};
use crate::error::{Error, Reason, Result};
use crate::host::quoted;
use crate::record::RecordError;

/// The file that marks a root.
pub const MARKER: &str = "admit.toml";

static LOCKFILES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/lockfiles");
/// The one admission inside admit: replies written beforehand, which can never be a pass. Who may answer an agent is for
/// the people who answer for it to say.
const SCRIPTED: (&str, &[u8]) = (
    "admissions/models/scripted--understudy-script.json",
    include_bytes!("../../admissions/models/scripted--understudy-script.json"),
);
/// The fixtures alone: the hostile files that tests use are no records.
static PYTHON: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/fixtures/r1-string-slugify");
static TYPESCRIPT: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/fixtures/r2-duration");

/// What of a directory belongs to a root, besides the marker.
const PARTS: [&str; 3] = ["lockfiles", "admissions", "fixtures"];

/// A root larger than this is no root of ours: records are a few kilobytes each.
const MAX_BYTES: u64 = 64 << 20;

/// More files than this are refused as well.
const MAX_FILES: usize = 20_000;

/// Bytes by path.
type Files = BTreeMap<String, Vec<u8>>;

/// The files of the root at `dir`. Their digest is what a user trusts, and it does not matter who may write them.
pub(super) fn directory(dir: &Path) -> Result<Files> {
    let mut reader = Reader { files: Files::new(), budget: MAX_BYTES, own: None };
    reader.root(dir)?;
    Ok(reader.files)
}

/// The embedded records with this user's own additions and updates, in `dir`, over them; and how many those are. The
/// embedded ones alone where there is no `dir`.
pub(super) fn overlaid(dir: Option<&Path>) -> Result<(Files, usize)> {
    let mut files = Files::new();
    let parts = ["lockfiles", "fixtures/r1-string-slugify", "fixtures/r2-duration"];
    for (part, dir) in parts.into_iter().zip([&LOCKFILES, &PYTHON, &TYPESCRIPT]) {
        collect_embedded(part, dir, &mut files);
    }
    files.insert(SCRIPTED.0.to_owned(), SCRIPTED.1.to_vec());
    let Some(dir) = dir else { return Ok((files, 0)) };
    let data = dir.parent().unwrap_or(dir);
    own_path(data, data)?;
    own_path(dir, data)?;
    let mut reader = Reader { files: Files::new(), budget: MAX_BYTES, own: Some(data) };
    reader.root(dir)?;
    let added = reader.files.len();
    files.append(&mut reader.files);
    Ok((files, added))
}

fn collect_embedded(prefix: &str, dir: &Dir<'static>, files: &mut Files) {
    for file in dir.files() {
        if let Some(path) = file.path().to_str() {
            files.insert(format!("{prefix}/{path}"), file.contents().to_vec());
        }
    }
    for sub in dir.dirs() {
        collect_embedded(prefix, sub, files);
    }
}

struct Reader<'a> {
    files: Files,
    budget: u64,
    /// The directory in which everything must be this user's own.
    own: Option<&'a Path>,
}

impl Reader<'_> {
    fn root(&mut self, dir: &Path) -> Result<()> {
        for name in [MARKER].into_iter().chain(PARTS) {
            let path = dir.join(name);
            match std::fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() && name != MARKER => self.dir(&path, name)?,
                Ok(_) if name == MARKER => self.file(&path, name)?,
                Ok(_) => return Err(irregular(&path, "a directory")),
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
                Err(err) => return Err(Error::io("inspect", &path, err)),
            }
        }
        Ok(())
    }

    fn dir(&mut self, dir: &Path, name: &str) -> Result<()> {
        let list = |err| Error::io("list", dir, err);
        if let Some(top) = self.own {
            own_path(dir, top)?;
        }
        for entry in std::fs::read_dir(dir).map_err(list)? {
            let entry = entry.map_err(list)?;
            let path = entry.path();
            let Some(part) = entry.file_name().to_str().map(str::to_owned) else {
                return Err(Error::new(Reason::BadRecord, "a file name is not UTF-8")
                    .at(path.display().to_string()));
            };
            let name = format!("{name}/{part}");
            let kind = entry.file_type().map_err(|err| Error::io("inspect", &path, err))?;
            if kind.is_dir() { self.dir(&path, &name)? } else { self.file(&path, &name)? }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &str) -> Result<()> {
        // Neither through a link, which could lead to a file that changes without the digest showing it, nor waiting
        // for a pipe.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(err) if matches!(err.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => {
                return Err(irregular(path, "a regular file"));
            }
            Err(err) => return Err(Error::io("read", path, err)),
        };
        let meta = file.metadata().map_err(|err| Error::io("inspect", path, err))?;
        if !meta.is_file() {
            return Err(irregular(path, "a regular file"));
        }
        if let Some(top) = self.own {
            own(path, &meta, top)?;
        }
        let mut bytes = Vec::new();
        file.take(self.budget + 1)
            .read_to_end(&mut bytes)
            .map_err(|err| Error::io("read", path, err))?;
        if bytes.len() as u64 > self.budget || self.files.len() >= MAX_FILES {
            return Err(Error::new(Reason::LimitHit, "the root is too large")
                .at(path.display().to_string())
                .expected(format!("at most {MAX_BYTES} bytes in {MAX_FILES} files"))
                .found(format!("more, from this file on: it has {} bytes", meta.len()))
                .hint("keep only admit.toml, locks and admissions in it"));
        }
        self.budget -= bytes.len() as u64;
        self.files.insert(name.to_owned(), bytes);
        Ok(())
    }
}

fn irregular(path: &Path, expected: &str) -> Error {
    let kind = std::fs::symlink_metadata(path).map(|meta| meta.file_type());
    let (found, remove) = match kind {
        Ok(kind) if kind.is_symlink() => ("a symbolic link", "rm"),
        Ok(kind) if kind.is_dir() => ("a directory", "rm -r"),
        Ok(kind) if kind.is_file() => ("a regular file", "rm"),
        Ok(kind) if kind.is_fifo() => ("a named pipe", "rm"),
        Ok(kind) if kind.is_socket() => ("a socket", "rm"),
        Ok(_) => ("a device", "rm"),
        Err(_) => ("something that cannot be looked at", "rm"),
    };
    Error::new(Reason::BadRecord, "a root holds directories and regular files only")
        .at(path.display().to_string())
        .expected(expected)
        .found(found)
        .hint(format!(
            "put a copy of what is meant there, or: {remove} {}",
            quoted(&path.display().to_string())
        ))
}

/// A record that cannot be read, as an error with its place.
pub fn bad_record(place: &str, err: &RecordError) -> Error {
    let place = match err.line {
        0 => place.to_owned(),
        line => format!("{place}:{line}:{}", err.column),
    };
    Error::new(Reason::BadRecord, err.what.clone())
        .at(place)
        .hint("correct it there, or put back a copy that is whole")
}
