//! Decision records (`admit.decision/1`): what was decided about a class of model providers, before or beside the
//! admission of one pair. A decision admits nothing by itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::admission::ModelId;
use super::canonical::{self as record, RecordError, schema};
use super::ids::{Name, Timestamp};
use super::network::names_an_address;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionStatus {
    /// The question is open; nothing follows from the record.
    NotDecided,
    /// A provider outside this machine's own network may be used.
    ExternalProviderApproved,
    /// Only a local provider may be used.
    LocalProviderRequired,
}

/// The class of provider that was decided about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderClass {
    ExternalAnthropic,
    /// OpenAI Codex's hosted models.
    ExternalOpenaiCodex,
    /// A local server that speaks what Case speaks.
    LocalCaseCompatible,
}

/// `admissions/decisions/<id>.json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassDecision {
    /// `admit.decision/1`.
    pub schema: String,
    /// The record's name, and its file's.
    pub id: Name,
    pub decision_timestamp: Timestamp,
    pub decision_status: DecisionStatus,
    pub provider_class: ProviderClass,
    /// The provider meant, where one is.
    pub provider: Option<Name>,
    /// The model meant, where one is.
    pub model: Option<ModelId>,
    /// Who decided, when and where.
    pub approval_source: String,
    /// Where credentials would come from.
    pub credential_source_class: String,
    /// Which addresses would be allowed.
    pub allowed_network_class: String,
    /// What makes the decision void.
    pub review_trigger: String,
    pub evidence_sources: Vec<String>,
    /// What follows from it, in words.
    pub effect: String,
}

schema!(ClassDecision, "admit.decision", 1);

/// Reads a decision strictly. `secret` as for [`super::admission::status`].
pub fn parse(
    bytes: &[u8],
    secret: &dyn Fn(&[u8]) -> Option<String>,
) -> Result<ClassDecision, RecordError> {
    let fail = |what: String| Err(RecordError::new(what));
    if let Some(rule) = secret(bytes) {
        return fail(format!("the record holds a secret ({rule})"));
    }
    let decision: ClassDecision = record::parse(bytes)?;
    check(&decision).map_or(Ok(decision), fail)
}

/// What is wrong with a decision beyond its form, or `None`.
pub fn check(decision: &ClassDecision) -> Option<String> {
    let approved = decision.decision_status != DecisionStatus::NotDecided;
    let required = [
        ("approval_source", &decision.approval_source),
        ("review_trigger", &decision.review_trigger),
        ("effect", &decision.effect),
    ];
    for (key, text) in required {
        if approved && text.trim().is_empty() {
            return Some(format!("\"{key}\" is empty, and something was decided"));
        }
    }
    let texts = required
        .into_iter()
        .chain([
            ("credential_source_class", &decision.credential_source_class),
            ("allowed_network_class", &decision.allowed_network_class),
        ])
        .chain(decision.evidence_sources.iter().map(|t| ("evidence_sources", t)));
    for (key, text) in texts {
        // A link to where the decision stands is evidence; an address of a server is not.
        let is_link = key == "evidence_sources" && text.starts_with("https://");
        if !is_link && names_an_address(text) {
            return Some(format!("\"{key}\" names a network address"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sample() -> Value {
        json!({
            "schema": "admit.decision/1", "id": "2026-05-31-codex",
            "decision_timestamp": "2026-05-31", "decision_status": "external_provider_approved",
            "provider_class": "external_openai_codex", "provider": "openai-codex",
            "model": "gpt-5.5", "approval_source": "chat", "credential_source_class": "c",
            "allowed_network_class": "n", "review_trigger": "any change",
            "evidence_sources": ["https://example.test/note"], "effect": "may be admitted"
        })
    }

    fn read(value: &Value) -> Result<ClassDecision, RecordError> {
        parse(value.to_string().as_bytes(), &|b| {
            b.windows(6).any(|w| w == b"SECRET").then(|| "known".to_owned())
        })
    }

    #[test]
    fn a_decision_round_trips_and_loose_ones_are_refused() {
        let good = read(&sample()).unwrap();
        assert_eq!(record::to_value(&good), sample());
        for (key, value, text) in [
            ("decision_status", json!("maybe"), "unknown variant"),
            ("provider_class", json!("other"), "unknown variant"),
            ("approval_source", json!(""), "is empty"),
            ("effect", json!("use 10.0.0.1"), "address"),
            ("effect", json!("SECRET"), "secret"),
            ("extra", json!(1), "unknown field"),
        ] {
            let mut bad = sample();
            bad[key] = value;
            let err = read(&bad).unwrap_err();
            assert!(err.what.contains(text), "{key}: {err}");
        }
    }
}
