//! The baselines of an earlier run of the same campaign on this node: they say that this judge tells good work from bad
//! here, and are as true for the next run as long as nothing that they depend on changed.
//!
//! They are kept in the store once the run that made them is sealed as good, under a key of all that they depend on and
//! that can be digested: the plan and where its runs lie, fixture, sandbox, tools, admit itself, the kernel and its boot.
//! What cannot be digested (the standard library, the host's other programs) is why they are kept for ten minutes only.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::baseline::Baselines;
use super::judge::Judgement;
use super::proof::boot_id;
use super::tools::Tools;
use crate::check::launch::LaunchRecord;
use crate::error::{Error, Reason, Result};
use crate::evidence::names;
use crate::host;
use crate::host::files::{self, Links};
use crate::record;
use crate::record::evidence::{Baseline, BaselinesOf};
use crate::record::ids::Digest;
use crate::record::sealed::Seal;
use crate::record::task::TaskOf;
use crate::store::Store;

const AREA: &str = "baselines";
const NAME: &str = "baselines.json";
/// A seal is one line.
const MAX_SEAL: u64 = 64 << 10;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The run that made them, and its directory.
    run: Digest,
    directory: String,
    /// Seconds of this boot.
    made: u64,
    rows: Vec<Baseline>,
    judgements: Vec<Judgement>,
}

/// Where the baselines of a campaign's runs are kept on this node.
pub struct Earlier<'a> {
    store: &'a Store,
    key: Digest,
    runs: PathBuf,
}

/// Seconds since this machine was started, those asleep too.
fn seconds() -> u64 {
    u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or_default()
}

impl<'a> Earlier<'a> {
    /// Those of runs like this one, in whose directory `run` is; `None` where it cannot be said what they depend on.
    pub fn of(
        store: &'a Store,
        task: &TaskOf,
        run: &Path,
        launch: &LaunchRecord,
        tools: &Tools,
    ) -> Option<Self> {
        let runs = run.parent()?.canonicalize().ok()?;
        let own = std::fs::metadata(host::own_program().ok()?).ok()?;
        let own = [own.dev(), own.ino(), own.size(), own.ctime().cast_unsigned()];
        let depends = serde_json::json!({
            "plan": task.plan,
            "node": task.node,
            "runs": runs,
            "fixture": launch.fixture,
            "sandbox": launch.sandbox,
            "directory": launch.directory,
            "tools": tools.facts(),
            "admit": [env!("CARGO_PKG_VERSION").to_owned(), format!("{own:?}")],
            "kernel": host::kernel(),
            "boot": boot_id()?,
            "user": rustix::process::getuid().as_raw(),
        });
        Some(Self { store, key: record::digest(&(AREA, depends)), runs })
    }

    /// What is kept, where it still counts: made in this boot, not long ago, by a run that lies there sealed. What cannot
    /// be read is not there: then the run makes its own.
    pub fn get(&self) -> Option<Baselines> {
        let bytes = self.store.record_get(AREA, &self.key, NAME).ok()??;
        let kept: Kept = serde_json::from_slice(&bytes).ok()?;
        let seconds =
            seconds().checked_sub(kept.made).filter(|age| *age <= BaselinesOf::LONGEST)?;
        let seal = self.runs.join(&kept.directory).join(names::SEAL);
        let seal = files::read(&seal, Links::Refuse, MAX_SEAL).ok()?;
        let seal: Seal = record::parse(&seal).ok()?;
        let of = BaselinesOf { run: kept.run, directory: kept.directory, seconds };
        let there = seal.is_whole() && seal.id == of.run;
        let found = Baselines { rows: kept.rows, judgements: kept.judgements, of: Some(of) };
        (there && found.held()).then_some(found)
    }

    /// Keeps what a run made, which is sealed in `directory` under the id `run`.
    pub fn keep(&self, made: Baselines, run: &Digest, directory: &Path) -> Result<()> {
        let name = directory.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::new(Reason::Internal, "a run without a name"))?;
        if made.of.is_some() || !made.held() {
            return Ok(());
        }
        let kept = Kept {
            run: run.clone(),
            directory: name.to_owned(),
            made: seconds(),
            rows: made.rows,
            judgements: made.judgements,
        };
        self.store.record_put(AREA, &self.key, NAME, &record::canonical(&kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record as _;
    use crate::record::sealed::Manifest;

    fn baselines() -> Baselines {
        let row = |name: &str, good| Baseline {
            name: name.into(),
            expected_accept: good,
            accepted: good,
            patch_digest: Digest::sha256(name.as_bytes()),
            note: String::new(),
        };
        Baselines {
            rows: vec![row("no_change", false), row("reference_patch", true)],
            judgements: vec![Judgement::not_made(""), Judgement::not_made("")],
            of: None,
        }
    }

    #[test]
    fn baselines_are_another_runs_for_ten_minutes_and_while_that_run_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let (runs, key) = (dir.path().join("runs"), Digest::sha256(b"key"));
        let earlier = Earlier { store: &store, key: key.clone(), runs: runs.clone() };
        assert!(earlier.get().is_none(), "nothing is kept");
        let run = runs.join("000000.1");
        std::fs::create_dir_all(&run).unwrap();
        let schema = Manifest::SCHEMA.to_string();
        let manifest = Manifest { schema, files: Vec::new() };
        let seal = Seal::of(&manifest);
        earlier.keep(baselines(), &seal.id, &run).unwrap();
        assert!(earlier.get().is_none(), "that run has no seal");
        std::fs::write(run.join(names::SEAL), record::pretty(&seal)).unwrap();
        let found = earlier.get().unwrap();
        let of = found.of.clone().unwrap();
        assert_eq!((of.run, of.directory.as_str()), (seal.id.clone(), "000000.1"));
        assert!(of.seconds < 60 && found.rows == baselines().rows);

        // A run's that did not make them are not kept, nor are those that did not hold.
        let another = Digest::sha256(b"another");
        earlier.keep(found, &another, &runs.join("000001.1")).unwrap();
        let mut void = baselines();
        void.rows[0].accepted = true;
        earlier.keep(void, &another, &run).unwrap();
        assert_eq!(earlier.get().unwrap().of.unwrap().run, seal.id);

        let put = |change: &dyn Fn(&mut Kept)| {
            let bytes = store.record_get(AREA, &key, NAME).unwrap().unwrap();
            let mut kept: Kept = serde_json::from_slice(&bytes).unwrap();
            change(&mut kept);
            store.record_put(AREA, &key, NAME, &record::canonical(&kept)).unwrap();
            let found = earlier.get().is_some();
            store.record_put(AREA, &key, NAME, &bytes).unwrap();
            found
        };
        assert!(put(&|_| {}));
        assert!(!put(&|kept| kept.made = seconds() + 5), "of a later boot's moment");
        assert!(!put(&|kept| kept.run = another.clone()), "another run lies there");
        assert!(!put(&|kept| kept.rows[1].accepted = false), "one did not hold");
        assert!(!put(&|kept| drop(kept.rows.pop())), "one is missing");
        if seconds() > BaselinesOf::LONGEST + 1 {
            assert!(put(&|kept| kept.made = seconds() - BaselinesOf::LONGEST + 1));
            assert!(!put(&|kept| kept.made = seconds() - BaselinesOf::LONGEST - 1), "too long ago");
        }
        let other = Earlier { store: &store, key: Digest::sha256(b"other"), runs };
        assert!(other.get().is_none(), "something that they depend on is another");
    }
}
