//! Downloads that go right, and every way in which they go wrong: each fault has its reason, and leaves nothing behind.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use admit::bun::lockfile::Package;
use admit::download::client::{Client, HttpRequest};
use admit::download::config::NetConfig;
use admit::download::npmrc::{NpmConfig, Sources};
use admit::error::{Error, Reason, Result};
use admit::fetch::Fetcher;
use admit::fetch::embedded::Embedded;
use admit::fetch::mirror::Mirrors;
use admit::fetch::packages::Packages;
use admit::host::Silent;
use admit::record::ids::{Algorithm, Digest, Sha256, Sri};
use admit::record::lockfile::BunPackage;
use admit::store::{Store, StoredFile};

use crate::files::{below, mode, pipe_at, tgz, write};
use crate::loopback::{Reply, Server, tunnel};

/// A store of its own and everything else that a fetch needs.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub store: Store,
    pub client: Client,
    pub npm: NpmConfig,
    pub mirrors: Mirrors,
    pub embedded: Vec<Embedded>,
    pub gzip: Option<std::path::PathBuf>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Stored trees are read-only, and only root could remove them as they are.
        let mut open_up = Command::new("chmod");
        let _ = open_up.args(["-R", "u+rwX"]).arg(self.dir.path().join("store")).status();
    }
}

/// Short waits, so that faults show soon.
pub fn impatient() -> NetConfig {
    NetConfig {
        connect: Duration::from_secs(5),
        stall: Duration::from_secs(2),
        attempts: 3,
        backoff: Duration::from_millis(10),
        ..NetConfig::default()
    }
}

impl Lab {
    pub fn new(registry: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            store: Store::open(&dir.path().join("store")).unwrap(),
            client: Client::new(&impatient()),
            npm: NpmConfig::load(&Sources { flag: Some(registry), ..Sources::default() }).unwrap(),
            mirrors: Mirrors::default(),
            embedded: Vec::new(),
            gzip: None,
            dir,
        }
    }

    pub fn mirror(&mut self, from: &str, to: &str) {
        self.mirrors = Mirrors::new([(from.to_owned(), to.to_owned())]).unwrap();
    }

    pub fn fetcher(&self) -> Fetcher<'_> {
        Fetcher {
            store: &self.store,
            client: &self.client,
            npm: &self.npm,
            mirrors: &self.mirrors,
            gzip: self.gzip.as_deref(),
            embedded: &self.embedded,
            exe: Path::new(env!("CARGO_BIN_EXE_admit")),
            progress: &Silent,
        }
    }

    /// Whether the store holds anything at all, finished or not.
    pub fn is_empty(&self) -> bool {
        below(self.store.path()).iter().all(|path| path.extension().is_some_and(|x| x == "lock"))
    }

    fn packages(&self, wanted: &[(Package, Digest)]) -> Result<Packages> {
        self.fetcher().packages(wanted)
    }
}

pub fn sha512(data: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::from_bytes(Algorithm::Sha512, &sha2::Sha512::digest(data)).unwrap()
}

fn wanted(name: &str, data: &[u8]) -> (Package, Digest) {
    let (name, resolution) = (name.into(), "1.0.0".into());
    (Package { name, resolution, ..Package::default() }, sha512(data))
}

/// What one package named `a` with these bytes ends in, and the server and lab afterwards.
fn one(handle: impl Fn(usize) -> Reply + Send + Sync + 'static) -> (Result<Packages>, Server, Lab) {
    let server = Server::http(move |number, _| handle(number));
    let lab = Lab::new(&server.url("/npm"));
    let got = lab.packages(&[wanted("a", b"tarball")]);
    (got, server, lab)
}

fn refused(handle: impl Fn(usize) -> Reply + Send + Sync + 'static) -> (Error, usize) {
    let (got, server, lab) = one(handle);
    let err = got.unwrap_err();
    assert!(lab.is_empty(), "something was left behind after: {err}");
    assert!(err.place().is_some_and(|p| p.contains("/npm/a/-/a-1.0.0.tgz")), "{err:?}");
    (err, server.count())
}

