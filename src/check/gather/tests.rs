//! What is found on disk, each case of it: records, store, binary, and whose signature a pulled build counts by.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::super::tests::{locked, recorded};
use super::*;
use crate::record::report::{Origin, Pulled, SignedBy};

const NOW: &str = "2026-06-01T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A user's home with a root of these files that the user trusts.
struct Home {
    dir: tempfile::TempDir,
    host: Host,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let host = Host::with([("HOME".into(), home.display().to_string())], dir.path());
        Self { dir, host }
    }

    fn root(&self, files: &[(&str, &[u8])]) -> Root {
        let dir = self.dir.path().join("root");
        for (path, bytes) in [("admit.toml", &b""[..])].iter().chain(files) {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        Root::trust(&self.host, &dir, None).unwrap();
        Root::find(&self.host, Some(&dir), None).unwrap()
    }

    fn store(&self) -> Store {
        Store::open(&self.dir.path().join("store")).unwrap()
    }

    fn file(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, name).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

/// A fact in a word: what is known of it, or why nothing is.
fn word<T>(found: &Found<T>, known: impl Fn(&T) -> String) -> String {
    match found {
        Found::Known(value) => known(value),
        Found::Absent => "absent".into(),
        Found::Failed(failure) => failure.reason.to_string(),
        Found::Unknown => "unknown".into(),
    }
}

fn record_path() -> String {
    BuildReport::path_of(&"understudy".parse().unwrap(), &recorded().sha256).to_string()
}

#[test]
fn records_are_known_absent_or_unreadable_each_by_itself() {
    let of = |locked: Result<&Locked, &Error>, record: Option<&[u8]>, saved: Option<&[u8]>| {
        let place = Home::new();
        let path = record_path();
        let root =
            place.root(&record.map(|bytes| (path.as_str(), bytes)).into_iter().collect::<Vec<_>>());
        let store = place.store();
        if let Some(bytes) = saved {
            let key = Stored::of(&store, &super::super::tests::locked()).key;
            store.record_put("builds", &key, "report.json", bytes).unwrap();
        }
        let facts = records(&root, locked, Some(&store));
        assert_eq!(word(&facts.root, |root| root.trusted.is_some().to_string()), "true");
        [
            word(&facts.lock, |locked| locked.lock.provider.to_string()),
            word(&facts.recorded, |recorded| recorded.report.provider.to_string()),
            word(&facts.saved, |saved| saved.provider.to_string()),
        ]
    };
    let (lock, report) = (locked(), record::pretty(&recorded()));
    let not_locked = Error::new(Reason::ProviderNotLocked, "no lock");
    let bad = Error::new(Reason::BadRecord, "no JSON");
    for (locked, record, saved, want) in [
        (Err(&not_locked), Some(&report[..]), Some(&report[..]), ["absent", "unknown", "unknown"]),
        (Err(&bad), Some(&report[..]), Some(&report[..]), ["bad_record", "unknown", "unknown"]),
        (Ok(&lock), None, None, ["understudy", "absent", "absent"]),
        (Ok(&lock), Some(&report[..]), None, ["understudy", "understudy", "absent"]),
        (Ok(&lock), None, Some(&report[..]), ["understudy", "absent", "understudy"]),
        (Ok(&lock), Some(&b"{"[..]), Some(&b"{"[..]), ["understudy", "bad_record", "bad_record"]),
    ] {
        let case = format!("{locked:?} {} {}", record.is_some(), saved.is_some());
        assert_eq!(of(locked, record, saved), want, "{case}");
    }
}

#[test]
fn a_binary_is_what_lies_there() {
    let place = Home::new();
    let sparse = place.dir.path().join("sparse");
    std::fs::File::create(&sparse).unwrap().set_len(MAX_BINARY + 1).unwrap();
    let link = place.dir.path().join("link");
    symlink(place.file("linked", 0o755), &link).unwrap();
    let program = place.file("program", 0o755);
    let (plain, directory) = (place.file("plain", 0o644), place.dir.path().join("home"));
    for (path, of_store, want) in [
        (place.dir.path().join("none"), false, "absent"),
        (program.clone(), false, "executable"),
        (plain.clone(), false, "not executable"),
        // The store keeps no modes.
        (plain, true, "executable"),
        (directory.clone(), false, "no file"),
        (link.clone(), false, "no file"),
        // The store holds regular files only.
        (directory, true, "store_corrupt"),
        (link, true, "store_corrupt"),
        (sparse, false, "io"),
    ] {
        let case = path.display().to_string();
        let found = binary(Some(&Place { path, of_store }));
        let known = |fact: &BinaryFact| match (&fact.content, fact.executable) {
            (None, _) => "no file".to_owned(),
            (Some(_), true) => "executable".into(),
            (Some(_), false) => "not executable".into(),
        };
        assert_eq!(word(&found, known), want, "{case}, of the store: {of_store}");
    }
    assert_eq!(word(&binary(None), |_| String::new()), "absent");
    let found = binary(Some(&Place { path: program, of_store: false }));
    let content = found.known().unwrap().content.clone().unwrap();
    assert_eq!(content.sha256, Digest::sha256(b"program"));
    assert_eq!(content.blake3.algorithm(), Algorithm::Blake3);
    assert_eq!(content.size, 7);
}

#[test]
fn the_store_has_what_the_record_names_or_not() {
    let place = Home::new();
    let store = place.store();
    let tree = |files: &[(&str, &[u8])]| {
        let writer = store.tree_writer().unwrap();
        for (name, bytes) in files {
            writer.dir().write(name, bytes).unwrap();
        }
        writer.finish(None).unwrap().nar().clone()
    };
    let without_lock = tree(&[("main.ts", b"1")]);
    let empty =
        br#"{ "lockfileVersion": 1, "workspaces": { "": { "name": "x" } }, "packages": {} }"#;
    let nothing_to_install = tree(&[("bun.lock", empty)]);
    let packages = include_bytes!("../../../fixtures/understudy/bun.lock");
    let not_fetched = tree(&[("bun.lock", packages)]);
    let bun = store.put(b"bun", Algorithm::Sha256).unwrap().digest().clone();
    let of = |nar: Option<Digest>, bun: Option<&Digest>, there: bool| {
        let (mut locked, mut report) = (locked(), recorded());
        report.nar_hash = nar.map(record::ids::Sri);
        if let (Some(bun), Some(pin)) = (bun, &mut locked.plan.bun) {
            pin.binary_sha256 = record::ids::Sha256::from_digest(bun).unwrap();
        }
        let mut facts = Facts {
            lock: Found::Known(locked),
            recorded: Found::Known(Recorded { place: "r".into(), report }),
            ..Facts::default()
        };
        super::store(&mut facts, there.then_some(&store));
        let known = |_: &PackagesFact| "known".to_owned();
        [
            word(&facts.source_stored, |_| "known".into()),
            word(&facts.toolchain_stored, |()| "known".into()),
            word(&facts.packages_stored, known),
        ]
    };
    let gone = Digest::sha256(b"gone");
    for (case, nar, bun, there, want) in [
        ("no store", Some(&nothing_to_install), Some(&bun), false, ["absent"; 3]),
        ("an empty one", Some(&gone), None, true, ["absent"; 3]),
        ("no digest of a source", None, Some(&bun), true, ["absent", "known", "absent"]),
        ("all of it", Some(&nothing_to_install), Some(&bun), true, ["known"; 3]),
        (
            "no lock in the source",
            Some(&without_lock),
            None,
            true,
            ["known", "absent", "bad_record"],
        ),
        ("a package is missing", Some(&not_fetched), None, true, ["known", "absent", "not_found"]),
    ] {
        assert_eq!(of(nar.cloned(), bun, there), want, "{case}");
    }
}

/// Whose word a pulled build counts by: the policy's where there is one, else the caches', else that of a key which the
/// record names and this user has, as far as the root takes nothing back.
#[test]
fn a_pulled_build_counts_by_whoever_is_believed_now() {
    let place = Home::new();
    let own = Keys::new(&place.host.data_dir().unwrap());
    let others = Keys::new(place.dir.path());
    let name = |text: &str| text.parse::<record::ids::Name>().unwrap();
    let keys = |whose: &str| if whose == "mine" || whose == "spare" { &own } else { &others };
    for whose in ["mine", "spare", "theirs"] {
        keys(whose).make(&name(whose)).unwrap();
    }
    let locked = locked();
    let signers = |revoked: &str| -> String {
        ["mine", "theirs"]
            .map(|whose| {
                let line = keys(whose).public(&name(whose)).unwrap().key.line(whose);
                let why = if whose == revoked { "revoked = 'lost'\n" } else { "" };
                format!("[[signer]]\nname = '{whose}'\nkey = '{line}'\n{why}")
            })
            .concat()
    };
    let rule = |whose: &str| format!("{{ signers = ['{whose}'], signatures = 1 }}");
    let policy = |whose: &str| format!("{}[require]\nbuild = {}\n", signers(""), rule(whose));
    let cache = |whose: &str| format!("{}[cache]\nrequire = {}\n", signers(""), rule(whose));
    let of = |config: &str, named: &[&str], signed: &[&str]| {
        let mut report = recorded();
        report.origin = Origin::Pulled;
        report.pulled = Some(Pulled {
            from: "oci://example.com/a".into(),
            at: now(),
            store_path: "/store".into(),
            origin: Origin::Built,
            record_sha256: Digest::sha256(b"record"),
            signed_by: named
                .iter()
                .map(|whose| SignedBy {
                    name: name(whose),
                    key: keys(whose).public(&name(whose)).unwrap().key.fingerprint(),
                })
                .collect(),
        });
        let mut envelope = attest::of_build(&report, &locked.lock, &now()).statement.envelope();
        for whose in signed {
            keys(whose).signing(&name(whose)).unwrap().sign(&mut envelope, false);
        }
        let bundle = attest::bundle_path(report.sha256.digest());
        // The rows share a root: what one of them wrote is no part of the next.
        let file = place.dir.path().join("root").join(&bundle);
        let _ = std::fs::remove_file(file);
        let line = envelope.line();
        let mut files = vec![("admit.toml", config.as_bytes())];
        if !signed.is_empty() {
            files.push((&bundle, line.as_bytes()));
        }
        let root = place.root(&files);
        let facts = Facts {
            lock: Found::Known(locked.clone()),
            recorded: Found::Known(Recorded { place: "r".into(), report }),
            ..Facts::default()
        };
        word(&pulled_signed(&root, &place.host, &facts, &now()), |outcome| match outcome {
            None => "nothing asked".into(),
            Some(Ok(held)) => held.by.keys().map(ToString::to_string).collect::<Vec<_>>().join(","),
            Some(Err(refused)) => refused.reason.to_string(),
        })
    };
    for (config, named, signed, want) in [
        // The policy decides alone, whatever this user's keys say.
        (policy("theirs"), &["theirs"][..], &["theirs"][..], "theirs"),
        (policy("theirs"), &["mine"], &["mine"], "signer_unknown"),
        // So do the caches' signers, and beside them a key that the record names.
        (cache("theirs"), &["theirs"], &["theirs"], "theirs"),
        (cache("theirs"), &["mine"], &["mine"], "mine"),
        (cache("theirs"), &[], &["mine"], "signer_unknown"),
        // Else a key of this user's that the record names, and no other.
        (String::new(), &["mine"], &["mine"], "mine"),
        (String::new(), &["theirs"], &["theirs"], "signer_unknown"),
        (String::new(), &["mine"], &["spare"], "signer_unknown"),
        (String::new(), &["mine"], &[], "signature_missing"),
        (String::new(), &[], &["mine"], "signer_unknown"),
        // What the root takes back, this user's list does not give again.
        (signers("mine"), &["mine"], &["mine"], "key_revoked"),
        (signers("theirs"), &["mine"], &["mine"], "mine"),
    ] {
        assert_eq!(of(&config, named, signed), want, "{named:?} {signed:?} under:\n{config}");
    }
    let built = Facts {
        lock: Found::Known(locked.clone()),
        recorded: Found::Known(Recorded { place: "r".into(), report: recorded() }),
        ..Facts::default()
    };
    let root = place.root(&[]);
    let asked = |facts: &Facts| {
        word(&pulled_signed(&root, &place.host, facts, &now()), |outcome| {
            outcome.is_none().to_string()
        })
    };
    assert_eq!(asked(&built), "true", "what was built here is asked for nothing");
    assert_eq!(asked(&Facts::default()), "absent");
}
