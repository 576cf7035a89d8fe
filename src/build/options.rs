//! How to build, for every command that builds.

use std::path::PathBuf;
use std::time::Duration;

use crate::record::ids::AbsPath;

/// Longest time a step may take. Case's slowest takes 2 s; a hang is what this is for.
pub const STEP_WALL: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Build although the output is in the store.
    pub again: bool,
    /// Keep what a failed build leaves.
    pub keep_failed: bool,
    /// A directory on disk for the build's files; without one, memory is used where it suffices.
    pub scratch: Option<PathBuf>,
    /// Longest time a step may take; without one, [`STEP_WALL`].
    pub step_wall: Option<Duration>,
    /// The directory inside, where the lock leaves it open; without one, a name that no other build here has now.
    pub open_path: Option<AbsPath>,
    /// Seconds by which the clocks that count from the boot are ahead inside.
    pub clock_ahead: Option<u32>,
    /// Put an output into the store although it is not the locked one, to be looked at.
    pub any_output: bool,
}
