//! `admit rebuild NAME`: builds again while everything around the sandbox varies, and says what the output follows.

use std::time::Duration;

use serde_json::Value;

use super::app::App;
use crate::build::rebuild::{Blame, Expected, Failed, RebuildAnswer, Round, Variation};
use crate::build::{self, Rebuild, STEP_WALL, Wanted};
use crate::error::Result;
use crate::lock::{self, Spec};
use crate::record;
use crate::ui::{self, Mark};

/// Build again with everything around the sandbox varied: are the bytes the same, and if not, what changes them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The provider, or provider@commit with the beginning of the locked commit
    #[arg(value_name = "PROVIDER[@COMMIT]")]
    spec: Spec,
    /// How often to build
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// What to vary: all, or some of path,time,env,locale,timezone,umask,cpus,home
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = variations)]
    vary: Vary,
    /// Deadline of each build step
    #[arg(long, value_name = "SECONDS", default_value_t = STEP_WALL.as_secs(), value_parser = clap::value_parser!(u64).range(1..=86_400))]
    step_timeout: u64,
}

/// The variations that were asked for, in the order of [`Variation::ALL`].
#[derive(Clone, Debug)]
struct Vary(Vec<Variation>);

fn variations(text: &str) -> Result<Vary, String> {
    let mut wanted = Vec::new();
    for word in text.split(',') {
        match word {
            "all" => wanted.extend(Variation::ALL),
            word => wanted.push(word.parse()?),
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    Ok(Vary(wanted))
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let locked = lock::resolve(&*app.context.root()?, &args.spec)?;
    let wanted = Wanted {
        rounds: args.rounds.into(),
        vary: args.vary.0.clone(),
        step_wall: Duration::from_secs(args.step_timeout),
    };
    let rebuild = build::rebuild(&app.context, &locked, &wanted)?;
    show(app, &rebuild);
    Ok(rebuild.rebuilt.exit_code())
}

fn show(app: &App, rebuild: &Rebuild) {
    let done = &rebuild.rebuilt;
    app.ui.json(&record::to_value(rebuild));
    let all = done.rounds.len();
    let what = match &done.expected {
        None => "nothing: no first build".to_owned(),
        Some(Expected::Lock { sha256 }) => format!("the locked output {sha256}"),
        Some(Expected::Build(first)) => format!("a first build's {}", first.sha256),
    };
    let mark = if done.answer == RebuildAnswer::Reproduced { Mark::Good } else { Mark::Bad };
    let word = match done.answer {
        RebuildAnswer::Reproduced => "reproduced",
        RebuildAnswer::Differs => "differs",
        RebuildAnswer::NotRebuilt => "not rebuilt",
    };
    let builds = ui::count(all, "build", "builds");
    app.ui.verdict(mark, word, &format!("{} of {builds} identical to {what}", done.identical));
    for (i, one) in done.rounds.iter().enumerate() {
        round(app, i + 1, one);
    }
    for one in &rebuild.not_varied {
        app.ui.row(Mark::Note, one.variation.as_str(), &format!("not varied: {}", one.why));
    }
    if let Some(blame) = &done.blame {
        self::blame(app, blame);
    }
    let last = match (&rebuild.diff, done.answer) {
        (Some(command), _) => command.join(" "),
        (None, RebuildAnswer::Reproduced) => "the same bytes each time".to_owned(),
        (None, RebuildAnswer::Differs) => {
            "what is built here cannot be told by its digest".to_owned()
        }
        (None, RebuildAnswer::NotRebuilt) => {
            "a build came to no end, so there is no answer".to_owned()
        }
    };
    app.ui.verdict(mark, word, &last);
}

fn round(app: &App, number: usize, round: &Round) {
    let (mark, text) = match (&round.product, &round.failed) {
        (Some(product), _) if round.identical => (Mark::Good, product.sha256.to_string()),
        (Some(product), _) => (Mark::Bad, format!("{} differs", product.sha256)),
        (None, failed) => {
            let what = failed.as_ref().and_then(|failed| failed.error["what"].as_str());
            (Mark::Bad, format!("not rebuilt: {}", what.unwrap_or_default()))
        }
    };
    app.ui.row(mark, &format!("round {number}"), &text);
    for (variation, value) in &round.varied {
        app.ui.detail(variation.as_str(), value);
    }
    round.failed.iter().for_each(|failed| self::failed(app, failed));
}

fn failed(app: &App, failed: &Failed) {
    for name in ["reason", "where", "expected", "found"] {
        if let Some(text) = failed.error[name].as_str() {
            app.ui.detail(name, text);
        }
    }
    for name in ["causes", "fix"] {
        let texts = failed.error[name].as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).for_each(|text| app.ui.detail(name, text));
    }
}

fn blame(app: &App, blame: &Blame) {
    let row = |name: &str, text: &str| app.ui.row(Mark::Bad, "blame", &format!("{name}: {text}"));
    match blame {
        Blame::Variation { variation, value, .. } => {
            row(
                variation.as_str(),
                "alone it changes the output; with nothing varied two builds agree",
            );
            app.ui.detail(variation.as_str(), value);
        }
        Blame::Itself { .. } => row(
            "the build itself",
            "two builds with nothing varied differ: the time of day, chance, or an order that is not fixed",
        ),
        Blame::Lock { b } => {
            row("the lock", &format!("all builds here give {}, whatever is varied", b.sha256))
        }
        Blame::Together { .. } => {
            row("no single variation", "several together change the output, or chance does");
        }
        Blame::Unknown { failed } => {
            row("not found out", "a build that was needed to tell came to no end");
            self::failed(app, failed);
        }
    }
}
