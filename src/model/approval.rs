//! An approval put on record, and the look at an endpoint that nobody approved yet, which records nothing and proposes what
//! can be typed.

use std::path::PathBuf;

use clap::builder::PossibleValue;

use super::{STAGE, must_admit};
use crate::check::gather::model::{ENDPOINT_VARIABLE, Sources, undefined};
use crate::check::survey::{Survey, survey};
use crate::context::Context;
use crate::download::config::NetConfig;
use crate::error::{Error, Kind, Reason, Result};
use crate::host::{self, Host};
use crate::proxy::account;
use crate::proxy::survey::Offer;
use crate::record::admission::{self, Api, CredentialClass, ModelAdmission, ModelKind, ModelPair};
use crate::record::credential::Credential;
use crate::record::ids::{Name, Timestamp};
use crate::record::network::Network;
use crate::record::{self, Record as _};
use crate::root::Root;

/// What most agents know an endpoint of one's own as.
const RUNTIME_PROVIDER: &str = "openai";

/// An approval to record.
#[derive(Clone, Debug, clap::Args)]
pub struct Add {
    /// The pair, for example qwen-local/qwen3.6-35b-a3b
    #[arg(value_name = "PROVIDER/MODEL")]
    pub pair: ModelPair,
    /// Who approved it, when and where
    #[arg(long, value_name = "TEXT", required_unless_present = "probe")]
    pub approval_source: Option<String>,
    /// What makes the approval void
    #[arg(long, value_name = "TEXT", required_unless_present = "probe")]
    pub review_trigger: Option<String>,
    /// With which key or account it is asked: none, key (ADMIT_MODEL_KEY or ADMIT_MODEL_KEY_FILE), helper (a program on this
    /// machine that gives a token), or one of the words of older records
    #[arg(long, alias = "credential-class", value_name = "KIND", value_parser = credentials())]
    pub credential: String,
    /// The program that gives a token, for --credential helper
    #[arg(long, value_name = "PROGRAM")]
    pub helper: Option<PathBuf>,
    /// An argument of that program; may be repeated
    #[arg(long, value_name = "TEXT", requires = "helper", allow_hyphen_values = true)]
    pub helper_arg: Vec<String>,
    /// Seconds in which it must have answered, 30 where not given
    #[arg(long, value_name = "SECONDS", requires = "helper")]
    pub helper_timeout: Option<u16>,
    /// The network that its endpoint must lie in
    #[arg(long, alias = "network-class", value_name = "NAME")]
    pub network: Name,
    /// How it is spoken to
    #[arg(long, value_name = "API", value_parser = Api::ALL.map(Api::as_str))]
    pub api: Option<String>,
    /// Tokens that prompt and reply may have together, as the agent is told
    #[arg(long, value_name = "TOKENS")]
    pub context_window: Option<u32>,
    /// Tokens that a reply may have, as the agent is told
    #[arg(long, value_name = "TOKENS")]
    pub max_tokens: Option<u32>,
    /// The agent treats it as a model that reasons
    #[arg(long)]
    pub reasoning: bool,
    /// A header that its server wants with every request and that is no secret; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The provider's name in the agent's own configuration
    #[arg(long, value_name = "NAME", default_value = RUNTIME_PROVIDER)]
    pub runtime_provider: Name,
    /// Replies written beforehand stand in for a model
    #[arg(long)]
    pub scripted: bool,
    /// What a run has to leave behind; may be repeated
    #[arg(long = "expect", value_name = "TEXT")]
    pub expectations: Vec<String>,
    /// The moment or day from which it no longer admits
    #[arg(long, value_name = "TIME")]
    pub expires: Option<Timestamp>,
    /// Replace a record that is there
    #[arg(long)]
    pub replace: bool,
    /// Record nothing: ask the endpoint over each wire API, or over that of --api, and propose what to record
    #[arg(long, conflicts_with = "scripted")]
    pub probe: bool,
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

#[derive(Debug)]
pub struct Added {
    pub place: PathBuf,
    pub record: ModelAdmission,
}

#[derive(Debug)]
pub struct Probed {
    pub found: Survey,
    /// The command that records it; `None` where nothing answers.
    pub proposal: Option<String>,
}

impl Probed {
    pub fn exit_code(&self) -> u8 {
        if self.proposal.is_some() { 0 } else { Kind::Refused.exit_code() }
    }
}

/// # Errors
/// [`Reason::BadArgument`] where there is a record already, or no such network; [`Reason::BadRecord`] for one that would admit
/// nothing.
pub fn add(context: &Context, args: &Add) -> Result<Added> {
    let root = context.root()?;
    let (pair, path) = (&args.pair, args.pair.path());
    if root.get(&path).is_some() && !args.replace {
        return Err(Error::new(Reason::BadArgument, "there is a record for this pair")
            .at(root.place(&path))
            .hint(format!("to see it: admit model show {pair}; to replace it, add --replace")));
    }
    let record = proposed(context, &root, args)?;
    let bytes = record::pretty(&record);
    must_admit(&bytes, pair, &record.admission_timestamp)?;
    let place = context.put(&path, &bytes)?;
    Ok(Added { place, record })
}

/// Asks the endpoint over each wire API, or over that of `args`, and proposes what to record.
pub fn probe(context: &Context, args: &Add) -> Result<Probed> {
    let root = context.root()?;
    let record = proposed(context, &root, args)?;
    let vars = context.host.vars();
    let sources = Sources {
        root: &root,
        now: &record.admission_timestamp,
        net: &NetConfig::from_env(&vars),
        vars: &vars,
        pair: Some(&args.pair),
        admission_file: None,
        stage: STAGE,
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
    let found = survey(&sources, &record, &apis, &context.stop)?;
    let recorded = root.get(&args.pair.path()).is_some();
    let proposal = found.best().map(|offer| proposal(args, offer, recorded));
    Ok(Probed { found, proposal })
}

/// The record that the arguments mean, whose network must be one of the root's.
fn proposed(context: &Context, root: &Root, args: &Add) -> Result<ModelAdmission> {
    let network = args.network.as_str();
    if Network::named(network, &root.config().network).is_none() {
        return Err(undefined(Reason::BadArgument, network, root));
    }
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
        credential: Some(credential(&context.host, args)?),
        api: args.api.as_deref().map(super::word).transpose()?,
        context_window: args.context_window,
        max_tokens: args.max_tokens,
        reasoning: args.reasoning.then_some(true),
        headers: args.headers.iter().cloned().collect(),
        approval_source: args.approval_source.clone().unwrap_or_default(),
        admission_timestamp: context.clock.now(),
        review_trigger: args.review_trigger.clone().unwrap_or_default(),
        evidence_expectations: args.expectations.clone(),
        stages: vec![STAGE],
        expires: args.expires.clone(),
    })
}

/// The credential of the arguments, whose word [`credentials`] let through.
fn credential(host: &Host, args: &Add) -> Result<Credential> {
    let word = args.credential.as_str();
    let bad = |what: &str, hint: &str| Error::new(Reason::BadArgument, what).hint(hint);
    match (&args.helper, word) {
        (Some(program), "helper") => {
            let program = host.absolute(program);
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
