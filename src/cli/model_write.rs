//! `admit model add` and `admit model decide`: records of what people approved and decided. Nothing is written unless
//! it reads back as meant. `admit model add --probe` asks the endpoint, writes nothing and proposes what can be typed.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::App;
use super::findings::{self, Shown};
use crate::check::gather::model::{ENDPOINT_VARIABLE, Sources, undefined};
use crate::check::survey::survey;
use crate::download::config::NetConfig;
use crate::error::{Error, Kind, Reason, Result};
use crate::host;
use crate::proxy::account;
use crate::proxy::survey::Offer;
use crate::record::admission::{
    self, AdmissionStatus, Api, CredentialClass, ModelAdmission, ModelId, ModelKind, ModelPair,
    RecordFile,
};
use crate::record::credential::Credential;
use crate::record::decision::{self, Decision, DecisionStatus, ProviderClass};
use crate::record::ids::{Name, Timestamp};
use crate::record::network::Network;
use crate::record::wire::ReplyClass;
use crate::record::{self, Record};
use crate::root::Root;
use crate::secrets;
use crate::ui::Mark;

/// What most agents know an endpoint of one's own as.
const RUNTIME_PROVIDER: &str = "openai";

/// Record an approval
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// The pair, for example qwen-local/qwen3.6-35b-a3b
    #[arg(value_name = "PROVIDER/MODEL")]
    pair: ModelPair,
    /// Who approved it, when and where
    #[arg(long, value_name = "TEXT", required_unless_present = "probe")]
    approval_source: Option<String>,
    /// What makes the approval void
    #[arg(long, value_name = "TEXT", required_unless_present = "probe")]
    review_trigger: Option<String>,
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
    #[arg(long, value_name = "NAME", default_value = RUNTIME_PROVIDER)]
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
    /// Record nothing: ask the endpoint over each wire API, or over that of --api, and propose what to record
    #[arg(long, conflicts_with = "scripted")]
    probe: bool,
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

/// The record that the arguments mean.
fn meant(app: &App, args: &Add) -> Result<ModelAdmission> {
    Ok(ModelAdmission {
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
        approval_source: args.approval_source.clone().unwrap_or_default(),
        admission_timestamp: app.context.clock.now(),
        review_trigger: args.review_trigger.clone().unwrap_or_default(),
        evidence_expectations: args.expectations.clone(),
        stages: vec![2],
        expires: args.expires.clone(),
    })
}

