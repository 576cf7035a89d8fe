//! A build as an in-toto link: what a step of a layout took and gave. in-toto's own verifier reads links, not statements.

use serde_json::{Map, Value, json};

use crate::record;
use crate::record::dsse::{Envelope, IN_TOTO};
use crate::record::statement::Statement;

pub const STEP: &str = "build";

/// The link that says the same as a build's provenance: its inputs are the materials, its output the product. Two who built the
/// same have the same link, as a threshold in a layout asks for.
pub fn link(provenance: &Statement) -> Envelope {
    let inputs = &provenance.predicate["buildDefinition"]["resolvedDependencies"];
    let inputs = inputs.as_array().into_iter().flatten();
    let materials: Map<String, Value> = inputs
        .filter_map(|input| Some((input["name"].as_str()?.to_owned(), input["digest"].clone())))
        .collect();
    let products: Map<String, Value> = provenance
        .subject
        .iter()
        .map(|subject| (subject.name.clone(), json!(subject.digest)))
        .collect();
    let link = json!({
        "_type": "link",
        "name": STEP,
        "command": [],
        "materials": materials,
        "products": products,
        "byproducts": {},
        "environment": {},
    });
    Envelope::new(IN_TOTO, record::canonical(&link))
}
