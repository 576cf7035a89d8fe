//! What a command gets: what it works with, the user interface, and the options of every command.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum as _;

use crate::context::{Context, Options};
use crate::error::{Error, Reason, Result};
use crate::host::{Host, SystemClock};
use crate::record::ids::Digest;
use crate::stop;
use crate::ui::{Colour, Settings, Ui};

/// What every command takes. Each has a variable, named by its help, that holds where the flag is not given.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Directory with admit.toml, lockfiles/ and admissions/ (default: the nearest upward, else the embedded records)
    /// [env: ADMIT_ROOT]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Digest that the root must have; stands in for `admit trust` in a pipeline [env: ADMIT_EXPECT_ROOT]
    #[arg(long, global = true, value_name = "DIGEST")]
    expect_root: Option<Digest>,
    /// Where verified inputs and outputs are kept [env: ADMIT_STORE]
    #[arg(long, global = true, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Where evidence is kept [env: ADMIT_STATE]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Fetch URLs that start with FROM from TO instead; every byte is checked all the same [env: ADMIT_MIRROR]
    #[arg(long, global = true, value_name = "FROM=TO")]
    mirror: Vec<String>,
    /// Package registry, in place of the npm configuration's [env: ADMIT_REGISTRY]
    #[arg(long, global = true, value_name = "URL")]
    registry: Option<String>,
    /// Print one JSON object on stdout [env: ADMIT_JSON=1]
    #[arg(long, global = true)]
    json: bool,
    /// No progress and no remarks [env: ADMIT_QUIET=1]
    #[arg(long, short, global = true)]
    quiet: bool,
    /// When to colour (default: auto) [env: ADMIT_COLOR]
    #[arg(long, global = true, value_enum)]
    color: Option<Colour>,
}

pub(super) struct App {
    pub(super) context: Context,
    pub(super) ui: Arc<Ui>,
}

impl App {
    pub(super) fn new(host: Host, global: Global) -> Result<Self> {
        let settings = Settings {
            json: global.json || on(&host, "ADMIT_JSON")?,
            quiet: global.quiet || on(&host, "ADMIT_QUIET")?,
            colour: match global.color {
                Some(colour) => colour,
                None => typed(&host, "ADMIT_COLOR", |text| {
                    Colour::from_str(text, false).map_err(|_| "auto, always or never")
                })?
                .unwrap_or(Colour::Auto),
            },
            no_color: host.var("NO_COLOR")?.is_some(),
            columns: host.var("COLUMNS")?.and_then(|columns| columns.parse().ok()),
        };
        let ui = Arc::new(Ui::new(settings));
        let clock = Arc::new(SystemClock);
        let expect_root = match global.expect_root {
            Some(digest) => Some(digest),
            None => typed(&host, "ADMIT_EXPECT_ROOT", str::parse)?,
        };
        let registry = host.var("ADMIT_REGISTRY")?.map(str::to_owned);
        let options = Options {
            root: global.root.or_else(|| host.path_var("ADMIT_ROOT")),
            expect_root,
            store: global.store.or_else(|| host.path_var("ADMIT_STORE")),
            state: global.state.or_else(|| host.path_var("ADMIT_STATE")),
            mirror: global.mirror,
            registry: global.registry.or(registry),
        };
        let progress = Arc::clone(&ui);
        Ok(Self { context: Context::new(host, clock, progress, options), ui })
    }

    /// From now on a signal is no sudden death: the command comes to an end, and what it knows is sealed.
    pub(super) fn heed_signals(&self) -> Result<()> {
        let (ui, listener) = (Arc::clone(&self.ui), Arc::clone(&self.ui));
        let hear = move || {
            listener.remark("stopping: what is done so far is kept; Ctrl-C again ends it at once");
        };
        stop::heed(&self.context.stop, hear, move |signal, answer| {
            let told = told(i32::try_from(signal).unwrap_or_default());
            ui.finish();
            match answer {
                Some(answer) => {
                    ui.json(&answer);
                    // Where what is done so far was sealed.
                    ui.words(&match answer["directory"].as_str() {
                        Some(directory) => told.at(directory),
                        None => told,
                    });
                }
                None => ui.error(&told),
            }
        })
    }
}

/// `1` or `0`; anything else is [`Reason::BadArgument`].
pub(super) fn on(host: &Host, name: &str) -> Result<bool> {
    let read = typed(host, name, |text| match text {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err("1 or 0"),
    });
    Ok(read?.unwrap_or(false))
}

fn typed<T, E: Display>(
    host: &Host,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>> {
    let Some(text) = host.var(name)? else { return Ok(None) };
    match parse(text) {
        Ok(value) => Ok(Some(value)),
        Err(err) => {
            let what = format!("the variable {name} cannot be used");
            Err(Error::new(Reason::BadArgument, what).expected(err.to_string()).found(text))
        }
    }
}

/// What a command says that was told to stop.
pub(super) fn told(signal: i32) -> Error {
    Error::new(Reason::Interrupted, format!("told to stop by signal {signal}")).hint("run it again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory as _, Parser as _};

    fn app(vars: &[(&str, &str)], args: &[&str]) -> Result<App> {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        App::new(Host::with(vars, "/w"), Cli::try_parse_from(args).unwrap().global)
    }

    #[test]
    fn every_global_option_has_a_variable_and_the_flag_wins() {
        for arg in Cli::command().get_arguments().filter(|arg| !arg.is_hide_set()) {
            let Some(long) = arg.get_long().filter(|long| !["help", "version"].contains(long))
            else {
                continue;
            };
            let name = format!("ADMIT_{}", long.to_uppercase().replace('-', "_"));
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("[env: {name}")), "--{long}: {help}");
        }
        let vars = [("ADMIT_ROOT", "/a"), ("ADMIT_STATE", "/s"), ("ADMIT_JSON", "1")];
        let found = app(&vars, &["admit", "stages", "--root", "/b"]).unwrap();
        assert_eq!(found.context.options.root.as_deref(), Some("/b".as_ref()));
        assert_eq!(found.context.options.state.as_deref(), Some("/s".as_ref()));
        assert!(found.ui.is_json());
        for (name, text, want) in [
            ("ADMIT_JSON", "yes", "1 or 0"),
            ("ADMIT_COLOR", "blue", "auto, always or never"),
            ("ADMIT_EXPECT_ROOT", "x", "digest"),
        ] {
            let Err(err) = app(&[(name, text)], &["admit", "stages"]) else { panic!("{name}") };
            assert!(err.what().contains(name), "{err}");
            assert!(err.expected_value().unwrap_or_default().contains(want), "{name}: {err:?}");
        }
    }
}
