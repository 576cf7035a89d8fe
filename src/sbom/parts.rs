//! What a bill of materials is made of, read out of the store: the report of a build, the source's own lock, every
//! package's tarball and the output, each verified while it is read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;

use crate::build;
use crate::bun::exe::Executable;
use crate::bun::lockfile::Package;
use crate::bun::names::split_key;
use crate::error::{Error, Reason, Result};
use crate::fetch::inputs;
use crate::fetch::published::unpack;
use crate::lock::Locked;
use crate::record;
use crate::record::ids::{Digest, RelPath};
use crate::record::lockfile::{BunPackage, Lockfile};
use crate::record::report::{BuildReport, Origin};
use crate::store::Store;
use crate::store::sink::Sink;

/// Most bytes of a `package.json` that are read; the largest seen has 30 kB.
const MANIFEST_BYTES: u64 = 4 << 20;

#[derive(Debug)]
pub struct Parts {
    pub report: BuildReport,
    pub lock: Lockfile,
    /// The pinned Bun of the platform, where there is one in the output.
    pub bun: Option<BunPackage>,
    pub packages: Vec<Part>,
    /// Who needs whom, by install path; the source itself is `""`.
    pub edges: BTreeSet<(String, String)>,
}

#[derive(Debug)]
pub struct Part {
    pub package: Package,
    /// Its tarball's digest; absent for a package inside another one's tarball.
    pub digest: Option<Digest>,
    /// The licence that its `package.json` states, as written.
    pub license: Option<String>,
    /// Files of its tarball that are modules of the output, byte for byte. A proof that it is in the output.
    pub embedded: usize,
    /// Files that Bun's own comments in the output name as its. No proof: any source may hold such a line, and minified
    /// output has none.
    pub comments: usize,
}

/// Reads the parts of the build that `report` describes.
///
/// # Errors
/// [`Reason::DigestMismatch`] where the report is not of this lock's build, its output is not the locked one or the
/// packages are others,
/// [`Reason::NotFound`] where something is not in the store, those of the store and of the formats.
pub fn read(store: &Store, locked: &Locked, report: BuildReport) -> Result<Parts> {
    let plan = &locked.plan;
    build::asked(locked, &report).map_err(|differs| {
        let what = "the report is not of what the lock asks for";
        Error::new(Reason::DigestMismatch, what)
            .at(format!("{}: {}", locked.place, differs.field))
            .expected(differs.expected)
            .found(differs.found)
            .hint(format!("build it: admit build {}", plan.provider))
    })?;
    let missing = |what: &str| {
        Error::new(Reason::NotFound, format!("{what} is not in the store"))
            .at(plan.provider.to_string())
            .hint(format!("admit build {} --rebuild", plan.provider))
    };
    if report.first_origin() == Origin::Published {
        // What went into it, only its publisher knows.
        let (lock, bun) = (locked.lock.clone(), plan.bun.clone());
        return Ok(Parts { report, lock, bun, packages: Vec::new(), edges: BTreeSet::new() });
    }
    let nar = report.nar_hash.as_ref().ok_or_else(|| missing("the source of an adopted binary"))?;
    let tree = store.tree(&nar.0)?.ok_or_else(|| missing("the source"))?;
    let bun_lock = inputs::stored_lock(&tree, &plan.lockfile)?;
    let found = record::digest(&bun_lock.locked_packages(&locked.accepted())?);
    if report.packages_digest.as_ref() != Some(&found) {
        let expected = report.packages_digest.as_ref().map(ToString::to_string);
        return Err(Error::new(Reason::DigestMismatch, "another package list than the report's")
            .at(plan.lockfile.to_string())
            .expected(expected.unwrap_or_default())
            .found(found.to_string()));
    }
    let output = store
        .file_checked(report.sha256.digest(), report.blake3.digest())?
        .ok_or_else(|| missing("the output"))?;
    let bytes = output.read_all(report.size)?;
    let modules = Modules::of(&Executable::read(&bytes)?);
    let selection = inputs::selection(&bun_lock, plan)?;
    let digests: BTreeMap<String, Digest> = inputs::selected(&bun_lock, plan, &locked.accepted())?
        .into_iter()
        .map(|(package, digest)| (package.key, digest))
        .collect();
    let mut packages = Vec::new();
    let own = |package: &&Package| package.bundled || digests.contains_key(&package.key);
    for package in selection.packages.values().copied().filter(own) {
        let digest = digests.get(&package.key).cloned();
        let mut part =
            Part { package: package.clone(), digest, license: None, embedded: 0, comments: 0 };
        if let Some(digest) = &part.digest {
            let mut tarball = store.file(digest)?.ok_or_else(|| missing(&package.key))?;
            let mut contents = Contents { modules: &modules, manifest: Vec::new(), embedded: 0 };
            unpack(&mut tarball, package.key.as_str(), &mut contents)?;
            part.license = stated_license(&contents.manifest);
            part.embedded = contents.embedded;
        }
        packages.push(part);
    }
    modules.count_comments(&mut packages);
    let edges = selection.edges.iter().map(|(from, _, to)| ((*from).to_owned(), (*to).to_owned()));
    let edges = edges.collect();
    Ok(Parts { report, lock: locked.lock.clone(), bun: plan.bun.clone(), packages, edges })
}

