//! A run directory that was changed after it was sealed, with or without a seal made anew.

use super::*;
use crate::evidence::html::page;

#[test]
fn any_changed_byte_any_missing_and_any_added_file_is_named() {
    let (_dir, run) = alone(sealed);
    let all = files(&run.directory);
    assert!(all.len() >= 14, "{all:?}");
    for file in all {
        let name = file.strip_prefix(&run.directory).unwrap().to_str().unwrap().to_owned();
        let good = std::fs::read(&file).unwrap();
        for at in [0, good.len() / 2, good.len().saturating_sub(1)] {
            let mut bad = good.clone();
            match bad.get_mut(at) {
                Some(byte) => *byte ^= 1,
                None => bad.push(b'x'),
            }
            std::fs::write(&file, &bad).unwrap();
            let changed = (FaultKind::Changed, name.clone());
            assert_eq!(wrong(&run.directory), changed, "{name} at {at}");
            let checked = check(&run.directory, None).unwrap();
            assert_eq!(checked.error().unwrap().kind().exit_code(), 5);
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(wrong(&run.directory), (FaultKind::Missing, name.clone()));
        std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
        assert_eq!(wrong(&run.directory).0, FaultKind::Changed, "{name}");
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, &good).unwrap();
    }
    assert_eq!(faults(&run.directory), []);
    for extra in ["extra.txt", "backend/x", "backend/provider-timeout.txt"] {
        std::fs::write(run.directory.join(extra), "").unwrap();
        assert_eq!(wrong(&run.directory), (FaultKind::Extra, extra.to_owned()));
        std::fs::remove_file(run.directory.join(extra)).unwrap();
    }
    std::fs::create_dir(run.directory.join("empty")).unwrap();
    assert_eq!(wrong(&run.directory).0, FaultKind::Extra);
}

#[test]
fn what_is_said_of_a_changed_file_is_what_was_found() {
    let (_dir, run) = alone(sealed);
    let file = run.directory.join(names::REPORT);
    let good = std::fs::read(&file).unwrap();
    let found = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let mut all = faults(&run.directory).into_iter();
        all.find(|fault| fault.path == names::REPORT).unwrap().found
    };
    let mut other = good.clone();
    other[0] ^= 1;
    assert_eq!(found(&other), format!("{} bytes, {}", good.len(), Digest::sha256(&other)));
    // Of what is longer no more than one byte is read: a digest would be of a part.
    let longer = [good.as_slice(), b"xx"].concat();
    assert_eq!(found(&longer), format!("more than {} bytes", good.len()));
    let shorter = &good[1..];
    assert_eq!(found(shorter), format!("{} bytes, {}", shorter.len(), Digest::sha256(shorter)));
    // Further faults are counted where there are any.
    std::fs::write(&file, &good).unwrap();
    for (extra, more) in [("extra.txt", false), ("further.txt", true)] {
        std::fs::write(run.directory.join(extra), "").unwrap();
        let checked = check(&run.directory, None).unwrap();
        let said = format!("{:?}", checked.error().unwrap());
        assert_eq!(said.contains("1 more faults"), more, "{said}");
        assert_eq!(said.contains("more faults"), more, "{said}");
    }
}

#[test]
fn a_seal_and_a_manifest_count_as_they_were_written_alone() {
    let (_dir, run) = alone(sealed);
    assert_eq!(check(&run.directory, None).unwrap().directory, run.directory);
    let seal = run.directory.join(names::SEAL);
    let good_seal = std::fs::read(&seal).unwrap();
    let found = || {
        let fault = faults(&run.directory).remove(0);
        (fault.path, fault.found)
    };
    // A byte more that means nothing, and a seal in its form whose own check is another's.
    std::fs::write(&seal, [good_seal.as_slice(), b" "].concat()).unwrap();
    assert_eq!(found(), (names::SEAL.to_owned(), "another form or check".into()));
    let mut other: Seal = record::parse(&good_seal).unwrap();
    other.id = Digest::sha256(b"another");
    std::fs::write(&seal, record::pretty(&other)).unwrap();
    assert_eq!(found(), (names::SEAL.to_owned(), "another form or check".into()));
    // A file that is listed twice.
    list_anew(&run.directory, |list| list.files.insert(0, list.files[0].clone()));
    assert_eq!(found(), (names::MANIFEST.to_owned(), "another order".into()));
}

