//! Looking at what steps left in the work directory. What ran there may have put a link in the place of a directory, so
//! no link is followed: not at the end of a path, and not on the way.

use std::os::fd::{AsFd, OwnedFd};

use cap_std::fs::{Dir, File};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

pub fn directory(work: &Dir, path: &str) -> std::io::Result<Dir> {
    let mut dir: OwnedFd = open(work, ".", OFlags::DIRECTORY)?;
    for part in path.split('/') {
        dir = open(&dir, part, OFlags::DIRECTORY)?;
    }
    Ok(Dir::from(dir))
}

/// The directory of what is at `path` below `work`, and its name there.
pub fn parent<'a>(work: &Dir, path: &'a str) -> std::io::Result<(Dir, &'a str)> {
    match path.rsplit_once('/') {
        Some((dir, name)) => Ok((directory(work, dir)?, name)),
        None => Ok((work.try_clone()?, path)),
    }
}

/// What is at `path` below `work`, for reading and without waiting: a caller has to see that it is a regular file.
pub fn file(work: &Dir, path: &str) -> std::io::Result<File> {
    let (dir, name) = parent(work, path)?;
    let file = open(&dir, name, OFlags::NONBLOCK)?;
    Ok(File::from_std(file.into()))
}

/// Whether an error means that there is no such thing, or something else in its place: a link, a file.
pub fn is_absent(err: &std::io::Error) -> bool {
    let absent = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    Errno::from_io_error(err).is_some_and(|errno| absent.contains(&errno))
}

fn open(dir: &impl AsFd, name: &str, flags: OFlags) -> std::io::Result<OwnedFd> {
    if matches!(name, "" | "..") {
        return Err(Errno::INVAL.into());
    }
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;

    #[test]
    fn a_link_is_followed_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c"), "c").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("l")).unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a/m")).unwrap();
        std::os::unix::fs::symlink("c", dir.path().join("a/b/d")).unwrap();
        let work = Dir::open_ambient_dir(dir.path(), ambient_authority()).unwrap();
        assert!(file(&work, "a/b/c").is_ok() && directory(&work, "a/b").is_ok());
        for path in ["l/b/c", "a/m/c", "a/b/d", "a/b/c/d"] {
            assert!(is_absent(&file(&work, path).unwrap_err()), "{path}");
        }
        assert!(is_absent(&directory(&work, "l").unwrap_err()));
        for path in ["a/../a/b/c", "", "/a", ".."] {
            assert!(file(&work, path).is_err(), "{path}");
        }
    }
}
