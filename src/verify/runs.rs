//! Run directories: naming one, and checking it with its signatures.

use std::path::{Path, PathBuf};

use super::signatures::{Signatures, bundle};
use crate::attest::{self, Held, Refused};
use crate::context::Context;
use crate::error::{Error, Kind as ErrorKind, Reason, Result};
use crate::evidence::{self, Level, RunCheck, StageRow, glance};
use crate::record::evidence::{RunReport, RunStatus};
use crate::record::ids::{Digest, Timestamp};
use crate::record::signing::StatementKind;
use crate::root::Root;

/// The names of all run directories, oldest first; none where there is no such directory yet.
pub fn all(context: &Context) -> Result<Vec<PathBuf>> {
    let dir = context.runs_dir()?;
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(Error::io("list the runs", &dir, err)),
    };
    let mut out = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|err| Error::io("list the runs", &dir, err))?;
        let meta = entry.metadata().map_err(|err| Error::io("look at", entry.path(), err))?;
        let stamp = entry.file_name().to_str().and_then(stamp).map(str::to_owned);
        if let (true, Some(stamp)) = (meta.is_dir(), stamp) {
            // Within a second the process ids say nothing; the directory was last written when it was sealed.
            out.push((stamp, meta.modified().ok(), entry.path()));
        }
    }
    out.sort();
    Ok(out.into_iter().map(|(.., path)| path).collect())
}

/// The time in a run directory's name (`20261120T120000Z-<fixture>-<pid>`); nothing else is a run's name.
fn stamp(name: &str) -> Option<&str> {
    let (stamp, rest) = name.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (day, time) = stamp.strip_suffix('Z')?.split_once('T')?;
    let number = rest.rsplit_once('-').is_some_and(|(_, last)| digits(last));
    (day.len() == 8 && time.len() == 6 && digits(day) && digits(time) && number).then_some(stamp)
}

/// The directory of this user's own run of that name, sealed or not.
pub fn own(context: &Context, name: &str) -> Result<Option<PathBuf>> {
    let dir = context.runs_dir()?.join(name);
    Ok((stamp(name).is_some() && dir.is_dir()).then_some(dir))
}

/// The run directory that `text` names: `latest`, the name of one of this user's runs, a path, or the beginning of the
/// name or id (`sha256:…`) of just one of this user's runs.
///
/// # Errors
/// [`Reason::BadArgument`] where `text` is empty, which as a path would be the current directory, or begins several.
pub fn find(context: &Context, text: &str) -> Result<PathBuf> {
    if text.is_empty() {
        return Err(Error::new(Reason::BadArgument, "the name of a run is empty")
            .expected("a run directory, the name of one of your runs, or latest")
            .found("nothing")
            .hint("admit runs"));
    }
    if text == "latest" {
        let latest = all(context)?.pop().ok_or_else(|| {
            Error::new(Reason::NotFound, "there are no runs yet").hint("admit run stage2")
        })?;
        return match sealed_as_another(&latest, glance(&latest)?.report.as_ref()) {
            None => Ok(latest),
            Some(name) => Err(Error::new(
                Reason::EvidenceInconsistent,
                "the latest run is an earlier one under another name",
            )
            .at(latest.display().to_string())
            .expected(format!("sealed as {}", name_of(&latest)))
            .found(format!("sealed as {name}"))
            .hint(format!("admit verify {}", latest.display()))),
        };
    }
    if let Some(own) = own(context, text)? {
        return Ok(own);
    }
    let path = context.host.absolute(Path::new(text));
    if text.contains('/') || path.symlink_metadata().is_ok() {
        return Ok(path);
    }
    let mut begun = Vec::new();
    for run in all(context)? {
        let id = || glance(&run).ok()?.id.map(|id| id.to_string());
        if name_of(&run).starts_with(text)
            || text.starts_with("sha256:") && id().is_some_and(|id| id.starts_with(text))
        {
            begun.push(run);
        }
    }
    match begun.as_slice() {
        [] => Ok(path),
        [one] => Ok(one.clone()),
        [first, .., last] => {
            Err(Error::new(Reason::BadArgument, format!("several runs begin with {text}"))
                .expected("the beginning of one run's name or id")
                .found(format!("{} runs, {} to {}", begun.len(), name_of(first), name_of(last)))
                .hint(format!("admit show {}", name_of(last))))
        }
    }
}

