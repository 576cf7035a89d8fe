//! `admit demo`: the main job with the embedded stand-in provider, from nothing to a sealed rehearsal.

use std::fmt::Display;
use std::str::FromStr;

use super::app::App;
use super::findings::{self, Shown};
use super::run;
use crate::build::{self, Options};
use crate::error::{Error, Reason, Result};
use crate::lock::{self, Spec};
use crate::record::admission::ModelPair;
use crate::record::ids::Name;
use crate::ui::Mark;
use crate::verify;

/// The stand-in provider, the fixture, and the model whose replies were written beforehand.
const PROVIDER: &str = "understudy";
const FIXTURE: &str = "r2-duration";
const MODEL: &str = "scripted/understudy-script";

/// Show the main job with the embedded stand-in provider: build, record, verify, and a gated rehearsal
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn exec(app: &App, _: &Args) -> Result<u8> {
    let provider: Name = constant(PROVIDER)?;
    let fixture: Name = constant(FIXTURE)?;
    let model: ModelPair = constant(MODEL)?;
    let spec = Spec { provider, rev: None };
    let locked = lock::resolve(&*app.context.root()?, &spec)?;
    let made = build::make(&app.context, &locked, &Options::default())?.required()?;
    // With --json stdout is the run's one object: its gates say what verify says.
    if app.ui.is_json() {
        build::record(&app.context, &made.report)?;
    } else {
        let how = if made.fresh { "built in a sandbox" } else { "built earlier, verified again" };
        build::record(&app.context, &made.report)?;
        app.ui.row(Mark::Good, "build", &format!("{PROVIDER}, a stand-in agent: {how}, on record"));
        let one = verify::Options { provider: Some(spec.clone()), ..verify::Options::default() };
        let verified = verify::verify(&app.context, &one)?;
        if let Some(one) = verified.iter().find(|one| !one.holds()) {
            app.ui.verdict(Mark::Bad, "fails", "what was just built is not what the records name");
            findings::show(&app.ui, &one.findings, Shown::default());
            return Ok(verify::exit_code(&verified));
        }
        let all = verified.iter().flat_map(|one| one.findings.clone()).collect::<Vec<_>>();
        app.ui.row(Mark::Good, "verify", &findings::counts(&all));
    }
    run::exec(app, &run::Args::rehearsal(spec, fixture, model))
}

fn constant<T: FromStr<Err: Display>>(text: &str) -> Result<T> {
    text.parse().map_err(|err: T::Err| Error::new(Reason::Internal, err.to_string()))
}
