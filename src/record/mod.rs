//! Values on disk: no I/O, no clock, no environment. Everything here is parsed once at the edge and cannot hold a
//! value that later code would have to check again.

pub mod admission;
pub mod agent_result;
pub mod campaign;
pub mod credential;
pub mod decision;
pub mod evidence;
pub mod evidence_class;
pub mod failure;
pub mod finding;
pub mod fixture;
pub mod health;
pub mod digest;
pub mod dsse;
pub mod ids;
pub mod hostile;
pub mod lockfile;
pub mod network;
pub mod bunlock;
pub mod piplock;
pub mod cache;
mod canonical;
pub(crate) mod json;
pub mod purl;
pub mod reference;
pub mod report;
pub mod run_shape;
pub mod sealed;
pub mod signing;
pub mod sshkey;
pub mod statement;
pub mod task;
mod text;
pub mod wire;

pub use canonical::{
    MAX_VALUES, Record, RecordError, Schema, canonical, check_schema, digest, of_word, parse,
    parse_value, parse_within, pretty, to_value, word,
};
pub(crate) use text::words;
