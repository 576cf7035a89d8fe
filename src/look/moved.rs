//! A lock at another commit: what was looked at in the old one is looked at anew. What the old commit itself said follows
//! the new one; what was given by hand stays, and where the new commit has something else to say, that is told.

use super::ask::{Ask, Rev, missing, undecided};
use super::propose::{self, Open, Proposal, Said};
use super::source::Seen;
use super::toolchain::toolchain;
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::fetch::Fetcher;
use crate::record::ids::Name;
use crate::record::lockfile::{LicenseStatus, Lockfile, Source};
use crate::root::Root;

/// A field, its value and where that is from, for people.
type Note = (String, String, String);

/// `base` at the source and commit that are asked for.
///
/// # Errors
/// [`Reason::BadArgument`] naming every flag by which the new commit asks to be told something; those of the source and of
/// [`propose`].
pub(super) fn moved(
    context: &Context,
    root: &Root,
    provider: &Name,
    mut base: Lockfile,
    ask: &Ask,
    notes: &mut Vec<Note>,
) -> Result<Lockfile> {
    if !base.kind.is_built() && (ask.source.is_some() || ask.rev.is_some()) {
        return Err(Error::new(Reason::BadArgument, "a published package has no commit")
            .at(base.source.url)
            .expected("--package PACKAGE@VERSION")
            .found("--source or --rev"));
    }
    let url = ask.source.clone().unwrap_or_else(|| base.source.url.clone());
    let rev = match &ask.rev {
        None => base.source.rev.clone(),
        Some(Rev::Commit(rev)) => rev.clone(),
        Some(Rev::Newest) => context.network()?.fetcher().newest(&url)?,
    };
    let without = ask.without.clone().unwrap_or_else(|| base.source.without.clone());
    if (&url, &rev, &without) == (&base.source.url, &base.source.rev, &base.source.without) {
        return Ok(base);
    }
    let commit = (&url, &rev) != (&base.source.url, &base.source.rev);
    let old = base.source.clone();
    base.source = Source { url, rev, tree: None, nar_hash: None, without };
    base.dependencies.packages = None;
    base.outputs.clear();
    if commit {
        let network = context.network()?;
        let fetcher = network.fetcher();
        context
            .progress
            .stage("look", &format!("{} at {}", base.source.url, base.source.rev.short()));
        let after = look(&fetcher, provider, &base, ask)?;
        // Where it is gone, nothing is known of who said what then: what the lock has stays, and is compared.
        let before =
            look(&fetcher, provider, &Lockfile { source: old, ..base.clone() }, &Ask::default())
                .ok();
        follow(context, root, provider, &mut base, before, after, ask, notes)?;
    }
    Ok(base)
}

fn look(fetcher: &Fetcher<'_>, provider: &Name, lock: &Lockfile, ask: &Ask) -> Result<Proposal> {
    let seen = Seen::of(&fetcher.source(&lock.source)?.files)?;
    let there = Some(&lock.dependencies.lockfile).filter(|at| seen.files.contains(at.as_str()));
    let path = propose::lockfile(&seen, ask.lockfile.as_ref().or(there))?;
    propose::propose(&seen, path.map_err(|open| missing(provider, &[open]))?)
}

enum Way<T> {
    /// To what the new commit says, with where.
    New(T, String),
    /// It stays; the new commit says something else, if that is known.
    Stays(Option<(T, String)>),
    Asked(Open),
}

