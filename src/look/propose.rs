//! What a source says about how it is built. Pure.
//!
//! Only what the source itself says is proposed; what it leaves open is [`Open`], with the flag that says it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::source::Seen;
use crate::bun::exe;
use crate::bun::lockfile::BunLock;
use crate::bun::manifest;
use crate::bun::origin::join;
use crate::error::{Error, Reason, Result};
use crate::record::ids::RelPath;
use crate::record::lockfile::{Lifecycle, Linker};

/// Locks of other package managers, and Bun's old one.
const FOREIGN: [(&str, &str); 6] = [
    ("bun.lockb", "Bun's old binary lock"),
    ("package-lock.json", "npm's lock"),
    ("npm-shrinkwrap.json", "npm's lock"),
    ("yarn.lock", "Yarn's lock"),
    ("pnpm-lock.yaml", "pnpm's lock"),
    ("deno.lock", "Deno's lock"),
];

/// Files of other languages at the root, by which a source that is no Bun project is named.
const OTHERS: [&str; 5] = ["Cargo.toml", "go.mod", "pyproject.toml", "setup.py", "CMakeLists.txt"];

/// What the source does not say: the flag to say it, and why it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub flag: String,
    pub why: String,
}

impl Open {
    pub fn new(flag: impl Into<String>, why: impl Into<String>) -> Self {
        Self { flag: flag.into(), why: why.into() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From<T> {
    pub value: T,
    pub place: String,
}

/// What the source says of one field, or what is to be asked.
pub type Said<T> = Result<From<T>, Open>;

type Steps = Vec<Vec<String>>;

#[derive(Debug)]
pub struct Proposal {
    pub lockfile: RelPath,
    pub bun: Said<String>,
    pub steps: Said<Steps>,
    pub output: Said<RelPath>,
    /// Every program that the source compiles for this machine, with its step.
    pub outputs: Vec<(Vec<String>, RelPath)>,
    /// The source's own lifecycle scripts, with their directories.
    pub lifecycle: Vec<String>,
    /// These set hooks of a git repository and do nothing else.
    pub hooks: bool,
    /// Trusted packages that the source's lock has.
    pub trusted: Vec<String>,
    pub pointers: Vec<RelPath>,
    /// Packages that the source's lock binds to no bytes, by key, with what the lock says that each is.
    pub weak: BTreeMap<String, String>,
    /// Where it is said that Bun's isolated linker is the one.
    pub isolated: Option<String>,
    /// Where a script asks git which commit this is.
    pub git: Option<String>,
    /// As `package.json` has it.
    pub license: Option<String>,
    /// The version of each of its own packages, by directory.
    pub versions: BTreeMap<String, String>,
}

impl Proposal {
    /// What is proposed for the source's own lifecycle scripts.
    pub fn what_becomes_of_lifecycle(&self) -> Option<Lifecycle> {
        match (self.lifecycle.is_empty(), self.hooks) {
            (true, _) => None,
            (false, true) => Some(Lifecycle::Skip),
            (false, false) => Some(Lifecycle::Run),
        }
    }

    pub fn linker(&self) -> Linker {
        match self.isolated {
            Some(_) => Linker::Isolated,
            None => Linker::Hoisted,
        }
    }

    /// The licence, where it is an SPDX expression.
    pub fn license(&self) -> Option<&String> {
        self.license.as_ref().filter(|text| spdx::Expression::parse(text).is_ok())
    }
}

/// Finds the source's own lock. `given` is what `--lockfile` names.
///
/// # Errors
/// [`Reason::UnsupportedSource`] naming what lies there instead; [`Reason::NotFound`] where the file that is named is not
/// there.
pub fn lockfile(seen: &Seen, given: Option<&RelPath>) -> Result<Result<RelPath, Open>> {
    if let Some(given) = given {
        return match seen.files.contains(given.as_str()) {
            true => Ok(Ok(given.clone())),
            false => Err(Error::new(Reason::NotFound, "the source has no such lock")
                .at("--lockfile")
                .expected(list(&locks(seen)))
                .found(given.to_string())),
        };
    }
    let all = locks(seen);
    let chosen = match all.as_slice() {
        [] => return Err(no_project(seen)),
        [one] => *one,
        _ if all.contains(&"bun.lock") => "bun.lock",
        _ => {
            let why = format!("the source has {} of them: {}", all.len(), list(&all));
            return Ok(Err(Open::new("--lockfile PATH", why)));
        }
    };
    let dir = chosen.strip_suffix("bun.lock").unwrap_or_default();
    let beside = FOREIGN.iter().find(|(name, _)| seen.files.contains(&format!("{dir}{name}")));
    if let Some((name, what)) = beside {
        let why = format!("{dir}{name} ({what}) lies beside it, and two locks can disagree");
        return Ok(Err(Open::new(format!("--lockfile {chosen}"), why)));
    }
    let path = chosen.parse().map_err(|err| {
        Error::new(Reason::UnsupportedSource, "a lock at a path that cannot be used").caused_by(err)
    });
    path.map(Ok)
}

/// Every `bun.lock`, but for those of tests and templates.
fn locks(seen: &Seen) -> Vec<&str> {
    let apart = ["node_modules", "test", "tests", "fixtures", "fixture", "templates", "examples"];
    let all = seen.files.iter().map(String::as_str);
    all.filter(|path| *path == "bun.lock" || path.ends_with("/bun.lock"))
        .filter(|path| !path.split('/').any(|part| apart.contains(&part)))
        .collect()
}

fn no_project(seen: &Seen) -> Error {
    let foreign: Vec<_> = FOREIGN.iter().filter(|(name, _)| seen.files.contains(*name)).collect();
    let names: Vec<String> =
        foreign.iter().map(|(name, what)| format!("{name} ({what})")).collect();
    let manifest = seen.files.contains("package.json");
    let others: Vec<&str> = OTHERS.into_iter().filter(|name| seen.files.contains(*name)).collect();
    let found = match (names.is_empty(), manifest) {
        (false, _) => names.join(", "),
        (true, true) => "package.json and no lock at all".to_owned(),
        (true, false) if others.is_empty() => "no package.json".to_owned(),
        (true, false) => format!("no package.json, but {}", others.join(", ")),
    };
    let error = Error::new(Reason::UnsupportedSource, "the source is no project with a bun.lock")
        .expected("bun.lock, in which Bun 1.2 and later write what is installed")
        .found(found);
    match manifest {
        true => error.hint(
            "make one in a clone and commit it: bun install --save-text-lockfile --lockfile-only",
        ),
        false => error,
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Everything else that the source says, with `path` as its lock.
///
/// # Errors
/// [`Reason::BadRecord`] for a lock that cannot be read, and for one that is not that of the manifests.
pub fn propose(seen: &Seen, path: RelPath) -> Result<Proposal> {
    let bytes = seen.texts.get(path.as_str()).map(Vec::as_slice).unwrap_or_default();
    let lock = BunLock::parse(bytes, path.as_str())?;
    let project = path.as_str().strip_suffix("bun.lock").unwrap_or_default();
    let mut manifests: BTreeMap<&str, (String, Value)> = BTreeMap::new();
    for dir in lock.workspaces.keys() {
        let dir = dir.as_str();
        let at = match dir {
            "" => format!("{project}package.json"),
            dir => format!("{project}{dir}/package.json"),
        };
        let Some(bytes) = seen.texts.get(&at) else {
            return Err(Error::new(Reason::BadRecord, "a package of the lock has no manifest in the source")
                .at(path.to_string())
                .expected(at)
                .found("no such file")
                .hint("the lock names a package that the commit does not hold: bun install in a clone, and commit bun.lock"));
        };
        manifests.insert(dir, (at, manifest::read(bytes)));
    }
    current(&lock, &manifests, path.as_str())?;
    lock.check_origins(project, &|path| seen.files.contains(path))?;
    let found = candidates(seen, project, &manifests);
    let (steps, output) = chosen(&found);
    let root = &manifests[""].1;
    let hooks = manifests.iter().all(|(_, (_, manifest))| {
        let scripts =
            manifest::LIFECYCLE.iter().filter_map(|name| manifest["scripts"][name].as_str());
        scripts.into_iter().all(sets_hooks)
    });
    let own = manifests.iter().flat_map(|(dir, (at, _))| {
        let names = manifest::lifecycle(seen.texts.get(at).map(Vec::as_slice).unwrap_or_default());
        names.into_iter().map(move |name| match *dir {
            "" => name.to_owned(),
            dir => format!("{dir}:{name}"),
        })
    });
    let has: BTreeSet<&str> = lock.packages.values().map(|one| one.name.as_str()).collect();
    let trusted: BTreeSet<&str> = manifests
        .values()
        .flat_map(|(_, manifest)| manifest["trustedDependencies"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .filter(|name| has.contains(name))
        .collect();
    Ok(Proposal {
        bun: bun(seen, project, root, lock.version),
        steps,
        output,
        outputs: outputs(&found),
        lifecycle: own.collect(),
        hooks,
        trusted: trusted.into_iter().map(str::to_owned).collect(),
        pointers: seen.pointers.clone(),
        weak: lock
            .weak(&BTreeMap::new())
            .iter()
            .map(|one| (one.key.clone(), format!("{}@{}", one.name, one.resolution)))
            .collect(),
        versions: manifests
            .iter()
            .filter_map(|(dir, (_, manifest))| {
                Some(((*dir).to_owned(), manifest["version"].as_str()?.to_owned()))
            })
            .collect(),
        isolated: isolated(seen, project, &lock, path.as_str()),
        git: found.iter().find_map(|one| one.git.clone()),
        license: root["license"].as_str().map(str::to_owned),
        lockfile: path,
    })
}

/// Where the source says that its packages are laid out by the isolated linker: `linker` of `[install]` in its
/// `bunfig.toml`, else the lock of a workspace whose `configVersion` is 1 or more (bun.md, section A).
fn isolated(seen: &Seen, project: &str, lock: &BunLock, place: &str) -> Option<String> {
    let at = format!("{project}bunfig.toml");
    let mut section = "";
    for line in seen.text(&at).unwrap_or_default().lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).trim();
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        if (section, key.trim()) == ("install", "linker")
            || (section, key.trim()) == ("", "install.linker")
        {
            let value = value.split('#').next().unwrap_or_default();
            let value = value.trim().trim_matches(['"', '\'']);
            return (value == "isolated").then(|| format!("{at}: install.linker"));
        }
    }
    let own = lock.config_version >= 1 && lock.workspaces.len() > 1;
    own.then(|| format!("{place}: a workspace of configVersion {}", lock.config_version))
}

/// Whether the lock is that of the manifests: every need stands in it as it stands there, and no other.
fn current(lock: &BunLock, manifests: &BTreeMap<&str, (String, Value)>, place: &str) -> Result<()> {
    let groups = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];
    let stale = |expected: String, found: String| {
        Error::new(Reason::BadRecord, "the source's lock is out of date")
            .at(place.to_owned())
            .expected(expected)
            .found(found)
            .hint("lock a commit whose lock is current, or bring it up to date in a clone: bun install, and commit bun.lock")
    };
    // Bun takes patches from the manifest, whatever the lock says.
    let (at, root) = &manifests[""];
    let written: BTreeMap<&str, &str> = root["patchedDependencies"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, path)| Some((name.as_str(), path.as_str()?)))
        .collect();
    let locked: BTreeMap<&str, &str> =
        lock.patched.iter().map(|(name, path)| (name.as_str(), path.as_str())).collect();
    if written != locked {
        let names = |all: &BTreeMap<&str, &str>| {
            let names: Vec<&str> = all.keys().copied().collect();
            format!("patches of: {}", list(&names))
        };
        return Err(stale(format!("{} ({at})", names(&written)), names(&locked)));
    }
    for (dir, workspace) in &lock.workspaces {
        let Some((at, manifest)) = manifests.get(dir.as_str()) else { continue };
        let needs = &workspace.needs;
        let locked: BTreeSet<(&str, &str)> =
            [&needs.normal, &needs.dev, &needs.optional, &needs.peer]
                .into_iter()
                .flatten()
                .map(|(name, range)| (name.as_str(), range.as_str()))
                .collect();
        let written: BTreeSet<(&str, &str)> = groups
            .into_iter()
            .filter_map(|group| manifest[group].as_object())
            .flatten()
            .filter_map(|(name, range)| Some((name.as_str(), range.as_str()?)))
            .collect();
        // A name in two groups with different ranges stands in the lock with one of them.
        let ranges = |set: &BTreeSet<(&str, &str)>, name: &str| {
            set.iter().filter(|(other, _)| *other == name).count()
        };
        let missing = written.difference(&locked).find(|(name, _)| ranges(&written, name) < 2);
        let extra = locked.difference(&written).find(|(name, _)| ranges(&written, name) == 0);
        if let Some((name, _)) = missing.or(extra) {
            let here = |set: &BTreeSet<(&str, &str)>| {
                let found = set.iter().find(|(other, _)| other == name);
                found.map_or_else(|| "absent".to_owned(), |(name, range)| format!("{name} {range}"))
            };
            return Err(stale(format!("{} ({at})", here(&written)), here(&locked)));
        }
    }
    Ok(())
}

/// A way to the output that the source's own scripts name.
#[derive(Debug)]
struct Candidate {
    step: Vec<String>,
    output: Option<String>,
    place: String,
    /// It asks git, and where.
    git: Option<String>,
    /// A runtime of another platform is asked for.
    foreign: bool,
    lifecycle: bool,
}

impl Candidate {
    /// A step that no script names as it stands: for this machine, and without git.
    fn plain(step: Vec<String>, output: Option<String>, place: String) -> Self {
        Self { step, output, place, git: None, foreign: false, lifecycle: false }
    }
}

fn candidates(
    seen: &Seen,
    project: &str,
    manifests: &BTreeMap<&str, (String, Value)>,
) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for (dir, (at, manifest)) in manifests {
        let base = if dir.is_empty() { project.to_owned() } else { format!("{project}{dir}/") };
        for (name, command) in manifest["scripts"].as_object().into_iter().flatten() {
            let Some(command) = command.as_str() else { continue };
            let place = format!("{at}: scripts.{name}");
            let lifecycle = manifest::LIFECYCLE.contains(&name.as_str());
            let run = |name: &str| -> Vec<String> {
                let words = match *dir {
                    "" => vec!["bun", "run", name],
                    dir => vec!["bun", "run", "--cwd", dir, name],
                };
                words.into_iter().map(str::to_owned).collect()
            };
            let compiled = compiles(command);
            if !compiled.is_empty() {
                let git = asks_git(command).then(|| place.clone());
                found.extend(compiled.into_iter().map(|words| Candidate {
                    step: run(name),
                    output: outfile(&words).and_then(|path| join(&base, &path)),
                    place: place.clone(),
                    git: git.clone(),
                    foreign: other_runtime(&words),
                    lifecycle,
                }));
                continue;
            }
            let Some(file) = program(command).and_then(|path| join(&base, path)) else { continue };
            let Some(text) = seen.text(&file) else { continue };
            let git = asks_git(text).then(|| file.clone());
            if file.ends_with(".sh") {
                // A line with variables means something only in its script.
                let lines = text.lines().map(str::trim);
                let plain = lines.filter(|line| !line.contains(['$', '`', '(', '|']));
                found.extend(plain.flat_map(compiles).map(|words| Candidate {
                    output: outfile(&words).and_then(|path| join(project, &path)),
                    place: format!("{file} ({place})"),
                    git: git.clone(),
                    foreign: other_runtime(&words),
                    lifecycle,
                    step: words,
                }));
            } else if ["Bun.build", "bun build", "'--compile'", "\"--compile\""]
                .iter()
                .any(|it| text.contains(it))
                && text.contains("compile")
            {
                let output = outfile_in(text).and_then(|path| join(&base, &path));
                // By that word such scripts build for the machine that they run on.
                let single = command.split_whitespace().any(|word| word == "--single");
                let foreign = !single && FOREIGN_TARGETS.iter().any(|word| text.contains(word));
                found.push(Candidate { step: run(name), output, place, git, foreign, lifecycle });
            }
        }
    }
    // What runs at install anyway is the step only where nothing else compiles.
    if found.iter().any(|one| !one.lifecycle) {
        found.retain(|one| !one.lifecycle);
    }
    if found.iter().all(|one| one.foreign) {
        found.extend(natively(seen, project, &manifests[""].1));
    }
    // Without a script that compiles: the one program that the manifests declare.
    if found.is_empty() {
        let mut programs: BTreeMap<String, (String, String)> = BTreeMap::new();
        for (dir, (at, manifest)) in manifests {
            let base = if dir.is_empty() { String::new() } else { format!("{dir}/") };
            let bin = &manifest["bin"];
            let one =
                bin.as_str().map(|path| (manifest["name"].as_str().unwrap_or("program"), path));
            let many = bin.as_object().into_iter().flatten();
            let many = many.filter_map(|(name, path)| Some((name.as_str(), path.as_str()?)));
            for (name, path) in one.into_iter().chain(many) {
                let name = name.rsplit('/').next().unwrap_or(name);
                let code = [".ts", ".tsx", ".js", ".mjs"].iter().any(|end| path.ends_with(end));
                if let Some(path) = join(&base, path).filter(|_| code)
                    && seen.files.contains(&format!("{project}{path}"))
                {
                    programs.entry(path).or_insert((name.to_owned(), format!("{at}: bin.{name}")));
                }
            }
        }
        if let Some((path, (name, place))) =
            programs.first_key_value().filter(|_| programs.len() == 1)
        {
            let output = format!("dist/{name}");
            let words = ["bun", "build", "--compile", path, "--outfile", &output];
            let step = words.map(str::to_owned).to_vec();
            found.push(Candidate::plain(step, join(project, &output), place.clone()));
        }
    }
    found
}

/// Words by which a script compiles for other platforms too.
const FOREIGN_TARGETS: [&str; 4] = ["bun-windows", "bun-darwin", "windows", "darwin"];

/// Compile lines of scripts and workflows without their choice of a runtime: each entry point once, for this machine.
fn natively(seen: &Seen, project: &str, root: &Value) -> Vec<Candidate> {
    let mut found: BTreeMap<String, Candidate> = BTreeMap::new();
    let name = root["name"].as_str().unwrap_or("program");
    let name = name.rsplit('/').next().unwrap_or(name);
    let wanted = |path: &str| {
        let script = [".ts", ".js", ".mjs", ".sh"].iter().any(|end| path.ends_with(end));
        path.starts_with(".github/workflows/")
            || (script
                && path
                    .rsplit('/')
                    .next()
                    .is_some_and(|file| file.contains("build") || file.contains("compile")))
    };
    for (file, text) in seen
        .texts
        .keys()
        .filter(|path| wanted(path))
        .filter_map(|path| Some((path, seen.text(path)?)))
    {
        for line in text.lines() {
            let Some(at) = line.find("bun build ") else { continue };
            let part = line[at..].split(['`', '|', ';', '&', '\\']).next().unwrap_or_default();
            let mut words: Vec<String> = Vec::new();
            let mut all = part.split_whitespace().map(unquoted);
            while let Some(word) = all.next() {
                match word.split_once('=') {
                    // The file's name is that of a release's, mostly.
                    Some(("--target" | "--outfile", _)) => {}
                    _ if word == "--target" || word == "--outfile" => drop(all.next()),
                    _ => words.push(word),
                }
            }
            let entry = words.iter().skip(2).find(|word| !word.starts_with('-')).cloned();
            let there =
                |path: &String| join(project, path).is_some_and(|at| seen.files.contains(&at));
            let plain = !words.iter().any(|word| word.contains(['$', '{', '(']));
            let compiles = words.iter().any(|word| word == "--compile");
            let Some(entry) = entry.filter(|path| plain && compiles && there(path)) else {
                continue;
            };
            let output = format!("dist/{name}");
            words.extend(["--outfile".to_owned(), output.clone()]);
            let place = format!("{file}, for this machine");
            let candidate = Candidate::plain(words, join(project, &output), place);
            found.entry(entry).or_insert(candidate);
        }
    }
    found.into_values().collect()
}

/// The step and its output, where the source leaves one choice.
fn chosen(found: &[Candidate]) -> (Said<Steps>, Said<RelPath>) {
    let native: Vec<&Candidate> = found.iter().filter(|one| !one.foreign).collect();
    let one = match native.as_slice() {
        [one] => *one,
        // One script that compiles several: its first, and the build names the others.
        [first, rest @ ..] if rest.iter().all(|one| one.step == first.step) => *first,
        _ => {
            let choices: Vec<String> = native
                .iter()
                .map(|one| {
                    let output = one.output.as_deref().unwrap_or("?");
                    format!("--step '{}' --output {output}", one.step.join(" "))
                })
                .collect();
            let why = match choices.is_empty() {
                true if found.is_empty() => {
                    "no script of the source compiles an executable".to_owned()
                }
                true => "every script that compiles chooses another runtime (--target)".to_owned(),
                false => format!(
                    "its scripts leave a choice: {}; or a lock for each: --each-output",
                    choices.join("; ")
                ),
            };
            let output = Open::new("--output PATH", "the file that the steps leave");
            return (Err(Open::new("--step 'COMMAND'", why)), Err(output));
        }
    };
    let place = one.place.clone();
    let output = one.output.as_deref().and_then(|path| path.parse().ok());
    let output = output.map(|value| From { value, place: place.clone() });
    let why = format!("{place} does not name it plainly");
    let output = output.ok_or_else(|| Open::new("--output PATH", why));
    (Ok(From { value: vec![one.step.clone()], place }), output)
}

/// Every program that is compiled for this machine to a place that is known, each once, with the first step that does.
fn outputs(found: &[Candidate]) -> Vec<(Vec<String>, RelPath)> {
    let mut all: Vec<(Vec<String>, RelPath)> = Vec::new();
    for one in found.iter().filter(|one| !one.foreign) {
        let Some(path) = one.output.as_deref().and_then(|path| path.parse().ok()) else { continue };
        if !all.iter().any(|(_, known)| *known == path) {
            all.push((one.step.clone(), path));
        }
    }
    all
}

/// Whether a command that compiles names its runtime. `bun` is the target of everything that is compiled.
fn other_runtime(words: &[String]) -> bool {
    words.iter().enumerate().any(|(at, word)| match word.strip_prefix("--target") {
        Some("") => words.get(at + 1).is_none_or(|target| target != "bun"),
        Some(target) => target != "=bun",
        None => false,
    })
}

/// The words of each part of a command line that compiles.
fn compiles(command: &str) -> Vec<Vec<String>> {
    let parts = command.split("&&").flat_map(|part| part.split(';'));
    let words = parts.map(|part| part.split_whitespace().map(unquoted).collect::<Vec<_>>());
    let words = words.filter(|words| words.iter().any(|word| word == "--compile"));
    words.filter(|words| words.len() > 2 && words[0] == "bun" && words[1] == "build").collect()
}

fn unquoted(word: &str) -> String {
    word.trim_matches(['"', '\'']).to_owned()
}

/// What `--outfile` names, or the name that Bun gives by itself: that of the entry point.
fn outfile(words: &[String]) -> Option<String> {
    for (at, word) in words.iter().enumerate() {
        if let Some(path) = word.strip_prefix("--outfile=") {
            return Some(unquoted(path));
        }
        if word == "--outfile" {
            return words.get(at + 1).cloned();
        }
    }
    let entry = words.iter().skip(2).find(|word| !word.starts_with('-'))?;
    let name = entry.rsplit('/').next()?;
    name.rsplit_once('.').map(|(name, _)| name.to_owned())
}

/// The first path that a build script gives to `outfile`: in quotes, or as a shell has it.
fn outfile_in(text: &str) -> Option<String> {
    for (at, name) in text.match_indices("outfile") {
        let rest = &text[at + name.len()..];
        if rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            continue;
        }
        let path = rest.trim_start_matches(['"', '\'', '`', ':', '=', ' ', ',']);
        let between = &rest[..rest.len() - path.len()];
        let shell = text[..at].ends_with("--") && matches!(between, " " | "=");
        if !shell && !between.ends_with(['"', '\'', '`']) {
            continue;
        }
        let end = path.find(['"', '\'', '`', ' ', '\n', ',', ';', ')', ']']).unwrap_or(path.len());
        let path = &path[..end];
        if !path.is_empty()
            && !path.contains(['$', '{', '}', '('])
            && path.parse::<RelPath>().is_ok()
        {
            return Some(path.to_owned());
        }
    }
    None
}

fn program(command: &str) -> Option<&str> {
    let words: Vec<&str> = command.split("&&").next()?.split_whitespace().collect();
    let path = match words.as_slice() {
        ["bun", "run", path, ..] | ["bun" | "sh" | "bash", path, ..] => path,
        [path, ..] if path.starts_with("./") => path,
        _ => return None,
    };
    [".sh", ".ts", ".js", ".mjs"].iter().any(|end| path.ends_with(end)).then_some(path)
}

/// Whether a lifecycle script does nothing but set hooks of a git repository, which no build has.
fn sets_hooks(command: &str) -> bool {
    const TOOLS: [&str; 5] = [
        "husky",
        "lefthook install",
        "simple-git-hooks",
        "git config core.hooksPath",
        "git config --local core.hooksPath",
    ];
    let parts = command.split(['&', '|', ';']).map(str::trim).filter(|part| !part.is_empty());
    let hooks = |part: &str| {
        let part = ["bunx ", "bun x ", "npx "]
            .iter()
            .find_map(|run| part.strip_prefix(run))
            .unwrap_or(part);
        TOOLS.iter().any(|tool| part == *tool || part.starts_with(&format!("{tool} ")))
    };
    let test = |part: &str| part == "true" || (part.starts_with("[ ") && part.ends_with(" ]"));
    // What a command in a command does is not read.
    !["$(", "`", ">"].iter().any(|sign| command.contains(sign))
        && parts.clone().any(hooks)
        && parts.clone().all(|part| hooks(part) || test(part))
}

fn asks_git(text: &str) -> bool {
    ["git rev-parse", "git describe", "git log -1", "git show -s"]
        .iter()
        .any(|what| text.contains(what))
}

fn bun(seen: &Seen, project: &str, root: &Value, format: u32) -> Said<String> {
    let version = |text: &str| {
        let text = text.trim().trim_start_matches(['v', '"', '\'']);
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || ".-".contains(c)));
        let text = &text[..end.unwrap_or(text.len())];
        let core: Vec<&str> = text.split('-').next().unwrap_or_default().split('.').collect();
        let whole = core.len() == 3 && core.iter().all(|n| n.parse::<u32>().is_ok());
        whole.then(|| text.to_owned())
    };
    let manager = root["packageManager"].as_str().and_then(|text| text.strip_prefix("bun@"));
    let engine = root["engines"]["bun"].as_str();
    let mut places = vec![
        (manager.map(str::to_owned), "package.json: packageManager".to_owned()),
        (engine.map(str::to_owned), "package.json: engines.bun".to_owned()),
    ];
    for dir in [project, ""] {
        let at = format!("{dir}.bun-version");
        places.push((seen.text(&at).map(str::to_owned), at));
    }
    for (path, bytes) in &seen.texts {
        if path.starts_with(".github/workflows/") {
            let text = String::from_utf8_lossy(bytes);
            let line = text
                .lines()
                .find_map(|line| line.trim().strip_prefix("bun-version:").map(str::to_owned));
            places.push((line, path.clone()));
        }
    }
    let found =
        places.into_iter().find_map(|(text, place)| Some(From { value: version(&text?)?, place }));
    if let Some(From { value, place }) = &found
        && !exe::has_section(value)
    {
        let first = exe::FIRST;
        let why = format!(
            "{place} names Bun {value}, and admit proves what Bun {first} and later compile"
        );
        return Err(Open::new("--bun 1.3.14", why));
    }
    found.ok_or_else(|| {
        let reads = if format >= 2 { "1.4 or later" } else { "1.3 or later" };
        let why = format!("the source names no exact version; its lock is read by Bun {reads}");
        Open::new("--bun VERSION", why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(files: &[(&str, &str)]) -> Seen {
        let mut seen = Seen::default();
        for (path, text) in files {
            seen.files.insert((*path).to_owned());
            seen.texts.insert((*path).to_owned(), text.as_bytes().to_vec());
        }
        seen
    }

    fn said(package: &str, more: &[(&str, &str)]) -> Proposal {
        let lock = r#"{"lockfileVersion": 1, "workspaces": {"": {"name": "x"}}, "packages": {}}"#;
        let own = [("package.json", package), ("bun.lock", lock)];
        propose(&seen(&[&own[..], more].concat()), "bun.lock".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_script_with_a_switch_for_one_machine_is_the_one() {
        let build = "for (const t of targets) await Bun.build({ compile: { target: `bun-darwin-${t}`, outfile: `dist/${t}` } })";
        let package =
            r#"{"scripts": {"build": "bun run ./build.ts", "one": "bun run ./build.ts --single"}}"#;
        let found = said(package, &[("build.ts", build)]);
        assert_eq!(found.steps.unwrap().value, [["bun", "run", "one"]]);
        assert_eq!(found.output.unwrap_err().flag, "--output PATH");
        // One that starts Bun with a list of words compiles too.
        let spawned = "Bun.spawn(['bun', 'build', '--compile', '--outfile=release/x', 'main.ts'])";
        let found = said(r#"{"scripts": {"build": "bun b.mjs"}}"#, &[("b.mjs", spawned)]);
        assert_eq!(found.steps.unwrap().value, [["bun", "run", "build"]]);
        assert_eq!(found.output.unwrap().value.as_str(), "release/x");
    }

    #[test]
    fn a_lifecycle_script_that_speaks_of_compiling_is_no_choice() {
        let patch = "// so that bun build --compile can bundle it: see Bun.build, compile";
        let package = r#"{"scripts": {"postinstall": "bun patch.js", "build": "bun build --compile a.ts --outfile dist/a"}}"#;
        let found = said(package, &[("patch.js", patch)]);
        assert_eq!(found.steps.unwrap().value, [["bun", "run", "build"]]);
    }

    #[test]
    fn the_target_that_everything_compiled_has_is_no_other_runtime() {
        for (target, output) in [
            ("--target=bun", Some("dist/a")),
            ("--target bun", Some("dist/a")),
            ("--target=bun-darwin-arm64", None),
            ("--target bun-linux-x64-baseline", None),
        ] {
            let package = format!(
                r#"{{"scripts": {{"build": "tsc && bun build --compile {target} a.ts --outfile dist/a"}}}}"#
            );
            let found = said(&package, &[]).output.map(|it| it.value.to_string()).ok();
            assert_eq!(found.as_deref(), output, "{target}");
        }
    }

    #[test]
    fn an_output_is_read_where_it_is_named_and_nowhere_else() {
        for (text, path) in [
            ("let outfileArchitecture = ''; const outfile = `release${a}/x`;", None),
            ("const my_outfile_dir = 'x'; ['--outfile', 'dist/a']", Some("dist/a")),
            ("compile: { outfile: \"dist/a\" }", Some("dist/a")),
            ("['--outfile', outfile]; run(`bun build --outfile dist/a`)", Some("dist/a")),
            ("const outfile = path.join(dir, name); outfile, target", None),
            ("['--outfile=dist/a']", Some("dist/a")),
        ] {
            assert_eq!(outfile_in(text).as_deref(), path, "{text}");
        }
    }

    #[test]
    fn every_program_that_is_compiled_is_an_output() {
        let outputs = |package: &str| {
            let said = said(package, &[]);
            let all = said.outputs.into_iter();
            let all: Vec<String> =
                all.map(|(step, at)| format!("{} {at}", step.join(" "))).collect();
            (all, said.output.map(|it| it.value.to_string()).ok())
        };
        let two = r#"{"scripts": {"a": "bun build --compile a.ts --outfile dist/a", "b": "bun build --compile b.ts --outfile dist/b",
            "again": "bun build --compile a.ts --outfile dist/a", "win": "bun build --compile a.ts --target=bun-windows-x64 --outfile w"}}"#;
        assert_eq!(
            outputs(two),
            (vec!["bun run a dist/a".into(), "bun run b dist/b".into()], None)
        );
        let one = r#"{"scripts": {"build": "bun build --compile a.ts --outfile dist/a && bun build --compile b.ts --outfile dist/b"}}"#;
        let both = vec!["bun run build dist/a".into(), "bun run build dist/b".into()];
        assert_eq!(outputs(one), (both, Some("dist/a".into())));
    }

    #[test]
    fn the_linker_is_the_one_that_bun_would_take() {
        let bunfig = |text: &str| said("{}", &[("bunfig.toml", text)]).isolated;
        assert_eq!(bunfig(""), None);
        let place = Some("bunfig.toml: install.linker".to_owned());
        assert_eq!(bunfig("[install]\nlinker = \"isolated\" # each apart\n"), place);
        assert_eq!(bunfig("install.linker = 'isolated'"), place);
        assert_eq!(bunfig("[install]\nlinker = \"hoisted\""), None);
        assert_eq!(bunfig("[test]\nlinker = \"isolated\""), None);
        let workspace = |text: &str, version: u32| {
            let lock = format!(
                r#"{{"lockfileVersion": 1, "configVersion": {version}, "workspaces": {{"": {{"name": "x"}}, "a": {{"name": "a"}}}},
                "packages": {{"a": ["a@workspace:a"]}}}}"#
            );
            let files = [
                ("package.json", r#"{"name": "x", "workspaces": ["a"]}"#),
                ("a/package.json", r#"{"name": "a"}"#),
                ("bun.lock", lock.as_str()),
                ("bunfig.toml", text),
            ];
            propose(&seen(&files), "bun.lock".parse().unwrap()).unwrap().isolated
        };
        assert!(workspace("", 1).is_some_and(|place| place.contains("configVersion 1")));
        assert_eq!(workspace("", 0), None);
        assert_eq!(workspace("[install]\nlinker = \"hoisted\"", 1), None);
    }

    #[test]
    fn scripts_that_set_hooks_alone_are_told_from_others() {
        for hooks in [
            "git config core.hooksPath .hooks",
            "husky",
            "husky || true",
            "[ \"$CI\" = true ] || [ -n \"$X\" ] || lefthook install",
            "bunx simple-git-hooks",
        ] {
            assert!(sets_hooks(hooks), "{hooks}");
        }
        for other in
            ["true", "", "husky && bun run generate", "husky; echo > x", "husky $(gen)", "huskyer"]
        {
            assert!(!sets_hooks(other), "{other}");
        }
        assert!(said(r#"{"scripts": {"prepare": "husky"}}"#, &[]).hooks);
        assert!(!said(r#"{"scripts": {"prepare": "husky", "postinstall": "gen"}}"#, &[]).hooks);
    }

    #[test]
    fn a_bun_whose_executables_are_not_read_is_asked_about() {
        let bun = |version: &str| said("{}", &[(".bun-version", version)]).bun;
        assert_eq!(bun("1.3.13").unwrap().value, "1.3.13");
        let open = bun("1.3.11").unwrap_err();
        assert!(open.flag == "--bun 1.3.14" && open.why.contains("names Bun 1.3.11"), "{open:?}");
        for (version, known) in [
            ("1.3.12", true),
            ("1.4.0-canary", true),
            ("2.0.0", true),
            ("1.2.20", false),
            ("x", false),
        ] {
            assert_eq!(exe::has_section(version), known, "{version}");
        }
    }
}
