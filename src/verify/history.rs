//! The runs of this user: listed and filtered, held side by side, and removed when they are asked to go.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde::Serialize;

use super::runs;
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::evidence::{self, RunCheck, facts, glance};
use crate::record;
use crate::record::evidence::RunStatus;
use crate::record::failure::FailureClass;
use crate::record::ids::{Digest, Timestamp};

/// The ends of a run, the best first.
pub const STATUSES: [RunStatus; 4] =
    [RunStatus::Pass, RunStatus::Rehearsed, RunStatus::Fail, RunStatus::Blocked];

/// Which runs are meant; what is not given says nothing.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// Only of this status
    #[arg(
        long, value_name = "STATUS",
        value_parser = PossibleValuesParser::new(STATUSES.map(RunStatus::as_str)).try_map(|text| record::of_word::<RunStatus>(&text))
    )]
    pub status: Option<RunStatus>,
    /// Only of this failure class
    #[arg(
        long, value_name = "CLASS",
        value_parser = PossibleValuesParser::new(FailureClass::ALL.iter().map(|class| class.as_str())).try_map(|text| record::of_word::<FailureClass>(&text))
    )]
    pub class: Option<FailureClass>,
    /// Only with this model: PROVIDER/MODEL, or a part of it
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Only on this fixture, or a part of its name
    #[arg(long, value_name = "FIXTURE")]
    pub fixture: Option<String>,
    /// Only of this provider, or a part of its name
    #[arg(long, value_name = "PROVIDER")]
    pub agent: Option<String>,
}

/// One run as a list has it: what its sealed report says. Its other files were not read.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub directory: PathBuf,
    pub id: Option<Digest>,
    /// Absent for one that was never sealed or cannot be read; `fault` says why. A copy under another name has both.
    pub status: Option<RunStatus>,
    pub failure_class: Option<FailureClass>,
    pub fixture: Option<String>,
    pub agent: Option<String>,
    pub model: Option<String>,
    pub started: Option<Timestamp>,
    pub fault: Option<&'static str>,
}

impl Filter {
    fn holds(&self, row: &Row) -> bool {
        let in_text = |want: &Option<String>, found: &Option<String>| {
            want.as_ref()
                .is_none_or(|want| found.as_ref().is_some_and(|f| f.contains(want.as_str())))
        };
        self.status.is_none_or(|status| row.status == Some(status))
            && self.class.is_none_or(|class| row.failure_class == Some(class))
            && in_text(&self.model, &row.model)
            && in_text(&self.fixture, &row.fixture)
            && in_text(&self.agent, &row.agent)
    }
}

/// The runs that `filter` means, newest first.
pub fn list(context: &Context, filter: &Filter) -> Result<Vec<Row>> {
    let rows = runs::all(context)?.into_iter().rev().map(|dir| row(&dir));
    rows.filter(|row| row.as_ref().map_or(true, |row| filter.holds(row))).collect()
}

fn row(dir: &Path) -> Result<Row> {
    let seen = glance(dir)?;
    let report = seen.report.as_ref();
    let copy = runs::sealed_as_another(dir, report).map(|_| "sealed under another name");
    let pair = report.and_then(|report| {
        Some(format!("{}/{}", report.case_model_provider.as_ref()?, report.case_model.as_ref()?))
    });
    Ok(Row {
        name: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        directory: dir.to_owned(),
        id: seen.id,
        status: report.map(|report| report.status),
        failure_class: report.and_then(|report| report.failure_class),
        fixture: report.map(|report| report.fixture.clone()),
        agent: report.and_then(|report| report.provider.clone()),
        model: pair,
        started: report.map(|report| report.started.clone()),
        fault: seen.fault.or(copy),
    })
}

#[derive(Clone, Debug, Serialize)]
pub struct Side {
    pub field: &'static str,
    pub a: String,
    pub b: String,
}

/// Two runs, both read whole, and every field of their reports.
#[derive(Debug)]
pub struct Compared {
    pub a: RunCheck,
    pub b: RunCheck,
    pub fields: Vec<Side>,
}

/// # Errors
/// Where one of them is not what was sealed: what was changed is not compared.
pub fn compare(context: &Context, a: &str, b: &str) -> Result<Compared> {
    let read =
        |text: &str| -> Result<RunCheck> { evidence::check(&runs::find(context, text)?, None) };
    let (a, b) = (read(a)?, read(b)?);
    let both = facts(a.sealed()?).into_iter().zip(facts(b.sealed()?));
    let fields = both.map(|((field, a), (_, b))| Side { field, a, b }).collect();
    Ok(Compared { a, b, fields })
}