fn name_of(run: &Path) -> String {
    run.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name under which a run was sealed, where it is not the one under which it stands: what was copied or moved is
/// whole, and no run of now.
pub(super) fn sealed_as_another(run: &Path, report: Option<&RunReport>) -> Option<String> {
    let name = report?.run_directory.rsplit('/').next()?;
    (!name.is_empty() && name != name_of(run)).then(|| name.to_owned())
}

/// The bundle beside a run's directory: nothing is added to what was sealed.
pub fn beside(run: &Path) -> PathBuf {
    let mut name = run.file_name().unwrap_or_default().to_owned();
    name.push(".intoto.jsonl");
    run.with_file_name(name)
}

/// Checks the run directory and its signatures: who signed it, `None` where nobody asks and nothing is there. A run that
/// is not whole is not looked at further.
pub fn check(
    context: &Context,
    root: &Root,
    run: &Path,
    id: Option<&Digest>,
    signatures: &Signatures,
) -> Result<(RunCheck, Option<Result<Held, Refused>>)> {
    let mut checked = evidence::check(run, id)?;
    let (Some(_), Some(id), Some(report)) = (checked.level, &checked.id, &checked.report) else {
        return Ok((checked, None));
    };
    // Elsewhere it has whatever name people give it.
    let own = run.parent().is_some_and(|dir| context.runs_dir().is_ok_and(|runs| runs == dir));
    if let Some(name) = sealed_as_another(run, Some(report)).filter(|_| own) {
        checked.notes.push(format!("an earlier run under another name: it was sealed as {name}"));
    }
    let policy = root.config().require.of(StatementKind::Run).is_some();
    let given = signatures.given(context)?;
    let asked = policy || given.is_some();
    let found = match given {
        Some(given) => Some(given),
        None => {
            bundle(&beside(run))?.or_else(|| root.get(&attest::bundle_path(id)).map(<[u8]>::to_vec))
        }
    };
    if !asked && found.is_none() {
        return Ok((checked, None));
    }
    let demand = signatures.demand(context, root, StatementKind::Run)?;
    let expected = [attest::test_result(id, report).into()];
    let outcome = attest::check(found.as_deref(), &expected, &demand, &context.clock.now());
    match &outcome {
        Ok(_) => checked.level = Some(Level::Signed),
        Err(no) if !asked => {
            let note = format!("its signatures do not count ({}: {})", no.reason, no.found);
            checked.notes.push(note);
            return Ok((checked, None));
        }
        Err(_) => checked.level = None,
    }
    Ok((checked, Some(outcome)))
}

#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The id that it was sealed under, where that came by another way.
    pub id: Option<Digest>,
    /// Ends that are a yes beside a pass.
    pub accept: Vec<RunStatus>,
    /// An earlier run, signed or not, is no run of now.
    pub since: Option<Timestamp>,
    pub signatures: Signatures,
}

impl Wanted {
    fn accepts(&self, status: RunStatus) -> bool {
        status == RunStatus::Pass || self.accept.contains(&status)
    }
}

#[derive(Debug)]
pub struct RunVerified {
    pub check: RunCheck,
    /// Who signed it; `None` where nobody asks and nothing is there.
    pub signed: Option<Result<Held, Refused>>,
    /// Every end that was a yes.
    pub accepts: Vec<RunStatus>,
    /// Whether it ended in one of them.
    pub ended_so: bool,
    /// Whether it began no earlier than was asked.
    pub in_time: bool,
}

impl RunVerified {
    fn new(
        check: RunCheck,
        signed: Option<Result<Held, Refused>>,
        wanted: &Wanted,
    ) -> Result<Self> {
        let refused = matches!(signed, Some(Err(_)));
        if check.faults.is_empty() && !refused && (check.level.is_none() || check.report.is_none())
        {
            return Err(Error::new(Reason::Internal, "a run that was not checked to the end"));
        }
        let report = check.report.as_ref();
        let ended_so = report.is_some_and(|report| wanted.accepts(report.status));
        let since = wanted.since.as_ref().map(Timestamp::unix);
        let in_time =
            report.is_some_and(|report| since.is_none_or(|it| report.started.unix() >= it));
        let accepts = RunStatus::ALL.into_iter().filter(|status| wanted.accepts(*status)).collect();
        Ok(Self { check, signed, accepts, ended_so, in_time })
    }

