//! The source: one commit, from every kind of place, and everything that may be wrong with it.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use admit::bun::lockfile::{Package, SourceKind};
use admit::error::{Error, Reason, Result};
use admit::fetch::embedded::Embedded;
use admit::fetch::git::Source;
use admit::record::ids::{CommitId, Digest, Sri};
use admit::record::lockfile::Source as Locked;
use admit::store::nar_hash;

use crate::fetch::{Lab, sha512};
use crate::files::{mode, pipe_at, script};
use crate::loopback::{Reply, Server, git_http};
use crate::repo::Repo;

pub const URL: &str = "https://github.com/o/r.git";

/// A lab whose mirror of [`URL`] is a repository made by `fill`, and the commit that `fill` gave.
pub fn mirrored(fill: impl FnOnce(&Repo) -> CommitId) -> (Lab, Repo, CommitId) {
    let mut lab = Lab::new("http://registry.invalid/");
    let repo = Repo::new(&lab.dir.path().join("git/o/r"));
    let rev = fill(&repo);
    let to = format!("file://{}/git/", lab.dir.path().display());
    lab.mirror("https://github.com/", &to);
    (lab, repo, rev)
}

/// Git's server for the repositories of a lab, from which [`URL`] is taken.
pub fn served(
    lab: &mut Lab,
    version2: bool,
    alter: impl Fn(Vec<u8>) -> Reply + Send + Sync + 'static,
) -> Server {
    let server = git_http(lab.dir.path().join("git"), version2, alter);
    // It wants the directory's own name.
    lab.mirror(URL, &server.url("/o/r/.git"));
    server
}

fn absent() -> CommitId {
    "7959ac917cdeb0983b4aaa20bb9f42021747fed8".parse().unwrap()
}

/// Where git keeps a loose object.
fn loose(repo: &Repo, id: &str) -> PathBuf {
    repo.0.join(format!(".git/objects/{}/{}", &id[..2], &id[2..]))
}

fn locked(rev: &CommitId) -> Locked {
    Locked::at(URL, rev)
}

fn fetch(lab: &Lab, rev: &CommitId) -> Result<Source> {
    lab.fetcher().source(&locked(rev))
}

pub fn refused(lab: &Lab, rev: &CommitId) -> Error {
    let err = fetch(lab, rev).unwrap_err();
    assert!(lab.is_empty(), "something was left behind after: {err}");
    err
}

/// Content on which a checkout and the stored blobs could differ.
fn varied(repo: &Repo) -> CommitId {
    repo.write("a.txt", "one\r\ntwo\n$Id$\n")
        .write("dir/run.sh", "#!/bin/sh\n")
        .write("dir/deep/er/x", "")
        .write("dir.x", "sorts before dir/")
        .write("skipped/y", "kept all the same")
        .write(
            ".gitattributes",
            "* text eol=crlf ident\nskipped export-ignore\n*.txt export-subst\n",
        );
    mode(repo.0.join("dir/run.sh"), 0o755);
    symlink("../outside", repo.0.join("dir/link")).unwrap();
    repo.git(&["-c", "core.autocrlf=false", "add", "-A"]);
    repo.commit()
}

#[test]
fn a_commit_is_exported_exactly_as_stored() {
    let (lab, repo, rev) = mirrored(varied);
    let source = fetch(&lab, &rev).unwrap();
    assert!(source.fetched);
    assert_eq!(source.tree.as_str(), repo.git(&["rev-parse", "HEAD^{tree}"]));
    assert_eq!(source.time, 1_700_000_001);
    let at = |p: &str| source.files.path().join(p);
    // Every blob as `git cat-file` gives it, whatever attributes say.
    for path in repo.git(&["ls-tree", "-r", "--name-only", "HEAD"]).lines() {
        let blob = repo.bytes(&["cat-file", "blob", &format!("HEAD:{path}")], b"");
        if path == "dir/link" {
            assert_eq!(std::fs::read_link(at(path)).unwrap().as_os_str().as_encoded_bytes(), blob);
        } else {
            assert_eq!(std::fs::read(at(path)).unwrap(), blob, "{path}");
        }
    }
    assert!(at("dir/run.sh").metadata().unwrap().mode() & 0o111 != 0);
    assert!(at("a.txt").metadata().unwrap().mode() & 0o111 == 0);
    assert!(!at(".git").exists());
    let files = &source.files;
    assert_eq!(nar_hash(files.dir().unwrap(), files.path()).unwrap().digest, *files.nar());
}

