//! Whether a report is of the build that a lock asks for, and whether a build is on record: one rule for all commands.

use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::lock::Locked;
use crate::record;
use crate::record::ids::{Digest, RelPath};
use crate::record::lockfile::{Output, PublishedForm};
use crate::record::report::{BuildReport, Difference, Origin, OutputStatus, SourceAdmission};
use crate::root::{Root, bad_record};

/// Compares a report with everything that the lock asks for. What the lock leaves open holds as it was found.
pub fn asked(locked: &Locked, report: &BuildReport) -> Result<(), Difference> {
    let (lock, plan) = (&locked.lock, &locked.plan);
    let mut want = vec![
        ("provider", json!(plan.provider)),
        ("platform", json!(plan.platform)),
        ("pinned_commit", json!(plan.rev)),
        ("source_url", json!(lock.source.url)),
        ("bun_version", json!(plan.bun_version)),
        ("bun_sha256", json!(plan.bun.as_ref().map(|bun| &bun.binary_sha256))),
        ("build_path", json!(plan.path)),
        ("output", json!(plan.output)),
        ("plan_digest", json!(plan.digest())),
    ];
    want.extend(lock.source.tree.as_ref().map(|tree| ("source_tree", json!(tree))));
    want.extend(lock.source.nar_hash.as_ref().map(|nar| ("nar_hash", json!(nar))));
    if let Some(packages) = &lock.dependencies.packages {
        want.push(("package_count", json!(packages.len())));
        want.push(("packages_digest", json!(record::digest(packages))));
    }
    if let Some(Output { sha256, blake3, size }) = locked.output() {
        want.extend([("sha256", json!(sha256)), ("blake3", json!(blake3)), ("size", json!(size))]);
    }
    let origin = report.first_origin();
    let published = origin == Origin::Published;
    if published == plan.kind.is_built() && origin != Origin::Adopted {
        let expected = if published { "built" } else { "published" };
        return Err(Difference::new("origin", json!(expected), json!(origin)));
    }
    if origin != Origin::Built {
        let none = || json!([]);
        want.extend([("build_command", none()), ("writes", none()), ("sandbox", Value::Null)]);
    }
    let found = record::to_value(report);
    for (field, expected) in &want {
        if found[field] != *expected {
            return Err(Difference::new(field, expected, &found[field]));
        }
    }
    if origin == Origin::Built {
        built(locked, report, &found)?;
    }
    pulled(report)?;
    // A native program has no runtime to prove: then it is on record how it is linked.
    let native = plan.package.as_ref().is_some_and(|(form, _)| *form == PublishedForm::Native);
    if report.runtime.proven == native {
        return Err(Difference::new("runtime.proven", !native, report.runtime.proven));
    }
    if report.runtime.native.is_some() != native {
        return Err(Difference::new("runtime.native", native, !native));
    }
    report.identity.shows(&lock.identity)
}

/// A pulled build says by whose word it counts, and its record is the one that they signed; no other build says such a thing.
fn pulled(report: &BuildReport) -> Result<(), Difference> {
    match (report.origin == Origin::Pulled, &report.pulled) {
        (false, None) => Ok(()),
        (true, Some(pulled)) if pulled.origin == Origin::Pulled => {
            Err(Difference::new("pulled.origin", "what it was where it was made", "pulled"))
        }
        (true, Some(pulled)) => {
            let found = Digest::sha256(&record::pretty(&report.as_built()));
            match found == pulled.record_sha256 {
                true => Ok(()),
                false => Err(Difference::new("pulled.record_sha256", &pulled.record_sha256, found)),
            }
        }
        (true, None) => Err(Difference::new("pulled", "by whose word it counts", "nothing")),
        (false, Some(_)) => Err(Difference::new("pulled", "nothing", "a build that was pulled")),
    }
}

/// What only the report of a build has.
fn built(locked: &Locked, report: &BuildReport, found: &Value) -> Result<(), Difference> {
    let plan = &locked.plan;
    if !plan.kind.could_run(locked, &report.build_command) {
        let mut expected = vec![plan.kind.install_command(plan.linker)];
        expected.extend(plan.steps.clone());
        return Err(Difference::new("build_command", json!(expected), &found["build_command"]));
    }
    if report.writes.iter().any(|path| !plan.writes.contains(path)) {
        return Err(Difference::new("writes", json!(plan.writes), &found["writes"]));
    }
    for (field, expected) in [("network", "none"), ("sockets", "denied")] {
        if found["sandbox"][field] != expected {
            let field = format!("sandbox.{field}");
            return Err(Difference::new(&field, json!(expected), &found["sandbox"]));
        }
    }
    Ok(())
}

