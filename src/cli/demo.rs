//! `admit demo`: the main job with the embedded stand-in provider, from nothing to a sealed rehearsal.

use std::fmt::Display;
use std::str::FromStr;

use super::app::App;
use super::build::show;
use super::{run, verify};
use crate::build::{self, Options};
use crate::error::{Error, Reason, Result};
use crate::lock::{self, Spec};
use crate::record::admission::ModelPair;
use crate::record::ids::Name;

/// The stand-in provider, the fixture, and the model whose replies were written beforehand.
const PROVIDER: &str = "understudy";
const FIXTURE: &str = "r1-string-slugify";
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
        show(app, &made, None, true)?;
        app.ui.line("");
        let code = verify::exec(app, &verify::Args::of(PROVIDER))?;
        if code != 0 {
            return Ok(code);
        }
        app.ui.line("");
    }
    run::exec(app, &run::Args::rehearsal(spec, fixture, model))
}

fn constant<T: FromStr<Err: Display>>(text: &str) -> Result<T> {
    text.parse().map_err(|err: T::Err| Error::new(Reason::Internal, err.to_string()))
}
