//! The proxy: the one way from the sandbox to the admitted model.
//!
//! Async code lives in this module and in [`crate::download`] alone; their callers block and use threads.

mod answer;
pub mod endpoint;
mod exchange;
pub mod http1;
pub mod mock;
pub mod probe;
pub mod relay;
pub mod reply;
pub mod request;
pub mod server;
pub mod sse;
pub mod upstream;
