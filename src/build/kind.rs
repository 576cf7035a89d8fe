//! How a provider's binary comes to be: what differs between kinds of providers, and nothing else of a build.
//! `docs/providers.md` says how to add one.
//!
//! Bun checks nothing that is already in its cache, so the cache is made anew for every build from verified tarballs,
//! and its exit code is not enough, so the installed tree is compared with what must be there (bun.md, section B).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use super::left;
use super::project::{self, Hidden};
use super::step::{Steps, exit_text};
use super::work::WorkDir;
use crate::bun::exe::{self, Executable};
use crate::bun::inject::prove_runtime_while;
use crate::bun::lockfile::{Package, SourceKind};
use crate::bun::manifest::LIFECYCLE;
use crate::bun::names::{alias, split_key};
use crate::error::{Error, Reason, Result};
use crate::fetch::inputs::Inputs;
use crate::fetch::{installed, seed};
use crate::host::Timings;
use crate::lock::Locked;
use crate::lock::plan::{Plan, SOURCE_DATE_EPOCH};
use crate::record::ids::AbsPath;
use crate::record::lockfile::{Linker, ProviderKind};
use crate::record::report::Runtime;
use crate::sandbox::{Exit, Mapped, Mount, inside};
use crate::store::StoredFile;

/// Bun's package cache, below the work directory.
const CACHE: &str = ".admit/cache";

impl ProviderKind {
    /// The programs of the toolchain, as verified copies below `/admit/bin`.
    pub fn programs(self, inputs: &Inputs) -> Result<Vec<Mount>> {
        self.require_built()?;
        Ok(vec![Mount::Verified {
            host: inputs.bun.path().to_path_buf(),
            inside: inside("/admit/bin/bun")?,
            sha256: inputs.bun.digest().clone(),
            blake3: None,
            mode: 0o555,
        }])
    }

    /// The closed list of variables that a build sees, where `work` is its directory. Real variables win over a
    /// project's `.env` and `bunfig.toml`, so every switch that could turn verification off or point elsewhere is set
    /// (bun.md, sections B and F).
    pub fn environment(self, plan: &Plan, work: &WorkDir) -> BTreeMap<String, String> {
        let fixed = [
            ("PATH", "/admit/bin:/usr/bin:/bin"),
            ("TZ", "UTC"),
            ("LANG", "C.UTF-8"),
            // On 1.3 the value "0" turns verification off and on 1.4 the value "1" does; empty is safe on both.
            ("BUN_CONFIG_NO_VERIFY", ""),
            // Empty shadows the project's `.env` and leaves Bun at its default registry, whose packages have the names
            // in the cache that admit seeds; any other registry, also one in `.npmrc` or `bunfig.toml`, makes Bun look
            // for other names and fail, since there is no network.
            ("BUN_CONFIG_REGISTRY", ""),
            ("NPM_CONFIG_REGISTRY", ""),
            ("npm_config_registry", ""),
            ("GITHUB_API_URL", ""),
            ("BUN_OPTIONS", ""),
            ("DO_NOT_TRACK", "1"),
        ];
        let mut env: BTreeMap<String, String> =
            fixed.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        env.insert("SOURCE_DATE_EPOCH".to_owned(), SOURCE_DATE_EPOCH.to_string());
        env.extend(plan.env.iter().map(|(key, value)| (key.clone(), value.clone())));
        env.extend(work.environment());
        env.insert("BUN_INSTALL_CACHE_DIR".into(), work.inside(CACHE));
        env
    }

    /// The install command. No network is there: Bun finds every package in its cache or fails.
    pub fn install_command(self, linker: Linker) -> Vec<String> {
        let linker = format!("--linker={}", linker.as_str());
        let fixed =
            ["bun", "install", "--frozen-lockfile", "--ignore-scripts", "--backend=hardlink"];
        fixed.into_iter().chain([linker.as_str()]).map(str::to_owned).collect()
    }

