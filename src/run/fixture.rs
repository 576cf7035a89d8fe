//! A fixture of the root: read, checked, and what an agent gets of it.

mod defaults;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use defaults::{SOLUTION, fill};

use super::patch::{self, Content, Files};
use crate::check;
use crate::error::{Error, Reason, Result};
use crate::record::fixture::{
    AttackResult, FixtureLock, FixtureRecord, JudgeName, ProgramCall, Script,
};
use crate::record::ids::{AbsPath, Digest, Name, RelPath, Timestamp};
use crate::record::{self, Record as _, Schema};
use crate::root::{self, Root};

/// A fixture with everything that belongs to it, checked.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// `fixture.json`, its defaults filled in.
    pub record: FixtureRecord,
    /// SHA-256 over the canonical list of every file's path and SHA-256.
    pub digest: Digest,
    /// The workspace as an agent finds it.
    pub workspace: Files,
    pub task: String,
    pub reference_patch: Vec<u8>,
    pub script: Script,
    /// The text of the file that draws calls.
    pub generator: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TaskFiles {
    /// `<id>.task.json`.
    pub json_name: String,
    pub json: Value,
    /// `<id>.md`.
    pub markdown_name: String,
    pub markdown: String,
}

/// The fixtures of a root, in order.
pub fn names(root: &Root) -> Vec<String> {
    let name = |path: &str| {
        let name = path.strip_prefix("fixtures/")?.strip_suffix("/fixture.json")?;
        (!name.contains('/')).then(|| name.to_owned())
    };
    root.below("fixtures/").filter_map(|(path, _)| name(path)).collect()
}

/// Where the root has the fixture's digest.
pub fn lock_path(name: &Name) -> String {
    format!("lockfiles/fixtures/{name}.json")
}

