//! npm's configuration: which registry serves a package, with which credentials, and which CA file.
//!
//! admit names no registry itself. The order is npm's: flag, environment (`npm_config_…`), the user's `.npmrc`, the global
//! one, and at last the default that the crate `deno_npmrc` carries. `strict-ssl=false` is not honoured: certificates are
//! always checked.
//!
//! The `.npmrc` of the working directory is **not** read, although npm reads it. `${NAME}` in it stands for a variable of
//! the user's environment, so a cloned repository with `registry=https://evil/` and `//evil/:_authToken=${SECRET}` would
//! be sent the secret by the user who builds in it; and no digest that anyone trusted covers that file.
//!
//! Why not the parser of `deno_npmrc`: it has no `cafile`, so an ini reader would stay here beside it; it takes a token
//! of digits for a number and drops it; it does not know npm's `${NAME?}`; it does not merge files, or `npm_config_…`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use crate::error::{Error, Reason, Result};
use crate::host::is_nothing;

/// Where the configuration may stand. Only files that exist are read.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a> {
    /// A registry given on the command line.
    pub flag: Option<&'a str>,
    pub env: BTreeMap<String, String>,
    /// The user's home directory, for `~/.npmrc`.
    pub home: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct NpmConfig {
    registry: Url,
    scopes: BTreeMap<String, Url>,
    // Key: `host[:port]/path/` as npm writes it after `//`.
    credentials: BTreeMap<String, Credential>,
    cafile: Option<PathBuf>,
}

#[derive(Clone, Default)]
struct Credential {
    token: Option<String>,
    basic: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(..)")
    }
}

impl NpmConfig {
    /// Reads and merges the configuration.
    ///
    /// # Errors
    /// [`Reason::BadArgument`] for a registry that is no `http(s)` address, [`Reason::Io`] for a file that is there and
    /// cannot be read.
    pub fn load(sources: &Sources<'_>) -> Result<Self> {
        let env = env_settings(&sources.env);
        let below_home = |file: &str| sources.home.as_ref().map(|h| h.join(file));
        let user = env.get("userconfig").map(PathBuf::from).or_else(|| below_home(".npmrc"));
        let global = env
            .get("globalconfig")
            .map(PathBuf::from)
            .or_else(|| env.get("prefix").map(|p| Path::new(p).join("etc/npmrc")));

        // From the weakest to the strongest; later entries win.
        let mut settings = BTreeMap::new();
        for file in [global, user].into_iter().flatten() {
            settings.extend(read_file(&file, &sources.env)?);
        }
        settings.extend(env);
        if let Some(flag) = sources.flag {
            settings.insert("registry".to_owned(), flag.to_owned());
        }
        Self::from_settings(settings, sources.home.as_deref())
    }

    fn from_settings(settings: BTreeMap<String, String>, home: Option<&Path>) -> Result<Self> {
        let default = deno_npmrc::NPM_DEFAULT_REGISTRY;
        let registry = settings.get("registry").filter(|v| !v.is_empty());
        let registry = address("registry", registry.map_or(default, String::as_str))?;
        let mut scopes = BTreeMap::new();
        let mut credentials: BTreeMap<String, Credential> = BTreeMap::new();
        for (key, value) in &settings {
            if let Some(scope) = key.strip_suffix(":registry").filter(|k| k.starts_with('@')) {
                scopes.insert(scope.to_owned(), address(key, value)?);
            } else if let Some((place, field)) =
                key.strip_prefix("//").and_then(|rest| rest.rsplit_once(':'))
            {
                let mut place = place.to_owned();
                if !place.ends_with('/') {
                    place.push('/');
                }
                let entry = credentials.entry(place).or_default();
                let slot = match field {
                    "_authToken" => &mut entry.token,
                    "_auth" => &mut entry.basic,
                    "username" => &mut entry.username,
                    "_password" => &mut entry.password,
                    _ => continue,
                };
                *slot = Some(value.clone());
            }
        }
        let cafile = settings.get("cafile").filter(|v| !matches!(v.as_str(), "" | "null"));
        let cafile = cafile.map(|v| match (v.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(v),
        });
        Ok(Self { registry, scopes, credentials, cafile })
    }

    /// The registry that serves `package`, ending in `/`. A scope's own registry wins, as in npm and Bun.
    pub fn registry_for(&self, package: &str) -> &Url {
        let scope = package.split_once('/').map(|(scope, _)| scope);
        scope.and_then(|s| self.scopes.get(s)).unwrap_or(&self.registry)
    }

