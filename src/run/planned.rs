//! What a provider would get of a fixture, as far as the gates look at it: arguments, task, surroundings. Starts
//! nothing.

use std::collections::BTreeMap;

use super::ambient::{self, Around};
use super::engine::case::{self, Layout};
use super::facts::{self, Planned};
use super::fixture::Fixture;
use super::provider;
use crate::error::Result;
use crate::gate::{TaskContract, TaskFact};
use crate::lock::Locked;
use crate::record::ids::Timestamp;
use crate::root::Root;

/// The plan. Without a lock there is no argument list. `sentinel` stands where a key would.
pub fn planned(
    root: &Root,
    fixture: &Fixture,
    locked: Option<&Locked>,
    sentinel: &str,
    now: &Timestamp,
) -> Planned {
    let layout = Layout::new(fixture.record.repo.as_str());
    let task = fixture.task_files(now);
    let file = provider::task_file(&layout, fixture, now);
    let shape = locked.map(|locked| locked.lock.run.argv.clone()).unwrap_or_default();
    let args = case::arguments(&shape, &file);
    let report = locked.and_then(|locked| facts::recorded(root, locked).1.ok()).flatten();
    let hardened = locked.is_some_and(|locked| facts::hardened(locked, report.as_ref()));
    let env = case::environment(sentinel, hardened, &BTreeMap::new());
    let files = fixture.workspace.iter();
    let workspace = files.map(|(p, c)| (p.to_string(), c.bytes().to_vec())).collect();
    Planned {
        task: TaskFact { json: task.json, markdown: task.markdown },
        ambient: ambient::scan(&Around {
            workspace: &workspace,
            env: &env,
            args: &args,
            hardened,
            private: case::ROOM,
        }),
        args,
        fixture: (fixture.record.name.clone(), fixture.digest.clone()),
    }
}

/// What the task is held to, at the place where the workspace is in the box.
///
/// # Errors
/// [`crate::error::Reason::Internal`] where that place is no path, which cannot be.
pub fn contract(fixture: &Fixture) -> Result<TaskContract> {
    let layout = Layout::new(fixture.record.repo.as_str());
    Ok(fixture.contract(&layout.workspace()?))
}
