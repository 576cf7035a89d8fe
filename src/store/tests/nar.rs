//! NAR hashes, with Nix as the oracle.

use super::*;

fn nar_of(path: &Path) -> Result<Nar> {
    nar_hash(fs::File::open(path).unwrap(), path)
}

/// What `nix hash path` says of `path`.
#[cfg(feature = "oracles")]
fn nix_hash(path: &Path) -> String {
    let out = Command::new("nix")
        .args(["--extra-experimental-features", "nix-command", "hash", "path"])
        .args(["--type", "sha256", "--sri"])
        .arg(path)
        .env("NIX_STATE_DIR", path.join("../state"))
        .env("NIX_STORE_DIR", path.join("../store"))
        .env("NIX_LOG_DIR", path.join("../log"))
        .env("NIX_CONF_DIR", path.join("../conf"))
        .env("HOME", path.join("../home"))
        .output()
        .expect("nix is needed as the oracle for NAR hashes: apt-get install nix-bin");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[cfg(feature = "oracles")]
#[test]
fn nar_hashes_are_those_of_nix() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fill(&tree);
    assert_eq!(nar_of(&tree).unwrap().digest.to_sri(), nix_hash(&tree));
    // Contents of every length around the padding and around the buffer.
    for n in (0..=17).chain([(256 << 10) - 1, 256 << 10, (256 << 10) + 1]) {
        fs::write(tree.join(format!("n{n}")), vec![7; n]).unwrap();
    }
    // Only the owner's execute bit counts.
    fs::set_permissions(tree.join("n3"), fs::Permissions::from_mode(0o611)).unwrap();
    fs::set_permissions(tree.join("n4"), fs::Permissions::from_mode(0o700)).unwrap();
    let bad = std::ffi::OsStr::from_bytes(b"not\xffutf8");
    use std::os::unix::ffi::OsStrExt as _;
    fs::write(tree.join(bad), "x").unwrap();
    assert_eq!(nar_of(&tree).unwrap().digest.to_sri(), nix_hash(&tree));
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(nar_of(&empty).unwrap().digest.to_sri(), nix_hash(&empty));
}

#[test]
fn trees_hold_no_pipes_or_sockets() {
    let (_dir, store) = temp_store();
    let writer = store.tree_writer().unwrap();
    fs::create_dir(writer.path().join("d")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(writer.path().join("d/s")).unwrap();
    let err = writer.finish(None).unwrap_err();
    assert_eq!((err.reason(), err.found_value()), (Reason::HostileArchive, Some("a socket")));

    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("mkfifo").arg(dir.path().join("p")).status().unwrap();
    assert!(made.success());
    let err = nar_of(dir.path()).unwrap_err();
    assert_eq!((err.reason(), err.found_value()), (Reason::HostileArchive, Some("a named pipe")));
}

#[test]
fn trees_without_end_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut deep = fs::File::open(dir.path()).map(OwnedFd::from).unwrap();
    for _ in 0..super::super::nar::DEPTH {
        mkdirat(&deep, "d", Mode::from(0o700)).unwrap();
        deep = open_dir(deep.as_fd(), "d").unwrap();
    }
    let err = nar_of(dir.path()).unwrap_err();
    assert_eq!((err.reason(), err.kind()), (Reason::LimitHit, Kind::Limit));
    let (_dir, store) = temp_store();
    let writer = store.tree_writer().unwrap();
    let from = dir.path().join("d");
    rustix::fs::rename(from, writer.path().join("d")).unwrap();
    assert_eq!(writer.finish(None).unwrap_err().reason(), Reason::LimitHit);
    assert_eq!(fs::read_dir(store.session("").unwrap().path()).unwrap().count(), 0);
}
