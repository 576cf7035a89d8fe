//! What a build left: taken out of the sandbox, hashed while it is copied, its runtime and its identity proven.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cap_std::fs::{Dir, PermissionsExt};

use super::step::{RAISE_LIMITS, exit_text};
use super::{left, work};
use crate::error::{Error, Reason, Result};
use crate::host::{self, Progress};
use crate::lock::Locked;
use crate::record::ids::{Algorithm, Blake3, Digest, Name, RelPath, Sha256};
use crate::record::lockfile::{Ambient, Identity, Output};
use crate::record::report::{IdentityProof, OutputStatus, Runtime};
use crate::sandbox::{self, Command, Exit, Finished, Launcher, Mount, Policy, Sandbox, inside};
use crate::store::{Pending, Store, StoredFile};

/// Longest time that `--help` or `--version` may take; Case needs 0.4 s.
const IDENTITY_WALL: Duration = Duration::from_secs(20);

/// Largest output in bytes. Case has 105 MB; a file with holes would take on disk what it never took in the sandbox.
const LARGEST: u64 = 2 << 30;

/// Copies the output beside the store, to be proven. It will have the digest that it has, whatever the lock
/// says.
///
/// # Errors
/// [`Reason::OutputMissing`], [`Reason::OutputNotExecutable`] for anything but a regular executable file,
/// [`Reason::LimitHit`].
pub fn take(dir: &Dir, below: &str, output: &RelPath, store: &Store) -> Result<Pending> {
    let path = format!("{below}/{output}");
    let missing = |err| {
        Error::new(Reason::OutputMissing, "the build left no output")
            .at(output.to_string())
            .caused_by(err)
    };
    let not_executable = |found: &str| {
        Error::new(Reason::OutputNotExecutable, "the output is not a regular executable file")
            .at(output.to_string())
            .expected("a regular file with an execute bit")
            .found(found.to_owned())
    };
    let (dir, name) = left::parent(dir, &path).map_err(missing)?;
    let meta = dir.symlink_metadata(name).map_err(missing)?;
    if !meta.is_file() {
        return Err(not_executable(if meta.is_symlink() {
            "a symbolic link"
        } else {
            "not a regular file"
        }));
    }
    let io = |what: &'static str| move |err| Error::io(what, "the output", err);
    let file = left::file(&dir, name).map_err(io("open"))?;
    let meta = file.metadata().map_err(io("inspect"))?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(not_executable(&format!("mode {:o}", meta.permissions().mode())));
    }
    if meta.len() > LARGEST {
        return Err(Error::new(Reason::LimitHit, "the output is larger than admit takes")
            .at(output.to_string())
            .expected(format!("at most {LARGEST} bytes"))
            .found(format!("{} bytes", meta.len())));
    }
    let mut writer = store.writer_with(&[Algorithm::Sha256, Algorithm::Blake3])?;
    let mut buffer = vec![0; 1 << 20];
    let mut file = file.take(LARGEST);
    loop {
        let read = file.read(&mut buffer).map_err(io("read"))?;
        if read == 0 {
            break;
        }
        writer.write_all(&buffer[..read]).map_err(io("store"))?;
    }
    writer.pend(Algorithm::Sha256)
}

/// A binary whose runtime and identity are proven, beside the store. Whether it is what the lock says is not asked yet.
pub struct Proof {
    pending: Pending,
    pub output: Output,
    runtime: Runtime,
    identity: IdentityProof,
}

#[derive(Debug)]
pub struct Proven {
    pub output: Output,
    pub path: PathBuf,
    pub runtime: Runtime,
    pub identity: IdentityProof,
}

/// Proves a binary: its runtime is the pinned one, byte for byte, and it shows the locked identity.
pub fn prove(
    mut pending: Pending,
    tool: &mut StoredFile,
    locked: &Locked,
    launcher: &Launcher,
    progress: &dyn Progress,
) -> Result<Proof> {
    let runtime = locked.plan.kind.prove_runtime(tool, pending.file())?;
    prove_identity(pending, runtime, locked, launcher, progress)
}

/// Proves the identity of a binary of which everything else was looked at.
pub fn prove_identity(
    mut pending: Pending,
    runtime: Runtime,
    locked: &Locked,
    launcher: &Launcher,
    progress: &dyn Progress,
) -> Result<Proof> {
    compiled(locked, &runtime)?;
    let output = hashed(&mut pending)?;
    let file = pending.file();
    progress.stage("identity", &format!("{} --help", locked.plan.output.file_name()));
    let provider = &locked.lock.provider;
    let identity = identity(launcher, file.path(), file.digest(), provider, &locked.lock.identity)
        .map_err(|err| match locked.lock.build.lfs_pointers.as_slice() {
            [] => err,
            pointers => {
                let names: Vec<&str> = pointers.iter().map(RelPath::as_str).collect();
                err.hint(format!(
                    "it was built with git-lfs pointers in place of files, and may need these: {}",
                    names.join(", ")
                ))
            }
        })?;
    Ok(Proof { pending, output, runtime, identity })
}

