//! Strict unpacking of package tarballs (`.tar.gz`, and `.tar` for those that admit makes of a commit).
//!
//! Only regular files come out. What npm's format allows and Bun drops is dropped too where it is harmless: entries
//! directly at the root, empty directories, links that stay inside (Bun's extraction rules were measured; the installed
//! tree is compared with the names that this module lists). What no honest package holds is refused as
//! [`Reason::HostileArchive`]: `..`, absolute and non-UTF-8 names, links that lead out, devices and pipes, the same name
//! twice with different content (the same bytes twice is common: `package/a` and `package/./a`), a file where a directory
//! is, bytes after the end, and bombs.

use std::collections::HashSet;
use std::io::{self, BufRead as _, Read};

use flate2::bufread::GzDecoder;
use tar::EntryType;

use crate::error::{Error, Reason, Result};
use crate::record::ids::RelPath;
use crate::store::sink::Sink;

/// Largest tarball taken, in bytes. The largest package seen in a provider's lock has 40 MB.
pub(super) const PACKAGE_BYTES: u64 = 512 << 20;

#[derive(Clone, Copy, Debug)]
pub struct ArchiveLimits {
    pub entries: u64,
    /// Bytes of all files together.
    pub unpacked: u64,
    /// Unpacked bytes for each packed one; applies above [`ArchiveLimits::RATIO_FLOOR`].
    pub ratio: u64,
}

impl ArchiveLimits {
    /// Unpacked size up to which the ratio is not looked at: small files of zeros are common and harmless.
    pub const RATIO_FLOOR: u64 = 64 << 20;
}