    /// Puts everything that the source depends on into its place: cache, install, comparison, the locked scripts.
    ///
    /// # Errors
    /// [`Reason::RuntimeMismatch`] for a toolchain of another version, [`Reason::InstallMismatch`], those of the steps.
    pub fn install(
        self,
        locked: &Locked,
        inputs: &Inputs,
        steps: &mut Steps<'_>,
        timings: &mut Timings,
    ) -> Result<()> {
        self.require_built()?;
        let plan = &locked.plan;
        let owner = steps.owner;
        {
            let _as_payload = owner.enter()?;
            let io = |err| Error::io("create the directory", CACHE, err);
            steps.dir.create_dir_all(CACHE).map_err(io)?;
        }
        let io = |place| move |err| Error::io("open", place, err);
        let required = inputs.required();
        let cache = steps.dir.open_dir(CACHE).map_err(io(CACHE))?;
        let mut seeded = seed::seed(&cache, CACHE, Some(owner), &required, &inputs.tarballs)?;
        for (key, patch) in &inputs.patches {
            if let Some((package, _)) = inputs.selected.iter().find(|(one, _)| one.key == *key) {
                seeded.patch(&cache, package, patch)?;
            }
        }
        seeded.local.clone_from(&inputs.local);
        timings.part("seed");
        same_version(plan, steps)?;
        let here = project::directory(plan, &steps.work.source);
        let own = match plan.lifecycle {
            true => project::lifecycle(plan, inputs)?,
            false => Vec::new(),
        };
        let (before, after) = project::order(&own, &here);
        let skip = |err: Error| {
            err.hint(format!(
                "to leave the source's own lifecycle scripts out: admit lock {} --lifecycle skip",
                plan.provider
            ))
        };
        for (argv, cwd) in before {
            steps.run(argv, cwd).map_err(skip)?;
        }
        let asks = inputs.bun_lock.config_version >= 1 && inputs.bun_lock.workspaces.len() > 1;
        if plan.linker == Linker::Hoisted && asks {
            steps.note(&format!(
                "the source's lock asks for Bun's isolated linker, and this lock for the hoisted one: paths in the output can differ from those of a build by hand. To follow the source: admit lock {} --linker isolated",
                plan.provider
            ));
        }
        let hidden = Hidden::hide(plan, inputs, steps)?;
        steps.run(self.install_command(plan.linker), here.clone())?;
        hidden.restore(steps)?;
        timings.part("install");
        let below = match plan.project() {
            None => steps.work.source_below.clone(),
            Some(project) => format!("{}/{project}", steps.work.source_below),
        };
        let tree =
            left::directory(&steps.dir, &below).map_err(|err| Error::io("open", &below, err))?;
        let lock = &inputs.bun_lock;
        installed::require_equal(&tree, &below, lock, &required, &seeded, plan.linker)?;
        if !project::trusts(plan, inputs)? {
            by_default(locked, inputs, steps, &below, here.clone())?;
        }
        for (argv, cwd) in scripts(plan, inputs, &below, steps)? {
            steps.run(argv, cwd)?;
        }
        for (argv, cwd) in after {
            steps.run(argv, cwd).map_err(skip)?;
        }
        timings.part("check");
        Ok(())
    }

    /// # Errors
    /// [`Reason::BadArgument`] for a published package: it is not built.
    pub fn require_built(self) -> Result<()> {
        match self {
            ProviderKind::Bun => Ok(()),
            ProviderKind::Package => {
                Err(Error::new(Reason::BadArgument, "a published package is not built here")
                    .expected("a lock of the kind bun")
                    .found("kind: package")
                    .hint("to compare it with a build of its source: admit diff --help"))
            }
        }
    }

