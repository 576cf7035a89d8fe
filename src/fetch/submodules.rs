//! Submodules of a source: each is fetched at the commit that the source's tree gives it, from the address in
//! `.gitmodules`, and its files become files of the source.

use std::collections::BTreeMap;
use std::io::Read as _;

use cap_std::fs::Dir;

use super::Fetcher;
use crate::bun::origin;
use crate::error::{Error, Reason, Result};
use crate::git::id::{ObjectKind, Oid};
use crate::git::object;
use crate::git::smart::Want;
use crate::git::write;
use crate::record;
use crate::record::ids::{CommitId, Digest, RelPath};
use crate::store::sink::DirSink;

/// Area and name of the record that holds the commit object of a source's tree.
pub(super) const RECORD: (&str, &str) = ("source", "commit");
/// Most submodules of one source, with those of submodules.
const MOST: usize = 512;
/// Largest `.gitmodules` that is read, in bytes.
const MODULES_BYTES: u64 = 1 << 20;
/// The record that lists the submodules of a tree that has some, beside that of its commit.
const LIST: &str = "submodules";

/// Submodules by path from the source's root.
pub(super) type Submodules = BTreeMap<String, Submodule>;

pub(super) struct Submodule {
    pub(super) commit: CommitId,
    /// Its commit object; `None`: it is left out, and its directory is empty.
    raw: Option<Vec<u8>>,
}

impl Submodule {
    pub(super) fn is(&self, tree: Oid) -> bool {
        let Some(raw) = &self.raw else {
            return tree == Oid::of(ObjectKind::Tree, &write::tree(Vec::new()));
        };
        let named = object::parse_commit(raw).map(|commit| commit.tree.to_string());
        Oid::of(ObjectKind::Commit, raw).to_string() == self.commit.as_str()
            && named == Some(tree.to_string())
    }
}

impl Fetcher<'_> {
    /// Exports every submodule of the repository at `url` that was exported to `root`; `inside` are its own.
    ///
    /// # Errors
    /// [`Reason::UnsupportedSource`] for one without an address that can be fetched, [`Reason::NotFound`] where one that
    /// is to be left out is none; those of a source.
    pub(super) fn with_submodules(
        &self,
        url: &str,
        root: &Dir,
        inside: Vec<(RelPath, CommitId)>,
        without: &[RelPath],
    ) -> Result<Submodules> {
        let mut all = Submodules::new();
        // The repository's address, its directory and a submodule of it.
        let mut queue: Vec<(String, String, RelPath, CommitId)> = Vec::new();
        let below = |url: &str, dir: &str, inside: Vec<(RelPath, CommitId)>| {
            let of = |(path, commit)| (url.to_owned(), dir.to_owned(), path, commit);
            inside.into_iter().map(of).collect::<Vec<_>>()
        };
        queue.extend(below(url, "", inside));
        while let Some((above, dir, path, commit)) = queue.pop() {
            let at = format!("{dir}{path}");
            if all.len() >= MOST {
                let what = format!("the source has more than {MOST} submodules");
                return Err(Error::new(Reason::LimitHit, what).at(at));
            }
            if without.iter().any(|left_out| left_out.as_str() == at) {
                all.insert(at, Submodule { commit, raw: None });
                continue;
            }
            let refuse = |what: &str, found: &str| {
                Error::new(Reason::UnsupportedSource, what)
                    .at(at.clone())
                    .expected(
                        "its address in .gitmodules: https://host/path, or one beside the source's",
                    )
                    .found(found)
                    .hint(format!("to build without it: --without {at}"))
                    .hint(format!("or lock a commit whose .gitmodules has the address of {path}"))
            };
            let addresses = addresses(root, &format!("{dir}.gitmodules"))?;
            let address = addresses.get(path.as_str());
            let address = address
                .ok_or_else(|| refuse("a submodule without an address in .gitmodules", "none"))?;
            let url = beside(&above, address).ok_or_else(|| {
                refuse("a submodule at an address that admit cannot fetch", address)
            })?;
            self.progress.stage("fetch", &format!("submodule {at} {} from {url}", commit.short()));
            let (inside, raw) = self.submodule(&url, root, &at, &commit).map_err(|err| {
                err.wanted_for(format!("the submodule {at}"))
                    .hint(format!("to build without it: --without {at}"))
            })?;
            queue.extend(below(&url, &format!("{at}/"), inside));
            all.insert(at, Submodule { commit, raw: Some(raw) });
        }
        match without.iter().find(|path| !all.contains_key(path.as_str())) {
            None => Ok(all),
            Some(path) => {
                let known: Vec<&str> = all.keys().map(String::as_str).collect();
                Err(Error::new(Reason::NotFound, "the source has no such submodule")
                    .at("source.without")
                    .expected(format!("one of: {}", known.join(", ")))
                    .found(path.to_string()))
            }
        }
    }

    /// Exports one submodule; gives those in it, and its commit object.
    #[expect(clippy::type_complexity, reason = "two things that one look gives")]
    fn submodule(
        &self,
        url: &str,
        root: &Dir,
        at: &str,
        commit: &CommitId,
    ) -> Result<(Vec<(RelPath, CommitId)>, Vec<u8>)> {
        let place = self.mirrors.apply(url);
        let repository = self.repository(url, &place, Want::Commit(commit))?;
        let objects = repository.objects();
        let raw = objects.read(Oid::parse(commit.as_str())?, ObjectKind::Commit)?;
        let found = object::commit(objects, commit)?;
        let dir = root.open_dir(at).map_err(|err| Error::io("open", at, err))?;
        let inside = object::export(objects, &found.tree, &mut DirSink::new(&dir, at))?;
        Ok((inside, raw))
    }

    pub(super) fn put_submodules(&self, nar: &Digest, all: &Submodules) -> Result<()> {
        if all.is_empty() {
            return Ok(());
        }
        for one in all.values() {
            if let Some(raw) = &one.raw {
                self.store.record_put(RECORD.0, nar, &record_of(&one.commit), raw)?;
            }
        }
        let list: Vec<(&String, &CommitId, bool)> =
            all.iter().map(|(path, one)| (path, &one.commit, one.raw.is_some())).collect();
        self.store.record_put(RECORD.0, nar, LIST, &record::canonical(&list))
    }

    /// The submodules of the stored source `nar`; `None` where they are not known whole, or others are left out.
    pub(super) fn stored_submodules(
        &self,
        nar: &Digest,
        without: &[RelPath],
    ) -> Result<Option<Submodules>> {
        let mut all = Submodules::new();
        if let Some(bytes) = self.store.record_get(RECORD.0, nar, LIST)? {
            let list = serde_json::from_slice::<Vec<(String, CommitId, bool)>>(&bytes);
            for (path, commit, there) in list.unwrap_or_default() {
                let raw = match there {
                    true => self.store.record_get(RECORD.0, nar, &record_of(&commit))?,
                    false => None,
                };
                if raw.is_some() != there {
                    return Ok(None);
                }
                all.insert(path, Submodule { commit, raw });
            }
        }
        let left_out =
            all.iter().filter(|(_, one)| one.raw.is_none()).map(|(path, _)| path.as_str());
        let mut wanted: Vec<&str> = without.iter().map(RelPath::as_str).collect();
        wanted.sort_unstable();
        wanted.dedup();
        Ok(left_out.eq(wanted).then_some(all))
    }
}

