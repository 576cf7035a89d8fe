//! Git: objects read strictly and within bounds, objects written, and the smart protocol as far as one commit needs it.

pub mod confined;
pub mod dir;
pub mod id;
pub mod object;
pub mod pack;
mod pktline;
pub mod smart;
pub mod write;
