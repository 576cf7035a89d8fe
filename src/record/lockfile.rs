//! The lock of a provider, `lockfiles/<provider>.lock.json` (`admit.lock/1`): names become digests.
//!
//! Rules for changing the format stand in [`super::canonical::Schema`]. A lock is data from outside: [`Lockfile::check`]
//! refuses everything that the sandbox would not be safe with.

use std::collections::BTreeMap;
use std::fmt::Display;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::canonical::{self as record, schema};
use super::ids::{AbsPath, Blake3, CommitId, Digest, Name, ObjectId, RelPath, Sha256, Sri};
pub use super::run_shape::{AgentKind, Ambient, RunShape};
use super::text::words;

/// One provider, every platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lockfile {
    /// Always `admit.lock/1`.
    pub schema: String,
    /// The provider's name; the file is `<provider>.lock.json`.
    pub provider: Name,
    /// How its binary comes to be; absent for `bun`.
    #[serde(default, skip_serializing_if = "ProviderKind::is_bun")]
    pub kind: ProviderKind,
    /// Where the source comes from and what it must be.
    pub source: Source,
    /// The published package, for the kind `package` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<Published>,
    pub toolchain: Toolchain,
    pub dependencies: Dependencies,
    pub build: Build,
    /// What the build must give, by platform. Absent until somebody built it there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<Platform, Output>,
    /// What the output must say of itself.
    pub identity: Identity,
    /// How an admitted binary may be started.
    pub run: RunShape,
    /// Under which licence, and what that allows.
    pub license: License,
}

schema!(Lockfile, "admit.lock", 1);

/// How a provider's binary comes to be. `docs/providers.md` says how to add a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Bun installs the packages of the source's `bun.lock` and compiles an executable.
    #[default]
    Bun,
    /// Somebody else built it: its executable is taken out of a package of the npm registry, and no script of it runs.
    Package,
}

/// A published package, for every platform that is locked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published {
    pub form: PublishedForm,
    pub platforms: BTreeMap<Platform, PublishedFile>,
}

/// What of a published executable is proven beside its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PublishedForm {
    /// It is the pinned Bun of `toolchain` with a module graph in it, byte for byte.
    Bun,
    /// Nothing: the digest and how it is linked are on record.
    Native,
}

/// One file of one package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedFile {
    /// For example `opencode-linux-x64`.
    pub package: String,
    pub version: String,
    /// Integrity of the tarball, from the registry's own metadata.
    pub integrity: Sri,
    /// The executable in it, below the tarball's one top directory.
    pub path: RelPath,
}

impl PublishedFile {
    /// What a lock's `source.url` calls it.
    pub fn url(&self) -> String {
        format!("npm:{}@{}", self.package, self.version)
    }

    /// What stands for a commit in a lock's `source.rev`: the first 40 hex digits of the tarball's digest.
    pub fn pin(&self) -> String {
        self.integrity.0.to_hex().chars().take(40).collect()
    }
}

impl ProviderKind {
    /// Whether it is the kind that a lock does not name.
    pub fn is_bun(&self) -> bool {
        *self == ProviderKind::Bun
    }

    /// Whether admit builds it, by the steps of its lock.
    pub fn is_built(self) -> bool {
        match self {
            ProviderKind::Bun => true,
            ProviderKind::Package => false,
        }
    }

    /// What a step can start with.
    pub fn step_programs(self) -> &'static [&'static str] {
        match self {
            // Steps of a published package are refused as such.
            ProviderKind::Bun | ProviderKind::Package => &["bun", "sh"],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// `https://…`, `http://…`, `file:///…`, or `embedded:<name>` for a source inside admit itself; for a published
    /// package `npm:NAME@VERSION`.
    pub url: String,
    /// The commit; for a published package the first 40 hex digits of its tarball's digest.
    pub rev: CommitId,
    /// The commit's git tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<ObjectId>,
    /// NAR hash of the checkout without `.git`, as `nix hash path` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nar_hash: Option<Sri>,
    /// Submodules that are left out: an empty directory, as a plain clone has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<RelPath>,
}

impl Source {
    /// A commit of which nothing else is locked.
    pub fn at(url: &str, rev: &CommitId) -> Self {
        Self {
            url: url.to_owned(),
            rev: rev.clone(),
            tree: None,
            nar_hash: None,
            without: Vec::new(),
        }
    }
}

/// The toolchain; Bun is the only one so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Toolchain {
    /// Of no version and without platforms where there is no Bun in what was published.
    pub bun: BunToolchain,
}

