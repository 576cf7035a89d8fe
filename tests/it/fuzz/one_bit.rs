//! One changed bit in an admitted set: in every byte, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use admit::bun::exe::Executable;
use admit::error::Reason;
use admit::lock::Locked;
use admit::record;
use admit::record::admission::{self, AdmissionStatus, RecordFile};
use admit::record::lockfile::{Lockfile, Platform};
use admit::record::network::Network;
use admit::record::report::{BuildReport, OutputStatus};
use admit::root::Root;
use serde_json::Value;

use crate::files::write;
use crate::inspect::sample;
use crate::util::{World, project, tell, var};

const PLATFORM: Platform = Platform::LinuxX64;

fn read(path: &str) -> Vec<u8> {
    std::fs::read(project().join(path)).unwrap()
}

/// Texts that differ from `good` in one bit: one in each byte, or every bit where more fuzzing is asked for.
fn flips(good: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let all = var("ADMIT_FUZZ_ROUNDS").is_some();
    // The highest bit of an ASCII letter only ever makes it no UTF-8.
    let bits = (0..good.len() * 8).filter(move |bit| all || bit % 8 == (bit / 8) % 7);
    bits.map(|bit| {
        let mut bytes = good.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    })
}

/// The pointers at which two values differ.
fn differences(a: &Value, b: &Value, at: &str, out: &mut BTreeSet<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differences(a, b, &format!("{at}/{key}"), out),
                    _ => drop(out.insert(format!("{at}/{key}"))),
                }
            }
        }
        (a, b) if a != b => drop(out.insert(at.to_owned())),
        _ => {}
    }
}

fn changed(a: &impl serde::Serialize, b: &impl serde::Serialize) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    differences(&record::to_value(a), &record::to_value(b), "", &mut out);
    out
}

/// The build that the lock of the stand-in gives here, as it stands on record.
fn recorded() -> BuildReport {
    record::parse(&read("fixtures/fuzz/report/understudy.json")).unwrap()
}

/// Whether a lock is answered by the recorded build: the same plan, the same output, everything it asks for shown, and
/// a run of the stage with the only argument list.
fn answered(lock: &Locked, report: &BuildReport) -> bool {
    if lock.lock.provider != report.provider || !lock.lock.check().is_empty() {
        return false;
    }
    admit::build::asked(lock, report).is_ok()
        && lock.output().is_some()
        && lock.lock.run.argv == ["run", "--task", "{task}", "--mode", "unattended"]
        && lock.lock.license.allows.contains(&2)
}

#[test]
fn a_lock_with_another_bit_is_not_answered_by_the_recorded_build() {
    let (good, report) = (read("lockfiles/understudy.lock.json"), recorded());
    let original: Lockfile = record::parse(&good).unwrap();
    // No lock without a plan for this platform is.
    let answered =
        |lock| Locked::new(lock, "lock".into()).is_ok_and(|lock| answered(&lock, &report));
    assert!(answered(original.clone()), "the lock itself is");
    let (mut all, mut read_well, mut same) = (0, 0, BTreeMap::<String, usize>::new());
    for bytes in flips(&good) {
        all += 1;
        let Ok(lock) = record::parse::<Lockfile>(&bytes) else { continue };
        read_well += 1;
        assert_ne!(lock.digest(), original.digest(), "a change that no digest shows");
        let what = changed(&original, &lock);
        if answered(lock) {
            for pointer in what {
                *same.entry(pointer).or_default() += 1;
            }
        }
    }
    // What may differ without another answer here: how the licence is called, and what belongs to other platforms.
    for pointer in same.keys() {
        let elsewhere = pointer
            .strip_prefix("/toolchain/bun/platforms/")
            .is_some_and(|rest| rest.split('/').next() != Some(PLATFORM.as_str()));
        assert!(elsewhere || pointer == "/license/spdx", "{pointer} can change unseen: {same:?}");
    }
    tell(&format!(
        "one bit of a lock: {all} changes, {} not read, {} read and refused, {} about other platforms or the \
         licence's name",
        all - read_well,
        read_well - same.values().sum::<usize>(),
        same.values().sum::<usize>(),
    ));
}

