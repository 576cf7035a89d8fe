//! Many owners at once: locks, scratch directories, writers of the same content, other users.

use super::*;

#[test]
fn a_living_owner_keeps_its_scratch_and_a_kept_one_stays() {
    let (dir, store) = temp_store();
    let scratch = store.scratch().unwrap();
    fill(scratch.path());
    let again = Store::open(dir.path()).unwrap();
    assert!(scratch.path().join("run.sh").exists());
    drop(again);
    let path = scratch.path().to_owned();
    drop(scratch);
    assert!(!path.exists());
    let scratch = store.scratch().unwrap();
    fs::write(scratch.path().join("x"), "x").unwrap();
    let kept = scratch.keep().unwrap();
    let _again = Store::open(dir.path()).unwrap();
    assert_eq!(fs::read(kept.join("x")).unwrap(), b"x");
    assert_eq!(listing(&store, "tmp").len(), 4);
}

#[test]
fn what_a_dead_owner_left_outside_and_its_locks_go_with_the_next() {
    let (dir, store) = temp_store();
    let place = dir.path().join("elsewhere");
    fs::create_dir(&place).unwrap();
    let base = place.join(format!("admit-{}", rustix::process::geteuid().as_raw()));
    let living = Outside::create(&place).unwrap();
    // As a killed process leaves it: a directory and a lock that is not held, and a directory without a lock.
    for dead in ["1-0", "1-1"] {
        fs::create_dir_all(base.join(dead)).unwrap();
        fill(&base.join(dead));
    }
    fs::write(base.join("1-0.lock"), "").unwrap();
    let lock = store.path().join("locks/blake3-dead");
    fs::write(&lock, "").unwrap();
    let held = store.lock(&key(), &mut || panic!("it is free")).unwrap();
    let next = Outside::create(&place).unwrap();
    let _again = Store::open(dir.path()).unwrap();
    assert!(living.path().is_dir() && next.path().is_dir());
    assert_eq!(fs::read_dir(&base).unwrap().count(), 4, "two owners, each with its lock");
    assert_eq!(listing(&store, "locks").len(), 1, "the one that is held");
    drop((held, living));
    assert!(next.path().is_dir());
    drop(next);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    // Another user's directory under our name is not used.
    fs::create_dir(&base).unwrap();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(Outside::create(&place).unwrap_err().reason(), Reason::StoreUnsafe);
}

#[test]
fn many_at_once_outside_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                for _ in 0..20 {
                    fill(Outside::create(dir.path()).unwrap().path());
                }
            });
        }
    });
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn many_writers_of_the_same_content_all_succeed() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                let store = Store::open(dir.path()).unwrap();
                for _ in 0..5 {
                    write_everything(&store);
                }
            });
        }
    });
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(listing(&store, "trees").len(), 1);
    assert!(listing(&store, "quarantine").is_empty());
    assert_eq!(listing(&store, "tmp").len(), 2);
}

#[test]
fn a_lock_is_held_by_one_at_a_time() {
    let (dir, store) = temp_store();
    let held = store.lock(&key(), &mut || panic!("it is free")).unwrap();
    let other = Digest::sha256(b"another plan");
    drop(store.lock(&other, &mut || panic!("it is free")).unwrap());
    let (told, hears) = std::sync::mpsc::channel();
    let inside = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|s| {
        for _ in 0..4 {
            let told = told.clone();
            let (inside, root) = (&inside, dir.path());
            s.spawn(move || {
                let store = Store::open(root).unwrap();
                let mut waits = 0;
                let lock = store
                    .lock(&key(), &mut || {
                        waits += 1;
                        told.send(()).unwrap();
                    })
                    .unwrap();
                assert_eq!(waits, 1);
                assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                std::thread::yield_now();
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                drop(lock);
            });
        }
        for _ in 0..4 {
            hears.recv().unwrap();
        }
        drop(held);
    });
    assert!(listing(&store, "locks").is_empty());
}

#[test]
fn a_store_that_others_can_write_is_refused() {
    let (dir, store) = temp_store();
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o770)).unwrap();
    for err in [Store::open(dir.path()).unwrap_err(), Store::open_read(dir.path()).unwrap_err()] {
        assert_eq!((err.reason(), err.kind()), (Reason::StoreUnsafe, Kind::Refused));
    }
}