impl Default for ArchiveLimits {
    /// The largest package seen in a provider's lock has some 6,000 files and 100 MB; a single deflate stream cannot
    /// exceed 1032:1 and source code stays below 20:1.
    fn default() -> Self {
        Self { entries: 200_000, unpacked: 2 << 30, ratio: 100 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top<'a> {
    /// Any name; Bun strips whatever an npm tarball has there.
    Any,
    /// Exactly this name: `owner-repository-commit` of a GitHub tarball. Bun 1.3 installs nothing and succeeds where
    /// it differs from the lock.
    Exactly(&'a str),
}

/// Unpacks the `.tar.gz` or `.tar` in `packed` (`packed_len` bytes) into `sink`. Returns the number of files.
///
/// `place` names the archive in errors.
///
/// # Errors
/// [`Reason::HostileArchive`], [`Reason::Truncated`] where the stream ends early or its checksum is wrong, and what the
/// sink fails with.
pub fn unpack(
    packed: impl Read,
    packed_len: u64,
    top: Top<'_>,
    limits: ArchiveLimits,
    place: &str,
    sink: &mut dyn Sink,
) -> Result<u64> {
    let budget = limits
        .unpacked
        .min(packed_len.saturating_mul(limits.ratio).max(ArchiveLimits::RATIO_FLOOR));
    // The tar headers and padding count too: 1 KiB an entry is more than they take.
    let stream_cap = budget.saturating_add(limits.entries.saturating_mul(1024));
    let mut packed = io::BufReader::with_capacity(64 << 10, packed);
    let start = packed.fill_buf().map_err(|err| broken(place, err))?;
    let mut reader =
        Unpacker { top, place, files: HashSet::new(), dirs: HashSet::new(), left: budget };
    if start.get(257..262) == Some(b"ustar") && !start.starts_with(&[0x1f, 0x8b]) {
        let rest = reader.archive(packed.take(stream_cap), limits, sink)?;
        only_zeros(rest, place)?;
    } else {
        let rest = reader.archive(GzDecoder::new(packed).take(stream_cap), limits, sink)?;
        finish(rest, place)?;
    }
    Ok(reader.files.len() as u64)
}

struct Unpacker<'a> {
    top: Top<'a>,
    place: &'a str,
    files: HashSet<String>,
    dirs: HashSet<String>,
    left: u64,
}

impl Unpacker<'_> {
    /// Takes every entry, and gives back the stream with what follows them.
    fn archive<R: Read>(
        &mut self,
        stream: R,
        limits: ArchiveLimits,
        sink: &mut dyn Sink,
    ) -> Result<R> {
        let place = self.place;
        let mut archive = tar::Archive::new(stream);
        let broken = |err| broken(place, err);
        let mut entries: u64 = 0;
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            entries += 1;
            if entries > limits.entries {
                let error = hostile(place, "too many entries");
                return Err(error.expected(format!("at most {}", limits.entries)));
            }
            self.entry(&mut entry, sink)?;
        }
        Ok(archive.into_inner())
    }

    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, sink: &mut dyn Sink) -> Result<()> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return self.global_header(entry);
        }
        let raw = entry.path_bytes().into_owned();
        let name = std::str::from_utf8(&raw).map_err(|_| {
            self.hostile("a name that is not UTF-8", &String::from_utf8_lossy(&raw))
        })?;
        let directory_name = name.ends_with('/');
        let path = self.path(name.trim_end_matches('/'))?;
        match kind {
            EntryType::Directory => Ok(()),
            // Old archives mark a directory by its name alone.
            EntryType::Regular if directory_name && entry.size() == 0 => Ok(()),
            EntryType::Regular if !directory_name => match path {
                Some(path) => self.file(entry, &path, sink),
                None => Ok(()),
            },
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let stays = std::str::from_utf8(&target).is_ok_and(|t| match kind {
                    EntryType::Symlink => stays_inside(name, t),
                    _ => !t.starts_with('/') && !t.split('/').any(|p| p == ".."),
                });
                if stays { Ok(()) } else { Err(self.hostile("a link that leads out", name)) }
            }
            _ => Err(self
                .hostile("an entry that is neither file, directory nor link", name)
                .found(format!("tar entry type {:?}", char::from(kind.as_byte())))),
        }
    }

    /// The path below the stripped first component, or `None` for the root itself and what lies directly in it. The
    /// name is checked as a whole all the same.
    fn path(&self, name: &str) -> Result<Option<RelPath>> {
        let bad = |what: &str| self.hostile(what, name);
        if name.starts_with('/') {
            return Err(bad("an absolute name"));
        }
        if name.split('/').any(|part| part == "..") {
            return Err(bad("a name with .."));
        }
        let (first, rest) = name.split_once('/').unwrap_or((name, ""));
        if let Top::Exactly(want) = self.top
            && first != want
        {
            return Err(bad("another top directory than the lock names")
                .expected(want)
                .found(first));
        }
        // Real packages have `package/./dist/index.js`; only after cleaning can duplicates be told.
        let parts: Vec<&str> = rest.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
        if parts.is_empty() {
            return Ok(None);
        }
        parts.join("/").parse().map(Some).map_err(|_| bad("a name that is not a clean path"))
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        path: &RelPath,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let text = path.as_str();
        for (at, _) in text.match_indices('/') {
            let parent = &text[..at];
            if self.files.contains(parent) {
                return Err(self.hostile("a file where a directory is", parent));
            }
            if !self.dirs.contains(parent) {
                self.dirs.insert(parent.to_owned());
            }
        }
        if self.dirs.contains(text) {
            return Err(self.hostile("a file where a directory is", text));
        }
        let size = entry.size();
        self.left = self
            .left
            .checked_sub(size)
            .ok_or_else(|| self.hostile("a bomb: it unpacks to far more than it packs", text))?;
        let mode = entry.header().mode().map_err(|err| broken(self.place, err))?;
        let mode = (mode | 0o644) & 0o755;
        let mut data = Counted { inner: entry, left: size };
        if self.files.insert(text.to_owned()) {
            return sink.file(path, mode, size, &mut data);
        }
        if sink.again(path, mode, size, &mut data)? {
            return Ok(());
        }
        Err(self.hostile("the same name twice with different content", text))
    }

    /// `git archive` writes the commit as a comment. Anything else here would change later entries.
    fn global_header<R: Read>(&self, entry: &mut tar::Entry<'_, R>) -> Result<()> {
        let mut text = Vec::new();
        entry.take(4096).read_to_end(&mut text).map_err(|err| broken(self.place, err))?;
        let comment_only = tar::PaxExtensions::new(&text)
            .all(|field| field.is_ok_and(|f| f.key_bytes() == b"comment"));
        if comment_only {
            Ok(())
        } else {
            Err(self.hostile("a global header that changes later entries", "pax_global_header"))
        }
    }

    fn hostile(&self, what: &str, name: &str) -> Error {
        hostile(self.place, what)
            .found(name.chars().take(200).collect::<String>().escape_debug().to_string())
    }
}

