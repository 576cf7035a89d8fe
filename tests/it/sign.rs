//! Keys, attestations, bundles: what is signed can be checked by others, and nothing else is accepted.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::util::{Run, World};

/// A world with the stand-in built and on record, and a key.
fn world() -> World {
    let world = World::with_shared_store();
    world.admit(&["build", "understudy", "--record"]).expect(0);
    world.admit(&["key", "new", "release"]).expect(0);
    world
}

fn keys(world: &World) -> PathBuf {
    world.home().join(".local/share/admit/keys")
}

/// What `ssh-keygen` says; it is the judge of our key files.
fn ssh_keygen(args: &[&str]) -> String {
    let output = Command::new("ssh-keygen").args(args).env_clear().output();
    let output = output.expect("ssh-keygen starts (Debian: openssh-client)");
    assert!(output.status.success(), "ssh-keygen {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn attest(world: &World, args: &[&str]) -> PathBuf {
    let bundle = world.cwd().join(format!("{}.intoto.jsonl", args[0]));
    let mut all = vec!["attest"];
    all.extend(args);
    all.extend(["--out", bundle.to_str().unwrap()]);
    world.admit(&all).expect(0);
    bundle
}

fn payload(bundle: &Path) -> Value {
    let text = std::fs::read_to_string(bundle).unwrap();
    let envelope: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

fn check(world: &World, bundle: &Path) -> Run {
    world.admit(&["verify", "understudy", "--json", "--bundle", bundle.to_str().unwrap()])
}

/// The row of the signatures.
fn row(run: &Run) -> Value {
    let rows = run.json()["providers"][0]["rows"].as_array().unwrap().clone();
    rows.into_iter().find(|row| row["id"] == "signature").unwrap_or_default()
}

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

    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o644)).unwrap();
    let run = world.admit(&["attest", "build", "understudy", "--json"]).refuse(3, "key_unusable");
    assert_eq!(run.json()["expected"], "mode 0600");
    assert_eq!(run.json()["found"], "mode 0644");
}

#[test]
fn foreign_keys_are_taken_over_and_encrypted_ones_refused() {
    let world = World::new();
    let file = |name: &str| world.cwd().join(name);
    let make = |name: &str, kind: &[&str], phrase: &str| {
        let path = file(name);
        let mut args = vec!["-q", "-N", phrase, "-C", "x", "-f", path.to_str().unwrap(), "-t"];
        args.extend(kind);
        ssh_keygen(&args);
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
    // Somebody else's public key signs nothing.
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

    let statement = payload(&bundle);
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let report = world.admit(&["build", "understudy", "--json"]).expect(0).json()["report"].clone();
    assert_eq!(
        statement["subject"],
        json!([{ "name": "dist/ca", "digest": { "sha256": report["sha256"] } }])
    );
    let built = &statement["predicate"]["buildDefinition"];
    assert_eq!(built["externalParameters"]["commit"], report["pinned_commit"]);
    assert!(
        statement["predicate"]["runDetails"]["builder"]["id"]
            .as_str()
            .unwrap()
            .starts_with("urn:admit:")
    );
    // The record is named by the digest that sha256sum prints of its file.
    let record = &statement["predicate"]["runDetails"]["byproducts"][0];
    let file = world.home().join(".local/share/admit/root").join(record["name"].as_str().unwrap());
    let digest = <sha2::Sha256 as sha2::Digest>::digest(std::fs::read(file).unwrap());
    assert_eq!(record["digest"]["sha256"], hex::encode(digest));

    let run = check(&world, &bundle).expect(0);
    assert!(
        row(&run)["found"].as_str().unwrap().starts_with("signed by release (SHA256:"),
        "{run}"
    );

    let verdict = attest(&world, &["verdict", "understudy", "--key", "release"]);
    let summary = payload(&verdict);
    assert_eq!(summary["predicate"]["verificationResult"], "PASSED");
    let levels = summary["predicate"]["verifiedLevels"].as_array().unwrap();
    assert!(levels.contains(&json!("SLSA_BUILD_LEVEL_1")));
    assert!(levels.iter().all(|l| {
        let level = l.as_str().unwrap();
        level == "SLSA_BUILD_LEVEL_1" || level.starts_with("ADMIT_")
    }));
    // Signed yesterday by another version, it still says what admit finds today.
    world
        .admit(&[
            "verify",
            "understudy",
            "--now",
            "2030-01-01",
            "--bundle",
            verdict.to_str().unwrap(),
        ])
        .expect(0);
}

#[test]
fn what_was_changed_or_signed_by_strangers_is_refused() {
    let world = world();
    let bundle = attest(&world, &["build", "understudy", "--key", "release"]);
    let good: Value =
        serde_json::from_str(std::fs::read_to_string(&bundle).unwrap().trim()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut envelope = good.clone();
        change(&mut envelope);
        std::fs::write(&bundle, envelope.to_string()).unwrap();
        check(&world, &bundle)
    };
    let refused = |run: Run, code: i32, reason: &str| {
        let run = run.expect(code);
        assert_eq!(row(&run)["reason"], reason, "{run}");
    };
    let flip = |value: &mut Value, at: usize| {
        let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
        bytes[at] ^= 1;
        *value = STANDARD.encode(bytes).into();
    };
    refused(with(&|e| flip(&mut e["payload"], 200)), 5, "signature_invalid");
    refused(with(&|e| flip(&mut e["signatures"][0]["sig"], 10)), 5, "signature_invalid");
    refused(with(&|e| e["payloadType"] = "application/json".into()), 5, "signature_invalid");
    refused(with(&|e| e["signatures"] = json!([])), 5, "bad_envelope");
    refused(with(&|e| e["payload"] = "%".into()), 5, "bad_envelope");
    // The hint at the key is not signed: without it the signature is still the key's.
    with(&|e| e["signatures"][0]["keyid"] = "".into()).expect(0);

    std::fs::write(&bundle, good.to_string()).unwrap();
    let text = bundle.to_str().unwrap();
    world.admit(&["key", "new", "other"]).expect(0);
    refused(
        world.admit(&["verify", "understudy", "--json", "--bundle", text, "--key", "other"]),
        3,
        "signer_unknown",
    );
    std::fs::write(&bundle, "").unwrap();
    refused(check(&world, &bundle), 3, "signature_missing");
    std::fs::remove_file(&bundle).unwrap();
    check(&world, &bundle).refuse(2, "not_found");
    world.admit(&["verify", "--bundle", text]).expect(2);
}
