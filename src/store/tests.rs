//! Tests of the store from inside: crashes between steps, tampering, concurrency, Nix as the oracle.

use std::cell::RefCell;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, mkdirat};

use super::dir::*;
use super::*;
use crate::error::{Error, Kind};
use crate::record::ids::{Algorithm, Digest};

mod crash;
pub(crate) mod disk;
mod nar;
mod shared;
mod tamper;

thread_local! {
    /// The steps that this thread went through.
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// Where this thread's process is to end.
    static DIE_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A point between two steps of writing.
pub(super) fn step(name: &str) {
    SEEN.with_borrow_mut(|seen| seen.push(name.to_owned()));
    if DIE_AT.with_borrow(|at| at.as_deref() == Some(name)) {
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
    }
}

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Sha512, Algorithm::Blake3];

fn temp_store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn content(mut file: StoredFile) -> Vec<u8> {
    let mut out = Vec::new();
    file.file().read_to_end(&mut out).unwrap();
    out
}

/// A tree with every kind of entry that may be in one.
fn fill(dir: &Path) {
    fs::create_dir_all(dir.join("src/deep/er")).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    fs::write(dir.join("src/main.ts"), "x".repeat(1000)).unwrap();
    fs::write(dir.join("src/deep/er/eight"), "12345678").unwrap();
    fs::write(dir.join("nothing"), "").unwrap();
    fs::write(dir.join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dir.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    // Bytewise order puts these before, between and after the rest.
    for name in ["A", "a.b", "a-b", "a", "Z", "~", "ü", " "] {
        fs::write(dir.join(name), name).unwrap();
    }
    symlink("src/main.ts", dir.join("link")).unwrap();
    symlink("/nowhere", dir.join("dangling")).unwrap();
}

fn put_tree(store: &Store) -> Digest {
    let writer = store.tree_writer().unwrap();
    fill(writer.path());
    writer.finish(None).unwrap().nar().clone()
}

fn key() -> Digest {
    Digest::sha256(b"a plan")
}

/// Everything that a build writes, in order.
fn write_everything(store: &Store) -> Digest {
    let mut writer = store.writer_with(&ALGORITHMS).unwrap();
    writer.write_all(b"content").unwrap();
    writer.finish(&Digest::sha256(b"content")).unwrap();
    let nar = put_tree(store);
    store.record_put("builds", &key(), "result", b"{}").unwrap();
    nar
}

/// What is in a directory of the store.
fn listing(store: &Store, area: &str) -> Vec<String> {
    let mut out: Vec<_> = fs::read_dir(store.path().join(area))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    out.sort();
    out
}

/// Where the tests run as an ordinary user, nothing in a stored tree may be written.
#[test]
fn what_a_user_is_told_to_type_removes_a_tree_at_any_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("it's a store")).unwrap();
    let nar = put_tree(&store);
    let at = store.quarantine(Entry::Tree(&nar)).unwrap();
    let line = removal(at.parent().unwrap());
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success(), "{line}");
    assert!(!at.exists() && store.path().exists());
    // The next command makes the place anew.
    let store = Store::open(&dir.path().join("it's a store")).unwrap();
    assert!(store.quarantine(Entry::Tree(&put_tree(&store))).unwrap().exists());
}

#[test]
fn a_file_comes_back_as_it_was_written() {
    let (_dir, store) = temp_store();
    let digest = Digest::sha256(b"content");
    assert!(store.file(&digest).unwrap().is_none());
    let mut writer = store.writer_with(&ALGORITHMS).unwrap();
    writer.write_all(b"con").unwrap();
    writer.write_all(b"tent").unwrap();
    let stored = writer.finish(&digest).unwrap();
    assert_eq!((stored.size(), stored.digest()), (7, &digest));
    assert_eq!(stored.digests().get(Algorithm::Blake3), Some(&Digest::blake3(b"content")));
    assert_eq!(content(stored), b"content");
    let stored = store.file_checked(&digest, &Digest::blake3(b"content")).unwrap().unwrap();
    assert_eq!(stored.digests().get(Algorithm::Blake3), Some(&Digest::blake3(b"content")));
    let mode = fs::metadata(stored.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o444);
    assert_eq!(content(stored), b"content");
    assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn every_algorithm_can_be_a_name() {
    let (_dir, store) = temp_store();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512, Algorithm::Blake3] {
        let stored = store.put(b"x", algorithm).unwrap();
        assert_eq!(content(store.file(stored.digest()).unwrap().unwrap()), b"x");
    }
}

#[test]
fn other_content_is_refused_and_leaves_nothing() {
    let (_dir, store) = temp_store();
    let digest = Digest::sha256(b"content");
    let mut writer = store.writer_with(&ALGORITHMS).unwrap();
    writer.write_all(b"c0ntent").unwrap();
    let err = writer.finish(&digest).unwrap_err();
    assert_eq!((err.reason(), err.kind()), (Reason::DigestMismatch, Kind::Digest));
    assert_eq!(err.expected_value(), Some(digest.to_string().as_str()));
    assert_eq!(err.found_value(), Some(Digest::sha256(b"c0ntent").to_string().as_str()));
    assert!(store.file(&digest).unwrap().is_none());
    assert!(listing(&store, "files").is_empty());
    assert_eq!(fs::read_dir(store.session("").unwrap().path()).unwrap().count(), 0);
}