    pub fn holds(&self) -> bool {
        self.check.level.is_some() && self.ended_so && self.in_time
    }

    /// 0 for yes; that of the first fault, or of signatures that do not do; 1 for intact evidence of a run that is not
    /// accepted.
    pub fn exit_code(&self) -> u8 {
        match (self.check.faults.first(), &self.signed) {
            (Some(fault), _) => fault.kind.reason().kind().exit_code(),
            (None, Some(Err(no))) => no.reason.kind().exit_code(),
            (None, _) => {
                if self.holds() {
                    0
                } else {
                    ErrorKind::No.exit_code()
                }
            }
        }
    }
}

/// Whether a run directory is what was sealed, was signed as is asked, and is of a run that is `wanted`.
///
/// # Errors
/// Where the directory, a bundle or a key cannot be read.
pub fn verify(context: &Context, run: &Path, wanted: &Wanted) -> Result<RunVerified> {
    let root = context.root()?;
    let (check, signed) = check(context, &root, run, wanted.id.as_ref(), &wanted.signatures)?;
    RunVerified::new(check, signed, wanted)
}

#[derive(Debug)]
pub struct Ladder {
    pub rows: Vec<StageRow>,
    /// Whether every pass is signed.
    pub signed: bool,
    /// Runs that do not verify, so that they count for nothing.
    pub unverified: Vec<PathBuf>,
}

/// The ladder. Where the policy asks for signatures, a run without them counts no more than one that was changed.
pub fn ladder(context: &Context) -> Result<Ladder> {
    let root = context.root()?;
    let (mut checked, mut unverified) = (Vec::new(), Vec::new());
    for dir in all(context)? {
        match check(context, &root, &dir, None, &Signatures::default()) {
            Ok((run, _)) if run.level.is_some() => checked.push(run),
            _ => unverified.push(dir),
        }
    }
    Ok(Ladder { rows: evidence::ladder(&checked), signed: all_signed(&checked), unverified })
}

fn all_signed(runs: &[RunCheck]) -> bool {
    let pass = |run: &&RunCheck| run.report.as_ref().is_some_and(|r| r.status == RunStatus::Pass);
    runs.iter().filter(pass).all(|run| run.level == Some(Level::Signed))
}

