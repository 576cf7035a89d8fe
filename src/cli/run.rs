//! `admit run stage2 [FIXTURE]`: an admitted provider works on an artificial fixture, behind every gate.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::app::App;
use super::findings::{self, Shown};
use crate::check::Engine;
use crate::error::{Error, Reason, Result};
use crate::evidence::{self, Sealed, names};
use crate::explain;
use crate::gate::Flags;
use crate::lock::Spec;
use crate::record::admission::ModelPair;
use crate::record::evidence::RunStatus;
use crate::record::finding::Finding;
use crate::record::ids::Name;
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
    #[arg(long, value_name = "PROVIDER[@COMMIT]", default_value = "case")]
    provider: Spec,
    /// Who works: the admitted provider, or a fake that applies the reference patch (default: case)
    #[arg(long, value_enum)]
    engine: Option<Engine>,
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
    /// Also put a copy of the sealed run directory here; it must not be there yet
    #[arg(long, value_name = "DIR", conflicts_with = "dry_run")]
    out: Option<PathBuf>,
    #[command(flatten)]
    shown: Shown,
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
            engine: Some(Engine::Provider),
            model: Some(model),
            admission_file: None,
            binary: None,
            timeout: None,
            dry_run: false,
            probe: false,
            require: None,
            out: None,
            shown: Shown::default(),
        }
    }
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let flags = Flags {
        stage: Some(args.stage),
        provider: Some(args.provider.provider.clone()),
        engine: args.engine,
        model: args.model.clone(),
        admission_file: args.admission_file.clone(),
        binary: args.binary.clone(),
        timeout: args.timeout.map(Duration::from_secs),
    };
    let out = args.out.as_ref().map(|dir| app.context.host.absolute(dir));
    // Said before minutes of work, not after them.
    if let Some(dir) = out.as_ref().filter(|dir| dir.symlink_metadata().is_ok()) {
        return Err(Error::new(Reason::BadArgument, "the place of --out is taken")
            .at(dir.display().to_string())
            .hint("name a directory that is not there yet"));
    }
    app.heed_signals()?;
    let outcome = run::run(
        &app.context,
        &Options {
            dry_run: args.dry_run,
            probe: args.probe,
            require_pass: args.require.is_some(),
            ..Options::asked(
                &app.context.host.vars(),
                flags,
                args.provider.clone(),
                args.fixture.clone(),
            )
        },
    )?;
    app.ui.finish();
    let findings = &outcome.decision.findings;
    if let (Some(dir), Some(sealed)) = (&out, &outcome.sealed) {
        evidence::copy(&sealed.directory, dir)?;
    }
    match &outcome.sealed {
        Some(sealed) => show(&app.ui, sealed, findings, args.shown, args.require.is_some()),
        None => {
            let holds = outcome.decision.holds_as_far_as_asked();
            app.ui.json(&json!({
                "schema": "admit.dry-run/2", "holds": holds, "case_process_started": false,
                "probed": args.probe, "gates": findings, "exit_code": outcome.code,
            }));
            let (mark, word, text) = match holds {
                true => (Mark::Good, "would start", "every check that was asked for holds"),
                false => (Mark::Bad, "would not start", "a check says no"),
            };
            app.ui.verdict(mark, word, text);
            findings::show(&app.ui, findings, args.shown);
            let counts = findings::counts(findings);
            app.ui.verdict(
                mark,
                word,
                &format!("{counts}; this was a dry run, nothing was started"),
            );
        }
    }
    Ok(outcome.code)
}

/// The answer of a run, its status first and last.
fn show(ui: &Ui, sealed: &Sealed, findings: &[Finding], shown: Shown, require_pass: bool) {
    let report = &sealed.report;
    let enough = !require_pass || report.status == RunStatus::Pass;
    let mark = if enough { mark(report.status) } else { Mark::Bad };
    let status = report.status.as_str();
    let counts = findings::counts(findings);
    let mut first = match (report.status, &report.failure_reason) {
        (RunStatus::Blocked, _) => format!("{}: nothing was started", report.fixture),
        (_, Some(reason)) => format!("{}: {reason}", report.fixture),
        (RunStatus::Rehearsed, None) => {
            format!(
                "{}: all held, with a stand-in for the real thing (never a pass)",
                report.fixture
            )
        }
        (_, None) => format!("{}: the work is done and every check held", report.fixture),
    };
    for said in evidence::aside(report) {
        first.push_str(&format!(" ({said})"));
    }
    ui.verdict(mark, status, &first);
    findings::show(ui, findings, shown);
    // What a check refused stands above.
    if report.status != RunStatus::Blocked || !findings.iter().any(Finding::is_failed) {
        report.blockers.iter().for_each(|blocker| ui.value("why", blocker));
    }
    if require_pass && report.status == RunStatus::Rehearsed {
        let class = report.evidence_class.as_str();
        ui.value("why", &format!("--require asks for a pass, and this is rehearsed ({class})"));
    }
    if let Some(class) = report.failure_class.filter(|_| report.status != RunStatus::Blocked) {
        ui.value("do", explain::class(class).1);
    }
    ui.value("id", &sealed.id.to_string());
    ui.value("report", &sealed.directory.join(names::REPORT_HTML).display().to_string());
    if matches!(report.status, RunStatus::Pass | RunStatus::Rehearsed) {
        let accept = if report.status == RunStatus::Pass { "" } else { " --accept rehearsed" };
        ui.value("next", &format!("admit show latest; admit verify latest{accept}"));
    }
    let last = match (&report.failure_reason, report.status, report.failure_class) {
        (Some(reason), RunStatus::Blocked, _) => {
            let causes = findings.iter().filter(|finding| finding.is_failed());
            match causes.map(|finding| finding.id.as_str()).collect::<Vec<_>>() {
                causes if causes.is_empty() => format!("{reason} ({counts})"),
                causes => {
                    let passed = findings.iter().filter(|finding| !finding.is_failed());
                    let counts = findings::counts(&passed.cloned().collect::<Vec<_>>());
                    format!("by {} ({counts})", causes.join(" and "))
                }
            }
        }
        (_, RunStatus::Fail, Some(class)) => {
            format!("{} (admit explain {0}); {counts} before the start", class.as_str())
        }
        _ => format!("{counts} before the start"),
    };
    ui.verdict(mark, status, &last);
    ui.json(&run::answer(sealed));
}

pub(super) fn mark(status: RunStatus) -> Mark {
    match status {
        RunStatus::Pass => Mark::Good,
        RunStatus::Rehearsed => Mark::Note,
        RunStatus::Blocked | RunStatus::Fail => Mark::Bad,
    }
}
