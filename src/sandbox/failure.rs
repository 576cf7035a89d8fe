//! A step of building the sandbox that failed, with what is known of the cause.

use serde::{Deserialize, Serialize};

use super::sys::Failed;
use crate::record::ids::Digest;
use crate::stop;

pub type Result<T> = std::result::Result<T, Failure>;

/// A step that failed, in a form that crosses the socket.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Failure {
    /// What was being done, for people.
    pub step: String,
    pub call: String,
    /// The errno, 0 where none applies.
    pub errno: i32,
    /// Set where a digest differed: expected and found.
    pub digest: Option<Box<(String, String)>>,
    /// The cause and its fix, as far as the place of the failure shows them.
    pub cause: Option<Box<(String, String)>>,
    /// The signal, not admit's, that ended a process which the step needed.
    #[serde(default)]
    pub killed: Option<i32>,
}

impl Failure {
    /// Names the step in which a system call failed.
    pub fn of(step: impl Into<String>) -> impl FnOnce(Failed) -> Failure {
        let step = step.into();
        move |failed| Failure { errno: failed.errno, ..Failure::plain(step, failed.call) }
    }

    pub fn plain(step: impl Into<String>, what: impl Into<String>) -> Failure {
        Failure { step: step.into(), call: what.into(), ..Failure::default() }
    }

    /// Bytes of another digest than those that were asked for.
    pub fn digest(step: impl Into<String>, what: &str, want: &Digest, found: &Digest) -> Failure {
        let digest = Some(Box::new((want.to_string(), found.to_string())));
        Failure { digest, ..Failure::plain(step, what) }
    }

    /// A process that ended before it had said anything, by its wait status.
    pub fn silent(step: impl Into<String>, what: &str, status: i32) -> Failure {
        let signal = Some(libc::WTERMSIG(status)).filter(|_| libc::WIFSIGNALED(status));
        let failure =
            Self::plain(step, format!("{what} ended with wait status {status} and no report"));
        Failure { killed: signal.filter(|signal| stop::ends_others(*signal)), ..failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    #[test]
    fn a_process_that_somebody_ended_says_nothing_of_this_machine() {
        for (status, reason) in [
            (libc::SIGKILL, Reason::KilledFromOutside),
            (libc::SIGTERM, Reason::KilledFromOutside),
            (libc::SIGSYS, Reason::SandboxUnavailable),
            (libc::SIGXCPU, Reason::SandboxUnavailable),
            (0x0100, Reason::SandboxUnavailable),
            (0, Reason::SandboxUnavailable),
        ] {
            let failure = Failure::silent("probe the walls", "the probing process", status);
            let crossed = serde_json::to_vec(&failure).unwrap();
            let failure: Failure = serde_json::from_slice(&crossed).unwrap();
            assert_eq!(super::super::explain::refusal(&failure).reason(), reason, "{status}");
        }
    }
}