#[test]
fn a_proof_has_to_pass_and_to_hold() {
    for change in [(|proof| proof.passed = false) as fn(&mut NoTargetProof), |proof| {
        proof.fixture_commits = 2
    }] {
        let dir = tempfile::tempdir().unwrap();
        let run = sealed(dir.path());
        let mut other = proof();
        change(&mut other);
        std::fs::write(run.directory.join(names::NO_TARGET), record::pretty(&other)).unwrap();
        reseal(&run.directory);
        assert_eq!(wrong(&run.directory), (FaultKind::Report, names::NO_TARGET.to_owned()));
        // And one that is not sealed as a good end.
        let run = filled(dir.path());
        let path = path(names::NO_TARGET);
        std::fs::write(run.path().join(path.as_str()), record::pretty(&other)).unwrap();
        let report = run.seal(rehearsed()).unwrap().report;
        assert_eq!((report.status, report.no_target_inspection_passed), (RunStatus::Fail, false));
    }
}

/// Seals the directory anew after an attack: that takes no key.
fn reseal(dir: &Path) -> Digest {
    list_anew(dir, |manifest| {
        for entry in &mut manifest.files {
            let bytes = std::fs::read(dir.join(entry.path.as_str())).unwrap();
            (entry.size, entry.sha256) = (bytes.len() as u64, Digest::sha256(&bytes));
        }
    })
}

/// Another manifest, with a seal that fits it.
fn list_anew(dir: &Path, change: impl FnOnce(&mut Manifest)) -> Digest {
    let mut manifest: Manifest = parsed(dir, names::MANIFEST);
    change(&mut manifest);
    let seal = Seal::of(&manifest);
    std::fs::write(dir.join(names::MANIFEST), record::pretty(&manifest)).unwrap();
    std::fs::write(dir.join(names::SEAL), record::pretty(&seal)).unwrap();
    seal.id
}

/// Another JSON file in a run's directory, which is not sealed anew.
fn write_anew(run: &Sealed, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let file = run.directory.join(name);
    let mut value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(&file, record::pretty(&value)).unwrap();
}

/// Another report in its three forms in the place of a run's own, sealed anew.
fn embellish(run: &Sealed, change: impl Fn(&mut RunReport)) -> Digest {
    let mut report = run.report.clone();
    change(&mut report);
    for (name, bytes) in [
        (names::REPORT, record::pretty(&report)),
        (names::REPORT_MD, markdown(&report).into_bytes()),
        (names::REPORT_HTML, page(&report, &|_, _| None).into_bytes()),
    ] {
        std::fs::write(run.directory.join(name), bytes).unwrap();
    }
    reseal(&run.directory)
}

#[test]
fn a_manifest_made_anew_does_not_fit_the_old_seal() {
    let (_dir, run) = alone(sealed);
    let seal = std::fs::read(run.directory.join(names::SEAL)).unwrap();
    std::fs::write(run.directory.join(names::TEST_LOG), "all tests passed").unwrap();
    let id = reseal(&run.directory);
    std::fs::write(run.directory.join(names::SEAL), seal).unwrap();
    let checked = check(&run.directory, None).unwrap();
    assert_eq!((checked.level, checked.id), (None, None));
    let fault = &checked.faults[0];
    assert_eq!((fault.kind, fault.path.as_str()), (FaultKind::Changed, names::MANIFEST));
    assert_eq!((&fault.expected, &fault.found), (&run.id.to_string(), &id.to_string()));
}

#[test]
fn more_than_a_run_leaves_is_not_read() {
    let (_dir, run) = alone(sealed);
    // As large as one alone may be, and without a block on the disk.
    list_anew(&run.directory, |list| {
        let log = list.files.iter_mut().find(|entry| entry.path.as_str() == names::TEST_LOG);
        log.unwrap().size = 4 << 30;
    });
    let file = std::fs::File::options().write(true).open(run.directory.join(names::TEST_LOG));
    file.unwrap().set_len(4 << 30).unwrap();
    let fault = &faults(&run.directory)[0];
    assert_eq!((fault.kind, fault.path.as_str()), (FaultKind::Changed, names::TEST_LOG));
    assert_eq!(fault.found, "4294967296 bytes, and others before it");
}

#[test]
fn sealing_anew_hides_neither_a_cut_chain_nor_a_made_up_pass() {
    let (_dir, run) = alone(sealed);
    let events = run.directory.join(names::EVENTS);
    let text = std::fs::read_to_string(&events).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let attacks = [
        lines[..lines.len() - 1].join("\n") + "\n",
        [lines[0], lines[2], lines[1]].join("\n") + "\n",
        text.replace("completed", "failed"),
        text.trim_end().to_owned(),
        text.clone() + "{}\n",
    ];
    for attack in attacks {
        std::fs::write(&events, attack).unwrap();
        reseal(&run.directory);
        assert_eq!(wrong(&run.directory).0, FaultKind::Chain);
        assert!(check(&run.directory, Some(&run.id)).unwrap().level.is_none());
    }
    std::fs::write(&events, &text).unwrap();
    embellish(&run, |report| {
        report.status = RunStatus::Pass;
        report.evidence_class = EvidenceClass::ServedModel;
    });
    let all = faults(&run.directory);
    assert!(all.iter().any(|f| f.found.contains("model that is not admitted")));
    // And a page that says something else than the report.
    let (_dir, run) = alone(sealed);
    std::fs::write(run.directory.join(names::REPORT_HTML), "<p>pass</p>").unwrap();
    reseal(&run.directory);
    assert_eq!(wrong(&run.directory).1, names::REPORT_HTML);
}

