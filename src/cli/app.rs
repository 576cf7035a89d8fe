//! What a command gets: what it works with, and the user interface.

use std::path::PathBuf;
use std::sync::Arc;

use super::Global;
use crate::context::{Context, Options};
use crate::error::{Error, Reason, Result};
use crate::host::{Clock, FixedClock, Host, SystemClock};
use crate::ui::Ui;

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

    /// The same program in other surroundings, and silent.
    pub(super) fn within(&self, host: Host, store: PathBuf, state: PathBuf) -> Self {
        Self { context: self.context.elsewhere(host, store, state), ui: Arc::new(Ui::silent()) }
    }
}
