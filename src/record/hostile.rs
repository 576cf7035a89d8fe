//! What a lock may not say: every field that the sandbox would not be safe with, or that cannot be right.

use std::fmt;

use super::lockfile::{Build, BunToolchain, Lockfile, ProviderKind, Published, PublishedForm};

/// A field of a lock that the sandbox would not be safe with, or that cannot be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockFault {
    /// Path of the field, for example `build.path`.
    pub field: String,
    pub what: String,
}

impl fmt::Display for LockFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}

/// Directories that the sandbox makes itself or that a system owns: a build path may not lie in or above them.
/// `/tmp` is not among them: inside the sandbox it is private and empty.
const SYSTEM_DIRS: [&str; 18] = [
    "/admit", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/mnt", "/opt",
    "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var",
];

/// Variables that decide what Bun verifies, where it looks and what it runs: admit sets them, a lock may not.
const RESERVED_ENV: [&str; 9] =
    ["BUN_", "NPM_", "npm_", "GITHUB_API_", "LD_", "NODE_OPTIONS", "HOME", "PATH", "TMPDIR"];

/// What is wrong with a source's address. A lock is published, so it may hold nothing that lets anybody in; the address
/// itself is not repeated, since it may hold just that.
fn url_faults(text: &str) -> Vec<&'static str> {
    let mut faults = Vec::new();
    if let Some(name) = text.strip_prefix("embedded:") {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            faults.push("names no source inside admit");
        }
        return faults;
    }
    let known = ["https://", "http://", "file:///"];
    // Readers of addresses differ over these: backslashes for slashes, further slashes, what is left out.
    let odd = |c: char| c == '\\' || c.is_whitespace() || c.is_control();
    let rest = known.iter().find_map(|scheme| text.strip_prefix(scheme));
    let parsed = url::Url::parse(text);
    let (Some(rest), Ok(url)) = (rest, parsed) else {
        faults.push("not an address: expected https://…, http://…, file:///… or embedded:NAME");
        return faults;
    };
    if rest.starts_with('/') || text.contains(odd) {
        faults.push("an address that readers may understand differently");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let local = text.starts_with("file:///");
    if !url.username().is_empty() || url.password().is_some() || (!local && authority.contains('@'))
    {
        faults.push("holds a user name or password: leave it out, and name a clone of a private source with --mirror");
    }
    if url.query().is_some() || url.fragment().is_some() {
        faults.push("has a query or fragment, where tokens stand: leave it out");
    }
    faults
}

