//! Stage 1, lock: names become digests.
//!
//! Only `admit lock` writes a lock. Everything else reads it and refuses what it does not list.

pub mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Reason, Result};
use crate::host::platform;
use crate::record::bunlock::BunLock;
use crate::record::ids::{Digest, Name, Sri};
use crate::record::lockfile::{Lockfile, Output};
use crate::record::piplock::PipLock;
use crate::record::report::BuildReport;
use crate::record::{self, Record as _};
use crate::root::Root;
use crate::secrets;
use plan::Plan;

/// What a person types: `case`, or `case@7959ac9`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub provider: Name,
    /// Beginning of the commit, 4 to 40 hex digits.
    pub rev: Option<String>,
}

impl FromStr for Spec {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rev) = match text.split_once('@') {
            None => (text, None),
            Some((name, rev)) => (name, Some(rev.to_ascii_lowercase())),
        };
        if let Some(rev) = &rev
            && !((4..=40).contains(&rev.len()) && rev.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(format!(
                "\"{rev}\" is not a commit: expected 4 to 40 hex digits after the @"
            ));
        }
        Ok(Self {
            provider: name.parse().map_err(|err: record::ids::ParseError| err.to_string())?,
            rev,
        })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rev {
            Some(rev) => write!(f, "{}@{rev}", self.provider),
            None => write!(f, "{}", self.provider),
        }
    }
}

/// A lock that was found, read and checked, with its plan for this platform.
#[derive(Clone, Debug)]
pub struct Locked {
    pub lock: Lockfile,
    pub plan: Plan,
    /// SHA-256 over its canonical form.
    pub digest: Digest,
    /// Where it is, for people.
    pub place: String,
}

impl Locked {
    /// # Errors
    /// [`Reason::PlatformNotLocked`] where the lock has no toolchain for this platform.
    pub fn new(lock: Lockfile, place: String) -> Result<Self> {
        let plan = Plan::new(&lock, platform()?)?;
        Ok(Self { digest: lock.digest(), lock, plan, place })
    }

    pub fn output(&self) -> Option<&Output> {
        self.lock.outputs.get(&self.plan.platform)
    }

    /// Integrities that the lock records, by install path: accepted where the source's own lock has none.
    pub fn accepted(&self) -> BTreeMap<String, Sri> {
        let packages = self.lock.dependencies.packages.iter().flatten();
        let packages = packages.map(|one| (one.key.clone(), one.integrity.clone()));
        let given = self.lock.dependencies.integrity.clone();
        packages.chain(given).collect()
    }
}

pub fn providers(root: &Root) -> Vec<String> {
    // Locks of what judges stand in the same directory; a lock that cannot be read is listed, so that it is missed.
    let of_judge = |bytes: &[u8]| {
        let value = record::parse_value(bytes);
        let is = |schema| value.as_ref().is_ok_and(|v| record::check_schema(v, schema).is_ok());
        is(PipLock::SCHEMA) || is(BunLock::SCHEMA)
    };
    let locks = root.below("lockfiles/").filter(|(_, bytes)| !of_judge(bytes));
    locks.filter_map(|(path, _)| Lockfile::provider_of(path).map(str::to_owned)).collect()
}

/// Every lock of a root, by its provider. One that cannot be read is there as well.
pub fn all(root: &Root) -> impl Iterator<Item = (String, Result<Lockfile>)> {
    providers(root).into_iter().filter_map(|name| {
        let lock = root.record(&Lockfile::path_of(&name)).transpose()?;
        Some((name, lock))
    })
}

/// Finds, reads and checks the lock that `spec` asks for.
///
/// # Errors
/// [`Reason::ProviderNotLocked`], [`Reason::RevNotLocked`], [`Reason::BadRecord`], [`Reason::HostileLock`].
pub fn resolve(root: &Root, spec: &Spec) -> Result<Locked> {
    let path = Lockfile::path_of(&spec.provider);
    let Some(lock) = root.record::<Lockfile>(&path)? else {
        return Err(Error::new(
            Reason::ProviderNotLocked,
            format!("no lock for the provider \"{}\"", spec.provider),
        )
        .at(root.label())
        .expected(format!("one of: {}", providers(root).join(", ")))
        .found(spec.provider.to_string())
        .hint(format!("give its source and commit: admit lock {} --help", spec.provider)));
    };
    let place = root.place(&path);
    check(&lock, &spec.provider, &place)?;
    if let Some(rev) = &spec.rev
        && !lock.source.rev.matches(rev)
    {
        return Err(Error::new(
            Reason::RevNotLocked,
            format!("{} is locked at another commit", spec.provider),
        )
        .at(place)
        .expected(lock.source.rev.to_string())
        .found(rev.clone())
        .hint(format!(
            "to build the locked one: admit build {}@{}",
            spec.provider,
            lock.source.rev.short()
        ))
        .hint(format!(
            "to lock that one beside it, with all 40 digits: admit lock {}-{rev} --help",
            spec.provider
        )));
    }
    Locked::new(lock, place)
}

