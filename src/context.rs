//! What every command works with: the machine, the clock, who is told of progress, the user's options, and what these
//! name (root, store, network). Made once; root and store are read when they are first asked for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use include_dir::{Dir, include_dir};
use serde::Serialize;

use crate::download::client::Client;
use crate::download::config::NetConfig;
use crate::download::npmrc::{NpmConfig, Sources};
use crate::error::{Error, Reason, Result};
use crate::fetch::Fetcher;
use crate::fetch::embedded::Embedded;
use crate::fetch::mirror::Mirrors;
use crate::host::{Clock, Host, Progress};
use crate::record::ids::{Digest, Name};
use crate::record::network::Network;
use crate::record::reference::Reference;
use crate::record::signing::{Rule, StatementKind};
use crate::registry::client::Repository;
use crate::registry::credentials;
use crate::root::Root;
use crate::store::Store;

/// The stand-in provider's source.
static UNDERSTUDY: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/fixtures/understudy");

/// What the user may say for any command; each has a default that comes from the environment or the machine.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The directory of records, in place of the nearest `admit.toml`.
    pub root: Option<PathBuf>,
    /// The digest that the root must have; stands in for `admit trust`.
    pub expect_root: Option<Digest>,
    pub store: Option<PathBuf>,
    /// Where runs are kept.
    pub state: Option<PathBuf>,
    /// `FROM=TO`, each.
    pub mirror: Vec<String>,
    pub registry: Option<String>,
}

/// See the module.
pub struct Context {
    pub host: Host,
    pub clock: Arc<dyn Clock + Send>,
    pub progress: Arc<dyn Progress + Send>,
    /// The number of the signal by which admit was told to stop; 0 where none came.
    pub stop: Arc<AtomicUsize>,
    pub(crate) options: Options,
    root: Mutex<Option<Arc<Root>>>,
    store: OnceLock<Arc<Store>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub key: String,
    pub value: String,
    pub from: String,
}

/// How inputs are reached, for [`NetworkAccess::fetcher`].
pub struct NetworkAccess {
    client: Client,
    pub npm: NpmConfig,
    mirrors: Mirrors,
    embedded: Vec<Embedded>,
    gzip: Option<PathBuf>,
    store: Arc<Store>,
    progress: Arc<dyn Progress + Send>,
}

impl NetworkAccess {
    pub fn fetcher(&self) -> Fetcher<'_> {
        Fetcher {
            store: &self.store,
            client: &self.client,
            npm: &self.npm,
            mirrors: &self.mirrors,
            gzip: self.gzip.as_deref(),
            embedded: &self.embedded,
            exe: Path::new("/proc/self/exe"),
            progress: &*self.progress,
        }
    }
}

impl Context {
    /// One on `host` for a unit test, at the beginning of June 2026, of which nothing is said and that has no options.
    #[cfg(test)]
    pub fn plain(host: Host) -> Self {
        let clock = crate::host::FixedClock("2026-06-01T00:00:00Z".parse().unwrap());
        Self::new(host, Arc::new(clock), Arc::new(crate::host::Silent), Options::default())
    }

    pub fn new(
        host: Host,
        clock: Arc<dyn Clock + Send>,
        progress: Arc<dyn Progress + Send>,
        options: Options,
    ) -> Self {
        let (root, store) = (Mutex::default(), OnceLock::new());
        Self { host, clock, progress, stop: Arc::default(), options, root, store }
    }

    /// The records that hold for this command.
    pub fn root(&self) -> Result<Arc<Root>> {
        let mut cached = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = &*cached {
            return Ok(Arc::clone(root));
        }
        let (dir, expect) = (self.options.root.as_deref(), self.options.expect_root.as_ref());
        let root = Arc::new(Root::find(&self.host, dir, expect)?);
        Ok(Arc::clone(cached.insert(root)))
    }

    /// Gives `write` the records as they are now; later calls of [`Context::root`] see what it wrote.
    pub fn write_root<T>(&self, write: impl FnOnce(&mut Root) -> Result<T>) -> Result<T> {
        let mut root = Root::clone(&*self.root()?);
        let done = write(&mut root);
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = None;
        done
    }

    pub fn put(&self, path: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = path
            .parse()
            .map_err(|err| Error::new(Reason::BadArgument, "the name").caused_by(err))?;
        self.write_root(|root| root.put(&path, bytes))
    }

