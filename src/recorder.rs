//! What a run tells about itself while it goes on: the trait that [`crate::evidence`] implements.
//!
//! All methods take `&self`, since the bridge, the supervisor and the sequence of the run record at the same time.

use serde_json::Value;

use crate::error::Result;
use crate::record::ids::RelPath;
use crate::record::sealed::Author;

/// Takes down what happens. After a failed call the run has no whole evidence and must end as failed.
pub trait Recorder: Sync {
    /// One event of the chain. `by` is [`Author::Admit`] for what admit did or saw itself.
    fn event(&self, kind: &str, by: Author, data: Value) -> Result<()>;

    /// A whole file, written at once; a path is written once only.
    fn artifact(&self, path: &RelPath, role: &str, by: Author, bytes: &[u8]) -> Result<()>;

    /// More bytes of a growing file (a log, a reply as it streams in). Gives the offset at which they begin, or `None`
    /// where the file has reached its limit and they were counted but not kept.
    fn append(&self, path: &RelPath, role: &str, by: Author, bytes: &[u8]) -> Result<Option<u64>>;

    /// A line for whoever looks for a fault in admit.
    fn trace(&self, what: &str, data: Value) -> Result<()>;

    /// Nanoseconds since the recording began.
    fn elapsed_ns(&self) -> u64;
}