#[test]
fn a_file_cannot_be_named_by_a_digest_that_was_not_computed() {
    let (_dir, store) = temp_store();
    let mut writer = store.writer_with(&[Algorithm::Blake3]).unwrap();
    writer.write_all(b"x").unwrap();
    let err = writer.finish(&Digest::sha256(b"x")).unwrap_err();
    // A fault of the caller's, told as one: the file is not stored under an unchecked name.
    assert_eq!((err.reason(), err.kind().exit_code()), (Reason::Internal, 70));
    assert!(store.file(&Digest::sha256(b"x")).unwrap().is_none());
}

#[test]
fn a_tree_comes_back_normal_and_verified() {
    let (_dir, store) = temp_store();
    let nar = put_tree(&store);
    let tree = store.tree(&nar).unwrap().unwrap();
    let mode = |p: &str| {
        let m = fs::symlink_metadata(tree.path().join(p)).unwrap();
        (m.permissions().mode() & 0o7777, std::os::unix::fs::MetadataExt::mtime(&m))
    };
    assert_eq!(mode(""), (0o555, 1));
    assert_eq!(mode("src/deep"), (0o555, 1));
    assert_eq!(mode("src/main.ts"), (0o444, 1));
    assert_eq!(mode("run.sh"), (0o555, 1));
    // The same again is the same entry.
    assert_eq!(put_tree(&store), nar);
    assert_eq!(listing(&store, "trees").len(), 1);
    let writer = store.tree_writer().unwrap();
    let err = writer.finish(Some(&nar)).unwrap_err();
    assert_eq!(err.reason(), Reason::DigestMismatch);
    assert_eq!(fs::read_dir(store.session("").unwrap().path()).unwrap().count(), 0);
}

#[test]
fn records_are_read_where_they_were_written_only() {
    let (_dir, store) = temp_store();
    assert_eq!(store.record_get("builds", &key(), "result").unwrap(), None);
    store.record_put("builds", &key(), "result", b"one").unwrap();
    store.record_put("builds", &key(), "result", b"two\n").unwrap();
    assert_eq!(store.record_get("builds", &key(), "result").unwrap().unwrap(), b"two\n");
    let at = store.path().join(format!("records/builds/sha256-{}", key().to_hex()));
    fs::rename(at.join("result"), at.join("other")).unwrap();
    let err = store.record_get("builds", &key(), "other").unwrap_err();
    assert_eq!(err.reason(), Reason::StoreCorrupt);
    store.record_put("builds", &key(), "other", b"").unwrap();
    assert_eq!(store.record_get("builds", &key(), "other").unwrap().unwrap(), b"");
    let mut bytes = fs::read(at.join("other")).unwrap();
    bytes.push(b'x');
    fs::remove_file(at.join("other")).unwrap();
    fs::write(at.join("other"), bytes).unwrap();
    assert!(store.record_get("builds", &key(), "other").is_err());
    assert!(store.record_put("../x", &key(), "r", b"").is_err());
    assert!(store.record_get("builds", &key(), "a/b").is_err());
}

#[test]
fn reading_makes_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Store::open_read(dir.path()).unwrap().is_none());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let nar = write_everything(&Store::open(dir.path()).unwrap());
    let before = snapshot(dir.path());
    let store = Store::open_read(dir.path()).unwrap().unwrap();
    assert!(store.file(&Digest::sha256(b"content")).unwrap().is_some());
    assert!(store.tree(&nar).unwrap().is_some());
    assert!(store.record_get("builds", &key(), "result").unwrap().is_some());
    assert!(store.writer_with(&ALGORITHMS).is_err());
    assert!(store.tree_writer().is_err());
    assert!(store.scratch().is_err());
    assert!(store.lock(&key(), &mut || {}).is_err());
    assert!(store.record_put("builds", &key(), "result", b"").is_err());
    assert!(store.remove_corrupt(Entry::Tree(&nar)).is_err());
    drop(store);
    assert_eq!(snapshot(dir.path()), before);
}

/// Every path below `dir` with its mode, size and times of change.
fn snapshot(dir: &Path) -> Vec<(PathBuf, u32, u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let mut out = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let m = fs::symlink_metadata(&path).unwrap();
        if m.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        out.push((path, m.mode(), m.size(), m.ctime(), m.ctime_nsec()));
    }
    out.sort();
    out
}

#[test]
fn anything_left_behind_can_be_removed() {
    let (dir, store) = temp_store();
    // Left by an owner that ended: a lock file that is not held, directories that may not be written, a deep tree,
    // links that lead out, and things with no lock file at all.
    let tmp = store.path().join("tmp");
    let left = tmp.join("99999999-0");
    fs::create_dir_all(left.join("locked/inner")).unwrap();
    fs::write(left.join("locked/inner/f"), "x").unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "x").unwrap();
    symlink(outside.path(), left.join("locked/out")).unwrap();
    let mut deep = fs::File::open(&left).map(OwnedFd::from).unwrap();
    for _ in 0..1500 {
        mkdirat(&deep, "d", Mode::from(0o700)).unwrap();
        deep = open_dir(deep.as_fd(), "d").unwrap();
    }
    for d in ["locked/inner", "locked"] {
        fs::set_permissions(left.join(d), fs::Permissions::from_mode(0o000)).unwrap();
    }
    fs::write(tmp.join("99999999-0.lock"), "").unwrap();
    fs::create_dir(tmp.join("orphan")).unwrap();
    fs::write(tmp.join("stray"), "x").unwrap();
    symlink(outside.path(), tmp.join("astray")).unwrap();
    let _again = Store::open(dir.path()).unwrap();
    assert_eq!(listing(&store, "tmp").len(), 4, "{:?}", listing(&store, "tmp"));
    assert!(outside.path().join("precious").exists());
}
