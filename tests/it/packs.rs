//! Packs that no git writes, by a source and by an agent: each is refused soon, and without much memory.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use admit::error::Reason;
use admit::git::id::{ObjectKind, Oid};
use admit::record::ids::CommitId;
use admit::run::fixture::Fixture;
use admit::run::reader::Reader;
use admit::run::snapshot;
use admit::sandbox::{Launcher, Owner};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::fetch_git::{mirrored, refused, served as serve};
use crate::files::{below, script};
use crate::fuzz::Dice;
use crate::judge::loaded;
use crate::loopback::Reply;
use crate::processes;
use crate::repo::Repo;
use crate::trial::PYTHON;
use crate::util::{admit, tell};

/// A pack under construction, and where each object is.
pub struct Pack {
    bytes: Vec<u8>,
    index: Vec<(Oid, u32)>,
}

/// A size as packs and deltas write it, seven bits a byte, after `first` with its `bits`.
fn size(first: u8, bits: u32, value: u64) -> Vec<u8> {
    let mut out = vec![first | u8::try_from(value & ((1 << bits) - 1)).unwrap()];
    let mut rest = value >> bits;
    while rest > 0 {
        *out.last_mut().unwrap() |= 0x80;
        out.push(u8::try_from(rest & 0x7f).unwrap());
        rest >>= 7;
    }
    out
}

/// A delta that copies the first 64 KiB of its base `times` over.
fn copies(base: u64, times: usize) -> Vec<u8> {
    let to = 0x1_0000 * times as u64;
    [size(0, 7, base), size(0, 7, to), vec![0x80; times]].concat()
}

impl Pack {
    fn new() -> Self {
        Self { bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(), index: Vec::new() }
    }

    fn entry(&mut self, id: Oid, kind: u8, base: &[u8], data: &[u8]) -> usize {
        let at = self.bytes.len();
        self.index.push((id, u32::try_from(at).unwrap()));
        self.bytes.extend(size(kind << 4, 4, data.len() as u64));
        self.bytes.extend(base);
        let mut zlib = ZlibEncoder::new(&mut self.bytes, Compression::best());
        zlib.write_all(data).unwrap();
        zlib.finish().unwrap();
        at
    }

    fn whole(&mut self, kind: ObjectKind, data: &[u8]) -> Oid {
        let code = match kind {
            ObjectKind::Commit => 1,
            ObjectKind::Tree => 2,
            _ => 3,
        };
        let id = Oid::of(kind, data);
        self.entry(id, code, b"", data);
        id
    }

    fn delta(&mut self, id: Oid, base: Oid, data: &[u8]) {
        self.entry(id, 7, &raw(base), data);
    }

    fn commit(&mut self, files: &[Oid]) -> CommitId {
        let mut tree = Vec::new();
        for (i, id) in files.iter().enumerate() {
            tree.extend(format!("100644 f{i:04}\0").into_bytes());
            tree.extend(raw(*id));
        }
        let tree = self.whole(ObjectKind::Tree, &tree);
        let who = "t <t@t> 1700000000 +0000";
        let text = format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nm\n");
        self.whole(ObjectKind::Commit, text.as_bytes()).commit().unwrap()
    }

    /// Another byte at one or more places, most of them in the head of an object or of a delta.
    pub fn alter(&mut self, dice: &mut Dice) {
        for _ in 0..=dice.roll(3) {
            let at = match dice.roll(4) {
                0 => 12 + dice.roll(self.bytes.len() - 12),
                _ => self.index[dice.roll(self.index.len())].1 as usize + dice.roll(24),
            };
            let byte = u8::try_from(dice.roll(256)).unwrap();
            if let Some(there) = self.bytes.get_mut(at) {
                *there = if dice.roll(2) == 0 { byte } else { *there ^ (1 << (byte % 8)) };
            }
        }
    }

    pub fn finished(&self) -> Vec<u8> {
        let mut out = self.bytes.clone();
        out[8..12].copy_from_slice(&u32::try_from(self.index.len()).unwrap().to_be_bytes());
        out.extend(sha1(&out));
        out
    }

