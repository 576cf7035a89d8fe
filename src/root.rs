//! Which records hold: the nearest `admit.toml` upward (if this user trusts its directory), else the records embedded
//! in the binary together with those that this user added.
//!
//! A root that somebody else could have written would admit its own binary, so a directory is used only after
//! `admit trust DIR` recorded its digest. All files are read into memory once, and the digest is taken over exactly
//! those bytes: what was trusted is what is used.

mod files;
mod owner;
mod trust;

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use tempfile::{NamedTempFile, PersistError};

use crate::error::{Error, Reason, Result};
use crate::host::{self, Host};
use crate::record::cache::{self, Cache};
use crate::record::ids::{Digest, RelPath};
use crate::record::network::{self, NetworkRecord};
use crate::record::signing::{self, Require, Signer};
use crate::record::{self, Record};

pub use files::{MARKER, bad_record};

use files::{directory, overlaid};
pub use trust::Lock;
use trust::{load_trust, lock, trust_key};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Inside this binary, with this user's own additions.
    Embedded,
    /// A directory that this user trusts.
    Directory(PathBuf),
}

/// The records that hold for this call, in memory.
#[derive(Clone, Debug)]
pub struct Root {
    origin: Origin,
    /// Where additions are written.
    dir: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
    /// Locks and fixtures of the layers below a directory, as far as it has none of that name: no part of its digest,
    /// since they admit nothing.
    material: BTreeMap<String, Vec<u8>>,
    /// How many of them lie over the embedded ones.
    added: usize,
    trust_file: PathBuf,
    config: Config,
    trusted: Option<&'static str>,
}

/// `admit.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URL prefixes and what stands for them.
    #[serde(default)]
    pub mirror: Vec<MirrorRule>,
    /// Networks that model records may name, beside the built-in ones.
    #[serde(default)]
    pub network: Vec<NetworkRecord>,
    /// Keys that may sign.
    #[serde(default)]
    pub signer: Vec<Signer>,
    /// Who of them must have signed what.
    #[serde(default)]
    pub require: Require,
    /// Where builds are looked for before they are made here.
    #[serde(default)]
    pub cache: Cache,
}

/// One `[[mirror]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorRule {
    /// The beginning of a URL as locks have it.
    pub from: String,
    /// What it is replaced by.
    pub to: String,
}

impl Root {
    /// Finds the root: `flag`, else the nearest `admit.toml` upward, else the embedded records. `expect` is the digest
    /// that a pipeline insists on; it stands in for `admit trust`.
    ///
    /// # Errors
    /// [`Reason::RootNotTrusted`] where the directory is unknown, changed, or not what `expect` says.
    pub fn find(host: &Host, flag: Option<&Path>, expect: Option<&Digest>) -> Result<Root> {
        let _lock = lock(&trust_file(host)?, false)?;
        let dir = match flag {
            Some(dir) => Some(host.absolute(dir)),
            None => nearest(host.cwd())?,
        };
        let mut root = match dir {
            Some(dir) => {
                let root = Self::read_untrusted(host, &dir)?;
                // What a pipeline expects by digest is all that holds, beside what is inside admit itself.
                let own = host.data_dir()?.join("root");
                root.over(overlaid(expect.is_none().then_some(own.as_path()))?.0)
            }
            None => Self::own(host)?,
        };
        let digest = root.digest();
        if expect.is_some() {
            root.require_expected(expect, &digest)?;
            root.trusted = Some("it has the expected digest");
            return Ok(root);
        }
        root.trusted = match &root.origin {
            Origin::Directory(dir) => {
                root.require_trust(dir, &digest)?;
                Some("this user trusts it as it is")
            }
            Origin::Embedded => Some("this user's own"),
        };
        Ok(root)
    }

    fn require_expected(&self, expect: Option<&Digest>, digest: &Digest) -> Result<()> {
        match expect {
            Some(expect) if expect != digest => {
                Err(Error::new(Reason::RootNotTrusted, "the root is not the expected one")
                    .at(self.label())
                    .expected(expect.to_string())
                    .found(digest.to_string())
                    .hint("look at what changed there; name this digest only if you know why"))
            }
            _ => Ok(()),
        }
    }

