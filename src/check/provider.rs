//! Root, lock, binary and the build on record.

use super::{Check, CheckPolicy, Facts, Found, Purpose, Recorded, hold, no_faults, ok_if};
use crate::build;
use crate::bun::native;
use crate::error::Reason;
use crate::record;
use crate::record::finding::Finding;
use crate::record::ids::Sha256;
use crate::record::lockfile::{Ambient, LicenseStatus};
use crate::record::report::{BuildReport, Origin, SourceAdmission};

pub(super) fn root_trusted(facts: &Facts) -> Finding {
    let fix = "read its lockfiles and admissions, then trust it: admit trust --help";
    hold(Check::RootTrusted, &facts.root, "a root that this user trusts", fix, |root| {
        let why = root.trusted.unwrap_or("not trusted");
        ok_if(root.trusted.is_some(), Reason::RootNotTrusted, format!("{} ({why})", root.label))
    })
}

pub(super) fn lock_valid(facts: &Facts) -> Finding {
    let fix = format!("give its source and commit: admit lock {} --help", facts.provider);
    hold(Check::LockValid, &facts.lock, "a valid lock of the provider", &fix, |locked| {
        let faults: Vec<String> = locked.lock.check().iter().map(ToString::to_string).collect();
        let valid = || format!("{} {}", locked.place, locked.digest);
        no_faults(Reason::HostileLock, &faults, valid)
    })
}

pub(super) fn output_locked(facts: &Facts) -> Finding {
    let fix = format!("admit build {0} && admit lock {0} --update", facts.provider);
    let locked = facts.lock.known().and_then(|locked| locked.output());
    let built = facts.saved.known().map(|saved| &saved.sha256);
    let another = built.filter(|built| locked.is_some_and(|output| output.sha256 != **built));
    let expected = match (locked, another) {
        (Some(output), Some(_)) => format!("the locked output {}", output.sha256),
        _ => "the output's digest in the lock, for this platform".into(),
    };
    hold(Check::OutputLocked, &facts.lock, &expected, &fix, |_| match (locked, another) {
        (None, _) => {
            Err((Reason::OutputNotLocked, "output_not_locked: the lock names none".into()))
        }
        (_, Some(built)) => Err((Reason::DigestMismatch, format!("{built} was built here"))),
        (Some(output), None) => Ok(output.sha256.to_string()),
    })
}

fn build_fix(facts: &Facts) -> String {
    format!("admit build {} --record", facts.provider)
}

pub(super) fn binary_present(facts: &Facts) -> Finding {
    let expected = "the provider's binary, a regular file";
    hold(Check::BinaryPresent, &facts.binary, expected, &build_fix(facts), |binary| {
        match &binary.irregular {
            None => Ok(binary.place.clone()),
            Some(what) => Err((Reason::OutputNotExecutable, format!("{}: {what}", binary.place))),
        }
    })
}

pub(super) fn binary_executable(facts: &Facts) -> Finding {
    let place = facts.binary.known().map_or("FILE", |binary| &binary.place);
    let fix = format!("chmod +x {place}");
    hold(Check::BinaryExecutable, &facts.binary, "executable", &fix, |binary| {
        let found = if binary.executable { "executable" } else { "not executable" };
        ok_if(binary.executable, Reason::OutputNotExecutable, found)
    })
}

/// SHA-256, BLAKE3 and size, all of one reading of the file.
pub(super) fn binary_digest(facts: &Facts) -> Finding {
    let output = facts.lock.known().and_then(|locked| locked.output());
    let expected = output.map_or("a locked output".into(), |output| {
        format!("sha256:{} blake3:{} {} bytes", output.sha256, output.blake3, output.size)
    });
    let fix = build_fix(facts);
    hold(Check::BinaryDigest, &facts.binary, &expected, &fix, |binary| {
        let Some(content) = &binary.content else {
            return Err((Reason::OutputNotExecutable, "no regular file".into()));
        };
        let same = output.is_some_and(|output| {
            *output.sha256.digest() == content.sha256
                && *output.blake3.digest() == content.blake3
                && output.size == content.size
        });
        let found = format!("{} {} {} bytes", content.sha256, content.blake3, content.size);
        ok_if(same, Reason::DigestMismatch, found)
    })
}

/// Where neither a record nor a binary is here, nothing was built: that is one cause, and [`Check::BinaryPresent`] names it.
pub(super) fn build_recorded(facts: &Facts) -> Finding {
    let check = Check::BuildRecorded;
    if matches!((&facts.recorded, &facts.binary), (Found::Absent, Found::Absent)) {
        return Finding::not_reached(check.id(), vec![Check::BinaryPresent.id().to_owned()]);
    }
    let expected = "a recorded build report with source_admission_status admitted";
    hold(check, &facts.recorded, expected, &build_fix(facts), |recorded| {
        let status = recorded.report.source_admission_status;
        let word = record::word(&status);
        let found = format!("{} {word}", recorded.place);
        ok_if(status == SourceAdmission::Admitted, Reason::NotRecorded, found)
    })
}

