//! The source: one commit, exported to the store as a tree.
//!
//! The lock's commit decides which objects are read, and every object is hashed again; the exported tree's NAR hash
//! ([`crate::store`]) then ties the stored files to it. The commit object is kept beside the tree, so that a later run
//! can prove the same without any remote: the commit hashes to its id and names the git tree, and the stored files hash
//! to that git tree.

use std::io::Read as _;

use cap_std::fs::PermissionsExt as _;

use super::Fetcher;
use super::mirror::local_path;
use super::submodules::{RECORD, Submodules};
use crate::error::{Error, Reason, Result};
use crate::git::confined::Confined;
use crate::git::dir::{head, object_dir};
use crate::git::id::{ObjectKind, Oid};
use crate::git::object::{self, Objects};
use crate::git::smart::{self, Want};
use crate::git::write;
use crate::record::ids::{CommitId, Digest, ObjectId};
use crate::record::lockfile::Source as Locked;
use crate::store::StoredTree;
use crate::store::sink::DirSink;

#[derive(Debug)]
pub struct Source {
    pub commit: CommitId,
    pub tree: ObjectId,
    /// When it was committed, in seconds since 1970.
    pub time: i64,
    pub files: StoredTree,
    /// Whether a remote or mirror was asked.
    pub fetched: bool,
}

impl Source {
    fn stored(locked: &Locked, commit: object::Commit, files: StoredTree) -> Self {
        let object::Commit { tree, time } = commit;
        Self { commit: locked.rev.clone(), tree, time, files, fetched: false }
    }
}

pub(super) enum Repository<'a> {
    Inside(&'a dyn Objects),
    Confined(Box<Confined>),
}

impl Repository<'_> {
    pub(super) fn objects(&self) -> &dyn Objects {
        match self {
            Repository::Inside(objects) => *objects,
            Repository::Confined(objects) => &**objects,
        }
    }

    pub(super) fn resolve(&self, prefix: &str) -> Result<CommitId> {
        match self {
            Repository::Confined(objects) => objects.resolve(prefix),
            Repository::Inside(_) => {
                Err(Error::new(Reason::Internal, "an embedded source is named by its whole commit"))
            }
        }
    }
}

impl<'a> Fetcher<'a> {
    /// Brings the locked source into the store, or proves that it is there.
    ///
    /// # Errors
    /// [`Reason::Unreachable`] and the other reasons of [`crate::download::client::Client::fetch`];
    /// [`Reason::RevNotInRemote`]; [`Reason::SourceMismatch`] where tree, NAR hash or an object is not the locked one;
    /// [`Reason::HostileArchive`], [`Reason::UnsupportedSource`] for what the tree holds; those of the store.
    pub fn source(&self, locked: &Locked) -> Result<Source> {
        if let Some(source) = self.stored_source(locked)? {
            return Ok(source);
        }
        let place = self.mirrors.apply(&locked.url);
        self.progress.stage("fetch", &format!("source {} from {}", locked.rev.short(), locked.url));
        let repository = self.repository(&locked.url, &place, Want::Commit(&locked.rev))?;
        let objects = repository.objects();
        let commit = object::commit(objects, &locked.rev).map_err(|err| match err.reason() {
            Reason::RevNotInRemote => {
                Error::new(Reason::RevNotInRemote, "the commit is not in the remote")
                    .at(place.clone())
                    .expected(locked.rev.to_string())
                    .hint("check the lock's url and rev; a mirror may have to be updated")
            }
            _ => err,
        })?;
        check_tree(locked, &commit.tree)?;
        let writer = self.store.tree_writer()?;
        let root = writer.dir();
        let inside = object::export(objects, &commit.tree, &mut DirSink::new(root, "source"))?;
        let submodules = self.with_submodules(&locked.url, root, inside, &locked.without)?;
        let files = writer.finish(nar_of(locked)).map_err(|err| match err.reason() {
            Reason::DigestMismatch => mismatch(locked, "the source has another NAR hash")
                .expected(err.expected_value().unwrap_or_default())
                .found(err.found_value().unwrap_or_default()),
            _ => err,
        })?;
        let raw = objects.read(Oid::parse(locked.rev.as_str())?, ObjectKind::Commit)?;
        self.put_submodules(files.nar(), &submodules)?;
        self.store.record_put(RECORD.0, files.nar(), RECORD.1, &raw)?;
        Ok(Source { fetched: true, ..Source::stored(locked, commit, files) })
    }

    /// The newest commit of a source: the tip of its default branch.
    ///
    /// # Errors
    /// [`Reason::RevNotInRemote`] where it has none, [`Reason::UnsupportedSource`] for a source inside admit; those of
    /// [`crate::download::client::Client::fetch`].
    pub fn newest(&self, url: &str) -> Result<CommitId> {
        let place = self.mirrors.apply(url);
        if url.starts_with("embedded:") {
            return Err(Error::new(
                Reason::UnsupportedSource,
                "a source inside admit has one commit alone",
            )
            .at(url.to_owned()));
        }
        match local_path(&place)? {
            None => smart::head(self.client, &place, self.progress),
            Some(path) => head(&path).ok_or_else(|| {
                Error::new(Reason::RevNotInRemote, "the repository has no commit checked out")
                    .at(path.display().to_string())
            }),
        }
    }

