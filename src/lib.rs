//! `admit` builds an agent binary from a pin, proves what it built, and refuses to run anything else.
//!
//! One way through: `lock -> plan -> fetch -> build -> report -> verify -> gate -> run -> evidence`. The modules below
//! are listed in that order, after what all of them use, and **a module uses only modules listed above it** (held by
//! `tests/it/layering.rs`). `docs/architecture.md` says why things are as they are.
//!
//! Files on disk:
//! - `lockfiles/<provider>.lock.json`: what to build, by digest ([`record::lockfile`]).
//! - `admissions/builds/<provider>--<sha256>.json`: recorded builds ([`record::report`]).
//! - `admissions/attestations/<sha256>.intoto.jsonl`: what was signed about them ([`attest`]).
//! - `<data>/admit/keys/`: this user's keys, and public keys of others that this user trusts ([`attest::keys`]).
//! - `<data>/admit/store/`: every verified input and output, by digest.
//! - `<data>/admit/root/`: locks and records that this user added to those embedded in the binary.

#![deny(unsafe_code)]

pub mod error;
pub mod record;
pub mod secrets;
pub mod bun;
pub mod host;
pub mod root;
pub mod store;
pub mod sandbox;
pub mod download;
pub mod git;
pub mod proxy;
pub mod lock;
pub mod fetch;
pub mod context;
pub mod build;
pub mod report;
pub mod attest;
pub mod sbom;
pub mod doctor;
pub mod verify;
pub mod gate;
pub mod recorder;
pub mod evidence;
pub mod run;
pub mod health;
pub mod schemas;
pub mod ui;
pub mod cli;