impl Lockfile {
    pub fn check(&self) -> Vec<LockFault> {
        let mut faults = Vec::new();
        let mut fault =
            |field: &str, what: String| faults.push(LockFault { field: field.into(), what });
        match (&self.package, self.kind) {
            (None, ProviderKind::Bun) => {
                for what in url_faults(&self.source.url) {
                    fault("source.url", what.into());
                }
            }
            (Some(package), ProviderKind::Package) => self.check_package(package, &mut fault),
            (Some(_), ProviderKind::Bun) => {
                fault("package", "stands in a lock of a source that is built".into());
            }
            (None, ProviderKind::Package) => fault("package", "absent".into()),
        }
        let native = self.package.as_ref().is_some_and(|p| p.form == PublishedForm::Native);
        let version = &self.toolchain.bun.version;
        if native {
            if self.toolchain.bun != BunToolchain::default() {
                fault("toolchain.bun", "names a Bun, and there is none in a native program".into());
            }
        } else {
            if version.is_empty()
                || !version.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b))
            {
                fault("toolchain.bun.version", format!("\"{version}\" is not a version"));
            }
            if self.toolchain.bun.platforms.is_empty() {
                fault("toolchain.bun.platforms", "lists no platform".into());
            }
        }
        self.check_build(&mut fault);
        for (field, what) in self.run.faults() {
            fault(&field, what);
        }
        for stage in &self.license.allows {
            if !(2..=7).contains(stage) {
                fault("license.allows", format!("{stage} is not a stage: expected 2 to 7"));
            }
        }
        let identity = &self.identity;
        if [&identity.help_first_line, &identity.version]
            .into_iter()
            .flatten()
            .any(String::is_empty)
        {
            fault("identity", "an empty text would match anything".into());
        }
        if identity.help_first_line.is_none() && !self.outputs.is_empty() {
            fault(
                "identity.help_first_line",
                "absent beside a locked output, which nothing would tell".into(),
            );
        }
        faults
    }

    fn check_package(&self, package: &Published, fault: &mut dyn FnMut(&str, String)) {
        let word = |text: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~+@/".contains(&b);
            !text.is_empty()
                && text.bytes().all(plain)
                && !text.split('/').any(|part| part.starts_with('.'))
        };
        if package.platforms.is_empty() {
            fault("package.platforms", "lists no platform".into());
        }
        for (platform, file) in &package.platforms {
            if !word(&file.package) || !word(&file.version) || file.version.contains('/') {
                fault(
                    &format!("package.platforms.{platform}"),
                    "names no package and version".into(),
                );
            }
        }
        let named = package
            .platforms
            .values()
            .any(|file| file.url() == self.source.url && file.pin() == self.source.rev.as_str());
        if !named {
            fault("source", "is not one of the packages and the beginning of its digest".into());
        }
        let said = self.build != Build::of(self.build.output.clone());
        if said || !self.dependencies.integrity.is_empty() {
            fault("build", "a published package is not built, and no script of it runs".into());
        }
    }

    fn check_build(&self, fault: &mut dyn FnMut(&str, String)) {
        let build = &self.build;
        if let Some(path) = &build.path {
            for dir in SYSTEM_DIRS {
                if path.overlaps(dir) {
                    fault(
                        "build.path",
                        format!("\"{path}\" overlaps {dir}, which the sandbox needs for itself"),
                    );
                }
            }
            // The package cache lies beside the source in one file system, so that hard links are possible.
            if path.relative().split('/').count() < 2 {
                fault(
                    "build.path",
                    format!(
                        "\"{path}\" is a top-level directory: name one below, such as /tmp/NAME"
                    ),
                );
            }
            if path.relative().split('/').any(|part| part == ".admit") {
                fault("build.path", "holds \".admit\", which the sandbox needs for itself".into());
            }
            if path.as_str().len() > 200 {
                fault("build.path", "longer than 200 bytes".into());
            }
        }
        if build.steps.is_empty() && self.kind.is_built() {
            fault("build.steps", "lists no command".into());
        }
        for (i, step) in build.steps.iter().enumerate() {
            let field = format!("build.steps[{i}]");
            let (first, holds) = (step.first().map(String::as_str), self.kind.step_programs());
            if !first.is_some_and(|first| holds.contains(&first)) {
                let holds = holds.join(" and ");
                fault(&field, format!("starts with {first:?}: the sandbox holds {holds} only"));
            }
            // A foreign target makes Bun embed a runtime that nobody verified (bun.md, section D).
            if bun_words(step).iter().any(|arg| {
                arg.starts_with("--target") || arg.starts_with("--compile-executable-path")
            }) {
                fault(
                    &field,
                    "chooses another runtime (--target or --compile-executable-path)".into(),
                );
            }
            if step.iter().any(|arg| arg.contains('\0')) {
                fault(&field, "holds a NUL byte".into());
            }
        }
        for (key, value) in &build.env {
            let shape =
                !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !shape || value.contains('\0') {
                fault("build.env", format!("\"{}\" is not a variable", key.escape_debug()));
            }
            if RESERVED_ENV.iter().any(|reserved| key.starts_with(reserved)) {
                fault("build.env", format!("{key} is set by admit and cannot be locked"));
            }
        }
        for one in &build.downloads {
            let web = ["https://", "http://", "file:///"]
                .iter()
                .any(|scheme| one.url.starts_with(scheme));
            let open = url::Url::parse(&one.url)
                .is_ok_and(|url| url.username().is_empty() && url.password().is_none());
            if !web || !open {
                fault(
                    "build.downloads",
                    "an address is none, or holds a user name or password".into(),
                );
            }
            let inside = |path: &super::ids::RelPath| {
                path.parts().any(|part| part == ".git" || part == "node_modules")
            };
            if one.path.as_ref().is_some_and(inside) {
                fault(
                    "build.downloads",
                    "a path lies in a directory that is not the build's".into(),
                );
            }
        }
        for name in build.scripts.iter().filter(|name| build.skips.contains(name)) {
            fault("build.skips", format!("\"{}\" is in build.scripts too", name.escape_debug()));
        }
        for name in build.scripts.iter().chain(&build.skips).filter(|name| name.trim().is_empty()) {
            fault("build.scripts", format!("\"{name}\" names no package"));
        }
        if build.output.parts().any(|part| part == ".git" || part == "node_modules") {
            fault(
                "build.output",
                format!("\"{}\" lies in a directory that is not the build's", build.output),
            );
        }
    }
}

