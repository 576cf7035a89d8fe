//! The records and fixtures are embedded in the binary: build it again when one of them changes. The digest of the
//! sources that decide what a build gives is part of every build's key in the store.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

fn main() {
    for dir in [
        "lockfiles",
        "admissions",
        "fixtures/r1-string-slugify",
        "fixtures/r2-duration",
        "fixtures/understudy",
    ] {
        println!("cargo::rerun-if-changed={dir}");
    }
    // With the versions of the crates that unpack, hash and write.
    // And with what a lock can say of a build.
    let mut files = ["Cargo.lock", "src/record/lockfile.rs"].map(PathBuf::from).to_vec();
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    for dir in
        ["src/bun", "src/store", "src/sandbox", "src/git", "src/lock", "src/fetch", "src/build"]
    {
        println!("cargo::rerun-if-changed={dir}");
        walk(Path::new(dir), &mut files);
    }
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let bytes = std::fs::read(&path).expect("a source of admit is readable");
        hash.update(format!("{} {}\n", path.display(), bytes.len()));
        hash.update(bytes);
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    // Cargo passes it on to what it runs, where a variable of admit's own names would be one that admit does not know.
    println!("cargo::rustc-env=BUILD_RULES_SHA256={hex}");
}

fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory of admit's sources") {
        let path = entry.expect("a directory of admit's sources").path();
        match path.is_dir() {
            true => walk(&path, out),
            false => out.push(path),
        }
    }
}
