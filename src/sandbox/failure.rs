//! A step of building the sandbox that failed, with what is known of the cause.

use serde::{Deserialize, Serialize};

use super::sys::Failed;

pub type Result<T> = std::result::Result<T, Failure>;

/// A step that failed, in a form that crosses the socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
}

impl Failure {
    /// Names the step in which a system call failed.
    pub fn of(step: impl Into<String>) -> impl FnOnce(Failed) -> Failure {
        let step = step.into();
        move |failed| Failure {
            step,
            call: failed.call,
            errno: failed.errno,
            digest: None,
            cause: None,
        }
    }

    /// A failure that is not a system call's.
    pub fn plain(step: impl Into<String>, what: impl Into<String>) -> Failure {
        Failure { step: step.into(), call: what.into(), errno: 0, digest: None, cause: None }
    }
}