#[test]
fn a_stored_source_is_proven_without_any_remote() {
    let (mut lab, _, rev) = mirrored(varied);
    let first = fetch(&lab, &rev).unwrap();
    let (tree, nar) = (first.tree.clone(), first.files.nar().clone());
    lab.mirror("https://github.com/", "file:///nonexistent/");
    let whole = Locked { tree: Some(tree.clone()), nar_hash: Some(Sri(nar)), ..locked(&rev) };
    let again = lab.fetcher().source(&whole).unwrap();
    assert!(!again.fetched && again.tree == tree && again.time == first.time);
    // The right files under another commit are not this source.
    let other = absent();
    let err = lab.fetcher().source(&Locked { rev: other.clone(), ..whole.clone() }).unwrap_err();
    assert_eq!(err.reason(), Reason::Unreachable);
    let wrong = other.as_str().parse().unwrap();
    let err = lab.fetcher().source(&Locked { tree: Some(wrong), ..whole }).unwrap_err();
    assert_eq!((err.reason(), err.kind().exit_code()), (Reason::SourceMismatch, 5));
}

#[test]
fn a_source_that_is_not_the_locked_one_is_refused() {
    let (lab, repo, rev) = mirrored(varied);
    let absent = absent();
    let err = refused(&lab, &absent);
    assert_eq!((err.reason(), err.kind().exit_code()), (Reason::RevNotInRemote, 4));
    assert_eq!(err.expected_value(), Some(absent.as_str()));

    let wrong = absent.as_str().parse().unwrap();
    let err = lab.fetcher().source(&Locked { tree: Some(wrong), ..locked(&rev) }).unwrap_err();
    assert_eq!((err.reason(), lab.is_empty()), (Reason::SourceMismatch, true));
    let nar = Sri(Digest::sha256(b"another tree"));
    let wrong = Locked { nar_hash: Some(nar.clone()), ..locked(&rev) };
    let err = lab.fetcher().source(&wrong).unwrap_err();
    assert_eq!((err.reason(), lab.is_empty()), (Reason::SourceMismatch, true));
    assert_eq!(err.expected_value(), Some(nar.to_string().as_str()));

    // A tree where a commit belongs.
    let tree: CommitId = repo.git(&["rev-parse", "HEAD^{tree}"]).parse().unwrap();
    assert_eq!(refused(&lab, &tree).reason(), Reason::SourceMismatch);
}

#[test]
fn a_mirror_may_be_bare_linked_or_named_with_git() {
    let (mut lab, repo, rev) = mirrored(varied);
    let place = |name: &str| lab.dir.path().join(name).display().to_string();
    let bare = place("bare.git");
    repo.git(&["clone", "-q", "--bare", ".", &bare]);
    let linked = place("linked");
    repo.git(&["worktree", "add", "-q", "--detach", &linked]);
    let borrowing = place("borrowing");
    repo.git(&["clone", "-q", "--shared", ".", &borrowing]);
    for path in [bare.clone(), place("bare"), linked, borrowing, place("git/o/r.git")] {
        lab.mirror(URL, &format!("file://{path}"));
        assert!(fetch(&lab, &rev).unwrap().fetched, "{path}");
    }
    // A pipe has no end to wait for.
    let pipe = lab.dir.path().join("pipe");
    std::fs::create_dir(&pipe).unwrap();
    pipe_at(pipe.join(".git"));
    for path in ["/nonexistent", "/etc", "/dev/null", pipe.to_str().unwrap()] {
        lab.mirror(URL, &format!("file://{path}"));
        assert_eq!(fetch(&lab, &rev).unwrap_err().reason(), Reason::Unreachable, "{path}");
    }
    let object = loose(&repo, &repo.git(&["rev-parse", "HEAD^{tree}"]));
    std::fs::remove_file(&object).unwrap();
    pipe_at(&object);
    let mut lab = Lab::new("http://registry.invalid/");
    lab.mirror(URL, &format!("file://{}", repo.0.display()));
    assert_eq!(refused(&lab, &rev).reason(), Reason::SourceMismatch);
}

