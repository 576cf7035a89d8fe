//! The sandbox seen from the host: the death of admit, and a machine that does not allow it.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::files::script;
use crate::fuzz::Dice;
use crate::processes::{alive, marked_in, this_test, wait_for};
use crate::sandbox::{begin, launcher, policy, sh};
use crate::util;
use admit::error::Reason;
use admit::sandbox::{Launcher, namespaces, start};

/// This test starts itself again as the admit that is to be killed.
#[test]
fn when_admit_is_killed_nothing_of_the_sandbox_survives() {
    if let Some(word) = util::var("ADMIT_TEST_HOLD") {
        let mut sandbox = begin(&policy());
        let script =
            format!("(trap '' TERM HUP; setsid sleep {word} & sleep {word} & wait) & sleep {word}");
        let _running = sandbox.spawn(&sh(&script), None).expect("starts");
        std::io::stdout().write_all(b"\nholding\n").expect("written");
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    // A number of seconds that nobody else sleeps.
    let word = format!("{}.{}", 100_000 + std::process::id(), std::process::id());
    let name = "sandbox_host::when_admit_is_killed_nothing_of_the_sandbox_survives";
    let mut holder = this_test(name);
    holder.env("ADMIT_TEST_HOLD", &word).stdout(Stdio::piped());
    let mut holder = holder.spawn().expect("starts");
    let lines = std::io::BufReader::new(holder.stdout.take().expect("piped")).lines();
    let held = lines.map_while(Result::ok).any(|line| line == "holding");
    assert!(held, "the holder ended");
    let sleeping = format!("sleep\0{word}");
    wait_for("the payload", Duration::from_secs(10), || alive(&sleeping));
    holder.kill().expect("SIGKILL");
    holder.wait().expect("reaped");
    wait_for("everything to end", Duration::from_secs(10), || !alive(&sleeping));
}

/// A program to start the sandbox's child with: a script that ends in it.
fn wrapped(dir: &Path, text: &str) -> Launcher {
    let exe = dir.join("wrapped");
    script(&exe, &text.replace("ADMIT", &util::admit().display().to_string()));
    Launcher { exe, scratch: dir.into() }
}

/// What starts the sandbox's child in a user namespace of its own, in which no further one of this kind may be made.
fn without(dir: &Path, kind: &str) -> Launcher {
    let limit = format!("echo 0 > /proc/sys/user/max_{kind}_namespaces && exec ADMIT \"$@\"");
    wrapped(dir, &format!("exec unshare --user --map-root-user sh -c '{limit}' sh \"$@\""))
}

#[test]
fn no_user_namespaces_is_refused_with_cause_and_fix() {
    let dir = tempfile::tempdir().expect("a directory");
    let launcher = without(dir.path(), "user");
    let error = start(&launcher, &policy()).err().expect("refused");
    assert_eq!((error.reason(), error.kind().exit_code()), (Reason::SandboxUnavailable, 7));
    assert_eq!(error.found_value(), Some("user.max_user_namespaces = 0"), "{:?}", error.causes());
    assert!(error.hints()[0].contains("sysctl -w user.max_user_namespaces"), "{:?}", error.hints());
    let (name, refused) = namespaces(&launcher).expect("tried").remove(0);
    assert!(name == "user" && !refused.expect("refused").hints().is_empty());
}

#[test]
fn a_sandbox_that_somebody_ended_while_it_was_built_is_not_unavailable() {
    for (signal, killed) in [("TERM", true), ("KILL", true), ("SEGV", false)] {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let launcher = wrapped(dir.path(), &format!("kill -{signal} $$"));
        let error = start(&launcher, &policy()).err().expect("refused");
        assert_eq!(error.reason() == Reason::KilledFromOutside, killed, "{signal}: {error:?}");
    }
}

/// The processes that have `marker` in their environment, oldest first.
fn in_environment(marker: &str) -> Vec<Pid> {
    let mut all: Vec<Pid> = marked_in("environ", marker).collect();
    all.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
    all
}

#[test]
fn whichever_process_of_a_sandbox_is_killed_while_it_is_built_is_no_word_about_the_machine() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let marker = format!("SETUP_OF_A_TEST={}", std::process::id());
    let launcher = wrapped(dir.path(), &format!("export {marker}; exec ADMIT \"$@\""));
    let mut dice = Dice(0x00AD_317B_0831);
    let (mut killed, mut rounds) = (0, 0);
    while killed < 40 && rounds < 400 {
        rounds += 1;
        let (first, delay) = (dice.roll(2) == 0, dice.roll(12_000));
        let error = std::thread::scope(|scope| {
            let begun = scope.spawn(|| start(&launcher, &policy()).err());
            while in_environment(&marker).is_empty() && !begun.is_finished() {}
            std::thread::sleep(Duration::from_micros(delay as u64));
            let all = in_environment(&marker);
            let one = if first { all.first() } else { all.last() };
            one.map(|pid| kill_process(*pid, Signal::KILL));
            begun.join().expect("no panic")
        });
        // It may have stood already, or ended.
        if let Some(error) = error {
            killed += 1;
            assert_eq!(error.reason(), Reason::KilledFromOutside, "{error:?}");
        }
    }
    assert!(killed > 10, "killed {killed} in {rounds} rounds");
}

