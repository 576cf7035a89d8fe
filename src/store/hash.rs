//! Several digests over one read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use blake3::hazmat::{self, ChainingValue, HasherExt as _};
use sha2::Digest as _;

use crate::record::ids::{Algorithm, Digest};

/// Bytes taken at a time: large enough that the calls do not count, small enough to stay in the cache.
const BUFFER: usize = 1 << 20;
/// Files from this size are hashed by several threads; below it, starting them costs more than it saves.
const LARGE: u64 = 2 * PART;
/// Bytes that one thread takes at a time of a large file's BLAKE3 tree. A power of two, so each part is a subtree.
const PART: u64 = 4 << 20;
/// Buffers on their way between the reader and the hashing threads.
const QUEUE: usize = 4;

/// Running hashes of one stream of bytes, one for each algorithm asked for.
pub struct Hashes {
    size: u64,
    list: Vec<Hash>,
}

enum Hash {
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
    Blake3(Box<blake3::Hasher>),
}

impl Hashes {
    pub fn new(algorithms: &[Algorithm]) -> Self {
        let start = |algorithm| match algorithm {
            Algorithm::Sha256 => Hash::Sha256(sha2::Sha256::new()),
            Algorithm::Sha384 => Hash::Sha384(sha2::Sha384::new()),
            Algorithm::Sha512 => Hash::Sha512(sha2::Sha512::new()),
            Algorithm::Blake3 => Hash::Blake3(Box::new(blake3::Hasher::new())),
        };
        Self { size: 0, list: distinct(algorithms).into_iter().map(start).collect() }
    }

    pub fn update(&mut self, data: &[u8]) {
        self.size += data.len() as u64;
        for hash in &mut self.list {
            match hash {
                Hash::Sha256(hash) => hash.update(data),
                Hash::Sha384(hash) => hash.update(data),
                Hash::Sha512(hash) => hash.update(data),
                Hash::Blake3(hash) => drop(hash.update(data)),
            }
        }
    }

    pub fn finish(self) -> Digests {
        let end = |hash| match hash {
            Hash::Sha256(hash) => Digest::from_bytes(Algorithm::Sha256, &hash.finalize()),
            Hash::Sha384(hash) => Digest::from_bytes(Algorithm::Sha384, &hash.finalize()),
            Hash::Sha512(hash) => Digest::from_bytes(Algorithm::Sha512, &hash.finalize()),
            Hash::Blake3(hash) => Digest::from_bytes(Algorithm::Blake3, hash.finalize().as_bytes()),
        };
        // The length is the algorithm's own, so none is left out.
        Digests { size: self.size, list: self.list.into_iter().filter_map(end).collect() }
    }

    /// Reads `from` to its end and hashes what came, whatever its length.
    pub fn read(from: &mut dyn Read, algorithms: &[Algorithm]) -> io::Result<Digests> {
        let mut hashes = Self::new(algorithms);
        let mut buffer = vec![0; BUFFER];
        loop {
            match read_some(from, &mut buffer)? {
                0 => return Ok(hashes.finish()),
                n => hashes.update(&buffer[..n]),
            }
        }
    }
}

impl Hashes {
    /// Hashes a whole file from its start, whatever its position, by as many threads as help. Every byte is read once.
    /// Errors: what reading gives; `UnexpectedEof` where the file became shorter meanwhile.
    pub fn of_file(file: &File, algorithms: &[Algorithm]) -> io::Result<Digests> {
        let size = file.metadata()?.len();
        let wanted = distinct(algorithms);
        match wanted.as_slice() {
            [Algorithm::Blake3] if size >= LARGE => {
                let list = vec![blake3_of(file, size)?];
                // What was appended meanwhile is not hashed, so it must not pass.
                if file.read_at(&mut [0], size)? != 0 {
                    return Err(io::Error::other("the file grew while it was read"));
                }
                Ok(Digests { size, list })
            }
            [_, _, ..] if size >= LARGE => side_by_side(file, &wanted),
            _ => Self::read(&mut Positioned { file, at: 0 }, &wanted),
        }
    }
}

/// What one read gives, however often a signal comes first.
pub(super) fn read_some(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn distinct(algorithms: &[Algorithm]) -> Vec<Algorithm> {
    let mut out = algorithms.to_vec();
    out.sort();
    out.dedup();
    out
}

/// A file read by position, so that the position it is shared by stays.
pub(crate) struct Positioned<'a> {
    pub(crate) file: &'a File,
    pub(crate) at: u64,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// One thread for each algorithm; this one reads, each buffer once for all of them.
fn side_by_side(file: &File, algorithms: &[Algorithm]) -> io::Result<Digests> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = algorithms
            .iter()
            .map(|algorithm| {
                let (give, take) = sync_channel::<Arc<Vec<u8>>>(QUEUE);
                let mut hashes = Hashes::new(&[*algorithm]);
                let worker = scope.spawn(move || {
                    for part in take {
                        hashes.update(&part);
                    }
                    hashes.finish()
                });
                (give, worker)
            })
            .collect();
        // More buffers than can be under way, so that the oldest is always free again when its turn comes.
        let mut pool: Vec<_> = (0..QUEUE + 3).map(|_| Arc::new(vec![0; BUFFER])).collect();
        let mut from = Positioned { file, at: 0 };
        let mut turn = 0;
        loop {
            let slot = &mut pool[turn];
            turn = (turn + 1) % (QUEUE + 3);
            if Arc::get_mut(slot).is_none() {
                *slot = Arc::new(Vec::new());
            }
            let Some(buffer) = Arc::get_mut(slot) else { continue };
            buffer.resize(BUFFER, 0);
            let n = read_some(&mut from, buffer)?;
            if n == 0 {
                break;
            }
            buffer.truncate(n);
            for (give, _) in &workers {
                give.send(Arc::clone(slot)).map_err(|_| lost_thread())?;
            }
        }
        let mut all = Digests { size: from.at, list: Vec::new() };
        for (give, worker) in workers {
            drop(give);
            all.list.extend(worker.join().map_err(|_| lost_thread())?.list);
        }
        Ok(all)
    })
}