/// A reader that knows a short read from an end: tar's entry reader ends quietly when the stream does.
struct Counted<'a, R> {
    inner: &'a mut R,
    left: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        if n == 0 && self.left > 0 && !buf.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}

/// Whether a symbolic link at `name` with this target stays below the archive's first component.
fn stays_inside(name: &str, target: &str) -> bool {
    let mut depth = name.split('/').count() as i64 - 2;
    if target.starts_with('/') {
        return false;
    }
    target.split('/').all(|part| {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        depth >= 0
    })
}

/// Reads to the end: the rest of the tar stream is zeros, the gzip checksum holds, and nothing follows but zeros.
fn finish<R: io::BufRead>(rest: io::Take<GzDecoder<R>>, place: &str) -> Result<()> {
    let mut packed = only_zeros(rest, place)?.into_inner();
    zeros(&mut packed, place, "bytes after the end of the compressed stream")
}

/// Reads to the end of the stream, which is zeros and below its cap.
fn only_zeros<R: Read>(mut rest: io::Take<R>, place: &str) -> Result<R> {
    zeros(&mut rest, place, "bytes after the end of the archive")?;
    match rest.limit() {
        0 => Err(hostile(place, "a bomb: it unpacks to far more than it packs")),
        _ => Ok(rest.into_inner()),
    }
}

fn zeros(rest: &mut impl Read, place: &str, what: &str) -> Result<()> {
    let mut buf = [0; 8192];
    loop {
        match rest.read(&mut buf).map_err(|err| broken(place, err))? {
            0 => return Ok(()),
            n if buf[..n].iter().any(|b| *b != 0) => return Err(hostile(place, what)),
            _ => {}
        }
    }
}

fn hostile(place: &str, what: &str) -> Error {
    Error::new(
        Reason::HostileArchive,
        format!("the archive holds what no honest package has: {what}"),
    )
    .at(place)
}