fn record_of(commit: &CommitId) -> String {
    format!("commit-{commit}")
}

/// Path to address of each submodule that the file at `path` names.
fn addresses(root: &Dir, path: &str) -> Result<BTreeMap<String, String>> {
    let io = |err| Error::io("read", path, err);
    let mut out = BTreeMap::new();
    if !root.symlink_metadata(path).is_ok_and(|meta| meta.is_file()) {
        return Ok(out);
    }
    let mut bytes = Vec::new();
    root.open(path).map_err(io)?.take(MODULES_BYTES).read_to_end(&mut bytes).map_err(io)?;
    let text = String::from_utf8_lossy(&bytes);
    for section in text.split("[submodule").skip(1) {
        let lines = || section.lines().take_while(|line| !line.starts_with('['));
        let value = |key: &str| {
            lines().find_map(|line| {
                let (name, value) = line.split_once('=')?;
                (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
            })
        };
        if let (Some(path), Some(url)) = (value("path"), value("url")) {
            out.insert(path, url);
        }
    }
    Ok(out)
}

/// A submodule's address as admit fetches it: one that starts with `./` or `../` is beside that of its source.
fn beside(source: &str, address: &str) -> Option<String> {
    if !address.starts_with("./") && !address.starts_with("../") {
        return origin::repository(address);
    }
    let (scheme, path) = source.trim_end_matches('/').split_once("://")?;
    let mut parts: Vec<&str> = path.split('/').collect();
    for part in address.split('/') {
        match part {
            "." | "" => {}
            ".." if parts.len() > 1 => drop(parts.pop()),
            ".." => return None,
            part => parts.push(part),
        }
    }
    Some(format!("{scheme}://{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_beside_that_of_the_source() {
        for (source, address, want) in [
            ("https://h.example/a/b.git", "../c.git", Some("https://h.example/a/c.git")),
            ("https://h.example/a/b/", "./c", Some("https://h.example/a/b/c")),
            ("file:///srv/b", "../c", Some("file:///srv/c")),
            ("https://h.example/a", "../../../c", None),
            ("https://h.example/a", "git@g.example:x/y.git", Some("https://g.example/x/y.git")),
            ("https://h.example/a", "file:///etc", None),
            ("https://h.example/a", "/srv/x", None),
            ("https://h.example/a", "https://u:p@g.example/x", None),
        ] {
            assert_eq!(beside(source, address).as_deref(), want, "{address}");
        }
    }
}
