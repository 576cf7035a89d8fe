//! The judge: what is right passes, and every way to look right without being it is rejected.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use admit::context::{Context, Options};
use admit::host::{Host, Silent, SystemClock};
use admit::record::fixture::Tool;
use admit::record::ids::{AbsPath, RelPath};
use admit::root::Root;
use admit::run::agent::fake;
use admit::run::baseline::baselines;
use admit::run::fixture::{self, Fixture};
use admit::run::judge::held_out::{Draw, Seed};
use admit::run::judge::{self, Judge, Judgement};
use admit::run::snapshot::{self, Snapshot};
use admit::run::tools::{self, Tools};
use admit::run::{patch, workspace};
use admit::sandbox::{Command, Exit, Launcher, Mount, Policy, start};
use admit::store::Store;

use crate::files::{copy, shipped};
use crate::tamper::directories;
use crate::trial::{PYTHON as NAME, QUICK as BUN};
use crate::util::{self, World};

/// A fixture, the host's tools, and a place for short-lived files.
struct Bench {
    fixture: Fixture,
    tools: &'static Tools,
    launcher: Launcher,
    scratch: tempfile::TempDir,
}

#[track_caller]
pub fn shown<T>(what: &str, result: admit::error::Result<T>) -> T {
    result.unwrap_or_else(|err| {
        let (expected, found) = (err.expected_value(), err.found_value());
        panic!("{what}: {err} {expected:?} {found:?} {:?}", err.causes())
    })
}

/// A fixture that admit ships.
pub fn loaded(name: &str) -> Fixture {
    let root = shown("root", Root::find(&World::new().host(), None, None));
    shown("fixture", fixture::load(&root, &name.parse().unwrap()))
}

fn context(host: Host) -> Context {
    let options = Options { store: Some(util::shared_store()), ..Options::default() };
    Context::new(host, Arc::new(SystemClock), Arc::new(Silent), options)
}

/// The tools are looked for once: every test of this process uses the same.
pub fn the_tools() -> &'static Tools {
    static TOOLS: OnceLock<Tools> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let world = World::new();
        let root = shown("root", Root::find(&world.host(), None, None));
        let store = shown("store", Store::open(&util::shared_store()));
        let wanted = [loaded(NAME).record.tools.as_slice(), &[Tool::Bun]].concat();
        shown("tools", tools::tools(&context(world.host()), &root, &store, &wanted))
    })
}

impl Bench {
    fn new() -> Self {
        Self::of(NAME)
    }

    fn of(name: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let launcher = Launcher { exe: util::admit(), scratch: scratch.path().into() };
        Self { fixture: loaded(name), tools: the_tools(), launcher, scratch }
    }

    /// A policy as an agent's.
    fn policy(&self) -> Policy {
        let mut policy = Policy::new("admit-judge-test").with_host_programs().unwrap();
        self.tools.mount(&mut policy).unwrap();
        let inside: AbsPath = "/work".parse().unwrap();
        policy.handout = Some(inside.clone());
        policy.mounts.push(Mount::Tmpfs { inside, size: 256 << 20, inodes: 10_000, mode: 0o700 });
        policy
    }

    /// Runs a script as the agent and takes out what it left.
    fn agent(&self, script: &str) -> Snapshot {
        let mut sandbox = shown("sandbox", start(&self.launcher, &self.policy()));
        let dir = sandbox.directory().unwrap().try_clone().unwrap();
        let owner = sandbox.owner();
        shown("workspace", workspace::write(&dir, "ws", &self.fixture.workspace, owner));
        let mut command =
            Command::new(["/bin/sh", "-e", "-c", script], "/work/ws".parse().unwrap());
        command.env = self.tools.environment();
        command.env.insert("HOME".into(), "/work".into());
        let finished = shown("agent", sandbox.run(&command));
        let said = format!("{}\n{}", finished.stdout.text(), finished.stderr.text());
        assert_eq!(finished.exit, Exit::Code(0), "{script}\n{said}");
        snapshot::take(&dir, "ws", &self.fixture).unwrap()
    }