pub(super) fn add(app: &App, args: &Add) -> Result<u8> {
    let root = app.context.root()?;
    let path = args.pair.path();
    let recorded = root.get(&path).is_some();
    if recorded && !args.replace && !args.probe {
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
    let record = meant(app, args)?;
    if args.probe {
        return look(app, args, &root, &record, recorded);
    }
    let bytes = record::pretty(&record);
    let file = RecordFile::Bytes(bytes.clone());
    let now = &record.admission_timestamp;
    let found = admission::status(&file, Some(&args.pair), 2, now, &secrets::rule_of);
    if found.status != AdmissionStatus::Admitted {
        return Err(Error::new(Reason::BadRecord, "the record would not admit the pair")
            .expected("admitted")
            .found(format!("{}: {}", found.status.as_str(), found.reason)));
    }
    let place = app.context.put(&path, &bytes)?;
    let pair = &args.pair;
    let first = format!("{pair}, in the network {}", args.network);
    app.ui.verdict(Mark::Good, "admitted", &first);
    app.ui.value("record", &place.display().to_string());
    app.ui.verdict(Mark::Good, "admitted", &format!("admit model check {pair}, or run with it"));
    app.ui.json(&json!({ "schema": "admit.model-added/1", "file": place, "record": record }));
    Ok(0)
}

/// Asks the endpoint, and proposes.
fn look(app: &App, args: &Add, root: &Root, record: &ModelAdmission, recorded: bool) -> Result<u8> {
    app.heed_signals()?;
    let vars = app.context.host.vars();
    let sources = Sources {
        root,
        now: &record.admission_timestamp,
        net: &NetConfig::from_env(&vars),
        vars: &vars,
        pair: Some(&args.pair),
        admission_file: None,
        stage: 2,
        bridge_claimed: false,
        endpoint: vars.get(ENDPOINT_VARIABLE).map(String::as_str).filter(|text| !text.is_empty()),
        script: None,
    };
    let apis = match record.api {
        Some(api) => vec![api],
        // How an account is served is not found where none was given.
        None => {
            let account = matches!(record.credential, Some(Credential::Helper { .. }));
            let all = Api::ALL.into_iter();
            all.filter(|api| account || *api != Api::OpenaiCodexResponses).collect()
        }
    };
    let found = survey(&sources, record, &apis, &app.context.stop)?;
    app.ui.finish();
    let best = found.best();
    let proposal = best.map(|offer| proposal(args, offer, recorded));
    let code = if proposal.is_some() { 0 } else { Kind::Refused.exit_code() };
    let first = match best {
        Some(offer) => format!("{} over {}; nothing is recorded", args.pair, offer.api.as_str()),
        None if found.offers.is_empty() => "nothing was sent, and nothing is recorded".into(),
        None => format!("{} over none of these; nothing is recorded", args.pair),
    };
    let (mark, word) = match best {
        Some(_) => (Mark::Good, "answers"),
        None if found.offers.is_empty() => (Mark::Bad, "not asked"),
        None => (Mark::Bad, "does not answer"),
    };
    app.ui.verdict(mark, word, &first);
    findings::show(&app.ui, &found.checks, Shown::default());
    for offer in &found.offers {
        let mark = if offer.answers() { Mark::Good } else { Mark::Note };
        app.ui.row(mark, offer.api.as_str(), &words(offer));
    }
    // Not broken at the width, so that it can be copied.
    proposal.iter().for_each(|command| app.ui.line(&format!("  {command}")));
    let last = match best {
        Some(_) => {
            "to record it, put in who approved it and what voids that, and type the command above"
        }
        None if found.offers.is_empty() => "mend what failed, and ask again",
        None => "look at the model's server, or name another API: --api",
    };
    app.ui.verdict(mark, word, last);
    app.ui.json(&json!({
        "schema": "admit.model-probe/2", "pair": args.pair.to_string(), "checks": found.checks,
        "apis": found.offers, "proposal": proposal, "exit_code": code,
    }));
    Ok(code)
}

/// What was found of an API, in words.
fn words(offer: &Offer) -> String {
    let mut out = Vec::new();
    match offer.listed {
        Some(true) => out.push("listed".to_owned()),
        Some(false) if offer.others.is_empty() => out.push("not listed".into()),
        Some(false) => {
            let others: Vec<&str> = offer.others.iter().map(ModelId::as_str).collect();
            out.push(format!("not listed; it lists {}", others.join(", ")));
        }
        None => {}
    }
    if let Some(name) = &offer.secret_seen {
        out.push(format!("a reply held a secret: {name}"));
    }
    match &offer.answer {
        Some(answer) if offer.answers() => {
            out.push(
                if answer.class == ReplyClass::OkTools { "a tool call" } else { "content" }.into(),
            );
        }
        Some(answer) => out.push(format!("{}: {}", record::word(&answer.class), answer.detail)),
        None => {}
    }
    if !offer.reasoning.is_empty() {
        let fields: Vec<String> = offer.reasoning.iter().map(record::word).collect();
        out.push(format!("reasons ({})", fields.join(", ")));
    }
    if let Some(verdict) = offer.as_reasoning.as_ref().filter(|_| !offer.reasons()) {
        let (class, detail) = (record::word(&verdict.class), &verdict.detail);
        out.push(format!("asked as a model that reasons, {class}: {detail}"));
    }
    match &offer.tools {
        Some(_) if offer.calls() => out.push("tool calls whole".into()),
        Some(tools) if tools.class == ReplyClass::OkText => {
            out.push("a tool was offered, and it answered in text".into());
        }
        Some(tools) => {
            out.push(format!("offered a tool, {}: {}", record::word(&tools.class), tools.detail));
        }
        None => {}
    }
    if let Some(tokens) = offer.context_window {
        out.push(format!("{tokens} tokens of context"));
    }
    out.join("; ")
}

/// The command that records it.
fn proposal(args: &Add, offer: &Offer, recorded: bool) -> String {
    let mut out: Vec<String> = ["admit", "model", "add"].map(str::to_owned).into();
    out.push(host::quoted(&args.pair.to_string()));
    let mut flag = |name: &str, value: Option<String>| {
        out.extend(value.map(|value| format!("--{name} {}", host::quoted(&value))));
    };
    flag("api", Some(offer.api.as_str().into()));
    flag("network", Some(args.network.to_string()));
    flag("credential", Some(args.credential.clone()));
    flag("helper", args.helper.as_ref().map(|path| path.display().to_string()));
    args.helper_arg.iter().for_each(|arg| flag("helper-arg", Some(arg.clone())));
    flag("helper-timeout", args.helper_timeout.map(|n| n.to_string()));
    flag("context-window", args.context_window.or(offer.context_window).map(|n| n.to_string()));
    flag("max-tokens", args.max_tokens.map(|n| n.to_string()));
    args.headers.iter().for_each(|(name, value)| flag("header", Some(format!("{name}={value}"))));
    let runtime = args.runtime_provider.to_string();
    flag("runtime-provider", Some(runtime).filter(|name| name != RUNTIME_PROVIDER));
    args.expectations.iter().for_each(|text| flag("expect", Some(text.clone())));
    flag("expires", args.expires.as_ref().map(ToString::to_string));
    let or = |text: &Option<String>, words: &str| Some(text.clone().unwrap_or(words.into()));
    flag("approval-source", or(&args.approval_source, "who, when, where"));
    flag("review-trigger", or(&args.review_trigger, "what makes it void"));
    out.extend((args.reasoning || offer.reasons()).then(|| "--reasoning".into()));
    out.extend((args.replace || recorded).then(|| "--replace".into()));
    out.join(" ")
}

fn word<T: DeserializeOwned>(text: &str) -> Result<T> {
    record::of_word(text).map_err(|err| {
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
    let place = app.context.put(&path, &bytes)?;
    app.ui.verdict(Mark::Good, "recorded", &format!("{}: {}", args.id, args.status));
    app.ui.verdict(Mark::Good, "recorded", &place.display().to_string());
    app.ui.json(&json!({ "schema": "admit.decided/1", "file": place, "record": record }));
    Ok(0)
}
