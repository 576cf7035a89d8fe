//! Stage 2, plan: a lock for one platform becomes a value that says exactly what the sandbox will do. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Reason, Result};
use crate::record;
use crate::record::ids::{AbsPath, CommitId, Digest, Name, RelPath, Sri};
use crate::record::lockfile::{BunPackage, Lockfile, Platform};

/// `SOURCE_DATE_EPOCH` of every build: 1980-01-01T00:00:00Z, the first moment that every archive format can hold. A
/// constant, so that the plan needs nothing from the network.
pub const SOURCE_DATE_EPOCH: i64 = 315_532_800;

/// Everything that decides what a build gives. Its digest is the key of the build in the store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Version of this rule set: raised when admit itself starts to build differently.
    pub rules: u32,
    pub provider: Name,
    pub platform: Platform,
    /// The commit; by its tree it decides the source and the source's own lock.
    pub rev: CommitId,
    pub bun_version: String,
    pub bun: BunPackage,
    /// The source's own lock.
    pub lockfile: RelPath,
    /// Integrities that our lock records where the source's own lock has none, by install path.
    pub accepted: BTreeMap<String, Sri>,
    /// The directory inside the sandbox; absent where the lock leaves it open.
    pub path: Option<AbsPath>,
    /// Commands after the install.
    pub steps: Vec<Vec<String>>,
    /// Variables on top of the closed list.
    pub env: BTreeMap<String, String>,
    /// Packages whose lifecycle scripts run.
    pub scripts: Vec<String>,
    /// Tracked files that may change.
    pub writes: Vec<RelPath>,
    pub output: RelPath,
}

impl Plan {
    /// The plan of `lock` on `platform`.
    ///
    /// # Errors
    /// [`Reason::PlatformNotLocked`] where the lock has no Bun for the platform.
    pub fn new(lock: &Lockfile, platform: Platform) -> Result<Plan> {
        let bun = lock.toolchain.bun.platforms.get(&platform).ok_or_else(|| {
            let known: Vec<_> = lock.toolchain.bun.platforms.keys().map(|p| p.as_str()).collect();
            Error::new(
                Reason::PlatformNotLocked,
                format!("{} locks no Bun for this platform", lock.provider),
            )
            .expected(format!("one of: {}", known.join(", ")))
            .found(platform.to_string())
        })?;
        let accepted = lock
            .dependencies
            .packages
            .iter()
            .flatten()
            .map(|p| (p.key.clone(), p.integrity.clone()));
        Ok(Plan {
            rules: 1,
            provider: lock.provider.clone(),
            platform,
            rev: lock.source.rev.clone(),
            bun_version: lock.toolchain.bun.version.clone(),
            bun: bun.clone(),
            lockfile: lock.dependencies.lockfile.clone(),
            accepted: accepted.collect(),
            path: lock.build.path.clone(),
            steps: lock.build.steps.clone(),
            env: lock.build.env.clone(),
            scripts: lock.build.scripts.clone(),
            writes: lock.build.writes.clone(),
            output: lock.build.output.clone(),
        })
    }

    /// SHA-256 of the canonical form, without what a build itself resolves: a lock that was filled by
    /// `admit lock --update` finds the build that filled it.
    pub fn key(&self) -> Digest {
        let mut value = record::to_value(self);
        if let Some(object) = value.as_object_mut() {
            object.remove("accepted");
        }
        Digest::sha256(value.to_string().as_bytes())
    }

    /// The install command. No network is there: Bun finds every package in its cache or fails.
    pub fn install(&self) -> Vec<String> {
        [
            "bun",
            "install",
            "--frozen-lockfile",
            "--ignore-scripts",
            "--backend=hardlink",
            "--linker=hoisted",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// The variables of a build that do not depend on where things are; the room adds those that do. Real variables win
    /// over a project's `.env` and `bunfig.toml`, so every switch that could turn verification off or point elsewhere
    /// is set (bun.md, sections B and F).
    pub fn environment(&self) -> BTreeMap<String, String> {
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
        env.extend(self.env.iter().map(|(key, value)| (key.clone(), value.clone())));
        env
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
            Plan::new(&lock, Platform::LinuxX64).unwrap().key()
        };
        let base = key(&|_| ());
        assert_eq!(base, key(&|l| l.outputs.clear()));
        assert_eq!(base, key(&|l| l.source.tree = Some("0".repeat(40).parse().unwrap())));
        assert_eq!(base, key(&|l| l.source.url = "https://elsewhere/x".into()));
        assert_ne!(base, key(&|l| l.source.rev = "0".repeat(40).parse().unwrap()));
        assert_ne!(base, key(&|l| l.build.path = Some("/tmp/x".parse().unwrap())));
        assert_ne!(base, key(&|l| l.build.steps.push(vec!["bun".into()])));
        assert_ne!(base, key(&|l| drop(l.build.env.insert("A".into(), "b".into()))));
        assert_ne!(base, key(&|l| l.toolchain.bun.version = "1.3.13".into()));
    }

    #[test]
    fn every_switch_that_a_project_could_use_is_shadowed() {
        let env = Plan::new(&lock(), Platform::LinuxX64).unwrap().environment();
        for name in [
            "BUN_CONFIG_NO_VERIFY",
            "BUN_CONFIG_REGISTRY",
            "NPM_CONFIG_REGISTRY",
            "npm_config_registry",
            "GITHUB_API_URL",
        ] {
            assert!(env.contains_key(name), "{name}");
        }
        assert!(!env.contains_key("NODE_ENV"), "Bun inlines it at build time");
    }

    #[test]
    fn an_unlocked_platform_is_refused() {
        let mut lock = lock();
        lock.toolchain.bun.platforms.remove(&Platform::LinuxAarch64);
        let err = Plan::new(&lock, Platform::LinuxAarch64).unwrap_err();
        assert_eq!(err.reason(), Reason::PlatformNotLocked);
    }
}