#[test]
fn an_embellished_report_does_not_agree_with_the_other_files() {
    let dir = tempfile::tempdir().unwrap();
    type Change = fn(&mut serde_json::Value);
    let changes: [(&str, Change); 16] = [
        (names::MODEL_RECORD, |v| v["provider"] = json!("another")),
        (names::GATE, |v| v["gates"][0]["state"] = json!("failed")),
        (names::GATE, |v| v["admitted"] = json!(false)),
        (names::GATE, |v| v["engine"] = json!("fake")),
        (names::GATE, |v| v["more"] = json!(1)),
        ("backend/judgement.json", |v| v[1]["passed"] = json!(false)),
        ("backend/judgement.json", |v| *v = json!([])),
        ("baseline/no_change.json", |v| v[1]["passed"] = json!(true)),
        ("backend/bridge.json", |v| v["model"] = json!("other")),
        ("backend/bridge.json", |v| v["upstream"] = json!("http")),
        ("backend/bridge.json", |v| v["exchanges"] = json!([])),
        ("backend/bridge.json", |v| v["secrets_seen"] = json!(["model_key"])),
        ("backend/bridge.json", |v| v["hosts_asked"] = json!(["home.example"])),
        ("backend/bridge.json", |v| v["limit_hit"] = json!("requests")),
        (names::SANDBOX, |v| v["stable"]["verified"][0]["sha256"] = json!("sha256:00")),
        (names::FRESHNESS, |v| v["seen"][0]["found"] = json!(false)),
    ];
    for (name, change) in changes {
        let run = sealed(dir.path());
        write_anew(&run, name, change);
        reseal(&run.directory);
        assert_eq!(wrong(&run.directory), (FaultKind::Report, name.to_owned()));
    }
    // An event that is only in the report, and pages that this version cannot make again.
    type Embellish = fn(&mut RunReport);
    let changes: [(&str, Embellish); 4] = [
        ("backend/bridge.json", |r| r.hosts_asked.push("home.example".into())),
        ("backend/bridge.json", |r| r.wire_omitted = 1),
        (names::EVENTS, |r| r.required_events[0].kind = "judge_finished".into()),
        (names::REPORT, |r| r.admit_version = "0.0.9".into()),
    ];
    for (path, change) in changes {
        let run = sealed(dir.path());
        let id = embellish(&run, change);
        assert_eq!(wrong(&run.directory).1, path);
        let by_id = check(&run.directory, Some(&id)).unwrap();
        assert_eq!(by_id.level.is_some(), path == names::REPORT);
    }
}

#[test]
fn what_the_report_does_not_claim_needs_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let event = |kind: &str, seen, by| RequiredEvent { kind: kind.into(), seen, by };
    let run = sealed(dir.path());
    embellish(&run, |report| {
        report.required_events.push(event("never", false, Author::Admit));
        report.required_events.push(event("agents_own", true, Author::Agent));
    });
    let all = faults(&run.directory);
    assert!(!all.iter().any(|fault| fault.expected.contains("required event")), "{all:?}");
    // Rows of the wire that were left out are counted with those that are there.
    let run = sealed(dir.path());
    write_anew(&run, "backend/bridge.json", |proxy| {
        let mut more = proxy["exchanges"][0].clone();
        (more["exchange"], more["forwarded_sha256"]) = (json!(2), json!(null));
        proxy["exchanges"].as_array_mut().unwrap().push(more);
    });
    embellish(&run, |report| report.wire_omitted = 1);
    let all = faults(&run.directory);
    assert!(!all.iter().any(|fault| fault.expected.contains("exchanges")), "{all:?}");
}

#[test]
fn a_gate_that_asked_the_model_has_its_exchange() {
    let dir = tempfile::tempdir().unwrap();
    let told = |gate: Finding| {
        let mut report = rehearsed();
        report.gates.push(gate);
        let run = begin(dir.path());
        fill_with(&run, &report, None);
        faults(&run.seal(report).unwrap().directory)
    };
    assert_eq!(told(Finding::not_asked("response_shape", "it was not asked for")), []);
    let faults = told(Finding::ok("response_shape", "an answer", "an answer"));
    assert!(faults[0].expected.contains("the probe's exchange"), "{faults:?}");
}