    /// The locked source from the store alone, proven from the commit's id down to every file.
    fn stored_source(&self, locked: &Locked) -> Result<Option<Source>> {
        let Some(nar) = nar_of(locked) else { return Ok(None) };
        let Some(raw) = self.store.record_get(RECORD.0, nar, RECORD.1)? else { return Ok(None) };
        // Two commits can have the same files; then the other one is fetched.
        if Oid::of(ObjectKind::Commit, &raw).to_string() != locked.rev.as_str() {
            return Ok(None);
        }
        let Some(commit) = object::parse_commit(&raw) else { return Ok(None) };
        let Some(files) = self.store.tree(nar)? else { return Ok(None) };
        let Some(submodules) = self.stored_submodules(nar, &locked.without)? else {
            return Ok(None);
        };
        let tree = hash_tree(&files.dir()?, files.path(), "", &submodules)?;
        if tree.is_none_or(|tree| tree.to_string() != commit.tree.as_str()) {
            return Ok(None);
        }
        check_tree(locked, &commit.tree)?;
        Ok(Some(Source::stored(locked, commit, files)))
    }

    pub(super) fn repository(
        &self,
        url: &str,
        place: &str,
        want: Want<'_>,
    ) -> Result<Repository<'a>> {
        if let Some(name) = url.strip_prefix("embedded:") {
            let found = self.embedded.iter().find(|e| e.name == name);
            return found.map(|e| Repository::Inside(e)).ok_or_else(|| {
                Error::new(Reason::Unreachable, "no such source is embedded in this admit")
                    .at(url.to_owned())
            });
        }
        let what = if url == place { "the source" } else { "the mirror" };
        if let Some(path) = local_path(place)? {
            let objects = object_dir(&path).ok_or_else(|| {
                Error::new(
                    Reason::Unreachable,
                    format!("{what} is not a git repository that can be read"),
                )
                .at(path.display().to_string())
                .expected("a clone, bare or not, with or without .git at the end")
            })?;
            return Ok(Repository::Confined(Box::new(Confined::open(self.exe, &objects)?)));
        }
        if !place.starts_with("https://") && !place.starts_with("http://") {
            return Err(Error::new(
                Reason::UnsupportedSource,
                format!("{what} has an address that admit cannot fetch"),
            )
            .at(place.to_owned())
            .expected("https://, http://, file:/// or embedded:")
            .hint("name a mirror for it: [[mirror]] in admit.toml, or ADMIT_MIRROR"));
        }
        let scratch = self.store.scratch()?;
        let pack = smart::fetch(self.client, place, want, scratch.path(), self.progress)?;
        let objects = Confined::packed(self.exe, &pack, place, scratch)?;
        Ok(Repository::Confined(Box::new(objects)))
    }
}

fn nar_of(locked: &Locked) -> Option<&Digest> {
    locked.nar_hash.as_ref().map(|sri| &sri.0)
}

fn check_tree(locked: &Locked, found: &ObjectId) -> Result<()> {
    match &locked.tree {
        Some(want) if want != found => Err(mismatch(locked, "the commit has another tree")
            .expected(want.to_string())
            .found(found.to_string())),
        _ => Ok(()),
    }
}

fn mismatch(locked: &Locked, what: &str) -> Error {
    Error::new(Reason::SourceMismatch, what)
        .at(format!("{} at {}", locked.url, locked.rev))
        .hint("the lock contradicts itself: its rev fixes tree and files; was it edited?")
}

/// The git tree that these files make; `None` where a submodule is not its commit.
fn hash_tree(
    dir: &cap_std::fs::Dir,
    place: &std::path::Path,
    path: &str,
    submodules: &Submodules,
) -> Result<Option<Oid>> {
    let fail = |err| Error::io("read the stored source", place, err);
    let mut entries = Vec::new();
    for entry in dir.entries().map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().into_encoded_bytes();
        let kind = entry.file_type().map_err(fail)?;
        let (mode, id) = if kind.is_dir() {
            let text = String::from_utf8_lossy(&name);
            let at = if path.is_empty() { text.into_owned() } else { format!("{path}/{text}") };
            let below = entry.open_dir().map_err(fail)?;
            let tree = hash_tree(&below, place, &at, submodules)?;
            match (submodules.get(&at), tree) {
                (_, None) => return Ok(None),
                (None, Some(tree)) => (write::TREE, tree),
                (Some(one), Some(tree)) if one.is(tree) => {
                    ("160000", Oid::parse(one.commit.as_str())?)
                }
                (Some(_), Some(_)) => return Ok(None),
            }
        } else if kind.is_symlink() {
            let target = dir.read_link_contents(entry.file_name()).map_err(fail)?;
            ("120000", Oid::of(ObjectKind::Blob, target.as_os_str().as_encoded_bytes()))
        } else {
            let mut file = entry.open().map_err(fail)?;
            let executable = file.metadata().map_err(fail)?.permissions().mode() & 0o100 != 0;
            let mut data = Vec::new();
            file.read_to_end(&mut data).map_err(fail)?;
            (if executable { "100755" } else { "100644" }, Oid::of(ObjectKind::Blob, &data))
        };
        entries.push((mode, name, id));
    }
    Ok(Some(Oid::of(ObjectKind::Tree, &write::tree(entries))))
}