/// The run that a text means: what looks like a path, `latest`, and the name of one of this user's runs. Any other word is
/// a provider: a directory that happens to have its name must not answer for it.
pub fn named(context: &Context, text: &str) -> Result<Option<PathBuf>> {
    if text.contains('/') || text.starts_with('.') || text == "latest" {
        return find(context, text).map(Some);
    }
    own(context, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Fault, FaultKind};
    use crate::host::Host;

    const AT: &str = "2026-11-20T12:00:00Z";

    #[test]
    fn a_runs_name_is_a_time_and_a_number_and_nothing_else_is() {
        assert_eq!(stamp("20261120T120000Z-a-b-17"), Some("20261120T120000Z"));
        for no in [
            "20261120T120000Z-toy-",
            "20261120T120000Z-toy-x",
            "20261120T120000Z-17",
            "20261120T120000-toy-17",
            "20261120T12000Z-toy-17",
            "2026112T120000Z-toy-17",
            "2026112xT120000Z-toy-17",
            "20261120T12000xZ-toy-17",
            "latest",
        ] {
            assert_eq!(stamp(no), None, "{no}");
        }
    }

    #[test]
    fn what_stands_where_the_user_is_goes_before_the_beginning_of_a_runs_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let name = "20261120T120000Z-toy-17";
        let home = ("HOME".to_owned(), at("home").display().to_string());
        let context = Context::plain(Host::with([home], dir.path()));
        let kept = context.runs_dir().unwrap();
        std::fs::create_dir_all(kept.join(name)).unwrap();
        let found = |text: &str| find(&context, text).unwrap();
        assert_eq!(found("2026"), kept.join(name));
        std::fs::write(at("2026"), "").unwrap();
        assert_eq!(found("2026"), at("2026"));
        // Where the runs cannot be listed it is not said that there are none.
        std::fs::remove_dir_all(&kept).unwrap();
        assert_eq!(all(&context).unwrap(), [""; 0].map(PathBuf::from));
        std::fs::write(&kept, "").unwrap();
        assert!(all(&context).is_err());
    }

    fn ended(status: RunStatus, level: Option<Level>) -> RunCheck {
        let report = RunReport { status, ..RunReport::draft("toy", "case", &AT.parse().unwrap()) };
        RunCheck { level, report: Some(report), ..RunCheck::default() }
    }

    fn verified(
        status: RunStatus,
        faults: &[FaultKind],
        refused: Option<Reason>,
        wanted: &Wanted,
    ) -> RunVerified {
        let none = String::new;
        let fault = |kind| Fault { kind, path: none(), expected: none(), found: none() };
        let faults: Vec<Fault> = faults.iter().copied().map(fault).collect();
        let level = (faults.is_empty() && refused.is_none()).then_some(Level::SelfConsistent);
        let check = RunCheck { faults, ..ended(status, level) };
        let no = |reason| Refused { reason, expected: none(), found: none(), fix: none() };
        RunVerified::new(check, refused.map(|reason| Err(no(reason))), wanted).unwrap()
    }

    fn code(status: RunStatus, accept: &[RunStatus], since: Option<&str>) -> u8 {
        let since = since.map(|time| time.parse().unwrap());
        let wanted = Wanted { accept: accept.to_vec(), since, ..Wanted::default() };
        let verified = verified(status, &[], None, &wanted);
        assert_eq!(verified.holds(), verified.exit_code() == 0);
        verified.exit_code()
    }

    #[test]
    fn every_pass_and_nothing_else_has_to_be_signed() {
        let signed = ended(RunStatus::Pass, Some(Level::Signed));
        let unsigned = |status| ended(status, Some(Level::SelfConsistent));
        assert!(all_signed(&[unsigned(RunStatus::Fail), signed.clone()]));
        assert!(!all_signed(&[signed, unsigned(RunStatus::Pass)]));
    }

    #[test]
    fn a_pass_is_always_a_yes_and_nothing_else_unless_it_is_named() {
        for status in RunStatus::ALL {
            assert_eq!(code(status, &[], None), u8::from(status != RunStatus::Pass));
            assert_eq!(code(status, &[status], None), 0);
            assert_eq!(code(RunStatus::Pass, &[status], None), 0);
        }
        assert_eq!(code(RunStatus::Fail, &[RunStatus::Rehearsed], None), 1);
    }

    #[test]
    fn a_run_that_began_before_what_is_asked_for_is_no_yes() {
        for (since, expected) in [(AT, 0), ("2026-11-20T11:59:59Z", 0), ("2026-11-20T12:00:01Z", 1)]
        {
            assert_eq!(code(RunStatus::Pass, &[], Some(since)), expected, "{since}");
        }
        let late = Some("2026-11-20T12:00:01Z");
        assert_eq!(code(RunStatus::Fail, &[RunStatus::Fail], late), 1);
    }

    #[test]
    fn what_is_wrong_decides_the_exit_code_whatever_the_run_ended_as() {
        let wanted = Wanted::default();
        for status in RunStatus::ALL {
            let changed = [FaultKind::Changed, FaultKind::Missing];
            let missing = Some(Reason::SignatureMissing);
            for (faults, refused, expected) in [
                (&changed[..], None, changed[0].reason()),
                (&changed[1..], missing, changed[1].reason()),
                (&[], missing, Reason::SignatureMissing),
            ] {
                let verified = verified(status, faults, refused, &wanted);
                assert!(!verified.holds());
                assert_eq!(verified.exit_code(), expected.kind().exit_code());
            }
        }
        // Nothing wrong, and nothing found out either, is no answer.
        assert!(RunVerified::new(RunCheck::default(), None, &wanted).is_err());
    }
}
