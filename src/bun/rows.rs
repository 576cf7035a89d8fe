//! One row of `packages` in a `bun.lock`.

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;

use super::jsonc::{Source, props};
use super::names::{alias, is_directory_name, is_name, is_version, show};
use crate::error::{Error, Result};
use crate::record::ids::{Digest, RelPath};

/// What a package or workspace needs: name to range, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// `dependencies`.
    pub normal: BTreeMap<String, String>,
    /// `devDependencies`; installed for workspaces only.
    pub dev: BTreeMap<String, String>,
    /// `optionalDependencies`.
    pub optional: BTreeMap<String, String>,
    /// `peerDependencies`.
    pub peer: BTreeMap<String, String>,
    /// Names of `peer` that may stay away.
    pub optional_peers: Vec<String>,
}

impl Needs {
    /// The names of everything needed, with those for development where `dev` says so.
    pub(super) fn names(&self, dev: bool) -> impl Iterator<Item = &String> {
        let always = [&self.normal, &self.optional, &self.peer];
        always.into_iter().chain(dev.then_some(&self.dev)).flat_map(BTreeMap::keys)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// The install path: `a`, or `a/b` for a `b` that only `a` sees. A scope and its name count as one part.
    pub key: String,
    /// The package's own name; the last part of `key` is the alias it is installed under.
    pub name: String,
    /// What follows `name@`: a version, or where the package comes from.
    pub resolution: String,
    pub kind: SourceKind,
    /// The tarball's full URL where it is not the default registry's; used as it is.
    pub registry_url: Option<String>,
    /// The integrity as written; `Some("")` is an empty one.
    pub integrity: Option<String>,
    /// The integrity, where it is one SHA-512, SHA-384 or SHA-256 in canonical form.
    pub digest: Option<Digest>,
    /// Name of the tarball's top directory (GitHub), or the commit (git).
    pub bun_tag: Option<String>,
    /// Operating systems it is for, in npm's words, `!` for not; empty: all.
    pub os: Vec<String>,
    pub cpu: Vec<String>,
    /// C libraries it is for; Bun 1.3 neither writes nor reads it.
    pub libc: Vec<String>,
    /// What it puts into `.bin`.
    pub bin: Bin,
    pub needs: Needs,
    /// It lies in the tarball of the package above it and is not fetched.
    pub bundled: bool,
    /// `file:line:column` of the row.
    pub place: String,
}

impl Package {
    /// The name that it is installed under.
    pub fn alias(&self) -> Option<&str> {
        alias(&self.key)
    }

    /// Whether it is downloaded: it is neither of the source nor in the tarball of another.
    pub fn is_fetched(&self) -> bool {
        use SourceKind::{File, Git, Github, Link, Npm, Root, Tarball, Workspace};
        match &self.kind {
            File | Link | Workspace(_) | Root => false,
            Npm | Github { .. } | Tarball | Git => !self.bundled,
        }
    }