/// What is to go.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Prune {
    #[command(flatten)]
    pub filter: Filter,
    /// The newest of them stay
    #[arg(long, value_name = "COUNT")]
    pub keep: Option<usize>,
    /// Only what is older goes
    #[arg(long, value_name = "DAYS")]
    pub older_than: Option<u32>,
    /// Passes go, too
    #[arg(long)]
    pub passes: bool,
    /// Show what would go, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl Prune {
    /// Whether a run beyond those that are kept goes.
    fn takes(
        &self,
        status: Option<RunStatus>,
        age: Option<Duration>,
        lives: impl FnOnce() -> bool,
    ) -> bool {
        let older = self.older_than.map(|days| Duration::from_secs(u64::from(days) * 86_400));
        // One whose age is not known is not known to be old.
        let old = older.is_none_or(|older| age.is_some_and(|age| age >= older));
        match status {
            Some(RunStatus::Pass) => old && self.passes,
            Some(_) => old,
            None => old && !lives(),
        }
    }
}

/// A run that goes, with the bytes that it takes on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Gone {
    pub run: Row,
    pub bytes: u64,
}

/// Removes runs, or says which would go. One that may still be going on stays: it has no seal, and its process lives.
///
/// # Errors
/// [`Reason::BadArgument`] where nothing says which runs; where one cannot be removed.
pub fn prune(context: &Context, prune: &Prune) -> Result<Vec<Gone>> {
    if prune.keep.is_none() && prune.older_than.is_none() {
        return Err(Error::new(Reason::BadArgument, "nothing says which runs may go")
            .expected("--keep COUNT, --older-than DAYS, or both")
            .hint("to see what would go: admit runs prune --keep 20 --dry-run"));
    }
    let rows = list(context, &prune.filter)?;
    let mut out = Vec::new();
    for run in rows.into_iter().skip(prune.keep.unwrap_or(0)) {
        let modified = std::fs::metadata(&run.directory).and_then(|meta| meta.modified()).ok();
        let modified = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let now = u64::try_from(context.clock.now().unix()).unwrap_or(0);
        let age = modified.map(|time| Duration::from_secs(now.saturating_sub(time.as_secs())));
        if !prune.takes(run.status, age, || lives(&run.name)) {
            continue;
        }
        let bytes = bytes_below(&run.directory);
        if !prune.dry_run {
            // Under its name it is whole until it is gone.
            let gone = run.directory.with_file_name(format!(".gone-{}", run.name));
            std::fs::rename(&run.directory, &gone)
                .and_then(|()| std::fs::remove_dir_all(&gone))
                .map_err(|err| Error::io("remove the run", &run.directory, err))?;
            // Its signatures are about nothing any more.
            match std::fs::remove_file(runs::beside(&run.directory)) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove the signatures of", &run.directory, err));
                }
                _ => {}
            }
        }
        out.push(Gone { run, bytes });
    }
    Ok(out)
}

