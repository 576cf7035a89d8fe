//! `bun.lock`: every package with where it comes from and what its tarball must hash to.
//!
//! Bun itself accepts an empty, weak or malformed integrity and installs without checking (seen with 1.3.14), so the
//! file is read here, strictly: unknown keys, unknown shapes and other format versions are refused, and
//! [`BunLock::require_strong`] gives a digest for everything that is fetched, or says which row has none.

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;

use super::jsonc::{Source, props};
use super::names::{is_name, show, split_key};
use super::rows::{self, texts_by_name};
pub use super::rows::{Bin, Needs, Package, SourceKind};
use crate::error::{Error, Reason, Result};
use crate::record::ids::{Digest, RelPath, Sri};
use crate::record::lockfile::{LockedPackage, PackageKind};

/// The versions of the format that are read. 0 and 1 by Bun 1.3; 2 is what Bun 1.4 writes, 3 with scoped overrides.
const VERSIONS: std::ops::RangeInclusive<u32> = 0..=3;

/// More packages than this are refused: each is a download.
const MAX_PACKAGES: usize = 50_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BunLock {
    /// `lockfileVersion`.
    pub version: u32,
    /// `configVersion`; absent reads as 0.
    pub config_version: u32,
    /// Workspaces by path; the root is `""`.
    pub workspaces: BTreeMap<String, Workspace>,
    /// `trustedDependencies`. Bun takes trust from `package.json` only.
    pub trusted: Vec<String>,
    /// `patchedDependencies`: `name@version` to the patch's path.
    pub patched: BTreeMap<String, String>,
    pub packages: BTreeMap<String, Package>,
    place: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workspace {
    /// Its package name; a root may have none.
    pub name: Option<String>,
    pub bin: Bin,
    pub needs: Needs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required<'a> {
    pub package: &'a Package,
    pub digest: Digest,
}

impl BunLock {
    /// Reads a `bun.lock`. `place` is what errors call it.
    ///
    /// # Errors
    /// [`Reason::BadRecord`] with line and column.
    pub fn parse(bytes: &[u8], place: &str) -> Result<Self> {
        let source = Source::new(bytes, place)?;
        let value = source.parse()?;
        let top = source.object(&value, "the file")?;
        let mut version = None;
        let mut lock = Self { place: place.to_owned(), ..Self::default() };
        for (key, value, at) in props(top) {
            match key {
                "lockfileVersion" => {
                    let found = source.number(value, key)?;
                    if !VERSIONS.contains(&found) {
                        return Err(source
                            .bad(value, "a bun.lock of another format version")
                            .expected(format!("{} to {}", VERSIONS.start(), VERSIONS.end()))
                            .found(found.to_string()));
                    }
                    version = Some(found);
                }
                "configVersion" => lock.config_version = source.number(value, key)?,
                "workspaces" => lock.workspaces = workspaces(&source, value)?,
                "trustedDependencies" => lock.trusted = source.texts(value, key)?,
                "patchedDependencies" => lock.patched = texts_by_name(&source, value, key)?,
                // What they change is already in the rows.
                "overrides" | "catalog" | "catalogs" => drop(source.object(value, key)?),
                "packages" => lock.packages = packages(&source, value)?,
                _ => return Err(unknown(&source, at, key)),
            }
        }
        lock.version = version.ok_or_else(|| source.bad(&value, "no \"lockfileVersion\""))?;
        if !lock.workspaces.contains_key("") {
            return Err(source.bad(&value, "no root workspace (\"\")"));
        }
        Ok(lock)
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    /// A digest for each of `packages` that has to be fetched (those of the source and bundled ones have not).
    ///
    /// `accepted` holds integrities that our own lock records, by key; one that contradicts a strong integrity of the
    /// row is refused, one for a row without is used.
    ///
    /// # Errors
    /// [`Reason::WeakIntegrity`] naming every row without one that admit accepts, [`Reason::DigestMismatch`].
    pub fn require_strong<'a>(
        &self,
        packages: impl IntoIterator<Item = &'a Package>,
        accepted: &BTreeMap<String, Sri>,
    ) -> Result<Vec<Required<'a>>> {
        let mut out = Vec::new();
        let mut weak: Vec<&Package> = Vec::new();
        for package in packages {
            if !package.is_fetched() {
                continue;
            }
            match (&package.digest, accepted.get(&package.key)) {
                (Some(row), Some(Sri(ours)))
                    if row.algorithm() == ours.algorithm() && row != ours =>
                {
                    return Err(Error::new(
                        Reason::DigestMismatch,
                        format!("package \"{}\" has another integrity than the lock", package.key),
                    )
                    .at(package.place.as_str())
                    .expected(ours.to_sri())
                    .found(row.to_sri()));
                }
                (Some(digest), _) | (None, Some(Sri(digest))) => {
                    out.push(Required { package, digest: digest.clone() });
                }
                (None, None) => weak.push(package),
            }
        }
        match weak.first() {
            None => Ok(out),
            Some(first) => Err(weak_integrity(first, &weak)),
        }
    }

    /// The packages that neither this lock nor `accepted` binds to bytes. A commit binds its own.
    pub fn weak(&self, accepted: &BTreeMap<String, Sri>) -> Vec<&Package> {
        let of_bytes = |one: &&Package| one.is_fetched() && one.kind != SourceKind::Git;
        let fetched = self.packages.values().filter(of_bytes);
        fetched.filter(|one| one.digest.is_none() && !accepted.contains_key(&one.key)).collect()
    }

    /// Every package that is fetched, of all platforms, sorted by key: what our own lock records.
    pub fn locked_packages(&self, accepted: &BTreeMap<String, Sri>) -> Result<Vec<LockedPackage>> {
        let required = self.require_strong(self.packages.values(), accepted)?;
        let locked = required.into_iter().map(|one| LockedPackage {
            key: one.package.key.clone(),
            name: one.package.name.clone(),
            version: one.package.resolution.clone(),
            kind: match one.package.kind {
                SourceKind::Github { .. } => PackageKind::Github,
                SourceKind::Tarball => PackageKind::Tarball,
                SourceKind::Git => PackageKind::Git,
                _ => PackageKind::Npm,
            },
            integrity: Sri(one.digest),
        });
        Ok(locked.collect())
    }
}

