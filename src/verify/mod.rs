//! Verify: does everything on this machine still match the locked records? Reads only, runs nothing unless it is asked
//! to, asks no server.

pub mod history;
mod require;
pub mod runs;
mod signatures;

use serde::Serialize;

use crate::attest::{self, Signed};
use crate::build::Stored;
use crate::check::gather::{self, model};
use crate::check::{self, Check, CheckPolicy, Facts, Found, Purpose};
use crate::context::Context;
use crate::download::config::NetConfig;
use crate::error::{Error, Kind, Reason, Result};
use crate::gate::{Flags, RunRequest, from_old_variables};
use crate::lock::{self, Locked, Spec};
use crate::record::finding::{self, Finding, State};
use crate::record::ids::Name;
use crate::record::signing::StatementKind;
use crate::root::Root;
use crate::sandbox::Launcher;
use crate::store::Store;

pub use require::{Unverified, require_holds};
pub use signatures::{Signatures, bundle};

#[derive(Debug, Default)]
pub struct Options {
    /// One provider; without it every one that was built or recorded here.
    pub provider: Option<Spec>,
    /// Run the output again, in a sandbox, to see that it shows the locked identity.
    pub deep: bool,
    pub signatures: Signatures,
}

#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    pub provider: String,
    pub findings: Vec<Finding>,
    /// Why nothing could be compared, where the lock cannot be read.
    #[serde(skip)]
    unreadable: Option<Kind>,
}

impl Verified {
    pub fn holds(&self) -> bool {
        self.findings.iter().all(|finding| matches!(finding.state, State::Ok | State::NotAsked))
    }

    /// The checks that failed: causes, and nothing that only hangs on one.
    pub fn faults(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_failed())
    }

    /// The exit code: 0 for yes, that of [`finding::kind_of`], that of its kind for a lock that cannot be read, 3 where the
    /// signatures alone do not do, 1 for any other no.
    pub fn exit_code(&self) -> u8 {
        let signed = [Check::BuiltBy, Check::BuildSigned, Check::ModelSigned].map(Check::id);
        if self.holds() {
            return 0;
        }
        let kind = match finding::kind_of(&self.findings) {
            Some(kind) => kind,
            None if self.faults().all(|fault| signed.contains(&fault.id.as_str())) => Kind::Refused,
            None => self.unreadable.unwrap_or(Kind::No),
        };
        kind.exit_code()
    }
}

/// The exit code of several answers: that of all their findings together; else the highest of those that say no, since
/// what could not be looked at takes nothing from another's no.
pub fn exit_code(all: &[Verified]) -> u8 {
    if let Some(kind) = finding::kind_of(all.iter().flat_map(|one| &one.findings)) {
        return kind.exit_code();
    }
    let codes = all.iter().map(Verified::exit_code);
    codes.filter(|code| *code <= Kind::Refused.exit_code()).max().unwrap_or(Kind::No.exit_code())
}

/// # Errors
/// [`Reason::NotFound`] where nothing was built or recorded here; those of the root; [`Reason::BadArgument`] for
/// signatures that contradict the root's policy. What is found out about a provider is in its findings.
pub fn verify(context: &Context, options: &Options) -> Result<Vec<Verified>> {
    if options.provider.is_none() && options.signatures.bundle.is_some() {
        return Err(Error::new(Reason::BadArgument, "a bundle needs the name of what it is about"));
    }
    let root = context.root()?;
    let store = Store::open_read(&context.store_dir()?)?;
    let locks = match &options.provider {
        Some(spec) => vec![(spec.provider.to_string(), Ok(lock::resolve(&root, spec)?))],
        None => known(&root, store.as_ref()),
    };
    if locks.is_empty() {
        return Err(Error::new(
            Reason::NotFound,
            "nothing was built or recorded here, so there is nothing to verify",
        )
        .at(root.label())
        .hint(first_to_build(&root)));
    }
    let mut all = Vec::new();
    for (provider, locked) in locks {
        let findings = one(context, &root, (&provider, &locked), store.as_ref(), options)?;
        let unreadable = locked.err().map(|err| err.kind());
        all.push(Verified { provider, findings, unreadable });
    }
    Ok(all)
}

