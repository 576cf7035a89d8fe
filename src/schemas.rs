//! The JSON Schemas of the files that admit reads and writes, generated from the types.

use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use crate::attest::ModelPredicate;
use crate::check::launch::LaunchRecord;
use crate::evidence::GateRecord;
use crate::record::admission::ModelAdmission;
use crate::record::bunlock::BunLock;
use crate::record::campaign::{CampaignPlan, CampaignRecord, InclusionProof};
use crate::record::decision::ClassDecision;
use crate::record::evidence::RunReport;
use crate::record::fixture::{FixtureLock, FixtureRecord, HeldOutRecord, Script};
use crate::record::health::HealthReport;
use crate::record::lockfile::Lockfile;
use crate::record::piplock::PipLock;
use crate::record::report::BuildReport;
use crate::record::sealed::{Event, Freshness, Manifest, NoTargetProof, Seal, Span};
use crate::record::wire::ProxyRecord;
use crate::record::{Record, Schema};
use crate::root::Config;
use crate::run::judge::JudgeRow;
use crate::run::tools::ToolFacts;
use crate::sandbox::SandboxFacts;

fn entry<R: Record + JsonSchema>() -> (String, Value) {
    let mut schema = schema_for!(R).to_value();
    let id = R::SCHEMA;
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".into(), id.to_string().into());
        // The schema key names exactly this format and version.
        if let Some(key) = object.get_mut("properties").and_then(|p| p.get_mut("schema")) {
            key["const"] = id.to_string().into();
        }
    }
    (format!("{}.v{}.schema.json", id.name, id.version), schema)
}

/// The two versions of a model admission: each has keys that the other does not have.
fn model_admissions() -> [(String, Value); 2] {
    let (present, form) = entry::<ModelAdmission>();
    let older = ModelAdmission::VERSION_1;
    let version = |form: &Value, id: Schema, without: &[&str], with: &[&str]| {
        let mut form = form.clone();
        form["title"] = id.to_string().into();
        form["properties"]["schema"]["const"] = id.to_string().into();
        form["properties"]["schema"]["description"] = format!("`{id}`.").into();
        if let Some(keys) = form["properties"].as_object_mut() {
            keys.retain(|key, _| !without.contains(&key.as_str()));
        }
        if let Some(required) = form["required"].as_array_mut() {
            required.extend(with.iter().map(|key| Value::from(*key)));
        }
        // What a version demands is there and never null.
        for key in with {
            let Some(property) = form["properties"].get_mut(*key) else { continue };
            if let Some(kinds) = property.get_mut("type").and_then(Value::as_array_mut) {
                kinds.retain(|kind| kind != "null");
            }
            if let Some(forms) = property.get_mut("anyOf").and_then(Value::as_array_mut) {
                forms.retain(|form| form["type"] != "null");
            }
        }
        form
    };
    let (old, new) = (&ModelAdmission::KEYS_OF_1, &ModelAdmission::KEYS_OF_2);
    let mut first = version(&form, older, new, old);
    if let Some(definitions) = first["$defs"].as_object_mut() {
        definitions
            .retain(|name, _| !["Credential", "Api", "AbsPath", "Digest"].contains(&name.as_str()));
    }
    let second = version(&form, ModelAdmission::SCHEMA, old, &new[..2]);
    [(format!("{}.v{}.schema.json", older.name, older.version), first), (present, second)]
}

/// A line of a JSONL file, or a record inside a run directory: the file's name says which it is, not a key in it.
fn plain<R: JsonSchema>(name: &str, version: u32) -> (String, Value) {
    let mut schema = schema_for!(R).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".into(), format!("{name}/{version}").into());
    }
    (format!("{name}.v{version}.schema.json"), schema)
}

/// Every schema with its file name below `schemas/`, sorted by name.
pub fn all() -> Vec<(String, Value)> {
    let mut all = vec![
        entry::<Lockfile>(),
        entry::<BuildReport>(),
        entry::<FixtureRecord>(),
        entry::<FixtureLock>(),
        entry::<HeldOutRecord>(),
        entry::<Script>(),
        entry::<PipLock>(),
        entry::<BunLock>(),
        entry::<ModelPredicate>(),
        entry::<ClassDecision>(),
        entry::<RunReport>(),
        entry::<Manifest>(),
        entry::<Seal>(),
        entry::<Freshness>(),
        entry::<NoTargetProof>(),
        entry::<HealthReport>(),
        entry::<GateRecord>(),
        entry::<LaunchRecord>(),
        entry::<CampaignPlan>(),
        entry::<CampaignRecord>(),
        entry::<InclusionProof>(),
        plain::<Config>("admit.toml", 1),
        plain::<Event>("admit.run-event", 1),
        plain::<Span>("admit.run-span", 1),
        plain::<ProxyRecord>("admit.run-bridge", 2),
        plain::<SandboxFacts>("admit.run-sandbox", 1),
        plain::<Vec<JudgeRow>>("admit.run-judgement", 1),
        plain::<ToolFacts>("admit.run-tools", 3),
    ];
    all.extend(model_admissions());
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}
