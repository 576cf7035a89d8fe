//! The proxy: the one way from the sandbox to the admitted model.
//!
//! Async code lives in this module and in [`crate::download`] alone; their callers block and use threads.

pub mod account;
mod answer;
pub mod api;
pub mod endpoint;
mod exchange;
pub mod http1;
pub mod mock;
mod names;
pub mod probe;
pub mod reader;
pub mod relay;
pub mod reply;
mod request;
pub mod server;
pub mod sse;
mod state;
pub mod survey;
pub mod upstream;

/// What runs the async code of one thread.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
