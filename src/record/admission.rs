//! Model admissions and decisions: who may answer an agent, on whose word, over which network.
//!
//! `admissions/models/<provider>--<model>.json` admits one provider and model pair (`admit.model-admission/2`; version 1
//! is still read); `admissions/decisions/<id>.json` records what was decided about a class of providers
//! (`admit.decision/1`). Records from before these formats carry no `schema` and are read as `legacy/0`. [`status`] says
//! what a record (or its absence) means for one request; it is pure, so every answer can be tested.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::canonical::{self as record, Record, RecordError, Schema};
use super::credential::Credential;
use super::ids::{Name, Timestamp};
use super::network::names_an_address;
use super::purl::percent;
use super::text::{ParseError, own_text, serde_text, words};

/// Longest admission record that is read.
pub const MAX_RECORD: u64 = 1 << 20;

own_text! {
    /// A model's id as its server lists it: 1 to 128 printable ASCII characters without spaces, quotes or backslashes.
    #[derive(JsonSchema)]
    #[schemars(extend("pattern" = r#"^[!#-&(-\[\]-_a-~]{1,128}$"#))]
    ModelId, "a model id", "1 to 128 printable characters",
    |text| {
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\' | b'`');
        (1..=128).contains(&text.len()) && text.bytes().all(plain)
    }
}
serde_text!(ModelId);

/// The one pair a run asks for, written `PROVIDER/MODEL` (the model's id may hold further slashes).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelPair {
    /// The admitted provider, for example `qwen-local`.
    pub provider: Name,
    pub model: ModelId,
}

impl ModelPair {
    pub const DIR: &str = "admissions/models/";

    pub fn path(&self) -> String {
        format!("{}{}", Self::DIR, self.file_name())
    }

    /// The record's file name. Bytes of the model's id that no [`Name`] has are written `%XX`, so that two models
    /// never share a file and none can leave the directory.
    pub fn file_name(&self) -> String {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        format!("{}--{}.json", self.provider, percent(self.model.as_str(), plain))
    }
}

impl FromStr for ModelPair {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (provider, model) = text
            .split_once('/')
            .ok_or_else(|| format!("\"{}\" is not PROVIDER/MODEL", text.escape_debug()))?;
        let words = |err: ParseError| err.to_string();
        let provider = provider.parse().map_err(words)?;
        Ok(Self { provider, model: model.parse().map_err(words)? })
    }
}

impl fmt::Display for ModelPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

words! {
    /// What answers: a model, or a script that stands in for one and can never lead to a pass.
    pub enum ModelKind {
        Served = "served",
        Scripted = "scripted",
    }
}

words! {
    /// How an admitted model is spoken to over HTTP.
    #[derive(Default)]
    pub enum Api {
        /// OpenAI chat completions.
        #[default]
        OpenaiChat = "openai-chat",
        /// OpenAI Responses.
        OpenaiResponses = "openai-responses",
        /// Anthropic Messages.
        AnthropicMessages = "anthropic-messages",
        /// OpenAI Responses as an account is served and not a key.
        OpenaiCodexResponses = "openai-codex-responses",
    }
}

words! {
    /// Where the credentials of an admitted model come from, in the words of the first two forms of the record.
    pub enum CredentialClass {
        /// A local server that asks for no secret.
        LocalNoSecret = "pi-models-json-local-provider-no-secret",
        /// OAuth through the auth bridge on the host.
        CodexOauth = "hermes-openai-codex-oauth-and-local-vllm-config",
        /// A key from a named environment variable or a file of mode 0600.
        ApiKey = "api-key-from-environment-or-file",
        /// The embedded scripted server, which takes the run's sentinel only.
        ScriptedNone = "scripted-no-secret",
    }
}

impl CredentialClass {
    /// Whether a secret is needed beside the run's own sentinel.
    pub fn needs_secret(self) -> bool {
        matches!(self, Self::CodexOauth | Self::ApiKey)
    }
}

/// `admissions/models/<provider>--<model>.json`: one admitted pair.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelAdmission {
    /// `admit.model-admission/2`.
    pub schema: String,
    /// `admitted`, or anything else, which does not admit (`revoked` is what `admit model revoke` writes).
    pub status: String,
    pub provider: Name,
    pub model: ModelId,
    pub kind: ModelKind,
    /// The provider's name inside the agent's own configuration; reported, never the admission.
    pub runtime_provider: Name,
    /// Versions before 2: where credentials come from ([`CredentialClass`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_source_class: Option<String>,
    /// Versions before 2: which addresses it may be reached at, by the name of a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_network_class: Option<String>,
    /// The network that its endpoint must lie in, by name. Absent before version 2, like all that follows `kind` there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Name>,
    /// With which key or account it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
    /// The wire API; absent means OpenAI chat completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// Tokens that prompt and reply may have together, as the agent is told; absent means 32,768.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub context_window: Option<u32>,
    /// Tokens that a reply may have, as the agent is told; absent means 4,096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_tokens: Option<u32>,
    /// Whether the agent treats it as a model that reasons; absent means no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<bool>,
    /// Headers that its server wants with every request and that are no secret, names in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
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
    const SCHEMA: Schema = Schema { name: "admit.model-admission", version: 2 };
}

/// What a record without `context_window` means, in tokens.
const CONTEXT_WINDOW: u32 = 32_768;
/// What a record without `max_tokens` means, in tokens.
const MAX_TOKENS: u32 = 4_096;
/// More tokens than any model has; a larger number is a slip.
const MOST_TOKENS: u32 = 1_000_000_000;

/// The `status` that admits; every other text does not.
pub const ADMITTED: &str = "admitted";
/// The `status` that `admit model revoke` writes.
pub const REVOKED: &str = "revoked";
/// What [`parse`] puts into `schema` for a record in the older form.
pub const LEGACY_SCHEMA: &str = "legacy/0";

/// The oldest form: exactly these keys, the last of them where a record has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Legacy {
    status: String,
    provider: Name,
    model: ModelId,
    credential_source_class: String,
    allowed_network_class: String,
    approval_source: String,
    admission_timestamp: String,
    review_trigger: String,
    #[serde(default)]
    evidence_expectations: Expectations,
}

/// One text, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Expectations {
    One(String),
    Several(Vec<String>),
}

impl Default for Expectations {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Legacy {
    /// # Errors
    /// Where the moment of the admission is none.
    #[expect(clippy::expect_used, reason = "a fixed text that is a name")]
    fn read(self) -> Result<ModelAdmission, RecordError> {
        let admission_timestamp = Timestamp::from_rfc3339(&self.admission_timestamp)
            .map_err(|err| RecordError::new(format!("\"admission_timestamp\": {err}")))?;
        Ok(ModelAdmission {
            schema: LEGACY_SCHEMA.into(),
            status: self.status,
            provider: self.provider,
            model: self.model,
            kind: ModelKind::Served,
            // The older set-up had one way to a custom endpoint: the agent's own `openai` provider.
            runtime_provider: "openai".parse().expect("a name"),
            credential_source_class: Some(self.credential_source_class),
            allowed_network_class: Some(self.allowed_network_class),
            network: None,
            credential: None,
            api: None,
            context_window: None,
            max_tokens: None,
            reasoning: None,
            headers: BTreeMap::new(),
            approval_source: self.approval_source,
            admission_timestamp,
            review_trigger: self.review_trigger,
            evidence_expectations: match self.evidence_expectations {
                Expectations::One(text) => vec![text],
                Expectations::Several(texts) => texts,
            },
            stages: vec![2],
            expires: None,
        })
    }
}

impl ModelAdmission {
    /// The form before `network` and `credential`, which is still read.
    pub const VERSION_1: Schema = Schema { name: "admit.model-admission", version: 1 };
    /// Keys that version 1 has and must have, and version 2 has not.
    pub const KEYS_OF_1: [&str; 2] = ["credential_source_class", "allowed_network_class"];
    /// Keys that version 2 has and version 1 has not; it must have the first two.
    pub const KEYS_OF_2: [&str; 7] =
        ["network", "credential", "api", "context_window", "max_tokens", "reasoning", "headers"];

    pub fn pair(&self) -> ModelPair {
        ModelPair { provider: self.provider.clone(), model: self.model.clone() }
    }

    pub fn api(&self) -> Api {
        self.api.unwrap_or_default()
    }

    pub fn network(&self) -> &str {
        let network = self.network.as_ref().map(Name::as_str);
        network.or(self.allowed_network_class.as_deref()).unwrap_or_default()
    }

    /// With which key or account it is asked; `None` where the record has a class that is not known.
    pub fn credential(&self) -> Option<Cow<'_, Credential>> {
        if let Some(credential) = &self.credential {
            return Some(Cow::Borrowed(credential));
        }
        let class = CredentialClass::from_text(self.credential_source_class.as_deref()?)?;
        Some(Cow::Owned(match class.needs_secret() {
            true => Credential::Key {},
            false => Credential::None {},
        }))
    }

    /// The credential in the record's own words: its class or its kind.
    pub fn credential_words(&self) -> String {
        let kind = self.credential.as_ref().map(|credential| credential.kind().to_owned());
        kind.or_else(|| self.credential_source_class.clone()).unwrap_or_default()
    }

    /// Tokens that prompt and reply may have together.
    pub fn context_window(&self) -> u32 {
        self.context_window.unwrap_or(CONTEXT_WINDOW)
    }

    /// Tokens that a reply may have.
    pub fn max_tokens(&self) -> u32 {
        self.max_tokens.unwrap_or(MAX_TOKENS)
    }

    /// The same record in the present form, as far as it can be said there: a class that is not known stays as it is
    /// only in the form that had it.
    #[must_use]
    pub fn in_present_form(mut self) -> Self {
        let credential = self.credential().map(Cow::into_owned);
        let network = self.network().parse().ok();
        if let (Some(credential), Some(network)) = (credential, network) {
            (self.credential, self.network) = (Some(credential), Some(network));
            (self.credential_source_class, self.allowed_network_class) = (None, None);
            self.schema = ModelAdmission::SCHEMA.to_string();
        }
        self
    }

    /// Rules beyond the form: each version has its own keys, nobody approves anonymously, and no record says where an
    /// endpoint is.
    fn check(&self) -> Result<(), RecordError> {
        let fail = |what: String| Err(RecordError::new(what));
        let older = self.schema != Self::SCHEMA.to_string();
        let keys = record::to_value(self);
        let of_other = if older { &Self::KEYS_OF_2[..] } else { &Self::KEYS_OF_1 };
        if let Some(key) = of_other.iter().find(|key| keys.get(key).is_some()) {
            return fail(format!("unknown field `{key}` in {}", self.schema));
        }
        let demanded = if older { &Self::KEYS_OF_1[..] } else { &Self::KEYS_OF_2[..2] };
        if let Some(key) = demanded.iter().find(|key| keys.get(key).is_none()) {
            return fail(format!("missing field `{key}`"));
        }
        let texts: Vec<(&str, &String)> = [
            ("status", Some(&self.status)),
            ("credential_source_class", self.credential_source_class.as_ref()),
            ("allowed_network_class", self.allowed_network_class.as_ref()),
            ("approval_source", Some(&self.approval_source)),
            ("review_trigger", Some(&self.review_trigger)),
        ]
        .into_iter()
        .filter_map(|(key, text)| Some((key, text?)))
        .collect();
        for (key, text) in &texts {
            if text.trim().is_empty() {
                return fail(format!("\"{key}\" is empty"));
            }
        }
        if self.stages.is_empty() || self.stages.iter().any(|s| !(2..=7).contains(s)) {
            return fail("\"stages\" must list stages from 2 to 7".into());
        }
        for (key, tokens) in
            [("context_window", self.context_window), ("max_tokens", self.max_tokens)]
        {
            if tokens.is_some_and(|tokens| !(1..=MOST_TOKENS).contains(&tokens)) {
                return fail(format!("\"{key}\" must be 1 to {MOST_TOKENS} tokens"));
            }
        }
        if self.max_tokens() > self.context_window() {
            return fail(format!(
                "\"max_tokens\" ({}) is larger than \"context_window\" ({})",
                self.max_tokens(),
                self.context_window()
            ));
        }
        for (name, value) in &self.headers {
            check_header(name, value)
                .map_err(|what| RecordError::new(format!("\"headers\": {what}")))?;
        }
        if let Some(credential) = &self.credential {
            credential
                .check()
                .map_err(|what| RecordError::new(format!("\"credential\": {what}")))?;
        }
        let expectations = self.evidence_expectations.iter().map(|t| ("evidence_expectations", t));
        let headers = self.headers.values().map(|t| ("headers", t));
        for (key, text) in texts.into_iter().chain(expectations).chain(headers) {
            if names_an_address(text) {
                return fail(format!(
                    "\"{key}\" names a network address: endpoints come from the environment or a file at run time"
                ));
            }
        }
        Ok(())
    }
}

/// Headers that decide how a request is read, where it goes or who asks: admit alone writes these.
pub const OWN_HEADERS: [&str; 19] = [
    "accept",
    "accept-encoding",
    "api-key",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-api-key",
];

/// Those of them that carry a key, which a credential helper may give.
pub const KEY_HEADERS: [&str; 4] = ["api-key", "authorization", "cookie", "x-api-key"];

pub fn is_header_name(name: &str) -> bool {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(letters)
}

/// Whether a request may carry the header beside those that admit writes.
pub fn check_header(name: &str, value: &str) -> Result<(), String> {
    let shown = name.escape_debug();
    if !is_header_name(name) {
        return Err(format!("\"{shown}\" is no header's name in lower case"));
    }
    if OWN_HEADERS.contains(&name) {
        return Err(format!("\"{shown}\" is written by admit alone"));
    }
    let visible = |b: u8| b == b' ' || b.is_ascii_graphic();
    let ends = value.starts_with(' ') || value.ends_with(' ');
    if !(1..=1024).contains(&value.len()) || ends || !value.bytes().all(visible) {
        return Err(format!("the value of \"{shown}\" is not 1 to 1024 printable characters"));
    }
    Ok(())
}

/// Reads a model admission, in the present or an older form, strictly.
pub fn parse(bytes: &[u8]) -> Result<ModelAdmission, RecordError> {
    let value = record::parse_value(bytes)?;
    let record = match value.as_object() {
        Some(object) if !object.contains_key("schema") => {
            serde_json::from_slice::<Legacy>(bytes)?.read()?
        }
        Some(object) if object["schema"] == ModelAdmission::VERSION_1.to_string().as_str() => {
            serde_json::from_slice(bytes)?
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

words! {
    /// The five answers about a model, in the words that reports have always used.
    #[derive(Default)]
    pub enum AdmissionStatus {
        /// Nothing was requested, or no record is there.
        #[default]
        MissingAdmission = "missing_admission",
        /// The record is for another pair.
        Mismatch = "mismatch",
        /// The record cannot be read, breaks its form, or holds a secret or an address.
        InvalidAdmission = "invalid_admission",
        /// The record is there and does not admit: revoked, not yet valid, expired, another status or stage.
        NotAdmitted = "not_admitted",
        /// The record admits the pair.
        Admitted = "admitted",
    }
}

/// The answer, why, and the record where one could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelStatus {
    pub status: AdmissionStatus,
    /// Why, in one line without anything from a record that may be a secret.
    pub reason: String,
    /// The record, where it is a valid one that may say anything of the run.
    pub record: Option<ModelAdmission>,
}

/// What a file that was named for `requested` means: it is a request and no authority, so it admits only as the record
/// that the root has. The arguments are those of [`status`], and `recorded` the root's record of the pair.
pub fn requested(
    file: &RecordFile,
    recorded: Option<&[u8]>,
    requested: Option<&ModelPair>,
    stage: u8,
    now: &Timestamp,
    secret: &dyn Fn(&[u8]) -> Option<String>,
) -> ModelStatus {
    let found = status(file, requested, stage, now, secret);
    let RecordFile::Bytes(bytes) = file else { return found };
    if !matches!(found.status, AdmissionStatus::Admitted | AdmissionStatus::NotAdmitted) {
        return found;
    }
    let reason = match recorded {
        Some(recorded) if same(bytes, recorded) => return found,
        None => "the file is not on record in this root".to_owned(),
        Some(recorded) => {
            let recorded = RecordFile::Bytes(recorded.to_vec());
            let there = status(&recorded, requested, stage, now, secret);
            let (word, why) = (there.status.as_str(), there.reason);
            format!("the record of this root is another one than the file ({word}: {why})")
        }
    };
    ModelStatus { status: AdmissionStatus::NotAdmitted, reason, record: None }
}

/// Whether two files hold the same record, by their canonical digests.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    let digest = |bytes| record::parse_value(bytes).map(|value| record::digest(&value));
    match (digest(one), digest(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
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
    match asked(file, requested, secret) {
        Err((status, reason)) => ModelStatus { status, reason, record: None },
        Ok((record, requested)) => {
            let (status, reason) = admits(&record, requested, stage, now);
            ModelStatus { status, reason, record: Some(record) }
        }
    }
}

/// The valid record that `file` is, and what was requested.
fn asked<'a>(
    file: &RecordFile,
    requested: Option<&'a ModelPair>,
    secret: &dyn Fn(&[u8]) -> Option<String>,
) -> Result<(ModelAdmission, &'a ModelPair), (AdmissionStatus, String)> {
    use AdmissionStatus::{InvalidAdmission, MissingAdmission};
    let requested = requested.ok_or_else(|| {
        (MissingAdmission, "no model was requested, and none is chosen".to_owned())
    })?;
    let bytes = match file {
        RecordFile::Absent => {
            return Err((MissingAdmission, format!("no admission record for {requested}")));
        }
        RecordFile::Unreadable(why) => {
            return Err((InvalidAdmission, format!("the record cannot be read: {why}")));
        }
        RecordFile::Bytes(bytes) => bytes,
    };
    // Before parsing: a parser's message may quote what it choked on.
    if let Some(rule) = secret(bytes) {
        return Err((InvalidAdmission, format!("the record holds a secret ({rule})")));
    }
    let record = parse(bytes).map_err(|err| (InvalidAdmission, err.to_string()))?;
    Ok((record, requested))
}

fn admits(
    record: &ModelAdmission,
    requested: &ModelPair,
    stage: u8,
    now: &Timestamp,
) -> (AdmissionStatus, String) {
    use AdmissionStatus as S;
    let from = &record.admission_timestamp;
    if record.pair() != *requested {
        (S::Mismatch, format!("the record admits {}, requested was {requested}", record.pair()))
    } else if record.status != ADMITTED {
        (S::NotAdmitted, format!("its status is \"{}\"", record.status.escape_debug()))
    } else if from.unix() > now.unix() {
        let why = format!("it admits from {from} on, and this machine's clock says {now}");
        (S::NotAdmitted, why)
    } else if let Some(end) = record.expires.as_ref().filter(|end| end.unix() <= now.unix()) {
        (S::NotAdmitted, format!("it expired at {end}, and this machine's clock says {now}"))
    } else if !record.stages.contains(&stage) {
        (S::NotAdmitted, format!("it admits stages {:?}, not {stage}", record.stages))
    } else {
        (S::Admitted, format!("approved by: {}", record.approval_source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::network::Network;
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
            assert!(Network::built_in(record.network()).is_some());
            assert!(record.credential().is_some());
        }
        let path = parse(QWEN).unwrap().pair().path();
        assert_eq!(path, "admissions/models/qwen-local--qwen3.6-35b-a3b.json");
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

    fn present(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut value = record::to_value(&parse(QWEN).unwrap().in_present_form());
        change(&mut value);
        value.to_string().into_bytes()
    }

    #[test]
    fn the_present_form_says_how_a_model_is_asked() {
        let plain = parse(&present(|_| ())).unwrap();
        assert_eq!(plain.schema, ModelAdmission::SCHEMA.to_string());
        assert_eq!(plain.network(), "local-tailscale-vllm-spark1");
        assert_eq!(plain.api(), Api::OpenaiChat);
        assert_eq!(plain.credential().as_deref(), Some(&Credential::None {}));
        assert_eq!((plain.context_window(), plain.max_tokens()), (32_768, 4_096));
        let full = parse(&present(|record| {
            record["api"] = json!("anthropic-messages");
            record["credential"] = json!({"kind": "key"});
            record["context_window"] = json!(200_000);
            record["max_tokens"] = json!(32_000);
            record["reasoning"] = json!(true);
            record["headers"] =
                json!({"originator": "pi", "openai-beta": "responses=experimental"});
        }));
        let full = full.unwrap();
        assert_eq!((full.api(), full.context_window()), (Api::AnthropicMessages, 200_000));
        assert_eq!(full.credential_words(), "key");
        // The oldest and the middle form are written in the present one when they change, and mean the same.
        assert_eq!(parse(CODEX).unwrap().in_present_form().credential_words(), "key");
        let odd = parse(&with("credential_source_class", json!("made-up"))).unwrap();
        assert!(odd.credential().is_none());
        assert_eq!(odd.clone().in_present_form(), odd);
    }

    #[test]
    fn what_the_present_form_cannot_mean_is_refused() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 16] = [
            (|r| r["allowed_network_class"] = json!("loopback-test"), "allowed_network_class"),
            (|r| drop(r.as_object_mut().unwrap().remove("network")), "missing field `network`"),
            (|r| drop(r.as_object_mut().unwrap().remove("credential")), "field `credential`"),
            (|r| r["schema"] = json!("admit.model-admission/1"), "in admit.model-admission/1"),
            (|r| r["schema"] = json!("admit.model-admission/3"), "newer admit"),
            (|r| r["credential"] = json!({"kind": "none", "more": 1}), "unknown field `more`"),
            (|r| r["credential"] = json!({"kind": "vault"}), "unknown variant `vault`"),
            (|r| r["credential"] = json!({"kind": "helper", "program": "p"}), "credential"),
            (|r| r["api"] = json!("grpc"), "unknown variant `grpc`"),
            (|r| r["max_tokens"] = json!(0), "max_tokens"),
            (|r| r["max_tokens"] = json!(40_000), "larger than"),
            (|r| r["headers"] = json!({"Authorization": "x"}), "in lower case"),
            (|r| r["headers"] = json!({"x-api-key": "x"}), "admit alone"),
            (|r| r["headers"] = json!({"x": "a\r\nhost: b"}), "printable"),
            (|r| r["headers"] = json!({"x": "http://h.test"}), "network address"),
            (|r| r["network"] = json!("../x"), "network"),
        ];
        for (change, text) in cases {
            let found = ask(&present(change), PAIR);
            assert_eq!(found.status, AdmissionStatus::InvalidAdmission, "{text}");
            // A wrong value is named with its key or its place.
            let named = found.reason.contains(text) || found.reason.starts_with("line");
            assert!(named, "{text}: {}", found.reason);
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
        for (moment, want) in [
            ("2026-05-31T21:50:00-04:00", AdmissionStatus::NotAdmitted),
            ("2026-05-31T21:50:00.123456+02:00", AdmissionStatus::Admitted),
            ("2026-05-31T21:50:00", AdmissionStatus::InvalidAdmission),
        ] {
            let mut other = old.clone();
            other["admission_timestamp"] = json!(moment);
            let found = ask(other.to_string().as_bytes(), PAIR);
            assert_eq!(found.status, want, "{moment}: {}", found.reason);
        }
        for (expected, want) in [(json!(["a", "b"]), ["a", "b"].as_slice()), (json!("c"), &["c"])] {
            let mut other = old.clone();
            other["evidence_expectations"] = expected;
            let found = ask(other.to_string().as_bytes(), PAIR);
            assert_eq!(found.record.unwrap().evidence_expectations, want);
        }
        old["kind"] = json!("scripted");
        assert_eq!(ask(old.to_string().as_bytes(), PAIR).status, AdmissionStatus::InvalidAdmission);
        // A written record never calls itself legacy.
        assert!(parse(&with("schema", json!(LEGACY_SCHEMA))).is_err());
    }

    #[test]
    fn a_named_file_admits_only_as_the_record_of_the_root() {
        use AdmissionStatus as S;
        let now = "2026-06-01".parse().unwrap();
        let pair = PAIR.parse().unwrap();
        let asked = |file: &[u8], recorded: Option<&[u8]>| {
            let file = RecordFile::Bytes(file.to_vec());
            requested(&file, recorded, Some(&pair), 2, &now, &|_| None)
        };
        assert_eq!(asked(QWEN, Some(QWEN)).status, S::Admitted);
        // Spelled in another way it is the same record.
        let compact = record::parse_value(QWEN).unwrap().to_string().into_bytes();
        assert_eq!(asked(&compact, Some(QWEN)).status, S::Admitted);
        let revoked = with("status", json!("revoked"));
        let other = with("approval_source", json!("approved by me"));
        for (file, recorded, text) in [
            (QWEN, None, "not on record"),
            (QWEN, Some(revoked.as_slice()), "(not_admitted: its status is"),
            (&other, Some(QWEN), "(admitted: approved by: JP"),
            (QWEN, Some(CODEX), "(mismatch: "),
            (QWEN, Some(b"{}".as_slice()), "(invalid_admission: "),
        ] {
            let found = asked(file, recorded);
            assert_eq!((found.status, found.record), (S::NotAdmitted, None));
            assert!(found.reason.contains(text), "{}", found.reason);
        }
        assert_eq!(asked(CODEX, Some(CODEX)).status, S::Mismatch);
        assert_eq!(asked(b"{", Some(QWEN)).status, S::InvalidAdmission);
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