fn weak_integrity(first: &Package, all: &[&Package]) -> Error {
    let what = match all.len() {
        1 => format!("package \"{}\" has no integrity that admit accepts", first.key),
        n => format!("{n} packages have no integrity that admit accepts, first \"{}\"", first.key),
    };
    let found = match first.integrity.as_deref() {
        None => "none".to_owned(),
        Some("") => "an empty one".to_owned(),
        Some(text) => text.chars().take(100).collect::<String>().escape_debug().to_string(),
    };
    let rest = all.iter().skip(1).take(8).map(|p| format!("also \"{}\" at {}", p.key, p.place));
    let error = Error::new(Reason::WeakIntegrity, what)
        .at(first.place.as_str())
        .expected("one sha512, sha384 or sha256 in canonical base64")
        .found(found);
    rest.fold(error, Error::hint).hint("write the lock anew with Bun 1.3.10 or later")
}

fn unknown(source: &Source<'_>, at: usize, key: &str) -> Error {
    source.fault(at, format!("unknown key \"{}\"", key.escape_debug()))
}

fn workspaces<'a>(source: &Source<'a>, value: &Value<'a>) -> Result<BTreeMap<String, Workspace>> {
    let mut out = BTreeMap::new();
    for (path, value, at) in props(source.object(value, "workspaces")?) {
        if !path.is_empty() && path.parse::<RelPath>().is_err() {
            return Err(source.fault(at, format!("\"{}\" is not a directory inside", show(path))));
        }
        let mut workspace = Workspace::default();
        let mut bin = None;
        for (key, value, at) in props(source.object(value, "a workspace")?) {
            match key {
                "name" => workspace.name = Some(package_name(source, value)?.to_owned()),
                "version" => drop(source.text(value, key)?),
                "bin" | "binDir" => bin = Some((key, value)),
                _ if rows::needs(source, key, value, &mut workspace.needs)? => {}
                _ => return Err(unknown(source, at, key)),
            }
        }
        if let Some((key, value)) = bin {
            let name = workspace.name.as_deref().unwrap_or_default();
            workspace.bin = rows::bin(source, key, value, name)?;
        }
        out.insert(path.to_owned(), workspace);
    }
    Ok(out)
}