    /// # Errors
    /// [`Reason::UnsupportedSource`] where [`Self::prove_runtime`] cannot read what the locked toolchain compiles.
    pub fn require_provable(self, locked: &Locked) -> Result<()> {
        self.require_built()?;
        let plan = &locked.plan;
        if exe::has_section(&plan.bun_version) {
            return Ok(());
        }
        let what = "admit cannot prove what this Bun compiles, and builds nothing with it";
        Err(Error::new(Reason::UnsupportedSource, what)
            .at(format!("{}: toolchain.bun.version", locked.place))
            .expected(format!("Bun {} or later", exe::FIRST))
            .found(plan.bun_version.clone())
            .hint(format!("admit lock {} --bun 1.3.14", plan.provider)))
    }

    /// Proves that the output's runtime is the pinned one: Bun with a module graph injected, byte for byte. In a build no
    /// byte of the graph may be without a module; of a published executable such bytes are counted.
    ///
    /// # Errors
    /// [`Reason::RuntimeMismatch`] with the first difference; [`Reason::BadExecutable`].
    pub fn prove_runtime(self, tool: &mut StoredFile, output: &mut StoredFile) -> Result<Runtime> {
        let (base, compiled) = (mapped(tool)?, mapped(output)?);
        let mut release = || {
            base.release();
            compiled.release();
        };
        prove_runtime_while(base.bytes(), compiled.bytes(), &mut release)
            .map_err(|mismatch| mismatch.into_error())?;
        let executable = Executable::read_on(base.bytes(), compiled.bytes())?;
        let unexplained = executable.graph.unexplained;
        if unexplained > 0 && self.is_built() {
            return Err(Error::new(
                Reason::RuntimeMismatch,
                "the output's payload holds bytes that belong to no module",
            )
            .expected("0 bytes")
            .found(format!("{unexplained} bytes")));
        }
        Ok(Runtime { proven: true, unexplained, ..executable.runtime(None) })
    }

    /// Whether `commands` can be what a build of `plan` ran: the install, scripts where the lock names packages that
    /// have some, the steps.
    pub fn could_run(self, locked: &Locked, commands: &[Vec<String>]) -> bool {
        let plan = &locked.plan;
        if !self.is_built() {
            return commands.is_empty();
        }
        let is_script = |argv: &[String], names: &[&str]| {
            matches!(argv, [bun, run, script]
                if bun == "bun" && run == "run" && names.contains(&script.as_str()))
        };
        // The source's own `preinstall` runs before anything is installed.
        let first = commands.first().is_some_and(|argv| is_script(argv, &LIFECYCLE[..1]));
        let commands = if plan.lifecycle && first { &commands[1..] } else { commands };
        let Some((install, rest)) = commands.split_first() else { return false };
        let Some(scripts) = rest.len().checked_sub(plan.steps.len()) else { return false };
        let (scripts, steps) = rest.split_at(scripts);
        let known: &[&str] = if plan.lifecycle { &LIFECYCLE } else { &SCRIPTS };
        *install == self.install_command(plan.linker)
            && steps == plan.steps
            && (plan.lifecycle || scripts.len() <= places(locked) * SCRIPTS.len())
            && scripts.iter().all(|argv| is_script(argv, known))
    }
}

pub(super) fn mapped(file: &mut StoredFile) -> Result<Mapped> {
    Mapped::new(file.file()).map_err(|err| Error::io("map", "a file of the store", err))
}

/// The lifecycle scripts of an installed package, in the order in which npm runs them.
const SCRIPTS: [&str; 3] = ["preinstall", "install", "postinstall"];

/// The lifecycle scripts of the packages that the lock names, as commands, each with its directory.
fn scripts(
    plan: &Plan,
    inputs: &Inputs,
    project: &str,
    steps: &Steps<'_>,
) -> Result<Vec<(Vec<String>, AbsPath)>> {
    let mut commands = Vec::new();
    let top = &steps.work.top;
    let entries = entries(plan, project, steps)?;
    let installed: Vec<(String, String)> = inputs
        .selected
        .iter()
        .flat_map(|(package, _)| installed_at(package, entries.as_deref()))
        .collect();
    for name in &plan.scripts {
        let mut places: Vec<String> =
            installed.iter().filter(|(one, _)| one == name).map(|(_, at)| at.clone()).collect();
        if places.is_empty() {
            places.push(format!("node_modules/{name}"));
        }
        for at in places {
            let cwd = format!("{top}/{project}/{at}").parse().map_err(|err| {
                Error::new(Reason::HostileLock, "build.scripts names no package")
                    .found(name.clone())
                    .caused_by(err)
            })?;
            let cwd: AbsPath = cwd;
            for script in own_scripts(steps, &format!("{project}/{at}"), name)? {
                commands.push((["bun", "run", script].map(str::to_owned).to_vec(), cwd.clone()));
            }
        }
    }
    Ok(commands)
}

