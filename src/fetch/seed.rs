//! Seed: verified tarballs become a package cache for one build of Bun, so that its install asks for nothing.
//!
//! Bun checks nothing that it finds in its cache. So each tarball is unpacked from the very bytes that were hashed, and
//! what every file holds is remembered for the comparison after the install ([`crate::bun::install`]).

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use blake3::Hash;
use rustix::fs::AtFlags;

use super::archive::{ArchiveLimits, Top, unpack};
use super::installed::{Seeded, Untouched};
use super::packages::Tarball;
use super::parallel::each;
use crate::bun::cache::{self, CacheEntry, TAG_FILE};
use crate::bun::lockfile::{Package, Required, SourceKind};
use crate::bun::manifest;
use crate::bun::tree::File;
use crate::error::{Error, Reason, Result};
use crate::record::ids::{Digest, RelPath};
use crate::sandbox::Owner;
use crate::store::sink::{DirSink, Sink, source_error};
use crate::store::{Positioned, open_dir};

/// Unpacks the tarball of each of `packages`, found in `tarballs` by its digest, below `cache` (an empty directory;
/// `place` names it in errors). With `owner` everything is made as the payload would make it. Uses all processors.
///
/// # Errors
/// [`Reason::HostileArchive`], [`Reason::Truncated`], [`Reason::Io`], [`Reason::DiskFull`];
/// [`Reason::DigestMismatch`] where two rows give one name and version different tarballs; those of [`cache::entry`].
pub fn seed(
    cache: &impl AsFd,
    place: &str,
    owner: Option<Owner>,
    packages: &[Required<'_>],
    tarballs: &BTreeMap<Digest, Tarball>,
) -> Result<Seeded> {
    let mut jobs = jobs(packages, tarballs)?;
    // The largest first: the last one to end decides.
    jobs.sort_by_key(|job| std::cmp::Reverse(job.tarball.size()));
    let cache = cache.as_fd();
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(8);
    // Whom files belong to is a matter of each thread.
    let begin = || owner.map(Owner::enter).transpose();
    let done = each(threads, &jobs, begin, |job| job.run(cache, place))?;
    let mut seeded = Seeded::default();
    for (job, done) in jobs.iter().zip(done) {
        seeded.bytes += done.bytes;
        seeded.known.extend(done.known);
        seeded.by_dir.insert(job.entry.dir.as_str().to_owned(), done.files);
    }
    seeded.doubt_the_last();
    Ok(seeded)
}

struct Job<'a> {
    package: &'a Package,
    entry: CacheEntry,
    tarball: &'a Tarball,
}

fn jobs<'a>(
    packages: &[Required<'a>],
    tarballs: &'a BTreeMap<Digest, Tarball>,
) -> Result<Vec<Job<'a>>> {
    let mut jobs: BTreeMap<String, Job<'a>> = BTreeMap::new();
    for Required { package, digest } in packages {
        let entry = cache::entry(package)?;
        let tarball = tarballs.get(digest).ok_or_else(|| {
            Error::new(Reason::Internal, format!("no tarball for package \"{}\"", package.key))
                .at(package.place.as_str())
                .expected(digest.to_sri())
        })?;
        let dir = entry.dir.as_str().to_owned();
        let job = jobs.entry(dir).or_insert(Job { package, entry, tarball });
        if job.tarball.digest() != digest {
            return Err(Error::new(
                Reason::DigestMismatch,
                format!("{} {} has two integrities", package.name, package.resolution),
            )
            .at(package.place.as_str())
            .expected(job.tarball.digest().to_sri())
            .found(digest.to_sri()));
        }
    }
    Ok(jobs.into_values().collect())
}

#[derive(Default)]
struct Done {
    files: Vec<File>,
    known: Vec<(Untouched, Hash)>,
    bytes: u64,
}