    /// Every value that holds, with its origin. Keys, addresses of models and their files are not among them.
    pub fn settings(&self) -> Result<Vec<Setting>> {
        let root = self.root()?;
        let options = &self.options;
        let mut out = Vec::new();
        let mut add = |key: &str, value: String, from: String| {
            out.push(Setting { key: key.to_owned(), value, from });
        };
        // A flag wins over its variable, and what is not the variable's value is the flag's.
        let origin = |flag: &str, variable: &str, same: Option<bool>| match same {
            Some(true) => variable.to_owned(),
            Some(false) => flag.to_owned(),
            None => "default".to_owned(),
        };
        let of_path = |given: &Option<PathBuf>, flag: &str, variable: &str| {
            origin(flag, variable, given.as_ref().map(|_| *given == self.host.path_var(variable)))
        };
        let from = match (&options.root, root.directory()) {
            (Some(_), _) => of_path(&options.root, "--root", "ADMIT_ROOT"),
            (None, Some(_)) => "the nearest admit.toml upward".to_owned(),
            (None, None) => "default".to_owned(),
        };
        add("root", root.label(), from);
        add("root.digest", root.digest().to_string(), "the root's files".to_owned());
        let expected = options.expect_root.as_ref();
        let trusted = root.trusted().unwrap_or("not trusted").to_owned();
        let variable = self.host.var("ADMIT_EXPECT_ROOT")?.and_then(|text| text.parse().ok());
        let same = expected.map(|given| Some(given) == variable.as_ref());
        let from = origin("--expect-root", "ADMIT_EXPECT_ROOT", same);
        add("root.trusted", trusted, from);
        let store = self.store_dir()?.display().to_string();
        add("store", store, of_path(&options.store, "--store", "ADMIT_STORE"));
        let runs = self.runs_dir()?.display().to_string();
        add("runs", runs, of_path(&options.state, "--state", "ADMIT_STATE"));
        let place = root.place(crate::root::MARKER);
        for ((from, to), origin) in self.given_mirrors()? {
            add("mirror", format!("{from} -> {to}"), origin.to_owned());
        }
        let config = root.config();
        for rule in &config.mirror {
            add("mirror", format!("{} -> {}", rule.from, rule.to), place.clone());
        }
        let npm = self.reach()?.1;
        let variable = self.host.var("ADMIT_REGISTRY")?;
        let same = options.registry.as_deref().map(|given| Some(given) == variable);
        let from = origin("--registry", "ADMIT_REGISTRY", same);
        let from = match options.registry.is_some() {
            false if npm.has_custom_registry() => "npm's configuration".to_owned(),
            _ => from,
        };
        add("registry", npm.registry(), from);
        for name in Network::BUILT_IN {
            let words = Network::built_in(name).map(|network| network.words()).unwrap_or_default();
            add(&format!("network.{name}"), words, "built in".to_owned());
        }
        for network in &config.network {
            let name = network.name.as_str();
            let words = Network::named(name, &config.network).map(|network| network.words());
            add(&format!("network.{name}"), words.unwrap_or_default(), place.clone());
        }
        for signer in &config.signer {
            let key = signer.key.fingerprint().to_string();
            add(&format!("signer.{}", signer.name), key, place.clone());
        }
        let words = |rule: &Rule| {
            let names: Vec<&str> = rule.signers.iter().map(Name::as_str).collect();
            format!("{} of {}", rule.need(), names.join(", "))
        };
        for kind in StatementKind::ALL {
            let key = format!("require.{}", kind.as_str());
            match config.require.of(kind) {
                None => add(&key, "no signature".to_owned(), "default".to_owned()),
                Some(rule) => add(&key, words(rule), place.clone()),
            }
        }
        if config.cache.from.is_empty() {
            add("cache.from", "none".to_owned(), "default".to_owned());
        }
        for from in &config.cache.from {
            add("cache.from", from.to_string(), place.clone());
        }
        if let Some(rule) = &config.cache.require {
            add("cache.require", words(rule), place.clone());
        }
        Ok(out)
    }

    /// Flag, `ADMIT_STORE`, else below the user's data directory.
    pub fn store_dir(&self) -> Result<PathBuf> {
        let named = self.options.store.clone().or_else(|| self.host.path_var("ADMIT_STORE"));
        Ok(match named {
            Some(dir) => self.host.absolute(&dir),
            None => self.host.data_dir()?.join("store"),
        })
    }

    /// The store, made where it is missing.
    pub fn store(&self) -> Result<Arc<Store>> {
        if let Some(store) = self.store.get() {
            return Ok(Arc::clone(store));
        }
        let store = Arc::new(Store::open(&self.store_dir()?)?);
        Ok(Arc::clone(self.store.get_or_init(|| store)))
    }

    /// The directory of run directories: below the flag's, else below the user's state directory.
    pub fn runs_dir(&self) -> Result<PathBuf> {
        let state = match &self.options.state {
            Some(dir) => self.host.absolute(dir),
            None => self.host.state_dir()?,
        };
        Ok(state.join("runs"))
    }

