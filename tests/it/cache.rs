//! `[cache]`: a build is taken from a registry in place of being made, by the word of whom the root names; a cache that lies,
//! is away or has nothing never makes a yes, and the build is made here. And what admit did not build itself (published,
//! adopted) is shared as what it is.

use std::time::Instant;

use admit::download::client::Client;
use admit::error::Reason;
use admit::host::Silent;
use admit::record::ids::{Algorithm, Digest};
use admit::registry::client::Repository;
use admit::store::Store;
use serde_json::{Value, json};

use crate::fetch::impatient;
use crate::files::{mode, program};
use crate::loopback::{Reply, Server};
use crate::package;
use crate::run::row;
use crate::share::{Registry, other};
use crate::trial::pinned_bun;
use crate::util::{Run, World, shared_store};

/// Where nothing answers: the port is nobody's to give.
const NOWHERE: &str = "http://127.0.0.1:9/npm/";

/// Who took a published program, signed it and shared it; the lock; and the line of the key.
fn publisher(npm: &Server, registry: &Registry) -> (World, Value, String) {
    let world = World::with_own_store();
    let url = npm.url("/npm/");
    let lock = ["lock", "tool", "--package", "@me/tool@1.2.3", "--license", "MIT"];
    world.admit(&[&lock[..], &["--registry", &url]].concat()).expect(0);
    let push = || world.admit(&["push", "tool", &registry.reference()]);
    world.admit(&["build", "tool", "--record", "--registry", &url]).expect(0);
    world.admit(&["key", "new", "release"]).expect(0);
    push().refuse(3, "signature_missing");
    world.admit(&["attest", "build", "tool", "--key", "release", "--record"]).expect(0);
    push().expect(0);
    let lock = crate::files::json(world.root().join("lockfiles/tool.lock.json"));
    let key = public(&world, "release");
    (world, lock, key)
}

fn public(world: &World, name: &str) -> String {
    let key = world.home().join(format!(".local/share/admit/keys/{name}.pub"));
    std::fs::read_to_string(key).unwrap().trim().to_owned()
}

/// Another machine with the same lock, and this in its `admit.toml`.
fn machine(lock: &Value, config: &str) -> World {
    let world = World::with_own_store();
    configure(&world, config);
    world.put("lockfiles/tool.lock.json", lock.to_string());
    world
}

fn configure(world: &World, config: &str) {
    world.put("admit.toml", config);
    mode(world.home().join(".local/share/admit"), 0o700);
    mode(world.root(), 0o700);
}

fn config(key: &str, from: &[String], more: &str) -> String {
    format!(
        "[[signer]]\nname = 'release'\nkey = '{key}'\n{more}\n[cache]\nfrom = {}\nrequire = {{ signers = ['release'] }}\n",
        json!(from)
    )
}

fn build(world: &World, npm: &str, more: &[&str]) -> Run {
    world.admit(&[&["build", "tool", "--registry", npm, "--json"], more].concat())
}

/// What each cache came to, with its reason.
fn came_to(built: &Value) -> Vec<(String, String)> {
    let all = built["cache"].as_array().unwrap().iter();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.map(|one| (word(&one["outcome"]), word(&one["error"]["reason"]))).collect()
}

#[test]
fn a_build_in_a_cache_is_taken_by_the_word_of_whom_the_root_names() {
    let (npm, registry) = (package::registry(&package::packages()), Registry::new());
    let (_a, lock, key) = publisher(&npm, &registry);
    // The first cache has nothing, the second is another registry that has nobody's builds.
    let empty = Registry::new();
    let from = [empty.reference(), registry.reference()];
    let b = machine(&lock, &config(&key, &from, ""));
    b.admit(&["config", "show"]).expect(0).shows("cache.from").shows("1 of release");

    let built = build(&b, NOWHERE, &[]).expect(0).json();
    assert_eq!(built["schema"], "admit.built/3");
    assert_eq!((&built["report"]["origin"], &built["fresh"]), (&json!("pulled"), &json!(true)));
    assert_eq!(built["report"]["pulled"]["origin"], "published");
    let outcomes = [("absent", "not_in_registry"), ("pulled", "")];
    assert_eq!(came_to(&built), outcomes.map(|(a, b)| (a.to_owned(), b.to_owned())));
    // Nothing was put on record that nobody asked for; what is found later needs no cache.
    assert!(!b.root().join("admissions").exists());
    let asked = registry.server.count();
    let again = build(&b, NOWHERE, &["--record"]).expect(0).json();
    assert_eq!((&again["fresh"], &again["cache"]), (&json!(false), &json!([])));
    assert_eq!(registry.server.count(), asked);
    b.admit(&["verify", "tool"]).expect(0).shows("tool");
    b.admit(&["build", "tool"]).expect(0).shows("there it was published, not built here");
    // Who takes the key back takes back what came by it, also where it lies among this user's own.
    let revoked = config(&key, &from, "revoked = 'lost'");
    configure(&b, &revoked);
    b.admit(&["verify", "tool"]).expect(3).shows("key_revoked");
    let mine = b.path().join("release.pub");
    std::fs::write(&mine, format!("{key}\n")).unwrap();
    b.admit(&["key", "import", "mine", mine.to_str().unwrap()]).expect(0);
    b.admit(&["verify", "tool"]).expect(3).shows("key_revoked");
    let reference = registry.reference();
    b.admit(&["pull", "tool", &reference, "--require-signed-by", "mine"]).refuse(3, "key_revoked");
}