fn one(
    context: &Context,
    root: &Root,
    (provider, locked): (&str, &Result<Locked>),
    store: Option<&Store>,
    options: &Options,
) -> Result<Vec<Finding>> {
    let mut facts = gather::records(root, locked.as_ref(), store);
    // Of a lock that cannot be read, too: what is to be done about it names it.
    provider.clone_into(&mut facts.provider);
    let flags = Flags { stage: Some(2), ..Flags::default() };
    let request = from_old_variables(&context.host.vars(), flags)?;
    let place = gather::binary_path(request.flags.binary.as_deref(), &facts, store);
    facts.binary = gather::binary(place.as_ref());
    gather::store(&mut facts, store);
    facts.pulled_signed = gather::pulled_signed(root, &context.host, &facts, &context.clock.now());
    facts.build_signed = signed(context, root, &facts, &options.signatures)?;
    requested(context, root, &request, &mut facts);
    if options.deep
        && let (Ok(locked), Some(place)) = (locked, &place)
    {
        let scratch =
            tempfile::tempdir().map_err(|err| Error::io("make", "a temporary directory", err))?;
        let launcher = Launcher::own(scratch.path());
        facts.identity_shown = gather::identity_shown(locked, &place.path, &launcher);
    }
    let purpose = Purpose::Verify { deep: options.deep, model: request.flags.model.is_some() };
    Ok(check::check(&facts, &CheckPolicy { purpose, contract: None }))
}

/// The admission of the model that this user's variables name.
fn requested(context: &Context, root: &Root, request: &RunRequest, facts: &mut Facts) {
    let mut vars = context.host.vars();
    vars.remove(model::ENDPOINT_FILE_VARIABLE);
    facts.stage = request.flags.stage.map_or(Found::Absent, Found::Known);
    model::model(
        &model::Sources {
            root,
            now: &context.clock.now(),
            net: &NetConfig::from_env(&vars),
            vars: &vars,
            pair: request.flags.model.as_ref(),
            admission_file: request.flags.admission_file.as_deref(),
            stage: request.flags.stage.unwrap_or_default(),
            bridge_claimed: request.bridge_claimed,
            // Where it is, is not looked at: its name would have to be resolved.
            endpoint: None,
            script: None,
        },
        facts,
    );
}

/// The locks whose plan was built here, or whose output is on record; and those that cannot be read, since nothing can
/// be said of them. One bad lock does not hide the others.
fn known(root: &Root, store: Option<&Store>) -> Vec<(String, Result<Locked>)> {
    let mut out = Vec::new();
    for name in lock::providers(root) {
        let provider = name
            .parse::<Name>()
            .map_err(|err| Error::new(Reason::BadRecord, "a lock's name").caused_by(err));
        let resolve = |provider| lock::resolve(root, &Spec { provider, rev: None });
        let locked = match provider.and_then(resolve) {
            Ok(locked) => locked,
            // What is locked for other platforms only is no fault of this machine.
            Err(err) if err.reason() == Reason::PlatformNotLocked => continue,
            Err(err) => {
                out.push((name, Err(err)));
                continue;
            }
        };
        let prefix = format!("admissions/builds/{name}--");
        let recorded = root.below(&prefix).next().is_some();
        // A record that cannot be read is something to verify, too.
        let built =
            store.is_some_and(|store| !matches!(Stored::of(store, &locked).report(), Ok(None)));
        if recorded || built {
            out.push((name, Ok(locked)));
        }
    }
    out
}

/// What to type where nothing was built: the first provider that is locked for this machine, as it is pinned.
fn first_to_build(root: &Root) -> String {
    let mut specs = lock::providers(root).into_iter().filter_map(|name| {
        let spec = Spec { provider: name.parse().ok()?, rev: None };
        lock::resolve(root, &spec).ok().map(|locked| locked.lock)
    });
    specs.next().map_or("to lock a provider: admit lock --help".to_owned(), |lock| {
        format!("admit build {}@{}", lock.provider, lock.source.rev.short())
    })
}

