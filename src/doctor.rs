//! What this machine can do: each thing that a build or a run needs, what was found, and the fix.
//!
//! Nothing is changed on this machine, and nothing is taken for granted: what could not be found out is no "ok".

mod place;
mod program;
mod walls;

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::download::client::{Client, Request};
use crate::download::config::NetConfig;
use crate::download::npmrc::{NpmConfig, Sources};
use crate::error::{Error, Reason};
use crate::host::{self, Host};
use crate::record::lockfile::BunPackage;
use crate::sandbox::Launcher;

use program::{Ran, run};

/// `bun build` of Case takes 630 MB of memory (measured), and with less it is killed.
const MEMORY_LEAST: u64 = 630 << 20;
/// The same, and about 500 MB on a tmpfs, which a build takes only where that is at most half of the memory.
const MEMORY_GOOD: u64 = MEMORY_LEAST + (500 << 20);
/// Tarballs (60 MB), Bun (40 and 100 MB), output (106 MB), and the build itself where it is on disk (500 MB).
const DISK_GOOD: u64 = 2 << 30;
const DISK_LEAST: u64 = 1 << 30;
/// The metadata of one version of one package; a few KB are usual.
const METADATA: u64 = 4 << 20;

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Something is slower, or a feature that many do not need is missing.
    Warn,
    /// What it is needed for will be refused or will fail here.
    Fail,
}

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// A stable name, `snake_case`.
    pub id: String,
    pub status: Status,
    /// What was found, one line.
    pub found: String,
    pub needed_for: String,
    /// What to do; present unless the status is `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    fn ok(id: &str, needed_for: &str, found: impl Display) -> Self {
        Self {
            id: id.to_owned(),
            status: Status::Ok,
            found: found.to_string(),
            needed_for: needed_for.to_owned(),
            fix: None,
        }
    }

    fn not_ok(
        status: Status,
        id: &str,
        needed_for: &str,
        found: impl Display,
        fix: impl Display,
    ) -> Self {
        Self { status, fix: Some(fix.to_string()), ..Self::ok(id, needed_for, found) }
    }

    /// The error's own words; its first hint is the fix where there is one.
    fn of_error(status: Status, id: &str, needed_for: &str, error: &Error, fix: &str) -> Self {
        let mut found = error.to_string();
        if let Some(value) = error.found_value() {
            found = format!("{found}: {value}");
        } else if let Some(cause) = error.causes().last() {
            found = format!("{found}: {cause}");
        }
        let fix = error.hints().first().map_or(fix, String::as_str);
        Self::not_ok(status, id, needed_for, found, fix)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    pub host: &'a Host,
    /// Where the store is or would be.
    pub store: &'a Path,
    /// A registry given on the command line.
    pub registry: Option<&'a str>,
    /// The pinned Bun of this platform, whose metadata the registry is asked for: version and package.
    pub bun: Option<(&'a str, &'a BunPackage)>,
    /// How a sandbox is started, since one is built to see whether it can be.
    pub launcher: &'a Launcher,
    /// Longest time for one program or for the registry's answer.
    pub patience: Duration,
}

/// Examines everything, in a fixed order. Takes at most a few times `patience`.
pub fn examine(setup: &Setup<'_>) -> Vec<Check> {
    let mut checks = vec![platform()];
    checks.extend(walls::walls(setup.launcher));
    checks.extend([memory(host::memory_available()), disk(setup.store)]);
    checks.extend(place::store(setup.store));
    checks.push(git(setup));
    checks.extend(python(setup));
    checks.push(gzip(setup));
    checks.extend(npm(setup));
    checks
}

fn platform() -> Check {
    let needed = "build, run";
    match host::platform() {
        Ok(platform) => Check::ok("platform", needed, format!("{platform} ({})", host::kernel())),
        Err(e) => Check::of_error(
            Status::Fail,
            "platform",
            needed,
            &e,
            "use a Linux machine with x86-64 or ARM64",
        ),
    }
}

