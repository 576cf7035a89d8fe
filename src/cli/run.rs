//! `admit run stage2 [FIXTURE]`: an admitted provider works on an artificial fixture, behind every gate.

use std::time::Duration;

use super::app::App;
use super::running::{self, Asked};
use crate::error::{Error, Reason, Result};
use crate::gate::{Engine, Flags, from_old_variables};
use crate::lock::Spec;
use crate::record::admission::ModelPair;
use crate::record::ids::Name;

/// Run an admitted provider on an artificial fixture, behind every gate, and seal the evidence
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The stage; only stage2 runs
    #[arg(value_name = "STAGE", value_parser = stage)]
    stage: u8,
    /// The fixture
    #[arg(value_name = "FIXTURE", default_value = "r1-string-slugify")]
    fixture: Name,
    /// The provider, as locked
    #[arg(long, value_name = "NAME[@REV]", default_value = "case")]
    provider: Spec,
    /// Who works: the admitted provider, or a fake that applies the reference patch (default: case)
    #[arg(long, value_enum)]
    engine: Option<EngineName>,
    /// The one model that is asked for; there is no default
    #[arg(long, value_name = "PROVIDER/MODEL")]
    model: Option<ModelPair>,
    /// The model's admission record, where it is not the root's own
    #[arg(long, value_name = "FILE")]
    admission_file: Option<String>,
    /// A binary that must have the recorded digest, in place of the store's
    #[arg(long, value_name = "FILE")]
    binary: Option<String>,
    /// The wall clock
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
    /// Stop after the gates, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Ask the model in a dry run too
    #[arg(long, requires = "dry_run")]
    probe: bool,
}

/// Who works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum EngineName {
    /// The admitted provider
    Case,
    /// The reference patch
    Fake,
}

fn stage(text: &str) -> Result<u8, String> {
    let number = text.strip_prefix("stage").unwrap_or(text);
    number.parse().map_err(|_| "a stage is written stage2".to_owned())
}

impl Args {
    /// A rehearsal of `provider` with the scripted model: it can never be a pass.
    pub(super) fn rehearsal(provider: Spec, fixture: Name, model: ModelPair) -> Self {
        Self {
            stage: 2,
            fixture,
            provider,
            engine: Some(EngineName::Case),
            model: Some(model),
            admission_file: None,
            binary: None,
            timeout: None,
            dry_run: false,
            probe: false,
        }
    }
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let engine = args.engine.map(|engine| match engine {
        EngineName::Case => Engine::Provider,
        EngineName::Fake => Engine::Fake,
    });
    let flags = Flags {
        stage: Some(args.stage),
        provider: Some(args.provider.provider.clone()),
        engine,
        model: args.model.clone(),
        admission_file: args.admission_file.clone(),
        binary: args.binary.clone(),
        timeout: args.timeout.map(Duration::from_secs),
    };
    let request = from_old_variables(&app.context.host.vars(), flags)?;
    if args.stage == 0 {
        return Err(Error::new(Reason::BadArgument, "there is no stage 0"));
    }
    running::run(
        app,
        &Asked {
            request,
            provider: args.provider.clone(),
            fixture: args.fixture.clone(),
            dry_run: args.dry_run,
            probe: args.probe || !args.dry_run,
            launcher: None,
        },
    )
}
