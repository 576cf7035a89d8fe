//! What a command gets: what it works with, the user interface, and the options of every command.

use std::path::PathBuf;
use std::sync::Arc;

use crate::context::{Context, Options};
use crate::error::{Error, Reason, Result};
use crate::host::{Clock, FixedClock, Host, SystemClock};
use crate::record::ids::{Digest, Timestamp};
use crate::ui::{Colour, Ui};

/// What every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Directory with admit.toml, lockfiles/ and admissions/ (default: the nearest upward, else the embedded records)
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Digest that the root must have; stands in for `admit trust` in a pipeline
    #[arg(long, global = true, value_name = "DIGEST")]
    expect_root: Option<Digest>,
    /// Where verified inputs and outputs are kept
    #[arg(long, global = true, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Where evidence is kept
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Fetch URLs that start with FROM from TO instead; every byte is checked all the same
    #[arg(long, global = true, value_name = "FROM=TO")]
    mirror: Vec<String>,
    /// Package registry, in place of the npm configuration's
    #[arg(long, global = true, value_name = "URL")]
    registry: Option<String>,
    /// Print one JSON object on stdout
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// No progress and no remarks
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    /// When to colour
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    pub(super) color: Colour,
    /// The date and time to take as now; a debug build's only
    #[arg(long, global = true, hide = true)]
    now: Option<Timestamp>,
}

pub(super) struct App {
    pub(super) context: Context,
    pub(super) ui: Arc<Ui>,
}

impl App {
    pub(super) fn new(global: Global) -> Result<Self> {
        let host = Host::capture()?;
        let no_color = host.var("NO_COLOR")?.is_some();
        let ui = Arc::new(Ui::new(global.json, global.quiet, global.color, no_color));
        let clock: Arc<dyn Clock + Send> = match &global.now {
            None => Arc::new(SystemClock),
            // For tests. With a release, an expired admission would come back by a flag.
            Some(now) if cfg!(debug_assertions) => Arc::new(FixedClock(now.clone())),
            Some(_) => return Err(Error::new(Reason::BadArgument, "--now is for tests of admit")),
        };
        let options = Options {
            root: global.root,
            expect_root: global.expect_root,
            store: global.store,
            state: global.state,
            mirror: global.mirror,
            registry: global.registry,
        };
        let progress = Arc::clone(&ui);
        Ok(Self { context: Context::new(host, clock, progress, options), ui })
    }
}
