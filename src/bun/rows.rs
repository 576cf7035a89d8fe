//! One row of `packages` in a `bun.lock`.

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;

use super::jsonc::{Source, props};
use super::lockfile::{Bin, Kind, Needs, Package, texts_by_name};
use super::names::{is_directory_name, is_name, is_version, show};
use crate::error::{Error, Result};
use crate::record::ids::{Digest, RelPath};

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
        registry_url: None,
        integrity: None,
        digest: None,
        bun_tag: None,
        os: Vec::new(),
        cpu: Vec::new(),
        libc: Vec::new(),
        bin: Bin::None,
        needs: Needs::default(),
        bundled: false,
        place: source.place(at),
    };
    let rest = &row.elements[1..];
    let shape = |want: &str| -> Error {
        source
            .bad(value, format!("a {} package of another shape", package.kind.as_str()))
            .expected(want)
            .found(format!("{} elements", row.elements.len()))
    };
    let (registry, info, tag, integrity) = match (&package.kind, rest) {
        (Kind::Npm, [registry, info, integrity]) => {
            (Some(registry), Some(info), None, Some(integrity))
        }
        (Kind::Npm, _) => return Err(shape("4 elements: id, registry, info, integrity")),
        (Kind::Github { .. } | Kind::Git, [info, tag]) => (None, Some(info), Some(tag), None),
        (Kind::Github { .. } | Kind::Git, [info, tag, integrity]) => {
            (None, Some(info), Some(tag), Some(integrity))
        }
        (Kind::Github { .. } | Kind::Git, _) => return Err(shape("3 or 4 elements")),
        (Kind::Tarball, [info]) => (None, Some(info), None, None),
        (Kind::Tarball, [info, integrity]) => (None, Some(info), None, Some(integrity)),
        (Kind::File | Kind::Link, [info]) => (None, Some(info), None, None),
        (Kind::Workspace(_) | Kind::Root, []) => (None, None, None, None),
        (Kind::Workspace(_) | Kind::Root, [info]) => (None, Some(info), None, None),
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

fn kind(resolution: &str) -> Option<Kind> {
    if let Some(rest) = resolution.strip_prefix("github:") {
        let (path, reference) = rest.split_once('#')?;
        let (owner, repo) = path.split_once('/')?;
        let whole = [owner, repo, reference].iter().all(|part| is_directory_name(part));
        return whole.then(|| Kind::Github {
            owner: owner.to_owned(),
            repo: repo.to_owned(),
            reference: reference.to_owned(),
        });
    }
    let starts = |list: &[&str]| list.iter().any(|p| resolution.starts_with(p));
    if let Some(path) = resolution.strip_prefix("workspace:") {
        return path.parse::<RelPath>().is_ok().then(|| Kind::Workspace(path.to_owned()));
    }
    if starts(&["root:"]) {
        return Some(Kind::Root);
    }
    if starts(&["link:"]) {
        return Some(Kind::Link);
    }
    if starts(&["file:"]) {
        return Some(Kind::File);
    }
    if starts(&["git+", "git:", "git@", "ssh:", "gitlab:", "bitbucket:"]) {
        return Some(Kind::Git);
    }
    if starts(&["http://", "https://", "./", "../", "/"]) || ends_like_a_tarball(resolution) {
        return Some(Kind::Tarball);
    }
    is_version(resolution).then_some(Kind::Npm)
}

fn ends_like_a_tarball(text: &str) -> bool {
    [".tgz", ".tar.gz"].iter().any(|end| text.ends_with(end))
}
