//! The source's own packages in a build: what their files say during the install, which of their lifecycle scripts run,
//! and the `git` that a step may ask.
//!
//! The install's tree is decided by the source's lock alone and compared with it afterwards. So for as long as it runs,
//! files that could only turn it elsewhere (another registry, another cache) are away, and the manifests are without what
//! decides nothing of a tree. Each is put back to the byte before anything is compared.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _, Permissions, PermissionsExt as _};

use super::left;
use super::step::Steps;
use super::work::WorkDir;
use crate::bun::lockfile::{Bin, BunLock, SourceKind};
use crate::bun::manifest;
use crate::bun::origin::join;
use crate::error::{Error, Reason, Result};
use crate::fetch::inputs::Inputs;
use crate::lock::plan::Plan;
use crate::record::ids::{AbsPath, RelPath};
use crate::record::lockfile::Lockfile;

/// Files by which a project says where packages come from and what Bun checks. `.env` files reach Bun's own variables.
const SETTINGS: [&str; 8] = [
    ".npmrc",
    "bunfig.toml",
    ".env",
    ".env.local",
    ".env.development",
    ".env.development.local",
    ".env.production",
    ".env.production.local",
];

/// Files of the source that are otherwise during the install.
pub struct Hidden(Vec<Tracked>);

struct Tracked {
    /// From the source's root.
    path: String,
    bytes: Vec<u8>,
    executable: bool,
}

impl Hidden {
    /// Changes and removes what [`Hidden::restore`] puts back.
    pub fn hide(plan: &Plan, inputs: &Inputs, steps: &Steps<'_>) -> Result<Hidden> {
        let tree = inputs.source.files.dir()?;
        let _as_payload = steps.owner.enter()?;
        let mut hidden = Vec::new();
        let mut paths: BTreeSet<String> = SETTINGS.map(str::to_owned).into();
        paths.extend(SETTINGS.map(|name| inside(plan, name)));
        for path in paths {
            let Some(tracked) = read(&tree, &path)? else { continue };
            let place = format!("{}/{path}", steps.work.source_below);
            steps.dir.remove_file(&place).map_err(|err| Error::io("remove", &path, err))?;
            hidden.push(tracked);
        }
        let lock = &inputs.bun_lock;
        let mut texts =
            vec![(plan.lockfile.to_string(), manifest::lock_for_install as fn(&str) -> String)];
        texts.extend(
            manifests(plan, lock).into_iter().map(|path| (path, manifest::for_install as _)),
        );
        // A source of one package is taken as it is by every version of Bun.
        texts.retain(|_| lock.workspaces.len() > 1);
        for (path, change) in texts {
            let Some(tracked) = read(&tree, &path)? else { continue };
            let Ok(text) = std::str::from_utf8(&tracked.bytes) else { continue };
            let changed = change(text);
            if changed != text {
                let other =
                    Tracked { path, bytes: changed.into_bytes(), executable: tracked.executable };
                other.put(steps)?;
                hidden.push(tracked);
            }
        }
        // Bun makes the files of commands executable, so that steps can start them, and rewrites their first line.
        for path in commands(plan, lock) {
            hidden.extend(read(&tree, &path)?.map(|file| Tracked { executable: true, ..file }));
        }
        Ok(Hidden(hidden))
    }

    /// Puts back every file as the commit has it; those of commands are executable.
    pub fn restore(self, steps: &Steps<'_>) -> Result<()> {
        let _as_payload = steps.owner.enter()?;
        self.0.iter().try_for_each(|tracked| tracked.put(steps))
    }
}

impl Tracked {
    fn put(&self, steps: &Steps<'_>) -> Result<()> {
        let place = format!("{}/{}", steps.work.source_below, self.path);
        let io = |what: &'static str| move |err| Error::io(what, &self.path, err);
        let mode = if self.executable { 0o755 } else { 0o644 };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        let mut file = steps.dir.open_with(&place, &options).map_err(io("open"))?;
        file.write_all(&self.bytes).map_err(io("write"))?;
        file.set_permissions(Permissions::from_mode(mode)).map_err(io("set the mode of"))
    }
}

/// A path below the project's directory, from the source's root.
fn inside(plan: &Plan, path: &str) -> String {
    format!("{}{path}", plan.prefix())
}

/// The `package.json` of each package of the source, its root first.
fn manifests(plan: &Plan, lock: &BunLock) -> Vec<String> {
    let one = |dir: &String| match dir.as_str() {
        "" => inside(plan, "package.json"),
        dir => inside(plan, &format!("{dir}/package.json")),
    };
    lock.workspaces.keys().map(one).collect()
}