fn memory(available: Option<u64>) -> Check {
    let (id, needed) = ("memory", "build");
    match available {
        Some(n) if n >= MEMORY_GOOD => Check::ok(id, needed, format!("{} free", size(n))),
        Some(n) if n >= MEMORY_LEAST => Check::not_ok(
            Status::Warn,
            id,
            needed,
            format!("{} free; builds will be on disk, which is slower", size(n)),
            format!("have {} free, or raise the memory cgroup's limit", size(MEMORY_GOOD)),
        ),
        Some(n) => Check::not_ok(
            Status::Fail,
            id,
            needed,
            format!("{} free", size(n)),
            format!(
                "have {} free (better {}), or raise the memory cgroup's limit",
                size(MEMORY_LEAST),
                size(MEMORY_GOOD)
            ),
        ),
        None => Check::not_ok(
            Status::Warn,
            id,
            needed,
            "unknown: /proc/meminfo does not say",
            "mount /proc; until then builds will be on disk",
        ),
    }
}

fn disk(store: &Path) -> Check {
    let (id, needed) = ("disk", "fetch, build");
    // The store may not be there yet; what will hold it is.
    let at = store.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let room = match rustix::fs::statvfs(at) {
        Ok(s) => s.f_bavail.saturating_mul(s.f_frsize),
        Err(e) => {
            let e = Error::io("examine the file system of", at, e.into());
            return Check::of_error(Status::Fail, id, needed, &e, "name another with --store");
        }
    };
    let found = format!("{} free for {}", size(room), store.display());
    let fix = format!("free {} there, or name another place with --store", size(DISK_GOOD));
    match room {
        n if n >= DISK_GOOD => Check::ok(id, needed, found),
        n if n >= DISK_LEAST => Check::not_ok(Status::Warn, id, needed, found, fix),
        _ => Check::not_ok(Status::Fail, id, needed, found, fix),
    }
}

fn git(setup: &Setup<'_>) -> Check {
    let needed = "run (agents work in a git repository); builds need none";
    let fix = "install git, and have it on PATH";
    program_check(setup, "git", Status::Warn, needed, fix, "git", &["--version"], |out| {
        out.starts_with("git version ").then(|| first_line(out))
    })
}

fn python(setup: &Setup<'_>) -> Vec<Check> {
    let needed = "run (the tests of a fixture)";
    let python = program_check(
        setup,
        "python3",
        Status::Fail,
        needed,
        "install Python 3, and have python3 on PATH",
        "python3",
        &["--version"],
        |out| out.starts_with("Python 3.").then(|| first_line(out)),
    );
    let pip = program_check(
        setup,
        "pip",
        Status::Fail,
        needed,
        "install pip for that Python (python3-pip, or python3 -m ensurepip)",
        "python3",
        &["-m", "pip", "--version"],
        |out| out.starts_with("pip ").then(|| first_line(out)),
    );
    vec![python, pip]
}

fn gzip(setup: &Setup<'_>) -> Check {
    let needed = "fetch (packages hosted on GitHub, taken from a local mirror)";
    let fix = "install GNU gzip, and have it first on PATH";
    program_check(setup, "gnu_gzip", Status::Warn, needed, fix, "gzip", &["--version"], |out| {
        // GNU's own words; other gzips compress to other bytes, or call themselves something else here.
        let gnu = out.starts_with("gzip ") && out.contains("Free Software Foundation");
        gnu.then(|| first_line(out))
    })
}

/// Runs a program and asks `accept` for the words to show.
#[expect(clippy::too_many_arguments, reason = "one row of a table that is written out as calls")]
fn program_check(
    setup: &Setup<'_>,
    id: &str,
    otherwise: Status,
    needed: &str,
    fix: &str,
    name: &str,
    args: &[&str],
    accept: impl Fn(&str) -> Option<String>,
) -> Check {
    let not = |found: String| Check::not_ok(otherwise, id, needed, found, fix);
    let Some(path) = setup.host.program(name) else { return not(format!("no {name} on PATH")) };
    let shown = path.display();
    match run(setup.host, &path, args, setup.patience) {
        Ok(Ran::Ended { success: true, stdout, .. }) => match accept(&stdout) {
            Some(words) => Check::ok(id, needed, format!("{words} ({shown})")),
            None => not(format!("{shown} says: {}", or_nothing(&first_line(&stdout)))),
        },
        Ok(Ran::Ended { stdout, stderr, .. }) => {
            let words = if stderr.trim().is_empty() { stdout } else { stderr };
            not(format!("{shown} {} failed: {}", args.join(" "), or_nothing(&last_line(&words))))
        }
        Ok(Ran::TimedOut) => not(format!(
            "{shown} {} did not end within {} s",
            args.join(" "),
            setup.patience.as_secs_f32()
        )),
        Err(e) => not(format!("{shown} cannot be started: {e}")),
    }
}