/// Refuses a lock that names another provider, holds a secret or would not be safe.
///
/// # Errors
/// [`Reason::BadRecord`], [`Reason::HostileLock`].
pub(crate) fn check(lock: &Lockfile, provider: &Name, place: &str) -> Result<()> {
    if lock.provider != *provider {
        return Err(Error::new(Reason::BadRecord, "the lock is of another provider")
            .at(format!("{place}: provider"))
            .expected(provider.to_string())
            .found(lock.provider.to_string()));
    }
    if let Some(rule) = secrets::rule_of(&record::canonical(lock)) {
        return Err(Error::new(
            Reason::HostileLock,
            "the lock holds a secret, and locks are published",
        )
        .at(place)
        .found(rule)
        .hint("take it out, and revoke it where it was published already"));
    }
    match lock.check().as_slice() {
        [] => Ok(()),
        faults => {
            let what = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            Err(Error::new(Reason::HostileLock, what)
                .at(place)
                .hint("a lock names a build directory of its own below a scratch directory, bun or sh steps, no secrets"))
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    pub field: String,
    /// Value before; absent where there was none.
    pub before: Option<String>,
    pub after: String,
}

/// What a build found out that a lock can hold.
#[derive(Clone, Debug)]
pub struct Resolved<'a> {
    pub report: &'a BuildReport,
    /// Every package of the source's lock, sorted.
    pub packages: Option<Vec<record::lockfile::LockedPackage>>,
}

/// Fills what a build resolved. A value that is already locked is never replaced: a build that differs from its lock
/// does not end as a success, so a difference here means that records were mixed up.
///
/// # Errors
/// [`Reason::DigestMismatch`] where a locked value differs; [`Reason::OutputNotLocked`] where the build path is open.
pub fn update(lock: &Lockfile, found: Resolved<'_>) -> Result<(Lockfile, Vec<Change>)> {
    let mut next = lock.clone();
    let mut changes = Vec::new();
    let report = found.report;
    fill(&mut next.source.tree, report.source_tree.clone(), "source.tree", &mut changes)?;
    fill(&mut next.source.nar_hash, report.nar_hash.clone(), "source.nar_hash", &mut changes)?;
    // `{version}` in it was compared when the output was proven.
    if next.identity.help_first_line.is_none() {
        let line = Some(report.identity.help_first_line.clone());
        fill(&mut next.identity.help_first_line, line, "identity.help_first_line", &mut changes)?;
    }
    if let Some(packages) = found.packages {
        match &next.dependencies.packages {
            None => {
                let after = format!("{} packages, {}", packages.len(), record::digest(&packages));
                changes.push(Change { field: "dependencies.packages".into(), before: None, after });
                next.dependencies.packages = Some(packages);
            }
            Some(old) if *old != packages => {
                return Err(mismatch(
                    "dependencies.packages",
                    record::digest(old).to_string(),
                    record::digest(&packages).to_string(),
                ));
            }
            Some(_) => {}
        }
    }
    let output = report.binary();
    let field = format!("outputs.{}", report.platform);
    match next.outputs.get(&report.platform) {
        Some(old) if *old == output => {}
        Some(old) => {
            return Err(mismatch(&field, old.sha256.to_string(), output.sha256.to_string()));
        }
        None if next.build.path.is_none() && next.kind.is_built() => {
            // What one build gave at a directory of its own choice says nothing of the next.
            let what = "the lock leaves the build path open, so no output is locked";
            return Err(Error::new(Reason::OutputNotLocked, what)
                .at(field)
                .expected("build.path in the lock")
                .found("absent")
                .hint("name one with --build-path: admit lock --help"));
        }
        None => {
            changes.push(Change { field, before: None, after: output.sha256.to_string() });
            next.outputs.insert(report.platform, output);
        }
    }
    Ok((next, changes))
}

fn fill<T: PartialEq + ToString>(
    slot: &mut Option<T>,
    value: Option<T>,
    field: &str,
    changes: &mut Vec<Change>,
) -> Result<()> {
    let Some(value) = value else { return Ok(()) };
    match slot {
        Some(old) if *old == value => {}
        Some(old) => return Err(mismatch(field, old.to_string(), value.to_string())),
        None => {
            changes.push(Change { field: field.into(), before: None, after: value.to_string() });
            *slot = Some(value);
        }
    }
    Ok(())
}

fn mismatch(field: &str, expected: String, found: String) -> Error {
    Error::new(Reason::DigestMismatch, format!("the lock's {field} is not what was built"))
        .expected(expected)
        .found(found)
        .hint("a locked value is never replaced; make a lock under another name: admit lock --help")
}

/// What a new lock changes against an old one, field by field, for people to read.
pub fn compare(old: Option<&Lockfile>, new: &Lockfile) -> Vec<Change> {
    let flat = |lock: &Lockfile| {
        let mut out = BTreeMap::new();
        flatten("", &record::to_value(lock), &mut out);
        out
    };
    let before = old.map(flat).unwrap_or_default();
    let after = flat(new);
    let change = |field: &String, after: &str| {
        let before = before.get(field).cloned();
        Change { field: field.clone(), before, after: after.to_owned() }
    };
    let other = after.iter().filter(|(field, value)| before.get(*field) != Some(value));
    let gone = before.keys().filter(|field| !after.contains_key(*field));
    let other = other.map(|(field, value)| change(field, value));
    other.chain(gone.map(|field| change(field, "absent"))).collect()
}

fn flatten(prefix: &str, value: &serde_json::Value, out: &mut BTreeMap<String, String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, value, out);
            }
        }
        serde_json::Value::Array(list) if list.len() > 20 => {
            out.insert(prefix.into(), format!("{} entries, {}", list.len(), record::digest(value)));
        }
        serde_json::Value::String(text) => drop(out.insert(prefix.into(), text.clone())),
        other => drop(out.insert(prefix.into(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::with([("HOME".to_owned(), dir.path().display().to_string())], dir.path());
        let root = Root::find(&host, None, None).unwrap();
        (dir, root)
    }

    fn case() -> Lockfile {
        resolve(&root().1, &"case".parse().unwrap()).unwrap().lock
    }

    #[test]
    fn an_abbreviated_commit_resolves_against_the_lock_only() {
        let (_dir, root) = root();
        assert!(resolve(&root, &"case@7959ac9".parse().unwrap()).is_ok());
        assert!(resolve(&root, &"case@7959AC9".parse().unwrap()).is_ok());
        let err = resolve(&root, &"case@deadbee".parse().unwrap()).unwrap_err();
        assert_eq!((err.reason(), err.kind().exit_code()), (Reason::RevNotLocked, 2));
        assert_eq!(err.expected_value(), Some("7959ac917cdeb0983b4aaa20bb9f42021747fed8"));
        let err = resolve(&root, &"nobody".parse().unwrap()).unwrap_err();
        assert_eq!(err.reason(), Reason::ProviderNotLocked);
    }

    #[test]
    fn malformed_specs_are_refused() {
        for bad in ["", "@7959ac9", "case@", "case@79", "case@xyzw", "../case", "case@7959@ac9"] {
            assert!(bad.parse::<Spec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_lock_that_is_not_safe_is_refused_and_its_secret_not_repeated() {
        let refused = |change: &dyn Fn(&mut Lockfile)| {
            let mut lock = case();
            change(&mut lock);
            check(&lock, &lock.provider, "lock").unwrap_err()
        };
        let err = refused(&|lock| lock.build.path = Some("/usr/x".parse().unwrap()));
        assert_eq!(err.reason(), Reason::HostileLock);
        let token = format!("https://host/{}{}/x.git", "ghp_", "Ab1".repeat(12));
        let err = refused(&|lock| lock.source.url.clone_from(&token));
        assert_eq!(err.reason(), Reason::HostileLock);
        assert!(!format!("{err:?}").contains(&token), "{err:?}");
    }

    #[test]
    fn changes_are_listed_field_by_field() {
        let mut next = case();
        next.build.path = Some("/tmp/other".parse().unwrap());
        let changes = compare(Some(&case()), &next);
        assert_eq!(changes.len(), 1);
        assert_eq!(
            (changes[0].field.as_str(), changes[0].after.as_str()),
            ("build.path", "/tmp/other")
        );
    }
}