/// The most places at which the packages whose scripts run can be installed: one each, unless the lock's list has more.
fn places(locked: &Locked) -> usize {
    let Some(packages) = &locked.lock.dependencies.packages else {
        return if locked.plan.scripts.is_empty() { 0 } else { MAX_PLACES };
    };
    let at =
        |name: &String| packages.iter().filter(|one| alias(&one.key) == Some(name)).count().max(1);
    locked.plan.scripts.iter().map(at).sum()
}

/// Places of packages before the lock has their list.
const MAX_PLACES: usize = 10_000;

/// The name that a package is installed under, and the directory from the project's. One in the tarball of another is
/// not Bun's to run.
fn place(package: &Package) -> Option<(String, String)> {
    let parts = split_key(&package.key).filter(|_| !package.bundled)?;
    let name = (*parts.last()?).to_owned();
    Some((name, format!("node_modules/{}", parts.join("/node_modules/"))))
}

/// The entries of the isolated linker, which were compared with the lock before; `None` for the other.
fn entries(plan: &Plan, project: &str, steps: &Steps<'_>) -> Result<Option<Vec<String>>> {
    if plan.linker == Linker::Hoisted {
        return Ok(None);
    }
    let at = format!("{project}/node_modules/.bun");
    let io = |err| Error::io("list", &at, err);
    let dir = match left::directory(&steps.dir, &at) {
        Err(err) if left::is_absent(&err) => return Ok(Some(Vec::new())),
        other => other.map_err(io)?,
    };
    let mut names = Vec::new();
    for entry in dir.entries().map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        names.extend(name.to_str().map(str::to_owned));
    }
    names.sort();
    Ok(Some(names))
}

/// The name that a package is installed under, with each of the directories where it is.
fn installed_at(package: &Package, entries: Option<&[String]>) -> Vec<(String, String)> {
    let Some((name, at)) = place(package) else { return Vec::new() };
    let Some(entries) = entries else { return vec![(name, at)] };
    let own = format!("{}@{}", package.name.replace('/', "+"), package.resolution);
    let of = |entry: &&String| {
        entry.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
    };
    let at = |entry: &String| format!("node_modules/.bun/{entry}/node_modules/{}", package.name);
    entries.iter().filter(of).map(|entry| (name.clone(), at(entry))).collect()
}

fn own_scripts(steps: &Steps<'_>, place: &str, name: &str) -> Result<Vec<&'static str>> {
    let manifest = format!("{place}/package.json");
    let missing = |what: &str| {
        let what = format!("a package whose scripts are asked for {what}");
        Error::new(Reason::InstallMismatch, what).at(name.to_owned())
    };
    let mut text = Vec::new();
    let file = left::file(&steps.dir, &manifest)
        .map_err(|err| missing("is not installed").caused_by(err))?;
    file.take(1 << 20).read_to_end(&mut text).map_err(|err| Error::io("read", &manifest, err))?;
    let parsed: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|err| missing("has no readable package.json").caused_by(err))?;
    Ok(SCRIPTS.into_iter().filter(|name| parsed["scripts"][*name].is_string()).collect())
}