/// One version of Bun for every platform.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BunToolchain {
    /// For example `1.3.14`.
    pub version: String,
    /// The npm package of each platform.
    pub platforms: BTreeMap<Platform, BunPackage>,
}

/// The npm package that holds Bun for one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BunPackage {
    /// For example `@oven/bun-linux-x64`.
    pub package: String,
    /// Integrity of the tarball, from the registry's own metadata.
    pub integrity: Sri,
    /// SHA-256 of `bin/bun` inside it.
    pub binary_sha256: Sha256,
}

words! {
    /// A machine that Bun has a build for: names as Bun's npm packages have them.
    pub enum Platform {
        /// x86-64 with AVX2, glibc.
        LinuxX64 = "linux-x64",
        /// x86-64 without AVX2, glibc.
        LinuxX64Baseline = "linux-x64-baseline",
        /// x86-64, musl.
        LinuxX64Musl = "linux-x64-musl",
        /// ARM64, glibc.
        LinuxAarch64 = "linux-aarch64",
        DarwinX64 = "darwin-x64",
        DarwinAarch64 = "darwin-aarch64",
    }
}

impl Platform {
    /// `os`, `cpu` and `libc` in npm's words, by which packages are chosen.
    pub fn npm(self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            Platform::LinuxX64 | Platform::LinuxX64Baseline => ("linux", "x64", Some("glibc")),
            Platform::LinuxX64Musl => ("linux", "x64", Some("musl")),
            Platform::LinuxAarch64 => ("linux", "arm64", Some("glibc")),
            Platform::DarwinX64 => ("darwin", "x64", None),
            Platform::DarwinAarch64 => ("darwin", "arm64", None),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependencies {
    /// The source's own lock, for example `bun.lock`.
    pub lockfile: RelPath,
    /// Every package of that lock for every platform, sorted by `key`, once resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<Vec<LockedPackage>>,
    /// Of packages for which the source's own lock has none that can be used, by `key`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub integrity: BTreeMap<String, Sri>,
}

/// One package. `integrity` is required on everything that is fetched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Install path in the source's lock, for example `a` or `a/b`.
    pub key: String,
    pub name: String,
    /// Version, or the reference for a package that is not on npm.
    pub version: String,
    pub kind: PackageKind,
    pub integrity: Sri,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PackageKind {
    Npm,
    /// A tarball that GitHub makes of a commit.
    Github,
    Git,
    /// A tarball at some URL.
    Tarball,
}

/// How the source becomes the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The directory that the sandbox builds in. Part of the output's digest. Absent: every
    /// build has a directory of its own choice, two builds may differ, and no output is locked from what was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<AbsPath>,
    /// How Bun lays packages out. Absent: `hoisted`.
    #[serde(default, skip_serializing_if = "Linker::is_hoisted")]
    pub linker: Linker,
    /// Commands after the install, in order; the first word is `bun` or `sh`.
    pub steps: Vec<Vec<String>>,
    /// Variables on top of admit's closed list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Packages whose lifecycle scripts run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<String>,
    /// Packages that the source trusts with lifecycle scripts and whose scripts do not run here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skips: Vec<String>,
    /// Whether the lifecycle scripts of the source's own packages run (`preinstall` to `postprepare`). Absent: the
    /// source has none, and one that has some is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    /// Whether steps find a `git` that answers what the pin says, and nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub git: bool,
    /// Git-lfs pointers of the source that are built as they are: the files themselves are nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lfs_pointers: Vec<RelPath>,
    /// Files from elsewhere that steps need: fetched before, by digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub downloads: Vec<Download>,
    /// Tracked files that the build is known to modify.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<RelPath>,
    /// The file that the build leaves.
    pub output: RelPath,
}

impl Build {
    /// A build of which nothing is said but what it leaves.
    pub fn of(output: RelPath) -> Self {
        Self {
            path: None,
            linker: Linker::default(),
            steps: Vec::new(),
            env: BTreeMap::new(),
            scripts: Vec::new(),
            skips: Vec::new(),
            lifecycle: None,
            git: false,
            lfs_pointers: Vec::new(),
            downloads: Vec::new(),
            writes: Vec::new(),
            output,
        }
    }
}

/// A file that steps of a build need and that is in no package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// What a step's `curl` or `wget` asks for.
    pub url: String,
    pub integrity: Sri,
    /// Where it is put in the source before anything runs; absent: a step fetches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RelPath>,
}

words! {
    /// How Bun lays out the packages that it installs.
    #[derive(Default)]
    pub enum Linker {
        /// Each as far up as it can be, in one `node_modules`.
        #[default]
        Hoisted = "hoisted",
        /// Each in a directory of its own, with links to what it needs.
        Isolated = "isolated",
    }
}

