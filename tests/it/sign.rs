//! Keys, attestations, bundles: what is signed can be checked by others, and nothing else is accepted.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
#[cfg(feature = "oracles")]
use std::process::Command;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::files::{self, mode, pipe_at, program, write};
use crate::run::{SCRIPTED, built, row as finding};
use crate::runs::blocked;
use crate::util::{Run, World, project};

/// A world with the stand-in built and on record, and a key.
fn world() -> World {
    let world = built();
    world.admit(&["key", "new", "release"]).expect(0);
    world
}

fn keys(world: &World) -> PathBuf {
    world.home().join(".local/share/admit/keys")
}

/// `ssh-keygen`, the judge of our key files. It refuses to work for a user without a name, so such a one asks it as
/// the root of a user namespace.
#[cfg(feature = "oracles")]
fn keygen() -> Command {
    let named = Command::new("id").arg("-un").output().expect("id starts");
    let named = named.status.success();
    let mut command = Command::new(if named { "ssh-keygen" } else { "unshare" });
    command.args(if named { &[][..] } else { &["--map-root-user", "ssh-keygen"] }).env_clear();
    command
}

#[cfg(feature = "oracles")]
fn ssh_keygen(args: &[&str]) -> String {
    let output = keygen().args(args).output();
    let output = output.expect("ssh-keygen starts (Debian: openssh-client)");
    assert!(output.status.success(), "ssh-keygen {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn attest(world: &World, args: &[&str]) -> PathBuf {
    let bundle = world.cwd().join(format!("{}.intoto.jsonl", args[0]));
    let to = ["--out", bundle.to_str().unwrap()];
    world.admit(&[&["attest"], args, &to].concat()).expect(0);
    bundle
}

/// Signs what stands on record, beside it.
fn sign(world: &World, what: &str, of: &str, key: &str) -> PathBuf {
    let args = ["attest", what, of, "--key", key, "--record", "--json"];
    PathBuf::from(world.admit(&args).expect(0).json()["file"].as_str().unwrap())
}

/// The last statement of a bundle.
fn payload_of(bundle: &Path) -> Value {
    let text = std::fs::read_to_string(bundle).unwrap();
    payload(&serde_json::from_str(text.lines().last().unwrap()).unwrap())
}

fn payload(envelope: &Value) -> Value {
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

fn check(world: &World, bundle: &Path) -> Run {
    world.admit(&["verify", "understudy", "--json", "--bundle", bundle.to_str().unwrap()])
}

/// The finding about the build's signatures.
fn row(run: &Run) -> Value {
    finding(&run.json()["providers"][0]["findings"], "build_signed").clone()
}

#[cfg(feature = "oracles")]
#[test]
fn keys_are_openssh_keys_and_stay_private() {
    let world = World::new();
    let made = world.admit(&["key", "new", "--json"]).expect(0);
    let shown = made.json()["keys"][0].clone();
    let private = keys(&world).join("default");
    let path = private.to_str().unwrap();
    assert_eq!(private.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    // Fingerprint and public line as OpenSSH reads them out of the private key alone.
    let listed = ssh_keygen(&["-lf", path]);
    assert_eq!(listed.split(' ').nth(1), shown["fingerprint"].as_str());
    assert_eq!(ssh_keygen(&["-y", "-f", path]).trim(), shown["public"].as_str().unwrap());
    world.admit(&["key", "new"]).refuse(2, "bad_argument");

    let secret = std::fs::read_to_string(&private).unwrap();
    let body: Vec<&str> = secret.lines().filter(|line| !line.starts_with("-----")).collect();
    for args in [&["key", "show", "default"][..], &["key", "show", "--json"]] {
        let run = world.admit(args).expect(0);
        let said = run.stdout() + &run.stderr();
        assert!(said.contains(shown["fingerprint"].as_str().unwrap()));
        // The end of the body holds the private half; its beginning is the same for every key.
        assert!(body[1..].iter().all(|line| !said.contains(line)), "{run}");
    }
    let pem = world.admit(&["key", "show", "default", "--pem"]).expect(0).stdout();
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA"), "{pem}");

    mode(&private, 0o644);
    let run = world.admit(&["attest", "build", "understudy", "--json"]).refuse(3, "key_unusable");
    assert_eq!(run.json()["expected"], "mode 0600");
    assert_eq!(run.json()["found"], "mode 0644");
}

/// The file size limit ends admit at its first write, the way a kill or a full disk does.
#[test]
fn a_key_whose_making_was_cut_short_can_be_made_again() {
    let world = World::new();
    assert_ne!(world.under("ulimit -f 0", &["key", "new"]).code(), Some(0));
    world.admit(&["key", "show"]).expect(0);
    world.admit(&["key", "new"]).expect(0);
    let start = std::time::Instant::now();
    world.admit(&["key", "new", "whole"]).expect(0);
    let whole = start.elapsed();
    for round in 0..24 {
        let name = format!("k{round}");
        let mut child = world.start(&["key", "new", &name]);
        std::thread::sleep(whole * round / 24);
        child.kill().unwrap();
        child.wait().unwrap();
        let listed = world.admit(&["key", "show", "--json"]).expect(0).json();
        let there = listed["keys"].as_array().unwrap().iter().any(|key| key["name"] == *name);
        world.admit(&["key", "new", &name]).expect(if there { 2 } else { 0 });
        world.admit(&["key", "show", &name]).expect(0);
        #[cfg(feature = "oracles")]
        ssh_keygen(&["-y", "-f", keys(&world).join(&name).to_str().unwrap()]);
    }
    let names = files::names(keys(&world));
    assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");
}

#[test]
fn signatures_that_are_added_at_once_are_all_there() {
    const AT_ONCE: usize = 8;
    let world = World::new();
    let (run, _) = blocked(&world);
    let run = run.to_str().unwrap();
    for n in 0..AT_ONCE {
        world.admit(&["key", "new", &format!("k{n}")]).expect(0);
    }
    let out = world.cwd().join("out.jsonl");
    let beside = PathBuf::from(format!("{run}.intoto.jsonl"));
    for (bundle, place) in
        [(&out, &["--out", out.to_str().unwrap()][..]), (&beside, &["--record"][..])]
    {
        let start = |n| {
            let key = format!("k{n}");
            let mut command = world.command(&["attest", "run", run, "--key", &key]);
            command.args(place).stdout(Stdio::null()).spawn().unwrap()
        };
        let started: Vec<_> = (0..AT_ONCE).map(start).collect();
        for mut child in started {
            assert!(child.wait().unwrap().success());
        }
        let text = std::fs::read_to_string(bundle).unwrap();
        assert_eq!(text.lines().collect::<BTreeSet<_>>().len(), AT_ONCE, "{}", bundle.display());
    }
}

/// Without a writer, a plain open of a pipe waits for ever.
#[test]
fn a_public_key_that_others_could_have_written_counts_for_nothing() {
    let world = World::new();
    world.admit(&["key", "new", "bob"]).expect(0);
    let (dir, file) = (keys(&world), keys(&world).join("bob.pub"));
    for path in [&dir, &file] {
        let before = std::fs::metadata(path).unwrap().permissions();
        mode(path, before.mode() | 0o022);
        world.admit(&["key", "show", "bob"]).refuse(3, "key_unusable");
        world.admit(&["key", "show"]).refuse(3, "key_unusable").told(&path.display().to_string());
        std::fs::set_permissions(path, before).unwrap();
        // Only root can give a file away.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(path, Some(65534), None).unwrap();
            world.admit(&["key", "show", "bob"]).refuse(3, "key_unusable");
            std::os::unix::fs::chown(path, Some(0), None).unwrap();
        }
        world.admit(&["key", "show", "bob"]).expect(0);
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_at_once() {
    let world = World::new();
    let (run, _) = blocked(&world);
    let run = run.to_str().unwrap();
    world.admit(&["key", "new"]).expect(0);
    let pipe = world.cwd().join("pipe").display().to_string();
    for path in [&pipe, &format!("{run}.intoto.jsonl")] {
        pipe_at(path);
    }
    for args in [
        &["verify", run][..],
        &["verify", run, "--bundle", &pipe],
        &["attest", "run", run, "--record"],
        &["attest", "run", run, "--out", &pipe],
        &["key", "import", "other", &pipe],
        &["sbom", "--report", &pipe],
        &["sbom", "understudy", "--out", &pipe],
    ] {
        let mut command = world.command_behind(&["timeout", "20"], args);
        let run = world.run(&args.join(" "), &mut command).refuse(2, "bad_argument");
        let said = run.stderr();
        assert!(said.contains("a regular file") && said.contains("a pipe"), "{run}");
    }
}

#[cfg(feature = "oracles")]
#[test]
fn foreign_keys_are_taken_over_and_encrypted_ones_refused() {
    let world = World::new();
    let file = |name: &str| world.cwd().join(name);
    let make = |name: &str, kind: &[&str], phrase: &str| {
        let path = file(name);
        let args = ["-q", "-N", phrase, "-C", "x", "-f", path.to_str().unwrap(), "-t"];
        ssh_keygen(&[&args[..], kind].concat());
    };
    make("plain", &["ed25519"], "");
    make("locked", &["ed25519"], "a pass phrase");
    make("ecdsa", &["ecdsa"], "");
    let import = |name: &str, of: &str| {
        world.admit(&["key", "import", name, file(of).to_str().unwrap(), "--json"])
    };
    let key = import("a", "plain").expect(0).json()["keys"][0].clone();
    assert_eq!(key["own"], true);
    let listed = ssh_keygen(&["-lf", file("plain.pub").to_str().unwrap()]);
    assert_eq!(listed.split(' ').nth(1), key["fingerprint"].as_str());
    let public = import("b", "plain.pub").expect(0).json()["keys"][0].clone();
    assert_eq!((&public["own"], &public["fingerprint"]), (&json!(false), &key["fingerprint"]));
    import("a", "plain").refuse(2, "bad_argument");
    let locked = import("c", "locked").refuse(3, "key_unusable");
    assert!(locked.json()["what"].as_str().unwrap().contains("encrypted"), "{locked}");
    import("c", "ecdsa").refuse(3, "key_unusable");
    import("c", "ecdsa.pub").refuse(3, "key_unusable");
    // A public key alone signs nothing.
    world.admit(&["attest", "build", "understudy", "--key", "b"]).refuse(3, "key_unusable");
}

#[test]
fn a_build_is_attested_after_it_was_verified_and_the_same_each_time() {
    let world = World::with_shared_store();
    world.admit(&["key", "new", "release"]).expect(0);
    world.admit(&["build", "understudy"]).expect(0);
    let args = ["attest", "build", "understudy", "--key", "release"];
    world.admit(&args).refuse(3, "attest_refused");
    world.admit(&["build", "understudy", "--record"]).expect(0);
    let first = world.admit(&args).expect(0).stdout();
    assert_eq!(world.admit(&args).expect(0).stdout(), first);
    let bundle = attest(&world, &["build", "understudy", "--key", "release"]);
    assert_eq!(std::fs::read_to_string(&bundle).unwrap(), first);
    // The same line is not added twice.
    attest(&world, &["build", "understudy", "--key", "release"]);
    assert_eq!(std::fs::read_to_string(&bundle).unwrap(), first);

    let statement = payload_of(&bundle);
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let report = world.admit(&["build", "understudy", "--json"]).expect(0).json()["report"].clone();
    let subject = json!([{ "name": "dist/ca", "digest": { "sha256": report["sha256"] } }]);
    assert_eq!(statement["subject"], subject);
    let built = &statement["predicate"]["buildDefinition"];
    assert_eq!(built["externalParameters"]["commit"], report["pinned_commit"]);
    let details = &statement["predicate"]["runDetails"];
    assert!(details["builder"]["id"].as_str().unwrap().starts_with("urn:admit:"));
    // The record is named by the digest that sha256sum prints of its file.
    let record = &details["byproducts"][0];
    let file = world.root().join(record["name"].as_str().unwrap());
    let digest = <sha2::Sha256 as sha2::Digest>::digest(std::fs::read(file).unwrap());
    assert_eq!(record["digest"]["sha256"], hex::encode(digest));

    let signed = row(&check(&world, &bundle).expect(0));
    let found = signed["found"].as_str().unwrap();
    assert!(found.starts_with("signed by release (SHA256:"), "{signed}");

    let verdict = attest(&world, &["verdict", "understudy", "--key", "release"]);
    let summary = payload_of(&verdict);
    assert_eq!(summary["predicate"]["verificationResult"], "PASSED");
    let levels = summary["predicate"]["verifiedLevels"].as_array().unwrap().iter();
    let levels: Vec<&str> = levels.map(|level| level.as_str().unwrap()).collect();
    let others = levels.iter().filter(|level| !level.starts_with("ADMIT_"));
    assert!(others.eq(&["SLSA_BUILD_LEVEL_1"]), "{levels:?}");
    // It still says what admit finds at a later moment.
    world.admit(&["verify", "understudy", "--bundle", verdict.to_str().unwrap()]).expect(0);
}

#[test]
fn what_unknown_keys_or_nobody_signed_is_refused() {
    let world = world();
    let bundle = attest(&world, &["build", "understudy", "--key", "release"]);
    let good = files::json(&bundle);
    let refused = |run: Run, code: i32, reason: &str| {
        let run = run.expect(code);
        assert_eq!(row(&run)["reason"], reason, "{run}");
    };
    // What of an envelope is otherwise, the corpus of `tamper` has in each way.
    // The hint at the key is not signed: without it the signature is still the key's.
    let mut envelope = good.clone();
    envelope["signatures"][0]["keyid"] = "".into();
    std::fs::write(&bundle, envelope.to_string()).unwrap();
    check(&world, &bundle).expect(0);

    std::fs::write(&bundle, good.to_string()).unwrap();
    let text = bundle.to_str().unwrap();
    world.admit(&["key", "new", "other"]).expect(0);
    let by_other = ["verify", "understudy", "--json", "--bundle", text, "--key", "other"];
    refused(world.admit(&by_other), 3, "signer_unknown");
    std::fs::write(&bundle, "").unwrap();
    refused(check(&world, &bundle), 3, "signature_missing");
    std::fs::remove_file(&bundle).unwrap();
    check(&world, &bundle).refuse(2, "not_found");
    world.admit(&["verify", "--bundle", text]).expect(2);
}

const PAIR: &str = "scripted/understudy-script";

/// Writes a file of the root in the working directory.
fn put(world: &World, path: &str, bytes: impl AsRef<[u8]>) {
    write(world.cwd().join(path), bytes);
}

/// The `[[signer]]` of a policy, with its name, its key and more.
fn signer(name: &str, key: &str, more: &str) -> String {
    format!("[[signer]]\nname = '{name}'\nkey = '{key}'\n{more}\n")
}

/// The key's line or fingerprint.
fn shown(world: &World, name: &str, field: &str) -> String {
    let keys = world.admit(&["key", "show", name, "--json"]).expect(0).json();
    keys["keys"][0][field].as_str().unwrap().to_owned()
}

#[test]
fn a_policy_refuses_each_departure_with_its_own_reason() {
    let world = World::new();
    let record = "admissions/models/scripted--understudy-script.json";
    put(&world, record, std::fs::read(project().join(record)).unwrap());
    for name in ["a", "b", "c"] {
        world.admit(&["key", "new", name]).expect(0);
    }
    let (a, b) = (shown(&world, "a", "public"), shown(&world, "b", "fingerprint"));
    let policy = |of_a: &str, rule: &str| {
        let signers = signer("a", &a, of_a) + &signer("b", &b, "");
        put(&world, "admit.toml", format!("{signers}[require]\nmodel = {{ {rule} }}\n"));
        world.admit(&["trust", "."]).expect(0);
    };
    let check = || world.admit(&["model", "check", PAIR, "--json"]);
    let refused = |code: i32, reason: &str| {
        let run = check().expect(code);
        assert_eq!(run.json()["signature"]["reason"], reason, "{run}");
    };
    // b is named by its fingerprint: its line must stand in the root.
    policy("", "signers = ['a', 'b']");
    check().refuse(3, "key_unusable");
    put(&world, "admissions/keys/b.pub", shown(&world, "b", "public"));
    policy("", "signers = ['a', 'b']");
    refused(3, "signature_missing");
    let sign = |key: &str| sign(&world, "model", PAIR, key);
    let file = sign("c");
    // What admit wrote itself leaves the root trusted.
    refused(3, "signer_unknown");
    sign("a");
    sign("a");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2);
    refused(3, "signatures_too_few");
    sign("b");
    let names = check().expect(0).json()["signature"]["found"].as_str().unwrap().to_owned();
    assert!(names.contains("a (SHA256:") && names.contains("b (SHA256:"), "{names}");

    // Keys out of their time: the corpus of `tamper`, and, to the second, the unit tests of signers.
    policy("revoked = 'the laptop was lost'", "signers = ['a', 'b'], signatures = 1");
    check().expect(0);

    // The root is trusted as it is, and still what it holds is not what was signed.
    let good = std::fs::read_to_string(&file).unwrap();
    let other = shown(&world, "b", "fingerprint");
    std::fs::write(&file, good.replace(&other, &shown(&world, "a", "fingerprint"))).unwrap();
    check().refuse(3, "root_not_trusted");
    let line = |n: usize| good.lines().nth(n).unwrap().to_owned();
    let mut envelope: Value = serde_json::from_str(&line(1)).unwrap();
    envelope["payloadType"] = "text/plain".into();
    std::fs::write(&file, envelope.to_string()).unwrap();
    policy("", "signers = ['a']");
    refused(5, "signature_invalid");
    std::fs::write(&file, "{}").unwrap();
    policy("", "signers = ['a']");
    refused(5, "bad_envelope");
    // Changed after it was signed, the record is another file, and that one is not signed.
    std::fs::write(&file, &good).unwrap();
    files::edit(world.cwd().join(record), |record| record["review_trigger"] = "never".into());
    policy("", "signers = ['a']");
    refused(3, "signature_missing");
    // The bundle of the record before, put in its place, is about another thing.
    let bundle = world.cwd().join("old.jsonl");
    std::fs::write(&bundle, &good).unwrap();
    let args = ["model", "check", PAIR, "--json", "--bundle", bundle.to_str().unwrap()];
    let run = world.admit(&args).expect(5);
    assert_eq!(run.json()["signature"]["reason"], "attested_other");
    put(&world, "admit.toml", "[require]\nmodel = { signers = ['unknown'] }\n");
    world.admit(&["trust", "."]).refuse(2, "bad_record");
    put(&world, "admit.toml", "[requires]\n");
    world.admit(&["trust", "."]).refuse(2, "bad_record");
}

/// A verdict is signed as what verify says now. Under a policy for builds that leaves no way to sign one before the build is
/// signed, but where the verdict is that signature: on a binary that was built elsewhere.
#[test]
fn a_verdict_says_what_verify_says_and_comes_first_where_it_is_the_builds_signature() {
    let world = world();
    let ask = |world: &World| {
        let signer = signer("release", &shown(world, "release", "public"), "");
        world
            .put("admit.toml", format!("{signer}[require]\nbuild = {{ signers = ['release'] }}\n"));
        world.admit(&["verify", "understudy"]).expect(3);
    };
    ask(&world);
    let verdict = ["attest", "verdict", "understudy", "--key", "release", "--json"];
    let refused = world.admit(&verdict).refuse(3, "attest_refused").json();
    assert_eq!(refused["found"], "not: build_signed");
    sign(&world, "build", "understudy", "release");
    world.admit(&verdict).expect(0);

    let binary = world.path().join("ca");
    let built = world.admit(&["build", "understudy", "--json"]).expect(0).json();
    program(built["output"].as_str().unwrap(), &binary);
    let adopter = World::new();
    let adopt = ["adopt", "understudy", "--binary", binary.to_str().unwrap(), "--record"];
    adopter.admit(&adopt).expect(0);
    adopter.admit(&["key", "new", "release"]).expect(0);
    ask(&adopter);
    sign(&adopter, "verdict", "understudy", "release");
    adopter.admit(&["verify", "understudy"]).expect(0);
}

#[test]
fn the_gate_asks_for_the_signatures_and_a_run_is_signed_by_its_id() {
    let world = world();
    let policy = |kinds: &[&str]| {
        let rules = kinds.iter().map(|kind| format!("{kind} = {{ signers = ['release'] }}\n"));
        let signer = signer("release", &shown(&world, "release", "public"), "");
        world.put("admit.toml", format!("{signer}[require]\n{}", rules.collect::<String>()));
    };
    policy(&["build", "model"]);
    let run = |more: &[&str]| world.admit(&[&["run", "--json"], &SCRIPTED[..], more].concat());
    let gate = |outcome: &Value, id: &str| -> (String, String) {
        let gates = outcome.get("gates").unwrap_or(&outcome["report"]["gates"]);
        let row = finding(gates, id);
        (row["state"].as_str().unwrap().to_owned(), row["found"].as_str().unwrap().to_owned())
    };
    let blocked = run(&[]).expect(3).json();
    assert_eq!(blocked["report"]["case_process_started"], false);
    for id in ["build_signed", "model_signed"] {
        assert_eq!(gate(&blocked, id), ("failed".into(), "signature_missing: no bundle".into()));
    }
    // Verify asks for the same, and what it says is no digest that does not match.
    let unsigned = world.admit(&["verify", "understudy", "--json"]).expect(3);
    assert_eq!(row(&unsigned)["reason"], "signature_missing");
    let sign = |what: &str, of: &str| sign(&world, what, of, "release");
    let bundle = sign("build", "understudy");
    sign("model", PAIR);
    world.admit(&["verify", "understudy"]).expect(0);
    let holds = run(&["--dry-run"]).expect(0).json();
    for id in ["build_signed", "model_signed"] {
        let (state, found) = gate(&holds, id);
        assert!(state == "ok" && found.starts_with("signed by release (SHA256:"), "{found}");
    }
    let good = std::fs::read_to_string(&bundle).unwrap();
    let mut envelope: Value = serde_json::from_str(good.trim()).unwrap();
    let payload = envelope["payload"].as_str().unwrap().replacen('e', "f", 1);
    envelope["payload"] = payload.into();
    std::fs::write(&bundle, envelope.to_string()).unwrap();
    let altered = run(&["--dry-run"]).expect(5).json();
    assert!(gate(&altered, "build_signed").1.starts_with("signature_invalid"));
    std::fs::write(&bundle, good).unwrap();

    // A run that was refused is evidence as well, and says that it is no pass.
    let dir = PathBuf::from(blocked["directory"].as_str().unwrap());
    let id = blocked["id"].as_str().unwrap();
    let path = dir.to_str().unwrap();
    let level = |run: Run| run.expect(0).json()["level"].as_str().unwrap().to_owned();
    let accept = ["--accept", "blocked"];
    let verify = ["verify", path, "--json", accept[0], accept[1]];
    assert_eq!(level(world.admit(&verify)), "self-consistent");
    policy(&["run"]);
    let unsigned = world.admit(&verify).expect(3).json();
    assert_eq!(unsigned["signature"]["reason"], "signature_missing");
    let beside = sign("run", path);
    assert_eq!(beside, PathBuf::from(format!("{path}.intoto.jsonl")));
    let statement = payload_of(&beside);
    assert_eq!(statement["predicate"]["result"], "FAILED");
    let about = statement["subject"][0]["digest"]["sha256"].as_str().unwrap();
    assert_eq!(format!("sha256:{about}"), id);
    // Intact and signed, it is still no pass.
    world.admit(&["verify", path, "--id", id]).expect(1);
    let identified = [&verify[..], &["--id", id]].concat();
    let signed = world.admit(&identified).expect(0).json();
    assert_eq!(signed["level"], "signed");
    let print = shown(&world, "release", "fingerprint");
    assert_eq!(signed["signature"]["signed_by"]["release"], print.as_str());
    let run = world.admit(&["verify", path, accept[0], accept[1]]).expect(0);
    run.shows(&format!("signed by release ({print})"));
    // A copy with its bundle is the same run; with a byte more it is none, despite the signature.
    let copy = world.cwd().join("copy");
    std::fs::rename(&dir, &copy).unwrap();
    let bundle = ["--bundle", beside.to_str().unwrap()];
    let copied = ["verify", copy.to_str().unwrap(), "--json", bundle[0], bundle[1]];
    let copied = [&copied[..], &accept].concat();
    assert_eq!(level(world.admit(&copied)), "signed");
    std::fs::write(copy.join("patch.diff"), "x").unwrap();
    world.admit(&copied).expect(5);
    let attest = ["attest", "run", copy.to_str().unwrap(), "--key", "release"];
    world.admit(&attest).refuse(5, "evidence_changed");
}

#[test]
fn rebuilds_of_two_keys_satisfy_a_policy_and_two_of_one_do_not() {
    let world = world();
    world.admit(&["key", "new", "other"]).expect(0);
    let (a, b) = (shown(&world, "release", "public"), shown(&world, "other", "public"));
    let policy = |need: u32| {
        let rule = format!("rebuild = {{ signers = ['a', 'b'], signatures = {need} }}");
        let signers = signer("a", &a, "") + &signer("b", &b, "");
        world.put("admit.toml", format!("{signers}[require]\n{rule}\n"));
    };
    policy(2);
    let refused = |reason: &str| {
        let run = world.admit(&["verify", "understudy", "--json"]).expect(3);
        assert_eq!(row(&run)["reason"], reason, "{run}");
    };
    refused("signature_missing");
    let sign = |what: &str, key: &str| sign(&world, what, "understudy", key);
    // Another statement about the same output is no rebuild.
    sign("build", "other");
    refused("signature_missing");
    let bundle = sign("rebuild", "release");
    refused("signatures_too_few");
    sign("rebuild", "release");
    refused("signatures_too_few");
    sign("rebuild", "other");
    let holds = world.admit(&["verify", "understudy", "--json"]).expect(0);
    let found = row(&holds)["found"].as_str().unwrap().to_owned();
    assert!(found.contains("a (SHA256:") && found.contains("b (SHA256:"), "{found}");
    let statement = payload_of(&bundle);
    assert_eq!(statement["predicateType"], "urn:admit:predicate:rebuild:1");
    assert_eq!(statement["predicate"]["result"], "reproduced");
}

#[test]
fn a_sigstore_bundle_holds_the_one_signature_of_a_plain_key() {
    let world = world();
    let file = world.cwd().join("ca.sigstore.json");
    let attest = |more: &[&str]| {
        let args = ["attest", "build", "understudy", "--key", "release", "--format", "sigstore"];
        world.admit(&[&args[..], more].concat())
    };
    attest(&["--out", file.to_str().unwrap()]).expect(0);
    let bundle = files::json(&file);
    assert_eq!(bundle["mediaType"], "application/vnd.dev.sigstore.bundle.v0.3+json");
    assert_eq!(bundle["dsseEnvelope"]["signatures"].as_array().unwrap().len(), 1);
    let pem = world.admit(&["key", "show", "release", "--pem"]).expect(0).stdout();
    let hint = admit::record::ids::Digest::sha256(pem.as_bytes()).to_hex();
    assert_eq!(bundle["verificationMaterial"]["publicKey"]["hint"], hint.as_str());
    // Printed it is the same, once, with and without --json.
    for more in [&[][..], &["--json"]] {
        assert_eq!(attest(more).expect(0).json(), bundle);
    }
    // The envelope in it is one that admit takes.
    let envelope = world.cwd().join("envelope.jsonl");
    std::fs::write(&envelope, bundle["dsseEnvelope"].to_string()).unwrap();
    check(&world, &envelope).expect(0);
    // A file that is there is not replaced, and a bundle of lines is another form.
    assert_ne!(attest(&["--out", file.to_str().unwrap()]).code(), Some(0));
    attest(&["--record"]).expect(2);

    // A link of the build, signed under the name that in-toto has for the key; of nothing else is there one.
    let link = |what: &str| {
        world.admit(&["attest", what, "understudy", "--key", "release", "--format", "link"])
    };
    let envelope = link("build").expect(0).json();
    let keyids = envelope["signatures"].as_array().unwrap().iter().map(|one| &one["keyid"]);
    let keyids: Vec<&str> = keyids.map(|keyid| keyid.as_str().unwrap()).collect();
    assert!(keyids.contains(&shown(&world, "release", "in_toto_keyid").as_str()), "{keyids:?}");
    let payload = payload(&envelope);
    assert_eq!((&payload["_type"], &payload["name"]), (&json!("link"), &json!("build")));
    assert!(payload["products"].as_object().unwrap().len() == 1);
    link("verdict").expect(2);
}

/// OpenSSH signs and checks with our keys under its own format, for files beside a bundle.
#[cfg(feature = "oracles")]
#[test]
fn ssh_keygen_signs_with_our_keys() {
    let world = World::new();
    world.admit(&["key", "new", "k"]).expect(0);
    put(&world, "allowed", format!("me {}\n", shown(&world, "k", "public")));
    put(&world, "text", "what was found");
    let at = |name: &str| world.cwd().join(name).display().to_string();
    let key = keys(&world).join("k").display().to_string();
    ssh_keygen(&["-q", "-Y", "sign", "-n", "admit", "-f", &key, &at("text")]);
    let mut verify = keygen();
    verify.args(["-Y", "verify", "-n", "admit", "-I", "me", "-f", &at("allowed")]);
    verify.args(["-s", &at("text.sig")]);
    let text = std::fs::File::open(at("text")).unwrap();
    let output = verify.stdin(text).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
