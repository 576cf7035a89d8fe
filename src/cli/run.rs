//! `admit run stage2 [FIXTURE]`: an admitted provider works on an artificial fixture, behind every gate.

use std::time::Duration;

use serde_json::json;

use super::app::App;
use super::findings;
use crate::check::Engine;
use crate::error::Result;
use crate::evidence::{Sealed, names};
use crate::gate::Flags;
use crate::lock::Spec;
use crate::record::admission::ModelPair;
use crate::record::evidence::RunStatus;
use crate::record::ids::Name;
use crate::run::supervise::heed_signals;
use crate::run::{self, Options};
use crate::ui::{Mark, Ui};

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
    /// Exit 1 unless the run ends so: a rehearsal is not enough then
    #[arg(long, value_name = "STATUS", value_parser = ["pass"], conflicts_with = "dry_run")]
    require: Option<String>,
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
            require: None,
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
    heed_signals(&app.context.stop)?;
    let outcome = run::run(
        &app.context,
        &Options {
            dry_run: args.dry_run,
            probe: args.probe || !args.dry_run,
            require_pass: args.require.is_some(),
            ..Options::asked(
                &app.context.host.vars(),
                flags,
                args.provider.clone(),
                args.fixture.clone(),
            )
        },
    )?;
    findings::show(&app.ui, &outcome.decision.findings);
    match &outcome.sealed {
        Some(sealed) => show(&app.ui, sealed, args.require.is_some()),
        None => app.ui.json(&json!({
            "schema": "admit.dry-run/2", "holds": outcome.decision.holds_as_far_as_asked(),
            "case_process_started": false, "probed": args.probe,
            "gates": outcome.decision.findings, "exit_code": outcome.code,
        })),
    }
    Ok(outcome.code)
}

/// The answer of a run, its id last.
fn show(ui: &Ui, sealed: &Sealed, require_pass: bool) {
    let report = &sealed.report;
    let mark = match report.status {
        RunStatus::Pass => Mark::Good,
        RunStatus::Rehearsed if !require_pass => Mark::Note,
        _ => Mark::Bad,
    };
    let status = report.status.as_str();
    ui.row(mark, "status", report.failure_reason.as_deref().unwrap_or(status));
    if report.failure_class.is_some() {
        ui.detail("status", status);
    }
    if require_pass && report.status == RunStatus::Rehearsed {
        ui.detail("expected", "pass, as --require asks");
        ui.detail("found", &format!("rehearsed: {}", report.evidence_class.as_str()));
    }
    for blocker in &report.blockers {
        ui.detail("blocker", blocker);
    }
    ui.row(Mark::Note, "evidence", &sealed.directory.display().to_string());
    ui.row(Mark::Note, "report", &sealed.directory.join(names::REPORT_HTML).display().to_string());
    ui.line(&sealed.id.to_string());
    ui.json(&json!({
        "schema": "admit.run/2", "id": sealed.id, "directory": sealed.directory,
        "report": report,
    }));
}