/// The files of the source that its own packages declare as commands.
pub fn commands(plan: &Plan, lock: &BunLock) -> BTreeSet<String> {
    let own = lock.packages.values().filter_map(|package| match &package.kind {
        SourceKind::Workspace(path) => Some((path, lock.workspaces.get(path)?)),
        _ => None,
    });
    let files = own.flat_map(|(path, workspace)| match &workspace.bin {
        Bin::Files(files) => files.values().map(|file| format!("{path}/{file}")).collect(),
        _ => Vec::new(),
    });
    // Of a `file:` directory Bun installs the very files of the source.
    let project = plan.prefix();
    let local = lock.packages.values().filter(|package| package.kind == SourceKind::File);
    let local = local.flat_map(|package| {
        let dir = package.directory(&project).unwrap_or_default();
        match &package.bin {
            Bin::Files(files) => files.values().filter_map(|file| join(&dir, file)).collect(),
            _ => Vec::new(),
        }
    });
    let plain = |path: String| -> Option<RelPath> {
        path.split('/').filter(|part| *part != ".").collect::<Vec<_>>().join("/").parse().ok()
    };
    files.filter_map(plain).map(|path| inside(plan, path.as_str())).chain(local).collect()
}

/// The file at `path` of the stored source; `None` where no file is.
fn read(tree: &Dir, path: &str) -> Result<Option<Tracked>> {
    let io = |err| Error::io("read", path, err);
    let Ok(meta) = tree.symlink_metadata(path) else { return Ok(None) };
    if !meta.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    tree.open(path).map_err(io)?.read_to_end(&mut bytes).map_err(io)?;
    let executable = meta.permissions().mode() & 0o100 != 0;
    Ok(Some(Tracked { path: path.to_owned(), bytes, executable }))
}

/// The lifecycle scripts of the source's own packages: the directory from the project's, and the names.
pub fn lifecycle(plan: &Plan, inputs: &Inputs) -> Result<Vec<(String, Vec<&'static str>)>> {
    let tree = inputs.source.files.dir()?;
    let mut all = Vec::new();
    for (dir, path) in inputs.bun_lock.workspaces.keys().zip(manifests(plan, &inputs.bun_lock)) {
        let names = read(&tree, &path)?.map(|file| manifest::lifecycle(&file.bytes));
        all.extend(names.filter(|names| !names.is_empty()).map(|names| (dir.clone(), names)));
    }
    Ok(all)
}

/// Whether a package of the source says which ones it trusts with scripts, be it none. Where none does, Bun has a list of
/// its own (seen with 1.3.14, also for the packages of a workspace).
pub fn trusts(plan: &Plan, inputs: &Inputs) -> Result<bool> {
    let tree = inputs.source.files.dir()?;
    for path in manifests(plan, &inputs.bun_lock) {
        let file = read(&tree, &path)?;
        if file.is_some_and(|it| !manifest::read(&it.bytes)["trustedDependencies"].is_null()) {
            return Ok(true);
        }
    }
    Ok(false)
}

type Run = (Vec<String>, AbsPath);