impl Job<'_> {
    fn run(&self, cache: BorrowedFd<'_>, place: &str) -> Result<Done> {
        let dir = &self.entry.dir;
        let place = format!("{place}/{dir}");
        DirSink::new(&cache, place.as_str()).dir(dir)?;
        let root = open_below(cache, dir).map_err(|err| Error::io("open", &place, err.into()))?;
        let mut sink = Recorder {
            inner: DirSink::new(&root, place.as_str()),
            root: root.as_fd(),
            place: &place,
            done: Done::default(),
            manifest: None,
        };
        let top = match self.package.kind {
            SourceKind::Github { .. } | SourceKind::Git => {
                Top::Exactly(self.entry.tag.as_deref().unwrap_or_default())
            }
            _ => Top::Any,
        };
        let name = format!("{} {}", self.package.name, self.package.resolution);
        self.tarball.read(|file| {
            let packed = Positioned { file, at: 0 };
            unpack(packed, self.tarball.size(), top, ArchiveLimits::default(), &name, &mut sink)
        })?;
        manifest::require_same(self.package, sink.manifest.as_deref())?;
        if let Some(tag) = &self.entry.tag {
            let path: RelPath = TAG_FILE.parse().map_err(|_| {
                Error::new(Reason::Internal, "the tag's name is not a path").at(TAG_FILE)
            })?;
            sink.file(&path, 0o644, tag.len() as u64, &mut tag.as_bytes())?;
        }
        Ok(sink.done)
    }
}

fn open_below(root: BorrowedFd<'_>, path: &RelPath) -> rustix::io::Result<OwnedFd> {
    path.parts().try_fold(open_dir(root, ".")?, open_dir)
}

struct Recorder<'a> {
    inner: DirSink<'a>,
    root: BorrowedFd<'a>,
    place: &'a str,
    done: Done,
    /// The package's own `package.json`, as far as one is read.
    manifest: Option<Vec<u8>>,
}

impl Sink for Recorder<'_> {
    fn file(&mut self, path: &RelPath, mode: u32, size: u64, data: &mut dyn Read) -> Result<()> {
        let mut whole;
        let data: &mut dyn Read = if path.as_str() == "package.json" {
            let mut kept = Vec::new();
            Read::take(&mut *data, manifest::LARGEST as u64)
                .read_to_end(&mut kept)
                .map_err(|err| source_error(&format!("{}/{path}", self.place), err))?;
            self.manifest = Some(kept.clone());
            whole = io::Cursor::new(kept).chain(data);
            &mut whole
        } else {
            data
        };
        let mut hashing = Hashing::new(data);
        self.inner.file(path, mode, size, &mut hashing)?;
        let (digest, unix, bytes) = hashing.finish();
        let stat = rustix::fs::statat(self.root, path.as_str(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|err| Error::io("look at", format!("{}/{path}", self.place), err.into()))?;
        self.done.bytes += bytes;
        self.done.known.push((Untouched::of(&stat), digest));
        let executable = mode & 0o111 != 0;
        self.done.files.push(File { path: path.as_str().to_owned(), executable, digest, unix });
        Ok(())
    }

    fn again(&mut self, path: &RelPath, mode: u32, size: u64, data: &mut dyn Read) -> Result<bool> {
        self.inner.again(path, mode, size, data)
    }
}

/// Hashes what it passes on; a file that starts with a `#!` line ending in `\r\n` also without that `\r`.
struct Hashing<'a> {
    inner: &'a mut dyn Read,
    whole: blake3::Hasher,
    bytes: u64,
    line: Line,
}

enum Line {
    /// The bytes of the first line so far.
    Open(Vec<u8>),
    /// Rewritten: everything so far without the `\r`.
    Unix(Box<blake3::Hasher>),
    Other,
}

/// Longest `#!` line that is looked at, in bytes; the kernel takes 256, Bun reads 1,024.
const LINE_BYTES: usize = 1024;

impl<'a> Hashing<'a> {
    fn new(inner: &'a mut dyn Read) -> Self {
        Self { inner, whole: blake3::Hasher::new(), bytes: 0, line: Line::Open(Vec::new()) }
    }

