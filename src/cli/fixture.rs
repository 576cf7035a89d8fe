//! `admit fixture`: tasks of one's own. `new` makes one, `check` says whether it tells good work from bad, `attack` tries to
//! be accepted without the work, `show` says what it asks for; `--record` makes its digest the one that gates expect.

use std::time::Duration;

use serde_json::json;

use super::app::App;
use super::findings;
use crate::error::Result;
use crate::record::fixture::AttackResult;
use crate::record::ids::Name;
use crate::run::attack::{CLASSES, attack};
use crate::run::examine::{self, Examined};
use crate::run::make;
use crate::run::recorded::{self, Shown};
use crate::ui::Mark;

/// Make, check, attack or show a fixture: a task that runs are judged by
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    show: Show,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    New(Box<New>),
    Check(Check),
    Attack(Attack),
    Show(Show),
}

/// Make a fixture from a directory with work to do, and the same with the work done
///
/// What the files do not say is asked for by flag, all of it in one error. Nothing is written unless the fixture tells good
/// work from bad.
#[derive(Debug, clap::Args)]
struct New {
    /// What it shall be called
    #[arg(value_name = "NAME")]
    name: Name,
    #[command(flatten)]
    ask: make::Ask,
}

/// Say whether a fixture tells good work from bad: every fault at once, with what to do
#[derive(Debug, clap::Args)]
struct Check {
    /// The fixture
    #[arg(value_name = "FIXTURE")]
    name: Name,
    /// Longest time of the tests
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600), default_value = "60")]
    seconds: u64,
    #[command(flatten)]
    shown: findings::Shown,
}

/// Try to be accepted without having done the work, in every way that agents were seen to try
#[derive(Debug, clap::Args)]
struct Attack {
    /// The fixture
    #[arg(value_name = "FIXTURE")]
    name: Name,
    /// Show every attempt
    #[arg(long)]
    all: bool,
    /// Keep the result in the fixture's record; where all is refused, record the fixture's digest with it
    #[arg(long)]
    record: bool,
}

/// Show a fixture and its digest, or record the digest that the gates expect
#[derive(Debug, clap::Args)]
struct Show {
    /// The fixture
    #[arg(value_name = "FIXTURE", default_value = "r1-string-slugify")]
    name: Name,
    /// Record the digest of what is there now
    #[arg(long)]
    record: bool,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    match &args.command {
        Some(Command::New(args)) => new(app, args),
        Some(Command::Check(args)) => check(app, args),
        Some(Command::Attack(args)) => attacked(app, args),
        Some(Command::Show(args)) => show(app, args),
        None => show(app, &args.show),
    }
}

fn new(app: &App, args: &New) -> Result<u8> {
    let made = make::make(&app.context, &args.name, &args.ask)?;
    app.ui.json(&json!({
        "schema": "admit.fixture-made/1", "fixture": args.name, "written": made.written,
        "record": made.record, "findings": made.examined.findings,
    }));
    let name = &args.name;
    match &made.written {
        Some(place) => {
            app.ui.verdict(Mark::Good, "made", &format!("{name}: {}", place.display()));
            for (what, value) in &made.proposed {
                app.ui.row(Mark::Note, what, value);
            }
            let next = format!("admit fixture attack {name} --record");
            app.ui.verdict(Mark::Good, "made", &next);
        }
        None => {
            let text = format!("{name} does not tell good work from bad; nothing was written");
            app.ui.verdict(Mark::Bad, "refused", &text);
            examined(app, &made.examined, findings::Shown::default());
            app.ui.verdict(Mark::Bad, "refused", &findings::counts(&made.examined.findings));
        }
    }
    Ok(u8::from(made.written.is_none()))
}

/// The findings, and the last that the tests printed where that says why.
fn examined(app: &App, examined: &Examined, shown: findings::Shown) {
    findings::show(&app.ui, &examined.findings, shown);
    let lines: Vec<&str> = examined.log.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in &lines[lines.len().saturating_sub(20)..] {
        app.ui.detail("printed", line);
    }
}

fn check(app: &App, args: &Check) -> Result<u8> {
    let (name, root) = (&args.name, app.context.root()?);
    app.context.progress.stage("check", name.as_str());
    let wall = Duration::from_secs(args.seconds);
    let found = examine::examine(&app.context, &root, name, wall)?;
    app.ui.json(&json!({
        "schema": "admit.fixture-checked/1", "fixture": name, "holds": found.holds(),
        "findings": found.findings, "log": found.log,
    }));
    let counts = findings::counts(&found.findings);
    let (mark, word, what, last) = match found.holds() {
        true => {
            let next = format!("admit fixture attack {name} --record");
            (Mark::Good, "holds", "tells good work from bad", next)
        }
        false => (Mark::Bad, "fails", "is not fit to judge by", counts.clone()),
    };
    app.ui.verdict(mark, word, &format!("{name} {what}: {counts}"));
    examined(app, &found, args.shown);
    app.ui.verdict(mark, word, &last);
    Ok(u8::from(!found.holds()))
}

