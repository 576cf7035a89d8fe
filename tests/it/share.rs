//! Builds shared through a registry: another machine takes one by the word of a key, and every way in which a registry
//! can fail it has its reason and leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admit::download::client::Client;
use admit::download::config::NetConfig;
use admit::download::exchange::Sent;
use admit::error::{Error, Reason};
use admit::host::{Host, Silent};
use admit::record::ids::Digest;
use admit::record::reference::{Reference, Which};
use admit::registry::client::Repository;
use admit::registry::credentials;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::fetch::impatient;
use crate::files::below;
use crate::loopback::{Asked, Reply, Server};
use crate::run::{SCRIPTED, built, row, run};
use crate::util::{Run, World, project};

type Fault = Box<dyn Fn(&Asked) -> Option<Reply> + Send>;

#[derive(Clone, Default)]
pub struct Shelf {
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// By digest and by tag.
    pub manifests: BTreeMap<String, Vec<u8>>,
}

/// Waits so short that silence shows soon.
fn soon() -> NetConfig {
    let second = Duration::from_secs(1);
    NetConfig { connect: second, stall: second, ..impatient() }
}

/// A registry on the loopback as the distribution specification has it, without a referrers interface, and with any fault.
pub struct Registry {
    pub server: Server,
    shelf: Arc<Mutex<Shelf>>,
    fault: Arc<Mutex<Option<Fault>>>,
}

impl Registry {
    pub fn new() -> Self {
        let (shelf, fault): (Arc<Mutex<Shelf>>, Arc<Mutex<Option<Fault>>>) = Default::default();
        let (inside, wrong) = (Arc::clone(&shelf), Arc::clone(&fault));
        let server = Server::http(move |_, asked| {
            let fault = wrong.lock().unwrap().as_ref().and_then(|fault| fault(asked));
            fault.unwrap_or_else(|| inside.lock().unwrap().answer(asked))
        });
        Self { server, shelf, fault }
    }

    pub fn reference(&self) -> String {
        format!("oci://{}/team/agents", self.server.addr())
    }

    pub fn fault(&self, fault: impl Fn(&Asked) -> Option<Reply> + Send + 'static) {
        *self.fault.lock().unwrap() = Some(Box::new(fault));
    }

    pub fn honest(&self) {
        *self.fault.lock().unwrap() = None;
    }

    /// Changes what lies there and gives back how it was.
    pub fn change(&self, change: impl FnOnce(&mut Shelf)) -> Shelf {
        let mut shelf = self.shelf.lock().unwrap();
        let before = shelf.clone();
        change(&mut shelf);
        before
    }

    pub fn restore(&self, before: Shelf) {
        *self.shelf.lock().unwrap() = before;
    }

    fn tags(&self, prefix: &str) -> Vec<String> {
        let shelf = self.shelf.lock().unwrap();
        shelf.manifests.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    fn repository(&self) -> Repository<'static> {
        let reference: Reference = self.reference().parse().unwrap();
        Repository::new(Client::new(&soon()), reference, None, &Silent)
    }
}

fn answer(status: u16, headers: &[(&str, String)], body: Vec<u8>) -> Reply {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    Reply::Answer(status, headers.collect(), body)
}