    fn require_trust(&self, dir: &Path, digest: &Digest) -> Result<()> {
        let refused = |what: &str| {
            Error::new(Reason::RootNotTrusted, what)
                .at(dir.display().to_string())
                .found(digest.to_string())
                .hint(format!(
                    "read its lockfiles and admissions, then: admit trust {}",
                    dir.display()
                ))
        };
        let (trust, key) = (load_trust(&self.trust_file)?, trust_key(dir)?);
        match trust.roots.get(&key) {
            None => Err(refused("this user has not trusted the root")),
            Some(known) if known == digest || trust.coming.get(&key) == Some(digest) => Ok(()),
            Some(known) => {
                Err(refused("the root changed since this user trusted it")
                    .expected(known.to_string()))
            }
        }
    }

    /// Records that this user trusts the directory as it is now, and gives it. `expect` is the digest that it must have.
    ///
    /// # Errors
    /// [`Reason::RootNotTrusted`] where it has another: nothing is recorded then.
    pub fn trust(host: &Host, dir: &Path, expect: Option<&Digest>) -> Result<Root> {
        let _lock = lock(&trust_file(host)?, true)?;
        let root = Self::read_untrusted(host, dir)?;
        let digest = root.digest();
        root.require_expected(expect, &digest)?;
        let mut trust = load_trust(&root.trust_file)?;
        let key = trust_key(&root.dir)?;
        trust.coming.remove(&key);
        trust.roots.insert(key, digest);
        write_atomic(&root.trust_file, &record::pretty(&trust), 0o600)?;
        Ok(root)
    }

    /// The directories that this user trusts, there or not.
    pub fn trusted_dirs(host: &Host) -> Result<Vec<PathBuf>> {
        let trust = load_trust(&trust_file(host)?)?;
        Ok(trust.roots.keys().chain(trust.coming.keys()).map(PathBuf::from).collect())
    }

    pub fn read_untrusted(host: &Host, dir: &Path) -> Result<Root> {
        let (dir, trust_file) = (&host.absolute(dir), trust_file(host)?);
        let marker = dir.join(MARKER);
        if std::fs::symlink_metadata(&marker).is_err() {
            return Err(Error::new(Reason::NotFound, format!("the directory has no {MARKER}"))
                .at(dir.display().to_string())
                .hint(format!(
                    "name a directory that holds {MARKER}, lockfiles/ and admissions/"
                )));
        }
        let files = directory(dir)?;
        let dir = dir.canonicalize().map_err(|err| Error::io("resolve the root", dir, err))?;
        let config = parse_config(&files[MARKER], &marker)?;
        Ok(Root {
            origin: Origin::Directory(dir.clone()),
            dir,
            files,
            material: BTreeMap::new(),
            added: 0,
            trust_file,
            config,
            trusted: None,
        })
    }

    /// The same with the locks and fixtures of `below` where it has none of that name. A fixture comes from one layer,
    /// whole.
    fn over(mut self, below: BTreeMap<String, Vec<u8>>) -> Self {
        self.material = below;
        self.material.retain(|path, _| match path.strip_prefix("fixtures/") {
            Some(rest) => {
                let name = rest.split('/').next().unwrap_or(rest);
                let prefix = format!("fixtures/{name}/");
                !self.files.keys().any(|own| own.starts_with(&prefix))
            }
            None => path.starts_with("lockfiles/") && !self.files.contains_key(path),
        });
        self
    }

    /// The records inside admit with this user's own over them, whatever the working directory is.
    ///
    /// # Errors
    /// [`Reason::RootNotTrusted`] where another user could have written them.
    pub fn own(host: &Host) -> Result<Root> {
        let (dir, trust_file) = (host.data_dir()?.join("root"), trust_file(host)?);
        let (files, added) = overlaid(Some(&dir))?;
        let config = files
            .get(MARKER)
            .map_or(Ok(Config::default()), |bytes| parse_config(bytes, &dir.join(MARKER)))?;
        let origin = Origin::Embedded;
        let material = BTreeMap::new();
        Ok(Root { origin, dir, files, material, added, trust_file, config, trusted: None })
    }