/// Says whose scripts Bun would run by its own list of trusted packages, which counts where the source has none. None
/// of them runs unless the lock names it.
fn by_default(
    locked: &Locked,
    inputs: &Inputs,
    steps: &mut Steps<'_>,
    project: &str,
    cwd: AbsPath,
) -> Result<()> {
    let (plan, skips) = (&locked.plan, &locked.lock.build.skips);
    let said = steps.ask(&["/admit/bin/bun", "pm", "default-trusted"], &cwd)?;
    let text = said.stdout.text();
    let trusted: BTreeSet<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("- ")).collect();
    if said.exit != Exit::Code(0) || trusted.is_empty() {
        let version = &plan.bun_version;
        steps.note(&format!("Bun {version} does not say which packages it trusts by itself: whose scripts it would run is not known; none runs"));
        return Ok(());
    }
    let entries = entries(plan, project, steps)?;
    let decided = |name: &String| plan.scripts.contains(name) || skips.contains(name);
    let mut skipped = BTreeSet::new();
    // The list is about packages of a registry (seen: a tarball or commit of such a name is not trusted).
    for (package, _) in inputs.selected.iter().filter(|(one, _)| one.kind == SourceKind::Npm) {
        // Installed under another name, it is that name that Bun looks for.
        for (name, place) in installed_at(package, entries.as_deref()) {
            let wanted = trusted.contains(name.as_str()) && !decided(&name);
            if wanted && !own_scripts(steps, &format!("{project}/{place}"), &name)?.is_empty() {
                skipped.insert(name);
            }
        }
    }
    if !skipped.is_empty() {
        let names: Vec<&str> = skipped.iter().map(String::as_str).collect();
        // A flag gives the whole list.
        let flags = |flag: &str, there: &[String]| {
            let all = there.iter().map(String::as_str).chain(names.iter().copied());
            all.map(|name| format!("{flag} {name}")).collect::<Vec<_>>().join(" ")
        };
        steps.note(&format!(
            "Bun would run install scripts of {} by its built-in list of trusted packages; here none ran. To run them in the sandbox: admit lock {} {}; to say that none is meant to: {}",
            names.join(", "), plan.provider, flags("--script", &plan.scripts), flags("--skip-script", skips),
        ));
    }
    Ok(())
}

/// The pinned binary is told by its digest; that it is the version that the lock claims, it says itself.
fn same_version(plan: &Plan, steps: &mut Steps<'_>) -> Result<()> {
    let finished = steps.ask(&["/admit/bin/bun", "--version"], &steps.work.top.clone())?;
    let found = finished.stdout.text().trim().to_owned();
    if finished.exit == Exit::Code(0) && found == plan.bun_version {
        return Ok(());
    }
    Err(Error::new(
        Reason::RuntimeMismatch,
        "the pinned Bun is not the version that the lock names",
    )
    .at("toolchain.bun.version")
    .expected(plan.bun_version.clone())
    .found(if found.is_empty() { exit_text(&finished.exit) } else { found })
    .hint(format!("make the lock again with the right --bun: admit lock {} --help", plan.provider)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;
    use crate::record::lockfile::Platform;

    #[test]
    fn every_switch_and_place_that_a_project_could_use_is_named() {
        let lock = record::parse(include_bytes!("../../lockfiles/case.lock.json")).unwrap();
        let plan = Plan::new(&lock, Platform::LinuxX64).unwrap();
        let work = WorkDir::new(&plan, &"/tmp/x".parse().unwrap()).unwrap();
        let env = plan.kind.environment(&plan, &work);
        for name in [
            "BUN_CONFIG_NO_VERIFY",
            "BUN_CONFIG_REGISTRY",
            "NPM_CONFIG_REGISTRY",
            "npm_config_registry",
            "GITHUB_API_URL",
        ] {
            assert!(env.contains_key(name), "{name}");
        }
        for name in ["BUN_INSTALL_CACHE_DIR", "HOME", "TMPDIR", "XDG_CONFIG_HOME"] {
            assert!(env[name].starts_with("/tmp/.admit/"), "{name}");
        }
        assert!(!env.contains_key("NODE_ENV"), "Bun inlines it at build time");
    }
}
