//! Files that a user names or that others could have put in place. What is opened here is a regular file, and a pipe in
//! the place of one is an error, not a wait without end.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use crate::error::{Error, Reason, Result};

/// What a symbolic link at the end of a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    Follow,
    /// An error: the link could lead to a file that others change.
    Refuse,
}

/// Writes the file that a user named: what was there stays whole until what replaces it is. A link's own file is replaced.
///
/// # Errors
/// [`Reason::NotFound`] where its directory is not there, those of [`Error::io`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let real = path.canonicalize();
    let path = real.as_deref().unwrap_or(path);
    let dir = path.parent().unwrap_or(Path::new("/"));
    if !dir.is_dir() {
        return Err(Error::new(Reason::NotFound, "no such directory")
            .at(dir.display().to_string())
            .expected("a directory to write the file into")
            .hint(format!("mkdir -p '{}'", dir.display())));
    }
    let io = |err| Error::io("write", path, err);
    let mut temp = tempfile::Builder::new();
    // As of any new file: what of it stays is the umask's.
    temp.prefix(".admit-").permissions(Permissions::from_mode(0o666));
    let mut temp = temp.tempfile_in(dir).map_err(io)?;
    temp.write_all(bytes).map_err(io)?;
    temp.as_file().sync_all().map_err(io)?;
    temp.persist(path).map_err(|err| io(err.error))?;
    Ok(())
}

/// Opens the regular file at `path` for reading.
///
/// # Errors
/// [`Reason::NotFound`] where nothing is there, [`Reason::BadArgument`] where it is no regular file, those of
/// [`Error::io`].
pub fn open(path: &Path, links: Links) -> Result<File> {
    let irregular = |found: &str| {
        Error::new(Reason::BadArgument, "not a regular file")
            .at(path.display().to_string())
            .expected("a regular file")
            .found(found)
            .hint("put a regular file in its place, or name another one")
    };
    let mut flags = libc::O_NONBLOCK;
    if links == Links::Refuse {
        flags |= libc::O_NOFOLLOW;
    }
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|err| match err.raw_os_error() {
        Some(libc::ENOENT) => {
            Error::new(Reason::NotFound, "no such file").at(path.display().to_string())
        }
        // open(2): ELOOP for a link with O_NOFOLLOW, ENXIO for a socket.
        Some(libc::ELOOP) => irregular("a symbolic link"),
        Some(libc::ENXIO) => irregular("a socket"),
        _ => Error::io("open", path, err),
    })?;
    let kind = file.metadata().map_err(|err| Error::io("examine", path, err))?.file_type();
    match kind {
        _ if kind.is_file() => Ok(file),
        _ if kind.is_dir() => Err(irregular("a directory")),
        _ if kind.is_fifo() => Err(irregular("a pipe")),
        _ => Err(irregular("a device")),
    }
}

/// The bytes of the regular file at `path`.
///
/// # Errors
/// Those of [`open`]; [`Reason::LimitHit`] where they are more than `limit`.
pub fn read(path: &Path, links: Links, limit: u64) -> Result<Vec<u8>> {
    whole(open(path, links)?, path, limit)
}

fn whole(file: File, path: &Path, limit: u64) -> Result<Vec<u8>> {
    bounded(file, limit).map_err(|err| match err.kind() {
        ErrorKind::FileTooLarge => Error::new(Reason::LimitHit, "the file is too large")
            .at(path.display().to_string())
            .expected(format!("at most {limit} bytes")),
        _ => Error::io("read", path, err),
    })
}

/// The same, of a file that nobody but this user and root could have written.
///
/// # Errors
/// Those of [`read`]; [`Reason::RootNotTrusted`] for a file of another user, or one that its group or all may write.
pub fn read_own(path: &Path, links: Links, limit: u64) -> Result<Vec<u8>> {
    let file = open(path, links)?;
    let meta = file.metadata().map_err(|err| Error::io("examine", path, err))?;
    let me = rustix::process::geteuid().as_raw();
    let place = path.display();
    let refused = || {
        Error::new(Reason::RootNotTrusted, "another user owns or can write the file")
            .at(place.to_string())
            .expected(format!("owned by uid {me} or root, not writable by group or others"))
            .found(format!("uid {}, mode {:o}", meta.uid(), meta.mode() & 0o7777))
    };
    if meta.uid() != me && meta.uid() != 0 {
        return Err(refused().hint("read it, then name a copy of your own"));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(refused().hint(format!("chmod go-w '{place}'")));
    }
    whole(file, path, limit)
}

/// All that `from` gives.
///
/// # Errors
/// [`ErrorKind::FileTooLarge`] where that is more than `limit` bytes.
pub fn bounded(from: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let what = format!("larger than {limit} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "12345").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("pipe"), at("to-pipe")).unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
        let get = |name: &str, links| read(&at(name), links, 5);
        assert_eq!(get("file", Links::Refuse).unwrap(), b"12345");
        assert_eq!(get("link", Links::Follow).unwrap(), b"12345");
        for (name, links, found) in [
            ("link", Links::Refuse, "a symbolic link"),
            ("pipe", Links::Follow, "a pipe"),
            ("to-pipe", Links::Follow, "a pipe"),
            ("dir", Links::Follow, "a directory"),
            ("socket", Links::Follow, "a socket"),
            ("/dev/null", Links::Follow, "a device"),
        ] {
            let err = get(name, links).unwrap_err();
            assert_eq!((err.reason(), err.found_value()), (Reason::BadArgument, Some(found)));
        }
        assert_eq!(get("none", Links::Follow).unwrap_err().reason(), Reason::NotFound);
        let mode = |mode| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(at("file"), Permissions::from_mode(mode)).unwrap();
            read_own(&at("link"), Links::Follow, 5)
        };
        assert_eq!(mode(0o644).unwrap(), b"12345");
        for open in [0o664, 0o646] {
            let err = mode(open).unwrap_err();
            assert_eq!(err.reason(), Reason::RootNotTrusted);
            assert!(err.hints()[0].starts_with("chmod go-w"), "{err}");
        }
        std::fs::write(at("file"), "123456").unwrap();
        assert_eq!(get("file", Links::Refuse).unwrap_err().reason(), Reason::LimitHit);
    }
}
