//! `admit model add` and `admit model decide`: records of what people approved and decided. Nothing is written unless
//! it reads back as meant.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use serde_json::json;

use super::App;
use crate::check::gather::model::undefined;
use crate::error::{Error, Reason, Result};
use crate::proxy::account;
use crate::record::admission::{
    self, AdmissionStatus, Api, CredentialClass, ModelAdmission, ModelId, ModelKind, ModelPair,
    RecordFile,
};
use crate::record::credential::Credential;
use crate::record::decision::{self, Decision, DecisionStatus, ProviderClass};
use crate::record::ids::{Name, RelPath, Timestamp};
use crate::record::network::Network;
use crate::record::{self, Record};
use crate::secrets;
use crate::ui::Mark;

/// Record an approval
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// The pair, for example qwen-local/qwen3.6-35b-a3b
    #[arg(value_name = "PROVIDER/MODEL")]
    pair: ModelPair,
    /// Who approved it, when and where
    #[arg(long, value_name = "TEXT")]
    approval_source: String,
    /// What makes the approval void
    #[arg(long, value_name = "TEXT")]
    review_trigger: String,
    /// With which key or account it is asked: none, key (ADMIT_MODEL_KEY or ADMIT_MODEL_KEY_FILE), helper (a program on this
    /// machine that gives a token), or one of the words of older records
    #[arg(long, alias = "credential-class", value_name = "KIND", value_parser = credentials())]
    credential: String,
    /// The program that gives a token, for --credential helper
    #[arg(long, value_name = "PROGRAM")]
    helper: Option<PathBuf>,
    /// An argument of that program; may be repeated
    #[arg(long, value_name = "TEXT", requires = "helper", allow_hyphen_values = true)]
    helper_arg: Vec<String>,
    /// Seconds in which it must have answered, 30 where not given
    #[arg(long, value_name = "SECONDS", requires = "helper")]
    helper_timeout: Option<u16>,
    /// The network that its endpoint must lie in
    #[arg(long, alias = "network-class", value_name = "NAME")]
    network: Name,
    /// How it is spoken to
    #[arg(long, value_name = "API", value_parser = Api::ALL.map(Api::as_str))]
    api: Option<String>,
    /// Tokens that prompt and reply may have together, as the agent is told
    #[arg(long, value_name = "TOKENS")]
    context_window: Option<u32>,
    /// Tokens that a reply may have, as the agent is told
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u32>,
    /// The agent treats it as a model that reasons
    #[arg(long)]
    reasoning: bool,
    /// A header that its server wants with every request and that is no secret; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The provider's name in the agent's own configuration
    #[arg(long, value_name = "NAME", default_value = "openai")]
    runtime_provider: Name,
    /// Replies written beforehand stand in for a model
    #[arg(long)]
    scripted: bool,
    /// What a run has to leave behind; may be repeated
    #[arg(long = "expect", value_name = "TEXT")]
    expectations: Vec<String>,
    /// The moment or day from which it no longer admits
    #[arg(long, value_name = "TIME")]
    expires: Option<Timestamp>,
    /// Replace a record that is there
    #[arg(long)]
    replace: bool,
}

/// Record what was decided about a class of providers
#[derive(Debug, clap::Args)]
pub(super) struct Decide {
    /// Name of the record
    id: Name,
    /// What was decided
    #[arg(long, value_name = "STATUS",
          value_parser = ["not_decided", "external_provider_approved", "local_provider_required"])]
    status: String,
    /// About which class
    #[arg(long, value_name = "CLASS",
          value_parser = ["external_anthropic", "external_openai_codex", "local_case_compatible"])]
    provider_class: String,
    /// The provider meant
    #[arg(long, value_name = "NAME")]
    provider: Option<Name>,
    /// The model meant
    #[arg(long, value_name = "MODEL")]
    model: Option<ModelId>,
    /// Who decided, when and where
    #[arg(long, value_name = "TEXT", default_value = "")]
    approval_source: String,
    /// Where credentials would come from
    #[arg(long, value_name = "CLASS", default_value = "")]
    credential_class: String,
    /// Which addresses would be allowed
    #[arg(long, value_name = "CLASS", default_value = "")]
    network_class: String,
    /// What makes the decision void
    #[arg(long, value_name = "TEXT", default_value = "")]
    review_trigger: String,
    /// What the decision rests on; may be repeated
    #[arg(long = "evidence", value_name = "TEXT")]
    evidence: Vec<String>,
    /// What follows from it
    #[arg(long, value_name = "TEXT", default_value = "")]
    effect: String,
}

fn credentials() -> clap::builder::PossibleValuesParser {
    let older = CredentialClass::ALL.map(|class| PossibleValue::new(class.as_str()).hide(true));
    let kinds = ["none", "key", "helper"].map(PossibleValue::new);
    kinds.into_iter().chain(older).collect::<Vec<_>>().into()
}

fn header(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let (name, value) = (name.to_ascii_lowercase(), value.to_owned());
    admission::check_header(&name, &value)?;
    Ok((name, value))
}