    /// The way to the network: proxies and CA files from the environment, the registry from npm's configuration,
    /// mirrors from flags, `ADMIT_MIRROR` and `admit.toml`, in this order.
    ///
    /// # Errors
    /// [`Reason::BadArgument`] for a mirror that is not `FROM=TO`; those of root, store and npm's configuration.
    pub fn network(&self) -> Result<NetworkAccess> {
        let (config, npm) = self.reach()?;
        let given = self.given_mirrors()?;
        let mut rules: Vec<_> = given.into_iter().map(|(rule, _)| rule).collect();
        let root = self.root()?;
        rules.extend(root.config().mirror.iter().map(|rule| (rule.from.clone(), rule.to.clone())));
        Ok(NetworkAccess {
            client: Client::new(&config),
            npm,
            mirrors: Mirrors::new(rules)?,
            embedded: vec![understudy()?],
            gzip: self.host.program("gzip"),
            store: self.store()?,
            progress: Arc::clone(&self.progress),
        })
    }

    /// The mirrors of flags and of the variable, each with which of the two.
    fn given_mirrors(&self) -> Result<Vec<((String, String), &'static str)>> {
        let variable = self.host.var("ADMIT_MIRROR")?.unwrap_or_default();
        let flags = self.options.mirror.iter().map(|rule| (rule.as_str(), "--mirror"));
        let all = flags.chain(variable.split_whitespace().map(|rule| (rule, "ADMIT_MIRROR")));
        all.map(|(rule, origin)| match rule.split_once('=') {
            Some((from, to)) => Ok(((from.to_owned(), to.to_owned()), origin)),
            None => Err(Error::new(Reason::BadArgument, "a mirror that is not FROM=TO")
                .at(origin)
                .expected("the beginning of a URL, =, and what stands in for it")
                .found(rule.to_owned())),
        })
        .collect()
    }

    /// A repository of a registry, reached as every other server is, with what this user's configuration has for it.
    ///
    /// # Errors
    /// Those of [`credentials::find`] and of npm's configuration, which may name a CA file.
    pub fn registry(&self, reference: &Reference) -> Result<Repository<'_>> {
        let secret = credentials::find(&self.host, reference)?;
        let client = Client::new(&self.reach()?.0);
        Ok(Repository::new(client, reference.clone(), secret, &*self.progress))
    }

    /// The same for what only saves time: asked with less patience, and for so long in all.
    pub fn cache(&self, reference: &Reference, within: Duration) -> Result<Repository<'_>> {
        let secret = credentials::find(&self.host, reference)?;
        let config = NetConfig { deadline: within, ..self.reach()?.0 }.hurried();
        let repository =
            Repository::new(Client::new(&config), reference.clone(), secret, &*self.progress);
        Ok(repository.until(Instant::now() + within))
    }

    /// How the network is reached, and npm's configuration, which has a say in it.
    fn reach(&self) -> Result<(NetConfig, NpmConfig)> {
        let env = self.host.vars();
        let npm = NpmConfig::load(&Sources {
            flag: self.options.registry.as_deref(),
            env: env.clone(),
            home: self.host.home(),
        })?;
        let mut config = NetConfig::from_env(&env);
        config.extra_ca.extend(npm.cafile().map(PathBuf::from));
        Ok((config, npm))
    }

    /// The same clock and sources on another machine's state: environment, records, store and runs of its own, and
    /// no progress shown.
    pub fn elsewhere(&self, host: Host, store: PathBuf, state: PathBuf) -> Self {
        let options = Options {
            store: Some(store),
            state: Some(state),
            mirror: self.options.mirror.clone(),
            registry: self.options.registry.clone(),
            ..Options::default()
        };
        let silent = Arc::new(crate::host::Silent);
        let mut elsewhere = Self::new(host, Arc::clone(&self.clock), silent, options);
        elsewhere.stop = Arc::clone(&self.stop);
        elsewhere
    }

    /// The global flags with which another process of admit works on the same root, store and sources, wherever its
    /// home is.
    pub fn flags(&self) -> Result<Vec<OsString>> {
        let options = &self.options;
        let mut flags = vec!["--store".into(), self.store_dir()?.into_os_string()];
        if let Some(root) = &options.root {
            flags.extend(["--root".into(), self.host.absolute(root).into_os_string()]);
        }
        if let Some(digest) = &options.expect_root {
            flags.extend(["--expect-root".into(), digest.to_string().into()]);
        }
        if let Some(registry) = &options.registry {
            flags.extend(["--registry".into(), registry.into()]);
        }
        for mirror in &options.mirror {
            flags.extend(["--mirror".into(), mirror.into()]);
        }
        Ok(flags)
    }

    /// The variables by which everything of the user's that is found through `HOME` stays where it is.
    pub fn home_kept(&self) -> Result<Vec<(&'static str, PathBuf)>> {
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
}

/// The understudy as a commit.
fn understudy() -> Result<Embedded> {
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
        let bytes = include_bytes!("../lockfiles/understudy.lock.json");
        let lock: Lockfile = record::parse(bytes).unwrap();
        assert_eq!(lock.source.rev, understudy().unwrap().commit);
    }
}
