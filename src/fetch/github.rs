//! Packages hosted on GitHub, for which the source's lock holds the digest of a tarball that GitHub makes of a commit.
//!
//! The tarball comes from GitHub, or, where the user names a mirror of the repository, is made here: `git archive`'s
//! bytes, written by this module, through GNU `gzip -n -6` (no other implementation of deflate gives the same bytes;
//! flate2's back ends were tried). The digest in the lock decides either way. A package that is a commit of any other
//! repository is such an archive too, uncompressed.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use super::Fetcher;
use super::archive::PACKAGE_BYTES;
use crate::bun::lockfile::{Package, SourceKind};
use crate::download::client::{HttpRequest, OnBytes};
use crate::error::{Error, Reason, Result};
use crate::git::object::{self, Item, Mode, Objects};
use crate::git::smart::Want;
use crate::record::ids::{Algorithm, CommitId, Digest};
use crate::store::StoredFile;

/// Where the API sends the reader of a tarball. No other redirect is followed.
const TARBALL_HOSTS: [&str; 2] = ["codeload.github.com", "api.github.com"];

/// Owner, repository, commit (as the source's lock abbreviates it) and the tarball's top directory of a package of the kind
/// `github:owner/repository#commit`: each is what GitHub allows, so that none can change an address or a path.
fn parts(package: &Package) -> Result<[&str; 4]> {
    let plain = |text: &str| {
        (1..=200).contains(&text.len())
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if let SourceKind::Github { owner, repo, reference } = &package.kind {
        let tag = package.bun_tag.as_deref().unwrap_or_default();
        let hex = (7..=40).contains(&reference.len())
            && reference.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if [owner, repo, tag].into_iter().all(plain) && hex {
            return Ok([owner, repo, reference, tag]);
        }
    }
    Err(Error::new(Reason::PackageKind, "a GitHub package that admit cannot fetch")
        .expected("github:owner/repository#commit, with 7 to 40 hex digits")
        .found(package.resolution.clone()))
}

impl Fetcher<'_> {
    pub(super) fn github(
        &self,
        package: &Package,
        integrity: Option<&Digest>,
        on_bytes: OnBytes<'_>,
    ) -> Result<StoredFile> {
        let [owner, repository, reference, _] = parts(package)?;
        let origin = format!("https://github.com/{owner}/{repository}.git");
        if let Some(place) = self.mirrors.rewrite(&origin) {
            return self.github_from_mirror(package, &origin, &place, integrity);
        }
        let url = format!("https://api.github.com/repos/{owner}/{repository}/tarball/{reference}");
        let url = self.mirrors.apply(&url);
        let mut request = HttpRequest::get(&url, PACKAGE_BYTES);
        request.redirect_hosts = &TARBALL_HOSTS;
        let algorithm = [integrity.map_or(Algorithm::Sha512, Digest::algorithm)];
        let writer = self
            .client
            .fetch(&request, || self.store.writer_with(&algorithm), on_bytes)
            .map_err(|err| {
            err.hint(format!("or name a mirror of {origin} in admit.toml or ADMIT_MIRROR"))
        })?;
        writer.finish_as(integrity, Algorithm::Sha512).map_err(|err| err.at(url.clone()))
    }

    /// Brings a commit of a repository into the store, as the tarball that `git archive --format=tar --prefix=COMMIT/
    /// COMMIT` writes: every object of it is hashed again, so that its id decides the bytes.
    ///
    /// # Errors
    /// [`Reason::Unreachable`], [`Reason::RevNotInRemote`] and the others of a source.
    pub(super) fn commit(&self, url: &str, commit: &CommitId) -> Result<StoredFile> {
        let place = self.mirrors.apply(url);
        let repository = self.repository(url, &place, Want::Commit(commit)).map_err(|err| {
            err.hint(format!("or name a mirror of {url} in admit.toml or ADMIT_MIRROR"))
        })?;
        let scratch = self.store.scratch()?;
        let at = scratch.path().join("tar");
        let mut tar = tar(repository.objects(), commit, commit.as_str(), &at)?;
        let mut writer = self.store.writer_with(&[Algorithm::Sha256])?;
        io::copy(&mut tar, &mut writer).map_err(|err| Error::io("read", &at, err))?;
        writer.finish_as(None, Algorithm::Sha256)
    }

    fn github_from_mirror(
        &self,
        package: &Package,
        origin: &str,
        place: &str,
        integrity: Option<&Digest>,
    ) -> Result<StoredFile> {
        let gzip = self.gzip.ok_or_else(gzip_missing)?;
        check_gnu(gzip)?;
        let [_, _, reference, tag] = parts(package)?;
        let full = reference.parse::<CommitId>().ok();
        let want = full.as_ref().map_or(Want::Everything, Want::Commit);
        let repository = self.repository(origin, place, want)?;
        let commit = match full {
            Some(commit) => commit,
            None => repository.resolve(reference)?,
        };
        let scratch = self.store.scratch()?;
        let tar = tar(repository.objects(), &commit, tag, &scratch.path().join("tar"))?;
        let algorithm = integrity.map_or(Algorithm::Sha512, Digest::algorithm);
        let mut writer = self.store.writer_with(&[algorithm])?;
        compress(gzip, tar, &mut |bytes| writer.append(bytes))?;
        writer.finish_as(integrity, Algorithm::Sha512).map_err(|err| {
            err.at(format!("{}, made from {place}", package.resolution))
                .hint("GNU gzip 1.6 or later is needed; a repository whose .gitattributes change its archive needs GitHub's own tarball")
        })
    }
}