    /// The directory that a link to it leads to, as its row has it; `None` for what is not only linked.
    pub(super) fn linked(&self) -> Option<&str> {
        match &self.kind {
            SourceKind::Workspace(path) => Some(path),
            SourceKind::Link => {
                Some(self.resolution.strip_prefix("link:")?.trim_start_matches("./"))
            }
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceKind {
    /// A registry tarball; the resolution is its version.
    #[default]
    Npm,
    /// A tarball that GitHub makes: `github:owner/repo#reference`.
    Github {
        owner: String,
        repo: String,
        /// The commit, as abbreviated in the lock.
        reference: String,
    },
    Git,
    Tarball,
    File,
    Link,
    /// A workspace; the path in the source.
    Workspace(String),
    Root,
}

impl SourceKind {
    pub fn as_str(&self) -> &'static str {
        match self {
            SourceKind::Npm => "npm",
            SourceKind::Github { .. } => "github",
            SourceKind::Git => "git",
            SourceKind::Tarball => "tarball",
            SourceKind::File => "file",
            SourceKind::Link => "link",
            SourceKind::Workspace(_) => "workspace",
            SourceKind::Root => "root",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bin {
    #[default]
    None,
    /// Name to path; a single path stands under the last part of `key` without scope, as Bun links it.
    Files(BTreeMap<String, String>),
    /// Every file of this directory.
    Dir(String),
}

pub(super) fn texts_by_name<'a>(
    source: &Source<'a>,
    value: &Value<'a>,
    what: &str,
) -> Result<BTreeMap<String, String>> {
    props(source.object(value, what)?)
        .map(|(name, value, _)| Ok((name.to_owned(), source.text(value, what)?.to_owned())))
        .collect()
}

/// Reads the list at `key`.
///
/// Shapes: npm `[id, registry, info, integrity]`; GitHub and git `[id, info, tag, integrity?]`; tarball
/// `[id, info, integrity?]`; `file:` and `link:` `[id, info]`; workspace and root `[id, info?]`.
pub(super) fn package<'a>(
    source: &Source<'a>,
    key: &str,
    value: &Value<'a>,
    at: usize,
) -> Result<Package> {
    let row = value.as_array().ok_or_else(|| source.bad(value, "a package is not a list"))?;
    let first = row.elements.first().ok_or_else(|| source.bad(value, "an empty package"))?;
    let id = source.text(first, "a package's first element")?;
    let (name, resolution) = split_id(id)
        .ok_or_else(|| source.bad(first, format!("\"{}\" is not name@resolution", show(id))))?;
    let kind = kind(resolution).ok_or_else(|| {
        source.bad(first, format!("\"{}\" is not a version or a known source", show(resolution)))
    })?;
    let mut package = Package {
        key: key.to_owned(),
        name: name.to_owned(),
        resolution: resolution.to_owned(),
        kind,
        place: source.place(at),
        ..Package::default()
    };
    let rest = &row.elements[1..];
    let shape = |want: &str| -> Error {
        source
            .bad(value, format!("a {} package of another shape", package.kind.as_str()))
            .expected(want)
            .found(format!("{} elements", row.elements.len()))
    };
    let (registry, info, tag, integrity) = match (&package.kind, rest) {
        (SourceKind::Npm, [registry, info, integrity]) => {
            (Some(registry), Some(info), None, Some(integrity))
        }
        (SourceKind::Npm, _) => return Err(shape("4 elements: id, registry, info, integrity")),
        (SourceKind::Github { .. } | SourceKind::Git, [info, tag]) => {
            (None, Some(info), Some(tag), None)
        }
        (SourceKind::Github { .. } | SourceKind::Git, [info, tag, integrity]) => {
            (None, Some(info), Some(tag), Some(integrity))
        }
        (SourceKind::Github { .. } | SourceKind::Git, _) => return Err(shape("3 or 4 elements")),
        (SourceKind::Tarball, [info]) => (None, Some(info), None, None),
        (SourceKind::Tarball, [info, integrity]) => (None, Some(info), None, Some(integrity)),
        (SourceKind::File | SourceKind::Link, [info]) => (None, Some(info), None, None),
        (SourceKind::Workspace(_) | SourceKind::Root, []) => (None, None, None, None),
        (SourceKind::Workspace(_) | SourceKind::Root, [info]) => (None, Some(info), None, None),
        _ => return Err(shape("fewer elements")),
    };
    if let Some(value) = registry {
        let url = source.text(value, "the registry")?;
        let web = ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme));
        if !url.is_empty() && !web {
            return Err(source.bad(value, format!("\"{}\" is not a tarball's address", show(url))));
        }
        package.registry_url = (!url.is_empty()).then(|| url.to_owned());
    }
    if let Some(value) = tag {
        let tag = source.text(value, "the tag")?;
        if !is_directory_name(tag) {
            return Err(source.bad(value, format!("\"{}\" is not a tag", show(tag))));
        }
        package.bun_tag = Some(tag.to_owned());
    }
    if let Some(value) = integrity {
        let text = source.text(value, "the integrity")?;
        package.digest = Digest::from_sri(text).ok();
        package.integrity = Some(text.to_owned());
    }
    if let Some(value) = info {
        read_info(source, value, &mut package)?;
    }
    Ok(package)
}

fn read_info<'a>(source: &Source<'a>, value: &Value<'a>, package: &mut Package) -> Result<()> {
    for (key, value, at) in props(source.object(value, "a package's info")?) {
        match key {
            "os" => package.os = one_or_more(source, value, key)?,
            "cpu" => package.cpu = one_or_more(source, value, key)?,
            "libc" => package.libc = one_or_more(source, value, key)?,
            // Seen with 1.3.14: a single path is linked under the alias, not under the package's own name.
            "bin" | "binDir" => package.bin = bin(source, key, value, &package.key)?,
            "bundled" => {
                package.bundled = value
                    .as_boolean_lit()
                    .map(|lit| lit.value)
                    .ok_or_else(|| source.bad(value, "bundled is not true or false"))?;
            }
            _ if needs(source, key, value, &mut package.needs)? => {}
            _ => return Err(source.fault(at, format!("unknown key \"{}\"", show(key)))),
        }
    }
    Ok(())
}

/// Takes one of the dependency keys; `false` for any other key.
pub(super) fn needs<'a>(
    source: &Source<'a>,
    key: &str,
    value: &Value<'a>,
    needs: &mut Needs,
) -> Result<bool> {
    let group = match key {
        "dependencies" => &mut needs.normal,
        "devDependencies" => &mut needs.dev,
        "optionalDependencies" => &mut needs.optional,
        "peerDependencies" => &mut needs.peer,
        "optionalPeers" => {
            needs.optional_peers = source.texts(value, key)?;
            return Ok(true);
        }
        _ => return Ok(false),
    };
    *group = texts_by_name(source, value, key)?;
    if let Some(name) = group.keys().find(|name| !is_name(name)) {
        return Err(source.bad(value, format!("\"{}\" is not a package name", show(name))));
    }
    Ok(true)
}