/// The lifecycle scripts as commands: those before the install and those after it. The packages of a workspace come
/// before the root, as Bun has it.
pub fn order(own: &[(String, Vec<&'static str>)], project: &AbsPath) -> (Vec<Run>, Vec<Run>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let root_last = own.iter().filter(|(dir, _)| !dir.is_empty());
    for (dir, names) in root_last.chain(own.iter().filter(|(dir, _)| dir.is_empty())) {
        let cwd = match dir.parse::<RelPath>() {
            Ok(dir) => project.join(&dir),
            Err(_) => project.clone(),
        };
        for name in names {
            let run = (["bun", "run", name].map(str::to_owned).to_vec(), cwd.clone());
            if dir.is_empty() && *name == "preinstall" { before.push(run) } else { after.push(run) }
        }
    }
    (before, after)
}

/// Refuses what the source has and its lock does not decide: lifecycle scripts of its own and git-lfs pointers. All at
/// once, each with its flag.
///
/// # Errors
/// [`Reason::UnsupportedSource`].
pub fn decided(lock: &Lockfile, plan: &Plan, inputs: &Inputs, pointers: &[RelPath]) -> Result<()> {
    let mut faults: Vec<(String, Vec<String>)> = Vec::new();
    let again = |flags: &str| format!("admit lock {} {flags}", lock.provider);
    if lock.build.lifecycle.is_none() {
        let own = lifecycle(plan, inputs)?;
        let names: Vec<String> = own
            .iter()
            .flat_map(|(dir, names)| names.iter().map(move |name| show(dir, name)))
            .collect();
        if !names.is_empty() {
            let what = format!("lifecycle scripts of its own: {}", names.join(", "));
            let run = format!("to run them in the sandbox: {}", again("--lifecycle run"));
            let skip = format!("to leave them out: {}", again("--lifecycle skip"));
            faults.push((what, vec![run, skip]));
        }
    }
    let open: Vec<&str> = pointers
        .iter()
        .filter(|path| !lock.build.lfs_pointers.contains(path))
        .map(RelPath::as_str)
        .collect();
    if !open.is_empty() {
        let flags: Vec<String> = open.iter().map(|path| format!("--lfs-pointer {path}")).collect();
        let fix = format!("to build with the pointers as they are: {}", again(&flags.join(" ")));
        faults
            .push((format!("git-lfs pointers in place of files: {}", open.join(", ")), vec![fix]));
    }
    let Some((first, _)) = faults.first() else { return Ok(()) };
    let what = "the lock does not decide about all that the source has";
    let mut error = Error::new(Reason::UnsupportedSource, what)
        .at(format!("{} at {}", lock.source.url, lock.source.rev.short()))
        .expected("a word on each in the lock")
        .found(first.clone());
    for (what, _) in faults.iter().skip(1) {
        error = error.hint(format!("also {what}"));
    }
    Err(faults.into_iter().flat_map(|(_, fixes)| fixes).fold(error, Error::hint))
}

fn show(dir: &str, name: &str) -> String {
    match dir {
        "" => name.to_owned(),
        dir => format!("{dir}:{name}"),
    }
}

pub fn directory(plan: &Plan, source: &AbsPath) -> AbsPath {
    plan.project().map_or_else(|| source.clone(), |project| source.join(&project))
}

/// Where a `git` of admit's own leaves what it had no answer to, below the work directory.
const ASKED: &str = ".admit/git-asked";

/// The `git` that steps find. Where the lock says so, it answers from the pin: which commit this is and when it was made;
/// it knows no history and changes nothing. Everything else that it is asked for is an error, so that no step goes on with
/// a wrong answer, and is remembered, since many a step goes on without one.
///
/// `digits` is the length of a commit's short name.
pub fn git(plan: &Plan, work: &WorkDir, time: i64, digits: usize) -> String {
    let rev = plan.rev.as_str();
    let short = rev.get(..digits).unwrap_or(rev);
    let lengths: String = (4..=rev.len())
        .map(|n| format!("  \"rev-parse --short={n} HEAD\") echo {} ;;\n", &rev[..n]))
        .collect();
    let when = jiff::Timestamp::from_second(time).map(|time| time.to_string()).unwrap_or_default();
    let day = when.split('T').next().unwrap_or_default();
    let (source, asked) = (&work.source, work.inside(ASKED));
    if !plan.git {
        return format!(
            "#!/bin/sh\necho \"git $*\" >> {asked}\necho \"git: not found\" >&2\nexit 127\n"
        );
    }
    format!(
        r#"#!/bin/sh
# Answers from the pin; there is no repository here.
while [ $# -gt 0 ]; do
  case "$1" in
    -C|-c) shift 2 ;;
    --no-pager|--no-optional-locks|-P) shift ;;
    *) break ;;
  esac
done
none() {{ echo "git $*" >> {asked}; echo "git: a build knows its pin alone, and no answer to: git $*" >&2; exit 128; }}
case "$*" in
  "rev-parse HEAD"|"rev-parse --verify HEAD") echo {rev} ;;
{lengths}  "rev-parse --short HEAD"|"describe --always"|"describe --always --dirty"|"describe --tags --always"|"describe --tags --always --dirty"|"describe --always --tags") echo {short} ;;
  "rev-parse --abbrev-ref HEAD") echo HEAD ;;
  "branch --show-current") ;;
  "status --porcelain"|"status -s"|"status --short"|"status --porcelain --untracked-files="*|"diff --quiet"|"diff --quiet HEAD"|"diff-index --quiet HEAD"|"diff-index --quiet HEAD --") ;;
  "rev-parse --is-inside-work-tree") echo true ;;
  "rev-parse --show-toplevel") echo {source} ;;
  "--version"|"version") echo "git version 2.0 (answers from the pin)" ;;
  "log -1 "*|"log -n 1 "*|"log -n1 "*|"show -s "*|"show --no-patch "*)
    form=
    for word in "$@"; do
      case "$word" in
        log|show|-1|-n|1|-n1|-s|--no-patch|HEAD) ;;
        --format=*%*|--pretty=*%*) form=${{word#*=}}; form=${{form#format:}}; form=${{form#tformat:}} ;;
        *) none "$@" ;;
      esac
    done
    [ -n "$form" ] || none "$@"
    said=
    while [ -n "$form" ]; do
      case "$form" in
        %H*) said="${{said}}{rev}"; form=${{form#??}} ;;
        %h*) said="${{said}}{short}"; form=${{form#??}} ;;
        %ct*) said="${{said}}{time}"; form=${{form#???}} ;;
        %cI*) said="${{said}}{when}"; form=${{form#???}} ;;
        %cs*) said="${{said}}{day}"; form=${{form#???}} ;;
        %*) none "$@" ;;
        *) rest=${{form#?}}; said="${{said}}${{form%"$rest"}}"; form=$rest ;;
      esac
    done
    printf '%s\n' "$said" ;;
  *) none "$@" ;;
esac
"#
    )
}

/// What steps asked git for and got no answer to, in words; `None` where there is nothing.
pub fn unanswered(plan: &Plan, steps: &Steps<'_>) -> Option<String> {
    let mut text = Vec::new();
    left::file(&steps.dir, ASKED).ok()?.take(4096).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let asked: BTreeSet<&str> = text.lines().collect();
    let asked = asked.into_iter().take(4).collect::<Vec<_>>().join("; ");
    let more = match plan.git {
        true => "the git of a build knows its pin alone".to_owned(),
        false => {
            format!("one that answers from the pin: admit lock {} --git true", plan.provider)
        }
    };
    Some(format!("a step asked what it got no answer to and went on: {asked}. {more}"))
}
