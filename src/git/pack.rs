//! Packs, read with bounds: what a mirror, a server or an agent wrote decides neither how long nor how much memory.
//!
//! - Every size is compared with [`PackLimits`] before a byte of it is inflated: the size in an entry's head, and the size of
//!   a delta's result. What is inflated and put together is charged to a [`Budget`] that grows with the pack's own size,
//!   so a small pack cannot ask for much work, however its deltas are chained or name each other.
//! - A chain of deltas is followed to git's own greatest depth. In a pack that came over the network every entry is
//!   resolved once, from its base up, so a delta that names itself is never reached and the pack counts as damaged.
//! - Offsets of an index are only places to look at; each object is hashed again by the reader.
//! - No `unsafe`, no recursion, no allocation of a size that was not charged. A fault is a value, and never a panic.
//!
//! Why not libgit2: on such packs it runs for ever, allocates what a delta says, or crashes. Here too they are read in a
//! process of its own, confined to the objects ([`super::confined`], and the run's reader): bounds that the kernel holds
//! behind those that this module holds.
//!
//! Formats: git's `gitformat-pack`; index of version 2 only, which git writes since 1.5.2.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use flate2::bufread::ZlibDecoder;
use sha1_checked::{Digest as _, Sha1};

use super::id::{ObjectKind, Oid};
use crate::store::Positioned;

/// Longest chain of deltas; git writes 50, and cannot write more than this.
const DEPTH: usize = 4095;
/// Bytes after the last entry, and before the first.
const TRAILER: u64 = 20;
/// What an object costs besides its bytes: about what is read of a file at once.
const ENTRY: u64 = 4096;
/// What looking a name up in one index costs.
const LOOKUP: u64 = 512;
const HEADER: u64 = 12;

/// What reading a repository may take, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct PackLimits {
    /// Largest single object.
    pub object: u64,
    /// Of all that is inflated and put together,
    pub work: u64,
    /// and so many more for each byte of a pack or loose object.
    pub per_byte: u64,
}

/// What is left of [`PackLimits`].
#[derive(Debug)]
pub(super) struct Budget {
    limits: PackLimits,
    left: Cell<u64>,
}

#[derive(Debug)]
pub(super) enum Fault {
    Damaged(String),
    Limit(&'static str),
}

impl Fault {
    fn damaged(what: &str) -> Self {
        Self::Damaged(what.to_owned())
    }
}

impl From<io::Error> for Fault {
    fn from(err: io::Error) -> Self {
        Self::Damaged(err.to_string())
    }
}

type Result<T> = std::result::Result<T, Fault>;

impl Budget {
    pub(super) fn new(limits: PackLimits) -> Self {
        Self { limits, left: Cell::new(limits.work) }
    }

    /// Allows the work that `bytes` on disk may honestly make.
    pub(super) fn grant(&self, bytes: u64) {
        let more = bytes.saturating_mul(self.limits.per_byte);
        self.left.set(self.left.get().saturating_add(more));
    }

    pub(super) fn charge(&self, size: u64) -> Result<()> {
        if size > self.limits.object {
            return Err(Fault::Limit("an object is larger than allowed"));
        }
        self.spend(size + ENTRY)
    }

