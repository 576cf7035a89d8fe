//! A disk that is full: while a run is recorded, and while it is sealed.

use std::io::Write as _;

use super::*;
use crate::error::Reason;
use crate::store::tests::disk::{child_on_a_small_disk, told};

#[test]
fn a_full_disk_leaves_a_failure_or_no_seal() {
    child_on_a_small_disk("evidence::tests::disk::child_with_a_full_disk", 8);
}

/// Fills what is left of the disk.
fn stuff(root: &Path, name: &str) {
    let mut filler = std::fs::File::create(root.join(name)).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
}

#[test]
fn child_with_a_full_disk() {
    let Some((root, done)) = told() else { return };
    let log = path("backend/stdout.log");

    // An agent that floods until nothing fits: what was put aside for the seal is enough to seal a failure.
    let run = begin(&root);
    let err = (0..100)
        .find_map(|_| run.append(&log, "stream", Author::Agent, &[b'a'; 1 << 20]).err())
        .unwrap();
    assert_eq!((err.reason(), err.kind().exit_code()), (Reason::DiskFull, 9), "{err:?}");
    // What is smaller would fit again, and read as if nothing were missing before it.
    assert_eq!(run.append(&log, "stream", Author::Agent, b"x").unwrap(), None);
    run.artifact(&path("patch.diff"), "patch", Author::Agent, &[b'a'; 1 << 20]).unwrap_err();
    let sealed = run.seal(rehearsed()).unwrap();
    assert_eq!(sealed.report.status, RunStatus::Fail);
    let said = |text| sealed.report.blockers.iter().any(|line| line.contains(text));
    let untrue = said("was changed") || said("cannot be read");
    let told = said("not whole") && said("patch.diff could not be written");
    assert!(told && !untrue, "{:?}", sealed.report.blockers);
    let manifest: Manifest = parsed(&sealed.directory, names::MANIFEST);
    let file = |name: &RelPath| manifest.files.iter().find(|file| file.path == *name).unwrap();
    assert_eq!(file(&path("patch.diff")).role, "lost");
    assert!(file(&log).omitted_bytes > 0);
    let checked = check(&sealed.directory, Some(&sealed.id)).unwrap();
    assert_eq!(checked.faults, []);
    assert_eq!(checked.level, Some(Level::EqualToId));
    drop(run);
    std::fs::remove_dir_all(&sealed.directory).unwrap();

    // Another process takes even that: nothing half-written reads as sealed.
    let run = filled(&root);
    let place = run.path().to_owned();
    run.dir.release();
    stuff(&root, "filler");
    let err = run.seal(rehearsed()).unwrap_err();
    assert_eq!((err.reason(), err.kind().exit_code()), (Reason::DiskFull, 9), "{err:?}");
    drop(run);
    assert_eq!(wrong(&place).0, FaultKind::NotSealed);
    // And there is space again: the next run is as if nothing had been.
    std::fs::remove_file(root.join("filler")).unwrap();
    std::fs::remove_dir_all(place).unwrap();
    let run = filled(&root);
    assert_eq!(run.seal(rehearsed()).unwrap().report.status, RunStatus::Rehearsed);
    std::fs::write(done, "").unwrap();
}