fn package_name<'v, 'a>(source: &Source<'a>, value: &'v Value<'a>) -> Result<&'v str> {
    let name = source.text(value, "a name")?;
    match is_name(name) {
        true => Ok(name),
        false => Err(source.bad(value, format!("\"{}\" is not a package name", show(name)))),
    }
}

fn packages<'a>(source: &Source<'a>, value: &Value<'a>) -> Result<BTreeMap<String, Package>> {
    let rows = source.object(value, "packages")?;
    if rows.properties.len() > MAX_PACKAGES {
        return Err(source.bad(value, format!("more than {MAX_PACKAGES} packages")));
    }
    let mut out = BTreeMap::new();
    for (key, value, at) in props(rows) {
        if split_key(key).is_none() {
            return Err(source.fault(at, format!("\"{}\" is not an install path", show(key))));
        }
        out.insert(key.to_owned(), rows::package(source, key, value, at)?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHA512: &str = "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==";

    fn lock(packages: &str) -> String {
        format!(
            "{{\n  \"lockfileVersion\": 1,\n  \"workspaces\": {{ \"\": {{ \"name\": \"x\", \
             \"dependencies\": {{ \"a\": \"^1.0.0\" }}, }}, }},\n  \"packages\": {{\n{packages}\n  }}\n}}\n"
        )
    }

    fn parse(packages: &str) -> Result<BunLock> {
        BunLock::parse(lock(packages).as_bytes(), "bun.lock")
    }

    fn fault(text: &str) -> String {
        let err = BunLock::parse(text.as_bytes(), "bun.lock").unwrap_err();
        assert_eq!(err.reason(), Reason::BadRecord);
        err.to_string()
    }

    #[test]
    fn every_kind_of_row_is_read() {
        let text = format!(
            r#"
    // A comment, and trailing commas.
    "a": ["@s/real@1.2.3", "", {{ "bin": "cli.js", "os": ["!win32"], "cpu": "x64", }}, "{SHA512}"],
    "b": ["b@2.0.0-rc.1", "https://npm.example/b.tgz", {{ "bin": {{ "b": "x.js" }} }}, "sha1-AA=="],
    "c": ["c@github:o/r#abc1234", {{ "dependencies": {{ "a": "1" }} }}, "o-r-abc1234", "{SHA512}"],
    "d": ["d@git+https://h.example/x.git#aa", {{}}, "aa"],
    "e": ["e@https://h.example/x.tgz", {{}}],
    "e/@s/f": ["@s/f@./f.tgz", {{}}, ""],
    "g": ["g@file:dir", {{}}],
    "h": ["h@link:./h", {{}}],
    "i": ["i@workspace:packages/i"],
    "j": ["j@root:", {{ "bin": "x" }}],"#
        );
        let lock = parse(&text).unwrap();
        let kinds: Vec<_> = lock.packages.values().map(|p| p.kind.as_str()).collect();
        assert_eq!(kinds.join(" "), "npm npm github git tarball tarball file link workspace root");
        let a = &lock.packages["a"];
        assert_eq!((a.name.as_str(), a.resolution.as_str()), ("@s/real", "1.2.3"));
        assert_eq!(a.place, "bun.lock:7:5");
        assert_eq!(a.bin, Bin::Files([("a".to_owned(), "cli.js".to_owned())].into()));
        assert_eq!(a.os, ["!win32"]);
        assert_eq!(a.cpu, ["x64"]);
        assert_eq!(a.digest.as_ref().map(Digest::to_sri).as_deref(), Some(SHA512));
        assert_eq!(lock.packages["b"].registry_url.as_deref(), Some("https://npm.example/b.tgz"));
        assert_eq!(lock.packages["b"].digest, None);
        assert_eq!(lock.packages["c"].bun_tag.as_deref(), Some("o-r-abc1234"));
        assert_eq!(lock.packages["e/@s/f"].integrity.as_deref(), Some(""));
        assert_eq!(lock.packages["e"].integrity, None);
    }

    #[test]
    fn weak_integrity_is_refused_by_row_unless_our_lock_has_one() {
        for weak in [
            "",
            "md5-1B2M2Y8AsgTpgAmY7PhCfg==",
            "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
            "sha512-AAAA",
            "x",
        ] {
            let lock = parse(&format!(r#""a": ["a@1.0.0", "", {{}}, "{weak}"]"#)).unwrap();
            let err = lock.require_strong(lock.packages.values(), &BTreeMap::new()).unwrap_err();
            assert_eq!(err.reason(), Reason::WeakIntegrity, "{weak}");
            assert!(err.what().contains("\"a\""));
            assert_eq!(err.place(), Some("bun.lock:5:1"));
            let ours = BTreeMap::from([("a".to_owned(), SHA512.parse().unwrap())]);
            let locked = lock.locked_packages(&ours).unwrap();
            assert_eq!(locked[0].integrity.to_string(), SHA512);
        }
        let lock = parse(&format!(r#""a": ["a@1.0.0", "", {{}}, "{SHA512}"]"#)).unwrap();
        let other =
            Sri(Digest::from_bytes(crate::record::ids::Algorithm::Sha512, &[1; 64]).unwrap());
        let ours = BTreeMap::from([("a".to_owned(), other)]);
        let err = lock.require_strong(lock.packages.values(), &ours).unwrap_err();
        assert_eq!(err.reason(), Reason::DigestMismatch);
    }

    #[test]
    fn what_lies_in_the_source_is_not_fetched_and_a_commit_is_with_a_recorded_digest() {
        for row in [r#"["a@file:dir", {}]"#, r#"["a@link:./h", {}]"#] {
            let lock = parse(&format!(r#""a": {row}"#)).unwrap();
            let required = lock.require_strong(lock.packages.values(), &BTreeMap::new());
            assert!(required.unwrap().is_empty());
        }
        let lock = parse(r#""a": ["a@git+https://h.example/x.git#aa", {}, "aa"]"#).unwrap();
        let err = lock.require_strong(lock.packages.values(), &BTreeMap::new()).unwrap_err();
        assert_eq!(err.reason(), Reason::WeakIntegrity);
        let ours = BTreeMap::from([("a".to_owned(), Sri(Digest::sha256(b"x")))]);
        assert_eq!(lock.locked_packages(&ours).unwrap()[0].kind, PackageKind::Git);
    }

    #[test]
    fn loose_or_hostile_files_are_refused_with_their_place() {
        let newer = fault("{\"lockfileVersion\": 4}");
        assert!(newer.starts_with("a bun.lock of another format version: bun.lock:1:21"));
        assert_eq!(fault("{\"workspaces\": {\"\": {}}}"), "no \"lockfileVersion\": bun.lock:1:1");
        assert_eq!(fault("{\"lockfileVersion\": 1}"), "no root workspace (\"\"): bun.lock:1:1");
        let twice = lock(r#""a": ["a@1.0.0", "", {}, ""], "a": []"#);
        assert_eq!(fault(&twice), "duplicate key \"a\": bun.lock:5:31");
        for text in
            ["", "[]", "{", "{'lockfileVersion': 1}", "{lockfileVersion: 1}", "\u{feff}{}", "{} x"]
        {
            fault(text);
        }
        let err = BunLock::parse(b"{\n\"\xff", "bun.lock").unwrap_err();
        assert!(err.to_string().ends_with("bun.lock:2:2"));
        for row in [
            r#""a": ["a@1.0.0", "", {}]"#,
            r#""a": ["a@1.0.0", "", {}, "", ""]"#,
            r#""a": ["a@1.0.0", "", {"new": 1}, ""]"#,
            r#""a": ["a@1.0", "", {}, ""]"#,
            r#""a": ["a@../../x@1.0.0", "", {}, ""]"#,
            r#""a": ["..@1.0.0", "", {}, ""]"#,
            r#""a": ["@1.0.0", "", {}, ""]"#,
            r#""a": ["a@1.0.0/../..", "", {}, ""]"#,
            r#""a": ["a@github:o/r#../x", {}, "t"]"#,
            r#""a": ["a@github:o/r#x", {}, "../t"]"#,
            r#""a": ["a@1.0.0", "", {"dependencies": {"../x": "1"}}, ""]"#,
            r#""../a": ["a@1.0.0", "", {}, ""]"#,
            r#""a/../b": ["a@1.0.0", "", {}, ""]"#,
            r#""@s": ["a@1.0.0", "", {}, ""]"#,
            r#""a": {}"#,
            r#""a": []"#,
            r#""a": [1]"#,
            r#""a": ["a@1.0.0", "ftp://h.example/x.tgz", {}, ""]"#,
            r#""w": ["w@workspace:../out"]"#,
        ] {
            fault(&lock(row));
        }
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        fault(&lock(&format!("\"a\": {deep}")));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}:,\"a@1./ #-]{0,80}", at in 0usize..400, byte: u8) {
            let _ = BunLock::parse(text.as_bytes(), "t");
            let _ = parse(&text);
            let mut whole = lock(&format!(r#""a": ["a@1.0.0", "", {{"bin": {{"a": "b"}}}}, "{SHA512}"]"#)).into_bytes();
            let at = at % whole.len();
            whole[at] = byte;
            if let Ok(lock) = BunLock::parse(&whole, "t") {
                let _ = lock.for_platform("linux", "x64", None);
                let _ = lock.require_strong(lock.packages.values(), &BTreeMap::new());
            }
        }
    }
}
