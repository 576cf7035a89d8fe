//! Names in Bun's package cache.
//!
//! A Bun whose cache already holds a package asks for nothing and checks nothing, so admit seeds the cache with
//! packages that it verified. The names were read off caches that Bun 1.3.13, 1.3.14 and 1.4.4 made with their default
//! registry; `tests/it/bun.rs` compares them with a real Bun.

use super::lockfile::{Package, SourceKind};
use super::names::{is_directory_name, version_parts};
use super::wyhash::wyhash;
use crate::error::{Error, Reason, Result};
use crate::record::ids::RelPath;

/// Name of the file that says which commit a directory of the cache holds.
pub const TAG_FILE: &str = ".bun-tag";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// The directory below the cache's root: `name@1.2.3@@@1`, `@scope/name@1.2.3@@@1`, `@GH@owner-repo-ref@@@1`.
    pub dir: RelPath,
    /// The whole content of the file [`TAG_FILE`] in that directory, where it needs one.
    pub tag: Option<String>,
}

/// The place of `package` in a cache that belongs to the default registry.
///
/// # Errors
/// [`Reason::PackageKind`] for a kind that admit does not fetch, [`Reason::BadRecord`] for a row that no name can be
/// made of.
pub fn entry(package: &Package) -> Result<CacheEntry> {
    let (dir, tag) = match &package.kind {
        SourceKind::Npm => (format!("{}@{}@@@1", package.name, version(&package.resolution)), None),
        SourceKind::Github { .. } => {
            let tag = package.bun_tag.as_deref().filter(|tag| is_directory_name(tag));
            let tag = tag.ok_or_else(|| bad(package, "has no tag"))?;
            (format!("@GH@{tag}@@@1"), Some(tag.to_owned()))
        }
        SourceKind::Git => {
            let (_, commit) =
                package.commit().ok_or_else(|| bad(package, "is not pinned by a commit"))?;
            (format!("@G@{commit}"), Some(commit.to_string()))
        }
        // Bun 1.3; 1.4 names them by their integrity, and is refused before.
        SourceKind::Tarball => {
            (format!("@T@{:016x}@@@1", wyhash(package.resolution.as_bytes())), None)
        }
        kind => {
            return Err(Error::new(
                Reason::PackageKind,
                format!("package \"{}\" has no place in the cache", package.key),
            )
            .at(package.place.as_str())
            .expected("a package that is fetched")
            .found(kind.as_str()));
        }
    };
    let dir = dir.parse().map_err(|_| bad(package, "has a name that is no directory's"))?;
    Ok(CacheEntry { dir, tag })
}

fn bad(package: &Package, what: &str) -> Error {
    Error::new(Reason::BadRecord, format!("package \"{}\" {what}", package.key))
        .at(package.place.as_str())
}

/// A version as the cache writes it: a prerelease as 16 lower-case hex digits of its hash, a build tag as upper-case
/// ones (`1.0.0-rc.1+b` is `1.0.0-<hash of rc.1>+<HASH OF b>`).
fn version(version: &str) -> String {
    let (core, pre, build) = version_parts(version);
    let mut out = core.to_owned();
    if let Some(pre) = pre {
        out.push_str(&format!("-{:016x}", wyhash(pre.as_bytes())));
    }
    if let Some(build) = build {
        out.push_str(&format!("+{:016X}", wyhash(build.as_bytes())));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::lab;
    use super::*;

    fn of(row: &str) -> Result<CacheEntry> {
        entry(&lab::lock("{}", &format!("\"a\": {row}")).packages["a"])
    }

    #[test]
    fn names_are_those_that_bun_uses() {
        for (id, dir) in [
            ("n@1.2.3", "n@1.2.3@@@1"),
            ("@s/n@1.2.3", "@s/n@1.2.3@@@1"),
            ("ms@3.0.0-canary.1", "ms@3.0.0-684001923c4f8651@@@1"),
            ("pre@1.0.0+build.7", "pre@1.0.0+BAA767C3E245FB17@@@1"),
            ("pre@2.0.0-beta.3+build.5", "pre@2.0.0-7b1dbbf11ca1d290+9DA996C7494E08F5@@@1"),
        ] {
            let entry = of(&format!(r#"["{id}", "", {{}}, ""]"#)).unwrap();
            assert_eq!((entry.dir.as_str(), entry.tag), (dir, None));
        }
        let entry = of(r#"["a@github:o/r#f8a7c69", {}, "o-r-f8a7c69", ""]"#).unwrap();
        assert_eq!(entry.dir.as_str(), "@GH@o-r-f8a7c69@@@1");
        assert_eq!(entry.tag.as_deref(), Some("o-r-f8a7c69"));
    }

    #[test]
    fn other_kinds_have_no_place() {
        for row in [r#"["a@file:x", {}]"#, r#"["a@workspace:x"]"#] {
            assert_eq!(of(row).unwrap_err().reason(), Reason::PackageKind, "{row}");
        }
    }
}