    pub fn directory(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Directory(dir) => Some(dir),
            Origin::Embedded => None,
        }
    }

    /// Why its records count; `None` where nothing says that they do.
    pub fn trusted(&self) -> Option<&'static str> {
        self.trusted
    }

    /// What reports call this root: everything that its digest covers.
    pub fn label(&self) -> String {
        match &self.origin {
            Origin::Embedded if self.added > 0 => format!(
                "embedded in admit {}, and before them {} of your own in {}",
                env!("CARGO_PKG_VERSION"),
                self.added,
                self.dir.display()
            ),
            Origin::Embedded => format!("embedded in admit {}", env!("CARGO_PKG_VERSION")),
            Origin::Directory(dir) => dir.display().to_string(),
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// SHA-256 over the canonical list of every file's path and SHA-256.
    pub fn digest(&self) -> Digest {
        let all = self.files.iter().map(|(path, bytes)| (path.as_str(), Digest::sha256(bytes)));
        record::digest(&all.collect::<BTreeMap<&str, Digest>>())
    }

    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).or_else(|| self.material.get(path)).map(Vec::as_slice)
    }

    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut all: Vec<_> = self
            .files
            .iter()
            .chain(&self.material)
            .filter(|(p, _)| p.starts_with(prefix))
            .map(|(p, b)| (p.as_str(), b.as_slice()))
            .collect();
        all.sort_unstable_by_key(|(path, _)| *path);
        all.into_iter()
    }

    pub fn place(&self, path: &str) -> String {
        match &self.origin {
            Origin::Directory(_)
                if !self.files.contains_key(path) && self.material.contains_key(path) =>
            {
                format!("{path} (not of this root: of the user's own or embedded)")
            }
            Origin::Embedded if !self.dir.join(path).exists() => format!("{path} (embedded)"),
            _ => self.dir.join(path).display().to_string(),
        }
    }

    /// Reads and parses a record.
    ///
    /// # Errors
    /// [`Reason::BadRecord`] with file, line and column.
    pub fn record<R: Record>(&self, path: &str) -> Result<Option<R>> {
        let Some(bytes) = self.get(path) else { return Ok(None) };
        record::parse(bytes).map(Some).map_err(|err| bad_record(&self.place(path), &err))
    }

    /// Writes a record, atomically, if it is still as this call read it.
    ///
    /// # Errors
    /// [`Reason::RecordChanged`]; those of [`Root::update`].
    pub fn put(&mut self, path: &RelPath, bytes: &[u8]) -> Result<PathBuf> {
        let read = self.files.get(path.as_str()).cloned();
        let place = self.place(path.as_str());
        self.update(path, |now| match now == read.as_deref() || now == Some(bytes) {
            true => Ok(Some(bytes.to_vec())),
            false => Err(Error::new(Reason::RecordChanged, "the record changed meanwhile")
                .at(place)
                .expected(read.map_or("absent".into(), |read| Digest::sha256(&read).to_string()))
                .found(now.map_or("absent".into(), |now| Digest::sha256(now).to_string()))
                .hint("look at it, then ask again")),
        })
    }

    /// Gives `change` the record as it is now, while nobody else writes, and writes what it answers, if anything. A
    /// trusted directory stays trusted with exactly this change.
    ///
    /// # Errors
    /// [`Reason::RootNotTrusted`] where somebody changed the directory meanwhile: nothing is written then.
    pub fn update(
        &mut self,
        path: &RelPath,
        change: impl FnOnce(Option<&[u8]>) -> Result<Option<Vec<u8>>>,
    ) -> Result<PathBuf> {
        let target = self.dir.join(path);
        let (lock, listed) = self.for_writing()?;
        let Some(bytes) = change(self.files.get(path.as_str()).map(Vec::as_slice))? else {
            return Ok(target);
        };
        let fresh = !target.exists();
        self.files.insert(path.as_str().to_owned(), bytes);
        let root = &*self;
        root.with_trust(lock.as_ref(), listed.as_deref(), || {
            write(&root.dir, &target, &root.files[path.as_str()], 0o600, |temp| {
                temp.persist(&target)
            })
        })?;
        self.added += usize::from(fresh && self.origin == Origin::Embedded);
        Ok(target)
    }

    /// Everything that a writer needs: this user's lock, the files as they are now, and the directory that is trusted,
    /// where this root is one.
    fn for_writing(&mut self) -> Result<(Option<Lock>, Option<PathBuf>)> {
        // A root used by its expected digest is trusted by the pipeline, not by this user's list.
        let listed = match &self.origin {
            Origin::Embedded => None,
            Origin::Directory(dir) => load_trust(&self.trust_file)?
                .roots
                .contains_key(&trust_key(dir)?)
                .then_some(dir.clone()),
        };
        let lock = match (&self.origin, &listed) {
            (Origin::Directory(_), None) => None,
            _ => lock(&self.trust_file, true)?,
        };
        (self.files, self.added) = match &self.origin {
            Origin::Embedded => overlaid(Some(&self.dir))?,
            Origin::Directory(dir) => (directory(dir)?, 0),
        };
        if let Some(dir) = &listed {
            self.require_trust(dir, &self.digest())?;
        }
        Ok((lock, listed))
    }

    /// Writes by `write` what [`Root::files`] holds by now; a trusted directory stays trusted, at whatever moment this is
    /// killed.
    fn with_trust(
        &self,
        lock: Option<&Lock>,
        listed: Option<&Path>,
        write: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let key = listed.map(trust_key).transpose()?;
        let mut trust = load_trust(&self.trust_file)?;
        if let Some(key) = &key {
            trust.coming.insert(key.clone(), self.digest());
            write_atomic(&self.trust_file, &record::pretty(&trust), 0o600)?;
        }
        if lock.is_some() {
            sweep(&self.dir);
        }
        write()?;
        if let Some(key) = key {
            let digest = trust.coming.remove(&key).expect("inserted above");
            trust.roots.insert(key, digest);
            write_atomic(&self.trust_file, &record::pretty(&trust), 0o600)?;
        }
        Ok(())
    }

    /// The same root with these files besides, in memory alone: to look at what would be written.
    #[must_use]
    pub fn supposing(&self, below: &RelPath, files: &BTreeMap<RelPath, Vec<u8>>) -> Root {
        let mut root = self.clone();
        root.put_in_memory(below, files);
        root
    }

    fn put_in_memory(&mut self, below: &RelPath, files: &BTreeMap<RelPath, Vec<u8>>) {
        let prefix = format!("{below}/");
        for all in [&mut self.files, &mut self.material] {
            all.retain(|path, _| !path.starts_with(&prefix));
        }
        let named =
            |(path, bytes): (&RelPath, &Vec<u8>)| (format!("{prefix}{path}"), bytes.clone());
        self.files.extend(files.iter().map(named));
    }

    /// Writes the directory `below` with exactly these files, whole or not at all. One that is there is replaced if
    /// `replace` says so. A trusted directory stays trusted with exactly this change.
    ///
    /// # Errors
    /// [`Reason::BadArgument`] where it is there, or is one of those inside admit; those of [`Root::update`].
    pub fn put_directory(
        &mut self,
        below: &RelPath,
        files: &BTreeMap<RelPath, Vec<u8>>,
        replace: bool,
    ) -> Result<PathBuf> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let target = self.dir.join(below);
        let (lock, listed) = self.for_writing()?;
        let taken = |what: &str, hint: &str| {
            Err(Error::new(Reason::BadArgument, what).at(target.display().to_string()).hint(hint))
        };
        let prefix = format!("{below}/");
        if self.origin == Origin::Embedded
            && overlaid(None)?.0.keys().any(|path| path.starts_with(&prefix))
        {
            return taken("this name is that of a record inside admit", "take another name");
        }
        let there = std::fs::symlink_metadata(&target).is_ok();
        if there && !replace {
            return taken(
                "there is something of this name already",
                "take another name, or add --replace",
            );
        }
        self.put_in_memory(below, files);
        let root = &*self;
        root.with_trust(lock.as_ref(), listed.as_deref(), || {
            let io = |err| Error::io("write", &target, err);
            host::make_private(&root.dir)?;
            let temp =
                tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(&root.dir).map_err(io)?;
            let whole = temp.path().join("whole");
            for (path, bytes) in files {
                write_new(&whole.join(path), bytes, 0o644)?;
            }
            host::make_private(target.parent().unwrap_or(&root.dir))?;
            let flags = if there { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
            renameat_with(CWD, &whole, CWD, &target, flags).map_err(|err| io(err.into()))?;
            let parent = target.parent().unwrap_or(&root.dir);
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)
        })?;
        if self.origin == Origin::Embedded {
            self.added = overlaid(Some(&self.dir))?.1;
        }
        Ok(target)
    }
}