/// Reads `bin` (a path, or names and paths) or `binDir`.
pub(super) fn bin<'a>(
    source: &Source<'a>,
    key: &str,
    value: &Value<'a>,
    name: &str,
) -> Result<Bin> {
    let bare = name.rsplit('/').next().unwrap_or(name);
    match value {
        Value::StringLit(lit) if key == "binDir" => Ok(Bin::Dir(lit.value.clone().into_owned())),
        Value::StringLit(lit) => {
            Ok(Bin::Files(BTreeMap::from([(bare.to_owned(), lit.value.clone().into_owned())])))
        }
        _ => Ok(Bin::Files(texts_by_name(source, value, key)?)),
    }
}

fn one_or_more<'a>(source: &Source<'a>, value: &Value<'a>, key: &str) -> Result<Vec<String>> {
    match value {
        Value::StringLit(lit) => Ok(vec![lit.value.clone().into_owned()]),
        _ => source.texts(value, key),
    }
}

/// `name@resolution`, split at the first `@` that is not a scope's.
fn split_id(id: &str) -> Option<(&str, &str)> {
    let at = id.char_indices().skip(1).find(|(_, c)| *c == '@')?.0;
    let (name, resolution) = (&id[..at], &id[at + 1..]);
    // The root has no name where its package.json has none.
    let named = is_name(name);
    (named && !resolution.is_empty() && !resolution.contains('\0')).then_some((name, resolution))
}

fn kind(resolution: &str) -> Option<SourceKind> {
    if let Some(rest) = resolution.strip_prefix("github:") {
        let (path, reference) = rest.split_once('#')?;
        let (owner, repo) = path.split_once('/')?;
        let whole = [owner, repo, reference].iter().all(|part| is_directory_name(part));
        return whole.then(|| SourceKind::Github {
            owner: owner.to_owned(),
            repo: repo.to_owned(),
            reference: reference.to_owned(),
        });
    }
    if let Some(path) = resolution.strip_prefix("workspace:") {
        return path.parse::<RelPath>().is_ok().then(|| SourceKind::Workspace(path.to_owned()));
    }
    let starts = |list: &[&str]| list.iter().any(|p| resolution.starts_with(p));
    match resolution {
        _ if starts(&["root:"]) => Some(SourceKind::Root),
        _ if starts(&["link:"]) => Some(SourceKind::Link),
        _ if starts(&["file:"]) => Some(SourceKind::File),
        _ if starts(&["git+", "git:", "git@", "ssh:", "gitlab:", "bitbucket:"]) => {
            Some(SourceKind::Git)
        }
        _ if starts(&["http://", "https://", "./", "../", "/"]) => Some(SourceKind::Tarball),
        _ if [".tgz", ".tar.gz"].iter().any(|end| resolution.ends_with(end)) => {
            Some(SourceKind::Tarball)
        }
        _ => is_version(resolution).then_some(SourceKind::Npm),
    }
}
