//! `admit` builds an agent binary from a pin, proves what it built, and refuses to run anything else.
//!
//! One way through: `lock -> plan -> fetch -> build -> report -> verify -> gate -> run -> evidence`. The modules below
//! are listed in that order, after what all of them use ([`gate`] and [`evidence`] before [`verify`], which uses them), and
//! **a module uses only modules listed above it** (held by `tests/it/layering.rs`). `docs/architecture.md` says why things
//! are as they are.
//!
//! Files on disk:
//! - `lockfiles/<provider>.lock.json`: what to build, by digest ([`record::lockfile`]).
//! - `admissions/builds/<provider>--<sha256>.json`: recorded builds ([`record::report`]).
//! - `admissions/models/<provider>--<model>.json`: which models are admitted ([`record::admission`]).
//! - `admissions/attestations/<sha256>.intoto.jsonl`: what was signed about them ([`attest`]).
//! - `<data>/admit/keys/`: this user's keys, and public keys of others that this user trusts ([`attest::keys`]).
//! - `<data>/admit/store/`: every verified input and output, by digest.
//! - `<data>/admit/root/`: locks and records that this user added to those embedded in the binary.
//! - `<state>/admit/campaigns/`: plans, their runs and their counts ([`campaign`]).
//! - `<state>/admit/runs/`: one sealed directory a run ([`evidence`]).

#![deny(unsafe_code)]

pub mod error;
pub mod record;
pub mod explain;
pub mod secrets;
pub mod bun;
pub mod host;
pub(crate) mod stop;
pub mod root;
pub(crate) mod init;
pub mod store;
pub mod sandbox;
pub mod download;
pub mod registry;
pub mod git;
pub mod proxy;
pub mod lock;
pub mod fetch;
pub mod context;
pub mod build;
pub mod look;
pub mod attest;
pub(crate) mod sbom;
pub(crate) mod doctor;
pub mod check;
pub mod gate;
pub mod evidence;
pub mod verify;
pub mod model;
pub mod share;
pub(crate) mod gc;
pub mod run;
pub mod campaign;
pub mod sign;
pub(crate) mod health;
pub(crate) mod schemas;
pub(crate) mod ui;
pub mod cli;