#[test]
fn a_record_of_a_build_with_another_bit_is_not_that_build() {
    let good = read("fixtures/fuzz/report/understudy.json");
    let original = recorded();
    let (mut all, mut read_well, mut loose) = (0, 0, 0);
    for bytes in flips(&good) {
        all += 1;
        let Ok(report) = record::parse::<BuildReport>(&bytes) else { continue };
        read_well += 1;
        let digests = [&report, &original].map(record::digest);
        assert_ne!(digests[0], digests[1], "a change that no digest shows");
        if report.difference(&original).is_none() && report.verification == OutputStatus::Locked {
            // Times and the like, and the lock's digest, which changes when the lock is filled in.
            for pointer in changed(&original, &report) {
                let known = ["/volatile/", "/lock_digest", "/source_admission_status"];
                let known = known.iter().any(|known| pointer.starts_with(known));
                assert!(known, "{pointer} can change unseen");
            }
            loose += 1;
        }
    }
    tell(&format!(
        "one bit of a build's record: {all} changes, {} not read, {} read and refused, {loose} in what is volatile",
        all - read_well,
        read_well - loose
    ));
}

#[test]
fn an_admission_with_another_bit_admits_nothing_more() {
    let good = read("admissions/models/scripted--understudy-script.json");
    let original = admission::parse(&good).unwrap();
    let (pair, now) = (original.pair(), "2026-12-01T00:00:00Z".parse().unwrap());
    let status = |bytes: &[u8]| {
        let file = RecordFile::Bytes(bytes.to_vec());
        admission::status(&file, Some(&pair), 2, &now, &|_| None)
    };
    assert_eq!(status(&good).status, AdmissionStatus::Admitted);
    // Words for people, and the agent's own name for the provider, which is reported and admits nothing.
    let words =
        ["/approval_source", "/review_trigger", "/evidence_expectations", "/runtime_provider"];
    let (mut all, mut admitted) = (0, 0);
    for bytes in flips(&good) {
        all += 1;
        let found = status(&bytes);
        let Some(record) = found.record.filter(|_| found.status == AdmissionStatus::Admitted)
        else {
            continue;
        };
        let known = record.credential().is_some() && Network::built_in(record.network()).is_some();
        if !known {
            continue;
        }
        for pointer in changed(&original, &record) {
            let past = pointer == "/admission_timestamp"
                && record.admission_timestamp.unix() <= now.unix();
            assert!(past || words.contains(&pointer.as_str()), "{pointer} can change unseen");
        }
        admitted += 1;
    }
    tell(&format!(
        "one bit of an admission: {all} changes, {} refused, {admitted} in words for people or the day of approval",
        all - admitted
    ));
}

#[test]
fn a_trusted_directory_with_another_bit_is_not_trusted() {
    let world = World::new();
    let host = world.host();
    let (lock, model) =
        ("lockfiles/understudy.lock.json", "admissions/models/scripted--understudy-script.json");
    let records = [
        (lock, read(lock)),
        (model, read(model)),
        ("admissions/builds/understudy.json", record::canonical(&recorded())),
    ];
    let root = world.path().join("root");
    records.iter().for_each(|(path, bytes)| write(root.join(path), bytes));
    std::fs::write(root.join("admit.toml"), "").unwrap();
    let digest = Root::read_untrusted(&host, &root).unwrap().digest();
    let find = || Root::find(&host, Some(&root), Some(&digest));
    assert!(find().is_ok());
    let mut all = 0;
    for (path, good) in &records {
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            std::fs::write(root.join(path), &bytes).unwrap();
            assert_eq!(find().unwrap_err().reason(), Reason::RootNotTrusted, "{path}: byte {at}");
            all += 1;
        }
        std::fs::write(root.join(path), good).unwrap();
    }
    assert!(find().is_ok());
    tell(&format!("one bit of each byte of a trusted directory: {all} changes, none trusted"));
}

#[test]
fn an_executable_with_another_bit_is_not_proven_with_the_same_modules() {
    let base = sample::plain(1);
    let modules: [sample::Source<'_>; 1] = [("/$bunfs/root/app", b"console.log(1)", b"")];
    let good = sample::expanded(&base, &sample::payload(&modules, "", 12));
    let original = Executable::read(&good).unwrap();
    assert!(original.runtime(Some(&base)).proven);
    let (mut all, mut other_modules) = (0, 0);
    for bytes in flips(&good) {
        all += 1;
        let Ok(exe) = Executable::read(&bytes) else { continue };
        if exe.runtime(Some(&base)).proven {
            assert_ne!(exe.graph.payload, original.graph.payload, "a change that no proof shows");
            other_modules += 1;
        }
    }
    tell(&format!(
        "one bit of a compiled executable: {all} changes, {other_modules} of them in the modules, no other one proven"
    ));
}