/// Whether the binary was compiled as the lock asks: a run of one that was not is refused whatever it prints.
///
/// # Errors
/// [`Reason::WrongIdentity`] with the flag that would lock what is there.
pub fn compiled(locked: &Locked, runtime: &Runtime) -> Result<()> {
    let provider = &locked.lock.provider;
    let loads: Vec<&str> =
        [(runtime.autoload_bunfig, "bunfig.toml"), (runtime.autoload_dotenv, ".env")]
            .into_iter()
            .filter_map(|(loads, name)| loads.then_some(name))
            .collect();
    if locked.lock.run.ambient == Ambient::Hardened && !loads.is_empty() {
        return Err(wrong(
            "run.ambient",
            "hardened: compiled to load neither bunfig.toml nor .env",
            &format!("it loads {}", loads.join(" and ")),
        )
        .hint(format!("where runs shall switch that off from outside: admit lock {provider} --ambient neutralise"))
        .hint("or compile it with --no-compile-autoload-bunfig --no-compile-autoload-dotenv"));
    }
    if locked.plan.kind.is_built() && !runtime.exec_argv.is_empty() {
        return Err(wrong(
            "the arguments that are compiled in",
            "none: a run gives all arguments itself",
            &runtime.exec_argv,
        )
        .hint(format!("compile it without --compile-exec-argv, by a step of your own: admit lock {provider} --step 'bun build --compile main.ts' --output main")));
    }
    Ok(())
}

/// The digests that a file got while it was written.
///
/// # Errors
/// [`Reason::Internal`] where it was not hashed by both.
pub fn hashed(pending: &mut Pending) -> Result<Output> {
    let file = pending.file();
    let none = || Error::new(Reason::Internal, "the output was not hashed");
    let sha256 = file.digests().get(Algorithm::Sha256).and_then(Sha256::from_digest);
    let blake3 = file.digests().get(Algorithm::Blake3).and_then(Blake3::from_digest);
    let (sha256, blake3) = sha256.zip(blake3).ok_or_else(none)?;
    Ok(Output { sha256, blake3, size: file.size() })
}

impl Proof {
    pub fn publish(self) -> Result<Proven> {
        let path = self.pending.publish()?.path().to_path_buf();
        let Self { output, runtime, identity, .. } = self;
        Ok(Proven { output, path, runtime, identity })
    }
}

/// Whether `found` is what the lock says.
///
/// # Errors
/// [`Reason::DigestMismatch`] with both digests.
pub fn status(locked: &Locked, found: &Output) -> Result<OutputStatus> {
    let Some(expected) = locked.output() else { return Ok(OutputStatus::Unlocked) };
    if expected == found {
        return Ok(OutputStatus::Locked);
    }
    let words = |output: &Output| {
        let (sha256, blake3) = (output.sha256.digest(), output.blake3.digest());
        format!("{sha256} {blake3} ({} bytes)", output.size)
    };
    Err(Error::new(Reason::DigestMismatch, "the output is not the locked one")
        .at(format!("{}: outputs.{}", locked.place, locked.plan.platform))
        .expected(words(expected))
        .found(words(found))
        .hint("the build path, the Bun version and every package are part of the digest: compare the lock with the one that gave the expected digest"))
}

/// Runs the output with `--help` and `--version` in a sandbox of its own, with no socket and nothing else in it, and
/// compares what it says with the lock.
///
/// # Errors
/// [`Reason::WrongIdentity`] with what was expected and found; those of [`Asked::answer`].
pub fn identity(
    launcher: &Launcher,
    binary: &Path,
    sha256: &Digest,
    provider: &Name,
    want: &Identity,
) -> Result<IdentityProof> {
    let mut asked = Asked::start(launcher, binary, sha256)?;
    let text = asked.answer("--help")?;
    let first = first_line(&text);
    // Every fault, each with the flag that would lock what was seen.
    let mut faults: Vec<(Error, String)> = Vec::new();
    if let Some(want) = want.help_first_line.as_deref().filter(|want| !Identity::shows(want, first))
    {
        let flag = locked_as("--help-line", first);
        faults.push((wrong("the first line of --help", want, first), flag));
    }
    let listed: Vec<&str> = text.lines().flat_map(commands).collect();
    for missing in want.commands.iter().filter(|command| !listed.contains(&command.as_str())) {
        let seen = format!("not among: {}", listed.join(", "));
        let flag = lock_commands(&want.commands, &listed);
        faults.push((wrong("the commands in --help", missing, &seen), flag));
    }
    let version = match &want.version {
        None => None,
        Some(want) => {
            let found = asked.answer("--version")?.trim().to_owned();
            if !Identity::shows(want, &found) {
                let flag = locked_as("--version-text", &found);
                faults.push((wrong("--version", want, &found), flag));
            }
            Some(found)
        }
    };
    asked.sandbox.end();
    if let Some(fault) = together(provider, faults) {
        return Err(fault);
    }
    Ok(IdentityProof {
        help_first_line: first.to_owned(),
        commands: want.commands.clone(),
        version,
        help_sha256: Sha256::of(text.as_bytes()),
    })
}

