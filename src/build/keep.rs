//! What a failed build left, kept for a person to look at: files and links, without devices, sockets or set-id bits.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt, PermissionsExt};
use rustix::io::Errno;

use super::left;
use super::work::WorkDir;
use crate::error::{Error, Reason, Result};
use crate::store::Store;

/// Most bytes that are kept. Case leaves 330 MB; many names of one file take their bytes once in the sandbox and as
/// often as there are names here.
const MOST: u64 = 4 << 30;

/// Copies the source in the work directory `dir` into a kept directory of the store and gives its path.
///
/// # Errors
/// [`Reason::LimitHit`] above 4 GiB, and then nothing is kept; [`Reason::Io`], [`Reason::DiskFull`].
pub fn keep(dir: &Dir, work: &WorkDir, store: &Store) -> Result<PathBuf> {
    let scratch = store.scratch()?;
    let source = left::directory(dir, &work.source_below)
        .map_err(|err| Error::io("open", "the failed build", err))?;
    copy(&source, &scratch.dir()?, Path::new(""), &mut { MOST })?;
    scratch.keep()
}

fn copy(from: &Dir, to: &Dir, place: &Path, budget: &mut u64) -> Result<()> {
    let io = |what: &'static str| move |err| Error::io(what, place, err);
    for entry in from.entries().map_err(io("list"))? {
        let entry = entry.map_err(io("list"))?;
        let name = entry.file_name();
        let meta = entry.metadata().map_err(io("inspect"))?;
        let below = place.join(&name);
        if meta.is_symlink() {
            let target = from.read_link_contents(&name).map_err(io("read a link in"))?;
            to.symlink_contents(target, &name).map_err(io("create a link in"))?;
            continue;
        }
        let Some(text) = name.to_str() else { continue };
        if meta.is_dir() {
            to.create_dir(&name).map_err(io("create a directory in"))?;
            let from = left::directory(from, text).map_err(io("open"))?;
            copy(&from, &to.open_dir(&name).map_err(io("open"))?, &below, budget)?;
        } else if meta.is_file() {
            let source = left::file(from, text).map_err(io("open a file in"))?;
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600 | (meta.permissions().mode() & 0o100));
            let out = to.open_with(&name, &options).map_err(io("create a file in"))?;
            contents(source, out, &below, budget)?;
        }
    }
    Ok(())
}

/// Copies what a file holds. A hole stays a hole (lseek(2), SEEK_DATA): it took no space there and takes none here.
fn contents(mut from: File, mut to: File, place: &Path, budget: &mut u64) -> Result<()> {
    let io = |what: &'static str| move |err| Error::io(what, place, err);
    let end = from.metadata().map_err(io("inspect"))?.len();
    let mut at = 0;
    while at < end {
        let data = match rustix::fs::seek(&from, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(err) => return Err(io("read")(err.into())),
        };
        let hole = rustix::fs::seek(&from, rustix::fs::SeekFrom::Hole(data))
            .map_err(|err| io("read")(err.into()))?;
        let length = hole.saturating_sub(data);
        if length > *budget {
            return Err(Error::new(Reason::LimitHit, "the failed build left more than is kept")
                .at(place.display().to_string())
                .expected(format!("at most {MOST} bytes")));
        }
        *budget -= length;
        from.seek(SeekFrom::Start(data)).map_err(io("read"))?;
        to.seek(SeekFrom::Start(data)).map_err(io("write"))?;
        std::io::copy(&mut (&from).take(length), &mut to).map_err(io("copy"))?;
        at = hole;
    }
    to.flush().and_then(|()| to.set_len(end)).map_err(io("write"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;
    use std::os::unix::fs::MetadataExt as _;

    fn dirs() -> (tempfile::TempDir, Dir, Dir) {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            Dir::open_ambient_dir(dir.path().join(name), ambient_authority()).unwrap()
        };
        let (from, to) = (open("from"), open("to"));
        (dir, from, to)
    }

    #[test]
    fn a_hole_stays_a_hole() {
        let (dir, from, to) = dirs();
        let file = from.create("sparse").unwrap().into_std();
        file.set_len(1 << 40).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 1 << 30).unwrap();
        from.write("plain", "text").unwrap();
        let mut budget = 1 << 20;
        copy(&from, &to, Path::new(""), &mut budget).unwrap();
        let meta = std::fs::metadata(dir.path().join("to/sparse")).unwrap();
        assert_eq!(meta.len(), 1 << 40);
        assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
        let mut found = [0; 13];
        let copied = std::fs::File::open(dir.path().join("to/sparse")).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&copied, &mut found, 1 << 30).unwrap();
        assert_eq!(&found, b"in the middle");
        assert_eq!(to.read_to_string("plain").unwrap(), "text");
    }

    #[test]
    fn many_names_of_one_file_have_an_end() {
        let (_dir, from, to) = dirs();
        from.write("x", vec![1; 100_000]).unwrap();
        for n in 0..20 {
            from.hard_link("x", &from, format!("x{n}")).unwrap();
        }
        let err = copy(&from, &to, Path::new(""), &mut 1_000_000).unwrap_err();
        assert_eq!(err.reason(), Reason::LimitHit);
    }
}