/// A flag decides by itself. What the old commit said follows the new one, and is asked for where that is silent.
fn way<T: PartialEq + Clone>(
    flag: bool,
    lock: &T,
    before: Option<&Said<T>>,
    after: Said<T>,
) -> Way<T> {
    let said = matches!(before, Some(Ok(before)) if before.value == *lock);
    match after {
        _ if flag => Way::Stays(None),
        Ok(after) if after.value == *lock => Way::Stays(None),
        Ok(after) if said => Way::New(after.value, after.place),
        Ok(after) => Way::Stays(Some((after.value, after.place))),
        Err(open) if said => Way::Asked(open),
        Err(_) => Way::Stays(None),
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one lock, each from another place")]
fn follow(
    context: &Context,
    root: &Root,
    provider: &Name,
    lock: &mut Lockfile,
    before: Option<Proposal>,
    after: Proposal,
    ask: &Ask,
    notes: &mut Vec<Note>,
) -> Result<()> {
    let before = before.as_ref();
    let mut open: Vec<Open> = Vec::new();
    let mut put = |field: &str, value: String, place: String| {
        notes.push((field.to_owned(), value, place));
    };
    let kept = |value: String, place: &str, flag: &str| {
        format!("as the lock had it; {place} says {value}: {flag}")
    };
    lock.dependencies.lockfile = after.lockfile.clone();

    let version = lock.toolchain.bun.version.clone();
    let flag = ask.bun.is_some();
    match way(flag, &version, before.map(|it| &it.bun), after.bun.clone()) {
        Way::New(next, place) => {
            let all = lock.toolchain.bun.platforms.len() > 1;
            lock.toolchain = toolchain(context, root, &next, all)?;
            put("toolchain.bun", next, place);
        }
        Way::Stays(Some((other, place))) => {
            let fix = format!("--bun {other}");
            put("toolchain.bun", version, kept(other, &place, &fix));
        }
        // A version that the source names no longer is still the one that built it.
        Way::Stays(None) | Way::Asked(_) => {}
    }

    let text = |steps: &[Vec<String>]| {
        steps.iter().map(|step| step.join(" ")).collect::<Vec<_>>().join("; ")
    };
    let flag = ask.steps.is_some();
    match way(flag, &lock.build.steps, before.map(|it| &it.steps), after.steps.clone()) {
        Way::New(next, place) => {
            put("build.steps", text(&next), place);
            lock.build.steps = next;
        }
        Way::Stays(Some((other, place))) => {
            let fix = other.iter().map(|step| format!("--step '{}'", step.join(" ")));
            let fix = fix.collect::<Vec<_>>().join(" ");
            put("build.steps", text(&lock.build.steps), kept(text(&other), &place, &fix));
        }
        Way::Asked(question) => open.push(question),
        Way::Stays(None) => {}
    }
    // A step of one's own leaves what it leaves.
    let flag = ask.output.is_some() || ask.steps.is_some();
    match way(flag, &lock.build.output, before.map(|it| &it.output), after.output.clone()) {
        Way::New(next, place) => {
            put("build.output", next.to_string(), place);
            lock.build.output = next;
        }
        Way::Stays(Some((other, place))) => {
            let fix = format!("--output {other}");
            let value = lock.build.output.to_string();
            put("build.output", value, kept(other.to_string(), &place, &fix));
        }
        Way::Asked(question) => open.push(question),
        Way::Stays(None) => {}
    }

    // What needs no words: it is there in the new commit, or it is not.
    let before_is = |field: fn(&Proposal) -> bool, lock: bool| {
        before.is_some_and(|before| field(before) == lock)
    };
    let was = before.map(Proposal::what_becomes_of_lifecycle);
    if ask.lifecycle.is_none()
        && (was == Some(lock.build.lifecycle) || lock.build.lifecycle.is_none())
    {
        lock.build.lifecycle = after.what_becomes_of_lifecycle();
    }
    if ask.git.is_none() && before_is(|it| it.git.is_some(), lock.build.git) {
        lock.build.git = after.git.is_some();
    }
    if ask.linker.is_none() && before.is_some_and(|it| it.linker() == lock.build.linker) {
        lock.build.linker = after.linker();
    }
    let spdx = |it: &Proposal| it.license().cloned();
    if ask.license.is_none() && before.is_some_and(|it| spdx(it) == lock.license.spdx) {
        lock.license.spdx = spdx(&after);
        lock.license.status = match lock.license.spdx {
            Some(_) => LicenseStatus::Resolved,
            None => LicenseStatus::Unresolved,
        };
    }

    // What is decided of something is decided of that alone.
    lock.build.lfs_pointers.retain(|path| after.pointers.contains(path));
    let same = |key: &String| {
        let of = |said: Option<&Proposal>| said.and_then(|said| said.weak.get(key).cloned());
        of(before).is_some() && of(before) == of(Some(&after))
    };
    lock.dependencies.integrity.retain(|key, _| same(key));
    let trusted = before.map(|before| before.trusted.as_slice()).unwrap_or_default();
    open.extend(undecided(&after, ask, Some(lock), trusted));
    if !open.is_empty() {
        return Err(missing(provider, &open));
    }

    let texts = [
        (
            &mut lock.identity.help_first_line,
            ask.help_first_line.is_some(),
            "identity.help_first_line",
        ),
        (&mut lock.identity.version, ask.version.is_some(), "identity.version"),
    ];
    for (text, flag, field) in texts {
        let next =
            text.as_ref().zip(before).and_then(|(text, before)| with_version(text, before, &after));
        if let Some(next) = next.filter(|_| !flag) {
            put(field, next.clone(), "with the version that package.json has there".into());
            *text = Some(next);
        }
    }
    Ok(())
}

/// `text` with the version of one of the source's packages replaced by what that package has now; `None` where it holds
/// none, or could be of several.
fn with_version(text: &str, before: &Proposal, after: &Proposal) -> Option<String> {
    let mut all: Vec<String> = Vec::new();
    for (dir, old) in &before.versions {
        let Some(new) = after.versions.get(dir) else { continue };
        if let Some(next) = replaced(text, old, new).filter(|next| !all.contains(next)) {
            all.push(next);
        }
    }
    match all.as_slice() {
        [one] if one != text => Some(one.clone()),
        _ => None,
    }
}

/// Every `old` that is a whole version in `text` as `new`; `None` where there is none.
fn replaced(text: &str, old: &str, new: &str) -> Option<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+');
    let (mut out, mut at, mut found) = (String::new(), 0, false);
    for (start, _) in text.match_indices(old) {
        let (head, tail) = (&text[..start], &text[start + old.len()..]);
        let before = head.chars().next_back().is_none_or(|c| !c.is_ascii_digit() && c != '.');
        let mut next = tail.chars();
        let after = match (next.next(), next.next()) {
            (Some('.'), Some(c)) => !part(c),
            (Some(c), _) => !part(c),
            (None, _) => true,
        };
        if before && after && !old.is_empty() {
            out.push_str(&text[at..start]);
            out.push_str(new);
            at = start + old.len();
            found = true;
        }
    }
    out.push_str(&text[at..]);
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_in_a_text_is_replaced_where_it_stands_by_itself() {
        for (text, next) in [
            ("tool 1.0.0", Some("tool 2.1.0")),
            ("tool/v1.0.0 (1.0.0).", Some("tool/v2.1.0 (2.1.0).")),
            ("1.0.0", Some("2.1.0")),
            ("tool 11.0.0", None),
            ("tool 1.0.0.1", None),
            ("tool 1.0.0-rc.1", None),
            ("tool 1.0.01", None),
            ("tool", None),
        ] {
            assert_eq!(replaced(text, "1.0.0", "2.1.0").as_deref(), next, "{text}");
        }
    }
}