#[test]
fn packages_are_fetched_once_and_verified() {
    let server = Server::http(|_, asked| match asked.target.as_str() {
        "/npm/a/-/a-1.0.0.tgz" => Reply::ok("tarball a"),
        "/npm/@s/b/-/b-1.0.0.tgz" => Reply::ok("tarball b"),
        _ => Reply::status(404),
    });
    let lab = Lab::new(&server.url("/npm"));
    let mut list = vec![wanted("a", b"tarball a"), wanted("@s/b", b"tarball b")];
    // The same tarball at two places of the tree.
    list.push(list[0].clone());
    let mut got = lab.packages(&list).unwrap();
    assert_eq!((got.files.len(), got.downloaded, got.bytes), (2, 2, 18));
    let file = got.files.remove(&sha512(b"tarball b")).unwrap();
    let text = file.read(|file| Ok(std::io::read_to_string(file).unwrap())).unwrap();
    assert_eq!((text.as_str(), file.size()), ("tarball b", 9));
    let again = lab.packages(&list).unwrap();
    assert_eq!((again.files.len(), again.downloaded, server.count()), (2, 0, 2));
}

#[test]
fn many_packages_come_in_parallel() {
    let body = |name: &str| format!("tarball of {name}");
    let server = Server::http(move |_, asked| {
        let name = asked.target.split('/').nth(1).unwrap().to_owned();
        Reply::ok(body(&name))
    });
    let lab = Lab::new(&server.url("/"));
    let list: Vec<_> =
        (0..100).map(|i| wanted(&format!("p{i}"), body(&format!("p{i}")).as_bytes())).collect();
    assert_eq!(lab.packages(&list).unwrap().files.len(), 100);
}

#[test]
fn other_bytes_than_locked_are_refused_without_a_second_try() {
    for body in ["tarbalL", "tarball of another package", ""] {
        let (err, asked) = refused(move |_| Reply::ok(body));
        assert_eq!((err.reason(), asked), (Reason::DigestMismatch, 1), "{body}");
        assert_eq!(err.expected_value().unwrap(), sha512(b"tarball").to_string());
        assert_eq!(err.kind().exit_code(), 5);
    }
}

#[test]
fn a_body_that_ends_early_is_truncated_never_short() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ntarb";
    let (err, asked) = refused(|_| Reply::Raw(cut.to_vec()));
    assert_eq!((err.reason(), asked, err.kind().exit_code()), (Reason::Truncated, 3, 4));
    assert_eq!((err.expected_value(), err.found_value()), (Some("7 bytes"), Some("4 bytes")));
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ntarb\r\n";
    assert_eq!(refused(|_| Reply::Raw(chunked.to_vec())).0.reason(), Reason::Truncated);
    // Without a length the end cannot be told from a cut; the digest can.
    let open = b"HTTP/1.1 200 OK\r\n\r\ntarb";
    assert_eq!(refused(|_| Reply::Raw(open.to_vec())).0.reason(), Reason::DigestMismatch);
    // Cut off once is repaired by the next attempt, with a fresh file.
    let (got, server, _) =
        one(|n| if n == 0 { Reply::Raw(cut.to_vec()) } else { Reply::ok("tarball") });
    assert_eq!((got.unwrap().files.len(), server.count()), (1, 2));
}

#[test]
fn silence_ends_in_a_deadline() {
    for start in ["", "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ntar"] {
        let server = Server::http(move |_, _| Reply::Stall(start.into()));
        let client = Client::new(&NetConfig { attempts: 2, ..impatient() });
        let err = client.fetch_bytes(&HttpRequest::get(&server.url("/x"), 100)).unwrap_err();
        assert_eq!((err.reason(), server.count()), (Reason::Truncated, 2), "{start}");
    }
}

#[derive(Default)]
struct Notes(std::sync::Mutex<Vec<String>>);