/// The flags that lock which of the wanted commands are there.
fn lock_commands(want: &[String], listed: &[&str]) -> String {
    let there = want.iter().filter(|command| listed.contains(&command.as_str()));
    let flags: Vec<String> =
        there.map(|command| format!("--help-command {}", host::quotes(command))).collect();
    match flags.is_empty() {
        true => "--clear help-commands".to_owned(),
        false => flags.join(" "),
    }
}

/// The flag that locks a text as it was seen, whole; none does for an empty one, which would match anything.
fn locked_as(flag: &str, seen: &str) -> String {
    match seen {
        "" => String::new(),
        seen => format!("{flag} {}", host::quotes(seen)),
    }
}

pub fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default()
}

/// A sandbox with one program in it and no socket, to ask it what it is.
pub struct Asked {
    sandbox: Sandbox,
}

impl Asked {
    /// # Errors
    /// Those of the sandbox; a binary of another digest.
    pub fn start(launcher: &Launcher, binary: &Path, sha256: &Digest) -> Result<Self> {
        let mut policy = Policy::new("identity");
        policy.mounts = work::c_library()?;
        policy.mounts.push(Mount::Verified {
            host: binary.to_path_buf(),
            inside: inside("/admit/out/program")?,
            sha256: sha256.clone(),
            blake3: None,
            mode: 0o555,
        });
        policy.mounts.push(Mount::Tmpfs {
            inside: inside("/tmp")?,
            size: 256 << 20,
            inodes: 10_000,
            mode: 0o1777,
        });
        Ok(Self { sandbox: sandbox::start(launcher, &policy)? })
    }