impl Shelf {
    fn answer(&mut self, asked: &Asked) -> Reply {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let Some(below) = path.strip_prefix("/v2/team/agents/") else { return Reply::status(404) };
        let digest = |bytes: &[u8]| ("docker-content-digest", Digest::sha256(bytes).to_string());
        match (asked.method.as_str(), below.split_once('/')) {
            ("GET", Some(("tags", "list"))) => {
                let tags: Vec<&String> =
                    self.manifests.keys().filter(|name| !name.starts_with("sha256:")).collect();
                Reply::ok(json!({ "name": "team/agents", "tags": tags }).to_string())
            }
            ("GET", Some(("manifests", name))) => self
                .manifests
                .get(name)
                .map_or(Reply::status(404), |bytes| Reply::ok(bytes.clone())),
            ("PUT", Some(("manifests", name))) => {
                let said = digest(&asked.body);
                self.manifests.insert(said.1.clone(), asked.body.clone());
                self.manifests.insert(name.to_owned(), asked.body.clone());
                answer(201, &[said], Vec::new())
            }
            ("POST", Some(("blobs", "uploads/"))) => {
                let to = "/v2/team/agents/blobs/uploads/1?state=x".into();
                answer(202, &[("location", to)], Vec::new())
            }
            ("PUT", Some(("blobs", "uploads/1"))) => {
                let said = query.split('&').find_map(|pair| pair.strip_prefix("digest="));
                let said = said.unwrap().replace("%3A", ":");
                if Digest::sha256(&asked.body).to_string() != said {
                    return Reply::status(400);
                }
                self.blobs.insert(said, asked.body.clone());
                Reply::status(201)
            }
            ("HEAD" | "GET", Some(("blobs", name))) => match self.blobs.get(name) {
                None => Reply::status(404),
                Some(_) if asked.method == "HEAD" => answer(200, &[], Vec::new()),
                Some(bytes) => match from(asked) {
                    None => Reply::ok(bytes.clone()),
                    Some(at) => answer(206, &[], bytes[at..].to_vec()),
                },
            },
            _ => Reply::status(404),
        }
    }
}

