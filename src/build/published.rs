//! `kind: package`: an executable that somebody published. It is taken out of its package by digest, what can be proven
//! of it is proven, and its lock can be made from the package alone.

use super::kind::mapped;
use super::output::{self, Asked, Proven};
use crate::bun::explain::claimed_version;
use crate::bun::inject::prove_runtime;
use crate::bun::inspect::is_bun;
use crate::bun::native;
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::fetch::Fetcher;
use crate::host::{Timings, platform};
use crate::lock::Locked;
use crate::record::Record as _;
use crate::record::ids::{Name, RelPath};
use crate::record::lockfile::{
    Build, BunToolchain, Dependencies, Identity, License, LicenseStatus, Lockfile, Platform,
    ProviderKind, Published, PublishedFile, PublishedForm, RunShape, Source, Toolchain,
};
use crate::record::report::{Native, Runtime};
use crate::sandbox::Launcher;
use crate::store::Pending;

/// Takes the locked executable out of its package and proves what can be proven of it: that it is the pinned Bun with a
/// module graph in it, or how it is linked; and what it says of itself.
///
/// # Errors
/// Those of [`Fetcher::published`], [`ProviderKind::prove_runtime`] and [`output::identity`];
/// [`Reason::PlatformNotLocked`] for an executable of another machine; [`Reason::DigestMismatch`].
pub fn take(context: &Context, locked: &Locked, timings: &mut Timings) -> Result<Proven> {
    let plan = &locked.plan;
    let (form, file) = plan.package.as_ref().ok_or_else(|| {
        Error::new(Reason::Internal, "a published package without one").at(locked.place.clone())
    })?;
    let (store, network) = (context.store()?, context.network()?);
    let fetcher = network.fetcher();
    let mut pending = fetcher.published(file)?;
    let runtime = match form {
        PublishedForm::Bun => {
            let mut tool = fetcher.bun(plan.bun()?, &plan.bun_version)?;
            timings.part("fetch");
            ProviderKind::Package.prove_runtime(&mut tool, pending.file())?
        }
        PublishedForm::Native => {
            timings.part("fetch");
            native(&mut pending, plan.platform)?
        }
    };
    let found = output::hashed(&mut pending)?;
    output::status(locked, &found)?;
    let scratch = store.scratch()?;
    let launcher = Launcher::own(scratch.path());
    let proof = output::prove_identity(pending, runtime, locked, &launcher, &*context.progress)?;
    let proven = proof.publish()?;
    timings.part("proof");
    Ok(proven)
}

/// What is on record of an executable whose runtime is not a pinned Bun's.
fn native(pending: &mut Pending, platform: Platform) -> Result<Runtime> {
    let mapped = mapped(pending.file())?;
    let bytes = mapped.bytes();
    let native = for_platform(bytes, platform)?;
    let not_proven = is_bun(bytes).then(|| {
        let version = claimed_version(bytes).unwrap_or_else(|| "of no version".into());
        format!("compiled by a Bun that calls itself {version} and is no published one")
    });
    Ok(Runtime { native: Some(native), not_proven, ..Runtime::default() })
}

fn for_platform(bytes: &[u8], platform: Platform) -> Result<Native> {
    let native = native::read(bytes)?;
    let machine = match platform.npm().1 {
        "arm64" => "aarch64",
        _ => "x86-64",
    };
    if native.machine != machine {
        return Err(Error::new(
            Reason::PlatformNotLocked,
            "the published executable is for another platform",
        )
        .expected(format!("{machine} ({platform})"))
        .found(native.machine)
        .hint(
            "a publisher has one package for each platform: name this platform's with --package",
        ));
    }
    Ok(native)
}

/// What `admit lock NAME --package` was asked for; what is absent is found out.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub package: String,
    pub version: Option<String>,
    pub path: Option<RelPath>,
    /// The Bun inside, where the executable's own word is not to be followed.
    pub bun: Option<String>,
    /// Do not look for a Bun in it.
    pub native: bool,
    pub help_first_line: Option<String>,
    pub commands: Vec<String>,
    pub version_text: Option<String>,
    /// SPDX expression of the licence, where somebody settled it.
    pub license: Option<String>,
    /// Stages that the licence allows.
    pub stages: Vec<u8>,
    pub run: Option<RunShape>,
}