/// The words of a step that Bun itself reads: what follows a script's file is that script's own. A script by name gets them
/// appended to its command, which may be `bun build`.
fn bun_words(step: &[String]) -> &[String] {
    let script = |word: &String| {
        [".ts", ".tsx", ".js", ".mjs", ".cjs", ".sh"].iter().any(|end| word.ends_with(end))
    };
    match step.iter().position(script) {
        Some(at) if !step[..at].iter().any(|word| word == "build") => &step[..at],
        _ => step,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lockfile::tests::sample;
    use super::*;

    #[test]
    fn system_directories_parse() {
        use crate::record::ids::AbsPath;
        for dir in SYSTEM_DIRS {
            assert!(dir.parse::<AbsPath>().is_ok());
        }
    }

    #[test]
    fn hostile_fields_are_named() {
        let faults = |change: &dyn Fn(&mut Lockfile)| {
            let mut lock = sample();
            change(&mut lock);
            lock.check().into_iter().map(|f| f.field).collect::<Vec<_>>().join(" ")
        };
        for path in [
            "/usr/x",
            "/etc",
            "/proc/self",
            "/home/u/x",
            "/tmp",
            "/build",
            "/tmp/.admit/x",
            "/admit/x",
            "/dev/shm",
        ] {
            let found = faults(&|l| l.build.path = Some(path.parse().unwrap()));
            assert!(found.starts_with("build.path"), "{path}");
        }
        assert_eq!(faults(&|l| l.build.steps.clear()), "build.steps");
        assert_eq!(faults(&|l| l.build.steps[0][0] = "/usr/bin/python3".into()), "build.steps[0]");
        assert_eq!(
            faults(&|l| l.build.steps[0].push("--target=bun-linux-arm64".into())),
            "build.steps[0]"
        );
        let step = |text: &str| {
            let words = text.split(' ').map(str::to_owned).collect::<Vec<_>>();
            faults(&|l| l.build.steps[0].clone_from(&words))
        };
        // A script's own words are no flags of Bun; those of a command by name are appended to it.
        for (text, fault) in [
            ("bun run build/index.ts --target linux-x64", ""),
            ("bun build.ts --target=linux", ""),
            ("sh build.sh --target=linux", ""),
            ("bun build main.ts --compile --target=bun-linux-arm64", "build.steps[0]"),
            ("bun --silent build main.ts --target bun-linux-x64", "build.steps[0]"),
            ("bun run build --target=bun-linux-arm64", "build.steps[0]"),
        ] {
            assert_eq!(step(text), fault, "{text}");
        }
        for key in ["BUN_CONFIG_NO_VERIFY", "LD_PRELOAD", "HOME", "npm_config_registry"] {
            assert_eq!(
                faults(&|l| drop(l.build.env.insert(key.into(), "x".into()))),
                "build.env",
                "{key}"
            );
        }
        for output in ["node_modules/x", ".git/config"] {
            let found = faults(&|l| l.build.output = output.parse().unwrap());
            assert_eq!(found, "build.output", "{output}");
        }
        assert_eq!(faults(&|l| l.source.url = "ssh://host/x".into()), "source.url");
        assert_eq!(faults(&|l| l.source.url = "https://u:p@host/x".into()), "source.url");
        for url in [
            "https://user@host/x",
            "https://:p@host/x",
            "https://@host/x",
            "https:///u:p@host/x",
            "https://host\\@other/x",
            "https://host/x?access_token=t",
            "https://host/x.git#t",
            "https://ho\tst/x",
            "git+https://u:p@host/x",
            "file:////x",
            "embedded:../x",
            "https://",
        ] {
            let found = faults(&|l| l.source.url = url.into());
            assert!(found.starts_with("source.url"), "{url}");
            let mut lock = sample();
            lock.source.url = url.into();
            let said = lock.check().iter().map(ToString::to_string).collect::<String>();
            assert!(!said.contains("p@") && !said.contains("=t"), "{said}");
        }
        for url in ["https://host:8443/a/b.git", "http://host/x", "file:///srv/a@b", "embedded:a"] {
            assert_eq!(faults(&|l| l.source.url = url.into()), "", "{url}");
        }
        assert_eq!(faults(&|l| l.license.allows = vec![8]), "license.allows");
        assert_eq!(faults(&|l| l.identity.version = Some(String::new())), "identity");
    }
}
