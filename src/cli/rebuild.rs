//! `admit rebuild NAME`: builds again while everything around the sandbox varies, and says what the output follows.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::app::App;
use super::rebuild_round::SCHEMA;
use crate::build::STEP_WALL;
use crate::build::vary::{
    self, Answer, Around, Blame, Ended, Expected, Failed, Machine, NotVaried, OPEN_PATH, Rebuilt,
    Round, Variation,
};
use crate::error::{Error, Kind, Reason, Result};
use crate::host::{cpus, platform, time_namespaces};
use crate::lock::{self, Locked, Spec};
use crate::record;
use crate::ui::Mark;

/// Build again with everything around the sandbox varied: are the bytes the same, and if not, what changes them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The provider, or provider@commit with the beginning of the locked commit
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
    let root = app.context.root()?;
    let locked = lock::resolve(&root, &args.spec)?;
    let machine = Machine { cpus: cpus()?, time_namespaces: time_namespaces() };
    let (can, cannot) = vary::possible(&args.vary.0, &machine);
    let path_locked = locked.lock.build.path.is_some();
    let rounds: Vec<Around> = (0..usize::from(args.rounds))
        .map(|round| Around::of_round(round, &can, &machine, path_locked))
        .collect();
    let scratch = app.context.store()?.scratch()?;
    let output = lock::output(&locked.lock, platform()?);
    let mut builds = 0;
    let done = vary::rebuild(output.map(|output| &output.sha256), &rounds, &mut |around| {
        builds += 1;
        let what: Vec<_> = around.varied.keys().map(|variation| variation.as_str()).collect();
        let what = if what.is_empty() { "nothing".to_owned() } else { what.join(", ") };
        app.ui.remark(&format!("{:>8} build {builds}, varied: {what}", "rebuild"));
        build(app, args, scratch.path(), around)
    })?;
    show(app, &locked, &done, &cannot);
    Ok(match done.answer {
        Answer::Reproduced => 0,
        Answer::Differs => Kind::No.exit_code(),
        Answer::NotRebuilt => (done.rounds.iter())
            .find_map(|round| Some(round.failed.as_ref()?.exit_code))
            .unwrap_or(Kind::Bug.exit_code()),
    })
}

/// One build, in a process of its own with these surroundings.
fn build(app: &App, args: &Args, scratch: &Path, around: &Around) -> Result<Ended> {
    let below = |name: &str| -> Result<_> {
        let dir = scratch.join(name);
        std::fs::create_dir_all(&dir).map_err(|err| Error::io("create", &dir, err))?;
        Ok(dir)
    };
    let mut command = Command::new("/proc/self/exe");
    command.args(app.context.flags()?).args(["--json", "--quiet", "rebuild-round"]);
    command.args(["--open-path", around.open_path.unwrap_or(OPEN_PATH)]);
    command.args(["--step-timeout", &args.step_timeout.to_string()]);
    if let Some(name) = &around.scratch {
        command.arg("--scratch").arg(below(name)?);
    }
    let numbers = [
        ("--clock-ahead", around.clock_ahead.map(|seconds| seconds.to_string())),
        ("--umask", around.umask.map(|mask| mask.to_string())),
        ("--cpu", around.cpu.map(|cpu| cpu.to_string())),
    ];
    for (name, value) in numbers {
        command.args(value.iter().flat_map(|value| [name, value.as_str()]));
    }
    command.envs(&around.env);
    if let Some(name) = &around.home {
        command.env("HOME", below(name)?).envs(app.context.home_kept()?);
    }
    command.arg("--").arg(args.spec.to_string()).stdin(Stdio::null());
    let output = command.output().map_err(|err| Error::io("start", "admit", err))?;
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let code = output.status.code().and_then(|code| u8::try_from(code).ok());
    let product = (said["schema"] == SCHEMA).then(|| said["product"].clone());
    match (code, product.map(serde_json::from_value)) {
        (Some(0), Some(Ok(product))) => Ok(Ok(product)),
        (Some(exit_code), None) if exit_code != 0 && said["schema"] == "admit.error/1" => {
            Ok(Err(Failed { exit_code, error: said }))
        }
        _ => Err(Error::new(Reason::Internal, "a round ended without an answer")
            .found(output.status.to_string())
            .caused_by(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

fn show(app: &App, locked: &Locked, done: &Rebuilt, cannot: &[NotVaried]) {
    let pair = done.blame.as_ref().and_then(Blame::pair);
    let mut value = record::to_value(done);
    value["schema"] = json!("admit.rebuild/1");
    value["provider"] = json!(locked.lock.provider);
    value["pinned_commit"] = json!(locked.lock.source.rev);
    value["lock_digest"] = json!(locked.digest);
    value["not_varied"] = json!(cannot);
    value["diff"] = json!(pair.map(|(a, b)| json!(["admit", "diff", a.output, b.output])));
    app.ui.json(&value);
    for (i, one) in done.rounds.iter().enumerate() {
        round(app, i + 1, one);
    }
    for one in cannot {
        app.ui.row(Mark::Note, one.variation.as_str(), &format!("not varied: {}", one.why));
    }
    let all = done.rounds.len();
    let what = match &done.expected {
        None => "nothing: no first build".to_owned(),
        Some(Expected::Lock { sha256 }) => format!("the locked output {sha256}"),
        Some(Expected::Build(first)) => format!("a first build's {}", first.sha256),
    };
    let mark = if done.answer == Answer::Reproduced { Mark::Good } else { Mark::Bad };
    let word = match done.answer {
        Answer::Reproduced => "reproduced",
        Answer::Differs => "differs",
        Answer::NotRebuilt => "not rebuilt",
    };
    app.ui.row(mark, word, &format!("{} of {all} identical to {what}", done.identical));
    if let Some(blame) = &done.blame {
        self::blame(app, blame);
    }
    if let Some((a, b)) = pair {
        app.ui.line(&format!("admit diff {} {}", a.output.display(), b.output.display()));
    }
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
            "two builds with nothing varied differ: the time of day, chance, or an order that nobody fixes",
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
