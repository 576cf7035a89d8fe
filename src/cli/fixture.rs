//! `admit fixture NAME`: what a fixture asks for, and its digest; `--record` makes that the one that gates expect.

use serde_json::json;

use super::app::App;
use crate::error::{Error, Reason, Result};
use crate::record;
use crate::record::ids::Name;
use crate::run::fixture;
use crate::ui::Mark;

/// Show a fixture and its digest, or record the digest that the gates expect
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The fixture
    #[arg(value_name = "FIXTURE", default_value = "r1-string-slugify")]
    name: Name,
    /// Record the digest of what is there now
    #[arg(long)]
    record: bool,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let root = app.context.root()?;
    let fixture = fixture::load(&root, &args.name)?;
    let path = fixture::lock_path(&args.name);
    if args.record {
        let relative = path
            .parse()
            .map_err(|err| Error::new(Reason::BadArgument, "the name").caused_by(err))?;
        app.context.write_root(|root| root.put(&relative, &record::pretty(&fixture.lock())))?;
    }
    let root = app.context.root()?;
    let locked = fixture::locked(&root, &args.name)?;
    let same = locked.as_ref() == Some(&fixture.digest);
    let place = locked.as_ref().map(|_| root.place(&path));
    app.ui.json(&json!({
        "schema": "admit.fixture-shown/1", "fixture": args.name, "digest": fixture.digest,
        "recorded": locked, "record": place, "task": fixture.record.task.title,
        "allowed_paths": fixture.record.allowed_paths, "tests": fixture.record.test_ids,
    }));
    app.ui.row(Mark::Note, "task", &fixture.record.task.title);
    app.ui.row(Mark::Note, "digest", &fixture.digest.to_string());
    match (&locked, same) {
        (None, _) => app.ui.row(Mark::Bad, "recorded", "no digest: no run starts"),
        (Some(_), true) => app.ui.row(Mark::Good, "recorded", &place.unwrap_or_default()),
        (Some(expected), false) => {
            app.ui.row(Mark::Bad, "recorded", &place.unwrap_or_default());
            app.ui.detail("expected", &expected.to_string());
        }
    }
    if !same {
        app.ui.detail("fix", "restore the fixture, or record it as it is: admit fixture --help");
    }
    let reason = if locked.is_some() { Reason::DigestMismatch } else { Reason::NotFound };
    Ok(if same { 0 } else { reason.kind().exit_code() })
}
