//! Everything that touches Pingora, sockets or the operating system.
//!
//! Pingora's server framework is used below its `Server`: its listeners, TLS, HTTP sessions and connectors run on a
//! runtime that [`serve`] owns, because `Server::run` always sleeps out its grace period, cannot say which port it got,
//! and retries a taken address for half a minute (`docs/decisions/0002-terminate-and-reissue.md`).

mod access;
pub mod admin;
pub mod app;
mod h2;
mod http1;
pub mod legacy_app;
pub mod listener;
pub mod log;
pub mod request;
pub mod resolve;
pub mod sandbox_app;
pub mod serve;
mod session;
pub mod storm;
pub mod upstream;
