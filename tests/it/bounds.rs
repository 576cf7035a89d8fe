//! What admit takes while it reads what was made to be hard to read: its own peak of memory, and the time beyond a run's
//! clock. Measured of the program itself, with everything that a source, a registry or an agent may send.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::json;

use crate::fetch_git::Repo;
use crate::loopback::{Reply, Server, git_http};
use crate::packs::{CASES, sent};
use crate::run::{SCRIPTED, bash, built, variant};
use crate::util::{Run, World};

/// In bytes, of admit's process alone; what it starts to read is held by the kernel.
const MOST: u64 = 200 << 20;

struct Measured {
    run: Run,
    peak: u64,
    took: Duration,
}

/// Runs to the end, and looks at the process as often as can be.
fn measured(world: &World, mut command: Command) -> Measured {
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut out = Vec::new();
            from.read_to_end(&mut out).unwrap();
            out
        })
    };
    let (stdout, stderr) = (read(Box::new(stdout)), read(Box::new(stderr)));
    let mut peak = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) << 10);
        std::thread::sleep(Duration::from_millis(2));
    };
    let output = std::process::Output {
        status: ended,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    };
    let took = begin.elapsed();
    Measured { run: Run::of("measured", world.cwd(), output), peak, took }
}

/// Holds a command to the bounds, and to a no of its own.
#[track_caller]
fn refused(what: &str, world: &World, args: &[&str]) {
    let Measured { run, peak, took } = measured(world, world.command(args));
    assert!(peak < MOST, "{what}: {} MiB\n{run}", peak >> 20);
    assert!(took < Duration::from_secs(20), "{what}: {took:?}\n{run}");
    let code = run.code();
    assert!(code.is_some_and(|code| (2..10).contains(&code)), "{what}\n{run}");
}

fn lock(what: &str, world: &World, url: &str, rev: &str) {
    refused(what, world, &["lock", "hard", "--source", url, "--rev", rev, "--bun", "1.3.14"]);
}

#[test]
fn no_pack_of_a_source_takes_admits_memory() {
    let world = World::new();
    for (what, make, offset, _) in CASES {
        let (pack, commit) = make();
        let repo = Repo::new(&world.path().join(what.replace(' ', "-")));
        repo.write("a", "x").commit();
        pack.write(&repo.0.join(".git/objects"), offset);
        lock(what, &world, &format!("file://{}", repo.0.display()), commit.as_str());
        let answer = sent(&pack.finished());
        let server = git_http(world.path().to_owned(), true, move |_| Reply::ok(&answer[..]));
        lock(what, &world, &server.url("/o/r"), commit.as_str());
    }
}

#[test]
fn no_file_of_a_source_takes_admits_memory() {
    let world = World::new();
    let manifest = json!({ "name": "x", "version": "1.0.0", "packageManager": "bun@1.3.14" });
    let many = |piece: &str, bytes: usize| piece.repeat(bytes / piece.len());
    let texts = [
        (
            "lists",
            "bun.lock",
            format!("{{\"lockfileVersion\":1,\"a\":[{}1]}}", many("[],", 15 << 20)),
        ),
        (
            "numbers",
            "bun.lock",
            format!("{{\"lockfileVersion\":1,\"a\":[{}1]}}", many("1,", 15 << 20)),
        ),
        (
            "one text",
            "bun.lock",
            format!("{{\"lockfileVersion\":1,\"a\":\"{}\"}}", many("x", 15 << 20)),
        ),
        ("too large", "bun.lock", many("[],", 40 << 20)),
        ("deep", "bun.lock", many("[", 15 << 20)),
        (
            "manifest",
            "package.json",
            format!("{{\"name\":\"x\",\"a\":[{}1]}}", many("[],", 1 << 20)),
        ),
        ("large file", "data.bin", many("0123456789", 99 << 20)),
        ("too large a file", "data.bin", many("0123456789", 101 << 20)),
    ];
    for (what, file, text) in texts {
        let repo = Repo::new(&world.path().join(what.replace(' ', "-")));
        repo.write("package.json", &manifest.to_string()).write("bun.lock", "{}");
        let commit = repo.write(file, &text).commit();
        lock(what, &world, &format!("file://{}", repo.0.display()), commit.as_str());
    }
    // One manifest of a megabyte, in a hundred directories.
    let repo = Repo::new(&world.path().join("manifests"));
    for n in 0..100 {
        repo.write(&format!("{n}/package.json"), &many(" ", 1 << 20));
    }
    let commit = repo.write("bun.lock", "{}").commit();
    lock("manifests", &world, &format!("file://{}", repo.0.display()), commit.as_str());
}

