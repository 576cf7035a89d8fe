//! Stage 2, plan: a lock for one platform becomes everything that decides what a build gives. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Reason, Result};
use crate::record;
use crate::record::ids::{AbsPath, CommitId, Digest, Name, RelPath, Sri};
use crate::record::lockfile::{
    BunPackage, Download, Lifecycle, Linker, Lockfile, Platform, ProviderKind, PublishedFile,
    PublishedForm,
};

/// `SOURCE_DATE_EPOCH` of every build: 1980-01-01T00:00:00Z, the first moment that every archive format can hold. A
/// constant, so that the plan needs nothing from the network.
pub const SOURCE_DATE_EPOCH: i64 = 315_532_800;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Always 1: part of the digest of every build on record. How admit itself builds is told by its builder digest.
    pub rules: u32,
    #[serde(skip_serializing_if = "ProviderKind::is_bun")]
    pub kind: ProviderKind,
    pub provider: Name,
    pub platform: Platform,
    /// The commit; by its tree it decides the source and the source's own lock.
    pub rev: CommitId,
    pub bun_version: String,
    /// Absent where what was published has no Bun in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bun: Option<BunPackage>,
    /// What was published, and what of it is proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<(PublishedForm, PublishedFile)>,
    pub lockfile: RelPath,
    /// The directory inside the sandbox; absent where the lock leaves it open.
    pub path: Option<AbsPath>,
    pub steps: Vec<Vec<String>>,
    /// Variables on top of the closed list.
    pub env: BTreeMap<String, String>,
    /// Packages whose lifecycle scripts run.
    pub scripts: Vec<String>,
    /// Tracked files that may change.
    pub writes: Vec<RelPath>,
    pub output: RelPath,
    /// The source's own lifecycle scripts run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lifecycle: bool,
    /// Steps find a `git` that answers from the pin.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub git: bool,
    #[serde(skip_serializing_if = "Linker::is_hoisted")]
    pub linker: Linker,
    /// Files from elsewhere that steps find.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub downloads: Vec<Download>,
    /// Integrities of packages that the source's own lock does not bind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub integrity: BTreeMap<String, Sri>,
    /// Submodules that are left out of the source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<RelPath>,
}

impl Plan {
    /// The plan of `lock` on `platform`.
    ///
    /// # Errors
    /// [`Reason::PlatformNotLocked`] where the lock has no Bun for the platform.
    pub fn new(lock: &Lockfile, platform: Platform) -> Result<Plan> {
        let missing = |what: &str, known: Vec<&str>| {
            let what = format!("{} locks no {what} for this platform", lock.provider);
            Error::new(Reason::PlatformNotLocked, what)
                .expected(format!("one of: {}", known.join(", ")))
                .found(platform.to_string())
        };
        let package = match &lock.package {
            None => None,
            Some(package) => {
                let known = || package.platforms.keys().map(|p| p.as_str()).collect();
                let file = package.platforms.get(&platform);
                let file = file.ok_or_else(|| missing("package", known()))?;
                Some((package.form, file.clone()))
            }
        };
        let bun = &lock.toolchain.bun.platforms;
        let bun = match (&package, bun.get(&platform)) {
            (Some((PublishedForm::Native, _)), _) => None,
            (_, Some(bun)) => Some(bun.clone()),
            (_, None) => {
                return Err(missing("Bun", bun.keys().map(|p| p.as_str()).collect()));
            }
        };
        Ok(Plan {
            rules: 1,
            kind: lock.kind,
            provider: lock.provider.clone(),
            platform,
            rev: lock.source.rev.clone(),
            bun_version: lock.toolchain.bun.version.clone(),
            bun,
            output: package.as_ref().map_or(&lock.build.output, |(_, file)| &file.path).clone(),
            package,
            lockfile: lock.dependencies.lockfile.clone(),
            path: lock.build.path.clone(),
            steps: lock.build.steps.clone(),
            env: lock.build.env.clone(),
            scripts: lock.build.scripts.clone(),
            writes: lock.build.writes.clone(),
            lifecycle: lock.build.lifecycle == Some(Lifecycle::Run),
            git: lock.build.git,
            linker: lock.build.linker,
            downloads: lock.build.downloads.clone(),
            without: lock.source.without.clone(),
            integrity: lock.dependencies.integrity.clone(),
        })
    }

    /// The pinned Bun of a plan that has one: every build, and a published executable that Bun compiled.
    ///
    /// # Errors
    /// [`Reason::BunMissing`].
    pub fn bun(&self) -> Result<&BunPackage> {
        self.bun.as_ref().ok_or_else(|| {
            Error::new(Reason::BunMissing, "there is no Bun in what was published")
                .at(self.provider.to_string())
        })
    }

    /// The directory of the source's own lock, from the source's root: where Bun installs and steps run. `None` is the
    /// root itself.
    pub fn project(&self) -> Option<RelPath> {
        self.lockfile.as_str().rsplit_once('/').and_then(|(dir, _)| dir.parse().ok())
    }

    /// What the paths of the project begin with: its directory and `/`, or nothing.
    pub fn prefix(&self) -> String {
        self.project().map_or_else(String::new, |dir| format!("{dir}/"))
    }

    /// SHA-256 of the canonical form. What a build resolves is no part of it: a lock that was filled by
    /// `admit lock --update` finds the build that filled it.
    pub fn digest(&self) -> Digest {
        record::digest(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lockfile {
        record::parse(include_bytes!("../../lockfiles/case.lock.json")).unwrap()
    }

    #[test]
    fn the_key_covers_what_decides_the_build_and_nothing_else() {
        let key = |change: &dyn Fn(&mut Lockfile)| {
            let mut lock = lock();
            change(&mut lock);
            Plan::new(&lock, Platform::LinuxX64).unwrap().digest()
        };
        let base = key(&|_| ());
        assert_eq!(base, key(&|l| l.outputs.clear()));
        assert_eq!(base, key(&|l| l.source.tree = Some("0".repeat(40).parse().unwrap())));
        assert_eq!(base, key(&|l| l.source.url = "https://elsewhere/x".into()));
        assert_ne!(base, key(&|l| l.source.rev = "0".repeat(40).parse().unwrap()));
        assert_ne!(base, key(&|l| l.build.path = Some("/tmp/x".parse().unwrap())));
        assert_ne!(base, key(&|l| l.build.steps.push(vec!["bun".into()])));
        assert_ne!(base, key(&|l| drop(l.build.env.insert("A".into(), "b".into()))));
        assert_ne!(base, key(&|l| l.build.linker = Linker::Isolated));
        assert_ne!(base, key(&|l| l.toolchain.bun.version = "1.3.13".into()));
    }

    #[test]
    fn a_build_on_record_has_the_digest_of_its_plan() {
        let lock = record::parse(include_bytes!("../../lockfiles/understudy.lock.json")).unwrap();
        let report: record::report::BuildReport =
            record::parse(include_bytes!("../../fixtures/fuzz/report/understudy.json")).unwrap();
        assert_eq!(Plan::new(&lock, Platform::LinuxX64).unwrap().digest(), report.plan_digest);
    }

    #[test]
    fn an_unlocked_platform_is_refused() {
        let mut lock = lock();
        lock.toolchain.bun.platforms.remove(&Platform::LinuxAarch64);
        let err = Plan::new(&lock, Platform::LinuxAarch64).unwrap_err();
        assert_eq!(err.reason(), Reason::PlatformNotLocked);
    }
}
