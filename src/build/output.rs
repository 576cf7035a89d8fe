//! What a build left: taken out of the room, hashed while it is copied, proven to be the pinned runtime with a module
//! graph, and asked who it is.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use cap_std::fs::{Dir, PermissionsExt};

use super::{left, room};
use crate::error::{Error, Reason, Result};
use crate::record::ids::{Algorithm, Digest, RelPath, Sha256};
use crate::record::lockfile::Identity;
use crate::record::report::IdentityProof;
use crate::sandbox::{self, Command, Exit, Finished, Launcher, Mount, Policy};
use crate::store::{Pending, Store};

/// Longest time that `--help` or `--version` may take; Case needs 0.4 s.
const IDENTITY_WALL: Duration = Duration::from_secs(20);

/// Largest output in bytes. Case has 105 MB; a file with holes would take on disk what it never took in the room.
const LARGEST: u64 = 2 << 30;

/// Copies the output beside the store, for whoever proves it. It will have the digest that it has, whatever the lock
/// says.
///
/// # Errors
/// [`Reason::OutputMissing`], [`Reason::OutputNotExecutable`] for anything but a regular executable file,
/// [`Reason::LimitHit`].
pub fn take(room: &Dir, below: &str, output: &RelPath, store: &Store) -> Result<Pending> {
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
    let (dir, name) = left::parent(room, &path).map_err(missing)?;
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

/// Runs the output with `--help` and `--version` in a room of its own, with no socket and nothing else in it, and
/// compares what it says with the lock.
///
/// # Errors
/// [`Reason::WrongIdentity`] with what was expected and found.
pub fn identity(
    launcher: &Launcher,
    binary: &Path,
    sha256: &Digest,
    want: &Identity,
) -> Result<IdentityProof> {
    let internal = |err| Error::new(Reason::Internal, "a path inside the sandbox").caused_by(err);
    let mut policy = Policy::new("identity");
    policy.mounts = room::c_library()?;
    policy.mounts.push(Mount::Verified {
        host: binary.to_path_buf(),
        inside: "/admit/out/program".parse().map_err(internal)?,
        sha256: sha256.clone(),
        blake3: None,
        mode: 0o555,
    });
    let tmp = "/tmp".parse().map_err(internal)?;
    policy.mounts.push(Mount::Tmpfs { inside: tmp, size: 256 << 20, inodes: 10_000, mode: 0o1777 });
    let mut room = sandbox::start(launcher, &policy)?;
    let mut ask = |argument: &str| -> Result<Finished> {
        let mut command =
            Command::new(["/admit/out/program", argument], "/tmp".parse().map_err(internal)?);
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
        room.run(&command)
    };
    let help = ask("--help")?;
    let text = answer("--help", &help)?;
    let first = text.lines().next().unwrap_or_default();
    if first != want.help_first_line {
        return Err(wrong("the first line of --help", &want.help_first_line, first));
    }
    let listed = |command: &str| {
        text.lines()
            .any(|line| line.starts_with(' ') && line.split_whitespace().next() == Some(command))
    };
    if let Some(missing) = want.commands.iter().find(|command| !listed(command)) {
        return Err(wrong("the commands in --help", missing, "not listed"));
    }
    let version = match &want.version {
        None => None,
        Some(want) => {
            let answered = ask("--version")?;
            let found = answer("--version", &answered)?.trim().to_owned();
            if found != *want {
                return Err(wrong("--version", want, &found));
            }
            Some(found)
        }
    };
    room.end();
    let digest = Digest::sha256(text.as_bytes());
    let help_sha256 = Sha256::from_digest(&digest)
        .ok_or_else(|| Error::new(Reason::Internal, "a SHA-256 that is none"))?;
    Ok(IdentityProof {
        help_first_line: first.to_owned(),
        commands: want.commands.clone(),
        version,
        help_sha256,
    })
}

fn answer(argument: &str, finished: &Finished) -> Result<String> {
    if finished.exit != Exit::Code(0) {
        let stderr = finished.stderr.text();
        return Err(
            wrong(argument, "exit code 0", &super::exit_text(&finished.exit)).caused_by(stderr)
        );
    }
    String::from_utf8(finished.stdout.kept.clone())
        .map_err(|_| wrong(argument, "UTF-8 text", "other bytes"))
}

fn wrong(what: &str, expected: &str, found: &str) -> Error {
    let found: String = found.chars().take(200).collect();
    Error::new(Reason::WrongIdentity, "wrong provider identity: the output is not the program that the lock names")
        .at(what.to_owned())
        .expected(expected.to_owned())
        .found(found)
        .hint("a program of the same name is not the provider; build it with admit build, or mend identity in the lock")
}