    fn take(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.whole.update(data);
        match &mut self.line {
            Line::Other => {}
            Line::Unix(hasher) => drop(hasher.update(data)),
            Line::Open(line) => {
                line.extend_from_slice(data);
                let end = line.iter().take(LINE_BYTES).position(|b| *b == b'\n');
                let script = line.starts_with(&b"#!"[..line.len().min(2)]);
                self.line = match end {
                    Some(end) if script && end > 0 && line[end - 1] == b'\r' => {
                        let mut hasher = Box::new(blake3::Hasher::new());
                        hasher.update(&line[..end - 1]).update(&line[end..]);
                        Line::Unix(hasher)
                    }
                    None if script && line.len() < LINE_BYTES => return,
                    _ => Line::Other,
                };
            }
        }
    }

    fn finish(self) -> (Hash, Option<Hash>, u64) {
        let unix = match self.line {
            Line::Unix(hasher) => Some(hasher.finalize()),
            _ => None,
        };
        (self.whole.finalize(), unix, self.bytes)
    }
}

impl Read for Hashing<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.take(&buf[..n]);
        Ok(n)
    }
}

pub(super) fn digests(data: &mut dyn Read) -> io::Result<(Hash, Option<Hash>)> {
    let mut hashing = Hashing::new(data);
    io::copy(&mut hashing, &mut io::sink())?;
    let (digest, unix, _) = hashing.finish();
    Ok((digest, unix))
}

#[cfg(test)]
mod tests {
    use super::super::installed;
    use super::*;
    use crate::bun::install::{Difference, What};
    use crate::bun::lockfile::BunLock;
    use crate::host::tests::tar_gz;
    use crate::record::ids::Algorithm;
    use crate::store::Store;
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::Path;