/// The first field in which a recorded report is not what the lock asks for, nor the report of the build in the store.
pub fn difference(
    locked: &Locked,
    report: &BuildReport,
    stored: Option<&BuildReport>,
) -> Option<Difference> {
    let found = record::to_value(report);
    let status = [
        ("verification", json!(OutputStatus::Locked)),
        ("source_admission_status", json!(SourceAdmission::Admitted)),
    ];
    let wrong = |(field, expected): &(&str, Value)| found[*field] != *expected;
    stored
        .and_then(|stored| stored.difference(report))
        .or_else(|| asked(locked, report).err())
        .or_else(|| {
            let (field, expected) = status.into_iter().find(wrong)?;
            Some(Difference::new(field, expected, &found[field]))
        })
}

/// Whether this very build is on record.
///
/// # Errors
/// [`Reason::BadRecord`].
pub fn admission(root: &Root, locked: &Locked, report: &BuildReport) -> Result<SourceAdmission> {
    let path = locked.output().map(|o| BuildReport::path_of(&locked.lock.provider, &o.sha256));
    let recorded = path.map(|path| root.record::<BuildReport>(&path)).transpose()?.flatten();
    Ok(match recorded.is_some_and(|it| difference(locked, &it, Some(report)).is_none()) {
        true => SourceAdmission::Admitted,
        false => SourceAdmission::NotAdmitted,
    })
}

