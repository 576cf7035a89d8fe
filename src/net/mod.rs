//! The network: how it is reached ([`config`]), downloads ([`client`]), where packages come from ([`npmrc`]), and the
//! door to the model.
//!
//! Async code lives in this module alone; its callers block and use threads.

mod answer;
pub mod bridge;
pub mod client;
pub mod config;
pub mod endpoint;
mod fault;
mod exchange;
pub mod http1;
pub mod npmrc;
pub mod probe;
pub mod relay;
pub mod reply;
pub mod request;
pub mod sse;
pub mod stand_in;
pub mod upstream;
