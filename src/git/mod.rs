//! Git: objects read strictly, and the smart protocol as far as one commit needs it.

pub mod bounded;
pub mod object;
mod pktline;
pub mod smart;
