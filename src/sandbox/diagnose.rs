//! Which namespaces this machine allows, found out by trying each by itself.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;

use super::explain::{killed, refusal};
use super::init::CHILD_ARGUMENT;
use super::message::{FromInit, ToInit, receive, send};
use super::spawn::Launcher;
use crate::error::{Error, Result};
use crate::stop;

/// Tries each namespace in a process of its own: its name in `/proc/<pid>/ns`, and why it cannot be made.
pub fn namespaces(launcher: &Launcher) -> Result<Vec<(&'static str, Option<Error>)>> {
    let tried = ask(launcher)?;
    let names = super::probes::NAMESPACES.into_iter();
    Ok(names.zip(tried).map(|(name, failure)| (name, failure.as_ref().map(refusal))).collect())
}

fn ask(launcher: &Launcher) -> Result<Vec<Option<super::failure::Failure>>> {
    let fail = |err| Error::io("start", &launcher.exe, err);
    let (control, theirs) = UnixStream::pair().map_err(fail)?;
    control.set_read_timeout(Some(std::time::Duration::from_secs(30))).map_err(fail)?;
    let mut child = std::process::Command::new(&launcher.exe)
        .arg(CHILD_ARGUMENT)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .map_err(fail)?;
    let answer = send(&control, &ToInit::Try, &[]).and_then(|()| receive::<FromInit>(&control));
    // Who went away has ended or is about to; who said something else, or nothing in time, will not answer.
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let gone = match &answer {
        Ok(said) => said.is_none(),
        Err(err) => matches!(err.kind(), BrokenPipe | ConnectionReset | UnexpectedEof),
    };
    if !gone {
        let _ = child.kill();
    }
    let ended = child.wait().map_err(fail)?;
    match answer {
        Ok(Some((FromInit::Tried(tried), _))) => Ok(tried),
        _ if gone && ended.signal().is_some_and(stop::ends_others) => {
            let signal = ended.signal().unwrap_or_default();
            Err(killed("the process that tries namespaces was ended", signal))
        }
        Ok(_) => Err(fail(UnexpectedEof.into())),
        Err(err) => Err(fail(err)),
    }
}