/// Where a download goes on.
fn from(asked: &Asked) -> Option<usize> {
    asked.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// The machine that builds: the stand-in on record, signed by the key `release`.
fn builder() -> World {
    let world = built();
    world.admit(&["key", "new", "release"]).expect(0);
    world.admit(&["attest", "build", "understudy", "--key", "release", "--record"]).expect(0);
    world
}

/// Another machine, with a home and a store of its own, that trusts the builder's key.
pub fn other(builder: &World) -> World {
    let world = World::with_own_store();
    let key = builder.home().join(".local/share/admit/keys/release.pub");
    world.admit(&["key", "import", "builder", key.to_str().unwrap()]).expect(0);
    world
}

fn pull(world: &World, reference: &str) -> Run {
    world.admit(&["pull", "understudy", reference, "--require-signed-by", "builder", "--json"])
}

/// Whether neither the store nor the records hold anything of a build.
fn nothing_kept(world: &World) -> bool {
    let places = [world.store().join("v1/files"), world.store().join("v1/records"), world.root()];
    let there = places.iter().filter(|place| place.exists());
    let kept = there.flat_map(|place| below(place));
    kept.filter(|path| path.extension().is_none_or(|x| x != "lock")).count() == 0
}

#[test]
fn another_machine_takes_a_build_by_a_key_and_runs_it_without_ever_building() {
    let (registry, a) = (Registry::new(), builder());
    let reference = registry.reference();
    // What nobody signed is not put where nobody could take it.
    built().admit(&["push", "understudy", &reference]).refuse(3, "signature_missing");
    assert_eq!(registry.server.count(), 0);

    let pushed = a.admit(&["push", "understudy", &reference, "--json"]).expect(0).json();
    let at_digest =
        registry.shelf.lock().unwrap().blobs.contains_key(pushed["output"].as_str().unwrap());
    assert!(at_digest, "the address is the digest");
    assert_eq!(registry.tags("build-").len(), 1);
    assert_eq!(registry.tags("att-").len(), 1);
    assert_eq!(registry.tags("sha256-").len(), 1, "the list that others read");
    // Again nothing is sent, and nothing is there twice.
    let latest = format!("{reference}:latest");
    let again = a.admit(&["push", "understudy", &latest, "--json"]).expect(0).json();
    assert_eq!((&again["reference"], &again["sent"]), (&pushed["reference"], &json!(0)));

    let b = other(&a);
    // Without a key that counts: refused, and nothing is there.
    let asked = registry.server.count();
    let signed_by = |who| b.admit(&["pull", "understudy", &reference, "--require-signed-by", who]);
    b.admit(&["pull", "understudy", &reference]).refuse(3, "signer_unknown");
    signed_by("nobody").refuse(3, "key_unusable");
    assert_eq!(registry.server.count(), asked);
    b.admit(&["key", "new", "mine"]).expect(0);
    signed_by("mine").refuse(3, "signature_missing");
    assert!(nothing_kept(&b));

    let pulled = pull(&b, &reference).expect(0).json();
    assert_eq!(pulled["report"]["origin"], "pulled");
    assert_eq!(pulled["report"]["pulled"]["from"], pushed["reference"]);
    assert_eq!(pulled["report"]["pulled"]["signed_by"][0]["name"], "builder");
    let verified = b.admit(&["verify", "understudy", "--json"]).expect(0).json();
    let findings = &verified["providers"][0]["findings"];
    assert!(row(findings, "built_by")["found"].as_str().unwrap().contains("signed by builder"));
    assert_eq!(row(findings, "source_stored")["state"], "not_asked");
    assert_eq!(run(&b, &SCRIPTED, 0)["report"]["status"], "rehearsed");
    // Taken over twice, it is the same; and what is pulled can be shared on.
    pull(&b, &latest).expect(0);
    b.admit(&["push", "understudy", &format!("{reference}:again"), "--json"]).expect(0);
    assert_eq!(registry.tags("build-").len(), 1);
    b.admit(&["attest", "build", "understudy", "--key", "mine"]).refuse(3, "attest_refused");

    // Who takes the key back takes back what was pulled by it.
    let key = b.home().join(".local/share/admit/keys/builder.pub");
    let line = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let refused = b.admit(&["verify", "understudy", "--json"]).expect(3).json();
    let findings = &refused["providers"][0]["findings"];
    assert_eq!(row(findings, "built_by")["reason"], "signer_unknown");
    std::fs::write(&key, line).unwrap();
    b.admit(&["verify", "understudy"]).expect(0);
    // A record that says of a pulled build that it was built here, and one whose builder's part was changed.
    let sha256 = pulled["report"]["sha256"].as_str().unwrap();
    let record = b.root().join(format!("admissions/builds/understudy--{sha256}.json"));
    let whole = std::fs::read_to_string(&record).unwrap();
    for (from, to) in
        [("\"origin\": \"pulled\"", "\"origin\": \"built\""), ("\"host\": \"", "\"host\": \"x")]
    {
        assert!(whole.contains(from));
        std::fs::write(&record, whole.replace(from, to)).unwrap();
        b.admit(&["verify", "understudy"]).expect(5);
    }
}

/// `docs/sharing.md`, line by line: the first lines where it was built, the others on another machine.
#[test]
fn the_page_about_sharing_works_as_it_is_written() {
    let registry = Registry::new();
    let page = std::fs::read_to_string(project().join("docs/sharing.md")).unwrap();
    let block = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let (mut here, mut other) = (World::with_shared_store(), World::with_own_store());
    let key = here.home().join(".local/share/admit/keys/release.pub");
    let mut run = 0;
    for line in block.lines().filter(|line| !line.is_empty()) {
        if line.starts_with("# on another machine") {
            std::mem::swap(&mut here, &mut other);
        }
        let typed = line
            .replace("case@7959ac9", "understudy")
            .replace(" case", " understudy")
            .replace("oci://registry.example/team/agents", &registry.reference())
            .replace("release.pub", key.to_str().unwrap())
            .replace("mine/some-model", "scripted/understudy-script");
        let ended = here.shell(&typed).expect(0);
        run += usize::from(line.starts_with("admit ") && !ended.stdout().is_empty());
    }
    assert_eq!(run, 8, "{block}");
}

#[test]
fn whatever_a_registry_alters_loses_or_invents_is_refused_with_its_reason() {
    let (registry, a) = (Registry::new(), builder());
    let reference = registry.reference();
    let pushed = a.admit(&["push", "understudy", &reference, "--json"]).expect(0).json();
    let output = pushed["output"].as_str().unwrap().to_owned();
    let b = other(&a);
    let refuse = |what: &str, code, reason: &str, change: &dyn Fn(&mut Shelf)| {
        let before = registry.change(|shelf| change(shelf));
        let run = pull(&b, &reference).refuse(code, reason);
        assert!(nothing_kept(&b), "{what}: something was kept\n{run}");
        registry.restore(before);
    };
    let named = |shelf: &Shelf, prefix: &str| {
        shelf.manifests.keys().find(|name| name.starts_with(prefix)).unwrap().clone()
    };
    let blob_of = |shelf: &Shelf, tag: &str, layer: usize| {
        let manifest: Value = serde_json::from_slice(&shelf.manifests[tag]).unwrap();
        manifest["layers"][layer]["digest"].as_str().unwrap().to_owned()
    };
    // One bit of the output; of the record; of the statement.
    refuse("output", 5, "digest_mismatch", &|shelf| {
        *shelf.blobs.get_mut(&output).unwrap().last_mut().unwrap() ^= 1;
    });
    for (prefix, layer) in [("build-", 1), ("att-", 0)] {
        refuse(prefix, 5, "digest_mismatch", &|shelf| {
            let blob = blob_of(shelf, &named(shelf, prefix), layer);
            shelf.blobs.get_mut(&blob).unwrap()[40] ^= 1;
        });
    }
    // Lost: the output, every statement's manifest while its tag is listed, one statement's blob, all without a trace.
    refuse("output lost", 4, "not_in_registry", &|shelf| drop(shelf.blobs.remove(&output)));
    registry.fault(|asked| asked.target.contains("/manifests/att-").then(|| Reply::status(404)));
    refuse("statements lost", 3, "attestation_lost", &|_| ());
    registry.honest();
    refuse("a statement's blob lost", 3, "attestation_lost", &|shelf| {
        let blob = blob_of(shelf, &named(shelf, "att-"), 0);
        shelf.blobs.remove(&blob);
    });
    refuse("no statements", 3, "signature_missing", &|shelf| {
        shelf.manifests.retain(|name, _| !name.starts_with("att-"));
    });
    refuse("no build", 4, "not_in_registry", &|shelf| {
        shelf.manifests.retain(|name, _| !name.starts_with("build-"));
    });
    // Something else under the build's tag: no manifest, another artifact, one that names another output or record.
    for (what, code, reason, from, to) in [
        ("cut", 4, "bad_manifest", "{", "["),
        ("other type", 4, "bad_manifest", "vnd.admit.build.v1", "vnd.other"),
        ("other output", 5, "digest_mismatch", &output["sha256:".len()..][..8], "00000000"),
    ] {
        refuse(what, code, reason, &|shelf| {
            let tag = named(shelf, "build-");
            let text = String::from_utf8(shelf.manifests[&tag].clone()).unwrap();
            assert!(text.contains(from));
            shelf.manifests.insert(tag, text.replace(from, to).into_bytes());
        });
    }
    // A record that its signer did not sign: the same build, said to be made at another time. Gives the manifest of the
    // build as it was, and as it is.
    let size = |text: &str| format!("\"size\":{}", text.len());
    let other_record = |shelf: &mut Shelf| {
        let tag = named(shelf, "build-");
        let old = blob_of(shelf, &tag, 1);
        let text = String::from_utf8(shelf.blobs[&old].clone()).unwrap();
        let new = text.replace("\"admit_version\": \"", "\"admit_version\": \"9");
        let digest = Digest::sha256(new.as_bytes()).to_string();
        let before = String::from_utf8(shelf.manifests[&tag].clone()).unwrap();
        let now = before.replace(&old, &digest).replace(&size(&text), &size(&new));
        shelf.blobs.insert(digest, new.into_bytes());
        shelf.manifests.insert(tag, now.clone().into_bytes());
        [before, now]
    };
    refuse("another record", 3, "signature_missing", &|shelf| drop(other_record(shelf)));
    // The same, with the statement made to be about it: signed is signed.
    refuse("a statement turned to another build", 5, "attested_differs", &|shelf| {
        let both = other_record(shelf);
        let [about, now] = both.each_ref().map(|text| Digest::sha256(text.as_bytes()));
        let tag = named(shelf, "att-");
        let statement = String::from_utf8(shelf.manifests[&tag].clone()).unwrap();
        let statement = statement.replace(&about.to_string(), &now.to_string());
        let statement = statement.replace(&size(&both[0]), &size(&both[1]));
        let tag = tag.replace(&about.to_hex()[..12], &now.to_hex()[..12]);
        shelf.manifests.insert(tag, statement.into_bytes());
    });
    // What others put beside it stands in nobody's way.
    registry.change(|shelf| {
        let about = named(shelf, "build-")["build-".len() + 13..].to_owned();
        shelf.manifests.insert(format!("att-{about}-000000000000"), b"{}".to_vec());
    });
    // The connection ends in the middle of the output, each time: it goes on where it ended.
    let pieces = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&pieces);
    let whole = registry.shelf.lock().unwrap().blobs[&output].clone();
    let blob = format!("/blobs/{output}");
    registry.fault(move |asked| {
        if asked.method != "GET" || !asked.target.ends_with(&blob) {
            return None;
        }
        let at = from(asked).unwrap_or(0);
        seen.lock().unwrap().push(at);
        let status = if at > 0 { 206 } else { 200 };
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", whole.len() - at);
        let piece = &whole[at..(at + (whole.len() / 6)).min(whole.len())];
        Some(Reply::Raw([head.as_bytes(), piece].concat()))
    });
    pull(&b, &reference).expect(0);
    assert!(!nothing_kept(&b), "this test looks in the wrong place");
    let pieces = pieces.lock().unwrap();
    assert!(pieces.len() > 4 && pieces.windows(2).all(|pair| pair[0] < pair[1]), "{pieces:?}");
    registry.honest();
    b.admit(&["verify", "understudy"]).expect(0);
}

