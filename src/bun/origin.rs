//! Packages that come from no registry: directories of the source itself (`file:`, `link:`) and commits of repositories;
//! and the patches, which lie in the source too.

use super::lockfile::{BunLock, Package, SourceKind};
use super::names::show;
use crate::error::{Error, Reason, Result};
use crate::record::ids::CommitId;

impl Package {
    /// The directory that a `file:` or `link:` package is, from the source's root; `None` where it lies outside of the
    /// source. `project` is the directory of the lock, `""` or ending in `/`.
    pub fn directory(&self, project: &str) -> Option<String> {
        let path =
            self.resolution.strip_prefix("file:").or(self.resolution.strip_prefix("link:"))?;
        join(project, path)
    }

    /// The repository's address and the commit of a git package; `None` where it is no address that admit can fetch or
    /// not one whole commit.
    pub fn commit(&self) -> Option<(String, CommitId)> {
        let (address, commit) = self.resolution.rsplit_once('#')?;
        let commit = commit.parse().ok()?;
        Some((repository(address.strip_prefix("git+").unwrap_or(address))?, commit))
    }
}

/// The address by which admit fetches the repository that `address` names, `None` where there is none or it holds a
/// password. Over ssh a repository is the same as over https, which needs no key.
pub fn repository(address: &str) -> Option<String> {
    let ssh = address.strip_prefix("ssh://").map(|rest| rest.strip_prefix("git@").unwrap_or(rest));
    // `git@host:owner/name`, also behind `ssh://`, where what follows the colon is no port.
    let short = ssh.or(address.strip_prefix("git@")).map(|rest| match rest.split_once(':') {
        Some((host, path)) if !path.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("https://{host}/{}", path.trim_start_matches('/'))
        }
        _ => format!("https://{rest}"),
    });
    let plain = address.strip_prefix("git://").map(|rest| format!("https://{rest}"));
    let web = ["https://", "http://"].iter().any(|scheme| address.starts_with(scheme));
    let url = short.or(plain).or(web.then(|| address.to_owned()))?;
    let parsed = url::Url::parse(&url).ok()?;
    let bare = parsed.username().is_empty() && parsed.password().is_none();
    (bare && parsed.host().is_some()).then_some(url)
}

impl BunLock {
    /// Whether every package that comes from no registry can be had, and every patch is there. `project` is the
    /// directory of the lock, `""` or ending in `/`; `has` says whether the source has a file, from its root.
    ///
    /// # Errors
    /// [`Reason::PackageKind`] naming the row.
    pub fn check_origins(&self, project: &str, has: &dyn Fn(&str) -> bool) -> Result<()> {
        for package in self.packages.values() {
            let refuse = |what: String, expected: &str, fix: &str| {
                Err(Error::new(Reason::PackageKind, what)
                    .at(package.place.as_str())
                    .expected(expected)
                    .found(show(&package.resolution))
                    .hint(fix))
            };
            let key = show(&package.key);
            match package.kind {
                SourceKind::File | SourceKind::Link => {
                    let fix = "move it into the repository, or depend on a published version of it";
                    let Some(dir) = package.directory(project) else {
                        let what = format!("package \"{key}\" lies outside of the source");
                        return refuse(what, "a directory of the source", fix);
                    };
                    if !has(&format!("{dir}/package.json")) {
                        let what = format!(
                            "package \"{key}\" is no directory of the source with a package.json"
                        );
                        return refuse(what, &format!("{dir}/package.json"), fix);
                    }
                }
                SourceKind::Git if package.commit().is_none() => {
                    let what = format!(
                        "package \"{key}\" is not pinned by the commit of a repository that admit can fetch"
                    );
                    let fix = "in a clone: add it by git+https:// with its repository and commit (bun add), and commit bun.lock";
                    return refuse(what, "git+https://host/path#commit, 40 hex digits", fix);
                }
                _ => {}
            }
        }
        for (name, path) in &self.patched {
            let there = join(project, path).is_some_and(|path| has(&path));
            if !there {
                return Err(Error::new(Reason::PackageKind, format!("the source has no patch of {}", show(name)))
                    .at(self.place())
                    .expected(show(path))
                    .found("no such file")
                    .hint("commit the patch, or take it out in a clone: patchedDependencies in package.json, then bun install"));
            }
        }
        Ok(())
    }
}

/// `path` below `base`, made plain; `None` where it leads out or says nothing.
pub fn join(base: &str, path: &str) -> Option<String> {
    (!path.starts_with('/')).then(|| plain(&format!("{base}/{path}")))?
}

/// `./bin/../x.js` as `x.js`; `None` where it leads out or says nothing.
pub(super) fn plain(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(row: &str) -> BunLock {
        let text = format!(
            r#"{{"lockfileVersion": 1, "workspaces": {{"": {{}}}}, "patchedDependencies": {{"a@1.0.0": "patches/a.patch"}},
            "packages": {{"a": {row}}}}}"#
        );
        BunLock::parse(text.as_bytes(), "bun.lock").unwrap()
    }

    #[test]
    fn a_directory_is_one_of_the_source_and_a_commit_is_whole() {
        let patch = |path: &str| path.ends_with("a.patch");
        let refused = |row: &str, has: &dyn Fn(&str) -> bool| {
            let err = lock(row).check_origins("app/", has).unwrap_err();
            assert_eq!(err.reason(), Reason::PackageKind, "{row}");
            err.to_string()
        };
        let all = |_: &str| true;
        let sha = "0123456789012345678901234567890123456789";
        for (row, url) in [
            ("git+https://h.example/a/b.git", "https://h.example/a/b.git"),
            ("git+ssh://git@h.example/a/b.git", "https://h.example/a/b.git"),
            ("git+ssh://git@h.example:a/b.git", "https://h.example/a/b.git"),
            ("git@h.example:a/b", "https://h.example/a/b"),
            ("git://h.example/a/b", "https://h.example/a/b"),
        ] {
            let lock = lock(&format!(r#"["a@{row}#{sha}", {{}}, "{sha}"]"#));
            lock.check_origins("", &all).unwrap();
            assert_eq!(
                lock.packages["a"].commit(),
                Some((url.to_owned(), sha.parse().unwrap())),
                "{row}"
            );
        }
        for row in [
            format!(r#"["a@git+https://u:p@h.example/a#{sha}", {{}}, "{sha}"]"#),
            r#"["a@git+https://h.example/a#main", {}, "main"]"#.to_owned(),
            format!(r#"["a@git+file:///a#{sha}", {{}}, "{sha}"]"#),
            format!(r#"["a@gitlab:a/b#{sha}", {{}}, "{sha}"]"#),
        ] {
            refused(&row, &all);
        }
        lock(r#"["a@file:../lib", {}]"#).check_origins("app/", &all).unwrap();
        assert!(refused(r#"["a@file:../../lib", {}]"#, &all).contains("outside of the source"));
        assert!(refused(r#"["a@file:/lib", {}]"#, &all).contains("outside of the source"));
        assert!(refused(r#"["a@link:name", {}]"#, &patch).contains("no directory of the source"));
        assert!(refused(r#"["a@1.0.0", "", {}, ""]"#, &|_| false).contains("no patch of a@1.0.0"));
    }
}