    fn the_judge(&self) -> Box<dyn Judge + '_> {
        shown(
            "judge",
            judge::choose::of(&self.fixture, &self.launcher, self.tools, judge::choose::WALL),
        )
    }

    fn judge_as(&self, fixture: &Fixture, work: &Snapshot) -> Judgement {
        let (judge, draw) = (self.the_judge(), self.draw(fixture));
        let bench = judge::Bench { judge: &*judge, fixture, draw: &draw };
        shown("judge", bench.judge(work))
    }

    fn draw(&self, fixture: &Fixture) -> Draw {
        shown("draw", judge::draw(&*self.the_judge(), fixture, &Seed::new("a run").unwrap()))
    }

    fn judge(&self, work: &Snapshot) -> Judgement {
        self.judge_as(&self.fixture, work)
    }
}

fn failed(judgement: &Judgement) -> BTreeSet<&str> {
    judgement.rows.iter().filter(|row| !row.passed).map(|row| row.id.as_str()).collect()
}

/// The reference patch as a script would apply it with git.
fn solve(bench: &Bench) -> String {
    let patch = String::from_utf8(bench.fixture.reference_patch.clone()).unwrap();
    format!("git apply <<'PATCH'\n{patch}PATCH\ngit commit -qam 'The change'\n")
}

#[test]
fn the_reference_patch_passes_and_no_change_does_not() {
    for (name, file) in [(NAME, "strings.py"), (BUN, "src/duration.ts")] {
        let bench = Bench::of(name);
        let (judge, policy) = (bench.the_judge(), bench.policy());
        let draw = bench.draw(&bench.fixture);
        let by = judge::Bench { judge: &*judge, fixture: &bench.fixture, draw: &draw };
        let both = shown("baselines", baselines(&bench.launcher, by, &policy, "home/ws"));
        assert!(both.held(), "{:#?}\n{}", both.rows, both.judgements[1].log);
        let [none, reference] = both.judgements.as_slice() else { panic!("two baselines") };
        assert_eq!(none.patch_digest, admit::record::ids::Digest::sha256(b""));
        let wrong = ["change", "held_out_1", "held_out_2", "tests_1", "tests_2"];
        assert_eq!(failed(none), BTreeSet::from(wrong), "{none:#?}");
        assert!(reference.passed && reference.tests_passed && reference.allowed_writes_passed);
        assert_eq!(reference.changed_files, [file]);
        assert_eq!(reference.patch, bench.fixture.reference_patch);
    }
}

#[test]
fn an_agent_with_a_real_git_passes() {
    let bench = Bench::new();
    // The workspace is a repository as git expects it: clean, one commit, no remote, no reflog.
    let checks = "test -z \"$(git status --porcelain)\"\ntest \"$(git rev-list --all --count)\" = 1\n\
                  test -z \"$(git remote)\"\ntest -z \"$(git reflog)\"\ngit fsck --strict\n\
                  ! python3 -m pytest -q > ../out\n";
    let after = "python3 -m pytest -q\ntest -z \"$(git status --porcelain)\"\ngit fsck --strict\n";
    let work = bench.agent(&format!("{checks}{}{after}", solve(&bench)));
    assert!(work.committed_change(&bench.fixture), "{:?} {:?}", work.faults, work.git_faults);
    let judgement = bench.judge(&work);
    assert!(judgement.passed, "{}\n{}", judgement.note(), judgement.log);
    // The same with everything in one pack.
    let packed = bench.agent(&format!("{}git gc -q --prune=now\n", solve(&bench)));
    assert_eq!(packed.files, work.files);
    assert!(bench.judge(&packed).passed, "{:?}", packed.faults);
}

#[test]
fn the_patch_of_work_that_is_not_utf_8_is_the_one_that_was_judged() {
    let bench = Bench::new();
    let script = "sed -i '1i # -*- coding: latin-1 -*-' strings.py\n\
                  printf 'LETTER = \"\\351\"\\n' >> strings.py\n\
                  git commit -q --amend -a --no-edit\n";
    let work = bench.agent(&format!("{}{script}", solve(&bench)));
    let judgement = bench.judge(&work);
    assert!(judgement.passed, "{}\n{}", judgement.note(), judgement.log);
    assert!(judgement.patch.contains(&0o351));
    let applied = patch::apply(&bench.fixture.workspace, &judgement.patch);
    assert_eq!(applied.unwrap(), work.files);
}