/// The credential of the arguments, whose word [`credentials`] let through.
fn credential(app: &App, args: &Add) -> Result<Credential> {
    let word = args.credential.as_str();
    let bad = |what: &str, hint: &str| Error::new(Reason::BadArgument, what).hint(hint);
    match (&args.helper, word) {
        (Some(program), "helper") => {
            let program = app.context.host.absolute(program);
            let sha256 = account::examine(&program)?;
            let program = program.display().to_string().parse().map_err(|err| {
                Error::new(Reason::BadArgument, "the credential helper's path").caused_by(err)
            })?;
            Ok(Credential::Helper {
                program,
                sha256,
                arguments: args.helper_arg.clone(),
                timeout_seconds: args.helper_timeout,
            })
        }
        (None, "helper") => {
            Err(bad("a credential helper without a program", "name it: --helper PROGRAM"))
        }
        (Some(_), _) => Err(bad("a helper for another credential", "add --credential helper")),
        (None, _) => {
            let secret = CredentialClass::from_text(word).map(CredentialClass::needs_secret);
            Ok(match secret.unwrap_or(word == "key") {
                true => Credential::Key {},
                false => Credential::None {},
            })
        }
    }
}

/// Writes a record of the root.
pub(super) fn put(app: &App, path: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path: RelPath =
        path.parse().map_err(|err| Error::new(Reason::BadArgument, "the name").caused_by(err))?;
    app.context.write_root(|root| root.put(&path, bytes))
}

pub(super) fn add(app: &App, args: &Add) -> Result<u8> {
    let root = app.context.root()?;
    let path = args.pair.path();
    if root.get(&path).is_some() && !args.replace {
        return Err(Error::new(Reason::BadArgument, "there is a record for this pair")
            .at(root.place(&path))
            .hint(format!(
                "to see it: admit model show {}; to replace it, add --replace",
                args.pair
            )));
    }
    if Network::named(args.network.as_str(), &root.config().network).is_none() {
        return Err(undefined(Reason::BadArgument, args.network.as_str(), &root));
    }
    let now = app.context.clock.now();
    let record = ModelAdmission {
        schema: ModelAdmission::SCHEMA.to_string(),
        status: admission::ADMITTED.into(),
        provider: args.pair.provider.clone(),
        model: args.pair.model.clone(),
        kind: if args.scripted { ModelKind::Scripted } else { ModelKind::Served },
        runtime_provider: args.runtime_provider.clone(),
        credential_source_class: None,
        allowed_network_class: None,
        network: Some(args.network.clone()),
        credential: Some(credential(app, args)?),
        api: args.api.as_deref().map(word).transpose()?,
        context_window: args.context_window,
        max_tokens: args.max_tokens,
        reasoning: args.reasoning.then_some(true),
        headers: args.headers.iter().cloned().collect(),
        approval_source: args.approval_source.clone(),
        admission_timestamp: now.clone(),
        review_trigger: args.review_trigger.clone(),
        evidence_expectations: args.expectations.clone(),
        stages: vec![2],
        expires: args.expires.clone(),
    };
    let bytes = record::pretty(&record);
    let file = RecordFile::Bytes(bytes.clone());
    let found = admission::status(&file, Some(&args.pair), 2, &now, &secrets::rule_of);
    if found.status != AdmissionStatus::Admitted {
        return Err(Error::new(Reason::BadRecord, "the record would not admit the pair")
            .expected("admitted")
            .found(format!("{}: {}", found.status.as_str(), found.reason)));
    }
    let place = put(app, &path, &bytes)?;
    let pair = &args.pair;
    let first = format!("{pair}, in the network {}", args.network);
    app.ui.verdict(Mark::Good, "admitted", &first);
    app.ui.value("record", &place.display().to_string());
    app.ui.verdict(Mark::Good, "admitted", &format!("admit model check {pair}, or run with it"));
    app.ui.json(&json!({ "schema": "admit.model-added/1", "file": place, "record": record }));
    Ok(0)
}

fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_value(text.into()).map_err(|err| {
        Error::new(Reason::BadArgument, "an unknown word").found(text).caused_by(err)
    })
}

pub(super) fn decide(app: &App, args: &Decide) -> Result<u8> {
    let root = app.context.root()?;
    let path = format!("admissions/decisions/{}.json", args.id);
    if root.get(&path).is_some() {
        return Err(Error::new(Reason::BadArgument, "there is a decision with this name")
            .at(root.place(&path))
            .hint("a decision is never changed: record the next one under its own name"));
    }
    let record = Decision {
        schema: Decision::SCHEMA.to_string(),
        id: args.id.clone(),
        decision_timestamp: app.context.clock.now(),
        decision_status: word::<DecisionStatus>(&args.status)?,
        provider_class: word::<ProviderClass>(&args.provider_class)?,
        provider: args.provider.clone(),
        model: args.model.clone(),
        approval_source: args.approval_source.clone(),
        credential_source_class: args.credential_class.clone(),
        allowed_network_class: args.network_class.clone(),
        review_trigger: args.review_trigger.clone(),
        evidence_sources: args.evidence.clone(),
        effect: args.effect.clone(),
    };
    let bytes = record::pretty(&record);
    decision::parse(&bytes, &secrets::rule_of).map_err(|err| {
        Error::new(Reason::BadRecord, "the decision cannot be recorded").found(err.to_string())
    })?;
    let place = put(app, &path, &bytes)?;
    app.ui.verdict(Mark::Good, "recorded", &format!("{}: {}", args.id, args.status));
    app.ui.verdict(Mark::Good, "recorded", &place.display().to_string());
    app.ui.json(&json!({ "schema": "admit.decided/1", "file": place, "record": record }));
    Ok(0)
}