/// What the root has on record for the fixture `name`; `None` where nobody recorded it.
///
/// # Errors
/// [`Reason::BadRecord`] for a record that cannot be read, or of another fixture.
pub fn recorded(root: &Root, name: &Name) -> Result<Option<FixtureLock>> {
    let path = lock_path(name);
    let Some(bytes) = root.get(&path) else { return Ok(None) };
    let bad = |err| root::bad_record(&root.place(&path), &err);
    let value = record::parse_value(bytes).map_err(bad)?;
    let before = Schema { version: 1, ..FixtureLock::SCHEMA }.to_string();
    let lock = match value.get("schema").and_then(Value::as_str) == Some(before.as_str()) {
        true => FixtureLock {
            schema: FixtureLock::SCHEMA.to_string(),
            ..serde_json::from_slice(bytes).map_err(|err| bad(err.into()))?
        },
        false => record::parse(bytes).map_err(bad)?,
    };
    match lock.fixture == *name {
        true => Ok(Some(lock)),
        false => Err(Error::new(Reason::BadRecord, "the record is of another fixture")
            .at(root.place(&path))
            .expected(name.to_string())
            .found(lock.fixture.to_string())),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, and its field.
    pub place: String,
    /// What it does, as the rest of a sentence that begins with the fixture.
    pub what: String,
    pub fix: String,
}

fn fault(place: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Fault {
    Fault { place: place.into(), what: what.into(), fix: fix.into() }
}

/// # Errors
/// [`Reason::NotFound`] where the root has none of that name, [`Reason::BadRecord`] with all that is wrong with it.
pub fn load(root: &Root, name: &Name) -> Result<Fixture> {
    let (fixture, faults) = inspect(root, name)?;
    if faults.is_empty() {
        return Ok(fixture);
    }
    let words: Vec<&str> = faults.iter().map(|fault| fault.what.as_str()).collect();
    Err(Error::new(Reason::BadRecord, words.join("; "))
        .at(root.place(&format!("fixtures/{name}/fixture.json")))
        .hint(format!("admit fixture check {name}")))
}

/// Reads the fixture `name`, and says everything that is wrong with it. One that has faults is as whole as it could be
/// read, and fit for nothing but to be looked at.
///
/// # Errors
/// [`Reason::NotFound`] where the root has none of that name, [`Reason::BadRecord`] where its record cannot be read.
pub fn inspect(root: &Root, name: &Name) -> Result<(Fixture, Vec<Fault>)> {
    let dir = format!("fixtures/{name}/");
    let place = format!("{dir}fixture.json");
    let Some(mut record) = read(root, &place)? else {
        return Err(Error::new(Reason::NotFound, format!("no fixture \"{name}\""))
            .at(root.label())
            .expected(format!("one of: {}", names(root).join(", ")))
            .found(name.to_string())
            .hint("name one of these; docs/own-fixture.md says how to make one"));
    };
    fill(&mut record);
    let mut faults = Vec::new();
    let file = |field: &str, path: &RelPath| {
        root.get(&format!("{dir}{path}")).ok_or_else(|| {
            fault(
                format!("fixture.json: {field}"),
                format!("names a file that is not there: {path}"),
                format!("put {path} beside fixture.json, or name another file"),
            )
        })
    };
    let text = |field: &str, path: &RelPath, what: &str| {
        String::from_utf8(file(field, path)?.to_vec())
            .map_err(|_| fault(path.as_str(), format!("{what} is not UTF-8"), "save it as UTF-8"))
    };
    let or_none = |faults: &mut Vec<Fault>, found: Result<String, Fault>| {
        found.map_err(|fault| faults.push(fault)).ok()
    };
    let mut digests: BTreeMap<&str, Digest> = BTreeMap::new();
    for (path, bytes) in root.below(&dir) {
        digests.insert(&path[dir.len()..], Digest::sha256(bytes));
    }
    let mut below = |directory: &str| {
        files(root, &format!("{dir}{directory}/")).unwrap_or_else(|what| {
            faults.push(fault(directory, what, "give the file another name"));
            Files::new()
        })
    };
    let workspace = below(record.workspace.as_str());
    let solution = below(SOLUTION);
    let reference_patch = match &record.reference_patch {
        Some(path) => match file("reference_patch", path) {
            Ok(bytes) => bytes.to_vec(),
            Err(fault) => {
                faults.push(fault);
                Vec::new()
            }
        },
        None => {
            let mut solved = workspace.clone();
            solved.extend(solution);
            patch::make(&workspace, &solved)
        }
    };
    let by_default = || {
        let solved = patch::apply(&workspace, &reference_patch);
        defaults::script(&record, &workspace, &solved.unwrap_or_else(|_| workspace.clone()))
    };
    let script = match record.script.as_ref().map(|path| (path, file("script", path))) {
        Some((path, Ok(bytes))) => record::parse::<Script>(bytes)
            .map_err(|err| root::bad_record(&root.place(&format!("{dir}{path}")), &err))?,
        Some((_, Err(fault))) => {
            faults.push(fault);
            by_default()
        }
        None => by_default(),
    };
    let task = record.task_file.as_ref().map(|path| text("task_file", path, "the task"));
    let task = task.and_then(|found| or_none(&mut faults, found));
    let task = task.unwrap_or_else(|| defaults::task(&record));
    let generator = record.generator.as_ref();
    let generator = generator.map(|path| text("generator", path, "the generator"));
    let generator = generator.and_then(|found| or_none(&mut faults, found));
    let digest = record::digest(&digests);
    let fixture = Fixture { record, digest, workspace, task, reference_patch, script, generator };
    faults.extend(fixture.faults(name));
    Ok((fixture, faults))
}

/// Reads `fixture.json`. One of a form before says nothing that this one does not know.
fn read(root: &Root, place: &str) -> Result<Option<FixtureRecord>> {
    let Some(bytes) = root.get(place) else { return Ok(None) };
    let bad = |err| root::bad_record(&root.place(place), &err);
    let value = record::parse_value(bytes).map_err(bad)?;
    let before = |version| Schema { version, ..FixtureRecord::SCHEMA }.to_string();
    let schema = value.get("schema").and_then(Value::as_str).unwrap_or_default();
    if ![1, 2].map(before).contains(&schema.to_owned()) {
        return record::parse(bytes).map(Some).map_err(bad);
    }
    serde_json::from_slice(bytes).map(Some).map_err(|err| bad(err.into()))
}

/// The files of the root below a directory. A root holds bytes and no modes: what must be executable is started by its
/// interpreter.
fn files(root: &Root, prefix: &str) -> Result<Files, String> {
    let below = root.below(prefix);
    let file = |(path, bytes): (&str, &[u8])| {
        let path = path[prefix.len()..].parse().map_err(|err| format!("{err}"))?;
        Ok((path, Content::plain(bytes)))
    };
    below.map(file).collect()
}

/// What lies in `files` under a name by which git knows a repository, each once.
fn repositories(files: &Files) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for path in files.keys() {
        let parts: Vec<&str> = path.parts().collect();
        let Some(at) = parts.iter().position(|part| part.eq_ignore_ascii_case(".git")) else {
            continue;
        };
        let place = parts[..=at].join("/");
        if !found.contains(&place) {
            found.push(place);
        }
    }
    found
}

impl Fixture {
    /// The record by which the gate will know it again.
    pub fn lock(&self, attacked: Option<AttackResult>) -> FixtureLock {
        FixtureLock {
            schema: FixtureLock::SCHEMA.to_string(),
            fixture: self.record.name.clone(),
            digest: self.digest.clone(),
            attacked,
        }
    }

    fn faults(&self, name: &Name) -> Vec<Fault> {
        let record = &self.record;
        let mut faults = Vec::new();
        let mut need = |held: bool, field: &str, what: String, fix: String| {
            if !held {
                faults.push(fault(format!("fixture.json: {field}"), what, fix));
            }
        };
        let named = format!("is named {}", record.name);
        need(record.name == *name, "name", named, format!("\"name\": \"{name}\""));
        need(
            !self.workspace.is_empty(),
            "workspace",
            "has an empty workspace".into(),
            format!("put the files that an agent finds into {}/", record.workspace),
        );
        need(
            !record.test_ids.is_empty(),
            "test_ids",
            "names no tests".into(),
            "list every test as its runner names it: path::test".into(),
        );
        let cases = record.held_out.iter().map(|held_out| held_out.cases.len()).sum::<usize>();
        need(
            cases > 0 || record.draws(),
            "generator",
            "has no held-out cases and no generator".into(),
            "name a file that draws calls: docs/own-fixture.md shows one".into(),
        );
        // The run makes the repository that the agent works in; a second history would have answers in it.
        for path in repositories(&self.workspace) {
            need(
                false,
                "workspace",
                format!("has a git repository in its workspace: {path}"),
                format!("take it out: rm -r {}/{path}", record.workspace),
            );
        }
        let own = record.judge == JudgeName::Command;
        let (start, _) = record.judge.verification();
        let begins = record.verification_command.iter().zip(start).all(|(a, b)| a == b)
            && record.verification_command.len() >= start.len();
        need(
            begins,
            "verification_command",
            format!("is verified by a command that does not begin with {start:?}"),
            "leave the field out: the judge's own is the default".into(),
        );
        for (field, command) in
            [("verification_command", &record.verification_command), ("program", &record.program)]
        {
            need(
                !own || !command.is_empty(),
                field,
                format!("is judged by a command and names no {field}"),
                format!("\"{field}\": [\"sh\", \"FILE\"]"),
            );
        }
        need(
            own || record.program.is_empty(),
            "program",
            "names a program, which its judge does not start".into(),
            "leave the field out, or take the judge command".into(),
        );
        let tool = record.judge.tool();
        need(
            record.tools.contains(&tool),
            "tools",
            format!("does not name the tool {tool:?} of its judge"),
            "leave the field out: the judge's own are the default".into(),
        );
        for held_out in &record.held_out {
            let names = [&held_out.module, &held_out.function];
            need(
                names.iter().all(|name| name.is_empty() == own),
                "held_out",
                match own {
                    true => "names a module or a function, where calls start the program".into(),
                    false => "has calls without a module or a function".to_owned(),
                },
                "docs/own-fixture.md shows both forms".into(),
            );
            for case in held_out.cases.iter().filter(|_| own) {
                let read = ProgramCall::of(&case.args);
                need(
                    read.is_ok(),
                    "held_out",
                    format!("has a call that is none: {}", read.err().unwrap_or_default()),
                    "\"args\": [[\"word\"], \"standard input\"]".into(),
                );
            }
        }
        for id in &record.test_ids {
            let file = id.split("::").next().unwrap_or_default();
            let found = file.parse::<RelPath>().is_ok_and(|p| self.workspace.contains_key(&p));
            need(
                found && id.contains("::") != own,
                "test_ids",
                format!("names a test that is not there: {id}"),
                format!("put its file into {}/, or leave the test out", record.workspace),
            );
        }
        for path in &record.allowed_paths {
            let test =
                record.test_ids.iter().any(|id| id.split("::").next() == Some(path.as_str()));
            need(
                !test,
                "allowed_paths",
                format!("allows its own test to change: {path}"),
                format!("take {path} off the list"),
            );
        }
        let ignore = ".gitignore".parse().ok().and_then(|path: RelPath| self.workspace.get(&path));
        let ignore = ignore.map_or("".into(), |file| String::from_utf8_lossy(file.bytes()));
        let place = format!("{}/.gitignore", record.workspace);
        for name in record.ignored.iter() {
            if !ignore.lines().any(|line| line == format!("{name}/")) {
                let what = format!("does not list {name}/ in its .gitignore");
                faults.push(fault(&place, what, format!("add the line {name}/")));
            }
            if name.as_str().contains('/') {
                let fix = "name one part of a path, without a slash";
                faults.push(fault("fixture.json: ignored", format!("ignores a path: {name}"), fix));
            }
        }
        let place = record.reference_patch.as_ref().map_or(SOLUTION, RelPath::as_str);
        match patch::apply(&self.workspace, &self.reference_patch) {
            Err(what) => faults.push(fault(
                place,
                format!("has a reference patch that does not apply: {what}"),
                "make it anew against the workspace, with git diff",
            )),
            Ok(solved) => {
                let changed = patch::changed(&self.workspace, &solved);
                if changed.is_empty() || !changed.iter().all(|p| record.allowed_paths.contains(p)) {
                    let paths: Vec<&str> = changed.iter().map(RelPath::as_str).collect();
                    let what = "has a reference patch that changes what it may not";
                    faults.push(match paths.as_slice() {
                        [] => fault(place, what, "put the solved files there: they change nothing"),
                        paths => {
                            let fix =
                                format!("allow exactly these to change: {}", paths.join(", "));
                            fault("fixture.json: allowed_paths", what, fix)
                        }
                    });
                }
            }
        }
        if let Ok(place) = "/admit/workspace".parse() {
            let task = self.task_files(&Timestamp::from_unix(0));
            let found = check::task_faults(&task.json, &task.markdown, &self.contract(&place));
            let place = record.task_file.as_ref().map_or("fixture.json: task", RelPath::as_str);
            let fix = "change the text so that it says this";
            faults.extend(found.into_iter().map(|what| fault(place, what, fix)));
        }
        faults
    }

    /// The command that verifies the work, as the task says it.
    pub fn verification(&self) -> String {
        self.record.verification_command.join(" ")
    }

    /// What the gate holds the task to, for a workspace at this place in the sandbox.
    pub fn contract(&self, workspace: &AbsPath) -> check::TaskContract {
        let record = &self.record;
        check::TaskContract {
            repo: record.repo().to_string(),
            workspace: workspace.to_string(),
            allowed_paths: record.allowed_paths.iter().map(RelPath::to_string).collect(),
            forbidden_actions: record.forbidden_actions.clone(),
            verification_command: self.verification(),
            evidence_expectations: record.evidence_expectations.clone(),
        }
    }

    /// The task's two files (case.md, "Running it"). They belong to `<workspace>/.case/tasks/active/`.
    pub fn task_files(&self, created: &Timestamp) -> TaskFiles {
        let record = &self.record;
        let id = record.task_id();
        TaskFiles {
            json_name: format!("{id}.task.json"),
            json: json!({
                "id": id,
                "status": "active",
                "created": created,
                "repo": record.repo(),
                "issueType": "freeform",
                "issue": record.task.issue,
                "mode": "unattended",
                "profile": record.profile.as_str(),
                "agents": {},
                "tested": false,
                "manualTested": false,
                "prUrl": null,
                "prNumber": null,
                "fastTestCommand": self.verification(),
            }),
            markdown_name: format!("{id}.md"),
            markdown: self.task.clone(),
        }
    }
}