fn trust_file(host: &Host) -> Result<PathBuf> {
    Ok(host.data_dir()?.join("trust.json"))
}

/// Waits until no other call of admit writes this user's records, keys or trust below `data_dir`, and keeps others from
/// writing until the lock is dropped.
pub fn lock_writers(data_dir: &Path) -> Result<Option<Lock>> {
    lock(&data_dir.join("trust.json"), true)
}

/// The nearest directory upward with a marker of any kind: one that cannot be read is not one that is absent.
fn nearest(from: &Path) -> Result<Option<PathBuf>> {
    for dir in from.ancestors() {
        let marker = dir.join(MARKER);
        match std::fs::symlink_metadata(&marker) {
            Ok(_) => return Ok(Some(dir.to_path_buf())),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
            Err(err) => return Err(Error::io("look for", marker, err)),
        }
    }
    Ok(None)
}

fn parse_config(bytes: &[u8], path: &Path) -> Result<Config> {
    let fail = |what: String| Error::new(Reason::BadRecord, what).at(path.display().to_string());
    let text = std::str::from_utf8(bytes).map_err(|err| {
        let line = 1 + bytes[..err.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        fail(format!("the file is not UTF-8: line {line}"))
            .expected("TOML, in UTF-8")
            .hint("save it as UTF-8; docs/config.md has every key with its form")
    })?;
    let config: Config = toml::from_str(text).map_err(|err| {
        let words = short_lines(&err.to_string());
        let err = fail(words.trim_end().to_owned());
        match meant(&words) {
            Some(key) => err.hint(format!("did you mean `{key}`? docs/config.md has every key")),
            None => err.hint("docs/config.md has every key with its form"),
        }
    })?;
    network::check(&config.network).map_err(fail)?;
    signing::check(&config.signer, &config.require).map_err(fail)?;
    cache::check(&config.cache, &config.signer, &config.require).map_err(fail)?;
    Ok(config)
}

/// The parser shows the line that is wrong, however long it is.
fn short_lines(words: &str) -> String {
    const LONGEST: usize = 200;
    let short = |line: &str| match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line.to_owned(),
    };
    words.lines().map(short).collect::<Vec<_>>().join("\n")
}

