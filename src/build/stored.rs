//! What builds gave, in the store: by what was asked for and by who built it.

use crate::error::Result;
use crate::lock::Locked;
use crate::record;
use crate::record::ids::Digest;
use crate::record::lockfile::LockedPackage;
use crate::record::report::BuildReport;
use crate::root::bad_record;
use crate::store::Store;

/// Digest of the sources of admit that decide what a build gives (`build.rs`): a build of another revision is not
/// served as this one's.
pub const BUILDER: &str = env!("BUILD_RULES_SHA256");

const AREA: &str = "builds";

pub struct Stored<'a> {
    store: &'a Store,
    /// Also names the lock under which one process builds and the others wait.
    pub key: Digest,
}

impl<'a> Stored<'a> {
    pub fn of(store: &'a Store, locked: &Locked) -> Self {
        Self::by(BUILDER, store, locked)
    }

    fn by(builder: &str, store: &'a Store, locked: &Locked) -> Self {
        let plan = locked.plan.digest();
        let key = record::digest(&serde_json::json!({ "builder": builder, "plan": plan }));
        Self { store, key }
    }

    pub fn report(&self) -> Result<Option<BuildReport>> {
        let Some(bytes) = self.store.record_get(AREA, &self.key, "report.json")? else {
            return Ok(None);
        };
        record::parse(&bytes).map(Some).map_err(|err| bad_record("the store's build record", &err))
    }

    pub fn packages(&self) -> Result<Option<Vec<LockedPackage>>> {
        let Some(bytes) = self.store.record_get(AREA, &self.key, "packages.json")? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|err| bad_record("the store's package list", &err.into()))
    }

    /// The signed statements that came with a build which was pulled, one envelope a line.
    pub fn statements(&self) -> Result<Option<Vec<u8>>> {
        self.store.record_get(AREA, &self.key, "statements.jsonl")
    }

    /// Keeps them; before the report, so that what is found has them.
    pub fn put_statements(&self, bundle: &[u8]) -> Result<()> {
        self.store.record_put(AREA, &self.key, "statements.jsonl", bundle)
    }

    pub fn put(&self, report: &BuildReport, packages: Option<&[LockedPackage]>) -> Result<()> {
        if let Some(packages) = packages {
            let bytes = record::canonical(&packages);
            self.store.record_put(AREA, &self.key, "packages.json", &bytes)?;
        }
        self.store.record_put(AREA, &self.key, "report.json", &record::pretty(report))
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::tests::{good, locked};
    use super::*;

    #[test]
    fn a_build_by_another_revision_of_admit_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (mut locked, report) = (locked(), good());
        locked.lock.outputs.clear();
        Stored::by("another", &store, &locked).put(&report, Some(&[])).unwrap();
        assert_eq!(Stored::of(&store, &locked).report().unwrap(), None);
        assert_eq!(Stored::of(&store, &locked).packages().unwrap(), None);
        Stored::of(&store, &locked).put(&report, None).unwrap();
        assert_eq!(Stored::of(&store, &locked).report().unwrap(), Some(report));
        assert_eq!(BUILDER.len(), 64);
    }
}
