//! The published schemas are current, and every shipped record validates.

use std::path::Path;

use crate::util::{World, project};

#[test]
fn the_published_schemas_are_current() {
    let world = World::new();
    let dir = world.path().join("schemas");
    world.admit(&["schemas", "--write", dir.to_str().unwrap()]).expect(0);
    let list = |dir: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let published = project().join("schemas");
    assert_eq!(list(&dir), list(&published), "to write them: cargo run -- schemas --write schemas");
    for name in list(&dir) {
        let (now, then) = (
            std::fs::read(dir.join(&name)).unwrap(),
            std::fs::read(published.join(&name)).unwrap(),
        );
        assert!(now == then, "{name:?} is out of date: cargo run -- schemas --write schemas");
    }
}

#[test]
fn every_shipped_record_validates() {
    let mut checked = 0;
    let mut stack = vec![project().join("lockfiles"), project().join("admissions")];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                stack.push(path);
            } else if path.extension().is_some_and(|e| e == "json") {
                validate(&path);
                checked += 1;
            }
        }
    }
    assert!(checked >= 2, "{checked} records");
}

fn validate(path: &Path) {
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let id =
        record["schema"].as_str().unwrap_or_else(|| panic!("{} has no schema", path.display()));
    validate_as(path, &format!("{}.schema.json", id.replace('/', ".v")));
}

/// Holds a record against one of the published schemas.
#[track_caller]
pub fn validate_as(path: &Path, file: &str) {
    validate_value(&serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap(), file);
}

pub fn validate_value(record: &serde_json::Value, file: &str) {
    let schema = std::fs::read(project().join("schemas").join(file))
        .unwrap_or_else(|err| panic!("{file}: {err}"));
    let schema = serde_json::from_slice(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(record).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(faults.is_empty(), "{file}: {}: {record:#}", faults.join("; "));
}

/// Others' validators refuse a schema that is none, whatever it is asked about.
#[test]
fn every_published_schema_is_a_schema() {
    let mut checked = 0;
    for entry in std::fs::read_dir(project().join("schemas")).unwrap() {
        let path = entry.unwrap().path();
        let schema = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let fault = jsonschema::meta::validate(&schema).err().map(|err| err.to_string());
        assert_eq!(fault, None, "{}", path.display());
        checked += 1;
    }
    assert!(checked >= 30, "{checked} schemas");
}
