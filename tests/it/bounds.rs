//! What admit takes while it reads what was made to be hard to read: its own peak of memory, and the time beyond a run's
//! clock. Measured of the program itself, with everything that a source, a registry, an agent or a model may send, and with
//! mutations of it, which follow from a constant. `ADMIT_BOUND_ROUNDS` asks for more of them.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use admit::record::ids::CommitId;
use base64::Engine as _;
use serde_json::{Value, json};

use crate::fuzz::Dice;
use crate::loopback::{Reply, Server, git_http};
use crate::packs::{CASES, Pack, sent};
use crate::processes::{peak, this_test};
use crate::repo::Repo;
use crate::run::{bash, built, scripted, variant};
use crate::trial::{ASKS_FOREVER, Trial};
use crate::upstream::{MODEL, raw, said, stream};
use crate::util::{Run, World, tell, var};

/// Mutations of packs, and of replies, in a test of the usual length.
const ROUNDS: usize = 12;

fn rounds() -> usize {
    var("ADMIT_BOUND_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

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
    let program = std::fs::canonicalize(command.get_program()).unwrap();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (id, exe) = (child.id().to_string(), format!("/proc/{}/exe", child.id()));
    let ended = std::thread::spawn(move || child.wait_with_output().unwrap());
    let mut most = 0;
    while !ended.is_finished() {
        // For a moment it still has the memory of this process, whose child it is.
        let begun = std::fs::read_link(&exe).is_ok_and(|exe| exe == program);
        most = most.max(peak(&id).filter(|_| begun).unwrap_or(0) << 10);
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = ended.join().unwrap();
    let took = begin.elapsed();
    assert!(most > 0 || took < Duration::from_millis(50), "it was never looked at");
    Measured { run: Run::of("measured", world.cwd(), output), peak: most, took }
}

/// Holds a command to the bounds, and to a no of its own.
#[track_caller]
fn refused(what: &str, world: &World, args: &[&str]) -> Measured {
    let found = measured(world, world.command(args));
    let Measured { run, peak, took } = &found;
    assert!(*peak < MOST, "{what}: {} MiB\n{run}", peak >> 20);
    assert!(*took < Duration::from_secs(20), "{what}: {took:?}\n{run}");
    let code = run.code();
    assert!(code.is_some_and(|code| (2..10).contains(&code)), "{what}\n{run}");
    found
}

#[track_caller]
fn lock(what: &str, world: &World, url: &str, rev: &CommitId) -> Measured {
    let rev = rev.as_str();
    refused(what, world, &["lock", "hard", "--source", url, "--rev", rev, "--bun", "1.3.14"])
}

/// Where a source with this pack is: as a repository, and at a server, which ends with the test.
fn places(world: &World, name: &str, pack: &Pack, offset: Option<u32>) -> (Repo, [String; 2]) {
    let repo = Repo::new(&world.path().join(name));
    repo.write("a", "x").commit();
    pack.write(&repo.0.join(".git/objects"), offset);
    let answer = sent(&pack.finished());
    let server = git_http(world.path().to_owned(), true, move |_| Reply::ok(&answer[..]));
    let urls = [format!("file://{}", repo.0.display()), server.url("/o/r")];
    (repo, urls)
}

#[test]
fn no_pack_of_a_source_takes_admits_memory() {
    let world = World::new();
    for (what, make, offset, _) in CASES {
        let (pack, commit) = make();
        for url in places(&world, &what.replace(' ', "-"), &pack, offset).1 {
            lock(what, &world, &url, &commit);
        }
    }
}

#[test]
fn no_mutation_of_a_pack_of_a_source_takes_admits_memory() {
    let world = World::new();
    let (mut most, mut slowest) = (0, Duration::ZERO);
    for round in 0..rounds() {
        let (what, make, offset, _) = CASES[round % CASES.len()];
        let mut dice = Dice(0x00AD_317B_0B0D + round as u64);
        let (mut pack, commit) = make();
        pack.alter(&mut dice);
        let what = format!("{what}, round {round}");
        let (repo, urls) = places(&world, &format!("mutated-{round}"), &pack, offset);
        let found = lock(&what, &world, &urls[dice.roll(2)], &commit);
        (most, slowest) = (most.max(found.peak), slowest.max(found.took));
        std::fs::remove_dir_all(&repo.0).unwrap();
    }
    let rounds = rounds();
    tell(&format!("{rounds} mutated packs of sources: {} MiB, {slowest:?} at most", most >> 20));
}

#[test]
fn no_file_of_a_source_takes_admits_memory() {
    let world = World::new();
    let manifest = json!({ "name": "x", "version": "1.0.0", "packageManager": "bun@1.3.14" });
    let many = |piece: &str, bytes: usize| piece.repeat(bytes / piece.len());
    let version = "\"lockfileVersion\":1";
    let with = |first: &str, value: String| format!("{{{first},\"a\":{value}}}");
    let list = |piece: &str, bytes: usize| format!("[{}1]", many(piece, bytes));
    let texts = [
        ("lists", "bun.lock", with(version, list("[],", 15 << 20))),
        ("numbers", "bun.lock", with(version, list("1,", 15 << 20))),
        ("one text", "bun.lock", with(version, format!("\"{}\"", many("x", 15 << 20)))),
        ("too large", "bun.lock", many("[],", 40 << 20)),
        ("deep", "bun.lock", many("[", 15 << 20)),
        ("manifest", "package.json", with("\"name\":\"x\"", list("[],", 1 << 20))),
        ("large file", "data.bin", many("0123456789", 99 << 20)),
        ("too large a file", "data.bin", many("0123456789", 101 << 20)),
    ];
    for (what, file, text) in texts {
        let repo = Repo::new(&world.path().join(what.replace(' ', "-")));
        repo.write("package.json", &manifest.to_string()).write("bun.lock", "{}");
        let commit = repo.write(file, &text).commit();
        lock(what, &world, &format!("file://{}", repo.0.display()), &commit);
    }
    // One manifest of a megabyte, in a hundred directories.
    let repo = Repo::new(&world.path().join("manifests"));
    for n in 0..100 {
        repo.write(&format!("{n}/package.json"), &many(" ", 1 << 20));
    }
    let commit = repo.write("bun.lock", "{}").commit();
    lock("manifests", &world, &format!("file://{}", repo.0.display()), &commit);
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
    lock("branches", &world, &server.url("/o/r"), &"1".repeat(40).parse().unwrap());
    // A registry's list of versions.
    let versions = "\"1\":{},".repeat((60 << 20) / 7);
    let body = format!("{{\"versions\":{{{versions}\"2\":{{}}}}}}").into_bytes();
    let server = Server::http(move |_, _| Reply::ok(&body[..]));
    let repo = Repo::new(&world.path().join("plain"));
    let manifest = json!({ "name": "x", "version": "1.0.0", "scripts": { "build": "bun build --compile a.ts --outfile x" } });
    repo.write("package.json", &manifest.to_string()).write("a.ts", "");
    let text = "{\"lockfileVersion\":1,\"workspaces\":{\"\":{\"name\":\"x\"}},\"packages\":{}}";
    let commit = repo.write("bun.lock", text).commit();
    let source = format!("file://{}", repo.0.display());
    let from = ["lock", "hard", "--source", &source, "--rev", commit.as_str()];
    let with = ["--bun", "1.2.20", "--registry", &server.url("/")];
    refused("versions", &world, &[&from[..], &with].concat());
}

#[test]
fn no_pack_of_an_agent_takes_admits_memory_or_its_time() {
    let world = built();
    let mut commands = Vec::new();
    // As they are; and altered, where more than the usual rounds are asked for: each of these runs takes its six seconds.
    let altered = (rounds() - ROUNDS.min(rounds())).div_ceil(10);
    for round in 0..4 + altered {
        let (what, make, offset, _) = CASES[round % 4];
        let (mut pack, commit) = make();
        if round >= 4 {
            pack.alter(&mut Dice(0x00AD_317B_0A6E + round as u64));
        }
        let text = |bytes: Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
        let (bytes, index) = (text(pack.finished()), text(pack.indexed(offset)));
        let name = format!("objects/pack/pack-{}", "0".repeat(40));
        commands.push((what, format!(
            "cd .git && mkdir -p objects/pack && echo {bytes} | base64 -d > {name}.pack && \
             echo {index} | base64 -d > {name}.idx && echo {commit} > $(git symbolic-ref HEAD); sleep 300"
        )));
    }
    // What a run takes whose agent sleeps until the clock ends it.
    commands.insert(0, ("nothing", "sleep 300".to_owned()));
    for (n, (_, command)) in commands.iter().enumerate() {
        variant(&world, &format!("hard-{n}"), |turns| turns[1] = bash(command));
    }
    let run = &|n: usize| {
        let fixture = format!("hard-{n}");
        let args = [&["run", "--json", "--timeout", "6"], &scripted(&fixture)[..]].concat();
        let found = measured(&world, world.command(&args));
        assert!(found.peak < MOST, "{fixture}: {} MiB\n{}", found.peak >> 20, found.run);
        let report = &found.run.expect(9).json()["report"];
        assert_eq!(report["failure_class"], "timeout", "{fixture}: {report:#}");
        found.took
    };
    for four in (1..commands.len()).collect::<Vec<_>>().chunks(4) {
        // All at once, so that each has the same share of the machine.
        let took: Vec<Duration> = std::thread::scope(|scope| {
            let all = [0].iter().chain(four).map(|n| scope.spawn(move || run(*n)));
            let all: Vec<_> = all.collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for (n, found) in four.iter().zip(&took[1..]) {
            assert!(
                *found < took[0] + Duration::from_secs(2),
                "{}, round {n}: {found:?}, and {:?} without",
                commands[*n].0,
                took[0]
            );
        }
    }
}

/// What a model may answer with, made to be hard to read: whole replies, head and all, each of this part of its size.
fn replies(part: usize) -> Vec<Vec<u8>> {
    let event = |delta: &Value| {
        let choice = json!({ "index": 0, "delta": delta });
        format!("data: {}\n\n", json!({ "model": MODEL, "choices": [choice] }))
    };
    let body = |kind: &str, body: String| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n");
        [head, body].concat().into_bytes()
    };
    let streamed = |text: String| body("text/event-stream", text);
    let many =
        |make: &dyn Fn(usize) -> String, times: usize| (0..times).map(make).collect::<String>();
    let call = |index: usize, name: &str, arguments: &str| {
        event(&json!({ "tool_calls": [{ "index": index, "id": "i", "type": "function",
            "function": { "name": name, "arguments": arguments } }] }))
    };
    let deep = format!("{{\"a\":{}0{}}}", "[".repeat(100_000), "]".repeat(100_000));
    vec![
        streamed(event(&json!({ "content": "x<think>".repeat(4000) })).repeat(90 / part)),
        streamed(many(&|n| format!("data: {{\"model\":\"model-{n}\"}}\n\n"), 60_000 / part)),
        streamed(format!("data: {}", "[".repeat((8 << 20) / part))),
        streamed("data: [\n".repeat((1 << 20) / part)),
        streamed(event(&json!({ "content": "a".repeat((1 << 20) / part) })).repeat(9)),
        streamed(call(0, &"n".repeat((1 << 20) / part), "{}")),
        streamed(call(0, "bash", &deep)),
        streamed(many(&|n| call(n, "bash", "{}"), 20_000 / part)),
        streamed(many(&|n| call(n * 1_000_003, "bash", "{\"a\":"), 20_000 / part)),
        streamed(event(&json!({ "reasoning_content": "y".repeat(1 << 16) })).repeat(100 / part)),
        streamed("\n: \r\n\r\r".repeat((1 << 20) / part)),
        body("application/json", format!("{{\"choices\":[{}1]}}", "[],".repeat((2 << 20) / part))),
        body("application/json", format!("{{\"choices\":[{}1]}}", "{\"a\":".repeat((1 << 20) / part))),
        [b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000 / part), b"HTTP/1.1 200 OK\r\n\r\n".to_vec()].concat(),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", many(&|n| format!("x-{n}: y\r\n"), 100_000 / part)).into_bytes(),
        [
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            b"1\r\nd\r\n".repeat(300_000 / part),
        ]
        .concat(),
    ]
}

/// Bytes changed, cut out, moved and repeated, in the head or behind it.
fn mutated(mut reply: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    for _ in 0..=dice.roll(6) {
        let within = if dice.roll(3) == 0 { reply.len().min(160) } else { reply.len() };
        let at = dice.roll(within + 1);
        let to = (at + dice.roll(4096)).min(reply.len());
        match dice.roll(5) {
            0 if at < reply.len() => reply[at] ^= 1 << dice.roll(8),
            1 => drop(reply.drain(at..to)),
            2 => drop(reply.splice(at..at, reply[at..to].to_vec().repeat(1 + dice.roll(200)))),
            3 => {
                let word =
                    ["\n\n", "data: ", "{", "\"", "\\u0000", "[", "<think>", "\r\n\r\n", "\0"];
                let words = word[dice.roll(word.len())].repeat(1 + dice.roll(9));
                drop(reply.splice(at..at, words.into_bytes()));
            }
            _ => reply.truncate(at.max(reply.len() / 2)),
        }
        reply.truncate(12 << 20);
    }
    reply
}

/// Where the model of the run in a process of its own is.
const SERVED: &str = "ADMIT_TEST_BOUNDS_SERVED";

#[test]
fn no_reply_of_a_model_takes_admits_memory_or_its_time() {
    let test = "bounds::no_reply_of_a_model_takes_admits_memory_or_its_time";
    // A part in a test of the usual length: `chat::a_hostile_reply_costs_one_pass_and_bounded_memory` has the whole.
    let hard = replies(if rounds() > ROUNDS { 1 } else { 32 });
    let all = hard.len() + rounds();
    if let Some(url) = var(SERVED) {
        // An agent that takes nothing amiss: as many requests as there are replies, each of them read by the proxy.
        let mut trial = Trial::python(ASKS_FOREVER);
        trial.proxy.requests = u32::try_from(all).unwrap();
        trial.proxy.reply_bytes = u64::MAX;
        trial.clocks.wall = Duration::from_secs(240);
        drop(hard);
        let left = trial.served_at(url);
        let limit = &left.json("backend/bridge.json")["limit_hit"];
        assert_eq!(*limit, "requests", "{:?}", left.report().blockers);
        return;
    }
    let asked = AtomicUsize::new(0);
    let slowest = Arc::new(Mutex::new((Duration::ZERO, 0)));
    let last = Mutex::new(None::<(Instant, usize)>);
    let server = raw({
        let slowest = Arc::clone(&slowest);
        move |_| {
            // From the answer to the next question: the time that it took to be read.
            let n = asked.fetch_add(1, Ordering::SeqCst);
            let mut last = last.lock().unwrap();
            if let Some((then, of)) = *last {
                let mut slowest = slowest.lock().unwrap();
                *slowest = (*slowest).max((then.elapsed(), of));
            }
            let reply = match n.checked_sub(1) {
                None => return stream("", &said("ready")),
                Some(n) if n < hard.len() => hard[n].clone(),
                Some(n) => {
                    let mut dice = Dice(0x00AD_317B_0E91 + n as u64);
                    mutated(hard[n % hard.len()].clone(), &mut dice)
                }
            };
            *last = Some((Instant::now(), n));
            reply
        }
    });
    let world = World::new();
    let mut command = this_test(test);
    command.env(SERVED, server.url("/v1"));
    let found = measured(&world, command);
    let passed = found.run.code() == Some(0) && found.run.stdout().contains("1 passed");
    assert!(passed, "{}", found.run);
    assert!(found.peak < MOST, "{} MiB", found.peak >> 20);
    let (slowest, of) = *slowest.lock().unwrap();
    let (peak, took) = (found.peak >> 20, found.took);
    tell(&format!(
        "{all} replies, {} of them mutated: {peak} MiB, {took:?}, reply {of} {slowest:?}",
        rounds()
    ));
    assert!(slowest < Duration::from_secs(20), "reply {of}: {slowest:?}");
}
