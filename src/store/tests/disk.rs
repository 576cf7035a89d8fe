//! Full and read-only disks.

use super::*;

/// Runs a test as a child in a user and mount namespace of its own, with a file system of so many MiB at `root`.
pub(crate) fn child_on_a_small_disk(name: &str, size: u32) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("disk");
    let done = dir.path().join("done");
    fs::create_dir(&root).unwrap();
    let script =
        format!("mount -t tmpfs -o size={size}m,mode=700 none \"$1\" && shift && exec \"$@\"");
    let out = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"])
        .arg(&root)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--test-threads=1", "--nocapture"])
        .arg(format!("root={}", root.display()))
        .arg(format!("done={}", done.display()))
        .output()
        .expect("unshare is needed to make a small disk: apt-get install util-linux");
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && done.exists(), "{}: {text}", out.status);
}

/// What a child was told; nothing where the test harness runs it as a test of its own.
pub(crate) fn told() -> Option<(PathBuf, PathBuf)> {
    let find = |key: &str| std::env::args().find_map(|a| Some(a.strip_prefix(key)?.into()));
    Some((find("root=")?, find("done=")?))
}

#[test]
fn a_full_disk_is_a_limit_and_loses_nothing() {
    child_on_a_small_disk("store::tests::disk::child_with_a_full_disk", 1);
}

#[test]
fn child_with_a_full_disk() {
    let Some((root, done)) = told() else { return };
    let full = |e: Error| {
        assert_eq!((e.reason(), e.kind().exit_code()), (Reason::DiskFull, 9), "{e:?}");
        assert!(e.place().is_some() && !e.hints().is_empty());
    };
    let store = Store::open(&root).unwrap();
    let nar = write_everything(&store);
    let much = vec![7; 4 << 20];
    let digest = Digest::sha256(&much);

    full(store.put(&much, Algorithm::Sha256).unwrap_err());
    // A caller that does not look at the error of a write cannot store the rest of it either.
    let mut writer = store.writer_with(&ALGORITHMS).unwrap();
    assert!(writer.write_all(&much).is_err());
    full(writer.finish_as(None, Algorithm::Sha256).unwrap_err());
    let mut writer = store.writer_with(&ALGORITHMS).unwrap();
    assert!(writer.write_all(&much).is_err());
    full(writer.finish(&digest).unwrap_err());
    assert!(store.file(&digest).unwrap().is_none());

    store.record_put("builds", &key(), "result", b"old").unwrap();
    full(store.record_put("builds", &key(), "result", &much).unwrap_err());
    assert_eq!(store.record_get("builds", &key(), "result").unwrap().unwrap(), b"old");

    let tree = store.tree_writer().unwrap();
    assert!(tree.dir().write("x", &much).is_err());
    drop(tree);
    assert_eq!(fs::read_dir(store.session("").unwrap().path()).unwrap().count(), 0);
    // All of it is as before, and there is space again.
    assert!(store.tree(&nar).unwrap().is_some());
    store.put(b"small", Algorithm::Sha256).unwrap();

    // Not even an empty file fits: opening says so, and what is there can still be read.
    let mut filler = fs::File::create(root.join("filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    full(store.put(&much, Algorithm::Sha256).unwrap_err());
    assert!(Store::open_read(&root).unwrap().unwrap().tree(&nar).unwrap().is_some());
    fs::write(done, "").unwrap();
}

#[test]
fn a_read_only_store_is_read_and_not_written() {
    child_on_a_small_disk("store::tests::disk::child_with_a_read_only_disk", 1);
}

#[test]
fn child_with_a_read_only_disk() {
    let Some((root, done)) = told() else { return };
    let nar = write_everything(&Store::open(&root).unwrap());
    rustix::mount::mount_remount(&root, rustix::mount::MountFlags::RDONLY, c"").unwrap();
    let before = snapshot(&root);
    // What only reads has locks and scratch directories, elsewhere; what would write is refused with the fix.
    let store = Store::open(&root).unwrap();
    let scratch = store.scratch().unwrap();
    fs::write(scratch.path().join("x"), "x").unwrap();
    assert!(!scratch.path().starts_with(&root));
    drop(store.lock(&key(), &mut || ()).unwrap());
    assert!(store.tree(&nar).unwrap().is_some());
    for err in [
        store.put(b"new", Algorithm::Sha256).unwrap_err(),
        store.tree_writer().unwrap_err(),
        store.record_put("builds", &key(), "result", b"new").unwrap_err(),
    ] {
        assert_eq!((err.reason(), err.kind()), (Reason::Io, Kind::Usage), "{err:?}");
        assert!(err.place().is_some() && err.hints()[0].contains("--store"), "{err:?}");
        assert!(err.what().contains("read-only"), "{err:?}");
    }
    drop(scratch);
    let store = Store::open_read(&root).unwrap().unwrap();
    assert!(store.file(&Digest::sha256(b"content")).unwrap().is_some());
    assert!(store.tree(&nar).unwrap().is_some());
    assert!(store.record_get("builds", &key(), "result").unwrap().is_some());
    assert_eq!(snapshot(&root), before);
    fs::write(done, "").unwrap();
}