    /// Git's index of it, or with `offset` for every object.
    pub fn indexed(&self, offset: Option<u32>) -> Vec<u8> {
        let mut list = self.index.clone();
        list.sort();
        let mut out = b"\xfftOc\0\0\0\x02".to_vec();
        for first in 0..=255 {
            let below = list.iter().filter(|(id, _)| raw(*id)[0] <= first).count();
            out.extend(u32::try_from(below).unwrap().to_be_bytes());
        }
        list.iter().for_each(|(id, _)| out.extend(raw(*id)));
        list.iter().for_each(|_| out.extend([0; 4]));
        list.iter().for_each(|(_, at)| out.extend(offset.unwrap_or(*at).to_be_bytes()));
        out.extend(sha1(&self.finished()[..self.finished().len() - 20]));
        out.extend(sha1(&out));
        out
    }

    pub fn write(&self, objects: &Path, offset: Option<u32>) {
        fs::create_dir_all(objects.join("pack")).unwrap();
        let name = |end: &str| objects.join(format!("pack/pack-{}.{end}", "0".repeat(40)));
        fs::write(name("pack"), self.finished()).unwrap();
        fs::write(name("idx"), self.indexed(offset)).unwrap();
    }
}

fn raw(id: Oid) -> Vec<u8> {
    hex::decode(id.to_string()).unwrap()
}

fn sha1(data: &[u8]) -> Vec<u8> {
    use sha1_checked::Digest as _;
    sha1_checked::Sha1::digest(data).to_vec()
}

fn absent(n: u8) -> Oid {
    Oid::parse(&format!("{n:02x}").repeat(20)).unwrap()
}

/// A delta whose base is itself.
fn circle() -> (Pack, CommitId) {
    let mut pack = Pack::new();
    pack.delta(absent(7), absent(7), &copies(0x1_0000, 1));
    let commit = pack.commit(&[absent(7)]);
    (pack, commit)
}

/// Two gigabytes out of 64 KiB of zeros.
fn bomb() -> (Pack, CommitId) {
    let mut pack = Pack::new();
    let zeros = pack.whole(ObjectKind::Blob, &[0; 0x1_0000]);
    pack.delta(absent(7), zeros, &copies(0x1_0000, 1 << 15));
    let commit = pack.commit(&[absent(7)]);
    (pack, commit)
}

/// Forty deltas of 60 MB, each of the one before.
fn chain() -> (Pack, CommitId) {
    let mut pack = Pack::new();
    let times = 960;
    let mut base = pack.whole(ObjectKind::Blob, &[0; 0x1_0000]);
    let mut len = 0x1_0000;
    for n in 1..=40 {
        let id = absent(n);
        let at = *pack.index.iter().find(|(id, _)| *id == base).map(|(_, at)| at).unwrap();
        let here = u32::try_from(pack.bytes.len()).unwrap();
        pack.entry(id, 6, &back(u64::from(here - at)), &copies(len, times));
        (base, len) = (id, 0x1_0000 * times as u64);
    }
    let commit = pack.commit(&[absent(40)]);
    (pack, commit)
}

/// How far back a base is.
fn back(mut value: u64) -> Vec<u8> {
    let mut out = vec![u8::try_from(value & 0x7f).unwrap()];
    while value >> 7 > 0 {
        value = (value >> 7) - 1;
        out.insert(0, 0x80 | u8::try_from(value & 0x7f).unwrap());
    }
    out
}

/// As an HTTP server of version 2 sends it.
pub fn sent(pack: &[u8]) -> Vec<u8> {
    let mut out = b"000dpackfile\n".to_vec();
    for piece in pack.chunks(60_000) {
        out.extend(format!("{:04x}\x01", piece.len() + 5).into_bytes());
        out.extend(piece);
    }
    out.extend(b"0000");
    out
}

/// Runs `work` and holds it to two seconds and half a gigabyte.
#[track_caller]
fn bounded<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let peak = || processes::peak("self").unwrap();
    let (before, begin) = (peak(), Instant::now());
    let out = work();
    let (took, more) = (begin.elapsed(), peak().saturating_sub(before));
    assert!(took < Duration::from_secs(2), "{what}: {took:?}");
    assert!(more < 512 << 10, "{what}: {more} KiB");
    out
}

