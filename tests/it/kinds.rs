//! Kinds of dependencies and layouts of a source, from its lock to a verified record, and what is refused of them. The
//! sources are small repositories made here, behind a mirror.

use crate::lock::{Source, packed, tool_lock};
use crate::loopback::{Reply, Server};
use crate::repo::{Repo, commit, mirror};
use crate::util::World;

/// What `bun patch --commit` writes for a change of one line and a new file.
const PATCH: &str = "diff --git a/added.js b/added.js\nnew file mode 100644\n\
    index 0000000000000000000000000000000000000000..3e757656cf36eca53338e520d134963a44f793f8\n\
    --- /dev/null\n+++ b/added.js\n@@ -0,0 +1 @@\n+export default 'added ';\n\
    diff --git a/index.js b/index.js\nindex c62e670ed6ec6e585ecc9fbd5df0c07468d0e56d..b07c2b59a80194a7ebd76f2aff47efbf1810a162 100644\n\
    --- a/index.js\n+++ b/index.js\n@@ -2,7 +2,7 @@ const toZeroIfInfinity = value => Number.isFinite(value) ? value : 0;\n \n \
    function parseNumber(milliseconds) {\n \treturn {\n-\t\tdays: Math.trunc(milliseconds / 86_400_000),\n+\t\tdays: 42,\n \
    \t\thours: Math.trunc(milliseconds / 3_600_000 % 24),\n \t\tminutes: Math.trunc(milliseconds / 60_000 % 60),\n \
    \t\tseconds: Math.trunc(milliseconds / 1000 % 60),\n";

const BUILD: &str = r#""scripts": {"build": "bun build --compile main.ts --outfile dist/tool"}"#;

