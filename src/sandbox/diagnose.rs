//! What this machine allows, found out by trying.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::explain;
use super::init::CHILD_ARGUMENT;
use super::message::{FromBox, ToBox, receive, send};
use super::policy::Policy;
use super::spawn::{Launcher, start};
use crate::error::Error;

/// One thing that the sandbox needs or can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    /// Whether it is there. Only Landlock may be missing.
    pub ok: bool,
    /// What was found, in one line.
    pub found: String,
    /// The cause's one-line fix, where one is known.
    pub fix: Option<String>,
}

/// Tries each namespace by itself, Landlock, and then a whole sandbox with all its probes.
pub fn diagnose(launcher: &Launcher) -> Vec<Check> {
    let mut out = Vec::new();
    match try_each(launcher) {
        Ok(tried) => {
            for (name, failure) in tried {
                let cause = failure.as_ref().and_then(|f| f.cause.as_deref().cloned());
                out.push(Check {
                    name: format!("namespace {name}"),
                    ok: failure.is_none(),
                    found: match (&cause, &failure) {
                        (Some((cause, _)), _) => cause.clone(),
                        (None, Some(failure)) => explain::sentence(failure),
                        (None, None) => "can be made".into(),
                    },
                    fix: cause.map(|(_, fix)| fix),
                });
            }
        }
        Err(err) => out.push(Check {
            name: "sandbox child".into(),
            ok: false,
            found: format!("{}: {err}", launcher.exe.display()),
            fix: None,
        }),
    }
    let abi = super::payload::landlock_abi();
    out.push(Check {
        name: "landlock".into(),
        ok: abi > 0,
        found: if abi > 0 { format!("ABI {abi}") } else { "not in this kernel".into() },
        fix: (abi == 0).then(|| {
            "boot a kernel with CONFIG_SECURITY_LANDLOCK and `landlock` in the lsm= list; admit works without, with one wall less around files".into()
        }),
    });
    out.push(match start(launcher, &Policy::new("doctor")) {
        Ok(sandbox) => Check {
            name: "sandbox".into(),
            ok: true,
            found: format!(
                "all walls stand, {} probes, {} us",
                sandbox.facts().probes.len(),
                sandbox.facts().volatile.start_us
            ),
            fix: None,
        },
        Err(err) => failed(&err),
    });
    out
}

fn failed(err: &Error) -> Check {
    let mut found = err.to_string();
    if let Some(value) = err.found_value() {
        found = format!("{found}: {value}");
    }
    for cause in err.causes() {
        found = format!("{found}: {cause}");
    }
    Check { name: "sandbox".into(), ok: false, found, fix: err.hints().first().cloned() }
}

type Tried = Vec<(String, Option<super::message::Failure>)>;

fn try_each(launcher: &Launcher) -> std::io::Result<Tried> {
    let (control, theirs) = UnixStream::pair()?;
    control.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
    let mut child = std::process::Command::new(&launcher.exe)
        .arg(CHILD_ARGUMENT)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let answer = send(&control, &ToBox::Try, &[]).and_then(|()| receive::<FromBox>(&control));
    // It has answered, or will not.
    let _ = child.kill();
    child.wait()?;
    match answer? {
        Some((FromBox::Tried(tried), _)) => Ok(tried),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}