    /// What the program says to one argument: on stdout, or where nothing was, on stderr, on which some print their help.
    ///
    /// # Errors
    /// [`Reason::WrongIdentity`] where it fails or prints no text; [`Reason::TimedOut`], [`Reason::LimitHit`] and
    /// [`Reason::KilledFromOutside`] where it was ended.
    pub fn answer(&mut self, argument: &str) -> Result<String> {
        let mut command = Command::new(["/admit/out/program", argument], inside("/tmp")?);
        command.env = BTreeMap::from(
            [
                ("HOME", "/tmp"),
                ("TMPDIR", "/tmp"),
                ("PATH", "/admit/out"),
                ("LANG", "C.UTF-8"),
                ("TZ", "UTC"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        command.wall = IDENTITY_WALL;
        said(argument, self.sandbox.run(&command)?)
    }
}

/// What a program printed that was asked `argument`. One that was ended said nothing of what it is.
fn said(argument: &str, finished: Finished) -> Result<String> {
    let finished = finished.not_killed("the output was ended while it was asked what it is")?;
    let ended = exit_text(&finished.exit);
    let limit = |reason, what: &str, fix: &str| {
        Error::new(reason, what).at(argument).expected("exit code 0").found(ended.clone()).hint(fix)
    };
    let fault = match finished.exit {
        Exit::Code(0) => {
            let on_stderr = finished.stdout.kept.is_empty();
            let stream = if on_stderr { finished.stderr } else { finished.stdout };
            return String::from_utf8(stream.kept)
                .map_err(|_| wrong(argument, "UTF-8 text", "other bytes"));
        }
        Exit::TimedOut { .. } => limit(
            Reason::TimedOut,
            "the output did not say in time what it is",
            "try again when this machine has less to do; it must print and end without being asked anything",
        ),
        Exit::Limit { .. } => limit(
            Reason::LimitHit,
            "the output went over a limit while it was asked what it is",
            RAISE_LIMITS,
        ),
        Exit::Code(_) | Exit::Signal(_) => wrong(argument, "exit code 0", &ended),
    };
    Err(fault.caused_by(finished.stderr.text()))
}

/// The names that a line of a help text lists: the first word of an indented line, with its aliases (`context|ctx`,
/// `add, a`).
fn commands(line: &str) -> Vec<&str> {
    if !line.starts_with([' ', '\t']) {
        return Vec::new();
    }
    let mut names = Vec::new();
    for word in line.split_whitespace() {
        let more = word.ends_with(',');
        names.extend(word.split(['|', ',']).filter(|name| !name.is_empty()));
        if !more {
            break;
        }
    }
    names
}

/// All faults as one error: the first with what was expected and found, the others named, and one command that locks
/// what was seen.
fn together(provider: &Name, faults: Vec<(Error, String)>) -> Option<Error> {
    let mut flags: Vec<String> = Vec::new();
    for (_, flag) in &faults {
        if !flag.is_empty() && !flags.contains(flag) {
            flags.push(flag.clone());
        }
    }
    let mut faults = faults.into_iter().map(|(error, _)| error);
    let first = faults.next()?;
    let others = faults.map(|other| {
        let (place, want) = (other.place().unwrap_or_default(), other.expected_value());
        let (want, found) = (want.unwrap_or_default(), other.found_value().unwrap_or_default());
        format!("also {place}: expected {want}, found {found}")
    });
    let error = others.collect::<Vec<_>>().into_iter().fold(first, Error::hint);
    if flags.is_empty() {
        return Some(error);
    }
    Some(error.hint(format!(
        "if this is the program that is meant: admit lock {provider} {}; the output is not built again for it",
        flags.join(" ")
    )))
}

fn wrong(what: &str, expected: &str, found: &str) -> Error {
    let found: String = found.chars().take(200).collect();
    Error::new(
        Reason::WrongIdentity,
        "wrong provider identity: the output is not the program that the lock names",
    )
    .at(what.to_owned())
    .expected(expected.to_owned())
    .found(found)
    .hint("a program of the same name is not the provider")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Captured, Clock};

    #[test]
    fn the_fix_locks_the_commands_that_are_there() {
        let want = ["run".to_owned(), "serve".to_owned()];
        assert_eq!(lock_commands(&want, &["help", "run"]), "--help-command 'run'");
        assert_eq!(lock_commands(&want, &["help"]), "--clear help-commands");
    }

    #[test]
    fn aliases_are_names() {
        for (line, names) in [
            ("  context|ctx <task>   Get the rules", vec!["context", "ctx"]),
            ("  add, a   Add one", vec!["add", "a"]),
            ("\trun", vec!["run"]),
            ("  -h, --help  help", vec!["-h", "--help"]),
            ("Usage: x run", vec![]),
            ("   ", vec![]),
        ] {
            assert_eq!(commands(line), names, "{line}");
        }
    }

    #[test]
    fn a_program_that_was_ended_is_not_taken_for_another() {
        let captured = |text: &str| Captured {
            kept: text.into(),
            total: text.len() as u64,
            sha256: Sha256::of(text.as_bytes()).digest().clone(),
        };
        let asked = |exit| {
            said(
                "--help",
                Finished {
                    exit,
                    wait_status: 0,
                    stdout: captured("Usage: ca"),
                    stderr: captured("a last word"),
                    max_rss_kib: 0,
                    leftovers: 0,
                },
            )
        };
        assert_eq!(asked(Exit::Code(0)).unwrap(), "Usage: ca");
        for (exit, reason) in [
            (Exit::Code(1), Reason::WrongIdentity),
            (Exit::Signal(libc::SIGSEGV), Reason::WrongIdentity),
            (Exit::Signal(libc::SIGKILL), Reason::KilledFromOutside),
            (Exit::Signal(libc::SIGTERM), Reason::KilledFromOutside),
            (Exit::TimedOut { which: Clock::Wall }, Reason::TimedOut),
            (Exit::Limit { what: "RLIMIT_CPU" }, Reason::LimitHit),
        ] {
            assert_eq!(asked(exit).unwrap_err().reason(), reason, "{exit:?}");
        }
    }

    #[test]
    fn all_faults_are_told_with_one_command() {
        let fault = |what: &str, flag: &str| (wrong(what, "a", "b"), flag.to_owned());
        let tool: Name = "tool".parse().unwrap();
        assert!(together(&tool, Vec::new()).is_none());
        let all =
            together(&tool, vec![fault("x", "--help-line 'b'"), fault("y", "--version-text 'b'")]);
        let hints = all.unwrap().hints().join(" / ");
        assert!(hints.contains("also y: expected a, found b"), "{hints}");
        assert!(hints.contains("admit lock tool --help-line 'b' --version-text 'b'"), "{hints}");
        let empty = together(&tool, vec![fault("x", &locked_as("--help-line", ""))]).unwrap();
        assert!(empty.hints().iter().all(|hint| !hint.contains("admit lock")), "{empty:?}");
    }

    #[test]
    fn the_fix_locks_the_whole_of_what_was_seen() {
        let long = "it's ".repeat(100);
        let flag = locked_as("--help-line", &long);
        assert_eq!(flag.matches(r"it'\''s").count(), 100);
    }
}