#[test]
fn a_mirror_may_belong_to_another_user() {
    let (lab, repo, rev) = mirrored(varied);
    // Only root can give files away; anybody else tries the next best thing, a mirror that cannot be written.
    for dir in [repo.0.join(".git"), repo.0.clone()] {
        if std::os::unix::fs::chown(&dir, Some(12345), Some(12345)).is_err() {
            mode(&dir, 0o555);
        }
    }
    let got = fetch(&lab, &rev);
    for dir in [repo.0.clone(), repo.0.join(".git")] {
        // So that the temporary directory can be removed.
        mode(&dir, 0o755);
    }
    assert!(got.unwrap().fetched);
}

#[test]
fn a_damaged_mirror_is_refused() {
    let (lab, repo, rev) = mirrored(|repo| repo.write("a", "the content").commit());
    let path = loose(&repo, &repo.git(&["rev-parse", "HEAD:a"]));
    mode(&path, 0o644);
    // Another object under this name: whole, and a lie.
    let other = repo.git_with(&["hash-object", "-w", "--stdin"], b"other content");
    std::fs::copy(loose(&repo, &other), &path).unwrap();
    assert_eq!(refused(&lab, &rev).reason(), Reason::SourceMismatch);
    // Copying gave it git's read-only mode again.
    mode(&path, 0o644);
    std::fs::write(&path, b"junk").unwrap();
    assert_eq!(refused(&lab, &rev).reason(), Reason::SourceMismatch);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(refused(&lab, &rev).reason(), Reason::RevNotInRemote);
}

#[test]
fn hostile_trees_are_refused() {
    let (lab, repo, _) = mirrored(|repo| repo.write("a", "x").commit());
    let blob = repo.git(&["rev-parse", "HEAD:a"]);
    let tree = repo.git(&["rev-parse", "HEAD^{tree}"]);
    let file = "100644";
    for name in [
        ".git",
        ".GIT",
        ".git.",
        ".git ",
        "git~1",
        "GIT~1",
        ".g\u{200c}it",
        ".git::$INDEX",
        "..",
        ".",
        "",
        "a/b",
        "../x",
        "/etc",
        "a\\b",
    ] {
        for (mode, id) in [(file, &blob), ("40000", &tree)] {
            let rev = repo.commit_raw_tree(&[(mode, name, id)]);
            let err = refused(&lab, &rev);
            let found = (err.reason(), err.kind().exit_code());
            assert_eq!(found, (Reason::HostileArchive, 4), "{name:?}");
        }
    }
    let twice = repo.commit_raw_tree(&[("120000", "a", &blob), ("40000", "a", &tree)]);
    assert_eq!(refused(&lab, &twice).reason(), Reason::HostileArchive);
    let device = repo.commit_raw_tree(&[("020644", "a", &blob)]);
    assert_eq!(refused(&lab, &device).reason(), Reason::HostileArchive);
    let submodule = repo.commit_raw_tree(&[("160000", "sub", &blob)]);
    assert_eq!(refused(&lab, &submodule).reason(), Reason::UnsupportedSource);
    // A blob where a tree belongs, and a tree that is not one.
    let lie = repo.commit_raw_tree(&[("40000", "a", &blob)]);
    assert_eq!(refused(&lab, &lie).reason(), Reason::SourceMismatch);
    let nul = repo.git_with(&["hash-object", "-w", "--stdin"], b"a\0b");
    let link = repo.commit_raw_tree(&[("120000", "l", &nul)]);
    assert_eq!(refused(&lab, &link).reason(), Reason::HostileArchive);
    let mut deep = repo.git(&["rev-parse", "HEAD^{tree}"]);
    for _ in 0..80 {
        deep = repo.git_with(&["mktree"], format!("040000 tree {deep}\td\n").as_bytes());
    }
    let deep: CommitId = repo.git(&["commit-tree", "-m", "m", &deep]).parse().unwrap();
    assert_eq!(refused(&lab, &deep).reason(), Reason::LimitHit);
}

/// A repository with history: two commits on a branch, and one that no branch reaches.
fn history(repo: &Repo) -> CommitId {
    repo.write("big", &"old ".repeat(1000)).commit();
    let old = repo.git(&["rev-parse", "HEAD"]).parse().unwrap();
    repo.write("big", "new").commit();
    old
}

