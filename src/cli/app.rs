//! What a command gets: the outside, the user interface, the global options, and what they name.

use std::path::PathBuf;
use std::sync::Arc;

use include_dir::{Dir, include_dir};

use super::Global;
use crate::download::client::Client;
use crate::download::config::NetConfig;
use crate::download::npmrc::{NpmConfig, Sources};
use crate::error::{Error, Reason, Result};
use crate::fetch::embedded::Embedded;
use crate::fetch::mirror::Mirrors;
use crate::host::{Clock, FixedClock, Host, SystemClock};
use crate::root::Root;
use crate::store::Store;
use crate::ui::{Colour, Ui};

/// The stand-in provider's source.
static UNDERSTUDY: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/fixtures/understudy");

/// See the module.
pub(super) struct App {
    pub(super) host: Host,
    pub(super) ui: Ui,
    pub(super) clock: Arc<dyn Clock + Send>,
    global: Global,
}

/// How the network is reached.
pub(super) struct Network {
    pub(super) client: Client,
    pub(super) npm: NpmConfig,
    pub(super) mirrors: Mirrors,
}

impl App {
    pub(super) fn new(global: Global) -> Result<Self> {
        let host = Host::capture()?;
        let no_color = host.var("NO_COLOR")?.is_some();
        let ui = Ui::new(global.json, global.quiet, global.color, no_color);
        let clock: Arc<dyn Clock + Send> = match &global.now {
            None => Arc::new(SystemClock),
            // For tests. With a release, an expired admission would come back by a flag.
            Some(now) if cfg!(debug_assertions) => Arc::new(FixedClock(now.clone())),
            Some(_) => return Err(Error::new(Reason::BadArgument, "--now is for tests of admit")),
        };
        Ok(Self { host, ui, clock, global })
    }

    /// The same program in other surroundings, with a store of its own or this one's, and silent.
    pub(super) fn within(&self, host: Host, store: PathBuf, state: PathBuf) -> Self {
        let global = Global {
            root: None,
            expect_root: None,
            store: Some(store),
            state: Some(state),
            mirror: Vec::new(),
            registry: None,
            json: false,
            quiet: true,
            color: Colour::Never,
            now: None,
        };
        Self { host, ui: Ui::silent(), clock: Arc::clone(&self.clock), global }
    }

    /// The records that hold for this call.
    pub(super) fn root(&self) -> Result<Root> {
        Root::find(&self.host, self.global.root.as_deref(), self.global.expect_root.as_ref())
    }

    /// Directory of the store: flag, `ADMIT_STORE`, else below the user's data directory.
    pub(super) fn store_dir(&self) -> Result<PathBuf> {
        let named = self.global.store.clone().or_else(|| self.host.path_var("ADMIT_STORE"));
        Ok(match named {
            Some(dir) => self.host.absolute(&dir),
            None => self.host.data_dir()?.join("store"),
        })
    }

    /// Directory of the evidence: flag, else the user's state directory.
    pub(super) fn state_dir(&self) -> Result<PathBuf> {
        match &self.global.state {
            Some(dir) => Ok(self.host.absolute(dir)),
            None => self.host.state_dir(),
        }
    }

    /// The store, made where it is missing.
    pub(super) fn store(&self) -> Result<Store> {
        Store::open(&self.store_dir()?)
    }

    /// The way to the network: proxies and CA files from the environment, the registry from npm's configuration,
    /// mirrors from flags, `ADMIT_MIRROR` and `admit.toml`, in this order.
    pub(super) fn network(&self, root: &Root) -> Result<Network> {
        let env = self.host.vars();
        let npm = NpmConfig::load(&Sources {
            flag: self.global.registry.as_deref(),
            env: env.clone(),
            home: self.host.home(),
        })?;
        let mut config = NetConfig::from_env(&env);
        config.extra_ca.extend(npm.cafile().map(PathBuf::from));
        let variable = self.host.var("ADMIT_MIRROR")?.unwrap_or_default();
        let given =
            self.global.mirror.iter().map(String::as_str).chain(variable.split_whitespace());
        let mut rules = Vec::new();
        for rule in given {
            let (from, to) = rule.split_once('=').ok_or_else(|| {
                Error::new(Reason::BadArgument, "a mirror that is not FROM=TO")
                    .found(rule.to_owned())
            })?;
            rules.push((from.to_owned(), to.to_owned()));
        }
        rules.extend(root.config().mirror.iter().map(|rule| (rule.from.clone(), rule.to.clone())));
        Ok(Network { client: Client::new(&config), npm, mirrors: Mirrors::new(rules)? })
    }

    /// The sources inside admit.
    pub(super) fn embedded(&self, _root: &Root) -> Result<Vec<Embedded>> {
        Ok(vec![understudy()?])
    }

    /// The global options with which another admit works on the same root, store and sources, wherever its home is.
    pub(super) fn again(&self) -> Result<Vec<std::ffi::OsString>> {
        let mut again = vec!["--store".into(), self.store_dir()?.into_os_string()];
        if let Some(root) = &self.global.root {
            again.extend(["--root".into(), self.host.absolute(root).into_os_string()]);
        }
        if let Some(digest) = &self.global.expect_root {
            again.extend(["--expect-root".into(), digest.to_string().into()]);
        }
        if let Some(registry) = &self.global.registry {
            again.extend(["--registry".into(), registry.into()]);
        }
        for mirror in &self.global.mirror {
            again.extend(["--mirror".into(), mirror.into()]);
        }
        Ok(again)
    }

    /// The variables by which everything of the user's that is found through `HOME` stays where it is.
    pub(super) fn home_kept(&self) -> Result<Vec<(&'static str, PathBuf)>> {
        let mut kept = Vec::new();
        for (name, dir) in
            [("XDG_DATA_HOME", self.host.data_dir()?), ("XDG_STATE_HOME", self.host.state_dir()?)]
        {
            kept.extend(dir.parent().map(|above| (name, above.to_path_buf())));
        }
        let npmrc = self.host.home().map(|home| home.join(".npmrc")).filter(|file| file.is_file());
        let named = |name| self.host.path_var(name).is_some();
        if let Some(npmrc) = npmrc
            && !named("npm_config_userconfig")
            && !named("NPM_CONFIG_USERCONFIG")
        {
            kept.push(("npm_config_userconfig", npmrc));
        }
        Ok(kept)
    }

    /// The exit code of an answer that was already given.
    #[expect(clippy::unused_self, reason = "reads as the other answers do")]
    pub(super) fn answered(&self, err: Error) -> Result<u8> {
        Ok(err.kind().exit_code())
    }
}

/// The understudy as a commit.
pub(super) fn understudy() -> Result<Embedded> {
    let mut files = Vec::new();
    let mut dirs = vec![&UNDERSTUDY];
    while let Some(dir) = dirs.pop() {
        for file in dir.files() {
            let path = file.path().to_str().unwrap_or_default();
            let path = path
                .parse()
                .map_err(|err| Error::new(Reason::Internal, "an embedded path").caused_by(err))?;
            files.push((path, file.contents().to_vec(), false));
        }
        dirs.extend(dir.dirs());
    }
    Embedded::new("understudy", files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;
    use crate::record::lockfile::Lockfile;

    #[test]
    fn the_understudy_is_the_commit_that_its_lock_pins() {
        let bytes = include_bytes!("../../lockfiles/understudy.lock.json");
        let lock: Lockfile = record::parse(bytes).unwrap();
        assert_eq!(lock.source.rev, understudy().unwrap().commit);
    }
}