fn reason(result: Result<impl Sized, Error>) -> Reason {
    result.err().expect("a refusal").reason()
}

#[test]
fn a_registry_that_is_slow_moves_or_lies_is_named() {
    let registry = Registry::new();
    let here = registry.repository();
    let digest = Digest::sha256(b"output");
    assert!(here.upload(&digest, Sent::Bytes(b"output")).unwrap());
    assert!(!here.upload(&digest, Sent::Bytes(b"output")).unwrap());
    let fetch = || registry.repository().small(&digest, 6);
    assert_eq!(fetch().unwrap(), b"output");
    let with = |reply: fn() -> Reply| {
        registry.fault(move |asked| (asked.method != "HEAD").then(reply));
    };
    with(|| Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nout".to_vec()));
    assert_eq!(reason(fetch()), Reason::Truncated);
    with(|| Reply::Stall(Vec::new()));
    assert_eq!(reason(registry.repository().tags("")), Reason::Truncated);
    with(|| Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n".to_vec()));
    assert_eq!(reason(fetch()), Reason::Truncated);
    with(|| Reply::ok("another"));
    assert_eq!(reason(fetch()), Reason::LimitHit);
    with(|| Reply::ok("outpuT"));
    assert_eq!(reason(fetch()), Reason::DigestMismatch);
    // Cut in the middle, it goes on where it ended: with the rest, with all of it again where the registry knows no ranges,
    // and never with another's rest, since the digest is that of the whole.
    let cut = |rest: &'static [u8], status: u16| {
        registry.fault(move |asked| match (asked.method.as_str(), from(asked)) {
            ("HEAD", _) => None,
            (_, Some(at)) => {
                assert_eq!(at, 3);
                Some(answer(status, &[], rest.to_vec()))
            }
            (_, None) => {
                Some(Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nout".to_vec()))
            }
        });
    };
    cut(b"put", 206);
    assert_eq!(fetch().unwrap(), b"output");
    cut(b"output", 200);
    assert_eq!(fetch().unwrap(), b"output");
    cut(b"puT", 206);
    assert_eq!(reason(fetch()), Reason::DigestMismatch);
    cut(b"output", 206);
    assert_eq!(reason(fetch()), Reason::LimitHit);
    with(|| Reply::status(503));
    assert_eq!(reason(fetch()), Reason::HttpStatus);
    // Without TLS nobody is sent elsewhere; and manifests, tags and uploads stay where they are.
    with(|| Reply::redirect("http://127.0.0.1:9/other"));
    assert_eq!(reason(fetch()), Reason::RedirectRefused);
    with(|| Reply::redirect("https://127.0.0.1:9/other"));
    assert_eq!(reason(fetch()), Reason::Unreachable);
    assert_eq!(reason(registry.repository().tags("")), Reason::RedirectRefused);
    let tag = || Which::Tag("build".into());
    assert_eq!(reason(registry.repository().manifest(&tag())), Reason::RedirectRefused);
    let other = Digest::sha256(b"more");
    with(|| answer(202, &[("location", "http://127.0.0.1:9/up".into())], Vec::new()));
    let uploaded = registry.repository().upload(&other, Sent::Bytes(b"more"));
    assert_eq!(reason(uploaded), Reason::RedirectRefused);
    // Its own word for a manifest's digest does not fit; or it gives another one than was asked for.
    with(|| {
        let said = ("docker-content-digest", Digest::sha256(b"x").to_string());
        answer(200, &[said], b"{}".to_vec())
    });
    assert_eq!(reason(registry.repository().manifest(&tag())), Reason::DigestMismatch);
    with(|| Reply::ok("{}"));
    let by = Which::Digest(Digest::sha256(b"x"));
    assert_eq!(reason(registry.repository().manifest(&by)), Reason::DigestMismatch);
    with(|| Reply::ok("no list"));
    assert_eq!(reason(registry.repository().tags("")), Reason::BadManifest);
    // A list of tags in pages, and one that never ends.
    fn page(tags: &[&str], next: &str) -> Option<Reply> {
        let link = ("link", format!("<{next}>; rel=\"next\""));
        let body = json!({ "tags": tags }).to_string().into_bytes();
        Some(answer(200, if next.is_empty() { &[] } else { std::slice::from_ref(&link) }, body))
    }
    const NEXT: &str = "/v2/team/agents/tags/list?last=a";
    registry.fault(|asked| match asked.target.contains("last=a") {
        false => page(&["a"], NEXT),
        true => page(&["b"], ""),
    });
    assert_eq!(registry.repository().tags("").unwrap(), ["a", "b"]);
    registry.fault(|_| page(&["a"], "http://127.0.0.1:9/v2/more"));
    assert_eq!(reason(registry.repository().tags("")), Reason::RedirectRefused);
    registry.fault(|_| page(&["a"; 60_000], NEXT));
    assert_eq!(reason(registry.repository().tags("b")), Reason::LimitHit);
}

/// A registry over TLS that wants a token, and gives one to `user:secret` alone.
fn closed() -> (Server, String) {
    let place: Arc<Mutex<String>> = Arc::default();
    let inside = Arc::clone(&place);
    let (server, ca) = Server::https(move |_, asked| {
        let realm = inside.lock().unwrap().clone();
        let line = asked.header("authorization").unwrap_or_default().to_owned();
        let basic = format!("Basic {}", STANDARD.encode("user:secret"));
        if asked.target.starts_with("/token") {
            let refreshed = asked.method == "POST"
                && String::from_utf8_lossy(&asked.body).contains("refresh_token=identity");
            return match line == basic || refreshed {
                true => Reply::ok(json!({ "token": "t0" }).to_string()),
                false => Reply::status(401),
            };
        }
        if line == "Bearer t0" || line == "Bearer direct" {
            return Reply::ok(json!({ "tags": ["build-1"] }).to_string());
        }
        let challenge = format!(
            "Bearer realm=\"{realm}/token\",service=\"s\",scope=\"repository:team/agents:pull\""
        );
        answer(401, &[("www-authenticate", challenge)], Vec::new())
    });
    *place.lock().unwrap() = server.url("");
    (server, ca)
}

#[test]
fn the_login_is_what_other_clients_are_configured_with() {
    let (server, ca) = closed();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, ca).unwrap();
    let reference: Reference = format!("https://{}/team/agents", server.addr()).parse().unwrap();
    let config = NetConfig { extra_ca: vec![file], ..soon() };
    let found = |entry: &Value, reference: &Reference, server: &Server| {
        let auths = json!({ "auths": { server.addr().to_string(): entry } });
        let file = dir.path().join("auth.json");
        std::fs::write(&file, auths.to_string()).unwrap();
        let env = [("REGISTRY_AUTH_FILE".to_owned(), file.display().to_string())];
        credentials::find(&Host::with(env, dir.path()), reference).unwrap()
    };
    let tags = |entry: &Value| {
        let secret = found(entry, &reference, &server);
        Repository::new(Client::new(&config), reference.clone(), secret, &Silent).tags("")
    };
    for good in [
        json!({ "auth": STANDARD.encode("user:secret") }),
        json!({ "username": "user", "password": "secret" }),
        json!({ "identitytoken": "identity" }),
        json!({ "registrytoken": "direct" }),
    ] {
        assert_eq!(tags(&good).unwrap(), ["build-1"], "{good}");
    }
    for bad in [
        json!({}),
        json!({ "auth": STANDARD.encode("user:wrong-pw") }),
        json!({ "registrytoken": "x" }),
    ] {
        let err = tags(&bad).unwrap_err();
        assert_eq!(err.reason(), Reason::RegistryDenied, "{bad}");
        let said = err.to_json().to_string();
        for secret in ["wrong-pw", &STANDARD.encode("user:wrong-pw")] {
            assert!(!said.contains(secret), "{said}");
        }
    }
    // A certificate that nobody here vouches for is no registry.
    let plain = Repository::new(Client::new(&soon()), reference.clone(), None, &Silent);
    assert_eq!(reason(plain.tags("")), Reason::Unreachable);
    // Plain credentials, and a realm that would carry them out without TLS.
    let basic = Registry::new();
    basic.fault(|asked| match asked.header("authorization") {
        None => Some(answer(401, &[("www-authenticate", "Basic realm=\"r\"".into())], Vec::new())),
        Some(_) => None,
    });
    let reference: Reference = basic.reference().parse().unwrap();
    let user = || found(&json!({ "username": "u", "password": "p" }), &reference, &basic.server);
    let with =
        |secret| Repository::new(Client::new(&soon()), reference.clone(), secret, &Silent).tags("");
    assert_eq!(with(user()).unwrap(), Vec::<String>::new());
    assert_eq!(reason(with(None)), Reason::RegistryDenied);
    let elsewhere = Server::http(|_, _| Reply::ok("{}"));
    let challenge = format!("Bearer realm=\"{}\",service=\"s\"", elsewhere.url("/token"));
    basic.fault(move |_| Some(answer(401, &[("www-authenticate", challenge.clone())], Vec::new())));
    assert_eq!(reason(with(user())), Reason::RedirectRefused);
    assert_eq!(elsewhere.count(), 0, "the password was sent elsewhere");
}
