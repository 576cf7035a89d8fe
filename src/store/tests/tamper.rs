//! Entries that were altered.

use super::*;

fn entry_path(store: &Store, nar: &Digest) -> (PathBuf, PathBuf) {
    (store.file_path(&Digest::sha256(b"content")), store.tree_path(nar).unwrap())
}

/// Replaces a read-only file of the store.
fn overwrite(path: &Path, bytes: &[u8]) {
    let parent = path.parent().unwrap();
    fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_altered_entry_is_never_read() {
    let digest = Digest::sha256(b"content");
    type Tamper = fn(&Path, &Path);
    let cases: [(&str, Tamper); 6] = [
        ("a byte", |file, tree| {
            overwrite(file, b"cOntent");
            overwrite(&tree.join("src/main.ts"), b"y");
        }),
        ("truncated", |file, tree| {
            overwrite(file, b"conten");
            overwrite(&tree.join("src/main.ts"), b"");
        }),
        ("a link in its place", |file, tree| {
            let other = file.parent().unwrap().join("other");
            fs::rename(file, &other).unwrap();
            symlink(&other, file).unwrap();
            let parent = tree.parent().unwrap().join(scratch::fresh_name());
            fs::set_permissions(tree, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(tree, &parent).unwrap();
            symlink(&parent, tree).unwrap();
        }),
        ("a directory or a file in its place", |file, tree| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
            fs::set_permissions(tree, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(tree, tree.with_extension(scratch::fresh_name())).unwrap();
            fs::write(tree, "content").unwrap();
        }),
        ("a pipe", |file, tree| {
            fs::remove_file(file).unwrap();
            fs::set_permissions(tree, fs::Permissions::from_mode(0o755)).unwrap();
            let made = Command::new("mkfifo").args([file, &tree.join("p")]).status().unwrap();
            assert!(made.success());
        }),
        ("another name", |file, tree| {
            overwrite(file, b"other content under this name");
            fs::set_permissions(tree, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(tree.join("run.sh"), tree.join("ran.sh")).unwrap();
        }),
    ];
    for (what, tamper) in cases {
        let (dir, store) = temp_store();
        let nar = write_everything(&store);
        let (file, tree) = entry_path(&store, &nar);
        tamper(&file, &tree);
        let read = Store::open_read(dir.path()).unwrap().unwrap();
        for store in [&read, &store] {
            let errors = [store.file(&digest).unwrap_err(), store.tree(&nar).unwrap_err()];
            for (err, path) in errors.iter().zip([&file, &tree]) {
                assert_eq!(err.reason(), Reason::StoreCorrupt, "{what}: {err:?}");
                assert_eq!(err.place(), Some(path.display().to_string().as_str()), "{what}");
                assert!(err.expected_value().is_some() && err.found_value().is_some(), "{what}");
                assert_ne!(err.expected_value(), err.found_value(), "{what}");
                assert!(!err.hints().is_empty(), "{what}");
            }
        }
        // Out of the way, and then written again.
        for entry in [Entry::File(&digest), Entry::Tree(&nar)] {
            let moved = store.remove_corrupt(entry).unwrap().unwrap();
            assert!(moved.symlink_metadata().is_ok(), "{what}");
        }
        assert!(store.file(&digest).unwrap().is_none() && store.tree(&nar).unwrap().is_none());
        assert_eq!(write_everything(&store), nar);
        assert_eq!(store.remove_corrupt(Entry::Tree(&nar)).unwrap(), None);
        // Or written again over what is wrong.
        tamper(&file, &tree);
        assert_eq!(write_everything(&store), nar, "{what}");
        assert!(store.file(&digest).unwrap().is_some() && store.tree(&nar).unwrap().is_some());
    }
}

#[test]
fn a_link_on_the_way_is_not_followed() {
    let (_dir, store) = temp_store();
    let nar = write_everything(&store);
    let digest = Digest::sha256(b"content");
    let parent = store.file_path(&digest).parent().unwrap().to_owned();
    fs::rename(&parent, parent.with_extension("old")).unwrap();
    symlink(parent.with_extension("old"), &parent).unwrap();
    assert_eq!(store.file(&digest).unwrap_err().reason(), Reason::StoreCorrupt);
    assert_eq!(write_everything(&store), nar);
    assert!(store.file(&digest).unwrap().is_some());
}