    fn spend(&self, cost: u64) -> Result<()> {
        let left = self.left.get().checked_sub(cost);
        self.left.set(left.ok_or(Fault::Limit("the objects are larger than allowed"))?);
        Ok(())
    }
}

/// Exactly `size` bytes, charged before they are read, and the end of the stream after them.
pub(super) fn whole(stream: &mut impl Read, size: u64, budget: &Budget) -> Result<Vec<u8>> {
    budget.charge(size)?;
    let mut data = room(size)?;
    stream.take(size + 1).read_to_end(&mut data)?;
    if data.len() as u64 == size { Ok(data) } else { Err(Fault::damaged("not as long as it says")) }
}

/// Room for what was charged, without any to spare.
fn room(size: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    // One more: a reader looks for the end, and would double what it has.
    match out.try_reserve_exact(size.saturating_add(1)) {
        Ok(()) => Ok(out),
        Err(_) => Err(Fault::Limit("an object needs more memory than there is")),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Base {
    At(u64),
    Named(Oid),
}

enum What {
    Whole(ObjectKind),
    Delta(Base),
}

struct Entry {
    what: What,
    size: u64,
    /// Where its zlib stream begins.
    data: u64,
}

enum Index {
    /// Git's file beside the pack, and how many objects it lists.
    Beside(File, u64),
    /// Made here, sorted.
    Made(Vec<(Oid, u64)>),
}

pub struct Pack {
    file: File,
    len: u64,
    index: Index,
}

impl Pack {
    /// A pack with git's index of it.
    pub(super) fn open(file: File, index: File) -> Result<Self> {
        let mut head = [0; 8 + 1024];
        index.read_exact_at(&mut head, 0)?;
        if !head.starts_with(b"\xfftOc\0\0\0\x02") {
            return Err(Fault::damaged("an index that is not of version 2"));
        }
        let count = head.last_chunk().map_or(0, |raw| u64::from(u32::from_be_bytes(*raw)));
        let len = file.metadata()?.len();
        Ok(Self { file, len, index: Index::Beside(index, count) })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// A pack without index: checks all of it and makes one.
    pub(super) fn index(file: File, limits: PackLimits) -> Result<Self> {
        let budget = Budget::new(limits);
        let len = file.metadata()?.len();
        budget.grant(len);
        let mut pack = Self { file, len, index: Index::Made(Vec::new()) };
        let count = pack.check()?;
        let (mut found, mut roots) = (Vec::new(), Vec::new());
        let mut waiting: HashMap<Base, Vec<u64>> = HashMap::new();
        let mut at = HEADER;
        for _ in 0..count {
            let entry = pack.entry(at)?;
            let (data, used) = pack.inflate(&entry, &budget)?;
            match entry.what {
                What::Whole(kind) => {
                    found.push((Oid::of(kind, &data), at));
                    roots.push(kind);
                }
                What::Delta(base) => {
                    budget.charge(sizes(&mut data.as_slice())?.1)?;
                    waiting.entry(base).or_default().push(at);
                }
            }
            at = entry.data + used;
        }
        if at != len - TRAILER {
            return Err(Fault::damaged("a pack with something after its objects"));
        }
        for ((id, at), kind) in found.clone().into_iter().zip(roots) {
            let mut next = children(&mut waiting, id, at);
            if next.is_empty() {
                continue;
            }
            let data = Rc::new(pack.inflate(&pack.entry(at)?, &budget)?.0);
            let mut held = data.len() as u64;
            let mut todo: Vec<_> = next.drain(..).map(|at| (Rc::clone(&data), at)).collect();
            drop(data);
            while let Some((base, at)) = todo.pop() {
                let delta = pack.inflate(&pack.entry(at)?, &budget)?.0;
                let data = apply(&base, &delta)?;
                if let Some(last) = Rc::into_inner(base) {
                    held -= last.len() as u64;
                }
                let id = Oid::of(kind, &data);
                found.push((id, at));
                let next = children(&mut waiting, id, at);
                if !next.is_empty() {
                    held += data.len() as u64;
                    let data = Rc::new(data);
                    todo.extend(next.into_iter().map(|at| (Rc::clone(&data), at)));
                }
                // Each base is kept as long as something waits for it.
                if held > limits.object.saturating_mul(2) {
                    return Err(Fault::Limit("its deltas need too much memory at once"));
                }
            }
        }
        if !waiting.is_empty() {
            return Err(Fault::damaged("a delta without its base"));
        }
        found.sort_unstable();
        pack.index = Index::Made(found);
        Ok(pack)
    }

    /// Head and checksum; gives the number of objects.
    fn check(&self) -> Result<u32> {
        let mut head = [0; HEADER as usize];
        self.file.read_exact_at(&mut head, 0)?;
        if !head.starts_with(b"PACK\0\0\0\x02") && !head.starts_with(b"PACK\0\0\0\x03") {
            return Err(Fault::damaged("not a pack"));
        }
        let end = self.len.checked_sub(TRAILER).filter(|end| *end >= HEADER);
        let end = end.ok_or(Fault::damaged("a pack that is too short"))?;
        let (mut hash, mut buf) = (Sha1::new(), vec![0; 128 << 10]);
        let mut rest = self.from(0).take(end);
        loop {
            match rest.read(&mut buf)? {
                0 => break,
                n => hash.update(&buf[..n]),
            }
        }
        let mut trailer = [0; TRAILER as usize];
        self.file.read_exact_at(&mut trailer, end)?;
        if hash.finalize()[..] != trailer {
            return Err(Fault::damaged("not the pack that its checksum says"));
        }
        Ok(head.last_chunk().map_or(0, |raw| u32::from_be_bytes(*raw)))
    }

    fn from(&self, at: u64) -> Positioned<'_> {
        Positioned { file: &self.file, at }
    }

    fn entry(&self, at: u64) -> Result<Entry> {
        let outside = || Fault::damaged("an offset outside of the pack");
        if at < HEADER || at.checked_add(TRAILER).is_none_or(|end| end >= self.len) {
            return Err(outside());
        }
        // 10 bytes of size and 20 of a base's name at most.
        let mut head = Vec::new();
        self.from(at).take(32).read_to_end(&mut head)?;
        let mut rest = head.as_slice();
        let mut byte = || -> Result<u64> {
            let (first, more) = rest.split_first().ok_or(Fault::damaged("a cut head"))?;
            rest = more;
            Ok(u64::from(*first))
        };
        let first = byte()?;
        let mut size = first & 15;
        let (mut shift, mut next) = (4, first);
        while next & 0x80 != 0 {
            next = byte()?;
            if shift > 57 {
                return Err(Fault::damaged("an absurd size"));
            }
            size |= (next & 0x7f) << shift;
            shift += 7;
        }
        let what = match (first >> 4) & 7 {
            1 => What::Whole(ObjectKind::Commit),
            2 => What::Whole(ObjectKind::Tree),
            3 => What::Whole(ObjectKind::Blob),
            4 => What::Whole(ObjectKind::Tag),
            6 => {
                let mut next = byte()?;
                let mut back = next & 0x7f;
                while next & 0x80 != 0 {
                    next = byte()?;
                    back =
                        back.checked_add(1).and_then(|b| b.checked_mul(128)).ok_or_else(outside)?;
                    back |= next & 0x7f;
                }
                let base = at.checked_sub(back).filter(|base| *base < at).ok_or_else(outside)?;
                What::Delta(Base::At(base))
            }
            7 => {
                let (raw, more) = rest.split_first_chunk().ok_or(Fault::damaged("a cut head"))?;
                rest = more;
                What::Delta(Base::Named(Oid(*raw)))
            }
            _ => return Err(Fault::damaged("an entry of no known type")),
        };
        Ok(Entry { what, size, data: at + (head.len() - rest.len()) as u64 })
    }

    /// The content of an entry (of a delta, its instructions), and how many bytes of the file that took.
    fn inflate(&self, entry: &Entry, budget: &Budget) -> Result<(Vec<u8>, u64)> {
        // A stream may go on for ever without giving a byte; an honest one is hardly longer than what it gives.
        let input = self.from(entry.data).take(entry.size.saturating_mul(2).saturating_add(1024));
        let mut stream = ZlibDecoder::new(BufReader::with_capacity(4096, input));
        let data = whole(&mut stream, entry.size, budget)?;
        Ok((data, stream.total_in()))
    }

    /// The object at `at`, put together from all it is a delta of.
    pub(super) fn read(&self, mut at: u64, budget: &Budget) -> Result<(ObjectKind, Vec<u8>)> {
        let mut chain = Vec::new();
        let (kind, base) = loop {
            let entry = self.entry(at)?;
            let base = match entry.what {
                What::Whole(kind) => break (kind, entry),
                What::Delta(base) => base,
            };
            if chain.len() == DEPTH {
                return Err(Fault::Limit("a chain of deltas is longer than git makes them"));
            }
            chain.push(entry);
            at = match base {
                Base::At(at) => at,
                Base::Named(id) => {
                    self.find(id, budget)?.ok_or(Fault::damaged("a delta without its base"))?
                }
            };
        };
        let mut data = self.inflate(&base, budget)?.0;
        while let Some(entry) = chain.pop() {
            let delta = self.inflate(&entry, budget)?.0;
            budget.charge(sizes(&mut delta.as_slice())?.1)?;
            data = apply(&data, &delta)?;
        }
        Ok((kind, data))
    }

    fn count(&self) -> u64 {
        match &self.index {
            Index::Beside(_, count) => *count,
            Index::Made(list) => list.len() as u64,
        }
    }

    fn id(&self, nth: u64) -> Result<Oid> {
        match &self.index {
            Index::Beside(file, _) => {
                let mut raw = [0; 20];
                file.read_exact_at(&mut raw, 8 + 1024 + 20 * nth)?;
                Ok(Oid(raw))
            }
            Index::Made(list) => {
                let at = usize::try_from(nth).ok().and_then(|nth| list.get(nth));
                at.map(|(id, _)| *id).ok_or(Fault::damaged("past the index"))
            }
        }
    }

    fn offset(&self, nth: u64) -> Result<u64> {
        match &self.index {
            Index::Beside(file, count) => {
                let (mut short, mut long) = ([0; 4], [0; 8]);
                file.read_exact_at(&mut short, 8 + 1024 + 24 * count + 4 * nth)?;
                let short = u64::from(u32::from_be_bytes(short));
                if short >> 31 == 0 {
                    return Ok(short);
                }
                let nth = short & 0x7fff_ffff;
                file.read_exact_at(&mut long, 8 + 1024 + 28 * count + 8 * nth)?;
                Ok(u64::from_be_bytes(long))
            }
            Index::Made(list) => {
                let at = usize::try_from(nth).ok().and_then(|nth| list.get(nth));
                at.map(|(_, at)| *at).ok_or(Fault::damaged("past the index"))
            }
        }
    }

    /// The first place in the index whose name is not below `id`.
    fn first(&self, id: Oid) -> Result<u64> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let mid = low + (high - low) / 2;
            if self.id(mid)? < id {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        Ok(low)
    }

    pub(super) fn find(&self, id: Oid, budget: &Budget) -> Result<Option<u64>> {
        budget.spend(LOOKUP)?;
        let at = self.first(id)?;
        if at < self.count() && self.id(at)? == id { self.offset(at).map(Some) } else { Ok(None) }
    }

    /// Up to `most` objects whose names begin with these hex digits.
    pub(super) fn named(&self, prefix: &str, most: usize) -> Result<Vec<Oid>> {
        let mut raw = [0; 20];
        let padded = format!("{prefix:0<40}");
        hex::decode_to_slice(padded, &mut raw).map_err(|err| Fault::Damaged(err.to_string()))?;
        let mut out = Vec::new();
        for nth in self.first(Oid(raw))?..self.count() {
            let id = self.id(nth)?;
            if out.len() == most || !id.to_string().starts_with(prefix) {
                break;
            }
            out.push(id);
        }
        Ok(out)
    }
}

/// Takes out what waits for the object of this name at this place.
fn children(waiting: &mut HashMap<Base, Vec<u64>>, id: Oid, at: u64) -> Vec<u64> {
    let mut out = waiting.remove(&Base::At(at)).unwrap_or_default();
    out.extend(waiting.remove(&Base::Named(id)).unwrap_or_default());
    out
}

fn broken() -> Fault {
    Fault::damaged("a delta that does not fit its base")
}

fn byte(rest: &mut &[u8]) -> Result<usize> {
    let (first, more) = rest.split_first().ok_or_else(broken)?;
    *rest = more;
    Ok(usize::from(*first))
}

/// What a delta begins with: the sizes of its base and of its result.
fn sizes(rest: &mut &[u8]) -> Result<(u64, u64)> {
    let mut size = || -> Result<u64> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let next = byte(rest)? as u64;
            if shift > 56 {
                return Err(broken());
            }
            value |= (next & 0x7f) << shift;
            shift += 7;
            if next & 0x80 == 0 {
                return Ok(value);
            }
        }
    };
    Ok((size()?, size()?))
}

/// Carries out a delta's instructions; the size of its result was charged.
fn apply(base: &[u8], delta: &[u8]) -> Result<Vec<u8>> {
    let mut rest = delta;
    let (from, to) = sizes(&mut rest)?;
    if from != base.len() as u64 {
        return Err(broken());
    }
    let mut out = room(to)?;
    while !rest.is_empty() {
        let op = byte(&mut rest)?;
        let piece = if op & 0x80 == 0 {
            let (piece, more) = rest.split_at_checked(op).ok_or_else(broken)?;
            rest = more;
            piece
        } else {
            let mut number = |bits: usize, count: usize| -> Result<usize> {
                let mut value = 0;
                for i in (0..count).filter(|i| bits & (1 << i) != 0) {
                    value |= byte(&mut rest)? << (8 * i);
                }
                Ok(value)
            };
            let (at, len) = (number(op, 4)?, number(op >> 4, 3)?);
            let len = if len == 0 { 0x1_0000 } else { len };
            base.get(at..at + len).ok_or_else(broken)?
        };
        // An instruction of no length is reserved, and would make work that nothing pays for.
        if piece.is_empty() || out.len() as u64 + piece.len() as u64 > to {
            return Err(broken());
        }
        out.extend_from_slice(piece);
    }
    if out.len() as u64 == to { Ok(out) } else { Err(broken()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use super::*;
    use crate::host::tests::git;

    const LIMITS: PackLimits = PackLimits { object: 1 << 20, work: 16 << 20, per_byte: 256 };

    /// The pack and the index that git makes of a file with a history.
    fn packed(dir: &Path, by_offset: bool) -> (Vec<u8>, Vec<u8>) {
        let git = |args: &[&str]| git(dir, args);
        git(&["init", "-q"]);
        let lines: Vec<String> = (0..200).map(|n| format!("line {}\n", n * n * 7919)).collect();
        for n in 0..12 {
            std::fs::write(dir.join("a"), lines[n * 3..150 + n].concat()).unwrap();
            git(&["add", "a"]);
            git(&["commit", "-q", "-m", "m"]);
        }
        git(&["config", "repack.useDeltaBaseOffset", if by_offset { "true" } else { "false" }]);
        git(&["repack", "-q", "-a", "-d", "-f"]);
        let of = |end: &str| {
            let mut files = std::fs::read_dir(dir.join(".git/objects/pack")).unwrap().flatten();
            let file = files.find(|f| f.path().extension().is_some_and(|e| e == end)).unwrap();
            std::fs::read(file.path()).unwrap()
        };
        (of("pack"), of("idx"))
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn gits_own_pack_reads_as_git_indexed_it() {
        for by_offset in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (bytes, index) = packed(dir.path(), by_offset);
            let made = Pack::index(file(&bytes), LIMITS).unwrap();
            let beside = Pack::open(file(&bytes), file(&index)).unwrap();
            assert_eq!(made.count(), beside.count());
            let mut deltas = 0;
            for nth in 0..made.count() {
                let (id, at) = (made.id(nth).unwrap(), made.offset(nth).unwrap());
                assert_eq!((id, at), (beside.id(nth).unwrap(), beside.offset(nth).unwrap()));
                assert_eq!(beside.find(id, &Budget::new(LIMITS)).unwrap(), Some(at));
                assert_eq!(beside.named(&id.to_string()[..12], 9).unwrap(), [id]);
                let (kind, data) = beside.read(at, &Budget::new(LIMITS)).unwrap();
                assert_eq!(Oid::of(kind, &data), id);
                let base = match made.entry(at).unwrap().what {
                    What::Delta(base) => base,
                    What::Whole(_) => continue,
                };
                deltas += 1;
                assert_eq!(matches!(base, Base::At(_)), by_offset);
            }
            assert!(deltas > 5, "{deltas}");
        }
    }

    #[test]
    fn a_pack_with_another_bit_is_another_pack_or_a_fault() {
        for by_offset in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (bytes, index) = packed(dir.path(), by_offset);
            let whole = Pack::index(file(&bytes), LIMITS).unwrap();
            let end = bytes.len() - 20;
            for at in 0..end {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                let sum = Sha1::digest(&changed[..end]);
                changed[end..].copy_from_slice(&sum);
                if let Ok(pack) = Pack::index(file(&changed), LIMITS) {
                    // What is taken although a bit changed is whole: as many objects, each of its own name.
                    assert_eq!(pack.count(), whole.count(), "byte {at}");
                    for nth in (0..pack.count()).step_by(5) {
                        let read = pack.read(pack.offset(nth).unwrap(), &Budget::new(LIMITS));
                        let (kind, data) = read.unwrap();
                        assert_eq!(Oid::of(kind, &data), pack.id(nth).unwrap(), "byte {at}");
                    }
                }
                let pack = Pack::open(file(&changed), file(&index)).unwrap();
                for nth in (0..pack.count()).step_by(5) {
                    let offset = pack.offset(nth).unwrap();
                    let _ = pack.read(offset, &Budget::new(LIMITS));
                }
            }
            for at in (8..index.len()).step_by(3) {
                let mut changed = index.clone();
                changed[at] ^= 0x80;
                let pack = Pack::open(file(&bytes), file(&changed)).unwrap();
                for nth in (0..whole.count()).step_by(5) {
                    let found = pack.find(whole.id(nth).unwrap(), &Budget::new(LIMITS));
                    let _ = found.map(|at| at.map(|at| pack.read(at, &Budget::new(LIMITS))));
                }
            }
        }
    }
}