/// The known key that is nearest to the one which the parser's words call unknown.
fn meant(words: &str) -> Option<String> {
    let (_, rest) = words.split_once("unknown field `")?;
    let mut quoted = rest.split('`').step_by(2);
    let unknown = quoted.next()?;
    let known = quoted.filter(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
    known
        .map(|key| (strsim::damerau_levenshtein(key, unknown), key))
        .min()
        .filter(|(edits, key)| *edits * 2 <= key.len())
        .map(|(_, key)| key.to_owned())
}

/// How the names of temporary files begin. None of them is part of a root: those lie in its parts.
pub const TEMPORARY: &str = ".admit-tmp-";

/// Removes what killed writers left in a root, while no other one writes.
fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY)) {
            // What cannot be removed counts for nothing.
            let _ = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => std::fs::remove_dir_all(entry.path()),
                false => std::fs::remove_file(entry.path()),
            };
        }
    }
}

/// Writes a small file so that it is either the old or the new one at any instant. `mode` are its permissions.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = path.parent().unwrap_or(Path::new("/"));
    write(temporary, path, bytes, mode, |temp| temp.persist(path))
}

/// Writes a small file that is whole or absent at any instant.
///
/// # Errors
/// Where the file exists; those of [`Error::io`].
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = path.parent().unwrap_or(Path::new("/"));
    write(temporary, path, bytes, mode, |temp| temp.persist_noclobber(path))
}