fn attacked(app: &App, args: &Attack) -> Result<u8> {
    let name = &args.name;
    app.context.progress.stage("attack", name.as_str());
    let attacked = attack(&app.context, name)?;
    let (held, all) = (attacked.held(), attacked.tried.len());
    let refused = attacked.tried.iter().filter(|one| one.refused).count();
    let classes = attacked.by_class();
    let counts: Vec<_> = classes
        .iter()
        .map(
            |(class, refused, tried)| json!({ "class": class, "refused": refused, "tried": tried }),
        )
        .collect();
    let kept = match args.record {
        true => recorded::keep(&app.context, name, &attacked)?,
        false => None,
    };
    app.ui.json(&json!({
        "schema": "admit.fixture-attacked/2", "fixture": name, "record": kept, "holds": held, "refused": refused, "attempts": all,
        "classes": counts, "result": attacked,
    }));
    let (mark, word, last) = match held {
        true => (Mark::Good, "holds", "nothing is accepted without the work"),
        false => (Mark::Bad, "fails", "work that solves nothing was accepted"),
    };
    app.ui.verdict(mark, word, &format!("{name}: {refused} of {all} attempts refused"));
    for (class, refused, tried) in classes {
        let about = CLASSES.iter().find(|(id, _)| *id == class).map_or("", |(_, about)| about);
        let mark = if refused == tried { Mark::Good } else { Mark::Bad };
        app.ui.row(mark, class, &format!("{refused} of {tried}: {about}"));
        for one in attacked.tried.iter().filter(|one| one.class == class) {
            match one.refused {
                true if args.all => {
                    app.ui.detail("refused", &format!("{}: {}", one.name, one.by.join(", ")))
                }
                true => {}
                false => app
                    .ui
                    .detail("accepted", &format!("{}: {} held", one.name, one.meant.join(", "))),
            }
        }
    }
    for path in &attacked.untried {
        app.ui.detail(
            "not tried",
            &format!("{path}: attempts are written in shell, Python and TypeScript"),
        );
    }
    if !held {
        let fix = "draw more calls, and calls whose results the solution alone gives: docs/own-fixture.md";
        app.ui.detail("fix", fix);
    }
    kept.iter().for_each(|place| app.ui.value("record", &place.display().to_string()));
    app.ui.verdict(mark, word, last);
    Ok(u8::from(!held))
}

fn show(app: &App, args: &Show) -> Result<u8> {
    let shown = recorded::show(&app.context, &args.name, args.record)?;
    let (same, stale) = (shown.same(), shown.stale());
    let Shown { fixture, recorded: locked, place, attacked } = &shown;
    app.ui.json(&json!({
        "schema": "admit.fixture-shown/2", "fixture": args.name, "digest": fixture.digest,
        "origin": fixture.record.origin, "attacked": attacked, "attack_stale": stale,
        "recorded": locked, "record": place, "task": fixture.record.task.title,
        "allowed_paths": fixture.record.allowed_paths, "tests": fixture.record.test_ids,
    }));
    let (mark, word, last) = match (locked, same) {
        (None, _) => (Mark::Bad, "not recorded", "no run starts without a recorded digest"),
        (_, true) => (Mark::Good, "recorded", "the fixture is the recorded one"),
        (_, false) => (Mark::Bad, "differs", "the fixture is not the recorded one: no run starts"),
    };
    let name = &args.name;
    app.ui.verdict(mark, word, &format!("{name}: {}", fixture.record.task.title));
    app.ui.value("digest", &fixture.digest.to_string());
    place.iter().for_each(|place| app.ui.value("record", place));
    if let Some(origin) = &fixture.record.origin {
        app.ui.value("origin", &format!("{} at {}", origin.url, origin.rev));
    }
    let again = format!("admit fixture attack {name} --record");
    app.ui.value(
        "attack",
        &match (attacked, stale) {
            (None, _) => format!("no result on record: {again}"),
            (Some(_), Some(true)) => format!("stale, the fixture has changed since: {again}"),
            (Some(result), _) => {
                let AttackResult { refused, attempts, admit_version, .. } = result;
                format!("{refused} of {attempts} attempts refused, by admit {admit_version}")
            }
        },
    );
    if let Some(expected) = locked.as_ref().filter(|_| !same) {
        app.ui.detail("expected", &expected.to_string());
    }
    if !same {
        let fix =
            format!("restore the fixture, or record it as it is: admit fixture {name} --record");
        app.ui.detail("fix", &fix);
    }
    app.ui.verdict(mark, word, last);
    Ok(shown.exit_code())
}
