//! The end of the process between any two steps.

use super::*;

/// Runs the child below with instructions among its arguments, which the test harness takes for filters.
fn child(root: &Path, die_at: &str) -> std::process::ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::tests::crash::child_that_dies",
            "--test-threads=1",
            "--nocapture",
        ])
        .arg(format!("root={}", root.display()))
        .arg(format!("die-at={die_at}"))
        .stdout(Stdio::null())
        .status()
        .unwrap()
}

/// The child of the crash test; without instructions there is nothing to do.
#[test]
fn child_that_dies() {
    let find = |key: &str| std::env::args().find_map(|a| Some(a.strip_prefix(key)?.to_owned()));
    let (Some(root), Some(at)) = (find("root="), find("die-at=")) else { return };
    let store = Store::open(Path::new(&root)).unwrap();
    let scratch = store.scratch().unwrap();
    fill(scratch.path());
    DIE_AT.set(Some(at));
    write_everything(&store);
}

#[test]
fn killed_between_any_two_steps_it_leaves_nothing_wrong() {
    let (_dir, store) = temp_store();
    let nar = write_everything(&store);
    let mut steps = SEEN.take();
    steps.sort();
    steps.dedup();
    assert!(steps.len() >= 14, "{steps:?}");
    for at in steps {
        let dir = tempfile::tempdir().unwrap();
        let status = child(dir.path(), &at);
        assert_eq!(status.signal(), Some(9), "{at}: {status}");
        let whole = |store: &Store| {
            // Each is there as it should be or not at all; a corrupt one would be an error.
            store.file(&Digest::sha256(b"content")).unwrap();
            store.tree(&nar).unwrap();
            let record = store.record_get("builds", &key(), "result").unwrap();
            assert!(record.is_none() || record.as_deref() == Some(b"{}"));
        };
        whole(&Store::open_read(dir.path()).unwrap().unwrap());
        let store = Store::open(dir.path()).unwrap();
        whole(&store);
        assert_eq!(listing(&store, "tmp").len(), 2, "{at}: only our own is left");
        assert_eq!(write_everything(&store), nar);
        assert!(store.tree(&nar).unwrap().is_some());
    }
}