    /// The address of a package's tarball: `<registry>/<name>/-/<name without scope>-<version>.tgz`.
    ///
    /// # Errors
    /// [`Reason::BadArgument`] where name or version could change the path.
    pub fn tarball_url(&self, package: &str, version: &str) -> Result<String> {
        let plain = |text: &str, more: &str| {
            !text.is_empty()
                && !text.starts_with('.')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.as_bytes().contains(&b))
        };
        let (scope, base) = match package.split_once('/') {
            Some((scope, base)) => (Some(scope), base),
            None => (None, package),
        };
        let scope_ok = scope.is_none_or(|s| s.strip_prefix('@').is_some_and(|s| plain(s, "-._~")));
        // npm's rules for names, and what semantic versions are made of.
        if !scope_ok || !plain(base, "-._~!'()*") || !plain(version, "-.+") {
            return Err(Error::new(Reason::BadArgument, "not the name and version of a package")
                .found(format!("{package}@{version}")));
        }
        Ok(format!("{}{package}/-/{base}-{version}.tgz", self.registry_for(package)))
    }

    /// The `Authorization` line for `url`: that of the longest configured place that the address lies in, on the same
    /// host and port. Never sent anywhere else.
    pub fn authorization(&self, url: &str) -> Option<String> {
        let url = Url::parse(url).ok()?;
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut path = url.path().to_owned();
        loop {
            path.truncate(path.rfind('/')? + 1);
            if let Some(credential) = self.credentials.get(&format!("{host}{path}")) {
                return credential.header();
            }
            path.pop();
        }
    }

    /// A PEM file with further CA certificates (`cafile`).
    pub fn cafile(&self) -> Option<&Path> {
        self.cafile.as_deref()
    }

    /// The registry that serves unscoped packages, without a password that may stand in the address.
    pub fn registry(&self) -> String {
        let mut shown = self.registry.clone();
        // Both fail only for addresses that cannot have either.
        let _ = (shown.set_username(""), shown.set_password(None));
        shown.to_string()
    }

    /// Whether a registry other than the default serves unscoped packages.
    pub fn has_custom_registry(&self) -> bool {
        address("registry", deno_npmrc::NPM_DEFAULT_REGISTRY).is_ok_and(|d| d != self.registry)
    }
}

impl Credential {
    fn header(&self) -> Option<String> {
        if let Some(token) = &self.token {
            return Some(format!("Bearer {token}"));
        }
        if let Some(basic) = &self.basic {
            return Some(format!("Basic {basic}"));
        }
        // npm keeps the password base64-encoded.
        let password = STANDARD.decode(self.password.as_ref()?).ok()?;
        let mut pair = format!("{}:", self.username.as_ref()?).into_bytes();
        pair.extend(password);
        Some(format!("Basic {}", STANDARD.encode(pair)))
    }
}

fn address(key: &str, value: &str) -> Result<Url> {
    let mut text = value.trim().to_owned();
    if !text.ends_with('/') {
        text.push('/');
    }
    let fail = || {
        Error::new(Reason::BadArgument, "npm's configuration names a registry that is no address")
            .at(key.to_owned())
            .expected("https://… or http://…")
    };
    let url = Url::parse(&text).map_err(|err| fail().caused_by(err))?;
    if !matches!(url.scheme(), "http" | "https" | "file") || url.query().is_some() {
        return Err(fail());
    }
    Ok(url)
}

/// `npm_config_<key>` in any case; `_` stands for `-`, except in keys that name a place (`//host/:_authToken`).
fn env_settings(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    // npm's own lower-case spelling wins where both are set.
    for lower in [false, true] {
        for (name, value) in env {
            let is_lower = name.starts_with("npm_config_");
            let prefix = name.get(..11).filter(|p| p.eq_ignore_ascii_case("npm_config_"));
            if prefix.is_none() || is_lower != lower || value.is_empty() {
                continue;
            }
            let key = &name[11..];
            let key = if key.starts_with("//") || key.starts_with('@') {
                key.to_owned()
            } else {
                let head = key.len() - key.trim_start_matches('_').len();
                format!("{}{}", &key[..head], key[head..].replace('_', "-")).to_ascii_lowercase()
            };
            settings.insert(key, value.clone());
        }
    }
    settings
}

fn read_file(path: &Path, env: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(parse(&text, env)),
        Err(err) if is_nothing(&err) => Ok(BTreeMap::new()),
        Err(err) => Err(Error::io("read npm's configuration", path, err)),
    }
}

/// The ini dialect of `.npmrc`: `key=value` lines, `#` and `;` comments, quotes, `${VARIABLE}`. Sections and array
/// keys (`key[]`) hold nothing that admit uses.
fn parse(text: &str, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for line in text.trim_start_matches('\u{feff}').lines().map(str::trim) {
        if line.starts_with('[') {
            break;
        }
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some((key, value)) = line.split_once('=') {
            let value = value.trim();
            let quoted = |q| value.strip_prefix(q).and_then(|v: &str| v.strip_suffix(q));
            let value = match quoted('"').or_else(|| quoted('\'')) {
                Some(inner) => inner,
                None => value.split([';', '#']).next().unwrap_or_default().trim_end(),
            };
            settings.insert(expand(key.trim(), env), expand(value, env));
        }
    }
    settings
}