#[test]
fn an_init_that_was_killed_with_words_unread_is_no_fault_of_admit() {
    let mut sandbox = begin(&policy());
    let init = Pid::from_raw(sandbox.facts().volatile.init_pid).expect("a process");
    let running = sandbox.spawn(&sh("sleep 86281"), None).expect("starts");
    kill_process(init, Signal::STOP).expect("stopped");
    running.signal(libc::SIGCONT).expect("sent, and not read");
    kill_process(init, Signal::KILL).expect("killed");
    let error = running.finish().expect_err("no end of its own");
    assert_eq!(error.reason(), Reason::KilledFromOutside, "{error:?}");
    let error = sandbox.run(&sh("true")).expect_err("no init");
    assert_eq!(error.reason(), Reason::KilledFromOutside, "{error:?}");
}

#[test]
fn one_missing_namespace_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let launcher = without(dir.path(), "net");
    let error = start(&launcher, &policy()).err().expect("refused");
    assert_eq!(error.reason(), Reason::SandboxUnavailable);
    assert_eq!(error.found_value(), Some("user.max_net_namespaces = 0"), "{:?}", error.causes());
    for (name, refused) in namespaces(&launcher).expect("tried") {
        assert_eq!(refused.is_some(), name == "net", "{name}: {refused:?}");
    }
}

#[test]
fn a_hard_limit_below_the_policys_is_the_one_that_binds() {
    let dir = tempfile::tempdir().expect("a directory");
    // A limit that is set by number alone is set hard and soft (ulimit(1)); file sizes count in 512 bytes.
    let launcher = wrapped(
        dir.path(),
        "ulimit -n 200; ulimit -f 2000000; ulimit -v 4000000; exec ADMIT \"$@\"",
    );
    let asked = policy();
    let mut sandbox = start(&launcher, &asked).expect("starts");
    let done = sandbox.run(&sh("ulimit -n; ulimit -f; ulimit -v; ulimit -p")).expect("runs");
    assert_eq!(done.stdout.text(), format!("200\n2000000\n4000000\n{}\n", asked.limits.processes));
    let facts = &sandbox.facts().stable;
    assert_eq!(facts.policy, asked, "what was asked for stays on record");
    let in_force = facts.limits_in_force.clone().expect("recorded");
    assert_eq!((in_force.open_files, in_force.file_size), (200, 1_024_000_000));
    assert_eq!(in_force.address_space, Some(4_096_000_000));
    assert_eq!(in_force.processes, asked.limits.processes, "never larger than the policy's");
    let words = "RLIMIT_NOFILE is 200 here, where the policy has 4096".to_owned();
    assert!(facts.limits.contains(&words), "{:?}", facts.limits);
}

/// This test starts itself again as root of a user namespace.
#[test]
fn root_of_a_user_namespace_without_a_second_id_is_refused() {
    if util::var("ADMIT_TEST_INNER").is_some() {
        let (launcher, _scratch) = launcher();
        let error = start(&launcher, &policy()).err().expect("refused");
        assert_eq!(error.reason(), Reason::SandboxUnavailable);
        assert!(error.what().contains("no second user id"), "{error}");
        return;
    }
    let name = "sandbox_host::root_of_a_user_namespace_without_a_second_id_is_refused";
    let inner = this_test(name);
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user"]).arg(inner.get_program()).args(inner.get_args());
    let output = unshare.env("ADMIT_TEST_INNER", "1").output().expect("util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}

#[test]
fn this_machine_allows_all_of_it() {
    let (launcher, _scratch) = launcher();
    for (name, refused) in namespaces(&launcher).expect("tried") {
        assert!(refused.is_none(), "{name}: {refused:?}");
    }
}
