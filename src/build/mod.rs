//! Build: from a lock to a proven output in the store, its report, and its place on record.
//!
//! - [`mod@make`]: `build`, `adopt`. [`rounds`]: builds that are compared with earlier ones; [`mod@rebuild`]: what is around
//!   them changed on purpose, and which change the output follows.
//! - [`sandboxed`]: one build; [`kind`]: what of it depends on the kind of provider.
//! - [`work`], [`space`]: the work directory, and where its bytes are. [`source`]: the source in it, before and after.
//!   [`step`]: the commands in it. [`left`]: looking at what they left. [`keep`]: what is kept of a failed build.
//! - [`known`]: executables looked at, and held against plain Buns.
//! - [`published`]: what somebody else built. [`output`]: the file that comes out and its proofs. [`report`]: the record of a build. [`recorded`]: whether it is
//!   the one that a lock asks for. [`stored`]: builds in the store.

mod abbreviation;
mod keep;
pub mod kind;
mod known;
mod left;
mod make;
mod options;
pub mod output;
mod programs;
mod project;
mod published;
pub mod rebuild;
mod recorded;
mod report;
mod rounds;
mod sandboxed;
pub mod source;
mod space;
mod step;
mod stored;
pub mod work;

pub use known::{explain, inspect};
pub use make::{Build, adopt, make, make_or, resolved};
pub use options::{Options, STEP_WALL};
pub use published::{Wanted as WantedPackage, propose};
pub use recorded::{asked, difference, record};
pub use rounds::{Again, ROUND, Rebuild, Wanted, again, rebuild, round};
pub(crate) use step::exit_text;
pub use stored::{BUILDER, Stored};