fn npm(setup: &Setup<'_>) -> Vec<Check> {
    let (id, needed) = ("npm_config", "fetch");
    let fix = "correct npm's configuration (npm config list), or name a registry";
    let sources = Sources { flag: setup.registry, env: setup.host.vars(), home: setup.host.home() };
    let config = match NpmConfig::load(&sources) {
        Ok(config) => config,
        Err(e) => return vec![Check::of_error(Status::Fail, id, needed, &e, fix)],
    };
    let mut found = String::from(if config.has_custom_registry() {
        "a registry of your own"
    } else {
        "npm's default registry"
    });
    if let Some(file) = config.cafile() {
        if let Err(e) = std::fs::read(file) {
            let e = Error::io("read the CA file that npm's configuration names", file, e);
            return vec![Check::of_error(Status::Fail, id, needed, &e, fix)];
        }
        found.push_str(&format!(", CA file {}", file.display()));
    }
    vec![Check::ok(id, needed, found), registry(setup, &config)]
}

/// Asks the registry for the pinned Bun, once and not for long.
fn registry(setup: &Setup<'_>, config: &NpmConfig) -> Check {
    let (id, needed) = ("registry", "fetch; not needed for what is in the store already");
    let fix = "check the connection, the proxy variables and npm's configuration";
    let Some((version, package)) = setup.bun else {
        let found = "not asked: no lock names a Bun for this platform";
        return Check::not_ok(Status::Warn, id, needed, found, "lock a provider (admit lock)");
    };
    let name = &package.package;
    // A scoped name is one part of the path, as npm asks for it.
    let rest = format!("{}/{version}", name.replace('/', "%2f"));
    let fail = |e: &Error| Check::of_error(Status::Fail, id, needed, e, fix);
    let url = match config.registry_for(name).join(&rest) {
        Ok(url) => url.to_string(),
        Err(e) => {
            let what = format!("the registry's address cannot be joined with {rest}");
            return fail(&Error::new(Reason::BadArgument, what).caused_by(e));
        }
    };
    let mut net = NetConfig {
        connect: setup.patience,
        stall: setup.patience,
        deadline: setup.patience,
        attempts: 1,
        ..NetConfig::from_env(&setup.host.vars())
    };
    net.extra_ca.extend(config.cafile().map(Path::to_owned));
    let request =
        Request { authorization: config.authorization(&url), ..Request::get(&url, METADATA) };
    let answer = match Client::new(&net).fetch_bytes(&request) {
        Ok(answer) => answer,
        Err(e) => return fail(&e),
    };
    let metadata: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
    let integrity = metadata["dist"]["integrity"].as_str();
    let expected = package.integrity.to_string();
    match integrity {
        Some(found) if found == expected => {
            Check::ok(id, needed, format!("answers, and has {name} {version} as locked"))
        }
        found => Check::not_ok(
            Status::Fail,
            id,
            needed,
            format!(
                "answers, but not with the locked {name} {version}: integrity {}",
                found.unwrap_or("absent")
            ),
            "name the registry that the lock was made from, or look at what changed there",
        ),
    }
}

fn size(bytes: u64) -> String {
    if bytes >= 10 << 30 { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}

fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().trim().to_owned()
}

fn last_line(text: &str) -> String {
    text.trim().lines().last().unwrap_or_default().trim().to_owned()
}

fn or_nothing(text: &str) -> String {
    // Words of a foreign program: one line, and no control characters on the terminal.
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    if text.is_empty() { "nothing".into() } else { text }
}

#[cfg(test)]
mod tests;