fn gzip_missing() -> Error {
    Error::new(
        Reason::GnuGzipMissing,
        "a GitHub tarball can only be made from a mirror with GNU gzip",
    )
    .hint("install GNU gzip, or remove the mirror so that the tarball is fetched")
}

/// Whether what a gzip prints as its version is GNU's: other programs of that name (pigz, busybox, BSD) compress to other
/// bytes, or call themselves something else here.
pub fn is_gnu_gzip(version: &str) -> bool {
    version.starts_with("gzip ") && version.contains("Free Software Foundation")
}

fn check_gnu(gzip: &Path) -> Result<()> {
    let out = Command::new(gzip).arg("--version").env_clear().stdin(Stdio::null()).output();
    let text = out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    if is_gnu_gzip(&text) {
        return Ok(());
    }
    let found = text.lines().next().unwrap_or("nothing").chars().take(100).collect::<String>();
    Err(gzip_missing().at(gzip.display().to_string()).expected("GNU gzip").found(found))
}

/// Runs `gzip -n -6` over `data`. An empty environment: `GZIP` could hold other options.
fn compress(gzip: &Path, data: File, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let fail = |err| Error::io("run GNU gzip", gzip, err);
    let mut child = Command::new(gzip)
        .args(["-n", "-6"])
        .env_clear()
        .stdin(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(fail)?;
    let Some(mut stdout) = child.stdout.take() else {
        return Err(Error::new(Reason::Internal, "gzip without pipes"));
    };
    let mut buf = vec![0; 64 << 10];
    let copied = loop {
        match stdout.read(&mut buf).map_err(fail) {
            Ok(0) => break Ok(()),
            Ok(n) => match out(&buf[..n]) {
                Ok(()) => {}
                Err(err) => break Err(err),
            },
            Err(err) => break Err(err),
        }
    };
    if copied.is_err() {
        // Its pipe is closed; make sure that it is gone.
        let _ = child.kill();
    }
    let status = child.wait().map_err(fail)?;
    copied?;
    if !status.success() {
        return Err(Error::new(Reason::GnuGzipMissing, "GNU gzip failed")
            .at(gzip.display().to_string())
            .found(status.to_string()));
    }
    Ok(())
}

/// What `git archive --format=tar --prefix=<top>/ <commit>` writes with git's default settings (tar.umask 002), for a
/// tree without attributes that change an archive, in the new file `at`. Format: POSIX pax, and ustar as git fills it in.
fn tar(objects: &dyn Objects, id: &CommitId, top: &str, at: &Path) -> Result<File> {
    let commit = object::commit(objects, id)?;
    let io = |err| Error::io("write", at, err);
    let out = BufWriter::new(File::create_new(at).map_err(io)?);
    let mut tar = Tar { out, len: 0, time: commit.time.max(0) };
    let comment = pax_record("comment", id.as_str().as_bytes());
    tar.entry(b'g', b"pax_global_header", b"", 0o666, b"", &comment).map_err(io)?;
    tar.member(id.as_str(), format!("{top}/").as_bytes(), Kind::Dir).map_err(io)?;
    object::walk(objects, &commit.tree, &mut |path, oid, item| {
        let name = format!("{top}/{path}");
        let oid = oid.to_string();
        match item {
            Item::Dir | Item::Submodule => {
                tar.member(&oid, format!("{name}/").as_bytes(), Kind::Dir)
            }
            Item::Leaf(Mode::Link, target) => tar.member(&oid, name.as_bytes(), Kind::Link(target)),
            Item::Leaf(mode, data) => {
                let executable = mode == Mode::File { executable: true };
                tar.member(&oid, name.as_bytes(), Kind::File(executable, data))
            }
        }
        .map_err(io)?;
        if tar.len > PACKAGE_BYTES {
            return Err(
                Error::new(Reason::LimitHit, "a package is larger than any honest one").at(name)
            );
        }
        Ok(())
    })?;
    tar.finish().and_then(|()| File::open(at)).map_err(io)
}

struct Tar {
    out: BufWriter<File>,
    len: u64,
    time: i64,
}

enum Kind<'a> {
    Dir,
    Link(&'a [u8]),
    File(bool, &'a [u8]),
}

impl Tar {
    fn member(&mut self, oid: &str, path: &[u8], kind: Kind<'_>) -> io::Result<()> {
        let mut pax = Vec::new();
        let (type_, mode, mut link, data) = match kind {
            Kind::Dir => (b'5', 0o775, &b""[..], &b""[..]),
            Kind::Link(target) => (b'2', 0o777, target, &b""[..]),
            Kind::File(true, data) => (b'0', 0o775, &b""[..], data),
            Kind::File(false, data) => (b'0', 0o664, &b""[..], data),
        };
        let (mut name, mut prefix) = (path.to_vec(), &b""[..]);
        if path.len() > 100 {
            let at = prefix_len(path);
            if at > 0 && path.len() - at - 1 <= 100 {
                (name, prefix) = (path[at + 1..].to_vec(), &path[..at]);
            } else {
                name = format!("{oid}.data").into_bytes();
                pax.extend(pax_record("path", path));
            }
        }
        let long_link = format!("see {oid}.paxheader");
        if link.len() > 100 {
            pax.extend(pax_record("linkpath", link));
            link = long_link.as_bytes();
        }
        if !pax.is_empty() {
            let name = format!("{oid}.paxheader");
            self.entry(b'x', name.as_bytes(), b"", 0o666, b"", &pax)?;
        }
        self.entry(type_, &name, prefix, mode, link, data)
    }

    fn entry(
        &mut self,
        type_: u8,
        name: &[u8],
        prefix: &[u8],
        mode: u32,
        link: &[u8],
        data: &[u8],
    ) -> io::Result<()> {
        let mut h = [0; 512];
        let mut put = |at: usize, text: &[u8]| h[at..at + text.len()].copy_from_slice(text);
        put(0, name);
        put(100, format!("{mode:07o}").as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{:011o}", data.len()).as_bytes());
        put(136, format!("{:011o}", self.time).as_bytes());
        put(148, b"        ");
        put(156, &[type_]);
        put(157, link);
        put(257, b"ustar\0");
        put(263, b"00");
        put(265, b"root");
        put(297, b"root");
        put(329, b"0000000");
        put(337, b"0000000");
        put(345, prefix);
        let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
        h[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
        self.put(&h)?;
        self.put(data)?;
        self.fill(512)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.len += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Zeros up to a multiple of `size`, which is 10,240 at most.
    fn fill(&mut self, size: u64) -> io::Result<()> {
        let left = self.len.next_multiple_of(size) - self.len;
        self.put(&[0; 10_240][..usize::try_from(left).unwrap_or_default()])
    }

    /// Two empty records at least, in blocks of 10,240 bytes.
    fn finish(mut self) -> io::Result<()> {
        self.put(&[0; 1024])?;
        self.fill(10_240)?;
        self.out.flush()
    }
}

/// Where git splits a long path into prefix and name: the last slash within the prefix's 155 bytes that leaves a name.
fn prefix_len(path: &[u8]) -> usize {
    let mut i = path.len();
    if path.ends_with(b"/") {
        i -= 1;
    }
    i = i.min(155);
    loop {
        i -= 1;
        if i == 0 || path[i] == b'/' {
            return i;
        }
    }
}

/// One pax record, `<length> <key>=<value>\n`, whose length counts its own digits.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    let mut out = format!("{len} {key}=").into_bytes();
    out.extend(value);
    out.push(b'\n');
    out
}