#[test]
fn the_fake_engine_leaves_what_it_was_given() {
    let bench = Bench::new();
    let change = &bench.fixture.reference_patch;
    let worked = fake::work(&bench.launcher, &bench.policy(), "ws", &bench.fixture, change);
    let worked = shown("fake", worked);
    assert_eq!((worked.commits, worked.snapshot.commits()), (1, 2));
    let worked = worked.snapshot;
    assert_eq!(worked.files, patch::apply(&bench.fixture.workspace, change).unwrap());
    assert!(worked.committed_change(&bench.fixture));
    let refused = fake::work(&bench.launcher, &bench.policy(), "ws", &bench.fixture, b"nonsense\n");
    assert!(refused.is_err());
}

fn hostile(fixture: &str) -> BTreeMap<String, PathBuf> {
    directories(if fixture == BUN { "judge-bun" } else { "judge" })
}

/// Runs one attempt; it must be rejected for the reasons that it names, and also where everything it touched is allowed.
fn rejected(fixture: &str, name: &str) {
    let bench = Bench::of(fixture);
    let dir = hostile(fixture).remove(name).unwrap_or_else(|| panic!("no attempt {name}"));
    let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
    let marker = bench.scratch.path().join("marker");
    // What lies in the project's own repository, everyone knows.
    let known = util::project().join("fixtures").join(fixture).join("fixture.json");
    let script = read("agent.sh")
        .replace("@MARKER@", marker.to_str().unwrap())
        .replace("@FIXTURE@", &std::fs::read_to_string(known).unwrap());
    let work = bench.agent(&script);
    let judgement = bench.judge(&work);
    assert!(!judgement.passed, "{name} was accepted\n{}", judgement.log);
    let (failed, rows, log) = (failed(&judgement), &judgement.rows, &judgement.log);
    for row in read("rejected-by").lines() {
        assert!(failed.contains(row), "{name}: {row} holds\n{rows:#?}\n{log}");
    }
    let mut wide = bench.fixture.clone();
    let changed = patch::changed(&wide.workspace, &work.files);
    wide.record.allowed_paths =
        changed.into_iter().collect::<BTreeSet<RelPath>>().into_iter().collect();
    let wide = bench.judge_as(&wide, &work);
    assert!(!wide.passed, "{name} was accepted where it may touch what it likes\n{}", wide.log);
    assert!(!marker.exists(), "{name} started something on the host");
}