/// The recorded build held against a value of the lock.
fn same<T: PartialEq + ToString>(
    facts: &Facts,
    check: Check,
    reason: Reason,
    values: impl Fn(&Facts, &Recorded) -> Option<(T, T)>,
) -> Finding {
    let pair = facts.recorded.known().and_then(|recorded| values(facts, recorded));
    let expected = pair.as_ref().map_or("a locked value".to_owned(), |(want, _)| want.to_string());
    hold(check, &facts.recorded, &expected, &build_fix(facts), |_| match &pair {
        Some((want, found)) => ok_if(want == found, reason, found.to_string()),
        None => Err((Reason::NotFound, "absent".into())),
    })
}

pub(super) fn source_pin(facts: &Facts) -> Finding {
    same(facts, Check::SourcePin, Reason::SourceMismatch, |facts, recorded| {
        let lock = &facts.lock.known()?.lock;
        Some((lock.source.rev.clone(), recorded.report.pinned_commit.clone()))
    })
}

pub(super) fn toolchain_digest(facts: &Facts) -> Finding {
    same(facts, Check::ToolchainDigest, Reason::DigestMismatch, |facts, recorded| {
        let words = |sha256: Option<&Sha256>| {
            sha256.map_or("none".to_owned(), |sha256| sha256.digest().to_string())
        };
        let bun = facts.lock.known()?.plan.bun.as_ref();
        let want = words(bun.map(|bun| &bun.binary_sha256));
        Some((want, words(recorded.report.bun_sha256.as_ref())))
    })
}

pub(super) fn binary_identity(facts: &Facts) -> Finding {
    let lock = facts.lock.known().map(|locked| &locked.lock);
    let expected = "the locked identity, proven of the recorded output";
    let hardened = lock.is_some_and(|lock| lock.run.ambient == Ambient::Hardened);
    let loads =
        |it: &Recorded| it.report.runtime.autoload_bunfig || it.report.runtime.autoload_dotenv;
    let fix = match hardened && facts.recorded.known().is_some_and(loads) {
        true => format!(
            "where runs shall switch that off from outside: admit lock {} --ambient neutralise",
            facts.provider
        ),
        false => build_fix(facts),
    };
    hold(Check::BinaryIdentity, &facts.recorded, expected, &fix, |recorded| {
        let (report, Some(lock)) = (&recorded.report, lock) else {
            return Err((Reason::NotFound, "no lock says which".into()));
        };
        let mut faults = Vec::new();
        if let Err(differs) = report.identity.shows(&lock.identity) {
            let (field, want) = (differs.field, differs.expected);
            faults.push(format!("{field} {} instead of {want}", differs.found));
        }
        let mut need = |good: bool, what: &str| {
            if !good {
                faults.push(what.to_owned());
            }
        };
        let published = report.first_origin() == Origin::Published;
        let native = published && report.runtime.native.is_some();
        need(report.runtime.proven || native, "the runtime inside is not proven");
        // Whoever published it compiled them in: they are what the locked digest holds, and on record.
        need(report.runtime.exec_argv.is_empty() || published, "arguments are compiled in");
        if lock.run.ambient == Ambient::Hardened {
            let off = !report.runtime.autoload_bunfig && !report.runtime.autoload_dotenv;
            need(off, "locked as hardened, and autoloading is on");
        }
        let found = match faults.is_empty() {
            true => shown(report),
            false => format!("wrong provider identity: {}", faults.join("; ")),
        };
        ok_if(faults.is_empty(), Reason::WrongIdentity, found)
    })
}

fn shown(report: &BuildReport) -> String {
    let mut out = report.identity.help_first_line.clone();
    let first = report.first_origin();
    if let Some(words) = first.not_built_here().filter(|_| first == Origin::Published) {
        out.push_str(&format!("; {words}"));
    }
    if let Some(native) = &report.runtime.native {
        out.push_str(&format!("; native: {}", native::words(native)));
    }
    if let Some(why) = &report.runtime.not_proven {
        out.push_str(&format!("; its runtime is not proven: {why}"));
    }
    if !report.runtime.exec_argv.is_empty() {
        out.push_str(&format!("; compiled arguments {:?}", report.runtime.exec_argv));
    }
    out
}

/// The first thing in which a recorded build is not what it must be.
struct Differs {
    reason: Reason,
    want: String,
    found: String,
}

