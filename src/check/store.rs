//! What the store holds beside the output: what `verify` looks at and a run does not need.

use super::{Check, Facts, Found, hold, ok_if};
use crate::error::Reason;
use crate::record;
use crate::record::finding::Finding;
use crate::record::report::Origin;

/// Why there is neither source nor packages: the binary was not built here.
fn not_built(facts: &Facts) -> Option<&'static str> {
    match facts.recorded.known()?.report.origin {
        Origin::Built => None,
        Origin::Adopted => Some("the binary was adopted: it was not built here"),
        Origin::Published => Some("the binary was published: it was not built here"),
        Origin::Pulled => Some("the build was pulled: it was not made here"),
    }
}

fn fix(facts: &Facts) -> String {
    format!("admit build {} --rebuild", facts.provider)
}

pub(super) fn source_stored(facts: &Facts) -> Finding {
    if let Some(why) = not_built(facts) {
        return Finding::not_asked(Check::SourceStored.id(), why);
    }
    // The commit is in no tree; `source_pin` holds it.
    let nar = facts.recorded.known().and_then(|recorded| recorded.report.nar_hash.as_ref());
    let expected = nar.map_or("a source".into(), ToString::to_string);
    hold(Check::SourceStored, &facts.source_stored, &expected, &fix(facts), |found| {
        Ok(found.clone())
    })
}

pub(super) fn toolchain_stored(facts: &Facts) -> Finding {
    let check = Check::ToolchainStored;
    let plan = facts.lock.known().map(|locked| &locked.plan);
    if plan.is_some_and(|plan| plan.bun.is_none()) {
        return Finding::not_asked(check.id(), "there is no Bun in what was published");
    }
    let bun = plan.and_then(|plan| Some((plan, plan.bun.as_ref()?)));
    let expected = bun.map_or("the locked Bun".into(), |(plan, bun)| {
        format!("Bun {} sha256:{}", plan.bun_version, bun.binary_sha256)
    });
    let pulled = facts.recorded.known().is_some_and(|it| it.report.origin == Origin::Pulled);
    if pulled && matches!(facts.toolchain_stored, Found::Absent) {
        return Finding::not_asked(check.id(), "the build was pulled: it was not made here");
    }
    if matches!(facts.toolchain_stored, Found::Absent) {
        return Finding::failed(check.id(), Reason::BunMissing, expected, "absent").fix(fix(facts));
    }
    hold(check, &facts.toolchain_stored, &expected, &fix(facts), |()| Ok(expected.clone()))
}

pub(super) fn packages_stored(facts: &Facts) -> Finding {
    if let Some(why) = not_built(facts) {
        return Finding::not_asked(Check::PackagesStored.id(), why);
    }
    let packages = facts.lock.known().and_then(|l| l.lock.dependencies.packages.as_ref());
    let locked = packages.map(record::digest);
    let recorded = facts.recorded.known().and_then(|r| r.report.packages_digest.clone());
    let want = locked.or(recorded);
    let expected = want.as_ref().map_or("the packages of the source's lock".into(), |digest| {
        format!("every package of the list {digest}")
    });
    hold(Check::PackagesStored, &facts.packages_stored, &expected, &fix(facts), |found| {
        let text = match found.all - found.stored.min(found.all) {
            0 => format!("all {} packages of the lock, {}", found.all, found.digest),
            others => format!(
                "{} packages ({others} more are for other platforms), {}",
                found.stored, found.digest
            ),
        };
        ok_if(want.as_ref() == Some(&found.digest), Reason::DigestMismatch, text)
    })
}

pub(super) fn identity_shown(facts: &Facts) -> Finding {
    let first = facts.lock.known().map(|locked| locked.lock.identity.help_first_line.as_deref());
    let first = first.flatten();
    let expected = first.unwrap_or("the locked identity");
    hold(
        Check::IdentityShown,
        &facts.identity_shown,
        expected,
        &fix(facts),
        |line| Ok(line.clone()),
    )
}
