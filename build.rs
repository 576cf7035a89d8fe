//! The records and fixtures are embedded in the binary: build it again when one of them changes.

fn main() {
    for dir in ["lockfiles", "admissions", "fixtures/r1-string-slugify", "fixtures/understudy"] {
        println!("cargo::rerun-if-changed={dir}");
    }
}
