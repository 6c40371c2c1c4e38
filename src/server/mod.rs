//! HTTP servers on Pingora's listeners, TLS and sessions: bytes in, bytes out.
//!
//! Pingora is used below its `Server`: `Server::run` always sleeps through its whole grace period, does not report the
//! port it bound, and retries a taken address for half a minute (`docs/decisions/0002-terminate-and-reissue.md`).

mod h2;
pub mod handler;
mod http1;
pub mod listener;
pub mod request;
mod session;