/// The files of a source whose packages are `needs` (names and ranges) and `rows`, with parse-ms patched by `patch`.
fn files(needs: &str, rows: &str, patch: &str, main: &str) -> Vec<(String, String)> {
    let needs = format!(r#""parse-ms": "4.0.0", {needs}"#);
    let patched = r#""patchedDependencies": {"parse-ms@4.0.0": "patches/parse-ms@4.0.0.patch"}"#;
    let package = format!(r#"{{"name": "tool", {BUILD}, {patched}, "dependencies": {{{needs}}}}}"#);
    let lock = tool_lock(&needs, &format!("{patched},"), rows);
    let main = format!(
        "import parseMs from 'parse-ms';\nimport added from './node_modules/parse-ms/added.js';\n{main}\nconsole.log('Usage: ' + added + parseMs(1).days + more);"
    );
    let lib = r#"{"name": "lib", "version": "1.0.0", "main": "lib.js", "bin": {"lib": "lib.js"}, "exports": {".": "./lib.js"}}"#;
    [
        ("package.json", package.as_str()),
        ("bun.lock", &lock),
        ("main.ts", &main),
        ("patches/parse-ms@4.0.0.patch", patch),
        ("vendor/lib/package.json", lib),
        ("vendor/lib/lib.js", "#!/usr/bin/env node\nexport const lib = ' lib';\n"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .to_vec()
}

fn source<'a>(world: &'a World, name: &str, files: &[(String, String)]) -> Source<'a> {
    let files: Vec<(&str, &str)> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    Source::new(world, name, &files)
}

const LIB: &str = r#""lib": ["lib@file:vendor/lib", {"bin": {"lib": "lib.js"}}]"#;

#[test]
fn patches_directories_and_commits_are_installed() {
    let world = World::with_shared_store();
    let bun = ["--bun", "1.3.14"];
    let manifest = r#"{"name": "dep", "version": "1.0.0", "main": "dep.js"}"#;
    let dep = [("package.json", manifest), ("dep.js", "export const dep = ' dep';")];
    let rev = commit(&mirror(&world).join("dep"), &dep);
    let git = |url: &str, rev: &str| {
        let needs = format!(r#""lib": "file:./vendor/lib", "dep": "{url}#{rev}""#);
        let rows = format!(r#""dep": ["dep@{url}#{rev}", {{}}, "{rev}"], {LIB}"#);
        let main =
            "import { lib } from 'lib';\nimport { dep } from 'dep';\nconst more = lib + dep;";
        files(&needs, &rows, PATCH, main)
    };
    let whole = git("git+https://provider.invalid/dep.git", &rev);
    let found = source(&world, "origins", &whole);
    found.lock(&bun).expect(0);
    assert_eq!(found.recorded()["identity"]["help_first_line"], "Usage: added 42 lib dep");
    let packages = found.json()["dependencies"]["packages"].to_string();
    assert!(packages.contains(r#""kind":"git""#) && packages.contains("sha256-"), "{packages}");
    assert!(!packages.contains("vendor"), "{packages}");
    found.admit(&["sbom", &found.name]).expect(0);

    // Over ssh it is the same repository.
    let ssh = source(&world, "ssh", &git("git+ssh://git@provider.invalid/dep.git", &rev));
    ssh.lock(&bun).expect(0);
    ssh.build(&[]).expect(0);

    // A host that is away, and a commit that is not there.
    let away = source(&world, "away", &git("git+https://provider.invalid/gone.git", &rev));
    away.lock(&bun).expect(0);
    let run = away.build(&[]).refuse(4, "unreachable");
    run.told("wanted for the package dep").told("ADMIT_MIRROR");
    let other = rev.chars().rev().collect::<String>();
    let gone = source(&world, "gone", &git("git+https://provider.invalid/dep.git", &other));
    gone.lock(&bun).expect(0);
    gone.build(&[]).refuse(4, "rev_not_in_remote");
    let branch = git("git+https://provider.invalid/dep.git", "main");
    let said = source(&world, "branch", &branch).refused(&bun, 3, "package_kind");
    assert!(said.contains("40 hex digits") && said.contains("bun.lock:"), "{said}");

    // A patch that does not apply, that is not there, or that the lock does not know.
    let main = "import { lib } from 'lib';\nconst more = lib;";
    let with = |patch: &str| files(r#""lib": "file:./vendor/lib""#, LIB, patch, main);
    let odd = source(&world, "odd", &with(&PATCH.replace("return {", "return [")));
    odd.lock(&bun).expect(0);
    let said = odd.build(&[]).refuse(6, "patch_failed").stderr();
    for words in ["index.js, line 4", "return [", "return {", "bun patch --commit parse-ms"] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let mut none = with(PATCH);
    none.retain(|(path, _)| !path.starts_with("patches/"));
    let said = source(&world, "none", &none).refused(&bun, 3, "package_kind");
    assert!(said.contains("no patch of parse-ms@4.0.0"), "{said}");
    let mut stale = with(PATCH);
    stale[1].1 = stale[1].1.replace("parse-ms@4.0.0.patch", "other.patch");
    let said = source(&world, "stale", &stale).refused(&bun, 2, "bad_record");
    assert!(said.contains("out of date"), "{said}");

    // A directory outside of the repository.
    let rows = r#""lib": ["lib@file:../lib", {}]"#;
    let outside = files(r#""lib": "file:../lib""#, rows, PATCH, "const more = '';");
    let said = source(&world, "outside", &outside).refused(&bun, 3, "package_kind");
    assert!(said.contains("outside of the source") && said.contains("file:../lib"), "{said}");
}

#[test]
fn links_are_made_by_a_bun_that_makes_them() {
    let world = World::with_shared_store();
    let needs = r#""lib": "link:./vendor/lib", "same": "file:vendor/lib""#;
    let rows = r#""lib": ["lib@link:./vendor/lib", {}], "same": ["lib@file:vendor/lib", {"bin": {"lib": "lib.js"}}]"#;
    let main =
        "import { lib } from 'lib';\nimport { lib as same } from 'same';\nconst more = lib + same;";
    let source = source(&world, "links", &files(needs, rows, PATCH, main));
    source.lock(&["--bun", "1.3.14"]).expect(0);
    source.build(&[]).refuse(3, "package_kind").told("--bun 1.4.4");
    source.change(&["--bun", "1.4.4"]).expect(0);
    assert_eq!(source.recorded()["identity"]["help_first_line"], "Usage: added 42 lib lib");
}

/// Commits what `repo` has and a submodule at `lib` with this commit; gives the new commit.
fn with_submodule(repo: &std::path::Path, submodule: &str) -> String {
    let repo = Repo(repo.to_owned());
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{submodule},lib")]);
    repo.git(&["commit", "-q", "-m", "x"]);
    repo.git(&["rev-parse", "HEAD"])
}

#[test]
fn submodules_are_files_of_the_source_or_left_out_by_name() {
    let world = World::with_shared_store();
    let deep = commit(&mirror(&world).join("deep"), &[("deep.ts", "export const deep = ' deep';")]);
    let part = [
        (".gitmodules", "[submodule \"x\"]\n\tpath = lib\n\turl = ../deep.git\n"),
        ("part.ts", "export { deep } from './lib/deep.ts';"),
    ];
    commit(&mirror(&world).join("part"), &part);
    let part = with_submodule(&mirror(&world).join("part"), &deep);
    let modules = |address: &str| format!("[submodule \"lib\"]\n\tpath = lib\n\turl = {address}\n");
    let files = |address: &str, main: &str| -> Vec<(String, String)> {
        let package =
            format!(r#"{{"name": "tool", {BUILD}, "dependencies": {{"parse-ms": "4.0.0"}}}}"#);
        [
            ("package.json", package),
            ("bun.lock", crate::lock::root_lock()),
            (".gitmodules", modules(address)),
            ("main.ts", main.to_owned()),
        ]
        .map(|(path, text)| (path.to_owned(), text))
        .to_vec()
    };
    let main = "import { deep } from './lib/part.ts';\nconsole.log('Usage:' + deep);";
    let found = |name: &str, address: &str, main: &str| {
        let mut source = source(&world, name, &files(address, main));
        source.rev = with_submodule(&mirror(&world).join(&source.name), &part);
        source
    };
    let bun = ["--bun", "1.3.14"];
    let whole = found("modules", "../part.git", main);
    whole.lock(&bun).expect(0);
    assert_eq!(whole.recorded()["identity"]["help_first_line"], "Usage: deep");
    // From the store alone, proven from the commit down.
    std::fs::rename(mirror(&world), world.path().join("away")).unwrap();
    whole.build(&["--rebuild"]).expect(0);
    std::fs::rename(world.path().join("away"), mirror(&world)).unwrap();

    let mut none = found("unpinned", "../part.git", main);
    let repo = mirror(&world).join(&none.name);
    commit(&repo, &[(".gitmodules", "")]);
    none.rev = with_submodule(&repo, &part);
    let said = none.refused(&bun, 3, "unsupported_source");
    assert!(said.contains("--without lib"), "{said}");
    assert!(said.contains(".gitmodules has the address of lib"), "{said}");
    let local = found("local", "/srv/part.git", main);
    local.refused(&bun, 3, "unsupported_source");

    // Left out it is an empty directory, as a plain clone has it.
    let away =
        found("nowhere", "https://provider.invalid/nowhere.git", "console.log('Usage: without');");
    let said = away.refused(&bun, 4, "unreachable");
    assert!(said.contains("--without lib"), "{said}");
    away.lock(&["--bun", "1.3.14", "--without", "lib"]).expect(0);
    assert_eq!(away.recorded()["identity"]["help_first_line"], "Usage: without");
    away.change(&["--without", "lib", "--without", "other"]).expect(0);
    away.build(&[]).refuse(2, "not_found");
    away.change(&["--clear", "without"]).expect(0);
    away.build(&[]).refuse(4, "unreachable");
}

/// What the small tools do, as coreutils do it; each line must hold.
const CHECK: &str = r#"set -eu
is() { [ "$1" = "$2" ] || { echo "expected $2, found $1" >&2; exit 1; }; }
no() { if "$@" 2>/dev/null; then echo "should fail: $*" >&2; exit 1; fi; }
mkdir -p t/a/b t/c && cd t
printf 'one\ntwo\nthree\n' > a/one.txt
is "$(basename a/one.txt .txt) $(dirname a/one.txt)" "one a"
is "$(cat a/one.txt a/one.txt | wc -l)" 6
is "$(head -n 1 a/one.txt) $(tail -1 a/one.txt) $(head -c 2 a/one.txt)" "one three on"
cp a/one.txt b.txt && cp -r a c && cp -R a/. c
is "$(ls c)" "$(printf 'a\nb\none.txt')"
chmod 640 b.txt && chmod +x b.txt && [ -x b.txt ]
chmod -x b.txt && no [ -x b.txt ]
ln -s a/one.txt link && is "$(cat link)" "$(cat b.txt)" && ln -sf b.txt link
mv b.txt c/ && [ -f c/b.txt ] && no cat link
is "$(sha256sum a/one.txt | head -c 8)" b6285c57
is "$(uname -s)" Linux && is "$(which rm)" /usr/bin/rm && no which python3
is "$(env A=1 sh -c 'echo $A')" 1
touch a/new && [ -e a/new ] && rm a/new && no rm a/new && rm -f a/new && no rm a && no mkdir a && no cp a d
mkdir e && rmdir e && no rmdir a
no rm --one-file-system a && no cp --sparse=always a/one.txt z && no mv a/one.txt c/b.txt nowhere && no sed p a/one.txt
printf '#!/usr/bin/env -S bun run\nconsole.log(Bun.argv[2])\n' > x.ts && chmod 755 x.ts && is "$(./x.ts four)" four
cd .. && rm -rf t
"#;

#[test]
fn steps_find_small_tools_and_declared_downloads_and_nothing_else() {
    let world = World::with_shared_store();
    let server = Server::http(|_, asked| match asked.target.as_str() {
        "/near.txt" => Reply::ok(b"near ".to_vec()),
        "/word.txt" => Reply::ok(b"word".to_vec()),
        _ => Reply::status(404),
    });
    let (near, word) = (server.url("/near.txt"), server.url("/word.txt"));
    let build = format!(
        "rm -rf dist && mkdir -p dist/data && sh check.sh && gen && curl -fsSL {word} -o dist/data/word.txt && bun build --compile main.ts --outfile dist/tool && cp dist/tool dist/other"
    );
    let package = format!(
        r#"{{"name": "tool", "scripts": {{"build": "{build}"}}, "dependencies": {{"parse-ms": "4.0.0", "gen": "file:gen"}}}}"#
    );
    let rows = r#""gen": ["gen@file:gen", {"bin": {"gen": "gen.js"}}]"#;
    let lock = tool_lock(r#""parse-ms": "4.0.0", "gen": "file:gen""#, "", rows);
    let main = "import near from './data/near.txt' with { type: 'text' };\nimport word from './dist/data/word.txt' with { type: 'text' };\n\
        import made from './dist/made.json';\nconsole.log('Usage: ' + made.by + near + word);";
    let files = [
        ("package.json", package.as_str()),
        ("bun.lock", &lock),
        ("main.ts", main),
        ("check.sh", CHECK),
        ("gen/package.json", r#"{"name": "gen", "version": "1.0.0", "bin": {"gen": "gen.js"}}"#),
        (
            "gen/gen.js",
            "#!/usr/bin/env node\nrequire('node:fs').writeFileSync('dist/made.json', JSON.stringify({ by: 'gen ' }));\n",
        ),
    ];
    let source = Source::new(&world, "tools", &files);
    let flags = ["--bun", "1.3.14", "--output", "dist/tool"];
    source.lock(&flags).expect(0);
    source.build(&[]).refuse(6, "step_failed").told(&format!("--download {word}"));
    let at = format!("data/near.txt={near}");
    let wrong = format!("{word}#{}", crate::fetch::sha512(b"other").to_sri());
    source.change(&["--download", &at, "--download", &wrong]).expect(0);
    source.build(&[]).refuse(5, "digest_mismatch");
    source.change(&["--download", &at, "--download", &word]).expect(0);
    let declared = source.json()["build"]["downloads"].clone();
    assert_eq!(declared[0]["path"], "data/near.txt");
    assert!(declared[1]["integrity"].as_str().unwrap().starts_with("sha256-"), "{declared}");
    assert_eq!(source.recorded()["identity"]["help_first_line"], "Usage: gen near word");
    source.build(&["--rebuild"]).expect(0).told("the build left dist/other");
    // Not in the place of a file of the source.
    source.change(&["--download", &format!("main.ts={word}")]).expect(0);
    source.build(&[]).refuse(3, "unsupported_source");
    source.change(&["--download", "near.txt"]).expect(2);
    source.change(&["--clear", "downloads"]).expect(0);
    assert!(source.json()["build"].get("downloads").is_none());
}

#[test]
fn a_script_for_many_platforms_is_proposed_for_this_one() {
    let world = World::with_shared_store();
    let script = "for (const target of ['bun-windows-x64', 'bun-linux-x64']) {\n  await $`bun build main.ts --compile --minify --target ${target} --outfile ${out}`;\n}\n";
    let package = r#"{"name": "@x/tool", "scripts": {"build": "bun scripts/build.ts"}, "dependencies": {"parse-ms": "4.0.0"}}"#;
    let lock = crate::lock::root_lock().replace(r#""name": "tool""#, r#""name": "@x/tool""#);
    let files = [
        ("package.json", package),
        ("bun.lock", &lock),
        ("main.ts", "console.log('Usage: one');"),
        ("scripts/build.ts", script),
    ];
    let source = Source::new(&world, "platforms", &files);
    source.lock(&["--bun", "1.3.14"]).expect(0).told("scripts/build.ts, for this machine");
    let build = source.json()["build"].clone();
    let step = ["bun", "build", "main.ts", "--compile", "--minify", "--outfile", "dist/tool"];
    assert_eq!(build["steps"], serde_json::json!([step]));
    assert_eq!(build["output"], "dist/tool");
    source.build(&[]).expect(0);
}

/// A source with a tarball in it for which its lock has no integrity.
fn with_tarball<'a>(world: &'a World, at: &str, bytes: &[u8]) -> Source<'a> {
    let needs = r#""near": "./near.tgz", "parse-ms": "4.0.0""#;
    let package = format!(r#"{{"name": "tool", {BUILD}, "dependencies": {{{needs}}}}}"#);
    let lock = tool_lock(needs, "", r#""near": ["near@./near.tgz", {}]"#);
    let main = "import { near } from 'near';\nconsole.log('Usage: ' + near);";
    crate::files::write(mirror(world).join(at).join("near.tgz"), bytes);
    let files = [("package.json", package.as_str()), ("bun.lock", &lock), ("main.ts", main)];
    Source::new(world, at, &files)
}

#[test]
fn a_package_without_an_integrity_is_bound_by_the_lock_here() {
    let world = World::with_shared_store();
    let bun = ["--bun", "1.3.14"];
    let manifest = r#"{"name": "near", "version": "1.0.0", "main": "index.js"}"#;
    let near = packed(manifest, "export const near = 'near';");
    let source = with_tarball(&world, "unbound", &near);
    let said = source.refused(&bun, 2, "bad_argument");
    assert!(said.contains("--integrity near"), "{said}");
    source.lock(&[&bun[..], &["--integrity", "near"]].concat()).expect(0);
    let sri = crate::fetch::sha512(&near).to_sri();
    assert_eq!(source.json()["dependencies"]["integrity"]["near"], sri.as_str());
    assert_eq!(source.recorded()["identity"]["help_first_line"], "Usage: near");
    // The flag is in the fix of a build too, and nothing is built under another digest.
    source.change(&["--clear", "integrity"]).expect(0);
    let fix = format!("admit lock {} --integrity near", source.name);
    source.build(&["--rebuild"]).refuse(3, "weak_integrity").told(&fix);
    let wrong = format!("near={}", crate::fetch::sha512(b"other").to_sri());
    source.change(&["--integrity", &wrong]).expect(0);
    source.build(&[]).refuse(5, "digest_mismatch");
    source.change(&["--integrity", "parse-ms"]).refuse(2, "not_found");
}

#[test]
fn scripts_that_bun_would_run_by_its_own_list_are_named() {
    let world = World::with_shared_store();
    let manifest = r#"{"name": "esbuild", "version": "1.0.0", "main": "index.js", "scripts": {"postinstall": "echo 'export const near = 2;' > index.js"}}"#;
    let bytes = packed(manifest, "export const near = 1;");
    let sri = crate::fetch::sha512(&bytes).to_sri();
    let server = Server::http(move |_, _| Reply::ok(bytes.clone()));
    let url = server.url("/esbuild/-/esbuild-1.0.0.tgz");
    let needs = r#""esbuild": "1.0.0", "parse-ms": "4.0.0""#;
    let rows = format!(r#""esbuild": ["esbuild@1.0.0", "{url}", {{}}, "{sri}"]"#);
    let lock = tool_lock(needs, "", &rows);
    let main = "import { near } from 'esbuild';\nconsole.log('Usage: ' + near);";
    let listed = |at: &str, more: &str| {
        let package = format!(r#"{{"name": "tool", {more}{BUILD}, "dependencies": {{{needs}}}}}"#);
        let files = [("package.json", package.as_str()), ("bun.lock", &lock), ("main.ts", main)];
        Source::new(&world, at, &files)
    };
    // Where the source has a list, be it empty, Bun's own does not count.
    let other = listed("own-list", r#""trustedDependencies": [], "#);
    other.lock(&["--bun", "1.3.14"]).expect(0);
    let run = other.build(&[]).expect(0);
    assert!(!run.stderr().contains("none ran"), "{run}");
    let source = listed("listed", "");
    source.lock(&["--bun", "1.3.14"]).expect(0);
    let fix = format!("admit lock {} --script esbuild", source.name);
    source.build(&[]).expect(0).told(&fix).told("none ran");
    source.change(&["--skip-script", "esbuild"]).expect(0);
    let run = source.build(&["--rebuild"]).expect(0);
    assert!(!run.stderr().contains("none ran"), "{run}");
    let flags = ["lock", &source.name, "--script", "esbuild", "--clear", "skip-scripts"];
    source.admit(&flags).expect(0);
    assert_eq!(source.recorded()["identity"]["help_first_line"], "Usage: 2");
}