#[test]
fn over_http_one_commit_comes_alone_where_the_server_allows_it() {
    let sent = |body: &[u8], what: &str| String::from_utf8_lossy(body).contains(what);
    for (version2, reachable, alone) in
        [(true, false, true), (false, true, true), (false, false, false)]
    {
        let (mut lab, repo, old) = mirrored(history);
        let allow = "uploadpack.allowReachableSHA1InWant";
        repo.git(&["config", allow, &reachable.to_string()]);
        let server = served(&mut lab, version2, Reply::ok);
        let tip: CommitId = repo.git(&["rev-parse", "HEAD"]).parse().unwrap();
        for (rev, alone) in [(&old, alone), (&tip, true)] {
            let before = server.count();
            let source = fetch(&lab, rev).unwrap();
            assert_eq!(source.tree.as_str(), repo.git(&["rev-parse", &format!("{rev}^{{tree}}")]));
            let asked = &server.asked()[before..];
            let last = &asked.last().unwrap().body;
            assert_eq!(sent(last, "deepen 1"), alone, "{version2} {reachable} {rev}");
            assert_eq!(sent(last, &format!("want {rev}")), alone, "{version2} {reachable} {rev}");
        }
        let err = fetch(&lab, &absent()).unwrap_err();
        assert_eq!(err.reason(), Reason::RevNotInRemote, "{version2} {reachable}");
    }
}

#[test]
fn a_git_server_that_misbehaves_is_named() {
    type Alter = fn(Vec<u8>) -> Reply;
    let cases: [(Alter, Reason); 6] = [
        (|body| Reply::ok(&body[..body.len() / 2]), Reason::Truncated),
        (|body| Reply::ok(&body[..body.len() - 4]), Reason::Truncated),
        (
            |mut body| {
                let at = body.len() / 2;
                body[at] ^= 1;
                Reply::ok(body)
            },
            Reason::Truncated,
        ),
        (|_| Reply::ok("<html>welcome</html>"), Reason::Unreachable),
        (|_| Reply::status(404), Reason::HttpStatus),
        (|_| Reply::ok("0014ERR access denied"), Reason::Unreachable),
    ];
    for (i, (alter, want)) in cases.into_iter().enumerate() {
        let (mut lab, _, old) = mirrored(history);
        served(&mut lab, true, alter);
        assert_eq!(refused(&lab, &old).reason(), want, "case {i}");
    }
    let (mut lab, _, old) = mirrored(history);
    let server = Server::http(|_, _| Reply::ok("<html>not git</html>"));
    lab.mirror(URL, &server.url("/o/r"));
    assert_eq!(refused(&lab, &old).reason(), Reason::Unreachable);
}

#[test]
fn an_address_that_cannot_be_fetched_is_refused() {
    let lab = Lab::new("http://registry.invalid/");
    let rev = absent();
    for url in
        ["git@github.com:o/r.git", "ssh://git@github.com/o/r", "git://github.com/o/r", "/srv/r"]
    {
        let err = lab.fetcher().source(&Locked::at(url, &rev)).unwrap_err();
        assert_eq!((err.reason(), err.kind().exit_code()), (Reason::UnsupportedSource, 3), "{url}");
    }
}

#[test]
fn an_embedded_source_is_a_commit_like_any_other() {
    let mut lab = Lab::new("http://registry.invalid/");
    let files = [("package.json", "{}", false), ("bin/x", "#!/bin/sh\n", true)];
    let files = files.map(|(p, d, x)| (p.parse().unwrap(), d.as_bytes().to_vec(), x));
    lab.embedded.push(Embedded::new("demo", files).unwrap());
    let rev = lab.embedded[0].commit.clone();
    let get = |url, rev| lab.fetcher().source(&Locked::at(url, rev));
    let source = get("embedded:demo", &rev).unwrap();
    assert_eq!(std::fs::read(source.files.path().join("package.json")).unwrap(), b"{}");
    assert!(source.files.path().join("bin/x").metadata().unwrap().mode() & 0o111 != 0);
    assert_eq!(get("embedded:other", &rev).unwrap_err().reason(), Reason::Unreachable);
    assert_eq!(get("embedded:demo", &absent()).unwrap_err().reason(), Reason::RevNotInRemote);
}

/// GNU gzip of this machine; these tests need it.
fn gzip() -> PathBuf {
    let found = ["/usr/bin/gzip", "/bin/gzip", "/usr/local/bin/gzip"].map(PathBuf::from);
    found.into_iter().find(|p| p.exists()).expect("GNU gzip is needed for these tests")
}

