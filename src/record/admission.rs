//! Model admissions and decisions: who may answer an agent, on whose word, over which network.
//!
//! `admissions/models/<provider>--<model>.json` admits one provider and model pair (`admit.model-admission/1`);
//! `admissions/decisions/<id>.json` records what was decided about a class of providers (`admit.decision/1`). Records
//! from before these formats carry no `schema` and are read as `legacy/0`. [`status`] says what a record (or its
//! absence) means for one request; it is pure, so every answer can be tested.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::canonical::{self as record, Record, RecordError, Schema};
use super::ids::{Name, Timestamp};
use super::network::names_an_address;

/// A model's id as its server lists it: 1 to 128 printable ASCII characters without spaces, quotes or backslashes.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = r#"^[!#-&(-\[\]-_a-~]{1,128}$"#))]
pub struct ModelId(String);

impl ModelId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let ok = (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\' | b'`'));
        ok.then(|| Self(text.into())).ok_or_else(|| {
            let start: String = text.chars().take(120).collect();
            format!(
                "\"{}\" is not a model id: expected 1 to 128 printable characters",
                start.escape_debug()
            )
        })
    }
}

impl TryFrom<String> for ModelId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ModelId> for String {
    fn from(id: ModelId) -> String {
        id.0
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The one pair a run asks for, written `PROVIDER/MODEL` (the model's id may hold further slashes).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelPair {
    /// The admitted provider, for example `qwen-local`.
    pub provider: Name,
    pub model: ModelId,
}

impl ModelPair {
    /// Where a root has the records.
    pub const DIR: &str = "admissions/models/";

    /// Where a root has the record.
    pub fn path(&self) -> String {
        format!("{}{}", Self::DIR, self.file_name())
    }

    /// The record's file name. Bytes of the model's id that no [`Name`] has are written `%XX`, so that two models
    /// never share a file and none can leave the directory.
    pub fn file_name(&self) -> String {
        let mut out = format!("{}--", self.provider);
        for b in self.model.as_str().bytes() {
            match b {
                b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => out.push(char::from(b)),
                _ => out.push_str(&format!("%{b:02X}")),
            }
        }
        out + ".json"
    }
}

impl FromStr for ModelPair {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (provider, model) = text
            .split_once('/')
            .ok_or_else(|| format!("\"{}\" is not PROVIDER/MODEL", text.escape_debug()))?;
        let provider = provider.parse().map_err(|err: super::ids::ParseError| err.to_string())?;
        Ok(Self { provider, model: model.parse()? })
    }
}

impl fmt::Display for ModelPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// What answers: a model, or a script that stands in for one and can never lead to a pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    Served,
    Scripted,
}

/// Where the credentials of an admitted model come from: decides which gate asks for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CredentialClass {
    /// A local server that asks for no secret.
    LocalNoSecret,
    /// OAuth through the auth bridge on the host.
    CodexOauth,
    /// A key from a named environment variable or a file of mode 0600.
    ApiKey,
    /// The embedded scripted server, which takes the run's sentinel only.
    ScriptedNone,
}

impl CredentialClass {
    pub const ALL: [Self; 4] =
        [Self::LocalNoSecret, Self::CodexOauth, Self::ApiKey, Self::ScriptedNone];

    /// The text form in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LocalNoSecret => "pi-models-json-local-provider-no-secret",
            Self::CodexOauth => "hermes-openai-codex-oauth-and-local-vllm-config",
            Self::ApiKey => "api-key-from-environment-or-file",
            Self::ScriptedNone => "scripted-no-secret",
        }
    }

    /// The class with that text, or `None`: for an unknown class no credential can be found.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }

    /// Whether a secret is needed beside the run's own sentinel.
    pub fn needs_secret(self) -> bool {
        matches!(self, Self::CodexOauth | Self::ApiKey)
    }
}

/// `admissions/models/<provider>--<model>.json`: one admitted pair.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelAdmission {
    /// `admit.model-admission/1`.
    pub schema: String,
    /// `admitted`, or anything else, which does not admit (`revoked` is what `admit model revoke` writes).
    pub status: String,
    pub provider: Name,
    pub model: ModelId,
    pub kind: ModelKind,
    /// The provider's name inside the agent's own configuration; reported, never the admission.
    pub runtime_provider: Name,
    /// Where credentials come from ([`CredentialClass`]).
    pub credential_source_class: String,
    /// Which addresses it may be reached at ([`super::network::NetworkClass`]).
    pub allowed_network_class: String,
    pub approval_source: String,
    pub admission_timestamp: Timestamp,
    /// What makes the approval void.
    pub review_trigger: String,
    /// What a run with this model has to leave behind.
    pub evidence_expectations: Vec<String>,
    /// The stages it is admitted for.
    pub stages: Vec<u8>,
    /// The moment from which it no longer admits; `null` for none.
    pub expires: Option<Timestamp>,
}

impl Record for ModelAdmission {
    const SCHEMA: Schema = Schema { name: "admit.model-admission", version: 1 };
}

/// The `status` that admits; every other text does not.
pub const ADMITTED: &str = "admitted";
/// The `status` that `admit model revoke` writes.
pub const REVOKED: &str = "revoked";
/// What [`parse`] puts into `schema` for a record in the older form.
pub const LEGACY_SCHEMA: &str = "legacy/0";

/// The older form: exactly these keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Legacy {
    status: String,
    provider: Name,
    model: ModelId,
    credential_source_class: String,
    allowed_network_class: String,
    approval_source: String,
    admission_timestamp: Timestamp,
    review_trigger: String,
}

impl From<Legacy> for ModelAdmission {
    #[expect(clippy::expect_used, reason = "a fixed text that is a name")]
    fn from(old: Legacy) -> Self {
        Self {
            schema: LEGACY_SCHEMA.into(),
            status: old.status,
            provider: old.provider,
            model: old.model,
            kind: ModelKind::Served,
            // The older set-up had one way to a custom endpoint: the agent's own `openai` provider.
            runtime_provider: "openai".parse().expect("a name"),
            credential_source_class: old.credential_source_class,
            allowed_network_class: old.allowed_network_class,
            approval_source: old.approval_source,
            admission_timestamp: old.admission_timestamp,
            review_trigger: old.review_trigger,
            evidence_expectations: Vec::new(),
            stages: vec![2],
            expires: None,
        }
    }
}

impl ModelAdmission {
    pub fn pair(&self) -> ModelPair {
        ModelPair { provider: self.provider.clone(), model: self.model.clone() }
    }

    /// Rules beyond the form: nobody approves anonymously, and no record says where an endpoint is.
    fn check(&self) -> Result<(), RecordError> {
        let fail = |what: String| Err(RecordError { line: 0, column: 0, what });
        let texts = [
            ("status", &self.status),
            ("credential_source_class", &self.credential_source_class),
            ("allowed_network_class", &self.allowed_network_class),
            ("approval_source", &self.approval_source),
            ("review_trigger", &self.review_trigger),
        ];
        for (key, text) in texts {
            if text.trim().is_empty() {
                return fail(format!("\"{key}\" is empty"));
            }
        }
        if self.stages.is_empty() || self.stages.iter().any(|s| !(2..=7).contains(s)) {
            return fail("\"stages\" must list stages from 2 to 7".into());
        }
        let expectations = self.evidence_expectations.iter().map(|t| ("evidence_expectations", t));
        for (key, text) in texts.into_iter().chain(expectations) {
            if names_an_address(text) {
                return fail(format!(
                    "\"{key}\" names a network address: endpoints come from the environment or a file at run time"
                ));
            }
        }
        Ok(())
    }
}

/// Reads a model admission, in the present or the older form, strictly.
pub fn parse(bytes: &[u8]) -> Result<ModelAdmission, RecordError> {
    let value = record::parse_value(bytes)?;
    let record = match value.as_object() {
        Some(object) if !object.contains_key("schema") => {
            serde_json::from_slice::<Legacy>(bytes)?.into()
        }
        _ => record::parse::<ModelAdmission>(bytes)?,
    };
    record.check()?;
    Ok(record)
}

/// What a look at the record's file gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordFile {
    Absent,
    /// There is one that could not be read, and why.
    Unreadable(String),
    Bytes(Vec<u8>),
}

/// The five answers about a model, in the words that reports have always used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdmissionStatus {
    /// Nothing was requested, or no record is there.
    MissingAdmission,
    /// The record is for another pair.
    Mismatch,
    /// The record cannot be read, breaks its form, or holds a secret or an address.
    InvalidAdmission,
    /// The record is there and does not admit: revoked, not yet valid, expired, another status or stage.
    NotAdmitted,
    /// The record admits the pair.
    Admitted,
}

impl AdmissionStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingAdmission => "missing_admission",
            Self::Mismatch => "mismatch",
            Self::InvalidAdmission => "invalid_admission",
            Self::NotAdmitted => "not_admitted",
            Self::Admitted => "admitted",
        }
    }
}

/// The answer, why, and the record where one could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelStatus {
    pub status: AdmissionStatus,
    /// Why, in one line without anything from a record that may be a secret.
    pub reason: String,
    /// The record, where it is a valid one.
    pub record: Option<ModelAdmission>,
}

/// What `file` means for `requested` at `stage`, at the moment `now`.
///
/// `secret` looks for a secret in the bytes and names the rule that found one, never the secret.
pub fn status(
    file: &RecordFile,
    requested: Option<&ModelPair>,
    stage: u8,
    now: &Timestamp,
    secret: &dyn Fn(&[u8]) -> Option<String>,
) -> ModelStatus {
    use AdmissionStatus as S;
    let answer = |status, reason: String, record| ModelStatus { status, reason, record };
    let Some(requested) = requested else {
        return answer(
            S::MissingAdmission,
            "no model was requested, and none is chosen".into(),
            None,
        );
    };
    let bytes = match file {
        RecordFile::Absent => {
            return answer(
                S::MissingAdmission,
                format!("no admission record for {requested}"),
                None,
            );
        }
        RecordFile::Unreadable(why) => {
            return answer(S::InvalidAdmission, format!("the record cannot be read: {why}"), None);
        }
        RecordFile::Bytes(bytes) => bytes,
    };
    // Before parsing: a parser's message may quote what it choked on.
    if let Some(rule) = secret(bytes) {
        return answer(S::InvalidAdmission, format!("the record holds a secret ({rule})"), None);
    }
    let record = match parse(bytes) {
        Ok(record) => record,
        Err(err) => return answer(S::InvalidAdmission, err.to_string(), None),
    };
    let (status, reason) = if record.pair() != *requested {
        (S::Mismatch, format!("the record admits {}, requested was {requested}", record.pair()))
    } else if record.status != ADMITTED {
        (S::NotAdmitted, format!("its status is \"{}\"", record.status.escape_debug()))
    } else if record.admission_timestamp.unix() > now.unix() {
        (S::NotAdmitted, format!("it admits from {} on", record.admission_timestamp))
    } else if let Some(end) = record.expires.as_ref().filter(|end| end.unix() <= now.unix()) {
        (S::NotAdmitted, format!("it expired at {end}"))
    } else if !record.stages.contains(&stage) {
        (S::NotAdmitted, format!("it admits stages {:?}, not {stage}", record.stages))
    } else {
        (S::Admitted, format!("approved by: {}", record.approval_source))
    };
    answer(status, reason, Some(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::network::NetworkClass;
    use serde_json::{Value, json};

    const QWEN: &[u8] = include_bytes!("../../admissions/models/qwen-local--qwen3.6-35b-a3b.json");
    const CODEX: &[u8] = include_bytes!("../../admissions/models/openai-codex--gpt-5.5.json");
    const SCRIPTED: &[u8] =
        include_bytes!("../../admissions/models/scripted--understudy-script.json");

    fn ask(bytes: &[u8], pair: &str) -> ModelStatus {
        let secret =
            |b: &[u8]| b.windows(6).any(|w| w == b"SECRET").then(|| "known value".to_owned());
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let pair = pair.parse().ok();
        status(&RecordFile::Bytes(bytes.to_vec()), pair.as_ref(), 2, &now, &secret)
    }

    fn with(key: &str, value: Value) -> Vec<u8> {
        let mut record: Value = serde_json::from_slice(QWEN).unwrap();
        record[key] = value;
        record.to_string().into_bytes()
    }

    const PAIR: &str = "qwen-local/qwen3.6-35b-a3b";

    #[test]
    fn the_shipped_records_admit_their_own_pair_and_are_in_written_form() {
        for bytes in [QWEN, CODEX, SCRIPTED] {
            let record = parse(bytes).unwrap();
            assert_eq!(record::pretty(&record), bytes, "{}", record.pair());
            let found = ask(bytes, &record.pair().to_string());
            assert_eq!(found.status, AdmissionStatus::Admitted, "{}", found.reason);
            assert!(NetworkClass::from_text(&record.allowed_network_class).is_some());
            assert!(CredentialClass::from_text(&record.credential_source_class).is_some());
        }
        assert_eq!(
            parse(QWEN).unwrap().pair().path(),
            "admissions/models/qwen-local--qwen3.6-35b-a3b.json"
        );
        assert_eq!(parse(SCRIPTED).unwrap().kind, ModelKind::Scripted);
    }

    #[test]
    fn each_way_of_not_being_admitted_has_its_status() {
        use AdmissionStatus as S;
        let cases: [(Vec<u8>, &str, S, &str); 15] = [
            (QWEN.into(), "", S::MissingAdmission, "no model was requested"),
            (QWEN.into(), "qwen-local/other", S::Mismatch, "requested was qwen-local/other"),
            (CODEX.into(), PAIR, S::Mismatch, "admits openai-codex/gpt-5.5"),
            (with("status", json!("revoked")), PAIR, S::NotAdmitted, "revoked"),
            (with("status", json!("Admitted")), PAIR, S::NotAdmitted, "Admitted"),
            (
                with("admission_timestamp", json!("2026-06-02")),
                PAIR,
                S::NotAdmitted,
                "admits from 2026-06-02 on",
            ),
            (with("expires", json!("2026-06-01")), PAIR, S::NotAdmitted, "expired"),
            (with("stages", json!([3])), PAIR, S::NotAdmitted, "not 2"),
            (with("stages", json!([])), PAIR, S::InvalidAdmission, "stages"),
            (with("more", json!(1)), PAIR, S::InvalidAdmission, "unknown field"),
            (with("approval_source", json!(" ")), PAIR, S::InvalidAdmission, "is empty"),
            (with("approval_source", json!("SECRET")), PAIR, S::InvalidAdmission, "known value"),
            (with("review_trigger", json!("at http://x")), PAIR, S::InvalidAdmission, "address"),
            (
                with("review_trigger", json!("on 100.64.1.2:8000")),
                PAIR,
                S::InvalidAdmission,
                "addr",
            ),
            (b"{\"status\":\"a\",\"status\":\"a\"}".into(), PAIR, S::InvalidAdmission, "duplicate"),
        ];
        for (bytes, pair, want, text) in cases {
            let found = ask(&bytes, pair);
            assert_eq!(found.status, want, "{}", found.reason);
            assert!(found.reason.contains(text), "{}", found.reason);
        }
        let now = "2026-06-01".parse().unwrap();
        let pair = PAIR.parse().unwrap();
        let none = |_: &[u8]| None;
        for (file, want) in [
            (RecordFile::Absent, S::MissingAdmission),
            (RecordFile::Unreadable("permission denied".into()), S::InvalidAdmission),
        ] {
            assert_eq!(status(&file, Some(&pair), 2, &now, &none).status, want);
        }
    }

    #[test]
    fn the_older_form_is_read_with_exactly_its_fields() {
        let mut old = json!({
            "status": "admitted", "provider": "qwen-local", "model": "qwen3.6-35b-a3b",
            "credential_source_class": "pi-models-json-local-provider-no-secret",
            "allowed_network_class": "local-tailscale-vllm-spark1",
            "approval_source": "chat", "admission_timestamp": "2026-05-31",
            "review_trigger": "any change"
        });
        let found = ask(old.to_string().as_bytes(), PAIR);
        assert_eq!(found.status, AdmissionStatus::Admitted, "{}", found.reason);
        let record = found.record.unwrap();
        assert_eq!((record.schema.as_str(), record.kind), (LEGACY_SCHEMA, ModelKind::Served));
        assert_eq!(record.stages, [2]);
        for key in old.as_object().unwrap().keys().cloned().collect::<Vec<_>>() {
            let mut less = old.clone();
            less.as_object_mut().unwrap().remove(&key);
            let found = ask(less.to_string().as_bytes(), PAIR);
            assert_eq!(found.status, AdmissionStatus::InvalidAdmission, "without {key}");
        }
        old["kind"] = json!("scripted");
        assert_eq!(ask(old.to_string().as_bytes(), PAIR).status, AdmissionStatus::InvalidAdmission);
        // A written record never calls itself legacy.
        assert!(parse(&with("schema", json!(LEGACY_SCHEMA))).is_err());
    }

    #[test]
    fn file_names_cannot_collide_or_leave() {
        let pair: ModelPair = "a/b/../C".parse().unwrap();
        assert_eq!(pair.file_name(), "a--b%2F..%2F%43.json");
        assert!("a".parse::<ModelPair>().is_err());
        assert!("a/".parse::<ModelPair>().is_err());
        assert!("a/b c".parse::<ModelPair>().is_err());
    }
}