fn broken(place: &str, err: io::Error) -> Error {
    match err.downcast::<Error>() {
        Ok(own) => own,
        Err(err) => Error::new(Reason::Truncated, "the archive is cut off or damaged")
            .at(place)
            .caused_by(err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sink::{DirSink, Listing};
    use std::io::Write as _;

    fn header(kind: u8, name: &str, link: &str, size: u64, mode: u32) -> [u8; 512] {
        let mut h = tar::Header::new_ustar();
        let fields = h.as_mut_bytes();
        fields[..name.len()].copy_from_slice(name.as_bytes());
        fields[157..157 + link.len()].copy_from_slice(link.as_bytes());
        h.set_entry_type(EntryType::new(kind));
        h.set_size(size);
        h.set_mode(mode);
        h.set_cksum();
        *h.as_bytes()
    }

    /// A tar stream written by hand: a library would refuse to write most of what is tested here.
    fn tar(entries: &[(u8, &str, &str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, name, link, data) in entries {
            out.extend(header(*kind, name, link, data.len() as u64, 0o4711));
            out.extend(*data);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        out.resize(out.len() + 1024, 0);
        out
    }

    fn gz(data: &[u8]) -> Vec<u8> {
        let mut z = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        z.write_all(data).unwrap();
        z.finish().unwrap()
    }

    fn list_gz(packed: &[u8], top: Top<'_>) -> Result<Listing> {
        let mut out = Listing::default();
        unpack(packed, packed.len() as u64, top, ArchiveLimits::default(), "t.tgz", &mut out)?;
        Ok(out)
    }

    fn list(entries: &[(u8, &str, &str, &[u8])]) -> Result<Listing> {
        list_gz(&gz(&tar(entries)), Top::Any)
    }

    fn reason(entries: &[(u8, &str, &str, &[u8])]) -> Reason {
        list(entries).unwrap_err().reason()
    }

    fn write(entries: &[(u8, &str, &str, &[u8])]) -> Result<u64> {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let (packed, mut sink) = (gz(&tar(entries)), DirSink::new(&root, "t"));
        let len = packed.len() as u64;
        unpack(&packed[..], len, Top::Any, ArchiveLimits::default(), "t", &mut sink)
    }

    #[test]
    fn the_same_file_twice_is_taken_once() {
        // Seen in real packages: `pnpm pack` of 2023 named the main file a second time, as `package/./dist/index.js`.
        let twice = [(b'0', "p/d/a", "", &b"same"[..]), (b'0', "p/./d/a", "", b"same")];
        assert_eq!(write(&twice).unwrap(), 1);
        for other in [&b"sam"[..], b"samf", b"same+"] {
            let twice = [twice[0], (b'0', "p/d/a", "", other)];
            assert_eq!(write(&twice).unwrap_err().reason(), Reason::HostileArchive);
        }
    }

    #[test]
    fn takes_files_and_drops_what_bun_drops() {
        let got = list(&[
            (b'5', "package/", "", b""),
            (b'0', "package/a", "", b"1"),
            (b'0', "other/./b//c", "", b"22"),
            (b'0', "at-root", "", b"333"),
            (b'2', "package/link", "a", b""),
            (b'2', "package/d/link", "../a", b""),
            (b'1', "package/hard", "package/a", b""),
            (b'5', "package/empty/", "", b""),
        ]);
        let want = [("a", (1, 0o755)), ("b/c", (2, 0o755))];
        assert_eq!(got.unwrap().0, want.map(|(k, v)| (k.to_owned(), v)).into());
    }

    #[test]
    fn hostile_entries_are_refused() {
        for entry in [
            (b'0', "package/../x", "", &b"x"[..]),
            (b'0', "../x", "", b"x"),
            (b'0', "package/a/../../../x", "", b"x"),
            (b'0', "/etc/x", "", b"x"),
            (b'5', "package/../../x/", "", b""),
            (b'0', "package/a\\..\\b", "", b"x"),
            (b'2', "package/l", "/etc/passwd", b""),
            (b'2', "package/l", "../../x", b""),
            (b'2', "package/d/l", "../../..", b""),
            (b'1', "package/l", "/etc/passwd", b""),
            (b'1', "package/l", "package/../../x", b""),
            (b'3', "package/dev", "", b""),
            (b'4', "package/dev", "", b""),
            (b'6', "package/pipe", "", b""),
            (b'7', "package/contiguous", "", b"x"),
            (b'g', "pax", "", b"16 path=a/b/c/d\n"),
        ] {
            assert_eq!(reason(&[entry]), Reason::HostileArchive, "{entry:?}");
        }
        let x = &b"x"[..];
        let y = &b"y"[..];
        let pairs = [
            ("p/a", "p/a"),
            ("p/a", "q/a"),
            ("p/a", "p/./a"),
            ("p/b/a", "p/b//a"),
            ("p/a", "p/a/b"),
            ("p/a/b", "p/a"),
        ];
        for (one, two) in pairs {
            let both = [(b'0', one, "", x), (b'0', two, "", y)];
            assert_eq!(write(&both).unwrap_err().reason(), Reason::HostileArchive, "{both:?}");
        }
        let mut latin = tar(&[(b'0', "package/aX", "", x)]);
        latin[9] = 0xe4;
        let mut header = tar::Header::from_byte_slice(&latin[..512]).clone();
        header.set_cksum();
        latin[..512].copy_from_slice(header.as_bytes());
        assert_eq!(list_gz(&gz(&latin), Top::Any).unwrap_err().reason(), Reason::HostileArchive);
    }

    #[test]
    fn a_pax_path_is_checked_like_any_other() {
        let pax = b"27 path=package/../../evil\n";
        let hidden = [(b'x', "pax", "", &pax[..]), (b'0', "package/good", "", b"x")];
        assert_eq!(reason(&hidden), Reason::HostileArchive);
    }

    #[test]
    fn the_top_directory_of_a_github_tarball_is_the_locked_one() {
        let comment = format!("52 comment={:040x}\n", 0xf8a7c69);
        let packed = gz(&tar(&[
            (b'g', "pax_global_header", "", comment.as_bytes()),
            (b'0', "o-r-f8a7c69/a", "", b"1"),
        ]));
        assert!(list_gz(&packed, Top::Exactly("o-r-f8a7c69")).is_ok());
        let err = list_gz(&packed, Top::Exactly("o-r-0000000")).unwrap_err();
        assert_eq!(err.reason(), Reason::HostileArchive);
        assert_eq!(err.found_value(), Some("o-r-f8a7c69"));
    }

    #[test]
    fn cut_off_or_altered_streams_are_refused() {
        let whole = gz(&tar(&[(b'0', "p/a", "", &[7; 5000]), (b'0', "p/b", "", &[9; 9000])]));
        for len in 0..whole.len() {
            assert!(list_gz(&whole[..len], Top::Any).is_err(), "cut at {len}");
        }
        for at in 10..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x40;
            assert!(list_gz(&bad, Top::Any).is_err(), "flipped byte {at}");
        }
        let mut more = whole.clone();
        more.extend(&whole);
        assert_eq!(list_gz(&more, Top::Any).unwrap_err().reason(), Reason::HostileArchive);
        let mut padded = whole.clone();
        padded.extend([0; 512]);
        assert!(list_gz(&padded, Top::Any).is_ok());
        let mut inner = tar(&[(b'0', "p/a", "", b"x")]);
        inner.extend([1; 512]);
        assert_eq!(list_gz(&gz(&inner), Top::Any).unwrap_err().reason(), Reason::HostileArchive);
    }

    #[test]
    fn bombs_are_refused_before_they_unpack() {
        // 100 MB of zeros in 100 kB; the sink must not see it.
        let zeros = vec![0; 100 << 20];
        assert_eq!(reason(&[(b'0', "p/zeros", "", &zeros)]), Reason::HostileArchive);
        // A header that claims more than all limits, without the data.
        let mut lie = header(b'0', "p/a", "", 3 << 30, 0o644).to_vec();
        lie.resize(4096, 0);
        assert_eq!(list_gz(&gz(&lie), Top::Any).unwrap_err().reason(), Reason::HostileArchive);
        let many: Vec<_> = (0..50).map(|i| format!("p/{i}")).collect();
        let many: Vec<_> = many.iter().map(|n| (b'0', n.as_str(), "", &b""[..])).collect();
        let packed = gz(&tar(&many));
        let limits = ArchiveLimits { entries: 49, ..ArchiveLimits::default() };
        let err = unpack(&packed[..], 100, Top::Any, limits, "t", &mut Listing::default());
        assert_eq!(err.unwrap_err().reason(), Reason::HostileArchive);
    }

    #[test]
    fn files_are_written_with_their_modes_below_the_directory_only() {
        use std::os::unix::fs::{MetadataExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let packed = gz(&tar(&[(b'0', "p/d/e/a", "", b"abc"), (b'0', "p/d/b", "", b"")]));
        let root = std::fs::File::open(dir.path()).unwrap();
        let go = |sink: &mut DirSink<'_>| {
            unpack(&packed[..], packed.len() as u64, Top::Any, ArchiveLimits::default(), "t", sink)
        };
        assert_eq!(go(&mut DirSink::new(&root, "x")).unwrap(), 2);
        assert_eq!(std::fs::read(dir.path().join("d/e/a")).unwrap(), b"abc");
        let mode = |p: &str| dir.path().join(p).metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode("d/e/a"), mode("d/e")), (0o755, 0o755));
        // What is there is not overwritten, and a link put there is not followed.
        assert!(go(&mut DirSink::new(&root, "x")).is_err());
        std::fs::remove_dir_all(dir.path().join("d")).unwrap();
        symlink(outside.path(), dir.path().join("d")).unwrap();
        assert!(go(&mut DirSink::new(&root, "x")).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