/// Names and sizes at which git's tar headers change their form.
fn long_names(repo: &Repo) -> CommitId {
    for len in [80, 81, 82, 99, 100, 101, 154, 155, 156, 200] {
        repo.write(&"n".repeat(len), "x")
            .write(&format!("d/{}/f", "d".repeat(len)), &"y".repeat(len * 7));
    }
    let long = vec!["part"; 60].join("/");
    repo.write(&format!("{long}/{}", "l".repeat(90)), "z").write("e/run", "#!");
    mode(repo.0.join("e/run"), 0o755);
    for len in [99, 100, 101, 300] {
        symlink("t".repeat(len), repo.0.join(format!("link{len}"))).unwrap();
    }
    repo.commit()
}

fn hosted(rev: &str, integrity: Digest) -> (Package, Digest) {
    let kind = SourceKind::Github { owner: "o".into(), repo: "r".into(), reference: rev.into() };
    let (name, resolution) = ("r".into(), format!("github:o/r#{rev}"));
    let bun_tag = Some(format!("o-r-{}", &rev[..7]));
    (Package { name, resolution, kind, bun_tag, ..Package::default() }, integrity)
}

#[test]
fn a_github_tarball_is_made_from_a_mirror_byte_for_byte() {
    for fill in [long_names, history] {
        let (mut lab, repo, rev) = mirrored(fill);
        lab.gzip = Some(gzip());
        let prefix = format!("--prefix=o-r-{}/", rev.short());
        let tar = repo.bytes(&["archive", "--format=tar", &prefix, rev.as_str()], b"");
        let mut command = Command::new(gzip());
        command.args(["-n", "-6"]).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &tar));
        let want = sha512(&child.wait_with_output().unwrap().stdout);
        writer.join().unwrap().unwrap();
        let list = [hosted(rev.short(), want.clone())];
        assert_eq!(lab.fetcher().packages(&list).unwrap().files.len(), 1);

        // The same over HTTP, where an abbreviated commit needs the whole repository.
        let mut far = Lab::new("http://registry.invalid/");
        far.gzip = Some(gzip());
        let server = git_http(lab.dir.path().join("git"), true, Reply::ok);
        far.mirror(URL, &server.url("/o/r/.git"));
        assert_eq!(far.fetcher().packages(&list).unwrap().files.len(), 1);
    }
}

#[test]
fn a_github_tarball_that_cannot_be_made_is_refused() {
    let (mut lab, _, rev) = mirrored(history);
    let reason = |lab: &Lab, rev: &str| {
        let err = lab.fetcher().packages(&[hosted(rev, sha512(b"x"))]).unwrap_err();
        assert!(lab.is_empty(), "something was left behind after: {err}");
        err.reason()
    };
    assert_eq!(reason(&lab, rev.short()), Reason::GnuGzipMissing);
    // A program of that name that is not GNU's.
    let fake = lab.dir.path().join("gzip");
    script(&fake, "echo gzip 1.0 by somebody else");
    lab.gzip = Some(fake);
    assert_eq!(reason(&lab, rev.short()), Reason::GnuGzipMissing);
    lab.gzip = Some(gzip());
    assert_eq!(reason(&lab, rev.short()), Reason::DigestMismatch);
    assert_eq!(reason(&lab, "0000000"), Reason::RevNotInRemote);
    for bad in ["main-branch", "../../x", "HEAD~1~1"] {
        assert_eq!(reason(&lab, bad), Reason::PackageKind, "{bad}");
    }
}

#[test]
fn without_a_mirror_the_api_is_asked_and_may_redirect_to_its_own_host_only() {
    let api = Server::http(|_, asked| match asked.target.as_str() {
        "/repos/o/r/tarball/f8a7c69" => Reply::ok("tarball"),
        _ => Reply::redirect("http://evil.invalid/x"),
    });
    let mut lab = Lab::new("http://registry.invalid/");
    lab.mirror("https://api.github.com/", &api.url("/"));
    let got = lab.fetcher().packages(&[hosted("f8a7c69", sha512(b"tarball"))]).unwrap();
    assert_eq!(got.downloaded, 1);
    let err = lab.fetcher().packages(&[hosted("0000000", sha512(b"x"))]).unwrap_err();
    assert_eq!(err.reason(), Reason::RedirectRefused);
}
