//! The files of a root, read into memory once: those of a directory, or those inside admit with this user's over them.

use std::collections::BTreeMap;
use std::path::Path;

use include_dir::{Dir, include_dir};

use super::MARKER;
use super::trust::own;
use crate::error::{Error, Reason, Result};

static LOCKFILES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/lockfiles");
static ADMISSIONS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/admissions");
/// The fixture alone: the hostile files that tests use are no records.
static FIXTURE: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/fixtures/r1-string-slugify");

/// What of a directory belongs to a root, besides the marker.
const PARTS: [&str; 3] = ["lockfiles", "admissions", "fixtures"];

/// A root larger than this is no root of ours: records are a few kilobytes each.
const MAX_BYTES: u64 = 64 << 20;

/// More files than this are refused as well.
const MAX_FILES: usize = 20_000;

/// Bytes by path.
type Files = BTreeMap<String, Vec<u8>>;

/// The files of the root at `dir`.
pub(super) fn directory(dir: &Path) -> Result<Files> {
    let (mut files, mut budget) = (Files::new(), MAX_BYTES);
    read_file(&dir.join(MARKER), MARKER, &mut files, &mut budget)?;
    for part in PARTS {
        read_dir(&dir.join(part), part, &mut files, &mut budget)?;
    }
    Ok(files)
}

/// The embedded records with this user's own additions and updates, in `dir`, over them; and how many those are.
pub(super) fn overlaid(dir: &Path) -> Result<(Files, usize)> {
    let (mut files, mut budget) = (Files::new(), MAX_BYTES);
    let parts = ["lockfiles", "admissions", "fixtures/r1-string-slugify"];
    for (part, dir) in parts.into_iter().zip([&LOCKFILES, &ADMISSIONS, &FIXTURE]) {
        collect_embedded(part, dir, &mut files);
    }
    own(dir)?;
    let mut over = Files::new();
    let marker = dir.join(MARKER);
    if marker.exists() {
        read_file(&marker, MARKER, &mut over, &mut budget)?;
    }
    for part in PARTS {
        read_dir(&dir.join(part), part, &mut over, &mut budget)?;
    }
    let added = over.len();
    files.append(&mut over);
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

fn read_dir(dir: &Path, name: &str, files: &mut Files, budget: &mut u64) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(Error::io("list", dir, err)),
    };
    for entry in entries {
        let entry = entry.map_err(|err| Error::io("list", dir, err))?;
        let path = entry.path();
        let Some(part) = entry.file_name().to_str().map(str::to_owned) else {
            return Err(Error::new(Reason::BadRecord, "a file name is not UTF-8")
                .at(path.display().to_string()));
        };
        let name = format!("{name}/{part}");
        let kind = entry.file_type().map_err(|err| Error::io("inspect", &path, err))?;
        if kind.is_dir() {
            read_dir(&path, &name, files, budget)?;
        } else {
            read_file(&path, &name, files, budget)?;
        }
    }
    Ok(())
}

fn read_file(path: &Path, name: &str, files: &mut Files, budget: &mut u64) -> Result<()> {
    let meta = std::fs::symlink_metadata(path).map_err(|err| Error::io("inspect", path, err))?;
    if !meta.is_file() {
        // A link could lead to a file that changes without the digest showing it.
        return Err(Error::new(Reason::BadRecord, "a root holds regular files only")
            .at(path.display().to_string()));
    }
    if meta.len() > *budget || files.len() >= MAX_FILES {
        return Err(Error::new(Reason::LimitHit, "the root is too large")
            .at(path.display().to_string())
            .expected(format!("at most {MAX_BYTES} bytes in {MAX_FILES} files")));
    }
    let bytes = std::fs::read(path).map_err(|err| Error::io("read", path, err))?;
    *budget = budget.saturating_sub(bytes.len() as u64);
    files.insert(name.to_owned(), bytes);
    Ok(())
}