/// With the unfinished file in `temporary`, which is on the same file system.
fn write(
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
    mode: u32,
    persist: impl FnOnce(NamedTempFile) -> std::result::Result<File, PersistError>,
) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    let dir = path.parent().unwrap_or(Path::new("/"));
    host::make_private(dir)?;
    let io = |err| Error::io("write", path, err);
    let mut temp = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(temporary).map_err(io)?;
    temp.write_all(bytes).map_err(io)?;
    temp.as_file().set_permissions(Permissions::from_mode(mode)).map_err(io)?;
    temp.as_file().sync_all().map_err(io)?;
    persist(temp).map_err(|err| io(err.error))?;
    // The rename itself is durable only once the directory is.
    File::open(dir).and_then(|d| d.sync_all()).map_err(|err| Error::io("write", dir, err))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(dir: &Path) -> Host {
        let home = ("HOME".to_owned(), dir.join("home").display().to_string());
        Host::with([home], dir.join("work/sub"))
    }

    fn directory() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("work/sub")).unwrap();
        std::fs::create_dir_all(dir.path().join("work/lockfiles")).unwrap();
        std::fs::write(dir.path().join("work/admit.toml"), "").unwrap();
        std::fs::write(dir.path().join("work/lockfiles/x.lock.json"), "{}").unwrap();
        let host = host(dir.path());
        (dir, host)
    }

    #[test]
    fn a_directory_must_be_trusted_and_unchanged() {
        let (dir, host) = directory();
        let refused = Root::find(&host, None, None).unwrap_err();
        assert_eq!(refused.reason(), Reason::RootNotTrusted);

        Root::trust(&host, &dir.path().join("work"), None).unwrap();
        let root = Root::find(&host, None, None).unwrap();
        assert_eq!(root.get("lockfiles/x.lock.json"), Some(&b"{}"[..]));

        std::fs::write(dir.path().join("work/lockfiles/x.lock.json"), "{ }").unwrap();
        let changed = Root::find(&host, None, None).unwrap_err();
        assert_eq!(changed.reason(), Reason::RootNotTrusted);
        assert!(changed.expected_value().is_some());
    }

    #[test]
    fn an_expected_digest_stands_in_for_trust() {
        let (dir, host) = directory();
        let digest = Root::read_untrusted(&host, &dir.path().join("work")).unwrap().digest();
        assert!(Root::find(&host, None, Some(&digest)).is_ok());
        assert!(Root::find(&host, None, Some(&Digest::sha256(b"other"))).is_err());
    }

    #[test]
    fn own_additions_keep_the_trust_and_nothing_else_does() {
        let (dir, host) = directory();
        let mut root = Root::trust(&host, &dir.path().join("work"), None).unwrap();
        root.put(&"admissions/builds/x.json".parse().unwrap(), b"1").unwrap();
        assert!(Root::find(&host, None, None).is_ok());
        std::fs::write(dir.path().join("work/lockfiles/y.lock.json"), "{}").unwrap();
        let refused = root.put(&"admissions/builds/x.json".parse().unwrap(), b"2").unwrap_err();
        assert_eq!(
            refused.reason(),
            Reason::RootNotTrusted,
            "the planted file must not ride along"
        );
        assert!(Root::find(&host, None, None).is_err());
    }

    #[test]
    fn a_killed_writer_leaves_a_trusted_root() {
        let (dir, host) = directory();
        let mut root = Root::trust(&host, &dir.path().join("work"), None).unwrap();
        // Killed after the record was written and before the list says so.
        let mut trust = load_trust(&root.trust_file).unwrap();
        let key = trust_key(&root.dir).unwrap();
        root.files.insert("lockfiles/y.lock.json".into(), b"{}".to_vec());
        trust.coming.insert(key.clone(), root.digest());
        write_atomic(&root.trust_file, &record::pretty(&trust), 0o600).unwrap();
        assert!(Root::find(&host, None, None).is_ok(), "nothing is written yet");
        std::fs::write(dir.path().join("work/lockfiles/y.lock.json"), "{}").unwrap();
        assert!(Root::find(&host, None, None).is_ok(), "it is written");
        std::fs::write(dir.path().join("work/lockfiles/y.lock.json"), "{ }").unwrap();
        assert!(Root::find(&host, None, None).is_err(), "that was not coming");
        std::fs::write(dir.path().join("work/lockfiles/y.lock.json"), "{}").unwrap();
        // What it left unfinished counts for nothing, and the next writer removes it.
        let left = dir.path().join("work").join(format!("{TEMPORARY}abc"));
        std::fs::write(&left, "half").unwrap();
        let mut root = Root::find(&host, None, None).unwrap();
        root.put(&"admissions/x.json".parse().unwrap(), b"1").unwrap();
        assert!(!left.exists());
        let trust = load_trust(&root.trust_file).unwrap();
        assert_eq!(trust.roots[&key], root.digest());
        assert!(trust.coming.is_empty());
        assert!(Root::find(&host, None, None).is_ok());
    }

    #[test]
    fn a_record_that_somebody_else_wrote_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        let path = "lockfiles/x.lock.json".parse().unwrap();
        let (mut one, mut other) =
            (Root::find(&host, None, None).unwrap(), Root::find(&host, None, None).unwrap());
        one.put(&path, b"1").unwrap();
        other.put(&path, b"1").unwrap();
        one.put(&path, b"2").unwrap();
        let refused = other.put(&path, b"3").unwrap_err();
        assert_eq!(refused.reason(), Reason::RecordChanged);
        assert_eq!(Root::find(&host, None, None).unwrap().get(path.as_str()), Some(&b"2"[..]));
    }

    #[test]
    fn links_do_not_belong_to_a_root() {
        let (dir, host) = directory();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("work/lockfiles/l.lock.json"))
            .unwrap();
        let err = Root::read_untrusted(&host, &dir.path().join("work")).unwrap_err();
        assert_eq!(err.reason(), Reason::BadRecord);
    }

    #[test]
    fn without_a_marker_the_embedded_records_hold() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::find(&host(dir.path()), None, None).unwrap();
        assert_eq!(root.origin, Origin::Embedded);
    }

    #[test]
    fn the_label_names_what_lies_over_the_embedded_records() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        let mut root = Root::find(&host, None, None).unwrap();
        assert!(!root.label().contains("over it"), "{}", root.label());
        root.put(&"lockfiles/x.lock.json".parse().unwrap(), b"1").unwrap();
        let over = format!("and before them 1 of your own in {}", root.dir.display());
        assert!(root.label().ends_with(&over), "{}", root.label());
        assert_eq!(Root::find(&host, None, None).unwrap().label(), root.label());
    }

    #[test]
    fn an_unknown_key_in_the_configuration_is_named_with_the_one_that_is_meant() {
        let read = |text: &str| parse_config(text.as_bytes(), Path::new("admit.toml")).unwrap_err();
        let err = read("[[mirror]]\nfrom='a'\nto='b'\nx=1");
        assert!(err.what().contains("unknown field `x`"), "{}", err.what());
        for (text, key) in [
            ("[[netwrok]]\nname='a'", "`network`"),
            ("[[network]]\nname='a'\nadresses=[]", "`addresses`"),
            ("[requires]", "`require`"),
            ("[cash]", "`cache`"),
            ("[cache]\nform=[]", "`from`"),
        ] {
            let err = read(text);
            assert!(err.hints()[0].contains(key), "{text}: {err:?}");
        }
        let err = read("[[network]]\nname='private'\naddresses=['10.0.0.0/8']");
        assert!(err.what().contains("built in"), "{}", err.what());
    }

    #[test]
    fn material_comes_from_the_nearest_layer_and_what_admits_from_the_root_alone() {
        let (dir, host) = directory();
        let none = Root::find(&host, Some(&dir.path().join("none")), None);
        assert!(none.is_err(), "a root that is not there");
        let elsewhere = Host::with(host.vars(), dir.path());
        let mut own = Root::find(&elsewhere, None, None).unwrap();
        own.put(&"lockfiles/mine.lock.json".parse().unwrap(), b"own").unwrap();
        own.put(&"lockfiles/x.lock.json".parse().unwrap(), b"own").unwrap();
        own.put(&"admissions/models/a--b.json".parse().unwrap(), b"own").unwrap();
        let before = Root::trust(&host, &dir.path().join("work"), None).unwrap().digest();
        let root = Root::find(&host, None, None).unwrap();
        assert_eq!(root.digest(), before, "material is no part of it");
        assert_eq!(root.get("lockfiles/x.lock.json"), Some(&b"{}"[..]));
        assert_eq!(root.get("lockfiles/mine.lock.json"), Some(&b"own"[..]));
        assert!(root.get("lockfiles/pytest.lock.json").is_some());
        assert!(root.get("fixtures/r1-string-slugify/fixture.json").is_some());
        assert_eq!(root.below("admissions/").count(), 0, "neither the user's nor admit's own");
        assert!(root.get("admissions/models/a--b.json").is_none());
        // A fixture of the root's own is never completed by another layer's files.
        let fixture = dir.path().join("work/fixtures/r1-string-slugify");
        std::fs::create_dir_all(&fixture).unwrap();
        std::fs::write(fixture.join("task.md"), "easy").unwrap();
        Root::trust(&host, &dir.path().join("work"), None).unwrap();
        let root = Root::find(&host, None, None).unwrap();
        assert_eq!(root.below("fixtures/r1-string-slugify/").count(), 1);
        // Where a pipeline names the digest, nothing of this user's own is added.
        let root = Root::find(&host, None, Some(&root.digest())).unwrap();
        assert!(root.get("lockfiles/mine.lock.json").is_none());
        assert!(root.get("lockfiles/pytest.lock.json").is_some());
    }
}