/// What the signatures of a recorded build say; nothing is asked where neither the policy nor the user asks.
fn signed(
    context: &Context,
    root: &Root,
    facts: &Facts,
    signatures: &Signatures,
) -> Result<Found<Signed>> {
    let now = context.clock.now();
    let again = gather::rebuild_signed(root, facts, &now);
    let policy = root.config().require.of(StatementKind::Build).is_some();
    let given = signatures.given(context)?;
    if !policy && given.is_none() {
        return Ok(again);
    }
    let demand = signatures.demand(context, root, StatementKind::Build)?;
    let (Some(recorded), Some(locked)) = (facts.recorded.known(), facts.lock.known()) else {
        return Ok(Found::Known(Some(attest::check(None, &[], &demand, &now))));
    };
    let report = &recorded.report;
    let mut expected = vec![attest::of_build(report, &locked.lock, &now)];
    if !policy {
        expected.push(attest::summary(report, &locked.lock, &now));
        expected.push(attest::rebuild(report, &locked.lock));
    }
    let on_record = root.get(&attest::bundle_path(report.sha256.digest()));
    let bundle = given.as_deref().or(on_record);
    let outcome = Some(attest::check(bundle, &expected, &demand, &now));
    let again = again.known().cloned().flatten();
    Ok(Found::Known(attest::both(outcome, again)))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::host::{self, Host};
    use crate::record;
    use crate::record::lockfile::Lockfile;

    const OTHER: Check = Check::BinaryPresent;

    /// The stand-in's lock under another name, with a change.
    type Variation<'a> = (&'a str, fn(&mut Lockfile));

    /// A user with a root that has these files and locks.
    fn user(files: &[(&str, &str)], locks: &[Variation<'_>]) -> (TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, bytes: &[u8]| {
            let path = dir.path().join("root").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        put("admit.toml", b"");
        files.iter().for_each(|(path, text)| put(path, text.as_bytes()));
        for (provider, change) in locks {
            let shipped = include_bytes!("../../lockfiles/understudy.lock.json");
            let mut lock: Lockfile = record::parse(shipped).unwrap();
            lock.provider = provider.parse().unwrap();
            change(&mut lock);
            put(&Lockfile::path_of(provider), &record::pretty(&record::to_value(&lock)));
        }
        let host = Host::with(
            [("HOME".to_owned(), dir.path().join("home").display().to_string())],
            dir.path().join("root"),
        );
        Root::trust(&host, &dir.path().join("root"), None).unwrap();
        (dir, Context::plain(host))
    }

    #[test]
    fn without_a_name_what_is_recorded_built_or_unreadable_is_verified() {
        let elsewhere: fn(&mut Lockfile) = |lock| {
            let here = host::platform().unwrap();
            lock.toolchain.bun.platforms.remove(&here);
            lock.outputs.remove(&here);
        };
        let locks = [("elsewhere", elsewhere), ("plain", |_| ()), ("recorded", |_| ())];
        let digest = "0".repeat(64);
        let files = [
            (&*format!("admissions/builds/recorded--{digest}.json"), "{}"),
            ("lockfiles/broken.lock.json", "{"),
        ];
        let (_dir, context) = user(&files, &locks);
        let (root, store) = (context.root().unwrap(), context.store().unwrap());
        for store in [None, Some(&*store)] {
            let found = known(&root, store);
            let found = found.iter().map(|(name, lock)| (name.as_str(), lock.is_ok()));
            assert_eq!(found.collect::<Vec<_>>(), [("broken", false), ("recorded", true)]);
        }
        // What is embedded can be built; of what cannot be read, or is locked for other machines, nothing is said.
        let case = lock::resolve(&root, &"case".parse().unwrap()).unwrap().lock.source.rev;
        assert_eq!(first_to_build(&root), format!("admit build case@{}", case.short()));
    }

    #[test]
    fn what_is_not_what_the_records_name_is_not_acted_upon_and_a_digest_says_so() {
        let (dir, context) = user(&[("ca", "another program")], &[("tool", |_| ())]);
        let refused = |context: &Context| {
            let spec = "tool".parse().unwrap();
            let no = require_holds(context, &spec, &[], "sign").unwrap().unwrap_err();
            (no.error.reason(), no.faults.into_iter().map(|fault| fault.id).collect::<Vec<_>>())
        };
        let absent = vec![Check::BinaryPresent.id().to_owned()];
        assert_eq!(refused(&context), (Reason::AttestRefused, absent));
        let binary = dir.path().join("root/ca").display().to_string();
        let mut vars = context.host.vars();
        vars.insert("CTO_HARNESS_CASE_BIN".into(), binary);
        let host = Host::with(vars, dir.path().join("root"));
        let context = context.elsewhere(host, dir.path().join("store"), dir.path().join("state"));
        let (reason, faults) = refused(&context);
        assert_eq!(reason, Reason::DigestMismatch);
        assert!(faults.contains(&Check::BinaryDigest.id().to_owned()), "{faults:?}");
    }

    /// A provider with a failure of each of these kinds.
    fn verified(faults: &[(Check, Reason)], unreadable: Option<Kind>) -> Verified {
        let failed = faults.iter().map(|(check, why)| Finding::failed(check.id(), *why, "a", "b"));
        let mut findings = vec![Finding::ok(Check::RootTrusted.id(), "a", "a")];
        findings.extend(failed);
        Verified { provider: "toy".into(), findings, unreadable }
    }

    #[test]
    fn the_exit_code_is_that_of_what_was_found() {
        use Reason::{
            DigestMismatch, GateRefused, KilledFromOutside, LimitHit, NotFound, SandboxUnavailable,
            SignatureMissing, TimedOut,
        };
        for (faults, unreadable, code) in [
            (&[][..], None, 0),
            (&[(OTHER, NotFound)], None, 1),
            (&[(OTHER, NotFound)], Some(Kind::Usage), 2),
            (&[(Check::BuildSigned, SignatureMissing)], None, 3),
            (
                &[(Check::BuiltBy, SignatureMissing), (Check::ModelSigned, SignatureMissing)],
                None,
                3,
            ),
            (&[(Check::BuildSigned, SignatureMissing), (OTHER, NotFound)], None, 1),
            (&[(OTHER, DigestMismatch)], None, 5),
            (&[(OTHER, NotFound), (OTHER, DigestMismatch)], Some(Kind::Usage), 5),
            (&[(OTHER, SandboxUnavailable)], None, 7),
            (&[(OTHER, SandboxUnavailable), (OTHER, NotFound)], None, 1),
            (&[(OTHER, LimitHit)], None, 9),
            (&[(OTHER, TimedOut)], None, 9),
            (&[(OTHER, KilledFromOutside)], None, 75),
            (&[(OTHER, KilledFromOutside), (OTHER, GateRefused)], None, 1),
            (&[(OTHER, SandboxUnavailable), (OTHER, DigestMismatch)], None, 5),
        ] {
            let found = verified(faults, unreadable).exit_code();
            assert_eq!(found, code, "{faults:?} {unreadable:?}");
        }
        // What was not reached is no yes, and no cause.
        let mut unreached = verified(&[], None);
        unreached.findings[0].state = State::NotReached;
        assert_eq!((unreached.holds(), unreached.faults().count()), (false, 0));
    }

    #[test]
    fn the_exit_code_of_several_is_that_of_all_their_findings() {
        let one =
            |why: &Option<Reason>| verified(&Vec::from_iter(why.map(|why| (OTHER, why))), None);
        let (no, digest) = (Some(Reason::NotFound), Some(Reason::DigestMismatch));
        let (sandbox, limit) = (Some(Reason::SandboxUnavailable), Some(Reason::LimitHit));
        let killed = Some(Reason::KilledFromOutside);
        for (reasons, code) in [
            (&[None, None][..], 0),
            (&[None, no], 1),
            (&[no, digest, limit], 5),
            (&[None, sandbox], 7),
            (&[no, sandbox], 1),
            (&[no, killed], 1),
            (&[sandbox, limit], 1),
            (&[digest, limit], 5),
        ] {
            let all: Vec<Verified> = reasons.iter().map(one).collect();
            assert_eq!(exit_code(&all), code, "{reasons:?}");
        }
    }
}