impl Linker {
    /// Whether it is the one that a lock does not name.
    pub fn is_hoisted(&self) -> bool {
        *self == Linker::Hoisted
    }
}

/// What becomes of the lifecycle scripts of the source's own packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// They run in the build's sandbox, as Bun would run them.
    Run,
    Skip,
}

/// The locked output of one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// SHA-256 of the file.
    pub sha256: Sha256,
    /// BLAKE3 of the file.
    pub blake3: Blake3,
    pub size: u64,
}

/// What `--help` and `--version` must show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// First line of `--help` that is not blank; `{version}` stands for a version. Absent until a build showed it: such a lock names
    /// no output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help_first_line: Option<String>,
    /// Commands that `--help` must list, each at the start of an indented line; of aliases (`context|ctx`) any name.
    #[serde(default)]
    pub commands: Vec<String>,
    /// What `--version` prints; `{version}` stands for a version. Absent where the program has no such option (Case
    /// before fecfdf4 starts a run instead): then it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Identity {
    /// Whether `found` is what `want` asks for. `{version}` in `want` stands for one version, the same at each place:
    /// digits and dots with what may follow them (semver.org, 2, 9 and 10).
    pub fn shows(want: &str, found: &str) -> bool {
        const VERSION: &str = "{version}";
        let Some((before, _)) = want.split_once(VERSION) else { return want == found };
        let Some(rest) = found.strip_prefix(before) else { return false };
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
        let longest = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let starts = rest.starts_with(|c: char| c.is_ascii_digit());
        // What follows may begin with a character that a version can hold too, such as a full stop.
        starts && (1..=longest).rev().any(|end| want.replace(VERSION, &rest[..end]) == found)
    }
}

/// The licence as far as it is known, and the stages that it allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct License {
    /// Whether somebody settled it.
    pub status: LicenseStatus,
    /// SPDX expression, where settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spdx: Option<String>,
    /// Stages (2 to 7) that may run under it.
    pub allows: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LicenseStatus {
    /// Nobody settled it yet.
    Unresolved,
    /// It is what `spdx` says.
    Resolved,
}

impl Lockfile {
    pub fn path_of(provider: impl Display) -> String {
        format!("lockfiles/{provider}.lock.json")
    }

    pub fn provider_of(path: &str) -> Option<&str> {
        path.strip_prefix("lockfiles/")?.strip_suffix(".lock.json")
    }

    /// SHA-256 over the canonical form of the whole lock.
    pub fn digest(&self) -> Digest {
        record::digest(self)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::record) fn sample() -> Lockfile {
        let text = serde_json::json!({
            "schema": "admit.lock/1",
            "provider": "sample",
            "source": { "url": "https://example.com/x.git", "rev": "7959ac917cdeb0983b4aaa20bb9f42021747fed8" },
            "toolchain": { "bun": { "version": "1.3.14", "platforms": { "linux-x64": {
                "package": "@oven/bun-linux-x64",
                "integrity": "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
                "binary_sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" } } } },
            "dependencies": { "lockfile": "bun.lock" },
            "build": { "path": "/tmp/workos-case", "steps": [["bun", "run", "build:binary"]], "output": "dist/ca" },
            "identity": { "help_first_line": "Usage: ca", "commands": ["run"], "version": "0.1.0" },
            "run": { "argv": ["run", "--task", "{task}"], "ambient": "neutralise" },
            "license": { "status": "unresolved", "allows": [2] }
        });
        record::parse(text.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_lock_round_trips() {
        assert_eq!(record::parse::<Lockfile>(&record::pretty(&sample())).unwrap(), sample());
    }

    #[test]
    fn a_version_in_an_expected_text_stands_for_any_and_for_nothing_else() {
        for (want, found) in [
            ("cm", "cm"),
            ("cm {version}", "cm 0.2.13"),
            ("v{version} (cm {version}).", "v1.0.0-rc.1+b (cm 1.0.0-rc.1+b)."),
            ("{version}.", "1.2.3."),
        ] {
            assert!(Identity::shows(want, found), "{want} {found}");
        }
        for (want, found) in [
            ("cm {version}", "cm "),
            ("cm {version}", "cm x"),
            ("cm {version}", "cm 1.0 evil"),
            ("{version} {version}", "1.0 2.0"),
            ("cm", "cm 1"),
            ("cm {version}!", "cn 1!"),
        ] {
            assert!(!Identity::shows(want, found), "{want} {found}");
        }
    }
}