/// Replaces `${NAME}`; an unset variable stays as it is written, `${NAME?}` becomes empty (npm's rules).
fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(end) = rest[start..].find('}') else { break };
        let name = &rest[start + 2..start + end];
        out.push_str(&rest[..start]);
        match (env.get(name.trim_end_matches('?')), name.ends_with('?')) {
            (Some(value), _) => out.push_str(value),
            (None, true) => {}
            (None, false) => out.push_str(&rest[start..=start + end]),
        }
        rest = &rest[start + end + 1..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flag: Option<&str>, env: &[(&str, &str)], user: &str, global: &str) -> NpmConfig {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_path_buf();
        std::fs::write(home.join(".npmrc"), user).unwrap();
        std::fs::write(home.join("global"), global).unwrap();
        let mut env: BTreeMap<String, String> =
            env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        env.insert("npm_config_globalconfig".into(), home.join("global").display().to_string());
        NpmConfig::load(&Sources { flag, env, home: Some(home) }).unwrap()
    }

    #[test]
    fn the_strongest_source_wins() {
        let (u, p) = ("registry=https://user.example/", "registry=https://global.example");
        let of = |c: NpmConfig| c.registry_for("x").to_string();
        assert_eq!(of(load(None, &[], "", p)), "https://global.example/");
        assert_eq!(of(load(None, &[], u, p)), "https://user.example/");
        let env = [("NPM_CONFIG_REGISTRY", "https://env.example/npm")];
        assert_eq!(of(load(None, &env, u, p)), "https://env.example/npm/");
        assert_eq!(of(load(Some("https://flag.example"), &env, u, p)), "https://flag.example/");
        let both = [env[0], ("npm_config_registry", "https://lower.example")];
        assert_eq!(of(load(None, &both, u, p)), "https://lower.example/");
    }

    #[test]
    fn without_configuration_the_crate_names_the_registry() {
        let config = NpmConfig::load(&Sources::default()).unwrap();
        assert!(!config.has_custom_registry());
        assert!(config.tarball_url("a", "1.0.0").unwrap().ends_with("/a/-/a-1.0.0.tgz"));
    }

    #[test]
    fn scopes_have_their_own_registry() {
        let c =
            load(None, &[], "@s:registry=https://s.example/npm/\nregistry=https://r.example", "");
        let url = |p, v| c.tarball_url(p, v).unwrap();
        assert_eq!(url("@s/a", "1.2.3"), "https://s.example/npm/@s/a/-/a-1.2.3.tgz");
        assert_eq!(url("@t/a", "1.2.3-rc.1+b"), "https://r.example/@t/a/-/a-1.2.3-rc.1+b.tgz");
        for (p, v) in [("../a", "1"), ("a/b", "1"), ("@s/../a", "1"), ("a", "../1"), ("a", "1/2")] {
            assert!(c.tarball_url(p, v).is_err(), "{p}@{v}");
        }
    }

    #[test]
    fn credentials_stay_with_their_place() {
        let user = "//r.example/npm/:_authToken=${TOKEN}\n//b.example/:username=u\n//b.example/:_password=cHc=\n\
                    //p.example:8443/:_auth=YQ==\n//n.example/:_authToken=123";
        let c = load(None, &[("TOKEN", "t0")], user, "");
        let auth = |u| c.authorization(u);
        assert_eq!(auth("https://r.example/npm/a/-/a-1.tgz").as_deref(), Some("Bearer t0"));
        assert_eq!(auth("https://b.example/a").as_deref(), Some("Basic dTpwdw=="));
        assert_eq!(auth("https://p.example:8443/a").as_deref(), Some("Basic YQ=="));
        assert_eq!(auth("https://n.example/a").as_deref(), Some("Bearer 123"));
        for other in [
            "https://r.example/a",
            "https://r.example.evil/npm/a",
            "https://evil.r.example/npm/a",
            "https://r.example/npm-evil/a",
            "https://p.example/a",
            "https://r.example:444/npm/a",
        ] {
            assert_eq!(auth(other), None, "{other}");
        }
        assert!(!format!("{c:?}").contains("t0"));
    }

    #[test]
    fn the_file_format_is_npms() {
        let text = "; comment\n# comment\n cafile = \"/a b.pem\" \nx=${NO}\ny=${NO?}z # end\n[s]\nregistry=no";
        let got = parse(text, &BTreeMap::new());
        let want = [("cafile", "/a b.pem"), ("x", "${NO}"), ("y", "z")];
        assert_eq!(got, want.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn a_registry_that_is_no_address_is_refused() {
        let sources = Sources { flag: Some("registry.example"), ..Sources::default() };
        assert_eq!(NpmConfig::load(&sources).unwrap_err().reason(), Reason::BadArgument);
    }
}
