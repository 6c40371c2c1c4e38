//! HTTP servers on Pingora's listeners, TLS and sessions: bytes in, bytes out.
//!
//! Pingora is used below its `Server`: `Server::run` always sleeps through its whole grace period, does not report the
//! port that it bound, and retries a taken address for half a minute (`docs/decisions/0002-terminate-and-reissue.md`).

mod accept;
mod app;
mod chunked;
mod client;
mod clock;
pub mod connections;
mod delegate;
mod eviction;
mod frame_meter;
pub mod handler;
mod http1;
mod http2;
pub mod lifecycle;
mod listener;
pub mod options;
pub mod pipe;
mod proxy_protocol;
mod request;
mod session;
mod shutdown;
pub mod sockets;
pub mod tls;
mod tls_memory;
pub mod trusted_proxies;