pub type Case = (&'static str, fn() -> (Pack, CommitId), Option<u32>, [Reason; 2]);

/// Each with the reasons for which a mirror on disk and a server are refused.
pub const CASES: [Case; 5] = [
    ("circle", circle, None, [Reason::LimitHit, Reason::Truncated]),
    ("bomb", bomb, None, [Reason::LimitHit, Reason::LimitHit]),
    ("chain", chain, None, [Reason::LimitHit, Reason::LimitHit]),
    ("offset 0", bomb, Some(0), [Reason::SourceMismatch, Reason::LimitHit]),
    ("offset outside", bomb, Some(0x7fff_ffff), [Reason::SourceMismatch, Reason::LimitHit]),
];

#[test]
fn a_hostile_pack_of_a_source_is_refused_soon() {
    for (what, make, offset, [on_disk, served]) in CASES {
        let (pack, commit) = make();
        let (mut lab, repo, _) = mirrored(|repo| repo.write("a", "x").commit());
        pack.write(&repo.0.join(".git/objects"), offset);
        let err = bounded(what, || refused(&lab, &commit));
        assert_eq!(err.reason(), on_disk, "{what}: {err} {:?}", err.causes());
        fs::remove_dir_all(repo.0.join(".git/objects/pack")).unwrap();
        let answer = sent(&pack.finished());
        serve(&mut lab, true, move |_| Reply::ok(&answer[..]));
        let err = bounded(what, || refused(&lab, &commit));
        assert_eq!(err.reason(), served, "{what}: {err} {:?}", err.causes());
    }
}

#[test]
fn a_hostile_pack_of_an_agent_is_a_fault_of_its_work() {
    let fixture = loaded(PYTHON);
    for (what, make, offset, _) in CASES {
        let (pack, commit) = make();
        let dir = tempfile::tempdir().unwrap();
        let git = dir.path().join("ws/.git");
        pack.write(&git.join("objects"), offset);
        fs::write(git.join("HEAD"), format!("{commit}\n")).unwrap();
        let top = open(dir.path());
        for found in [
            bounded(what, || snapshot::take(&top, "ws", &fixture).unwrap()),
            bounded(what, || reader(&fixture, dir.path()).read(&top).unwrap()),
        ] {
            assert!(found.head.is_none(), "{what}");
            let told = |f: &String| f.contains("the commit cannot be read");
            assert!(found.faults.iter().any(told), "{what}: {:?}", found.faults);
        }
    }
}

fn open(dir: &Path) -> Dir {
    Dir::open_ambient_dir(dir, ambient_authority()).unwrap()
}

/// A reader of the workspace `ws`, as whoever owns it.
fn reader(fixture: &Fixture, dir: &Path) -> Reader {
    let meta = fs::metadata(dir).unwrap();
    let owner = Owner { uid: meta.uid(), gid: meta.gid() };
    let launcher = Launcher { exe: admit(), scratch: dir.into() };
    Reader::new(&launcher, "ws", fixture, owner).unwrap()
}

#[test]
fn the_confined_reader_finds_what_admit_itself_would_whatever_an_agent_left() {
    let fixture = loaded(PYTHON);
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::new(&dir.path().join("ws"));
    let mut commit = None;
    for n in 0..6 {
        commit =
            Some(repo.write("a", &format!("{}{n}\n", "a line that stays\n".repeat(200))).commit());
    }
    std::os::unix::fs::symlink("/etc/passwd", repo.0.join("link")).unwrap();
    fs::write(repo.0.join("bytes"), [0, 0xff, b'"', b'\n', 0x80]).unwrap();
    let top = open(dir.path());
    let loose = snapshot::take(&top, "ws", &fixture).unwrap();
    // An agent may pack its repository.
    repo.git(&["gc", "-q"]);
    assert!(repo.git(&["count-objects", "-v"]).contains("count: 0\n"), "everything is packed");
    let reader = reader(&fixture, dir.path());
    let packed = snapshot::take(&top, "ws", &fixture).unwrap();
    let head = packed.head.as_ref().unwrap();
    assert_eq!((Some(&head.id), packed.head == loose.head), (commit.as_ref(), true));
    assert!(head.files.keys().map(ToString::to_string).eq(["a"]), "{:?}", packed.faults);
    assert_eq!(reader.read(&top).unwrap(), packed);
    let begin = Instant::now();
    (0..20).for_each(|_| drop(reader.read(&top)));
    tell(&format!("a look through the confined reader: {:?}", begin.elapsed() / 20));
    // Each file of the repository with some bytes changed, one after the other.
    let files = below(&repo.0.join(".git"));
    let mut dice = Dice(0x00AD_317B);
    for round in 0..200 {
        let path = &files[round % files.len()];
        let good = fs::read(path).unwrap();
        let mut bad = good.clone();
        for _ in 0..=dice.roll(3) {
            let at = dice.roll(bad.len());
            if let Some(byte) = bad.get_mut(at) {
                *byte = u8::try_from(dice.roll(256)).unwrap();
            }
        }
        let mode = fs::metadata(path).unwrap().permissions();
        fs::remove_file(path).unwrap();
        fs::write(path, bad).unwrap();
        let found = bounded("a mutation", || reader.read(&top).unwrap());
        assert!(found.files.len() <= 4, "{}", path.display());
        fs::write(path, good).unwrap();
        fs::set_permissions(path, mode).unwrap();
    }
    // A program that cannot confine itself reads nothing, and that is a fault of the work.
    let launcher = Launcher { exe: "/bin/false".into(), scratch: dir.path().into() };
    let nobody = Owner { uid: 1, gid: 1 };
    let blind = Reader::new(&launcher, "ws", &fixture, nobody).unwrap().read(&top).unwrap();
    assert!(blind.head.is_none() && blind.files.is_empty() && blind.faults.len() == 1, "{blind:?}");
    // One that somebody ends says nothing of the work; one that the kernel ends at its bounds does.
    for (signal, fault) in [("KILL", false), ("TERM", false), ("XCPU", true), ("ABRT", true)] {
        let exe = dir.path().join(signal);
        script(&exe, &format!("kill -{signal} $$"));
        let launcher = Launcher { exe, scratch: dir.path().into() };
        let read = Reader::new(&launcher, "ws", &fixture, nobody).unwrap().read(&top);
        match read {
            Ok(found) => assert!(fault && found.faults.len() == 1, "{signal}: {found:?}"),
            Err(err) => assert!(!fault && err.reason() == Reason::KilledFromOutside, "{signal}"),
        }
    }
}

#[test]
fn at_its_bound_of_time_a_reader_is_ended_otherwise_than_by_somebody() {
    let dir = tempfile::tempdir().unwrap();
    let meta = fs::metadata(dir.path()).unwrap();
    let mut child = std::process::Command::new(admit())
        .args(["__read-source", "objects", &meta.uid().to_string(), &meta.gid().to_string(), "0"])
        .arg(dir.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It is confined once it answers.
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 9]).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max cpu time")).unwrap();
    let seconds: Vec<u64> =
        line.split_whitespace().take(2).map(|word| word.parse().unwrap()).collect();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    // At the soft limit comes SIGXCPU, at the hard one SIGKILL (setrlimit(2)).
    assert!(seconds[0] < seconds[1], "{line}");
}

#[test]
fn a_submodule_in_the_workspace_is_a_fault_and_names_are_told_apart_by_their_case() {
    let fixture = loaded(PYTHON);
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::new(&dir.path().join("ws"));
    let commit = repo.write("strings.py", "a").write("STRINGS.py", "b").commit();
    let top = open(dir.path());
    let look = || reader(&fixture, dir.path()).read(&top).unwrap();
    let found = look();
    assert_eq!(found.head.as_ref().map(|head| head.id.clone()), Some(commit), "{:?}", found.faults);
    let names: Vec<String> = found.files.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["STRINGS.py", "strings.py"]);
    let link = format!("160000,{},sub", "1".repeat(40));
    repo.git(&["update-index", "--add", "--cacheinfo", &link]);
    repo.git(&["commit", "-q", "-m", "m"]);
    let found = look();
    assert!(found.head.is_none() && !found.faults.is_empty(), "{found:?}");
}