/// What the output shows of where its modules come from.
#[derive(Debug, Default)]
struct Modules {
    /// Digests of the modules' contents, by size.
    contents: HashMap<u64, BTreeSet<Digest>>,
    /// Files below `node_modules` that Bun's comments name, by the package's name there.
    named: BTreeMap<String, BTreeSet<String>>,
}

impl Modules {
    fn of(executable: &Executable<'_>) -> Self {
        let mut all = Self::default();
        for module in &executable.graph.modules {
            let bytes = module.contents.bytes;
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            all.contents.entry(size).or_default().insert(Digest::sha256(bytes));
            for line in bytes.split(|byte| *byte == b'\n') {
                let Some(path) = line.strip_prefix(b"// ") else { continue };
                let Ok(path) = std::str::from_utf8(path) else { continue };
                let Some((_, below)) = path.rsplit_once("node_modules/") else { continue };
                let parts = if below.starts_with('@') { 2 } else { 1 };
                let at = below.match_indices('/').nth(parts - 1).map(|(at, _)| at);
                if let Some(at) = at {
                    let files = all.named.entry(below[..at].to_owned()).or_default();
                    files.insert(path.to_owned());
                }
            }
        }
        all
    }

    /// A name counts where one package alone is installed under it: where a copy lies is not what the lock says.
    fn count_comments(&self, packages: &mut [Part]) {
        for (name, files) in &self.named {
            let under = |part: &&mut Part| {
                split_key(&part.package.key).and_then(|names| names.last().copied())
                    == Some(name.as_str())
            };
            let mut found: Vec<&mut Part> = packages.iter_mut().filter(under).collect();
            if let [one] = found.as_mut_slice() {
                one.comments = files.len();
            }
        }
    }
}

/// Looks at a tarball's files: keeps the manifest, counts those that are modules of the output.
struct Contents<'a> {
    modules: &'a Modules,
    manifest: Vec<u8>,
    embedded: usize,
}

impl Sink for Contents<'_> {
    fn file(&mut self, path: &RelPath, _: u32, size: u64, data: &mut dyn Read) -> Result<()> {
        let io = |err| Error::io("read", path.as_str(), err);
        let wanted = self.modules.contents.get(&size).filter(|_| size > 0);
        let manifest = path.as_str() == "package.json" && size <= MANIFEST_BYTES;
        if wanted.is_none() && !manifest {
            return Ok(());
        }
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).map_err(io)?;
        if wanted.is_some_and(|digests| digests.contains(&Digest::sha256(&bytes))) {
            self.embedded += 1;
        }
        if manifest {
            self.manifest = bytes;
        }
        Ok(())
    }

    /// The same name again: the build compared the two, and the first one counts.
    fn again(&mut self, _: &RelPath, _: u32, _: u64, _: &mut dyn Read) -> Result<bool> {
        Ok(true)
    }
}

/// `license` of a `package.json`: a text, or the `type` of the object that old packages have there or in `licenses`.
fn stated_license(manifest: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(manifest).ok()?;
    let text = |value: &serde_json::Value| {
        let text = value.as_str().or_else(|| value["type"].as_str())?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    text(&value["license"]).or_else(|| text(&value["licenses"][0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_read_in_every_form_that_packages_have() {
        for (manifest, expected) in [
            (r#"{"license":"MIT"}"#, Some("MIT")),
            (r#"{"license":{"type":"ISC","url":"x"}}"#, Some("ISC")),
            (r#"{"licenses":[{"type":"BSD-3-Clause"}]}"#, Some("BSD-3-Clause")),
            (r#"{"license":""}"#, None),
            (r#"{"name":"x"}"#, None),
            ("", None),
        ] {
            assert_eq!(stated_license(manifest.as_bytes()).as_deref(), expected, "{manifest}");
        }
    }
}