#[test]
fn a_cache_that_lies_or_is_away_is_named_and_never_makes_a_yes() {
    let (npm, registry) = (package::registry(&package::packages()), Registry::new());
    let (_a, lock, key) = publisher(&npm, &registry);
    let npm_url = npm.url("/npm/");
    let output = Digest::sha256(&package::program()).to_string();
    let honest = config(&key, &[registry.reference()], "");
    // Nothing to build from, and a cache that lies: no yes, and its words are not the answer.
    let lie = |what: &str, outcome: &str, reason: &str, config: &str| {
        let b = machine(&lock, config);
        build(&b, NOWHERE, &[]).refuse(4, "unreachable").told(reason);
        assert!(!b.root().join("admissions").exists());
        let b = machine(&lock, config);
        let built = build(&b, &npm_url, &["--record"]).expect(0).json();
        assert_eq!(built["report"]["origin"], "published", "{what}");
        assert_eq!(came_to(&built), [(outcome.to_owned(), reason.to_owned())], "{what}");
        b.admit(&["verify", "tool"]).expect(0);
    };
    let before = registry.change(|shelf| {
        *shelf.blobs.get_mut(&output).unwrap().last_mut().unwrap() ^= 1;
    });
    lie("an altered output", "refused", "digest_mismatch", &honest);
    let run = machine(&lock, &honest).admit(&["build", "tool", "--registry", &npm_url]).expect(0);
    run.shows("not believed (digest_mismatch");
    registry.restore(before.clone());
    registry.change(|shelf| shelf.blobs.get_mut(&output).unwrap().push(0));
    lie("a longer output", "refused", "limit_hit", &honest);
    registry.restore(before.clone());
    registry.change(|shelf| shelf.manifests.retain(|name, _| !name.starts_with("att-")));
    lie("no statements", "refused", "signature_missing", &honest);
    registry.restore(before.clone());
    registry.fault(|asked| asked.target.contains("/manifests/att-").then(|| Reply::status(404)));
    lie("lost statements", "refused", "attestation_lost", &honest);
    // Somebody else's build, signed by a key that the root does not name.
    registry.honest();
    let stranger = World::with_own_store();
    stranger.admit(&["key", "new", "other"]).expect(0);
    let other = public(&stranger, "other");
    let not_trusted = config(&other, &[registry.reference()], "");
    lie("another's word", "refused", "signature_missing", &not_trusted);
    // More is asked than is there: the policy holds too.
    let two = config(&key, &[registry.reference()], "")
        .replace("[cache]", &format!("[[signer]]\nname = 'second'\nkey = '{other}'\n[cache]"))
        .replace("['release'] }", "['release', 'second'] }");
    lie("one signature of two", "refused", "signatures_too_few", &two);
    // Away: an error, a connection that ends, a redirect, a login that nobody here has.
    registry.fault(|_| Some(Reply::status(503)));
    lie("an error", "away", "http_status", &honest);
    registry.fault(|_| Some(Reply::Raw(Vec::new())));
    lie("silence", "away", "unreachable", &honest);
    registry.fault(|_| Some(Reply::redirect("https://registry.example/")));
    lie("a redirect", "away", "redirect_refused", &honest);
    registry.fault(|_| {
        let challenge = vec![("www-authenticate".to_owned(), "Basic realm=\"r\"".to_owned())];
        Some(Reply::Answer(401, challenge, Vec::new()))
    });
    lie("a login", "away", "registry_denied", &honest);
    // Not asked: by flag, and for a build again.
    registry.honest();
    let asked = registry.server.count();
    let b = machine(&lock, &honest);
    let built = build(&b, &npm_url, &["--no-cache"]).expect(0).json();
    assert_eq!((&built["report"]["origin"], &built["cache"]), (&json!("published"), &json!([])));
    assert_eq!(registry.server.count(), asked);
}