/// Whether the process that made a run directory may still be there: its name ends with the process id, and with a
/// number behind that where the name was taken.
fn lives(name: &str) -> bool {
    name.rsplit('-').take(2).any(|id| {
        id.parse::<u32>().is_ok_and(|id| Path::new("/proc").join(id.to_string()).exists())
    })
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    const DAY: Duration = Duration::from_secs(86_400);
    /// More than any process has.
    const NOBODY: u32 = u32::MAX;

    /// A user with an unsealed run of each of these process ids, the oldest first.
    fn context(ids: &[u32]) -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::with([("HOME".into(), dir.path().display().to_string())], dir.path());
        let context = Context::plain(host);
        for (number, id) in ids.iter().enumerate() {
            let run = format!("20260501T00000{number}Z-toy-{id}");
            let run = context.runs_dir().unwrap().join(run);
            std::fs::create_dir_all(run.join("backend")).unwrap();
            std::fs::write(run.join("trace.jsonl"), "12345").unwrap();
            std::fs::write(run.join("backend/bridge.json"), "{}").unwrap();
        }
        (dir, context)
    }

    fn names(context: &Context) -> Vec<String> {
        list(context, &Filter::default()).unwrap().into_iter().map(|row| row.name).collect()
    }

    #[test]
    fn a_filter_holds_where_all_that_it_names_is_so() {
        let row = Row {
            name: "n".into(),
            directory: "/n".into(),
            id: None,
            status: Some(RunStatus::Fail),
            failure_class: Some(FailureClass::Timeout),
            fixture: Some("r2-duration".into()),
            agent: Some("case".into()),
            model: None,
            started: None,
            fault: None,
        };
        let text = |text: &str| Some(text.to_owned());
        for (filter, holds) in [
            (Filter::default(), true),
            (Filter { status: Some(RunStatus::Fail), ..Filter::default() }, true),
            (Filter { status: Some(RunStatus::Pass), ..Filter::default() }, false),
            (Filter { class: Some(FailureClass::Timeout), ..Filter::default() }, true),
            (Filter { class: Some(FailureClass::Unclassified), ..Filter::default() }, false),
            (Filter { fixture: text("duration"), agent: text("case"), ..Filter::default() }, true),
            (
                Filter { fixture: text("duration"), agent: text("cases"), ..Filter::default() },
                false,
            ),
            // What a run does not say is nothing that was asked for.
            (Filter { model: text(""), ..Filter::default() }, false),
        ] {
            assert_eq!(filter.holds(&row), holds, "{filter:?}");
        }
    }

    #[test]
    fn what_is_pruned_is_old_no_pass_and_not_going_on() {
        let passes = Prune { passes: true, ..Prune::default() };
        let week = Prune { older_than: Some(7), ..Prune::default() };
        let (pass, fail) = (Some(RunStatus::Pass), Some(RunStatus::Fail));
        for (prune, status, age, lives, goes) in [
            (&Prune::default(), fail, Some(DAY), true, true),
            (&Prune::default(), pass, Some(DAY), false, false),
            (&passes, pass, Some(DAY), false, true),
            (&Prune::default(), None, Some(DAY), true, false),
            (&Prune::default(), None, Some(DAY), false, true),
            (&week, fail, Some(DAY * 7), false, true),
            (&week, fail, Some(DAY * 7 - Duration::from_secs(1)), false, false),
            (&week, fail, None, false, false),
        ] {
            assert_eq!(prune.takes(status, age, || lives), goes, "{prune:?} {status:?} {age:?}");
        }
    }

    #[test]
    fn a_run_lives_while_the_process_of_its_name_does() {
        let own = std::process::id();
        for (name, there) in [
            (format!("20260501T000000Z-toy-{own}"), true),
            (format!("20260501T000000Z-toy-{own}-{NOBODY}"), true),
            (format!("20260501T000000Z-toy-{NOBODY}"), false),
            ("20260501T000000Z-toy".to_owned(), false),
        ] {
            assert_eq!(lives(&name), there, "{name}");
        }
    }

    #[test]
    fn the_newest_stay_and_what_goes_takes_its_signatures_with_it() {
        let own = std::process::id();
        let (_dir, context) = context(&[NOBODY, NOBODY - 1, own, NOBODY - 2]);
        assert_eq!(prune(&context, &Prune::default()).unwrap_err().reason(), Reason::BadArgument);
        let all = names(&context);
        assert!(all[0].ends_with(&(NOBODY - 2).to_string()), "{all:?}");
        let signatures = |name: &str| runs::beside(&context.runs_dir().unwrap().join(name));
        // The oldest has none.
        all[..3].iter().for_each(|name| std::fs::write(signatures(name), "{}").unwrap());
        let keep = Prune { keep: Some(1), dry_run: true, ..Prune::default() };
        let shown = prune(&context, &keep).unwrap();
        assert_eq!(names(&context), all, "it was only shown");
        let gone = prune(&context, &Prune { dry_run: false, ..keep }).unwrap();
        let of = |gone: &[Gone]| gone.iter().map(|one| one.run.name.clone()).collect::<Vec<_>>();
        // The one of this very process is still going on.
        assert_eq!((of(&gone), of(&shown)), (all[2..].to_vec(), all[2..].to_vec()));
        assert!(gone.iter().all(|one| one.bytes == 7), "{gone:?}");
        assert_eq!(names(&context), all[..2]);
        let left: Vec<bool> = all.iter().map(|name| signatures(name).exists()).collect();
        assert_eq!(left, [true, true, false, false]);
        // Signatures that cannot be removed are not left behind unsaid.
        std::fs::remove_file(signatures(&all[0])).unwrap();
        std::fs::create_dir(signatures(&all[0])).unwrap();
        let every = Prune { keep: Some(0), ..Prune::default() };
        assert_eq!(prune(&context, &every).unwrap_err().reason(), Reason::Io);
    }
}
