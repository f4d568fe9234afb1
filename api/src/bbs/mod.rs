//! The edge of Diego's clients: the BBS in protobuf over HTTP and mutual TLS.
//!
//! It speaks Diego's protocol exactly where a client can tell, and decides nothing: every call is a
//! command of ours or a look at our views. Where Diego lets an agent take what nobody gave it, this
//! edge refuses: only our auctioneer gives work.
//!
//! - `listener`, `tls`: who may connect; `paths`: what is answered
//! - `proto`: the messages; `wire`: what they may cost; `convert`: ours from theirs and back
//! - `domains`, `cells`, `desired_lrps`, `actual_lrps`, `tasks`: the calls
//! - `hub`, `events`: what changes, as streams
//! - `error`, `invalid`: refusals in Diego's words

#![expect(deprecated, reason = "older clients say, and are told, what newer ones do not")]

mod actual_lrps;
mod call;
mod cells;
pub(crate) mod certificates;
mod convert;
mod desired_lrps;
mod domains;
mod error;
mod events;
mod hub;
mod invalid;
mod listener;
mod options;
mod paths;
pub mod proto;
mod tasks;
mod tls;
mod wire;

#[cfg(test)]
mod tests;

pub use call::Bbs;
pub use listener::{Listener, serve_where_asked};
pub use options::Options;