    /// Gives one byte at a time, as a reader may.
    struct Slowly<'a>(&'a [u8]);
    impl Read for Slowly<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(&mut buf[..1])
        }
    }

    #[test]
    fn a_scripts_first_line_is_known_however_its_bytes_come() {
        let long = format!("#!{}\r\nx", "a".repeat(LINE_BYTES));
        // The end of this one is the last byte that is looked at.
        let longest = format!("#!{}\r\nx", "a".repeat(LINE_BYTES - 4));
        let unix_of_longest = longest.replacen('\r', "", 1);
        for (text, unix) in [
            ("#!/bin/sh\r\nx\r\n", Some("#!/bin/sh\nx\r\n")),
            ("#!/bin/sh\nx", None),
            ("#/bin/sh\r\nx", None),
            ("x\r\n", None),
            ("#!\r", None),
            ("\nx", None),
            ("\r\nx", None),
            (longest.as_str(), Some(unix_of_longest.as_str())),
            (long.as_str(), None),
        ] {
            let of = |inner: &mut dyn Read| {
                let mut hashing = Hashing::new(inner);
                io::copy(&mut hashing, &mut io::sink()).unwrap();
                hashing.finish()
            };
            let at_once = of(&mut text.as_bytes());
            assert_eq!(at_once.1, unix.map(|unix| blake3::hash(unix.as_bytes())), "{text:.20}");
            assert_eq!(of(&mut Slowly(text.as_bytes())), at_once, "{text:.20}");
            assert_eq!(at_once.2, text.len() as u64);
        }
    }

    fn tarball(top: &str, files: &[(&str, u32, &str)]) -> Vec<u8> {
        let names: Vec<_> = files.iter().map(|(path, ..)| format!("{top}/{path}")).collect();
        let all = names
            .iter()
            .zip(files)
            .map(|(name, (_, mode, text))| (&**name, *mode, text.as_bytes()));
        tar_gz(&all.collect::<Vec<_>>())
    }

    fn required(lock: &BunLock) -> Vec<Required<'_>> {
        lock.require_strong(lock.packages.values(), &BTreeMap::new()).unwrap()
    }

    /// A source with four packages, its seeded cache, and the tree that Bun makes of them.
    struct Build {
        dir: tempfile::TempDir,
        lock: BunLock,
        tarballs: BTreeMap<Digest, Tarball>,
        seeded: Seeded,
    }

    const GITHUB: &str = "o-r-abc1234";

    impl Build {
        fn new() -> Self {
            Self::with(GITHUB).unwrap()
        }

        fn with(top: &str) -> Result<Self> {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("store")).unwrap();
            let mut tarballs = BTreeMap::new();
            let mut sri = |top: &str, files: &[(&str, u32, &str)]| {
                let file = store.put(&tarball(top, files), Algorithm::Sha512).unwrap();
                let digest = file.digest().clone();
                tarballs.insert(digest.clone(), Tarball::open(file).unwrap());
                digest.to_sri()
            };
            let b2 = r#"{"name":"@s/b","version":"2.0.0"}"#;
            let a = [
                ("package.json", 0o644, r#"{"name":"a","version":"1.0.0"}"#),
                ("bin/a.js", 0o644, "#!/x\r\ny\r\n"),
            ];
            let b1 = [
                ("package.json", 0o644, r#"{"name":"@s/b","version":"1.0.0"}"#),
                ("b.sh", 0o755, "#!/bin/sh\n"),
            ];
            let text = format!(
                r#"{{"lockfileVersion": 1, "workspaces": {{"": {{"dependencies": {{"a": "1", "@s/b": "1", "g": "1"}}}}}},
                "packages": {{
                    "@s/b": ["@s/b@1.0.0", "", {{}}, "{}"],
                    "a": ["a@1.0.0", "", {{"dependencies": {{"@s/b": "2"}}, "bin": {{"a": "./bin/a.js", "gone": "x"}}}}, "{}"],
                    "a/@s/b": ["@s/b@2.0.0", "", {{"bin": "c.js"}}, "{}"],
                    "g": ["g@github:o/r#abc1234", {{}}, "{GITHUB}", "{}"]}}}}"#,
                sri("package", &b1),
                sri("package", &a),
                sri("package", &[("c.js", 0o644, "2"), ("package.json", 0o644, b2)]),
                sri(top, &[("index.js", 0o644, "g")]),
            );
            let lock = BunLock::parse(text.as_bytes(), "bun.lock").unwrap();
            std::fs::create_dir(dir.path().join("cache")).unwrap();
            std::fs::create_dir(dir.path().join("source")).unwrap();
            let cache = std::fs::File::open(dir.path().join("cache")).unwrap();
            let seeded = seed(&cache, "cache", None, &required(&lock), &tarballs)?;
            let build = Self { seeded, lock, tarballs, dir };
            build.install();
            Ok(build)
        }

        fn at(&self, path: &str) -> std::path::PathBuf {
            self.dir.path().join("source/node_modules").join(path)
        }

        /// As Bun does with `--backend=hardlink`.
        fn install(&self) {
            for (from, to) in [
                ("@s/b@1.0.0@@@1/package.json", "@s/b/package.json"),
                ("@s/b@1.0.0@@@1/b.sh", "@s/b/b.sh"),
                ("a@1.0.0@@@1/package.json", "a/package.json"),
                ("@s/b@2.0.0@@@1/c.js", "a/node_modules/@s/b/c.js"),
                ("@s/b@2.0.0@@@1/package.json", "a/node_modules/@s/b/package.json"),
                ("@GH@o-r-abc1234@@@1/index.js", "g/index.js"),
                ("@GH@o-r-abc1234@@@1/.bun-tag", "g/.bun-tag"),
            ] {
                let from = self.dir.path().join("cache").join(from);
                let to = self.at(to);
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::hard_link(from, to).unwrap();
            }
            self.write("a/bin/a.js", "#!/x\ny\r\n");
            self.link(".bin/a", "../a/bin/a.js");
            self.link("a/node_modules/.bin/b", "../@s/b/c.js");
            for path in ["a/bin/a.js", "a/node_modules/@s/b/c.js"] {
                std::fs::set_permissions(self.at(path), Permissions::from_mode(0o777)).unwrap();
            }
        }

        fn write(&self, path: &str, text: &str) {
            std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
            std::fs::write(self.at(path), text).unwrap();
        }

        fn link(&self, path: &str, to: &str) {
            std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
            symlink(to, self.at(path)).unwrap();
        }

        fn differences(&self) -> Vec<Difference> {
            let source = std::fs::File::open(self.dir.path().join("source")).unwrap();
            installed::differences(
                &source,
                "source",
                &self.lock,
                &required(&self.lock),
                &self.seeded,
                crate::record::lockfile::Linker::Hoisted,
            )
            .unwrap()
        }

        fn after(&self, change: impl FnOnce(&dyn Fn(&str) -> std::path::PathBuf)) -> Vec<String> {
            change(&|path| self.at(path));
            let short = |one: Difference| format!("{} {}", one.what.as_str(), one.path);
            self.differences().into_iter().map(short).collect()
        }
    }

    #[test]
    fn a_cache_has_the_verified_files_in_buns_places() {
        let build = Build::new();
        assert_eq!(build.differences(), []);
        let files: usize = build.seeded.by_dir.values().map(Vec::len).sum();
        assert_eq!((files, build.seeded.by_dir.len()), (8, 4));
        let unpacked = build.seeded.by_dir.iter().flat_map(|(dir, files)| {
            files.iter().map(move |file| Path::new("cache").join(dir).join(&file.path))
        });
        let bytes = unpacked.map(|path| build.dir.path().join(path).metadata().unwrap().len());
        assert_eq!(build.seeded.bytes, bytes.sum::<u64>());
        let cache = build.dir.path().join("cache");
        let tag = std::fs::read_to_string(cache.join("@GH@o-r-abc1234@@@1/.bun-tag")).unwrap();
        assert_eq!(tag, GITHUB);
        let mode = cache.join("@s/b@1.0.0@@@1/b.sh").metadata().unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o755);
        // An empty cache: nothing is written over.
        let cache = std::fs::File::open(cache).unwrap();
        let required = required(&build.lock);
        assert!(seed(&cache, "cache", None, &required, &build.tarballs).is_err());
    }

    #[test]
    fn the_last_written_files_are_read_again_and_the_others_are_known() {
        let build = Build::new();
        let cache = build.dir.path().join("cache");
        let paths = build.seeded.by_dir.iter().flat_map(|(dir, files)| {
            files.iter().map(|file| cache.join(dir).join(file.path.as_str())).collect::<Vec<_>>()
        });
        let files: Vec<_> = paths.map(|path| rustix::fs::stat(&path).unwrap()).collect();
        let written = |stat: &rustix::fs::Stat| (stat.st_mtime, stat.st_mtime_nsec);
        let last = files.iter().map(written).max().unwrap();
        for stat in &files {
            let known = build.seeded.known.contains_key(&Untouched::of(stat));
            assert_eq!(known, written(stat) != last);
        }
    }

    #[test]
    fn another_top_directory_of_a_github_tarball_is_refused_before_bun_sees_it() {
        let err = Build::with("o-r-0000000").err().unwrap();
        assert_eq!(err.reason(), Reason::HostileArchive);
    }

    /// Seeds a cache with a package `a` of version 1.0.0 whose tarball has these files.
    fn seeded(files: &[(&str, &str)]) -> Result<Seeded> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, 0o644, *text)).collect();
        let packed = tarball("package", &files);
        let file = store.put(&packed, Algorithm::Sha512).unwrap();
        let sri = file.digest().to_sri();
        let text = format!(
            r#"{{"lockfileVersion": 1, "workspaces": {{"": {{"dependencies": {{"a": "1"}}}}}},
                "packages": {{"a": ["a@1.0.0", "", {{}}, "{sri}"]}}}}"#
        );
        let lock = BunLock::parse(text.as_bytes(), "bun.lock").unwrap();
        let tarballs = BTreeMap::from([(file.digest().clone(), Tarball::open(file).unwrap())]);
        std::fs::create_dir(dir.path().join("cache")).unwrap();
        let cache = std::fs::File::open(dir.path().join("cache")).unwrap();
        seed(&cache, "cache", None, &required(&lock), &tarballs)
    }

    #[test]
    fn a_tarball_of_another_package_is_refused() {
        for manifest in
            [r#"{"name":"evil","version":"1.0.0"}"#, r#"{"name":"a","version":"1.0.1"}"#]
        {
            let err = seeded(&[("package.json", manifest)]).unwrap_err();
            assert_eq!(err.reason(), Reason::InstallMismatch, "{manifest}");
        }
    }

    #[test]
    fn a_file_that_stands_twice_in_a_tarball_must_be_the_same() {
        let manifest = ("package.json", r#"{"name":"a","version":"1.0.0"}"#);
        let twice = |second| seeded(&[manifest, ("a.js", "1"), ("a.js", second)]);
        assert_eq!(twice("1").unwrap().by_dir.values().map(Vec::len).sum::<usize>(), 2);
        assert_eq!(twice("2").unwrap_err().reason(), Reason::HostileArchive);
    }

    #[test]
    fn what_is_missing_is_found() {
        let gone = |path: &Path| std::fs::remove_dir_all(path).unwrap();
        assert_eq!(Build::new().after(|at| gone(&at("g"))), ["missing package node_modules/g"]);
        assert_eq!(
            Build::new().after(|at| gone(&at("a/node_modules"))),
            [
                "missing package node_modules/a/node_modules/@s/b",
                "missing node_modules/a/node_modules/.bin/b"
            ]
        );
        let one = Build::new().after(|at| std::fs::remove_file(at("g/.bun-tag")).unwrap());
        assert_eq!(one, ["missing node_modules/g/.bun-tag"]);
        let one = Build::new().after(|at| std::fs::remove_file(at(".bin/a")).unwrap());
        assert_eq!(one, ["missing node_modules/.bin/a"]);
        assert_eq!(Build::new().after(|at| gone(&at(""))).len(), 6);
    }

    #[test]
    fn what_is_too_much_is_found() {
        let build = Build::new();
        build.write("evil/index.js", "x");
        build.write("@s/evil/index.js", "x");
        build.write("a/evil.js", "x");
        build.write("a/node_modules/evil/x.js", "x");
        build.link(".bin/evil", "../a/evil.js");
        build.link("linked", "/etc");
        assert_eq!(
            build.after(|_| ()),
            [
                "extra package node_modules/@s/evil",
                "extra package node_modules/a/node_modules/evil",
                "extra package node_modules/evil",
                "extra package node_modules/linked",
                "extra node_modules/.bin/evil",
                "extra node_modules/a/evil.js",
            ]
        );
    }

    #[test]
    fn what_is_changed_is_found() {
        let changed = |path: &str, change: &dyn Fn(&Path)| {
            let found = Build::new().after(|at| change(&at(path)));
            assert_eq!(found, [format!("changed node_modules/{path}")], "{path}");
        };
        let write = |path: &Path| std::fs::write(path, "evil").unwrap();
        // In place: the file in the cache changes with it.
        for path in ["a/package.json", "@s/b/b.sh", "g/.bun-tag", "a/bin/a.js"] {
            changed(path, &write);
        }
        // The same length, at once.
        changed("g/index.js", &|path| std::fs::write(path, "h").unwrap());
        for (path, to) in [("g/index.js", "../a/package.json"), (".bin/a", "../../../evil")] {
            changed(path, &|path| {
                std::fs::remove_file(path).unwrap();
                symlink(to, path).unwrap();
            });
        }
        for mode in [0o644, 0o4755] {
            changed("@s/b/b.sh", &|path| {
                std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            });
        }
        changed("g/index.js", &|path| {
            std::fs::remove_file(path).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o644))
                .unwrap();
        });
    }

    #[test]
    fn a_copy_with_the_same_bytes_is_the_same() {
        let build = Build::new();
        let path = build.at("a/package.json");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(build.differences(), []);
    }

    #[test]
    fn links_in_place_of_directories_are_not_followed() {
        let build = Build::new();
        let away = build.dir.path().join("away");
        std::fs::rename(build.at("g"), &away).unwrap();
        symlink(&away, build.at("g")).unwrap();
        let all = build.differences();
        assert!(all.iter().any(|d| d.what == What::MissingPackage && d.path == "node_modules/g"));
        std::fs::rename(build.at(""), away.with_extension("all")).unwrap();
        symlink(away.with_extension("all"), build.dir.path().join("source/node_modules")).unwrap();
        assert!(build.differences().len() >= 6);
    }
}
