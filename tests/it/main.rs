//! One integration binary: a module per command and per promise.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod agents;
mod ambient;
mod answer;
mod apis;
mod proxy;
#[cfg(feature = "oracles")]
mod bubblewrap;
mod build;
mod campaign;
mod circles;
mod classes;
mod command;
mod docs;
mod doctor;
mod faults;
mod fetch;
mod fetch_git;
mod fuzz;
mod guides;
mod health;
mod inspect;
mod install;
mod judge;
mod keep;
mod kill;
mod layering;
mod lock;
mod loopback;
mod model;
mod namespace;
mod package;
mod packs;
mod rebuild;
mod root;
mod run;
mod runs;
mod sandbox;
mod sandbox_host;
mod sbom;
mod schemas;
mod served;
mod shape;
mod stop;
mod stopped;
mod store;
mod survive;
mod trial;
mod sign;
mod tamper;
mod threats;
mod upstream;
mod util;
mod verify;
mod wire;
