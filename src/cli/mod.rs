//! The command line: one file a command, each arguments and `exec`; the stages do the work, `ui` prints.

use std::any::Any;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::error::{Error, MORE_PROCESSES, Reason, Result};
use crate::host::Host;
use crate::stop;
use crate::ui::{self, Ui};

use app::{App, Global};

mod adopt;
mod app;
mod attest;
mod build;
mod config;
mod campaign;
mod completions;
mod demo;
mod diff;
mod doctor;
mod examples;
mod explain;
mod findings;
mod fixture;
mod gc;
mod health;
mod init;
mod inspect;
mod key;
mod lock;
mod model;
mod pull;
mod push;
mod rebuild;
mod rebuild_round;
mod run;
mod runs;
mod sbom;
mod schemas;
mod show;
mod stages;
mod trust;
mod validate;
mod verify;

/// Builds an agent binary from a pin, proves what it built, and refuses to run anything else.
#[derive(Debug, Parser)]
#[command(
    name = "admit",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Adopt(adopt::Args),
    Attest(attest::Args),
    Build(build::Args),
    Config(config::Args),
    Campaign(Box<campaign::Args>),
    Completions(completions::Args),
    Demo(demo::Args),
    Diff(diff::Args),
    Doctor(doctor::Args),
    Explain(explain::Args),
    Fixture(fixture::Args),
    Gc(gc::Args),
    Health(health::Args),
    Init(init::Args),
    Inspect(inspect::Args),
    Key(key::Args),
    Lock(Box<lock::Args>),
    Man(completions::Man),
    Model(model::Args),
    Pull(pull::Args),
    Push(push::Args),
    Rebuild(rebuild::Args),
    #[command(hide = true)]
    RebuildRound(rebuild_round::Args),
    Run(Box<run::Args>),
    Runs(runs::Args),
    Sbom(sbom::Args),
    Schemas(schemas::Args),
    Show(show::Args),
    Stages(stages::Args),
    Trust(trust::Args),
    Validate(validate::Args),
    Verify(verify::Args),
}

pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let host = Host::capture();
    let json = args.iter().any(|arg| arg == "--json")
        || host.as_ref().is_ok_and(|host| app::on(host, "ADMIT_JSON").unwrap_or(false));
    let cli = definition()
        .color(colour(&args))
        .try_get_matches_from(&args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match cli {
        Ok(cli) => cli,
        Err(err) if json && err.kind() == ErrorKind::DisplayVersion => {
            let ui = Ui::bare(true);
            ui.json(&version());
            return ui.lost().map_or_else(|err| fail(&ui, &err), |()| 0);
        }
        Err(err) => {
            // Help and version are answers (stdout, 0); everything else is usage (stderr, 2), as clap has it.
            return ui::usage(without_hidden(err), &typed(&args), json);
        }
    };
    let app = match host.and_then(|host| App::new(host, cli.global)) {
        Ok(app) => app,
        Err(err) => return fail(&Ui::bare(json), &err),
    };
    let signals = answer_signals(&app, &cli.command);
    if let Err(err) = signals {
        return fail(&app.ui, &err);
    }
    quiet_about_threads();
    let worked = catch_unwind(AssertUnwindSafe(|| exec(&app, cli.command)));
    match worked.unwrap_or_else(|panic| Err(stopped_short(&*panic))) {
        Ok(code) => {
            app.ui.finish();
            match app.ui.lost() {
                Ok(()) => code,
                Err(err) => {
                    app.ui.words(&err);
                    // A no stays the no that it is.
                    if code == 0 { err.kind().exit_code() } else { code }
                }
            }
        }
        Err(err) => fail(&app.ui, &err),
    }
}

/// The command line with an example in every help.
fn definition() -> clap::Command {
    examples::add(Cli::command())
}