/// The one rule by which a recorded build is the one that the lock asks for and the one that was made here: what
/// [`source_pin`], [`toolchain_digest`] and [`binary_identity`] leave over. A run needs no build here, verify does: it
/// answers for what is on this machine.
pub(super) fn build_matches(facts: &Facts, policy: &CheckPolicy) -> Finding {
    let check = Check::BuildMatches;
    let difference = (|| {
        let (recorded, locked) = (facts.recorded.known()?, facts.lock.known()?);
        let no_build = |reason, found: &str| {
            let want = "the report of the build here".to_owned();
            Some(Differs { reason, want, found: found.to_owned() })
        };
        if let Some(differs) = build::difference(locked, &recorded.report, facts.saved.known()) {
            let field = differs.field;
            let reason = match field.as_str() {
                "source_url" | "source_tree" | "nar_hash" => Reason::SourceMismatch,
                _ => Reason::DigestMismatch,
            };
            let want = format!("{field}: {}", differs.expected);
            return Some(Differs { reason, want, found: format!("{field}: {}", differs.found) });
        }
        match (&facts.saved, policy.purpose) {
            (Found::Failed(failure), _) => no_build(failure.reason, &failure.found),
            // What was not made here lies here by its record and its signatures.
            (Found::Absent, Purpose::Verify { .. }) if recorded.report.origin == Origin::Pulled => {
                None
            }
            (Found::Absent | Found::Unknown, Purpose::Verify { .. }) => {
                no_build(Reason::NotFound, "absent")
            }
            _ => None,
        }
    })();
    let expected = difference.as_ref().map_or("what the lock asks for", |differs| &differs.want);
    hold(check, &facts.recorded, expected, &build_fix(facts), |recorded| match &difference {
        None => Ok(format!("{} {}", recorded.place, recorded.report.core_digest())),
        Some(differs) => Err((differs.reason, differs.found.clone())),
    })
}

/// Who answers for the build: this machine's own, or whoever signed what was pulled.
pub(super) fn built_by(facts: &Facts) -> Finding {
    let check = Check::BuiltBy;
    let report = facts.recorded.known().map(|recorded| &recorded.report);
    let pulled = report.and_then(|report| report.pulled.as_ref());
    let refused = match facts.pulled_signed.known() {
        Some(Some(Err(refused))) => Some(refused),
        _ => None,
    };
    let expected = match (pulled, refused) {
        (_, Some(refused)) => refused.expected.as_str(),
        (Some(_), None) => "a signature of somebody whom this user or the policy trusts",
        (None, None) => "a build of admit, or a binary that it took by its digest",
    };
    let fix = format!("admit build {} --rebuild --record", facts.provider);
    if let Some(report) = report.filter(|report| report.origin != Origin::Pulled) {
        let words = report.origin.not_built_here().map(str::to_owned);
        let found =
            words.unwrap_or_else(|| format!("built by admit {}", report.volatile.admit_version));
        return Finding::ok(check.id(), expected, found);
    }
    let fix = refused.map_or(fix.as_str(), |refused| &refused.fix);
    hold(check, &facts.pulled_signed, expected, fix, |signed| match signed {
        None => Err((Reason::SignatureMissing, "pulled, and nothing says by whose word".into())),
        Some(Ok(held)) => {
            let from = pulled.map_or("", |pulled| &pulled.from);
            let was = match pulled.map(|pulled| pulled.origin) {
                Some(Origin::Adopted) => " (adopted there, not built)",
                Some(Origin::Published) => " (published, not built there)",
                _ => "",
            };
            Ok(format!("pulled from {from}{was}; signed by {}", held.names()))
        }
        Some(Err(no)) => Err((no.reason, format!("{}: {}", no.reason, no.found))),
    })
}

pub(super) fn licence(facts: &Facts) -> Finding {
    let stage = facts.stage.known().copied();
    let expected =
        format!("a licence that allows stage {}", stage.map_or("?".into(), |s| s.to_string()));
    let fix = "settle the licence, then set `license` in the lock";
    hold(Check::Licence, &facts.lock, &expected, fix, |locked| {
        let licence = &locked.lock.license;
        let status = match (licence.status, &licence.spdx) {
            (LicenseStatus::Resolved, Some(spdx)) => format!("resolved as {spdx}"),
            (LicenseStatus::Resolved, None) => "resolved".into(),
            (LicenseStatus::Unresolved, _) => "not settled upstream".into(),
        };
        let stages: Vec<String> = licence.allows.iter().map(ToString::to_string).collect();
        let allows = match stages.as_slice() {
            [] => "no stage".into(),
            [one] => format!("stage {one} only"),
            more => format!("stages {}", more.join(", ")),
        };
        let good = stage.is_some_and(|stage| licence.allows.contains(&stage));
        ok_if(good, Reason::GateRefused, format!("{status}; the lock allows {allows}"))
    })
}