#[test]
fn where_the_sentinel_stood_the_report_has_a_word() {
    let sentinel = Freshness::sentinel("n");
    let (_dir, run) = alone(sealed);
    let name = "backend/bridge.json";
    write_anew(&run, name, |v| v["hosts_asked"] = json!([format!("{sentinel}.example")]));
    let wire = run.directory.join("backend/wire/0001.reply");
    let text = format!("{}{sentinel}", String::from_utf8_lossy(REPLY));
    std::fs::write(wire, &text).unwrap();
    embellish(&run, |report| {
        report.hosts_asked = vec!["[sentinel].example".into()];
        report.wire[0].reply = Excerpt::of(text.replace(&sentinel, "[sentinel]").as_bytes(), 100);
    });
    let faults = faults(&run.directory);
    let of = |fault: &Fault| fault.path == name || fault.expected.contains("exchange 1");
    assert!(!faults.iter().any(of), "{faults:?}");
}

/// A change to the text of one file of a sealed run, which is sealed anew.
fn text_changed(run: &Sealed, name: &str, from: &str, to: &str) -> Fault {
    let file = run.directory.join(name);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{name} has no {from}: {text}");
    std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
    let id = reseal(&run.directory);
    assert!(check(&run.directory, Some(&id)).unwrap().level.is_none(), "{name}: {from}");
    faults(&run.directory).remove(0)
}

#[test]
fn what_the_probe_asked_and_was_told_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(faults(&probed(dir.path()).directory), []);
    let (list, question) = ("backend/wire/0000-list", "backend/wire/0000");
    for (name, from, to, expected) in [
        // The reply: another answer, another model, an end that is none, nothing at all.
        (format!("{question}.reply"), "\"ready\"", "null   ", "the probe's verdict"),
        (format!("{question}.reply"), "\"m\"", "\"n\"", "the probe's verdict"),
        (format!("{question}.reply"), "[DONE]", "[XXXX]", "the probe's verdict"),
        (format!("{question}.reply"), "200 OK", "500 No", "the probe's verdict"),
        // The request: another question, another model, another budget, another place, nothing.
        (format!("{question}.request"), "ready", "steady", "the probe's request"),
        (format!("{question}.request"), "\"m\"", "\"n\"", "the probe's request"),
        (format!("{question}.request"), "1024", "32", "the probe's request"),
        (format!("{question}.request"), "[base]/chat/", "[base]/", "the probe's request"),
        (format!("{question}.request"), "POST", "GET", "the probe's request"),
        // The list.
        (format!("{list}.request"), "/models", "/nothing", "the probe's request"),
        (format!("{list}.reply"), "\"m\"", "\"o\"", "that the model is listed"),
        (format!("{list}.reply"), ",{\"id\":\"n\"}", "              ", "models_listed"),
        // The gate's own word for it.
        (names::GATE.to_owned(), "\"models_listed\": 2", "\"models_listed\": 3", "models_listed"),
        (names::GATE.to_owned(), "\"ready\"", "\"reply_unusable\"", "probe/outcome"),
        (names::GATE.to_owned(), "\"ok_text\"", "\"ok_tools\"", "the probe's verdict"),
    ] {
        let fault = text_changed(&probed(dir.path()), &name, from, to);
        assert_eq!(fault.kind, FaultKind::Report, "{name}, {from}: {fault:?}");
        assert!(fault.expected.contains(expected), "{name}, {from}: {fault:?}");
    }
    // What went on to the model.
    let fault = text_changed(&sealed(dir.path()), "backend/wire/0001.request", "{}", "[]");
    assert!(fault.expected.contains("forwarded_sha256"), "{fault:?}");
    // One that is left out, in the report and at the gate.
    let run = probed(dir.path());
    embellish(&run, |report| drop(report.wire.drain(..2)));
    let fault =
        text_changed(&run, names::GATE, "\"outcome\": \"ready\"", "\"outcome\": \"ready\" ");
    assert!(fault.expected.contains("the probe's exchange"), "{fault:?}");
}

#[test]
fn what_the_report_shows_of_the_wire_stands_in_the_files() {
    let dir = tempfile::tempdir().unwrap();
    for change in [
        (|report| report.wire[0].request.text.push('x')) as fn(&mut RunReport),
        |report| report.wire[0].reply.text = "data: well done".into(),
        |report| report.wire[0].reply.omitted_bytes = 1,
        |report| report.wire[0].reply_file = "backend/stdout.log".into(),
    ] {
        let run = sealed(dir.path());
        embellish(&run, change);
        let all = faults(&run.directory);
        assert!(all.iter().any(|f| f.expected.contains("as report.json shows it")), "{all:?}");
    }
}