#[test]
fn a_cache_without_anybody_who_answers_for_it_is_refused_where_it_is_written() {
    let world = World::with_own_store();
    configure(&world, "[cache]\nfrom = ['oci://registry.example/team/agents']\n");
    world.admit(&["build", "understudy"]).refuse(2, "bad_record").told("whose builds count");
    configure(&world, "[cache]\nfrom = ['registry.example/team']\n");
    world.admit(&["config", "show"]).refuse(2, "bad_record").told("not the address of a registry");
}

#[test]
fn what_takes_longer_in_all_than_it_may_is_given_up() {
    let registry = Registry::new();
    let reference = registry.reference().parse().unwrap();
    let late = Repository::new(Client::new(&impatient()), reference, None, &Silent);
    let late = late.until(Instant::now());
    assert_eq!(late.tags("").unwrap_err().reason(), Reason::TimedOut);
    assert_eq!(registry.server.count(), 0);
}

/// A store that holds the pinned Bun, so that nothing is downloaded.
fn with_bun() -> World {
    let world = World::with_own_store();
    let sha256 = pinned_bun();
    let from = Store::open(&shared_store()).unwrap();
    let mut bun = from.file(&sha256).unwrap().expect("a build put it there");
    let to = Store::open(&world.store()).unwrap();
    let mut writer = to.writer_with(&[Algorithm::Sha256]).unwrap();
    std::io::copy(bun.file(), &mut writer).unwrap();
    writer.finish(&sha256).unwrap();
    world
}

#[test]
fn what_was_published_or_adopted_is_shared_as_what_it_is() {
    let (npm, registry) = (package::registry(&package::packages()), Registry::new());
    let (a, lock, _) = publisher(&npm, &registry);
    let reference = registry.reference();
    let b = other(&a);
    b.put("lockfiles/tool.lock.json", lock.to_string());
    let pull = ["pull", "tool", &reference, "--require-signed-by", "builder", "--json"];
    let pulled = b.admit(&pull).expect(0).json();
    assert_eq!(pulled["report"]["pulled"]["origin"], "published");
    let found = |world: &World, name: &str| -> String {
        let verified = world.admit(&["verify", name, "--json"]).expect(0).json();
        let built_by = row(&verified["providers"][0]["findings"], "built_by");
        built_by["found"].as_str().unwrap().to_owned()
    };
    assert!(found(&b, "tool").contains("(published, not built there); signed by builder"));
    // Passed on, it is the first one's record, and no provenance of this machine's.
    let again = b.admit(&["push", "tool", &reference, "--json"]).expect(0).json();
    let from = &pulled["report"]["pulled"]["from"];
    assert_eq!((&again["reference"], &again["sent"]), (from, &json!(0)));
    b.admit(&["key", "new", "mine"]).expect(0);
    b.admit(&["attest", "build", "tool", "--key", "mine"]).refuse(3, "attest_refused");
    // What was taken from the package here says more.
    let run = a.admit(&["pull", "tool", &reference, "--require-signed-by", "release"]).expect(0);
    run.told("taken from its package here");

    let built = crate::trial::understudy();
    let adopter = with_bun();
    // What the store holds has no execute bit.
    let binary = adopter.path().join("ca");
    program(&built.binary, &binary);
    let binary = binary.to_str().unwrap();
    adopter.admit(&["adopt", "understudy", "--binary", binary, "--record"]).expect(0);
    adopter.admit(&["key", "new", "release"]).expect(0);
    let run = adopter.admit(&["push", "understudy", &reference]).refuse(3, "signature_missing");
    run.told("admit attest verdict understudy --record");
    adopter.admit(&["attest", "verdict", "understudy", "--key", "release", "--record"]).expect(0);
    adopter.admit(&["push", "understudy", &reference]).expect(0);
    let c = other(&adopter);
    let pull = ["pull", "understudy", &reference, "--require-signed-by", "builder", "--json"];
    let pulled = c.admit(&pull).expect(0).json();
    assert_eq!(pulled["report"]["pulled"]["origin"], "adopted");
    assert!(found(&c, "understudy").contains("(adopted there, not built); signed by builder"));
    // Where it was adopted, another's adoption says no more.
    adopter.admit(&["pull", "understudy", &reference, "--require-signed-by", "release"]).expect(0);
    let kept = adopter.admit(&["verify", "understudy", "--json"]).expect(0).stdout();
    assert!(!kept.contains("pulled from"), "{kept}");
}
