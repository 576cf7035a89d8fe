//! Downloads over HTTP: how the network is reached ([`config`]), the client ([`client`]), and where packages come from
//! ([`npmrc`]).

pub mod client;
pub mod config;
pub mod exchange;
mod fault;
pub mod npmrc;
