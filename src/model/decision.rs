//! What was decided about a class of providers, put on record. A decision is never changed.

use std::path::PathBuf;

use super::word;
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::record::admission::ModelId;
use crate::record::decision::{self, ClassDecision, DecisionStatus, ProviderClass};
use crate::record::ids::Name;
use crate::record::{self, Record as _};
use crate::secrets;

/// What was decided about a class of providers.
#[derive(Clone, Debug, clap::Args)]
pub struct Decide {
    /// Name of the record
    pub id: Name,
    /// What was decided
    #[arg(long, value_name = "STATUS",
          value_parser = ["not_decided", "external_provider_approved", "local_provider_required"])]
    pub status: String,
    /// About which class
    #[arg(long, value_name = "CLASS",
          value_parser = ["external_anthropic", "external_openai_codex", "local_case_compatible"])]
    pub provider_class: String,
    /// The provider meant
    #[arg(long, value_name = "NAME")]
    pub provider: Option<Name>,
    /// The model meant
    #[arg(long, value_name = "MODEL")]
    pub model: Option<ModelId>,
    /// Who decided, when and where
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub approval_source: String,
    /// Where credentials would come from
    #[arg(long, value_name = "CLASS", default_value = "")]
    pub credential_class: String,
    /// Which addresses would be allowed
    #[arg(long, value_name = "CLASS", default_value = "")]
    pub network_class: String,
    /// What makes the decision void
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub review_trigger: String,
    /// What the decision rests on; may be repeated
    #[arg(long = "evidence", value_name = "TEXT")]
    pub evidence: Vec<String>,
    /// What follows from it
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub effect: String,
}

#[derive(Debug)]
pub struct Decided {
    pub place: PathBuf,
    pub record: ClassDecision,
}

/// # Errors
/// [`Reason::BadArgument`] for a name that is taken; [`Reason::BadRecord`] for what is no decision.
pub fn decide(context: &Context, args: &Decide) -> Result<Decided> {
    let root = context.root()?;
    let path = format!("admissions/decisions/{}.json", args.id);
    if root.get(&path).is_some() {
        return Err(Error::new(Reason::BadArgument, "there is a decision with this name")
            .at(root.place(&path))
            .hint("a decision is never changed: record the next one under its own name"));
    }
    let record = ClassDecision {
        schema: ClassDecision::SCHEMA.to_string(),
        id: args.id.clone(),
        decision_timestamp: context.clock.now(),
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
    let place = context.put(&path, &bytes)?;
    Ok(Decided { place, record })
}
