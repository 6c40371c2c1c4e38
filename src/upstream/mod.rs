//! The HTTP client, on Pingora's connectors: [`client`] sends native calls over pooled connections; `capgate storm`
//! uses [`http`] without a pool.

pub mod client;
mod decompress;
pub mod http;
pub mod options;
mod resolver;