/// Help is coloured as everything else: what `--color` says must be known before the line is parsed.
fn colour(args: &[OsString]) -> ColorChoice {
    let texts: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let apart = texts.windows(2).filter(|pair| pair[0] == "--color").map(|pair| pair[1]);
    let joined = texts.iter().filter_map(|text| text.strip_prefix("--color="));
    match apart.chain(joined).last() {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// What this program is: for a report of a fault, and for whoever compares two machines.
fn version() -> serde_json::Value {
    let features: &[&str] = if cfg!(feature = "oracles") { &["oracles"] } else { &[] };
    serde_json::json!({
        "schema": "admit.version/1",
        "version": env!("CARGO_PKG_VERSION"),
        "commit": crate::attest::own_commit(),
        "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "debug": cfg!(debug_assertions),
        "features": features,
        "build_rules": crate::build::BUILDER,
    })
}

/// Whether `args` are a command line that admit takes, for documents and their tests; what is wrong with it otherwise.
pub fn parses(args: &[String]) -> std::result::Result<(), String> {
    match Cli::try_parse_from(args) {
        Ok(_) => Ok(()),
        Err(err) if !err.use_stderr() => Ok(()),
        Err(err) => Err(err.to_string()),
    }
}

/// The command that `args` name, as far as they name one.
fn typed(args: &[OsString]) -> String {
    let root = Cli::command();
    let (mut command, mut words) = (&root, vec!["admit"]);
    for arg in args.iter().skip(1).filter_map(|arg| arg.to_str()) {
        if let Some(below) = command.find_subcommand(arg) {
            words.push(below.get_name());
            command = below;
        }
    }
    words.join(" ")
}

/// No answer names a command that no help lists.
fn without_hidden(mut err: clap::Error) -> clap::Error {
    let command = Cli::command();
    let hidden = |name: &String| command.find_subcommand(name).is_some_and(|c| c.is_hide_set());
    for kind in [ContextKind::SuggestedSubcommand, ContextKind::ValidSubcommand] {
        let Some(ContextValue::Strings(names)) = err.get(kind) else { continue };
        let names: Vec<String> = names.iter().filter(|name| !hidden(name)).cloned().collect();
        match names.is_empty() {
            true => err.remove(kind),
            false => err.insert(kind, ContextValue::Strings(names)),
        };
    }
    err
}

/// Says at once what a stopped command leaves. Those that seal what there is take the signal themselves.
fn answer_signals(app: &App, command: &Command) -> Result<()> {
    use Command as C;
    let own = match command {
        C::Run(_) | C::Campaign(_) | C::Demo(_) => true,
        C::Health(_) | C::Validate(_) | C::RebuildRound(_) => true,
        C::Model(args) => args.asks(),
        _ => false,
    };
    if own {
        return Ok(());
    }
    let mut signals = signal_hook::iterator::Signals::new(stop::signals())
        .map_err(|err| Error::io("watch for", "signals", err))?;
    let ui = Arc::clone(&app.ui);
    #[expect(
        clippy::disallowed_methods,
        reason = "a command that was told to stop does not return"
    )]
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let told = app::told(signal).hint("what was fetched stays in the store; what was unfinished goes with the next command");
            let mut answer = told.to_json();
            // What a shell makes of an end by a signal.
            answer["exit_code"] = (128 + signal).into();
            ui.json_at_last(&answer);
            ui.words(&told);
            // Ends admit by the signal itself, as if it had not been caught; sandboxes end with it.
            drop(signal_hook::low_level::emulate_default_handler(signal));
            // Where that signal's default is not known there.
            std::process::exit(told.kind().exit_code().into());
        }
    });
    Ok(())
}

/// A thread could not be started, wherever that was: who waited for what it should have done says less.
static NO_THREAD: AtomicBool = AtomicBool::new(false);

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no words")
}

/// The standard library, and tokio, have no other way to say that no thread can be started: no fault of admit's, so no
/// place in its sources is printed.
fn quiet_about_threads() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let said = words(info.payload());
        if ["failed to spawn thread", "OS can't spawn"].iter().any(|it| said.starts_with(it)) {
            NO_THREAD.store(true, Ordering::SeqCst);
        } else if !NO_THREAD.load(Ordering::SeqCst) {
            loud(info);
        }
    }));
}

/// What a panic says. Its place was printed where it happened.
fn stopped_short(panic: &(dyn Any + Send)) -> Error {
    let text = words(panic);
    if text.starts_with("failed to spawn thread") || NO_THREAD.load(Ordering::SeqCst) {
        return Error::new(Reason::LimitHit, "no further thread can be started")
            .found(text)
            .hint(MORE_PROCESSES);
    }
    Error::new(Reason::Internal, "admit stopped by a fault of its own; nothing was decided")
        .found(text)
        .hint("report it with all that was printed")
}

fn fail(ui: &Ui, err: &Error) -> u8 {
    ui.error(err);
    err.kind().exit_code()
}

fn exec(app: &App, command: Command) -> Result<u8> {
    match command {
        Command::Adopt(args) => adopt::exec(app, &args),
        Command::Attest(args) => attest::exec(app, &args),
        Command::Build(args) => build::exec(app, &args),
        Command::Config(args) => config::exec(app, &args),
        Command::Campaign(args) => campaign::exec(app, &args),
        Command::Completions(args) => completions::exec(app, &args, definition()),
        Command::Demo(args) => demo::exec(app, &args),
        Command::Diff(args) => diff::exec(app, &args),
        Command::Doctor(args) => doctor::exec(app, &args),
        Command::Explain(args) => explain::exec(app, &args),
        Command::Fixture(args) => fixture::exec(app, &args),
        Command::Gc(args) => gc::exec(app, &args),
        Command::Health(args) => health::exec(app, &args),
        Command::Init(args) => init::exec(app, &args),
        Command::Inspect(args) => inspect::exec(app, &args),
        Command::Key(args) => key::exec(app, &args),
        Command::Lock(args) => lock::exec(app, &args),
        Command::Man(args) => completions::man(app, &args, definition()),
        Command::Model(args) => model::exec(app, &args),
        Command::Pull(args) => pull::exec(app, &args),
        Command::Push(args) => push::exec(app, &args),
        Command::Rebuild(args) => rebuild::exec(app, &args),
        Command::RebuildRound(args) => rebuild_round::exec(app, &args),
        Command::Run(args) => run::exec(app, &args),
        Command::Runs(args) => runs::exec(app, &args),
        Command::Sbom(args) => sbom::exec(app, &args),
        Command::Schemas(args) => schemas::exec(app, &args),
        Command::Show(args) => show::exec(app, &args),
        Command::Stages(args) => stages::exec(app, &args),
        Command::Trust(args) => trust::exec(app, &args),
        Command::Validate(args) => validate::exec(app, &args),
        Command::Verify(args) => verify::exec(app, &args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_with_the_code_of_its_kind() {
        let code = |panic: Box<dyn Any + Send>| stopped_short(&*panic).kind().exit_code();
        let full = "failed to spawn thread: Os { code: 11, kind: WouldBlock }".to_owned();
        assert_eq!(code(Box::new(full)), 9);
        assert_eq!(code(Box::new("index out of bounds")), 70);
        assert_eq!(code(Box::new(7)), 70);
    }
}