macro_rules! attempts {
    ($fixture:ident, $all:ident; $($test:ident = $name:literal,)*) => {
        $(#[test] fn $test() { rejected($fixture, $name); })*

        #[test]
        fn $all() {
            let tried = BTreeSet::from([$($name.to_owned()),*]);
            assert_eq!(hostile($fixture).into_keys().collect::<BTreeSet<_>>(), tried);
        }
    };
}

attempts! { NAME, every_attempt_is_tried;
    a_process_that_ends_well_at_once_is_no_pass = "exit-zero",
    printed_results_are_no_results = "forged-output",
    a_patched_runner_is_no_pass = "patched-runner",
    a_planted_conftest_does_not_count = "planted-conftest",
    a_planted_plugin_does_not_count = "planted-plugin",
    sitecustomize_does_not_count = "sitecustomize",
    modules_of_the_runners_names_do_not_count = "shadowed-modules",
    a_text_that_equals_everything_equals_nothing = "always-equal",
    edited_tests_do_not_count = "edited-tests",
    skipped_tests_have_not_passed = "skipped-tests",
    files_beside_the_workspace_do_not_count = "planted-above",
    known_answers_are_not_enough = "known-answers",
    every_answer_that_can_be_found_is_not_enough = "searched-answers",
    links_are_not_followed = "link-out",
    special_files_are_not_read = "special-file",
    what_is_not_committed_does_not_count = "not-committed",
    the_commit_must_be_the_work_tree = "another-commit",
    the_commit_must_follow_the_fixtures = "foreign-history",
    nothing_of_the_repository_runs_on_the_host = "git-programs",
    objects_from_elsewhere_do_not_count = "alternates",
    another_mode_is_a_change = "executable",
}

attempts! { BUN, every_attempt_at_bun_is_tried;
    bun_a_process_that_ends_well_at_once_is_no_pass = "exit-zero",
    bun_printed_results_are_no_results = "forged-output",
    bun_a_patched_runner_is_no_pass = "patched-runner",
    bun_a_value_that_equals_everything_equals_nothing = "always-equal",
    bun_every_answer_that_can_be_found_is_not_enough = "searched-answers",
    bun_what_steers_it_comes_from_the_fixture = "planted-steering",
    bun_a_home_that_the_calls_prepared_does_not_steer_the_tests = "planted-home",
    bun_edited_tests_do_not_count = "edited-tests",
    bun_a_test_more_does_not_count = "planted-test",
    bun_a_patched_driver_prints_nothing_right = "patched-builtins",
}

#[test]
fn only_calls_drawn_anew_tell_who_knows_every_written_answer() {
    let bench = Bench::new();
    let known = util::project().join("fixtures").join(NAME).join("fixture.json");
    let script = hostile(NAME).remove("searched-answers").unwrap().join("agent.sh");
    let script = std::fs::read_to_string(script).unwrap();
    let work = bench.agent(&script.replace("@FIXTURE@", &std::fs::read_to_string(known).unwrap()));
    let judgement = bench.judge(&work);
    assert_eq!(failed(&judgement), BTreeSet::from(["held_out_1", "held_out_2"]), "{judgement:#?}");
    let mut fixed = bench.fixture.clone();
    (fixed.generator, fixed.record.generator) = (None, None);
    let judgement = bench.judge_as(&fixed, &work);
    assert!(judgement.passed, "the same without a generator: {}", judgement.note());
}

#[test]
fn a_stranger_draws_the_same_calls_from_the_sealed_seed() {
    let bench = Bench::new();
    let first = bench.draw(&bench.fixture);
    let seed = Seed::again(&first.record.nonce, &first.record.secret);
    let again = shown("draw", judge::draw(&*bench.the_judge(), &bench.fixture, &seed));
    assert_eq!(again.record, first.record);
    assert!(first.record.drawn && first.record.calls > 50 && first.differing.is_empty());
    let other = bench.draw(&bench.fixture);
    assert_ne!(other.record.calls_sha256, first.record.calls_sha256);
    // Another secret is another seed, whatever the nonce, which the agent can see.
    assert_eq!(other.record.nonce, first.record.nonce);
}

#[test]
fn calls_that_cannot_be_drawn_are_no_calls() {
    let bench = Bench::new();
    let seed = Seed::new("a run").unwrap();
    for (text, found) in [
        ("def generate(random): return []", "no calls"),
        ("def generate(random): return [['strings', 'slugify', [{1}]]]", "not JSON serializable"),
        ("def generate(random): return [['strings', 'slugify']]", "IndexError"),
        ("def generate(random): return [['json', 'JSONDecoder', []]]", "JSONDecoder"),
        // What readers of JSON round would be equal to another number.
        ("def generate(random): return [['math', 'factorial', [30]]]", "gives a int"),
        ("def generate(random): return [['math', 'log2', [2**70]]]", "beyond 64 bits"),
        ("raise SystemExit(0)", "not one line"),
        ("import os; os._exit(0)", "not one line"),
        ("def generate(random):\n  while True: yield ['strings', 'slugify', ['']]", "at most"),
    ] {
        let mut fixture = bench.fixture.clone();
        fixture.generator = Some(text.into());
        let err = judge::draw(&*bench.the_judge(), &fixture, &seed).expect_err(text);
        let said = format!("{err} {:?}", err.found_value());
        assert_eq!(err.reason().as_str(), "bad_record", "{text}: {said}");
        assert!(said.contains(found), "{text}: {said}");
    }
}

#[test]
fn a_fixture_says_what_is_wrong_with_it() {
    let world = World::new();
    let cwd = world.cwd();
    let source = util::project().join("fixtures").join(NAME);
    let target = cwd.join("fixtures").join(NAME);
    copy(&source, &target);
    std::fs::write(cwd.join("admit.toml"), "").unwrap();
    let host = world.host();
    let load =
        || fixture::load(&Root::read_untrusted(&host, &cwd).unwrap(), &NAME.parse().unwrap());
    let digest = shown("copy", load()).digest;
    assert_eq!(digest, loaded(NAME).digest, "a copy is the same fixture");
    let record = std::fs::read_to_string(target.join("fixture.json")).unwrap();
    for (from, to, fault) in [
        ("admit.fixture/2", "admit.fixture/4", "newer admit"),
        ("\"git\"", "\"perl\"", "perl"),
        ("reference.patch", "other.patch", "not there"),
        ("test_nothing_left\"", "test_nothing_left\", \"tests/no.py::test\"", "not there"),
        ("    \"strings.py\"\n", "    \"README.md\"\n", "what it may not"),
        ("Do not use the network.", "Do not sleep.", "Do not sleep."),
        ("\"name\": \"r1-string-slugify\"", "\"name\": \"r2\"", "is named r2"),
    ] {
        let changed = record.replacen(from, to, 1);
        assert_ne!(changed, record, "{from}");
        std::fs::write(target.join("fixture.json"), changed).unwrap();
        let err = load().expect_err(fault);
        assert!(err.what().contains(fault), "{from}: {err} {:?}", err.causes());
    }
    std::fs::write(target.join("fixture.json"), record).unwrap();
    std::fs::write(target.join("workspace/README.md"), "x").unwrap();
    assert_ne!(shown("one byte", load()).digest, digest);
}

#[test]
fn missing_programs_are_named() {
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().display().to_string();
    let host = Host::with([("PATH".to_owned(), path.clone()), ("HOME".to_owned(), path)], "/");
    let reason = |err: admit::error::Error| err.reason().as_str();
    assert_eq!(admit::run::python::ask(&host).map_err(reason).err(), Some("python_missing"));
    assert_eq!(tools::git(&host).map_err(reason).unwrap_err(), "git_missing");
}

#[test]
fn packages_with_other_bytes_are_not_installed() {
    let world = World::new();
    let cwd = world.cwd();
    std::fs::write(cwd.join("admit.toml"), "").unwrap();
    std::fs::create_dir(cwd.join("lockfiles")).unwrap();
    let lock = shipped("lockfiles/pytest.lock.json");
    let store = shown("store", Store::open(&world.store()));
    let host = world.host();
    let install = |lock: &str| {
        std::fs::write(cwd.join("lockfiles/pytest.lock.json"), lock).unwrap();
        let root = Root::read_untrusted(&host, &cwd).unwrap();
        let context = context(host.clone());
        tools::tools(&context, &root, &store, &[Tool::Python3]).map(|tools| tools.facts())
    };
    let mut wrong = lock.clone();
    for wheels in wrong["python"].as_object_mut().unwrap().values_mut() {
        wheels[0]["sha256"] = "0".repeat(64).into();
    }
    assert_eq!(install(&wrong.to_string()).unwrap_err().reason().as_str(), "pip_failed");
    let other = lock.to_string().replace("\"3.", "\"9.");
    assert_eq!(install(&other).unwrap_err().reason().as_str(), "python_not_locked");
}

#[test]
fn work_that_ends_its_own_judge_is_rejected_each_time() {
    let bench = Bench::new();
    let ends = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n";
    let script = format!("cat > strings.py <<'END'\n{ends}END\ngit commit -qam done");
    let work = bench.agent(&script);
    let judgement = bench.judge(&work);
    assert!(!judgement.passed && !judgement.tests_passed, "{judgement:#?}");
    assert_eq!(judgement.killed, Some(9));
    let made = judgement.log.matches("== round 1").count();
    assert_eq!(made, 2, "made anew once, and both are kept\n{}", judgement.log);
    // The same of a baseline, in which no agent had a hand, is no judgement.
    let draw = bench.draw(&bench.fixture);
    let judge = bench.the_judge();
    let by = judge::Bench { judge: &*judge, fixture: &bench.fixture, draw: &draw };
    let Err(err) = by.judge_own(&work) else { panic!("somebody ended it") };
    assert_eq!(err.reason().as_str(), "killed_from_outside");
}
