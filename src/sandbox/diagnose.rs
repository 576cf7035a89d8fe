//! Which namespaces this machine allows, found out by trying each by itself.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::explain::refusal;
use super::init::CHILD_ARGUMENT;
use super::message::{FromInit, ToInit, receive, send};
use super::spawn::Launcher;
use crate::error::{Error, Result};

/// Tries each namespace in a process of its own: its name in `/proc/<pid>/ns`, and why it cannot be made.
///
/// # Errors
/// Those of starting the process that tries them.
pub fn namespaces(launcher: &Launcher) -> Result<Vec<(&'static str, Option<Error>)>> {
    let tried = ask(launcher).map_err(|e| Error::io("start", &launcher.exe, e))?;
    let names = super::probes::NAMESPACES.into_iter();
    Ok(names.zip(tried).map(|(name, failure)| (name, failure.as_ref().map(refusal))).collect())
}

fn ask(launcher: &Launcher) -> std::io::Result<Vec<Option<super::failure::Failure>>> {
    let (control, theirs) = UnixStream::pair()?;
    control.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
    let mut child = std::process::Command::new(&launcher.exe)
        .arg(CHILD_ARGUMENT)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let answer = send(&control, &ToInit::Try, &[]).and_then(|()| receive::<FromInit>(&control));
    // It has answered, or will not.
    let _ = child.kill();
    child.wait()?;
    match answer? {
        Some((FromInit::Tried(tried), _)) => Ok(tried),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}
