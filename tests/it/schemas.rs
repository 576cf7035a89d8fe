//! The published schemas are current, and every shipped record validates.

use serde_json::Value;

use crate::files::{below, json, names, shipped};
use crate::util::{World, project};

#[test]
fn the_published_schemas_are_current() {
    let world = World::new();
    let dir = world.path().join("schemas");
    world.admit(&["schemas", "--write", dir.to_str().unwrap()]).expect(0);
    let published = project().join("schemas");
    let (now, then) = (names(&dir), names(&published));
    assert_eq!(now, then, "to write them: cargo run -- schemas --write schemas");
    for name in now {
        let [now, then] = [&dir, &published].map(|dir| std::fs::read(dir.join(&name)).unwrap());
        assert!(now == then, "{name:?} is out of date: cargo run -- schemas --write schemas");
    }
}

#[test]
fn every_shipped_record_validates() {
    let mut checked = 0;
    for path in ["lockfiles", "admissions"].iter().flat_map(|dir| below(&project().join(dir))) {
        if path.extension().is_some_and(|e| e == "json") {
            let record = json(&path);
            let id = record["schema"].as_str();
            let id = id.unwrap_or_else(|| panic!("{} has no schema", path.display()));
            validate_value(&record, &format!("{}.schema.json", id.replace('/', ".v")));
            checked += 1;
        }
    }
    assert!(checked >= 2, "{checked} records");
}

/// Holds a record against one of the published schemas.
#[track_caller]
pub fn validate_value(record: &Value, file: &str) {
    let validator = jsonschema::validator_for(&shipped(&format!("schemas/{file}"))).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(record).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(faults.is_empty(), "{file}: {}: {record:#}", faults.join("; "));
}

/// Others' validators refuse a schema that is none, whatever it is asked about.
#[test]
fn every_published_schema_is_a_schema() {
    let mut checked = 0;
    for name in names(project().join("schemas")) {
        let schema = shipped(&format!("schemas/{name}"));
        let fault = jsonschema::meta::validate(&schema).err().map(|err| err.to_string());
        assert_eq!(fault, None, "{name}");
        checked += 1;
    }
    assert!(checked >= 30, "{checked} schemas");
}
