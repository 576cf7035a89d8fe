//! Downloads over HTTP: how the network is reached ([`config`]), the client ([`client`]), and where packages come from
//! ([`npmrc`]).

pub mod client;
pub mod config;
mod fault;
pub mod npmrc;