fn lost_thread() -> io::Error {
    io::Error::other("a hashing thread ended early")
}

/// BLAKE3 of `size` bytes by all cores. BLAKE3 is a binary tree over the input (BLAKE3 paper, section 2.1), so parts
/// can be read and hashed apart and merged; the result is the ordinary hash.
fn blake3_of(file: &File, size: u64) -> io::Result<Digest> {
    let parts = size.div_ceil(PART) as usize;
    let done = Mutex::new(vec![None; parts]);
    let next = AtomicUsize::new(0);
    let worker = || -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                return Ok(());
            }
            let start = part as u64 * PART;
            let end = (start + PART).min(size);
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset(start);
            let mut at = start;
            while at < end {
                let most = ((end - at) as usize).min(BUFFER);
                file.read_exact_at(&mut buffer[..most], at)?;
                hasher.update(&buffer[..most]);
                at += most as u64;
            }
            let value = hasher.finalize_non_root();
            done.lock().map_err(|_| lost_thread())?[part] = Some(value);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(parts);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let mine = worker();
        let rest = others.into_iter().map(|t| t.join().map_err(|_| lost_thread())?);
        rest.fold(mine, io::Result::and)
    })?;
    let values: Option<Vec<_>> =
        done.into_inner().map_err(|_| lost_thread())?.into_iter().collect();
    let values = values.ok_or_else(lost_thread)?;
    let (left, right) = values.split_at(left_half(values.len()));
    let (left, right) = (merge(left)?, merge(right)?);
    let hash = hazmat::merge_subtrees_root(&left, &right, hazmat::Mode::Hash);
    Digest::from_bytes(Algorithm::Blake3, hash.as_bytes()).ok_or_else(lost_thread)
}
/// How many of `parts` (2 or more) stand left of the root: the largest power of two that leaves something right.
fn left_half(parts: usize) -> usize {
    parts.next_power_of_two() / 2
}

/// The chaining value of a subtree that is not the whole tree.
fn merge(values: &[ChainingValue]) -> io::Result<ChainingValue> {
    match values {
        [] => Err(lost_thread()),
        [one] => Ok(*one),
        more => {
            let (left, right) = more.split_at(left_half(more.len()));
            Ok(hazmat::merge_subtrees_non_root(&merge(left)?, &merge(right)?, hazmat::Mode::Hash))
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    size: u64,
    list: Vec<Digest>,
}

impl Digests {
    /// Length of what was hashed, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn get(&self, algorithm: Algorithm) -> Option<&Digest> {
        self.list.iter().find(|d| d.algorithm() == algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Sha512, Algorithm::Blake3];

    #[test]
    fn one_read_gives_every_digest() {
        let algorithms =
            [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512, Algorithm::Blake3];
        let got = Hashes::read(&mut &b"abc"[..], &algorithms).unwrap();
        assert_eq!(got.size(), 3);
        assert_eq!(got.get(Algorithm::Sha256), Some(&Digest::sha256(b"abc")));
        assert_eq!(got.get(Algorithm::Blake3), Some(&Digest::blake3(b"abc")));
        // FIPS 180-4 example values for "abc".
        let one = Hashes::read(&mut &b"abc"[..], &[Algorithm::Blake3]).unwrap();
        assert!(one.get(Algorithm::Sha256).is_none() && one.get(Algorithm::Blake3).is_some());
        let hex = |a| got.get(a).unwrap().to_hex();
        assert!(hex(Algorithm::Sha384).starts_with("cb00753f45a35e8bb5a03d699ac65007"));
        assert!(hex(Algorithm::Sha512).starts_with("ddaf35a193617abacc417349ae204131"));
    }

    #[test]
    fn large_files_hash_the_same_by_threads() {
        // Every shape of the tree: whole parts, one byte more or less, powers of two and between.
        for size in [2 * PART - 1, 2 * PART, 2 * PART + 1, 3 * PART, 4 * PART, 5 * PART + 77] {
            let data: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &data).unwrap();
            let one = Hashes::of_file(&file, &[Algorithm::Blake3]).unwrap();
            assert_eq!(one.get(Algorithm::Blake3), Some(&Digest::blake3(&data)), "{size}");
            assert_eq!(one.size(), size);
            let many = Hashes::of_file(&file, &USUAL).unwrap();
            assert_eq!(many.size(), size);
            for algorithm in USUAL {
                let whole = Hashes::read(&mut data.as_slice(), &[algorithm]).unwrap();
                assert_eq!(many.get(algorithm), whole.get(algorithm), "{size}");
            }
        }
    }
}