impl admit::host::Progress for Notes {
    fn stage(&self, _: &str, _: &str) {}
    fn bytes(&self, _: u64, _: Option<u64>) {}
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

#[test]
fn silence_is_told_and_has_two_attempts() {
    let server = Server::http(|_, _| Reply::Stall("".into()));
    let config = NetConfig {
        connect: Duration::from_secs(1),
        stall: Duration::from_secs(1),
        told_after: Duration::from_millis(300),
        attempts: 9,
        ..impatient()
    };
    let notes = Notes::default();
    let url = server.url("/x");
    let request = HttpRequest::get(&url, 100).told(&notes);
    let err = Client::new(&config).fetch_bytes(&request).unwrap_err();
    assert_eq!((err.reason(), server.count()), (Reason::Truncated, 2), "{err:?}");
    let notes = notes.0.lock().unwrap();
    assert!(notes.iter().any(|note| note.starts_with("nothing from 127.0.0.1")), "{notes:?}");
    // What a user waits for a server that says nothing, with admit's own clocks.
    let own = NetConfig::default();
    assert!((own.connect + own.stall) * 2 <= Duration::from_secs(70));
}

#[test]
fn a_cloned_repository_is_sent_no_variable() {
    let evil = Server::http(|_, _| Reply::status(404));
    let users = Server::http(|_, _| Reply::status(404));
    let mut world = crate::util::World::new();
    let npm = ["npm_config_registry", "NPM_CONFIG_REGISTRY", "NPM_CONFIG_USERCONFIG"];
    for name in npm.into_iter().chain(["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"]) {
        world.set(name, "");
    }
    world.set("SECRET", "s3cr3t");
    let npmrc = |server: &Server| {
        let (all, place) = (server.url("/"), server.url("/").replace("http:", ""));
        format!("registry={all}\n{place}:_authToken=${{SECRET}}\n")
    };
    std::fs::write(world.cwd().join(".npmrc"), npmrc(&evil)).unwrap();
    std::fs::write(world.home().join(".npmrc"), npmrc(&users)).unwrap();
    world.admit(&["lock", "x", "--like", "understudy", "--bun", "1.0.0"]).refuse(4, "http_status");
    assert_eq!((evil.count(), users.count()), (0, 1), "the user's own registry is asked, alone");
}

#[test]
fn a_trickle_ends_in_the_deadline_of_the_whole() {
    let server =
        Server::http(|_, _| Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nt".into()));
    let config = NetConfig {
        stall: Duration::from_secs(60),
        deadline: Duration::from_secs(1),
        ..impatient()
    };
    let err =
        Client::new(&config).fetch_bytes(&HttpRequest::get(&server.url("/x"), 100)).unwrap_err();
    assert_eq!((err.reason(), err.kind().exit_code(), server.count()), (Reason::TimedOut, 9, 1));
}

#[test]
fn error_statuses_are_retried_only_where_it_may_help() {
    for (status, tries) in [(400, 1), (401, 1), (403, 1), (404, 1), (410, 1), (206, 1), (204, 1)] {
        let (err, asked) = refused(move |_| Reply::status(status));
        assert_eq!((err.reason(), asked), (Reason::HttpStatus, tries), "{status}");
        assert!(err.found_value().unwrap().starts_with(&status.to_string()));
    }
    for status in [429, 500, 502, 503] {
        let (err, asked) = refused(move |_| Reply::status(status));
        assert_eq!((err.reason(), asked), (Reason::HttpStatus, 3), "{status}");
        let (got, server, _) =
            one(move |n| if n < 2 { Reply::status(status) } else { Reply::ok("tarball") });
        assert_eq!((got.unwrap().downloaded, server.count()), (1, 3), "{status}");
    }
}

#[test]
fn an_unreachable_server_is_named() {
    let gone = crate::upstream::serve(crate::upstream::Behaviour::Gone);
    let lab = Lab::new(&format!("http://{}/npm", gone.addr));
    let err = lab.packages(&[wanted("a", b"x")]).unwrap_err();
    assert_eq!((err.reason(), err.kind().exit_code()), (Reason::Unreachable, 4));
    assert!(err.hints().iter().any(|h| h.contains("mirror")), "{:?}", err.hints());
    let (err, asked) = refused(|_| Reply::Raw(Vec::new()));
    assert_eq!((err.reason(), asked), (Reason::Unreachable, 3));
}

#[test]
fn redirects_to_another_host_are_refused() {
    let other = Server::http(|_, _| Reply::ok("tarball"));
    let to = other.url("/x");
    let (err, asked) = refused(move |_| Reply::redirect(to.clone()));
    assert_eq!((err.reason(), asked, other.count()), (Reason::RedirectRefused, 1, 0));
    assert_eq!(err.found_value().unwrap(), other.url("/x"));
    for to in ["ftp://127.0.0.1/x", "file:///etc/passwd", "https://[", "//other.example/x"] {
        let (err, _) = refused(move |_| Reply::redirect(to));
        assert_eq!(err.reason(), Reason::RedirectRefused, "{to}");
    }
    // Without end.
    assert_eq!(refused(|_| Reply::redirect("/npm/a")).0.reason(), Reason::RedirectRefused);
    // On the same host, and to a host that the caller named, without the credentials.
    let (got, ..) = one(|n| if n == 0 { Reply::redirect("/moved") } else { Reply::ok("tarball") });
    assert!(got.is_ok());
    let port = other.addr().port();
    let server = Server::http(move |_, _| Reply::redirect(format!("http://localhost:{port}/x")));
    let (url, client) = (server.url("/x"), Client::new(&impatient()));
    let request = HttpRequest {
        redirect_hosts: &["localhost"],
        authorization: Some("Bearer t".into()),
        ..HttpRequest::get(&url, 100)
    };
    assert_eq!(client.fetch_bytes(&request).unwrap(), b"tarball");
    assert_eq!(server.asked()[0].header("authorization"), Some("Bearer t"));
    assert_eq!(other.asked()[0].header("authorization"), None);
}

#[test]
fn a_body_above_the_cap_is_cut_off() {
    let client = Client::new(&impatient());
    for chunked in [false, true] {
        let server = Server::http(move |_, _| match chunked {
            false => Reply::ok("12345678"),
            true => Reply::Raw(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n12345678\r\n0\r\n\r\n"
                    .into(),
            ),
        });
        let url = server.url("/x");
        let err = client.fetch_bytes(&HttpRequest::get(&url, 7)).unwrap_err();
        assert_eq!((err.reason(), server.count()), (Reason::LimitHit, 1));
        assert_eq!(client.fetch_bytes(&HttpRequest::get(&url, 8)).unwrap().len(), 8);
    }
}

#[test]
fn a_full_disk_has_its_own_reason() {
    let server = Server::http(|_, _| Reply::ok("tarball"));
    let open = || Ok(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let url = server.url("/x");
    let got = Client::new(&impatient()).fetch(&HttpRequest::get(&url, 100), open, &|_, _| {});
    let err = got.map(|_| ()).unwrap_err();
    assert_eq!((err.reason(), err.kind().exit_code(), server.count()), (Reason::DiskFull, 9, 1));
}

#[test]
fn proxies_are_used_as_the_environment_says() {
    let proxy = Server::http(|_, asked| match asked.target.as_str() {
        "http://registry.invalid/npm/a/-/a-1.0.0.tgz" => Reply::ok("tarball"),
        _ => Reply::status(502),
    });
    let mut lab = Lab::new("http://registry.invalid/npm");
    let env = |pairs: &[(&str, String)]| {
        let env = pairs.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        let from = NetConfig::from_env(&env);
        Client::new(&NetConfig {
            http_proxy: from.http_proxy,
            https_proxy: from.https_proxy,
            no_proxy: from.no_proxy,
            extra_ca: from.extra_ca,
            ..impatient()
        })
    };
    lab.client = env(&[("HTTP_PROXY", proxy.url(""))]);
    assert_eq!(lab.packages(&[wanted("a", b"tarball")]).unwrap().downloaded, 1);
    assert_eq!(proxy.count(), 1);
    // An exception goes direct, here to nobody.
    lab.client = env(&[("HTTP_PROXY", proxy.url("")), ("no_proxy", ".invalid".into())]);
    let err = lab.packages(&[wanted("b", b"other")]).unwrap_err();
    assert_eq!((err.reason(), proxy.count()), (Reason::Unreachable, 1));

    // HTTPS through CONNECT, with a CA that only this test knows.
    let (server, pem) = Server::https(|_, _| Reply::ok("tarball"));
    let ca = lab.dir.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let (tunnel, names) = tunnel(server.addr());
    lab.client = env(&[("https_proxy", tunnel), ("NODE_EXTRA_CA_CERTS", ca.display().to_string())]);
    let url = server.url("/x");
    assert_eq!(lab.client.fetch_bytes(&HttpRequest::get(&url, 100)).unwrap(), b"tarball");
    assert_eq!(*names.lock().unwrap(), [format!("CONNECT {} HTTP/1.1", server.addr())]);
}

#[test]
fn certificates_are_checked_against_the_users_ca_files() {
    let (server, pem) = Server::https(|_, _| Reply::ok("tarball"));
    let (url, dir) = (server.url("/x"), tempfile::tempdir().unwrap());
    let request = HttpRequest::get(&url, 100);
    let get = |config: NetConfig| Client::new(&config).fetch_bytes(&request);

    let err = get(impatient()).unwrap_err();
    assert_eq!((err.reason(), server.count()), (Reason::Unreachable, 0));
    assert!(err.hints().iter().any(|h| h.contains("SSL_CERT_FILE")), "{:?}", err.hints());

    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &pem).unwrap();
    assert!(get(NetConfig { extra_ca: vec![ca.clone()], ..impatient() }).is_ok());
    assert!(get(NetConfig { ca_roots: Some(ca), ..impatient() }).is_ok());

    let (_, stranger) = Server::https(|_, _| Reply::ok(""));
    let empty = dir.path().join("empty.pem");
    let strange = dir.path().join("strange.pem");
    std::fs::write(&empty, "no certificate here").unwrap();
    std::fs::write(&strange, stranger).unwrap();
    let reason = |file: &Path| {
        get(NetConfig { ca_roots: Some(file.into()), ..impatient() }).unwrap_err().reason()
    };
    assert_eq!(reason(&strange), Reason::Unreachable);
    assert_eq!(reason(&empty), Reason::BadArgument);
    assert_eq!(reason(Path::new("/nonexistent.pem")), Reason::BadArgument);
}

#[test]
fn a_token_goes_to_its_own_registry_only() {
    let tarball = |_: usize, _: &crate::loopback::Asked| Reply::ok("tarball");
    let (mine, other) = (Server::http(tarball), Server::http(tarball));
    let mut lab = Lab::new(&mine.url("/npm"));
    let home = lab.dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let text = format!("registry={}\n//{}/npm/:_authToken=s3cret\n", mine.url("/npm"), mine.addr());
    std::fs::write(home.join(".npmrc"), text).unwrap();
    lab.npm = NpmConfig::load(&Sources { home: Some(home), ..Sources::default() }).unwrap();
    let registry_url = Some(other.url("/npm/b.tgz"));
    let elsewhere = (Package { registry_url, ..wanted("b", b"").0 }, Digest::sha256(b"tarball"));
    assert_eq!(lab.packages(&[wanted("a", b"tarball"), elsewhere]).unwrap().downloaded, 2);
    assert_eq!(mine.asked()[0].header("authorization"), Some("Bearer s3cret"));
    assert_eq!(other.asked()[0].header("authorization"), None);
}

#[test]
fn a_registry_can_be_mirrored_to_a_directory() {
    let mut lab = Lab::new("https://registry.invalid/npm");
    write(lab.dir.path().join("mirror/a/-/a-1.0.0.tgz"), "tarball");
    let to = format!("file://{}/mirror/", lab.dir.path().display());
    lab.mirror("https://registry.invalid/npm/", &to);
    assert_eq!(lab.packages(&[wanted("a", b"tarball")]).unwrap().downloaded, 1);
    std::fs::create_dir_all(lab.dir.path().join("mirror/c/-")).unwrap();
    pipe_at(lab.dir.path().join("mirror/c/-/c-1.0.0.tgz"));
    for name in ["b", "c"] {
        let missing = lab.packages(&[wanted(name, b"b")]).unwrap_err();
        assert_eq!(missing.reason(), Reason::Unreachable, "{name}");
    }
}

#[test]
fn an_altered_store_entry_is_no_answer() {
    let (got, _, lab) = one(|_| Reply::ok("tarball"));
    drop(got.unwrap());
    let path = lab.store.file(&sha512(b"tarball")).unwrap().unwrap().path().to_owned();
    mode(&path, 0o644);
    std::fs::write(&path, "tarbalL").unwrap();
    let err = lab.packages(&[wanted("a", b"tarball")]).unwrap_err();
    assert_eq!((err.reason(), err.kind().exit_code()), (Reason::StoreCorrupt, 5));
}

#[test]
fn bun_comes_from_its_package_and_is_checked_twice() {
    let program = b"\x7fELF bun".as_slice();
    let package = |at: &str| tgz(&[("package/package.json", 0o755, b"{}"), (at, 0o755, program)]);
    let (tarball, empty) = (package("package/bin/bun"), package("package/bun"));
    let (whole, without) = (tarball.clone(), empty.clone());
    let server = Server::http(move |_, asked| match asked.target.as_str() {
        "/@oven/bun-x/-/bun-x-1.3.14.tgz" => Reply::ok(whole.clone()),
        "/@oven/bun-y/-/bun-y-1.3.14.tgz" => Reply::ok(without.clone()),
        _ => Reply::status(404),
    });
    let lab = Lab::new(&server.url("/"));
    let get = |package, integrity: Digest, binary: &[u8]| {
        let pin = BunPackage {
            package: String::from(package),
            integrity: Sri(integrity),
            binary_sha256: Sha256::of(binary),
        };
        lab.fetcher().bun(&pin, "1.3.14")
    };
    let reason = |got: Result<_>| got.map(|_: StoredFile| ()).unwrap_err().reason();
    let wrong = get("@oven/bun-x", sha512(b"other"), program);
    assert_eq!(reason(wrong), Reason::DigestMismatch);
    assert!(lab.is_empty());
    let altered = get("@oven/bun-x", sha512(&tarball), b"\x7fELF other bun");
    assert_eq!(reason(altered), Reason::DigestMismatch);
    assert_eq!(reason(get("@oven/bun-y", sha512(&empty), program)), Reason::HostileArchive);
    assert_eq!(reason(get("@oven/bun-z", sha512(&empty[1..]), program)), Reason::HttpStatus);

    let asked = server.count();
    // The tarball was good and is in the store since the second attempt above.
    for _ in 0..2 {
        let bun = get("@oven/bun-x", sha512(&tarball), program).unwrap();
        assert_eq!(bun.read_all(100).unwrap(), program);
        assert_eq!(server.count(), asked);
    }
}