/// Makes the lock of a published package: version and integrity as the registry has them, path and digest as the tarball
/// has them, the Bun inside proven, the identity as the program shows it in a sandbox. The second value says what was
/// found out on the way that a person should know.
///
/// # Errors
/// Those of the registry and the tarball; [`Reason::RuntimeMismatch`] where `--bun` names a Bun that it is not;
/// [`Reason::WrongIdentity`] where it shows none.
pub fn propose(
    context: &Context,
    provider: &Name,
    wanted: &Wanted,
) -> Result<(Lockfile, Vec<String>)> {
    let (network, store) = (context.network()?, context.store()?);
    let fetcher = network.fetcher();
    let platform = platform()?;
    let package = &wanted.package;
    let (version, integrity, manifest) =
        fetcher.published_version(package, wanted.version.as_deref())?;
    let path = match &wanted.path {
        Some(path) => path.clone(),
        None => {
            let mut tarball = fetcher.published_tarball(package, &version, &integrity)?;
            fetcher.only_program(package, &mut tarball)?
        }
    };
    let file = PublishedFile { package: package.clone(), version, integrity, path };
    let mut pending = fetcher.published(&file)?;
    let mut notes = Vec::new();
    let bytes = mapped(pending.file())?;
    for_platform(bytes.bytes(), platform).map_err(|err| err.at(file.path.to_string()))?;
    let bun = match is_bun(bytes.bytes()) && !wanted.native {
        true => bun_inside(&fetcher, bytes.bytes(), platform, wanted.bun.as_deref(), &mut notes)?,
        false => None,
    };
    drop(bytes);
    let output = output::hashed(&mut pending)?;
    let scratch = store.scratch()?;
    let launcher = Launcher::own(scratch.path());
    let identity = identity(&launcher, &mut pending, wanted)?;
    // The build finds the tarball in the store; the executable gets there once all of it is proven.
    drop(pending);
    let stated = manifest["license"].as_str().unwrap_or("none");
    if wanted.license.is_none() {
        notes.push(format!(
            "the package states the licence {stated:?}; nobody settled it (--license)"
        ));
    }
    let pin = file.pin().parse().map_err(Error::internal("a package's pin"))?;
    let lock = Lockfile {
        schema: Lockfile::SCHEMA.to_string(),
        provider: provider.clone(),
        kind: ProviderKind::Package,
        source: Source::at(&file.url(), &pin),
        toolchain: Toolchain { bun: bun.clone().unwrap_or_default() },
        dependencies: Dependencies {
            lockfile: "package.json".parse().map_err(Error::internal("a file's name"))?,
            packages: None,
            integrity: Default::default(),
        },
        build: Build::of(file.path.clone()),
        outputs: [(platform, output)].into(),
        identity,
        run: wanted.run.clone().unwrap_or_default(),
        license: License {
            status: match wanted.license {
                Some(_) => LicenseStatus::Resolved,
                None => LicenseStatus::Unresolved,
            },
            spdx: wanted.license.clone(),
            allows: if wanted.stages.is_empty() { vec![2] } else { wanted.stages.clone() },
        },
        package: Some(Published {
            form: if bun.is_some() { PublishedForm::Bun } else { PublishedForm::Native },
            platforms: [(platform, file)].into(),
        }),
    };
    crate::lock::check(&lock, provider, &Lockfile::path_of(provider))?;
    Ok((lock, notes))
}

/// The published Bun that an executable was compiled with, tried by the version that the executable claims or the user
/// names, in each of the builds that this platform has.
fn bun_inside(
    fetcher: &Fetcher<'_>,
    bytes: &[u8],
    platform: Platform,
    named: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Option<BunToolchain>> {
    let claimed = claimed_version(bytes);
    let Some(version) = named.map(str::to_owned).or(claimed) else {
        notes.push("compiled by a Bun that names no version: --bun VERSION has it proven".into());
        return Ok(None);
    };
    let mut builds = vec![platform];
    if platform == Platform::LinuxX64 {
        builds.extend([Platform::LinuxX64Baseline, Platform::LinuxX64Musl]);
    }
    let mut why = Vec::new();
    for build in builds {
        let package = match fetcher.pin_bun(&version, build) {
            Ok(package) => package,
            Err(err) if err.reason() == Reason::NotFound => continue,
            Err(err) => return Err(err),
        };
        let mut tool = fetcher.bun(&package, &version)?;
        match prove_runtime(mapped(&mut tool)?.bytes(), bytes) {
            Ok(_) => {
                let platforms = [(platform, package)].into();
                return Ok(Some(BunToolchain { version, platforms }));
            }
            Err(mismatch) => why.push((package.package, mismatch)),
        }
    }
    if named.is_some()
        && let Some((package, mismatch)) = why.pop()
    {
        return Err(mismatch.into_error().hint(format!(
            "it is not {package}@{version}: leave --bun out to have it locked by its digest alone"
        )));
    }
    let why: Vec<String> = why
        .iter()
        .map(|(package, mismatch)| format!("not {package}@{version}: {mismatch}"))
        .collect();
    notes.push(format!(
        "its runtime is not proven, and it is locked by digest alone: {}",
        if why.is_empty() { format!("no Bun {version} is published") } else { why.join("; ") }
    ));
    Ok(None)
}

/// What a lock asks for, as given, or as the program shows it.
fn identity(launcher: &Launcher, pending: &mut Pending, wanted: &Wanted) -> Result<Identity> {
    let file = pending.file();
    let mut asked = Asked::start(launcher, file.path(), file.digest())?;
    let help_first_line = match &wanted.help_first_line {
        Some(line) => line.clone(),
        None => output::first_line(&asked.answer("--help")?).to_owned(),
    };
    let version = match &wanted.version_text {
        Some(text) => text.clone(),
        None => asked.answer("--version")?.trim().to_owned(),
    };
    if help_first_line.is_empty() || version.is_empty() {
        return Err(Error::new(Reason::WrongIdentity, "the program shows nothing to know it by")
            .expected("a first line of --help, and a version")
            .found("an empty text")
            .hint("say what it must show with --help-line and --version-text"));
    }
    Ok(Identity {
        help_first_line: Some(help_first_line),
        commands: wanted.commands.clone(),
        version: Some(version),
    })
}