#[test]
fn no_answer_of_a_remote_takes_admits_memory() {
    let world = World::new();
    // A million branches, all of them of other commits.
    let mut refs = b"001e# service=git-upload-pack\n0000".to_vec();
    for n in 0..1_300_000_u32 {
        let head = if n == 0 { "\0side-band-64k" } else { "" };
        let line = format!("{n:040x} r{n}{head}\n");
        refs.extend(format!("{:04x}{line}", line.len() + 4).into_bytes());
    }
    refs.extend(b"0000");
    let server = Server::http(move |_, _| Reply::ok(&refs[..]));
    lock("branches", &world, &server.url("/o/r"), &"1".repeat(40));
    // A registry's list of versions.
    let versions = "\"1\":{},".repeat((60 << 20) / 7);
    let body = format!("{{\"versions\":{{{versions}\"2\":{{}}}}}}").into_bytes();
    let server = Server::http(move |_, _| Reply::ok(&body[..]));
    let repo = Repo::new(&world.path().join("plain"));
    let manifest = json!({ "name": "x", "version": "1.0.0", "scripts": { "build": "bun build --compile a.ts --outfile x" } });
    repo.write("package.json", &manifest.to_string()).write("a.ts", "");
    let commit = repo
        .write(
            "bun.lock",
            "{\"lockfileVersion\":1,\"workspaces\":{\"\":{\"name\":\"x\"}},\"packages\":{}}",
        )
        .commit();
    let source = format!("file://{}", repo.0.display());
    let registry = server.url("/");
    refused(
        "versions",
        &world,
        &[
            "lock",
            "hard",
            "--source",
            &source,
            "--rev",
            commit.as_str(),
            "--bun",
            "1.2.20",
            "--registry",
            &registry,
        ],
    );
}

#[test]
fn no_pack_of_an_agent_takes_admits_memory_or_its_time() {
    let world = built();
    // What a run takes whose agent sleeps until the clock ends it, and those of agents that leave a pack before.
    let mut commands = vec![("nothing", "sleep 300".to_owned())];
    for (what, make, offset, _) in CASES.into_iter().take(4) {
        let (pack, commit) = make();
        let text = |bytes: Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
        let (bytes, index) = (text(pack.finished()), text(pack.indexed(offset)));
        let name = format!("objects/pack/pack-{}", "0".repeat(40));
        commands.push((what, format!(
            "cd .git && mkdir -p objects/pack && echo {bytes} | base64 -d > {name}.pack && \
             echo {index} | base64 -d > {name}.idx && echo {commit} > $(git symbolic-ref HEAD); sleep 300"
        )));
    }
    for (n, (_, command)) in commands.iter().enumerate() {
        variant(&world, &format!("hard-{n}"), |turns, _| turns[1] = bash(command));
    }
    let run = &|n: usize| {
        let fixture = format!("hard-{n}");
        let mut args = vec!["run", "--json", "stage2", &fixture, "--timeout", "6"];
        args.extend(&SCRIPTED[1..]);
        let found = measured(&world, world.command(&args));
        assert!(found.peak < MOST, "{fixture}: {} MiB\n{}", found.peak >> 20, found.run);
        let report = &found.run.expect(9).json()["report"];
        assert_eq!(report["failure_class"], "timeout", "{fixture}: {report:#}");
        found.took
    };
    // All at once, so that each has the same share of the machine.
    let took: Vec<Duration> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..commands.len()).map(|n| scope.spawn(move || run(n))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for ((what, _), found) in commands.iter().zip(&took) {
        assert!(
            *found < took[0] + Duration::from_secs(2),
            "{what}: {found:?}, and {:?} without",
            took[0]
        );
    }
}