/// Puts a build on record and says where.
///
/// # Errors
/// [`Reason::OutputNotLocked`] where the lock does not name the output.
pub fn record(context: &Context, report: &BuildReport) -> Result<String> {
    if report.verification == OutputStatus::Unlocked {
        return Err(Error::new(
            Reason::OutputNotLocked,
            "the lock names no output, so the build cannot be recorded",
        )
        .at(report.provider.to_string())
        .expected(format!("outputs.{} in the lock", report.platform))
        .found("absent")
        .hint(format!("admit lock {} --update", report.provider)));
    }
    let path: RelPath = report.path().parse().map_err(Error::internal("the name of a record"))?;
    let mut report = report.clone();
    report.source_admission_status = SourceAdmission::Admitted;
    // A record that says the same is left as it is: recording twice, or two at once, changes nothing.
    context.write_root(|root| {
        root.update(&path, |now| {
            let old = now.map(record::parse::<BuildReport>).transpose();
            let old = old.map_err(|err| bad_record(path.as_str(), &err))?;
            let same = old.is_some_and(|old| {
                old.core_digest() == report.core_digest()
                    && old.source_admission_status == report.source_admission_status
            });
            Ok((!same).then(|| record::pretty(&report)))
        })?;
        Ok(root.place(path.as_str()))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::record::ids::{Digest, Sri};
    use crate::record::lockfile::{LockedPackage, Lockfile, PackageKind};

    pub(in crate::build) fn locked() -> Locked {
        let lock = include_bytes!("../../lockfiles/understudy.lock.json");
        let mut lock: Lockfile = record::parse(lock).unwrap();
        (lock.source.tree, lock.source.nar_hash) = (good().source_tree, good().nar_hash);
        Locked::new(lock, "lock".into()).unwrap()
    }

    /// The report that a build of this lock gave.
    pub(in crate::build) fn good() -> BuildReport {
        record::parse(include_bytes!("../../fixtures/fuzz/report/understudy.json")).unwrap()
    }

    /// Another value of the same form.
    fn altered(value: &Value) -> Value {
        match value {
            Value::Bool(old) => json!(!old),
            Value::Number(old) => json!(old.as_u64().unwrap() + 1),
            Value::Array(old) => json!([old.as_slice(), &[json!("x")]].concat()),
            Value::String(old) if old.is_empty() => json!("x"),
            Value::String(old) => {
                let at = old.len() - 3;
                let other = if old.as_bytes()[at] == b'1' { "2" } else { "1" };
                json!(format!("{}{other}{}", &old[..at], &old[at + 1..]))
            }
            other => panic!("{other}"),
        }
    }

    /// Every field that is no object, by its pointer.
    fn leaves(value: &Value, at: &str, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| leaves(value, &format!("{at}/{key}"), out));
            }
            _ => out.push(at.to_owned()),
        }
    }

    #[test]
    fn every_altered_field_of_a_record_is_named() {
        let (locked, stored) = (locked(), good());
        assert_eq!(difference(&locked, &good(), None), None);
        assert_eq!(difference(&locked, &good(), Some(&stored)), None);
        let original = record::to_value(&good());
        let mut all = Vec::new();
        leaves(&original, "", &mut all);
        // Times and the like, and the lock's digest, which changes when `admit lock --update` fills the lock.
        all.retain(|at| !at.starts_with("/volatile/") && at != "/lock_digest" && at != "/schema");
        assert!(all.len() > 35, "{all:?}");
        // What this lock does not say is told by the build in the store alone.
        let of_build = ["/runtime/", "/sandbox/", "/identity/help_sha256", "/origin", "/package"];
        for at in all {
            let mut bad = original.clone();
            let place = bad.pointer_mut(&at).unwrap();
            *place = match at.as_str() {
                "/origin" => json!("adopted"),
                "/verification" => json!("unlocked"),
                "/source_admission_status" => json!("not_admitted"),
                "/platform" => json!("linux-x64-musl"),
                "/build_command" => json!([["bun", "run", "evil"]]),
                "/writes" => json!(["other"]),
                _ => altered(place),
            };
            let bad: BuildReport = record::parse(bad.to_string().as_bytes()).unwrap();
            let field = at[1..].split('/').next().unwrap().to_owned();
            let found = difference(&locked, &bad, Some(&stored));
            let found = found.unwrap_or_else(|| panic!("{at} can be altered unseen"));
            let named = found.field.split('.').next().unwrap();
            assert_eq!(named, field, "{found:?}");
            assert_ne!(found.expected, found.found, "{at}");
            let alone = difference(&locked, &bad, None).is_some();
            assert!(alone || of_build.iter().any(|one| at.starts_with(one)), "{at}: unseen alone");
        }
    }

    #[test]
    fn what_a_lock_leaves_open_holds_and_what_it_asks_for_must_be_shown() {
        let change = |change: &dyn Fn(&mut Lockfile)| {
            let mut lock = locked().lock;
            change(&mut lock);
            asked(&Locked::new(lock, "lock".into()).unwrap(), &good()).err().map(|d| d.field)
        };
        assert_eq!(change(&|_| ()), None);
        assert_eq!(
            change(&|lock| {
                lock.source.tree = None;
                lock.source.nar_hash = None;
                lock.dependencies.packages = None;
                lock.outputs.clear();
            }),
            None
        );
        let none = |lock: &mut Lockfile| lock.dependencies.packages = Some(Vec::new());
        assert_eq!(change(&none).unwrap(), "package_count");
        let identity = |change: &dyn Fn(&mut record::lockfile::Identity)| {
            let mut identity = locked().lock.identity;
            change(&mut identity);
            good().identity.shows(&identity).err().map(|d| d.field)
        };
        assert_eq!(identity(&|_| ()), None);
        let help = identity(&|i| i.help_first_line = Some("x".into()));
        assert_eq!(help.unwrap(), "identity.help_first_line");
        assert_eq!(identity(&|i| i.commands.push("x".into())).unwrap(), "identity.commands");
        assert_eq!(identity(&|i| i.version = None).unwrap(), "identity.version");
    }

    #[test]
    fn commands_that_no_build_of_the_plan_runs_are_refused() {
        let mut lock = locked().lock;
        lock.build.scripts = vec!["a".into()];
        let mut locked = Locked::new(lock, "lock".into()).unwrap();
        let plan = locked.plan.clone();
        let script = |name: &str| ["bun", "run", name].map(str::to_owned).to_vec();
        let run = |locked: &Locked, scripts: &[&str]| {
            let mut all = vec![plan.kind.install_command(plan.linker)];
            all.extend(scripts.iter().map(|name| script(name)));
            all.extend(plan.steps.clone());
            plan.kind.could_run(locked, &all)
        };
        let packages = locked.lock.dependencies.packages.insert(Vec::new());
        let at = |key: &str| LockedPackage {
            key: key.into(),
            name: "a".into(),
            version: "1.0.0".into(),
            kind: PackageKind::Npm,
            integrity: Sri(Digest::sha256(b"")),
        };
        packages.push(at("a"));
        let one = locked.clone();
        let good = |scripts: &[&str]| run(&one, scripts);
        assert!(good(&[]) && good(&["postinstall"]) && good(&["preinstall", "install"]));
        assert!(!good(&["evil"]));
        let four = ["install", "install", "install", "install"];
        assert!(!good(&four));
        assert!(!plan.kind.could_run(&one, &[]));
        assert!(!plan.kind.could_run(&one, &[plan.kind.install_command(plan.linker)]));
        // Installed at two places, it has them twice.
        locked.lock.dependencies.packages.iter_mut().for_each(|all| all.push(at("b/a")));
        assert!(run(&locked, &four) && !run(&locked, &["install"; 7]));
    }
}
