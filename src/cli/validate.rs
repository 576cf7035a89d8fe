//! `admit validate SET`: a focused set of the validators.

use super::app::App;
use super::findings::Shown;
use super::health;
use crate::error::Result;
use crate::health::{Validator, all};

/// Run a focused set of the validators of `admit health`
///
/// provider-adapter: everything about how provider and model are connected. What must go through: the local model
/// under the runtime provider openai, content that comes after reasoning, a provider that lingers after good work. What
/// must not: a missing or other binary, a source that is not admitted, another argument list, no model or one that
/// nobody admitted, missing credentials, bridge or endpoint, an endpoint outside of its network class, each way in which
/// a server can answer badly, silence, and replies without a result. Left out is what does not touch the adapter: lock,
/// licence, task, sandbox, and the judge.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The set
    #[arg(value_enum)]
    set: Set,
    #[command(flatten)]
    shown: Shown,
}

/// A set of validators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Set {
    /// How provider and model are connected
    ProviderAdapter,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let (name, chosen): (_, Vec<&Validator>) = match args.set {
        Set::ProviderAdapter => ("provider-adapter", all().filter(|v| v.adapter).collect()),
    };
    health::show(app, (name, &chosen), None, args.shown, None)
}
